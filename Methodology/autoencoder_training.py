"""Act 2: train the contractive autoencoders on the synthetic spectra (Sect. 3.1).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy; {artifacts}/params_final.json
Writes  {artifacts}/ac_{i}.h5, ac_{i}.json       the trained autoencoder and its sidecar
        {artifacts}/encoded_ph_ac_{i}.npy        encoding of every synthetic spectrum, (n_spectra, 32)
        {artifacts}/mse.csv                      a row an autoencoder

Every architecture that act 1 kept is trained for 120 epochs on 70 % of the synthetic spectra. The loss is the
mean squared error of the reconstruction, plus the L1 activity regularisers, plus 1e-4 times the contractive
penalty on the 32 numbers of the bottleneck; --penalty chooses among its readings (see the README).

    python Methodology/autoencoder_training.py    # the paper
    python Methodology/autoencoder_training.py --budget demo --data src_files/demo --artifacts artifacts/demo
"""
import sys
import time

import numpy as np

import artifacts
import networks
import paper
import spectra
from artifacts import BadInput, Unit


def train(settings, x, seed, tick=None, rows=None):
    """Train one contractive autoencoder.

    Parameters
    ----------
    settings : dict
        `neurons_in`, `reg_par`, `lr`, `penalty`, `penalty_weight`, `precision`, `batch_size`, `epochs`.
    x : ndarray of shape (n_spectra, n_pixels)
        May be memory-mapped.
    seed : int
    tick : callable, optional
        Called at the end of every epoch.
    rows : ndarray of int, optional
        The training spectra; default all.

    Returns
    -------
    autoencoder : keras.Model
        In float32, whatever it was trained in.
    history : dict of str to list
        A value an epoch: `loss` (all terms), `mse` (reconstruction), `penalty` (before its weight).
    """
    autoencoder = networks.build_autoencoder(
        settings["neurons_in"], settings["reg_par"], x.shape[1], seed, settings["precision"]
    )
    loss = networks.contractive_loss(autoencoder, settings["penalty"], settings["penalty_weight"])
    history = networks.fit(autoencoder, loss, networks.adam(settings["lr"]), x, x, settings["batch_size"],
                           settings["epochs"], tick, rows)  # fmt: skip
    if settings["precision"] == "float32":
        return autoencoder, history
    plain = networks.build_autoencoder(settings["neurons_in"], settings["reg_par"], x.shape[1], seed)
    plain.set_weights(autoencoder.get_weights())
    return plain, history


def add_arguments(parser):
    parser.add_argument("--penalty", choices=paper.PENALTIES, default="live",
                        help="formula of the published code with W followed during training, the same with the initial "
                        "W as that code has when it runs, the true Jacobian of the ReLU layer, or none")  # fmt: skip
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32",
                        help="of the arithmetic in training; bfloat16 where the processor has it")  # fmt: skip


def check_precision(precision):
    if precision == "bfloat16" and not networks.has_bfloat16():
        raise BadInput("--precision bfloat16: this processor has neither avx512_bf16 nor amx_bf16: leave it out")


@artifacts.command
def main(argv=None):
    args = artifacts.parse(__doc__, argv, add_arguments)
    if not args.scheduler:
        check_precision(args.precision)
    n_spectra = len(spectra.load_synthetic(args.data)[0])
    train_rows, test_rows = spectra.split(n_spectra, "ph")
    architectures = artifacts.architectures(args.artifacts)
    provenance, ph = spectra.provenance(args.data), args.data / "ph_flux_norm.npy"

    def work(unit, tick):
        started = time.time()
        check_precision(unit.settings["precision"])
        networks.forget_models()
        flux_ph = np.load(ph, mmap_mode="r")
        with networks.device(waiting.index(unit)):  # several GPUs take the autoencoders by turns
            autoencoder, history = train(unit.settings, flux_ph, unit.own_seed, tick, train_rows)
            with artifacts.writing(unit.path) as partial:
                networks.save(autoencoder, partial)
            artifacts.write_array(unit.also[0], networks.predict(networks.encoder_of(autoencoder), flux_ph))
            metrics = {"mse_train": networks.mse(autoencoder, flux_ph, train_rows),
                       "mse_test": networks.mse(autoencoder, flux_ph, test_rows),
                       "last_penalty": history["penalty"][-1]}  # fmt: skip
        network = {"kind": "autoencoder", "neurons_in": unit.settings["neurons_in"],
                   "reg_par": unit.settings["reg_par"], "n_pixels": flux_ph.shape[1]}  # fmt: skip
        artifacts.finish(unit, provenance, started, metrics, history, network)

    units = [
        Unit(args.artifacts / f"ac_{i}.h5",
             {**architectures[i], "penalty": args.penalty, "penalty_weight": paper.CONTRACTIVE_WEIGHT,
              "precision": args.precision, "batch_size": paper.BATCH_AUTOENCODER, "epochs": args.budget.train_epochs},
             (ph,), args.seed, (args.artifacts / f"encoded_ph_ac_{i}.npy",))
        for i in range(len(architectures))
    ]  # fmt: skip
    wanted = [units[i] for i in artifacts.chosen(args.only, len(units))]
    waiting = artifacts.to_do(wanted, args)
    if not artifacts.run(wanted, work, args, args.budget.train_epochs, "training"):
        return
    table = artifacts.collect(
        units, args.artifacts / "mse.csv", lambda unit: {"autoencoder": unit.name, **unit.settings}
    )
    print(table.to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
