"""Calibrated errors: how far to trust each estimate, by stars of which something independent is known.

Reads   literature_data/*.csv; a run's final_estimations.csv and its sidecar, if one is given
        of a run of simulated spectra the truth, {data}/stars.csv, instead of the literature
Prints  offset and extra scatter of each parameter, and how often its 68 % and 95 % intervals hold, before and after
Writes  final_estimations_calibrated.csv (+ .json)    beside the run's table, or in --out; what was there stays as it is

Maximum likelihood finds the offset (literature minus estimate) and a scatter that is added in quadrature to the
estimate's own uncertainty and to the literature's, see calibration.py. Uncertainties of the offset are from the Fisher
information, of the scatter from its profile likelihood. Coverage after calibration is leave-one-out: each star's by a
fit that has not seen it. A parameter's first reference below is used unless --reference says otherwise: the most direct
one of those that have ten stars.

    teff    interf    interferometric Teff: angular diameter and flux, no spectrum
            mann15    Mann+15, whose scale is set by interferometry
    logg    schw19    Schweitzer+19, from mass and radius
    mh      mann15    Mann+15, [Fe/H] from infrared lines, on the scale of FGK+M binaries
            fgkm      [Fe/H] of the FGK primary, six stars
    vsini   rein18    Reiners+18, most of it upper limits

Simulated stars are calibrated on their truth, on one half of them; coverage is that of the other half, behind the same
gap and in the runs of --test, behind other gaps. What is lost from the one to the other no calibration can know.

    python Methodology/calibrate.py                                    # the published estimates; --out DIR writes them
    python Methodology/calibrate.py artifacts/final_estimations.csv    # those of a run
    python Methodology/calibrate.py artifacts/demo/final_estimations.csv --truth src_files/demo/stars.csv
"""
import sys
from pathlib import Path

from workflow.command_line import Help, command, folder, number  # isort: skip  # first: it shortens what Ctrl-C says from here

import argparse
from dataclasses import dataclass

import msgspec
import numpy as np
import pandas as pd

import literature
import paper
from inference import calibration
from spectra import star_tables
from workflow import schemas as records
from workflow.files import BadInput, lock, sha256, write_csv, write_json
from workflow.units import code_digest, sidecar_of

__all__ = ["Calibrated", "apply", "coverage", "fits", "independent", "of_run", "of_simulation", "on_literature"]

# Of each parameter: table in literature_data/ and its column; the first is the default, for the reason above
REFERENCES = {
    "teff": {"interf": "teff", "mann15": "teff"},
    "logg": {"schw19": "loggc"},
    "mh": {"mann15": "mh", "fgkm": "mh"},
    "vsini": {"rein18": "vsini"},
}
LIMITS = ("rein18",)  # where a value without uncertainty is an upper limit; elsewhere it is just not known
SIDECAR = "final_estimations_calibrated.json"
DIGITS = {"teff": 0, "logg": 3, "mh": 3, "vsini": 2}


@dataclass(frozen=True)
class Calibrated:
    """One parameter after its calibration: on what, by which stars, what was found, and by what it was tested.

    `tests` has for the name of each test what `calibration.inside` says `before`, `after` and perhaps `conformal`.
    """

    par: str
    reference: str
    stars: pd.DataFrame
    fit: calibration.Fit
    tests: dict


# ---------------------------------------------------------------- real stars
def independent(estimates, par, name):
    """The stars that have an estimate and an independent value, as `calibration.fit` takes them.

    Parameters
    ----------
    estimates : DataFrame
        As `literature.load_estimates` gives it; stars that no table knows do not count.
    par : str
    name : str
        Of the reference, one of REFERENCES[par].

    Returns
    -------
    DataFrame
    """
    known = estimates[estimates["karmn"].isin(literature.known())]
    stars = literature.pairs(known, name, REFERENCES[par][name]).dropna(subset=["ours_low", "ours_high"])
    return stars.assign(limit=stars["lit_low"].isna() & (name in LIMITS)).reset_index(drop=True)


def on_literature(estimates, par, name, linear=False):
    """Calibrate one parameter on one reference; coverage is leave-one-out.

    Raises
    ------
    BadInput
        Too few stars, see `calibration.needed`.
    """
    stars, label = independent(estimates, par, name), literature.CATALOGUES[name]
    try:
        found = calibration.fit(stars, linear)
        tests = {"leave-one-out": {"before": calibration.inside(stars[~stars["limit"]]),
                                   "after": calibration.leave_one_out(stars, linear)}}  # fmt: skip
    except BadInput as error:
        raise BadInput(f"{paper.PARAMETERS[par].published} cannot be calibrated on {label}: {error}") from None
    if stars["limit"].any():
        tests["reaches below upper limit"] = calibration.before_and_after(stars[stars["limit"]], found)
    return Calibrated(par, label, stars, found, tests)


def of_run(estimates, chosen, linear):
    """Calibrate each parameter on each of its references: all, a list, and by parameter that of the one chosen."""
    done, used = [], {}
    for par, references in REFERENCES.items():
        for name in references:
            try:
                one = on_literature(estimates, par, name, linear)
            except BadInput as error:
                if chosen.get(par) == name:
                    raise
                print(f"warning: {error}")
                continue
            done.append(one)
            if name == chosen.get(par, next(iter(references))):
                used[par] = one
    if not used:
        raise BadInput("no parameter has a reference with enough stars: give estimates of stars in literature_data")
    return done, used


# ---------------------------------------------------------------- simulated stars
def truth_of(path, truths):
    """The true parameters of a run's stars, and of these tables that one that its estimates were made with.

    Raises
    ------
    BadInput
        None of them is, it has not all parameters, or the stars are not simulated.
    """
    remedy = "give the stars.csv of the folder of its simulated spectra as --truth"
    sidecar = records.read(sidecar_of(path), records.Estimates, "restore it")
    for truth in truths:
        table = star_tables.read(truth, remedy)
        if "simulated" in sidecar.spectra.spectra.lower() and sha256(truth) in sidecar.inputs.values():
            missing = set(paper.PARAMETERS) - set(table)
            if missing:
                raise BadInput(f"{truth} has no column {min(missing)}: {remedy}")
            return table, truth
    raise BadInput(f"{path} was not made with {', '.join(map(str, truths))}: {remedy}")


def with_truth(estimates, truth, par):
    """The stars with an estimate and their true value, as `calibration.fit` takes them."""
    ours = estimates[["karmn", "teff"]].assign(ours=estimates[par], ours_low=estimates[f"e_{par}"],
                                               ours_high=estimates[f"E_{par}"])  # fmt: skip
    lit = truth[["karmn"]].assign(lit=truth[par], lit_low=np.nan, lit_high=np.nan, limit=False)
    stars = ours.merge(lit, on="karmn", validate="one_to_one")
    return stars.dropna(subset=["ours", "ours_low", "ours_high", "lit"]).reset_index(drop=True)


def of_simulation(runs, args):
    """Calibrate each parameter on the truth of half of the stars, and test it on the other half, behind every gap.

    Parameters
    ----------
    runs : dict of str to (DataFrame, DataFrame)
        Estimates and truth by what to call the run; the first is calibrated.
    args : namespace
        `linear`, `seed`.
    """
    estimates, truth = next(iter(runs.values()))
    names = np.random.default_rng(args.seed).permutation(sorted(estimates["karmn"]))
    half, used = set(names[: len(names) // 2]), {}
    for par in paper.PARAMETERS:
        stars = with_truth(estimates, truth, par)
        stars = stars[stars["karmn"].isin(half)]
        if stars.empty:
            print(f"warning: {par} has no estimates, its columns are empty")
            continue
        found, tests = calibration.fit(stars, args.linear), {}
        for name, run in runs.items():
            others = with_truth(*run, par)
            others = others[others["karmn"].isin(set(names) - half)]
            if others.empty:
                raise BadInput(f"{name} has no {par} of the other half of the stars: test on runs of the same stars")
            tests[name] = {**calibration.before_and_after(others, found),
                           "conformal": calibration.conformal(stars, others)}  # fmt: skip
        used[par] = Calibrated(par, "truth, half of the stars", stars, found, tests)
    if not used:
        raise BadInput("there is nothing to calibrate, the table has no estimates: run Methodology/cnn_training.py")
    return used


# ---------------------------------------------------------------- tables
def fits(recorded):
    """What was found, as text: a row a parameter and reference of (parameter, records.CalibrationFit)."""
    rows = []
    for par, one in recorded:
        value, (low, high) = f".{DIGITS[par]}f", one.scatter_interval
        offset, *slope = (f"{term:+{value}} +- {error:{value}}" for term, error in zip(one.offset, one.offset_error))
        interval = f"{low:{value}} to {high:{value}}" if one.scatter else f"below {high:{value}} at 95 %"
        rows.append({"parameter": f"{paper.PARAMETERS[par].published} [{paper.PARAMETERS[par].unit}]",
                     "reference": one.reference, "stars": one.n_stars, "limits": one.n_limits, "offset": offset,
                     **({"per 100 K": slope[0]} if slope else {}),
                     "extra scatter": f"{one.scatter:{value}} ({interval})",
                     **{f"in {level} %": f"{100 * one.before[level]:.0f}, {100 * one.after[level]:.0f}"
                        for level in calibration.LEVELS}})  # fmt: skip
    return pd.DataFrame(rows)


def coverage(calibrated):
    """How often intervals hold [%], with the 68 % interval of that share: a row a parameter, reference and test."""
    rows = []
    for one in calibrated:
        for name, when in one.tests.items():
            row = {"parameter": paper.PARAMETERS[one.par].published, "reference": one.reference, "tested": name,
                   "stars": len(when["after"])}  # fmt: skip
            for level in calibration.LEVELS:
                for which, held in when.items():
                    share, low, high = (100 * part for part in calibration.share(held[level]))
                    row[f"{level} % {which}"] = f"{share:.0f} ({low:.0f} to {high:.0f})"
            rows.append(row)
    return pd.DataFrame(rows)


def apply(estimates, used):
    """The calibrated table.

    Parameters
    ----------
    estimates : DataFrame
    used : dict of str to Calibrated

    Returns
    -------
    DataFrame
        `karmn`; for each X of the published columns X, the value with its offset; e_X_stat and E_X_stat, the
        ensemble's uncertainty below and above as it was; e_X_total and E_X_total, with extra scatter and the
        uncertainty of the offset in quadrature; reference_X. Empty where there is no calibration.
    """
    table = estimates[["karmn"]].copy()
    for par, parameter in paper.PARAMETERS.items():
        one, x = used.get(par), parameter.published
        offset, extra = (one.fit.offset(estimates["teff"]), one.fit.extra(estimates["teff"])) if one else [np.nan] * 2
        table[x] = estimates[par] + offset
        for kind, more in (("stat", 0), ("total", extra)):
            for side in ("e", "E"):
                table[f"{side}_{x}_{kind}"] = np.hypot(estimates[f"{side}_{par}"], more).where(table[x].notna())
        table[f"reference_{x}"] = one.reference if one else ""
    return table


def record(one):
    """A calibration as it is written down."""
    test = next(iter(one.tests.values()))
    share = {when: {level: float(test[when][level].mean()) for level in calibration.LEVELS}
             for when in ("before", "after")}  # fmt: skip
    limits = one.stars["limit"]
    return records.CalibrationFit(
        reference=one.reference, n_stars=int((~limits).sum()), n_limits=int(limits.sum()),
        estimates=[float(one.stars["ours"].min()), float(one.stars["ours"].max())],
        offset=one.fit.coefficients.tolist(), offset_error=np.sqrt(np.diag(one.fit.covariance)).tolist(),
        pivot=one.fit.pivot, scatter=one.fit.scatter,
        scatter_interval=list(calibration.scatter_interval(one.stars, one.fit)), **share,
    )  # fmt: skip


def write(sidecar, estimates, used, inputs, args):
    """Write the calibrated table and its sidecar."""
    path, found = sidecar.with_suffix(".csv"), {par: record(one) for par, one in used.items()}
    with lock(path.parent):
        write_csv(path, apply(estimates, used))
        content = records.Calibration(
            spectra=records.Origin(spectra=estimates["spectra"].iloc[0]),
            settings={"linear": args.linear, "seed": args.seed}, inputs={file.name: sha256(file) for file in inputs},
            outputs={path.name: sha256(path)}, fits=found, code=code_digest())  # fmt: skip
        write_json(sidecar, records.signed(records.plain(content)))
    beyond = [f"{paper.PARAMETERS[par].published} {(~estimates[par].between(*one.estimates)).sum()}"
              for par, one in found.items()]  # fmt: skip
    print(f"\n{len(estimates)} stars -> {path}\nbeyond the range of those it was calibrated on: {', '.join(beyond)}")


# ---------------------------------------------------------------- command line
def reference(text):
    """Type of a flag: a parameter and one of its references, as in teff=mann15."""
    par, _, name = text.partition("=")
    if name not in REFERENCES.get(par, {}):
        known = ", ".join(f"{par}={name}" for par, names in REFERENCES.items() for name in names)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {known}")
    return par, name


def check(args, simulated):
    """Refuse flags that are for the other kind of stars."""
    if simulated and not args.truth:
        raise BadInput(f"{args.estimates} is of simulated stars, which are calibrated on their truth and never on the "
                       "literature: give the stars.csv of the folder of its spectra as --truth")  # fmt: skip
    if simulated and args.reference:
        raise BadInput("--reference is for real stars, these are simulated: leave it out")
    if not simulated and (args.truth or args.test):
        raise BadInput("--truth and --test are for simulated stars, these are not marked as such: leave them out")


def name_of(path):
    """What to call another run: its gap, or its path where its sidecar tells none."""
    made_of = records.read(sidecar_of(path), records.Estimates, "restore it").spectra
    seed = made_of.gap_seed
    return str(path) if seed is msgspec.UNSET else f"gap {made_of.gap:g}, seed {seed}: {path.parent}"


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("estimates", nargs="?", type=Path, help="final_estimations.csv of a run; None: the published estimates")
    add("--reference", nargs="+", type=reference, default=[], metavar="PAR=NAME", help="such as teff=mann15 mh=fgkm")
    add("--linear", action="store_true", help="let the offset depend linearly on Teff")
    add("--truth", nargs="+", type=Path, default=[], metavar="FILE", help="stars.csv of the simulated runs")
    add("--test", nargs="+", type=Path, default=[], metavar="FILE", help="final_estimations.csv behind other gaps")
    add("--seed", type=number(int, 0, 2**30), default=paper.SPLIT_SEED, metavar="N", help="of the split in halves")
    add("--out", type=folder, metavar="DIR", help="folder of the calibrated table; None: that of the estimates")
    args = parser.parse_args(argv)
    estimates = literature.load_estimates(args.estimates)
    simulated = "simulated" in estimates["spectra"].iloc[0].lower()
    check(args, simulated)
    print(f"{len(estimates)} stars, {literature.title(estimates)}\n")
    path = args.estimates or literature.FOLDER / "mas24.csv"
    if simulated:
        truth, file = truth_of(path, args.truth)
        tests = {name_of(run): (literature.load_estimates(run), truth_of(run, args.truth)[0]) for run in args.test}
        used = of_simulation({"other half": (estimates, truth), **tests}, args)
        done, inputs = list(used.values()), [path, file]
    else:
        done, used = of_run(estimates, dict(args.reference), args.linear)
        inputs = [path, *sorted(literature.FOLDER.glob("*.csv"))]
    print(fits((one.par, record(one)) for one in done).to_string(index=False))
    print(f"\nStars whose value lies in the interval [%]\n{coverage(done).to_string(index=False)}")
    if args.out or args.estimates:
        write((args.out or path.parent) / SIDECAR, estimates, used, inputs, args)


if __name__ == "__main__":
    sys.exit(main())
