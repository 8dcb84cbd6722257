"""Perturbed spectra, and training that sees them: what a perturbation is, and what it depends on."""
import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, sampled_from

import autoencoder_fine_tuning
import autoencoder_training
import cnn_training
import paper
import report
from evaluation.run import load
from spectra import dataset
from spectra.dataset import Dataset
from training import networks, perturbation
from training.perturbation import Strengths, perturb
from workflow.units import read_sidecar, seed_of

NOTHING = Strengths(opacity=0, common=0, lines=0, shift=0, tilt=0, noise=0, least_noise=0)
LOW, HIGH = dataset.FLUX_RANGE
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
    perturbed = perturb(flux, rows(flux), 2, 5)
    part = RNG.permutation(150)[:70]
    np.testing.assert_array_equal(perturb(flux[part], part, 2, 5), perturbed[part])
    np.testing.assert_array_equal(flux, before)
    for shift, epoch, seed in ((0, 3, 5), (0, 2, 6), (1, 2, 5)):
        assert (perturb(flux, rows(flux) + shift, epoch, seed) != perturbed).mean() > 0.9


@given(seed=integers(0, 2**32 - 1), n_pixels=integers(2, 700), times=sampled_from([0, 1, 5]),
       level=sampled_from([LOW, 0.0, 1.0, HIGH, None]))
@settings(max_examples=40, deadline=None)
def test_stays_in_the_range_of_normalised_flux(seed, n_pixels, times, level):
    flux = np.random.default_rng(seed).uniform(LOW, HIGH, (3, n_pixels)).astype(np.float32)
    flux = flux if level is None else np.full_like(flux, level)
    strengths = {field.name: times * getattr(Strengths(), field.name) for field in dataclasses.fields(Strengths)}
    perturbed = perturb(flux, rows(flux), 0, seed, Strengths(**{**strengths, "smooth": max(1, strengths["smooth"])}))
    assert perturbed.dtype == np.float32 and perturbed.shape == flux.shape
    assert ((perturbed >= LOW) & (perturbed <= HIGH)).all()  # NaN is neither
    if times == 0:
        np.testing.assert_array_equal(perturbed, flux)


def test_ordinary_flux_needs_no_clipping():
    flux = np.repeat(lines(1, depth=0.8), 300, axis=0)
    perturbed = perturb(flux, rows(flux), 0, 1, only(opacity=0.5, common=0.25))
    assert 0 < perturbed.min() < 0.2 and perturbed.max() < 1.05  # a deep line saturates


def change_of_opacity(strengths, n=400):
    """Natural logarithm of the factor on shallow lines 20 pixels apart, (n, n_lines)."""
    flux = lines(n)
    perturbed = perturb(flux, rows(flux), 0, 1, strengths)[:, ::20]
    return np.log((1 / perturbed - 1) / (1 / flux[:, ::20] - 1))


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
        line = perturbation.extra_lines(np.array([[[0.5], [1], [u]]], np.float32), 3501, strengths)[0]
        assert line.max() == pytest.approx(0.3, rel=0.01)
        assert (line > line.max() / 2).sum() == pytest.approx(elements * paper.RESOLUTION_ELEMENT, abs=1.5)


def test_lines_are_shifted():
    pixel = np.arange(301)
    line = np.repeat(1 - 0.5 * np.exp(-0.5 * ((pixel - 150) / 6) ** 2)[None], 800, axis=0).astype(np.float32)
    depth = 1 - perturb(line, rows(line), 0, 1, only(shift=0.7))
    centre = (depth * pixel).sum(axis=1) / depth.sum(axis=1) - 150
    assert centre.std() == pytest.approx(0.7, rel=0.1) and abs(centre.mean()) < 0.1


@pytest.mark.parametrize("shift", [-400.0, -2.25, 0.0, 1.75, 400.0])
def test_shift_is_linear_interpolation(shift):
    flux = RNG.random((2, 50)).astype(np.float32)
    moved = perturbation.shifted(flux, np.full(2, shift))
    inside = (np.arange(50) - shift >= 0) & (np.arange(50) - shift <= 49)
    expected = np.array([np.interp(np.arange(50) - shift, np.arange(50), row) for row in flux])
    np.testing.assert_allclose(moved[:, inside], expected[:, inside], atol=1e-6)
    np.testing.assert_array_equal(moved[:, ~inside], flux[:, ~inside])


def test_continuum_comes_back_to_where_it_was(monkeypatch):
    flux, tilt = lines(200, depth=0.3), only(tilt=0.02)
    left = perturb(flux, rows(flux), 0, 1, tilt) / flux - 1
    monkeypatch.setattr(perturbation, "envelope", np.ones_like)
    tilted = perturb(flux, rows(flux), 0, 1, tilt) / flux - 1
    assert tilted[:, -1].std() == pytest.approx(0.02, rel=0.15)
    np.testing.assert_allclose(tilted[:, ::-1], -tilted, atol=1e-6)
    assert np.abs(left).max() < 0.2 * np.abs(tilted).max()


def test_noise_is_that_of_photons():
    flux = np.full((300, 3501), 0.25, np.float32)
    noise = (perturb(flux, rows(flux), 0, 1, only(noise=1 / 150, least_noise=1 / 400)) - flux).std(axis=1) / 0.5
    assert 0.95 / 400 < noise.min() < 1.1 / 400 and 0.9 / 150 < noise.max() < 1.05 / 150


def test_memory_beyond_the_result_does_not_grow():
    def peak(n):
        flux = np.ones((n, 500), np.float32)
        tracemalloc.start()
        perturbed = perturb(flux, rows(flux), 0, 0)
        used = tracemalloc.get_traced_memory()[1] - perturbed.nbytes
        tracemalloc.stop()
        return used

    assert peak(8 * perturbation.PIECE) < 1.1 * peak(2 * perturbation.PIECE)


# ---------------------------------------------------------------- training on it
def flags(data, folder, *more):
    return ["--data", str(data), "--artifacts", str(folder), "--budget", "smoke", "--jobs", "1", *map(str, more)]


def selection(folder, n=1):
    """What act 1 leaves."""
    folder.mkdir()
    architectures = [{"neurons_in": 16 + 8 * i, "reg_par": 1e-7, "lr": 1e-3} for i in range(n)]
    (folder / "params_final.json").write_text(json.dumps({"architectures": architectures}))
    return folder


@pytest.mark.slow
def test_result_depends_neither_on_jobs_nor_on_an_interruption(tiny, tmp_path):
    interrupted, parallel = (selection(tmp_path / name, 2) for name in ("interrupted", "parallel"))
    for part in (["--only", 1], []):
        assert autoencoder_training.main(flags(tiny, interrupted, "--perturb", *part)) == 0
    assert autoencoder_training.main([*flags(tiny, parallel, "--perturb"), "--jobs", "2"]) == 0
    for name in ("encoded_ph_ac_0", "encoded_ph_ac_1", "encoded_ph_perturbed_ac_0", "encoded_ph_perturbed_ac_1"):
        np.testing.assert_array_equal(np.load(interrupted / f"{name}.npy"), np.load(parallel / f"{name}.npy"))
    encoded = np.load(interrupted / "encoded_ph_perturbed_ac_1.npy")
    assert encoded.shape == (perturbation.COPIES, 200, paper.N_LATENT)
    assert all((encoded[0] != copy).any() for copy in encoded[1:])
    network = networks.encoder_of(networks.load(interrupted / "ac_1.h5"))  # the copies are those of the epochs to come
    flux, seed = np.load(tiny / "ph_flux_norm.npy"), seed_of(paper.SPLIT_SEED, "ac_1")
    again = perturb(flux, rows(flux), paper.BUDGETS["smoke"].train_epochs + 1, seed)
    np.testing.assert_allclose(encoded[1], networks.predict(network, again), atol=1e-6)


@pytest.mark.slow
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
    [(fitted, x, y, *_)] = learnt
    np.testing.assert_array_equal(x, np.concatenate(encoded[:, train_rows]))
    np.testing.assert_array_equal(y, np.tile(label[train_rows], len(encoded)))
    assert fitted["epochs"] == 1  # as many steps as in two epochs, or the next whole one
    cnn = folder / "cnn_regressor_mh_0_ac_0.h5"
    predicted = networks.predict(networks.load(cnn), np.concatenate(encoded[:, test_rows])[..., None])[:, 0]
    mse = np.mean((predicted - np.tile(label[test_rows], len(encoded))) ** 2)
    assert read_sidecar(cnn).metrics["mse_test"] == pytest.approx(mse, rel=1e-4)
    assert "\n".join(report.what_was_run(load(tiny, folder))).count("on perturbed spectra") == 2
