"""What a run has left so far, for figures, tables and the page on it (no TensorFlow).

Every act leaves sidecars, which say what its files and the spectra were; what is read is held against them first.
"""
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

import paper
from evaluation import catalogues
from inference import mode
from spectra import dataset, star_tables
from workflow import artifacts, schemas
from workflow.command_line import ROOT
from workflow.files import BadInput, load_array, one_line, sha256
from workflow.units import read_sidecar, sidecar_of

ARRAYS = ("ph_flux_norm.npy", "ph_pars.npy", "carmf_norm.npy")
# By the beginning of its networks' names: the act that leaves them, and what it must have measured
ACTS = {"": "autoencoder_training", "dtl_": "autoencoder_fine_tuning"}
METRICS = {"": ("mse_test",),
           "dtl_": ("mse_carm_before", "mse_carm_test_after", "distance_flux", "distance_latent_after")}
FITS = "grid_search/*.json", "halving_*/*.json"
OTHERS = "*_estimation_*_ac_*.json", "tune_*/*.json"
OWN = "give the folder of the spectra of this run (--data)"
ESTIMATES, SELECTION = "final_estimations.csv", "params_final.json"


class NotYet(BadInput):
    """What an act has not left yet: the rest of a run can be shown without it."""


def load(data=None, folder=None):
    """A run, by the folders of its spectra and artifacts, by default those of the acts; nothing is read yet.

    Raises
    ------
    BadInput
        The folder of artifacts holds nothing of a run.
    """
    run = Run(Path(data or ROOT / "src_files"), Path(folder or ROOT / "artifacts"))
    left = [path for pattern in (*FITS, *OTHERS, SELECTION, ESTIMATES) for path in run.artifacts.glob(pattern)]
    if all(".partial-" in path.name for path in left):
        raise BadInput(f"{run.artifacts} holds nothing of a run: give its folder, or begin with "
                       "Methodology/autoencoder_grid_search.py")
    return run


def settings(sidecars, name):
    """The values of a setting in some sidecars, as text: each once, numbers in their order."""
    return listed(str(sidecar.settings[name]) for sidecar in sidecars if name in sidecar.settings)


def listed(texts):
    """Different texts, each once, in the order of their length and letters: epochs as numbers."""
    return ", ".join(sorted(set(texts), key=lambda text: (len(text), text))) or "none yet"


@dataclass(frozen=True, eq=False)
class Run:
    """A run, by the folders of its spectra and of its artifacts. It is read when asked for, and then kept.

    Everything raises NotYet where something is not there, and BadInput where it was changed after it was made, cannot
    be used or belongs to other spectra.
    """

    data: Path
    artifacts: Path

    # ------------------------------------------------------------ sidecars
    @functools.cached_property
    def selection(self):
        """What act 1 chose, a schemas.Selection; None if it has not ended."""
        path = self.artifacts / SELECTION
        return schemas.read(path, schemas.Selection, "run act 1 again") if path.exists() else None

    @functools.cached_property
    def trained(self):
        """Sidecars of the autoencoders that are there, by number, as act 1 ranked them."""
        return self._networks("")

    @functools.cached_property
    def fine_tuned(self):
        """Those of the ones of them that are fine-tuned."""
        return {i: sidecar for i, sidecar in self._networks("dtl_").items() if i in self.trained}

    @functools.cached_property
    def fits(self):
        """Sidecars of the fits of the grid search, a list; those of halving too."""
        return self._sidecars(*FITS)

    @functools.cached_property
    def regressors(self):
        """Sidecars of the regressors on these autoencoders, a list."""
        return self._sidecars(*(f"cnn_regressor_*_ac_{i}.json" for i in range(len(self._architectures))))

    @functools.cached_property
    def sidecars(self):
        """All of them, a list: also of predictions and of searches of hyper-parameters. Of one kind of spectra."""
        found = [*self.fits, *self.trained.values(), *self.fine_tuned.values(), *self.regressors,
                 *self._sidecars(*OTHERS)]
        words = {sidecar.spectra.spectra: sidecar.name for sidecar in found}
        if self.estimation:
            words[self.estimation.spectra.spectra] = ESTIMATES
        if len(words) > 1:
            said = ", ".join(f"{name} {word!r}" for word, name in words.items())
            raise BadInput(f"{self.artifacts} mixes spectra ({said}): keep one run in a folder")
        return found

    @property
    def _architectures(self):
        return self.selection.architectures if self.selection else []

    def _network(self, i, begins):
        return self.artifacts / f"{begins}ac_{i}.h5"

    def _is_there(self, i, begins):
        return self._network(i, begins).exists() and sidecar_of(self._network(i, begins)).exists()

    def _networks(self, begins):
        found = {}
        for i in range(len(self._architectures)):
            if self._is_there(i, begins):
                path, wanted = self._network(i, begins), schemas.plain(self._architectures[i])
                found[i] = read_sidecar(path, METRICS[begins])
                if any(found[i].settings.get(name, value) != value for name, value in wanted.items()):
                    raise BadInput(f"{path} has not the architecture of its number in {self.artifacts / SELECTION}: "
                                   "run Methodology/autoencoder_training.py --overwrite")
        return found

    def _sidecars(self, *patterns):
        """Those of these names, in order; without those that are half written."""
        paths = sorted(path for pattern in patterns for path in self.artifacts.glob(pattern))
        return [read_sidecar(path) for path in paths if ".partial-" not in path.name]

    # ------------------------------------------------------------ what the run is
    @property
    def provenance(self):
        """Of its spectra, a schemas.Provenance: as the sidecars say, not the folder of today."""
        return (self.sidecars or [self.estimation or self.selection])[0].spectra

    @property
    def spectra(self):
        """The word for where its spectra come from."""
        return self.provenance.spectra

    @property
    def simulated(self):
        """Whether that word has "simulated" in it."""
        return "simulated" in self.spectra.lower()

    @property
    def is_paper(self):
        """Whether its spectra are the published ones, so that it can agree with the paper or not."""
        return self.spectra == "published"

    @property
    def simulation(self):
        """Settings of the simulation, in brackets; "" of other spectra."""
        said = [f"{name.replace('_', ' ')} {value}" for name in ("seed", "gap", "gap_seed")
                if (value := getattr(self.provenance, name)) is not msgspec.UNSET]
        return f" ({', '.join(said)})" if said else ""

    @property
    def title(self):
        """What the run is, in a line; the digest is of all networks and estimates, so that pictures can name it."""
        word = "SIMULATED spectra" if self.spectra == "simulated" else f"spectra marked {one_line(self.spectra)!r}"
        epochs = [settings(part.values(), "epochs") for part in (self.trained, self.fine_tuned)]
        tables = [self.estimation] if self.estimation else []
        outputs = [one.outputs for one in (*self.trained.values(), *self.fine_tuned.values(), *tables)]
        digest = hashlib.sha256(repr([sorted(one.items()) for one in outputs]).encode()).hexdigest()
        n = len(self.trained)
        return (f"{word}{self.simulation}: {n} autoencoder{'s' * (n != 1)} trained, epochs: {epochs[0]}; "
                f"{len(self.fine_tuned)} fine-tuned, epochs: {epochs[1]}; digest {digest[:8]}")

    @property
    def missing(self):
        """What its acts have not left yet, a list of str."""
        if not self.selection:
            lines = [f"the grid search has not chosen its architectures ({SELECTION})"]
        else:
            lines = [line for begins, what in (("", "trained"), ("dtl_", "fine-tuned"))
                     for line in self._absent_networks(begins, what)]
            lines += self._absent_regressors() if self.regressors else ["no regressor is trained"]
        if not self.estimation:
            lines.append(f"there are no estimates of the stars ({ESTIMATES})")
        elif self.simulated and self.truth is None:
            lines.append(f"there is no truth of the simulation in {self.data / 'stars.csv'} to hold the estimates to, "
                         "or there are none before fine-tuning")
        return lines

    def _absent_networks(self, begins, what):
        n = len(self._architectures)
        absent = [self._network(i, begins).name for i in range(n) if not self._is_there(i, begins)]
        if absent:
            names = ", ".join(absent[:6]) + ", ..." * (len(absent) > 6)
            yield f"{len(absent)} of {n} autoencoders are not {what}: {names}"

    def _absent_regressors(self):
        repeats = 1 + max(sidecar.settings.get("repeat", 0) for sidecar in self.regressors)
        for par, parameter in paper.PARAMETERS.items():
            n = sum(one.settings.get("parameter") == par for one in self.regressors)
            wanted = repeats * len(self._architectures)
            if n < wanted:
                yield f"{wanted - n} of {wanted} regressors of {parameter.published} are not trained"

    def first(self, begins=""):
        """Number of the autoencoder to draw where one stands for all: the best ranked of those that are there."""
        for kind, there in {"": self.trained, begins: self.fine_tuned if begins else self.trained}.items():
            if not there:
                raise NotYet(f"{self.artifacts} has no {kind}ac_0.h5: run Methodology/{ACTS[kind]}.py first")
        return next(iter(there))

    # ------------------------------------------------------------ arrays
    def array(self, name, i):
        """An array of one autoencoder, `encoded_ph` of act 2 or one of act 3, such as `residual_carm_before`."""
        path = self.artifacts / f"{name}_ac_{i}.npy"
        begins = "" if name == "encoded_ph" else "dtl_"
        again = f"run Methodology/{ACTS[begins]}.py again"
        if path.name not in (self.fine_tuned if begins else self.trained)[i].outputs:
            raise NotYet(f"{path} not found, earlier versions left none: {again}")
        artifacts.require(self._network(i, begins), ACTS[begins], [self._network(i, "")] * bool(begins))
        return load_array(path, 2, again)

    @functools.cached_property
    def sources(self):
        """Paths of those of ARRAYS that are in the folder of the spectra, by name: they are what the run is made of."""
        found = {name: self.data / name for name in ARRAYS if (self.data / name).exists()}
        for name, path in found.items():
            made_of = {one.inputs[name]: one.name for one in self.sidecars if name in one.inputs}
            others = [other for digest, other in made_of.items() if digest != sha256(path)]
            if others:
                raise BadInput(f"{self.artifacts}: {others[0]} was made from another {name} than {path}: {OWN}")
        note = self.data / "provenance.json"
        word = dataset.provenance(self.data).spectra if found and note.exists() else self.spectra
        if word != self.spectra:
            raise BadInput(f"{note} marks the spectra {word!r}, {self.artifacts} was made from spectra marked "
                           f"{self.spectra!r}: {OWN}")
        return found

    def source(self, name):
        """Path of one of ARRAYS."""
        if name not in self.sources:
            raise NotYet(f"{self.data / name} not found: {dataset.REMEDY}")
        return self.sources[name]

    def flux(self, domain):
        """The spectra of a domain, "ph" or "carm", memory-mapped, (n_spectra, n_pixels)."""
        return load_array(self.source({"ph": ARRAYS[0], "carm": ARRAYS[2]}[domain]), 2, dataset.REMEDY)

    def labels(self, par):
        """One parameter of the synthetic spectra, (n_spectra,)."""
        return dataset.label(par, self.source("ph_pars.npy"))

    def stars(self):
        """Names of the observed stars, a list of str: those of the estimates if there are any."""
        if self.estimates is not None:
            return list(self.estimates["karmn"])
        return list(star_tables.read(dataset.stars_file(self.data), "see src_files/README.md")["karmn"])

    # ------------------------------------------------------------ estimates and tables
    @functools.cached_property
    def estimates(self):
        """The estimates as `catalogues.load_estimates` gives them; None if there are none yet."""
        path = self.artifacts / ESTIMATES
        return catalogues.load_estimates(path) if path.exists() else None

    @functools.cached_property
    def estimation(self):
        """Sidecar of the estimates, a schemas.Estimates, the table unchanged; None if there are none yet."""
        if self.estimates is None:
            return None
        again = "run Methodology/cnn_training.py again"
        return schemas.read(sidecar_of(self.artifacts / ESTIMATES), schemas.Estimates, again)

    @property
    def kept(self):
        """The regressors on which the estimates rest, a schemas.Kept a parameter."""
        if not self.estimation:
            raise NotYet(f"{self.artifacts / ESTIMATES} not found: run Methodology/cnn_training.py first")
        return self.estimation.kept

    def predictions(self, par):
        """Those of the kept regressors of a parameter, (n_members, n_stars)."""
        paths = [self.artifacts / mode.prediction_name(name) for name in self.kept[par].members]
        for path in paths:
            artifacts.require(path, "cnn_training")
        return np.array([load_array(path, 1, "run Methodology/cnn_training.py again") for path in paths], float)

    @functools.cached_property
    def truth(self):
        """The true parameters of simulated stars, `karmn` and all four; None if there are none to hold estimates to.

        Raises
        ------
        BadInput
            The table of the stars is another one than that of the estimates.
        """
        path, before = self.data / "stars.csv", self.artifacts / "final_estimations_before.csv"
        if not self.simulated or not self.estimation or not path.exists():
            return None
        if self.estimation.inputs and sha256(path) not in self.estimation.inputs.values():
            raise BadInput(f"{self.artifacts / ESTIMATES} was made with another stars.csv than {path}: {OWN}")
        stars = star_tables.read(path, "restore it")
        if not set(paper.PARAMETERS) <= set(stars) or not before.exists():
            return None
        catalogues.load_estimates(before)  # as it was left
        return stars

    def measured(self):
        """What `claims.of_run` holds against the paper, by the names of paper.CLAIMS_OF_RUNS."""
        found = {metric: [sidecar.metrics[metric] for sidecar in part.values()]
                 for part, metrics in zip((self.trained, self.fine_tuned), METRICS.values())
                 for metric in metrics}
        if "ph_pars.npy" in self.sources:
            hot = self.labels("teff") > paper.TEFF_SPLIT
            found.update(synthetic=[len(hot)], hot=hot)
        if self.trained:
            found["autoencoders"] = [len(self.trained)]
        kept = self.estimation.kept if self.estimation else {}
        found["regressors"] = [len(part.ensemble) for part in kept.values() if part.ensemble]
        found["kept"] = [len(part.members) for part in kept.values()]
        return {**found, **{par: [part.largest_mse_test] for par, part in kept.items()}}
