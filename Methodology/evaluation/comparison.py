"""The paper's comparison of its estimates with published values, recomputed (Sect. 4)."""
import itertools
from decimal import Decimal

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

import paper
from evaluation import catalogues
from evaluation.catalogues import SECOND, match, pairs
from evaluation.truth import rmse

SIDES = {"": "", "slow": f"below {paper.VSINI_SPLIT} km/s", "fast": f"from {paper.VSINI_SPLIT} km/s on"}


def compare(estimates):
    """The paper's comparison of estimates, as `catalogues.load_estimates` gives them, with the literature (Sect. 4.2).

    A row for each parameter, catalogue and column; for v sin i also the two sides of paper.VSINI_SPLIT. `n` stars,
    `mean` of literature minus estimate, `rmse` about zero, Pearson's `r`; `paper_n`, ... as the paper prints them, "not
    read" where we could not read whether it does; `agrees`: see `mark`, of those that were read.
    """
    rows = []
    for par, (name, label) in itertools.product(paper.PARAMETERS, catalogues.CATALOGUES.items()):
        columns = {par: "", **{column: words for column, (second_of, words) in SECOND.items() if second_of == par}}
        for column in catalogues.load(name).reindex(columns=list(columns)).dropna(axis=1, how="all"):
            stars = pairs(estimates, name, column)
            slow = stars["ours"] < paper.VSINI_SPLIT
            sides = {"": stars, "slow": stars[slow], "fast": stars[~slow]} if par == "vsini" else {"": stars}
            for side, stars_of_side in sides.items():
                values = _statistics(stars_of_side)
                printed = vars(paper.COMPARISONS.get((name, column, side), paper.Printed()))
                agreements = [agrees(value, printed[part]) for part, value in values.items()
                              if printed[part] != paper.NOT_READ]
                rows.append({"parameter": f"{paper.PARAMETERS[par].published} [{paper.PARAMETERS[par].unit}]",
                             "catalogue": label, "which": columns[column] or SIDES[side], **values,
                             **{f"paper_{part}": printed[part] for part in values},
                             "agrees": mark(estimates["spectra"].iloc[0], agreements)})
    return pd.DataFrame(rows)


def _statistics(stars):
    difference, varies = stars["lit"] - stars["ours"], (stars[["ours", "lit"]].nunique() > 1).all()
    return {"n": len(stars), "mean": difference.mean(), "rmse": rmse(difference),
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
    if agreements and spectra == "published":
        return "yes" if all(agreements) else "no"
    return ""


def findings(estimates):
    """What Sect. 4.1 says of the estimates as a whole, and where they leave the label grid.

    A row a `finding`, its `value`, the `paper`'s as printed ("" where it prints none), `agrees` as in `compare`.
    """
    interf, spectra = pairs(estimates, "interf", "teff"), estimates["spectra"].iloc[0]
    inside = interf["lit"].between(interf["ours"] - interf["ours_low"], interf["ours"] + interf["ours_high"])
    lowest, slowest, fastest = paper.GRID_LOGG[0], paper.GRID_VSINI[0], paper.GRID_VSINI[-1]
    rows = [
        *((f"{which}imum {paper.PARAMETERS[par].published}", estimates[par].agg(which), text, paper.RANGE_STEP[par])
          for par, printed in paper.RANGES.items() for which, text in zip(("min", "max"), printed)),
        ("Kolmogorov-Smirnov p, [M/H] of thin (D) against thick disc (TD)",
         thin_against_thick(match(estimates, "stars")), paper.KS_THIN_THICK, None),
        (f"stars below the label grid, log g {lowest}", (estimates["logg"] < lowest).sum(), "", None),
        (f"stars below the label grid, v sin i {slowest:g}", (estimates["vsini"] < slowest).sum(), "", None),
        (f"stars above the label grid, v sin i {fastest:g}", (estimates["vsini"] > fastest).sum(), "", None),
        (f"interferometric Teff inside the estimate's 1 sigma, of {len(interf)}", inside.sum(), "", None)]
    marks = [mark(spectra, [agrees(value, text, step)] if text else []) for _, value, text, step in rows]
    return pd.DataFrame(rows, columns=["finding", "value", "paper", "agrees"]).assign(agrees=marks)


def thin_against_thick(stars):
    """p of the two-sample Kolmogorov-Smirnov test on `mh` of thin against thick disc; NaN if one of them is empty."""
    stars = stars.dropna(subset="mh")
    thin, thick = (stars.loc[stars["population"] == population, "mh"] for population in ("D", "TD"))
    return ks_2samp(thin, thick).pvalue if len(thin) and len(thick) else np.nan


def printable(table):
    """A table of `compare` or `findings` with one digit more than the paper prints, as strings."""
    table = table.copy()
    if "value" in table:
        table["value"] = [number(value, text) for value, text in zip(table["value"], table["paper"])]
    else:
        digits = np.where(table["parameter"].str.contains("[K]", regex=False), 1, 3)
        for part in ("mean", "rmse", "r"):
            table[part] = [f"{value:.{3 if part == 'r' else d}f}" for value, d in zip(table[part], digits)]
    return table.replace("nan", "").rename(columns=lambda name: name.replace("_", " "))


def number(value, printed):
    """A number as text with one digit more than the paper prints; a count is whole."""
    if "e" in printed:
        return np.format_float_scientific(value, precision=1, unique=False, exp_digits=1).replace("e+", "e")
    whole = float(value).is_integer() and "." not in printed
    return thousands(f"{value:.0f}" if whole else f"{value:.{1 + len(printed.partition('.')[2])}f}")


def thousands(text):
    """A whole number of five digits or more with commas."""
    return f"{int(text):,}" if text.isdigit() and len(text) > 4 else text
