"""Columns of numbers as the orders of a spectrum: in Angstrom, ascending, whatever unit and direction they come in."""
import re
from dataclasses import dataclass, replace

import numpy as np

import paper
from observations import headers
from workflow.files import UnitFailed

# The window, its margin, 300 km/s and the difference between air and vacuum [Angstrom]: the rest is left
REGION = paper.WINDOW[0] - paper.MARGIN - 12, paper.WINDOW[1] + paper.MARGIN + 12

UNITS = {  # to Angstrom
    "Angstrom": lambda x: x, "nm": lambda x: 10 * x, "micron": lambda x: 1e4 * x, "m": lambda x: 1e10 * x,
    "log10": lambda x: 10 ** np.clip(x, 0, 9), "ln": lambda x: np.exp(np.clip(x, 0, 20)),
    "1/cm": lambda x: 1e8 / x,
}
ENOUGH = 50  # pixels near the window that a spectrum has more of
ORDER_STEP, ORDER_LENGTH = 20, 100  # [pixel] an order goes back at least, and has; less is disorder


@dataclass(frozen=True)
class Order:
    """A stretch of spectrum, ascending; `error` is NaN and `bad` is False where nothing is known."""

    wave: np.ndarray  # [Angstrom], in the medium and the frame of its file
    flux: np.ndarray
    error: np.ndarray
    bad: np.ndarray


@dataclass(frozen=True)
class Spectrum:
    """What a file holds near the window: its orders, what its header says, and how it was read."""

    orders: tuple
    observation: headers.Observation
    form: str
    unit: str
    coverage: tuple  # [Angstrom] of all the file


def from_arrays(wave, flux, error=None, unit="", medium="", name="", resolving_power=np.nan):
    """Orders of arrays, masked ones too; `medium` is "air", "vacuum" or, if unknown, empty."""
    columns = {"wave": wave, "flux": flux} | ({} if error is None else {"error": error})
    observation = headers.Observation(name=name, medium=medium, resolving_power=resolving_power)
    return from_columns(columns, unit, bool(unit), observation, "arrays")


def from_columns(columns, stated, forced, observation, form):
    """Orders of columns by role: a Spectrum.

    Roles are "wave", "flux" and, where known, "error", "variance" or "ivar", and "flag", not 0 where a pixel is bad:
    arrays (n_pixels,) or (n_orders, n_pixels), of any byte order, masked or not. `stated` is the unit of the
    wavelengths, or ""; if `forced`, it goes before what the numbers say.
    """
    arrays = {role: np.atleast_2d(np.ma.filled(np.ma.asarray(array).astype(float), np.nan))
              for role, array in columns.items()}
    shape = arrays["flux"].shape
    for role, array in arrays.items():
        if len(shape) > 2 or array.shape not in (shape, (1, shape[1])):
            raise UnitFailed(f"its {role} has the shape {array.shape}, its flux {shape}")
    wave, flux = np.broadcast_to(arrays["wave"], shape), arrays["flux"]
    error = arrays.get("error", np.full(shape, np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        if "error" not in arrays and "variance" in arrays:
            error = np.sqrt(arrays["variance"])
        elif "error" not in arrays and "ivar" in arrays:
            error = 1 / np.sqrt(arrays["ivar"])  # infinite: no weight, bad
    bad = np.nan_to_num(arrays.get("flag", np.zeros(shape)), nan=1) != 0
    unit = _unit(wave, stated, forced)
    conflict = f"its wavelengths are in {unit}, and not, as it says, in {stated}"
    if not forced and _known(stated) not in (None, unit):
        observation = replace(observation, conflicts=(*observation.conflicts, conflict))
    wave = _convert(wave, unit)
    rows = zip(*(np.broadcast_to(array, shape) for array in (wave, flux, error, bad | np.isinf(error))))
    pieces = [piece for row in rows for piece in _ascending(*row)]
    if not pieces:
        raise UnitFailed("has no wavelengths")
    coverage = min(piece[0][0] for piece in pieces), max(piece[0][-1] for piece in pieces)
    inside = [(piece[0] > REGION[0]) & (piece[0] < REGION[1]) for piece in pieces]
    orders = tuple(Order(*(array[part] for array in piece)) for piece, part in zip(pieces, inside)
                   if part.sum() > ENOUGH)
    if not any(order.wave[0] < paper.WINDOW[1] and order.wave[-1] > paper.WINDOW[0] for order in orders):
        raise UnitFailed(f"covers {coverage[0]:.1f} to {coverage[1]:.1f} Angstrom{_hint(arrays['wave'], unit)}, not "
                         f"{paper.WINDOW[0]:g} to {paper.WINDOW[1]:g}")
    return Spectrum(orders, observation, form, unit, coverage)


def _ascending(wave, flux, error, bad):
    """Split a row where it goes back, as orders one after the other do; turn round what descends."""
    known = np.isfinite(wave) & (wave > 0)
    wave, flux, error, bad = (array[known] for array in (wave, flux, error, bad))
    if len(wave) < 2:
        return []
    if np.median(np.diff(wave)) < 0:
        wave, flux, error, bad = (array[::-1] for array in (wave, flux, error, bad))
    steps = np.diff(wave)
    moves = np.flatnonzero(steps)  # between them, without what fills up an order's ends
    if not len(moves):
        return []
    inner = slice(moves[0], moves[-1] + 2)
    wave, flux, error, bad = (array[inner] for array in (wave, flux, error, bad))
    steps = np.diff(wave)
    if (steps == 0).any():
        raise UnitFailed(f"repeats wavelengths, {wave[:-1][steps == 0][0]:g} first ({(steps == 0).sum()} in all): "
                         "keep one row each")
    breaks = np.flatnonzero(steps < 0) + 1
    lengths = np.diff(np.r_[0, breaks, len(wave)])
    if len(breaks) and (steps.min() > -ORDER_STEP * np.median(steps) or lengths.min() < ORDER_LENGTH
                        or steps[breaks - 1].max() > -ORDER_STEP * np.median(steps)):
        raise UnitFailed("its wavelengths neither ascend nor descend: sort its rows")
    return list(zip(*(np.split(array, breaks) for array in (wave, flux, error, bad))))


def joined(spectra):
    """One spectrum of several of a file: the one that covers most, and the orders of others that cover more of it."""
    grid = np.arange(*REGION, 0.5)

    def covered(orders):
        return np.mean(np.any([(order.wave[0] <= grid) & (grid <= order.wave[-1]) for order in orders], axis=0))

    whole = max(spectra, key=lambda spectrum: covered(spectrum.orders))
    powers = {whole.observation.resolving_power}
    for spectrum in spectra:
        if covered(whole.orders + spectrum.orders) > covered(whole.orders):
            whole = replace(whole, orders=whole.orders + spectrum.orders)
            powers.add(spectrum.observation.resolving_power)
    powers = sorted(power for power in powers if power == power)
    if len(powers) > 1:
        said = f"its orders have resolving powers of {powers[0]:.0f} to {powers[-1]:.0f}: the lowest is taken for all"
        whole = replace(whole, observation=replace(whole.observation, resolving_power=powers[0],
                                                   conflicts=(*whole.observation.conflicts, said)))
    return whole


def are_wavelengths(array):
    """Whether the rows of an array ascend, or descend, and through the window in one of `UNITS`."""
    try:
        rows = [row[np.isfinite(row) & (row > 0)] for row in np.atleast_2d(np.asarray(array, float))]
    except (TypeError, ValueError):
        return False
    steps = [np.trim_zeros(np.diff(row)) for row in rows if len(row) > ENOUGH]
    return bool(steps and all(len(step) and ((step > 0).all() or (step < 0).all()) for step in steps)
                and _fitting(np.concatenate(rows)))


def _convert(wave, unit):
    """Wavelengths in Angstrom, NaN where there are none."""
    known = np.isfinite(wave) & (wave > 0)
    return np.where(known, UNITS[unit](np.where(known, wave, 1)), np.nan)


def _unit(wave, stated, forced):
    """The unit in which the spectrum covers the window, the stated one first, else that one, else the likeliest."""
    if forced:
        return stated
    known, fitting = _known(stated), _fitting(wave)
    if known and (known in fitting or not fitting):
        return known
    if fitting:
        return fitting[0]
    wave = wave[np.isfinite(wave) & (wave > 0)]
    size = np.median(wave) if len(wave) else np.inf
    return next(unit for limit, unit in ((1e-3, "m"), (3, "micron"), (5, "log10"), (11, "ln"), (2500, "nm"),
                                         (np.inf, "Angstrom")) if size < limit)


def _known(stated):
    """The one of `UNITS` that a header means; None for what is no length, or nothing."""
    text = re.sub(r"\s", "", stated).lower().replace("metre", "meter").rstrip("s")
    if not text:
        return None
    from astropy import units  # takes as long to import as a text file to read

    try:
        unit = units.Unit("Angstrom" if text in ("a", "aa", "ang", "å") else text)
        factor = unit.to("1/cm" if unit.is_equivalent("1/cm") else "Angstrom")
    except (ValueError, TypeError):
        return None
    if unit.is_equivalent("1/cm"):
        return "1/cm" if np.isclose(factor, 1) else None
    return next((name for name in ("Angstrom", "nm", "micron", "m") if np.isclose(UNITS[name](1), factor)), None)


def _fitting(wave):
    """Those of `UNITS` in which enough of the wavelengths lie in the window."""
    low, high = paper.WINDOW
    counts = {unit: np.count_nonzero((low < _convert(wave, unit)) & (_convert(wave, unit) < high)) for unit in UNITS}
    return [unit for unit, count in counts.items() if count > ENOUGH]


def _hint(wave, unit):
    fitting = [name for name in _fitting(wave) if name != unit]
    if fitting:
        return f" (in {unit}; --unit {fitting[0]} would cover the window)"
    return f" (in {unit}; no unit of {', '.join(UNITS)} would cover the window)" if unit != "Angstrom" else ""
