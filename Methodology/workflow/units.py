"""Units of work: what decides their result, when they are done, and what an act asks of the acts before it.

A unit is one fit of the grid search, one autoencoder, one fine-tuning or one CNN regressor. It is seeded
by its own name (a fit by the run, as in GridSearchCV), writes partial files and renames them, and leaves
a JSON sidecar last of all: a unit with a matching sidecar is done, one without is not, and one whose sidecar
differs is stale and stops the run.
"""
import functools
import hashlib
import importlib.metadata
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import paper
from workflow import schemas as records
from workflow.files import BadInput, lock, plain_number, read_table, sha256, write_csv, write_json

__all__ = [
    "Unit", "architectures", "autoencoders", "chosen", "code_digest", "collect", "finish", "is_done", "may_replace",
    "read_sidecar", "require", "seed_of", "sidecar_of", "trained", "versions",
]  # fmt: skip

LIBRARIES = ("tensorflow", "keras", "scikit-learn", "scikeras", "numpy", "pandas")


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
    provenance : records.Provenance
        Of the spectra it is made from.
    """

    path: Path
    settings: dict
    inputs: tuple = ()
    seed: int = paper.SPLIT_SEED
    also: tuple = ()
    provenance: records.Provenance = records.UNKNOWN

    @property
    def name(self):
        """Of the fits of a search, which have the same file names, with the folder; of the others the file's stem."""
        return _name_in_folder(self.path) if self.path.suffix == ".json" else self.path.stem

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
        identity = {"settings": self.settings, "seed": self.seed, "inputs": inputs}
        return json.loads(json.dumps(identity, default=plain_number))


def seed_of(seed, name):
    """Seed of a unit: depends on the run's seed and its own name, not on what ran before it."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big") >> 2


@functools.cache
def code_digest():
    """Hex sha256 of the Python files of this folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def versions():
    """Versions of Python and of the libraries on which results depend, a dict."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in LIBRARIES}}


# ---------------------------------------------------------------- sidecars
def sidecar_of(path):
    """Where the sidecar of an artifact lies."""
    return Path(path).with_suffix(".json")


def _name_in_folder(path):
    return f"{path.parent.name}/{path.stem}"


def read_sidecar(path, metrics=()):
    """Read the sidecar of an artifact, a records.Sidecar, which must have these metrics."""
    sidecar = records.read(sidecar_of(path), records.Sidecar, f"delete it, and the script that makes {path.name} "
                           "makes it again")  # fmt: skip
    if sidecar.name not in (path.stem, _name_in_folder(path)):  # the first, of a fit, in files of earlier versions
        raise BadInput(f"{sidecar_of(path)} is the sidecar of {sidecar.name}: delete it, and the script that makes "
                       f"{path.name} makes it again")  # fmt: skip
    absent = [name for name in metrics if name not in sidecar.metrics]
    if absent:
        raise BadInput(f"{sidecar_of(path)} has no metric {absent[0]}: delete it, and the script that makes "
                       f"{path.name} makes it again")  # fmt: skip
    return sidecar


def finish(unit, started, metrics, history=None, network=None, stars=None):
    """Write the sidecar of a unit, which marks it as done.

    Raises
    ------
    BadInput
        One of its inputs was changed while it was at work.
    """
    for path in unit.inputs:
        if sha256(path) != unit.identity["inputs"][path.name]:
            raise BadInput(f"{path} was changed while {unit.name} was made from it: run again")
    content = {
        "name": unit.name,
        "spectra": records.plain(unit.provenance),
        **unit.identity,
        "outputs": {file.name: sha256(file) for file in unit.files if file.exists()},
        "network": network and records.plain(network),
        "metrics": metrics,
        "seconds": round(time.time() - started, 2),
        "versions": versions(),
        "code": code_digest(),
        "history": history,
        "stars": {name: list(values) for name, values in (stars or {}).items()},
    }
    write_json(sidecar_of(unit.path), records.signed(content))


def is_done(unit, stale_is_undone=False):
    """Whether a unit's files are there, as it would make them and as it left them.

    Raises
    ------
    BadInput
        They were made with other settings or from other inputs, or were changed since, unless `stale_is_undone`.
    """
    if not (unit.path.exists() and sidecar_of(unit.path).exists()):
        return False
    sidecar = read_sidecar(unit.path)
    differing = _differences(unit, sidecar)
    if differing and not stale_is_undone:
        raise BadInput(f"{unit.path} is stale, made otherwise ({'; '.join(differing)}): use --overwrite to redo it, or "
                       "another folder")  # fmt: skip
    if not all(file.exists() for file in unit.files):
        return False
    changed = [file for file in unit.files
               if file != sidecar_of(unit.path) and sidecar.outputs.get(file.name) != sha256(file)]  # fmt: skip
    if changed and not stale_is_undone:
        raise BadInput(f"{changed[0]} was changed after it was made: delete it, and the same command makes it again")
    return not (differing or changed)


def _differences(unit, sidecar):
    """In words, what would be made otherwise today."""
    found, wanted = records.plain(sidecar), unit.identity
    differing = [
        f"{key} {_short(found[part].get(key))} there, {_short(wanted[part].get(key))} now"
        for part in ("settings", "inputs")
        for key in sorted({*found[part], *wanted[part]})
        if found[part].get(key) != wanted[part].get(key)
    ]
    if sidecar.seed != unit.seed:
        differing.append(f"seed {sidecar.seed} there, {unit.seed} now")
    if sidecar.spectra.spectra != unit.provenance.spectra:
        differing.append(f"provenance.json {sidecar.spectra.spectra} there, {unit.provenance.spectra} now")
    return differing


def _short(value):
    return value[:8] if isinstance(value, str) and len(value) == 64 else value


# ---------------------------------------------------------------- what an act asks of those before it
def require(path, script, data=(), provenance=None):
    """Check that an artifact of an earlier act is there, as it was left, and made from the same data.

    Raises
    ------
    BadInput
        It or a file that came with it is absent or was changed, or its sidecar names other data than the files in
        `data`, or another word for where they come from than `provenance`.
    """
    remedy = f"run Methodology/{script}.py first, with the same --artifacts"
    if not (path.exists() and sidecar_of(path).exists()):
        raise BadInput(f"{path} not found: {remedy}")
    sidecar = read_sidecar(path)
    for name, digest in sidecar.outputs.items():
        if not path.with_name(name).exists() or sha256(path.with_name(name)) != digest:
            raise BadInput(f"{path.with_name(name)} is missing or was changed: delete {sidecar_of(path)} and {remedy}")
    other = f"use the same --data, another --artifacts, or Methodology/{script}.py --overwrite"
    for file in data:
        if sidecar.inputs.get(file.name, sha256(file)) != sha256(file):
            raise BadInput(f"{path} was made from another {file.name} than {file}: {other}")
    if provenance and sidecar.spectra.spectra != provenance.spectra:
        raise BadInput(f"{path} was made from spectra marked {sidecar.spectra.spectra!r}, those of --data are marked "
                       f"{provenance.spectra!r} now, see its provenance.json: {other}")  # fmt: skip
    return path


def architectures(folder):
    """The architectures that act 1 kept, a list of records.Architecture."""
    remedy = "run Methodology/autoencoder_grid_search.py first, with the same --artifacts"
    return records.read(folder / "params_final.json", records.Selection, remedy).architectures


def trained(folder):
    """Paths of the pre-trained autoencoders that are there."""
    paths = [folder / f"ac_{i}.h5" for i in range(len(architectures(folder)))]
    return [path for path in paths if path.exists() and sidecar_of(path).exists()]


def autoencoders(args, data, provenance=None):
    """Paths of the pre-trained autoencoders, all or those of --only, each checked by `require`.

    Returns
    -------
    paths : list of Path
        Those that are there.
    missing : list of str
        What to say at the end of those that are not, as when their training diverged; `running.report` does.

    Raises
    ------
    BadInput
        None is there, or one is not as `require` wants it.
    """
    wanted = architectures(args.artifacts)
    there = trained(args.artifacts)
    paths, missing = [], []
    for i in chosen(args.only, len(wanted)):
        path = args.artifacts / f"ac_{i}.h5"
        if path not in there:
            missing.append(f"{path} not found: run Methodology/autoencoder_training.py first, same --artifacts")
            continue
        require(path, "autoencoder_training", data, provenance)
        sidecar = read_sidecar(path)
        settings = sidecar.settings
        if any(settings.get(name) != value for name, value in records.plain(wanted[i]).items()):
            raise BadInput(
                f"{path} has not the architecture {i} of params_final.json: "
                "run Methodology/autoencoder_training.py --overwrite"
            )
        if provenance and sidecar.network != records.AutoencoderShape(
                wanted[i].neurons_in, wanted[i].reg_par, provenance.n_pixels):  # fmt: skip
            raise BadInput(f"{sidecar_of(path)} describes another network: delete it and run "
                           "Methodology/autoencoder_training.py")  # fmt: skip
        paths.append(path)
    if not paths:
        raise BadInput(missing[0])
    return paths, missing


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


# ---------------------------------------------------------------- tables
def may_replace(path, had, has, args, partial):
    """Whether a table may be written anew: it never loses a row, column or member it had without a word.

    Parameters
    ----------
    path : Path
    had, has : list of str
        What the table that is there is made from, and what the new one is.
    args : namespace
        With `overwrite`.
    partial : bool
        This run does only a part of what the table shows, so the rest may follow.

    Raises
    ------
    BadInput
        Something would be lost, without --overwrite.
    """
    lost = [member for member in had if member not in has]
    if not lost:
        return True
    what = f"{', '.join(lost[:4])}{', ...' * (len(lost) > 4)} ({len(lost)} in all)"
    if not args.overwrite:
        raise BadInput(f"{path} stays as it was, it would lose {what}, made with other settings or missing now: "
                       "use the settings of before, another --artifacts, or --overwrite for all of it")  # fmt: skip
    if partial:
        print(f"warning: {path} stays as it was: it would lose {what}, not made with these settings yet")
        return False
    print(f"warning: {path} loses {what}")
    return True


def collect(units, path, columns, metrics, args):
    """Write a table from the sidecars of those units that are done; running twice doubles nothing.

    Parameters
    ----------
    units : list of Unit
    path : Path
        Of the CSV. Its first column is `autoencoder`.
    columns : callable(unit)
        Gives the first columns of a row, a dict; the unit's metrics and seconds are appended.
    metrics : tuple of str
        Those that every unit must have.
    args : namespace
        With `only` and `overwrite`.

    Returns
    -------
    DataFrame
    """
    with lock(path.parent):
        sidecars = [(unit, read_sidecar(unit.path, metrics)) for unit in units if is_done(unit, stale_is_undone=True)]
        table = pd.DataFrame([
            {**columns(unit), **sidecar.metrics, "seconds": sidecar.seconds, "spectra": sidecar.spectra.spectra}
            for unit, sidecar in sidecars
        ])  # fmt: skip
        had = list(read_table(path, "autoencoder", "delete it")["autoencoder"]) if path.exists() else []
        has = list(table["autoencoder"]) if sidecars else []
        if may_replace(path, had, has, args, partial=bool(args.only)) and has:
            write_csv(path, table)
    return table
