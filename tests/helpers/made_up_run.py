"""A run that nobody trained: everything that drawing reads, of the right form."""
import time

import numpy as np
import pandas as pd

import paper
from evaluation.run import METRICS, load
from inference import flags, mode
from spectra.dataset import Dataset
from workflow import schemas
from workflow.artifacts import FINETUNED, Artifacts
from workflow.files import sha256, write_array, write_csv, write_json
from workflow.units import Unit, finish

ACT_3 = ("reconstructed_ph", "encoded_carm_before", "reconstructed_carm_before", "residual_carm_before",
         "encoded_carm", "reconstructed_carm", "residual_carm")


def leave(unit, metrics, arrays=(), history=None):
    """Leave a unit's files without having done it."""
    for path, values in zip(unit.also if arrays else [unit.path], arrays or [metrics.pop("values", b"network")]):
        path.write_bytes(values) if isinstance(values, bytes) else write_array(path, values)
    if arrays:
        unit.path.write_bytes(unit.name.encode())
    finish(unit, time.time(), metrics, history)


def make_run(data, folder, n=2):
    """A run of n autoencoders without networks: everything that drawing reads, of the right form."""
    rng, origin = np.random.default_rng(8), Dataset(data).provenance
    ph, carm, pars = (data / f"{name}.npy" for name in ("ph_flux_norm", "carmf_norm", "ph_pars"))
    flux_ph, flux_carm = np.load(ph), np.load(carm)

    def encode(flux):
        return np.maximum(rng.normal(0.3, 0.5, (len(flux), paper.N_LATENT)), 0)

    folder.mkdir(exist_ok=True)
    architectures = [schemas.Architecture(64 + 32 * i, 1e-7, 1e-4) for i in range(n)]
    write_json(folder / "params_final.json", schemas.plain(schemas.Selection(architectures, origin, "the best")))
    grid = pd.DataFrame([schemas.plain(a) for a in [*architectures, schemas.Architecture(8, 1e-7, 1e-4)]])
    write_csv(folder / "grid_search.csv", grid.assign(epochs=2, mse_mean=0.01 * (1 + grid.index), mse_std=1e-3))
    history = {name: list(rng.uniform(0.1, 1, 3)) for name in ("loss", "mse", "penalty")}
    rows = Dataset(data).examples_ph, Dataset(data).examples_carm
    for i in range(n):
        ac = Unit(folder / f"ac_{i}.h5", {**schemas.plain(architectures[i]), "epochs": 3}, (ph,),
                  also=(folder / f"encoded_ph_ac_{i}.npy",), provenance=origin)
        leave(ac, {"mse_test": 5e-5 * (1 + i)}, [encode(flux_ph)], history)
        tuned = Unit(folder / f"dtl_ac_{i}.h5", {"epochs": 4}, (ac.path, ph, carm, pars),
                     also=tuple(folder / f"{name}_ac_{i}.npy" for name in ACT_3), provenance=origin)
        arrays = {"reconstructed_ph": flux_ph[rows[0]] + 0.01, "reconstructed_carm_before": flux_carm[rows[1]] + 0.1,
                  "reconstructed_carm": flux_carm[rows[1]] - 0.01, "encoded_carm_before": encode(flux_carm),
                  "encoded_carm": encode(flux_carm),
                  "residual_carm_before": rng.uniform(0, 1, (2, flux_ph.shape[1])),
                  "residual_carm": rng.uniform(0, 0.1, (2, flux_ph.shape[1]))}
        metrics = {name: 1e-3 * (1 + i) for name in METRICS[FINETUNED]}
        leave(tuned, metrics, [arrays[name] for name in ACT_3], history)
    members = {par: [f"cnn_regressor_{par}_{k}_ac_{i}" for i in range(n) for k in range(3)] for par in paper.PARAMETERS}
    predicted = {par: rng.normal(3, 0.1, (3 * n, len(flux_carm))) for par in members}
    artifacts = Artifacts(folder)
    for par in members:
        numbers = [(k, i) for i in range(n) for k in range(3)]
        for (k, i), values in zip(numbers, predicted[par]):
            settings = {"parameter": par, "repeat": k, "autoencoder": i}
            leave(Unit(artifacts.regressor(par, k, i), settings, provenance=origin), {})
            leave(Unit(artifacts.prediction(par, k, i), {}, provenance=origin), {"values": values})
    table = mode.table(pd.read_csv(data / "stars.csv"), {p: mode.estimate(v) for p, v in predicted.items()})
    write_csv(folder / "final_estimations.csv", table.assign(**dict.fromkeys(flags.COLUMNS, "")))
    kept = {par: schemas.Kept(names, 0.1, names) for par, names in members.items()}
    names = {"stars.csv": sha256(data / "stars.csv")}
    sidecar = schemas.Estimates(schemas.Origin(spectra="simulated"), 42, kept, names,
                                {"final_estimations.csv": sha256(folder / "final_estimations.csv")})
    write_json(folder / "final_estimations.json", schemas.signed(schemas.plain(sidecar)))
    return load(data, folder)
