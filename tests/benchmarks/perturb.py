"""Training on perturbed spectra against the published recipe, on simulated stars whose truth is known.

Writes  artifacts/perturb_{budget}/spectra/    the simulated spectra, with the observed ones of each gap seed
        artifacts/perturb_{budget}/{variant}_{i}.csv (+ .json)    by autoencoder i: estimates of every star, for each
                                                gap seed, before and after fine-tuning, and instead of it after
                                                taking out the residual that all stars share
        artifacts/perturb_{budget}/search.txt    a row a variant of those asked for, and search.csv, a row a rmse;
                                                of the others test.txt, ablations.txt

Each variant has autoencoders of the same initial weights and order of batches as the others, and regressors as act 4
makes them. A number of a variant is the rmse by one autoencoder, a mean over gap seeds and autoencoders; its ratio is
to that of the published recipe after fine-tuning, a geometric mean over the four parameters. Beside it stands the same
of the ensemble, whose estimate of a star is the mean over the autoencoders. The search is on gap seeds 0 to 2. What it
chose, CHOSEN, is tried once on 3 to 7, which nothing looks at before (--test).

    python tests/benchmarks/perturb.py [--jobs N]          # search; an interrupted one goes on where it was
    python tests/benchmarks/perturb.py --variants published perturbed
    python tests/benchmarks/perturb.py --ablations         # other regressors; stars that fine-tuning did not see
    python tests/benchmarks/perturb.py --test              # once CHOSEN and docs/results.md say what was chosen
    python tests/benchmarks/perturb.py --time              # what an epoch costs
    python tests/benchmarks/perturb.py --budget paper ...  # all 22,933 spectra, n 1024; regressors as in penalties.py
"""
import argparse
import functools
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parent))
from acts import N_SPECTRA, ROOT  # isort: skip  # puts the scripts on the path

import autoencoder_training
import cnn_training
import paper
from evaluation.truth import rmse
from inference import mode
from spectra import dataset
from spectra.dataset import Dataset
from training import (
    backend,
    fine_tuning,
    networks,
    perturbation,
)
from workflow import runner, schemas
from workflow.command_line import command
from workflow.files import load_array, write_array, write_csv
from workflow.units import Unit, finish, seed_of

CNN_EPOCHS, REPEATS = 60, 2  # of regressors at the size of the paper: fewer and shorter than its own
SEARCHED, TESTED = (0, 1, 2), (3, 4, 5, 6, 7)
CHOSEN = "no_penalty"
NEURONS = {"paper": 1024, "demo": 384, "smoke": 64}
STRENGTHS = asdict(perturbation.Strengths())
NOISE = {"opacity": 0.0, "common": 0.0, "lines": 0, "shift": 0.0, "tilt": 0.0}  # what noise alone leaves out
FIRST = {"smooth": 50, "common": 0.25, "strength": 0.3, "shift": 0.7}  # what was tried before any search
SCALED = ("opacity", "common", "strength", "shift", "tilt")

# What sees perturbed spectra, in words; and what is otherwise than in --perturb
BOTH = "autoencoder regressors"
VARIANTS = {
    "published": {"perturbed": ""},
    "perturbed": {"perturbed": BOTH},
    "autoencoder": {"perturbed": "autoencoder"},
    "regressors": {"perturbed": "regressors"},
    "tuning_too": {"perturbed": f"{BOTH} tuning"},
    "no_penalty": {"perturbed": BOTH, "penalty": "none", "tuning_penalty": "none"},
    "no_penalty_in_tuning": {"perturbed": BOTH, "tuning_penalty": "none"},
    "both_domains": {"perturbed": BOTH, "both_domains": True},
    "noise_alone": {"perturbed": BOTH, "strengths": NOISE},
    "half": {"perturbed": BOTH, "strengths": {name: 0.5 * STRENGTHS[name] for name in SCALED}},
    "double": {"perturbed": BOTH, "strengths": {name: 2 * STRENGTHS[name] for name in SCALED}},
    "short": {"perturbed": BOTH, "strengths": {"smooth": 50}},
    "long": {"perturbed": BOTH, "strengths": {"smooth": 600}},
    "first": {"perturbed": BOTH, "strengths": FIRST},
    "no_lines": {"perturbed": BOTH, "strengths": {"lines": 0}},
    "many_lines": {"perturbed": BOTH, "strengths": {"lines": 60}},
    "same_noise": {"perturbed": BOTH, "strengths": {"noise": 1 / 270, "least_noise": 1 / 270}},  # as observed: the mean
}


# ---------------------------------------------------------------- spectra
def simulate(folder, gap_seeds, budget):
    """Simulate what is not there yet: the synthetic spectra, and the observed ones of each gap seed."""
    from synthetic import simulation

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ph_pars.npy").exists():
        flux_ph, labels, *_ = simulation.simulate(n_spectra=N_SPECTRA[budget])
        write_array(folder / "ph_flux_norm.npy", flux_ph)
        write_array(folder / "ph_pars.npy", labels)
    for gap in gap_seeds:
        if not (folder / f"stars_gap{gap}.csv").exists():
            stars = simulation.draw_stars(paper.SPLIT_SEED)
            flux_carm, stars = simulation.observe(stars, simulation.Physics.reference(), 1.0, gap)
            write_array(folder / f"carmf_gap{gap}.npy", flux_carm)
            write_csv(folder / f"stars_gap{gap}.csv", stars)


# ---------------------------------------------------------------- networks
def seen_by(what, settings):
    """The setting of act 2 by which the autoencoder, the regressors or the tuning see perturbed spectra, or none."""
    return {"perturb": settings["strengths"]} if what in settings["perturbed"].split() else {}


def train(settings, flux_ph, flux_carm, seed, tick):
    """Train an autoencoder, on as many observed as synthetic spectra if it is to be one of both domains."""
    rows, x = dataset.split(len(flux_ph), "ph")[0], flux_ph
    if settings["both_domains"]:
        seen = dataset.split(len(flux_carm), "carm")[0]
        rows = np.r_[rows, len(flux_ph) + np.resize(seen, len(rows))]
        x = np.concatenate([flux_ph, flux_carm])
    return autoencoder_training.train({**settings, **seen_by("autoencoder", settings)}, x, seed, tick, rows)[0]


def fine_tune(autoencoder, settings, flux_carm, seed):
    """Act 3's, but for a penalty of its own, and perturbed spectra."""
    own = {"penalty": settings["tuning_penalty"], "epochs": settings["tuning_epochs"], "frozen": paper.FROZEN_LAYERS}
    fine_tuning.fine_tune(autoencoder, {**settings, **own}, flux_carm, rows=dataset.split(len(flux_carm), "carm")[0],
                       perturb=autoencoder_training.perturber(seen_by("tuning", settings), seed))


def without_residual(autoencoder, flux_carm):
    """Observed spectra less what the autoencoder misses in all of them: the median of those fine-tuning may see."""
    seen = flux_carm[dataset.split(len(flux_carm), "carm")[0]]
    return flux_carm - np.median(seen - networks.predict(autoencoder, seen), axis=0)


def cnns(par, settings, encoded, labels, seed):
    """Act 4's regressors of one parameter; return what estimates it from encodings."""
    hyper, label = asdict(paper.PARAMETERS[par].cnn), labels[par]
    train_rows, test_rows = dataset.split_stratified(label)
    n_epochs = -(-settings["cnn_epochs"] // (len(encoded) if encoded.ndim == 3 else 1))
    hyper.update(batch_size=paper.BATCH_CNN, epochs=n_epochs)
    (x, y), test = (perturbation.examples(encoded, label, rows) for rows in (train_rows, test_rows))
    seeds = [seed_of(seed, f"{par} {k}") for k in range(settings["repeats"])]
    if backend.has_gpu():
        found = [cnn for cnn, _ in cnn_training.train_together(hyper, [x] * len(seeds), y, seeds)]
    else:
        found = [cnn_training.train(hyper, x, y, one)[0] for one in seeds]
    mse = [networks.mse(cnn, test[0][..., None], y=test[1]) for cnn in found]
    kept = [found[k] for k in mode.best(mse)]
    return lambda encoded: mode.estimate(
        np.array([networks.predict(cnn, encoded[..., None])[:, 0] for cnn in kept]))[0]


def plain(model):
    """Regressor of one parameter from scikit-learn, which does without a search; as `cnns`."""

    def fit(par, settings, encoded, labels, seed):
        x, y = perturbation.examples(encoded, labels[par], dataset.split_stratified(labels[par])[0])
        scaled = TransformedTargetRegressor(make_pipeline(StandardScaler(), model(seed)), transformer=StandardScaler())
        return scaled.fit(x, y).predict

    return fit


RIDGE = plain(lambda seed: Ridge(alpha=1.0))
MLP = plain(lambda seed: MLPRegressor((64, 64), early_stopping=True, random_state=seed % 2**31))


# ---------------------------------------------------------------- units
def work(unit, tick):
    """Train one autoencoder and its regressors, or regressors on the flux; estimate the stars of each gap seed."""
    started = time.time()
    backend.forget_models()
    s = unit.settings
    seed = seed_of(unit.seed, f"ac_{s['autoencoder']}")  # whatever the variant
    flux_ph = load_array(unit.inputs[0], 2, "simulate again")
    labels = {par: Dataset(unit.inputs[1].parent).label(par) for par in paper.PARAMETERS}
    with backend.device(s["autoencoder"]):
        rows = (on_flux if s["on_flux"] else on_encodings)(s, flux_ph, labels, unit.inputs[2:], seed, tick)
        table = pd.DataFrame(rows)  # here, where the device is chosen, as the rows are made when they are asked for
    write_csv(unit.path, table)
    finish(unit, started, {})


def on_encodings(s, flux_ph, labels, observed, seed, tick):
    """Rows of the table of estimates, by an autoencoder and regressors on its encodings."""
    fits = {"cnn": cnns, **({"ridge": RIDGE, "mlp": MLP} if s["ablations"] else {})}
    autoencoder = None
    for gap, carm in zip(s["gap_seeds"], observed):
        flux_carm = np.load(carm)
        if autoencoder is None or s["both_domains"]:
            autoencoder = train(s, flux_ph, flux_carm, seed, tick)
            weights, encode = autoencoder.get_weights(), encoder(autoencoder)
            perturb = autoencoder_training.perturber(seen_by("regressors", s), seed)
            encoded = perturbation.copies(encode, perturb, flux_ph, s["epochs"]) if perturb else encode(flux_ph)
            regressors = {way: {par: fit(par, s, encoded, labels, seed) for par in labels} for way, fit in fits.items()}
        autoencoder.set_weights(weights)
        seen = {"before": encode(flux_carm), "residual": encode(without_residual(autoencoder, flux_carm))}
        if not s["both_domains"]:
            fine_tune(autoencoder, s, flux_carm, seed)
            seen["after"] = encode(flux_carm)
        for way, predict in regressors.items():
            for when, encoded_carm in seen.items():
                yield from estimated(gap, way, when, {par: predict[par](encoded_carm) for par in labels})


def on_flux(s, flux_ph, labels, observed, seed, tick):
    """Rows of the table of estimates, by regressors on the flux, perturbed where those of the encodings are."""
    perturb, flux = autoencoder_training.perturber(seen_by("regressors", s), seed), np.array(flux_ph)
    flux = perturb(flux, np.arange(len(flux)), s["epochs"]) if perturb else flux
    for way, fit in (("ridge", RIDGE), ("mlp", MLP)):
        predict = {par: fit(par, s, flux, labels, seed) for par in labels}
        for gap, carm in zip(s["gap_seeds"], observed):
            yield from estimated(gap, f"{way} on flux", "flux", {par: predict[par](np.load(carm)) for par in labels})


def estimated(gap, way, when, values):
    """A row a star: what was estimated of it."""
    for star, row in pd.DataFrame(values).iterrows():
        yield {"gap seed": gap, "regressor": way, "when": when, "star": star, **row}


def encoder(autoencoder):
    """Function that encodes spectra with the weights that the autoencoder has by then."""
    network = networks.encoder_of(autoencoder)
    return lambda flux: networks.predict(network, flux)


def strengths(variant):
    """Of the perturbation; none of a variant that has none, so that it stays as it is whatever they are."""
    return {**STRENGTHS, **variant.get("strengths", {})} if variant["perturbed"] else {}


def units(names, gap_seeds, args, folder):
    """A unit a variant and autoencoder, and one of regressors on the flux for the ablations."""
    budget = paper.BUDGETS[args.budget]
    cnn_epochs, repeats = (CNN_EPOCHS, REPEATS) if args.budget == "paper" else (budget.cnn_epochs, budget.repeats)
    fixed = {"neurons_in": NEURONS[args.budget], "reg_par": 1e-7, "lr": paper.KEPT_LR, "penalty": "live",
             "penalty_weight": paper.CONTRACTIVE_WEIGHT, "precision": "float32", "tuning_penalty": "live",
             "batch_size": paper.BATCH_AUTOENCODER, "epochs": budget.train_epochs, "both_domains": False,
             "tuning_epochs": budget.fine_tune_epochs, "cnn_epochs": cnn_epochs, "repeats": repeats,
             "gap_seeds": list(gap_seeds), "ablations": args.ablations}
    data = folder / "spectra"
    inputs = data / "ph_flux_norm.npy", data / "ph_pars.npy", *(data / f"carmf_gap{gap}.npy" for gap in gap_seeds)
    kind = "_ablations" * args.ablations + "_test" * args.test
    return [
        Unit(folder / f"{name}_{i}{'_flux' * flux}{kind}.csv",
                       {**fixed, **VARIANTS[name], "strengths": strengths(VARIANTS[name]), "variant": name,
                        "autoencoder": i, "on_flux": flux}, inputs,
                       provenance=schemas.Provenance(spectra="simulated"))
        for name in names for i in range(args.autoencoders) for flux in ([False, True] if args.ablations else [False])
    ]


# ---------------------------------------------------------------- tables
KEYS = ["variant", "regressor", "when", "stars", "gap seeds"]


def collect(todo, folder):
    """A row an autoencoder, or their ensemble, gap seed, regressor, choice of stars and parameter: the rmse."""
    tables = []
    for unit in todo:
        tables.append(pd.read_csv(unit.path).assign(variant=unit.settings["variant"],
                                                    autoencoder=str(unit.settings["autoencoder"])))
    table = pd.concat(tables).melt([*KEYS[:3], "autoencoder", "gap seed", "star"], var_name="parameter")
    keys = [*KEYS[:3], "gap seed", "parameter", "star"]
    mean = table.groupby(keys, sort=False)["value"].mean().reset_index().assign(autoencoder="ensemble")
    stars = pd.read_csv(folder / "spectra" / f"stars_gap{SEARCHED[0]}.csv")[list(paper.PARAMETERS)]  # in all the same
    truth = stars.rename_axis("star").reset_index().melt("star", var_name="parameter", value_name="truth")
    table = pd.concat([table, mean]).merge(truth)
    table["error"] = table["value"] - table["truth"]
    unseen = dataset.split(table["star"].max() + 1, "carm")[1]
    both = pd.concat([table.assign(stars="all"), table[table["star"].isin(unseen)].assign(stars="unseen")])
    both["gap seeds"] = np.where(both["gap seed"].isin(SEARCHED), "searched", "untouched")
    errors = both.groupby([*KEYS, "autoencoder", "gap seed", "parameter"], sort=False)["error"]
    return errors.agg(rmse).rename("rmse").reset_index()


def summary(table):
    """Rmse, a mean over gap seeds and autoencoders, and ratios to the published recipe's after fine-tuning.

    Returns
    -------
    DataFrame
        A row a variant, regressor, when (before or after fine-tuning, or less the residual), choice of stars and of
        gap seeds: the rmse of the four parameters, the geometric mean of their ratios, its range over the
        autoencoders, the worst of the four, and the geometric mean and the worst of the ensemble.
    """
    each, ensemble = table[table["autoencoder"] != "ensemble"], table[table["autoencoder"] == "ensemble"]
    mean = each.groupby([*KEYS, "parameter"], sort=False)["rmse"].mean()
    found = mean.unstack()[list(paper.PARAMETERS)]
    one, all_of_them = ratios(each, ["autoencoder"]).groupby(KEYS, sort=False), ratios(ensemble, [])
    mean_ratio = ratios(each, [])
    return found.assign(
        ratio=mean_ratio["mean"], low=one["mean"].min(), high=one["mean"].max(), worst=mean_ratio["max"],
        ensemble=all_of_them["mean"], ensemble_worst=all_of_them["max"],
    ).sort_values(["gap seeds", "stars", "ratio"])


def ratios(table, each):
    """Geometric mean and maximum over the parameters of the ratio of rmse to the published recipe's."""
    mean = table.groupby([*KEYS, *each, "parameter"], sort=False)["rmse"].mean().reset_index()
    recipe = (mean["variant"] == "published") & (mean["regressor"] == "cnn") & (mean["when"] == "after")
    keys = ["stars", "gap seeds", *each, "parameter"]
    both = mean.merge(mean[recipe][[*keys, "rmse"]].rename(columns={"rmse": "recipe"}), on=keys)
    both["log"] = np.log(both["rmse"] / both["recipe"])
    return np.exp(both.groupby([*KEYS, *each], sort=False)["log"].agg(["mean", "max"]))


def cost(n_spectra=1280, epochs=3):
    """Processor time of an epoch with and without perturbation, by turns, of the demo's and the paper's width."""
    flux = np.random.default_rng(0).uniform(0.3, 1, (n_spectra, paper.N_PIXELS)).astype(np.float32)
    for neurons in (384, 1024):
        settings = {"neurons_in": neurons, "reg_par": 1e-7, "lr": paper.KEPT_LR, "penalty": "live",
                    "precision": "float32", "penalty_weight": paper.CONTRACTIVE_WEIGHT,
                    "batch_size": paper.BATCH_AUTOENCODER, "epochs": epochs + 1}
        seconds = {}
        for _ in range(2):
            for way, sees in (("plain", {}), ("perturbed", {"perturb": STRENGTHS})):
                ticks = []
                tick = functools.partial(lambda ticks: ticks.append(time.process_time()), ticks)
                autoencoder_training.train({**settings, **sees}, flux, 0, tick)
                seconds.setdefault(way, []).append(min(np.diff(ticks)))
        plain, perturbed = (1000 * min(seconds[way]) / n_spectra for way in ("plain", "perturbed"))
        print(f"n {neurons}: {plain:.3f} ms a spectrum and epoch, perturbed {perturbed:.3f}: {perturbed / plain:.2f} "
              "times")


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=paper.BUDGETS, default="demo")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--autoencoders", type=int, default=2)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args(argv)
    if args.time:
        return cost()
    names = ["published", CHOSEN] if args.test or args.ablations else list(dict.fromkeys(["published", *args.variants]))
    gap_seeds = SEARCHED + TESTED if args.test else SEARCHED
    folder = ROOT / "artifacts" / f"perturb_{args.budget}"
    simulate(folder / "spectra", gap_seeds, args.budget)
    todo = units(names, gap_seeds, args, folder)
    run = SimpleNamespace(artifacts=folder, jobs=args.jobs, scheduler=None, overwrite=args.overwrite,
                          dry_run=False)
    runner.report(runner.run(todo, work, run, paper.BUDGETS[args.budget].train_epochs, "variants"))
    table = collect(todo, folder)
    name = "_".join(["ablations"] * args.ablations + ["test" if args.test else "search"])
    write_csv(folder / f"{name}.csv", table)
    shown = table if args.ablations else table[table["stars"] == "all"]
    text = summary(shown).to_string(float_format="{:.3g}".format)
    (folder / f"{name}.txt").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
