"""Networks behind gaps of both families: the published recipe, perturbed training, CNNs on the flux; simulated stars.

Writes  {out}/spectra/                    the synthetic spectra, and the observed ones of each gap
        {out}/networks/{way}_{i}.npz      weights of autoencoder i
        {out}/networks/{way}_{i}_{epochs}.npz    of regressors on its encodings, or of CNNs on the flux
        {out}/tests/{way}_{i}_{epochs}.csv       their test errors, by which they are kept
        {out}/estimates/{family}_{seed}_{way}_{i}_{epochs}.csv    a row a star, time (before or after fine-tuning) and
                                          repeat of the regressors: the four parameters; ..._{penalty}.csv with
                                          --penalty, of fine-tuning alone

with {out} artifacts/perturb_{budget}; network_errors.py makes tables of them. The ways: `published`; `perturbed`,
which is --perturb --penalty none; `flux`, a CNN for each parameter that reads it off the flux, as Passegger et al. 2020
(A&A 642, A22) do, trained on synthetic spectra as they are. Networks are trained once; a gap costs a fine-tuning and
predictions. Autoencoder i has the same initial weights and order of batches in both ways. What is there is not made
again, so a killed run goes on where it was. --run takes autoencoders and regressors that the acts have trained.

    python tests/benchmarks/perturb.py                  # the demo's size, 45 minutes of a core
    python tests/benchmarks/perturb.py --families none --seeds 0 1 2        # where fine-tuning has nothing to learn
    python tests/benchmarks/perturb.py --families none lines --seeds 0 1 2 --ways published --penalty none
    python tests/benchmarks/perturb.py --ways published --cnn-epochs 100    # regressors that were trained for longer
    python tests/benchmarks/perturb.py --budget paper --autoencoders 0 --seeds 0 1 2 3 4 5 6 7 8 9    # all spectra
    python tests/benchmarks/perturb.py --budget paper --autoencoders 0 --run artifacts/full    # those of make release
"""
import argparse
import functools
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from acts import N_SPECTRA, ROOT  # isort: skip  # puts the scripts on the path

import autoencoder_training
import paper
from spectra import dataset
from synthetic import simulation
from synthetic.gap_families import FAMILIES
from training import backend, fine_tuning, loop, networks, perturbation
from training.backend import keras
from workflow.artifacts import REGRESSORS, Artifacts
from workflow.files import write_array, write_csv, writing
from workflow.units import seed_of

NO_GAP = "none"
PARAMETERS = list(paper.PARAMETERS)
WAYS = {"published": {"penalty": "live"},
        "perturbed": {"penalty": "none", "perturb": asdict(perturbation.Strengths())}, "flux": {}}
NEURONS = {"paper": 1024, "demo": 384, "smoke": 64}
REPEATS = {"paper": 1, "demo": 5, "smoke": 2}  # regressors a parameter and autoencoder
CNN_EPOCHS = {"paper": 60, "demo": 20, "smoke": 1}
FLUX_EPOCHS = {"paper": 15, "demo": 60, "smoke": 1}
FLUX_LR = 1e-3


# ---------------------------------------------------------------- spectra
def synthetic(folder, budget):
    """Synthetic spectra, memory-mapped, and their labels; made once."""
    paths = folder / "ph_flux_norm.npy", folder / "ph_pars.npy"
    if not all(path.exists() for path in paths):
        flux_ph, labels, *_ = simulation.simulate(n_spectra=N_SPECTRA[budget], n_observed=1)
        write_array(paths[0], flux_ph)
        write_array(paths[1], labels)
    return np.load(paths[0], mmap_mode="r"), np.load(paths[1])


def observed(folder, family, seed):
    """Observed spectra behind one gap, made once; without one they differ from synthetic spectra by noise alone."""
    path = folder / f"{family}_{seed}.npy"
    if not path.exists():
        stars, physics = simulation.draw_stars(paper.SPLIT_SEED), FAMILIES.get(family, simulation.Physics).reference()
        write_array(path, simulation.observe(stars, physics, float(family != NO_GAP), seed)[0])
    return np.load(path)


# ---------------------------------------------------------------- networks
def build_flux_cnn(seed):
    """A CNN from (n_spectra, n_pixels, 1) to one parameter: convolutions with pooling, then dense layers."""
    start = keras.initializers.GlorotUniform
    h = flux = keras.Input((paper.N_PIXELS, 1))
    for k, (filters, stride) in enumerate(((16, 3), (32, 1))):
        h = keras.layers.Conv1D(filters, 9, stride, activation="relu", kernel_initializer=start(seed=seed + k))(h)
        h = keras.layers.MaxPooling1D(4)(h)
    h = keras.layers.Flatten()(h)
    for k, units in enumerate(paper.CNN_DENSE):
        h = keras.layers.Dense(units, "relu", kernel_initializer=start(seed=seed + 10 + k))(h)
    return networks.SeededModel(flux, keras.layers.Dense(1, kernel_initializer=start(seed=seed + 20))(h), seed)


def regressor(way, par, seed=0):
    """An untrained regressor, and its learning rate; on the flux of the label in units of its spread."""
    if way == "flux":
        return build_flux_cnn(seed), FLUX_LR
    hyper = asdict(paper.PARAMETERS[par].cnn)
    return networks.build_cnn(hyper["nf1"], hyper["nf2"], hyper["nu"], seed=seed), hyper["lr"]


def settings_of(way, budget):
    """Those of acts 2 and 3."""
    return {"neurons_in": NEURONS[budget], "reg_par": 1e-7, "lr": paper.KEPT_LR, "precision": "float32",
            "penalty_weight": paper.CONTRACTIVE_WEIGHT, "batch_size": paper.BATCH_AUTOENCODER,
            "epochs": paper.BUDGETS[budget].train_epochs, **WAYS[way]}


def train_autoencoder(way, i, budget, flux_ph):
    """Weights of an autoencoder, as act 2 makes it."""
    seed, rows = seed_of(paper.SPLIT_SEED, f"ac_{i}"), dataset.split(len(flux_ph), "ph")[0]
    autoencoder, _ = autoencoder_training.train(settings_of(way, budget), flux_ph, seed, rows=rows)
    return {"autoencoder": autoencoder.get_weights()}


def built(way, i, budget, folder=None):
    """The autoencoder of a way and number, with untrained weights, or that of a run's folder."""
    if folder:
        return networks.load(Artifacts(folder).autoencoder(i))
    s = settings_of(way, budget)
    return networks.build_autoencoder(s["neurons_in"], s["reg_par"], seed=seed_of(paper.SPLIT_SEED, f"ac_{i}"))


def examples(way, i, budget, weights, flux_ph):
    """Encodings that the regressors learn from, as act 2 leaves them; of CNNs on the flux the spectra."""
    if way == "flux":
        return flux_ph
    autoencoder, s = built(way, i, budget), settings_of(way, budget)
    autoencoder.set_weights(weights["autoencoder"])
    encode = functools.partial(networks.predict, networks.encoder_of(autoencoder))
    perturb = autoencoder_training.perturber(s, seed_of(paper.SPLIT_SEED, f"ac_{i}"))
    return perturbation.copies(encode, perturb, flux_ph, s["epochs"]) if perturb else encode(flux_ph)


def train_regressors(way, i, epochs, repeats, encoded, labels):
    """Weights of the regressors by name, and a row each with its test error."""
    weights, rows = {}, []
    for par, label in zip(PARAMETERS, labels.T):
        unit, start = (label.std(), label.mean()) if way == "flux" else (1.0, 0.0)
        train, test = (perturbation.examples(encoded, (label - start) / unit, part)
                       for part in dataset.split_stratified(label))
        for k in range(repeats):
            cnn, lr = regressor(way, par, seed_of(seed_of(paper.SPLIT_SEED, f"ac_{i}"), f"{par} {k}"))
            n_epochs = -(-epochs // (len(encoded) if encoded.ndim == 3 else 1))
            loop.fit(cnn, cnn.squared_error, backend.adam(lr), train[0][..., None], train[1], paper.BATCH_CNN, n_epochs)
            weights[f"{par} {k}"] = cnn.get_weights()
            mse = networks.mse(cnn, test[0][..., None], y=test[1]) * unit**2
            rows.append({"parameter": par, "repeat": k, "test mse": mse})
            print(f"{way} {i} {par} {k}: test rmse {mse**0.5:.3g}", flush=True)
    return weights, pd.DataFrame(rows)


def of_run(folder, i, out):
    """Weights of an autoencoder of a run and of its regressors, and for how many epochs these were trained.

    Their test errors are written where those of `train_regressors` are.
    """
    if (own := out / "networks" / f"published_{i}.npz").exists():
        sys.exit(f"{own} is of another autoencoder than that of {folder}: move {out} away")
    artifacts, rows = Artifacts(folder), []
    weights = {"autoencoder": networks.load(artifacts.autoencoder(i)).get_weights()}
    for sidecar in artifacts.sidecars(REGRESSORS):
        if (settings := sidecar.settings)["autoencoder"] == i:
            par, k = settings["parameter"], settings["repeat"]
            weights[f"{par} {k}"] = networks.load(artifacts.regressor(par, k, i)).get_weights()
            rows.append({"parameter": par, "repeat": k, "test mse": sidecar.metrics["mse_test"]})
    write_csv(out / "tests" / f"published_{i}_{settings['epochs']}.csv", pd.DataFrame(rows))
    return weights, settings["epochs"]


def save(path, weights):
    """Write the weights of several networks."""
    with writing(path) as partial, open(partial, "wb") as file:
        np.savez(file, **{f"{name}|{k:02d}": w for name, part in weights.items() for k, w in enumerate(part)})


def load(path):
    """Weights of networks by name."""
    weights = {}
    with np.load(path) as file:
        for key in sorted(file.files):
            weights.setdefault(key.split("|")[0], []).append(file[key])
    return weights


# ---------------------------------------------------------------- estimates
def estimates(way, i, args, weights, gaps, labels):
    """Yield, for each gap's spectra of `gaps`, a DataFrame with a row a star, time and repeat."""
    members = {}
    for name, trained in weights.items():
        if name != "autoencoder":
            par, k = name.split()
            members.setdefault(int(k), {})[par] = regressor(way, par)[0]
            members[int(k)][par].set_weights(trained)
    if way != "flux":
        s = {**settings_of(way, args.budget), "epochs": paper.BUDGETS[args.budget].fine_tune_epochs,
             "frozen": paper.FROZEN_LAYERS}
        s["penalty"] = args.penalty or s["penalty"]
        autoencoder = built(way, i, args.budget, args.run)
        encoder = networks.encoder_of(autoencoder)
    for flux_carm in gaps:
        if way == "flux":
            seen = {"flux": flux_carm}
        else:
            autoencoder.set_weights(weights["autoencoder"])
            seen = {"before": networks.predict(encoder, flux_carm)}
            fine_tuning.fine_tune(autoencoder, s, flux_carm, rows=dataset.split(len(flux_carm), "carm")[0])
            seen["after"] = networks.predict(encoder, flux_carm)
        parts = []
        for when, x in seen.items():
            for k, cnns in members.items():
                values = {par: networks.predict(cnn, x[..., None])[:, 0].astype(float) for par, cnn in cnns.items()}
                if way == "flux":
                    values = {par: label.mean() + label.std() * values[par] for par, label in zip(PARAMETERS, labels.T)}
                parts.append(pd.DataFrame({"star": range(len(x)), "when": when, "repeat": k, **values}))
        yield pd.concat(parts)


def trained(way, i, args, out, flux_ph, labels):
    """Weights of a way and number, trained if they are not there, and for how many epochs its regressors were."""
    epochs = FLUX_EPOCHS[args.budget] if way == "flux" else args.cnn_epochs or CNN_EPOCHS[args.budget]
    name, weights = f"{way}_{i}", {}
    if way != "flux":
        path = out / "networks" / f"{name}.npz"
        if not path.exists():
            save(path, train_autoencoder(way, i, args.budget, flux_ph))
        weights = load(path)
    name = f"{name}_{epochs}"
    path = out / "networks" / f"{name}.npz"
    if not path.exists():
        encoded, repeats = examples(way, i, args.budget, weights, flux_ph), 1 if way == "flux" else REPEATS[args.budget]
        regressors, rows = train_regressors(way, i, epochs, repeats, encoded, labels)
        write_csv(out / "tests" / f"{name}.csv", rows)
        save(path, regressors)
    return {**weights, **load(path)}, epochs


def run(way, i, args, out):
    """Train what is not trained of a way and number, and estimate the stars behind every gap not yet done."""
    labels = None  # which only CNNs on the flux want to estimate with
    if args.run:
        weights, epochs = of_run(args.run, i, out)
    else:
        flux_ph, labels = synthetic(out / "spectra", args.budget)
        weights, epochs = trained(way, i, args, out, flux_ph, labels)
    name = f"{way}_{i}_{epochs}" + (f"_{args.penalty}" if args.penalty else "")
    tables = {(family, seed): out / "estimates" / f"{family}_{seed}_{name}.csv"
              for seed in args.seeds for family in args.families}
    todo = [gap for gap, path in tables.items() if not path.exists()]
    gaps = (observed(out / "spectra", *gap) for gap in todo)
    for gap, table in zip(todo, estimates(way, i, args, weights, gaps, labels)):
        write_csv(tables[gap], table)
        print(name, *gap, flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=paper.BUDGETS, default="demo")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--autoencoders", nargs="+", type=int, default=[0, 1, 2], help="numbers of them")
    parser.add_argument("--families", nargs="+", choices=[*FAMILIES, NO_GAP], default=list(FAMILIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(20)), help="of gaps, of each family")
    parser.add_argument("--cnn-epochs", type=int, help="of the regressors on encodings; None: of the budget")
    parser.add_argument("--penalty", choices=paper.PENALTIES, help="of fine-tuning; None: that of the training")
    parser.add_argument("--run", type=Path, help="artifacts of the acts, whose networks are the way `published`")
    args = parser.parse_args(argv)
    args.ways = ["published"] if args.run else args.ways
    out = ROOT / "artifacts" / f"perturb_{args.budget}"
    for part in ("spectra", "networks", "estimates", "tests"):
        (out / part).mkdir(parents=True, exist_ok=True)
    for i in args.autoencoders:
        for way in args.ways:
            backend.forget_models()
            run(way, i, args, out)


if __name__ == "__main__":
    main()
