"""The two networks of the paper, the contractive penalty, freezing, saving and loading.

This is the one module that knows that two versions of Keras exist (2.13 and 3).
"""
import contextlib
import logging
import warnings

import keras
import numpy as np
import tensorflow as tf

import artifacts
import paper

__all__ = [
    "Batches", "SeededModel", "adam", "build_autoencoder", "build_cnn", "contractive_penalty", "encoder_of", "fit",
    "forget_models", "freeze", "load", "mse", "predict", "save", "with_penalty",
]  # fmt: skip

CHUNK = 1024  # spectra predicted at a time, so that memory stays flat
KERAS_3 = keras.__version__.startswith("3")

# One unit of work, one thread: results then do not depend on how many cores a machine has, and
# several units side by side (--jobs) are faster than several threads inside one small network.
for _gpu in tf.config.list_physical_devices("GPU"):  # else the first process takes all of its memory
    tf.config.experimental.set_memory_growth(_gpu, True)
try:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
except RuntimeError:  # TensorFlow is already running, in a notebook say
    pass


def adam(lr):
    """Adam with the given learning rate: the fused legacy one in Keras 2, which is the faster there."""
    if KERAS_3:
        return keras.optimizers.Adam(learning_rate=lr)
    return keras.optimizers.legacy.Adam(learning_rate=lr)


class Batches(keras.callbacks.Callback):
    """Shuffled batches in an order that depends on the seed and the epoch alone.

    Keras' own shuffling, and that of tf.data, depend on how often a version of Keras opens its data.

    Parameters
    ----------
    x, y : ndarray of shape (n_spectra, ...)
    batch_size : int
    seed : int

    Attributes
    ----------
    dataset : tf.data.Dataset
        Pairs of float32 tensors, in the order of the present epoch.
    """

    def __init__(self, x, y, batch_size, seed):
        super().__init__()
        self.seed, self.n_spectra = seed, len(x)
        self.order = tf.Variable(tf.range(self.n_spectra))
        same = y is x
        x = tf.constant(x, tf.float32)
        y = x if same else tf.constant(y, tf.float32)

        def gather(places):
            rows = tf.gather(self.order, places)
            return tf.gather(x, rows), tf.gather(y, rows)

        self.dataset = tf.data.Dataset.range(self.n_spectra).batch(batch_size).map(gather)

    def on_epoch_begin(self, epoch, logs=None):
        """Draw the order of this epoch."""
        self.order.assign(np.random.default_rng([self.seed, epoch]).permutation(self.n_spectra))


class SeededModel(keras.Model):
    """A functional model that trains on `Batches` in the order of its own `seed`."""

    def __init__(self, inputs, outputs, seed):
        super().__init__(inputs, outputs)
        self.seed = seed

    def fit(self, x, y, batch_size=32, callbacks=None, **kwargs):
        """Train as `keras.Model.fit` does, on arrays."""
        batches = Batches(x, y, batch_size, self.seed)
        kwargs["shuffle"] = False  # `batches` does it
        return super().fit(batches.dataset, callbacks=[*(callbacks or []), batches], **kwargs)


def _dense(units, activation, name, seed, reg_par=0.0):
    # Explicit seeds give the same initial weights in both versions of Keras.
    return keras.layers.Dense(
        units,
        activation=activation,
        name=name,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        activity_regularizer=keras.regularizers.L1(reg_par) if reg_par else None,
    )


def build_autoencoder(neurons_in, reg_par, n_pixels=paper.N_PIXELS, seed=0):
    """Build the autoencoder of Sect. 3.1, not compiled.

    Dense encoder n, 3n/4, n/2, n/4, n/8 -> bottleneck of 32 -> mirrored decoder -> n_pixels; ReLU, sigmoid
    at the output. Every hidden layer but the first of the encoder and the bottleneck carries an L1
    activity regulariser (which Keras divides by the batch size).

    Parameters
    ----------
    neurons_in : int
        Width n of the first encoder layer.
    reg_par : float
        Strength of the L1 activity regulariser.
    n_pixels : int
    seed : int
        Of the initial weights and of the order of the batches.

    Returns
    -------
    keras.Model
        Layers `encoded_1` .. `encoded_5`, `bottleneck`, `decoded_1` .. `decoded_5`, `output_l`.
    """
    widths = [int(fraction * neurons_in) for fraction in paper.ENCODER_FRACTIONS]
    h = spectrum = keras.Input((n_pixels,), name="input_l")
    for k, width in enumerate(widths, start=1):
        h = _dense(width, "relu", f"encoded_{k}", seed + k, reg_par if k > 1 else 0.0)(h)
    h = _dense(paper.N_LATENT, "relu", "bottleneck", seed + 100)(h)
    for k, width in enumerate(reversed(widths), start=1):
        h = _dense(width, "relu", f"decoded_{k}", seed + 200 + k, reg_par)(h)
    output = _dense(n_pixels, "sigmoid", "output_l", seed + 300)(h)
    return SeededModel(spectrum, output, seed)


def build_cnn(nf1, nf2, nu, n_latent=paper.N_LATENT, seed=0):
    """Build the CNN regressor of Sect. 3.3, not compiled: one parameter from one encoding.

    Parameters
    ----------
    nf1, nf2 : int
        Filters of the two convolutions (kernel 2, same padding, ReLU).
    nu : int
        Units of the last hidden dense layer.
    n_latent : int
    seed : int
        Of the initial weights and of the order of the batches.

    Returns
    -------
    keras.Model
        Input (n_spectra, n_latent, 1), output (n_spectra, 1), linear.
    """
    h = encoding = keras.Input((n_latent, 1), name="encoding")
    for k, filters in enumerate((nf1, nf2), start=1):
        h = keras.layers.Conv1D(
            filters,
            paper.CNN_KERNEL,
            padding="same",
            activation="relu",
            name=f"conv_{k}",
            kernel_initializer=keras.initializers.GlorotUniform(seed=seed + k),
        )(h)
    h = keras.layers.Flatten(name="flatten")(h)
    for k, units in enumerate((*paper.CNN_DENSE, nu), start=1):
        h = _dense(units, "relu", f"dense_{k}", seed + 100 + k)(h)
    return SeededModel(encoding, _dense(1, "linear", "estimate", seed + 200)(h), seed)


def contractive_penalty(h, kernel, variant="live"):
    """Penalty of the encoding h, one value a spectrum (Sect. 3.1).

    `live` and `frozen` are the formula of the published code, sum_j (h_j (1 - h_j))^2 sum_i W_ij^2: the
    derivative of a sigmoid, on a layer whose activation is ReLU. `exact` is the squared Frobenius norm
    of the Jacobian of the ReLU layer itself, sum_j [h_j > 0] sum_i W_ij^2.

    Parameters
    ----------
    h : tensor of shape (n_spectra, n_latent)
        Output of the bottleneck layer.
    kernel : tensor of shape (n_inputs, n_latent)
        W of the bottleneck layer.
    variant : {"live", "frozen", "exact", "none"}
        `frozen` differs from `live` only in the W that it is given, `none` only in its weight.

    Returns
    -------
    tensor of shape (n_spectra,)
    """
    slope = tf.cast(h > 0, h.dtype) if variant == "exact" else h * (1 - h)
    return tf.reduce_sum(tf.square(slope) * tf.reduce_sum(tf.square(kernel), axis=0), axis=1)


class ContractivePenalty(keras.layers.Layer):
    """Adds the weighted batch mean of the penalty to the loss and hands the reconstruction on."""

    def __init__(self, bottleneck, variant, weight):
        super().__init__(name="contractive_penalty")
        self.bottleneck, self.variant = bottleneck, variant
        self.weight = 0.0 if variant == "none" else weight
        self.initial_kernel = tf.constant(bottleneck.kernel.numpy())
        self.penalty = keras.metrics.Mean(name="penalty")

    def call(self, inputs):
        reconstruction, h = inputs
        kernel = self.initial_kernel if self.variant == "frozen" else self.bottleneck.kernel
        value = tf.reduce_mean(contractive_penalty(h, kernel, self.variant))
        self.add_loss(self.weight * value)
        self.penalty.update_state(value)
        return reconstruction


def with_penalty(autoencoder, variant="live", weight=paper.CONTRACTIVE_WEIGHT):
    """Return the model to train: same layers, and the contractive penalty in the loss.

    The penalty is logged as `penalty`, before it is multiplied by the weight. The autoencoder itself stays
    a plain model, which can be saved and loaded without custom objects.
    """
    bottleneck = autoencoder.get_layer("bottleneck")
    penalised = ContractivePenalty(bottleneck, variant, weight)([autoencoder.output, bottleneck.output])
    return SeededModel(autoencoder.input, penalised, autoencoder.seed)


def freeze(model, names=paper.FROZEN_LAYERS):
    """Freeze the layers of these names; compile afterwards."""
    for name in names:
        model.get_layer(name).trainable = False


def fit(model, x, y, batch_size, epochs, tick=None):
    """Train a compiled model in silence.

    Parameters
    ----------
    model : SeededModel
    x, y : ndarray of shape (n_spectra, ...)
    batch_size, epochs : int
    tick : callable, optional
        Called at the end of every epoch.

    Returns
    -------
    dict of str to list
        Losses and metrics, a value an epoch.
    """
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: tick())] if tick else []
    return model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0, callbacks=callbacks).history


def forget_models():
    """Let go of all networks built so far, which Keras would keep as long as a worker process lives."""
    keras.backend.clear_session()


def encoder_of(autoencoder):
    """Return the part of the autoencoder that ends in the bottleneck."""
    return keras.Model(autoencoder.input, autoencoder.get_layer("bottleneck").output)


def predict(model, x, rows=None):
    """Apply a network to spectra, a chunk at a time.

    Parameters
    ----------
    model : keras.Model
    x : ndarray of shape (n_spectra, ...)
        May be memory-mapped.
    rows : ndarray of int, optional
        Which spectra; default all.

    Returns
    -------
    ndarray of shape (n_spectra, n_outputs), float32
    """
    chunks = _chunks(x, rows)
    return np.concatenate([model(tf.constant(x[chunk], tf.float32), training=False).numpy() for chunk in chunks])


def mse(autoencoder, x, rows=None):
    """Mean squared error of the reconstruction of spectra, a float."""
    chunks = _chunks(x, rows)
    total = sum(float(np.square(predict(autoencoder, x, chunk) - x[chunk], dtype=float).sum()) for chunk in chunks)
    return total / (sum(map(len, chunks)) * x.shape[1])


def _chunks(x, rows):
    rows = np.arange(len(x)) if rows is None else rows
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


@contextlib.contextmanager
def _no_hdf5_warning():
    # Keras would have its own format instead; .h5 is what both versions and the published code read.
    # The loggers also say that the model is not compiled, which is how it is meant to be saved.
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def save(model, path):
    """Write a plain Keras model, which `keras.models.load_model(path, compile=False)` opens."""
    with _no_hdf5_warning():
        plain = keras.Model(model.input, model.output, name="network")  # unnamed, it would be numbered
        plain.save(str(path), include_optimizer=False)


def load(path, seed=0):
    """Rebuild the network that the sidecar of `path`, a Path, describes and load its weights.

    Works for files of either version of Keras in either version of Keras.
    """
    remedy = f"{path.name} opens without it in the Keras that wrote it"
    network = dict(artifacts.read_json(artifacts.sidecar_of(path), ["network"], remedy)["network"])
    builder = {"autoencoder": build_autoencoder, "cnn": build_cnn}[network.pop("kind")]
    model = builder(**network, seed=seed)
    model.load_weights(str(path))
    return model
