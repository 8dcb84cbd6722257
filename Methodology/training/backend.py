"""The two versions of Keras (2.13 and 3) and what they run on; the one module that knows that there are two."""
import contextlib
import gc
import logging
import os
import warnings

# Before TensorFlow is imported. Its oneDNN kernels are the faster ones, but off by default on older processors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# One unit, one thread of TensorFlow (and one that reads ahead): results then do not depend on how many cores a machine
# has, and several units side by side (--jobs) are faster than several threads inside one small network.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
for _name in [name for name in os.environ if name.startswith(("KERAS_", "TF_USE_LEGACY_KERAS"))]:
    del os.environ[_name]  # such as KERAS_MAX_EPOCHS
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.devnull  # what a user's keras.json says is no setting of a run


@contextlib.contextmanager
def _without_stderr():
    """TensorFlow 2.21 says in each process, whatever the log level, that it has no GPU and which processor this is."""
    try:
        stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # closed, as by 2>&-
        yield
        return
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


with _without_stderr():  # an import that fails raises an error, which is not lost
    import keras
    import tensorflow as tf
    from scikeras.wrappers import KerasRegressor  # noqa: F401 -- here, since it imports TensorFlow too

KERAS_3 = keras.__version__.startswith("3")
gc.freeze()  # what was made until now stays: to look through it for rubbish, after every network, takes 0.2 s
# Every training builds its loop anew, on purpose; networks are saved as HDF5 and not compiled, on purpose too.
WARNINGS = ("retracing", "You are saving your model as an HDF5 file", "the compiled metrics have yet to be built")
for _name in ("tensorflow", "absl"):
    logging.getLogger(_name).addFilter(lambda record: not any(text in record.getMessage() for text in WARNINGS))
warnings.filterwarnings("ignore", WARNINGS[1])
for _gpu in tf.config.list_physical_devices("GPU"):  # else the first process takes all of its memory
    tf.config.experimental.set_memory_growth(_gpu, True)


def adam(lr):
    """Adam with the given learning rate, in both versions of Keras as one fused operation a variable."""
    if KERAS_3:
        return FusedAdam(learning_rate=lr)
    # To add up the gradients of several copies of a network would keep its weights as long as the process lives.
    return keras.optimizers.legacy.Adam(learning_rate=lr, gradient_aggregator=list)


class FusedAdam(keras.optimizers.Adam):
    """Adam of Keras 3, each update one operation of TensorFlow instead of a dozen."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        dtype = grads[0].dtype
        step = tf.cast(self.iterations + 1, dtype)
        shared = {"beta1_power": self.beta_1**step, "beta2_power": self.beta_2**step, "beta1": self.beta_1,
                  "beta2": self.beta_2, "lr": tf.cast(learning_rate, dtype), "epsilon": self.epsilon}
        for gradient, variable in zip(grads, trainable_variables):
            index = self._get_variable_index(variable)
            m, v = self._momentums[index].value.handle, self._velocities[index].value.handle
            tf.raw_ops.ResourceApplyAdam(var=variable.value.handle, m=m, v=v, grad=gradient, **shared)


def variable(values):
    """A trainable variable, as the optimiser of this version of Keras wants it."""
    return (keras.Variable if KERAS_3 else tf.Variable)(values)


def has_gpu():
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def has_bfloat16():
    """Whether a GPU or this processor computes in bfloat16."""
    with contextlib.suppress(OSError):
        return has_gpu() or bool({"avx512_bf16", "amx_bf16"} & set(open("/proc/cpuinfo").read().split()))
    return False


def device(number):
    """Context in which TensorFlow uses the GPU of this machine whose turn it is, or its CPU if it has none."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.device(gpus[number % len(gpus)].name if gpus else "CPU:0")


def device_name():
    """What the networks are trained on, in words."""
    gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")]
    threads = os.environ["TF_NUM_INTRAOP_THREADS"]
    return ", ".join(gpus) if gpus else f"the processor (TensorFlow sees no GPU), threads a unit: {threads}"


def forget_models():
    """Let go of all networks built so far, which Keras would keep as long as a worker process lives."""
    keras.backend.clear_session()
    if not KERAS_3:  # there it does this itself
        gc.collect()


def build(optimizer, weights):
    """Make the state of an optimiser for these weights."""
    (optimizer.build if hasattr(optimizer, "build") else optimizer._create_all_weights)(weights)
