"""The networks of a run, applied to prepared stars; what they have seen, and where their synthetic set lies."""
import shutil
import time

import msgspec
import numpy as np
import pandas as pd
import pytest

import paper
from inference import flags, predictor
from observations import batch
from training import networks
from workflow import files, schemas
from workflow.units import Unit, finish

N_PIXELS = 40
FLUX = np.random.default_rng(1).uniform(0.2, 1, (3, N_PIXELS)).astype(np.float32)
STARS = pd.DataFrame({"karmn": ["A", "B", "C"], "file": "", "instrument": ["HPF", "", "TRES"], "snr": [100.0, 200, 300],
                      "rv": 0.0, "e_rv": 0.1, "depth": 1.0, "share": 1.0, "odd": ""})


@pytest.fixture(scope="module")
def loaded():
    """Untrained networks: two autoencoders and, of each, two regressors of a parameter."""
    whole, cnn = networks.build_autoencoder(32, 1e-7, N_PIXELS), networks.build_cnn(1, 1, 2)
    rng, functions = np.random.default_rng(0), (networks.compiled(whole, "bottleneck"), networks.compiled(cnn))

    def drawn(model):
        return [rng.normal(scale=0.2, size=weight.shape) for weight in model.get_weights()]

    def network(model, function):
        weights = drawn(model)
        return predictor.Network(model, function, lambda model: model.set_weights(weights))

    numbers = {"teff": [0, 0, 3, 3], "vsini": [3, 3, 0, 0]}
    limits = {word: np.array([0.0, 0.0]) for word in flags.LIMITS}
    provenance = schemas.Provenance(spectra="HPF, own, simulated training set")
    ensemble = predictor.Ensemble(None, {}, {}, numbers, [0, 3], limits, provenance, provenance, paper.RESOLVING_POWER,
                                  "gisic", None, flags.GRID)
    return predictor.Predictor(
        ensemble, {i: network(whole, functions[0]) for i in (0, 3)},
        {i: np.zeros((5, paper.N_LATENT), np.float32) for i in (0, 3)},
        {par: [network(cnn, functions[1]) for _ in range(4)] for par in numbers})


def test_networks_that_share_a_model_are_applied_each_with_its_own_weights(loaded):
    (encoded, mse), reconstruction = loaded.encode(FLUX), loaded.reconstruct(FLUX)
    model = networks.build_autoencoder(32, 1e-7, N_PIXELS)
    for row, (i, network) in enumerate(loaded.autoencoders.items()):
        network.give(model)
        expected = networks.predict(model, FLUX)
        np.testing.assert_allclose(mse[row], ((FLUX - expected) ** 2).mean(axis=1), rtol=1e-5)
        np.testing.assert_allclose(encoded[i], networks.predict(networks.encoder_of(model), FLUX), rtol=1e-5)
        assert np.allclose(reconstruction, expected, rtol=1e-5) == (i == 0)
    predictions = loaded.predict(encoded)["teff"]
    for member, i in ((1, 0), (2, 3)):
        cnn = networks.build_cnn(1, 1, 2)
        loaded.regressors["teff"][member].give(cnn)
        np.testing.assert_allclose(predictions[member], networks.predict(cnn, encoded[i][..., None])[:, 0], rtol=1e-5)
    assert len({tuple(values) for values in predictions}) == 4


@pytest.mark.parametrize("seen", [None, np.array([False, True, False])])
def test_table_of_new_stars(loaded, seen):
    foreign = predictor.other_instrument(STARS, loaded.ensemble.fine_tuned_on)
    table, predictions = loaded.estimate(STARS, FLUX, foreign, seen)
    assert list(table)[15:] == [*predictor.KNOWN, *flags.COLUMNS] and set(predictions) == {
        "teff", "vsini"}
    assert table["[M/H]"].isna().all() and table["Teff"].between(
        predictions["teff"].min(axis=0), predictions["teff"].max(axis=0)).all()
    always = "reconstruction reconstruction-observed latent-distance"
    assert table["flags"].tolist() == [f"{always} low-snr unseen", always + " unseen" * (seen is None),
                                       f"{always} other-instrument unseen"]


# ---------------------------------------------------------------- which networks have seen what
@pytest.mark.parametrize("seen, instruments, flagged", [
    ("published", ["CARMENES VIS", "HPF", ""], [0, 1, 1]),
    ("simulated", ["CARMENES", "simulated", ""], [1, 1, 1]),
    ("HPF, own, simulated training set", ["HPF", "", "TRES"], [0, 0, 1]),
    ("my spectrograph", ["My Spectrograph", "HPF"], [0, 1]),
])
def test_stars_of_other_instruments_are_flagged(seen, instruments, flagged):
    table = pd.DataFrame({"karmn": [f"star {k}" for k in range(len(instruments))], "instrument": instruments})
    provenance = schemas.Provenance(spectra=seen)
    assert predictor.other_instrument(table, provenance).tolist() == list(map(bool, flagged))
    names = list(table["karmn"][np.array(flagged, bool)])
    text = " ".join(predictor.warnings(len(table), len(names), names, provenance))
    assert all((name in text) == bool(flag) or seen == "simulated" for name, flag in zip(table["karmn"], flagged))
    assert ("SIMULATED" in predictor.about(provenance)) == ("simulated" in seen)
    assert ("learnt the parameters from SIMULATED" in text) == (seen.count("simulated") and "," in seen)


@pytest.mark.parametrize("version, warned", [(msgspec.UNSET, False), (batch.VERSION, False), (batch.VERSION - 1, True)])
def test_stars_prepared_by_another_version_than_those_that_the_networks_know_are_warned_of(version, warned):
    lines = predictor.warnings(1, 0, [], schemas.Provenance(spectra="HPF", preparation=version))
    assert len(lines) == warned and all(f"version {version} of the preparation" in line for line in lines)


def test_the_synthetic_set_is_found_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setattr(predictor, "SETS", tmp_path)
    run, provenance = tmp_path / "run", schemas.Provenance(spectra="simulated")
    run.mkdir()
    np.save(tmp_path / "ph_flux_norm.npy", FLUX)
    (run / "ac_0.h5").write_text("a network")
    unit = Unit(run / "ac_0.h5", {}, (tmp_path / "ph_flux_norm.npy",), provenance=provenance)
    finish(unit, time.time(), {})
    folders = {name: tmp_path / name for name in ("bare", "other", "said")}
    for folder in folders.values():
        folder.mkdir()
    (tmp_path / "ph_flux_norm.npy").rename(run / "kept")
    with pytest.raises(files.BadInput, match="give the folder of that one with --data"):
        predictor.find_synthetic(unit.path)
    shutil.copy(run / "kept", folders["bare"] / "ph_flux_norm.npy")
    np.save(folders["other"] / "ph_flux_norm.npy", np.ones((2, 3)))
    (folders["other"] / "provenance.json").write_text("spoilt")
    assert predictor.find_synthetic(unit.path) == folders["bare"]
    path = folders["said"] / "ph_flux_norm.npy"
    shutil.copy(run / "kept", path)
    files.write_json(path.with_name("provenance.json"),
                     {"spectra": "simulated", "files": {path.name: files.sha256(path)}})
    assert predictor.find_synthetic(unit.path) == folders["said"]
