"""The command: tables with sidecars, resumed and refused as the acts are; every end in one line."""
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from machine import losing_a_worker
from observed import observe, write

import estimate
import joint_fit
import paper
from evaluation import catalogues
from inference import flags, joint_run
from synthetic import simulation
from workflow import files, schemas
from workflow.units import Unit, finish

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """600 synthetic spectra of the slowest rotation and 14 stars, one with a gap, one without any flux."""
    path = tmp_path_factory.mktemp("joint")
    labels = np.array([[teff, logg, mh, 1.5] for teff in range(2800, 4200, 100) for logg in (4.7, 4.9, 5.1)
                       for mh in (-0.6, -0.3, 0.0, 0.3)])
    physics = simulation.Physics.reference()
    flux_carm, stars = simulation.observe(simulation.draw_stars(42, 14), physics, 1.0, 0)
    flux_carm[3, 500:900], flux_carm[4] = np.nan, np.nan
    files.write_array(path / "ph_flux_norm.npy", simulation.synthesise(labels, physics))
    files.write_array(path / "ph_pars.npy", labels)
    files.write_array(path / "carmf_norm.npy", flux_carm)
    files.write_csv(path / "stars.csv", stars)
    files.write_json(path / "provenance.json", {"spectra": "simulated"})
    return path


@pytest.fixture(scope="module")
def fitted(folder, tmp_path_factory):
    """Folder of a run on these stars."""
    run = tmp_path_factory.mktemp("run")
    assert joint_fit.main(["--data", str(folder), "--artifacts", str(run), "--jobs", "1", "--pictures", "2"]) == 0
    return run / "joint"


def test_a_subprocess_leaves_the_published_table_and_goes_on_where_it_was(folder, tmp_path):
    anchors = pd.read_csv(folder / "stars.csv")[["karmn", "teff"]].iloc[:3].assign(e_teff=60.0)
    anchors.to_csv(tmp_path / "anchors.csv", index=False)
    command = [sys.executable, str(ROOT / "Methodology" / "joint_fit.py"), "--data", str(folder), "--artifacts",
               str(tmp_path / "run"), "--jobs", "1", "--mean-logg", "4.85", "0.05", "--anchors",
               str(tmp_path / "anchors.csv"), "--teachers", "12"]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert run.returncode == 0, run.stderr
    out = tmp_path / "run" / "joint"
    table = catalogues.load_estimates(out / "joint_estimations.csv")
    assert (table["spectra"] == "simulated").all() and table["teff"].isna().sum() == 1  # no pixel of that one is usable
    assert {"e_teff", "E_vsini", "flags_logg", "flags"} <= set(table)
    assert "row 4" in run.stdout and "one constant for all" in run.stdout and "3 anchors" in run.stdout
    assert {"corrections.csv", "corrections.png", "gauge.csv", "alone_estimations.csv"} <= set(os.listdir(out))
    digest = files.sha256(out / "joint_estimations.csv")
    (out / "joint_block_0.json").unlink()
    again = subprocess.run(command, capture_output=True, text=True)
    assert "1 done, 0 to do" in again.stdout and "blocks of stars: 1 in all, 0 done, 1 to do" in again.stdout
    files._digest.cache_clear()
    assert files.sha256(out / "joint_estimations.csv") == digest
    assert json.loads((out / "joint_estimations.json").read_text())["spectra"]["spectra"] == "simulated"


def test_blocks_on_a_cluster_that_loses_a_worker_end_the_same(cluster, folder, tmp_path, monkeypatch):
    address, workers = cluster
    monkeypatch.setattr(joint_fit, "BLOCK", 1)
    words = ["--data", str(folder), "--teachers", "11", "--pictures", "0"]
    assert joint_fit.main([*words, "--artifacts", str(tmp_path / "here"), "--jobs", "1"]) == 0
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    for path in (tmp_path / "there" / "joint").glob("joint_block_*"):
        path.unlink()
    (tmp_path / "there" / "joint" / "joint_estimations.csv").unlink()
    with losing_a_worker(address, workers) as process:
        assert joint_fit.main([*words, "--artifacts", str(tmp_path / "there"), "--scheduler", address]) == 0
    assert process.wait(timeout=10) == -signal.SIGKILL, "the run ended before a worker could be killed"
    here, there = (tmp_path / name / "joint" / "joint_estimations.csv" for name in ("here", "there"))
    assert here.read_bytes() == there.read_bytes()


@pytest.mark.parametrize("n_stars, teachers, block", [(7, [0, 3, 6], 2), (7, [0, 3, 6], 9), (3, [0, 1, 2], 2)])
def test_numbers_of_the_stars_come_in_their_order_a_block_at_a_time(n_stars, teachers, block, tmp_path):
    """And the sample knows their mean, its anchors and the worst of them, though it never has all of them."""
    numbers = np.arange(n_stars)[:, None] + np.linspace(0, 0.5, joint_fit.COLUMNS)
    numbers[1] = np.nan
    fields = Unit(tmp_path / joint_run.FIELDS, {}, also=(tmp_path / "joint_stars.npy",))
    np.save(fields.also[0], numbers[teachers])
    further, blocks = np.setdiff1d(np.arange(n_stars), teachers), []
    for part in (further[i : i + block] for i in range(0, len(further), block)):
        blocks.append(Unit(tmp_path / f"joint_block_{len(blocks)}.npy", {"first": int(part[0]), "last": int(part[-1])}))
        np.save(blocks[-1].path, numbers[part])
    pieces = list(joint_fit.pieces(n_stars, fields, blocks, np.array(teachers)))
    assert len(pieces) == max(1, len(blocks))
    assert np.concatenate([rows for rows, _ in pieces]).tolist() == list(range(n_stars))
    np.testing.assert_array_equal(np.concatenate([part for _, part in pieces]), numbers)
    centre, known, worst = joint_fit.gathered(pieces, np.array([2]), 2)
    assert np.allclose(centre, np.nanmean(numbers[:, :4], axis=0)) and (known == numbers[2]).all()
    assert worst[0].tolist() == [n_stars - 2, n_stars - 1] if n_stars > 3 else [0, 2]


def test_new_stars_are_fitted_with_the_corrections_of_a_run(folder, fitted, tmp_path, capsys):
    """A star that the run has seen gets what the run says; a file gets a row, a page and what is known of it."""
    table = catalogues.load_estimates(fitted / "joint_estimations.csv")
    corrections = joint_run.load(fitted, folder)
    stars = table[["karmn"]].assign(**{**dict.fromkeys(joint_run.KNOWN, ""), "snr": 100.0})
    flux = np.load(folder / "carmf_norm.npy")
    again, _ = corrections.estimate(stars, flux, np.zeros(len(stars), bool))
    again = again.set_index("karmn").loc[table["karmn"]]
    assert np.nanmedian(np.abs(again["Teff"].to_numpy() - table["teff"].to_numpy())) < 15
    assert np.allclose(again["shared_teff"], pd.read_csv(fitted / "joint_estimations.csv")["shared_teff"], rtol=0.1,
                       equal_nan=True)
    assert again["Teff"].isna().to_numpy().nonzero()[0].tolist() == [4] and "veiling" not in again
    veiled, _ = replace(corrections, veiling=0.1).estimate(stars, (flux + 0.2) / 1.2, np.zeros(len(stars), bool))
    assert veiled["veiling"].median() == pytest.approx(0.2, abs=0.03)

    files_ = [write(tmp_path / f"star {k}.csv", observe(rv=30.0 - k, seed=k)) for k in range(2)]
    words = ["--corrections", str(fitted), "--data", str(folder), "--resolution", str(paper.RESOLVING_POWER), "--out",
             str(tmp_path / "out"), "--jobs", "1", *map(str, files_)]
    assert estimate.main(words) == 0
    said = capsys.readouterr().out
    assert "2 of 2 files estimated" in said and "corrections learnt from SIMULATED spectra" in said
    rows = pd.read_csv(tmp_path / "out" / "estimates.csv")
    assert {"own_teff", "shared_vsini", "rv", "instrument", *flags.COLUMNS} <= set(rows)
    assert np.isfinite(rows["Teff"]).all()
    assert (np.hypot(rows["own_mh"], rows["shared_mh"]) - rows["e_[M/H]"]).abs().max() < 1e-9
    assert rows["flags"].str.contains("other-instrument").all()
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"star_0.png", "star_1.png"}
    note = json.loads((tmp_path / "out" / "estimates.json").read_text())
    assert set(note["networks"]) == {joint_run.FIELDS, joint_run.MAP} and "corrections of simulated" in note[
        "spectra"]["spectra"]
    assert len(list((fitted / "pages").glob("*.png"))) == 2


@pytest.mark.parametrize("spoilt, said", [
    ({"--tune": None}, "leave one of them out"), ({joint_run.FIELDS: "other"}, "is missing or was changed"),
    ({joint_run.MAP: "parameter,value\nteff,1\n"}, "gauge.csv is missing or was changed"),
    ({joint_run.MAP: None}, "gauge.csv not found"), ({"joint_fields.json": None}, "run Methodology/joint_fit.py"),
    ({"--data": "."}, "give the folder of the synthetic set"),
])
def test_corrections_that_cannot_be_used_end_in_one_line(folder, fitted, tmp_path, capsys, spoilt, said):
    shutil.copytree(fitted, tmp_path / "joint")
    ((name, content),) = spoilt.items()
    words = ["--corrections", str(tmp_path / "joint"), "--data", str(folder), "--out", str(tmp_path / "out")]
    if name.startswith("--"):
        words += [name] if content is None else [name, str(tmp_path)]
    elif content is None:
        (tmp_path / "joint" / name).unlink()
    else:
        (tmp_path / "joint" / name).write_text(content)
    assert estimate.main([*words, "star.csv"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1 and said in lines[0]


def test_corrections_whose_uncertainties_are_made_otherwise_are_fitted_again(folder, fitted, monkeypatch):
    monkeypatch.setattr(joint_run.joint_fit, "ERRORS", {**joint_run.joint_fit.ERRORS, "own": [1.0]})
    with pytest.raises(files.BadInput, match="uncertainties mean something else"):
        joint_run.load(fitted, folder)


def narrower(folder, path, **said):
    """Folder of the same spectra cut to 16 Angstrom of coarser pixels, a tenth of which are bad."""
    path.mkdir()
    for name in ("ph_flux_norm.npy", "carmf_norm.npy"):
        flux = np.load(folder / name)[:, 1000:2600:2].copy()
        if name.startswith("carm"):
            flux[np.random.default_rng(0).random(flux.shape) < 0.1] = np.nan
        np.save(path / name, flux)
    for name in ("ph_pars.npy", "stars.csv"):
        shutil.copy(folder / name, path / name)
    files.write_json(path / "provenance.json", {"spectra": "simulated", "n_pixels": 800, **said})
    return path


def test_another_window_with_bad_pixels(folder, tmp_path):
    data = narrower(folder, tmp_path / "data", settings={"window": [8810.0, 8825.98]})
    assert joint_fit.main(["--data", str(data), "--artifacts", str(tmp_path), "--jobs", "1", "--pictures", "1",
                           "--veiling", "--teachers", "12"]) == 0
    table = pd.read_csv(tmp_path / "joint" / "joint_estimations.csv")
    assert table["veiling"].notna().equals(table["Teff"].notna()) and table["veiling"].dropna().between(0, 0.1).all()
    assert (table["e_veiling"].dropna() <= table["veiling"].dropna()).all() and (table["E_veiling"].dropna() > 0).all()
    truth = pd.read_csv(data / "stars.csv")
    assert np.corrcoef(*table["Teff"].to_frame().join(truth["teff"]).dropna().to_numpy().T)[0, 1] > 0.9
    wave = pd.read_csv(tmp_path / "joint" / "corrections.csv")["wave"]
    assert wave.iloc[0] == pytest.approx(8810.0, abs=0.03) and wave.iloc[-1] == pytest.approx(8825.98, abs=0.06)


@pytest.mark.parametrize("said", [{}, {"settings": {"window": [8826, 8810]}}, {"settings": {"window": "all"}}])
def test_a_window_that_is_not_said_is_asked_for(folder, tmp_path, capsys, said):
    data = narrower(folder, tmp_path / "data", **said)
    assert joint_fit.main(["--data", str(data), "--artifacts", str(tmp_path), "--jobs", "1"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1 and "say the first and last wavelength" in lines[0]


@pytest.mark.parametrize("metrics, said", [
    ({"shared": 0.0, "converged": 1.0}, ["too few stars"]), ({"shared": 1.0, "converged": 0.0}, ["has not converged"]),
    ({"shared": 1.0, "converged": 1.0, "misfit": 4.0}, ["2.0 times the noise"]),
    ({"shared": 1.0, "converged": 1.0, "misfit": 1.1}, []),
])
def test_doubts_of_a_run(tmp_path, metrics, said):
    unit = Unit(tmp_path / joint_run.FIELDS, {}, provenance=schemas.Provenance(spectra="simulated"))
    unit.path.write_text("")
    finish(unit, 0.0, metrics)
    lines = joint_run.doubts(unit.path)
    assert len(lines) == len(said) and all(words in line for words, line in zip(said, lines))


@pytest.mark.parametrize("words, said", [
    (["--mean-teff", "3500", "0"], "--mean-teff: the error must be above zero"),
    (["--mean-teff", "35", "50"], "the mean from 2800 to 4100"), (["--mean-teff", "nan", "50"], None),
    (["--mean-teff", "35000", "50"], "the mean from 2800 to 4100"),
    (["--anchors", "absent.csv"], "absent.csv not found"),
    (["--teachers", "1"], None),
])
def test_bad_flags_end_in_one_line(folder, tmp_path, capsys, words, said):
    arguments = ["--data", str(folder), "--artifacts", str(tmp_path), "--jobs", "1", *words]
    if said is None:
        with pytest.raises(SystemExit):
            joint_fit.main(arguments)
        return
    assert joint_fit.main(arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1 and said in lines[0]


def test_anchors_without_a_parameter_or_with_an_error_of_zero_are_refused(folder, tmp_path, capsys):
    names = pd.read_csv(folder / "stars.csv")[["karmn"]]
    for table, said in ((names, "none of the columns"), (names.assign(teff=3500.0, e_teff=0.0), "e_teff of")):
        table.to_csv(tmp_path / "anchors.csv", index=False)
        assert joint_fit.main(["--data", str(folder), "--artifacts", str(tmp_path), "--jobs", "1", "--anchors",
                               str(tmp_path / "anchors.csv")]) == 2
        assert said in capsys.readouterr().err


def test_parameters_are_in_the_order_of_the_labels():
    assert list(paper.PARAMETERS) == ["teff", "logg", "mh", "vsini"]  # which joint_fit and gauge rely on


@pytest.mark.parametrize("name", ["gauge.csv", "corrections.png", "joint_estimations.csv", "pages"])
def test_files_of_the_user_s_own_are_not_replaced(name, folder, tmp_path, capsys):
    (tmp_path / name).write_text("my own")
    assert joint_fit.main(["--data", str(folder), "--out", str(tmp_path), "--jobs", "1"]) == 2
    assert f"{name} was not made by this script" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "my own" and len(list(tmp_path.iterdir())) == 1
