"""From an ensemble to one estimate a star: mode, quantiles, choice of members, table."""
import numpy as np
import pandas as pd
import pytest

from inference import mode

RNG = np.random.default_rng(6)
ENSEMBLE = np.r_[RNG.normal(3400, 30, (50, 6)), RNG.normal(3500, 15, (30, 6))]  # skewed, (n_members, n_stars)


def numpy_mode(values):
    """Gaussian kernel density with Scott's bandwidth, written out."""
    width = values.std(ddof=1) * len(values) ** (-1 / 5)
    grid = np.linspace(values.min(), values.max(), 200)
    density = np.exp(-0.5 * ((grid[:, None] - values) / width) ** 2).sum(axis=1)
    return grid[np.argmax(density)]


@pytest.mark.parametrize("n_members", [2, 5, 80])
def test_mode_is_the_maximum_of_the_density(n_members):
    for values in (ENSEMBLE[-n_members:, 0], RNG.gamma(2, 1, n_members), RNG.normal(0, 1e-3, n_members)):
        if n_members == 2:  # two members are symmetric: either end of the maximum will do
            values = np.r_[values, values[0]]
        assert mode.estimate(values[:, None])[0][0] == pytest.approx(numpy_mode(values), rel=1e-9)


def test_uncertainties_are_distances_to_the_quantiles():
    value, below, above, _ = mode.estimate(ENSEMBLE)
    low, high = (np.sort(ENSEMBLE, axis=0)[[12, 13]], np.sort(ENSEMBLE, axis=0)[[66, 67]])
    np.testing.assert_allclose(value - below, low[0] + 0.64 * (low[1] - low[0]))  # 0.16 x 79 = 12.64
    np.testing.assert_allclose(value + above, high[0] + 0.36 * (high[1] - high[0]))  # 0.84 x 79 = 66.36
    np.testing.assert_allclose(value, [numpy_mode(star) for star in ENSEMBLE.T])
    assert (below > 0).all() and (above > 0).all()


def test_uncertainties_are_never_negative():
    ensemble = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]).T
    _, below, above, _ = mode.estimate(ensemble)
    assert below[0] == 0 and above[0] == 0


@pytest.mark.parametrize(("n", "n_kept"), [(130, 80), (13, 8), (4, 2), (1, 1)])
def test_the_best_80_of_130_are_kept(n, n_kept):
    mse = np.random.default_rng(n).permutation(np.arange(n) + 0.5)
    best = mode.best(mse)
    assert mse[best].tolist() == [k + 0.5 for k in range(n_kept)]


def test_diverged_members_are_the_first_to_go():
    assert mode.best(np.array([np.nan, 3.0, np.inf, 1.0])).tolist() == [3, 1]


def test_star_without_spectrum_is_nan_and_alone():
    ensemble = ENSEMBLE.copy()
    ensemble[:, 2] = np.nan
    for part, whole in zip(mode.estimate(ensemble)[:3], mode.estimate(ENSEMBLE)):
        assert np.isnan(part).tolist() == [False, False, True, False, False, False]
        assert np.array_equal(np.delete(part, 2), np.delete(whole, 2))
    assert all(np.isnan(part).all() for part in mode.estimate(np.full((4, 3), np.nan))[:3])


@pytest.mark.parametrize("common", [-0.1, 0.0])
def test_equal_members_give_their_value(common):
    value, below, above, _ = mode.estimate(np.full((7, 2), common, np.float32))
    np.testing.assert_allclose(value, np.float32(common), rtol=1e-6)
    np.testing.assert_allclose([below, above], 0, atol=1e-9)


def test_order_of_the_members_changes_nothing():
    shuffled = RNG.permutation(ENSEMBLE, axis=0)
    for part, expected in zip(mode.estimate(shuffled), mode.estimate(ENSEMBLE)):
        np.testing.assert_allclose(part, expected, rtol=1e-9)


def test_table_has_the_published_columns():
    stars = pd.DataFrame({"karmn": ["J1", "J2"], "ra": [1.0, 2.0], "dec": [3.0, 4.0], "teff": 3000.0, "good": True})
    estimated = {"logg": ([5.0, 5.1], [0.1, 0.2], [0.3, 0.4]), "teff": ([3000.0, 3100.0], [10.0, 11.0], [12.0, 13.0])}
    table = mode.table(stars, estimated)
    assert list(table) == [
        "karmn", "ra_gaiadr3", "dec_gaiadr3", "Teff", "e_Teff", "E_Teff", "logg", "e_logg", "E_logg",
        "[M/H]", "e_[M/H]", "E_[M/H]", "vsini", "e_vsini", "E_vsini",
    ]
    assert table.loc[1, ["karmn", "ra_gaiadr3", "dec_gaiadr3", "Teff", "e_Teff", "E_Teff"]].tolist() == [
        "J2", 2.0, 4.0, 3100.0, 11.0, 13.0,
    ]
    assert table["E_logg"].tolist() == [0.3, 0.4] and table[["[M/H]", "E_vsini"]].isna().all(axis=None)
    assert mode.table(stars[["karmn"]], {})["ra_gaiadr3"].isna().all()
