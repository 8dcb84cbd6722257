"""Numbers of the gap between synthetic and observed spectra, as a table and as a figure (no TensorFlow).

Two sets of vectors, spectra or encodings, are compared that belong to the same labels, row by row.
"""
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import paper
from figures.section4 import DOUBLE, styled

__all__ = [
    "BEFORE", "FEWEST", "FLUX", "HALVES", "METHOD", "ONE", "auc", "distances", "figure_of", "matched", "mmd", "nearest",
    "summary", "told_apart",
]  # fmt: skip

N_PERMUTATIONS, N_BOOTSTRAP = 999, 200
N_COMPONENTS = 30  # of the classifier's principal components, about as many as there are latent values
FOLDS = 5
FEWEST = 4 * FOLDS  # stars: two of either half in a fold
CALIPER = 0.4  # in standard deviations of the labels, beyond which no synthetic spectrum stands for a star (ours)
QUANTILES = (0.05, 0.5, 0.95)
# What is compared: the space, encoders of synthetic and of observed spectra, and what that is called
FLUX, BEFORE, METHOD, ONE = "flux", "latent, before", "latent, after", "latent, after, one encoder"
HALVES = " (halves of the observed)", " (two synthetic sets)"


# ---------------------------------------------------------------- numbers
def matched(labels, wanted):
    """Choose synthetic spectra of the same labels as some stars, each once.

    Parameters
    ----------
    labels : ndarray of shape (n_spectra, 4)
        Teff, log g, [M/H], v sin i of the synthetic spectra.
    wanted : ndarray of shape (n_stars, 4)

    Returns
    -------
    rows, stars : ndarray of int, of the same length
        Rows of `labels` and of `wanted` that belong together: all in all the nearest, in units of the labels' standard
        deviations, v sin i by its logarithm, and none farther apart than CALIPER.
    """

    def scaled(values):
        return np.column_stack([values[:, :3], np.log(np.maximum(values[:, 3], paper.GRID_VSINI[0]))])

    spread = scaled(labels).std(axis=0)
    spread[spread == 0] = 1
    distance = cdist(scaled(wanted) / spread, scaled(labels) / spread)
    stars, rows = linear_sum_assignment(np.where(distance > CALIPER, 1e3, distance))
    near = distance[stars, rows] <= CALIPER
    return rows[near], stars[near]


def nearest(vectors, among, correlation=False, itself=False):
    """Distance of each vector to the nearest among others.

    Parameters
    ----------
    vectors : ndarray of shape (n, n_features)
    among : ndarray of shape (n_spectra, n_features)
    correlation : bool
        One minus the correlation, instead of the Euclidean distance.
    itself : bool
        The vectors are among them; the nearest other one counts.

    Returns
    -------
    ndarray of shape (n,)
    """
    if correlation:
        vectors, among = _standard(vectors), _standard(among)
    found = NearestNeighbors(n_neighbors=1 + itself, algorithm="brute").fit(among).kneighbors(vectors)[0][:, -1]
    return found**2 / 2 if correlation else found


def _standard(vectors):
    """Of unit length and without mean: their squared Euclidean distance is twice one minus the correlation."""
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def mmd(one, other, rng):
    """Squared maximum mean discrepancy of two sets of vectors, unbiased, and its p by permutation.

    Parameters
    ----------
    one, other : ndarray of shape (n, n_features)
        Paired: what stands in the same row has the same labels, so that no more than this is exchanged for p.
    rng : numpy.random.Generator

    Returns
    -------
    squared, p : float
    """
    distance, n = pdist(np.concatenate([one, other]).astype(float), "sqeuclidean"), len(one)
    kernel = squareform(np.exp(-distance / max(np.median(distance), 1e-300)))  # without the diagonal, which is 0

    def statistic(exchanged):
        sign = np.r_[np.where(exchanged, -1, 1), np.where(exchanged, 1, -1)]
        first, second = (kernel[sign == side] for side in (1, -1))
        within = first[:, sign == 1].sum() + second[:, sign == -1].sum()
        return within / (n * (n - 1)) - 2 * first[:, sign == -1].sum() / n**2

    found = statistic(np.zeros(n, bool))
    permuted = [statistic(rng.integers(2, size=n) > 0) for _ in range(N_PERMUTATIONS)]
    return float(found), float((1 + np.sum(np.array(permuted) >= found)) / (1 + N_PERMUTATIONS))


def auc(one, other, rng):
    """How well a classifier tells two sets of vectors apart that it has not seen: AUC and its 95 % interval.

    It is the mean over the folds, as scores of different folds cannot be compared. A pair is in one fold: a classifier
    that has seen one of two like vectors would take the other for the same.

    Parameters
    ----------
    one, other, rng
        As of `mmd`.

    Returns
    -------
    auc, low, high : float
    """
    n_components = min(one.shape[1], len(one), N_COMPONENTS)
    classifier = make_pipeline(StandardScaler(), PCA(n_components, random_state=0),
                               LogisticRegression(solver="liblinear"))  # fmt: skip
    found, resampled = [], []
    for train, test in KFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31))).split(one):
        classifier.fit(np.concatenate([one[train], other[train]]), np.repeat([0, 1], len(train)))
        low, high = (classifier.decision_function(vectors[test]) for vectors in (one, other))
        wins = (high[:, None] > low) + 0.5 * (high[:, None] == low)  # the AUC is the share of those in the right order
        found.append(wins.mean())
        drawn = rng.integers(len(test), size=(N_BOOTSTRAP, len(test)))
        resampled.append([wins[np.ix_(rows, rows)].mean() for rows in drawn])
    low, high = np.quantile(np.mean(resampled, axis=0), (0.025, 0.975))
    return float(np.mean(found)), float(low), float(high)


def distances(observed, synthetic, same):
    """Distances of the observed to the nearest synthetic spectra, in units of the synthetic ones' `same` to others."""
    found = {}
    for name, correlation in (("distance", False), ("correlation", True)):
        unit = nearest(synthetic[same], synthetic, correlation, itself=True).mean()
        away = nearest(observed, synthetic, correlation) / unit
        found.update({name: away.mean(), **{f"{name}_{100 * q:02.0f}": np.quantile(away, q) for q in QUANTILES},
                      f"{name}_synthetic": unit})  # fmt: skip
    return found


def told_apart(one, other, rng):
    """How far two sets of vectors are told apart, by MMD and by a classifier, a dict."""
    return {**dict(zip(("mmd", "p"), mmd(one, other, rng))),
            **dict(zip(("auc", "auc_low", "auc_high"), auc(one, other, rng)))}  # fmt: skip


# ---------------------------------------------------------------- table and figure
def summary(table):
    """Means over the autoencoders, as text: a row a space."""
    rows = []
    for space, those in table.groupby("space", sort=False):
        mean = those.mean(numeric_only=True)
        distance = f"{mean['distance']:.2f} ({mean['distance_05']:.2f} to {mean['distance_95']:.2f})"
        rows.append({
            "space": space, "n": int(mean["n"]), "distance": distance, "correlation": f"{mean['correlation']:.2f}",
            "MMD": f"{mean['mmd']:.4f}", "p": f"{mean['p']:.3f}",
            "AUC": f"{mean['auc']:.3f} ({mean['auc_low']:.3f} to {mean['auc_high']:.3f})",
            "reconstruction": f"{mean['reconstruction']:.1f}",
        })  # fmt: skip
    return pd.DataFrame(rows).replace(r"^nan.*", "", regex=True)


@styled()
def figure_of(run, table):
    """Nearest distances, MMD and AUC of every space, negative controls in grey."""
    figure, axes = plt.subplots(1, 3, sharey=True, figsize=(DOUBLE, 0.4 * DOUBLE))
    names = list(dict.fromkeys(table["space"]))
    for at, name in enumerate(names):
        those = table[table["space"] == name]
        colour = "0.55" if name.endswith(HALVES) else {FLUX: "#009E73", BEFORE: "#E69F00"}.get(name, "#0072B2")
        for k, row in enumerate(those.itertuples()):
            y = at + 0.5 * (k + 0.5) / len(those) - 0.25
            if np.isfinite(row.distance):
                axes[0].plot([row.distance_05, row.distance_95], [y, y], color=colour)
                axes[0].plot(row.distance, y, "o", color=colour, markersize=4)
            axes[1].plot(row.mmd, y, "o", color=colour, markersize=4, mfc=colour if row.p < 0.05 else "white")
            axes[2].plot([row.auc_low, row.auc_high], [y, y], color=colour)
            axes[2].plot(row.auc, y, "o", color=colour, markersize=4)
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
