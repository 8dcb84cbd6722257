"""Load, check and split the synthetic and observed spectra and their labels (Sect. 2)."""
import msgspec
import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

import paper
from spectra import star_tables
from workflow import schemas
from workflow.command_line import ROOT
from workflow.files import BadInput, git_blob_id, load_array, one_line, take

REMEDY = (
    "fetch the published arrays with `python src_files/download.py`, or simulate some with "
    "`python src_files/simulate_spectra.py` and pass --data src_files/simulated"
)
PUBLISHED_STARS = ROOT / "literature_data" / "mas24.csv"
FLUX_RANGE = (-0.5, 2.0)  # normalised flux lies in 0..1.5; beyond this it is no normalised flux
CHUNK = 1024  # rows looked at a time, so that memory stays flat
EXAMPLES = 4  # spectra of either test set whose reconstructions are kept for figures


def provenance(data):
    """Say where the spectra in a folder come from.

    Returns
    -------
    schemas.Provenance
        `spectra`: "simulated" or another word from the folder's provenance.json; without that file "published"
        if the arrays have the published git blob ids, else "unknown". `n_pixels` of the spectra. The
        settings of what was simulated or made from models, without the digests of its files.

    Raises
    ------
    BadInput
        provenance.json cannot be used, is of files that were not finished, or calls the spectra published.
    """
    note = data / "provenance.json"
    if not note.exists():
        published = all(
            (data / name).exists() and git_blob_id(data / name) == blob for name, blob in paper.BLOB_ID.items()
        )
        return schemas.Provenance(spectra="published" if published else "unknown")
    found = schemas.read(note, schemas.Provenance, "mend it, see src_files/README.md")
    if not found.complete:
        script = {"phoenix": "phoenix_grid"}.get(found.spectra, "simulate_spectra")
        script = script if found.preparation is msgspec.UNSET else "prepare_spectra"
        raise BadInput(f"{note}: the files beside it were not finished: run src_files/{script}.py again")
    if one_line(found.spectra).lower() == "published":
        raise BadInput(f"{note} calls the spectra {found.spectra!r}; the published ones are known by their content "
                       "and need no such file: delete it, or choose another word")
    return msgspec.structs.replace(found, files={})


def resolving_power_of(provenance):
    """That of the synthetic spectra in a folder, as its provenance says, else CARMENES's."""
    stated = provenance.resolving_power
    return paper.RESOLVING_POWER if stated is msgspec.UNSET else stated


# ---------------------------------------------------------------- loading
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
        Missing or unreadable array, wrong shape, NaN or inf, flux that is not normalised or is constant, labels
        that cannot be.
    """
    path = data / "ph_flux_norm.npy"
    flux_ph = _load_flux(path, data)
    if len(flux_ph) < 2:
        raise BadInput(f"{path} has {len(flux_ph)} spectra, too few to split into training and test set: {REMEDY}")
    outside, constant = _faults(flux_ph, flux_ph.shape[1])
    for bad, what in ((outside, "NaN, inf or flux far outside 0..1.5"), (constant, "the same flux in all pixels")):
        if bad.any():
            raise BadInput(f"{path}: {what} in {_rows(bad)}: remove or mend these spectra")
    labels_ph = _load_labels(data / "ph_pars.npy", path, len(flux_ph))
    print(f"{path}: {len(flux_ph)} synthetic spectra, {one_line(provenance(data).spectra)}")
    return flux_ph, labels_ph


def load_observed(data):
    """Load the observed spectra and the names of their stars.

    Returns
    -------
    flux_carm : memory-mapped ndarray of shape (n_stars, n_pixels)
    stars : DataFrame
        `karmn` and, where known, `ra`, `dec` and the truth of a simulation: from stars.csv in the same
        folder, else the 286 of the paper. `good` is False where a spectrum cannot be used.

    Raises
    ------
    BadInput
        Missing or unreadable array, wrong shape, no usable spectrum, or a stars.csv that does not name each spectrum.
    """
    path = data / "carmf_norm.npy"
    flux_carm = _load_flux(path, data)
    stars = _load_stars(data, path, len(flux_carm))
    run = longest_run(flux_carm.shape[1])
    outside, constant = _faults(flux_carm, run)
    for row in np.flatnonzero(outside | constant):
        what = "NaN, inf or flux far outside 0..1.5" if outside[row] else f"constant over {run} pixels or more"
        print(f"warning: {path} row {row}, {stars.karmn[row]}: {what}; left out")
    if (outside | constant).all():
        raise BadInput(f"{path}: no spectrum is usable: normalise the flux to 0..1.5, without constant stretches")
    print(f"{path}: {len(flux_carm)} observed spectra, {one_line(provenance(data).spectra)}")
    return flux_carm, stars.assign(good=~(outside | constant))


def usable(flux_carm):
    """Which observed spectra can be used, a mask of shape (n_stars,): what `load_observed` calls good, and no word."""
    outside, constant = _faults(flux_carm, longest_run(flux_carm.shape[1]))
    return ~(outside | constant)


def label(par, path):
    """One parameter of all synthetic spectra.

    Parameters
    ----------
    par : {"teff", "logg", "mh", "vsini"}
    path : Path
        Of ph_pars.npy, which `load_synthetic` has checked.

    Returns
    -------
    ndarray of shape (n_spectra,), float32
        Teff [K], log g [dex], [M/H] [dex] or v sin i [km/s].
    """
    return np.array(load_array(path, 2, REMEDY)[:, paper.PARAMETERS[par].column], np.float32)


def _load_flux(path, data):
    flux = load_array(path, 2, REMEDY)
    n_pixels = provenance(data).n_pixels
    if flux.shape[1] != n_pixels:
        raise BadInput(
            f"{path} has {flux.shape[1]} pixels instead of {n_pixels}: resample it onto the common grid, "
            f"or state your own n_pixels in {data / 'provenance.json'}"
        )
    return flux


def _load_labels(path, flux_path, n_spectra):
    labels_ph = np.asarray(load_array(path, 2, REMEDY), float)
    if labels_ph.shape != (n_spectra, len(paper.PARAMETERS)):
        raise BadInput(
            f"{path} has shape {labels_ph.shape}, {flux_path} needs ({n_spectra}, {len(paper.PARAMETERS)}): "
            "the two must come from the same set"
        )
    bad = ~np.isfinite(labels_ph).all(axis=1)
    if bad.any():
        raise BadInput(f"{path}: NaN or inf in {_rows(bad)}: remove or mend these labels")
    wrong = []
    for par, (low, high) in paper.LABEL_BOUNDS.items():
        column, unit, name = (getattr(paper.PARAMETERS[par], what) for what in ("column", "unit", "published"))
        bad = (labels_ph[:, column] < low) | (labels_ph[:, column] > high)
        if bad.any():
            value = labels_ph[bad, column][0]
            wrong.append(f"{name} (column {column}) is {value:g} instead of {low}..{high} {unit} in {_rows(bad)}")
    if wrong:
        raise BadInput(f"{path}: {'; '.join(wrong)}: its columns must be Teff [K], log g [dex], [M/H] [dex], "
                       "v sin i [km/s], in this order")
    return labels_ph


def stars_file(data):
    """Where the names of the observed stars stand: stars.csv in the same folder, else the 286 of the paper."""
    own = data / "stars.csv"
    return own if own.exists() else PUBLISHED_STARS


def _load_stars(data, path, n_stars):
    names = stars_file(data)
    stars = star_tables.read(names, "give every spectrum a row, with a name of its own under the heading karmn")
    infinite = [column for column in star_tables.NUMBERS & set(stars) if np.isinf(stars[column]).any()]
    if infinite:
        raise BadInput(f"{names}: {infinite[0]} of {stars.karmn[np.isinf(stars[infinite[0]])].iloc[0]} is infinite: "
                       "mend it, or leave it empty")
    if len(stars) != n_stars:
        raise BadInput(
            f"{path} has {n_stars} spectra, {names} names {len(stars)} stars: "
            f"name yours in {data / 'stars.csv'}, a row each under the heading karmn"
        )
    return stars[["karmn", "ra", "dec"]] if names == PUBLISHED_STARS else stars  # those estimates are no truth


def longest_run(n_pixels):
    """How many equal values in a row are too many."""
    share, at_least = paper.CONSTANT_RUN
    return min(n_pixels, max(at_least, round(share * n_pixels)))


def _faults(flux, run):
    """Which spectra have flux outside FLUX_RANGE, and which the same flux in `run` pixels in a row: two masks."""
    low, high = FLUX_RANGE
    outside, constant = np.zeros((2, len(flux)), bool)
    for start in range(0, len(flux), CHUNK):
        rows = slice(start, start + CHUNK)
        chunk = take(flux, rows)
        outside[rows] = ~((chunk >= low) & (chunk <= high)).all(axis=1)  # NaN is neither
        same = np.zeros(chunk.shape, np.int32)
        np.cumsum(chunk[:, 1:] == chunk[:, :-1], axis=1, out=same[:, 1:])
        constant[rows] = (same[:, run - 1 :] - same[:, : 1 - run] == run - 1).any(axis=1)
    return outside, constant


def _rows(bad):
    rows = np.flatnonzero(bad)
    return f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows[:5]))}{', ...' * (len(rows) > 5)} ({len(rows)} in all)"


# ---------------------------------------------------------------- splitting
def split(n_spectra, domain):
    """Rows of the training and test set of a domain, "ph" or "carm" (code)."""
    return train_test_split(
        np.arange(n_spectra), test_size=paper.TEST_FRACTION[domain], random_state=paper.SPLIT_SEED
    )


def split_usable(flux_carm):
    """Rows of the usable observed spectra: all, those to train on, those to test on."""
    good = usable(flux_carm)
    return np.flatnonzero(good), *(part[good[part]] for part in split(len(flux_carm), "carm"))


def examples_ph(teff):
    """Rows of EXAMPLES synthetic test spectra, from cool to hot at equal steps of rank in their Teff [K]."""
    test_rows = np.sort(split(len(teff), "ph")[1])
    return _spread(test_rows[np.argsort(teff[test_rows], kind="stable")])


def examples_carm(flux_carm):
    """Rows of EXAMPLES usable observed test spectra, at equal steps in the order of the file."""
    return _spread(np.sort(split_usable(flux_carm)[2]))


def _spread(rows):
    return rows[np.unique((np.arange(EXAMPLES) + 0.5) * len(rows) / EXAMPLES // 1).astype(int)]


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


# ---------------------------------------------------------------- wavelengths


