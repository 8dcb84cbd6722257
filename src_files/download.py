"""Fetch the published arrays of Mas-Buitrago et al. 2024 (0.7 GB at most).

    python src_files/download.py
    python src_files/download.py --data /scratch/arrays --mirror https://example.org/copy

Reads   the authors' file share and repository, or MIRROR/<name> for all three files
Writes  ph_pars.npy, carmf_norm.npy, ph_flux_norm.npy   (x.npy.partial while x.npy is on its way)

The first two must have the git blob ids of the published repository. No checksum of ph_flux_norm.npy
is published: it must be a whole array of floats of the published shape, and its sha256 is printed so
that copies can be compared. An interrupted download goes on where it stopped when the same command
runs again; hence requests and not pooch, which cannot resume (it downloads to a random temporary name
that no later run finds) and knows no git blob ids.

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
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
import paper  # noqa: E402
from artifacts import git_blob_id, sha256  # noqa: E402

# The repository's paths are as of its publication; the small files come first.
REPOSITORY = "https://raw.githubusercontent.com/pedromasb/autoencoders-CARMENES/main/src_files"
URLS = {
    "ph_pars.npy": f"{REPOSITORY}/ph_pars.npy",
    "carmf_norm.npy": f"{REPOSITORY}/carmf_norm.npy",
    "ph_flux_norm.npy": "https://cloud.cab.inta-csic.es/s/bEe54r4tEDZpCtP/download",
}
TIMEOUT = (15, 60)  # [s] to connect, and between two pieces of an answer
CHUNK = 1 << 16  # [bytes]; at most this much is lost when a connection breaks


def fetch(url, partial):
    """Download `url` to the path `partial`, going on after the bytes an earlier try left there.

    Raises
    ------
    requests.RequestException
        If the server cannot be reached, answers with an error or stops early.
    """
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # byte positions mean nothing in a compressed answer
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        span = answer.headers.get("Content-Range", "")
        if have and answer.status_code == 416 and span == f"bytes */{have}":
            return  # all of it had come already
        if have and answer.status_code in (206, 416) and not span.startswith(f"bytes {have}-"):
            partial.unlink()  # these bytes are not the beginning of that file
            fetch(url, partial)
            return
        answer.raise_for_status()
        if answer.status_code != 206:
            have = 0  # the server knows no ranges and sends all of it again
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(desc=partial.stem, total=total, initial=have, unit="B", unit_scale=True, disable=None)
        with open(partial, "ab" if have else "wb") as out, bar:
            for chunk in answer.iter_content(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
    size = partial.stat().st_size
    if total not in (None, size):  # with an old urllib3 an answer cut short just ends
        raise requests.ConnectionError(f"connection closed after {size} of {total} bytes")


def unzip(path, name):
    """Replace a zip by its member `name`: a share may hand out its files wrapped in one."""
    unpacked = Path(f"{path}.unzipped")
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(m for m in archive.namelist() if Path(m).name == name)
            with archive.open(member) as source, open(unpacked, "wb") as out:
                shutil.copyfileobj(source, out)
        os.replace(unpacked, path)
    except (zipfile.BadZipFile, StopIteration):
        pass  # the zip stays, and the check that follows refuses it
    finally:
        unpacked.unlink(missing_ok=True)


def identify(path, name):
    """Say what the file `name` should be and what `path` is: two strings, equal for the published file."""
    if name in paper.BLOB_ID:
        return f"git blob id {paper.BLOB_ID[name]}", f"git blob id {git_blob_id(path)}"
    expected = f"floats of shape {(paper.N_SYNTHETIC, paper.N_PIXELS)}"
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # the header only, and never a pickle
    except ValueError as error:
        return expected, f"no whole .npy file ({error})"
    found = f"{'floats' if array.dtype.kind == 'f' else array.dtype} of shape {array.shape}"
    extra = path.stat().st_size - array.offset - array.nbytes
    return expected, found + (f" and {extra} bytes more" if extra else "")


def install(name, url, data, overwrite=False):
    """Put the published array `name` into the folder `data`, unless it is there.

    Returns
    -------
    str
        What was done and what identifies the file, in one line.

    Raises
    ------
    ValueError
        If another file has that name already, or if what came is not the published file.
    """
    final, partial = data / name, data / f"{name}.partial"
    state = "already there"
    if final.exists() and not overwrite:
        expected, found = identify(final, name)
        if found != expected:
            raise ValueError(f"another file is there and was kept (--overwrite replaces it): "
                             f"expected {expected}, found {found}")
    else:
        state = "fetched"
        fetch(url, partial)
        if zipfile.is_zipfile(partial):
            unzip(partial, name)
        expected, found = identify(partial, name)
        if found != expected:
            partial.unlink()
            raise ValueError(f"not installed, {url} has another file: expected {expected}, found {found}")
        os.replace(partial, final)
    return f"{state}, {found}" + ("" if name in paper.BLOB_ID else f", sha256 {sha256(final)}")


def main(argv=None):
    """Fetch the arrays; return 0, 2 if any of them is missing or wrong, or 130 if interrupted."""
    parser = argparse.ArgumentParser(description="Fetch the published arrays of Mas-Buitrago et al. 2024.")
    parser.add_argument("--data", type=Path, default=HERE, metavar="DIR",
                        help="folder that receives them (default: %(default)s)")
    parser.add_argument("--mirror", metavar="URL", help="take all three files from URL/<name>")
    parser.add_argument("--overwrite", action="store_true", help="fetch again and replace what is there")
    options = parser.parse_args(argv)

    if (options.data / "provenance.json").exists():
        print(f"{options.data} holds simulated spectra (provenance.json): choose another --data",
              file=sys.stderr)
        return 2
    status = 0
    for name, url in URLS.items():  # one that fails does not keep the others away
        if options.mirror:
            url = f"{options.mirror.rstrip('/')}/{name}"
        try:
            options.data.mkdir(parents=True, exist_ok=True)
            print(f"{name}: {install(name, url, options.data, options.overwrite)}", flush=True)
            continue
        except requests.RequestException as error:  # before ValueError: some are both
            line = f"could not fetch {url}; run the command again, it resumes, or name a --mirror ({error})"
        except (ValueError, OSError) as error:
            line = str(error)
        except KeyboardInterrupt:
            print(f"{name}: interrupted; the same command resumes", file=sys.stderr)
            return 130
        print(f"{name}: {line}", file=sys.stderr)
        status = 2
    return status


if __name__ == "__main__":
    sys.exit(main())
