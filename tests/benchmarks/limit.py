"""What training costs at least: the floating-point operations of its matrix products and convolutions.

Only these are counted, a multiplication and an addition as two; not activations, losses, random numbers or Adam. A step
of training takes the products forward, then for each trained layer the gradient of its weights and, but for the lowest
of these, that of its input: as many again each.
"""
from dataclasses import asdict

import numpy as np

import paper

SIDE = 2048  # of the large product that says how fast a machine is
REPEATS = 20


def of_autoencoder(neurons_in, n_pixels=paper.N_PIXELS):
    """Operations a spectrum of each layer of an autoencoder, forward, a list."""
    widths = [int(fraction * neurons_in) for fraction in paper.ENCODER_FRACTIONS]
    widths = [n_pixels, *widths, paper.N_LATENT, *widths[::-1], n_pixels]
    return [2 * below * above for below, above in zip(widths, widths[1:])]


def of_cnn(nf1, nf2, nu, n_latent=paper.N_LATENT):
    """Operations an encoding of each layer of a regressor, forward, a list."""
    widths = [n_latent * nf2, *paper.CNN_DENSE, nu, 1]
    convolutions = [2 * n_latent * paper.CNN_KERNEL * below * above for below, above in ((1, nf1), (nf1, nf2))]
    return convolutions + [2 * below * above for below, above in zip(widths, widths[1:])]


def of_step(layers, n_frozen=0):
    """Operations of training on one spectrum, from those of its layers, of which the lowest may be frozen."""
    trained = layers[n_frozen:]
    return sum(layers) + sum(trained) + sum(trained[1:])


def of_epoch(what, neurons_in=1024, cnn=paper.PARAMETERS["teff"].cnn, n_spectra=paper.N_SYNTHETIC,
             n_observed=paper.N_OBSERVED):
    """Operations of an epoch of one fit of a search, autoencoder, fine-tuning or regressor."""
    shape = {name: value for name, value in asdict(cnn).items() if name != "lr"}
    n_train, n_stars = (n - int(np.ceil(paper.TEST_FRACTION[domain] * n))
                        for domain, n in (("ph", n_spectra), ("carm", n_observed)))
    autoencoder = of_autoencoder(neurons_in)
    return {"fits": of_step(autoencoder) * n_train * (1 - 1 / paper.CV_FOLDS),
            "autoencoders": of_step(autoencoder) * n_train,
            "fine-tuning": of_step(autoencoder, len(paper.FROZEN_LAYERS)) * n_stars,
            "regressors": of_step(of_cnn(**shape)) * n_train}[what]


def of_run(budget, widths, **n):
    """Operations of the training of each act of a run at a budget, whose autoencoders have these widths, a dict."""
    n_combinations = int(np.prod([len(values) for values in budget.grid.values()]))
    searched = np.repeat(budget.grid["neurons_in"], n_combinations // len(budget.grid["neurons_in"]))
    return {
        "autoencoder_grid_search": budget.search_epochs * paper.CV_FOLDS * sum(of_epoch("fits", w, **n)
                                                                               for w in searched),
        "autoencoder_training": budget.train_epochs * sum(of_epoch("autoencoders", w, **n) for w in widths),
        "autoencoder_fine_tuning": budget.fine_tune_epochs * sum(of_epoch("fine-tuning", w, **n) for w in widths),
        "cnn_training": budget.cnn_epochs * budget.repeats * len(widths) * sum(
            of_epoch("regressors", cnn=parameter.cnn, **n) for parameter in paper.PARAMETERS.values()),
    }


def one_large_product(clocks):
    """Operations a second of one large product in TensorFlow, by each of some clocks, a list; builds no network."""
    from training.backend import tf

    factor = tf.random.stateless_normal((SIDE, SIDE), (0, 0))
    multiply = tf.function(lambda product: product @ factor / SIDE)
    product = multiply(factor)  # builds the graph
    product.numpy()
    before = [clock() for clock in clocks]
    for _ in range(REPEATS):
        product = multiply(product)
    product.numpy()
    return [2 * SIDE**3 * REPEATS / (clock() - start) for clock, start in zip(clocks, before)]
