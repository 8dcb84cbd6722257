"""The labels of the 22,933 synthetic spectra, rebuilt from a table of 87 rows (`label_grid.csv`).

Reads:  src_files/label_grid.csv, one row per Teff [K]; the column of a log g holds the range
        `lowest:highest` of [M/H] that the isochrones allow there (step 0.1, empty = none), and
        `missing` the few spectra left out, each as `log g:[M/H]:v sin i`.
Writes: src_files/ph_pars.npy, equal byte for byte to the file published with the paper.
Run:    python src_files/label_grid.py
"""
import csv
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
import paper  # noqa: E402
from artifacts import git_blob_id, write_array  # noqa: E402


def label_grid():
    """Labels of all synthetic spectra, in the order of the published file.

    Returns
    -------
    numpy.ndarray, shape (22933, 4), float64
        Teff [K], log g [dex], [M/H] [dex] and v sin i [km/s].

    Notes
    -----
    Rows are sorted as text, as file names are: v sin i ("1.5" < "10.0" < "2.0"), Teff, log g, [M/H]
    with its sign ("+0.1" < "-0.0" < "-0.1"). Solar metallicity is written -0.0, as PHOENIX does.
    """
    rows = []
    with open(HERE / "label_grid.csv", newline="") as table:
        for row in csv.DictReader(table):
            missing = {tuple(map(float, spectrum.split(":"))) for spectrum in row["missing"].split()}
            for logg in paper.GRID_LOGG:
                cell = row[f"{logg:.1f}"]
                lowest, highest = map(float, cell.split(":")) if cell else (np.inf, -np.inf)
                for mh in paper.GRID_MH[(lowest <= paper.GRID_MH) & (paper.GRID_MH <= highest)]:
                    rows += [(float(row["teff"]), float(logg), float(mh) or -0.0, vsini)
                             for vsini in paper.GRID_VSINI if (logg, mh, vsini) not in missing]
    rows.sort(key=lambda label: (f"{label[3]:.1f}", label[0], label[1], f"{label[2]:+.1f}"))
    return np.array(rows)


def main():
    """Write `ph_pars.npy` and check its id; return the exit status."""
    path = HERE / "ph_pars.npy"
    if path.exists() and git_blob_id(path) != paper.BLOB_ID[path.name]:
        print(f"{path} is there and is not the published file: move it away first", file=sys.stderr)
        return 2
    write_array(path, label_grid())
    if git_blob_id(path) != paper.BLOB_ID[path.name]:
        print(f"{path} differs from the published file", file=sys.stderr)
        return 1
    print(f"{path}: {paper.N_SYNTHETIC} labels, as published (git blob {paper.BLOB_ID[path.name]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
