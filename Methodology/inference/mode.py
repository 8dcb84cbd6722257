"""From the predictions of an ensemble to one estimate and its uncertainties a star (Sect. 3.3)."""
import numpy as np
from scipy.stats import gaussian_kde
from threadpoolctl import threadpool_limits

import paper


def best(test_mse):
    """Rows of the kept members, best first, by their test errors, (n_members,): 80 of 130, or as large a share."""
    return np.argsort(test_mse, kind="stable")[: max(1, round(paper.KEPT_REGRESSORS * len(test_mse)))]


def density(predictions):
    """Gaussian kernel density of predictions, (n_members,), on a grid over their range: grid and density, both (200,).

    The density is in the paper's text, the 200 points were read off the published table, and the bandwidth, by
    Scott's rule, is ours. Members that all agree have none to estimate: then both are (1,), their mean and infinity.
    """
    low, high = predictions.min(), predictions.max()
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return np.array([np.mean(predictions)]), np.array([np.inf])
    grid = np.linspace(low, high, paper.KDE_POINTS)
    return grid, gaussian_kde(predictions)(grid)


def estimate(predictions):
    """Estimates of one parameter, from (n_members, n_stars): mode, uncertainty below and above, each (n_stars,).

    The uncertainties, 1 sigma in the paper's text, are the distances to the 16 % and 84 % quantiles, which were read
    off the published table. Few members can put the mode outside of them; that the uncertainty on that side is then
    zero is ours. A star without a usable spectrum has NaN.
    """
    value = np.full(predictions.shape[1], np.nan)
    good = np.isfinite(predictions).all(axis=0)
    with threadpool_limits(1):  # else every star wakes all cores, which takes 40 times as long
        densities = map(density, np.asarray(predictions[:, good].T, float))
        value[good] = [grid[np.argmax(height)] for grid, height in densities]
    low, high = np.quantile(predictions.astype(float), paper.QUANTILES, axis=0)
    return value, np.maximum(value - low, 0), np.maximum(high - value, 0)


def table(stars, estimated):
    """The published table: karmn, ra_gaiadr3, dec_gaiadr3, then X, e_X, E_X for the four parameters.

    `stars` has `karmn` and perhaps `ra` and `dec` [deg]; `estimated` by parameter what `estimate` gives, or nothing.
    """
    frame = stars.reindex(columns=["karmn", "ra", "dec"]).rename(columns={"ra": "ra_gaiadr3", "dec": "dec_gaiadr3"})
    for par, parameter in paper.PARAMETERS.items():
        for prefix, column in zip(("", "e_", "E_"), estimated.get(par, [np.nan] * 3)):
            frame[prefix + parameter.published] = column
    return frame
