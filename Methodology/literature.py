"""Published values of the stars, joined by name, and the paper's comparison with them, recomputed (Sect. 4).

Reads   literature_data/*.csv; a run's final_estimations.csv and its sidecar, if one is given
Prints  what the paper says of its estimates, and the comparison table

    python Methodology/literature.py                                    # the published estimates
    python Methodology/literature.py artifacts/final_estimations.csv    # those of a run
    python Methodology/literature.py --claims                           # what Sect. 4 prints and says in words
"""
import argparse
import sys

from evaluation import claims, comparison
from evaluation.catalogues import load_estimates, title
from workflow.command_line import command


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("estimates", nargs="?", help="final_estimations.csv of a run; default: the published estimates")
    parser.add_argument("--claims", action="store_true", help="print what Sect. 4 says of the estimates instead")
    args = parser.parse_args(argv)
    estimates = load_estimates(args.estimates)
    print(f"{len(estimates)} stars, {title(estimates)}\n")
    if args.claims:
        print(claims.of_estimates(estimates).to_string(index=False))
        return
    print(comparison.printable(comparison.findings(estimates)).to_string(index=False))
    print("\nMean difference, rmse and Pearson r of literature minus these estimates\n")
    print(comparison.printable(comparison.compare(estimates)).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
