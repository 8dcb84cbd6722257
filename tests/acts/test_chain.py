"""The four acts as a user runs them: in order, again, killed and resumed, and with bad input."""
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from chain import ACTS, flags
from machine import losing_a_worker

import autoencoder_fine_tuning
import autoencoder_grid_search
import autoencoder_training
import cnn_training
import estimate
import gap_report
import paper
from evaluation import claims
from evaluation.run import load
from figures import section3
from inference import mode, predictor
from inference.flags import COLUMNS
from spectra import dataset
from spectra.dataset import Dataset
from training import backend, grid_search, networks
from workflow import dask_cluster, schemas
from workflow.artifacts import STAGES, Artifacts
from workflow.units import read_sidecar, sidecar_of

METHODOLOGY = Path(cnn_training.__file__).parent


def snapshot(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns
            for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_chain_ends_in_the_published_columns(chain, tiny):
    table = pd.read_csv(chain / "final_estimations.csv")
    stars = pd.read_csv(tiny / "stars.csv")
    expected = ["karmn", "ra_gaiadr3", "dec_gaiadr3"]
    for x in ("Teff", "logg", "[M/H]", "vsini"):
        expected += [x, f"e_{x}", f"E_{x}"]
    assert list(table) == expected + COLUMNS
    assert list(table.karmn) == list(stars.karmn)
    assert table[expected].notna().all(axis=None)
    assert (table.filter(regex="^[eE]_") >= 0).all(axis=None)


@pytest.mark.parametrize("stage", STAGES)
def test_tables_are_made_of_the_predictions_of_their_stage(stage, chain):
    path = Artifacts(chain).estimates(stage)
    table, kept = pd.read_csv(path), schemas.read(sidecar_of(path), schemas.Estimates, "").kept
    for par, parameter in paper.PARAMETERS.items():
        units = [re.fullmatch(r".*?(\d+)_ac_(\d+)", name).groups() for name in kept[par].members]
        predictions = [np.load(Artifacts(chain).prediction(par, int(k), int(i), stage)) for k, i in units]
        columns = [table[name].to_numpy() for name in (f"{sign}{parameter.published}" for sign in ("", "e_", "E_"))]
        np.testing.assert_allclose(columns, mode.estimate(np.array(predictions))[:3], rtol=1e-5)


def test_distances_of_new_stars_are_held_against_the_synthetic_spectra_trained_on(chain):
    artifacts = Artifacts(chain)
    loaded = predictor.load(predictor.Ensemble(artifacts, {}, {}, {}, artifacts.made(), {}, *[None] * 6))
    for i, held in loaded.encoded_ph.items():
        encoded = np.load(artifacts.encoded_ph(i))
        assert np.array_equal(held, encoded[dataset.split(len(encoded), "ph")[0]])


def test_chain_says_simulated_everywhere(chain):
    unmarked = [path.name for path in chain.rglob("*.json") if '"simulated"' not in path.read_text()]
    assert not unmarked


def test_tables_hold_a_row_a_unit(chain):
    search = pd.read_csv(chain / "grid_search.csv")
    assert len(search) == 2 and set(search["rank"]) == {1, 2}
    np.testing.assert_allclose(search.filter(like="mse_fold_").mean(axis=1), search.mse_mean)
    n = len(Artifacts(chain).architectures)
    assert len(pd.read_csv(chain / "mse.csv")) == len(pd.read_csv(chain / "fine_tuning.csv")) == n


def test_sidecar_tells_how_a_unit_was_made(chain):
    sidecar = read_sidecar(chain / "ac_0.h5")
    assert sidecar.settings["epochs"] == paper.BUDGETS["smoke"].train_epochs
    assert len(sidecar.history["mse"]) == len(sidecar.history["penalty"]) == sidecar.settings["epochs"]
    assert {"tensorflow", "keras", "python"} <= set(sidecar.versions)
    assert sidecar.inputs.keys() == {"ph_flux_norm.npy"}


def test_second_run_changes_only_the_tables(chain, tiny):
    before = snapshot(chain)
    for act in ACTS:
        assert act.main(flags(tiny, chain, "--jobs", 1)) == 0
    after = snapshot(chain)
    changed = {str(path) for path in after if after[path] != before.get(path)}
    assert set(before) == set(after)
    assert changed <= {"grid_search.csv", "params_final.json", "mse.csv", "fine_tuning.csv", "lag.csv", "lag.json",
                       "final_estimations.csv",
                       "final_estimations.json", "final_estimations_before.csv", "final_estimations_before.json",
                       "summary.png"}


def test_seed_decides_the_result_and_nothing_else_does(chain, tiny, tmp_path):
    for folder, seed in ((tmp_path / "same", 42), (tmp_path / "other", 43)):
        folder.mkdir()
        shutil.copy(chain / "params_final.json", folder)
        assert autoencoder_training.main(flags(tiny, folder, "--jobs", 1, "--seed", seed)) == 0
    encoded = [np.load(folder / "encoded_ph_ac_0.npy") for folder in (chain, tmp_path / "same", tmp_path / "other")]
    np.testing.assert_array_equal(encoded[0], encoded[1])
    assert not np.allclose(encoded[0], encoded[2])


def test_killed_run_resumes_and_ends_the_same(chain, tiny, tmp_path):
    folder, done, result = tmp_path / "artifacts", "grid_search/*.json", "params_final.json"
    command = [sys.executable, METHODOLOGY / "autoencoder_grid_search.py", *flags(tiny, folder, "--jobs", 2)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.time() + 120

    def finished():  # the kill may also leave a sidecar that is half written
        return [path for path in folder.glob(done) if ".partial-" not in path.name]

    while len(finished()) < 2 and process.poll() is None and time.time() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    saved = {path: path.stat().st_mtime_ns for path in finished()}
    assert len(saved) >= 2
    assert not (folder / result).exists(), "the run ended before it could be killed"

    assert autoencoder_grid_search.main(flags(tiny, folder, "--jobs", 1)) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in saved.items()), "finished units were done again"
    assert len(finished()) == len(list(chain.glob(done)))
    assert (folder / result).read_bytes() == (chain / result).read_bytes()
    assert not list(folder.rglob("*.partial*"))


def test_gap_of_twelve_stars_is_refused(chain, tiny, capsys):
    assert gap_report.main(["--data", str(tiny), "--artifacts", str(chain)]) == 2
    error = capsys.readouterr().err
    assert "stars have synthetic spectra of their labels, 20 are needed" in error and error.count("\n") == 1
    assert not list(chain.glob("gap_report*"))


@pytest.mark.slow
def test_cluster_loses_a_worker_and_ends_the_same(cluster, chain, tiny, tmp_path):
    address, workers = cluster
    folder = shutil.copytree(chain, tmp_path / "artifacts",
                             ignore=shutil.ignore_patterns("cnn_*", "*_estimation_*", "final_*"))
    with losing_a_worker(address, workers) as process:
        assert cnn_training.main(flags(tiny, folder, "--scheduler", address)) == 0
    assert process.wait(timeout=10) == -signal.SIGKILL, "the run ended before a worker could be killed"
    done = {path.name for path in chain.glob("cnn_*.json")}
    assert {path.name for path in folder.glob("cnn_*.json")} == done and len(done) >= 8
    for result in ("final_estimations.csv", "final_estimations_before.csv"):
        assert (folder / result).read_bytes() == (chain / result).read_bytes()
    assert not list(folder.rglob("*.partial*"))


def test_no_scheduler_at_the_address(tiny, tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_cluster, "CONNECT", 1)
    wanted = flags(tiny, tmp_path / "artifacts", "--scheduler", "tcp://127.0.0.1:9")
    assert autoencoder_grid_search.main(wanted) == 2
    error = capsys.readouterr().err
    assert "no Dask scheduler answers" in error and "tcp://127.0.0.1:9" in error


@pytest.mark.parametrize(
    "options, message",
    [({"n_workers": 0}, "has no workers"), ({"n_workers": 1, "threads_per_worker": 2}, "--nthreads 1")],
)
def test_cluster_that_cannot_serve(options, message, tiny, tmp_path, capsys):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(processes=False, dashboard_address=None, protocol="tcp", **options) as cluster:
        wanted = flags(tiny, tmp_path / "artifacts", "--scheduler", cluster.scheduler_address)
        assert autoencoder_grid_search.main(wanted) == 2
    assert message in capsys.readouterr().err


def test_cluster_without_this_project_on_its_path(tiny, tmp_path, capsys):
    distributed = pytest.importorskip("distributed")
    note, environment = tmp_path / "note.json", {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    dask = [sys.executable, "-m", "dask"]
    quiet = {"env": environment, "cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                           "--scheduler-file", note], **quiet) as scheduler, \
         subprocess.Popen([*dask, "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard",
                           "--scheduler-file", note], **quiet) as worker:
        try:
            with distributed.Client(scheduler_file=note, timeout=60) as client:
                client.wait_for_workers(1, timeout=60)
                address = client.scheduler.address
            wanted = flags(tiny, tmp_path / "artifacts", "--scheduler", address)
            assert autoencoder_grid_search.main(wanted) == 2
        finally:
            worker.kill()
            scheduler.kill()
    error = capsys.readouterr().err
    assert "the scheduler cannot import this project" in error and f"PYTHONPATH={METHODOLOGY}" in error


DIE_BEFORE_THE_SIDECAR = """
import os, sys
sys.path.insert(0, sys.argv[1])
from workflow import units
units.finish = lambda *args, **kwargs: os._exit(9)
import {act}
{act}.main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "act, lost, result",
    [(autoencoder_training, "ac_* encoded_ph_ac_* dtl* *carm* *estimation* cnn*", "encoded_ph_ac_0.npy"),
     (autoencoder_fine_tuning, "dtl* *carm* *estimation* cnn*", "encoded_carm_ac_0.npy")],
)
def test_death_between_the_files_of_a_unit_and_its_sidecar(act, lost, result, chain, tiny, tmp_path):
    folder = tmp_path / "artifacts"
    shutil.copytree(chain, folder, ignore=shutil.ignore_patterns(*lost.split()))
    arguments = [str(METHODOLOGY), *flags(tiny, folder, "--jobs", 1)]
    command = [sys.executable, "-c", DIE_BEFORE_THE_SIDECAR.format(act=act.__name__), *arguments]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 9
    assert (folder / result).exists()
    assert act.main(flags(tiny, folder, "--jobs", 1)) == 0
    np.testing.assert_array_equal(np.load(folder / result), np.load(chain / result))
    assert not list(folder.rglob("*.partial*"))


def test_fine_tuning_leaves_what_figures_need_of_the_networks(chain, tiny):
    flux_ph, flux_carm, labels = (np.load(tiny / f"{name}.npy") for name in ("ph_flux_norm", "carmf_norm", "ph_pars"))
    left = {path.name: np.load(path) for path in chain.glob("re*_ac_0.npy")}
    rows = Dataset(tiny).examples_ph, Dataset(tiny).examples_carm
    for when, network in (("_before", "ac_0.h5"), ("", "dtl_ac_0.h5")):
        autoencoder = networks.load(chain / network)
        residual = flux_carm - networks.predict(autoencoder, flux_carm)
        expected = {f"reconstructed_carm{when}_ac_0.npy": (flux_carm - residual)[rows[1]],
                    f"residual_carm{when}_ac_0.npy": [residual.mean(axis=0), residual.std(axis=0)]}
        if when:
            expected["reconstructed_ph_ac_0.npy"] = networks.predict(autoencoder, flux_ph)[rows[0]]
        for name, values in expected.items():
            np.testing.assert_allclose(left.pop(name), values, rtol=1e-4, atol=1e-5, err_msg=name)
    assert not left


def test_flags_rest_on_what_fine_tuning_left(copied, tiny):
    flux_ph, flux_carm = (np.load(tiny / f"{name}.npy") for name in ("ph_flux_norm", "carmf_norm"))
    train, test = dataset.split(len(flux_ph), "ph")
    tuned, encoded = read_sidecar(copied / "dtl_ac_0.h5"), np.load(copied / "encoded_ph_ac_0.npy")
    distances = lambda points: np.linalg.norm(points[:, None] - encoded[train], axis=2).min(axis=1)  # noqa: E731
    of_each = lambda network, flux: ((flux - networks.predict(network, flux)) ** 2).mean(axis=1)  # noqa: E731
    before, after = (networks.load(copied / name) for name in ("ac_0.h5", "dtl_ac_0.h5"))
    mse = {"before": of_each(before, flux_carm), "after": of_each(after, flux_carm)}
    for when, suffix in (("before", "_before"), ("after", "")):
        expected = {"mse": mse[when], "distance_latent": distances(np.load(copied / f"encoded_carm{suffix}_ac_0.npy"))}
        for name, values in expected.items():
            np.testing.assert_allclose(tuned.stars[f"{name}_{when}"], values, rtol=1e-3, atol=1e-6, err_msg=name)
    limits = {"mse_ph_test_q99": of_each(before, flux_ph[test]), "mse_carm_q99_after": mse["after"],
              "distance_latent_ph_test_q99": distances(encoded[test])}
    for name, values in limits.items():
        assert tuned.metrics[name] == pytest.approx(np.quantile(values, 0.99), rel=1e-3), name
    table = pd.read_csv(copied / "final_estimations.csv").fillna("")
    beyond = {word: np.array(tuned.stars[name]) > tuned.metrics[limit] for word, name, limit in (
        ("reconstruction", "mse_after", "mse_ph_test_q99"), ("reconstruction-observed", "mse_after",
         "mse_carm_q99_after"), ("latent-distance", "distance_latent_after", "distance_latent_ph_test_q99"))}
    beyond["unseen"] = ~np.isin(np.arange(len(table)), dataset.split(len(table), "carm")[0])
    for word, expected in beyond.items():
        assert table["flags"].map(lambda text, word=word: word in text.split()).tolist() == expected.tolist(), word
    assert beyond["reconstruction-observed"].sum() == 1


def test_a_flag_without_evidence_is_left_out(copied, tiny, capsys):
    (copied / "lag.csv").unlink()
    assert cnn_training.main(flags(tiny, copied, "--jobs", 1)) == 0
    assert json.loads((copied / "final_estimations.json").read_text())["flags_left_out"] == [
        "autoencoders-apart", "low-snr", "lag", "odd-spectrum"]
    path = copied / "dtl_ac_0.json"
    content = json.loads(path.read_text())
    del content["metrics"]["mse_ph_test_q99"]
    path.write_text(json.dumps(schemas.signed(content)))
    assert cnn_training.main(flags(tiny, copied, "--jobs", 1)) == 2
    assert "dtl_ac_0.json has no metric mse_ph_test_q99: delete it" in capsys.readouterr().err


@pytest.mark.parametrize("act, companion", [(1, "encoded_ph_ac_0.npy"), (2, "encoded_carm_before_ac_0.npy")])
def test_lost_companion_file_is_made_again(act, companion, copied, tiny, capsys):
    (copied / companion).unlink()
    assert ACTS[act + 1].main(flags(tiny, copied, "--jobs", 1)) == 2
    assert f"{companion} is missing" in capsys.readouterr().err
    assert ACTS[act].main(flags(tiny, copied, "--jobs", 1)) == 0
    assert (copied / companion).exists()
    assert ACTS[3].main(flags(tiny, copied, "--jobs", 1)) == 0


def test_every_figure_of_section_3_can_be_drawn(chain, tiny, monkeypatch):
    monkeypatch.setattr(section3.gap, "embed", lambda vectors: vectors[:, :2])  # it takes seconds to compile
    run = load(tiny, chain)
    assert "epochs: 2; 1 fine-tuned, epochs: 2" in run.title and not run.missing
    assert "not there yet" not in set(claims.of_run(run.measured(), run.spectra)["value"])
    for name in ("dead_units", "embedded_encodings", "embedded_fluxes", "ensemble", "fine_tuning", "reconstruction",
                 "residuals", "scores", "training_curves"):
        assert getattr(section3, name)(run).get_suptitle() == "SIMULATED spectra", name


def test_only_keeps_the_tables_of_the_rest(copied, tiny, capsys):
    before = (copied / "grid_search.csv").read_bytes(), (copied / "params_final.json").read_bytes()
    assert autoencoder_grid_search.main(flags(tiny, copied, "--jobs", 1, "--only", 1)) == 0
    assert ((copied / "grid_search.csv").read_bytes(), (copied / "params_final.json").read_bytes()) == before
    (copied / "grid_search" / "combination_0_fold_2.json").unlink()
    assert autoencoder_grid_search.main(flags(tiny, copied, "--jobs", 1, "--only", 1)) == 0
    assert "1 fits of other combinations are still to do" in capsys.readouterr().out


def test_search_by_halving(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(paper.BUDGETS, "smoke", dataclasses.replace(paper.BUDGETS["smoke"], search_epochs=3))
    score = lambda _, s, *data: abs(s["neurons_in"] - 16) + s["fold"] / s["epochs"]  # noqa: E731
    monkeypatch.setattr(grid_search, "fold_score", score)
    wanted = flags(tiny, tmp_path, "--jobs", 1, "--search", "halving", "--neurons-in", 8, 16, 24)
    assert autoencoder_grid_search.main(wanted) == 0
    table = pd.read_csv(tmp_path / "grid_search.csv")
    found = table[["neurons_in", "epochs", "mse_mean"]].to_numpy().tolist()
    assert found == [[8, 1, 9.5], [16, 1, 1.5], [24, 1, 9.5], [16, 3, 0.5]]
    kept = json.loads((tmp_path / "params_final.json").read_text())["architectures"]
    assert [a["neurons_in"] for a in kept] == [16]


def test_halving_of_so_few_that_nothing_is_halved_keeps_the_papers_rule(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(grid_search, "fold_score", lambda _, settings, *data: settings["neurons_in"])
    wanted = flags(tiny, tmp_path, "--jobs", 1, "--search", "halving", "--neurons-in", 8, 16, 16)
    assert autoencoder_grid_search.main(wanted) == 0
    kept = json.loads((tmp_path / "params_final.json").read_text())
    assert [a["neurons_in"] for a in kept["architectures"]] == [8] and "median of 2" in kept["rule"]


def test_dry_run_of_halving_names_the_later_rounds(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(paper.BUDGETS, "smoke", dataclasses.replace(paper.BUDGETS["smoke"], search_epochs=3))
    monkeypatch.setattr(grid_search, "fold_score", lambda _, settings, *data: settings["neurons_in"])
    wanted = flags(tiny, tmp_path, "--jobs", 1, "--search", "halving", "--neurons-in", 8, 16, 24)
    assert autoencoder_grid_search.main([*wanted, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "12 to do" in out and "after these 4 fits of 3 epochs" in out
    assert autoencoder_grid_search.main(wanted) == 0
    next((tmp_path / "halving_3_epochs").glob("*.json")).unlink()
    before = snapshot(tmp_path)
    capsys.readouterr()
    assert autoencoder_grid_search.main([*wanted, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "0 to do" in out and "1 to do" in out and snapshot(tmp_path) == before


def test_networks_of_the_acts_are_those_that_estimate_takes(chain, tiny, tmp_path, capsys):
    (tmp_path / "star.csv").write_text("wave,flux\n")
    wanted = ["--data", tiny, "--artifacts", chain, "--out", tmp_path / "out", tmp_path / "star.csv"]
    assert estimate.main(list(map(str, wanted))) == 2  # after all that is checked of networks
    assert "has 60 pixels: spectra can be prepared only on the paper's grid of 3501" in capsys.readouterr().err


def test_more_to_keep_than_the_search_leaves(tiny, tmp_path, capsys):
    wanted = flags(tiny, tmp_path / "artifacts", "--neurons-in", 8, 16, "--keep", 3)
    assert autoencoder_grid_search.main(wanted) == 2
    assert "--keep 3: of 2 combinations the search leaves 2" in capsys.readouterr().err
    assert not (tmp_path / "artifacts").exists()


def test_search_that_keeps_nothing_says_so(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(grid_search, "fold_score", lambda _, settings, *data: settings["neurons_in"])
    assert autoencoder_grid_search.main(flags(tiny, tmp_path, "--jobs", 1, "--lr", 3e-4, "--neurons-in", 16, 24)) == 2
    assert "--keep" in capsys.readouterr().err
    assert not (tmp_path / "params_final.json").exists()


def test_other_architectures_than_those_trained(copied, tiny, capsys):
    params = copied / "params_final.json"
    params.write_text(params.read_text().replace('"lr": 0.0001', '"lr": 0.0002'))
    for act in ACTS[2:]:
        assert act.main(flags(tiny, copied)) == 2
        assert "has not the architecture 0 of params_final.json" in capsys.readouterr().err


def test_bad_observed_spectrum_costs_only_its_own_star(chain, data, tmp_path):
    flux = np.load(data / "carmf_norm.npy")
    flux[5, 3] = np.nan
    np.save(data / "carmf_norm.npy", flux)
    of_observed = shutil.ignore_patterns("*dtl*", "*carm*", "*estimation*")
    folder = Path(shutil.copytree(chain, tmp_path / "artifacts", ignore=of_observed))
    for act in ACTS[2:]:
        assert act.main(flags(data, folder, "--jobs", 1)) == 0
    table = pd.read_csv(folder / "final_estimations.csv").set_index("karmn")
    bad = pd.read_csv(data / "stars.csv").karmn[5]
    values = table.filter(regex="^(Teff|logg|.M/H.|vsini|[eE]_.*)$")
    assert values.loc[bad].isna().all()
    assert len(values.columns) == 12 and values.drop(index=bad).notna().all(axis=None)
    assert table.loc[bad, COLUMNS].isna().all()  # no flag where there is nothing to doubt


@pytest.mark.slow
def test_tuned_hyper_parameters_are_recorded_and_used(copied, tiny, monkeypatch):
    monkeypatch.setattr(paper, "CNN_GRID", {"nf1": [8], "nf2": [4], "nu": [8], "lr": [1e-3, 1e-2]})
    monkeypatch.setattr(paper, "CV_FOLDS", 2)
    tune = flags(tiny, copied, "--jobs", 1, "--parameter", "logg")
    assert cnn_training.main([*tune, "--tune"]) == 0
    table = pd.read_csv(copied / "tune_logg.csv")
    used = grid_search.hyper_parameters("logg", Artifacts(copied))
    assert len(table) == 2 and used["lr"] == table.sort_values("mse_mean").lr.iloc[0]
    assert used["nf1"] == 8
    assert grid_search.hyper_parameters("mh", Artifacts(copied))["nf1"] == paper.PARAMETERS["mh"].cnn.nf1
    assert cnn_training.main(tune) == 2  # the regressors that are there are stale now
    assert cnn_training.main([*tune, "--overwrite"]) == 0
    assert read_sidecar(copied / "cnn_regressor_logg_0_ac_0.h5").settings["nf1"] == 8


def test_stacked_regressors_leave_the_same_files(copied, tiny, monkeypatch):
    stacks, train_together = [], cnn_training.train_together

    def counting(settings, encoded, label, seeds, tick):
        stacks.append(len(seeds))
        return train_together(settings, encoded, label, seeds, tick)

    monkeypatch.setattr(cnn_training, "train_together", counting)
    before = pd.read_csv(copied / "final_estimations.csv")
    alone = [read_sidecar(copied / f"cnn_regressor_teff_{k}_ac_0.h5") for k in range(2)]
    wanted = flags(tiny, copied, "--jobs", 1, "--parameter", "teff", "--stack", 5, "--overwrite")
    assert cnn_training.main(wanted) == 0
    assert stacks == [len(alone)]
    for k, one in enumerate(alone):
        other = read_sidecar(copied / f"cnn_regressor_teff_{k}_ac_0.h5")
        assert other.metrics["mse_test"] == pytest.approx(one.metrics["mse_test"], rel=1e-4)
        assert (other.settings, other.seed, other.network) == (one.settings, one.seed, one.network)
    np.testing.assert_allclose(pd.read_csv(copied / "final_estimations.csv")["Teff"], before["Teff"], rtol=1e-3)


@pytest.fixture
def eager():
    """To build the graphs of several small networks takes longer than to train them."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_stacked_fits_of_the_search_leave_the_same_scores(copied, tiny, monkeypatch, eager):
    stacked, fold_scores = [], grid_search.fold_scores
    monkeypatch.setattr(grid_search, "fold_scores", lambda *given: stacked.append(len(given[0])) or fold_scores(*given))
    before, selection = pd.read_csv(copied / "grid_search.csv"), (copied / "params_final.json").read_text()
    for fold in (0, 2, 3):  # as a killed run leaves it
        (copied / "grid_search" / f"combination_1_fold_{fold}.json").unlink()
    others = snapshot(copied / "grid_search")
    assert autoencoder_grid_search.main(flags(tiny, copied, "--jobs", 1, "--stack", 2)) == 0
    assert stacked == [2] and (copied / "params_final.json").read_text() == selection
    assert all(snapshot(copied / "grid_search")[path] == time for path, time in others.items())
    columns = [name for name in before if name != "seconds"]
    pd.testing.assert_frame_equal(pd.read_csv(copied / "grid_search.csv")[columns], before[columns], rtol=1e-4)


def test_stacked_autoencoders_leave_the_same_files(tiny, tmp_path, monkeypatch, capsys, eager):
    monkeypatch.setattr(backend, "has_gpu", lambda: True)
    stacked, train_together = [], autoencoder_training.train_together
    monkeypatch.setattr(autoencoder_training, "train_together",
                        lambda *given: stacked.append(given[1:3]) or train_together(*given))
    architectures = [{"neurons_in": 16, "reg_par": reg_par, "lr": 1e-3} for reg_par in (3e-7, 2e-7, 1e-7)]
    for name in ("alone", "stack"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "params_final.json").write_text(json.dumps({"architectures": architectures}))
    alone, stack = tmp_path / "alone", tmp_path / "stack"
    wanted = flags(tiny, stack, "--jobs", 1, "--perturb", "--stack", 2)
    assert autoencoder_training.main(flags(tiny, alone, "--jobs", 1, "--perturb", "--only", 1, 2)) == 0
    for part in (["--only", "0"], []):  # the second of them goes on where the first stopped
        assert autoencoder_training.main([*wanted, *part]) == 0
    assert len(stacked) == 1
    for i in (1, 2):
        single, other = (read_sidecar(folder / f"ac_{i}.h5") for folder in (alone, stack))
        assert (other.settings, other.seed, other.network) == (single.settings, single.seed, single.network)
        assert other.metrics == pytest.approx(single.metrics, rel=1e-4)
        assert other.outputs.keys() == single.outputs.keys()
        for name in (f"encoded_ph_ac_{i}.npy", f"encoded_ph_perturbed_ac_{i}.npy"):
            np.testing.assert_allclose(np.load(stack / name), np.load(alone / name), rtol=1e-3, atol=1e-5)
    monkeypatch.setattr(backend, "has_gpu", lambda: False)
    assert autoencoder_training.main(wanted) == 2
    captured = capsys.readouterr()
    assert "perturb_numbers tensorflow there, None now" in captured.err
    assert captured.out.count("warning: --stack is slower") == 1


def test_one_parameter_alone_keeps_the_others(copied, tiny):
    before = pd.read_csv(copied / "final_estimations.csv")
    assert cnn_training.main(flags(tiny, copied, "--jobs", 1, "--parameter", "teff", "--overwrite")) == 0
    pd.testing.assert_frame_equal(before, pd.read_csv(copied / "final_estimations.csv"))


def test_penalty_variant_is_recorded_and_handed_on(chain, tiny, tmp_path):
    folder = tmp_path / "exact"
    folder.mkdir()
    shutil.copy(chain / "params_final.json", folder)
    assert autoencoder_training.main(flags(tiny, folder, "--penalty", "exact", "--jobs", 1)) == 0
    assert autoencoder_fine_tuning.main(flags(tiny, folder, "--jobs", 1)) == 0
    assert read_sidecar(folder / "dtl_ac_0.h5").settings["penalty"] == "exact"
    assert not np.allclose(np.load(folder / "encoded_ph_ac_0.npy"), np.load(chain / "encoded_ph_ac_0.npy"))


def test_fine_tuning_may_have_a_penalty_of_its_own(chain, tiny, tmp_path, capsys):
    folder = shutil.copytree(chain, tmp_path / "none")
    assert autoencoder_fine_tuning.main(flags(tiny, folder, "--penalty", "none", "--only", 0, "--jobs", 1)) == 2
    assert "penalty live there, none now" in capsys.readouterr().err
    overwriting = flags(tiny, folder, "--penalty", "none", "--only", 0, "--jobs", 1, "--overwrite")
    assert autoencoder_fine_tuning.main(overwriting) == 0
    assert read_sidecar(folder / "dtl_ac_0.h5").settings["penalty"] == "none"
    assert not np.allclose(np.load(folder / "encoded_carm_ac_0.npy"), np.load(chain / "encoded_carm_ac_0.npy"))


@pytest.mark.parametrize("act", range(1, 4))
def test_act_before_the_one_it_needs(act, tiny, chain, tmp_path, capsys):
    folder = tmp_path / "artifacts"
    folder.mkdir()
    if act > 1:
        shutil.copy(chain / "params_final.json", folder)
    if act > 2:
        for path in chain.glob("*ac_0.*"):
            if not path.name.startswith(("dtl", "cnn", "teff")):
                shutil.copy(path, folder)
    before = snapshot(folder)
    assert ACTS[act].main(flags(tiny, folder)) == 2
    error = capsys.readouterr().err
    needed = Path(ACTS[act - 1].__file__).name
    assert error.count("\n") == 1 and needed in error
    assert snapshot(folder) == before


def test_stale_artifact_stops_the_run(chain, tiny, capsys):
    before = snapshot(chain)
    assert autoencoder_training.main(flags(tiny, chain, "--seed", 1)) == 2
    error = capsys.readouterr().err
    assert "ac_0.h5 is stale" in error and "seed 42 there, 1 now" in error and "--overwrite" in error
    assert snapshot(chain) == before


def test_other_spectra_than_those_of_the_artifacts(chain, data, capsys):
    np.save(data / "ph_flux_norm.npy", np.load(data / "ph_flux_norm.npy") * np.float32(0.99))
    for act in ACTS[2:]:
        assert act.main(flags(data, chain)) == 2
        assert "made from another ph_flux_norm.npy" in capsys.readouterr().err


def test_fewer_spectra_than_folds(data, tmp_path, capsys):
    for name in ("ph_flux_norm.npy", "ph_pars.npy"):
        np.save(data / name, np.load(data / name)[:4])
    assert autoencoder_grid_search.main(flags(data, tmp_path / "artifacts")) == 2
    assert "fewer than 4 folds" in capsys.readouterr().err


def test_dry_run_computes_nothing(tiny, tmp_path, capsys):
    assert autoencoder_grid_search.main(flags(tiny, tmp_path / "artifacts", "--dry-run")) == 0
    assert "8 to do" in capsys.readouterr().out
    assert not (tmp_path / "artifacts").exists()


def test_unknown_autoencoder(chain, tiny, capsys):
    assert autoencoder_training.main(flags(tiny, chain, "--only", 7)) == 2
    assert "--only 7" in capsys.readouterr().err


@pytest.mark.parametrize("act", ACTS)
def test_help_shows_what_is_read_and_written(act, capsys):
    with pytest.raises(SystemExit, match="0"):
        act.main(["--help"])
    shown = capsys.readouterr().out
    assert "Reads" in shown and "Writes" in shown and "--artifacts" in shown and "default:" in shown


def test_precision_that_the_processor_has_not(tiny, chain, capsys, monkeypatch):
    monkeypatch.setattr(backend, "has_bfloat16", lambda: False)
    assert autoencoder_training.main(flags(tiny, chain, "--precision", "bfloat16")) == 2
    assert "--precision bfloat16" in capsys.readouterr().err
