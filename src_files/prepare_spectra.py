"""Observed spectra over 8795 to 8840 Angstrom as the arrays that the acts read: at rest, normalised, on one grid.

Reads:  spectrum files of any form that observations/readers.py knows; SYNTHETIC/ph_flux_norm.npy, ph_pars.npy
Writes: DIR/carmf_norm.npy, DIR/stars.csv, DIR/provenance.json, DIR/preparation.pdf (a page a star); and the synthetic
        set at the instrument's resolving power, DIR/ph_flux_norm.npy and DIR/ph_pars.npy
Run:    python src_files/prepare_spectra.py --out src_files/mine spectra/*.fits       (0.02 s a star, its page 0.1)
        python src_files/prepare_spectra.py --out src_files/mine --synthetic src_files/simulated spectra/*.csv
"""
import argparse
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Methodology"))
from figures import preparation_page, star_page
from observations import batch, preparation
from spectra import dataset
from spectra.transforms import degrade
from workflow import schemas
from workflow.command_line import command, folder
from workflow.files import BadInput, lock, sha256, unchanged, write_json, writing
from workflow.progress import progress_bar

FILES = ("ph_flux_norm.npy", "ph_pars.npy", "carmf_norm.npy", "stars.csv")
PAGES = "preparation.pdf"
CHUNK = 512  # synthetic spectra degraded at a time


def parse(argv):
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     fromfile_prefix_chars="@")
    add = parser.add_argument
    batch.add_arguments(parser)
    add("--out", type=folder, required=True, metavar="DIR", help="folder to write")
    add("--synthetic", type=folder, default=HERE, metavar="DIR",
        help="folder of the synthetic set to train on and to shift to; default: src_files")
    add("--pages", choices=("none", "odd", "all"), help=f"of which stars; default: all of up to {star_page.MOST}, of "
        f"more the first {star_page.MOST} that are odd")
    add("--overwrite", action="store_true", help="replace the stars of other files")
    return parser.parse_args(argv)


# ---------------------------------------------------------------- the folder
def check_folder(out, synthetic, paths, overwrite):
    """Refuse to write where something else lies, or where stars would be lost: digests of their files, by name."""
    note = out / "provenance.json"
    present = [name for name in (*FILES, PAGES) if os.path.lexists(out / name)]
    if out.resolve() == synthetic.resolve():
        raise BadInput(f"{out} holds the synthetic set: choose another --out")
    if note.exists():
        provenance = schemas.read(note, schemas.Provenance, "choose another --out")
        if provenance.preparation is msgspec.UNSET:
            raise BadInput(f"{note} calls what lies there {provenance.spectra!r}, not prepared: choose another --out")
        names = set(map(str, paths))
        lost = {name: digest for name, digest in provenance.sources.items() if name not in names}
        given = {sha256(path) for path in paths if path.is_file()} if lost else ()
        lost = [name for name, digest in lost.items() if digest not in given]
        if lost and not overwrite:
            raise BadInput(f"{out} has the stars of other files, such as {lost[0]} ({len(lost)} in all): give these "
                           "too, choose another --out, or --overwrite")
        return provenance.sources
    if present:
        raise BadInput(f"{out} holds {present[0]} that was not prepared here: choose another --out")
    return {}


def install(options, stars, templates, provenance, settings):
    """Leave the arrays and tables of a batch.Prepared, the synthetic set and pages."""
    out = options.out
    stars.install(out)
    degrade_synthetic(out, options.synthetic, provenance, settings.target)
    (out / PAGES).unlink(missing_ok=True)
    odd = (row for row, words in enumerate(stars.odd) if words)
    rows = list(star_page.chosen({"odd": "flagged"}.get(options.pages, options.pages), len(stars.kept), odd))
    if rows:
        with writing(out / PAGES) as partial:
            pages = ((stars.named[row], stars.star(row)) for row in progress_bar(rows, desc=PAGES, unit="page"))
            preparation_page.write(partial, pages, templates, provenance.spectra)


def degrade_synthetic(out, synthetic, provenance, target):
    """The synthetic set at the resolving power `target`, in the folder `out`; unchanged where that is its own."""
    power = dataset.resolving_power_of(provenance)
    with writing(out / "ph_pars.npy") as partial:
        shutil.copyfile(synthetic / "ph_pars.npy", partial)
    with writing(out / "ph_flux_norm.npy") as partial:
        if target >= power:
            shutil.copyfile(synthetic / "ph_flux_norm.npy", partial)
            return
        sharp = np.load(synthetic / "ph_flux_norm.npy", mmap_mode="r")
        flux = np.lib.format.open_memmap(partial, "w+", np.float32, sharp.shape)
        for first in progress_bar(range(0, len(sharp), CHUNK), desc=f"synthetic set at R {target:.0f}"):
            rows = slice(first, first + CHUNK)
            flux[rows] = degrade(np.array(sharp[rows], float), power, target)
        flux.flush()


def prepare(options, paths, sharp, power, continuum, spectra):
    """The batch.Prepared of the files, at the least resolving power of all; and the templates and settings.

    `sharp` are the templates of the synthetic set, `power` is its resolving power, `spectra` the word for it.
    """
    target, reading = np.nanmin([power, options.resolution]), batch.reading_of(options)
    while True:
        settings = batch.settings_of(options, target, continuum)
        templates = replace(sharp, flux=degrade(sharp.flux, power, target))
        print(f"{len(paths)} files to R {target:.0f}, divided by their {continuum} continuum, shifted to "
              f"{len(templates.flux)} {spectra} spectra", flush=True)
        try:
            stars = batch.prepare(paths, options.out, reading, templates, settings, options.jobs, lower=True)
            return stars, templates, settings
        except preparation.Duller as duller:  # mostly the first file, and all others alike; else ask them all
            print(f"a file has a resolving power of {duller.power:.0f}: the synthetic set is degraded to that, or less")
            target = duller.power if target == power else min(batch.powers(paths, reading, options.jobs))


def prepare_files(options, paths):
    """Prepare files and leave their arrays, tables and pages; the folder is this process's alone."""
    out, synthetic, note = options.out, options.synthetic, options.out / "provenance.json"
    before = check_folder(out, synthetic, paths, options.overwrite)
    with unchanged(synthetic / "ph_flux_norm.npy", synthetic / "ph_pars.npy"):
        templates, provenance, continuum = preparation.load_templates(synthetic)
        power = dataset.resolving_power_of(provenance)
        stars, templates, settings = prepare(options, paths, templates, power, continuum, provenance.spectra)
        mark = batch.mark(stars.instruments, provenance, settings)
        write_json(note, {**mark, "complete": False, "sources": before})
        install(options, stars, templates, provenance, settings)
    write_json(note, {**mark, "complete": True, "files": {name: sha256(out / name) for name in FILES},
                      "sources": stars.sources})
    print(f"{out}: {batch.outcome(stars.left_out, len(paths), 'prepared')}")


@command
def main(argv=None):
    """Prepare the stars."""
    options = parse(argv)
    paths = list(dict.fromkeys(options.files))
    with lock(options.out):
        prepare_files(options, paths)


if __name__ == "__main__":
    sys.exit(main())
