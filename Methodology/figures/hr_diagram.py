"""Figure 8: the stars in the Kiel and the Hertzsprung-Russell diagram, beside isochrones (no TensorFlow)."""
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

import paper
from evaluation import catalogues
from figures.style import COLOUR_MAP, DOUBLE, styled
from workflow.files import BadInput, read_table

# What a column of isochrones.csv can hold (ours), so that no logarithm and no age in years is taken for the value
BOUNDS = {"age_gyr": (1e-4, 20), "lbol": (1e-8, 1e7),
          **{name: paper.LABEL_BOUNDS[name] for name in ("teff", "logg", "mh")}}
WANTED = tuple(dict.fromkeys((*paper.KIEL_ISOCHRONES, *paper.HR_ISOCHRONES)))
MODELS = tuple(dict.fromkeys(model for model, *_ in WANTED))
# Colours and dashes of the lines, in the order of paper.py (ours): [M/H] in the one; age and model in the other
KIEL_LINES = ("#D55E00", "--"), ("black", "-"), ("#0072B2", "-.")
HR_LINES = ("#D55E00", "-"), ("black", "-"), ("#D55E00", "--"), ("black", "--")
TITLES = "a  Kiel diagram", "b  HR diagram: isochrones", "c  HR diagram: active or old", "d  HR diagram: young stars"
AREA = 4  # [pt^2] of a star for every km/s of v sin i


def load_isochrones():
    """The points of literature_data/isochrones.csv, whose README has its form; no rows if there is no such file.

    `model`, `age_gyr` [Gyr], `mh` [dex], `teff` [K], `logg` [dex], `lbol` [solar], an isochrone in the order of mass.
    """
    path = catalogues.FOLDER / catalogues.ISOCHRONES
    if not path.exists():
        return pd.DataFrame(columns=["model", *BOUNDS]).astype(dict.fromkeys(BOUNDS, float))
    remedy = "see literature_data/README.md, or remove the file"
    table = read_table(path, "model", remedy, once=False)
    absent = [column for column in BOUNDS if column not in table]
    if absent:
        raise BadInput(f"{path} has no column {absent[0]} ({len(absent)} missing): {remedy}")
    unknown = [model for model in table["model"] if model not in MODELS]
    if unknown:
        raise BadInput(f"{path} has the model {unknown[0]!r}, the figure {' and '.join(MODELS)}: {remedy}")
    for column, (low, high) in BOUNDS.items():
        numbers = pd.to_numeric(table[column].astype(str), errors="coerce")
        wrong = table[column][~numbers.between(low, high)]
        if len(wrong):
            raise BadInput(f"{path} row {wrong.index[0] + 1}: {column} is {str(wrong.iloc[0])[:40]!r}, "
                           f"no number from {low:g} to {high:g}: {remedy}")
        table[column] = numbers
    return table


def missing(isochrones):
    """A line that says which of the published figure's isochrones are not in the table."""
    absent = "; ".join(_name(*wanted) for wanted in WANTED if len(_points(isochrones, *wanted)) < 2)
    return (f"Figure 8 lacks isochrones, literature_data/README.md says where to put them: {absent}" if absent else
            "Figure 8 has all its isochrones")


def _points(isochrones, model, age, mh):
    """The points of one isochrone; its age and metallicity as far as they are written with two digits."""
    near = np.isclose(isochrones["age_gyr"], age, rtol=0.01) & np.isclose(isochrones["mh"], mh, atol=0.005)
    return isochrones[near & (isochrones["model"] == model)]


def _name(model, age, mh):
    return f"{model}, {age:g} Gyr, [M/H] {mh:.1f}".replace("-", "\N{MINUS SIGN}")


def _draw_isochrones(ax, isochrones, wanted, lines, y):
    """Lines within the limits that the stars set; the legend says how many there are no points of."""
    absent = 0
    for isochrone, (colour, dashes) in zip(wanted, lines):
        points = _points(isochrones, *isochrone)
        if len(points) < 2:
            absent += 1
        else:
            ax.plot(points["teff"], points[y], color=colour, ls=dashes, lw=1, label=_name(*isochrone), zorder=3,
                    scalex=False, scaley=False, path_effects=[withStroke(linewidth=2, foreground="white")])
    if absent:
        ax.plot([], [], ls="", label=f"{absent} of {len(wanted)} isochrones missing")
    ax.legend(loc="lower left", fontsize=6)


@styled()
def kiel_and_hr(estimates, isochrones):
    """log g, and in three panels luminosity, against Teff, coloured by [M/H] (Fig. 8); isochrones of `load_isochrones`.

    The panels, the forms of the marks, and that areas are v sin i, are the published ones. Ours are the colours, the
    dashed line where the label grid begins, and the rims of the stars below it.
    """
    stars = catalogues.match(estimates, "stars").dropna(subset=["teff", "lbol"])
    stars = stars.assign(area=AREA * stars["vsini"].fillna(2))
    active, known = stars["active"] == 1, estimates["mh"].dropna()
    norm = Normalize(known.min(), known.max()) if len(known) else None
    figure, axes = plt.subplots(2, 2, figsize=(DOUBLE, 0.8 * DOUBLE))
    for ax, title in zip(axes.flat, TITLES):
        ax.set_title(title, loc="left", pad=3)
        ax.set_xlabel(paper.PARAMETERS["teff"].label)
    kiel, beside, old, young = axes.flat
    _kiel(kiel, estimates.sort_values("karmn").dropna(subset=["teff", "logg"]).assign(area=14),
          stars[stars["subdwarf"] == 1], norm)
    _draw_isochrones(kiel, isochrones, paper.KIEL_ISOCHRONES, KIEL_LINES, "logg")
    _hr(beside, stars, {"o": stars.index}, norm)
    _draw_isochrones(beside, isochrones, paper.HR_ISOCHRONES, HR_LINES, "lbol")
    _hr(young, stars, {"o": stars.index}, norm)
    _mark(young, stars, [("young disc", "+", stars["population"] == "YD", 1),
                         ("young association", "o", stars["young"] == 1, 1.3)])
    _hr(old, stars, {"o": ~active, "^": active}, norm)
    _mark(old, stars, [(r"H$\alpha$ active", "^", active, 0), ("thick disc", "*", stars["population"] == "TD", 4),
                       ("akin to subdwarfs", "s", stars["subdwarf"] == 1, 2.2)])
    if norm:
        figure.colorbar(ScalarMappable(norm, COLOUR_MAP), ax=axes, aspect=40, pad=0.01,
                        label=paper.PARAMETERS["mh"].label).minorticks_off()
    return figure


def _kiel(ax, stars, akin, norm):
    _scatter(ax, stars, "logg", norm, linewidths=0)
    below = stars[stars["logg"] < paper.GRID_LOGG[0]]
    ax.scatter(below["teff"], below["logg"], s=22, facecolors="none", edgecolors="#D55E00", linewidths=0.8,
               label=f"below the label grid ({len(below)})")
    ax.scatter(akin["teff"], akin["logg"], s=40, marker="s", facecolors="none", edgecolors="black", linewidths=0.8,
               label=f"akin to subdwarfs ({len(akin)})")
    ax.axhline(paper.GRID_LOGG[0], ls="--", lw=0.8, color="0.4", zorder=0)
    ax.set_ylabel(paper.PARAMETERS["logg"].label)
    ax.invert_xaxis()
    ax.invert_yaxis()


def _hr(ax, stars, markers, norm):
    """The stars in a panel, each with the marker of its group; triangles have an edge, as published."""
    for marker, rows in markers.items():
        edge = {"edgecolors": "black", "linewidths": 0.8} if marker == "^" else {"linewidths": 0}
        _scatter(ax, stars.loc[rows], "lbol", norm, marker=marker, **edge)
    ax.set_ylabel(r"$L_{\rm bol}$ [$L_\odot$]")
    if len(stars):
        ax.set_yscale("log")
    ax.invert_xaxis()


def _scatter(ax, stars, y, norm, **style):
    """Points against Teff, coloured by [M/H]; grey where that is missing."""
    for known, dots in stars.groupby(stars["mh"].notna()):
        colour = {"c": dots["mh"], "cmap": COLOUR_MAP, "norm": norm} if known else {"color": "0.7"}
        ax.scatter(dots["teff"], dots[y], s=dots["area"], alpha=0.85, **colour, **style)


def _mark(ax, stars, marks):
    """Open marks around stars: name, marker, rows and how many times larger than the star; 0 where it has the form."""
    handles = []
    for name, marker, rows, times in marks:
        if times:
            face = {"color": "black"} if marker == "+" else {"facecolors": "none", "edgecolors": "black"}
            ax.scatter(stars["teff"][rows], stars["lbol"][rows], s=times * stars["area"][rows] + 8, marker=marker,
                       linewidths=0.8, **face)
        handles.append(Line2D([], [], ls="", marker=marker, mfc="none" if times else "0.8", mec="black", ms=6,
                              label=f"{name} ({rows.sum()})"))
    speeds = [Line2D([], [], ls="", marker="o", color="0.6", ms=np.sqrt(AREA * v), label=f"{v}") for v in (2, 10, 30)]
    ax.add_artist(ax.legend(handles=speeds, title=r"$v\,\sin i$ [km/s]", title_fontsize=7, ncols=3, loc="upper right",
                            handletextpad=0.5, columnspacing=1))
    ax.legend(handles=handles, loc="lower left")
