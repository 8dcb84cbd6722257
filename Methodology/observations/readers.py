"""Spectrum files of any instrument as wavelength [Angstrom], flux and error, each form told by its content.

FITS: extensions and tables with names (CARMENES, serval, HPF, NEID, GHOST, ESO, PypeIt), images with a wavelength axis,
multispec of IRAF, and whatever has a row, plane or column of wavelengths (CHIRON, ESPaDOnS at CADC). Text: CSV, columns
between blanks, ESPaDOnS and NARVAL `.s`. Of all that a file holds what covers the window is taken. astropy opens FITS;
its tables of text would guess for seconds what pandas reads at once.
"""
import gzip
import io
import re
import warnings
import zlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.polynomial import chebyshev, legendre
from scipy import ndimage

from observations import headers, orders
from workflow.files import UnitFailed, one_line

# Names of columns and extensions, small letters and digits only, in order of preference
ROLES = {
    "wave": ("wave", "wavelength", "wavelengths", "lambda", "lam", "wl", "wavl", "waveair", "wavevac", "wavelengthair",
             "wavelengthvac", "wavelengthvacuum", "loglam", "loglambda", "logwave", "lnwave", "lnlambda", "waveobs",
             "sciwave", "optwave", "boxwave", "wavenumber"),
    "flux": ("flux", "spec", "spectrum", "intensity", "fluxes", "counts", "normflux", "fluxnorm", "sciflux",
             "optcounts", "boxcounts", "sci"),
    "error": ("err", "error", "sig", "sigma", "fluxerr", "fluxerror", "eflux", "errflux", "uncertainty", "unc",
              "stdev"),
    "variance": ("var", "variance", "scivar"),
    "ivar": ("ivar", "inversevariance", "optcountsivar", "boxcountsivar"),
    "flag": ("qual", "quality", "flag", "flags", "dq", "mask", "andmask", "optmask", "boxmask"),
}
LARGEST = 10**9  # [bytes] of a file, unpacked
SKY_SMOOTHING = 101  # [pixel] of the running median of a fibre on the sky; this and the next two are ours
SKY_LINE, SKY_NARROWEST = 5, 3  # standard deviations of the sky's noise, and [pixel] in a row: fewer are a cosmic hit
SKY_WING = 2  # [pixel] to each side of a line that belong to it
INVERSE = -0.5  # correlation of an array with the flux below which it is no error
MOST_PLANES = 24  # of an array without names: more are pixels, and no roles
# Of an extension's header that go before the primary one's
OWN_KEYS = ("OBJECT", "SPECSYS", "VACUUM", "CTYPE1", *headers.RESOLUTION_KEYS)


@dataclass(frozen=True)
class Candidate:
    """One of the spectra that a file may hold: arrays by role, and what is said of them."""

    arrays: dict
    unit: str  # of the wavelengths, as stated; "" if not
    form: str
    observation: headers.Observation


def read(path, columns=(), unit="", medium=""):
    """Read a spectrum: an orders.Spectrum.

    `columns` are names, or numbers from 1, of the columns of wavelength, flux and, if there is a third, error; in FITS
    files also names or numbers of extensions, and EXTENSION:COLUMN. `unit`, one of orders.UNITS, and `medium`, "air" or
    "vacuum", go before what the file says.
    """
    content = _content(path)
    name = re.sub(r"\.(fits?|fts|csv|txt|dat|tsv|asc|s)(\.gz|\.fz)?$|\.gz$", "", path.name, flags=re.I)
    groups = (_fits_groups if content.startswith(b"SIMPLE  =") else _text_groups)(content, name, columns)
    missed = []
    for candidates in groups:
        spectra = []
        for candidate in candidates:
            observation = replace(candidate.observation, medium=medium or candidate.observation.medium)
            try:
                spectra.append(orders.from_columns(candidate.arrays, unit or candidate.unit, bool(unit), observation,
                                                   candidate.form))
            except UnitFailed as error:
                missed.append(error)
            except (ValueError, TypeError) as error:  # arrays that are no numbers
                missed.append(UnitFailed(f"cannot be used ({type(error).__name__}: {one_line(error)})"))
        if spectra:
            return orders.joined(spectra)
    raise missed[0]


def check(path):
    """Refuse what is no file of a spectrum: a folder, a pipe that would be waited for, a device without an end."""
    if path.is_dir():
        raise UnitFailed("is a folder: name the files in it")
    if path.exists() and not path.is_file():
        raise UnitFailed("is no regular file: save it to one, and name that")
    if path.exists() and path.stat().st_size > LARGEST:
        raise UnitFailed(f"has more than {LARGEST / 1e9:.0f} GB: extract the orders of the window first")


def _content(path):
    """The bytes of a file, without the gzip."""
    check(path)
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.open(io.BytesIO(content)).read(LARGEST + 1)
            if len(content) > LARGEST:
                raise UnitFailed(f"unpacks to more than {LARGEST / 1e9:.0f} GB: it is no spectrum")
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UnitFailed("its gzip ends early or is damaged: fetch it again") from None
    except OSError as error:
        raise UnitFailed(f"cannot be read ({one_line(error.strerror)})") from None
    if not content.strip():
        raise UnitFailed("is empty")
    return content


# ---------------------------------------------------------------- FITS
def _fits_groups(content, name, columns):
    """Yield lists of candidates, the surest kind first, until one covers the window."""
    from astropy.io import fits  # takes as long to import as a text file to read

    for key, value in re.findall(rb"(NAXIS\d*|[PG]COUNT|TFIELDS) *= *([+-]?\d+)", content):
        if int(value) < 0 or (key in (b"NAXIS", b"TFIELDS") and int(value) > 999):  # astropy would never come back
            raise UnitFailed(f"is a damaged FITS file ({key.decode()} is {value.decode()}): fetch it again")
    try:
        with warnings.catch_warnings(record=True) as caught, fits.open(io.BytesIO(content), memmap=False) as hdus:
            warnings.simplefilter("always")  # most are about standards that headers do not keep
            if len(hdus) and any("truncated" in str(warning.message) for warning in caught):
                raise UnitFailed("is a FITS file that ends early: fetch it again")
            kinds = (_named,) if columns else (_extensions, _multispec, _tables, _images, _planes)
            is_known = False
            for kind in kinds:
                candidates = list(kind(hdus, name, columns))
                if candidates:
                    is_known = True
                    yield candidates
            if not is_known:
                raise UnitFailed(_why_no_spectrum(hdus, columns))
    except UnitFailed:
        raise
    except Exception as error:  # astropy raises all kinds on damaged files
        raise UnitFailed(f"is a damaged FITS file ({one_line(error)}): fetch it again") from None


def _why_no_spectrum(hdus, columns):
    tables = [hdu for hdu in hdus if hasattr(hdu, "columns")]
    if tables:
        return (f"its table has the columns {', '.join(tables[0].columns.names[:8])}: say which are wavelength and "
                "flux with --columns")
    if columns:
        return f"has no {', '.join(columns)}: its extensions are {', '.join(_names(hdus)) or 'one without a name'}"
    for hdu in hdus:
        shape = tuple(n for n in hdu.shape if n > 1) if hdu.is_image else ()
        if len(shape) > 1:
            return (f"is {'a cube' if len(shape) > 2 else 'an image'} of {' by '.join(map(str, shape))} pixels, no "
                    "single spectrum: extract that first")
        if "CRVAL1" in hdu.header and len(shape) == 1:
            return "has CRVAL1 and no CDELT1: its wavelengths are unknown"
    return ("is a FITS file without a spectrum that is known here: no image with CRVAL1 and CDELT1, no table or "
            "extensions with wavelength and flux; name the latter with --columns")


def _names(hdus):
    return [hdu.name.strip() for hdu in hdus[1:] if hdu.name.strip()]


def _observation(hdus, hdu, name, **more):
    """What the primary header says, with what that of an extension adds, or says of its own axis."""
    header = hdus[0].header.copy()
    if hdu is not hdus[0]:
        for key in OWN_KEYS:
            if key in hdu.header:
                header.remove(key, ignore_missing=True)
        header.extend(hdu.header, unique=True, strip=True)
    for key, value in more.items():
        header[key] = value
    return headers.from_header(header, name), headers.instrument_of(header)


def _candidate(hdus, hdu, name, arrays, unit, form, conflicts=(), **more):
    observation, instrument = _observation(hdus, hdu, name, **more)
    if "flag" in arrays and instrument.one_is_good:
        arrays = {**arrays, "flag": np.asarray(arrays["flag"]) == 0}
    return Candidate(arrays, unit, form, replace(observation, conflicts=(*observation.conflicts, *conflicts)))


def _extensions(hdus, name, columns):
    """Image extensions by name, of one version each; of several fibres the one that saw the star."""
    versions = {}
    for hdu in hdus[1:]:
        if hdu.is_image and hdu.header["NAXIS"] in (1, 2):
            plain = _plain(re.sub(r"^sci\b(?=.)", "", hdu.name.strip(), flags=re.I))
            versions.setdefault(hdu.ver, {}).setdefault(plain, hdu)
    for images in versions.values():
        roles = _roles(list(images))
        if not {"wave", "flux"} <= set(roles):
            continue
        arrays = {role: images[key].data for role, key in roles.items()}
        hdu, unit, form = images[roles["flux"]], str(images[roles["wave"]].header.get("BUNIT", "")), "FITS extensions"
        throughput = _observation(hdus, hdu, name)[1].sky
        if throughput and {"skyflux", "skywavl"} <= set(images):
            arrays, form = _less_sky(arrays, images, throughput), "FITS extensions, less the sky"
        yield _candidate(hdus, hdu, name, arrays, unit, form)


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


def _tables(hdus, name, columns):
    """Tables with columns of wavelength and flux."""
    for hdu in hdus:
        if not hasattr(hdu, "columns") or hdu.data is None:
            continue
        by_name = {_plain(column): column for column in hdu.columns.names}
        roles = _roles(list(by_name))
        if not {"wave", "flux"} <= set(roles):
            roles = _two_or_three({key: _column(hdu, column) for key, column in by_name.items()})
        if roles:
            arrays = {role: _column(hdu, by_name[key]) for role, key in roles.items()}
            yield _from_column(hdus, hdu, name, by_name[roles["wave"]], arrays)


def _from_column(hdus, hdu, name, wave, arrays):
    number = hdu.columns.names.index(wave) + 1
    said = f"{hdu.header.get(f'TUCD{number}', '')} {_medium_in(wave)}".strip()
    return _candidate(hdus, hdu, name, arrays, hdu.columns[wave].unit or _unit_in(wave), "FITS table", TUCD1=said)


def _column(hdu, name):
    """A column; those of variable length, one below the other, filled up with NaN."""
    column = hdu.data[name]
    if column.dtype != object:
        return column
    filled = np.full((len(column), max(map(len, column))), np.nan)
    for row, cells in zip(filled, column):
        row[: len(cells)] = cells
    return filled


def _multispec(hdus, name, columns):
    """IRAF's multispec, an order a row; of several bands the first, and the one of errors if there is."""
    for hdu in (hdu for hdu in hdus if hdu.is_image and str(hdu.header.get("CTYPE1", "")).startswith("MULTISPE")):
        words = {axis: "".join(f"{hdu.header[key]:68}" for key in sorted(hdu.header[f"WAT{axis}_*"])) for axis in "12"}
        rows = re.findall(r'spec\d+\s*=\s*"([^"]*)"', words["2"])
        arrays = _bands(hdu)
        n_rows, n_pixels = arrays["flux"].shape
        if len(rows) != n_rows:
            raise UnitFailed(f"has {n_rows} rows, but WAT2_001 and on say the wavelengths of {len(rows)}")
        pixels = np.arange(1.0, n_pixels + 1)  # of what was cut out or binned; the functions know the whole's
        pixels = (pixels - hdu.header.get("LTV1", 0)) / hdu.header.get("LTM1_1", 1)
        arrays["wave"] = [_dispersion(row.split(), pixels) for row in rows]
        stated = re.search(r"units\s*=\s*(\w+)", words["1"])
        yield _candidate(hdus, hdu, name, arrays, stated[1] if stated else "", "FITS image, multispec of IRAF")


def _bands(hdu):
    """Flux, (n_rows, n_pixels), and errors where a band, or a row of spSpec, is called so."""
    data = np.asarray(hdu.data)
    bands = data if data.ndim == 3 else data[:, None] if "ARRAY1" in hdu.header and data.ndim == 2 else [data]
    bands = [np.atleast_2d(band) for band in bands]
    named = {str(hdu.header.get(f"{key}{number}", "")).lower(): band for number, band in enumerate(bands, 1)
             for key in ("BANDID", "ARRAY")}
    errors = [band for said, band in named.items() if said.startswith(("sigma", "error", "noise"))]
    return {"flux": bands[0], **({"error": errors[0]} if errors else {})}


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


def _images(hdus, name, columns):
    """Images with a linear or logarithmic wavelength axis; of the rows of one such axis the first."""
    for hdu in (hdu for hdu in hdus if hdu.is_image and hdu.header["NAXIS"]):
        header, start = hdu.header, hdu.header.get("CRVAL1", hdu.header.get("COEFF0"))
        steps = _steps(header)
        arrays = _bands(hdu)
        is_one = min(np.size(arrays["flux"]), np.size(hdu.data)) and len(arrays["flux"]) == 1
        equispec = "equispec" in str(header.get("WAT0_001", ""))
        if start is None or not steps or not (is_one or equispec):
            continue
        arrays = {role: array[0] for role, array in arrays.items()}
        reference = header.get("CRPIX1", 1)
        wave = start + (np.arange(len(arrays["flux"])) + 1 - reference) * steps[0]
        axis = str(header.get("CTYPE1", "")).upper()
        logarithmic = "LOG" in axis or header.get("DC-FLAG") == 1 or "COEFF1" in header
        if axis.endswith("-LOG") and start > 100:  # as the FITS standard has it, Greisen et al. 2006
            wave, logarithmic = start * np.exp((wave - start) / start), False
        unit = "" if logarithmic else str(header.get("CUNIT1", ""))
        conflicts = [f"its steps are {' and '.join(f'{step:g}' for step in steps)} by CD1_1 and CDELT1: the first is "
                     "taken"] if len(steps) > 1 else ()
        yield _candidate(hdus, hdu, name, {**arrays, "wave": wave}, unit, "FITS image", conflicts)


def _steps(header):
    """Steps of the wavelength axis that a header states, the valid one first (Greisen and Calabretta 2002)."""
    step = header.get("CDELT1", header.get("COEFF1"))
    if "CD1_1" in header:
        steps = [header["CD1_1"], step]
    elif "PC1_1" in header:
        steps = [header["PC1_1"] * (1.0 if step is None else step)]
    else:
        steps = [step]
    steps = [float(step) for step in steps if step]
    return [step for k, step in enumerate(steps) if k == 0 or not np.isclose(step, steps[0], rtol=1e-4)]


def _planes(hdus, name, columns):
    """Arrays without an axis of which a row, plane or column is wavelengths; the next is flux, the third its error."""
    arrays = [(hdu, np.asarray(hdu.data)) for hdu in hdus if hdu.is_image and hdu.header["NAXIS"] and hdu.size]
    shapes = {array.shape for _, array in arrays}
    stacks = [(hdu, np.moveaxis(array, axis, 0)) for hdu, array in arrays if array.ndim in (2, 3)
              for axis in {0, array.ndim - 1} if array.shape[axis] <= MOST_PLANES]
    for shape in shapes:  # extensions without names
        alike = [(hdu, array) for hdu, array in arrays if array.shape == shape]
        if len(alike) > 1:
            stacks.append((alike[0][0], np.array([array for _, array in alike])))
    for hdu, planes in stacks:
        for k in np.flatnonzero([orders.are_wavelengths(plane) for plane in planes]):
            rest = [plane for j, plane in enumerate(planes) if j > k] or [planes[0]]
            if rest[0] is planes[k] or orders.are_wavelengths(rest[0]):
                continue
            found = {"wave": planes[k], "flux": rest[0]}
            if len(rest) > 1 and _is_error(rest[1], rest[0]):
                found["error"] = rest[1]
            yield _candidate(hdus, hdu, name, found, "", f"FITS image of {len(planes)} planes")


def _is_error(array, flux):
    """Whether an array may be the errors of a flux: nowhere negative, smaller, and not less where there is more flux.

    Less they are as inverse variances, which the cubes of CERES have (rabrahm/ceres).
    """
    known = np.isfinite(array) & np.isfinite(flux)
    array, flux = array[known], flux[known]
    if not (known.any() and (array >= 0).all() and 0 < np.median(array) < np.median(flux)):
        return False
    covariance = np.cov(array, flux, bias=True)  # in double precision, as squares of small fluxes need
    return covariance[0, 1] >= INVERSE * np.sqrt(covariance[0, 0] * covariance[1, 1])


def _named(hdus, name, columns):
    """What --columns names: extensions, columns, or columns of an extension, by name or number from 1."""
    catalogue = {}
    for number, hdu in enumerate(hdus):
        if hdu.is_image and hdu.header["NAXIS"]:
            for key in {str(number), hdu.name.strip(), re.sub(r"^sci\b(?=.)", "", hdu.name.strip(), flags=re.I)}:
                catalogue.setdefault((_plain(key),), (hdu, None))
        for place, column in enumerate(getattr(hdu, "columns", ()), 1):
            for key in (column.name, str(place)):
                catalogue.setdefault((_plain(key),), (hdu, column.name))
                for extension in (hdu.name.strip(), str(number)):
                    catalogue.setdefault((_plain(extension), _plain(key)), (hdu, column.name))
    places = [catalogue.get(tuple(map(_plain, column.split(":")))) for column in columns]
    if None in places or len(places) < 2:
        return
    arrays = {role: hdu.data if column is None else _column(hdu, column)
              for role, (hdu, column) in zip(("wave", "flux", "error"), places)}
    hdu, column = places[0]
    if column is None:
        yield _candidate(hdus, hdu, name, arrays, str(hdu.header.get("BUNIT", "")), "FITS extensions")
    else:
        yield _from_column(hdus, hdu, name, column, arrays)


# ---------------------------------------------------------------- text
def _text_groups(content, name, columns):
    """The one list of the one candidate of a text file."""
    return [[_read_text(content, name, columns)]]


def _read_text(content, name, columns):
    text = _decoded(content)
    if "\0" in text:
        raise UnitFailed("is neither FITS nor text")
    lines = [line.strip() for line in text.splitlines()]
    if lines[0].startswith("***"):
        return _read_libre_esprit(lines, name)
    rows = [line for line in lines if line and line[0] not in "#%!"]
    if not rows:
        raise UnitFailed("has no rows of numbers")
    separator = next((mark for mark in ";\t|," if mark in rows[0]), r"\s+")
    rows = [row.strip("|") for row in rows] if separator == "|" else rows
    heading, units = _cells(rows[0], separator), []
    if all(_is_number(cell) for cell in heading):
        comment = next((line for line in reversed(lines[: lines.index(rows[0])]) if line), "")
        named = _cells(comment.lstrip("#%! "), separator)
        heading = named if len(named) == len(heading) and not any(map(_is_number, named)) else []
    else:
        rows = rows[1:]
        units = _cells(rows[0], separator) if rows else []
        if units and len(units) <= len(heading) and not any(map(_is_number, units)):
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
        roles = {} if columns else _two_or_three(by_name)
    if not roles:
        raise UnitFailed(f"has the columns {', '.join(names[:8])}: say which are wavelength and flux with --columns")
    place = list(by_name).index(roles["wave"])
    unit = _unit_in(names[place]) or (units[place].strip("[]()") if place < len(units) else "")
    observation = headers.Observation(name=name, medium=_medium_in(names[place]))
    form = ("CSV" if separator in ",;" else "text") + ("" if heading else " without heading")
    return Candidate({role: by_name[key] for role, key in roles.items()}, "" if _is_number(unit) else unit, form,
                     observation)


def _decoded(content):
    encodings = ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "latin-1")
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            pass
    raise UnitFailed("is neither FITS nor text")


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
    return Candidate(arrays, "nm", ".s of ESPaDOnS or NARVAL", observation)


def _numbers(rows, separator):
    """A table of floats; empty cells and "nan" are NaN."""
    decimal = "," if separator == ";" and any("," in row for row in rows[:3]) else "."
    text = re.sub(r"(?<=[\d.])[dD](?=[+-]?\d)", "e", "\n".join(rows))  # as Fortran has it
    try:
        table = pd.read_csv(io.StringIO(text), sep=separator, header=None, decimal=decimal, comment="#",
                            skipinitialspace=True)
        return table.dropna(axis=1, how="all").to_numpy(float)
    except (ValueError, pd.errors.ParserError) as error:
        raise UnitFailed(f"is no table of numbers ({one_line(error)[:80]})") from None


def _cells(line, separator):
    parts = line.split() if separator == r"\s+" else line.strip().split(separator)
    return [cell.strip().strip('"') for cell in parts]


def _is_number(text):
    return re.fullmatch(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eEdD][+-]?\d+)?|nan", text.strip(), re.I) is not None


# ---------------------------------------------------------------- names
def _plain(name):
    """A name in small letters and digits, without a unit in brackets."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"[\[(].*", "", str(name)).lower())


def _roles(names, columns=()):
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


def _two_or_three(arrays):
    """Roles of two or three columns without known names, of which the first is wavelengths; none otherwise."""
    names = list(arrays)
    if len(names) not in (2, 3) or not orders.are_wavelengths(arrays[names[0]]):
        return {}
    return dict(zip(("wave", "flux", "error"), names))


def _unit_in(name):
    """What stands in brackets in a heading."""
    unit = re.search(r"[\[(]\s*([^\])]*?)\s*[\])]", name)
    return unit[1] if unit else ""


def _medium_in(name):
    return next((medium for medium in ("air", "vacuum") if medium[:3] in name.lower()), "")
