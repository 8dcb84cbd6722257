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
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
import paper
from spectra.transforms import LIMB_DARKENING, STEP
from synthetic import phoenix_models
from synthetic.folder import Folder
from synthetic.labels import AXES, label_grid, within
from synthetic.phoenix_spectra import WIDEST, make, read_models, unfinished
from workflow.command_line import Help, address, command, cores, folder, number
from workflow.files import lock, one_line

FILES = ("ph_flux_norm.npy", "ph_pars.npy")
VERSION = 1  # raise it whenever the same settings give other spectra


def pattern(text):
    """Type of a flag: name of a node's file, with {teff}, {logg} and {mh}."""
    nodes = (1.0, 2.0, 0.5), (2.0, 2.0, 0.5), (1.0, 3.0, 0.5), (1.0, 2.0, 1.5)
    try:
        names = {phoenix_models.node_file(text, node) for node in nodes}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no pattern ({one_line(error)})") from None
    if len(names) < len(nodes):
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


@command
def main(argv=None):
    """Write the synthetic spectra, or say what it takes."""
    options = parse(argv)
    labels = within(label_grid(), [getattr(options, name) for name in AXES])
    files = phoenix_models.files_for(labels, options.steps, options.wave, options.pattern)
    absent = phoenix_models.absent(options.models, files)
    size = phoenix_models.NODE_BYTES * (len(files) + 1) / 1e9
    print(f"{len(labels)} spectra need {len(files)} files, {size:.2f} GB, of which {len(absent)} are not in "
          f"{options.models}", flush=True)
    if options.list:
        for name in files:
            print(f"{'absent' if name in absent else 'there '}  {name}")
        return
    n_pixels = round((options.window[1] - options.window[0]) / STEP) + 1
    settings = {"version": VERSION, **{name: list(getattr(options, name)) for name in [*AXES, "window", "steps"]},
                "resolution": options.resolution, "models": options.pattern, "wavelengths": options.wave,
                "limb_darkening": LIMB_DARKENING}
    mark = {"spectra": "phoenix", "n_pixels": n_pixels, "resolving_power": options.resolution, "continuum": "gisic",
            "settings": settings}
    target = Folder(options.out, FILES, mark, options.overwrite, given={"ph_pars.npy": labels})  # they may be published
    with lock(options.out):
        if target.is_done():
            print(f"{options.out} already holds these spectra; nothing to do")
            return
        if options.fetch:
            phoenix_models.fetch(options.models, files, options.mirror)
        sampling, fluxes = read_models(options.models, files, options.window, options.resolution)
        target.begin()
        origin = json.dumps(settings).encode(), labels.tobytes(), *fluxes.values()
        flux_ph, path = unfinished(options.out, (len(labels), n_pixels), *origin)
        make(labels, fluxes, options.steps, sampling, flux_ph, options.jobs)
        target.install(flux_ph, labels)
        path.unlink(missing_ok=True)
        print(f"{options.out}: {len(labels)} synthetic spectra from {len(fluxes)} models")


if __name__ == "__main__":
    sys.exit(main())
