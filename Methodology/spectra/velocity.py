"""Velocities of spectra against templates, in pixels and in km/s."""
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage, signal

import paper
from spectra.transforms import LIGHT
from workflow.files import chunks, take


def mean_flux(flux, rows):
    """Mean of some spectra, shape (n_pixels,), without more than a few of them in memory."""
    total = np.zeros(flux.shape[1])
    for chunk in chunks(rows):
        total += take(flux, chunk).sum(axis=0, dtype=float)
    return total / len(rows)


def lag(flux, template):
    """By how many pixels spectra are shifted against a template: where their cross-correlation is largest.

    Parameters
    ----------
    flux : array of shape (n_spectra, n_pixels)
    template : array of shape (n_pixels,)
        On the same grid. Its mean is subtracted, and its ends are left out, so that all shifts compare equally many
        pixels.

    Returns
    -------
    ndarray of shape (n_spectra,), int
        [pixel], positive where lines lie to the red of the template's.
    """
    n_pixels = len(template)
    reach = int(paper.LAG_SEARCHED * n_pixels)
    window = template[reach : n_pixels - reach] - template[reach : n_pixels - reach].mean()
    lags = np.array(sorted(range(-reach, reach + 1), key=abs))  # of equals, argmax takes the smallest

    def correlation(spectrum):
        sums = np.cumsum([np.r_[0, spectrum], np.r_[0, spectrum**2]], axis=1)
        mean, square = (sums[:, len(window) :] - sums[:, : -len(window)]) / len(window)
        return np.correlate(spectrum, window, "valid") / np.sqrt(np.maximum(square - mean**2, 1e-12))

    found = [correlation(spectrum - spectrum.mean())[lags + reach].argmax() for spectrum in np.asarray(flux, float)]
    return lags[found]


def check_lag(flux_ph, flux_carm, stars):
    """Compare the wavelengths of the observed spectra with those of the synthetic ones.

    Parameters
    ----------
    flux_ph, flux_carm, stars
        As `load_synthetic` and `load_observed` give them.

    Returns
    -------
    lags : DataFrame
        `karmn` and `lag` [pixel] against the mean synthetic spectrum, NaN where a spectrum is not usable.
    mean_lag : int
        [pixel] of the mean observed spectrum.
    warnings : list of str
        What to print where the mean lag, or that of single stars from it, is larger than paper.py allows.
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
        some = ", ".join(f"{star.karmn} by {star.lag:+.0f}" for star in astray[:5].itertuples())
        warnings.append(
            f"warning: {len(astray)} of the observed spectra are shifted otherwise than their mean, {some}"
            f"{', ...' * (len(astray) > 5)} pixels instead of {mean_lag:+d}: shift each to rest by its own velocity"
        )
    return lags, mean_lag, warnings
MAX_VELOCITY = 300  # [km/s] searched to each side
VELOCITY_STEP = 0.3  # [km/s] of the cross-correlation, less than a pixel
BROADEST = 200  # [km/s] sigma of the smoothing that is subtracted: continuum, blaze and bands do not count
PEAK = 60  # [km/s] to each side of a peak that belong to it
LOWEST, CONTRAST = 0.4, 5.0  # of a peak: its height, and that in standard deviations of the correlation elsewhere
DWARFS = (2500, 5.2), (2900, 5.1), (3300, 4.9), (3700, 4.8), (4200, 4.7)  # Teff [K] and log g
TEMPLATE_NODES = [(*dwarf, 0.0, vsini) for dwarf in DWARFS for vsini in (2, 5, 10, 15, 25)]  # solar; v sin i [km/s]
ATOMIC_TEFF = 3500  # [K] above which atoms rule the window
SHORTEST = 15  # [Angstrom] of a template that there must be to correlate with


@dataclass(frozen=True)
class Templates:
    """Spectra at rest to find velocities with, normalised, on the paper's grid.

    Attributes
    ----------
    flux : ndarray of shape (n_templates, 3501)
    atomic : ndarray of shape (n_templates,), bool
        Which of them the velocity is measured with, once it is found. Warm ones, whose lines are atoms': where those
        lie is known from the laboratory, while lists of molecular lines are off by km/s in this window.
    """

    flux: np.ndarray
    atomic: np.ndarray

    @classmethod
    def of(cls, flux_ph, labels_ph):
        """Those of a synthetic set that come next to the nodes of `TEMPLATE_NODES`."""
        scale = np.array([100, 0.3, 0.3, 1.0])
        rows = [np.abs((labels_ph - node) / scale).sum(axis=1).argmin() for node in TEMPLATE_NODES]
        rows = np.unique(rows)
        teff = labels_ph[rows, paper.PARAMETERS["teff"].column]
        return cls(np.array(flux_ph[rows], float), teff >= min(ATOMIC_TEFF, teff.max()))


@dataclass(frozen=True)
class Velocity:
    """What the cross-correlation with templates says."""

    rv: float  # [km/s]
    error: float  # [km/s]
    height: float  # of the peak, 1 for equal spectra
    contrast: float  # of the peak, in standard deviations of the correlation elsewhere
    template: int  # which of them it was
    lags: np.ndarray  # [km/s]
    correlation: np.ndarray  # with that one

    @property
    def is_peak(self):
        """Whether it is that of a star like the templates, and not the highest of what correlates by chance."""
        return self.height >= LOWEST and self.contrast >= CONTRAST and abs(self.rv) < MAX_VELOCITY - 1


def cross_correlation(flux, template):
    """Correlation coefficient of a template with each part of a spectrum that is as long.

    Parameters
    ----------
    flux : ndarray of shape (n_pixels,)
    template : ndarray of shape (n_template,)
        Not longer, in the same steps.

    Returns
    -------
    ndarray of shape (n_pixels - n_template + 1,)
    """
    n = len(template)
    template = template - template.mean()
    flux = flux - flux.mean()
    sums = np.cumsum([np.r_[0, flux], np.r_[0, flux**2]], axis=1)
    mean, square = (sums[:, n:] - sums[:, :-n]) / n
    product = signal.correlate(flux, template, "valid", method="fft") / n
    return product / (template.std() * np.sqrt(np.maximum(square - mean**2, 1e-12)))


def measure_velocity(wave, flux, templates):
    """Velocity of a star against the best of several templates.

    What `PyAstronomy.pyasl.crosscorrRV` finds, but all velocities at once, and for each the correlation coefficient.

    Parameters
    ----------
    wave, flux : ndarray of shape (n_pixels,)
        Vacuum wavelength [Angstrom], ascending, and flux without the blaze.
    templates : Templates

    Returns
    -------
    Velocity
        Positive where lines lie to the red. The error is that of Zucker (2003, MNRAS 342, 1291, Eq. 20), which counts
        the mismatch of the template as noise.

    Raises
    ------
    ValueError
        Less than 15 Angstrom of the window can be seen at all velocities.
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
    each = np.array([cross_correlation(observed, _without_slopes(np.interp(rest, paper.WAVELENGTH, template)))
                     for template in templates.flux])
    lags = LIGHT * (np.exp(step * np.arange(-reach, reach + 1)) - 1)
    best, found = np.unravel_index(each.argmax(), each.shape)
    elsewhere = each[best][np.abs(lags - lags[found]) > PEAK]
    near = np.where((np.abs(lags - lags[found]) <= PEAK / 2) & templates.atomic[:, None], each, -1)
    measured, peak = np.unravel_index(near.argmax(), near.shape)
    offset, height, curvature = _parabola(each[measured], peak)
    n_seen = np.count_nonzero((wave > low) & (wave < high))
    error = np.sqrt(max(1 / height**2 - 1, 0) * abs(height) / max(curvature, 1e-12) / n_seen)
    return Velocity(
        rv=LIGHT * (np.exp(step * (peak - reach + offset)) - 1), error=VELOCITY_STEP * error, height=each[best, found],
        contrast=(each[best, found] - elsewhere.mean()) / elsewhere.std(), template=int(best), lags=lags,
        correlation=each[best],
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
