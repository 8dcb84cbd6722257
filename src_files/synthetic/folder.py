"""A folder of spectra that a script writes as a whole: its files and provenance.json, which has the digest of each."""
import os

from workflow import schemas
from workflow.files import BadInput, partial_name, sha256, write_array, write_csv, write_json


def is_done(out, names, mark, overwrite, same=()):
    """Whether the folder `out` holds the spectra with these settings.

    Parameters
    ----------
    out : pathlib.Path
    names : sequence of str
        The files that belong together.
    mark : dict
        What provenance.json is to say of them: `spectra`, the word for where they come from, and all settings.
    overwrite : bool
        Others from there may be replaced.
    same : collection of str
        Of `names`, those that are there already as they would be written, whoever did it.

    Raises
    ------
    BadInput
        The folder holds something that must not be replaced.
    """
    note = out / "provenance.json"
    present = [name for name in names if os.path.lexists(out / name)]
    if not os.path.lexists(note):
        foreign = [name for name in present if name not in same]
        if foreign:
            raise BadInput(f"{out} holds {foreign[0]} and no provenance.json: it may be real, choose another --out")
        return False
    written = schemas.read(note, schemas.Provenance, "the spectra beside it may be real, choose another --out")
    if written.spectra != mark["spectra"]:
        raise BadInput(f"{note} says {written.spectra!r}, not {mark['spectra']}: they may be real, choose another "
                       "--out")
    if overwrite:
        return False
    said, wanted = _flat(schemas.plain(written)), _flat(mark)
    for one in (said, wanted):
        one.setdefault("resolving_power", "that of CARMENES")  # only another one is written down
    differing = [f"{key} is {said.get(key)}, not {value}" for key, value in wanted.items() if said.get(key) != value]
    if written.complete and differing:
        raise BadInput(f"{out} holds others, {written.spectra} too ({', '.join(differing)}): --overwrite replaces them")
    whole = written.complete and len(present) == len(names)
    if whole and not written.files:  # an earlier version, which recorded no digests
        return True
    for name in present:
        if written.files.get(name) != sha256(out / name):
            raise BadInput(f"{out / name} is not what provenance.json says was written there: move it away, or "
                           "--overwrite replaces it")
    return whole


def _flat(mark):
    """The same with the settings beside the rest."""
    return {**mark, **mark.get("settings", {}), "settings": None}


def install(out, mark, contents):
    """Put spectra into the folder `out`.

    At every moment provenance.json has the digest of each file there, so that an interrupted run can tell its own.

    Parameters
    ----------
    out : pathlib.Path
    mark : dict
        What provenance.json is to say of them.
    contents : dict
        An array or a DataFrame for each file name.
    """
    note = out / "provenance.json"
    partials = {name: partial_name(out, *os.path.splitext(name)) for name in contents}
    try:
        for name, partial in partials.items():
            (write_csv if name.endswith(".csv") else write_array)(partial, contents[name])
        new = {name: sha256(partial) for name, partial in partials.items()}
        old = {name: sha256(out / name) for name in contents if (out / name).exists()}
        if old:
            write_json(note, {**mark, "complete": False, "files": old})
        for name in old:
            (out / name).unlink()
        write_json(note, {**mark, "complete": False, "files": new})
        for name, partial in partials.items():
            os.replace(partial, out / name)
        write_json(note, {**mark, "complete": True, "files": new})
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
