"""What an act asks of the acts before it, and the tables that grow with every run."""
import pandas as pd

from workflow import schemas
from workflow.files import BadInput, lock, read_table, sha256, write_csv
from workflow.units import is_done, read_sidecar, sidecar_of


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
                       f"{provenance.spectra!r} now, see its provenance.json: {other}")
    return path


def architectures(folder):
    """The architectures that act 1 kept, a list of schemas.Architecture."""
    remedy = "run Methodology/autoencoder_grid_search.py first, with the same --artifacts"
    return schemas.read(folder / "params_final.json", schemas.Selection, remedy).architectures


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
        if any(settings.get(name) != value for name, value in schemas.plain(wanted[i]).items()):
            raise BadInput(
                f"{path} has not the architecture {i} of params_final.json: "
                "run Methodology/autoencoder_training.py --overwrite"
            )
        if provenance and sidecar.network != schemas.AutoencoderShape(
                wanted[i].neurons_in, wanted[i].reg_par, provenance.n_pixels):
            raise BadInput(f"{sidecar_of(path)} describes another network: delete it and run "
                           "Methodology/autoencoder_training.py")
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
                       "use the settings of before, another --artifacts, or --overwrite for all of it")
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
        ])
        had = list(read_table(path, "autoencoder", "delete it")["autoencoder"]) if path.exists() else []
        has = list(table["autoencoder"]) if sidecars else []
        if may_replace(path, had, has, args, partial=bool(args.only)) and has:
            write_csv(path, table)
    return table
