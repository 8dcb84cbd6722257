"""The gap between synthetic and observed spectra, as a figure."""
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator

from evaluation.gap import BEFORE, FLUX, HALVES
from figures.style import DOUBLE, styled


@styled()
def figure_of(run, table):
    """Nearest distances, MMD and AUC of every space, a dot an autoencoder, negative controls in grey."""
    figure, axes = plt.subplots(1, 3, sharey=True, figsize=(DOUBLE, 0.4 * DOUBLE))
    for at, (name, rows) in enumerate(table.groupby("space", sort=False)):
        colour = "0.55" if name.endswith(HALVES) else {FLUX: "#009E73", BEFORE: "#E69F00"}.get(name, "#0072B2")
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
