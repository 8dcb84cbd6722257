"""Published values: tidy tables, joining by name, the comparison by hand and against the paper's printed numbers."""
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import literature
import paper
from evaluation import catalogues, comparison
from workflow import files
from workflow.command_line import ROOT
from workflow.files import BadInput

TABLES = [path.stem for path in catalogues._star_tables()]
ROWS = {"mas24": 286, "mar21": 350, "pass19": 275, "schw19": 293, "pass20": 286, "bello23": 283, "rein18": 350,
        "interf": 14, "fgkm": 6, "pass18": 300, "gaid14": 291, "gm14": 95, "mann15": 102, "stars": 286}


def write_run(path, estimates, spectra="simulated", outputs=False):
    """A final_estimations.csv and its sidecar, with or without its digest, of estimates as literature has them."""
    columns = {"karmn": estimates["karmn"], "ra_gaiadr3": 10.0, "dec_gaiadr3": 20.0}
    for par, parameter in paper.PARAMETERS.items():
        for prefix in ("", "e_", "E_"):
            columns[prefix + parameter.published] = estimates[prefix + par]
    files.write_csv(path, pd.DataFrame(columns))
    sidecar = {"spectra": {"spectra": spectra}, "seed": 42, "kept": {}}
    if outputs:
        sidecar["outputs"] = {path.name: files.sha256(path)}
    files.write_json(path.with_suffix(".json"), sidecar)
    return path


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


def five_stars(**more):
    """Estimates of five stars; only Teff unless told otherwise."""
    frame = pd.DataFrame({"karmn": list("ABCDE"), "spectra": "published"})
    for par in paper.PARAMETERS:
        frame[par] = frame[f"e_{par}"] = frame[f"E_{par}"] = np.nan
    return frame.assign(teff=[3000.0, 3100, 3200, 3300, 3400], **more)


# ---------------------------------------------------------------- tables
@pytest.mark.parametrize("name", TABLES)
def test_tables_are_tidy(name):
    text = (catalogues.FOLDER / f"{name}.csv").read_text()
    assert '"' not in text and " " not in text and text.endswith("\n")
    karmn = [line.split(",")[0] for line in text.splitlines()]
    assert karmn[0] == "karmn"
    assert karmn[1:] == sorted(set(karmn[1:]))
    assert len(karmn) - 1 == ROWS[name] == len(catalogues.load(name))
    values = pd.read_csv(catalogues.FOLDER / f"{name}.csv").drop(columns="karmn")
    assert values.notna().any(axis=1).all()
    numbers = values.drop(columns=["population", "lbol_source"], errors="ignore")
    assert set(numbers.dtypes.map(lambda dtype: dtype.kind)) <= {"i", "f"}
    assert (numbers.filter(regex="^[eE]_") >= 0).sum().sum() == numbers.filter(regex="^[eE]_").notna().sum().sum()


@pytest.mark.parametrize("name", [*catalogues.CATALOGUES, "mas24"])
def test_every_catalogue_has_the_same_columns_and_sane_units(name):
    table = catalogues.load(name)
    assert {prefix + par for par in paper.PARAMETERS for prefix in ("", "e_", "E_")} <= set(table)
    for par, (low, high) in {"teff": (2000, 5000), "logg": (3.5, 6), "mh": (-1.5, 1), "vsini": (0, 80)}.items():
        assert table[par].dropna().between(low, high).all()


def test_readme_tells_each_table_and_its_rows():
    readme = (catalogues.FOLDER / "README.md").read_text()
    for name in TABLES:
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}.csv`"))
        assert f"| {ROWS[name]} |" in row


def test_stars_agree_with_the_paper_and_with_marfil21():
    stars = catalogues.load("stars")
    assert list(stars.karmn) == list(catalogues.load("mas24").karmn)
    both = stars.merge(catalogues.load("mar21"), on="karmn", suffixes=("", "_mar21"), validate="one_to_one")
    assert len(both) == 286 and (both["population"] == both["population_mar21"]).all()
    assert stars.groupby("population").size().to_dict() == {"D": 167, "TD": 21, "TD-D": 13, "YD": 85}
    assert stars[["young", "active", "subdwarf"]].sum().tolist() == [13, 51, 4]
    assert stars["lbol"].between(1e-3, 0.12).all() and set(stars["lbol_source"]) == {"cif20", "cif25", "schw19", "fig8"}


# ---------------------------------------------------------------- joining
def test_unknown_table_is_named():
    with pytest.raises(BadInput, match=r"mar22\.csv not found: the tables are .*mar21"):
        catalogues.load("mar22")


def test_star_named_twice_is_named(tables, published):
    tables(cat={"karmn": ["A", "B", "A "], "teff": [1.0, 2, 3]})
    with pytest.raises(BadInput, match="names A twice"):
        catalogues.load("cat")
    with pytest.raises(BadInput, match="the estimates names B twice"):
        catalogues.match(five_stars().assign(karmn=["A", "B", "C", "B", "E"]), "cat")


def test_an_alias_and_its_star_cannot_both_stand(tables):
    tables(cat={"karmn": ["J11110+304", "J11110+304W"], "teff": [1.0, 2]})
    with pytest.raises(BadInput, match=r"J11110\+304 twice"):
        catalogues.load("cat")


def test_unknown_star_is_named(published):
    misspelt = published.replace({"karmn": {"J00183+440": "J00183-440"}})
    with pytest.raises(BadInput, match="J00183-440"):
        catalogues.match(misspelt, "mar21")


def test_aliases_and_neighbours(published):
    for name, teff in (("mar21", 3730), ("gaid14", 3678)):
        both = catalogues.match(published, name).set_index("karmn")
        assert both.loc["J11110+304", "teff_lit"] == teff  # of the W component; E has 4211 K in Marfil+21
    assert catalogues.load("mar21").set_index("karmn").loc["J11110+304E", "teff"] == 4211
    assert "J20556-140N" in set(catalogues.load("pass18").karmn)
    assert not set(catalogues.match(published, "pass18").karmn) & {"J20556-140N", "J20556-140S"}


def test_missing_stars_are_left_out(published):
    assert set(published.karmn) - set(catalogues.match(published, "bello23").karmn) == {
        "J17364+683", "J18427+596N", "J18427+596S"}
    some = published.iloc[[5, 200, 30]]
    assert list(catalogues.match(some, "mar21").karmn) == sorted(some.karmn)


@pytest.mark.parametrize("name", ["mar21", "pass19", "gaid14", "stars"])
def test_order_of_rows_changes_nothing(name, published, tables):
    expected = catalogues.match(published, name)
    shuffled = published.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(catalogues.match(shuffled, name), expected)
    source = {name: pd.read_csv(catalogues.FOLDER / f"{name}.csv") for name in TABLES}
    tables(**{stem: table.sample(frac=1, random_state=2) for stem, table in source.items()})
    pd.testing.assert_frame_equal(catalogues.match(shuffled, name), expected)


# ---------------------------------------------------------------- the comparison
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


def test_every_printed_comparison_is_reproduced(published):
    table = comparison.compare(published)
    printed = table[table["agrees"] != ""]
    assert len(printed) == len(paper.COMPARISONS) == 19
    assert (printed["agrees"] == "yes").all()
    parts = table[["paper_n", "paper_mean", "paper_rmse", "paper_r"]]
    assert (parts != "not read").sum().tolist() == [4, 17, 4, 4] and not (parts == "").any(axis=None)


@pytest.mark.parametrize(
    "catalogue, parameter, which, mean",
    [("Mar21", "Teff [K]", "", -19), ("Interferometry", "Teff [K]", "", -119), ("Schw19", "logg [dex]", "", 0.13),
     ("Schw19", "logg [dex]", "log g from mass and radius", 0.056), ("Mar21", "[M/H] [dex]", "", -0.11),
     ("FGK+M", "[M/H] [dex]", "", -0.13), ("Rein18", "vsini [km/s]", "from 12 km/s on", -3.47)],
)
def test_paper_numbers_stand_where_they_belong(published, catalogue, parameter, which, mean):
    row = comparison.compare(published).query("catalogue == @catalogue and parameter == @parameter and which == @which")
    assert len(row) == 1 and row["mean"].iloc[0] == pytest.approx(mean, abs=0.5 if "[K]" in parameter else 0.005)


def test_every_finding_is_reproduced(published):
    table = comparison.findings(published)
    assert set(table["agrees"][table["paper"] != ""]) == {"yes"} and (table["paper"] != "").sum() == 7
    assert table["value"].tail(3).tolist() == [55, 5, 0]
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
     (0.386, "0.39", None, True), (0.384, "0.39", None, False),
     (5.4e-5, "5e-5", None, True), (5.6e-5, "5e-5", None, False), (5.0, "5e-5", None, False),
     (3049.4, "3050", 50, True), (4274, "4300", 50, False), (np.nan, "0", None, False)],
)
def test_rounding(value, printed, step, same):
    assert comparison.agrees(value, printed, step) is same


# ---------------------------------------------------------------- estimates of a run
@pytest.mark.parametrize("outputs", [False, True])
def test_run_is_read_with_its_provenance(outputs, tmp_path, published):
    path = write_run(tmp_path / "final_estimations.csv", published, outputs=outputs)
    estimates = catalogues.load_estimates(str(path))
    assert set(estimates["spectra"]) == {"simulated"} and "SIMULATED" in catalogues.title(estimates)
    source = ["spectra", "run"]
    pd.testing.assert_frame_equal(estimates.drop(columns=source), published.drop(columns=source), check_like=True)
    assert set(catalogues.load_estimates("")["spectra"]) == {"published"}


@pytest.mark.parametrize(
    "spectra, words",
    [("published", "estimates from the published spectra"), ("simulated", "estimates of SIMULATED stars"),
     ("unknown", "estimates from spectra marked 'unknown'"), ("a\nb", r"estimates from spectra marked 'a\nb'")],
)
def test_title_of_a_run(spectra, words, tmp_path, published, capsys):
    assert catalogues.title(published) == "the published estimates"
    path = write_run(tmp_path / "run.csv", published, spectra)
    assert literature.main([str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(f"286 stars, {words}")


def test_run_under_another_name_is_still_that_run(tmp_path, published):
    path = write_run(tmp_path / "final_estimations.csv", published, outputs=True)
    for ending in (".csv", ".json"):
        path.with_suffix(ending).rename(tmp_path / f"old{ending}")
    assert len(catalogues.load_estimates(tmp_path / "old.csv")) == 286


def test_names_of_a_run_are_text(tmp_path, published, monkeypatch):
    names = ["001", "00E0", "NA", "nan", "1e5"]
    path = write_run(tmp_path / "run.csv", published[:5].assign(karmn=names))
    assert catalogues.load_estimates(path)["karmn"].tolist() == names


def test_infinite_estimate_is_none(tmp_path, published):
    path = write_run(tmp_path / "run.csv", published.assign(teff=np.inf))
    assert catalogues.load_estimates(path)["teff"].isna().all()


def rewrite(change, ending=".csv"):
    """Spoils a run: one of its files gets other text."""

    def spoil(path):
        file = path.with_suffix(ending)
        file.write_text(change(file.read_text()))

    return spoil


def without_column(path):
    files.write_csv(path, pd.read_csv(path).drop(columns="E_logg"))


def says(content):
    return rewrite(lambda text: json.dumps(content), ".json")


SPOILT = {
    "no table": (lambda path: path.unlink(), "run.csv"),
    "a folder": (lambda path: path.unlink() or path.mkdir(), "run.csv"),
    "empty": (rewrite(lambda text: ""), "run.csv"),
    "no star": (rewrite(lambda text: text.splitlines()[0] + "\n"), "run.csv"),
    "a column missing": (without_column, "E_logg"),
    "text for a number": (rewrite(lambda text: text.replace("3780.05", "hot")), "J00051+457: Teff is 'hot'"),
    "truth for a number": (rewrite(lambda text: text.replace("3780.05", "True")), "J00051+457: Teff is 'True'"),
    "a star twice": (rewrite(lambda text: text + text.splitlines()[1] + "\n"), "J00051+457 twice"),
    "an alias twice": (rewrite(lambda text: text.replace("J00051+457", "J11110+304W")), "J11110+304 twice"),
    "a name missing": (rewrite(lambda text: text.replace("J00051+457", "")), "run.csv"),
    "semicolons": (rewrite(lambda text: text.replace(",", ";")), "; instead of commas"),
    "rows with a comma more": (rewrite(lambda text: text.replace("\n", ",\n").replace(",\n", "\n", 1)), "line 2 "),
    "blank in the heading": (rewrite(lambda text: " " + text), "' karmn' instead of 'karmn'"),
    "no sidecar": (lambda path: path.with_suffix(".json").unlink(), "run.json"),
    "half a sidecar": (rewrite(lambda text: text[:-4], ".json"), "run.json"),
    "no provenance": (says({"kept": {}}), "run.json"),
    "a word for provenance": (says({"spectra": "simulated"}), "run.json"),
    "a number for provenance": (says({"spectra": {"spectra": 7}}), "run.json"),
    "a list": (says([]), "run.json"),
    "a digest that is none": (says({"spectra": {"spectra": "simulated"}, "outputs": {"run.csv": "x"}}), "run.json"),
}


@pytest.mark.parametrize(("spoil", "cause"), SPOILT.values(), ids=SPOILT)
def test_bad_run_is_one_line_with_file_and_remedy(spoil, cause, tmp_path, published, capsys):
    path = write_run(tmp_path / "run.csv", published)
    spoil(path)
    assert literature.main([str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and cause in error and ": " in error[7:]
    assert str(tmp_path / "run") in error


def test_estimates_changed_since_are_refused(tmp_path, published, capsys):
    path = write_run(tmp_path / "run.csv", published, outputs=True)
    assert literature.main([str(path)]) == 0
    rewrite(lambda text: text.replace("3780.05", "3790.05"))(path)
    assert literature.main([str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path} was changed after it was made" in error and "cnn_training.py" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "content, cause",
    [("karmn,teff\nA,hot\n", "A: teff is 'hot'"), ("karmn,teff\nA,1,\n", "line 2"), ("karmn;teff\nA;1\n", "; instead"),
     ("star,teff\nA,1\n", "no heading karmn"), ("", "is empty")],
)
def test_table_that_cannot_be_used(content, cause, tmp_path, monkeypatch):
    (tmp_path / "cat.csv").write_text(content)
    monkeypatch.setattr(catalogues, "FOLDER", tmp_path)
    with pytest.raises(BadInput, match="cat.csv") as caught:
        catalogues.load("cat")
    assert cause in str(caught.value) and "git checkout" in str(caught.value)


def test_command_prints_the_tables(capsys):
    assert literature.main([]) == 0
    printed = capsys.readouterr().out
    assert "286 stars, the published estimates" in printed and "0.0071" in printed
    assert printed.count(" yes") == 26 and " no" not in printed.replace(" not", "").replace(" none", "")


def test_no_module_that_draws_or_reports_needs_tensorflow():
    code = ("import sys, calibrate, literature, report; from evaluation import run; "
            "from figures import gap, hr_diagram, section3, section4, star_page, truth; "
            "sys.exit(bool({'tensorflow', 'keras', 'training.networks'} & set(sys.modules)))")
    folder = str(ROOT / "Methodology")
    assert subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r}); {code}"]).returncode == 0
