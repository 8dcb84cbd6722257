"""What the spectra cannot tell of a joint fit's labels, an affine map that is the same for all stars, from outside.

Of the labels theta of a fit whose sample mean was pinned (`inference.joint_fit`) the true ones are

    theta'_ik = theta_ik + b_k + sum_j A_kj (theta_ij - mean_j) U_k / U_j,      j over Teff, log g and [M/H]

with offsets b and slopes A shrunk to the identity by normal priors (MAP), so that six anchors do no harm. v sin i has
an offset and a slope of its own. For each parameter k these are the coefficients c of a linear regression with design
x_i = (1, (theta_i - mean) U_k / U), prior covariance P, and observations

    an anchor a        y_a - theta_ak = x_a . c + error,     variance own_ak^2 + e_a^2, and covariance s^2 of any two,
                                                             where all anchors of a parameter share an error s
    a mean             m - mean_k = b_k + error,             variance e_m^2

so that with X, V and y of all of them

    C = (P^-1 + X^T V^-1 X)^-1,    c = C X^T V^-1 y,    shared variance of a star = x_i^T C x_i

and the interval of a star is its own part, from its spectrum, and the shared part in quadrature. With no observation c
is zero and the shared part is that of the prior: how far zero points and slopes of such a fit are off.
"""
from dataclasses import dataclass, replace

import numpy as np

import paper

UNITS = {"teff": 300.0, "logg": 0.1, "mh": 0.2}  # U: spreads of a sample of M dwarfs
LABELS = tuple(UNITS)


@dataclass(frozen=True)
class Map:
    """Prior widths of the map of one parameter, in its own unit: offset, and each slope times the unit.

    Offsets are how far an assumed mean may be off. Slopes are for any table of estimates.
    """

    offset: float
    slopes: tuple
    known: bool = True  # whether the offset is how far an assumed mean may be off; else it is found, as slopes are

    def times(self, wider):
        """The same with what is found so many times wider."""
        return replace(self, offset=self.offset * (1.0 if self.known else wider),
                       slopes=tuple(wider * slope for slope in self.slopes))


# By how much slopes are smaller, of a joint fit whose corrected models fit to the noise: so that 68 % of the intervals
# hold behind gap seeds 0 to 2 of the simulation's first family, with 14 + 6 anchors
OF_A_JOINT_FIT = 0.5
MAPS = {
    "teff": Map(150.0, (20.0, 20.0, 25.0)),
    "logg": Map(0.10, (0.03, 0.03, 0.015)),
    "mh": Map(0.15, (0.05, 0.08, 0.03)),
    "vsini": Map(0.2, (0.03,), known=False),
}


@dataclass(frozen=True)
class Observation:
    """What is known from outside of one parameter.

    Parameters
    ----------
    rows : ndarray of int, shape (n_anchors,)
        The stars that are anchors.
    values, errors : ndarray of shape (n_anchors,)
    shared : float
        Error that all anchors have in common.
    mean : tuple of float, optional
        Mean of the whole sample, and its error.
    """

    rows: np.ndarray = ()
    values: np.ndarray = ()
    errors: np.ndarray = ()
    shared: float = 0.0
    mean: tuple = None


@dataclass(frozen=True)
class Gauge:
    """The map of one parameter: coefficients and their covariance, as of this module's docstring.

    `about` has the mean labels of the sample that slopes are about: Teff, log g and [M/H], or v sin i alone.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    about: np.ndarray


def design(par, labels, centre=None):
    """x_i of the stars, (n_stars, 4), or (n_stars, 2) of v sin i, about their own mean or that of another sample."""
    away = labels[:, _columns(par)]
    away = away - (away.mean(axis=0) if centre is None else centre)
    return np.c_[np.ones(len(labels)), away / (1.0 if par == "vsini" else np.array(list(UNITS.values())))]


def _columns(par):
    return [3] if par == "vsini" else [0, 1, 2]


def solve(par, labels, own, known, prior=None, centre=None):
    """The map of one parameter.

    Parameters
    ----------
    par : {"teff", "logg", "mh", "vsini"}
    labels : ndarray of shape (n_stars, 4)
    own : ndarray of shape (n_stars,)
        Each star's own uncertainty of this parameter.
    known : Observation
    prior : Map, optional
    centre : ndarray of shape (4,), optional
        Mean labels of the sample, where `labels` are those of its anchors alone.

    Returns
    -------
    Gauge
    """
    centre = labels.mean(axis=0) if centre is None else centre
    x, column = design(par, labels, centre[_columns(par)]), list(paper.PARAMETERS).index(par)
    prior = prior or MAPS[par]
    inverse = np.diag(np.r_[prior.offset, prior.slopes] ** -2.0)
    rows = np.asarray(known.rows, int)
    matrix, y = x[rows], np.asarray(known.values, float) - labels[rows, column]
    variance = np.diag(np.asarray(known.errors, float) ** 2 + own[rows] ** 2) + known.shared**2
    if known.mean is not None:
        value, error = known.mean
        matrix = np.r_[matrix, [np.r_[1.0, np.zeros(x.shape[1] - 1)]]]
        y = np.r_[y, value - centre[column]]
        variance = np.pad(variance, (0, 1))
        variance[-1, -1] = error**2
    if not len(y):
        return Gauge(np.zeros(x.shape[1]), np.linalg.inv(inverse), centre[_columns(par)])
    weight = np.linalg.solve(variance, matrix)
    covariance = np.linalg.inv(inverse + matrix.T @ weight)
    return Gauge(covariance @ (weight.T @ y), covariance, centre[_columns(par)])


def apply(par, labels, gauge):
    """Values of a parameter after the map, and the part of their uncertainty that all stars share: two (n_stars,).

    The stars need not be those that the map was found with.
    """
    x = design(par, labels, gauge.about)
    value = labels[:, list(paper.PARAMETERS).index(par)] + x @ gauge.coefficients
    return value, np.sqrt(np.einsum("ij,jk,ik->i", x, gauge.covariance, x))
