"""Published values: tidy tables, joining by name; the estimates of a run, with their provenance and flags."""
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from run_tables import write_run

import literature
from evaluation import catalogues
from inference import flags
from workflow import files
from workflow.command_line import ROOT
from workflow.files import BadInput

TABLES = [path.stem for path in catalogues.table_files()]
ROWS = {"mas24": 286, "mar21": 350, "pass19": 275, "schw19": 293, "pass20": 286, "bello23": 283, "rein18": 350,
        "interf": 14, "fgkm": 6, "pass18": 300, "gaid14": 291, "gm14": 95, "mann15": 102, "stars": 286}


@pytest.fixture(scope="module")
def published():
    return catalogues.load_estimates()


# ---------------------------------------------------------------- tables
def test_tables_are_tidy_and_in_the_readme():
    readme = (catalogues.FOLDER / "README.md").read_text()
    assert set(TABLES) == set(ROWS)
    for name in TABLES:
        text = (catalogues.FOLDER / f"{name}.csv").read_text()
        assert '"' not in text and " " not in text and text.endswith("\n")
        karmn = [line.split(",")[0] for line in text.splitlines()]
        assert karmn[0] == "karmn" and karmn[1:] == sorted(set(karmn[1:]))
        assert len(karmn) - 1 == ROWS[name] == len(catalogues.load(name))
        values = pd.read_csv(catalogues.FOLDER / f"{name}.csv").drop(columns="karmn")
        assert values.notna().any(axis=1).all()
        numbers = values.drop(columns=["population", "lbol_source"], errors="ignore")
        assert set(numbers.dtypes.map(lambda dtype: dtype.kind)) <= {"i", "f"}
        errors = numbers.filter(regex="^[eE]_")
        assert (errors >= 0).sum().sum() == errors.notna().sum().sum()
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{name}.csv`"))
        assert f"| {ROWS[name]} |" in row


def test_every_catalogue_has_the_same_columns_and_sane_units():
    for name in (*catalogues.CATALOGUES, "mas24"):
        table = catalogues.load(name)
        assert set(catalogues.PUBLISHED.values()) <= set(table)
        for par, (low, high) in {"teff": (2000, 5000), "logg": (3.5, 6), "mh": (-1.5, 1), "vsini": (0, 80)}.items():
            assert table[par].dropna().between(low, high).all()


def test_stars_agree_with_the_paper_and_with_marfil21():
    stars = catalogues.load("stars")
    assert list(stars.karmn) == list(catalogues.load("mas24").karmn)
    both = stars.merge(catalogues.load("mar21"), on="karmn", suffixes=("", "_mar21"), validate="one_to_one")
    assert len(both) == 286 and (both["population"] == both["population_mar21"]).all()
    assert stars.groupby("population").size().to_dict() == {"D": 167, "TD": 21, "TD-D": 13, "YD": 85}
    assert stars[["young", "active", "subdwarf"]].sum().tolist() == [13, 51, 4]
    assert stars["lbol"].between(1e-3, 0.12).all() and set(stars["lbol_source"]) == {"cif20", "cif25", "schw19", "fig8"}


@pytest.mark.parametrize(
    "content, cause",
    [("karmn,teff\nA,hot\n", "A: teff is 'hot'"), ("karmn,teff\nA,1,\n", "line 2"), ("karmn;teff\nA;1\n", "; instead"),
     ("star,teff\nA,1\n", "no heading karmn"), ("", "is empty"), ("karmn,teff\nA,1\nA ,3\n", "names A twice"),
     ("karmn,teff\nJ11110+304,1\nJ11110+304W,2\n", "J11110+304 twice")],
)
def test_table_that_cannot_be_used(content, cause, tmp_path, monkeypatch):
    (tmp_path / "cat.csv").write_text(content)
    monkeypatch.setattr(catalogues, "FOLDER", tmp_path)
    with pytest.raises(BadInput, match="cat.csv") as caught:
        catalogues.load("cat")
    assert cause in str(caught.value) and ("git checkout" in str(caught.value) or "keep one row" in str(caught.value))


# ---------------------------------------------------------------- joining
def test_names_that_no_table_has_or_that_are_there_twice_are_named(published):
    with pytest.raises(BadInput, match=r"mar22\.csv not found: the tables are .*mar21"):
        catalogues.load("mar22")
    with pytest.raises(BadInput, match="J00183-440"):
        catalogues.match(published.replace({"karmn": {"J00183+440": "J00183-440"}}), "mar21")
    with pytest.raises(BadInput, match=r"the estimates names J00183\+440 twice"):
        catalogues.match(published.replace({"karmn": {"J00051+457": "J00183+440"}}), "mar21")


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
    few = published.iloc[[5, 200, 30]]
    assert list(catalogues.match(few, "mar21").karmn) == sorted(few.karmn)


def test_order_of_rows_changes_nothing(published, tmp_path, monkeypatch):
    names = "mar21", "stars"
    expected = [catalogues.match(published, name) for name in names]
    for path in catalogues.table_files():
        files.write_csv(tmp_path / path.name, pd.read_csv(path).sample(frac=1, random_state=2))
    monkeypatch.setattr(catalogues, "FOLDER", tmp_path)
    for name, table in zip(names, expected):
        pd.testing.assert_frame_equal(catalogues.match(published.sample(frac=1, random_state=1), name), table)


# ---------------------------------------------------------------- estimates
def test_published_values_outside_of_the_grid(published):
    assert list(published.columns[-5:]) == flags.COLUMNS
    counted = flags.counts(published)
    assert counted.loc["outside-grid"].tolist() == [0, 55, 0, 13, 0] and (published["flags"] == "").all()
    limits = published["vsini"] < 299_792.458 / 94_600 / 1.56
    assert (published["flags_vsini"].str.contains("upper-limit") == limits).all() and limits.sum() == 42


def test_run_is_read_with_its_provenance_whatever_its_name(tmp_path, published):
    path = write_run(tmp_path / "final_estimations.csv", published)
    for ending in (".csv", ".json"):
        path.with_suffix(ending).rename(tmp_path / f"old{ending}")
    estimates = catalogues.load_estimates(str(tmp_path / "old.csv"))
    assert set(estimates["spectra"]) == {"simulated"} and "SIMULATED" in catalogues.title(estimates)
    source = ["spectra", "run"]
    pd.testing.assert_frame_equal(estimates.drop(columns=source), published.drop(columns=source))
    assert set(catalogues.load_estimates("")["spectra"]) == {"published"}


def test_flags_of_a_run_are_those_of_its_table(tmp_path, published):
    flagged = published.iloc[:4].assign(flags_teff=["two-modes", None, None, ""], flags_logg="")
    estimates = catalogues.load_estimates(write_run(tmp_path / "run.csv", flagged))
    assert estimates["flags_teff"].tolist() == ["two-modes", "", "", ""] and (estimates["flags_logg"] == "").all()
    assert catalogues.pairs(estimates, "pass20", "teff")["flagged"].tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    "spectra, words",
    [("published", "estimates from the published spectra"), ("simulated", "estimates of SIMULATED stars"),
     ("a\nb", r"estimates from spectra marked 'a\nb'")],
)
def test_title_of_a_run(spectra, words, tmp_path, published, capsys):
    assert catalogues.title(published) == "the published estimates"
    path = write_run(tmp_path / "run.csv", published, spectra)
    assert literature.main([str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(f"286 stars, {words}")


def test_names_of_a_run_are_text_and_an_infinite_estimate_is_none(tmp_path, published):
    names = ["001", "00E0", "NA", "nan", "1e5"]
    estimates = catalogues.load_estimates(write_run(tmp_path / "run.csv", published[:5].assign(karmn=names, mh=np.inf)))
    assert estimates["karmn"].tolist() == names
    assert estimates["mh"].isna().all() and estimates["teff"].notna().all()


def rewrite(change, ending=".csv"):
    """Spoils a run: one of its files gets other text."""

    def spoil(path):
        file = path.with_suffix(ending)
        file.write_text(change(file.read_text()))

    return spoil


def without_column(name):
    return lambda path: files.write_csv(path, pd.read_csv(path).drop(columns=name))


def says(content):
    return rewrite(lambda text: json.dumps(content), ".json")


SPOILT = {
    "no table": (lambda path: path.unlink(), "run.csv"),
    "a folder": (lambda path: path.unlink() or path.mkdir(), "run.csv"),
    "empty": (rewrite(lambda text: ""), "run.csv"),
    "no star": (rewrite(lambda text: text.splitlines()[0] + "\n"), "run.csv"),
    "a column missing": (without_column("E_logg"), "no column E_logg"),
    "flags missing": (without_column("flags_mh"), "no column flags_mh"),
    "text for a number": (rewrite(lambda text: text.replace("3780.05", "hot")), "J00051+457: Teff is 'hot'"),
    "truth for a number": (rewrite(lambda text: text.replace("3780.05", "True")), "J00051+457: Teff is 'True'"),
    "another number": (rewrite(lambda text: text.replace("3780.05", "3790.05")), "was changed after it was made"),
    "an alias twice": (rewrite(lambda text: text.replace("J00051+457", "J11110+304W")), "J11110+304 twice"),
    "a name missing": (rewrite(lambda text: text.replace("J00051+457", "")), "run.csv"),
    "semicolons": (rewrite(lambda text: text.replace(",", ";")), "; instead of commas"),
    "rows with a comma more": (rewrite(lambda text: text.replace("\n", ",\n").replace(",\n", "\n", 1)), "line 2 "),
    "blank in the heading": (rewrite(lambda text: " " + text), "' karmn' instead of 'karmn'"),
    "no sidecar": (lambda path: path.with_suffix(".json").unlink(), "run.json"),
    "half a sidecar": (rewrite(lambda text: text[:-4], ".json"), "run.json"),
    "no provenance": (says({"kept": {}}), "run.json"),
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


@pytest.mark.slow
def test_no_module_that_draws_or_reports_needs_tensorflow():
    code = ("import sys, calibrate, literature, report; from evaluation import run; "
            "from figures import hr_diagram, section3, section4, star_page; "
            "sys.exit(bool({'tensorflow', 'keras', 'training.networks'} & set(sys.modules)))")
    folder = str(ROOT / "Methodology")
    assert subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {folder!r}); {code}"]).returncode == 0
