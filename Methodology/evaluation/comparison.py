"""The paper's comparison of its estimates with published values, recomputed (Sect. 4)."""
from decimal import Decimal

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

import paper
from evaluation import catalogues
from evaluation.catalogues import SECOND, match, pairs


def compare(estimates):
    """The paper's comparison with the literature (Sect. 4.2).

    Parameters
    ----------
    estimates : DataFrame

    Returns
    -------
    DataFrame
        A row for each parameter, catalogue and column; for v sin i also the two sides of paper.VSINI_SPLIT. `n` stars,
        `mean` of literature minus estimate, `rmse` about zero, Pearson's `r`; `paper_n`, ... as the paper prints
        them, "not read" where we could not read whether it does; `agrees`: see `mark`, of those that were read.
    """
    rows = []
    for par, parameter in paper.PARAMETERS.items():
        for name, label in catalogues.CATALOGUES.items():
            published = catalogues.load(name)
            for column in (par, *(second for second in SECOND if SECOND[second][0] == par)):
                if column not in published or published[column].isna().all():
                    continue
                both = pairs(estimates, name, column)
                slow = both["ours"] < paper.VSINI_SPLIT
                subsets = {"": both}
                if par == "vsini":
                    subsets.update(slow=both[slow], fast=both[~slow])
                for subset, stars in subsets.items():
                    rows.append({"parameter": f"{parameter.published} [{parameter.unit}]", "catalogue": label,
                                 "which": _which(column, subset), **_statistics(stars),
                                 **_printed(name, column, subset)})
    held = [[agrees(row[part], row[f"paper_{part}"]) for part in ("mean", "rmse", "r", "n")
             if row[f"paper_{part}"] != paper.NOT_READ] for row in rows]
    return pd.DataFrame(rows).assign(agrees=[mark(estimates["spectra"].iloc[0], agreements) for agreements in held])


def _which(column, subset):
    if column in SECOND:
        return SECOND[column][1]
    return {"": "", "slow": f"below {paper.VSINI_SPLIT} km/s", "fast": f"from {paper.VSINI_SPLIT} km/s on"}[subset]


def _printed(name, column, subset):
    printed = paper.COMPARISONS.get((name, column, subset), paper.Printed())
    return {f"paper_{part}": getattr(printed, part) for part in ("n", "mean", "rmse", "r")}


def _statistics(stars):
    difference = stars["lit"] - stars["ours"]
    varies = len(stars) > 1 and stars["ours"].nunique() > 1 and stars["lit"].nunique() > 1
    return {"n": len(stars), "mean": difference.mean(), "rmse": np.sqrt((difference**2).mean()),
            "r": np.corrcoef(stars["ours"], stars["lit"])[0, 1] if varies else np.nan}


def agrees(value, printed, step=None):
    """Whether a number, rounded as the paper's is (to its last digit, or to a multiple of `step`), equals it."""
    if not np.isfinite(value):
        return False
    decimals = max(0, -Decimal(printed).as_tuple().exponent)  # of 5e-5, 5
    rounded = value if step is None else round(value / step) * step
    return float(f"{rounded:.{decimals}f}") == float(printed)


def mark(spectra, agreements):
    """Whether all agree, "yes" or "no"; "" if there are none or the spectra are not the published ones."""
    if not len(agreements) or spectra != "published":
        return ""
    return "yes" if all(agreements) else "no"


def findings(estimates):
    """What Sect. 4.1 says of the estimates as a whole, and where they leave the label grid.

    Parameters
    ----------
    estimates : DataFrame

    Returns
    -------
    DataFrame
        `finding`, its `value`, the `paper`'s as printed ("" where it prints none), `agrees` as in `compare`.
    """
    rows = []
    for par, printed in paper.RANGES.items():
        for which, text in zip(("min", "max"), printed):
            value = estimates[par].agg(which)
            rows.append((f"{which}imum {paper.PARAMETERS[par].published}", value, text, paper.RANGE_STEP[par]))
    p = thin_against_thick(match(estimates, "stars"))
    rows.append(("Kolmogorov-Smirnov p, [M/H] of thin (D) against thick disc (TD)", p, paper.KS_THIN_THICK, None))
    interf = pairs(estimates, "interf", "teff")
    inside = interf["lit"].between(interf["ours"] - interf["ours_low"], interf["ours"] + interf["ours_high"])
    rows += [
        (f"stars below the label grid, log g {paper.GRID_LOGG[0]}",
         (estimates["logg"] < paper.GRID_LOGG[0]).sum(), "", None),
        (f"stars above the label grid, v sin i {paper.GRID_VSINI[-1]:g}",
         (estimates["vsini"] > paper.GRID_VSINI[-1]).sum(), "", None),
        (f"interferometric Teff inside the estimate's 1 sigma, of {len(interf)}", inside.sum(), "", None),
    ]
    table = pd.DataFrame([row[:3] for row in rows], columns=["finding", "value", "paper"])
    held = [[agrees(value, text, step)] if text else [] for _, value, text, step in rows]
    return table.assign(agrees=[mark(estimates["spectra"].iloc[0], agreements) for agreements in held])


def thin_against_thick(stars):
    """p of the two-sample Kolmogorov-Smirnov test on [M/H] of thin against thick disc; NaN if one of them is empty.

    Parameters
    ----------
    stars : DataFrame
        With `mh` and `population`, as `match(estimates, "stars")` gives them.
    """
    stars = stars.dropna(subset="mh")
    thin, thick = (stars.loc[stars["population"] == population, "mh"] for population in ("D", "TD"))
    return ks_2samp(thin, thick).pvalue if len(thin) and len(thick) else np.nan


def printable(table):
    """A table of `compare` or `findings` with one digit more than the paper prints, as strings."""
    table = table.copy()
    if "value" in table:
        # stars are counted; the rest is as precise as the paper's, and one digit more
        digits = [1 + len(text.partition(".")[2]) if text else 0 for text in table["paper"]]
        table["value"] = [f"{value:.{d}f}" for value, d in zip(table["value"], digits)]
    else:
        digits = [1 if "[K]" in parameter else 3 for parameter in table["parameter"]]
        for part in ("mean", "rmse"):
            table[part] = [f"{value:.{d}f}" for value, d in zip(table[part], digits)]
        table["r"] = [f"{value:.3f}" for value in table["r"]]
    return table.replace("nan", "").rename(columns=lambda name: name.replace("_", " "))
