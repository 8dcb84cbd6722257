"""Units of work: what decides their result, and when they are done.

A unit is one fit of the grid search, one autoencoder, one fine-tuning or one CNN regressor. It is seeded by its own
name (a fit by the run, as in GridSearchCV), writes partial files and renames them, and leaves a JSON sidecar last of
all: a unit with a matching sidecar is done, one without is not, and one whose sidecar differs is stale and stops the
run. The digest of the code is no part of what must match.
"""
import functools
import hashlib
import importlib.metadata
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import paper
from workflow import schemas
from workflow.files import BadInput, sha256, write_json

NAMES = "names of the stars"  # among the inputs of a unit
LIBRARIES = ("tensorflow", "keras", "scikit-learn", "scikeras", "numpy", "pandas")


@dataclass(frozen=True)
class Unit:
    """One unit of work."""

    path: Path  # its main file; the sidecar is the same name with .json, and may be all there is
    settings: dict  # everything but the inputs that decides its result
    inputs: tuple = ()  # paths of the files it reads
    seed: int = paper.SPLIT_SEED  # of the run; the unit's own also depends on its name
    also: tuple = ()  # paths of further files it leaves
    provenance: schemas.Provenance = schemas.UNKNOWN  # of the spectra it is made from
    number: int = 0  # its place among units of its kind, by which several GPUs take turns; decides nothing
    names: str = ""  # digest of the names of the stars, in their order, if what it makes has a row a star

    @property
    def name(self):
        """With the folder for the fits of a search, which have the same file names; else the file's stem."""
        return f"{self.path.parent.name}/{self.path.stem}" if self.path.suffix == ".json" else self.path.stem

    own_seed = property(lambda self: seed_of(self.seed, self.name))
    files = property(lambda self: (self.path, *self.also))

    @functools.cached_property
    def identity(self):
        """What must be equal for a result to count as this unit's; the inputs as they are before it starts."""
        inputs = {path.name: sha256(path) for path in self.inputs}
        if self.names:
            inputs[NAMES] = self.names
        identity = {"settings": self.settings, "seed": self.seed, "inputs": inputs}
        return json.loads(json.dumps(identity, default=np.generic.item))


def seed_of(seed, name):
    """Seed of a unit: depends on the run's seed and its own name, not on what ran before it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big") >> 2


def code_digest():
    """Hex sha256 of the Python files in Methodology and its rooms."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


CODE = code_digest()  # as it is imported: what is changed while a unit is at work did not make it


@functools.cache
def versions():
    """Versions of Python and of the libraries on which results depend, a dict."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


# ---------------------------------------------------------------- sidecars
def sidecar_of(path):
    """Where the sidecar of an artifact lies."""
    return Path(path).with_suffix(".json")


def read_sidecar(path, metrics=()):
    """Sidecar of an artifact, a schemas.Sidecar, which must have these metrics."""
    again = f"delete it, and the script that makes {path.name} makes it again"
    sidecar = schemas.read(sidecar_of(path), schemas.Sidecar, again)
    if sidecar.name not in (path.stem, f"{path.parent.name}/{path.stem}"):
        raise BadInput(f"{sidecar_of(path)} is the sidecar of {sidecar.name}: {again}")
    if absent := [name for name in metrics if name not in sidecar.metrics]:
        raise BadInput(f"{sidecar_of(path)} has no metric {absent[0]}: {again}")
    return sidecar


def finish(unit, started, metrics, history=None, network=None, stars=None):
    """Write the sidecar of a unit, which marks it as done; refuse if one of its inputs was changed meanwhile."""
    for path in unit.inputs:
        if sha256(path) != unit.identity["inputs"][path.name]:
            raise BadInput(f"{path} was changed while {unit.name} was made from it: run again")
    write_json(sidecar_of(unit.path), schemas.signed({
        "name": unit.name, "spectra": schemas.plain(unit.provenance), **unit.identity,
        "outputs": {file.name: sha256(file) for file in unit.files if file.exists()},
        "network": network and schemas.plain(network), "metrics": metrics,
        "seconds": round(time.time() - started, 2), "versions": versions(), "code": CODE,
        "history": history, "stars": {name: list(values) for name, values in (stars or {}).items()},
    }))


def load(unit, stale_is_undone=False, metrics=()):
    """Sidecar of a unit that is done; None if not; what was made otherwise or changed since is refused, or not done."""
    if not (unit.path.exists() and sidecar_of(unit.path).exists()):
        return None
    sidecar = read_sidecar(unit.path, metrics)
    differing = _differences(unit, sidecar)
    if differing and not stale_is_undone:
        raise BadInput(f"{unit.path} is stale, made otherwise ({'; '.join(differing)}): use --overwrite to redo it, or "
                       "another folder")
    if differing or not all(file.exists() for file in unit.files):
        return None
    changed = [file for file in unit.files
               if file != sidecar_of(unit.path) and sidecar.outputs.get(file.name) != sha256(file)]
    if changed and not stale_is_undone:
        raise BadInput(f"{changed[0]} was changed after it was made: delete it, and the same command makes it again")
    return None if changed else sidecar


def _differences(unit, sidecar):
    """In words, what would be made otherwise today."""
    made, wanted = schemas.plain(sidecar), unit.identity
    values = [(key, made[part].get(key), wanted[part].get(key))
              for part in ("settings", "inputs") for key in sorted({*made[part], *wanted[part]})]
    values += [("seed", sidecar.seed, unit.seed), ("provenance.json", sidecar.spectra.kind, unit.provenance.kind)]
    return [f"{name} {_short(before)} there, {_short(now)} now" for name, before, now in values if before != now]


def _short(value):
    return value[:8] if isinstance(value, str) and len(value) == 64 else value
