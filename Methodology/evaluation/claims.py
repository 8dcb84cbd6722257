"""What the paper says of its networks (Sect. 3) and estimates (Sect. 4), held against a run's or the published."""
import numpy as np
import pandas as pd

import paper
from evaluation import catalogues, comparison
from evaluation.comparison import agrees, mark, number

COLUMNS = ["claim", "section", "kind", "paper", "value", "agrees"]
CARMENES = ("mar21", "pass19", "schw19")  # the catalogues of which the paper says most
# Ours, where the paper has only words
CUTS = (0.25, 0.3, 0.35)  # [dex] from a cubic of luminosity in Teff, from where a star stands out
COOL = (3200, 3400, paper.TEFF_SPLIT)  # [K] between the groups whose shares of active stars are compared
STRONG = 0.7  # Pearson r


def of_run(measured, spectra):
    """Hold what Sect. 3 says against a run: a row a statement.

    `measured` has for the names of paper.CLAIMS_OF_RUNS the run's value, or those of its autoencoders, or parameters;
    of `hot` 0 or 1 a label; nothing where the run has none yet. `spectra` is where its spectra came from. Columns:
    `claim`, `section`, its `kind` (printed or in words), what the `paper` prints or says, the `value` here (the mean,
    and the range in brackets) as text, and whether it `agrees`, see `comparison.mark`.
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

    Of the kind "ours" is what the paper neither prints nor says. A statement in words that does not hold at every cut
    that was tried agrees "in part". First come the rows of `comparison.findings`.
    """
    findings = comparison.printable(comparison.findings(estimates)).rename(columns={"finding": "claim"})
    sections = {"": "", paper.KS_THIN_THICK: "4.1"}
    findings["section"] = [sections.get(printed, "abstract") for printed in findings["paper"]]
    findings["kind"] = ["printed" if printed else "ours" for printed in findings["paper"]]
    rows = [*_rows_of_teff(estimates), *_rows_of_errors(estimates), *_rows_of_stars(estimates)]
    table = pd.DataFrame([_row(claim, value, _mark(estimates, agreements), text)
                          for claim, text, value, agreements in rows])
    return pd.concat([findings[COLUMNS], table], ignore_index=True)


def _mark(estimates, agreements):
    marks = {mark(estimates["spectra"].iloc[0], [agreement]) for agreement in agreements}
    return "in part" if len(marks) > 1 else "".join(marks)


def _difference(stars):
    return stars["lit"] - stars["ours"]


def _slope(stars):
    """Least-squares slope of the literature on the estimates; NaN where these do not vary."""
    x = stars["ours"] - stars["ours"].mean()
    square = (x**2).sum()
    return (x * stars["lit"]).sum() / square if square > 0 else np.nan


# Of the claims on Teff: what is measured of the stars up to and above the split, its digits, and when the claim holds
ON_TEFF = {
    "slope": (_slope, ".2f", lambda low, high: low < 1),
    "difference": (lambda stars: _difference(stars).mean(), "+.0f", lambda low, high: high < min(low, 0)),
    "dispersion": (lambda stars: _difference(stars).std(), ".0f", lambda low, high: low < high),
    "uncertainty": (lambda stars: stars[["e_teff", "E_teff"]].mean(axis=1).mean(), ".1f", lambda low, high: low < high),
}
ON_ALL = {  # the same of measures of all stars: the catalogues, the last of which the claim may be about
    "spread": (ON_TEFF["dispersion"][0], ".0f", (*CARMENES, "bello23"), lambda *others, last: last > max(others)),
    "correlation": (lambda stars: stars["ours"].corr(stars["lit"]), ".2f", (*CARMENES, "pass20", "bello23"),
                    lambda *others, last: min(*others, last) > STRONG),
}


def _rows_of_teff(estimates):
    """Rows on the scale of Teff and its uncertainty; held only where all that is compared is there."""
    compared = dict.fromkeys([*CARMENES, *(name for *_, tables, _ in ON_ALL.values() for name in tables)])
    pairs = {name: catalogues.pairs(estimates, name, "teff") for name in compared}
    for name, (measure, digits, holds) in ON_TEFF.items():
        claim = paper.CLAIMS_OF_ESTIMATES[name]
        for table in ("",) if name == "uncertainty" else CARMENES:
            stars = pairs.get(table, estimates)
            sides = stars["teff"] <= paper.TEFF_SPLIT, stars["teff"] > paper.TEFF_SPLIT
            values = [measure(stars[rows]) for rows in sides]
            text = f"{claim.text.format(catalogues.CATALOGUES.get(table))}: up to {paper.TEFF_SPLIT} K, above"
            yield claim, text, _listed(values, digits), [holds(*values)] if np.isfinite(values).all() else []
    for name, (measure, digits, tables, holds) in ON_ALL.items():
        claim, values = paper.CLAIMS_OF_ESTIMATES[name], [measure(pairs[table]) for table in tables]
        agreements = [holds(*values[:-1], last=values[-1])] if np.isfinite(values).all() else []
        yield claim, claim.text.format(_named(tables)), _listed(values, digits), agreements


def _rows_of_errors(estimates):
    """Rows on differences from the literature that errors should explain."""
    for name in ("pass20", "rein18"):
        stars = catalogues.pairs(estimates, name, "vsini")
        yield _most("within", _within(stars[~stars["limit"]]), catalogues.CATALOGUES[name])
    limits = stars[stars["limit"]]
    claim, text, shown, agreements = _most("limits", limits["ours"] - limits["ours_low"] <= limits["lit"],
                                           catalogues.CATALOGUES[name])
    yield claim, text, f"{shown}; {(limits['lit'] < limits['ours']).sum()} limits are below the estimate", agreements


def _within(stars):
    """Whether estimate and literature differ by at most 1 sigma, of the sides that face each other, in quadrature."""
    ours = np.where(_difference(stars) > 0, stars["ours_high"], stars["ours_low"])
    lit = np.where(_difference(stars) > 0, stars["lit_low"], stars["lit_high"])
    return _difference(stars).abs() <= np.hypot(ours, lit)


def _rows_of_stars(estimates):
    """Rows that count stars, but of claims that no table here can show."""
    stars = catalogues.match(estimates, "stars")
    active, young_disc, fast = stars["active"] == 1, stars["population"] == "YD", stars["vsini"] > paper.VSINI_SPLIT
    for name, chosen in {"active": active, "fast": fast, "young": stars["young"] == 1}.items():
        yield paper.CLAIMS_OF_ESTIMATES[name], None, str(chosen.sum()), []
    for name, chosen, group in (("active_young_disc", young_disc, active), ("fast_active", active, fast),
                                ("fast_young_disc", young_disc, fast)):
        yield _most(name, chosen[group])
    yield _later_types(stars["teff"], active)
    yield _fast_and_cool(stars["teff"], fast)
    known = stars["teff"].notna() & (stars["lbol"] > 0)
    x, y = stars["teff"][known] / 1000, np.log10(stars["lbol"][known])
    excess = y - np.polyval(np.polyfit(x, y, 3), x) if known.sum() > 4 else y * np.nan
    for name, sign, chosen in (("above", 1, active[known]), ("below", -1, (stars["population"] == "TD")[known])):
        claim, groups = paper.CLAIMS_OF_ESTIMATES[name], [chosen[sign * excess > cut] for cut in CUTS]
        yield (claim, claim.text.format(", ".join(map(str, CUTS))), ", ".join(map(_share, groups)),
               [group.mean() > 0.5 for group in groups if len(group)])
    claim, n = paper.CLAIMS_OF_ESTIMATES["subdwarf"], (stars["subdwarf"] == 1).sum()
    yield claim, None, str(n), [agrees(n, claim.printed)]
    pairs = pd.concat(catalogues.pairs(estimates, name, "mh") for name in CARMENES)
    akin = stars["karmn"][stars["subdwarf"] == 1]
    yield _most("subdwarf_mh", _within(pairs[pairs["karmn"].isin(akin)]), _named(CARMENES))
    for name in ("probable", "very_probable", "associations", "more"):
        yield paper.CLAIMS_OF_ESTIMATES[name], None, "in no table here", []


def _later_types(teff, active):
    """The row on the share of active stars from the hottest group to the coolest."""
    claim, groups = paper.CLAIMS_OF_ESTIMATES["active_late"], [0, *COOL, np.inf]
    shares = [active[(teff > low) & (teff <= high)].mean() for low, high in zip(groups, groups[1:])][::-1]
    names = [f"above {COOL[-1]}", *(f"to {edge}" for edge in COOL[::-1])]
    known = np.isfinite(shares).all()
    return (claim, claim.text.format(", ".join(names)), _listed(shares, ".0%"),
            [np.all(np.diff(shares) >= 0) and shares[-1] > shares[0]] if known else [])


def _fast_and_cool(teff, fast):
    low, high, median = teff[fast].min(), teff[fast].max(), teff.median()
    return (paper.CLAIMS_OF_ESTIMATES["fast_cool"], None, f"{_listed([low, high], '.0f', ' to ')}, "
            f"{_listed([median], '.0f')}", [high < median] if np.isfinite([high, median]).all() else [])


def _most(name, chosen, *words):
    """The row of a claim that holds if it does of more than half of the stars; not held of none."""
    claim = paper.CLAIMS_OF_ESTIMATES[name]
    return claim, claim.text.format(*words), _share(chosen), [chosen.mean() > 0.5] if len(chosen) else []


def _share(chosen):
    return f"{chosen.sum()} of {len(chosen)}"


def _named(tables):
    return ", ".join(catalogues.CATALOGUES[name] for name in tables)


def _listed(values, digits, between=", "):
    return between.join(format(value, digits) if np.isfinite(value) else "none" for value in values)


def _row(claim, value, agreement, text=None):
    printed = claim.words or comparison.thousands(claim.printed)
    return dict(zip(COLUMNS, (text or claim.text, claim.section, claim.kind, printed, value, agreement)))
