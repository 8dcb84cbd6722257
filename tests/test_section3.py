"""Figures of Section 3: what is in the files is on the page; what is missing is said, what was changed is refused."""
import shutil
import subprocess
import sys
import time

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest
from arrays import provenance_of

import paper
from evaluation import (
    claims,
    embedding,
)
from evaluation.run import METRICS, NotYet, load
from figures import section3, style
from inference import flags, mode
from spectra.dataset import Dataset
from workflow import schemas
from workflow.artifacts import FINETUNED, Artifacts
from workflow.command_line import ROOT
from workflow.files import BadInput, sha256, write_array, write_csv, write_json
from workflow.units import Unit, finish, read_sidecar

ACT_3 = ("reconstructed_ph", "encoded_carm_before", "reconstructed_carm_before", "residual_carm_before",
         "encoded_carm", "reconstructed_carm", "residual_carm")
FIGURES = ("embedded_fluxes", "reconstruction", "fine_tuning", "embedded_encodings", "ensemble", "training_curves",
           "scores", "dead_units", "residuals")


def leave(unit, metrics, arrays=(), history=None):
    """Leave a unit's files without having done it."""
    for path, values in zip(unit.also if arrays else [unit.path], arrays or [metrics.pop("values", b"network")]):
        path.write_bytes(values) if isinstance(values, bytes) else write_array(path, values)
    if arrays:
        unit.path.write_bytes(unit.name.encode())
    finish(unit, time.time(), metrics, history)


def make_run(data, folder, n=2):
    """A run of n autoencoders without networks: everything that drawing reads, of the right form."""
    rng, origin = np.random.default_rng(8), provenance_of(data)
    ph, carm, pars = (data / f"{name}.npy" for name in ("ph_flux_norm", "carmf_norm", "ph_pars"))
    flux_ph, flux_carm = np.load(ph), np.load(carm)
    folder.mkdir(exist_ok=True)
    kept = [schemas.Architecture(64 + 32 * i, 1e-7, 1e-4) for i in range(n)]
    write_json(folder / "params_final.json", schemas.plain(schemas.Selection(kept, origin, "the best")))
    grid = pd.DataFrame([schemas.plain(a) for a in [*kept, schemas.Architecture(8, 1e-7, 1e-4)]])
    write_csv(folder / "grid_search.csv", grid.assign(epochs=2, mse_mean=0.01 * (1 + grid.index), mse_std=1e-3))
    encode = lambda flux: np.maximum(rng.normal(0.3, 0.5, (len(flux), paper.N_LATENT)), 0)  # noqa: E731
    history = {name: list(rng.uniform(0.1, 1, 3)) for name in ("loss", "mse", "penalty")}
    rows = Dataset(data).examples_ph, Dataset(data).examples_carm
    for i in range(n):
        ac = Unit(folder / f"ac_{i}.h5", {**schemas.plain(kept[i]), "epochs": 3}, (ph,),
                  also=(folder / f"encoded_ph_ac_{i}.npy",), provenance=origin)
        leave(ac, {"mse_test": 5e-5 * (1 + i)}, [encode(flux_ph)], history)
        tuned = Unit(folder / f"dtl_ac_{i}.h5", {"epochs": 4}, (ac.path, ph, carm, pars),
                     also=tuple(folder / f"{name}_ac_{i}.npy" for name in ACT_3), provenance=origin)
        left = {"reconstructed_ph": flux_ph[rows[0]] + 0.01, "reconstructed_carm_before": flux_carm[rows[1]] + 0.1,
                "reconstructed_carm": flux_carm[rows[1]] - 0.01, "encoded_carm_before": encode(flux_carm),
                "encoded_carm": encode(flux_carm), "residual_carm_before": rng.uniform(0, 1, (2, flux_ph.shape[1])),
                "residual_carm": rng.uniform(0, 0.1, (2, flux_ph.shape[1]))}
        metrics = {name: 1e-3 * (1 + i) for name in METRICS[FINETUNED]}
        leave(tuned, metrics, [left[name] for name in ACT_3], history)
    members = {par: [f"cnn_regressor_{par}_{k}_ac_{i}" for i in range(n) for k in range(3)] for par in paper.PARAMETERS}
    predicted = {par: rng.normal(3, 0.1, (3 * n, len(flux_carm))) for par in members}
    artifacts = Artifacts(folder)
    for par in members:
        numbers = [(k, i) for i in range(n) for k in range(3)]
        for (k, i), values in zip(numbers, predicted[par]):
            settings = {"parameter": par, "repeat": k, "autoencoder": i}
            leave(Unit(artifacts.regressor(par, k, i), settings, provenance=origin), {})
            leave(Unit(artifacts.prediction(par, k, i), {}, provenance=origin), {"values": values})
    table = mode.table(pd.read_csv(data / "stars.csv"), {p: mode.estimate(v) for p, v in predicted.items()})
    write_csv(folder / "final_estimations.csv", table.assign(**dict.fromkeys(flags.COLUMNS, "")))
    kept = {par: schemas.Kept(names, 0.1, names) for par, names in members.items()}
    names = {"stars.csv": sha256(data / "stars.csv")}
    sidecar = schemas.Estimates(schemas.Origin(spectra="simulated"), 42, kept, names,
                                {"final_estimations.csv": sha256(folder / "final_estimations.csv")})
    write_json(folder / "final_estimations.json", schemas.signed(schemas.plain(sidecar)))
    return load(data, folder)


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    return make_run(tiny, tmp_path_factory.mktemp("run"))


@pytest.fixture
def copied(run, data, tmp_path):
    """The same run, which a test may spoil."""
    return load(data, shutil.copytree(run.artifacts.folder, tmp_path / "artifacts"))


@pytest.fixture(autouse=True)
def no_umap(monkeypatch):
    monkeypatch.setattr(embedding, "embed", lambda vectors: vectors[:, :2])


def lines(ax):
    return {line.get_label(): line.get_ydata() for line in ax.lines}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_simulated(name, run):
    assert getattr(section3, name)(run).get_suptitle() == "SIMULATED spectra"


@pytest.mark.parametrize("gone, skipped, remedy", [
    ("final_estimations*", {"ensemble"}, "Methodology/cnn_training.py"),
    ("dtl_*", {"embedded_encodings", "reconstruction", "fine_tuning", "dead_units", "residuals"},
     "Methodology/autoencoder_fine_tuning.py"),
    ("ac_*", set(FIGURES) - {"embedded_fluxes", "ensemble"}, "Methodology/autoencoder_training.py"),
    ("residual*", {"residuals"}, "autoencoder_fine_tuning.py again"),
    ("grid_search.csv", {"scores"}, "Methodology/autoencoder_grid_search.py"),
    ("../data/*.npy", set(FIGURES) - {"training_curves", "scores", "dead_units", "residuals"}, "src_files/download.py"),
])
def test_what_an_act_has_not_left_is_said_in_a_line(gone, skipped, remedy, copied, tmp_path, monkeypatch, capsys):
    saved, old = [], [tmp_path / f"{name}.png" for name in skipped]
    monkeypatch.setattr(style, "save", lambda figure, name, folder: saved.append(name))
    if gone == "residual*":  # of an earlier version: not in the sidecar either
        for path in copied.artifacts.folder.glob("dtl_*.json"):
            sidecar = schemas.plain(read_sidecar(path))
            sidecar["outputs"] = {name: d for name, d in sidecar["outputs"].items() if not name.startswith("residual")}
            write_json(path, schemas.signed(sidecar))
    for path in copied.artifacts.folder.parent.glob(f"artifacts/{gone}"):
        path.unlink()
    wanted = [name for name in FIGURES if name in skipped or gone == "dtl_*"]  # all only once, for they take time
    for path in old:  # a picture of an earlier time
        path.touch()
    drawn = {name: section3.show(getattr(section3, name), copied, name, tmp_path) for name in wanted}
    assert not any(path.exists() for path in old)
    assert {name for name, figure in drawn.items() if figure is None} == skipped == set(wanted) - set(saved)
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(" is not drawn: ")[0] for line in printed] == [name for name in FIGURES if name in skipped]
    assert all(remedy in line for line in printed)


@pytest.mark.parametrize("spoilt, name", [
    ("encoded_ph_ac_0.npy", "dead_units"), ("encoded_carm_ac_1.npy", "dead_units"), ("ac_0.json", "training_curves"),
    ("residual_carm_before_ac_1.npy", "residuals"), ("reconstructed_ph_ac_0.npy", "reconstruction"),
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


@pytest.mark.parametrize("name", ["ph_flux_norm.npy", "carmf_norm.npy", "ph_pars.npy", "provenance.json"])
def test_other_spectra_are_refused(name, copied):
    if name == "provenance.json":
        (copied.data.folder / name).write_text('{"spectra": "HARPS", "n_pixels": 60}')
    else:
        np.save(copied.data.folder / name, np.load(copied.data.folder / name)[::-1])
    with pytest.raises(BadInput, match="HARPS" if name == "provenance.json" else f"made from another {name}"):
        section3.reconstruction(copied)


def test_nothing_at_all_is_one_line(tmp_path):
    for folder in (tmp_path, tmp_path / "absent", ROOT / "src_files"):
        with pytest.raises(BadInput, match="holds nothing of a run: .* Methodology/autoencoder_grid_search.py"):
            load(tmp_path, folder)


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


@pytest.mark.parametrize("name", ["ac_0.json", "dtl_ac_1.json", "teff_estimation_0_ac_0.json"])
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
    for row, ax in enumerate((top, scatter)):
        for line, name in zip(ax.lines, ("residual_carm_before", "residual_carm")):
            of_all = [np.load(run.artifacts.folder / f"{name}_ac_{i}.npy")[row] for i in (0, 1)]
            np.testing.assert_allclose(line.get_ydata(), np.mean(of_all, axis=0))


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
from evaluation import embedding, run
from figures import section3
rng = np.random.default_rng(1)
shape = rng.normal(size=(2, 1, 8))
vectors = np.concatenate([scale * (shape[k] + rng.normal(0, 0.1, (20, 8))) for k, scale in ((0, 1), (1, 1), (0, 9))])
at = embedding.embed(vectors)
assert at.shape == (60, 2) and (at == embedding.embed(vectors)).all()
one, other = np.r_[at[:20], at[40:]], at[20:40]
assert np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)) > 2 * max(one.std(axis=0).max(), other.std(axis=0).max())
assert not {"tensorflow", "keras", "training.networks"} & set(sys.modules)
"""


def test_umap_parts_shapes_whatever_their_scale_and_needs_no_tensorflow():
    arguments = [sys.executable, "-c", UMAP, str(ROOT / "Methodology")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr
