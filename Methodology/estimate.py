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

With --corrections the stars are fitted with what a run of joint_fit.py found the synthetic spectra to lack, and moved
by its gauge (docs/joint-fit.md): no networks and no --artifacts are needed, and of a run only OUT/joint_fields.npy (+
.json), joint_stars.npy and gauge.csv. The table has each uncertainty's own part and the part that all stars share too.

    python Methodology/estimate.py --artifacts artifacts/demo star.fits more/*.csv
    python Methodology/estimate.py --artifacts artifacts/demo --tune --out mine spectra/*.fits
    python Methodology/estimate.py --corrections artifacts/demo/joint star.fits more/*.csv
"""
import argparse
import functools
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

import paper
from figures import joint, star_page
from inference import flags, joint_run, predictor
from observations import batch, orders, preparation
from spectra.dataset import Dataset, split_usable
from training import backend, fine_tuning, networks
from workflow import runner, schemas
from workflow.artifacts import FINETUNED, Artifacts
from workflow.command_line import ROOT, command, folder
from workflow.files import BadInput, load_array, lock, sha256, write_array, write_csv, write_json
from workflow.units import CODE, Unit, finish, read_sidecar, sidecar_of, versions

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
        In `medium` and `unit`, one of orders.UNITS; the star may move, its velocity is found.
    flux, error : array_like of the same shape
        In any unit, with or without blaze and continuum; NaN, masked or not above zero where a pixel is bad.
    artifacts, data : path-like
        Folders of the run, and of the synthetic set of its networks; by default that is looked for in src_files.
    resolution : float, optional
        Resolving power of the spectrum; by default it counts as that of the synthetic set.
    medium : {"vacuum", "air"}
    unit : {"Angstrom", "nm", "micron", "m", "log10", "ln"}
    name, instrument : str
        Of the star, and by which it was seen, for the flag other-instrument.
    max_bad : float
        Share of the window that may be bridged.

    Returns
    -------
    Series
        The star's row of estimates.csv: Teff [K], logg [dex], [M/H] [dex], vsini [km/s], each with e_ and E_, its
        uncertainties below and above; `snr`, `rv` and `e_rv` [km/s]; `depth`, `share` and `odd` as in stars.csv; flags,
        as in flags.COLUMNS.
    """
    artifacts, data = Path(artifacts), data and Path(data)
    sidecar = sidecar_of(Artifacts(artifacts).estimates())
    loaded = _load(artifacts, data, sidecar.exists() and sha256(sidecar))
    ensemble, power = loaded.ensemble, loaded.ensemble.resolving_power
    spectrum = orders.from_arrays(wavelength, flux, error, unit, medium, name, resolution or power)
    settings = preparation.Settings(power, continuum=ensemble.continuum, max_bad=max_bad)
    star = preparation.prepare(spectrum, ensemble.templates, settings)
    stars = pd.DataFrame([{"karmn": name, "file": "", **star.record, "instrument": instrument}])
    return loaded.estimate(stars, star.flux[None], ensemble.fine_tuned_on)[0].iloc[0]


@functools.lru_cache(maxsize=1)
def _load(artifacts, data, digest):
    """The networks of a run, loaded once as long as the sidecar that names them has this digest."""
    return predictor.load(predictor.select(artifacts, data))


# ---------------------------------------------------------------- --tune
def work(unit, tick):
    """Fine-tune one autoencoder on four fifths of the stars, with the settings of act 3; measure errors on the rest."""
    started = time.time()
    backend.forget_models()
    ac, carm = unit.inputs
    flux, autoencoder = load_array(carm, 2, "run again"), networks.load(ac, seed=unit.own_seed)
    _, train_rows, test_rows = split_usable(flux)
    metrics = {"mse_carm_test_before": networks.mse(autoencoder, flux, test_rows)}
    history = fine_tuning.fine_tune(autoencoder, unit.settings, flux, tick, train_rows)
    metrics["mse_carm_test_after"] = networks.mse(autoencoder, flux, test_rows)
    networks.save(autoencoder, unit.path)
    finish(unit, started, metrics, history, read_sidecar(ac).network)


def tune(ensemble, records, flux, args, settings):
    """Fine-tune on the given stars and return the schemas.Provenance of what the networks have now seen."""
    _, first, copies = np.unique(flux, axis=0, return_index=True, return_counts=True)
    if copies.max() > 1:
        raise BadInput(f"--tune: {copies.max()} files hold the same spectrum, that of "
                       f"{records[first[copies.argmax()]]['file']}: give each once")
    n_stars = len({record["karmn"] for record in records})
    if n_stars < TO_TUNE:
        raise BadInput(f"--tune: {len(records)} of the given files gave {n_stars} different stars, at least {TO_TUNE} "
                       "are needed: give more, or leave --tune out")
    artifacts, carm, units = ensemble.artifacts, Dataset(args.out).carm, []
    write_array(carm, flux)
    mark = batch.mark(records, ensemble.trained_on, settings)
    provenance = schemas.convert(mark, schemas.Provenance, args.out, "use another --out")
    for i in ensemble.autoencoders:
        sidecar = read_sidecar(artifacts.autoencoder(i, FINETUNED))
        units.append(Unit(Artifacts(args.out).autoencoder(i, FINETUNED), sidecar.settings,
                          (artifacts.autoencoder(i), carm), sidecar.seed, provenance=provenance, number=i))
    options = argparse.Namespace(**{**vars(args), "artifacts": args.out, "scheduler": None, "dry_run": False})
    runner.report(runner.run(units, work, options, units[0].settings["epochs"], "fine-tuning"))
    for unit in units:
        metrics = read_sidecar(unit.path).metrics
        print(f"{unit.name}: mse of the test stars {metrics['mse_carm_test_before']:.2g} before, "
              f"{metrics['mse_carm_test_after']:.2g} after")
    return provenance


# ---------------------------------------------------------------- what is left
def check_out(out, paths, overwrite):
    """Refuse a folder of spectra or of a run, and to replace estimates of other files; the schemas.Estimates there."""
    spectra = Dataset(out)
    sidecar = sidecar_of(out / NAME)
    others = [spectra.ph, spectra.pars, spectra.note, Artifacts(out).selection]
    if not (sidecar.exists() or (out / "prepared").exists()):  # else --tune left it
        others.append(spectra.carm)
    if foreign := [path for path in others if path.exists()]:
        raise BadInput(f"{out} holds {foreign[0].name}, so spectra or a run: choose another --out")
    if not sidecar.exists():
        if (out / NAME).exists():
            raise BadInput(f"{out / NAME} was not made by this script: move it away, or choose another --out")
        return schemas.Estimates(schemas.UNKNOWN)
    estimates = schemas.read(sidecar, schemas.Estimates, "delete it, or choose another --out")
    digests = {sha256(path) for path in paths if path.is_file()}
    lost = [name for name, digest in estimates.inputs.items() if digest not in digests]
    if lost and not overwrite:
        raise BadInput(f"{out / NAME} has the stars of other files, such as {lost[0]} ({len(lost)} in all): give these "
                       "too, choose another --out, or --overwrite")
    return estimates


def write(args, ensemble, paths, table, drawn, fine_tuned_on, settings):
    """Write the table, and its sidecar last: from which files, with which networks and settings it was made."""
    write_csv(args.out / NAME, table)
    if args.corrections:
        models, kept = ensemble.files, {}
    else:
        fine_tuned, kept = Artifacts(args.out) if args.tune else ensemble.artifacts, ensemble.kept
        models = [*(fine_tuned.autoencoder(i, FINETUNED) for i in ensemble.autoencoders),
                  *sum(ensemble.regressors.values(), [])]
    instruments = ", ".join(sorted({name or "own" for name in table["instrument"]}))
    word = f"{instruments}, by {'corrections' if args.corrections else 'networks'} of {fine_tuned_on.spectra} spectra"
    record = schemas.Estimates(
        msgspec.structs.replace(fine_tuned_on, spectra=word), kept=kept,
        inputs={str(path): sha256(path) for path in paths},
        outputs={path.name: sha256(path) for path in (args.out / NAME, *drawn)})
    write_json(sidecar_of(args.out / NAME), schemas.signed({
        **schemas.plain(record), "settings": {"tune": args.tune, **batch.told(settings)},
        "networks": {path.name: sha256(path) for path in models}, "versions": versions(), "code": CODE}))


def shown(table):
    """The table as it is printed, each estimate and its uncertainties in one column, a str."""
    columns = {"star": table["karmn"]}
    for parameter in paper.PARAMETERS.values():
        x, digits = parameter.published, parameter.digits
        columns[f"{x} [{parameter.unit}]"] = [
            f"{value:.{digits}f} -{below:.{digits}f} +{above:.{digits}f}"
            for value, below, above in table[[x, f"e_{x}", f"E_{x}"]].to_numpy()]
    return pd.DataFrame({**columns, "flags": flags.in_words(table)}).to_string(index=False)


def estimate_files(args, paths, ensemble):
    """Prepare the stars, estimate them, and leave table and pictures; the folder is this process's alone."""
    earlier = check_out(args.out, paths, args.overwrite)
    settings = batch.settings_of(args, ensemble.resolving_power, ensemble.continuum)
    print(f"{len(paths)} files to R {settings.target:.0f}, divided by their {settings.continuum} continuum, as the "
          f"{ensemble.trained_on.spectra} synthetic set is", flush=True)
    prepared, left_out = batch.prepare(paths, args.out, batch.reading_of(args), ensemble.templates, settings, args.jobs)
    records, flux = [record for _, record in prepared], np.array([batch.load(path).flux for path, _ in prepared])
    fine_tuned_on = tune(ensemble, records, flux, args, settings) if args.tune else ensemble.fine_tuned_on
    stars = pd.DataFrame(records).assign(karmn=batch.name_stars(record["karmn"] for record in records))
    if args.corrections:
        table, sheets = ensemble.estimate(stars, flux, predictor.other_instrument(stars, fine_tuned_on))
        drawn = joint.write_pages(args.out, table, sheets, joint_run.about(fine_tuned_on), earlier.outputs)
        warnings = joint_run.warnings(table, fine_tuned_on)
    else:
        tuned, seen = (Artifacts(args.out), split_usable(flux)[1]) if args.tune else (None, None)
        table, predictions, reconstruction = predictor.load(ensemble, tuned).estimate(stars, flux, fine_tuned_on, seen)
        drawn = star_page.write_all(args.out, table, flux, reconstruction, predictions, predictor.about(fine_tuned_on),
                                    args.jobs, earlier.outputs)
        warnings = predictor.warnings(table, fine_tuned_on)
    write(args, ensemble, [path for path in paths if path not in left_out], table, drawn, fine_tuned_on, settings)
    for name in set(earlier.outputs) - {NAME, *(path.name for path in drawn)}:  # pictures of stars that are gone
        (args.out / name).unlink(missing_ok=True)
    print(shown(table), *warnings, sep="\n")
    print(f"{args.out / NAME}: {len(stars)} of {len(paths)} files estimated, {len(left_out)} left out"
          + "".join(f"\n  {path} {reason}" for path, reason in left_out.items()))


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    batch.add_arguments(parser)
    add("--artifacts", type=folder, default=ROOT / "artifacts", metavar="DIR",
        help="folder of the run whose networks are used; default: artifacts")
    add("--data", type=folder, metavar="DIR", help="folder of the synthetic set that they were trained on; default: "
        "looked for in src_files")
    add("--out", type=folder, metavar="DIR", help="folder to write; default: estimates in that of --artifacts")
    add("--corrections", type=folder, metavar="OUT", help="folder that joint_fit.py wrote: fit the stars with its "
        "corrections; no networks and no --artifacts are needed")
    add("--tune", action="store_true", help=f"fine-tune the autoencoders on the given stars first, {TO_TUNE} at least")
    add("--overwrite", action="store_true", help="replace the estimates of other stars, and networks tuned on them")
    args = parser.parse_args(argv)
    args.out, paths = args.out or (args.corrections or args.artifacts) / "estimates", list(dict.fromkeys(args.files))
    if args.corrections:
        if args.tune:
            raise BadInput("--tune fine-tunes networks, --corrections uses none: leave one of them out")
        ensemble = joint_run.load(args.corrections, args.data or predictor.find_synthetic(
            args.corrections / joint_run.FIELDS, "joint_fit"))
    else:
        ensemble = predictor.select(args.artifacts, args.data)
    with lock(args.out):
        estimate_files(args, paths, ensemble)


if __name__ == "__main__":
    sys.exit(main())
