"""Files that were sorted, copied or made by two runs: never a number under a wrong name, always one line."""
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import ACTS, flags

import autoencoder_fine_tuning
import calibrate
import cnn_training
import literature
import report
from workflow import files, schemas, units

AGAIN = "another"


def sorted_stars(data):
    stars = pd.read_csv(data / "stars.csv").sort_values("teff", ascending=False)
    files.write_csv(data / "stars.csv", stars)


def swapped_stars(data):
    stars = pd.read_csv(data / "stars.csv")
    stars.loc[[2, 5], "karmn"] = stars["karmn"][[5, 2]].to_numpy()
    files.write_csv(data / "stars.csv", stars)


def renamed_star(data):
    stars = pd.read_csv(data / "stars.csv")
    stars.loc[3, "karmn"] = "J99999+999"
    files.write_csv(data / "stars.csv", stars)


def record(data):
    """Let provenance.json have the digests of the files beside it, as the scripts that make a folder do."""
    names = ("ph_flux_norm.npy", "ph_pars.npy", "carmf_norm.npy", "stars.csv")
    note = {"spectra": "simulated", "n_pixels": 60, "files": {name: files.sha256(data / name) for name in names}}
    files.write_json(data / "provenance.json", note)


def rolled(name):
    return lambda data: np.save(data / name, np.roll(np.load(data / name), 1, axis=0))


@pytest.fixture(scope="module")
def other(tiny, chain, tmp_path_factory):
    """A run of the same spectra with another seed."""
    folder = tmp_path_factory.mktemp("other")
    for act in ACTS:
        assert act.main(flags(tiny, folder, "--jobs", 1, "--seed", 7)) == 0
    return folder


def refused(main, arguments, capsys, *words):
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert all(word in line for word in words), line


# ---------------------------------------------------------------- rows and names
@pytest.mark.parametrize("change", [sorted_stars, swapped_stars, renamed_star])
def test_stars_that_changed_their_places_between_acts_3_and_4(change, copied, data, capsys):
    change(data)
    refused(cnn_training.main, flags(data, copied, "--jobs", 1), capsys, "stars of other names, or in another order")


@pytest.mark.parametrize("change", [sorted_stars, lambda data: (data / "stars.csv").unlink()])
def test_stars_that_change_while_act_4_trains_keep_their_names(change, copied, data, capsys, monkeypatch):
    before = pd.read_csv(copied / "final_estimations.csv")
    for path in [*copied.glob("cnn_*"), *copied.glob("*estimation*")]:
        path.unlink()
    train = cnn_training.train

    def training(*args, **kwargs):
        if change:
            change(data)
        return train(*args, **kwargs)

    monkeypatch.setattr(cnn_training, "train", training)
    if cnn_training.main(flags(data, copied, "--jobs", 1)) == 0:
        pd.testing.assert_frame_equal(pd.read_csv(copied / "final_estimations.csv"), before)
    else:
        assert not (copied / "final_estimations.csv").exists()


@pytest.mark.parametrize("spoil, name", [
    (rolled("ph_pars.npy"), "ph_pars.npy"), (rolled("ph_flux_norm.npy"), "ph_flux_norm.npy"),
    (rolled("carmf_norm.npy"), "carmf_norm.npy"), (sorted_stars, "stars.csv"), (swapped_stars, "stars.csv"),
])
@pytest.mark.parametrize("act", [autoencoder_fine_tuning, cnn_training])
def test_folder_that_is_not_what_its_provenance_was_written_for(spoil, name, act, data, copied, capsys):
    record(data)
    spoil(data)
    refused(act.main, flags(data, copied, "--jobs", 1, "--overwrite"), capsys, name, "provenance.json")


# ---------------------------------------------------------------- two runs in one folder
def copy(pattern):
    def copied_from(other, run):
        for path in other.glob(pattern):
            shutil.copy(path, run / path.name)

    return copied_from


def redone(other, run):
    """Act 3 again with another seed, and act 4 not."""
    for name in ("dtl_ac_0.h5", "dtl_ac_0.json", "encoded_carm_ac_0.npy", "encoded_carm_before_ac_0.npy"):
        shutil.copy(other / name, run / name)


MIXTURES = {
    "act 3 again": redone, "estimates": copy("final_estimations*"), "autoencoder": copy("ac_0.*"),
    "encodings": copy("encoded_ph_ac_0.npy"), "regressors": copy("cnn_regressor_teff_0_ac_0.*"),
    "predictions": copy("teff_estimation_*"), "fine-tuned": copy("dtl_ac_0.*"),
}


@pytest.mark.parametrize("mix", MIXTURES.values(), ids=MIXTURES)
def test_run_made_of_two_runs_is_not_reported(mix, other, copied, tiny, capsys):
    where = ["--data", str(tiny), "--artifacts", str(copied)]
    assert report.main(where) == 0
    mix(other, copied)
    refused(report.main, where, capsys, AGAIN)


def test_table_of_another_run_is_neither_compared_nor_calibrated(other, copied, tiny, capsys):
    copy("final_estimations*")(other, copied)
    table = str(copied / "final_estimations.csv")
    refused(literature.main, [table], capsys, AGAIN)
    refused(calibrate.main, [table, "--truth", str(tiny / "stars.csv")], capsys, AGAIN)


def test_picture_of_another_run_is_left_out(other, copied, tiny, capsys):
    shutil.copy(other / "summary.png", copied / "summary.png")
    assert report.main(["--data", str(tiny), "--artifacts", str(copied)]) == 0
    text = (copied / "report.md").read_text()
    assert "summary.png is of other estimates" in text and "](summary.png)" not in text


# ---------------------------------------------------------------- code
def test_units_of_other_code_are_named(copied, tiny, capsys):
    for path in copied.glob("cnn_regressor_teff_*.json"):
        sidecar = schemas.plain(schemas.read(path, schemas.Sidecar, ""))
        files.write_json(path, schemas.signed({**sidecar, "code": "0" * 64}))
    assert cnn_training.main(flags(tiny, copied, "--jobs", 1)) == 0
    assert f"made by other code (00000000) than that of today ({units.CODE[:8]})" in capsys.readouterr().out
    assert report.main(["--data", str(tiny), "--artifacts", str(copied)]) == 0
    assert "several versions of the code" in (copied / "report.md").read_text()


def test_code_that_changes_while_a_unit_is_at_work_did_not_make_it(tmp_path, monkeypatch):
    unit = units.Unit(tmp_path / "unit.npy", {})
    np.save(unit.path, np.zeros(3))
    monkeypatch.setattr(units, "code_digest", lambda: "1" * 64)
    units.finish(unit, 0, {})
    assert units.read_sidecar(unit.path).code == units.CODE


def test_names_in_a_sidecar_lead_nowhere_else(copied, tiny, capsys):
    path = copied / "dtl_ac_0.json"
    sidecar = schemas.plain(schemas.read(path, schemas.Sidecar, ""))
    files.write_json(path, schemas.signed({**sidecar, "outputs": {"../../x": "0" * 64}}))
    refused(cnn_training.main, flags(tiny, copied, "--jobs", 1), capsys, "dtl_ac_0.json", "delete it")


def test_settings_of_keras_are_those_of_the_program(tmp_path):
    import os
    import subprocess
    import sys

    (tmp_path / "keras.json").write_text('{"floatx": "float64", "image_data_format": "channels_first", "epsilon": 1}')
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from training.backend import keras; "
            "b = keras.backend; print(b.floatx(), b.image_data_format(), b.epsilon())")
    done = subprocess.run([sys.executable, "-c", code, str(Path(units.__file__).parents[1])], capture_output=True,
                          text=True, env={**os.environ, "KERAS_HOME": str(tmp_path)})
    assert done.stdout.split() == ["float32", "channels_last", "1e-07"]


# ---------------------------------------------------------------- what comes from outside
def fifo(path):
    import os

    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["ph_flux_norm.npy", "ph_pars.npy", "carmf_norm.npy", "stars.csv"])
def test_pipe_is_not_waited_for(name, data, copied, capsys):
    fifo(data / name)
    refused(cnn_training.main, flags(data, copied, "--jobs", 1), capsys, name, "no regular file")


def test_array_that_may_not_be_read_is_not_called_truncated(data, copied, capsys, monkeypatch):
    def forbidden(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.np, "load", forbidden)
    refused(autoencoder_fine_tuning.main, flags(data, copied, "--jobs", 1), capsys, "ph_flux_norm.npy", "may not be")


@pytest.mark.parametrize("text, said", [
    ("karmn\nJ3\nJ3\u200b\n", "names J3 twice"), ("karmn,teff\nJ1,1\x00\n", "NUL"),
    ("karmn\nJ3\n\uff2a3\n", "names J3 twice"),
    ("karmn\nJ1\nJ\u00ad1\n", "names J1 twice"), ("karmn\n \u200b\n", "no name"),
])
def test_names_that_look_alike_are_one_name(text, said, tmp_path):
    path = tmp_path / "stars.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(files.BadInput, match=said):
        files.read_table(path, "karmn", "mend it")


@pytest.mark.parametrize("given, expected", [
    (["A", "A", "A [2]"], ["A", "A [3]", "A [2]"]), (["A", "A [2]", "A"], ["A", "A [2]", "A [3]"]),
    (["A", "A\u200b", " A "], ["A", "A [2]", "A [3]"]), (["x" * 300], ["x" * 100]), (["\u200b", "B"], ["star", "B"]),
    (["A [2]", "A", "A", "A"], ["A [2]", "A", "A [3]", "A [4]"]),
])
def test_stars_are_named_once_each(given, expected):
    from observations import batch

    assert batch.name_stars(given) == expected


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\x07b", "\u202eright to left", "one\nline", "\x9b2J"])
def test_what_a_terminal_would_obey_is_escaped(text):
    shown = files.one_line(text)
    assert shown.isprintable() and "\n" not in shown


@pytest.mark.parametrize("reader", ["head -c 0", "head -n 1"])
def test_nobody_reads_on(reader, tmp_path):
    import subprocess
    import sys

    command = f"set -o pipefail; '{sys.executable}' '{literature.__file__}' | {reader} > /dev/null"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("value", ["-1.0", "inf"])
def test_uncertainty_that_is_none(value, copied, tiny, capsys):
    path = copied / "final_estimations.csv"
    table = pd.read_csv(path)
    table.loc[2, "e_Teff"] = float(value)
    files.write_csv(path, table)
    sidecar = schemas.plain(schemas.read(path.with_suffix(".json"), schemas.Estimates, ""))
    files.write_json(path.with_suffix(".json"), schemas.signed({**sidecar, "outputs": {path.name: files.sha256(path)}}))
    refused(calibrate.main, [str(path), "--truth", str(tiny / "stars.csv")], capsys, "negative or infinite")


def test_one_value_far_off_makes_no_million_bins():
    from figures import style

    values = np.r_[np.random.default_rng(1).normal(size=80), 1e12]
    assert style.n_bins(values) == 100
    assert style.n_bins(values[:-1]) == len(np.histogram_bin_edges(values[:-1], "auto")) - 1


# ---------------------------------------------------------------- two writers
@pytest.mark.slow
def test_two_simulations_at_once_into_one_folder(tmp_path):
    import subprocess
    import sys

    script = Path(units.__file__).parents[2] / "src_files" / "simulate_spectra.py"
    command = [sys.executable, str(script), "--out", str(tmp_path / "out"), "--n-spectra", "30", "--n-observed", "4"]
    both = [subprocess.Popen([*command, "--seed", seed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for seed in "12"]
    ended = [(process.communicate(timeout=120), process.returncode)[::-1] for process in both]
    assert sorted(status for status, _ in ended) == [0, 2], ended
    assert "holds others" in next(errors for status, (_, errors) in ended if status == 2)
