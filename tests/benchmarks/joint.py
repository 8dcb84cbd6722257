"""The joint fit behind gaps of both families, on simulated stars: what the spectra know, and what the gauge leaves.

Writes {out}/{family}_{seed}.csv, a row a star: the fit's labels and their own uncertainties, each star alone, the truth
       {out}/snr_{S/N}_{family}_{seed}.csv, the same of half of the stars, and of the others fitted as new ones
       {out}/joint_errors.csv, joint_intervals.csv, joint_noise.csv, anchors.csv, which docs/data has, and
       errors_by_seed.png; prints the tables of docs/joint-fit.md

    python tests/benchmarks/joint.py --family lines --seeds 0 1 2              # chosen on
    python tests/benchmarks/joint.py --family growth --seeds $(seq 0 19)       # tested on; goes on where it was
    python tests/benchmarks/joint.py --family lines --seeds 30 31 --snr 30 100    # all stars of one S/N
    python tests/benchmarks/joint.py --tables
    python tests/benchmarks/joint.py --raw 30 0.03      # new stars as files have them: S/N, and pixels [Angstrom]
    python tests/benchmarks/joint.py --veiled --family lines --seeds 10 11    # half of the stars, a tenth veiled
"""
import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from acts import ROOT  # isort: skip  # puts the scripts on the path

import paper
from evaluation import catalogues
from evaluation.calibrated import DIGITS
from inference import gauge, joint_fit, joint_run
from inference.emulator import Emulator, slow_rows
from observations import orders, preparation
from spectra import bins, transforms
from spectra.velocity import Templates
from synthetic import simulation
from synthetic.gap_families import FAMILIES
from workflow.files import write_array, write_csv

PARAMETERS = list(paper.PARAMETERS)


def library(out):
    """An emulator of all synthetic spectra, which are made once."""
    names = out / "ph_flux_norm.npy", out / "ph_pars.npy"
    if not all(path.exists() for path in names):
        flux_ph, labels_ph, *_ = simulation.simulate(n_observed=1)
        write_array(names[0], flux_ph)
        write_array(names[1], labels_ph)
    flux_ph, labels_ph = np.load(names[0], mmap_mode="r"), np.load(names[1])
    rows = slow_rows(labels_ph)
    pixels = bins.pixels_a_bin(paper.RESOLVING_POWER, transforms.MIDDLE, transforms.STEP)
    return Emulator.fit(bins.binned(flux_ph[rows], pixels)[0], labels_ph[rows], transforms.STEP * pixels,
                        transforms.MIDDLE), pixels


def one(family, seed, emulator, pixels):
    """Fit the stars behind one gap; a DataFrame with a row a star."""
    started = time.process_time()
    stars = simulation.draw_stars(paper.SPLIT_SEED)
    flux_carm, stars = simulation.observe(stars, FAMILIES[family].reference(), 1.0, seed)
    flux, counts = bins.binned(flux_carm, pixels)
    variance = bins.variance_of(flux, counts, stars["snr"])
    alone = joint_fit.fit_alone(emulator, flux, variance)
    fit = joint_fit.fit_jointly(emulator, flux, variance)
    table = stars[["karmn", *PARAMETERS]]
    table = with_columns(table, {"joint_": fit.own, "error_": fit.width, "alone_": alone.own,
                                 "alone_error_": alone.width})
    print(f"{family} {seed}: {len(fit.objective)} steps, converged {fit.converged}, "
          f"{time.process_time() - started:.0f} s of one core", flush=True)
    return table.assign(converged=fit.converged, misfit=fit.fields.misfit, noise=fit.noise)


def with_columns(table, parts):
    """A table with a column a parameter of each of some arrays, by prefix."""
    return table.assign(**{prefix + par: values[:, k] for prefix, values in parts.items()
                           for k, par in enumerate(PARAMETERS)})


def at(snr, family, seed, emulator, pixels):
    """Fit every second star behind one gap, all of one S/N, and the others as `new` ones; a row a star."""
    stars = simulation.draw_stars(paper.SPLIT_SEED)
    flux_carm, stars = simulation.observe(stars, FAMILIES[family].reference(), 1.0, seed, snr_range=(snr, snr))
    flux, counts = bins.binned(flux_carm, pixels)
    variance, new = bins.variance_of(flux, counts, stars["snr"]), np.arange(len(stars)) % 2 == 1
    fit = joint_fit.fit_jointly(emulator, flux[~new], variance[~new])
    others = joint_fit.fit_with(emulator, fit.fields, flux[new], variance[new])
    print(f"{family} {seed}, S/N {snr}: converged {fit.converged}", flush=True)
    return pd.concat([with_columns(stars.loc[rows, ["karmn", *PARAMETERS]], {"joint_": part.own, "error_": part.width})
                      .assign(converged=fit.converged, misfit=fit.fields.misfit, noise=part.noise, new=unseen)
                      for unseen, rows, part in ((False, ~new, fit), (True, new, others))])


# ---------------------------------------------------------------- new stars
def raw(out, snr, step, emulator, pixels):
    """Print how often own uncertainties of new stars hold, prepared from pixels of `step`, with and without their mask.

    Behind gap seed 0 of the first family, 1.2 % of the pixels bad, after the best affine map of stars below 7 km/s.
    """
    stars = simulation.draw_stars(paper.SPLIT_SEED)
    physics = FAMILIES["lines"].reference()
    flux_carm, stars = simulation.observe(stars, physics, 1.0, 0)
    flux, counts = bins.binned(flux_carm, pixels)
    fields = joint_fit.fit_jointly(emulator, flux, bins.variance_of(flux, counts, stars["snr"])).fields
    flux_ph, labels_ph = (np.load(out / name, mmap_mode="r") for name in ("ph_flux_norm.npy", "ph_pars.npy"))
    rows = np.sort(np.random.default_rng(0).permutation(len(labels_ph))[:2000])
    templates = Templates.of(flux_ph[rows], labels_ph[rows])
    stars, wave = simulation.draw_stars(7), np.arange(8793.5, 8842.4, step)
    made, records, truth = [], [], []
    nature = physics.perturbed(1.0, np.random.default_rng([0, 2]))
    for rows, spectra in simulation.smooth_spectra(stars[PARAMETERS].to_numpy(float), nature):
        for row, smooth in zip(rows, spectra):
            rng = np.random.default_rng([5, int(row)])
            counts = np.interp(wave, simulation.WAVE * (1 + rng.uniform(-30, 30) / transforms.LIGHT), smooth)
            counts += rng.normal(size=len(wave)) * np.sqrt(counts) / snr
            counts[rng.random(len(wave)) < 0.012] = np.nan
            star = preparation.prepare(orders.from_arrays(
                wave, counts, medium="vacuum", resolving_power=paper.RESOLVING_POWER), templates,
                preparation.Settings(continuum="envelope"))
            made.append(star.flux)
            records.append({"karmn": stars["karmn"].iloc[row], **star.record})
            truth.append(stars[PARAMETERS].iloc[row])
    records, truth, made = pd.DataFrame(records), np.array(truth, float), np.array(made)
    for name, known in (("with", records), ("without", records.drop(columns=["pixel", "bridged"]))):
        fit = joint_fit.fit_with(emulator, fields, *joint_run.of_stars(known, made, transforms.STEP, pixels))
        slow, error, x = truth[:, 3] < joint_fit.PRIORS.fast, fit.own[:, :4] - truth, gauge.design("teff", fit.own)
        error[:, :3] -= x @ np.linalg.lstsq(x[slow], error[slow, :3], rcond=None)[0]
        held = 100 * (np.abs(error) < fit.error)[slow].mean(axis=0)
        print(f"{name} their mask: {slow.sum()} stars, rmse {rms(error[slow]).round(3)}, 68 % intervals hold [%]",
              held.round().astype(int))


def veiled(family, seed, emulator, pixels):
    """Print errors after the best affine map, of stars with a veiling of 0.05 to 0.2 or none, and of the others."""
    stars = simulation.draw_stars(paper.SPLIT_SEED).iloc[::2].reset_index(drop=True)
    sharp, stars = simulation.observe(stars, FAMILIES[family].reference(), 1.0, seed)
    truth, n_stars, rng = stars[PARAMETERS].to_numpy(float), len(stars), np.random.default_rng([seed, 99])
    chosen = np.zeros(n_stars, bool)
    chosen[rng.permutation(n_stars)[: n_stars // 10]] = True
    light = np.where(chosen, rng.uniform(0.05, 0.2, n_stars), 0)[:, None]
    for what, spectra in (("a tenth", (sharp + light) / (1 + light)), ("none", sharp)):
        flux, counts = bins.binned(spectra, pixels)
        for width in (joint_fit.VEILING, 0.0):
            fit = joint_fit.fit_jointly(emulator, flux, bins.variance_of(flux, counts, stars["snr"]), veiling=width)
            error, x = fit.own[:, :4] - truth, gauge.design("teff", fit.own)
            error[:, :3] -= x @ np.linalg.lstsq(x[~chosen], error[~chosen, :3], rcond=None)[0]
            print(f"{family} {seed}, veiled {what}, prior {width}: rmse of these {rms(error[chosen]).round(3)}, of the "
                  f"others {rms(error[~chosen]).round(3)}, converged {fit.converged}", flush=True)
            if width:
                value, below, above = fit.veiling.T
                off = value - (light[:, 0] if what == "a tenth" else 0)
                held = (off <= below) & (-off <= above)
                print("veiling of these, of the others: rmse and share of intervals that hold [%]", *(
                    f"{rms(off[part]):.4f} {100 * held[part].mean():.0f}" for part in (chosen, ~chosen)), flush=True)


# ---------------------------------------------------------------- tables
ANCHOR_ERRORS = {"teff": 60.0, "logg": 0.07, "mh": 0.07, "vsini": 0.5}
MEAN_ERRORS = {"teff": 50.0, "logg": 0.05, "mh": 0.10}
DRAWS = 10  # of the errors of anchors and known means, of which tables have the mean over all
LEARNING = 0, 1, 3, 6, 14, 143
RECIPE = pd.read_csv(ROOT / "docs" / "data" / "perturbed_test.csv").set_index(["way", "stage", "seeds"]).loc[
    ("published", "after", "3 to 7"), PARAMETERS]  # rmse at full size, first family
CHOSEN_ON = {"lines_0", "lines_1", "lines_2"}


class Stars:
    """One gap's stars and their fits, of a table as of `one`."""

    def __init__(self, name, table):
        self.name = name
        self.karmn = table["karmn"]
        self.truth = table[PARAMETERS].to_numpy()
        self.converged = bool(table["converged"].all())
        self.inflation = joint_fit.Fields(None, misfit=table["misfit"].iloc[0]).inflation
        self.labels, self.own = {}, {}
        for way, width, inflation in (("joint", "error", self.inflation), ("alone", "alone_error", 1.0)):
            if f"{way}_teff" in table:
                self.labels[way], widths = (table[[f"{prefix}_{par}" for par in PARAMETERS]].to_numpy()
                                            for prefix in (way, width))
                self.own[way] = joint_fit.uncertainty(widths, table["noise"].to_numpy(), inflation)
        family, seed = self.name.rsplit("_", 1)
        self.number = [list(FAMILIES).index(family), int(seed), 22]
        self.draw()
        self.order = np.random.default_rng([*self.number, 1]).permutation(len(table))

    def draw(self, number=0):
        """Draw the errors of anchors and of known means anew."""
        self.rng = np.random.default_rng([*self.number, *[number] * bool(number)])
        self.wrong_mean = {par: self.rng.normal(0, error) for par, error in MEAN_ERRORS.items()}
        self.noise = self.rng.normal(size=self.truth.shape)

    def known(self, par, rows=(), mean=False, shared=0.0, error=None, more=0.0):
        """An observation of the anchors `rows` and perhaps the mean, with their errors drawn."""
        k, rows = PARAMETERS.index(par), np.asarray(rows, int)
        error = error or ANCHOR_ERRORS[par]
        values = self.truth[rows, k] + error * self.noise[rows, k]
        if shared:
            values = values + shared * np.random.default_rng([int(1e6 * abs(self.noise[0, k]))]).normal()
        width = MEAN_ERRORS.get(par) if mean is True else mean
        about = None
        if width:
            about = self.truth[:, k].mean() + self.wrong_mean[par] * width / MEAN_ERRORS[par] + more, width
        return gauge.Observation(rows, values, np.full(len(rows), error), shared, about)

    def anchors(self, shared=0.0):
        """14 Teff and 6 [M/H], perhaps with an error that the former share, and the mean of log g."""
        rows = {name: np.flatnonzero(self.karmn.isin(catalogues.load(name)["karmn"])) for name in ("interf", "fgkm")}
        return {"teff": self.known("teff", rows["interf"], shared=shared), "mh": self.known("mh", rows["fgkm"]),
                "logg": self.known("logg", mean=0.03)}

    def mapped(self, way, observations, others=None):
        """Errors, own and shared uncertainty of every star and parameter, NaN for anchors of a parameter.

        Or of other Stars, by the map of these.
        """
        stars = others or self
        error, own, shared = np.empty((3, *stars.truth.shape))
        for k, par in enumerate(PARAMETERS):
            known = observations.get(par, gauge.Observation())
            wider = gauge.OF_A_JOINT_FIT * self.inflation if way == "joint" else 1.0
            solution = gauge.solve(par, self.labels[way], self.own[way][:, k], known, gauge.MAPS[par].times(wider))
            value, shared[:, k] = gauge.apply(par, stars.labels[way], solution)
            error[:, k], own[:, k] = value - stars.truth[:, k], stars.own[way][:, k]
            if others is None:
                error[np.asarray(known.rows, int), k] = np.nan
        return error, own, shared

    def best(self, order=1):
        """Errors after the map, affine or of second order, that fits the truth best: what the spectra know."""
        labels = self.labels["joint"]
        x = gauge.design("teff", labels)
        if order == 2:
            x = np.concatenate([x, *(x[:, [j]] * x[:, j:] for j in (1, 2, 3))], axis=1)
        error = labels - self.truth
        error[:, :3] -= x @ np.linalg.lstsq(x, error[:, :3], rcond=None)[0]
        return error


def rms(error):
    return np.sqrt(np.nanmean(error**2, axis=0))


def scenarios(stars):
    """By name (errors, own, shared) of one gap's stars."""
    mean_teff = {"teff": stars.known("teff", mean=True)}
    means = {par: stars.known(par, mean=True) for par in MEAN_ERRORS}
    anchors, shared = stars.anchors(), stars.anchors(shared=30.0)
    constant = stars.truth.mean(axis=0) - stars.truth
    none = np.full_like(constant, np.nan)
    return {
        "one constant for all": (constant, none, none),
        "each star alone": (stars.labels["alone"] - stars.truth, stars.own["alone"], 0 * constant),
        "each star alone, 14 + 6 anchors, mean of log g": stars.mapped("alone", anchors),
        "joint, mean of Teff to 50 K": stars.mapped("joint", mean_teff),
        "joint, mean of Teff 100 K higher": stars.mapped("joint", {"teff": stars.known("teff", mean=True, more=100.0)}),
        "joint, all three means": stars.mapped("joint", means),
        "joint, 14 + 6 anchors, mean of log g": stars.mapped("joint", anchors),
        "joint, the same, 30 K shared by anchors": stars.mapped("joint", shared),
        "joint, best affine map": (stars.best(), none, none),
    }


def tables(out):
    """Print the tables, write those that docs/data has."""
    folders = sorted(out.glob("*_[0-9]*.csv"), key=lambda path: (path.stem.split("_")[0], int(path.stem.split("_")[1])))
    gaps = [Stars(path.stem, pd.read_csv(path)) for path in folders if path.stem.split("_")[0] in FAMILIES]
    rows, held, curve = [], [], []
    for stars in gaps:
        drawn = {}
        for number in range(DRAWS):
            stars.draw(number)
            for name, parts in scenarios(stars).items():
                drawn.setdefault(name, []).append(np.stack(parts))
        stars.draw()
        for name, parts in drawn.items():
            error, own, shared = np.concatenate(parts, axis=1)
            rows.append([stars.name, name, *rms(error)])
            if np.isfinite(own).any():
                inside = np.where(np.isnan(error), np.nan, np.abs(error) < np.hypot(own, shared))
                held.append([stars.name, name, *np.nanmean(inside, axis=0), *np.nanmedian(own, axis=0),
                             *np.nanmedian(shared, axis=0)])
        for k in LEARNING:
            for shared in (0.0, 30.0):
                known = {par: stars.known(par, stars.order[:k], shared=shared if par == "teff" else 0.0)
                         for par in ("teff", "logg", "mh")}
                curve.append([stars.name, k, shared, *rms(stars.mapped("joint", known)[0])])
    columns = ["gap", "estimates", *PARAMETERS]
    rows = pd.DataFrame(rows, columns=columns)
    parts = [f"{part}_{par}" for part in ("own", "shared") for par in PARAMETERS]
    held = pd.DataFrame(held, columns=[*columns, *parts])
    curve = pd.DataFrame(curve, columns=["gap", "anchors", "shared", *PARAMETERS])
    write_csv(out / "joint_errors.csv", rows.round(5))
    for_docs(held, curve, out)
    groups = {"lines 0 to 2, chosen on": lambda gap: gap in CHOSEN_ON,
              "lines, untouched": lambda gap: gap.startswith("lines") and int(gap.split("_")[1]) >= 10,
              "growth, untouched": lambda gap: gap.startswith("growth"),
              "growth, untouched, converged": lambda gap: gap.startswith("growth") and gap not in failed,
              "lines 3 to 7": lambda gap: gap.startswith("lines") and 3 <= int(gap.split("_")[1]) <= 7}
    failed = [stars.name for stars in gaps if not stars.converged]
    for title, chosen in groups.items():
        part = rows[rows["gap"].map(chosen)]
        if part.empty:
            continue
        print(f"\n{title}: {part['gap'].nunique()} gap seeds; rmse, quadratic mean of seeds (median, 90 % quantile)")
        for name, of_way in part.groupby("estimates", sort=False):
            values = of_way[PARAMETERS]
            ratio = np.exp(np.log(values / RECIPE).mean(axis=1))
            cells = [f"{np.sqrt((values[par]**2).mean()):.{DIGITS[par]}f} ({values[par].median():.{DIGITS[par]}f}, "
                     f"{values[par].quantile(0.9):.{DIGITS[par]}f})" for par in PARAMETERS]
            print(f"| {name} | {' | '.join(cells)} | {np.exp(np.log(ratio).mean()):.2f} |")
        print("intervals that hold [%], and median own, shared uncertainty")
        for name, of_way in held[held["gap"].map(chosen)].groupby("estimates", sort=False):
            cells = [f"{100 * of_way[par].mean():.0f} (own {of_way[f'own_{par}'].median():.{DIGITS[par]}f}, "
                     f"shared {of_way[f'shared_{par}'].median():.{DIGITS[par]}f})" for par in PARAMETERS]
            print(f"| {name} | {' | '.join(cells)} |")
        second = np.mean([rms(stars.best(2)) ** 2 for stars in gaps if chosen(stars.name)], axis=0) ** 0.5
        print("after the best map of second order, quadratic mean of seeds:", second.round(3))
        print("learning curve: anchors of Teff, log g, [M/H], with errors of 60 K and 0.07 dex")
        for (shared, k), of_way in curve[curve["gap"].map(chosen)].groupby(["shared", "anchors"], sort=False):
            cells = [f"{np.sqrt((of_way[par]**2).mean()):.{DIGITS[par]}f}" for par in PARAMETERS[:3]]
            print(f"| {k}, {shared:.0f} K shared | {' | '.join(cells)} |")
        print("Pearson r, median over seeds (lowest)")
        for way in ("alone", "joint"):
            r = np.array([[np.corrcoef(stars.labels[way][:, k], stars.truth[:, k])[0, 1] for k in range(4)]
                          for stars in gaps if chosen(stars.name)])
            cells = [f"{median:.3f} ({low:.3f})" for median, low in zip(np.median(r, axis=0), r.min(axis=0))]
            print(f"| {way} | {' | '.join(cells)} |")
        best = part[part["estimates"] == "joint, best affine map"][PARAMETERS]
        within = (best <= [20, 0.04, 0.08, 0.6]).mean()
        anchored = part[part["estimates"] == "joint, 14 + 6 anchors, mean of log g"][PARAMETERS]
        known, alone = (part[part["estimates"] == name][PARAMETERS].to_numpy() for name in (
            "joint, mean of Teff to 50 K", "each star alone"))
        print("anchored within 40 K, 0.06, 0.12 dex, 1.0 km/s at [share of seeds]:",
              " ".join(f"{value:.2f}" for value in (anchored <= [40, 0.06, 0.12, 1.0]).mean()))
        print("mean of Teff to 50 K worse than each star alone at [share of seeds]:",
              " ".join(f"{value:.2f}" for value in (known > alone).mean(axis=0)))
        print("after the best affine map within 20 K, 0.04, 0.08 dex, 0.6 km/s at [share of seeds]:",
              " ".join(f"{value:.2f}" for value in within))
    print("\nnot converged:", ", ".join(failed) or "none")
    return rows


def for_docs(held, curve, out):
    """Write the tables that the figures of docs/joint-fit.md are drawn from, of untouched gap seeds."""
    intervals, points = [], []
    for family in FAMILIES:
        number = held["gap"].str.split("_").str[1].astype(int)
        of_family = held[held["gap"].str.startswith(family) & ((family != "lines") | (number >= 10))]
        for name, rows in of_family.groupby("estimates", sort=False):
            if "anchors, mean" not in name or name.startswith("joint"):
                intervals += [[family, name, par, round(100 * rows[par].mean()), rows[f"own_{par}"].median(),
                               rows[f"shared_{par}"].median()] for par in PARAMETERS if "higher" not in name]
        for k, rows in curve[curve["gap"].isin(of_family["gap"])].groupby("anchors"):
            plain, shared = (rms(rows.loc[rows["shared"] == error, PARAMETERS].to_numpy()) for error in (0.0, 30.0))
            points.append([family, k, plain[0], shared[0], *plain[1:3]])
    intervals = pd.DataFrame(intervals, columns=["family", "estimates", "parameter", "held", "own", "shared"])
    places = intervals["parameter"].map(DIGITS)
    for part in ("own", "shared"):
        intervals[part] = [round(value, place) for value, place in zip(intervals[part], places)]
    write_csv(out / "joint_intervals.csv", intervals)
    points = pd.DataFrame(points, columns=["family", "anchors", "teff", "teff with 30 K shared", "logg", "mh"])
    points = points.sort_values(["anchors", "family"], ascending=[True, False])
    write_csv(out / "anchors.csv", points.round({**DIGITS, "teff with 30 K shared": DIGITS["teff"]}))


def by_noise(out):
    """Write how often intervals hold at each S/N: own parts, after the best map, and whole ones, with anchors."""
    shares = []
    for path in out.glob("snr_*.csv"):
        _, snr, family, seed = path.stem.split("_")
        table = pd.read_csv(path)
        fitted, new = (Stars(f"{family}_{seed}", part.reset_index(drop=True)) for _, part in table.groupby("new"))
        for what, stars in (("fitted", fitted), ("new", new)):
            labels, own = stars.labels["joint"], stars.own["joint"]
            error, whole = labels - stars.truth, []
            for k, par in enumerate(PARAMETERS):
                x = gauge.design(par, labels)
                error[:, k] -= x @ np.linalg.lstsq(x, error[:, k], rcond=None)[0]
            for number in range(DRAWS):
                fitted.draw(number)
                off, *parts = fitted.mapped("joint", fitted.anchors(), new if stars is new else None)
                whole.append(np.where(np.isnan(off), np.nan, np.abs(off) < np.hypot(*parts)))
            shares += [[family, int(snr), what, par, *values] for par, *values in zip(
                PARAMETERS, rms(error), np.median(own, axis=0), (np.abs(error) < own).mean(axis=0),
                np.nanmean(whole, axis=(0, 1)))]
    shares = pd.DataFrame(shares, columns=["family", "snr", "stars", "parameter", "rmse", "own", "own_held", "held"])
    if shares.empty:
        return
    numbers = shares.groupby(["family", "snr", "stars", "parameter"])
    table = numbers.mean().assign(gaps=numbers.size(), rmse=numbers["rmse"].apply(rms)).reset_index()
    for column in ("own_held", "held"):
        table[column] = (100 * table[column]).round().astype(int)
    for column in ("rmse", "own"):
        table[column] = [round(value, DIGITS[par]) for value, par in zip(table[column], table["parameter"])]
    write_csv(out / "joint_noise.csv", table)


NETWORKS = ROOT / "docs" / "data" / "network_errors.csv"  # of tests/benchmarks/network_errors.py
SHOWN = {"one constant for all": "0.6", "each star alone": "#E69F00", "joint, mean of Teff to 50 K": "#56B4E9",
         "joint, 14 + 6 anchors, mean of log g": "#0072B2", "joint, best affine map": "black"}
OF_NETWORKS = {"published after": ("recipe, demo's size", "s", "#D55E00"),
               "perturbed before": ("perturbed training, demo's size", "D", "#CC79A7")}


def draw(rows, out):
    """Errors by gap seed, a panel a parameter."""
    import matplotlib.pyplot as plt
    from PIL import Image

    from figures import style

    rows = rows[~rows["gap"].isin(CHOSEN_ON)]
    gaps, of_networks = list(dict.fromkeys(rows["gap"])), None
    if NETWORKS.exists():
        of_networks = pd.read_csv(NETWORKS)
        of_networks["gap"] = of_networks["family"] + "_" + of_networks["seed"].astype(str)
        of_networks = of_networks.query("size == 'demo' and networks == 'ensemble' and epochs == 20")
    with plt.rc_context(style.STYLE):
        figure, axes = plt.subplots(4, 1, figsize=(style.DOUBLE, 1.1 * style.DOUBLE), sharex=True)
        for ax, (par, parameter) in zip(axes, paper.PARAMETERS.items()):
            for name, colour in SHOWN.items():
                values = rows[rows["estimates"] == name].set_index("gap")[par].reindex(gaps)
                ax.plot(range(len(gaps)), values, "o-", ms=3, lw=0.7, color=colour, label=name)
            if of_networks is not None:
                of_parameter = of_networks[of_networks["parameter"] == par]
                for way, (name, marker, colour) in OF_NETWORKS.items():
                    values = of_parameter[of_parameter["way"] == way].set_index("gap")["rmse"].reindex(gaps)
                    ax.plot(range(len(gaps)), values, marker, ms=2.5, color=colour, label=name)
            ax.axhline(RECIPE[par], color="#D55E00", ls="--", lw=0.8, label="recipe, full size: lines 3 to 7")
            ax.set(yscale="log", ylabel=f"rmse of {parameter.label}")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=6)
        axes[-1].set_xticks(range(len(gaps)), [gap.replace("_", " ") for gap in gaps], rotation=90, fontsize=5)
        figure.suptitle("SIMULATED stars: errors by gap seed", **style.WARNING)
        path = out / "errors_by_seed.png"
        figure.savefig(path, dpi=100)
        Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)  # a quarter of the bytes
        plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES, default="lines")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=ROOT / "artifacts" / "joint_benchmark", metavar="DIR")
    parser.add_argument("--tables", action="store_true", help="print the tables of what is there, draw the figure")
    parser.add_argument("--veiled", action="store_true", help="what veiling does to the stars, fitted or not")
    parser.add_argument("--snr", type=int, nargs="+", metavar="S/N", help="half of the stars, all of one S/N a pixel")
    parser.add_argument("--raw", type=float, nargs=2, metavar=("SNR", "STEP"), help="fit new stars as files have them")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    emulator = None
    for seed, snr in itertools.product(args.seeds, args.snr or [None]):
        path = args.out / (f"snr_{snr}_" * bool(snr) + f"{args.family}_{seed}.csv")
        if path.exists() and not args.veiled:
            continue
        emulator = emulator or library(args.out)
        if args.veiled:
            veiled(args.family, seed, *emulator)
        elif snr:
            write_csv(path, at(snr, args.family, seed, *emulator))
        else:
            write_csv(path, one(args.family, seed, *emulator))
    if args.raw:
        raw(args.out, *args.raw, *library(args.out))
    if args.tables:
        draw(tables(args.out), args.out)
        by_noise(args.out)


if __name__ == "__main__":
    main()
