"""Units of work: what a file is called, how it is saved, when it is done; the flags all four acts share.

A unit is one fit of the grid search, one autoencoder, one fine-tuning or one CNN regressor. It is seeded
by its own name (a fit by the run, as in GridSearchCV), writes `x.partial` files and renames them, and leaves
a JSON sidecar last of all: a unit with a matching sidecar is done, one without is not, and one whose sidecar
differs is stale and stops the run.
"""
import argparse
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import mmap
import os
import platform
import re
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

import paper

try:
    import resource
except ImportError:  # Windows has none
    resource = None

__all__ = [
    "BadInput", "Unit", "architectures", "autoencoders", "chosen", "collect", "command", "finish", "git_blob_id",
    "is_done", "load_array", "number", "parse", "peak_memory", "read_json", "read_sidecar", "require", "run",
    "seed_of", "sha256", "take", "to_do", "trained", "write_array", "write_csv", "write_json", "writing",
]  # fmt: skip

# Before anything imports TensorFlow. Its oneDNN kernels are the faster ones, but off by default on older processors.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# One unit, one thread: results then do not depend on how many cores a machine has, and several units side by side
# (--jobs) are faster than several threads inside one small network.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("tensorflow", "keras", "scikit-learn", "scikeras", "numpy", "pandas")
PIECE = 64  # rows copied at a time: the system may map 2 MB of a file for each
CONNECT = 10  # [s] that a Dask scheduler may take to answer
HOST = re.sub(r"\W", "_", platform.node())  # a folder of artifacts may be shared with other machines


class BadInput(Exception):
    """Something the user can mend. The message is one line: which file, rows or flag, and the remedy."""


# ---------------------------------------------------------------- command line
def parse(doc, argv, add_arguments=None):
    """Parse the flags that all acts share, plus those of one act, and print the resolved options.

    Parameters
    ----------
    doc : str
        Docstring of the act; shown by --help.
    argv : list of str or None
    add_arguments : callable(parser), optional
        Adds the act's own flags.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=type("Help", (argparse.RawDescriptionHelpFormatter,
                                                       argparse.ArgumentDefaultsHelpFormatter), {})
    )  # fmt: skip
    add = parser.add_argument
    add("--data", type=Path, default=ROOT / "src_files", metavar="DIR", help="folder of the spectra")
    add("--artifacts", type=Path, default=ROOT / "artifacts", metavar="DIR", help="folder of the results")
    add("--budget", choices=paper.BUDGETS, default="paper", help="how much to compute")
    add("--jobs", type=number(int, 1), default=cpu_count(), metavar="N", help="units side by side, one thread each")
    add("--scheduler", metavar="tcp://HOST:PORT", help="of a Dask cluster that does the units instead of this machine")
    add("--seed", type=number(int, 0, 2**30), default=paper.SPLIT_SEED, metavar="N", help="of weights and batch order")
    add("--only", type=int, nargs="+", metavar="I", help="only these autoencoders (or grid combinations)")
    add("--overwrite", action="store_true", help="redo what is done or stale")
    add("--dry-run", action="store_true", help="say what there is to do, and stop")
    if add_arguments:
        add_arguments(parser)
    args = parser.parse_args(argv)
    if args.scheduler:  # its workers have another current folder
        args.data, args.artifacts = args.data.absolute(), args.artifacts.absolute()
    for name, value in vars(args).items():
        print(f"{name:>14}  {value}")
    args.budget = paper.BUDGETS[args.budget]
    return args


def number(kind, low, high=float("inf")):
    """Type of a flag: an int or float from `low` to `high`."""

    def checked(text):
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    checked.__name__ = kind.__name__  # argparse names it when the text is no number
    return checked


def command(main):
    """Turn BadInput or a failing disk, anywhere below `main`, into one line on stderr and exit status 2."""

    @functools.wraps(main)
    def wrapped(argv=None):
        try:
            main(argv)
            return 0
        except (BadInput, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted: the same command goes on from here", file=sys.stderr)
            return 130

    return wrapped


# ---------------------------------------------------------------- files
def sha256(path):
    """Hex sha256 of a file; read once as long as its size and time stay the same."""
    stat = os.stat(path)
    return _digest("sha256", str(path), stat.st_size, stat.st_mtime_ns)


def git_blob_id(path):
    """Id that git gives to the content of a file."""
    stat = os.stat(path)
    return _digest("sha1", str(path), stat.st_size, stat.st_mtime_ns)


@functools.cache
def _digest(algorithm, path, size, mtime):
    digest = hashlib.new(algorithm)
    if algorithm == "sha1":  # a git blob starts with its type and size
        digest.update(f"blob {size}\0".encode())
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 22), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def writing(path):
    """Give a partial name to write to; rename it to `path` if all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path.parent, path.stem, path.suffix)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def _partial(folder, stem, suffix=""):
    # np.save and Keras read the suffix
    return folder / f"{stem}.partial-{HOST}-{os.getpid()}{suffix}"


def _sweep(folder):
    """Remove what processes of this machine that have died left half written."""
    for leftover in folder.rglob(f"*.partial-{HOST}-*"):
        process = leftover.name.split(f".partial-{HOST}-")[1].split(".")[0]
        if process.isdecimal() and not _alive(int(process)):
            leftover.unlink(missing_ok=True)  # another run may sweep too


def write_json(path, content):
    """Write JSON atomically."""
    with writing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, default=float) + "\n")


def write_array(path, array):
    """Write a .npy file atomically."""
    with writing(path) as partial:
        np.save(partial, array)


def write_csv(path, table):
    """Write a DataFrame atomically."""
    with writing(path) as partial:
        table.to_csv(partial, index=False)


def read_json(path, keys, remedy):
    """Read a JSON object that must have these keys.

    Raises
    ------
    BadInput
        It is no JSON, or a key is missing.
    """
    try:
        content = json.loads(Path(path).read_text())
        if set(keys) <= set(content):
            return content
    except (ValueError, TypeError):
        pass
    raise BadInput(f"{path} is no JSON object with {', '.join(keys)}: {remedy}")


def load_array(path, ndim, remedy):
    """Open a .npy file, memory-mapped, never unpickled.

    Raises
    ------
    BadInput
        The file is absent, truncated, pickled, not numeric, or has another number of dimensions.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(f"{path} not found: {remedy}") from None
    except (ValueError, EOFError) as error:
        pickled = any(word in str(error).lower() for word in ("pickle", "python objects"))
        reason = "holds pickled objects, which are never loaded" if pickled else "is truncated or no .npy file"
        raise BadInput(f"{path} {reason}: {remedy}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise BadInput(f"{path} holds no plain array of numbers: {remedy}")
    if array.ndim != ndim:
        raise BadInput(f"{path} has {array.ndim} dimensions instead of {ndim}, shape {array.shape}: {remedy}")
    return array


def take(array, rows):
    """Copy rows of an array as float32; of a memory-mapped one, nothing else stays in memory."""
    owner = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not (isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")):
        return np.array(array[rows], np.float32)
    rows = np.arange(len(array))[rows]
    taken = np.empty((len(rows), *array.shape[1:]), np.float32)
    for start in range(0, len(rows), PIECE):
        taken[start : start + PIECE] = array[rows[start : start + PIECE]]
        owner.madvise(mmap.MADV_DONTNEED)
    return taken


# ---------------------------------------------------------------- units
@dataclass(frozen=True)
class Unit:
    """One unit of work.

    Parameters
    ----------
    path : Path
        Its main file; the sidecar is the same name with .json (and may be all there is).
    settings : dict
        Everything but the inputs that decides its result.
    inputs : tuple of Path
        The files it reads.
    seed : int
        Of the run. The unit's own seed also depends on its name.
    also : tuple of Path
        Further files it leaves.
    """

    path: Path
    settings: dict
    inputs: tuple = ()
    seed: int = paper.SPLIT_SEED
    also: tuple = ()

    @property
    def name(self):
        return self.path.stem

    @property
    def own_seed(self):
        return seed_of(self.seed, self.name)

    @property
    def files(self):
        return (self.path, *self.also)

    @functools.cached_property
    def identity(self):
        """What must be equal for a result to count as this unit's; the inputs as they are before it starts."""
        inputs = {path.name: sha256(path) for path in self.inputs}
        return json.loads(json.dumps({"settings": self.settings, "seed": self.seed, "inputs": inputs}, default=float))


def chosen(only, n):
    """Indices to work on: those of --only, or all `n`.

    Raises
    ------
    BadInput
        One of them does not exist.
    """
    absent = [i for i in only or [] if not 0 <= i < n]
    if absent:
        raise BadInput(f"--only {' '.join(map(str, absent))}: there are {n}, numbered from 0")
    return list(dict.fromkeys(only)) if only else list(range(n))


def seed_of(seed, name):
    """Seed of a unit: depends on the run's seed and its own name, not on what ran before it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big") >> 2


def sidecar_of(path):
    """Where the sidecar of an artifact lies."""
    return Path(path).with_suffix(".json")


def read_sidecar(path):
    """Read the sidecar of an artifact, a dict."""
    keys = ("name", "spectra", "settings", "seed", "inputs", "outputs", "metrics", "seconds")
    return read_json(sidecar_of(path), keys, f"delete it, and the script that makes {path.name} makes it again")


def is_done(unit, stale_is_undone=False):
    """Whether a unit's files are there and made as it would make them.

    Raises
    ------
    BadInput
        They were made with other settings or from other inputs, unless `stale_is_undone`.
    """
    if not all(file.exists() for file in (*unit.files, sidecar_of(unit.path))):
        return False
    found, wanted = read_sidecar(unit.path), unit.identity
    differing = [
        f"{key} {_short(found[part].get(key))} there, {_short(wanted[part].get(key))} now"
        for part in ("settings", "inputs")
        for key in sorted({*found[part], *wanted[part]})
        if found[part].get(key) != wanted[part].get(key)
    ]
    if found["seed"] != wanted["seed"]:
        differing.append(f"seed {found['seed']} there, {wanted['seed']} now")
    if differing and not stale_is_undone:
        raise BadInput(
            f"{unit.path} is stale, made otherwise ({'; '.join(differing)}): "
            "use --overwrite to redo it, or another --artifacts"
        )
    return not differing


def _short(value):
    return value[:8] if isinstance(value, str) and len(value) == 64 else value


def require(path, script, data=()):
    """Check that an artifact of an earlier act is there and made from the same data.

    Raises
    ------
    BadInput
        It or a file that came with it is absent, or its sidecar names other data than the files in `data`.
    """
    remedy = f"run Methodology/{script}.py first, with the same --artifacts"
    if not (path.exists() and sidecar_of(path).exists()):
        raise BadInput(f"{path} not found: {remedy}")
    sidecar = read_sidecar(path)
    for name, digest in sidecar["outputs"].items():
        if not path.with_name(name).exists() or sha256(path.with_name(name)) != digest:
            raise BadInput(f"{path.with_name(name)} is missing or was changed: delete {sidecar_of(path)} and {remedy}")
    inputs = sidecar["inputs"]
    for file in data:
        if inputs.get(file.name, sha256(file)) != sha256(file):
            raise BadInput(
                f"{path} was made from another {file.name} than {file}: "
                f"use the same --data, another --artifacts, or Methodology/{script}.py --overwrite"
            )
    return path


def architectures(folder):
    """The architectures that act 1 kept, a list of dict."""
    path = folder / "params_final.json"
    if not path.exists():
        raise BadInput(f"{path} not found: run Methodology/autoencoder_grid_search.py first, with the same --artifacts")
    return read_json(path, ["architectures"], "run Methodology/autoencoder_grid_search.py again")["architectures"]


def trained(folder):
    """Paths of the pre-trained autoencoders that are there."""
    paths = [folder / f"ac_{i}.h5" for i in range(len(architectures(folder)))]
    return [path for path in paths if path.exists() and sidecar_of(path).exists()]


def autoencoders(args, data):
    """Paths of the pre-trained autoencoders, all of them or those of --only, each checked by `require`."""
    wanted = architectures(args.artifacts)
    paths = []
    for i in chosen(args.only, len(wanted)):
        path = require(args.artifacts / f"ac_{i}.h5", "autoencoder_training", data)
        settings = read_sidecar(path)["settings"]
        if any(settings.get(name) != value for name, value in wanted[i].items()):
            raise BadInput(
                f"{path} has not the architecture {i} of params_final.json: "
                "run Methodology/autoencoder_training.py --overwrite"
            )
        paths.append(path)
    return paths


def finish(unit, provenance, started, metrics, history=None, network=None):
    """Write the sidecar of a unit, which marks it as done."""
    write_json(sidecar_of(unit.path), {
        "name": unit.name,
        "spectra": provenance,
        **unit.identity,
        "outputs": {file.name: sha256(file) for file in unit.files if file.exists()},
        "network": network,
        "metrics": metrics,
        "seconds": round(time.time() - started, 2),
        "versions": {"python": platform.python_version(), **{x: importlib.metadata.version(x) for x in LIBRARIES}},
        "history": history,
    })  # fmt: skip


def collect(units, path, columns):
    """Write a table from the sidecars of those units that are done; running twice doubles nothing.

    Parameters
    ----------
    units : list of Unit
    path : Path
        Of the CSV.
    columns : callable(unit)
        Gives the first columns of a row, a dict; the unit's metrics and seconds are appended.

    Returns
    -------
    DataFrame
    """
    units = [unit for unit in units if is_done(unit, stale_is_undone=True)]
    sidecars = [read_sidecar(unit.path) for unit in units]
    table = pd.DataFrame([
        {**columns(unit), **sidecar["metrics"], "seconds": sidecar["seconds"], "spectra": sidecar["spectra"]["spectra"]}
        for unit, sidecar in zip(units, sidecars)
    ])  # fmt: skip
    write_csv(path, table)
    return table


def to_do(units, args, redo_stale=False):
    """Those units that are not done yet, or all with --overwrite."""
    return [unit for unit in units if args.overwrite or not is_done(unit, redo_stale)]


def run(units, work, args, ticks=1, description="", redo_stale=False, together=None):
    """Do the units that are not done yet, `args.jobs` side by side or on a cluster, with one progress bar.

    Parameters
    ----------
    units : list of Unit
    work : callable(unit, tick)
        Does one unit and leaves its files; calls tick() `ticks` times. It is sent to other processes, so it
        should open large arrays itself.
    args : namespace
        With `artifacts`, `jobs`, `scheduler`, `overwrite` and `dry_run`.
    ticks : int
        Steps of the progress bar a unit: its epochs.
    description : str
    redo_stale : bool
        For what costs nothing: redo a stale unit instead of stopping at it.
    together : callable(units), optional
        Groups the units to do into lists; each list is then one call, work(*units, tick).

    Returns
    -------
    bool
        False for a dry run: nothing was computed.
    """
    todo = to_do(units, args, redo_stale)
    print(f"{description}: {len(units)} in all, {len(units) - len(todo)} done, {len(todo)} to do", flush=True)
    if args.dry_run:
        for unit in todo:
            print(f"  {unit.path}")
        seconds = [read_sidecar(unit.path)["seconds"] for unit in units if unit not in todo]
        if todo and seconds:
            each = sum(seconds) / len(seconds)
            print(f"  about {each * len(todo) / min(args.jobs, len(todo)):.0f} s with --jobs {args.jobs}: "
                  f"those done took {each:.1f} s each")  # fmt: skip
        return False
    started = time.time()
    args.artifacts.mkdir(parents=True, exist_ok=True)
    _sweep(args.artifacts)
    # Workers append a byte an epoch to this file; its size is how far the run is.
    progress = _partial(args.artifacts, ".progress")
    progress.touch()
    finished = threading.Event()
    unit_name = "epoch" if ticks > 1 else "unit"
    with tqdm(total=len(todo) * ticks, desc=description, unit=unit_name, disable=not todo) as bar:

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
            groups = together(todo) if together else [[unit] for unit in todo]
            if args.scheduler and groups:
                peaks = _on_cluster(args.scheduler, work, groups, progress)
            else:
                workers = Parallel(n_jobs=min(args.jobs, len(groups) or 1))
                peaks = workers(delayed(_do)(work, group, progress) for group in groups)
        except BrokenExecutor:
            raise BadInput(f"{description}: a process was killed, for lack of memory perhaps: the same command goes on "
                           f"from here, with fewer than --jobs {args.jobs} if so") from None  # fmt: skip
        finally:
            finished.set()
            follower.join()
            progress.unlink()
            _sweep(args.artifacts)
    if todo:
        seconds = time.time() - started
        print(f"{description}: {len(todo)} units in {seconds:.0f} s, {3600 * len(todo) / seconds:.0f} an hour, "
              f"peak memory of a process {max(peaks) / 1e9:.2f} GB", flush=True)  # fmt: skip
    return True


def _on_cluster(address, work, groups, progress):
    """Do groups of units on a Dask cluster, which gives those of a worker that dies to another one."""
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise BadInput("--scheduler needs Dask: pip install -r requirements-cluster.txt") from None
    try:
        client = Client(address, timeout=CONNECT)
    except (OSError, ValueError) as error:
        raise BadInput(f"--scheduler {address}: no Dask scheduler answers there ({error})") from None
    with client:
        workers = client.nthreads()
        if not workers:
            raise BadInput(f"--scheduler {address}: it has no workers yet: start some with `dask worker {address}`")
        if any(threads > 1 for threads in workers.values()):  # Keras has one session a process
            raise BadInput(f"--scheduler {address}: start its workers with --nthreads 1")
        found = client.run(importlib.util.find_spec, "artifacts")
        found["the scheduler"] = client.run_on_scheduler(importlib.util.find_spec, "artifacts")
        without = [name for name, spec in found.items() if spec is None or not spec.origin]  # or a folder of that name
        if without:
            raise BadInput(f"--scheduler {address}: {', '.join(without)} cannot import this project: "
                           f"start scheduler and workers with PYTHONPATH={Path(__file__).parent}")  # fmt: skip
        futures = [client.submit(_do, work, group, progress, pure=False) for group in groups]
        try:
            peaks = client.gather(futures)
            client.run(_sweep, progress.parent)
        except KilledWorker as error:
            raise BadInput(f"--scheduler {address}: {error}: give its workers more memory, then run again") from None
        except CancelledError:
            raise BadInput(f"--scheduler {address}: it went away: the same command goes on from here") from None
        return peaks


def _alive(process):
    if os.name != "posix":  # elsewhere signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _do(work, units, progress):
    """Do one unit, or several at once; return the peak memory of this process so far [bytes]."""
    for unit in units:  # one that is redone is not done until its new sidecar is there
        with contextlib.suppress(FileNotFoundError):
            sidecar_of(unit.path).unlink()

    def tick():
        # Does not create the file: what is left on a cluster of a run that was given up ends here.
        file = os.open(progress, os.O_WRONLY | os.O_APPEND)
        os.write(file, b"." * len(units))
        os.close(file)

    work(*units, tick=tick)
    return peak_memory()


def peak_memory():
    """Peak memory of this process so far [bytes]; what `resource` knows counts that of the parent too, on Linux."""
    with contextlib.suppress(OSError, TypeError):  # no such file, or no such line in it
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
    if resource is None:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes everywhere but on a Mac
