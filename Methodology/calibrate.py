"""Calibrated errors: how far to trust each estimate, by stars of which something independent is known.

Reads   literature_data/*.csv; a run's final_estimations.csv and its sidecar, if one is given
        of a run of simulated spectra the truth, {data}/stars.csv, instead of the literature
Prints  offset and extra scatter of each parameter, and how often its 68 % and 95 % intervals hold, before and after
Writes  final_estimations_calibrated.csv (+ .json)    beside the run's table, or in --out; what was there stays as it is
        with --anchors instead {name of the table}_anchored.csv (+ .json), in the form of final_estimations.csv

Maximum likelihood finds the offset (literature minus estimate) and a scatter that is added in quadrature to the
uncertainties of both, see inference/calibration.py. Coverage after calibration is leave-one-out: each star's by a fit
that has not seen it. A parameter's first reference below is used unless --reference says otherwise: the most direct
one of those that have ten stars.

    teff    interf    interferometric Teff: angular diameter and flux, no spectrum
            mann15    Mann+15, whose scale is set by interferometry
    logg    schw19    Schweitzer+19, from mass and radius
    mh      mann15    Mann+15, [Fe/H] from infrared lines, on the scale of FGK+M binaries
            fgkm      [Fe/H] of the FGK primary, six stars
    vsini   rein18    Reiners+18, most of it upper limits

Simulated stars are calibrated on their truth, on one half of them; coverage is that of the other half, behind the same
gap and in the runs of --test, behind other gaps. What is lost from the one to the other a calibration can only know
from runs behind further gaps (--gaps): the error that all stars behind one gap share is then drawn from theirs.

With --anchors (ours) any table of estimates, of real or simulated stars, is moved by an affine map onto stars of which
something is known, shrunk to no map at all where they are few: see inference/gauge.py and docs/joint-fit.md.

    python Methodology/calibrate.py                                    # the published estimates; --out DIR writes them
    python Methodology/calibrate.py artifacts/final_estimations.csv    # those of a run
    python Methodology/calibrate.py artifacts/demo/final_estimations.csv --truth src_files/demo/stars.csv
    python Methodology/calibrate.py artifacts/gap0/final_estimations.csv --truth src_files/gap*/stars.csv \\
        --gaps artifacts/gap[1-9]/final_estimations.csv --test artifacts/gap1?/final_estimations.csv
    python Methodology/calibrate.py artifacts/final_estimations.csv --anchors anchors.csv
"""
import argparse
import sys
from pathlib import Path

import paper
from evaluation import anchors, calibrated, catalogues
from workflow import schemas
from workflow.artifacts import Artifacts
from workflow.command_line import Help, add_seed, command, folder
from workflow.files import BadInput, check_own, lock, sha256, unchanged, write_csv, write_json
from workflow.units import CODE, sidecar_of


def own(path, kind):
    """Whether a table that may be there is one of this script's, as its sidecar says."""
    sidecar = sidecar_of(path)
    return sidecar.exists() and path.name in schemas.read(sidecar, kind, "delete it, or choose another --out").outputs


def write(path, estimates, used, inputs, args):
    """Write the calibrated table and its sidecar."""
    fits = {par: calibration.record for par, calibration in used.items()}
    with lock(path.parent):
        check_own(path, own(path, schemas.Calibration))
        write_csv(path, calibrated.apply(estimates, used))
        content = schemas.Calibration(
            spectra=schemas.Origin(spectra=estimates["spectra"].iloc[0]),
            settings={"linear": args.linear, "seed": args.seed}, inputs=inputs, outputs={path.name: sha256(path)},
            fits=fits, code=CODE)
        write_json(sidecar_of(path), schemas.signed(schemas.plain(content)))
    beyond = [f"{paper.PARAMETERS[par].published} {(~estimates[par].between(*fit.estimates)).sum()}"
              for par, fit in fits.items()]
    print(f"\n{len(estimates)} stars -> {path}\nbeyond the range of those it was calibrated on: {', '.join(beyond)}")


def write_anchored(path, estimates, known, args, inputs):
    """Write a table moved onto --anchors, in the form of final_estimations.csv, with its sidecar."""
    observations, names, absent = known
    if absent:
        print(f"{args.anchors}: {len(absent)} anchors are not among the stars, as {absent[0]}")
    table, left_out, moves = anchors.moved(estimates, observations)
    print(f"The map, added to the estimates\n{moves.to_string(index=False, float_format='{:.3g}'.format)}")
    with lock(path.parent):
        check_own(path, own(path, schemas.Estimates))
        write_csv(path, table)
        content = schemas.Estimates(schemas.Origin(spectra=estimates["spectra"].iloc[0]), inputs=inputs, outputs={
            path.name: sha256(path)}, flags_left_out=left_out, code=CODE)
        write_json(sidecar_of(path), schemas.signed(schemas.plain(content)))
    scored = " and ".join(f"{len(stars)} of {par}" for par, stars in names.items())
    print(f"\n{len(table)} stars -> {path}\nanchors, which are not to be scored: {scored}")


def reference(text):
    """Type of a flag: a parameter and one of its references, as in teff=mann15."""
    par, _, name = text.partition("=")
    if name not in calibrated.REFERENCES.get(par, {}):
        known = ", ".join(f"{par}={name}" for par, names in calibrated.REFERENCES.items() for name in names)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known}")
    return par, name


def check(args, simulated):
    """Refuse flags that are for the other kind of stars."""
    if simulated and not args.truth:
        raise BadInput(f"{args.estimates} is of simulated stars, which are calibrated on their truth and never on the "
                       "literature: give the stars.csv of the folder of its spectra as --truth")
    if simulated and args.reference:
        raise BadInput("--reference is for real stars, these are simulated: leave it out")
    if set(args.test) & set(args.gaps):
        raise BadInput(f"--test: {min(set(args.test) & set(args.gaps))} is one of --gaps, which are calibrated on: "
                       "leave it out of one of them")
    if not simulated and (args.truth or args.test or args.gaps):
        raise BadInput("--truth, --test and --gaps are for simulated stars, these are not marked as such: leave them "
                       "out")


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("estimates", nargs="?", type=Path, help="final_estimations.csv of a run; None: the published estimates")
    add("--reference", nargs="+", type=reference, default=[], metavar="PAR=NAME", help="such as teff=mann15 mh=fgkm")
    add("--linear", action="store_true", help="let the offset depend linearly on Teff")
    add("--truth", nargs="+", type=Path, default=[], metavar="FILE", help="stars.csv of the simulated runs")
    add("--test", nargs="+", type=Path, default=[], metavar="FILE", help="final_estimations.csv behind other gaps")
    add("--gaps", nargs="+", type=Path, default=[], metavar="FILE", help="the same, to calibrate on as well")
    add_seed(parser, "of the split in halves")
    add("--out", type=folder, metavar="DIR", help="folder of the calibrated table; None: that of the estimates")
    add("--anchors", type=Path, metavar="FILE", help="CSV of stars whose parameters are known, to move the table onto")
    args = parser.parse_args(argv)
    source, tables = args.estimates or catalogues.FOLDER / "mas24.csv", sorted(catalogues.FOLDER.glob("*.csv"))
    with unchanged(source, *tables, *args.truth, *args.test, *args.gaps, *filter(None, [args.anchors])) as digests:
        estimates, left_out = catalogues.load_estimates(args.estimates), []
        simulated = schemas.Kind(estimates["spectra"].iloc[0]).simulated
        if not args.anchors:
            check(args, simulated)
        print(f"{len(estimates)} stars, {catalogues.title(estimates)}\n")
        if args.anchors:
            known = anchors.read(args.anchors, estimates)
        elif simulated:
            truth, file = calibrated.truth_of(source, args.truth)
            tests, gaps = ([(catalogues.load_estimates(run), calibrated.truth_of(run, args.truth)[0]) for run in runs]
                           for runs in (args.test, args.gaps))
            tests = dict(zip(map(calibrated.name_of, args.test), tests))
            used = calibrated.of_simulation({"other half": (estimates, truth), **tests}, args.linear, args.seed, gaps)
            calibrations, tables = list(used.values()), [file]
        else:
            calibrations, used, left_out = calibrated.of_run(estimates, dict(args.reference), args.linear)
    out = args.out or source.parent
    if args.anchors:
        if out == catalogues.FOLDER:
            raise BadInput("--anchors with the published estimates needs --out, a folder to write to")
        inputs = {file.name: digests[file] for file in (source, args.anchors)}
        return write_anchored(out / f"{source.stem}_anchored.csv", estimates, known, args, inputs)
    left_out += [f"{parameter.published} is not calibrated, its columns are empty"
                 for par, parameter in paper.PARAMETERS.items() if par not in used]
    print("".join(f"warning: {line}\n" for line in left_out), end="")
    fits = calibrated.fits((calibration.par, calibration.record) for calibration in calibrations)
    print(fits.to_string(index=False))
    print(f"\nStars whose value lies in the interval [%]\n{calibrated.coverage(calibrations).to_string(index=False)}")
    if args.out or args.estimates:
        inputs = {**{file.name: digests[file] for file in (source, *tables)},
                  **{str(run): digests[run] for run in args.gaps}}
        write(Artifacts(out).calibrated, estimates, used, inputs, args)


if __name__ == "__main__":
    sys.exit(main())
