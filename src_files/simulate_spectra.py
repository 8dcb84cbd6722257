"""SIMULATED spectra of M dwarfs, with the labels and the shape of the paper's, to stand in for the real ones.

A line-by-line simulation, not a model atmosphere: real line positions, strengths that follow abundance,
excitation and pressure, and a few constants fitted to one real star and one PHOENIX model. It exists so
that everything else here can be run and checked against a known truth; see src_files/README.md.

Reads:  src_files/lines.csv, src_files/label_grid.csv, literature_data/mas24.csv
Writes: DIR/ph_flux_norm.npy, DIR/ph_pars.npy, DIR/carmf_norm.npy, DIR/stars.csv, DIR/provenance.json
Run:    python src_files/simulate_spectra.py                                (all spectra, 15 s)
        python src_files/simulate_spectra.py --out DIR --n-spectra 1000     (seconds)
        python src_files/simulate_spectra.py --star star.csv        (one raw star, to try estimate.py)
"""
import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
import paper
from synthetic import raw_star
from synthetic.folder import Folder
from synthetic.gap_families import FAMILIES
from synthetic.simulation import VERSION, simulate
from workflow.command_line import Help, command, folder, number
from workflow.files import BadInput, lock

FILES = ("ph_flux_norm.npy", "ph_pars.npy", "carmf_norm.npy", "stars.csv")
SETTINGS = ("seed", "gap", "gap_seed", "n_spectra", "n_observed")
MAX_GAP = 3  # from about 4 on, lines may fill the window and leave no continuum to divide by
MAX_SEED = 2**30


def parse(argv):
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--out", type=folder, default=HERE / "simulated", metavar="DIR", help="folder to write")
    add("--n-spectra", type=number(int, 1, paper.N_SYNTHETIC), default=paper.N_SYNTHETIC, metavar="N",
        help="synthetic spectra")
    add("--n-observed", type=number(int, 1, paper.N_OBSERVED), default=paper.N_OBSERVED, metavar="N",
        help="observed stars")
    add("--gap", type=number(float, 0, MAX_GAP), default=1.0, help="how far the observed physics is off; 0: only noise")
    add("--seed", type=number(int, 0, MAX_SEED), default=paper.SPLIT_SEED, help="of the subset and the true parameters")
    add("--gap-seed", type=number(int, 0, MAX_SEED), default=0, help="of the observed physics and noise")
    add("--gap-family", choices=FAMILIES, default="lines", help="in what form the observed physics is off")
    add("--resolution", type=number(float, 1000, 1e6), default=paper.RESOLVING_POWER, metavar="R",
        help="resolving power of the instrument, of both kinds of spectra")
    add("--star", type=Path, metavar="FILE",
        help="write nothing but one star of 3300 K as a CSV in air, moving at 30 km/s, behind a blaze, S/N 100")
    add("--overwrite", action="store_true", help="replace another simulation, or files of one that were changed")
    return parser.parse_args(argv)


@command
def main(argv=None):
    """Write the simulated arrays."""
    options = parse(argv)
    if options.star:
        if options.star.exists():
            raise BadInput(f"{options.star} is there already: give --star another name")
        raw_star.write(options.star, raw_star.observe(raw_star.smooth_spectrum()))
        print(f"{options.star}: one SIMULATED star")
        return
    settings = {name: getattr(options, name) for name in SETTINGS}
    if options.resolution != paper.RESOLVING_POWER:
        settings["resolving_power"] = options.resolution
    named = settings if options.gap_family == "lines" else {**settings, "gap_family": options.gap_family}
    mark = {"spectra": "simulated", "simulator": VERSION, **named}
    print("SIMULATED spectra:", ", ".join(f"{name} {value}" for name, value in named.items()), flush=True)
    target = Folder(options.out, FILES, mark, options.overwrite)
    with lock(options.out):
        if target.is_done():
            print(f"{options.out} already holds this simulation; nothing to do")
            return
        target.begin()
        flux_ph, labels_ph, flux_carm, stars = simulate(**settings, family=FAMILIES[options.gap_family])
        target.install(flux_ph, labels_ph, flux_carm, stars.round(6))
    print(f"{options.out}: {len(flux_ph)} synthetic and {len(flux_carm)} observed spectra, all simulated")


if __name__ == "__main__":
    sys.exit(main())
