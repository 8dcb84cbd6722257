"""The labels of the 22,933 synthetic spectra, rebuilt from a table of 87 rows (`label_grid.csv`)."""
import csv
from pathlib import Path

import numpy as np

import paper
from workflow.files import BadInput

HERE = Path(__file__).resolve().parents[1]
AXES = {"teff": paper.GRID_TEFF, "logg": paper.GRID_LOGG, "mh": paper.GRID_MH, "vsini": paper.GRID_VSINI}
TOLERANCE = 1e-6  # of labels and nodes, relative to a step


def label_grid():
    """Labels of all synthetic spectra, (22933, 4): Teff [K], log g [dex], [M/H] [dex] and v sin i [km/s].

    Rows are in the order of the published file, sorted as text, as file names are: v sin i ("1.5" < "10.0" < "2.0"),
    Teff, log g, [M/H] with its sign ("+0.1" < "-0.0" < "-0.1"). Solar metallicity is written -0.0, as PHOENIX does.
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


def within(labels, ranges):
    """The labels between the lowest and the highest value of each of `AXES`; BadInput if there is none."""
    low, high = np.transpose(ranges)
    labels = labels[((labels >= low - TOLERANCE) & (labels <= high + TOLERANCE)).all(axis=1)]
    if not len(labels):
        spans = ", ".join(f"--{name} {min(values):g} {max(values):g}" for name, values in AXES.items())
        raise BadInput(f"no label lies in these ranges: widen them; all labels lie in {spans}, but not everywhere "
                       "there, see src_files/label_grid.csv")
    return labels


def by_star(labels):
    """Teff, log g and [M/H] of each star, (n_stars, 3), and its rows: labels that differ in v sin i alone."""
    stars, star_of, counts = np.unique(labels[:, :3], axis=0, return_inverse=True, return_counts=True)
    return stars, np.split(np.argsort(star_of.ravel(), kind="stable"), np.cumsum(counts)[:-1])
