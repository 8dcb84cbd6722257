"""Exact nearest neighbours among spectra or encodings, by Euclidean distance or by correlation."""
import numpy as np
from sklearn.neighbors import NearestNeighbors

from workflow.files import chunks, take

PIECE = 256  # vectors compared at a time


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
    """Euclidean distance of each vector to the nearest of a set that may be memory-mapped, (n_vectors,).

    The nearest is found in float32, in pieces that stay in the cache; of those as near but for rounding any will do.
    """
    vectors, middle = np.asarray(vectors, np.float32), take(among, slice(1))
    best, nearest = np.full(len(vectors), np.inf, np.float32), np.zeros(len(vectors), int)
    for rows in chunks(len(among)):
        part = take(among, rows) - middle  # short vectors are rounded less
        half = np.einsum("ij,ij->i", part, part) / 2
        for first in range(0, len(vectors), PIECE):
            piece = slice(first, first + PIECE)
            squares = half - (vectors[piece] - middle) @ part.T  # half of the squared distance, but for a constant
            place = squares.argmin(axis=1)
            square = squares[np.arange(len(place)), place]
            nearer = square < best[piece]
            best[piece] = np.where(nearer, square, best[piece])
            nearest[piece] = np.where(nearer, rows[place], nearest[piece])
    distances = np.empty(len(vectors))
    for rows in chunks(len(vectors)):
        distances[rows] = np.linalg.norm(vectors[rows].astype(float) - take(among, nearest[rows]), axis=1)
    return distances
