"""What a spectrum goes through on its way to the detector: air, rotation, the instrument; and the grid of the paper."""
import numpy as np
from scipy import constants, fft, ndimage

import paper

LIGHT = constants.speed_of_light / 1000  # [km/s]
STEP = paper.WAVELENGTH[1] - paper.WAVELENGTH[0]  # [Angstrom]
N_MARGIN = round(paper.MARGIN / STEP)  # [pixel]
WAVE = paper.WINDOW[0] - paper.MARGIN + STEP * np.arange(paper.N_PIXELS + 2 * N_MARGIN)  # window and margin
WINDOW = slice(N_MARGIN, N_MARGIN + paper.N_PIXELS)  # of WAVE
SIGMA_TO_FWHM = 2.3548


def to_air(wave):
    """Vacuum wavelengths in standard air [Angstrom], above 2000 Angstrom (Ciddor 1996, Appl. Opt. 35, 1566)."""
    return wave / refraction(wave)


def to_vacuum(wave):
    """Wavelengths in standard air in vacuum [Angstrom]; the inverse of `to_air` to 1e-9 Angstrom."""
    vacuum = wave
    for _ in range(3):
        vacuum = wave * refraction(vacuum)
    return vacuum


def refraction(wave):
    """Refractive index of standard air at a wavelength in vacuum [Angstrom]."""
    wavenumber2 = (1e4 / np.asarray(wave, float)) ** 2  # [1/micron^2]
    return 1 + 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2)


def degrade(flux, resolving_power, target):
    """Flux as a spectrograph of lower resolving power would see it.

    Parameters
    ----------
    flux : ndarray of shape (..., n_pixels)
        On `WAVE` or its window. Beyond its ends it is taken as constant, which touches the outermost pixels.
    resolving_power, target : float
        What the flux has, and what it shall have.

    Returns
    -------
    ndarray of the same shape; the same flux if `target` is not lower
    """
    if target >= resolving_power:
        return flux
    fwhm = np.mean(paper.WINDOW) * np.sqrt(target**-2 - resolving_power**-2)
    return ndimage.gaussian_filter1d(flux, fwhm / SIGMA_TO_FWHM / STEP, axis=-1, mode="nearest")
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
