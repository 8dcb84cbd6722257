"""How far to trust each estimate: flags, star by star (no TensorFlow).

A flag is a word. Those on one parameter are in its column, flags_teff, flags_logg, flags_mh or flags_vsini, those on
the star in `flags`, separated by blanks, after the published columns of final_estimations.csv. RULES has them all, and
how each follows from the Evidence. A rule that lacks what it needs, as for the published table, of which only values
are known, leaves out its word.
"""
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Callable, Optional

import numpy as np
import pandas as pd

import paper
from inference import mode
from spectra.transforms import LIGHT
from workflow.artifacts import FINETUNED, WHEN

COLUMNS = [*(f"flags_{par}" for par in paper.PARAMETERS), "flags"]
GRID = {"teff": paper.GRID_TEFF, "logg": paper.GRID_LOGG, "mh": paper.GRID_MH, "vsini": np.array(paper.GRID_VSINI)}


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of n_stars stars; None, or a parameter or word absent from a dict, where nothing is.

    Members are the kept regressors of a parameter, autoencoders those whose encodings they take.
    """

    values: Mapping  # by parameter, estimates in its unit, (n_stars,); NaN where there is none, which gets no flag
    grid: dict = field(default_factory=lambda: GRID)  # by parameter, labels of the synthetic spectra, ascending
    resolving_power: float = paper.RESOLVING_POWER
    predictions: dict = field(default_factory=dict)  # by parameter, (n_members, n_stars); NaN without a usable spectrum
    two_modes: dict = field(default_factory=dict)  # by parameter, what `mode.estimate` says of that, (n_stars,) of bool
    autoencoders: dict = field(default_factory=dict)  # by parameter, number of each member's autoencoder, (n_members,)
    mse: Optional[np.ndarray] = None  # of reconstructions, (n_autoencoders, n_stars)
    latent_distance: Optional[np.ndarray] = None  # to the nearest synthetic training spectrum, of the same shape
    limits: dict = field(default_factory=dict)  # of these two, by the word of the rule, (n_autoencoders,)
    snr: Optional[np.ndarray] = None  # in a pixel, (n_stars,)
    lag: Optional[np.ndarray] = None  # [pixel] against the synthetic spectra, (n_stars,)
    seen: Optional[np.ndarray] = None  # whether fine-tuning trained on the spectrum, (n_stars,)
    foreign: Optional[np.ndarray] = None  # whether it trained on none of the star's instrument, (n_stars,)
    odd: Optional[np.ndarray] = None  # words of observations/likeness.py on the spectrum, (n_stars,) of str


# ---------------------------------------------------------------- rules
GRID_STEPS = 1  # of the labels, from their end, that count as the edge
ROTATION_FWHM = 1.56  # [v sin i] of the rotational profile, half of its maximum solved for
APART = 3  # scatter between autoencoders, in that of the members of one
QUANTILE = 0.99  # of errors and distances, that a star is held against
# By the word of the rule, the metric of each autoencoder, left by act 3, that is this quantile
LIMITS = {"reconstruction": "mse_ph_test_q99", "reconstruction-observed": "mse_carm_q99_{when}",
          "latent-distance": "distance_latent_ph_test_q99"}


def outside_grid(evidence, par):
    values, grid = np.asarray(evidence.values[par], float), evidence.grid[par]
    return (values < grid[0]) | (values > grid[-1])


def grid_edge(evidence, par):
    values, grid = np.asarray(evidence.values[par], float), evidence.grid[par]
    steps = min(GRID_STEPS, len(grid) - 1)
    return ((values < grid[steps]) | (values > grid[-1 - steps])) & ~outside_grid(evidence, par)


def resolved_vsini(resolving_power=paper.RESOLVING_POWER):
    """v sin i [km/s] at which the profile of rotation is as wide, at half maximum, as that of the instrument, c/R."""
    return LIGHT / ROTATION_FWHM / resolving_power


def upper_limit(evidence, par):
    limit = resolved_vsini(evidence.resolving_power)
    return np.asarray(evidence.values[par], float) < limit if par == "vsini" else None


def autoencoders_apart(evidence, par):
    if par not in evidence.predictions:
        return None
    predictions = pd.DataFrame(np.asarray(evidence.predictions[par], float))
    members = predictions.groupby(np.asarray(evidence.autoencoders[par]))
    free = len(predictions) - members.ngroups
    if members.ngroups < 2 or not free:
        return None
    within = np.sqrt(((predictions - members.transform("mean")) ** 2).sum() / free)
    return (members.mean().std() > APART * within).to_numpy()


def _beyond(values, limit):
    """Whether more than half of the autoencoders measure more than their limit."""
    if values is None or limit is None:
        return None
    return np.mean(np.asarray(values) > limit[:, None], axis=0) > 0.5


def _numbers(column):
    """A column of a table of the user's as numbers, NaN where it has something else."""
    return pd.to_numeric(pd.Series(np.asarray(column)), errors="coerce").to_numpy(float)


@dataclass(frozen=True)
class Rule:
    """When a star has a word, as docs/trust.md says it, why, and the mask that tells so by the Evidence.

    A mask takes the evidence and, unless the rule is `of_star`, a parameter; it gives (n_stars,) of bool, or None if
    there is nothing to tell by. `doubt` is False of what is no reason to doubt: it counts for no star as flagged.
    """

    word: str
    when: str
    why: str
    mask: Callable
    of_star: bool = True
    doubt: bool = True


# By word, in the order in which a star's words are written
RULES = {rule.word: rule for rule in (
    Rule("outside-grid", "the value lies outside of the labels of the synthetic spectra", "it is extrapolated",
         outside_grid, of_star=False),
    Rule("grid-edge", "the value lies inside, within one step of the labels from their end",
         "with labels on one side only, estimates are drawn inwards", grid_edge, of_star=False),
    Rule("upper-limit",
         f"v sin i is below c / ({ROTATION_FWHM} R), 2.0 km/s for R = {paper.RESOLVING_POWER:,}: there the profile of "
         f"rotation (Gray 2008, Eq. 18.14, limb darkening 0.6; {ROTATION_FWHM} v sin i wide at half maximum) is as "
         "wide as that of the instrument, c/R", "Reiners et al. 2018, A&A 612, A49, give 2 km/s as CARMENES' limit too",
         upper_limit, of_star=False),
    Rule("two-modes",
         "the density of the kept predictions has a second maximum, of at least half the height of the first, and "
         f"between the two falls below {mode.VALLEY} of the second", "which one is the estimate hangs on a few members",
         lambda evidence, par: evidence.two_modes.get(par), of_star=False),
    Rule("autoencoders-apart",
         "the means of the autoencoders scatter by more than three times the scatter of the kept members of one",
         "there are as many opinions as autoencoders, not as members", autoencoders_apart, of_star=False),
    Rule("reconstruction",
         "the error of the reconstruction lies beyond the 99 % quantile of the synthetic test set, each domain by its "
         "own network", "something in the spectrum is not told by the 32 numbers",
         lambda evidence: _beyond(evidence.mse, evidence.limits.get("reconstruction"))),
    Rule("reconstruction-observed", "it lies beyond the 99 % quantile of all observed stars of the run",
         "the same but for the gap that all stars share; one in a hundred has it",
         lambda evidence: _beyond(evidence.mse, evidence.limits.get("reconstruction-observed"))),
    Rule("latent-distance",
         "the nearest encoding of the synthetic training set is farther than for 99 % of the synthetic test set",
         "the regressors have learnt from nothing like it",
         lambda evidence: _beyond(evidence.latent_distance, evidence.limits.get("latent-distance"))),
    Rule("low-snr", f"`snr` in `stars.csv` is below {paper.MIN_SNR}", "the paper's spectra all have more",
         lambda evidence: None if evidence.snr is None else _numbers(evidence.snr) < paper.MIN_SNR),
    Rule("lag",
         f"its lines are shifted by more than {paper.LAG_STAR:.1f} pixels, two elements of resolution (`lag.csv`)",
         "a shift looks like other labels",
         lambda evidence: None if evidence.lag is None else np.abs(_numbers(evidence.lag)) > paper.LAG_STAR),
    Rule("other-instrument",
         "of stars of `estimate.py`: the autoencoders were fine-tuned on spectra of other instruments, or on simulated "
         "ones alone", "they do not know what it does to a spectrum", lambda evidence: evidence.foreign),
    Rule("odd-spectrum",
         "of stars of `estimate.py`: its column `odd` has a word, such as `giant`, `warm`, `second-star`",
         "it may be no M dwarf, or is not what the file says",
         lambda evidence: None if evidence.odd is None else np.array([bool(words) for words in evidence.odd], bool)),
    Rule("unseen", "fine-tuning did not train on it", "worth knowing; no reason to doubt, so it makes no star pale",
         lambda evidence: None if evidence.seen is None else ~np.asarray(evidence.seen, bool), doubt=False),
)}


# ---------------------------------------------------------------- tables
def table(evidence):
    """All flags of the stars: COLUMNS, a row a star, "" where there are none; and the words that nothing tells of."""
    columns, told = {}, set()
    for column, par in zip(COLUMNS, [[par] for par in paper.PARAMETERS] + [[]]):
        masks = {word: rule.mask(evidence, *par) for word, rule in RULES.items() if rule.of_star != bool(par)}
        masks = {word: mask for word, mask in masks.items() if mask is not None}
        columns[column] = [" ".join(word for word, mask in masks.items() if mask[row])
                           for row in range(len(evidence.values["teff"]))]
        told.update(masks)
    return pd.DataFrame(columns), [word for word in RULES if word not in told]


def of_published(estimates):
    """COLUMNS of a table with no more than `teff` [K], `logg`, `mh` [dex] and `vsini` [km/s], of the paper's grid."""
    return table(Evidence(estimates))[0].set_index(estimates.index)


def as_text(column):
    """A column of flags as text; one without any is read from a file as numbers, all NaN."""
    return column.astype(object).where(column.notna(), "").astype(str)


def in_words(table):
    """All flags of each star of a table, those on a parameter after its name, a list of str."""
    names = [f"{parameter.published}: " for parameter in paper.PARAMETERS.values()]
    return [", ".join(filter(None, [of_star, *(name + words for name, words in zip(names, of_parameters) if words)]))
            for *of_parameters, of_star in table[COLUMNS].itertuples(index=False)]


def flagged(table, *parameters):
    """Which stars have a flag of their own or on any of these parameters that casts doubt on it, a Series of bool."""
    doubted = pd.Series(False, table.index)
    no_doubt = {word for word, rule in RULES.items() if not rule.doubt}
    for column in {*(f"flags_{par}" for par in parameters), "flags"} & set(table):
        doubted |= as_text(table[column]).map(lambda words: bool(set(words.split()) - no_doubt)).astype(bool)
    return doubted


def counts(table):
    """How many stars have each flag: a row a word, a column each of COLUMNS; only words that there are."""
    numbers = table[COLUMNS].apply(lambda column: as_text(column).str.split().explode().value_counts())
    return numbers.reindex([word for word in RULES if word in numbers.index]).fillna(0).astype(int)


# ---------------------------------------------------------------- what stars are held against
def grid_of(labels):
    """The different labels of each parameter, ascending, a dict, of an array of shape (n_spectra, 4)."""
    return {par: np.unique(np.asarray(labels[:, parameter.column], float))
            for par, parameter in paper.PARAMETERS.items()}


def limit_metrics(stage=FINETUNED):
    """Names of the metrics of LIMITS at a stage, by word."""
    return {word: metric.format(when=WHEN[stage]) for word, metric in LIMITS.items()}


def quantile(word, values, stage=FINETUNED):
    """What a star's error or distance is held against, of those of many, by the name of its metric, a dict of float."""
    return {limit_metrics(stage)[word]: float(np.quantile(values, QUANTILE))}


def limits(sidecars, stage=FINETUNED):
    """The limits of Evidence, by the sidecars of fine-tuned autoencoders."""
    return {word: np.array([sidecar.metrics[metric] for sidecar in sidecars])
            for word, metric in limit_metrics(stage).items()}


def measured(sidecars, stage):
    """What act 3 measured of the stars of a run, as attributes of Evidence."""
    mse, distance = (np.array([sidecar.stars[f"{name}_{WHEN[stage]}"] for sidecar in sidecars])
                     for name in ("mse", "distance_latent"))
    return {"mse": mse, "latent_distance": distance, "limits": limits(sidecars, stage)}
