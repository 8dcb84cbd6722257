"""Tables with a row a star, whichever file they are in: names are text, each there once, and numbers are numbers."""
import pandas as pd

import paper
from workflow.files import BadInput, read_table

# Spellings of a name in a catalogue, and in the paper. J11110+304E is another star; so are J20556-140N and S.
ALIASES = {"J11110+304W": "J11110+304"}
NUMBERS = {"ra", "dec", "ra_gaiadr3", "dec_gaiadr3"} | {
    prefix + name for par, parameter in paper.PARAMETERS.items() for name in (par, parameter.published)
    for prefix in ("", "e_", "E_", "s_")}


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
