"""Estimate the four parameters of stars from files of their spectra, with the networks of a run; nothing is trained.

Reads   spectrum files of any form and instrument that src_files/prepare_spectra.py knows
        {artifacts}/final_estimations.json, ac_{i}.h5, dtl_ac_{i}.h5, encoded_ph_ac_{i}.npy,
        cnn_regressor_{par}_{k}_ac_{i}.h5
        {data}/ph_flux_norm.npy, ph_pars.npy         the synthetic set that the networks were trained on
Writes  {out}/estimates.csv (+ .json)                a row a star: the columns of the published table, then what is
                                                     known of the spectrum, and flags
        {out}/{name}.png                             a picture a star: spectrum, reconstruction, predictions
        {out}/prepared/                              what was prepared, so that the next time goes faster
        {out}/carmf_norm.npy, dtl_ac_{i}.h5 (+ .json)    with --tune: the stars, the networks fine-tuned on them

Each spectrum is prepared as prepare_spectra.py does it, encoded by every fine-tuned autoencoder that the kept
regressors of the run need, and estimated by these regressors as act 4 does it. A file that cannot be used is left
out, with the reason. The flag other-instrument is for stars of other instruments than the one whose spectra the
autoencoders were fine-tuned on; --tune fine-tunes them, as act 3 does, on the given stars first.

    python Methodology/estimate.py --artifacts artifacts/demo star.fits more/*.csv
    python Methodology/estimate.py --artifacts artifacts/demo --tune --out mine spectra/*.fits
"""
import argparse
import functools
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pandas as pd

from figures import star_page
from inference import predictor
from observations import batch, orders, preparation
from spectra import dataset
from training import backend, fine_tuning, networks
from workflow import runner, schemas
from workflow.command_line import ROOT, command, folder
from workflow.files import BadInput, load_array, lock, sha256, write_array, write_csv, write_json, writing
from workflow.units import Unit, code_digest, finish, read_sidecar, sidecar_of, versions

TO_TUNE = 20  # stars at least; ours: act 3 keeps a fifth of them to test
NAME = "estimates.csv"


# ---------------------------------------------------------------- from Python
def estimate(wavelength, flux, artifacts=ROOT / "artifacts", data=None, resolution=None, error=None, medium="vacuum",
             unit="Angstrom", name="star", instrument="", max_bad=preparation.Settings.max_bad):
    """Estimate the parameters of a star from its spectrum, with the networks of a run.

    The numbers are those of the script for the same spectrum in a file. The networks are loaded with the first call.

    Parameters
    ----------
    wavelength : array_like of shape (n_pixels,) or (n_orders, n_pixels)
        In the unit `unit`; the star may move, its velocity is found.
    flux : array_like of the same shape
        In any unit, with or without blaze and continuum; NaN, masked or not above zero where a pixel is bad.
    artifacts : path-like, optional
        Folder of the run.
    data : path-like, optional
        Folder of the synthetic set that its networks were trained on; by default it is looked for in src_files.
    resolution : float, optional
        Resolving power of the spectrum; by default it counts as that of the synthetic set.
    error : array_like of the same shape, optional
        Of the flux.
    medium : {"vacuum", "air"}
    unit : str
        One of orders.UNITS: "Angstrom", "nm", "micron", "m", "log10", "ln".
    name : str
        Of the star.
    instrument : str
        By which the star was seen, for the flag other-instrument.
    max_bad : float
        Share of the window that may be bridged.

    Returns
    -------
    Series
        The star's row of estimates.csv: Teff [K], logg [dex], [M/H] [dex], vsini [km/s], each with e_ and E_, its
        uncertainties below and above; `snr`, `rv` and `e_rv` [km/s]; flags, as in flags.COLUMNS.

    Raises
    ------
    BadInput
        The spectrum cannot be used (the message says why), or the networks, as `predictor.select` checks them.
    """
    ensemble, loaded = _ready(Path(artifacts), data and Path(data), _state(Path(artifacts)))
    power = ensemble.resolving_power
    spectrum = orders.from_arrays(wavelength, flux, error, unit, medium, name, resolution or power)
    settings = preparation.Settings(power, continuum=ensemble.continuum, max_bad=max_bad)
    star = preparation.prepare(spectrum, ensemble.templates, settings)
    stars = pd.DataFrame([{"karmn": name, "file": "", **star.record, "instrument": instrument}])
    return predictor.estimated(ensemble, loaded, stars, star.flux[None], ensemble.fine_tuned_on)[0].iloc[0]


@functools.lru_cache(maxsize=1)
def _ready(artifacts, data, state):
    """Networks of a run, loaded once as long as its `state` is the same."""
    ensemble = predictor.select(artifacts, data)
    return ensemble, predictor.load(ensemble)


def _state(artifacts):
    """Digest of the sidecar that names the networks; None where there is none."""
    path = artifacts / "final_estimations.json"
    return sha256(path) if path.exists() else None


# ---------------------------------------------------------------- --tune
def plan(ensemble, stars, out, settings):
    """The units that fine-tune the autoencoders on the given stars; writes these as the array that they read.

    Parameters
    ----------
    ensemble : predictor.Ensemble
    stars : list of (Path, dict)
        As `batch.prepare` gives them.
    out : Path
    settings : preparation.Settings

    Returns
    -------
    list of Unit

    Raises
    ------
    BadInput
        There are too few stars.
    """
    if len(stars) < TO_TUNE:
        raise BadInput(f"--tune: {len(stars)} of the given files gave a star, at least {TO_TUNE} are needed: give "
                       "more, or leave --tune out")
    write_array(out / "carmf_norm.npy", np.array([batch.load(kept).flux for kept, _ in stars]))
    mark = batch.mark([record for _, record in stars], ensemble.trained_on, settings)
    provenance = schemas.convert(mark, schemas.Provenance, out, "use another --out")
    done = {i: read_sidecar(ensemble.path(i)) for i in ensemble.autoencoders}
    return [Unit(out / ensemble.path(i).name, sidecar.settings, (ensemble.path(i, ""), out / "carmf_norm.npy"),
                 sidecar.seed, provenance=provenance) for i, sidecar in done.items()]


def work(unit, tick):
    """Fine-tune one autoencoder on four fifths of the stars, with the settings of act 3; measure errors on the rest."""
    started = time.time()
    backend.forget_models()
    ac, carm = unit.inputs
    flux = load_array(carm, 2, "run again")
    _, train_rows, test_rows = dataset.split_usable(flux)
    autoencoder = networks.load(ac, seed=unit.own_seed)
    metrics = {"mse_carm_test_before": networks.mse(autoencoder, flux, test_rows)}
    history = fine_tuning.fine_tune(autoencoder, unit.settings, flux, tick, train_rows)
    metrics["mse_carm_test_after"] = networks.mse(autoencoder, flux, test_rows)
    with writing(unit.path) as partial:
        networks.save(autoencoder, partial)
    finish(unit, started, metrics, history, read_sidecar(ac).network)


def tune(ensemble, stars, args, settings):
    """Fine-tune on the given stars and return the schemas.Provenance of what the networks have now seen."""
    units = plan(ensemble, stars, args.out, settings)
    options = SimpleNamespace(artifacts=args.out, jobs=args.jobs, scheduler=None, overwrite=args.overwrite,
                              dry_run=False)
    runner.report(runner.run(units, work, options, units[0].settings["epochs"], "fine-tuning"))
    for unit in units:
        metrics = read_sidecar(unit.path).metrics
        print(f"{unit.name}: mse of the test stars {metrics['mse_carm_test_before']:.2g} before, "
              f"{metrics['mse_carm_test_after']:.2g} after")
    return units[0].provenance


# ---------------------------------------------------------------- what is left
def check_out(out, paths, overwrite):
    """Refuse a folder of spectra or of a run, and to replace the estimates of other files.

    Returns
    -------
    schemas.Estimates
        What the sidecar of the estimates there says.

    Raises
    ------
    BadInput
    """
    foreign = [name for name in ("ph_flux_norm.npy", "ph_pars.npy", "provenance.json", "params_final.json")
               if (out / name).exists()]
    if foreign:
        raise BadInput(f"{out} holds {foreign[0]}, so spectra or a run: choose another --out")
    note = sidecar_of(out / NAME)
    if not note.exists():
        return schemas.Estimates(schemas.UNKNOWN)
    had = schemas.read(note, schemas.Estimates, "delete it, or choose another --out")
    has = {sha256(path) for path in paths if path.is_file()}
    lost = [name for name, digest in had.inputs.items() if digest not in has]
    if lost and not overwrite:
        raise BadInput(f"{out / NAME} has the stars of other files, such as {lost[0]} ({len(lost)} in all): give these "
                       "too, choose another --out, or --overwrite")
    return had


def write(args, ensemble, found, table, drawn, fine_tuned_on, settings):
    """Write the table, and its sidecar last: from which files, with which networks and settings it was made."""
    write_csv(args.out / NAME, table)
    own = args.out if args.tune else ensemble.folder
    paths = [own / ensemble.path(i).name for i in ensemble.autoencoders]
    paths += [ensemble.folder / f"{name}.h5" for kept in ensemble.kept.values() for name in kept.members]
    instruments = ", ".join(sorted({name or "own" for name in table["instrument"]}))
    word = f"{instruments}, by networks of {fine_tuned_on.spectra} spectra"
    outputs = {path.name: sha256(path) for path in (args.out / NAME, *drawn)}
    record = schemas.Estimates(msgspec.structs.replace(fine_tuned_on, spectra=word), kept=ensemble.kept,
                               inputs={str(path): sha256(path) for path in found}, outputs=outputs)
    made = {
        "settings": {"tune": args.tune, **{key: value for key, value in asdict(settings).items() if value == value}},
        "networks": {path.name: sha256(path) for path in paths}, "versions": versions(),
        "code": code_digest(),
    }
    write_json(sidecar_of(args.out / NAME), schemas.signed({**schemas.plain(record), **made}))


def parse(argv):
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    batch.add_arguments(parser)
    add("--artifacts", type=folder, default=ROOT / "artifacts", metavar="DIR",
        help="folder of the run whose networks are used; default: artifacts")
    add("--data", type=folder, metavar="DIR", help="folder of the synthetic set that they were trained on; default: "
        "looked for in src_files")
    add("--out", type=folder, metavar="DIR", help="folder to write; default: estimates in that of --artifacts")
    add("--tune", action="store_true", help=f"fine-tune the autoencoders on the given stars first, {TO_TUNE} at least")
    add("--overwrite", action="store_true", help="replace the estimates of other stars, and networks tuned on them")
    args = parser.parse_args(argv)
    args.out = args.out or args.artifacts / "estimates"
    return args


@command
def main(argv=None):
    args = parse(argv)
    paths = list(dict.fromkeys(args.files))
    ensemble = predictor.select(args.artifacts, args.data)
    had = check_out(args.out, paths, args.overwrite)
    settings = batch.settings_of(args, ensemble.resolving_power, ensemble.continuum)
    print(f"{len(paths)} files to R {settings.target:.0f}, divided by their {settings.continuum} continuum, as the "
          f"{ensemble.trained_on.spectra} synthetic set is", flush=True)
    reading = batch.reading_of(args)
    prepared, left_out = batch.prepare(paths, args.out, reading, ensemble.templates, settings, args.jobs)
    fine_tuned_on = tune(ensemble, prepared, args, settings) if args.tune else ensemble.fine_tuned_on
    stars = pd.DataFrame([record for _, record in prepared])
    stars["karmn"] = batch.name_stars(stars["karmn"])
    flux = np.array([batch.load(kept).flux for kept, _ in prepared])
    loaded = predictor.load(ensemble, args.out if args.tune else None)
    seen = dataset.split_usable(flux)[1] if args.tune else None
    table, predictions, reconstruction = predictor.estimated(ensemble, loaded, stars, flux, fine_tuned_on, seen)
    with lock(args.out):
        drawn = star_page.write_all(args.out, table, flux, reconstruction, predictions,
                                     predictor.about(fine_tuned_on), args.jobs)
        found = [path for path in paths if path not in left_out]
        write(args, ensemble, found, table, drawn, fine_tuned_on, settings)
        for name in set(had.outputs) - {NAME, *(path.name for path in drawn)}:  # pictures of stars that are gone
            (args.out / name).unlink(missing_ok=True)
    print(predictor.shown(table), *predictor.warnings(table, fine_tuned_on), sep="\n")
    print(f"{args.out / NAME}: {len(stars)} of {len(paths)} files estimated, {len(left_out)} left out"
          + "".join(f"\n  {path} {reason}" for path, reason in left_out.items()))


if __name__ == "__main__":
    sys.exit(main())
