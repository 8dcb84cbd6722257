"""Columns of numbers as the orders of a spectrum: in Angstrom, ascending, whatever unit and direction they come in."""
import re
from dataclasses import dataclass

import numpy as np

import paper
from observations import headers
from workflow.files import UnitFailed

# The window, its margin, 300 km/s and the difference between air and vacuum [Angstrom]: the rest is left
REGION = paper.WINDOW[0] - paper.MARGIN - 12, paper.WINDOW[1] + paper.MARGIN + 12

UNITS = {  # to Angstrom
    "Angstrom": lambda x: x, "nm": lambda x: 10 * x, "micron": lambda x: 1e4 * x, "m": lambda x: 1e10 * x,
    "log10": lambda x: 10 ** np.clip(x, 0, 9), "ln": lambda x: np.exp(np.clip(x, 0, 20)),
}
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

    Parameters
    ----------
    columns : dict
        "wave", "flux" and, where known, "error", "variance" or "ivar", and "flag", not 0 where a pixel is bad: arrays
        of shape (n_pixels,) or (n_orders, n_pixels), of any byte order, masked or not.
    stated : str
        Unit of the wavelengths, or "".
    forced : bool
        Whether it goes before what the numbers say.
    observation : headers.Observation
    form : str
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
    rows = zip(*(np.broadcast_to(array, shape) for array in (wave, flux, error, bad | np.isinf(error))))
    pieces = [piece for row in rows for piece in _ascending(*row)]
    unit = _unit([piece[0] for piece in pieces], stated, forced)
    pieces = [(UNITS[unit](piece[0]), *piece[1:]) for piece in pieces]
    coverage = min(piece[0][0] for piece in pieces), max(piece[0][-1] for piece in pieces)
    inside = [(piece[0] > REGION[0]) & (piece[0] < REGION[1]) for piece in pieces]
    orders = tuple(Order(*(array[part] for array in piece)) for piece, part in zip(pieces, inside) if part.sum() > 50)
    if not any(order.wave[0] < paper.WINDOW[1] and order.wave[-1] > paper.WINDOW[0] for order in orders):
        raise UnitFailed(f"covers {coverage[0]:.1f} to {coverage[1]:.1f} Angstrom{_hint(columns, unit)}, not "
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
    if (steps == 0).any():
        raise UnitFailed(f"repeats wavelengths, {wave[:-1][steps == 0][0]:g} first ({(steps == 0).sum()} in all): "
                         "keep one row each")
    breaks = np.flatnonzero(steps < 0) + 1
    lengths = np.diff(np.r_[0, breaks, len(wave)])
    if len(breaks) and (steps.min() > -ORDER_STEP * np.median(steps) or lengths.min() < ORDER_LENGTH
                        or steps[breaks - 1].max() > -ORDER_STEP * np.median(steps)):
        raise UnitFailed("its wavelengths neither ascend nor descend: sort its rows")
    return list(zip(*(np.split(array, breaks) for array in (wave, flux, error, bad))))


def _unit(waves, stated, forced):
    """The stated unit, else the one in which the spectrum covers the window, else the likeliest by size."""
    if not waves:
        raise UnitFailed("has no wavelengths")
    if forced:
        return stated
    fitting = [name for name in [_named(stated)] if name] or _fitting(waves)
    if fitting:
        return fitting[0]
    size = np.median(waves[len(waves) // 2])
    return next(unit for limit, unit in ((1e-3, "m"), (3, "micron"), (5, "log10"), (11, "ln"), (2500, "nm"),
                                         (np.inf, "Angstrom")) if size < limit)


def _named(stated):
    """The one of `UNITS` that a header means; None for what is no length, or nothing."""
    text = re.sub(r"\s", "", stated).lower().replace("metre", "meter").rstrip("s")
    if not text:
        return None
    from astropy import units  # takes as long to import as a text file to read

    try:
        factor = units.Unit("Angstrom" if text in ("a", "aa", "ang", "å") else text).to("Angstrom")
    except (ValueError, TypeError):
        return None
    return next((name for name in ("Angstrom", "nm", "micron", "m") if np.isclose(UNITS[name](1), factor)), None)


def _fitting(waves):
    """Those of `UNITS` in which some of the ascending wavelengths reach into the window."""
    low, high = paper.WINDOW
    return [unit for unit, convert in UNITS.items()
            if any(convert(wave[0]) < high and convert(wave[-1]) > low for wave in waves)]


def _hint(columns, unit):
    waves = [row[np.isfinite(row)] for row in np.atleast_2d(np.asarray(columns["wave"], float))]
    fitting = [fits for fits in _fitting([np.sort(row)[[0, -1]] for row in waves if len(row)]) if fits != unit]
    return f" (in {unit}; --unit {fitting[0]} would cover the window)" if fitting else ""
