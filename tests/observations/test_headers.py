"""Reading headers: what an instrument leaves unsaid, and the velocity of the Earth."""
import numpy as np
import pytest
from astropy.io import fits

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


@pytest.mark.parametrize("answer, medium", [
    ("", ""), ("VACUUM", "vacuum"), (True, "vacuum"), ("T", "vacuum"), (False, "air"), ("AIR", "air"), ("?", ""),
])
def test_vacuum_is_said_by_yes_or_no_alone(answer, medium):
    assert from_header({"VACUUM": answer}, "star").medium == medium


PARANAL = {"SPECSYS": "TOPOCENT", "TELESCOP": "ESO-VLT-U2", "EXPTIME": 600.0, "DATE-OBS": "2017-08-18T23:33:57"}
BARNARD = 269.45, 4.69


@pytest.mark.parametrize("ra, dec, comment, known", [
    ("17:57:48.5", "+04:41:36", "", True), ("17 57 48.5", "+04 41 36", "", True), (269.45, 4.69, "", True),
    ("269.45", "4.69", "", True), (17.9635, 4.69, "", False), (17.9635, 4.69, "[hour] pointing", True),
    (17.9635, 4.69, "[deg] pointing", None), ("unknown", "unknown", "", False),
])
def test_a_right_ascension_up_to_24_is_one_only_if_its_unit_is_said(ra, dec, comment, known):
    header = fits.Header(PARANAL)
    header["RA"], header["DEC"] = (ra, comment), dec
    observation = from_header(header, "star")
    position = {True: BARNARD, False: (np.nan, np.nan), None: (17.9635, 4.69)}[known]
    np.testing.assert_allclose((observation.ra, observation.dec), position, atol=0.01)
    assert np.isnan(observation.berv) == (known is False) and (known is not True or abs(observation.berv + 21.7) < 0.2)


@pytest.mark.parametrize("key", ["BERV", "BCV", "VHELIO", "HELCORR", "BVCOR", "SSBRV052", "ESO QC BERV"])
@pytest.mark.parametrize("value, comment", [(12.5, ""), (12_500.0, ""), (12_500.0, "[m/s]"), (12.5, "km/s")])
def test_the_velocity_of_the_earth_is_read_by_many_names_in_metres_too(key, value, comment):
    header = fits.Header({"SPECSYS": "TOPOCENT"})
    header[f"HIERARCH {key}" if " " in key else key] = value, comment
    assert from_header(header, "star").berv == 12.5


@pytest.mark.parametrize("berv, disagrees", [(-21.7, False), (21.7, True)])
def test_a_velocity_of_the_earth_that_position_and_time_contradict_is_said(berv, disagrees):
    observation = from_header({**PARANAL, "RA": 269.45, "DEC": 4.69, "BERV": berv}, "star")
    assert observation.berv == berv and bool(observation.conflicts) == disagrees


def test_a_velocity_of_the_earth_without_a_frame_is_said():
    observation = from_header({"BCV": 12.5}, "star")
    assert np.isnan(observation.berv) and "SPECSYS" in observation.conflicts[0]


@pytest.mark.parametrize("header, power", [  # as the pipelines write them, see headers.INSTRUMENTS
    ({"INSTRUME": "FIES", "FIFMSKNM": "F1 LowRes"}, 25_000), ({"INSTRUME": "FIES", "FIFMSKNM": "F3 MedRes"}, 46_000),
    ({"INSTRUME": "FIES", "FIFMSKNM": "F4 HiRes"}, 67_000), ({"INSTRUME": "FIES"}, np.nan),
    ({"FPA": "CHIRON", "DECKER": "narrow_slit"}, 136_000), ({"FPA": "CHIRON", "DECKER": "slit"}, 95_000),
    ({"FPA": "CHIRON", "DECKER": "slicer"}, 79_000), ({"INSTRUME": "CHIRON", "DECKER": "fiber"}, 28_000),
    ({"INSTRUME": "HERMES", "OBSMODE": "HRF_OBJ"}, 85_000), ({"INSTRUME": "HERMES", "OBSMODE": "LRF_OBJ"}, np.nan),
    ({"INSTRUME": "NEID", "OBS-MODE": "HR"}, 110_000), ({"INSTRUME": "NEID", "OBS-MODE": "HE"}, np.nan),
    ({"INSTRUME": "GHOST", "SMPNAME": "HI_ONLY"}, 76_000), ({"INSTRUME": "GHOST", "SMPNAME": "LO_ONLY"}, 56_000),
    ({"INSTRUME": "GHOST", "SMPNAME": "STD_ONLY"}, 56_000),
    ({"INSTRUME": "ESPaDOnS", "INSTMODE": "Spectroscopy, star only, R=80,000"}, 80_000),
    ({"INSTRUME": "ESPaDOnS", "INSTMODE": "Spectroscopy, star+sky, R=65,000"}, 65_000),
    ({"INSTRUME": "ESPaDOnS", "INSTMODE": "Polarimetry, R=65,000"}, 65_000), ({"RESOL": "50000"}, 50_000),
])
def test_an_instrument_of_several_modes_has_a_resolving_power_each(header, power):
    np.testing.assert_equal(from_header(header, "star").resolving_power, float(power))


@pytest.mark.parametrize("instrument, comment, ra", [
    ("FIES", "", 17.9635), ("HERMES", "", 17.9635), ("FEROS", "", 17.9635), ("", "", np.nan),
    ("FEROS", "17:57:48 RA (J2000)", 17.9635), ("FIES", "RA in hours", 269.4525), ("FIES", "RA [h]", 269.4525),
    ("HERMES", "RA (hrs)", 269.4525), ("FEROS", "hr, J2000", 269.4525), ("FEROS", "hh.hhhh of hh mm ss", 269.4525),
    ("", "RA (h)", 269.4525), ("", "[deg] 17 h 57 m", 17.9635),
])
def test_some_instruments_have_degrees_where_no_comment_says_hours(instrument, comment, ra):
    header = fits.Header({"INSTRUME": instrument, "DEC": 4.69})
    header["RA"] = 17.9635, comment
    np.testing.assert_allclose(from_header(header, "star").ra, ra)


NEID = {"INSTRUME": "NEID", "TELESCOP": "WIYN 3.5m", "QRA": "17:57:48.5", "QDEC": "+04:41:36", "RA": "0:0:1"}


@pytest.mark.parametrize("header, comment, medium, frame, berv", [
    ({"INSTRUME": "GHOST", "BERV": 12.5}, "Barycentric correction applied (km s-1)", "air", "barycentre", np.nan),
    ({"INSTRUME": "GHOST"}, "", "air", "", np.nan),
    ({"INSTRUME": "FIES", "VHELIO": 12.5}, "", "air", "observer", 12.5),
    ({"INSTRUME": "HERMES", "BVCOR": 12.5}, "", "", "", np.nan),
    ({**NEID, "SSBRV051": 0.0, "SSBRV052": 12.5, "SSBRV053": 12.5}, "", "vacuum", "observer", 12.5),
])
def test_frame_and_medium_are_those_of_the_pipeline(header, comment, medium, frame, berv):
    header = fits.Header(header)
    if comment:
        header.comments["BERV"] = comment
    observation = from_header(header, "star")
    assert (observation.medium, observation.frame) == (medium, frame)
    np.testing.assert_equal(observation.berv, berv)
    assert bool(observation.conflicts) == ("BVCOR" in header)


def test_the_place_of_a_star_of_neid_is_that_asked_for():
    assert from_header(NEID, "star").ra == pytest.approx(269.45, abs=0.01)
