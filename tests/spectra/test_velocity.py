"""Velocities of spectra whose shift is known, in pixels and in km/s."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from arrays import observed_of, synthetic_of
from scipy.ndimage import gaussian_filter1d

import paper
from spectra import dataset, velocity
from spectra.continuum import flattened
from spectra.transforms import LIGHT
from spectra.velocity import Templates, check_lag, cross_correlation, lag, mean_flux, measure_velocity
from synthetic import simulation as sim
from workflow import files

PHYSICS = sim.Physics.reference()
LABELS = np.array([[2600, 5.1, 0, 2], [3000, 5, 0, 15], [3300, 4.9, -0.4, 2], [3800, 4.8, 0.2, 5], [4300, 4.7, 0, 30]])


def test_cross_correlation_is_the_coefficient_of_each_part():
    rng = np.random.default_rng(1)
    flux, template = rng.uniform(0.5, 1.2, 40), rng.uniform(0.5, 1.2, 31)
    expected = [np.corrcoef(flux[k : k + 31], template)[0, 1] for k in range(10)]
    np.testing.assert_allclose(cross_correlation(flux, template), expected, atol=1e-12)


# ---------------------------------------------------------------- in pixels
def sky(n, shift=lambda wavelength: wavelength, seed=1, width=(0.05, 0.3)):
    """Noisy spectra of the same forty lines, each somewhat stronger or broader, at wavelengths [Angstrom] shifted."""
    lines, depths = np.random.default_rng(0).uniform([[8785], [0.05]], [[8850], [0.5]], (2, 40))
    rng = np.random.default_rng(seed)
    flux = np.ones((n, paper.N_PIXELS))
    for spectrum, sigma in zip(flux, rng.uniform(*width, n)):
        for line, depth in zip(shift(lines), depths * rng.uniform(0.7, 1.3, 40)):
            spectrum -= depth * 0.1 / np.hypot(0.1, sigma) * np.exp(-0.5 * ((paper.WAVELENGTH - line) / sigma) ** 2)
    return (flux + rng.normal(0, 1 / 150, flux.shape)).astype(np.float32)


def moved(v):
    return lambda wavelength: wavelength * (1 + v / 299_792.458)


def air(wavelength):
    """Refraction at 8800 Angstrom (Ciddor 1996)."""
    return wavelength / 1.0002746


SHIFTS = {"air": (air, -242), "-10 km/s": (moved(-10), -29), "3 km/s": (moved(3), 9), "1 km/s": (moved(1), 3)}


@pytest.mark.parametrize(("shift", "pixels"), SHIFTS.values(), ids=SHIFTS)
def test_lag_of_all(shift, pixels):
    stars = pd.DataFrame({"karmn": [f"J{i}" for i in range(14)], "good": True})
    lags, mean_lag, warnings = check_lag(sky(40), sky(14, shift, seed=2), stars)
    assert abs(mean_lag - pixels) <= 1 and (lags["lag"] - pixels).abs().max() <= 3
    assert lags["karmn"].tolist() == stars["karmn"].tolist()
    assert len(warnings) == (abs(pixels) > paper.LAG_MEAN)
    for line in warnings:
        assert line.startswith("warning: ") and f"{mean_lag:+d} pixels" in line and "\n" not in line
        assert "vacuum" in line and "rest" in line


def test_lag_of_single_stars():
    flux_carm = sky(20, seed=2)
    flux_carm[[3, 9]] = sky(2, moved(-20), seed=3)
    flux_carm[5] = np.nan
    stars = pd.DataFrame({"karmn": [f"J{i}" for i in range(20)]})
    lags, mean_lag, warnings = check_lag(sky(40), flux_carm, stars.assign(good=dataset.usable(flux_carm)))
    assert abs(mean_lag) <= 1 and np.flatnonzero(lags["lag"].isna()).tolist() == [5]
    assert len(warnings) == 1 and "2 of the observed spectra" in warnings[0] and "velocity" in warnings[0]
    assert "J3 by -5" in warnings[0] and "J9 by -5" in warnings[0] and ", ... pixels" not in warnings[0]
    flux_carm[10:16] = sky(6, moved(30), seed=3)
    warnings = check_lag(sky(40), flux_carm, stars.assign(good=dataset.usable(flux_carm)))[2]
    assert "8 of the observed" in warnings[0] and warnings[0].count(" by +8") == 3 and ", ... pixels" in warnings[0]


@pytest.mark.parametrize("width", [(0.04, 0.06), (0.4, 0.5)], ids=["narrow", "broad"])
def test_lag_of_narrow_and_broad_lines(width):
    assert np.abs(lag(sky(10, moved(-10), 5, width), sky(40).mean(axis=0)) + 29).max() <= 4


def test_lag_of_the_tiny_arrays(data):
    flux_ph, _ = synthetic_of(data)
    lags, mean_lag, warnings = check_lag(flux_ph, *observed_of(data))
    assert mean_lag == 1 and lags["lag"].between(0, 1).all() and not warnings
    assert lag(np.roll(flux_ph[:5], -4, axis=1), flux_ph[:].mean(axis=0)).tolist() == [-4] * 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_pixels", [2, 3, 60])
def test_lag_of_nothing_is_none(n_pixels):
    assert lag(np.ones((2, n_pixels)), np.ones(n_pixels)).tolist() == [0, 0]


def test_mean_is_taken_in_pieces(data, monkeypatch):
    flux_ph, _ = synthetic_of(data)
    pieces = []
    monkeypatch.setattr(files, "CHUNK", 30)
    monkeypatch.setattr(velocity, "take", lambda flux, rows: pieces.append(len(rows)) or flux[rows])
    rows = np.arange(0, 200, 2)
    np.testing.assert_allclose(mean_flux(flux_ph, rows), flux_ph[rows].mean(axis=0, dtype=float))
    assert pieces == [30, 30, 30, 10]


# ---------------------------------------------------------------- in km/s
@pytest.fixture(scope="module")
def stars():
    """Simulated spectra before normalisation, on the wavelengths of the simulator."""
    spectra = np.empty((len(LABELS), len(sim.WAVE)))
    for rows, smooth in sim.smooth_spectra(LABELS, PHYSICS):
        spectra[rows] = smooth
    return spectra


@pytest.fixture(scope="module")
def templates(stars):
    return Templates(sim.normalise(stars), np.ones(len(stars), bool))


def shifted(flux, rv):
    return np.interp(sim.WAVE, sim.WAVE * (1 + rv / LIGHT), flux)


@pytest.mark.parametrize("rv", [-58.3, 0, 0.11, 33.33])
def test_velocity_is_found_to_a_tenth_of_a_pixel(stars, templates, rv):
    for number, flux in enumerate(stars):
        measured = measure_velocity(sim.WAVE, flattened(shifted(flux, rv)), templates)
        assert measured.rv == pytest.approx(rv, abs=0.1)
        assert measured.template == number and measured.height > 0.98


def test_velocity_is_that_of_crosscorr_rv(stars, templates):
    """The template takes the star's place and the other way round, as the template is the shorter one here."""
    from PyAstronomy import pyasl

    flux = flattened(shifted(stars[2], 21.7))
    single = Templates(templates.flux[2:3], templates.atomic[2:3])
    lags, sums = pyasl.crosscorrRV(
        paper.WAVELENGTH, single.flux[0] - single.flux[0].mean(), sim.WAVE, flux - flux.mean(), -30, 30, 0.3,
        skipedge=0)
    top = slice(sums.argmax() - 1, sums.argmax() + 2)
    slope = np.polyfit(lags[top], sums[top], 2)
    assert measure_velocity(sim.WAVE, flux, single).rv == pytest.approx(slope[1] / slope[0] / 2, abs=0.02)


def test_error_of_a_velocity_is_its_scatter(stars, templates):
    rng = np.random.default_rng(1)
    measured = []
    for _ in range(60):
        noisy = stars[2] + rng.normal(0, 1 / 30, len(sim.WAVE)) * np.sqrt(stars[2])
        measured.append(measure_velocity(sim.WAVE, flattened(noisy), templates))
    scatter = np.std([star.rv for star in measured])
    assert scatter == pytest.approx(np.median([star.noise for star in measured]), rel=0.4)


@pytest.mark.parametrize("width", [0.08, 0.25], ids=["sharp", "broad"])
def test_error_of_a_velocity_counts_each_line_that_is_off_by_its_own(width):
    """Of a star whose velocity rests on three strong lines, each 0.03 Angstrom (1 km/s) off at random."""
    rng, wave = np.random.default_rng(0), np.arange(8785, 8850, 0.02)
    places, depths = np.r_[8803.1, 8809.2, 8827, rng.uniform(8790, 8845, 20)], np.r_[0.5, 0.5, 0.4, [0.05] * 20]

    def spectrum(wave, off):
        profiles = np.exp(-0.5 * ((wave - (places + off)[:, None]) / width) ** 2)
        return 1 - depths @ profiles

    template = Templates(spectrum(paper.WAVELENGTH, 0)[None], np.ones(1, bool))
    stars = [measure_velocity(wave, spectrum(wave, rng.normal(0, 0.03, 23)), template) for _ in range(20)]
    scatter = np.sqrt(np.mean([star.rv**2 for star in stars]))
    assert np.median([star.error for star in stars]) == pytest.approx(scatter, rel=0.4)


def test_noise_and_continua_without_lines_have_no_peak(templates):
    rng = np.random.default_rng(2)
    for smoothing in (0.1, 5, 30, 100):
        noise = gaussian_filter1d(rng.normal(size=(10, len(sim.WAVE))), smoothing, axis=1)
        for flux in 1 + 0.1 * noise / noise.std():
            assert measure_velocity(sim.WAVE, flattened(flux), templates).missed


def test_lines_that_come_again_at_equal_distances_have_no_peak(stars, templates):
    """That the peak hardly stands out is all that says so: nothing else would leave this spectrum out."""
    again = np.mean([shifted(stars[1], rv) for rv in range(-270, 271, 90)], axis=0)
    measured = measure_velocity(sim.WAVE, 1 - 5.6 * (1 - flattened(again)), templates)
    assert measured.missed.startswith("has no peak") and replace(measured, contrast=3.0).missed == ""


@pytest.mark.parametrize("seed", range(3))
def test_molecules_in_the_wrong_place_shift_the_velocity_by_less_than_they_are_off(seed):
    """Of a cool star that rotates, through a line list whose molecules alone are off by 3 km/s at random."""
    rng = np.random.default_rng(seed)
    molecular = np.isin(PHYSICS.species, list(sim.BINDING))
    off = replace(PHYSICS, wave=PHYSICS.wave + 0.09 * rng.normal(size=len(molecular)) * molecular)
    labels = np.array([[teff, 5.0, 0, 12] for teff in (3000.0, 3300, 3700, 4200)])
    templates = Templates(sim.synthesise(labels, PHYSICS).astype(float), labels[:, 0] > 3500)
    flux = sim.broaden(sim.intrinsic_spectra(labels[:1, :3], off)[0], [12.0])[0]
    assert measure_velocity(sim.WAVE, flattened(flux), templates).rv == pytest.approx(0, abs=1.0)


def test_templates_are_those_next_to_the_nodes():
    labels = np.array([[2500, 5.2, 0, 2], [3700, 4.8, 0, 2], [4450, 4.7, -1, 30], [3300, 4.9, 0.6, 30.0]])
    templates = Templates.of(np.ones((4, paper.N_PIXELS)) * np.arange(4)[:, None], labels)
    rows = templates.flux[:, 0].astype(int)
    assert {0, 1} <= set(rows) and len(rows) == len(set(rows))
    assert (templates.atomic == (labels[rows, 0] > 3500)).all()
    assert Templates.of(np.ones((1, paper.N_PIXELS)), labels[:1]).atomic.all()


def test_too_little_of_the_window_gives_no_velocity(templates):
    part = sim.WAVE < 8820
    with pytest.raises(ValueError, match="too short"):
        measure_velocity(sim.WAVE[part], np.ones(part.sum()), templates)
