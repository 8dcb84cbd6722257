"""The files of a run: what they are called, what an act asks of those before it, and tables that never lose a row.

Nothing else spells these names. Files of one autoencoder carry its number; `stage` is before or after fine-tuning.
"""
import functools
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from workflow import schemas
from workflow.files import BadInput, lock, read_table, sha256, write_csv
from workflow.units import NAMES, load, read_sidecar, sidecar_of

# Sidecars of many units at once
FITS, TUNING = ("grid_search/*.json", "halving_*/*.json"), "tune_*/*.json"
REGRESSORS, PREDICTIONS = "cnn_regressor_*_ac_*.json", "*_estimation_*_ac_*.json"
STAGES = PRETRAINED, FINETUNED = "pretrained", "finetuned"
SUFFIX = {PRETRAINED: "_before", FINETUNED: ""}  # of files made of observed spectra
WHEN = {PRETRAINED: "before", FINETUNED: "after"}  # in metrics and tables
ACT = {PRETRAINED: "autoencoder_training", FINETUNED: "autoencoder_fine_tuning"}  # that leaves the autoencoders


def file(name):
    """A property of a folder: the path of its file of this name."""
    return property(lambda self: self.folder / name)


@dataclass(frozen=True, eq=False)
class Artifacts:
    """The folder of a run's artifacts."""

    folder: Path
    selection = file("params_final.json")
    scores = file("grid_search.csv")
    lag = file("lag.csv")
    calibrated = file("final_estimations_calibrated.csv")
    summary = file("summary.png")
    gap_report = file("gap_report.csv")
    figures = file("figures")
    joint = file("joint")  # folder of Methodology/joint_fit.py

    def __str__(self):
        return str(self.folder)

    def search(self, epochs=None):
        """Folder of the fits of the grid search, or of a round of one by halving."""
        return self.folder / ("grid_search" if epochs is None else f"halving_{epochs}_epochs")

    def tuning(self, par):
        """Folder of the fits of the search for a CNN's hyper-parameters; .json and .csv of its name have the result."""
        return self.folder / f"tune_{par}"

    def autoencoder(self, i, stage=PRETRAINED):
        return self.folder / f"{'dtl_' * (stage == FINETUNED)}ac_{i}.h5"

    def errors(self, stage):
        """Table of the autoencoders of a stage."""
        return self.folder / {PRETRAINED: "mse.csv", FINETUNED: "fine_tuning.csv"}[stage]

    def encoded_ph(self, i, perturbed=False):
        """Encodings of the synthetic spectra, or of perturbed copies of them, by the pre-trained autoencoder."""
        return self.folder / f"encoded_ph{'_perturbed' * perturbed}_ac_{i}.npy"

    def reconstructed_ph(self, i):
        return self.folder / f"reconstructed_ph_ac_{i}.npy"

    def of_stars(self, what, i, stage=FINETUNED):
        """What an autoencoder makes of the observed spectra: "encoded", "reconstructed" or "residual"."""
        return self.folder / f"{what}_carm{SUFFIX[stage]}_ac_{i}.npy"

    def regressor(self, par, k, i):
        return self.folder / f"cnn_regressor_{par}_{k}_ac_{i}.h5"

    def prediction(self, par, k, i, stage=FINETUNED):
        """What a regressor predicts for every star."""
        return self.folder / f"{par}_estimation_{k}_ac_{i}{SUFFIX[stage]}.npy"

    def estimates(self, stage=FINETUNED):
        return self.folder / f"final_estimations{SUFFIX[stage]}.csv"

    def tables(self):
        """Digests of the tables of estimates that are there, in one text: pictures of them carry it."""
        return " ".join(sha256(path) for path in map(self.estimates, STAGES) if path.exists())

    def sidecars(self, *patterns):
        """Sidecars of these names, in order, a list of schemas.Sidecar; without those that are half written."""
        paths = sorted(path for pattern in patterns for path in self.folder.glob(pattern))
        return [read_sidecar(path) for path in paths if ".partial-" not in path.name]

    @functools.cached_property
    def architectures(self):
        """The architectures that act 1 kept, a list of schemas.Architecture."""
        remedy = "run Methodology/autoencoder_grid_search.py first, with the same --artifacts"
        return schemas.read(self.selection, schemas.Selection, remedy).architectures

    def made(self, stage=PRETRAINED):
        """Numbers of the autoencoders of a stage that are there with their sidecars."""
        paths = ((i, self.autoencoder(i, stage)) for i in range(len(self.architectures)))
        return [i for i, path in paths if path.exists() and sidecar_of(path).exists()]

    def require(self, path, script, data=(), provenance=None, names=""):
        """Sidecar of an artifact that the act `script` makes, which must be there and as it was left.

        It must be made from `data`, paths, as they are now, from spectra of the same kind as `provenance` says, and its
        rows of stars with these `names`.
        """
        remedy = f"run Methodology/{script}.py first, with the same --artifacts"
        if not (path.exists() and sidecar_of(path).exists()):
            raise BadInput(f"{path} not found: {remedy}")
        sidecar = read_sidecar(path)
        for name, digest in sidecar.outputs.items():
            output = path.with_name(name)
            if not output.exists() or sha256(output) != digest:
                raise BadInput(f"{output} is missing or was changed: delete {sidecar_of(path)} and {remedy}")
        remedy = f"use the same --data, another --artifacts, or Methodology/{script}.py --overwrite"
        for source in data:
            if sidecar.inputs.get(source.name, sha256(source)) != sha256(source):
                raise BadInput(f"{path} was made from another {source.name} than {source}: {remedy}")
        if names and sidecar.inputs.get(NAMES) != names:
            raise BadInput(f"{path} was made for stars of other names, or in another order, than stars.csv has now: "
                           f"restore that order, or {remedy}")
        if provenance and sidecar.spectra.kind != provenance.kind:
            raise BadInput(f"{path} was made from spectra marked {sidecar.spectra.kind!r}, those of --data are marked "
                           f"{provenance.kind!r} now, see its provenance.json: {remedy}")
        return sidecar

    def pretrained(self, only, data, provenance):
        """Sidecars of the pre-trained autoencoders, all or those of `only`, a dict by number with at least one.

        Each must have the architecture of its number. Returned too is what to say at the end of those that are missing.
        """
        sidecars, missing, made, script = {}, [], self.made(), f"Methodology/{ACT[PRETRAINED]}.py"
        for i in chosen(only, len(self.architectures)):
            path, wanted = self.autoencoder(i), self.architectures[i]
            if i not in made:
                missing.append(f"{path} not found: run {script} first, same --artifacts")
                continue
            sidecar = sidecars[i] = self.require(path, ACT[PRETRAINED], data, provenance)
            if any(sidecar.settings.get(name) != value for name, value in schemas.plain(wanted).items()):
                raise BadInput(f"{path} has not the architecture {i} of {self.selection.name}: "
                               f"run {script} --overwrite")
            shape = schemas.AutoencoderShape(wanted.neurons_in, wanted.reg_par, provenance.n_pixels)
            if sidecar.network != shape:
                raise BadInput(f"{sidecar_of(path)} describes another network: delete it and run {script}")
        if not sidecars:
            raise BadInput(missing[0])
        return sidecars, missing


def chosen(only, n):
    """Numbers to work on: those of --only, each once and below `n`, or all `n`."""
    if absent := [i for i in only or [] if not 0 <= i < n]:
        raise BadInput(f"--only {' '.join(map(str, absent))}: there are {n}, numbered from 0")
    return list(dict.fromkeys(only)) if only else list(range(n))


# ---------------------------------------------------------------- tables
def may_replace(path, before, after, args, partial):
    """Whether a table that is made from what `before` names may be written anew, made from `after`.

    Without args.overwrite a loss is refused; with it, it is told, and a `partial` run leaves the table as it is.
    """
    lost = [member for member in before if member not in after]
    if not lost:
        return True
    what = f"{', '.join(lost[:4])}{', ...' * (len(lost) > 4)} ({len(lost)} in all)"
    if not args.overwrite:
        raise BadInput(f"{path} stays as it was, it would lose {what}, made with other settings or missing now: "
                       "use the settings of before, another --artifacts, or --overwrite for all of it")
    if partial:
        print(f"warning: {path} stays as it was: it would lose {what}, not made with these settings yet")
        return False
    print(f"warning: {path} loses {what}")
    return True


def collect(units, path, columns, metrics, args):
    """Write a table, a DataFrame, from the sidecars of those units that are done; running twice doubles nothing.

    A row has columns(unit), a dict that begins with `autoencoder`, and all metrics, `metrics` in any case.
    """
    with lock(path.parent):
        sidecars = [(unit, load(unit, stale_is_undone=True, metrics=metrics)) for unit in units]
        table = pd.DataFrame([{**columns(unit), **sidecar.metrics, "seconds": sidecar.seconds,
                               "spectra": sidecar.spectra.kind} for unit, sidecar in sidecars if sidecar])
        before = list(read_table(path, "autoencoder", "delete it")["autoencoder"]) if path.exists() else []
        after = list(table["autoencoder"]) if len(table) else []
        if may_replace(path, before, after, args, partial=bool(args.only)) and after:
            write_csv(path, table)
    return table
