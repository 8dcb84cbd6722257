"""What the paper says of its networks and estimates, held against the published estimates and against made-up runs."""
import numpy as np
import pytest

import literature
import paper
from evaluation import catalogues, claims
from synthetic.labels import label_grid

PUBLISHED = {  # value, and what the mark is
    "slope of Mar21 on the estimate": ("0.73, 0.73", "yes"), "slope of Pass19 on the estimate": ("0.70, 0.79", "yes"),
    "slope of Schw19 on the estimate": ("0.68, 0.82", "yes"),
    "mean of Mar21 minus the estimate [K]": ("+9, -121", "yes"),
    "mean of Pass19 minus the estimate [K]": ("-68, -122", "yes"),
    "mean of Schw19 minus the estimate [K]": ("-22, -102", "yes"),
    "standard deviation of Mar21 minus the estimate [K]": ("80, 101", "yes"),
    "standard deviation of Pass19 minus the estimate [K]": ("76, 101", "yes"),
    "standard deviation of Schw19 minus the estimate [K]": ("73, 91", "yes"),
    "mean uncertainty of Teff [K]": ("28.8, 47.5", "yes"),
    "standard deviation of Mar21, Pass19, Schw19, Bello23 minus the estimate [K]": ("100, 85, 84, 137", "yes"),
    "Pearson r of Teff with Mar21, Pass19, Schw19, Pass20, Bello23": ("0.94, 0.96, 0.96, 0.99, 0.87", "yes"),
    "v sin i within the errors of both, Pass20": ("91 of 286", "no"),
    "v sin i within the errors of both, Rein18": ("12 of 41", "no"),
    "v sin i whose error reaches the upper limit, Rein18": ("87 of 245; 211 limits are below the estimate", "no"),
    "H-alpha active stars": ("51", ""), "H-alpha active stars of the young disc": ("30 of 51", "yes"),
    "H-alpha active share, by Teff [K] above 3750, to 3750, to 3400, to 3200": ("5%, 6%, 29%, 67%", "yes"),
    "stars above 12 km/s": ("18", ""), "stars above 12 km/s that are H-alpha active": ("18 of 18", "yes"),
    "stars above 12 km/s of the young disc": ("10 of 18", "yes"),
    "Teff of stars above 12 km/s, and the median of all [K]": ("3049 to 3371, 3508", "yes"),
    "H-alpha active, of stars 0.25, 0.3, 0.35 dex above a cubic of luminosity in Teff": (
        "17 of 17, 14 of 14, 10 of 10", "yes"),
    "of the thick disc, of stars 0.25, 0.3, 0.35 dex below it": ("10 of 28, 8 of 15, 7 of 9", "in part"),
    "members of young associations, rings in Fig. 8": ("13", ""), "stars akin to subdwarfs": ("4", "yes"),
    "[M/H] of these within the errors of both, Mar21, Pass19, Schw19": ("9 of 12", "yes"),
}


def test_claims_are_held_against_the_published_estimates_each_in_its_group():
    table = claims.of_estimates(catalogues.load_estimates())
    rows = {row.claim.split(":")[0]: row for row in table.itertuples()}
    for claim, (value, agrees) in PUBLISHED.items():
        assert (rows[claim].value, rows[claim].agrees) == (value, agrees), claim
        assert rows[claim].section in ("4.1", "4.2") and (rows[claim].kind == "ours") == (rows[claim].paper == "")
    counts = table.groupby(["kind", "agrees"]).size().to_dict()
    assert counts == {("printed", "yes"): 8, ("printed", ""): 4, ("ours", ""): 4 + 3,
                      ("in words", "yes"): 19, ("in words", "no"): 3, ("in words", "in part"): 1}
    assert set(table.query("kind == 'printed' and agrees == ''")["value"]) == {"in no table here"}
    assert len(table) == len(PUBLISHED) + 11 + 4


@pytest.mark.parametrize(
    "change, claim",
    [({"teff": lambda t: 3750 + 0.5 * (t - 3750)}, "slope"), ({"teff": lambda t: t - 300}, "mean of"),
     ({"e_teff": lambda e: 0 * e + 40, "E_teff": lambda e: 0 * e + 40}, "mean uncertainty"),
     ({"teff": lambda t: t + 200 * (-1) ** np.arange(len(t)) * (t < 3750)}, "standard deviation of Mar21 minus"),
     ({"teff": lambda t: t[::-1].to_numpy()}, "Pearson r"),
     ({"teff": lambda t: 7000 - t}, "Teff of stars above 12 km/s"),
     ({"teff": lambda t: 7000 - t}, "H-alpha active share"),
     ({"mh": lambda mh: mh + 0.5}, "[M/H] of these")],
)
def test_other_estimates_do_not_pass(change, claim):
    estimates = catalogues.load_estimates()
    changed = estimates.assign(**{column: of(estimates[column]) for column, of in change.items()})
    marks = {row.agrees for row in claims.of_estimates(changed).itertuples() if row.claim.startswith(claim)}
    assert marks == {"no"}


@pytest.mark.parametrize("word", ["simulated", "Simulated by hand"])
def test_stars_that_are_not_the_papers_are_held_against_nothing(word):
    assert set(claims.of_estimates(catalogues.load_estimates().assign(spectra=word))["agrees"]) == {""}


def test_what_was_said_to_fail_can_hold():
    estimates = catalogues.load_estimates()
    wide = estimates.assign(e_vsini=estimates["e_vsini"] + 3, E_vsini=estimates["E_vsini"] + 3)
    marks = {row.claim: row.agrees for row in claims.of_estimates(wide).itertuples() if row.claim.startswith("v sin")}
    assert len(marks) == 3 and set(marks.values()) == {"yes"}


def test_estimates_without_a_parameter_are_not_held():
    few = catalogues.load_estimates().iloc[:20]
    nothing = claims.of_estimates(few.assign(**{column: np.nan for column in few if few[column].dtype == float}))
    unknown = nothing[nothing["section"].isin(["4.1", "4.2"]) & ~nothing["claim"].str.startswith("H-alpha active s")]
    assert set(unknown["agrees"][unknown["kind"] == "in words"]) == {""}
    without = claims.of_estimates(few.assign(teff=np.nan, e_teff=np.nan, E_teff=np.nan))
    assert {row.value for row in without.itertuples() if "minus" in row.claim} == {
        "none, none", "none, none, none, none"}


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
    assert printed.startswith("286 stars, the published estimates")
    assert printed.count(" yes\n") == 27 and printed.count(" no\n") == 3
    assert literature.main(["--claims", "absent.csv"]) == 2
