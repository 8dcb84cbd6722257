"""The gap in numbers: each number against a twin, and a made-up run whose gap is in its fluxes or in its encoders."""
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest

import paper
from evaluation import gap
from evaluation.run import NotYet
from figures.section3 import gap_in_numbers
from training import networks
from workflow import schemas
from workflow.artifacts import Artifacts
from workflow.files import BadInput
from workflow.units import Unit, finish, read_sidecar


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(gap, "N_PERMUTATIONS", 99)
    monkeypatch.setattr(gap, "N_BOOTSTRAP", 50)


# ---------------------------------------------------------------- the numbers
def test_matched_spectra_have_the_labels_of_the_stars(rng):
    labels = np.column_stack([rng.choice(paper.GRID_TEFF, 400), rng.choice(paper.GRID_LOGG, 400),
                              rng.choice(paper.GRID_MH, 400), rng.choice(paper.GRID_VSINI, 400)])
    labels = np.unique(labels, axis=0)
    chosen = rng.permutation(len(labels))[:50]
    rows, stars = gap.matched(labels, labels[chosen])
    assert np.array_equal(rows, chosen[stars]) and len(stars) == 50
    rows, stars = gap.matched(labels, np.concatenate([labels[chosen[:3]]] * 2 + [[[9000.0, 5, 0, 2]]]))
    assert len(set(rows)) == len(rows) and set(chosen[:3]) <= set(rows) and 6 not in stars


def test_v_sin_i_is_matched_by_its_logarithm():
    labels = np.array([[3000.0, 5, 0, v] for v in (1.5, 2, 20, 30)])
    spread = np.log(labels[:, 3]).std()
    for factor, n in ((0.9, 1), (1.1, 0)):
        far = [[3000.0, 5, 0, 30 * np.exp(factor * gap.CALIPER * spread)]]
        assert len(gap.matched(labels, np.array(far))[0]) == n


def test_mmd_against_a_twin(rng):
    one, other = rng.normal(size=(12, 3)), rng.normal(0.5, 1, (12, 3))
    both = np.concatenate([one, other])
    squared = ((both[:, None] - both) ** 2).sum(axis=-1)
    width = np.median(squared[np.triu_indices(24, 1)])

    def mean(a, b, same):
        kernel = np.exp(-((a[:, None] - b) ** 2).sum(axis=-1) / width)
        return (kernel.sum() - same * np.trace(kernel)) / (len(a) * (len(b) - same))

    twin = mean(one, one, 1) + mean(other, other, 1) - 2 * mean(one, other, 0)
    assert gap.mmd(one, other, rng)[0] == pytest.approx(twin)
    assert gap.mmd(other, one, rng)[0] == pytest.approx(twin)


def test_what_is_alike_is_not_told_apart_and_what_is_not_is(rng):
    p, area = [], []
    for _ in range(12):
        labels = rng.normal(0, 3, (60, 4))  # pairs are alike, as spectra of the same labels are
        one, other = (labels + 0.1 * rng.normal(size=labels.shape) for _ in range(2))
        p.append(gap.mmd(one, other, rng)[1])
        area.append(gap.auc(one, other, rng)[0])
    assert 0.2 < np.mean(p) < 0.8 and min(p) > 0.01 and abs(np.mean(area) - 0.5) < 0.03
    assert gap.mmd(one, other + 1, rng)[1] == 0.01 and gap.auc(one, other + [20, 0, 0, 0], rng)[0] == 1


# ---------------------------------------------------------------- a run
def make_run(folder, rng, size=0.0, moved=False):
    """Spectra of 40 stars that differ from synthetic ones by a gap and noise, and encoders of which one is another."""
    n, n_pixels, n_stars = 300, 60, 40
    labels = np.column_stack([rng.uniform(3000, 4000, n), rng.uniform(4.7, 5.3, n), rng.uniform(-1, 0.5, n),
                              rng.uniform(1.5, 30, n)])
    labels[n // 2 :] = labels[: n // 2] * rng.uniform(0.999, 1.001, (n // 2, 4))  # each has another that is like it
    unit = (labels - labels.min(axis=0)) / np.ptp(labels, axis=0)
    flux_ph = (1 - 0.1 * unit @ rng.uniform(0, 2, (4, n_pixels))).astype(np.float32)
    stars = rng.permutation(n // 2)[:n_stars]
    flux_carm = flux_ph[stars] + rng.normal(0, 1e-3, (n_stars, n_pixels)) - size * np.sin(np.arange(n_pixels))
    shape, spectra = schemas.AutoencoderShape(64, 1e-7, n_pixels), {}
    for name, seed in (("ac_0", 1), ("dtl_ac_0", 2 if moved else 1)):
        autoencoder = networks.build_autoencoder(64, 1e-7, n_pixels, seed)
        networks.save(autoencoder, folder / f"{name}.h5")
        finish(Unit(folder / f"{name}.h5", {}, provenance=schemas.Provenance(spectra="simulated")), 0,
               {"mse_carm_before": 8.0, "mse_carm_after": 1.0, "mse_ph_before": 2.0, "mse_ph_after": 4.0},
               network=shape)
        spectra[name] = networks.predict(networks.encoder_of(autoencoder), flux_carm.astype(np.float32))
        if name == "ac_0":
            spectra["ph"] = networks.predict(networks.encoder_of(autoencoder), flux_ph)
    arrays = {"encoded_ph": spectra["ph"], "encoded_carm_before": spectra["ac_0"], "encoded_carm": spectra["dtl_ac_0"]}
    estimates = pd.DataFrame(labels[stars], columns=list(paper.PARAMETERS))
    return SimpleNamespace(
        artifacts=Artifacts(folder), spectra="simulated", title="a run", estimates=estimates, truth=None,
        first=lambda stage: 0,
        fine_tuned={0: read_sidecar(folder / "dtl_ac_0.h5")}, encoded_ph=lambda i: arrays["encoded_ph"],
        of_stars=lambda what, i, stage: arrays[Artifacts(folder).of_stars(what, i, stage).stem[: -len("_ac_0")]],
        flux=lambda domain: {"ph": flux_ph, "carm": flux_carm.astype(np.float32)}[domain],
        labels=lambda par: labels[:, paper.PARAMETERS[par].column],
    )


@pytest.mark.parametrize(
    "size, moved, apart",
    [(0.0, False, set()), (0.1, False, {"flux", "latent, before", "latent, after", "latent, after, one encoder"}),
     (0.0, True, {"latent, after"})],
)
def test_a_gap_is_seen_where_it_is(size, moved, apart, tmp_path, rng):
    run = make_run(tmp_path, rng, size, moved)
    table = gap.report(run).set_index("space")
    assert len(table) == 10 and not table.index.duplicated().any()
    for space, row in table.iterrows():
        assert (row["auc"] > 0.8 and row["mmd"] > 0.02 and row["p"] == 0.01) == (space in apart), space
    measured = table.loc[["flux", "latent, before", "latent, after", "latent, after, one encoder"]]
    assert measured["reconstruction"].tolist()[1:] == [4.0, 0.5, 0.25]
    if not apart:  # the numbers depend on the seed alone
        pd.testing.assert_frame_equal(gap.report(run).set_index("space"), table)
    figure = gap_in_numbers(run, table.reset_index())
    assert figure.get_suptitle().startswith("SIMULATED")
    assert list(gap.summary(table.reset_index())["reconstruction"])[3] == "4.0"


def test_labels_are_the_estimates_or_the_truth(tmp_path, rng, monkeypatch):
    run, asked, matched = make_run(tmp_path, rng), [], gap.matched
    monkeypatch.setattr(gap, "matched", lambda labels, wanted: asked.append(wanted) or matched(labels, wanted))
    with pytest.raises(BadInput, match="no truth of these stars: leave out --truth"):
        gap.report(run, by_truth=True)
    run.truth, run.estimates = run.estimates, run.estimates + [9000, 0, 0, 0]
    gap.report(run, by_truth=True)
    with pytest.raises(BadInput, match="0 stars have synthetic spectra"):
        gap.report(run)
    assert np.array_equal(asked[0], run.truth) and np.array_equal(asked[2], run.estimates)


def test_too_few_stars_are_refused(tmp_path, rng):
    run = make_run(tmp_path, rng)
    run.estimates.loc[19:, "teff"] = np.nan
    with pytest.raises(BadInput, match="19 stars have synthetic spectra of their labels, 20 are"):
        gap.report(run)
    run.estimates = None
    with pytest.raises(NotYet, match="no estimates"):
        gap.report(run)
