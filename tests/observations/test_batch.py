"""From spectrum files to the arrays of the acts: simulated stars whose truth is known, and real ones where they are."""
import json
import os
import signal

import numpy as np
import pandas as pd
import pytest
from arrays import observed_of, provenance_of, synthetic_of
from astropy.io import fits
from observed import NATIVE, REAL, SMOOTH, observe, write

import paper
import prepare_spectra
import simulate_spectra
from figures import preparation_page, star_page
from observations import batch, likeness, preparation, readers
from spectra import dataset
from spectra.transforms import degrade, to_air
from synthetic import simulation as sim


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "simulated"
    assert simulate_spectra.main(["--out", str(folder), "--n-spectra", "300", "--n-observed", "2"]) == 0
    return folder


@pytest.fixture(autouse=True)
def no_pages(monkeypatch, request):
    """Pages take longer than all the rest; one test draws them."""
    if "moving_star" not in request.node.name:
        monkeypatch.setattr(preparation_page, "write", lambda path, stars, *_: path.write_text(str(len(list(stars)))))


def run(out, synthetic, *files, extra=("--resolution", str(paper.RESOLVING_POWER), "--jobs", "1")):
    return prepare_spectra.main(["--out", str(out), "--synthetic", str(synthetic), *extra, *map(str, files)])


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
        assert rv == pytest.approx(30, abs=0.3) and error < 0.4
        assert snr == pytest.approx(100, rel=0.2)
        difference = row - truth
        assert abs(difference.mean()) < 0.004 and difference.std() < 1.1 / 100
    np.testing.assert_allclose(found[0], found[1], atol=2e-3)
    flux_ph, labels_ph = synthetic_of(tmp_path / "out")
    assert len(flux_ph) == len(labels_ph) == 300
    note = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert note["complete"] and note["continuum"] == "envelope" and "simulated" in note["spectra"]
    assert (tmp_path / "out" / "preparation.pdf").stat().st_size > 10_000


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


def test_one_broken_file_costs_only_itself(tmp_path, synthetic, capsys):
    good = write(tmp_path / "good.csv", observe())
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "folder").mkdir()
    bad = [tmp_path / "empty.csv", tmp_path / "folder", tmp_path / "absent.fits", write(tmp_path / "x.csv", -observe())]
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
def test_name_of_a_file_that_is_no_unicode_is_written_out(tmp_path, synthetic):
    path = write(tmp_path / os.fsdecode(b"st\xffar.csv"), observe())
    assert run(tmp_path / "out", synthetic, path) == 0
    stars = pd.read_csv(tmp_path / "out" / "stars.csv")
    assert list(stars["karmn"]) == ["star"] and list(stars["file"]) == ["st\\udcffar.csv"]


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


def of_another_star(kept, other):
    kept.write_bytes(other.read_bytes())


def other_flux(kept, _):
    with np.load(kept) as stored:
        np.savez(kept, **{**stored, "flux": stored["flux"] * 0.9})


def other_record(kept, _):
    with np.load(kept) as stored:
        np.savez(kept, **{**stored, "record": str(stored["record"]).replace('"rv": ', '"rv": 9')})


SPOILT = {"another star's": of_another_star, "other flux": other_flux, "other record": other_record,
          "empty": lambda kept, _: kept.write_bytes(b""), "no archive": lambda kept, _: kept.write_text("PK"),
          "cut short": lambda kept, _: kept.write_bytes(kept.read_bytes()[:-300]),
          "gone": lambda kept, _: kept.unlink()}


def test_what_was_kept_is_not_believed_once_it_was_changed(tmp_path, synthetic):
    stars = [write(tmp_path / f"{name}.csv", observe(rv, seed=rv)) for name, rv in (("a", 0), ("b", 9))]
    assert run(tmp_path / "out", synthetic, *stars) == 0
    names = "carmf_norm.npy", "stars.csv"
    whole = [(tmp_path / "out" / name).read_bytes() for name in names]
    for what, spoil in SPOILT.items():
        spoil(*sorted((tmp_path / "out" / "prepared").glob("*.npz")))
        assert run(tmp_path / "out", synthetic, *stars) == 0, what
        assert [(tmp_path / "out" / name).read_bytes() for name in names] == whole, what


@pytest.mark.slow
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


# ---------------------------------------------------------------- very many
def with_power(path, power, seed):
    header = fits.Header({"CRVAL1": NATIVE[0], "CDELT1": 0.03, "CTYPE1": "WAVE", "SPEC_RES": power})
    fits.PrimaryHDU(observe(seed=seed), header).writeto(path)
    return path


@pytest.mark.parametrize("powers, target, reads", [
    ([94_600, 120_000, 94_600], 94_600, 3), ([55_000, 55_000, 55_000], 55_000, 4),
    ([94_600, 60_000, 50_000], 50_000, 2 + 3 + 3 + 3),  # all are asked when two powers are below the synthetic set's
])
def test_a_file_is_read_once_unless_it_lowers_the_resolving_power_of_all(powers, target, reads, tmp_path, synthetic,
                                                                         monkeypatch):
    files = [with_power(tmp_path / f"{k}.fits", power, k) for k, power in enumerate(powers)]
    calls, read = [], readers.read
    monkeypatch.setattr(readers, "read", lambda path, *arguments: calls.append(path) or read(path, *arguments))
    assert run(tmp_path / "out", synthetic, *files, extra=("--jobs", "1")) == 0
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["resolving_power"] == target
    assert len(calls) == reads and len(observed_of(tmp_path / "out")[1]) == len(files)


class Files(list):
    """Paths that count how often somebody goes through all of them."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


@pytest.mark.parametrize("n_files", [3, 300])
def test_files_are_held_against_those_before_in_one_go(n_files, tmp_path, synthetic):
    files = Files(tmp_path / f"{k}.csv" for k in range(n_files))
    note = {"spectra": "own, simulated training set", "preparation": batch.VERSION,
            "sources": {str(path): "0" * 64 for path in files}}
    (tmp_path / "provenance.json").write_text(json.dumps(note))
    before = files.times
    assert len(prepare_spectra.check_folder(tmp_path, synthetic, files, overwrite=False)) == n_files
    assert files.times - before <= 2


def test_files_may_be_named_in_a_list(tmp_path, synthetic):
    paths = [write(tmp_path / f"{name}.csv", observe()) for name in "ab"]
    (tmp_path / "list").write_text("".join(f"{path}\n" for path in paths))
    assert run(tmp_path / "out", synthetic, f"@{tmp_path / 'list'}") == 0
    assert list(observed_of(tmp_path / "out")[1]["karmn"]) == ["a", "b"]


@pytest.mark.parametrize("wish, pages", [((), 2), (("--pages", "none"), 0), (("--pages", "all"), 3)])
def test_pages_are_of_odd_stars_where_there_are_many(wish, pages, tmp_path, synthetic, monkeypatch):
    monkeypatch.setattr(star_page, "MOST", 2)
    monkeypatch.setattr(likeness, "flags", lambda *_: ["giant"])
    files = [write(tmp_path / f"{name}.csv", observe()) for name in "abc"]
    assert run(tmp_path / "out", synthetic, *files, extra=("--resolution", "94600", "--jobs", "1", *wish)) == 0
    path = tmp_path / "out" / "preparation.pdf"
    assert path.exists() == bool(pages) and (not pages or path.read_text() == str(pages))


def kill(path, *_):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_is_one_line(tmp_path, synthetic, monkeypatch, capsys):
    files = [write(tmp_path / f"{name}.csv", observe()) for name in "ab"]
    monkeypatch.setattr(batch, "_prepared", kill)
    assert run(tmp_path / "out", synthetic, *files, extra=("--resolution", "94600", "--jobs", "2")) == 2
    assert "error: stars: a process was killed, for lack of memory perhaps: the same command" in capsys.readouterr().err


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


@pytest.mark.parametrize("powers, instruments, left, warned", [
    ([40_000], "a", ["blunt-lines warm"], False), ([40_000, 80_000], "aa", ["warm", "warm"], False),
    ([40_000, 80_000], "ab", ["blunt-lines warm", "warm"], False),
    ([40_000] * 5, "aaaaa", ["blunt-lines warm"] * 5, True), ([40_000] * 4 + [80_000], "aaaaa", ["warm"] * 5, False),
])
def test_blunt_lines_are_rotation_where_another_star_of_the_instrument_has_sharp_ones(
        powers, instruments, left, warned, capsys):
    records = [{"instrument": name, "resolving_power": 94_600, "line_power": power, "odd": "blunt-lines warm"}
               for power, name in zip(powers, instruments)]
    lines = batch.Lines(94_600)
    for record in records:
        lines.count(record)
    lines.warn()
    assert [lines.odd(record) for record in records] == left
    assert ("--resolution" in capsys.readouterr().out) == warned
