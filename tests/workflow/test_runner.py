"""Runs of units that fail, are killed, repeated or parallel; and the command line."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import units
from units import content, make_units, options, work, worker

from workflow import command_line, files, runner, schemas
from workflow.files import BadInput
from workflow.units import load, sidecar_of


def test_results_do_not_depend_on_order_or_jobs(tmp_path):
    folders = [tmp_path / name for name in ("forward", "backward", "parallel")]
    runner.run(make_units(folders[0]), work, options(folders[0]))
    runner.run(make_units(folders[1])[::-1], work, options(folders[1]))
    runner.run(make_units(folders[2]), worker(), options(folders[2], jobs=2))
    forward, backward, parallel = (content(folder) for folder in folders)
    assert len(forward) == 8  # no progress file left
    assert forward == backward == parallel
    assert len({forward[f"unit_{i}.npy"][-8:] for i in range(4)}) == 4


@pytest.mark.parametrize("jobs", [1, 2])
def test_failing_unit_leaves_the_others_done(tmp_path, jobs):
    units, finish = make_units(tmp_path, 3), worker()

    def failing(unit, tick):
        if unit.name == "unit_2":
            files.write_array(unit.path, np.zeros(2))
            waited = time.time() + 20  # until the others have got through
            while not all((unit.path.parent / f"unit_{i}.json").exists() for i in (0, 1)) and time.time() < waited:
                time.sleep(0.05)
            raise RuntimeError("no luck")
        finish(unit, tick)

    with pytest.raises(RuntimeError, match="no luck"):
        runner.run(units, failing, options(tmp_path, jobs=jobs))
    assert [bool(load(unit)) for unit in units] == [True, True, False]
    assert not list(tmp_path.glob("*partial*"))
    kept = (tmp_path / "unit_0.json").read_bytes()
    runner.run(units, work, options(tmp_path))
    assert all(load(unit) for unit in units)
    assert (tmp_path / "unit_0.json").read_bytes() == kept


def test_killed_worker_process_is_one_line(tmp_path):
    def dying(unit, tick):
        os.kill(os.getpid(), 9)

    with pytest.raises(BadInput, match="squares: a process was killed.*--jobs 2"):
        runner.run(make_units(tmp_path, 3), dying, options(tmp_path, jobs=2), description="squares")
    assert not list(tmp_path.glob(".progress*"))


# An act of units that take long; it imports no TensorFlow, of which signals know nothing.
LONG = """
import sys, time
sys.path[:0] = sys.argv[1:3]
import units
from workflow import runner
from workflow.command_line import command, parse

def work(unit, tick):
    for _ in range(600):
        time.sleep(0.1)
        tick()

@command
def main(argv=None):
    args = parse("", argv)
    runner.run(units.make_units(args.artifacts), work, args, 1000, "squares")

sys.exit(main(sys.argv[3:]))
"""


def parent_of(process):
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return None


def gone_after(processes, seconds):
    deadline = time.time() + seconds
    while any(parent_of(process) for process in processes) and time.time() < deadline:
        time.sleep(0.05)
    return not any(parent_of(process) for process in processes)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to see processes in")
@pytest.mark.parametrize("which, status", [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_signal_ends_the_run_and_its_workers(which, status, tmp_path):
    folder, whole = tmp_path / "folder", tmp_path / "whole"
    paths = Path(runner.__file__).parents[1], Path(units.__file__).parent
    command = [sys.executable, "-c", LONG, *paths, "--artifacts", folder, "--jobs", 2]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(list(map(str, command)), **pipes) as process:
        while not any(path.stat().st_size > 3 for path in folder.glob(".progress*")):  # until both are at work
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        children = [int(path.name) for path in Path("/proc").glob("[0-9]*") if parent_of(path.name) == process.pid]
        assert len(children) >= 2
        process.send_signal(which)
        assert process.wait(timeout=60) == status
        assert gone_after(children, 30)  # how soon depends on the machine: what counts is that none goes on
        error = process.stderr.read()
    assert "Traceback" not in error
    if which == signal.SIGTERM:
        assert "the same command goes on from here" in error and not list(folder.rglob("*.partial*"))
    for place in (folder, whole):
        runner.run(make_units(place), work, options(place))
    assert content(folder) == content(whole)


def test_unit_of_a_run_that_was_given_up_ends_at_its_next_tick(tmp_path):
    with pytest.raises(FileNotFoundError):
        runner._do(work, make_units(tmp_path, 1), tmp_path / ".progress")
    assert not (tmp_path / ".progress").exists()


def test_failing_redo_is_not_done(tmp_path):
    units = make_units(tmp_path, 1)
    runner.run(units, work, options(tmp_path))

    def failing(unit, tick):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        runner.run(units, failing, options(tmp_path, overwrite=True))
    assert not load(units[0])


def test_rerun_does_nothing(tmp_path, capsys):
    units = make_units(tmp_path)
    runner.run(units[:3], work, options(tmp_path))
    done = []

    def noting(unit, tick):
        done.append(unit.name)
        work(unit, tick)

    assert runner.run(units, noting, options(tmp_path)) == []
    assert done == ["unit_3"]
    assert runner.run(units, noting, options(tmp_path)) == []
    assert done == ["unit_3"]
    assert "4 in all, 4 done, 0 to do" in capsys.readouterr().out
    assert runner.run(units, noting, options(tmp_path, overwrite=True)) == []
    assert done[1:] == [unit.name for unit in units]


def test_interrupted_overwriting_goes_on_where_it_was(tmp_path):
    units, done = make_units(tmp_path), []
    runner.run(units, work, options(tmp_path))

    def interrupted(unit, tick):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(unit.name)
        work(unit, tick)

    with pytest.raises(KeyboardInterrupt):
        runner.run(units, interrupted, options(tmp_path, overwrite=True))

    def noting(unit, tick):
        done.append(unit.name)
        work(unit, tick)

    runner.run(units, noting, options(tmp_path, overwrite=True))
    assert done == [unit.name for unit in units]  # each once
    runner.run(units, noting, options(tmp_path, overwrite=True))
    assert len(done) == 2 * len(units)  # that one had come to its end, so this is another
    assert len(content(tmp_path)) == 2 * len(units)


def test_unit_that_another_run_did_meanwhile_is_not_done_again(tmp_path):
    units = make_units(tmp_path, 2)

    def work_of_both(unit, tick):
        if unit.name == "unit_0":  # the other run is faster with the second unit
            work(units[1], lambda: None)
            times.append(sidecar_of(units[1].path).stat().st_mtime_ns)
        work(unit, tick)

    times = []
    runner.run(units, work_of_both, options(tmp_path))
    assert sidecar_of(units[1].path).stat().st_mtime_ns == times[0]


def test_dry_run_computes_nothing(tmp_path, capsys):
    folder = tmp_path / "new"
    units = make_units(folder)

    def never(unit, tick):
        raise AssertionError

    assert runner.run(units, never, options(folder, dry_run=True)) is None
    assert not folder.exists()
    assert all(str(unit.path) in capsys.readouterr().out for unit in units[:1])
    runner.run(units[:2], work, options(folder))
    left = files.partial_name(folder, "unit_9", ".npy").name
    (folder / left.replace(str(os.getpid()), str(2**22 + 1))).touch()  # no process has that number
    before = content(folder)
    capsys.readouterr()
    assert runner.run(units, never, options(folder, dry_run=True, overwrite=False)) is None
    out = capsys.readouterr().out
    assert content(folder) == before
    assert str(units[2].path) in out and str(units[3].path) in out and str(units[0].path) not in out


# ---------------------------------------------------------------- command line
def test_bad_input_is_one_line_and_status_2(capsys):
    @command_line.command
    def main(argv=None):
        if argv:
            raise BadInput("x.npy row 3: mend it")

    assert main(["now"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "error: x.npy row 3: mend it\n" and captured.out == ""
    assert main() == 0


def test_other_errors_are_not_hidden():
    @command_line.command
    def main(argv=None):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        main()


def test_parse(tmp_path, capsys):
    args = command_line.parse("doc", ["--artifacts", str(tmp_path), "--budget", "smoke", "--only", "1", "2"])
    assert args.artifacts == tmp_path and args.budget.train_epochs == 2 and args.only == [1, 2] and args.seed == 42
    assert args.jobs >= 1 and not args.overwrite and not args.dry_run
    out = capsys.readouterr().out
    assert str(tmp_path) in out and "smoke" in out
    for bad in (["--jobs", "0"], ["--jobs", "-2"], ["--budget", "huge"]):
        with pytest.raises(SystemExit) as caught:
            command_line.parse("doc", bad)
        assert caught.value.code == 2


# ---------------------------------------------------------------- cost
def test_a_run_ends_with_what_it_cost(tmp_path, capsys):
    units = make_units(tmp_path)
    runner.run(units, work, options(tmp_path), description="squares")
    line = capsys.readouterr().out.strip().splitlines()[-1]
    found = re.fullmatch(r"squares: (\d+) units in \d+ s, (\d+) an hour, peak memory of a process ([\d.]+) GB", line)
    assert int(found[1]) == len(units) and int(found[2]) > 0 and 0.01 < float(found[3]) < 100
    runner.run(units, work, options(tmp_path), description="squares")
    assert "an hour" not in capsys.readouterr().out  # nothing was done


def test_dry_run_judges_the_time_by_the_units_that_are_done(tmp_path, capsys):
    units = make_units(tmp_path)
    runner.run(units[:1], work, options(tmp_path))
    sidecar = sidecar_of(units[0].path)
    slow = {**json.loads(sidecar.read_text()), "seconds": 600.0}
    files.write_json(sidecar, {**slow, "digest": schemas.digest(slow)})
    capsys.readouterr()
    runner.run(units, work, options(tmp_path, jobs=2, dry_run=True))
    expected = f"about {300 * (len(units) - 1)} s with --jobs 2: those done took 600.0 s each"
    assert expected in capsys.readouterr().out
    runner.run(make_units(tmp_path / "new"), work, options(tmp_path / "new", dry_run=True))
    assert "about" not in capsys.readouterr().out
