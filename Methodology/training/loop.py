"""Training a network: the loop over blocks of batches, in an order that can be had again, and divergence."""
import concurrent.futures
import functools

import numpy as np

from training import backend
from training.backend import tf
from workflow.files import UnitFailed, take

BLOCK = 1 << 20  # numbers handed to TensorFlow at a time, so that memory stays flat


class Diverged(UnitFailed):
    """The loss is no finite number any more."""


def fit(model, terms, optimizer, x, y, batch_size, epochs, tick=None, rows=None, perturb=None):
    """Train a network on shuffled batches, in an order that depends on its seed and the epoch alone.

    A block of batches is read at a time, so that memory stays flat, and is one call into TensorFlow: for networks as
    small as the CNNs, Keras' own loop costs more than they do.

    `x` and `y`, of shape (n_spectra, ...), may be memory-mapped and the same array. terms(x, y) gives the terms of a
    batch's loss, a dict of scalar tensors, of which the first is made small; tick() is called after every epoch;
    perturb(x, rows, epoch) gives what the network sees in place of spectra; `rows` are those to train on, by default
    all, for a stack a column a member. Returns the terms, a dict of lists with a mean over the spectra for every epoch.
    Where one, or a weight, is not finite: Diverged.
    """
    rows = np.arange(len(x)) if rows is None else rows
    targets = x if y is x else np.reshape(y, (len(y), -1))
    shapes = [(None, *rows.shape[1:], *array.shape[1:]) for array in (x, targets)]
    names, train = _on_a_block(model.trainable_variables, terms, optimizer, batch_size, shapes)
    history, block = [], max(1, BLOCK // (batch_size * int(np.prod(shapes[0][1:])))) * batch_size
    for epoch in range(epochs):
        order, log = np.take_along_axis(rows, model.order(epoch, len(rows)), axis=0), []
        parts = (order[start : start + block] for start in range(0, len(order), block))
        for given, wanted in _ahead(functools.partial(_examples, x, targets, perturb, epoch), parts):
            given_tensor = tf.constant(given)
            log.append(train(given_tensor, given_tensor if wanted is given else tf.constant(wanted)))
        sizes = np.minimum(batch_size, len(order) - np.arange(0, len(order), batch_size))
        history.append(np.average(np.concatenate(log), axis=0, weights=sizes))
        weights_finite = all(bool(tf.reduce_all(tf.math.is_finite(w))) for w in model.trainable_variables)
        if not (weights_finite and np.isfinite(history[-1]).all()):
            raise Diverged(f"diverged in epoch {epoch + 1} of {epochs}: it needs a smaller learning rate")
        if tick:
            tick()
    return dict(zip(names, np.transpose(history).tolist()))


def _examples(x, targets, perturb, epoch, part):
    """What the network is given of some spectra, and what it is to give."""

    def read(array):
        return take(array, part.ravel()).reshape(part.shape + array.shape[1:])

    clean = read(x)
    given = clean if perturb is None else perturb(clean, part, epoch)
    return given, clean if targets is x else read(targets)


def _ahead(make, parts):
    """Yield what is made of each part, the next one made by another thread while this one is used."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        waiting = None
        for part in parts:
            waiting, ready = thread.submit(make, part), waiting
            if ready:
                yield ready.result()
        if waiting:
            yield waiting.result()


def _on_a_block(weights, terms, optimizer, batch_size, shapes):
    """Give the names of the terms, known after the first call, and a function that trains on a block of batches."""
    # Else the loop below would make the state of the optimiser, and be built twice for it.
    backend.build(optimizer, weights)
    names = []

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32) for shape in shapes])
    def train(x, y):
        n_batches = -(-tf.shape(x)[0] // batch_size)
        log = tf.TensorArray(tf.float32, n_batches)
        for k in tf.range(n_batches):
            batch = slice(k * batch_size, (k + 1) * batch_size)
            with tf.GradientTape() as tape:
                values = terms(x[batch], y[batch])
                loss, *_ = values.values()
            gradients = tape.gradient(loss, weights)
            with tf.control_dependencies(gradients):  # a variable that is still read would be copied for its update
                gradients = [tf.identity(gradient) for gradient in gradients]
            optimizer.apply_gradients(zip(gradients, weights))
            names[:] = values
            log = log.write(k, tf.stack(list(values.values())))
        return log.stack()

    return names, train
