"""A folder that is written as a whole: what it replaces, what it never touches, and what an interruption leaves."""
import hashlib
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthetic.folder import Folder
from workflow.files import BadInput

NAMES = ("flux.npy", "stars.csv")
FLUX, STARS = np.arange(6.0), pd.DataFrame({"karmn": ["J1", "J2"]})
MARK = {"spectra": "simulated", "gap": 1.0}


def folder(path, **settings):
    return Folder(path, NAMES, {**MARK, **settings})


def write(target):
    target.begin()
    target.install(FLUX, STARS)


def contents(path):
    return {file.name: file.is_symlink() or file.read_bytes() for file in path.iterdir()} if path.is_dir() else {}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected")
    write(folder(path))
    return contents(path)


def own(name, content=b"own"):
    return lambda path: (path / name).write_bytes(content)


def written(path, **keys):
    """What the script wrote, and what provenance.json says changed; None takes a key out."""
    write(folder(path))
    note = path / "provenance.json"
    said = {**json.loads(note.read_text()), **keys}
    note.write_text(json.dumps({key: value for key, value in said.items() if value is not None}))


def changed(name, **keys):
    def spoil(path):
        written(path, **keys)
        (path / name).write_bytes((path / name).read_bytes()[:-1] + b"x")

    return spoil


NEVER = {  # what lies in the folder, and what the message must say: with --overwrite too
    **{f"own {name}": (own(name), "may be real") for name in NAMES},
    "a link to nowhere": (lambda path: (path / NAMES[0]).symlink_to("gone"), "may be real"),
    "an array of another instrument": (lambda path: [
        own(NAMES[0])(path), own("provenance.json", b'{"spectra": "my instrument"}')(path)], "my instrument"),
    "no word": (own("provenance.json", b"{}"), "may be real"),
    "no JSON": (own("provenance.json", b"spectra: simulated"), "no JSON"),
    "not UTF-8": (own("provenance.json", b"\xff"), "no JSON"),
    "wrong type": (own("provenance.json", b'{"spectra": "simulated", "gap": "wide"}'), "gap"),
    "no digest": (own("provenance.json", b'{"spectra": "simulated", "files": {"stars.csv": 1}}'), "files"),
}
NOT_WITHOUT_OVERWRITE = {
    **{f"changed {name}": (changed(name), name) for name in NAMES},
    "changed after an interruption": (changed("stars.csv", complete=False), "stars.csv"),
    "a mark and nothing more": (lambda path: [own(NAMES[0])(path), own("provenance.json", b'{"spectra": "simulated"}')(
        path)], "--overwrite"),
    "no digests": (lambda path: written(path, files=None), NAMES[0]),
    "other settings": (lambda path: written(path, gap=0.5), "gap is 0.5, not 1.0"),
    "another resolving power": (lambda path: written(path, resolving_power=5e4), "not that of CARMENES"),
}


@pytest.mark.parametrize("case", NEVER)
def test_what_it_did_not_write_is_never_replaced(tmp_path, case):
    lay, words = NEVER[case]
    lay(tmp_path)
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(BadInput, match=words) as refused:
            replace(folder(tmp_path), overwrite=overwrite).is_done()
        assert str(tmp_path) in str(refused.value) and "--out" in str(refused.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("case", NOT_WITHOUT_OVERWRITE)
def test_what_was_changed_is_replaced_on_demand_alone(tmp_path, expected, case):
    lay, words = NOT_WITHOUT_OVERWRITE[case]
    lay(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(BadInput, match=words) as refused:
        folder(tmp_path).is_done()
    assert str(tmp_path) in str(refused.value) and "--overwrite" in str(refused.value) and contents(tmp_path) == before
    write(replace(folder(tmp_path), overwrite=True))
    assert contents(tmp_path) == expected


def test_provenance_has_the_mark_and_the_digests(tmp_path):
    write(folder(tmp_path))
    digests = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in NAMES}
    assert json.loads((tmp_path / "provenance.json").read_text()) == {**MARK, "complete": True, "files": digests}


def test_what_is_there_is_done_and_what_is_gone_is_made_again(tmp_path, expected):
    assert not folder(tmp_path / "new").is_done() and not (tmp_path / "new").exists()
    write(folder(tmp_path))
    assert folder(tmp_path).is_done()
    for name in NAMES:
        (tmp_path / name).unlink()
        assert not folder(tmp_path).is_done()
        write(folder(tmp_path))
        assert contents(tmp_path) == expected


def test_what_is_given_may_lie_there_already(tmp_path):
    np.save(tmp_path / NAMES[0], FLUX)
    with pytest.raises(BadInput, match="may be real"):
        folder(tmp_path).is_done()
    for array in (FLUX + 1, FLUX.astype(np.float32)):
        with pytest.raises(BadInput, match="may be real"):
            replace(folder(tmp_path), given={NAMES[0]: array}).is_done()
    assert not replace(folder(tmp_path), given={NAMES[0]: FLUX}).is_done()


def test_what_came_meanwhile_is_kept(tmp_path):
    target = folder(tmp_path)
    assert not target.is_done()
    (tmp_path / "stars.csv").write_text("mine")
    with pytest.raises(BadInput, match="may be real"):
        write(target)
    assert contents(tmp_path) == {"stars.csv": b"mine"}


def interrupt(patch, n, after):
    """Raise KeyboardInterrupt before or after the n-th renaming or removal of a file."""
    step = itertools.count(1)

    def around(function, counts):
        def trapped(path, *args, **kwargs):
            now = counts(path) and next(step) == n
            if now and not after:
                raise KeyboardInterrupt
            function(path, *args, **kwargs)
            if now:
                raise KeyboardInterrupt

        return trapped

    patch.setattr(os, "replace", around(os.replace, lambda path: True))
    patch.setattr(Path, "unlink", around(Path.unlink, lambda path: path.name in NAMES))  # others are tidied up


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_interrupted_anywhere_it_goes_on(tmp_path, expected, monkeypatch, overwrite, after):
    for n in itertools.count(1):
        path = tmp_path / str(n)
        if overwrite:
            folder(path, gap=0.5).begin()
            folder(path, gap=0.5).install(FLUX + 1, STARS)
        with monkeypatch.context() as patch:
            interrupt(patch, n, after)
            try:
                write(replace(folder(path), overwrite=overwrite))
                break
            except KeyboardInterrupt:
                pass
        assert not list(path.glob("*.partial*"))
        digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in NAMES
                   if (path / name).exists()}
        note = path / "provenance.json"
        said = json.loads(note.read_text()) if digests else {"gap": None}
        assert digests.items() <= said.get("files", {}).items()
        untouched = said["gap"] == 0.5  # then it is complete, and another
        target = replace(folder(path), overwrite=untouched)
        if not target.is_done():
            write(target)
        assert contents(path) == expected
    assert n > 6
