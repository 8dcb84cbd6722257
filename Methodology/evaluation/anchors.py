"""Anchors: stars whose parameters are known from elsewhere, and any table of estimates moved onto them."""
import numpy as np
import pandas as pd

import paper
from inference import flags, gauge, mode
from spectra import star_tables
from workflow.files import BadInput

ERRORS = {"teff": 60.0, "logg": 0.07, "mh": 0.07, "vsini": 0.5}  # of an anchor that states none [K, dex, dex, km/s]
REMEDY = "give a CSV with karmn and any of teff, logg, mh, vsini, with their errors e_teff, ..."


def read(path, stars):
    """What a file of anchors says of the stars of a table with `karmn`.

    Columns are karmn, any parameter, its error e_ (else ERRORS) and s_, an error that all anchors share. Gives by
    parameter a gauge.Observation, without a path of nothing; by parameter the names of its anchors, which are never
    scored; and the names of those that are not among the stars.
    """
    if path is None:
        return {par: gauge.Observation() for par in paper.PARAMETERS}, {}, []
    table = star_tables.read(path, REMEDY)
    published = {prefix + parameter.published: prefix + par for par, parameter in paper.PARAMETERS.items()
                 for prefix in ("", "e_", "s_") if par != parameter.published}
    if other := [name for name in table if name in published]:
        raise BadInput(f"{path} has the heading {other[0]!r} instead of {published[other[0]]!r}: {REMEDY}")
    if not set(paper.PARAMETERS) & set(table):
        raise BadInput(f"{path} has none of the columns {', '.join(paper.PARAMETERS)}: {REMEDY}")
    for par, (low, high) in paper.LABEL_BOUNDS.items():
        for column, least, most in ((par, low, high), (f"e_{par}", 1e-9, high), (f"s_{par}", 0, high)):
            values = table.get(column, pd.Series(dtype=float))
            if (wrong := values.notna() & ~values.between(least, most)).any():
                raise BadInput(f"{path}: {column} of {table.karmn[wrong].iloc[0]} is {values[wrong].iloc[0]:g}, not "
                               f"within {least:g} to {most:g} {paper.PARAMETERS[par].unit}: mend it")
    row_of = pd.Series(np.arange(len(stars)), index=stars["karmn"])
    present = table["karmn"].isin(stars["karmn"])
    absent, table, observations, names = list(table["karmn"][~present]), table[present], {}, {}
    for par in paper.PARAMETERS:
        columns = {name: table.get(name, pd.Series(np.nan, table.index)) for name in (par, f"e_{par}", f"s_{par}")}
        values, errors, shared = (column[columns[par].notna()] for column in columns.values())
        known = table["karmn"][values.index]
        observations[par] = gauge.Observation(row_of[known].to_numpy(int), values.to_numpy(float),
                                              errors.fillna(ERRORS[par]).to_numpy(float),
                                              float(shared.fillna(0.0).max()) if len(known) else 0.0)
        if len(known):
            names[par] = list(known)
    if not names:
        raise BadInput(f"{path}: none of its stars has an estimate here: {REMEDY}")
    return observations, names, absent


def maps(labels, own, observations, means, wider=1.0, centre=None):
    """The map of each parameter that anchors and means allow (`inference.gauge`), and all of them as a table.

    `labels` and each star's `own` uncertainties are of shape (n_stars, 4), Teff [K], log g, [M/H], v sin i [km/s], NaN
    of stars without; `observations` are a gauge.Observation a parameter, `means` the mean of the sample and its error
    where it is known; priors of slopes are `wider` than in gauge.MAPS. Where `labels` are those of anchors alone,
    `centre` has the mean labels of the sample. The table has parameter, term, value, error, where it is from, the mean
    label that a slope is about, and c0, c1, ..., the covariance with the parameter's first, second, ... term.
    """
    good = np.isfinite(labels).all(axis=1)
    place = np.cumsum(good) - 1
    solutions, rows = {}, []
    for k, par in enumerate(paper.PARAMETERS):
        known = observations[par]
        seen = good[np.asarray(known.rows, int)]
        known = gauge.Observation(place[np.asarray(known.rows, int)][seen], np.asarray(known.values, float)[seen],
                                  np.asarray(known.errors, float)[seen], known.shared, means.get(par))
        solutions[par] = solution = gauge.solve(par, labels[good], own[good, k], known, gauge.MAPS[par].times(wider),
                                                centre)
        source = [f"{len(known.values)} anchors"] * bool(len(known.values)) + ["mean"] * (known.mean is not None)
        terms = ["slope vsini"] if par == "vsini" else [f"slope {name}/{unit:g}" for name, unit in gauge.UNITS.items()]
        rows += [{"parameter": par, "term": term, "value": value, "error": np.sqrt(covariance[j]),
                  "from": ", ".join(source) or "prior alone", "about": about,
                  **{f"c{i}": entry for i, entry in enumerate(covariance)}}
                 for j, (term, value, about, covariance) in enumerate(zip(
                     ["offset", *terms], solution.coefficients, [np.nan, *solution.about], solution.covariance))]
    return solutions, pd.DataFrame(rows)


def mapped(labels, own, solutions):
    """Value, own and shared uncertainty of each parameter after its map, (3, n_stars); arguments as of `maps`."""
    labels = np.where(np.isfinite(labels).all(axis=1)[:, None], labels, np.nan)
    estimates = {}
    for k, par in enumerate(paper.PARAMETERS):
        value, shared = gauge.apply(par, labels, solutions[par])
        estimates[par] = np.stack([value, np.where(np.isnan(value), np.nan, own[:, k]), shared])
    return estimates


def moved(estimates, observations):
    """A table of `catalogues.load_estimates` after the map, in the published form with flags by its values alone.

    Returns it, the words of flags that nothing was there to tell by, and the map as of `maps`.
    """
    pars = list(paper.PARAMETERS)
    own = np.stack([(estimates[f"e_{par}"] + estimates[f"E_{par}"]) / 2 for par in pars], axis=1)
    labels = estimates[pars].to_numpy(float)
    solutions, the_map = maps(labels, own, observations, {})
    values = mapped(labels, own, solutions)
    table = mode.table(estimates, {par: (value, *2 * [np.hypot(own, shared)])
                                   for par, (value, own, shared) in values.items()})
    of_stars, left_out = flags.table(flags.Evidence({par: values[par][0] for par in pars}))
    return pd.concat([table, of_stars], axis=1), left_out, the_map
