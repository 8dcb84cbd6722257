"""The simulator: its promises on files, seeds and physics, and (optionally) a look at real spectra.

The last test reads real spectra from the folder named by the environment variable REAL_SPECTRA and is
skipped without it; `pytest -s` shows the correlations it measures.
"""
import hashlib
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import machine
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

import paper
import simulate_spectra
from simulate_spectra import FILES
from spectra.transforms import degrade, rotation_kernel
from synthetic import simulation as sim

SMALL = ["--n-spectra", "40", "--n-observed", "5"]
PHYSICS = sim.Physics.reference()
STAR = [3300.0, 4.9, -0.1, 2.0]


def run(folder, *extra):
    return simulate_spectra.main(["--out", str(folder), *SMALL, *extra])


def contents(folder):
    """What lies in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else None


def change(folder, **keys):
    """Change what provenance.json says; None takes a key out."""
    note = folder / "provenance.json"
    said = {**json.loads(note.read_text()), **keys}
    note.write_text(json.dumps({key: value for key, value in said.items() if value is not None}))


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


def test_another_resolving_power_is_another_simulation(folder, tmp_path, capsys):
    assert run(tmp_path, "--resolution", "55000") == 0
    assert json.loads((tmp_path / "provenance.json").read_text())["resolving_power"] == 55000
    assert run(tmp_path, "--resolution", "55000") == 0 and "nothing to do" in capsys.readouterr().out
    for out, extra, words in [(tmp_path, [], "resolving_power is 55000.0, not that of"),
                              (folder, ["--resolution", "55000"], "resolving_power is that of CARMENES, not 55000.0")]:
        assert run(out, *extra) == 2 and words in capsys.readouterr().err
    for name, left in [("ph_flux_norm.npy", 0.15), ("carmf_norm.npy", 0.6)]:  # noise is not degraded with the star
        sharp, blunt = np.load(folder / name).astype(float), np.load(tmp_path / name).astype(float)
        degraded = degrade(sharp, paper.RESOLVING_POWER, 55000)
        inside = np.s_[:, 50:-50]  # at the ends it lacks neighbours
        assert np.abs(blunt - degraded)[inside].mean() < left * np.abs(blunt - sharp)[inside].mean()


def own(name, content=b"own"):
    return lambda folder: (folder / name).write_bytes(content)


def simulated(folder, **keys):
    assert run(folder) == 0
    change(folder, **keys)


def changed(name, **keys):
    """Let someone change a file of a simulation."""

    def spoil(folder):
        simulated(folder, **keys)
        (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"x")

    return spoil


NEVER = {  # what lies in the folder, and what the message must say: with --overwrite too
    **{f"own {name}": (own(name), "may be real") for name in FILES},
    "own array that is a link to nowhere": (lambda folder: (folder / FILES[0]).symlink_to("gone"), "may be real"),
    "other instrument": (own("provenance.json", b'{"spectra": "my instrument", "n_pixels": 9}'), "my instrument"),
    "array of another instrument": (lambda folder: [
        own(FILES[0])(folder), own("provenance.json", b'{"spectra": "my instrument"}')(folder)], "my instrument"),
    "no word": (own("provenance.json", b"{}"), "may be real"),
    "no JSON": (own("provenance.json", b"spectra: simulated"), "no JSON"),
    "empty": (own("provenance.json", b""), "no JSON"),
    "not UTF-8": (own("provenance.json", b"\xff"), "no JSON"),
    "list": (own("provenance.json", b"[1]"), "provenance.json"),
    "wrong type": (own("provenance.json", b'{"spectra": "simulated", "gap": "wide"}'), "gap"),
    "no digest": (own("provenance.json", b'{"spectra": "simulated", "files": {"stars.csv": 1}}'), "files"),
}
NOT_WITHOUT_OVERWRITE = {
    **{f"changed {name}": (changed(name), name) for name in FILES},
    "changed after an interruption": (changed("stars.csv", complete=False), "stars.csv"),
    "a mark and nothing more": (lambda folder: [own(name)(folder) for name in FILES]
                                + [own("provenance.json", b'{"spectra": "simulated"}')(folder)], "--overwrite"),
    "interrupted by an earlier version": (lambda folder: simulated(folder, complete=False, files=None), FILES[0]),
    "one of an earlier version is gone": (lambda folder: [simulated(folder, files=None),
                                                          (folder / "stars.csv").unlink()], FILES[0]),
    "other settings": (lambda folder: simulated(folder, gap=0.5), "gap is 0.5, not 1.0"),
    "other version": (lambda folder: simulated(folder, simulator=0), "simulator is 0, not 1"),
}


@pytest.mark.parametrize("extra", [[], ["--overwrite"]], ids=["", "overwrite"])
@pytest.mark.parametrize("case", [*NEVER, *NOT_WITHOUT_OVERWRITE])
def test_what_it_did_not_write_is_kept(tmp_path, folder, capsys, case, extra):
    lay, words = {**NEVER, **NOT_WITHOUT_OVERWRITE}[case]
    lay(tmp_path)
    before = {path: path.is_symlink() or path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    if extra and case in NOT_WITHOUT_OVERWRITE:
        assert run(tmp_path, *extra) == 0
        assert contents(tmp_path) == contents(folder)
        return
    assert run(tmp_path, *extra) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line and words in line and ("--overwrite" if case not in NEVER else "--out") in line
    assert before == {path: path.is_symlink() or path.read_bytes() for path in tmp_path.iterdir()}


def test_a_simulation_of_an_earlier_version_counts_as_done(tmp_path, capsys):
    simulated(tmp_path, files=None)
    before = contents(tmp_path)
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert "nothing to do" in capsys.readouterr().out and contents(tmp_path) == before


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_is_made_again(tmp_path, folder, name):
    assert run(tmp_path) == 0
    (tmp_path / name).unlink()
    assert run(tmp_path) == 0
    assert contents(tmp_path) == contents(folder)


def interrupt(patch, n, after):
    """Raise KeyboardInterrupt before or after the n-th renaming or removal of a file."""
    step = itertools.count(1)

    def around(function, counts):
        def trapped(path, *args, **kwargs):
            now = counts(path) and next(step) == n
            if now and not after:
                raise KeyboardInterrupt
            function(path, *args, **kwargs)
            if now:
                raise KeyboardInterrupt

        return trapped

    patch.setattr(os, "replace", around(os.replace, lambda path: True))
    patch.setattr(Path, "unlink", around(Path.unlink, lambda path: path.name in FILES))  # others are tidied up


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("extra", [[], ["--overwrite"]], ids=["new", "overwrite"])
def test_interrupted_anywhere_it_goes_on(tmp_path, folder, monkeypatch, capsys, extra, after):
    made = {gap: sim.simulate(gap=gap, n_spectra=40, n_observed=5) for gap in (0.5, 1.0)}
    monkeypatch.setattr(simulate_spectra, "simulate", lambda gap, **_: made[gap])
    for n in itertools.count(1):
        out = tmp_path / str(n)
        if extra:
            assert run(out, "--gap", "0.5") == 0
        with monkeypatch.context() as patch:
            interrupt(patch, n, after)
            status = run(out, *extra)
        assert not list(out.glob("*.partial*"))
        if status == 0:
            break
        assert status == 130
        there = {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES
                 if (out / name).exists()}
        said = json.loads((out / "provenance.json").read_text()) if there else {"gap": None}
        assert there.items() <= said.get("files", {}).items()
        untouched = said["gap"] == 0.5  # then it is complete, and another
        assert run(out, *(extra if untouched else [])) == 0
        assert contents(out) == contents(folder)
    assert n > 10
    assert "Traceback" not in capsys.readouterr().err


def test_what_came_meanwhile_is_kept(tmp_path, monkeypatch, capsys):
    whole = sim.simulate

    def slow(**settings):
        (tmp_path / "stars.csv").write_text("mine")
        return whole(**settings)

    monkeypatch.setattr(simulate_spectra, "simulate", slow)
    assert run(tmp_path) == 2
    assert "may be real" in capsys.readouterr().err and contents(tmp_path) == {"stars.csv": b"mine"}


@pytest.mark.parametrize("flag, value", [
    ("--n-spectra", "0"), ("--n-spectra", "22934"), ("--n-observed", "0"), ("--n-observed", "287"), ("--gap", "-1"),
    ("--gap", "nan"), ("--gap", "inf"), ("--gap", "3.1"), ("--gap", "1e999"), ("--seed", "-1"), ("--seed", "1.5"),
    ("--seed", "1073741825"), ("--gap-seed", "-1"), ("--gap-seed", "9" * 30), ("--out", ""), ("--out", __file__),
])
def test_impossible_settings_exit_2(tmp_path, capsys, flag, value):
    with pytest.raises(SystemExit) as end:
        run(tmp_path / "out", f"{flag}={value}")
    assert end.value.code == 2
    assert f"error: argument {flag}: " in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("gap_seed", range(5))
def test_the_largest_gap_still_gives_normalised_flux(gap_seed):
    flux, _ = sim.observe(sim.draw_stars(1, 5), PHYSICS, simulate_spectra.MAX_GAP, gap_seed)
    assert np.isfinite(flux).all() and flux.min() > -0.5 and flux.max() < 2


# ---------------------------------------------------------------- as a command
def start(out, *extra, wrapper=(), env=(), **how):
    return subprocess.Popen([*wrapper, sys.executable, simulate_spectra.__file__, "--out", str(out), *extra], text=True,
                            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **dict(env)}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **how)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_run_is_one_line_and_it_can_be_run_again(tmp_path, folder, number, status):
    process = start(tmp_path / "out", "--n-spectra", "20000")
    assert process.stdout.readline().startswith("SIMULATED")
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in errors and errors.count("\n") == 1 and "interrupted" in errors
    assert not contents(tmp_path / "out")
    assert run(tmp_path / "out") == 0
    assert contents(tmp_path / "out") == contents(folder)


def test_modules_of_the_same_name_elsewhere_do_no_harm(tmp_path):
    for name in ("paper", "workflow", "spectra", "synthetic"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    process = start(tmp_path / "out", "--help", env={"PYTHONPATH": str(tmp_path)}.items())
    assert process.communicate(timeout=30)[1] == "" and process.returncode == 0


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def unprivileged(folder):
    """A prefix that runs a command as one to whom permissions apply; takes that to write in `folder`."""
    folder.chmod(0o500)
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write anywhere")
    return ["setpriv", "--bounding-set=-all"]


@pytest.mark.parametrize("how", ["file size", "full", "read-only", "no permission"])
def test_a_disk_that_refuses_is_one_line_that_names_the_path(tmp_path, how):
    wrapper = {"full": lambda: machine.mounted("size=100k", tmp_path),
               "read-only": lambda: machine.mounted("ro", tmp_path),
               "no permission": lambda: unprivileged(tmp_path)}.get(how, list)()
    process = start(tmp_path / "out", *SMALL, wrapper=wrapper,
                    preexec_fn=limit_file_size if how == "file size" else None)
    _, errors = process.communicate(timeout=60)
    tmp_path.chmod(0o700)
    assert process.returncode == 2
    (line,) = errors.splitlines()
    assert line.startswith("error: ") and str(tmp_path / "out") in line
    assert not contents(tmp_path / "out")


def test_a_full_disk_leaves_the_old_simulation_whole(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "out")
    process = start(tmp_path / "out", *SMALL, "--gap", "0.5", "--overwrite", preexec_fn=limit_file_size)
    process.communicate(timeout=60)
    assert process.returncode == 2 and contents(tmp_path / "out") == contents(folder)


# ---------------------------------------------------------------- physics
def test_rotation_kernel_is_grays_profile():
    step, vsini, epsilon = 1e-3, 20.0, 0.6
    kernel = rotation_kernel(vsini, step)
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
