"""What a header says of an observation: star, air or vacuum, whose velocity is still in it, resolving power."""
import re
from dataclasses import dataclass, fields

import numpy as np

import paper


@dataclass(frozen=True)
class Instrument:
    """What files of an instrument leave unsaid or say in a way of their own; empty and NaN are unknown."""

    name: str  # one of NAME_KEYS begins with it
    telescopes: tuple = ()  # words of TELESCOP or OBSERVAT
    site: tuple = ()  # longitude, latitude [degree], height [m]
    resolving_power: float = np.nan  # as its makers state it
    modes: tuple = ()  # (key, word in its value, resolving power), where it has several
    medium: str = ""
    frame: str = ""
    mark: str = ""  # its keys begin with it, whatever INSTRUME says
    position: tuple = ("RA", "DEC")  # keys of the star's place
    degrees: bool = False  # in degrees, also where the first is below 24 and nothing says so
    sky: float = 0.0  # throughput of the fibre on the star in units of that on the sky; 0: nothing is subtracted
    one_is_good: bool = False  # of its masks


# Those that see the window. Sites are those of astropy-data (coordinates/sites.json) or serval (src/inst_*.py), within
# 1 km, 0.0001 km/s; what else a row says has its source beside it. A serval template is at rest in the barycentre,
# whatever exposure lent it its header
INSTRUMENTS = (
    Instrument("serval", medium="vacuum", frame="barycentre", mark="SERVAL "),
    Instrument("CARMENES", ("CALAR ALTO", "CAHA"), (-2.5463, 37.2236, 2168), paper.RESOLVING_POWER, medium="vacuum"),
    Instrument("caracal", medium="vacuum", frame="observer", mark="CARACAL "),
    # RA and DEC are the telescope's, RA in hours; the throughput in the window is from the table of muler
    Instrument("HPF", ("HET",), (-104.0147, 30.6814, 2025), 55_000, medium="vacuum", frame="observer",
               position=("QRA", "QDEC"), sky=0.951),
    Instrument("McDonald", ("MCDONALD",), (-104.0217, 30.6717, 2076)),
    Instrument("PypeIt", mark="DMODCLS", one_is_good=True),
    # "Spectroscopy, star only, R=80,000"; star and sky, and polarimetry, 65,000: OPERA, CFHT's pipeline
    Instrument("ESPADONS", ("CFHT",), (-155.4689, 19.8253, 4204), 65_000, (("INSTMODE", "R=80", 80_000),)),
    Instrument("HIRES", ("KECK",), (-155.4747, 19.8264, 4160)),
    Instrument("NARVAL", ("TBL", "PIC DU MIDI"), (0.1411, 42.9364, 2877), 65_000),  # tbl.omp.eu/platform
    # 48,000, and places in degrees, those of FIES and HERMES too: IACOB (Simon-Diaz et al.)
    Instrument("FEROS", ("LA SILLA", "MPG"), (-70.7346, -29.2584, 2400), 48_000, degrees=True),
    Instrument("UVES", ("PARANAL", "VLT"), (-70.4045, -24.6272, 2635)),
    Instrument("TRES", ("FLWO",), (-110.8781, 31.6811, 2345), 44_000),
    # RVData (EPRV-RCN): modes HR and HE, the star's place in QRA and QDEC, the Earth's velocity, still in the
    # wavelengths, in SSBRV with the order's number. The resolving power of HE was not found
    Instrument("NEID", ("WIYN",), (-111.6006, 31.9581, 2091), modes=(("OBS-MODE", "HR", 110_000),), medium="vacuum",
               frame="observer", position=("QRA", "QDEC")),
    Instrument("MAROON-X", ("GEMINI-NORTH",), (-155.4690, 19.8238, 4213), 85_000),  # gemini.edu, 80,000 to 88,000
    # DRAGONS (gemini_instruments/ghost/adclass.py, geminidr/ghost/primitives_ghost_spect.py): SMPNAME ends with the
    # mode, wavelengths are in air; Kalari et al. 2024, AJ 168, 208
    Instrument("GHOST", ("GEMINI-SOUTH",), (-70.7367, -30.2407, 2722), medium="air", modes=(
        ("SMPNAME", "HI_ONLY", 76_000), ("SMPNAME", "LO_ONLY", 56_000), ("SMPNAME", "STD_ONLY", 56_000))),
    # "F1 LowRes", "F3 MedRes" or "F4 HiRes"; air, and the Earth's velocity is still in it (IACOB, serval)
    Instrument("FIES", ("NOT",), (-17.8851, 28.7573, 2382), medium="air", frame="observer", degrees=True, modes=(
        ("FIFMSKNM", "LOW", 25_000), ("FIFMSKNM", "MED", 46_000), ("FIFMSKNM", "HI", 67_000))),
    # Raskin and Van Winckel 2014, AN 335, 32; not found: the other fibre. BVCOR is in some wavelengths, in others not
    Instrument("HERMES", ("MERCATOR",), (-17.8784, 28.7624, 2333), degrees=True, modes=(
        ("OBSMODE", "HRF", 85_000),)),
    # Tokovinin et al. 2013, PASP 125, 1336, and CTIO's pages, which give the fibre 25,000 to 30,000; its name is in FPA
    Instrument("CHIRON", ("CTIO",), (-70.8068, -30.1693, 2207), modes=(
        ("DECKER", "FIBER", 28_000), ("DECKER", "SLICER", 79_000), ("DECKER", "NARROW", 136_000),
        ("DECKER", "SLIT", 95_000))),
    Instrument("SARG", ("TNG",), (-17.8891, 28.7540, 2387)),
)
NAME_KEYS = ("INSTRUME", "INSTRUM", "FPA")
RESOLUTION_KEYS = ("SPEC_RES", "SPECRES", "RESOLUTN", "RESPOWER", "RESOL")
# Of the velocity of the Earth, in km/s, or m/s where the comment says so or no orbit is as fast
BERV_KEYS = ("CARACAL BERV", "ESO QC BERV", "ESO DRS BERV", "ESO QC VRAD BARYCOR", "BERV", "BRVCORR", "BCV", "BVCOR",
             "HELCORR", "VHELIO", "SSBRV", "BARYCORR")
FASTEST = 35.0  # [km/s] of an observer on the Earth
DISAGREE = 0.5  # [km/s] between the header's velocity and that by position and time
YES, NO = ("TRUE", "T", "1", "YES", "VACUUM", "VAC"), ("FALSE", "F", "0", "NO", "AIR")


@dataclass(frozen=True)
class Observation:
    """What is known of a spectrum beside its flux; "" and NaN are unknown."""

    name: str = ""
    instrument: str = ""
    medium: str = ""  # "air" or "vacuum"
    frame: str = ""  # "observer", or "barycentre" where the Earth's velocity is no longer in the wavelengths
    berv: float = np.nan  # [km/s] to be added to the velocity measured in the observer's frame
    ra: float = np.nan  # [degree]
    dec: float = np.nan  # [degree]
    resolving_power: float = np.nan
    conflicts: tuple = ()  # what its header says in two ways that disagree, in words


def instrument_of(header):
    """What the table knows of a header's instrument.

    Where several rows fit, such as those of serval and CARMENES, the first that says a thing.
    """
    name = _name(header).upper()
    rows = [row for row in INSTRUMENTS if name.startswith(row.name.upper())
            or row.mark and any(key.startswith(row.mark) for key in header)]
    unknown = Instrument("")
    return Instrument(**{field.name: next((getattr(row, field.name) for row in rows if _is_said(row, field.name)),
                                          getattr(unknown, field.name)) for field in fields(Instrument)})


def _name(header):
    return next((_text(header, key) for key in NAME_KEYS if _text(header, key)), "")


def _is_said(row, field):
    value = getattr(row, field)
    return value == value and value != getattr(Instrument, field, None)


def from_header(header, name):
    """Read a FITS header; a star without OBJECT is called `name`."""
    instrument = instrument_of(header)
    frame = _frame(header, instrument)
    ra, dec = _position(header, instrument)
    berv, conflicts = np.nan, ()
    if not frame and not np.isnan(_berv(header)):
        conflicts = (f"the Earth moves at {_berv(header):.2f} km/s by its header, which does not say whether that is "
                     "still in the wavelengths (SPECSYS): no correction",)
    if frame == "observer":
        berv, computed = _berv(header), barycentric_correction(header, ra, dec)
        if abs(berv - computed) > DISAGREE:
            conflicts = (f"the Earth moves at {berv:.2f} km/s by its header, {computed:.2f} by position and time",)
        berv = computed if np.isnan(berv) else berv
    return Observation(
        name=_text(header, "OBJECT") or name, instrument=_name(header), frame=frame,
        medium=_medium(header, instrument), berv=berv, ra=ra, dec=dec,
        resolving_power=_resolving_power(header, instrument), conflicts=conflicts,
    )


def _resolving_power(header, instrument):
    stated = [float(header[key]) for key in RESOLUTION_KEYS if _number(header.get(key)) > 1000]
    modes = [float(power) for key, word, power in instrument.modes if word in _text(header, key).upper()]
    return next(iter([*stated, *modes]), float(instrument.resolving_power))


def _berv(header):
    """Velocity of the Earth that a header states [km/s], of an order each the middle one; NaN if none."""
    for known in BERV_KEYS:
        keys = [key for key in header if re.fullmatch(rf"{known}\d*", key)]
        values = [_number(header[key]) for key in keys]
        metres = ["m/s" in _comment(header, key).replace("km/s", "") or abs(value) > FASTEST
                  for key, value in zip(keys, values)]
        values = np.where(metres, np.divide(values, 1000), values)
        if (np.abs(values) < FASTEST).any():
            return float(np.median(values[np.abs(values) < FASTEST]))
    return np.nan


def barycentric_correction(header, ra, dec):
    """Velocity of the observer towards a star at `ra`, `dec` [degree], in km/s, by astropy without any download.

    NaN if date, exposure time or a known TELESCOP or OBSERVAT is missing.
    """
    place = f"{_text(header, 'TELESCOP')} {_text(header, 'OBSERVAT')}".upper()
    site = next((row.site for row in INSTRUMENTS for word in row.telescopes if re.search(rf"\b{word}\b", place)), None)
    date = _text(header, "DATE-OBS") if "T" in _text(header, "DATE-OBS") else _number(header.get("MJD-OBS"))
    if site is None or np.isnan(ra + dec) or date != date:
        return np.nan
    from astropy import units
    from astropy.coordinates import EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    exposure = next((_number(header.get(key)) for key in ("EXPTIME", "ITIME", "EXPOSURE") if key in header), 0.0)
    location = EarthLocation.from_geodetic(site[0] * units.deg, site[1] * units.deg, site[2] * units.m)
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
        try:
            time = Time(date, format=None if isinstance(date, str) else "mjd", scale="utc")
            middle = time + (exposure if exposure == exposure else 0.0) / 2 * units.s
            star = SkyCoord(ra * units.deg, dec * units.deg)
            return star.radial_velocity_correction(obstime=middle, location=location).to_value(units.km / units.s)
        except ValueError:  # a date that is none
            return np.nan


def _frame(header, instrument):
    stated = _text(header, "SPECSYS").upper()
    applied = "applied" in _comment(header, "BERV").lower()  # as DRAGONS says it
    if stated.startswith(("BARY", "HELIO")) or applied:
        return "barycentre"
    return instrument.frame or "observer" * stated.startswith("TOPO")


def _medium(header, instrument):
    words = f"{_text(header, 'AIRORVAC')} {_text(header, 'TUCD1')}".lower()
    axis = _text(header, "CTYPE1").upper()
    answer = str(header.get("VACUUM", "")).strip().upper()
    if answer in (*YES, *NO):
        return "vacuum" if answer in YES else "air"
    if "air" in words or "obs.atmos" in words or axis.startswith("AWAV"):
        return "air"
    if "vac" in words or "em.wl" in words or re.match(r"WAVE(-|$)", axis):
        return "vacuum"
    return instrument.medium


def _position(header, instrument):
    """Right ascension and declination [degree], NaN where the header leaves open whether the first is in hours.

    Three numbers are hours and degrees with minutes and seconds. One number beyond 24 is in degrees; up to 24 the
    comment or the table of instruments must say which.
    """
    ra, dec = instrument.position
    values = [str(header.get(key)) for key in (ra, dec)]
    unit = "deg"
    if all(len(re.findall(r"[\d.]+", value)) == 3 for value in values):
        unit = "hourangle"
    elif _number(values[0]) <= 24:
        comment = _comment(header, ra).lower()
        in_degrees, in_hours = "deg" in comment, re.search(r"hour|\[h", comment)
        in_hours = in_hours or not in_degrees and re.search(r"\bh(h|rs?)?\b", comment)
        unit = "hourangle" if in_hours else "deg" * (in_degrees or instrument.degrees)
    if not unit:
        return np.nan, np.nan
    from astropy.coordinates import SkyCoord

    try:
        star = SkyCoord(*values, unit=(unit, "deg"))
    except ValueError:
        return np.nan, np.nan
    return star.ra.deg, star.dec.deg


def _comment(header, key):
    return str(header.comments[key]) if hasattr(header, "comments") and key in header else ""


def _text(header, key):
    value = header.get(key, "")
    return " ".join(str(value).split()) if isinstance(value, (str, int, float)) else ""


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan
