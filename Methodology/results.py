"""What a run left, read for figures and tables; every array is held against its sidecar first (no TensorFlow)."""
import functools
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

import artifacts
import estimates
import literature
import paper
import records
import spectra
import star_tables
from command_line import ROOT
from files import BadInput, load_array, one_line

__all__ = ["NotYet", "Run", "load", "numbers", "title"]

ACTS = {"": "autoencoder_training", "dtl_": "autoencoder_fine_tuning"}  # by the beginning of its networks' names
DATA = {"ph": "ph_flux_norm.npy", "carm": "carmf_norm.npy"}


class NotYet(BadInput):
    """What an act has not left yet: the rest of a run can be drawn without it."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run, by the folders of its spectra and of its artifacts. What is read is kept.

    Every method raises NotYet where something is not there, and BadInput where it was changed after it was made or
    belongs to other spectra.
    """

    data: Path
    artifacts: Path

    @functools.cached_property
    def trained(self):
        """Numbers of the autoencoders that are there, best of the cross-validation first, a list of int."""
        return [int(path.stem.split("_")[1]) for path in artifacts.trained(self.artifacts)]

    @functools.cached_property
    def fine_tuned(self):
        """Those of them that are fine-tuned."""
        return [i for i in self.trained if artifacts.sidecar_of(self._network(i, "dtl_")).exists()]

    @functools.cached_property
    def origin(self):
        """Where the spectra come from, a records.Provenance: as the first sidecar says, not the folder of today."""
        if self.trained:
            return self.sidecar(self.trained[0]).spectra
        return records.read(self.artifacts / "params_final.json", records.Selection, "run act 1 again").spectra

    def first(self, begins=""):
        """Number of the autoencoder to draw where one stands for all: the best of the cross-validation."""
        for kind, there in {"": self.trained, begins: self.fine_tuned if begins else self.trained}.items():
            if not there:
                raise NotYet(f"{self.artifacts} has no {kind}ac_0.h5: run Methodology/{ACTS[kind]}.py first")
        return there[0]

    def sidecar(self, i, begins=""):
        """The sidecar of a network, a records.Sidecar."""
        return artifacts.read_sidecar(self._network(i, begins))

    def _network(self, i, begins):
        return self.artifacts / f"{begins}ac_{i}.h5"

    @functools.cache  # noqa: B019  # a run is read once, to its end
    def checked(self, i, begins=""):
        """That a network and what came with it are as they were made, from these spectra."""
        sources = [path for name in (*DATA.values(), "ph_pars.npy") if (path := self.data / name).exists()]
        provenance = spectra.provenance(self.data) if sources else None
        before = [self._network(i, "")] * bool(begins)
        artifacts.require(self._network(i, begins), ACTS[begins], [*sources, *before], provenance)

    def array(self, name, i):
        """An array of one autoencoder, `encoded_ph` of act 2 or one of act 3, such as `residual_carm_before`."""
        path = self.artifacts / f"{name}_ac_{i}.npy"
        begins = "" if name == "encoded_ph" else "dtl_"
        if path.name not in self.sidecar(i, begins).outputs:
            raise NotYet(f"{path} not found, earlier versions left none: run Methodology/{ACTS[begins]}.py again")
        self.checked(i, begins)
        return load_array(path, 2, f"run Methodology/{ACTS[begins]}.py again")

    def source(self, name):
        """Path of an array of spectra or labels, from which what is there of the networks was made."""
        path = self.data / name
        if not path.exists():
            raise NotYet(f"{path} not found: {spectra.REMEDY}")
        for begins, there in (("", self.trained), ("dtl_", self.fine_tuned)):
            if there:
                self.checked(there[0], begins)
        word = spectra.provenance(self.data).spectra
        if word != self.origin.spectra:
            raise BadInput(f"{path} is marked {word!r}, {self.artifacts} was made from spectra marked "
                           f"{self.origin.spectra!r}: give the folder of those")  # fmt: skip
        return path

    def flux(self, domain):
        """The spectra of a domain, "ph" or "carm", memory-mapped, (n_spectra, n_pixels)."""
        return load_array(self.source(DATA[domain]), 2, spectra.REMEDY)

    def labels(self, par):
        """One parameter of the synthetic spectra, (n_spectra,)."""
        return spectra.label(par, self.source("ph_pars.npy"))

    def stars(self):
        """Names of the observed stars, a list of str."""
        return list(star_tables.read(spectra.stars_file(self.data), "see src_files/README.md")["karmn"])

    @functools.cached_property
    def estimations(self):
        """Sidecar of the table of estimates, a records.Estimates, the table unchanged."""
        path = self.artifacts / "final_estimations.csv"
        if not path.exists():
            raise NotYet(f"{path} not found: run Methodology/cnn_training.py first")
        literature.load_estimates(path)
        return records.read(artifacts.sidecar_of(path), records.Estimates, "run Methodology/cnn_training.py again")

    def predictions(self, par):
        """Those of the kept regressors of a parameter, (n_members, n_stars)."""
        if par not in self.estimations.kept:
            raise NotYet(f"{self.artifacts} has no estimates of {par}: run Methodology/cnn_training.py")
        paths = [self.artifacts / estimates.prediction_name(name) for name in self.estimations.kept[par].members]
        for path in paths:
            artifacts.require(path, "cnn_training")
        return np.array([load_array(path, 1, "run Methodology/cnn_training.py again") for path in paths], float)

    def scores(self):
        """Cross-validation and test of the architectures.

        Returns
        -------
        DataFrame
            A row a combination of the (last round of the) search: its settings, `mse_mean` and `mse_std` of the
            cross-validation; `autoencoder` and `mse_test`, NaN where it was not kept or is not trained.
        """
        path = self.artifacts / "grid_search.csv"
        try:
            table = pd.read_csv(path)
            table = table[table["epochs"] == table["epochs"].max()].reset_index(drop=True)
            table = table[[*paper.GRID, "mse_mean", "mse_std"]].assign(autoencoder=np.nan, mse_test=np.nan)
        except FileNotFoundError:
            raise NotYet(f"{path} not found: run Methodology/autoencoder_grid_search.py first") from None
        except (KeyError, ValueError):
            raise BadInput(f"{path} is no table of a search: delete it and run Methodology/autoencoder_grid_search.py"
                           ) from None  # fmt: skip
        for i in self.trained:
            sidecar = self.sidecar(i)
            same = np.all([np.isclose(table[name], sidecar.settings[name], atol=0) for name in paper.GRID], axis=0)
            table.loc[same, ["autoencoder", "mse_test"]] = i, sidecar.metrics["mse_test"]
        return table


def load(data=None, folder=None):
    """A run, by its folders, by default those of the acts.

    Raises
    ------
    BadInput
        Nothing is there, or act 1 has not ended.
    """
    run = Run(Path(data or ROOT / "src_files"), Path(folder or ROOT / "artifacts"))
    artifacts.architectures(run.artifacts)
    return run


def title(run):
    """What the run is, in a line."""
    origin = run.origin
    word = "SIMULATED spectra" if origin.spectra == "simulated" else f"spectra marked {one_line(origin.spectra)!r}"
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name in ("seed", "gap", "gap_seed")
                         if (value := getattr(origin, name)) is not msgspec.UNSET)  # fmt: skip
    epochs = {begins: sorted({run.sidecar(i, begins).settings["epochs"] for i in there})
              for begins, there in (("", run.trained), ("dtl_", run.fine_tuned))}  # fmt: skip
    budget = [name for name, budget in paper.BUDGETS.items()
              if epochs == {"": [budget.train_epochs], "dtl_": [budget.fine_tune_epochs]}]  # fmt: skip
    return (f"{word}{f' ({settings})' * bool(settings)}: {len(run.trained)} autoencoders trained for "
            f"{' or '.join(map(str, epochs['']))} epochs, {len(run.fine_tuned)} fine-tuned for "
            f"{' or '.join(map(str, epochs['dtl_']))}; budget {budget[0] if budget else 'of its own'}")  # fmt: skip


def numbers(run):
    """The numbers of Sect. 3 that the paper prints, of every autoencoder.

    Returns
    -------
    DataFrame
        What is measured; `n` autoencoders, their `mean`, `lowest` and `highest`; the paper's as printed.
    """
    rows = {}
    for name, (what, printed) in paper.SECTION_3.items():
        begins, there = ("", run.trained) if name == "mse_test" else ("dtl_", run.fine_tuned)
        values = [artifacts.read_sidecar(run._network(i, begins), [name]).metrics[name] for i in there]
        shown = [f"{f(values):.3g}" if values else "" for f in (np.mean, np.min, np.max)]
        rows[what] = [len(values), *shown, printed]
    return pd.DataFrame.from_dict(rows, "index", columns=["autoencoders", "mean", "lowest", "highest", "paper"])
