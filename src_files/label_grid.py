"""The labels of the 22,933 synthetic spectra, rebuilt from a table of 87 rows (`label_grid.csv`).

Reads:  src_files/label_grid.csv, one row per Teff [K]; the column of a log g holds the range
        `lowest:highest` of [M/H] that the isochrones allow there (step 0.1, empty = none), and
        `missing` the few spectra left out, each as `log g:[M/H]:v sin i`.
Writes: src_files/ph_pars.npy, equal byte for byte to the file published with the paper.
Run:    python src_files/label_grid.py
"""
# ruff: noqa: E402
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
from workflow.command_line import command  # first: then Ctrl-C in the long imports is one line too

# isort: split
import argparse
import csv
import os

import numpy as np

import paper
from workflow.files import BadInput, git_blob_id, writing


def label_grid():
    """Labels of all synthetic spectra, in the order of the published file.

    Returns
    -------
    numpy.ndarray, shape (22933, 4), float64
        Teff [K], log g [dex], [M/H] [dex] and v sin i [km/s].

    Raises
    ------
    BadInput
        The table is not the one that belongs here.

    Notes
    -----
    Rows are sorted as text, as file names are: v sin i ("1.5" < "10.0" < "2.0"), Teff, log g, [M/H]
    with its sign ("+0.1" < "-0.0" < "-0.1"). Solar metallicity is written -0.0, as PHOENIX does.
    """
    rows, table = [], HERE / "label_grid.csv"
    try:
        for row in csv.DictReader(table.read_text().splitlines()):
            missing = {tuple(map(float, spectrum.split(":"))) for spectrum in row["missing"].split()}
            for logg in paper.GRID_LOGG:
                cell = row[f"{logg:.1f}"]
                lowest, highest = map(float, cell.split(":")) if cell else (np.inf, -np.inf)
                for mh in paper.GRID_MH[(lowest <= paper.GRID_MH) & (paper.GRID_MH <= highest)]:
                    rows += [(float(row["teff"]), float(logg), float(mh) or -0.0, vsini)
                             for vsini in paper.GRID_VSINI if (logg, mh, vsini) not in missing]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{table} was changed ({type(error).__name__}: {error}): restore it") from None
    rows.sort(key=lambda label: (f"{label[3]:.1f}", label[0], label[1], f"{label[2]:+.1f}"))
    if len(rows) != paper.N_SYNTHETIC:
        raise BadInput(f"{table} was changed, it makes {len(rows)} labels instead of {paper.N_SYNTHETIC}: restore it")
    return np.array(rows)


@command
def main(argv=None):
    """Write `ph_pars.npy`, unless it is there."""
    argparse.ArgumentParser(description="Rebuild the labels of the synthetic spectra.").parse_args(argv)
    path = HERE / "ph_pars.npy"
    if not os.path.lexists(path):
        with writing(path) as partial:
            np.save(partial, label_grid())
            if git_blob_id(partial) != paper.BLOB_ID[path.name]:
                raise BadInput(f"{path} would differ from the published file: restore {HERE / 'label_grid.csv'}")
    elif git_blob_id(path) != paper.BLOB_ID[path.name]:
        raise BadInput(f"{path} is there and is not the published file: move it away first")
    print(f"{path}: {paper.N_SYNTHETIC} labels, as published (git blob {paper.BLOB_ID[path.name]})")


if __name__ == "__main__":
    sys.exit(main())
