"""The label grid rebuilds the published file of labels, byte for byte."""
import hashlib
import os
import resource
import shutil
import subprocess
import sys

import machine
import numpy as np
import pytest

import label_grid
import paper
from label_grid import HERE, main
from synthetic import labels
from workflow import files


def test_rebuilt_file_has_the_published_id(tmp_path):
    path = tmp_path / "ph_pars.npy"
    files.write_array(path, labels.label_grid())
    assert files.git_blob_id(path) == paper.BLOB_ID["ph_pars.npy"]
    assert list(tmp_path.iterdir()) == [path]  # no partial file left


def test_labels_lie_on_the_grid():
    rows = labels.label_grid()
    assert rows.shape == (paper.N_SYNTHETIC, 4) and rows.dtype == np.float64
    for column, values in enumerate((paper.GRID_TEFF, paper.GRID_LOGG, paper.GRID_MH, paper.GRID_VSINI)):
        assert set(np.unique(rows[:, column])) <= set(values)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_solar_is_negative_zero():
    mh = labels.label_grid()[:, 2]
    assert np.signbit(mh[mh == 0]).all() and (mh == 0).any()


def test_git_blob_id_is_gits(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert files.git_blob_id(path) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    path.write_bytes(b"hello\n")
    assert files.git_blob_id(path) == hashlib.sha1(b"blob 6\0hello\n").hexdigest()


# ---------------------------------------------------------------- the script
@pytest.fixture
def src(tmp_path):
    """A folder with a copy of the script, its table and, beside it, the modules."""
    (tmp_path / "Methodology").symlink_to(HERE.parent / "Methodology")
    (tmp_path / "src_files").mkdir()
    for name in ("label_grid.py", "label_grid.csv"):
        shutil.copy(HERE / name, tmp_path / "src_files")
    shutil.copytree(HERE / "synthetic", tmp_path / "src_files" / "synthetic")
    return tmp_path / "src_files"


def start(src, *extra, wrapper=(), env=(), **how):
    return subprocess.Popen([*wrapper, sys.executable, str(src / "label_grid.py"), *extra], text=True,
                            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **dict(env)}, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, **how)


def end(process):
    """Status of a script that has ended, and the lines of its stderr."""
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.splitlines()


def test_script_writes_the_file_once(src, monkeypatch):
    monkeypatch.setattr(labels, "HERE", src)
    monkeypatch.setattr(label_grid, "HERE", src)
    assert main([]) == 0
    written = src / "ph_pars.npy"
    assert files.git_blob_id(written) == paper.BLOB_ID["ph_pars.npy"]
    before = written.stat().st_mtime_ns
    assert main([]) == 0
    assert written.stat().st_mtime_ns == before


@pytest.mark.parametrize("lay", [
    lambda src: (src / "ph_pars.npy").write_bytes(b"own"), lambda src: (src / "ph_pars.npy").mkdir(),
    lambda src: (src / "ph_pars.npy").symlink_to("gone"),
    lambda src: (src / "label_grid.csv").unlink(), lambda src: (src / "label_grid.csv").write_text(""),
    lambda src: (src / "label_grid.csv").write_bytes((src / "label_grid.csv").read_bytes()[:-200]),
    lambda src: (src / "label_grid.csv").write_text("teff,4.7\n2325,0\n"),
], ids=["own file", "folder", "link to nowhere", "no table", "empty table", "shorter table", "other table"])
def test_what_cannot_be_done_is_one_line(src, monkeypatch, capsys, lay):
    lay(src)
    before = {path: path.is_file() and path.read_bytes() for path in src.iterdir()}
    monkeypatch.setattr(labels, "HERE", src)
    monkeypatch.setattr(label_grid, "HERE", src)
    assert main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and str(src) in line
    assert {path: path.is_file() and path.read_bytes() for path in src.iterdir()} == before


def test_unknown_flags_are_refused(src):
    status, lines = end(start(src, "--out", "elsewhere"))
    assert status == 2 and "--out" in lines[-1] and not (src / "ph_pars.npy").exists()


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def mounted(options, src):
    """A prefix that runs a command with a small memory disk at its folder, its files on it."""
    copy = shutil.copytree(src, src.parent / "copy")
    return [*machine.mounted(options, src), "sh", "-c", 'cp -r "$1"/* "$2" && shift 2 && exec "$@"', "sh", copy, src]


def read_only(src):
    """A prefix that runs a command as one who may not write in its folder."""
    src.chmod(0o500)
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write anywhere")
    return ["setpriv", "--bounding-set=-all"]


@pytest.mark.parametrize("how", ["file size", "full", "no permission"])
def test_a_disk_that_refuses_is_one_line_that_names_the_path(src, how):
    wrapper = {"full": lambda: mounted("size=300k", src), "no permission": lambda: read_only(src)}.get(how, list)()
    status, lines = end(start(src, wrapper=wrapper, preexec_fn=limit_file_size if how == "file size" else None))
    assert status == 2
    (line,) = lines
    assert line.startswith("error: ") and str(src / "ph_pars") in line
    assert not list(src.glob("ph_pars*"))
