"""The regressors of a run, their predictions for the stars, and the tables of estimates from these (Sect. 3.3).

Act 4 trains the regressors; here are their names and settings, and what follows when they are done.
"""
import time

import numpy as np
import pandas as pd

import paper
from inference import flags, mode
from spectra import dataset
from training import backend, grid_search, networks, perturbation
from workflow import artifacts, runner, schemas
from workflow.files import BadInput, load_array, lock, read_table, sha256, write_array, write_csv, write_json
from workflow.units import Unit, finish, is_done, read_sidecar, sidecar_of


def encodings(ac, args):
    """Where the encodings lie that the regressors of an autoencoder learn from."""
    return args.artifacts / f"encoded_ph{'_perturbed' * args.perturb}_{ac.stem}.npy"


def epochs(args):
    """Epochs of a regressor: of several copies of the spectra fewer, in as many steps."""
    return -(-args.budget.cnn_epochs // (perturbation.COPIES if args.perturb else 1))


def regressors(par, ac, args, provenance):
    """The regressors of one parameter and one autoencoder, a list of Unit."""
    hyper, autoencoder = grid_search.hyper_parameters(par, args.artifacts), int(ac.stem.split("_")[1])
    fixed = {**hyper, "batch_size": paper.BATCH_CNN, "epochs": epochs(args)}
    return [
        Unit(args.artifacts / f"cnn_regressor_{par}_{k}_{ac.stem}.h5",
             {"parameter": par, "autoencoder": autoencoder, "repeat": k, **fixed},
             (encodings(ac, args), args.data / "ph_pars.npy"), args.seed, provenance=provenance)
        for k in range(args.budget.repeats)
    ]


# ---------------------------------------------------------------- ensembles
def ensembles(args, provenance, planned=()):
    """All regressors of each parameter whose autoencoder has all its repeats, done by now or `planned`."""
    fine_tuned = [ac for ac in artifacts.trained(args.artifacts)
                  if ac.with_name(f"dtl_{ac.name}").exists() and encodings(ac, args).exists()]
    found = {par: [] for par in paper.PARAMETERS}
    for par, ensemble in found.items():
        for ac in fine_tuned:
            units = regressors(par, ac, args, provenance)
            if all(unit in planned or is_done(unit, stale_is_undone=True) for unit in units):
                ensemble += units
    return found


def may_write(found, args):
    """Whether the table of these ensembles has every regressor, so every column, that the one there has.

    Raises
    ------
    BadInput
        It has not, or the stars have other names or positions, without --overwrite.
    """
    path = args.artifacts / "final_estimations.csv"
    if not path.exists():
        return True
    remedy = f"delete it and {path.name}, and the same command makes both again"
    sidecar = schemas.read(sidecar_of(path), schemas.Estimates, remedy)
    stars = dataset.stars_file(args.data)
    if sidecar.inputs not in ({}, {stars.name: sha256(stars)}) and not args.overwrite:
        raise BadInput(f"{path} was made with another stars.csv than {stars}: delete it and {path.stem}.json, and the "
                       "same command makes both again")
    had = [name for kept in sidecar.kept.values() for name in kept.ensemble or kept.members]
    has = [unit.name for ensemble in found.values() for unit in ensemble]
    partial = bool(args.only) or set(args.parameter) < set(paper.PARAMETERS)
    return artifacts.may_replace(path, had, has, args, partial)


# ---------------------------------------------------------------- predictions
def estimation_path(unit, suffix=""):
    """Where the predictions of a regressor for the stars lie; suffix "_before" of those without fine-tuning."""
    return unit.path.with_name(mode.prediction_name(unit.name, suffix))


def plan_predictions(found, args):
    """The predictions of every regressor, after and before fine-tuning, a list of Unit."""
    return [
        Unit(estimation_path(unit, suffix), {},
             (unit.path, args.artifacts / f"encoded_carm{suffix}_ac_{unit.settings['autoencoder']}.npy"), args.seed,
             provenance=unit.provenance)
        for ensemble in found.values() for unit in ensemble for suffix in ("", "_before")
    ]


def work_prediction(unit, tick):
    """Apply one regressor to the encodings of all stars."""
    started = time.time()
    backend.forget_models()
    cnn, encoded_carm = unit.inputs[0], np.load(unit.inputs[1])
    good = np.flatnonzero(np.isfinite(encoded_carm).all(axis=1))
    predicted = np.full(len(encoded_carm), np.nan, np.float32)
    predicted[good] = networks.predict(networks.load(cnn), encoded_carm[..., None], good)[:, 0]
    write_array(unit.path, predicted)
    finish(unit, started, {})
    tick()


# ---------------------------------------------------------------- tables
def combine(found, stars, suffix, args, provenance):
    """Write the table of estimates from the predictions of each parameter's best regressors.

    Parameters
    ----------
    found : dict of str to list of Unit
        The regressors of each parameter, all done.
    stars : DataFrame
    suffix : {"", "_before"}
        Encodings after or before fine-tuning.

    Returns
    -------
    DataFrame
    """
    estimated, kept, members = {}, {}, {}
    for par, ensemble in found.items():
        if not ensemble:
            print(f"warning: {par} has no regressors made with these settings, its columns are empty")
            continue
        test_mse = np.array([read_sidecar(unit.path, ["mse_test"]).metrics["mse_test"] for unit in ensemble])
        chosen = [ensemble[j] for j in mode.best(test_mse)]
        kept[par] = schemas.Kept([unit.name for unit in chosen], float(np.sort(test_mse)[len(chosen) - 1]),
                                 [unit.name for unit in ensemble])
        predictions = np.array([np.load(estimation_path(unit, suffix)) for unit in chosen])
        estimated[par] = mode.estimate(predictions)
        members[par] = predictions, [unit.settings["autoencoder"] for unit in chosen]
    table = mode.table(stars, estimated)
    of_each, left_out = flag(table, members, stars, suffix, args, provenance)
    table = pd.concat([table, of_each], axis=1)
    path = args.artifacts / f"final_estimations{suffix}.csv"
    write_csv(path, table)
    names = dataset.stars_file(args.data)
    sidecar = schemas.Estimates(provenance, args.seed, kept, {names.name: sha256(names)}, {path.name: sha256(path)},
                                left_out)
    write_json(path.with_suffix(".json"), schemas.signed(schemas.plain(sidecar)))
    return table


def flag(table, members, stars, suffix, args, provenance):
    """The flags of the stars in a table of estimates, and the words that nothing was there to tell by."""
    labels, flux_carm = (load_array(args.data / name, 2, dataset.REMEDY) for name in ("ph_pars.npy", "carmf_norm.npy"))
    values = {par: table[parameter.published] for par, parameter in paper.PARAMETERS.items()}
    seen = ~stars["good"].to_numpy()  # what cannot be used has no flag
    seen[dataset.split_usable(flux_carm)[1]] = True
    lag, path = None, args.artifacts / "lag.csv"
    if path.exists():  # earlier versions left none
        lag = read_table(path, "karmn", "delete it").set_index("karmn").reindex(stars["karmn"]).get("lag")
    numbers = sorted({i for _, autoencoders in members.values() for i in autoencoders})
    sidecars = [read_sidecar(args.artifacts / f"dtl_ac_{i}.h5") for i in numbers]
    measured = flags.measured(sidecars, "before" if suffix else "after")
    star = {"snr": stars.get("snr"), "lag": lag, "seen": seen, "foreign": np.zeros(len(stars))}
    return flags.table(values, flags.grid_of(labels), dataset.resolving_power_of(provenance), members, measured, star)


def digests(args):
    """Of the two tables of estimates that are there."""
    paths = [args.artifacts / f"final_estimations{suffix}.csv" for suffix in ("_before", "")]
    return [sha256(path) for path in paths if path.exists()]


def write_estimates(args, provenance):
    """Predict, combine and write the tables, of all regressors that are done by now, this run's or another's.

    Returns
    -------
    stars : DataFrame
    tables : dict of str to DataFrame, or None
        By suffix, "_before" and "" after fine-tuning; None where the tables stay as they were.
    changed : bool
        Whether either is another than was there.
    """
    _, stars = dataset.load_observed(args.data)
    with lock(args.artifacts):
        found = ensembles(args, provenance)
        for par, ensemble in found.items():
            print(f"{par}: {len(ensemble)} regressors of {len(ensemble) // args.budget.repeats} autoencoders")
        if not any(found.values()):
            raise BadInput(f"{args.artifacts}: no parameter has all regressors of any autoencoder, nothing to combine: "
                           "run without --only, or with a smaller learning rate")
        if not may_write(found, args):
            return stars, None, False
        runner.run(plan_predictions(found, args), work_prediction, args, description="predictions", redo_stale=True)
        had = digests(args)
        tables = {suffix: combine(found, stars, suffix, args, provenance) for suffix in ("_before", "")}
    return stars, tables, digests(args) != had
