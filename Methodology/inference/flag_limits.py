"""What flags hold reconstructions and encodings against: act 3 measures it, the others read it (no TensorFlow)."""
import numpy as np
from sklearn.metrics import pairwise_distances_argmin_min

from inference import flags
from workflow.files import take

__all__ = ["LIMITS", "limits", "measured", "nearest_distances", "quantile"]

# Metrics that act 3 leaves of each autoencoder: the quantile of flags.RULES[word] that a star is held against
LIMITS = {"reconstruction": "mse_ph_test_q99", "reconstruction-observed": "mse_carm_q99_{when}",
          "latent-distance": "distance_latent_ph_test_q99"}  # fmt: skip
CHUNK = 1024  # synthetic spectra compared at a time, so that memory stays flat


# ---------------------------------------------------------------- measured
def nearest_distances(encoded, training):
    """Smallest Euclidean distance of each encoding, or spectrum, to any of a training set.

    Parameters
    ----------
    encoded : ndarray of shape (n_stars, n_features)
    training : ndarray of shape (n_spectra, n_features)
        May be memory-mapped.

    Returns
    -------
    ndarray of shape (n_stars,)
    """
    chunks = range(0, len(training), CHUNK)
    return np.min([pairwise_distances_argmin_min(encoded, take(training, slice(start, start + CHUNK)))[1]
                   for start in chunks], axis=0)  # fmt: skip


def quantile(word, values, when=""):
    """What a flag compares with, by the name of the metric.

    Parameters
    ----------
    word : str
        Of LIMITS.
    values : array
        Errors, or distances, of all that have one.
    when : {"before", "after"}, optional
        Fine-tuning, where it matters.

    Returns
    -------
    dict of str to float
    """
    return {LIMITS[word].format(when=when): float(np.quantile(values, flags.RULES[word].threshold))}


# ---------------------------------------------------------------- read
def limits(sidecars, when="after"):
    """What the reconstruction and the distance of a star are held against.

    Parameters
    ----------
    sidecars : list of records.Sidecar
        Of the fine-tuned autoencoders.
    when : {"before", "after"}
        Fine-tuning.

    Returns
    -------
    dict of str to ndarray of shape (n_autoencoders,)
        By word. Empty if an earlier version of act 3, which left none, made one of them.
    """
    names = {word: metric.format(when=when) for word, metric in LIMITS.items()}
    if not all(name in sidecar.metrics for name in names.values() for sidecar in sidecars):
        return {}
    return {word: np.array([sidecar.metrics[name] for sidecar in sidecars]) for word, name in names.items()}


def measured(sidecars, when):
    """Arguments of `flags.of_networks` for the stars of a run, as act 3 left them; None if an earlier one did not."""
    against = limits(sidecars, when)
    return (*(np.array([sidecar.stars[f"{name}_{when}"] for sidecar in sidecars])
              for name in ("mse", "distance_latent")), against) if against else None  # fmt: skip
