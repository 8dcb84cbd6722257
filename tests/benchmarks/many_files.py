"""Very many files prepared by prepare_spectra.py, which is killed half way and called again: time, memory, and growth.

A star takes the same time however many there are. With --alike only the first file of each name is read and prepared,
and the others of that name get its star: what is left is all that grows with the number of files.

Writes {out}/synthetic/          the full simulated set
       {out}/files/              CSV files of 1,520 pixels from 8780 to 8856 Angstrom, 100 SIMULATED stars with a noise
                                 of its own in each, a hundred files a folder, named alike in all folders; beyond what
                                 is simulated its mirror image stands in
       {out}/prepared_{files}/   what prepare_spectra.py leaves

The command runs three times, in one process of one thread: killed by SIGKILL after half of the files, then again to the
end, then until the first star, when nothing is left to prepare. Times are of the processor, and by the clock where it
is said.

    python tests/benchmarks/many_files.py --out bench --files 1000
    python tests/benchmarks/many_files.py --out bench --files 100000 --alike    # 12 GB on disk
"""
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from acts import ROOT  # isort: skip  # puts the scripts on the path

import prepare_spectra
from observations import preparation, readers
from spectra.transforms import LIGHT
from synthetic import raw_star, simulation
from workflow.files import writing

STARS, SAYS = 100, 10  # of which the files are; how often a run is timed
WAVE = np.arange(8780, 8856, 0.05)  # [Angstrom] in vacuum: at all velocities that are searched the window is seen


def make(out, n_files):
    """Leave the synthetic set and so many files, unless they are there; a list names the files."""
    subprocess.run([sys.executable, ROOT / "src_files" / "simulate_spectra.py", "--out", out / "synthetic"], check=True)
    labels = simulation.draw_stars(seed=1, n_observed=STARS)[["teff", "logg", "mh", "vsini"]].to_numpy()
    step, margin = simulation.WAVE[1] - simulation.WAVE[0], len(simulation.WAVE) // 2
    grid = simulation.WAVE[0] + step * np.arange(-margin, len(simulation.WAVE) + margin)
    stars = [np.pad(raw_star.smooth_spectrum(star[None]), margin, mode="reflect") for star in labels]
    wave, rng = [f"{value:.4f}" for value in WAVE], np.random.default_rng(1)
    names = [out / "files" / f"{k // STARS:04d}" / f"star_{k % STARS}.csv" for k in range(n_files)]
    for k, path in enumerate(names):
        if not path.exists():
            flux = np.interp(WAVE, grid * (1 + rng.uniform(-30, 30) / LIGHT), stars[k % STARS])
            flux += 0.01 * rng.normal(size=len(WAVE))
            with writing(path) as partial:
                partial.write_text("wavelength_vac,flux\n" + "\n".join(map("{},{:.4f}".format, wave, flux)) + "\n")
    path = out / f"list_{n_files}"
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def child(arguments):
    """Call prepare_spectra.py with files that are alike where they have one name."""
    read, prepare, spectra, stars = readers.read, preparation.prepare, {}, {}

    def read_once(path, *reading):
        if path.name not in spectra:
            spectra[path.name] = read(path, *reading)
        return spectra[path.name]

    def prepare_once(spectrum, *settings):
        name = spectrum.observation.name
        if name not in stars:
            stars[name] = prepare(spectrum, *settings)
        return stars[name]

    readers.read, preparation.prepare = read_once, prepare_once
    return prepare_spectra.main(arguments)


def run(script, files, out, synthetic, n_files, stop):
    """Prepare the files, or `stop` of them; print how long it took and the most memory it had."""
    command = [sys.executable, *script, "--out", out, "--synthetic", synthetic, "--resolution", "94600", "--pages",
               "none", "--jobs", "1", f"@{files}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    started, n_stars, last = time.time(), 0, ""
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          env=environment) as process:
        for line in process.stdout:
            n_stars, last = n_stars + line.startswith("star_"), line
            if line.startswith("star_") and (n_stars == 1 or n_stars % max(n_files // SAYS, 1) == 0):
                print(f"  {n_stars} stars after {processor(process.pid):.0f} s, {time.time() - started:.0f} s by the "
                      "clock", flush=True)
            if line.startswith("star_") and n_stars == stop:
                process.kill()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    print(f"{n_stars} stars, status {process.returncode}: {used.ru_utime + used.ru_stime:.0f} s, "
          f"{time.time() - started:.0f} s by the clock, {1024 * used.ru_maxrss / 1e9:.3f} GB; {last.strip()}")


def processor(process):
    """Seconds of the processor that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--files", type=int, default=1000, metavar="N")
    parser.add_argument("--alike", action="store_true", help="prepare the first of each name alone")
    args = parser.parse_args(argv)
    files, out = make(args.out, args.files), args.out / f"prepared_{args.files}{'_alike' * args.alike}"
    script = [__file__, "--child"] if args.alike else [ROOT / "src_files" / "prepare_spectra.py"]
    for stop in (args.files // 2, None, 1):
        run(script, files, out, args.out / "synthetic", args.files, stop)
    flux, table = np.load(out / "carmf_norm.npy", mmap_mode="r"), (out / "stars.csv").read_text().splitlines()
    print(f"{len(flux)} rows, {len(table) - 1} named; {out} has "
          f"{sum(path.stat().st_size for path in out.rglob('*')) / 1e9:.1f} GB")


if __name__ == "__main__":
    sys.exit(child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
