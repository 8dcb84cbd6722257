"""Calibrated errors: the likelihood against twins, planted offsets, limits, coverage."""
import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from inference import calibration
from workflow import files


def draw(seed, n, offset=0.0, scatter=0.0, slope=0.0, lit=0.3):
    """Stars whose own uncertainties hold, but for an offset and a scatter that are planted."""
    rng = np.random.default_rng(seed)
    low, high = rng.uniform(0.2, 0.6, n), rng.uniform(0.2, 1.5, n)
    widths = np.sqrt(low**2 + scatter**2 + lit**2), np.sqrt(high**2 + scatter**2 + lit**2)
    above = rng.uniform(size=n) < widths[1] / (widths[0] + widths[1])
    teff, ours = rng.uniform(3000, 4000, n), rng.uniform(10, 20, n)
    away = np.where(above, widths[1], -widths[0]) * np.abs(rng.normal(size=n))
    return pd.DataFrame({"karmn": [f"J{k}" for k in range(n)], "teff": teff, "ours": ours, "ours_low": low,
                         "ours_high": high, "lit": ours + offset + slope * (teff - teff.mean()) / 100 + away,
                         "lit_low": lit, "lit_high": lit, "limit": False})


def with_limit(stars, **star):
    """These stars and one with an upper limit."""
    more = {**stars.iloc[0], "karmn": "limit", "lit_low": np.nan, "lit_high": np.nan, "limit": True, **star}
    return pd.concat([stars, pd.DataFrame([more])], ignore_index=True).astype({"limit": bool})


# ---------------------------------------------------------------- likelihood and fit
@pytest.mark.parametrize("offset, scatter", [(0.0, 0.0), (-0.7, 0.4)])
def test_likelihood_against_a_twin(offset, scatter):
    stars = with_limit(draw(1, 6), ours=0.5, ours_low=0.4, ours_high=0.9, lit=1.2)
    for value, star in zip(calibration.log_likelihood(stars, offset, scatter), stars.itertuples()):
        error = np.nan_to_num(star.lit_low)
        low, high = (np.sqrt(own**2 + scatter**2 + error**2) for own in (star.ours_low, star.ours_high))

        def density(x, mode=star.ours + offset, low=low, high=high):
            return 2 / (low + high) * (low * norm.pdf(x, mode, low) if x < mode else high * norm.pdf(x, mode, high))

        likelihood = quad(density, 0, star.lit, epsabs=1e-12, points=[np.clip(star.ours + offset, 0, star.lit)])[0] if (
            star.limit) else density(star.lit)
        assert np.exp(value) == pytest.approx(likelihood, rel=1e-8)


def test_fit_is_the_maximum_on_a_grid():
    stars = draw(2, 25, offset=1.0, scatter=0.8).assign(ours_low=0.5, ours_high=0.5)
    fitted = calibration.fit(stars)
    offsets, scatters = np.linspace(-1, 3, 401), np.linspace(0.01, 2.01, 201)
    width = np.sqrt(0.5**2 + 0.3**2 + scatters**2)
    differences = (stars["lit"] - stars["ours"]).to_numpy()
    grid = norm.logpdf(differences, offsets[:, None, None], width[:, None]).sum(axis=-1)
    best = np.unravel_index(grid.argmax(), grid.shape)
    assert fitted.coefficients[0] == pytest.approx(offsets[best[0]], abs=0.01)
    assert fitted.scatter == pytest.approx(scatters[best[1]], abs=0.01)
    # of equal widths the mean is as well known as its standard error, and the profile of the scatter is the grid's
    assert fitted.covariance[0, 0] == pytest.approx((0.34 + fitted.scatter**2) / 25, rel=1e-3)
    profile = grid.max(axis=0)
    inside = scatters[profile > profile.max() - 0.5]
    assert calibration.scatter_interval(stars, fitted) == pytest.approx((inside[0], inside[-1]), abs=0.015)


@pytest.mark.parametrize("slope", [None, 0.3])
def test_what_is_planted_is_found_within_its_uncertainty(slope):
    deviations, held = [], []
    for seed in range(12):
        stars = draw(seed, 120, 1.5, 0.7, slope or 0)
        fitted = calibration.fit(stars, slope is not None)
        planted = [1.5, slope][: len(fitted.coefficients)]
        deviations.append((fitted.coefficients - planted) / np.sqrt(np.diag(fitted.covariance)))
        low, high = calibration.scatter_interval(stars, fitted)
        held.append(low < 0.7 < high)
    assert np.abs(deviations).max() < 3.2 and 0.6 < np.std(deviations) < 1.5  # of 12 or 24, in units of their error
    assert 5 <= sum(held) <= 11  # of 12, at 68 %
    if slope:
        assert fitted.offset([fitted.pivot, fitted.pivot + 100]) == pytest.approx(np.cumsum(fitted.coefficients))


def test_no_scatter_is_none_with_a_limit():
    stars = draw(3, 60, offset=-1)
    stars["lit"] = stars["ours"] - 1 + 0.2 * (stars["lit"] - stars["ours"] + 1)
    fitted = calibration.fit(stars)
    low, high = calibration.scatter_interval(stars, fitted)
    assert fitted.scatter == 0 == low < high

    def best(scatter):
        return max(calibration.log_likelihood(stars, offset, scatter).sum() for offset in np.linspace(-1.2, -0.8, 41))

    assert best(0) - best(high) == pytest.approx(1.645**2 / 2, abs=0.01)


# ---------------------------------------------------------------- several gaps
def gaps(seed, n, shared):
    """Stars behind some gaps, which share an error with all behind the same one."""
    rng = np.random.default_rng(seed)
    return [draw(100 * seed + k, 30, 1.0 + shared * rng.normal(), 0.5) for k in range(n)]


@pytest.mark.parametrize("shared, alone", [(3.0, (0.1, 0.4)), (0.0, (0.6, 0.76))])
def test_intervals_hold_behind_gaps_that_were_not_seen(shared, alone):
    seen, unseen = gaps(1, 40, shared), gaps(2, 80, shared)
    fits = [calibration.fit(stars) for stars in seen]
    joined = calibration.joined(fits)
    for fit, (low, high) in ((joined, (0.6, 0.76)), (fits[0], alone)):  # the second of one gap
        assert low < np.mean([calibration.inside(stars, fit)["68"].mean() for stars in unseen]) < high
    assert joined.n_gaps == 40 and joined.scatter**2 - joined.shared**2 == pytest.approx(0.25, abs=0.15)
    low, high = calibration.scatter_interval(seen[0], joined)
    assert low <= joined.scatter <= high and (low < np.hypot(shared, 0.5) < high or not shared)
    assert (joined.shared > 1) == (shared > 1)


@pytest.mark.parametrize("fits", [
    [calibration.Fit(np.zeros(1), np.eye(1), 1.0, 0.0)], [calibration.Fit(np.zeros(2), np.eye(2), 1.0, 3000.0)] * 3])
def test_one_gap_or_a_slope_cannot_be_joined(fits):
    with pytest.raises(files.BadInput, match="leave --linear out"):
        calibration.joined(fits)


# ---------------------------------------------------------------- limits
def test_a_limit_far_above_moves_nothing():
    stars = draw(4, 30, 1.0, 0.5)
    without, fitted = calibration.fit(stars), calibration.fit(with_limit(stars, ours=15.0, lit=40.0))
    assert fitted.coefficients == pytest.approx(without.coefficients, abs=1e-4)
    assert fitted.scatter == pytest.approx(without.scatter, rel=1e-3)
    assert fitted.covariance == pytest.approx(without.covariance, rel=1e-3)


def test_a_limit_below_draws_down_its_distance_counts_and_nothing_becomes_negative():
    stars = draw(4, 30, 1.0, 0.5)
    offsets = [calibration.fit(with_limit(stars, ours=15.0, lit=limit)).coefficients[0] for limit in (18, 15, 14)]
    assert offsets[0] > offsets[1] + 0.01 > offsets[2] + 0.02
    stars = with_limit(draw(4, 30, -3.0, 0.1, lit=0.1), ours=2.5, lit=2.0)
    assert calibration.fit(stars).coefficients[0] > calibration.fit(stars[~stars["limit"]]).coefficients[0] + 0.01


# ---------------------------------------------------------------- coverage
def test_intervals_by_hand():
    stars = pd.DataFrame({"karmn": list("ABCDE"), "teff": 3000.0, "ours": 10.0, "ours_low": 3.0, "ours_high": 1.0,
                          "lit": [7.1, 11.1, 6.9, 4.0, 20.0], "lit_low": 0.0, "lit_high": [0, 0, 0, 0, np.nan],
                          "limit": [False] * 4 + [True]})
    assert calibration.inside(stars)["68"].tolist() == [True, False, False, False, True]
    assert calibration.inside(stars)["95"].tolist() == [True, True, True, False, True]
    fitted = calibration.Fit(np.array([-2.0]), np.array([[3.0]]), 2.0, 0.0)  # of scatter and covariance, 7
    assert calibration.inside(stars, fitted)["68"].tolist() == [True, False, True, True, True]
    assert calibration.inside(stars.assign(lit_high=2.65))["68"].tolist() == [True, False, True, False, True]


def test_coverage_of_what_is_calibrated_is_nominal():
    many = calibration.inside(draw(5, 4000))
    assert abs(many["68"].mean() - 0.6827) < 3 * np.sqrt(0.6827 * 0.3173 / 4000)
    assert abs(many["95"].mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 4000)
    stars = draw(6, 100, offset=2.0, scatter=1.0)
    after = calibration.leave_one_out(stars)
    assert calibration.inside(stars)["68"].mean() < 0.3
    assert abs(after["68"].mean() - 0.6827) < 3 * np.sqrt(0.6827 * 0.3173 / 100)
    assert abs(after["95"].mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 100)


def test_leave_one_out_leaves_the_star_out(monkeypatch):
    stars, seen, fit = with_limit(draw(7, 8, 1.0, 0.5), lit=12.0), [], calibration.fit
    held = calibration.leave_one_out(stars)
    for k in np.flatnonzero(~stars["limit"]):
        expected = calibration.inside(stars.loc[[k]], fit(stars.drop(index=k)))
        assert held.loc[k].tolist() == expected.loc[k].tolist()
    monkeypatch.setattr(calibration, "fit", lambda stars, *rest: seen.append(set(stars["karmn"])) or fit(stars, *rest))
    assert list(calibration.leave_one_out(stars)["karmn"]) == [f"J{k}" for k in range(8)]
    assert seen == [set(stars["karmn"]), *(set(stars["karmn"]) - {f"J{k}"} for k in range(8))]


def test_share_has_the_wilson_interval():
    share, low, high = calibration.share(np.arange(14) < 10)
    z = norm.ppf(0.5 + 0.6827 / 2)
    half = z * np.sqrt(10 * 4 / 14 + z**2 / 4) / (14 + z**2)
    middle = (10 + z**2 / 2) / (14 + z**2)
    assert (share, low, high) == pytest.approx((10 / 14, middle - half, middle + half))


def test_conformal_intervals_are_order_statistics():
    stars = pd.DataFrame({"ours": 0.0, "lit": np.arange(1.0, 20)})  # 0.3173 of 20 leaves 3 at either side
    tested = pd.DataFrame({"karmn": list("ABCD"), "ours": 5.0, "lit": [7.9, 8.0, 22.0, 22.1], "limit": False})
    held = calibration.conformal(stars, tested)
    assert held["68"].tolist() == [False, True, True, False] and held["95"].all()  # too few stars for 95 %
