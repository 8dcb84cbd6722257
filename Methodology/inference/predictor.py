"""From prepared spectra to estimates: the networks of a run, held against their sidecars, loaded once and applied."""
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

import msgspec
import numpy as np

import paper
from inference import flags
from inference.ensemble import estimate
from inference.joint_run import KNOWN
from inference.neighbours import nearest_distances
from observations import batch, preparation
from spectra.dataset import Dataset, resolving_power_of, split, usable
from spectra.velocity import Templates
from training import networks
from workflow import schemas
from workflow.artifacts import FINETUNED, Artifacts
from workflow.command_line import ROOT
from workflow.files import BadInput, chunks, load_array, one_line, sha256, take
from workflow.units import read_sidecar, sidecar_of

RELEASE = "release.json"  # in a folder of networks that were released, with a thinned synthetic set beside them
SETS = ROOT / "src_files"  # it, or a folder in it, holds the synthetic set unless --data says where
TEXT = ["karmn", "file", "instrument", "odd", *flags.COLUMNS]  # columns of the table of estimates; others are numbers


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
    data: Dataset  # their folder
    grid: dict  # by parameter, their different labels, ascending

    @functools.cached_property
    def templates(self):
        """Those of the synthetic spectra that others are shifted to, velocity.Templates."""
        if self.data.flux_ph.shape[1] != paper.N_PIXELS:
            raise BadInput(f"{self.data.ph} has {self.data.flux_ph.shape[1]} pixels: spectra can be prepared only on "
                           f"the paper's grid of {paper.N_PIXELS}, give others as arrays, with --spectra")
        return Templates.of(self.data.flux_ph, self.data.labels_ph)

    @property
    def models(self):
        """Files of the networks as the run left them, the autoencoders fine-tuned."""
        return [*(self.artifacts.autoencoder(i, FINETUNED) for i in self.autoencoders),
                *dict.fromkeys(sum(self.regressors.values(), []))]


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
    thinned = _is_released(folder)
    if thinned and data and not (data.exists() and data.samefile(folder)):
        raise BadInput(f"{folder} is a release, and has all that it needs of its synthetic spectra: leave out --data")
    data = Dataset(folder if thinned else data or find_synthetic(artifacts.autoencoder(autoencoders[0])))
    for path in (data.ph, data.pars):
        if not path.exists():
            raise BadInput(f"{path} not found: give the folder of the synthetic set of {folder} with --data")
    ph, pars = ([], []) if thinned else ([data.ph], [data.pars])  # which the networks were trained on
    fine_tuned = []
    for i in autoencoders:
        ac, tuned = artifacts.autoencoder(i), artifacts.autoencoder(i, FINETUNED)
        artifacts.require(ac, "autoencoder_training", ph)
        artifacts.require(tuned, "autoencoder_fine_tuning", [] if thinned else [ac, data.ph, data.pars])
        fine_tuned.append(read_sidecar(tuned, flags.limit_metrics().values()))
    for path, sidecar in sidecars.items():
        encoded_ph = [folder / name for name in sidecar.inputs if name.startswith("encoded_ph")]
        artifacts.require(path, "cnn_training", [*encoded_ph, *pars])
    return Ensemble(artifacts, kept, regressors, numbers, autoencoders, flags.limits(fine_tuned), fine_tuned[0].spectra,
                    data.provenance, resolving_power_of(data.provenance), preparation.continuum_of(data.provenance),
                    data, flags.grid_of(data.labels_ph))


def _is_released(folder):
    """Whether a folder is one of .ci/release.py, with every file as it was packed, the thinned set too."""
    if not (folder / RELEASE).exists():
        return False
    remedy = "unpack the release again"
    for name, digest in schemas.read(folder / RELEASE, schemas.Release, remedy).files.items():
        if not (folder / name).exists() or sha256(folder / name) != digest:
            raise BadInput(f"{folder / name} is missing or was changed: {remedy}")
    return True


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
    """A network of a run, and what applies those of its shape, which is given its weights when it is applied."""

    model: object  # shared by all of its shape: to build it takes several times as long as to read the weights
    function: Callable  # of networks.compiled(model), likewise
    give: Callable  # gives a model the weights

    def __call__(self, x):
        """Outputs of an array, (n_spectra, ...), a chunk at a time: rows and what the function gives for them."""
        self.give(self.model)
        for rows in chunks(len(x)):
            yield rows, self.function(x[rows[0] : rows[-1] + 1])


@dataclass(frozen=True, eq=False)
class Predictor:
    """The networks of an ensemble: spectra, (n_stars, n_pixels), to encodings, predictions and estimates.

    In memory are the regressors, and of the autoencoders, which are large, the one that is being applied.
    """

    ensemble: Ensemble
    autoencoders: dict  # by number, the best ranked first, Network: spectra to encodings and reconstructions
    encoded_ph: dict  # by number, the synthetic training set, (n_spectra, 32), as encoded before fine-tuning
    regressors: dict  # by parameter, a list of Network: encodings to predictions

    def encode(self, flux):
        """Encodings by every autoencoder, a dict of (n_stars, 32) by number, and errors of reconstruction.

        These are the mean squared errors, (n_autoencoders, n_stars).
        """
        encoded = {i: np.empty((len(flux), paper.N_LATENT), np.float32) for i in self.autoencoders}
        mse = np.empty((len(self.autoencoders), len(flux)))
        for row, (i, autoencoder) in enumerate(self.autoencoders.items()):
            for rows, (encodings, reconstruction) in autoencoder(flux):
                encoded[i][rows] = encodings
                difference = np.subtract(flux[rows[0] : rows[-1] + 1], reconstruction, out=reconstruction)
                mse[row, rows] = np.einsum("ij,ij->i", difference, difference) / flux.shape[1]
        return encoded, mse

    def reconstruct(self, flux):
        """Spectra as the best ranked autoencoder gives them, (n_stars, n_pixels)."""
        return np.concatenate([outputs[-1] for _, outputs in next(iter(self.autoencoders.values()))(flux)])

    def predict(self, encoded):
        """Predictions of each parameter from the encodings that `encode` gives, a dict of (n_members, n_stars)."""
        return {par: np.array([np.concatenate([outputs[-1][:, 0] for _, outputs in regressor(encoded[i][..., None])])
                               for i, regressor in zip(self.ensemble.numbers[par], regressors)])
                for par, regressors in self.regressors.items()}

    def estimate(self, stars, flux, foreign, seen=None):
        """Estimate prepared stars, as star_tables.read_block has them, from their fluxes, (n_stars, n_pixels).

        `foreign` says of each whether the networks were fine-tuned on none of its instrument, (n_stars,); if they were
        fine-tuned on some of these stars, `seen` says on which. Gives the table of estimate.py, in which stars without
        a usable spectrum have no estimates and no flags, and predictions by parameter, (n_members, n_stars).
        """
        good, never = usable(flux), np.zeros(len(stars), bool)

        def of_all(values):
            """Values of the good stars, (..., n_good), with NaN for the others, (..., n_stars)."""
            whole = np.full((*values.shape[:-1], len(good)), np.nan)
            whole[..., good] = values
            return whole

        encoded, mse = self.encode(flux if good.all() else flux[good])
        predictions = {par: of_all(values) for par, values in self.predict(encoded).items()}
        distance = np.array([nearest_distances(encoded[i], self.encoded_ph[i]) if good.any() else mse[0]
                             for i in encoded])
        table, words, _ = estimate(
            stars, predictions, autoencoders=self.ensemble.numbers, grid=self.ensemble.grid,
            resolving_power=self.ensemble.resolving_power, mse=of_all(mse), limits=self.ensemble.limits,
            latent_distance=of_all(distance), snr=stars["snr"], seen=never if seen is None else seen,
            foreign=foreign, odd=stars["odd"])
        words[~good] = ""
        return table.join(stars[KNOWN]).join(words), predictions


def load(ensemble, tuned=None):
    """Load the networks of an ensemble, a Predictor; `tuned` are other Artifacts with the fine-tuned autoencoders."""
    models = {}
    if tuned:  # the other limits are of the synthetic spectra, this one of the stars that the run was fine-tuned on
        limits = {word: limit for word, limit in ensemble.limits.items() if word != "reconstruction-observed"}
        ensemble = replace(ensemble, limits=limits)

    def network(path, *layers, keep=True):
        shape = read_sidecar(path).network
        shape = getattr(shape, "neurons_in", shape)  # what else that of an autoencoder has matters only in training
        if shape not in models:
            model = networks.load(path)
            models[shape] = model, networks.compiled(model, *layers)
        model, function = models[shape]
        if not keep:
            return Network(model, function, lambda model: networks.load(path, into=model))
        weights = networks.load(path, into=model).get_weights()
        return Network(model, function, lambda model: model.set_weights(weights))

    tuned = tuned or ensemble.artifacts
    autoencoders = {i: network(tuned.autoencoder(i, FINETUNED), "bottleneck", keep=False)
                    for i in ensemble.autoencoders}
    encoded_ph = {i: load_array(ensemble.artifacts.encoded_ph(i), 2, "run Methodology/autoencoder_training.py")
                  for i in autoencoders}
    encoded_ph = {i: take(encoded, split(len(encoded), "ph")[0]) for i, encoded in encoded_ph.items()}
    regressors = {par: list(map(network, paths)) for par, paths in ensemble.regressors.items()}
    return Predictor(ensemble, autoencoders, encoded_ph, regressors)


@functools.lru_cache(maxsize=1)
def loaded(artifacts, data, tuned, digest):
    """`load` of the run in a folder, once in a process as long as the `digest` of what it depends on is the same."""
    return load(select(artifacts, data), tuned and Artifacts(tuned))


# ---------------------------------------------------------------- what the networks have seen
def other_instrument(stars, fine_tuned_on, provenance=schemas.UNKNOWN):
    """Of each star, whether the networks were fine-tuned on spectra of other instruments, or simulated ones alone.

    Not so of an array with the `provenance` of those they were fine-tuned on, whose stars may have no instrument.
    """
    words = tuple(word.strip().lower() for word in fine_tuned_on.spectra.split(","))
    known = {"published": ("carmenes",), "simulated": ()}.get(fine_tuned_on.spectra, words)
    foreign = np.array([not (str(name).lower() or "own").startswith(known) for name in stars["instrument"]], bool)
    origin = attrgetter("spectra", "simulator", "gap", "gap_seed", "gap_family")
    same = provenance.spectra in ("published", "simulated") and origin(provenance) == origin(fine_tuned_on)
    return foreign & np.array([not same or bool(name) for name in stars["instrument"]], bool)


def about(fine_tuned_on):
    """What the networks have seen, in words; "" where that is the published spectra."""
    word = one_line(fine_tuned_on.spectra)
    return {"published": "", "simulated": "networks that have seen only SIMULATED spectra"}.get(
        word, f"networks fine-tuned on {word.replace('simulated', 'SIMULATED')}")


def warnings(n_stars, n_foreign, names, fine_tuned_on, preparation=batch.VERSION):
    """What to print of networks that know only simulated spectra, or not the instruments or the preparation, a list.

    `n_foreign` stars are of other instruments, of which some `names` are given; `preparation` is the version of that.
    """
    word = one_line(fine_tuned_on.spectra)
    if word == "simulated":
        return [f"warning: {about(fine_tuned_on)}: no estimate of a real star by them can be relied on"
                + ", so all are flagged other-instrument" * (n_foreign == n_stars)]
    lines = []
    if fine_tuned_on.preparation not in (msgspec.UNSET, preparation):
        lines.append(f"warning: the networks were fine-tuned on stars of version {fine_tuned_on.preparation} of the "
                     f"preparation, these are of version {preparation}: prepare those again with "
                     "src_files/prepare_spectra.py and run act 3 and act 4 on them, or use --tune")
    if "simulated" in word:
        lines.append("warning: the networks have learnt the parameters from SIMULATED spectra: no estimate of a real "
                     "star by them can be relied on")
    if n_foreign:
        lines.append(f"warning: {n_foreign} of {n_stars} stars are of another instrument than the networks were "
                     f"fine-tuned on ({word}), flagged other-instrument: {', '.join(names[:5])}"
                     + ", ..." * (n_foreign > 5))
    return lines
