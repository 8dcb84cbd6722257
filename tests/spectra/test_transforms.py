"""Air, rotation and the instrument, each against a formula written by hand or PyAstronomy."""
import numpy as np
import pytest

import paper
from spectra.transforms import LIMB_DARKENING, WINDOW, broaden, degrade, rotation_kernel, to_air, to_vacuum
from synthetic import simulation as sim


@pytest.fixture(scope="module")
def pyasl():
    """PyAstronomy's functions, which take seconds to import."""
    from PyAstronomy import pyasl

    return pyasl


@pytest.fixture(scope="module")
def intrinsic():
    return sim.intrinsic_spectra(np.array([[3300, 4.9, -0.1]]), sim.Physics.reference())[0]


def test_air_and_vacuum_are_those_of_pyastronomy(pyasl):
    wave = np.linspace(4000, 10_500, 50)
    np.testing.assert_allclose(to_vacuum(wave), pyasl.airtovac2(wave, mode="ciddor"), rtol=0, atol=1e-4)
    np.testing.assert_allclose(to_air(wave), pyasl.vactoair2(wave, mode="ciddor"), rtol=0, atol=1e-4)
    np.testing.assert_allclose(to_air(to_vacuum(wave)), wave, rtol=0, atol=1e-9)
    assert to_air(8800.0) == pytest.approx(8797.58, abs=0.01)


# ---------------------------------------------------------------- rotation
def test_rotation_kernel_is_grays_profile():
    step, vsini, epsilon = 1e-3, 20.0, 0.6
    kernel = rotation_kernel(vsini, step)
    limit = 8817.5 * vsini / 299_792.458
    offset = (np.arange(len(kernel)) - len(kernel) // 2) * step
    x2 = np.clip(1 - (offset / limit) ** 2, 0, None)
    gray = (2 * (1 - epsilon) * np.sqrt(x2) + np.pi * epsilon / 2 * x2) / (np.pi * limit * (1 - epsilon / 3))
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(kernel[5:-5] / step, gray[5:-5], rtol=2e-3)


@pytest.mark.parametrize("vsini", [1.5, 12, 30])
def test_broadening_agrees_with_pyastronomy_and_keeps_equivalent_widths(pyasl, intrinsic, vsini):
    broad = broaden(intrinsic, [vsini])[0]
    rotated = pyasl.rotBroad(sim.WAVE, intrinsic, LIMB_DARKENING, vsini, edgeHandling="firstlast")
    theirs = pyasl.instrBroadGaussFast(sim.WAVE, rotated, paper.RESOLVING_POWER, edgeHandling="firstlast")
    np.testing.assert_allclose(broad[150:-150], theirs[150:-150], rtol=0, atol=1e-3)
    assert (1 - broad).sum() == pytest.approx((1 - intrinsic).sum(), rel=1e-9) and broad.min() > intrinsic.min()


# ---------------------------------------------------------------- the instrument
@pytest.mark.parametrize("target", [80_000, 20_000])
def test_degraded_is_what_an_instrument_of_that_resolving_power_sees(intrinsic, target):
    high, low = (broaden(intrinsic, [2.0], power)[0][sim.NORMALISED] for power in (paper.RESOLVING_POWER, target))
    np.testing.assert_allclose(degrade(high, paper.RESOLVING_POWER, target)[WINDOW], low[WINDOW], atol=1e-3)
    assert degrade(high, target, paper.RESOLVING_POWER) is high


def test_degrading_agrees_with_pyastronomy(pyasl, intrinsic):
    flux = broaden(intrinsic, [2.0])[0][sim.NORMALISED][WINDOW]
    theirs = pyasl.instrBroadGaussFast(paper.WAVELENGTH, flux, 50_000, edgeHandling="firstlast")
    np.testing.assert_allclose(degrade(flux, 1e7, 50_000)[50:-50], theirs[50:-50], atol=1e-3)
