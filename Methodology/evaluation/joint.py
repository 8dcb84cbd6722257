"""Tables of errors with the baselines that belong beside them: one constant for all stars, and each star alone."""
import numpy as np
import pandas as pd

import paper
from evaluation.truth import MEASURES


def errors_beside_baselines(tables, truth, anchors=None):
    """Bias, scatter, rmse and Pearson r of some tables of estimates of simulated stars, and of one constant for all.

    `tables` is a dict of DataFrames as `mode.table` makes them, by what to call them; `truth` has `karmn`, `teff` [K],
    `logg` [dex], `mh` [dex], `vsini` [km/s]. `anchors`, by parameter, are names of stars whose true value was used:
    they are never scored. Returns a row a parameter and table, with n and the share of stars whose interval holds the
    truth. The constant is the mean of the truth, the best that there is; its rmse is what an estimate must beat.
    """
    rows, truth = [], truth.set_index("karmn")
    for par, parameter in paper.PARAMETERS.items():
        scored = truth[par].drop(list((anchors or {}).get(par, ())), errors="ignore")
        key = {"parameter": f"{parameter.published} [{parameter.unit}]"}
        constant = scored.mean() - scored
        rows.append({**key, "estimates": "one constant for all", "n": len(scored),
                     **{name: measure(constant) for name, measure in MEASURES.items()}, "bias": 0.0, "r": np.nan,
                     "held": np.nan})
        for name, table in tables.items():
            table = table.set_index("karmn").reindex(scored.index)
            value = table[parameter.published]
            difference = (value - scored).dropna()
            if difference.empty:
                continue
            low, high = table[f"e_{parameter.published}"], table[f"E_{parameter.published}"]
            held = ((scored >= value - low) & (scored <= value + high))[difference.index].mean()
            rows.append({**key, "estimates": name, "n": len(difference),
                         **{what: measure(difference) for what, measure in MEASURES.items()},
                         "r": value.corr(scored), "held": held})
    return pd.DataFrame(rows)
