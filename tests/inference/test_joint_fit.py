"""The joint fit on a toy library of eight lines: gradients against differences, known corrections found, fallbacks."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from evaluation.joint import errors_beside_baselines
from inference import gauge, joint_fit, joint_run
from inference.emulator import Emulator, Motion, slow_rows
from inference.mode import table
from spectra import bins, transforms
from workflow.files import BadInput

N_PIXELS, STEP = 300, 0.03
WAVE = STEP * (np.arange(N_PIXELS) - N_PIXELS / 2)
CENTRES = np.linspace(-3.8, 3.8, 8)


def depths(labels):
    """Optical depth of eight lines, each with its own dependence on Teff, log g and [M/H]."""
    teff, logg, mh = (labels[:, 0] - 3500) / 500, (labels[:, 1] - 4.9) / 0.2, labels[:, 2] / 0.3
    k = np.arange(8)[:, None]
    strength = np.exp(-1.2 + 0.35 * np.cos(1.3 * k) * teff + 0.12 * np.cos(2.1 * k + 1) * logg + 0.2 * np.cos(k) * mh)
    return strength.T @ np.exp(-0.5 * ((WAVE - CENTRES[:, None]) / 0.09) ** 2)


@pytest.fixture(scope="module")
def emulator():
    axes = np.meshgrid(np.linspace(2800, 4200, 8), np.linspace(4.5, 5.3, 5), np.linspace(-0.8, 0.6, 6), indexing="ij")
    labels = np.c_[np.stack(axes, -1).reshape(-1, 3), np.full(240, 1.5)]
    labels = np.r_[labels, labels[::40] + [0, 0, 0, 9.0]]
    rows = slow_rows(labels)
    assert len(rows) == 240
    return Emulator.fit(np.exp(-depths(labels[rows])), labels[rows], STEP, 8817.5)


@pytest.fixture(scope="module")
def stars(emulator):
    """Labels of 24 stars, and their spectra in which one line is missing, one is extra and one is twice as strong."""
    rng = np.random.default_rng(5)
    labels = np.c_[rng.normal(3500, 250, 24), rng.normal(4.9, 0.1, 24), rng.normal(-0.1, 0.2, 24),
                   rng.uniform(1.5, 5, 24)]
    own = depths(labels)
    line = np.exp(-0.5 * ((WAVE - np.array([[CENTRES[1]], [CENTRES[5]], [1.0]])) / 0.09) ** 2)
    tau = own - own[:, [np.argmax(line[0])]] * line[0] + own[:, [np.argmax(line[1])]] * line[1] + 0.15 * line[2]
    light = Motion(emulator, N_PIXELS, labels[:, 3], np.zeros(24), 60.0).apply(np.exp(-tau))
    flux = light + rng.normal(0, 0.002, light.shape)
    return labels, flux, np.full(flux.shape, 0.002**2)


def rms(error):
    return np.sqrt((error**2).mean(axis=0))


# ---------------------------------------------------------------- the emulator
def test_the_emulator_and_its_derivatives(emulator):
    labels = np.array([[3333.0, 4.83, -0.21], [3901.0, 5.02, 0.13]])
    assert np.allclose(np.exp(-emulator.depths(labels)), np.exp(-depths(labels)), atol=2e-3)
    assert emulator.error.max() < 2e-3
    slopes = emulator.features(labels)[1]
    for k, step in enumerate((1.0, 1e-3, 1e-3)):
        change = np.eye(3)[k] * step
        numeric = (emulator.features(labels + change)[0] - emulator.features(labels - change)[0]) / (2 * step)
        assert np.allclose(slopes[k], numeric, rtol=1e-3, atol=1e-6)


def test_rotation_is_that_of_the_profile_and_its_adjoint_is_the_transpose(emulator):
    rng, vsini, rv = np.random.default_rng(1), np.array([12.0, 30.0]), np.array([0.0, 0.4])
    smooth = np.exp(-depths(np.array([[3300.0, 4.9, 0.0], [3900.0, 4.8, 0.2]])))
    kernel = transforms.rotation_kernel(12.0, step=STEP)
    assert np.allclose(Motion(replace(emulator, v0=0.01), N_PIXELS, vsini, rv, 60.0).apply(smooth)[0, 40:-40],
                       np.convolve(smooth[0], kernel, mode="same")[40:-40], atol=1e-3)
    motion = Motion(emulator, N_PIXELS, vsini, rv, 60.0)
    a, b = rng.normal(size=(2, 2, N_PIXELS))
    assert (motion.apply(a) * b).sum() == pytest.approx((a * motion.adjoint(b)).sum(), rel=1e-9)
    for name, step in (("by_vsini", np.array([1e-3, 0])), ("by_rv", np.array([0, 1e-3]))):
        ahead, behind = (Motion(emulator, N_PIXELS, vsini + s * step[0], rv + s * step[1], 60.0).apply(smooth)
                         for s in (1, -1))
        assert np.allclose(motion.apply(smooth, getattr(motion, name)), (ahead - behind) / 2e-3, atol=1e-5)


# ---------------------------------------------------------------- the fit
@pytest.mark.parametrize("veiling", [0.0, 0.1])
def test_the_gradient_is_exact(emulator, stars, veiling):
    labels, flux, variance = stars
    rng = np.random.default_rng(3)
    fit = joint_fit.JointFit(emulator, flux, variance, veiling=veiling)
    own = np.c_[labels, rng.normal(0, 0.01, (24, 3)), rng.uniform(0, veiling, (24, int(veiling > 0)))]
    fit.set_teachers(own)
    fields = joint_fit.Fields(rng.normal(0, [[0.05]] * 4 + [[0.003]], (5, N_PIXELS)), 0.1)
    fit.forward(own, fields)
    gradient = fit.descent(own, fields)
    for _ in range(3):
        change = (rng.normal(0, [20, 0.02, 0.02, 0.1, 0.02, 0.01, 0.01, 0.02][: own.shape[1]], own.shape),
                  rng.normal(0, [[0.02]] * 4 + [[1e-3]], fields.pixels.shape), 0.01)
        ahead, behind = (fit.objective(own + e * change[0],
                                       joint_fit.Fields(fields.pixels + e * change[1], fields.kappa + e * change[2]))
                         for e in (1e-4, -1e-4))
        expected = -sum(np.sum(a * b) for a, b in zip(gradient, change))
        assert (ahead - behind) / 2e-4 == pytest.approx(expected, rel=1e-5)


def test_finds_what_all_stars_share(emulator, stars):
    labels, flux, variance = stars
    mean = labels[:, :3].mean(axis=0)
    alone, joint = (fit(emulator, flux, variance, mean) for fit in (joint_fit.fit_alone, joint_fit.fit_jointly))
    assert joint.converged and joint.shared
    stages = np.diff(joint.objective)
    assert (stages > 0).sum() <= 1  # it only falls, but for the change to the second stage's weights
    assert (rms(joint.own[:, :4] - labels) < 0.5 * rms(alone.own[:, :4] - labels))[:2].all()
    found = joint_fit.corrections(emulator, flux, variance, joint, mean)
    centre = np.argmin(np.abs(WAVE - 1.0))
    assert found["missing"][centre] == pytest.approx(0.15, abs=0.03)
    lost = np.argmin(np.abs(WAVE - CENTRES[1]))
    assert found["missing"][lost] == pytest.approx(-found["depth"][lost], rel=0.2)
    assert (found["e_missing"] > 0).all() and (found["e_shift"] > 0).all()
    again = joint_fit.fit_with(emulator, joint.fields, flux, variance, mean)  # block by block: nearly the same
    assert np.median(np.abs(again.own[:, 0] - joint.own[:, 0])) < 10


@pytest.fixture(scope="module")
def fields(emulator, stars):
    return joint_fit.fit_jointly(emulator, *stars[1:]).fields


def test_labels_of_veiled_stars_are_nearer_to_the_truth_and_those_of_others_stay(emulator, stars, fields):
    labels, flux, variance = stars
    veiled = np.arange(24) % 8 == 3
    flux = np.where(veiled[:, None], (flux + 0.15) / 1.15, flux)
    without, fitted = (joint_fit.fit_with(emulator, fields, flux, variance, veiling=veiling)
                       for veiling in (0.0, joint_fit.VEILING))
    assert without.own.shape[1] == 7 and without.veiling.size == 0
    assert np.abs(fitted.veiling[:, 0] - 0.15 * veiled).max() < 0.03
    before, after = (rms((fit.own[:, :3] - labels[:, :3])[veiled]
                         - (fit.own[:, :3] - labels[:, :3])[~veiled].mean(axis=0)) for fit in (without, fitted))
    assert (after < [0.7, 0.7, 0.9] * before).all()
    assert np.abs(fitted.own[~veiled, 0] - without.own[~veiled, 0]).max() < 40


@pytest.mark.parametrize("light", [-0.2, -0.05, 0.0, 0.05, 0.15, 0.25])
def test_veiling_is_never_negative_and_says_how_far_it_may_be_off(emulator, stars, fields, light):
    """Lines that are deeper than any star's, as of a negative one, are no veiling."""
    _, flux, variance = stars
    veiling = joint_fit.fit_with(emulator, fields, (flux + light) / (1 + light), variance, veiling=0.1).veiling
    value, below, above = veiling.T
    assert (value > 0).all() and (below > 0).all() and (below <= value).all()
    assert np.quantile(value, [0.1, 0.5, 0.9]) == pytest.approx(max(light, 0), abs=0.03, rel=0.15)
    assert ((value == below) == (light < 0.01)).mean() > 0.9  # whether zero is within the interval
    assert 0.0005 < np.median(above) < 0.05


def test_with_nothing_shared_it_is_each_star_alone(emulator, stars):
    labels, flux, variance = stars
    tight = replace(joint_fit.START, depth=1e-7, relative=0.0, mixing=1e-7, shift=1e-7, strength=1e-7,
                    spread=(1e6, 1e3, 1e3), pinned=(1e6, 1e3, 1e3))
    fit = joint_fit.JointFit(emulator, flux, variance, tight)
    together = fit.minimise(enough=1e-5, n_steps=20)
    one_by_one, _ = fit.alone(fit.own, together.fields, 20)
    assert np.abs(together.fields.pixels).max() < 1e-6
    assert np.allclose(together.own[:, :4], one_by_one[:, :4], atol=[3.0, 0.01, 0.01, 0.02])


def test_narrow_lines_are_told_by_the_spectra_alone(emulator, stars):
    """Whatever rotation the models would need: of 24 stars six are fast, and lines are half as deep as the models'."""
    labels, flux, variance = stars
    fast = np.arange(24) < 6
    broad = Motion(emulator, N_PIXELS, np.where(fast, 15.0, 1.6), np.zeros(24), 60.0).apply(1 - (1 - flux) / 2)
    assert (joint_fit.JointFit(emulator, broad, variance).sharp() == ~fast).all()


def test_stars_that_are_lost_alone_start_where_their_lines_are_narrow(emulator, stars, monkeypatch):
    """That start ends as near to the truth as the usual one, and it is taken where it fits better."""
    labels, flux, variance = stars
    mean = labels[:, :3].mean(axis=0)
    alone = joint_fit.fit_alone(emulator, flux, variance, mean)
    monkeypatch.setattr(joint_fit, "LOST", 1.1)
    numbers = iter([2e-6, 1e-6])
    monkeypatch.setattr(joint_fit, "excess", lambda *_: next(numbers))
    joint = joint_fit.fit_jointly(emulator, flux, variance, mean)
    assert joint.fields.misfit == joint_fit.misfit_of(1e-6) and joint.converged
    assert (rms(joint.own[:, :4] - labels) < 0.5 * rms(alone.own[:, :4] - labels))[:2].all()


def test_a_star_is_fitted_alike_in_whichever_company(emulator, stars):
    labels, flux, variance = stars
    fields = joint_fit.Fields(np.random.default_rng(3).normal(0, [[0.05]] * 4 + [[0.003]], (5, N_PIXELS)), 0.1)
    together = joint_fit.fit_with(emulator, fields, flux, variance)
    by_twos = [joint_fit.fit_with(emulator, fields, flux[k : k + 2], variance[k : k + 2]) for k in range(0, 24, 2)]
    assert np.allclose(together.own, np.concatenate([fit.own for fit in by_twos]), rtol=1e-6, atol=1e-6)
    assert np.allclose(together.error, np.concatenate([fit.error for fit in by_twos]), rtol=1e-6)


@pytest.mark.parametrize("times", [1, 4, 20])
def test_own_uncertainties_do_not_depend_on_how_many_stars_are_fitted(emulator, stars, fields, times):
    _, flux, variance = (part[:6] for part in stars)
    alone, many = (joint_fit.fit_alone(emulator, np.tile(flux, (n, 1)), np.tile(variance, (n, 1))) for n in (1, times))
    assert np.allclose(many.width[:6], alone.width, rtol=0.1)  # the labels are others
    new = joint_fit.fit_with(emulator, fields, flux, variance, veiling=0.1)
    many = joint_fit.JointFit(emulator, np.tile(flux, (times, 1)), np.tile(variance, (times, 1)), veiling=0.1)
    many = replace(new, curvature=many.curvature_of_one(np.tile(new.own, (times, 1)), fields))
    assert np.allclose(many.width[:6], new.width, rtol=0.02)


@pytest.mark.parametrize("n_effective", [20, 0.6])
def test_teachers_have_the_veiling_and_the_uncertainties_of_new_stars(emulator, stars, monkeypatch, n_effective):
    """However little each counts, as of 24 or of 800 teachers."""
    _, flux, variance = stars
    light = 0.2 * (np.arange(24) % 8 == 3)[:, None]
    flux = (flux + light) / (1 + light)
    monkeypatch.setattr(joint_fit, "PRIORS", replace(joint_fit.PRIORS, n_effective=n_effective))
    fit = joint_fit.fit_jointly(emulator, flux, variance, veiling=0.1)
    new = joint_fit.fit_with(emulator, fit.fields, flux, variance, veiling=0.1)
    assert np.allclose(fit.veiling[3::8], new.veiling[3::8], atol=0.005)
    assert np.allclose(fit.veiling[3::8, 0], 0.2, atol=0.025)
    assert np.allclose(np.median(fit.width / new.width, axis=0), 1, rtol=0.02)


@pytest.mark.parametrize("noise, inflation, expected", [
    (1.0, 1.0, [1, 1, 1, 1]), (1.0, 2.0, [1, 1, 1, 1]), (0.0, 1.0, joint_fit.OWN[:4]),
    (0.0, 2.0, 2 * joint_fit.OWN[:4]), (0.5, 1.0, np.sqrt((1 + joint_fit.OWN[:4] ** 2) / 2)),
])
def test_noise_counts_as_it_is_and_the_error_of_the_model_as_it_was_found(noise, inflation, expected):
    assert np.allclose(joint_fit.uncertainty(np.ones((1, 4)), np.array([noise]), inflation), expected)


@pytest.mark.parametrize("noise", [0.0005, 0.005])
@pytest.mark.parametrize("missed", [0.0, 0.004])
def test_what_models_miss_is_told_from_noise_of_any_size(emulator, stars, noise, missed):
    labels = np.tile(stars[0], (8, 1))
    fit = joint_fit.Fit(np.c_[labels, np.zeros((len(labels), 3))], joint_fit.Fields.none(4, N_PIXELS), None, None, [],
                        True, True)
    flux = joint_fit.model(emulator, fit, N_PIXELS) + missed * np.sqrt(2) * np.sin(WAVE / 0.5)
    flux += np.random.default_rng(6).normal(0, noise, flux.shape)
    found = joint_fit.excess(emulator, fit, flux, np.full(flux.shape, 1e-4))  # said wrongly: it does not matter
    assert np.median(found) == pytest.approx(missed**2, rel=0.05, abs=0.5e-6)
    assert joint_fit.USUAL == pytest.approx(1 / 275 / np.sqrt(3), rel=0.02)  # of three pixels


def test_uncertainties_grow_with_what_the_corrected_models_do_not_fit(emulator, stars):
    labels, flux, variance = stars
    fit = joint_fit.fit_with(emulator, joint_fit.Fields.none(4, N_PIXELS), flux, variance)
    whole = joint_fit.misfit(emulator, fit, flux, variance)
    assert np.median(whole) > 2  # three lines are wrong
    assert np.median(joint_fit.misfit(emulator, joint_fit.fit_jointly(emulator, flux, variance), flux, variance)) < 1.5
    poor = replace(fit, fields=replace(fit.fields, misfit=4.0))
    noise = fit.width[:, :4] ** 2 * fit.noise[:, None]  # which stays as it is
    assert np.allclose(poor.error**2 - noise, 4 * (fit.error**2 - noise))
    wider, usual = gauge.MAPS["teff"].times(2), gauge.MAPS["teff"]
    assert wider.offset == usual.offset and wider.slopes[0] == 2 * usual.slopes[0]
    assert gauge.MAPS["vsini"].times(2).offset == 2 * gauge.MAPS["vsini"].offset


def test_two_stars_are_fitted_alone(emulator, stars):
    labels, flux, variance = stars
    joint, alone = (fit(emulator, flux[:2], variance[:2]) for fit in (joint_fit.fit_jointly, joint_fit.fit_alone))
    assert not joint.shared and not joint.fields.pixels.any()
    assert np.allclose(joint.own, alone.own)


def test_bad_pixels_have_no_weight(emulator, stars):
    labels, flux, variance = stars
    bad = np.random.default_rng(2).random(flux.shape) < 0.1
    absent, garbage = np.where(bad, np.nan, flux), np.where(bad, 77.0, flux)
    infinite = np.where(bad, np.inf, variance)
    results = [joint_fit.fit_alone(emulator, *spectra).own for spectra in ((absent, variance), (garbage, infinite))]
    assert np.array_equal(*results) and np.isfinite(results[0]).all()
    whole = joint_fit.fit_alone(emulator, flux, variance).own
    assert np.median(np.abs(results[0][:, 0] - whole[:, 0])) < 30


def test_bins_average_what_is_finite():
    flux = np.array([[1.0, 2.0, 3.0, np.nan, 5.0, np.nan, np.nan, np.nan, np.nan, 9.0]])
    mean, counts = bins.binned(flux, 3)
    assert np.allclose(mean, [[2.0, 5.0, np.nan]], equal_nan=True) and (counts == [[3, 1, 0]]).all()
    assert np.isinf(bins.variance_of(mean, counts, [100.0])[0, 2])
    noisy = 1 + np.random.default_rng(0).normal(0, 0.01, (1, 4000))
    assert bins.noise_of(noisy)[0] == pytest.approx(0.01, rel=0.1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("known, factor, bad", [
    ({}, 1.0, 0), ({"pixel": 0.04}, 4.0, 0), ({"pixel": np.nan}, 1.0, 0), ({"bridged": "30-32 60-60"}, 1.0, 1),
    ({"bridged": ""}, 1.0, 0), ({"bridged": np.nan}, 1.0, 0), ({"pixel": 0.02, "bridged": "0-59"}, 2.0, 20),
    ({"pixel": 0}, 1.0, 0), ({"pixel": -0.02}, 1.0, 0), ({"pixel": "narrow"}, 1.0, 0),
])
def test_what_was_bridged_has_no_weight_and_the_noise_is_that_of_the_pixels_as_they_were(known, factor, bad):
    flux = np.random.default_rng(4).uniform(0.8, 1, (1, 300))
    plain, before = joint_run.of_stars(pd.DataFrame({"karmn": ["A"], "snr": [100.0]}), flux, 0.01, 3)
    binned, variance = joint_run.of_stars(pd.DataFrame({"karmn": ["A"], "snr": [100.0], **known}), flux, 0.01, 3)
    assert np.isinf(variance).sum() == bad and np.isfinite(before).all()
    whole = binned == plain  # a bin with a bad pixel among good ones is not
    assert whole.sum() >= 79 and np.allclose((variance / before)[whole], factor)


def test_stretches_beyond_the_spectrum_are_refused_in_one_line():
    with pytest.raises(BadInput, match="column bridged of A to A: 298-300 is no stretch of 300 pixels: prepare"):
        joint_run.of_stars(pd.DataFrame({"karmn": ["A"], "bridged": ["298-300"]}), np.ones((1, 300)), 0.01, 3)


# ---------------------------------------------------------------- the gauge
def made_up(n=200):
    rng = np.random.default_rng(8)
    labels = np.c_[rng.normal(3500, 270, n), rng.normal(4.9, 0.1, n), rng.normal(0, 0.2, n), rng.uniform(2, 5, n)]
    return labels, np.full(n, 10.0)


def test_without_anything_from_outside_the_map_is_the_identity_and_as_uncertain_as_its_prior():
    labels, own = made_up()
    found = gauge.solve("teff", labels, own, gauge.Observation())
    value, shared = gauge.apply("teff", labels, found)
    assert np.array_equal(value, labels[:, 0]) and shared.min() >= gauge.MAPS["teff"].offset


def test_many_anchors_find_the_map_and_few_do_no_harm():
    labels, own = made_up()
    truth = labels[:, 0] + 120 + 0.06 * (labels[:, 0] - labels[:, 0].mean())
    rows = np.arange(100)
    found = gauge.solve("teff", labels, own, gauge.Observation(rows, truth[rows], np.full(100, 5.0)))
    value, shared = gauge.apply("teff", labels, found)
    assert rms(value - truth) < 4 and np.median(shared) < 4
    one = gauge.solve("teff", labels, own, gauge.Observation([0], truth[:1], [60.0]))
    value, shared = gauge.apply("teff", labels, one)
    assert rms(value - truth) < rms(labels[:, 0] - truth) and np.median(shared) > 40


def test_an_error_that_all_anchors_share_stays():
    labels, own = made_up()
    rows = np.arange(150)
    found = gauge.solve("teff", labels, own, gauge.Observation(rows, labels[rows, 0], np.full(150, 20.0), shared=30.0))
    assert np.sqrt(found.covariance[0, 0]) == pytest.approx(30, rel=0.1)


def test_the_mean_of_the_sample_sets_the_offset_alone():
    labels, own = made_up()
    found = gauge.solve("logg", labels, own / 1000, gauge.Observation(mean=(labels[:, 1].mean() + 0.1, 0.01)))
    assert found.coefficients[0] == pytest.approx(0.1, rel=0.02) and not found.coefficients[1:].any()


def test_an_anchor_is_never_scored_and_the_constant_stands_beside():
    labels, _ = made_up(30)
    truth = pd.DataFrame({"karmn": [f"J{k}" for k in range(30)], "teff": labels[:, 0], "logg": labels[:, 1],
                          "mh": labels[:, 2], "vsini": labels[:, 3]})
    off = labels[:, 0] + np.where(np.arange(30) < 5, 1e6, 50.0)  # the anchors' own estimates do not count
    estimates = table(truth, {"teff": (off, np.full(30, 60.0), np.full(30, 60.0))})
    errors = errors_beside_baselines({"ours": estimates}, truth, {"teff": truth["karmn"][:5]})
    errors = errors.set_index(["parameter", "estimates"])
    assert errors.loc[("Teff [K]", "ours"), "n"] == 25
    assert errors.loc[("Teff [K]", "ours"), ["rmse", "r", "held"]].tolist() == pytest.approx([50.0, 1.0, 1.0])
    assert errors.loc[("Teff [K]", "one constant for all"), "rmse"] == pytest.approx(labels[5:, 0].std())
    assert errors.loc[("logg [dex]", "one constant for all"), "rmse"] == pytest.approx(labels[:, 1].std())
