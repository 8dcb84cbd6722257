"""UMAP of spectra and of encodings (Figs. 1 and 5; no TensorFlow)."""
import sys
import warnings

import numpy as np
from sklearn.neighbors import NearestNeighbors

import paper

N_NEIGHBOURS = 15  # umap-learn's default


def embed(vectors):
    """UMAP in two dimensions, of both domains at once, in the correlation metric.

    The neighbours are exact: in that metric they are those of the standardised vectors in the Euclidean one, found by
    products of matrices. The search of umap-learn is approximate and takes longer to compile than this to run.

    Parameters
    ----------
    vectors : ndarray of shape (n_spectra, n_features)

    Returns
    -------
    ndarray of shape (n_spectra, 2)
    """
    standard = vectors - vectors.mean(axis=1, keepdims=True)
    standard /= np.maximum(np.linalg.norm(standard, axis=1, keepdims=True), 1e-12)
    n_neighbours = min(N_NEIGHBOURS, len(vectors) - 1)
    distance, index = NearestNeighbors(n_neighbors=n_neighbours, algorithm="brute").fit(standard).kneighbors(standard)
    umap = _umap()(n_neighbors=n_neighbours, metric="correlation", random_state=paper.SPLIT_SEED, n_jobs=1,
                   precomputed_knn=(index.astype(np.int32), (distance**2 / 2).astype(np.float32)),
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
