"""Simulated stars as a telescope sees them, and where real files lie, for the tests that prepare spectra."""
import os
from pathlib import Path

from synthetic import raw_star
from synthetic import simulation as sim
from synthetic.raw_star import LABELS, NATIVE, write  # noqa: F401

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "published"
REAL = Path(os.environ.get("REAL_FILES", PUBLISHED / "real_files"))
PHYSICS = sim.Physics.reference()
SMOOTH = raw_star.smooth_spectrum()


def observe(rv=30.0, snr=100.0, smooth=SMOOTH, seed=0, **options):
    """Flux of a star on NATIVE: moving, behind a blaze, in counts, with noise."""
    return raw_star.observe(smooth, rv, snr, seed, **options)
