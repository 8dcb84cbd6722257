"""Numbers in README and docs/, held against the tables that they come from: a sentence of a page, and its values."""
import re
from pathlib import Path

import numpy as np
import pytest

import paper
from evaluation import catalogues, claims, comparison

ROOT = Path(__file__).resolve().parents[2]


def prose(page):
    """A page without line ends and marks of emphasis."""
    return re.sub(r"\s+", " ", (ROOT / page).read_text(encoding="utf-8").replace("**", ""))


# ---------------------------------------------------------------- the published estimates
def held(estimates, name, column):
    """Of published values with errors: how many, and the share [%] whose 1-sigma error, both in quadrature, holds."""
    pairs = catalogues.pairs(estimates, name, column)
    pairs = pairs[~pairs["limit"]]
    off = pairs["lit"] - pairs["ours"]
    ours, lit = (np.where(off < 0, pairs[f"{whose}_{low}"], pairs[f"{whose}_{high}"])
                 for whose, low, high in (("ours", "low", "high"), ("lit", "high", "low")))
    return len(pairs), round(100 * (off.abs() <= np.hypot(ours, np.nan_to_num(lit))).mean())


@pytest.fixture(scope="module")
def published():
    """By name the numbers that the pages say of the published estimates."""
    estimates = catalogues.load_estimates()
    facts = {"n": len(estimates)}
    for par, grid in (("teff", paper.GRID_TEFF), ("logg", paper.GRID_LOGG), ("mh", paper.GRID_MH),
                      ("vsini", paper.GRID_VSINI)):
        facts[f"{par}_below"] = (estimates[par] < grid[0]).sum()
        facts[f"{par}_above"] = (estimates[par] > grid[-1]).sum()
        facts[f"{par}_outside"] = facts[f"{par}_below"] + facts[f"{par}_above"]
    for name, column in (("pass20", "vsini"), ("rein18", "vsini"), ("mann15", "mh"), ("mann15", "teff"),
                         ("schw19", "loggc"), ("interf", "teff")):
        facts[f"n_{name}_{column}"], facts[f"held_{name}_{column}"] = held(estimates, name, column)
    limits = catalogues.pairs(estimates, "rein18", "vsini").query("limit")
    facts.update(limits=len(limits), limits_below=(limits["lit"] < limits["ours"]).sum())
    facts["ranges"], facts["comparisons"] = 2 * len(paper.RANGES), len(paper.COMPARISONS)
    statements = claims.of_estimates(estimates)
    for name, words in (("slope", "slope of"), ("difference", "mean of"), ("uncertainty", "mean uncertainty")):
        values = statements.loc[statements["claim"].str.startswith(words), "value"].str.split(", ")
        facts[name], facts[f"{name}_hot"] = zip(*values)
    facts["words"] = statements[statements["kind"] == "in words"]["agrees"].value_counts().to_dict()
    values = dict(zip(statements["claim"], statements["value"]))
    facts["scatter"] = [value.replace(", ", " and ") for claim, value in values.items()
                        if claim.startswith("standard deviation of") and "above" in claim]
    facts["printed"] = (statements[statements["kind"] == "printed"]["agrees"] == "yes").sum()
    facts["spread"], facts["r"] = (next(value.split(", ") for claim, value in values.items() if claim.startswith(words))
                                   for words in ("standard deviation of Mar21, ", "Pearson r of Teff"))
    facts["share"], facts["cool"], facts["above"], facts["below"], facts["akin"] = (
        next(value.replace("%", " %").split(", ") for claim, value in values.items() if claim.startswith(words))
        for words in ("H-alpha active share", "Teff of stars above", "H-alpha active, of", "of the thick", "[M/H] of"))
    stars = catalogues.match(estimates, "stars")
    fast = stars["vsini"] > paper.VSINI_SPLIT
    facts.update(active=(stars["active"] == 1).sum(), fast=fast.sum(),
                 young_active=((stars["active"] == 1) & (stars["population"] == "YD")).sum(),
                 young_fast=(fast & (stars["population"] == "YD")).sum())
    assert (stars.loc[fast, "active"] == 1).all() and (stars["subdwarf"] == 1).sum() == 4
    assert facts["above"][1] == "14 of 14" and facts["below"][1] == "8 of 15"
    assert sum(facts["words"].values()) == 23
    return facts


OF_PUBLISHED = [
    ("docs/literature.md", "{comparisons} comparisons with the literature"),
    ("docs/literature.md", "{logg_outside} log g and {vsini_outside} v sin i lie outside of the synthetic grid"),
    ("docs/literature.md", "{logg_outside} of {n} log g (all below 4.7) and {vsini_outside} of {n} v sin i "
                           "({vsini_above} above 30 km/s, {vsini_below} below 1.5 km/s)"),
    ("docs/literature.md", "of {n_interf_teff} interferometric Teff none lies within the published uncertainties"),
    ("docs/literature.md", "({slope[0]}, {slope[1]} and {slope[2]} against Mar21, Pass19 and Schw19)"),
    ("docs/literature.md", "({uncertainty_hot[0]} instead of {uncertainty[0]} K)"),
    ("docs/literature.md", "lie {held_pass20_vsini} % of {n_pass20_vsini} against Pass20 and {held_rein18_vsini} % of "
                           "{n_rein18_vsini} against Rein18; of the {limits} upper limits of Rein18 {limits_below} lie "
                           "below the estimate"),
    ("docs/literature.md", "{active} stars active in H-alpha, {young_active} of these in the young disc, {fast} stars "
                           "above 12 km/s, all of them active and {young_fast} of them in the young disc"),
    ("docs/literature.md", "{words[yes]} of 23 hold"),
    ("README.md", "{printed} of 8 printed and {words[yes]} of 23 in words agree"),
    ("docs/literature.md", "({scatter[0]} K, {scatter[1]}, {scatter[2]})"),
    ("docs/literature.md", "({spread[3]} K of all stars; {spread[0]}, {spread[1]} and {spread[2]})"),
    ("docs/literature.md", "(r from {r[4]} to {r[3]})"),
    ("docs/literature.md", "{share[0]} above 3750 K and {share[3]} up to 3200 K"),
    ("docs/literature.md", "Teff from {cool[0]} K"),
    ("docs/literature.md", "at 0.35 dex ({below[2]}), not at 0.25 dex ({below[0]})"),
    ("docs/literature.md", "both in {akin[0]} comparisons"),
    ("docs/literature.md", "{held_mann15_mh} % of {n_mann15_mh} [M/H] hold (Mann+15), {held_schw19_loggc} % of "
                           "{n_schw19_loggc} log g (mass and radius), {held_mann15_teff} % of {n_mann15_teff} Teff "
                           "(Mann+15), {held_rein18_vsini} % of {n_rein18_vsini} v sin i and none"),
]


@pytest.mark.parametrize(("page", "sentence"), OF_PUBLISHED)
def test_of_the_published_estimates(page, sentence, published):
    assert sentence.format(**published) in prose(page)


def test_none_is_outside_or_held_where_pages_say_none(published):
    assert [published[f"{par}_outside"] for par in ("teff", "mh")] == [0, 0]
    assert published["held_interf_teff"] == 0 and published["logg_above"] == 0
    assert not (comparison.compare(catalogues.load_estimates())["agrees"] == "no").any()
