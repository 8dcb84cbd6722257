"""Files: digests, atomic writing, leftovers, locks, rows of a mapped array, tables whose cells are what they say."""
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workflow import files
from workflow.files import BadInput


def test_hashes_follow_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert files.git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert files.sha256(path) == hashlib.sha256(b"hello\n").hexdigest()
    path.write_bytes(b"")
    assert files.git_blob_id(path) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    big = bytes(range(256)) * 20_000  # more than a block
    path.write_bytes(big)
    assert files.sha256(path) == hashlib.sha256(big).hexdigest()
    assert files.git_blob_id(path) == hashlib.sha1(b"blob 5120000\0" + big).hexdigest()


def test_failed_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "new" / "file.npy"
    files.write_array(path, np.arange(3))
    with pytest.raises(RuntimeError), files.writing(path) as partial:
        assert partial.parent == path.parent and partial.suffix == ".npy" and partial != path
        np.save(partial, np.arange(9))
        assert np.array_equal(np.load(path), np.arange(3))
        raise RuntimeError
    assert np.array_equal(np.load(path), np.arange(3))
    assert list(path.parent.iterdir()) == [path]


def test_reader_of_a_file_that_is_replaced_keeps_the_old_one(tmp_path):
    path = tmp_path / "file.npy"
    files.write_array(path, np.arange(3000))
    content = path.read_bytes()
    with open(path, "rb") as old:
        files.write_array(path, np.zeros(3))
        assert old.read() == content and np.array_equal(np.load(path), np.zeros(3))


def test_failed_writing_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "x.json", {"a": object()})
    with pytest.raises(KeyboardInterrupt), files.writing(tmp_path / "x.csv") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [slice(None), slice(2, 9, 3), np.array([9, 0, 0, 4, 7, 1, 2]), np.array([], int)])
def test_take_copies_rows_of_a_mapped_array(rows, tmp_path):
    array = np.arange(40.0).reshape(10, 4)
    np.save(tmp_path / "x.npy", array)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for of, expected in ((mapped, array), (mapped[:9, 1:], array[:9, 1:]), (array, array)):
        rows_there = rows if isinstance(rows, slice) else rows[rows < len(expected)]
        taken = files.take(of, rows_there)
        assert taken.dtype == np.float32 and np.array_equal(taken, expected[rows_there])
        assert not np.may_share_memory(taken, of)


# ---------------------------------------------------------------- leftovers
METHODOLOGY = Path(files.__file__).parents[1]
LEAVE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from workflow import files
files.partial_name(Path(sys.argv[2]), "unit_0", ".npy").touch()
print("there", flush=True)
time.sleep(float(sys.argv[3]))
"""


def leave(folder, seconds, *before):
    """Start a process that leaves a partial file and sleeps."""
    command = [*before, sys.executable, "-c", LEAVE, METHODOLOGY, folder, seconds]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    return process


def test_leftovers_of_dead_processes_are_removed_and_no_others(tmp_path):
    (tmp_path / "grid_search").mkdir()
    leave(tmp_path / "grid_search", 0).wait()
    others = [tmp_path / "partial.txt", tmp_path / "unit_8.partial-elsewhere-1-abcdef.npy"]
    for other in others:
        other.touch()
    with leave(tmp_path, 60) as at_work:
        files.sweep(tmp_path)
        assert not list((tmp_path / "grid_search").iterdir())
        assert len(list(tmp_path.glob("unit_0.partial-*"))) == 1 and all(other.exists() for other in others)
        at_work.kill()
    files.sweep(tmp_path)
    assert not list(tmp_path.glob("unit_0.partial-*")) and all(other.exists() for other in others)


def test_process_of_another_container_is_not_taken_for_dead(tmp_path):
    # Same host name, its own numbers of processes: those mean nothing here.
    isolated = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here")
    with leave(tmp_path, 60, *isolated) as at_work:
        files.sweep(tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        at_work.kill()


def test_leftovers_of_elsewhere_are_kept_for_a_week(tmp_path):
    left = {days: tmp_path / f"unit_{days}.partial-0123456789ab-7-abcdef.npy" for days in (0, 6, 8)}
    for days, path in left.items():
        path.touch()
        os.utime(path, (time.time() - days * 86_400,) * 2)
    files.sweep(tmp_path)
    assert [days for days, path in left.items() if path.exists()] == [0, 6]


# ---------------------------------------------------------------- locks
HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from workflow import files
with files.lock(Path(sys.argv[2])), files.lock(Path(sys.argv[2])):  # twice by one process is no harm
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_is_held_alone_and_let_go_by_a_killed_process(tmp_path):
    command = [sys.executable, "-c", HOLD, METHODOLOGY, tmp_path]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as waiting:
            assert "waiting for another run" in waiting.stdout.readline()
            holder.kill()
            assert waiting.stdout.readline() == "held\n"
            waiting.kill()


@pytest.mark.parametrize("before, left, stays", [
    (None, None, False), (None, "table.csv", True), ("empty", None, True), ("full", None, True)])
def test_new_folder_in_which_nothing_was_written_is_gone(before, left, stays, tmp_path):
    folder = tmp_path / "out"
    if before:
        folder.mkdir()
    if before == "full":
        (folder / "mine.txt").touch()
    with pytest.raises(BadInput), files.lock(folder), files.lock(folder):
        if left:
            (folder / left).touch()
        raise BadInput("refused")
    assert folder.exists() == stays and (not left or (folder / left).exists())


def test_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path, absent = tmp_path / "a.csv", tmp_path / "absent.csv"
    path.write_text("a")
    with files.unchanged(path, absent) as digests:
        assert list(digests) == [path]
    with pytest.raises(BadInput, match="changed while it was read"), files.unchanged(path):
        path.write_text("b")


def test_time_that_was_set_back_hides_no_change(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"first")
    before, digest = os.stat(path), files.sha256(path)
    time.sleep(0.02)
    with open(path, "r+b") as file:  # in place: the same inode
        file.write(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.sha256(path) != digest


# ---------------------------------------------------------------- arrays
def test_file_cut_short_while_it_is_read_is_one_line(tmp_path):
    path = tmp_path / "flux.npy"
    np.save(path, np.ones((1000, 500)))
    array = files.load_array(path, 2, "restore it")
    os.truncate(path, 200_000)
    with pytest.raises(BadInput, match="flux.npy became shorter while it was read"):
        files.take(array, np.arange(1000))


def with_header(path, shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    start = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    path.write_bytes(start + header.ljust(117).encode() + b"\n" + bytes(64))


@pytest.mark.parametrize("shape", ["(10**30, 3)", "(-1, 3)", "(2**62, 2**62)", "(10000000000, 350)", "()", "(1, 7)"])
def test_absurd_header_is_one_line(shape, tmp_path):
    with_header(tmp_path / "x.npy", shape)
    with pytest.raises(BadInput) as caught:
        files.load_array(tmp_path / "x.npy", 2, "fetch it again")
    assert "x.npy" in str(caught.value) and "fetch it again" in str(caught.value) and "pickle" not in str(caught.value)


# ---------------------------------------------------------------- tables
def test_names_stay_what_they_are(tmp_path):
    (tmp_path / "t.csv").write_text("\ufeffkarmn,ra\n001,1\n00E0,2\nNA,3\nnan,4\n 1e5 ,5\nTrue,\n", encoding="utf-8")
    table = files.read_table(tmp_path / "t.csv", "karmn", "mend it")
    assert table["karmn"].tolist() == ["001", "00E0", "NA", "nan", "1e5", "True"]
    assert table["ra"].tolist()[:5] == [1, 2, 3, 4, 5] and np.isnan(table["ra"][5])


TABLES = {
    "absent": (None, "not found"),
    "empty": (b"", "is empty"),
    "comma at the end of rows": (b"karmn,ra\na,1,\nb,2,\n", "line 2 has not 2 cells"),
    "short row": (b"karmn,ra\na,1\nb\n", "line 3 has not 2 cells"),
    "semicolons": (b"karmn;ra\na;1\n", "by ; instead of commas"),
    "tabs": (b"karmn\tra\na\t1\n", "by blanks instead of commas"),
    "blank in the heading": (b"ra, karmn\n1,a\n", "' karmn' instead of 'karmn'"),
    "blank in another heading": (b"karmn, ra\na,1\n", "blanks around the heading ' ra'"),
    "other case": (b"Karmn,ra\na,1\n", "'Karmn' instead of 'karmn'"),
    "no heading": (b"a,1\nb,2\n", "no heading karmn in its first line"),
    "UTF-16": ("karmn,ra\na,1\n".encode("utf-16"), "no CSV in UTF-8"),
    "Latin-1": ("karmn,ra\nÀ,1\n".encode("latin-1"), "no CSV in UTF-8"),
    "heading twice": (b"karmn,ra,ra\na,1,2\n", "'ra' twice"),
    "name twice": (b"karmn,ra\na,1\nb,2\n a,3\n", "names a twice"),
    "no name": (b"karmn,ra\na,1\n,2\n", "line 3 has no name"),
}


@pytest.mark.parametrize(("content", "reason"), TABLES.values(), ids=TABLES)
def test_table_that_cannot_be_used_says_why(content, reason, tmp_path):
    path = tmp_path / "stars.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput) as caught:
        files.read_table(path, "karmn", "mend it")
    message = str(caught.value)
    assert str(path) in message and reason in message and message.endswith("mend it") and "\n" not in message


# ---------------------------------------------------------------- notebooks
def test_notebook_shows_one_line(capsys):
    interactiveshell = pytest.importorskip("IPython.core.interactiveshell")
    shell = interactiveshell.InteractiveShell()
    shell.push({"BadInput": BadInput})
    assert not shell.run_cell("def f():\n    raise BadInput('x.csv not found:\\n make it')\nf()").success
    captured = capsys.readouterr()
    assert (captured.out + captured.err).strip() == "error: x.csv not found: make it"


def test_of_a_table_no_more_than_its_names_is_held_twice(tmp_path):
    table = pd.DataFrame({"karmn": [f"J{k}" for k in range(5000)], **{f"x{k}": 1.25 for k in range(30)}})
    files.write_csv(tmp_path / "stars.csv", table)
    files.read_table(tmp_path / "stars.csv", "karmn", "mend it")  # what is made once
    tracemalloc.start()
    read = files.read_table(tmp_path / "stars.csv", "karmn", "mend it")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(read) == 5000 and peak < 4e6  # 30 numbers a star are 1.2 MB, as text they were 9 MB
