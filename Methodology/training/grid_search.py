"""GridSearchCV that survives being killed: one unit of work a fit, the table collected from the sidecars.

Used for the autoencoders (act 1) and for the hyper-parameters of the CNNs (act 4, --tune). Scores are those
of scikit-learn's `GridSearchCV` with the same estimator, grid and folds.
"""
import time
from dataclasses import asdict

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import KFold, ParameterGrid

import paper
from spectra.dataset import Dataset, split_stratified
from training import backend, loop, networks
from training.backend import KerasRegressor
from workflow import runner, schemas
from workflow.artifacts import chosen
from workflow.files import BadInput, write_csv, write_json
from workflow.units import Unit, finish, load, read_sidecar


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


def fit_units(folder, grid, fixed, inputs, seed, combinations=None, provenance=schemas.UNKNOWN):
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
    provenance : schemas.Provenance

    Returns
    -------
    list of Unit
    """
    return [
        Unit(folder / f"combination_{c}_fold_{fold}.json", {**combination, **fixed, "fold": fold}, inputs, seed,
             provenance=provenance)
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


def run_rounds(rounds, plan, work, args, description):
    """Do a search in one or more rounds, the best of each in the next.

    Parameters
    ----------
    rounds : list of (int, int)
        Combinations and epochs, as `halving_rounds` plans them.
    plan : callable(combinations, epochs)
        Gives the units of a round, all folds of each combination, a list of places in the grid.
    work : callable(unit, tick)
    args : namespace
        As of `runner.run`; --only chooses combinations.
    description : str

    Returns
    -------
    list of DataFrame, or None
        The table of every round; None, after a word, if fits are still to do.
    """
    only = chosen(args.only, rounds[0][0])
    tables, combinations = [], list(range(rounds[0][0]))
    for n_combinations, epochs in rounds:
        if tables:
            best = tables[-1].sort_values("mse_mean", kind="stable").index[:n_combinations]
            combinations = [combinations[k] for k in sorted(best)]
        everything = plan(combinations, epochs)
        units = [unit for k, unit in enumerate(everything) if combinations[k // paper.CV_FOLDS] in only]
        runner.report(runner.run(units, work, args, description=f"{description}, {epochs} epochs"))
        missing = sum(not load(unit) for unit in everything)
        if missing and args.dry_run:
            for later, (n_combinations, epochs) in enumerate(rounds[len(tables) + 1 :]):
                n_fits = n_combinations * paper.CV_FOLDS
                print(f"  {'then' if later else 'after these'} {n_fits} fits of {epochs} epochs")
        elif missing:
            print(f"{missing} fits of other combinations are still to do: the tables come with the last of them")
        if missing:
            return None
        tables.append(table(everything))
    return None if args.dry_run else tables


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
    backend.forget_models()
    try:
        with config_context(assume_finite=True):  # dataset.py has looked
            fitted = clone(estimator).set_params(**settings).fit(x, y, rows=rows[train])
    except loop.Diverged:
        return np.inf
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
        fit = read_sidecar(unit.path, ["mse"])
        settings = {key: value for key, value in unit.settings.items() if key != "fold"}
        first = {**settings, "seconds": 0.0, "spectra": fit.spectra.spectra}
        row = rows.setdefault(tuple(settings.values()), first)
        row[f"mse_fold_{unit.settings['fold']}"] = fit.metrics["mse"]
        row["seconds"] += fit.seconds
    frame = pd.DataFrame(rows.values())
    scores = frame.filter(like="mse_fold_")
    frame["mse_mean"] = np.mean(scores, axis=1)
    with np.errstate(invalid="ignore"):  # of what diverged
        frame["mse_std"] = np.std(scores, axis=1)
    frame["rank"] = frame["mse_mean"].rank(method="min").astype(int)
    return frame[[column for column in frame if column not in ("seconds", "spectra")] + ["seconds", "spectra"]]


def hyper_parameters(par, folder):
    """Hyper-parameters of a parameter's CNN, a dict: those that --tune left in `folder`, else those of paper.py."""
    path, remedy = folder / f"tune_{par}.json", "delete it to use those of paper.py"
    if path.exists():
        tuned = schemas.read(path, schemas.Tuned, remedy)
        if tuned.parameter not in ("", par):
            raise BadInput(f"{path} is the search of {tuned.parameter}: {remedy}")
        return schemas.plain(tuned.best)
    return asdict(paper.PARAMETERS[par].cnn)


def compiled_cnn(nf1, nf2, nu, lr, n_latent, seed):
    """Build the CNN of one parameter, ready to be trained on the mean squared error."""
    cnn = networks.build_cnn(nf1, nf2, nu, n_latent, seed)
    cnn.compile(optimizer=backend.adam(lr), loss="mse", jit_compile=False)
    return cnn


def plan_cnn(par, ac, args, provenance):
    """The fits of the search of one parameter, on the encodings of the autoencoder in the file `ac`, a list of Unit."""
    fixed = {"epochs": args.budget.search_epochs, "batch_size": paper.BATCH_CNN}
    inputs = ac.with_name(f"encoded_ph_{ac.stem}.npy"), args.data / "ph_pars.npy"
    return fit_units(args.artifacts / f"tune_{par}", paper.CNN_GRID, fixed, inputs, args.seed,
                     provenance=provenance)


def work_cnn(unit, tick):
    """Do one of these fits."""
    started = time.time()
    encoded_ph = np.load(unit.inputs[0])
    label = Dataset(unit.inputs[1].parent).label(unit.path.parent.name.split("_")[1])
    fixed = {name: unit.settings[name] for name in ("epochs", "batch_size")}
    estimator = regressor(compiled_cnn, paper.CNN_GRID, n_latent=encoded_ph.shape[1], seed=unit.seed, **fixed)
    settings = {name: unit.settings[name] for name in (*paper.CNN_GRID, "fold")}
    mse = fold_score(estimator, settings, encoded_ph[..., None], label, split_stratified(label)[0])
    finish(unit, started, {"mse": mse})
    tick()


def tune(units, args, provenance):
    """Search, and leave the best hyper-parameters for later runs."""
    for par in args.parameter:
        of_this = [unit for unit in units if unit.path.parent.name == f"tune_{par}"]
        failures = runner.run(of_this, work_cnn, args, description=f"tuning {par}")
        if failures is None:
            continue
        scores = table(of_this).sort_values("rank")
        write_csv(args.artifacts / f"tune_{par}.csv", scores)
        write_json(args.artifacts / f"tune_{par}.json", {
            "parameter": par, "spectra": schemas.plain(provenance), "epochs": args.budget.search_epochs,
            "mse_mean": scores["mse_mean"].iloc[0], "best": scores[list(paper.CNN_GRID)].to_dict("records")[0],
        })
        print(scores.to_string(index=False))
