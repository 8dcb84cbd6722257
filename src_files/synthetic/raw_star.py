"""One simulated star as an instrument leaves it: moving, in air, in counts, behind a blaze, with noise."""
import numpy as np
import pandas as pd

from spectra.transforms import LIGHT, to_air
from synthetic import simulation
from workflow.files import write_csv

LABELS = np.array([[3300, 4.9, -0.2, 3.0]])  # Teff [K], log g [dex], [M/H] [dex], v sin i [km/s]
NATIVE = np.arange(8793.5, 8842.4, 0.03)  # [Angstrom] in vacuum, in the observer's frame


def smooth_spectrum(labels=LABELS):
    """The star at rest, without noise, on simulation.WAVE."""
    return next(smooth for _, smooth in simulation.smooth_spectra(labels, simulation.Physics.reference()))[0]


def observe(smooth, rv=30.0, snr=100.0, seed=0, blaze=lambda x: 0.6 + 0.25 * x - 0.2 * x**2):
    """Counts on NATIVE of a star that moves at `rv` [km/s]."""
    flux = np.interp(NATIVE, simulation.WAVE * (1 + rv / LIGHT), smooth)
    noise = np.random.default_rng(seed).normal(size=len(NATIVE)) * np.sqrt(flux) / snr
    return 1e4 * (flux + noise) * blaze(np.linspace(-1, 1, len(NATIVE)))


def write(path, flux, wave=None):
    """A CSV in air without errors, as a new user has it."""
    wave = to_air(NATIVE) if wave is None else wave
    write_csv(path, pd.DataFrame({"wavelength_air": wave, "flux": flux}).round(4))
    return path
