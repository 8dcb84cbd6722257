"""Perturbed spectra: what a model of a star may have wrong, drawn at random, for training that withstands the gap.

An autoencoder that has to give back the spectrum as it was is a denoising one (Vincent et al. 2010, JMLR 11, 3371);
with small white noise that is a contractive penalty on the reconstruction (Alain & Bengio 2014, JMLR 15, 3743). Here
the disturbance is large, and like what the gap may be.
"""
from dataclasses import dataclass

import numpy as np

import paper
from spectra import dataset
from spectra.continuum import upper_levels
from spectra.transforms import SIGMA_TO_FWHM
from workflow.files import chunks, take

COPIES = 4  # of each encoding, for the regressors
REACH = 3  # standard deviations of a line's profile that are drawn
PIECE = 64  # spectra perturbed at a time, for the cache


@dataclass(frozen=True)
class Strengths:
    """How strong each part of a perturbation is; 0 changes nothing. Ours, chosen on simulated gap seeds 0 to 2."""

    opacity: float = 0.5  # [ln] rms of a random field on that of lines: lists are off by tens of per cent, or more
    smooth: int = 200  # [pixel] between its knots: wider than the lines of fast rotators, whose shape is not in doubt
    common: float = 0.5  # [ln] rms of a factor on all opacity: the molecule that rules the window is off as a whole
    lines: int = 15  # that the model does not know, one in about 2 Angstrom
    strength: float = 0.6  # their largest opacity at the centre, a depth of 0.38
    width: float = 3.0  # [resolution element] of the widest one; the narrowest has 1
    shift: float = 1.0  # [pixel] rms, 0.34 km/s: what the shift to rest leaves, with wavelengths of lines that are off
    tilt: float = 0.02  # rms, middle to either end: left of the blaze before the continuum is divided out
    noise: float = 1 / paper.MIN_SNR  # [1/SNR] of the noisiest spectrum, per pixel at the continuum
    least_noise: float = 1 / 400  # of the least noisy one


def perturb(flux, rows, epoch, seed, strengths=Strengths()):
    """Perturb normalised spectra: a function of the seed, the epoch and each spectrum's row alone.

    In this order: a shift, linearly interpolated; the opacity of lines times the exponential of a random field and of
    a factor, with further lines added; a tilt; the continuum back to where it was; photon noise. Opacity X is that of
    Minnaert's interpolation formula, by which a line has the depth 1 - flux = X / (1 + X): the depth of a shallow one
    is multiplied by the factor itself, a deep one saturates. `flux`, float32 of shape (n_spectra, n_pixels), is of
    these `rows` of the set; it is not changed, and the result lies within `dataset.FLUX_RANGE` as it does.
    """
    perturbed = np.empty_like(flux)
    for start in range(0, len(flux), PIECE):
        piece = slice(start, start + PIECE)
        normal, uniform = _draw(rows[piece], epoch, seed, flux.shape[1], strengths)
        perturbed[piece] = perturb_by(flux[piece], normal, uniform, strengths)
    return perturbed


def copies(encode, perturb, flux, epoch):
    """Encodings (COPIES, n_spectra, n_latent) of perturbed copies, those of as many epochs from `epoch` on.

    They are made by encode(flux) and perturb(flux, rows, epoch) of flux, (n_spectra, n_pixels), perhaps memory-mapped.
    """
    return np.array([np.concatenate([encode(perturb(take(flux, rows), rows, epoch + k)) for rows in chunks(len(flux))])
                     for k in range(COPIES)])


def examples(encoded, label, rows):
    """Encodings, (n_examples, n_latent), and labels of spectra, of every copy where `encoded` is made by `copies`."""
    x = encoded[:, rows] if encoded.ndim == 3 else encoded[None, rows]
    return np.concatenate(x), np.tile(label[rows], len(x))


def _draw(rows, epoch, seed, n_pixels, strengths):
    """Random numbers for each row: standard normal and uniform ones."""
    normal, uniform = (np.empty((len(rows), n), np.float32) for n in n_random(n_pixels, strengths))
    for k, row in enumerate(rows):  # counters of one row never reach those of another
        random = np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, row]))
        random.standard_normal(out=normal[k], dtype=np.float32)
        random.random(out=uniform[k], dtype=np.float32)
    return normal, uniform


def n_random(n_pixels, strengths):
    """How many normal and how many uniform random numbers a spectrum takes."""
    return n_pixels + -(-n_pixels // strengths.smooth) + 1 + 3, 3 * strengths.lines + 1


def perturb_by(flux, normal, uniform, s):
    """Perturb flux, (n_spectra, n_pixels), by random numbers, (n_spectra, ...), of which the first may be changed."""
    n_pixels = flux.shape[1]
    white, knots, (common, shift, tilt) = normal[:, :n_pixels], normal[:, n_pixels:-3], normal[:, -3:].T[..., None]
    perturbed = shifted(flux, s.shift * shift[:, 0])
    change = np.exp(s.opacity * field(knots, s.smooth)[:, :n_pixels] + s.common * common) - 1
    change *= 1 - perturbed
    change += extra_lines(uniform[:, 1:].reshape(len(flux), 3, s.lines), n_pixels, s) * perturbed
    perturbed /= np.maximum(1 + change, 0.1)  # flux below 0 or far above 1 could bring it to 0
    perturbed *= 1 + s.tilt * tilt * np.linspace(-1, 1, n_pixels, dtype=np.float32)
    perturbed *= envelope(flux) / envelope(perturbed)
    white *= np.sqrt(np.maximum(perturbed, 0)) * (s.least_noise + (s.noise - s.least_noise) * uniform[:, :1])
    perturbed += white
    return np.clip(perturbed, *dataset.FLUX_RANGE)


def shifted(flux, shift):
    """Spectra moved to the right, linearly interpolated; the outermost pixels stay as they were."""
    moved = np.array(flux, np.float32)
    whole = np.floor(shift).astype(int)
    for new, old, k, share in zip(moved, flux, whole, shift - whole):
        first, last = max(k + 1, 0), min(len(old) + k, len(old))
        if first < last:
            new[first:last] = old[first - k : last - k]
            new[first:last] += share * (old[first - k - 1 : last - k - 1] - old[first - k : last - k])
    return moved


def field(knots, smooth):
    """Random field through knots `smooth` pixels apart; its variance is everywhere that of the knots."""
    phase = np.pi / 2 * np.arange(smooth, dtype=np.float32) / smooth
    values = knots[:, :-1, None] * np.cos(phase) + knots[:, 1:, None] * np.sin(phase)
    return values.reshape(len(knots), -1)


def reach_of(strengths):
    """How many pixels of a line are drawn to either side."""
    return int(REACH * strengths.width * paper.RESOLUTION_ELEMENT / SIGMA_TO_FWHM) + 1


def extra_lines(uniform, n_pixels, strengths):
    """Opacity of Gaussian lines at random places, of random strength and width, (n_spectra, n_pixels)."""
    sigma = paper.RESOLUTION_ELEMENT / SIGMA_TO_FWHM * (1 + (strengths.width - 1) * uniform[:, 2, :, None])
    centre, height = n_pixels * uniform[:, 0, :, None], strengths.strength * uniform[:, 1, :, None]
    reach = reach_of(strengths)
    middle, around = np.floor(centre), np.arange(-reach, reach + 1, dtype=np.float32)
    opacity = height * np.exp(-0.5 * np.square((around - (centre - middle)) / sigma))
    padded = n_pixels + 2 * reach + 1
    first = middle.astype(int) + padded * np.arange(len(uniform))[:, None, None]
    place = first + np.arange(2 * reach + 1)
    summed = np.bincount(place.ravel(), opacity.ravel(), len(uniform) * padded).reshape(-1, padded)
    return summed[:, reach : reach + n_pixels].astype(np.float32)


def envelope(flux):
    """Pseudo-continuum (n_spectra, n_pixels) of flux alike: `continuum.envelope`, above 0 and in single precision."""
    levels, centres = upper_levels(flux, 3)
    quadratic = (levels @ np.linalg.pinv(np.vander(centres, 3)).T).astype(np.float32).T[..., None]
    pixels = np.linspace(-1, 1, flux.shape[1], dtype=np.float32)  # no large product of matrices, which wakes all cores
    return np.maximum((quadratic[0] * pixels + quadratic[1]) * pixels + quadratic[2], 0.1)
