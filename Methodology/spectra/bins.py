"""Wider pixels, in which those that cannot be used have no weight; and the noise of a spectrum from itself."""
import numpy as np

A_LINE = 3  # bins that a resolution element is to have


def pixels_a_bin(resolving_power, middle, step):
    """How many pixels of `step` [Angstrom] to average at the wavelength `middle`."""
    return max(1, round(middle / resolving_power / step / A_LINE))


def binned(flux, pixels):
    """Means of `pixels` neighbours over those that are finite, (n, n_pixels) to (n, n_bins), and how many those are.

    A bin without any is NaN. The last pixels that fill no bin are left out.
    """
    n_bins = flux.shape[1] // pixels
    parts = np.asarray(flux[:, : n_bins * pixels], float).reshape(len(flux), n_bins, pixels)
    finite = np.isfinite(parts)
    counts = finite.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(finite, parts, 0).sum(axis=-1) / counts, counts


def noise_of(flux):
    """Standard deviation of the noise of a pixel, of spectra (n, n_pixels) that are sampled finely: (n,).

    The median size of second differences, in which lines of many pixels hardly show; 6 is the variance of 1, -2, 1.
    """
    second = flux[:, 2:] - 2 * flux[:, 1:-1] + flux[:, :-2]
    return 1.4826 * np.nanmedian(np.abs(second), axis=1) / np.sqrt(6)


def variance_of(flux, counts, snr):
    """Variance of bins of `counts` pixels, (n, n_bins), of a signal to noise `snr` (n,) a pixel at the continuum.

    Photon noise; infinite where no pixel can be used.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counts > 0, np.maximum(flux, 0.05) / np.asarray(snr, float)[:, None] ** 2 / counts, np.inf)
