"""Published values of the stars, joined by name, and the paper's comparison with them, recomputed (Sect. 4).

Reads   literature_data/*.csv; a run's final_estimations.csv and its sidecar, if one is given
Prints  what the paper says of its estimates, and the comparison table

    python Methodology/literature.py                                    # the published estimates
    python Methodology/literature.py artifacts/final_estimations.csv    # those of a run
"""
import argparse
import functools
import sys
from decimal import Decimal
from pathlib import Path

from workflow.command_line import ROOT, command  # isort: skip  # first: it shortens what Ctrl-C says from here on

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

import paper
from inference import flags
from spectra import star_tables
from workflow import schemas as records
from workflow.files import BadInput, sha256
from workflow.units import sidecar_of

__all__ = [
    "agrees", "compare", "findings", "known", "load", "load_estimates", "mark", "match", "pairs", "printable",
    "thin_against_thick", "title",
]  # fmt: skip

FOLDER = ROOT / "literature_data"
ISOCHRONES = "isochrones.csv"  # the one table there that has no stars, and that need not be there

# Tables the estimates are compared with, and the paper's names for them
CATALOGUES = {
    "mar21": "Mar21", "pass19": "Pass19", "schw19": "Schw19", "pass20": "Pass20", "bello23": "Bello23",
    "interf": "Interferometry", "fgkm": "FGK+M", "rein18": "Rein18",
    "pass18": "Pass18", "gaid14": "Gaid14", "gm14": "GM14", "mann15": "Mann15",
}  # fmt: skip
# A catalogue's second column for a parameter, and how to tell it from the first
SECOND = {"loggc": ("logg", "log g from mass and radius"), "mh_plain": ("mh", "plain metallicity")}


# ---------------------------------------------------------------- tables
def _star_tables():
    return [path for path in sorted(FOLDER.glob("*.csv")) if path.name != ISOCHRONES]


def load(name):
    """Load one table of literature_data/.

    Parameters
    ----------
    name : str
        Its file name without .csv, such as "mar21"; what it holds is in literature_data/README.md.

    Returns
    -------
    DataFrame
        A row a star. `karmn` in the paper's spelling; of a catalogue always `teff` [K], `logg` [dex], `mh` [dex],
        `vsini` [km/s], each with e_ (uncertainty below) and E_ (above); NaN where it has none.

    Raises
    ------
    BadInput
        No such table, or one that cannot be used, see `star_tables.read`.
    """
    path = FOLDER / f"{name}.csv"
    if not path.exists():
        raise BadInput(f"{path} not found: the tables are {', '.join(table.stem for table in _star_tables())}")
    return _read(path).copy()


@functools.cache
def _read(path):
    table = star_tables.in_paper_spelling(star_tables.read(path, "restore it, `git checkout literature_data`"), path)
    if any(par in table for par in paper.PARAMETERS):
        for column in (*paper.PARAMETERS, *(column for column in SECOND if column in table)):
            for part in (column, f"e_{column}"):
                table[part] = table.get(part, np.nan)
            table[f"E_{column}"] = table.get(f"E_{column}", table[f"e_{column}"])
    return table


def load_estimates(path=None):
    """Load the published estimates or those of a run.

    Parameters
    ----------
    path : path-like, optional
        A final_estimations.csv with its sidecar beside it; by default the published estimates.

    Returns
    -------
    DataFrame
        A row a star: `karmn`, then `teff` [K], `logg` [dex], `mh` [dex] and `vsini` [km/s], each with e_ and E_;
        NaN where there is no estimate. `spectra` says in every row where the spectra came from: "published",
        "simulated" or another word of the sidecar; `run`, whether a run made the estimates from them. Last
        flags.COLUMNS: those of a table without, as the published one is, follow from its values alone.

    Raises
    ------
    BadInput
        The table or its sidecar is absent or not of this form, or the table was changed after it was made.
    """
    if not path:
        published = load("mas24").drop(columns=["ra", "dec"]).assign(spectra="published", run=False)
        return published.join(flags.of_published(published))
    path = Path(path)
    remedy = "give a final_estimations.csv of Methodology/cnn_training.py, or none for the published estimates"
    table = star_tables.in_paper_spelling(star_tables.read(path, remedy), path)
    columns = {
        prefix + parameter.published: prefix + par
        for par, parameter in paper.PARAMETERS.items() for prefix in ("", "e_", "E_")
    }  # fmt: skip
    missing = [column for column in columns if column not in table]
    if missing:
        raise BadInput(f"{path} has no column {missing[0]} ({len(missing)} missing): {remedy}")
    if table.empty:
        raise BadInput(f"{path} names no star: {remedy}")
    keep = f"keep the sidecar beside the table it came with; it says whether {path.name} comes from simulated spectra"
    sidecar = records.read(sidecar_of(path), records.Estimates, keep)
    if sidecar.outputs and sha256(path) not in sidecar.outputs.values():
        raise BadInput(f"{path} was changed after it was made: restore it, or run Methodology/cnn_training.py again")
    numbers = table[list(columns)].rename(columns=columns).astype(float).replace([np.inf, -np.inf], np.nan)
    told = set(flags.COLUMNS) <= set(table)
    words = table[flags.COLUMNS].apply(flags.as_text) if told else flags.of_published(numbers)
    return numbers.assign(spectra=sidecar.spectra.spectra, run=True, karmn=table["karmn"])[
        ["karmn", *columns.values(), "spectra", "run"]].join(words)  # fmt: skip


# ---------------------------------------------------------------- joining
def known():
    """The names of all stars in the tables, a set."""
    return set().union(*(_read(file)["karmn"] for file in _star_tables()))


def match(estimates, name):
    """Join estimates with one table, by name and one to one, whatever the order of the rows.

    Parameters
    ----------
    estimates : DataFrame
        As `load_estimates` gives it.
    name : str

    Returns
    -------
    DataFrame
        The stars that both have, sorted by `karmn`. Columns that both have get the suffix _lit for the table's.

    Raises
    ------
    BadInput
        A star is named twice, or its name is in no table at all.
    """
    estimates = star_tables.in_paper_spelling(estimates, "the estimates")
    unknown = sorted(set(estimates["karmn"]) - known())
    if unknown:
        raise BadInput(f"no table in literature_data knows {', '.join(unknown[:5])}: mend the name or leave it out")
    both = estimates.merge(load(name), on="karmn", validate="one_to_one", suffixes=("", "_lit"))
    return both.sort_values("karmn", ignore_index=True)


def pairs(estimates, name, column):
    """The stars for which there is an estimate and a published value of the same parameter.

    Parameters
    ----------
    estimates : DataFrame
    name : str
        Of the catalogue.
    column : str
        teff, logg, mh or vsini, or a catalogue's second column for one of them, see `SECOND`.

    Returns
    -------
    DataFrame
        `karmn`; `teff`, the estimate [K]; `flagged`, see `flags.flagged`; `ours` and `lit`, the parameter, each with
        _low and _high, its uncertainties.
    """
    both = match(estimates, name)
    par = SECOND[column][0] if column in SECOND else column
    lit = "_lit" if column in estimates else ""
    parts = {"ours": par, "ours_low": f"e_{par}", "ours_high": f"E_{par}",
             "lit": column + lit, "lit_low": f"e_{column}{lit}", "lit_high": f"E_{column}{lit}"}  # fmt: skip
    table = both[["karmn", "teff"]].assign(flagged=flags.flagged(both, par),
                                           **{part: both[source] for part, source in parts.items()})  # fmt: skip
    return table.dropna(subset=["ours", "lit"]).reset_index(drop=True)


# ---------------------------------------------------------------- the paper's statements, recomputed
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
        for name, label in CATALOGUES.items():
            published = load(name)
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
                                 **_printed(name, column, subset)})  # fmt: skip
    held = [[agrees(row[part], row[f"paper_{part}"]) for part in ("mean", "rmse", "r", "n")
             if row[f"paper_{part}"] != paper.NOT_READ] for row in rows]  # fmt: skip
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
            "r": np.corrcoef(stars["ours"], stars["lit"])[0, 1] if varies else np.nan}  # fmt: skip


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


def title(estimates):
    """What the estimates are, in a few words."""
    spectra, run = estimates[["spectra", "run"]].iloc[0]
    if not run:
        return "the published estimates"
    words = {"published": "estimates from the published spectra",
             "simulated": "estimates of SIMULATED stars, drawn around the published ones"}  # fmt: skip
    return words.get(spectra, f"estimates from spectra marked {spectra!r}")


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("estimates", nargs="?", help="final_estimations.csv of a run; default: the published estimates")
    estimates = load_estimates(parser.parse_args(argv).estimates)
    print(f"{len(estimates)} stars, {title(estimates)}\n")
    print(printable(findings(estimates)).to_string(index=False))
    print("\nMean difference, rmse and Pearson r of literature minus these estimates\n")
    print(printable(compare(estimates)).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
