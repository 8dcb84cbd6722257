"""Where the paper ends (ours): labels of all stars and what the synthetic spectra lack, fitted together, no networks.

Reads   {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy, stars.csv; --anchors FILE
Writes  {out}/joint_fields.npy, joint_stars.npy (+ .json)   what all stars share, by bin, and each star's numbers
        {out}/joint_block_{k}.npy (+ .json)                 of very many stars, block by block, with these fields
        {out}/joint_estimations.csv (+ .json)               the published columns, own and shared parts, the flags
        {out}/alone_estimations.csv (+ .json)               each star by itself, the baseline
        {out}/anchors_used.csv                              the anchors that were used, of each parameter
        {out}/gauge.csv                                     the affine map of the labels: from where, and how uncertain
        {out}/corrections.csv, corrections.png              what the synthetic spectra lack, bin by bin
        {out}/pages/{name}.png                              a page a star, of the --pictures that are fitted worst

The synthetic spectra are wrong in the same way for all stars, so all stars together tell how, where one cannot: see
docs/joint-fit.md, inference/joint_fit.py for the equations and inference/gauge.py for what the spectra cannot tell: an
affine map of the labels, the same for all stars. That comes from outside: the mean of the sample, and anchors, a CSV
with karmn and any of teff, logg, mh, vsini with their errors e_teff, ..., and s_teff, ... for an error that all anchors
share. An anchor is never scored.

    python Methodology/joint_fit.py --mean-teff 3500 50
    python Methodology/joint_fit.py --data src_files/demo --artifacts artifacts/demo --anchors anchors.csv
"""
import contextlib
import itertools
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

import paper
from evaluation import anchors
from evaluation.joint import errors_beside_baselines
from evaluation.run import load
from figures import joint as figures
from inference import flags, gauge, joint_fit, joint_run
from spectra.dataset import Dataset
from workflow import runner, schemas
from workflow.artifacts import Artifacts
from workflow.command_line import command, folder, number, parse
from workflow.files import (
    BadInput,
    check_own,
    lock,
    read_table,
    sha256,
    unchanged,
    write_array,
    write_csv,
    write_json,
    writing,
)
from workflow.units import CODE, NAMES, Unit, finish, read_sidecar, sidecar_of

TEACHERS = 500  # stars that the shared fields are fitted with: more tell no more of them, and take longer
BLOCK = 1000  # further stars a unit
TABLES = ("joint_estimations.csv", "alone_estimations.csv", "anchors_used.csv", joint_run.MAP, "corrections.csv",
          "corrections.png")
# Of a star's numbers: 7 of its own, errors of labels and v sin i, 4 and 4 of the star alone, its misfit; and with a
# veiling the number of its own that it is made of, the veiling, and how far below and above the truth may be
COLUMNS, MISFIT = 20, 19


# ---------------------------------------------------------------- units
def plan(args, data):
    """The fit of the shared fields, and blocks of further stars; the rows of the stars that teach the fields."""
    n_stars = len(data.flux_carm)
    teachers = np.unique(np.linspace(0, n_stars - 1, min(n_stars, args.teachers)).round().astype(int))
    settings = {"mean": args.pin, "priors": asdict(joint_fit.PRIORS), "teachers": len(teachers),
                "errors": joint_fit.ERRORS}
    if args.veiling:
        settings |= {"veiling": joint_fit.VEILING, "bend": joint_fit.BEND}
    if joint_run.window_of(data):
        settings["window"] = joint_run.window_of(data)
    inputs = data.ph, data.pars, data.carm, data.stars_table
    fields = Unit(args.out / joint_run.FIELDS, settings, inputs, args.seed, (args.out / "joint_stars.npy",),
                  data.provenance)
    further = np.setdiff1d(np.arange(n_stars), teachers)
    blocks = [Unit(args.out / f"joint_block_{k}.npy", {**settings, "first": int(part[0]), "last": int(part[-1])},
                   (*inputs, fields.path), args.seed, (), data.provenance)
              for k, part in enumerate(further[i : i + BLOCK] for i in range(0, len(further), BLOCK))]
    return fields, blocks, teachers


def numbers_of(fit, alone, misfit, used):
    """What is kept of each star, (n_stars, COLUMNS) or four more, NaN where nothing could be used."""
    numbers = np.c_[fit.own[:, :7], fit.error, alone.own[:, :4], alone.error, misfit, fit.own[:, 7:], fit.veiling]
    numbers[~used] = np.nan
    return numbers


def own_of(numbers):
    """A star's own numbers, as of `joint_fit.Fit`, of what `numbers_of` keeps."""
    return np.c_[numbers[:, :7], numbers[:, COLUMNS : COLUMNS + 1]]


def work(unit, tick):
    """Fit the fields and the stars that teach them, or a block of stars with these fields."""
    started, (ph, pars, carm, stars, *_) = time.time(), unit.inputs
    data = joint_run.opened(ph.parent, [path.name for path in (ph, pars, carm, stars)])
    emulator, pixels = joint_run.emulator_of(data)
    how, n_stars = (unit.settings["mean"], unit.settings.get("veiling", 0.0)), len(data.flux_carm)
    teachers = np.unique(np.linspace(0, n_stars - 1, unit.settings["teachers"]).round().astype(int))
    block = "first" in unit.settings
    rows = teachers
    if block:
        rows = np.setdiff1d(np.arange(unit.settings["first"], unit.settings["last"] + 1), teachers)
    flux, variance = joint_run.observed(data, rows, pixels)
    used = np.isfinite(variance).any(axis=1)
    alone = joint_fit.fit_alone(emulator, flux, variance, *how)
    if block:
        fit = joint_fit.fit_with(emulator, joint_run.fields_of(unit.inputs[-1]), flux, variance, *how)
        misfit = joint_fit.misfit(emulator, fit, flux, variance)
        write_array(unit.path, numbers_of(fit, alone, misfit, used))
        metrics = {}
    else:
        if not used.any():
            raise BadInput(f"{data.carm}: no spectrum is usable: normalise the flux to 0..1.5")
        part = joint_fit.fit_jointly(emulator, flux[used], variance[used], *how)
        n_own = part.own.shape[1]
        fit = replace(part, own=np.full((len(flux), n_own), np.nan), noise=np.zeros(len(flux)),
                      curvature=np.tile(np.eye(n_own), (len(flux), 1, 1)))
        fit.own[used], fit.curvature[used], fit.noise[used] = part.own, part.curvature, part.noise
        misfit = joint_fit.misfit(emulator, fit, flux, variance)
        write_array(unit.also[0], numbers_of(fit, alone, misfit, used))
        write_array(unit.path, joint_run.stored(part.fields))
        metrics = {"converged": float(part.converged), "shared": float(part.shared),
                   "steps": float(len(part.objective)), "misfit": float(part.fields.misfit),
                   joint_run.MISFIT: float(np.nanquantile(misfit, flags.QUANTILE))}
    finish(unit, started, metrics)
    tick()


# ---------------------------------------------------------------- tables
def pieces(n_stars, fields, blocks, teachers):
    """Rows of the stars and what `numbers_of` keeps of each: a block, and the teachers among it, at a time."""
    of_teachers = np.load(fields.also[0])
    ends = [*(unit.settings["last"] + 1 for unit in blocks[:-1]), n_stars]
    for unit, start, stop in itertools.zip_longest(blocks, [0, *ends[:-1]], ends):
        rows = np.arange(start, stop)
        teaching, numbers = np.isin(rows, teachers), np.empty((len(rows), of_teachers.shape[1]))
        numbers[teaching] = of_teachers[np.isin(teachers, rows)]
        if unit:
            numbers[~teaching] = np.load(unit.path)
        yield rows, numbers


def gathered(stars, anchored, n_worst):
    """Of stars, piece by piece: mean labels, numbers of the rows `anchored`, and rows and numbers of the worst fits."""
    total, n_good, known, worst = 0.0, 0, [], (np.empty(0, int),)
    for rows, numbers in stars:
        good = np.isfinite(numbers[:, :4]).all(axis=1)
        total, n_good = total + numbers[good, :4].sum(axis=0), n_good + good.sum()
        known.append(numbers[np.isin(rows, anchored)])
        rows, numbers = np.r_[worst[0], rows[good]], np.concatenate([*worst[1:], numbers[good]])
        order = np.sort(np.argsort(-numbers[:, MISFIT], kind="stable")[:n_worst])
        worst = rows[order], numbers[order]
    return total / n_good, np.concatenate(known), worst


def write_tables(args, data, stars, solutions, limit, chosen):
    """Write the tables of estimates piece by piece; the words of flags that nothing tells of, and the `chosen` rows.

    Parameters
    ----------
    stars : iterable
        As `pieces` gives it.
    solutions : dict of gauge.Gauge
    limit : float
        Misfit above which a star has a flag.
    chosen : ndarray of int

    Returns
    -------
    left_out : list of list of str
        Of either table.
    pages : DataFrame
        The chosen rows of the first.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(stack.enter_context(writing(args.out / name)), "w", newline=""))
                 for name in TABLES[:2]]
        pages = []
        for rows, numbers in stars:
            say_bad(data, rows, numbers)
            of_stars = data.stars.iloc[rows]
            single = {par: (numbers[:, 11 + k], numbers[:, 15 + k], 0 * numbers[:, 15 + k])
                      for k, par in enumerate(paper.PARAMETERS)}
            joint = joint_run.evidence_of(data, of_stars, numbers[:, MISFIT], limit)
            alone = {name: value for name, value in joint.items() if name not in ("mse", "limits")}
            made = [joint_run.table(of_stars, values, evidence) for values, evidence in (
                (anchors.mapped(numbers[:, :4], numbers[:, 7:11], solutions), joint), (single, alone))]
            joint_run.add_veiling(made[0][0], numbers[:, COLUMNS + 1 :])
            for file, (table, _) in zip(files, made):
                table.to_csv(file, index=False, header=not rows[0])
            pages.append(made[0][0][np.isin(rows, chosen)])
    return [left_out for _, left_out in made], pd.concat(pages)


def write_sidecar(path, data, args, inputs, left_out, beside=()):
    """Write the sidecar of a table of estimates, which names files beside it too."""
    outputs = {name: sha256(path.with_name(name)) for name in (path.name, *beside)}
    sidecar = schemas.Estimates(data.provenance, args.seed, {}, inputs, outputs, left_out, CODE)
    write_json(sidecar_of(path), schemas.signed(schemas.plain(sidecar)))


def write_corrections(args, data, unit, teachers):
    """Write corrections.csv and the figure."""
    emulator, pixels = joint_run.emulator_of(data)
    flux, variance = joint_run.observed(data, teachers, pixels)
    own = own_of(np.load(unit.also[0]))
    used = np.isfinite(own).all(axis=1)
    fit = joint_fit.Fit(own[used], joint_run.fields_of(unit.path), None, None, [], True, True)
    table = pd.DataFrame(joint_fit.corrections(emulator, flux[used], variance[used], fit, args.pin))
    table.insert(0, "wave", emulator.wave(len(table)))
    table["mean_flux"], table["corrected_flux"] = np.exp(-table["depth"]), np.exp(-table["depth"] - table["missing"])
    table = table.assign(spectra=data.provenance.spectra, run=True).round(6)
    write_csv(args.out / "corrections.csv", table.drop(columns="run"))
    with writing(args.out / "corrections.png") as partial:
        figures.corrections(table).savefig(partial, dpi=110)


def write_pages(args, data, unit, worst, table):
    """Write the pages of the stars that are fitted worst, of which `worst` has rows and numbers, `table` estimates."""
    rows, numbers = worst
    shutil.rmtree(args.out / "pages", ignore_errors=True)
    if not len(rows):
        return
    emulator, pixels = joint_run.emulator_of(data)
    fit = joint_fit.Fit(own_of(numbers), joint_run.fields_of(unit.path), None, None, [], True, True)
    sheets = joint_run.Sheets.of(emulator, fit, *joint_run.observed(data, rows, pixels))
    figures.write_pages(args.out / "pages", table, sheets, joint_run.about(data.provenance))


def add_arguments(what, how_much, where):
    what.add_argument("--out", type=folder, metavar="DIR", help="folder of the results; None: joint in --artifacts")
    what.add_argument("--anchors", type=Path, metavar="FILE", help="CSV of stars whose parameters are known")
    for par in gauge.LABELS:
        what.add_argument(f"--mean-{par}", type=number(float, -1e9), nargs=2, metavar=("MEAN", "ERROR"),
                          help=f"what is known of the sample's mean [{paper.PARAMETERS[par].unit}]")
    what.add_argument("--veiling", action="store_true", help="fit light without lines, as of accreting stars")
    how_much.add_argument("--teachers", type=number(int, 2), default=TEACHERS, metavar="N",
                          help="stars that the shared fields are fitted with")
    how_much.add_argument("--pictures", type=number(int, 0), default=20, metavar="N",
                          help="pages of stars, those that are fitted worst")


@command
def main(argv=None):
    args = parse(__doc__, argv, add_arguments)
    args.out = args.out or Artifacts(args.artifacts).joint
    results, args.artifacts = args.artifacts, args.out
    if args.scheduler:
        args.out = args.artifacts = args.out.absolute()
    data = Dataset(args.data)
    data.check_synthetic()
    means = {par: tuple(getattr(args, f"mean_{par}")) for par in gauge.LABELS if getattr(args, f"mean_{par}")}
    for par, (mean, error) in means.items():
        low, high = data.label(par).min(), data.label(par).max()
        if not (error > 0 and low <= mean <= high):
            raise BadInput(f"--mean-{par}: the error must be above zero, the mean from {low:g} to {high:g} as the "
                           "labels of the synthetic spectra are")
    args.pin = [means.get(par, (usual,))[0] for par, usual in zip(gauge.LABELS, joint_fit.PRIORS.mean)]
    with unchanged(*filter(None, [args.anchors])) as known:
        observations, names, absent = anchors.read(args.anchors, data.stars)
    if absent:
        print(f"{args.anchors}: {len(absent)} anchors are not among the stars, as {absent[0]}")
    fields, blocks, teachers = plan(args, data)
    for name in (*TABLES, "pages"):
        check_own(args.out / name, sidecar_of(fields.path).exists())
    outside = dict(zip(["anchors"], known.values()))
    inputs = {**fields.identity["inputs"], NAMES: data.names, **outside}
    if inputs[data.stars_table.name] != data.stars_digest:
        raise BadInput(f"{data.stars_table} was changed while it was read: run again")
    if runner.run([fields], work, args, description="joint fit") is None:
        return
    for doubt in joint_run.doubts(fields.path):
        print(f"warning: {doubt}")
    if blocks and runner.run(blocks, work, args, description="blocks of stars") is None:
        return
    with lock(args.out):
        started, of_map = time.time(), Unit(args.out / joint_run.MAP, {"means": means, **outside}, (fields.path,),
                                            args.seed, (), data.provenance)
        n_stars, wider = len(data.flux_carm), gauge.OF_A_JOINT_FIT * joint_run.fields_of(fields.path).inflation
        anchored = np.unique(np.concatenate([np.asarray(known.rows, int) for known in observations.values()]))
        centre, numbers, worst = gathered(pieces(n_stars, fields, blocks, teachers), anchored, args.pictures)
        at = {par: replace(known, rows=np.searchsorted(anchored, np.asarray(known.rows, int)))
              for par, known in observations.items()}
        solutions, table_of_gauge = anchors.maps(numbers[:, :4], numbers[:, 7:11], at, means, wider, centre)
        used = [(star, par) for par, stars in names.items() for star in stars]
        write_csv(args.out / "anchors_used.csv", pd.DataFrame(used, columns=["karmn", "parameter"]))
        write_csv(of_map.path, table_of_gauge.assign(spectra=data.provenance.spectra))
        finish(of_map, started, {})
        write_corrections(args, data, fields, teachers)
        limit = read_sidecar(fields.path).metrics.get(joint_run.MISFIT, np.nan)
        stars = pieces(n_stars, fields, blocks, teachers)
        left_out, pages = write_tables(args, data, stars, solutions, limit, worst[0])
        for name, words, beside in zip(TABLES, left_out, (TABLES[2:], ())):
            write_sidecar(args.out / name, data, args, inputs, words, beside)
        write_pages(args, data, fields, worst, pages)
    print("\nWhat is known of the map that the spectra cannot tell (offsets and slopes, added to the labels)")
    shown = table_of_gauge[["parameter", "term", "value", "error", "from"]]
    print(shown.to_string(index=False, float_format="{:.3g}".format))
    print("\nMedian uncertainty of a star: own part, and part that all stars share")
    numbers = np.load(fields.also[0])
    for par, (_, own, shared) in anchors.mapped(numbers[:, :4], numbers[:, 7:11], solutions).items():
        print(f"  {par:5}  {np.nanmedian(own):.3g}, {np.nanmedian(shared):.3g} {paper.PARAMETERS[par].unit}")
    if data.provenance.kind.simulated and set(paper.PARAMETERS) <= set(data.stars):
        compare(args.out, data, names, results)
    print(f"{n_stars} stars, spectra: {data.provenance.spectra} -> {args.out / 'joint_estimations.csv'}")


def say_bad(data, rows, numbers):
    """A line for each of some stars that has no estimate."""
    for row in rows[np.isnan(numbers[:, 0])]:
        print(f"warning: {data.carm} row {row}, {data.stars['karmn'][row]}: more than half of its pixels are NaN, "
              "constant or far outside 0..1.5; left out")


def compare(out, data, names, results):
    """Print errors of simulated stars beside the baselines, and beside the recipe's if it has run."""
    joint, alone = (read_table(out / name, "karmn", "run again") for name in TABLES[:2])
    tables = {"each star alone": alone, "joint": joint}
    recipe = Artifacts(results).estimates()
    if recipe.exists():
        try:
            table = load(data.folder, results).table(recipe)
        except BadInput as error:
            table = joint[:0]
            print(f"warning: the recipe's estimates are not compared: {error}")
        if list(table["karmn"]) == list(joint["karmn"]):
            tables = {"the recipe, fine-tuned": table, **tables}
    print("\nEstimates of SIMULATED stars against the truth, anchors left out")
    print(errors_beside_baselines(tables, data.stars, names).to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    sys.exit(main())
