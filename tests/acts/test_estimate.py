"""From spectrum files and arrays to estimates: simulated stars whose truth is known, and real ones where they are."""
import dataclasses
import functools
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from observed import NATIVE, REAL, SMOOTH, observe, write

import autoencoder_fine_tuning
import autoencoder_training
import estimate
import paper
import release
import simulate_spectra
from figures import star_page, style
from inference import flags, predictor
from spectra.transforms import LIGHT, to_air
from synthetic import simulation as sim
from training import fine_tuning, networks
from workflow import files, schemas
from workflow.command_line import ROOT
from workflow.units import Unit, finish, read_sidecar

pytestmark = pytest.mark.slow
VALUES = [parameter.published for parameter in paper.PARAMETERS.values()]
MEMBERS = 6
SIMULATED = schemas.Provenance(spectra="simulated")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of simulated spectra and of networks: acts 2 and 3, and linear regressions in place of act 4's CNNs."""
    data, folder = (tmp_path_factory.mktemp("run") / name for name in ("simulated", "artifacts"))
    assert simulate_spectra.main(["--out", str(data), "--n-spectra", "300", "--n-observed", "10"]) == 0
    chosen = {"neurons_in": 64, "reg_par": 1e-7, "lr": 3e-3}
    files.write_json(folder / "params_final.json", {"architectures": [chosen], "spectra": {"spectra": "simulated"}})
    flags = ["--data", str(data), "--artifacts", str(folder), "--budget", "smoke", "--jobs", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(paper.BUDGETS, "smoke", dataclasses.replace(paper.BUDGETS["smoke"], train_epochs=100))
        assert autoencoder_training.main(flags) == autoencoder_fine_tuning.main(flags) == 0
    regressors(data, folder)
    return data, folder


def regressors(data, folder):
    """Leave what act 4 leaves: regressors, each a regression on half of the synthetic spectra, and which are kept."""
    encoder = networks.encoder_of(networks.load(folder / "dtl_ac_0.h5"))
    encoded, labels = networks.predict(encoder, np.load(data / "ph_flux_norm.npy")), np.load(data / "ph_pars.npy")
    model, rng, kept = networks.build_cnn(1, 1, 2), np.random.default_rng(3), {}
    for par, parameter in paper.PARAMETERS.items():
        for k in range(MEMBERS):
            rows = rng.choice(len(labels), 40, replace=False)
            inputs = folder / "encoded_ph_ac_0.npy", data / "ph_pars.npy"
            unit = Unit(folder / f"cnn_regressor_{par}_{k}_ac_0.h5", {"autoencoder": 0}, inputs, provenance=SIMULATED)
            assert unit.identity
            design = np.c_[encoded[rows], np.ones(len(rows))]
            model.set_weights(linear(*np.split(np.linalg.lstsq(design, labels[rows, parameter.column], 1e-3)[0], [-1])))
            networks.save(model, unit.path)
            finish(unit, time.time(), {"mse_test": 1.0}, None, schemas.CnnShape(1, 1, 2, paper.N_LATENT))
        names = [f"cnn_regressor_{par}_{k}_ac_0" for k in range(MEMBERS)]
        kept[par] = schemas.Kept(names, 1.0, names)
    note = schemas.plain(schemas.Estimates(SIMULATED, 42, kept))
    files.write_json(folder / "final_estimations.json", schemas.signed(note))


def linear(slopes, constant):
    """Weights with which the CNN of one filter is this linear function: what is positive and what is negative apart."""
    same = [np.array([[[1.0]], [[0.0]]]), np.zeros(1)]
    first, second, third = np.zeros((paper.N_LATENT, 256)), np.eye(256, 128), np.eye(128, 2)
    first[:, 0], first[:, 1] = slopes, -slopes
    bias = np.zeros(256)
    bias[:2] = constant[0], -constant[0]
    last = np.array([[1.0], [-1.0]])
    return [*same, *same, first, bias, second, np.zeros(128), third, np.zeros(2), last, np.zeros(1)]


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the networks that a test may spoil."""
    return Path(shutil.copytree(made[1], tmp_path / "artifacts"))


@pytest.fixture(autouse=True)
def drawn(monkeypatch, request):
    """What would be drawn, by the name of the picture: its title and note. Two tests draw them."""
    found = {}
    if not any(name in request.node.name for name in ("array_of_the_truth", "picture")):
        monkeypatch.setattr(star_page, "write", lambda path, title, note, *_: found.update({path.name: (title, note)})
                            or path.write_text(title))
    return found


@pytest.fixture(scope="module")
def loaded(made):
    return predictor.load(predictor.select(made[1], made[0]))


@pytest.fixture
def loaded_once(loaded, monkeypatch):
    """Spares the tests of files the loading of the run's networks, half of their time."""
    load = predictor.load
    monkeypatch.setattr(predictor, "load", lambda ensemble, fine_tuned=None: (
        load(ensemble, fine_tuned) if fine_tuned else loaded))


def run(made, out, *paths, extra=()):
    data, folder = made
    return estimate.main(["--data", str(data), "--artifacts", str(folder), "--out", str(out), "--jobs", "1",
                          "--resolution", str(paper.RESOLVING_POWER), *extra, *map(str, paths)])


def stars(folder, n):
    """Files of simulated stars that are all different."""
    return [write(folder / f"star {k}.csv", observe(rv=5 * k - 40, seed=k)) for k in range(n)]


def foreign(words):
    """Whether a star is flagged as of another instrument than those fine-tuned on."""
    return "other-instrument" in words.split()


# ---------------------------------------------------------------- stars whose truth is known
def test_files_and_arrays_give_what_the_array_of_the_truth_gives(made, loaded, tmp_path, capsys):
    flux, air = observe(blaze=lambda x: 1 - 0.3 * (x - 0.3) ** 2), to_air(NATIVE)
    header = fits.Header({"CRVAL1": air[0], "CDELT1": air[1] - air[0], "CTYPE1": "AWAV", "OBJECT": "GJ 1/B"})
    fits.PrimaryHDU(flux, header).writeto(tmp_path / "a.fits")
    paths = [tmp_path / "a.fits", write(tmp_path / "star.csv", flux)]
    assert run(made, tmp_path / "out", *paths) == 0
    said = capsys.readouterr().out
    assert "2 of 2 files estimated, 0 left out" in said and "seen only SIMULATED spectra" in said
    table = pd.read_csv(tmp_path / "out" / "estimates.csv")
    assert list(table) == ["karmn", "ra_gaiadr3", "dec_gaiadr3",
                           *(prefix + x for x in VALUES for prefix in ("", "e_", "E_")),
                           *predictor.KNOWN, *flags.COLUMNS]
    assert list(table["karmn"]) == ["GJ 1/B", "star"] and all(map(foreign, table["flags"]))
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"GJ_1_B.png", "star.png"}
    assert min(path.stat().st_size for path in (tmp_path / "out").glob("*.png")) > 50_000

    truth = sim.normalise(SMOOTH[None]).astype(np.float32)
    moved = np.interp(paper.WAVELENGTH, paper.WAVELENGTH * (1 + 30 / LIGHT), truth[0])[None]
    members, astray = (loaded.predict(loaded.encode(array.astype(np.float32))[0]) for array in (truth, moved))
    for (par, values), x in zip(members.items(), VALUES):
        assert table[x].between(values.min(), values.max()).all(), par
    assert not np.all([values.min() < astray[par].mean() < values.max() for par, values in members.items()])

    row = estimate.estimate(air, flux, made[1], made[0], medium="air", name="star")
    there = table.iloc[1]
    np.testing.assert_allclose(row[[*VALUES, "snr", "rv"]].astype(float), there[[*VALUES, "snr", "rv"]].astype(float),
                               rtol=1e-4)
    assert list(row.index) == list(table) and row["flags"] == there["flags"]
    note = json.loads((tmp_path / "out" / "estimates.json").read_text())
    assert note["inputs"] == {str(path): files.sha256(path) for path in paths} and not note["settings"]["tune"]
    assert note["networks"]["dtl_ac_0.h5"] == files.sha256(made[1] / "dtl_ac_0.h5")
    assert len(note["networks"]) == 1 + 4 * MEMBERS
    assert note["spectra"]["spectra"] == "own, by networks of simulated spectra"


def test_networks_are_loaded_with_the_first_call_and_anew_only_for_others(made, copied, monkeypatch):
    calls, load = [], predictor.load
    monkeypatch.setattr(predictor, "load", lambda *arguments: calls.append(arguments) or load(*arguments))
    predictor.loaded.cache_clear()
    first = [estimate.estimate(NATIVE, observe(rv), copied, made[0]) for rv in (3, 5)]
    assert len(calls) == 1 and first[0]["Teff"] != first[1]["Teff"]
    path = copied / "final_estimations.json"
    note = json.loads(path.read_text())
    del note["kept"]["vsini"]
    path.write_text(json.dumps(schemas.signed(note)))
    assert np.isnan(estimate.estimate(NATIVE, observe(3), copied, made[0])["vsini"]) and len(calls) == 2
    with pytest.raises(files.UnitFailed, match="no peak in its cross-correlation"):
        estimate.estimate(NATIVE, np.random.default_rng(0).normal(10, 1, len(NATIVE)), copied, made[0])


# ---------------------------------------------------------------- files that cannot be used
def test_one_broken_file_costs_only_itself(made, loaded_once, tmp_path, capsys, drawn):
    good = [write(tmp_path / name, observe(seed=1)) for name in ("GJ 1.csv", "gj_1.csv")]
    (tmp_path / "empty.csv").write_text("")
    bad = [tmp_path / "empty.csv", tmp_path / "absent.fits"]
    assert run(made, tmp_path / "out", bad[0], *good, bad[1]) == 0
    said = capsys.readouterr().out
    assert "2 of 4 files estimated, 2 left out" in said and "Traceback" not in said
    assert sorted(drawn) == ["GJ_1.png", "gj_1_1.png"]
    note, words = drawn["GJ_1.png"][1].split("; flags: ")
    assert note == "networks that have seen only SIMULATED spectra" and foreign(words)
    assert run(made, tmp_path / "none", *bad) == 2
    assert "none of 2 files gave a star" in capsys.readouterr().err
    assert run(made, tmp_path / "low", good[0], extra=("--resolution", "50000")) == 2
    assert "less than the 94600 of the networks' synthetic set: src_files/prepare_spectra.py" in capsys.readouterr().err


@pytest.mark.skipif(not REAL.is_dir(), reason="no real spectra here")
def test_reality(made, loaded_once, tmp_path, capsys):
    """A telluric standard of an early type, a spectrum that does not cover the window, and an M dwarf."""
    paths = [next(REAL.glob(name)) for name in ("Goldilocks*", "FEROS*", "GJ_699*20181003*")]
    assert run(made, tmp_path / "out", *paths) == 0
    said = capsys.readouterr().out
    assert "spectra.fits has no peak in its cross-correlation" in said
    assert "FEROS_Gl674.fits covers 5000.0 to 7000.0 Angstrom, not 8800 to 8835" in said
    table = pd.read_csv(tmp_path / "out" / "estimates.csv")
    assert list(table["karmn"]) == ["GJ_699"] and all(map(foreign, table["flags"]))


def test_files_and_the_arrays_made_of_them_give_the_same_table(made, loaded_once, tmp_path):
    data, folder = made
    assert run(made, tmp_path / "out", *stars(tmp_path, 3)) == 0
    spectra = tmp_path / "spectra"
    spectra.mkdir()
    for name in ("carmf_norm.npy", "stars.csv"):
        shutil.copy(tmp_path / "out" / name, spectra)
    files.write_json(spectra / "provenance.json", {"spectra": "own, simulated training set", "continuum": "envelope"})
    assert estimate.main(["--data", str(data), "--artifacts", str(folder), "--spectra", str(spectra), "--out",
                          str(tmp_path / "again"), "--jobs", "1"]) == 0
    tables = [(tmp_path / name / "estimates.csv").read_bytes() for name in ("out", "again")]
    assert tables[0] == tables[1] and tables[0].count(b"star ") == 6
    assert len(list((tmp_path / "again").glob("*.png"))) == 3


# ---------------------------------------------------------------- pictures
def test_a_picture_shows_one_star_whichever_was_drawn_before(tmp_path):
    """The figure is used again: what a star leaves on it would show with the next."""
    rng = np.random.default_rng(0)
    scales = {"teff": 60, "logg": 0.05, "mh": 0.1, "vsini": 0.4}

    def draw(name, flux, n_members, spread, title="a star"):
        values = {par: 3 * scale + spread * scale * rng.normal(size=n_members) for par, scale in scales.items()}
        star_page.write(tmp_path / name, title, "a note", flux, flux - 0.1 * spread, values,
                         {par: (np.mean(each), 1, 2) for par, each in values.items()})
        return (tmp_path / name).read_bytes()

    first, others = np.linspace(0.2, 1.0, paper.N_PIXELS), (np.linspace(-0.4, 1.9, 500), 3 * style.N_DENSITY, 9)
    for members, spread in ((2 * style.N_DENSITY, 1), (6, 0)):
        star_page._sheet.cache_clear()
        rng = np.random.default_rng(1)
        fresh = draw("fresh.png", first, members, spread)
        assert draw("other.png", *others, title="another") != fresh
        rng = np.random.default_rng(1)
        assert draw("again.png", first, members, spread) == fresh


# ---------------------------------------------------------------- the tutorial
@pytest.fixture
def tutorial(made, loaded_once, tmp_path, monkeypatch):
    """The commands of docs/own-spectra.md, as functions, and its Python; in a folder with the files that they name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predictor, "SETS", made[0].parent)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "demo").symlink_to(made[1])
    for folder in ("spectra", "more"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "star.csv", observe())
    write(tmp_path / "more" / "one.csv", observe())
    for k in range(20):
        header = fits.Header({"CRVAL1": NATIVE[0], "CDELT1": 0.03, "CTYPE1": "WAVE", "SPEC_RES": paper.RESOLVING_POWER})
        fits.PrimaryHDU(observe(5 * k - 40, seed=k), header).writeto(tmp_path / "spectra" / f"{k}.fits")
    page = (ROOT / "docs" / "own-spectra.md").read_text()
    begins = "    python Methodology/estimate.py --artifacts artifacts/demo "
    lines = [line.split()[2:] for line in page.splitlines() if line.startswith(begins)]
    words = [[path for word in line for path in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
             for line in lines]
    assert len(words) == 3
    return [functools.partial(estimate.main, [*line, "--jobs", "1"]) for line in words], page.split("```python\n")[1]


def test_the_tutorial(tutorial, made, capsys, monkeypatch):
    (one, many, tune), python = tutorial
    assert one() == many() == 0
    said = capsys.readouterr().out
    assert "1 of 1 files estimated" in said and "20 of 21 files estimated, 1 left out" in said
    assert "more/one.csv does not say its resolving power: give it with --resolution" in said
    variables = {"wavelength": to_air(NATIVE), "flux": observe()}
    exec(python.split("```")[0], variables)
    there = pd.read_csv(made[1] / "estimates" / "estimates.csv")["Teff"][0]  # of a file with rounded numbers
    assert variables["star"]["Teff"] == pytest.approx(there, rel=1e-4)

    calls, fine_tune = [], fine_tuning.fine_tune
    monkeypatch.setattr(fine_tuning, "fine_tune", lambda *arguments: calls.append(arguments) or fine_tune(*arguments))
    with monkeypatch.context() as patch:  # it stops between the networks and the table
        patch.setattr(predictor, "load", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert tune() == 130
    assert tune() == 0 and len(calls) == 1
    assert "learnt the parameters from SIMULATED" in capsys.readouterr().out
    plain, tuned = (pd.read_csv(f"{name}/estimates.csv") for name in ("mine", "tuned"))
    assert all(map(foreign, plain["flags"])) and not any(map(foreign, tuned["flags"]))
    assert tuned["flags"].str.contains("unseen").sum() == 4  # a fifth
    assert not np.allclose(tuned["Teff"], plain["Teff"], atol=0.1)
    sidecar = read_sidecar(Path("tuned/dtl_ac_0.h5"))
    assert sidecar.settings == read_sidecar(made[1] / "dtl_ac_0.h5").settings
    assert sidecar.spectra.spectra == "own, simulated training set"


def test_too_few_stars_to_tune_on(made, tmp_path, capsys):
    assert run(made, tmp_path / "out", *stars(tmp_path, 19), extra=["--tune"]) == 2
    assert "19 of the given files gave 19 different stars, at least 20 are needed" in capsys.readouterr().err
    copies = [Path(shutil.copy(tmp_path / "star 0.csv", tmp_path / f"copy {k}.csv")) for k in range(20)]
    assert run(made, tmp_path / "out", *copies, extra=["--tune"]) == 2
    assert "20 files hold the same spectrum" in capsys.readouterr().err


# ---------------------------------------------------------------- what is refused
def replaced(copied, name, old, new):
    path = copied / name
    path.write_bytes(path.read_bytes().replace(old, new))


REFUSED = {
    "no artifacts": (lambda data, folder: ["--artifacts", folder / "no"], "no/final_estimations.json not found: run"),
    "no synthetic set": (lambda data, folder: ["--data", folder], "ph_flux_norm.npy not found: give the folder of"),
    "another synthetic set": (lambda data, folder: np.save(data / "ph_flux_norm.npy", np.ones((3, 3501))),
                              "was made from another ph_flux_norm.npy"),
    "a regressor was changed": (lambda data, folder: (folder / "cnn_regressor_teff_0_ac_0.h5").write_bytes(b"no"),
                                "cnn_regressor_teff_0_ac_0.h5 is missing or was changed"),
    "a regressor is absent": (lambda data, folder: (folder / "cnn_regressor_mh_1_ac_0.h5").unlink(),
                              "cnn_regressor_mh_1_ac_0.h5 not found: run Methodology/cnn_training.py"),
    "no regressor is kept": (lambda data, folder: files.write_json(folder / "final_estimations.json", schemas.signed(
        schemas.plain(schemas.Estimates(SIMULATED)))), "final_estimations.json names no regressors"),
    "kept was edited": (lambda data, folder: replaced(folder, "final_estimations.json", b"teff_0", b"teff_9"),
                        "final_estimations.json was changed since it was written"),
    "out is the run": (lambda data, folder: ["--out", folder], "holds params_final.json, so spectra or a run"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case, made, copied, tmp_path, capsys):
    spoil, said = REFUSED[case]
    data = Path(shutil.copytree(made[0], tmp_path / "data"))
    extra = spoil(data, copied)
    extra = list(map(str, extra)) if isinstance(extra, list) else []
    assert run((data, copied), tmp_path / "out", write(tmp_path / "a.csv", observe()), extra=extra) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_estimates_of_other_files_are_kept(made, loaded_once, tmp_path, capsys):
    first, second = stars(tmp_path, 2)
    assert run(made, tmp_path / "out", first) == 0
    assert run(made, tmp_path / "out", second) == 2
    assert "star 0.csv (1 in all): give these too, choose another --out, or --overwrite" in capsys.readouterr().err
    assert run(made, tmp_path / "out", second, first) == 0
    assert list(pd.read_csv(tmp_path / "out" / "estimates.csv")["karmn"]) == ["star 1", "star 0"]
    assert run(made, tmp_path / "out", second, extra=["--overwrite"]) == 0
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["star_1.png"]


def test_a_release_estimates_without_its_synthetic_set(made, tmp_path):
    """Rounded networks and a thinned set estimate as the run does; what was changed after unpacking is refused."""
    changes = release.pack("tiny", made[1], made[0], tmp_path, "1.0.0")
    limits = {"teff": 5, "logg": 0.02, "mh": 0.02, "vsini": 0.3}
    assert all(0 <= changes[par] < limits[par] for par in paper.PARAMETERS)
    whole, packed = predictor.select(made[1], made[0]), predictor.select(tmp_path / "tiny")
    np.testing.assert_array_equal(packed.templates.flux, whole.templates.flux)
    assert {par: list(values) for par, values in packed.grid.items()} == {
        par: list(values) for par, values in whole.grid.items()} and packed.limits == whole.limits
    star, = stars(tmp_path, 1)
    assert run(made, tmp_path / "whole", star) == 0
    assert estimate.main([*map(str, ("--artifacts", tmp_path / "tiny", "--resolution", 94600, "--jobs", 1, star))]) == 0
    one, other = (pd.read_csv(out / "estimates.csv") for out in (tmp_path / "whole", tmp_path / "tiny" / "estimates"))
    assert all(abs(one[x] - other[x])[0] < limits[par] for par, x in zip(paper.PARAMETERS, VALUES))
    (tmp_path / "link").symlink_to(tmp_path / "tiny")
    assert predictor.select(tmp_path / "tiny", tmp_path / "link").data.ph == packed.data.ph
    with pytest.raises(files.BadInput, match="is a release, .* leave out --data"):
        predictor.select(tmp_path / "tiny", made[0])  # whole, but these networks are rounded
    flux = np.load(tmp_path / "tiny" / "ph_flux_norm.npy")
    np.save(tmp_path / "tiny" / "ph_flux_norm.npy", flux[::-1])
    with pytest.raises(files.BadInput, match="ph_flux_norm.npy is missing or was changed: unpack the release again"):
        predictor.select(tmp_path / "tiny")
