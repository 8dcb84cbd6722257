"""The command that simulates spectra: its promises on files, seeds, settings, signals and disks."""
import json
import os
import shutil
import signal
import subprocess
import sys

import machine
import numpy as np
import pandas as pd
import pytest

import paper
import simulate_spectra
from spectra.transforms import degrade
from synthetic import simulation as sim

SMALL = ["--n-spectra", "40", "--n-observed", "5"]


def run(folder, *extra):
    return simulate_spectra.main(["--out", str(folder), *SMALL, *extra])


def contents(folder):
    """What lies in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.name != ".lock"}


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
    before = {name: (folder / name).stat().st_mtime_ns for name in contents(folder)}
    assert run(folder) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(folder, "--gap", "0.5") == 2
    error = capsys.readouterr().err
    assert "gap is 1.0, not 0.5" in error and "--overwrite" in error and error.count("\n") == 1
    assert before == {name: (folder / name).stat().st_mtime_ns for name in contents(folder)}


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


def test_what_came_meanwhile_is_kept(tmp_path, monkeypatch, capsys):
    whole = sim.simulate

    def slow(**settings):
        (tmp_path / "stars.csv").write_text("mine")
        return whole(**settings)

    monkeypatch.setattr(simulate_spectra, "simulate", slow)
    assert run(tmp_path) == 2
    assert "may be real" in capsys.readouterr().err and contents(tmp_path) == {"stars.csv": b"mine"}


@pytest.mark.parametrize("flag, value", [
    ("--n-spectra", "0"), ("--n-spectra", "22934"), ("--n-observed", "287"), ("--gap", "nan"), ("--gap", "3.1"),
    ("--seed", "1.5"), ("--gap-seed", "9" * 30), ("--out", ""), ("--out", __file__),
])
def test_impossible_settings_exit_2(tmp_path, capsys, flag, value):
    with pytest.raises(SystemExit) as end:
        run(tmp_path / "out", f"{flag}={value}")
    assert end.value.code == 2
    assert f"error: argument {flag}: " in capsys.readouterr().err.splitlines()[-1]
    assert not contents(tmp_path / "out")


# ---------------------------------------------------------------- as a command
def start(out, *extra, wrapper=(), env=(), **how):
    return subprocess.Popen([*wrapper, sys.executable, simulate_spectra.__file__, "--out", str(out), *extra], text=True,
                            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **dict(env)}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **how)


@pytest.mark.slow
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


def test_a_raw_star_is_one_that_can_be_prepared_and_none_is_replaced(tmp_path, capsys):
    path = tmp_path / "star.csv"
    assert simulate_spectra.main(["--star", str(path)]) in (0, None) and "SIMULATED" in capsys.readouterr().out
    star = pd.read_csv(path)
    assert list(star) == ["wavelength_air", "flux"] and (star["flux"] > 0).all()
    assert star["wavelength_air"].min() < paper.WINDOW[0] - paper.MARGIN and star["wavelength_air"].max() > 8839
    before = path.read_bytes()
    assert simulate_spectra.main(["--star", str(path)]) == 2 and path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["file size", "full", "no permission"])
def test_a_disk_that_refuses_is_one_line_that_names_the_path(tmp_path, how):
    wrapper = {"full": lambda: machine.mounted("size=100k", tmp_path),
               "no permission": lambda: machine.unprivileged(tmp_path)}.get(how, list)()
    process = start(tmp_path / "out", *SMALL, wrapper=wrapper,
                    preexec_fn=machine.no_larger_than(20_000) if how == "file size" else None)
    _, errors = process.communicate(timeout=60)
    tmp_path.chmod(0o700)
    assert process.returncode == 2
    (line,) = errors.splitlines()
    assert line.startswith("error: ") and str(tmp_path / "out") in line
    assert not contents(tmp_path / "out")


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_simulation_whole(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "out")
    process = start(tmp_path / "out", *SMALL, "--gap", "0.5", "--overwrite", preexec_fn=machine.no_larger_than(20_000))
    process.communicate(timeout=60)
    assert process.returncode == 2 and contents(tmp_path / "out") == contents(folder)
