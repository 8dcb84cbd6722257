"""The two networks of the paper, saving and loading."""
from types import SimpleNamespace

import h5py
import numpy as np

import paper
from training import loop, losses
from training.backend import keras, tf
from workflow import schemas
from workflow.files import BadInput, chunks, one_line, take, writing
from workflow.units import read_sidecar, sidecar_of


class SeededModel(keras.Model):
    """A functional model with the `seed` of its weights, which is also that of the order of its batches."""

    def __init__(self, inputs, outputs, seed):
        super().__init__(inputs, outputs)
        self.seed = seed

    def order(self, epoch, n_spectra):
        """Order of the spectra in an epoch, (n_spectra,)."""
        return np.random.default_rng([self.seed, epoch]).permutation(n_spectra)

    def squared_error(self, x, y):
        """Terms of a batch's loss: mean squared error and what the layers add to it, to be made small; and `mse`."""
        mse = tf.reduce_mean(tf.square(self(x, training=True) - y))
        return {"loss": mse + losses.activity(self), "mse": mse}

    def fit(self, x, y, batch_size, epochs, rows=None, **_):
        """Train as `loop.fit` does; this is how scikit-learn calls it, with more of Keras' defaults."""
        y = x if x.shape == y.shape and np.may_share_memory(x, y) else y  # scikit-learn hands on views
        history = loop.fit(self, self.squared_error, self.optimizer, x, y, batch_size, epochs, rows=rows)
        return SimpleNamespace(history=history)


class CnnRegressor(SeededModel):
    """A CNN of `build_cnn`, whose kernels are of width 2, the `paper.CNN_KERNEL`."""

    def squared_error(self, x, y):
        """The terms of any network but for rounding; convolutions are products, of which Keras' own take longer."""
        weights = [tf.convert_to_tensor(weight) for weight in self.trainable_variables]
        (first, bias), second, *dense = zip(weights[::2], weights[1::2])
        pairs = tf.reshape(tf.concat([x, _next(x)], axis=-1), (-1, first.shape[0]))
        h = tf.nn.relu(tf.nn.bias_add(pairs @ first[:, 0], bias))
        h = tf.reshape(h, (-1, x.shape[1], first.shape[2]))
        h = tf.nn.relu(tf.nn.bias_add(_convolved(h, second[0]), second[1]))
        h = tf.reshape(h, (-1, h.shape[1] * h.shape[2]))
        for kernel, bias in dense[:-1]:
            h = tf.nn.relu(tf.nn.bias_add(h @ kernel, bias))
        (kernel, bias), = dense[-1:]
        mse = tf.reduce_mean(tf.square(tf.nn.bias_add(h @ kernel, bias) - y))
        return {"loss": mse, "mse": mse}


def _next(h):
    """The neighbours to the right, and zeros for that of the last, of (n_spectra, length, n)."""
    return tf.pad(h[:, 1:], ((0, 0), (0, 1), (0, 0)))


@tf.custom_gradient
def _convolved(h, kernel):
    """A convolution of width 2 over (n_spectra, length, n_in), kernel (2, n_in, n_out): (n_spectra, length, n_out)."""
    (own, after), (_, length, n_in) = tf.unstack(kernel), h.shape
    flat, n_out = tf.reshape(h, (-1, n_in)), own.shape[1]

    def gradients(upstream):  # TensorFlow's would cut and fill up what is put side by side here
        before = tf.pad(upstream[:, :-1], ((0, 0), (1, 0), (0, 0)))
        both = tf.reshape(tf.concat([upstream, before], axis=-1), (-1, 2 * n_out))
        of_h = tf.matmul(both, tf.concat([own, after], axis=1), transpose_b=True)
        return tf.reshape(of_h, (-1, length, n_in)), tf.stack(tf.split(tf.matmul(flat, both, transpose_a=True), 2, 1))

    of_own, of_after = (tf.reshape(flat @ half, (-1, length, n_out)) for half in (own, after))
    return of_own + _next(of_after), gradients


def _dense(units, activation, name, seed, reg_par=0.0, dtype="float32"):
    # Explicit seeds give the same initial weights in both versions of Keras.
    regularizer = keras.regularizers.L1(reg_par) if reg_par else None
    return keras.layers.Dense(units, activation, name=name, dtype=dtype, activity_regularizer=regularizer,
                              kernel_initializer=keras.initializers.GlorotUniform(seed=seed))


def build_autoencoder(neurons_in, reg_par, n_pixels=paper.N_PIXELS, seed=0, precision="float32"):
    """Build the autoencoder of Sect. 3.1, not compiled, with `neurons_in` units in its first layer.

    Dense encoder n, 3n/4, n/2, n/4, n/8 -> bottleneck of 32 -> mirrored decoder -> n_pixels; ReLU, sigmoid at the
    output. Every hidden layer but the first of the encoder and the bottleneck carries an L1 activity regulariser of
    strength `reg_par` (which Keras divides by the batch size). `seed` is that of the initial weights and of the order
    of the batches; "bfloat16" is the arithmetic of all layers but the bottleneck and the output, never the weights.
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
    """Build the CNN regressor of Sect. 3.3, not compiled: (n_spectra, n_latent, 1) to (n_spectra, 1).

    `nf1` and `nf2` are the filters of the two convolutions (kernel 2, same padding, ReLU), `nu` the units of the last
    hidden dense layer, `seed` that of the initial weights and of the order of the batches.
    """
    h = encoding = keras.Input((n_latent, 1), name="encoding")
    for k, filters in enumerate((nf1, nf2), start=1):
        h = keras.layers.Conv1D(filters, paper.CNN_KERNEL, padding="same", activation="relu", name=f"conv_{k}",
                                kernel_initializer=keras.initializers.GlorotUniform(seed=seed + k))(h)
    h = keras.layers.Flatten(name="flatten")(h)
    for k, units in enumerate((*paper.CNN_DENSE, nu), start=1):
        h = _dense(units, "relu", f"dense_{k}", seed + 100 + k)(h)
    return CnnRegressor(encoding, _dense(1, "linear", "estimate", seed + 200)(h), seed)


def encoder_of(autoencoder):
    """Return the part of the autoencoder that ends in the bottleneck."""
    return keras.Model(autoencoder.input, autoencoder.get_layer("bottleneck").output)


def compiled(model, *layers):
    """A function of spectra, (n_spectra, ...), compiled once: outputs of these layers and of the network, a list.

    It takes the weights that the network has when it is called.
    """
    whole = keras.Model(model.input, [*(model.get_layer(name).output for name in layers), model.output])
    shape = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    graph = tf.function(lambda x: tf.nest.flatten(whole(x, training=False)), input_signature=[shape])
    return lambda x: [output.numpy() for output in graph(x)]


# ---------------------------------------------------------------- predictions
def _applied(model, x, rows):
    """Some rows of x, by default all, and what the network makes of them: (rows, x, output), a chunk at a time."""
    for chunk in chunks(len(x) if rows is None else rows):
        spectra = take(x, chunk)
        yield chunk, spectra, model(spectra, training=False).numpy()


def predict(model, x, rows=None):
    """Apply a network to spectra, (n_spectra, ...), which may be memory-mapped: (n_spectra, n_outputs), float32."""
    return np.concatenate([output for *_, output in _applied(model, x, rows)])


def mse(model, x, rows=None, y=None):
    """Mean squared error of a network, a float: against `y`, or against `x` itself if it reconstructs."""
    targets = None if y is None else np.reshape(y, (len(y), -1))
    total = size = 0
    for chunk, spectra, output in _applied(model, x, rows):
        target = spectra if y is None else take(targets, chunk)
        total += np.square(output - target, dtype=float).sum()
        size += target.size
    return float(total) / size


def errors(autoencoder, x, rows):
    """Mean squared error of the reconstruction of each of these spectra, (len(rows),)."""
    return np.concatenate([np.square(spectra - output).mean(axis=1, dtype=float)
                           for _, spectra, output in _applied(autoencoder, x, rows)])


def residual(autoencoder, x, rows):
    """Spectrum minus reconstruction in every pixel, mean and standard deviation over these spectra, (2, n_pixels)."""
    total = square = 0
    for _, spectra, output in _applied(autoencoder, x, rows):
        difference = spectra - output
        total = total + difference.sum(axis=0, dtype=float)
        square = square + np.square(difference, dtype=float).sum(axis=0)
    mean = total / len(rows)
    return np.array([mean, np.sqrt(np.maximum(square / len(rows) - mean**2, 0))], np.float32)


# ---------------------------------------------------------------- files
class _Named(h5py.File):
    """An HDF5 file that Keras takes for one on disk by its name."""

    __str__ = h5py.File.filename.fget


def save(model, path):
    """Write a plain Keras model as HDF5, which both versions of Keras and the published code open with `load_model`.

    It is put together in memory, since on a full disk the HDF5 library ends the process.
    """
    plain = keras.Model(model.input, model.output, name="network")  # unnamed, it would be numbered
    with writing(path) as partial, _Named("network.h5", "w", driver="core", backing_store=False) as file:
        plain.save(file, include_optimizer=False)
        file.flush()
        partial.write_bytes(file.id.get_file_image())


def load(path, seed=0, into=None):
    """Rebuild the network that the sidecar of a file of either version of Keras describes, and load its weights.

    To build a CNN takes six times as long: of many of one shape each can be loaded `into` the network of the last.
    """
    shape = read_sidecar(path).network
    if shape is None:
        raise BadInput(f"{sidecar_of(path)} has no network: {path.name} opens in the Keras that wrote it")
    arguments = schemas.plain(shape)
    builder = {"autoencoder": build_autoencoder, "cnn": build_cnn}[arguments.pop("kind")]
    model = into or builder(**arguments, seed=seed)
    try:
        model.load_weights(str(path))
    except Exception as error:  # h5py's OSError, or what either Keras says of other layers
        raise BadInput(f"{path} is truncated or not the network of its sidecar ({one_line(error)[:120]}): delete it, "
                       "and the script that makes it makes it again") from None
    return model
