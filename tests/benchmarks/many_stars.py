"""Very many simulated stars behind one gap, as a folder that joint_fit.py reads; written in pieces, so memory is flat.

Writes {out}/ph_flux_norm.npy, ph_pars.npy      the full synthetic set
       {out}/carmf_norm.npy, stars.csv          the 286 stars of the default simulation, then further draws of them
       {out}/provenance.json

    python tests/benchmarks/many_stars.py --out many --stars 100000
    python Methodology/joint_fit.py --data many --artifacts many/run --jobs 1
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
import acts  # noqa: F401  # isort: skip  # puts the scripts on the path
from joint import library  # isort: skip

import paper
from synthetic import simulation
from synthetic.gap_families import FAMILIES
from workflow.files import write_csv, write_json, writing


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--stars", type=int, default=100_000, metavar="N")
    parser.add_argument("--gap-seed", type=int, default=0)
    parser.add_argument("--gap-family", choices=FAMILIES, default="lines")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    library(args.out)
    physics, tables = FAMILIES[args.gap_family].reference(), []
    with writing(args.out / "carmf_norm.npy") as partial:
        flux = np.lib.format.open_memmap(partial, "w+", np.float32, (args.stars, paper.N_PIXELS))
        for piece, first in enumerate(range(0, args.stars, paper.N_OBSERVED)):
            stars = simulation.draw_stars(paper.SPLIT_SEED + piece)[: args.stars - first]
            if piece:
                stars["karmn"] += f" {piece}"
            part, stars = simulation.observe(stars, physics, 1.0, args.gap_seed)
            flux[first : first + len(part)] = part
            tables.append(stars)
            if piece % 20 == 0:
                print(f"{first + len(part)} of {args.stars} stars", flush=True)
        flux.flush()
    write_csv(args.out / "stars.csv", pd.concat(tables))
    write_json(args.out / "provenance.json", {"spectra": "simulated"})


if __name__ == "__main__":
    main()
