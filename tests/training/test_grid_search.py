"""The resumable search gives the scores of scikit-learn's GridSearchCV, and the paper's rule picks among them."""
import functools
import gc
import re
import time

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import Ridge, SGDRegressor
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, ParameterGrid

import autoencoder_grid_search
import cnn_training
import paper
from autoencoder_grid_search import select
from inference import mode
from training import backend, grid_search, loop, networks
from workflow.command_line import parse
from workflow.units import finish

RNG = np.random.default_rng(4)
X = RNG.uniform(0, 1, (32, 40)).astype(np.float32)
Y = (X[:, :3].sum(axis=1) + RNG.normal(0, 0.3, 32)).astype(np.float32)


class Autoencoder(BaseEstimator):
    """An autoencoder as scikit-learn wants it, trained by our loop."""

    def __init__(self, neurons_in=None, reg_par=None, lr=None):
        self.neurons_in, self.reg_par, self.lr = neurons_in, reg_par, lr

    def fit(self, x, y):
        self.network_ = networks.build_autoencoder(self.neurons_in, self.reg_par, x.shape[1], seed=3)
        loop.fit(self.network_, self.network_.squared_error, backend.adam(self.lr), x, x, 16, 2)
        return self

    def predict(self, x):
        return networks.predict(self.network_, x)


def assert_same(table, grid, estimator, x, y):
    search = GridSearchCV(estimator, grid, cv=4, scoring="neg_mean_squared_error", refit=False)
    reference = search.fit(x, y).cv_results_
    assert table[list(grid)].to_dict("records") == list(reference["params"])
    np.testing.assert_allclose(table["mse_mean"], -reference["mean_test_score"], rtol=1e-6)
    np.testing.assert_allclose(table["mse_std"], reference["std_test_score"], rtol=1e-4)
    for fold in range(4):
        np.testing.assert_allclose(table[f"mse_fold_{fold}"], -reference[f"split{fold}_test_score"], rtol=1e-6)
    assert table["rank"].tolist() == reference["rank_test_score"].tolist()


@pytest.fixture
def eager():
    """Sixteen fits would spend all their time on building graphs."""
    tf.config.run_functions_eagerly(True)
    gc.freeze()  # clear_session collects garbage at every fit
    yield
    gc.unfreeze()
    tf.config.run_functions_eagerly(False)


@pytest.mark.slow
def test_autoencoders_score_as_in_grid_search_cv(tmp_path, eager):
    grid = {"neurons_in": [32], "reg_par": [1e-5], "lr": [1e-3, 1e-2]}
    np.save(tmp_path / "flux.npy", X)
    fixed = {"epochs": 2, "batch_size": 16}
    units = grid_search.fit_units(tmp_path, grid, fixed, (tmp_path / "flux.npy",), 3)
    for unit in reversed(units):
        rows = np.arange(len(X))
        build = functools.partial(networks.build_autoencoder, 32, 1e-5, X.shape[1], unit.seed)
        finish(unit, time.time(), {"mse": grid_search.fold_score(build, unit.settings, X, X, rows)})
    table = grid_search.table(units)
    assert_same(table, grid, Autoencoder(), X, X)
    assert table["mse_mean"].nunique() == 2 and (table["epochs"] == 2).all()


def test_table_is_that_of_grid_search_cv(tmp_path):
    # max_iter does nothing here, so that every score is there twice
    grid = {"alpha": [10.0, 0.1, 1.0], "max_iter": [100, 200]}
    scores = GridSearchCV(Ridge(solver="cholesky"), grid, cv=4, scoring="neg_mean_squared_error").fit(X, Y).cv_results_
    for k, unit in enumerate(grid_search.fit_units(tmp_path, grid, {}, (), 3)):
        mse = -scores[f"split{unit.settings['fold']}_test_score"][k // 4]
        finish(unit, time.time(), {"mse": mse})
    table = grid_search.table(grid_search.fit_units(tmp_path, grid, {}, (), 3))
    assert_same(table, grid, Ridge(solver="cholesky"), X, Y)
    assert sorted(table["rank"]) == [1, 1, 3, 3, 5, 5]


def test_units_are_every_combination_on_every_fold(tmp_path):
    grid = {"neurons_in": [64, 96], "reg_par": [1e-7], "lr": [1e-4, 1e-3]}
    units = grid_search.fit_units(tmp_path, grid, {"epochs": 2}, (), 3)
    assert len({unit.path for unit in units}) == len({tuple(unit.settings.values()) for unit in units}) == 16
    assert [unit.settings["fold"] for unit in units] == [0, 1, 2, 3] * 4


def test_what_diverges_scores_infinity_and_no_spectra_are_copied(monkeypatch):
    given = []

    def diverge(model, terms, optimizer, x, y, *args, rows):
        given.append((x is X, y is X, rows.tolist()))
        raise loop.Diverged

    monkeypatch.setattr(loop, "fit", diverge)
    settings = {"lr": 1e-3, "batch_size": 16, "epochs": 2, "fold": 1}
    build = functools.partial(networks.build_autoencoder, 16, 1e-5, 40)
    assert grid_search.fold_score(build, settings, X, X, np.arange(8, 16)) == np.inf
    assert given == [(True, True, [8, 9, 12, 13, 14, 15])]


# ---------------------------------------------------------------- choice
def frame(mse, lr):
    return pd.DataFrame({"neurons_in": range(len(mse)), "lr": lr, "mse_mean": mse})


@pytest.mark.parametrize(
    ("mse", "lr", "kept"),
    [
        ([5.0, 1.0, 4.0, 2.0, 3.0], 1e-4, [1, 3]),  # the median itself is not kept
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1e-4, 1e-3, 1e-4, 1e-4, 1e-4, 1e-3], [0, 2]),  # median of the whole grid
        ([2.0, 1.0, 9.0, 1.0, 9.0], 1e-4, [1, 3]),  # ties below it keep the grid's order
        ([1.0, 2.0, 3.0], [1e-3, 1e-4, 1e-4], []),
        ([7.0], 1e-4, [0]),
    ],
)
def test_the_papers_rule(mse, lr, kept):
    assert select(frame(mse, lr))["neurons_in"].tolist() == kept


COMMANDS = [re.match(r"(.*)#.* (\d+) fits, (\d+) autoencoders", command).groups()
            for command in re.sub(r"\\?\n", " ", autoencoder_grid_search.__doc__).split("autoencoder_grid_search.py")
            if "#" in command]


@pytest.mark.parametrize(("flags", "n_fits", "n_kept"), COMMANDS, ids=["published", "ours"])
def test_a_documented_grid_leaves_as_many_autoencoders_and_regressors_as_is_said(flags, n_fits, n_kept):
    args = parse(None, flags.split(), autoencoder_grid_search.add_arguments)
    n = len(ParameterGrid(autoencoder_grid_search.grid_of(args)))
    kept = len(select(frame(np.random.default_rng(n).permutation(n) + 1.0, paper.KEPT_LR)))
    assert (4 * n, kept) == (int(n_fits), int(n_kept)) and bool(flags.strip()) == (kept == paper.N_AUTOENCODERS)
    ensemble = kept * paper.REPEATS  # of one parameter
    act_4 = cnn_training.__doc__.replace("\n", " ")
    best = len(mode.best(np.arange(ensemble)))
    for said in (kept, 4 * ensemble, f"{ensemble} a parameter", best):
        assert f" {said}" in act_4


def test_keep_takes_the_best_whatever_their_learning_rate():
    table = frame([5.0, 1.0, 4.0, 2.0], [1e-4, 1e-3, 1e-4, 1e-4])
    assert select(table, keep=1)["neurons_in"].tolist() == [1]
    assert select(table, keep=3)["neurons_in"].tolist() == [1, 3, 2]
    assert select(table, keep=9)["neurons_in"].tolist() == [1, 3, 2, 0]


# ---------------------------------------------------------------- halving
PLANS = [(25, 15), (9, 9), (4, 3), (1, 15), (30, 2)]


@pytest.mark.parametrize(("n", "epochs"), PLANS)
def test_halving_goes_as_that_of_scikit_learn(n, epochs):
    grid = {"alpha": np.logspace(-3, 3, n).tolist()}
    halving = HalvingGridSearchCV(
        SGDRegressor(tol=None, random_state=0), grid, resource="max_iter", max_resources=epochs, cv=2
    ).fit(X, Y)
    assert grid_search.halving_rounds(n, epochs) == list(zip(halving.n_candidates_, halving.n_resources_))


def test_what_diverged_is_never_kept_and_what_is_left_after_halving_is():
    table = frame([np.inf, 1.0, np.inf, 2.0], [1e-4] * 4)
    assert select(table, keep=3)["neurons_in"].tolist() == [1, 3]
    assert select(table)["neurons_in"].tolist() == [1, 3]  # the median of the whole grid is infinite
    assert select(frame([np.inf], [1e-4])).empty and select(table, halved=True)["neurons_in"].tolist() == [1, 3]
    assert select(frame([3.0, 1.0, 2.0], [1e-4, 1e-4, 1e-3]), halved=True)["neurons_in"].tolist() == [1, 0]
