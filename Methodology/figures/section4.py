"""Figures of Sect. 4 and Appendix B (no TensorFlow); Fig. 8 is in hr_diagram.py.

Every function takes estimates as `catalogues.load_estimates` gives them and returns the Figure; `style.save` writes it.
Stars without an estimate are left out. Of the published figures are what is plotted and, read off them, the limits of
the axes of Figs. 11 to 14; marks, colours, bins and the panels of differences are ours.
"""
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke
from scipy.stats import gaussian_kde

import paper
from evaluation import catalogues, comparison
from evaluation.truth import errors_of_estimates
from figures import style
from figures.style import DOUBLE, N_DENSITY, SINGLE, draw_stars, n_bins, styled
from inference import flags

# Colours of Okabe and Ito, and a marker for who sees none
MARKS = {"mar21": ("#0072B2", "o"), "pass19": ("#E69F00", "^"), "schw19": ("#009E73", "s"), "pass20": ("#0072B2", "o"),
         "bello23": ("#E69F00", "^"), "interf": ("#D55E00", "*"), "fgkm": ("#D55E00", "*"), "rein18": ("#E69F00", "^"),
         "pass18": ("#0072B2", "o"), "gaid14": ("#E69F00", "^"), "gm14": ("#009E73", "s"), "mann15": ("#CC79A7", "D")}
POPULATIONS = {"YD": ("young disc", "#0072B2"), "D": ("thin disc", "#009E73"), "TD-D": ("transition", "#E69F00"),
               "TD": ("thick disc", "#D55E00")}
CARMENES = ("mar21", "pass19", "schw19")  # left panels of Figs. 11 to 13
DEEP_LEARNING = ("bello23", "pass20", "interf", "fgkm")  # right panels
OLDER = ("pass18", "gaid14", "gm14", "mann15")  # the older ones of Appendix B
# Both axes of Figs. 11 to 14, read off the published ones. They cut off no star there; a value outside widens them.
LIMITS = {"teff": (2800, 4500), "logg": (4.4, 5.4), "mh": (-0.8, 0.8), "vsini": (0, 42)}
N_BINS = 25  # ours
# Two columns of one catalogue: the published Fig. 12 plots the second, its number is of the first, drawn hollow
BOTH = {("schw19", "logg"): {"logg": ", log g", "loggc": ", log g$_c$"}}
NOT_REAL = ":\nstars drawn around the published estimates\nagainst the literature on the real ones"


@styled()
def metallicity_by_population(estimates):
    """Distribution of [M/H] in each kinematic population, a row each (Fig. 9)."""
    stars = catalogues.match(estimates, "stars").dropna(subset=["mh"])
    figure, axes = plt.subplots(4, sharex=True, sharey=True, figsize=(SINGLE, 1.25 * SINGLE))
    for ax, (population, (name, colour)) in zip(axes, POPULATIONS.items()):
        mh = stars["mh"][stars["population"] == population].to_numpy()
        if len(mh):
            ax.hist(mh, bins=n_bins(mh), density=True, color=colour, alpha=0.4)
        if len(mh) >= 3 and np.ptp(mh):
            kde = gaussian_kde(mh)
            margin = 1.5 * np.sqrt(kde.covariance[0, 0])  # of its bandwidth, beyond the extreme values
            x = np.linspace(mh.min() - margin, mh.max() + margin, 200)
            ax.plot(x, kde(x), color=colour)
        ax.text(0.03, 0.9, f"{population}\n{name}, {len(mh)} stars", color=colour, va="top", weight="bold",
                transform=ax.transAxes)
        ax.set(yticks=[])
        ax.tick_params(which="both", left=False, right=False, top=False)
        ax.spines[["left", "right", "top"]].set_visible(False)
    axes[-1].set_xlabel(paper.PARAMETERS["mh"].label)
    p = comparison.thin_against_thick(stars)
    if np.isfinite(p):
        axes[0].set_title(f"Kolmogorov-Smirnov, D against TD: p = {p:.4f}")
    return figure


def estimates_against_truth(before, after, truth):
    """Estimates as `mode.table` makes them, before and after fine-tuning, against the truth of the simulated stars.

    `truth` has `karmn`, `teff` [K], `logg` [dex], `mh` [dex] and `vsini` [km/s]; stars with a flag are pale. The
    legends have what `errors_of_estimates` says: rmse and Pearson's r, that of one constant, the uncertainty claimed.
    """
    errors = errors_of_estimates(before, after, truth)
    stages = {"before": (before, style.BEFORE), "after": (after, style.AFTER)}
    with plt.rc_context(style.STYLE):
        figure, axes = plt.subplots(2, 2, figsize=(DOUBLE, 1.1 * DOUBLE))
        for ax, (par, parameter) in zip(axes.flat, paper.PARAMETERS.items()):
            true, name = truth.set_index("karmn")[par], f"{parameter.published} [{parameter.unit}]"
            if name in errors.index:
                _draw_against(ax, par, true, stages, errors.loc[name])
            ax.set(xlabel=f"true {parameter.label}", ylabel=f"estimated {parameter.label}")
        figure.suptitle("SIMULATED spectra: estimates against the truth of the simulation", **style.WARNING)
        plt.close(figure)  # pyplot would keep it
    return figure


def _draw_against(ax, par, true, stages, errors):
    """Estimates of one parameter before and after fine-tuning against the truth, on equal axes, and one constant."""
    unit, everything = paper.PARAMETERS[par].unit, [true]
    for when, (table, (colour, marker)) in stages.items():
        stars = table.set_index("karmn").reindex(true.index)
        estimated = stars[paper.PARAMETERS[par].published]
        label = f"{when} fine-tuning: rmse {errors[f'rmse {when}']:.3g} {unit}, r {errors[f'r {when}']:.2f}"
        mark = {"ls": "", "marker": marker, "color": colour, "ms": 2.5, "alpha": 0.6, "mew": 0, "label": label}
        draw_stars(ax, true, estimated, flags.flagged(stars, par), mark)
        everything.append(estimated.dropna())
    ax.axhline(true.mean(), ls="--", lw=0.8, color="0.4", zorder=0,
               label=f"one constant: rmse {errors['rmse of a constant']:.3g} {unit}")
    ax.plot([], [], ls="", label=f"uncertainty claimed after: {errors['own uncertainty']:.2g} {unit}")
    style.equal_axes(ax, _limits(everything))
    style.legend_above(ax, 1)


@styled(NOT_REAL)
def one_to_one(estimates, par, *groups, errors=False):
    """Literature against estimates of `par`, the difference against Teff, and histograms (Figs. 11 to 13, Appendix B).

    Each of `groups`, a tuple of catalogues, has a column of panels. With `errors` the error bars of both are drawn.
    """
    width = DOUBLE if len(groups) > 1 else SINGLE
    figure, axes = plt.subplots(3, len(groups), figsize=(width, 2 * (width / len(groups))), squeeze=False,
                                sharey="row", height_ratios=[3, 1.4, 1.4])
    columns = [_series(estimates, par, group) for group in groups]
    pairs = [both for series in columns for both, *_ in series]
    ours = estimates[par].dropna()
    limits = _limits([ours, *(both["lit"] for both in pairs)], LIMITS[par])
    hot_and_cool = _limits([both["teff"].dropna() for both in pairs])
    for (scatter, residual, histogram), series in zip(axes.T, columns):
        _compare(scatter, residual, par, series, limits, errors)
        residual.set_xlim(hot_and_cool)
        residual.set_ylim(_limits([both["lit"] - both["ours"] for both in pairs]))
        _histogram(histogram, ours, limits, fill=True, color="0.5", alpha=0.35, lw=0, label="this work")
        for both, label, mark in series:
            if len(both) >= N_DENSITY:
                _histogram(histogram, both["lit"], limits, color=mark["color"], label=label, ls=_dashes(mark))
        histogram.set(xlabel=paper.PARAMETERS[par].label, xlim=limits, ylabel="density")
        if histogram.patches:
            style.legend_above(histogram, 3, fontsize=6)
    axes[-1, 0].set_ylim(0, None)
    return figure


def _histogram(ax, values, limits, **steps):
    """Steps of a histogram that integrates to one, in the same bins for all within the limits."""
    if len(values):
        density, edges = np.histogram(values, bins=N_BINS, range=limits, density=True)
        ax.stairs(density, edges, **steps)


@styled(NOT_REAL)
def vsini_with_errors(estimates):
    """v sin i of the literature against the estimates, with error bars, and their difference against Teff (Fig. 14)."""
    figure, axes = plt.subplots(2, figsize=(SINGLE, 1.4 * SINGLE), height_ratios=[3, 1.2])
    series = _series(estimates, "vsini", ("pass20", "rein18"))
    limits = _limits([both[["ours", "lit"]].to_numpy().ravel() for both, *_ in series], LIMITS["vsini"])
    _compare(*axes, "vsini", series, limits, errors=True)
    return figure


def _series(estimates, par, group):
    """For each catalogue and column with stars to draw: the pairs, a label, and how to mark them."""
    series = []
    for name in group:
        columns, (colour, marker) = BOTH.get((name, par), {par: ""}), MARKS[name]
        for column, which in columns.items():
            both = catalogues.pairs(estimates, name, column)
            mark = {"ls": "", "marker": marker, "color": colour, "mec": colour, "mew": 0.5, "ms": 3, "alpha": 0.5,
                    "mfc": "none" if len(columns) > 1 and column == par else colour, "zorder": 2}
            if marker == "*":
                mark.update(mec="black", ms=9, alpha=1, zorder=4)
            if len(both):
                series.append((both, catalogues.CATALOGUES[name] + which, mark))
    return series


def _compare(scatter, residual, par, series, limits, errors):
    """Draw the pairs, and below them their difference against Teff, with lines of equality and running medians."""
    for both, label, mark in series:
        for flagged, stars in both.groupby("flagged") if errors else ():
            x, y = (stars[[f"{side}_low", f"{side}_high"]].fillna(0).clip(lower=0).T for side in ("ours", "lit"))
            scatter.errorbar(stars["ours"], stars["lit"], xerr=x, yerr=y, ls="", color=mark["color"], elinewidth=0.5,
                             capsize=1, alpha=0.4 * (style.PALE if flagged else 1))
        difference = both["lit"] - both["ours"]
        for limit, stars in both.groupby("limit"):
            form = {**mark, "marker": "v" if limit else mark["marker"]}
            name = f"{label}{', upper limits' * limit} ({len(stars)})"
            draw_stars(scatter, stars["ours"], stars["lit"], stars["flagged"], {**form, "label": name})
            draw_stars(residual, stars["teff"], difference[stars.index], stars["flagged"], form)
        _running_median(residual, both["teff"], difference, mark["color"], _dashes(mark))
    label = paper.PARAMETERS[par].label
    style.equal_axes(scatter, limits)
    scatter.set(xlabel=f"{label} (this work)", ylabel=f"{label} (literature)")
    for edge in {"logg": [paper.GRID_LOGG[0]], "vsini": [paper.GRID_VSINI[0], paper.GRID_VSINI[-1]]}.get(par, []):
        scatter.axvline(edge, ls=":", lw=0.8, color="0.4", zorder=0)
    if series:
        style.legend_above(scatter, 2)
    else:
        scatter.text(0.5, 0.5, "no star in common", ha="center", transform=scatter.transAxes)
    residual.axhline(0, ls="--", lw=0.8, color="black", zorder=0)
    residual.set(xlim=_limits([both["teff"].dropna() for both, *_ in series]),
                 xlabel=f"{paper.PARAMETERS['teff'].label} (this work)",
                 ylabel=f"literature $-$\nthis work [{paper.PARAMETERS[par].unit}]")


def _dashes(mark):
    """Lines of what is drawn hollow are dashed."""
    return "--" if mark["mfc"] == "none" else "-"


def _running_median(ax, teff, difference, colour, dashes="-"):
    """Line of the median difference, over a tenth of the stars in the order of Teff but never fewer than 11."""
    pairs = pd.DataFrame({"teff": teff, "difference": difference}).dropna(subset="teff")
    window = max(11, len(pairs) // 10)
    if len(pairs) >= 2 * window:
        running = pairs.sort_values("teff", kind="stable").rolling(window).median().dropna()
        ax.plot(running["teff"], running["difference"], color=colour, ls=dashes, zorder=3,
                path_effects=[withStroke(linewidth=2.4, foreground="white")])


def _limits(parts, published=()):
    """Limits of an axis that shows all values of these arrays: the published ones where these show them."""
    values = np.concatenate([*parts, []])
    if not len(values):
        return published or (0, 1)
    (low, high), (start, end) = (values.min(), values.max()), published or (np.inf, -np.inf)
    margin = 0.05 * (high - low) or 1
    return (start if start <= low else low - margin), (end if end >= high else high + margin)
