"""Estimates of simulated stars against their truth, by hand."""
import numpy as np
import pandas as pd
import pytest

from evaluation.truth import errors_by_flag, errors_of_estimates
from inference import flags, mode


def five_stars():
    truth = pd.DataFrame({
        "karmn": list("ABCDE"), "ra": 0.0, "dec": 0.0, "good": True, "teff": [3000.0, 3100, 3200, 3300, 3400],
        "logg": [4.8, 4.9, 5.0, 5.1, 5.2], "mh": [-0.2, -0.1, 0.0, 0.1, 0.2], "vsini": [1.5, 2, 3, 5, 20],
    })
    e = np.array([1.0, 2, 3, 4, 50])
    estimated = {
        "teff": (truth.teff + [10, -20, 30, -40, 70], 10 * e, 12 * e),
        "logg": (truth.logg + [0.1, 0.1, 0.1, 0.1, 0.1], 0.1 * e, 0.1 * e),
        "mh": (truth.mh + [0.1, -0.1, np.nan, 0.1, -0.1], 0 * e, e),
        "vsini": (truth.vsini + [0, 0, 0, 0, 5], e, e),
    }
    return mode.table(truth, estimated), truth


def test_errors_of_estimates_by_hand():
    table, truth = five_stars()
    errors = errors_of_estimates(table, table, truth)
    assert list(errors.index) == ["Teff [K]", "logg [dex]", "[M/H] [dex]", "vsini [km/s]"]
    assert errors["n"].tolist() == [5, 5, 4, 5]
    np.testing.assert_allclose(errors["bias after"], [10, 0.1, 0, 1], atol=1e-12)
    # squares of the deviations of Teff: 0, 900, 400, 2500, 3600; of the differences: 100, 400, 900, 1600, 4900
    np.testing.assert_allclose(errors["scatter after"], [np.sqrt(7400 / 5), 0, 0.1, 2], atol=1e-7)
    np.testing.assert_allclose(errors["rmse after"], [np.sqrt(7900 / 5), 0.1, 0.1, np.sqrt(5)], atol=1e-7)
    np.testing.assert_allclose(errors["own uncertainty"], [33, 0.3, 1.5, 3])
    worse = errors_of_estimates(table.assign(Teff=table["Teff"] + 100), table, truth)
    assert worse["bias before"].iloc[0] == pytest.approx(110) and worse["bias after"].iloc[0] == pytest.approx(10)


def test_truth_is_matched_by_name_and_a_parameter_without_estimates_is_left_out():
    table, truth = five_stars()
    shuffled = truth.iloc[[3, 1, 4, 0, 2]]
    errors = errors_of_estimates(table, table, truth)
    pd.testing.assert_frame_equal(errors_of_estimates(table, table, shuffled), errors)
    table[["logg", "e_logg", "E_logg"]] = np.nan
    assert list(errors_of_estimates(table, table, truth).index) == ["Teff [K]", "[M/H] [dex]", "vsini [km/s]"]


def test_errors_of_flagged_stars_by_hand():
    truth = pd.DataFrame({"karmn": list("ABCD"), "teff": 3000.0, "logg": 5.0, "mh": 0.0, "vsini": 3.0})
    table = mode.table(truth, {"teff": ([3030, 3040, 3100, np.nan],) * 3}).assign(**dict.fromkeys(flags.COLUMNS, ""))
    table = table.assign(flags_teff=["", "", "two-modes", "two-modes"], flags=["unseen", "", "unseen", "lag"])
    errors = errors_by_flag(table, truth.iloc[::-1])
    assert list(errors.index) == [("Teff [K]", "any doubt"), ("Teff [K]", "two-modes"), ("Teff [K]", "unseen")]
    assert errors["n without"].tolist() == [2, 2, 1] and errors["n with"].tolist() == [1, 1, 2]
    np.testing.assert_allclose(errors["rmse without"], np.sqrt([1250, 1250, 1600]))
    np.testing.assert_allclose(errors["rmse with"], np.sqrt([10_000, 10_000, 5450]))
