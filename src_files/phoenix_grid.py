"""The paper's synthetic spectra from the files of PHOENIX-ACES model atmospheres (Husser et al. 2013, A&A 553, A6).

Linearly interpolated in Teff, log g and [M/H], broadened by rotation and to the resolving power of CARMENES, then
normalised and cut as the observed ones (Sect. 2). See src_files/README.md.

Reads:  src_files/label_grid.csv, MODELS/WAVE_PHOENIX-ACES-AGSS-COND-2011.fits and a file for each node
Writes: DIR/ph_flux_norm.npy, DIR/ph_pars.npy, DIR/provenance.json
Run:    python src_files/phoenix_grid.py --list       (the files that it takes, and their size)
        python src_files/phoenix_grid.py --fetch      (fetch what is absent, then make all spectra)
        python src_files/phoenix_grid.py --out DIR --teff 3000 3500 --vsini 1.5 5
"""
import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
import paper
from spectra.transforms import LIMB_DARKENING, STEP
from synthetic import phoenix_models
from synthetic.folder import install, is_done
from synthetic.labels import label_grid
from synthetic.phoenix_models import NODE_BYTES, TOLERANCE, find, node_file, nodes_around
from synthetic.phoenix_spectra import WIDEST, Sampling, make, unfinished
from workflow.command_line import Help, address, command, cores, folder, number
from workflow.files import BadInput, one_line, sweep

AXES = {"teff": paper.GRID_TEFF, "logg": paper.GRID_LOGG, "mh": paper.GRID_MH, "vsini": paper.GRID_VSINI}

FILES = ("ph_flux_norm.npy", "ph_pars.npy")
VERSION = 1  # raise it whenever the same settings give other spectra


# ---------------------------------------------------------------- the script
def pattern(text):
    """Type of a flag: name of a node's file, with {teff}, {logg} and {mh}."""
    try:
        different = len({node_file(text, node) for node in ((1.0, 2.0, 0.5), (2.0, 2.0, 0.5), (1.0, 3.0, 0.5),
                                                            (1.0, 2.0, 1.5))})
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no pattern ({one_line(error)})") from None
    if different < 4:
        raise argparse.ArgumentTypeError(f"{text!r} gives different models one name: use {{teff}}, {{logg}} and {{mh}}")
    return text


def parse(argv):
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--models", type=folder, default=HERE / "phoenix_files", metavar="DIR", help="folder of the models' files")
    add("--out", type=folder, default=HERE / "phoenix", metavar="DIR", help="folder to write")
    for name, values in AXES.items():
        unit = paper.PARAMETERS[name].unit
        add(f"--{name}", type=number(float, -1e9), nargs=2, default=(float(min(values)), float(max(values))),
            metavar=("LOW", "HIGH"), help=f"only labels from LOW to HIGH [{unit}]")
    add("--resolution", type=number(float, 1000, 1e6), default=float(paper.RESOLVING_POWER), metavar="R",
        help="resolving power of the instrument")
    add("--window", type=number(float, 100, 1e6), nargs=2, default=paper.WINDOW, metavar=("LOW", "HIGH"),
        help="vacuum wavelengths [Angstrom] to keep")
    add("--list", action="store_true", help="list the files of the models, whether they are there, and stop")
    add("--fetch", action="store_true", help="fetch those that are absent")
    add("--mirror", type=address, default=phoenix_models.SERVER, metavar="URL", help="where to fetch from")
    add("--wave", default=phoenix_models.WAVE_FILE, metavar="NAME", help="file of the wavelengths")
    add("--pattern", type=pattern, default=phoenix_models.NODE_FILE, help="files of the nodes")
    add("--steps", type=number(float, 1e-3), nargs=3, default=phoenix_models.NODE_STEPS, metavar=("TEFF", "LOGG", "MH"),
        help="of the nodes, which are multiples of these")
    add("--jobs", type=number(int, 1), default=cores(), metavar="N", help="processes")
    add("--overwrite", action="store_true", help="replace other spectra that this script wrote, or changed ones")
    options = parser.parse_args(argv)
    low, high = options.window
    if not 4 * paper.MARGIN <= high - low <= WIDEST * low:
        parser.error(f"argument --window: it must be from {4 * paper.MARGIN:g} Angstrom to {WIDEST:.0%} of the "
                     "wavelength wide")
    return options


def chosen(options):
    """Labels in the ranges of the command line, in the order of the published file.

    Raises
    ------
    BadInput
        There is none.
    """
    labels = label_grid()
    ranges = np.array([getattr(options, name) for name in AXES])
    labels = labels[((labels >= ranges[:, 0] - TOLERANCE) & (labels <= ranges[:, 1] + TOLERANCE)).all(axis=1)]
    if not len(labels):
        spans = ", ".join(f"--{name} {min(values):g} {max(values):g}" for name, values in AXES.items())
        raise BadInput(f"no label lies in these ranges: widen them; all labels lie in {spans}, but not everywhere "
                       "there, see src_files/label_grid.csv")
    return labels


def models_of(options, labels):
    """Name of every file that the labels need, and the node it is of: the wavelengths first, of None."""
    stars = np.unique(labels[:, :3], axis=0)
    nodes = sorted({node for star in stars for node in nodes_around(star, options.steps)})
    return {options.wave: None, **{node_file(options.pattern, node): node for node in nodes}}


def read_models(options, files):
    """Sampling, and flux of each node.

    Raises
    ------
    BadInput
        Files are absent, or cannot be used.
    """
    absent = phoenix_models.absent(options.models, files)
    if absent:
        raise BadInput(f"{options.models} lacks {len(absent)} of {len(files)} files, {absent[0]} first: --fetch brings "
                       "them, --models names another folder, fewer are needed with --teff, --logg and --mh")
    path = find(options.models, options.wave)
    wave = phoenix_models.read_wave(path)
    sampling = Sampling.of(path, wave, options.window, options.resolution)
    return sampling, {node: phoenix_models.read_node(find(options.models, name), node, len(wave), sampling.seen)
                      for name, node in files.items() if node}


def is_written(out, mark, labels, overwrite):
    """As `is_done`; the published labels may lie there already, if they are these."""
    try:
        there = np.load(out / "ph_pars.npy", allow_pickle=False)
        same = there.dtype == labels.dtype and np.array_equal(there, labels)
    except (OSError, ValueError, EOFError):
        same = False
    return is_done(out, FILES, mark, overwrite, FILES[1:] if same else ())


@command
def main(argv=None):
    """Write the synthetic spectra, or say what it takes."""
    options = parse(argv)
    labels = chosen(options)
    files = models_of(options, labels)
    absent = phoenix_models.absent(options.models, files)
    print(f"{len(labels)} spectra need {len(files)} files, {NODE_BYTES * (len(files) + 1) / 1e9:.2f} GB, of which "
          f"{len(absent)} are not in {options.models}", flush=True)
    if options.list:
        for name in files:
            print(f"{'absent' if name in absent else 'there '}  {name}")
        return
    n_pixels = round((options.window[1] - options.window[0]) / STEP) + 1
    settings = {
        "version": VERSION, **{name: list(getattr(options, name)) for name in [*AXES, "window", "steps"]},
        "resolution": options.resolution, "models": options.pattern, "wavelengths": options.wave,
        "limb_darkening": LIMB_DARKENING,
    }
    mark = {"spectra": "phoenix", "n_pixels": n_pixels, "resolving_power": options.resolution, "continuum": "gisic",
            "settings": settings}
    if is_written(options.out, mark, labels, options.overwrite):
        print(f"{options.out} already holds these spectra; nothing to do")
        return
    if options.fetch:
        phoenix_models.fetch(options.models, files, options.mirror)
    sampling, fluxes = read_models(options, files)
    options.out.mkdir(parents=True, exist_ok=True)
    sweep(options.out)
    digest = hashlib.sha256(b"".join([json.dumps(settings).encode(), labels.tobytes(), *fluxes.values()])).hexdigest()
    flux_ph, path = unfinished(options.out, digest, (len(labels), n_pixels))
    make(labels, fluxes, options.steps, sampling, flux_ph, options.jobs)
    is_written(options.out, mark, labels, options.overwrite)  # nor is what came there meanwhile replaced
    install(options.out, mark, dict(zip(FILES, (flux_ph, labels))))
    path.unlink(missing_ok=True)
    print(f"{options.out}: {len(labels)} synthetic spectra from {len(fluxes)} models")


if __name__ == "__main__":
    sys.exit(main())
