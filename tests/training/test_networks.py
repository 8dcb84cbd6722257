"""The two networks: their layers, losses, frozen weights, batches, determinism and files, in both versions of Keras."""
import gc
import json
import subprocess
import sys
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import autoencoder_fine_tuning
import autoencoder_training
import cnn_training
import paper
from training import backend, grid_search, loop, losses, networks
from workflow import schemas
from workflow.units import Unit, finish

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


def fit(autoencoder, variant, weight=paper.CONTRACTIVE_WEIGHT, epochs=1, tick=None):
    loss = losses.contractive_loss(autoencoder, variant, weight)
    return loop.fit(autoencoder, loss, backend.adam(1e-2), X, X, len(X), epochs, tick)


def activations(autoencoder, x):
    h, found = tf.constant(x), {}
    for name in WIDTHS:
        found[name] = h = autoencoder.get_layer(name)(h)
    return {name: value.numpy() for name, value in found.items()}


def weights(model):
    return {layer.name: [w.copy() for w in layer.get_weights()] for layer in model.layers if layer.get_weights()}


def equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other))


def numpy_penalty(h, kernel):
    return np.array([sum((a * (1 - a)) ** 2 * (kernel[:, j] ** 2).sum() for j, a in enumerate(row)) for row in h])


def mean_square(autoencoder, x):
    return np.mean((activations(autoencoder, x)["output_l"] - x) ** 2, dtype=float)


def regularisation(autoencoder, x, reg_par):
    found = activations(autoencoder, x)
    return reg_par * sum(np.abs(found[name]).sum(dtype=float) for name in REGULARISED) / len(x)


# history of the fixture `trained`, the same in both versions of Keras
LOSS = [0.08644406, 0.08613494, 0.08588897, 0.08562748]
SIGNS = [1, 1, -1, 1, 1, 1, -1, -1, -1, 1, -1, 1]  # first of the seed 3
JACOBIAN = [0.224018, 0.127323, 0.110499, 0.088272, 0.064782, 0.138461, 0.116907, 0.081887, 0.115598, 0.103204]
PENALTY = [1.216236e-2, 5.175812e-3, 3.650962e-3, 3.475938e-3]


@pytest.fixture(scope="module")
def trained():
    """An autoencoder trained with act 2's own function, its history and its initial weights."""
    initial = weights(build())
    autoencoder, history = autoencoder_training.train(SETTINGS, X, seed=3)
    return autoencoder, history, initial


# ---------------------------------------------------------------- layers
@pytest.mark.parametrize("neurons_in", [NEURONS, 45])
def test_autoencoder_has_the_layers_of_the_paper(neurons_in):
    autoencoder = build(neurons_in=neurons_in)
    dense = autoencoder.layers[1:]
    assert [layer.name for layer in dense] == list(WIDTHS)
    widths = [int(f * neurons_in) for f in (1, 0.75, 0.5, 0.25, 0.125)]
    assert [layer.units for layer in dense] == [*widths, 32, *widths[::-1], N_PIXELS]
    if neurons_in == 45:
        assert widths == [45, 33, 22, 11, 5]  # cut, not rounded
    assert [layer.activation.__name__ for layer in dense] == ["relu"] * 11 + ["sigmoid"]
    assert [layer.name for layer in dense if layer.activity_regularizer is not None] == REGULARISED
    strengths = [float(layer.activity_regularizer.l1) for layer in dense if layer.activity_regularizer]
    np.testing.assert_allclose(strengths, REG_PAR, rtol=1e-6)
    assert all(layer.kernel_regularizer is None and layer.bias_regularizer is None for layer in dense)
    assert networks.encoder_of(autoencoder).output.shape[1] == paper.N_LATENT == 32


def test_paper_size():
    assert networks.build_autoencoder(1024, 1e-7).count_params() == sum(
        (a + 1) * b
        for a, b in zip([3501, 1024, 768, 512, 256, 128, 32, 128, 256, 512, 768, 1024],
                        [1024, 768, 512, 256, 128, 32, 128, 256, 512, 768, 1024, 3501])
    )


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
    by_hand = (2 * 1 + 1) * nf1 + (2 * nf1 + 1) * nf2 + (n_latent * nf2 + 1) * 256 + 257 * 128 + 129 * nu + nu + 1
    assert cnn.count_params() == by_hand
    assert networks.predict(cnn, X[:6, :n_latent, None]).shape == (6, 1)


# ---------------------------------------------------------------- loss
@pytest.mark.parametrize("n", [5, 12])
def test_activity_regularisers_are_divided_by_the_batch_size(n):
    autoencoder = build(reg_par=STRONG)
    autoencoder.compile(loss="mse", jit_compile=False, run_eagerly=True)
    x = X[:n]
    by_hand = mean_square(autoencoder, x) + regularisation(autoencoder, x, STRONG)
    assert regularisation(autoencoder, x, STRONG) > 0.01 * by_hand
    assert autoencoder.evaluate(x, x, batch_size=n, verbose=0) == pytest.approx(by_hand, rel=1e-5)


def test_help_says_what_each_penalty_is(capsys):
    with pytest.raises(SystemExit):
        autoencoder_training.main(["--help"])
    said = " ".join(capsys.readouterr().out.partition("--penalty {")[2].partition("--precision {")[2].split())
    said = said[said.index("--penalty {") : said.index("--precision {")]
    for penalty in paper.PENALTIES[:-1]:
        assert f" {penalty}: " in said
    assert said.count(": ") == 5 and f"or {paper.PENALTIES[-1]} (default: live)" in said


def test_live_penalty_is_the_published_formula():
    rng = np.random.default_rng(1)
    h, kernel = rng.gamma(1, 1, (7, 32)).astype(np.float32), rng.normal(size=(4, 32)).astype(np.float32)
    h[rng.uniform(size=h.shape) < 0.3] = 0
    for variant in ("live", "frozen"):
        penalty = losses.contractive_penalty(tf.constant(h), tf.constant(kernel), variant).numpy()
        np.testing.assert_allclose(penalty, numpy_penalty(h.astype(float), kernel.astype(float)), rtol=1e-5)


def test_exact_penalty_is_the_jacobian_of_the_bottleneck():
    bottleneck = build().get_layer("bottleneck")
    u = tf.constant(np.random.default_rng(2).normal(size=(9, 4)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(u)
        h = bottleneck(u)
    jacobian = tape.batch_jacobian(h, u).numpy()
    assert 0 < (h.numpy() == 0).mean() < 1  # both sides of the ReLU
    penalty = losses.contractive_penalty(h, bottleneck.kernel, "exact").numpy()
    np.testing.assert_allclose(penalty, (jacobian.astype(float) ** 2).sum(axis=(1, 2)), rtol=1e-5)


def jacobian_by_tape(autoencoder, x):
    """Jacobian of the whole encoder, (n_spectra, n_latent, n_pixels)."""
    spectra = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(spectra)
        h = networks.encoder_of(autoencoder)(spectra)
    return tape.batch_jacobian(h, spectra)


def encoder(autoencoder, x):
    """Layers of the encoder and their outputs."""
    layers, outputs = losses.encoder_layers(autoencoder), [tf.constant(x)]
    for layer in layers:
        outputs.append(layer(outputs[-1]))
    return layers, outputs[1:]


def test_jacobian_penalty_is_that_of_the_whole_encoder():
    autoencoder = build(neurons_in=45)
    layers, outputs = encoder(autoencoder, X)
    assert [layer.name for layer in layers] == list(WIDTHS)[:6]
    assert all(0 < (np.array(output) == 0).mean() < 1 for output in outputs)  # both sides of every ReLU
    jacobian = jacobian_by_tape(autoencoder, X).numpy().astype(float)
    penalty = losses.jacobian_penalty(layers, outputs).numpy()
    np.testing.assert_allclose(penalty, (jacobian**2).sum(axis=(1, 2)), rtol=1e-5)
    signs = np.random.default_rng(0).choice([-1, 1], (len(X), 32)).astype(np.float32)
    estimate = losses.jacobian_penalty(layers, outputs, tf.constant(signs)).numpy()
    np.testing.assert_allclose(estimate, (np.einsum("bj,bji->bi", signs, jacobian) ** 2).sum(axis=1), rtol=1e-5)


def test_encoding_of_zeros_has_no_jacobian():
    layers, outputs = encoder(build(), X[:3])
    assert losses.jacobian_penalty(layers, [*outputs[:-1], tf.zeros((3, 32))]).numpy().tolist() == [0, 0, 0]


def test_estimate_of_the_jacobian_penalty_and_its_gradient_have_no_bias():
    autoencoder, n = build(), 4000
    weights = [layer.kernel for layer in losses.encoder_layers(autoencoder)]
    draw = losses._random_signs(seed=3)

    def found(x, signs=None):
        with tf.GradientTape() as tape:
            penalty = losses.jacobian_penalty(*encoder(autoencoder, x), signs)
            mean = tf.reduce_mean(penalty)
        return penalty.numpy(), [np.array(gradient) for gradient in tape.gradient(mean, weights)]

    exact, exact_gradient = found(X[:1])
    estimates, gradient = found(np.repeat(X[:1], n, axis=0), draw(n))
    assert estimates.std() > 0.1 * exact[0]
    assert estimates.mean() == pytest.approx(exact[0], abs=4 * estimates.std() / np.sqrt(n))
    for one, other in zip(exact_gradient, gradient):
        assert np.linalg.norm(one - other) < 0.1 * np.linalg.norm(one)


@pytest.mark.parametrize("frozen", [[], FROZEN])
def test_gradient_of_the_jacobian_penalty_is_that_of_the_batch_jacobian(frozen):
    autoencoder = build()
    networks.freeze(autoencoder, frozen)
    trained = autoencoder.trainable_variables
    with tf.GradientTape() as tape:
        loss = losses.contractive_loss(autoencoder, "jacobian", weight=1)(X, X)
        smaller = loss["loss"] - loss["penalty"]
    rest = tape.gradient(smaller, trained)
    with tf.GradientTape() as tape:
        total = losses.contractive_loss(autoencoder, "jacobian", weight=1)(X, X)["loss"]
    gradient = tape.gradient(total, trained)
    with tf.GradientTape() as tape:
        penalty = tf.reduce_mean(tf.reduce_sum(jacobian_by_tape(autoencoder, X) ** 2, axis=(1, 2)))
    expected = tape.gradient(penalty, trained)
    moved = 0
    for with_penalty, without, of_penalty in zip(gradient, rest, expected):
        of_penalty = np.zeros(with_penalty.shape) if of_penalty is None else np.array(of_penalty)
        np.testing.assert_allclose(with_penalty - without, of_penalty, rtol=1e-4, atol=1e-5)
        moved += np.abs(of_penalty).max() > 1e-3
    assert moved == 6 - len(frozen)  # the kernels of the encoder that are trained


def test_random_signs_depend_on_the_seed_and_the_step_alone():
    draw, again, other = (losses._random_signs(seed) for seed in (3, 3, 4))
    first, second = draw(5).numpy(), draw(200).numpy()
    assert set(first.ravel()) == {-1, 1} and abs(second.mean()) < 0.05
    assert np.array_equal(again(5), first) and np.array_equal(again(200), second)
    assert not np.array_equal(second[:5], first) and not np.array_equal(other(5), first)
    assert first[0, :12].tolist() == SIGNS  # the same in both versions of Keras


def test_training_with_an_estimated_jacobian_is_repeatable_and_near_the_exact_one(monkeypatch):
    settings = {**SETTINGS, "penalty": "jacobian", "penalty_weight": 1e-3, "epochs": 10}
    _, exact = autoencoder_training.train(settings, X, seed=3)
    monkeypatch.setattr(paper, "EXACT_JACOBIAN", NEURONS - 1)
    (one, history), (other, repeated) = (autoencoder_training.train(settings, X, seed=3) for _ in range(2))
    assert repeated == history and history["penalty"] != exact["penalty"]
    assert all(equal(weights(one)[name], weights(other)[name]) for name in WIDTHS)
    np.testing.assert_allclose(history["mse"], exact["mse"], rtol=0.01)
    np.testing.assert_allclose(np.mean(history["penalty"]), np.mean(exact["penalty"]), rtol=0.2)
    np.testing.assert_allclose(history["penalty"], JACOBIAN, rtol=1e-3)  # the same in both versions of Keras


@pytest.mark.parametrize("variant", paper.PENALTIES)
def test_first_loss_has_all_its_terms(variant):
    autoencoder, weight = build(reg_par=STRONG), 0.5
    h, kernel = activations(autoencoder, X)["bottleneck"], autoencoder.get_layer("bottleneck").kernel.numpy()
    penalty = numpy_penalty(h, kernel) if variant != "exact" else (h > 0) @ (kernel**2).sum(axis=0)
    if variant == "jacobian":
        penalty = (jacobian_by_tape(autoencoder, X).numpy() ** 2).sum(axis=(1, 2))
    terms = [mean_square(autoencoder, X), regularisation(autoencoder, X, STRONG)]
    if variant != "none":
        terms.append(weight * penalty.mean())
    assert min(terms) > 1e-3 * sum(terms)
    history = fit(autoencoder, variant, weight)
    assert history["loss"][0] == pytest.approx(sum(terms), rel=1e-5)
    assert history["mse"][0] == pytest.approx(terms[0], rel=1e-5)
    assert history["penalty"][0] == pytest.approx(penalty.mean(), rel=1e-5)


def test_weight_is_the_published_one(trained):
    _, history, _ = trained
    autoencoder = build()
    loss = mean_square(autoencoder, X) + regularisation(autoencoder, X, REG_PAR) + 1e-4 * history["penalty"][0]
    assert history["loss"][0] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("variant", ["live", "frozen"])
def test_live_follows_the_kernel_and_frozen_does_not(variant):
    autoencoder = build()
    bottleneck = autoencoder.get_layer("bottleneck")
    states = []

    def note():
        states.append((activations(autoencoder, X)["bottleneck"], bottleneck.kernel.numpy().copy()))

    note()
    logged = fit(autoencoder, variant, epochs=4, tick=note)["penalty"]
    initial = states[0][1]
    followed = [numpy_penalty(h, kernel).mean() for h, kernel in states[:-1]]
    kept = [numpy_penalty(h, initial).mean() for h, _ in states[:-1]]
    assert abs(followed[-1] - kept[-1]) > 1e-3 * kept[-1]  # the two can be told apart
    np.testing.assert_allclose(logged, followed if variant == "live" else kept, rtol=2e-5)


# ---------------------------------------------------------------- training
def test_training_moves_every_layer(trained):
    autoencoder, history, initial = trained
    final = weights(autoencoder)
    assert list(final) == list(initial) == list(WIDTHS)
    assert not any(np.array_equal(final[name][0], initial[name][0]) for name in WIDTHS)
    assert history["mse"][-1] < history["mse"][0]
    assert set(history) == {"loss", "mse", "penalty"} and len(history["loss"]) == SETTINGS["epochs"]


def test_fine_tuning_moves_all_but_the_frozen_layers():
    autoencoder = build()
    before = weights(autoencoder)
    ticks = []
    history = autoencoder_fine_tuning.fine_tune(
        autoencoder, {**SETTINGS, "lr": 1e-2, "epochs": 2, "frozen": FROZEN}, X[:20], lambda: ticks.append(1)
    )
    after = weights(autoencoder)
    unmoved = [name for name in WIDTHS if equal(before[name], after[name])]
    assert unmoved == ["encoded_1", "encoded_2", "encoded_3", "encoded_4"]
    assert all(not np.array_equal(before[name][0], after[name][0]) for name in WIDTHS if name not in unmoved)
    assert len(ticks) == len(history["loss"]) == 2


@pytest.mark.skipif(not backend.has_bfloat16(), reason="this processor has no bfloat16: oneDNN would abort on some")
def test_jacobian_penalty_in_bfloat16_is_nearly_the_same():
    found = []
    for precision in ("float32", "bfloat16"):
        autoencoder = networks.build_autoencoder(NEURONS, REG_PAR, N_PIXELS, 3, precision)
        found.append(float(losses.contractive_loss(autoencoder, "jacobian")(X, X)["penalty"]))
    assert found[0] != found[1] == pytest.approx(found[0], rel=0.02)


@pytest.mark.skipif(not backend.has_bfloat16(), reason="this processor has no bfloat16: oneDNN would abort on some")
def test_bfloat16_trains_nearly_the_same_and_gives_a_plain_autoencoder(trained):
    rough, history = autoencoder_training.train({**SETTINGS, "precision": "bfloat16"}, X, seed=3)
    np.testing.assert_allclose(history["mse"], trained[1]["mse"], rtol=0.01)
    assert history["mse"] != trained[1]["mse"]
    assert {layer.compute_dtype for layer in rough.layers} == {"float32"}
    assert networks.mse(rough, X) == pytest.approx(networks.mse(trained[0], X), rel=0.01)


def test_importing_tensorflow_says_nothing_where_stderr_is_closed():  # where it is open: test_faults.py
    folder = str(Path(backend.__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {folder!r}); import training.backend; print('there')"
    done = subprocess.run(["bash", "-c", f'"{sys.executable}" -c "{code}" 2>&-'], capture_output=True, text=True)
    assert done.stdout == "there\n" and done.stderr == ""


def test_devices_are_taken_by_turns(monkeypatch):
    gpus = [type("Device", (), {"name": f"GPU:{i}"}) for i in range(3)]
    taken = []
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: gpus if kind == "GPU" else [])
    monkeypatch.setattr(tf, "device", taken.append)
    for number in (0, 1, 2, 3, 7):
        backend.device(number)
    gpus.clear()
    backend.device(2)
    assert taken == ["GPU:0", "GPU:1", "GPU:2", "GPU:0", "GPU:1", "CPU:0"]


def test_initial_weights_depend_on_the_seed_alone():
    one, other = weights(build(seed=5)), weights(build(seed=5))
    assert all(equal(one[name], other[name]) for name in WIDTHS)
    third = weights(build(seed=6))
    assert not any(np.array_equal(one[name][0], third[name][0]) for name in WIDTHS)
    # the same in both versions of Keras
    np.testing.assert_allclose(one["encoded_1"][0].ravel()[:3], [-0.06188191, -0.11199942, 0.20927486], rtol=1e-6)
    np.testing.assert_allclose(one["output_l"][0].ravel()[:3], [-0.06393966, 0.12211332, 0.01842073], rtol=1e-6)
    cnn = weights(networks.build_cnn(4, 3, 6, 8, seed=5))
    np.testing.assert_allclose(cnn["conv_1"][0].ravel()[:3], [-0.16604662, -0.300526, 0.56154335], rtol=1e-6)


ORDER = [[[3, 1, 7], [5, 4, 2], [0, 6]], [[0, 5, 6], [7, 4, 3], [1, 2]]]  # of 8 rows, seed 11, by epoch


def batches_of(x, y, batch_size, seed, epochs, block=1 << 20, rows=None):
    """What training hands to the loss, batch by batch."""
    encoding = keras.Input((1,))
    model = networks.SeededModel(encoding, keras.layers.Dense(1)(encoding), seed)
    seen = []

    def terms(x, y):
        tf.py_function(lambda *pair: seen.append([part.numpy().ravel() for part in pair]), [x, y], [])
        return {"loss": tf.reduce_sum(model(x))}

    loop.fit(model, terms, backend.adam(1e-3), x, y, batch_size, epochs, rows=rows)
    return seen


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


def test_training_from_a_memory_mapped_file_is_that_from_an_array(tmp_path):
    np.save(tmp_path / "x.npy", np.concatenate([X, X[::-1]]).astype(float))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = np.arange(len(X))
    (one, history), (other, other_history) = (
        autoencoder_training.train(SETTINGS, x, 3, rows=rows) for x in (mapped, np.array(mapped, np.float32))
    )
    assert history == other_history
    assert all(equal(weights(one)[name], weights(other)[name]) for name in WIDTHS)
    assert networks.mse(one, mapped, rows) == pytest.approx(networks.mse(one, X), rel=1e-6)


def test_adam_is_the_plain_one_of_keras():
    start, gradients = np.linspace(-1, 1, 6), np.random.default_rng(5).normal(size=(5, 6))
    found = []
    for optimizer in (backend.adam(1e-2), keras.optimizers.Adam(1e-2)):
        variable = keras.Variable(start) if backend.KERAS_3 else tf.Variable(start)
        optimizer.build([variable]) if hasattr(optimizer, "build") else None
        for gradient in gradients:
            optimizer.apply_gradients([(tf.constant(gradient, variable.dtype), variable)])
        found.append(variable.numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_a_training_leaves_nothing_in_memory():
    def variables():
        backend.forget_models()
        tensors = [thing for thing in gc.get_objects() if isinstance(thing, tf.Tensor)]
        return sum(getattr(tensor, "dtype", None) == tf.resource for tensor in tensors)

    before = variables()
    fit(build(), "live")
    assert variables() <= before


def test_history_is_the_same_in_both_versions_of_keras(trained):
    _, history, _ = trained
    np.testing.assert_allclose(history["loss"], LOSS, rtol=1e-5)
    np.testing.assert_allclose(history["penalty"], PENALTY, rtol=1e-3)


def test_training_is_that_of_keras_own_loop_in_the_same_order():
    cnn = grid_search.compiled_cnn(4, 3, 8, 1e-2, N_PIXELS, seed=3)
    expected = []
    for epoch in range(CNN["epochs"]):
        order = np.random.default_rng([3, epoch]).permutation(len(X))
        x, y = X[order, :, None], LABEL[order]
        expected += keras.Model.fit(cnn, x, y, CNN["batch_size"], shuffle=False, verbose=0).history["loss"]
    trained, history = cnn_training.train(CNN, X, LABEL, seed=3)
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    for name, values in weights(cnn).items():
        for value, other in zip(values, weights(trained)[name]):
            np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6)


def test_stacked_regressors_are_those_trained_alone():
    encoded, seeds = [X, X[:, ::-1].copy(), X], [1, 2, 5]
    settings = {**CNN, "epochs": 3}
    for together, x, seed in zip(cnn_training.train_together(settings, encoded, LABEL, seeds), encoded, seeds):
        alone, history = cnn_training.train(settings, x, LABEL, seed)
        np.testing.assert_allclose(together[1]["loss"], history["loss"], rtol=1e-5)
        for name, values in weights(alone).items():
            for value, other in zip(values, weights(together[0])[name]):
                np.testing.assert_allclose(other, value, rtol=1e-3, atol=1e-5)


def test_training_does_not_depend_on_what_ran_before(trained):
    autoencoder, history, _ = trained
    keras.utils.set_random_seed(99)
    cnns = [cnn_training.train(CNN, X, LABEL, seed)[0] for seed in (1, 2, 1)]
    first, second, again = (weights(cnn) for cnn in cnns)
    assert all(equal(first[name], again[name]) for name in first)
    assert not equal(first["dense_1"], second["dense_1"])
    repeated, repeated_history = autoencoder_training.train(SETTINGS, X, seed=3)
    assert repeated_history == history
    assert all(equal(weights(repeated)[name], weights(autoencoder)[name]) for name in WIDTHS)


# ---------------------------------------------------------------- predictions and files
def test_chunks_change_nothing(trained, monkeypatch):
    autoencoder = trained[0]
    at_once = autoencoder(X).numpy()
    monkeypatch.setattr(networks, "CHUNK", 7)
    np.testing.assert_allclose(networks.predict(autoencoder, X), at_once, rtol=1e-5, atol=1e-6)
    rows = np.array([40, 3, 3, 17, 0, 5, 6, 8, 9])
    np.testing.assert_allclose(networks.predict(autoencoder, X, rows), at_once[rows], rtol=1e-5, atol=1e-6)
    assert networks.predict(autoencoder, X.astype(float)).dtype == np.float32
    assert networks.mse(autoencoder, X) == pytest.approx(np.mean((at_once - X) ** 2, dtype=float), rel=1e-5)
    assert networks.mse(autoencoder, X, rows) == pytest.approx(np.mean((at_once - X)[rows] ** 2), rel=1e-5)
    residual = (X - at_once)[rows]
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
        found = set(classes(json.loads(file.attrs["model_config"])))
        assert "optimizer_weights" not in file
    assert found & {"Dense", "InputLayer"} == {"Dense", "InputLayer"}
    assert "SeededModel" not in found
    assert all(hasattr(keras.layers, name) for name in found if name[0].isupper() and name in ("Dense", "Conv1D"))


def test_loaded_autoencoder_can_be_fine_tuned(trained, tmp_path):
    path = tmp_path / "ac_0.h5"
    networks.save(trained[0], path)
    finish(Unit(path, {}), time.time(), {}, network=schemas.AutoencoderShape(NEURONS, REG_PAR, N_PIXELS))
    autoencoder = networks.load(path)
    before = weights(autoencoder)
    settings = {**SETTINGS, "lr": 1e-2, "penalty": "frozen", "epochs": 1, "frozen": FROZEN}
    autoencoder_fine_tuning.fine_tune(autoencoder, settings, X[:20])
    after = weights(autoencoder)
    assert [name for name in WIDTHS if equal(before[name], after[name])] == list(paper.FROZEN_LAYERS)
