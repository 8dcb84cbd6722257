"""The gap between synthetic and observed spectra, in numbers, as fluxes and among the latent values (Sect. 3.2).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy
        {artifacts}/params_final.json, dtl_ac_{i}.h5, encoded_ph_ac_{i}.npy, encoded_carm_ac_{i}.npy,
        encoded_carm_before_ac_{i}.npy, final_estimations.csv
Writes  {artifacts}/gap_report.csv    a row a space and autoencoder
        {artifacts}/gap_report.png    the same as a picture

Different stars are no gap: the observed spectra are held against as many synthetic ones of the same labels, those that
are nearest to the estimates, each used once; stars without one near enough are left out. Latent values are compared as
the method uses them, synthetic ones of the trained encoder and observed ones of the fine-tuned one, and as a control
with one encoder for both. As a negative control the same is done to two halves of the observed spectra, and to two sets
of synthetic ones of the same labels.

- distance: to the nearest of all synthetic spectra, Euclidean, over that of a synthetic spectrum to the nearest other
- correlation: the same of one minus the correlation, the metric of the paper's UMAP
- MMD: squared maximum mean discrepancy, unbiased (Gretton et al. 2012, JMLR 13, 723), of a Gaussian kernel as wide as
  the median distance; p by permutation
- AUC: how well a linear classifier tells spectra apart that it has not seen (Lopez-Paz & Oquab 2017): 0.5 not at all,
  1 always; its interval, 95 %, by bootstrap over these spectra
- reconstruction: mean squared error of the observed over that of the synthetic spectra

    python Methodology/gap_report.py --data src_files/simulated
    python Methodology/gap_report.py --data src_files/demo --artifacts artifacts/demo
"""
import sys

from workflow.command_line import Help, add_run, command, number  # isort: skip  # first: it shortens what Ctrl-C says

import argparse

import numpy as np
import pandas as pd

import paper
from evaluation import gap
from evaluation import run as runs
from training import networks
from workflow.files import BadInput, lock, take, write_csv, writing

__all__ = ["report"]


def report(run, by_truth=False, seed=paper.SPLIT_SEED):
    """Measure the gap of a run.

    Parameters
    ----------
    run : runs.Run
        With estimates, and at least one fine-tuned autoencoder.
    by_truth : bool
        The labels of simulated stars are their true ones, not the estimates, whose errors would count as gap.
    seed : int
        Of folds, permutations, halves and bootstrap.

    Returns
    -------
    DataFrame
        A row a space and autoencoder, and one for each of their negative controls: `space`, `autoencoder` (NaN of the
        fluxes), `n` pairs, `distance` and its quantiles, `correlation`, `mmd`, `p`, `auc`, `auc_low`, `auc_high`,
        `reconstruction`; distances in units of the mean of the matched synthetic spectra's, which `distance_synthetic`
        and `correlation_synthetic` are.

    Raises
    ------
    BadInput
        Too few stars with estimates, or what `runs.Run` raises.
    """
    if run.estimates is None:
        raise runs.NotYet(f"{run.artifacts} has no estimates, whose labels are needed: run Methodology/cnn_training.py")
    if by_truth and run.truth is None:
        raise BadInput(f"{run.artifacts}: there is no truth of these stars: leave out --truth")
    run.first("dtl_")
    wanted = (run.truth if by_truth else run.estimates)[list(paper.PARAMETERS)].to_numpy(float)
    good = np.flatnonzero(np.isfinite(wanted).all(axis=1) & run.estimates["teff"].notna().to_numpy())
    labels = np.column_stack([run.labels(par) for par in paper.PARAMETERS])
    same, stars = gap.matched(labels, wanted[good])
    others = np.setdiff1d(np.arange(len(labels)), same)
    twins, ones = gap.matched(labels[others], labels[same])
    if min(len(stars), len(ones)) < gap.FEWEST:
        raise BadInput(f"{run.artifacts}: {min(len(stars), len(ones))} stars have synthetic spectra of their labels, "
                       f"{gap.FEWEST} are needed: more spectra of either kind")  # fmt: skip
    print(f"{len(stars)} of {len(good)} stars have a synthetic spectrum of the same labels")
    rows = []
    for space, i, observed, synthetic, ratio in spaces(run, good[stars]):
        rng, number_of = np.random.default_rng([seed, i or 0]), {"autoencoder": np.nan if i is None else i}
        rows.append({"space": space, **number_of, "n": len(stars), **gap.distances(observed, synthetic, same),
                     **gap.told_apart(synthetic[same], observed, rng), "reconstruction": ratio})  # fmt: skip
        if space != gap.ONE:
            half = len(stars) // 2
            halves = observed[rng.permutation(len(stars))[: 2 * half]].reshape(2, half, -1)
            two = synthetic[rng.permuted([same[ones], others[twins]], axis=0)]
            rows += [{"space": space + name, **number_of, "n": len(pair[0]), **gap.told_apart(*pair, rng)}
                     for name, pair in zip(gap.HALVES, (halves, two))]  # fmt: skip
    return pd.DataFrame(rows)


def spaces(run, good):
    """What is compared: name, autoencoder, observed and synthetic vectors, and ratio of the reconstruction errors."""
    flux_ph = take(run.flux("ph"), slice(None))
    yield gap.FLUX, None, take(run.flux("carm"), good), flux_ph, np.nan
    for i, sidecar in run.fine_tuned.items():
        error, trained = sidecar.metrics, np.array(run.array("encoded_ph", i))
        before, after = (take(run.array(name, i), good) for name in ("encoded_carm_before", "encoded_carm"))
        yield gap.BEFORE, i, before, trained, error["mse_carm_before"] / error["mse_ph_before"]
        yield gap.METHOD, i, after, trained, error["mse_carm_after"] / error["mse_ph_before"]
        encoder = networks.encoder_of(networks.load(run.artifacts / f"dtl_ac_{i}.h5"))
        yield gap.ONE, i, after, networks.predict(encoder, flux_ph), error["mse_carm_after"] / error["mse_ph_after"]


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add_run(parser)
    add("--seed", type=number(int, 0, 2**30), default=paper.SPLIT_SEED, metavar="N", help="of folds, halves and draws")
    add("--truth", action="store_true", help="match simulated stars by their true labels, not by the estimates")
    args = parser.parse_args(argv)
    run = runs.load(args.data, args.artifacts)
    table = report(run, args.truth, args.seed)
    print(f"{run.title}\n\n{gap.summary(table).to_string(index=False)}")
    with lock(args.artifacts):
        write_csv(args.artifacts / "gap_report.csv", table.assign(run=run.title))
        with writing(args.artifacts / "gap_report.png") as partial:
            gap.figure_of(run, table).savefig(partial, dpi=200)
    print(f"\n-> {args.artifacts / 'gap_report.csv'} and gap_report.png")


if __name__ == "__main__":
    sys.exit(main())
