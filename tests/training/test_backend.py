"""What hides that there are two versions of Keras: Adam, devices, silence, memory."""
import gc
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_networks import build, fit

from training import backend

SAVING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from training import networks
networks.save(networks.build_autoencoder(16, 0.0, 40), Path(sys.argv[2]))
print("saved")
"""


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["", "2>&-"])
def test_importing_tensorflow_and_saving_say_nothing(closed, tmp_path):
    folder = Path(backend.__file__).parents[1]
    command = f'"{sys.executable}" -c \'{SAVING}\' "{folder}" "{tmp_path}/network.h5" {closed}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("saved\n", "")


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


def test_adam_is_the_plain_one_of_keras():
    start, gradients = np.linspace(-1, 1, 6), np.random.default_rng(5).normal(size=(5, 6))
    ends = []
    for optimizer in (backend.adam(1e-2), keras.optimizers.Adam(1e-2)):
        variable = backend.variable(start)
        backend.build(optimizer, [variable])
        for gradient in gradients:
            optimizer.apply_gradients([(tf.constant(gradient, variable.dtype), variable)])
        ends.append(variable.numpy())
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-5)


def test_a_training_leaves_nothing_in_memory():
    def variables():
        backend.forget_models()
        tensors = [thing for thing in gc.get_objects() if isinstance(thing, tf.Tensor)]
        return sum(getattr(tensor, "dtype", None) == tf.resource for tensor in tensors)

    before = variables()
    fit(build(), "live")
    assert variables() <= before
