"""The page on a run, of runs whose files are written without any training."""
import html.parser
import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin
from run_tables import write_run

import calibrate
import paper
import report
from evaluation import catalogues, claims
from evaluation.run import load
from figures import style
from workflow import files, schemas, units
from workflow.units import Unit

MEASURED = {"ac": {"mse_test": 5.1e-5},
            "dtl_ac": {"mse_carm_before": 3.1e-3, "mse_carm_test_after": 4.1e-4, "distance_flux": 2.719,
                       "distance_latent_after": 0.0861}}
CATALOGUES = catalogues.CATALOGUES
LARGEST = {"teff": 353.2, "logg": 0.00421, "mh": 0.00159, "vsini": 0.0539}


@pytest.fixture(autouse=True)
def few_catalogues(monkeypatch):
    """They are what takes time."""
    monkeypatch.setattr(catalogues, "CATALOGUES", {name: CATALOGUES[name] for name in ("mar21", "pass19", "schw19")})
    monkeypatch.setattr(claims, "ON_ALL", {})
    monkeypatch.setattr(claims, "ON_TEFF", {})
    monkeypatch.setattr(claims, "_rows_of_errors", lambda estimates: [])


def draw(path, title=""):
    """Leave a picture that says what it was drawn from, if anything."""
    path.parent.mkdir(exist_ok=True)
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", title)
    Image.new("RGB", (1, 1)).save(path, pnginfo=text if title else None)


def titles(folder):
    """What pictures of Sections 3 and 4 of a run say."""
    run = load(folder / "data", folder / "run")
    return style.title(run), style.title(run.estimates)


def write_data(folder, stars):
    """Small arrays, and stars.csv with the truth of the stars."""
    folder.mkdir(parents=True)
    files.write_array(folder / "ph_flux_norm.npy", np.ones((5, 30), np.float32))
    files.write_array(folder / "ph_pars.npy", np.array([[3000.0, 5, 0, 2]] * 4 + [[4000.0, 5, 0, 2]]))
    files.write_array(folder / "carmf_norm.npy", np.ones((len(stars), 30), np.float32))
    files.write_csv(folder / "stars.csv", stars[["karmn", *paper.PARAMETERS]])
    return folder


def finish(path, settings, inputs, spectra, metrics):
    path.write_bytes(b"weights")
    unit = Unit(path, {"epochs": 2, **settings}, tuple(inputs), provenance=schemas.Provenance(spectra=spectra))
    units.finish(unit, 0, metrics)


def write_estimates(folder, stars, spectra, data):
    for name in ("final_estimations_before", "final_estimations"):
        path = write_run(folder / f"{name}.csv", stars, spectra)
        kept = {par: schemas.Kept(["a"] * 80, LARGEST[par], ["a"] * 130) for par in paper.PARAMETERS}
        names = {"stars.csv": files.sha256(data / "stars.csv")}
        sidecar = schemas.Estimates(schemas.Origin(spectra=spectra), 42, kept, names, {path.name: files.sha256(path)})
        files.write_json(path.with_suffix(".json"), schemas.signed(schemas.plain(sidecar)))


def write_all(tmp_path, spectra="simulated", acts=4, stars=None):
    """Data and what the first acts leave; returns the flags of the report."""
    stars = catalogues.load_estimates().iloc[::14] if stars is None else stars
    data, folder = write_data(tmp_path / "data", stars), tmp_path / "run"
    folder.mkdir()
    ph, labels, carm = (data / name for name in ("ph_flux_norm.npy", "ph_pars.npy", "carmf_norm.npy"))
    if acts >= 1:
        (folder / "grid_search").mkdir()
        finish(folder / "grid_search" / "combination_0_fold_0.json", {}, [ph], spectra, {"mse": 1})
        architectures = [{"neurons_in": 64, "reg_par": 1e-7, "lr": 1e-4}] * 2
        selection = {"architectures": architectures, "rule": "mse_mean < median of 4"}
        files.write_json(folder / "params_final.json", selection)
    for i in range(2):
        if acts >= 2:
            settings = {**architectures[i], "penalty": "live", "penalty_weight": 1e-4}
            finish(folder / f"ac_{i}.h5", settings, [ph], spectra, MEASURED["ac"])
        if acts >= 3:
            finish(folder / f"dtl_ac_{i}.h5", {"penalty": "live"}, [folder / f"ac_{i}.h5", ph, carm], spectra,
                   MEASURED["dtl_ac"])
        for par in paper.PARAMETERS if acts >= 4 else ():
            settings = {"parameter": par, "autoencoder": i, "repeat": 0}
            finish(folder / f"cnn_regressor_{par}_0_ac_{i}.h5", settings, [labels], spectra, {})
    if acts >= 4:
        write_estimates(folder, stars, spectra, data)
    return ["--data", str(data), "--artifacts", str(folder)]


def write(tmp_path, *args, **kwargs):
    """Write a run and its page; returns the folder of the run and the page in both forms."""
    assert report.main(write_all(tmp_path, *args, **kwargs)) == 0
    folder = tmp_path / "run"
    return folder, *((folder / f"report.{ending}").read_text(encoding="utf-8") for ending in ("md", "html"))


class Seen(html.parser.HTMLParser):
    """What a browser shows: text, tags, and the number of cells in each row of each table."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self.tables = "", set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += 1

    def handle_data(self, data):
        self.text += data


def cells(page, claim):
    """The first row of a table in Markdown that begins with this."""
    row = next(line for line in page.splitlines() if line.startswith(f"| {claim} |"))
    return [cell.strip() for cell in row.strip("|").split(" | ")]


# ---------------------------------------------------------------- what is on it
def test_published_spectra_are_held_against_the_paper(tmp_path, monkeypatch):
    monkeypatch.undo()  # all catalogues
    folder, page, shown = write(tmp_path, "published", stars=catalogues.load_estimates())
    assert page.startswith("# Report of a run on the published spectra\n") and "imulated" not in page
    assert cells(page, "reconstruction error, synthetic test set") == [
        "reconstruction error, synthetic test set", "3.1", "printed", "5e-5", "5.1e-5", "yes"]
    assert cells(page, "synthetic spectra above 3750 K")[2:] == [
        "in words", "a smaller training set there", "1 of 5", "yes"]
    assert cells(page, "outside-grid")[1:] == ["", "55", "", "13", ""]
    assert cells(page, "autoencoders")[3:] == ["26", "2", "no"]
    assert cells(page, "maximum Teff")[1:] == ["abstract", "printed", "4300", "4285.5", "yes"]
    assert cells(page, "Mar21, plain metallicity")[-2:] == ["not read", ""]
    assert cells(page, "FGK+M")[-2:] == ["mean -0.13, stars 6", "yes"]
    assert all(f"**{score}** {what} that can be held" in page for score, what in (
        ("11 of 13", "statements printed"), ("1 of 1", "statements in words"), ("8 of 8", "statements printed"),
        ("19 of 23", "statements in words"), ("19 of 19", "comparisons")))
    assert "the truth" not in page and "What is missing" not in page
    assert page.count("| yes |") == 12 + 8 + 19 + 19 and page.count("| no |") == 2 + 3


def test_simulated_spectra_never_agree(tmp_path):
    folder, page, shown = write(tmp_path, "Simulated by me")
    assert page.startswith("# SIMULATED SPECTRA: ") and "do not exist" in page
    assert "| yes |" not in page and "| no |" not in page and "| agrees |" not in page
    assert "this run (simulated, for scale)" in page and "for scale" in page
    assert cells(page, "Teff \\[K\\]")[:3] == ["Teff \\[K\\]", "21", "0, 0"]  # estimates and truth are the same here
    constant = catalogues.load_estimates()["teff"][::14].std(ddof=0)
    assert cells(page, "Teff \\[K\\]")[5:7] == ["1, 1", f"{constant:.3g}"]
    assert '<body class=simulated>' in shown


def test_calibrated_errors_are_shown_if_they_are_of_these_estimates(tmp_path):
    flags = write_all(tmp_path)
    estimates, truth = tmp_path / "run" / "final_estimations.csv", tmp_path / "data" / "stars.csv"
    assert calibrate.main([str(estimates), "--truth", str(truth)]) == report.main(flags) == 0
    page = (tmp_path / "run" / "report.md").read_text()
    assert cells(page.partition("## Calibrated errors")[2], "Teff \\[K\\]")[1:] == [
        "truth, half of the stars", "10", "0", "+0 +- 8", "0 (below 16 at 95 %)", "100, 100", "100, 100"]
    path = tmp_path / "run" / "final_estimations_calibrated.json"
    content = json.loads(path.read_text())
    content["inputs"]["final_estimations.csv"] = "0" * 64
    files.write_json(path, schemas.signed(content))
    assert report.main(flags) == 0 and "They are of other estimates" in (tmp_path / "run" / "report.md").read_text()


def test_the_gap_is_shown_if_it_is_of_this_run(tmp_path):
    flags = write_all(tmp_path)
    run = load(tmp_path / "data", tmp_path / "run")
    row = {"space": "latent, after", "autoencoder": 0, "n": 21, "distance": 3.14, "distance_05": 2, "distance_95": 4,
           "correlation": 11, "mmd": 0.0625, "p": 0.001, "auc": 0.9, "auc_low": 0.8, "auc_high": 1,
           "reconstruction": 2.5}
    for title in (run.title, "another run"):
        files.write_csv(tmp_path / "run" / "gap_report.csv", pd.DataFrame([{**row, "run": title}]))
        draw(tmp_path / "run" / "gap_report.png", run.mark_of_gap if title == run.title else title)
        assert report.main(flags) == 0
        page = (tmp_path / "run" / "report.md").read_text()
        assert ("![The gap in numbers" in page) == (title == run.title) != ("of this run as it was" in page)
        assert title != run.title or cells(page, "latent, after")[1:] == [
            "21", "3.14 (2.00 to 4.00)", "11.00", "0.0625", "0.001", "0.900 (0.800 to 1.000)", "2.5"]


def test_what_was_run_is_told(tmp_path):
    folder, page, shown = write(tmp_path)
    assert cells(page, "autoencoders trained")[1] == "2, epochs: 2"
    assert cells(page, "regressors trained")[1] == "8, epochs: 2" and cells(page, "seed")[1] == "42"
    assert cells(page, "synthetic spectra")[1] == "5" and "Python 3." in cells(page, "software")[1]
    assert "median of 4" in cells(page, "architectures kept")[1]


@pytest.mark.parametrize(
    "acts, missing",
    [(1, ["2 of 2 autoencoders are not trained", "not fine-tuned", "no regressor", "no estimates of the stars"]),
     (2, ["2 of 2 autoencoders are not fine-tuned: dtl\\_ac\\_0.h5", "no regressor"]),
     (3, ["no regressor is trained", "no estimates"])],
)
def test_what_an_act_has_not_left_is_said(acts, missing, tmp_path):
    folder, page, shown = write(tmp_path, "published", acts)
    assert all(words in page for words in missing) and ("not trained:" in page) == (acts == 1)
    assert (cells(page, "reconstruction error, synthetic test set")[4] == "not there yet") == (acts == 1)
    assert "Against the literature" not in page and "make figures" in page


def test_units_and_arrays_that_are_missing_are_named(tmp_path):
    flags = write_all(tmp_path)
    for name in ("run/ac_1.h5", "run/cnn_regressor_mh_0_ac_0.json", "data/ph_flux_norm.npy"):
        (tmp_path / name).unlink()
    for _ in range(2):  # the second time over the first page
        assert report.main(flags) == 0
    page = (tmp_path / "run" / "report.md").read_text()
    assert "1 of 2 autoencoders are not trained: ac\\_1.h5" in page
    assert "1 of 2 regressors of \\[M/H\\] are not trained" in page
    assert "ph\\_flux\\_norm.npy: not in" in page and cells(page, "synthetic spectra")[1] == "not found"


def test_estimates_alone_give_a_page(tmp_path):
    flags = write_all(tmp_path, "published")
    for path in (tmp_path / "run").glob("*"):
        if path.name.startswith(("ac", "dtl", "cnn", "params")):
            path.unlink()
    assert report.main(flags) == 0
    page = (tmp_path / "run" / "report.md").read_text()
    assert "has not chosen its architectures" in page and "Against the literature" in page
    assert cells(page, "autoencoders trained")[1] == "0, epochs: none yet"


# ---------------------------------------------------------------- pictures
def test_pictures_are_shown_and_sent_with_it(tmp_path):
    flags, figures, out = write_all(tmp_path), tmp_path / "my figs (1) & l'été <i> $x$", tmp_path / "sent" / "page"
    section_3, section_4 = titles(tmp_path)
    run = load(tmp_path / "data", tmp_path / "run")
    for path, title in ((figures / "figure_08_young.png", section_4), (figures / "umap_mh.png", section_4),
                        (figures / "figure_03.png", section_3), (run.artifacts.summary, run.artifacts.tables())):
        draw(path, title)
    assert report.main([*flags, "--figures", str(figures), "--out", str(out)]) == 0
    shown = (out / "report.html").read_text(encoding="utf-8")
    assert shown.count('<img src="data:image/png;base64,iVBOR') == shown.count("<img") == 4
    text = Seen(shown).text
    assert "Figure 8 of the paper, young" in text and "UMAP [M/H]" in text
    assert "](../../run/summary.png)" in (out / "report.md").read_text()
    draw(run.artifacts.summary, "other tables")
    assert report.main([*flags, "--figures", str(figures), "--out", str(out)]) == 0
    assert "summary.png is of other estimates: delete it" in (out / "report.md").read_text()


def test_figures_of_another_run_are_left_out(tmp_path):
    """Pictures say what they were drawn from, those of Section 3 a run, those of Section 4 estimates."""
    flags, figures = write_all(tmp_path, "published"), tmp_path / "run" / "figures"
    section_3, section_4 = titles(tmp_path)
    run, args = load(tmp_path / "data", tmp_path / "run"), SimpleNamespace(figures=figures, out=tmp_path)
    for (name, second), title, wrong in (
            (("figure_03", "figure_04"), section_3, (section_3.replace("digest ", "digest 0"), "", section_4)),
            (("figure_09", "figure_11"), section_4, (style.title(catalogues.load_estimates()), "", section_3))):
        draw(figures / f"{name}.png", title)
        for said in (*wrong, title):
            draw(figures / f"{second}.png", said)
            page = "\n".join(report.the_figures(run, args))
            assert f"figures/{name}.png)" in page and (f"figures/{second}.png)" in page) == (said == title)
            assert (f"Of the 2 in {figures}, 1 are not, or do not say that they are, of this run as it is now"
                    in page.replace("\\", "")) == (said != title)
    (figures / "figure_11.png").write_bytes(b"no picture")
    assert report.main(flags) == 0 and "left out" in (tmp_path / "run" / "report.md").read_text()


def test_figures_of_published_estimates_are_not_those_of_a_run_without_any(tmp_path):
    flags = write_all(tmp_path, "published", acts=3)
    draw(tmp_path / "run" / "figures" / "figure_09.png", style.title(catalogues.load_estimates()))
    assert report.main(flags) == 0
    assert "left out" in (tmp_path / "run" / "report.md").read_text()


def test_figures_stand_in_the_order_of_the_paper(tmp_path):
    flags = write_all(tmp_path)
    for name in ("figure_08_young", "figure_11", *sorted(report.SECTION_3)):
        draw(tmp_path / "run" / "figures" / f"{name}.png", titles(tmp_path)[name not in report.SECTION_3])
    assert report.main(flags) == 0
    page = (tmp_path / "run" / "report.md").read_text()
    drawn = re.findall(r"^!\[.*\]\(figures/(.*)\.png\)$", page, re.M)
    assert drawn == [*report.SECTION_3, "figure_08_young", "figure_11"]
    assert "### Of Section 3" in page and "Figure 1 of the paper, the gap among the fluxes" in page


def test_what_draws_the_figures_is_said(tmp_path):
    flags = write_all(tmp_path)
    for further in ([], ["--figures", "elsewhere"]):
        assert report.main([*flags, *further]) == 0
        page = (tmp_path / "run" / "report.md").read_text()
        variables = f"ARTIFACTS={tmp_path / 'run'} DATA={tmp_path / 'data'}"
        assert f"make figures {variables}{' FIGURES=elsewhere' * bool(further)} ``" in page


# ---------------------------------------------------------------- names of anybody's, and bad input
WORDS = ["a|b", "<script>alert(1)</script>", "$x^2$ & `y`", "![x](/etc/passwd)", "*a* _b_ [c](d)", "\\|", "\\\\|",
         "&lt;", "~~x~~", "\x1b[31m", "# c", "- d", "1. e", "π — 7 %"]


def test_words_of_anybody_are_shown_as_they_are():
    tags = Seen(report.html("x\n\n| h |\n| --- |\n| x |", None, False)).tags
    for word in WORDS:
        page = report.html(f"{report.plain('x ' + word)}\n\n{report.table(['h', 'k'], [[word, word]])}", None, False)
        seen, said = Seen(page), files.one_line(word)
        assert seen.tables == [[2, 2]] and seen.text.count(said) == 3 and f"x {said}\n" in seen.text, word
        assert seen.tags == tags, word


@pytest.mark.parametrize("word", [" ".join(WORDS), "a\nb\n\n# c\x00", "\ud800"])
def test_words_of_anybody_do_not_break_the_page(word, tmp_path):
    stars = catalogues.load_estimates().iloc[:3].copy()
    stars.loc[1, "karmn"] = name = " ".join(word.encode("utf-8", "replace").decode().replace("\x00", "").split())
    seen = Seen(write(tmp_path, word, stars=stars)[2])
    stars.loc[1, "karmn"] = "A"
    expected = Seen(write(tmp_path / "plain", "mine", stars=stars)[2])
    assert seen.tags == expected.tags and seen.tables == expected.tables
    assert all(len(set(rows)) == 1 for rows in seen.tables)
    assert f"know 1 of them, which are left out below: {files.clean_name(name)}." in seen.text
    assert f"Report of a run on spectra marked {word!r}" in seen.text


SPOILT = {
    "an autoencoder's sidecar": ("ac_0.json", lambda text: text.replace("5.1e-05", "5.2e-05")),
    "a regressor's": ("cnn_regressor_logg_0_ac_0.json", lambda text: text.replace('"seed": 42', '"seed": 43')),
    "a fit's": ("combination_0_fold_0.json", lambda text: text[:-9]),
    "one of another": ("ac_1.json", lambda text: text.replace('"ac_1"', '"ac_0"')),
    "that of the estimates": ("final_estimations.json", lambda text: text.replace("353.2", "353")),
    "the estimates": ("final_estimations.csv", lambda text: text.replace("3780.05", "3790.05")),
    "other architectures": ("params_final.json", lambda text: text.replace("64", "96")),
    "the stars": ("stars.csv", lambda text: text.replace("3780.05", "3790.05")),
}


@pytest.mark.parametrize(("name", "change"), SPOILT.values(), ids=SPOILT)
def test_what_was_changed_is_named(name, change, tmp_path, capsys):
    flags = write_all(tmp_path)
    path, = tmp_path.rglob(name)
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    assert report.main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and str(path) in error
    assert not list(tmp_path.rglob("report*"))


def test_folder_without_a_run(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "absent"):
        assert report.main(["--artifacts", str(folder), "--data", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert f"{folder} holds nothing of a run" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_stars_that_no_table_knows(tmp_path):
    stars = catalogues.load_estimates().iloc[:3].assign(karmn=["A", "B", "C"])
    stars.loc[0, "logg"] = np.nan
    folder, page, shown = write(tmp_path, "published", stars=stars)
    assert "3 stars, 2 with all four parameters" in page
    assert "do not know 3 of them, which are left out below: A, B, C." in page
    assert "Against the literature" not in page
