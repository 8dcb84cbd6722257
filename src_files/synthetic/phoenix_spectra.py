"""Spectra as the instrument would see them from model atmospheres."""
from dataclasses import dataclass

import joblib
import numpy as np
from scipy import fft
from tqdm import tqdm

import paper
from spectra.continuum import normalise
from spectra.transforms import LIGHT, N_MARGIN, SIGMA_TO_FWHM, STEP, broaden
from synthetic.phoenix_models import nodes_around
from workflow.files import BadInput, write_array

WIDEST = 0.02  # of a window, relative to its wavelength: it is broadened as at its middle
PIECE = 8  # nodes of the label grid at a time


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
                           "Angstrom: choose another --window, or the file of these models")
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
            spectra.append(normalise(broad)[N_MARGIN:-N_MARGIN])
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
                     for star in stars[piece]]
            yield joblib.delayed(synthesise)(mixed, [labels[rows, 3] for rows in rows_of[piece]], sampling)

    bar = tqdm(desc="spectra", total=len(labels), initial=len(labels) - len(order), unit="spectrum", disable=None)
    with bar:
        for piece, spectra in zip(pieces, joblib.Parallel(jobs, return_as="generator")(calls())):
            rows = np.concatenate(rows_of[piece])
            bad = ~(spectra > 0).all(axis=1)
            if bad.any():
                raise BadInput("the spectrum of Teff {:g}, log g {:g}, [M/H] {:g}, v sin i {:g} cannot be normalised: "
                               "look at its models".format(*labels[rows[bad][0]]))
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
