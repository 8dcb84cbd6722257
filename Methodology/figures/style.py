"""The one style of all figures, and what they share."""
import contextlib
import functools
import hashlib
import os
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from evaluation import catalogues
from workflow.command_line import ROOT
from workflow.files import check_own, one_line, state, writing

FOLDER = ROOT / "artifacts" / "figures"
SINGLE, DOUBLE = 88 / 25.4, 180 / 25.4  # [inch] one and two columns of A&A
STYLE = {
    "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "legend.fontsize": 7, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "axes.linewidth": 0.7, "lines.linewidth": 1.2, "xtick.direction": "in",
    "ytick.direction": "in", "xtick.top": True, "ytick.right": True, "xtick.minor.visible": True,
    "ytick.minor.visible": True, "legend.framealpha": 0.8, "legend.handletextpad": 0.3, "legend.borderpad": 0.3,
    "figure.constrained_layout.use": True, "figure.dpi": 120, "savefig.dpi": 300, "pdf.fonttype": 42,
    "mathtext.fontset": "dejavusans", "text.usetex": False,
}
matplotlib.rcdefaults()  # what a user's matplotlibrc says is no setting of a figure
if "MPLBACKEND" not in os.environ:  # which a notebook sets; a user's matplotlibrc may ask for windows
    matplotlib.use("Agg")
FAST = {  # what makes a page a third of the time, as there may be thousands
    "figure.constrained_layout.use": False, "xtick.minor.visible": False, "ytick.minor.visible": False}
COLOUR_MAP = "viridis_r"  # dark is metal-rich; the published figure's rainbow cannot be read by everyone
BEFORE, AFTER = ("#E69F00", "o"), ("#0072B2", "^")  # fine-tuning: colour and marker
WARNING = {"color": "#D55E00", "weight": "bold", "size": 8}
PALE = 0.3  # of the opacity of a star without a flag (ours)
N_DENSITY = 20  # fewer values have no distribution to speak of


def title(source):
    """What a run or a table of estimates is, in a line that tells it from any other: pictures of it carry this line."""
    if not isinstance(source, pd.DataFrame):
        return source.title
    digest = hashlib.sha256(source.to_csv(index=False).encode(errors="backslashreplace")).hexdigest()
    return f"{len(source)} stars, {catalogues.title(source)}; digest {digest[:8]}"


def styled(simulated_note=""):
    """Draw a run or estimates in the one style; the figure says where the spectra came from, its label the `title`."""

    def decorate(draw):
        @functools.wraps(draw)
        def drawn(source, *args, **kwargs):
            with plt.rc_context(STYLE):
                figure = draw(source, *args, **kwargs)
                figure.set_label(title(source))
                spectra = source["spectra"].iloc[0] if isinstance(source, pd.DataFrame) else source.spectra
                if spectra == "simulated":
                    figure.suptitle(f"SIMULATED spectra{simulated_note}", **WARNING)
                elif spectra != "published":  # anybody's word: a $ in it is no formula
                    figure.suptitle(f"{one_line(spectra)} spectra", parse_math=False, **WARNING)
                plt.close(figure)  # pyplot would keep it, and a notebook show it a second time
                return figure

        return drawn

    return decorate


def path_in(variable, default=None):
    """Path in a variable of the environment, `default` if none: from here if it is there, else from the repository."""
    path = os.environ.get(variable)
    return default if not path else Path(path) if Path(path).exists() else ROOT / path


def save(figure, name, folder=FOLDER):
    """Write a figure as vector PDF and as PNG, and into both what they were drawn from; `name` has no ending."""
    picture = Path(folder) / f"{name}.png"
    check_own(picture, drawn_from(picture))
    with plt.rc_context(STYLE):
        for ending, key in (("pdf", "Subject"), ("png", "Description")):
            with writing(Path(folder) / f"{name}.{ending}") as partial:
                figure.savefig(partial, metadata={key: figure.get_label()})
            figure.set_layout_engine("none")  # laid out once is enough; it is a third of the time


def drawn_from(path):
    """What a PNG written by `save` was drawn from, see `title`; None if it does not say so."""
    with contextlib.suppress(Exception):  # no file, no picture, or one that unpacks to more than memory holds
        state(path)
        with Image.open(path) as image:
            return image.info.get("Description")
    return None


def n_bins(values):
    """Number of bins of a histogram as numpy's "auto" counts them, but at most 100: one far value makes millions."""
    spread, n = np.ptp(values), len(values)
    widths = [spread / (np.log2(n) + 1), 2 * np.subtract(*np.percentile(values, [75, 25])) / n ** (1 / 3)]
    width = min(width for width in widths if width > 0) if spread > 0 else 1
    return int(np.clip(np.ceil(spread / width), 1, 100))


def equal_axes(ax, limits):
    """The same limits and ticks on both axes, and the line of equality."""
    ax.axline((limits[0], limits[0]), slope=1, ls="--", lw=0.8, color="black", zorder=0)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)))


def draw_stars(ax, x, y, flagged, mark):
    """Stars as points, pale where they have a flag; `mark` has the properties of the others, their `alpha` too."""
    ax.plot(x[~flagged], y[~flagged], **mark)
    if flagged.any():
        ax.plot(x[flagged], y[flagged], **{**mark, "alpha": PALE * mark["alpha"], "label": "_pale"})


def legend_above(ax, ncols, **options):
    """A legend above a panel, where it hides nothing; it says what is pale if something is."""
    handles, labels = with_pale(ax)
    return ax.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=ncols, frameon=False,
                     columnspacing=1, **options)


def with_pale(ax):
    """Handles and labels of a legend, which says what is pale if something is."""
    handles, labels = ax.get_legend_handles_labels()
    if any(line.get_label() == "_pale" for line in ax.lines):
        handles.append(Line2D([], [], ls="", marker="o", ms=3, mew=0, color="black", alpha=PALE))
        labels.append("pale: flagged")
    return handles, labels
