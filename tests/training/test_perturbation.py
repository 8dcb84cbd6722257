"""Perturbed spectra, and training that sees them: what a perturbation is, and what it depends on."""
import dataclasses
import json
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf

import autoencoder_fine_tuning
import autoencoder_training
import cnn_training
import paper
import report
from evaluation.run import load
from spectra import dataset
from spectra.dataset import Dataset
from training import backend, loop, networks, perturbation
from training.perturbation import Strengths, perturb
from workflow.units import read_sidecar, seed_of

NOTHING = Strengths(opacity=0, common=0, lines=0, shift=0, tilt=0, noise=0, least_noise=0)
RNG = np.random.default_rng(0)


def only(**strengths):
    return dataclasses.replace(NOTHING, **strengths)


def lines(n_spectra, n_pixels=3501, every=20, depth=0.01):
    """Spectra with shallow lines of one pixel."""
    flux = np.ones((n_spectra, n_pixels), np.float32)
    flux[:, ::every] -= depth
    return flux


def rows(flux):
    return np.arange(len(flux))


# ---------------------------------------------------------------- the perturbation
def test_is_a_function_of_seed_epoch_and_row_alone():
    flux = np.clip(RNG.normal(0.8, 0.1, (150, 90)), 0, 1).astype(np.float32)
    before = flux.copy()
    found = perturb(flux, rows(flux), 2, 5)
    some = RNG.permutation(150)[:70]
    np.testing.assert_array_equal(perturb(flux[some], some, 2, 5), found[some])
    np.testing.assert_array_equal(flux, before)
    for shift, epoch, seed in ((0, 3, 5), (0, 2, 6), (1, 2, 5)):
        assert (perturb(flux, rows(flux) + shift, epoch, seed) != found).mean() > 0.9


@pytest.mark.parametrize("n_pixels", [2, 60, 1999, 3501])
def test_without_strength_changes_nothing(n_pixels):
    flux = RNG.uniform(-0.2, 1.4, (3, n_pixels)).astype(np.float32)
    np.testing.assert_array_equal(perturb(flux, rows(flux), 0, 0, NOTHING), flux)


LOW, HIGH = dataset.FLUX_RANGE
FLUX = {
    "ordinary": lines(20, 600, depth=0.6), "zero": np.zeros((20, 600)), "lowest": np.full((20, 600), LOW),
    "highest": np.full((20, 600), HIGH), "anything": RNG.uniform(LOW, HIGH, (20, 600)), "short": RNG.random((20, 2)),
}


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize("flux", FLUX.values(), ids=FLUX)
def test_stays_in_the_range_of_normalised_flux(flux, times):
    strong = {field.name: times * getattr(Strengths(), field.name) for field in dataclasses.fields(Strengths)}
    found = perturb(flux.astype(np.float32), rows(flux), 0, 1, Strengths(**strong))
    assert found.dtype == np.float32 and found.shape == flux.shape
    assert ((found >= LOW) & (found <= HIGH)).all()  # NaN is neither


def test_ordinary_flux_needs_no_clipping():
    found = perturb(np.repeat(lines(1, depth=0.8), 300, axis=0), np.arange(300), 0, 1, only(opacity=0.5, common=0.25))
    assert 0 < found.min() < 0.2 and found.max() < 1.05  # a deep line saturates


def change_of_opacity(strengths, n=400):
    """Natural logarithm of the factor on shallow lines 20 pixels apart, (n, n_lines)."""
    flux = lines(n)
    found = perturb(flux, rows(flux), 0, 1, strengths)[:, ::20]
    return np.log((1 / found - 1) / (1 / flux[:, ::20] - 1))


def test_opacity_follows_a_smooth_random_field():
    change = change_of_opacity(only(opacity=0.5, smooth=100))
    assert change.std() == pytest.approx(0.5, rel=0.05) and abs(change.mean()) < 0.03
    assert np.abs(change.std(axis=0) / 0.5 - 1).max() < 0.25  # at the knots and between them
    correlation = [np.mean(change[:, :-k] * change[:, k:]) / 0.25 for k in (1, 5, 10)]
    assert correlation[0] > 0.8 and 0.1 < correlation[1] < 0.6 and abs(correlation[2]) < 0.05


def test_opacity_has_a_common_factor():
    change = change_of_opacity(only(common=0.25))
    assert np.ptp(change, axis=1).max() < 1e-2
    assert change[:, 0].std() == pytest.approx(0.25, rel=0.1)


def test_lines_are_added_at_random_places():
    strengths = only(lines=15, strength=0.3, width=3.0)
    flux = np.ones((400, 3501), np.float32)
    opacity = 1 / perturb(flux, rows(flux), 0, 1, strengths) - 1
    sigma = paper.RESOLUTION_ELEMENT / 2.3548 * (1 + 3.0) / 2
    assert opacity.sum(axis=1).mean() == pytest.approx(15 * 0.3 / 2 * sigma * np.sqrt(2 * np.pi), rel=0.05)
    where = opacity.mean(axis=0).reshape(-1, 389)
    np.testing.assert_allclose(where.mean(axis=1), opacity.mean(), rtol=0.25)
    for u, elements in ((0, 1), (1, 3)):  # of the narrowest and the widest
        one = perturbation.extra_lines(np.array([[[0.5], [1], [u]]], np.float32), 3501, strengths)[0]
        assert one.max() == pytest.approx(0.3, rel=0.01)
        assert (one > one.max() / 2).sum() == pytest.approx(elements * paper.RESOLUTION_ELEMENT, abs=1.5)


def test_lines_are_shifted():
    pixel = np.arange(301)
    line = np.repeat(1 - 0.5 * np.exp(-0.5 * ((pixel - 150) / 6) ** 2)[None], 800, axis=0).astype(np.float32)
    depth = 1 - perturb(line, rows(line), 0, 1, only(shift=0.7))
    centre = (depth * pixel).sum(axis=1) / depth.sum(axis=1) - 150
    assert centre.std() == pytest.approx(0.7, rel=0.1) and abs(centre.mean()) < 0.1


@pytest.mark.parametrize("shift", [-400.0, -2.25, -1.0, 0.0, 0.5, 1.75, 400.0])
def test_shift_is_linear_interpolation(shift):
    flux = RNG.random((2, 50)).astype(np.float32)
    found = perturbation.shifted(flux, np.full(2, shift))
    inside = (np.arange(50) - shift >= 0) & (np.arange(50) - shift <= 49)
    expected = np.array([np.interp(np.arange(50) - shift, np.arange(50), row) for row in flux])
    np.testing.assert_allclose(found[:, inside], expected[:, inside], atol=1e-6)
    np.testing.assert_array_equal(found[:, ~inside], flux[:, ~inside])


def test_continuum_comes_back_to_where_it_was(monkeypatch):
    flux, tilt = lines(200, depth=0.3), only(tilt=0.02)
    left = perturb(flux, rows(flux), 0, 1, tilt) / flux - 1
    monkeypatch.setattr(perturbation, "envelope", np.ones_like)
    tilted = perturb(flux, rows(flux), 0, 1, tilt) / flux - 1
    assert tilted[:, -1].std() == pytest.approx(0.02, rel=0.15)
    np.testing.assert_allclose(tilted[:, ::-1], -tilted, atol=1e-6)
    assert np.abs(left).max() < 0.2 * np.abs(tilted).max()


@pytest.mark.parametrize("level", [1.0, 0.25])
def test_noise_is_that_of_photons(level):
    flux = np.full((300, 3501), level, np.float32)
    noise = (perturb(flux, rows(flux), 0, 1, only(noise=1 / 150, least_noise=1 / 400)) - flux).std(axis=1)
    noise /= np.sqrt(level)
    assert 0.95 / 400 < noise.min() < 1.1 / 400 and 0.9 / 150 < noise.max() < 1.05 / 150


def test_memory_beyond_the_result_does_not_grow():
    def peak(n):
        flux = np.ones((n, 500), np.float32)
        tracemalloc.start()
        found = perturb(flux, rows(flux), 0, 0)
        used = tracemalloc.get_traced_memory()[1] - found.nbytes
        tracemalloc.stop()
        return used

    assert peak(8 * perturbation.PIECE) < 1.1 * peak(2 * perturbation.PIECE)


# ---------------------------------------------------------------- training on it
@pytest.mark.parametrize("block", [1, 5, 1 << 20])  # in numbers: a batch, two batches, an epoch
def test_network_sees_what_is_perturbed_and_targets_stay(block, monkeypatch):
    monkeypatch.setattr(loop, "BLOCK", block)
    encoding = keras.Input((1,))
    model = networks.SeededModel(encoding, keras.layers.Dense(1)(encoding), 11)
    seen = []

    def terms(x, y):
        tf.py_function(lambda *pair: seen.append(np.hstack([part.numpy() for part in pair])), [x, y], [])
        return {"loss": tf.reduce_sum(model(x))}

    x = np.arange(16.0)[:, None]
    loop.fit(model, terms, backend.adam(1e-3), x, x, 3, 2, rows=np.arange(1, 16, 2),
                 perturb=lambda x, rows, epoch: x + np.float32(100 * rows[:, None] + 10_000 * epoch))
    given, target = np.concatenate(seen).T
    np.testing.assert_array_equal(given, 101 * target + 10_000 * np.repeat([0, 1], 8))


def test_an_error_while_spectra_are_perturbed_ends_the_training():
    encoding = keras.Input((1,))
    model = networks.SeededModel(encoding, keras.layers.Dense(1)(encoding), 11)
    x = np.ones((9, 1), np.float32)

    def fail(x, rows, epoch):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        loop.fit(model, loop.squared_error(model), backend.adam(1e-3), x, x, 3, 1, perturb=fail)


def flags(data, folder, *more):
    return ["--data", str(data), "--artifacts", str(folder), "--budget", "smoke", "--jobs", "1", *map(str, more)]


def selection(folder, n=1):
    """What act 1 leaves."""
    folder.mkdir()
    architectures = [{"neurons_in": 16 + 8 * i, "reg_par": 1e-7, "lr": 1e-3} for i in range(n)]
    (folder / "params_final.json").write_text(json.dumps({"architectures": architectures}))
    return folder


def test_result_depends_neither_on_jobs_nor_on_an_interruption(tiny, tmp_path):
    one, other = (selection(tmp_path / name, 2) for name in ("one", "other"))
    for part in (["--only", 1], []):
        assert autoencoder_training.main(flags(tiny, one, "--perturb", *part)) == 0
    assert autoencoder_training.main([*flags(tiny, other, "--perturb"), "--jobs", "2"]) == 0
    for name in ("encoded_ph_ac_0", "encoded_ph_ac_1", "encoded_ph_perturbed_ac_0", "encoded_ph_perturbed_ac_1"):
        np.testing.assert_array_equal(np.load(one / f"{name}.npy"), np.load(other / f"{name}.npy"))
    encoded = np.load(one / "encoded_ph_perturbed_ac_1.npy")
    assert encoded.shape == (perturbation.COPIES, 200, paper.N_LATENT)
    assert all((encoded[0] != copy).any() for copy in encoded[1:])
    network = networks.encoder_of(networks.load(one / "ac_1.h5"))  # the copies are those of the epochs to come
    flux, seed = np.load(tiny / "ph_flux_norm.npy"), seed_of(paper.SPLIT_SEED, "ac_1")
    again = perturb(flux, rows(flux), paper.BUDGETS["smoke"].train_epochs + 1, seed)
    np.testing.assert_allclose(encoded[1], networks.predict(network, again), atol=1e-6)


def test_regressors_learn_from_perturbed_encodings(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(paper.BUDGETS, "smoke", dataclasses.replace(paper.BUDGETS["smoke"], repeats=1))
    folder, regress = selection(tmp_path / "artifacts"), flags(tiny, tmp_path / "artifacts", "--parameter", "mh")
    assert autoencoder_training.main(flags(tiny, folder)) == 0
    assert "perturb" not in read_sidecar(folder / "ac_0.h5").settings  # as before there was such a flag
    capsys.readouterr()
    assert cnn_training.main([*regress, "--perturb"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "ac_0.h5 was trained without --perturb" in error
    assert autoencoder_training.main(flags(tiny, folder, "--perturb")) == 2
    assert "ac_0.h5 is stale" in capsys.readouterr().err
    assert autoencoder_training.main(flags(tiny, folder, "--perturb", "--overwrite")) == 0
    assert autoencoder_fine_tuning.main(flags(tiny, folder)) == 0
    learnt = []
    train = cnn_training.train
    monkeypatch.setattr(cnn_training, "train", lambda *data: learnt.append(data) or train(*data))
    assert cnn_training.main([*regress, "--perturb"]) == 0
    encoded, label = np.load(folder / "encoded_ph_perturbed_ac_0.npy"), Dataset(tiny).label("mh")
    train_rows, test_rows = dataset.split_stratified(label)
    [(settings, x, y, *_)] = learnt
    np.testing.assert_array_equal(x, np.concatenate(encoded[:, train_rows]))
    np.testing.assert_array_equal(y, np.tile(label[train_rows], len(encoded)))
    assert settings["epochs"] == 1  # as many steps as in two epochs, or the next whole one
    one = folder / "cnn_regressor_mh_0_ac_0.h5"
    predicted = networks.predict(networks.load(one), np.concatenate(encoded[:, test_rows])[..., None])[:, 0]
    mse = np.mean((predicted - np.tile(label[test_rows], len(encoded))) ** 2)
    assert read_sidecar(one).metrics["mse_test"] == pytest.approx(mse, rel=1e-4)
    assert "\n".join(report.what_was_run(load(tiny, folder))).count("on perturbed spectra") == 2
