"""What a header says of an observation: star, air or vacuum, whose velocity is still in it, resolving power."""
import re
from dataclasses import dataclass

import numpy as np

import paper

# Resolving power of instruments that see the window, as their makers state it, where a file does not
RESOLVING_POWER = {
    "HPF": 55_000, "CARMENES": paper.RESOLVING_POWER, "ESPADONS": 65_000, "NARVAL": 65_000, "FEROS": 48_000,
    "TRES": 44_000, "NEID": 110_000, "MAROON-X": 85_000, "HERMES": 85_000, "FIES": 67_000,
}
# Longitude, latitude [degree] and height [m]; found by OBSERVAT or TELESCOP
SITES = {
    "HET": (-104.0147, 30.6814, 2025), "MCDONALD": (-104.0217, 30.6717, 2076), "CALAR ALTO": (-2.5463, 37.2236, 2168),
    "CAHA": (-2.5463, 37.2236, 2168), "CFHT": (-155.4689, 19.8253, 4204), "KECK": (-155.4747, 19.8264, 4160),
    "TBL": (0.1411, 42.9364, 2877), "PIC DU MIDI": (0.1411, 42.9364, 2877), "LA SILLA": (-70.7346, -29.2584, 2400),
    "MPG": (-70.7346, -29.2584, 2400), "PARANAL": (-70.4045, -24.6272, 2635), "VLT": (-70.4045, -24.6272, 2635),
    "FLWO": (-110.8781, 31.6811, 2345), "WIYN": (-111.6003, 31.9584, 2096), "GEMINI-NORTH": (-155.4691, 19.8238, 4213),
    "NOT": (-17.8851, 28.7573, 2382), "MERCATOR": (-17.8784, 28.7624, 2333), "TNG": (-17.8891, 28.7540, 2387),
}
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


def from_header(header, name):
    """Read a FITS header.

    Parameters
    ----------
    header : astropy.io.fits.Header or dict
    name : str
        Of the star where the header has none.

    Returns
    -------
    Observation
    """
    instrument = _text(header, "INSTRUME")
    known = next((key for key in RESOLVING_POWER if instrument.upper().startswith(key)), "")
    stated = [header[key] for key in RESOLUTION_KEYS if _number(header.get(key)) > 1000]
    frame = _frame(header, known)
    ra, dec = _position(header, known)
    berv = np.nan
    if frame == "observer":
        in_header = [_number(header.get(key)) * factor for key, factor in BERV_KEYS.items() if key in header]
        berv = next((value for value in in_header if abs(value) < 100), np.nan)
        if np.isnan(berv):
            berv = barycentric_correction(header, ra, dec)
    return Observation(
        name=_text(header, "OBJECT") or name, instrument=instrument, medium=_medium(header, known), frame=frame,
        berv=berv, ra=ra, dec=dec, resolving_power=float(stated[0] if stated else RESOLVING_POWER.get(known, np.nan)),
    )


def barycentric_correction(header, ra, dec):
    """Velocity of the observer towards the star [km/s], by astropy without any download; NaN if something is missing.

    Parameters
    ----------
    header : astropy.io.fits.Header or dict
        DATE-OBS or MJD-OBS, exposure time [s], and TELESCOP or OBSERVAT, one of those that `SITES` has.
    ra, dec : float
        [degree]
    """
    place = f"{_text(header, 'TELESCOP')} {_text(header, 'OBSERVAT')}".upper()
    site = next((place_of for name, place_of in SITES.items() if re.search(rf"\b{name}\b", place)), None)
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
    if stated.startswith(("BARY", "HELIO")) or any(key.startswith("SERVAL ") for key in header):
        return "barycentre"
    if stated.startswith("TOPO") or instrument == "HPF" or "CARACAL BERV" in header:
        return "observer"
    return ""


def _medium(header, instrument):
    words = f"{_text(header, 'AIRORVAC')} {_text(header, 'TUCD1')}".lower()
    axis = _text(header, "CTYPE1").upper()
    if "VACUUM" in header:
        return "vacuum" if str(header["VACUUM"]).strip().upper() in ("TRUE", "T", "1", "YES") else "air"
    if "air" in words or "obs.atmos" in words or axis.startswith("AWAV"):
        return "air"
    if "vac" in words or "em.wl" in words or re.match(r"WAVE(-|$)", axis) or instrument in ("HPF", "CARMENES"):
        return "vacuum"
    return "vacuum" if any(key.startswith(("CARACAL ", "SERVAL ")) for key in header) else ""


def _position(header, instrument):
    """Right ascension and declination [degree]; HPF writes RA in hours, and the catalogue's as QRA, QDEC."""
    keys = ("QRA", "QDEC") if instrument == "HPF" else ("RA", "DEC")
    found = []
    for key, hours in zip(keys, (15, 1)):
        parts = re.findall(r"[\d.]+", _text(header, key)) if ":" in _text(header, key) else []
        if len(parts) == 3:
            value = hours * sum(float(part) / 60**place for place, part in enumerate(parts))
            found.append(-value if _text(header, key).startswith("-") else value)
        else:
            found.append(_number(header.get(key)))
    ra, dec = found
    return (ra, dec) if 0 <= ra <= 360 and -90 <= dec <= 90 else (np.nan, np.nan)


def _text(header, key):
    value = header.get(key, "")
    return " ".join(str(value).split()) if isinstance(value, (str, int, float)) else ""


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan
