"""The physics of the simulator, and (optionally) a look at real spectra.

The last test reads real spectra from the folder named by the environment variable REAL_SPECTRA and is
skipped without it; `pytest -s` shows the correlations it measures.
"""
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import uniform_filter1d

import paper
from simulate_spectra import MAX_GAP
from spectra.transforms import degrade
from synthetic import simulation as sim

PHYSICS = sim.Physics.reference()
STAR = [3300.0, 4.9, -0.1, 2.0]


def spectrum(teff=STAR[0], logg=STAR[1], mh=STAR[2], vsini=STAR[3]):
    return sim.synthesise([[teff, logg, mh, vsini]], PHYSICS)[0].astype(float)


def within(flux, centre, half):
    return flux[np.abs(paper.WAVELENGTH - centre) < half]


def test_molecules_deepen_as_teff_falls_and_magnesium_as_it_rises():
    depths = [np.mean(1 - within(spectrum(teff=teff), 8804.2, 1.6)) for teff in (4100, 3700, 3300, 2900)]
    assert np.all(np.diff(depths) > 0.01)
    cores = [within(spectrum(teff=teff), 8809.175, 0.1).min() for teff in (3000, 3400, 3800)]
    assert np.all(np.diff(cores) < -0.05)


def test_wings_broaden_with_gravity():
    nodes = np.array([[3600.0, logg, 0.0] for logg in (4.7, 5.0, 5.3)])
    alone = sim.Physics(np.array([8826.644]), np.array([2.196]), np.array([-1.54 + 7.5]), np.array(["Fe"]))
    lines = sim.intrinsic_spectra(nodes, alone)
    widths = [np.mean(line < 1 - (1 - line.min()) / 4) for line in lines]
    assert np.all(np.diff(widths) > 0)


def test_lines_strengthen_with_metallicity():
    widths = [np.mean(1 - spectrum(mh=mh)) for mh in (-0.8, -0.3, 0.2)]
    assert np.all(np.diff(widths) > 0.003)


def test_the_four_labels_are_not_degenerate():
    """Small changes of the four labels move a spectrum in four different directions."""
    for centre in ([2900.0, 5.0, 0.2, 3.0], [3500.0, 4.8, -0.1, 3.0], [4200.0, 4.7, -0.2, 3.0]):
        steps = np.diag([25.0, 0.1, 0.1, 0.5])
        change = [sim.synthesise([centre + step], PHYSICS)[0] - sim.synthesise([centre - step], PHYSICS)[0]
                  for step in steps]
        change = np.array([c / np.linalg.norm(c) for c in change])
        assert np.linalg.svd(change, compute_uv=False)[-1] > 0.2


def test_a_table_line_is_where_it_should_be():
    for line in (8809.175, 8826.644):
        near = np.abs(paper.WAVELENGTH - line) < 0.3
        assert paper.WAVELENGTH[near][np.argmin(spectrum(teff=3700)[near])] == pytest.approx(line, abs=0.03)


def test_zero_gap_leaves_only_photon_noise():
    stars = sim.draw_stars(seed=1, n_observed=8)
    flux, stars = sim.observe(stars, PHYSICS, gap=0, gap_seed=5)
    truth = sim.synthesise(stars[list(paper.PARAMETERS)].to_numpy(), PHYSICS)
    sigma = np.sqrt(truth) / stars["snr"].to_numpy()[:, None]
    chi2 = np.mean(((flux - truth) / sigma) ** 2, axis=1)
    assert np.all((0.9 < chi2) & (chi2 < 1.3))  # noise also moves the continuum a little
    assert (stars["rv"] == 0).all()


def test_another_gap_seed_draws_another_noise_and_velocity():
    stars = sim.draw_stars(seed=1, n_observed=4)
    its, others = (sim.observe(stars, PHYSICS, 1, gap_seed)[1][["snr", "rv"]] for gap_seed in (0, 1))
    assert not (its == others).any(axis=None)
    one, same, other = (sim.observe(stars, PHYSICS, 0, gap_seed)[0] for gap_seed in (0, 0, 1))  # photon noise alone
    assert np.array_equal(one, same) and (one != other).mean() > 0.9


def test_gap_grows_and_is_shared_by_the_stars():
    stars = sim.draw_stars(seed=1, n_observed=8)
    truth = sim.synthesise(stars[list(paper.PARAMETERS)].to_numpy(), PHYSICS)
    errors = [sim.observe(stars, PHYSICS, gap, gap_seed=0)[0] - truth for gap in (0, 0.5, 1)]
    rms = [np.sqrt(np.mean(error**2)) for error in errors]
    assert rms[0] < rms[1] / 2 and rms[1] < rms[2] / 1.5
    same = np.corrcoef(errors[2])
    assert np.median(same[np.triu_indices(8, 1)]) > 0.3  # one wrong line list, not one a star


def test_a_star_does_not_depend_on_the_others():
    stars = sim.draw_stars(seed=1)
    few = stars.iloc[[10, 200]].reset_index(drop=True)
    fewer = stars.iloc[[200]].reset_index(drop=True)
    np.testing.assert_allclose(sim.observe(few, PHYSICS, 1, 0)[0][1], sim.observe(fewer, PHYSICS, 1, 0)[0][0],
                               atol=1e-6)


@pytest.mark.parametrize("gap_seed", range(3))
def test_the_largest_gap_still_gives_normalised_flux(gap_seed):
    flux, _ = sim.observe(sim.draw_stars(1, 5), PHYSICS, MAX_GAP, gap_seed)
    assert np.isfinite(flux).all() and flux.min() > -0.5 and flux.max() < 2


# ---------------------------------------------------------------- reality
def high_passed(flux):
    """Flux minus its running mean over 5 Angstrom."""
    return flux - uniform_filter1d(flux, 501, mode="nearest")


@pytest.mark.skipif("REAL_SPECTRA" not in os.environ, reason="no folder of real spectra")
def test_held_against_reality():
    folder = Path(os.environ["REAL_SPECTRA"])

    def load(name, wave, flux):
        data = np.load(folder / f"{name}.npz")
        level = np.percentile(data[flux], 97)
        return np.interp(paper.WAVELENGTH, data[wave], data[flux] / level)

    def correlation(one, other):
        return np.corrcoef(high_passed(one), high_passed(other))[0, 1]

    # parameters of Marfil+21; GJ 699 rotates too slowly to be seen
    gj699, g227 = spectrum(3254, 5.13, -0.57, 1.5), spectrum(3213, 5.15, -0.46, 11.3)
    phoenix = load("phoenix_aces_T2800_g5.00_z0.0_R94600", "wave_vac", "flux")
    measured = {}
    for name, power, simulated in (
        ("hpf_GJ699_20181003", 55_000, gj699),
        ("hpf_GJ699_20190319", 55_000, gj699),
        ("tres_GJ699_20180719", 44_000, gj699),
        ("hpf_G227-22", 55_000, g227),
    ):
        real = load(name, "wave_rest_vac", "flux_norm")
        measured[f"simulation with {name}"] = correlation(degrade(simulated, paper.RESOLVING_POWER, power), real)
        if simulated is gj699:
            measured[f"PHOENIX 2800 K with {name}"] = correlation(degrade(phoenix, paper.RESOLVING_POWER, power), real)
    measured["PHOENIX 2800 K, as sharp as it is, with hpf_GJ699_20181003"] = correlation(
        phoenix, load("hpf_GJ699_20181003", "wave_rest_vac", "flux_norm"))
    for teff in (2800, 2500):
        model = load(f"phoenix_aces_T{teff}_g5.00_z0.0_R94600", "wave_vac", "flux")
        measured[f"simulation with PHOENIX {teff} K"] = correlation(spectrum(teff, 5.0, 0.0, 0.5), model)
    star = pd.DataFrame([["GJ 699", 3254, 5.13, -0.57, 1.5]], columns=["karmn", *paper.PARAMETERS])
    gaps = [correlation(sim.observe(star, PHYSICS, 1, seed)[0][0].astype(float), gj699) for seed in range(20)]
    measured["simulation with itself through gap 1, 20 seeds, mean"] = np.mean(gaps)
    for what, value in measured.items():
        print(f"{value:.3f}  {what}")
        assert value > 0.6
