"""What the paper says of its networks and estimates, held against the published estimates and against made-up runs."""
import numpy as np
import pytest

import literature
import paper
from evaluation import catalogues, claims
from synthetic.labels import label_grid

PUBLISHED = {
    "slope of Mar21 on the estimate": "0.73, 0.73", "slope of Pass19 on the estimate": "0.70, 0.79",
    "slope of Schw19 on the estimate": "0.68, 0.82", "mean of Mar21 minus the estimate [K]": "+9, -121",
    "mean of Pass19 minus the estimate [K]": "-68, -122", "mean of Schw19 minus the estimate [K]": "-22, -102",
    "mean uncertainty of Teff [K]": "28.8, 47.5", "H-alpha active stars": "51",
    "H-alpha active stars of the young disc": "30", "stars above 12 km/s": "18",
    "stars above 12 km/s that are H-alpha active": "18", "stars above 12 km/s of the young disc": "10",
    "members of young associations, rings in Fig. 8": "13", "stars akin to subdwarfs": "4",
}


def test_claims_hold_for_the_published_estimates_or_are_said_not_to_be_held():
    table = claims.of_estimates(catalogues.load_estimates())
    rows = {row.claim.split(":")[0]: row for row in table.itertuples()}
    for claim, value in PUBLISHED.items():
        row = rows[claim]
        assert (row.value, row.agrees) == (value, "yes") and row.section in ("4.1", "4.2") and row.paper
    unheld = table[table["agrees"] == ""]
    assert (table["agrees"] == "no").sum() == 0 and len(table) == 10 + 3 + 3 + 11
    assert set(unheld["value"][unheld["paper"] != ""]) == {"in no table here"}


@pytest.mark.parametrize(
    "change, claim",
    [({"teff": lambda t: 3750 + 0.5 * (t - 3750)}, "slope"), ({"teff": lambda t: t - 300}, "mean of"),
     ({"e_teff": lambda e: 0 * e + 40, "E_teff": lambda e: 0 * e + 40}, "mean uncertainty"),
     ({"vsini": lambda v: v / 2}, "stars above 12 km/s")],
)
def test_other_estimates_do_not_pass(change, claim):
    estimates = catalogues.load_estimates()
    changed = estimates.assign(**{column: of(estimates[column]) for column, of in change.items()})
    marks = {row.agrees for row in claims.of_estimates(changed).itertuples() if row.claim.startswith(claim)}
    assert marks == {"no"}
    for word in ("simulated", "Simulated by hand"):  # not the paper's stars: neither yes nor no
        assert set(claims.of_estimates(estimates.assign(spectra=word))["agrees"]) == {""}


def test_estimates_without_a_parameter_are_not_held():
    few = catalogues.load_estimates().iloc[:20].assign(teff=np.nan, e_teff=np.nan, E_teff=np.nan)
    rows = [row for row in claims.of_estimates(few).itertuples() if row.section == "4.2"]
    assert {(row.value, row.agrees) for row in rows} == {("none, none", "")}


def test_few_labels_above_the_split():
    hot = label_grid()[:, 0] > paper.TEFF_SPLIT
    held = claims.of_run({"hot": hot, "synthetic": [len(hot)]}, "published").set_index("claim")
    assert tuple(held.loc["synthetic spectra above 3750 K", ["value", "agrees"]]) == ("1,892 of 22,933", "yes")
    assert tuple(held.loc["synthetic spectra", ["paper", "value", "agrees"]]) == ("22,933", "22,933", "yes")
    assert set(held["value"][2:]) == {"not there yet"} and set(held["agrees"][2:]) == {""}


def test_claims_of_a_run_hold_to_the_printed_digits():
    for name, claim in paper.CLAIMS_OF_RUNS.items():
        if not claim.printed:
            continue
        printed, exponent = float(claim.printed), claim.printed.partition("e")[2]
        digit = float(f"1e{exponent or -len(claim.printed.partition('.')[2])}")
        for values, spectra, agrees in (
            ([printed + 0.4 * digit, printed - 0.4 * digit], "published", "yes"),
            ([printed + 0.6 * digit], "published", "no"), ([printed - 0.6 * digit], "published", "no"),
            ([printed], "simulated", ""), ([printed], "unknown", ""), ([], "published", ""),
        ):
            held = claims.of_run({name: values}, spectra).set_index("claim")
            assert held.loc[claim.text, "agrees"] == agrees, name
            assert set(held["agrees"].drop(claim.text)) == {""}


def test_values_of_several_autoencoders_have_a_range():
    held = claims.of_run({"mse_test": [4e-5, 6e-5], "kept": [80, 80, 80, 80]}, "published").set_index("claim")
    assert held.loc["reconstruction error, synthetic test set", "value"] == "5.0e-5 (4.0e-5 to 6.0e-5)"
    assert held.loc["regressors kept of these", "value"] == "80"


def test_command_prints_them(capsys):
    assert literature.main(["--claims"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("286 stars, the published estimates") and printed.count(" yes\n") == 21
    assert literature.main(["--claims", "absent.csv"]) == 2
