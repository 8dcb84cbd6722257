"""Simulated stars as a telescope sees them, and where real files lie, for the tests that prepare spectra."""
import os
from pathlib import Path

import numpy as np
import pandas as pd

from spectra.transforms import LIGHT, to_air
from synthetic import simulation as sim

PUBLISHED = Path(__file__).resolve().parents[1].parent / "shared" / "published"
REAL = Path(os.environ.get("REAL_FILES", PUBLISHED / "real_files"))
PHYSICS = sim.Physics.reference()
LABELS = np.array([[3300, 4.9, -0.2, 3.0]])
SMOOTH = next(smooth for _, smooth in sim.smooth_spectra(LABELS, PHYSICS))[0]
NATIVE = np.arange(8793.5, 8842.4, 0.03)  # [Angstrom] in vacuum, in the observer's frame


def observe(rv=30.0, snr=100.0, smooth=SMOOTH, seed=0, blaze=lambda x: 0.6 + 0.25 * x - 0.2 * x**2):
    """Flux of a star on NATIVE: moving, behind a blaze, in counts, with noise."""
    flux = np.interp(NATIVE, sim.WAVE * (1 + rv / LIGHT), smooth)
    noise = np.random.default_rng(seed).normal(size=len(NATIVE)) * np.sqrt(flux) / snr
    return 1e4 * (flux + noise) * blaze(np.linspace(-1, 1, len(NATIVE)))


def write(path, flux, wave=None):
    """A CSV in air without errors, as a new user has it."""
    wave = to_air(NATIVE) if wave is None else wave
    pd.DataFrame({"wavelength_air": wave, "flux": flux}).to_csv(path, index=False)
    return path
