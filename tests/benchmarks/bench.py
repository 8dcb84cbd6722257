"""Our way of training beside the plain one, on this machine: `make bench`.

Reads   src_files/simulated/    all 22,933 synthetic and 286 observed spectra
Writes  artifacts/benchmarks.md, artifacts/growth.csv    a table of ratios; how the cost grows

Plain is Keras' own `fit` with batches of 128 or 32, its Adam, its default threads, one network after another in one
process, float64 arrays in memory. Ours is what the acts do: a process a core, one thread each. Both train the same
networks for a few epochs, plain autoencoders without the contractive penalty. Every measurement is a process of its
own, and plain and ours go by turns; a ratio is the median over the turns. The first epoch, in which TensorFlow builds
its graphs, is not timed, but where there is only one: fine-tuning as a whole, and the tenfold grid. The limit of an
epoch is the time of its matrix products at the speed of one large one, see limit.py; as a machine that others use too
gives a process part of a core, both are measured by the clock and in processor time.

    python tests/benchmarks/bench.py [interpreter of the other lane]
    python tests/benchmarks/bench.py --only regressors growth
    python tests/benchmarks/bench.py --only limit    # without the plain way
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Methodology"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import limit  # noqa: E402

import paper  # noqa: E402

DATA, OUT = ROOT / "src_files" / "simulated", ROOT / "artifacts"
JOBS = os.cpu_count()
TURNS = {"regressors": 5, "autoencoders": 3, "fine-tuning": 3}
EPOCHS = {"regressors": 6, "autoencoders": 2, "fine-tuning": 60}
NEURONS = 1024
UNIT_EPOCHS = {"regressors": paper.BUDGETS["paper"].cnn_epochs, "autoencoders": paper.BUDGETS["paper"].train_epochs}


# ---------------------------------------------------------------- one measurement, in a process of its own
def child(task):
    """Train one network; return its epochs' seconds, its test MSE and the peak memory of this process [bytes]."""
    plain, epochs, seed = task["way"] == "plain", task["epochs"], task["seed"]
    if plain:  # TensorFlow's own number of threads
        os.environ.update(TF_NUM_INTRAOP_THREADS="0", TF_NUM_INTEROP_THREADS="0")
    if task["what"] == "product":
        wall, processor = limit.one_large_product([time.perf_counter, time.process_time])
        return {"wall": wall, "processor": processor}
    import keras
    import tensorflow as tf

    from spectra import dataset
    from training import networks
    from workflow import runner

    times, processor = [time.perf_counter()], [time.process_time()]

    def tick(*_):
        times.append(time.perf_counter())
        processor.append(time.process_time())

    def plain_fit(network, x, y, lr, batch_size):
        model = keras.Model(network.input, network.output)
        model.compile(optimizer=keras.optimizers.Adam(lr), loss="mse")
        model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0,
                  callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=tick)])
        return model

    if task["what"] == "regressors":
        import cnn_training

        encoded, teff = np.load(task["encoded"]), np.load(DATA / "ph_pars.npy")[:, 0]
        train, test = dataset.split_stratified(teff)
        shape = {"nf1": 64, "nf2": 32, "nu": 64}
        settings = {**shape, "lr": 0.001, "batch_size": paper.BATCH_CNN, "epochs": epochs}
        times[0] = time.perf_counter()
        if plain:
            x, y = encoded.astype(float)[..., None], teff.astype(float)
            network = networks.build_cnn(**shape, seed=seed)
            model = plain_fit(network, x[train], y[train], settings["lr"], paper.BATCH_CNN)
            mse = float(np.mean((model.predict(x[test], verbose=0)[:, 0] - y[test]) ** 2))
        else:
            model, _ = cnn_training.train(settings, encoded[train], teff[train].astype(np.float32), seed, tick)
            mse = networks.mse(model, encoded[..., None], test, teff)
    else:
        import autoencoder_fine_tuning
        import autoencoder_training

        observed = task["what"] == "fine-tuning"
        path = Path(task.get("flux", DATA / "ph_flux_norm.npy"))
        flux = np.load(path, mmap_mode="r")[: task.get("spectra"), : task.get("pixels")]
        train, test = dataset.split(len(flux), "ph")
        settings = {"neurons_in": NEURONS, "reg_par": 1e-7, "lr": 1e-4, "penalty": "live",
                    "penalty_weight": paper.CONTRACTIVE_WEIGHT, "precision": task.get("precision", "float32"),
                    "batch_size": paper.BATCH_AUTOENCODER, "epochs": epochs, "frozen": paper.FROZEN_LAYERS}
        network = networks.build_autoencoder(NEURONS, settings["reg_par"], flux.shape[1], seed)
        if plain:
            flux = np.array(flux, float)
            x, held_out = flux[train], flux[test]
            if observed:
                for name in paper.FROZEN_LAYERS:
                    network.get_layer(name).trainable = False
                x = np.load(DATA / "carmf_norm.npy").astype(float)
        times[0] = time.perf_counter()
        if plain:
            model = plain_fit(network, x, x, settings["lr"], paper.BATCH_AUTOENCODER)
            mse = float(np.mean((model.predict(held_out, verbose=0) - held_out) ** 2))
            networks.encoder_of(network).predict(flux, verbose=0)
        else:
            if observed:
                carm = np.load(DATA / "carmf_norm.npy", mmap_mode="r")
                autoencoder_fine_tuning.fine_tune(network, settings, carm, tick)
            else:
                network, _ = autoencoder_training.train(settings, flux, seed, tick, train)
            mse = networks.mse(network, flux, test)
            networks.predict(networks.encoder_of(network), flux)
    whole = time.perf_counter() - times[0]
    return {"epochs": np.diff(times).tolist(), "whole": whole, "mse": mse, "peak": runner.peak_memory(),
            "processor": np.diff(processor).tolist(), "keras": keras.__version__, "tensorflow": tf.__version__}


def measure(python, copies=1, **task):
    """Run one measurement, or several copies of it at the same time with other seeds."""
    started = []
    for copy in range(copies):
        one = json.dumps({**task, "seed": task["seed"] + copy})
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
        started.append(subprocess.Popen([python, __file__, "--child", one], env=environment, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    answers = [process.communicate() for process in started]
    for process, (_, errors) in zip(started, answers):
        if process.returncode:
            raise SystemExit(f"{errors}\n{' '.join(process.args)} failed")
    return [json.loads(out.splitlines()[-1]) for out, _ in answers]


def seconds(results, what):
    """Seconds that one network takes of this machine: an epoch, or all of a fine-tuning."""
    each = [r["whole"] if what == "fine-tuning" else np.mean(r["epochs"][1:]) for r in results]
    return float(np.mean(each) / len(results))


# ---------------------------------------------------------------- pairs
def encode(path):
    """Save what stands for encodings: standardised means of 32 pieces of each synthetic spectrum."""
    flux = np.load(DATA / "ph_flux_norm.npy", mmap_mode="r")
    encoded = np.stack([piece.mean(axis=1) for piece in np.array_split(flux, 32, axis=1)], axis=1)
    np.save(path, (encoded - encoded.mean(axis=0)) / encoded.std(axis=0))


def pairs(python, what, folder, precisions):
    """Measure plain and ours by turns; return a row of the table for each precision of ours."""
    plain, ours = [], {precision: [] for precision in precisions}
    for turn in range(TURNS[what]):
        task = {"what": what, "epochs": EPOCHS[what], "seed": 100 * turn, "encoded": f"{folder}/encoded.npy"}
        plain.append(measure(python, way="plain", **task))
        print(f"  {what}, plain: {seconds(plain[-1], what):.2f} s", flush=True)
        for precision in precisions:
            ours[precision].append(measure(python, JOBS, way="ours", precision=precision, **task))
            print(f"  {what}, {precision}: {seconds(ours[precision][-1], what):.2f} s", flush=True)
    return [compare(plain, ours[precision], what, precision) for precision in precisions]


def limits(python, encoded):
    """Hold an epoch of ours against its matrix products at the speed of one large one, measured by turns with it."""
    rows = []
    for what in TURNS:
        operations, wall, processor, speeds = limit.of_epoch(what, NEURONS), [], [], []
        if what == "fine-tuning":  # here on all stars, in act 3 on four fifths
            operations /= 1 - paper.TEST_FRACTION["carm"]
        for turn in range(TURNS[what]):
            product = measure(python, JOBS, what="product", way="ours", epochs=0, seed=0)
            speeds.append([np.mean([result[clock] for result in product]) for clock in ("wall", "processor")])
            results = measure(python, JOBS, what=what, way="ours", epochs=EPOCHS[what], seed=100 * turn,
                              encoded=encoded)
            epochs = [(np.mean(result["epochs"][1:]), np.mean(result["processor"][1:])) for result in results]
            seconds, of_processor = np.mean(epochs, axis=0)
            wall.append(seconds * speeds[-1][0] / operations)
            processor.append(of_processor * speeds[-1][1] / operations)
            print(f"  limit of {what}: {wall[-1]:.2f} times by the clock, {processor[-1]:.2f} in processor time",
                  flush=True)
        speed = np.median(speeds, axis=0) / 1e9
        rows.append({"lane": f"Keras {results[0]['keras']}", "what": what, "GFLOP an epoch": f"{operations / 1e9:.1f}",
                     "one large product [GFLOP/s a core]": f"{speed[0]:.0f}, {speed[1]:.0f} in processor time",
                     f"limit on {JOBS} cores [s]": f"{operations / 1e9 / speed[1] / JOBS:.3f}",
                     "ours / limit, by the clock": spread(wall), "in processor time": spread(processor)})
    return rows


def compare(plain, ours, what, precision):
    """Make a row of the table from the results of all turns."""

    def median(values):
        return float(np.median(values))

    times = [(seconds(a, what), seconds(b, what)) for a, b in zip(plain, ours)]
    peaks = [(max(r["peak"] for r in a), max(r["peak"] for r in b)) for a, b in zip(plain, ours)]
    mse = [[r["mse"] for results in way for r in results] for way in (plain, ours)]
    row = {
        "lane": f"Keras {plain[0][0]['keras']}, TensorFlow {plain[0][0]['tensorflow']}",
        "what": what + (f", {precision}" if precision != "float32" else ""),
        "plain [s]": f"{median([a for a, _ in times]):.2f}",
        "ours [s]": f"{median([b for _, b in times]):.2f}",
        "times faster": f"{median([a / b for a, b in times]):.2f} ({min(a / b for a, b in times):.2f} to "
                        f"{max(a / b for a, b in times):.2f})",
        "plain [GB]": f"{median([a for a, _ in peaks]) / 1e9:.2f}",
        "ours [GB a process]": f"{median([b for _, b in peaks]) / 1e9:.2f}",
        "all of ours / plain": f"{JOBS * median([b / a for a, b in peaks]):.0%}",
        "test MSE, plain": spread(mse[0]),
        "ours": spread(mse[1]),
    }
    if what in UNIT_EPOCHS:
        row["ours, an hour"] = f"{3600 / UNIT_EPOCHS[what] / median([b for _, b in times]):.1f}"
    return row


def spread(values):
    """Median and range of test errors."""
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def markdown(rows):
    """Table of dicts."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([str(row.get(name, "")) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


# ---------------------------------------------------------------- whole scripts
def script(python, name, *flags):
    """Run a script, silently; return its seconds."""
    started = time.perf_counter()
    command = list(map(str, [python, ROOT / name, *flags]))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def halving(python, folder):
    """Search a grid as large as the published one, of smaller networks, in full and by halving."""
    data, found = f"{folder}/small", {}
    script(python, "src_files/simulate_spectra.py", "--out", data, "--n-spectra", 3000)
    for way in ("full", "halving"):
        took = script(python, "Methodology/autoencoder_grid_search.py", "--data", data, "--search", way,
                      "--artifacts", f"{folder}/{way}", "--neurons-in", *range(64, 129, 16))
        kept = json.loads(Path(folder, way, "params_final.json").read_text())["architectures"]
        found[way] = took, {tuple(a.values()) for a in kept}
    (full, half), (less, winners) = found["full"], found["halving"]
    return {"what": "25 combinations, n 64 to 128, 2,100 spectra", "full [s]": f"{full:.0f}",
            "halving [s]": f"{less:.0f}", "cost": f"{less / full:.2f}",
            "winners in the full search's kept half": f"{len(winners & half)} of {len(winners)}"}


# ---------------------------------------------------------------- growth
def growth(python, folder):
    """Measure how an epoch of act 2 grows: a table with a row a size, of seconds and peak memory of the process."""
    rows = []

    def epoch(axis, size, epochs=2, **more):
        (one,) = measure(python, what="autoencoders", way="ours", epochs=epochs, seed=0, **more)
        rows.append({"axis": axis, "size": size, "seconds": round(one["epochs"][-1], 2),
                     "GB": round(one["peak"] / 1e9, 2)})
        print(f"  growth: {rows[-1]}", flush=True)

    for n in (2867, 5733, 11467, 22933):
        epoch("spectra", n, spectra=n)
    source = np.load(DATA / "ph_flux_norm.npy", mmap_mode="r")  # ten times the grid, 3.2 GB
    large = Path(folder, "large.npy")
    shape = 10 * len(source), source.shape[1]
    with open(large, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for _ in range(10):
            source.tofile(file)
    epoch("spectra", len(source) * 10, flux=str(large), epochs=1)
    large.unlink()
    for n in (438, 875, 1751, 3501):
        epoch("pixels", n, pixels=n, spectra=5733)
    return pd.DataFrame(rows)


def machine():
    """Name the processor."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        name = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if "model name" in line), name)
    return f"{name}, {JOBS} cores"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = [*TURNS, "limit", "halving", "growth"]
    parser.add_argument("other_lane", nargs="?", help="interpreter with the other version of Keras")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--turns", type=int, help=f"instead of {TURNS}")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.child)))
        return
    TURNS.update(dict.fromkeys(TURNS, args.turns) if args.turns else {})
    if not (DATA / "ph_flux_norm.npy").exists():
        sys.exit(f"{DATA}/ph_flux_norm.npy not found: run src_files/simulate_spectra.py first")
    OUT.mkdir(exist_ok=True)
    from training import backend

    precisions = {what: ("float32",) for what in TURNS}
    if backend.has_bfloat16():
        precisions["autoencoders"] += ("bfloat16",)
    lanes = [sys.executable, *filter(None, [args.other_lane])]
    text = (f"{machine()}; {time.strftime('%Y-%m-%d')}; simulated spectra. Seconds are of this whole machine: an epoch "
            "of one regressor or autoencoder, all of one fine-tuning.\n\n")
    with tempfile.TemporaryDirectory(dir=OUT) as folder:
        encode(f"{folder}/encoded.npy")
        rows = [row for lane in lanes for what in TURNS if what in args.only
                for row in pairs(lane, what, folder, precisions[what])]
        text += markdown(rows) if rows else ""
        if "limit" in args.only:
            text += "\n" + markdown([row for lane in lanes for row in limits(lane, f"{folder}/encoded.npy")])
        if "halving" in args.only:
            text += "\n" + markdown([halving(sys.executable, folder)])
        if "growth" in args.only:
            grown = growth(sys.executable, folder)
            grown.to_csv(OUT / "growth.csv", index=False)
            text += "\n" + markdown(grown.to_dict("records"))
    (OUT / "benchmarks.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
