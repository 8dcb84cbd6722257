"""Tests import the scripts as they lie; tiny arrays of the real form stand in for the spectra."""
import gc
import os
from pathlib import Path

# Two processes of tests with two threads each, on two cores, wait for each other: a small SVD then takes 0.1 s.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

N_PIXELS = 60
FIRST = ("acts", "figures", "docs")  # folders that take longest, so that both processes of the tests end together


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: FIRST.index(item.path.parent.name) if item.path.parent.name in FIRST else len(FIRST))


def pytest_collection_finish():
    """What was imported stays: `training.forget_models` need not look through it for rubbish, hundreds of times."""
    gc.freeze()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with 200 synthetic and 12 observed spectra of 60 pixels, whose lines follow the labels."""
    import paper
    from workflow import files

    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(7)
    labels = np.c_[
        rng.choice(paper.GRID_TEFF, 200), rng.choice(paper.GRID_LOGG, 200),
        rng.choice(paper.GRID_MH, 200), rng.choice(paper.GRID_VSINI, 200),
    ]

    def flux(labels, shift):
        low, high = labels.min(axis=0), labels.max(axis=0)
        strength = 0.1 + 0.5 * (labels - low) / (high - low)
        pixel = np.arange(N_PIXELS)
        lines = np.exp(-0.5 * ((pixel - np.array([[10], [25], [40], [50]]) - shift) / 2) ** 2)
        return np.clip(1 - strength @ lines + rng.normal(0, 0.005, (len(labels), N_PIXELS)), 0, 1.4)

    files.write_array(folder / "ph_flux_norm.npy", flux(labels, 0.0).astype(np.float32))
    files.write_array(folder / "ph_pars.npy", labels)
    files.write_array(folder / "carmf_norm.npy", flux(labels[:12], 0.7).astype(np.float32))
    stars = pd.DataFrame({"karmn": [f"J{i:05d}+000" for i in range(12)], "ra": 10.0, "dec": 20.0})
    for par, parameter in paper.PARAMETERS.items():
        stars[par] = labels[:12, parameter.column]
    files.write_csv(folder / "stars.csv", stars)
    files.write_json(folder / "provenance.json", {"spectra": "simulated", "n_pixels": N_PIXELS})
    return folder


@pytest.fixture
def data(tiny, tmp_path):
    """A copy of the tiny arrays that a test may spoil."""
    import shutil

    return Path(shutil.copytree(tiny, tmp_path / "data"))


@pytest.fixture(scope="session")
def chain(tiny, tmp_path_factory):
    """Artifacts of the four acts, run once without interruption in one process; not to be changed."""
    from chain import ACTS, flags

    folder = tmp_path_factory.mktemp("chain")
    for act in ACTS:
        assert act.main(flags(tiny, folder, "--jobs", 1)) == 0
    return folder


@pytest.fixture
def copied(chain, tmp_path):
    """A copy of these artifacts that a test may spoil."""
    import shutil

    return Path(shutil.copytree(chain, tmp_path / "artifacts"))
