"""Act 1: search the architecture of the autoencoder by cross-validation (Sect. 3.1).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy
Writes  {artifacts}/grid_search.csv      a row a combination (and round): settings, scores, mean, std, rank, seconds
        {artifacts}/params_final.json    the architectures that act 2 trains

The training 70 % of the synthetic spectra is split into four folds; every combination of the grid is trained
for 15 epochs on three of them and scored by the mean squared error of its reconstruction of the fourth. Kept
is, as in the paper, what has the learning rate 1e-4 and scores better than the median of the whole grid.
With --search halving all combinations are trained for one epoch, the best third of them for three, the best
third of those for nine: a fifth of the cost.

    python Methodology/autoencoder_grid_search.py    # the paper: 100 fits
    python Methodology/autoencoder_grid_search.py --budget demo --data src_files/demo --artifacts artifacts/demo
"""
import sys
import time

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid

import artifacts
import networks
import paper
import search
import spectra
from artifacts import BadInput


def compiled_autoencoder(neurons_in, reg_par, lr, n_pixels, seed):
    """Build the autoencoder, ready to be trained on the mean squared error alone."""
    autoencoder = networks.build_autoencoder(neurons_in, reg_par, n_pixels, seed)
    autoencoder.compile(optimizer=networks.adam(lr), loss="mse", jit_compile=False)
    return autoencoder


def select(table, keep=None, halved=False):
    """Choose the architectures to train, best first.

    The paper's rule: learning rate 1e-4 and a mean error below the median of the whole grid. A grid of one
    combination keeps it.

    Parameters
    ----------
    table : DataFrame
        As `search.table` returns it.
    keep : int, optional
        Take the best `keep` of the grid instead, whatever their learning rate.
    halved : bool
        The table is the last round of a search by halving: what is left is better than the median already.
    """
    ranked = table.sort_values("mse_mean", kind="stable")
    if keep:
        return ranked.head(keep)
    better = halved | (ranked["mse_mean"] < ranked["mse_mean"].median())
    return ranked[better & np.isclose(ranked["lr"], paper.KEPT_LR)] if len(ranked) > 1 else ranked


def add_arguments(parser):
    parser.add_argument("--search", choices=("full", "halving"), default="full",
                        help="all combinations for all epochs, or ever more epochs for ever fewer")  # fmt: skip
    parser.add_argument("--keep", type=artifacts.number(int, 1), metavar="N",
                        help="keep the best N instead of the paper's rule")  # fmt: skip
    for name, kind in (("neurons_in", artifacts.number(int, 8)), ("reg_par", artifacts.number(float, 0)),
                       ("lr", artifacts.number(float, 1e-12))):  # fmt: skip
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, nargs="+", metavar="X",
                            help=f"values of {name} to search, instead of the budget's")  # fmt: skip


@artifacts.command
def main(argv=None):
    args = artifacts.parse(__doc__, argv, add_arguments)
    flux_ph, _ = spectra.load_synthetic(args.data)
    train, _ = spectra.split(len(flux_ph), "ph")
    if len(train) < paper.CV_FOLDS:
        raise BadInput(f"{args.data}: {len(train)} training spectra are fewer than {paper.CV_FOLDS} folds")
    grid = {name: list(dict.fromkeys(getattr(args, name) or values)) for name, values in args.budget.grid.items()}
    provenance, ph = spectra.provenance(args.data), args.data / "ph_flux_norm.npy"
    epochs, n_combinations = args.budget.search_epochs, len(ParameterGrid(grid))
    # Every fit has the seed of the run, as it would inside GridSearchCV.
    estimator = search.regressor(
        compiled_autoencoder, grid, n_pixels=flux_ph.shape[1], seed=args.seed,
        epochs=epochs, batch_size=paper.BATCH_AUTOENCODER,
    )  # fmt: skip

    def work(unit, tick):
        started = time.time()
        settings = {name: unit.settings[name] for name in (*grid, "epochs", "fold")}
        flux_ph = np.load(ph, mmap_mode="r")
        mse = search.fold_score(estimator, settings, flux_ph, flux_ph, train)
        artifacts.finish(unit, provenance, started, {"mse": mse})
        tick()

    halving = args.search == "halving"
    rounds = search.halving_rounds(n_combinations, epochs) if halving else [(n_combinations, epochs)]
    halved = len(rounds) > 1
    if args.keep and args.keep > rounds[-1][0]:
        raise BadInput(f"--keep {args.keep}: of {n_combinations} combinations the search leaves {rounds[-1][0]}")
    only = artifacts.chosen(args.only, n_combinations)
    tables, candidates = [], range(n_combinations)
    for n_candidates, epochs in rounds:
        if tables:
            best = tables[-1].sort_values("mse_mean", kind="stable").index[:n_candidates]
            candidates = [candidates[k] for k in sorted(best)]
        folder = args.artifacts / (f"halving_{epochs}_epochs" if halving else "grid_search")
        fixed = {"epochs": epochs, "batch_size": paper.BATCH_AUTOENCODER}
        everything = search.fit_units(folder, grid, fixed, (ph,), args.seed, candidates)
        units = [unit for k, unit in enumerate(everything) if candidates[k // paper.CV_FOLDS] in only]
        artifacts.run(units, work, args, description=f"{args.search} search, {epochs} epochs")
        missing = sum(not artifacts.is_done(unit) for unit in everything)
        if missing and args.dry_run:
            for later, (n_candidates, epochs) in enumerate(rounds[len(tables) + 1 :]):
                print(f"  {'then' if later else 'after these'} {n_candidates * paper.CV_FOLDS} fits of {epochs} epochs")
            return
        if missing:
            print(f"{missing} fits of other combinations are still to do: the tables come with the last of them")
            return
        tables.append(search.table(everything))
    if args.dry_run:
        return
    table = pd.concat(tables, ignore_index=True)
    chosen = select(tables[-1], args.keep, halved)
    artifacts.write_csv(args.artifacts / "grid_search.csv", table)
    if chosen.empty:
        raise BadInput(
            f"no combination has the learning rate {paper.KEPT_LR:g} and a score better than the median: use --keep N"
        )
    rule = f"left after halving to {n_candidates}" if halved else f"mse_mean < median of {len(table)}"
    artifacts.write_json(args.artifacts / "params_final.json", {
        "spectra": provenance,
        "rule": f"best {args.keep}" if args.keep else f"{rule}, lr {paper.KEPT_LR:g}",
        "architectures": chosen[list(grid)].to_dict("records"),
    })  # fmt: skip
    print(table.sort_values(["epochs", "rank"]).to_string(index=False))
    print(f"kept {len(chosen)} of {n_combinations} -> {args.artifacts / 'params_final.json'}")


if __name__ == "__main__":
    sys.exit(main())
