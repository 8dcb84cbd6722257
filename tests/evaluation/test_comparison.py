"""The comparison with published values, by hand and against the paper's printed numbers."""
import numpy as np
import pandas as pd
import pytest

import literature
import paper
from evaluation import catalogues, comparison
from workflow import files


@pytest.fixture(scope="module")
def published():
    return catalogues.load_estimates()


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Write tables of a test's own, as {name: {column: values}}, in place of literature_data."""

    def write(**content):
        for name, columns in content.items():
            files.write_csv(tmp_path / f"{name}.csv", pd.DataFrame(columns))
        monkeypatch.setattr(catalogues, "FOLDER", tmp_path)
        monkeypatch.setattr(catalogues, "CATALOGUES", {name: name.title() for name in content})

    return write


def five_stars(**columns):
    """Estimates of five stars; only Teff unless told otherwise."""
    frame = pd.DataFrame({"karmn": list("ABCDE"), "spectra": "published"})
    for par in paper.PARAMETERS:
        frame[par] = frame[f"e_{par}"] = frame[f"E_{par}"] = np.nan
    return frame.assign(teff=[3000.0, 3100, 3200, 3300, 3400], **columns)


def test_comparison_by_hand(tables):
    tables(
        cat={"karmn": ["E", "C", "A", "X", "B", "D"], "teff": [3430.0, 3200, 3010, 1, 3080, np.nan]},
        stars={"karmn": list("ABCDE"), "population": "D"},
    )
    # literature minus estimate of A, B, C, E: 10, -20, 0, 30
    row = comparison.compare(five_stars()).query("catalogue == 'Cat'").iloc[0]
    assert row[["parameter", "n"]].tolist() == ["Teff [K]", 4]
    assert row["mean"] == pytest.approx(5) and row["rmse"] == pytest.approx(np.sqrt(1400 / 4))
    # deviations from the means, 3175 and 3180: -175, -75, 25, 225 and -170, -100, 20, 250
    r = (175 * 170 + 75 * 100 + 25 * 20 + 225 * 250) / np.sqrt((175**2 + 75**2 + 25**2 + 225**2) * (
        170**2 + 100**2 + 20**2 + 250**2))
    assert row["r"] == pytest.approx(r) and row["agrees"] == ""


def test_vsini_is_split_by_the_estimate(tables):
    tables(cat={"karmn": list("ABCDE"), "vsini": [1.0, 13, 11, 10, 20]})
    rows = comparison.compare(five_stars(vsini=[2.0, 11.9, 12.0, 15.0, 30.0])).set_index("which")
    assert rows["n"].to_dict() == {"": 5, "below 12 km/s": 2, "from 12 km/s on": 3}
    assert rows["mean"].tolist() == pytest.approx([-3.18, 0.05, -16 / 3])


def test_star_without_an_estimate_does_not_count(tables):
    tables(cat={"karmn": list("ABCDE"), "teff": 3000.0, "logg": 5.0})
    rows = comparison.compare(five_stars(logg=[5.0, np.nan, np.nan, np.nan, np.nan])).set_index("parameter")
    assert rows["n"].tolist() == [5, 1]
    assert rows["r"].isna().all()  # constant, and a single star


def test_every_printed_comparison_is_reproduced_where_it_belongs(published):
    table = comparison.compare(published)
    printed = table[table["agrees"] != ""]
    assert len(printed) == len(paper.COMPARISONS) == 19 and (printed["agrees"] == "yes").all()
    parts = table[["paper_n", "paper_mean", "paper_rmse", "paper_r"]]
    assert (parts != "not read").sum().tolist() == [4, 17, 4, 4] and not (parts == "").any(axis=None)
    rows = table.set_index(["catalogue", "parameter", "which"])["mean"]
    for row, mean in {("Mar21", "Teff [K]", ""): -19, ("Interferometry", "Teff [K]", ""): -119,
                      ("Schw19", "logg [dex]", ""): 0.13, ("Mar21", "[M/H] [dex]", ""): -0.11,
                      ("Schw19", "logg [dex]", "log g from mass and radius"): 0.056,
                      ("Rein18", "vsini [km/s]", "from 12 km/s on"): -3.47}.items():
        assert rows[row] == pytest.approx(mean, abs=0.5 if "[K]" in row[1] else 0.005)


def test_every_finding_is_reproduced(published):
    table = comparison.findings(published)
    assert set(table["agrees"][table["paper"] != ""]) == {"yes"} and (table["paper"] != "").sum() == 7
    assert table["value"].tail(4).tolist() == [55, 8, 5, 0]
    assert table["finding"].iloc[-1].endswith("of 14")


def test_wrong_numbers_do_not_pass(published):
    shifted = published.assign(teff=published.teff + 2, mh=published.mh + 0.02)
    table = comparison.compare(shifted)
    assert set(table["agrees"][table["parameter"] == "Teff [K]"]) == {"no", ""}
    assert "no" in set(comparison.findings(shifted)["agrees"])
    simulated = shifted.assign(spectra="simulated")  # not the paper's stars: neither yes nor no
    assert set(comparison.compare(simulated)["agrees"]) == set(comparison.findings(simulated)["agrees"]) == {""}


@pytest.mark.parametrize(
    "value, printed, step, same",
    [(-19.4, "-19", None, True), (-19.6, "-19", None, False), (-0.0047, "0.00", None, True),
     (0.384, "0.39", None, False), (5.4e-5, "5e-5", None, True), (5.6e-5, "5e-5", None, False),
     (5.0, "5e-5", None, False), (3049.4, "3050", 50, True), (4274, "4300", 50, False), (np.nan, "0", None, False)],
)
def test_rounding(value, printed, step, same):
    assert comparison.agrees(value, printed, step) is same


@pytest.mark.parametrize(
    "value, printed, text",
    [(1.74e-5, "5e-5", "1.7e-5"), (353.04, "353", "353.0"), (26, "26", "26"), (22_933, "22933", "22,933"),
     (0.08549, "0.086", "0.0855"), (2.6, "2.72", "2.600"), (np.nan, "0.1", "nan")],
)
def test_numbers_have_one_digit_more_than_printed(value, printed, text):
    assert comparison.number(value, printed) == text


def test_command_prints_the_tables(capsys):
    assert literature.main([]) == 0
    printed = capsys.readouterr().out
    assert "286 stars, the published estimates" in printed and "0.0071" in printed
    assert printed.count(" yes") == 26 and " no" not in printed.replace(" not", "").replace(" none", "")
