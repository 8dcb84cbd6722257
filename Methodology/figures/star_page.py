"""Panels of one star's spectrum and of the predictions for it, and the page that estimate.py leaves of each star."""
import functools
import itertools
import re
import textwrap

import joblib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

import paper
from figures import style
from figures.style import AFTER, WARNING
from inference import flags, mode
from workflow import runner
from workflow.files import shortened, writing
from workflow.progress import progress_bar

LINE = 115  # letters of the note in a line
LONGEST = 200  # [bytes] of a picture's name: a file may have 255, and has a longer one while it is written
FEW = 50  # pages are drawn sooner than another process has started
MOST = 200  # stars of which each has a page unless the user says otherwise


def wavelength(n_pixels):
    """Where the pixels lie and the label of that axis: only the paper's own are known by wavelength."""
    if n_pixels == paper.N_PIXELS:
        return paper.WAVELENGTH, r"vacuum wavelength [$\rm\AA$]"
    return np.arange(n_pixels), "pixel"


def spectrum(axes, flux, reconstructed):
    """Draw a spectrum, (n_pixels,), with its reconstructions (values and colour by name), and below it minus each."""
    x, label = wavelength(len(flux))
    axes[0].plot(x, flux, color="0.25", lw=1, label="spectrum")
    axes[0].set(ylabel="normalised flux", xlim=(x[0], x[-1]))
    for ax, (name, (values, colour)) in zip(axes[1:], reconstructed.items()):
        axes[0].plot(x, values, color=colour, lw=0.8, ls="--", label=name)
        ax.axhline(0, color="0.6", lw=0.7)
        residual = flux - values
        ax.plot(x, residual, color=colour, lw=0.7)
        margin, what = 0.2 * np.ptp(residual) or 0.01, "spectrum minus " * (len(reconstructed) == 1) + name
        ax.set(ylabel="difference", ylim=(residual.min() - margin, residual.max() + margin))
        ax.text(0.5, 0.1, f"{what}: mse {np.mean(residual**2):.2g}", transform=ax.transAxes, ha="center")
    axes[-1].set_xlabel(label)


def predicted(ax, par, predictions):
    """Draw the predictions of one parameter, (n_members,), with their density, its maximum and quantiles."""
    grid, height = mode.density(predictions)
    low, high = np.quantile(predictions, paper.QUANTILES)
    ax.axvspan(low, high, color="#E69F00", alpha=0.25, lw=0, label="16 % to 84 %")
    if len(grid) > 1:  # else all members agree
        if len(predictions) >= style.N_DENSITY:
            ax.hist(predictions, bins=style.n_bins(predictions), density=True, histtype="step", color="0.5", lw=0.8,
                label="histogram")
        ax.plot(grid, height, color=AFTER[0], label="kernel density")
    ax.axvline(grid[np.argmax(height)], color="#D55E00", lw=1, label="its maximum")
    ax.plot(predictions, np.full(len(predictions), 0.03), "|", color="black", ms=6, mew=0.6,
            transform=ax.get_xaxis_transform(), label="predictions")
    margin = 0.08 * np.ptp(predictions) if len(grid) > 1 else 10.0 ** -paper.PARAMETERS[par].digits
    ax.set(xlabel=paper.PARAMETERS[par].label, ylabel="density",
           xlim=(predictions.min() - margin, predictions.max() + margin))
    ax.margins(y=0.1)
    ax.set_ylim(0, None)


def write(path, title, note, flux, reconstruction, predictions, estimated):
    """Write the picture of a star as PNG: its spectrum as the networks see it, and what they make of it.

    `note` is said first and in colour. `flux` and its `reconstruction` are (n_pixels,); by parameter, `predictions` are
    (n_members,) and `estimated` the value and its uncertainty below and above.
    """
    # One thread: a density is too little for all cores
    with threadpool_limits(1), plt.rc_context({**style.STYLE, **style.FAST, "savefig.dpi": 150}):
        figure, (top, residual, *axes) = _sheet(len(predictions))
        for ax in (top, residual, *axes):
            for artist in [*ax.lines, *ax.patches, *ax.texts]:
                artist.remove()
            ax.relim()
            ax.autoscale()
        spectrum((top, residual), flux, {"reconstruction": (reconstruction, AFTER[0])})
        top.set_title(title, loc="left", y=1, parse_math=False)
        top.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
        for ax, (par, values) in zip(axes, predictions.items()):
            predicted(ax, par, values)
            ax.set_ylabel("density" if ax is axes[0] else "")
            texts = (f"{x:.{paper.PARAMETERS[par].digits}f}".replace("-", "−") for x in estimated[par])
            ax.set_title("{} −{} +{} {}".format(*texts, paper.PARAMETERS[par].unit), y=1, parse_math=False)
        figure.legends.clear()
        figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=5)
        note = textwrap.fill(note, LINE, break_on_hyphens=False)
        figure.suptitle(note, y=0.99, parse_math=False, **{**WARNING, "size": 7})
        with writing(path) as partial:
            figure.savefig(partial, pil_kwargs={"compress_level": 1})


@functools.lru_cache(maxsize=1)
def _sheet(n_parameters):
    """The figure of a page and its axes, used again for every star: to make them takes longer than to draw on them."""
    figure = Figure(figsize=(style.DOUBLE, 0.66 * style.DOUBLE))
    FigureCanvasAgg(figure)  # else each page has one of its own, which reads all formulae in labels anew
    edges = {"left": 0.085, "right": 0.98, "bottom": 0.14, "top": 0.86}
    upper, lower = figure.add_gridspec(2, 1, height_ratios=[1.5, 1], hspace=0.42, **edges)
    top, residual = upper.subgridspec(2, 1, height_ratios=[2, 1], hspace=0.05).subplots(sharex=True)
    axes = lower.subgridspec(1, n_parameters, wspace=0.1).subplots(squeeze=False)[0]
    for ax in (top, residual, *axes):  # fixed, as is all else: to find a place for each label takes time
        ax.yaxis.set_label_coords(-0.06 if ax in (top, residual) else -0.05, 0.5)
        ax.xaxis.set_label_coords(0.5, -0.36 if ax is residual else -0.16)
    for ax in axes:
        ax.set_yticks([])
        ax.locator_params(axis="x", nbins=4)
    return figure, (top, residual, *axes)


def chosen(wish, n_stars, doubted):
    """Rows of the stars that get a page, as an iterator: "none", "flagged", "all", or None for what is usual.

    That is all of up to MOST stars, and of more the first MOST of the `doubted`, an iterator of rows.
    """
    usual = range(n_stars) if n_stars <= MOST else itertools.islice(doubted, MOST)
    return iter({"none": (), "flagged": doubted, "all": range(n_stars)}.get(wish, usual))


def title(star):
    """What is known of a star, a row of a table of estimates as a named tuple, in a line."""
    known = [star.instrument or "instrument unknown"]
    known += [f"S/N {star.snr:.0f} a pixel"] * (star.snr == star.snr)
    known += [f"{star.rv:+.2f} ± {star.e_rv:.2f} km/s"] * (star.e_rv == star.e_rv)
    known += [f"lines {star.depth:.2f} as deep as a template's in {star.share:.0%} of the window"] * (
        star.depth == star.depth)
    return f"{star.karmn}: {', '.join(known)}" + f"; odd: {star.odd}" * bool(star.odd)


def write_all(folder, table, flux, reconstructed, predictions, note, jobs, own=()):
    """Write a picture a star, side by side; returns their paths, named by the stars in safe letters.

    `table` is as `Predictor.estimate` makes it, `flux` and `reconstructed` are (n_stars, n_pixels), `predictions` by
    parameter (n_members, n_stars). Files that lie there are not replaced, but for those of the names `own`.
    """
    taken = {path.stem.lower() for path in folder.iterdir() if path.name not in own}
    names = {par: paper.PARAMETERS[par].published for par in predictions}
    estimated = {par: table[[x, f"e_{x}", f"E_{x}"]].to_numpy() for par, x in names.items()}
    paths, tasks = [], []
    for row, (star, words) in enumerate(zip(table.itertuples(), flags.in_words(table))):
        paths.append(folder / f"{free_name(star.karmn, taken)}.png")
        taken.add(paths[-1].stem.lower())
        remark = "; ".join(filter(None, [note, words and f"flags: {words}"]))
        of_star = {par: values[:, row] for par, values in predictions.items()}
        tasks.append(joblib.delayed(write)(paths[-1], title(star), remark, flux[row], reconstructed[row], of_star,
                                           {par: columns[row] for par, columns in estimated.items()}))
    with runner.side_by_side("pictures", jobs):
        drawn = joblib.Parallel(n_jobs=min(jobs, -(-len(tasks) // FEW)), return_as="generator")(tasks)
        list(progress_bar(drawn, total=len(tasks), desc="pictures", unit="star"))
    return paths


def free_name(name, taken):
    """A file's stem for a star's name, in letters that every system has, none of `taken`, in small letters."""
    plain = shortened(re.sub(r"[^\w+.-]+", "_", name).strip("._"), LONGEST) or "star"
    numbered = itertools.chain([plain], (f"{plain}_{k}" for k in itertools.count(1)))
    return next(stem for stem in numbered if stem.lower() not in taken)  # some systems do not tell a from A
