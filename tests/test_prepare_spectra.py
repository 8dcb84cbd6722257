"""From spectrum files to the arrays of the acts: simulated stars whose truth is known, and real ones where they are."""
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from arrays import observed_of, provenance_of, synthetic_of
from astropy.io import fits

import paper
import prepare_spectra
import simulate_spectra
from figures import preparation_page
from observations import orders, preparation, readers
from spectra import dataset
from spectra.transforms import LIGHT, WINDOW, degrade, to_air
from synthetic import simulation as sim
from workflow.files import UnitFailed

PUBLISHED = Path(__file__).resolve().parents[1].parent / "shared" / "published"
REAL = Path(os.environ.get("REAL_FILES", PUBLISHED / "real_files"))
PHYSICS = sim.Physics.reference()
LABELS = np.array([[3300, 4.9, -0.2, 3.0]])
SMOOTH = next(smooth for _, smooth in sim.smooth_spectra(LABELS, PHYSICS))[0]
NATIVE = np.arange(8793.5, 8842.4, 0.03)  # [Angstrom] in vacuum, in the observer's frame


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "simulated"
    assert simulate_spectra.main(["--out", str(folder), "--n-spectra", "300", "--n-observed", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def templates(synthetic):
    return preparation.load_templates(synthetic)[0]


@pytest.fixture(autouse=True)
def no_pages(monkeypatch, request):
    """Pages take longer than all the rest; one test draws them."""
    if "moving_star" not in request.node.name:
        monkeypatch.setattr(preparation_page, "write", lambda path, stars, *_: path.write_text(str(len(list(stars)))))


def observe(rv=30.0, snr=100.0, smooth=SMOOTH, seed=0, blaze=lambda x: 0.6 + 0.25 * x - 0.2 * x**2):
    """Flux of a star on NATIVE: moving, behind a blaze, in counts, with noise."""
    flux = np.interp(NATIVE, sim.WAVE * (1 + rv / LIGHT), smooth)
    noise = np.random.default_rng(seed).normal(size=len(NATIVE)) * np.sqrt(flux) / snr
    return 1e4 * (flux + noise) * blaze(np.linspace(-1, 1, len(NATIVE)))


def write(path, flux, wave=None):
    """A CSV in air without errors, as a new user has it."""
    wave = to_air(NATIVE) if wave is None else wave
    pd.DataFrame({"wavelength_air": wave, "flux": flux}).to_csv(path, index=False)
    return path


def run(out, synthetic, *files, extra=("--resolution", str(paper.RESOLVING_POWER), "--jobs", "1")):
    return prepare_spectra.main(["--out", str(out), "--synthetic", str(synthetic), *extra, *map(str, files)])


def prepared(flux, templates, wave=NATIVE, error=None, medium="vacuum", **settings):
    spectrum = orders.from_arrays(wave, flux, error, medium=medium, resolving_power=paper.RESOLVING_POWER)
    settings = {"continuum": "envelope", **settings}
    return preparation.prepare(spectrum, templates, preparation.Settings(**settings))


# ---------------------------------------------------------------- stars whose truth is known
def test_a_moving_star_in_air_behind_a_blaze_gives_the_prepared_array(tmp_path, synthetic, capsys):
    truth = sim.normalise(SMOOTH[None])[0]
    flux = observe()
    step = to_air(NATIVE)[1] - to_air(NATIVE)[0]
    header = fits.Header({"CRVAL1": to_air(NATIVE)[0], "CDELT1": step, "CTYPE1": "AWAV", "OBJECT": "star"})
    fits.PrimaryHDU(flux, header).writeto(tmp_path / "a.fits")
    files = [tmp_path / "a.fits", write(tmp_path / "star.csv", flux)]
    assert run(tmp_path / "out", synthetic, *files) == 0
    assert "2 of 2 files prepared, 0 left out" in capsys.readouterr().out
    found, stars = observed_of(tmp_path / "out")
    assert list(stars["karmn"]) == ["star", "star [2]"] and (stars["medium"] == "air").all()
    for row, rv, error, snr in zip(found, stars["rv"], stars["e_rv"], stars["snr"]):
        assert rv == pytest.approx(30, abs=5 * error) and error < 0.1
        assert snr == pytest.approx(100, rel=0.2)
        difference = row - truth
        assert abs(difference.mean()) < 0.004 and difference.std() < 1.1 / 100
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)
    flux_ph, labels_ph = synthetic_of(tmp_path / "out")
    assert len(flux_ph) == len(labels_ph) == 300
    note = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert note["complete"] and note["continuum"] == "envelope" and "simulated" in note["spectra"]
    assert (tmp_path / "out" / "preparation.pdf").stat().st_size > 10_000


@pytest.mark.parametrize("medium, rv", [("", 30.0), ("", -60.0), ("vacuum", 30.0)])
def test_where_nothing_is_said_of_the_medium_the_smaller_velocity_is_taken(templates, medium, rv):
    star = prepared(observe(rv), templates, medium=medium)
    other = abs(rv + preparation.AIR_AS_VACUUM)
    expected = rv if medium or abs(rv) < other else rv + preparation.AIR_AS_VACUUM
    assert star.record["rv"] == pytest.approx(expected, abs=0.3)
    assert star.record["medium"] == (medium or ("vacuum?" if abs(rv) < other else "air?"))
    np.testing.assert_allclose(star.flux, prepared(observe(rv), templates).flux, atol=1e-6)
    np.testing.assert_allclose((star.raw[0] / star.raw[1])[WINDOW], star.flux, rtol=1e-5)
    assert np.nanmax(np.abs(np.diff(star.raw[1], 2))) < 2e-6  # no kink in what the page shows


def test_an_instrument_above_is_degraded_and_one_below_degrades_the_synthetic_set(tmp_path, synthetic):
    files = [write(tmp_path / "a.csv", observe(snr=1e4))]
    sharp = np.load(synthetic / "ph_flux_norm.npy")
    assert run(tmp_path / "above", synthetic, *files, extra=("--resolution", "130000", "--jobs", "1")) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "above" / "ph_flux_norm.npy"), sharp)
    assert run(tmp_path / "below", synthetic, *files, extra=("--resolution", "55000", "--jobs", "1")) == 0
    degraded = degrade(sharp.astype(float), paper.RESOLVING_POWER, 55_000)
    np.testing.assert_allclose(np.load(tmp_path / "below" / "ph_flux_norm.npy"), degraded, atol=1e-6)
    above, below = (np.load(tmp_path / name / "carmf_norm.npy")[0] for name in ("above", "below"))
    assert above.min() > below.min() + 0.005
    assert json.loads((tmp_path / "below" / "provenance.json").read_text())["resolving_power"] == 55_000


def test_orders_that_overlap_are_merged_by_inverse_variance(templates):
    flux, error = observe(snr=1e6), np.full(len(NATIVE), 1.0)
    noisy = flux * (1 + np.random.default_rng(1).normal(0, 0.05, len(NATIVE)))
    both = prepared(np.array([flux, noisy]), templates, np.array([NATIVE] * 2), np.array([error, flux / 20]))
    np.testing.assert_allclose(both.flux, prepared(flux, templates, error=error).flux, atol=1e-3)
    blue, red = NATIVE < 8822, NATIVE > 8816
    split = np.array([np.where(blue, flux, np.nan), np.where(red, flux, np.nan)])
    parts = prepared(split, templates, np.array([NATIVE] * 2))
    assert parts.record["bad"] == 0
    assert np.std(parts.flux - both.flux) < 0.01


def test_bad_pixels_are_bridged(templates):
    flux, error = observe(snr=200), None
    plain = prepared(flux, templates, error=error).flux
    spoilt = flux.copy()
    spoilt[500], spoilt[700], spoilt[800], spoilt[900:902] = np.nan, 0, -5, 3 * spoilt[900:902]
    star = prepared(spoilt, templates)
    assert 0.003 < star.record["bad"] < 0.015
    far = np.abs(paper.WAVELENGTH[:, None] - NATIVE[[500, 700, 800, 900]] / (1 + 30 / LIGHT)).min(axis=1) > 0.15
    np.testing.assert_allclose(star.flux[far], plain[far], atol=0.004)
    assert star.flux.max() < 1.1


def test_lines_of_water_are_masked_where_the_observer_sees_them(templates):
    spectrum = orders.from_arrays(NATIVE, observe(), medium="vacuum", resolving_power=paper.RESOLVING_POWER)
    settings = preparation.Settings(continuum="envelope", telluric=True)
    for frame, share in (("observer", 4 * 2 * preparation.TELLURIC_WIDTH / 35), ("barycentre", 0)):
        seen = replace(spectrum, observation=replace(spectrum.observation, frame=frame))
        bad = preparation.prepare(seen, templates, settings).record["bad"]
        assert bad == pytest.approx(share, abs=0.004 * (share > 0))


# ---------------------------------------------------------------- bad input
def emission(flux):
    for centre in np.linspace(8803, 8833, 12):
        flux = flux + 3e4 * np.exp(-0.5 * ((NATIVE - centre) / 0.1) ** 2)
    return flux


GALAXY = 1e4 * (1 + 0.3 * np.exp(-0.5 * ((NATIVE - 8815) / 6) ** 2) + 0.1 * np.sin(NATIVE / 3))
NOISE = np.random.default_rng(5).normal(size=len(NATIVE))
BAD = {
    "gap": (np.where(np.abs(NATIVE - 8815) < 2, np.nan, observe()), r"has a gap of 4\.\d Angstrom at 881\d"),
    "filled gap": (np.where(np.abs(NATIVE - 8815) < 2, 5000, observe()), "same flux in .* saturated, or a gap"),
    "saturated": (np.minimum(observe(), np.median(observe())), "same flux in .* saturated"),
    "NaN": (np.where(NOISE > 1, np.nan, observe()), r"% bad pixels in the window, more than 3 % \(\d+ not above zero"),
    "negative": (-observe(), "no good pixels"),
    "emission lines": (emission(observe()), "continuum that falls below zero"),
    "cosmic hits": (observe() * np.where(NOISE > 1.2, 2, 1), r"% bad pixels .*\d+ above the continuum"),
    "galaxy": (GALAXY * (1 + NOISE / 100), "no peak in its cross-correlation"),
    "noise": (1e4 * (1 + NOISE / 10), "no peak in its cross-correlation"),
    "half the window": (np.where(NATIVE > 8818, np.nan, observe()), "covers .* to find its velocity"),
    "nearly the window": (np.where(NATIVE > 8831, np.nan, observe()), r"covers 8800\.0 to 883\d\.\d Angstrom of"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_spectra_are_left_out_with_the_reason(templates, name):
    flux, said = BAD[name]
    with pytest.raises(UnitFailed, match=said) as caught:
        prepared(flux, templates)
    assert "\n" not in str(caught.value)


def test_a_resolving_power_that_nobody_states_is_asked_for(templates):
    with pytest.raises(UnitFailed, match="--resolution"):
        preparation.prepare(orders.from_arrays(NATIVE, observe()), templates, preparation.Settings())


def test_one_broken_file_costs_only_itself(tmp_path, synthetic, capsys):
    good = write(tmp_path / "good.csv", observe())
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "folder").mkdir()
    bad = [tmp_path / "empty.csv", tmp_path / "folder", tmp_path / "absent.fits", write(tmp_path / "x.csv", GALAXY)]
    assert run(tmp_path / "out", synthetic, bad[0], good, *bad[1:]) == 0
    out = capsys.readouterr().out
    assert "1 of 5 files prepared, 4 left out" in out and "Traceback" not in out
    for path in bad:
        assert out.count(f"left out: {path} ") == 1
    assert list(observed_of(tmp_path / "out")[1]["karmn"]) == ["good"]
    assert run(tmp_path / "none", synthetic, *bad) == 2
    assert "none of 4 files gave a star" in capsys.readouterr().err


def test_a_folder_with_something_else_is_left_alone(tmp_path, synthetic, capsys):
    star = write(tmp_path / "a.csv", observe())
    assert run(synthetic, synthetic, star) == 2
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / "carmf_norm.npy", np.ones((2, 3)))
    assert run(other, synthetic, star) == 2
    (other / "provenance.json").write_text('{"spectra": "simulated"}')
    assert run(other, synthetic, star) == 2
    assert capsys.readouterr().err.count("choose another --out") == 3
    assert run(tmp_path / "new", tmp_path / "nothing", star) == 2


# ---------------------------------------------------------------- runs
def test_it_goes_on_from_an_interruption_and_does_nothing_twice(tmp_path, synthetic, monkeypatch, capsys):
    files = [write(tmp_path / f"{name}.csv", observe(rv, seed=rv)) for name, rv in (("a", 0), ("b", 9))]
    assert run(tmp_path / "whole", synthetic, *files) == 0
    prepare, calls = preparation.prepare, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return prepare(*arguments)

    monkeypatch.setattr(preparation, "prepare", interrupted)
    assert run(tmp_path / "out", synthetic, *files) == 130
    assert not (tmp_path / "out" / "provenance.json").exists()
    assert run(tmp_path / "out", synthetic, *files) == 0
    assert run(tmp_path / "out", synthetic, *reversed(files)) == 0
    assert len(calls) == 3
    found, stars = observed_of(tmp_path / "out")
    np.testing.assert_array_equal(found[::-1], np.load(tmp_path / "whole" / "carmf_norm.npy"))
    assert list(stars["karmn"]) == ["b", "a"]
    write(files[0], observe(5.0, seed=7))  # another spectrum under the same name
    assert run(tmp_path / "out", synthetic, *files) == 0 and len(calls) == 4


def test_files_side_by_side_give_the_same(tmp_path, synthetic, capsys):
    files = [write(tmp_path / f"{rv}.csv", observe(rv, seed=rv)) for rv in (3, 1, 2)]
    for jobs in ("1", "2"):
        assert run(tmp_path / jobs, synthetic, *files, extra=("--resolution", "94600", "--jobs", jobs)) == 0
    one, two = ([(tmp_path / jobs / name).read_bytes() for name in prepare_spectra.FILES] for jobs in ("1", "2"))
    assert one == two and list(pd.read_csv(tmp_path / "2" / "stars.csv")["karmn"]) == [3, 1, 2]


def test_interrupted_while_writing_it_is_not_taken_for_whole(tmp_path, synthetic, monkeypatch, capsys):
    star = write(tmp_path / "a.csv", observe())
    with monkeypatch.context() as patch:
        patch.setattr(prepare_spectra, "degrade_synthetic", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(tmp_path / "out", synthetic, star) == 130
    with pytest.raises(dataset.BadInput, match="prepare_spectra.py again"):
        provenance_of(tmp_path / "out")
    assert run(tmp_path / "out", synthetic, star) == 0
    assert provenance_of(tmp_path / "out").complete


# ---------------------------------------------------------------- real stars
@pytest.mark.skipif(not REAL.is_dir(), reason="no real spectra here")
def test_reality(tmp_path, synthetic, capsys):
    files = sorted(REAL.glob("*.fits"))
    assert run(tmp_path, synthetic, *files, extra=("--jobs", "1")) == 0
    out = capsys.readouterr().out
    assert "FEROS_Gl674.fits covers 5000.0 to 7000.0 Angstrom, not 8800 to 8835" in out
    assert "spectra.fits has no peak in its cross-correlation" in out  # a telluric standard, of an early type
    found, stars = observed_of(tmp_path)
    flux = dict(zip(stars["file"].str[:21], np.array(found, float)))
    barnard, rotator = stars[stars["karmn"].str.startswith("GJ_699")], stars[stars["karmn"] == "G_227-22"]
    assert len(stars) == 3 and (barnard["rv"] + 110.5).abs().max() < 0.5 and abs(rotator["rv"].iloc[0] + 0.5) < 1.5
    first, second = flux["GJ_699_Slope-20181003"], flux["GJ_699_Slope-20190319"]
    assert np.sqrt(np.mean((first - second) ** 2)) < 0.015
    named = {"GJ699_20181003": first, "GJ699_20190319": second, "G227-22": flux["G_227-22_Slope-201809"]}
    for name, star in named.items():
        path = REAL.parent / "real_spectra" / f"hpf_{name}.npz"
        if path.exists():
            with np.load(path) as reference:
                known = np.interp(paper.WAVELENGTH, reference["wave_rest_vac"], reference["flux_norm"])
            seen = known < 1.05  # the reference keeps a cosmic hit
            assert np.corrcoef(star[seen], known[seen])[0, 1] > 0.99, name


def test_reading_is_independent_of_the_name_of_the_file(tmp_path, templates):
    path = write(tmp_path / "spectrum.fits", observe())
    assert readers.read(path).form == "CSV"
