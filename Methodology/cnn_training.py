"""Act 4: train CNN regressors on the encodings and estimate the parameters of the stars (Sect. 3.3).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy, stars.csv
        {artifacts}/params_final.json, encoded_ph_ac_{i}.npy, encoded_carm_ac_{i}.npy, encoded_carm_before_ac_{i}.npy;
        with --perturb encoded_ph_perturbed_ac_{i}.npy
Writes  {artifacts}/cnn_regressor_{par}_{k}_ac_{i}.h5 (+ .json)       one regressor and its sidecar
        {artifacts}/{par}_estimation_{k}_ac_{i}.npy (+ .json)         its estimates for every star, (n_stars,)
        {artifacts}/final_estimations.csv (+ .json)                   the published columns, then those of flags.py
        {artifacts}/final_estimations_before.csv                      the same without fine-tuning, for comparison
        {artifacts}/summary.png                                       of simulated stars: both against the truth

For each of Teff, log g, [M/H] and v sin i, and for each autoencoder, five CNNs learn the parameter from the 32
latent values of 70 % of the synthetic spectra. Of a parameter's regressors the best on the remaining spectra are
applied to the stars; the estimate is the mode of their predictions. The paper's 26 autoencoders make 520 CNNs, 130
a parameter, of which it keeps 80; the 12 that act 1 keeps of the published code's grid make 240, 60 a parameter, of
which the same fraction is 37. Act 1 has a command that ends with 26.

Not in the paper: with --perturb, after act 2 with it, they learn from the encodings of perturbed copies of these
spectra and are tested on those of the others, in as many steps.

    python Methodology/cnn_training.py    # the published code's grid: 240 CNNs
    python Methodology/cnn_training.py --budget demo --data src_files/demo --artifacts artifacts/demo
    python Methodology/cnn_training.py --parameter logg --tune    # search its hyper-parameters
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # before anything installed under these names
from command_line import command, number, parse  # isort: skip  # first: it shortens what Ctrl-C says from here on

import time

import numpy as np
import pandas as pd

import artifacts
import estimates
import flags
import networks
import paper
import perturbation
import records
import run_figures
import running
import spectra
import training
import tuning
from artifacts import Unit
from files import BadInput, load_array, lock, read_table, sha256, write_array, write_csv, write_json, writing


def train(settings, encoded, label, seed, tick=None):
    """Train one regressor.

    Parameters
    ----------
    settings : dict
        `nf1`, `nf2`, `nu`, `lr`, `batch_size`, `epochs`.
    encoded : ndarray of shape (n_spectra, n_latent)
        Encodings of the training set.
    label : ndarray of shape (n_spectra,)
        The parameter, in its own unit.
    seed, tick
        As of `training.fit`; the seed is also that of the weights.

    Returns
    -------
    cnn : keras.Model
    history : dict of str to list
        `loss`, the mean squared error, a value an epoch.
    """
    cnn = networks.build_cnn(settings["nf1"], settings["nf2"], settings["nu"], encoded.shape[1], seed)
    history = training.fit(cnn, training.squared_error(cnn), training.adam(settings["lr"]), encoded[..., None], label,
                           settings["batch_size"], settings["epochs"], tick)  # fmt: skip
    return cnn, {"loss": history["loss"]}


def train_together(settings, encoded, label, seeds, tick=None):
    """Train several regressors of the same settings as one network, for a GPU.

    Parameters
    ----------
    settings : dict
        As in `train`.
    encoded : list of ndarray of shape (n_spectra, n_latent)
        Encodings of the training set, those of each regressor's own autoencoder.
    label : ndarray of shape (n_spectra,)
    seeds : list of int
    tick : callable, optional

    Returns
    -------
    list of (keras.Model, dict)
        What `train` gives for each, but for rounding.
    """
    shape = settings["nf1"], settings["nf2"], settings["nu"], encoded[0].shape[1]
    stack = networks.CnnStack([networks.build_cnn(*shape, seed) for seed in seeds])
    x, y = np.stack(encoded, axis=1)[..., None], np.repeat(label[:, None], len(seeds), axis=1)
    history = training.fit(stack, stack.squared_error, training.adam(settings["lr"]), x, y,
                           settings["batch_size"], settings["epochs"], tick)  # fmt: skip
    stack.unstack()
    return [(cnn, {"loss": history[k]}) for k, cnn in enumerate(stack.cnns)]


# ---------------------------------------------------------------- units
def plan(args):
    """The regressors to train, a list of Unit, and what to say of autoencoders that are missing."""
    spectra.load_synthetic(args.data)
    provenance = spectra.provenance(args.data)
    ph, carm = args.data / "ph_flux_norm.npy", args.data / "carmf_norm.npy"
    autoencoders, missing = artifacts.autoencoders(args, [ph], provenance)
    if args.tune:
        return [unit for par in args.parameter for unit in tuning.plan(par, autoencoders[0], args, provenance)], missing
    spectra.load_observed(args.data)  # what is only used at the end is refused before hours of training
    without = [ac for ac in autoencoders if encodings(ac, args).name not in artifacts.read_sidecar(ac).outputs]
    if args.perturb and without:
        raise BadInput(f"{without[0]} was trained without --perturb: leave it out here, or first run "
                       "Methodology/autoencoder_training.py --perturb and autoencoder_fine_tuning.py, both with "
                       "--overwrite")  # fmt: skip
    there = [ac for ac in autoencoders if ac.with_name(f"dtl_{ac.name}").exists()] or autoencoders[:1]
    for ac in there:
        artifacts.require(ac.with_name(f"dtl_{ac.name}"), "autoencoder_fine_tuning", [ac, ph, carm], provenance)
    missing += [f"{ac.with_name(f'dtl_{ac.name}')} not found: run Methodology/autoencoder_fine_tuning.py first"
                for ac in autoencoders if ac not in there]  # fmt: skip
    parameters = dict.fromkeys(args.parameter)
    return [unit for ac in there for par in parameters for unit in repeats(par, ac, args, provenance)], missing


def encodings(ac, args):
    """Where the encodings lie that the regressors of an autoencoder learn from."""
    return args.artifacts / f"encoded_ph{'_perturbed' * args.perturb}_{ac.stem}.npy"


def epochs(args):
    """Epochs of a regressor: of several copies of the spectra fewer, in as many steps."""
    return -(-args.budget.cnn_epochs // (perturbation.COPIES if args.perturb else 1))


def repeats(par, ac, args, provenance):
    """The regressors of one parameter and one autoencoder."""
    hyper, autoencoder = tuning.hyper_parameters(par, args.artifacts), int(ac.stem.split("_")[1])
    fixed = {**hyper, "batch_size": paper.BATCH_CNN, "epochs": epochs(args)}
    return [
        Unit(args.artifacts / f"cnn_regressor_{par}_{k}_{ac.stem}.h5",
             {"parameter": par, "autoencoder": autoencoder, "repeat": k, **fixed},
             (encodings(ac, args), args.data / "ph_pars.npy"), args.seed, provenance=provenance)
        for k in range(args.budget.repeats)
    ]  # fmt: skip


def work(*units, tick):
    """Train one regressor, or several of one parameter as one network."""
    started = time.time()
    training.forget_models()
    settings, seeds = units[0].settings, [unit.own_seed for unit in units]
    label = spectra.label(settings["parameter"], units[0].inputs[1])
    encoded = [np.load(unit.inputs[0]) for unit in units]
    train_rows, test_rows = spectra.split_stratified(label)
    x, (y, *_) = zip(*(perturbation.examples(values, label, train_rows) for values in encoded))
    if len(units) > 1:
        regressors = train_together(settings, x, y, seeds, tick)
        started += (time.time() - started) * (1 - 1 / len(units))  # its share
    else:
        regressors = [train(settings, x[0], y, seeds[0], tick)]
    for unit, values, (cnn, history) in zip(units, encoded, regressors):
        with writing(unit.path) as partial:
            networks.save(cnn, partial)
        x_test, y_test = perturbation.examples(values, label, test_rows)
        mse_test = networks.mse(cnn, x_test[..., None], y=y_test)
        shape = records.CnnShape(settings["nf1"], settings["nf2"], settings["nu"], x_test.shape[1])
        artifacts.finish(unit, started, {"mse_test": mse_test}, history, shape)


def stacks(units, n):
    """Groups of at most `n` regressors of one parameter."""
    of_parameter = {}
    for unit in units:
        of_parameter.setdefault(unit.settings["parameter"], []).append(unit)
    return [some[k : k + n] for some in of_parameter.values() for k in range(0, len(some), n)]


# ---------------------------------------------------------------- estimates
def ensembles(args, provenance, planned=()):
    """All regressors of each parameter whose autoencoder has all its repeats, done by now or `planned`."""
    fine_tuned = [ac for ac in artifacts.trained(args.artifacts)
                  if ac.with_name(f"dtl_{ac.name}").exists() and encodings(ac, args).exists()]  # fmt: skip
    found = {par: [] for par in paper.PARAMETERS}
    for par, ensemble in found.items():
        for ac in fine_tuned:
            units = repeats(par, ac, args, provenance)
            if all(unit in planned or artifacts.is_done(unit, stale_is_undone=True) for unit in units):
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
    sidecar = records.read(artifacts.sidecar_of(path), records.Estimates, remedy)
    stars = spectra.stars_file(args.data)
    if sidecar.inputs not in ({}, {stars.name: sha256(stars)}) and not args.overwrite:
        raise BadInput(f"{path} was made with another stars.csv than {stars}: delete it and {path.stem}.json, and the "
                       "same command makes both again")  # fmt: skip
    had = [name for kept in sidecar.kept.values() for name in kept.ensemble or kept.members]
    has = [unit.name for ensemble in found.values() for unit in ensemble]
    partial = bool(args.only) or set(args.parameter) < set(paper.PARAMETERS)
    return artifacts.may_replace(path, had, has, args, partial)


def estimation_path(unit, suffix=""):
    """Where the predictions of a regressor for the stars lie; suffix "_before" of those without fine-tuning."""
    return unit.path.with_name(estimates.prediction_name(unit.name, suffix))


def plan_predictions(found, args):
    """The predictions of every regressor, after and before fine-tuning, a list of Unit."""
    return [
        Unit(estimation_path(unit, suffix), {},
             (unit.path, args.artifacts / f"encoded_carm{suffix}_ac_{unit.settings['autoencoder']}.npy"), args.seed,
             provenance=unit.provenance)
        for ensemble in found.values() for unit in ensemble for suffix in ("", "_before")
    ]  # fmt: skip


def work_prediction(unit, tick):
    """Apply one regressor to the encodings of all stars."""
    started = time.time()
    training.forget_models()
    cnn, encoded_carm = unit.inputs[0], np.load(unit.inputs[1])
    good = np.flatnonzero(np.isfinite(encoded_carm).all(axis=1))
    predicted = np.full(len(encoded_carm), np.nan, np.float32)
    predicted[good] = networks.predict(networks.load(cnn), encoded_carm[..., None], good)[:, 0]
    write_array(unit.path, predicted)
    artifacts.finish(unit, started, {})
    tick()


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
        test_mse = np.array([artifacts.read_sidecar(unit.path, ["mse_test"]).metrics["mse_test"] for unit in ensemble])
        chosen = [ensemble[j] for j in estimates.best(test_mse)]
        kept[par] = records.Kept([unit.name for unit in chosen], float(np.sort(test_mse)[len(chosen) - 1]),
                                 [unit.name for unit in ensemble])  # fmt: skip
        predictions = np.array([np.load(estimation_path(unit, suffix)) for unit in chosen])
        estimated[par] = estimates.estimate(predictions)
        members[par] = predictions, [unit.settings["autoencoder"] for unit in chosen]
    table = estimates.table(stars, estimated)
    of_each, left_out = flag(table, members, stars, suffix, args, provenance)
    table = pd.concat([table, of_each], axis=1)
    path = args.artifacts / f"final_estimations{suffix}.csv"
    write_csv(path, table)
    names = spectra.stars_file(args.data)
    sidecar = records.Estimates(provenance, args.seed, kept, {names.name: sha256(names)}, {path.name: sha256(path)},
                                left_out)  # fmt: skip
    write_json(path.with_suffix(".json"), records.signed(records.plain(sidecar)))
    return table


def flag(table, members, stars, suffix, args, provenance):
    """The flags of the stars in a table of estimates, and the words that nothing was there to tell by."""
    labels, flux_carm = (load_array(args.data / name, 2, spectra.REMEDY) for name in ("ph_pars.npy", "carmf_norm.npy"))
    values = {par: table[parameter.published] for par, parameter in paper.PARAMETERS.items()}
    seen = ~stars["good"].to_numpy()  # what cannot be used has no flag
    seen[spectra.split_usable(flux_carm)[1]] = True
    lag, path = None, args.artifacts / "lag.csv"
    if path.exists():  # earlier versions left none
        lag = read_table(path, "karmn", "delete it").set_index("karmn").reindex(stars["karmn"]).get("lag")
    numbers = sorted({i for _, autoencoders in members.values() for i in autoencoders})
    sidecars = [artifacts.read_sidecar(args.artifacts / f"dtl_ac_{i}.h5") for i in numbers]
    measured = flags.measured(sidecars, "before" if suffix else "after")
    star = {"snr": stars.get("snr"), "lag": lag, "seen": seen, "foreign": np.zeros(len(stars))}
    return flags.table(values, flags.grid_of(labels), spectra.resolving_power_of(provenance), members, measured, star)


def digests(args):
    """Of the two tables of estimates that are there."""
    paths = [args.artifacts / f"final_estimations{suffix}.csv" for suffix in ("_before", "")]
    return [sha256(path) for path in paths if path.exists()]


def write_estimates(args, provenance):
    """Predict, combine and write the tables, of all regressors that are done by now, this run's or another's."""
    _, stars = spectra.load_observed(args.data)
    with lock(args.artifacts):
        found = ensembles(args, provenance)
        for par, ensemble in found.items():
            print(f"{par}: {len(ensemble)} regressors of {len(ensemble) // args.budget.repeats} autoencoders")
        if not any(found.values()):
            raise BadInput(f"{args.artifacts}: no parameter has all regressors of any autoencoder, nothing to combine: "
                           "run without --only, or with a smaller learning rate")  # fmt: skip
        if not may_write(found, args):
            return
        running.run(plan_predictions(found, args), work_prediction, args, description="predictions", redo_stale=True)
        had = digests(args)
        tables = {suffix: combine(found, stars, suffix, args, provenance) for suffix in ("_before", "")}
    if provenance.spectra == "simulated" and set(paper.PARAMETERS) <= set(stars):
        before_and_after = tables["_before"], tables[""], stars
        print("\nEstimates before and after fine-tuning, against the truth of the simulation")
        print(estimates.against_truth(*before_and_after).to_string(float_format="{:.3g}".format))
        print("\nThe same after fine-tuning, of stars without and with flags")
        print(flags.against_truth(tables[""], stars).to_string(float_format="{:.3g}".format))
        if digests(args) != had or not (args.artifacts / "summary.png").exists():
            with writing(args.artifacts / "summary.png") as partial:
                run_figures.against_truth(*before_and_after).savefig(partial)
        print(f"\nthe same as a picture -> {args.artifacts / 'summary.png'}")
    print(f"{len(stars)} stars, spectra: {provenance.spectra} -> {args.artifacts / 'final_estimations.csv'}")


def add_arguments(parser):
    parser.add_argument("--parameter", nargs="+", choices=paper.PARAMETERS, default=list(paper.PARAMETERS),
                        metavar="PAR", help="which of teff, logg, mh, vsini")  # fmt: skip
    parser.add_argument("--tune", action="store_true",
                        help="search the hyper-parameters on the first autoencoder; later runs use them")  # fmt: skip
    parser.add_argument("--stack", type=number(int, 1), default=1, metavar="N",
                        help="train N regressors of a parameter as one network: for a GPU, with --jobs 1")  # fmt: skip
    parser.add_argument("--perturb", action="store_true",
                        help="learn from the encodings of perturbed spectra that act 2 leaves with --perturb (ours)")


@command
def main(argv=None):
    args = parse(__doc__, argv, add_arguments)
    print(f"trained on {training.device_name()}")
    if args.stack > 1 and not training.has_gpu():
        print("warning: --stack is slower than --jobs on a processor, and TensorFlow sees no GPU")
    units, missing = plan(args)
    provenance = spectra.provenance(args.data)
    if args.tune:
        return tuning.tune(units, args, provenance)
    try:
        may_write(ensembles(args, provenance, units), args)
    except BadInput as error:  # what is missing may be why
        running.report([*missing, str(error)])
    failures = running.run(units, work, args, epochs(args), "regressors",
                           together=lambda units: stacks(units, args.stack))  # fmt: skip
    if failures is None:
        return
    with running.reporting(failures + missing):
        write_estimates(args, provenance)


if __name__ == "__main__":
    sys.exit(main())
