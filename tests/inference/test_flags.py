"""Flags: each rule where it holds and where it does not, its columns, and what act 3 leaves for it."""
import types

import numpy as np
import pandas as pd
import pytest

import paper
from inference import flags, mode
from workflow.artifacts import PRETRAINED, STAGES
from workflow.command_line import ROOT

RNG = np.random.default_rng(4)
NAN = np.nan


def words(evidence, column="flags"):
    """For each star the words that it has in a column."""
    return flags.table(evidence)[0][column].tolist()


def evidence(n_stars=1, **known):
    """What is known of stars whose estimates, unless given, lie in the middle of the grid."""
    middle = {par: np.full(n_stars, np.median(grid)) for par, grid in flags.GRID.items()}
    return flags.Evidence({**middle, **known.pop("values", {})}, **known)


def of_members(predictions, autoencoders):
    """Evidence of the predictions of Teff alone, (n_members, n_stars)."""
    *_, two_modes = mode.estimate(predictions)
    return evidence(np.shape(predictions)[1], predictions={"teff": predictions}, two_modes={"teff": two_modes},
                    autoencoders={"teff": autoencoders})


# ---------------------------------------------------------------- rules
GRIDS = {"paper": flags.GRID["logg"], "two nodes": np.array([4.7, 5.3]), "one node": np.array([5.0])}


@pytest.mark.parametrize(("grid", "value", "word"), [
    ("paper", 4.69, "outside-grid"), ("paper", 4.7, "grid-edge"), ("paper", 4.8, ""), ("paper", 5.2, ""),
    ("paper", 5.21, "grid-edge"), ("paper", 5.31, "outside-grid"), ("paper", NAN, ""), ("two nodes", 5.0, "grid-edge"),
    ("one node", 5.0, ""),
])
def test_edges_of_the_grid(grid, value, word):
    known = evidence(values={"logg": [value]}, grid={**flags.GRID, "logg": GRIDS[grid]})
    assert words(known, "flags_logg") == [word]


def test_steps_of_a_grid_may_differ():
    known = evidence(7, values={"vsini": [1.4, 1.9, 2.01, 2.1, 24, 26, 31]})
    assert words(known, "flags_vsini") == ["outside-grid upper-limit", "grid-edge upper-limit", "upper-limit", "", "",
                                           "grid-edge", "outside-grid"]


def fwhm_of_rotation(limb_darkening=0.6):
    """Gray's profile of rotation on a fine grid, in units of v sin i."""
    x = np.linspace(0, 1, 100_001)
    profile = 2 * (1 - limb_darkening) * np.sqrt(1 - x**2) + np.pi * limb_darkening / 2 * (1 - x**2)
    return 2 * x[profile >= profile[0] / 2].max()


@pytest.mark.parametrize(("resolving_power", "limit"), [(94_600, 2.03), (55_000, 3.494)])
def test_resolved_rotation(resolving_power, limit):
    assert flags.resolved_vsini(resolving_power) == pytest.approx(limit, abs=0.005)
    assert flags.resolved_vsini(resolving_power) == pytest.approx(
        299_792.458 / resolving_power / fwhm_of_rotation(), rel=0.002)
    known = evidence(2, values={"vsini": [limit - 0.1, limit + 0.1]}, resolving_power=resolving_power)
    assert ["upper-limit" in text for text in words(known, "flags_vsini")] == [True, False]


def groups(*parts):
    """Members around some values: how many, where, how wide; evenly placed."""
    return np.concatenate([where + width * np.linspace(-1, 1, n) for n, where, width in parts])


@pytest.mark.parametrize(("members", "two"), [
    (groups((12, 0, 1)), False), (groups((6, 0, 1), (6, 6, 1)), True), (groups((20, 0, 1), (20, 2.5, 1)), False),
    (groups((20, 0, 1), (3, 8, 1)), False), (groups((5, 3, 0)), False), (groups((6, 0, 1), (6, NAN, 1)), False),
])
def test_two_modes(members, two):
    for scale, offset in ((1, 0), (30, 3400), (1e-3, -0.2)):
        known = of_members(np.c_[members * scale + offset, np.arange(len(members))], [0] * len(members))
        assert words(known, "flags_teff") == ["two-modes" * bool(two), ""]


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
        assert words(of_members(members[:, None], [0] * 9), "flags_teff") == ["two-modes" * bool(two)]


@pytest.mark.parametrize(("means", "apart"), [((0, 3), False), ((0, 5), True), ((0, 0, 0, 3), False)])
def test_autoencoders_apart(means, apart):
    """Of three members each, at mean - 1, mean and mean + 1: within each the variance is 1."""
    predictions = np.add.outer(means, [-1.0, 0, 1]).ravel()
    numbers = np.repeat(np.arange(len(means)) + 5, 3)
    assert (np.std(means, ddof=1) > 3) == apart
    shuffled = RNG.permutation(len(numbers))
    known = of_members(np.c_[predictions, 0 * predictions, predictions * NAN][shuffled], numbers[shuffled])
    assert ["autoencoders-apart" in text for text in words(known, "flags_teff")] == [apart, False, False]


@pytest.mark.parametrize("numbers", [[1, 1, 1], [1, 2, 3]], ids=str)
def test_nothing_tells_whether_these_are_apart(numbers):
    table, left_out = flags.table(of_members(np.array([[0, 0], [0, 0], [9, 9.0]]), numbers))
    assert (table["flags_teff"] == "").all() and "autoencoders-apart" in left_out and "two-modes" not in left_out


@pytest.mark.parametrize(("beyond", "word"), [([1], True), ([1, 0], False), ([1, 1, 0], True), ([NAN], False)])
def test_most_autoencoders_decide(beyond, word):
    limits = {name: np.arange(1.0, 1 + len(beyond)) for name in flags.LIMITS}
    near, far = limits["reconstruction"] * 0.9, limits["reconstruction"] + np.array(beyond) * 0.5
    for mse, distance in ((far, near), (near, far)):
        known = evidence(mse=mse[:, None], latent_distance=distance[:, None], limits=limits)
        expected = "reconstruction reconstruction-observed" if far is mse else "latent-distance"
        assert words(known) == [expected * word]


@pytest.mark.parametrize(("arguments", "expected"), [
    ({"snr": [149, 150, NAN]}, ["low-snr", "", ""]), ({"snr": ["149", "high", ""]}, ["low-snr", "", ""]),
    ({"lag": [18, -19, NAN]}, ["", "lag", ""]),
    ({"foreign": [True, False, False]}, ["other-instrument", "", ""]),
    ({"odd": ["", "giant", "warm velocity"]}, ["", "odd-spectrum", "odd-spectrum"]),
    ({"snr": [10, 10, 500], "lag": [99, 0, 0], "seen": [False, True, True]}, ["low-snr lag unseen", "low-snr", ""]),
])
def test_flags_of_a_spectrum(arguments, expected):
    assert words(evidence(3, **arguments)) == expected


# ---------------------------------------------------------------- tables
def test_table_of_all_rules():
    values = {"teff": [3400, 2300], "logg": [5, 5], "mh": [0, NAN], "vsini": [1.7, 4]}
    members = np.c_[groups((6, 0, 1), (6, 9, 1)), np.full(12, NAN)]
    table, left_out = flags.table(flags.Evidence(
        values, predictions={"mh": members}, two_modes={"mh": mode.estimate(members)[3]},
        autoencoders={"mh": np.repeat([0, 1], 6)},
        mse=np.array([[2.0, NAN]] * 2), latent_distance=np.array([[0.5, NAN]] * 2),
        limits={name: np.array([1.0, 1.0]) for name in flags.LIMITS}, seen=[False, True]))
    assert list(table) == flags.COLUMNS and left_out == ["low-snr", "lag", "other-instrument", "odd-spectrum"]
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


@pytest.mark.parametrize("stage", STAGES)
def test_what_act_3_left_of_the_stars(stage):
    metrics = {"mse_ph_test_q99": 1.0, "mse_carm_q99_before": 2.0, "mse_carm_q99_after": 3.0,
               "distance_latent_ph_test_q99": 4.0}
    stars = {f"{name}_{when}": [k + 1.0, NAN] for name in ("mse", "distance_latent")
             for k, when in enumerate(("before", "after"))}
    known = flags.measured([types.SimpleNamespace(metrics=metrics, stars=stars)] * 2, stage)
    value, limit = (1.0, 2.0) if stage == PRETRAINED else (2.0, 3.0)
    for name in ("mse", "latent_distance"):
        np.testing.assert_array_equal(known[name], [[value, NAN]] * 2)
    assert {word: values.tolist() for word, values in known["limits"].items()} == {
        "reconstruction": [1, 1], "reconstruction-observed": [limit, limit], "latent-distance": [4, 4]}


# ---------------------------------------------------------------- docs
def test_docs_have_every_rule():
    page = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    section = page.partition("\n## Flags\n")[2].partition("\n## ")[0]
    rows = [f"| `{word}` | {rule.when} | {rule.why} |" for word, rule in flags.RULES.items()]
    assert [line for line in section.splitlines() if line.startswith("| `")] == rows
    assert f"{flags.resolved_vsini():.1f} km/s" in flags.RULES["upper-limit"].when
