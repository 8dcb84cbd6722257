"""What a run has left so far, read from its sidecars and tables alone (no TensorFlow)."""
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import pandas as pd

import artifacts
import literature
import paper
import records
import star_tables
from files import BadInput, load_array, one_line, sha256

__all__ = ["Run", "arrays", "read"]

ARRAYS = ("ph_flux_norm.npy", "ph_pars.npy", "carmf_norm.npy")
AC_METRICS = ("mse_test",)
DTL_METRICS = ("mse_carm_before", "mse_carm_test_after", "distance_flux", "distance_latent_after")


@dataclass
class Run:
    """A run, as `read` finds it. Lists are of records.Sidecar; autoencoders are those of the architectures kept."""

    folder: Path
    fits: list  # of the grid search
    predictions: list  # of the regressors, and searches of hyper-parameters: only their time matters
    n_architectures: int = 0
    rule: str = ""
    trained: list = field(default_factory=list)
    fine_tuned: list = field(default_factory=list)
    regressors: list = field(default_factory=list)
    missing: list = field(default_factory=list)  # of str, what is not there yet
    sidecar: Optional[records.Estimates] = None  # of the estimates
    estimates: Optional[pd.DataFrame] = None  # as literature.load_estimates gives them

    @property
    def sidecars(self):
        return [*self.fits, *self.trained, *self.fine_tuned, *self.regressors, *self.predictions]

    @property
    def provenance(self):
        """Of its spectra, a records.Provenance."""
        return (self.sidecars or [self.sidecar])[0].spectra

    @property
    def spectra(self):
        return self.provenance.spectra

    @property
    def simulated(self):
        return "simulated" in self.spectra.lower()

    @property
    def estimated(self):
        """How many stars have all four parameters."""
        return int(self.estimates[list(paper.PARAMETERS)].notna().all(axis=1).sum())

    def of(self, part, setting):
        """The values of a setting in `trained` or another list, as text."""
        return _listed(f"{sidecar.settings[setting]}" for sidecar in getattr(self, part) if setting in sidecar.settings)

    def version(self, library):
        return _listed(sidecar.versions[library] for sidecar in self.sidecars if library in sidecar.versions)

    @property
    def seeds(self):
        return _listed(str(sidecar.seed) for sidecar in self.sidecars)

    @property
    def codes(self):
        """The digests of the code, shortened."""
        return _listed(sidecar.code[:8] for sidecar in self.sidecars if sidecar.code)

    @property
    def time(self):
        """Time of all units, which may have run side by side."""
        seconds = sum(sidecar.seconds for sidecar in self.sidecars)
        shown = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
        return f"{shown}, summed over all networks"

    @property
    def origin(self):
        """Where the spectra come from, with the settings of a simulation."""
        settings = records.plain(self.provenance)
        shown = [f"{name.replace('_', ' ')} {settings[name]}" for name in ("seed", "gap", "gap_seed")
                 if name in settings]  # fmt: skip
        return one_line(self.spectra) + (f" ({', '.join(shown)})" if shown else "")

    def measured(self, data):
        """What `claims.of_run` holds against the paper."""
        labels, kept = data["ph_pars.npy"], self.sidecar.kept if self.sidecar else {}
        values = {metric: [sidecar.metrics[metric] for sidecar in part]
                  for part, metrics in ((self.trained, AC_METRICS), (self.fine_tuned, DTL_METRICS))
                  for metric in metrics}  # fmt: skip
        if labels is not None:
            values.update(synthetic=[len(labels)], hot=labels[:, paper.PARAMETERS["teff"].column] > paper.TEFF_SPLIT)
        if self.trained:
            values["autoencoders"] = [len(self.trained)]
        values["regressors"] = [len(part.ensemble) for part in kept.values() if part.ensemble]
        values["kept"] = [len(part.members) for part in kept.values()]
        return {**values, **{par: [part.largest_mse_test] for par, part in kept.items()}}

    def truth(self, data):
        """The true parameters of simulated stars, `karmn` and all four; None if there are none to hold estimates to.

        Raises
        ------
        BadInput
            The table of the stars is another one than that of the estimates.
        """
        path = data / "stars.csv"
        if not self.simulated or self.estimates is None or not path.exists():
            return None
        if self.sidecar.inputs and sha256(path) not in self.sidecar.inputs.values():
            raise BadInput(f"{self.folder / 'final_estimations.csv'} was made with another stars.csv than {path}: "
                           "give the --data of this run")  # fmt: skip
        stars = star_tables.read(path, "restore it")
        before = self.folder / "final_estimations_before.csv"
        if not set(paper.PARAMETERS) <= set(stars) or not before.exists():
            return None
        literature.load_estimates(before)  # as it was left
        return stars


def _listed(texts):
    """Different texts, each once, in the order of their length and letters: epochs as numbers."""
    return ", ".join(sorted(set(texts), key=lambda text: (len(text), text))) or "none yet"


def read(folder):
    """Read what a run has left in its folder of artifacts.

    Raises
    ------
    BadInput
        There is nothing, a sidecar or table was changed since it was written or cannot be used, or they are of
        different spectra.
    """
    run = Run(folder, _sidecars(folder, "grid_search/*.json", "halving_*/*.json"),
              _sidecars(folder, "*_estimation_*_ac_*.json", "tune_*/*.json"))  # fmt: skip
    if (folder / "params_final.json").exists():
        _read_networks(run)
    else:
        run.missing.append("the grid search has not chosen its architectures (params_final.json)")
    path = folder / "final_estimations.csv"
    if path.exists():
        run.estimates = literature.load_estimates(path)
        run.sidecar = records.read(artifacts.sidecar_of(path), records.Estimates, "restore it")
    else:
        run.missing.append("there are no estimates of the stars (final_estimations.csv)")
    if not run.sidecars and run.sidecar is None:
        raise BadInput(f"{folder} holds nothing of a run: name its folder with --artifacts, or begin with "
                       "Methodology/autoencoder_grid_search.py")  # fmt: skip
    words = {sidecar.spectra.spectra: sidecar.name for sidecar in run.sidecars}
    if run.sidecar:
        words[run.sidecar.spectra.spectra] = path.name
    if len(words) > 1:
        said = ", ".join(f"{name} {word!r}" for word, name in words.items())
        raise BadInput(f"{folder} mixes spectra ({said}): keep one run in a folder")
    return run


def _sidecars(folder, *patterns):
    """The sidecars of these names, in order; without those that are half written."""
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern) if ".partial-" not in path.name)
    return [artifacts.read_sidecar(path) for path in paths]


def _read_networks(run):
    """Add what acts 2 to 4 have left of the architectures kept, and say what is missing of it."""
    selection = records.read(run.folder / "params_final.json", records.Selection, "run act 1 again")
    run.n_architectures, run.rule = len(selection.architectures), selection.rule.replace("mse_mean", "mean error")
    indices = range(run.n_architectures)
    for part, prefix, metrics, what in (("trained", "ac", AC_METRICS, "trained"),
                                        ("fine_tuned", "dtl_ac", DTL_METRICS, "fine-tuned")):  # fmt: skip
        paths = [run.folder / f"{prefix}_{i}.h5" for i in indices]
        there = [path for path in paths if path.exists() and artifacts.sidecar_of(path).exists()]
        setattr(run, part, [artifacts.read_sidecar(path, metrics) for path in there])
        for sidecar, path in zip(getattr(run, part), there):
            architecture = records.plain(selection.architectures[paths.index(path)])
            if any(sidecar.settings.get(name, value) != value for name, value in architecture.items()):
                raise BadInput(f"{path} has not the architecture of its number in {run.folder / 'params_final.json'}: "
                               "run Methodology/autoencoder_training.py --overwrite")  # fmt: skip
        absent = [path.name for path in paths if path not in there]
        if absent:
            run.missing.append(f"{len(absent)} of {len(paths)} autoencoders are not {what}: {', '.join(absent[:6])}"
                               + ", ..." * (len(absent) > 6))  # fmt: skip
    run.regressors = _sidecars(run.folder, *(f"cnn_regressor_*_ac_{i}.json" for i in indices))
    if not run.regressors:
        run.missing.append("no regressor is trained")
        return
    repeats = 1 + max(sidecar.settings.get("repeat", 0) for sidecar in run.regressors)
    for par, parameter in paper.PARAMETERS.items():
        n, wanted = sum(one.settings.get("parameter") == par for one in run.regressors), repeats * run.n_architectures
        if n < wanted:
            run.missing.append(f"{wanted - n} of {wanted} regressors of {parameter.published} are not trained")


def arrays(run, data):
    """The arrays of the spectra that are in a folder, checked to be those of the run.

    Returns
    -------
    dict of str to ndarray or None
        For the name of each array, memory-mapped.

    Raises
    ------
    BadInput
        One of them is another than the run was made from, or cannot be used.
    """
    remedy, found = "give the --data of this run", {}
    for name in ARRAYS:
        path = data / name
        found[name] = load_array(path, 2, remedy) if path.exists() else None
        others = [sidecar.name for sidecar in run.sidecars if found[name] is not None
                  and sidecar.inputs.get(name, sha256(path)) != sha256(path)]  # fmt: skip
        if others:
            raise BadInput(f"{run.folder}: {others[0]} was made from another {name} than {path}: {remedy}")
    return found
