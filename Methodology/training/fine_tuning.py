"""What carries the autoencoders over to observed spectra: fine-tuning and encoding (Sect. 3.2)."""
import numpy as np

import paper
from training import loop as training
from training import losses as penalties
from training import networks

__all__ = ["encode", "fine_tune"]


def fine_tune(autoencoder, settings, x, tick=None, rows=None, perturb=None):
    """Freeze the first four layers of the encoder and train the rest, in place.

    Parameters
    ----------
    autoencoder : keras.Model
        Trained by act 2.
    settings : dict
        `lr`, `penalty`, `penalty_weight`, `batch_size`, `epochs`; `frozen`, names of layers.
    x : ndarray of shape (n_stars, n_pixels)
        Observed spectra.
    tick, rows, perturb
        As of `training.fit`.

    Returns
    -------
    history : dict of str to list
        A value an epoch: `loss`, `mse`, `penalty`, as in act 2.
    """
    networks.freeze(autoencoder, settings["frozen"])
    loss = penalties.contractive_loss(autoencoder, settings["penalty"], settings["penalty_weight"])
    return training.fit(autoencoder, loss, training.adam(settings["lr"]), x, x, settings["batch_size"],
                        settings["epochs"], tick, rows, perturb)  # fmt: skip


def encode(autoencoder, flux_carm, good):
    """Encodings of observed spectra, (n_stars, 32); NaN but for the rows `good`."""
    encoded = np.full((len(flux_carm), paper.N_LATENT), np.nan, np.float32)
    encoded[good] = networks.predict(networks.encoder_of(autoencoder), flux_carm, good)
    return encoded
