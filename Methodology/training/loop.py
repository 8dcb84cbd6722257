"""Training a network: Adam, the loop over blocks of batches, divergence, devices.

This is the one module that knows that two versions of Keras exist (2.13 and 3).
"""
import concurrent.futures
import contextlib
import functools
import gc
import os

# Before TensorFlow is imported. Its oneDNN kernels are the faster ones, but off by default on older processors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# One unit, one thread of TensorFlow (and one that reads ahead): results then do not depend on how many cores a machine
# has, and several units side by side (--jobs) are faster than several threads inside one small network.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


@contextlib.contextmanager
def _without_stderr():
    """TensorFlow 2.21 says in each process, whatever the log level, that it has no GPU and which processor this is."""
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # closed, as by 2>&-
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with _without_stderr():  # an import that fails raises an error, which is not lost
    import keras
    import tensorflow as tf

import numpy as np  # noqa: E402

from workflow.files import UnitFailed, take  # noqa: E402

__all__ = [
    "Diverged", "adam", "activity", "device", "device_name", "fit", "forget_models", "has_bfloat16", "has_gpu",
    "squared_error", "variable",
]  # fmt: skip

BLOCK = 1 << 20  # numbers handed to TensorFlow at a time, so that memory stays flat
KERAS_3 = keras.__version__.startswith("3")

gc.freeze()  # what was made until now stays: to look through it for rubbish, after every network, takes 0.2 s
# Every training builds its loop anew, on purpose; TensorFlow would warn of that from the fifth on.
tf.get_logger().addFilter(lambda record: "retracing" not in record.getMessage())
for _gpu in tf.config.list_physical_devices("GPU"):  # else the first process takes all of its memory
    tf.config.experimental.set_memory_growth(_gpu, True)


class Diverged(UnitFailed):
    """The loss is no finite number any more."""


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


def variable(values):
    """A trainable variable, as the optimiser of this version of Keras wants it."""
    return (keras.Variable if KERAS_3 else tf.Variable)(values)


def squared_error(model):
    """Loss of a network that has to give the targets: mean squared error and what its layers add to it.

    Returns
    -------
    callable(x, y)
        The terms `loss`, to be made small, and `mse` of a batch.
    """

    def terms(x, y):
        mse = tf.reduce_mean(tf.square(model(x, training=True) - y))
        return {"loss": mse + activity(model.losses), "mse": mse}

    return terms


def activity(losses):
    """Sum of what the layers add to the loss, a float32."""
    return sum((tf.cast(loss, tf.float32) for loss in losses), 0.0)


def fit(model, terms, optimizer, x, y, batch_size, epochs, tick=None, rows=None, perturb=None):
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
    perturb : callable(x, rows, epoch), optional
        Gives what the network sees in place of some spectra, while the targets stay; default these spectra themselves.

    Returns
    -------
    dict of str to list
        The terms, a mean over the spectra for every epoch.

    Raises
    ------
    Diverged
        At the end of the epoch in which the loss or a weight ceased to be finite.
    """
    rows = np.arange(len(x)) if rows is None else rows
    targets = x if y is x else np.reshape(y, (len(y), -1))
    shapes = [(None, *part.shape[1:]) for part in (x, targets)]
    names, train = _on_a_block(model.trainable_variables, terms, optimizer, batch_size, shapes)
    history = []
    block = max(1, BLOCK // (batch_size * int(np.prod(x.shape[1:])))) * batch_size
    for epoch in range(epochs):
        order = rows[model.order(epoch, len(rows))]
        log = []
        parts = (order[start : start + block] for start in range(0, len(order), block))
        for given, wanted in _ahead(functools.partial(_examples, x, targets, perturb, epoch), parts):
            seen = tf.constant(given)
            log.append(train(seen, seen if wanted is given else tf.constant(wanted)))
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
    rows = part if part.ndim == 1 else (part, np.arange(part.shape[1]))  # a column a member
    clean = take(x, rows)
    given = clean if perturb is None else perturb(clean, part, epoch)
    return given, clean if targets is x else take(targets, rows)


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
    (optimizer.build if hasattr(optimizer, "build") else optimizer._create_all_weights)(weights)
    names = []

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32) for shape in shapes])
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

    return names, train


def has_gpu():
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def has_bfloat16():
    """Whether a GPU or this processor computes in bfloat16."""
    if has_gpu():
        return True
    with contextlib.suppress(OSError):
        return bool({"avx512_bf16", "amx_bf16"} & set(open("/proc/cpuinfo").read().split()))
    return False


def device(number):
    """Context in which TensorFlow uses the GPU of this machine whose turn it is, or its CPU if it has none."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.device(gpus[number % len(gpus)].name if gpus else "CPU:0")


def device_name():
    """What the networks are trained on, in words."""
    gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")]  # fmt: skip
    threads = os.environ["TF_NUM_INTRAOP_THREADS"]
    return ", ".join(gpus) if gpus else f"the processor (TensorFlow sees no GPU), threads a unit: {threads}"


def forget_models():
    """Let go of all networks built so far, which Keras would keep as long as a worker process lives."""
    keras.backend.clear_session()
    if not KERAS_3:  # there it does this itself
        gc.collect()
