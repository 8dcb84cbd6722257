"""What the paper says of its networks (Sect. 3) and estimates (Sect. 4), held against a run's or the published."""
import numpy as np
import pandas as pd

import paper
from evaluation import catalogues, comparison
from evaluation.comparison import agrees, mark, number

COLUMNS = ["claim", "section", "paper", "value", "agrees"]
TEFF_CATALOGUES = ("mar21", "pass19", "schw19")  # those of which the paper says it


def of_run(measured, spectra):
    """Hold what Sect. 3 says against a run.

    `measured` has for the names of paper.CLAIMS_OF_RUNS the run's value, or those of its autoencoders, or parameters;
    of `hot` 0 or 1 a label; nothing where the run has none yet. `spectra` is where its spectra came from. A row a
    statement: `claim`, `section`, what the `paper` prints or says, the `value` here (the mean, and the range in
    brackets) as text, and whether it `agrees`, see `comparison.mark`.
    """
    rows = []
    for name, claim in paper.CLAIMS_OF_RUNS.items():
        values, shown, agreements = np.asarray(measured.get(name, ()), float), "not there yet", []
        if len(values) and claim.words:  # a share that is said to be the smaller one
            shown, agreements = f"{values.sum():,.0f} of {len(values):,}", [values.mean() < 0.5]
        elif len(values):
            shown, agreements = _mean_and_range(values, claim.printed), [agrees(values.mean(), claim.printed)]
        rows.append(_row(claim, shown, mark(spectra, agreements)))
    return pd.DataFrame(rows)


def _mean_and_range(values, printed):
    low, mean, high = (number(value, printed) for value in (values.min(), values.mean(), values.max()))
    return mean if low == high else f"{mean} ({low} to {high})"


def of_estimates(estimates):
    """Hold what Sect. 4 says of estimates, but for `comparison.compare`; rows as of `of_run`.

    Where the paper says it in words, these are what is held: of two values, up to and above paper.TEFF_SPLIT. First
    come the rows of `comparison.findings`, some of which the paper has not.
    """
    spectra = estimates["spectra"].iloc[0]
    findings = comparison.printable(comparison.findings(estimates)).rename(columns={"finding": "claim"})
    sections = {"": "", paper.KS_THIN_THICK: "4.1"}
    findings["section"] = [sections.get(printed, "abstract") for printed in findings["paper"]]
    rows = [*_rows_of_teff(estimates, spectra), *_rows_of_counts(estimates, spectra)]
    return pd.concat([findings[COLUMNS], pd.DataFrame(rows)], ignore_index=True)


def _rows_of_teff(estimates, spectra):
    """Rows on the scale of Teff and its uncertainty, up to and above the split."""
    claims = paper.CLAIMS_OF_ESTIMATES
    pairs = {catalogues.CATALOGUES[name]: catalogues.pairs(estimates, name, "teff") for name in TEFF_CATALOGUES}
    for label, stars in pairs.items():
        yield _row_of_two(claims["slope"], label, stars, _slope, ".2f", lambda low, high: max(low, high) < 1, spectra)
    for label, stars in pairs.items():
        yield _row_of_two(claims["difference"], label, stars, lambda stars: (stars["lit"] - stars["ours"]).mean(),
                          "+.0f", lambda low, high: high < min(low, 0), spectra)
    yield _row_of_two(claims["uncertainty"], "", estimates,
                      lambda stars: ((stars["e_teff"] + stars["E_teff"]) / 2).mean(), ".1f",
                      lambda low, high: low < high, spectra)


def _slope(stars):
    """Least-squares slope of the literature on the estimates; NaN where these do not vary."""
    x = stars["ours"] - stars["ours"].mean()
    square = (x**2).sum()
    return (x * stars["lit"]).sum() / square if square > 0 else np.nan


def _row_of_two(claim, label, stars, measure, digits, holds, spectra):
    """A row of what is measured of the stars up to and above the split; held only if there are both values."""
    values = [measure(stars[stars["teff"] <= paper.TEFF_SPLIT]), measure(stars[stars["teff"] > paper.TEFF_SPLIT])]
    text = f"{claim.text.format(label)}: up to {paper.TEFF_SPLIT} K, above"
    shown = ", ".join(format(value, digits) if np.isfinite(value) else "none" for value in values)
    return _row(claim, shown, mark(spectra, [holds(*values)] if np.isfinite(values).all() else []), text)


def _rows_of_counts(estimates, spectra):
    """Rows that count stars; `None` are those that no table here can show."""
    stars = catalogues.match(estimates, "stars")
    active, young_disc, fast = stars["active"] == 1, stars["population"] == "YD", stars["vsini"] > paper.VSINI_SPLIT
    counted = {
        "active": active, "active_young_disc": active & young_disc, "fast": fast, "fast_active": fast & active,
        "fast_young_disc": fast & young_disc, "young": stars["young"] == 1, "probable": None, "very_probable": None,
        "named": None, "subdwarf": stars["subdwarf"] == 1,
    }
    for name, rows in counted.items():
        claim = paper.CLAIMS_OF_ESTIMATES[name]
        if rows is None:
            yield _row(claim, "in no table here", "")
        else:
            yield _row(claim, str(rows.sum()), mark(spectra, [agrees(rows.sum(), claim.printed)]))


def _row(claim, value, agreement, text=None):
    printed = claim.words or comparison.thousands(claim.printed)
    return dict(zip(COLUMNS, (text or claim.text, claim.section, printed, value, agreement)))
