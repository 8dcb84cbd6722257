"""The synthetic spectra as a smooth function of their labels, and what rotation and velocity do to it.

A pixel of a synthetic spectrum has the optical depth tau = -ln flux. At the slowest rotation of the set, v0, it is a
polynomial of 5040 K / Teff, log g and [M/H],

    tau_p(theta) = sum_j F_j(theta) C_jp,

fitted to the slow spectra by least squares. A star that rotates with v and moves with rv has the spectrum

    f = R[exp(-tau)],   in Fourier space   R(s) = g(v s) / g(v0 s) exp(-2 pi i s lambda rv / c),

where g is the transform of the rotational profile with linear limb darkening (Gray 2008, Eq. 18.14): with
u = 2 pi s lambda v / c, the Bessel function J1 and the spherical one j1,

    g(u) = 2 [(1 - eps) J1(u) + eps j1(u)] / u / (1 - eps / 3),

which is exact between the grid's values of v sin i, and so is its derivative, as (J1/u)' = -J2/u, (j1/u)' = -j2/u. The
instrument is in the synthetic spectra already.
"""
import functools
import itertools
from dataclasses import dataclass

import numpy as np
from scipy import fft, special

from spectra.transforms import LIGHT, LIMB_DARKENING

ORDER = 4  # of the polynomial: rms error in flux 0.0015 on the full set, with 3 twice that
COOLEST = 2650.0  # [K]: a quartic cannot follow the molecules below, and the sample has no such star
SLOW = 2.0  # rows up to so many times v0 are used; between, the broadening is linear in v^2
DEEPEST = 0.02  # flux below counts as this
RIDGE = 1e-3
FADED = 0.2  # where g(v0) is smaller, nothing is left to be sharpened


@dataclass(frozen=True, eq=False)
class Emulator:
    """Optical depth at v0 as a polynomial of the labels.

    Parameters
    ----------
    centre, scale : ndarray of shape (3,)
        Of the coordinates: 5040 K / Teff, log g, [M/H].
    coefficients : ndarray of shape (n_terms, n_pixels)
    error : ndarray of shape (n_pixels,)
        Root mean square error in flux, of each spectrum by a fit without it.
    v0 : float
        [km/s]
    nodes : ndarray of shape (n_nodes, 3)
        Teff [K], log g, [M/H] of the spectra that it was fitted to.
    step, middle : float
        Width of a pixel and wavelength of the window's middle [Angstrom].
    """

    centre: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    error: np.ndarray
    v0: float
    nodes: np.ndarray
    step: float
    middle: float

    @classmethod
    def fit(cls, flux_ph, labels_ph, step, middle):
        """Fit the slow rows of flux_ph (n_spectra, n_pixels) with labels_ph (n_spectra, 4)."""
        v0 = labels_ph[:, 3].min()
        slow = slow_rows(labels_ph)
        flux, labels = np.asarray(flux_ph[slow], float), np.asarray(labels_ph[slow], float)
        x = _inverse_teff(labels)
        centre, scale = (x.max(axis=0) + x.min(axis=0)) / 2, np.maximum(np.ptp(x, axis=0) / 2, 1e-3)
        x = (x - centre) / scale
        faster = (labels[:, 3:] ** 2 - v0**2) / v0**2
        design = np.c_[_monomials(x)[0], faster, faster * x]
        hat = np.linalg.solve(design.T @ design + RIDGE * np.eye(design.shape[1]), design.T)
        solution = hat @ -np.log(np.maximum(flux, DEEPEST))
        leverage = np.einsum("ij,ji->i", design, hat)
        residual = (np.exp(-design @ solution) - flux) / np.maximum(1 - leverage, 0.05)[:, None]
        n_terms = design.shape[1] - 4
        return cls(centre, scale, solution[:n_terms], np.sqrt((residual**2).mean(axis=0)), float(v0),
                   np.unique(labels[:, :3].round(3), axis=0), step, middle)

    def features(self, labels):
        """F and its derivatives with respect to Teff [K], log g and [M/H]: (n, n_terms), (3, n, n_terms)."""
        terms, slopes = _monomials((_inverse_teff(labels) - self.centre) / self.scale)
        chain = np.stack([-5040 / labels[:, 0] ** 2, np.ones(len(labels)), np.ones(len(labels))]) / self.scale[:, None]
        return terms, slopes * chain[:, :, None]

    def depths(self, labels):
        """tau of shape (n, n_pixels)."""
        return self.features(labels)[0] @ self.coefficients

    def wave(self, n_pixels):
        """Wavelength of each pixel [Angstrom], (n_pixels,)."""
        return self.middle + self.step * (np.arange(n_pixels) - (n_pixels - 1) / 2)

    def slope(self, values):
        """Derivative with respect to wavelength [1/Angstrom], along the last axis."""
        return np.gradient(values, self.step, axis=-1)

    @functools.lru_cache(maxsize=2)  # noqa: B019 -- of the few emulators of a process
    def responses(self, number, low, high):
        """The leading response functions of the set: tau_p ~ sum_k A_pk phi_k, phi = F V.

        They are the first right singular vectors of tau over the nodes with Teff from `low` to `high` [K]; A has the
        mean square 1 over pixels.

        Returns
        -------
        A : ndarray of shape (n_pixels, number)
        V : ndarray of shape (n_terms, number)
        """
        nodes = self.nodes[(self.nodes[:, 0] >= low) & (self.nodes[:, 0] <= high)]
        right = np.linalg.svd(self.depths(nodes if len(nodes) > number else self.nodes), full_matrices=False)[2]
        right, size = right[:number].T, np.sqrt(self.coefficients.shape[1])
        return right * size, self.coefficients @ right / size


def slow_rows(labels_ph):
    """Rows of the synthetic set that the emulator is fitted to."""
    slow = labels_ph[:, 3] <= SLOW * labels_ph[:, 3].min()
    warm = slow & (labels_ph[:, 0] > COOLEST)
    return np.flatnonzero(warm if warm.any() else slow)


def _inverse_teff(labels):
    return np.stack([5040 / labels[:, 0], labels[:, 1], labels[:, 2]], axis=-1)


def _monomials(x):
    """All monomials of x (n, 3) up to ORDER, (n, n_terms), and their derivatives, (3, n, n_terms)."""
    exponents = np.array([e for e in itertools.product(range(ORDER + 1), repeat=3) if sum(e) <= ORDER])
    powers = np.stack([x**n for n in range(ORDER + 1)])
    falling = np.stack([n * x ** max(n - 1, 0) for n in range(ORDER + 1)])
    plain = [powers[exponents[:, k], :, k] for k in range(3)]
    derived = [falling[exponents[:, k], :, k] for k in range(3)]
    slopes = [np.prod([derived[j] if j == k else plain[j] for j in range(3)], axis=0).T for k in range(3)]
    return np.prod(plain, axis=0).T, np.stack(slopes)


class Motion:
    """Rotation and velocity of some stars: R of this module's first lines, its adjoint and its derivatives.

    Spectra are continued beyond their ends by their outermost pixels.

    Parameters
    ----------
    emulator : Emulator
    n_pixels : int
    vsini, rv : ndarray of shape (n_stars,)
        [km/s]
    longest : float
        [km/s] of the broadest profile, which sets the room beyond the ends.
    """

    def __init__(self, emulator, n_pixels, vsini, rv, longest):
        reach = emulator.middle / LIGHT  # [Angstrom s/km]
        self.n_pixels = n_pixels
        self.n_room = fft.next_fast_len(n_pixels + 2 * int(np.ceil(longest * reach / emulator.step)), real=True)
        self.half = n_pixels + (self.n_room - n_pixels) // 2
        frequency = 2 * np.pi * np.fft.rfftfreq(self.n_room, emulator.step) * reach  # u of 1 km/s
        start = np.maximum(_profile(emulator.v0 * frequency)[0], FADED)
        value, derivative = _profile(vsini[:, None] * frequency)
        turn = np.exp(-1j * rv[:, None] * frequency)
        self.transfer = value / start * turn
        self.by_vsini = derivative * frequency / start * turn
        self.by_rv = -1j * frequency * self.transfer

    def apply(self, values, transfer=None):
        """R of values of shape (..., n_stars, n_pixels), or with another transfer function."""
        room = np.empty((*values.shape[:-1], self.n_room), values.dtype)
        room[..., :self.n_pixels] = values
        room[..., self.n_pixels:self.half] = values[..., -1:]
        room[..., self.half:] = values[..., :1]
        transfer = self.transfer if transfer is None else transfer
        return fft.irfft(fft.rfft(room) * transfer, n=self.n_room)[..., :self.n_pixels]

    def adjoint(self, values):
        """Transpose of `apply`."""
        room = fft.irfft(fft.rfft(values, n=self.n_room) * np.conj(self.transfer), n=self.n_room)
        result = room[..., :self.n_pixels].copy()
        result[..., -1] += room[..., self.n_pixels:self.half].sum(axis=-1)
        result[..., 0] += room[..., self.half:].sum(axis=-1)
        return result


def _profile(u):
    """g(u) and its derivative."""
    u = np.maximum(u, 1e-4)
    bessel, spherical = special.j1(u), special.spherical_jn(1, u)
    weights = 2 / (1 - LIMB_DARKENING / 3) / u
    value = weights * ((1 - LIMB_DARKENING) * bessel + LIMB_DARKENING * spherical)
    second = (1 - LIMB_DARKENING) * (2 * bessel / u - special.j0(u))
    second += LIMB_DARKENING * (3 * spherical / u - np.sin(u) / u)
    return value, -weights * second
