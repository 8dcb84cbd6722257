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
from spectra import dataset, star_tables
from spectra.dataset import Dataset
from workflow import schemas
from workflow.artifacts import ACT, FINETUNED, FITS, PREDICTIONS, PRETRAINED, REGRESSORS, TUNING, Artifacts
from workflow.command_line import ROOT
from workflow.files import BadInput, load_array, one_line, sha256
from workflow.units import NAMES, read_sidecar, sidecar_of

METRICS = {PRETRAINED: ("mse_test",),
           FINETUNED: ("mse_carm_before", "mse_carm_test_after", "distance_flux", "distance_latent_after")}
OWN = "give the folder of the spectra of this run (--data)"
AGAIN = "run Methodology/cnn_training.py again"


class NotYet(BadInput):
    """What an act has not left yet: the rest of a run can be shown without it."""


def load(data=None, folder=None):
    """A run, by the folders of its spectra and artifacts, by default those of the acts; nothing is read yet."""
    run = Run(Dataset(Path(data or ROOT / "src_files")), Artifacts(Path(folder or ROOT / "artifacts")))
    artifacts = run.artifacts
    fits = [path for pattern in (*FITS, PREDICTIONS, TUNING) for path in artifacts.folder.glob(pattern)]
    tables = [path for path in (artifacts.selection, artifacts.estimates()) if path.exists()]
    if all(".partial-" in path.name for path in fits + tables):
        raise BadInput(f"{artifacts} holds nothing of a run: give its folder, or begin with "
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
    """A run, by the folders of its spectra and of its artifacts; each part is read when asked for, once.

    Everything raises NotYet where something is not there, BadInput where it was changed or belongs to other spectra.
    """

    data: Dataset
    artifacts: Artifacts

    # ------------------------------------------------------------ sidecars
    @functools.cached_property
    def selection(self):
        """What act 1 chose, a schemas.Selection; None if it has not ended."""
        path = self.artifacts.selection
        return schemas.read(path, schemas.Selection, "run act 1 again") if path.exists() else None

    @functools.cached_property
    def trained(self):
        """Sidecars of the trained autoencoders that are there, a dict by number, as act 1 ranked them."""
        return self._networks(PRETRAINED)

    @functools.cached_property
    def fine_tuned(self):
        """Sidecars of the fine-tuned autoencoders of these that are there, a dict by number."""
        return {i: sidecar for i, sidecar in self._networks(FINETUNED).items() if i in self.trained}

    @functools.cached_property
    def fits(self):
        """Sidecars of the fits of the grid search, of halving too, a list."""
        return self.artifacts.sidecars(*FITS)

    @functools.cached_property
    def regressors(self):
        """Sidecars of the regressors on these autoencoders, a list."""
        return [sidecar for sidecar in self.artifacts.sidecars(REGRESSORS)
                if sidecar.settings.get("autoencoder") in range(len(self._architectures))]

    @functools.cached_property
    def sidecars(self):
        """Sidecars of all units, also of predictions and of searches of hyper-parameters; of one kind of spectra."""
        sidecars = [*self.fits, *self.trained.values(), *self.fine_tuned.values(), *self.regressors,
                    *self.artifacts.sidecars(PREDICTIONS, TUNING)]
        kinds = {sidecar.spectra.kind: sidecar.name for sidecar in sidecars}
        if self.estimation:
            kinds[self.estimation.spectra.kind] = self.artifacts.estimates().name
        if len(kinds) > 1:
            listing = ", ".join(f"{name} {kind!r}" for kind, name in kinds.items())
            raise BadInput(f"{self.artifacts} mixes spectra ({listing}): keep one run in a folder")
        for sidecar in sidecars:
            self._refuse_mixture(sidecar)
        return sidecars

    def _refuse_mixture(self, sidecar):
        """Refuse what was made from, or left, another file than the one of that name which is there now."""
        for how, digests in (("was made from", sidecar.inputs), ("left", sidecar.outputs)):
            for name, digest in digests.items():
                path = self.artifacts.folder / Path(name).name
                if path.is_file() and sha256(path) != digest:
                    raise BadInput(f"{self.artifacts}: {sidecar.name} {how} another {path.name} than is there now: one "
                                   "of them is of another run, or its act has to run again")

    @property
    def _architectures(self):
        return self.selection.architectures if self.selection else []

    def _networks(self, stage):
        if not self.selection:
            return {}
        sidecars = {i: read_sidecar(self.artifacts.autoencoder(i, stage), METRICS[stage])
                    for i in self.artifacts.made(stage)}
        for i, sidecar in sidecars.items():
            wanted = schemas.plain(self._architectures[i])
            if any(sidecar.settings.get(name, value) != value for name, value in wanted.items()):
                raise BadInput(f"{self.artifacts.autoencoder(i, stage)} has not the architecture of its number in "
                               f"{self.artifacts.selection}: run Methodology/autoencoder_training.py --overwrite")
        return sidecars

    # ------------------------------------------------------------ what the run is
    @property
    def provenance(self):
        """Of its spectra, a schemas.Provenance: as what was made last of them says, not the folder of today."""
        made = [self.selection, *self.sidecars[:1], *self.trained.values(), *self.fine_tuned.values(), self.estimation]
        return [part for part in made if part][-1].spectra

    @property
    def spectra(self):
        """The word for where its spectra come from, a schemas.Kind."""
        return self.provenance.kind

    @property
    def codes(self):
        """Digests of the code that made its units and its estimates, a set."""
        return {part.code for part in [*self.sidecars, self.estimation] if part and part.code}

    @property
    def simulation(self):
        """Settings of the simulation, in brackets; "" of other spectra."""
        texts = [f"{name.replace('_', ' ')} {value}" for name in ("seed", "gap", "gap_seed")
                 if (value := getattr(self.provenance, name)) is not msgspec.UNSET]
        return f" ({', '.join(texts)})" if texts else ""

    @property
    def title(self):
        """What the run is, in a line; the digest is of all networks and estimates, so that pictures can name it."""
        word = "SIMULATED spectra" if self.spectra == "simulated" else f"spectra marked {one_line(self.spectra)!r}"
        epochs = [settings(part.values(), "epochs") for part in (self.trained, self.fine_tuned)]
        sidecars = [*self.trained.values(), *self.fine_tuned.values(), *filter(None, [self.estimation])]
        digest = hashlib.sha256(repr([sorted(sidecar.outputs.items()) for sidecar in sidecars]).encode()).hexdigest()
        n = len(self.trained)
        return (f"{word}{self.simulation}: {n} autoencoder{'s' * (n != 1)} trained, epochs: {epochs[0]}; "
                f"{len(self.fine_tuned)} fine-tuned, epochs: {epochs[1]}; digest {digest[:8]}")

    def refuse_change(self):
        """Refuse a run that is another by now than what was read of it."""
        if Run(self.data, Artifacts(self.artifacts.folder)).title != self.title:
            raise BadInput(f"{self.artifacts} was changed while it was read: run again")

    @property
    def mark_of_gap(self):
        """What the picture of the gap says it is of: the run, and the table of numbers beside it."""
        return f"{self.title}; {sha256(self.artifacts.gap_report)}"

    @property
    def missing(self):
        """What its acts have not left yet, a list of str."""
        if not self.selection:
            lines = [f"the grid search has not chosen its architectures ({self.artifacts.selection.name})"]
        else:
            lines = [*self._absent_networks(PRETRAINED, "trained"), *self._absent_networks(FINETUNED, "fine-tuned"),
                     *self._absent_regressors()]
        if not self.estimation:
            lines.append(f"there are no estimates of the stars ({self.artifacts.estimates().name})")
        elif self.spectra.simulated and self.truth is None:
            lines.append(f"there is no truth of the simulation in {self.data.folder / 'stars.csv'} to hold the "
                         "estimates to, or there are none before fine-tuning")
        return lines

    def _absent_networks(self, stage, what):
        n, made = len(self._architectures), self.artifacts.made(stage)
        if absent := [self.artifacts.autoencoder(i, stage).name for i in range(n) if i not in made]:
            names = ", ".join(absent[:6]) + ", ..." * (len(absent) > 6)
            yield f"{len(absent)} of {n} autoencoders are not {what}: {names}"

    def _absent_regressors(self):
        if not self.regressors:
            yield "no regressor is trained"
            return
        wanted = (1 + max(sidecar.settings.get("repeat", 0) for sidecar in self.regressors)) * len(self._architectures)
        for par, parameter in paper.PARAMETERS.items():
            n = sum(sidecar.settings.get("parameter") == par for sidecar in self.regressors)
            if n < wanted:
                yield f"{wanted - n} of {wanted} regressors of {parameter.published} are not trained"

    def first(self, stage=PRETRAINED):
        """Number of the autoencoder to draw where one stands for all: the best ranked of those that are there."""
        for needed, sidecars in {PRETRAINED: self.trained, stage: self.networks(stage)}.items():
            if not sidecars:
                raise NotYet(f"{self.artifacts} has no {self.artifacts.autoencoder(0, needed).name}: run "
                             f"Methodology/{ACT[needed]}.py first")
        return next(iter(sidecars))

    def networks(self, stage):
        """Sidecars of the autoencoders of a stage, a dict by number."""
        return {PRETRAINED: self.trained, FINETUNED: self.fine_tuned}[stage]

    # ------------------------------------------------------------ arrays
    def encoded_ph(self, i):
        """Encodings of the synthetic spectra by autoencoder `i` before fine-tuning, (n_spectra, 32)."""
        return self._array(self.artifacts.encoded_ph(i), i, PRETRAINED)

    def reconstructed_ph(self, i):
        """The synthetic examples as autoencoder `i` reconstructs them before fine-tuning, (4, n_pixels)."""
        return self._array(self.artifacts.reconstructed_ph(i), i, FINETUNED)

    def of_stars(self, what, i, stage=FINETUNED):
        """What autoencoder `i` makes of the observed spectra: "encoded", "reconstructed" or "residual"."""
        return self._array(self.artifacts.of_stars(what, i, stage), i, FINETUNED)

    def _array(self, path, i, stage):
        again = f"run Methodology/{ACT[stage]}.py again"
        if path.name not in self.networks(stage)[i].outputs:
            raise NotYet(f"{path} not found: {again}")
        made_of = [self.artifacts.autoencoder(i)] * (stage == FINETUNED)
        self.artifacts.require(self.artifacts.autoencoder(i, stage), ACT[stage], made_of)
        return load_array(path, 2, again)

    @functools.cached_property
    def sources(self):
        """Paths of those arrays that are in the folder of the spectra, by name: they are what the run is made of."""
        data = self.data
        paths = {path.name: path for path in (data.ph, data.pars, data.carm) if path.exists()}
        for name, path in paths.items():
            made_of = {sidecar.inputs[name]: sidecar.name for sidecar in self.sidecars if name in sidecar.inputs}
            if differing := [unit for digest, unit in made_of.items() if digest != sha256(path)]:
                raise BadInput(f"{self.artifacts}: {differing[0]} was made from another {name} than {path}: {OWN}")
        kind = data.provenance.kind if paths and data.note.exists() else self.spectra
        if kind != self.spectra:
            raise BadInput(f"{data.note} marks the spectra {kind!r}, {self.artifacts} was made from spectra marked "
                           f"{self.spectra!r}: {OWN}")
        return paths

    def source(self, path):
        """The path of one of these arrays, if it is there."""
        if path.name not in self.sources:
            raise NotYet(f"{path} not found: {dataset.REMEDY}")
        return path

    def flux(self, domain):
        """The spectra of a domain, "ph" or "carm", memory-mapped, (n_spectra, n_pixels)."""
        return load_array(self.source(getattr(self.data, domain)), 2, dataset.REMEDY)

    def examples(self, domain):
        """Rows of the few spectra of a domain whose reconstructions are drawn, those of act 3."""
        for name in {"ph": ("ph", "pars"), "carm": ("carm",)}[domain]:
            self.source(getattr(self.data, name))
        return getattr(self.data, f"examples_{domain}")

    def labels(self, par):
        """One parameter of the synthetic spectra, (n_spectra,)."""
        labels_ph = load_array(self.source(self.data.pars), 2, dataset.REMEDY)
        return np.array(labels_ph[:, paper.PARAMETERS[par].column], np.float32)

    def stars(self):
        """Names of the observed stars, a list of str: those of the estimates if there are any."""
        if self.estimates is not None:
            return list(self.estimates["karmn"])
        for sidecar in self.fine_tuned.values():
            if sidecar.inputs.get(NAMES, self.data.names) != self.data.names:
                raise BadInput(f"{self.artifacts}: {sidecar.name} was made for stars of other names, or in another "
                               f"order, than {self.data.stars_table} has: {OWN}")
        return list(self.data.stars["karmn"])

    # ------------------------------------------------------------ estimates and tables
    @functools.cached_property
    def estimates(self):
        """The estimates as `catalogues.load_estimates` gives them; None if there are none yet."""
        path = self.artifacts.estimates()
        return catalogues.load_estimates(path) if path.exists() else None

    @functools.cached_property
    def estimation(self):
        """Sidecar of the estimates, a schemas.Estimates, the table unchanged; None if there are none yet."""
        if self.estimates is None:
            return None
        return schemas.read(sidecar_of(self.artifacts.estimates()), schemas.Estimates, AGAIN)

    @property
    def kept(self):
        """The regressors on which the estimates rest, a schemas.Kept a parameter."""
        if not self.estimation:
            raise NotYet(f"{self.artifacts.estimates()} not found: run Methodology/cnn_training.py first")
        return self.estimation.kept

    def predictions(self, par):
        """Predictions of the kept regressors of a parameter, (n_members, n_stars)."""
        sidecars = [read_sidecar(self.artifacts.folder / f"{name}.h5") for name in self.kept[par].members]
        paths = [self.artifacts.prediction(par, sidecar.settings["repeat"], sidecar.settings["autoencoder"])
                 for sidecar in sidecars]
        for path in paths:
            self.artifacts.require(path, "cnn_training")
        return np.array([load_array(path, 1, AGAIN) for path in paths], float)

    @functools.cached_property
    def truth(self):
        """The true parameters of simulated stars, `karmn` and all four; None if there are none to hold estimates to."""
        path, before = self.data.folder / "stars.csv", self.artifacts.estimates(PRETRAINED)
        if not self.spectra.simulated or not self.estimation or not path.exists():
            return None
        if sha256(path) not in self.estimation.inputs.values():
            raise BadInput(f"{self.artifacts.estimates()} was made with another stars.csv than {path}: {OWN}")
        stars = star_tables.read(path, "restore it")
        if not set(paper.PARAMETERS) <= set(stars) or not before.exists():
            return None
        catalogues.load_estimates(before)  # as it was left
        return stars

    def table(self, path):
        """A table of estimates that belongs to the run, as it was left, of the published columns and more.

        What else its sidecar names lies beside it as it was left too.
        """
        again = "the script that made it has to run again"
        sidecar = schemas.read(sidecar_of(path), schemas.Estimates, again)
        for name in {path.name, *sidecar.outputs}:
            output = path.parent / name
            if not output.exists() or sidecar.outputs.get(name) != sha256(output):
                raise BadInput(f"{output} is missing or was changed after it was made: {again}")
        others = [name for name, source in self.sources.items() if sidecar.inputs.get(name, sha256(source)) !=
                  sha256(source)]
        if others:
            raise BadInput(f"{path} was made from another {others[0]} than {self.sources[others[0]]}: {again}")
        return star_tables.read(path, again)

    def measured(self):
        """What `claims.of_run` holds against the paper, by the names of paper.CLAIMS_OF_RUNS."""
        values = {metric: [sidecar.metrics[metric] for sidecar in self.networks(stage).values()]
                  for stage, metrics in METRICS.items() for metric in metrics}
        if "ph_pars.npy" in self.sources:
            hot = self.labels("teff") > paper.TEFF_SPLIT
            values.update(synthetic=[len(hot)], hot=hot)
        if self.trained:
            values["autoencoders"] = [len(self.trained)]
        of_parameters = self.estimation.kept if self.estimation else {}
        values["regressors"] = [len(kept.ensemble) for kept in of_parameters.values() if kept.ensemble]
        values["kept"] = [len(kept.members) for kept in of_parameters.values()]
        return {**values, **{par: [kept.largest_mse_test] for par, kept in of_parameters.items()}}
