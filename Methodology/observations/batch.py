"""Files of stars: the flags that say how to read them, each prepared once and kept, with a line on each."""
import contextlib
import csv
import hashlib
import itertools
import json
import os
import sys
import zipfile
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import joblib
import msgspec
import numpy as np
from tqdm import tqdm

import paper
from observations import likeness, orders, preparation, readers
from observations.preparation import Settings, Star
from workflow import runner
from workflow.command_line import cores, number
from workflow.files import BadInput, UnitFailed, clean_name, escaped, one_line, sha256, sweep, writing, writing_rows
from workflow.progress import progress_bar

VERSION = 10  # raise it whenever the same file gives another row
LONGEST_NAME = 100  # letters; file names hold 255 bytes
SHOWN = 20  # stars and files that are named where there are many
ARRAYS, RECORDS = ("carmf_norm.npy", "stars.csv"), "records.csv"
STORED = ("flux", "raw", "template", "lags", "correlation")


# ---------------------------------------------------------------- flags
def add_arguments(parser, files="+"):
    """Add the flags that say which `files` there are, any number or at least one, and how to read and prepare them."""
    add = parser.add_argument
    add("files", type=Path, nargs=files, metavar="FILE", help="spectra, a star each; @LIST for those that a file "
        "names, one a line")
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
@dataclass
class Prepared:
    """What `prepare` made of files: array and table lie beside what it kept of each, until they are installed."""

    folder: Path
    names: list = field(default_factory=list)  # of the stars as their files say, in the order of the files
    named: list = field(default_factory=list)  # as they are called, no two alike
    kept: list = field(default_factory=list)  # what `load` reads of each
    left_out: dict = field(default_factory=dict)  # by path, why each of the rest is no star
    odd: list = field(default_factory=list)  # what is odd about each
    sources: dict = field(default_factory=dict)  # digests of the files that are stars, by path
    instruments: set = field(default_factory=set)

    def star(self, row):
        """What is kept of a star, with what all stars say of it."""
        star = load(self.kept[row])
        return replace(star, record={**star.record, "odd": self.odd[row]})

    def install(self, out):
        """Move carmf_norm.npy and stars.csv to a folder."""
        for name in ARRAYS:
            os.replace(self.folder / name, out / name)


def prepare(paths, out, reading, templates, settings, jobs, lower=False):
    """Prepare files side by side, each once, with a line on each, and with no more than a few in memory.

    Parameters
    ----------
    paths : list of Path
    out : Path
        What is prepared is kept in its folder `prepared`, for the next time.
    reading : tuple
        As `reading_of` gives it.
    templates : velocity.Templates
        At the resolving power `settings.target`.
    settings : preparation.Settings
    jobs : int
    lower : bool
        Whether to end with preparation.Duller at a file whose resolving power is less than that, not to leave it out.

    Returns
    -------
    Prepared
    """
    folder = out / "prepared"
    folder.mkdir(parents=True, exist_ok=True)
    sweep(out)
    prepared, lines = Prepared(folder), Lines(settings.target)
    try:
        _write(prepared, lines, zip(paths, _side_by_side(_prepared, paths, (out, reading, templates, settings, lower),
                                                         jobs, "stars")))
    finally:
        (folder / RECORDS).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is left if there is anything in it
            folder.rmdir()
    if not prepared.names:
        raise BadInput(f"none of {len(paths)} files gave a star; the first: {paths[0]} {prepared.left_out[paths[0]]}")
    lines.warn()
    return prepared


def _write(prepared, lines, outcomes):
    """Write array and table of the stars among the outcomes of files, as they come, with a line on each."""
    folder = prepared.folder
    with writing_rows(folder / ARRAYS[0], paper.N_PIXELS) as append, writing(folder / RECORDS) as records:
        with open(records, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            for path, (kept, outcome, flux, digest) in outcomes:
                if not kept:
                    tqdm.write(f"left out: {path} {outcome}")
                    prepared.left_out[path] = outcome
                    continue
                tqdm.write(_line(outcome))
                if not prepared.names:
                    writer.writerow(outcome)
                append(flux)
                writer.writerow("" if value != value else value for value in outcome.values())
                lines.count(outcome)
                prepared.names.append(outcome["karmn"])
                prepared.kept.append(kept)
                prepared.sources[str(path)] = digest
                prepared.instruments.add(outcome["instrument"])
    if prepared.names:
        _finish(folder / RECORDS, folder / ARRAYS[1], prepared, lines)
    else:
        (folder / ARRAYS[0]).unlink()


def _finish(records, path, prepared, lines):
    """Write a table of records anew, with names that differ and what all stars say of what is odd about each."""
    prepared.named = name_stars(prepared.names)
    with open(records, newline="", encoding="utf-8") as before, writing(path) as partial:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            rows = csv.DictReader(before)
            writer = csv.DictWriter(file, rows.fieldnames, lineterminator="\n")
            writer.writeheader()
            for name, row in zip(prepared.named, rows):
                prepared.odd.append(sys.intern(lines.odd(row)))
                writer.writerow({**row, "karmn": name, "odd": prepared.odd[-1]})


class Lines:
    """How sharp the lines of stars are, by instrument and resolving power: how many stars, and the sharpest lines."""

    def __init__(self, target):
        self.target, self.modes = target, {}  # the resolving power as prepared

    def count(self, record):
        """Take a star's record into account."""
        n_stars, sharpest = self.modes.get(self._mode(record), (0, 0))
        self.modes[self._mode(record)] = n_stars + 1, max(sharpest, record["line_power"])

    def odd(self, record):
        """What is odd about a star, without "blunt-lines" where another star of the instrument has sharp ones.

        What broadens its lines is then rotation: the resolving power is as stated.
        """
        words, sharp = record["odd"].split(), self._sharpest(self._mode(record)) >= likeness.SHARP
        return " ".join(word for word in words if word != "blunt-lines" or not sharp)

    def warn(self):
        """Say so if none of many stars of an instrument has sharp lines."""
        for (instrument, power), (n_stars, _) in sorted(self.modes.items()):
            sharpest = self._sharpest((instrument, power))
            if n_stars >= likeness.MANY and sharpest < likeness.SHARP:
                print(f"warning: none of {n_stars} stars of {instrument or 'one instrument'} has lines as sharp as R "
                      f"{power} makes them, the sharpest are those of {sharpest:.0%} of it: all rotate, or the "
                      "resolving power is less: see --resolution")

    def _mode(self, record):
        return record["instrument"], str(record["resolving_power"])

    def _sharpest(self, mode):
        return self.modes[mode][1] / self.target


def powers(paths, reading, jobs):
    """The resolving powers that files state, of those that do and can be read."""
    return [power for power in _side_by_side(_power, paths, (reading,), jobs, "headers") if power]


def _side_by_side(function, paths, arguments, jobs, description):
    """Results of function(path, *arguments) in the order of the paths, with a progress bar."""
    with runner.side_by_side(description, jobs):
        results = joblib.Parallel(n_jobs=min(jobs, len(paths)), return_as="generator")(
            joblib.delayed(function)(path, *arguments) for path in paths)
        yield from progress_bar(results, total=len(paths), desc=description, unit="file")


def name_stars(given):
    """A name for each star, none twice; the second of a name gets " [2]", or the next number that is free."""
    given = [clean_name(name)[:LONGEST_NAME] or "star" for name in given]
    counts, names, numbers = Counter(given), {}, {}
    for name in given:  # a dict keeps its order
        free = name
        while free in names or (free != name and free in counts):
            numbers[name] = numbers.get(name, 1) + 1
            free = f"{name} [{numbers[name]}]"
        names[free] = None
    several = [f"{name} ({count})" for name, count in counts.items() if count > 1]
    if several:
        print(f"several files of one star, numbered in the order given: {', '.join(several[:SHOWN])}"
              + ", ..." * (len(several) > SHOWN))
    return list(names)


def told(settings):
    """Settings as they are written down: JSON has no NaN."""
    return {key: value for key, value in asdict(settings).items() if value == value}


def mark(instruments, provenance, settings):
    """What provenance.json says of stars of some instruments, prepared to the likeness of a synthetic set."""
    instruments = sorted({instrument or "own" for instrument in instruments})
    return {
        "spectra": f"{', '.join(instruments)}, {provenance.spectra} training set", "n_pixels": paper.N_PIXELS,
        "resolving_power": float(settings.target), "continuum": settings.continuum,
        "preparation": VERSION, "settings": told(settings),
        "synthetic": msgspec.to_builtins(provenance),
    }


def outcome(left_out, n_files, what):
    """How many files were `what`, such as "estimated", and why the others were not, in lines."""
    lines = [f"{n_files - len(left_out)} of {n_files} files {what}, {len(left_out)} left out"]
    lines += [f"  {path} {reason}" for path, reason in itertools.islice(left_out.items(), SHOWN)]
    return "\n".join(lines + ["  ..."] * (len(left_out) > SHOWN))


# ---------------------------------------------------------------- one file
def _prepared(path, out, reading, templates, settings, lower):
    """Where the star of a file lies, its record and flux, now or before, and its digest; or None and why none."""
    try:
        readers.check(path)
        digest = sha256(path)
        key = _digest([path.name, digest, reading, asdict(settings), VERSION,
                       hashlib.sha256(templates.flux.tobytes()).hexdigest()])
        kept = out / "prepared" / f"{key[:24]}.npz"
        if kept.exists():
            with contextlib.suppress(BadInput):  # what is damaged or was changed is made again
                star = load(kept)
                return kept, star.record, star.flux, digest
        spectrum = readers.read(path, *reading)
        star = preparation.prepare(spectrum, templates, settings)
        for conflict in spectrum.observation.conflicts:
            tqdm.write(f"{path}: {conflict}")
        record = {
            "karmn": clean_name(spectrum.observation.name), "file": escaped(path.name), **star.record,
            "instrument": spectrum.observation.instrument, "form": spectrum.form, "unit": spectrum.unit,
        }
        with writing(kept) as partial:
            np.savez(partial, record=json.dumps(record), digest=_digest_of(star, record, kept.stem),
                     **{name: getattr(star, name) for name in STORED})
        return kept, record, star.flux, digest
    except UnitFailed as error:
        if lower and isinstance(error, preparation.Duller):
            raise
        return None, one_line(error), None, ""
    except OSError as error:
        if not path.exists() or error.filename == str(path):
            return None, f"cannot be read ({one_line(error.strerror)})", None, ""
        raise
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:  # what no check foresaw; the rest goes on
        return None, f"cannot be used ({type(error).__name__}: {one_line(error)})", None, ""


def load(kept):
    """The preparation.Star that `prepare` kept; refused if it is not as it was left."""
    with contextlib.suppress(OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        with np.load(kept) as stored:
            record = json.loads(str(stored["record"]))
            star = Star(record=record, **{name: stored[name] for name in STORED})
            if str(stored["digest"]) == _digest_of(star, record, kept.stem):
                return star
    raise BadInput(f"{kept} is damaged or was changed: delete it, and the same command makes it again")


def _digest_of(star, record, key):
    """Digest of a star that is kept under the name `key`, so that no other star's is taken for it."""
    arrays = (np.ascontiguousarray(getattr(star, name)).tobytes() for name in STORED)
    return hashlib.sha256(b"".join([json.dumps([record, key], sort_keys=True).encode(), *arrays])).hexdigest()


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
