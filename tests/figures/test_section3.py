"""Figures of Section 3: what is in the files is on the page; what is missing is said, what was changed is refused."""
import shutil
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest
from made_up_run import make_run
from PIL import Image, PngImagePlugin

import paper
from evaluation import claims, gap
from evaluation.run import NotYet, load
from figures import section3, style
from workflow import schemas
from workflow.command_line import ROOT
from workflow.files import BadInput, sha256, write_json
from workflow.units import read_sidecar

FIGURES = ("embedded_fluxes", "reconstruction", "fine_tuning", "embedded_encodings", "ensemble", "training_curves",
           "scores", "dead_units", "residuals")


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return make_run(tiny, tmp_path_factory.mktemp("run"))


@pytest.fixture
def copied(run, data, tmp_path):
    """The same run, which a test may spoil."""
    return load(data, shutil.copytree(run.artifacts.folder, tmp_path / "artifacts"))


@pytest.fixture(autouse=True)
def no_umap(monkeypatch):
    monkeypatch.setattr(gap, "embed", lambda vectors: vectors[:, :2])


def lines(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


def test_every_figure_says_what_it_was_drawn_from(run):
    for name in FIGURES:
        figure = getattr(section3, name)(run)
        assert figure.get_suptitle() == "SIMULATED spectra" and figure.get_label() == run.title, name


@pytest.mark.parametrize("gone, skipped, remedy", [
    ("final_estimations*", {"ensemble"}, "Methodology/cnn_training.py"),
    ("dtl_*", {"embedded_encodings", "reconstruction", "fine_tuning", "dead_units", "residuals"},
     "Methodology/autoencoder_fine_tuning.py"),
    ("ac_*", set(FIGURES) - {"embedded_fluxes", "ensemble"}, "Methodology/autoencoder_training.py"),
    ("grid_search.csv", {"scores"}, "Methodology/autoencoder_grid_search.py"),
    ("../data/*.npy", set(FIGURES) - {"training_curves", "scores", "dead_units", "residuals"}, "src_files/download.py"),
])
def test_what_an_act_has_not_left_is_said_in_a_line(gone, skipped, remedy, copied, tmp_path, monkeypatch, capsys):
    saved, old = [], [tmp_path / f"{name}.png" for name in skipped]
    monkeypatch.setattr(style, "save", lambda figure, name, folder: saved.append(name))
    for path in copied.artifacts.folder.parent.glob(f"artifacts/{gone}"):
        path.unlink()
    wanted = [name for name in FIGURES if name in skipped or gone == "dtl_*"]  # all only once, for they take time
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", "a run of an earlier time")
    for path in old:
        Image.new("RGB", (1, 1)).save(path, pnginfo=text)
    drawn = {name: section3.show(getattr(section3, name), copied, name, tmp_path) for name in wanted}
    assert not any(path.exists() for path in old)
    assert {name for name, figure in drawn.items() if figure is None} == skipped == set(wanted) - set(saved)
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(" is not drawn: ")[0] for line in printed] == [name for name in FIGURES if name in skipped]
    assert all(remedy in line for line in printed)


@pytest.mark.parametrize("spoilt, name", [
    ("encoded_ph_ac_0.npy", "dead_units"), ("ac_0.json", "training_curves"),
    ("reconstructed_carm_ac_0.npy", "fine_tuning"), ("encoded_carm_ac_0.npy", "embedded_encodings"),
    ("teff_estimation_0_ac_0.npy", "ensemble"), ("final_estimations.csv", "ensemble"),
])
def test_what_was_changed_is_named(spoilt, name, copied, tmp_path):
    path = copied.artifacts.folder / spoilt
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(BadInput, match=spoilt) as caught:
        section3.show(getattr(section3, name), copied, name, tmp_path)
    assert not isinstance(caught.value, NotYet)


@pytest.mark.parametrize("name", ["ph_flux_norm.npy", "provenance.json"])
def test_other_spectra_are_refused(name, copied):
    if name == "provenance.json":
        (copied.data.folder / name).write_text('{"spectra": "HARPS", "n_pixels": 60}')
    else:
        np.save(copied.data.folder / name, np.load(copied.data.folder / name)[::-1])
    with pytest.raises(BadInput, match="HARPS" if name == "provenance.json" else f"made from another {name}"):
        section3.reconstruction(copied)


def test_what_the_run_is(run):
    expected = "SIMULATED spectra: 2 autoencoders trained, epochs: 3; 2 fine-tuned, epochs: 4; "
    assert run.title.startswith(expected + "digest ")
    held = claims.of_run(run.measured(), run.spectra)
    assert list(held["value"])[2:8] == ["2", "7.5e-5 (5.0e-5 to 1.0e-4)", *["1.5e-3 (1.0e-3 to 2.0e-3)"] * 2,
                                        "0.002 (0.001 to 0.002)", "0.0015 (0.0010 to 0.0020)"]
    (no_truth,) = run.missing
    assert "no truth of the simulation in" in no_truth


def test_what_is_there_is_told(copied):
    before = copied.title
    for path in copied.artifacts.folder.glob("dtl_*"):
        path.unlink()
    left = load(copied.data.folder, copied.artifacts.folder)
    held = claims.of_run(left.measured(), left.spectra).set_index("claim")["value"]
    assert (held.iloc[4:8] == "not there yet").all() and held["autoencoders"] == "2"
    assert "2 autoencoders trained, epochs: 3; 0 fine-tuned, epochs: none yet" in left.title
    assert left.missing[0] == "2 of 2 autoencoders are not fine-tuned: dtl_ac_0.h5, dtl_ac_1.h5"
    assert left.title.split()[-1] != before.split()[-1]


@pytest.mark.parametrize("name", ["dtl_ac_1.json", "teff_estimation_0_ac_0.json"])
def test_mixed_spectra_are_refused(name, copied):
    sidecar = schemas.plain(schemas.read(copied.artifacts.folder / name, schemas.Sidecar, ""))
    sidecar["spectra"]["spectra"] = "HARPS"
    write_json(copied.artifacts.folder / name, schemas.signed(sidecar))
    with pytest.raises(BadInput, match="mixes spectra .*'HARPS'.*: keep one run in a folder"):
        section3.training_curves(copied)


def test_umap_shows_both_domains_and_leaves_out_bad_stars(copied, monkeypatch):
    monkeypatch.setattr(section3, "N_EMBEDDED", 50)
    path = copied.artifacts.folder / "encoded_carm_ac_0.npy"
    encoded = np.load(path)
    encoded[2] = np.nan
    np.save(path, encoded)
    sidecar = schemas.plain(read_sidecar(copied.artifacts.folder / "dtl_ac_0.h5"))
    sidecar["outputs"][path.name] = sha256(path)
    write_json(copied.artifacts.folder / "dtl_ac_0.json", schemas.signed(sidecar))
    axes = section3.embedded_encodings(copied).axes[:2]
    for ax, column in zip(axes, (0, 2)):
        synthetic, observed = ax.collections
        assert len(synthetic.get_offsets()) == 50 and len(observed.get_offsets()) == 11
        places = np.float32(copied.encoded_ph(0)[:, :2])
        at = {tuple(xy): label for xy, label in zip(places, np.load(copied.data.folder / "ph_pars.npy")[:, column])}
        drawn = zip(synthetic.get_offsets(), synthetic.get_array())
        known = [(at[tuple(np.float32(xy))], value) for xy, value in drawn if (xy > 0).all()]
        assert known and all(label == pytest.approx(value) for label, value in known)


def test_reconstruction_is_that_of_its_spectrum(run):
    top, below, latent = section3.reconstruction(run, 2).axes[:3]
    row = run.data.examples_ph[2]
    np.testing.assert_allclose(lines(top)["spectrum"], np.load(run.data.folder / "ph_flux_norm.npy")[row])
    np.testing.assert_allclose(lines(top)["reconstruction"] - lines(top)["spectrum"], 0.01, atol=1e-5)
    np.testing.assert_allclose(below.lines[1].get_ydata(), -0.01, atol=1e-5)
    np.testing.assert_allclose(latent.images[0].get_array().ravel(), run.encoded_ph(0)[row])
    assert f"{run.labels('teff')[row]:g} K" in top.get_title() and "mse 0.0001" in below.texts[0].get_text()


def test_fine_tuning_of_its_star(run):
    top, before, after, image_before, image_after = section3.fine_tuning(run, 0).axes[:5]
    row = run.data.examples_carm[0]
    assert f"J{row:05d}+000" in top.get_title()
    for ax, difference in ((before, -0.1), (after, 0.01)):
        np.testing.assert_allclose(ax.lines[1].get_ydata(), difference, atol=1e-5)
    for image, name in ((image_before, "encoded_carm_before"), (image_after, "encoded_carm")):
        encoded = np.load(run.artifacts.folder / f"{name}_ac_0.npy")[row]
        np.testing.assert_allclose(image.images[0].get_array().ravel(), encoded)


def test_ensemble_is_the_estimate_of_the_table(run):
    table = pd.read_csv(run.artifacts.folder / "final_estimations.csv")
    row, folder = run.data.examples_carm[1], run.artifacts.folder
    for ax, (par, parameter) in zip(section3.ensemble(run, 1).axes, paper.PARAMETERS.items()):
        members = [np.load(folder / f"{par}_estimation_{k}_ac_{i}.npy")[row] for i in range(2) for k in range(3)]
        drawn = {line.get_label(): line for line in ax.lines}
        assert drawn["its maximum"].get_xdata()[0] == pytest.approx(table[parameter.published][row])
        np.testing.assert_allclose(np.sort(drawn["predictions"].get_xdata()), np.sort(members))
        density = drawn["kernel density"]
        assert density.get_xdata()[np.argmax(density.get_ydata())] == drawn["its maximum"].get_xdata()[0]
        assert "6 regressors" in ax.get_title()


def test_star_of_figures_4_and_7_is_the_median_and_its_truth_is_drawn(run, monkeypatch):
    rows = run.data.examples_carm
    flux = np.load(run.data.folder / "carmf_norm.npy")[rows]
    errors = np.roll(np.linspace(1, 2, len(rows)), 1)
    monkeypatch.setattr(type(run), "of_stars", lambda *_, **__: flux + 0.01 * errors[:, None])
    expected = int(np.argsort(errors)[len(rows) // 2])
    assert section3.typical(run) == expected
    truth = pd.DataFrame({par: np.arange(40.0) for par in paper.PARAMETERS})
    monkeypatch.setitem(vars(run), "truth", truth)
    for ax in section3.ensemble(run).axes[:4]:
        assert f"J{rows[expected]:05d}+000" in ax.get_title()
        (at,) = {line.get_xdata()[0] for line in ax.lines if line.get_label() == "truth of the simulation"}
        assert at == rows[expected] and ax.get_xlim()[0] < at < ax.get_xlim()[1]


def test_few_networks_are_said_to_tell_nothing(run, monkeypatch):
    assert section3.scores(run).axes[0].get_title() == "2 of 3 trained: too few to see whether they follow"
    monkeypatch.setattr(section3, "FEW_TRAINED", 2)
    assert section3.scores(run).axes[0].get_title() == "2 of 3 trained"


def test_largest_residuals_are_named_or_said_to_be_unknown():
    x, known = paper.WAVELENGTH, float(section3._known_lines()["wave_vac"].iloc[-5])
    mean = -np.exp(-((x - known) ** 2) / 0.02) + 0.5 * np.exp(-((x - 8824.2) ** 2) / 0.02)
    assert np.abs(section3._known_lines()["wave_vac"] - 8824.2).min() > section3.NEAR
    ax = matplotlib.figure.Figure().subplots()
    section3._name_largest(ax, x, mean)
    texts = [text.get_text().split("\n") for text in ax.texts]
    assert texts[0] == [section3._known_lines()["species"].iloc[-5], f"{known:.1f}"]
    assert texts[1] == ["not in the list", "8824.2"]


def test_beyond_the_paper(run):
    curves = section3.training_curves(run).axes
    for ax, (term, begins) in zip(curves, [(t, b) for t in ("loss", "mse", "penalty") for b in ("", "dtl_")]):
        histories = [read_sidecar(run.artifacts.folder / f"{begins}ac_{i}.h5").history for i in (0, 1)]
        assert [list(line.get_ydata()) for line in ax.lines] == [history[term] for history in histories]
    np.testing.assert_allclose(section3.scores(run).axes[0].collections[-1].get_offsets(), [[0.01, 5e-5], [0.02, 1e-4]])
    for ax, name in zip(section3.dead_units(run).axes, ("encoded_ph", "encoded_carm")):
        encoded = [np.load(run.artifacts.folder / f"{name}_ac_{i}.npy") for i in (0, 1)]
        expected = [np.mean(values == 0, axis=0) for values in encoded]
        np.testing.assert_allclose(np.sort(ax.images[0].get_array()), np.sort(expected))
    top, scatter, _ = section3.residuals(run).axes
    for k, name in enumerate(("residual_carm_before", "residual_carm")):
        means, scatters = zip(*(np.load(run.artifacts.folder / f"{name}_ac_{i}.npy") for i in (0, 1)))
        drawn = top.lines[k], *scatter.lines[2 * k : 2 * k + 2]
        for line, expected in zip(drawn, (np.mean(means, 0), np.mean(scatters, 0), np.std(means, 0))):
            np.testing.assert_allclose(line.get_ydata(), expected)


def test_lines_are_those_of_the_list():
    ax = matplotlib.figure.Figure().subplots()
    section3._lines(ax)
    listed = pd.read_csv(ROOT / "src_files" / "lines.csv", comment="#").query("8800 <= wave_vac <= 8835")
    assert sum(len(marks.get_segments()) for marks in ax.collections) == len(listed)
    assert [text.get_text() for text in ax.texts] == ["Fe I", "Mg I", "Fe I", "Fe I", "Fe I"]


UMAP = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from evaluation import gap, run
from figures import section3
rng = np.random.default_rng(1)
shape = rng.normal(size=(2, 1, 8))
vectors = np.concatenate([scale * (shape[k] + rng.normal(0, 0.1, (20, 8))) for k, scale in ((0, 1), (1, 1), (0, 9))])
at = gap.embed(vectors)
assert at.shape == (60, 2) and (at == gap.embed(vectors)).all()
first, second = np.r_[at[:20], at[40:]], at[20:40]
distance = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
assert distance > 2 * max(first.std(axis=0).max(), second.std(axis=0).max())
assert not {"tensorflow", "keras", "training.networks"} & set(sys.modules)
"""


@pytest.mark.slow
def test_umap_parts_shapes_whatever_their_scale_and_needs_no_tensorflow():
    arguments = [sys.executable, "-c", UMAP, str(ROOT / "Methodology")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
