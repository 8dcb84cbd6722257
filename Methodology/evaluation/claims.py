"""What the paper says of its networks (Sect. 3) and estimates (Sect. 4), held against a run's or the published."""
import numpy as np
import pandas as pd

import paper
from evaluation import catalogues, comparison

COLUMNS = ["claim", "section", "paper", "value", "agrees"]
TEFF_CATALOGUES = ("mar21", "pass19", "schw19")  # those of which the paper says it


def of_run(measured, spectra):
    """Hold what Sect. 3 says against a run.

    Parameters
    ----------
    measured : dict of str to sequence of float
        For the names of paper.CLAIMS_OF_RUNS the run's value, or those of its autoencoders, or parameters; of `hot`
        0 or 1 a label. Absent or empty where the run has none yet.
    spectra : str
        Where its spectra came from.

    Returns
    -------
    DataFrame
        A row a statement: `claim`, `section`, what the `paper` prints or says, the `value` here (the mean, and the
        range in brackets) as text, and whether it `agrees`, see `comparison.mark`.
    """
    rows = []
    for name, claim in paper.CLAIMS_OF_RUNS.items():
        values = np.asarray(measured.get(name, ()), float)
        if not len(values):
            rows.append((claim, "not there yet", ""))
            continue
        if claim.words:  # a share that is said to be the smaller one
            shown, agrees = f"{values.sum():,.0f} of {len(values):,}", values.mean() < 0.5
        else:
            shown, agrees = _mean_and_range(values, claim.printed), comparison.agrees(values.mean(), claim.printed)
        rows.append((claim, shown, comparison.mark(spectra, [agrees])))
    return _table(rows)


def _mean_and_range(values, printed):
    low, mean, high = (number(value, printed) for value in (values.min(), values.mean(), values.max()))
    return mean if low == high else f"{mean} ({low} to {high})"


def of_estimates(estimates):
    """Hold what Sect. 4 says of the estimates against these, but for the comparison of `comparison.compare`.

    Parameters
    ----------
    estimates : DataFrame
        As `catalogues.load_estimates` gives it.

    Returns
    -------
    DataFrame
        As of `of_run`. Where the paper says it in words, these are what is held: of two values, up to and above
        paper.TEFF_SPLIT. First come the rows of `comparison.findings`, some of which the paper has not.
    """
    spectra = estimates["spectra"].iloc[0]
    found = comparison.printable(comparison.findings(estimates)).rename(columns={"finding": "claim"})
    sections = {"": "", paper.KS_THIN_THICK: "4.1"}
    found["section"] = [sections.get(printed, "abstract") for printed in found["paper"]]
    rows = [*_of_teff(estimates, spectra), *_of_stars(estimates, spectra)]
    return pd.concat([found[COLUMNS], _table(rows)], ignore_index=True)


def _of_teff(estimates, spectra):
    """Rows on the scale of Teff and its uncertainty, up to and above the split."""
    claims = paper.CLAIMS_OF_ESTIMATES
    sets = {catalogues.CATALOGUES[name]: catalogues.pairs(estimates, name, "teff") for name in TEFF_CATALOGUES}
    for catalogue, stars in sets.items():
        yield _two(claims["slope"], catalogue, [_slope(part) for part in _split(stars)], ".2f",
                   lambda low, high: max(low, high) < 1, spectra)
    for catalogue, stars in sets.items():
        yield _two(claims["difference"], catalogue, [(part["lit"] - part["ours"]).mean() for part in _split(stars)],
                   "+.0f", lambda low, high: high < min(low, 0), spectra)
    own = [((part["e_teff"] + part["E_teff"]) / 2).mean() for part in _split(estimates)]
    yield _two(claims["uncertainty"], "", own, ".1f", lambda low, high: low < high, spectra)


def _split(stars):
    return stars[stars["teff"] <= paper.TEFF_SPLIT], stars[stars["teff"] > paper.TEFF_SPLIT]


def _slope(stars):
    """Least-squares slope of the literature on the estimates; NaN where these do not vary."""
    x = stars["ours"] - stars["ours"].mean()
    square = (x**2).sum()
    return (x * stars["lit"]).sum() / square if square > 0 else np.nan


def _two(claim, catalogue, values, digits, holds, spectra):
    """A row of two values, up to and above the split; held only if there are both."""
    text = f"{claim.text.format(catalogue)}: up to {paper.TEFF_SPLIT} K, above"
    shown = ", ".join(format(value, digits) if np.isfinite(value) else "none" for value in values)
    agreements = [holds(*values)] if np.isfinite(values).all() else []
    return claim, shown, comparison.mark(spectra, agreements), text


def _of_stars(estimates, spectra):
    """Rows that count stars; `None` are those that no table here can show."""
    stars = catalogues.match(estimates, "stars")
    active, young_disc, fast = stars["active"] == 1, stars["population"] == "YD", stars["vsini"] > paper.VSINI_SPLIT
    counts = {
        "active": active, "active_young_disc": active & young_disc, "fast": fast, "fast_active": fast & active,
        "fast_young_disc": fast & young_disc, "young": stars["young"] == 1, "probable": None, "very_probable": None,
        "named": None, "subdwarf": stars["subdwarf"] == 1,
    }
    for name, rows in counts.items():
        claim = paper.CLAIMS_OF_ESTIMATES[name]
        if rows is None:
            yield claim, "in no table here", ""
        else:
            yield claim, str(rows.sum()), comparison.mark(spectra, [comparison.agrees(rows.sum(), claim.printed)])


def _table(rows):
    """Rows of a claim, the value as text, the mark and, if it is not the claim's, the text of what."""
    return pd.DataFrame([
        (text[0] if text else claim.text, claim.section, claim.words or _thousands(claim.printed), value, mark)
        for claim, value, mark, *text in rows
    ], columns=COLUMNS)


def number(value, printed):
    """A number as text with one digit more than the paper prints; a count is whole."""
    if "e" in printed:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    whole = float(value).is_integer() and "." not in printed
    return _thousands(f"{value:.0f}" if whole else f"{value:.{1 + len(printed.partition('.')[2])}f}")


def _thousands(text):
    return f"{int(text):,}" if text.isdigit() and len(text) > 4 else text
