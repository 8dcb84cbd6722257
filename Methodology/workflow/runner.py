"""Running units of work: those that are not done yet, side by side or on a cluster, with progress and one line each."""
import contextlib
import json
import os
import re
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import filelock
import joblib

from workflow import dask_cluster, schemas
from workflow.files import BadInput, UnitFailed, lock, one_line, partial_name, sweep, write_json
from workflow.progress import progress_bar
from workflow.units import CODE, load, read_sidecar, sidecar_of


def run(units, work, args, ticks=1, description="", redo_stale=False, together=None):
    """Do the units that are not done yet, `args.jobs` side by side or on a cluster, with one progress bar.

    work(unit, tick) does one and leaves its files; it calls tick() `ticks` times, once an epoch, and is sent to other
    processes. `args` has `artifacts`, `jobs`, `scheduler`, `overwrite` and `dry_run`. With `redo_stale`, for what costs
    nothing, a stale unit is redone and does not stop the run. together(units) cuts those to do into lists, each of
    which is then one call, work(*units, tick).

    Returned is what to say of those that failed, a list for `report`; None for a dry run: nothing was computed.
    """
    since = args.artifacts / f".overwriting_{re.sub(r'[^a-z0-9]+', '_', description)}"
    todo = [unit for unit in units if not _is_done(unit, args, redo_stale, since)]
    print(f"{description}: {len(units)} in all, {len(units) - len(todo)} done, {len(todo)} to do", flush=True)
    done = [read_sidecar(unit.path) for unit in units if unit not in todo]
    if codes := sorted({sidecar.code[:8] for sidecar in done} - {CODE[:8]}):
        print(f"note: some of them were made by other code ({', '.join(codes)}) than that of today ({CODE[:8]}): they "
              "count as done, --overwrite redoes them", flush=True)
    if args.dry_run:
        _say_how_long(units, todo, args.jobs)
        return None
    if not todo:
        since.unlink(missing_ok=True)
        return []
    started = time.time()
    args.artifacts.mkdir(parents=True, exist_ok=True)
    sweep(args.artifacts)
    groups = together(todo) if together else [[unit] for unit in todo]
    with _announced(todo, args.artifacts, description), _progress(len(todo), ticks, args, description) as progress:
        if args.overwrite and not since.exists():
            since.touch()
        try:
            results = _compute(work, groups, progress, args, description)
        finally:
            sweep(args.artifacts)
    since.unlink(missing_ok=True)
    seconds = time.time() - started
    failures = [failure for _, failed in results for failure in failed]
    done_now = len(todo) - len(failures)
    print(f"{description}: {done_now} units in {seconds:.0f} s, {3600 * done_now / seconds:.0f} an hour, "
          f"peak memory of a process {max(peak for peak, _ in results) / 1e9:.2f} GB", flush=True)
    return failures


def report(problems):
    """End with an error if something is missing at the end."""
    if problems:
        raise BadInput("; ".join(problems[:3]) + f"; and {len(problems) - 3} more" * (len(problems) > 3))


@contextlib.contextmanager
def reporting(problems):
    """Do what can be done in spite of some problems, the tables of the rest, then `report` them and what it met."""
    try:
        yield
    except BadInput as error:
        problems = [*problems, str(error)]
    report(problems)


def _is_done(unit, args, redo_stale, since):
    if not args.overwrite:
        return load(unit, redo_stale)
    # An --overwrite that was interrupted left a file when it began; what is newer it had done.
    sidecar = sidecar_of(unit.path)
    return (since.exists() and sidecar.exists() and sidecar.stat().st_mtime_ns > since.stat().st_mtime_ns
            and load(unit, stale_is_undone=True))


def _say_how_long(units, todo, jobs):
    for unit in todo:
        print(f"  {unit.path}")
    seconds = [read_sidecar(unit.path).seconds for unit in units if unit not in todo]
    if todo and seconds:
        mean = sum(seconds) / len(seconds)
        print(f"  about {mean * len(todo) / min(jobs, len(todo)):.0f} s with --jobs {jobs}: "
              f"those done took {mean:.1f} s each")


def _compute(work, groups, progress, args, description):
    """Do groups of units; return the peak memory [bytes] and the failures of each."""
    if args.scheduler:
        return dask_cluster.compute(args.scheduler, _do, work, groups, progress, args.overwrite)
    calls = (joblib.delayed(_do)(work, group, progress, args.overwrite, os.getpid()) for group in groups)
    with side_by_side(description, args.jobs):
        return joblib.Parallel(n_jobs=min(args.jobs, len(groups)))(calls)


@contextlib.contextmanager
def side_by_side(description, jobs):
    """Say in one line where processes of joblib are killed, or have no room to start."""
    try:
        yield
    except BrokenExecutor as error:
        if error.__cause__ and "serialize" in str(error):  # a fault of ours, not of the machine
            raise
        raise BadInput(f"{description}: a process was killed, for lack of memory perhaps: the same command goes on "
                       f"from here, with fewer than --jobs {jobs} if so") from None
    except OSError as error:
        if error.filename is not None or jobs == 1:
            raise
        raise BadInput(f"{description}: {one_line(error)}: the processes of --jobs need room in /dev/shm and in "
                       f"{os.environ.get('JOBLIB_TEMP_FOLDER', 'the temporary folder')}: make some, or use --jobs 1"
                       ) from None


@contextlib.contextmanager
def _announced(todo, folder, description):
    """Tell other runs in this folder what is being made; refuse to make at once what one of them makes otherwise."""
    mine = {os.path.relpath(unit.path, folder): schemas.digest(unit.identity) for unit in todo}
    note = partial_name(folder, ".run", ".json")
    with lock(folder):
        for other in folder.glob(".run.partial-*.json"):
            with contextlib.suppress(filelock.Timeout), filelock.FileLock(f"{other}.lock", timeout=0):
                continue  # its run is dead
            theirs = {}
            with contextlib.suppress(FileNotFoundError, ValueError, TypeError):  # just ended, just begun, or damaged
                theirs = dict(json.loads(other.read_text()))
            if both := [path for path in mine if theirs.get(path, mine[path]) != mine[path]]:
                raise BadInput(f"{folder / both[0]}: another run is making it with other settings or other inputs: "
                               f"wait for its end ({other.name} is its mark) or use another --artifacts")
        held = filelock.FileLock(f"{note}.lock")  # for as long as this run lives, on whichever machine
        held.acquire()
        write_json(note, mine)
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
        held.release()
        Path(held.lock_file).unlink(missing_ok=True)


@contextlib.contextmanager
def _progress(n_units, ticks, args, description):
    """Give a file to which workers append a byte an epoch, and show its size as a bar."""
    progress, finished = partial_name(args.artifacts, ".progress"), threading.Event()
    progress.touch()
    with progress_bar(total=n_units * ticks, desc=description, unit="epoch" if ticks > 1 else "unit") as bar:

        def follow():
            over = False
            while not over:
                over = finished.wait(0.3)
                done = min(progress.stat().st_size, bar.total)  # more if a worker died and its unit began again
                if done > bar.n:
                    bar.update(done - bar.n)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield progress
        finally:
            finished.set()
            follower.join()
            progress.unlink()


def _do(work, units, progress, overwrite=False, parent=None):
    """Do one unit, or several at once; return the peak memory of this process so far [bytes] and what failed."""
    if not overwrite:  # another run in this folder may have been faster
        units = [unit for unit in units if not load(unit, stale_is_undone=True)]
    for unit in units:  # one that is redone is not done until its new sidecar is there
        sidecar_of(unit.path).unlink(missing_ok=True)

    def tick():
        if parent not in (None, os.getpid(), os.getppid()):  # it was killed: nobody waits for this any more
            os._exit(1)
        # Does not create the file: what is left on a cluster of a run that was given up ends here.
        file = os.open(progress, os.O_WRONLY | os.O_APPEND)
        os.write(file, b"." * len(units))
        os.close(file)

    try:
        if units:
            work(*units, tick=tick)
    except UnitFailed as error:
        if len(units) == 1:
            return peak_memory(), [f"{units[0].name}: {error}"]
        alone = [_do(work, [unit], progress, overwrite, parent) for unit in units]  # to tell which of them it was
        return peak_memory(), [failure for _, failures in alone for failure in failures]
    return peak_memory(), []


def peak_memory():
    """Peak memory of this process so far [bytes]; what `resource` knows counts that of the parent too, on Linux."""
    with contextlib.suppress(OSError, TypeError):  # no such file, or no such line in it
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
    try:
        import resource
    except ImportError:  # Windows has none
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on a Mac
