"""Files of stars: the flags that say how to read them, each prepared once and kept, with a line on each."""
import contextlib
import hashlib
import json
import operator
import zipfile
import zlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import joblib
import msgspec
import numpy as np
from tqdm import tqdm

import paper
from observations import likeness, orders, preparation, readers
from observations.preparation import Settings, Star
from workflow.command_line import cores, number
from workflow.files import BadInput, UnitFailed, clean_name, escaped, one_line, sha256, sweep, writing
from workflow.progress import progress_bar

VERSION = 5  # raise it whenever the same file gives another row
LONGEST_NAME = 100  # letters; file names hold 255 bytes
STORED = ("flux", "raw", "template", "lags", "correlation")


# ---------------------------------------------------------------- flags
def add_arguments(parser):
    """Add the flags that say which files there are and how to read and prepare them."""
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE", help="spectra, a star each")
    add("--resolution", type=number(float, 1000, 1e6), default=np.nan, metavar="R",
        help="resolving power of the instrument, where the files do not say it, or say it wrong")
    add("--columns", type=lambda text: tuple(text.split(",")), default=(), metavar="WAVE,FLUX[,ERROR]",
        help="names or numbers of the columns, where they are not found by their names")
    add("--unit", choices=orders.UNITS, default="", help="of the wavelengths, where the files say nothing or lie")
    add("--medium", choices=("air", "vacuum"), default="", help="of the wavelengths, likewise")
    add("--max-bad", type=number(float, 0, 100), default=100 * Settings.max_bad, metavar="PERCENT",
        help="of bad pixels in the window that are bridged; default: %(default)g")
    add("--mask-telluric", action="store_true", help="count lines of water in the window as bad pixels (the paper "
        "did not)")
    add("--jobs", type=number(int, 1), default=cores(), metavar="N", help="files side by side; default: all cores")


def reading_of(options):
    """The flags that `readers.read` takes."""
    return options.columns, options.unit, options.medium


def settings_of(options, target, continuum):
    """The flags that `preparation.prepare` takes, with the resolving power and the continuum of the synthetic set."""
    return Settings(target, options.resolution, continuum, options.max_bad / 100, options.mask_telluric)


# ---------------------------------------------------------------- all files
def prepare(paths, out, reading, templates, settings, jobs):
    """Prepare files side by side, each once, with a line on each, at the resolving power of the `templates`.

    What is prepared is kept in the folder `prepared` of `out`, for the next time. Returns the stars, a list of the Path
    that `load` reads and the record of stars.csv, in the order of the files, and a dict of Path to why it is no star.
    """
    sweep(out)
    stars, left_out = [], {}
    arguments = out, reading, templates, settings
    for path, (kept, outcome) in zip(paths, _side_by_side(_prepared, paths, arguments, jobs, "stars")):
        if kept:
            tqdm.write(_line(outcome))
            stars.append((kept, outcome))
        else:
            tqdm.write(f"left out: {path} {outcome}")
            left_out[path] = outcome
    compare_lines([record for _, record in stars], settings.target)
    if not stars:
        raise BadInput(f"none of {len(paths)} files gave a star; the first: {paths[0]} {left_out[paths[0]]}")
    return stars, left_out


def compare_lines(records, target):
    """Take "blunt-lines" back where another star of the instrument has sharp ones; say so if none of many has.

    What broadens its lines is then rotation: the resolving power, at most `target` as prepared, is as stated.
    """
    mode = operator.itemgetter("instrument", "resolving_power")
    for instrument, power in sorted(set(map(mode, records))):
        alike = [record for record in records if mode(record) == (instrument, power)]
        sharpest = max(record["line_power"] for record in alike) / target
        if sharpest >= likeness.SHARP:
            for record in alike:
                record["odd"] = " ".join(word for word in record["odd"].split() if word != "blunt-lines")
        elif len(alike) >= likeness.MANY:
            print(f"warning: none of {len(alike)} stars of {instrument or 'one instrument'} has lines as sharp as R "
                  f"{power} makes them, the sharpest are those of {sharpest:.0%} of it: all rotate, or the resolving "
                  "power is less: see --resolution")


def powers(paths, reading, jobs):
    """The resolving powers that files state, of those that do and can be read."""
    return [power for power in _side_by_side(_power, paths, (reading,), jobs, "headers") if power]


def _side_by_side(function, paths, arguments, jobs, description):
    """Results of function(path, *arguments) in the order of the paths, with a progress bar."""
    results = joblib.Parallel(n_jobs=min(jobs, len(paths)), return_as="generator")(
        joblib.delayed(function)(path, *arguments) for path in paths)
    yield from progress_bar(results, total=len(paths), desc=description, unit="file")


def name_stars(given):
    """A name for each star, none twice; the second of a name gets " [2]", or the next number that is free."""
    given, names, numbers = [clean_name(name)[:LONGEST_NAME] or "star" for name in given], {}, {}
    taken = set(given)
    for name in given:
        own = name
        while own in names:
            number = numbers[name] = numbers.get(name, 1) + 1
            own = f"{name} [{number}]" if f"{name} [{number}]" not in taken else name
        names[own] = None
    several = [f"{name} ({count})" for name, count in Counter(given).items() if count > 1]
    if several:
        print(f"several files of one star, numbered in the order given: {', '.join(several)}")
    return list(names)


def told(settings):
    """Settings as they are written down: JSON has no NaN."""
    return {key: value for key, value in asdict(settings).items() if value == value}


def mark(records, provenance, settings):
    """What provenance.json says of stars, given their records, prepared to the likeness of a synthetic set."""
    instruments = sorted({record["instrument"] or "own" for record in records})
    return {
        "spectra": f"{', '.join(instruments)}, {provenance.spectra} training set", "n_pixels": paper.N_PIXELS,
        "resolving_power": float(settings.target), "continuum": settings.continuum,
        "preparation": VERSION, "settings": told(settings),
        "synthetic": msgspec.to_builtins(provenance),
    }


# ---------------------------------------------------------------- one file
def _prepared(path, out, reading, templates, settings):
    """Where the star of a file lies and its record, prepared now or before; or None and why there is none."""
    try:
        readers.check(path)
        key = _digest([path.name, sha256(path), reading, asdict(settings), VERSION,
                       hashlib.sha256(templates.flux.tobytes()).hexdigest()])
        kept = out / "prepared" / f"{key[:24]}.npz"
        if kept.exists():
            with contextlib.suppress(BadInput):  # what is damaged or was changed is made again
                return kept, load(kept).record
        spectrum = readers.read(path, *reading)
        star = preparation.prepare(spectrum, templates, settings)
        for conflict in spectrum.observation.conflicts:
            tqdm.write(f"{path}: {conflict}")
        record = {
            "karmn": spectrum.observation.name, "file": escaped(path.name), **star.record,
            "instrument": spectrum.observation.instrument, "form": spectrum.form, "unit": spectrum.unit,
        }
        with writing(kept) as partial:
            np.savez(partial, record=json.dumps(record), digest=_digest_of(star, record),
                     **{name: getattr(star, name) for name in STORED})
        return kept, record
    except UnitFailed as error:
        return None, one_line(error)
    except OSError as error:
        if not path.exists() or error.filename == str(path):
            return None, f"cannot be read ({one_line(error.strerror)})"
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:  # what no check foresaw; the rest goes on
        return None, f"cannot be used ({type(error).__name__}: {one_line(error)})"


def load(kept):
    """The preparation.Star that `prepare` kept; refused if it is not as it was left."""
    with contextlib.suppress(OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        with np.load(kept) as stored:
            record = json.loads(str(stored["record"]))
            star = Star(record=record, **{name: stored[name] for name in STORED})
            if str(stored["digest"]) == _digest_of(star, record):
                return star
    raise BadInput(f"{kept} is damaged or was changed: delete it, and the same command makes it again")


def _digest_of(star, record):
    arrays = (np.ascontiguousarray(getattr(star, name)).tobytes() for name in STORED)
    return hashlib.sha256(b"".join([json.dumps(record, sort_keys=True).encode(), *arrays])).hexdigest()


def _line(record):
    berv = "" if record["berv"] != record["berv"] else f" (barycentric correction {record['berv']:+.2f})"
    guess = ", air or vacuum guessed by the smaller velocity" * record["medium"].endswith("?")
    return (f"{record['karmn']}: {record['form']}, {record['unit']}, {record['medium'].strip('?')}{guess}, R "
            f"{record['resolving_power']}, S/N {record['snr']:.0f}, {record['rv']:+.2f} +- {record['e_rv']:.2f} "
            f"km/s{berv}, lines {record['depth']:.2f} as deep as a template's in {record['share']:.0%} of the window, "
            f"{100 * record['bad']:.1f} % bridged" + f"; odd: {record['odd']}" * bool(record["odd"]))


def _power(path, reading):
    """Resolving power that a file states; None where it states none or cannot be read."""
    try:
        power = readers.read(path, *reading).observation.resolving_power
    except (UnitFailed, OSError):  # said later
        return None
    return power if power == power else None


def _digest(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
