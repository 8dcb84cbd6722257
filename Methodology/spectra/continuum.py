"""The pseudo-continuum that observed and synthetic spectra are divided by alike (Sect. 2)."""
import numpy as np
from scipy import interpolate, ndimage

import paper
from spectra.transforms import N_MARGIN, STEP, WAVE

# GISIC's own defaults; the paper names the method and no parameter
SMOOTHING = 30  # [pixel] sigma of the Gaussian
SEGMENT = 30  # [Angstrom] about each point, and [pixel] at both ends
PERCENTILES = 70, 98  # of the flux in a segment: continuum, and its upper limit
SPLINE = 5.0  # smoothing of the spline, for flux about 1


def upper_levels(flux, n_least):
    """95th percentiles of flux averaged over 0.1 Angstrom, in segments of 5 Angstrom, or shorter lest they be too few.

    Flux (..., n_pixels) in steps of 0.01 Angstrom gives levels (..., n_segments), and the centres of the segments on a
    scale from -1, the first pixel, to 1, the last. `n_least` segments are enough.
    """
    n_segments, length, n_average, rank, centres = segments(flux.shape[-1], n_least)
    averages = flux[..., : n_segments * length].reshape(flux.shape[:-1] + (n_segments, -1, n_average)).mean(axis=-1)
    return np.partition(averages, rank, axis=-1)[..., rank], centres


def segments(n_pixels, n_least):
    """Number and length of the segments of `upper_levels`, pixels in an average, rank of the percentile, centres."""
    last = n_pixels - 1
    n_segments = min(max(last // N_MARGIN, n_least), last + 1)
    n_average = min(10, max(last // n_segments, 1))
    length = max(last // n_segments, 1) // n_average * n_average
    rank = int(0.95 * (length // n_average))
    return n_segments, length, n_average, rank, (np.arange(n_segments) + 0.5) / (last / length) * 2 - 1


def envelope(flux, degree=2):
    """Pseudo-continuum (..., n_pixels): a polynomial through the `upper_levels` of flux (..., n_pixels)."""
    levels, centres = upper_levels(flux, degree + 1)
    pixels = np.linspace(-1, 1, flux.shape[-1])
    fit = np.vander(pixels, degree + 1) @ np.linalg.pinv(np.vander(centres, degree + 1))
    return levels @ fit.T


def flattened(flux):
    """Flux (..., n_pixels) without the blaze: twice divided by a cubic envelope, which follows what GISIC cannot."""
    for _ in range(2):  # of a blaze that falls by half, GISIC alone leaves 6 to 10 % rms, after this 0.3 to 0.7 %
        flux = flux / envelope(flux, degree=3)
    return flux


def gisic(wave, flux):
    """Continuum by Gaussian Inflection Spline Interpolation: the algorithm of GISIC 2.0.5 (D. D. Whitten 2020).

    The flux is smoothed; where it curves down between two inflection points, the place of the strongest curvature is
    the centre of a segment. The flux of a segment's continuum is the median between two of its percentiles, raised
    towards the upper one the more the flux in it varies. A smoothing spline joins the segments and both ends: one cubic
    if flux is about 1, in a unit a hundred times smaller it swings by 10 % between them. Wavelengths [Angstrom] ascend,
    flux is positive, both (n_pixels,).
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


CONTINUA = {  # the paper's way, and that of the simulation, by the name that provenance.json has for them
    "gisic": lambda flux: gisic(WAVE[0] + STEP * np.arange(flux.shape[-1]), flux / np.median(flux)) * np.median(flux),
    "envelope": envelope,
}


def normalise(flux, continuum="gisic"):
    """Flux (n_pixels,), positive, in steps of 0.01 Angstrom, divided by its pseudo-continuum, one of `CONTINUA`."""
    flat = flattened(flux)
    return flat / CONTINUA[continuum](flat)


def aligned(flux, template, covered):
    """Normalised flux whose cubic envelope is that of a template, so that a star looks alike behind any blaze.

    `flattened` takes away, with the blaze, what the star's own lines add to the shape of the envelope. A template that
    was divided by its continuum once, as simulated ones are, has that shape still; of one that was flattened too
    (phoenix_grid.py), only what is left of the star's blaze goes. Envelopes, and not the flux itself, are compared, as
    lines that the template has not must not lift the star.

    All arrays are on the paper's grid (3501,), flux and template normalised, at rest, at one resolution. Where there is
    no flux, not `covered`, the template stands for it at the nearest level. Returns the flux and its factor.
    """
    smooth_flux, smooth_template = (ndimage.uniform_filter1d(spectrum[covered], N_MARGIN, mode="nearest")
                                    for spectrum in (flux, template))
    level = np.interp(paper.WAVELENGTH, paper.WAVELENGTH[covered], smooth_flux / smooth_template)
    factor = envelope(template, degree=3) / envelope(np.where(covered, flux, template * level), degree=3)
    return flux * factor, factor
