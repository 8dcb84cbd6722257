"""Velocities of spectra against templates, in pixels and in km/s."""
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage, signal

import paper
from spectra.transforms import LIGHT
from workflow.files import chunks, take

MAX_VELOCITY = 300  # [km/s] searched to each side
VELOCITY_STEP = 0.3  # [km/s] of the cross-correlation, less than a pixel
BROADEST = 200  # [km/s] sigma of the smoothing that is subtracted: continuum, blaze and bands do not count
PEAK = 60  # [km/s] to each side of a peak that belong to it
LOWEST, CONTRAST = 0.4, 5.0  # of a peak: its height, and that in standard deviations of the correlation elsewhere
DWARFS = (2500, 5.2), (2900, 5.1), (3300, 4.9), (3700, 4.8), (4200, 4.7)  # Teff [K] and log g
TEMPLATE_NODES = [(*dwarf, 0.0, vsini) for dwarf in DWARFS for vsini in (2, 5, 10, 15, 25)]  # solar; v sin i [km/s]
NODE_SCALE = np.array([100, 0.3, 0.3, 1.0])  # what counts as equally far from a node
ATOMIC_TEFF = 3500  # [K] above which atoms rule the window
SHORTEST = 15  # [Angstrom] of a template that there must be to correlate with


def cross_correlation(flux, template):
    """Correlation coefficient of a template (n_template,) with each part of flux (n_pixels,) that is as long.

    Both in the same steps; returns shape (n_pixels - n_template + 1,), 0 where either is constant.
    """
    n = len(template)
    template = template - template.mean()
    flux = flux - flux.mean()
    sums = np.cumsum([np.r_[0, flux], np.r_[0, flux**2]], axis=1)
    mean, square = (sums[:, n:] - sums[:, :-n]) / n
    product = signal.correlate(flux, template, "valid", method="fft") / n
    return product / (max(template.std(), 1e-6) * np.sqrt(np.maximum(square - mean**2, 1e-12)))


# ---------------------------------------------------------------- in pixels, on the grid of the synthetic spectra
def lag(flux, template):
    """Pixels by which spectra (n_spectra, n_pixels) are shifted against a template (n_pixels,), to the red if positive.

    That is where their cross-correlation is largest. The template's ends are left out, so that all shifts compare
    equally many pixels.
    """
    n_pixels = len(template)
    reach = int(paper.LAG_SEARCHED * n_pixels)
    window = template[reach : n_pixels - reach]
    lags = np.array(sorted(range(-reach, reach + 1), key=abs))  # of equals, argmax takes the smallest
    return lags[[cross_correlation(row, window)[lags + reach].argmax() for row in np.asarray(flux, float)]]


def mean_flux(flux, rows):
    """Mean of some spectra, shape (n_pixels,), without more than a few of them in memory."""
    total = np.zeros(flux.shape[1])
    for chunk in chunks(rows):
        total += take(flux, chunk).sum(axis=0, dtype=float)
    return total / len(rows)


def check_lag(flux_ph, flux_carm, stars):
    """Compare the wavelengths of the observed spectra with those of the synthetic ones.

    Takes what `load_synthetic` and `load_observed` give. Returns a table of `karmn` and `lag` [pixel] against the mean
    synthetic spectrum, NaN where a spectrum is not usable; the lag of the mean observed spectrum; and what to print
    where this, or that of single stars from it, is larger than paper.py allows.
    """
    good = np.flatnonzero(stars["good"])
    template = mean_flux(flux_ph, np.arange(len(flux_ph)))
    mean_lag = int(lag([mean_flux(flux_carm, good)], template)[0])
    lags = pd.DataFrame({"karmn": stars["karmn"], "lag": np.nan})
    lags.loc[good, "lag"] = lag(take(flux_carm, good), template)
    warnings = []
    if abs(mean_lag) > paper.LAG_MEAN:
        warnings.append(
            f"warning: the observed spectra are shifted by {mean_lag:+d} pixels against the synthetic ones: use vacuum "
            "wavelengths at rest (in the paper's pixels air wavelengths give -242, 10 km/s give +29)"
        )
    astray = lags[(lags["lag"] - mean_lag).abs() > paper.LAG_STAR]
    if len(astray):
        shifts = ", ".join(f"{star.karmn} by {star.lag:+.0f}" for star in astray[:5].itertuples())
        warnings.append(
            f"warning: {len(astray)} of the observed spectra are shifted otherwise than their mean, {shifts}"
            f"{', ...' * (len(astray) > 5)} pixels instead of {mean_lag:+d}: shift each to rest by its own velocity"
        )
    return lags, mean_lag, warnings


# ---------------------------------------------------------------- in km/s, on any grid
@dataclass(frozen=True)
class Templates:
    """Normalised spectra at rest, on the paper's grid, to find velocities with."""

    flux: np.ndarray  # (n_templates, 3501)
    # (n_templates,), bool: which of them the velocity is measured with, once it is found. Warm ones, whose lines are
    # atoms': where those lie is known from the laboratory, lists of molecular lines are off by km/s in this window.
    atomic: np.ndarray

    @classmethod
    def of(cls, flux_ph, labels_ph):
        """The spectra of a synthetic set that come next to the nodes of `TEMPLATE_NODES`."""
        distances = (np.abs((labels_ph - node) / NODE_SCALE).sum(axis=1) for node in TEMPLATE_NODES)
        rows = np.unique([distance.argmin() for distance in distances])
        teff = labels_ph[rows, paper.PARAMETERS["teff"].column]
        return cls(np.array(flux_ph[rows], float), teff >= min(ATOMIC_TEFF, teff.max()))


@dataclass(frozen=True)
class Velocity:
    """What the cross-correlation with templates says."""

    rv: float  # [km/s], positive where lines lie to the red
    error: float  # [km/s]
    height: float  # of the peak, 1 for equal spectra
    contrast: float  # of the peak, in standard deviations of the correlation elsewhere
    template: int  # the best one
    lags: np.ndarray  # [km/s]
    correlation: np.ndarray  # with the best template

    @property
    def is_peak(self):
        """Whether it is that of a star like the templates, and not the highest of what correlates by chance."""
        return self.height >= LOWEST and self.contrast >= CONTRAST and abs(self.rv) < MAX_VELOCITY - 1


def measure_velocity(wave, flux, templates):
    """Velocity of a star against the best of several templates.

    What `PyAstronomy.pyasl.crosscorrRV` finds, but all velocities at once, and for each the correlation coefficient.
    The error is that of Zucker (2003, MNRAS 342, 1291, Eq. 20), which counts the mismatch of the template as noise.
    Vacuum wavelengths [Angstrom] ascend; flux has no blaze, both (n_pixels,). ValueError says that less than 15
    Angstrom of the window can be seen at all velocities.
    """
    step = VELOCITY_STEP / LIGHT
    reach = int(MAX_VELOCITY / VELOCITY_STEP)
    low = max(paper.WINDOW[0], wave[0] * np.exp(reach * step))
    high = min(paper.WINDOW[1], wave[-1] * np.exp(-reach * step))
    if high - low < SHORTEST:
        raise ValueError("too short to find a velocity")
    n = int(np.log(high / low) / step) + 1
    rest = low * np.exp(step * np.arange(n))
    observed = _without_slopes(np.interp(low * np.exp(step * np.arange(-reach, n + reach)), wave, flux))
    correlation = np.array([cross_correlation(observed, _without_slopes(np.interp(rest, paper.WAVELENGTH, template)))
                            for template in templates.flux])
    lags = LIGHT * (np.exp(step * np.arange(-reach, reach + 1)) - 1)
    best, top = np.unravel_index(correlation.argmax(), correlation.shape)
    away = np.abs(lags - lags[top])
    elsewhere = correlation[best][away > PEAK]
    near = np.where((away <= PEAK / 2) & templates.atomic[:, None], correlation, -1)
    measured, peak = np.unravel_index(near.argmax(), near.shape)
    offset, height, curvature = _parabola(correlation[measured], peak)
    n_seen = np.count_nonzero((wave > low) & (wave < high))
    error = np.sqrt(max(1 / height**2 - 1, 0) * abs(height) / max(curvature, 1e-12) / n_seen)
    return Velocity(
        rv=LIGHT * (np.exp(step * (peak - reach + offset)) - 1), error=VELOCITY_STEP * error,
        height=correlation[best, top], contrast=(correlation[best, top] - elsewhere.mean()) / elsewhere.std(),
        template=int(best), lags=lags, correlation=correlation[best],
    )


def _without_slopes(flux):
    smooth = flux
    for _ in range(3):  # running means, of twice the width, are a Gaussian a hundred times faster
        smooth = ndimage.uniform_filter1d(smooth, int(2 * BROADEST / VELOCITY_STEP))
    return flux - smooth


def _parabola(correlation, peak):
    """Offset of the maximum from the highest value [step], its height, and minus the second derivative there."""
    if not 0 < peak < len(correlation) - 1:
        return 0.0, correlation[peak], 0.0
    before, at, after = correlation[peak - 1 : peak + 2]
    curvature = 2 * at - before - after
    offset = np.clip((after - before) / 2 / max(curvature, 1e-12), -0.5, 0.5)
    return offset, at + curvature * offset**2 / 2, curvature
