"""Act 3: fine-tune the autoencoders on the observed spectra (Sect. 3.2).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy, stars.csv; {artifacts}/ac_{i}.h5, encoded_ph_ac_{i}.npy
Writes  {artifacts}/dtl_ac_{i}.h5, dtl_ac_{i}.json     the fine-tuned autoencoder and its sidecar
        {artifacts}/encoded_carm_ac_{i}.npy            encoding of every observed spectrum, (n_stars, 32)
        {artifacts}/encoded_carm_before_ac_{i}.npy     the same before fine-tuning, for comparison
        {artifacts}/reconstructed_ph_ac_{i}.npy        a few synthetic test spectra as the pre-trained autoencoder
                                                       reconstructs them, (4, n_pixels): dataset.examples_ph
        {artifacts}/reconstructed_carm_ac_{i}.npy      a few observed test spectra, likewise: dataset.examples_carm
        {artifacts}/reconstructed_carm_before_ac_{i}.npy    the same before fine-tuning
        {artifacts}/residual_carm_ac_{i}.npy           spectrum minus reconstruction in every pixel, mean and standard
                                                       deviation over the observed spectra, (2, n_pixels)
        {artifacts}/residual_carm_before_ac_{i}.npy    the same before fine-tuning
        {artifacts}/fine_tuning.csv                    a row an autoencoder: errors and distances
        {artifacts}/lag.csv                            by how many pixels each observed spectrum is shifted

The sidecars also have, for the flags, the error and the latent distance of each star, and those of the synthetic test
set.

The first four layers of each encoder are frozen; the last one, the bottleneck and the decoder are trained for
60 epochs to reconstruct 80 % of the observed spectra, with the loss of act 2 and without any label. What is
measured: the reconstruction error in both domains before and after, and how far, on average, an observed
spectrum is from its nearest synthetic one, among the fluxes and among the 32 latent values. There the
synthetic spectra are those of the encoder before, the observed ones those of the encoder after. Spectra that
are shifted against the synthetic ones, as in air wavelengths or not at rest, are warned of.

    python Methodology/autoencoder_fine_tuning.py    # at the size of the paper
    python Methodology/autoencoder_fine_tuning.py --budget demo --data src_files/demo --artifacts artifacts/demo
"""
import sys
import time

import numpy as np

import paper
from inference.flags import nearest_distances, quantile
from spectra import dataset
from spectra.velocity import check_lag
from training import backend, networks
from training.fine_tuning import encode, fine_tune
from workflow import artifacts, runner, schemas
from workflow.command_line import command, parse
from workflow.files import BadInput, load_array, read_table, take, write_array, write_csv, writing
from workflow.units import Unit, finish, read_sidecar, sidecar_of

METRICS = ("distance_flux", *(f"{name}_{when}" for when in ("before", "after")
                              for name in ("mse_ph", "mse_carm", "mse_carm_test", "distance_latent")))
# What a unit leaves beside the network, all but the first before and after fine-tuning. The synthetic reconstructions
# are those of act 2, made here so that what act 2 left before there were any stays valid.
ALSO = ("reconstructed_ph", *(f"{name}_carm{when}" for when in ("_before", "")
                              for name in ("encoded", "reconstructed", "residual")))


def mean_nearest_distance(observed, synthetic):
    """Mean over the observed of the smallest Euclidean distance to any synthetic one (Sect. 3.2).

    Parameters
    ----------
    observed : ndarray of shape (n_stars, n_features)
    synthetic : ndarray of shape (n_spectra, n_features)
    """
    return float(nearest_distances(observed, synthetic).mean())


def distance_of_fluxes(carm, ph):
    """The same of two files of spectra."""
    flux_carm = load_array(carm, 2, dataset.REMEDY)
    good = np.flatnonzero(dataset.usable(flux_carm))
    return mean_nearest_distance(take(flux_carm, good), load_array(ph, 2, dataset.REMEDY))


def plan(args):
    """One unit for each pre-trained autoencoder, what to say of those that are missing, and the lag of every star.

    Returns
    -------
    units : list of Unit
    missing : list of str
    lags : DataFrame
        As `spectra.check_lag` gives it, whose warnings are printed.
    """
    flux_ph, _ = dataset.load_synthetic(args.data)
    flux_carm, stars = dataset.load_observed(args.data)
    path = args.data / "carmf_norm.npy"
    if len(flux_carm) < 2:
        raise BadInput(f"{path}: 1 spectrum, at least 2 are needed to split")
    if not all(map(len, dataset.split_usable(flux_carm))):
        raise BadInput(f"{path}: no usable spectrum in the training or the test set: add some")
    provenance = dataset.provenance(args.data)
    pre_trained, missing = artifacts.autoencoders(args, [args.data / "ph_flux_norm.npy"], provenance)
    lags, mean_lag, warnings = check_lag(flux_ph, flux_carm, stars)
    print(f"{path}: mean spectrum shifted by {mean_lag:+d} pixels against the synthetic ones", *warnings, sep="\n")
    return [unit_of(ac, args, provenance) for ac in pre_trained], missing, lags


def unit_of(ac, args, provenance):
    """The unit that fine-tunes the autoencoder in the file `ac`."""
    sidecar, fixed = read_sidecar(ac), {"frozen": paper.FROZEN_LAYERS, "epochs": args.budget.fine_tune_epochs}
    trained = schemas.convert(sidecar.settings, schemas.Training, sidecar_of(ac),
                              "run Methodology/autoencoder_training.py --overwrite")
    handed_on = {**schemas.plain(trained), "penalty": args.penalty or trained.penalty}
    also = tuple(ac.with_name(f"{name}_{ac.stem}.npy") for name in ALSO)
    inputs = ac, *(args.data / name for name in ("ph_flux_norm.npy", "carmf_norm.npy", "ph_pars.npy"))
    return Unit(ac.with_name(f"dtl_{ac.name}"), {**handed_on, **fixed}, inputs, args.seed, also, provenance)


def work(unit, tick):
    """Fine-tune one autoencoder; encode the observed spectra and measure errors and distances before and after."""
    started = time.time()
    backend.forget_models()
    ac, ph, carm, pars = unit.inputs
    flux_ph, flux_carm = (load_array(path, 2, dataset.REMEDY) for path in (ph, carm))
    good, train_rows, test_rows = dataset.split_usable(flux_carm)
    autoencoder = networks.load(ac, seed=unit.own_seed)
    encoded_ph = load_array(ac.with_name(f"encoded_ph_{ac.stem}.npy"), 2, "run Methodology/autoencoder_training.py")
    examples_ph = dataset.examples_ph(dataset.label("teff", pars))
    rows_ph = dataset.split(len(flux_ph), "ph")
    metrics, stars = quantiles_ph(autoencoder, flux_ph, encoded_ph, *rows_ph), {}
    left = [networks.predict(autoencoder, flux_ph, examples_ph)]

    def measure(when):
        encoded = encode(autoencoder, flux_carm, good)
        left.extend([encoded, networks.predict(autoencoder, flux_carm, dataset.examples_carm(flux_carm)),
                     networks.residual(autoencoder, flux_carm, good)])
        of_each = {"mse": networks.errors(autoencoder, flux_carm, good),
                   "distance_latent": nearest_distances(encoded[good], take(encoded_ph, rows_ph[0]))}
        for name, values in of_each.items():
            stars[f"{name}_{when}"] = np.full(len(flux_carm), np.nan)
            stars[f"{name}_{when}"][good] = values
        metrics.update({
            **quantile("reconstruction-observed", of_each["mse"], when),
            f"mse_ph_{when}": networks.mse(autoencoder, flux_ph),
            f"mse_carm_{when}": networks.mse(autoencoder, flux_carm, good),
            f"mse_carm_test_{when}": networks.mse(autoencoder, flux_carm, test_rows),
            f"distance_latent_{when}": mean_nearest_distance(encoded[good], encoded_ph),
        })

    measure("before")
    history = fine_tune(autoencoder, unit.settings, flux_carm, tick, train_rows)
    measure("after")
    metrics["distance_flux"] = distance_of_fluxes(carm, ph)
    for path, values in zip(unit.also, left):
        write_array(path, values)
    with writing(unit.path) as partial:
        networks.save(autoencoder, partial)
    finish(unit, started, metrics, history, read_sidecar(ac).network, stars)


def quantiles_ph(autoencoder, flux_ph, encoded_ph, train_rows, test_rows):
    """Of the synthetic test set, without fine-tuning: error and latent distance to the training set, for the flags."""
    return {
        **quantile("reconstruction", networks.errors(autoencoder, flux_ph, test_rows)),
        **quantile("latent-distance", nearest_distances(take(encoded_ph, test_rows), take(encoded_ph, train_rows))),
    }


def check_names(path, lags, args):
    """Refuse, without --overwrite, other names of the stars than those in the table that is there."""
    had = read_table(path, "karmn", "delete it") if path.exists() else lags
    if list(had["karmn"]) != list(lags["karmn"]) and not args.overwrite:
        raise BadInput(f"{path} names other stars than {dataset.stars_file(args.data)}: delete it, and the same "
                       "command makes it again")


def add_arguments(parser):
    parser.add_argument("--penalty", choices=paper.PENALTIES, help="as in act 2; None: what the autoencoder had there")


@command
def main(argv=None):
    args = parse(__doc__, argv, add_arguments)
    print(f"trained on {backend.device_name()}")
    units, missing, lags = plan(args)
    check_names(args.artifacts / "lag.csv", lags, args)
    failures = runner.run(units, work, args, args.budget.fine_tune_epochs, "fine-tuning")
    if failures is None:
        return
    write_csv(args.artifacts / "lag.csv", lags)
    with runner.reporting(failures + missing):
        everything = [unit_of(ac, args, units[0].provenance) for ac in artifacts.trained(args.artifacts)]
        table = artifacts.collect(
            everything, args.artifacts / "fine_tuning.csv", lambda unit: {"autoencoder": unit.inputs[0].stem},
            METRICS, args,
        )
        numbers = table.drop(columns="spectra", errors="ignore").T
        print(numbers.to_string(header=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    sys.exit(main())
