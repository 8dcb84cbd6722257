"""Broadening by rotation and by the spectrograph, of simulated spectra and of model atmospheres alike."""


import numpy as np
from scipy import fft

import paper
from spectra.continuum import LIGHT, SIGMA_TO_FWHM, STEP

__all__ = ["LIMB_DARKENING", "MIDDLE", "broaden", "rotation_kernel"]

LIMB_DARKENING = 0.6  # Gray 2008; the paper gives none
MIDDLE = np.mean(paper.WINDOW)  # [Angstrom]


def rotation_kernel(vsini, step=STEP, middle=MIDDLE):
    """Gray's rotational profile with linear limb darkening, integrated over pixels (Gray 2008, Eq. 18.14).

    Parameters
    ----------
    vsini : float
        [km/s]
    step : float
        Width of a pixel [Angstrom].
    middle : float
        Wavelength [Angstrom] at which it is broadened.

    Returns
    -------
    numpy.ndarray, odd length, sum 1
    """
    limit = middle * vsini / LIGHT
    half = int(np.ceil(limit / step))
    x = np.clip((np.arange(-half, half + 2) - 0.5) * step / limit, -1, 1)
    area = (1 - LIMB_DARKENING) * (x * np.sqrt(1 - x**2) + np.arcsin(x))
    area += np.pi * LIMB_DARKENING / 2 * (x - x**3 / 3)
    return np.diff(area) / (np.pi * (1 - LIMB_DARKENING / 3))


def broaden(spectrum, vsini, resolving_power=paper.RESOLVING_POWER, step=STEP, middle=MIDDLE):
    """One spectrum at several v sin i: rotation, then a Gaussian instrument.

    Parameters
    ----------
    spectrum : numpy.ndarray, shape (n_pixels,)
        In steps of `step` [Angstrom], an even number of pixels. Its ends are joined, so that what lies closer to them
        than the kernels are wide is of no use.
    vsini : sequence of float
        [km/s]
    resolving_power : float
        At `middle` [Angstrom], which is where all of the spectrum is broadened.

    Returns
    -------
    numpy.ndarray, shape (n_vsini, n_pixels)
    """
    n_pixels = len(spectrum)
    kernels = np.zeros((len(vsini), n_pixels))
    for kernel, velocity in zip(kernels, vsini):
        rotation = rotation_kernel(velocity, step, middle)
        half = len(rotation) // 2
        kernel[np.arange(-half, half + 1)] = rotation
    offsets = np.arange(-(n_pixels // 2), n_pixels // 2)
    instrument = np.exp(-0.5 * (offsets * step * resolving_power * SIGMA_TO_FWHM / middle) ** 2)
    transfer = fft.rfft(kernels) * fft.rfft(fft.ifftshift(instrument / instrument.sum()))
    return fft.irfft(fft.rfft(spectrum) * transfer, n=n_pixels)
