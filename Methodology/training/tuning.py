"""Hyper-parameters of the CNNs: their search, as act 1 searches those of the autoencoders, and where they come from."""
import time
from dataclasses import asdict

import numpy as np

import paper
from spectra import dataset as spectra
from training import grid_search as search
from training import loop as training
from training import networks
from workflow import runner as running
from workflow import schemas as records
from workflow import units as artifacts
from workflow.files import BadInput, write_csv, write_json

__all__ = ["compiled_cnn", "hyper_parameters", "plan", "tune", "work"]


def hyper_parameters(par, folder):
    """Hyper-parameters of a parameter's CNN, a dict: those that --tune left in `folder`, else those of paper.py."""
    path, remedy = folder / f"tune_{par}.json", "delete it to use those of paper.py"
    if path.exists():
        tuned = records.read(path, records.Tuned, remedy)
        if tuned.parameter not in ("", par):
            raise BadInput(f"{path} is the search of {tuned.parameter}: {remedy}")
        return records.plain(tuned.best)
    return asdict(paper.PARAMETERS[par].cnn)


def compiled_cnn(nf1, nf2, nu, lr, n_latent, seed):
    """Build the CNN of one parameter, ready to be trained on the mean squared error."""
    cnn = networks.build_cnn(nf1, nf2, nu, n_latent, seed)
    cnn.compile(optimizer=training.adam(lr), loss="mse", jit_compile=False)
    return cnn


def plan(par, ac, args, provenance):
    """The fits of the search of one parameter, on the encodings of the autoencoder in the file `ac`, a list of Unit."""
    fixed = {"epochs": args.budget.search_epochs, "batch_size": paper.BATCH_CNN}
    inputs = ac.with_name(f"encoded_ph_{ac.stem}.npy"), args.data / "ph_pars.npy"
    return search.fit_units(args.artifacts / f"tune_{par}", paper.CNN_GRID, fixed, inputs, args.seed,
                            provenance=provenance)  # fmt: skip


def work(unit, tick):
    """Do one of these fits."""
    started = time.time()
    encoded_ph = np.load(unit.inputs[0])
    label = spectra.label(unit.path.parent.name.split("_")[1], unit.inputs[1])
    fixed = {name: unit.settings[name] for name in ("epochs", "batch_size")}
    estimator = search.regressor(compiled_cnn, paper.CNN_GRID, n_latent=encoded_ph.shape[1], seed=unit.seed, **fixed)
    settings = {name: unit.settings[name] for name in (*paper.CNN_GRID, "fold")}
    mse = search.fold_score(estimator, settings, encoded_ph[..., None], label, spectra.split_stratified(label)[0])
    artifacts.finish(unit, started, {"mse": mse})
    tick()


def tune(units, args, provenance):
    """Search, and leave the best hyper-parameters for later runs."""
    for par in args.parameter:
        of_this = [unit for unit in units if unit.path.parent.name == f"tune_{par}"]
        failures = running.run(of_this, work, args, description=f"tuning {par}")
        if failures is None:
            continue
        table = search.table(of_this).sort_values("rank")
        write_csv(args.artifacts / f"tune_{par}.csv", table)
        write_json(args.artifacts / f"tune_{par}.json", {
            "parameter": par, "spectra": records.plain(provenance), "epochs": args.budget.search_epochs,
            "mse_mean": table["mse_mean"].iloc[0], "best": table[list(paper.CNN_GRID)].to_dict("records")[0],
        })  # fmt: skip
        print(table.to_string(index=False))
