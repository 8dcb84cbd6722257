"""Whether any number of gap_report.py tells how wrong the estimates are: over gaps of every size and seed.

Reads   src_files/gaps_{budget}/gap{g}_seed{s}/    simulated spectra, made if absent
Writes  artifacts/gaps_{budget}/gap{g}_seed{s}/    a run each; autoencoder and regressors are those of the first
        artifacts/gaps_{budget}.csv                a row a run: rmse and bias of Teff before and after, and all numbers

Prints Spearman's rank correlation of each number with the rmse and with the size of the bias of Teff. Stars are matched
by their true labels: behind a gap of 2 the estimates are too wrong for that. An interrupted run goes on where it was.

    python tests/benchmarks/gaps.py                  # days: all 22,933 synthetic spectra
    python tests/benchmarks/gaps.py --budget demo    # half an hour on two cores
"""
import argparse
import shutil
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from acts import N_SPECTRA, ROOT, ended, share  # isort: skip  # puts the scripts on the path

GAPS = [*((1.0, seed) for seed in range(10)), (0.5, 0), (0.5, 1), (0.5, 2), (2.0, 0), (2.0, 1), (2.0, 2), (0.0, 0)]
MEASURES = ("distance", "correlation", "mmd", "auc", "reconstruction")


def run_acts(gap, seed, data, folder, first, budget):
    """All acts of the first run; of the others act 3, and the predictions of its regressors."""
    import autoencoder_fine_tuning
    import autoencoder_grid_search
    import autoencoder_training
    import cnn_training
    import simulate_spectra

    ended(simulate_spectra.main, ["--out", str(data), "--gap", str(gap), "--gap-seed", str(seed), "--n-spectra",
                                  str(N_SPECTRA[budget])])
    flags = ["--data", str(data), "--artifacts", str(folder), "--budget", budget]
    if folder == first:
        ended(autoencoder_grid_search.main, flags)
        ended(autoencoder_training.main, flags)
    else:
        for pattern in ("ac_*", "encoded_ph_*", "cnn_regressor_*"):
            share(first, folder, pattern)
        shutil.copy(first / "params_final.json", folder)
    ended(autoencoder_fine_tuning.main, flags)
    ended(cnn_training.main, flags)


def numbers(data, folder):
    """Errors of Teff, and the means over the autoencoders of what gap_report.py measures, as one row."""
    from evaluation import gap
    from evaluation.run import load
    from evaluation.truth import errors_of_estimates
    from spectra import star_tables

    run = load(data, folder)
    tables = [star_tables.read(folder / f"final_estimations{suffix}.csv", "") for suffix in ("_before", "")]
    teff = errors_of_estimates(*tables, run.truth).iloc[0]
    row = {f"{part} {when}": abs(teff[f"{part} {when}"]) for part in ("rmse", "bias") for when in ("before", "after")}
    table = gap.report(run, by_truth=True)
    for space in (gap.FLUX, gap.BEFORE, gap.METHOD, gap.ONE):
        mean = table[table["space"] == space][list(MEASURES)].mean()
        row.update({f"{space}: {name}": value for name, value in mean.items()})
    # what the paper looks at
    for when in ("before", "after"):
        metric = [sidecar.metrics[f"distance_latent_{when}"] for sidecar in run.fine_tuned.values()]
        row[f"latent distance of the paper, {when}"] = sum(metric) / len(metric)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=("paper", "demo"), default="paper")
    args = parser.parse_args()
    name, rows = f"gaps_{args.budget}", []
    for gap, seed in GAPS:
        here = f"gap{gap:g}_seed{seed}"
        data, folder = ROOT / "src_files" / name / here, ROOT / "artifacts" / name / here
        run_acts(gap, seed, data, folder, ROOT / "artifacts" / name / "gap1_seed0", args.budget)
        rows.append({"gap": gap, "seed": seed, **numbers(data, folder)})
        print(f"{here} done", flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(ROOT / "artifacts" / f"{name}.csv", index=False)
    ranks = table.drop(columns=["gap", "seed"]).corr("spearman")
    errors = [column for column in ranks if column.startswith(("rmse", "bias"))]
    print(table.to_string(float_format="{:.3g}".format))
    print(ranks.loc[[row for row in ranks if row not in errors], errors].to_string(float_format="{:+.2f}".format))


if __name__ == "__main__":
    sys.exit(main())
