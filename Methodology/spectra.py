"""Load, check and split the synthetic and observed spectra and their labels (Sect. 2)."""
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

import artifacts
import paper
from artifacts import BadInput

__all__ = ["load_observed", "load_synthetic", "provenance", "split", "split_stratified"]

REMEDY = (
    "fetch the published arrays with `python src_files/download.py`, or simulate some with "
    "`python src_files/simulate_spectra.py` and pass --data src_files/simulated"
)
FLUX_RANGE = (-0.5, 2.0)  # normalised flux lies in 0..1.5; beyond this it is no normalised flux
CHUNK = 1024  # rows checked at a time, so that memory stays flat


def provenance(data):
    """Say where the spectra in a folder come from.

    Returns
    -------
    dict
        `spectra`: "simulated" or another word from the folder's provenance.json; without that file "published"
        if the arrays have the published git blob ids, else "unknown". `n_pixels` of the spectra.
    """
    note = data / "provenance.json"
    if note.exists():
        found = {"spectra": "unknown", "n_pixels": paper.N_PIXELS, "complete": True}
        found.update(artifacts.read_json(note, [], "mend it, see src_files/README.md"))
        if not found["complete"]:
            raise BadInput(f"{note}: the simulation was interrupted: run src_files/simulate_spectra.py again")
        return found
    published = all(
        (data / name).exists() and artifacts.git_blob_id(data / name) == blob for name, blob in paper.BLOB_ID.items()
    )
    return {"spectra": "published" if published else "unknown", "n_pixels": paper.N_PIXELS}


def load_synthetic(data):
    """Load the synthetic spectra.

    Returns
    -------
    flux_ph : memory-mapped ndarray of shape (n_spectra, n_pixels)
        Normalised flux.
    labels_ph : ndarray of shape (n_spectra, 4)
        Teff [K], log g [dex], [M/H] [dex], v sin i [km/s].

    Raises
    ------
    BadInput
        Missing or unreadable array, wrong shape, NaN or inf, flux that is not normalised.
    """
    path = data / "ph_flux_norm.npy"
    flux_ph = _load_flux(path, data)
    if len(flux_ph) < 2:
        raise BadInput(f"{path} has {len(flux_ph)} spectra, too few to split into training and test set: {REMEDY}")
    bad = _bad_rows(flux_ph)
    if len(bad):
        raise BadInput(f"{path}: NaN, inf or flux far outside 0..1.5 in {_rows(bad)}: remove or mend these spectra")
    labels_path = data / "ph_pars.npy"
    labels_ph = np.asarray(artifacts.load_array(labels_path, 2, REMEDY), float)
    if labels_ph.shape != (len(flux_ph), len(paper.PARAMETERS)):
        raise BadInput(
            f"{labels_path} has shape {labels_ph.shape}, {path} needs ({len(flux_ph)}, {len(paper.PARAMETERS)}): "
            "the two must come from the same set"
        )
    bad = np.flatnonzero(~np.isfinite(labels_ph).all(axis=1))
    if len(bad):
        raise BadInput(f"{labels_path}: NaN or inf in {_rows(bad)}: remove or mend these labels")
    print(f"{path}: {len(flux_ph)} synthetic spectra, {provenance(data)['spectra']}")
    return flux_ph, labels_ph


def load_observed(data):
    """Load the observed spectra and the names of their stars.

    Returns
    -------
    flux_carm : memory-mapped ndarray of shape (n_stars, n_pixels)
    stars : DataFrame
        `karmn` and, where known, `ra`, `dec` and the truth of a simulation: from stars.csv in the same
        folder, else the 286 of the paper. `good` is False where a spectrum cannot be used.
    """
    path = data / "carmf_norm.npy"
    flux_carm = _load_flux(path, data)
    names = data / "stars.csv"
    if not names.exists():
        names = artifacts.ROOT / "literature_data" / "mas24.csv"
    try:
        stars = pd.read_csv(names)
    except ValueError:  # empty, ragged or not UTF-8
        stars = pd.DataFrame()
    karmn = stars.get("karmn", pd.Series(dtype=str)).dropna()
    if "karmn" not in stars or len(karmn) < len(stars) or not karmn.is_unique:
        repeated = ", ".join(karmn[karmn.duplicated()].astype(str).head())
        raise BadInput(
            f"{names} must name every star once under the heading karmn" + f", not twice {repeated}" * bool(repeated)
        )
    if len(stars) != len(flux_carm):
        raise BadInput(
            f"{path} has {len(flux_carm)} spectra, {names} names {len(stars)} stars: "
            f"name yours in {data / 'stars.csv'}, a row each under the heading karmn"
        )
    if names.parent != data:
        stars = stars[["karmn", "ra", "dec"]]
    bad = _bad_rows(flux_carm)
    for row in bad:
        print(f"warning: {path} row {row}, {stars.karmn[row]}: NaN, inf or flux far outside 0..1.5; left out")
    if len(bad) == len(flux_carm):
        raise BadInput(f"{path}: no spectrum is usable: normalise the flux to 0..1.5")
    print(f"{path}: {len(flux_carm)} observed spectra, {provenance(data)['spectra']}")
    return flux_carm, stars.assign(good=~np.isin(np.arange(len(stars)), bad))


def split(n_spectra, domain):
    """Rows of the training and test set of a domain, "ph" or "carm" (code)."""
    return train_test_split(
        np.arange(n_spectra), test_size=paper.TEST_FRACTION[domain], random_state=paper.SPLIT_SEED
    )


def split_stratified(label):
    """Rows of the training and test set, stratified on one parameter (code).

    Where a label has too many values or too few spectra a value to stratify on, as continuous labels have,
    its ranks are grouped into bins that can be.
    """
    n_test = int(np.ceil(paper.TEST_FRACTION["ph"] * len(label)))
    strata, counts = np.unique(label, return_inverse=True, return_counts=True)[1:]
    if counts.min() < 2 or len(counts) > min(n_test, len(label) - n_test):
        n_bins = max(1, min(n_test, len(label) // 4))
        strata = np.argsort(np.argsort(label, kind="stable"), kind="stable") * n_bins // len(label)
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=paper.TEST_FRACTION["ph"], random_state=paper.SPLIT_SEED)
    return next(splitter.split(strata, strata))


def _load_flux(path, data):
    flux = artifacts.load_array(path, 2, REMEDY)
    n_pixels = provenance(data)["n_pixels"]
    if flux.shape[1] != n_pixels:
        raise BadInput(
            f"{path} has {flux.shape[1]} pixels instead of {n_pixels}: resample it onto the common grid, "
            f"or state your own n_pixels in {data / 'provenance.json'}"
        )
    return flux


def _bad_rows(flux):
    low, high = FLUX_RANGE
    good = np.ones(len(flux), bool)
    for start in range(0, len(flux), CHUNK):
        chunk = artifacts.take(flux, slice(start, start + CHUNK))
        good[start : start + CHUNK] = ((chunk >= low) & (chunk <= high)).all(axis=1)  # NaN is neither
    return np.flatnonzero(~good)


def _rows(rows):
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:5]))}{', ...' * (len(rows) > 5)} ({len(rows)} in all)"
