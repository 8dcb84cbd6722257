"""Reading headers: what an instrument leaves unsaid, and the velocity of the Earth."""
import numpy as np
import pytest

import paper
from observations.headers import from_header

HPF = {"INSTRUME": "HPF", "TELESCOP": "HET", "QRA": "17:57:48.50", "QDEC": "+04:41:36.1"}


@pytest.mark.parametrize("header, name", [({"OBJECT": "GJ 1"}, "GJ 1"), ({"OBJECT": " "}, "star"), ({}, "star")])
def test_a_star_has_the_name_of_its_header_or_else_the_one_given(header, name):
    assert from_header(header, "star").name == name


@pytest.mark.parametrize("header, medium, frame, power", [
    ({}, "", "", np.nan),
    ({"INSTRUME": "CARMENES"}, "vacuum", "", paper.RESOLVING_POWER),
    ({"INSTRUME": "HPF"}, "vacuum", "observer", 55_000),
    ({"CARACAL BERV": 1.0}, "vacuum", "observer", np.nan),
    ({"INSTRUME": "CARMENES", "CARACAL BERV": 1.0, "SERVAL COADD NUM": 9}, "vacuum", "barycentre",
     paper.RESOLVING_POWER),
    ({"INSTRUME": "FEROS", "CTYPE1": "AWAV", "SPECSYS": "TOPOCENT"}, "air", "observer", 48_000),
    ({"SPEC_RES": 40_000, "SPECSYS": "HELIOCEN", "VACUUM": True}, "vacuum", "barycentre", 40_000),
])
def test_what_is_unsaid_is_known_of_the_instrument(header, medium, frame, power):
    observation = from_header(header, "star")
    assert (observation.medium, observation.frame) == (medium, frame)
    np.testing.assert_equal(observation.resolving_power, float(power))


@pytest.mark.parametrize("date, exposure, expected", [
    ("2018-10-03T01:46:19.850591", 330.15, -25.927), ("2019-03-19T11:49:14.485082", 191.7, 26.493),
])
def test_barycentric_correction_is_that_of_another_programme(date, exposure, expected):
    """Barnard's star from the Hobby-Eberly telescope, by barycorrpy (Kanodia and Wright 2018), with proper motion."""
    observation = from_header({**HPF, "DATE-OBS": date, "ITIME": exposure}, "star")
    assert observation.berv == pytest.approx(expected, abs=0.005)
