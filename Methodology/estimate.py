"""Estimate the four parameters of stars from their spectra, with the networks of a run; nothing is trained.

Reads   spectrum files of any form and instrument that src_files/prepare_spectra.py knows; or, with --spectra, a folder
        of arrays as it leaves them: carmf_norm.npy, stars.csv, provenance.json
        {artifacts}/final_estimations.json, ac_{i}.h5, dtl_ac_{i}.h5, encoded_ph_ac_{i}.npy,
        cnn_regressor_{par}_{k}_ac_{i}.h5
        {data}/ph_flux_norm.npy, ph_pars.npy         the synthetic set that the networks were trained on
Writes  {out}/estimates.csv (+ .json)                a row a star: the columns of the published table, then what is
                                                     known of the spectrum, and flags; --table names it
        {out}/blocks/                                its parts, so that an interrupted run goes on
        {out}/{name}.png                             a picture a star: spectrum, reconstruction, predictions
        {out}/carmf_norm.npy, stars.csv, prepared/   of files: what was prepared, so that the next time goes faster
        {out}/dtl_ac_{i}.h5 (+ .json)                with --tune: the networks fine-tuned on the stars

Each spectrum is prepared as prepare_spectra.py does it, encoded by every fine-tuned autoencoder that the kept
regressors of the run need, and estimated by these regressors as act 4 does it. A file that cannot be used is left
out, with the reason. The flag other-instrument is for stars of other instruments than the one whose spectra the
autoencoders were fine-tuned on; --tune fine-tunes them, as act 3 does, on the given stars first.

With --corrections the stars are fitted with what a run of joint_fit.py found the synthetic spectra to lack, and moved
by its gauge (docs/joint-fit.md): no networks and no --artifacts are needed, and of a run only OUT/joint_fields.npy (+
.json), joint_stars.npy and gauge.csv. The table has each uncertainty's own part and the part that all stars share too.

    python Methodology/estimate.py --artifacts artifacts/demo star.fits more/*.csv
    python Methodology/estimate.py --artifacts artifacts/demo --tune --out mine spectra/*.fits
    python Methodology/estimate.py --spectra src_files/survey --out survey --table survey.parquet
    python Methodology/estimate.py --corrections artifacts/demo/joint star.fits more/*.csv
"""
import argparse
import itertools
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import pandas as pd

import paper
from figures import joint, star_page
from inference import flags, joint_run, predictor, survey
from observations import batch, orders, preparation
from spectra import star_tables
from spectra.dataset import OUTSIDE, Dataset
from training import backend, fine_tuning, networks
from workflow import runner, schemas
from workflow.artifacts import FINETUNED, Artifacts, chosen
from workflow.command_line import ROOT, command, folder
from workflow.files import BadInput, load_array, lock, sha256, take, write_csv, write_json
from workflow.units import CODE, Unit, finish, read_sidecar, sidecar_of, versions

TO_TUNE = 20  # stars at least; ours: act 3 keeps a fifth of them to test


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
    loaded = predictor.loaded(artifacts, data, None, sidecar.exists() and sha256(sidecar))
    ensemble, power = loaded.ensemble, loaded.ensemble.resolving_power
    spectrum = orders.from_arrays(wavelength, flux, error, unit, medium, name, resolution or power)
    settings = preparation.Settings(power, continuum=ensemble.continuum, max_bad=max_bad)
    star = preparation.prepare(spectrum, ensemble.templates, settings)
    stars = pd.DataFrame([{"karmn": name, "file": "", **star.record, "instrument": instrument}])
    foreign = predictor.other_instrument(stars, ensemble.fine_tuned_on)
    return loaded.estimate(stars, star.flux[None], foreign)[0].iloc[0]


# ---------------------------------------------------------------- --tune
def work(unit, tick):
    """Fine-tune one autoencoder on four fifths of the stars, with the settings of act 3; measure errors on the rest."""
    started = time.time()
    backend.forget_models()
    ac, carm = unit.inputs
    flux, autoencoder = load_array(carm, 2, "run again"), networks.load(ac, seed=unit.own_seed)
    _, train_rows, test_rows = Dataset(carm.parent).rows_carm
    metrics = {"mse_carm_test_before": networks.mse(autoencoder, flux, test_rows)}
    history = fine_tuning.fine_tune(autoencoder, unit.settings, flux, tick, train_rows)
    metrics["mse_carm_test_after"] = networks.mse(autoencoder, flux, test_rows)
    networks.save(autoencoder, unit.path)
    finish(unit, started, metrics, history, read_sidecar(ac).network)


def check_to_tune(names, data):
    """Refuse to fine-tune on stars, of these names in their files, that are too few or the same."""
    spectra = [row.tobytes() for row in take(data.flux_carm, slice(None))]
    spectrum, copies = Counter(spectra).most_common(1)[0]
    if copies > 1:
        file = data.stars["file"][spectra.index(spectrum)]
        raise BadInput(f"--tune: {copies} files hold the same spectrum, that of {file}: give each once")
    if len(set(names)) < TO_TUNE:
        raise BadInput(f"--tune: {len(names)} of the given files gave {len(set(names))} different stars, at least "
                       f"{TO_TUNE} are needed: give more, or leave --tune out")


def tune(ensemble, data, provenance, args):
    """Fine-tune on the stars of a folder, whose provenance is given; the Artifacts with the networks."""
    units, tuned = [], Artifacts(args.out)
    for i in ensemble.autoencoders:
        sidecar = read_sidecar(ensemble.artifacts.autoencoder(i, FINETUNED))
        inputs = ensemble.artifacts.autoencoder(i), data.carm
        units.append(Unit(tuned.autoencoder(i, FINETUNED), sidecar.settings, inputs, sidecar.seed,
                          provenance=provenance, number=i))
    runner.report(runner.run(units, work, options(args), units[0].settings["epochs"], "fine-tuning"))
    for unit in units:
        metrics = read_sidecar(unit.path).metrics
        print(f"{unit.name}: mse of the test stars {metrics['mse_carm_test_before']:.2g} before, "
              f"{metrics['mse_carm_test_after']:.2g} after")
    return tuned


def options(args):
    """The flags that `runner.run` takes, with the folder where the units lie."""
    return argparse.Namespace(**{**vars(args), "artifacts": args.out, "dry_run": False})


# ---------------------------------------------------------------- what is left
def check_out(args, paths):
    """Refuse a folder of spectra or of a run, and to replace estimates of other files; the schemas.Estimates there."""
    spectra, table = Dataset(args.out), args.out / args.table
    sidecar = sidecar_of(table)
    others = [spectra.ph, spectra.pars, spectra.note, Artifacts(args.out).selection]
    if not (sidecar.exists() or (args.out / "prepared").exists()):  # else an earlier run left it
        others.append(spectra.carm)
    if foreign := [path for path in others if path.exists()]:
        raise BadInput(f"{args.out} holds {foreign[0].name}, so spectra or a run: choose another --out")
    if not sidecar.exists():
        if table.exists():
            raise BadInput(f"{table} was not made by this script: move it away, or choose another --out")
        return schemas.Estimates(schemas.UNKNOWN)
    estimates = schemas.read(sidecar, schemas.Estimates, "delete it, or choose another --out")
    digests = {sha256(path) for path in paths if path.is_file()}
    lost = [name for name, digest in estimates.inputs.items() if digest not in digests]
    if lost and not args.overwrite:
        raise BadInput(f"{table} has the stars of other files, such as {lost[0]} ({len(lost)} in all): give these "
                       "too, choose another --out, or --overwrite")
    return estimates


def write(args, told, kept, models, paths, drawn, earlier):
    """Write the sidecar of the table, last of all: from which files, with which networks and settings it was made.

    `told` are the provenance to write and the settings; pictures of stars that are gone are removed.
    """
    table, (provenance, settings) = args.out / args.table, told
    record = schemas.Estimates(provenance, kept=kept, inputs={str(path): sha256(path) for path in paths},
                               outputs={path.name: sha256(path) for path in (table, *drawn)})
    write_json(sidecar_of(table), schemas.signed({
        **schemas.plain(record), "settings": {"tune": args.tune, **settings},
        "networks": {path.name: sha256(path) for path in models}, "versions": versions(), "code": CODE}))
    for name in set(earlier.outputs) - {table.name, *(path.name for path in drawn)}:
        (args.out / name).unlink(missing_ok=True)


def join(args, ensemble, units, paths, earlier, spectra, settings):
    """Leave the table of some blocks and its pictures; `spectra` is the word for where the spectra come from."""
    told, fine_tuned_on = survey.summary(units), survey.fine_tuned_on(units[0])
    survey.join(units, args.out / args.table)
    drawn = draw(args, units, told, predictor.about(fine_tuned_on), earlier.outputs)
    word = f"{spectra}, by networks of {fine_tuned_on.spectra} spectra"
    models = [path for path in units[0].inputs if path.suffix == ".h5"]
    write(args, (msgspec.structs.replace(fine_tuned_on, spectra=word), settings), ensemble.kept, models, paths, drawn,
          earlier)
    say(units, told, fine_tuned_on)


def fit(args, corrections, data, paths, earlier, spectra, settings):
    """Leave the table of stars that are fitted with the corrections of a joint fit, and its pictures."""
    (_, start, stop), = star_tables.blocks(data.stars_table, len(data.flux_carm), survey.REMEDY)
    stars = star_tables.read_block(data.stars_table, start, stop, survey.REMEDY)
    seen = corrections.fine_tuned_on
    table, sheets = corrections.estimate(stars, take(data.flux_carm, slice(None)),
                                         predictor.other_instrument(stars, seen))
    write_csv(args.out / args.table, table)
    drawn = joint.write_pages(args.out, table, sheets, joint_run.about(seen), earlier.outputs)
    word = f"{spectra}, by corrections of {seen.spectra} spectra"
    write(args, (msgspec.structs.replace(seen, spectra=word), settings), {}, corrections.files, paths, drawn, earlier)
    print(shown(table), *joint_run.warnings(table, seen), sep="\n")


def draw(args, units, told, note, own):
    """Draw the stars that --pictures asks for, a few at a time; the paths of the pictures."""
    doubted = (row for part in survey.parts(units) for row in part.index[flags.flagged(part, *paper.PARAMETERS)])
    rows, drawn = star_page.chosen(args.pictures, told.n_stars, doubted), []
    while piece := list(itertools.islice(rows, star_page.MOST)):
        table, flux, reconstruction, predictions = survey.look(units, piece)
        drawn += star_page.write_all(args.out, table, flux, reconstruction, predictions, note, args.jobs,
                                     set(own) - {path.name for path in drawn})
    return drawn


def say(units, told, fine_tuned_on):
    """Print estimates of a few stars, or how many have which flag, and what to be warned of."""
    warnings = predictor.warnings(told.n_stars, told.n_foreign, told.foreign, fine_tuned_on)
    if told.n_stars <= star_page.MOST:
        print(shown(pd.concat(survey.parts(units))))
    else:
        print(f"{told.n_doubted} of {told.n_stars} stars have a flag that casts doubt on them; stars with each flag:",
              *(f"  {words}: {n}" for words, n in told.words.most_common()), sep="\n")
    if told.n_unusable:
        warnings.append(f"warning: {told.n_unusable} spectra cannot be used, {OUTSIDE} or constant stretches: their "
                        "rows have no estimates")
    for line in warnings:
        print(line)


def shown(table):
    """The table as it is printed, each estimate and its uncertainties in one column, a str."""
    columns = {"star": table["karmn"]}
    for parameter in paper.PARAMETERS.values():
        x, digits = parameter.published, parameter.digits
        columns[f"{x} [{parameter.unit}]"] = [
            f"{value:.{digits}f} -{below:.{digits}f} +{above:.{digits}f}"
            for value, below, above in table[[x, f"e_{x}", f"E_{x}"]].to_numpy()]
    return pd.DataFrame({**columns, "flags": flags.in_words(table)}).to_string(index=False)


# ---------------------------------------------------------------- files, or arrays
def estimate_files(args, paths, ensemble):
    """Prepare the stars, estimate them, and leave table and pictures; the folder is this process's alone."""
    earlier = check_out(args, paths)
    settings = batch.settings_of(args, ensemble.resolving_power, ensemble.continuum)
    print(f"{len(paths)} files to R {settings.target:.0f}, divided by their {settings.continuum} continuum, as the "
          f"{ensemble.trained_on.spectra} synthetic set is", flush=True)
    stars = batch.prepare(paths, args.out, batch.reading_of(args), ensemble.templates, settings, args.jobs)
    stars.install(args.out)
    data, mark = Dataset(args.out), batch.mark(stars.instruments, ensemble.trained_on, settings)
    used = [path for path in paths if path not in stars.left_out]
    word = ", ".join(sorted(name or "own" for name in stars.instruments))
    told = batch.told(settings)
    if args.corrections:
        fit(args, ensemble, data, used, earlier, word, told)
    else:
        provenance = schemas.convert(mark, schemas.Provenance, args.out, "use another --out")
        if args.tune:
            check_to_tune(stars.names, data)
        tuned = tune(ensemble, data, provenance, args) if args.tune else None
        units = survey.plan(data, ensemble, args.out, provenance, tuned)
        runner.report(runner.run(units, survey.work, options(args), description="estimates", redo_stale=True))
        join(args, ensemble, units, used, earlier, word, told)
    print(f"{args.out / args.table}: {batch.outcome(stars.left_out, len(paths), 'estimated')}")


def estimate_spectra(args, ensemble):
    """Estimate the stars of a folder of arrays, block by block, and leave table and pictures."""
    data = Dataset(args.spectra)
    survey.check(data, ensemble)
    paths = [data.carm, data.stars_table]
    check_out(args, paths)
    units = survey.plan(data, ensemble, args.out, data.provenance)
    wanted = [units[i] for i in chosen(args.only, len(units))]
    runner.report(runner.run(wanted, survey.work, options(args), description="estimates"))
    if args.only:
        print(f"{len(wanted)} of {len(units)} blocks are done: the same command without --only leaves the table")
        return
    with lock(args.out):
        join(args, ensemble, units, paths, check_out(args, paths), data.provenance.spectra, {})
    print(f"{args.out / args.table}: {len(data.flux_carm)} stars, spectra: {data.provenance.kind}")


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     fromfile_prefix_chars="@")
    add = parser.add_argument
    batch.add_arguments(parser, files="*")
    add("--spectra", type=folder, metavar="DIR", help="folder of prepared spectra, as arrays, in place of files")
    add("--artifacts", type=folder, default=ROOT / "artifacts", metavar="DIR",
        help="folder of the run whose networks are used; default: artifacts")
    add("--data", type=folder, metavar="DIR", help="folder of the synthetic set that they were trained on; default: "
        "looked for in src_files")
    add("--out", type=folder, metavar="DIR", help="folder to write; default: estimates in that of --artifacts")
    add("--table", type=Path, default=Path("estimates.csv"), metavar="NAME", help="of the table in it, .csv or "
        ".parquet; default: %(default)s")
    add("--pictures", choices=("none", "flagged", "all"), help=f"of which stars; default: all of up to "
        f"{star_page.MOST}, of more the first {star_page.MOST} that are flagged")
    add("--corrections", type=folder, metavar="OUT", help="folder that joint_fit.py wrote: fit the stars with its "
        "corrections; no networks and no --artifacts are needed")
    add("--tune", action="store_true", help=f"fine-tune the autoencoders on the given stars first, {TO_TUNE} at least")
    add("--only", type=int, nargs="+", metavar="I", help=f"only these blocks of {survey.BLOCK} stars, for array jobs, "
        "and no table; with --spectra")
    add("--scheduler", metavar="tcp://HOST:PORT", help="of a Dask cluster that estimates, instead of this machine")
    add("--overwrite", action="store_true", help="replace the estimates of other stars, and networks tuned on them")
    args = parser.parse_args(argv)
    args.out = args.out or (args.corrections or args.artifacts) / "estimates"
    if args.scheduler:  # its workers have another current folder
        args.out, args.artifacts = args.out.absolute(), args.artifacts.absolute()
        args.data, args.spectra = (path and path.absolute() for path in (args.data, args.spectra))
    refuse(args)
    if args.corrections:
        ensemble = joint_run.load(args.corrections, args.data or predictor.find_synthetic(
            args.corrections / joint_run.FIELDS, "joint_fit"))
    else:
        ensemble = predictor.select(args.artifacts, args.data)
    if args.spectra:
        return estimate_spectra(args, ensemble)
    with lock(args.out):
        estimate_files(args, list(dict.fromkeys(args.files)), ensemble)


def refuse(args):
    """Refuse flags that do not go together."""
    if bool(args.files) == bool(args.spectra):
        raise BadInput("give files of spectra, or a folder of arrays with --spectra")
    if args.only and not args.spectra:
        raise BadInput("--only takes blocks of --spectra: leave it out, or give a folder of arrays")
    if args.corrections and args.tune:
        raise BadInput("--tune fine-tunes networks, --corrections uses none: leave one of them out")
    if args.spectra and args.tune:
        raise BadInput("--tune takes files: fine-tune on the arrays of --spectra with act 3")
    if args.corrections and (args.spectra or args.table.suffix != ".csv"):
        raise BadInput("--corrections takes files and leaves a .csv: give no --spectra, and no other --table")
    survey.check_format(args.table)


if __name__ == "__main__":
    sys.exit(main())
