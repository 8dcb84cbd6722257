"""Estimates of simulated stars against their truth."""
import numpy as np
import pandas as pd

import paper
from inference.flags import RULES, _words, flagged


def errors_of_estimates(before, after, truth):
    """Compare estimates without and with fine-tuning with the truth of a simulation.

    Parameters
    ----------
    before, after : DataFrame
        As `table` makes them.
    truth : DataFrame
        `karmn`, `teff`, `logg`, `mh`, `vsini`.

    Returns
    -------
    DataFrame
        A row a parameter that was estimated: number of stars; before and after, the bias (mean of estimate minus
        truth), scatter (its standard deviation) and rmse; and the median of the estimates' own uncertainty after,
        (e_ + E_) / 2.
    """
    measures = {"bias": np.mean, "scatter": lambda d: d.std(ddof=0), "rmse": lambda d: np.sqrt(np.mean(d**2))}
    rows = {}
    for par, parameter in paper.PARAMETERS.items():
        x, true = parameter.published, truth.set_index("karmn")[par]
        differences = {when: (table.set_index("karmn")[x] - true).dropna()
                       for when, table in (("before", before), ("after", after))}
        if differences["after"].empty:
            continue
        own = (after[f"e_{x}"] + after[f"E_{x}"]) / 2
        row = {"n": len(differences["after"])}
        for measure, of in measures.items():
            row.update({f"{measure} {when}": of(difference) for when, difference in differences.items()})
        rows[f"{x} [{parameter.unit}]"] = {**row, "own uncertainty": own.median()}
    return pd.DataFrame(rows).T


def errors_by_flag(table, truth):
    """Do flags tell where the errors are? Of simulated stars, whose truth is known.

    Parameters
    ----------
    table : DataFrame
        final_estimations.csv, with COLUMNS.
    truth : DataFrame
        `karmn`, `teff`, `logg`, `mh`, `vsini`.

    Returns
    -------
    DataFrame
        For each parameter that was estimated a row "any doubt", see `flagged`, and one for each word that a star has:
        number and rmse of the stars with it, and of those without.
    """
    rows = {}
    for par, parameter in paper.PARAMETERS.items():
        error = table[parameter.published] - truth.set_index("karmn")[par].reindex(table["karmn"]).to_numpy()
        words = _words(table, f"flags_{par}") + _words(table, "flags")
        masks = {"any doubt": flagged(table, par),
                 **{word: words.map(lambda some, word=word: word in some) for word in RULES}}
        for word, mask in masks.items():
            row = {}
            for which, those in (("without", ~mask), ("with", mask)):
                some = error[those].dropna()
                row.update({f"n {which}": len(some), f"rmse {which}": np.sqrt((some**2).mean())})
            if row["n with"] or (word == "any doubt" and row["n without"]):
                rows[f"{parameter.published} [{parameter.unit}]", word] = row
    return pd.DataFrame(rows).T
