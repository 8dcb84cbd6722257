"""The files of PHOENIX-ACES model atmospheres (Husser et al. 2013, A&A 553, A6): which, where, fetched and read.

Each is one FITS image, the flux [erg/s/cm^2/cm] at the surface; one more has the wavelengths [Angstrom, vacuum] of all.
"""
import itertools
import re
import warnings
from pathlib import Path

import numpy as np
import requests
from astropy.io import fits

from synthetic.labels import TOLERANCE, by_star
from workflow.files import BadInput, one_line, state, writing
from workflow.progress import progress_bar
from workflow.web import TIMEOUT, pieces

SERVER = "https://phoenix.astro.physik.uni-goettingen.de/data/HiResFITS"
WAVE_FILE = "WAVE_PHOENIX-ACES-AGSS-COND-2011.fits"
NODE_FILE = ("PHOENIX-ACES-AGSS-COND-2011/Z{mh:+.1f}/"
             "lte{teff:05d}-{logg:.2f}{mh:+.1f}.PHOENIX-ACES-AGSS-COND-2011-HiRes.fits")
NODE_STEPS = (100.0, 0.5, 0.5)  # of Teff [K], log g and [M/H], in that part of the PHOENIX grid
NODE_BYTES = 4 * 1_569_128  # as published; the wavelengths take twice that
LARGEST = 16 * NODE_BYTES  # of a file that is fetched, which may be of a finer grid
HEADER = ("PHXTEFF", "PHXLOGG", "PHXM_H")


# ---------------------------------------------------------------- which files
def nodes_around(label, steps):
    """Weights, by node, of the nodes between which a label (Teff [K], log g, [M/H]) lies: linear in each of the three.

    Nodes are multiples of `steps`; a label that is one has no other. Solar metallicity is -0.0, as in names of files.
    """
    sides = []
    for value, step in zip(label, steps):
        low = np.floor(value / step + TOLERANCE)
        share = value / step - low
        share = share if share >= TOLERANCE else 0.0
        sides.append([(round(k * step, 6) or -0.0, weight) for k, weight in ((low, 1 - share), (low + 1, share))
                      if weight])
    return {tuple(value for value, _ in corner): float(np.prod([weight for _, weight in corner]))
            for corner in itertools.product(*sides)}


def node_file(pattern, node):
    """Name of a node's file."""
    teff, logg, mh = node
    return pattern.format(teff=round(teff), logg=logg, mh=mh)


def files_for(labels, steps, wave, pattern):
    """Name of every file that the labels need, with its node: the wavelengths first, with None."""
    nodes = sorted({node for star in by_star(labels)[0] for node in nodes_around(star, steps)})
    return {wave: None, **{node_file(pattern, node): node for node in nodes}}


def find(models, name):
    """Where a file lies: under its whole name, or without the first folders of it."""
    parts = Path(name).parts
    places = [models.joinpath(*parts[skipped:]) for skipped in range(len(parts))]
    return next((place for place in places if place.exists()), places[0])


def absent(models, files):
    """Names of the files that are not there."""
    return [name for name in files if not find(models, name).exists()]


def fetch(models, files, mirror):
    """Fetch those of `files_for` that are absent from an address on the web; each is then there whole or not at all."""
    wave = None
    for name in progress_bar(absent(models, files), desc="models", unit="file"):
        url, path = f"{mirror}/{name}", models / name
        try:
            with requests.get(url, stream=True, timeout=TIMEOUT) as answer:
                answer.raise_for_status()
                with writing(path) as partial:
                    _take(answer, partial)
        except (requests.RequestException, ValueError) as error:
            raise BadInput(f"could not fetch {url}; run the command again, it goes on from there, or name a --mirror "
                           f"({one_line(error)})") from None
        except OSError as error:
            raise BadInput(f"{path} cannot be written ({one_line(error)}): free some space, or choose another "
                           "--models") from None
        if files[name] and wave is None:
            wave = read_wave(find(models, next(iter(files))))
        try:
            if files[name]:
                read_node(path, files[name], len(wave), slice(0))
            else:
                wave = read_wave(path)
        except BadInput as error:
            path.unlink()  # or every later run would find it there
            raise BadInput(f"{url} was fetched and removed again: {error}") from None


def _take(answer, path):
    with open(path, "wb") as out:
        try:
            for piece in pieces(answer):
                out.write(piece)
                if out.tell() > LARGEST:
                    raise ValueError(f"it is larger than {LARGEST:,} bytes, as no model is")
        except requests.RequestException as error:  # an OSError, but none of the disk
            raise ValueError(error) from None


# ---------------------------------------------------------------- reading
def read_wave(path):
    """Vacuum wavelengths [Angstrom] of all models."""
    wave = _read_fits(path)[1].astype(float)
    if not (len(wave) > 1 and np.isfinite(wave).all() and wave[0] > 0 and (np.diff(wave) > 0).all()):
        raise BadInput(f"{path} holds no ascending wavelengths: delete it, and --fetch brings it again")
    return wave


def read_node(path, node, n_pixels, seen):
    """Flux, any unit, of the model at a node in the slice `seen`; its header and its length must be right."""
    header, flux = _read_fits(path)
    for key, value, step in zip(HEADER, node, NODE_STEPS):
        stated = header.get(key)
        if not isinstance(stated, (int, float)) or abs(stated - value) > step / 1000:
            raise BadInput(f"{path} has {key} {stated} in its header instead of {value:g}: it is another model's, give "
                           "it its right name, or delete it, and --fetch brings the right one")
    if len(flux) != n_pixels:
        raise BadInput(f"{path} has {len(flux)} pixels, the wavelengths {n_pixels}: they are another set's, take all "
                       "files from one")
    flux = flux[seen].astype(float)
    bad = ~(np.isfinite(flux) & (flux > 0))
    if bad.any():
        raise BadInput(f"{path} has {np.count_nonzero(bad)} pixels in the window whose flux is not finite and "
                       "positive: delete it, and --fetch brings it again")
    return flux


def _read_fits(path):
    """Header and data of the primary HDU, which is where PHOENIX-ACES has a spectrum, or its wavelengths."""
    try:
        if not path.is_dir():
            state(path)
        with open(path, "rb") as file:
            n_axes = re.search(rb"NAXIS   = +(\S+)", file.read(2880))
        if n_axes and n_axes[1] != b"1":  # astropy would look for thousands of millions for ever
            raise BadInput(f"{path} holds no spectrum in its first HDU: delete it, and --fetch brings it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=True) as file:
                header, data = file[0].header, file[0].data
    except FileNotFoundError:
        raise BadInput(f"{path} not found: --fetch brings it") from None
    except BadInput:
        raise
    except Exception as error:  # astropy raises a dozen kinds
        raise BadInput(f"{path} is truncated or no FITS file ({one_line(error)}): delete it, and --fetch brings it "
                       "again") from None
    if data is None or data.ndim != 1 or data.dtype.kind not in "fiu":
        raise BadInput(f"{path} holds no spectrum in its first HDU: delete it, and --fetch brings it again")
    return header, data
