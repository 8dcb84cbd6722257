"""Tables with a row a star, whichever file they are in: names are text, each there once, and numbers are numbers."""
import csv
import io
import itertools
import re

import numpy as np
import pandas as pd

import paper
from workflow.files import BadInput, clean_name, one_line, read_table

# Spellings of a name in a catalogue, and in the paper. J11110+304E is another star; so are J20556-140N and S.
ALIASES = {"J11110+304W": "J11110+304"}
NUMBERS = {"ra", "dec", "ra_gaiadr3", "dec_gaiadr3"} | {
    prefix + name for par, parameter in paper.PARAMETERS.items() for name in (par, parameter.published)
    for prefix in ("", "e_", "E_", "s_")}
# What src_files/prepare_spectra.py leaves of each star
WORDS = ["file", "instrument", "odd", "bridged"]
MEASURED = ["ra", "dec", "snr", "pixel", "rv", "e_rv", "depth", "share"]


def read(path, remedy):
    """Read a CSV with a row a star: `karmn` is text, positions and parameters are numbers, NaN where empty."""
    table = read_table(path, "karmn", remedy)
    lower = {name.lower(): name for name in sorted(NUMBERS, reverse=True)}  # of teff and Teff, teff
    for name in table:
        if name not in NUMBERS and name.lower() in lower:
            raise BadInput(f"{path} has the heading {name!r} instead of {lower[name.lower()]!r}: {remedy}")
    for column in (name for name in table if name in NUMBERS and table[name].dtype.kind not in "iuf"):
        numbers = pd.to_numeric(table[column].astype(str).where(table[column].notna()), errors="coerce")
        wrong = table[column].notna() & numbers.isna()
        if wrong.any():
            row = wrong.idxmax()
            raise BadInput(f"{path} row {row}, {table.karmn[row]}: {column} is {str(table[column][row])[:40]!r}, "
                           f"no number: {remedy}")
        table[column] = numbers.astype(float)
    return table


def in_paper_spelling(table, source):
    """The table with the names as the paper spells them, each there once; `source` is what a message calls it."""
    karmn = table["karmn"].str.strip().replace(ALIASES)
    if karmn.isna().any():
        raise BadInput(f"{source}: a row has no star's name under karmn: fill it in or delete the row")
    twice = karmn[karmn.duplicated()].unique()
    if len(twice):
        raise BadInput(f"{source} names {', '.join(twice)} twice: keep one row a star")
    return table.assign(karmn=karmn)


# ---------------------------------------------------------------- pixels
def ranges(mask):
    """Which pixels of a row a mask (n_pixels,) has, as text: first and last of each stretch, "12-14 907-907"."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False]))
    return " ".join(f"{first}-{after - 1}" for first, after in edges.reshape(-1, 2))


def masks(texts, n_pixels):
    """The masks (n_stars, n_pixels) of which `ranges` made these texts; what is no such text is an error of values."""
    found = np.zeros((len(texts), n_pixels), bool)
    for row, text in enumerate(texts):
        for stretch in text.split():
            ends = re.fullmatch("([0-9]+)-([0-9]+)", stretch)
            if not ends or not int(ends[1]) <= int(ends[2]) < n_pixels:
                raise ValueError(f"{stretch[:40]} is no stretch of {n_pixels} pixels")
            found[row, int(ends[1]) : int(ends[2]) + 1] = True
    return found


# ---------------------------------------------------------------- longer than memory
def blocks(path, size, remedy):
    """Where the stars of a table lie, `size` at a time, without more of it in memory: how many, first and last byte."""
    position = 0

    def lines():
        nonlocal position
        for line in file:
            position += len(line)
            yield line.decode("utf-8-sig" if position == len(line) else "utf-8")

    try:
        with open(path, "rb") as file:
            rows = filter(None, csv.reader(lines(), strict=True))
            heading, places = next(rows, []), []
            if "karmn" not in heading:
                raise BadInput(f"{path} has no heading karmn in its first line: {remedy}")
            while True:
                start, n_stars = position, 0
                for row in itertools.islice(rows, size):
                    n_stars += 1
                    if len(row) != len(heading):
                        raise BadInput(f"{path} has not {len(heading)} cells, as the heading has, in the row of "
                                       f"{one_line(row[0])}: {remedy}")
                if not n_stars:
                    return places
                places.append((n_stars, start, position))
    except FileNotFoundError:
        raise BadInput(f"{path} not found: {remedy}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is no CSV in UTF-8 ({one_line(error)}): {remedy}") from None


def as_numbers(column):
    """A column of text as numbers, to the last digit, NaN where it is empty."""
    return column.where(column.str.strip() != "", "nan").astype(float)


def read_block(path, start, stop, remedy):
    """Stars that `blocks` found between two bytes: karmn, WORDS and MEASURED, "" and NaN where the table lacks them."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        heading = next(filter(None, csv.reader(file)))
    with open(path, "rb") as file:
        file.seek(start)
        text = file.read(stop - start)
    table = pd.read_csv(io.BytesIO(text), names=heading, dtype=str, keep_default_na=False, index_col=False)
    stars = pd.DataFrame({"karmn": table["karmn"].map(clean_name)})
    for name in WORDS:
        stars[name] = table.get(name, "")
    for name in MEASURED:
        stars[name] = np.nan
        try:
            if name in table:
                stars[name] = as_numbers(table[name])
        except ValueError as error:
            raise BadInput(f"{path}: {name} is no number in the rows of {stars['karmn'].iloc[0]} to "
                           f"{stars['karmn'].iloc[-1]} ({one_line(error)}): {remedy}") from None
    return stars
