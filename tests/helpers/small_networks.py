"""Small networks and spectra for the tests of the room `training`, and what to look at in them."""
import numpy as np
import tensorflow as tf

import autoencoder_training
import paper
from training import backend, loop, losses, networks

N_PIXELS, NEURONS = 40, 32
REG_PAR, STRONG = 1e-6, 1e-3  # the second is large enough to be missed in a loss
WIDTHS = {
    "encoded_1": 32, "encoded_2": 24, "encoded_3": 16, "encoded_4": 8, "encoded_5": 4, "bottleneck": 32,
    "decoded_1": 4, "decoded_2": 8, "decoded_3": 16, "decoded_4": 24, "decoded_5": 32, "output_l": N_PIXELS,
}
REGULARISED = [name for name in WIDTHS if name not in ("encoded_1", "bottleneck", "output_l")]
RNG = np.random.default_rng(0)
X = 0.5 + 0.4 * np.sin(np.arange(N_PIXELS) * RNG.uniform(0.05, 0.3, (48, 1)) + RNG.uniform(0, 1, (48, 1)))
X = X.astype(np.float32)
LABEL = X[:, :4].sum(axis=1)
SETTINGS = {"neurons_in": NEURONS, "reg_par": REG_PAR, "lr": 3e-3, "penalty": "live", "penalty_weight": 1e-4,
            "precision": "float32", "batch_size": 128, "epochs": 4}
CNN = {"nf1": 4, "nf2": 3, "nu": 8, "lr": 1e-2, "batch_size": 32, "epochs": 2}
FROZEN = ["encoded_1", "encoded_2", "encoded_3", "encoded_4"]


def build(seed=3, neurons_in=NEURONS, reg_par=REG_PAR):
    return networks.build_autoencoder(neurons_in, reg_par, N_PIXELS, seed)


def train(x=X, rows=None, **settings):
    """An autoencoder that act 2's own function trained, and its history."""
    return autoencoder_training.train({**SETTINGS, **settings}, x, 3, rows=rows)


def fit(autoencoder, variant, weight=paper.CONTRACTIVE_WEIGHT, epochs=1, tick=None):
    loss = losses.ContractiveLoss(autoencoder, variant, weight)
    return loop.fit(autoencoder, loss, backend.adam(1e-2), X, X, len(X), epochs, tick)


def activations(autoencoder, x):
    h, outputs = tf.constant(x), {}
    for name in WIDTHS:
        outputs[name] = h = autoencoder.get_layer(name)(h)
    return {name: value.numpy() for name, value in outputs.items()}


def weights(model):
    return {layer.name: [w.copy() for w in layer.get_weights()] for layer in model.layers if layer.get_weights()}


def equal(first, second):
    """Names of the layers whose weights are the same in two networks."""
    return [name for name in first if all(map(np.array_equal, first[name], second[name]))]
