"""Calibrated errors: the likelihood against twins, planted offsets, limits, coverage, the script on made-up runs."""
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from test_literature import write_run

import calibrate
import paper
from evaluation import calibrated, catalogues
from inference import calibration
from workflow import files, schemas
from workflow.command_line import ROOT


@pytest.fixture(scope="module")
def published():
    return catalogues.load_estimates()


def draw(seed, n, offset=0.0, scatter=0.0, slope=0.0, lit=0.3):
    """Stars whose own uncertainties hold, but for an offset and a scatter that are planted."""
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(0.2, 0.6, n), rng.uniform(0.2, 1.5, n)
    widths = np.sqrt(low**2 + scatter**2 + lit**2), np.sqrt(high**2 + scatter**2 + lit**2)
    above = rng.uniform(size=n) < widths[1] / (widths[0] + widths[1])
    teff, ours = rng.uniform(3000, 4000, n), rng.uniform(10, 20, n)
    away = np.where(above, widths[1], -widths[0]) * np.abs(rng.normal(size=n))
    return pd.DataFrame({"karmn": [f"J{k}" for k in range(n)], "teff": teff, "ours": ours, "ours_low": low,
                         "ours_high": high, "lit": ours + offset + slope * (teff - teff.mean()) / 100 + away,
                         "lit_low": lit, "lit_high": lit, "limit": False})


def with_limit(stars, **star):
    """The same stars and one with an upper limit."""
    more = {**stars.iloc[0], "karmn": "limit", "lit_low": np.nan, "lit_high": np.nan, "limit": True, **star}
    return pd.concat([stars, pd.DataFrame([more])], ignore_index=True).astype({"limit": bool})


# ---------------------------------------------------------------- likelihood and fit
@pytest.mark.parametrize("offset, scatter", [(0.0, 0.0), (-0.7, 0.4), (2.0, 1.0)])
def test_likelihood_against_a_twin(offset, scatter):
    stars = with_limit(draw(1, 6), ours=0.5, ours_low=0.4, ours_high=0.9, lit=1.2)
    found = calibration.log_likelihood(stars, offset, scatter)
    for value, star in zip(found, stars.itertuples()):
        error = np.nan_to_num(star.lit_low)
        low, high = (np.sqrt(own**2 + scatter**2 + error**2) for own in (star.ours_low, star.ours_high))

        def density(x, mode=star.ours + offset, low=low, high=high):
            return 2 / (low + high) * (low * norm.pdf(x, mode, low) if x < mode else high * norm.pdf(x, mode, high))

        likelihood = quad(density, 0, star.lit, epsabs=1e-12, points=[np.clip(star.ours + offset, 0, star.lit)])[0] if (
            star.limit) else density(star.lit)
        assert np.exp(value) == pytest.approx(likelihood, rel=1e-8)


def test_fit_is_the_maximum_on_a_grid():
    stars = draw(2, 25, offset=1.0, scatter=0.8).assign(ours_low=0.5, ours_high=0.5)
    found = calibration.fit(stars)
    offsets, scatters = np.linspace(-1, 3, 401), np.linspace(0.01, 2.01, 201)
    width = np.sqrt(0.5**2 + 0.3**2 + scatters**2)
    differences = (stars["lit"] - stars["ours"]).to_numpy()
    grid = norm.logpdf(differences, offsets[:, None, None], width[:, None]).sum(axis=-1)
    best = np.unravel_index(grid.argmax(), grid.shape)
    assert found.coefficients[0] == pytest.approx(offsets[best[0]], abs=0.01)
    assert found.scatter == pytest.approx(scatters[best[1]], abs=0.01)
    # of equal widths the mean is as well known as its standard error, and the profile of the scatter is the grid's
    assert found.covariance[0, 0] == pytest.approx((0.34 + found.scatter**2) / 25, rel=1e-3)
    profile = grid.max(axis=0)
    inside = scatters[profile > profile.max() - 0.5]
    assert calibration.scatter_interval(stars, found) == pytest.approx((inside[0], inside[-1]), abs=0.015)


@pytest.mark.parametrize("slope", [None, 0.3])
def test_what_is_planted_is_found_within_its_uncertainty(slope):
    off, held = [], []
    for seed in range(12):
        stars = draw(seed, 120, 1.5, 0.7, slope or 0)
        found = calibration.fit(stars, slope is not None)
        planted = [1.5, slope][: len(found.coefficients)]
        off.append((found.coefficients - planted) / np.sqrt(np.diag(found.covariance)))
        low, high = calibration.scatter_interval(stars, found)
        held.append(low < 0.7 < high)
    assert np.abs(off).max() < 3.2 and 0.6 < np.std(off) < 1.5  # of 12 or 24 deviations in units of their error
    assert 5 <= sum(held) <= 11  # of 12, at 68 %
    if slope:
        assert found.offset([found.pivot, found.pivot + 100]) == pytest.approx(np.cumsum(found.coefficients))


def test_no_scatter_is_none_with_a_limit():
    stars = draw(3, 60, offset=-1)
    stars["lit"] = stars["ours"] - 1 + 0.2 * (stars["lit"] - stars["ours"] + 1)
    found = calibration.fit(stars)
    low, high = calibration.scatter_interval(stars, found)
    assert found.scatter == 0 == low < high

    def best(scatter):
        return max(calibration.log_likelihood(stars, offset, scatter).sum() for offset in np.linspace(-1.2, -0.8, 41))

    assert best(0) - best(high) == pytest.approx(1.645**2 / 2, abs=0.01)


@pytest.mark.parametrize(
    "reference, offset, scatter",
    [(("teff", "interf"), -118, 113), (("teff", "mann15"), -103, 37), (("logg", "schw19"), 0.050, 0.007),
     (("mh", "fgkm"), -0.10, 0.13), (("mh", "mann15"), 0.046, 0.0), (("vsini", "rein18"), -0.62, 0.72)],
)
def test_with_equal_sides_and_no_limits_a_trial_is_met(reference, offset, scatter, published):
    stars = calibrated.independent(published, *reference).assign(limit=False)
    own = (stars["ours_low"] + stars["ours_high"]) / 2
    found = calibration.fit(stars.assign(ours_low=own, ours_high=own))
    step = 0.5 if reference[0] == "teff" else 0.005
    assert (found.coefficients[0], found.scatter) == pytest.approx((offset, scatter), abs=step)


# ---------------------------------------------------------------- limits
def test_a_limit_far_above_moves_nothing():
    stars = draw(4, 30, 1.0, 0.5)
    without, found = calibration.fit(stars), calibration.fit(with_limit(stars, ours=15.0, lit=40.0))
    assert found.coefficients == pytest.approx(without.coefficients, abs=1e-4)
    assert found.scatter == pytest.approx(without.scatter, rel=1e-3)
    assert found.covariance == pytest.approx(without.covariance, rel=1e-3)


def test_a_limit_below_draws_down_and_its_distance_counts():
    stars = draw(4, 30, 1.0, 0.5)
    offsets = [calibration.fit(with_limit(stars, ours=15.0, lit=limit)).coefficients[0] for limit in (18, 15, 14)]
    assert offsets[0] > offsets[1] + 0.01 > offsets[2] + 0.02


def test_an_offset_makes_no_limit_negative():
    stars = with_limit(draw(4, 30, -3.0, 0.1, lit=0.1), ours=2.5, lit=2.0)
    assert calibration.fit(stars).coefficients[0] > calibration.fit(stars[~stars["limit"]]).coefficients[0] + 0.01


def test_limits_are_those_of_reiners18(published):
    for par, references in calibrated.REFERENCES.items():
        for name in references:
            limits = calibrated.independent(published, par, name)["limit"].sum()
            assert limits == (245 if name == "rein18" else 0)


# ---------------------------------------------------------------- coverage
def test_intervals_by_hand():
    stars = pd.DataFrame({"karmn": list("ABCDE"), "ours": 10.0, "ours_low": 3.0, "ours_high": 1.0,
                          "lit": [7.1, 11.1, 6.9, 4.0, 20.0], "lit_low": 0.0, "lit_high": [0, 0, 0, 0, np.nan],
                          "limit": [False] * 4 + [True]})
    assert calibration.inside(stars)["68"].tolist() == [True, False, False, False, True]
    assert calibration.inside(stars)["95"].tolist() == [True, True, True, False, True]
    assert calibration.inside(stars, -2, np.sqrt(7))["68"].tolist() == [True, False, True, True, True]
    assert calibration.inside(stars.assign(lit_high=2.65))["68"].tolist() == [True, False, True, False, True]


def test_coverage_of_what_is_calibrated_is_nominal():
    many = calibration.inside(draw(5, 4000))
    assert abs(many["68"].mean() - 0.6827) < 3 * np.sqrt(0.6827 * 0.3173 / 4000)
    assert abs(many["95"].mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 4000)
    stars = draw(6, 100, offset=2.0, scatter=1.0)
    after = calibration.leave_one_out(stars)
    assert calibration.inside(stars)["68"].mean() < 0.3
    assert abs(after["68"].mean() - 0.6827) < 3 * np.sqrt(0.6827 * 0.3173 / 100)
    assert abs(after["95"].mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 100)


def test_leave_one_out_leaves_the_star_out(monkeypatch):
    stars, seen, fit = with_limit(draw(7, 8, 1.0, 0.5), lit=12.0), [], calibration.fit
    found = calibration.leave_one_out(stars)
    for k, star in stars[~stars["limit"]].iterrows():
        others = fit(stars.drop(index=k))
        expected = calibration.inside(stars.loc[[k]], others.offset([star["teff"]]), others.extra([star["teff"]]))
        assert found.loc[k].tolist() == expected.loc[k].tolist()
    monkeypatch.setattr(calibration, "fit", lambda stars, *rest: seen.append(set(stars["karmn"])) or fit(stars, *rest))
    assert list(calibration.leave_one_out(stars)["karmn"]) == [f"J{k}" for k in range(8)]
    assert seen == [set(stars["karmn"]), *(set(stars["karmn"]) - {f"J{k}"} for k in range(8))]


def test_share_has_the_wilson_interval():
    share, low, high = calibration.share(np.arange(14) < 10)
    z = norm.ppf(0.5 + 0.6827 / 2)
    half = z * np.sqrt(10 * 4 / 14 + z**2 / 4) / (14 + z**2)
    middle = (10 + z**2 / 2) / (14 + z**2)
    assert (share, low, high) == pytest.approx((10 / 14, middle - half, middle + half))


def test_conformal_intervals_are_order_statistics():
    stars = pd.DataFrame({"ours": 0.0, "lit": np.arange(1.0, 20)})  # 0.3173 of 20 leaves 3 at either side
    others = pd.DataFrame({"karmn": list("ABCD"), "ours": 5.0, "lit": [7.9, 8.0, 22.0, 22.1], "limit": False})
    held = calibration.conformal(stars, others)
    assert held["68"].tolist() == [False, True, True, False] and held["95"].all()  # too few stars for 95 %


# ---------------------------------------------------------------- the script
@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What the script says of the published estimates, and the folder it wrote to."""
    out = tmp_path_factory.mktemp("calibrated")
    before = (catalogues.FOLDER / "mas24.csv").read_bytes()
    done = subprocess.run([sys.executable, ROOT / "Methodology" / "calibrate.py", "--out", out], capture_output=True,
                          text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert (catalogues.FOLDER / "mas24.csv").read_bytes() == before
    return done.stdout, out


@pytest.mark.parametrize(
    "line",
    ["Teff [K] Interferometry 14 0 -118 +- 30 105 (85 to 132) 0, 71 29, 86",
     "Teff [K] Mann15 97 0 -101 +- 8 21 (0 to 37) 28, 66 70, 93",
     "logg [dex] Schw19 278 0 +0.051 +- 0.003 0.016 (0.004 to 0.023) 49, 75 81, 94",
     "[M/H] [dex] FGK+M 6 0 -0.068 +- 0.073 0.151 (0.109 to 0.218) 33, 67 50, 83",
     "vsini [km/s] Rein18 41 245 -1.69 +- 0.06 0.49 (0.44 to 0.54) 29, 46 59, 93",
     "Teff Interferometry leave-one-out 14 0 (0 to 7) 71 (58 to 82) 29 (18 to 42) 86 (74 to 93)",
     "[M/H] Mann15 leave-one-out 97 76 (72 to 80) 81 (77 to 85) 93 (90 to 95) 95 (92 to 97)"],
)
def test_the_published_estimates_are_calibrated(line, printed):
    assert line in [" ".join(row.split()) for row in printed[0].splitlines()]


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
    path = write_run(tmp_path / "run.csv", stars, "mine", outputs=True)
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
    path = write_run(folder / "final_estimations.csv", estimates)
    sidecar = schemas.Estimates(schemas.Origin(spectra="simulated", gap=1.0, gap_seed=seed), 42, {},
                                {"stars.csv": files.sha256(folder / "stars.csv")},
                                {path.name: files.sha256(path)})
    files.write_json(path.with_suffix(".json"), schemas.signed(schemas.plain(sidecar)))
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


def test_the_halves_have_no_star_in_common(tmp_path):
    (path, file), (other, other_file) = (simulated(tmp_path / str(k), k, 5 * k) for k in (0, 1))
    runs = {name: (catalogues.load_estimates(run), calibrated.truth_of(run, [file, other_file])[0])
            for name, run in (("other half", path), ("new gap", other))}
    splits = []
    for seed in (1, 1, 2):
        used = calibrated.of_simulation(runs, SimpleNamespace(linear=False, seed=seed))["teff"]
        tested = [set(test["after"]["karmn"]) for test in used.tests.values()]
        assert tested[0] == tested[1] and len(tested[0]) == 30 and not tested[0] & set(used.stars["karmn"])
        splits.append(tested[0])
        assert used.tests["other half"]["after"]["95"].mean() > 0.8 > used.tests["new gap"]["after"]["95"].mean()
    assert splits[0] == splits[1] != splits[2]


# ---------------------------------------------------------------- bad input
def spoilt(tmp_path, kind, published):
    """Arguments of the script that cannot be used."""
    run, truth = simulated(tmp_path / "sim", 0, 1, ["teff"] if kind == "truth without log g" else paper.PARAMETERS)
    real = write_run(tmp_path / "real.csv", published[:2], "mine")
    other = simulated(tmp_path / "other", 1, 1)
    return {
        "no such table": ["absent.csv"], "a table of another form": [str(truth)],
        "simulated without truth": [str(run)], "simulated with a reference":
            [str(run), "--truth", str(truth), "--reference", "teff=interf"],
        "another truth": [str(run), "--truth", str(other[1])], "truth without log g": [str(run), "--truth", str(truth)],
        "real with truth": [str(real), "--truth", str(truth)], "real with a test": [str(real), "--test", str(run)],
        "test on real stars": [str(run), "--truth", str(truth), "--test", str(real)],
        "test without its truth": [str(run), "--truth", str(truth), "--test", str(other[0])],
        "fewer than three stars": [str(real)], "fewer by the one chosen": [str(real), "--reference", "teff=mann15"],
    }[kind]


@pytest.mark.parametrize(
    "kind, words",
    [("no such table", "absent.csv not found"), ("a table of another form", "stars.csv has"),
     ("simulated without truth", "never on the literature: give the stars.csv"),
     ("simulated with a reference", "--reference is for real stars"), ("another truth", "was not made with"),
     ("truth without log g", "stars.csv has no column logg"), ("test on real stars", "real.csv was not made with"),
     ("real with truth", "--truth and --test are for simulated"), ("real with a test", "--truth and --test are for"),
     ("test without its truth", "other/final_estimations.csv was not made with"),
     ("fewer than three stars", "no parameter has a reference with enough stars"),
     ("fewer by the one chosen", "Teff cannot be calibrated on Mann15: ")],
)
def test_bad_input_is_one_line(kind, words, tmp_path, published, capsys):
    assert calibrate.main([*spoilt(tmp_path, kind, published)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and words in error
    assert not list(tmp_path.rglob("*_calibrated*"))


@pytest.mark.parametrize("text", ["teff", "teff=rein18", "rv=interf", "teff=", "=interf"])
def test_unknown_references_are_named(text, capsys):
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
