"""The two versions of Keras read each other's files and come to the same results.

Runs where the environment variable OTHER_LANE names the Python interpreter of the other lane, as .ci/run sets it.
"""
import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import autoencoder_fine_tuning
import autoencoder_grid_search
import autoencoder_training
import cnn_training
import paper
from training import networks
from workflow.artifacts import Artifacts
from workflow.units import read_sidecar

ACTS = [autoencoder_grid_search, autoencoder_training, autoencoder_fine_tuning, cnn_training]
OTHER = os.environ.get("OTHER_LANE")
pytestmark = pytest.mark.skipif(not OTHER, reason="OTHER_LANE names no interpreter of the other lane")

PREDICT = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[1])
from training import networks
np.save(sys.argv[4], networks.predict(networks.load(Path(sys.argv[2])), np.load(sys.argv[3])))
"""


@pytest.fixture(scope="module")
def lanes(tiny, tmp_path_factory):
    """Artifacts of the four acts in this lane and in the other one, same seed."""
    here, there = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")
    for act in ACTS:
        flags = ["--data", str(tiny), "--budget", "smoke", "--jobs", "1", "--artifacts"]
        assert act.main([*flags, str(here)]) == 0
        subprocess.run([OTHER, act.__file__, *flags, str(there)], check=True, stdout=subprocess.DEVNULL)
    return here, there


def test_the_other_lane_is_another_keras(lanes):
    versions = [read_sidecar(folder / "ac_0.h5").versions["keras"] for folder in lanes]
    assert versions[0].split(".")[0] != versions[1].split(".")[0]


def test_same_selection_of_architectures(lanes):
    here, there = (Artifacts(folder).architectures for folder in lanes)
    assert here == there


def test_estimates_agree_within_the_error_of_the_ensemble(lanes):
    here, there = (pd.read_csv(folder / "final_estimations.csv") for folder in lanes)
    for par, parameter in paper.PARAMETERS.items():
        members = [np.load(path) for path in lanes[0].glob(f"{par}_estimation_?_ac_?.npy")]
        assert len(members) > 1
        difference = np.abs(here[parameter.published] - there[parameter.published])
        assert (difference <= np.std(members, axis=0)).all(), par


def test_same_members_are_kept(lanes):
    here, there = (json.loads((folder / "final_estimations.json").read_text())["kept"] for folder in lanes)
    for par in paper.PARAMETERS:
        assert here[par]["members"] == there[par]["members"]


@pytest.mark.parametrize("name", ["ac_0.h5", "dtl_ac_0.h5", "cnn_regressor_teff_0_ac_0.h5"])
def test_loader_opens_files_of_both_lanes_in_both(name, lanes, tiny, tmp_path):
    x = np.load(tiny / "ph_flux_norm.npy")[:20]
    if name.startswith("cnn"):
        x = np.load(lanes[0] / "encoded_ph_ac_0.npy")[:20, :, None]
    np.save(tmp_path / "x.npy", x)
    for folder in lanes:
        predicted = networks.predict(networks.load(folder / name), x)
        arguments = [Path(networks.__file__).parents[1], folder / name, tmp_path / "x.npy", tmp_path / "y.npy"]
        subprocess.run([OTHER, "-c", PREDICT, *map(str, arguments)], check=True)
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), predicted, rtol=1e-4, atol=1e-6)


def test_file_of_keras_2_opens_whole_in_both(lanes, tiny):
    keras_2 = next(f for f in lanes if read_sidecar(f / "ac_0.h5").versions["keras"].startswith("2"))
    x = np.load(tiny / "ph_flux_norm.npy")[:5]
    whole = keras.models.load_model(str(keras_2 / "ac_0.h5"), compile=False)
    np.testing.assert_array_equal(networks.predict(whole, x), networks.predict(networks.load(keras_2 / "ac_0.h5"), x))
