"""The regressors of a run, their predictions for the stars, and the tables of estimates from these (Sect. 3.3).

Act 4 trains the regressors; here are their names and settings, and what follows when they are done.
"""
import time

import numpy as np

import paper
from inference import flags, mode
from spectra.dataset import resolving_power_of
from training import backend, grid_search, networks, perturbation
from workflow import runner, schemas
from workflow.artifacts import ACT, FINETUNED, PRETRAINED, STAGES, may_replace
from workflow.files import BadInput, lock, read_table, sha256, write_array, write_csv, write_json
from workflow.units import CODE, NAMES, Unit, finish, load, read_sidecar, sidecar_of


def epochs(args):
    """Epochs of a regressor: of several copies of the spectra fewer, in as many steps."""
    return -(-args.budget.cnn_epochs // (perturbation.COPIES if args.perturb else 1))


def regressors(par, i, args, data, artifacts):
    """The regressors of one parameter on autoencoder `i`, a list of Unit."""
    fixed = {**grid_search.hyper_parameters(par, artifacts), "batch_size": paper.BATCH_CNN, "epochs": epochs(args)}
    return [Unit(artifacts.regressor(par, k, i), {"parameter": par, "autoencoder": i, "repeat": k, **fixed},
                 (artifacts.encoded_ph(i, args.perturb), data.pars), args.seed, provenance=data.provenance)
            for k in range(args.budget.repeats)]


def require_fine_tuned(i, data, artifacts):
    """Refuse an autoencoder, and the encodings it left, that was not fine-tuned on these spectra of these stars."""
    artifacts.require(artifacts.autoencoder(i, FINETUNED), ACT[FINETUNED],
                      [artifacts.autoencoder(i), data.ph, data.carm, data.pars], data.provenance, data.names)


def ensembles(args, data, artifacts, planned=()):
    """By parameter, all regressors of those autoencoders that have all repeats, done by now or `planned`."""
    fine_tuned = artifacts.made(FINETUNED)
    numbers = [i for i in artifacts.made() if i in fine_tuned and artifacts.encoded_ph(i, args.perturb).exists()]
    for i in numbers:
        require_fine_tuned(i, data, artifacts)
    ensembles, to_do = {}, {unit.path for unit in planned}
    for par in paper.PARAMETERS:
        of_each = [regressors(par, i, args, data, artifacts) for i in numbers]
        ensembles[par] = sum([units for units in of_each if all(
            unit.path in to_do or load(unit, stale_is_undone=True) for unit in units)], [])
    return ensembles


def may_write(ensembles, args, data, artifacts):
    """Whether a table of these ensembles may be written; without --overwrite it may lose no regressor and no star."""
    path = artifacts.estimates()
    if not path.exists():
        return True
    remedy = f"delete it and {path.name}, and the same command makes both again"
    sidecar = schemas.read(sidecar_of(path), schemas.Estimates, remedy)
    stars = data.stars_table
    if sidecar.inputs.get(stars.name) != sha256(stars) and not args.overwrite:
        raise BadInput(f"{path} was made with another stars.csv than {stars}: delete it and {path.stem}.json, and the "
                       "same command makes both again")
    before = [name for kept in sidecar.kept.values() for name in kept.ensemble]
    after = [unit.name for units in ensembles.values() for unit in units]
    return may_replace(path, before, after, args, bool(args.only) or set(args.parameter) < set(paper.PARAMETERS))


# ---------------------------------------------------------------- predictions
def prediction(unit, artifacts, stage):
    """Where the predictions of a regressor for the stars lie."""
    return artifacts.prediction(*(unit.settings[name] for name in ("parameter", "repeat", "autoencoder")), stage)


def plan_predictions(ensembles, args, data, artifacts):
    """The predictions of every regressor, after and before fine-tuning, a list of Unit."""
    return [Unit(prediction(unit, artifacts, stage), {},
                 (unit.path, artifacts.of_stars("encoded", unit.settings["autoencoder"], stage)), args.seed,
                 provenance=unit.provenance, names=data.names)
            for units in ensembles.values() for unit in units for stage in (FINETUNED, PRETRAINED)]


def work_prediction(unit, tick):
    """Apply one regressor to the encodings of all stars."""
    started = time.time()
    backend.forget_models()
    cnn, encoded_carm = unit.inputs[0], np.load(unit.inputs[1])
    good = np.flatnonzero(np.isfinite(encoded_carm).all(axis=1))
    predictions = np.full(len(encoded_carm), np.nan, np.float32)
    predictions[good] = networks.predict(networks.load(cnn), encoded_carm[..., None], good)[:, 0]
    write_array(unit.path, predictions)
    finish(unit, started, {})
    tick()


# ---------------------------------------------------------------- tables
def combine(ensembles, stage, args, data, artifacts):
    """Write the table of estimates of a stage from the predictions of each parameter's best regressors; return it."""
    kept, predictions, autoencoders = {}, {}, {}
    inputs = {data.stars_table.name: data.stars_digest, NAMES: data.names}
    for par, units in ensembles.items():
        if not units:
            print(f"warning: {par} has no regressors made with these settings, its columns are empty")
            continue
        test_mse = np.array([read_sidecar(unit.path, ["mse_test"]).metrics["mse_test"] for unit in units])
        best = [units[j] for j in mode.best(test_mse)]
        kept[par] = schemas.Kept([unit.name for unit in best], float(np.sort(test_mse)[len(best) - 1]),
                                 [unit.name for unit in units])
        paths = [prediction(unit, artifacts, stage) for unit in best]
        inputs.update({path.name: sha256(path) for path in paths})
        predictions[par] = np.array([np.load(path) for path in paths])
        autoencoders[par] = [unit.settings["autoencoder"] for unit in best]
    evidence = evidence_of(set().union(*autoencoders.values()), stage, data, artifacts)
    table, columns, left_out = estimate(data.stars, predictions, autoencoders=autoencoders, **evidence)
    table, path = table.join(columns), artifacts.estimates(stage)
    write_csv(path, table)
    sidecar = schemas.Estimates(data.provenance, args.seed, kept, inputs, {path.name: sha256(path)}, left_out, CODE)
    write_json(sidecar_of(path), schemas.signed(schemas.plain(sidecar)))
    return table


def estimate(stars, predictions, **evidence):
    """The `mode.table` of stars from predictions, by parameter (n_members, n_stars), and what `flags.table` gives."""
    estimated = {par: mode.estimate(values) for par, values in predictions.items()}
    table, two_modes = mode.table(stars, estimated), {par: two for par, (*_, two) in estimated.items()}
    values = {par: table[parameter.published] for par, parameter in paper.PARAMETERS.items()}
    return table, *flags.table(flags.Evidence(values, predictions=predictions, two_modes=two_modes, **evidence))


def evidence_of(autoencoders, stage, data, artifacts):
    """What is known of the stars of a run besides their estimates, as attributes of flags.Evidence."""
    seen = ~data.usable  # what cannot be used has no flag
    seen[data.rows_carm[1]] = True
    lag = None
    if artifacts.lag.exists():
        if sidecar_of(artifacts.lag).exists():  # those of earlier runs have none
            artifacts.require(artifacts.lag, ACT[FINETUNED], [data.ph, data.carm], data.provenance, data.names)
        lag = read_table(artifacts.lag, "karmn", "delete it").set_index("karmn").reindex(data.stars["karmn"]).get("lag")
    sidecars = [read_sidecar(artifacts.autoencoder(i, FINETUNED), flags.limit_metrics(stage).values())
                for i in sorted(autoencoders)]
    return {"grid": flags.grid_of(data.labels_ph), "resolving_power": resolving_power_of(data.provenance),
            "snr": data.stars.get("snr"), "lag": lag, "seen": seen, "foreign": np.zeros(len(data.stars), bool),
            **flags.measured(sidecars, stage)}


def write_estimates(args, data, artifacts):
    """Write the tables of all regressors that are done: by stage, None if they stay, and whether they have changed."""
    with lock(args.artifacts):
        of_parameters = ensembles(args, data, artifacts)
        for par, units in of_parameters.items():
            print(f"{par}: {len(units)} regressors of {len(units) // args.budget.repeats} autoencoders")
        if not any(of_parameters.values()):
            raise BadInput(f"{args.artifacts}: no parameter has all regressors of any autoencoder, nothing to combine: "
                           "run without --only, or with a smaller learning rate")
        if not may_write(of_parameters, args, data, artifacts):
            return None, False
        units = plan_predictions(of_parameters, args, data, artifacts)
        runner.run(units, work_prediction, args, description="predictions", redo_stale=True)
        before = artifacts.tables()
        tables = {stage: combine(of_parameters, stage, args, data, artifacts) for stage in STAGES}
    return tables, artifacts.tables() != before
