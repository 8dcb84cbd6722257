"""From folders to the joint fit and back: an emulator, spectra with weights, and what a run left for new stars.

`joint_fit.py` is the run; `estimate.py --corrections` fits stars that it has not seen with the corrections that it
found and moves their labels by its gauge. No network has a part in this, and no TensorFlow.
"""
import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

import paper
from inference import flags, gauge, joint_fit, mode
from inference.emulator import Emulator, slow_rows
from observations import preparation
from spectra import bins, star_tables, transforms
from spectra.dataset import FLUX_RANGE, Dataset, resolving_power_of
from spectra.velocity import Templates
from workflow import schemas
from workflow.artifacts import Artifacts
from workflow.files import BadInput, load_array, one_line, read_table, sha256, state, take
from workflow.units import read_sidecar

FIELDS, MAP = "joint_fields.npy", "gauge.csv"  # of a run
AGAIN = "give the folder that Methodology/joint_fit.py wrote, or run it again"
GOOD = 0.5  # share of a spectrum's pixels that must be usable
KNOWN = ["file", "instrument", "snr", "rv", "e_rv", "depth", "share", "odd"]  # of a star, in estimates.csv
MISFIT = "misfit_q99"  # metric of the shared fields: this quantile of their stars' misfit, as in flags.QUANTILE
POOR = 2.0  # median misfit above which the corrections do not take up what the models lack


# ---------------------------------------------------------------- spectra
def window_of(data):
    """First and last wavelength [Angstrom] of a folder's spectra as its settings say, None of the paper's own."""
    settings = data.provenance.settings
    window = settings.get("window") if isinstance(settings, dict) else None
    if window is None and data.provenance.n_pixels == paper.N_PIXELS:
        return None
    try:
        low, high = map(float, window)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not 0 < low < high < np.inf:
        raise BadInput(f"{data.note}: say the first and last wavelength [Angstrom] of its {data.provenance.n_pixels} "
                       'pixels, evenly spaced, as "settings": {"window": [8800, 8835]}')
    return low, high


def grid(data):
    """Wavelength of the first pixel and step [Angstrom]."""
    window = window_of(data)
    if window:
        return window[0], (window[1] - window[0]) / (data.provenance.n_pixels - 1)
    return paper.WINDOW[0], transforms.STEP


def opened(folder, names):
    """The Dataset in a folder, opened once as long as the files of these names stay the same."""
    return _opened(folder, *(state(folder / name) for name in names if (folder / name).exists()))


@functools.lru_cache(maxsize=1)
def _opened(folder, *_):
    return Dataset(folder)


def emulator_of(data):
    """The synthetic spectra as an emulator, made once as long as they stay the same, and how many pixels make a bin."""
    return _emulator(data.folder, sha256(data.ph), sha256(data.pars))


@functools.lru_cache(maxsize=1)
def _emulator(folder, *_):
    data = Dataset(folder)
    n_pixels, rows = data.flux_ph.shape[1], slow_rows(data.labels_ph)
    first, step = grid(data)
    pixels = bins.pixels_a_bin(resolving_power_of(data.provenance), first + step * (n_pixels - 1) / 2, step)
    flux = bins.binned(take(data.flux_ph, rows), pixels)[0]
    middle = first + step * (flux.shape[1] * pixels - 1) / 2  # the last pixels may fill no bin
    try:
        return Emulator.fit(flux, data.labels_ph[rows], step * pixels, middle), pixels
    except (np.linalg.LinAlgError, ValueError):
        raise BadInput(f"{data.pars}: {len(rows)} spectra of the slowest rotation are too few to follow their labels: "
                       "use more synthetic spectra") from None


def weighted(flux, snr, pixels):
    """Bins of spectra (n, n_pixels) and the variance of their noise, (n, n_bins), infinite where nothing can be used.

    NaN, flux out of range and pixels in a constant stretch have no weight; a spectrum that is mostly bad has none.
    Where `snr`, (n,) a pixel at the continuum, is unknown, the noise is measured in the spectrum.
    """
    flux = np.array(flux, float)
    same = flux[:, 2:] == flux[:, 1:-1]
    same[:, 1:] &= flux[:, 1:-2] == flux[:, 2:-1]
    bad = ~((flux >= FLUX_RANGE[0]) & (flux <= FLUX_RANGE[1]))  # NaN is neither
    bad[:, 2:] |= same & (np.abs(flux[:, 2:] - 1) > 0)  # three equal values are no spectrum
    flux[bad] = np.nan
    unknown, good = ~(np.asarray(snr, float) > 0), bad.mean(axis=1) <= 1 - GOOD
    snr = np.where(unknown, np.nan, snr)
    snr[unknown & good] = 1 / np.maximum(bins.noise_of(flux[unknown & good]), 1e-4)
    binned, counts = bins.binned(flux, pixels)
    variance = bins.variance_of(binned, counts, snr)
    variance[~good] = np.inf
    return binned, variance


def of_stars(stars, flux, step, pixels):
    """Bins and variances, as of `weighted`, of stars whose table says what is known of their pixels.

    `snr` is that of a pixel, which is `pixel` wide [Angstrom] in the file that the spectrum was prepared from, and here
    `step`; what was `bridged` there, from one good pixel to the next, has no weight.
    """
    snr, native = (pd.to_numeric(stars.get(name, pd.Series(np.nan, stars.index)), errors="coerce").to_numpy(float)
                   for name in ("snr", "pixel"))
    bridged = flags.as_text(stars.get("bridged", pd.Series("", stars.index)))
    try:
        flux = np.where(star_tables.masks(bridged, flux.shape[1]), np.nan, flux)
    except ValueError as error:
        raise BadInput(f"column bridged of {stars['karmn'].iloc[0]} to {stars['karmn'].iloc[-1]}: {one_line(error)}: "
                       "prepare the stars again, or leave it empty") from None
    return weighted(flux, snr * np.sqrt(step / np.where(native > 0, native, step)), pixels)


def observed(data, rows, pixels):
    """The same of some stars of a folder."""
    return of_stars(data.stars.iloc[rows], take(data.flux_carm, rows), grid(data)[1], pixels)


# ---------------------------------------------------------------- tables
def table(stars, values, evidence):
    """The published columns, own_ and shared_ parts of each uncertainty, flags; and the words that nothing tells of.

    `values` has by parameter value, own and shared uncertainty, (3, n_stars); `evidence` is what else `flags` is to
    know of the stars.
    """
    whole = mode.table(stars, {par: (value, *2 * [np.hypot(own, shared)])
                               for par, (value, own, shared) in values.items()})
    parts = {f"{what}_{par}": values[par][k] for k, what in ((1, "own"), (2, "shared")) for par in paper.PARAMETERS}
    words, left_out = flags.table(flags.Evidence({par: values[par][0] for par in paper.PARAMETERS}, **evidence))
    return pd.concat([whole, pd.DataFrame(parts, whole.index), words.set_index(whole.index)], axis=1), left_out


def add_veiling(table, veiling):
    """Give a table the columns of a fitted veiling, (n_stars, 3), or none of (n_stars, 0); as of `Fit.veiling`."""
    for name, column in zip(("veiling", "e_veiling", "E_veiling"), veiling.T):
        table.insert(table.columns.get_loc("own_teff"), name, column)


def evidence_of(data, stars, misfit, limit):
    """What `flags` is to know of stars: `misfit`, (n_stars,), counts as the error of a reconstruction."""
    limits = {"reconstruction-observed": np.array([limit])} if np.isfinite(limit) else {}
    return {"grid": flags.grid_of(data.labels_ph), "resolving_power": resolving_power_of(data.provenance),
            "snr": stars.get("snr"), "mse": np.array(misfit, float)[None], "limits": limits}


# ---------------------------------------------------------------- new stars
@dataclass(frozen=True, eq=False)
class Corrections:
    """What a run of joint_fit.py left, by which stars are fitted that it has not seen."""

    path: Path  # of the fields
    data: Dataset  # the synthetic set that it was run with
    fields: joint_fit.Fields
    mean: list  # where the mean of the labels was pinned
    veiling: float  # width of its prior, 0 of a run without
    maps: dict  # by parameter, gauge.Gauge
    limit: float  # misfit that 99 % of the run's own stars stay below, NaN if unknown
    fine_tuned_on: schemas.Provenance  # the stars that taught the fields

    files = property(lambda self: [self.path, self.path.with_name(MAP)])
    trained_on = property(lambda self: self.data.provenance)
    resolving_power = property(lambda self: resolving_power_of(self.trained_on))
    continuum = property(lambda self: preparation.continuum_of(self.trained_on))

    @property
    def templates(self):
        """Of the synthetic set, to prepare stars with."""
        return Templates.of(self.data.flux_ph, self.data.labels_ph)

    def estimate(self, stars, flux, foreign):
        """The table of prepared stars, records of observations/batch.py, and their Sheets.

        `flux` is (n_stars, n_pixels); `foreign`, (n_stars,), says which stars no instrument of the run has seen.
        """
        emulator, pixels = emulator_of(self.data)
        binned, variance = of_stars(stars, flux, grid(self.data)[1], pixels)
        fit = joint_fit.fit_with(emulator, self.fields, binned, variance, self.mean, self.veiling)
        fit.own[~np.isfinite(variance).any(axis=1)] = np.nan
        values = {}
        for k, par in enumerate(paper.PARAMETERS):
            value, shared = gauge.apply(par, fit.own[:, :4], self.maps[par])
            values[par] = value, fit.error[:, k], shared
        evidence = evidence_of(self.data, stars, joint_fit.misfit(emulator, fit, binned, variance), self.limit)
        whole, _ = table(stars, values, {**evidence, "foreign": foreign, "odd": stars["odd"]})
        add_veiling(whole, fit.veiling)
        whole = whole.join(stars[[name for name in KNOWN if name not in whole]])
        return (whole[[*(name for name in whole if name not in flags.COLUMNS), *flags.COLUMNS]],
                Sheets.of(emulator, fit, binned, variance))


@dataclass(frozen=True, eq=False)
class Sheets:
    """What the pages of some stars show, (n_stars, n_bins); NaN where a bin was not used."""

    wave: np.ndarray  # (n_bins,) [Angstrom]
    flux: np.ndarray
    corrected: np.ndarray  # the model
    uncorrected: np.ndarray  # the same labels without the corrections

    @classmethod
    def of(cls, emulator, fit, flux, variance):
        """Of a fit's stars, their bins and variances."""
        good = np.isfinite(fit.own).all(axis=1)
        models = np.full((2, *flux.shape), np.nan)
        part = replace(fit, own=fit.own[good])
        models[:, good] = [joint_fit.model(emulator, part, flux.shape[1], corrected) for corrected in (True, False)]
        return cls(emulator.wave(flux.shape[1]), np.where(np.isfinite(variance), flux, np.nan), *models)


def about(spectra):
    """What the corrections rest on, in words; "" where that is the published spectra."""
    return "" if spectra.kind.published else f"corrections learnt from {_loud(spectra)} spectra"


def warnings(table, spectra):
    """What to print of stars fitted with corrections that these spectra taught, a list."""
    if spectra.kind.simulated:
        return [f"warning: {about(spectra)}: no estimate of a real star by them can be relied on"]
    names = list(table["karmn"][table["flags"].str.contains("other-instrument")])
    if not names:
        return []
    return [f"warning: {len(names)} of {len(table)} stars are of another instrument than {_loud(spectra)}, flagged "
            f"other-instrument: {', '.join(names[:5])}" + ", ..." * (len(names) > 5)]


def _loud(spectra):
    return one_line(spectra.spectra).replace("simulated", "SIMULATED")


def fields_of(path):
    """The shared fields that a run left."""
    stored = load_array(path, 2, AGAIN)
    if len(stored) != joint_fit.PRIORS.responses + 3:
        raise BadInput(f"{path} has {len(stored)} rows instead of {joint_fit.PRIORS.responses + 3}: {AGAIN}")
    return joint_fit.Fields(np.array(stored[:-2]), *stored[-2:, 0].tolist())


def stored(fields):
    """Shared fields as `fields_of` reads them: the rows of D, gamma, kappa and misfit."""
    return np.vstack([fields.pixels, *(np.full(fields.pixels.shape[1], number)
                                       for number in (fields.kappa, fields.misfit))])


def load(folder, data):
    """The Corrections in the folder of a run, made with the synthetic set in the folder `data`; checked."""
    path, data = folder / FIELDS, Dataset(data)
    for file in (data.ph, data.pars):
        if not file.exists():
            raise BadInput(f"{file} not found: give the folder of the synthetic set of {folder} with --data")
    sidecar = Artifacts(folder).require(path, "joint_fit", [data.ph, data.pars])
    Artifacts(folder).require(folder / MAP, "joint_fit", [path])
    if sidecar.settings.get("errors") != joint_fit.ERRORS:
        raise BadInput(f"{path} is of other code, whose uncertainties mean something else: {AGAIN}")
    if data.flux_ph.shape[1] != paper.N_PIXELS:
        raise BadInput(f"{data.ph} has {data.flux_ph.shape[1]} pixels: spectra can be prepared only on the paper's "
                       f"grid of {paper.N_PIXELS}, give others to joint_fit.py as arrays")
    for doubt in doubts(path):
        print(f"warning: {doubt}")
    return Corrections(path, data, fields_of(path), sidecar.settings["mean"], sidecar.settings.get("veiling", 0.0),
                       _maps(folder / MAP), sidecar.metrics.get(MISFIT, np.nan), sidecar.spectra)


def doubts(path):
    """What is wrong with a run's shared fields, in words, a list."""
    metrics = read_sidecar(path).metrics
    if not metrics.get("shared"):
        return [f"{path}: too few stars to share anything, so each star is fitted alone"]
    lines = [f"{path}: the joint fit has not converged"] * (not metrics.get("converged"))
    if (misfit := metrics.get("misfit", 1.0)) > POOR:
        lines.append(f"{path}: the corrected models miss the spectra by {np.sqrt(misfit):.1f} times the noise of a "
                     "S/N of 275, so the gap is of another form than the corrections: all uncertainties are larger")
    return lines


def _maps(path):
    """The map of each parameter, by its table."""
    maps, whole = {}, read_table(path, "parameter", AGAIN, once=False)
    for par in paper.PARAMETERS:
        part = whole[whole["parameter"] == par]
        n_terms = 1 + len(gauge.MAPS[par].slopes)
        columns = [f"c{k}" for k in range(n_terms)]
        if len(part) != n_terms or not {"value", "about", *columns} <= set(part):
            raise BadInput(f"{path} does not have the map of {par} and its covariance: {AGAIN}")
        maps[par] = gauge.Gauge(part["value"].to_numpy(float), part[columns].to_numpy(float),
                                part["about"].to_numpy(float)[1:])
    return maps
