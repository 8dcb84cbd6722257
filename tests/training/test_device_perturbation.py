"""Spectra perturbed by TensorFlow: the processor's formulae, other random numbers."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from spectra import dataset
from training import device_perturbation, perturbation
from training.device_perturbation import DevicePerturbation
from training.perturbation import Strengths

RNG = np.random.default_rng(0)
FLUX = np.clip(RNG.normal(0.8, 0.1, (6, 90)), 0, 1).astype(np.float32)


def only(**strengths):
    nothing = Strengths(opacity=0, common=0, lines=0, shift=0, tilt=0, noise=0, least_noise=0)
    return dataclasses.replace(nothing, **strengths)


@pytest.mark.parametrize("n_pixels", [2, 60, 701, 3501])
@pytest.mark.parametrize("strengths", [
    Strengths(), only(), only(shift=1), only(shift=300), only(opacity=0.5, smooth=50), only(common=0.5), only(lines=3),
    only(tilt=0.5), only(noise=0.1, least_noise=0.01), Strengths(lines=0),
], ids=lambda strengths: "-".join(f"{name}{value:g}" for name, value in dataclasses.asdict(strengths).items() if value))
def test_same_random_numbers_make_the_same_spectra(strengths, n_pixels):
    flux = RNG.uniform(0, 1.2, (5, n_pixels)).astype(np.float32)
    n_normal, n_uniform = perturbation.n_random(n_pixels, strengths)
    normal, uniform = (draw.astype(np.float32) for draw in (RNG.normal(size=(5, n_normal)), RNG.random((5, n_uniform))))
    here = device_perturbation.perturb_by(*map(tf.constant, (flux, normal, uniform)), strengths).numpy()
    there = perturbation.perturb_by(flux, normal.copy(), uniform, strengths)
    np.testing.assert_allclose(here, there, atol=2e-5)


def test_is_a_function_of_the_seed_and_the_draw_alone():
    first, again, other = (DevicePerturbation([seed], Strengths()) for seed in (5, 5, 6))
    perturbed = first.perturb(FLUX, tf.constant(3, tf.int64)).numpy()
    np.testing.assert_array_equal(again.perturb(FLUX, tf.constant(3, tf.int64)), perturbed)
    for differing in (other.perturb(FLUX, tf.constant(3, tf.int64)), again.perturb(FLUX, tf.constant(4, tf.int64))):
        assert (differing.numpy() != perturbed).mean() > 0.9
    assert perturbed.min() >= dataset.FLUX_RANGE[0] and perturbed.max() <= dataset.FLUX_RANGE[1]


def test_members_of_a_stack_have_the_numbers_that_they_have_alone():
    given = []
    stack = DevicePerturbation([5, 6], Strengths()).before(lambda x, y: given.append((x.numpy(), y)))
    alone = [DevicePerturbation([seed], Strengths()).before(lambda x, y: given.append((x.numpy(), y)))
             for seed in (5, 6)]
    x = np.stack([FLUX, FLUX[::-1]], axis=1)
    for _ in range(2):  # two batches
        stack(tf.constant(x), "clean")
        for k, terms in enumerate(alone):
            terms(tf.constant(x[:, k]), "clean")
    assert {y for _, y in given} == {"clean"}
    for together, *singles in (given[:3], given[3:]):
        np.testing.assert_allclose(together[0], np.stack([x for x, _ in singles], axis=1), atol=1e-6)
    assert (given[0][0] != given[3][0]).mean() > 0.9  # other numbers in the next batch


def test_copies_have_numbers_of_their_own():
    device = DevicePerturbation([5], Strengths())
    rows = np.arange(6)
    pairs = [device.copy(FLUX, rows + first, epoch) for first, epoch in ((0, 120), (6, 120), (0, 121))]
    pairs.append(device.perturb(FLUX, tf.constant(1, tf.int64)).numpy())
    np.testing.assert_array_equal(device.copy(FLUX, rows, 120), pairs[0])
    for k, first in enumerate(pairs):
        assert all((first != second).mean() > 0.9 for second in pairs[:k])
