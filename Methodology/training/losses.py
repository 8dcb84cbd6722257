"""The loss of the autoencoders, and the readings of the contractive penalty (Sect. 3.1)."""
import paper
from training import stacks
from training.backend import keras, tf


def activity(model):
    """Sum of what the layers of a model added to the loss in its last call, a float32."""
    return sum((tf.cast(loss, tf.float32) for loss in model.losses), 0.0)


class ContractiveLoss:
    """Loss of the contractive autoencoder (Sect. 3.1): mean squared error, L1 activity, and weighted penalty.

    Called with spectra and targets of shape (batch_size, n_pixels) it gives the terms of the batch: `loss`, to be made
    small, `mse`, and `penalty` before it is weighted, in one of the readings of paper.PENALTIES. `jacobian` is exact up
    to a first layer of `paper.EXACT_JACOBIAN`, where that is cheap, else estimated with one vector of random signs for
    each spectrum and step, a function of the network's seed and the step alone.
    """

    def __init__(self, autoencoder, variant, weight):
        self.variant, self.weight, self.seed = variant, weight, autoencoder.seed
        self.layers = encoder_layers(autoencoder)
        self.network = keras.Model(autoencoder.input, [autoencoder.output, *(layer.output for layer in self.layers)])
        self.initial_kernel = tf.constant(self.layers[-1].kernel.numpy())
        self.step = tf.Variable(0, trainable=False, dtype=tf.int64)

    def __call__(self, x, y):
        reconstruction, *outputs = self.network(x, training=True)
        mse, penalty = tf.reduce_mean(tf.square(reconstruction - y)), tf.reduce_mean(self._penalty(outputs))
        weighted = 0.0 if self.variant == "none" else self.weight * penalty
        return {"loss": mse + activity(self.network) + weighted, "mse": mse, "penalty": penalty}

    def _penalty(self, outputs):
        if self.variant == "jacobian":
            estimated = self.layers[0].units > paper.EXACT_JACOBIAN
            return jacobian_penalty(self.layers, outputs, self.signs(tf.shape(outputs[-1])[0]) if estimated else None)
        kernel = self.initial_kernel if self.variant == "frozen" else self.layers[-1].kernel
        return contractive_penalty(outputs[-1], kernel, self.variant)

    def signs(self, n_spectra):
        """Draw +1 or -1 for each latent value, (n_spectra, n_latent), by the seed and the number of the step."""
        return random_signs(n_spectra, self.seed, self.step.assign_add(1))


class StackedContractiveLoss:
    """The terms of ContractiveLoss for a `stacks.AutoencoderStack`: their sum, and `loss`, `mse`, `penalty` of each."""

    def __init__(self, stack, variant, weight):
        self.stack, self.variant, self.weight = stack, variant, weight
        self.n_encoder = len(paper.ENCODER_FRACTIONS) + 1
        self.initial_kernel = tf.constant(stack.layers()[self.n_encoder - 1][0])
        self.step = tf.Variable(0, trainable=False, dtype=tf.int64)

    def __call__(self, x, y):
        *hidden, reconstruction = self.stack.outputs(x)
        mse = tf.reduce_mean(tf.square(reconstruction - tf.transpose(y, (1, 0, 2))), axis=(1, 2))
        penalty = tf.reduce_mean(self._penalty(hidden[: self.n_encoder]), axis=1)
        weighted = 0.0 if self.variant == "none" else self.weight * penalty
        return stacks.terms(loss=mse + self.stack.activity(hidden) + weighted, mse=mse, penalty=penalty)

    def _penalty(self, outputs):
        kernels = [kernel for kernel, _ in self.stack.layers()[: self.n_encoder]]
        if self.variant == "jacobian":
            signs = None
            if kernels[0].shape[-1] > paper.EXACT_JACOBIAN:
                n_spectra, step = tf.shape(outputs[-1])[1], self.step.assign_add(1)
                signs = tf.stack([random_signs(n_spectra, seed, step) for seed in self.stack.seeds])
            return stacked_jacobian_penalty(kernels, outputs, signs)
        return contractive_penalty(outputs[-1], self.initial_kernel if self.variant == "frozen" else kernels[-1],
                                   self.variant)


def random_signs(n_spectra, seed, step):
    """+1 or -1 for each latent value, (n_spectra, n_latent), by a seed and the number of the step."""
    key = tf.stack([tf.constant(seed, tf.int64), step])
    bits = tf.random.stateless_uniform((n_spectra, paper.N_LATENT), key, 0, 2, tf.int32)
    return tf.cast(2 * bits - 1, tf.float32)


def encoder_layers(autoencoder):
    """The layers of the encoder in their order, the bottleneck last."""
    names = [f"encoded_{k}" for k in range(1, len(paper.ENCODER_FRACTIONS) + 1)]
    return [autoencoder.get_layer(name) for name in (*names, "bottleneck")]


def contractive_penalty(h, kernel, variant):
    """Penalty that sees the bottleneck layer alone, of its output h, (..., n_spectra, n_latent): (..., n_spectra).

    `live` and `frozen` are the formula of the published code, sum_j (h_j (1 - h_j))^2 sum_i W_ij^2, with the kernel
    W, (..., n_inputs, n_latent): the derivative of a sigmoid, on a layer whose activation is ReLU. That code, where it
    runs at all, keeps W as it was before training: `frozen`. To follow W, `live`, is our reading of what it was meant
    to do, and our default. `exact` is the squared Frobenius norm of the Jacobian of that layer with respect to its own
    input, sum_j [h_j > 0] sum_i W_ij^2. `none` differs only in its weight.
    """
    slope = tf.cast(h > 0, h.dtype) if variant == "exact" else h * (1 - h)
    return tf.reduce_sum(tf.square(slope) * tf.reduce_sum(tf.square(kernel), axis=-2, keepdims=True), axis=-1)


def jacobian_penalty(layers, outputs, signs=None):
    """Squared Frobenius norm of the Jacobian of the whole encoder with respect to the spectrum, (n_spectra,).

    This is the penalty of the paper's text (Sect. 3.1; Rifai et al. 2011, ICML 28, 833). The Jacobian J of layers
    of ReLU is a product of their weights, of which each layer lets through the columns of its positive `outputs`, each
    (n_spectra, n_units). Unit vectors of all positive latent values, taken back through it, give ||J||^2 exactly; a
    vector v of random signs, (n_spectra, n_latent), gives ||v^T J||^2 for the price of one row, whose mean over v is
    ||J||^2 (Hutchinson 1990, Communications in Statistics 19, 433). Each layer computes in its own precision.
    """
    *hidden, h = outputs
    n_spectra = tf.shape(h)[0]
    if signs is None:
        place = tf.where(h > 0)
        spectrum, rows = tf.cast(place[:, 0], tf.int32), tf.one_hot(place[:, 1], h.shape[1])
    else:
        spectrum, rows = tf.range(n_spectra), tf.where(h > 0, signs, tf.zeros_like(signs))
    for layer, below in zip(layers[:0:-1], hidden[::-1]):
        rows = _back(rows, layer)
        rows *= tf.gather(tf.cast(below > 0, rows.dtype), spectrum)
    squares = tf.square(tf.cast(_back(rows, layers[0]), tf.float32))
    return tf.math.unsorted_segment_sum(tf.reduce_sum(squares, axis=1), spectrum, n_spectra)


def _back(rows, layer):
    kernel = tf.convert_to_tensor(layer.kernel)
    rows, kernel = (tf.cast(part, layer.compute_dtype) for part in (rows, kernel))
    return tf.matmul(rows, kernel, transpose_b=True)


def stacked_jacobian_penalty(kernels, outputs, signs=None):
    """`jacobian_penalty` of a stack, (n_members, n_spectra); kernels, outputs and signs have the members first.

    Without signs all unit vectors are taken back, those of latent values that are not positive as zeros.
    """
    *hidden, h = outputs
    positive = tf.cast(h > 0, tf.float32)
    vectors = tf.linalg.diag(positive) if signs is None else (signs * positive)[:, :, None]
    n_members, n_vectors = kernels[0].shape[0], vectors.shape[2]
    rows = tf.reshape(vectors, (n_members, -1, h.shape[-1]))
    for kernel, below in zip(kernels[:0:-1], hidden[::-1]):
        rows = tf.matmul(rows, kernel, transpose_b=True) * tf.repeat(tf.cast(below > 0, tf.float32), n_vectors, axis=1)
    squares = tf.reduce_sum(tf.square(tf.matmul(rows, kernels[0], transpose_b=True)), axis=-1)
    return tf.reduce_sum(tf.reshape(squares, (n_members, -1, n_vectors)), axis=-1)
