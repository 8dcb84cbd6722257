"""The paper's whole run on simulated spectra, all four acts: wall time, memory and errors.

Writes  artifacts/paper_run_{budget}/spectra/    the simulated spectra
        artifacts/paper_run_{budget}/run/        what the acts leave
        artifacts/paper_run_{budget}/acts.csv    a row an act: time by the clock and of the processor, memory of a
                                                 process and of the GPU, operations
        artifacts/paper_run_{budget}/errors.csv  rmse of the estimates against the truth, and that of a constant

At the size of the paper this is the published code's grid. With --perturb, act 2 and 4 are given it too and the folder
is called paper_run_{budget}_perturbed. An interrupted run goes on where it was, if it is given the same flags: the time
of an act is then the sum of its parts. Operations are those of the products in training, see limit.py.

    python tests/benchmarks/paper_run.py --stack 130 --jobs 1    # on one GPU
    python tests/benchmarks/paper_run.py                         # on a processor
    python tests/benchmarks/paper_run.py --budget smoke          # a minute: does it work?
"""
import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent))
from acts import N_SPECTRA, ROOT  # isort: skip  # puts the scripts on the path

import limit

import paper
from evaluation.truth import errors_of_estimates
from spectra.dataset import Dataset
from workflow.artifacts import STAGES, Artifacts
from workflow.command_line import command, cores, number
from workflow.files import BadInput, write_csv, write_json

ACTS = ["autoencoder_grid_search", "autoencoder_training", "autoencoder_fine_tuning", "cnn_training"]
STACKED, PERTURBED = {ACTS[0], ACTS[1], ACTS[3]}, {ACTS[1], ACTS[3]}
MEMORY = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]  # [MiB], a line a GPU


def followed(arguments):
    """Run a script, its words shown as they come; its status, its words, and the most memory [GB] in use on GPUs."""
    peak, over = [0.0], threading.Event()

    def watch():
        while shutil.which(MEMORY[0]) and not over.wait(1):
            used = subprocess.run(MEMORY, capture_output=True, text=True).stdout
            peak.append(sum(map(float, re.findall(r"\d+", used))) * 2**20 / 1e9)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    said = []
    with subprocess.Popen(list(map(str, [sys.executable, *arguments])), stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                said.append(line)
                print(line, end="", flush=True)
        except BaseException:
            process.terminate()
            raise
    over.set()
    watcher.join()
    return process.returncode, "".join(said), max(peak)


def measure(step, arguments, record, path):
    """Run a script that is not done yet, and record its seconds, memory and device."""
    entry = record.setdefault(step, {"seconds": 0.0, "of the processor": 0.0, "done": False, "device": "",
                                     "GB a process": 0.0, "GPU [GB]": 0.0})
    if entry["done"]:
        return
    started, before = time.time(), of_children()
    status, said, gpu = 1, "", 0.0
    try:
        status, said, gpu = followed(arguments)
    finally:
        peaks = [float(gigabytes) for gigabytes in re.findall(r"peak memory of a process ([\d.]+) GB", said)]
        device = re.search(r"trained on (.*)", said)
        entry.update({"seconds": entry["seconds"] + time.time() - started, "done": status == 0,
                      "of the processor": entry.get("of the processor", 0.0) + of_children() - before,
                      "device": device[1] if device else entry["device"],
                      "GB a process": max([entry["GB a process"], *peaks]), "GPU [GB]": max(entry["GPU [GB]"], gpu)})
        write_json(path, record)
    if status:
        raise BadInput(f"{step} ended with status {status}: the same command goes on from there")


def of_children():
    """Seconds of the processor that all ended children and their workers took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def acts_table(record, folder, budget):
    """A row an act: its time, memory, and the operations of its products, in all and a second."""
    widths = [architecture.neurons_in for architecture in Artifacts(folder / "run").architectures]
    n_spectra, n_observed = (len(flux) for flux in (Dataset(folder / "spectra").flux_ph,
                                                    Dataset(folder / "spectra").flux_carm))
    operations = limit.of_run(paper.BUDGETS[budget], widths, n_spectra=n_spectra, n_observed=n_observed)
    rows = [{"act": step, **{name: value for name, value in record[step].items() if name != "done"},
             "TFLOP": operations[step] / 1e12, "TFLOP/s": operations[step] / 1e12 / record[step]["seconds"]}
            for step in ACTS]
    return pd.DataFrame(rows)


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", choices=paper.BUDGETS, default="paper")
    parser.add_argument("--stack", type=number(int, 1), default=1, metavar="N", help="as in the acts")
    parser.add_argument("--jobs", type=number(int, 1), default=cores(), metavar="N", help="as in the acts")
    parser.add_argument("--perturb", action="store_true", help="as in acts 2 and 4")
    args = parser.parse_args(argv)
    folder = ROOT / "artifacts" / f"paper_run_{args.budget}{'_perturbed' * args.perturb}"
    path, spectra, run = folder / "record.json", folder / "spectra", folder / "run"
    record = json.loads(path.read_text()) if path.exists() else {}
    measure("simulate_spectra", [ROOT / "src_files" / "simulate_spectra.py", "--out", spectra, "--n-spectra",
                                 N_SPECTRA[args.budget]], record, path)
    for act in ACTS:
        more = ["--stack", args.stack] if act in STACKED else []
        more += ["--perturb"] if args.perturb and act in PERTURBED else []
        measure(act, [ROOT / "Methodology" / f"{act}.py", "--data", spectra, "--artifacts", run, "--budget",
                      args.budget, "--jobs", args.jobs, *more], record, path)
    acts = acts_table(record, folder, args.budget)
    after, before = (pd.read_csv(Artifacts(run).estimates(stage)) for stage in STAGES[::-1])
    errors = errors_of_estimates(before, after, Dataset(spectra).stars)
    errors = errors[["rmse before", "rmse after", "rmse of a constant"]].rename_axis("parameter").reset_index()
    write_csv(folder / "acts.csv", acts)
    write_csv(folder / "errors.csv", errors)
    print("\nSIMULATED spectra", acts.to_string(index=False, float_format="{:.3g}".format),
          errors.to_string(index=False, float_format="{:.3g}".format), sep="\n\n")
    print(f"\nall four acts: {acts['seconds'].sum() / 60:.1f} minutes -> {folder}")


if __name__ == "__main__":
    sys.exit(main())
