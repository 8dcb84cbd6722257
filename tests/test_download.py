"""The download of the published arrays, against a server on the loopback interface."""
import io
import re
import socket
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

import download
import paper
from artifacts import git_blob_id

NAMES = ["ph_pars.npy", "carmf_norm.npy", "ph_flux_norm.npy"]
FLUX = "ph_flux_norm.npy"


class Handler(BaseHTTPRequestHandler):
    """Serve `server.files`, as `server.ranges`, `server.cut` and `server.length` say."""

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
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if name in self.server.cut:
            body = body[:len(body) // 2]
        self.wfile.write(body)
        self.server.sent[name] = len(body)

    def log_message(self, *args):
        """Keep the test output clean."""


def npy(array):
    """Return the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


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
    httpd.asked, httpd.sent = [], {}
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture
def data(tmp_path):
    """Name a folder that is not there yet."""
    return tmp_path / "new" / "arrays"


def run(server, data, *flags):
    """Run the script's main against the server."""
    return download.main(["--data", str(data), "--mirror", server.url + "/", *flags])


def contents(folder):
    """Return what lies in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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


def test_published_addresses():
    assert list(download.URLS) == NAMES
    assert all(url.startswith("https://") for url in download.URLS.values())


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
    whole = download.requests.Response.iter_content

    def quiet(self, size):  # as with urllib3 before version 2
        try:
            yield from whole(self, size)
        except download.requests.RequestException:
            return

    monkeypatch.setattr(download.requests.Response, "iter_content", quiet)
    assert cut_once(server, data) > 0
    assert "connection closed after" in capsys.readouterr().err
    assert run(server, data) == 0
    assert contents(data) == server.files


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


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_file_is_not_installed(server, data, capsys, name):
    server.files[name] = npy(np.zeros((3, 5)))
    assert run(server, data) == 2
    assert sorted(contents(data)) == sorted(set(NAMES) - {name})  # the others are, and no partial file
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}: not installed") and "expected" in line and "found" in line


@pytest.mark.parametrize("content", [
    b"", b"<html>log in</html>", npy(np.zeros((50, 1000), int)), npy(np.zeros((50, 1000))) + b"x",
    npy(np.zeros((50, 1000)))[:-8], npy(np.array([{}])), b"PK\x03\x04 no zip",
], ids=["empty", "html", "integers", "longer", "shorter", "pickle", "broken zip"])
def test_what_is_no_array_of_spectra_is_refused(server, data, capsys, content):
    server.files[FLUX] = content
    assert run(server, data) == 2
    assert sorted(contents(data)) == sorted(NAMES[:2])
    assert "expected floats of shape (50, 1000), found" in capsys.readouterr().err


def zipped(member, content):
    """Return the bytes of a zip file with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


def test_a_zipped_array_is_unpacked(server, data):
    flux = server.files[FLUX]
    server.files[FLUX] = zipped(f"share/{FLUX}", flux)
    assert run(server, data) == 0
    assert contents(data) == {**server.files, FLUX: flux}


@pytest.mark.parametrize("damage", [
    lambda flux: zipped("other.npy", flux),
    lambda flux: zipped(FLUX, flux).replace(flux[5000:5016], bytes(16)),
], ids=["without the array", "damaged"])
def test_a_zip_of_no_use_is_refused(server, data, damage):
    server.files[FLUX] = damage(server.files[FLUX])
    assert run(server, data) == 2
    assert sorted(contents(data)) == sorted(NAMES[:2])


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
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(f"could not fetch {mirror}/" in line for line in lines)
    assert contents(data) == {}


@pytest.mark.parametrize("name", NAMES)
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


def test_ctrl_c_leaves_one_line(server, data, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.requests, "get", interrupted)
    assert run(server, data) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_as_a_command(server, data, tmp_path):
    """The real ids apply here, so that the small stand-ins are refused one by one."""
    script = Path(download.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "--data", str(data), "--mirror", server.url],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == NAMES
    assert "(22933, 3501)" in done.stderr and "Traceback" not in done.stderr
    assert contents(data) == {}
