"""Units of work for the tests of artifacts.py and running.py."""
import json
import time
from types import SimpleNamespace

import numpy as np

from workflow import files, schemas
from workflow.units import Unit, finish

SIMULATED = schemas.Provenance(spectra="simulated")


def options(folder, jobs=1, overwrite=False, dry_run=False):
    return SimpleNamespace(artifacts=folder, jobs=jobs, scheduler=None, only=None, overwrite=overwrite, dry_run=dry_run)


def work(unit, tick):
    """A unit whose result depends on its own seed."""
    started = time.time()
    files.write_array(unit.path, np.random.default_rng(unit.own_seed).normal(size=unit.settings["n"]))
    finish(unit, started, {"mse": unit.settings["n"] / 10})
    tick()


def untrained(model, terms, optimizer, x, y, batch_size, epochs, tick=None, rows=None, perturb=None):
    """What stands in for `training.fit` where the numbers do not matter."""
    for _ in range(epochs if tick else 0):
        tick()
    return {term: [1.0] * epochs for term in ("loss", "mse", "penalty")}


def worker():
    """The same as a closure, which can be sent to other processes."""

    def closure(unit, tick):
        started = time.time()
        files.write_array(unit.path, np.random.default_rng(unit.own_seed).normal(size=unit.settings["n"]))
        finish(unit, started, {"mse": unit.settings["n"] / 10})
        tick()

    return closure


def make_units(folder, n=4):
    return [Unit(folder / f"unit_{i}.npy", {"n": i + 2}, provenance=SIMULATED) for i in range(n)]


def content(folder):
    """Names and contents of a folder, without the seconds and what depends on them, and without the lock."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == ".lock":
            continue
        if path.suffix == ".json":
            found[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("seconds", "digest")}
        elif path.is_file():
            found[path.name] = path.read_bytes()
    return found
