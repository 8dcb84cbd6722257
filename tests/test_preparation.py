"""The steps that observed and synthetic spectra share, each against another implementation or a known truth."""
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

import paper
from spectra.continuum import CONTINUA, aligned, envelope, flattened, gisic, normalise
from spectra.transforms import LIGHT, WAVE, WINDOW, degrade, to_air, to_vacuum
from spectra.velocity import Templates, measure_velocity
from synthetic import simulation as sim

HERE = Path(__file__).resolve().parent
PHYSICS = sim.Physics.reference()
LABELS = np.array([[2600, 5.1, 0, 2], [3000, 5, 0, 15], [3300, 4.9, -0.4, 2], [3800, 4.8, 0.2, 5], [4300, 4.7, 0, 30]])


def gisic_input(number):
    """One of the spectra that GISIC 2.0.5 was run on: lines on a tilted continuum, with noise; some in other units."""
    rng = np.random.default_rng(number)
    flux = 1 + rng.normal(0, 0.1) * np.linspace(-1, 1, len(WAVE))
    for _ in range(rng.integers(5, 80)):
        centre, width, depth = rng.uniform(WAVE[0], WAVE[-1]), rng.uniform(0.05, 0.8), rng.uniform(0, 0.4)
        flux *= 1 - depth * np.exp(-0.5 * ((WAVE - centre) / width) ** 2)
    return flux * (1 + rng.normal(0, rng.uniform(0, 0.02), len(WAVE))) * (1, 1, 1, 50)[number % 4]


@pytest.fixture(scope="module")
def pyasl():
    """PyAstronomy's functions, which take seconds to import."""
    from PyAstronomy import pyasl

    return pyasl


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


# ---------------------------------------------------------------- continuum
def test_gisic_equals_gisic_2_0_5():
    """The reference: GISIC.normalize(WAVE, gisic_input(i)) under pandas 1.5.3, scipy 1.11.4, each 250th pixel."""
    reference = np.loadtxt(HERE / "gisic_2.0.5.csv", delimiter=",")
    assert len(reference) == 20
    for number, expected in enumerate(reference):
        ours = gisic(WAVE, gisic_input(number))[::250]
        np.testing.assert_allclose(ours, expected, rtol=1e-6, err_msg=str(number))


def test_gisic_of_a_flat_spectrum_is_that_spectrum():
    np.testing.assert_allclose(gisic(WAVE, np.full(len(WAVE), 0.7)), 0.7, rtol=1e-6)


@pytest.mark.parametrize("continuum", CONTINUA)
@pytest.mark.parametrize("blaze, tolerance", [
    (lambda x: 3e-14 + 0 * x, 1e-6),
    (lambda x: 1e5 * (1 + 0.1 * x), 1e-3),
    (lambda x: 1 - 0.3 * (x - 0.3) ** 2, 0.008),
    (lambda x: np.exp(-0.5 * ((x + 0.8) / 1.2) ** 2), 0.008),
])
def test_blaze_and_unit_leave_the_normalised_flux_alone(stars, continuum, blaze, tolerance):
    x = np.linspace(-1, 1, len(WAVE))
    for flux in stars[:, sim.NORMALISED]:
        plain, blazed = (normalise(flux * factor, continuum)[WINDOW] for factor in (1.0, blaze(x)))
        assert np.std(blazed - plain) < tolerance


@pytest.mark.parametrize("continuum", CONTINUA)
@pytest.mark.parametrize("blaze", [
    lambda x: 1 + 0 * x,
    lambda x: 0.6 + 0.25 * x - 0.2 * x**2,
    lambda x: np.exp(-0.5 * ((x + 0.8) / 1.2) ** 2),
    lambda x: np.sinc(0.45 * (x + 0.15)) ** 2,
], ids=["none", "to a quarter", "to a third", "of a grating"])
def test_aligned_with_a_star_alike_it_is_the_synthetic_spectrum_behind_any_blaze(stars, continuum, blaze):
    """The synthetic spectra were divided by their continuum once; template and star differ by a step of the grid."""
    templates = np.empty_like(stars)
    for rows, smooth in sim.smooth_spectra(LABELS + [100, 0.1, 0.2, 1], PHYSICS):
        templates[rows] = smooth
    errors = []
    for flux, template in zip(stars[:, sim.NORMALISED], templates[:, sim.NORMALISED]):
        synthetic, template = (each / CONTINUA[continuum](each) for each in (flux, template))
        behind = normalise(flux * blaze(np.linspace(-1, 1, len(WAVE))), continuum)[WINDOW]
        found, factor = aligned(behind, template[WINDOW], np.ones(paper.N_PIXELS, bool))
        np.testing.assert_allclose(found, behind * factor)
        errors.append([np.std(each - synthetic[WINDOW]) for each in (behind, found)])
    before, after = np.sqrt(np.mean(np.square(errors), axis=0))
    assert after < 0.005 and after < 0.45 * before


def test_lines_that_the_template_has_not_do_not_lift_the_star(stars, templates):
    flux = templates.flux[2].copy()
    for centre in np.linspace(8802, 8833, 25):
        flux *= 1 - 0.3 * np.exp(-0.5 * ((paper.WAVELENGTH - centre) / 0.1) ** 2)
    found, _ = aligned(flux, templates.flux[2], np.ones(paper.N_PIXELS, bool))
    np.testing.assert_allclose(found, flux, atol=0.005)


@pytest.mark.parametrize("missing", [
    paper.WAVELENGTH > 8830, paper.WAVELENGTH > 8824, paper.WAVELENGTH < 8806, np.abs(paper.WAVELENGTH - 8815) < 3,
], ids=["one end", "more of it", "the other end", "a gap"])
def test_what_is_bridged_does_not_lift_the_rest(templates, missing):
    """A star behind what a cubic leaves; the bridge is straight, through whatever line it begins in."""
    x = np.linspace(-1, 1, paper.N_PIXELS)
    for template in templates.flux:
        flux = template * (1 + 0.01 * x)
        flux[missing] = np.interp(x[missing], x[~missing], flux[~missing])
        found, _ = aligned(flux, template, ~missing)
        np.testing.assert_allclose(found[~missing], template[~missing], atol=0.005)


def test_envelope_is_the_normalisation_of_the_simulation(stars):
    flux = stars[:, sim.NORMALISED]
    np.testing.assert_array_equal((flux / envelope(flux))[:, WINDOW], sim.normalise(stars))


def test_gisic_finds_the_continuum_of_stars_that_have_one(stars):
    for flux in stars[3:, sim.NORMALISED]:  # the warm ones; their lines are few
        assert np.percentile(normalise(flux)[WINDOW], 95) == pytest.approx(1, abs=0.005)


# ---------------------------------------------------------------- wavelengths
def test_air_and_vacuum_are_those_of_pyastronomy(pyasl):
    wave = np.linspace(4000, 10_500, 50)
    np.testing.assert_allclose(to_vacuum(wave), pyasl.airtovac2(wave, mode="ciddor"), rtol=0, atol=1e-4)
    np.testing.assert_allclose(to_air(wave), pyasl.vactoair2(wave, mode="ciddor"), rtol=0, atol=1e-4)
    np.testing.assert_allclose(to_air(to_vacuum(wave)), wave, rtol=0, atol=1e-9)
    assert to_air(8800.0) == pytest.approx(8797.58, abs=0.01)


@pytest.mark.parametrize("target", [80_000, 55_000, 20_000])
def test_degraded_is_what_an_instrument_of_that_resolving_power_sees(target):
    intrinsic = sim.intrinsic_spectra(LABELS[2:3, :3], PHYSICS)[0]
    high, low = (sim.broaden(intrinsic, [2.0], power)[0][sim.NORMALISED] for power in (paper.RESOLVING_POWER, target))
    ours = degrade(high, paper.RESOLVING_POWER, target)
    np.testing.assert_allclose(ours[WINDOW], low[WINDOW], atol=1e-3)
    assert degrade(high, target, paper.RESOLVING_POWER) is high


def test_degrading_agrees_with_pyastronomy(pyasl, templates):
    ours = degrade(templates.flux[2], 1e7, 50_000)
    theirs = pyasl.instrBroadGaussFast(paper.WAVELENGTH, templates.flux[2], 50_000, edgeHandling="firstlast")
    np.testing.assert_allclose(ours[50:-50], theirs[50:-50], atol=1e-3)


# ---------------------------------------------------------------- velocities
def shifted(flux, rv):
    return np.interp(sim.WAVE, sim.WAVE * (1 + rv / LIGHT), flux)


@pytest.mark.parametrize("rv", [-58.3, -10, 0, 0.11, 33.33, 61.7])
def test_velocity_is_found_to_a_tenth_of_a_pixel(stars, templates, rv):
    for number, flux in enumerate(stars):
        found = measure_velocity(sim.WAVE, flattened(shifted(flux, rv)), templates)
        assert found.rv == pytest.approx(rv, abs=0.1)
        assert found.template == number and found.height > 0.98


def test_velocity_is_that_of_crosscorr_rv(pyasl, stars, templates):
    """The template takes the star's place and the other way round, as the template is the shorter one here."""
    flux = flattened(shifted(stars[2], 21.7))
    one = Templates(templates.flux[2:3], templates.atomic[2:3])
    lags, sums = pyasl.crosscorrRV(
        paper.WAVELENGTH, one.flux[0] - one.flux[0].mean(), sim.WAVE, flux - flux.mean(), -30, 30, 0.3, skipedge=0)
    top = slice(sums.argmax() - 1, sums.argmax() + 2)
    slope = np.polyfit(lags[top], sums[top], 2)
    assert measure_velocity(sim.WAVE, flux, one).rv == pytest.approx(slope[1] / slope[0] / 2, abs=0.02)


def test_error_of_a_velocity_is_its_scatter(stars, templates):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        noisy = stars[2] + rng.normal(0, 1 / 30, len(sim.WAVE)) * np.sqrt(stars[2])
        found.append(measure_velocity(sim.WAVE, flattened(noisy), templates))
    scatter = np.std([each.rv for each in found])
    assert scatter == pytest.approx(np.median([each.error for each in found]), rel=0.4)


def test_noise_and_continua_without_lines_have_no_peak(templates):
    rng = np.random.default_rng(2)
    for smoothing in (0.1, 5, 30, 100):
        flux = gaussian_filter1d(rng.normal(size=(10, len(sim.WAVE))), smoothing, axis=1)
        for each in 1 + 0.1 * flux / flux.std():
            found = measure_velocity(sim.WAVE, flattened(each), templates)
            assert not found.is_peak


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
    found = Templates.of(np.ones((4, paper.N_PIXELS)) * np.arange(4)[:, None], labels)
    assert {0, 1} <= set(found.flux[:, 0]) and len(found.flux) == len(set(found.flux[:, 0]))
    assert (found.atomic == (labels[found.flux[:, 0].astype(int), 0] > 3500)).all()
    assert Templates.of(np.ones((1, paper.N_PIXELS)), labels[:1]).atomic.all()


def test_too_little_of_the_window_gives_no_velocity(templates):
    part = sim.WAVE < 8820
    with pytest.raises(ValueError, match="too short"):
        measure_velocity(sim.WAVE[part], np.ones(part.sum()), templates)
