"""Anchors: stars whose parameters are known from elsewhere, and any table of estimates moved onto them."""
import numpy as np
import pandas as pd

import paper
from inference import flags, gauge, mode
from workflow.files import BadInput, read_table

ERRORS = {"teff": 60.0, "logg": 0.07, "mh": 0.07, "vsini": 0.5}  # of an anchor that states none [K, dex, dex, km/s]
REMEDY = "give a CSV with karmn and any of teff, logg, mh, vsini, with their errors e_teff, ..."


def read(path, stars):
    """What a file of anchors says of the stars of a table, a row a star under `karmn`.

    Columns are karmn, any parameter, its error e_ (else ERRORS) and s_, an error that all anchors share.

    Returns
    -------
    observations : dict of str to gauge.Observation
        Of each parameter; without a path, of nothing.
    names : dict of str to list of str
        The anchors of each parameter that has some: those are never scored.
    """
    if path is None:
        return {par: gauge.Observation() for par in paper.PARAMETERS}, {}
    table = read_table(path, "karmn", REMEDY)
    if not set(paper.PARAMETERS) & set(table):
        raise BadInput(f"{path} has none of the columns {', '.join(paper.PARAMETERS)}: {REMEDY}")
    row_of = pd.Series(np.arange(len(stars)), index=stars["karmn"])
    present = table["karmn"].isin(stars["karmn"])
    if not present.all():
        print(f"{path}: {(~present).sum()} anchors are not among the stars, as {table['karmn'][~present].iloc[0]}")
    table, observations, names = table[present], {}, {}
    for par in paper.PARAMETERS:
        known = table[np.isfinite(_numbers(table, par))]
        errors = _numbers(known, f"e_{par}").fillna(ERRORS[par])
        if (errors <= 0).any():
            raise BadInput(f"{path}: e_{par} of {known.loc[errors <= 0, 'karmn'].iloc[0]} is not above zero: mend it")
        shared = _numbers(known, f"s_{par}").fillna(0.0).max() if len(known) else 0.0
        observations[par] = gauge.Observation(row_of[known["karmn"]].to_numpy(int), _numbers(known, par).to_numpy(),
                                              errors.to_numpy(), float(shared))
        if len(known):
            names[par] = list(known["karmn"])
    return observations, names


def _numbers(table, column):
    """A column as numbers, NaN where it has none."""
    return pd.to_numeric(table.get(column, pd.Series(np.nan, table.index)), errors="coerce").astype(float)


def mapped(labels, own, observations, means):
    """Estimates after the map that anchors and means allow (`inference.gauge`).

    `labels` and each star's `own` uncertainties are of shape (n_stars, 4), Teff [K], log g, [M/H], v sin i [km/s], NaN
    of stars without; `observations` are a gauge.Observation a parameter, `means` the mean of the sample and its error
    where it is known. Returns value, own and shared uncertainty of each parameter, (3, n_stars), and the map, a
    DataFrame of parameter, term, value, error, where it is from, the mean label that a slope is about, and c0, c1, ...,
    the covariance with the parameter's first, second, ... term.
    """
    good = np.isfinite(labels).all(axis=1)
    place = np.cumsum(good) - 1
    estimates, rows = {}, []
    for k, par in enumerate(paper.PARAMETERS):
        known = observations[par]
        seen = good[np.asarray(known.rows, int)]
        known = gauge.Observation(place[np.asarray(known.rows, int)][seen], np.asarray(known.values, float)[seen],
                                  np.asarray(known.errors, float)[seen], known.shared, means.get(par))
        solution = gauge.solve(par, labels[good], own[good, k], known)
        value, shared = gauge.apply(par, labels[good], solution)
        estimates[par] = np.full((3, len(labels)), np.nan)
        estimates[par][:, good] = value, own[good, k], shared
        source = [f"{len(known.values)} anchors"] * bool(len(known.values)) + ["mean"] * (known.mean is not None)
        terms = ["slope vsini"] if par == "vsini" else [f"slope {name}/{unit:g}" for name, unit in gauge.UNITS.items()]
        rows += [{"parameter": par, "term": term, "value": value, "error": np.sqrt(covariance[j]),
                  "from": ", ".join(source) or "prior alone", "about": about,
                  **{f"c{i}": entry for i, entry in enumerate(covariance)}}
                 for j, (term, value, about, covariance) in enumerate(zip(
                     ["offset", *terms], solution.coefficients, [np.nan, *solution.about], solution.covariance))]
    return estimates, pd.DataFrame(rows)


def moved(estimates, observations):
    """A table of `catalogues.load_estimates` after the map, in the published form with flags by its values alone.

    Returns it, the words of flags that nothing was there to tell by, and the map as of `mapped`.
    """
    pars = list(paper.PARAMETERS)
    own = np.stack([(estimates[f"e_{par}"] + estimates[f"E_{par}"]) / 2 for par in pars], axis=1)
    values, the_map = mapped(estimates[pars].to_numpy(float), own, observations, {})
    table = mode.table(estimates, {par: (value, *2 * [np.hypot(own, shared)])
                                   for par, (value, own, shared) in values.items()})
    of_stars, left_out = flags.table(flags.Evidence({par: values[par][0] for par in pars}))
    return pd.concat([table, of_stars], axis=1), left_out, the_map
