"""Networks trained together as one are those trained alone, but for rounding."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from small_networks import CNN, LABEL, NEURONS, SETTINGS, X, build, weights

import autoencoder_grid_search
import autoencoder_training
import cnn_training
import paper
from training import backend, grid_search, loop, networks, perturbation, stacks
from workflow.units import Unit

SEEDS, REG_PARS = [1, 5], [1e-3, 0.0]  # the second has no regularisers
STRENGTHS = dataclasses.asdict(perturbation.Strengths(smooth=20, lines=3))


@pytest.fixture(autouse=True)
def eager():
    """To build the graphs of so many networks takes a minute."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def assert_alike(stacked, alone, rtol=1e-3):
    for name, values in weights(alone).items():
        for value, other in zip(values, weights(stacked)[name]):
            np.testing.assert_allclose(other, value, rtol=rtol, atol=1e-2 * rtol)


def test_regressors():
    encoded, settings = [X, X[:, ::-1].copy()], {**CNN, "epochs": 3}
    for (cnn, history), x, seed in zip(cnn_training.train_together(settings, encoded, LABEL, SEEDS), encoded, SEEDS):
        alone, expected = cnn_training.train(settings, x, LABEL, seed)
        np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
        assert_alike(cnn, alone)


CASES = [({"penalty": penalty, "penalty_weight": 0.1}, NEURONS) for penalty in paper.PENALTIES]
CASES += [
    ({"penalty": "jacobian", "penalty_weight": 0.1}, NEURONS - 1),  # estimated with random signs
    ({"lr": 1e-2}, NEURONS),
    ({"batch_size": 1000}, NEURONS),
    ({"perturb": STRENGTHS}, NEURONS),
    ({"perturb": STRENGTHS, "perturb_numbers": "tensorflow"}, NEURONS),
]


@pytest.mark.parametrize(("changed", "exact_up_to"), CASES, ids=lambda case: "-".join(map(str, case))
                         if isinstance(case, dict) else str(case))
def test_autoencoders(changed, exact_up_to, monkeypatch):
    monkeypatch.setattr(paper, "EXACT_JACOBIAN", exact_up_to)
    rows = np.arange(40)  # the last batch is smaller
    settings = {**SETTINGS, "batch_size": 32, "epochs": 2, **changed}
    all_settings = [{**settings, "reg_par": reg_par} for reg_par in REG_PARS]
    together = autoencoder_training.train_together(all_settings, X, SEEDS, rows=rows)
    for (autoencoder, history), own, seed in zip(together, all_settings, SEEDS):
        alone, expected = autoencoder_training.train(own, X, seed, rows=rows)
        assert set(history) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(history[name], values, rtol=2e-5, err_msg=name)
        assert_alike(autoencoder, alone)


@pytest.mark.skipif(not backend.has_bfloat16(), reason="this processor has no bfloat16: oneDNN would abort on some")
def test_autoencoders_in_bfloat16():
    settings = [{**SETTINGS, "precision": "bfloat16", "epochs": 2}] * 2
    for (autoencoder, history), seed in zip(autoencoder_training.train_together(settings, X, SEEDS), SEEDS):
        alone, expected = autoencoder_training.train(settings[0], X, seed)
        np.testing.assert_allclose(history["mse"], expected["mse"], rtol=0.01)
        assert {layer.compute_dtype for layer in autoencoder.layers} == {"float32"}
        assert networks.mse(autoencoder, X) == pytest.approx(networks.mse(alone, X), rel=0.01)


def test_fits_of_a_search():
    settings = [{"neurons_in": NEURONS, "reg_par": reg_par, "lr": 3e-3, "batch_size": 8, "epochs": 2, "fold": fold}
                for reg_par, fold in zip(REG_PARS, (1, 3))]
    rows = np.random.default_rng(0).permutation(len(X))[:-3]  # folds of 12, 11, 11, 11
    scores = grid_search.fold_scores([build(reg_par=s["reg_par"]) for s in settings], settings, X, rows)
    alone = [grid_search.fold_score(lambda s=s: build(reg_par=s["reg_par"]), s, X, X, rows) for s in settings]
    np.testing.assert_allclose(scores, alone, rtol=1e-4)
    assert len(set(scores)) == 2


def test_a_stack_of_memory_mapped_spectra_reads_them_in_blocks(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    settings = [{**SETTINGS, "batch_size": 8, "epochs": 1}] * 2
    largest, take = [], loop.take
    monkeypatch.setattr(loop, "BLOCK", 1)  # a batch at a time
    monkeypatch.setattr(loop, "take", lambda array, rows: largest.append(len(rows)) or take(array, rows))
    together = autoencoder_training.train_together(settings, mapped, SEEDS)
    assert set(largest) == {2 * 8}
    monkeypatch.undo()
    alone, _ = autoencoder_training.train(settings[0], X, SEEDS[0])
    assert_alike(together[0][0], alone)


# ---------------------------------------------------------------- which are trained together
def units(folder, settings):
    return [Unit(folder / f"unit_{k}.h5", own) for k, own in enumerate(settings)]


def test_autoencoders_that_differ_in_reg_par_alone_are_trained_together(tmp_path):
    others = [{"neurons_in": 64}, {"lr": 1e-2}, {"penalty": "none"}, {"precision": "bfloat16"}, {"perturb": STRENGTHS}]
    made = units(tmp_path, [{**SETTINGS, "reg_par": k / 10, **other} for other in [{}, *others] for k in range(3)])
    groups = stacks.groups(made, 2, autoencoder_training.alike)
    assert groups == sum(([made[k : k + 2], [made[k + 2]]] for k in range(0, 18, 3)), [])
    assert stacks.groups(made, 1, autoencoder_training.alike) == [[unit] for unit in made]


@pytest.mark.parametrize(("n_rows", "sizes"), [(45, [2, 6]), (44, [8])])
def test_fits_on_as_many_spectra_are_trained_together(n_rows, sizes, tmp_path):
    grid = {"neurons_in": [16], "reg_par": [1e-7, 1e-6], "lr": [1e-4]}
    made = grid_search.fit_units(tmp_path, grid, {"epochs": 1, "batch_size": 8}, (), 3)
    groups = stacks.groups(made, 9, grid_search.alike(n_rows))
    assert [len(group) for group in groups] == sizes and sorted(map(id, sum(groups, []))) == sorted(map(id, made))


@pytest.mark.parametrize("act", [autoencoder_grid_search, autoencoder_training, cnn_training])
def test_help_says_what_a_stack_is_for(act, capsys):
    with pytest.raises(SystemExit):
        act.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "as one network: for a GPU, with --jobs 1; a processor is faster without" in text
