"""Terms of the loss against their formulae, and each reading of the contractive penalty against its Jacobian."""
import numpy as np
import pytest
import tensorflow as tf
from small_networks import (
    NEURONS,
    REGULARISED,
    STRONG,
    WIDTHS,
    X,
    activations,
    build,
    equal,
    fit,
    train,
    weights,
)

import autoencoder_training
import paper
from training import losses, networks

SIGNS = [1, 1, -1, 1, 1, 1, -1, -1, -1, 1, -1, 1]  # first of the seed 3
JACOBIAN = [0.224018, 0.127323, 0.110499, 0.088272, 0.064782, 0.138461, 0.116907, 0.081887, 0.115598, 0.103204]


def numpy_penalty(h, kernel):
    return np.array([sum((a * (1 - a)) ** 2 * (kernel[:, j] ** 2).sum() for j, a in enumerate(row)) for row in h])


def mean_square(autoencoder, x):
    return np.mean((activations(autoencoder, x)["output_l"] - x) ** 2, dtype=float)


def regularisation(autoencoder, x):
    outputs = activations(autoencoder, x)
    return STRONG * sum(np.abs(outputs[name]).sum(dtype=float) for name in REGULARISED) / len(x)


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


# ---------------------------------------------------------------- the whole loss
def test_activity_regularisers_are_divided_by_the_batch_size():
    autoencoder = build(reg_par=STRONG)
    autoencoder.compile(loss="mse", jit_compile=False, run_eagerly=True)
    for n in (5, 12):
        x = X[:n]
        by_hand = mean_square(autoencoder, x) + regularisation(autoencoder, x)
        assert regularisation(autoencoder, x) > 0.01 * by_hand
        assert autoencoder.evaluate(x, x, batch_size=n, verbose=0) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("variant", ["live", "exact", "jacobian", "none"])
def test_first_loss_has_all_its_terms(variant):
    autoencoder, weight = build(reg_par=STRONG), 0.5
    h, kernel = activations(autoencoder, X)["bottleneck"], autoencoder.get_layer("bottleneck").kernel.numpy()
    penalty = numpy_penalty(h, kernel) if variant != "exact" else (h > 0) @ (kernel**2).sum(axis=0)
    if variant == "jacobian":
        penalty = (jacobian_by_tape(autoencoder, X).numpy() ** 2).sum(axis=(1, 2))
    terms = [mean_square(autoencoder, X), regularisation(autoencoder, X)]
    if variant != "none":
        terms.append(weight * penalty.mean())
    assert min(terms) > 1e-3 * sum(terms)
    history = fit(autoencoder, variant, weight)
    assert history["loss"][0] == pytest.approx(sum(terms), rel=1e-5)
    assert history["mse"][0] == pytest.approx(terms[0], rel=1e-5)
    assert history["penalty"][0] == pytest.approx(penalty.mean(), rel=1e-5)


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
    frozen = [numpy_penalty(h, initial).mean() for h, _ in states[:-1]]
    assert abs(followed[-1] - frozen[-1]) > 1e-3 * frozen[-1]  # the two can be told apart
    np.testing.assert_allclose(logged, followed if variant == "live" else frozen, rtol=2e-5)


def test_help_says_what_each_penalty_is(capsys):
    with pytest.raises(SystemExit):
        autoencoder_training.main(["--help"])
    text = " ".join(capsys.readouterr().out.rpartition("--penalty {")[2].partition("--precision {")[0].split())
    assert all(f" {penalty}: " in text for penalty in paper.PENALTIES[:-1]) and f"or {paper.PENALTIES[-1]}" in text


# ---------------------------------------------------------------- readings of the penalty
def test_live_penalty_is_the_published_formula():
    rng = np.random.default_rng(1)
    h, kernel = rng.gamma(1, 1, (7, 32)).astype(np.float32), rng.normal(size=(4, 32)).astype(np.float32)
    h[rng.uniform(size=h.shape) < 0.3] = 0
    penalty = losses.contractive_penalty(tf.constant(h), tf.constant(kernel), "live").numpy()
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
    of_zeros = losses.jacobian_penalty(layers, [*outputs[:-1], tf.zeros((len(X), 32))])
    assert not of_zeros.numpy().any()


def test_estimate_of_the_jacobian_penalty_and_its_gradient_have_no_bias():
    autoencoder, n = build(), 4000
    kernels = [layer.kernel for layer in losses.encoder_layers(autoencoder)]
    loss = losses.ContractiveLoss(autoencoder, "jacobian", weight=1)

    def with_gradient(x, signs=None):
        with tf.GradientTape() as tape:
            penalty = losses.jacobian_penalty(*encoder(autoencoder, x), signs)
            mean = tf.reduce_mean(penalty)
        return penalty.numpy(), [np.array(gradient) for gradient in tape.gradient(mean, kernels)]

    exact, exact_gradient = with_gradient(X[:1])
    estimates, gradient = with_gradient(np.repeat(X[:1], n, axis=0), loss.signs(n))
    assert estimates.std() > 0.1 * exact[0]
    assert estimates.mean() == pytest.approx(exact[0], abs=4 * estimates.std() / np.sqrt(n))
    for expected, values in zip(exact_gradient, gradient):
        assert np.linalg.norm(expected - values) < 0.1 * np.linalg.norm(expected)


def test_gradient_of_the_jacobian_penalty_is_that_of_the_batch_jacobian():
    autoencoder = build()
    kernels = [layer.kernel for layer in losses.encoder_layers(autoencoder)]
    with tf.GradientTape() as tape:
        penalty = losses.ContractiveLoss(autoencoder, "jacobian", weight=1)(X, X)["penalty"]
    gradients = tape.gradient(penalty, kernels)
    with tf.GradientTape() as tape:
        penalty = tf.reduce_mean(tf.reduce_sum(jacobian_by_tape(autoencoder, X) ** 2, axis=(1, 2)))
    for gradient, expected in zip(gradients, tape.gradient(penalty, kernels)):
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_random_signs_depend_on_the_seed_and_the_step_alone():
    loss, again, another = (losses.ContractiveLoss(build(seed), "jacobian", 1) for seed in (3, 3, 4))
    first, second = loss.signs(5).numpy(), loss.signs(200).numpy()
    assert set(first.ravel()) == {-1, 1} and abs(second.mean()) < 0.05
    assert np.array_equal(again.signs(5), first) and np.array_equal(again.signs(200), second)
    assert not np.array_equal(second[:5], first) and not np.array_equal(another.signs(5), first)
    assert first[0, :12].tolist() == SIGNS  # the same in both versions of Keras


def test_training_with_an_estimated_jacobian_is_repeatable_and_near_the_exact_one(monkeypatch):
    settings = {"penalty": "jacobian", "penalty_weight": 1e-3, "epochs": 10}
    _, exact = train(**settings)
    monkeypatch.setattr(paper, "EXACT_JACOBIAN", NEURONS - 1)
    (autoencoder, history), (again, repeated) = (train(**settings) for _ in range(2))
    assert repeated == history and history["penalty"] != exact["penalty"]
    assert equal(weights(autoencoder), weights(again)) == list(WIDTHS)
    np.testing.assert_allclose(history["mse"], exact["mse"], rtol=0.01)
    np.testing.assert_allclose(np.mean(history["penalty"]), np.mean(exact["penalty"]), rtol=0.2)
    np.testing.assert_allclose(history["penalty"], JACOBIAN, rtol=1e-3)  # the same in both versions of Keras
