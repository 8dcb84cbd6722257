"""Which stars and references estimates are calibrated on, and the tables that come of it."""
from dataclasses import dataclass

import msgspec
import numpy as np
import pandas as pd

import paper
from evaluation import catalogues
from inference import calibration
from spectra import star_tables
from workflow import schemas
from workflow.files import BadInput, sha256
from workflow.units import sidecar_of

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


def independent(estimates, par, name):
    """The stars that have an estimate and an independent value, as `calibration.fit` takes them.

    Parameters
    ----------
    estimates : DataFrame
        As `catalogues.load_estimates` gives it; stars that no table knows do not count.
    par : str
    name : str
        Of the reference, one of REFERENCES[par].

    Returns
    -------
    DataFrame
    """
    known = estimates[estimates["karmn"].isin(catalogues.known())]
    stars = catalogues.pairs(known, name, REFERENCES[par][name]).dropna(subset=["ours_low", "ours_high"])
    return stars.assign(limit=stars["lit_low"].isna() & (name in LIMITS)).reset_index(drop=True)


def on_literature(estimates, par, name, linear=False):
    """Calibrate one parameter on one reference; coverage is leave-one-out.

    Raises
    ------
    BadInput
        Too few stars, see `calibration.needed`.
    """
    stars, label = independent(estimates, par, name), catalogues.CATALOGUES[name]
    try:
        found = calibration.fit(stars, linear)
        tests = {"leave-one-out": {"before": calibration.inside(stars[~stars["limit"]]),
                                   "after": calibration.leave_one_out(stars, linear)}}
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


def truth_of(path, truths):
    """The true parameters of a run's stars, and of these tables that one that its estimates were made with.

    Raises
    ------
    BadInput
        None of them is, it has not all parameters, or the stars are not simulated.
    """
    remedy = "give the stars.csv of the folder of its simulated spectra as --truth"
    sidecar = schemas.read(sidecar_of(path), schemas.Estimates, "restore it")
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
                                               ours_high=estimates[f"E_{par}"])
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
                           "conformal": calibration.conformal(stars, others)}
        used[par] = Calibrated(par, "truth, half of the stars", stars, found, tests)
    if not used:
        raise BadInput("there is nothing to calibrate, the table has no estimates: run Methodology/cnn_training.py")
    return used


def fits(recorded):
    """What was found, as text: a row a parameter and reference of (parameter, schemas.CalibrationFit)."""
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
                        for level in calibration.LEVELS}})
    return pd.DataFrame(rows)


def coverage(calibrated):
    """How often intervals hold [%], with the 68 % interval of that share: a row a parameter, reference and test."""
    rows = []
    for one in calibrated:
        for name, when in one.tests.items():
            row = {"parameter": paper.PARAMETERS[one.par].published, "reference": one.reference, "tested": name,
                   "stars": len(when["after"])}
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
             for when in ("before", "after")}
    limits = one.stars["limit"]
    return schemas.CalibrationFit(
        reference=one.reference, n_stars=int((~limits).sum()), n_limits=int(limits.sum()),
        estimates=[float(one.stars["ours"].min()), float(one.stars["ours"].max())],
        offset=one.fit.coefficients.tolist(), offset_error=np.sqrt(np.diag(one.fit.covariance)).tolist(),
        pivot=one.fit.pivot, scatter=one.fit.scatter,
        scatter_interval=list(calibration.scatter_interval(one.stars, one.fit)), **share,
    )


def name_of(path):
    """What to call another run: its gap, or its path where its sidecar tells none."""
    made_of = schemas.read(sidecar_of(path), schemas.Estimates, "restore it").spectra
    seed = made_of.gap_seed
    return str(path) if seed is msgspec.UNSET else f"gap {made_of.gap:g}, seed {seed}: {path.parent}"
