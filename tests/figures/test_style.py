"""The style: where the spectra came from stands on every figure, and what it was drawn from in its files."""
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest

from evaluation import catalogues
from figures import hr_diagram, section4, style
from workflow.command_line import ROOT
from workflow.files import one_line


@pytest.fixture(scope="module")
def published():
    return catalogues.load_estimates()


@style.styled()
def empty(estimates):
    return plt.figure(figsize=(3, 1))


def test_face_says_where_the_spectra_came_from(published):
    note = "literature on the real ones"
    for draw, compares in ((section4.metallicity_by_population, False), (section4.vsini_with_errors, True),
                           (lambda estimates: section4.one_to_one(estimates, "teff", ("mar21",)), True),
                           (lambda estimates: hr_diagram.kiel_and_hr(estimates, hr_diagram.load_isochrones()), False)):
        assert draw(published).get_suptitle() == ""
        simulated = draw(published.assign(spectra="simulated")).get_suptitle()
        assert simulated.startswith("SIMULATED spectra") and (note in simulated) == compares


@pytest.mark.parametrize("word", ["HARPS", "a$b$c", r"$\frac{$", "two\nlines", "&#~ 50 % π", "\ud800"])
def test_any_word_can_stand_on_a_figure_and_in_its_files(word, published, tmp_path):
    figure = empty(published.assign(spectra=word))
    assert figure.get_suptitle() == f"{one_line(word)} spectra"
    style.save(figure, "word", tmp_path)
    assert style.drawn_from(tmp_path / "word.png") == figure.get_label()


def test_pictures_say_what_they_were_drawn_from(published, tmp_path):
    style.save(empty(published), "figure", tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["figure.pdf", "figure.png"]
    said = style.drawn_from(tmp_path / "new" / "figure.png")
    assert said.startswith("286 stars, the published estimates; digest ") and said == style.title(published.copy())
    assert said.encode() in (tmp_path / "new" / "figure.pdf").read_bytes()
    assert plt.imread(tmp_path / "new" / "figure.png").shape[1] == 900
    for changed in (published[:-1], published.assign(teff=published["teff"] + 1), published.assign(flags="snr")):
        assert style.title(changed) != said
    (tmp_path / "none.png").write_bytes(b"no picture")
    assert style.drawn_from(tmp_path / "none.png") is None
    with plt.rc_context(style.STYLE):
        plt.figure(figsize=(1, 1)).savefig(tmp_path / "silent.png")
    plt.close("all")
    assert style.drawn_from(tmp_path / "silent.png") is None


def test_style_is_not_left_behind(published):
    before = dict(matplotlib.rcParams), plt.get_fignums()
    section4.metallicity_by_population(published)
    assert (dict(matplotlib.rcParams), plt.get_fignums()) == before


def test_path_in_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for text, expected in {
        "": None, "here": Path("here"), str(tmp_path / "new"): tmp_path / "new",
        "artifacts/new": ROOT / "artifacts" / "new", "literature_data": ROOT / "literature_data",
    }.items():
        monkeypatch.setenv("FIGURES", text)
        assert style.path_in("FIGURES") == expected
    monkeypatch.delenv("FIGURES")
    assert style.path_in("FIGURES", style.FOLDER) == ROOT / "artifacts" / "figures"
