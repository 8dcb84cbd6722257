"""Numbers of the gap between synthetic and observed spectra, as a table.

Two sets of vectors, spectra or encodings, are compared that belong to the same labels, row by row.
"""
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import paper
from evaluation.run import NotYet
from training import networks
from workflow.artifacts import FINETUNED, STAGES
from workflow.files import BadInput, take

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
                               LogisticRegression(solver="liblinear"))
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
                      f"{name}_synthetic": unit})
    return found


def told_apart(one, other, rng):
    """How far two sets of vectors are told apart, by MMD and by a classifier, a dict."""
    return {**dict(zip(("mmd", "p"), mmd(one, other, rng))),
            **dict(zip(("auc", "auc_low", "auc_high"), auc(one, other, rng)))}


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
        })
    return pd.DataFrame(rows).replace(r"^nan.*", "", regex=True)




def report(run, by_truth=False, seed=paper.SPLIT_SEED):
    """Measure the gap of a run.

    Parameters
    ----------
    run : run.Run
        With estimates, and at least one fine-tuned autoencoder.
    by_truth : bool
        The labels of simulated stars are their true ones, not the estimates, whose errors would count as gap.
    seed : int
        Of folds, permutations, halves and bootstrap.

    Returns
    -------
    DataFrame
        A row a space and autoencoder, and one for each of their negative controls: `space`, `autoencoder` (NaN of the
        fluxes), `n` pairs, `distance` and its quantiles, `correlation`, `mmd`, `p`, `auc`, `auc_low`, `auc_high`,
        `reconstruction`; distances in units of the mean of the matched synthetic spectra's, which `distance_synthetic`
        and `correlation_synthetic` are.

    Raises
    ------
    BadInput
        Too few stars with estimates, or what `run.Run` raises.
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
    others = np.setdiff1d(np.arange(len(labels)), same)
    twins, ones = matched(labels[others], labels[same])
    if min(len(stars), len(ones)) < FEWEST:
        raise BadInput(f"{run.artifacts}: {min(len(stars), len(ones))} stars have synthetic spectra of their labels, "
                       f"{FEWEST} are needed: more spectra of either kind")
    print(f"{len(stars)} of {len(good)} stars have a synthetic spectrum of the same labels")
    rows = []
    for space, i, observed, synthetic, ratio in spaces(run, good[stars]):
        rng, number_of = np.random.default_rng([seed, i or 0]), {"autoencoder": np.nan if i is None else i}
        rows.append({"space": space, **number_of, "n": len(stars), **distances(observed, synthetic, same),
                     **told_apart(synthetic[same], observed, rng), "reconstruction": ratio})
        if space != ONE:
            half = len(stars) // 2
            halves = observed[rng.permutation(len(stars))[: 2 * half]].reshape(2, half, -1)
            two = synthetic[rng.permuted([same[ones], others[twins]], axis=0)]
            rows += [{"space": space + name, **number_of, "n": len(pair[0]), **told_apart(*pair, rng)}
                     for name, pair in zip(HALVES, (halves, two))]
    return pd.DataFrame(rows)


def spaces(run, good):
    """What is compared: name, autoencoder, observed and synthetic vectors, and ratio of the reconstruction errors."""
    flux_ph = take(run.flux("ph"), slice(None))
    yield FLUX, None, take(run.flux("carm"), good), flux_ph, np.nan
    for i, sidecar in run.fine_tuned.items():
        error, trained = sidecar.metrics, np.array(run.encoded_ph(i))
        before, after = (take(run.of_stars("encoded", i, stage), good) for stage in STAGES)
        yield BEFORE, i, before, trained, error["mse_carm_before"] / error["mse_ph_before"]
        yield METHOD, i, after, trained, error["mse_carm_after"] / error["mse_ph_before"]
        encoder = networks.encoder_of(networks.load(run.artifacts.autoencoder(i, FINETUNED)))
        yield ONE, i, after, networks.predict(encoder, flux_ph), error["mse_carm_after"] / error["mse_ph_after"]
