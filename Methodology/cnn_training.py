"""Act 4: train CNN regressors on the encodings and estimate the parameters of the stars (Sect. 3.3).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy, stars.csv
        {artifacts}/params_final.json, encoded_ph_ac_{i}.npy, encoded_carm_ac_{i}.npy, encoded_carm_before_ac_{i}.npy
Writes  {artifacts}/cnn_regressor_{par}_{k}_ac_{i}.h5 (+ .json)       one regressor and its sidecar
        {artifacts}/{par}_estimation_{k}_ac_{i}.npy (+ .json)         its estimates for every star, (n_stars,)
        {artifacts}/final_estimations.csv (+ .json)                   the columns of the published table
        {artifacts}/final_estimations_before.csv                      the same without fine-tuning, for comparison

For each of Teff, log g, [M/H] and v sin i, and for each autoencoder, five CNNs learn the parameter from the 32
latent values of 70 % of the synthetic spectra. Of all a parameter's regressors the best 80 of 130 on the
remaining spectra (or the same fraction) are applied to the stars; the estimate is the mode of their predictions.

    python Methodology/cnn_training.py    # the paper: 520 CNNs
    python Methodology/cnn_training.py --budget demo --data src_files/demo --artifacts artifacts/demo
    python Methodology/cnn_training.py --parameter logg --tune    # search its hyper-parameters
"""
import sys
import time
from dataclasses import asdict

import numpy as np

import artifacts
import estimates
import networks
import paper
import search
import spectra
from artifacts import Unit


def compiled_cnn(nf1, nf2, nu, lr, n_latent, seed):
    """Build the CNN of one parameter, ready to be trained on the mean squared error."""
    cnn = networks.build_cnn(nf1, nf2, nu, n_latent, seed)
    cnn.compile(optimizer=networks.adam(lr), loss="mse", jit_compile=False)
    return cnn


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
    seed : int
    tick : callable, optional
        Called at the end of every epoch.

    Returns
    -------
    cnn : keras.Model
    history : dict of str to list
        `loss`, the mean squared error, a value an epoch.
    """
    cnn = networks.build_cnn(settings["nf1"], settings["nf2"], settings["nu"], encoded.shape[1], seed)
    history = networks.fit(cnn, networks.squared_error(cnn), networks.adam(settings["lr"]), encoded[..., None], label,
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
    history = networks.fit(stack, stack.squared_error, networks.adam(settings["lr"]), x, y,
                           settings["batch_size"], settings["epochs"], tick)  # fmt: skip
    stack.unstack()
    return [(cnn, {"loss": history[k]}) for k, cnn in enumerate(stack.cnns)]


def hyper_parameters(par, folder):
    """Hyper-parameters of a parameter's CNN: those that --tune left in `folder`, else those of paper.py."""
    tuned = folder / f"tune_{par}.json"
    if tuned.exists():
        return artifacts.read_json(tuned, ["best"], "delete it to use those of paper.py")["best"]
    return asdict(paper.PARAMETERS[par].cnn)


def tune(par, encoded_ph, labels_ph, args, provenance):
    """Search the hyper-parameters of one parameter's CNN as act 1 searches those of the autoencoder."""
    label = labels_ph[:, paper.PARAMETERS[par].column].astype(np.float32)
    rows, _ = spectra.split_stratified(label)
    fixed = {"epochs": args.budget.search_epochs, "batch_size": paper.BATCH_CNN}
    estimator = search.regressor(
        compiled_cnn, paper.CNN_GRID, n_latent=np.load(encoded_ph, mmap_mode="r").shape[1], seed=args.seed, **fixed
    )

    def work(unit, tick):
        started = time.time()
        settings = {name: unit.settings[name] for name in (*paper.CNN_GRID, "fold")}
        mse = search.fold_score(estimator, settings, np.load(encoded_ph)[..., None], label, rows)
        artifacts.finish(unit, provenance, started, {"mse": mse})
        tick()

    units = search.fit_units(args.artifacts / f"tune_{par}", paper.CNN_GRID, fixed,
                             (encoded_ph, args.data / "ph_pars.npy"), args.seed)  # fmt: skip
    if not artifacts.run(units, work, args, description=f"tuning {par}"):
        return
    table = search.table(units).sort_values("rank")
    artifacts.write_csv(args.artifacts / f"tune_{par}.csv", table)
    artifacts.write_json(args.artifacts / f"tune_{par}.json", {
        "spectra": provenance, "epochs": args.budget.search_epochs, "mse_mean": table["mse_mean"].iloc[0],
        "best": table[list(paper.CNN_GRID)].to_dict("records")[0],
    })  # fmt: skip
    print(table.to_string(index=False))


def combine(ensembles, stars, suffix, args, provenance):
    """Write the table of estimates from the predictions of each parameter's best regressors.

    Parameters
    ----------
    ensembles : dict of str to list of Unit
        The regressors of each parameter, all done.
    stars : DataFrame
    suffix : {"", "_before"}
        Encodings after or before fine-tuning.

    Returns
    -------
    DataFrame
    """
    estimated, kept = {}, {}
    for par, ensemble in ensembles.items():
        if not ensemble:
            print(f"warning: {par} has no regressors made with these settings, its columns are empty")
            continue
        test_mse = np.array([artifacts.read_sidecar(unit.path)["metrics"]["mse_test"] for unit in ensemble])
        chosen = [ensemble[j] for j in estimates.best(test_mse)]
        kept[par] = {"members": [unit.name for unit in chosen],
                     "largest_mse_test": float(np.sort(test_mse)[len(chosen) - 1])}  # fmt: skip
        estimated[par] = estimates.estimate(np.array([np.load(estimation_path(unit, suffix)) for unit in chosen]))
    table = estimates.table(stars, estimated)
    path = args.artifacts / f"final_estimations{suffix}.csv"
    artifacts.write_csv(path, table)
    artifacts.write_json(path.with_suffix(".json"), {"spectra": provenance, "seed": args.seed, "kept": kept})
    return table


def estimation_path(unit, suffix=""):
    """Where the predictions of a regressor for the stars lie."""
    s = unit.settings
    return unit.path.parent / f"{s['parameter']}_estimation_{s['repeat']}_ac_{s['autoencoder']}{suffix}.npy"


def add_arguments(parser):
    parser.add_argument("--parameter", nargs="+", choices=paper.PARAMETERS, default=list(paper.PARAMETERS),
                        metavar="PAR", help="which of teff, logg, mh, vsini")  # fmt: skip
    parser.add_argument("--tune", action="store_true",
                        help="search the hyper-parameters on the first autoencoder; later runs use them")  # fmt: skip
    parser.add_argument("--stack", type=artifacts.number(int, 1), default=1, metavar="N",
                        help="train N regressors of a parameter as one network: for a GPU, with --jobs 1")  # fmt: skip


@artifacts.command
def main(argv=None):
    args = artifacts.parse(__doc__, argv, add_arguments)
    flux_ph, labels_ph = spectra.load_synthetic(args.data)
    flux_carm, stars = spectra.load_observed(args.data)
    provenance = spectra.provenance(args.data)
    ph, carm, pars = (args.data / name for name in ("ph_flux_norm.npy", "carmf_norm.npy", "ph_pars.npy"))
    autoencoders = artifacts.autoencoders(args, [ph])
    if args.tune:
        for par in args.parameter:
            tune(par, args.artifacts / f"encoded_ph_{autoencoders[0].stem}.npy", labels_ph, args, provenance)
        return
    for ac in autoencoders:
        artifacts.require(args.artifacts / f"dtl_{ac.name}", "autoencoder_fine_tuning", [ac, ph, carm])

    def work(*units, tick):
        started = time.time()
        networks.forget_models()
        settings, seeds = units[0].settings, [unit.own_seed for unit in units]
        label = np.load(pars)[:, paper.PARAMETERS[settings["parameter"]].column].astype(np.float32)
        train_rows, test_rows = spectra.split_stratified(label)
        encoded = [np.load(unit.inputs[0]) for unit in units]
        training = [values[train_rows] for values in encoded], label[train_rows]
        if len(units) > 1:
            regressors = train_together(settings, *training, seeds, tick)
            started += (time.time() - started) * (1 - 1 / len(units))  # its share
        else:
            regressors = [train(settings, training[0][0], training[1], seeds[0], tick)]
        for unit, values, (cnn, history) in zip(units, encoded, regressors):
            with artifacts.writing(unit.path) as partial:
                networks.save(cnn, partial)
            mse_test = networks.mse(cnn, values[..., None], test_rows, label)
            network = {name: settings[name] for name in ("nf1", "nf2", "nu")}
            network.update(kind="cnn", n_latent=values.shape[1])
            artifacts.finish(unit, provenance, started, {"mse_test": mse_test}, history, network)

    def together(units):
        of_parameter = {par: [unit for unit in units if unit.settings["parameter"] == par] for par in args.parameter}
        return [some[k : k + args.stack] for some in of_parameter.values() for k in range(0, len(some), args.stack)]

    def apply(unit, tick):
        started = time.time()
        networks.forget_models()
        cnn, encoded_carm = unit.inputs[0], np.load(unit.inputs[1])
        good = np.flatnonzero(np.isfinite(encoded_carm).all(axis=1))
        predicted = np.full(len(encoded_carm), np.nan, np.float32)
        predicted[good] = networks.predict(networks.load(cnn), encoded_carm[..., None], good)[:, 0]
        artifacts.write_array(unit.path, predicted)
        artifacts.finish(unit, provenance, started, {})
        tick()

    def repeats(par, ac):
        hyper = hyper_parameters(par, args.artifacts)
        number = int(ac.stem.split("_")[1])
        return [
            Unit(args.artifacts / f"cnn_regressor_{par}_{k}_{ac.stem}.h5",
                 {"parameter": par, "autoencoder": number, "repeat": k, **hyper,
                  "batch_size": paper.BATCH_CNN, "epochs": args.budget.cnn_epochs},
                 (args.artifacts / f"encoded_ph_{ac.stem}.npy", pars), args.seed)
            for k in range(args.budget.repeats)
        ]  # fmt: skip

    parameters = dict.fromkeys(args.parameter)
    wanted = [unit for ac in autoencoders for par in parameters for unit in repeats(par, ac)]
    if not artifacts.run(wanted, work, args, args.budget.cnn_epochs, "regressors", together=together):
        return
    # An ensemble has the regressors of every autoencoder whose repeats are all done, now or by an earlier run.
    fine_tuned = [ac for ac in artifacts.trained(args.artifacts) if (args.artifacts / f"dtl_{ac.name}").exists()]
    complete = {par: [] for par in paper.PARAMETERS}
    for par, ensemble in complete.items():
        for ac in fine_tuned:
            units = repeats(par, ac)
            if all(artifacts.is_done(unit, stale_is_undone=True) for unit in units):
                ensemble += units
        print(f"{par}: {len(ensemble)} regressors of {len(ensemble) // args.budget.repeats} autoencoders")
    predictions = [
        Unit(estimation_path(unit, suffix), {},
             (unit.path, args.artifacts / f"encoded_carm{suffix}_ac_{unit.settings['autoencoder']}.npy"), args.seed)
        for ensemble in complete.values() for unit in ensemble for suffix in ("", "_before")
    ]  # fmt: skip
    artifacts.run(predictions, apply, args, description="predictions", redo_stale=True)
    for suffix, title in (("_before", "without fine-tuning"), ("", "with fine-tuning")):
        table = combine(complete, stars, suffix, args, provenance)
        if provenance["spectra"] == "simulated" and set(paper.PARAMETERS) <= set(stars):
            print(f"\nEstimates {title} against the truth of the simulation")
            print(estimates.against_truth(table, stars).to_string(float_format="{:.3f}".format))
    print(f"\n{len(table)} stars, spectra: {provenance['spectra']} -> {args.artifacts / 'final_estimations.csv'}")


if __name__ == "__main__":
    sys.exit(main())
