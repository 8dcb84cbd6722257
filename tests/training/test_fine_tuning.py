"""What fine-tuning moves, and what of observed spectra is encoded."""
import time

import numpy as np
from small_networks import FROZEN, N_PIXELS, NEURONS, REG_PAR, SETTINGS, WIDTHS, X, equal, weights

import paper
from training import fine_tuning, networks
from workflow import schemas
from workflow.units import Unit, finish


def test_fine_tuning_of_a_saved_autoencoder_moves_all_but_the_frozen_layers(trained, tmp_path):
    path = tmp_path / "ac_0.h5"
    networks.save(trained[0], path)
    finish(Unit(path, {}), time.time(), {}, network=schemas.AutoencoderShape(NEURONS, REG_PAR, N_PIXELS))
    autoencoder = networks.load(path)
    before, ticks = weights(autoencoder), []
    settings = {**SETTINGS, "lr": 1e-2, "epochs": 2, "frozen": paper.FROZEN_LAYERS}
    history = fine_tuning.fine_tune(autoencoder, settings, X[:20], lambda: ticks.append(1))
    after = weights(autoencoder)
    assert equal(before, after) == FROZEN
    assert all(not np.array_equal(before[name][0], after[name][0]) for name in WIDTHS if name not in FROZEN)
    assert len(ticks) == len(history["loss"]) == 2


def test_only_usable_spectra_are_encoded(trained):
    encoded = fine_tuning.encode(trained[0], X, np.array([3, 40]))
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(encoded).all(axis=1)), [3, 40])
    expected = networks.encoder_of(trained[0])(X[[3, 40]])
    np.testing.assert_allclose(encoded[[3, 40]], expected, rtol=1e-5, atol=1e-6)
