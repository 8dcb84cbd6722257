"""Calibrated errors: the stars and references they rest on, the published estimates, the command on made-up runs."""
import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from run_tables import write_run

import calibrate
import paper
from evaluation import calibrated, catalogues
from inference import calibration
from workflow import files, schemas


@pytest.fixture(scope="module")
def published():
    return catalogues.load_estimates()


# ---------------------------------------------------------------- on the literature
TRIAL = {("teff", "interf"): (-118, 113), ("teff", "mann15"): (-103, 37), ("logg", "schw19"): (0.050, 0.007),
         ("mh", "fgkm"): (-0.10, 0.13), ("mh", "mann15"): (0.046, 0.0), ("vsini", "rein18"): (-0.62, 0.72)}


def test_stars_of_every_reference_and_a_trial_with_equal_sides_and_no_limits_is_met(published):
    for (par, name), offset_and_scatter in TRIAL.items():
        stars = calibrated.independent(published, par, name)
        assert name in calibrated.REFERENCES[par] and stars["limit"].sum() == (245 if name == "rein18" else 0)
        own = (stars["ours_low"] + stars["ours_high"]) / 2
        fitted = calibration.fit(stars.assign(limit=False, ours_low=own, ours_high=own))
        step = 0.5 if par == "teff" else 0.005
        assert (fitted.coefficients[0], fitted.scatter) == pytest.approx(offset_and_scatter, abs=step)


# ---------------------------------------------------------------- the command
@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the command says of the published estimates, and the folder it wrote to."""
    out, printed, errors = tmp_path_factory.mktemp("calibrated"), io.StringIO(), io.StringIO()
    before = (catalogues.FOLDER / "mas24.csv").read_bytes()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        assert calibrate.main(["--out", str(out)]) == 0
    assert not errors.getvalue() and (catalogues.FOLDER / "mas24.csv").read_bytes() == before
    return printed.getvalue(), out


LINES = """
Teff [K] Interferometry 14 0 -118 +- 30 105 (85 to 132) 0, 71 29, 86
Teff [K] Mann15 97 0 -101 +- 8 21 (0 to 37) 28, 66 70, 93
logg [dex] Schw19 278 0 +0.051 +- 0.003 0.016 (0.004 to 0.023) 49, 75 81, 94
[M/H] [dex] FGK+M 6 0 -0.068 +- 0.073 0.151 (0.109 to 0.218) 33, 67 50, 83
vsini [km/s] Rein18 41 245 -1.69 +- 0.06 0.49 (0.44 to 0.54) 29, 46 59, 93
Teff Interferometry leave-one-out 14 0 (0 to 7) 71 (58 to 82) 29 (18 to 42) 86 (74 to 93)
[M/H] Mann15 leave-one-out 97 76 (72 to 80) 81 (77 to 85) 93 (90 to 95) 95 (92 to 97)
"""


def test_the_published_estimates_are_calibrated(printed):
    assert set(LINES.split("\n")) <= {" ".join(line.split()) for line in printed[0].split("\n")}


def test_the_calibrated_table(printed, published):
    path = printed[1] / "final_estimations_calibrated.csv"
    table, sidecar = pd.read_csv(path), schemas.read(path.with_suffix(".json"), schemas.Calibration, "")
    assert list(table["karmn"]) == list(published["karmn"])
    assert sidecar.outputs == {path.name: files.sha256(path)} and sidecar.spectra.spectra == "published"
    assert sidecar.inputs["interf.csv"] == files.sha256(catalogues.FOLDER / "interf.csv")
    for par, parameter in paper.PARAMETERS.items():
        x, one = parameter.published, sidecar.fits[par]
        assert set(table[f"reference_{x}"]) == {one.reference}
        np.testing.assert_allclose(table[x] - published[par], one.offset[0])
        for side in ("e", "E"):
            stat, total = table[f"{side}_{x}_stat"], table[f"{side}_{x}_total"]
            np.testing.assert_allclose(stat, published[f"{side}_{par}"])
            np.testing.assert_allclose(total**2, stat**2 + one.scatter**2 + one.offset_error[0] ** 2)
    assert [one.reference for one in sidecar.fits.values()] == ["Interferometry", "Schw19", "Mann15", "Rein18"]


def test_a_run_and_its_stars_that_nobody_knows(tmp_path, published, capsys, monkeypatch):
    monkeypatch.setattr(calibrated, "REFERENCES", {"teff": calibrated.REFERENCES["teff"],
                                                  "mh": {"fgkm": "mh"}})
    few = published[published["karmn"].isin(catalogues.load("interf")["karmn"])]
    stars = pd.concat([few, few[:1].assign(karmn="mine")]).assign(vsini=np.nan)
    path = write_run(tmp_path / "run.csv", stars, "mine")
    before = path.read_bytes(), path.with_suffix(".json").read_bytes()
    assert calibrate.main([str(path), "--linear", "--reference", "teff=mann15"]) == 0
    assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before
    said = capsys.readouterr().out
    assert "warning: [M/H] cannot be calibrated on FGK+M: 0 stars have an independent value" in said
    table = pd.read_csv(tmp_path / "final_estimations_calibrated.csv")
    assert list(table["karmn"]) == list(stars["karmn"]) and (table["reference_Teff"] == "Mann15").all()
    assert table[["[M/H]", "e_logg_total", "reference_vsini"]].isna().all(axis=None)
    assert table["Teff"].iloc[-1] == table["Teff"].iloc[0] != few["teff"].iloc[0]
    one = schemas.read(tmp_path / "final_estimations_calibrated.json", schemas.Calibration, "").fits["teff"]
    distance = (stars["teff"].to_numpy() - one.pivot) / 100
    np.testing.assert_allclose(table["Teff"] - stars["teff"].to_numpy(), one.offset[0] + one.offset[1] * distance)


# ---------------------------------------------------------------- simulated stars
def simulated(folder, seed, offset, columns=paper.PARAMETERS):
    """Estimates of 60 simulated stars, off by an offset and scatter, and their truth; paths of both."""
    rng, n = np.random.default_rng(seed), 60
    folder.mkdir()
    truth = pd.DataFrame({"karmn": [f"J{k:05d}+000" for k in range(n)], "snr": rng.uniform(150, 400, n)})
    estimates = truth[["karmn"]].copy()
    for par in paper.PARAMETERS:
        truth[par] = np.random.default_rng(0).uniform(3, 4, n)
        estimates[par] = truth[par] + offset + rng.normal(0, 0.5, n)
        estimates[f"e_{par}"] = estimates[f"E_{par}"] = 0.1
    files.write_csv(folder / "stars.csv", truth[["karmn", "snr", *columns]])
    path = write_run(folder / "final_estimations.csv", estimates, gap=1.0, gap_seed=seed,
                     inputs={"stars.csv": files.sha256(folder / "stars.csv")})
    return path, folder / "stars.csv"


def test_simulated_stars_are_tested_on_the_other_half_and_behind_another_gap(tmp_path, capsys):
    (one, its_truth), (other, other_truth) = (simulated(tmp_path / str(k), k, k) for k in (0, 5))
    assert calibrate.main([str(one), "--truth", str(other_truth), str(its_truth), "--test", str(other)]) == 0
    said = capsys.readouterr().out
    assert "SIMULATED" in said and said.count("other half") == said.count("gap 1, seed 5") == 4
    sidecar = schemas.read(one.parent / "final_estimations_calibrated.json", schemas.Calibration, "")
    fit = sidecar.fits["logg"]
    assert fit.n_stars == 30 and abs(fit.offset[0]) < 0.3 and 0.3 < fit.scatter < 0.7 and 0.4 < fit.after["68"] < 0.95
    assert sidecar.spectra.spectra == "simulated" and "truth" in fit.reference


def test_truth_is_matched_by_name():
    truth = pd.DataFrame({"karmn": ["A", "B", "C"], "logg": [1.0, 2, 3]})
    estimates = pd.DataFrame({"karmn": ["C", "D", "A"], "teff": 3000.0, "logg": [30.0, 40, 10]})
    estimates = estimates.assign(e_logg=0, E_logg=0)
    stars = calibrated.with_truth(estimates, truth, "logg", ["A", "C", "D"])
    assert list(zip(stars["karmn"], stars["ours"], stars["lit"])) == [("C", 30, 3), ("A", 10, 1)]


def test_the_halves_have_no_star_in_common(tmp_path):
    (path, file), (other, other_file) = (simulated(tmp_path / str(k), k, 5 * k) for k in (0, 1))
    runs = {name: (catalogues.load_estimates(run), calibrated.truth_of(run, [file, other_file])[0])
            for name, run in (("other half", path), ("new gap", other))}
    splits = []
    for seed in (1, 1, 2):
        used = calibrated.of_simulation(runs, False, seed)["teff"]
        tested = [set(test["after"]["karmn"]) for test in used.tests.values()]
        assert tested[0] == tested[1] and len(tested[0]) == 30 and not tested[0] & set(used.stars["karmn"])
        splits.append(tested[0])
        assert used.tests["other half"]["after"]["95"].mean() > 0.8 > used.tests["new gap"]["after"]["95"].mean()
    assert splits[0] == splits[1] != splits[2]


# ---------------------------------------------------------------- bad input
BAD = {
    "no such table": (["absent.csv"], "absent.csv not found"), "a table of another form": (["truth"], "stars.csv has"),
    "simulated without truth": (["run"], "never on the literature: give the stars.csv"),
    "simulated with a reference": (["run", "--truth", "truth", "--reference", "teff=interf"],
                                   "--reference is for real stars"),
    "another truth": (["run", "--truth", "other truth"], "was not made with"),
    "truth without log g": (["teff", "--truth", "truth of teff"], "stars.csv has no column logg"),
    "real with truth": (["real", "--truth", "truth"], "--truth, --test and --gaps are for simulated"),
    "test on real stars": (["run", "--truth", "truth", "--test", "real"], "real.csv was not made with"),
    "test without its truth": (["run", "--truth", "truth", "--test", "other"],
                               "other/final_estimations.csv was not made with"),
    "fewer than three stars": (["real"], "no parameter has a reference with enough stars"),
    "fewer by the one chosen": (["real", "--reference", "teff=mann15"], "Teff cannot be calibrated on Mann15: "),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(arguments, words, tmp_path, published, capsys):
    paths = {"real": write_run(tmp_path / "real.csv", published[:2], "mine")}
    paths["run"], paths["truth"] = simulated(tmp_path / "run", 0, 1)
    paths["other"], paths["other truth"] = simulated(tmp_path / "other", 1, 1)
    paths["teff"], paths["truth of teff"] = simulated(tmp_path / "teff", 0, 1, ["teff"])
    assert calibrate.main([str(paths.get(argument, argument)) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert not list(tmp_path.rglob("*_calibrated*"))


def test_unknown_references_are_named(capsys):
    for text in ("teff", "teff=rein18", "=interf"):
        with pytest.raises(SystemExit) as stopped:
            calibrate.main(["--reference", text])
        assert stopped.value.code == 2 and "teff=interf, teff=mann15" in capsys.readouterr().err


def test_a_changed_calibration_is_seen(printed):
    path = printed[1] / "final_estimations_calibrated.json"
    content = json.loads(path.read_text())
    content["fits"]["teff"]["scatter"] = 1.0
    files.write_json(path.with_name("spoilt.json"), content)
    with pytest.raises(files.BadInput, match="was changed since it was written"):
        schemas.read(path.with_name("spoilt.json"), schemas.Calibration, "restore it")


def test_several_gaps_are_calibrated_on_together(tmp_path, capsys):
    runs = [simulated(tmp_path / str(k), k, offset) for k, offset in enumerate((-2, 3, 0, 1.0))]
    (one, truth), *others, (test, _) = runs
    flags = [str(one), "--truth", *(str(file) for _, file in runs), "--gaps", *(str(path) for path, _ in others)]
    assert calibrate.main([*flags, "--test", str(test)]) == 0
    assert "shared" in capsys.readouterr().out
    sidecar = schemas.read(one.parent / "final_estimations_calibrated.json", schemas.Calibration, "")
    fit = sidecar.fits["teff"]
    assert fit.offset[0] == pytest.approx(-1 / 3, abs=0.3) and fit.shared == pytest.approx(2.5, abs=0.3)
    assert fit.scatter**2 - fit.shared**2 == pytest.approx(0.25, abs=0.15) and fit.n_stars == 90
    assert set(map(str, (path for path, _ in others))) < set(sidecar.inputs)
    assert calibrate.main([*flags, "--test", str(others[0][0])]) == 2
    assert "is one of --gaps" in capsys.readouterr().err
