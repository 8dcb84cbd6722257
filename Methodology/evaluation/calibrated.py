"""Which stars and references estimates are calibrated on, and the tables that come of it."""
import functools
from dataclasses import dataclass

import msgspec
import numpy as np
import pandas as pd

import paper
from evaluation import catalogues
from inference import calibration
from inference.calibration import LEVELS, inside, share
from spectra import star_tables
from workflow import schemas
from workflow.files import BadInput, sha256
from workflow.units import sidecar_of

# Of each parameter: table in literature_data/ and its column; the first is the default (see calibrate.py)
REFERENCES = {"teff": {"interf": "teff", "mann15": "teff"}, "logg": {"schw19": "loggc"},
              "mh": {"mann15": "mh", "fgkm": "mh"}, "vsini": {"rein18": "vsini"}}
DIGITS = {"teff": 0, "logg": 3, "mh": 3, "vsini": 2}


@dataclass(frozen=True)
class Calibrated:
    """One parameter after its calibration."""

    par: str
    reference: str
    stars: pd.DataFrame  # it was fitted to, as `calibration` takes them
    fit: calibration.Fit
    tests: dict  # by name, what `calibration.inside` says `before`, `after` and perhaps `conformal`

    @functools.cached_property
    def record(self):
        """What is written down of it, a schemas.CalibrationFit."""
        test, fit, ours, limits = next(iter(self.tests.values())), self.fit, self.stars["ours"], self.stars["limit"]
        return schemas.CalibrationFit(
            reference=self.reference, n_stars=int((~limits).sum()), n_limits=int(limits.sum()),
            estimates=[float(ours.min()), float(ours.max())], offset=fit.coefficients.tolist(),
            offset_error=np.sqrt(np.diag(fit.covariance)).tolist(), pivot=fit.pivot, scatter=fit.scatter,
            scatter_interval=list(calibration.scatter_interval(self.stars, fit)), shared=fit.shared,
            **{which: {level: float(test[which][level].mean()) for level in LEVELS} for which in ("before", "after")})


def independent(estimates, par, name):
    """The stars with an estimate and a value of a reference, as `calibration` takes them, but unknown ones."""
    known = estimates[estimates["karmn"].isin(catalogues.known())]
    stars = catalogues.pairs(known, name, REFERENCES[par][name])
    return stars.dropna(subset=["ours_low", "ours_high"]).reset_index(drop=True)


def on_literature(estimates, par, name, linear=False):
    """Calibrate one parameter on one reference; coverage is leave-one-out."""
    stars, label = independent(estimates, par, name), catalogues.CATALOGUES[name]
    limits = stars[stars["limit"]]
    try:
        fit, after = calibration.fit(stars, linear), calibration.leave_one_out(stars, linear)
    except BadInput as error:
        raise BadInput(f"{paper.PARAMETERS[par].published} cannot be calibrated on {label}: {error}") from None
    tests = {"leave-one-out": {"before": inside(stars[~stars["limit"]]), "after": after}}
    if len(limits):
        tests["reaches below upper limit"] = {"before": inside(limits), "after": inside(limits, fit)}
    return Calibrated(par, label, stars, fit, tests)


def of_run(estimates, chosen, linear):
    """Calibrate each parameter on each reference: all, a list, by parameter the chosen one, and what is left out."""
    calibrations, used, left_out = [], {}, []
    for par, references in REFERENCES.items():
        for name in references:
            try:
                calibrations.append(on_literature(estimates, par, name, linear))
            except BadInput as error:
                if chosen.get(par) == name:
                    raise
                left_out.append(str(error))
            else:
                if name == chosen.get(par, next(iter(references))):
                    used[par] = calibrations[-1]
    if not used:
        raise BadInput("no parameter has a reference with enough stars: give estimates of stars in literature_data")
    return calibrations, used, left_out


def truth_of(path, truths):
    """The true parameters of a run's simulated stars, and of these tables the one that its estimates were made with."""
    remedy = "give the stars.csv of the folder of its simulated spectra as --truth"
    sidecar = schemas.read(sidecar_of(path), schemas.Estimates, "restore it")
    for truth in truths:
        table = star_tables.read(truth, remedy)
        if sidecar.spectra.kind.simulated and sha256(truth) in sidecar.inputs.values():
            missing = set(paper.PARAMETERS) - set(table)
            if missing:
                raise BadInput(f"{truth} has no column {min(missing)}: {remedy}")
            return table, truth
    raise BadInput(f"{path} was not made with {', '.join(map(str, truths))}: {remedy}")


def with_truth(estimates, truth, par, names):
    """Those stars of some names that have an estimate and a true value, as `calibration` takes them."""
    stars = estimates[["karmn", "teff"]].assign(
        ours=estimates[par], ours_low=estimates[f"e_{par}"], ours_high=estimates[f"E_{par}"],
        lit=estimates["karmn"].map(truth.set_index("karmn")[par]), lit_low=np.nan, lit_high=np.nan, limit=False)
    return stars[stars["karmn"].isin(names)].dropna(subset=["ours", "ours_low", "ours_high", "lit"])


def of_simulation(runs, linear, seed, gaps=()):
    """Calibrate each parameter on the truth of half of the stars, and test it on the other half, behind every gap.

    `runs` are (estimates, truth) by what to call the run; the first is calibrated. `gaps` are further ones, which it is
    calibrated on too: then the fit says what to expect behind another gap. `seed` is of the halves.
    """
    estimates, truth = next(iter(runs.values()))
    names = np.random.default_rng(seed).permutation(sorted(estimates["karmn"]))
    half, other_half, used = names[: len(names) // 2], names[len(names) // 2 :], {}
    for par in paper.PARAMETERS:
        stars = with_truth(estimates, truth, par, half)
        if stars.empty:
            continue
        fit, tests = calibration.fit(stars, linear), {}
        if gaps:
            others = [with_truth(*run, par, half) for run in gaps]
            fit = calibration.joined([fit, *(calibration.fit(other) for other in others)])
            stars = pd.concat([stars, *others], ignore_index=True)
        for name, run in runs.items():
            tested = with_truth(*run, par, other_half)
            if tested.empty:
                raise BadInput(f"{name} has no {par} of the other half of the stars: test on runs of the same stars")
            tests[name] = {"before": inside(tested), "after": inside(tested, fit),
                           "conformal": calibration.conformal(stars, tested)}
        used[par] = Calibrated(par, "truth, half of the stars", stars, fit, tests)
    if not used:
        raise BadInput("there is nothing to calibrate, the table has no estimates: run Methodology/cnn_training.py")
    return used


def name_of(path):
    """What to call another run: its gap, or its path where its sidecar tells none."""
    spectra = schemas.read(sidecar_of(path), schemas.Estimates, "restore it").spectra
    gap = spectra.gap_seed is not msgspec.UNSET
    return f"gap {spectra.gap:g}, seed {spectra.gap_seed}: {path.parent}" if gap else str(path)


def fits(recorded):
    """The fits as text: a row a parameter and reference of (parameter, schemas.CalibrationFit)."""
    rows = []
    for par, fit in recorded:
        value, (low, high) = f".{DIGITS[par]}f", fit.scatter_interval
        offset, *slope = (f"{term:+{value}} +- {error:{value}}" for term, error in zip(fit.offset, fit.offset_error))
        interval = f"{low:{value}} to {high:{value}}" if fit.scatter else f"below {high:{value}} at 95 %"
        rows.append({"parameter": f"{paper.PARAMETERS[par].published} [{paper.PARAMETERS[par].unit}]",
                     "reference": fit.reference, "stars": fit.n_stars, "limits": fit.n_limits, "offset": offset,
                     **({"per 100 K": slope[0]} if slope else {}),
                     "extra scatter": f"{fit.scatter:{value}} ({interval})",
                     **({"shared": f"{fit.shared:{value}}"} if fit.shared else {}),
                     **{f"in {level} %": f"{100 * fit.before[level]:.0f}, {100 * fit.after[level]:.0f}"
                        for level in LEVELS}})
    return pd.DataFrame(rows)


def coverage(calibrations):
    """How often intervals hold [%], with the 68 % interval of that share: a row a parameter, reference and test."""
    percentages = "{:.0f} ({:.0f} to {:.0f})".format
    return pd.DataFrame([
        {"parameter": paper.PARAMETERS[calibrated.par].published, "reference": calibrated.reference, "tested": name,
         "stars": len(test["after"]), **{f"{level} % {which}": percentages(*100 * np.array(share(held[level])))
                                         for level in LEVELS for which, held in test.items()}}
        for calibrated in calibrations for name, test in calibrated.tests.items()])


def apply(estimates, used):
    """The calibrated table, of estimates and by parameter the Calibrated; empty where there is no calibration.

    `karmn`; for each X of the published columns X, the value with its offset; e_X_stat and E_X_stat, the ensemble's
    uncertainty below and above as it was; e_X_total and E_X_total, with extra scatter and the uncertainty of the offset
    in quadrature; reference_X.
    """
    table = estimates[["karmn"]].copy()
    for par, parameter in paper.PARAMETERS.items():
        fit, x, teff = used[par].fit if par in used else None, parameter.published, estimates["teff"]
        offset, extra = (fit.offset(teff), fit.extra(teff)) if fit else (np.nan, np.nan)
        table[x] = estimates[par] + offset
        for kind, added in (("stat", 0), ("total", extra)):
            for side in ("e", "E"):
                table[f"{side}_{x}_{kind}"] = np.hypot(estimates[f"{side}_{par}"], added).where(table[x].notna())
        table[f"reference_{x}"] = used[par].reference if fit else ""
    return table
