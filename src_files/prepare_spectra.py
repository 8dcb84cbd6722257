"""Observed spectra of any instrument as the arrays that the acts read: at rest, normalised, on one grid (Sect. 2).

Reads:  spectrum files of any form that spectrum_files.py knows; SYNTHETIC/ph_flux_norm.npy, ph_pars.npy
Writes: DIR/carmf_norm.npy, DIR/stars.csv, DIR/provenance.json, DIR/preparation.pdf (a page a star); and the synthetic
        set at the instrument's resolving power, DIR/ph_flux_norm.npy and DIR/ph_pars.npy
Run:    python src_files/prepare_spectra.py --out src_files/mine spectra/*.fits       (0.2 s a star)
        python src_files/prepare_spectra.py --out src_files/mine --synthetic src_files/simulated spectra/*.csv
"""
# ruff: noqa: E402
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
sys.path.insert(0, str(HERE))
from command_line import command, cores, folder, number  # first: then Ctrl-C in the long imports is one line too

# isort: split
import argparse
import hashlib
import json
import os
import shutil
from dataclasses import asdict, replace

import joblib
import msgspec
import numpy as np
import pandas as pd
from tqdm import tqdm

import observed_star
import orders
import paper
import preparation
import preparation_pages
import records
import spectrum_files
from files import BadInput, UnitFailed, one_line, sha256, sweep, write_csv, write_json, writing
from observed_star import Settings, Star

VERSION = 1  # raise it whenever the same file gives another row
FILES = ("ph_flux_norm.npy", "ph_pars.npy", "carmf_norm.npy", "stars.csv")
CHUNK = 512  # synthetic spectra degraded at a time


def parse(argv):
    """Command-line options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE", help="spectra, a star each")
    add("--out", type=folder, required=True, metavar="DIR", help="folder to write")
    add("--synthetic", type=folder, default=HERE, metavar="DIR",
        help="folder of the synthetic set to train on and to shift to; default: src_files")
    add("--resolution", type=number(float, 1000, 1e6), default=np.nan, metavar="R",
        help="resolving power of the instrument, where the files do not say it, or say it wrong")
    add("--columns", type=lambda text: tuple(text.split(",")), default=(), metavar="WAVE,FLUX[,ERROR]",
        help="names or numbers of the columns, where they are not found by their names")
    add("--unit", choices=orders.UNITS, default="", help="of the wavelengths, where the files say nothing or lie")
    add("--medium", choices=("air", "vacuum"), default="", help="of the wavelengths, likewise")
    add("--max-bad", type=number(float, 0, 100), default=3.0, metavar="PERCENT",
        help="of bad pixels in the window that are bridged; default: 3")
    add("--mask-telluric", action="store_true", help="count lines of water in the window as bad pixels (the paper "
        "did not)")  # fmt: skip
    add("--jobs", type=number(int, 1), default=cores(), metavar="N", help="files side by side")
    return parser.parse_args(argv)


# ---------------------------------------------------------------- one file
def prepared(path, out, reading, templates, settings):
    """Prepare one file, or take what was prepared of it before.

    Returns
    -------
    (Path, dict) or (None, str)
        Where the star lies and its record, or the reason why there is none.
    """
    try:
        key = _digest([path.name, sha256(path) if path.is_file() else "", reading, asdict(settings), VERSION,
                       hashlib.sha256(templates.flux.tobytes()).hexdigest()])  # fmt: skip
        kept = out / "prepared" / f"{key[:24]}.npz"
        if kept.exists():
            return kept, load(kept).record
        spectrum = spectrum_files.read(path, *reading)
        star = observed_star.prepare(spectrum, templates, settings)
        record = {
            "karmn": spectrum.observation.name, "file": path.name, **star.record,
            "instrument": spectrum.observation.instrument, "form": spectrum.form, "unit": spectrum.unit,
        }  # fmt: skip
        with writing(kept) as partial:
            np.savez(partial, record=json.dumps(record), **{name: getattr(star, name) for name in STORED})
        return kept, record
    except UnitFailed as error:
        return None, one_line(error)
    except OSError as error:
        if not path.exists() or error.filename == str(path):
            return None, f"cannot be read ({one_line(error.strerror)})"
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:  # what no check foresaw; the others go on
        return None, f"cannot be used ({type(error).__name__}: {one_line(error)})"


STORED = ("flux", "raw", "template", "lags", "correlation")


def load(kept):
    """The star of a file of `prepared`."""
    with np.load(kept) as stored:
        return Star(record=json.loads(str(stored["record"])), **{name: stored[name] for name in STORED})


def _line(record):
    berv = "" if record["berv"] != record["berv"] else f" (barycentric correction {record['berv']:+.2f})"
    guess = ", air or vacuum guessed by the smaller velocity" * record["medium"].endswith("?")
    return (f"{record['karmn']}: {record['form']}, {record['unit']}, {record['medium'].strip('?')}{guess}, R "
            f"{record['resolving_power']}, S/N {record['snr']:.0f}, {record['rv']:+.2f} +- {record['e_rv']:.2f} "
            f"km/s{berv}, {100 * record['bad']:.1f} % bridged")  # fmt: skip


def _power(path, reading):
    """Resolving power that a file states; None where it states none or cannot be read."""
    try:
        power = spectrum_files.read(path, *reading).observation.resolving_power
    except (UnitFailed, OSError):  # said later
        return None
    return power if power == power else None


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _side_by_side(function, paths, arguments, jobs, description):
    """Results of function(path, *arguments) in the order of the paths, with a progress bar."""
    results = joblib.Parallel(n_jobs=min(jobs, len(paths)), return_as="generator")(
        joblib.delayed(function)(path, *arguments) for path in paths)
    yield from tqdm(results, total=len(paths), desc=description, unit="file", disable=None)


# ---------------------------------------------------------------- the folder
def check_folder(out, synthetic):
    """Refuse to write where something else lies.

    Raises
    ------
    BadInput
    """
    note = out / "provenance.json"
    present = [name for name in FILES if os.path.lexists(out / name)]
    if out.resolve() == synthetic.resolve():
        raise BadInput(f"{out} holds the synthetic set: choose another --out")
    if note.exists():
        said = records.read(note, records.Provenance, "choose another --out")
        if said.preparation is msgspec.UNSET:
            raise BadInput(f"{note} calls what lies there {said.spectra!r}, not prepared: choose another --out")
    elif present:
        raise BadInput(f"{out} holds {present[0]} that was not prepared here: choose another --out")


def install(out, stars, templates, synthetic, provenance, settings, mark):
    """Write the arrays, tables and pages of the stars; provenance.json is complete at the end.

    Parameters
    ----------
    stars : list of (Path, dict)
        Of `prepared`.
    """
    note = out / "provenance.json"
    write_json(note, {**mark, "complete": False})
    names = name_stars(record["karmn"] for _, record in stars)
    with writing(out / "carmf_norm.npy") as partial:
        flux = np.lib.format.open_memmap(partial, "w+", np.float32, (len(stars), paper.N_PIXELS))
        for row, (kept, _) in enumerate(stars):
            flux[row] = load(kept).flux
        flux.flush()
        del flux
    write_csv(out / "stars.csv", pd.DataFrame([record for _, record in stars]).assign(karmn=names))
    degrade_synthetic(out, synthetic, provenance, settings.target)
    with writing(out / "preparation.pdf") as partial:
        pages = tqdm(zip(names, stars), total=len(stars), desc="preparation.pdf", unit="page", disable=None)
        drawn = ((name, load(kept)) for name, (kept, _) in pages)
        preparation_pages.write(partial, drawn, templates, provenance.spectra)
    write_json(note, {**mark, "complete": True, "files": {name: sha256(out / name) for name in FILES}})


def name_stars(given):
    """A name for each star; the second of a name gets " [2]", and so on."""
    seen, names = {}, []
    for name in given:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} [{seen[name]}]")
    several = [f"{name} ({count})" for name, count in seen.items() if count > 1]
    if several:
        print(f"several files of one star, numbered in the order given: {', '.join(several)}")
    return names


def degrade_synthetic(out, synthetic, provenance, target):
    """The synthetic set at the resolving power `target`, in the folder `out`; unchanged where that is its own."""
    power = observed_star.resolving_power_of(provenance)
    with writing(out / "ph_pars.npy") as partial:
        shutil.copyfile(synthetic / "ph_pars.npy", partial)
    with writing(out / "ph_flux_norm.npy") as partial:
        if target >= power:
            shutil.copyfile(synthetic / "ph_flux_norm.npy", partial)
            return
        sharp = np.load(synthetic / "ph_flux_norm.npy", mmap_mode="r")
        flux = np.lib.format.open_memmap(partial, "w+", np.float32, sharp.shape)
        for first in tqdm(range(0, len(sharp), CHUNK), desc=f"synthetic set at R {target:.0f}", disable=None):
            rows = slice(first, first + CHUNK)
            flux[rows] = preparation.degrade(np.array(sharp[rows], float), power, target)
        flux.flush()


@command
def main(argv=None):
    """Prepare the stars."""
    options = parse(argv)
    paths = list(dict.fromkeys(options.files))
    check_folder(options.out, options.synthetic)
    templates, provenance, continuum = observed_star.load_templates(options.synthetic)
    power = observed_star.resolving_power_of(provenance)
    reading = (options.columns, options.unit, options.medium)
    powers = [options.resolution]
    if np.isnan(options.resolution):
        powers = filter(None, _side_by_side(_power, paths, (reading,), options.jobs, "headers"))
    target = min([power, *powers])
    settings = Settings(target, options.resolution, continuum, options.max_bad / 100, options.mask_telluric)
    templates = replace(templates, flux=preparation.degrade(templates.flux, power, target))
    print(f"{len(paths)} files to R {target:.0f}, divided by their {continuum} continuum, shifted to "
          f"{len(templates.flux)} {provenance.spectra} spectra", flush=True)  # fmt: skip
    (options.out / "prepared").mkdir(parents=True, exist_ok=True)
    sweep(options.out)
    stars, left_out = [], []
    arguments = options.out, reading, templates, settings
    for path, (kept, found) in zip(paths, _side_by_side(prepared, paths, arguments, options.jobs, "stars")):
        if kept:
            tqdm.write(_line(found))
            stars.append((kept, found))
        else:
            tqdm.write(f"left out: {path} {found}")
            left_out.append(f"{path} {found}")
    if not stars:
        raise BadInput(f"none of {len(paths)} files gave a star; the first: {left_out[0]}")
    instruments = sorted({record["instrument"] or "own" for _, record in stars})
    told = {key: value for key, value in asdict(settings).items() if value == value}  # JSON has no NaN
    mark = {
        "spectra": f"{', '.join(instruments)}, {provenance.spectra} training set", "n_pixels": paper.N_PIXELS,
        "resolving_power": float(target), "continuum": continuum,
        "preparation": VERSION, "settings": told,
        "synthetic": msgspec.to_builtins(provenance),
    }  # fmt: skip
    install(options.out, stars, templates, options.synthetic, provenance, settings, mark)
    print(f"{options.out}: {len(stars)} of {len(paths)} files prepared, {len(left_out)} left out"
          + "".join(f"\n  {reason}" for reason in left_out))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
