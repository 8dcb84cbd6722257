"""What carries the autoencoders over to observed spectra: fine-tuning and encoding (Sect. 3.2)."""
import numpy as np

import paper
from training import backend, loop, losses, networks


def fine_tune(autoencoder, settings, x, tick=None, rows=None, perturb=None):
    """Freeze the first four layers of an autoencoder of act 2 and train the rest on x, (n_stars, n_pixels), in place.

    `settings` are `lr`, `penalty`, `penalty_weight`, `batch_size`, `epochs` and `frozen`, names of layers; the rest is
    as in `loop.fit`. Returned is the history: `loss`, `mse`, `penalty`, a value an epoch, as in act 2.
    """
    for name in settings["frozen"]:
        autoencoder.get_layer(name).trainable = False
    loss = losses.ContractiveLoss(autoencoder, settings["penalty"], settings["penalty_weight"])
    return loop.fit(autoencoder, loss, backend.adam(settings["lr"]), x, x, settings["batch_size"],
                    settings["epochs"], tick, rows, perturb)


def encode(autoencoder, flux_carm, good):
    """Encodings of observed spectra, (n_stars, 32); NaN but for the rows `good`."""
    encoded = np.full((len(flux_carm), paper.N_LATENT), np.nan, np.float32)
    encoded[good] = networks.predict(networks.encoder_of(autoencoder), flux_carm, good)
    return encoded
