"""Estimates of simulated stars against their truth."""
import numpy as np
import pandas as pd

import paper
from inference import flags


def rmse(difference):
    """Root of the mean square of a Series of differences."""
    return np.sqrt((difference**2).mean())


MEASURES = {"bias": np.mean, "scatter": lambda difference: difference.std(ddof=0), "rmse": rmse}


def errors_of_estimates(before, after, truth):
    """Compare estimates before and after fine-tuning, as `mode.table` makes them, with the truth of a simulation.

    `truth` has `karmn`, `teff` [K], `logg` [dex], `mh` [dex], `vsini` [km/s]. A row a parameter that was estimated:
    number of stars; before and after, the bias (mean of estimate minus truth), scatter (its standard deviation) and
    rmse; the median of the estimates' own uncertainty after, (e_ + E_) / 2; and as a baseline the rmse of one constant
    for all stars, the mean of the truth, and Pearson's r, which a constant has not.
    """
    rows = {}
    for par, parameter in paper.PARAMETERS.items():
        x, true = parameter.published, truth.set_index("karmn")[par]
        differences = {stage: (table.set_index("karmn")[x] - true).dropna()
                       for stage, table in (("before", before), ("after", after))}
        if differences["after"].empty:
            continue
        rows[f"{x} [{parameter.unit}]"] = {
            "n": len(differences["after"]),
            **{f"{name} {stage}": measure(difference)
               for name, measure in MEASURES.items() for stage, difference in differences.items()},
            "own uncertainty": ((after[f"e_{x}"] + after[f"E_{x}"]) / 2).median(),
            "rmse of a constant": true.std(ddof=0),
            **{f"r {stage}": table.set_index("karmn")[x].corr(true)
               for stage, table in (("before", before), ("after", after))},
        }
    return pd.DataFrame(rows).T


def errors_by_flag(table, truth):
    """Number and rmse of the stars with and without a flag: do flags tell where the errors are?

    `table` is a final_estimations.csv of simulated stars. For each parameter that was estimated a row "any doubt", see
    `flags.flagged`, and one for each word that a star has.
    """
    rows = {}
    for par, parameter in paper.PARAMETERS.items():
        error = table[parameter.published] - truth.set_index("karmn")[par].reindex(table["karmn"]).to_numpy()
        words = (flags.as_text(table[f"flags_{par}"]) + " " + flags.as_text(table["flags"])).str.get_dummies(" ") > 0
        masks = {"any doubt": flags.flagged(table, par), **{word: words[word] for word in flags.RULES if word in words}}
        for word, mask in masks.items():
            errors = {"without": error[~mask].dropna(), "with": error[mask].dropna()}
            if len(errors["with"]) or (word == "any doubt" and len(errors["without"])):
                rows[f"{parameter.published} [{parameter.unit}]", word] = {
                    f"{name} {which}": measure(part)
                    for which, part in errors.items() for name, measure in (("n", len), ("rmse", rmse))}
    return pd.DataFrame(rows).T
