"""A folder of spectra, synthetic ones with labels and observed ones with stars, opened and checked once (Sect. 2)."""
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

import paper
from spectra import star_tables
from workflow import schemas
from workflow.artifacts import file
from workflow.command_line import ROOT
from workflow.files import BadInput, chunks, git_blob_id, load_array, one_line, sha256, take

REMEDY = ("fetch the published arrays with `python src_files/download.py`, or simulate some with "
          "`python src_files/simulate_spectra.py` and pass --data src_files/simulated")
PUBLISHED_STARS = ROOT / "literature_data" / "mas24.csv"
FLUX_RANGE = (-0.5, 2.0)  # normalised flux lies in 0..1.5; beyond this it is no normalised flux
OUTSIDE = "NaN, inf or flux far outside 0..1.5"
EXAMPLES = 4  # spectra of either test set whose reconstructions are kept for figures


@dataclass(frozen=True, eq=False)
class Dataset:
    """The spectra in a folder; each part is opened when it is asked for first, and refused if it cannot be used."""

    folder: Path
    ph = file("ph_flux_norm.npy")
    pars = file("ph_pars.npy")
    carm = file("carmf_norm.npy")
    note = file("provenance.json")

    def __str__(self):
        return str(self.folder)

    @functools.cached_property
    def stars_table(self):
        """Where the names of the observed stars stand: stars.csv in the folder, else the 286 of the paper."""
        own = self.folder / "stars.csv"
        return own if own.exists() or own.name in self._note.files else PUBLISHED_STARS

    def as_recorded(self, path):
        """A file of the folder, which must be the one that provenance.json has the digest of, if it has one."""
        recorded = self._note.files.get(path.name) if path.parent == self.folder and path.exists() else None
        if recorded and recorded != sha256(path):
            raise BadInput(f"{path} is not the file that {self.note} was written for: restore it, or make the folder "
                           "anew")
        return path

    @functools.cached_property
    def _note(self):
        """What provenance.json says; without it nothing."""
        if not self.note.exists():
            return schemas.UNKNOWN
        return schemas.read(self.note, schemas.Provenance, "mend it, see src_files/README.md")

    @functools.cached_property
    def provenance(self):
        """What provenance.json says, a schemas.Provenance, without digests of files."""
        if not self.note.exists():  # published by the content of the arrays
            blobs = {self.folder / name: blob for name, blob in paper.BLOB_ID.items()}
            published = all(path.exists() and git_blob_id(path) == blob for path, blob in blobs.items())
            return schemas.Provenance(spectra="published" if published else "unknown")
        provenance = self._note
        if not provenance.complete:
            script = {"phoenix": "phoenix_grid"}.get(provenance.kind, "simulate_spectra")
            script = script if provenance.preparation is msgspec.UNSET else "prepare_spectra"
            raise BadInput(f"{self.note}: the files beside it were not finished: run src_files/{script}.py again")
        if one_line(provenance.kind).lower() == "published":
            raise BadInput(f"{self.note} calls the spectra {provenance.spectra!r}; the published ones are known by "
                           "their content and need no such file: delete it, or choose another word")
        return msgspec.structs.replace(provenance, files={}, sources={})

    # ------------------------------------------------------------ arrays
    @functools.cached_property
    def flux_ph(self):
        """Normalised flux of the synthetic spectra, memory-mapped, (n_spectra, n_pixels)."""
        return self._flux(self.ph)

    @functools.cached_property
    def flux_carm(self):
        """Normalised flux of the observed spectra, memory-mapped, (n_stars, n_pixels)."""
        return self._flux(self.carm)

    def _flux(self, path):
        flux, n_pixels = load_array(path, 2, REMEDY), self.provenance.n_pixels
        self.as_recorded(path)
        if flux.shape[1] != n_pixels:
            raise BadInput(f"{path} has {flux.shape[1]} pixels instead of {n_pixels}: resample it onto the common "
                           f"grid, or state your own n_pixels in {self.note}")
        return flux

    @functools.cached_property
    def labels_ph(self):
        """Teff [K], log g [dex], [M/H] [dex], v sin i [km/s] of the synthetic spectra, (n_spectra, 4), checked."""
        labels_ph, n_parameters = np.asarray(load_array(self.pars, 2, REMEDY), float), len(paper.PARAMETERS)
        self.as_recorded(self.pars)
        if labels_ph.shape != (len(self.flux_ph), n_parameters):
            raise BadInput(f"{self.pars} has shape {labels_ph.shape}, {self.ph} needs ({len(self.flux_ph)}, "
                           f"{n_parameters}): the two must come from the same set")
        bad = ~np.isfinite(labels_ph).all(axis=1)
        if bad.any():
            raise BadInput(f"{self.pars}: NaN or inf in {_rows(bad)}: remove or mend these labels")
        wrong = []
        for par, (low, high) in paper.LABEL_BOUNDS.items():
            parameter = paper.PARAMETERS[par]
            label = labels_ph[:, parameter.column]
            bad = (label < low) | (label > high)
            if bad.any():
                wrong.append(f"{parameter.published} (column {parameter.column}) is {label[bad][0]:g} instead of "
                             f"{low}..{high} {parameter.unit} in {_rows(bad)}")
        if wrong:
            raise BadInput(f"{self.pars}: {'; '.join(wrong)}: its columns must be Teff [K], log g [dex], [M/H] [dex], "
                           "v sin i [km/s], in this order")
        return labels_ph

    def label(self, par):
        """One parameter of all synthetic spectra, (n_spectra,), float32."""
        return np.array(self.labels_ph[:, paper.PARAMETERS[par].column], np.float32)

    @functools.cached_property
    def _stars(self):
        """The table of the stars, and its digest as it was read."""
        digest = sha256(self.stars_table) if self.stars_table.exists() else ""
        remedy = "give every spectrum a row, with a name of its own under the heading karmn"
        table = star_tables.read(self.as_recorded(self.stars_table), remedy)
        if infinite := [column for column in star_tables.NUMBERS & set(table) if np.isinf(table[column]).any()]:
            name = table["karmn"][np.isinf(table[infinite[0]])].iloc[0]
            raise BadInput(f"{self.stars_table}: {infinite[0]} of {name} is infinite: mend it, or leave it empty")
        if len(table) != len(self.flux_carm):
            raise BadInput(f"{self.carm} has {len(self.flux_carm)} spectra, {self.stars_table} names {len(table)} "
                           f"stars: name yours in {self.folder / 'stars.csv'}, a row each under the heading karmn")
        published = self.stars_table == PUBLISHED_STARS  # whose estimates are no truth
        return table[["karmn", "ra", "dec"]] if published else table, digest

    @functools.cached_property
    def stars_digest(self):
        """Digest of the table of the stars as it was read."""
        return self._stars[1]

    @property
    def stars(self):
        """The observed stars, a row each: `karmn` and, where known, `ra`, `dec`, `snr`, the truth of a simulation."""
        return self._stars[0]

    @functools.cached_property
    def names(self):
        """Digest of the names of the observed stars in their order, by which rows keep their stars."""
        return hashlib.sha256("\n".join(self.stars["karmn"]).encode()).hexdigest()

    @functools.cached_property
    def usable(self):
        """Which observed spectra can be used, a mask of shape (n_stars,)."""
        return usable(self.flux_carm)

    # ------------------------------------------------------------ looked through before hours of work
    def check_synthetic(self):
        """Refuse synthetic spectra that cannot be trained on, and say what they are."""
        if len(self.flux_ph) < 2:
            raise BadInput(f"{self.ph} has {len(self.flux_ph)} spectra, too few to split into training and test set: "
                           f"{REMEDY}")
        outside, constant = _faults(self.flux_ph, self.flux_ph.shape[1])
        for bad, what in ((outside, OUTSIDE), (constant, "the same flux in all pixels")):
            if bad.any():
                raise BadInput(f"{self.ph}: {what} in {_rows(bad)}: remove or mend these spectra")
        self.labels_ph  # noqa: B018 -- which checks them
        print(f"{self.ph}: {len(self.flux_ph)} synthetic spectra, {one_line(self.provenance.kind)}")

    def check_observed(self):
        """Warn of observed spectra that cannot be used, refuse if none can, and say what they are."""
        run = longest_run(self.flux_carm.shape[1])
        names, (outside, constant) = self.stars["karmn"], _faults(self.flux_carm, run)
        for row in np.flatnonzero(outside | constant):
            what = OUTSIDE if outside[row] else f"constant over {run} pixels or more"
            print(f"warning: {self.carm} row {row}, {names[row]}: {what}; left out")
        if (outside | constant).all():
            raise BadInput(f"{self.carm}: no spectrum is usable: normalise the flux to 0..1.5, without constant "
                           "stretches")
        print(f"{self.carm}: {len(self.flux_carm)} observed spectra, {one_line(self.provenance.kind)}")

    # ------------------------------------------------------------ rows
    @functools.cached_property
    def rows_ph(self):
        """Rows of the synthetic training and test set."""
        return split(len(self.flux_ph), "ph")

    @functools.cached_property
    def rows_carm(self):
        """Rows of the usable observed spectra: all, those to train on, those to test on."""
        return split_usable(self.flux_carm)

    @property
    def examples_ph(self):
        """Rows of EXAMPLES synthetic test spectra, from cool to hot at equal steps of rank in their Teff."""
        test_rows = np.sort(self.rows_ph[1])
        return _spread(test_rows[np.argsort(self.label("teff")[test_rows], kind="stable")])

    @property
    def examples_carm(self):
        """Rows of EXAMPLES usable observed test spectra, at equal steps in the order of the file."""
        return _spread(np.sort(self.rows_carm[2]))


def resolving_power_of(provenance):
    """Resolving power of the synthetic spectra in a folder, as its provenance says, else that of CARMENES."""
    stated = provenance.resolving_power
    return paper.RESOLVING_POWER if stated is msgspec.UNSET else stated


# ---------------------------------------------------------------- checking
def usable(flux_carm):
    """Which spectra can be used, a mask of shape (n_stars,): flux in its range, no constant stretches."""
    outside, constant = _faults(flux_carm, longest_run(flux_carm.shape[1]))
    return ~(outside | constant)


def longest_run(n_pixels):
    """How many equal values in a row are too many."""
    share, at_least = paper.CONSTANT_RUN
    return min(n_pixels, max(at_least, round(share * n_pixels)))


def _faults(flux, run):
    """Which spectra have flux outside FLUX_RANGE, and which the same flux in `run` pixels in a row: two masks."""
    low, high = FLUX_RANGE
    outside, constant = np.zeros((2, len(flux)), bool)
    for rows in chunks(len(flux)):
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
    return train_test_split(np.arange(n_spectra), test_size=paper.TEST_FRACTION[domain], random_state=paper.SPLIT_SEED)


def split_usable(flux_carm):
    """Rows of the usable observed spectra: all, those to train on, those to test on."""
    good = usable(flux_carm)
    return np.flatnonzero(good), *(part[good[part]] for part in split(len(flux_carm), "carm"))


def _spread(rows):
    """EXAMPLES of these rows, at equal steps."""
    return rows[np.unique((np.arange(EXAMPLES) + 0.5) * len(rows) / EXAMPLES // 1).astype(int)]


def split_stratified(label):
    """Rows of the training and test set, stratified on one parameter (code), or on bins of its ranks."""
    n_test = int(np.ceil(paper.TEST_FRACTION["ph"] * len(label)))
    strata, counts = np.unique(label, return_inverse=True, return_counts=True)[1:]
    if counts.min() < 2 or len(counts) > min(n_test, len(label) - n_test):  # too few spectra a value
        n_bins = max(1, min(n_test, len(label) // 4))
        strata = np.argsort(np.argsort(label, kind="stable"), kind="stable") * n_bins // len(label)
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=paper.TEST_FRACTION["ph"], random_state=paper.SPLIT_SEED)
    return next(splitter.split(strata, strata))
