"""A folder of spectra that a script writes as a whole: its files and provenance.json, which has the digest of each."""
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from workflow import schemas
from workflow.files import BadInput, partial_name, sha256, sweep, write_array, write_csv, write_json


@dataclass(frozen=True)
class Folder:
    """What a script is to leave in a folder: at every moment provenance.json has the digest of each file beside it."""

    path: Path
    names: tuple  # of the files that belong together
    mark: dict  # what provenance.json is to say of them: `spectra`, where they come from, and all settings
    overwrite: bool = False  # whether others from there may be replaced
    given: dict = field(default_factory=dict)  # arrays by name that may lie there already, whoever wrote them

    _note = property(lambda self: self.path / "provenance.json")

    def is_done(self):
        """Whether the spectra with these settings are there; BadInput where something else must not be replaced."""
        present = [name for name in self.names if os.path.lexists(self.path / name)]
        if not os.path.lexists(self._note):
            if foreign := [name for name in present if not _holds(self.path / name, self.given.get(name))]:
                raise BadInput(f"{self.path} holds {foreign[0]} and no provenance.json: it may be real, choose another "
                               "--out")
            return False
        remedy = "the spectra beside it may be real, choose another --out"
        written = schemas.read(self._note, schemas.Provenance, remedy)
        if written.spectra != self.mark["spectra"]:
            raise BadInput(f"{self._note} says {written.spectra!r}, not {self.mark['spectra']}: they may be real, "
                           "choose another --out")
        if self.overwrite:
            return False
        stated, wanted = _flat(schemas.plain(written)), _flat(self.mark)
        differing = [f"{key} is {stated.get(key)}, not {value}" for key, value in wanted.items()
                     if stated.get(key) != value]
        if written.complete and differing:
            raise BadInput(f"{self.path} holds others, {written.spectra} too ({', '.join(differing)}): --overwrite "
                           "replaces them")
        for name in present:
            if written.files.get(name) != sha256(self.path / name):
                raise BadInput(f"{self.path / name} is not what provenance.json says was written there: move it away, "
                               "or --overwrite replaces it")
        return written.complete and len(present) == len(self.names)

    def begin(self):
        """Make the folder, before the work, as it may not be allowed; remove what dead processes left."""
        self.path.mkdir(parents=True, exist_ok=True)
        sweep(self.path)

    def install(self, *contents):
        """Put the files there, an array or a DataFrame each, in the order of their names."""
        self.is_done()  # what came there meanwhile is not replaced either
        partials = {name: partial_name(self.path, *os.path.splitext(name)) for name in self.names}
        try:
            for (name, partial), content in zip(partials.items(), contents):
                (write_csv if name.endswith(".csv") else write_array)(partial, content)
            new = {name: sha256(partial) for name, partial in partials.items()}
            if old := {name: sha256(self.path / name) for name in self.names if (self.path / name).exists()}:
                write_json(self._note, {**self.mark, "complete": False, "files": old})
            for name in old:
                (self.path / name).unlink()
            write_json(self._note, {**self.mark, "complete": False, "files": new})
            for name, partial in partials.items():
                os.replace(partial, self.path / name)
            write_json(self._note, {**self.mark, "complete": True, "files": new})
        finally:
            for partial in partials.values():
                partial.unlink(missing_ok=True)


def _flat(mark):
    """A mark with its settings beside the rest, and what is written down only where it is another than usual."""
    usual = {"resolving_power": "that of CARMENES", "gap_family": "lines"}
    return {**usual, **mark, **mark.get("settings", {}), "settings": None}


def _holds(path, array):
    """Whether a file is this array, to the type."""
    try:
        content = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return array is not None and content.dtype == array.dtype and np.array_equal(content, array)
