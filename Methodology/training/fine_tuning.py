"""What carries the autoencoders over to observed spectra: fine-tuning and encoding (Sect. 3.2)."""
import numpy as np

import paper
from training import backend, loop, losses, networks


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
        As of `loop.fit`.

    Returns
    -------
    history : dict of str to list
        A value an epoch: `loss`, `mse`, `penalty`, as in act 2.
    """
    networks.freeze(autoencoder, settings["frozen"])
    loss = losses.contractive_loss(autoencoder, settings["penalty"], settings["penalty_weight"])
    return loop.fit(autoencoder, loss, backend.adam(settings["lr"]), x, x, settings["batch_size"],
                        settings["epochs"], tick, rows, perturb)


def encode(autoencoder, flux_carm, good):
    """Encodings of observed spectra, (n_stars, 32); NaN but for the rows `good`."""
    encoded = np.full((len(flux_carm), paper.N_LATENT), np.nan, np.float32)
    encoded[good] = networks.predict(networks.encoder_of(autoencoder), flux_carm, good)
    return encoded
