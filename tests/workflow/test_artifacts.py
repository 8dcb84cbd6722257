"""Units of work: seeds, sidecars, when a unit is done or stale, and what an act asks of those before it."""
import hashlib
import time
from dataclasses import replace

import numpy as np
import pytest
from units import SIMULATED, content, make_units, options, work

from workflow import files, runner, schemas
from workflow.artifacts import FINETUNED, Artifacts, chosen, collect
from workflow.files import BadInput
from workflow.units import Unit, code_digest, finish, load, read_sidecar, seed_of


@pytest.fixture
def unit(tmp_path):
    """A finished unit with one input."""
    source = tmp_path / "input.npy"
    np.save(source, np.arange(3))
    unit = Unit(tmp_path / "unit.npy", {"n": 3, "lr": 1e-4, "grid": (1, 2)}, (source,), seed=1, provenance=SIMULATED)
    work(unit, lambda: None)
    return unit


# ---------------------------------------------------------------- seeds and hashes
def test_seed_depends_on_seed_and_name_only(tmp_path):
    seeds = {seed_of(seed, f"ac_{i}") for seed in (1, 2, 42) for i in range(50)}
    assert len(seeds) == 150 and min(seeds) >= 0 and max(seeds) + 1000 < 2**31
    assert seed_of(42, "ac_0") == int(hashlib.sha256(b"42/ac_0").hexdigest()[:8], 16) // 4
    one = Unit(tmp_path / "ac_0.h5", {"lr": 1e-4}, seed=7)
    other = Unit(tmp_path / "elsewhere" / "ac_0.h5", {"lr": 1e-3}, (tmp_path / "x",), seed=7)
    assert one.own_seed == other.own_seed == seed_of(7, "ac_0")


# ---------------------------------------------------------------- done, stale, absent
def test_done_needs_file_and_sidecar(unit):
    sidecar = unit.path.with_suffix(".json")
    assert load(unit)
    kept = sidecar.read_bytes()
    sidecar.unlink()
    assert not load(unit)
    sidecar.write_bytes(kept)
    assert load(unit)
    unit.path.unlink()
    assert not load(unit)


def test_input_that_changed_while_the_unit_was_at_work_is_refused(unit):
    kept = unit.path.with_suffix(".json").read_bytes()
    again = replace(unit, seed=2)
    assert again.identity["inputs"]  # as when the work begins
    np.save(unit.inputs[0], np.arange(5))
    with pytest.raises(BadInput, match="input.npy was changed while unit was made from it"):
        finish(again, time.time(), {})
    assert unit.path.with_suffix(".json").read_bytes() == kept


def changed(unit, what):
    source = unit.inputs[0]
    if what == "input":
        np.save(source, np.arange(4))
        return unit, "input.npy"
    return {
        "setting": (replace(unit, settings={**unit.settings, "lr": 1e-3}), "lr 0.0001 there, 0.001 now"),
        "new setting": (replace(unit, settings={**unit.settings, "penalty": "live"}), "penalty None there"),
        "no setting": (replace(unit, settings={"n": 3, "grid": (1, 2)}), "lr 0.0001 there, None now"),
        "no input": (replace(unit, inputs=()), "input.npy"),
        "seed": (replace(unit, seed=2), "seed 1 there, 2 now"),
    }[what]


@pytest.mark.parametrize("what", ["setting", "new setting", "no setting", "input", "no input", "seed"])
def test_stale_unit_stops_the_run_or_is_redone(unit, what):
    other, difference = changed(unit, what)
    other = replace(other)  # as a new run would make it: a unit knows its inputs as they were when it was made
    with pytest.raises(BadInput) as caught:
        load(other)
    message = str(caught.value)
    assert str(unit.path) in message and difference in message and "--overwrite" in message and "\n" not in message
    assert message.count(" there, ") == 1  # what did not change is not named
    before = content(unit.path.parent)
    with pytest.raises(BadInput):
        runner.run([other], work, options(unit.path.parent))
    assert content(unit.path.parent) == before
    assert not load(other, stale_is_undone=True)
    assert runner.run([other], work, options(unit.path.parent, overwrite=True)) == []
    assert load(other)


def test_cheap_unit_is_redone_when_stale(unit):
    done = []

    def noting(unit, tick):
        done.append(unit.seed)
        work(unit, tick)

    for seed in (1, 2, 2):
        again = replace(unit, seed=seed)
        assert runner.run([again], noting, options(unit.path.parent), redo_stale=True) == []
        assert load(again)
    assert done == [2]


def test_require(unit, tmp_path):
    source = unit.inputs[0]
    artifacts = Artifacts(tmp_path)
    assert artifacts.require(unit.path, "autoencoder_training", [source]).name == "unit"
    with pytest.raises(BadInput, match="absent.h5 not found: run Methodology/autoencoder_training.py first"):
        artifacts.require(tmp_path / "absent.h5", "autoencoder_training")
    np.save(source, np.arange(5))
    with pytest.raises(BadInput) as caught:
        artifacts.require(unit.path, "autoencoder_training", [source])
    assert all(
        word in str(caught.value)
        for word in (str(unit.path), str(source), "same --data", "another --artifacts", "training.py --overwrite")
    )
    unit.path.with_suffix(".json").unlink()
    with pytest.raises(BadInput, match="not found"):
        artifacts.require(unit.path, "autoencoder_training")


def architecture(lr):
    return {"neurons_in": 64, "reg_par": 1e-7, "lr": lr}


def test_architectures_and_autoencoders(tmp_path):
    with pytest.raises(BadInput, match="params_final.json not found: run Methodology/autoencoder_grid_search.py"):
        Artifacts(tmp_path).made()
    files.write_json(tmp_path / "params_final.json", {"architectures": [architecture(1e-4), architecture(1e-3)]})
    provenance = schemas.Provenance(n_pixels=60)
    for i, lr in enumerate((1e-4, 1e-3)):
        path, shape = tmp_path / f"ac_{i}.h5", schemas.AutoencoderShape(64, 1e-7, 60)
        path.touch()
        finish(Unit(path, architecture(lr), provenance=provenance), time.time(), {}, network=shape)
    pretrained = lambda only: Artifacts(tmp_path).pretrained(only, [], provenance)  # noqa: E731
    assert [list(pretrained(only)[0]) for only in (None, (1,))] == [[0, 1], [1]] and not pretrained(None)[1]
    assert Artifacts(tmp_path).made() == [0, 1] and Artifacts(tmp_path).made(FINETUNED) == []
    with pytest.raises(BadInput, match="ac_0.json describes another network"):
        Artifacts(tmp_path).pretrained(None, [], schemas.Provenance(n_pixels=61))
    (tmp_path / "ac_0.h5").unlink()
    sidecars, missing = pretrained(None)
    assert list(sidecars) == [1] and "ac_0.h5 not found: run Methodology/autoencoder_training.py" in missing[0]
    files.write_json(tmp_path / "params_final.json", {"architectures": [architecture(1e-4), architecture(5e-4)]})
    with pytest.raises(BadInput, match="ac_1.h5 has not the architecture 1"):
        pretrained(None)


def test_chosen():
    assert chosen(None, 3) == [0, 1, 2] and chosen([2, 0], 3) == [2, 0] and chosen([2, 0, 2], 3) == [2, 0]
    for absent in ([3], [-1], [0, 7]):
        with pytest.raises(BadInput, match=f"--only .*{absent[-1]}: there are 3"):
            chosen(absent, 3)


def test_sidecar_says_what_made_the_file(unit):
    found = read_sidecar(unit.path)
    assert found.settings == {"n": 3, "lr": 1e-4, "grid": [1, 2]}
    assert schemas.plain(found.spectra) == schemas.plain(SIMULATED)
    assert found.seed == 1 and found.name == "unit" and found.code == code_digest()
    assert found.inputs == {"input.npy": hashlib.sha256(unit.inputs[0].read_bytes()).hexdigest()}
    assert found.metrics == {"mse": 0.3} and found.versions["numpy"] == np.__version__


# ---------------------------------------------------------------- tables
def test_collect_doubles_nothing(tmp_path):
    units = make_units(tmp_path, 3)
    runner.run(units, work, options(tmp_path))
    path = tmp_path / "mse.csv"
    table = collect(units, path, lambda unit: {"autoencoder": unit.name}, ("mse",), options(tmp_path))
    once = path.read_bytes()
    collect(units, path, lambda unit: {"autoencoder": unit.name}, ("mse",), options(tmp_path))
    assert path.read_bytes() == once
    assert list(table) == ["autoencoder", "mse", "seconds", "spectra"] and table["mse"].tolist() == [0.2, 0.3, 0.4]
    assert once.decode().splitlines()[1].startswith("unit_0,0.2,") and len(once.splitlines()) == 4
