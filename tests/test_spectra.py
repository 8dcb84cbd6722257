"""Splits, and what is said about spectra, labels and star names that cannot be used."""
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

import artifacts
import paper
import spectra
from artifacts import BadInput


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
@pytest.mark.parametrize("n", [2, 10, 286, 1000])
def test_split_is_that_of_the_published_code(domain, fraction, n):
    train, test = spectra.split(n, domain)
    assert np.array_equal(np.sort(np.r_[train, test]), np.arange(n))
    assert len(test) == int(np.ceil(fraction * n))
    for found, expected in zip((train, test), train_test_split(np.arange(n), test_size=fraction, random_state=42)):
        assert np.array_equal(found, expected)
    assert all(np.array_equal(a, b) for a, b in zip((train, test), spectra.split(n, domain)))


def test_stratified_split_is_that_of_the_published_code():
    label = np.random.default_rng(3).choice(paper.GRID_VSINI, 600, p=np.arange(1, 14) / 91).astype(np.float32)
    train, test = spectra.split_stratified(label)
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
    train, test = spectra.split_stratified(label)
    assert np.array_equal(np.sort(np.r_[train, test]), np.arange(200)) and len(test) == 60
    edges = np.quantile(label, [0, 0.25, 0.5, 0.75, 1])
    assert (np.abs(np.histogram(label[test], edges)[0] - 15) <= 2).all()  # a stratified one would be 15 each


@pytest.mark.parametrize("kind", ["continuous", "constant", "one rare", "two", "grid", "pairs"])
def test_stratified_split_never_fails(kind):
    rng = np.random.default_rng(8)
    for n in [*range(8, 60), 101, 333]:
        label = {
            "continuous": rng.normal(size=n), "constant": np.full(n, 4.9), "two": np.arange(n) % 2,
            "one rare": np.r_[np.full(n - 1, 5.0), 4.7], "grid": rng.choice(paper.GRID_TEFF, n),
            "pairs": np.arange(n) // 2,
        }[kind]  # fmt: skip
        train, test = spectra.split_stratified(label)
        assert np.array_equal(np.sort(np.r_[train, test]), np.arange(n))
        assert len(test) == int(np.ceil(0.3 * n))


# ---------------------------------------------------------------- good input
def test_good_input_is_loaded_as_it_is(data):
    flux_ph, labels_ph = spectra.load_synthetic(data)
    flux_carm, stars = spectra.load_observed(data)
    assert np.array_equal(flux_ph, np.load(data / "ph_flux_norm.npy")) and isinstance(flux_ph, np.memmap)
    assert np.array_equal(labels_ph, np.load(data / "ph_pars.npy"))
    assert np.array_equal(flux_carm, np.load(data / "carmf_norm.npy"))
    assert stars["good"].all() and stars["karmn"].tolist() == pd.read_csv(data / "stars.csv")["karmn"].tolist()


def test_published_names_without_own_ones(data):
    (data / "stars.csv").unlink()
    np.save(data / "carmf_norm.npy", np.ones((286, 60), np.float32))
    _, stars = spectra.load_observed(data)
    published = pd.read_csv(artifacts.ROOT / "literature_data" / "mas24.csv")
    assert stars["karmn"].tolist() == published["karmn"].tolist() == sorted(published["karmn"])
    assert list(stars) == ["karmn", "ra", "dec", "good"]  # nothing that could be taken for a truth


# ---------------------------------------------------------------- bad arrays
ARRAYS = [
    (spectra.load_synthetic, "ph_flux_norm.npy"), (spectra.load_synthetic, "ph_pars.npy"),
    (spectra.load_observed, "carmf_norm.npy"),
]  # fmt: skip
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
@pytest.mark.parametrize("size", [0, 5, 100, -1])
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
@pytest.mark.parametrize("change", [lambda a: a[0], lambda a: a[None], lambda a: a.astype(str), lambda a: a > 0])
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
    message = message_of(spectra.load_synthetic, data)
    assert str(data / "ph_pars.npy") in message and "(200, 4)" in message and "same set" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3000.0, -0.6, 2.1])
def test_bad_flux_names_its_rows(value, data, monkeypatch):
    monkeypatch.setattr(spectra, "CHUNK", 64)  # rows in several chunks

    def change(flux):
        flux[[3, 70, 199], 5] = value

    spoil(data / "ph_flux_norm.npy", change)
    message = message_of(spectra.load_synthetic, data)
    assert str(data / "ph_flux_norm.npy") in message
    assert "rows 3, 70, 199 (3 in all)" in message and "remove or mend" in message


def test_many_bad_rows_are_counted(data):
    def change(flux):
        flux[10:30] = np.nan

    spoil(data / "ph_flux_norm.npy", change)
    message = message_of(spectra.load_synthetic, data)
    assert "rows 10, 11, 12, 13, 14, ... (20 in all)" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_label_names_its_row(value, data):
    def change(labels):
        labels[17, 2] = value

    spoil(data / "ph_pars.npy", change)
    message = message_of(spectra.load_synthetic, data)
    assert str(data / "ph_pars.npy") in message and "row 17 " in message and "remove or mend" in message


# ---------------------------------------------------------------- bad observed spectra and names
@pytest.mark.parametrize("value", [np.nan, np.inf, 50.0])
def test_bad_observed_spectrum_is_left_out_and_named(value, data, capsys):
    def change(flux):
        flux[[2, 7], 30] = value

    spoil(data / "carmf_norm.npy", change)
    _, stars = spectra.load_observed(data)
    assert np.flatnonzero(~stars["good"]).tolist() == [2, 7] and len(stars) == 12
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2].endswith("12 observed spectra, simulated")
    for line, row in zip(lines, (2, 7)):
        assert str(data / "carmf_norm.npy") in line and f"row {row}," in line and stars["karmn"][row] in line


def test_no_usable_observed_spectrum(data):
    def change(flux):
        flux[:, 0] = np.nan

    spoil(data / "carmf_norm.npy", change)
    message = message_of(spectra.load_observed, data)
    assert str(data / "carmf_norm.npy") in message and "no spectrum is usable" in message and "normalise" in message


@pytest.mark.parametrize("own", [True, False])
def test_other_number_of_names(own, data):
    if own:
        pd.read_csv(data / "stars.csv")[:-1].to_csv(data / "stars.csv", index=False)
    else:
        (data / "stars.csv").unlink()
    message = message_of(spectra.load_observed, data)
    assert str(data / "carmf_norm.npy") in message and str(data / "stars.csv") in message
    assert "12 spectra" in message and ("11 stars" if own else "286 stars") in message and "karmn" in message


NAMES = {"no column": "name\n" + "x\n" * 12, "empty": "", "one name": "karmn,ra,dec\n" + "J1,1,2\n" * 12}


@pytest.mark.parametrize("content", NAMES.values(), ids=NAMES)
def test_names_that_cannot_be_used(content, data):
    (data / "stars.csv").write_text(content)
    message = message_of(spectra.load_observed, data)
    assert str(data / "stars.csv") in message and "karmn" in message


# ---------------------------------------------------------------- provenance
def test_provenance(data):
    assert spectra.provenance(data)["spectra"] == "simulated" and spectra.provenance(data)["n_pixels"] == 60
    (data / "provenance.json").unlink()
    assert spectra.provenance(data) == {"spectra": "unknown", "n_pixels": 3501}


def test_published_arrays_are_known_by_their_content(tmp_path, monkeypatch):
    for name in paper.BLOB_ID:
        (tmp_path / name).write_bytes(b"hello\n")
    assert spectra.provenance(tmp_path)["spectra"] == "unknown"
    hello = "ce013625030ba8dba906f756967f9e9ca394464a"  # what git calls this content
    monkeypatch.setattr(paper, "BLOB_ID", dict.fromkeys(paper.BLOB_ID, hello))
    assert spectra.provenance(tmp_path)["spectra"] == "published"
    (tmp_path / "carmf_norm.npy").unlink()
    assert spectra.provenance(tmp_path)["spectra"] == "unknown"


@pytest.mark.parametrize("load", [spectra.load_synthetic, spectra.load_observed, spectra.provenance])
def test_interrupted_simulation(load, data):
    note = {"spectra": "simulated", "n_pixels": 60, "complete": False}
    (data / "provenance.json").write_text(json.dumps(note))
    message = message_of(load, data)
    assert str(data / "provenance.json") in message and "simulate_spectra.py" in message


def test_own_pixels_are_enough_of_a_provenance(data):
    (data / "provenance.json").write_text('{"n_pixels": 60}')  # as the message on pixels asks for
    assert spectra.provenance(data)["spectra"] == "unknown"
    assert spectra.load_synthetic(data)[0].shape == (200, 60)


def test_unreadable_provenance(data):
    (data / "provenance.json").write_text('{"n_pixels": 60')
    assert str(data / "provenance.json") in message_of(spectra.provenance, data)
