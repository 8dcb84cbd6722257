"""How long estimates of a survey take, beside the matrix products alone, and how much memory: one process, one thread.

Writes  OUT/data, OUT/run, OUT/survey      SIMULATED numbers of the form of spectra, and networks that nobody trained

The networks are of the paper's size, 12 autoencoders and 148 regressors, or, with --small, of hardly any, so that
only memory tells; the spectra are 1,024 random ones, over and over. Times are of the processor, which a machine that is
busy lengthens least; the product that they are held against, of 2048 x 2048 by 2048 x 2048 in float32, is timed between
the blocks.

    python tests/benchmarks/survey.py --out /tmp/survey --stars 16384
    python tests/benchmarks/survey.py --out /tmp/small --small --stars 1000000 --dtype float64    # 28 GB on disk
"""
import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Methodology"), str(ROOT / "tests" / "helpers")]
import untrained_run  # noqa: E402

import paper  # noqa: E402
from inference import predictor, survey  # noqa: E402
from spectra.dataset import Dataset  # noqa: E402
from training.backend import tf  # noqa: E402
from workflow.files import write_array, write_csv, write_json, writing  # noqa: E402
from workflow.runner import peak_memory  # noqa: E402

AUTOENCODERS, NEURONS, KEPT = 12, 1024, 37


def make(out, n_stars, small, dtype):
    """Leave spectra and networks, unless they are there."""
    data, run, rng = out / "data", out / "run", np.random.default_rng(1)
    if not (run / "final_estimations.json").exists():
        n_ph = 1000 if small else paper.N_SYNTHETIC
        labels = np.c_[rng.uniform(2500, 4500, n_ph), rng.uniform(4.2, 5.4, n_ph), rng.uniform(-1, 0.8, n_ph),
                       rng.uniform(2, 60, n_ph)]
        write_array(data / "ph_pars.npy", labels)
        write_array(data / "ph_flux_norm.npy", rng.random((n_ph, paper.N_PIXELS), np.float32))
        write_array(data / "carmf_norm.npy", rng.random((2, paper.N_PIXELS), np.float32))
        write_json(data / "provenance.json", {"spectra": "simulated"})
        size = ((64,), 4, (2, 2, 4)) if small else ((NEURONS,) * AUTOENCODERS, KEPT, (64, 32, 64))
        untrained_run.leave(data, run, *size, encode=False)
    spectra = out / f"stars_{n_stars}"
    if not (spectra / "stars.csv").exists():
        flux = rng.random((1024, paper.N_PIXELS)).astype(dtype)
        header = {"descr": flux.dtype.str, "fortran_order": False, "shape": (n_stars, paper.N_PIXELS)}
        with writing(spectra / "carmf_norm.npy") as partial, open(partial, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, n_stars, len(flux)):
                flux[: n_stars - start].tofile(file)
        write_json(spectra / "provenance.json", {"spectra": "simulated"})
        write_csv(spectra / "stars.csv", pd.DataFrame({"karmn": np.arange(n_stars), "snr": 100.0}))
    return data, run, spectra


def flop(ensemble):
    """Floating-point operations of the matrix products for one star: autoencoders, regressors, nearest neighbours."""
    nf1, nf2, nu = 64, 32, 64
    dense = 0
    for i in ensemble.autoencoders:
        model = predictor.networks.load(ensemble.artifacts.autoencoder(i))
        dense += sum(2 * np.prod(w.shape) for w in model.get_weights() if w.ndim == 2)
    widths = [paper.N_LATENT * nf2, *paper.CNN_DENSE, nu, 1]
    cnn = 2 * paper.N_LATENT * (2 * nf1 + 2 * nf1 * nf2) + 2 * sum(np.multiply(widths[:-1], widths[1:]))
    n_train = round((1 - paper.TEST_FRACTION["ph"]) * len(ensemble.data.flux_ph))
    nearest = 2 * n_train * paper.N_LATENT * len(ensemble.autoencoders)
    return dense, cnn * sum(map(len, ensemble.regressors.values())), nearest


def product():
    """What one large product reaches [operations/s], the best of three."""
    a, seconds = tf.random.normal((2048, 2048)), []
    for _ in range(3):
        started = time.process_time()
        (a @ a).numpy()
        seconds.append(time.process_time() - started)
    return 2 * 2048**3 / min(seconds)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--stars", type=int, default=2 * survey.BLOCK, metavar="N")
    parser.add_argument("--small", action="store_true", help="networks of hardly any size: for the memory alone")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of the spectra")
    args = parser.parse_args(argv)
    data, run, spectra = make(args.out, args.stars, args.small, args.dtype)
    ensemble, folder = predictor.select(run, data), Dataset(spectra)
    survey.check(folder, ensemble)
    units = survey.plan(folder, ensemble, args.out / f"survey_{args.stars}", folder.provenance)
    started = time.process_time()
    survey.loaded(units[0])
    print(f"networks loaded in {time.process_time() - started:.1f} s of the processor")
    seconds, reached = [], [product()]
    for unit in units:
        started = time.process_time()
        survey.work(unit, lambda: None)
        seconds.append(time.process_time() - started)
        reached.append(product())
        n_stars = unit.settings["rows"][1] - unit.settings["rows"][0]
        print(f"{unit.name}: {1e3 * seconds[-1] / n_stars:.2f} ms a star, a product {reached[-1] / 1e9:.0f} GFLOP/s, "
              f"peak {peak_memory() / 1e9:.2f} GB", flush=True)
    survey.join(units, args.out / f"survey_{args.stars}" / "estimates.csv")
    told = survey.summary(units)
    print(f"{told.n_stars} stars, table joined and looked through: peak {peak_memory() / 1e9:.2f} GB")
    if not args.small:
        parts, limit = flop(ensemble), sum(flop(ensemble)) / np.median(reached)
        mean = sum(seconds) / args.stars
        print(f"{', '.join(f'{part / 1e6:.1f}' for part in parts)} MFLOP a star of autoencoders, regressors, nearest "
              f"neighbours: {1e3 * limit:.2f} ms at {np.median(reached) / 1e9:.0f} GFLOP/s; {1e3 * mean:.2f} ms in "
              f"all, {mean / limit:.2f} times as much; 1e6 stars on two cores {mean * 1e6 / 2 / 3600:.2f} h")


if __name__ == "__main__":
    main()
