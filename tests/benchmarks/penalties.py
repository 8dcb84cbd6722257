"""All readings of the contractive penalty, each in training and fine-tuning, against the truth of simulations.

Reads   src_files/simulated_gap{0,1,2}/    all 22,933 synthetic and 286 observed spectra, made if absent
Writes  artifacts/penalties/{penalty}_{i}/gap{g}/    the artifacts of the four acts, an autoencoder each
        artifacts/penalties.csv, penalties.txt       errors before and after fine-tuning, each and their means

The architectures are the best three of four of act 1, in artifacts/penalties/search/, a search of the paper's length.
Autoencoder i has the same initial weights and order of batches whatever its penalty. Each has regressors of its own,
for Teff and [M/H], fewer and shorter ones than the paper's (see CNN_EPOCHS, REPEATS); an estimate is the mean of
their predictions. Ten hours of one core; an interrupted run goes on where it was.

    python tests/benchmarks/penalties.py [--jobs N]
    python tests/benchmarks/penalties.py --budget demo     # half an hour on two cores: n 384, 3,000 spectra
    python tests/benchmarks/penalties.py --budget smoke    # two minutes, to see it run
"""
import argparse
import dataclasses
import os
import shutil
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from acts import N_SPECTRA, ROOT, ended, share  # isort: skip  # puts the scripts on the path

import paper

GAPS = (0, 1, 2)
AUTOENCODERS = 3
PARAMETERS = ("teff", "mh")
CNN_EPOCHS, REPEATS = 60, 2
SEARCH = {"paper": ["--neurons-in", "1024", "--reg-par", "8e-8", "9e-8", "1.1e-7", "1.2e-7"],
          "demo": ["--neurons-in", "384", "--reg-par", "8e-8", "9e-8", "1.1e-7", "1.2e-7"],
          "smoke": ["--neurons-in", "64", "--reg-par", "8e-8", "9e-8", "1.1e-7", "1.2e-7"]}


def simulate(out, gap_seed, budget):
    """Simulate the spectra of one gap seed; the synthetic ones are the same for all."""
    import simulate_spectra

    ended(simulate_spectra.main, ["--out", str(out), "--gap-seed", str(gap_seed), "--n-spectra",
                                  str(N_SPECTRA[budget])])


def search(data, out, budget):
    """Act 1, whose best architectures all penalties are tried with."""
    import autoencoder_grid_search

    flags = ["--data", str(data), "--artifacts", str(out), "--budget", budget]
    ended(autoencoder_grid_search.main, [*flags, *SEARCH[budget], "--keep", str(AUTOENCODERS)])
    return out / "params_final.json"


def chain(penalty, i, data, folder, selection, budget):
    """Acts 2 to 4 for one autoencoder, then acts 3 and 4 for the other gaps."""
    import autoencoder_fine_tuning
    import autoencoder_training
    import cnn_training

    base = paper.BUDGETS[budget]
    if budget == "paper":
        paper.BUDGETS[budget] = dataclasses.replace(base, cnn_epochs=CNN_EPOCHS, repeats=REPEATS)
    first = folder / "gap0"
    for gap in GAPS:
        here = folder / f"gap{gap}"
        if gap:
            for pattern in (f"ac_{i}.*", f"encoded_ph_ac_{i}.*", f"cnn_regressor_*_ac_{i}.*"):
                share(first, here, pattern)
        here.mkdir(parents=True, exist_ok=True)
        shutil.copy(selection, here)
        flags = ["--data", str(data[gap]), "--artifacts", str(here), "--budget", budget, "--jobs", "1",
                 "--only", str(i)]
        ended(autoencoder_training.main, [*flags, "--penalty", penalty])
        ended(autoencoder_fine_tuning.main, flags)
        ended(cnn_training.main, [*flags, "--parameter", *PARAMETERS])
    paper.BUDGETS[budget] = base
    print(f"{penalty} {i} done", flush=True)


def errors(penalty, i, data, folder):
    """A row a gap and parameter: bias and rmse before and after fine-tuning, and the reconstruction errors."""
    from evaluation.truth import rmse
    from workflow.units import read_sidecar

    rows = []
    for gap in GAPS:
        here, truth = folder / f"gap{gap}", pd.read_csv(data[gap] / "stars.csv")
        tuned = read_sidecar(here / f"dtl_ac_{i}.h5").metrics
        for par in PARAMETERS:
            row = {"penalty": penalty, "autoencoder": i, "gap seed": gap, "parameter": par,
                   "test mse": read_sidecar(here / f"ac_{i}.h5").metrics["mse_test"],
                   "observed mse": tuned["mse_carm_test_after"]}
            for when, suffix in (("before", "_before"), ("after", "")):
                paths = sorted(here.glob(f"{par}_estimation_*_ac_{i}{suffix}.npy"))
                off = np.mean([np.load(path) for path in paths], axis=0) - truth[par]
                row.update({f"bias {when}": off.mean(), f"rmse {when}": rmse(off)})
            rows.append(row)
    return rows


def summary(table):
    """Mean of the rmse over autoencoders, in brackets their range, a row a parameter and penalty."""
    rows = {}
    for (par, penalty), some in table.groupby(["parameter", "penalty"], sort=False):
        digits = 0 if par == "teff" else 3
        row = rows[paper.PARAMETERS[par].published, penalty] = {}
        for gap in (*GAPS, "all"):
            those = some if gap == "all" else some[some["gap seed"] == gap]
            for when in ("before", "after"):
                each = those.groupby("autoencoder")[f"rmse {when}"].mean()
                row[f"{gap} {when}"] = f"{each.mean():.{digits}f} ({each.min():.{digits}f} to {each.max():.{digits}f})"
    return pd.DataFrame(rows).T


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=paper.BUDGETS, default="paper")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    args = parser.parse_args()
    suffix = "" if args.budget == "paper" else f"_{args.budget}"
    data = {gap: ROOT / "src_files" / f"simulated_gap{gap}{suffix}" for gap in GAPS}
    for gap in GAPS:
        simulate(data[gap], gap, args.budget)
    out = ROOT / "artifacts" / f"penalties{suffix}"
    tasks = [(penalty, i, data, out / f"{penalty}_{i}") for i in range(AUTOENCODERS) for penalty in paper.PENALTIES]
    selection = search(data[0], out / "search", args.budget)
    joblib.Parallel(args.jobs, batch_size=1)(joblib.delayed(chain)(*task, selection, args.budget) for task in tasks)
    table = pd.DataFrame([row for task in tasks for row in errors(*task)])
    table.to_csv(out.with_suffix(".csv"), index=False)
    text = summary(table).to_string()
    out.with_suffix(".txt").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
