"""Grid search that survives being killed: a fit is a unit of work, the table is collected from the sidecars.

Act 1 searches the architecture of the autoencoders with it, act 4 (--tune) the hyper-parameters of the CNNs. Scores
are those of scikit-learn's `GridSearchCV` with the same networks, grid and folds.
"""
import functools
import time
from dataclasses import asdict

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.model_selection import KFold, ParameterGrid

import paper
from spectra.dataset import Dataset, split_stratified
from training import backend, loop, losses, networks, stacks
from training.backend import KerasRegressor
from workflow import runner, schemas
from workflow.artifacts import chosen
from workflow.files import BadInput, write_csv, write_json
from workflow.units import Unit, finish, load, read_sidecar

FACTOR = 3  # one in so many combinations goes on to a round of so many times the epochs


class Regressor(KerasRegressor):
    """A network for scikit-learn, whose targets are not searched for classes, which takes more memory than they do."""

    def _type_of_target(self, y):
        return "continuous" if y.ndim == 1 else "continuous-multioutput"


def fit_units(folder, grid, fixed, inputs, seed, combinations=None, provenance=schemas.UNKNOWN):
    """The fits of a search, a list of Unit: these combinations of the grid, by default all, on every fold.

    The grid is a dict of lists, in which `combinations` are places; `fixed` are the settings that all fits share.
    """
    return [Unit(folder / f"combination_{c}_fold_{fold}.json", {**combination, **fixed, "fold": fold}, inputs, seed,
                 provenance=provenance)
            for c, combination in enumerate(ParameterGrid(grid)) if combinations is None or c in combinations
            for fold in range(paper.CV_FOLDS)]


def fold_score(build, settings, x, y, rows):
    """Mean squared error, on one fold, of the network of build() after training on the others; infinite if it diverged.

    `settings` are `lr`, `batch_size`, `epochs` and the `fold`; `x` and `y`, (n_spectra, ...), may be memory-mapped, and
    the same array; `rows` are the spectra to search on, in the order in which they are cut into folds.
    """
    train, test = list(KFold(paper.CV_FOLDS).split(rows))[settings["fold"]]
    backend.forget_models()
    network = build()
    network.compile(optimizer=backend.adam(settings["lr"]), loss="mse", jit_compile=False)
    regressor = Regressor(network, epochs=settings["epochs"], batch_size=settings["batch_size"], verbose=0)
    try:
        with config_context(assume_finite=True):  # Dataset has looked
            regressor.fit(x, y, rows=rows[train])
    except loop.Diverged:
        return np.inf
    mse = networks.mse(network, x, rows[test], None if y is x else y)
    return mse if np.isfinite(mse) else np.inf


def fold_scores(autoencoders, settings, x, rows):
    """What `fold_score` gives of each of these autoencoders, trained as one network, for a GPU, a list of float.

    Their `settings`, a list, differ in the `fold` alone, and these have as many spectra. Where one diverges: Diverged.
    """
    folds, first = list(KFold(paper.CV_FOLDS).split(rows)), settings[0]
    train, test = zip(*(folds[own["fold"]] for own in settings))
    stack = stacks.AutoencoderStack(autoencoders)
    loss = losses.StackedContractiveLoss(stack, "none", 0)
    loop.fit(stack, loss, backend.adam(first["lr"]), x, x, first["batch_size"], first["epochs"],
             rows=rows[np.stack(train, axis=1)])
    stack.unstack()
    mses = [networks.mse(member, x, rows[of_fold]) for member, of_fold in zip(autoencoders, test)]
    return [mse if np.isfinite(mse) else np.inf for mse in mses]


def alike(n_rows):
    """What fits have in common that can be trained together, given how many spectra are searched on: a callable."""
    folds = list(KFold(paper.CV_FOLDS).split(np.arange(n_rows)))
    return lambda unit: {**unit.settings, "reg_par": None, "fold": len(folds[unit.settings["fold"]][0])}


def table(units):
    """A row for each combination, in the order of the grid, of finished fits: settings, scores, their mean and rank."""
    rows = {}
    for unit in units:
        fit = read_sidecar(unit.path, ["mse"])
        settings = {key: value for key, value in unit.settings.items() if key != "fold"}
        row = rows.setdefault(tuple(settings.values()), {**settings, "seconds": 0.0, "spectra": fit.spectra.spectra})
        row[f"mse_fold_{unit.settings['fold']}"] = fit.metrics["mse"]
        row["seconds"] += fit.seconds
    frame = pd.DataFrame(rows.values())
    scores = frame.filter(like="mse_fold_")
    frame["mse_mean"] = np.mean(scores, axis=1)
    with np.errstate(invalid="ignore"):  # of what diverged
        frame["mse_std"] = np.std(scores, axis=1)
    frame["rank"] = frame["mse_mean"].rank(method="min").astype(int)  # 1 is best
    return frame.assign(seconds=frame.pop("seconds"), spectra=frame.pop("spectra"))


# ---------------------------------------------------------------- rounds
def halving_rounds(n_combinations, epochs):
    """Combinations and epochs of every round: many for few epochs, the best third for thrice as many, and so on.

    This is the plan of scikit-learn's `HalvingGridSearchCV` with the epochs as its resource.
    """
    n_rounds = len(np.base_repr(n_combinations, FACTOR))
    first = max(1, epochs // FACTOR ** (n_rounds - 1))
    powers = [FACTOR**k for k in range(n_rounds)]
    return [(-(-n_combinations // power), first * power) for power in powers if first * power <= epochs]


def run_rounds(rounds, plan, work, args, description, together=None):
    """Do a search in rounds of (combinations, epochs), as `halving_rounds` plans them, the best of each in the next.

    plan(combinations, epochs) gives the fits of a round, all folds of each combination, a list of places in the grid;
    `work`, `args` and `together` are as in `runner.run`, and --only chooses combinations. Returned is the table of
    every round; None, after a word, if fits are still to do.
    """
    only = chosen(args.only, rounds[0][0])
    tables, combinations = [], list(range(rounds[0][0]))
    for k, (n_combinations, epochs) in enumerate(rounds):
        if tables:
            best = tables[-1].sort_values("mse_mean", kind="stable").index[:n_combinations]
            combinations = [combinations[place] for place in sorted(best)]
        fits = plan(combinations, epochs)
        wanted = [fit for i, fit in enumerate(fits) if combinations[i // paper.CV_FOLDS] in only]
        runner.report(runner.run(wanted, work, args, description=f"{description}, {epochs} epochs", together=together))
        missing = sum(not load(fit) for fit in fits)
        if missing and args.dry_run:
            for j, (n_combinations, epochs) in enumerate(rounds[k + 1 :]):
                print(f"  {'then' if j else 'after these'} {n_combinations * paper.CV_FOLDS} fits of {epochs} epochs")
        elif missing:
            print(f"{missing} fits of other combinations are still to do: the tables come with the last of them")
        if missing:
            return None
        tables.append(table(fits))
    return None if args.dry_run else tables


# ---------------------------------------------------------------- hyper-parameters of the CNNs
def plan_cnn(par, i, args, data, artifacts):
    """The fits of the search of one parameter, on the encodings of autoencoder `i`, a list of Unit."""
    fixed = {"epochs": args.budget.search_epochs, "batch_size": paper.BATCH_CNN}
    return fit_units(artifacts.tuning(par), paper.CNN_GRID, fixed, (artifacts.encoded_ph(i), data.pars), args.seed,
                     provenance=data.provenance)


def work_cnn(unit, tick):
    """Do one of these fits."""
    started = time.time()
    encoded_ph = np.load(unit.inputs[0])
    label = Dataset(unit.inputs[1].parent).label(unit.path.parent.name.split("_")[1])
    shape = {name: unit.settings[name] for name in ("nf1", "nf2", "nu")}
    build = functools.partial(networks.build_cnn, **shape, n_latent=encoded_ph.shape[1], seed=unit.seed)
    mse = fold_score(build, unit.settings, encoded_ph[..., None], label, split_stratified(label)[0])
    finish(unit, started, {"mse": mse})
    tick()


def tune(units, args, provenance, artifacts):
    """Search the parameters one after another, and leave the best hyper-parameters of each for later runs."""
    for par in args.parameter:
        folder = artifacts.tuning(par)
        fits = [unit for unit in units if unit.path.parent == folder]
        if runner.run(fits, work_cnn, args, description=f"tuning {par}") is None:
            continue
        scores = table(fits).sort_values("rank")
        write_csv(folder.with_suffix(".csv"), scores)
        write_json(folder.with_suffix(".json"), {
            "parameter": par, "spectra": schemas.plain(provenance), "epochs": args.budget.search_epochs,
            "mse_mean": scores["mse_mean"].iloc[0], "best": scores[list(paper.CNN_GRID)].to_dict("records")[0]})
        print(scores.to_string(index=False))


def hyper_parameters(par, artifacts):
    """Hyper-parameters of a parameter's CNN, a dict: those that `tune` left, else those of paper.py."""
    path, remedy = artifacts.tuning(par).with_suffix(".json"), "delete it to use those of paper.py"
    if not path.exists():
        return asdict(paper.PARAMETERS[par].cnn)
    tuned = schemas.read(path, schemas.Tuned, remedy)
    if tuned.parameter != par:
        raise BadInput(f"{path} is the search of {tuned.parameter}: {remedy}")
    return schemas.plain(tuned.best)
