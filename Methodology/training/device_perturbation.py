"""The perturbation of training/perturbation.py in TensorFlow, where the network is, with TensorFlow's random numbers.

A GPU waits for a processor that perturbs spectra. The formulae are the same, the random numbers are others: those of
the processor are a function of each spectrum's row, these of the seed and of how many batches were drawn before.
"""
import numpy as np

import paper
from spectra import dataset
from spectra.continuum import segments
from spectra.transforms import SIGMA_TO_FWHM
from training import perturbation
from training.backend import tf

NUMBERS = "tensorflow"  # of these random numbers, in the settings of a unit


class DevicePerturbation:
    """Perturbs batches for networks with these seeds, one, or one for each member of a stack."""

    def __init__(self, seeds, strengths):
        self.seeds, self.strengths = seeds, strengths
        self.step = tf.Variable(0, trainable=False, dtype=tf.int64)

    def before(self, terms):
        """The terms of a loss, as `loop.fit` takes them, of a network that sees perturbed spectra."""
        return lambda x, y: terms(self.perturb(x, self.step.assign_add(1)), y)

    def copy(self, flux, rows, epoch):
        """Perturb spectra as `perturbation.copies` wants it, by numbers that no batch had: (n_spectra, n_pixels)."""
        first = tf.constant((int(epoch) << 32) + int(rows[0]), tf.int64)
        return self.perturb(tf.constant(flux), first).numpy()

    def perturb(self, flux, number):
        """Perturb flux, (n_spectra, n_pixels), of a stack (n_spectra, n_members, n_pixels), by draw `number`."""
        n_pixels, n_spectra = flux.shape[-1], tf.shape(flux)[0]
        shapes = perturbation.n_random(n_pixels, self.strengths)
        draws = []
        for draw, n in zip((tf.random.stateless_normal, tf.random.stateless_uniform), shapes):
            keys = [tf.stack([tf.constant(seed, tf.int64), number]) for seed in self.seeds]
            draws.append(tf.reshape(tf.stack([draw((n_spectra, n), key) for key in keys], axis=1), (-1, n)))
        perturbed = perturb_by(tf.reshape(flux, (-1, n_pixels)), *draws, self.strengths)
        return tf.reshape(perturbed, tf.shape(flux))


def perturb_by(flux, normal, uniform, s):
    """What `perturbation.perturb_by` makes of the same flux, (n_spectra, n_pixels), and random numbers."""
    n_pixels = flux.shape[1]
    white, knots, rest = normal[:, :n_pixels], normal[:, n_pixels:-3], normal[:, -3:, None]
    common, shift, tilt = rest[:, 0], rest[:, 1], rest[:, 2]
    perturbed = _shifted(flux, s.shift * shift)
    change = tf.exp(s.opacity * _field(knots, s.smooth)[:, :n_pixels] + s.common * common) - 1
    change *= 1 - perturbed
    change += _extra_lines(tf.reshape(uniform[:, 1:], (tf.shape(flux)[0], 3, s.lines)), n_pixels, s) * perturbed
    perturbed /= tf.maximum(1 + change, 0.1)
    perturbed *= 1 + s.tilt * tilt * np.linspace(-1, 1, n_pixels, dtype=np.float32)
    perturbed *= _envelope(flux) / _envelope(perturbed)
    sigma = s.least_noise + (s.noise - s.least_noise) * uniform[:, :1]
    return tf.clip_by_value(perturbed + white * tf.sqrt(tf.maximum(perturbed, 0)) * sigma, *dataset.FLUX_RANGE)


def _shifted(flux, shift):
    n_pixels = flux.shape[1]
    whole = tf.floor(shift)
    left = tf.range(n_pixels)[None] - tf.cast(whole, tf.int32) - 1  # of the two pixels between which it falls
    before, here = (tf.gather(flux, tf.clip_by_value(left + k, 0, n_pixels - 1), batch_dims=1) for k in (0, 1))
    return tf.where((left >= 0) & (left + 1 < n_pixels), here + (shift - whole) * (before - here), flux)


def _field(knots, smooth):
    phase = np.pi / 2 * np.arange(smooth, dtype=np.float32) / smooth
    values = knots[:, :-1, None] * np.cos(phase) + knots[:, 1:, None] * np.sin(phase)
    return tf.reshape(values, (-1, values.shape[1] * smooth))


def _extra_lines(uniform, n_pixels, s):
    """Line by line, so that memory stays that of a few arrays of spectra."""
    pixels = np.arange(n_pixels, dtype=np.float32)
    reach = perturbation.reach_of(s)
    summed = tf.zeros((tf.shape(uniform)[0], n_pixels))
    for k in range(s.lines):
        centre, height = n_pixels * uniform[:, 0, k : k + 1], s.strength * uniform[:, 1, k : k + 1]
        sigma = paper.RESOLUTION_ELEMENT / SIGMA_TO_FWHM * (1 + (s.width - 1) * uniform[:, 2, k : k + 1])
        near = tf.abs(pixels - tf.floor(centre)) <= reach
        summed += tf.where(near, height * tf.exp(-0.5 * tf.square((pixels - centre) / sigma)), 0.0)
    return summed


def _envelope(flux):
    n_segments, length, n_average, rank, centres = segments(flux.shape[1], 3)
    cut = tf.reshape(flux[:, : n_segments * length], (-1, n_segments, length // n_average, n_average))
    averages = tf.reduce_mean(cut, axis=-1)
    levels = tf.math.top_k(averages, averages.shape[-1] - rank).values[..., -1]
    quadratic = levels @ np.linalg.pinv(np.vander(centres, 3)).T.astype(np.float32)
    pixels = np.linspace(-1, 1, flux.shape[1], dtype=np.float32)
    a, b, c = (quadratic[:, k : k + 1] for k in range(3))
    return tf.maximum((a * pixels + b) * pixels + c, 0.1)
