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
import estimate
import literature
import prepare_spectra
import report
from evaluation.run import load
from figures import style
from inference import ensemble
from spectra.dataset import Dataset
from workflow import command_line, files, schemas, units
from workflow.artifacts import Artifacts

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


@pytest.mark.slow
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


def test_stars_without_their_table_are_not_the_paper_s(data, copied, capsys):
    record(data)
    (data / "stars.csv").unlink()
    refused(autoencoder_fine_tuning.main, flags(data, copied, "--jobs", 1), capsys, "stars.csv not found")


def test_encodings_of_an_autoencoder_that_is_left_out_are_of_the_same_stars(data, copied, capsys):
    """As act 4 takes those of all autoencoders, whatever --only says."""
    swapped_stars(data)
    args = command_line.parse("", flags(data, copied), cnn_training.add_arguments)
    with pytest.raises(files.BadInput, match="stars of other names"):
        ensemble.ensembles(args, Dataset(data), Artifacts(copied))


@pytest.mark.parametrize("change", [sorted_stars, swapped_stars, renamed_star])
def test_figures_of_a_run_without_estimates_name_no_other_star(change, data, copied):
    change(data)
    for path in copied.glob("final_estimations*"):
        path.unlink()
    with pytest.raises(files.BadInput, match="stars of other names, or in another order"):
        load(data, copied).stars()


def test_lags_are_those_of_these_stars(data, copied, capsys):
    lags = pd.read_csv(copied / "lag.csv")
    files.write_csv(copied / "lag.csv", lags.assign(lag=lags["lag"] + 9))
    refused(cnn_training.main, flags(data, copied, "--jobs", 1), capsys, "lag.csv is missing or was changed")


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


def resign(path, kind, **parts):
    """Let a sidecar say something else, as if it had always said so."""
    files.write_json(path, schemas.signed({**schemas.plain(schemas.read(path, kind, "")), **parts}))


def test_run_is_called_by_the_gap_of_its_stars(copied, tiny):
    """Acts 1 and 2 do not see it, and may have been run beside other stars."""
    for name, kind in (("dtl_ac_0.json", schemas.Sidecar), ("final_estimations.json", schemas.Estimates)):
        resign(copied / name, kind, spectra={"spectra": "simulated", "seed": 42, "gap": 1.0, "gap_seed": 3})
    assert load(tiny, copied).simulation == " (seed 42, gap 1.0, gap seed 3)"


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("term,value\noffset,9\n")])
@pytest.mark.parametrize("name", ["gauge.csv", "anchors_used.csv", "corrections.png", "joint_estimations.csv"])
def test_what_a_table_names_beside_it_is_as_it_was_left(name, spoil, copied, tiny):
    folder, names = copied / "joint", ("gauge.csv", "anchors_used.csv", "corrections.png", "joint_estimations.csv")
    folder.mkdir()
    for other in names:
        (folder / other).write_text("karmn\nJ1\n")
    outputs = {other: files.sha256(folder / other) for other in names}
    sidecar = schemas.Estimates(schemas.Origin(spectra="simulated"), outputs=outputs)
    files.write_json(folder / "joint_estimations.json", schemas.signed(schemas.plain(sidecar)))
    assert len(load(tiny, copied).table(folder / "joint_estimations.csv")) == 1
    spoil(folder / name)
    with pytest.raises(files.BadInput, match=f"{name} is missing or was changed"):
        load(tiny, copied).table(folder / "joint_estimations.csv")


def test_run_that_changes_while_it_is_read_is_refused(other, copied, tiny):
    run = load(tiny, copied)
    run.refuse_change()
    for pattern in ("final_estimations*", "*estimation_*"):
        copy(pattern)(other, copied)
    with pytest.raises(files.BadInput, match="was changed while it was read|of another run"):
        run.refuse_change()


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


def test_estimates_of_other_code_are_named(copied, tiny):
    resign(copied / "final_estimations.json", schemas.Estimates, code="0" * 64)
    assert load(tiny, copied).codes == {"0" * 64, units.CODE}


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


@pytest.mark.parametrize("name", ["", ".", "..", "/", "../../x", "a\0b"])
def test_names_of_what_a_table_was_made_from_lead_nowhere(name, copied, tiny, capsys):
    resign(copied / "final_estimations.json", schemas.Estimates, inputs={name: "0" * 64})
    assert literature.main([str(copied / "final_estimations.csv")]) == 0 or "error: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", ".", "..", "/", "x" * 300])
def test_names_of_what_a_unit_left_are_names_of_files(name, copied):
    path = copied / "dtl_ac_0.json"
    resign(path, schemas.Sidecar, outputs={name: "0" * 64})
    with pytest.raises(files.BadInput, match="dtl_ac_0.json cannot be used"):
        units.read_sidecar(path)


def test_settings_of_keras_are_those_of_the_program(tmp_path):
    import os
    import subprocess
    import sys

    (tmp_path / "keras.json").write_text('{"floatx": "float64", "image_data_format": "channels_first", "epsilon": 1}')
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from training.backend import keras; "
            "b = keras.backend; print(b.floatx(), b.image_data_format(), b.epsilon()); "
            "import os; print(*[name for name in os.environ if name.startswith('KERAS_M')])")
    done = subprocess.run([sys.executable, "-c", code, str(Path(units.__file__).parents[1])], capture_output=True,
                          text=True, env={**os.environ, "KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "torch",
                               "KERAS_MAX_EPOCHS": "1", "KERAS_NNX_ENABLED": "1", "TF_USE_LEGACY_KERAS": "1"})
    assert done.stdout.split() == ["float32", "channels_last", "1e-07"]


# ---------------------------------------------------------------- what comes from outside
def fifo(path):
    import os

    path.unlink(missing_ok=True)
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


def test_words_of_others_cannot_command_the_terminal(capsys):
    @command_line.command
    def main(argv):
        print("a\x1b[31mred\u202e\udcff\tb")

    assert main() == 0
    assert capsys.readouterr().out == "a\\x1b[31mred\\u202e\\udcff\tb\n"


def test_output_that_is_closed_is_no_traceback(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    assert literature.main([]) == 0


def test_ctrl_c_while_libraries_are_imported_is_one_line(capsys):
    command_line._not_even_begun(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == command_line.INTERRUPTED + "\n"


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


def png(*chunks):
    """A PNG of 2 x 2 pixels, or as many as its header says, with further chunks."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in (*chunks, (b"IEND", b"")))


def header(width):
    import struct

    return b"IHDR", struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)


def bomb():
    import zlib

    return png(header(2), (b"zTXt", b"Description\0\0" + zlib.compress(bytes(2_000_000))))


@pytest.mark.parametrize("make", [
    fifo, lambda path: path.mkdir(), lambda path: path.write_bytes(png(header(200_000))),
    lambda path: path.write_bytes(bomb()), lambda path: path.write_text("no picture"), lambda path: None,
], ids=["pipe", "folder", "too many pixels", "text that unpacks", "text", "absent"])
def test_picture_that_cannot_be_read_is_of_no_run(make, tmp_path):
    path = tmp_path / "figure_01.png"
    make(path)
    assert style.drawn_from(path) is None


def test_many_files_of_one_name_are_numbered_at_once():
    import time

    from observations import batch

    started = time.time()
    assert batch.name_stars(["star"] * 3000)[-1] == "star [3000]" and time.time() - started < 5


@pytest.mark.parametrize("name", ["\u661f" * 100, "a" * 300, "../../x", "..", "\x1b[31m", ""])
def test_name_of_a_star_s_picture_is_one_of_a_file(name, tmp_path):
    from figures import star_page

    stem = star_page.free_name(name, set())
    with files.writing(tmp_path / f"{stem}.png") as partial:
        partial.touch()
    assert [path.name for path in tmp_path.iterdir()] == [f"{stem}.png"]


def test_one_value_far_off_makes_no_million_bins():
    from figures import style

    values = np.r_[np.random.default_rng(1).normal(size=80), 1e12]
    assert style.n_bins(values) == 100
    assert style.n_bins(values[:-1]) == len(np.histogram_bin_edges(values[:-1], "auto")) - 1


# ---------------------------------------------------------------- what is not its own
@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_page_of_the_user_s_own_is_not_replaced(name, copied, tiny, tmp_path, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("my own")
    refused(report.main, ["--data", str(tiny), "--artifacts", str(copied), "--out", str(out)], capsys, name,
            "not made by this script")
    assert (out / name).read_text() == "my own"


@pytest.mark.parametrize("more", [["--truth"], ["--anchors"]])
def test_table_of_the_user_s_own_is_not_replaced(more, copied, tiny, tmp_path, capsys):
    out = tmp_path / "mine"
    out.mkdir()
    for name in ("calibrated", "anchored"):
        (out / f"final_estimations_{name}.csv").write_text("my own")
    arguments = [str(copied / "final_estimations.csv"), *more, str(tiny / "stars.csv"), "--out", str(out)]
    refused(calibrate.main, arguments, capsys, "not made by this script")
    assert {path.read_text() for path in out.glob("*.csv")} == {"my own"}


def test_figure_of_the_user_s_own_is_not_replaced(tmp_path):
    from matplotlib.figure import Figure

    (tmp_path / "figure_08.png").write_text("my own")
    with pytest.raises(files.BadInput, match="figure_08.png was not made by this script"):
        style.save(Figure(), "figure_08", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["figure_08.png"]


def prepared(out):
    """What prepare_spectra.py leaves of the stars of other files."""
    note = {"spectra": "own", "preparation": 4, "sources": {"other.csv": "0" * 64}, "complete": True}
    files.write_json(out / "provenance.json", note)
    (out / "stars.csv").write_text("karmn\nother\n")


def estimated(out):
    """What estimate.py leaves of the stars of other files."""
    (out / "estimates.csv").write_text("karmn\nother\n")
    sidecar = schemas.Estimates(schemas.Origin(spectra="own"), inputs={"other.csv": "0" * 64})
    files.write_json(out / "estimates.json", schemas.signed(schemas.plain(sidecar)))


WRITERS = pytest.mark.parametrize("main, first", [(prepare_spectra.main, prepared), (estimate.main, estimated)])


@WRITERS
@pytest.mark.parametrize("name", ["star.csv", "elsewhere/other.csv"])
def test_stars_of_other_files_are_not_lost(main, first, name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(estimate.predictor, "select", lambda *_: None)
    first(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("a star")
    refused(main, ["--out", str(tmp_path), str(path)], capsys, "has the stars of other files, such as other.csv")


# ---------------------------------------------------------------- two writers
@WRITERS
def test_second_writer_waits_and_leaves_what_the_first_one_wrote(main, first, tmp_path, capsys, monkeypatch):
    import fcntl
    import threading

    monkeypatch.setattr(estimate.predictor, "select", lambda *_: None)
    out, left = tmp_path / "out", {}
    out.mkdir()
    held = open(out / ".lock", "w")  # as another process has it
    fcntl.flock(held, fcntl.LOCK_EX)

    def end():
        first(out)
        left.update((path.name, path.read_bytes()) for path in out.iterdir())
        held.close()

    (tmp_path / "star.csv").write_text("a star")
    threading.Timer(1.5, end).start()
    assert main(["--out", str(out), str(tmp_path / "star.csv")]) == 2
    captured = capsys.readouterr()
    assert "waiting for another run" in captured.out and "has the stars of other files" in captured.err
    assert len(left) == 3 and {path.name: path.read_bytes() for path in out.iterdir()} == left


LATER = {  # a command, where it writes, and what it is told
    "simulate_spectra": lambda run, data, out: (out, ["--out", out, "--n-spectra", 30, "--n-observed", 4]),
    "report": lambda run, data, out: (run, ["--data", data, "--artifacts", run]),
    **{name: lambda run, data, out: (run, flags(data, run, "--jobs", 1)) for name in (
        "autoencoder_grid_search", "autoencoder_training", "autoencoder_fine_tuning", "cnn_training")}}


def state(folder):
    """When each file of a folder, but its lock, was changed."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.slow
@pytest.mark.parametrize("name", LATER)
def test_command_waits_for_the_writer_of_its_folder(name, copied, data, tmp_path, capsys):
    import fcntl
    import importlib
    import threading

    folder, arguments = LATER[name](copied, data, tmp_path / "out")
    folder.mkdir(exist_ok=True)
    held = open(folder / ".lock", "w")  # as another process has it
    fcntl.flock(held, fcntl.LOCK_EX)
    began, later = state(folder), []

    def end():
        later.append(state(folder))
        held.close()

    threading.Timer(2.5, end).start()
    assert importlib.import_module(name).main(list(map(str, arguments))) == 0
    assert f"{folder}: waiting for another run" in capsys.readouterr().out and later == [began]


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
