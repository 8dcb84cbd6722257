"""GridSearchCV that survives being killed: one unit of work a fit, the table collected from the sidecars.

Used for the autoencoders (act 1) and for the hyper-parameters of the CNNs (act 4, --tune). Scores are those
of scikit-learn's `GridSearchCV` with the same estimator, grid and folds.
"""
import numpy as np
import pandas as pd
from scikeras.wrappers import KerasRegressor
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import KFold, ParameterGrid

import artifacts
import networks
import paper
from artifacts import Unit

__all__ = ["Regressor", "fit_units", "fold_score", "halving_rounds", "regressor", "table"]


class Regressor(KerasRegressor):
    """KerasRegressor that does not search its targets for classes, which takes more memory than they do."""

    def _type_of_target(self, y):
        return "continuous" if y.ndim == 1 else "continuous-multioutput"


def regressor(build, searched, **fixed):
    """Wrap a network for scikit-learn.

    Parameters
    ----------
    build : callable
        Returns the compiled network; its arguments are `searched` and those of `fixed` that it takes.
    searched : list of str
        Arguments that the search sets.
    **fixed
        Further arguments of `build`, and `epochs` and `batch_size` of the training.

    Returns
    -------
    Regressor
    """
    return Regressor(build, **dict.fromkeys(searched), **fixed, verbose=0)


def fit_units(folder, grid, fixed, inputs, seed, combinations=None):
    """List the fits of a search: combinations of the grid on every fold.

    Parameters
    ----------
    folder : Path
    grid : dict of str to list
    fixed : dict
        Settings that all fits share, such as the epochs.
    inputs : tuple of Path
    seed : int
    combinations : list of int, optional
        Their places in the grid; default all.

    Returns
    -------
    list of Unit
    """
    return [
        Unit(folder / f"combination_{c}_fold_{fold}.json", {**combination, **fixed, "fold": fold}, inputs, seed)
        for c, combination in enumerate(ParameterGrid(grid))
        if combinations is None or c in combinations
        for fold in range(paper.CV_FOLDS)
    ]


def halving_rounds(n_combinations, epochs, factor=3):
    """Plan a search by successive halving: many combinations for few epochs, the best third of them for thrice as many.

    The plan is that of scikit-learn's `HalvingGridSearchCV` with the epochs as its resource.

    Returns
    -------
    list of (int, int)
        Combinations and epochs of every round.
    """
    n_rounds, power = 1, factor
    while power <= n_combinations:
        n_rounds, power = n_rounds + 1, power * factor
    first = max(1, epochs // factor ** (n_rounds - 1))
    rounds = []
    for k in range(n_rounds):
        if first * factor**k <= epochs:
            rounds.append((n_combinations, first * factor**k))
        n_combinations = -(-n_combinations // factor)
    return rounds


def fold_score(estimator, settings, x, y, rows):
    """Fit on all folds but one and score on that one.

    Parameters
    ----------
    estimator : Regressor
    settings : dict
        Parameters of the estimator; `fold` is the one to score on.
    x, y : ndarray of shape (n_spectra, ...)
        May be memory-mapped, and the same array.
    rows : ndarray of int
        The spectra to search on, in the order in which they are cut into folds.

    Returns
    -------
    float
        Mean squared error; infinite where the training diverged.
    """
    settings = dict(settings)
    train, test = list(KFold(paper.CV_FOLDS).split(rows))[settings.pop("fold")]
    networks.forget_models()
    with config_context(assume_finite=True):  # spectra.py has looked
        fitted = clone(estimator).set_params(**settings).fit(x, y, rows=rows[train])
    mse = networks.mse(fitted.model_, x, rows[test], None if y is x else y)
    return mse if np.isfinite(mse) else np.inf


def table(units):
    """Collect the finished fits into a table.

    Returns
    -------
    DataFrame
        A row a combination, in the order of the grid: its settings, `mse_fold_0` .., `mse_mean`, `mse_std`,
        `rank` (1 is best), `seconds` of all its fits, and what `spectra` it was found on.
    """
    rows = {}
    for unit in units:
        fit = artifacts.read_sidecar(unit.path)
        settings = {key: value for key, value in unit.settings.items() if key != "fold"}
        first = {**settings, "seconds": 0.0, "spectra": fit["spectra"]["spectra"]}
        row = rows.setdefault(tuple(settings.values()), first)
        row[f"mse_fold_{unit.settings['fold']}"] = fit["metrics"]["mse"]
        row["seconds"] += fit["seconds"]
    frame = pd.DataFrame(rows.values())
    scores = frame.filter(like="mse_fold_")
    frame["mse_mean"] = np.mean(scores, axis=1)
    frame["mse_std"] = np.std(scores, axis=1)
    frame["rank"] = frame["mse_mean"].rank(method="min").astype(int)
    return frame[[column for column in frame if column not in ("seconds", "spectra")] + ["seconds", "spectra"]]
