"""The gap between synthetic and observed spectra: its numbers, as a table, and UMAP (Figs. 1 and 5).

Two sets of vectors, spectra or encodings, are compared that belong to the same labels, row by row.
"""
import sys
import warnings

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import paper
from evaluation.run import NotYet
from inference.neighbours import neighbours
from workflow.artifacts import FINETUNED, STAGES
from workflow.files import BadInput, take

N_PERMUTATIONS, N_BOOTSTRAP = 999, 200
N_COMPONENTS = 30  # of the classifier's principal components, about as many as there are latent values
FOLDS = 5
FEWEST = 4 * FOLDS  # stars: two of either half in a fold
CALIPER = 0.4  # in standard deviations of the labels, beyond which no synthetic spectrum stands for a star (ours)
QUANTILES = (0.05, 0.5, 0.95)
N_NEIGHBOURS = 15  # of a UMAP, umap-learn's default
# What is compared: the space, encoders of synthetic and of observed spectra, and what that is called
FLUX, BEFORE, METHOD, ONE = "flux", "latent, before", "latent, after", "latent, after, one encoder"
HALVES = " (halves of the observed)", " (two synthetic sets)"


def matched(labels, wanted):
    """Choose synthetic spectra of the same labels as some stars, each once: rows of `labels` and of `wanted`.

    Both are of shape (n, 4), Teff [K], log g [dex], [M/H] [dex], v sin i [km/s]. All in all the nearest are chosen, in
    units of the labels' standard deviations, v sin i by its logarithm, and none farther apart than CALIPER.
    """

    def scaled(values):
        return np.column_stack([values[:, :3], np.log(np.maximum(values[:, 3], paper.GRID_VSINI[0]))])

    spread = scaled(labels).std(axis=0)
    spread[spread == 0] = 1
    distance = cdist(scaled(wanted) / spread, scaled(labels) / spread)
    stars, rows = linear_sum_assignment(np.where(distance > CALIPER, 1e3, distance))
    near = distance[stars, rows] <= CALIPER
    return rows[near], stars[near]


def mmd(first, second, rng):
    """Squared maximum mean discrepancy of two sets of vectors, unbiased, and its p by permutation.

    The vectors, both of shape (n, n_features), are paired: rows have the same labels, and only pairs are exchanged.
    """
    distance, n = pdist(np.concatenate([first, second]).astype(float), "sqeuclidean"), len(first)
    kernel = squareform(np.exp(-distance / max(np.median(distance), 1e-300)))  # without the diagonal, which is 0

    def statistic(exchanged):
        sign = np.r_[np.where(exchanged, -1, 1), np.where(exchanged, 1, -1)]
        of_first, of_second = (kernel[sign == side] for side in (1, -1))
        within = of_first[:, sign == 1].sum() + of_second[:, sign == -1].sum()
        return within / (n * (n - 1)) - 2 * of_first[:, sign == -1].sum() / n**2

    squared = statistic(np.zeros(n, bool))
    permuted = [statistic(rng.integers(2, size=n) > 0) for _ in range(N_PERMUTATIONS)]
    return float(squared), float((1 + np.sum(np.array(permuted) >= squared)) / (1 + N_PERMUTATIONS))


def auc(first, second, rng):
    """How well a classifier tells two sets of paired vectors apart that it has not seen: AUC and its 95 % interval.

    It is the mean over the folds, as scores of different folds cannot be compared. A pair is in one fold: a classifier
    that has seen one of two like vectors would take the other for the same.
    """
    pca = PCA(min(first.shape[1], len(first), N_COMPONENTS), random_state=0)
    classifier = make_pipeline(StandardScaler(), pca, LogisticRegression(solver="liblinear"))
    areas, resampled = [], []
    for train, test in KFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31))).split(first):
        classifier.fit(np.concatenate([first[train], second[train]]), np.repeat([0, 1], len(train)))
        low, high = (classifier.decision_function(vectors[test]) for vectors in (first, second))
        wins = (high[:, None] > low) + 0.5 * (high[:, None] == low)  # the AUC is the share of pairs in the right order
        areas.append(wins.mean())
        draws = rng.integers(len(test), size=(N_BOOTSTRAP, len(test)))
        resampled.append([wins[np.ix_(rows, rows)].mean() for rows in draws])
    low, high = np.quantile(np.mean(resampled, axis=0), (0.025, 0.975))
    return float(np.mean(areas)), float(low), float(high)


def distances(observed, synthetic, same):
    """Distances of the observed to the nearest synthetic spectra, in units of the synthetic ones' `same` to others."""
    columns = {}
    for name in ("distance", "correlation"):
        unit = neighbours(synthetic[same], synthetic, 2, name == "correlation")[0][:, 1].mean()  # the nearest is itself
        relative = neighbours(observed, synthetic, 1, name == "correlation")[0][:, 0] / unit
        quantiles = {f"{name}_{100 * q:02.0f}": np.quantile(relative, q) for q in QUANTILES}
        columns.update({name: relative.mean(), **quantiles, f"{name}_synthetic": unit})
    return columns


def told_apart(first, second, rng):
    """How far two sets of vectors are told apart, by MMD and by a classifier, a dict."""
    return {**dict(zip(("mmd", "p"), mmd(first, second, rng))),
            **dict(zip(("auc", "auc_low", "auc_high"), auc(first, second, rng)))}


def embed(vectors):
    """UMAP in two dimensions, (n_spectra, 2), of vectors, (n_spectra, n_features), in the correlation metric."""
    # Exact neighbours: umap-learn's own search is approximate, and takes longer to compile than this to run
    distance, rows = neighbours(vectors, vectors, n := min(N_NEIGHBOURS, len(vectors) - 1), correlation=True)
    umap = _umap()(n_neighbors=n, metric="correlation", random_state=paper.SPLIT_SEED, n_jobs=1,
                   precomputed_knn=(rows.astype(np.int32), distance.astype(np.float32)),
                   force_approximation_algorithm=True)  # fewer than 4096 it would compare anew
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn.*transform will be unavailable")  # nothing is added later
        return umap.fit_transform(vectors)


def _umap():
    """The class UMAP; without the TensorFlow that umap-learn imports for another one, if it finds it."""
    hidden = sys.modules.setdefault("tensorflow", None) is None
    try:
        from umap import UMAP
    finally:
        if hidden:
            del sys.modules["tensorflow"]
    return UMAP


def report(run, by_truth=False, seed=paper.SPLIT_SEED):
    """Measure the gap of a run that has estimates and a fine-tuned autoencoder.

    With `by_truth` the labels of simulated stars are their true ones, not the estimates, whose errors would count as
    gap; `seed` is of folds, permutations, halves and bootstrap. A row a space and autoencoder, and one for each of
    their negative controls: `space`, `autoencoder` (NaN of the fluxes), `n` pairs, `distance` and its quantiles,
    `correlation`, in units of the mean of the matched synthetic spectra's (`distance_synthetic`,
    `correlation_synthetic`), `mmd`, `p`, `auc`, `auc_low`, `auc_high`, `reconstruction`.
    """
    if run.estimates is None:
        raise NotYet(f"{run.artifacts} has no estimates, whose labels are needed: run Methodology/cnn_training.py")
    if by_truth and run.truth is None:
        raise BadInput(f"{run.artifacts}: there is no truth of these stars: leave out --truth")
    run.first(FINETUNED)
    wanted = (run.truth if by_truth else run.estimates)[list(paper.PARAMETERS)].to_numpy(float)
    good = np.flatnonzero(np.isfinite(wanted).all(axis=1) & run.estimates["teff"].notna().to_numpy())
    labels = np.column_stack([run.labels(par) for par in paper.PARAMETERS])
    same, stars = matched(labels, wanted[good])
    unmatched = np.setdiff1d(np.arange(len(labels)), same)
    twins, with_twin = matched(labels[unmatched], labels[same])
    n_pairs = min(len(stars), len(with_twin))
    if n_pairs < FEWEST:
        raise BadInput(f"{run.artifacts}: {n_pairs} stars have synthetic spectra of their labels, {FEWEST} are needed: "
                       "more spectra of either kind")
    rows = []
    for space, i, observed, synthetic, ratio in spaces(run, good[stars]):
        rng, number = np.random.default_rng([seed, i or 0]), np.nan if i is None else i
        rows.append({"space": space, "autoencoder": number, "n": len(stars), **distances(observed, synthetic, same),
                     **told_apart(synthetic[same], observed, rng), "reconstruction": ratio})
        if space != ONE:
            half = len(stars) // 2
            controls = (observed[rng.permutation(len(stars))[: 2 * half]].reshape(2, half, -1),
                        synthetic[rng.permuted([same[with_twin], unmatched[twins]], axis=0)])
            rows += [{"space": space + name, "autoencoder": number, "n": len(sets[0]), **told_apart(*sets, rng)}
                     for name, sets in zip(HALVES, controls)]
    return pd.DataFrame(rows)


def spaces(run, good):
    """What is compared: name, autoencoder, observed and synthetic vectors, and ratio of the reconstruction errors."""
    from training import networks  # TensorFlow: who reads what was measured does without

    flux_ph = take(run.flux("ph"), slice(None))
    yield FLUX, None, take(run.flux("carm"), good), flux_ph, np.nan
    for i, sidecar in run.fine_tuned.items():
        error, encoded_ph = sidecar.metrics, np.array(run.encoded_ph(i))
        before, after = (take(run.of_stars("encoded", i, stage), good) for stage in STAGES)
        yield BEFORE, i, before, encoded_ph, error["mse_carm_before"] / error["mse_ph_before"]
        yield METHOD, i, after, encoded_ph, error["mse_carm_after"] / error["mse_ph_before"]
        encoder = networks.encoder_of(networks.load(run.artifacts.autoencoder(i, FINETUNED)))
        yield ONE, i, after, networks.predict(encoder, flux_ph), error["mse_carm_after"] / error["mse_ph_after"]


def summary(table):
    """Means over the autoencoders, as text: a row a space."""
    means = table.groupby("space", sort=False).mean(numeric_only=True).reset_index()
    return pd.DataFrame([
        {"space": mean.space, "n": int(mean.n),
         "distance": f"{mean.distance:.2f} ({mean.distance_05:.2f} to {mean.distance_95:.2f})",
         "correlation": f"{mean.correlation:.2f}", "MMD": f"{mean.mmd:.4f}", "p": f"{mean.p:.3f}",
         "AUC": f"{mean.auc:.3f} ({mean.auc_low:.3f} to {mean.auc_high:.3f})",
         "reconstruction": f"{mean.reconstruction:.1f}"} for mean in means.itertuples()
    ]).replace(r"^nan.*", "", regex=True)
