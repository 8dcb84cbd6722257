"""Errors and intervals of networks behind gaps of both families, from what perturb.py leaves; simulated stars.

Reads   artifacts/perturb_{budget}/tests/, estimates/
Writes  docs/data/network_errors.csv      rmse, bias and Pearson's r with the truth: a row a size, gap, way, length of
                                          the regressors' training, autoencoder (or `ensemble`, of all) and parameter
        docs/data/network_coverage.csv    how often intervals hold, calibrated on other gaps

Estimates are made as act 4 makes them: the mode of the best regressors by their test errors, of one autoencoder or of
all. A size that has nothing in artifacts/ keeps its rows; without --budget the tables alone are printed again, of which
those of docs/fine-tuning.md are.

    python tests/benchmarks/network_errors.py --budget demo
    python tests/benchmarks/network_errors.py
"""
import argparse
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from acts import ROOT  # isort: skip  # puts the scripts on the path
import joint  # isort: skip

import paper
from evaluation.truth import rmse
from inference import calibration, mode
from synthetic import simulation
from synthetic.gap_families import FAMILIES
from workflow.files import write_csv

ERRORS, COVERAGE = (ROOT / "docs" / "data" / f"network_{name}.csv" for name in ("errors", "coverage"))
PARAMETERS = list(paper.PARAMETERS)
HEADS = {par: f"{parameter.published} [{parameter.unit}]" for par, parameter in paper.PARAMETERS.items()}
ORDER = [*FAMILIES, "none"]  # the last without a gap
CHOSEN_ON = {("lines", seed) for seed in (0, 1, 2)}  # perturbed training was, so tables leave these out
NAMES = {"constant": "one constant for all", "flux": "CNNs on the flux", "published before": "recipe, not fine-tuned",
         "published after": "recipe, fine-tuned", "published anchored": "recipe, fine-tuned, anchored",
         "perturbed before": "perturbed, not fine-tuned",
         "perturbed after": "perturbed, fine-tuned"}


# ---------------------------------------------------------------- estimates
def kept(members):
    """By parameter the mode and both uncertainties of the best of some regressors, each (n_stars,)."""
    values = {}
    for par in PARAMETERS:
        table = members.pivot_table(index="member", columns="star", values=par)
        test_mse = members.groupby("member")[f"{par} test mse"].first()
        values[par] = mode.estimate(table.loc[test_mse.index[mode.best(test_mse.to_numpy())]].to_numpy())[:3]
    return values


def estimates(out, gap, way, epochs, penalty, numbers):
    """Yield way and time, which networks, and what `kept` gives of them, behind one gap."""
    tables = []
    for i in numbers:
        tests = pd.read_csv(out / "tests" / f"{way}_{i}_{epochs}.csv").pivot_table(
            index="repeat", columns="parameter", values="test mse").add_suffix(" test mse")
        table = pd.read_csv(out / "estimates" / f"{gap}_{way}_{i}_{epochs}{penalty}.csv").join(tests, on="repeat")
        tables.append(table.assign(number=str(i), member=100 * i + table["repeat"]))
    for when, part in pd.concat(tables).groupby("when"):
        if penalty and when == "before":  # the same whatever the penalty
            continue
        name = way if way == "flux" else f"{way} {when}{penalty.replace('_', ' ')}"
        yield name, "ensemble", kept(part)
        if len(numbers) > 1:
            for i, one in part.groupby("number"):
                yield name, i, kept(one)


class Anchored(joint.Stars):
    """Stars behind one gap and their estimates by networks, as the joint fit's are moved by anchors."""

    def __init__(self, key, truth, values):
        self.karmn, self.truth, self.inflation = truth["karmn"], truth[PARAMETERS].to_numpy(float), 1.0
        self.labels = {"networks": np.stack([values[par][0] for par in PARAMETERS], axis=1)}
        self.own = {"networks": np.stack([(values[par][1] + values[par][2]) / 2 for par in PARAMETERS], axis=1)}
        self.number = [list(FAMILIES).index(key["family"]), key["seed"], 22]

    def errors(self):
        """Of every star, NaN for anchors of a parameter, by all draws of the anchors' errors."""
        drawn = []
        for number in range(joint.DRAWS):
            self.draw(number)
            drawn.append(self.mapped("networks", self.anchors())[0])
        return np.concatenate(drawn)


def of_gap(out, key, truth, numbers):
    """Rows of ERRORS behind one gap, and the stars of each ensemble as `calibration` takes them."""
    rows, stars = [], []
    shortest = min(epochs for way, epochs, _ in numbers if way == "published")  # which tables are of
    for (way, epochs, penalty), of_way in numbers.items():
        for name, which, values in estimates(out, f"{key['family']}_{key['seed']}", way, epochs, penalty, of_way):
            row = {**key, "way": name, "epochs": epochs, "networks": which}
            for par, (value, low, high) in values.items():
                error = value - truth[par]
                rows.append({**row, "parameter": par, "rmse": rmse(error), "bias": error.mean(),
                             "r": np.corrcoef(value, truth[par])[0, 1]})
                if which == "ensemble":
                    stars.append(pd.DataFrame({
                        **row, "parameter": par, "karmn": truth["karmn"], "teff": values["teff"][0], "ours": value,
                        "ours_low": low, "ours_high": high, "lit": truth[par], "lit_low": np.nan, "lit_high": np.nan,
                        "limit": False}))
            if name == "published after" and key["family"] in FAMILIES and epochs == shortest:
                errors = Anchored(key, truth, values).errors()
                rows += [{**row, "way": "published anchored", "parameter": par, "rmse": joint.rms(error),
                          "bias": np.nanmean(error)} for par, error in zip(PARAMETERS, errors.T)]
    rows += [{**key, "way": "constant", "epochs": 0, "networks": "", "parameter": par,
              "rmse": truth[par].std(ddof=0), "bias": 0.0} for par in PARAMETERS]
    return rows, stars


def collect(budget):
    """Put the errors of what is there, and its coverage, in the place of those that the tables have of this size."""
    out, truth = ROOT / "artifacts" / f"perturb_{budget}", simulation.draw_stars(paper.SPLIT_SEED)
    names = [re.fullmatch(r"([a-z]+)_(\d+)_([a-z]+)_(\d+)_(\d+)(.*)", path.stem).groups()
             for path in (out / "estimates").glob("*.csv")]
    names = pd.DataFrame(names, columns=["family", "seed", "way", "number", "epochs", "penalty"])
    names = names.astype({"seed": int, "number": int, "epochs": int})
    names["family"] = pd.Categorical(names["family"], ORDER)
    rows, stars = [], []
    for (family, seed), part in names.groupby(["family", "seed"], observed=True):
        numbers = {way: sorted(of_way["number"]) for way, of_way in part.groupby(["way", "epochs", "penalty"])}
        more = of_gap(out, {"size": budget, "family": family, "seed": seed}, truth, numbers)
        rows += more[0]
        stars += more[1]
    replace(ERRORS, pd.DataFrame(rows), budget)
    replace(COVERAGE, coverage(pd.concat(stars)), budget)


def replace(path, new, budget):
    """Put rows of one size in the place of those of the same size in a table."""
    path.parent.mkdir(exist_ok=True)
    old = pd.read_csv(path) if path.exists() else new[:0]
    table = pd.concat([old[old["size"] != budget], new])
    for name in table.select_dtypes(float):
        table[name] = [float(f"{value:.4g}") for value in table[name]]
    write_csv(path, table)


def untouched(table):
    """Rows of the gaps that nothing was chosen on."""
    return table[[gap not in CHOSEN_ON for gap in zip(table["family"], table["seed"])]]


def coverage(stars):
    """Share of stars in 68 % and 95 % intervals behind gaps that the calibration has not seen.

    A row a way, parameter, family whose gaps it was calibrated on, but for the one that is tested, and family of these.
    One gap is a group of stars that share an error, see `calibration.joined`.
    """
    rows, keys = [], ["size", "way", "epochs", "parameter"]
    stars = stars[stars["family"].isin(FAMILIES)]
    for key, part in untouched(stars).groupby(keys, sort=False):
        gaps = dict(list(part.groupby(["family", "seed"])))
        fits = {gap: calibration.fit(group) for gap, group in gaps.items()}
        for chosen in (*([family] for family in FAMILIES), list(FAMILIES)):
            for family in FAMILIES:
                held = []
                for gap, test in gaps.items():
                    if gap[0] == family:
                        fit = calibration.joined([fits[one] for one in fits if one[0] in chosen and one != gap])
                        before, after = calibration.inside(test), calibration.inside(test, fit)
                        held.append({f"{level} {when}": table[level].mean() for level in calibration.LEVELS
                                     for when, table in (("before", before), ("after", after))})
                held = pd.DataFrame(held)
                rows.append({**dict(zip(keys, key)), "calibrated on": " and ".join(chosen), "tested on": family,
                             "gaps": len(held), "scatter": fit.scatter, "shared": fit.shared, **held.mean(),
                             "68 error": held["68 after"].std() / np.sqrt(len(held))})
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- tables
def together(table):
    """Rows of all networks together, by regressors of the fewest epochs."""
    first = table.groupby(["size", "way"])["epochs"].transform("min")
    return table[table["networks"].isin(["ensemble", np.nan]) & (table["epochs"] == first)]


def markdown(title, rows):
    """Print rows, dicts of the same keys, as a table."""
    rows = list(rows)
    print(f"\n{title}\n\n| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")


def number(value, par, sign=""):
    """A value of a parameter with its digits."""
    return f"{value:{sign}.{ {'teff': 0, 'logg': 3, 'mh': 2, 'vsini': 2}[par]}f}"


def spread(values, par, sign=""):
    """Mean over the gap seeds, and standard deviation."""
    return f"{number(values.mean(), par, sign)} ({number(values.std(), par)})"


def show_errors(errors):
    """Rmse and bias of every way, each a mean over gap seeds."""
    for (size, family), part in untouched(together(errors)).groupby(["size", "family"], sort=False, observed=True):
        wide = part.pivot_table(index=["way", "seed"], columns="parameter", values=["rmse", "bias"], observed=True)
        recipe = np.log(wide["rmse"].loc["published after"])
        for what in ("rmse", "bias"):
            rows = []
            for way in (way for way in NAMES if way in wide.index):
                values = wide[what].loc[way].loc[recipe.index]
                row = {what: NAMES[way], **{HEADS[par]: spread(values[par], par, "+" * (what == "bias"))
                                            for par in PARAMETERS}}
                if what == "bias":
                    row["root mean squares"] = ", ".join(number(rmse(values[par]), par) for par in PARAMETERS)
                else:
                    ratio = np.exp((np.log(values) - recipe).mean(axis=1))
                    mean = np.exp(np.log(ratio).mean())
                    row["over the fine-tuned recipe's"] = f"{mean:.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
                rows.append(row)
            markdown(f"{what}, size {size}, family {family}, {len(recipe)} gap seeds: mean (standard deviation)", rows)


def show_gains(errors):
    """What fine-tuning gains, by all in which two tests may differ."""
    table = errors[errors["way"].isin(["published before", "published after"])].copy()
    table["networks"] = table["networks"].where(table["networks"] == "ensemble", "each")
    first = table[table["seed"] < 3].assign(**{"gap seeds": "0 to 2"})
    table = pd.concat([table.assign(**{"gap seeds": "all"}), first])
    keys = ["size", "family", "gap seeds", "networks", "epochs", "parameter", "seed"]
    mean = table.assign(log=np.log(table["rmse"])).pivot_table(index=keys, columns="way", values="log", observed=True)
    gain, rows = mean["published after"] - mean["published before"], []
    for key, part in gain.groupby(keys[:5], sort=False, observed=True):
        row = dict(zip(keys, map(str, key)))
        for par in PARAMETERS:
            values = part.xs(par, level="parameter")
            ratio, error = np.exp(values.mean()), values.std() / np.sqrt(len(values))
            row[paper.PARAMETERS[par].published] = (
                f"{ratio:.2f} ({ratio * error:.2f}), {(values < 0).sum()} of {len(values)}")
        rows.append(row)
    markdown("rmse after over before: geometric mean over gap seeds (standard error), seeds that gain", rows)


def show_causes(errors):
    """How far ln(rmse after / before) differs between gap seeds, and between autoencoders behind the same gap."""
    table = errors[errors["way"].isin(["published before", "published after"]) & (errors["networks"] != "ensemble")]
    keys, rows = ["size", "family", "parameter", "epochs", "seed", "networks"], []
    if table.empty:
        return
    mean = table.assign(log=np.log(table["rmse"])).pivot_table(index=keys, columns="way", values="log", observed=True)
    gain = mean["published after"] - mean["published before"]
    for key, part in gain.groupby(keys[:4], sort=False, observed=True):
        wide = part.unstack("networks")
        within = np.sqrt(wide.var(axis=1, ddof=1).mean())
        rows.append({**dict(zip(keys, map(str, key))), "between gap seeds": f"{wide.mean(axis=1).std():.2f}",
                     "between autoencoders": f"{within:.2f}"})
    markdown("standard deviation of ln(rmse after / before)", rows)


def show_bias(errors):
    """How much of the bias of CNNs on the flux is left, paired by gap seed."""
    rows, pairs = [], (("flux", "published before"), ("published before", "published after"),
                       ("flux", "published after"), ("flux", "perturbed before"))
    for (size, family), part in untouched(together(errors)).groupby(["size", "family"], sort=False, observed=True):
        wide = part.assign(bias=part["bias"].abs()).pivot_table(
            index="seed", columns=["way", "parameter"], values="bias", observed=True)
        for one, other in pairs:
            if {one, other} <= set(wide.columns.levels[0]):
                pair = wide[[one, other]].dropna()
                rows.append({"size": size, "family": family, "size of the bias of": NAMES[other],
                             "over that of": NAMES[one], **{
                    paper.PARAMETERS[par].published: f"{pair[other][par].mean() / pair[one][par].mean():.2f}, "
                    f"{(pair[other][par] < pair[one][par]).sum()} of {len(pair)}" for par in PARAMETERS}})
    markdown("size of the bias: ratio of the means over gap seeds, and at how many it is smaller", rows)


def show_penalties(errors):
    """Bias of Teff and [M/H] by the penalty of fine-tuning, where it was tried."""
    part = together(errors)
    part = part[part["way"].str.startswith("published")]
    tried = part[part["way"].str.count(" ") == 2].set_index(["size", "family", "seed"]).index
    rows = []
    for (size, par, family), of_family in part[part.set_index(["size", "family", "seed"]).index.isin(tried)].groupby(
            ["size", "parameter", "family"], sort=False, observed=True):
        row = {"size": size, "bias of": HEADS[par], "family": family}
        for way, values in of_family.groupby("way")["bias"]:
            row[way.removeprefix("published ")] = spread(values, par, "+")
        rows.append(row)
    if rows:
        markdown("bias by the penalty of fine-tuning: mean over gap seeds (standard deviation)", rows)


def show_coverage(table):
    """Share of stars in the 68 % interval."""
    rows = []
    for key, part in table.groupby(["size", "way", "epochs", "calibrated on", "tested on"], sort=False):
        part = part.set_index("parameter")
        size, way, epochs, *gaps = key
        rows.append({"size": size, "way": NAMES[way], "epochs": str(epochs),
                     **dict(zip(("calibrated on", "tested on"), gaps)), **{
            paper.PARAMETERS[par].published: f"{100 * row['68 after']:.0f} ({100 * row['68 error']:.0f}), "
            f"{100 * row['68 before']:.0f}" for par, row in part.loc[PARAMETERS].iterrows()}})
    markdown("stars in the 68 % interval [%]: calibrated on other gaps (standard error over gaps), and before", rows)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=paper.BUDGETS, help="whose artifacts are new; None: tables alone")
    args = parser.parse_args(argv)
    if args.budget:
        collect(args.budget)
    errors = pd.read_csv(ERRORS)
    for name, order in (("family", ORDER), ("parameter", PARAMETERS)):
        errors[name] = pd.Categorical(errors[name], order)
    for show in (show_errors, show_gains, show_causes, show_bias, show_penalties):
        show(errors)
    show_coverage(pd.read_csv(COVERAGE))


if __name__ == "__main__":
    main()
