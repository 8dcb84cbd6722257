"""Flags: each rule where it holds and where it does not, its columns, tables without them, and what act 3 leaves."""
import types

import numpy as np
import pandas as pd
import pytest

import paper
from inference import flags
from workflow.command_line import ROOT

RNG = np.random.default_rng(4)
NAN = np.nan


def words(masks):
    """For each star the words it has, in the order of the rules."""
    return [" ".join(word for word in flags.RULES if word in masks and masks[word][k])
            for k in range(len(next(iter(masks.values()))))]


# ---------------------------------------------------------------- rules
GRIDS = {"paper": flags.GRID["logg"], "two nodes": np.array([4.7, 5.3]), "one node": np.array([5.0])}


@pytest.mark.parametrize(("grid", "value", "word"), [
    ("paper", 4.69, "outside-grid"), ("paper", 4.7, "grid-edge"), ("paper", 4.79, "grid-edge"), ("paper", 4.8, ""),
    ("paper", 5.0, ""), ("paper", 5.2, ""), ("paper", 5.21, "grid-edge"), ("paper", 5.3, "grid-edge"),
    ("paper", 5.31, "outside-grid"), ("paper", NAN, ""), ("two nodes", 5.0, "grid-edge"), ("one node", 5.0, ""),
    ("one node", 5.01, "outside-grid"),
])
def test_edges_of_the_grid(grid, value, word):
    assert words(flags.of_values("logg", [value], GRIDS[grid])) == [word]


def test_steps_of_a_grid_may_differ():
    found = words(flags.of_values("vsini", [1.4, 1.9, 2.01, 2.1, 24, 26, 31], flags.GRID["vsini"]))
    assert found == ["outside-grid upper-limit", "grid-edge upper-limit", "upper-limit", "", "", "grid-edge",
                     "outside-grid"]


def fwhm_of_rotation(limb_darkening=0.6):
    """Gray's profile of rotation on a fine grid, in units of v sin i."""
    x = np.linspace(0, 1, 100_001)
    profile = 2 * (1 - limb_darkening) * np.sqrt(1 - x**2) + np.pi * limb_darkening / 2 * (1 - x**2)
    return 2 * x[profile >= profile[0] / 2].max()


@pytest.mark.parametrize(("resolving_power", "limit"), [(94_600, 2.03), (55_000, 3.494), (110_000, 1.747)])
def test_resolved_rotation(resolving_power, limit):
    assert flags.resolved_vsini(resolving_power) == pytest.approx(limit, abs=0.005)
    assert flags.resolved_vsini(resolving_power) == pytest.approx(
        299_792.458 / resolving_power / fwhm_of_rotation(), rel=0.002)
    masks = flags.of_values("vsini", [limit - 0.1, limit + 0.1], flags.GRID["vsini"], resolving_power)
    assert masks["upper-limit"].tolist() == [True, False]
    assert "upper-limit" not in flags.of_values("teff", [3000], flags.GRID["teff"])


def groups(*parts):
    """Members around some values: how many, where, how wide; evenly placed."""
    return np.concatenate([where + width * np.linspace(-1, 1, n) for n, where, width in parts])


@pytest.mark.parametrize(("members", "two"), [
    (groups((12, 0, 1)), False), (groups((6, 0, 1), (6, 6, 1)), True), (groups((6, 6, 1), (6, 0, 1)), True),
    (groups((20, 0, 1), (20, 2.5, 1)), False), (groups((20, 0, 1), (20, 6, 1)), True),
    (groups((20, 0, 1), (3, 8, 1)), False), (groups((10, 0, 1), (1, 30, 0)), False), (groups((5, 3, 0)), False),
    (groups((6, 0, 1), (6, NAN, 1)), False),
])
def test_two_modes(members, two):
    for scale, offset in ((1, 0), (30, 3400), (1e-3, -0.2)):
        masks = flags.of_ensemble(np.c_[members * scale + offset, np.arange(len(members))], [0] * len(members))
        assert {word: mask.tolist() for word, mask in masks.items()} == {"two-modes": [two, False]}


def test_two_modes_by_a_density_written_out():
    for members in RNG.choice([0.0, 4.0, 6.0], (20, 9)) + RNG.normal(0, 0.7, (20, 9)):
        width = members.std(ddof=1) * 9 ** (-1 / 5)
        grid = np.linspace(members.min(), members.max(), paper.KDE_POINTS)
        height = np.exp(-0.5 * ((grid[:, None] - members) / width) ** 2).sum(axis=1)
        top, two = np.argmax(height), False
        for k in range(len(grid)):
            is_maximum = (k == 0 or height[k] > height[k - 1]) and (k == len(grid) - 1 or height[k] > height[k + 1])
            between = height[min(k, top) : max(k, top) + 1].min()
            two |= is_maximum and k != top and height[k] >= height[top] / 2 and between < 0.8 * height[k]
        assert flags.of_ensemble(members[:, None], [0] * 9)["two-modes"][0] == two


@pytest.mark.parametrize(("means", "apart"), [((0, 3), False), ((0, 5), True), ((0, 0, 0, 3), False),
                                              ((0, 9, 9), True)])
def test_autoencoders_apart(means, apart):
    """Of three members each, at mean - 1, mean and mean + 1: within each the variance is 1."""
    predictions = np.add.outer(means, [-1.0, 0, 1]).ravel()
    numbers = np.repeat(np.arange(len(means)) + 5, 3)
    assert (np.std(means, ddof=1) > 3) == apart
    shuffled = RNG.permutation(len(numbers))
    masks = flags.of_ensemble(np.c_[predictions, 0 * predictions, predictions * NAN][shuffled], numbers[shuffled])
    assert masks["autoencoders-apart"].tolist() == [apart, False, False]


@pytest.mark.parametrize("numbers", [[1, 1, 1], [1, 2, 3]], ids=str)
def test_nothing_tells_whether_these_are_apart(numbers):
    assert "autoencoders-apart" not in flags.of_ensemble(np.zeros((3, 2)), numbers)


@pytest.mark.parametrize(("beyond", "word"), [([1], True), ([0], False), ([1, 0], False), ([1, 1, 0], True),
                                              ([NAN], False)])
def test_most_autoencoders_decide(beyond, word):
    limits = {name: np.arange(1.0, 1 + len(beyond)) for name in flags.LIMITS}
    near, far = limits["reconstruction"] * 0.9, limits["reconstruction"] + np.array(beyond) * 0.5
    for mse, distance in ((far, near), (near, far)):
        masks = flags.of_networks(mse[:, None], distance[:, None], limits)
        assert [masks[name][0] for name in flags.LIMITS] == [word and far is mse, word and far is mse,
                                                             word and far is distance]


@pytest.mark.parametrize(("arguments", "expected"), [
    ({"snr": [149, 150, NAN]}, ["low-snr", "", ""]), ({"snr": ["149", "high", ""]}, ["low-snr", "", ""]),
    ({"lag": [18, -19, NAN]}, ["", "lag", ""]),
    ({"seen": [True, False, True]}, ["", "unseen", ""]),
    ({"snr": [10, 10, 500], "lag": [99, 0, 0], "seen": [False, True, True]}, ["low-snr lag unseen", "low-snr", ""]),
])
def test_flags_of_a_spectrum(arguments, expected):
    assert words(flags.of_star(**arguments)) == expected


# ---------------------------------------------------------------- tables
def test_table_of_all_rules():
    values = {"teff": [3400, 2300], "logg": [5, 5], "mh": [0, NAN], "vsini": [1.7, 4]}
    ensembles = {"mh": (np.c_[groups((6, 0, 1), (6, 9, 1)), np.full(12, NAN)], np.repeat([0, 1], 6))}
    limits = {name: np.array([1.0, 1.0]) for name in flags.LIMITS}
    networks = np.array([[2.0, NAN]] * 2), np.array([[0.5, NAN]] * 2), limits
    table, left_out = flags.table(values, flags.GRID, 94_600, ensembles, networks, {"seen": [False, True], "lag": None})
    assert list(table) == flags.COLUMNS and left_out == ["low-snr", "lag", "other-instrument"]
    assert table.to_numpy().tolist() == [
        ["", "", "two-modes autoencoders-apart", "grid-edge upper-limit",
         "reconstruction reconstruction-observed unseen"],
        ["outside-grid", "", "", "", ""],
    ]
    assert [flags.flagged(table, par).tolist() for par in paper.PARAMETERS] == [[True, True], [True, False]] + 2 * [
        [True, False]]
    counted = flags.counts(table)[["flags_vsini", "flags"]]
    assert counted.loc[["unseen", "grid-edge"]].to_numpy().tolist() == [[0, 1], [1, 0]]
    assert not flags.flagged(table[["flags_teff"]].iloc[:1].assign(flags="unseen"), "teff").any()
    assert not flags.flagged(pd.DataFrame({"teff": [3000]}), "teff").any()


def test_limits_that_an_earlier_version_did_not_leave():
    metrics = {"mse_ph_test_q99": 1.0, "mse_carm_q99_before": 2.0, "mse_carm_q99_after": 3.0,
               "distance_latent_ph_test_q99": 4.0}
    stars = {"mse_after": [1.0, 2.0], "distance_latent_after": [3.0, NAN]}
    now = types.SimpleNamespace(metrics=metrics, stars=stars)
    mse, distance, limits = flags.measured([now, now], "after")
    assert mse.tolist() == [[1.0, 2.0]] * 2 and distance.shape == (2, 2)
    assert {word: values.tolist() for word, values in limits.items()} == {
        "reconstruction": [1, 1], "reconstruction-observed": [3, 3], "latent-distance": [4, 4]}
    assert flags.limits([now], "before")["reconstruction-observed"].tolist() == [2]
    assert flags.measured([now, types.SimpleNamespace(metrics={}, stars={})], "after") is None


# ---------------------------------------------------------------- docs
def test_docs_have_every_rule():
    page = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    section = page.partition("\n## Flags\n")[2].partition("\n## ")[0]
    rows = [f"| `{word}` | {rule.when} | {rule.why} |" for word, rule in flags.RULES.items()]
    assert [line for line in section.splitlines() if line.startswith("| `")] == rows
    assert f"{flags.resolved_vsini():.1f} km/s" in flags.RULES["upper-limit"].when
