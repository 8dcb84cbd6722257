"""Spectrum files of any instrument as wavelength [Angstrom], flux and error, each form told by its content.

FITS: tables, image extensions with names (CARMENES, serval, HPF), images with a wavelength axis, multispec of IRAF.
Text: CSV, columns between blanks, ESPaDOnS and NARVAL `.s`. All but the text is opened by astropy.
"""
import gzip
import io
import re
import warnings
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.polynomial import chebyshev, legendre
from scipy import ndimage

from observations import headers, orders
from workflow.files import UnitFailed, one_line

# Names of columns and extensions, small letters and digits only, in order of preference
ROLES = {
    "wave": ("wave", "wavelength", "wavelengths", "lambda", "lam", "wl", "wavl", "waveair", "wavevac", "wavelengthair",
             "wavelengthvac", "wavelengthvacuum", "loglam", "loglambda", "logwave", "lnwave", "lnlambda"),
    "flux": ("flux", "spec", "spectrum", "intensity", "fluxes", "counts", "normflux", "fluxnorm"),
    "error": ("err", "error", "sig", "sigma", "fluxerr", "fluxerror", "eflux", "errflux", "uncertainty", "unc",
              "stdev"),
    "variance": ("var", "variance"),
    "ivar": ("ivar", "inversevariance"),
    "flag": ("qual", "quality", "flag", "flags", "dq", "mask", "andmask"),
}
SKY_SMOOTHING = 101  # [pixel] of the running median of a fibre on the sky; this and the next two are ours
SKY_LINE, SKY_NARROWEST = 5, 3  # standard deviations of the sky's noise, and [pixel] in a row: fewer are a cosmic hit
SKY_WING = 2  # [pixel] to each side of a line that belong to it


def read(path, columns=(), unit="", medium=""):
    """Read a spectrum: an orders.Spectrum.

    Parameters
    ----------
    path : Path
    columns : sequence of str
        Names, or numbers from 1, of the columns of wavelength, flux and, if there is a third, error.
    unit : str
        One of `orders.UNITS`, where the file says nothing or something wrong.
    medium : str
        "air" or "vacuum", likewise.
    """
    content = _content(path)
    name = re.sub(r"\.(fits?|fts|csv|txt|dat|tsv|asc|s)(\.gz)?$|\.gz$", "", path.name, flags=re.I)
    reader = _read_fits if content.startswith(b"SIMPLE  =") else _read_text
    arrays, stated, observation, form = reader(content, name, columns)
    observation = replace(observation, medium=medium or observation.medium)
    return orders.from_columns(arrays, unit or stated, bool(unit), observation, form)


def _content(path):
    """The bytes of a file, without the gzip."""
    if path.is_dir():
        raise UnitFailed("is a folder: name the files in it")
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UnitFailed("its gzip ends early or is damaged: fetch it again") from None
    except OSError as error:
        raise UnitFailed(f"cannot be read ({one_line(error.strerror)})") from None
    if not content.strip():
        raise UnitFailed("is empty")
    return content


# ---------------------------------------------------------------- FITS
def _read_fits(content, name, columns):
    """Arrays by role, the stated unit, the observation and the form."""
    from astropy.io import fits  # takes as long to import as a text file to read

    for key, value in re.findall(rb"(NAXIS\d*|[PG]COUNT|TFIELDS) *= *([+-]?\d+)", content):
        if int(value) < 0 or (key in (b"NAXIS", b"TFIELDS") and int(value) > 999):  # astropy would never come back
            raise UnitFailed(f"is a damaged FITS file ({key.decode()} is {value.decode()}): fetch it again")
    try:
        with warnings.catch_warnings(record=True) as caught, fits.open(io.BytesIO(content), memmap=False) as hdus:
            warnings.simplefilter("always")  # most are about standards that headers do not keep
            if len(hdus) and any("truncated" in str(warning.message) for warning in caught):
                raise UnitFailed("is a FITS file that ends early: fetch it again")
            header = hdus[0].header.copy()
            spectrum = (_from_extensions(hdus, columns, header) or _from_multispec(hdus)
                        or _from_table(hdus, columns, header) or _from_image(hdus, header))
            observation = headers.from_header(header, name)
    except UnitFailed:
        raise
    except Exception as error:  # astropy raises all kinds on damaged files
        raise UnitFailed(f"is a damaged FITS file ({one_line(error)}): fetch it again") from None
    if not spectrum:
        raise UnitFailed("is a FITS file without a spectrum that is known here: no image with CRVAL1 and CDELT1, no "
                         "table or extensions with wavelength and flux; name the latter with --columns")
    arrays, unit, form = spectrum
    return arrays, unit, observation, form


def _from_extensions(hdus, columns, header):
    """Image extensions by name; of several fibres the one that saw the star."""
    images = {}
    for hdu in hdus[1:]:
        if hdu.is_image and hdu.header["NAXIS"] in (1, 2):
            images.setdefault(_plain(re.sub(r"^sci\b", "", hdu.name.strip(), flags=re.I)), hdu)
    roles = _roles(list(images), columns)
    if not {"wave", "flux"} <= set(roles):
        return None
    unit = str(images[roles["wave"]].header.get("BUNIT", ""))
    arrays = {role: images[key].data for role, key in roles.items()}
    throughput = headers.instrument_of(header).sky
    if not throughput or not {"skyflux", "skywavl"} <= set(images) or roles["flux"] != "flux":
        return arrays, unit, "FITS extensions"
    return _less_sky(arrays, images, throughput), unit, "FITS extensions, less the sky"


def _less_sky(arrays, images, throughput):
    """What the fibre on the star saw less what that on the sky did, whose noise is added where a line was taken."""
    sky = {key[3:]: hdu.data.astype(float) for key, hdu in images.items() if key.startswith("sky")}
    variance = sky.get("variance", sky.get("error", np.zeros_like(sky["flux"])) ** 2)
    rows = [_sky(*order) for order in zip(arrays["wave"], sky["wavl"], sky["flux"], variance)]
    flux, variance = np.swapaxes(rows, 0, 1)
    less = {**arrays, "flux": arrays["flux"] - throughput * flux}
    if "variance" in arrays:
        less["variance"] = arrays["variance"] + throughput**2 * variance
    if "error" in arrays:
        less["error"] = np.hypot(arrays["error"], throughput * np.sqrt(variance))
    return less


def _sky(wave, wave_sky, flux, variance):
    """Sky and its variance at the star's pixels: a running median, free of noise, and the lines that rise above it."""
    known = np.isfinite(flux + variance)
    if not known.any():
        return np.zeros((2, len(wave)))
    flux, variance = flux[known], variance[known]
    smooth = ndimage.median_filter(flux, SKY_SMOOTHING)
    high = flux - smooth > SKY_LINE * 1.4826 * np.median(np.abs(flux - smooth))
    lines = ndimage.binary_dilation(ndimage.binary_opening(high, np.ones(SKY_NARROWEST)), iterations=SKY_WING)
    return [np.interp(wave, wave_sky[known], array) for array in (np.where(lines, flux, smooth), lines * variance)]


def _from_table(hdus, columns, header):
    """The first table with columns of wavelength and flux; adds what its header says to `header`."""
    tables = [hdu for hdu in hdus if hasattr(hdu, "columns") and hdu.data is not None]
    for hdu in tables:
        by_name = {_plain(column): column for column in hdu.columns.names}
        roles = _roles(list(by_name), columns)
        if {"wave", "flux"} <= set(roles):
            column = hdu.columns[by_name[roles["wave"]]]
            number = hdu.columns.names.index(column.name) + 1
            header.update({key: value for key, value in hdu.header.items() if key in ("SPECSYS", "VACUUM", "OBJECT")})
            header["TUCD1"] = f"{hdu.header.get(f'TUCD{number}', '')} {_medium_in(column.name)}".strip()
            return {role: hdu.data[by_name[key]] for role, key in roles.items()}, column.unit or "", "FITS table"
    if tables:
        raise UnitFailed(f"its table has the columns {', '.join(tables[0].columns.names[:8])}: say which are "
                         "wavelength and flux with --columns")
    return None


def _from_multispec(hdus):
    """IRAF's multispec, an order a row; of several bands the first, and the one of errors if there is."""
    for hdu in (hdu for hdu in hdus if hdu.is_image and str(hdu.header.get("CTYPE1", "")).startswith("MULTISPE")):
        words = {axis: "".join(f"{hdu.header[key]:68}" for key in sorted(hdu.header[f"WAT{axis}_*"])) for axis in "12"}
        rows = re.findall(r'spec\d+\s*=\s*"([^"]*)"', words["2"])
        bands = [np.atleast_2d(band) for band in (hdu.data if hdu.data.ndim == 3 else [hdu.data])]
        flux = bands[0]
        if len(rows) != len(flux):
            raise UnitFailed(f"has {len(flux)} rows, but WAT2_001 and on say the wavelengths of {len(rows)}")
        pixels = np.arange(1.0, flux.shape[1] + 1)  # of what was cut out or binned; the functions know the whole's
        pixels = (pixels - hdu.header.get("LTV1", 0)) / hdu.header.get("LTM1_1", 1)
        arrays = {"wave": [_dispersion(row.split(), pixels) for row in rows], "flux": flux}
        for number, band in enumerate(bands, 1):
            if str(hdu.header.get(f"BANDID{number}", "")).startswith("sigma"):
                arrays["error"] = band
        stated = re.search(r"units\s*=\s*(\w+)", words["1"])
        return arrays, stated[1] if stated else "", "FITS image, multispec of IRAF"
    return None


def _dispersion(row, pixels):
    """Wavelengths of a row at IRAF's physical pixels, NaN beyond its end (Valdes 1993, ASPC 52, 467; specwcs).

    `row`: aperture, beam, type, first, step, number of pixels, redshift, two more, and then the functions.
    """
    kind, first, step, n_valid, redshift = (float(field) for field in row[2:7])
    wave, rest = np.zeros(len(pixels)), [float(field) for field in row[9:]]
    if kind in (0, 1):
        wave = first + step * (pixels - 1)
        wave = 10**wave if kind == 1 else wave
    while kind == 2 and rest:
        weight, zero, function, n_coefficients, low, high = rest[:6]
        series = {1: chebyshev.chebval, 2: legendre.legval}.get(function)
        if series is None:
            raise UnitFailed("its wavelengths are splines or a list (multispec of IRAF): only polynomials are read")
        end = 6 + int(n_coefficients)
        wave, rest = wave + weight * (zero + series((2 * pixels - low - high) / (high - low), rest[6:end])), rest[end:]
    return np.where((pixels <= n_valid) & (wave > 0), wave / (1 + redshift), np.nan)


def _from_image(hdus, header):
    """The first image with a linear or logarithmic wavelength axis."""
    for hdu in (hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"] and "CRVAL1" in hdu.header):
        flux = np.squeeze(hdu.data)
        if flux.ndim != 1:
            raise UnitFailed(f"is {'a cube' if flux.ndim > 2 else 'an image'} of {' by '.join(map(str, flux.shape))} "
                             "pixels, no single spectrum: extract that first")
        step = hdu.header.get("CDELT1", hdu.header.get("CD1_1"))
        if not step:
            raise UnitFailed("has CRVAL1 and no CDELT1: its wavelengths are unknown")
        start, reference = hdu.header["CRVAL1"], hdu.header.get("CRPIX1", 1)
        wave = start + (np.arange(len(flux)) + 1 - reference) * step
        axis = str(hdu.header.get("CTYPE1", ""))
        logarithmic = "LOG" in axis.upper() or hdu.header.get("DC-FLAG") == 1
        if axis.upper().endswith("-LOG") and start > 100:  # as the FITS standard has it, Greisen et al. 2006
            wave, logarithmic = start * np.exp((wave - start) / start), False
        header.update({key: hdu.header[key] for key in ("CTYPE1", "SPECSYS", "VACUUM") if key in hdu.header})
        unit = "" if logarithmic else str(hdu.header.get("CUNIT1", ""))
        return {"wave": wave, "flux": flux}, unit, "FITS image"
    return None


# ---------------------------------------------------------------- text
def _read_text(content, name, columns):
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if "\0" in text:
        raise UnitFailed("is neither FITS nor text")
    lines = [line.strip() for line in text.splitlines()]
    if lines[0].startswith("***"):
        return _read_libre_esprit(lines, name)
    rows = [line for line in lines if line and line[0] not in "#%!"]
    if not rows:
        raise UnitFailed("has no rows of numbers")
    separator = next((mark for mark in ";\t," if mark in rows[0]), r"\s+")
    heading = _cells(rows[0], separator)
    if all(_is_number(cell) for cell in heading):
        comment = next((line for line in reversed(lines[: lines.index(rows[0])]) if line), "")
        named = _cells(comment.lstrip("#%! "), separator)
        heading = named if len(named) == len(heading) and not any(map(_is_number, named)) else []
    else:
        rows = rows[1:]
    table = _numbers(rows, separator)
    names = heading or [str(number) for number in range(1, table.shape[1] + 1)]
    if len(names) != table.shape[1]:
        raise UnitFailed(f"has {len(names)} headings and {table.shape[1]} columns")
    by_name = dict(zip(map(_plain, names), table.T))
    roles = _roles(list(by_name), columns)
    if not heading and not columns and len(names) > 1:
        roles = dict(zip(("wave", "flux", "error")[: 3 if len(names) == 3 else 2], by_name))
    if not {"wave", "flux"} <= set(roles):
        raise UnitFailed(f"has the columns {', '.join(names[:8])}: say which are wavelength and flux with --columns")
    wave_name = names[list(by_name).index(roles["wave"])]
    unit = re.search(r"[\[(]\s*([^\])]*?)\s*[\])]", wave_name)
    observation = headers.Observation(name=name, medium=_medium_in(wave_name))
    form = ("CSV" if separator in ",;" else "text") + ("" if heading else " without heading")
    return {role: by_name[key] for role, key in roles.items()}, unit[1] if unit else "", observation, form


def _read_libre_esprit(lines, name):
    """The form of ESPaDOnS and NARVAL: star, number of rows, then nm in air, in the barycentre, flux, ..., error."""
    star = re.search(r"of\s+'?(.*?)\s*'?$", lines[0])
    first = next((k for k, line in enumerate(lines[1:4], 1) if len(line.split()) > 2), 1)
    table = _numbers([line for line in lines[first:] if line], r"\s+")
    if table.shape[1] < 2:
        raise UnitFailed("has the first line of a .s file and no columns of wavelength and flux")
    arrays = {"wave": table[:, 0], "flux": table[:, 1]} | ({"error": table[:, -1]} if table.shape[1] > 2 else {})
    observation = headers.Observation(
        name=(star[1] if star else "") or name, instrument="ESPaDOnS or NARVAL", medium="air", frame="barycentre",
        resolving_power=headers.instrument_of({"INSTRUME": "ESPADONS"}).resolving_power)
    return arrays, "nm", observation, ".s of ESPaDOnS or NARVAL"


def _numbers(rows, separator):
    """A table of floats; empty cells and "nan" are NaN."""
    decimal = "," if separator == ";" and any("," in row for row in rows[:3]) else "."
    try:
        table = pd.read_csv(io.StringIO("\n".join(rows)), sep=separator, header=None, decimal=decimal, comment="#",
                            skipinitialspace=True)
        return table.dropna(axis=1, how="all").to_numpy(float)
    except (ValueError, pd.errors.ParserError) as error:
        raise UnitFailed(f"is no table of numbers ({one_line(error)[:80]})") from None


def _cells(line, separator):
    return [cell.strip().strip('"') for cell in re.split(r"\s+" if separator == r"\s+" else separator, line.strip())]


def _is_number(text):
    return re.fullmatch(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eEdD][+-]?\d+)?|nan", text.strip(), re.I) is not None


# ---------------------------------------------------------------- names
def _plain(name):
    """A name in small letters and digits, without a unit in brackets."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"[\[(].*", "", str(name)).lower())


def _roles(names, columns):
    """Which of the plain names is wave, flux, ...; `columns` goes before what the names say, and all must exist."""
    roles = {role: next((name for name in known if name in names), None) for role, known in ROLES.items()}
    for role, column in zip(("wave", "flux", "error"), columns):
        name = _plain(column)
        if name not in names and column.isdigit() and 1 <= int(column) <= len(names):
            name = names[int(column) - 1]
        if name not in names:
            return {}
        roles[role] = name
    return {role: name for role, name in roles.items() if name}


def _medium_in(name):
    return next((medium for medium in ("air", "vacuum") if medium[:3] in name.lower()), "")
