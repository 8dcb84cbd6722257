"""The readings of the contractive penalty, and the loss of the autoencoders that has it (Sect. 3.1)."""
import paper
from training import loop
from training.backend import keras, tf


def encoder_layers(autoencoder):
    """The layers of the encoder in their order, the bottleneck last."""
    names = [f"encoded_{k}" for k in range(1, len(paper.ENCODER_FRACTIONS) + 1)]
    return [autoencoder.get_layer(name) for name in (*names, "bottleneck")]


def contractive_penalty(h, kernel, variant="live"):
    """Penalty that sees the bottleneck layer alone, one value a spectrum.

    `live` and `frozen` are the formula of the published code, sum_j (h_j (1 - h_j))^2 sum_i W_ij^2: the
    derivative of a sigmoid, on a layer whose activation is ReLU. That code, where it runs at all, reads W once and
    keeps it as it was before training: `frozen`. To follow W, `live`, is our reading of what it was meant to do, and
    our default. `exact` is the true one of that layer: the squared Frobenius norm of its Jacobian with respect to
    its own input, sum_j [h_j > 0] sum_i W_ij^2. None of them is the Jacobian of the whole encoder, which the
    paper's text defines; that is `jacobian_penalty`.

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


def jacobian_penalty(layers, outputs, signs=None):
    """Squared Frobenius norm of the Jacobian of the whole encoder with respect to the spectrum, one value a spectrum.

    This is the penalty of the paper's text (Sect. 3.1; Rifai et al. 2011, ICML 28, 833). The Jacobian J of layers
    of ReLU is a product of their weights, of which each layer lets through the columns of its positive outputs.
    Rows of J are made by taking unit vectors back through it: those of all positive latent values give ||J||^2
    exactly, and a vector v of random signs gives ||v^T J||^2, whose mean over v is ||J||^2 (Hutchinson 1990,
    Communications in Statistics 19, 433), for the price of one row.

    Parameters
    ----------
    layers : list of keras.layers.Dense
        Of the encoder, as `encoder_layers` gives them. Each computes in its own precision here too.
    outputs : list of tensor of shape (n_spectra, n_units)
        Of these layers.
    signs : tensor of shape (n_spectra, n_latent), optional
        A vector v of +1 and -1 for every spectrum; by default the norm is exact.

    Returns
    -------
    tensor of shape (n_spectra,)
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


def _random_signs(seed):
    """Function that draws +1 or -1 for each latent value of n spectra, by the seed and the number of the call."""
    calls = tf.Variable(0, trainable=False, dtype=tf.int64)

    def draw(n_spectra):
        key = tf.stack([tf.constant(seed, tf.int64), calls.assign_add(1)])
        bits = tf.random.stateless_uniform((n_spectra, paper.N_LATENT), key, 0, 2, tf.int32)
        return tf.cast(2 * bits - 1, tf.float32)

    return draw


def contractive_loss(autoencoder, variant="live", weight=paper.CONTRACTIVE_WEIGHT):
    """Loss of the contractive autoencoder (Sect. 3.1): mean squared error, L1 activity, and weighted penalty.

    Parameters
    ----------
    autoencoder : SeededModel
    variant : {"live", "frozen", "exact", "jacobian", "none"}
        See `contractive_penalty` and `jacobian_penalty`. `jacobian` is exact for encoders up to a first layer of
        `paper.EXACT_JACOBIAN`, where that is cheap, else estimated with one vector of random signs for each
        spectrum and step, a function of the network's seed and the step alone.
    weight : float

    Returns
    -------
    callable(x, y)
        The terms `loss`, to be made small, `mse`, and `penalty` before it is weighted, of a batch.
    """
    layers = encoder_layers(autoencoder)
    bottleneck = layers[-1]
    both = keras.Model(autoencoder.input, [autoencoder.output, *(layer.output for layer in layers)])
    initial_kernel = tf.constant(bottleneck.kernel.numpy())
    estimated = variant == "jacobian" and layers[0].units > paper.EXACT_JACOBIAN
    draw = _random_signs(autoencoder.seed) if estimated else lambda n_spectra: None

    def terms(x, y):
        reconstruction, *outputs = both(x, training=True)
        if variant == "jacobian":
            penalty = jacobian_penalty(layers, outputs, draw(tf.shape(x)[0]))
        else:
            kernel = initial_kernel if variant == "frozen" else bottleneck.kernel
            penalty = contractive_penalty(outputs[-1], kernel, variant)
        mse, penalty = tf.reduce_mean(tf.square(reconstruction - y)), tf.reduce_mean(penalty)
        weighted = 0.0 if variant == "none" else weight * penalty
        return {"loss": mse + loop.activity(both.losses) + weighted, "mse": mse, "penalty": penalty}

    return terms
