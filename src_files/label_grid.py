"""The labels of the 22,933 synthetic spectra, rebuilt from a table of 87 rows (`label_grid.csv`).

Reads:  src_files/label_grid.csv, one row per Teff [K]; the column of a log g holds the range
        `lowest:highest` of [M/H] that the isochrones allow there (step 0.1, empty = none), and
        `missing` the few spectra left out, each as `log g:[M/H]:v sin i`.
Writes: src_files/ph_pars.npy, equal byte for byte to the file published with the paper.
Run:    python src_files/label_grid.py
"""
import argparse
import os
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
import paper
from synthetic.labels import label_grid
from workflow.command_line import command
from workflow.files import BadInput, git_blob_id, writing


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
