"""Files: written whole or not at all, refused in one line where they cannot be used, locked where runs may meet."""
import contextlib
import csv
import functools
import hashlib
import json
import os
import platform
import re
import secrets
import stat
import time
import unicodedata
from collections import Counter
from pathlib import Path

import filelock
import numpy as np
import pandas as pd

CHUNK = 1024  # rows computed with at a time, so that memory stays flat
ABANDONED = 7 * 86_400  # [s] after which nobody is waited for
pd.set_option("mode.string_storage", "python")  # pandas 3 would keep text otherwise wherever pyarrow is installed


class BadInput(Exception):
    """Something the user can mend. The message is one line: which file, rows or flag, and the remedy."""

    def _render_traceback_(self):
        """What a notebook shows instead of the way to where it was raised, a list of lines."""
        return [f"error: {one_line(self)}"]


class UnitFailed(BadInput):
    """One unit of work cannot be done; the others can."""


def one_line(error):
    """The message of an exception, or any text, in one line, escaped."""
    return escaped(" ".join(str(error).split()) or type(error).__name__)


def escaped(text, but=""):
    """A text in which what a terminal would obey or not show, `but` some characters, is written out."""
    return "".join(c if c.isprintable() or c in but else c.encode("unicode_escape").decode() for c in text)


def clean_name(text):
    """A name as it is known here: Unicode NFKC, without control and invisible characters, single blanks within."""
    text = "".join(c for c in unicodedata.normalize("NFKC", str(text)) if c.isspace() or c.isprintable())
    return " ".join(text.split())


def shortened(text, n_bytes):
    """The beginning of a text that takes at most so many bytes: names of files have 255."""
    return text.encode(errors="ignore")[:n_bytes].decode(errors="ignore")


# ---------------------------------------------------------------- digests
def sha256(path):
    """Hex sha256 of a file; read once as long as its inode, size and time stay the same."""
    return _digest("sha256", str(path), *state(path))


def git_blob_id(path):
    """Id that git gives to the content of a file."""
    return _digest("sha1", str(path), *state(path))


def state(path):
    """What changes whenever a file does: inode, size [bytes], and times [ns], of which only the first can be set."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, a device has no end
        raise BadInput(f"{path} is no regular file: put one there")
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@functools.cache
def _digest(algorithm, path, inode, size, *times):
    digest = hashlib.new(algorithm)
    if algorithm == "sha1":  # a git blob starts with its type and size
        digest.update(f"blob {size}\0".encode())
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 22), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def unchanged(*paths):
    """Give the digests of files, by path, to a block that reads them; refuse if it may have read two versions."""
    digests = {path: sha256(path) for path in paths if path.is_file()}  # what is not there its reader misses
    yield digests
    for path, digest in digests.items():
        if not path.exists() or sha256(path) != digest:
            raise BadInput(f"{path} was changed while it was read: run again")


# ---------------------------------------------------------------- writing
@contextlib.contextmanager
def writing(path):
    """Give a partial name to write to; rename it to `path` if all went well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_name(path.parent, path.stem, path.suffix)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.filename is not None:
            raise
        raise BadInput(f"{path} cannot be written ({one_line(error)}): free some space, or go elsewhere") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@functools.cache
def _place():
    """What tells the processes that this one can see from all others: machine, boot, and space of their numbers."""
    with contextlib.suppress(OSError):
        boot, space = Path("/proc/sys/kernel/random/boot_id").read_text(), os.stat("/proc/self/ns/pid").st_ino
        return hashlib.sha256(f"{platform.node()} {boot} {space}".encode()).hexdigest()[:12]
    if platform.system() == "Linux":  # cannot tell: nobody sweeps what this process leaves
        return secrets.token_hex(6)
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]


def partial_name(folder, stem, suffix=""):
    """Name of a file on its way, which tells `sweep` whose it is; np.save and Keras read the suffix."""
    return folder / f"{stem}.partial-{_place()}-{os.getpid()}-{secrets.token_hex(3)}{suffix}"


def sweep(folder):
    """Remove what dead processes of this machine have left half written; of other machines, what is a week old."""
    for leftover in folder.rglob("*.partial-*"):
        owner = re.search(r"\.partial-([0-9a-f]{12})-(\d+)-[0-9a-f]{6}", leftover.name)
        with contextlib.suppress(FileNotFoundError):  # another run may sweep too
            if owner and (not _alive(*owner.groups()) or time.time() - leftover.stat().st_mtime > ABANDONED):
                leftover.unlink()


def _alive(place, process):
    """Whether a process, by its place and number, may still be at work."""
    if place != _place() or os.name != "posix":  # not of here; or signal 0 is no question
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def write_json(path, content):
    """Write JSON atomically, numbers of numpy too."""
    with writing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, default=np.generic.item) + "\n")


def write_array(path, array):
    """Write a .npy file atomically."""
    with writing(path) as partial:
        np.save(partial, array)


@contextlib.contextmanager
def writing_rows(path, n_columns):
    """Give a function that appends a row to an array of float32 of this width, a .npy file written atomically."""
    with writing(path) as partial, open(partial, "wb") as file:
        n_rows, header = 0, {"descr": "<f4", "fortran_order": False}

        def append(row):
            nonlocal n_rows
            file.write(np.ascontiguousarray(row, "<f4").tobytes())
            n_rows += 1

        # numpy leaves room in the header for any number of rows
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (0, n_columns)})
        yield append
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (n_rows, n_columns)})


def write_csv(path, table):
    """Write a DataFrame atomically."""
    with writing(path) as partial:
        table.to_csv(partial, index=False)


def check_own(path, is_own):
    """Refuse to replace a file that is there and, as far as can be told, somebody else's."""
    if os.path.lexists(path) and not is_own:
        raise BadInput(f"{path} was not made by this script: move it away, or choose another folder")


@contextlib.contextmanager
def lock(folder):
    """Hold the lock of a folder, alone among all runs in it; wait for it if need be. No new folder stays empty."""
    is_new = not folder.exists()
    held = filelock.FileLock(folder / ".lock", is_singleton=True)
    try:
        _acquire(held, folder)
    except NotImplementedError:
        raise BadInput(f"{folder}: its file system has no locks (flock): use --artifacts on another one") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if is_new and os.listdir(folder) == [".lock"]:
                os.unlink(held.lock_file)
                folder.rmdir()
        held.release()


def _acquire(held, folder):
    # flock(2), let go when a process dies: on local disks, NFS, CephFS, GPFS, and Lustre mounted with -o flock
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=1)
        except filelock.Timeout:
            print(f"{folder}: waiting for another run, which writes its tables there", flush=True)
            held.acquire()
        if os.path.exists(held.lock_file):
            return
        held.release()  # that of a folder which was removed meanwhile


# ---------------------------------------------------------------- reading
def read_table(path, key, remedy, once=True):
    """Read a CSV whose column `key` is text, also if it looks like "001" or "NA", in every row and, if `once`, once."""

    def refuse(what):
        raise BadInput(f"{path} {what}: {remedy}")

    try:
        if not path.is_dir():
            state(path)
        with open(path, newline="", encoding="utf-8-sig") as file:  # of a row its name is kept: there may be millions
            rows = ((number, row) for number, row in enumerate(csv.reader(file, strict=True), start=1) if row)
            heading = next(rows, (0, []))[1]
            place, names, numbers, nul, ragged = heading.index(key) if key in heading else -1, [], [], False, []
            for number, row in rows:
                nul |= "\0" in "".join(row)
                ragged += [number] * (len(row) != len(heading))
                names.append(clean_name(row[place]) if place < len(row) else "")
                numbers.append(number)
    except FileNotFoundError:
        refuse("not found")
    except IsADirectoryError:
        refuse("is a folder")
    except (UnicodeDecodeError, csv.Error) as error:
        refuse(f"is no CSV in UTF-8 ({one_line(error)})")
    if not heading:
        refuse("is empty")
    if key not in heading:
        refuse(_why_no_heading(heading, key))
    if blank := [name for name in heading if name != name.strip()]:
        refuse(f"has blanks around the heading {blank[0]!r}")
    if nul or "\0" in "".join(heading):
        refuse("has a NUL among its letters")
    if twice := sorted({name for name in heading if heading.count(name) > 1}):
        refuse(f"has the heading {twice[0]!r} twice")
    if ragged:
        refuse(f"line {ragged[0]} has not {len(heading)} cells, as the heading has ({len(ragged)} such lines)")
    if "" in names:
        refuse(f"line {numbers[names.index('')]} has no name under {key}")
    if once and (twice := [name for name, count in Counter(names).items() if count > 1]):
        refuse(f"names {', '.join(twice[:5])} twice under {key}")
    return pd.read_csv(path, encoding="utf-8-sig", index_col=False).assign(**{key: names}).astype({key: str})


def _why_no_heading(heading, key):
    if alike := [name for name in heading if name.strip().lower() == key]:
        return f"has the heading {alike[0]!r} instead of {key!r}"
    if len(heading) == 1 and key in re.split(r"[;\t ]", heading[0]):
        return f"separates its columns by {';' if ';' in heading[0] else 'blanks'} instead of commas"
    return f"has no heading {key} in its first line"


def load_array(path, ndim, remedy):
    """Open a .npy file, memory-mapped, never unpickled."""
    try:
        if not path.is_dir():
            state(path)
        with np.errstate(over="ignore"):  # an absurd shape overflows, and is refused for it
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(f"{path} not found: {remedy}") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder: {remedy}") from None
    except PermissionError:
        raise BadInput(f"{path} may not be read: give yourself the right to") from None
    except BadInput:
        raise
    except Exception as error:  # what an absurd header raises depends on the version of numpy
        pickled = any(word in str(error).lower() for word in ("pickle", "python objects")) and path.stat().st_size
        reason = "holds pickled objects, which are never loaded" if pickled else "is truncated or no .npy file"
        raise BadInput(f"{path} {reason}: {remedy}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise BadInput(f"{path} holds no plain array of numbers: {remedy}")
    if array.ndim != ndim:
        raise BadInput(f"{path} has {array.ndim} dimensions instead of {ndim}, shape {array.shape}: {remedy}")
    if path.stat().st_size != array.offset + array.nbytes:
        raise BadInput(f"{path} is longer than its header says: {remedy}")
    return array


def take(array, rows):
    """Copy rows of an array as float32; of a memory-mapped one, nothing else comes into memory.

    Those are read, not mapped: a file that is cut short meanwhile would end the process without a word.
    """
    root = array
    while isinstance(getattr(root, "base", None), np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or not array[:1].flags.c_contiguous:
        return np.array(array[rows], np.float32)
    rows = np.arange(len(array))[rows]
    taken, buffer = np.empty((len(rows), *array.shape[1:]), np.float32), np.empty(array.shape[1:], array.dtype)
    first = root.offset + array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    with open(root.filename, "rb", buffering=0) as file:
        for k, row in enumerate(rows):
            file.seek(first + int(row) * array.strides[0])
            if file.readinto(buffer) != buffer.nbytes:
                raise BadInput(f"{root.filename} became shorter while it was read: restore it and run again")
            taken[k] = buffer
    return taken


def chunks(rows):
    """Cut rows, an array of int or how many there are, into pieces of at most CHUNK, a list of arrays."""
    rows = np.arange(rows) if np.ndim(rows) == 0 else rows
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
