"""What a header says of an observation: star, air or vacuum, whose velocity is still in it, resolving power."""
import re
from dataclasses import dataclass, fields

import numpy as np

import paper


@dataclass(frozen=True)
class Instrument:
    """What files of an instrument leave unsaid or say in a way of their own; empty and NaN are unknown."""

    name: str  # INSTRUME begins with it
    telescopes: tuple = ()  # words of TELESCOP or OBSERVAT
    site: tuple = ()  # longitude, latitude [degree], height [m]
    resolving_power: float = np.nan  # as its makers state it
    medium: str = ""
    frame: str = ""
    mark: str = ""  # its keys begin with it, whatever INSTRUME says
    position: tuple = ("RA", "DEC")  # keys of the star's place
    sky: float = 0.0  # throughput of the fibre on the star in units of that on the sky; 0: nothing is subtracted


# Those that see the window. A serval template is at rest in the barycentre, whatever exposure lent it its header.
INSTRUMENTS = (
    Instrument("serval", medium="vacuum", frame="barycentre", mark="SERVAL "),
    Instrument("CARMENES", ("CALAR ALTO", "CAHA"), (-2.5463, 37.2236, 2168), paper.RESOLVING_POWER, "vacuum"),
    Instrument("caracal", medium="vacuum", frame="observer", mark="CARACAL "),
    # RA and DEC are the telescope's, RA in hours; the throughput in the window is from the table of muler
    Instrument("HPF", ("HET",), (-104.0147, 30.6814, 2025), 55_000, "vacuum", "observer", position=("QRA", "QDEC"),
               sky=0.951),
    Instrument("McDonald", ("MCDONALD",), (-104.0217, 30.6717, 2076)),
    Instrument("ESPADONS", ("CFHT",), (-155.4689, 19.8253, 4204), 65_000),
    Instrument("HIRES", ("KECK",), (-155.4747, 19.8264, 4160)),
    Instrument("NARVAL", ("TBL", "PIC DU MIDI"), (0.1411, 42.9364, 2877), 65_000),
    Instrument("FEROS", ("LA SILLA", "MPG"), (-70.7346, -29.2584, 2400), 48_000),
    Instrument("UVES", ("PARANAL", "VLT"), (-70.4045, -24.6272, 2635)),
    Instrument("TRES", ("FLWO",), (-110.8781, 31.6811, 2345), 44_000),
    Instrument("NEID", ("WIYN",), (-111.6003, 31.9584, 2096), 110_000),
    Instrument("MAROON-X", ("GEMINI-NORTH",), (-155.4691, 19.8238, 4213), 85_000),
    Instrument("FIES", ("NOT",), (-17.8851, 28.7573, 2382), 67_000),
    Instrument("HERMES", ("MERCATOR",), (-17.8784, 28.7624, 2333), 85_000),
    Instrument("SARG", ("TNG",), (-17.8891, 28.7540, 2387)),
)
RESOLUTION_KEYS = ("SPEC_RES", "SPECRES", "RESOLUTN", "RESPOWER")
BERV_KEYS = {  # and what makes km/s of them
    "CARACAL BERV": 1, "ESO QC BERV": 1, "ESO DRS BERV": 1, "ESO QC VRAD BARYCOR": 1, "BERV": 1, "BRVCORR": 1e-3,
}


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


def instrument_of(header):
    """What the table knows of a header's instrument.

    Where several rows fit, such as those of serval and CARMENES, the first that says a thing.
    """
    name = _text(header, "INSTRUME").upper()
    rows = [row for row in INSTRUMENTS if name.startswith(row.name.upper())
            or row.mark and any(key.startswith(row.mark) for key in header)]
    unknown = Instrument("")
    return Instrument(**{field.name: next((getattr(row, field.name) for row in rows if _is_said(row, field.name)),
                                          getattr(unknown, field.name)) for field in fields(Instrument)})


def _is_said(row, field):
    value = getattr(row, field)
    return value == value and value != getattr(Instrument, field, None)


def from_header(header, name):
    """Read a FITS header; a star without OBJECT is called `name`."""
    instrument = instrument_of(header)
    stated = [header[key] for key in RESOLUTION_KEYS if _number(header.get(key)) > 1000]
    frame = _frame(header, instrument)
    ra, dec = _position(header, instrument)
    berv = np.nan
    if frame == "observer":
        velocities = [_number(header.get(key)) * factor for key, factor in BERV_KEYS.items() if key in header]
        berv = next((value for value in velocities if abs(value) < 100), np.nan)
        if np.isnan(berv):
            berv = barycentric_correction(header, ra, dec)
    return Observation(
        name=_text(header, "OBJECT") or name, instrument=_text(header, "INSTRUME"), frame=frame,
        medium=_medium(header, instrument), berv=berv, ra=ra, dec=dec,
        resolving_power=float(stated[0] if stated else instrument.resolving_power),
    )


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
    if stated.startswith(("BARY", "HELIO")):
        return "barycentre"
    return instrument.frame or "observer" * stated.startswith("TOPO")


def _medium(header, instrument):
    words = f"{_text(header, 'AIRORVAC')} {_text(header, 'TUCD1')}".lower()
    axis = _text(header, "CTYPE1").upper()
    if "VACUUM" in header:
        return "vacuum" if str(header["VACUUM"]).strip().upper() in ("TRUE", "T", "1", "YES") else "air"
    if "air" in words or "obs.atmos" in words or axis.startswith("AWAV"):
        return "air"
    if "vac" in words or "em.wl" in words or re.match(r"WAVE(-|$)", axis):
        return "vacuum"
    return instrument.medium


def _position(header, instrument):
    """Right ascension and declination [degree]; numbers are in degrees, texts with colons in hours and degrees."""
    ra, dec = (header.get(key) for key in instrument.position)
    if ":" in str(ra) and ":" in str(dec):
        from astropy.coordinates import SkyCoord

        try:
            star = SkyCoord(ra, dec, unit=("hourangle", "deg"))
        except ValueError:
            return np.nan, np.nan
        ra, dec = star.ra.deg, star.dec.deg
    ra, dec = _number(ra), _number(dec)
    return (ra, dec) if 0 <= ra <= 360 and -90 <= dec <= 90 else (np.nan, np.nan)


def _text(header, key):
    value = header.get(key, "")
    return " ".join(str(value).split()) if isinstance(value, (str, int, float)) else ""


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan
