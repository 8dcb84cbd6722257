"""Exact nearest neighbours among spectra or encodings, by Euclidean distance or by correlation."""
import numpy as np
from sklearn.neighbors import NearestNeighbors

from workflow.files import chunks, take


def neighbours(vectors, among, n=1, correlation=False):
    """Distances to the n nearest vectors of a set, ascending, and their rows in it, both (n_vectors, n).

    `vectors` and `among` are of shape (n_..., n_features); a vector of the set is its own nearest. With `correlation`
    the distance is one minus the correlation, else Euclidean.
    """
    if correlation:
        vectors, among = _standardised(vectors), _standardised(among)
    distance, rows = NearestNeighbors(n_neighbors=n, algorithm="brute").fit(among).kneighbors(vectors)
    return distance**2 / 2 if correlation else distance, rows


def _standardised(vectors):
    """Of length 1 and mean 0: half the squared Euclidean distance of two such is one minus their correlation."""
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def nearest_distances(vectors, among):
    """Euclidean distance of each vector to the nearest of a set that may be memory-mapped, (n_vectors,)."""
    return np.min([neighbours(vectors, take(among, rows))[0][:, 0] for rows in chunks(len(among))], axis=0)
