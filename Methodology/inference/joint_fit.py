"""All stars at once: their labels and, pixel by pixel, what the synthetic spectra lack, which all stars share (ours).

**Model.** Star i has the labels theta_i = (Teff, log g, [M/H]), v sin i, a velocity and a continuum; its optical depth
in pixel p, at the library's slowest rotation, is

    z_ip = tau_p(theta_i) + sum_k (kappa A_pk + D_pk) phi_k(theta_i) + gamma_p dtau_p/dlambda
    f_ip = (1 + o_i + t_i x_p) R_i[exp(-z_i)]_p

with tau, R and the library's K response functions phi_k from `inference.emulator`: tau_p is nearly sum_k A_pk phi_k. D
lets each pixel mix them anew, so that lines may be missing, extra, stronger, weaker, or depend otherwise on the labels,
without a list of lines; kappa is one strength for everything, gamma [Angstrom] a shift of what absorbs there. If it is
asked for, each star has a veiling r >= 0 besides, light without lines: R_i[...] is then (R_i[...] + r_i) / (1 + r_i),
with r_i = (u_i + (u_i^2 + b^2)^1/2) / 2 of a number u_i of any sign: nearly the larger one of u_i and zero.

**Objective**, half of

    sum_ip w_ip (y_ip - f_ip)^2                                        the data, weights fixed
    + sum_ip wz_p (phi_i . D_p)^2                                      corrections, as the stars see them
    + sum_p (|D_p|^2 / d^2 + gamma_p^2 / g^2) / c + kappa^2 / k^2
    + sum_i |theta_i - mean theta|^2 / s^2 + |mean theta - m|^2 / e^2  stars about their mean, the mean pinned
    + sum_i of velocity^2, o^2, t^2, u^2, v sin i about its centre

PRIORS has all widths, with reasons. The weights are those of few stars: w = n_eff / n / (noise^2 + floor^2), since what
the model cannot fit is the same in all stars, and ten times as many stars tell no more of it.

**The gauge.** Labels moved by an affine map, alike for all stars, and other D describe the spectra nearly as well. The
mean of the labels is therefore pinned to an assumed value, and `inference.gauge` says what is known of the map.

**Minimum.** Gauss and Newton with the exact gradient (broadening is not local: the derivative with respect to D_pk is
the adjoint R^T of the residual times -exp(-z) phi_k). The linear system of some 2,000 numbers of stars and 6,000 of
pixels is solved by conjugate gradients; their preconditioner is the system as if broadening were local, in which the
pixels are eliminated one by one:

    S = H_ss - sum_p H_sp H_pp^-1 H_ps

A step is taken only if the objective falls.
"""
import copy
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from inference.emulator import Motion
from spectra.transforms import LIGHT

LABELS, N_OWN = 3, 7  # theta; and with it v sin i, velocity, tilt and offset of the continuum; perhaps u of the veiling
BOUNDS = np.array([[2600.0, 4.2, -1.5, 0.3], [4800.0, 5.7, 1.0, 60.0]])  # of labels: beyond, the emulator is lost
LARGEST_STEP = np.array([200.0, 0.2, 0.25, 3.0, 0.5, 0.05, 0.05, 0.1])
LARGEST_ALONE = np.array([200.0, 0.2, 0.25, 6.0, 0.5, 0.05, 0.05, 0.1])  # fields stay: v sin i has far to go
ARRIVED = np.array([0.5, 1e-3, 1e-3, 5e-3, 2e-3, 5e-4, 5e-4, 5e-4])  # of a star by itself: far below any uncertainty
ALONE_STEPS = 14  # at most
# Error of the model in units of Priors.floor: 68 % of the stars are within, gap seeds 0 to 2 of the first family;
# of the labels, v sin i, and u, of a tenth veiled stars behind 0 and 1
OWN = np.array([2.4, 1.6, 3.1, 1.9, 1.2])
# Bins, a resolution element; noise of a bin at S/N 275 [flux]; what the emulator itself misses along wavelength [flux]
APART, USUAL, LEFT = 3, 0.0021, 0.001
FEWEST = 10  # stars that can teach the shared fields
# Of more stars than not: where the models are so wrong that stars by themselves wash them out by rotation, narrow lines
# are told by power at high over power at low frequencies [s/km], of a star with 7 km/s a tenth of the median
LOST, SHARPNESS, SHARP = 0.5, ((0.01, 0.05), (0.08, 0.16)), 0.2
VEILING = 0.1  # width of the prior of u: with 0.03 an r of 0.1 comes out a quarter too small
BEND = 0.02  # b, about the uncertainty of r
ZERO = 0.015  # error of u that all stars share: the fields can take up as much, 0.000 to 0.022 at four gap seeds
# What uncertainties are made of, which a run remembers
ERRORS = {"own": OWN.tolist(), "apart": APART, "usual": USUAL, "left": LEFT, "zero": ZERO}
RENEW = 6, 2  # steps that have a preconditioner each, and how many of the others share one


@dataclass(frozen=True)
class Priors:
    """Widths of all priors, and weights; each with its reason."""

    responses: int = 4  # K: with 3 the residual stays above the noise, with 5 or 6 nothing is gained
    response_teff: tuple = (2800.0, 4300.0)  # [K] the sample's range
    depth: float = 0.1  # expected correction of tau: this ...
    relative: float = 0.5  # ... and this share of what the library has there
    mixing: float = 5.0  # d, bound of D in units of the library's own A; loose
    shift: float = 0.012  # g [Angstrom]: errors of line positions, a fifth of a resolution element
    strength: float = 1.0  # k, ln; as good as free
    alike: float = 20.0  # c, pixels that err together: a resolution element, and lines of one species
    floor: float = 0.01  # [flux] error of the model in a bin that no correction can take up
    n_effective: float = 20.0  # stars as which all of them count; with 7 log g suffers, with more nothing is gained
    alone: float = 0.15  # the weight of one star never exceeds this
    spread: tuple = (5000.0, 2.0, 2.0)  # s [K, dex, dex]: with a fifth of it the scale of log g shrinks by a third
    vsini: tuple = (2.5, 6.0)  # [km/s] centre and width
    nuisance: tuple = (0.3, 0.05, 0.05)  # velocity [km/s] after alignment; tilt and offset of the continuum
    mean: tuple = (3500.0, 4.9, -0.1)  # m [K, dex, dex]: a gauge, see inference.gauge
    pinned: tuple = (5.0, 0.01, 0.01)  # e
    fast: float = 7.0  # [km/s]: broader lines teach the fields nothing; these stars are fitted at the end
    fast_weight: float = 0.02


PRIORS = Priors()
START = replace(PRIORS, n_effective=7.15, spread=(1000.0, 0.3, 0.3))  # the first stage, and a star by itself


@dataclass
class Fields:
    """What all stars share: D and gamma, (K + 1, n_pixels), and kappa; the `misfit` of stars with a noise of USUAL."""

    pixels: np.ndarray
    kappa: float = 0.0
    misfit: float = 1.0

    @property
    def inflation(self):
        """By how much uncertainties are larger than where the corrected models fit to the noise."""
        return np.sqrt(max(1.0, self.misfit))

    @classmethod
    def none(cls, n_responses, n_pixels):
        return cls(np.zeros((n_responses + 1, n_pixels)))


@dataclass
class Fit:
    """Where a fit ended.

    Parameters
    ----------
    own : ndarray of shape (n_stars, 7) or (n_stars, 8)
        Teff [K], log g, [M/H], v sin i [km/s], velocity [km/s], tilt, offset, and perhaps u of the veiling.
    fields : Fields
    curvature : ndarray of shape (n_stars, 7, 7) or (n_stars, 8, 8)
        Of half of the objective with respect to a star's own numbers, fields fixed, as if the star counted as one.
    noise : ndarray of shape (n_stars,)
        Share of the noise in what its weights allow, the rest is error of the model.
    objective : list of float
        After each step.
    converged : bool
    shared : bool
        Whether the fields were fitted.
    """

    own: np.ndarray
    fields: Fields
    curvature: np.ndarray
    noise: np.ndarray
    objective: list
    converged: bool
    shared: bool

    @property
    def width(self):
        """What the curvature says of the uncertainty of the labels, v sin i and perhaps u: (n_stars, 4) or 5."""
        variance = np.einsum("ijj->ij", np.linalg.inv(self.curvature))
        return np.sqrt(np.delete(variance, np.s_[LABELS + 1 : N_OWN], axis=1))

    @property
    def _uncertainty(self):
        """Own ones of all that `width` is of."""
        return uncertainty(self.width, self.noise, self.fields.inflation)

    @property
    def error(self):
        """Each star's own uncertainty of the labels and v sin i, fields and gauge as they are: (n_stars, 4)."""
        return self._uncertainty[:, : LABELS + 1]

    @property
    def veiling(self):
        """Each star's veiling, and how far below and above it the truth may be: (n_stars, 3), of fits without 0."""
        number, error = self.own[:, N_OWN:], np.hypot(self._uncertainty[:, LABELS + 1 :], ZERO * self.fields.inflation)
        low, value, high = (veiling_of(number + sign * error) for sign in (-1, 0, 1))
        low = np.where(number > error, low, 0)  # which the bend alone keeps above zero
        return np.hstack([value, value - low, high - value])


def uncertainty(width, noise, inflation):
    """Own uncertainties of a `width` that is by a share `noise` and else an error of the model, OWN times `inflation`.

    So they depend on a star's noise and not on how many stars were fitted, by which the weights go.
    """
    model = (OWN[: width.shape[1]] * inflation) ** 2
    return width * np.sqrt(noise[:, None] + (1 - noise[:, None]) * model)


def veiling_of(number):
    """r >= 0 of the numbers u."""
    return (number + np.hypot(number, BEND)) / 2


class JointFit:
    """The objective of some stars, and the way to its minimum.

    Parameters
    ----------
    emulator : inference.emulator.Emulator
    flux : ndarray of shape (n_stars, n_pixels)
    variance : ndarray of shape (n_stars, n_pixels)
        Of the noise; infinite where a pixel is not to be used.
    priors : Priors
    veiling : float
        Width of the prior of u, 0 of stars without any veiling.
    """

    def __init__(self, emulator, flux, variance, priors=PRIORS, veiling=0.0):
        self.emulator, self.priors = emulator, priors
        self.n_stars, self.n_pixels = flux.shape
        usable = np.isfinite(flux) & np.isfinite(variance)
        self.flux, self.variance = np.where(usable, flux, 1.0), variance
        relative = min(priors.alone, priors.n_effective / self.n_stars) / priors.alone  # weight of a star, to one alone
        self.weight_of_one = np.where(usable, priors.alone / (np.where(usable, variance, 1.0) + priors.floor**2
                                                              + emulator.error**2), 0.0)
        self.full_weight = self.weight = self.weight_of_one * relative
        noise = self.weight_of_one / priors.alone * np.where(usable, variance, 0.0)
        self.noise = noise.sum(axis=1) / np.maximum(usable.sum(axis=1), 1)
        self.x = np.linspace(-1, 1, self.n_pixels)
        self.mixture, self.projection = emulator.responses(priors.responses, *priors.response_teff)
        self.k = self.mixture.shape[1]
        self.pixel_prior = np.r_[np.full(self.k, priors.mixing**-2.0), priors.shift**-2.0] / priors.alike
        self.n_own, veiled = N_OWN + (veiling > 0), [veiling] * (veiling > 0)
        self.centre = np.r_[priors.mean, priors.vsini[0], np.zeros(self.n_own - LABELS - 1)]
        self.prior_of_one = np.r_[priors.spread, priors.vsini[1], priors.nuisance, veiled] ** -2.0
        self.own_prior = self.prior_of_one.copy()
        self.own_prior[N_OWN:] *= relative  # else a veiling would shrink with the number of stars
        self.pin = (np.array(priors.pinned) * self.n_stars) ** -2.0
        self.teaching = np.ones(self.n_stars)
        self.own = np.tile(self.centre, (self.n_stars, 1))
        self.fields = Fields.none(self.k, self.n_pixels)
        self.seen_weight, self.lost = np.zeros(self.n_pixels), False

    # ------------------------------------------------------------ the model and its derivatives
    def forward(self, own, fields, derivatives=True):
        """Set the residual, and what the derivatives are made of, at these numbers."""
        terms, slopes = self.emulator.features(own[:, :LABELS])
        tau, self.phi = terms @ self.emulator.coefficients, terms @ self.projection
        mixed = fields.kappa * self.mixture + fields.pixels[: self.k].T
        self.tau_slope = self.emulator.slope(tau)
        gamma = fields.pixels[self.k]
        self.light = np.exp(-np.maximum(tau + self.phi @ mixed.T + gamma * self.tau_slope, -1.0))
        self.motion = Motion(self.emulator, self.n_pixels, own[:, 3], own[:, 4], BOUNDS[1, 3])
        self.level = 1 + own[:, 6:7] + own[:, 5:6] * self.x
        broadened = self.motion.apply(self.light)
        veil = veiling_of(own[:, N_OWN:]).sum(axis=1, keepdims=True)
        depth, broadened = 1 - broadened, (broadened + veil) / (1 + veil)
        self.sharp_level = self.level / (1 + veil)  # of what has lines
        self.residual = self.flux - self.level * broadened
        self.seen = self.phi @ fields.pixels[: self.k]
        if not derivatives:
            return
        self.by_own = np.empty((self.n_stars, own.shape[1], self.n_pixels))
        phi_slopes = slopes @ self.projection
        for k in range(LABELS):
            by_label = slopes[k] @ self.emulator.coefficients
            change = by_label + phi_slopes[k] @ mixed.T + gamma * self.emulator.slope(by_label)
            self.by_own[:, k] = self.sharp_level * self.motion.apply(-self.light * change)
        self.by_own[:, 3] = self.sharp_level * self.motion.apply(self.light, self.motion.by_vsini)
        self.by_own[:, 4] = self.sharp_level * self.motion.apply(self.light, self.motion.by_rv)
        self.by_own[:, 5], self.by_own[:, 6] = broadened * self.x, broadened
        bent = veil / np.hypot(own[:, N_OWN:], BEND)  # the derivative of r by u
        self.by_own[:, N_OWN:] = bent[:, :, None] * (self.sharp_level / (1 + veil) * depth)[:, None]
        self.by_kappa = self.sharp_level * self.motion.apply(-self.light * (self.phi @ self.mixture.T))
        self.seen_by_label = np.einsum("kij,jp->ikp", phi_slopes, fields.pixels[: self.k])
        self.seen_by_label *= self.teaching[:, None, None]

    def _by_fields(self, pixels):
        """Change of the model spectra with a change of D and gamma."""
        depth = self.phi @ pixels[: self.k] + self.tau_slope * pixels[self.k]
        return self.sharp_level * self.motion.apply(-self.light * depth)

    def _to_fields(self, spectra):
        """Transpose of `_by_fields`."""
        back = -self.light * self.motion.adjoint(self.sharp_level * spectra)
        return np.concatenate([self.phi.T @ back, (self.tau_slope * back).sum(axis=0)[None]])

    def by_fields_locally(self):
        """Derivatives with respect to the same pixel's D and gamma, broadening as if local: (n, K + 1, n_pixels)."""
        local = np.empty((self.n_stars, self.k + 1, self.n_pixels))
        lines = self.residual - self.flux + (self.level - self.sharp_level)  # less the light without any
        local[:, : self.k] = lines[:, None] * self.phi[:, :, None]
        local[:, self.k] = self.sharp_level * self.motion.apply(-self.light * self.tau_slope)
        return local

    def pixel_covariance(self):
        """Inverse curvature of each pixel's D and gamma, as if broadening were local: (n_pixels, K + 1, K + 1)."""
        local, phi = self.by_fields_locally(), self.phi * self.teaching[:, None]
        pixels = np.einsum("iap,ibp->pab", self.weight[:, None] * local, local, optimize=True)
        pixels[:, np.arange(self.k + 1), np.arange(self.k + 1)] += self.pixel_prior
        pixels[:, : self.k, : self.k] += self.seen_weight[:, None, None] * (phi.T @ phi)
        return np.linalg.inv(pixels)

    def _pull(self, own):
        """Gradient of the stars' prior: (n_stars, n_own)."""
        pull = self.own_prior * (own - self.centre)
        mean = own[:, :LABELS].mean(axis=0)
        pull[:, :LABELS] = self.own_prior[:LABELS] * (own[:, :LABELS] - mean)
        pull[:, :LABELS] += self.n_stars * self.pin * (mean - self.centre[:LABELS])
        return pull

    def objective(self, own, fields):
        """Half of the sum in the docstring of this module."""
        self.forward(own, fields, derivatives=False)
        total = (self.weight * self.residual**2).sum() + ((own - self.centre) * self._pull(own)).sum()
        total += (self.seen_weight * (self.teaching[:, None] * self.seen) ** 2).sum()
        total += (self.pixel_prior[:, None] * fields.pixels**2).sum() + (fields.kappa / self.priors.strength) ** 2
        return float(total) / 2

    def descent(self, own, fields):
        """Minus the exact gradient of the objective, by the stars' numbers, D and gamma, and kappa, after `forward`."""
        weighted, seen = self.weight * self.residual, self.seen * self.teaching[:, None]
        stars = np.einsum("iap,ip->ia", self.by_own, weighted, optimize=True) - self._pull(own)
        stars[:, :LABELS] -= np.einsum("iap,ip->ia", self.seen_by_label, self.seen_weight * seen)
        pixels = self._to_fields(weighted) - self.pixel_prior[:, None] * fields.pixels
        pixels[: self.k] -= (self.phi * self.teaching[:, None]).T @ (self.seen_weight * seen)
        return stars, pixels, (self.by_kappa * weighted).sum() - fields.kappa / self.priors.strength**2

    # ------------------------------------------------------------ one step
    def _own_terms(self, own):
        """Gradient and curvature of each star's data with respect to its own numbers, and the weighted derivatives."""
        weighted = self.by_own * self.weight[:, None]
        blocks = np.einsum("iap,ibp->iab", weighted, self.by_own, optimize=True)
        return np.einsum("iap,ip->ia", weighted, self.residual), blocks, weighted

    def step_alone(self, own, fields, damping):
        """Change of the stars' numbers by a Gauss-Newton step, fields as they are, and the curvature of each star's."""
        self.forward(own, fields)
        gradient, blocks, _ = self._own_terms(own)
        gradient -= self.own_prior * (own - self.centre)
        blocks += np.diag(self.own_prior)
        damped = blocks.copy()
        damped[:, np.arange(self.n_own), np.arange(self.n_own)] *= 1 + damping
        return np.linalg.solve(damped, gradient[..., None])[..., 0], blocks

    def step(self, own, fields, damping, solve=None, n_conjugate=25):
        """Change of the stars' numbers (n_stars, n_own), of D and gamma (K + 1, n_pixels), and of kappa.

        `solve` is the preconditioner of an earlier step, else a new one is made; returns it too.
        """
        self.forward(own, fields)
        phi = self.phi * self.teaching[:, None]
        lean = self.seen_by_label * self.seen_weight
        _, blocks, weighted = self._own_terms(own)
        blocks[:, :LABELS, :LABELS] += np.einsum("iap,ibp->iab", lean, self.seen_by_label, optimize=True)
        solve = solve or _Eliminated(self, weighted, blocks, phi, lean, damping)

        def times(change):
            a, b, k = change
            spectra = np.einsum("ia,iap->ip", a, self.by_own, optimize=True) + k * self.by_kappa + self._by_fields(b)
            spectra *= self.weight
            views = np.einsum("ia,iap->ip", a[:, :LABELS], self.seen_by_label, optimize=True) + phi @ b[: self.k]
            views *= self.seen_weight
            stars = np.einsum("iap,ip->ia", self.by_own, spectra, optimize=True)
            stars += self._pull(self.centre + a) + solve.added[:-1].reshape(a.shape) * a
            stars[:, :LABELS] += np.einsum("iap,ip->ia", self.seen_by_label, views, optimize=True)
            pixels = self._to_fields(spectra) + self.pixel_prior[:, None] * b
            pixels[: self.k] += phi.T @ views
            return stars, pixels, (self.by_kappa * spectra).sum() + k * (self.priors.strength**-2.0 + solve.added[-1])

        return conjugate_gradients(times, solve, self.descent(own, fields), n_conjugate), solve

    # ------------------------------------------------------------ descent
    def alone(self, own, fields, n_steps=6, which=None, enough=0.0):
        """Every star by itself, or those of a mask, with the fields as they are; the curvature of these too.

        A star that a step moves by less than `enough` of ARRIVED is done.
        """
        own, curvature = own.copy(), np.tile(np.eye(self.n_own), (self.n_stars, 1, 1))
        rows = np.arange(self.n_stars) if which is None else np.flatnonzero(which)
        for k in range(n_steps):
            if not len(rows):
                break
            change, curvature[rows] = self.part(rows).step_alone(own[rows], fields, 0.05 if k < n_steps - 2 else 0.0)
            own[rows] = bounded(own[rows] + np.clip(change, *(sign * LARGEST_ALONE[: self.n_own] for sign in (-1, 1))))
            rows = rows[(np.abs(change) >= enough * ARRIVED[: self.n_own]).any(axis=1)]
        return own, curvature

    def curvature_of_one(self, own, fields):
        """Curvature of each star's part of half of the objective, had it the weight of one alone: per such a weight."""
        one = copy.copy(self)
        one.weight, one.own_prior = self.weight_of_one, self.prior_of_one
        return one.step_alone(own, fields, 0.0)[1] / self.priors.alone

    def part(self, rows):
        """The same of some of the stars."""
        if len(rows) == self.n_stars:
            return self
        part = copy.copy(self)
        part.n_stars = len(rows)
        for name in ("flux", "weight_of_one", "full_weight", "weight", "teaching", "own"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def sharp(self):
        """Which stars have narrow lines, as the sample has them, a mask: told by the spectra alone, without models."""
        used = self.full_weight > 0
        taper = np.hanning(self.n_pixels)
        level = (self.flux * used).sum(axis=1) / np.maximum(used.sum(axis=1), 1)
        power = np.abs(np.fft.rfft(np.where(used, self.flux - level[:, None], 0) * taper)) ** 2
        noise = np.where(used, self.variance, 0) @ taper**2
        frequency = np.fft.rfftfreq(self.n_pixels, self.emulator.step) * self.emulator.middle / LIGHT
        low, high = ((power - noise[:, None])[:, (frequency > ends[0]) & (frequency < ends[1])].sum(axis=1)
                     for ends in SHARPNESS)
        share = high / np.maximum(low, 1e-12)
        return share >= SHARP * np.median(share)

    def set_teachers(self, own, slow=None):
        """Leave what broad lines say out of the shared fields, and set the weights of the corrections' prior."""
        slow = own[:, 3] <= self.priors.fast if slow is None else slow
        self.teaching = slow.astype(float) if slow.sum() >= FEWEST else np.ones(self.n_stars)
        self.weight = self.full_weight * np.where(self.teaching > 0, 1.0, self.priors.fast_weight)[:, None]
        depth = np.clip(self.emulator.depths(own[self.teaching > 0, :LABELS]), 0, None).mean(axis=0)
        size = self.priors.depth**2 + (self.priors.relative * depth) ** 2
        self.seen_weight = 1 / self.priors.alike / self.teaching.sum() / size

    def minimise(self, start=None, n_steps=25, enough=0.5, tick=None, say=None, narrow=False):
        """Fit all stars and the shared fields.

        Parameters
        ----------
        start : Fit, optional
            Else each star's own fit.
        n_steps : int
            At most.
        enough : float
            A full step by which half of the objective falls by less ends the fit.
        tick : callable, optional
            Called after each step.
        say : callable(str), optional
        narrow : bool
            Whether to start from stars without rotation and let those teach whose lines are narrow (`sharp`).

        Returns
        -------
        Fit
        """
        fields = Fields.none(self.k, self.n_pixels)
        own, slow = start.own if start else self.own, None
        if not start and narrow:
            slow, prior = self.sharp(), self.own_prior.copy()
            self.own_prior[3] = 1e6  # v sin i stays at its centre
            own, _ = self.alone(self.own, fields, 8)
            self.own_prior = prior
        elif not start:
            own, _ = self.alone(self.own, fields, 8)
            self.lost = (own[:, 3] <= self.priors.fast).mean() < LOST
        self.set_teachers(own, slow)
        fields = start.fields if start else fields
        own = own.copy()
        own[:, :LABELS] += self.centre[:LABELS] - own[:, :LABELS].mean(axis=0)  # a gauge: no worse, and nearer
        own = bounded(own)
        history, damping, converged = [self.objective(own, fields)], 1e-3, False
        solve = None
        for k in range(n_steps):
            change, solve = self.step(own, fields, damping, solve)
            for share in (1, 0.4, 0.15, 0.05, 0.01):
                trial = moved(own, fields, change, share)
                value = self.objective(*trial)
                if value < history[-1]:
                    break
            fell = history[-1] - value
            if fell > 0:
                own, fields = trial
                history.append(value)
            if say:
                say(f"objective {history[-1]:.1f}, fell by {fell:.2f}, share {share}, damping {damping:.0e}")
            if tick:
                tick()
            if 0 <= fell < enough and share == 1:
                converged = True
                break
            if fell <= 0 and damping > 1:
                break
            damping = damping / 4 if fell > 0 and share == 1 else min(6 * damping, 10.0)
            if share < 1 or k < RENEW[0] or k % RENEW[1]:
                solve = None
        self.weight = self.full_weight
        fast = self.teaching == 0
        if fast.any():
            weight, prior = self.weight, self.own_prior
            self.weight = self.weight_of_one
            self.own_prior = np.r_[np.array(START.spread) ** -2.0, self.prior_of_one[LABELS:]]
            own[fast] = self.centre  # in the shared fit they went anywhere
            own, _ = self.alone(own, fields, ALONE_STEPS, fast, enough=1.0)
            self.weight, self.own_prior = weight, prior
        return Fit(own, fields, self.curvature_of_one(own, fields), self.noise, history, converged, shared=True)


def fit_alone(emulator, flux, variance, mean=PRIORS.mean, veiling=0.0):
    """Every star by itself, nothing shared: the baseline. A Fit; arguments as of `JointFit`."""
    alone = JointFit(emulator, flux, variance, replace(START, mean=tuple(mean)), veiling)
    own, _ = alone.alone(alone.own, alone.fields, ALONE_STEPS, enough=1.0)
    curvature = alone.curvature_of_one(own, alone.fields)
    return Fit(own, alone.fields, curvature, alone.noise, [], True, shared=False)


def fit_jointly(emulator, flux, variance, mean=PRIORS.mean, veiling=0.0, tick=None, say=None):
    """All stars together, in two stages: stiff, from where all starts lead to one place, then wide. A Fit.

    Where most stars are lost by themselves it is done from two starts, and the better fit is taken.

    Fewer than FEWEST stars are fitted each by itself.
    `mean` is where the sample's mean of Teff [K], log g and [M/H] is pinned; other arguments as of `JointFit`.
    """
    if len(flux) < FEWEST:
        return fit_alone(emulator, flux, variance, mean, veiling)
    first, second = (JointFit(emulator, flux, variance, replace(priors, mean=tuple(mean)), veiling)
                     for priors in (START, PRIORS))

    def both(narrow):
        stiff = first.minimise(enough=5.0, tick=tick, say=say, narrow=narrow)
        rich = second.minimise(stiff, tick=tick, say=say)
        rich.fields.misfit = misfit_of(excess(emulator, rich, flux, variance))
        return replace(rich, objective=[*stiff.objective, *rich.objective])

    fit = both(narrow=False)
    if first.lost:  # most stars, by themselves, seem to rotate fast: also from where their lines say that they do not
        fit = min(fit, both(narrow=True), key=lambda fit: fit.fields.misfit)
    return fit


def fit_with(emulator, fields, flux, variance, mean=PRIORS.mean, veiling=0.0):
    """Stars by themselves with the fields of another fit, as new stars, or blocks of very many. A Fit."""
    one = JointFit(emulator, flux, variance, replace(START, mean=tuple(mean)), veiling)
    one.weight, one.own_prior = one.weight_of_one, one.prior_of_one
    own, curvature = one.alone(one.own, fields, ALONE_STEPS, enough=1.0)
    slow = own[:, 3] <= PRIORS.fast
    if slow.any():  # as in the joint fit, nothing draws these to the mean
        one.own_prior = np.r_[np.array(PRIORS.spread) ** -2.0, one.own_prior[LABELS:]]
        own, wide = one.alone(own, fields, 4, slow, enough=1.0)
        curvature = np.where(slow[:, None, None], wide, curvature)
    return Fit(own, fields, curvature / PRIORS.alone, one.noise, [], True, shared=False)


def model(emulator, fit, n_pixels, corrected=True):
    """Spectra of a fit's stars, (n_stars, n_pixels), as they are fitted or without the corrections."""
    dark = JointFit(emulator, np.zeros((len(fit.own), n_pixels)), np.ones((len(fit.own), n_pixels)))
    dark.forward(fit.own, fit.fields if corrected else Fields.none(dark.k, n_pixels), derivatives=False)
    return -dark.residual


def misfit(emulator, fit, flux, variance):
    """Reduced chi^2 of each star, against its noise and the emulator's error: (n_stars,)."""
    residual, used = _residual(emulator, fit, flux, variance)
    weight = 1 / (np.where(used, variance, np.inf) + emulator.error**2)
    return (weight * residual**2).sum(axis=1) / np.maximum(used.sum(axis=1), 1)


def excess(emulator, fit, flux, variance):
    """By how much the corrected models miss each star, noise apart: (n_stars,) [flux^2].

    The mean product of residuals APART: what models miss goes on along wavelength, and noise does not. So it does not
    matter how large the noise is, nor how large it is said to be.
    """
    residual, used = _residual(emulator, fit, flux, variance)
    pairs = (used[:, APART:] & used[:, :-APART]).sum(axis=1)
    return (residual[:, APART:] * residual[:, :-APART]).sum(axis=1) / np.maximum(pairs, 1)


def misfit_of(excess):
    """Reduced chi^2 that the excess of some stars makes of spectra with a noise of USUAL."""
    return float(1 + (np.median(excess) - LEFT**2) / USUAL**2)


def _residual(emulator, fit, flux, variance):
    """Observed less fitted flux, NaN of stars without a fit and 0 where it was not used, and where it was."""
    good = np.isfinite(fit.own).all(axis=1)
    used, residual = np.isfinite(flux) & np.isfinite(variance), np.full(flux.shape, np.nan)
    fitted = model(emulator, replace(fit, own=fit.own[good]), flux.shape[1])
    residual[good] = np.where(used[good], flux[good] - fitted, 0)
    return residual, used


def corrections(emulator, flux, variance, fit, mean=PRIORS.mean):
    """What the synthetic spectra lack in each pixel, averaged over the stars, with errors.

    Returns
    -------
    dict of ndarray of shape (n_pixels,)
        `depth`: mean optical depth of the synthetic spectra at the stars' labels; `missing` and `e_missing`: what is
        added to it, phi . (kappa A + D); `shift` and `e_shift` [Angstrom]; `residual`: rms of observed minus fitted
        flux. Errors are those of the local curvature, labels as they are.
    """
    joint = JointFit(emulator, flux, variance, replace(PRIORS, mean=tuple(mean)))
    joint.set_teachers(fit.own)
    joint.forward(fit.own, fit.fields)
    covariance, teach = joint.pixel_covariance(), joint.teaching > 0
    phi = joint.phi[teach].mean(axis=0)
    mixed = fit.fields.kappa * joint.mixture + fit.fields.pixels[: joint.k].T
    used = joint.weight[teach] > 0
    with np.errstate(invalid="ignore"):
        residual = np.sqrt(np.where(used, joint.residual[teach] ** 2, 0).sum(axis=0) / used.sum(axis=0))
    return {"depth": emulator.depths(fit.own[teach, :LABELS]).mean(axis=0), "missing": mixed @ phi,
            "e_missing": np.sqrt(np.einsum("a,pab,b->p", phi, covariance[:, : joint.k, : joint.k], phi)),
            "shift": fit.fields.pixels[joint.k], "e_shift": np.sqrt(covariance[:, joint.k, joint.k]),
            "residual": residual}


class _Eliminated:
    """The Gauss-Newton system as if broadening were local, pixels eliminated: solves it for a right-hand side."""

    def __init__(self, fit, weighted, blocks, phi, lean, damping):
        n, k, n_pixels = fit.n_stars, fit.k, fit.n_pixels
        self.shape = k + 1, n_pixels
        weighted_local = fit.weight[:, None] * fit.by_fields_locally()
        self.inverse = fit.pixel_covariance()
        size = fit.n_own * n + 1
        cross = np.empty((size, k + 1, n_pixels), np.float32)
        cross[:-1] = (fit.by_own[:, :, None] * weighted_local[:, None]).reshape(size - 1, k + 1, n_pixels)
        cross[:-1].reshape(n, fit.n_own, k + 1, n_pixels)[:, :LABELS, :k] += lean[:, :, None] * phi[:, None, :, None]
        cross[-1] = np.einsum("ip,iap->ap", fit.by_kappa, weighted_local)
        root = np.linalg.cholesky(self.inverse).astype(np.float32)
        half = np.matmul(cross.transpose(2, 0, 1), root).transpose(1, 2, 0).reshape(size, -1)  # any order of columns
        system = np.zeros((size, size))
        for i in range(n):
            part = slice(i * fit.n_own, (i + 1) * fit.n_own)
            system[part, part] = blocks[i] + np.diag(fit.own_prior)
        system[:-1, -1] = system[-1, :-1] = np.einsum("iap,ip->ia", weighted, fit.by_kappa).ravel()
        system[-1, -1] = (fit.weight * fit.by_kappa**2).sum() + fit.priors.strength**-2.0
        for label in range(LABELS):
            rows = np.arange(n) * fit.n_own + label
            system[np.ix_(rows, rows)] += fit.pin[label] - fit.own_prior[label] / n
        self.size = np.sqrt(np.diag(system))  # in these units single precision is enough for a preconditioner
        system -= half @ half.T
        self.cross = cross.reshape(size, -1)
        while True:
            self.added = damping * np.abs(np.diag(system))
            try:
                damped = (system + np.diag(self.added)) / np.outer(self.size, self.size)
                self.factor = linalg.cho_factor(damped.astype(np.float32), lower=True, check_finite=False)
                return
            except linalg.LinAlgError:  # the local approximation need not be positive where the exact system is
                damping = max(10 * damping, 1e-4)

    def _pixels(self, right):
        return np.einsum("pab,bp->ap", self.inverse, right)

    def __call__(self, right):
        """Solution for a gradient (stars, pixels, kappa)."""
        stars, pixels, kappa = right
        reduced = np.r_[stars.ravel(), kappa] - self.cross @ self._pixels(pixels).ravel().astype(np.float32)
        solution = linalg.cho_solve(self.factor, (reduced / self.size).astype(np.float32), check_finite=False)
        solution = solution.astype(float) / self.size
        back = (self.cross.T @ solution.astype(np.float32)).reshape(self.shape)
        return solution[:-1].reshape(stars.shape), self._pixels(pixels - back), solution[-1]


def conjugate_gradients(times, solve, right, n_steps=25, enough=1e-4):
    """Solve a system given as a function for `right`, a tuple of arrays, with a preconditioner."""

    def dot(a, b):
        return float(sum(np.sum(x * y) for x, y in zip(a, b)))

    def add(a, factor, b):
        return tuple(x + factor * y for x, y in zip(a, b))

    total = tuple(np.zeros_like(np.asarray(part, float)) for part in right)
    rest, better = right, solve(right)
    direction, size = better, dot(right, better)
    first = size
    for _ in range(n_steps):
        image = times(direction)
        curvature = dot(direction, image)
        if curvature <= 0:
            break
        total, rest = add(total, size / curvature, direction), add(rest, -size / curvature, image)
        better = solve(rest)
        new = dot(rest, better)
        if not new > enough * first:
            break
        direction, size = add(better, new / size, direction), new
    return total


def bounded(own):
    """Numbers of the stars with the labels inside BOUNDS."""
    own = own.copy()
    own[:, : LABELS + 1] = np.clip(own[:, : LABELS + 1], *BOUNDS)
    return own


def moved(own, fields, change, share):
    """Numbers and fields after a share of a step, no star's larger than LARGEST_STEP."""
    stars, pixels, kappa = change
    return (bounded(own + np.clip(share * stars, *(sign * LARGEST_STEP[: stars.shape[1]] for sign in (-1, 1)))),
            Fields(fields.pixels + share * pixels, fields.kappa + np.clip(share * kappa, -0.3, 0.3)))
