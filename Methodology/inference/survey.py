"""Estimates of as many stars as there are: blocks of rows of an array, each a unit that leaves its part of the table.

Nothing here holds more than a block of spectra, or of the table. A block that is done is not done again.
"""
import contextlib
import importlib.util
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

import paper
from inference import flags, predictor
from inference.predictor import TEXT
from observations import preparation
from spectra import star_tables
from spectra.dataset import Dataset, resolving_power_of, usable
from workflow import schemas
from workflow.artifacts import FINETUNED
from workflow.files import BadInput, take, write_csv, writing
from workflow.units import Unit, finish, read_sidecar, sidecar_of

BLOCK = 8192  # stars
FORMATS = ".csv", ".parquet"
EXAMPLES = 6  # stars named in a warning, and one more than are shown
REMEDY = "give every spectrum a row, with a name under the heading karmn"


# ---------------------------------------------------------------- blocks
def check(data, ensemble):
    """Refuse spectra that were not prepared as those that the networks have learnt from."""
    provenance, remedy = data.provenance, "prepare them again, for the synthetic set of these networks"
    if data.flux_carm.shape[1] != ensemble.data.flux_ph.shape[1]:
        raise BadInput(f"{data.carm} has {data.flux_carm.shape[1]} pixels, the networks take "
                       f"{ensemble.data.flux_ph.shape[1]}: {remedy}")
    power, continuum = resolving_power_of(provenance), preparation.continuum_of(provenance)
    if not np.isclose(power, ensemble.resolving_power):
        raise BadInput(f"{data.carm} has a resolving power of {power:.0f}, the synthetic set of the networks one of "
                       f"{ensemble.resolving_power:.0f}: {remedy}")
    if continuum != ensemble.continuum:
        raise BadInput(f"{data.carm} was divided by its {continuum} continuum, the synthetic set of the networks by an "
                       f"{ensemble.continuum} one: {remedy}")


def plan(data, ensemble, out, provenance, tuned=None):
    """The blocks of the observed spectra of a folder, a list of Unit; `tuned` as in `predictor.load`."""
    fine_tuned = [(tuned or ensemble.artifacts).autoencoder(i, FINETUNED) for i in ensemble.autoencoders]
    inputs = (data.carm, data.stars_table, ensemble.data.ph, ensemble.data.pars,
              sidecar_of(ensemble.artifacts.estimates()), *fine_tuned, *ensemble.models[len(fine_tuned):],
              *(ensemble.artifacts.encoded_ph(i) for i in ensemble.autoencoders))
    if not len(data.flux_carm):
        raise BadInput(f"{data.carm} has no spectra: prepare some")
    units, first = [], 0
    for n_stars, start, stop in star_tables.blocks(data.as_recorded(data.stars_table), BLOCK, REMEDY):
        settings = {"rows": [first, first + n_stars], "bytes": [start, stop], "tuned": tuned is not None}
        units.append(Unit(out / "blocks" / f"estimates_{len(units):06d}.csv", settings, inputs, provenance=provenance))
        first += n_stars
    if first != len(data.flux_carm):
        raise BadInput(f"{data.carm} has {len(data.flux_carm)} spectra, {data.stars_table} names {first} stars: "
                       f"{REMEDY}")
    return units


def work(unit, tick):
    """Estimate the stars of one block."""
    started = time.time()
    networks, data = loaded(unit)
    flux = take(data.flux_carm, np.arange(*unit.settings["rows"]))
    stars = star_tables.read_block(data.stars_table, *unit.settings["bytes"], REMEDY)
    foreign, seen = predictor.other_instrument(stars, fine_tuned_on(unit), data.provenance), None
    if _fine_tuned(unit).inputs.get(data.carm.name) == unit.identity["inputs"][data.carm.name]:  # on these very stars
        seen = np.isin(np.arange(*unit.settings["rows"]), data.rows_carm[1])
    table, _ = networks.estimate(stars, flux, foreign, seen)
    write_csv(unit.path, table)
    finish(unit, started, {"n_unusable": int(len(flux) - usable(flux).sum())})
    tick()


def loaded(unit):
    """The networks that a block is estimated by, a Predictor, and the folder of its spectra, a Dataset."""
    folders = {path.name: path.parent for path in unit.inputs}
    tuned = next(folder for name, folder in folders.items() if name.startswith("dtl_ac_"))
    networks = predictor.loaded(folders["final_estimations.json"], folders["ph_flux_norm.npy"],
                                tuned if unit.settings["tuned"] else None, schemas.digest(unit.identity["inputs"]))
    return networks, Dataset(unit.inputs[0].parent)


def fine_tuned_on(unit):
    """Which spectra the networks of a block were fine-tuned on, a schemas.Provenance."""
    return _fine_tuned(unit).spectra


def _fine_tuned(unit):
    return read_sidecar(next(path for path in unit.inputs if path.name.startswith("dtl_ac_")))


# ---------------------------------------------------------------- the table
def read(path):
    """A table of estimates, or a part of one, from CSV, each number as it was written."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.assign(**{name: star_tables.as_numbers(table[name]) for name in table if name not in TEXT})


def parts(units):
    """The parts of the table in their order, each a DataFrame whose index are the rows of the spectra."""
    for unit in units:
        yield read(unit.path).set_index(pd.RangeIndex(*unit.settings["rows"]))


def check_format(path):
    """Refuse a table that is neither CSV nor Parquet, or that nothing here can write."""
    if path.suffix not in FORMATS or path.name != str(path):
        raise BadInput(f"--table {path}: name a file that ends in {' or '.join(FORMATS)}, and its folder with --out")
    if path.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise BadInput(f"--table {path.name} needs pyarrow: pip install -r requirements-cluster.txt, or name a .csv")


def join(units, path):
    """Write the parts of the table as one, CSV or Parquet by the name's ending."""
    with writing(path) as partial, contextlib.ExitStack() as stack:
        if path.suffix == ".csv":
            table = stack.enter_context(open(partial, "wb"))
            for number, unit in enumerate(units):
                with open(unit.path, "rb") as part:
                    heading = part.readline()
                    table.write(heading if number == 0 else b"")
                    shutil.copyfileobj(part, table)
            return
        import pyarrow
        from pyarrow import parquet

        columns = [(name, pyarrow.string() if name in TEXT else pyarrow.float64()) for name in read(units[0].path)]
        table = stack.enter_context(parquet.ParquetWriter(partial, pyarrow.schema(columns)))
        for part in parts(units):
            table.write_table(pyarrow.Table.from_pandas(part, table.schema, preserve_index=False))


def look(units, rows):
    """Rows of the table, ascending, again with all that a picture shows: table, flux, reconstructions, predictions.

    Without those that have no usable spectrum.
    """
    networks, data = loaded(units[0])
    units = [unit for unit in units if unit.settings["rows"][0] <= rows[-1] and rows[0] < unit.settings["rows"][1]]
    table = pd.concat([part.loc[part.index.intersection(rows)] for part in parts(units)])
    flux = take(data.flux_carm, table.index.to_numpy())
    good = usable(flux)
    table, flux = table[good], flux[good]
    return table, flux, networks.reconstruct(flux), networks.predict(networks.encode(flux)[0])


@dataclass
class Summary:
    """What there is to say of a table of estimates without having it in memory."""

    n_stars: int = 0
    n_unusable: int = 0
    n_foreign: int = 0  # of another instrument than the networks were fine-tuned on
    foreign: list = field(default_factory=list)  # names of the first of these
    n_doubted: int = 0  # with a flag that casts doubt on it
    words: Counter = field(default_factory=Counter)  # how many have each flag, by its column and word


def summary(units):
    """The Summary of the table of some blocks."""
    told = Summary()
    for unit, part in zip(units, parts(units)):
        told.n_stars += len(part)
        told.n_unusable += int(read_sidecar(unit.path).metrics["n_unusable"])
        foreign = part["karmn"][part["flags"].str.contains("other-instrument")]
        told.n_foreign += len(foreign)
        told.foreign += list(foreign[: EXAMPLES - len(told.foreign)])
        told.n_doubted += int(flags.flagged(part, *paper.PARAMETERS).sum())
        for column in flags.COLUMNS:
            counts = part[column].str.split().explode().value_counts()
            told.words.update({f"{column}: {word}": n for word, n in counts.items()})
    return told
