"""Act 3: fine-tune the autoencoders on the observed spectra (Sect. 3.2).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy, stars.csv; {artifacts}/ac_{i}.h5, encoded_ph_ac_{i}.npy
Writes  {artifacts}/dtl_ac_{i}.h5, dtl_ac_{i}.json     the fine-tuned autoencoder and its sidecar
        {artifacts}/encoded_carm_ac_{i}.npy            encoding of every observed spectrum, (n_stars, 32)
        {artifacts}/encoded_carm_before_ac_{i}.npy     the same before fine-tuning, for comparison
        {artifacts}/reconstructed_ph_ac_{i}.npy        a few synthetic test spectra as the pre-trained autoencoder
                                                       reconstructs them, (4, n_pixels)
        {artifacts}/reconstructed_carm_ac_{i}.npy      a few observed test spectra, likewise
        {artifacts}/reconstructed_carm_before_ac_{i}.npy    the same before fine-tuning
        {artifacts}/residual_carm_ac_{i}.npy           spectrum minus reconstruction in every pixel, mean and standard
                                                       deviation over the observed spectra, (2, n_pixels)
        {artifacts}/residual_carm_before_ac_{i}.npy    the same before fine-tuning
        {artifacts}/fine_tuning.csv                    a row an autoencoder: errors and distances
        {artifacts}/lag.csv (+ .json)                  by how many pixels each observed spectrum is shifted

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
from inference.flags import quantile
from inference.neighbours import nearest_distances
from spectra.dataset import Dataset
from spectra.velocity import check_lag
from training import backend, networks
from training.fine_tuning import encode, fine_tune
from workflow import runner, schemas
from workflow.artifacts import FINETUNED, PRETRAINED, STAGES, WHEN, Artifacts, collect
from workflow.command_line import command, parse
from workflow.files import BadInput, load_array, lock, read_table, take, write_array, write_csv
from workflow.units import Unit, finish, load, sidecar_of

METRICS = ("distance_flux", *(f"{name}_{when}" for when in WHEN.values()
                              for name in ("mse_ph", "mse_carm", "mse_carm_test", "distance_latent")))


def quantiles_ph(autoencoder, flux_ph, encoded_ph, train_rows, test_rows):
    """Error and latent distance to the training set of the synthetic test set, without fine-tuning, for the flags."""
    distances = nearest_distances(take(encoded_ph, test_rows), take(encoded_ph, train_rows))
    return {**quantile("reconstruction", networks.errors(autoencoder, flux_ph, test_rows)),
            **quantile("latent-distance", distances)}


def measure(autoencoder, data, encoded_ph, stage):
    """What an autoencoder makes of the observed spectra at a stage: arrays, metrics, and values of each star.

    The arrays are encodings, a few reconstructions, and mean and standard deviation of the residual, as they are
    written. The stars' values are error and latent distance, both (n_stars,), NaN where a star cannot be used.
    """
    flux_carm, (good, _, test_rows), when = data.flux_carm, data.rows_carm, WHEN[stage]
    encoded = encode(autoencoder, flux_carm, good)
    arrays = [encoded, networks.predict(autoencoder, flux_carm, data.examples_carm),
              networks.residual(autoencoder, flux_carm, good)]
    of_star = {"mse": networks.errors(autoencoder, flux_carm, good),
               "distance_latent": nearest_distances(encoded[good], take(encoded_ph, data.rows_ph[0]))}
    stars = {f"{name}_{when}": np.full(len(flux_carm), np.nan) for name in of_star}
    for name, values in of_star.items():
        stars[f"{name}_{when}"][good] = values
    metrics = {f"mse_ph_{when}": networks.mse(autoencoder, data.flux_ph),
               f"mse_carm_{when}": networks.mse(autoencoder, flux_carm, good),
               f"mse_carm_test_{when}": networks.mse(autoencoder, flux_carm, test_rows),
               f"distance_latent_{when}": float(nearest_distances(encoded[good], encoded_ph).mean())}
    return arrays, {**quantile("reconstruction-observed", of_star["mse"], stage), **metrics}, stars


# ---------------------------------------------------------------- units
def plan(args, data, artifacts):
    """One unit for each pre-trained autoencoder, a list of Unit, and what to say of those that are missing."""
    if len(data.flux_carm) < 2:
        raise BadInput(f"{data.carm}: 1 spectrum, at least 2 are needed to split")
    if not all(map(len, data.rows_carm)):
        raise BadInput(f"{data.carm}: no usable spectrum in the training or the test set: add some")
    sidecars, missing = artifacts.pretrained(args.only, [data.ph], data.provenance)
    return [unit_of(i, sidecar, args, data, artifacts) for i, sidecar in sidecars.items()], missing


def unit_of(i, sidecar, args, data, artifacts):
    """The unit that fine-tunes autoencoder `i`, whose pre-training left this sidecar."""
    path = artifacts.autoencoder(i)
    training = schemas.convert(sidecar.settings, schemas.Training, sidecar_of(path),
                               "run Methodology/autoencoder_training.py --overwrite")
    settings = {**schemas.plain(training), "penalty": args.penalty or training.penalty,
                "frozen": paper.FROZEN_LAYERS, "epochs": args.budget.fine_tune_epochs}
    also = [artifacts.of_stars(what, i, stage) for stage in STAGES for what in ("encoded", "reconstructed", "residual")]
    return Unit(artifacts.autoencoder(i, FINETUNED), settings, (path, data.ph, data.carm, data.pars), args.seed,
                (artifacts.reconstructed_ph(i), *also), data.provenance, i, data.names)


def work(unit, tick):
    """Fine-tune one autoencoder; encode the observed spectra and measure errors and distances before and after."""
    started = time.time()
    backend.forget_models()
    path, ph, *_ = unit.inputs
    data, artifacts = Dataset(ph.parent), Artifacts(path.parent)
    autoencoder = networks.load(path, seed=unit.own_seed)
    encoded_ph = load_array(artifacts.encoded_ph(unit.number), 2, "run Methodology/autoencoder_training.py")
    metrics = quantiles_ph(autoencoder, data.flux_ph, encoded_ph, *data.rows_ph)
    arrays, stars, history = [networks.predict(autoencoder, data.flux_ph, data.examples_ph)], {}, None
    for stage in STAGES:
        if stage == FINETUNED:
            history = fine_tune(autoencoder, unit.settings, data.flux_carm, tick, data.rows_carm[1])
        of_stage, metrics_of_stage, stars_of_stage = measure(autoencoder, data, encoded_ph, stage)
        arrays += of_stage
        metrics.update(metrics_of_stage)
        stars.update(stars_of_stage)
    flux_carm = take(data.flux_carm, data.rows_carm[0])
    metrics["distance_flux"] = float(nearest_distances(flux_carm, data.flux_ph).mean())
    for output, values in zip(unit.also, arrays):
        write_array(output, values)
    networks.save(autoencoder, unit.path)
    shape = artifacts.require(path, "autoencoder_training").network
    finish(unit, started, metrics, history, shape, stars)


def check_names(path, lags, data, args):
    """Refuse, without --overwrite, other names of the stars than those in the table that is there."""
    before = read_table(path, "karmn", "delete it") if path.exists() else lags
    if list(before["karmn"]) != list(lags["karmn"]) and not args.overwrite:
        raise BadInput(f"{path} names other stars than {data.stars_table}: delete it, and the same command makes it "
                       "again")


def add_arguments(what, how_much, where):
    what.add_argument("--penalty", choices=paper.PENALTIES, help="as in act 2; None: what the autoencoder had there")


@command
def main(argv=None):
    args = parse(__doc__, argv, add_arguments)
    data, artifacts = Dataset(args.data), Artifacts(args.artifacts)
    print(f"trained on {backend.device_name()}")
    data.check_synthetic()
    data.check_observed()
    units, missing = plan(args, data, artifacts)
    lags_unit = Unit(artifacts.lag, {}, (data.ph, data.carm), args.seed, (), data.provenance, names=data.names)
    started, _ = time.time(), lags_unit.identity  # which is taken before they are read
    lags, mean_lag, warnings = check_lag(data.flux_ph, data.flux_carm, data.stars.assign(good=data.usable))
    print(f"{data.carm}: mean spectrum shifted by {mean_lag:+d} pixels against the synthetic ones", *warnings, sep="\n")
    check_names(artifacts.lag, lags, data, args)
    failures = runner.run(units, work, args, args.budget.fine_tune_epochs, "fine-tuning")
    if failures is None:
        return
    with lock(artifacts.folder):
        check_names(artifacts.lag, lags, data, args)  # another run may have written it meanwhile
        write_csv(artifacts.lag, lags)
        if not load(lags_unit, stale_is_undone=True):
            finish(lags_unit, started, {})
    with runner.reporting(failures + missing):
        everything = [unit_of(i, artifacts.pretrained([i], [], data.provenance)[0][i], args, data, artifacts)
                      for i in artifacts.made(PRETRAINED)]
        table = collect(everything, artifacts.errors(FINETUNED),
                        lambda unit: {"autoencoder": unit.inputs[0].stem}, METRICS, args)
        print(table.drop(columns="spectra", errors="ignore").T.to_string(header=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    sys.exit(main())
