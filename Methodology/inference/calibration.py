"""How far estimates lie from independent values: offset and extra scatter by maximum likelihood, and coverage.

An estimate y with its uncertainties e_ below and E_ above says of the true value that it follows a two-piece normal
distribution: two halves of normal distributions of widths e_ and E_, put together at the mode y, so that the interval
from y - e_ to y + E_ holds 68 %. A calibration moves it by an offset b, the same for all stars or linear in Teff, and
adds in quadrature to both widths a scatter, the same for all stars, and the uncertainty of the independent value x:
where x lies above y + b, to E_ that of x below it, and the other way round. The likelihood of a measured x is the
density of this distribution, of an upper limit the probability between 0 and it, as nothing here is negative.

`stars` is a DataFrame: `karmn`; `teff`, the estimate [K]; `ours`, `ours_low`, `ours_high`, an estimate and its
uncertainties; `lit`, `lit_low`, `lit_high`, the independent value's, NaN where it gives none; `limit`, whether `lit` is
an upper limit.
"""
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq, minimize
from scipy.special import ndtr
from scipy.stats import binomtest, chi2

from workflow.files import BadInput

LEVELS = {"68": (0.6827, 1.0), "95": (0.95, 1.96)}  # probability of an interval, and its half width in sigma
TEFF_STEP = 100  # [K] of the slope's unit
DROP = 0.5, 1.353  # of ln L: at either end of a 68 % interval; at a one-sided 95 % limit (Self & Liang 1987)
NONE = 1e-5  # scatter, in units of the spread of the differences, that counts as none


@dataclass(frozen=True)
class Fit:
    """A calibration: what is added to estimates and their uncertainties, in the parameter's own unit."""

    coefficients: np.ndarray  # (1,) or (2,): independent value minus estimate, its change with every TEFF_STEP
    covariance: np.ndarray  # of these, the inverse of the observed Fisher information, scatter included
    scatter: float  # 0 where the likelihood only falls with it
    pivot: float  # [K] where the change begins; 0 if the offset is the same for all
    shared: float = 0.0  # part of the scatter that all stars behind one gap have in common
    n_gaps: int = 1  # it was fitted on

    def offset(self, teff):
        """Offset of stars of these estimated Teff [K]."""
        return _design(teff, self.pivot, len(self.coefficients)) @ self.coefficients

    def extra(self, teff):
        """What is added to their uncertainties in quadrature: scatter, and how well the offset itself is known."""
        design = _design(teff, self.pivot, len(self.coefficients))
        return np.sqrt(self.scatter**2 + np.einsum("ij,jk,ik->i", design, self.covariance, design))


def _design(teff, pivot, n):
    """Columns that the coefficients multiply, (n_stars, n)."""
    distance = (np.asarray(teff, float) - pivot) / TEFF_STEP
    return np.stack([np.ones_like(distance), distance][:n], axis=1)


# ---------------------------------------------------------------- likelihood
def _widths(stars, extra):
    """Widths below and above the mode, with those of the independent value; an unknown one of these counts as 0."""
    return (np.sqrt(stars["ours_low"] ** 2 + extra**2 + np.nan_to_num(stars["lit_high"]) ** 2),
            np.sqrt(stars["ours_high"] ** 2 + extra**2 + np.nan_to_num(stars["lit_low"]) ** 2))


def _below(distance, low, high):
    """Cumulative two-piece normal distribution, `distance` from its mode."""
    left = 2 * low * ndtr(np.minimum(distance, 0) / low)
    right = high * (2 * ndtr(np.maximum(distance, 0) / high) - 1)
    return (left + right) / (low + high)


def log_likelihood(stars, offset, scatter):
    """Logarithm of the likelihood of an offset and an extra scatter, numbers or (n_stars,): one value a star."""
    low, high = _widths(stars, scatter)
    centre = stars["ours"] + offset
    distance = stars["lit"] - centre
    measured = np.log(np.sqrt(2 / np.pi) / (low + high)) - 0.5 * (distance / np.where(distance < 0, low, high)) ** 2
    within = _below(distance, low, high) - _below(-centre, low, high)
    return np.where(stars["limit"], np.log(np.maximum(within, np.finfo(float).tiny)), measured)


def _require(stars, n):
    measured = int((~stars["limit"]).sum())
    if measured < n:
        raise BadInput(f"{measured} stars have an independent value that is no limit, {n} are needed: use another "
                       "reference, or more stars")


def fit(stars, linear=False, near=None):
    """The Fit of largest likelihood, its offset perhaps linear in Teff; `near`, of almost these stars, saves time."""
    _require(stars, 3 if linear else 2)
    problem = _Problem(stars, linear)
    unit, n = problem.unit, 1 + linear
    start = [*near.coefficients / unit, near.scatter / unit or 0.1] if near else [problem.mean, *[0] * linear, 1]
    best = minimize(problem.minus, start, method="BFGS").x
    information = problem.information(best)
    if not np.all(np.linalg.eigvalsh(information) > 0):
        raise BadInput("the stars do not tell offset and scatter: use another reference, or no --linear")
    scatter = float(abs(best[-1]) * unit) if abs(best[-1]) > NONE else 0.0
    return Fit(best[:n] * unit, np.linalg.inv(information)[:n, :n] * unit**2, scatter, problem.pivot)


def joined(fits):
    """One Fit from those of several gaps, whose stars share an error: what to expect behind another gap of their kind.

    The offset is the mean of theirs; the scatter is that of stars behind one gap and, in quadrature, how far the gaps'
    offsets lie apart beyond their own errors.
    """
    if len(fits) < 2 or any(len(one.coefficients) > 1 for one in fits):
        raise BadInput("several gaps are calibrated on together by one offset each: leave --linear out")
    offsets, errors = np.array([[one.coefficients[0], one.covariance[0, 0]] for one in fits]).T
    own, shared = np.mean([one.scatter**2 for one in fits]), max(offsets.var(ddof=1) - errors.mean(), 0.0)
    covariance = (shared + errors.mean()) / len(fits)
    return Fit(np.array([offsets.mean()]), np.array([[covariance]]), float(np.sqrt(own + shared)), 0.0,
               float(np.sqrt(shared)), len(fits))


def scatter_interval(stars, fitted):
    """Ends of the 68 % interval of a fit's extra scatter, by profile likelihood; of none, 0 and the 95 % limit.

    Of several gaps it is that of a variance of as many normal numbers: there may be thousands of stars, but few gaps.
    """
    if fitted.n_gaps > 1:
        freedom = fitted.n_gaps - 1
        factors = np.sqrt(freedom / chi2.ppf((1 + np.array([1, -1]) * LEVELS["68"][0]) / 2, freedom))
        own = np.sqrt(max(fitted.scatter**2 - fitted.shared**2, 0.0))
        return tuple(np.hypot(own, factors * fitted.shared).tolist())
    problem = _Problem(stars, len(fitted.coefficients) == 2)
    coefficients, scatter = fitted.coefficients / problem.unit, fitted.scatter / problem.unit
    least = problem.minus(np.r_[coefficients, scatter])

    def above(value, drop):
        profile = minimize(lambda free: problem.minus(np.r_[free, value]), coefficients, method="BFGS")
        return profile.fun - least - drop

    drop, far = DROP[0] if scatter else DROP[1], scatter + 1
    while above(far, drop) < 0:
        far *= 2
    high = brentq(above, scatter, far, args=(drop,), xtol=1e-4)
    low = brentq(above, 0, scatter, args=(drop,), xtol=1e-4) if scatter and above(0, drop) > 0 else 0.0
    return float(low * problem.unit), float(high * problem.unit)


class _Problem:
    """The likelihood as a function of the coefficients and, last, the scatter, all in units of the differences' spread.

    It depends on the square of the scatter alone, which may therefore become negative on the way: 0 is no edge.
    """

    def __init__(self, stars, linear):
        columns = ("teff", "ours", "ours_low", "ours_high", "lit", "lit_low", "lit_high", "limit")
        self.stars = {name: stars[name].to_numpy(float) for name in columns}
        self.pivot = float(self.stars["teff"].mean()) if linear else 0.0
        self.design = _design(self.stars["teff"], self.pivot, 2 if linear else 1)
        difference = self.stars["lit"] - self.stars["ours"]
        self.unit = float(max(difference.std(), *(self.stars[part].mean() for part in ("ours_low", "ours_high"))))
        self.mean = difference.mean() / self.unit

    def minus(self, theta):
        """Minus the logarithm of the likelihood."""
        scatter = np.hypot(theta[-1], NONE) * self.unit  # never a width of 0
        return -log_likelihood(self.stars, self.design @ theta[:-1] * self.unit, scatter).sum()

    def information(self, theta, step=1e-2):
        """Second derivatives of `minus`, the observed Fisher information, by differences."""
        steps = step * np.eye(len(theta))
        return np.array([[self.minus(theta + a + b) - self.minus(theta + a - b) - self.minus(theta - a + b)
                          + self.minus(theta - a - b) for b in steps] for a in steps]) / (4 * step**2)


# ---------------------------------------------------------------- coverage
def inside(stars, fitted=None):
    """`karmn`, `limit` and, for each of LEVELS, whether the independent value lies in the interval of the estimate.

    Its uncertainty counts too. Of an upper limit it is whether the interval reaches below, which is no coverage.
    """
    offset, extra = (fitted.offset(stars["teff"]), fitted.extra(stars["teff"])) if fitted else (0.0, 0.0)
    (low, high), distance = _widths(stars, extra), stars["lit"] - stars["ours"] - offset
    return stars[["karmn", "limit"]].assign(**{
        level: (distance >= -width * low) & ((distance <= width * high) | stars["limit"])
        for level, (_, width) in LEVELS.items()})


def leave_one_out(stars, linear=False):
    """As `inside`, each star by a calibration that was fitted without it; upper limits are left out."""
    _require(stars, 4 if linear else 3)
    whole, measured = fit(stars, linear), np.flatnonzero(~stars["limit"])
    return pd.concat([inside(stars.iloc[[k]], fit(stars.drop(index=stars.index[k]), linear, whole)) for k in measured])


def share(held):
    """Share of those that are held, and the ends of its 68 % interval (Wilson 1927), three floats."""
    test = binomtest(int(np.sum(held)), len(held))
    interval = test.proportion_ci(LEVELS["68"][0], method="wilson")
    return test.statistic, interval.low, interval.high


def conformal(stars, tested):
    """As `inside`, by split conformal prediction: intervals of `tested` from the differences of `stars`, lit - ours.

    The interval of an estimate runs from the k-th smallest to the k-th largest of the n differences, where k is the
    largest number for which the probability of the level is at most (n + 1 - 2 k) / (n + 1); with too few stars it is
    infinite. Neither a distribution nor the estimate's own uncertainty plays a part (Lei et al. 2018, JASA 113, 1094).
    """
    difference, held = np.sort(stars["lit"] - stars["ours"]), {}
    for level, (probability, _) in LEVELS.items():
        k = int((len(difference) + 1) * (1 - probability) / 2)
        low, high = (difference[k - 1], difference[-k]) if k else (-np.inf, np.inf)
        held[level] = (tested["lit"] - tested["ours"]).between(low, high)
    return tested[["karmn", "limit"]].assign(**held)
