"""Anchors from a file, and a table of estimates moved onto them by calibrate.py."""
import pandas as pd
import pytest

import calibrate
from evaluation import anchors, catalogues


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
