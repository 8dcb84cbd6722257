"""The form of every JSON file that is read back: sidecars, the selection of architectures, provenance, and the like."""
import functools
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

import paper
from workflow.files import BadInput, state

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=1)]
Width = Annotated[int, Meta(ge=1, le=100_000)]  # of a layer
WidthIn = Annotated[int, Meta(ge=8, le=100_000)]
Pixels = Annotated[int, Meta(ge=2, le=10_000_000)]
Positive = Annotated[float, Meta(gt=0, le=sys.float_info.max)]
NotNegative = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Name = Annotated[str, Meta(min_length=1)]
FileName = Annotated[str, Meta(max_length=255, pattern=r"^(?!\.{1,2}$)[^/\\\x00]+$")]  # in the folder of its sidecar


class Kind(str):
    """The word for where spectra come from: "published", "simulated", an instrument, or several of them."""

    @property
    def published(self):
        """Whether they are the published arrays, so that results can agree with the paper or not."""
        return self == "published"

    @property
    def simulated(self):
        """Whether simulated spectra have a part in it, if only as the set that real stars were prepared for."""
        return "simulated" in self.lower()


class Provenance(Struct, frozen=True, kw_only=True):
    """Where spectra come from: provenance.json in their folder, and in every sidecar."""

    spectra: Name = "unknown"
    n_pixels: Pixels = paper.N_PIXELS
    complete: bool = True  # False while the files are being written
    # what only a simulation says
    simulator: Union[int, UnsetType] = UNSET
    seed: Union[int, UnsetType] = UNSET
    gap: Union[NotNegative, UnsetType] = UNSET
    gap_seed: Union[int, UnsetType] = UNSET
    gap_family: Union[Name, UnsetType] = UNSET  # that of the first family is not written down
    n_spectra: Union[Count, UnsetType] = UNSET
    n_observed: Union[Count, UnsetType] = UNSET
    settings: Union[dict[str, Any], UnsetType] = UNSET  # of spectra made from models
    files: dict[str, Digest] = {}  # what the script that made the folder wrote
    # what src_files/prepare_spectra.py and phoenix_grid.py say; without it as in the paper or, simulated, an envelope
    resolving_power: Union[Positive, UnsetType] = UNSET
    continuum: Union[Literal["gisic", "envelope"], UnsetType] = UNSET
    preparation: Union[int, UnsetType] = UNSET  # version of what prepared the observed spectra
    sources: dict[str, Digest] = {}  # the files of these

    @property
    def kind(self):
        """The word `spectra`, as a Kind."""
        return Kind(self.spectra)


class Origin(Provenance, frozen=True, kw_only=True):
    """Where spectra come from, as it is written with what was made from them: then there is a word for them."""

    spectra: Name


UNKNOWN = Provenance()


class Architecture(Struct, frozen=True):
    """An autoencoder to train. Its narrowest layer is an eighth of the first."""

    neurons_in: WidthIn
    reg_par: NotNegative
    lr: Positive


class Selection(Struct, frozen=True):
    """params_final.json, which act 1 leaves for act 2."""

    architectures: Annotated[list[Architecture], Meta(min_length=1)]
    spectra: Provenance = UNKNOWN
    rule: str = ""


class Training(Struct, frozen=True):
    """Those settings of an autoencoder that fine-tuning takes over."""

    lr: Positive
    penalty: Literal[paper.PENALTIES]
    penalty_weight: NotNegative
    batch_size: Count


class Cnn(Struct, frozen=True):
    """Hyper-parameters of a CNN."""

    nf1: Width
    nf2: Width
    nu: Width
    lr: Positive


class Tuned(Struct, frozen=True):
    """tune_{par}.json, which act 4 leaves for itself."""

    best: Cnn
    parameter: str


class AutoencoderShape(Struct, frozen=True, tag_field="kind", tag="autoencoder"):
    """What it takes to build a saved autoencoder again."""

    neurons_in: WidthIn
    reg_par: NotNegative
    n_pixels: Pixels


class CnnShape(Struct, frozen=True, tag_field="kind", tag="cnn"):
    """What it takes to build a saved regressor again."""

    nf1: Width
    nf2: Width
    nu: Width
    n_latent: Width


class Sidecar(Struct, frozen=True, kw_only=True):
    """What made an artifact. `digest` is of all the rest."""

    name: Name
    spectra: Origin
    settings: dict[str, Any]
    seed: int
    inputs: dict[FileName, Digest]
    outputs: dict[FileName, Digest]
    metrics: dict[str, float]
    seconds: NotNegative
    network: Optional[Union[AutoencoderShape, CnnShape]] = None
    versions: dict[str, str] = {}
    code: Digest
    history: Optional[dict[str, list[float]]] = None
    stars: dict[str, list[float]] = {}  # what act 3 measured of each observed spectrum, NaN of those it cannot use
    digest: Digest

    def __post_init__(self):
        if wrong := [name for name, value in self.metrics.items() if math.isnan(value)]:
            raise ValueError(f"metric {wrong[0]} is no number")


class Kept(Struct, frozen=True):
    """The regressors of one parameter: those whose predictions are combined, and all among which they are the best."""

    members: list[FileName]
    largest_mse_test: NotNegative
    ensemble: list[FileName]


class Estimates(Struct, frozen=True):
    """Sidecar of final_estimations.csv."""

    spectra: Origin
    seed: Optional[int] = None
    kept: dict[str, Kept] = {}
    inputs: dict[str, Digest] = {}  # what names the stars
    outputs: dict[FileName, Digest] = {}
    flags_left_out: list[Name] = []  # those of flags.RULES that nothing was there to tell by
    code: Optional[Digest] = None
    digest: Optional[Digest] = None


class Release(Struct, frozen=True, kw_only=True):
    """What `make release` says of the networks of a run: their weights have so many binary digits."""

    version: Name
    bits: Count
    files: dict[FileName, Digest]


class CalibrationFit(Struct, frozen=True, kw_only=True):
    """What `calibration.fit` found for one parameter, in its unit, and the coverage before and after."""

    reference: Name
    n_stars: Count  # with a measured value
    n_limits: int
    estimates: list[float]  # lowest and highest of these stars: beyond, the calibration is an extrapolation
    offset: list[float]  # and, linear in Teff, its change with every 100 K from `pivot` [K] on
    offset_error: list[float]
    pivot: float
    scatter: NotNegative
    scatter_interval: list[float]
    shared: NotNegative = 0.0  # part of the scatter that all stars behind one gap have in common
    before: dict[str, float]
    after: dict[str, float]


class Calibration(Struct, frozen=True, kw_only=True):
    """Sidecar of a calibrated table of estimates."""

    spectra: Origin
    settings: dict[str, Any]
    inputs: dict[str, Digest]
    outputs: dict[str, Digest]
    fits: Annotated[dict[str, CalibrationFit], Meta(min_length=1)]
    code: Digest
    digest: Optional[Digest] = None


def convert(content, kind, source, remedy):
    """Make a record of plain objects; refuse what lacks a part, or has one of the wrong type or size."""
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise BadInput(f"{source} cannot be used ({error}): {remedy}") from None


def read(path, kind, remedy):
    """Read a JSON file as a record of this kind, once as long as it stays the same; refuse what was changed."""
    try:
        return _read(str(path), kind, remedy, *state(path))
    except FileNotFoundError:
        raise BadInput(f"{path} not found: {remedy}") from None


@functools.lru_cache(maxsize=10_000)
def _read(path, kind, remedy, *_):
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise BadInput(f"{path} is no JSON: {remedy}") from None
    record = convert(content, kind, path, remedy)
    if hasattr(record, "digest") and record.digest != digest(content):
        raise BadInput(f"{path} was changed since it was written: {remedy}")
    return record


def digest(content):
    """Hex sha256 of a JSON object without its own `digest`."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def signed(content):
    """A JSON object with its digest, by which `read` sees that it was changed."""
    return {**content, "digest": digest(content)}


def plain(record):
    """A record as plain objects, to be written."""
    return msgspec.to_builtins(record)
