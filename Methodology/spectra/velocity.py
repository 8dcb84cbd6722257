"""Velocities of spectra against templates, in pixels and in km/s."""
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import fft, ndimage, signal

import paper
from spectra.transforms import LIGHT
from workflow.files import chunks, take

MAX_VELOCITY = 300  # [km/s] searched to each side
VELOCITY_STEP = 0.3  # [km/s] of the cross-correlation, less than a pixel
BROADEST = 200  # [km/s] sigma of the smoothing that is subtracted: continuum, blaze and bands do not count
PEAK = 60  # [km/s] to each side of a peak that belong to it
# Limits of a peak: its height, that without any one fifth of a window seen whole, and in deviations of the rest. A
# higher limit of the last leaves out late stars that rotate, and none of no star: their peaks are too low
LOWEST, REMAINING, CONTRAST = 0.4, 0.3, 2.5
N_PARTS, STAYS = 5, 15  # parts of the window left out in turn, and [km/s] within which the peak must stay
SHALLOWEST = 0.5  # depth of the star's lines in units of the template's; below 0.5 are early types and poor giants
VAGUEST = 5.0  # [km/s] of noise in the velocity, where all of the window is seen
SEEN, SHARE = 0.25, 0.6  # depth in a fifth of the window with lines like the template's; the share there must be of it
DWARFS = (2500, 5.2), (2900, 5.1), (3300, 4.9), (3700, 4.8), (4200, 4.7)  # Teff [K] and log g
TEMPLATE_NODES = [(*dwarf, 0.0, vsini) for dwarf in DWARFS for vsini in (2, 5, 10, 15, 25)]  # solar; v sin i [km/s]
NODE_SCALE = np.array([100, 0.3, 0.3, 1.0])  # what counts as equally far from a node
ATOMIC_TEFF = 3500  # [K] above which atoms rule the window
# Of the window; [km/s] searched about a velocity that was found without all of it
MOST, NEAR = 0.85, 90
SHORTEST = 15  # [Angstrom] of a template that there must be to correlate with
# Heights of a warm template's peak, in units of the best one's, from which it counts for the velocity, and alone does
WARM = 0.65, 0.8
# Pieces of the window, of 3.5 Angstrom, as some line is in each and hardly one in two; what the scatter of velocities
# is of what they say; of the window's information the least that all but one of them have
N_PIECES, SCATTER, KEPT = 10, 1.1, 0.1


def cross_correlation(flux, template):
    """Correlation of a template (n_template,) with each part of flux (n_pixels,) as long; 0 where one is constant."""
    n = len(template)
    template = template - template.mean()
    flux = flux - flux.mean()
    sums = np.cumsum([np.r_[0, flux], np.r_[0, flux**2]], axis=1)
    mean, square = (sums[:, n:] - sums[:, :-n]) / n
    product = signal.correlate(flux, template, "valid", method="fft") / n
    return product / (max(template.std(), 1e-6) * np.sqrt(np.maximum(square - mean**2, 1e-12)))


# ---------------------------------------------------------------- in pixels, on the grid of the synthetic spectra
def lag(flux, template):
    """Pixels by which spectra (n_spectra, n_pixels) are shifted against a template (n_pixels,), positive to the red."""
    n_pixels = len(template)
    reach = int(paper.LAG_SEARCHED * n_pixels)
    window = template[reach : n_pixels - reach]  # all shifts compare equally many pixels
    lags = np.array(sorted(range(-reach, reach + 1), key=abs))  # of equals, argmax takes the smallest
    return lags[[cross_correlation(row, window)[lags + reach].argmax() for row in np.asarray(flux, float)]]


def mean_flux(flux, rows):
    """Mean of some spectra, shape (n_pixels,), without more than a few of them in memory."""
    total = np.zeros(flux.shape[1])
    for chunk in chunks(rows):
        total += take(flux, chunk).sum(axis=0, dtype=float)
    return total / len(rows)


def check_lag(flux_ph, flux_carm, stars):
    """Compare the wavelengths of the observed spectra with those of the synthetic ones, the `good` rows of `stars`.

    Returns a table of `karmn` and `lag` [pixel] against the mean synthetic spectrum, the lag of the mean observed
    spectrum, and what to print where this, or that of single stars from it, is larger than paper.py allows.
    """
    good = np.flatnonzero(stars["good"])
    template = mean_flux(flux_ph, np.arange(len(flux_ph)))
    mean_lag = int(lag([mean_flux(flux_carm, good)], template)[0])
    lags = pd.DataFrame({"karmn": stars["karmn"], "lag": np.nan})
    lags.loc[good, "lag"] = lag(take(flux_carm, good), template)
    warnings = []
    if abs(mean_lag) > paper.LAG_MEAN:
        warnings.append(f"warning: the observed spectra are shifted by {mean_lag:+d} pixels against the synthetic "
                        "ones: use vacuum wavelengths at rest (in the paper's pixels air wavelengths give -242, 10 "
                        "km/s give +29)")
    astray = lags[(lags["lag"] - mean_lag).abs() > paper.LAG_STAR]
    if len(astray):
        shifts = ", ".join(f"{star.karmn} by {star.lag:+.0f}" for star in astray[:5].itertuples())
        warnings.append(f"warning: {len(astray)} of the observed spectra are shifted otherwise than their mean, "
                        f"{shifts}{', ...' * (len(astray) > 5)} pixels instead of {mean_lag:+d}: shift each to rest by "
                        "its own velocity")
    return lags, mean_lag, warnings


# ---------------------------------------------------------------- in km/s, on any grid
@dataclass(frozen=True)
class Templates:
    """Spectra at rest to find velocities with, normalised, on the paper's grid."""

    flux: np.ndarray  # (n_templates, 3501)
    # (n_templates,), bool: warm ones, whose lines are atoms': where those lie is known from the laboratory, while lists
    # of molecular lines are off by km/s in this window. The velocity is theirs where the star has such lines.
    atomic: np.ndarray
    labels: np.ndarray = None  # (n_templates, 4): Teff [K], log g [dex], [M/H] [dex], v sin i [km/s]

    @classmethod
    def of(cls, flux_ph, labels_ph):
        """The spectra of a synthetic set that come next to the nodes of `TEMPLATE_NODES`."""
        distances = (np.abs((labels_ph - node) / NODE_SCALE).sum(axis=1) for node in TEMPLATE_NODES)
        rows = np.unique([distance.argmin() for distance in distances])
        teff = labels_ph[rows, paper.PARAMETERS["teff"].column]
        return cls(np.array(flux_ph[rows], float), teff >= min(ATOMIC_TEFF, teff.max()), np.array(labels_ph[rows]))


@dataclass(frozen=True)
class Velocity:
    """What the cross-correlation with templates says."""

    rv: float  # [km/s]
    error: float  # [km/s] of noise and of lines that are not as the template has them, alike for all stars or not
    noise: float  # [km/s], that of the best template alone
    height: float  # of the peak, 1 for equal spectra
    weakest: float  # height that is left where any one fifth of the window is left out
    contrast: float  # of the peak, in standard deviations of the correlation elsewhere
    depth: float  # of the star's lines in units of those of the template
    parts: np.ndarray  # (5,) the same in each fifth of the window
    second: float  # light of a second star in units of the first's, by the highest peak of what the templates leave
    second_contrast: float  # of that peak
    second_rv: float  # [km/s]
    seen: float  # part of the window that is seen at all velocities
    template: int  # which of them it was
    lags: np.ndarray  # [km/s]
    correlation: np.ndarray  # with that one

    @property
    def share(self):
        """Of the window, in fifths, where the star has lines like the template's."""
        return np.mean(self.parts >= SEEN)

    @property
    def missed(self):
        """The limit that this is no star like the templates by, in words; "" where it is one."""
        if abs(self.rv) > MAX_VELOCITY - 1:
            return (f"has its highest correlation with the synthetic spectra at {self.rv:+.0f} km/s, at the end of the "
                    "range searched: no M dwarf, or its wavelengths are off by more")
        if self.height < LOWEST or self.contrast < CONTRAST:
            return (f"has no peak in its cross-correlation with the synthetic spectra (height {self.height:.2f}, "
                    f"{self.contrast:.1f} standard deviations): no M dwarf, or its wavelengths are not as read")
        if self.depth < SHALLOWEST:
            return (f"has lines of {self.depth:.2f} of the depth that those of an M dwarf have, less than "
                    f"{SHALLOWEST:g}: no M dwarf, or much stray light")
        if self.weakest < REMAINING * self.seen or self.share < SHARE:
            return (f"correlates with the synthetic spectra in a part of the window alone (lines in {self.share:.0%} "
                    f"of it; height {self.weakest:.2f} without the fifth that it rests on): no M dwarf")
        if self.noise > VAGUEST / np.sqrt(self.seen):
            return f"has a velocity that is uncertain by {self.noise:.1f} km/s: no M dwarf, or too noisy"
        return ""


def correlations(flux, weights, templates, parts):
    """Correlation coefficients of templates with each part of a spectrum that is as long, and regression slopes.

    Flux and its weights are (n_pixels,), templates (n_templates, n), in the same steps, and the weights `parts` of
    their pixels (n_templates or 1, n); a weight of 0 counts for nothing. Results are (n_templates, n_pixels - n + 1).
    """
    n_lags, size = len(flux) - templates.shape[-1] + 1, fft.next_fast_len(len(flux), real=True)
    observed = fft.rfft([weights, weights * flux, weights * flux**2], size)
    ones, first, second = (fft.rfft(array, size).conj() for array in (parts, parts * templates, parts * templates**2))
    total, sum_flux, square_flux, sum_template, square_template, product = (
        fft.irfft(a * b, size)[..., :n_lags] for a, b in (
            (observed[0], ones), (observed[1], ones), (observed[2], ones), (observed[0], first), (observed[0], second),
            (observed[1], first)))
    total = np.maximum(total, 1)
    covariance = product - sum_flux * sum_template / total
    variance = np.maximum(square_template - sum_template**2 / total, 1e-9)
    return covariance / np.sqrt(variance * np.maximum(square_flux - sum_flux**2 / total, 1e-9)), covariance / variance


def measure_velocity(wave, flux, templates, ignored=None, searched=MAX_VELOCITY):
    """Velocity of a star against the best of several templates.

    What `PyAstronomy.pyasl.crosscorrRV` finds, but all velocities at once, and for each the correlation coefficient.

    Parameters
    ----------
    wave, flux : ndarray of shape (n_pixels,)
        Vacuum wavelength [Angstrom], ascending, and flux without the blaze.
    templates : Templates
    ignored : ndarray of shape (n_pixels,), bool, optional
        Pixels that count for nothing, as those of telluric lines.
    searched : float
        [km/s] to each side. Where some of the window is lost that way, the velocity is measured again about the one
        found; where less than MOST of it is seen, all but the peak itself is.

    Returns
    -------
    Velocity
        Positive where lines lie to the red. It is that of the best template, or of the warm one of highest correlation
        where that is nearly as high, or between the two. Its error is by how much it moves where a piece of the window
        is left out (a jackknife): lines that are wrong in the template move it as noise does, each by its own.
        ValueError says that less than 15 Angstrom of the window can be seen at all velocities.
    """
    step = VELOCITY_STEP / LIGHT
    reach = int(searched / VELOCITY_STEP)
    low = max(paper.WINDOW[0], wave[0] * np.exp(reach * step))
    high = min(paper.WINDOW[1], wave[-1] * np.exp(-reach * step))
    if high - low < SHORTEST:
        raise ValueError("too short to find a velocity")
    n = int(np.log(high / low) / step) + 1
    rest, seen = (low * np.exp(step * np.arange(*ends)) for ends in ((n,), (-reach, n + reach)))
    observed = _without_slopes(np.interp(seen, wave, flux))
    weights = np.ones(len(seen)) if ignored is None else 1.0 * (np.interp(seen, wave, ignored) < 0.5)
    lines = np.array([_without_slopes(np.interp(rest, paper.WAVELENGTH, template)) for template in templates.flux])
    lags = LIGHT * (np.exp(step * np.arange(-reach, reach + 1)) - 1)
    correlation, slope = correlations(observed, weights, lines, np.ones((1, n)))
    best, peak = np.unravel_index(correlation.argmax(), correlation.shape)
    beyond = np.abs(lags - lags[peak]) > PEAK
    near = np.where((np.abs(lags - lags[peak]) <= PEAK / 2) & templates.atomic[:, None], correlation, -1)
    warm, warm_peak = np.unravel_index(near.argmax(), near.shape)

    def measured(template, peak):
        part = slice(peak, peak + n)
        offset, height, curvature = _parabola(correlation[template], peak)
        noise = VELOCITY_STEP * _scatter(observed[part], weights[part], lines[template], height, curvature)
        moves = VELOCITY_STEP * _moves(observed[part], weights[part], lines[template])
        return np.array([LIGHT * (np.exp(step * (peak - reach + offset)) - 1), *moves]), noise

    (of_best, noise), (of_warm, _) = measured(best, peak), measured(warm, warm_peak)
    share = np.clip((correlation[warm, warm_peak] / correlation[best, peak] - WARM[0]) / (WARM[1] - WARM[0]), 0, 1)
    rv, *moves = of_best + share * (of_warm - of_best)
    height = correlation[best, peak]
    places = np.arange(n) * N_PARTS // n
    without = correlations(observed, weights, np.broadcast_to(lines[best], (N_PARTS, n)),
                           1.0 * (places != np.arange(N_PARTS)[:, None]))[0]
    part = slice(peak, peak + n)
    left = observed.copy()  # of a second star, whose lines are the star's own, whatever the templates lack
    root = np.sqrt(weights[part])
    left[part] -= np.linalg.lstsq((root * lines).T, root * observed[part], rcond=None)[0] @ lines
    correlation_left, slope_left = correlations(left, weights, observed[part][None], weights[part][None])
    own = np.flatnonzero(correlation[best] < height / 2)  # lags: a peak as broad as the lines is the star's own
    own = max(STAYS, 2 * np.abs(lags[own] - lags[peak]).min()) if len(own) else PEAK
    second = np.where(np.abs(lags - lags[peak]) > own, correlation_left[0], -1).argmax()
    velocity = Velocity(
        rv=rv, error=SCATTER * np.sqrt(N_PIECES - 1) * np.std(moves), noise=noise, height=height,
        weakest=without[:, np.abs(lags - lags[peak]) < STAYS].max(axis=1).min(),
        contrast=_contrast(correlation[best], peak, beyond), depth=slope[best, peak],
        parts=np.array([_slope(observed[part][places == k], lines[best][places == k], weights[part][places == k])
                        for k in range(N_PARTS)]),
        second=slope_left[0, second], second_contrast=_contrast(correlation_left[0], second, beyond),
        second_rv=lags[second], seen=(high - low) / np.ptp(paper.WINDOW),
        template=int(best), lags=lags, correlation=correlation[best],
    )
    if velocity.seen > 0.999 or searched < MAX_VELOCITY or abs(rv) > MAX_VELOCITY - 1:
        return velocity
    near = measure_velocity(wave / (1 + rv / LIGHT), flux, templates, ignored, NEAR)
    back = {name: getattr(near, name) * (1 + rv / LIGHT) + rv for name in ("rv", "second_rv")}
    if velocity.seen > MOST:
        return replace(velocity, rv=back["rv"], error=near.error)
    return replace(near, **back, contrast=velocity.contrast, lags=lags, correlation=velocity.correlation)


def _contrast(correlation, peak, elsewhere):
    return (correlation[peak] - correlation[elsewhere].mean()) / correlation[elsewhere].std()


def _slope(flux, template, weights):
    """Regression of a spectrum on a template; 0 where no pixel counts."""
    if not weights.any():
        return 0.0
    flux, template = (array - np.average(array, weights=weights) for array in (flux, template))
    return (weights * flux * template).sum() / max((weights * template**2).sum(), 1e-9)


def _moves(flux, weights, template):
    """By how much a peak moves [step] where each of N_PIECES of the window is left out, to first order."""
    flux, template = (array - np.average(array, weights=weights) for array in (flux, template))
    slope, derivative = _slope(flux, template, weights), np.gradient(template)
    first = np.arange(N_PIECES) * len(flux) // N_PIECES
    pulls, information = (np.add.reduceat(weights * array * derivative, first)
                          for array in (flux - slope * template, derivative))
    kept = np.maximum(information.sum() - information, KEPT * information.sum())
    return (pulls.sum() - pulls) / np.maximum(slope * kept, 1e-12)


def _scatter(flux, weights, template, height, curvature):
    """Standard deviation of the place of a peak [step].

    That of Zucker (2003, MNRAS 342, 1291, Eq. 20), which counts the mismatch of the template as noise, but for noise
    whose neighbours are alike: by the autocorrelation of what the template leaves, times that of its derivative.
    """
    flux, template = (array - np.average(array, weights=weights) for array in (flux, template))
    left = weights * (flux - _slope(flux, template, weights) * template)
    reach = PEAK / VELOCITY_STEP
    alike = [np.correlate(array, array[: -int(reach)], "valid") for array in (left, weights * np.gradient(template))]
    inflation = 1 + 2 * np.prod([array[1:] / max(array[0], 1e-12) for array in alike], axis=0).sum()
    n_seen = np.count_nonzero(weights)
    return np.sqrt(max(1 / height**2 - 1, 0) * abs(height) / max(curvature, 1e-12) / n_seen * max(inflation, 1))


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
