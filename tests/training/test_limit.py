"""The operations of a training are those that one counts by hand."""
import dataclasses

import limit
import tensorflow as tf

import paper
from training import networks

WIDTHS = [10, 8, 6, 4, 2, 1, 32, 1, 2, 4, 6, 8, 10]  # of an autoencoder of 10 pixels and 8 neurons
# forward 2 (80 + 48 + 24 + 8 + 2 + 32 + 32 + 2 + 8 + 24 + 48 + 80) = 776; all three ways, but for the first layer's
# input 3 x 776 - 160 = 2168; with the first four frozen 776 + 2 x (776 - 2 (80 + 48 + 24 + 8)) - 4 = 1684
FORWARD, STEP, FROZEN = 776, 2168, 1684
# 6 latent values, 3 and 2 filters of width 2: 2 (6 x 2 x 3 + 6 x 6 x 2) = 216; 2 (12 x 256 + 256 x 128 + 128 x 5 + 5)
CNN = 216 + 72_970


def test_count_by_hand():
    layers = limit.of_autoencoder(8, 10)
    assert layers == [2 * below * above for below, above in zip(WIDTHS, WIDTHS[1:])] and sum(layers) == FORWARD
    assert (limit.of_step(layers), limit.of_step(layers, 4)) == (STEP, FROZEN)
    cnn = limit.of_cnn(3, 2, 5, 6)
    assert sum(cnn) == CNN and limit.of_step(cnn) == 3 * CNN - 2 * 6 * 2 * 3


def test_products_are_those_of_the_network_that_is_built():
    model = networks.build_autoencoder(8, 0, 10)
    graph = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((1, 10))).graph
    counted = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options = tf.compat.v1.profiler.ProfileOptionBuilder(counted).with_empty_output().build()
    nodes, products = [tf.compat.v1.profiler.profile(graph, options=options)], 0
    while nodes:
        node = nodes.pop()
        nodes += node.children
        products += node.float_ops * ("MatMul" in node.name)
    assert products == FORWARD


def test_of_an_epoch_and_of_a_run():
    n = {"n_spectra": 100, "n_observed": 10}
    a_spectrum = limit.of_step(limit.of_autoencoder(64))
    assert limit.of_epoch("autoencoders", 64, **n) == 70 * a_spectrum
    assert limit.of_epoch("fits", 64, **n) == 52.5 * a_spectrum
    assert limit.of_epoch("fine-tuning", 64, **n) == 8 * limit.of_step(limit.of_autoencoder(64), 4)
    budget = dataclasses.replace(paper.BUDGETS["smoke"], grid={"neurons_in": [64, 96], "reg_par": [0, 1], "lr": [1]})
    run = limit.of_run(budget, [64, 64, 96], **n)
    searched = sum(limit.of_epoch("fits", width, **n) for width in (64, 96))
    assert run["autoencoder_grid_search"] == 2 * 4 * 2 * searched  # epochs, folds, strengths
    assert run["cnn_training"] == 2 * 2 * 3 * sum(limit.of_epoch("regressors", cnn=parameter.cnn, **n)
                                                  for parameter in paper.PARAMETERS.values())
