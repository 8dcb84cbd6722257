"""Act 4: train CNN regressors on the encodings and estimate the parameters of the stars (Sect. 3.3).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy, stars.csv
        {artifacts}/params_final.json, encoded_ph_ac_{i}.npy, encoded_carm_ac_{i}.npy, encoded_carm_before_ac_{i}.npy;
        with --perturb encoded_ph_perturbed_ac_{i}.npy
Writes  {artifacts}/cnn_regressor_{par}_{k}_ac_{i}.h5 (+ .json)       one regressor and its sidecar
        {artifacts}/{par}_estimation_{k}_ac_{i}.npy (+ .json)         its estimates for every star, (n_stars,)
        {artifacts}/final_estimations.csv (+ .json)                   the published columns, then the flags
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
import time

import numpy as np

import paper
from evaluation.truth import errors_by_flag, errors_of_estimates
from figures.section4 import estimates_against_truth
from inference.ensemble import ensembles, epochs, may_write, regressors, require_fine_tuned, write_estimates
from spectra.dataset import Dataset, split_stratified
from training import backend, grid_search, loop, networks, perturbation, stacks
from workflow import runner, schemas
from workflow.artifacts import FINETUNED, PRETRAINED, Artifacts
from workflow.command_line import add_stack, command, parse
from workflow.files import BadInput, writing
from workflow.units import finish


def train(settings, encoded, label, seed, tick=None):
    """Train one regressor on encodings (n_spectra, n_latent) and a label (n_spectra,) in its unit; it and its history.

    `settings` are `nf1`, `nf2`, `nu`, `lr`, `batch_size`, `epochs`; `tick` is as in `loop.fit`. The history is `loss`,
    the mean squared error, a value an epoch.
    """
    cnn = networks.build_cnn(settings["nf1"], settings["nf2"], settings["nu"], encoded.shape[1], seed)
    history = loop.fit(cnn, cnn.squared_error, backend.adam(settings["lr"]), encoded[..., None], label,
                       settings["batch_size"], settings["epochs"], tick)
    return cnn, {"loss": history["loss"]}


def train_together(settings, encoded, label, seeds, tick=None):
    """Train several regressors of the same settings as one network, for a GPU: what `train` gives of each, a list.

    `encoded`, a list of arrays (n_spectra, n_latent), and `seeds` are each regressor's own. Results differ by rounding.
    """
    shape = settings["nf1"], settings["nf2"], settings["nu"], encoded[0].shape[1]
    stack = stacks.CnnStack([networks.build_cnn(*shape, seed) for seed in seeds])
    rows = np.arange(len(seeds) * len(label)).reshape(len(seeds), -1).T
    history = loop.fit(stack, stack.squared_error, backend.adam(settings["lr"]), np.concatenate(encoded)[..., None],
                       np.tile(label, len(seeds)), settings["batch_size"], settings["epochs"], tick, rows)
    stack.unstack()
    return list(zip(stack.members, stacks.histories(history, len(seeds))))


# ---------------------------------------------------------------- units
def plan(args, data, artifacts):
    """The regressors to train, a list of Unit, and what to say of autoencoders that are missing."""
    sidecars, missing = artifacts.pretrained(args.only, [data.ph], data.provenance)
    if args.tune:
        first = next(iter(sidecars))
        fits = [unit for par in args.parameter for unit in grid_search.plan_cnn(par, first, args, data, artifacts)]
        return fits, missing
    data.check_observed()  # what is only used at the end is refused before hours of training
    without = [artifacts.autoencoder(i) for i, sidecar in sidecars.items()
               if artifacts.encoded_ph(i, args.perturb).name not in sidecar.outputs]
    if args.perturb and without:
        raise BadInput(f"{without[0]} was trained without --perturb: leave it out here, or first run "
                       "Methodology/autoencoder_training.py --perturb and autoencoder_fine_tuning.py, both with "
                       "--overwrite")
    tuned = [i for i in sidecars if artifacts.autoencoder(i, FINETUNED).exists()] or list(sidecars)[:1]
    for i in tuned:
        require_fine_tuned(i, data, artifacts)
    missing += [f"{artifacts.autoencoder(i, FINETUNED)} not found: run Methodology/autoencoder_fine_tuning.py first"
                for i in sidecars if i not in tuned]
    parameters = dict.fromkeys(args.parameter)
    return [unit for i in tuned for par in parameters for unit in regressors(par, i, args, data, artifacts)], missing


def work(*units, tick):
    """Train one regressor, or several of one parameter as one network."""
    started = time.time()
    backend.forget_models()
    settings, seeds = units[0].settings, [unit.own_seed for unit in units]
    label = Dataset(units[0].inputs[1].parent).label(settings["parameter"])
    encoded = [np.load(unit.inputs[0]) for unit in units]
    train_rows, test_rows = split_stratified(label)
    x, (y, *_) = zip(*(perturbation.examples(values, label, train_rows) for values in encoded))
    if len(units) > 1:
        trained = train_together(settings, x, y, seeds, tick)
        started += (time.time() - started) * (1 - 1 / len(units))  # its share
    else:
        trained = [train(settings, x[0], y, seeds[0], tick)]
    for unit, values, (cnn, history) in zip(units, encoded, trained):
        networks.save(cnn, unit.path)
        x_test, y_test = perturbation.examples(values, label, test_rows)
        mse_test = networks.mse(cnn, x_test[..., None], y=y_test)
        shape = schemas.CnnShape(settings["nf1"], settings["nf2"], settings["nu"], x_test.shape[1])
        finish(unit, started, {"mse_test": mse_test}, history, shape)


def alike(unit):
    """What regressors have in common that can be trained together."""
    return unit.settings["parameter"]


def show_against_truth(tables, changed, data, artifacts):
    """Print how far estimates of simulated stars are from their truth, and draw it."""
    tables = tables[PRETRAINED], tables[FINETUNED]
    print("\nEstimates before and after fine-tuning, against the truth of the simulation")
    print(errors_of_estimates(*tables, data.stars).to_string(float_format="{:.3g}".format))
    print("\nThe same after fine-tuning, of stars without and with flags")
    print(errors_by_flag(tables[1], data.stars).to_string(float_format="{:.3g}".format))
    if changed or not artifacts.summary.exists():
        with writing(artifacts.summary) as partial:
            figure = estimates_against_truth(*tables, data.stars)
            figure.savefig(partial, metadata={"Description": artifacts.tables()})
    print(f"\nthe same as a picture -> {artifacts.summary}")


def add_arguments(what, how_much, where):
    what.add_argument("--parameter", nargs="+", choices=paper.PARAMETERS, default=list(paper.PARAMETERS),
                      metavar="PAR", help="which of teff, logg, mh, vsini")
    what.add_argument("--tune", action="store_true",
                      help="search the hyper-parameters on the first autoencoder; later runs use them")
    add_stack(where, "regressors of a parameter")
    what.add_argument("--perturb", action="store_true",
                      help="learn from the encodings of perturbed spectra that act 2 leaves with --perturb (ours)")


@command
def main(argv=None):
    args = parse(__doc__, argv, add_arguments)
    print(f"trained on {backend.device_name()}")
    stacks.warn(args)
    data, artifacts = Dataset(args.data), Artifacts(args.artifacts)
    data.check_synthetic()
    units, missing = plan(args, data, artifacts)
    if args.tune:
        return grid_search.tune(units, args, data.provenance, artifacts)
    try:
        may_write(ensembles(args, data, artifacts, units), args, data, artifacts)
    except BadInput as error:  # what is missing may be why
        runner.report([*missing, str(error)])
    failures = runner.run(units, work, args, epochs(args), "regressors",
                          together=lambda units: stacks.groups(units, args.stack, alike))
    if failures is None:
        return
    with runner.reporting(failures + missing):
        tables, changed = write_estimates(args, data, artifacts)
        if tables is None:
            return
        if data.provenance.kind.simulated and set(paper.PARAMETERS) <= set(data.stars):
            show_against_truth(tables, changed, data, artifacts)
        print(f"{len(data.stars)} stars, spectra: {data.provenance.kind} -> {artifacts.estimates()}")


if __name__ == "__main__":
    sys.exit(main())
