"""Anchors from a file, and a table of estimates moved onto them by calibrate.py."""
import pandas as pd
import pytest

import calibrate
from evaluation import anchors, catalogues
from workflow import files


def test_what_a_file_says(tmp_path):
    pd.DataFrame({"karmn": ["B", "X", "A"], "teff": [3500.0, 3000.0, None], "s_teff": 30.0, "mh": [None, None, 0.1],
                  "e_mh": 0.05}).to_csv(tmp_path / "a.csv", index=False)
    observations, names, absent = anchors.read(tmp_path / "a.csv", pd.DataFrame({"karmn": ["A", "B"]}))
    assert names == {"teff": ["B"], "mh": ["A"]} and absent == ["X"]
    teff, mh = observations["teff"], observations["mh"]
    assert (teff.rows, teff.values, teff.errors, teff.shared) == (1, 3500.0, anchors.ERRORS["teff"], 30.0)
    assert (mh.rows, mh.values, mh.errors, mh.shared) == (0, 0.1, 0.05, 0.0)


def test_calibrate_moves_a_table_and_leaves_what_has_no_anchors(tmp_path, capsys):
    interf = catalogues.load("interf")[["karmn", "teff"]]
    interf.to_csv(tmp_path / "a.csv", index=False)
    assert calibrate.main(["--anchors", str(tmp_path / "a.csv"), "--out", str(tmp_path)]) == 0
    before, after = catalogues.load_estimates(), catalogues.load_estimates(tmp_path / "mas24_anchored.csv")
    both = before.merge(after, on="karmn", suffixes=("", "_after"))
    shift = (both["teff_after"] - both["teff"]).mean()
    assert -150 < shift < -60  # the interferometric stars are 119 K colder than the published estimates (Sect. 4.2)
    assert both["logg_after"].tolist() == pytest.approx(both["logg"].tolist())
    assert f"{len(interf)} of teff" in capsys.readouterr().out
    assert calibrate.main(["--anchors", str(tmp_path / "a.csv")]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize("text, said", [
    ("karmn,teff\nA,3500 K\n", "no number"), ("karmn,teff\nA,inf\n", "teff of A is inf"),
    ("karmn,teff\nA,3.5\n", "teff of A is 3.5"), ("karmn,logg\nA,3500\n", "logg of A is 3500"),
    ("karmn,Teff\nA,3500\n", "'Teff' instead of 'teff'"), ("karmn,teff,e_Teff\nA,3500,60\n", "'e_Teff' instead of"),
    ("karmn,teff,e_teff\nA,3500,ten\n", "no number"), ("karmn,teff,e_teff\nA,3500,inf\n", "e_teff of A is inf"),
    ("karmn,teff,s_teff\nA,3500,-9\n", "s_teff of A is -9"), ("karmn,teff\nA,3500\nA\u200b,3600\n", "names A twice"),
    ("karmn,teff\nX,3500\n", "none of its stars"), ("karmn,teff\nA,\n", "none of its stars"),
    ("karmn,teff\nA,3500\x00\n", "NUL"), ("karmn,mass\nA,1\n", "none of the columns"),
])
def test_anchor_that_cannot_be_meant_is_refused(text, said, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(files.BadInput, match=said):
        anchors.read(path, pd.DataFrame({"karmn": ["A", "B"]}))
