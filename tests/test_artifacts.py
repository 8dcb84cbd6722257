"""Units of work: seeds, atomic files, when a unit is done or stale, and runs that are killed, repeated or parallel."""
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import artifacts
from artifacts import BadInput, Unit


def options(folder, jobs=1, overwrite=False, dry_run=False):
    return SimpleNamespace(artifacts=folder, jobs=jobs, scheduler=None, overwrite=overwrite, dry_run=dry_run)


def work(unit, tick):
    """A unit whose result depends on its own seed."""
    started = time.time()
    artifacts.write_array(unit.path, np.random.default_rng(unit.own_seed).normal(size=unit.settings["n"]))
    artifacts.finish(unit, {"spectra": "simulated"}, started, {"mse": unit.settings["n"] / 10})
    tick()


def worker():
    """The same as a closure, which can be sent to other processes."""

    def closure(unit, tick):
        started = time.time()
        artifacts.write_array(unit.path, np.random.default_rng(unit.own_seed).normal(size=unit.settings["n"]))
        artifacts.finish(unit, {"spectra": "simulated"}, started, {"mse": unit.settings["n"] / 10})
        tick()

    return closure


def make_units(folder, n=4):
    return [Unit(folder / f"unit_{i}.npy", {"n": i + 2}) for i in range(n)]


def content(folder):
    """Names and contents of a folder, without the seconds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".json":
            found[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k != "seconds"}
        elif path.is_file():
            found[path.name] = path.read_bytes()
    return found


@pytest.fixture
def unit(tmp_path):
    """A finished unit with one input."""
    source = tmp_path / "input.npy"
    np.save(source, np.arange(3))
    unit = Unit(tmp_path / "unit.npy", {"n": 3, "lr": 1e-4, "grid": (1, 2)}, (source,), seed=1)
    work(unit, lambda: None)
    return unit


# ---------------------------------------------------------------- seeds and hashes
def test_seed_depends_on_seed_and_name_only(tmp_path):
    seeds = {artifacts.seed_of(seed, f"ac_{i}") for seed in (1, 2, 42) for i in range(50)}
    assert len(seeds) == 150 and min(seeds) >= 0 and max(seeds) + 1000 < 2**31
    assert artifacts.seed_of(42, "ac_0") == int(hashlib.sha256(b"42/ac_0").hexdigest()[:8], 16) // 4
    one = Unit(tmp_path / "ac_0.h5", {"lr": 1e-4}, seed=7)
    other = Unit(tmp_path / "elsewhere" / "ac_0.h5", {"lr": 1e-3}, (tmp_path / "x",), seed=7)
    assert one.own_seed == other.own_seed == artifacts.seed_of(7, "ac_0")


def test_hashes_follow_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert artifacts.git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert artifacts.sha256(path) == hashlib.sha256(b"hello\n").hexdigest()
    path.write_bytes(b"")
    assert artifacts.git_blob_id(path) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    big = bytes(range(256)) * 20_000  # more than a block
    path.write_bytes(big)
    assert artifacts.sha256(path) == hashlib.sha256(big).hexdigest()
    assert artifacts.git_blob_id(path) == hashlib.sha1(b"blob 5120000\0" + big).hexdigest()


# ---------------------------------------------------------------- files
def test_failed_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "new" / "file.npy"
    artifacts.write_array(path, np.arange(3))
    with pytest.raises(RuntimeError), artifacts.writing(path) as partial:
        assert partial.parent == path.parent and partial.suffix == ".npy" and partial != path
        np.save(partial, np.arange(9))
        assert np.array_equal(np.load(path), np.arange(3))
        raise RuntimeError
    assert np.array_equal(np.load(path), np.arange(3))
    assert list(path.parent.iterdir()) == [path]


def test_failed_writing_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        artifacts.write_json(tmp_path / "x.json", {"a": object()})
    with pytest.raises(KeyboardInterrupt), artifacts.writing(tmp_path / "x.csv") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [slice(None), slice(2, 9, 3), np.array([9, 0, 0, 4, 7, 1, 2]), np.array([], int)])
def test_take_copies_rows_of_a_mapped_array_piece_by_piece(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "PIECE", 3)
    array = np.arange(40.0).reshape(10, 4)
    np.save(tmp_path / "x.npy", array)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for of, expected in ((mapped, array), (mapped[:9, 1:], array[:9, 1:]), (array, array)):
        rows_there = rows if isinstance(rows, slice) else rows[rows < len(expected)]
        taken = artifacts.take(of, rows_there)
        assert taken.dtype == np.float32 and np.array_equal(taken, expected[rows_there])
        assert not np.may_share_memory(taken, of)


# ---------------------------------------------------------------- done, stale, absent
def test_done_needs_file_and_sidecar(unit):
    sidecar = unit.path.with_suffix(".json")
    assert artifacts.is_done(unit)
    kept = sidecar.read_bytes()
    sidecar.unlink()
    assert not artifacts.is_done(unit)
    sidecar.write_bytes(kept)
    assert artifacts.is_done(unit)
    unit.path.unlink()
    assert not artifacts.is_done(unit)


def changed(unit, what):
    source = unit.inputs[0]
    if what == "input":
        np.save(source, np.arange(4))
        return unit, "input.npy"
    return {
        "setting": (Unit(unit.path, {**unit.settings, "lr": 1e-3}, unit.inputs, 1), "lr 0.0001 there, 0.001 now"),
        "new setting": (Unit(unit.path, {**unit.settings, "penalty": "live"}, unit.inputs, 1), "penalty None there"),
        "no setting": (Unit(unit.path, {"n": 3, "grid": (1, 2)}, unit.inputs, 1), "lr 0.0001 there, None now"),
        "no input": (Unit(unit.path, unit.settings, (), 1), "input.npy"),
        "seed": (Unit(unit.path, unit.settings, unit.inputs, 2), "seed 1 there, 2 now"),
    }[what]


@pytest.mark.parametrize("what", ["setting", "new setting", "no setting", "input", "no input", "seed"])
def test_stale_unit_stops_the_run_or_is_redone(unit, what):
    other, difference = changed(unit, what)
    other = replace(other)  # as a new run would make it: a unit knows its inputs as they were when it was made
    with pytest.raises(BadInput) as caught:
        artifacts.is_done(other)
    message = str(caught.value)
    assert str(unit.path) in message and difference in message and "--overwrite" in message and "\n" not in message
    assert message.count(" there, ") == 1  # what did not change is not named
    before = content(unit.path.parent)
    with pytest.raises(BadInput):
        artifacts.run([other], work, options(unit.path.parent))
    assert content(unit.path.parent) == before
    assert not artifacts.is_done(other, stale_is_undone=True)
    assert artifacts.run([other], work, options(unit.path.parent, overwrite=True))
    assert artifacts.is_done(other)


def test_cheap_unit_is_redone_when_stale(unit):
    done = []

    def noting(unit, tick):
        done.append(unit.seed)
        work(unit, tick)

    for seed in (1, 2, 2):
        again = Unit(unit.path, unit.settings, unit.inputs, seed)
        assert artifacts.run([again], noting, options(unit.path.parent), redo_stale=True)
        assert artifacts.is_done(again)
    assert done == [2]


def test_require(unit, tmp_path):
    source = unit.inputs[0]
    assert artifacts.require(unit.path, "autoencoder_training", [source]) == unit.path
    with pytest.raises(BadInput, match="absent.h5 not found: run Methodology/autoencoder_training.py first"):
        artifacts.require(tmp_path / "absent.h5", "autoencoder_training")
    np.save(source, np.arange(5))
    with pytest.raises(BadInput) as caught:
        artifacts.require(unit.path, "autoencoder_training", [source])
    assert all(
        word in str(caught.value)
        for word in (str(unit.path), str(source), "same --data", "another --artifacts", "training.py --overwrite")
    )
    unit.path.with_suffix(".json").unlink()
    with pytest.raises(BadInput, match="not found"):
        artifacts.require(unit.path, "autoencoder_training")


def test_architectures_and_autoencoders(tmp_path):
    with pytest.raises(BadInput, match="params_final.json not found: run Methodology/autoencoder_grid_search.py"):
        artifacts.architectures(tmp_path)
    artifacts.write_json(tmp_path / "params_final.json", {"architectures": [{"lr": 1e-4}, {"lr": 1e-3}]})
    for i in range(2):
        (tmp_path / f"ac_{i}.h5").touch()
        artifacts.finish(Unit(tmp_path / f"ac_{i}.h5", {"lr": [1e-4, 1e-3][i]}), {}, time.time(), {})
    names = {only: [path.name for path in artifacts.autoencoders(SimpleNamespace(artifacts=tmp_path, only=only), [])]
             for only in (None, (1,))}  # fmt: skip
    assert names == {None: ["ac_0.h5", "ac_1.h5"], (1,): ["ac_1.h5"]}
    assert [path.name for path in artifacts.trained(tmp_path)] == ["ac_0.h5", "ac_1.h5"]
    artifacts.write_json(tmp_path / "params_final.json", {"architectures": [{"lr": 1e-4}, {"lr": 5e-4}]})
    with pytest.raises(BadInput, match="ac_1.h5 has not the architecture 1"):
        artifacts.autoencoders(SimpleNamespace(artifacts=tmp_path, only=None), [])


def test_chosen():
    assert artifacts.chosen(None, 3) == [0, 1, 2]
    assert artifacts.chosen([2, 0], 3) == [2, 0]
    for absent in ([3], [-1], [0, 7]):
        with pytest.raises(BadInput, match=f"--only .*{absent[-1]}: there are 3"):
            artifacts.chosen(absent, 3)


def test_chosen_twice_is_done_once():
    assert artifacts.chosen([2, 0, 2], 3) == [2, 0]


# ---------------------------------------------------------------- runs
def test_results_do_not_depend_on_order_or_jobs(tmp_path):
    folders = [tmp_path / name for name in ("forward", "backward", "parallel")]
    artifacts.run(make_units(folders[0]), work, options(folders[0]))
    artifacts.run(make_units(folders[1])[::-1], work, options(folders[1]))
    artifacts.run(make_units(folders[2]), worker(), options(folders[2], jobs=2))
    forward, backward, parallel = (content(folder) for folder in folders)
    assert len(forward) == 8  # no progress file left
    assert forward == backward == parallel
    assert len({forward[f"unit_{i}.npy"][-8:] for i in range(4)}) == 4


@pytest.mark.parametrize("jobs", [1, 2])
def test_failing_unit_leaves_the_others_done(tmp_path, jobs):
    units, finish = make_units(tmp_path, 3), worker()

    def failing(unit, tick):
        if unit.name == "unit_2":
            artifacts.write_array(unit.path, np.zeros(2))
            waited = time.time() + 20  # until the others have got through
            while not all((unit.path.parent / f"unit_{i}.json").exists() for i in (0, 1)) and time.time() < waited:
                time.sleep(0.05)
            raise RuntimeError("no luck")
        finish(unit, tick)

    with pytest.raises(RuntimeError, match="no luck"):
        artifacts.run(units, failing, options(tmp_path, jobs=jobs))
    assert [artifacts.is_done(unit) for unit in units] == [True, True, False]
    assert not list(tmp_path.glob("*partial*"))
    kept = (tmp_path / "unit_0.json").read_bytes()
    artifacts.run(units, work, options(tmp_path))
    assert all(artifacts.is_done(unit) for unit in units)
    assert (tmp_path / "unit_0.json").read_bytes() == kept


def test_killed_worker_process_is_one_line(tmp_path):
    def dying(unit, tick):
        os.kill(os.getpid(), 9)

    with pytest.raises(BadInput, match="squares: a process was killed.*--jobs 2"):
        artifacts.run(make_units(tmp_path, 3), dying, options(tmp_path, jobs=2), description="squares")
    assert not list(tmp_path.glob(".progress*"))


def test_unit_of_a_run_that_was_given_up_ends_at_its_next_tick(tmp_path):
    with pytest.raises(FileNotFoundError):
        artifacts._do(work, make_units(tmp_path, 1), tmp_path / ".progress")
    assert not (tmp_path / ".progress").exists()


def test_failing_redo_is_not_done(tmp_path):
    units = make_units(tmp_path, 1)
    artifacts.run(units, work, options(tmp_path))

    def failing(unit, tick):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        artifacts.run(units, failing, options(tmp_path, overwrite=True))
    assert not artifacts.is_done(units[0])


def test_rerun_does_nothing(tmp_path, capsys):
    units = make_units(tmp_path)
    artifacts.run(units[:3], work, options(tmp_path))
    done = []

    def noting(unit, tick):
        done.append(unit.name)
        work(unit, tick)

    assert artifacts.run(units, noting, options(tmp_path))
    assert done == ["unit_3"]
    assert artifacts.run(units, noting, options(tmp_path))
    assert done == ["unit_3"]
    assert "4 in all, 4 done, 0 to do" in capsys.readouterr().out
    assert artifacts.run(units, noting, options(tmp_path, overwrite=True))
    assert done[1:] == [unit.name for unit in units]


def test_dry_run_computes_nothing(tmp_path, capsys):
    folder = tmp_path / "new"
    units = make_units(folder)

    def never(unit, tick):
        raise AssertionError

    assert artifacts.run(units, never, options(folder, dry_run=True)) is False
    assert not folder.exists()
    assert all(str(unit.path) in capsys.readouterr().out for unit in units[:1])
    artifacts.run(units[:2], work, options(folder))
    (folder / f"unit_9.partial-{artifacts.HOST}-{2**22 + 1}.npy").touch()  # no process has that number
    before = content(folder)
    capsys.readouterr()
    assert artifacts.run(units, never, options(folder, dry_run=True, overwrite=False)) is False
    out = capsys.readouterr().out
    assert content(folder) == before
    assert str(units[2].path) in out and str(units[3].path) in out and str(units[0].path) not in out


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = f"partial-{artifacts.HOST}"
    leftovers = [tmp_path / f"unit_0.{mine}-{ended.pid}.npy", tmp_path / "grid_search" / f"x.{mine}-{ended.pid}.json",
                 tmp_path / f".progress.{mine}-{ended.pid}"]  # fmt: skip
    leftovers[1].parent.mkdir()
    for leftover in leftovers:
        leftover.touch()
    others = [tmp_path / "partial.txt", tmp_path / f"unit_7.{mine}-{os.getppid()}.npy",  # at work
              tmp_path / f"unit_8.partial-elsewhere-{ended.pid}.npy"]  # that process is of another machine
    for other in others:
        other.touch()
    units = make_units(tmp_path)
    artifacts.run(units, work, options(tmp_path))
    assert not any(leftover.exists() for leftover in leftovers)
    assert all(other.exists() for other in others) and len(content(tmp_path)) == 8 + len(others)


def test_collect_doubles_nothing(tmp_path):
    units = make_units(tmp_path, 3)
    artifacts.run(units, work, options(tmp_path))
    path = tmp_path / "mse.csv"
    table = artifacts.collect(units, path, lambda unit: {"autoencoder": unit.name})
    once = path.read_bytes()
    artifacts.collect(units, path, lambda unit: {"autoencoder": unit.name})
    assert path.read_bytes() == once
    assert list(table) == ["autoencoder", "mse", "seconds", "spectra"] and table["mse"].tolist() == [0.2, 0.3, 0.4]
    assert once.decode().splitlines()[1].startswith("unit_0,0.2,") and len(once.splitlines()) == 4


def test_sidecar_says_what_made_the_file(unit):
    found = artifacts.read_sidecar(unit.path)
    assert found["settings"] == {"n": 3, "lr": 1e-4, "grid": [1, 2]} and found["spectra"] == {"spectra": "simulated"}
    assert found["seed"] == 1 and found["name"] == "unit"
    assert found["inputs"] == {"input.npy": hashlib.sha256(unit.inputs[0].read_bytes()).hexdigest()}
    assert found["metrics"] == {"mse": 0.3} and found["versions"]["numpy"] == np.__version__


# ---------------------------------------------------------------- command line
def test_bad_input_is_one_line_and_status_2(capsys):
    @artifacts.command
    def main(argv=None):
        if argv:
            raise BadInput("x.npy row 3: mend it")

    assert main(["now"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: x.npy row 3: mend it\n" and captured.out == ""
    assert main() == 0


def test_other_errors_are_not_hidden():
    @artifacts.command
    def main(argv=None):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        main()


def test_parse(tmp_path, capsys):
    args = artifacts.parse("doc", ["--artifacts", str(tmp_path), "--budget", "smoke", "--only", "1", "2"])
    assert args.artifacts == tmp_path and args.budget.train_epochs == 2 and args.only == [1, 2] and args.seed == 42
    assert args.jobs >= 1 and not args.overwrite and not args.dry_run
    out = capsys.readouterr().out
    assert str(tmp_path) in out and "smoke" in out
    for bad in (["--jobs", "0"], ["--jobs", "-2"], ["--budget", "huge"]):
        with pytest.raises(SystemExit) as caught:
            artifacts.parse("doc", bad)
        assert caught.value.code == 2


# ---------------------------------------------------------------- cost
def test_a_run_ends_with_what_it_cost(tmp_path, capsys):
    units = make_units(tmp_path)
    artifacts.run(units, work, options(tmp_path), description="squares")
    line = capsys.readouterr().out.strip().splitlines()[-1]
    found = re.fullmatch(r"squares: (\d+) units in \d+ s, (\d+) an hour, peak memory of a process ([\d.]+) GB", line)
    assert int(found[1]) == len(units) and int(found[2]) > 0 and 0.01 < float(found[3]) < 100
    artifacts.run(units, work, options(tmp_path), description="squares")
    assert "an hour" not in capsys.readouterr().out  # nothing was done


def test_dry_run_judges_the_time_by_the_units_that_are_done(tmp_path, capsys):
    units = make_units(tmp_path)
    artifacts.run(units[:1], work, options(tmp_path))
    sidecar = artifacts.sidecar_of(units[0].path)
    artifacts.write_json(sidecar, {**json.loads(sidecar.read_text()), "seconds": 600.0})
    capsys.readouterr()
    artifacts.run(units, work, options(tmp_path, jobs=2, dry_run=True))
    expected = f"about {300 * (len(units) - 1)} s with --jobs 2: those done took 600.0 s each"
    assert expected in capsys.readouterr().out
    artifacts.run(make_units(tmp_path / "new"), work, options(tmp_path / "new", dry_run=True))
    assert "about" not in capsys.readouterr().out
