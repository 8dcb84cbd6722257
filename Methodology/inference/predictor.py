"""From prepared spectra to estimates: the networks of a run, held against their sidecars, loaded once and applied."""
import functools
from dataclasses import dataclass

import msgspec
import numpy as np

import paper
from inference import flags
from inference.ensemble import estimate
from inference.joint_run import KNOWN
from inference.neighbours import nearest_distances
from observations import batch, preparation
from spectra.dataset import Dataset, resolving_power_of, split
from spectra.velocity import Templates
from training import networks
from workflow import schemas
from workflow.artifacts import FINETUNED, Artifacts
from workflow.command_line import ROOT
from workflow.files import BadInput, load_array, one_line, sha256, take
from workflow.units import read_sidecar, sidecar_of

SETS = ROOT / "src_files"  # it, or a folder in it, holds the synthetic set unless --data says where


# ---------------------------------------------------------------- which networks
@dataclass(frozen=True, eq=False)
class Ensemble:
    """The networks on which the estimates of a run rest, by their sidecars; none is loaded yet."""

    artifacts: Artifacts
    kept: dict  # by parameter, schemas.Kept
    regressors: dict  # by parameter, the files of the kept ones
    numbers: dict  # by parameter, the autoencoders whose encodings these take
    autoencoders: list  # all of these, the best ranked first
    limits: dict  # of these, as of flags.Evidence
    fine_tuned_on: schemas.Provenance  # the observed spectra
    trained_on: schemas.Provenance  # the synthetic spectra
    resolving_power: float  # of these, to which others are degraded
    continuum: str  # what these were divided by, one of preparation.CONTINUA
    templates: Templates  # of these
    grid: dict  # by parameter, their different labels, ascending


def select(folder, data=None):
    """The Ensemble of the run in a folder, checked; `data` is that of its synthetic set, else it is looked for."""
    artifacts = Artifacts(folder)
    path, remedy = sidecar_of(artifacts.estimates()), "run Methodology/cnn_training.py first, with the same --artifacts"
    kept = schemas.read(path, schemas.Estimates, remedy).kept
    kept = {par: kept[par] for par in paper.PARAMETERS if par in kept}
    regressors = {par: [folder / f"{name}.h5" for name in kept[par].members] for par in kept}
    if not any(regressors.values()):
        raise BadInput(f"{path} names no regressors: run Methodology/cnn_training.py again")
    sidecars = {path: artifacts.require(path, "cnn_training") for paths in regressors.values() for path in paths}
    numbers = {par: [sidecars[path].settings["autoencoder"] for path in paths] for par, paths in regressors.items()}
    autoencoders = sorted(set().union(*numbers.values()))
    data = Dataset(data or find_synthetic(artifacts.autoencoder(autoencoders[0])))
    for path in (data.ph, data.pars):
        if not path.exists():
            raise BadInput(f"{path} not found: give the folder of the synthetic set of {folder} with --data")
    fine_tuned = []
    for i in autoencoders:
        ac, tuned = artifacts.autoencoder(i), artifacts.autoencoder(i, FINETUNED)
        artifacts.require(ac, "autoencoder_training", [data.ph])
        artifacts.require(tuned, "autoencoder_fine_tuning", [ac, data.ph, data.pars])
        fine_tuned.append(read_sidecar(tuned, flags.limit_metrics().values()))
    for path, sidecar in sidecars.items():
        encoded_ph = [folder / name for name in sidecar.inputs if name.startswith("encoded_ph")]
        artifacts.require(path, "cnn_training", [*encoded_ph, data.pars])
    if data.flux_ph.shape[1] != paper.N_PIXELS:
        raise BadInput(f"{data.ph} has {data.flux_ph.shape[1]} pixels: spectra can be prepared only on the paper's "
                       f"grid of {paper.N_PIXELS}, give others to the acts as arrays")
    return Ensemble(artifacts, kept, regressors, numbers, autoencoders, flags.limits(fine_tuned), fine_tuned[0].spectra,
                    data.provenance, resolving_power_of(data.provenance), preparation.continuum_of(data.provenance),
                    Templates.of(data.flux_ph, data.labels_ph), flags.grid_of(data.labels_ph))


def find_synthetic(path, script="autoencoder_training"):
    """The folder in src_files with the synthetic set that an artifact was made with, of several one of its kind."""
    sidecar = Artifacts(path.parent).require(path, script)
    wanted = sidecar.inputs.get("ph_flux_norm.npy")
    paths = sorted([*SETS.glob("ph_flux_norm.npy"), *SETS.glob("*/ph_flux_norm.npy")])
    folders = [path.parent for path in paths if sha256(path) == wanted]
    if not folders:
        raise BadInput(f"{SETS} and its folders hold no ph_flux_norm.npy that {path} was made with (sha256 "
                       f"{str(wanted)[:8]}...): give the folder of that one with --data")
    return min(folders, key=lambda folder: Dataset(folder).provenance.kind != sidecar.spectra.kind)


# ---------------------------------------------------------------- applying them
@dataclass(frozen=True, eq=False)
class Network:
    """The weights of a network, and a model of its shape, which is given them when it is applied."""

    model: object  # shared by all of its shape: to build it takes several times as long as to read the weights
    weights: list  # or more: those of an encoder are the first of its autoencoder

    def __call__(self, x):
        """Outputs, (n_spectra, n_outputs), of an array of shape (n_spectra, ...)."""
        self.model.set_weights(self.weights[: len(self.model.weights)])
        return networks.predict(self.model, x)


@dataclass(frozen=True, eq=False)
class Predictor:
    """The loaded networks of an ensemble: spectra, (n_stars, n_pixels), to encodings, predictions and estimates."""

    ensemble: Ensemble
    autoencoders: dict  # by number, the best ranked first, Network: spectra to reconstructions
    encoders: dict  # by number, Network: spectra to encodings, (n_stars, 32)
    encoded_ph: dict  # by number, the synthetic training set, (n_spectra, 32), as encoded before fine-tuning
    regressors: dict  # by parameter, a list of Network: encodings to predictions

    def encode(self, flux):
        """Encodings of spectra by every autoencoder, a dict of (n_stars, 32) by number."""
        return {i: encoder(flux) for i, encoder in self.encoders.items()}

    def reconstruct(self, flux):
        """Spectra as the best ranked autoencoder gives them, and the mean squared errors of all, (n_ac, n_stars)."""
        best, mse = None, []
        for reconstruction in (autoencoder(flux) for autoencoder in self.autoencoders.values()):
            best = reconstruction if best is None else best
            mse.append(np.square(flux - reconstruction).mean(axis=1, dtype=float))
        return best, np.array(mse)

    def predict(self, encoded):
        """Predictions of each parameter from what `encode` gives, a dict of (n_members, n_stars)."""
        return {par: np.array([regressor(encoded[i][..., None])[:, 0]
                               for i, regressor in zip(self.ensemble.numbers[par], regressors)])
                for par, regressors in self.regressors.items()}

    def estimate(self, stars, flux, fine_tuned_on, seen=None):
        """Estimate prepared stars: records of observations/batch.py, a row a star, and fluxes, (n_stars, n_pixels).

        `fine_tuned_on` is the provenance of what the networks were fine-tuned on; if on these, `seen` has their rows.
        Gives the table of estimate.py, predictions by parameter, (n_members, n_stars), and the best reconstructions.
        """
        encoded, (reconstruction, mse), limits = self.encode(flux), self.reconstruct(flux), dict(self.ensemble.limits)
        predictions = self.predict(encoded)
        if seen is not None:  # this one is of the stars that the run was fine-tuned on
            del limits["reconstruction-observed"]
        table, words, _ = estimate(
            stars, predictions, autoencoders=self.ensemble.numbers, grid=self.ensemble.grid,
            resolving_power=self.ensemble.resolving_power, mse=mse, limits=limits,
            latent_distance=np.array([nearest_distances(encoded[i], self.encoded_ph[i]) for i in encoded]),
            snr=stars["snr"], seen=np.isin(np.arange(len(stars)), [] if seen is None else seen),
            foreign=other_instrument(stars, fine_tuned_on), odd=stars["odd"])
        return table.join(stars[KNOWN]).join(words), predictions, reconstruction


def load(ensemble, tuned=None):
    """Load the networks of an ensemble, a Predictor; `tuned` are other Artifacts with the fine-tuned autoencoders."""
    models, encoder_of = {}, functools.cache(networks.encoder_of)

    def network(path):
        shape = read_sidecar(path).network
        shape = getattr(shape, "neurons_in", shape)  # what else that of an autoencoder has matters only in training
        models[shape] = networks.load(path, into=models.get(shape))
        return Network(models[shape], models[shape].get_weights())

    autoencoders = {i: network((tuned or ensemble.artifacts).autoencoder(i, FINETUNED)) for i in ensemble.autoencoders}
    encoders = {i: Network(encoder_of(whole.model), whole.weights) for i, whole in autoencoders.items()}
    encoded_ph = {i: load_array(ensemble.artifacts.encoded_ph(i), 2, "run Methodology/autoencoder_training.py")
                  for i in autoencoders}
    encoded_ph = {i: take(encoded, split(len(encoded), "ph")[0]) for i, encoded in encoded_ph.items()}
    regressors = {par: list(map(network, paths)) for par, paths in ensemble.regressors.items()}
    return Predictor(ensemble, autoencoders, encoders, encoded_ph, regressors)


# ---------------------------------------------------------------- what the networks have seen
def other_instrument(stars, fine_tuned_on):
    """Of each star, whether the networks were fine-tuned on spectra of other instruments, or simulated ones alone."""
    words = tuple(word.strip().lower() for word in fine_tuned_on.spectra.split(","))
    known = {"published": ("carmenes",), "simulated": ()}.get(fine_tuned_on.spectra, words)
    return np.array([not (str(name).lower() or "own").startswith(known) for name in stars["instrument"]])


def about(fine_tuned_on):
    """What the networks have seen, in words; "" where that is the published spectra."""
    word = one_line(fine_tuned_on.spectra)
    return {"published": "", "simulated": "networks that have seen only SIMULATED spectra"}.get(
        word, f"networks fine-tuned on {word.replace('simulated', 'SIMULATED')}")


def warnings(table, fine_tuned_on):
    """What to print of networks that know only simulated spectra, or not the instruments or the preparation, a list."""
    word = one_line(fine_tuned_on.spectra)
    if word == "simulated":
        return [f"warning: {about(fine_tuned_on)}: no estimate of a real star by them can be relied on, so all are "
                "flagged other-instrument"]
    lines = []
    if fine_tuned_on.preparation not in (msgspec.UNSET, batch.VERSION):
        lines.append(f"warning: the networks were fine-tuned on stars of version {fine_tuned_on.preparation} of the "
                     f"preparation, these are of version {batch.VERSION}: prepare those again with "
                     "src_files/prepare_spectra.py and run act 3 and act 4 on them, or use --tune")
    if "simulated" in word:
        lines.append("warning: the networks have learnt the parameters from SIMULATED spectra: no estimate of a real "
                     "star by them can be relied on")
    names = list(table["karmn"][table["flags"].str.contains("other-instrument")])
    if names:
        lines.append(f"warning: {len(names)} of {len(table)} stars are of another instrument than the networks were "
                     f"fine-tuned on ({word}), flagged other-instrument: {', '.join(names[:5])}"
                     + ", ..." * (len(names) > 5))
    return lines
