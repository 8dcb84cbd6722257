"""UMAP of spectra and of encodings (Figs. 1 and 5; no TensorFlow)."""
import sys
import warnings

import numpy as np

import paper
from inference.neighbours import neighbours

N_NEIGHBOURS = 15  # umap-learn's default


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
