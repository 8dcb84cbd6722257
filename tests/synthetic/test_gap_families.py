"""The second family of gaps: another form, nothing at gap 0, one draw for one seed, and named in provenance.json."""
import json

import numpy as np
import pytest

import simulate_spectra
from synthetic import simulation
from synthetic.gap_families import FAMILIES, Growth

LABELS = np.array([[3000.0, 5.0, 0.0, 2.0], [3900.0, 4.8, -0.3, 12.0]])


def test_without_gap_every_family_is_the_synthetic_physics():
    expected = simulation.synthesise(LABELS, simulation.Physics.reference())
    for family in FAMILIES.values():
        nature = family.reference().perturbed(0.0, np.random.default_rng(1))
        assert np.array_equal(simulation.synthesise(LABELS, nature), expected)


def test_lines_saturate_at_the_central_depth():
    nature = Growth.reference().perturbed(1.0, np.random.default_rng([3, 2]))
    flux = nature.emergent(np.array([[4.9]]), np.array([[0.0, 1e-4, 1e9]]))[0]
    assert flux[0] == 1 and 0.80 <= nature.central_depth <= 0.95
    assert flux[1] == pytest.approx(1 - simulation.GRADIENT * 4.9e-4, abs=1e-8)  # weak lines as in the first family
    assert flux[2] == pytest.approx(1 - nature.central_depth, abs=1e-6)


def test_a_seed_is_one_gap_and_the_gap_scales_it():
    draws = [Growth.reference().perturbed(gap, np.random.default_rng([4, 2])) for gap in (1.0, 1.0, 0.5)]
    reference, n = Growth.reference(), len(Growth.reference().wave)
    assert np.array_equal(draws[0].log_gf, draws[1].log_gf)
    assert np.allclose(draws[0].wave[:n] - reference.wave, 2 * (draws[2].wave[:n] - reference.wave))


def test_the_command_names_the_family_and_does_not_take_one_for_the_other(tmp_path):
    few = ["--out", str(tmp_path), "--n-spectra", "4", "--n-observed", "2"]
    assert simulate_spectra.main([*few, "--gap-family", "growth"]) == 0
    assert json.loads((tmp_path / "provenance.json").read_text())["gap_family"] == "growth"
    assert simulate_spectra.main([*few, "--gap-family", "growth"]) == 0
    assert simulate_spectra.main(few) == 2
