"""The two networks: their layers, initial weights, predictions and files, in both versions of Keras."""
import json
import time

import h5py
import keras
import numpy as np
import pytest
from small_networks import N_PIXELS, NEURONS, REG_PAR, REGULARISED, WIDTHS, X, build, equal, weights

import paper
from training import networks
from training.backend import tf
from workflow import files, schemas
from workflow.units import Unit, finish


# ---------------------------------------------------------------- layers
def test_autoencoder_has_the_layers_of_the_paper():
    autoencoder = build(neurons_in=45)
    dense = autoencoder.layers[1:]
    assert [layer.name for layer in dense] == list(WIDTHS)
    widths = [45, 33, 22, 11, 5]  # cut, not rounded
    assert [layer.units for layer in dense] == [*widths, 32, *widths[::-1], N_PIXELS]
    assert [layer.activation.__name__ for layer in dense] == ["relu"] * 11 + ["sigmoid"]
    assert [layer.name for layer in dense if layer.activity_regularizer is not None] == REGULARISED
    strengths = [float(layer.activity_regularizer.l1) for layer in dense if layer.activity_regularizer]
    np.testing.assert_allclose(strengths, REG_PAR, rtol=1e-6)
    assert all(layer.kernel_regularizer is None and layer.bias_regularizer is None for layer in dense)
    assert networks.encoder_of(autoencoder).output.shape[1] == paper.N_LATENT == 32
    assert networks.build_autoencoder(8, 0).layers[-1].units == 3501


def test_cnn_has_the_layers_of_the_paper():
    nf1, nf2, nu, n_latent = 5, 3, 7, 16
    cnn = networks.build_cnn(nf1, nf2, nu, n_latent)
    convolutions = [layer for layer in cnn.layers if isinstance(layer, keras.layers.Conv1D)]
    dense = [layer for layer in cnn.layers if isinstance(layer, keras.layers.Dense)]
    assert [type(layer).__name__ for layer in cnn.layers[1:]] == ["Conv1D"] * 2 + ["Flatten"] + ["Dense"] * 4
    assert [layer.filters for layer in convolutions] == [nf1, nf2]
    assert {(layer.kernel_size, layer.strides, layer.padding) for layer in convolutions} == {((2,), (1,), "same")}
    assert [layer.units for layer in dense] == [*paper.CNN_DENSE, nu, 1] == [256, 128, nu, 1]
    assert [layer.activation.__name__ for layer in convolutions + dense] == ["relu"] * 5 + ["linear"]
    assert cnn.input_shape == (None, n_latent, 1) and cnn.output_shape == (None, 1)


@pytest.mark.parametrize(("nf1", "nf2", "n_latent"), [(4, 3, N_PIXELS), (1, 1, 2), (64, 32, 32)])
def test_a_cnn_is_trained_by_the_terms_and_gradients_of_its_layers(nf1, nf2, n_latent):
    model, rng = networks.build_cnn(nf1, nf2, 6, n_latent, seed=8), np.random.default_rng(3)
    for weight in model.trainable_variables:  # those of biases are zeros
        weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    x, y = rng.normal(size=(7, n_latent, 1)).astype(np.float32), np.ones((7, 1), np.float32)
    results = []
    for squared_error in (model.squared_error, super(networks.CnnRegressor, model).squared_error):
        with tf.GradientTape() as tape:
            terms = squared_error(tf.constant(x), tf.constant(y))
        results.append([*terms.values(), *tape.gradient(terms["loss"], model.trainable_variables)])
    for ours, of_layers in zip(*results):
        np.testing.assert_allclose(ours, of_layers, rtol=1e-3, atol=1e-4)


def test_initial_weights_depend_on_the_seed_alone():
    first, again, another = (weights(build(seed=seed)) for seed in (5, 5, 6))
    assert equal(first, again) == list(WIDTHS)
    assert not any(np.array_equal(first[name][0], another[name][0]) for name in WIDTHS)
    # the same in both versions of Keras
    np.testing.assert_allclose(first["encoded_1"][0].ravel()[:3], [-0.06188191, -0.11199942, 0.20927486], rtol=1e-6)
    np.testing.assert_allclose(first["output_l"][0].ravel()[:3], [-0.06393966, 0.12211332, 0.01842073], rtol=1e-6)
    cnn = weights(networks.build_cnn(4, 3, 6, 8, seed=5))
    np.testing.assert_allclose(cnn["conv_1"][0].ravel()[:3], [-0.16604662, -0.300526, 0.56154335], rtol=1e-6)


# ---------------------------------------------------------------- predictions and files
def test_chunks_change_nothing(trained, monkeypatch):
    autoencoder = trained[0]
    at_once = autoencoder(X).numpy()
    monkeypatch.setattr(files, "CHUNK", 7)
    np.testing.assert_allclose(networks.predict(autoencoder, X), at_once, rtol=1e-5, atol=1e-6)
    rows = np.array([40, 3, 3, 17, 0, 5, 6, 8, 9])
    np.testing.assert_allclose(networks.predict(autoencoder, X, rows), at_once[rows], rtol=1e-5, atol=1e-6)
    assert networks.predict(autoencoder, X.astype(float)).dtype == np.float32
    assert networks.mse(autoencoder, X) == pytest.approx(np.mean((at_once - X) ** 2, dtype=float), rel=1e-5)
    assert networks.mse(autoencoder, X, rows) == pytest.approx(np.mean((at_once - X)[rows] ** 2), rel=1e-5)
    assert networks.mse(autoencoder, X, rows, X + 1) == pytest.approx(np.mean((at_once - X - 1)[rows] ** 2), rel=1e-5)
    residual = (X - at_once)[rows]
    np.testing.assert_allclose(networks.errors(autoencoder, X, rows), (residual**2).mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(networks.residual(autoencoder, X, rows), [residual.mean(axis=0), residual.std(axis=0)],
                               rtol=1e-4, atol=1e-6)


def classes(config):
    """Every class named anywhere in the configuration of a model."""
    if isinstance(config, dict):
        yield from [config["class_name"]] if "class_name" in config else []
        config = list(config.values())
    for value in config if isinstance(config, list) else []:
        yield from classes(value)


@pytest.mark.parametrize("kind", ["autoencoder", "cnn"])
def test_files_are_plain_and_give_the_same_predictions(kind, trained, tmp_path):
    if kind == "cnn":
        model, x = networks.build_cnn(4, 3, 6, N_PIXELS, seed=8), X[..., None]
        network = schemas.CnnShape(4, 3, 6, N_PIXELS)
    else:
        model, x = trained[0], X
        network = schemas.AutoencoderShape(NEURONS, REG_PAR, N_PIXELS)
    path = tmp_path / "network.h5"
    networks.save(model, path)
    finish(Unit(path, {}), time.time(), {}, network=network)
    predicted = networks.predict(model, x)
    rebuilt = networks.load(path, seed=77)
    assert np.array_equal(networks.predict(rebuilt, x), predicted) and rebuilt.seed == 77
    plain = keras.models.load_model(path, compile=False)
    assert np.array_equal(networks.predict(plain, x), predicted)
    with h5py.File(path) as file:
        names = set(classes(json.loads(file.attrs["model_config"])))
        assert "optimizer_weights" not in file
    assert {"Dense", "InputLayer"} <= names and not {"SeededModel", "CnnRegressor"} & names
