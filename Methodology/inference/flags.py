"""How far to trust each estimate: flags, star by star (no TensorFlow).

A flag is a word. Those on one parameter are in its column, flags_teff, flags_logg, flags_mh or flags_vsini, those on
the star in `flags`, separated by blanks, after the published columns of final_estimations.csv. RULES has them all. A
rule that lacks what it needs, as for the published table, of which only the values are known, leaves out its word.
"""
from dataclasses import dataclass
from typing import Optional

import numpy as np
import pandas as pd
from scipy.constants import speed_of_light

import paper
from inference import mode

COLUMNS = [*(f"flags_{par}" for par in paper.PARAMETERS), "flags"]
GRID = {"teff": paper.GRID_TEFF, "logg": paper.GRID_LOGG, "mh": paper.GRID_MH, "vsini": np.array(paper.GRID_VSINI)}


@dataclass(frozen=True)
class Rule:
    """When a star has a word, in words as in docs/trust.md, and why; the threshold, None where there is none.

    `doubt` is False of what is worth knowing but no reason to doubt: it counts for no star as flagged.
    """

    threshold: Optional[float]
    when: str
    why: str
    doubt: bool = True


ROTATION_FWHM = 1.56  # [v sin i] of the rotational profile, half of its maximum solved for
VALLEY = 0.8  # between two modes the density falls below this share of the second
RULES = {
    "outside-grid": Rule(None, "the value lies outside of the labels of the synthetic spectra", "it is extrapolated"),
    "grid-edge": Rule(1, "the value lies inside, within one step of the labels from their end",
                      "with labels on one side only, estimates are drawn inwards"),
    "upper-limit": Rule(None, f"v sin i is below c / ({ROTATION_FWHM} R), 2.0 km/s for R = {paper.RESOLVING_POWER:,}: "
                        "there the profile of rotation (Gray 2008, Eq. 18.14, limb darkening 0.6; "
                        f"{ROTATION_FWHM} v sin i wide at half maximum) is as wide as that of the instrument, c/R",
                        "Reiners et al. 2018, A&A 612, A49, give 2 km/s as CARMENES' limit too"),
    "two-modes": Rule(0.5, "the density of the kept predictions has a second maximum, of at least half the height of "
                      f"the first, and between the two falls below {VALLEY} of the second",
                      "which one is the estimate hangs on a few members"),
    "autoencoders-apart": Rule(3, "the means of the autoencoders scatter by more than three times the scatter of the "
                               "kept members of one", "there are as many opinions as autoencoders, not as members"),
    "reconstruction": Rule(0.99, "the error of the reconstruction lies beyond the 99 % quantile of the synthetic test "
                           "set, each domain by its own network",
                           "something in the spectrum is not told by the 32 numbers"),
    "reconstruction-observed": Rule(0.99, "it lies beyond the 99 % quantile of all observed stars of the run",
                                    "the same but for the gap that all stars share; one in a hundred has it"),
    "latent-distance": Rule(0.99, "the nearest encoding of the synthetic training set is farther than for 99 % of "
                            "the synthetic test set", "the regressors have learnt from nothing like it"),
    "low-snr": Rule(paper.MIN_SNR, f"`snr` in `stars.csv` is below {paper.MIN_SNR}",
                    "the paper's spectra all have more"),
    "lag": Rule(paper.LAG_STAR, f"its lines are shifted by more than {paper.LAG_STAR:.1f} pixels, two elements of "
                "resolution (`lag.csv`)", "a shift looks like other labels"),
    "other-instrument": Rule(None, "of stars of `estimate.py`: the autoencoders were fine-tuned on spectra of other "
                             "instruments, or on simulated ones alone", "they do not know what it does to a spectrum"),
    "unseen": Rule(None, "fine-tuning did not train on it",
                   "worth knowing; no reason to doubt, so it makes no star pale", doubt=False),
}


# ---------------------------------------------------------------- of a parameter
def grid_of(labels):
    """The different labels of each parameter, ascending, a dict, of an array of shape (n_spectra, 4)."""
    return {par: np.unique(np.asarray(labels[:, parameter.column], float))
            for par, parameter in paper.PARAMETERS.items()}


def resolved_vsini(resolving_power=paper.RESOLVING_POWER):
    """v sin i [km/s] at which the profile of rotation is as wide, at half maximum, as that of the instrument, c/R."""
    return speed_of_light / 1000 / ROTATION_FWHM / resolving_power


def of_values(par, values, grid, resolving_power=paper.RESOLVING_POWER):
    """Flags that follow from the estimate alone.

    Parameters
    ----------
    par : {"teff", "logg", "mh", "vsini"}
    values : array of shape (n_stars,)
        NaN where there is no estimate, which gets no flag.
    grid : array
        The different labels of the synthetic spectra, ascending.
    resolving_power : float
        Of the instrument.

    Returns
    -------
    dict of str to ndarray of shape (n_stars,), bool
        Where each word is given.
    """
    values, steps = np.asarray(values, float), RULES["grid-edge"].threshold
    outside = (values < grid[0]) | (values > grid[-1])
    near = (values < grid[min(steps, len(grid) - 1)]) | (values > grid[max(-1 - steps, -len(grid))])
    masks = {"outside-grid": outside, "grid-edge": near & ~outside}
    return {**masks, "upper-limit": values < resolved_vsini(resolving_power)} if par == "vsini" else masks


def of_ensemble(predictions, autoencoders):
    """Flags that follow from the predictions of the kept regressors.

    Parameters
    ----------
    predictions : ndarray of shape (n_members, n_stars)
        NaN for a star without a usable spectrum.
    autoencoders : array of shape (n_members,)
        Of which autoencoder each member reads the encodings.

    Returns
    -------
    dict of str to ndarray of shape (n_stars,), bool
        "autoencoders-apart" only where there are at least two, one of them with two members.
    """
    predictions, autoencoders = np.asarray(predictions, float), np.asarray(autoencoders)
    two = np.zeros(predictions.shape[1], bool)
    good = np.isfinite(predictions).all(axis=0)
    two[good] = [_has_two_modes(star) for star in predictions[:, good].T]
    of_each = [predictions[autoencoders == i] for i in np.unique(autoencoders)]
    free = len(predictions) - len(of_each)
    if len(of_each) < 2 or not free:
        return {"two-modes": two}
    within = np.sqrt(sum(((some - some.mean(axis=0)) ** 2).sum(axis=0) for some in of_each) / free)
    between = np.std([some.mean(axis=0) for some in of_each], axis=0, ddof=1)
    return {"two-modes": two, "autoencoders-apart": between > RULES["autoencoders-apart"].threshold * within}


def _has_two_modes(predictions):
    height = mode.density(predictions)[1]
    padded, top = np.r_[-np.inf, height, -np.inf], np.argmax(height)
    maxima = np.flatnonzero((padded[1:-1] >= padded[:-2]) & (padded[1:-1] > padded[2:]))
    seconds = [k for k in maxima if k != top and height[k] >= RULES["two-modes"].threshold * height[top]]
    return any(height[min(k, top) : max(k, top)].min() < VALLEY * height[k] for k in seconds)


# ---------------------------------------------------------------- of a star
def of_networks(mse, distance, limits):
    """Flags that follow from how the autoencoders describe a star; more than half of them must say so.

    Parameters
    ----------
    mse, distance : ndarray of shape (n_autoencoders, n_stars)
        Mean squared error of the reconstruction; distance of the encoding to the nearest of the synthetic training
        set, see `neighbours.nearest_distances`. NaN without a usable spectrum.
    limits : dict of str to ndarray of shape (n_autoencoders,)
        As `flags.limits` gives them.

    Returns
    -------
    dict of str to ndarray of shape (n_stars,), bool
    """
    measured = {"reconstruction": mse, "reconstruction-observed": mse, "latent-distance": distance}
    return {word: np.mean(np.asarray(measured[word]) > limit[:, None], axis=0) > 0.5 for word, limit in limits.items()}


def of_star(snr=None, lag=None, seen=None, foreign=None):
    """Flags that follow from the spectrum and its part in fine-tuning; what is None, or no number, gives none.

    Parameters
    ----------
    snr : array of shape (n_stars,), optional
        Signal to noise in a pixel.
    lag : array of shape (n_stars,), optional
        [pixel], see `velocity.lag`.
    seen : array of shape (n_stars,), bool, optional
        Whether fine-tuning trained on the spectrum.
    foreign : array of shape (n_stars,), bool, optional
        Whether it trained on no spectrum of the star's instrument.

    Returns
    -------
    dict of str to ndarray of shape (n_stars,), bool
    """
    masks = {}
    snr, lag = (None if part is None else pd.to_numeric(pd.Series(np.asarray(part)), errors="coerce").to_numpy(float)
                for part in (snr, lag))
    if snr is not None:
        masks["low-snr"] = snr < RULES["low-snr"].threshold
    if lag is not None:
        masks["lag"] = np.abs(lag) > RULES["lag"].threshold
    if foreign is not None:
        masks["other-instrument"] = np.asarray(foreign, bool)
    if seen is not None:
        masks["unseen"] = ~np.asarray(seen, bool)
    return masks


# ---------------------------------------------------------------- tables
def table(values, grid, resolving_power, ensembles, networks, star):
    """All flags of some stars, of a run or new ones.

    Parameters
    ----------
    values : dict of str to array of shape (n_stars,)
        Estimates of each parameter.
    grid : dict of str to array
        The different labels of each parameter, ascending.
    resolving_power : float
    ensembles : dict of str to tuple
        Arguments of `of_ensemble` for each parameter that has predictions.
    networks : tuple or None
        Arguments of `of_networks`, as from `flags.measured`.
    star : dict
        Arguments of `of_star`.

    Returns
    -------
    DataFrame
        COLUMNS, a row a star; words in the order of RULES, "" where there are none.
    left_out : list of str
        Words of RULES that nothing was there to tell by.
    """
    masks = {par: of_values(par, values[par], grid[par], resolving_power) for par in paper.PARAMETERS}
    for par, ensemble in ensembles.items():
        masks[par].update(of_ensemble(*ensemble))
    masks["star"] = {**(of_networks(*networks) if networks else {}), **of_star(**star)}
    n_stars, told = len(masks["teff"]["grid-edge"]), set().union(*masks.values())
    found = {column: [" ".join(word for word in RULES if word in some and some[word][k]) for k in range(n_stars)]
             for column, some in zip(COLUMNS, masks.values())}
    return pd.DataFrame(found), [word for word in RULES if word not in told]


def of_published(estimates):
    """COLUMNS of a table of which only the estimates are known, those of the paper's grid and instrument.

    Parameters
    ----------
    estimates : DataFrame
        `teff` [K], `logg` [dex], `mh` [dex], `vsini` [km/s].
    """
    values = {par: estimates[par] for par in paper.PARAMETERS}
    return table(values, GRID, paper.RESOLVING_POWER, {}, None, {})[0].set_index(estimates.index)


def as_text(column):
    """A column of flags as text; one without any is read from a file as numbers, all NaN."""
    return column.astype(object).where(column.notna(), "").astype(str)


def _words(table, column):
    return as_text(table[column]).str.split()


def in_words(table):
    """All flags of each star of a table, those on a parameter after its name, a list of str."""
    of_each = {f"{parameter.published}: ": table[f"flags_{par}"] for par, parameter in paper.PARAMETERS.items()}
    return [", ".join(filter(None, [star, *(name + words for name, words in zip(of_each, some) if words)]))
            for star, *some in zip(table["flags"], *of_each.values())]


def flagged(table, par):
    """Which stars have a flag that casts doubt on a parameter, of its own or of the star.

    Parameters
    ----------
    table : DataFrame
        A table with COLUMNS; without them no star is.
    par : {"teff", "logg", "mh", "vsini"}

    Returns
    -------
    Series of bool
    """
    doubted = pd.Series(False, table.index)
    no_doubt = {word for word, rule in RULES.items() if not rule.doubt}
    for column in (column for column in (f"flags_{par}", "flags") if column in table):
        doubted |= _words(table, column).map(lambda words: bool(set(words) - no_doubt))
    return doubted


def counts(table):
    """How many stars have each flag: a row a word, a column each of COLUMNS; only words that there are."""
    found = pd.DataFrame({column: _words(table, column).explode().value_counts() for column in COLUMNS})
    return found.reindex([word for word in RULES if word in found.index]).fillna(0).astype(int)


# Metrics that act 3 leaves of each autoencoder: the quantile of RULES[word] that a star is held against
LIMITS = {"reconstruction": "mse_ph_test_q99", "reconstruction-observed": "mse_carm_q99_{when}",
          "latent-distance": "distance_latent_ph_test_q99"}


def quantile(word, values, when=""):
    """What a flag compares with, by the name of the metric.

    Parameters
    ----------
    word : str
        Of LIMITS.
    values : array
        Errors, or distances, of all that have one.
    when : {"before", "after"}, optional
        Fine-tuning, where it matters.

    Returns
    -------
    dict of str to float
    """
    return {LIMITS[word].format(when=when): float(np.quantile(values, RULES[word].threshold))}


def limits(sidecars, when="after"):
    """What the reconstruction and the distance of a star are held against.

    Parameters
    ----------
    sidecars : list of schemas.Sidecar
        Of the fine-tuned autoencoders.
    when : {"before", "after"}
        Fine-tuning.

    Returns
    -------
    dict of str to ndarray of shape (n_autoencoders,)
        By word. Empty if an earlier version of act 3, which left none, made one of them.
    """
    names = {word: metric.format(when=when) for word, metric in LIMITS.items()}
    if not all(name in sidecar.metrics for name in names.values() for sidecar in sidecars):
        return {}
    return {word: np.array([sidecar.metrics[name] for sidecar in sidecars]) for word, name in names.items()}


def measured(sidecars, when):
    """Arguments of `flags.of_networks` for the stars of a run, as act 3 left them; None if an earlier one did not."""
    against = limits(sidecars, when)
    return (*(np.array([sidecar.stars[f"{name}_{when}"] for sidecar in sidecars])
              for name in ("mse", "distance_latent")), against) if against else None
