"""Figure 8: every star in each of the four panels with the published marks, and isochrones from a file or none."""
import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.markers import MarkerStyle

import paper
from evaluation import catalogues
from figures import hr_diagram
from workflow import files
from workflow.files import BadInput

WANTED = {**dict.fromkeys(paper.KIEL_ISOCHRONES), **dict.fromkeys(paper.HR_ISOCHRONES)}


@pytest.fixture(scope="module")
def published():
    return catalogues.load_estimates()


def made_up(wanted=WANTED, age_unit=1.0):
    """A table of isochrones: straight lines, ten points each, as good as any to see where they are drawn."""
    s = np.linspace(0, 1, 10)
    return pd.concat(
        pd.DataFrame({"model": model, "age_gyr": age * age_unit, "mh": mh, "teff": 2500 + 3000 * s + 100 * mh,
                      "logg": 5.3 - s - (age < 1) / 4, "lbol": 10 ** (3 * s - 3 + (age < 1) / 2)})
        for model, age, mh in wanted
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A literature_data of a test's own, with stars.csv."""
    for path in catalogues.FOLDER.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(catalogues, "FOLDER", tmp_path)
    (tmp_path / "isochrones.csv").unlink(missing_ok=True)
    return tmp_path


def lines(ax):
    return {line.get_label(): line for line in ax.lines if "Gyr" in line.get_label() and len(line.get_xdata())}


def marked(ax, marker):
    """How many points have this marker: without a colour of their own, and with one."""
    path = MarkerStyle(marker).get_path().transformed(MarkerStyle(marker).get_transform()).vertices
    with_it = [dots for dots in ax.collections if np.array_equal(dots.get_paths()[0].vertices, path)]
    return [sum(len(dots.get_offsets()) for dots in with_it if (dots.get_array() is not None) is coloured)
            for coloured in (False, True)]


def test_every_star_is_in_every_panel(published):
    figure = hr_diagram.kiel_and_hr(published, hr_diagram.load_isochrones())
    star = catalogues.match(published, "stars").query("karmn == 'J13450+176'").iloc[0]
    for ax, y in zip(figure.axes[:4], ("logg", *["lbol"] * 3)):
        coloured = [dots for dots in ax.collections if dots.get_array() is not None]
        at, mh, area = (np.concatenate(part) for part in zip(
            *((dots.get_offsets(), dots.get_array(), np.resize(dots.get_sizes(), len(dots.get_offsets())))
              for dots in coloured)))
        assert len(at) == 286 and {dots.norm.vmin for dots in coloured} == {published["mh"].min()}
        k = np.argmin(np.abs(at[:, 0] - star["teff"]))
        assert at[k, 1] == pytest.approx(star[y]) and mh[k] == pytest.approx(star["mh"])
        if y == "lbol":
            assert area[k] == pytest.approx(hr_diagram.AREA * star["vsini"])
            assert ax.get_yscale() == "log"
        hot, cool = ax.get_xlim()
        assert hot > 4285 > 3050 > cool
    kiel = figure.axes[0]
    assert kiel.get_ylim()[0] > kiel.get_ylim()[1]  # dwarfs below
    below = {dots.get_label(): len(dots.get_offsets()) for dots in kiel.collections}
    assert below["below the label grid (55)"] == 55


def test_marks_are_the_published_ones(published):
    kiel, beside, old, young, *_ = hr_diagram.kiel_and_hr(published, hr_diagram.load_isochrones()).axes
    assert marked(beside, "o") == [0, 286]
    assert marked(young, "+") == [85, 0] and marked(young, "o") == [13, 286]
    assert marked(old, "^") == [0, 51] and marked(old, "o") == [0, 235]
    assert marked(old, "*") == [21, 0] and marked(old, "s") == [4, 0]
    assert marked(kiel, "s") == [4, 0]
    names = [text.get_text() for ax in (young, old) for text in ax.get_legend().get_texts()]
    assert names == ["young disc (85)", "young association (13)", r"H$\alpha$ active (51)", "thick disc (21)",
                     "akin to subdwarfs (4)"]


def test_isochrones_of_a_file_are_drawn(published, folder):
    nothing = hr_diagram.load_isochrones()
    empty = [ax.get_xlim() + ax.get_ylim() for ax in hr_diagram.kiel_and_hr(published, nothing).axes[:4]]
    table = made_up().sample(frac=1, random_state=1).sort_index(kind="stable")  # models by turns, each in its order
    files.write_csv(folder / "isochrones.csv", table)
    isochrones = hr_diagram.load_isochrones()
    axes = hr_diagram.kiel_and_hr(published, isochrones).axes
    assert [ax.get_xlim() + ax.get_ylim() for ax in axes[:4]] == empty  # the stars set the limits
    for ax, y, wanted in zip(axes, ("logg", "lbol"), (paper.KIEL_ISOCHRONES, paper.HR_ISOCHRONES)):
        drawn = lines(ax)
        assert len(drawn) == len(wanted) == len({(line.get_color(), line.get_ls()) for line in drawn.values()})
        for (model, age, mh), (label, line) in zip(wanted, drawn.items()):
            assert label == f"{model}, {age:g} Gyr, [M/H] {mh:.1f}".replace("-", "\N{MINUS SIGN}")
            points = table[(table["model"] == model) & (table["age_gyr"] == age) & (table["mh"] == mh)]
            np.testing.assert_allclose(line.get_xydata(), points[["teff", y]])
    assert not lines(axes[2]) and not lines(axes[3])
    assert "has all its isochrones" in hr_diagram.missing(isochrones)


def test_what_is_missing_is_said(published, folder):
    nothing = hr_diagram.load_isochrones()
    assert nothing.empty and hr_diagram.missing(nothing).count("Gyr") == len(WANTED) == 6
    for present in ([], paper.KIEL_ISOCHRONES[:1], paper.HR_ISOCHRONES[2:]):
        isochrones = made_up(present) if present else nothing
        said = hr_diagram.missing(isochrones)
        assert said.count("\n") == 0 and said.count("Gyr") == 6 - len(present)
        rows = [[text.get_text() for text in ax.get_legend().get_texts() if "isochrones" in text.get_text()]
                for ax in hr_diagram.kiel_and_hr(published, isochrones).axes[:2]]
        assert rows == [[f"{n - len(set(wanted) & set(present))} of {n} isochrones missing"]
                        for wanted in (paper.KIEL_ISOCHRONES, paper.HR_ISOCHRONES) for n in [len(wanted)]]


def test_a_table_without_stars_is_no_catalogue(published, folder):
    files.write_csv(folder / "isochrones.csv", made_up())
    assert len(catalogues.match(published, "stars")) == 286
    with pytest.raises(BadInput, match="the tables are bello23") as caught:
        catalogues.load("nothing")
    assert "isochrones" not in str(caught.value)


SPOILT = {
    "a column missing": (lambda t: t.drop(columns="logg"), "has no column logg"),
    "another model": (lambda t: t.assign(model="MIST"), "has the model 'MIST', the figure PARSEC and Baraffe+15"),
    "text": (lambda t: t.assign(teff="cool"), "row 1: teff is 'cool'"),
    "a gap": (lambda t: t.assign(lbol=[*t["lbol"][:-1], np.nan]), "row 60: lbol is 'nan'"),
    "logarithms": (lambda t: t.assign(lbol=np.log10(t["lbol"]) - 1), "no number from 1e-08"),
    "years": (lambda t: made_up(age_unit=1e9), "row 1: age_gyr is '5000000000.0', no number from 0.0001 to 20"),
}


@pytest.mark.parametrize(("spoil", "cause"), SPOILT.values(), ids=SPOILT)
def test_file_that_cannot_be_used(spoil, cause, folder):
    files.write_csv(folder / "isochrones.csv", spoil(made_up()))
    with pytest.raises(BadInput) as caught:
        hr_diagram.load_isochrones()
    message = str(caught.value)
    assert cause in message and message.startswith(str(folder / "isochrones.csv")) and "README.md" in message


def test_a_star_without_metallicity_is_grey(published):
    stars = published[:9].assign(mh=[np.nan, *published["mh"][1:9]])
    for ax in hr_diagram.kiel_and_hr(stars, hr_diagram.load_isochrones()).axes[:4]:
        grey = [dots for dots in ax.collections if np.array_equal(dots.get_facecolor(), [to_rgba("0.7", 0.85)])]
        assert sum(len(dots.get_offsets()) for dots in grey) == 1
