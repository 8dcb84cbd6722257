"""Every file that is read back, spoilt in every way: refused in one line that names it, or made again.

Never does a spoilt file pass with another table. The networks are not trained here, only built: what is tested is what
is read, not what is learned. Each way is tried on every sixth file, another sixth in each version of Python; on all of
them with EVERY_FILE=1.
"""
import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import sys
import warnings
import zipfile
from collections import namedtuple
from pathlib import Path

import h5py
import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies
from matplotlib.figure import Figure
from units import untrained

import autoencoder_fine_tuning
import autoencoder_grid_search
import autoencoder_training
import cnn_training
import literature
import paper
from evaluation import catalogues
from training import loop
from workflow import files

REMEDY = re.compile(r": .*\b(add|choose|delete|fetch|give|keep|mend|must|name|normalise|remove|resample|restore|run|"
                    r"simulate|state|use)\b")
FINAL = ("final_estimations.csv", "final_estimations_before.csv")  # equal byte for byte; the others tell seconds
OTHERS = ("grid_search.csv", "mse.csv", "fine_tuning.csv", "lag.csv", "tune_teff.csv", "params_final.json")
STEP = 1 if os.environ.get("EVERY_FILE") else 6
SETTINGS = hypothesis.settings(max_examples=3, deadline=None, database=None, print_blob=True)  # fresh ones each time
pytestmark = pytest.mark.slow

# A file, another of its kind, who reads it first and last, and what of it is named where it may say something else
Kind = namedtuple("Kind", "file, other, readers, named", defaults=["its name"])
KINDS = [
    Kind("data/ph_flux_norm.npy", "data/carmf_norm.npy", "14"),
    Kind("data/ph_pars.npy", "data/ph_flux_norm.npy", "14"),
    Kind("data/carmf_norm.npy", "data/ph_flux_norm.npy", "34"),
    Kind("data/stars.csv", "literature_data/mas24.csv", "34"),
    Kind("data/provenance.json", "made/ac_0.json", "14"),
    Kind("made/grid_search/combination_0_fold_0.json", "made/grid_search/combination_0_fold_1.json", "1"),
    Kind("made/grid_search.csv", "made/mse.csv", "1"),
    Kind("made/params_final.json", "made/tune_teff.json", "24", ".h5 is stale, made otherwise"),
    Kind("made/ac_0.h5", "made/ac_1.h5", "24"),
    Kind("made/ac_0.json", "made/ac_1.json", "24"),
    Kind("made/encoded_ph_ac_0.npy", "made/encoded_ph_ac_1.npy", "24"),
    Kind("made/mse.csv", "made/fine_tuning.csv", "2"),
    Kind("made/dtl_ac_0.h5", "made/dtl_ac_1.h5", "34"),
    Kind("made/dtl_ac_0.json", "made/dtl_ac_1.json", "34"),
    Kind("made/encoded_carm_ac_0.npy", "made/encoded_carm_ac_1.npy", "34"),
    Kind("made/encoded_carm_before_ac_0.npy", "made/encoded_carm_ac_0.npy", "34"),
    Kind("made/fine_tuning.csv", "made/mse.csv", "3"),
    Kind("made/lag.csv", "made/mse.csv", "3"),
    Kind("made/tune_teff/combination_0_fold_0.json", "made/tune_logg/combination_0_fold_0.json", "t"),
    Kind("made/tune_teff.json", "made/tune_logg.json", "4", "cnn_regressor_teff_0_ac_0"),
    Kind("made/cnn_regressor_teff_0_ac_0.h5", "made/cnn_regressor_logg_0_ac_0.h5", "4"),
    Kind("made/cnn_regressor_teff_0_ac_0.json", "made/cnn_regressor_teff_0_ac_1.json", "4"),
    Kind("made/teff_estimation_0_ac_0.npy", "made/teff_estimation_0_ac_1.npy", "4"),
    Kind("made/teff_estimation_0_ac_0.json", "made/teff_estimation_0_ac_1.json", "4"),
    Kind("made/logg_estimation_0_ac_1_before.npy", "made/logg_estimation_0_ac_1.npy", "4"),
    Kind("made/final_estimations.csv", "made/final_estimations_before.csv", "l4"),
    Kind("made/final_estimations.json", "made/final_estimations_before.json", "l4"),
    Kind("made/final_estimations_before.csv", "made/final_estimations.csv", "4"),
    Kind("made/final_estimations_before.json", "made/final_estimations.json", "4"),
]
MAKERS = {"grid_search.csv": "1", "mse.csv": "2", "fine_tuning.csv": "3", "lag.csv": "3", "final_estimations.csv": "4",
          "final_estimations_before.csv": "4"}


# ---------------------------------------------------------------- the folder that is spoilt
class Run:
    """The data and artifacts of the four acts, whole, and what each of them does with a spoilt file."""

    def __init__(self, folder):
        self.folder, self.whole = folder / "run", folder / "whole"
        self.data, self.made = self.folder / "data", self.folder / "made"

    def act(self, reader):
        """Let an act or literature.py read all; return its status, its lines on stderr, and what it printed."""
        shared = ["--data", str(self.data), "--artifacts", str(self.made), "--budget", "smoke", "--jobs", "1"]
        main, arguments = {
            "1": (autoencoder_grid_search.main, [*shared, "--keep", "2"]),
            "2": (autoencoder_training.main, shared),
            "3": (autoencoder_fine_tuning.main, shared),
            "t": (cnn_training.main, [*shared, "--tune", "--parameter", "teff", "logg"]),
            "4": (cnn_training.main, shared),
            "l": (literature.main, [str(self.made / FINAL[0])]),
        }[reader]
        out, err = io.StringIO(), io.StringIO()
        with warnings.catch_warnings(record=True) as warned:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = main(arguments)
        lines = [line for line in err.getvalue().splitlines() if line and "%|" not in line]  # no progress bars
        shown = [warning for warning in warned if not issubclass(warning.category, DeprecationWarning)]
        return status, lines + [f"warning: {warning.message}" for warning in shown], out.getvalue()

    def stats(self, folder):
        found = {}
        for place, _, names in os.walk(folder):
            for name in names:
                if name != ".lock":
                    stat = os.lstat(os.path.join(place, name))
                    found[Path(os.path.relpath(place, folder), name)] = stat.st_size, stat.st_mtime_ns
        return found

    def stat(self, name):
        stat = os.lstat(self.made / name)
        return stat.st_size, stat.st_mtime_ns

    def changed(self, before, contents):
        """Which artifacts are not what they were; `contents` of what was spoilt, the rest is in `whole`."""
        after = self.stats(self.made)
        names = [name for name in {*before, *after} if before.get(name) != after.get(name)]
        return [name for name in names if name not in after or name not in before or (self.made / name).read_bytes()
                != contents.get(name, (self.whole / "made" / name).read_bytes())]

    def restore(self):
        now = self.stats(self.folder)
        for name in {*now, *self.known}:
            path = self.folder / name
            if name in now and now[name] != self.known.get(name):
                path.unlink()
            if name in self.known and now.get(name) != self.known[name]:
                if path.is_dir():
                    shutil.rmtree(path)
                shutil.copy2(self.whole / name, path)

    def path(self, name):
        return (catalogues.ROOT if name.startswith("literature_data") else self.folder) / name


def table(path):
    if path.suffix == ".json" or path.name in FINAL:
        return path.read_bytes()
    return pd.read_csv(path).drop(columns="seconds", errors="ignore").to_csv(index=False)


@pytest.fixture(scope="module", autouse=True)
def whole(tiny, tmp_path_factory):
    """A run of all acts, with hyper-parameters of two of the four parameters tuned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "fit", untrained)
        patch.setattr(cnn_training, "estimates_against_truth", lambda *_: Figure())  # drawn whenever a table was spoilt
        patch.setattr(paper, "CNN_GRID", {"nf1": [8], "nf2": [8], "nu": [8], "lr": [1e-3]})
        patch.setitem(paper.BUDGETS, "smoke", dataclasses.replace(paper.BUDGETS["smoke"], repeats=1))
        run = Run(tmp_path_factory.mktemp("fuzz"))
        shutil.copytree(tiny, run.data)
        stars = pd.read_csv(run.data / "stars.csv")
        stars["karmn"] = catalogues.load_estimates()["karmn"][: len(stars)]
        files.write_csv(run.data / "stars.csv", stars)
        for reader in "123t4":
            assert run.act(reader)[:2] == (0, [])
        shutil.copytree(run.folder, run.whole)
        run.known = run.stats(run.whole)
        run.tables = {name: table(run.made / name) for name in (*FINAL, *OTHERS)}
        status, lines, run.printed = run.act("l")
        assert status == 0 and not lines
        yield run


@pytest.fixture
def run(whole):
    yield whole
    whole.restore()


def check(run, kind, strict=True):
    """The one assertion: refused in one line with name and remedy, nothing touched; or the same tables as before.

    Not `strict` where a file may say something else and still be right: then no table is compared.
    """
    spoilt = run.path(kind.file)
    contents = {path.relative_to(run.made): path.read_bytes() for path in [spoilt]
                if path.is_relative_to(run.made) and path.is_file()}
    before = run.stats(run.made)
    for reader in kind.readers:
        status, lines, out = run.act(reader)
        said = f"{spoilt.name}, act {reader}: status {status}, {lines}"
        if status == 2:
            assert len(lines) == 1 and lines[0].startswith("error: "), said
            assert any(name in lines[0] for name in (spoilt.name, kind.named, *[spoilt.stem] * (not strict))), said
            assert REMEDY.search(lines[0]), said
            assert not run.changed(before, contents), said
        elif strict:
            assert status == 0 and not lines, said
            for name, wanted in run.tables.items():
                if name != spoilt.name or reader == MAKERS.get(name):
                    same = run.stat(name) == run.known[Path("made", name)] or table(run.made / name) == wanted
                    assert same, f"{said}: {name}"
            assert reader != "l" or out == run.printed, said
        else:
            assert status == 0, said


# ---------------------------------------------------------------- how a file is spoilt
def as_folder(path, other):
    path.unlink()
    path.mkdir()


def as_zip(path, other):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside.npy", b"content")


def as_hdf5(path, other):
    path.unlink()
    with h5py.File(path, "w") as file:
        file["foreign/layer/kernel"] = np.ones((3, 4))
        file.attrs["layer_names"] = [b"foreign"]


def written(content):
    def spoil(path, other):
        path.write_bytes(content if isinstance(content, bytes) else content(path.read_bytes()))

    return spoil


def flipped(content):
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]


ANY = {
    "missing": lambda path, other: path.unlink(),
    "empty": written(b""),
    "a blank": written(b"\n"),
    "half": written(lambda content: content[: len(content) // 2]),
    "last byte lost": written(lambda content: content[:-2]),
    "longer": written(lambda content: content + b"more"),
    "one bit": written(flipped),
    "zeros": written(lambda content: bytes(len(content))),
    "other's": lambda path, other: shutil.copyfile(other, path),
    "folder": as_folder,
    "zip": as_zip,
    "hdf5": as_hdf5,
    "text": written(b"<html>404 Not Found</html>\n"),
    "utf-16": written('{"a": 1}, karmn\n'.encode("utf-16")),
    "dangling link": lambda path, other: path.unlink() or path.symlink_to("nowhere"),
}


def array(change):
    def spoil(path, other):
        values = np.array(np.load(path))
        changed = change(values)
        np.save(path, values if changed is None else changed, allow_pickle=True)

    return spoil


ARRAY = {
    "NaN": array(lambda values: values.__setitem__((3,) * values.ndim, np.nan)),
    "inf": array(lambda values: values.__setitem__((3,) * values.ndim, np.inf)),
    "all NaN": array(lambda values: values.fill(np.nan)),
    "huge": array(lambda values: values * 1e30),
    "9999": array(lambda values: values.fill(9999)),
    "a little more": array(lambda values: values.__setitem__((3,) * values.ndim, values[(3,) * values.ndim] + 0.01)),
    "rows reversed": array(lambda values: values[::-1].copy()),
    "a row less": array(lambda values: values[:-1]),
    "no row": array(lambda values: values[:0]),
    "a column less": array(lambda values: values[..., :-1]),
    "one dimension more": array(lambda values: values[None]),
    "transposed": array(np.transpose),
    "no dimension": array(lambda values: np.array(1.0)),
    "text": array(lambda values: values.astype(str)),
    "objects": array(lambda values: values.astype(object)),
    "complex": array(lambda values: values + 1j),
    "truth values": array(lambda values: values > 1),
    "fields": array(lambda values: np.zeros(len(values), [("a", float)])),
    "absurd header": written(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8'}"),
    "absurd shape": written(lambda content: content.replace(b"'shape': (", b"'shape': (9999999999999999, ", 1)),
}


def document(change):
    def spoil(path, other):
        content = json.loads(path.read_text())
        changed = change(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return spoil


def number(change):
    """Change the first number of a document, wherever it is."""

    def walk(node):
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            if isinstance(value, (dict, list)):
                if walk(value):
                    return True
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                node[key] = change(value)
                return True
        return False

    return document(lambda content: walk(content) and None)


DOCUMENT = {
    "list": written(b"[]"),
    "object": written(b"{}"),
    "null": written(b"null"),
    "number": written(b"7"),
    "word": written(b'"simulated"'),
    "deep": written(b"[" * 100_000),
    "deeper": written(b'{"a":' * 100_000),
    "endless number": written(lambda content: content.replace(b"{", b'{"n": ' + b"9" * 5000 + b", ", 1)),
    "byte order mark": written(lambda content: b"\xef\xbb\xbf" + content),
    "latin-1": written(lambda content: content.replace(b"{", b'{"\xe9": 1, ', 1)),
    "wrong types": document(lambda content: dict.fromkeys(content, 7)),
    "nulls": document(dict.fromkeys),
    "lists": document(lambda content: {key: [value] for key, value in content.items()}),
    "a number NaN": number(lambda value: float("nan")),
    "a number infinite": number(lambda value: float("inf")),
    "a number huge": number(lambda value: 10**400),
    "a number negative": number(lambda value: -value - 1),
    "a number as text": number(str),
    "a number more": number(lambda value: value + 1),
}


def lines(change):
    return written(lambda content: "\n".join([*change(content.decode().splitlines()), ""]).encode())


def cell(value, column=1, row=2):
    def change(text):
        cells = text[row].split(",")
        cells[column] = value
        return [*text[:row], ",".join(cells), *text[row + 1 :]]

    return change


TABLE = {
    "heading only": lines(lambda text: text[:1]),
    "no heading": lines(lambda text: text[1:]),
    "a row less": lines(lambda text: text[:-1]),
    "a row twice": lines(lambda text: [*text, text[-1]]),
    "rows reversed": lines(lambda text: [text[0], *text[:0:-1]]),
    "ragged": lines(lambda text: [text[0], *(line + "," for line in text[1:])]),
    "semicolons": lines(lambda text: [line.replace(",", ";") for line in text]),
    "no first column": lines(lambda text: [line.partition(",")[2] for line in text]),
    "no last column": lines(lambda text: [line.rpartition(",")[0] for line in text]),
    "no name": lines(cell("", 0)),
    "another name": lines(cell("J00067-075", 0)),
    "quote that never ends": lines(cell('"', -1, 0)),
    "a cell empty": lines(cell("")),
    "a cell NaN": lines(cell("nan")),
    "a cell infinite": lines(cell("inf")),
    "a cell huge": lines(cell("1e300")),
    "a cell with text": lines(cell("hot")),
    "a cell otherwise": lines(cell("11.5")),
    "last column infinite": lines(cell("inf", -1)),
    "last column text": lines(cell("hot", -1)),
    "NUL": written(lambda content: content.replace(b",", b"\0", 1)),
}


def all_nan(path, other):
    with h5py.File(path, "r+") as file:
        file.visititems(lambda name, item: item.write_direct(np.full(item.shape, np.nan, item.dtype))
                        if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" else None)


def layer_lost(path, other):
    with h5py.File(path, "r+") as file:
        group = file["model_weights"] if "model_weights" in file else file
        del group[sorted(group)[0]]


NETWORK = {"NaN": all_nan, "a layer less": layer_lost}
OF = {".npy": ARRAY, ".json": DOCUMENT, ".csv": TABLE, ".h5": NETWORK}


def mutations(kind):
    return {**ANY, **OF[os.path.splitext(kind.file)[1]]}


@pytest.mark.parametrize(
    "kind, how", [(kind, how) for k, kind in enumerate(KINDS) for j, how in enumerate(mutations(kind))
                  if (k + j + sys.version_info.minor) % STEP == 0],
    ids=lambda value: value.file.partition("/")[2] if isinstance(value, Kind) else value,
)
def test_spoilt(kind, how, run):
    path = run.path(kind.file)
    mutations(kind)[how](path, run.path(kind.other))
    check(run, kind)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.readers.endswith("4") and "estim" not in kind.file
                                  and "cnn_regressor" not in kind.file], ids=lambda kind: Path(kind.file).name)
def test_swapped_before_a_regressor_is_trained(kind, run):
    for pattern in ("cnn_regressor*", "*_estimation_*", "final_*"):
        for path in run.made.glob(pattern):
            path.unlink()
    path = run.path(kind.file)
    shutil.copyfile(run.path(kind.other), path)
    check(run, kind._replace(readers="4"))


# ---------------------------------------------------------------- anything at all
def places(node, at=()):
    """The path of every part of a JSON document."""
    yield at
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*at, key))


def replaced(node, at, value):
    if not at:
        return value
    node = dict(node) if isinstance(node, dict) else list(node)
    node[at[0]] = replaced(node[at[0]], at[1:], value)
    return node


WORDS = strategies.text(max_size=9)
LEAVES = strategies.one_of(
    strategies.none(), strategies.booleans(), strategies.integers(), strategies.floats(), WORDS,
    strategies.sampled_from(["simulated", "published", 1e308, 10**400, "0" * 64]),
)
VALUES = strategies.recursive(
    LEAVES,
    lambda inner: strategies.lists(inner, max_size=2) | strategies.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
DOCUMENTS = [kind for kind in KINDS if kind.file.endswith(".json")]


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: Path(kind.file).name)
def test_any_value_in_any_place(kind, run):
    path = run.path(kind.file)
    content = json.loads(path.read_text())
    spots = list(places(content))

    @SETTINGS
    @hypothesis.given(strategies.sampled_from(spots), VALUES)
    def spoilt(at, value):
        run.restore()
        path.write_text(json.dumps(replaced(content, at, value)))
        check(run, kind)

    spoilt()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: Path(kind.file).name)
def test_any_byte_in_any_place(kind, run):
    path = run.path(kind.file)
    content = path.read_bytes()

    @SETTINGS
    @hypothesis.given(strategies.integers(0, len(content) - 1), strategies.binary(max_size=3))
    def spoilt(at, some):
        run.restore()
        path.write_bytes(content[:at] + some + content[at + len(some) :])
        check(run, kind)

    spoilt()
