"""Where the synthetic spectra are wrong, line by line, as a joint fit sees it; and a page a star of such a fit."""
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

import paper
from figures import star_page, style
from inference import flags
from workflow.files import writing

MODEL, BARE, LACK = "#0072B2", "#E69F00", "#D55E00"  # corrected, uncorrected, what is missing


@style.styled()
def corrections(table):
    """What the synthetic spectra lack (corrections.csv), over their mean spectrum, in three rows of the window."""
    figure, axes = plt.subplots(3, 1, figsize=(style.DOUBLE, 1.25 * style.DOUBLE))
    ends = table["wave"].iloc[0], table["wave"].iloc[-1]
    width = (ends[1] - ends[0]) / len(axes)
    for row, ax in enumerate(axes):
        part = table[table["wave"].between(ends[0] + row * width, ends[0] + (row + 1) * width)]
        ax.plot(part["wave"], part["mean_flux"], color="black", lw=0.8, label="synthetic, mean depth of all stars")
        ax.plot(part["wave"], part["corrected_flux"], color=MODEL, lw=0.8, label="with what they lack")
        low, high = (part["missing"] + sign * part["e_missing"] for sign in (-1, 1))
        ax.fill_between(part["wave"], 1.1 - low, 1.1 - high, color=LACK, alpha=0.3, lw=0)
        ax.plot(part["wave"], 1.1 - part["missing"], color=LACK, lw=0.8,
                label="1.1 - missing optical depth, with its error")
        ax.axhline(1.1, color="grey", lw=0.5)
        ax.set(xlim=(part["wave"].iloc[0], part["wave"].iloc[-1]), ylabel="normalised flux")
    axes[0].legend(loc="lower left", ncols=3)
    axes[-1].set_xlabel("vacuum wavelength [Angstrom]")
    return figure


def star(row, wave, flux, corrected, uncorrected, note):
    """The page of a star, a row of the table of estimates: spectrum, model, correction, residual and intervals."""
    with plt.rc_context({**style.STYLE, **style.FAST}):
        figure = plt.figure(figsize=(style.DOUBLE, 0.7 * style.DOUBLE))
        sides = {"left": 0.085, "right": 0.98}
        top, below = figure.add_gridspec(2, 1, height_ratios=[2, 1], hspace=0.05, bottom=0.3, top=0.87,
                                         **sides).subplots(sharex=True)
        bars = figure.add_gridspec(1, 4, wspace=0.15, bottom=0.1, top=0.17, **sides).subplots()
        top.plot(wave, flux, color="0.25", lw=1, label="spectrum")
        top.plot(wave, uncorrected, color=BARE, lw=0.8, label="synthetic, with the star's labels")
        top.plot(wave, corrected, color=MODEL, lw=0.8, ls="--", label="corrected")
        top.set(ylabel="normalised flux", xlim=(wave[0], wave[-1]))
        top.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)
        top.set_title(row["karmn"], loc="left", y=1, parse_math=False)
        below.plot(wave, flux - uncorrected, color=BARE, lw=0.7, label="minus synthetic")
        below.plot(wave, flux - corrected, color=MODEL, lw=0.7, label="minus corrected")
        below.axhline(0, color="0.6", lw=0.7)
        below.set(ylabel="difference", xlabel="vacuum wavelength [Angstrom]")
        for ax, (par, parameter) in zip(bars, paper.PARAMETERS.items()):
            value, own, shared = row[parameter.published], row[f"own_{par}"], row[f"shared_{par}"]
            ax.errorbar(value, 0, xerr=np.hypot(own, shared), color=LACK, lw=1, capsize=3)
            ax.errorbar(value, 0, xerr=own, fmt="o", color="black", lw=2.5, ms=3)
            ax.locator_params(axis="x", nbins=4)
            texts = (f"{x:.{parameter.digits + (par != 'teff')}f}".replace("-", "−") for x in (value, own, shared))
            ax.set(yticks=[], xlabel=parameter.label)
            ax.set_title("{} ± {} own, {} shared".format(*texts), y=1, fontsize=6.5)
        note = textwrap.fill(note, star_page.LINE, break_on_hyphens=False)
        figure.suptitle(note, y=0.99, parse_math=False, **{**style.WARNING, "size": 7})
        return figure


def write_pages(folder, table, sheets, note, own=()):
    """Write the pages of the stars of a table, which `sheets` (joint_run.Sheets) show, as PNG; returns their paths.

    Files that lie there are not replaced, but for those of the names `own`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken, paths = {path.stem.lower() for path in folder.iterdir() if path.name not in own}, []
    rows = zip(table.to_dict("records"), flags.in_words(table), sheets.flux, sheets.corrected, sheets.uncorrected)
    for row, words, *spectra in tqdm(rows, total=len(table), desc="pictures", unit="star", disable=None):
        paths.append(folder / f"{star_page.free_name(row['karmn'], taken)}.png")
        taken.add(paths[-1].stem.lower())
        figure = star(row, sheets.wave, *spectra, "; ".join(filter(None, [note, words and f"flags: {words}"])))
        with writing(paths[-1]) as partial:
            figure.savefig(partial, dpi=110)
        plt.close(figure)
    return paths
