"""The gap between synthetic and observed spectra, in numbers, as fluxes and among the latent values (Sect. 3.2).

Reads   {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy
        {artifacts}/params_final.json, dtl_ac_{i}.h5, encoded_ph_ac_{i}.npy, encoded_carm_ac_{i}.npy,
        encoded_carm_before_ac_{i}.npy, final_estimations.csv
Writes  {artifacts}/gap_report.csv, a row a space and autoencoder, and gap_report.png, the same as a picture

Different stars are no gap: the observed spectra are held against as many synthetic ones, those whose labels are nearest
to the estimates, each used once; stars without one near enough are left out. Latent values are compared as the method
uses them, synthetic ones of the trained and observed ones of the fine-tuned encoder, and as a control with one encoder
for both. Negative controls are two halves of the observed spectra, and two sets of synthetic ones of the same labels.

- distance: to the nearest of all synthetic spectra, Euclidean, over that of a synthetic spectrum to the nearest other
- correlation: the same of one minus the correlation, the metric of the paper's UMAP
- MMD: squared maximum mean discrepancy, unbiased (Gretton et al. 2012, JMLR 13, 723), of a Gaussian kernel as wide as
  the median distance; p by permutation
- AUC: how well a linear classifier tells unseen spectra apart (Lopez-Paz & Oquab 2017), from 0.5, not at all, to 1; its
  95 % interval by bootstrap over these spectra
- reconstruction: mean squared error of the observed over that of the synthetic spectra

    python Methodology/gap_report.py --data src_files/simulated
    python Methodology/gap_report.py --data src_files/demo --artifacts artifacts/demo
"""
import argparse
import sys

from evaluation import gap
from evaluation.run import load
from figures.section3 import gap_in_numbers
from workflow.command_line import Help, add_run, add_seed, command
from workflow.files import lock, write_csv, writing


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add_run(parser)
    add_seed(parser, "of folds, halves and draws")
    add("--truth", action="store_true", help="match simulated stars by their true labels, not by the estimates")
    args = parser.parse_args(argv)
    run = load(args.data, args.artifacts)
    table = gap.report(run, args.truth, args.seed)
    print(f"{run.title}\n\n{gap.summary(table).to_string(index=False)}")
    print(f"\n{table['n'].max()} of {len(run.estimates)} stars have a synthetic spectrum of the same labels")
    with lock(args.artifacts):
        run.refuse_change()
        write_csv(run.artifacts.gap_report, table.assign(run=run.title))
        with writing(run.artifacts.gap_report.with_suffix(".png")) as partial:
            gap_in_numbers(run, table).savefig(partial, dpi=200, metadata={"Description": run.mark_of_gap})
    print(f"\n-> {run.artifacts.gap_report} and gap_report.png")


if __name__ == "__main__":
    sys.exit(main())
