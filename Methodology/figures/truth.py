"""Estimates of simulated stars against their truth, as a figure."""
import matplotlib.pyplot as plt

import paper
from evaluation.truth import rmse
from figures import style
from inference import flags


def estimates_against_truth(before, after, truth):
    """Estimates as `mode.table` makes them, before and after fine-tuning, against the truth of the simulated stars.

    `truth` has `karmn`, `teff` [K], `logg` [dex], `mh` [dex] and `vsini` [km/s]; stars with a flag are pale.
    """
    with plt.rc_context(style.STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(style.DOUBLE, style.DOUBLE))
        for ax, (par, parameter) in zip(axes.flat, paper.PARAMETERS.items()):
            true = truth.set_index("karmn")[par]
            for table, (colour, marker), when in ((before, style.BEFORE, "before"), (after, style.AFTER, "after")):
                stars = table.set_index("karmn").reindex(true.index)
                estimated = stars[parameter.published]
                label = f"{when} fine-tuning, rmse {rmse(estimated - true):.3g} {parameter.unit}"
                mark = {"ls": "", "marker": marker, "color": colour, "ms": 2.5, "alpha": 0.6, "mew": 0, "label": label}
                style.draw_stars(ax, true, estimated, flags.flagged(stars, par), mark)
            ax.plot([true.min(), true.max()], [true.min(), true.max()], color="black", linewidth=0.7, zorder=0)
            ax.set(xlabel=f"true {parameter.label}", ylabel=f"estimated {parameter.label}")
            ax.legend(*style.with_pale(ax), loc="upper left")
        figure.suptitle("SIMULATED spectra: estimates against the truth of the simulation", **style.WARNING)
        plt.close(figure)  # pyplot would keep it
    return figure
