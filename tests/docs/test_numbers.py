"""Numbers in README and docs/, held against the tables that they come from: a sentence of a page, and its values."""
import functools
import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import paper
from evaluation import calibrated, catalogues, claims, comparison
from figures import style

ROOT = Path(__file__).resolve().parents[2]
ARTICLE = "docs/article/article.tex"


TEX = {r"\teff{}": "Teff", r"\logg{}": "log g", r"\mh{}": "[M/H]", r"\vsini{}": "v sin i", "~": " ", r"\%": "%",
       "&": "|", r"\\": "|"}


def prose(page):
    """A page without line ends and marks of emphasis, of the article without those of TeX and citations."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("**", "")
    if page == ARTICLE:
        text = re.sub(r"\\supercite\{.+?\}", "", text)
        for mark, word in TEX.items():
            text = text.replace(mark, word)
    return re.sub(r"\s+", " ", text)


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
    assert sum(facts["words"].values()) == 23 and facts["printed"] == 8
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
    ("README.md", "Of its 23 statements in words {words[yes]} hold"),
    (ARTICLE, "Of 23 statements in words {words[yes]} hold"),
    (ARTICLE, "{comparisons} comparisons with the literature"),
    (ARTICLE, "{held_pass20_vsini} % of {n_pass20_vsini} lie within 1 sigma"),
    (ARTICLE, "of the {limits} upper limits of Reiners et al. {limits_below} lie below the estimate"),
    (ARTICLE, "{logg_outside} of {n} log g and {vsini_outside} v sin i lie outside of the labels"),
    (ARTICLE, "of {n_interf_teff} interferometric Teff none lies within the published uncertainties"),
    (ARTICLE, "{held_mann15_mh} % of {n_mann15_mh} [M/H] hold against Mann et al., {held_schw19_loggc} % of "
              "{n_schw19_loggc} log g, {held_mann15_teff} % of {n_mann15_teff} Teff and {held_rein18_vsini} % of "
              "{n_rein18_vsini} v sin i"),
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


# ---------------------------------------------------------------- tables of docs/data
def table(name):
    return pd.read_csv(ROOT / "docs" / "data" / f"{name}.csv")


def of_recipe():
    """Rmse at full size before and after, of one constant, and of what the ensemble says of itself."""
    recipe = table("recipe_full_size").groupby(["stage", "parameter"])[["rmse", "own uncertainty"]].mean()
    constant = table("joint_errors").query("estimates == 'one constant for all'")[list(paper.PARAMETERS)].mean()
    ratios = [recipe.loc[("after", par), "rmse"] / recipe.loc[("after", par), "own uncertainty"]
              for par in paper.PARAMETERS]
    return {"before": recipe.loc["before", "rmse"], "after": recipe.loc["after", "rmse"], "constant": constant,
            "own": recipe.loc["after", "own uncertainty"], "low": min(ratios), "high": max(ratios)}


def of_networks():
    """Mean rmse over the gap seeds of the second family at the demo's size: the recipe after fine-tuning."""
    rows = table("network_errors").query("size == 'demo' and networks == 'ensemble' and epochs == 20")
    rows = rows[rows["family"] == "growth"]
    return rows[rows["way"] == "published after"].groupby("parameter")["rmse"].mean().to_dict()


def logarithms(rows, *index):
    """Of rows of network_errors ln(rmse), a column a way and parameter."""
    return rows.assign(log=np.log(rows["rmse"])).pivot_table(
        index=list(index), columns=["way", "parameter"], values="log")


def gain_of(logs):
    """ln(rmse after / before) fine-tuning, a column a parameter."""
    return logs["published after"] - logs["published before"]


def scatter_of(gain):
    """Standard deviations of a gain by family, between gap seeds, and between autoencoders behind the same gap."""
    by_seed = gain.groupby(["family", "seed"])
    return by_seed.mean().groupby("family").std(), by_seed.var().groupby("family").mean() ** 0.5


def ends(numbers):
    """The least and the largest number of a table."""
    return numbers.min().min(), numbers.max().max()


def joint_untouched():
    """Rows of joint_errors of the gaps on which its form was not chosen, each with its family."""
    rows = table("joint_errors")
    rows = rows[~rows["gap"].isin(["lines_0", "lines_1", "lines_2"])]
    return rows.assign(family=rows["gap"].str.split("_").str[0])


def of_fine_tuning():
    """By size and family what fine-tuning multiplies the rmse by, geometric mean over gap seeds, by parameter and
    over all, and at how many seeds it gains over all."""
    rows = table("network_errors").query("networks == 'ensemble' and epochs in (20, 200)")
    gain = gain_of(logarithms(rows, "size", "family", "seed"))
    mean = np.exp(gain.assign(all=gain.mean(axis=1)).groupby(["size", "family"]).mean())
    gains = (gain.mean(axis=1) < 0).groupby(["size", "family"]).sum()
    return {f"{size}_{family}": {**mean.loc[(size, family)], "gains": gains[size, family]}
            for size, family in mean.index}


def of_full_size():
    """At full size, by family: mean rmse after fine-tuning, at how many gap seeds one constant has a larger one, the
    median of r; over those of the demo's size and the constant's over it, geometric means; biases of [M/H]."""
    recipe = table("network_errors").query("networks == 'ensemble' and epochs in (20, 200) and family != 'none'")
    recipe = recipe[recipe["way"].isin(["published before", "published after"])]
    wide = recipe.pivot_table(index=["family", "seed"], columns=["size", "way", "parameter"], values="rmse")
    after, demo = wide["paper", "published after"], wide["demo", "published after"]
    constant = table("joint_errors").query("estimates == 'one constant for all'")[list(paper.PARAMETERS)].mean()
    r = recipe.query("size == 'paper' and way == 'published after'").groupby(["family", "parameter"])["r"].median()
    biases = recipe.query("size == 'paper' and parameter == 'mh' and not (family == 'lines' and seed < 3)")
    biases = (biases["bias"] ** 2).groupby([biases["family"], biases["way"].str.split().str[1]]).mean() ** 0.5
    beaten = after.lt(constant).groupby("family").sum()
    worst = {f"worst_{par}": after[par].max() for par in paper.PARAMETERS}
    both = {"easy": beaten[["teff", "vsini"]].sum().sum(), "hard": beaten[["logg", "mh"]].sum().sum(), **worst}
    gains = (after < wide["paper", "published before"]).groupby("family").sum()
    return both | {family: {**after.loc[family].mean(), "r": r[family], "beaten": beaten.loc[family],
                            "gains": gains.loc[family],
                            "demo": np.exp(np.log(after / demo).loc[family].mean().mean()),
                            "constant": np.exp(np.log(constant / after.loc[family]).mean().mean()),
                            "biases": biases[family]} for family in ("lines", "growth")}


def of_medians():
    """At full size the medians over gap seeds of README's figure: fine-tuned, with anchors, the joint fit with them."""
    rows = table("network_errors").query("size == 'paper' and networks == 'ensemble'")
    medians = {way: rows[rows["way"] == f"published {way}"].pivot_table(
        index="family", columns="parameter", values="rmse", aggfunc="median") for way in ("after", "anchored")}
    joint = joint_untouched().groupby(["estimates", "family"])[list(paper.PARAMETERS)].median()
    return {**medians, "joint": joint.loc["joint, 14 + 6 anchors, mean of log g"],
            "shared": joint.loc["joint, the same, 30 K shared by anchors"]}


def of_band():
    """How many dots of the recipe in README's figure lie above what the published estimates claim, and of how many."""
    rows, published = table("network_errors").query("size == 'paper' and family != 'none'"), catalogues.load_estimates()
    rows = rows[rows["way"].isin([f"published {way}" for way in ("before", "after", "anchored")])]
    rows = rows[rows["networks"] == "ensemble"].set_index("parameter")["rmse"]
    claimed = {par: (published[f"e_{par}"] + published[f"E_{par}"]).median() / 2 for par in paper.PARAMETERS}
    return {"above": sum((rows[par] > claimed[par]).sum() for par in claimed), "all": len(rows)}


def of_causes():
    """At the demo's size standard deviations of ln(rmse after / before) between gap seeds, and between autoencoders
    behind the same gap; by how much CNNs of more epochs change its mean, of the same autoencoders."""
    rows = table("network_errors").query("size == 'demo' and networks in ('0', '1', '2') and family != 'none'")
    gain = gain_of(logarithms(rows, "epochs", "family", "seed", "networks"))
    gaps, autoencoders = scatter_of(gain.loc[20])
    alike = gain[gain.index.get_level_values("networks") != "2"].groupby(["epochs", "family"]).mean()
    longer = np.exp(alike.loc[60]) - np.exp(alike.loc[20])
    more = {4: "four", 5: "five"}[(gaps > autoencoders).sum().sum()]
    return {"more": more, "gaps": ends(gaps), "longer": longer.abs().max().max(), "autoencoders": ends(autoencoders)}


def of_gains():
    """By parameter the gap seeds of either family at which fine-tuning lessens the rmse at the demo's size."""
    rows = table("network_errors").query("size == 'demo' and networks == 'ensemble' and epochs == 20")
    rmse = rows.pivot_table(index=["family", "parameter", "seed"], columns="way", values="rmse")
    gains = (rmse["published after"] < rmse["published before"]).groupby(["parameter", "family"]).sum()
    return {par: (gains[par, "lines"], gains[par, "growth"]) for par in paper.PARAMETERS}


def of_order():
    """By way, family and parameter the median of r, and where that on the flux is larger in log g than the recipe's."""
    rows = table("network_errors").query("size == 'demo' and networks == 'ensemble' and family != 'none'")
    rows = rows[rows["epochs"] == rows.groupby("way")["epochs"].transform("min")]
    r = rows.pivot_table(index=["family", "seed"], columns=["way", "parameter"], values="r")
    median = r.groupby("family").median()
    larger = (r["flux", "logg"] > r["published after", "logg"]).groupby("family").sum()
    names = {"flux": "flux", "published after": "after", "perturbed before": "perturbed"}
    return {"larger": larger, **{name: {par: median[way, par] for par in paper.PARAMETERS}
                                 for way, name in names.items()}}


def of_biases():
    """By family and way the root mean square over gap seeds of the bias of [M/H] at the demo's size."""
    rows = table("network_errors").query("size == 'demo' and parameter == 'mh' and networks in ('ensemble', '')")
    rows = rows[(rows["family"] == "growth") | (rows["seed"] > 2)]
    rows = rows[rows["epochs"] == rows.groupby("way")["epochs"].transform("min")]
    names = {"flux": "flux", "published before": "before", "published after": "after", "perturbed before": "perturbed"}
    square = (rows["bias"] ** 2).groupby([rows["family"], rows["way"].map(names)]).mean()
    return {family: (square[family] ** 0.5).to_dict() for family in ("lines", "growth")}


def of_intervals():
    """Share [%] of stars in the recipe's 68 % intervals behind gaps of the family that these were calibrated on."""
    rows = table("network_coverage").query("way == 'published after' and epochs == 20")
    rows = rows[rows["calibrated on"] == rows["tested on"]]
    return {family: (100 * part.set_index("parameter")["68 after"]).to_dict()
            for family, part in rows.groupby("tested on")}


def of_full_intervals():
    """By family the least and largest share [%] of stars in the recipe's own 68 % intervals at full size."""
    rows = table("network_coverage").query("size == 'paper' and way == 'published after'")
    rows = 100 * rows[rows["calibrated on"] == rows["tested on"]].groupby("tested on")["68 before"].agg(["min", "max"])
    return {**rows.T.to_dict("list"), "all": (rows["min"].min(), rows["max"].max())}


def of_released():
    """By family the mean rmse after fine-tuning of the autoencoder at full size that releases have."""
    rows = table("network_errors").query("size == 'paper' and way == 'published after' and networks == '0'")
    return {family: part.groupby("parameter")["rmse"].mean() for family, part in rows.groupby("family")}


def of_each():
    """At full size, over all parameters and both families, errors after fine-tuning of each autoencoder over those of
    their ensemble, geometric means; standard deviations of ln(after / before) between gap seeds and between them;
    by family the median rmse of Teff of each with anchors."""
    rows = table("network_errors").query("size == 'paper' and family != 'none' and networks == networks")
    logs = logarithms(rows, "networks", "family", "seed")
    after = logs["published after"]
    each = [np.exp((after.loc[i] - after.loc["ensemble"]).mean().mean()) for i in "01"]
    gaps, between = scatter_of(gain_of(logs).loc[["0", "1"]])
    anchored = table("network_errors").query("size == 'paper' and way == 'published anchored' and parameter == 'teff'")
    anchored = anchored.groupby(["family", "networks"])["rmse"].median()
    return {"each": each, "lines": anchored["lines"].tolist(), "growth": anchored["growth"].tolist(),  # 0, 1, ensemble
            "gaps": ends(gaps), "between": ends(between)}


def of_noise():
    """Rmse of Teff and [M/H] before and after fine-tuning at full size where spectra differ by noise alone."""
    rows = table("network_errors").query("size == 'paper' and family == 'none' and networks == 'ensemble'")
    rows = rows.groupby(["parameter", "way"])["rmse"].mean()
    return {par: rows[par][["published before", "published after"]].tolist() for par in ("teff", "mh")}


def of_ways():
    """At the demo's size, by family, errors over the fine-tuned recipe's, geometric mean, and mean rmse of Teff."""
    rows = table("network_errors").query("size == 'demo' and networks in ('ensemble', '') and family != 'none'")
    rows = rows[rows["epochs"] == rows.groupby("way")["epochs"].transform("min")]
    rows = rows[(rows["family"] == "growth") | (rows["seed"] > 2)].pivot_table(
        index=["family", "seed"], columns=["way", "parameter"], values="rmse")
    ratio = np.log(rows["perturbed before"] / rows["published after"]).mean(axis=1)
    return {"ratio": np.exp(ratio.groupby("family").mean()),
            **{way: rows[way, "teff"].groupby("family").mean() for way in ("perturbed before", "published after")}}


def of_anchored():
    """By family the quadratic means of the anchored recipe at gap seeds 0 to 19, and of the joint fit with the same
    anchors over it, geometric mean over parameters and the seeds that both have."""
    rows = table("network_errors").query("size == 'paper' and way == 'published anchored' and networks == 'ensemble'")
    joint = joint_untouched().query("estimates == 'joint, 14 + 6 anchors, mean of log g'")
    joint = joint.set_index("gap")[list(paper.PARAMETERS)]
    recipe = rows.assign(gap=rows["family"] + "_" + rows["seed"].astype(str)).pivot_table(
        index="gap", columns="parameter", values="rmse")
    family = recipe.index.str.split("_").str[0]
    ratio = np.log(joint / recipe[joint.columns]).dropna().mean(axis=1)
    ratio = np.exp(ratio.groupby(ratio.index.str.split("_").str[0]).mean())
    square = ((recipe**2).groupby(family).mean() ** 0.5).T.to_dict()
    return {**square, "ratio": ratio}


def of_joint():
    """By family the quadratic means of the joint fit with 14 + 6 anchors, of the seeds that it was not chosen on."""
    rows = table("joint_errors").query("estimates == 'joint, 14 + 6 anchors, mean of log g'")
    number = rows["gap"].str.split("_").str[1].astype(int)
    rows = rows[rows["gap"].str.startswith("growth") | (number >= 10)]
    square = (rows[list(paper.PARAMETERS)] ** 2).groupby(rows["gap"].str.split("_").str[0]).mean()
    return (square**0.5).T.to_dict("series")


def of_joint_noise():
    """Shares of own and of whole intervals that hold [%], of fitted and of new stars: means over families and S/N."""
    shares = table("joint_noise").groupby(["stars", "parameter"])[["own_held", "held"]].mean().round().astype(int)
    return {f"{what} {stars}": ", ".join(str(shares.loc[(stars, par), what]) for par in paper.PARAMETERS)
            for what in shares for stars in ("fitted", "new")}


def of_distances():
    """Rank correlations of the error of Teff with latent distance, flux distance and reconstruction error."""
    runs, names = table("gap_errors"), {"latent": "latent distance of the paper, {}", "flux": "flux: distance",
                                        "reconstruction": "latent, before: reconstruction"}

    def ranks(rows):
        return {f"{name}_{when}": rows[column.format(when)].corr(rows[f"rmse {when}"], "spearman")
                for name, column in names.items() for when in ("before", "after")}

    after = runs.filter(regex="distance|: ").corrwith(runs["rmse after"], method="spearman")
    return {"runs": len(runs), "best": after.max(), "alike": ranks(runs[runs["gap"] == 1]), **ranks(runs)}


def of_penalties():
    """Rmse of [M/H] by penalty and stage, a mean over gap seeds."""
    rows = table("penalties").query("parameter == 'mh'").groupby(["penalty", "stage"])["rmse"].mean()
    return {f"{penalty}_{stage}": value for (penalty, stage), value in rows.items()}


def of_perturbed():
    """Errors over those of the recipe on the untouched gap seeds, and of regressors on the flux."""
    rows = table("perturbed_test").query("seeds == '3 to 7'").set_index(["way", "stage"])
    chosen, recipe = rows.loc[("perturbed", "before")], rows.loc[("published", "after")]
    flux = table("ablations").set_index(["regressor", "way", "seeds"])["ratio"]
    lost = [flux[f"{name} on the flux", "published, fine-tuned", seeds] for seeds in ("0 to 2", "3 to 7")
            for name in ("ridge regression", "multilayer perceptron")]
    mlp, ridge = (flux[f"{name} on the flux", "perturbed, not fine-tuned", "3 to 7"]
                  for name in ("multilayer perceptron", "ridge regression"))
    return {**chosen, "teff": chosen["teff"] / recipe["teff"], "lost": (min(lost), max(lost)), "mlp": mlp,
            "ridge": ridge}


def of_flags():
    """Range over the gap seeds of the errors of flagged stars over those of the others, in Teff and in the rest."""
    rows = table("flags").query("flag == 'any doubt'")
    teff, others = (rows[rows["parameter"].isin(some)]["ratio"] for some in (["teff"], ["logg", "mh", "vsini"]))
    return {"teff": (teff.min(), teff.max()), "others": (others.min(), others.max())}


def of_coverage():
    """Share [%] of Teff in 68 % intervals that were calibrated behind the same and another gap."""
    rows = table("coverage_simulated").query("parameter == 'teff' and level == 68").set_index("intervals")["mean"]
    return {"same": rows["same gap"], "another": rows["another gap"]}


def of_real_spectra():
    """Estimates of real spectra by simulated networks, less Marfil+21."""
    rows = table("real_spectra")
    known = rows[rows["spectrum"] == "Marfil+21"].set_index("star")
    off = {par: [f"{row[par] - known.loc[row['star'], par]:{digits}}" for _, row in rows.iterrows()
                 if row["spectrum"] != "Marfil+21"]
           for par, digits in (("teff", ".0f"), ("logg", ".2f"), ("mh", ".2f"), ("vsini", ".1f"))}
    return {par: (", ".join(values[:3]), values[3]) for par, values in off.items()}


def of_velocities():
    """Share [%] of velocities that their error holds: in the bins of Teff and v sin i, by gap, on untouched seeds."""
    chosen, untouched = (table(name).astype({"gap": str}) for name in ("velocity_errors", "velocity_errors_untouched"))
    bins, others = (100 * rows.query("gap == 'both'")["holds"] for rows in (untouched, chosen))
    held = untouched.assign(held=untouched["holds"] * untouched["n"]).groupby(["family", "gap"])[["held", "n"]].sum()
    late = untouched.query("gap == '1' and teff_low == 2300 and vsini_low == 15")
    worst = untouched.loc[untouched.query("gap == '1'")["holds"].idxmin()]
    return {"low": bins.min(), "high": bins.max(), "missed": {4: "four"}[(~bins.between(60, 80)).sum()],
            "n": len(bins), "by": np.maximum(60 - bins, bins - 80).max(), "chosen": [others.min(), others.max()],
            "held": (100 * held["held"] / held["n"])[[("lines", "0"), ("lines", "1"), ("growth", "1")]].tolist(),
            "worst": 100 * worst["holds"], "held_there": worst["holds"] * worst["n"], "n_there": worst["n"],
            "late": sorted(late["off"]), "shared": sorted(late["shared"])}


def of_lost():
    """M dwarfs left out behind gaps, by family, and whether the gap has the two strongest lines of the window."""
    rows = table("lost")
    at_gap = rows[rows["gap"] == 1].groupby("family")[["lost", "n"]].sum()
    second = rows[rows["family"] == "growth"].groupby("without")[["lost", "n"]].sum()
    others, without = 100 * second["lost"] / second["n"]
    assert not rows[rows["gap"] == 0]["lost"].any()
    return {"lost": at_gap["lost"], "n": at_gap["n"], "without": without, "others": others, "all": rows["n"].sum(),
            **rows[["doubtful", "other_peak", "odd_there"]].sum()}


def of_stray_light():
    """Depth of lines at gap 1, and by how much networks read [M/H] too low, with 0, 5, 10 and 20 % of stray light."""
    rows = table("stray_light").query("change == 'stray light' and gap == 1")
    return {"depth": rows["depth"].tolist(), "lower": (rows["mh"].iloc[0] - rows["mh"]).tolist(),
            "flagged": 100 * rows["flagged"].iloc[-1]}


def of_faults():
    """Share [%] of simulated stars that have the word for a fault, by gap, and below 6 km/s."""
    rows = table("faults")
    rows["found"] = rows["flagged"] * rows["n"]

    def share(chosen):
        return 100 * chosen["found"].sum() / chosen["n"].sum()

    by_gap = {f"{fault[-3:-1]}_{gap}": share(chosen) for (fault, gap), chosen in rows.groupby(["fault", "gap"])}
    blunt = rows[(rows["word"] == "blunt-lines") & (rows["vsini_high"] <= 6)]
    return {**by_gap, "dull": share(blunt[blunt["fault"].str.startswith("R 50,000")])}


def of_false_stars():
    """How many spectra of no M dwarf were accepted, and what became of M dwarfs."""
    rows = table("false_stars").set_index("kind")
    dwarfs = rows.index.str.startswith("M dwarfs")
    assert rows[~dwarfs]["unflagged"].sum() == 0 and (rows[dwarfs]["accepted"] == rows[dwarfs]["n"]).all()
    stars = rows.index.str.contains("giants|K dwarfs|G dwarfs")
    false, giants, true = (rows[chosen].sum() for chosen in (~dwarfs & ~stars, stars, dwarfs))
    return {"all": false["n"] + giants["n"], "lines": false, "stars": giants, "dwarfs": true}


OF_TABLES = [
    ("docs/own-spectra.md", of_velocities, "error holds {low:.0f} to {high:.0f} % in the {n} bins of the figure"),
    ("docs/own-spectra.md", of_velocities, "missed in {missed} bins, by {by:.0f} % at most"),
    ("docs/own-spectra.md", of_velocities, "{chosen[0]:.0f} to {chosen[1]:.0f} % behind those that it was chosen on"),
    ("docs/own-spectra.md", of_velocities, "{held[0]:.0f} % at gap 0, {held[1]:.0f} and {held[2]:.0f} % at gap 1"),
    ("docs/own-spectra.md", of_velocities, "within {late[0]:.1f} and {late[1]:.1f} km/s; what those of one gap seed "
                                           "have in common scatters by {shared[0]:.1f} and {shared[1]:.1f} km/s"),
    ("docs/own-spectra.md", of_velocities, "in the worst bin there {worst:.0f} % ({held_there:.0f} of {n_there:.0f} "
                                           "stars)"),
    ("docs/own-spectra.md", of_lost, "{lost[lines]} of {n[lines]} are lost at gap 1 of the first family and "
                                     "{lost[growth]} of {n[growth]} of the second"),
    ("docs/own-spectra.md", of_lost, "{without:.0f} % where one of the two lines is ten times weaker or gone, "
                                     "{others:.1f} % elsewhere"),
    ("docs/own-spectra.md", of_lost, "keeps {doubtful} of these {all:,} stars; {other_peak} of all kept are more than "
     "15 km/s off, {odd_there} of these with a word"),
    ("docs/own-spectra.md", of_stray_light, "from {depth[0]:.2f} to {depth[1]:.2f}, {depth[2]:.2f} and {depth[3]:.2f}, "
                                            "and the [M/H] that the demo's networks read by {lower[1]:.2f}, "
                                            "{lower[2]:.2f} and {lower[3]:.2f} dex"),
    ("docs/own-spectra.md", of_stray_light, "comes at 20 %, to {flagged:.0f} % of them"),
    ("docs/own-spectra.md", of_faults, "{dull:.0f} % of those below 6 km/s have `blunt-lines`"),
    ("docs/own-spectra.md", of_faults, "is seen in {10_0:.0f} % at gap 0 and in {10_1:.0f} % at gap 1, one of a third "
                                       "in {33_0:.0f} and {33_1:.0f} %"),
    ("docs/own-spectra.md", of_false_stars, "Of {all} spectra of no M dwarfs"),
    ("docs/own-spectra.md", of_false_stars, "of {lines[n]} with no lines, one to three, water, noise or fringes "
                                            "{lines[accepted]} are accepted at all, of {stars[n]} K and G dwarfs and "
                                            "giants {stars[accepted]}"),
    ("docs/own-spectra.md", of_false_stars, "{dwarfs[unflagged]} have no word, {dwarfs[blunt]} more `blunt-lines`"),
    ("docs/results.md", of_recipe, "{before[teff]:.0f} and {after[teff]:.0f} K, {before[logg]:.3f} and "
                                   "{after[logg]:.3f} dex in log g"),
    ("docs/results.md", of_recipe, "{constant[teff]:.0f} K, {constant[logg]:.3f} dex, {constant[mh]:.3f} dex, "
                                   "{constant[vsini]:.2f} km/s"),
    ("docs/results.md", of_recipe, "{own[teff]:.0f} K, {own[logg]:.3f} dex, {own[mh]:.3f} dex and {own[vsini]:.2f} "
                                   "km/s of itself (medians): {low:.1f} to {high:.1f} times less than the errors"),
    *(("docs/results.md", of_distances, words) for words in (
        "is {latent_before:.2f} before and {latent_after:.2f} after fine-tuning (of {runs} independent runs",
        "among the ten of one size {alike[latent_before]:.2f} and {alike[latent_after]:.2f}",
        "flux ({flux_before:.2f}; of one size {alike[flux_before]:.2f}) or the reconstruction error "
        "({reconstruction_before:.2f} and {alike[reconstruction_before]:.2f})", "the best has {best:.2f}")),
    ("docs/results.md", of_penalties, "from {live_before:.2f} and {frozen_before:.2f} to {live_after:.2f} dex"),
    *((page, of_medians, words) for page in ("README.md", ARTICLE) for words in (
        *("| " + " | ".join(f"{{{way}[{par}][lines]:.{digits}f}}, {{{way}[{par}][growth]:.{digits}f}}" for way in (
            "after", "anchored", "joint")) + f" | {constant} |" for par, digits, constant in (
                ("teff", 0, 275), ("logg", 3, 0.113), ("mh", 2, 0.159))),
        "| {after[vsini][lines]:.1f}, {after[vsini][growth]:.1f} | {anchored[vsini][lines]:.1f}, "
        "{anchored[vsini][growth]:.1f} | {joint[vsini][lines]:.2f}, {joint[vsini][growth]:.2f} | 5.52 |")),
    *((page, of_medians, words) for page in ("README.md", "docs/article/metadata.yaml") for words in (
        "Teff from {after[teff][lines]:.0f} to {anchored[teff][lines]:.0f} K behind the first family and from "
        "{after[teff][growth]:.0f} to {anchored[teff][growth]:.0f} K behind the second",
        "is off by {joint[teff][lines]:.0f} and {joint[teff][growth]:.0f} K with the same anchors")),
    ("README.md", of_medians, "by {shared[teff][lines]:.0f} and {shared[teff][growth]:.0f} K if these share an error"),
    ("README.md", of_band, "dots {above} of {all} lie above it"),
    ("README.md", of_full_size, "in {easy} of 80 cases (two parameters, 40 gaps), in log g and [M/H] in {hard} of 80"),
    ("README.md", of_full_size, "{worst_teff:.0f} K, {worst_logg:.2f} and {worst_mh:.2f} dex and {worst_vsini:.1f} "
                                "km/s"),
    ("docs/fine-tuning.md", of_each, "{lines[0]:.0f} and {lines[1]:.0f} K behind the first family, {growth[0]:.0f} and "
                                     "{growth[1]:.0f} K behind the second, and both together {lines[2]:.0f} and "
                                     "{growth[2]:.0f} K"),
    ("docs/fine-tuning.md", of_full_size, "(it gains at {lines[gains][teff]} and {growth[gains][teff]} gap seeds"),
    *(("docs/fine-tuning.md", of_full_size, f"({{lines[gains][{par}]}} and {{growth[gains][{par}]}})") for par in (
        "logg", "mh", "vsini")),
    ("docs/cards.md", of_released,
     "{lines[teff]:.0f} K, {lines[logg]:.3f} dex, {lines[mh]:.2f} dex, {lines[vsini]:.2f} km/s behind"),
    ("docs/cards.md", of_released,
     "{growth[teff]:.0f} K, {growth[logg]:.3f} dex, {growth[mh]:.2f} dex, {growth[vsini]:.2f} km/s of a second"),
    *(("docs/fine-tuning.md", of_full_size, words) for words in (
        "{lines[demo]:.2f} and {growth[demo]:.2f} times that of the demo's size",
        "One constant has {lines[constant]:.2f} and {growth[constant]:.2f} times the recipe's error",
        "in Teff at {lines[beaten][teff]} and {growth[beaten][teff]} gap seeds of 20, in log g at "
        "{lines[beaten][logg]} and {growth[beaten][logg]}, in [M/H] at {lines[beaten][mh]} and "
        "{growth[beaten][mh]}, in v sin i at {lines[beaten][vsini]} and {growth[beaten][vsini]}",
        "{lines[r][teff]:.2f} and {growth[r][teff]:.2f} in Teff, {lines[r][logg]:.2f} and {growth[r][logg]:.2f} in log "
        "g, {lines[r][mh]:.2f} and {growth[r][mh]:.2f} in [M/H], {lines[r][vsini]:.2f} in v sin i",
        "goes from {lines[biases][before]:.2f} to {lines[biases][after]:.2f} dex behind the first family and from "
        "{growth[biases][before]:.2f} to {growth[biases][after]:.2f} dex behind the second")),
    *(("docs/fine-tuning.md", of_fine_tuning, words) for words in (
        "by {demo_lines[all]:.2f} and {demo_growth[all]:.2f} at the demo's size, by {paper_lines[all]:.2f} and "
        "{paper_growth[all]:.2f} at full size, where it gains at {paper_lines[gains]} and {paper_growth[gains]} seeds",
        "log g {demo_lines[logg]:.2f} and {demo_growth[logg]:.2f}, Teff {demo_lines[teff]:.2f} and "
        "{demo_growth[teff]:.2f}, [M/H] {demo_lines[mh]:.2f} and {demo_growth[mh]:.2f}, v sin i "
        "{demo_lines[vsini]:.2f} and {demo_growth[vsini]:.2f}",
        "of Teff by {paper_lines[teff]:.2f} and {paper_growth[teff]:.2f} (",
        "of log g by {paper_lines[logg]:.2f} and {paper_growth[logg]:.2f} (",
        "of [M/H] by {paper_lines[mh]:.2f} and {paper_growth[mh]:.2f} (",
        "of v sin i by {paper_lines[vsini]:.2f} and {paper_growth[vsini]:.2f} (")),
    ("README.md", of_fine_tuning, "multiplies the error by {paper_lines[all]:.2f} and {paper_growth[all]:.2f}"),
    (ARTICLE, of_fine_tuning, "multiplies the error by {paper_lines[all]:.2f} and {paper_growth[all]:.2f} behind the "
     "two families (geometric means over gap seeds), of Teff by {paper_lines[teff]:.2f} and {paper_growth[teff]:.2f}, "
     "of log g by {paper_lines[logg]:.2f} and {paper_growth[logg]:.2f}, of [M/H] by {paper_lines[mh]:.2f} and "
     "{paper_growth[mh]:.2f}, of v sin i by {paper_lines[vsini]:.2f} and {paper_growth[vsini]:.2f}"),
    (ARTICLE, of_full_size, "in Teff at {lines[beaten][teff]} and {growth[beaten][teff]} gap seeds of 20, in log g at "
     "{lines[beaten][logg]} and {growth[beaten][logg]}, in [M/H] at {lines[beaten][mh]} and {growth[beaten][mh]}, in v "
     "sin i at {lines[beaten][vsini]} and {growth[beaten][vsini]}"),
    *((page, of_noise, "rmse of Teff from {teff[0]:.0f} to {teff[1]:.0f} K") for page in (
        "docs/fine-tuning.md", ARTICLE)),
    ("docs/fine-tuning.md", of_each, "at full size by {gaps[0]:.2f} to {gaps[1]:.2f} and by {between[0]:.2f} to "
                                     "{between[1]:.2f}"),
    ("docs/fine-tuning.md", of_each, "each alone has {each[0]:.2f} and {each[1]:.2f} times the error of both"),
    ("docs/fine-tuning.md", of_noise, "of [M/H] from {mh[0]:.2f} to {mh[1]:.2f} dex"),
    *((page, of_full_intervals, "{lines[0]:.0f} to {lines[1]:.0f} % hold behind the first family and {growth[0]:.0f} "
       "to {growth[1]:.0f} % behind the second") for page in ("docs/fine-tuning.md", ARTICLE)),
    ("README.md", of_full_intervals, "of 68 % intervals [{all[0]:.0f} to {all[1]:.0f} %]"),
    ("docs/cards.md", of_full_intervals, "{all[0]:.0f} to {all[1]:.0f} % of the 68 % intervals"),
    ("docs/fine-tuning.md", of_ways, "has {ratio[lines]:.2f} times the recipe's error behind both"),
    ("docs/fine-tuning.md", of_ways, "{0[lines]:.0f} against {1[lines]:.0f} K there, {0[growth]:.0f} against "
     "{1[growth]:.0f} K".replace("{0", "{perturbed before").replace("{1", "{published after")),
    (ARTICLE, of_ways, "have {ratio[growth]:.2f} times the recipe's error behind both families"),
    (ARTICLE, of_biases, "{lines[flux]:.2f} and {growth[flux]:.2f} dex on the flux, {lines[before]:.2f} and "
     "{growth[before]:.2f} in latent space, {lines[after]:.2f} and {growth[after]:.2f} after fine-tuning"),
    (ARTICLE, of_intervals,
     "hold {lines[teff]:.0f}, {lines[logg]:.0f}, {lines[mh]:.0f} and {lines[vsini]:.0f} % in Teff, log g, [M/H] and v "
     "sin i behind unseen gaps of the first family, {growth[teff]:.0f}, {growth[logg]:.0f}, {growth[mh]:.0f} and "
     "{growth[vsini]:.0f} % behind"),
    ("docs/fine-tuning.md", of_intervals,
     "{lines[teff]:.0f}, {lines[logg]:.0f}, {lines[mh]:.0f} and {lines[vsini]:.0f} % in Teff, log g, [M/H] and v sin i "
     "behind the first family, {growth[teff]:.0f}, {growth[logg]:.0f}, "
     "{growth[mh]:.0f} and {growth[vsini]:.0f} % behind the second"),
    ("docs/fine-tuning.md", of_networks,
     "of {teff:.0f} K, {logg:.3f} dex, {mh:.2f} dex and {vsini:.2f} km/s behind the second"),
    ("docs/fine-tuning.md", of_biases, "{lines[flux]:.2f} and {growth[flux]:.2f} dex on the flux, {lines[before]:.2f} "
     "and {growth[before]:.2f} in latent space, {lines[after]:.2f} and {growth[after]:.2f} after fine-tuning, "
     "{lines[perturbed]:.2f} and {growth[perturbed]:.2f} perturbed"),
    *(("docs/fine-tuning.md", of_order, words) for words in (
        "{after[teff][lines]:.2f} and {after[teff][growth]:.2f} in Teff, {after[vsini][lines]:.2f} and "
        "{after[vsini][growth]:.2f} in v sin i, {after[logg][lines]:.2f} and {after[logg][growth]:.2f} in log g, "
        "{after[mh][lines]:.2f} and {after[mh][growth]:.2f} in [M/H]",
        "log g ({flux[logg][lines]:.2f} and {flux[logg][growth]:.2f})", "at {larger[lines]} and {larger[growth]} of 20",
        "{flux[mh][lines]:.2f} and {flux[mh][growth]:.2f}",
        "({perturbed[mh][lines]:.2f} and {perturbed[mh][growth]:.2f})")),
    ("docs/fine-tuning.md", of_causes, "by {gaps[0]:.2f} to {gaps[1]:.2f} between gap seeds and by "
                                       "{autoencoders[0]:.2f} to {autoencoders[1]:.2f} between autoencoders "
                                       "behind the same gap; the gap seeds are the larger part in {more} cases of"),
    ("docs/fine-tuning.md", of_causes, "of the same two autoencoders by more than {longer:.2f}"),
    ("docs/fine-tuning.md", of_gains,
     "at {teff[0]} and {teff[1]} in Teff, at {logg[0]} and {logg[1]} in log g, at {mh[0]} and {mh[1]} in [M/H], at "
     "{vsini[0]} and {vsini[1]} in v sin i"),
    ("docs/joint-fit.md", of_joint_noise,
     "own parts hold {own_held fitted} and {own_held new} %, whole intervals with the anchors among these stars "
     "{held fitted} and {held new} %"),
    ("docs/joint-fit.md", of_anchored, "the recipe with the same anchors: {lines[teff]:.0f} and {growth[teff]:.0f} K, "
     "{lines[logg]:.2f} and {growth[logg]:.2f}, {lines[mh]:.2f} and {growth[mh]:.2f} dex, {lines[vsini]:.1f} and "
     "{growth[vsini]:.1f} km/s"),
    ("docs/joint-fit.md", of_anchored, "{ratio[lines]:.2f} and {ratio[growth]:.2f} times the recipe with the same"),
    ("docs/cards.md", of_joint, "{lines[teff]:.0f} and {growth[teff]:.0f} K, {lines[logg]:.2f} and {growth[logg]:.2f} "
                                "dex in log g, {lines[mh]:.2f} and {growth[mh]:.2f} dex in [M/H]"),
    ("docs/results.md", of_perturbed, "{ratio} times the recipe's error (geometric mean over the parameters; "
                                      "{lowest:.2f} to {highest} by autoencoder). Teff is worse ({teff:.2f})"),
    ("docs/results.md", of_perturbed, "({lost[0]:.0f} to {lost[1]:.0f} times the recipe's error); a perceptron on "
                                      "perturbed flux is not ({mlp} on the untouched seeds, ridge regression {ridge})"),
    ("docs/trust.md", of_flags, "{others[0]:.1f} to {others[1]:.1f} times the error of the others, in Teff "
                                "{teff[0]:.1f} to {teff[1]:.1f} times"),
    ("docs/trust.md", of_coverage, "for Teff not behind another one ({same} and {another} %)"),
    ("docs/trust.md", of_real_spectra, "| {teff[0]} | {logg[0]} | {mh[0]} | {vsini[0]} above the limit |"),
    ("docs/trust.md", of_real_spectra, "| {teff[1]} | {logg[1]} | {mh[1]} | {vsini[1]} |"),
]


@functools.cache
def measured(numbers):
    return numbers()


@pytest.mark.parametrize(("page", "numbers", "sentence"), OF_TABLES)
def test_of_tables(page, numbers, sentence):
    assert sentence.format(**measured(numbers)) in prose(page)


GAPS = {"first family, gap seeds 3 to 7": ("lines", 3, 7), "first family, 20 untouched": ("lines", 10, 29),
        "second family, 20 gap seeds": ("growth", 0, 19)}


@pytest.mark.parametrize("heading", GAPS)
def test_errors_of_the_joint_fit(heading):
    """Quadratic mean over gap seeds, median and 90 % quantile, in each row of the page below a heading."""
    (family, first, last), numbers = GAPS[heading], table("joint_errors")
    gap = numbers["gap"].str.split("_", expand=True)
    numbers = numbers[(gap[0] == family) & gap[1].astype(int).between(first, last)].groupby("estimates")
    text = (ROOT / "docs" / "joint-fit.md").read_text(encoding="utf-8").split(f"| **{heading}")[1].split("\n\n")[0]
    rows = [line.replace("*", "").strip("| ").split(" | ") for line in text.split("| | | |")[1].splitlines()]
    rows = {row[0]: row[1:5] for row in rows if row[0] in numbers.groups}
    assert len(rows) >= 4
    for name, cells in rows.items():
        of_way = numbers.get_group(name)
        assert cells == [f"{(of_way[par] ** 2).mean() ** 0.5:.{digits}f} ({of_way[par].median():.{digits}f}, "
                         f"{of_way[par].quantile(0.9):.{digits}f})" for par, digits in
                         calibrated.DIGITS.items()], name


@pytest.mark.parametrize("family", ["lines", "growth"])
def test_errors_of_the_anchored_recipe(family):
    """The row of the page on the joint fit, by gap seeds 0 to 19."""
    rows = table("network_errors").query("size == 'paper' and way == 'published anchored' and networks == 'ensemble'")
    rows = rows[rows["family"] == family]
    recipe = rows.pivot_table(index="seed", columns="parameter", values="rmse")
    cells = [f"{(recipe[par] ** 2).mean() ** 0.5:.{digits}f} ({recipe[par].median():.{digits}f}, "
             f"{recipe[par].quantile(0.9):.{digits}f})" for par, digits in calibrated.DIGITS.items()]
    assert f"| the recipe, anchored | {' | '.join(cells)} | |" in prose("docs/joint-fit.md")


def test_calibration_of_the_literature_is_that_of_the_code():
    row = table("coverage_literature").set_index("reference").loc["FGK+M"]
    made = calibrated.on_literature(catalogues.load_estimates(), "mh", "fgkm").record
    assert (row["stars"], row["before"], row["after"]) == (made.n_stars, *(
        round(100 * shares["68"]) for shares in (made.before, made.after)))
    assert (row["offset"], row["scatter"]) == pytest.approx((made.offset[0], made.scatter), abs=1e-4)


# ---------------------------------------------------------------- figures
@pytest.fixture(scope="module")
def drawing():
    """docs/figures.py as a module: to import it would hide the room of the same name."""
    spec = importlib.util.spec_from_file_location("figures_of_docs", ROOT / "docs" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_drawn_and_those_of_the_pages_are_of_the_tables_beside_them(drawing, tmp_path):
    assert drawing.main(["gap", "--out", str(tmp_path)]) in (0, None)
    assert style.drawn_from(tmp_path / "gap.png") == drawing.digest("gap")
    stale = [name for name in drawing.FIGURES
             if style.drawn_from(ROOT / "docs" / f"{name}.png") != drawing.digest(name)]
    assert not stale, "run `make docs`"


def test_every_table_is_drawn_or_linked(drawing):
    drawn = {name for tables in drawing.TABLES.values() for name in tables}
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert not [path.name for path in (ROOT / "docs" / "data").glob("*.csv")
                if path.stem not in drawn and f"data/{path.name}" not in pages]


def test_every_table_has_its_command():
    listed = (ROOT / "docs" / "data" / "README.md").read_text(encoding="utf-8")
    assert not [path.name for path in (ROOT / "docs" / "data").glob("*.csv") if f"`{path.name}`" not in listed]
