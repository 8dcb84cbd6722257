"""Figures of Sect. 3, and a few beyond, of an `evaluation.run.Run` (no TensorFlow).

Each function returns the Figure or raises `NotYet`; `show` draws and saves one in a notebook. Where one autoencoder
stands for all, it is the best ranked of those that are there; where one spectrum does, the `example` can be chosen.
"""
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogFormatterSciNotation, LogLocator
from scipy.signal import find_peaks

import paper
from evaluation import gap
from evaluation.run import NotYet
from figures import style
from figures.star_page import predicted, spectrum, wavelength
from figures.style import AFTER, BEFORE, DOUBLE, SINGLE, styled
from workflow.artifacts import FINETUNED, PRETRAINED, STAGES, WHEN
from workflow.command_line import ROOT
from workflow.files import BadInput, one_line, take

FEW_TRAINED = 6  # autoencoders; with fewer, chance alone can order their errors as the cross-validation did
N_LABELLED = 6  # of the largest residuals those with a label
NEAR = 0.15  # [Angstrom] from a residual to a line that can be its reason
N_EMBEDDED = 5000  # synthetic spectra in a UMAP; with all 22,933 a panel is one smear
# The five atomic lines that are strongest at 3500 K, log g 5, [M/H] 0, by src_files/simulate_spectra.py
LABELLED = (8807.043, 8809.175, 8810.590, 8816.929, 8826.644)
SPECIES = {"atom": "#0072B2", "FeH": "#E69F00", "TiO": "#009E73"}


def show(draw, run, name, folder):
    """Draw and save a figure of a run; where an act has not left what it needs, print a line that says so."""
    try:
        figure = draw(run)
    except NotYet as error:
        print(f"{name} is not drawn: {one_line(error)}")
        if style.drawn_from(Path(folder) / f"{name}.png"):  # of an earlier time
            for ending in ("pdf", "png"):
                (Path(folder) / f"{name}.{ending}").unlink(missing_ok=True)
    else:
        style.save(figure, name, folder)
        return figure


@styled()
def embedded_fluxes(run):
    """UMAP of the fluxes of both domains, synthetic ones coloured by Teff and by [M/H] (Fig. 1)."""
    flux_carm = take(run.flux("carm"), np.flatnonzero(run.data.usable))
    return _embedded(run, run.flux("ph"), flux_carm)


@styled()
def embedded_encodings(run):
    """UMAP of the encodings, synthetic before and observed after fine-tuning, coloured as the fluxes (Fig. 5)."""
    i = run.first(FINETUNED)
    return _embedded(run, run.encoded_ph(i), _usable(run.of_stars("encoded", i)))


def _usable(encoded):
    """Latent values without those of spectra that could not be encoded."""
    return encoded[np.isfinite(encoded).all(axis=1)]


def _embedded(run, ph, carm):
    """UMAP of vectors of both domains; of more than N_EMBEDDED synthetic ones, that many drawn with a fixed seed."""
    rng, n = np.random.default_rng(paper.SPLIT_SEED), min(len(ph), N_EMBEDDED)
    rows = np.sort(rng.choice(len(ph), n, replace=False))
    at = gap.embed(np.concatenate([take(ph, rows), carm]))
    figure, axes = plt.subplots(1, 2, sharex=True, sharey=True, figsize=(DOUBLE, 0.48 * DOUBLE))
    for ax, par in zip(axes, ("teff", "mh")):
        dots = ax.scatter(*at[:n].T, c=run.labels(par)[rows], s=2, lw=0, cmap="viridis", rasterized=True,
                          label=f"synthetic ({n} of {len(ph)})")
        ax.scatter(*at[n:].T, marker="^", s=9, color="0.6", ec="black", lw=0.3, label=f"observed ({len(carm)})")
        figure.colorbar(dots, ax=ax, label=paper.PARAMETERS[par].label, pad=0.01).minorticks_off()
        ax.set(xticks=[], yticks=[], xlabel="UMAP 1")
    axes[0].set_ylabel("UMAP 2")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, markerscale=2)
    return figure


@styled()
def reconstruction(run, example=1):
    """One of `Dataset.examples_ph`, its reconstruction, their difference and the 32 latent values (Fig. 3)."""
    i = run.first(FINETUNED)
    reconstructed = run.reconstructed_ph(i)
    example = min(example, len(reconstructed) - 1)
    row = run.examples("ph")[example]
    flux, reconstructions = take(run.flux("ph"), [row])[0], {"reconstruction": (reconstructed[example], AFTER[0])}
    figure = _spectrum_and_latent(flux, reconstructions, {"encoding": run.encoded_ph(i)[row]})
    figure.axes[0].set_title(", ".join(f"{p.label.partition(' [')[0]} {run.labels(par)[row]:g} {p.unit}"
                                       .replace(" dex", "") for par, p in paper.PARAMETERS.items()))
    return figure


def typical(run):
    """Place among `Dataset.examples_carm` of the star with the median error after fine-tuning, the larger of two."""
    errors = _errors(run, run.first(FINETUNED))
    return int(np.argsort(errors, kind="stable")[len(errors) // 2])


def _errors(run, i):
    """Mean squared errors after fine-tuning of the stars of which act 3 leaves reconstructions, (n_examples,)."""
    return ((take(run.flux("carm"), run.examples("carm")) - run.of_stars("reconstructed", i)) ** 2).mean(axis=1)


@styled()
def fine_tuning(run, example=None):
    """A star, as Fig. 3, before and after fine-tuning, differences on one scale (Fig. 4); by default the `typical`."""
    i = run.first(FINETUNED)
    before, after = (run.of_stars("reconstructed", i, stage) for stage in STAGES)
    example = typical(run) if example is None else example
    row = run.examples("carm")[example]
    flux = take(run.flux("carm"), [row])[0]
    reconstructions = {"before fine-tuning": (before[example], BEFORE[0]), "after": (after[example], AFTER[0])}
    encoded = {WHEN[stage]: run.of_stars("encoded", i, stage)[row] for stage in STAGES}
    figure = _spectrum_and_latent(flux, reconstructions, encoded)
    mean = run.fine_tuned[i].metrics["mse_carm_test_after"]
    figure.axes[0].set_title(f"{run.stars()[row]}, of the test set: mse after {_errors(run, i)[example]:.2g}, "
                             f"mean of the set {mean:.2g}", parse_math=False)
    span = 1.1 * np.abs([flux - before[example], flux - after[example]]).max()
    for ax in figure.axes[1:3]:
        ax.set_ylim(-span, span)
    return figure


def _spectrum_and_latent(flux, reconstructed, encoded):
    """Panels of `star_page.spectrum`, and beside them of the latent values, `encoded` by name."""
    rows = 2 + len(reconstructed)
    figure = plt.figure(figsize=(DOUBLE, (0.16 + 0.1 * rows) * DOUBLE))
    grid = figure.add_gridspec(rows, 2, width_ratios=[5, 1])
    top = figure.add_subplot(grid[:2, 0])
    below = [figure.add_subplot(grid[row, 0], sharex=top) for row in range(2, rows)]
    spectrum((top, *below), flux, reconstructed)
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    for ax in (top, *below[:-1]):
        ax.tick_params(labelbottom=False)
    small = grid[:, 1].subgridspec(len(encoded), 1).subplots(squeeze=False)[:, 0]
    largest = max(np.max(list(encoded.values())), 1e-6)  # one scale for all
    for ax, (name, values) in zip(small, encoded.items()):
        image = ax.imshow(values.reshape(-1, 4), cmap="cividis", vmin=0, vmax=largest)
        ax.set(xticks=[], yticks=[], title=name)
    figure.colorbar(image, ax=small, location="bottom", pad=0.04, aspect=10, label="latent value").minorticks_off()
    return figure


@styled()
def ensemble(run, example=None):
    """Predictions for the star of `fine_tuning`: density, its maximum, 16 % and 84 % quantiles, the truth (Fig. 7)."""
    kept = run.kept
    if example is None:
        try:
            example = typical(run)
        except NotYet:  # no reconstructions
            example = 0
    row = run.examples("carm")[example]
    figure, axes = plt.subplots(2, 2, figsize=(DOUBLE, 0.6 * DOUBLE))
    for ax, par in zip(axes.flat, kept):
        predictions = run.predictions(par)[:, row]
        predicted(ax, par, predictions)
        ax.set_title(f"{run.stars()[row]}, {len(predictions)} regressors", parse_math=False)
        if run.truth is not None:
            true, (low, high) = run.truth[par].iloc[row], ax.get_xlim()
            margin = 0.05 * (max(high, true) - min(low, true))
            ax.set_xlim(min(low, true - margin), max(high, true + margin))
            ax.axvline(true, color="black", ls=":", label="truth of the simulation")
    for ax in axes.flat[len(kept) :]:
        ax.set_axis_off()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


@styled()
def gap_in_numbers(run, table):
    """Distances, MMD and AUC of each space of `gap.report`'s table, a dot an autoencoder; grey: negative controls."""
    figure, axes = plt.subplots(1, 3, sharey=True, figsize=(DOUBLE, 0.4 * DOUBLE))
    colours = {gap.FLUX: "#009E73", gap.BEFORE: "#E69F00"}
    for at, (name, rows) in enumerate(table.groupby("space", sort=False)):
        colour = "0.55" if name.endswith(gap.HALVES) else colours.get(name, "#0072B2")
        for k, row in enumerate(rows.itertuples()):
            y = at + 0.5 * (k + 0.5) / len(rows) - 0.25
            if np.isfinite(row.distance):
                axes[0].plot([row.distance_05, row.distance_95], [y, y], color=colour)
                axes[0].plot(row.distance, y, "o", color=colour, markersize=4)
            axes[1].plot(row.mmd, y, "o", color=colour, markersize=4, mfc=colour if row.p < 0.05 else "white")
            axes[2].plot([row.auc_low, row.auc_high], [y, y], color=colour)
            axes[2].plot(row.auc, y, "o", color=colour, markersize=4)
    names = table["space"].unique()
    axes[0].set(xscale="log", xlabel="relative distance", yticks=range(len(names)), yticklabels=names)
    axes[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[0].xaxis.set_major_formatter("{x:g}")
    axes[1].set(xlabel="MMD² (open: p ≥ 0.05)")
    axes[2].set(xlabel="AUC of a classifier", xlim=(0.3, 1.03))
    for ax, value in zip(axes, (1, 0, 0.5)):
        ax.axvline(value, color="black", linewidth=0.7, zorder=0)
        ax.xaxis.set_minor_formatter("")
        ax.tick_params(axis="y", which="minor", left=False, right=False)
    axes[0].invert_yaxis()
    return figure


@styled()
def training_curves(run):
    """Loss, mean squared error and penalty of every epoch, of all autoencoders, in training and in fine-tuning."""
    run.first()
    terms = {"loss": "loss, all terms", "mse": "mean squared error", "penalty": "penalty, unweighted"}
    figure, axes = plt.subplots(3, 2, sharex="col", figsize=(DOUBLE, 0.85 * DOUBLE))
    colours = dict(zip(run.trained, plt.get_cmap("viridis")(np.linspace(0, 0.9, len(run.trained)))))
    for column, (when, sidecars) in zip(axes.T, (("training", run.trained), ("fine-tuning", run.fine_tuned))):
        for ax, (term, label) in zip(column, terms.items()):
            for i, sidecar in sidecars.items():
                epochs = 1 + np.arange(len(sidecar.history[term]))
                ax.plot(epochs, sidecar.history[term], color=colours[i], lw=0.8, alpha=0.8, label=f"ac_{i}",
                        marker="." if len(epochs) == 1 else "")
            ax.set(yscale="log", ylabel=label if when == "training" else "")
            ax.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1.5, 0.5)))
        column[0].set_title(f"{when} (autoencoders: {len(sidecars)})")
        column[-1].set_xlabel("epoch")
    if len(run.trained) <= 6:
        axes[0, 0].legend()
    return figure


@styled()
def scores(run):
    """Test error of the trained autoencoders against the cross-validation by which they were chosen."""
    table = _search(run)
    trained = table.dropna(subset=["mse_test"])
    run.first()
    figure, ax = plt.subplots(figsize=(SINGLE, 0.85 * SINGLE))
    ax.errorbar(trained["mse_mean"], trained["mse_test"], xerr=trained["mse_std"], ls="", color="0.7", lw=0.7, zorder=1)
    dots = ax.scatter(trained["mse_mean"], trained["mse_test"], c=trained["neurons_in"], cmap="viridis", s=22, zorder=2)
    bar = figure.colorbar(dots, ax=ax, label="neurons of the first layer", pad=0.01)
    if trained["neurons_in"].nunique() <= 8:
        bar.set_ticks(trained["neurons_in"].unique())
    bar.minorticks_off()
    finite = table.loc[np.isfinite(table["mse_mean"]), "mse_mean"]
    ax.plot(finite, np.full(len(finite), 0.02), "|", color="0.3", ms=5, transform=ax.get_xaxis_transform(),
            label=f"all {len(table)} architectures")
    ax.axvline(table["mse_mean"].median(), ls=":", color="0.4", lw=0.8, label="their median")
    ax.set(xlabel="mse, mean of the cross-validation", ylabel="mse, test set, after training")
    few = len(trained) < FEW_TRAINED
    ax.set_title(f"{len(trained)} of {len(table)} trained" + ": too few to see whether they follow" * few)
    figure.legend(loc="outside lower center", ncols=2)
    ax.margins(y=0.15)
    return figure


def _search(run):
    """The last round of the grid search, a row a combination; `mse_test` is NaN where no autoencoder was trained."""
    path, act = run.artifacts.scores, "Methodology/autoencoder_grid_search.py"
    try:
        table = pd.read_csv(path)
        table = table[table["epochs"] == table["epochs"].max()]
        table = table[[*paper.GRID, "mse_mean", "mse_std"]].assign(mse_test=np.nan)
    except FileNotFoundError:
        raise NotYet(f"{path} not found: run {act} first") from None
    except (KeyError, ValueError):
        raise BadInput(f"{path} is no table of a search: delete it and run {act}") from None
    for sidecar in run.trained.values():
        same = np.all([np.isclose(table[name], sidecar.settings[name], atol=0) for name in paper.GRID], axis=0)
        table.loc[same, "mse_test"] = sidecar.metrics["mse_test"]
    return table


@styled()
def dead_units(run):
    """Share of the spectra in which each of the 32 latent values is zero, a row an autoencoder, in both domains."""
    run.first(FINETUNED)
    figure, axes = plt.subplots(1, 2, sharey=True, figsize=(DOUBLE, (0.2 + 0.014 * len(run.fine_tuned)) * DOUBLE))
    encoded = {"synthetic": run.encoded_ph, "observed, after fine-tuning": lambda i: run.of_stars("encoded", i)}
    shares = {title: np.array([(_usable(encoded_by(i)) == 0).mean(axis=0) for i in run.fine_tuned])
              for title, encoded_by in encoded.items()}
    order = np.argsort(-shares["synthetic"], axis=1, kind="stable")
    for ax, (title, share) in zip(axes, shares.items()):
        share = np.take_along_axis(share, order, axis=1)
        image = ax.imshow(share, vmin=0, vmax=1, cmap="cividis", aspect="auto", interpolation="none")
        dead = (share == 1).sum(axis=1)
        always = f"{dead.min()} to {dead.max()}" if np.ptp(dead) else f"{dead[0]}"
        ax.set(xlabel="latent value, by its share of synthetic zeros", yticks=np.arange(len(dead)),
               yticklabels=[f"ac_{i}" for i in run.fine_tuned],
               title=f"{title}: always zero {always} of {share.shape[1]}")
        ax.set_xticks([0, 7, 15, 23, 31], [1, 8, 16, 24, 32])
        ax.tick_params(which="both", length=0)
    figure.colorbar(image, ax=axes, label="share of zeros", pad=0.01).minorticks_off()
    return figure


@styled()
def residuals(run):
    """Where the reconstruction of the observed spectra fails: mean and scatter of the difference, and known lines."""
    run.first(FINETUNED)
    figure, (top, middle, below) = plt.subplots(3, sharex=True, figsize=(DOUBLE, 0.7 * DOUBLE),
                                                height_ratios=[3, 2, 1.2])
    for stage, (colour, _) in zip(STAGES, (BEFORE, AFTER)):
        moments = np.array([run.of_stars("residual", i, stage) for i in run.fine_tuned])
        x, label = wavelength(moments.shape[2])
        mean, scatter = moments.mean(axis=0)
        top.plot(x, mean, color=colour, lw=0.8, label=f"{WHEN[stage]} fine-tuning")
        middle.plot(x, scatter, color=colour, lw=0.8)
        if len(moments) > 1:
            middle.plot(x, moments[:, 0].std(axis=0), color=colour, lw=0.8, ls=":")
        if stage == PRETRAINED and label != "pixel":
            _name_largest(top, x, mean)
    top.axhline(0, color="0.6", lw=0.7, zorder=0)
    top.set(ylabel="observed $-$ reconstruction,\nmean over stars", xlim=(x[0], x[-1]))
    top.margins(y=0.25)
    style.legend_above(top, 2, title=f"autoencoders: {len(moments)}", title_fontsize=7)
    middle.set(ylabel="scatter over stars" + "\n(dotted: of the means,\nover autoencoders)" * (len(moments) > 1),
               ylim=(0, None))
    below.set(xlabel=label, yticks=[], ylim=(0, 3))
    below.minorticks_off()
    if label != "pixel":
        _lines(below)
    return figure


def _known_lines():
    """The lines of src_files/lines.csv in the window."""
    lines = pd.read_csv(ROOT / "src_files" / "lines.csv", comment="#")
    return lines[lines["wave_vac"].between(*paper.WINDOW)]


def _name_largest(ax, x, mean):
    """Name the largest mean residuals by the nearest known line, or say that there is none within NEAR."""
    lines, peaks = _known_lines(), find_peaks(np.abs(mean), distance=max(1, len(mean) // 25))[0]
    for peak in peaks[np.argsort(-np.abs(mean[peaks]))[:N_LABELLED]]:
        line = lines.iloc[np.argmin(np.abs(lines["wave_vac"] - x[peak]))]
        name = line["species"] if abs(line["wave_vac"] - x[peak]) <= NEAR else "not in the list"
        up, last = mean[peak] > 0, peak > 0.96 * len(mean)
        ax.annotate(f"{name}\n{x[peak]:.1f}", (x[peak], mean[peak]), (-4 if last else 0, 3 if up else -3), fontsize=6,
                    textcoords="offset points", ha="right" if last else "center", va="bottom" if up else "top")


def _lines(ax):
    """The lines of src_files/lines.csv, a row a kind, the strongest atomic ones with their names."""
    lines = _known_lines()
    kinds = lines["species"].where(lines["kind"] != "atom", "atom")
    for row, (kind, colour) in enumerate(SPECIES.items()):
        ax.vlines(lines["wave_vac"][kinds == kind], 2.1 - row, 2.9 - row, color=colour, lw=0.8)
    ax.set_yticks([2.5, 1.5, 0.5], ["atoms", "FeH", "TiO"])
    ax.tick_params(which="both", left=False, right=False, top=False)
    for line in lines[lines["wave_vac"].isin(LABELLED)].itertuples():
        ax.annotate(line.species, (line.wave_vac, 2.9), (0, 3), textcoords="offset points", ha="center", va="bottom",
                    fontsize=6, color=SPECIES["atom"], annotation_clip=False)
