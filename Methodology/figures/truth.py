"""Figures of a run, in the style of figures/style.py (no TensorFlow)."""
import matplotlib.pyplot as plt

import paper
from evaluation.truth import rmse
from figures import style
from inference import flags

BEFORE, AFTER = ("#E69F00", "o"), ("#0072B2", "^")


def estimates_against_truth(before, after, truth):
    """Estimates of simulated stars against their truth, without and with fine-tuning, a panel a parameter.

    Parameters
    ----------
    before, after : DataFrame
        As `estimates.table` makes them; stars with a flag, if there are flags, are pale.
    truth : DataFrame
        `karmn`, `teff` [K], `logg` [dex], `mh` [dex], `vsini` [km/s].

    Returns
    -------
    Figure
    """
    with plt.rc_context(style.STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(style.DOUBLE, style.DOUBLE))
        for ax, (par, parameter) in zip(axes.flat, paper.PARAMETERS.items()):
            true = truth.set_index("karmn")[par]
            for table, (colour, marker), when in ((before, BEFORE, "before"), (after, AFTER, "after")):
                named = table.set_index("karmn").reindex(true.index)
                estimated, pale = named[parameter.published], flags.flagged(named, par)
                style.draw_stars(ax, true, estimated, pale, {
                    "ls": "", "marker": marker, "color": colour, "ms": 2.5, "alpha": 0.6, "mew": 0,
                    "label": f"{when} fine-tuning, rmse {rmse(estimated - true):.3g} {parameter.unit}",
                })
            low, high = true.min(), true.max()
            ax.plot([low, high], [low, high], color="black", linewidth=0.7, zorder=0)
            ax.set(xlabel=f"true {parameter.label}", ylabel=f"estimated {parameter.label}")
            ax.legend(*style.with_pale(ax), loc="upper left")
        figure.suptitle("SIMULATED spectra: estimates against the truth of the simulation", color="#D55E00",
                        weight="bold", size=8)
        plt.close(figure)  # pyplot would keep it
    return figure
