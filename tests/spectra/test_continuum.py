"""The pseudo-continuum against GISIC itself, a blaze that is known, and synthetic spectra behind it."""
from pathlib import Path

import numpy as np
import pytest

import paper
from spectra.continuum import CONTINUA, aligned, envelope, gisic, normalise
from spectra.transforms import WAVE, WINDOW
from synthetic import simulation as sim
from training import perturbation

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


def before_normalisation(labels):
    """Simulated spectra on window and margin."""
    spectra = np.empty((len(labels), len(WAVE)))
    for rows, smooth in sim.smooth_spectra(labels, PHYSICS):
        spectra[rows] = smooth[:, sim.NORMALISED]
    return spectra


@pytest.fixture(scope="module")
def stars():
    return before_normalisation(LABELS)


def test_gisic_equals_gisic_2_0_5():
    """The reference: GISIC.normalize(WAVE, gisic_input(i)) under pandas 1.5.3, scipy 1.11.4, each 250th pixel."""
    reference = np.loadtxt(HERE / "gisic_2.0.5.csv", delimiter=",")
    assert len(reference) == 20
    for number, expected in enumerate(reference):
        ours = gisic(WAVE, gisic_input(number))[::250]
        np.testing.assert_allclose(ours, expected, rtol=1e-6, err_msg=str(number))


def test_gisic_of_a_flat_spectrum_is_that_spectrum():
    np.testing.assert_allclose(gisic(WAVE, np.full(len(WAVE), 0.7)), 0.7, rtol=1e-6)


def test_gisic_finds_the_continuum_of_stars_that_have_one(stars):
    for flux in stars[3:]:  # the warm ones; their lines are few
        assert np.percentile(normalise(flux)[WINDOW], 95) == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("continuum", CONTINUA)
@pytest.mark.parametrize("blaze, tolerance", [
    (lambda x: 3e-14 + 0 * x, 1e-6),
    (lambda x: 1e5 * (1 + 0.1 * x), 1e-3),
    (lambda x: np.exp(-0.5 * ((x + 0.8) / 1.2) ** 2), 0.008),
], ids=["unit", "tilt", "to a third"])
def test_blaze_and_unit_leave_the_normalised_flux_alone(stars, continuum, blaze, tolerance):
    x = np.linspace(-1, 1, len(WAVE))
    for flux in stars:
        plain, blazed = (normalise(flux * factor, continuum)[WINDOW] for factor in (1.0, blaze(x)))
        assert np.std(blazed - plain) < tolerance


# ---------------------------------------------------------------- the envelope
def test_envelope_is_the_normalisation_of_the_simulation(stars):
    for flux, star in zip(stars, LABELS):
        expected = sim.synthesise([star], PHYSICS)[0]
        np.testing.assert_allclose((flux / envelope(flux))[WINDOW], expected, rtol=1e-6)


def test_envelope_of_a_quadratic_is_that_quadratic():
    x = np.linspace(-1, 1, 4501)
    flux = np.array([1 + 0.02 * x - 0.03 * x**2, 2 - 0.01 * x])
    np.testing.assert_allclose(envelope(flux), flux, atol=0.01)  # a percentile of a slope lies above its middle


@pytest.mark.parametrize("n_pixels", [2, 9, 60, 3501])
def test_envelope_in_single_precision_is_the_same(n_pixels):
    flux = np.random.default_rng(1).uniform(0.9, 1.1, (3, n_pixels)).astype(np.float32)
    single = perturbation.envelope(flux)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, np.maximum(envelope(flux.astype(float)), 0.1), rtol=1e-4)


# ---------------------------------------------------------------- alignment with a template
@pytest.mark.parametrize("continuum", CONTINUA)
@pytest.mark.parametrize("blaze", [
    lambda x: 1 + 0 * x, lambda x: 0.6 + 0.25 * x - 0.2 * x**2, lambda x: np.sinc(0.45 * (x + 0.15)) ** 2,
], ids=["none", "to a quarter", "of a grating"])
def test_aligned_with_a_star_alike_it_is_the_synthetic_spectrum_behind_any_blaze(stars, continuum, blaze):
    """The synthetic spectra were divided by their continuum once; template and star differ by a step of the grid."""
    errors = []
    for flux, template in zip(stars, before_normalisation(LABELS + [100, 0.1, 0.2, 1])):
        synthetic, template = (spectrum / CONTINUA[continuum](spectrum) for spectrum in (flux, template))
        behind = normalise(flux * blaze(np.linspace(-1, 1, len(WAVE))), continuum)[WINDOW]
        result, factor = aligned(behind, template[WINDOW], np.ones(paper.N_PIXELS, bool))
        np.testing.assert_allclose(result, behind * factor)
        errors.append([np.std(spectrum - synthetic[WINDOW]) for spectrum in (behind, result)])
    before, after = np.sqrt(np.mean(np.square(errors), axis=0))
    assert after < 0.005 and after < 0.45 * before


def test_lines_that_the_template_has_not_do_not_lift_the_star():
    template = sim.synthesise(LABELS[2:3], PHYSICS)[0].astype(float)
    flux = template.copy()
    for centre in np.linspace(8802, 8833, 25):
        flux *= 1 - 0.3 * np.exp(-0.5 * ((paper.WAVELENGTH - centre) / 0.1) ** 2)
    np.testing.assert_allclose(aligned(flux, template, np.ones(paper.N_PIXELS, bool))[0], flux, atol=0.005)


@pytest.mark.parametrize("missing", [
    paper.WAVELENGTH > 8824, paper.WAVELENGTH < 8806, np.abs(paper.WAVELENGTH - 8815) < 3,
], ids=["one end", "the other end", "a gap"])
def test_what_is_bridged_does_not_lift_the_rest(missing):
    """A star behind what a cubic leaves; the bridge is straight, through whatever line it begins in."""
    x = np.linspace(-1, 1, paper.N_PIXELS)
    for template in sim.synthesise(LABELS, PHYSICS).astype(float):
        flux = template * (1 + 0.01 * x)
        flux[missing] = np.interp(x[missing], x[~missing], flux[~missing])
        np.testing.assert_allclose(aligned(flux, template, ~missing)[0][~missing], template[~missing], atol=0.005)
