"""Act 3: fine-tune the autoencoders on the observed spectra (Sect. 3.2).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy, stars.csv; {artifacts}/ac_{i}.h5, encoded_ph_ac_{i}.npy
Writes  {artifacts}/dtl_ac_{i}.h5, dtl_ac_{i}.json     the fine-tuned autoencoder and its sidecar
        {artifacts}/encoded_carm_ac_{i}.npy            encoding of every observed spectrum, (n_stars, 32)
        {artifacts}/encoded_carm_before_ac_{i}.npy     the same before fine-tuning, for comparison
        {artifacts}/fine_tuning.csv                    a row an autoencoder: errors and distances

The first four layers of each encoder are frozen; the last one, the bottleneck and the decoder are trained for
60 epochs to reconstruct 80 % of the observed spectra, with the loss of act 2 and without any label. What is
measured: the reconstruction error in both domains before and after, and how far, on average, an observed
spectrum is from its nearest synthetic one, among the fluxes and among the 32 latent values. There the
synthetic spectra are those of the encoder before, the observed ones those of the encoder after.

    python Methodology/autoencoder_fine_tuning.py    # the paper
    python Methodology/autoencoder_fine_tuning.py --budget demo --data src_files/demo --artifacts artifacts/demo
"""
import sys
import time

import numpy as np
from sklearn.metrics import pairwise_distances_argmin_min

import artifacts
import networks
import paper
import spectra
from artifacts import BadInput, Unit

CHUNK = 1024  # synthetic spectra compared at a time, so that memory stays flat


def fine_tune(autoencoder, settings, x, tick=None, rows=None):
    """Freeze the first four layers of the encoder and train the rest, in place.

    Parameters
    ----------
    autoencoder : keras.Model
        Trained by act 2.
    settings : dict
        `lr`, `penalty`, `penalty_weight`, `batch_size`, `epochs`; `frozen`, names of layers.
    x : ndarray of shape (n_stars, n_pixels)
        Observed spectra.
    tick : callable, optional
        Called at the end of every epoch.
    rows : ndarray of int, optional
        The training spectra; default all.

    Returns
    -------
    history : dict of str to list
        A value an epoch: `loss`, `mse`, `penalty`, as in act 2.
    """
    networks.freeze(autoencoder, settings["frozen"])
    loss = networks.contractive_loss(autoencoder, settings["penalty"], settings["penalty_weight"])
    return networks.fit(autoencoder, loss, networks.adam(settings["lr"]), x, x, settings["batch_size"],
                        settings["epochs"], tick, rows)  # fmt: skip


def mean_nearest_distance(observed, synthetic):
    """Mean over the observed of the smallest Euclidean distance to any synthetic one (Sect. 3.2).

    Parameters
    ----------
    observed : ndarray of shape (n_stars, n_features)
    synthetic : ndarray of shape (n_spectra, n_features)
    """
    chunks = range(0, len(synthetic), CHUNK)
    nearest = [pairwise_distances_argmin_min(observed, artifacts.take(synthetic, slice(start, start + CHUNK)))[1]
               for start in chunks]  # fmt: skip
    return float(np.min(nearest, axis=0).mean())


def add_arguments(parser):
    parser.add_argument("--penalty", choices=paper.PENALTIES, help="as in act 2; None: what the autoencoder had there")


@artifacts.command
def main(argv=None):
    args = artifacts.parse(__doc__, argv, add_arguments)
    flux_ph, _ = spectra.load_synthetic(args.data)
    flux_carm, stars = spectra.load_observed(args.data)
    good = np.flatnonzero(stars.good)
    if len(stars) < 2:
        raise BadInput(f"{args.data / 'carmf_norm.npy'}: 1 spectrum, at least 2 are needed to split")
    train_rows, test_rows = (part[stars.good.to_numpy()[part]] for part in spectra.split(len(stars), "carm"))
    if not (len(train_rows) and len(test_rows)):
        raise BadInput(f"{args.data / 'carmf_norm.npy'}: no usable spectrum in the training or the test set")
    ph, carm = args.data / "ph_flux_norm.npy", args.data / "carmf_norm.npy"
    pre_trained = artifacts.autoencoders(args, [ph])
    provenance = spectra.provenance(args.data)
    distance_flux = mean_nearest_distance(flux_carm[good], flux_ph)

    def encode(autoencoder, flux_carm):
        encoded = np.full((len(flux_carm), paper.N_LATENT), np.nan, np.float32)
        encoded[good] = networks.predict(networks.encoder_of(autoencoder), flux_carm, good)
        return encoded

    def errors(autoencoder, flux_ph, flux_carm, when):
        return {f"mse_ph_{when}": networks.mse(autoencoder, flux_ph),
                f"mse_carm_{when}": networks.mse(autoencoder, flux_carm, good),
                f"mse_carm_test_{when}": networks.mse(autoencoder, flux_carm, test_rows)}  # fmt: skip

    def work(unit, tick):
        started = time.time()
        networks.forget_models()
        ac = unit.inputs[0]
        flux = [np.load(path, mmap_mode="r") for path in (ph, carm)]
        autoencoder = networks.load(ac, seed=unit.own_seed)
        encoded_ph = np.load(args.artifacts / f"encoded_ph_{ac.stem}.npy")
        before, metrics = encode(autoencoder, flux[1]), errors(autoencoder, *flux, "before")
        history = fine_tune(autoencoder, unit.settings, flux[1], tick, train_rows)
        after = encode(autoencoder, flux[1])
        metrics.update(
            errors(autoencoder, *flux, "after"),
            distance_flux=distance_flux,
            distance_latent_before=mean_nearest_distance(before[good], encoded_ph),
            distance_latent_after=mean_nearest_distance(after[good], encoded_ph),
        )
        for path, encoded in zip(unit.also, (before, after)):
            artifacts.write_array(path, encoded)
        with artifacts.writing(unit.path) as partial:
            networks.save(autoencoder, partial)
        artifacts.finish(unit, provenance, started, metrics, history, artifacts.read_sidecar(ac)["network"])

    def unit_of(ac):
        trained = artifacts.read_sidecar(ac)["settings"]
        handed_on = {name: trained[name] for name in ("lr", "penalty", "penalty_weight", "batch_size")}
        if args.penalty:
            handed_on["penalty"] = args.penalty
        return Unit(
            args.artifacts / f"dtl_{ac.name}",
            {**handed_on, "frozen": paper.FROZEN_LAYERS, "epochs": args.budget.fine_tune_epochs},
            (ac, ph, carm), args.seed,
            tuple(args.artifacts / f"{name}_{ac.stem}.npy" for name in ("encoded_carm_before", "encoded_carm")),
        )  # fmt: skip

    if not artifacts.run(list(map(unit_of, pre_trained)), work, args, args.budget.fine_tune_epochs, "fine-tuning"):
        return
    units = [unit_of(ac) for ac in artifacts.trained(args.artifacts)]
    table = artifacts.collect(
        units, args.artifacts / "fine_tuning.csv", lambda unit: {"autoencoder": unit.inputs[0].stem}
    )
    print(table.set_index("autoencoder").drop(columns="spectra").astype(float).T.to_string(float_format="{:.3g}".format))


if __name__ == "__main__":
    sys.exit(main())
