"""Training: the order of batches, repeatability, precision, and against Keras' own loop."""
import keras
import numpy as np
import pytest
import tensorflow as tf
from small_networks import CNN, LABEL, N_PIXELS, SETTINGS, WIDTHS, X, equal, train, weights

import cnn_training
from training import backend, loop, losses, networks

# history of the fixture `trained`, the same in both versions of Keras
LOSS = [0.08644406, 0.08613494, 0.08588897, 0.08562748]
PENALTY = [1.216236e-2, 5.175812e-3, 3.650962e-3, 3.475938e-3]
ORDER = [[[3, 1, 7], [5, 4, 2], [0, 6]], [[0, 5, 6], [7, 4, 3], [1, 2]]]  # of 8 rows, seed 11, by epoch


def batches_of(x, y, batch_size, seed, epochs, rows=None, perturb=None):
    """What training hands to the loss, batch by batch."""
    encoding = keras.Input((1,))
    model = networks.SeededModel(encoding, keras.layers.Dense(1)(encoding), seed)
    pairs = []

    def terms(x, y):
        tf.py_function(lambda *pair: pairs.append([part.numpy().ravel() for part in pair]), [x, y], [])
        return {"loss": tf.reduce_sum(model(x))}

    loop.fit(model, terms, backend.adam(1e-3), x, y, batch_size, epochs, rows=rows, perturb=perturb)
    return pairs


# ---------------------------------------------------------------- batches
@pytest.mark.parametrize("block", [1, 5, 1 << 20])  # in numbers: a batch, two batches, an epoch
def test_order_of_the_batches_depends_on_seed_and_epoch_alone(block, monkeypatch):
    monkeypatch.setattr(loop, "BLOCK", block)
    x = np.arange(8.0)[:, None]
    assert [x.tolist() for x, _ in batches_of(x, x, 3, 11, 2)] == ORDER[0] + ORDER[1]
    assert [x.tolist() for x, _ in batches_of(x, x, 3, 12, 2)] != ORDER[0] + ORDER[1]


def test_batches_are_permutations_of_float32():
    x, y = np.arange(60.0)[:, None], 2 * np.arange(60.0)
    pairs = batches_of(x, y, 8, 1, 3, rows=np.arange(50))
    assert [len(b) for b, _ in pairs] == ([8] * 6 + [2]) * 3
    assert all(b.dtype == c.dtype == np.float32 for b, c in pairs)
    assert all(np.array_equal(2 * b, c) for b, c in pairs)  # rows stay together
    orders = [np.concatenate([b for b, _ in pairs[k : k + 7]]) for k in (0, 7, 14)]
    assert all(np.array_equal(np.sort(order), np.arange(50)) for order in orders)
    assert len({tuple(order) for order in [*orders, np.arange(50)]}) == 4


def test_network_sees_what_is_perturbed_and_targets_stay(monkeypatch):
    monkeypatch.setattr(loop, "BLOCK", 5)  # two batches
    x = np.arange(16.0)[:, None]
    pairs = batches_of(x, x, 3, 11, 2, np.arange(1, 16, 2),
                       lambda x, rows, epoch: x + np.float32(100 * rows[:, None] + 10_000 * epoch))
    given, target = np.hstack(pairs)
    np.testing.assert_array_equal(given, 101 * target + 10_000 * np.repeat([0, 1], 8))


def test_an_error_while_spectra_are_perturbed_ends_the_training():
    x = np.ones((9, 1), np.float32)

    def fail(x, rows, epoch):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        batches_of(x, x, 3, 11, 1, perturb=fail)


# ---------------------------------------------------------------- training
def test_training_moves_every_layer(trained):
    autoencoder, history, initial = trained
    final = weights(autoencoder)
    assert list(final) == list(initial) == list(WIDTHS)
    assert not any(np.array_equal(final[name][0], initial[name][0]) for name in WIDTHS)
    assert history["mse"][-1] < history["mse"][0]
    assert set(history) == {"loss", "mse", "penalty"} and len(history["loss"]) == SETTINGS["epochs"]
    np.testing.assert_allclose(history["loss"], LOSS, rtol=1e-5)
    np.testing.assert_allclose(history["penalty"], PENALTY, rtol=1e-3)


def test_training_from_a_memory_mapped_file_is_that_from_an_array(tmp_path):
    np.save(tmp_path / "x.npy", np.concatenate([X, X[::-1]]).astype(float))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.arange(len(X))
    (autoencoder, history), (again, repeated) = (train(x, rows) for x in (mapped, np.array(mapped, np.float32)))
    assert history == repeated and equal(weights(autoencoder), weights(again)) == list(WIDTHS)
    assert networks.mse(autoencoder, mapped, rows) == pytest.approx(networks.mse(autoencoder, X), rel=1e-6)


def test_training_is_that_of_keras_own_loop_in_the_same_order():
    cnn = networks.build_cnn(4, 3, 8, N_PIXELS, seed=3)
    cnn.compile(optimizer=backend.adam(CNN["lr"]), loss="mse", jit_compile=False)
    expected = []
    for epoch in range(CNN["epochs"]):
        order = np.random.default_rng([3, epoch]).permutation(len(X))
        x, y = X[order, :, None], LABEL[order]
        expected += keras.Model.fit(cnn, x, y, CNN["batch_size"], shuffle=False, verbose=0).history["loss"]
    trained, history = cnn_training.train(CNN, X, LABEL, seed=3)
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    for name, values in weights(cnn).items():
        for value, by_loop in zip(values, weights(trained)[name]):
            np.testing.assert_allclose(value, by_loop, rtol=1e-4, atol=1e-6)


def test_training_does_not_depend_on_what_ran_before(trained):
    autoencoder, history, _ = trained
    keras.utils.set_random_seed(99)
    first, second, again = (weights(cnn_training.train(CNN, X, LABEL, seed)[0]) for seed in (1, 2, 1))
    assert equal(first, again) == list(first) and not equal(first, second)
    repeated, repeated_history = train()
    assert repeated_history == history
    assert equal(weights(repeated), weights(autoencoder)) == list(WIDTHS)


@pytest.mark.skipif(not backend.has_bfloat16(), reason="this processor has no bfloat16: oneDNN would abort on some")
def test_bfloat16_trains_nearly_the_same_and_gives_a_plain_autoencoder(trained):
    rough, history = train(precision="bfloat16")
    np.testing.assert_allclose(history["mse"], trained[1]["mse"], rtol=0.01)
    assert history["mse"] != trained[1]["mse"]
    assert {layer.compute_dtype for layer in rough.layers} == {"float32"}
    assert networks.mse(rough, X) == pytest.approx(networks.mse(trained[0], X), rel=0.01)
    penalties = []
    for precision in ("float32", "bfloat16"):
        autoencoder = networks.build_autoencoder(32, 0, N_PIXELS, 3, precision)
        penalties.append(float(losses.ContractiveLoss(autoencoder, "jacobian", 1)(X, X)["penalty"]))
    assert penalties[0] != penalties[1] == pytest.approx(penalties[0], rel=0.02)
