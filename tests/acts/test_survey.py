"""Estimates of a folder of arrays, block by block: the numbers, the forms of the table, and what goes wrong."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import untrained_run
from machine import losing_a_worker, losing_the_scheduler

import estimate
import paper
from figures import star_page
from inference import flags, predictor, survey
from spectra.dataset import Dataset
from workflow import dask_cluster
from workflow.files import take, write_array, write_csv, write_json

N_STARS, BLOCK = 10_000, 2_500
BAD = [7, 2_600, 2_601]  # rows of NaN, inf and a constant
VALUES = [prefix + parameter.published for parameter in paper.PARAMETERS.values() for prefix in ("", "e_", "E_")]


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    untrained_run.leave(tiny, folder)
    return folder


@pytest.fixture(scope="module")
def spectra(tiny, tmp_path_factory):
    """A folder of 10,000 spectra, SIMULATED as those of the run, three of them bad."""
    folder, rng = tmp_path_factory.mktemp("spectra"), np.random.default_rng(2)
    flux = rng.choice(np.load(tiny / "carmf_norm.npy"), N_STARS) + rng.normal(0, 0.02, (N_STARS, 60)).astype(np.float32)
    flux[BAD] = np.array([np.nan, np.inf, 0.5])[:, None]
    write_array(folder / "carmf_norm.npy", flux)
    write_csv(folder / "stars.csv", pd.DataFrame({"karmn": [f"star {k}" for k in range(N_STARS)], "snr": 100.0}))
    shutil.copy(tiny / "provenance.json", folder)
    return folder


@pytest.fixture
def copied(spectra, tmp_path):
    """A copy of the folder that a test may spoil."""
    return Path(shutil.copytree(spectra, tmp_path / "spectra"))


@pytest.fixture(scope="module", autouse=True)
def blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "BLOCK", BLOCK)
        yield


def flags_of(tiny, run, spectra, out, *more, jobs=1):
    return list(map(str, ["--data", tiny, "--artifacts", run, "--spectra", spectra, "--out", out, "--jobs", jobs,
                          "--pictures", "none", *more]))


@pytest.fixture(scope="module")
def whole(tiny, run, spectra, tmp_path_factory):
    """The table of all stars, made at once."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert estimate.main(flags_of(tiny, run, spectra, out)) == 0
    return out


# ---------------------------------------------------------------- numbers and forms
def test_blocks_give_what_all_stars_give_at_once(whole, tiny, run, spectra):
    loaded = predictor.load(predictor.select(run, tiny))
    stars = pd.read_csv(spectra / "stars.csv").assign(file="", instrument="", odd="")
    stars = stars.reindex(columns=["karmn", *predictor.KNOWN])
    expected, _ = loaded.estimate(stars, np.load(spectra / "carmf_norm.npy"), np.zeros(N_STARS, bool))
    table = survey.read(whole / "estimates.csv")
    np.testing.assert_allclose(table[VALUES], expected[VALUES], rtol=1e-5, atol=1e-6)
    assert (table[flags.COLUMNS] == expected[flags.COLUMNS]).mean(axis=None) > 0.999  # but for rounding at a limit
    assert list(table["karmn"]) == list(stars["karmn"])
    assert np.flatnonzero(table["Teff"].isna()).tolist() == BAD
    assert (table.loc[BAD, flags.COLUMNS] == "").all(axis=None) and (table["flags"] != "").sum() == N_STARS - len(BAD)
    note = json.loads((whole / "estimates.json").read_text())
    assert note["spectra"]["spectra"] == "simulated, by networks of simulated spectra"
    assert len(list((whole / "blocks").glob("*.csv"))) == 4


def test_parquet_and_csv_are_equal(whole, tiny, run, spectra, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (out / "blocks").iterdir()}
    assert estimate.main(flags_of(tiny, run, spectra, out, "--table", "estimates.parquet")) == 0
    said = capsys.readouterr().out
    assert "4 in all, 4 done, 0 to do" in said and "3 spectra cannot be used" in said
    assert "of 10000 stars have a flag that casts doubt" in said
    assert {path: path.stat().st_mtime_ns for path in (out / "blocks").iterdir()} == before
    parquet, table = pd.read_parquet(out / "estimates.parquet"), survey.read(whole / "estimates.csv")
    assert not (out / "estimates.csv").exists()  # a folder, a table
    pd.testing.assert_frame_equal(parquet, table, check_dtype=False, check_exact=True)
    assert {str(kind) for kind in parquet[VALUES].dtypes} == {"float64"}


def test_without_pyarrow_it_says_so_before_it_begins(tiny, run, spectra, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(survey.importlib.util, "find_spec", lambda name: None)
    assert estimate.main(flags_of(tiny, run, spectra, tmp_path / "out", "--table", "a.parquet")) == 2
    assert "needs pyarrow: pip install -r requirements-cluster.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- pictures
@pytest.mark.parametrize("wish, n_stars, rows", [
    (None, 3, [0, 1, 2]), (None, 5, [1, 3]), ("all", 5, [0, 1, 2, 3, 4]), ("flagged", 5, [1, 3, 4]), ("none", 3, []),
])
def test_which_stars_have_a_picture(wish, n_stars, rows, monkeypatch):
    monkeypatch.setattr(star_page, "MOST", 3 if n_stars == 3 else 2)
    assert list(star_page.chosen(wish, n_stars, iter([1, 3, 4]))) == rows


def test_of_many_stars_the_first_that_are_flagged_have_pictures(whole, tiny, run, spectra, tmp_path, monkeypatch):
    monkeypatch.setattr(star_page, "MOST", 8)
    titles = {}
    monkeypatch.setattr(star_page, "write", lambda path, title, note, *_: titles.update({path.name: title})
                        or path.write_text(title))
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    for wish in ([], ["--pictures", "none"]):
        words = flags_of(tiny, run, spectra, out)[:-2]
        assert estimate.main([*words, *wish]) == 0
        assert len(list(out.glob("*.png"))) == (0 if wish else 8)
    assert sorted(titles)[:2] == ["star_0.png", "star_1.png"] and "star_7.png" not in titles
    assert titles["star_0.png"] == "star 0: instrument unknown, S/N 100 a pixel"


# ---------------------------------------------------------------- interruption
def test_interrupted_it_goes_on_and_ends_the_same(whole, tiny, run, spectra, tmp_path, monkeypatch):
    done, finish, out = [], survey.finish, tmp_path / "out"

    def interrupted(unit, *arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(unit.path)
        finish(unit, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(survey, "finish", interrupted)
        assert estimate.main(flags_of(tiny, run, spectra, out)) == 130
    assert not (out / "estimates.csv").exists()
    before = [path.stat().st_mtime_ns for path in done]
    assert estimate.main(flags_of(tiny, run, spectra, out)) == 0
    assert [path.stat().st_mtime_ns for path in done] == before
    assert (out / "estimates.csv").read_bytes() == (whole / "estimates.csv").read_bytes()
    assert not list(out.rglob("*.partial*"))


@pytest.mark.slow
def test_array_jobs_leave_blocks_and_then_the_table(whole, tiny, run, spectra, tmp_path, capsys):
    out = tmp_path / "out"
    for only, done in (((3, 1), [1, 3]), ((0,), [0, 1, 3])):
        assert estimate.main(flags_of(tiny, run, spectra, out, "--only", *only)) == 0
        assert f"{len(only)} of 4 blocks are done" in capsys.readouterr().out
        assert sorted(int(path.stem[-1]) for path in out.glob("blocks/*.csv")) == done
    assert not (out / "estimates.csv").exists()
    assert estimate.main(flags_of(tiny, run, spectra, out)) == 0
    assert "4 in all, 3 done, 1 to do" in capsys.readouterr().out
    assert (out / "estimates.csv").read_bytes() == (whole / "estimates.csv").read_bytes()


COMMAND = """
import sys
sys.path.insert(0, sys.argv[1])
from inference import survey
survey.BLOCK = 2000
import estimate
sys.exit(estimate.main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_the_same_command_goes_on(whole, tiny, run, spectra, tmp_path):
    out = tmp_path / "out"
    words = [sys.executable, "-c", COMMAND, str(Path(estimate.__file__).parent),
             *flags_of(tiny, run, spectra, out, jobs=2)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.time() + 120
        while not list((out / "blocks").glob("*.json")) and process.poll() is None and time.time() < deadline:
            time.sleep(0.01)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [child for child in children if b"loky" in Path(f"/proc/{child}/cmdline").read_bytes()
                   and b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]
        os.kill(int(workers[0]), signal.SIGKILL)
        error = process.communicate()[1]
    assert process.returncode == 2, "it ended before a worker could be killed"
    assert "estimates: a process was killed, for lack of memory perhaps" in error and "Traceback" not in error
    assert not (out / "estimates.csv").exists()
    assert subprocess.run(words, capture_output=True).returncode == 0
    table, expected = survey.read(out / "estimates.csv"), survey.read(whole / "estimates.csv")
    np.testing.assert_allclose(table[VALUES], expected[VALUES], rtol=1e-5, atol=1e-6)


def test_no_scheduler_at_the_address(tiny, run, spectra, tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_cluster, "CONNECT", 1)
    assert estimate.main(flags_of(tiny, run, spectra, tmp_path / "out", "--scheduler", "tcp://127.0.0.1:9")) == 2
    assert "no Dask scheduler answers" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cluster_loses_a_worker_and_ends_the_same(cluster, whole, tiny, run, spectra, tmp_path):
    address, workers = cluster
    with losing_a_worker(address, workers) as process:
        assert estimate.main(flags_of(tiny, run, spectra, tmp_path / "out", "--scheduler", address)) == 0
    assert process.wait(timeout=10) == -signal.SIGKILL, "it ended before a worker could be killed"
    assert (tmp_path / "out" / "estimates.csv").read_bytes() == (whole / "estimates.csv").read_bytes()


@pytest.mark.slow
def test_the_scheduler_goes_and_the_same_command_goes_on(cluster, whole, tiny, run, spectra, tmp_path, monkeypatch,
                                                         capsys):
    monkeypatch.setattr(survey, "BLOCK", 1_000)
    address, out = cluster[0], tmp_path / "out"
    with losing_the_scheduler(address, lambda: list(out.glob("blocks/*.json"))):
        assert estimate.main(flags_of(tiny, run, spectra, out, "--scheduler", address)) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"error: --scheduler {address}: it went away: the same command goes on from here"
    assert sum("error" in line for line in said) == 1
    done = {path: path.stat().st_mtime_ns for path in out.glob("blocks/*.json")}
    assert 0 < len(done) < 10 and not (out / "estimates.csv").exists()
    assert estimate.main(flags_of(tiny, run, spectra, out)) == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    table, expected = survey.read(out / "estimates.csv"), survey.read(whole / "estimates.csv")
    np.testing.assert_allclose(table[VALUES], expected[VALUES], rtol=1e-5, atol=1e-6)


def test_a_folder_that_another_process_writes_meanwhile(tiny, run, copied, tmp_path, capsys, monkeypatch):
    estimate_block = predictor.Predictor.estimate

    def meanwhile(*arguments):
        write_array(copied / "carmf_norm.npy", take(Dataset(copied).flux_carm, slice(None)) * np.float32(0.9))
        return estimate_block(*arguments)

    monkeypatch.setattr(predictor.Predictor, "estimate", meanwhile)
    assert estimate.main(flags_of(tiny, run, copied, tmp_path / "out")) == 2
    assert "carmf_norm.npy was changed while estimates_000000 was made from it: run again" in capsys.readouterr().err
    assert not list((tmp_path / "out" / "blocks").glob("*.json"))


def test_blocks_of_other_spectra_are_not_taken(whole, tiny, run, copied, tmp_path, capsys):
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / "estimates.json").unlink()
    (out / "estimates.csv").unlink()
    write_array(copied / "carmf_norm.npy", take(Dataset(copied).flux_carm, slice(None)) * np.float32(0.9))
    assert estimate.main(flags_of(tiny, run, copied, out)) == 2
    assert "estimates_000000.csv is stale, made otherwise (carmf_norm.npy " in capsys.readouterr().err


# ---------------------------------------------------------------- what is refused
def note(folder, **changes):
    write_json(folder / "provenance.json", {**json.loads((folder / "provenance.json").read_text()), **changes})


def stars(folder, change):
    table = pd.read_csv(folder / "stars.csv").astype(object)
    change(table)
    write_csv(folder / "stars.csv", table)


REFUSED = {
    "not finished": (lambda folder: note(folder, complete=False), "were not finished"),
    "another resolving power": (lambda folder: note(folder, resolving_power=50_000.0), "a resolving power of 50000"),
    "another continuum": (lambda folder: note(folder, continuum="gisic"), "was divided by its gisic continuum"),
    "other pixels": (lambda folder: (np.save(folder / "carmf_norm.npy", np.ones((4, 50), np.float32)),
                                     note(folder, n_pixels=50)), "has 50 pixels, the networks take 60"),
    "no spectra": (lambda folder: np.save(folder / "carmf_norm.npy", np.ones((0, 60), np.float32)), "has no spectra"),
    "too few names": (lambda folder: (folder / "stars.csv").write_text("karmn\nA\nB\n"), "names 2 stars"),
    "no name": (lambda folder: (folder / "stars.csv").write_text("name\nA\nB\n"), "has no heading karmn"),
    "a ragged row": (lambda folder: (folder / "stars.csv").write_text("karmn,snr\nA,1\nB\n"), "in the row of B"),
    "no UTF-8": (lambda folder: (folder / "stars.csv").write_bytes(b"karmn\n\xff\n"), "is no CSV in UTF-8"),
    "a word for a number": (lambda folder: stars(folder, lambda table: table.__setitem__("snr", "much")),
                            "snr is no number in the rows of star 0 to star 2499"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case, tiny, run, copied, tmp_path, capsys):
    spoil, said = REFUSED[case]
    spoil(copied)
    assert estimate.main(flags_of(tiny, run, copied, tmp_path / "out")) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0]


@pytest.mark.parametrize("words, said", [
    (["--table", "a.txt"], "ends in .csv or .parquet"), (["--table", "b/a.csv"], "its folder with"),
    (["--only", 4], "--only 4: there are 4, numbered from 0"), (["--tune"], "--tune takes files"),
    (["star.csv"], "give files of spectra, or a folder of arrays"),
])
def test_flags_that_do_not_go_together(words, said, tiny, run, spectra, tmp_path, capsys):
    assert estimate.main(flags_of(tiny, run, spectra, tmp_path / "out", *words)) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_estimates_of_another_folder_are_kept(whole, tiny, run, copied, capsys):
    write_array(copied / "carmf_norm.npy", take(Dataset(copied).flux_carm, slice(None)) * np.float32(0.9))
    assert estimate.main(flags_of(tiny, run, copied, whole)) == 2
    assert "has the stars of other files" in capsys.readouterr().err
