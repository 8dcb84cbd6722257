"""From the predictions of an ensemble to one estimate and its uncertainties a star."""
import numpy as np
from scipy.stats import gaussian_kde
from threadpoolctl import threadpool_limits

import paper


def prediction_name(regressor, suffix=""):
    """File of a regressor's predictions: of cnn_regressor_{par}_{k}_ac_{i} it is {par}_estimation_{k}_ac_{i}.npy.

    The suffix is "_before" for those without fine-tuning.
    """
    par, member = regressor[len("cnn_regressor_") :].split("_", 1)
    return f"{par}_estimation_{member}{suffix}.npy"


def best(test_mse):
    """Choose the members of an ensemble: 80 of 130 as in Sect. 3.3, or the same fraction of fewer.

    Parameters
    ----------
    test_mse : array of shape (n_members,)

    Returns
    -------
    ndarray of int
        Indices of the kept members, best first.
    """
    return np.argsort(test_mse, kind="stable")[: max(1, round(paper.KEPT_REGRESSORS * len(test_mse)))]


def density(predictions):
    """Gaussian kernel density estimate on a grid of 200 points over the predictions' range.

    The density is in the paper's text (Sect. 3.3), the 200 points were read off the published table, and the
    bandwidth, by Scott's rule, is ours.

    Parameters
    ----------
    predictions : ndarray of shape (n_members,)

    Returns
    -------
    grid, density : ndarray of shape (200,)
        Members that all agree have no density to estimate; then both are of shape (1,), their mean and infinity.
    """
    low, high = predictions.min(), predictions.max()
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return np.array([np.mean(predictions)]), np.array([np.inf])
    grid = np.linspace(low, high, paper.KDE_POINTS)
    return grid, gaussian_kde(predictions)(grid)


def mode(predictions):
    """Where `density` is largest, a float."""
    grid, height = density(predictions)
    return float(grid[np.argmax(height)])


def estimate(predictions):
    """Estimate of one parameter for every star.

    The estimate is the mode; its uncertainties, 1 sigma in the paper's text, are the distances to the 16 % and 84 %
    quantiles, which were read off the published table. Few members can put the mode outside of them; that the
    uncertainty on that side is then zero is ours.

    Parameters
    ----------
    predictions : ndarray of shape (n_members, n_stars)
        NaN for a star without a usable spectrum.

    Returns
    -------
    value, e_, E_ : ndarray of shape (n_stars,)
        Mode, uncertainty below and above.
    """
    value = np.full(predictions.shape[1], np.nan)
    good = np.isfinite(predictions).all(axis=0)
    with threadpool_limits(1):  # else every star wakes all cores, which takes 40 times as long
        value[good] = [mode(star) for star in np.asarray(predictions[:, good].T, float)]
    low, high = np.quantile(predictions.astype(float), paper.QUANTILES, axis=0)
    return value, np.maximum(value - low, 0), np.maximum(high - value, 0)


def table(stars, estimated):
    """Put the estimates in the form of the published table.

    Parameters
    ----------
    stars : DataFrame
        With `karmn` and, where known, `ra` and `dec` [deg].
    estimated : dict of str to tuple
        For a parameter what `estimate` returns; absent parameters become empty columns.

    Returns
    -------
    DataFrame
        karmn, ra_gaiadr3, dec_gaiadr3, then X, e_X, E_X for the four parameters.
    """
    frame = stars.reindex(columns=["karmn", "ra", "dec"])
    frame.columns = ["karmn", "ra_gaiadr3", "dec_gaiadr3"]
    for par, parameter in paper.PARAMETERS.items():
        columns = estimated.get(par, (np.nan, np.nan, np.nan))
        for prefix, column in zip(("", "e_", "E_"), columns):
            frame[prefix + parameter.published] = column
    return frame


