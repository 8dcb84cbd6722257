"""What the paper says of its networks (Sect. 3) and estimates (Sect. 4), held against a run's or the published."""
import numpy as np
import pandas as pd

import paper
from evaluation import catalogues, comparison
from evaluation.comparison import agrees, mark, number

COLUMNS = ["claim", "section", "paper", "value", "agrees"]
TEFF_CATALOGUES = ("mar21", "pass19", "schw19")  # those of which the paper says it


def of_run(measured, spectra):
    """Hold what Sect. 3 says against a run: a row a statement.

    `measured` has for the names of paper.CLAIMS_OF_RUNS the run's value, or those of its autoencoders, or parameters;
    of `hot` 0 or 1 a label; nothing where the run has none yet. `spectra` is where its spectra came from. Columns:
    `claim`, `section`, what the `paper` prints or says, the `value` here (the mean, and the range in brackets) as text,
    and whether it `agrees`, see `comparison.mark`.
    """
    rows = []
    for name, claim in paper.CLAIMS_OF_RUNS.items():
        values, shown, agreements = np.asarray(measured.get(name, ()), float), "not there yet", []
        if len(values) and claim.words:  # a share that is said to be the smaller one
            shown, agreements = f"{values.sum():,.0f} of {len(values):,}", [values.mean() < 0.5]
        elif len(values):
            low, shown, high = (number(value, claim.printed) for value in (values.min(), values.mean(), values.max()))
            shown += f" ({low} to {high})" * (low != high)
            agreements = [agrees(values.mean(), claim.printed)]
        rows.append(_row(claim, shown, mark(spectra, agreements)))
    return pd.DataFrame(rows)


def of_estimates(estimates):
    """Hold what Sect. 4 says of estimates, but for `comparison.compare`; rows as of `of_run`.

    Where the paper says it in words, these are what is held: of two values, up to and above paper.TEFF_SPLIT. First
    come the rows of `comparison.findings`, some of which the paper has not.
    """
    findings = comparison.printable(comparison.findings(estimates)).rename(columns={"finding": "claim"})
    sections = {"": "", paper.KS_THIN_THICK: "4.1"}
    findings["section"] = [sections.get(printed, "abstract") for printed in findings["paper"]]
    rows = pd.DataFrame([*_rows_of_teff(estimates), *_rows_of_counts(estimates)])
    return pd.concat([findings[COLUMNS], rows], ignore_index=True)


def _slope(stars):
    """Least-squares slope of the literature on the estimates; NaN where these do not vary."""
    x = stars["ours"] - stars["ours"].mean()
    square = (x**2).sum()
    return (x * stars["lit"]).sum() / square if square > 0 else np.nan


# Of the claims on Teff: what is measured of the stars up to and above the split, its digits, and when the claim holds
ON_TEFF = {
    "slope": (_slope, ".2f", lambda low, high: max(low, high) < 1),
    "difference": (lambda stars: (stars["lit"] - stars["ours"]).mean(), "+.0f", lambda low, high: high < min(low, 0)),
    "uncertainty": (lambda stars: stars[["e_teff", "E_teff"]].mean(axis=1).mean(), ".1f", lambda low, high: low < high),
}


def _rows_of_teff(estimates):
    """Rows on the scale of Teff and its uncertainty; held only where there are stars on both sides of the split."""
    pairs = {catalogues.CATALOGUES[name]: catalogues.pairs(estimates, name, "teff") for name in TEFF_CATALOGUES}
    for name, (measure, digits, holds) in ON_TEFF.items():
        claim = paper.CLAIMS_OF_ESTIMATES[name]
        for label, stars in ({"": estimates} if name == "uncertainty" else pairs).items():
            teff = stars["teff"]
            values = [measure(stars[rows]) for rows in (teff <= paper.TEFF_SPLIT, teff > paper.TEFF_SPLIT)]
            text = f"{claim.text.format(label)}: up to {paper.TEFF_SPLIT} K, above"
            shown = ", ".join(format(value, digits) if np.isfinite(value) else "none" for value in values)
            agreements = [holds(*values)] if np.isfinite(values).all() else []
            yield _row(claim, shown, mark(estimates["spectra"].iloc[0], agreements), text)


def _rows_of_counts(estimates):
    """Rows that count stars, but of claims that no table here can show."""
    stars = catalogues.match(estimates, "stars")
    active, young_disc, fast = stars["active"] == 1, stars["population"] == "YD", stars["vsini"] > paper.VSINI_SPLIT
    counted = {"active": active, "active_young_disc": active & young_disc, "fast": fast, "fast_active": fast & active,
               "fast_young_disc": fast & young_disc, "young": stars["young"] == 1, "subdwarf": stars["subdwarf"] == 1}
    for name, claim in paper.CLAIMS_OF_ESTIMATES.items():
        if name in counted:
            n = counted[name].sum()
            yield _row(claim, str(n), mark(estimates["spectra"].iloc[0], [agrees(n, claim.printed)]))
        elif name not in ON_TEFF:
            yield _row(claim, "in no table here", "")


def _row(claim, value, agreement, text=None):
    printed = claim.words or comparison.thousands(claim.printed)
    return dict(zip(COLUMNS, (text or claim.text, claim.section, printed, value, agreement)))
