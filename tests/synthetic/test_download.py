"""The download of the published arrays, against a server on the loopback interface."""
import gzip
import io
import os
import re
import socket
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import machine
import numpy as np
import pytest

import download
import paper
from workflow import web
from workflow.files import git_blob_id

NAMES = ["ph_pars.npy", "carmf_norm.npy", "ph_flux_norm.npy"]
FLUX = "ph_flux_norm.npy"


class Handler(BaseHTTPRequestHandler):
    """Serve `server.files`, as the other attributes of `server` say."""

    def do_GET(self):  # noqa: N802
        name = self.path.strip("/")
        asked = self.headers.get("Range")
        self.server.asked.append((name, asked))
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1)) if asked and self.server.ranges else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else self.server.status)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for header in self.server.headers.items():
            self.send_header(*header)
        if self.server.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if name in self.server.cut:
            body = body[:len(body) // 2]
        self.server.sent[name] = len(body)
        self.wfile.write(body)

    def log_message(self, *args):
        """Keep the test output clean."""


def npy(array):
    """Return the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def header(shape):
    """Return a .npy file of no data that states some shape."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def blob_id(content, path):
    """Return the git blob id of some bytes, by way of a scratch file."""
    path.write_bytes(content)
    return git_blob_id(path)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Serve three small arrays that stand in for the published ones."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    rng = np.random.default_rng(0)
    files = {
        "ph_pars.npy": npy(rng.random((50, 4))),
        "carmf_norm.npy": npy(rng.random((7, 500))),
        FLUX: npy(rng.random((50, 1000))),  # larger than a few chunks
    }
    monkeypatch.setattr(paper, "N_SYNTHETIC", 50)
    monkeypatch.setattr(paper, "N_PIXELS", 1000)
    monkeypatch.setattr(paper, "BLOB_ID", {n: blob_id(files[n], tmp_path / "scratch") for n in NAMES[:2]})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.files, httpd.ranges, httpd.length, httpd.cut = files, True, True, set()
    httpd.asked, httpd.sent, httpd.headers, httpd.status = [], {}, {}, 200
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    with machine.serving(httpd):
        yield httpd


@pytest.fixture
def data(tmp_path):
    """Name a folder that is not there yet."""
    return tmp_path / "new" / "arrays"


def run(server, data, *flags):
    """Run the script's main against the server."""
    return download.main(["--data", str(data), "--mirror", server.url + "/", *flags])


def contents(folder):
    """Return what lies in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.name != ".lock"}


def cut_once(server, data):
    """Leave the first part of the flux behind, as an interrupted run does; return its size."""
    server.cut = {FLUX}
    assert run(server, data) == 2
    assert not (data / FLUX).exists()
    server.cut = set()
    server.asked.clear()
    return (data / f"{FLUX}.partial").stat().st_size


def test_fetches_and_checks_all_three(server, data, capsys):
    assert run(server, data) == 0
    assert contents(data) == server.files  # and nothing partial beside them
    out = capsys.readouterr().out
    assert download.sha256(data / FLUX) in out
    assert all(paper.BLOB_ID[name] in out for name in NAMES[:2])


def test_a_second_run_asks_for_nothing(server, data, capsys):
    run(server, data)
    server.asked.clear()
    capsys.readouterr()
    assert run(server, data) == 0
    assert server.asked == []
    assert capsys.readouterr().out.count("already there") == 3


def test_resumes_with_the_remaining_bytes_only(server, data, capsys):
    have = cut_once(server, data)
    assert 0 < have < len(server.files[FLUX])
    error = capsys.readouterr().err
    assert f"could not fetch {server.url}/{FLUX}" in error and "resumes" in error

    assert run(server, data) == 0
    assert server.asked == [(FLUX, f"bytes={have}-")]
    assert server.sent[FLUX] == len(server.files[FLUX]) - have
    assert contents(data) == server.files


def test_notices_a_cut_that_the_library_does_not_report(server, data, capsys, monkeypatch):
    pieces = download.pieces

    def quiet(answer):
        try:
            yield from pieces(answer)
        except download.requests.RequestException:
            return

    monkeypatch.setattr(download, "pieces", quiet)
    assert cut_once(server, data) > 0
    assert "connection closed after" in capsys.readouterr().err
    assert run(server, data) == 0
    assert contents(data) == server.files


class Endless:
    """An answer that never ends, a byte at a time or as fast as it is read."""

    def __init__(self, piece, clock):
        self.raw, self.piece, self.clock = self, piece, clock

    def read1(self, *_, **__):
        self.clock.append(self.clock[-1] + 1)
        return self.piece


def test_server_that_sends_next_to_nothing_is_given_up(monkeypatch):
    clock = [0]
    monkeypatch.setattr(web.time, "monotonic", lambda: clock[-1])
    with pytest.raises(download.requests.ConnectionError, match="less than 1000 bytes a second"):
        for _ in web.pieces(Endless(b"x", clock)):
            assert clock[-1] < 200


def test_pipe_where_the_rest_of_a_file_should_be_is_not_waited_for(server, data, capsys):
    data.mkdir(parents=True)
    os.mkfifo(data / f"{FLUX}.partial")
    assert run(server, data) == 2
    assert "no regular file" in capsys.readouterr().err


def test_body_without_end_is_cut_off(server, data, capsys, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 10)
    monkeypatch.setattr(download, "LARGEST", dict.fromkeys(download.URLS, 100))
    assert run(server, data) == 2
    assert "more bytes than the published file has, 100 at most" in capsys.readouterr().err
    assert not any(path.stat().st_size > 200 for path in data.rglob("*") if path.is_file())


def test_zip_of_a_file_larger_than_the_published_one(server, data, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(download, "LARGEST", dict.fromkeys(download.URLS, 10_000))
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(10_001))
    monkeypatch.setitem(download.LARGEST, "x.npy", 10_000)
    with pytest.raises(download.BadInput, match="larger than 10,000 bytes"):
        download.unzip(path, "x.npy")


def test_starts_over_where_the_server_knows_no_ranges(server, data):
    have = cut_once(server, data)
    server.ranges = False
    assert run(server, data) == 0
    assert server.asked == [(FLUX, f"bytes={have}-")]
    assert contents(data) == server.files


def test_whole_partial_file_is_installed_without_its_bytes(server, data):
    data.mkdir(parents=True)
    (data / f"{FLUX}.partial").write_bytes(server.files[FLUX])  # killed just before the renaming
    assert run(server, data) == 0
    assert FLUX not in server.sent
    assert contents(data) == server.files


def test_starts_over_after_too_long_a_partial_file(server, data):
    data.mkdir(parents=True)
    (data / f"{FLUX}.partial").write_bytes(bytes(len(server.files[FLUX]) + 1))
    assert run(server, data) == 0
    assert [asked for name, asked in server.asked if name == FLUX][-1] is None
    assert contents(data) == server.files


def test_an_answer_of_unknown_length(server, data):
    server.length = False
    assert run(server, data) == 0
    assert contents(data) == server.files


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_wrong_file_is_not_installed(server, data, capsys, name):
    server.files[name] = npy(np.zeros((3, 5)))
    assert run(server, data) == 2
    assert sorted(contents(data)) == sorted(set(NAMES) - {name})  # the others are, and no partial file
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {name}: not installed") and "expected" in line and "found" in line


@pytest.mark.parametrize("content", [
    b"", b"<html>log in</html>", npy(np.zeros((50, 1000), int)), npy(np.zeros((50, 1000))) + b"x",
    npy(np.zeros((50, 1000)))[:-8], npy(np.array([{}])), header("(1" + "0" * 30 + ",)"), header("(-1, 1000)"),
    header("(" * 300), b"\x93NUMPY",
], ids=["empty", "html", "integers", "longer", "shorter", "pickle", "huge", "negative", "nested", "no header"])
def test_what_is_no_array_of_spectra_is_refused(server, data, capsys, content):
    server.files[FLUX] = content
    assert run(server, data) == 2
    assert sorted(contents(data)) == sorted(NAMES[:2])
    assert "expected floats of shape (50, 1000), found" in capsys.readouterr().err


def zipped(member, content, how=zipfile.ZIP_STORED):
    """Return the bytes of a zip file with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


def patched(content, at, **places):
    """Change two bytes in the entry of a zip: after the signature of the local, and of the central, header."""
    content = bytearray(content)
    for signature, place in ((b"PK\x03\x04", places["local"]), (b"PK\x01\x02", places["central"])):
        start = content.rindex(signature) + place
        content[start:start + 2] = at.to_bytes(2, "little")
    return bytes(content)


def spoilt(content):
    """Change some bytes in the middle."""
    half = len(content) // 2
    return content[:half] + bytes(255 - byte for byte in content[half:half + 64]) + content[half + 64:]


def test_a_zipped_array_is_unpacked(server, data):
    flux = server.files[FLUX]
    server.files[FLUX] = zipped(f"share/{FLUX}", flux, zipfile.ZIP_DEFLATED)
    assert run(server, data) == 0
    assert contents(data) == {**server.files, FLUX: flux}


ZIPS = {
    "without the array": lambda flux: zipped("other.npy", flux),
    "damaged, stored": lambda flux: spoilt(zipped(FLUX, flux)),
    "damaged, deflated": lambda flux: spoilt(zipped(FLUX, flux, zipfile.ZIP_DEFLATED)),
    "damaged, lzma": lambda flux: spoilt(zipped(FLUX, flux, zipfile.ZIP_LZMA)),
    "damaged list": lambda flux: patched(zipped(FLUX, flux), 9999, local=26, central=28),
    "encrypted": lambda flux: patched(zipped(FLUX, flux), 1, local=6, central=8),
    "unknown compression": lambda flux: patched(zipped(FLUX, flux), 97, local=8, central=10),
    "end only": lambda flux: zipped(FLUX, flux)[-22:],
    "shorter at its beginning": lambda flux: zipped(FLUX, flux)[5000:],
    "shorter at its end": lambda flux: zipped(FLUX, flux)[:-5000],
}


@pytest.mark.parametrize("case", ZIPS)
def test_a_zip_of_no_use_is_refused_and_does_not_block_the_next_run(server, data, capsys, case):
    flux = server.files[FLUX]
    server.files[FLUX] = ZIPS[case](flux)
    assert run(server, data) == 2
    assert sorted(contents(data)) == sorted(NAMES[:2])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {FLUX}: not installed and removed") and server.url in line

    server.files[FLUX] = flux
    assert run(server, data) == 0
    assert contents(data) == server.files


@pytest.mark.parametrize("status, headers", [
    (200, {"Content-Type": "text/html; charset=utf-8"}), (202, {}), (404, {}),
])
def test_an_answer_that_is_no_file_keeps_what_had_come(server, data, capsys, status, headers):
    have = cut_once(server, data)
    capsys.readouterr()
    server.ranges, server.status, server.headers = False, status, headers
    assert run(server, data) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {FLUX}: could not fetch") and str(status) in line
    assert (data / f"{FLUX}.partial").stat().st_size == have

    server.ranges, server.status, server.headers = True, 200, {}
    assert run(server, data) == 0
    assert server.asked[-1] == (FLUX, f"bytes={have}-") and contents(data) == server.files


@pytest.mark.parametrize("ranges", [True, False])
def test_a_compressed_answer_blocks_nothing(server, data, ranges):
    plain = dict(server.files)
    cut_once(server, data)
    server.ranges, server.headers = ranges, {"Content-Encoding": "gzip"}
    server.files.update({name: gzip.compress(content) for name, content in plain.items()})
    assert run(server, data) == 0
    assert contents(data) == plain


@pytest.mark.parametrize("length", ["many", "-1"])
def test_an_absurd_length_is_one_line(server, data, capsys, length):
    server.length, server.headers = False, {"Content-Length": length}
    assert run(server, data) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    server.length, server.headers = True, {}
    assert run(server, data) == 0 and contents(data) == server.files


def test_a_missing_file_does_not_keep_the_others_away(server, data, capsys):
    del server.files["ph_pars.npy"]
    assert run(server, data) == 2
    assert contents(data) == server.files
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{server.url}/ph_pars.npy" in line and "404" in line


def test_server_down(server, data, capsys):
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        mirror = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert download.main(["--data", str(data), "--mirror", mirror]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(f"{name}: could not fetch {mirror}/{name}" in line for name in NAMES)
    assert contents(data) == {}


@pytest.mark.parametrize("name", NAMES[1:])
def test_another_file_is_kept_unless_overwrite(server, data, capsys, name):
    data.mkdir(parents=True)
    (data / name).write_bytes(npy(np.zeros((3, 5))))
    assert run(server, data) == 2
    assert (data / name).read_bytes() == npy(np.zeros((3, 5)))
    assert "--overwrite" in capsys.readouterr().err

    assert run(server, data, "--overwrite") == 0
    assert contents(data) == server.files


def test_overwrite_keeps_the_old_file_until_the_new_one_is_checked(server, data):
    run(server, data)
    old = contents(data)
    server.files[FLUX] = b"<html>log in</html>"
    assert run(server, data, "--overwrite") == 2
    assert contents(data) == old


def test_simulated_folder_is_refused(server, data, capsys):
    data.mkdir(parents=True)
    (data / "provenance.json").write_text("{}")
    assert run(server, data, "--overwrite") == 2
    assert list(contents(data)) == ["provenance.json"] and server.asked == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "simulated" in line


@pytest.mark.parametrize("flag, value", [
    ("--data", ""), ("--data", __file__), ("--mirror", "ftp://example.org"),
])
def test_impossible_flags_exit_2(tmp_path, capsys, flag, value):
    with pytest.raises(SystemExit) as end:
        download.main(["--data", str(tmp_path / "out"), "--mirror", "http://127.0.0.1:9", f"{flag}={value}"])
    assert end.value.code == 2
    assert f"error: argument {flag}: " in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mirror", ["http://", "http://[::1", "http://127.0.0.1:99999"])
def test_an_address_that_cannot_be_is_one_line(data, capsys, mirror):
    assert download.main(["--data", str(data), "--mirror", mirror]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {NAMES[0]}: could not fetch {mirror.rstrip('/')}/{NAMES[0]}")


def test_a_link_to_nowhere_is_kept(server, data, capsys):
    data.mkdir(parents=True)
    (data / FLUX).symlink_to(data / "gone")
    assert run(server, data) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(data / FLUX) in line and (data / FLUX).is_symlink()


def test_ctrl_c_leaves_one_line(server, data, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.requests, "get", interrupted)
    assert run(server, data) == 130
    assert capsys.readouterr().err.count("\n") == 1


# ---------------------------------------------------------------- as a command
def start(server, data, wrapper=(), **how):
    """Start the real script. The real ids apply there, so that it refuses the small stand-ins one by one."""
    return subprocess.Popen([*wrapper, sys.executable, download.__file__, "--data", str(data), "--mirror", server.url],
                            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)


def test_as_a_command(server, data):
    process = start(server, data)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = errors.splitlines()
    assert all(f"{name}: not installed" in line for name in NAMES) and "(22933, 3501)" in line
    assert contents(data) == {}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["full", "read-only parent"])
def test_a_disk_that_refuses_is_one_line_that_names_the_path(server, tmp_path, how):
    folder = tmp_path / "disk"
    folder.mkdir()
    wrapper = machine.mounted("size=20k" if how == "full" else "ro", folder)
    process = start(server, folder / "new" if how == "read-only parent" else folder, wrapper)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = errors.splitlines()
    assert line.startswith("error: ") and str(folder) in line


@pytest.mark.slow
def test_a_full_disk_keeps_what_had_come(server, data):
    process = start(server, data, preexec_fn=machine.no_larger_than(8000))
    (line,) = process.communicate(timeout=60)[1].splitlines()
    assert line.startswith("error: ") and str(data / f"{NAMES[1]}.partial") in line
    assert (data / f"{NAMES[1]}.partial").stat().st_size == 8000
    assert run(server, data) == 0
    assert contents(data) == server.files
    assert (NAMES[1], "bytes=8000-") in server.asked
