"""The synthetic spectra from models: files of the true form, but filled by the simulator, and two real models.

No file of PHOENIX-ACES itself is read here. The two real models are trimmed and binned, and read from the folder named
by the environment variable REAL_SPECTRA, or skipped.
"""
import contextlib
import hashlib
import http.server
import json
import os
import resource
import shutil
from functools import partial
from pathlib import Path

import machine
import numpy as np
import pytest
from arrays import provenance_of, synthetic_of
from astropy.io import fits
from scipy.interpolate import RegularGridInterpolator

import paper
import phoenix_grid
from spectra import dataset
from spectra.continuum import normalise
from spectra.transforms import LIMB_DARKENING, WINDOW
from synthetic import phoenix_models, phoenix_spectra
from synthetic import simulation as sim
from synthetic.labels import label_grid

RANGES = ["--teff", "3325", "3325", "--logg", "4.8", "4.9", "--mh", "-0.2", "0", "--vsini", "1.5", "5", "--jobs", "1"]
AXES = (3300.0, 3400.0), (4.5, 5.0), (-0.5, -0.0)
NODES = [(teff, logg, mh) for teff in AXES[0] for logg in AXES[1] for mh in AXES[2]]
PHYSICS = sim.Physics.reference()
WAVE = phoenix_models.WAVE_FILE
CENTRE = phoenix_models.node_file(phoenix_models.NODE_FILE, NODES[0])


def write_fits(path, data, node=None, **header):
    """A file as PHOENIX-ACES has them: one image, the parameters in its header."""
    image = fits.PrimaryHDU(data)
    if node:
        image.header.update(dict(zip(phoenix_models.HEADER, node)))
    image.header.update(header)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.writeto(path, overwrite=True)


def flux_of(nodes):
    """Flux as large as that of stars [erg/s/cm^2/cm], and growing with Teff as theirs."""
    nodes = np.array(nodes)
    return sim.intrinsic_spectra(nodes, PHYSICS) * 1e13 * (nodes[:, :1] / 3000) ** 8


@pytest.fixture(scope="module", autouse=True)
def labels_once():
    """All labels, made once and not in each of many runs."""
    labels = label_grid()
    labels.flags.writeable = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phoenix_grid, "label_grid", lambda: labels)
        yield labels


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Eight nodes, named and laid out as on the server."""
    folder = tmp_path_factory.mktemp("models")
    write_fits(folder / WAVE, sim.WAVE.astype(">f8"))
    for node, flux in zip(NODES, flux_of(NODES)):
        write_fits(folder / phoenix_models.node_file(phoenix_models.NODE_FILE, node), flux.astype(">f4"), node)
    return folder


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    """The spectra between them."""
    out = tmp_path_factory.mktemp("made") / "phoenix"
    assert run(models, out) == 0
    return out


@pytest.fixture
def broken(models, tmp_path):
    """A copy of the models that a test may spoil."""
    return Path(shutil.copytree(models, tmp_path / "models"))


def run(models, out, *extra):
    return phoenix_grid.main(["--models", str(models), "--out", str(out), *RANGES, *extra])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.name != ".lock"}


def one_error(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# ---------------------------------------------------------------- the spectra
@pytest.fixture(scope="module")
def pyasl():
    """PyAstronomy's functions, which take seconds to import."""
    from PyAstronomy import pyasl

    return pyasl


def independently(pyasl, wave, flux, vsini, resolving_power=paper.RESOLVING_POWER):
    """Broadened by PyAstronomy."""
    flux = pyasl.rotBroad(wave, flux, LIMB_DARKENING, vsini, edgeHandling="firstlast")
    return pyasl.instrBroadGaussFast(wave, flux, resolving_power, edgeHandling="firstlast")


def test_spectra_are_what_other_implementations_make(pyasl, made):
    labels, flux_ph = np.load(made / "ph_pars.npy"), np.load(made / "ph_flux_norm.npy")
    interpolated = RegularGridInterpolator(AXES, flux_of(NODES).reshape(2, 2, 2, -1))
    for label, ours in list(zip(labels, flux_ph))[::6]:
        theirs = independently(pyasl, sim.WAVE, interpolated(label[:3])[0], label[3])
        theirs = normalise(theirs[sim.NORMALISED])[WINDOW]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


def test_between_the_nodes_they_are_near_the_truth(made):
    labels, flux_ph = np.load(made / "ph_pars.npy"), np.load(made / "ph_flux_norm.npy")
    for rows, smooth in sim.smooth_spectra(labels, PHYSICS):
        for row, flux in zip(rows, smooth):
            truth = normalise(flux[sim.NORMALISED])[WINDOW]
            assert np.std(flux_ph[row] - truth) < 0.004


# ---------------------------------------------------------------- files
def test_arrays_have_the_published_form_and_order(made, labels_once):
    labels = np.load(made / "ph_pars.npy")
    low, high = (3325, 4.8, -0.2, 1.5), (3325, 4.9, 0, 5)
    inside = (labels_once > np.subtract(low, 0.01)) & (labels_once < np.add(high, 0.01))
    expected = labels_once[inside.all(axis=1)]
    assert labels.tobytes() == expected.tobytes() and len(labels) == 24
    flux_ph, read = synthetic_of(made)
    assert flux_ph.shape == (len(labels), paper.N_PIXELS) and flux_ph.dtype == np.float32
    assert np.abs(np.percentile(flux_ph, 95, axis=1) - 1).max() < 0.05
    np.testing.assert_array_equal(read, labels)


def test_provenance_says_phoenix(made):
    written = json.loads((made / "provenance.json").read_text())
    assert written["spectra"] == "phoenix" and written["complete"]
    assert written["settings"]["teff"] == [3325, 3325] and written["settings"]["resolution"] == 94_600
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents(made).items()}
    assert {"provenance.json": digests["provenance.json"], **written["files"]} == digests
    assert provenance_of(made).settings == written["settings"]


def test_list_says_what_it_takes(models, tmp_path, capsys):
    assert phoenix_grid.main(["--models", str(tmp_path), "--list"]) == 0
    first, *files = capsys.readouterr().out.splitlines()
    assert first.startswith("22933 spectra need 221 files, 1.39 GB, of which 221 are not in")
    assert len(set(files)) == 221 and all(line.startswith("absent  ") for line in files)
    assert run(models, tmp_path / "out", "--list") == 0
    first, *files = capsys.readouterr().out.splitlines()
    assert "need 9 files, 0.06 GB, of which 0 " in first and not contents(tmp_path / "out")
    assert [line.split()[1] for line in files if line.startswith("there ")] == [
        WAVE, *(phoenix_models.node_file(phoenix_models.NODE_FILE, node) for node in NODES)]


def test_same_settings_do_nothing_and_others_are_refused(made, models, tmp_path, capsys):
    out = Path(shutil.copytree(made, tmp_path / "out"))
    assert run(models, out) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(models, out, "--resolution", "80000") == 2
    line = one_error(capsys)
    assert "resolution is 94600.0, not 80000.0" in line and "--overwrite" in line and contents(out) == contents(made)
    assert run(models, out, "--resolution", "80000", "--overwrite") == 0
    assert contents(out).keys() == contents(made).keys() and contents(out) != contents(made)
    assert run(models, out, "--overwrite") == 0
    assert contents(out) == contents(made)


@pytest.mark.parametrize("after", [0, 2])
def test_interrupted_it_goes_on(made, models, tmp_path, monkeypatch, after):
    calls, synthesise = [], phoenix_spectra.synthesise

    def counted(*args):
        if len(calls) == limit:
            raise KeyboardInterrupt
        calls.append(args)
        return synthesise(*args)

    monkeypatch.setattr(phoenix_spectra, "PIECE", 1)
    monkeypatch.setattr(phoenix_spectra, "synthesise", counted)
    limit = after
    assert run(models, tmp_path / "out") == 130
    assert not (tmp_path / "out" / "ph_flux_norm.npy").exists()
    limit = 99
    assert run(models, tmp_path / "out") == 0
    assert len(calls) == 4 and contents(tmp_path / "out") == contents(made)


def test_with_other_models_it_begins_anew(made, models, broken, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(phoenix_grid.Folder, "install", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(broken, out) == 130
    write_fits(broken / CENTRE, 2 * fits.getdata(broken / CENTRE), NODES[0])
    assert run(broken, out) == 0
    assert set(contents(out)) == set(contents(made))
    assert contents(out)["ph_flux_norm.npy"] != contents(made)["ph_flux_norm.npy"]


def test_jobs_change_nothing(made, models, tmp_path):
    assert run(models, tmp_path / "out", "--jobs", "2") == 0
    assert contents(tmp_path / "out") == contents(made)


def test_labels_that_are_there_already_are_no_hindrance(made, models, tmp_path):
    shutil.copy(made / "ph_pars.npy", tmp_path)
    (tmp_path / "carmf_norm.npy").write_bytes(b"observed")
    assert run(models, tmp_path) == 0
    assert contents(tmp_path) == {**contents(made), "carmf_norm.npy": b"observed"}


@pytest.mark.parametrize("name, content, words", [
    ("ph_pars.npy", b"own", "may be real"), ("provenance.json", b'{"spectra": "simulated"}', "simulated"),
])
def test_what_it_did_not_write_is_kept(models, tmp_path, capsys, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert run(models, tmp_path, "--overwrite") == 2
    assert words in one_error(capsys) and contents(tmp_path) == {name: content}


@contextlib.contextmanager
def file_size_limit(n_bytes):
    """No file becomes larger, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_line_before_the_work(models, tmp_path, capsys):
    with file_size_limit(200_000):
        assert run(models, tmp_path / "out") == 2
    assert str(tmp_path / "out" / "ph_flux_norm") in one_error(capsys) and not contents(tmp_path / "out")


# ---------------------------------------------------------------- other windows, other models
def test_other_models_in_other_steps_and_another_window(models, tmp_path):
    """Stars on wavelengths that are neither even nor those of the output, under other names."""
    wave = np.exp(np.linspace(np.log(8795), np.log(8841), 12_000))
    write_fits(tmp_path / "models" / "lambda.fits", wave)
    for node in [(3300.0, 4.0, -0.4), (3300.0, 4.0, -0.0), (3300.0, 5.0, -0.4), (3300.0, 5.0, -0.0),
                 (3400.0, 4.0, -0.4), (3400.0, 4.0, -0.0), (3400.0, 5.0, -0.4), (3400.0, 5.0, -0.0)]:
        flux = np.interp(wave, sim.WAVE, flux_of([node])[0])
        write_fits(tmp_path / "models" / "t{:d}g{:.1f}m{:.1f}.fits".format(int(node[0]), *node[1:]), flux, node)
    out = tmp_path / "out"
    assert run(tmp_path / "models", out, "--window", "8803", "8831.5", "--wave", "lambda.fits",
               "--pattern", "t{teff:d}g{logg:.1f}m{mh:.1f}.fits", "--steps", "100", "1", "0.4") == 0
    flux_ph, labels = synthetic_of(out)
    assert flux_ph.shape[1] == 2851
    truth = sim.synthesise(labels, PHYSICS)[:, 300:3151]
    assert np.std(flux_ph - truth) < 0.015
    high_passed = [np.gradient(flux, axis=1).ravel() for flux in (flux_ph, truth)]
    assert np.corrcoef(high_passed)[0, 1] > 0.997


def test_lower_resolution_makes_shallower_lines(made, models, tmp_path):
    assert run(models, tmp_path / "out", "--resolution", "20000") == 0
    provenance = provenance_of(tmp_path / "out")  # from which prepare_spectra.py knows how sharp they are
    assert dataset.resolving_power_of(provenance) == 20_000 and provenance.continuum == "gisic"
    shallow, deep = (np.load(folder / "ph_flux_norm.npy").min(axis=1) for folder in (tmp_path / "out", made))
    assert np.all(shallow > deep + 0.05)


@pytest.mark.skipif("REAL_SPECTRA" not in os.environ, reason="no folder of real spectra")
@pytest.mark.parametrize("teff", [2500, 2800])
def test_real_models(pyasl, tmp_path, teff):
    """PHOENIX-ACES itself, but for its resolving power of 94,600 and its steps of 0.033 Angstrom."""
    model = np.load(Path(os.environ["REAL_SPECTRA"]) / f"phoenix_aces_T{teff}_g5.00_z0.0_R94600.npz")
    node = (float(teff), 5.0, -0.0)
    write_fits(tmp_path / WAVE, model["wave_vac"])
    path = tmp_path / phoenix_models.node_file(phoenix_models.NODE_FILE, node)
    write_fits(path, model["flux"].astype(">f4"), node)
    wave = phoenix_models.read_wave(tmp_path / WAVE)
    sampling = phoenix_spectra.Sampling.of(tmp_path / WAVE, wave, (8802, 8833), paper.RESOLVING_POWER)
    flux = phoenix_models.read_node(path, node, len(wave), sampling.seen)
    fine = np.arange(wave[0], wave[-1], 0.01)
    for vsini, ours in zip((1.5, 10, 30), phoenix_spectra.synthesise([flux], [[1.5, 10, 30]], sampling)):
        theirs = independently(pyasl, fine, np.interp(fine, wave, model["flux"]), vsini)
        theirs = normalise(np.interp(sampling.normalised, fine, theirs))[500:-500]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
        assert ours.min() < 0.75


# ---------------------------------------------------------------- fetching
@pytest.fixture
def server(broken, monkeypatch):
    """The files of `broken` on the web; `asked` has the names that were asked for."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            self.server.asked.append(self.path.strip("/"))
            super().do_GET()

        def log_message(self, *args):
            """Keep the test output clean."""

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(broken)))
    httpd.asked, httpd.url = [], f"http://127.0.0.1:{httpd.server_port}"
    with machine.serving(httpd):
        yield httpd


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_fetched_models_make_the_same_spectra(made, models, server, tmp_path):
    assert run(tmp_path / "cache", tmp_path / "out", "--fetch", "--mirror", server.url) == 0
    assert contents(tmp_path / "out") == contents(made) and files_in(tmp_path / "cache") == files_in(models)
    server.asked.clear()
    assert run(tmp_path / "cache", tmp_path / "out", "--overwrite", "--fetch", "--mirror", server.url) == 0
    assert not server.asked


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("spoil, words", [
    (Path.unlink, "404"), (lambda path: path.write_text("<html>log in</html>"), "no FITS"),
    (lambda path: write_fits(path, fits.getdata(path), NODES[1]), "PHXM_H"),
], ids=["absent", "web page", "another model"])
def test_what_cannot_be_fetched_is_one_line_and_the_same_command_goes_on(
        made, models, broken, server, tmp_path, capsys, spoil, words):
    spoil(broken / CENTRE)
    arguments = tmp_path / "cache", tmp_path / "out", "--fetch", "--mirror", server.url
    assert run(*arguments) == 2
    line = one_error(capsys)
    assert words in line and f"{server.url}/{CENTRE}" in line
    assert files_in(tmp_path / "cache") == {WAVE}  # what was whole before
    shutil.copy(models / CENTRE, broken / CENTRE)
    assert run(*arguments) == 0
    assert contents(tmp_path / "out") == contents(made) and server.asked.count(WAVE) == 1


def test_model_that_does_not_end_is_cut_off(broken, server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(phoenix_models, "LARGEST", 1000)
    assert run(tmp_path / "cache", tmp_path / "out", "--fetch", "--mirror", server.url) == 2
    assert "larger than 1,000 bytes" in one_error(capsys) and not files_in(tmp_path / "cache")


def test_pipe_in_place_of_a_model_is_not_waited_for(broken, tmp_path, capsys):
    (broken / WAVE).unlink()
    os.mkfifo(broken / WAVE)
    assert run(broken, tmp_path / "out") == 2
    assert f"{WAVE} is no regular file" in one_error(capsys) and not (tmp_path / "out").exists()


def test_wavelengths_that_were_broken_before_are_named(broken, server, tmp_path, capsys):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / WAVE).write_text("none")
    assert run(tmp_path / "cache", tmp_path / "out", "--fetch", "--mirror", server.url) == 2
    assert one_error(capsys).startswith(f"error: {tmp_path / 'cache' / WAVE} is truncated or no FITS file")


def test_a_server_that_is_not_there_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert run(tmp_path / "cache", tmp_path / "out", "--fetch", "--mirror", "http://127.0.0.1:9") == 2
    assert "http://127.0.0.1:9/WAVE" in one_error(capsys) and not contents(tmp_path / "out")


def test_a_full_disk_while_fetching_is_one_line(server, tmp_path, capsys):
    with file_size_limit(30_000):
        assert run(tmp_path / "cache", tmp_path / "out", "--fetch", "--mirror", server.url) == 2
    assert str(tmp_path / "cache" / WAVE) in one_error(capsys) and not files_in(tmp_path / "cache")


# ---------------------------------------------------------------- bad input
def rewritten(name, change, **header):
    """Change the data of a file; its header stays."""

    def spoil(folder):
        data, before = fits.getdata(folder / name, header=True)
        write_fits(folder / name, change(data.copy()), **{**before, **header})

    return spoil


def with_one(value):
    def change(data):
        data[2500] = value
        return data

    return change


BAD_FILES = {
    "a gap in the nodes": (lambda folder: (folder / CENTRE).unlink(), "lacks 1 of 9 files"),
    "a folder": (lambda folder: [(folder / CENTRE).unlink(), (folder / CENTRE).mkdir()], CENTRE),
    "empty": (lambda folder: (folder / CENTRE).write_bytes(b""), "truncated or no FITS"),
    "truncated data": (lambda folder: half(folder / CENTRE), "truncated or no FITS"),
    "truncated header": (lambda folder: (folder / CENTRE).write_bytes((folder / CENTRE).read_bytes()[:1000]), CENTRE),
    "thousands of axes": (lambda folder: (folder / CENTRE).write_bytes(
        (folder / CENTRE).read_bytes().replace(b"NAXIS   =                    1", b"NAXIS   =             99999999")),
        "no spectrum"),
    "no data": (lambda folder: fits.PrimaryHDU().writeto(folder / CENTRE, overwrite=True), "no spectrum"),
    "a cube": (rewritten(CENTRE, lambda data: data.reshape(2, 50, 50)), "no spectrum"),
    **{f"header {key}": (rewritten(CENTRE, np.copy, **{key: value}), f"{key} {value} in its header")
       for key, value in (("PHXLOGG", 5.0), ("PHXTEFF", "hot"))},
    "fewer pixels": (rewritten(CENTRE, lambda data: data[1:]), "4999 pixels, the wavelengths 5000"),
    **{f"flux {value}": (rewritten(CENTRE, with_one(value)), "1 pixels in the window whose flux is not finite")
       for value in (np.nan, 0)},
    "wavelengths that end early": (rewritten(WAVE, lambda data: data - 2), "needed are 8793.9 to 8841.1"),
    "wavelengths descend": (rewritten(WAVE, lambda data: data[::-1]), "no ascending"),
    "wavelengths with NaN": (rewritten(WAVE, with_one(np.nan)), "no ascending"),
    "wavelengths too coarse": (rewritten(WAVE, lambda data: np.linspace(8000, 9000, 5000)), "too coarse"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_one_line(broken, tmp_path, capsys, case):
    spoil, words = BAD_FILES[case]
    spoil(broken)
    assert run(broken, tmp_path / "out") == 2
    line = one_error(capsys)
    assert words in line and str(broken) in line and "--" in line or "files from one" in line
    assert not contents(tmp_path / "out")


@pytest.mark.parametrize("extra", [
    ["--teff", "3325", "3300"], ["--mh", "0.05", "0.06"], ["--teff", "2325", "2325", "--logg", "4.7", "4.7"],
], ids=lambda extra: " ".join(extra))
def test_ranges_without_a_label_are_one_line(models, tmp_path, capsys, extra):
    assert run(models, tmp_path / "out", *extra) == 2
    assert "no label lies in these ranges" in one_error(capsys)


@pytest.mark.parametrize("extra", [
    ["--window", "8835", "8800"], ["--window", "8000", "9000"], ["--resolution", "nan"], ["--pattern", "model.fits"],
    ["--pattern", "{teff}{logg:q}{mh}"], ["--steps", "0", "1", "1"], ["--mirror", "ftp://x"], ["--models", __file__],
], ids=lambda extra: " ".join(extra)[-30:])
def test_impossible_settings_exit_2(models, tmp_path, capsys, extra):
    with pytest.raises(SystemExit) as end:
        run(models, tmp_path / "out", *extra)
    assert end.value.code == 2
    assert f"error: argument {extra[0]}: " in capsys.readouterr().err.splitlines()[-1]
