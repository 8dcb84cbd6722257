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

import paper
from spectra.dataset import Dataset
from training import backend, loop, losses, networks, perturbation
from workflow import runner, schemas
from workflow.artifacts import PRETRAINED, Artifacts, chosen, collect
from workflow.command_line import command, parse
from workflow.files import BadInput, write_array
from workflow.units import Unit, finish

METRICS = ("mse_train", "mse_test", "last_penalty")


def train(settings, x, seed, tick=None, rows=None):
    """Train one contractive autoencoder on spectra x, (n_spectra, n_pixels); return it, in float32, and its history.

    `settings` are `neurons_in`, `reg_par`, `lr`, `penalty`, `penalty_weight`, `precision`, `batch_size`, `epochs` and,
    if the network sees perturbed spectra, the strengths `perturb`; the rest is as in `loop.fit`. The history has a
    value an epoch: `loss` (all terms), `mse` (reconstruction), `penalty` (before its weight).
    """
    shape = settings["neurons_in"], settings["reg_par"], x.shape[1], seed
    autoencoder = networks.build_autoencoder(*shape, settings["precision"])
    loss = losses.ContractiveLoss(autoencoder, settings["penalty"], settings["penalty_weight"])
    history = loop.fit(autoencoder, loss, backend.adam(settings["lr"]), x, x, settings["batch_size"],
                       settings["epochs"], tick, rows, perturber(settings, seed))
    if settings["precision"] == "float32":
        return autoencoder, history
    plain = networks.build_autoencoder(*shape)
    plain.set_weights(autoencoder.get_weights())
    return plain, history


def perturber(settings, seed):
    """What perturbs the spectra in training, a callable(x, rows, epoch), or None."""
    if "perturb" not in settings:
        return None
    return functools.partial(perturbation.perturb, seed=seed, strengths=perturbation.Strengths(**settings["perturb"]))


# ---------------------------------------------------------------- units
def plan(args, data, artifacts):
    """One unit for each architecture that act 1 kept, a list of Unit."""
    fixed = {"penalty": args.penalty, "penalty_weight": paper.CONTRACTIVE_WEIGHT, "precision": args.precision,
             "batch_size": paper.BATCH_AUTOENCODER, "epochs": args.budget.train_epochs}
    if args.perturb:
        fixed["perturb"] = asdict(perturbation.Strengths())
    return [Unit(artifacts.autoencoder(i), {**schemas.plain(architecture), **fixed}, (data.ph,), args.seed,
                 tuple(artifacts.encoded_ph(i, perturbed) for perturbed in (False, True)[: 1 + args.perturb]),
                 data.provenance, i) for i, architecture in enumerate(artifacts.architectures)]


def work(unit, tick):
    """Train one autoencoder, encode all synthetic spectra, measure its errors."""
    started = time.time()
    check_precision(unit.settings["precision"])
    backend.forget_models()
    data = Dataset(unit.inputs[0].parent)
    flux_ph, (train_rows, test_rows) = data.flux_ph, data.rows_ph
    with backend.device(unit.number):
        autoencoder, history = train(unit.settings, flux_ph, unit.own_seed, tick, train_rows)
        networks.save(autoencoder, unit.path)
        encode = functools.partial(networks.predict, networks.encoder_of(autoencoder))
        write_array(unit.also[0], encode(flux_ph))
        perturb = perturber(unit.settings, unit.own_seed)
        if perturb:  # as in epochs after the last
            write_array(unit.also[1], perturbation.copies(encode, perturb, flux_ph, unit.settings["epochs"]))
        metrics = {"mse_train": networks.mse(autoencoder, flux_ph, train_rows),
                   "mse_test": networks.mse(autoencoder, flux_ph, test_rows),
                   "last_penalty": history["penalty"][-1]}
    shape = schemas.AutoencoderShape(unit.settings["neurons_in"], unit.settings["reg_par"], flux_ph.shape[1])
    finish(unit, started, metrics, history, shape)


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
                      help="train on perturbed spectra, towards the unperturbed ones (ours)")


@command
def main(argv=None):
    args = parse(__doc__, argv, add_arguments)
    data, artifacts = Dataset(args.data), Artifacts(args.artifacts)
    if not args.scheduler:
        check_precision(args.precision)
        print(f"trained on {backend.device_name()}")
    data.check_synthetic()
    units = plan(args, data, artifacts)
    wanted = [units[i] for i in chosen(args.only, len(units))]
    failures = runner.run(wanted, work, args, args.budget.train_epochs, "training")
    if failures is None:
        return
    with runner.reporting(failures):
        print(collect(units, artifacts.errors(PRETRAINED), row, METRICS, args).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
