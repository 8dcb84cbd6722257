"""From prepared spectra to estimates: the networks of a run, held against their sidecars, loaded once and applied."""
import contextlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

import paper
from inference import flags, mode
from inference.neighbours import nearest_distances
from observations import batch, preparation
from spectra import dataset
from spectra.velocity import Templates
from training import networks
from workflow import schemas
from workflow.artifacts import Artifacts
from workflow.command_line import ROOT
from workflow.files import BadInput, load_array, one_line, sha256, take
from workflow.units import read_sidecar

SETS = ROOT / "src_files"  # it, or a folder in it, holds the synthetic set unless --data says where


# ---------------------------------------------------------------- which networks
@dataclass(frozen=True)
class Ensemble:
    """The networks on which the estimates of a run rest, all as their sidecars say.

    Attributes
    ----------
    folder : Path
        Of the run's artifacts.
    autoencoders : list of int
        Numbers of the autoencoders whose encodings the kept regressors take, the best ranked first.
    kept : dict of str to schemas.Kept
        The kept regressors of each parameter.
    fine_tuned_on, trained_on : schemas.Provenance
        Of the observed and of the synthetic spectra.
    templates : velocity.Templates
        Of the synthetic set.
    grid : dict of str to ndarray
        The different labels of the synthetic set, ascending, of each parameter.
    limits : dict of str to ndarray
        What flags hold stars against, see `flags.limits`.
    """

    folder: Path
    autoencoders: list
    kept: dict
    fine_tuned_on: schemas.Provenance
    trained_on: schemas.Provenance
    templates: Templates
    grid: dict
    limits: dict

    @property
    def resolving_power(self):
        """That of the synthetic set, to which spectra are degraded."""
        return dataset.resolving_power_of(self.trained_on)

    @property
    def continuum(self):
        """What the synthetic set was divided by, one of preparation.CONTINUA."""
        return preparation.continuum_of(self.trained_on)

    def path(self, i, begins="dtl_"):
        """Of autoencoder `i`: fine-tuned, or with "" as it was before."""
        return self.folder / f"{begins}ac_{i}.h5"


def select(folder, data=None):
    """The networks of a run, checked.

    Parameters
    ----------
    folder : Path
        Of the run's artifacts.
    data : Path, optional
        Folder of the synthetic set that they were trained on; by default it is looked for in src_files.

    Returns
    -------
    Ensemble

    Raises
    ------
    BadInput
        The run has not ended, a file was changed or belongs to other spectra, or the synthetic set is not found or not
        on the paper's grid.
    """
    note = schemas.read(folder / "final_estimations.json", schemas.Estimates,
                        "run Methodology/cnn_training.py first, with the same --artifacts")
    kept = {par: note.kept[par] for par in paper.PARAMETERS if par in note.kept}
    members = [name for one in kept.values() for name in one.members]
    numbers = sorted({autoencoder_of(name) for name in members})
    if not numbers:
        raise BadInput(f"{folder / 'final_estimations.json'} names no regressors: run Methodology/cnn_training.py "
                       "again")
    first = folder / f"ac_{numbers[0]}.h5"
    data = data or find_synthetic(first)
    ph, pars = data / "ph_flux_norm.npy", data / "ph_pars.npy"
    for path in (ph, pars):
        if not path.exists():
            raise BadInput(f"{path} not found: give the folder of the synthetic set of {folder} with --data")
    for i in numbers:
        ac, dtl = folder / f"ac_{i}.h5", folder / f"dtl_ac_{i}.h5"
        Artifacts(folder).require(ac, "autoencoder_training", [ph])
        Artifacts(folder).require(dtl, "autoencoder_fine_tuning", [ac, ph, pars])
    for name in members:
        perturbed = any("perturbed" in file for file in read_sidecar(folder / f"{name}.h5").inputs)
        encoded = folder / f"encoded_ph{'_perturbed' * perturbed}_ac_{autoencoder_of(name)}.npy"
        Artifacts(folder).require(folder / f"{name}.h5", "cnn_training", [encoded, pars])
    flux_ph, labels_ph = load_array(ph, 2, dataset.REMEDY), load_array(pars, 2, dataset.REMEDY)
    if flux_ph.shape[1] != paper.N_PIXELS:
        raise BadInput(f"{ph} has {flux_ph.shape[1]} pixels: spectra can be prepared only on the paper's grid of "
                       f"{paper.N_PIXELS}, give others to the acts as arrays")
    fine_tuned = [read_sidecar(folder / f"dtl_ac_{i}.h5") for i in numbers]
    return Ensemble(folder, numbers, kept, fine_tuned[0].spectra, dataset.Dataset(data).provenance,
                    Templates.of(flux_ph, labels_ph), flags.grid_of(labels_ph),
                    flags.limits(fine_tuned))


def autoencoder_of(regressor):
    """Number of the autoencoder whose encodings a regressor takes, by its name."""
    return int(regressor.rpartition("_ac_")[2])


def find_synthetic(ac):
    """The folder in src_files with the synthetic set that an autoencoder was trained on.

    Of several that hold it, the first with the same word for where the spectra come from.

    Raises
    ------
    BadInput
        There is none.
    """
    sidecar = Artifacts(ac.parent).require(ac, "autoencoder_training")
    wanted = sidecar.inputs.get("ph_flux_norm.npy")
    paths = sorted([*SETS.glob("ph_flux_norm.npy"), *SETS.glob("*/ph_flux_norm.npy")])
    said = {path: _said(path.parent) for path in paths}
    found = [path for path in paths if said[path].files.get(path.name) == wanted]
    found = found or [path for path in paths if path.name not in said[path].files and sha256(path) == wanted]
    if not found:
        raise BadInput(f"{SETS} and its folders hold no ph_flux_norm.npy that {ac} was trained on (sha256 "
                       f"{str(wanted)[:8]}...): give the folder of that one with --data")
    return min(found, key=lambda path: said[path].spectra != sidecar.spectra.spectra).parent


def _said(data):
    """provenance.json of a folder; that of nothing known where it is absent or cannot be used."""
    with contextlib.suppress(BadInput):
        return schemas.read(data / "provenance.json", schemas.Provenance, "")
    return schemas.UNKNOWN


# ---------------------------------------------------------------- applying them
@dataclass(frozen=True, eq=False)
class Network:
    """A network as its weights, and a model of its shape, which is given them when it is applied.

    Many share one model: to build it takes several times as long as to read the weights of a network.
    """

    model: object
    weights: list

    @classmethod
    def of(cls, model):
        """With the weights that the model has now."""
        return cls(model, model.get_weights())

    def __call__(self, x):
        """Outputs, (n_spectra, n_outputs), of an array of shape (n_spectra, ...)."""
        self.model.set_weights(self.weights)
        return networks.predict(self.model, x)


@dataclass(frozen=True, eq=False)
class Networks:
    """The networks of an ensemble.

    Attributes
    ----------
    autoencoders, encoders : dict of int to Network
        By number, the best ranked first: give spectra of shape (n_stars, n_pixels) as they reconstruct and encode them.
    training : dict of int to ndarray
        Encodings of the synthetic training set by the autoencoders before fine-tuning, (n_spectra, 32), by number.
    regressors : dict of str to list of (int, Network)
        Of each parameter, with the numbers of their autoencoders.
    """

    autoencoders: dict
    encoders: dict
    training: dict
    regressors: dict

    def encode(self, flux):
        """Encodings of spectra, (n_stars, n_pixels), by every autoencoder, a dict of (n_stars, 32) by number."""
        return {i: encoder(flux) for i, encoder in self.encoders.items()}

    def reconstruct(self, flux):
        """Spectra as the best ranked autoencoder gives them, and the mean squared errors of all, (n_ac, n_stars)."""
        first, errors = None, []
        for autoencoder in self.autoencoders.values():
            reconstruction = autoencoder(flux)
            first = reconstruction if first is None else first
            errors.append(np.square(flux - reconstruction).mean(axis=1, dtype=float))
        return first, np.array(errors)

    def predict(self, encoded):
        """Predictions of each parameter from what `encode` gives, a dict of (n_members, n_stars)."""
        return {par: np.array([regressor(encoded[i][..., None])[:, 0] for i, regressor in members])
                for par, members in self.regressors.items()}


def load(ensemble, fine_tuned=None):
    """Load the networks of an ensemble.

    Parameters
    ----------
    ensemble : Ensemble
    fine_tuned : Path, optional
        Folder of the fine-tuned autoencoders, by default the ensemble's own.

    Returns
    -------
    Networks
    """
    whole, narrow, autoencoders, encoders, training = {}, {}, {}, {}, {}
    for i in ensemble.autoencoders:
        path = (fine_tuned or ensemble.folder) / ensemble.path(i).name
        width = read_sidecar(path).network.neurons_in  # what else it has matters only in training
        whole[width] = networks.load(path, into=whole.get(width))
        if width not in narrow:
            narrow[width] = networks.encoder_of(whole[width])
        autoencoders[i] = Network.of(whole[width])
        encoders[i] = Network(narrow[width], autoencoders[i].weights[: len(narrow[width].weights)])
        encoded = load_array(ensemble.folder / f"encoded_ph_ac_{i}.npy", 2, "run Methodology/autoencoder_training.py")
        training[i] = take(encoded, dataset.split(len(encoded), "ph")[0])
    cnns, regressors = {}, {par: [] for par in ensemble.kept}
    for par, kept in ensemble.kept.items():
        for name in kept.members:
            path = ensemble.folder / f"{name}.h5"
            shape = read_sidecar(path).network
            cnns[shape] = networks.load(path, into=cnns.get(shape))
            regressors[par].append((autoencoder_of(name), Network.of(cnns[shape])))
    return Networks(autoencoders, encoders, training, regressors)


# ---------------------------------------------------------------- what is written down
def estimated(ensemble, loaded, stars, flux, fine_tuned_on, seen=None):
    """Estimate prepared stars.

    Parameters
    ----------
    ensemble : Ensemble
    loaded : Networks
    stars : DataFrame
        Records of observations/batch.py, a row a star.
    flux : ndarray of shape (n_stars, n_pixels)
    fine_tuned_on : schemas.Provenance
        Of the spectra that `loaded` was fine-tuned on.
    seen : ndarray of int, optional
        Rows of those among these stars, where it was on these; by default on others.

    Returns
    -------
    table : DataFrame
        The columns of the published table, then `file`, `instrument`, `snr` per pixel, `rv` and `e_rv` [km/s], and
        flags.COLUMNS.
    predictions : dict of str to ndarray of shape (n_members, n_stars)
        Of each parameter.
    reconstruction : ndarray of shape (n_stars, n_pixels)
        By the best ranked autoencoder.
    """
    encoded = loaded.encode(flux)
    predictions = loaded.predict(encoded)
    reconstruction, errors = loaded.reconstruct(flux)
    table = mode.table(stars, {par: mode.estimate(values) for par, values in predictions.items()})
    distances = np.array([nearest_distances(encoded[i], loaded.training[i]) for i in encoded])
    limits = {word: limit for word, limit in ensemble.limits.items()  # the one is of the stars that the run tuned on
              if seen is None or word != "reconstruction-observed"}
    trained_on = np.isin(np.arange(len(stars)), [] if seen is None else seen)
    found, _ = flags.table(
        {par: table[parameter.published] for par, parameter in paper.PARAMETERS.items()}, ensemble.grid,
        ensemble.resolving_power,
        {par: (values, [i for i, _ in loaded.regressors[par]]) for par, values in predictions.items()},
        (errors, distances, limits) if limits else None,
        {"snr": stars["snr"], "seen": trained_on, "foreign": other_instrument(stars, fine_tuned_on)},
    )
    known = stars[["file", "instrument", "snr", "rv", "e_rv"]]
    return table.join(known).join(found), predictions, reconstruction


def other_instrument(stars, fine_tuned_on):
    """Of each star, whether the networks were fine-tuned on spectra of other instruments, or simulated ones alone."""
    known = {"published": ["carmenes"], "simulated": []}.get(
        fine_tuned_on.spectra, [word.strip().lower() for word in fine_tuned_on.spectra.split(",")])
    of_stars = [str(instrument).lower() or "own" for instrument in stars["instrument"]]
    return np.array([not any(name.startswith(word) for word in known) for name in of_stars])


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
    said = []
    if fine_tuned_on.preparation not in (msgspec.UNSET, batch.VERSION):
        said.append(f"warning: the networks were fine-tuned on stars of version {fine_tuned_on.preparation} of the "
                    f"preparation, these are of version {batch.VERSION}: prepare those again with "
                    "src_files/prepare_spectra.py and run act 3 and act 4 on them, or use --tune")
    if "simulated" in word:
        said.append("warning: the networks have learnt the parameters from SIMULATED spectra: no estimate of a real "
                    "star by them can be relied on")
    names = [name for name, words in zip(table["karmn"], table["flags"]) if "other-instrument" in words]
    if names:
        some = f"{', '.join(names[:5])}{', ...' * (len(names) > 5)}"
        said.append(f"warning: {len(names)} of {len(table)} stars are of another instrument than the networks were "
                    f"fine-tuned on ({word}), flagged other-instrument: {some}")
    return said


def shown(table):
    """The table as it is printed, each estimate and its uncertainties in one column, a str."""
    columns = {"star": table["karmn"]}
    for parameter in paper.PARAMETERS.values():
        x, digits = parameter.published, parameter.digits
        columns[f"{x} [{parameter.unit}]"] = [
            f"{value:.{digits}f} -{below:.{digits}f} +{above:.{digits}f}"
            for value, below, above in table[[x, f"e_{x}", f"E_{x}"]].to_numpy()]
    return pd.DataFrame({**columns, "flags": flags.in_words(table)}).to_string(index=False)
