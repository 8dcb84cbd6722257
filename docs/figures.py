"""The figures of README and docs/, each from tables in docs/data/.

Reads   docs/data/*.csv; literature_data/mas24.csv for what the published uncertainties are
Writes  {out}/NAME.png

    python docs/figures.py                  # all of them, as `make docs` does
    python docs/figures.py errors flags     # these alone
"""
import argparse
import hashlib
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Methodology"))

import paper  # noqa: E402
from evaluation import catalogues  # noqa: E402
from figures import style  # noqa: E402
from workflow.command_line import command  # noqa: E402

LABELS = {par: parameter.label for par, parameter in paper.PARAMETERS.items()}
FAMILIES = {"lines": ("#0072B2", "o", "first family of gaps"), "growth": ("#D55E00", "^", "second family of gaps")}
SEEDS = ["#0072B2", "#D55E00", "#009E73"]


def path_of(table):
    return ROOT / "docs" / "data" / f"{table}.csv"


def panels(n_rows, n_columns, height, title, **options):
    """A figure of these panels, of a height relative to its width, that says that its stars are simulated."""
    figure, axes = plt.subplots(n_rows, n_columns, figsize=(style.DOUBLE, height * style.DOUBLE), **options)
    figure.suptitle(title, **style.WARNING)
    return figure, axes


def legend(figure, ax, n_columns):
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=n_columns, frameon=False)


def scattered(ax, x, values, **mark):
    """Values as dots side by side about x, in their order, and their median as a bar."""
    values = np.asarray(values, float)
    ax.plot(x + np.linspace(-0.14, 0.14, len(values)), values, ls="", mew=0, ms=3, alpha=0.7, **mark)
    ax.plot([x - 0.17, x + 0.17], [np.median(values)] * 2, color=mark["color"], lw=1.5)


# ---------------------------------------------------------------- README
def errors(networks, joint):
    """Errors at each gap seed by the recipe before and after fine-tuning and the joint fit, beside one constant."""
    published = catalogues.load_estimates()
    networks = networks.query("size == 'paper' and networks == 'ensemble'")
    joint["family"] = joint["gap"].str.split("_").str[0]
    joint = joint[~joint["gap"].isin(["lines_0", "lines_1", "lines_2"])]  # on which its form was chosen
    ways = {"recipe,\nbefore": "published before", "recipe,\nfine-tuned": "published after",
            "recipe,\nanchored": "published anchored", "joint": "joint, mean of Teff to 50 K",
            "joint,\nanchored": "joint, 14 + 6 anchors, mean of log g"}
    figure, axes = panels(2, 2, 0.75, "SIMULATED stars: error at each gap seed, all synthetic spectra")
    for ax, (par, label) in zip(axes.flat, LABELS.items()):
        constant = joint.loc[joint["estimates"] == "one constant for all", par].mean()
        for k, way in enumerate(ways.values()):
            for shift, (family, (colour, marker, name)) in zip((-0.2, 0.2), FAMILIES.items()):
                of_way = joint[(joint["estimates"] == way) & (joint["family"] == family)][par]
                if way.startswith("published"):
                    rows = (networks["way"] == way) & (networks["family"] == family) & (networks["parameter"] == par)
                    of_way = networks.loc[rows].sort_values("seed")["rmse"]
                scattered(ax, k + shift, of_way, color=colour, marker=marker, label=name if k == 0 else None)
        ax.axhline(constant, color="black", ls="--", lw=1, label="one constant for all stars")
        claimed = (published[f"e_{par}"] + published[f"E_{par}"]).median() / 2
        ax.set_yscale("log")
        ax.set_ylim(ax.get_ylim())  # of the errors
        ax.axhspan(1e-9, claimed, color="0.85", zorder=0, label="what the paper's ensemble claims, median")
        ax.set(ylabel=f"rmse of {label}", xticks=range(len(ways)), xticklabels=ways)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(lambda y, _: f"{y:g}" if f"{y:e}"[0] in "25" else "")
        ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    legend(figure, axes[0, 0], 4)
    return figure


# ---------------------------------------------------------------- docs/fine-tuning.md
AT_EACH_GAP = {"flux": "flux", "published before": "before", "published after": "fine-tuned",
               "perturbed before": "perturbed", "perturbed after": "perturbed,\nfine-tuned"}


def together(table):
    """Rows of the demo's size and of all networks together, by CNNs of the fewest epochs."""
    table = table[(table["size"] == "demo") & table["networks"].isin(["ensemble", np.nan])]
    return table[table["epochs"] == table.groupby("way")["epochs"].transform("min")]


def at_each_gap(ax, table, what):
    """Dots for one measure of one parameter at each gap seed of both families, by way, beside that of a constant."""
    for shift, (family, (colour, marker, name)) in zip((-0.2, 0.2), FAMILIES.items()):
        for k, way in enumerate(AT_EACH_GAP):
            rows = table[(table["way"] == way) & (table["family"] == family)]
            if len(rows):
                scattered(ax, k + shift, rows[what], color=colour, marker=marker, label=name * (k == 0))
    ax.axhline(table[table["way"] == "constant"][what].fillna(0).iloc[0], color="black", ls="--", lw=1,
               label="one constant for all stars")
    ax.set_xticks(range(len(AT_EACH_GAP)), AT_EACH_GAP.values(), rotation=90)
    ax.tick_params(axis="x", which="minor", bottom=False, top=False)


def fine_tuning(table):
    """Rmse and bias at each gap seed of both families, the demo's size: on the flux, in latent space, perturbed."""
    table = together(table)
    figure, axes = panels(2, 4, 0.62, "SIMULATED stars, the demo's size: rmse and bias at each gap seed", sharex=True)
    for column, (par, label) in zip(axes.T, LABELS.items()):
        for ax, what in zip(column, ("rmse", "bias")):
            at_each_gap(ax, table[table["parameter"] == par], what)
        column[0].set(title=label, yscale="log")
        column[1].set_yscale("symlog", linthresh={"teff": 200, "logg": 0.2, "mh": 0.5, "vsini": 2}[par])
    axes[0, 0].set_ylabel("rmse")
    axes[1, 0].set_ylabel("bias")
    legend(figure, axes[0, 0], 3)
    return figure


def order(table):
    """How well stars are in order: Pearson's r with the truth at each gap seed, by way."""
    table = together(table)
    figure, axes = panels(1, 4, 0.42, "SIMULATED stars, the demo's size: Pearson's r with the truth at each gap seed",
                          sharey=True)
    for ax, (par, label) in zip(axes, LABELS.items()):
        at_each_gap(ax, table[table["parameter"] == par], "r")
        ax.set(title=label.rpartition(" ")[0], ylim=(-1.05, 1.05))
    axes[0].set_ylabel("Pearson's r")
    legend(figure, axes[0], 3)
    return figure


WAYS = {"constant": "one constant for all", "flux": "CNNs on the flux", "published before": "recipe, not fine-tuned",
        "published after": "recipe, fine-tuned", "perturbed before": "perturbed, not fine-tuned",
        "perturbed after": "perturbed, fine-tuned"}
CHOSEN_ON = ["lines_0", "lines_1", "lines_2"]  # gaps on which perturbed training was


def ways(table):
    """Errors of each way over those of the fine-tuned recipe, geometric mean over the parameters, at each gap seed."""
    table = together(table)
    table = table[~(table["family"] + "_" + table["seed"].astype(str)).isin(CHOSEN_ON)]
    log = table.assign(log=np.log(table["rmse"])).pivot_table(
        index=["family", "seed"], columns=["way", "parameter"], values="log")
    figure, ax = panels(1, 1, 0.36, "SIMULATED stars, the demo's size: rmse over that of the fine-tuned recipe, "
                                    "geometric mean of four parameters")
    shown = [way for way in WAYS if way != "published after"]
    for row, way in enumerate(shown):
        ratio = np.exp((log[way] - log["published after"]).mean(axis=1))
        for shift, (family, (colour, marker, name)) in zip((-0.18, 0.18), FAMILIES.items()):
            values, mean = ratio[family], np.exp(np.log(ratio[family]).mean())
            ax.plot(values, row + shift + np.linspace(-0.1, 0.1, len(values)), ls="", marker=marker, ms=3, mew=0,
                    alpha=0.6, color=colour, label=name if row == 0 else None)
            ax.plot([mean] * 2, [row + shift - 0.15, row + shift + 0.15], color=colour, lw=1.5)
            ax.text(4.2, row + shift, f"{mean:.2f}", color=colour, va="center", ha="right", fontsize=7)
    ax.axvline(1, color="black", lw=0.8)
    ax.set(xscale="log", xlim=(0.25, 4.3), yticks=range(len(shown)), yticklabels=[WAYS[way] for way in shown],
           ylim=(len(shown) - 0.5, -0.5), xticks=[0.25, 0.5, 1, 2, 4], xticklabels=["0.25", "0.5", "1", "2", "4"],
           xlabel="a dot a gap seed (first family: 3 to 19); bar and number: geometric mean")
    ax.tick_params(which="minor", left=False, right=False, labelbottom=False)
    legend(figure, ax, 2)
    return figure


# Of which size and networks, epochs of the CNNs, gap seeds
GAINS = {"ensemble, seeds 0 to 2": ("demo", "ensemble", 20, 3), "ensemble, 20 seeds": ("demo", "ensemble", 20, 20),
         "each autoencoder, 20 seeds": ("demo", "012", 20, 20), "two autoencoders, each": ("demo", "01", 20, 20),
         "the same, CNNs of 60 epochs": ("demo", "01", 60, 20),
         "full size, two autoencoders, each": ("paper", "01", 200, 20),
         "full size, their ensemble": ("paper", "ensemble", 200, 20)}


def gains(table):
    """What fine-tuning multiplies errors by, geometric mean over gap seeds, by all in which two tests may differ."""
    stages = ["published before", "published after"]
    table = table[table["way"].isin(stages)]
    figure, axes = panels(1, 4, 0.4, "SIMULATED stars: rmse after over before fine-tuning", sharey=True)
    for row, (size, networks, epochs, n_seeds) in enumerate(GAINS.values()):
        rows = (table["size"] == size) & (table["epochs"] == epochs) & (table["seed"] < n_seeds)
        part = table[rows & table["networks"].isin([networks] if networks == "ensemble" else list(networks))]
        log = part.assign(log=np.log(part["rmse"])).pivot_table(
            index=["family", "parameter", "seed"], columns="way", values="log")
        gain = log[stages[1]] - log[stages[0]]
        for ax, par in zip(axes, LABELS):
            for shift, (family, (colour, marker, name)) in zip((-0.15, 0.15), FAMILIES.items()):
                values = gain[family, par]
                error = values.std() / np.sqrt(len(values))
                ends = np.exp(values.mean() + np.array([[-error], [error]]))
                ax.errorbar(np.exp(values.mean()), row + shift, xerr=np.abs(ends - np.exp(values.mean())), fmt=marker,
                            ms=4, lw=1, color=colour, label=name if row == 0 else None)
    for ax, label in zip(axes, LABELS.values()):
        ax.axvline(1, color="black", lw=0.8)
        ax.set(title=label.rpartition(" ")[0], xscale="log", xlim=(0.3, 2.2), yticks=range(len(GAINS)),
               yticklabels=GAINS, ylim=(len(GAINS) - 0.5, -0.5), xticks=[0.5, 1, 2], xticklabels=["0.5", "1", "2"])
        ax.tick_params(which="minor", left=False, right=False, labelbottom=False)
    legend(figure, axes[0], 2)
    return figure


def network_intervals(table):
    """How often 68 % intervals of networks hold behind gaps that the calibration has not seen."""
    ways, rows = {"published after": "recipe, fine-tuned", "perturbed before": "perturbed"}, []
    for way, name in ways.items():
        rows += [(way, which, f"{name}: {words}") for which, words in (
            ("before", "as it is"), ("same", "calibrated,\nsame family"), ("other", "calibrated,\nother family"))]
    figure, axes = panels(1, 4, 0.42, "SIMULATED stars, the demo's size: how often a 68 % interval holds behind an "
                                      "unseen gap", sharey=True)
    for ax, (par, label) in zip(axes, LABELS.items()):
        for shift, (family, (colour, marker, name)) in zip((-0.15, 0.15), FAMILIES.items()):
            for k, (way, which, _) in enumerate(rows):
                other, = set(FAMILIES) - {family}
                row = table[(table["size"] == "demo") & (table["way"] == way) & (table["parameter"] == par)
                            & (table["epochs"] == 20) & (table["tested on"] == family)
                            & (table["calibrated on"] == (other if which == "other" else family))].iloc[0]
                held, error = ("68 before", 0) if which == "before" else ("68 after", row["68 error"])
                ax.errorbar(100 * row[held], k + shift, xerr=100 * error or None, fmt=marker, ms=4, lw=1, color=colour,
                            label=f"tested behind the {name}" if k == 0 else None)
        ax.axvspan(60, 76, color="0.85", zorder=0, label="aimed at")
        ax.set(title=label.rpartition(" ")[0], xlabel="stars [%]", xlim=(0, 103), yticks=range(len(rows)),
               yticklabels=[words for *_, words in rows], ylim=(len(rows) - 0.5, -0.5))
        ax.tick_params(axis="y", which="minor", left=False, right=False)
    legend(figure, axes[0], 3)
    return figure


# ---------------------------------------------------------------- docs/joint-fit.md
def anchors(table):
    """Learning curve: errors of the joint fit against the number of anchors."""
    figure, axes = panels(1, 3, 0.36, "SIMULATED stars: errors of the joint fit with k anchors of all three parameters")
    for ax, par in zip(axes, ("teff", "logg", "mh")):
        for family, (colour, marker, name) in FAMILIES.items():
            rows = table[table["family"] == family]
            ax.plot(range(len(rows)), rows[par], ls="-", marker=marker, ms=4, color=colour, label=name)
            if par == "teff":
                ax.plot(range(len(rows)), rows["teff with 30 K shared"], ls=":", color=colour,
                        label="with 30 K that all anchors share" if family == "lines" else None)
        ax.set(xlabel="anchors", ylabel=f"rmse of {LABELS[par]}", xticks=range(len(rows)), xticklabels=rows["anchors"],
               ylim=0)
        ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    legend(figure, axes[0], 3)
    return figure


def joint_intervals(table):
    """How often 68 % intervals of the joint fit hold behind each family of gaps."""
    names = list(dict.fromkeys(table["estimates"]))
    figure, axes = panels(1, 4, 0.33, "SIMULATED stars: how often a 68 % interval holds, mean over gap seeds",
                          sharey=True)
    for ax, (par, label) in zip(axes, LABELS.items()):
        for family, (colour, marker, name) in FAMILIES.items():
            rows = table[(table["family"] == family) & (table["parameter"] == par)]
            ax.plot(rows["held"], [names.index(estimates) for estimates in rows["estimates"]], ls="", ms=5,
                    marker=marker, color=colour, label=name)
        ax.axvspan(60, 76, color="0.85", zorder=0, label="aimed at")
        ax.set(title=label.rpartition(" ")[0], xlabel="stars [%]", xlim=(0, 100), ylim=(len(names) - 0.5, -0.5),
               yticks=range(len(names)), yticklabels=names)
        ax.tick_params(axis="y", which="minor", left=False, right=False)
    legend(figure, axes[0], 3)
    return figure


# ---------------------------------------------------------------- docs/results.md
def recipe(table, joint):
    """Errors of the recipe at full size before and after fine-tuning, by gap seed."""
    figure, axes = panels(1, 4, 0.33, "SIMULATED stars: rmse of two autoencoders at full size")
    for ax, (par, label) in zip(axes, LABELS.items()):
        of_parameter = table[table["parameter"] == par].pivot(index="seed", columns="stage")
        for seed, row in of_parameter.iterrows():
            ax.plot([0, 1], [row["rmse", "before"], row["rmse", "after"]], "o-", color=SEEDS[seed], ms=4,
                    label=f"gap seed {seed}")
            ax.plot(1.25, row["own uncertainty", "after"], "_", ms=9, mew=2, color=SEEDS[seed],
                    label="what it claims" if seed == 0 else None)
        ax.axhline(joint.loc[joint["estimates"] == "one constant for all", par].mean(), color="black", ls="--", lw=1,
                   label="one constant")
        ax.set(title=label, xticks=[0, 1], xticklabels=["before", "fine-tuned"], xlim=(-0.3, 1.5), ylim=0)
        ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    legend(figure, axes[0], 5)
    return figure


def gap(table):
    """The gap in numbers, without and with a gap, in each space."""
    names = {"distance": "distance / that among\nsynthetic spectra", "mmd": "MMD²", "auc": "AUC of a classifier",
             "reconstruction": "reconstruction error /\nthat of synthetic spectra"}
    spaces = list(dict.fromkeys(table["space"]))
    figure, axes = panels(1, 4, 0.3, "SIMULATED spectra, the demo's size: is there a gap?", sharey=True)
    for ax, (measure, name) in zip(axes, names.items()):
        for k, space in enumerate(spaces):
            rows = table[(table["measure"] == measure) & (table["space"] == space)]
            seeds = rows[rows["seed"].notna()]["value"]
            ax.plot(rows[rows["gap"] == 0]["value"], [k] * (rows["gap"] == 0).sum(), "o", color="0.6", ms=6,
                    label="no gap" if k == 0 else None)
            if len(seeds):
                ax.plot(seeds, [k] * len(seeds), "d", color=SEEDS[0], ms=4, label="gap 1, three gap seeds" if k == 0
                        else None)
            elif len(rows):
                ax.plot(rows[rows["gap"] == 1]["value"], [k], "d", color=SEEDS[0], ms=4)
        ax.set(xlabel=name, yticks=range(len(spaces)), yticklabels=spaces, ylim=(len(spaces) - 0.5, -0.5))
        ax.tick_params(axis="y", which="minor", left=False, right=False)
        if measure in ("distance", "reconstruction"):
            ax.set_xscale("log")
    legend(figure, axes[0], 2)
    return figure


def of_size(gap):
    """The size of a gap in a legend."""
    return f"gap of size {gap:g}" if gap else "no gap"


def latent_distance(table):
    """Rmse of Teff against the distance in latent space before and after fine-tuning, and all rank correlations."""
    numbers = {"latent distance of the paper, before": "latent distance, before", "flux: distance": "flux distance",
               "latent, before: auc": "AUC of a classifier", "latent, before: reconstruction": "reconstruction, before",
               "latent distance of the paper, after": "latent distance, after",
               "latent, after: reconstruction": "reconstruction, after"}
    figure, axes = panels(1, 3, 0.4, "SIMULATED stars, the demo's size: does a distance tell the error of Teff?",
                          width_ratios=(1, 1, 0.8))
    colours = dict(zip(sorted(table["gap"].unique()), ("0.6", "#56B4E9", "#0072B2", "#D55E00")))
    for ax, when in zip(axes, ("before", "after")):
        for gap_size, rows in table.groupby("gap"):
            ax.plot(rows[f"latent distance of the paper, {when}"], rows[f"rmse {when}"], "o", ms=4, mew=0, alpha=0.8,
                    color=colours[gap_size], label=of_size(gap_size))
        ax.set(xscale="log", ylim=(0, 750), ylabel=f"rmse of {LABELS['teff']}, {when} fine-tuning",
               xlabel=f"mean latent distance,\n{when} fine-tuning", xticks=[0.05, 0.1, 0.2, 0.5],
               xticklabels=["0.05", "0.1", "0.2", "0.5"], xlim=(0.025, 0.8))
        ax.tick_params(axis="x", which="minor", labelbottom=False)
    for shift, when, (colour, marker) in ((-0.15, "before", style.BEFORE), (0.15, "after", style.AFTER)):
        ranks = [table[number].corr(table[f"rmse {when}"], "spearman") for number in numbers]
        axes[2].plot(ranks, np.arange(len(ranks)) + shift, marker, ls="", ms=4, color=colour,
                     label=f"with rmse {when}" + " fine-tuning" * (when == "before"))
    axes[2].axvline(0, color="black", lw=0.8)
    axes[2].set(xlim=(-0.5, 1), xlabel="Spearman's rank correlation", yticks=range(len(numbers)),
                yticklabels=numbers.values(), ylim=(len(numbers) - 0.5, -0.5))
    axes[2].tick_params(axis="y", which="minor", left=False, right=False)
    handles, names = zip(*(pair for ax in (axes[0], axes[2]) for pair in zip(*ax.get_legend_handles_labels())))
    figure.legend(handles, names, loc="outside lower center", ncols=6, frameon=False)
    return figure


def penalties(table):
    """Teff and [M/H] before and after fine-tuning by each reading of the penalty."""
    names = list(dict.fromkeys(table["penalty"]))
    figure, axes = panels(2, 3, 0.5, "SIMULATED stars, full size: mean and range of three autoencoders", sharex=True,
                          sharey="row")
    for axes_of_parameter, par in zip(axes, ("teff", "mh")):
        for seed, ax in enumerate(axes_of_parameter):
            for shift, stage, (colour, marker) in ((-0.15, "before", style.BEFORE), (0.15, "after", style.AFTER)):
                rows = table[(table["parameter"] == par) & (table["seed"] == seed) & (table["stage"] == stage)]
                off = np.abs(rows[["lowest", "highest"]].to_numpy().T - rows["rmse"].to_numpy())
                ax.errorbar(np.arange(len(names)) + shift, rows["rmse"], off, fmt=marker, color=colour, ms=4, lw=1,
                            label="before fine-tuning" if stage == "before" else "after")
            ax.set(xticks=range(len(names)), xticklabels=names)
            ax.tick_params(axis="x", which="minor", bottom=False, top=False)
            axes[0, seed].set_title(f"gap seed {seed}")
        axes_of_parameter[0].set(ylabel=f"rmse of {LABELS[par]}", ylim=0)
    legend(figure, axes[0, 0], 2)
    return figure


def perturbed(table):
    """Errors over those of the recipe, by parameter: without fine-tuning, perturbed, and both."""
    recipe = table[(table["way"] == "published") & (table["stage"] == "after")].set_index("seeds")
    ways = {("published", "before"): "recipe, not fine-tuned", ("perturbed", "before"): "perturbed, not fine-tuned",
            ("perturbed", "after"): "perturbed, fine-tuned"}
    figure, axes = panels(1, 2, 0.38, "SIMULATED stars, first family: rmse over that of the recipe", sharey=True)
    for ax, (seeds, rows) in zip(axes, table.groupby("seeds")):
        for k, ((way, stage), name) in enumerate(ways.items()):
            row = rows[(rows["way"] == way) & (rows["stage"] == stage)].iloc[0]
            ratios = [row[par] / recipe.loc[seeds, par] for par in LABELS] + [row["ratio"]]
            ax.bar(np.arange(5) + 0.25 * (k - 1), ratios, 0.25, color=("0.6", SEEDS[0], "#56B4E9")[k], label=name)
        ax.axhline(1, color="black", lw=0.8)
        ax.set(title=f"gap seeds {seeds}{', untouched' if seeds == '3 to 7' else ''}", ylim=(0, 1.6),
               xticks=range(5), xticklabels=["Teff", "log g", "[M/H]", "v sin i", "mean"])
        ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    legend(figure, axes[0], 3)
    return figure


# ---------------------------------------------------------------- docs/trust.md
def flags(table):
    """Errors of flagged stars over those of the others."""
    names = list(dict.fromkeys(table["flag"]))
    figure, axes = panels(1, 4, 0.33, "SIMULATED stars, the demo's size: rmse with a flag over rmse without",
                          sharey=True)
    for ax, (par, label) in zip(axes, LABELS.items()):
        for row in table[table["parameter"] == par].itertuples():
            ax.plot(row.ratio, names.index(row.flag) + 0.2 * (row.seed - 1), "o", mew=0.8, ms=4, color=SEEDS[row.seed],
                    mfc=SEEDS[row.seed] if row.n >= 10 else "white")
        ax.axvline(1, color="black", lw=0.8)
        ax.set(title=label, xscale="log", xlim=(0.15, 6), yticks=range(len(names)), yticklabels=names,
               ylim=(len(names) - 0.5, -0.5), xticks=[0.2, 0.5, 1, 2, 5], xticklabels=["0.2", "0.5", "1", "2", "5"])
        ax.tick_params(which="minor", left=False, right=False, labelbottom=False)
    for seed, colour in enumerate(SEEDS):
        axes[0].plot([], [], "o", ms=4, color=colour, label=f"gap seed {seed}")
    axes[0].plot([], [], "o", ms=4, mfc="white", color="black", label="fewer than ten stars")
    legend(figure, axes[0], 4)
    return figure


def coverage(literature, simulated):
    """How often 68 % intervals hold: the published ones against the literature, those of simulations behind gaps."""
    figure, axes = panels(1, 2, 0.42, "How often a 68 % interval holds: real stars left, SIMULATED ones right")
    symbols = {par: label.rpartition(" ")[0] for par, label in LABELS.items()}
    names = [f"{symbols[row.parameter]}, {row.reference} ({row.stars})" for row in literature.itertuples()]
    for k, row in enumerate(literature.itertuples()):
        for when, colour, marker in (("before", *style.BEFORE), ("after", *style.AFTER)):
            value, low, high = (getattr(row, f"{when}{part}") for part in ("", "_low", "_high"))
            axes[0].errorbar(value, k, xerr=[[value - low], [high - value]], fmt=marker, color=colour, ms=4, lw=1,
                             label={"before": "as published", "after": "calibrated (leave-one-out)"}[when] * (k == 0))
    axes[0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    shown = {"before": ("as the ensemble says", *style.BEFORE), "same gap": ("calibrated, same gap", *style.AFTER),
             "another gap": ("calibrated, another gap", "#CC79A7", "s")}
    rows = simulated[simulated["level"] == 68]
    for k, par in enumerate(LABELS):
        for shift, (which, (name, colour, marker)) in zip((-0.2, 0, 0.2), shown.items()):
            row = rows[(rows["parameter"] == par) & (rows["intervals"] == which)].iloc[0]
            off = [[row["mean"] - row["lowest"]], [row["highest"] - row["mean"]]]
            axes[1].errorbar(row["mean"], k + shift, xerr=off, fmt=marker, color=colour, ms=4, lw=1,
                             label=name if k == 0 else None)
    axes[1].set(yticks=range(4), yticklabels=symbols.values(), ylim=(3.5, -0.5))
    for ax in axes:
        ax.axvline(68, color="black", lw=0.8)
        ax.set(xlim=(-3, 103), xlabel="stars that it holds [%]")
        ax.tick_params(axis="y", which="minor", left=False, right=False)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    return figure


# ---------------------------------------------------------------- own spectra
def accepted(velocity_errors, untouched, faults):
    """How often velocity errors hold, by Teff and v sin i; who has a word for blunt lines, and for a second star."""
    figure, axes = panels(1, 3, 0.42, "SIMULATED stars: velocity errors, and which faults are seen",
                          width_ratios=(1.3, 1, 1))
    bins = velocity_errors[["teff_low", "vsini_low"]].drop_duplicates().to_numpy().tolist()
    for table, gap_seeds in ((velocity_errors, "chosen on"), (untouched, "untouched")):
        for shift, (family, (colour, marker, name)) in zip((-0.12, 0.12), FAMILIES.items()):
            rows = table[(table["family"] == family) & (table["gap"] == "both")]
            x = [bins.index(row) + shift for row in rows[["teff_low", "vsini_low"]].to_numpy().tolist()]
            error = 100 * np.sqrt(rows["holds"] * (1 - rows["holds"]) / rows["n"])
            new = gap_seeds == "untouched"
            axes[0].errorbar(x, 100 * rows["holds"], yerr=error if new else None, ls="", ms=4, color=colour,
                             marker=marker, mfc=colour if new else "none", label=f"{name}, {gap_seeds}")
    axes[0].axhspan(60, 80, color="0.85", zorder=0)
    axes[0].set(ylim=(0, 102), ylabel="velocity errors that hold [%]", xticks=range(len(bins)),
                xlabel="v sin i from [km/s]; Teff: 2300, 2900, 3400 K", xticklabels=[f"{row[1]:g}" for row in bins])
    for edge in (2.5, 5.5):
        axes[0].axvline(edge, color="0.6", lw=0.6)

    def shares(fault, word, by):
        rows = faults[(faults["fault"] == fault) & (faults["word"] == word)]
        rows = rows.assign(flagged=rows["flagged"] * rows["n"]).groupby(by)[["flagged", "n"]].sum()
        return rows.index, 100 * rows["flagged"] / rows["n"]

    blunt = {"R 50,000 said to be 94,600": "#D55E00", "R 70,000 said to be 94,600": "#E69F00", "as stated": "#0072B2"}
    for fault, colour in blunt.items():
        axes[1].plot(*shares(fault, "blunt-lines", "vsini_low"), "o-", ms=4, color=colour, label=fault)
    axes[1].set(ylim=(0, 102), xlabel="v sin i from [km/s]", ylabel="stars with blunt-lines [%]")
    lights = {"no": "as stated", **{light: f"a second star of {light}" for light in ("10%", "20%", "33%")}}
    for gap, colour in ((0, "#0072B2"), (1, "#D55E00")):
        found = [shares(fault, "second-star", "gap")[1][gap] for fault in lights.values()]
        axes[2].plot(list(lights), found, "o-", ms=4, color=colour, label=of_size(gap))
    axes[2].set(ylim=(0, 102), xlabel="light of a second star", ylabel="stars with second-star [%]")
    for ax in axes:
        ax.tick_params(axis="x", which="minor", bottom=False, top=False)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    return figure


def stray_light(table):
    """Depth of lines and [M/H] as networks read it, of stars with stray light and of stars of other metallicities."""
    figure, ((depth_light, depth_mh), (mh_light, mh_mh)) = panels(
        2, 2, 0.6, "SIMULATED stars: stray light and a low metallicity look alike", sharey="row", sharex="col")
    for gap, (colour, marker) in enumerate((("#0072B2", "o"), ("#D55E00", "^"))):
        for change, unit, *column in (("stray light", 100, depth_light, mh_light), ("[M/H]", 1, depth_mh, mh_mh)):
            rows = table[(table["change"] == change) & (table["gap"] == gap)]
            for ax, of_lines in zip(column, ("depth", "mh")):
                ax.errorbar(unit * rows["value"], rows[of_lines], yerr=rows[f"{of_lines}_scatter"], ms=4, capsize=2,
                            color=colour, marker=marker, label=of_size(gap))
    mh_mh.plot([-0.6, 0.2], [-0.6, 0.2], color="black", ls="--", lw=1, label="true")
    depth_light.set(ylabel="depth of lines")
    mh_light.set(xlabel="stray light [%]", ylabel="[M/H] by networks [dex]")
    mh_mh.set(xlabel="true [M/H] [dex]", xlim=(0.25, -0.65))
    legend(figure, mh_mh, 3)
    return figure


# ---------------------------------------------------------------- speed.md
def growth(table):
    """Seconds and peak memory of an epoch of an autoencoder, with the number of spectra and of pixels."""
    figure, axes = panels(2, 2, 0.6, "SIMULATED spectra: epochs of an autoencoder, n 1024", sharex="col", sharey="row")
    for (seconds, memory), (axis, rows) in zip(axes.T, table.groupby("axis", sort=False)):
        size, first = rows["size"], rows.iloc[0]
        seconds.loglog(size, rows["seconds"], "o-", ms=4, color="#0072B2", label="measured")
        seconds.plot(size, first["seconds"] * size / first["size"], color="black", ls="--", lw=1, label="proportional")
        memory.plot(size, rows["GB"], "o-", ms=4, color="#0072B2")
        memory.set(ylim=(0, 1.5), xlabel=f"number of {axis}")
        memory.set_xticks(size, [f"{n:,}" for n in size], rotation=30)
        memory.minorticks_off()
    axes[0, 0].set(ylabel="seconds")
    axes[1, 0].set(ylabel="peak memory [GB]")
    legend(figure, axes[0, 0], 2)
    return figure


TABLES = {  # each figure is drawn from
    errors: ("network_errors", "joint_errors"), recipe: ("recipe_full_size", "joint_errors"), gap: ("gap_numbers",),
    fine_tuning: ("network_errors",), order: ("network_errors",), ways: ("network_errors",), gains: ("network_errors",),
    network_intervals: ("network_coverage",), anchors: ("anchors",), joint_intervals: ("joint_intervals",),
    latent_distance: ("gap_errors",), penalties: ("penalties",), perturbed: ("perturbed_test",), flags: ("flags",),
    coverage: ("coverage_literature", "coverage_simulated"),
    accepted: ("velocity_errors", "velocity_errors_untouched", "faults"), stray_light: ("stray_light",),
    growth: ("growth",)}
FIGURES = {draw.__name__: draw for draw in TABLES}


def digest(name):
    """Of the tables that a figure is drawn from; its PNG carries it, so that one that is out of date is found."""
    return hashlib.sha256(b"".join(path_of(table).read_bytes() for table in TABLES[FIGURES[name]])).hexdigest()


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *FIGURES], help="figures to draw; default: all")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", metavar="DIR")
    args = parser.parse_args(argv)
    for name in args.names or FIGURES:
        with plt.rc_context(style.STYLE):
            figure = FIGURES[name](*(pd.read_csv(path_of(table)) for table in TABLES[FIGURES[name]]))
            figure.savefig(args.out / f"{name}.png", dpi=130, metadata={"Description": digest(name)})
            plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
