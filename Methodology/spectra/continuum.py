"""What observed and synthetic spectra go through alike: vacuum, rest, one resolution, one grid, and the continuum.

Normalised is over the window and a margin of 5 Angstrom on each side (Sect. 2), on `WAVE`; then cut with `WINDOW`.
"""
from dataclasses import dataclass

import numpy as np
from scipy import constants, interpolate, ndimage, signal

import paper

__all__ = [
    "CONTINUA", "LIGHT", "STEP", "WAVE", "WINDOW", "Templates", "Velocity", "aligned", "cross_correlation", "degrade",
    "envelope", "flattened", "gisic", "normalise", "to_air", "to_vacuum", "velocity",
]  # fmt: skip

LIGHT = constants.speed_of_light / 1000  # [km/s]
STEP = paper.WAVELENGTH[1] - paper.WAVELENGTH[0]  # [Angstrom]
N_MARGIN = round(paper.MARGIN / STEP)  # [pixel]
WAVE = paper.WINDOW[0] - paper.MARGIN + STEP * np.arange(paper.N_PIXELS + 2 * N_MARGIN)  # window and margin
WINDOW = slice(N_MARGIN, N_MARGIN + paper.N_PIXELS)  # of WAVE
SIGMA_TO_FWHM = 2.3548

# GISIC's own defaults; the paper names the method and no parameter
SMOOTHING = 30  # [pixel] sigma of the Gaussian
SEGMENT = 30  # [Angstrom] about each point, and [pixel] at both ends
PERCENTILES = 70, 98  # of the flux in a segment: continuum, and its upper limit
SPLINE = 5.0  # smoothing of the spline, for flux about 1

MAX_VELOCITY = 300  # [km/s] searched to each side
VELOCITY_STEP = 0.3  # [km/s] of the cross-correlation, less than a pixel
BROADEST = 200  # [km/s] sigma of the smoothing that is subtracted: continuum, blaze and bands do not count
PEAK = 60  # [km/s] to each side of a peak that belong to it
LOWEST, CONTRAST = 0.4, 5.0  # of a peak: its height, and that in standard deviations of the correlation elsewhere
DWARFS = (2500, 5.2), (2900, 5.1), (3300, 4.9), (3700, 4.8), (4200, 4.7)  # Teff [K] and log g
TEMPLATE_NODES = [(*dwarf, 0.0, vsini) for dwarf in DWARFS for vsini in (2, 5, 10, 15, 25)]  # solar; v sin i [km/s]
ATOMIC_TEFF = 3500  # [K] above which atoms rule the window
SHORTEST = 15  # [Angstrom] of a template that there must be to correlate with


# ---------------------------------------------------------------- wavelengths
def to_air(wave):
    """Vacuum wavelengths in standard air [Angstrom], above 2000 Angstrom (Ciddor 1996, Appl. Opt. 35, 1566)."""
    return wave / refraction(wave)


def to_vacuum(wave):
    """Wavelengths in standard air in vacuum [Angstrom]; the inverse of `to_air` to 1e-9 Angstrom."""
    vacuum = wave
    for _ in range(3):
        vacuum = wave * refraction(vacuum)
    return vacuum


def refraction(wave):
    """Refractive index of standard air at a wavelength in vacuum [Angstrom]."""
    wavenumber2 = (1e4 / np.asarray(wave, float)) ** 2  # [1/micron^2]
    return 1 + 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2)


def degrade(flux, resolving_power, target):
    """Flux as a spectrograph of lower resolving power would see it.

    Parameters
    ----------
    flux : ndarray of shape (..., n_pixels)
        On `WAVE` or its window. Beyond its ends it is taken as constant, which touches the outermost pixels.
    resolving_power, target : float
        What the flux has, and what it shall have.

    Returns
    -------
    ndarray of the same shape; the same flux if `target` is not lower
    """
    if target >= resolving_power:
        return flux
    fwhm = np.mean(paper.WINDOW) * np.sqrt(target**-2 - resolving_power**-2)
    return ndimage.gaussian_filter1d(flux, fwhm / SIGMA_TO_FWHM / STEP, axis=-1, mode="nearest")


# ---------------------------------------------------------------- continuum
def envelope(flux, degree=2):
    """Polynomial through the 95th percentiles of segments of 5 Angstrom, of the flux averaged over 0.1 Angstrom.

    Parameters
    ----------
    flux : ndarray of shape (..., n_pixels)
        0.01 Angstrom a pixel.
    degree : int

    Returns
    -------
    ndarray of the same shape
    """
    n_average = 10
    n_segments = max((flux.shape[-1] - 1) // N_MARGIN, degree + 1)
    length = (flux.shape[-1] - 1) // n_segments // n_average * n_average
    segments = flux[..., : n_segments * length].reshape(flux.shape[:-1] + (n_segments, -1, n_average)).mean(axis=-1)
    rank = int(0.95 * segments.shape[-1])
    upper = np.partition(segments, rank, axis=-1)[..., rank]
    centres = (np.arange(n_segments) + 0.5) / ((flux.shape[-1] - 1) / length) * 2 - 1
    pixels = np.linspace(-1, 1, flux.shape[-1])
    fit = np.vander(pixels, degree + 1) @ np.linalg.pinv(np.vander(centres, degree + 1))
    return upper @ fit.T


def flattened(flux):
    """Flux without the blaze: twice divided by a cubic envelope, which follows what GISIC's broad segments cannot.

    Alone, GISIC leaves 6 to 10 % rms of a blaze that falls by half or more over the window; after this 0.3 to 0.7 %.
    """
    for _ in range(2):
        flux = flux / envelope(flux, degree=3)
    return flux


def gisic(wave, flux):
    """Continuum by Gaussian Inflection Spline Interpolation: the algorithm of GISIC 2.0.5 (D. D. Whitten 2020).

    The flux is smoothed; where it curves down between two inflection points, the place of the strongest curvature is
    the centre of a segment. The flux of a segment's continuum is the median between two of its percentiles, raised
    towards the upper one the more the flux in it varies. A smoothing spline joins the segments and both ends.

    Parameters
    ----------
    wave : ndarray of shape (n_pixels,)
        [Angstrom], ascending.
    flux : ndarray of shape (n_pixels,)
        Positive, no NaN. The smoothing of the spline depends on its unit: scale it to about 1, and the spline is one
        cubic; at a hundred times that it runs through every point and swings by 10 % between them.

    Returns
    -------
    ndarray of shape (n_pixels,)
    """
    curvature = np.gradient(np.gradient(ndimage.gaussian_filter1d(flux, SMOOTHING)))
    begins = np.flatnonzero((curvature[:-1] > 0) & (curvature[1:] < 0)) + 1
    ends = np.flatnonzero((curvature[:-1] < 0) & (curvature[1:] > 0)) + 1
    ends = ends[ends > begins[0]] if len(begins) else ends[:0]
    centres = wave[[begin + curvature[begin:end].argmin() for begin, end in zip(begins, ends)]]
    firsts = np.searchsorted(wave, centres - SEGMENT // 2, "left")
    lasts = np.searchsorted(wave, centres + SEGMENT // 2, "right")
    middles = [_median(wave[first:last]) for first, last in zip(firsts, lasts)]
    x = np.r_[wave[0], middles, wave[-1]]
    order = np.argsort(flux)
    bounds = zip(np.r_[0, firsts, len(flux) - SEGMENT], np.r_[SEGMENT, lasts, len(flux)])
    statistics = [_segment(flux[order[(order >= first) & (order < last)]]) for first, last in bounds]
    variation, level, upper = np.transpose(statistics)
    relative = (variation - variation.min()) / max(np.ptp(variation), np.finfo(float).tiny)
    spline = interpolate.splrep(x, level + relative * (upper - level), k=min(3, len(x) - 1), s=SPLINE)
    return interpolate.splev(wave, spline)


def _segment(ordered):
    """Relative variation, continuum and its upper limit of a segment, given its flux in ascending order."""
    places = np.array(PERCENTILES) / 100 * (len(ordered) - 1)
    below = places.astype(int)
    low, high = ordered[below] + (places - below) * (ordered[np.minimum(below + 1, len(ordered) - 1)] - ordered[below])
    between = ordered[np.searchsorted(ordered, low) : np.searchsorted(ordered, high, "right")]
    middle = _median(ordered)
    deviation = np.abs(ordered - middle)
    half = len(ordered) // 2
    deviation.partition((half - 1, half))
    return _median(deviation) / middle, _median(between), high


def _median(ordered):
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


CONTINUA = {  # by the name that provenance.json has for them
    "gisic": lambda flux: gisic(WAVE[0] + STEP * np.arange(flux.shape[-1]), flux / np.median(flux)) * np.median(flux),
    "envelope": envelope,
}


def normalise(flux, continuum="gisic"):
    """Divide by the pseudo-continuum.

    Parameters
    ----------
    flux : ndarray of shape (n_pixels,)
        In steps of 0.01 Angstrom, as `WAVE` has; positive, no NaN.
    continuum : {"gisic", "envelope"}
        The paper's way, and that of the simulation.

    Returns
    -------
    ndarray of shape (n_pixels,)
    """
    flat = flattened(flux)
    return flat / CONTINUA[continuum](flat)


def aligned(flux, template, covered):
    """Normalised flux whose cubic envelope is that of a template, so that a star looks alike behind any blaze.

    `flattened` takes the blaze for a cubic and, with it, what the star's own lines add to the shape of the envelope.
    The template never had a blaze: where it was divided by its continuum once, as simulated ones are, it has that shape
    still; where it was flattened too (phoenix_grid.py), only what is left of the star's blaze goes. Envelopes, and not
    the flux itself, are compared, as lines that the template has not must not lift the star.

    Parameters
    ----------
    flux, template : ndarray of shape (3501,)
        Normalised, at rest, at one resolution.
    covered : ndarray of shape (3501,), bool
        Where there is flux, and not a bridge: elsewhere the template stands for it, at the nearest level of the flux.

    Returns
    -------
    flux, factor : ndarray of shape (3501,)
        And what it was multiplied by.
    """
    levels = [ndimage.uniform_filter1d(each[covered], N_MARGIN, mode="nearest") for each in (flux, template)]
    level = np.interp(paper.WAVELENGTH, paper.WAVELENGTH[covered], levels[0] / levels[1])
    factor = envelope(template, degree=3) / envelope(np.where(covered, flux, template * level), degree=3)
    return flux * factor, factor


# ---------------------------------------------------------------- velocities
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


def velocity(wave, flux, templates):
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
                     for template in templates.flux])  # fmt: skip
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
    )  # fmt: skip


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
