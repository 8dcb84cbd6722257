"""Act 1: search the architecture of the autoencoder by cross-validation (Sect. 3.1).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy
Writes  {artifacts}/grid_search.csv      a row a combination (and round): settings, scores, mean, std, rank, seconds
        {artifacts}/params_final.json    the architectures that act 2 trains

The training 70 % of the synthetic spectra is split into four folds; every combination of the grid is trained
for 15 epochs on three of them and scored by the mean squared error of its reconstruction of the fourth. Kept
is, as in the paper, what has the learning rate 1e-4 and scores better than the median of the whole grid. Of the
25 combinations of the published code's grid these are 12. The paper kept 26, of a wider grid that we could not
read; any 52 combinations at that learning rate leave 26, and the third command below searches 52 of our choice.
With --search halving all combinations are trained for one epoch, the best third of them for three, the best
third of those for nine: a fifth of the cost.

    python Methodology/autoencoder_grid_search.py    # the published code's grid: 100 fits, 12 autoencoders
    python Methodology/autoencoder_grid_search.py --budget demo --data src_files/demo --artifacts artifacts/demo
    python Methodology/autoencoder_grid_search.py --neurons-in 1024 1280 1792 2048 --reg-par 4e-8 5e-8 6e-8 7e-8 \\
        8e-8 9e-8 1e-7 1.1e-7 1.2e-7 1.3e-7 1.4e-7 1.5e-7 1.6e-7    # ours: 208 fits, 26 autoencoders as in the paper
"""
import functools
import sys
import time

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid

import paper
from spectra.dataset import Dataset
from training import backend, grid_search, networks, stacks
from workflow import schemas
from workflow.artifacts import Artifacts, may_replace
from workflow.command_line import add_stack, command, number, parse
from workflow.files import BadInput, lock, write_csv, write_json
from workflow.units import finish


def select(table, keep=None, halved=False):
    """Choose the architectures to train from a table as `grid_search.table` returns it, best first.

    The paper's rule: learning rate 1e-4 and a mean error below the median of the whole grid; or the best `keep`,
    whatever their learning rate. A grid of one combination keeps it. What diverged is never kept. What a search by
    halving leaves, its last round, is better than the median already.
    """
    ranked = table.sort_values("mse_mean", kind="stable")
    converged = np.isfinite(ranked["mse_mean"])
    if keep:
        return ranked[converged].head(keep)
    better = converged & (halved | (ranked["mse_mean"] < ranked["mse_mean"].median()))
    return ranked[better & np.isclose(ranked["lr"], paper.KEPT_LR)] if len(ranked) > 1 else ranked[converged]


# ---------------------------------------------------------------- units
def grid_of(args):
    """The values to search, a dict: those of the flags, else of the budget."""
    return {name: list(dict.fromkeys(getattr(args, name) or values)) for name, values in args.budget.grid.items()}


def plan_rounds(args, data):
    """Combinations and epochs of every round of the search, checked against the flags."""
    if len(data.rows_ph[0]) < paper.CV_FOLDS:
        raise BadInput(f"{args.data}: {len(data.flux_ph)} spectra make fewer than {paper.CV_FOLDS} folds: add some")
    n_combinations, epochs = len(ParameterGrid(grid_of(args))), args.budget.search_epochs
    halving = args.search == "halving"
    rounds = grid_search.halving_rounds(n_combinations, epochs) if halving else [(n_combinations, epochs)]
    if args.keep and args.keep > rounds[-1][0]:
        raise BadInput(f"--keep {args.keep}: of {n_combinations} combinations the search leaves {rounds[-1][0]}")
    return rounds


def plan(args, data, artifacts, combinations, epochs):
    """The fits of one round, a list of Unit."""
    folder = artifacts.search(epochs if args.search == "halving" else None)
    fixed = {"epochs": epochs, "batch_size": paper.BATCH_AUTOENCODER}
    return grid_search.fit_units(folder, grid_of(args), fixed, (data.ph,), args.seed, combinations, data.provenance)


def work(*units, tick):
    """Do one fit, or several as one network: train on three folds, score on the fourth."""
    started = time.time()
    data = Dataset(units[0].inputs[0].parent)
    flux_ph, rows = data.flux_ph, data.rows_ph[0]
    # Every fit has the seed of the run, as it would inside GridSearchCV.
    builds = [functools.partial(networks.build_autoencoder, unit.settings["neurons_in"], unit.settings["reg_par"],
                                flux_ph.shape[1], unit.seed) for unit in units]
    if len(units) > 1:
        backend.forget_models()
        autoencoders, settings = [build() for build in builds], [unit.settings for unit in units]
        scores = grid_search.fold_scores(autoencoders, settings, flux_ph, rows)
        started += (time.time() - started) * (1 - 1 / len(units))  # its share
    else:
        scores = [grid_search.fold_score(builds[0], units[0].settings, flux_ph, flux_ph, rows)]
    for unit, mse in zip(units, scores):
        finish(unit, started, {"mse": mse})
    tick()


def write_tables(table, best, rule, args, provenance):
    """Write all scores and the chosen architectures; what either table had is not lost without a word."""
    artifacts = Artifacts(args.artifacts)
    architectures = [schemas.Architecture(**row) for row in best[list(paper.GRID)].to_dict("records")]
    with lock(args.artifacts):
        if artifacts.scores.exists():
            try:
                before = _rows(pd.read_csv(artifacts.scores))
            except (KeyError, ValueError):
                raise BadInput(f"{artifacts.scores} is no table of a search: delete it") from None
            may_replace(artifacts.scores, before, _rows(table), args, partial=False)
        if artifacts.selection.exists() and not args.keep:
            may_replace(artifacts.selection, list(map(str, artifacts.architectures)), list(map(str, architectures)),
                        args, partial=False)
        write_csv(artifacts.scores, table)
        if architectures:
            write_json(artifacts.selection, schemas.plain(schemas.Selection(architectures, provenance, rule)))
    if not architectures:
        raise BadInput(f"no combination has the learning rate {paper.KEPT_LR:g} and a finite score better than the "
                       "median: use --keep N, or another --lr if all diverged")
    print(table.sort_values(["epochs", "rank"]).to_string(index=False))
    print(f"kept {len(best)} of {len(table[table['epochs'] == table['epochs'].min()])} -> {artifacts.selection}")


def _rows(table):
    return [", ".join(f"{name} {value:g}" for name, value in zip((*paper.GRID, "epochs"), row))
            for row in table[[*paper.GRID, "epochs"]].to_numpy()]


def add_arguments(what, how_much, where):
    how_much.add_argument("--search", choices=("full", "halving"), default="full",
                          help="all combinations for all epochs, or ever more epochs for ever fewer")
    add_stack(where, "fits of one width")
    what.add_argument("--keep", type=number(int, 1), metavar="N", help="keep the best N instead of the paper's rule")
    for name, kind in (("neurons_in", number(int, 8)), ("reg_par", number(float, 0)), ("lr", number(float, 1e-12))):
        what.add_argument(f"--{name.replace('_', '-')}", type=kind, nargs="+", metavar="X",
                          help=f"values of {name} to search, instead of the budget's")


@command
def main(argv=None):
    args = parse(__doc__, argv, add_arguments)
    data, artifacts = Dataset(args.data), Artifacts(args.artifacts)
    print(f"trained on {backend.device_name()}")
    stacks.warn(args)
    data.check_synthetic()
    rounds, alike = plan_rounds(args, data), grid_search.alike(len(data.rows_ph[0]))
    tables = grid_search.run_rounds(rounds, functools.partial(plan, args, data, artifacts), work, args,
                                    f"{args.search} search", lambda units: stacks.groups(units, args.stack, alike))
    if tables is None:
        return
    table, halved = pd.concat(tables, ignore_index=True), len(rounds) > 1
    rule = f"left after halving to {rounds[-1][0]}" if halved else f"mse_mean < median of {len(table)}"
    rule = f"best {args.keep}" if args.keep else f"{rule}, lr {paper.KEPT_LR:g}"
    write_tables(table, select(tables[-1], args.keep, halved), rule, args, data.provenance)


if __name__ == "__main__":
    sys.exit(main())
