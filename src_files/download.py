"""Fetch the published arrays of Mas-Buitrago et al. 2024 (0.7 GB at most).

    python src_files/download.py
    python src_files/download.py --data /scratch/arrays --mirror https://example.org/copy

Reads   the authors' file share and repository, or MIRROR/<name> for all three files
Writes  ph_pars.npy, carmf_norm.npy, ph_flux_norm.npy   (x.npy.partial while x.npy is on its way)

The first two must have the git blob ids of the published repository. No checksum of ph_flux_norm.npy
is published: it must be a whole array of floats of the published shape, and its sha256 is printed so
that copies can be compared. An interrupted download goes on where it stopped when the same command
runs again.

The published arrays carry no licence and are not redistributed here.
"""
import argparse
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import requests

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
import paper
from workflow.command_line import address, command, folder
from workflow.files import BadInput, git_blob_id, lock, one_line, sha256, state
from workflow.progress import progress_bar
from workflow.web import TIMEOUT, pieces

# The repository's paths are as of its publication; the small files come first.
REPOSITORY = "https://raw.githubusercontent.com/pedromasb/autoencoders-CARMENES/main/src_files"
URLS = {**{name: f"{REPOSITORY}/{name}" for name in ("ph_pars.npy", "carmf_norm.npy")},
        "ph_flux_norm.npy": "https://cloud.cab.inta-csic.es/s/bEe54r4tEDZpCtP/download"}
LARGEST = {  # [bytes] of the published arrays, were they of 8 bytes a number
    "ph_pars.npy": 8 * paper.N_SYNTHETIC * len(paper.PARAMETERS) + 1024,
    "carmf_norm.npy": 8 * paper.N_OBSERVED * paper.N_PIXELS + 1024,
    "ph_flux_norm.npy": 8 * paper.N_SYNTHETIC * paper.N_PIXELS + 1024,
}
CHUNK = 1 << 16  # [bytes]; at most this much is lost when a connection breaks


def fetch(url, partial):
    """Download `url` to the path `partial`, going on after the bytes an earlier try left there, or RequestException."""
    have = state(partial)[1] if os.path.lexists(partial) else 0
    headers = {"Accept-Encoding": "identity"}  # byte positions mean nothing in a compressed answer
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        span = answer.headers.get("Content-Range", "")
        if have and answer.status_code == 416 and span == f"bytes */{have}":
            return  # all of it had come already
        encoded = answer.headers.get("Content-Encoding", "identity") != "identity"  # though nobody asked for it
        if have and answer.status_code in (206, 416) and (encoded or not span.startswith(f"bytes {have}-")):
            partial.unlink()  # these bytes are not the beginning of that file
            return fetch(url, partial)
        answer.raise_for_status()
        kind = answer.headers.get("Content-Type", "")
        if answer.status_code not in (200, 206) or kind.startswith("text/html"):  # a log-in page, say
            raise requests.RequestException(f"answer {answer.status_code} {kind}, which is no file")
        if answer.status_code != 206:
            have = 0  # the server knows no ranges and sends all of it again
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() and not encoded else None
        bar = progress_bar(desc=partial.stem, total=total, initial=have, unit="B", unit_scale=True)
        with bar, open(partial, "ab" if have else "wb") as out:
            for chunk in pieces(answer):
                out.write(chunk)
                bar.update(len(chunk))
                if out.tell() > LARGEST[partial.stem] + CHUNK:
                    raise BadInput(f"more bytes than the published file has, {LARGEST[partial.stem]:,} at most")
    size = partial.stat().st_size
    if total not in (None, size):  # with an old urllib3 an answer cut short just ends
        raise requests.ConnectionError(f"connection closed after {size} of {total} bytes")


def unzip(path, name):
    """Replace a zip by its member `name`: a share may hand out its files wrapped in one."""
    unpacked = Path(f"{path}.unzipped")
    try:
        with zipfile.ZipFile(path) as archive:
            member = next((member for member in archive.namelist() if Path(member).name == name), "")
            if archive.getinfo(member).file_size > LARGEST[name]:
                raise ValueError(f"larger than {LARGEST[name]:,} bytes")
            with archive.open(member) as source:
                while source.read(CHUNK):  # all of it, so that what fails below is the disk
                    pass
    except Exception as error:  # zipfile raises a dozen kinds
        raise BadInput(f"a zip from which {name} cannot be unpacked ({one_line(error)})") from None
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as source, open(unpacked, "wb") as out:
            shutil.copyfileobj(source, out)
        os.replace(unpacked, path)
    finally:
        unpacked.unlink(missing_ok=True)


def identify(path, name):
    """Say what the file `name` should be and what `path` is: two strings, equal for the published file."""
    if name in paper.BLOB_ID:
        return f"git blob id {paper.BLOB_ID[name]}", f"git blob id {git_blob_id(path)}"
    expected = f"floats of shape {(paper.N_SYNTHETIC, paper.N_PIXELS)}"
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # the header only, and never a pickle
    except Exception as error:  # what an absurd header raises depends on the version of numpy
        if isinstance(error, OSError) and error.filename is not None:
            raise
        return expected, f"no whole .npy file ({one_line(error)})"
    content = f"{'floats' if array.dtype.kind == 'f' else array.dtype} of shape {array.shape}"
    extra = path.stat().st_size - array.offset - array.nbytes
    return expected, content + (f" and {extra} bytes more" if extra else "")


def install(name, url, data, overwrite=False):
    """Put a published array into the folder `data`, unless it is there; say what was done, and what identifies it."""
    final, partial = data / name, data / f"{name}.partial"
    state = "already there"
    if os.path.lexists(final) and not overwrite:
        expected, content = identify(final, name)
        if content != expected:
            raise BadInput(f"another file is there and was kept (--overwrite replaces it): "
                           f"expected {expected}, found {content}")
    else:
        state = "fetched"
        try:
            fetch(url, partial)
            if zipfile.is_zipfile(partial):
                unzip(partial, name)
            expected, content = identify(partial, name)
            if content != expected:
                raise BadInput(f"expected {expected}, found {content}")
        except BadInput as error:
            partial.unlink()  # or every later run would go on from it
            raise BadInput(f"not installed and removed, {url} has another file, name a --mirror: {error}") from None
        except requests.RequestException:  # an OSError too
            raise
        except OSError as error:  # the disk refuses, and does not always say where
            raise OSError(error.errno, error.strerror, str(error.filename or partial)) from None
        os.replace(partial, final)
    return f"{state}, {content}" + ("" if name in paper.BLOB_ID else f", sha256 {sha256(final)}")


@command
def main(argv=None):
    """Fetch the arrays."""
    parser = argparse.ArgumentParser(description="Fetch the published arrays of Mas-Buitrago et al. 2024.")
    add = parser.add_argument
    add("--data", type=folder, default=HERE, metavar="DIR", help="folder that receives them (default: %(default)s)")
    add("--mirror", type=address, metavar="URL", help="take all three files from URL/<name>")
    add("--overwrite", action="store_true", help="fetch again and replace what is there")
    options = parser.parse_args(argv)
    note = options.data / "provenance.json"
    if note.exists():
        raise BadInput(f"{note} says that other spectra are there, simulated ones perhaps: choose another --data")
    problems = []
    with lock(options.data):
        for name, url in URLS.items():  # one that fails does not keep the others away
            if options.mirror:
                url = f"{options.mirror}/{name}"
            try:
                print(f"{name}: {install(name, url, options.data, options.overwrite)}", flush=True)
            except (requests.RequestException, ValueError) as error:  # urllib3 has its own for a bad address
                problems.append(f"{name}: could not fetch {url}; run the command again, it resumes, or name a --mirror "
                                f"({one_line(error)})")
            except BadInput as error:
                problems.append(f"{name}: {error}")
    if problems:
        raise BadInput("; ".join(problems))


if __name__ == "__main__":
    sys.exit(main())
