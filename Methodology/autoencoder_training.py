"""Act 2: train the contractive autoencoders on the synthetic spectra (Sect. 3.1).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy; {artifacts}/params_final.json
Writes  {artifacts}/ac_{i}.h5, ac_{i}.json       the trained autoencoder and its sidecar
        {artifacts}/encoded_ph_ac_{i}.npy        encoding of every synthetic spectrum, (n_spectra, 32)
        {artifacts}/encoded_ph_perturbed_ac_{i}.npy    with --perturb: of four perturbed copies, (4, n_spectra, 32)
        {artifacts}/mse.csv                      a row an autoencoder

Every architecture that act 1 kept is trained for 120 epochs on 70 % of the synthetic spectra. The loss is the
mean squared error of the reconstruction, plus the L1 activity regularisers, plus 1e-4 times the contractive
penalty on the 32 numbers of the bottleneck. Of that penalty the paper's text and its code give two definitions,
and the code keeps another W than it seems to; --penalty chooses among the readings, see docs/method.md.

Not in the paper: with --perturb the network sees perturbed spectra and has to give back the unperturbed ones, so that
it withstands what is wrong with the synthetic ones; see training/perturbation.py. Give the flag to act 4 too.

    python Methodology/autoencoder_training.py    # at the size of the paper
    python Methodology/autoencoder_training.py --budget demo --data src_files/demo --artifacts artifacts/demo
"""
import functools
import sys
import time
from dataclasses import asdict

import numpy as np

import paper
from spectra.dataset import Dataset
from training import backend, device_perturbation, loop, losses, networks, perturbation, stacks
from workflow import runner, schemas
from workflow.artifacts import PRETRAINED, Artifacts, chosen, collect
from workflow.command_line import add_stack, command, parse
from workflow.files import BadInput, write_array
from workflow.units import Unit, finish

METRICS = ("mse_train", "mse_test", "last_penalty")


def train(settings, x, seed, tick=None, rows=None):
    """Train one contractive autoencoder on spectra x, (n_spectra, n_pixels); return it, in float32, and its history.

    `settings` are `neurons_in`, `reg_par`, `lr`, `penalty`, `penalty_weight`, `precision`, `batch_size`, `epochs` and,
    if the network sees perturbed spectra, the strengths `perturb` and, if these are perturbed where the network is,
    `perturb_numbers`; the rest is as in `loop.fit`. The history has a value an epoch: `loss` (all terms), `mse`
    (reconstruction), `penalty` (before its weight).
    """
    autoencoder = networks.build_autoencoder(*shape_of(settings, x), seed, settings["precision"])
    loss = losses.ContractiveLoss(autoencoder, settings["penalty"], settings["penalty_weight"])
    terms, perturb = perturbing(loss, settings, [seed])
    history = loop.fit(autoencoder, terms, backend.adam(settings["lr"]), x, x, settings["batch_size"],
                       settings["epochs"], tick, rows, perturb)
    return plain(autoencoder, settings, x), history


def train_together(settings, x, seeds, tick=None, rows=None):
    """Train several autoencoders as one network, for a GPU: what `train` gives of each, a list.

    `settings`, a list of them, differ in `reg_par` alone; each has its own of the `seeds`. Results differ by rounding.
    """
    first = settings[0]
    stack = stacks.AutoencoderStack([networks.build_autoencoder(*shape_of(own, x), seed, first["precision"])
                                     for own, seed in zip(settings, seeds)])
    loss = losses.StackedContractiveLoss(stack, first["penalty"], first["penalty_weight"])
    terms, perturb = perturbing(loss, first, seeds)
    rows = stacks.same_rows(np.arange(len(x)) if rows is None else rows, len(seeds))
    history = loop.fit(stack, terms, backend.adam(first["lr"]), x, x, first["batch_size"], first["epochs"], tick, rows,
                       perturb)
    stack.unstack()
    return list(zip((plain(member, first, x) for member in stack.members), stacks.histories(history, len(seeds))))


def shape_of(settings, x):
    """Arguments of `networks.build_autoencoder` for spectra x."""
    return settings["neurons_in"], settings["reg_par"], x.shape[1]


def plain(autoencoder, settings, x):
    """The trained autoencoder in float32."""
    if settings["precision"] == "float32":
        return autoencoder
    rebuilt = networks.build_autoencoder(*shape_of(settings, x), autoencoder.seed)
    rebuilt.set_weights(autoencoder.get_weights())
    return rebuilt


def perturber(settings, seed):
    """What perturbs spectra for the network of this seed, a callable(x, rows, epoch), or None."""
    if "perturb" not in settings:
        return None
    strengths = perturbation.Strengths(**settings["perturb"])
    if "perturb_numbers" in settings:
        return device_perturbation.DevicePerturbation([seed], strengths).copy
    return functools.partial(perturbation.perturb, seed=seed, strengths=strengths)


def perturbing(loss, settings, seeds):
    """The terms and `perturb`, as `loop.fit` takes them, of networks with these seeds, which share a `loss`."""
    if "perturb_numbers" in settings:
        strengths = perturbation.Strengths(**settings["perturb"])
        return device_perturbation.DevicePerturbation(seeds, strengths).before(loss), None
    if "perturb" not in settings or len(seeds) == 1:
        return loss, perturber(settings, seeds[0])

    def perturb(x, rows, epoch):
        return np.stack([perturber(settings, seed)(x[:, k], rows[:, k], epoch) for k, seed in enumerate(seeds)], axis=1)

    return loss, perturb


# ---------------------------------------------------------------- units
def plan(args, data, artifacts):
    """One unit for each architecture that act 1 kept, a list of Unit."""
    fixed = {"penalty": args.penalty, "penalty_weight": paper.CONTRACTIVE_WEIGHT, "precision": args.precision,
             "batch_size": paper.BATCH_AUTOENCODER, "epochs": args.budget.train_epochs}
    if args.perturb:
        fixed["perturb"] = asdict(perturbation.Strengths())
        if backend.has_gpu():  # other numbers than the processor's
            fixed["perturb_numbers"] = device_perturbation.NUMBERS
    return [Unit(artifacts.autoencoder(i), {**schemas.plain(architecture), **fixed}, (data.ph,), args.seed,
                 tuple(artifacts.encoded_ph(i, perturbed) for perturbed in (False, True)[: 1 + args.perturb]),
                 data.provenance, i) for i, architecture in enumerate(artifacts.architectures)]


def work(*units, tick):
    """Train one autoencoder, or several as one network; encode all synthetic spectra with each, measure its errors."""
    started = time.time()
    check_precision(units[0].settings["precision"])
    backend.forget_models()
    data = Dataset(units[0].inputs[0].parent)
    flux_ph, (train_rows, test_rows) = data.flux_ph, data.rows_ph
    settings, seeds = [unit.settings for unit in units], [unit.own_seed for unit in units]
    with backend.device(units[0].number):
        if len(units) > 1:
            trained = train_together(settings, flux_ph, seeds, tick, train_rows)
            started += (time.time() - started) * (1 - 1 / len(units))  # its share
        else:
            trained = [train(settings[0], flux_ph, seeds[0], tick, train_rows)]
        for unit, (autoencoder, history) in zip(units, trained):
            networks.save(autoencoder, unit.path)
            encode = functools.partial(networks.predict, networks.encoder_of(autoencoder))
            write_array(unit.also[0], encode(flux_ph))
            perturb = perturber(unit.settings, unit.own_seed)
            if perturb:  # as in epochs after the last
                write_array(unit.also[1], perturbation.copies(encode, perturb, flux_ph, unit.settings["epochs"]))
            metrics = {"mse_train": networks.mse(autoencoder, flux_ph, train_rows),
                       "mse_test": networks.mse(autoencoder, flux_ph, test_rows),
                       "last_penalty": history["penalty"][-1]}
            shape = schemas.AutoencoderShape(*shape_of(unit.settings, flux_ph))
            finish(unit, started, metrics, history, shape)


def alike(unit):
    """What autoencoders have in common that can be trained together."""
    return {name: value for name, value in unit.settings.items() if name != "reg_par"}


def row(unit):
    """First columns of a row of mse.csv."""
    perturbed = {"perturb": True} if "perturb" in unit.settings else {}  # the strengths are in the sidecar
    return {"autoencoder": unit.name, **unit.settings, **perturbed}


def check_precision(precision):
    if precision == "bfloat16" and not backend.has_bfloat16():
        raise BadInput("--precision bfloat16: this processor has neither avx512_bf16 nor amx_bf16: leave it out")


def add_arguments(what, how_much, where):
    what.add_argument("--penalty", choices=paper.PENALTIES, default="live",
                      help="live: the published code's formula with W followed, our reading of it; frozen: with the "
                      "initial W, what that code does when it runs; exact: the true Jacobian of the bottleneck layer "
                      "alone; jacobian: that of the whole encoder, the paper's text; or none")
    what.add_argument("--precision", choices=("float32", "bfloat16"), default="float32",
                      help="of the arithmetic in training; bfloat16 where the processor has it")
    what.add_argument("--perturb", action="store_true",
                      help="train on perturbed spectra, towards the unperturbed ones (ours); on a GPU perturbed there, "
                      "by TensorFlow's random numbers, which are others than the processor's")
    add_stack(where, "autoencoders of one width")


@command
def main(argv=None):
    args = parse(__doc__, argv, add_arguments)
    data, artifacts = Dataset(args.data), Artifacts(args.artifacts)
    if not args.scheduler:
        check_precision(args.precision)
        print(f"trained on {backend.device_name()}")
        stacks.warn(args)
    data.check_synthetic()
    units = plan(args, data, artifacts)
    wanted = [units[i] for i in chosen(args.only, len(units))]
    failures = runner.run(wanted, work, args, args.budget.train_epochs, "training",
                          together=lambda units: stacks.groups(units, args.stack, alike))
    if failures is None:
        return
    with runner.reporting(failures):
        print(collect(units, artifacts.errors(PRETRAINED), row, METRICS, args).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
