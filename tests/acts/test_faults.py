"""What interrupts, collides or changes under a run: real signals and processes; no result is wrong in silence."""
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from units import untrained

import autoencoder_fine_tuning
import autoencoder_grid_search
import autoencoder_training
import cnn_training
import paper
from training import grid_search, loop
from workflow import command_line, files, schemas
from workflow.units import seed_of

METHODOLOGY = Path(cnn_training.__file__).parent
ROOT = METHODOLOGY.parent
ACTS = [autoencoder_grid_search, autoencoder_training, autoencoder_fine_tuning, cnn_training]
OF_ACT_4 = shutil.ignore_patterns("cnn_*", "*_estimation_*", "final_*")
# An act in a process of its own: with one regressor a parameter and autoencoder, or long enough to be met at work.
FEW, LONG = {"repeats": 1}, {"repeats": 1, "train_epochs": 100_000, "cnn_epochs": 100_000}
RUN = """
import dataclasses, sys
sys.path.insert(0, sys.argv[1])
import paper
paper.BUDGETS["smoke"] = dataclasses.replace(paper.BUDGETS["smoke"], **{budget})
import {act}
sys.exit({act}.main(sys.argv[2:]))
"""


def start(act, budget, *arguments):
    command = [sys.executable, "-c", RUN.format(act=act, budget=budget), METHODOLOGY, *arguments]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module", autouse=True)
def few():
    """One regressor a parameter and autoencoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(paper.BUDGETS, "smoke", dataclasses.replace(paper.BUDGETS["smoke"], **FEW))
        yield


def flags(data, folder, *more):
    return ["--data", str(data), "--artifacts", str(folder), "--budget", "smoke", *map(str, more)]


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
            and path.name != ".lock"}


@pytest.fixture(scope="module")
def chain(few, tiny, tmp_path_factory):
    """Artifacts of the four acts with two autoencoders, of a search that trains none."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid_search, "fold_score", lambda _, settings, *data: settings["neurons_in"])
        assert autoencoder_grid_search.main(flags(tiny, folder, "--jobs", 1, "--keep", 2)) == 0
    for act in ACTS[1:]:
        assert act.main(flags(tiny, folder, "--jobs", 1)) == 0
    return folder


@pytest.fixture
def copied(chain, tmp_path):
    return Path(shutil.copytree(chain, tmp_path / "artifacts"))


def one_line(capsys):
    """The only line on stderr, but for progress bars."""
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


# ---------------------------------------------------------------- interruption
def at_work(act, folder, *arguments):
    """Start an act that takes long; return its process once it is at work."""
    process = start(act, LONG, *arguments)
    deadline = time.time() + 90
    while not any(path.stat().st_size for path in folder.glob(".progress*")) and time.time() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_flux_cut_short_during_the_training(chain, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(paper.BUDGETS, "smoke", dataclasses.replace(paper.BUDGETS["smoke"], train_epochs=2000))
    for jobs in (1, 2):
        folder = tmp_path / f"jobs_{jobs}"
        folder.mkdir()
        shutil.copy(chain / "params_final.json", folder)
        whole = (data / "ph_flux_norm.npy").read_bytes()

        def cut(folder=folder):
            while not any(path.stat().st_size for path in folder.glob(".progress*")):
                time.sleep(0.02)
            os.truncate(data / "ph_flux_norm.npy", 5000)

        thread = threading.Thread(target=cut)
        thread.start()
        assert autoencoder_training.main(flags(data, folder, "--jobs", jobs)) == 2
        thread.join()
        assert "ph_flux_norm.npy became shorter while it was read" in one_line(capsys)
        (data / "ph_flux_norm.npy").write_bytes(whole)


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import autoencoder_training
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
sys.exit(autoencoder_training.main(sys.argv[3:]))
"""


def test_no_room_for_a_model_is_one_line_that_names_it(chain, tiny, tmp_path):
    folder = tmp_path / "artifacts"
    folder.mkdir()
    shutil.copy(chain / "params_final.json", folder)
    command = [sys.executable, "-c", FULL, METHODOLOGY, 20_000, *flags(tiny, folder, "--jobs", 1)]
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert len(errors) == 1 and "ac_0.h5 cannot be written" in errors[0]
    assert not list(folder.glob("ac_0*"))


def test_no_room_for_processes_names_the_place(chain, tiny, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(chain, tmp_path / "artifacts", ignore=OF_ACT_4)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(joblib.Parallel, "__call__", full)
    assert cnn_training.main(flags(tiny, folder, "--jobs", 2)) == 2
    assert "/dev/shm" in one_line(capsys)


# ---------------------------------------------------------------- divergence
def test_divergence_costs_only_its_own_autoencoder(tiny, tmp_path, capsys):
    folder = tmp_path / "artifacts"
    architectures = [{"neurons_in": 64, "reg_par": 1e-7, "lr": lr} for lr in (1e30, 1e-4)]
    files.write_json(folder / "params_final.json", {"architectures": architectures})
    assert autoencoder_training.main(flags(tiny, folder, "--jobs", 1)) == 2
    error = one_line(capsys)
    assert "ac_0: diverged in epoch 1 of 2" in error and "smaller learning rate" in error
    assert not (folder / "ac_0.h5").exists() and (folder / "ac_1.h5").exists()
    for act, more in zip(ACTS[2:], ([], ["--parameter", "teff"])):  # the healthy one goes on, and the status says
        assert act.main(flags(tiny, folder, "--jobs", 1, *more)) == 2  # that one is missing
        assert "ac_0.h5 not found" in one_line(capsys)
    assert pd.read_csv(folder / "final_estimations.csv")[["Teff", "e_Teff", "E_Teff"]].notna().all(axis=None)


def test_divergence_of_one_of_a_stack_costs_only_that_one(copied, tiny, capsys, monkeypatch):
    fit = loop.fit

    def diverging(model, *args, **kwargs):
        if getattr(model, "seed", None) == seed or hasattr(model, "members"):
            raise loop.Diverged("diverged in epoch 1 of 2")
        return fit(model, *args, **kwargs)

    seed = seed_of(42, "cnn_regressor_teff_0_ac_1")
    for path in copied.glob("cnn_regressor_teff_*.json"):
        path.unlink()
    monkeypatch.setattr(loop, "fit", diverging)
    assert cnn_training.main(flags(tiny, copied, "--jobs", 1, "--stack", 2)) == 2
    error = capsys.readouterr().err
    assert "cnn_regressor_teff_0_ac_1: diverged" in error
    assert (copied / "cnn_regressor_teff_0_ac_0.json").exists()
    assert not (copied / "cnn_regressor_teff_0_ac_1.json").exists()


# ---------------------------------------------------------------- runs that meet
def test_second_run_with_another_seed_is_refused_while_the_first_is_at_work(chain, tiny, tmp_path, capsys):
    folder = tmp_path / "artifacts"
    folder.mkdir()
    shutil.copy(chain / "params_final.json", folder)
    process = at_work("autoencoder_training", folder, *flags(tiny, folder, "--jobs", 1))
    before = content(folder).keys()
    try:
        assert autoencoder_training.main(flags(tiny, folder, "--jobs", 1, "--seed", 7)) == 2
        assert "another run is making it with other settings" in one_line(capsys)
        assert content(folder).keys() == before
    finally:
        process.terminate()
        error = process.communicate()[1]
    assert process.returncode == 143 and "Traceback" not in error
    assert "the same command goes on from here" in error and not list(folder.rglob("*.partial*"))
    assert autoencoder_training.main(flags(tiny, folder, "--jobs", 1, "--seed", 7)) == 0  # that one is gone


@pytest.mark.slow
def test_array_jobs_side_by_side_end_in_one_table(chain, tiny, tmp_path):
    folder = shutil.copytree(chain, tmp_path / "artifacts", ignore=OF_ACT_4)
    other = start("cnn_training", FEW, *flags(tiny, folder, "--jobs", 1, "--only", 1))
    while not list(folder.glob(".run.partial-*.json")):  # until it is at work
        assert other.poll() is None, other.stderr.read()
        time.sleep(0.05)
    assert cnn_training.main(flags(tiny, folder, "--jobs", 1, "--only", 0)) == 0
    error = other.communicate(timeout=120)[1]
    assert other.returncode == 0, error
    kept = schemas.read(folder / "final_estimations.json", schemas.Estimates, "").kept
    assert all(len(parameter.ensemble) == 2 for parameter in kept.values())
    assert cnn_training.main(flags(tiny, folder, "--jobs", 1)) == 0  # the one without --only
    assert (folder / "final_estimations.csv").read_bytes() == (chain / "final_estimations.csv").read_bytes()


@pytest.mark.slow
def test_autoencoders_side_by_side_from_the_shell_are_those_of_one_job(chain, tiny, tmp_path):
    lost = ("dtl_*", "encoded_carm*")
    folder = shutil.copytree(chain, tmp_path / "artifacts", ignore=shutil.ignore_patterns(*lost))
    command = [sys.executable, METHODOLOGY / "autoencoder_fine_tuning.py", *flags(tiny, folder, "--jobs", 2)]
    process = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    made = [*chain.glob("dtl_*.h5"), *chain.glob("encoded_carm*.npy")]
    assert len(made) == 6
    for path in made:
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


# ---------------------------------------------------------------- tables that would lose something
TABLES = ("final_estimations.csv", "final_estimations.json", "final_estimations_before.csv")


def spoil_tune(folder):
    best = {"nf1": 8, "nf2": 8, "nu": 8, "lr": 0.01}
    files.write_json(folder / "tune_logg.json", {"parameter": "logg", "best": best})


def spoil_architectures(folder):
    files.write_json(folder / "params_final.json", {"architectures": []})


def spoil_regressors(folder):
    for path in folder.glob("cnn_regressor_*_ac_1.json"):
        path.unlink()


@pytest.mark.parametrize(
    "spoil, more, status, said",
    [(None, ["--seed", 7, "--overwrite", "--parameter", "teff"], 0, "stays as it was: it would lose"),
     (spoil_tune, ["--parameter", "teff"], 2, "it would lose cnn_regressor_logg_0_ac_0"),
     (spoil_tune, [], 2, "is stale"),
     (spoil_architectures, [], 2, "length >= 1"),
     (spoil_regressors, ["--only", 0], 2, "it would lose cnn_regressor_teff_0_ac_1")],
)
def test_table_loses_no_column_and_no_member(spoil, more, status, said, copied, tiny, capsys):
    before = [(copied / name).read_bytes() for name in TABLES]
    if spoil:
        spoil(copied)
    assert cnn_training.main(flags(tiny, copied, "--jobs", 1, *more)) == status
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    assert [(copied / name).read_bytes() for name in TABLES] == before


def test_all_of_it_may_be_redone_with_another_seed(copied, tiny, monkeypatch):
    monkeypatch.setattr(loop, "fit", untrained)
    assert cnn_training.main(flags(tiny, copied, "--jobs", 1, "--seed", 7, "--overwrite")) == 0
    assert schemas.read(copied / "final_estimations.json", schemas.Estimates, "").seed == 7


@pytest.mark.parametrize(
    "act, table", [(autoencoder_training, "mse.csv"), (autoencoder_fine_tuning, "fine_tuning.csv")]
)
def test_redoing_one_autoencoder_otherwise_leaves_the_table(act, table, copied, tiny, capsys, monkeypatch):
    monkeypatch.setattr(loop, "fit", untrained)
    before = (copied / table).read_bytes()
    assert act.main(flags(tiny, copied, "--jobs", 1, "--only", 0, "--seed", 7, "--overwrite")) == 0
    assert "stays as it was: it would lose ac_1" in capsys.readouterr().out
    assert (copied / table).read_bytes() == before
    assert act.main(flags(tiny, copied, "--jobs", 1, "--only", 1, "--seed", 7, "--overwrite")) == 0
    assert (copied / table).read_bytes() != before and len(pd.read_csv(copied / table)) == 2


def test_smaller_search_does_not_replace_a_larger_one(copied, tiny, capsys):
    before = [(copied / name).read_bytes() for name in ("grid_search.csv", "params_final.json")]
    assert autoencoder_grid_search.main(flags(tiny, copied, "--jobs", 1, "--neurons-in", 64)) == 2
    assert "grid_search.csv stays as it was, it would lose neurons_in 96" in one_line(capsys)
    assert [(copied / name).read_bytes() for name in ("grid_search.csv", "params_final.json")] == before


# ---------------------------------------------------------------- where the spectra come from
@pytest.mark.parametrize("word", ["my instrument", "published"])
def test_word_for_the_spectra_that_was_changed_is_refused(word, copied, data, capsys):
    note = json.loads((data / "provenance.json").read_text())
    files.write_json(data / "provenance.json", {**note, "spectra": word})
    before = content(copied)
    for act in ACTS[1:]:
        assert act.main(flags(data, copied, "--jobs", 1)) == 2
        error = one_line(capsys)
        assert ("simulated" in error and word in error) or "provenance.json" in error
    assert content(copied) == before


@pytest.mark.parametrize("pixels, warned", [(0, False), (5, True), (-7, True)])
def test_act_3_warns_of_shifted_wavelengths(pixels, warned, chain, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "fit", untrained)
    np.save(data / "carmf_norm.npy", np.roll(np.load(data / "carmf_norm.npy"), pixels, axis=1))
    folder = shutil.copytree(chain, tmp_path / "artifacts", ignore=shutil.ignore_patterns("dtl_*", "*carm*"))
    assert autoencoder_fine_tuning.main(flags(data, folder, "--jobs", 1)) == 0
    out = capsys.readouterr().out
    assert ("warning: the observed spectra are shifted by" in out) == warned
    lags = pd.read_csv(folder / "lag.csv")
    assert list(lags) == ["karmn", "lag"] and abs(lags["lag"].median() - pixels) <= 2


def test_heading_in_another_case_is_no_other_column(chain, data, capsys):
    for old, new in ((",ra,", ",RA,"), (",teff,", ",TEFF,"), (",ra,", ", ra,")):
        text = (data / "stars.csv").read_text()
        (data / "stars.csv").write_text(text.replace(old, new, 1))
        assert cnn_training.main(flags(data, chain, "--dry-run")) == 2
        assert "stars.csv" in one_line(capsys)
        (data / "stars.csv").write_text(text)


@pytest.mark.parametrize(
    "act, name, part",
    [(cnn_training, "cnn_regressor_teff_0_ac_1", "metrics"),
     (autoencoder_grid_search, "combination_0_fold_0", "metrics"),
     (autoencoder_fine_tuning, "dtl_ac_1", "metrics"), (autoencoder_training, "ac_1", "metrics"),
     (autoencoder_fine_tuning, "ac_1", "network"), (cnn_training, "ac_1", "network")],
)
def test_sidecar_without_its_numbers(act, name, part, copied, tiny, capsys):
    path = next(copied.rglob(f"{name}.json"))
    old = {key: value for key, value in json.loads(path.read_text()).items() if key != "digest"}
    spoilt = {"metrics": {}, "network": {**(old["network"] or {}), "n_pixels": 10**6}}
    files.write_json(path, {**old, part: spoilt[part]})
    before = content(copied)
    more = ["--keep", 2] if act is autoencoder_grid_search else []
    assert act.main(flags(tiny, copied, "--jobs", 1, *more)) == 2
    assert f"{name}.json" in one_line(capsys)
    assert content(copied) == before


# ---------------------------------------------------------------- flags and surroundings
@pytest.mark.parametrize(
    "wanted, said",
    [(["--artifacts", "{file}"], "is a file"), (["--artifacts", ""], "empty"), (["--artifacts", "{file}/x"], "file"),
     (["--data", "{file}"], "is a file"), (["--reg-par", "inf"], "inf"), (["--reg-par", "nan"], "nan"),
     (["--lr", "-1"], "-1"), (["--neurons-in", "7"], "7"), (["--seed", "-1"], "-1"), (["--jobs", "0"], "0"),
     (["--jobs", "1e3"], "1e3")],
)
def test_flags_that_cannot_be(wanted, said, tiny, tmp_path, capsys):
    (tmp_path / "file").touch()
    wanted = [word.format(file=tmp_path / "file") for word in wanted]
    try:
        status = autoencoder_grid_search.main([*flags(tiny, tmp_path / "artifacts", "--jobs", 1), *wanted])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert said in last and "error: " in last
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_number_of_cores_that_cannot_be_read(tiny, tmp_path, monkeypatch):
    def empty():
        raise ValueError("invalid literal for int() with base 10: ''")

    monkeypatch.setattr(joblib, "cpu_count", empty)
    assert command_line.parse("doc", ["--artifacts", str(tmp_path)]).jobs >= 1


def test_name_that_the_terminal_lacks(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)

    @command_line.command
    def main(argv=None):
        print("warning: Gliese 581 \N{GREEK SMALL LETTER BETA} left out")

    assert main() == 0
    terminal.flush()
    assert b"581 \\u03b2 left out" in terminal.buffer.getvalue()


def test_run_says_what_it_is_trained_on(copied, tiny, capsys):
    assert cnn_training.main(flags(tiny, copied, "--stack", 4, "--dry-run")) == 0
    out = capsys.readouterr().out
    assert "trained on the processor (TensorFlow sees no GPU)" in out and "warning: --stack is slower" in out


# In processes of their own, beside modules of the same names. The first two import TensorFlow, which says nothing.
SCRIPTS = [
    ("Methodology/cnn_training.py", ["--parameter", "mass"], 2, r"usage: cnn_training.py [\s\S]*'mass' .*\n"),
    ("Methodology/autoencoder_training.py", ["--data", "{folder}", "--artifacts", "{folder}/artifacts"], 2,
     r"error: .*ph_flux_norm\.npy .*download\.py.*simulate_spectra\.py.*\n"),
    ("Methodology/literature.py", ["--help"], 0, ""),
    ("src_files/simulate_spectra.py", ["--help"], 0, ""),
    ("src_files/download.py", ["--help"], 0, ""),
]


def test_scripts_in_real_processes_are_not_shadowed_and_end_in_one_line(tmp_path):
    for name in ("paper", "workflow", "spectra", "training", "inference", "evaluation", "figures", "observations"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    started = [(script, status, said, subprocess.Popen(
                   [sys.executable, str(ROOT / script), *(word.format(folder=tmp_path) for word in arguments)],
                   env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
               for script, arguments, status, said in SCRIPTS]
    for script, status, said, process in started:
        error = process.communicate(timeout=120)[1]
        assert process.returncode == status and re.fullmatch(said, error), (script, error)


# ---------------------------------------------------------------- clusters
def test_worker_with_other_code_is_refused(tiny, tmp_path, capsys):
    distributed = pytest.importorskip("distributed")
    clone = shutil.copytree(METHODOLOGY, tmp_path / "clone", ignore=shutil.ignore_patterns("__pycache__"))
    code = (clone / "paper.py").read_text()
    (clone / "paper.py").write_text(code.replace("N_LATENT = 32", "N_LATENT = 16"))
    dask = [sys.executable, "-m", "dask"]
    quiet = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    note, wanted = tmp_path / "note.json", ["--no-dashboard", "--scheduler-file", str(tmp_path / "note.json")]
    started = [subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *wanted],
                                env={**os.environ, "PYTHONPATH": str(METHODOLOGY)}, **quiet)]
    try:
        for path in (METHODOLOGY, clone):
            started.append(subprocess.Popen([*dask, "worker", "--nthreads", "1", "--no-nanny", *wanted],
                                            env={**os.environ, "PYTHONPATH": str(path)}, **quiet))
        with distributed.Client(scheduler_file=str(note), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            address = client.scheduler.address
        assert autoencoder_grid_search.main(flags(tiny, tmp_path / "artifacts", "--scheduler", address)) == 2
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert "other code or libraries" in one_line(capsys)
    assert not list((tmp_path / "artifacts").rglob("*.json"))
