"""Splits, and what is said about spectra, labels and star names that cannot be used."""
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from arrays import observed_of, provenance_of, synthetic_of
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

import paper
from spectra import dataset
from spectra.dataset import Dataset
from workflow import command_line, files, schemas
from workflow.files import BadInput


def spoil(path, change):
    """Rewrite an array after `change` has worked on it, in place or by returning another."""
    array = np.load(path)
    changed = change(array)
    np.save(path, array if changed is None else changed)


def message_of(load, data):
    with pytest.raises(BadInput) as caught:
        load(data)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- splits
@pytest.mark.parametrize(("domain", "fraction"), [("ph", 0.3), ("carm", 0.2)])
@pytest.mark.parametrize("n", [2, 286])
def test_split_is_that_of_the_published_code(domain, fraction, n):
    train, test = dataset.split(n, domain)
    assert np.array_equal(np.sort(np.r_[train, test]), np.arange(n))
    assert len(test) == int(np.ceil(fraction * n))
    for found, expected in zip((train, test), train_test_split(np.arange(n), test_size=fraction, random_state=42)):
        assert np.array_equal(found, expected)
    assert all(np.array_equal(a, b) for a, b in zip((train, test), dataset.split(n, domain)))


def test_stratified_split_is_that_of_the_published_code():
    label = np.random.default_rng(3).choice(paper.GRID_VSINI, 600, p=np.arange(1, 14) / 91).astype(np.float32)
    train, test = dataset.split_stratified(label)
    assert np.array_equal(np.sort(np.r_[train, test]), np.arange(600)) and len(test) == 180
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=0.3, random_state=42)
    expected = next(splitter.split(label[:, None], label.astype(str)))
    values = np.unique(label)
    for value in values:
        assert abs((label[test] == value).sum() - 0.3 * (label == value).sum()) <= 1
    # sklearn sorts classes, so compare with classes whose order is that of the values
    expected = next(splitter.split(label[:, None], np.searchsorted(values, label)))
    assert np.array_equal(train, expected[0]) and np.array_equal(test, expected[1])


def test_continuous_labels_are_split_alike():
    label = np.random.default_rng(5).uniform(2300, 4400, 200)
    train, test = dataset.split_stratified(label)
    assert np.array_equal(np.sort(np.r_[train, test]), np.arange(200)) and len(test) == 60
    edges = np.quantile(label, [0, 0.25, 0.5, 0.75, 1])
    assert (np.abs(np.histogram(label[test], edges)[0] - 15) <= 2).all()  # a stratified one would be 15 each


@pytest.mark.parametrize("n", [2, 12, 1000])
def test_examples_are_a_few_test_spectra_from_cool_to_hot(n):
    teff = np.random.default_rng(4).choice(paper.GRID_TEFF, n).astype(np.float32)
    data = Dataset(None)
    vars(data).update(flux_ph=np.empty((n, 1)), labels_ph=teff[:, None])
    test_rows, rows = dataset.split(n, "ph")[1], data.examples_ph
    assert set(rows) <= set(test_rows) and len(set(rows)) == len(rows) == min(4, len(test_rows))
    assert (np.diff(teff[rows]) >= 0).all()
    if n == 1000:
        np.testing.assert_allclose(teff[rows], np.quantile(teff[test_rows], [0.125, 0.375, 0.625, 0.875]), atol=25)


def test_observed_examples_are_usable_test_spectra():
    flux_carm = np.random.default_rng(4).normal(1, 0.01, (40, 60)).astype(np.float32)
    data, spoilt = Dataset(None), Dataset(None)
    vars(data).update(flux_carm=flux_carm)
    first = data.examples_carm
    assert len(first) == 4 and set(first) <= set(dataset.split(40, "carm")[1]) and (np.diff(first) > 0).all()
    flux_carm[first[1]] = np.nan
    vars(spoilt).update(flux_carm=flux_carm)
    assert first[1] not in spoilt.examples_carm


@pytest.mark.parametrize("kind", ["continuous", "constant", "one rare", "two", "grid", "pairs"])
def test_stratified_split_never_fails(kind):
    rng = np.random.default_rng(8)
    for n in [*range(8, 60), 101, 333]:
        label = {
            "continuous": rng.normal(size=n), "constant": np.full(n, 4.9), "two": np.arange(n) % 2,
            "one rare": np.r_[np.full(n - 1, 5.0), 4.7], "grid": rng.choice(paper.GRID_TEFF, n),
            "pairs": np.arange(n) // 2,
        }[kind]
        train, test = dataset.split_stratified(label)
        assert np.array_equal(np.sort(np.r_[train, test]), np.arange(n))
        assert len(test) == int(np.ceil(0.3 * n))


# ---------------------------------------------------------------- good input
def test_good_input_is_loaded_as_it_is(data):
    flux_ph, labels_ph = synthetic_of(data)
    flux_carm, stars = observed_of(data)
    assert np.array_equal(flux_ph, np.load(data / "ph_flux_norm.npy")) and isinstance(flux_ph, np.memmap)
    assert np.array_equal(labels_ph, np.load(data / "ph_pars.npy"))
    assert np.array_equal(flux_carm, np.load(data / "carmf_norm.npy"))
    assert stars["good"].all() and stars["karmn"].tolist() == pd.read_csv(data / "stars.csv")["karmn"].tolist()


def test_published_names_without_own_ones(data):
    (data / "stars.csv").unlink()
    spoil(data / "carmf_norm.npy", lambda flux: np.resize(flux, (286, 60)))
    _, stars = observed_of(data)
    published = pd.read_csv(command_line.ROOT / "literature_data" / "mas24.csv")
    assert stars["karmn"].tolist() == published["karmn"].tolist() == sorted(published["karmn"])
    assert list(stars) == ["karmn", "ra", "dec", "good"]  # nothing that could be taken for a truth


# ---------------------------------------------------------------- bad arrays
ARRAYS = [
    (synthetic_of, "ph_flux_norm.npy"), (synthetic_of, "ph_pars.npy"),
    (observed_of, "carmf_norm.npy"),
]
any_array = pytest.mark.parametrize(("load", "name"), ARRAYS, ids=[name for _, name in ARRAYS])
any_flux = pytest.mark.parametrize(("load", "name"), ARRAYS[::2], ids=[name for _, name in ARRAYS[::2]])


def assert_remedies(message, data, name):
    assert str(data / name) in message
    assert "src_files/download.py" in message and "src_files/simulate_spectra.py" in message


@any_array
def test_missing_array(load, name, data):
    (data / name).unlink()
    message = message_of(load, data)
    assert_remedies(message, data, name)
    assert "not found" in message


@any_array
@pytest.mark.parametrize("size", [0, -1])
def test_truncated_array(load, name, size, data):
    content = (data / name).read_bytes()
    (data / name).write_bytes(content[:size])
    message = message_of(load, data)
    assert_remedies(message, data, name)
    assert "truncated" in message


class Payload:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@any_array
@pytest.mark.parametrize("bare", [False, True])
def test_pickled_array_is_never_unpickled(load, name, bare, data, tmp_path):
    trace = tmp_path / "trace"
    payload = np.array([[Payload(trace)]], dtype=object)
    if bare:
        payload.dump(data / name)
    else:
        np.save(data / name, payload, allow_pickle=True)
    message = message_of(load, data)
    assert not trace.exists()
    assert_remedies(message, data, name)
    assert "holds pickled objects" in message
    np.load(data / name, allow_pickle=True)  # the payload is a live one
    assert trace.exists()


@any_array
@pytest.mark.parametrize("change", [lambda a: a[0], lambda a: a.astype(str)])
def test_other_kinds_of_array(load, name, change, data):
    spoil(data / name, change)
    assert_remedies(message_of(load, data), data, name)


@any_array
def test_archive_instead_of_array(load, name, data):
    with open(data / name, "wb") as file:
        np.savez(file, flux=np.ones((3, 60)))
    assert_remedies(message_of(load, data), data, name)


@any_flux
def test_wrong_number_of_pixels(load, name, data):
    spoil(data / name, lambda a: a[:, :-1])
    message = message_of(load, data)
    assert name in message and "59" in message and "60" in message and "n_pixels" in message


@any_flux
def test_array_without_rows(load, name, data):
    spoil(data / name, lambda a: a[:0])
    if name.startswith("ph"):
        spoil(data / "ph_pars.npy", lambda a: a[:0])
    else:
        stars = pd.read_csv(data / "stars.csv")
        stars[:0].to_csv(data / "stars.csv", index=False)
    assert name in message_of(load, data)


@pytest.mark.parametrize("change", [lambda a: a[:-1], lambda a: a[:, :3]])
def test_labels_of_other_shape(change, data):
    spoil(data / "ph_pars.npy", change)
    message = message_of(synthetic_of, data)
    assert str(data / "ph_pars.npy") in message and "(200, 4)" in message and "same set" in message


@pytest.mark.parametrize("value", [np.nan, -np.inf, 2.1])
def test_bad_flux_names_its_rows(value, data, monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 64)  # rows in several chunks

    def change(flux):
        flux[[3, 70, 199], 5] = value

    spoil(data / "ph_flux_norm.npy", change)
    message = message_of(synthetic_of, data)
    assert str(data / "ph_flux_norm.npy") in message
    assert "rows 3, 70, 199 (3 in all)" in message and "remove or mend" in message


def test_many_bad_rows_are_counted(data):
    def change(flux):
        flux[10:30] = np.nan

    spoil(data / "ph_flux_norm.npy", change)
    message = message_of(synthetic_of, data)
    assert "rows 10, 11, 12, 13, 14, ... (20 in all)" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_label_names_its_row(value, data):
    def change(labels):
        labels[17, 2] = value

    spoil(data / "ph_pars.npy", change)
    message = message_of(synthetic_of, data)
    assert str(data / "ph_pars.npy") in message and "row 17 " in message and "remove or mend" in message


CORNERS = np.array(list(itertools.product(*(
    (grid[0], grid[-1]) for grid in (paper.GRID_TEFF, paper.GRID_LOGG, paper.GRID_MH, paper.GRID_VSINI)
))))


def swapped(i, j):
    def change(labels):
        labels[:, [i, j]] = labels[:, [j, i]]

    return change


def scaled(factor, *columns):
    def change(labels):
        labels[:, columns] *= factor

    return change


PUBLISHED = [parameter.published for parameter in paper.PARAMETERS.values()]
BAD_LABELS = {
    **{f"{PUBLISHED[i]} and {PUBLISHED[j]} swapped": (swapped(i, j), (PUBLISHED[i], PUBLISHED[j]))
       for i, j in itertools.combinations(range(4), 2)},
    **{f"{name} times {factor:g}": (scaled(factor, column), (name,))
       for column, name in enumerate(PUBLISHED) for factor in (1e9, -1e9, 1e36)},
    "Teff in kK": (scaled(1e-3, 0), ("Teff",)), "v sin i in m/s": (scaled(1e3, 3), ("vsini",)),
    "negative v sin i": (scaled(-1, 3), ("vsini",)), "negative Teff": (scaled(-1, 0), ("Teff",)),
    "all times 1e36": (scaled(1e36, 0, 1, 2, 3), PUBLISHED),
    "backwards": (lambda labels: labels[:, ::-1].copy(), ("Teff", "vsini")),
    "all zero": (scaled(0, 0, 1, 2, 3), ("Teff",)),
}


@pytest.mark.parametrize(("change", "columns"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_labels_that_cannot_be(change, columns, data):
    spoil(data / "ph_pars.npy", lambda labels: np.resize(CORNERS, labels.shape))
    synthetic_of(data)
    spoil(data / "ph_pars.npy", change)
    message = message_of(synthetic_of, data)
    assert str(data / "ph_pars.npy") in message and any(f"{name} (column " in message for name in columns)
    assert message.endswith("Teff [K], log g [dex], [M/H] [dex], v sin i [km/s], in this order")


def test_one_impossible_label_names_its_row(data):
    def change(labels):
        labels[17, 1] = 58

    spoil(data / "ph_pars.npy", change)
    assert "logg (column 1) is 58 instead of -1..9 dex in row 17 (1 in all)" in message_of(synthetic_of, data)


def test_label_is_one_column(data):
    labels = np.load(data / "ph_pars.npy")
    for par, parameter in paper.PARAMETERS.items():
        found = Dataset(data).label(par)
        assert found.dtype == np.float32 and np.array_equal(found, labels[:, parameter.column].astype(np.float32))


@pytest.mark.parametrize("value", [0, 1, 0.3])
def test_constant_synthetic_spectrum_is_refused(value, data, monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 64)

    def change(flux):
        flux[[3, 70, 199]] = value
        flux[5, :-1] = value  # not wholly

    spoil(data / "ph_flux_norm.npy", change)
    message = message_of(synthetic_of, data)
    assert "the same flux in all pixels in rows 3, 70, 199 (3 in all)" in message and "remove or mend" in message


# ---------------------------------------------------------------- bad observed spectra and names
CONSTANT = {"zeros": (slice(None), 0), "ones": (slice(None), 1), "gap": (slice(20, 28), 0.9),
            "end": (slice(-8, None), 1)}


@pytest.mark.parametrize(("pixels", "value"), CONSTANT.values(), ids=CONSTANT)
def test_constant_observed_spectrum_is_left_out_and_named(pixels, value, data, capsys):
    def change(flux):
        flux[[2, 7], pixels] = value
        flux[4, 20:27] = value  # not long enough

    spoil(data / "carmf_norm.npy", change)
    flux_carm, stars = observed_of(data)
    assert np.flatnonzero(~stars["good"]).tolist() == [2, 7]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line, row in zip(lines, (2, 7)):
        assert f"row {row}, {stars['karmn'][row]}: constant over 8 pixels or more; left out" in line
    assert np.array_equal(dataset.usable(flux_carm), stars["good"]) and not capsys.readouterr().out


def test_only_constant_spectra(data):
    spoil(data / "carmf_norm.npy", np.ones_like)
    assert "no spectrum is usable" in message_of(observed_of, data)


def test_noisy_and_interpolated_spectra_are_usable():
    rng = np.random.default_rng(4)
    coarse, fine = np.linspace(*paper.WINDOW, 1000), paper.WAVELENGTH
    flux = 1 - 0.4 * np.exp(-(((fine - 8806.8) / 0.3) ** 2)) + rng.normal(0, 1 / 400, (6, len(fine)))
    flux[1] = np.interp(fine, coarse, np.interp(coarse, fine, flux[1]))
    flux[2] = flux[2][np.searchsorted(coarse, fine) * 3500 // 1000]  # the nearest of coarse pixels
    flux[3, 1000:1400] = np.linspace(flux[3, 999], flux[3, 1400], 400)  # a gap filled with a line
    flux[4, 1000:1069] = 0.98
    flux[5, 1000:1070] = 0.98
    assert dataset.usable(flux.astype(np.float32)).tolist() == [True] * 5 + [False]
    assert dataset.usable(flux[:3].round(3)).all()


@pytest.mark.parametrize("n_pixels", [2, 5, 8])
def test_few_pixels(n_pixels):
    flux = np.tile(np.linspace(0.5, 1, n_pixels), (3, 1))
    flux[1] = 1
    assert dataset.usable(flux).tolist() == [True, False, True]


@pytest.mark.parametrize("value", [np.nan, np.inf, 50.0])
def test_bad_observed_spectrum_is_left_out_and_named(value, data, capsys):
    def change(flux):
        flux[[2, 7], 30] = value

    spoil(data / "carmf_norm.npy", change)
    _, stars = observed_of(data)
    assert np.flatnonzero(~stars["good"]).tolist() == [2, 7] and len(stars) == 12
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2].endswith("12 observed spectra, simulated")
    for line, row in zip(lines, (2, 7)):
        assert str(data / "carmf_norm.npy") in line and f"row {row}," in line and stars["karmn"][row] in line


def test_no_usable_observed_spectrum(data):
    def change(flux):
        flux[:, 0] = np.nan

    spoil(data / "carmf_norm.npy", change)
    message = message_of(observed_of, data)
    assert str(data / "carmf_norm.npy") in message and "no spectrum is usable" in message and "normalise" in message


@pytest.mark.parametrize("own", [True, False])
def test_other_number_of_names(own, data):
    if own:
        pd.read_csv(data / "stars.csv")[:-1].to_csv(data / "stars.csv", index=False)
    else:
        (data / "stars.csv").unlink()
    message = message_of(observed_of, data)
    assert str(data / "carmf_norm.npy") in message and str(data / "stars.csv") in message
    assert "12 spectra" in message and ("11 stars" if own else "286 stars") in message and "karmn" in message


def write_stars(data, names, heading="karmn"):
    (data / "stars.csv").write_text("\n".join([heading, *names]) + "\n")


def test_names_are_text(data):
    names = ["001", "1", "00E0", "NA", "nan", "None", "1e5", "True", "-", "0x1", "1.50", "2024-01-01"]
    write_stars(data, names)
    assert observed_of(data)[1]["karmn"].tolist() == names
    write_stars(data, [f" {name} ,1" for name in names], "karmn,ra")
    assert observed_of(data)[1]["karmn"].tolist() == names


TWELVE = [f"J{i}" for i in range(12)]
BAD_NAMES = {
    "no heading": (TWELVE, "J12", "no heading karmn"),
    "another heading": (TWELVE, "name", "no heading karmn"),
    "blank in the heading": (TWELVE, " karmn", "' karmn' instead of 'karmn'"),
    "capitals in the heading": (TWELVE, "Karmn", "'Karmn' instead of 'karmn'"),
    "semicolons": ([f"{name};1" for name in TWELVE], "karmn;ra", "; instead of commas"),
    "tabulators": ([f"{name}\t1" for name in TWELVE], "karmn\tra", "blanks instead of commas"),
    "comma at the end": ([f"{name},1," for name in TWELVE], "karmn,ra", "line 2 "),
    "comma missing": ([*TWELVE[:7], "J7,1", *TWELVE[8:]], "karmn", "line 9 "),
    "one name": (["J1,1"] * 12, "karmn,ra", "J1 twice"),
    "no name": ([*TWELVE[:5], '""', *TWELVE[6:]], "karmn", "line 7 has no name"),
    "heading twice": ([f"{name},1,2" for name in TWELVE], "karmn,ra,ra", "'ra' twice"),
}


@pytest.mark.parametrize(("names", "heading", "cause"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_that_cannot_be_used(names, heading, cause, data):
    write_stars(data, names, heading)
    message = message_of(observed_of, data)
    assert str(data / "stars.csv") in message and cause in message and "karmn" in message


@pytest.mark.parametrize("content", [b"", "karmn\nJ\u00e9\n".encode("latin-1"), "karmn\nJ1\n".encode("utf-16")])
def test_stars_that_are_no_text(content, data):
    (data / "stars.csv").write_bytes(content)
    assert str(data / "stars.csv") in message_of(observed_of, data)


@pytest.mark.parametrize("column", ["ra", "teff"])
@pytest.mark.parametrize("text", ["3,780", "3780 K", "True"])
@pytest.mark.parametrize("all_rows", [False, True])
def test_text_where_a_number_should_be(column, text, all_rows, data):
    stars = pd.read_csv(data / "stars.csv").astype({column: object})
    stars.loc[stars.index if all_rows else [4], column] = text
    stars.to_csv(data / "stars.csv", index=False)
    message = message_of(observed_of, data)
    row = 0 if all_rows else 4
    assert f"{data / 'stars.csv'} row {row}, {stars['karmn'][row]}: {column} is {text!r}, no number" in message


def test_numbers_and_other_columns_stay_what_they_are(data):
    stars = pd.read_csv(data / "stars.csv").assign(snr=200, kind="M4")
    stars.loc[3, ["teff", "ra"]] = np.nan
    stars.to_csv(data / "stars.csv", index=False)
    found = observed_of(data)[1]
    pd.testing.assert_frame_equal(found.drop(columns="good"), stars, check_dtype=False)
    assert {found[column].dtype.kind for column in ("ra", "dec", *paper.PARAMETERS)} == {"f"}


# ---------------------------------------------------------------- provenance
def test_provenance(data):
    assert provenance_of(data) == schemas.Provenance(spectra="simulated", n_pixels=60)
    (data / "provenance.json").unlink()
    assert provenance_of(data) == schemas.Provenance(spectra="unknown", n_pixels=3501)


def test_provenance_of_a_simulation_keeps_its_settings_but_no_digests(data):
    note = {"spectra": "simulated", "n_pixels": 60, "seed": 3, "gap": 0.5, "files": {"ph_pars.npy": "0" * 64}}
    (data / "provenance.json").write_text(json.dumps(note))
    assert provenance_of(data) == schemas.Provenance(spectra="simulated", n_pixels=60, seed=3, gap=0.5)


@pytest.mark.parametrize("word", ["published", "Published", " published\n"])
def test_only_the_published_arrays_are_called_so(word, data):
    (data / "provenance.json").write_text(json.dumps({"spectra": word, "n_pixels": 60}))
    message = message_of(synthetic_of, data)
    assert str(data / "provenance.json") in message and "delete it" in message


@pytest.mark.parametrize(
    "note", [{"n_pixels": "60"}, {"n_pixels": 1}, {"n_pixels": None}, {"spectra": 7}, {"spectra": ""}, [], 60], ids=str
)
def test_provenance_of_another_form(note, data):
    (data / "provenance.json").write_text(json.dumps(note))
    message = message_of(observed_of, data)
    assert str(data / "provenance.json") in message and "src_files/README.md" in message


def test_published_arrays_are_known_by_their_content(tmp_path, monkeypatch):
    for name in paper.BLOB_ID:
        (tmp_path / name).write_bytes(b"hello\n")
    assert provenance_of(tmp_path).spectra == "unknown"
    hello = "ce013625030ba8dba906f756967f9e9ca394464a"  # what git calls this content
    monkeypatch.setattr(paper, "BLOB_ID", dict.fromkeys(paper.BLOB_ID, hello))
    assert provenance_of(tmp_path).spectra == "published"
    (tmp_path / "carmf_norm.npy").unlink()
    assert provenance_of(tmp_path).spectra == "unknown"


@pytest.mark.parametrize("load", [synthetic_of, observed_of, provenance_of])
def test_interrupted_simulation(load, data):
    note = {"spectra": "simulated", "n_pixels": 60, "complete": False}
    (data / "provenance.json").write_text(json.dumps(note))
    message = message_of(load, data)
    assert str(data / "provenance.json") in message and "simulate_spectra.py" in message


def test_own_pixels_are_enough_of_a_provenance(data):
    (data / "provenance.json").write_text('{"n_pixels": 60}')  # as the message on pixels asks for
    assert provenance_of(data).spectra == "unknown"
    assert synthetic_of(data)[0].shape == (200, 60)


def test_unreadable_provenance(data):
    (data / "provenance.json").write_text('{"n_pixels": 60')
    assert str(data / "provenance.json") in message_of(provenance_of, data)
