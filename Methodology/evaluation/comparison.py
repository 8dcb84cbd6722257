"""The paper's comparison of its estimates with published values, recomputed (Sect. 4)."""
from decimal import Decimal

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

import paper
from evaluation import catalogues
from evaluation.catalogues import SECOND, match, pairs
from evaluation.truth import rmse

STATISTICS = ("n", "mean", "rmse", "r")
SIDES = {"": "", "slow": f"below {paper.VSINI_SPLIT} km/s", "fast": f"from {paper.VSINI_SPLIT} km/s on"}


def compare(estimates):
    """The paper's comparison of estimates, as `catalogues.load_estimates` gives them, with the literature (Sect. 4.2).

    A row for each parameter, catalogue and column; for v sin i also the two sides of paper.VSINI_SPLIT. `n` stars,
    `mean` of literature minus estimate, `rmse` about zero, Pearson's `r`; `paper_n`, ... as the paper prints them, "not
    read" where we could not read whether it does; `agrees`: see `mark`, of those that were read.
    """
    rows = []
    for par, parameter in paper.PARAMETERS.items():
        for name, label in catalogues.CATALOGUES.items():
            published = catalogues.load(name)
            for column in (par, *(second for second in SECOND if SECOND[second][0] == par)):
                if column not in published or published[column].isna().all():
                    continue
                stars = pairs(estimates, name, column)
                slow = stars["ours"] < paper.VSINI_SPLIT
                sides = {"": stars, "slow": stars[slow], "fast": stars[~slow]} if par == "vsini" else {"": stars}
                for side, stars_of_side in sides.items():
                    values = _statistics(stars_of_side)
                    printed = paper.COMPARISONS.get((name, column, side), paper.Printed())
                    texts = {part: getattr(printed, part) for part in STATISTICS}
                    agreements = [agrees(values[part], text) for part, text in texts.items() if text != paper.NOT_READ]
                    rows.append({"parameter": f"{parameter.published} [{parameter.unit}]", "catalogue": label,
                                 "which": SECOND[column][1] if column in SECOND else SIDES[side], **values,
                                 **{f"paper_{part}": text for part, text in texts.items()},
                                 "agrees": mark(estimates["spectra"].iloc[0], agreements)})
    return pd.DataFrame(rows)


def _statistics(stars):
    difference = stars["lit"] - stars["ours"]
    varies = len(stars) > 1 and stars["ours"].nunique() > 1 and stars["lit"].nunique() > 1
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
    if not len(agreements) or spectra != "published":
        return ""
    return "yes" if all(agreements) else "no"


def findings(estimates):
    """What Sect. 4.1 says of the estimates as a whole, and where they leave the label grid.

    A row a `finding`, its `value`, the `paper`'s as printed ("" where it prints none), `agrees` as in `compare`.
    """
    rows = []
    for par, printed in paper.RANGES.items():
        for which, text in zip(("min", "max"), printed):
            value = estimates[par].agg(which)
            rows.append((f"{which}imum {paper.PARAMETERS[par].published}", value, text, paper.RANGE_STEP[par]))
    p = thin_against_thick(match(estimates, "stars"))
    interf = pairs(estimates, "interf", "teff")
    inside = interf["lit"].between(interf["ours"] - interf["ours_low"], interf["ours"] + interf["ours_high"])
    rows += [
        ("Kolmogorov-Smirnov p, [M/H] of thin (D) against thick disc (TD)", p, paper.KS_THIN_THICK, None),
        (f"stars below the label grid, log g {paper.GRID_LOGG[0]}",
         (estimates["logg"] < paper.GRID_LOGG[0]).sum(), "", None),
        (f"stars above the label grid, v sin i {paper.GRID_VSINI[-1]:g}",
         (estimates["vsini"] > paper.GRID_VSINI[-1]).sum(), "", None),
        (f"interferometric Teff inside the estimate's 1 sigma, of {len(interf)}", inside.sum(), "", None),
    ]
    spectra = estimates["spectra"].iloc[0]
    return pd.DataFrame([{"finding": finding, "value": value, "paper": text,
                          "agrees": mark(spectra, [agrees(value, text, step)] if text else [])}
                         for finding, value, text, step in rows])


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
        digits = [1 if "[K]" in parameter else 3 for parameter in table["parameter"]]
        for part in ("mean", "rmse"):
            table[part] = [f"{value:.{d}f}" for value, d in zip(table[part], digits)]
        table["r"] = [f"{value:.3f}" for value in table["r"]]
    return table.replace("nan", "").rename(columns=lambda name: name.replace("_", " "))


def number(value, printed):
    """A number as text with one digit more than the paper prints; a count is whole."""
    if "e" in printed:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    whole = float(value).is_integer() and "." not in printed
    return thousands(f"{value:.0f}" if whole else f"{value:.{1 + len(printed.partition('.')[2])}f}")


def thousands(text):
    """A whole number of five digits or more with commas."""
    return f"{int(text):,}" if text.isdigit() and len(text) > 4 else text
