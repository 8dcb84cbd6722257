"""From the predictions of an ensemble to one estimate and its uncertainties a star (Sect. 3.3)."""
import numpy as np

import paper

SECOND_MODE, VALLEY = 0.5, 0.8  # least height of the second maximum, in that of the first; the valley's, in its own


def best(test_mse):
    """Rows of the kept members, best first, by their test errors, (n_members,): 80 of 130, or as large a share."""
    return np.argsort(test_mse, kind="stable")[: max(1, round(paper.KEPT_REGRESSORS * len(test_mse)))]


def densities(predictions):
    """Kernel densities of the predictions for each of several stars, (n_members, n_stars), none of them NaN.

    Gives a grid over the range of each star's predictions and its Gaussian density there, both (n_stars, 200). The
    density is in the paper's text, the 200 points were read off the published table, and the bandwidth, by Scott's
    rule, is ours. Of members that all agree the density is infinite at their mean, and zero beside it.
    """
    predictions = np.asarray(predictions, float)
    low, high = predictions.min(axis=0), predictions.max(axis=0)
    agree = high - low <= 1e-6 * np.maximum(abs(low), abs(high))
    grid = np.linspace(low, high, paper.KDE_POINTS, axis=1)
    height = np.zeros(grid.shape)
    n_members = len(predictions)
    width = np.where(agree, 1, np.std(predictions, axis=0, ddof=min(1, n_members - 1)) * n_members ** (-1 / 5))
    for member in predictions:  # one after the other, so that what is computed with stays in the cache
        z = (grid - member[:, None]) / width[:, None]
        height += np.exp(-0.5 * z * z)
    height /= n_members * width[:, None] * np.sqrt(2 * np.pi)
    grid[agree] = predictions.mean(axis=0)[agree, None]
    height[agree] = np.r_[np.inf, np.zeros(paper.KDE_POINTS - 1)]
    return grid, height


def density(predictions):
    """`densities` of one star, (n_members,): grid and density, both (200,), or (1,) if all members agree."""
    grid, height = (values[0] for values in densities(np.asarray(predictions)[:, None]))
    return (grid, height) if np.isfinite(height[0]) else (grid[:1], height[:1])


def estimate(predictions):
    """Estimates of one parameter, from (n_members, n_stars): mode, uncertainty below and above, each (n_stars,).

    Beside these stands of each star whether the density has a second maximum, for the flag `two-modes`.
    The uncertainties, 1 sigma in the paper's text, are the distances to the 16 % and 84 % quantiles, which were read
    off the published table. Few members can put the mode outside of them; that the uncertainty on that side is then
    zero is ours. A star without a usable spectrum has NaN.
    """
    value, two_modes = np.full(predictions.shape[1], np.nan), np.zeros(predictions.shape[1], bool)
    good = np.isfinite(predictions).all(axis=0)
    if good.any():
        grid, height = densities(predictions[:, good])
        value[good], two_modes[good] = grid[np.arange(len(grid)), height.argmax(axis=1)], _have_two_modes(height)
    low, high = np.quantile(predictions.astype(float), paper.QUANTILES, axis=0)
    return value, np.maximum(value - low, 0), np.maximum(high - value, 0), two_modes


def _have_two_modes(height):
    """Of densities, (n_stars, n_points), whether each has a second maximum that counts."""
    padded = np.pad(height, ((0, 0), (1, 1)), constant_values=-np.inf)
    maxima = (height >= padded[:, :-2]) & (height > padded[:, 2:])
    top = height.argmax(axis=1)
    seconds = maxima & (height >= SECOND_MODE * height.max(axis=1, keepdims=True))
    seconds[np.arange(len(height)), top] = False
    two = np.zeros(len(height), bool)
    for star, k in np.argwhere(seconds):
        two[star] |= height[star, min(k, top[star]) : max(k, top[star])].min() < VALLEY * height[star, k]
    return two


def table(stars, estimated):
    """The published table: karmn, ra_gaiadr3, dec_gaiadr3, then X, e_X, E_X for the four parameters.

    `stars` has `karmn` and perhaps `ra` and `dec` [deg]; `estimated` by parameter what `estimate` gives, or nothing.
    """
    frame = stars.reindex(columns=["karmn", "ra", "dec"]).rename(columns={"ra": "ra_gaiadr3", "dec": "dec_gaiadr3"})
    for par, parameter in paper.PARAMETERS.items():
        for prefix, column in zip(("", "e_", "E_"), estimated.get(par, [np.nan] * 3)):
            frame[prefix + parameter.published] = column
    return frame
