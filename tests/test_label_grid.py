"""The label grid rebuilds the published file of labels, byte for byte."""
import hashlib

import numpy as np

import artifacts
import label_grid
import paper


def test_rebuilt_file_has_the_published_id(tmp_path):
    path = tmp_path / "ph_pars.npy"
    artifacts.write_array(path, label_grid.label_grid())
    assert artifacts.git_blob_id(path) == paper.BLOB_ID["ph_pars.npy"]
    assert list(tmp_path.iterdir()) == [path]  # no partial file left


def test_labels_lie_on_the_grid():
    labels = label_grid.label_grid()
    assert labels.shape == (paper.N_SYNTHETIC, 4) and labels.dtype == np.float64
    for column, values in enumerate((paper.GRID_TEFF, paper.GRID_LOGG, paper.GRID_MH, paper.GRID_VSINI)):
        assert set(np.unique(labels[:, column])) <= set(values)
    assert len(np.unique(labels, axis=0)) == len(labels)


def test_solar_is_negative_zero():
    mh = label_grid.label_grid()[:, 2]
    assert np.signbit(mh[mh == 0]).all() and (mh == 0).any()


def test_git_blob_id_is_gits(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert artifacts.git_blob_id(path) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    path.write_bytes(b"hello\n")
    assert artifacts.git_blob_id(path) == hashlib.sha1(b"blob 6\0hello\n").hexdigest()


def test_script_writes_the_file(tmp_path, monkeypatch):
    (tmp_path / "label_grid.csv").write_bytes((label_grid.HERE / "label_grid.csv").read_bytes())
    monkeypatch.setattr(label_grid, "HERE", tmp_path)
    assert label_grid.main() == 0
    assert artifacts.git_blob_id(tmp_path / "ph_pars.npy") == paper.BLOB_ID["ph_pars.npy"]
