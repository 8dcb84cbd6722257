"""The simulator: its promises on files, seeds and physics, and (optionally) a look at real spectra.

The last test reads real spectra from the folder named by the environment variable REAL_SPECTRA and is
skipped without it; `pytest -s` shows the correlations it measures.
"""
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

import paper
import simulate_spectra as sim

SMALL = ["--n-spectra", "40", "--n-observed", "5"]
PHYSICS = sim.Physics.reference()
STAR = [3300.0, 4.9, -0.1, 2.0]


def run(folder, *extra):
    return sim.main(["--out", str(folder), *SMALL, *extra])


def spectrum(teff=STAR[0], logg=STAR[1], mh=STAR[2], vsini=STAR[3]):
    return sim.synthesise([[teff, logg, mh, vsini]], PHYSICS)[0].astype(float)


def within(flux, centre, half):
    return flux[np.abs(paper.WAVELENGTH - centre) < half]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("simulated") / "new" / "folder"
    assert run(path) == 0
    return path


# ---------------------------------------------------------------- files
def test_arrays_have_the_published_form(folder):
    flux_ph, labels = np.load(folder / "ph_flux_norm.npy"), np.load(folder / "ph_pars.npy")
    flux_carm, stars = np.load(folder / "carmf_norm.npy"), pd.read_csv(folder / "stars.csv")
    assert flux_ph.shape == (40, paper.N_PIXELS) and flux_ph.dtype == np.float32
    assert flux_carm.shape == (5, paper.N_PIXELS) and flux_carm.dtype == np.float32
    assert labels.shape == (40, 4) and labels.dtype == np.float64
    for flux in (flux_ph, flux_carm):
        assert np.isfinite(flux).all() and flux.min() > 0.05 and flux.max() < 1.1
        assert np.abs(np.percentile(flux, 95, axis=1) - 1).max() < 0.05
    assert list(stars.columns[:7]) == ["karmn", "ra", "dec", *paper.PARAMETERS]
    assert stars["karmn"].is_monotonic_increasing and (stars["vsini"] >= 0.5).all()
    assert (stars["snr"] >= paper.MIN_SNR).all()
    assert not list(folder.glob("*.partial*"))


def test_subset_keeps_the_order_of_the_grid(folder):
    grid = [tuple(label) for label in sim.label_grid()]
    places = [grid.index(tuple(label)) for label in np.load(folder / "ph_pars.npy")]
    assert places == sorted(places)


def test_provenance_says_simulated(folder):
    written = json.loads((folder / "provenance.json").read_text())
    assert written["spectra"] == "simulated" and written["complete"]
    assert {key: written[key] for key in ("seed", "gap", "gap_seed", "n_spectra", "n_observed")} == {
        "seed": paper.SPLIT_SEED, "gap": 1.0, "gap_seed": 0, "n_spectra": 40, "n_observed": 5}


def test_same_settings_do_nothing_and_others_are_refused(folder, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert run(folder) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(folder, "--gap", "0.5") == 2
    error = capsys.readouterr().err
    assert "gap is 1.0, not 0.5" in error and "--overwrite" in error and error.count("\n") == 1
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_overwrite_changes_the_observed_and_not_the_synthetic(folder, tmp_path):
    assert run(tmp_path) == 0
    for name in ("ph_flux_norm.npy", "ph_pars.npy", "carmf_norm.npy", "stars.csv"):  # the seed fixes all
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert run(tmp_path, "--gap", "0.5", "--gap-seed", "3", "--overwrite") == 0
    for name in ("ph_flux_norm.npy", "ph_pars.npy"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert (tmp_path / "carmf_norm.npy").read_bytes() != (folder / "carmf_norm.npy").read_bytes()
    truth = ["karmn", *paper.PARAMETERS]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "stars.csv")[truth], pd.read_csv(folder / "stars.csv")[truth])


def test_interrupted_run_is_marked_and_resumed(tmp_path, monkeypatch):
    def interrupted(path, array):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sim, "write_array", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    assert json.loads((tmp_path / "provenance.json").read_text())["spectra"] == "simulated"
    assert run(tmp_path) == 0 and (tmp_path / "carmf_norm.npy").exists()


@pytest.mark.parametrize("extra", [[], ["--overwrite"]])
@pytest.mark.parametrize("name", ["ph_flux_norm.npy", "carmf_norm.npy"])
def test_real_arrays_are_never_touched(tmp_path, capsys, name, extra):
    (tmp_path / name).write_bytes(b"real")
    assert run(tmp_path, *extra) == 2
    assert "may be real" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == b"real"
    for note in ('{"spectra": "my spectrograph", "complete": true}', "not json", "[1]"):
        (tmp_path / "provenance.json").write_text(note)
        assert run(tmp_path, *extra) == 2
        assert "may be real" in capsys.readouterr().err
        assert (tmp_path / name).read_bytes() == b"real"


@pytest.mark.parametrize("bad", [["--n-spectra", "0"], ["--n-spectra", "22934"], ["--n-observed", "0"],
                                 ["--n-observed", "287"], ["--gap", "-1"], ["--gap", "nan"], ["--seed", "-1"]])
def test_impossible_settings_exit_2(tmp_path, capsys, bad):
    assert run(tmp_path / "out", *bad) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- physics
def test_rotation_kernel_is_grays_profile():
    step, vsini, epsilon = 1e-3, 20.0, 0.6
    kernel = sim.rotation_kernel(vsini, step)
    limit = 8817.5 * vsini / 299_792.458
    offset = (np.arange(len(kernel)) - len(kernel) // 2) * step
    x2 = np.clip(1 - (offset / limit) ** 2, 0, None)
    gray = (2 * (1 - epsilon) * np.sqrt(x2) + np.pi * epsilon / 2 * x2) / (np.pi * limit * (1 - epsilon / 3))
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(kernel[5:-5] / step, gray[5:-5], rtol=2e-3)


@pytest.mark.parametrize("vsini", [0.5, 1.5, 30.0])
def test_broadening_keeps_equivalent_widths(vsini):
    sharp = sim.intrinsic_spectra(np.array([STAR[:3]]), PHYSICS)[0]
    broad = sim.broaden(sharp, [vsini])[0]
    assert (1 - broad).sum() == pytest.approx((1 - sharp).sum(), rel=1e-9)
    assert broad.min() > sharp.min()


def test_forest_deepens_as_teff_falls():
    depths = [np.mean(1 - within(spectrum(teff=teff), 8804.2, 1.6)) for teff in (4100, 3700, 3300, 2900)]
    assert np.all(np.diff(depths) > 0.01)


def test_magnesium_strengthens_with_teff():
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


# ---------------------------------------------------------------- reality
def high_passed(flux):
    """Flux minus its running mean over 5 Angstrom."""
    return flux - uniform_filter1d(flux, 501, mode="nearest")


def smoothed(flux, resolving_power):
    width = 8817.5 / 2.3548 * np.sqrt(resolving_power**-2 - paper.RESOLVING_POWER**-2)
    return gaussian_filter1d(flux, width / sim.STEP, mode="nearest")


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
        measured[f"simulation with {name}"] = correlation(smoothed(simulated, power), real)
        if simulated is gj699:
            measured[f"PHOENIX 2800 K with {name}"] = correlation(smoothed(phoenix, power), real)
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
