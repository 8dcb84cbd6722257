"""Spectra as the instrument would see them from model atmospheres."""
import hashlib
from dataclasses import dataclass

import joblib
import numpy as np
from scipy import fft

import paper
from spectra.continuum import normalise
from spectra.transforms import LIGHT, N_MARGIN, SIGMA_TO_FWHM, STEP, broaden
from synthetic.labels import by_star
from synthetic.phoenix_models import absent, find, nodes_around, read_node, read_wave
from workflow.files import BadInput, write_array
from workflow.progress import progress_bar

WIDEST = 0.02  # of a window, relative to its wavelength: it is broadened as at its middle
PIECE = 8  # nodes of the label grid at a time


@dataclass(frozen=True)
class Sampling:
    """The wavelengths [Angstrom] on the way from models to spectra."""

    seen: slice  # pixels of the models that are needed
    model: np.ndarray  # their wavelengths
    even: np.ndarray  # that range in even steps, as fine or finer, an even number: here it is broadened
    normalised: np.ndarray  # window and margins in the steps of the paper
    resolving_power: float

    @classmethod
    def of(cls, path, wave, window, resolving_power):
        """For wavelengths read from `path`, which must cover window, margins and kernels, and be fine enough."""
        n_pixels = round((window[1] - window[0]) / STEP) + 1 + 2 * N_MARGIN
        normalised = window[0] - paper.MARGIN + STEP * np.arange(n_pixels)
        fwhm = np.mean(window) / resolving_power
        reach = np.mean(window) * max(paper.GRID_VSINI) / LIGHT + 6 * fwhm / SIGMA_TO_FWHM
        low, high = normalised[0] - reach, normalised[-1] + reach
        if not (wave[0] <= low and high <= wave[-1]):
            raise BadInput(f"{path} has wavelengths {wave[0]:g} to {wave[-1]:g}, needed are {low:.1f} to {high:.1f} "
                           "Angstrom: choose another --window, or the file of these models")
        seen = slice(int(np.searchsorted(wave, low, "right")) - 1, int(np.searchsorted(wave, high)) + 1)
        step = np.median(np.diff(wave[seen]))
        if step > fwhm / 2:
            raise BadInput(f"{path} has steps of {step:.3g} Angstrom, too coarse for a resolving power of "
                           f"{resolving_power:g}: take models of high resolution, or a lower --resolution")
        step = min(step, STEP)
        n_even = 2 * fft.next_fast_len(int((high - low) / step) // 2 + 2, real=True)
        return cls(seen, wave[seen], wave[seen][0] + step * np.arange(n_even), normalised, resolving_power)


def read_models(models, files, window, resolving_power):
    """Sampling, and the flux of each node, of files of models (`phoenix_models.files_for`) in the folder `models`."""
    if missing := absent(models, files):
        raise BadInput(f"{models} lacks {len(missing)} of {len(files)} files, {missing[0]} first: --fetch brings "
                       "them, --models names another folder, fewer are needed with --teff, --logg and --mh")
    path, *paths = (find(models, name) for name in files)
    wave = read_wave(path)
    sampling = Sampling.of(path, wave, window, resolving_power)
    _, *nodes = files.values()
    return sampling, {node: read_node(path, node, len(wave), sampling.seen) for path, node in zip(paths, nodes)}


def synthesise(fluxes, vsini, sampling):
    """Normalised spectra (n_spectra, n_pixels), from the flux of stars at `sampling.model` and their v sin i [km/s]."""
    step, middle = sampling.even[1] - sampling.even[0], np.mean(sampling.normalised)
    spectra = []
    for flux, velocities in zip(fluxes, vsini):
        flux = np.interp(sampling.even, sampling.model, flux)
        for broad in broaden(flux, velocities, sampling.resolving_power, step, middle):
            broad = np.interp(sampling.normalised, sampling.even, broad)
            spectra.append(normalise(broad)[N_MARGIN:-N_MARGIN])
    return np.array(spectra, np.float32)


def make(labels, fluxes, steps, sampling, flux_ph, jobs):
    """Make the spectra of labels (n_spectra, 4) that are not in `flux_ph` (n_spectra, n_pixels) yet: rows with a 0.

    `fluxes`, by node, are at `sampling.model`; nodes are multiples of `steps`.
    """
    to_do = np.flatnonzero([not row.all() for row in flux_ph])
    stars, rows_of = by_star(labels[to_do])
    rows_of = [to_do[rows] for rows in rows_of]
    pieces = [slice(first, first + PIECE) for first in range(0, len(stars), PIECE)]

    def calls():
        for piece in pieces:
            mixed = [sum(weight * fluxes[node] for node, weight in nodes_around(star, steps).items())
                     for star in stars[piece]]
            yield joblib.delayed(synthesise)(mixed, [labels[rows, 3] for rows in rows_of[piece]], sampling)

    n_made = len(labels) - len(to_do)
    with progress_bar(desc="spectra", total=len(labels), initial=n_made, unit="spectrum") as bar:
        for piece, spectra in zip(pieces, joblib.Parallel(jobs, return_as="generator")(calls())):
            rows = np.concatenate(rows_of[piece])
            bad = ~(spectra > 0).all(axis=1)
            if bad.any():
                raise BadInput("the spectrum of Teff {:g}, log g {:g}, [M/H] {:g}, v sin i {:g} cannot be normalised: "
                               "look at its models".format(*labels[rows[bad][0]]))
            flux_ph[rows] = spectra
            bar.update(len(rows))


def unfinished(out, shape, *origin):
    """The array of spectra on its way, kept on disk for the next run of the same origin (bytes), and its path."""
    path = out / f"ph_flux_norm.unfinished-{hashlib.sha256(b''.join(origin)).hexdigest()[:12]}.npy"
    for leftover in set(out.glob("ph_flux_norm.unfinished-*.npy")) - {path}:
        leftover.unlink()
    if path.exists():
        try:
            array = np.load(path, mmap_mode="r+")
            if array.shape == shape and array.dtype == np.float32:
                return array, path
        except (ValueError, OSError):  # it was cut short
            pass
    write_array(path, np.zeros(shape, np.float32))  # all of it: a disk that is full later would end the process
    return np.load(path, mmap_mode="r+"), path
