"""What a spectrum goes through on its way to the detector: air, rotation, the instrument; and the grid of the paper."""
import numpy as np
from scipy import constants, fft, ndimage

import paper

LIGHT = constants.speed_of_light / 1000  # [km/s]
STEP = paper.WAVELENGTH[1] - paper.WAVELENGTH[0]  # [Angstrom]
N_MARGIN = round(paper.MARGIN / STEP)  # [pixel]
WAVE = paper.WINDOW[0] - paper.MARGIN + STEP * np.arange(paper.N_PIXELS + 2 * N_MARGIN)  # window and margin
WINDOW = slice(N_MARGIN, N_MARGIN + paper.N_PIXELS)  # of WAVE
MIDDLE = np.mean(paper.WINDOW)  # [Angstrom]
SIGMA_TO_FWHM = 2.3548  # of a Gaussian
LIMB_DARKENING = 0.6  # Gray 2008; the paper gives none


def to_air(wave):
    """Vacuum wavelengths in standard air [Angstrom], above 2000 Angstrom (Ciddor 1996, Appl. Opt. 35, 1566)."""
    return wave / _refraction(wave)


def to_vacuum(wave):
    """Wavelengths in standard air in vacuum [Angstrom]; the inverse of `to_air` to 1e-9 Angstrom."""
    vacuum = wave
    for _ in range(3):
        vacuum = wave * _refraction(vacuum)
    return vacuum


def _refraction(wave):
    wavenumber2 = (1e4 / np.asarray(wave, float)) ** 2  # [1/micron^2]
    return 1 + 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2)


def degrade(flux, resolving_power, target):
    """Flux (..., n_pixels), on `WAVE` or a part of it, at the resolving power `target`, or as it is if not lower."""
    if target >= resolving_power:
        return flux
    fwhm = MIDDLE * np.sqrt(target**-2 - resolving_power**-2)
    return ndimage.gaussian_filter1d(flux, fwhm / SIGMA_TO_FWHM / STEP, axis=-1, mode="nearest")


def rotation_kernel(vsini, step=STEP, middle=MIDDLE):
    """Gray's rotational profile with linear limb darkening, integrated over pixels (Gray 2008, Eq. 18.14).

    Its length is odd, its sum 1; `vsini` is in km/s, a pixel's width `step` and the wavelength `middle` in Angstrom.
    """
    limit = middle * vsini / LIGHT
    half = int(np.ceil(limit / step))
    x = np.clip((np.arange(-half, half + 2) - 0.5) * step / limit, -1, 1)
    area = (1 - LIMB_DARKENING) * (x * np.sqrt(1 - x**2) + np.arcsin(x))
    area += np.pi * LIMB_DARKENING / 2 * (x - x**3 / 3)
    return np.diff(area) / (np.pi * (1 - LIMB_DARKENING / 3))


def broaden(flux, vsini, resolving_power=paper.RESOLVING_POWER, step=STEP, middle=MIDDLE):
    """One spectrum (n_pixels,) at several v sin i [km/s]: rotation, then a Gaussian instrument, (n_vsini, n_pixels).

    It has an even number of pixels of `step` [Angstrom] and is broadened everywhere as at `middle` [Angstrom]. Its ends
    are joined, so that what lies closer to them than the kernels are wide is of no use.
    """
    n_pixels = len(flux)
    kernels = np.zeros((len(vsini), n_pixels))
    for kernel, velocity in zip(kernels, vsini):
        rotation = rotation_kernel(velocity, step, middle)
        half = len(rotation) // 2
        kernel[np.arange(-half, half + 1)] = rotation
    offsets = np.arange(-(n_pixels // 2), n_pixels // 2)
    instrument = np.exp(-0.5 * (offsets * step * resolving_power * SIGMA_TO_FWHM / middle) ** 2)
    transfer = fft.rfft(kernels) * fft.rfft(fft.ifftshift(instrument / instrument.sum()))
    return fft.irfft(fft.rfft(flux) * transfer, n=n_pixels)
