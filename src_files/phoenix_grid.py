"""The paper's synthetic spectra from the files of PHOENIX-ACES model atmospheres (Husser et al. 2013, A&A 553, A6).

Linearly interpolated in Teff, log g and [M/H], broadened by rotation and to the resolving power of CARMENES, then
normalised and cut as the observed ones (Sect. 2). See src_files/README.md.

Reads:  src_files/label_grid.csv, MODELS/WAVE_PHOENIX-ACES-AGSS-COND-2011.fits and a file for each node
Writes: DIR/ph_flux_norm.npy, DIR/ph_pars.npy, DIR/provenance.json
Run:    python src_files/phoenix_grid.py --list       (the files that it takes, and their size)
        python src_files/phoenix_grid.py --fetch      (fetch what is absent, then make all spectra)
        python src_files/phoenix_grid.py --out DIR --teff 3000 3500 --vsini 1.5 5
"""
# ruff: noqa: E402
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
from workflow.command_line import (  # first: then Ctrl-C in the long imports is one line too
    Help,
    command,
    cores,
    folder,
    number,
)

# isort: split
import argparse
import hashlib
import json
from dataclasses import dataclass

import joblib
import numpy as np
from scipy import fft
from tqdm import tqdm

import paper
from download import address
from label_grid import label_grid
from spectra import continuum as preparation
from spectra.continuum import LIGHT, N_MARGIN, SIGMA_TO_FWHM, STEP
from spectra.transforms import LIMB_DARKENING, broaden
from synthetic import phoenix_models
from synthetic.folder import install, is_done
from synthetic.phoenix_models import NODE_BYTES, TOLERANCE, find, node_file, nodes_around
from workflow.files import BadInput, one_line, sweep, write_array

AXES = {"teff": paper.GRID_TEFF, "logg": paper.GRID_LOGG, "mh": paper.GRID_MH, "vsini": paper.GRID_VSINI}

FILES = ("ph_flux_norm.npy", "ph_pars.npy")
VERSION = 1  # raise it whenever the same settings give other spectra
WIDEST = 0.02  # of a window, relative to its wavelength: it is broadened as at its middle
PIECE = 8  # nodes of the label grid at a time


# ---------------------------------------------------------------- making spectra
@dataclass(frozen=True)
class Sampling:
    """The wavelengths on the way from models to spectra.

    Attributes
    ----------
    seen : slice
        Pixels of the models that are needed.
    model : numpy.ndarray
        Their wavelengths [Angstrom].
    even : numpy.ndarray
        The same range in even steps, like those of the models or finer, an even number: here it is broadened.
    normalised : numpy.ndarray
        Window and margins in the steps of the paper.
    resolving_power : float
    """

    seen: slice
    model: np.ndarray
    even: np.ndarray
    normalised: np.ndarray
    resolving_power: float

    @classmethod
    def of(cls, path, wave, window, resolving_power):
        """For wavelengths that were read from `path`.

        Raises
        ------
        BadInput
            They do not cover window, margins and the reach of the kernels, or are too coarse.
        """
        n_pixels = round((window[1] - window[0]) / STEP) + 1 + 2 * N_MARGIN
        normalised = window[0] - paper.MARGIN + STEP * np.arange(n_pixels)
        fwhm = np.mean(window) / resolving_power
        reach = np.mean(window) * max(paper.GRID_VSINI) / LIGHT + 6 * fwhm / SIGMA_TO_FWHM
        low, high = normalised[0] - reach, normalised[-1] + reach
        if not (wave[0] <= low and high <= wave[-1]):
            raise BadInput(f"{path} has wavelengths {wave[0]:g} to {wave[-1]:g}, needed are {low:.1f} to {high:.1f} "
                           "Angstrom: choose another --window, or the file of these models")  # fmt: skip
        seen = slice(int(np.searchsorted(wave, low, "right")) - 1, int(np.searchsorted(wave, high)) + 1)
        step = np.median(np.diff(wave[seen]))
        if step > fwhm / 2:
            raise BadInput(f"{path} has steps of {step:.3g} Angstrom, too coarse for a resolving power of "
                           f"{resolving_power:g}: take models of high resolution, or a lower --resolution")
        step = min(step, STEP)
        n_even = 2 * fft.next_fast_len(int((high - low) / step) // 2 + 2, real=True)
        return cls(seen, wave[seen], wave[seen][0] + step * np.arange(n_even), normalised, resolving_power)


def synthesise(fluxes, vsini, sampling):
    """Normalised spectra as the instrument would see them.

    Parameters
    ----------
    fluxes : sequence of numpy.ndarray, shape (len(sampling.model),)
        Of stars that do not rotate.
    vsini : sequence of sequences of float
        Those of each star [km/s].
    sampling : Sampling

    Returns
    -------
    numpy.ndarray, shape (n_spectra, n_pixels), float32
        Star by star.
    """
    step, middle = sampling.even[1] - sampling.even[0], np.mean(sampling.normalised)
    spectra = []
    for flux, velocities in zip(fluxes, vsini):
        flux = np.interp(sampling.even, sampling.model, flux)
        for broad in broaden(flux, velocities, sampling.resolving_power, step, middle):
            broad = np.interp(sampling.normalised, sampling.even, broad)
            spectra.append(preparation.normalise(broad)[N_MARGIN:-N_MARGIN])
    return np.array(spectra, np.float32)


def make(labels, fluxes, steps, sampling, flux_ph, jobs):
    """Make those spectra that are not there yet.

    Parameters
    ----------
    labels : numpy.ndarray, shape (n_spectra, 4)
        Teff [K], log g [dex], [M/H] [dex], v sin i [km/s].
    fluxes : dict
        Node to its flux, at `sampling.model`.
    steps : sequence of 3 floats
        Of the nodes.
    sampling : Sampling
    flux_ph : numpy.ndarray, shape (n_spectra, n_pixels), float32
        Receives them. A row is there if none of its pixels is 0.
    jobs : int
        Processes.

    Raises
    ------
    BadInput
        The models have no continuum.
    """
    absent = np.array([not row.all() for row in flux_ph])
    stars, star_of = np.unique(labels[absent, :3], axis=0, return_inverse=True)
    order = np.argsort(star_of.ravel(), kind="stable")
    rows_of = np.split(np.flatnonzero(absent)[order], np.cumsum(np.bincount(star_of.ravel()))[:-1])
    pieces = [slice(first, first + PIECE) for first in range(0, len(stars), PIECE)]

    def calls():
        for piece in pieces:
            mixed = [sum(weight * fluxes[node] for node, weight in nodes_around(star, steps).items())
                     for star in stars[piece]]  # fmt: skip
            yield joblib.delayed(synthesise)(mixed, [labels[rows, 3] for rows in rows_of[piece]], sampling)

    bar = tqdm(desc="spectra", total=len(labels), initial=len(labels) - len(order), unit="spectrum", disable=None)
    with bar:
        for piece, spectra in zip(pieces, joblib.Parallel(jobs, return_as="generator")(calls())):
            rows = np.concatenate(rows_of[piece])
            bad = ~(spectra > 0).all(axis=1)
            if bad.any():
                raise BadInput("the spectrum of Teff {:g}, log g {:g}, [M/H] {:g}, v sin i {:g} cannot be normalised: "
                               "look at its models".format(*labels[rows[bad][0]]))  # fmt: skip
            flux_ph[rows] = spectra
            bar.update(len(rows))


def unfinished(out, digest, shape):
    """The array of spectra on its way, kept on disk from one run to the next, and its path."""
    path = out / f"ph_flux_norm.unfinished-{digest[:12]}.npy"
    for other in out.glob("ph_flux_norm.unfinished-*.npy"):
        if other != path:
            other.unlink()
    if path.exists():
        try:
            array = np.load(path, mmap_mode="r+")
            if array.shape == shape and array.dtype == np.float32:
                return array, path
        except (ValueError, OSError):  # it was cut short
            pass
    write_array(path, np.zeros(shape, np.float32))  # all of it: a disk that is full later would end the process
    return np.load(path, mmap_mode="r+"), path


# ---------------------------------------------------------------- the script
def pattern(text):
    """Type of a flag: name of a node's file, with {teff}, {logg} and {mh}."""
    try:
        different = len({node_file(text, node) for node in ((1.0, 2.0, 0.5), (2.0, 2.0, 0.5), (1.0, 3.0, 0.5),
                                                            (1.0, 2.0, 1.5))})  # fmt: skip
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
            metavar=("LOW", "HIGH"), help=f"only labels from LOW to HIGH [{unit}]")  # fmt: skip
    add("--resolution", type=number(float, 1000, 1e6), default=float(paper.RESOLVING_POWER), metavar="R",
        help="resolving power of the instrument")  # fmt: skip
    add("--window", type=number(float, 100, 1e6), nargs=2, default=paper.WINDOW, metavar=("LOW", "HIGH"),
        help="vacuum wavelengths [Angstrom] to keep")  # fmt: skip
    add("--list", action="store_true", help="list the files of the models, whether they are there, and stop")
    add("--fetch", action="store_true", help="fetch those that are absent")
    add("--mirror", type=address, default=phoenix_models.SERVER, metavar="URL", help="where to fetch from")
    add("--wave", default=phoenix_models.WAVE_FILE, metavar="NAME", help="file of the wavelengths")
    add("--pattern", type=pattern, default=phoenix_models.NODE_FILE, help="files of the nodes")
    add("--steps", type=number(float, 1e-3), nargs=3, default=phoenix_models.NODE_STEPS, metavar=("TEFF", "LOGG", "MH"),
        help="of the nodes, which are multiples of these")  # fmt: skip
    add("--jobs", type=number(int, 1), default=cores(), metavar="N", help="processes")
    add("--overwrite", action="store_true", help="replace other spectra that this script wrote, or changed ones")
    options = parser.parse_args(argv)
    low, high = options.window
    if not 4 * paper.MARGIN <= high - low <= WIDEST * low:
        parser.error(f"argument --window: it must be from {4 * paper.MARGIN:g} Angstrom to {WIDEST:.0%} of the "
                     "wavelength wide")  # fmt: skip
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
                       "there, see src_files/label_grid.csv")  # fmt: skip
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
                      for name, node in files.items() if node}  # fmt: skip


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
          f"{len(absent)} are not in {options.models}", flush=True)  # fmt: skip
    if options.list:
        for name in files:
            print(f"{'absent' if name in absent else 'there '}  {name}")
        return
    n_pixels = round((options.window[1] - options.window[0]) / STEP) + 1
    settings = {
        "version": VERSION, **{name: list(getattr(options, name)) for name in [*AXES, "window", "steps"]},
        "resolution": options.resolution, "models": options.pattern, "wavelengths": options.wave,
        "limb_darkening": LIMB_DARKENING,
    }  # fmt: skip
    mark = {"spectra": "phoenix", "n_pixels": n_pixels, "resolving_power": options.resolution, "continuum": "gisic",
            "settings": settings}  # fmt: skip
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
