"""The label grid rebuilds the published file of labels, byte for byte; and its command, `label_grid.py`."""
import os
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
    rows = labels.label_grid()
    assert rows.shape == (paper.N_SYNTHETIC, 4) and rows.dtype == np.float64
    mh = rows[:, 2]
    assert np.signbit(mh[mh == 0]).all() and (mh == 0).any()  # as PHOENIX has it
    files.write_array(tmp_path / "ph_pars.npy", rows)
    assert files.git_blob_id(tmp_path / "ph_pars.npy") == paper.BLOB_ID["ph_pars.npy"]


def test_rows_of_a_star_differ_in_vsini_alone():
    rows = labels.label_grid()[::7]
    stars, rows_of = labels.by_star(rows)
    assert np.array_equal(np.sort(np.concatenate(rows_of)), np.arange(len(rows)))
    for star, own in zip(stars, rows_of):
        assert (np.diff(own) > 0).all() and (rows[own, :3] == star).all()


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


def started(src, *extra, wrapper=(), **how):
    """Status of the script as a command, and the lines of its stderr."""
    ended = subprocess.run([*wrapper, sys.executable, str(src / "label_grid.py"), *extra], text=True, timeout=60,
                           env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, **how)
    return ended.returncode, ended.stderr.splitlines()


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
    lambda src: (src / "ph_pars.npy").symlink_to("gone"), lambda src: (src / "label_grid.csv").unlink(),
    lambda src: (src / "label_grid.csv").write_bytes((src / "label_grid.csv").read_bytes()[:-200]),
    lambda src: (src / "label_grid.csv").write_text("teff,4.7\n2325,0\n"),
], ids=["own file", "folder", "link to nowhere", "no table", "shorter table", "other table"])
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
    status, lines = started(src, "--out", "elsewhere")
    assert status == 2 and "--out" in lines[-1] and not (src / "ph_pars.npy").exists()


def mounted(options, src):
    """A prefix that runs a command with a small memory disk at its folder, its files on it."""
    copy = shutil.copytree(src, src.parent / "copy")
    return [*machine.mounted(options, src), "sh", "-c", 'cp -r "$1"/* "$2" && shift 2 && exec "$@"', "sh", copy, src]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["file size", "full", "no permission"])
def test_a_disk_that_refuses_is_one_line_that_names_the_path(src, how):
    wrapper = {"full": lambda: mounted("size=300k", src),
               "no permission": lambda: machine.unprivileged(src)}.get(how, list)()
    limit = machine.no_larger_than(20_000) if how == "file size" else None
    status, lines = started(src, wrapper=wrapper, preexec_fn=limit)
    assert status == 2
    (line,) = lines
    assert line.startswith("error: ") and str(src / "ph_pars") in line
    assert not list(src.glob("ph_pars*"))
