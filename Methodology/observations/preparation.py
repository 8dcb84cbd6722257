"""One observed spectrum as one row of carmf_norm.npy: bad pixels bridged, at rest, at one resolution, normalised.

In this order, where the paper normalises first: the flux is interpolated onto 0.01 Angstrom at rest and then divided by
its continuum, so that GISIC, which counts pixels, smooths every instrument's spectra and the synthetic ones alike.
"""
from dataclasses import dataclass, replace

import msgspec
import numpy as np

import paper
from observations import likeness
from spectra import dataset, star_tables
from spectra.continuum import aligned, flattened, normalise
from spectra.transforms import LIGHT, N_MARGIN, STEP, WAVE, WINDOW, degrade, to_air, to_vacuum
from spectra.velocity import Templates, measure_velocity
from workflow.files import BadInput, UnitFailed

COSMIC = 6  # standard deviations above the continuum, of which
CONTINUUM_ERROR = 0.02  # is the part that is not noise
FILLED = 100  # times the median flux and more is no flux, but what fills up bad pixels
SHORTEST_ORDER = 5.0  # [Angstrom] of the window and its margin that an order must have to count
# Water lines seen in single exposures in the window, observer's frame, vacuum [Angstrom], and their half width
TELLURIC, TELLURIC_WIDTH = (8805.83, 8814.1, 8822.6, 8833.7), 0.1
KINDS = (  # of bad pixels
    "not above zero", "flagged or a filling value", "above the continuum, as cosmic hits and emission lines are")
AIR_AS_VACUUM = LIGHT * (paper.WINDOW[0] / to_air(paper.WINDOW[0]) - 1)  # [km/s]


class Duller(UnitFailed):
    """A spectrum of a lower resolving power than what others are prepared to; `power` is its own."""

    def __init__(self, message, power):
        super().__init__(message, power)
        self.power = power

    def __str__(self):
        return self.args[0]


@dataclass(frozen=True)
class Settings:
    """How to prepare spectra, all of them alike."""

    target: float = paper.RESOLVING_POWER  # resolving power of the result
    resolving_power: float = np.nan  # of the instrument, for files that do not state it
    continuum: str = "gisic"  # one of preparation.CONTINUA
    max_bad: float = 0.03  # share of the window that may be bridged
    telluric: bool = False  # whether lines of water count as bad


@dataclass(frozen=True)
class Star:
    """A prepared spectrum, what there is to say of it, and what its page shows."""

    flux: np.ndarray  # (3501,) normalised, at rest, on the paper's grid
    record: dict  # of stars.csv, but for the name
    raw: np.ndarray  # (2, 4501) flux and continuum on WAVE, in units of the median flux
    template: int
    lags: np.ndarray  # [km/s]
    correlation: np.ndarray


def prepare(spectrum, templates, settings):
    """Prepare one spectrum: a Star.

    Parameters
    ----------
    spectrum : orders.Spectrum
    templates : velocity.Templates
        At the resolving power `settings.target`.
    settings : Settings
    """
    power = resolving_power(spectrum, settings)
    orders, counts = zip(*(_clean(order, spectrum.observation, settings) for order in spectrum.orders))
    orders = [order for order in orders if len(order.wave) > 50 and np.ptp(order.wave) > SHORTEST_ORDER]
    if not orders:
        raise UnitFailed(f"has no good pixels from {paper.WINDOW[0]:g} to {paper.WINDOW[1]:g} Angstrom")
    grid, flat = _flat(orders)
    try:
        velocity = measure_velocity(grid, flat, templates, _telluric(grid, power, spectrum.observation))
    except ValueError:
        raise UnitFailed(f"covers {grid[0]:.1f} to {grid[-1]:.1f} Angstrom, too little of {paper.WINDOW[0]:g} to "
                         f"{paper.WINDOW[1]:g} to find its velocity") from None
    if velocity.missed:
        raise UnitFailed(velocity.missed)
    flux, covered, raw, parts = _at_rest(orders, velocity.rv, power, settings)
    bad = 1 - covered[WINDOW].mean()
    if bad > settings.max_bad:
        raise UnitFailed(_why_bad(covered, bad, settings.max_bad, np.sum(counts, axis=0)))
    flux, factor = aligned(flux[WINDOW], templates.flux[velocity.template], covered[WINDOW])
    raw[1] /= np.pad(factor, N_MARGIN, mode="reflect", reflect_type="odd")  # its slope goes on
    flux = flux.astype(np.float32)
    low, high = dataset.FLUX_RANGE
    if not ((flux > low) & (flux < high)).all():
        raise UnitFailed(f"leaves the range of normalised flux, {low:g} to {high:g}: its continuum was not found")
    seen = covered[WINDOW] & ~_telluric(paper.WAVELENGTH * (1 + velocity.rv / LIGHT), power, spectrum.observation)
    pixels = [np.median(np.diff(order.wave)) for order in orders]
    line_power = likeness.line_power(flux, seen, velocity, templates, settings.target)
    differ = likeness.two_powers(parts, templates.flux[velocity.template], settings.target)
    words = likeness.flags(flux, seen, velocity, templates, pixels, power, line_power / settings.target, differ,
                           spectrum.observation)
    record = {**_record(spectrum, velocity, orders), "bad": round(bad, 4), "pixel": round(float(np.median(pixels)), 5),
              "bridged": star_tables.ranges(~covered[WINDOW]), "resolving_power": round(power),
              "line_power": round(line_power, -2), "odd": " ".join(words)}
    return Star(flux, record, raw.astype(np.float32), velocity.template, velocity.lags, velocity.correlation)


def load_templates(synthetic):
    """Templates, provenance and continuum (one of `continuum.CONTINUA`) of a folder of synthetic spectra."""
    data = dataset.Dataset(synthetic)
    data.check_synthetic()
    flux_ph, labels_ph = data.flux_ph, data.labels_ph
    if flux_ph.shape[1] != paper.N_PIXELS:
        raise BadInput(f"{synthetic} has spectra of {flux_ph.shape[1]} pixels, not the {paper.N_PIXELS} of the paper's "
                       "grid: choose another --synthetic")
    provenance = data.provenance
    return Templates.of(flux_ph, labels_ph), provenance, continuum_of(provenance)


def continuum_of(provenance):
    """What the synthetic spectra in a folder were divided by, as its provenance says, else as their kind is."""
    if provenance.continuum is msgspec.UNSET:
        return "envelope" if provenance.spectra == "simulated" else "gisic"
    return provenance.continuum


def resolving_power(spectrum, settings):
    """Resolving power of the instrument: as the settings say, else the file."""
    power = settings.resolving_power
    if np.isnan(power):
        power = spectrum.observation.resolving_power
    if np.isnan(power):
        raise UnitFailed("does not say its resolving power: give it with --resolution")
    if power < settings.target:
        raise Duller(f"has a resolving power of {power:.0f}, less than the {settings.target:.0f} of the networks' "
                     "synthetic set: src_files/prepare_spectra.py degrades that set, for the four acts to make "
                     "networks of it", power)
    return power


# ---------------------------------------------------------------- pixels
def _clean(order, observation, settings):
    """The good pixels of an order, in vacuum, its errors filled in; and how many are bad of each kind in `KINDS`."""
    wave = to_vacuum(order.wave) if observation.medium == "air" else order.wave
    dark = ~(np.isfinite(order.flux) & (order.flux > 0))
    _refuse_constant(order.flux[~dark])
    filled = order.flux > FILLED * np.median(order.flux[~dark]) if (~dark).any() else dark
    flagged = (order.bad | filled | ~((order.error > 0) | np.isnan(order.error))) & ~dark
    if settings.telluric and observation.frame == "observer":
        flagged |= _near_telluric(wave, TELLURIC_WIDTH)
    good = ~(dark | flagged)
    cosmic = np.zeros_like(good)
    if good.sum() > 50 and np.ptp(wave[good]) > SHORTEST_ORDER:
        continuum = _continuum(wave[good], order.flux[good])
        relative = order.flux[good] / continuum
        error = np.where(np.isfinite(order.error[good]), order.error[good] / continuum, _scatter(relative))
        high = relative > 1 + COSMIC * np.hypot(error, CONTINUUM_ERROR)
        cosmic[good] = np.convolve(high, np.ones(3), "same") > 0  # with its neighbours
        order = replace(order, error=np.where(np.isnan(order.error), _scatter(relative) * np.median(continuum),
                                              order.error))
    keep = good & ~cosmic
    cleaned = replace(order, wave=wave[keep], flux=order.flux[keep], error=order.error[keep], bad=order.bad[keep])
    return cleaned, (dark.sum(), flagged.sum(), cosmic.sum())


def _near_telluric(wave, width):
    return (np.abs(wave[:, None] - TELLURIC) < width).any(axis=1)


def _telluric(wave, power, observation):
    """Pixels in lines of water as wide as the instrument makes them, where the frame may be the observer's."""
    if observation.frame == "barycentre":
        return np.zeros(len(wave), bool)
    return _near_telluric(wave, TELLURIC_WIDTH + np.mean(paper.WINDOW) / power)


def _refuse_constant(flux):
    run = dataset.longest_run(len(flux))
    if len(flux) > run and np.convolve(np.diff(flux) == 0, np.ones(run - 1), "valid").max() > run - 1.5:
        raise UnitFailed(f"has the same flux in {run} pixels in a row or more: saturated, or a gap that was filled")


def _scatter(flux):
    """Noise of a pixel from its neighbours, lines and all (DER_SNR; Stoehr et al. 2008, ASPC 394, 505)."""
    return 1.482602 / np.sqrt(6) * np.median(np.abs(2 * flux[2:-2] - flux[:-4] - flux[4:]))


def _continuum(wave, flux):
    """Blaze and continuum of an order at its own pixels, as `continuum.flattened` takes them out."""
    grid = np.arange(wave[0], wave[-1], STEP)
    even = np.interp(grid, wave, flux)
    continuum = np.interp(wave, grid, even / flattened(even))
    if not (continuum > 0).all():
        raise UnitFailed("has a continuum that falls below zero: too noisy, or no spectrum of a star")
    return continuum


# ---------------------------------------------------------------- orders
def _flat(orders):
    """All orders as one spectrum without blaze, in the frame of the file: wavelength [Angstrom] and flux."""
    grid = np.arange(min(order.wave[0] for order in orders), max(order.wave[-1] for order in orders), STEP)
    parts = []
    for order in orders:
        continuum = _continuum(order.wave, order.flux)
        inside = (grid >= order.wave[0]) & (grid <= order.wave[-1])
        parts.append((inside, *(np.interp(grid[inside], order.wave, array / continuum)
                                for array in (order.flux, order.error))))
    merged = _merged(len(grid), parts)
    known = np.isfinite(merged)
    return grid, np.interp(grid, grid[known], merged[known])


def _merged(n_pixels, parts):
    """Mean of what the orders say, weighted by inverse variance; `parts` are (pixels, flux, error) an order."""
    total, weights = np.zeros((2, n_pixels))
    for pixels, flux, error in parts:
        weight = 1 / np.maximum(error, 1e-9) ** 2
        total[pixels] += weight * flux
        weights[pixels] += weight
    return np.divide(total, weights, out=np.full(n_pixels, np.nan), where=weights > 0)


def _at_rest(orders, rv, power, settings):
    """Normalised flux on WAVE, where good pixels cover it, flux and continuum of the longest order, and all parts."""
    parts, raws = [], []
    covered = np.zeros(len(WAVE), bool)
    for order in orders:
        rest = order.wave / (1 + rv / LIGHT)
        first, last = np.searchsorted(WAVE, rest[[0, -1]])
        if last - first < SHORTEST_ORDER / STEP:
            continue
        pixels = slice(first, last)
        flux = degrade(np.interp(WAVE[pixels], rest, order.flux), power, settings.target)
        normalised = normalise(flux, settings.continuum)
        error = np.interp(WAVE[pixels], rest, order.error) * normalised / flux
        parts.append((pixels, normalised, error))
        after = np.clip(np.searchsorted(rest, WAVE), 1, len(rest) - 1)
        distance = np.minimum(np.abs(WAVE - rest[after - 1]), np.abs(WAVE - rest[after]))
        covered |= distance < 0.55 * np.median(np.diff(rest))
        raw = np.full((2, len(WAVE)), np.nan)
        raw[:, pixels] = np.array([flux, flux / normalised]) / np.median(flux)
        raws.append(raw)
    if not parts:
        return np.full(len(WAVE), np.nan), covered, np.full((2, len(WAVE)), np.nan), parts
    flux = _merged(len(WAVE), parts)
    known = np.isfinite(flux)
    longest = max(raws, key=lambda raw: np.isfinite(raw[0]).sum())
    return np.interp(WAVE, WAVE[known], flux[known]), covered, longest, parts


def _why_bad(covered, bad, limit, counts):
    """The reason why too much of the window is missing: its ends, a gap, or single pixels."""
    pixels = np.flatnonzero(covered[WINDOW])
    low, high = paper.WINDOW
    if len(pixels) == 0:
        return f"does not cover {low:g} to {high:g} Angstrom once at rest"
    first, last = paper.WAVELENGTH[pixels[[0, -1]]]
    if first - low > limit * (high - low) / 2 or high - last > limit * (high - low) / 2:
        return (f"covers {first:.1f} to {last:.1f} Angstrom of {low:g} to {high:g} once at rest: --max-bad "
                f"{np.ceil(100 * bad):.0f} would have the rest bridged")
    gaps = np.diff(pixels)
    if gaps.max() > limit * len(paper.WAVELENGTH) / 2:
        at = paper.WAVELENGTH[pixels[gaps.argmax()]]
        return f"has a gap of {gaps.max() * STEP:.1f} Angstrom at {at:.1f} (at rest)"
    kinds = ", ".join(f"{count} {kind}" for count, kind in zip(counts, KINDS) if count)
    return f"has {100 * bad:.1f} % bad pixels in the window, more than {100 * limit:g} % ({kinds})"


# ---------------------------------------------------------------- what is written down
def _record(spectrum, velocity, orders):
    """Columns of stars.csv. The window cannot tell air from vacuum: they differ by one velocity, all over it."""
    observation = spectrum.observation
    berv = observation.berv if observation.frame == "observer" else np.nan
    rv = velocity.rv if np.isnan(berv) else velocity.rv + berv + velocity.rv * berv / LIGHT
    medium = observation.medium
    if not medium:
        in_air = rv + AIR_AS_VACUUM + rv * AIR_AS_VACUUM / LIGHT
        medium, rv = ("vacuum?", rv) if abs(rv) <= abs(in_air) else ("air?", in_air)
    inside = [(order.wave > paper.WINDOW[0]) & (order.wave < paper.WINDOW[1]) for order in orders]
    snr = max(np.median(order.flux[part] / order.error[part]) for order, part in zip(orders, inside) if part.any())
    return {
        "ra": observation.ra, "dec": observation.dec, "snr": round(float(snr), 1), "rv": round(float(rv), 3),
        "shift": round(float(velocity.rv), 3),
        "e_rv": round(float(velocity.error), 3), "berv": round(float(berv), 3),
        "frame": observation.frame or "unknown", "medium": medium, "peak": round(float(velocity.height), 3),
        "contrast": round(float(velocity.contrast), 1), "depth": round(float(velocity.depth), 2),
        "share": round(float(velocity.share), 1),
    }
