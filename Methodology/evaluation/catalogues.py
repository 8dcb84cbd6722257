"""Published values of the stars, joined by name (Sect. 4)."""
import functools
from pathlib import Path

import numpy as np

import paper
from inference import flags
from spectra import star_tables
from workflow import schemas
from workflow.command_line import ROOT
from workflow.files import BadInput, sha256
from workflow.units import sidecar_of

FOLDER = ROOT / "literature_data"
ISOCHRONES = "isochrones.csv"  # the one table there that has no stars, and that need not be there
# Tables the estimates are compared with, and the paper's names for them
CATALOGUES = {"mar21": "Mar21", "pass19": "Pass19", "schw19": "Schw19", "pass20": "Pass20", "bello23": "Bello23",
              "interf": "Interferometry", "fgkm": "FGK+M", "rein18": "Rein18", "pass18": "Pass18", "gaid14": "Gaid14",
              "gm14": "GM14", "mann15": "Mann15"}
# A catalogue's second column for a parameter, and how to tell it from the first
SECOND = {"loggc": ("logg", "log g from mass and radius"), "mh_plain": ("mh", "plain metallicity")}
LIMITS = "rein18"  # where a value without uncertainty is an upper limit; elsewhere it is just not known
PUBLISHED = {prefix + parameter.published: prefix + par  # columns of final_estimations.csv, and here
             for par, parameter in paper.PARAMETERS.items() for prefix in ("", "e_", "E_")}


def table_files():
    """Paths of the tables with a row a star, in the order of their names."""
    return [path for path in sorted(FOLDER.glob("*.csv")) if path.name != ISOCHRONES]


def load(name):
    """A table of literature_data/ by its file name without .csv; what each holds is in literature_data/README.md.

    A row a star. `karmn` in the paper's spelling; of a catalogue always `teff` [K], `logg` [dex], `mh` [dex], `vsini`
    [km/s], each with e_ (uncertainty below) and E_ (above); NaN where it has none.
    """
    path = FOLDER / f"{name}.csv"
    if not path.exists():
        raise BadInput(f"{path} not found: the tables are {', '.join(table.stem for table in table_files())}")
    return _read(path).copy()


@functools.cache
def _read(path):
    table = star_tables.in_paper_spelling(star_tables.read(path, "restore it, `git checkout literature_data`"), path)
    if any(par in table for par in paper.PARAMETERS):
        for column in (*paper.PARAMETERS, *(column for column in SECOND if column in table)):
            for part in (column, f"e_{column}"):
                table[part] = table.get(part, np.nan)
            table[f"E_{column}"] = table.get(f"E_{column}", table[f"e_{column}"])
    return table


def load_estimates(path=None):
    """The published estimates or, from a final_estimations.csv with its sidecar beside it, those of a run.

    A row a star: `karmn`, then `teff` [K], `logg` [dex], `mh` [dex] and `vsini` [km/s], each with e_ and E_, NaN where
    there is no estimate; `spectra`, the word for where the spectra came from, and `run`, whether a run made the
    estimates from them, both the same in every row; flags.COLUMNS, of the published table by its values alone.
    """
    if not path:
        published = load("mas24").drop(columns=["ra", "dec"]).assign(spectra="published", run=False)
        return published.join(flags.of_published(published))
    path = Path(path)
    remedy = "give a final_estimations.csv of Methodology/cnn_training.py, or none for the published estimates"
    table = star_tables.in_paper_spelling(star_tables.read(path, remedy), path)
    missing = [column for column in (*PUBLISHED, *flags.COLUMNS) if column not in table]
    if missing:
        raise BadInput(f"{path} has no column {missing[0]} ({len(missing)} missing): {remedy}")
    if table.empty:
        raise BadInput(f"{path} names no star: {remedy}")
    keep = f"keep the sidecar beside the table it came with; it says whether {path.name} comes from simulated spectra"
    sidecar = schemas.read(sidecar_of(path), schemas.Estimates, keep)
    if sha256(path) not in sidecar.outputs.values():
        raise BadInput(f"{path} was changed after it was made: restore it, or run Methodology/cnn_training.py again")
    beside = {path.parent / Path(name).name: digest for name, digest in sidecar.inputs.items()}
    others = [file.name for file, digest in beside.items() if file.is_file() and sha256(file) != digest]
    if others:
        raise BadInput(f"{path} was made from another {others[0]} than is beside it: they are of two runs, or "
                       "Methodology/cnn_training.py has to run again")
    numbers = table[list(PUBLISHED)].rename(columns=PUBLISHED).astype(float).replace([np.inf, -np.inf], np.nan)
    uncertainties = table[[name for name in PUBLISHED if name[:2] in ("e_", "E_")]].astype(float)
    if ((uncertainties < 0) | np.isinf(uncertainties)).any(axis=None):
        raise BadInput(f"{path} has an uncertainty that is negative or infinite: {remedy}")
    estimates = table[["karmn"]].join(numbers).assign(spectra=sidecar.spectra.spectra, run=True)
    return estimates.join(table[flags.COLUMNS].apply(flags.as_text))


def known():
    """The names of all stars in the tables, a set."""
    return set().union(*(_read(file)["karmn"] for file in table_files()))


def match(estimates, name):
    """Join estimates with one table, by name and one to one, whatever the order of the rows.

    The stars that both have, sorted by `karmn`. Columns that both have get the suffix _lit for the table's.
    """
    estimates = star_tables.in_paper_spelling(estimates, "the estimates")
    unknown = sorted(set(estimates["karmn"]) - known())
    if unknown:
        raise BadInput(f"no table in literature_data knows {', '.join(unknown[:5])}: mend the name or leave it out")
    both = estimates.merge(load(name), on="karmn", validate="one_to_one", suffixes=("", "_lit"))
    return both.sort_values("karmn", ignore_index=True)


def pairs(estimates, name, column):
    """The stars for which there is an estimate and a published value of the same parameter.

    `column` is teff, logg, mh or vsini, or a catalogue's second column for one of them, see `SECOND`. The table has
    `karmn`; `teff`, the estimate [K]; `flagged`, see `flags.flagged`; `ours` and `lit`, the parameter, each with _low
    and _high, its uncertainties; `limit`, whether `lit` is an upper limit.
    """
    both, par = match(estimates, name), SECOND.get(column, [column])[0]
    lit = column + "_lit" * (column in estimates)
    parts = {"ours": par, "ours_low": f"e_{par}", "ours_high": f"E_{par}",
             "lit": lit, "lit_low": f"e_{lit}", "lit_high": f"E_{lit}"}
    table = both[["karmn", "teff"]].assign(**{part: both[source] for part, source in parts.items()})
    table = table.assign(flagged=flags.flagged(both, par), limit=table["lit_low"].isna() & (name == LIMITS))
    return table.dropna(subset=["ours", "lit"]).reset_index(drop=True)


def title(estimates):
    """What the estimates are, in a few words."""
    spectra, run = estimates[["spectra", "run"]].iloc[0]
    if not run:
        return "the published estimates"
    words = {"published": "estimates from the published spectra",
             "simulated": "estimates of SIMULATED stars, drawn around the published ones"}
    return words.get(spectra, f"estimates from spectra marked {spectra!r}")
