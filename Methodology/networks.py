"""The two networks of the paper, the contractive penalty, freezing, saving and loading.

This is the one module that knows that two versions of Keras exist (2.13 and 3).
"""
import contextlib
import gc
import logging
import warnings

import keras
import numpy as np
import tensorflow as tf

import artifacts
import paper

__all__ = [
    "CnnStack", "SeededModel", "adam", "build_autoencoder", "build_cnn", "contractive_loss", "contractive_penalty",
    "device", "encoder_of", "fit", "forget_models", "freeze", "has_bfloat16", "load", "mse", "predict", "save",
    "squared_error",
]  # fmt: skip

CHUNK = 1024  # spectra predicted at a time, so that memory stays flat
BLOCK = 1 << 20  # numbers handed to TensorFlow at a time in training, likewise
KERAS_3 = keras.__version__.startswith("3")

for _gpu in tf.config.list_physical_devices("GPU"):  # else the first process takes all of its memory
    tf.config.experimental.set_memory_growth(_gpu, True)


def adam(lr):
    """Adam with the given learning rate, in both versions of Keras as one fused operation a variable.

    Neither adds up the gradients of several copies of a network, for which TensorFlow registers a function a
    training that keeps its weights in memory for as long as the process lives.
    """
    if not KERAS_3:
        return keras.optimizers.legacy.Adam(learning_rate=lr, gradient_aggregator=list)
    return FusedAdam(learning_rate=lr)


class FusedAdam(keras.optimizers.Adam):
    """Adam of Keras 3, each update one operation of TensorFlow instead of a dozen."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        dtype = grads[0].dtype
        step = tf.cast(self.iterations + 1, dtype)
        shared = {"beta1_power": self.beta_1**step, "beta2_power": self.beta_2**step,
                  "lr": tf.cast(learning_rate, dtype), "beta1": self.beta_1, "beta2": self.beta_2,
                  "epsilon": self.epsilon}  # fmt: skip
        for gradient, variable in zip(grads, trainable_variables):
            index = self._get_variable_index(variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle, m=self._momentums[index].value.handle,
                v=self._velocities[index].value.handle, grad=gradient, **shared,
            )  # fmt: skip


class SeededModel(keras.Model):
    """A functional model with the `seed` of its weights, which is also that of the order of its batches."""

    def __init__(self, inputs, outputs, seed):
        super().__init__(inputs, outputs)
        self.seed = seed

    def order(self, epoch, n_spectra):
        """Order of the spectra in an epoch, (n_spectra,)."""
        return np.random.default_rng([self.seed, epoch]).permutation(n_spectra)

    def fit(self, x, y, batch_size, epochs, rows=None, **_):
        """Train as `fit` below does; this is how scikit-learn calls it, with more of Keras' defaults."""
        if x.shape == y.shape and np.may_share_memory(x, y):  # scikit-learn hands on views
            y = x
        history = keras.callbacks.History()
        history.history = fit(self, squared_error(self), self.optimizer, x, y, batch_size, epochs, rows=rows)
        return history


def _dense(units, activation, name, seed, reg_par=0.0, dtype="float32"):
    # Explicit seeds give the same initial weights in both versions of Keras.
    return keras.layers.Dense(
        units,
        dtype=dtype,
        activation=activation,
        name=name,
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        activity_regularizer=keras.regularizers.L1(reg_par) if reg_par else None,
    )


def build_autoencoder(neurons_in, reg_par, n_pixels=paper.N_PIXELS, seed=0, precision="float32"):
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
    precision : {"float32", "bfloat16"}
        Of the arithmetic in all layers but the bottleneck and the output; weights are always float32.

    Returns
    -------
    keras.Model
        Layers `encoded_1` .. `encoded_5`, `bottleneck`, `decoded_1` .. `decoded_5`, `output_l`.
    """
    widths = [int(fraction * neurons_in) for fraction in paper.ENCODER_FRACTIONS]
    dtype = "mixed_bfloat16" if precision == "bfloat16" else precision
    h = spectrum = keras.Input((n_pixels,), name="input_l")
    for k, width in enumerate(widths, start=1):
        h = _dense(width, "relu", f"encoded_{k}", seed + k, reg_par if k > 1 else 0.0, dtype)(h)
    h = _dense(paper.N_LATENT, "relu", "bottleneck", seed + 100)(h)
    for k, width in enumerate(reversed(widths), start=1):
        h = _dense(width, "relu", f"decoded_{k}", seed + 200 + k, reg_par, dtype)(h)
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


class CnnStack:
    """CNNs of one architecture as one network, for a GPU, where a network as small as theirs leaves most of it idle.

    They share nothing: every weight has a leading axis of members, every member its own encodings, targets and
    order of batches, and Adam works element by element. Each ends as it would alone, but for rounding.

    Parameters
    ----------
    cnns : list of SeededModel
        As `build_cnn` makes them. Their weights change only with `unstack`.
    """

    def __init__(self, cnns):
        self.cnns = cnns
        variable = keras.Variable if KERAS_3 else tf.Variable
        self.trainable_variables = [variable(np.stack(w)) for w in zip(*(cnn.get_weights() for cnn in cnns))]

    def order(self, epoch, n_spectra):
        """Order of the spectra in an epoch, a column a member, (n_spectra, n_members)."""
        return np.stack([cnn.order(epoch, n_spectra) for cnn in self.cnns], axis=1)

    def __call__(self, x):
        """Outputs, (batch_size, n_members), of encodings of shape (batch_size, n_members, n_latent, 1)."""
        h = tf.transpose(x, (1, 0, 2, 3))
        weights = [tf.convert_to_tensor(w) for w in self.trainable_variables]
        *hidden, last = zip(weights[::2], weights[1::2])
        for kernel, bias in hidden[:2]:  # a convolution of width 2 is a product with two neighbours side by side
            pairs = tf.concat([h, tf.pad(h[:, :, 1:], ((0, 0), (0, 0), (0, 1), (0, 0)))], axis=-1)
            kernel = tf.reshape(kernel, (len(self.cnns), -1, kernel.shape[-1]))
            h = tf.nn.relu(tf.einsum("mblc,mcf->mblf", pairs, kernel) + bias[:, None, None])
        h = tf.reshape(h, (len(self.cnns), -1, h.shape[2] * h.shape[3]))
        for kernel, bias in hidden[2:]:
            h = tf.nn.relu(h @ kernel + bias[:, None])
        return tf.transpose((h @ last[0] + last[1][:, None])[..., 0])

    def squared_error(self, x, y):
        """Terms of a batch's loss: the sum to be made small and, by its place, the mean squared error of each."""
        errors = tf.unstack(tf.reduce_mean(tf.square(self(x) - y), axis=0), len(self.cnns))
        return {"loss": tf.add_n(errors), **dict(enumerate(errors))}

    def unstack(self):
        """Give the weights back to the CNNs."""
        for cnn, *weights in zip(self.cnns, *(w.numpy() for w in self.trainable_variables)):
            cnn.set_weights(weights)


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


def squared_error(model):
    """Loss of a network that has to give the targets: mean squared error and what its layers add to it.

    Returns
    -------
    callable(x, y)
        The terms `loss`, to be made small, and `mse` of a batch.
    """

    def terms(x, y):
        mse = tf.reduce_mean(tf.square(model(x, training=True) - y))
        return {"loss": mse + _sum(model.losses), "mse": mse}

    return terms


def contractive_loss(autoencoder, variant="live", weight=paper.CONTRACTIVE_WEIGHT):
    """Loss of the contractive autoencoder (Sect. 3.1): mean squared error, L1 activity, and weighted penalty.

    Returns
    -------
    callable(x, y)
        The terms `loss`, to be made small, `mse`, and `penalty` before it is weighted, of a batch.
    """
    bottleneck = autoencoder.get_layer("bottleneck")
    both = keras.Model(autoencoder.input, [autoencoder.output, bottleneck.output])
    initial_kernel = tf.constant(bottleneck.kernel.numpy())

    def terms(x, y):
        reconstruction, h = both(x, training=True)
        kernel = initial_kernel if variant == "frozen" else bottleneck.kernel
        mse = tf.reduce_mean(tf.square(reconstruction - y))
        penalty = tf.reduce_mean(contractive_penalty(h, kernel, variant))
        weighted = 0.0 if variant == "none" else weight * penalty
        return {"loss": mse + _sum(both.losses) + weighted, "mse": mse, "penalty": penalty}

    return terms


def _sum(losses):
    return sum((tf.cast(loss, tf.float32) for loss in losses), 0.0)


def freeze(model, names=paper.FROZEN_LAYERS):
    """Freeze the layers of these names, before `fit` looks which weights it trains."""
    for name in names:
        model.get_layer(name).trainable = False


def fit(model, terms, optimizer, x, y, batch_size, epochs, tick=None, rows=None):
    """Train a network on shuffled batches, in an order that depends on its seed and the epoch alone.

    Spectra are read a block of batches at a time, so that memory stays flat however many there are, and a block
    is one call into TensorFlow: for networks as small as the CNNs, Keras' own loop costs more than they do.

    Parameters
    ----------
    model : SeededModel or CnnStack
    terms : callable(x, y)
        Gives the terms of a batch's loss, a dict of scalar tensors; the first of them is made small.
    optimizer : keras.optimizers.Optimizer
    x, y : ndarray of shape (n_spectra, ...)
        May be memory-mapped, and the same array. Those of a stack have its members on the second axis.
    batch_size, epochs : int
    tick : callable, optional
        Called at the end of every epoch.
    rows : ndarray of int, optional
        Which spectra to train on; default all.

    Returns
    -------
    dict of str to list
        The terms, a mean over the spectra for every epoch.
    """
    rows = np.arange(len(x)) if rows is None else rows
    targets = x if y is x else np.reshape(y, (len(y), -1))
    weights = model.trainable_variables
    # Else the loop below would make the state of the optimiser, and be built twice for it.
    (optimizer.build if hasattr(optimizer, "build") else optimizer._create_all_weights)(weights)
    names = []

    @tf.function(input_signature=[tf.TensorSpec((None, *part.shape[1:]), tf.float32) for part in (x, targets)])
    def train(x, y):
        n_batches = -(-tf.shape(x)[0] // batch_size)
        log = tf.TensorArray(tf.float32, n_batches)
        for batch in tf.range(n_batches):
            part = slice(batch * batch_size, (batch + 1) * batch_size)
            with tf.GradientTape() as tape:
                found = terms(x[part], y[part])
                loss, *_ = found.values()
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
            names[:] = found
            log = log.write(batch, tf.stack(list(found.values())))
        return log.stack()

    history = []
    block = max(1, BLOCK // (batch_size * int(np.prod(x.shape[1:])))) * batch_size
    for epoch in range(epochs):
        order = rows[model.order(epoch, len(rows))]
        log = []
        for start in range(0, len(order), block):
            part = order[start : start + block]
            if part.ndim > 1:  # a column a member
                part = (part, np.arange(part.shape[1]))
            spectra = tf.constant(artifacts.take(x, part))
            log.append(train(spectra, spectra if targets is x else tf.constant(artifacts.take(targets, part))))
        sizes = np.minimum(batch_size, len(order) - np.arange(0, len(order), batch_size))
        history.append(np.average(np.concatenate(log), axis=0, weights=sizes))
        if tick:
            tick()
    return dict(zip(names, np.transpose(history).tolist()))


def has_bfloat16():
    """Whether a GPU or this processor computes in bfloat16."""
    if tf.config.list_physical_devices("GPU"):
        return True
    with contextlib.suppress(OSError):
        return bool({"avx512_bf16", "amx_bf16"} & set(open("/proc/cpuinfo").read().split()))
    return False


def device(number):
    """Context in which TensorFlow uses the GPU of this machine whose turn it is, or its CPU if it has none."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.device(gpus[number % len(gpus)].name if gpus else "CPU:0")


def forget_models():
    """Let go of all networks built so far, which Keras would keep as long as a worker process lives."""
    keras.backend.clear_session()
    if not KERAS_3:  # there it does this itself
        gc.collect()


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
    return np.concatenate([model(artifacts.take(x, chunk), training=False).numpy() for chunk in chunks])


def mse(model, x, rows=None, y=None):
    """Mean squared error of a network, a float: against `y`, or against `x` itself if it reconstructs."""
    targets = x if y is None else np.reshape(y, (len(y), -1))
    chunks = _chunks(x, rows)
    total = sum(np.square(predict(model, x, chunk) - artifacts.take(targets, chunk), dtype=float).sum()
                for chunk in chunks)  # fmt: skip
    return float(total) / (sum(map(len, chunks)) * targets.shape[1])


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
