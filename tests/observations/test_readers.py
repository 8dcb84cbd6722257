"""Reading spectra: one spectrum in every form that instruments write must come out the same."""
import gzip

import numpy as np
import pytest
from astropy.io import fits
from numpy.polynomial import chebyshev, legendre

import paper
from observations import orders, readers
from spectra import transforms
from spectra.transforms import LIGHT, to_air
from spectra.velocity import MAX_VELOCITY
from workflow.files import UnitFailed

WAVE = np.linspace(8770, 8860, 3001)  # [Angstrom]
FLUX = 1000 * (1 - 0.4 * np.exp(-0.5 * ((WAVE - 8806.8) / 0.2) ** 2)) * (1 + 0.002 * (WAVE - 8800))
ERROR = np.sqrt(FLUX)
SKY = 5 + 300 * np.exp(-0.5 * ((WAVE - 8829.5) / 0.2) ** 2)  # a line of OH
LOG = 10 ** np.linspace(3.943, 3.9475, 3001)
LOG_FLUX = np.interp(LOG, WAVE, FLUX)


def table(names, arrays, units=(), vector=False, **header):
    """A FITS table, a row a pixel or, as ESO has it, all in one row."""
    form, wrap = (f"{len(WAVE)}D", lambda array: array[None]) if vector else ("D", lambda array: array)
    units = list(units) + [None] * len(names)
    columns = [fits.Column(name, form, unit, array=wrap(array)) for name, unit, array in zip(names, units, arrays)]
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update(header)
    return [fits.PrimaryHDU(header=fits.Header({"OBJECT": "GJ 1"})), hdu]


def image(flux=FLUX, **header):
    header = {"OBJECT": "GJ 1", "CRVAL1": WAVE[0], "CDELT1": WAVE[1] - WAVE[0], **header}
    return [fits.PrimaryHDU(flux, fits.Header(header))]


def extensions(primary, **images):
    named = [fits.ImageHDU(np.asarray(array), name=name.replace("_", " ")) for name, array in images.items()]
    return [fits.PrimaryHDU(header=fits.Header({"OBJECT": "GJ 1", **primary})), *named]


def echelle(array, other=0.0):
    """Two orders, of which the second covers the window."""
    return np.array([array + other, array])


def multispec(*kinds, bands=(), flux=FLUX, **cards):
    """Orders by IRAF, a kind of dispersion each; the last covers the window, the others lie 80 Angstrom before it."""
    rows, n = [], len(WAVE)
    for number, kind in enumerate(kinds, 1):
        words = {"linear": f"0 {WAVE[0]} {WAVE[1] - WAVE[0]} {n} 0. 1. 2.", "log10": f"1 3.943 1.5e-6 {n} 0. 1. 2."}
        if kind not in words:  # two of its functions added up, and a redshift
            function, fit = {"chebyshev": (1, chebyshev.chebfit), "legendre": (2, legendre.legfit)}.get(kind, (3, None))
            wave = WAVE * 1.001 - 80 * (number < len(kinds)) - 4000
            coefficients = map(float, fit(np.linspace(-1, 1, n), wave, 3) if fit else np.ones(4))
            function = f"4000. {function} 4 1. {n}. {' '.join(map(repr, coefficients))}"
            words[kind] = f"2 {WAVE[0]} 0.03 {n} 0.001 1. 2. 0.25 {function} 0.75 {function}"
        rows.append(f'spec{number} = "{number} {number} {words[kind]}"')
    text = "wtype=multispec " + " ".join(rows)
    header = {"WAT1_001": "wtype=multispec label=Wavelength units=angstroms", "CTYPE1": "MULTISPE", "OBJECT": "GJ 1"}
    header.update({f"WAT2_{k // 68 + 1:03d}": text[k : k + 68] for k in range(0, len(text), 68)})
    header.update({f"BANDID{k}": f"{name} - background fit" for k, (name, _) in enumerate(bands, 2)}, **cards)
    images = np.array([[band] * len(kinds) for band in (flux, *(band for _, band in bands))])
    return [fits.PrimaryHDU(images if bands else images[0], fits.Header(header))]


FITS = {  # name: HDUs, unit, medium, frame
    "image": (image(), "Angstrom", "", ""),
    "image without unit in nm": (image(CRVAL1=877.0, CDELT1=0.003), "nm", "", ""),
    "image in m": (image(CRVAL1=8.77e-7, CDELT1=3e-12, CUNIT1="m", CTYPE1="AWAV"), "m", "air", ""),
    "image with CD1_1 and a reference in the middle": (
        image(CRVAL1=WAVE[1500], CRPIX1=1501, CD1_1=0.03, CTYPE1="WAVE", SPECSYS="BARYCENT"),
        "Angstrom", "vacuum", "barycentre"),
    "image of shape (1, 1, n)": (image(FLUX[None, None]), "Angstrom", "", ""),
    "image in log10": (image(LOG_FLUX, CRVAL1=3.943, CDELT1=1.5e-6, **{"DC-FLAG": 1}), "log10", "", ""),
    "image in ln": (image(LOG_FLUX, CRVAL1=np.log(LOG[0]), CDELT1=np.log(LOG[1] / LOG[0]), CTYPE1="WAVE-LOG"),
                    "ln", "vacuum", ""),
    "multispec of IRAF, Chebyshev": (multispec("legendre", "chebyshev"), "Angstrom", "", ""),
    "multispec, Legendre, with errors": (
        multispec("legendre", bands=[("raw", 0 * FLUX), ("sigma", ERROR)]), "Angstrom", "", ""),
    "multispec, linear": (multispec("linear"), "Angstrom", "", ""),
    "multispec, log10": (multispec("log10", flux=LOG_FLUX), "Angstrom", "", ""),
    "multispec, cut": (multispec("legendre", flux=FLUX[500:], LTV1=-500.0), "Angstrom", "", ""),
    "multispec, cut, every second pixel": (
        multispec("linear", "chebyshev", flux=FLUX[500::2], LTM1_1=0.5, LTV1=-249.5), "Angstrom", "", ""),
    "multispec beside a table of something else": (
        multispec("legendre") + table(["APERTURE", "BEAM"], [WAVE, FLUX])[1:], "Angstrom", "", ""),
    "image by the FITS standard's logarithm": (
        image(LOG_FLUX, CRVAL1=LOG[0], CDELT1=LOG[0] * np.log(LOG[1] / LOG[0]), CTYPE1="AWAV-LOG", CUNIT1="Angstrom"),
        "Angstrom", "air", ""),
    "image, descending": (image(FLUX[::-1], CRVAL1=WAVE[-1], CDELT1=WAVE[0] - WAVE[1]), "Angstrom", "", ""),
    "table": (table(["Wavelength", "Flux", "SIG"], [WAVE, FLUX, ERROR], ["Angstrom"]), "Angstrom", "", ""),
    "table of SDSS's form": (
        table(["flux", "LOGLAM", "ivar"], [LOG_FLUX, np.log10(LOG), 1 / LOG_FLUX]), "log10", "", ""),
    "table in micron, variance": (table(["LAMBDA", "SPEC", "VAR"], [WAVE / 1e4, FLUX, FLUX], ["um"]), "micron", "", ""),
    "table in vacuum by its heading": (table(["WAVE_VAC", "FLUX"], [WAVE, FLUX]), "Angstrom", "vacuum", ""),
    "ESO phase 3": (
        table(["WAVE", "FLUX", "ERR"], [WAVE / 10, FLUX, ERROR], ["nm"], vector=True, TUCD1="em.wl;obs.atmos",
              SPECSYS="TOPOCENT"), "nm", "air", "observer"),
    "cube of an order with errors": ([fits.PrimaryHDU(np.array([WAVE, FLUX, ERROR])[:, None],
                                                       fits.Header({"OBJECT": "GJ 1"}))], "Angstrom", "", ""),
    "cube of CERES, with inverse variances": ([fits.PrimaryHDU(np.array([WAVE, FLUX, 1 / FLUX, FLUX])[:, None],
                                               fits.Header({"OBJECT": "GJ 1"}))], "Angstrom", "", ""),
    "CARMENES": (
        extensions({"INSTRUME": "CARMENES", "HIERARCH CARACAL BERV": 12.5}, SPEC=echelle(FLUX), CONT=echelle(FLUX),
                   SIG=echelle(ERROR), WAVE=echelle(WAVE, -80)), "Angstrom", "vacuum", "observer"),
    "serval": (
        extensions({"HIERARCH SERVAL COADD NUM": 20, "HIERARCH CARACAL BERV": 12.5},
                   SPEC=np.pad(echelle(FLUX), ((0, 0), (0, 9))), SIG=np.pad(echelle(ERROR), ((0, 0), (0, 9))),
                   WAVE=np.pad(np.log(echelle(WAVE, -80)), ((0, 0), (0, 9)))),
        "ln", "vacuum", "barycentre"),
    "HPF": (
        extensions({"INSTRUME": "HPF", "BRVCORR": 12500.0}, Sci_Flux=echelle(FLUX), Sky_Flux=echelle(FLUX * 0),
                   Sci_Variance=echelle(FLUX), Sci_Wavl=echelle(WAVE, -80), Sky_Wavl=echelle(WAVE, -80.1)),
        "Angstrom", "vacuum", "observer"),
    "HPF with airglow": (
        extensions({"INSTRUME": "HPF", "BRVCORR": 12500.0}, Sci_Flux=echelle(FLUX + 0.951 * SKY),
                   Sci_Variance=echelle(FLUX), Sci_Wavl=echelle(WAVE, -80), Sky_Wavl=echelle(WAVE + 0.006, -80),
                   Sky_Flux=echelle(np.interp(WAVE + 0.006, WAVE, SKY))), "Angstrom", "vacuum", "observer"),
}


def rows(*columns, separator=",", form="{:.4f}"):
    return "\n".join(separator.join(form.format(value) for value in row) for row in zip(*columns)) + "\n"


ESPADONS = (f"***Reduced spectrum of 'GJ 1'\n {len(WAVE)} 2\n" + rows(WAVE / 10, FLUX, ERROR, separator="  ")).encode()
TEXT = {
    "CSV": ("wavelength,flux,error\n" + rows(WAVE, FLUX, ERROR), "Angstrom", ""),
    "CSV with a mark of byte order, units and more columns": (
        "\ufeffid,Wavelength [nm],Flux (counts)\n" + rows(WAVE * 0, WAVE / 10, FLUX, form="{:.5f}"), "nm", ""),
    "CSV without heading": (rows(WAVE, FLUX), "Angstrom", ""),
    "CSV with semicolons and decimal commas": (
        "lambda;flux\n" + rows(WAVE, FLUX, separator=";").replace(".", ","), "Angstrom", ""),
    "blanks": (rows(WAVE, FLUX, ERROR, separator="  "), "Angstrom", ""),
    "tabs, comments, a heading behind #": (
        "# from somewhere\n# wave_air\tflux\n" + rows(WAVE, FLUX, separator="\t"), "Angstrom", "air"),
    "micron, Windows": (rows(WAVE / 1e4, FLUX, form="{:.8f}").replace("\n", "\r\n"), "micron", ""),
    "NaN and empty cells": ("wave,flux\n" + rows(WAVE, FLUX) + "8861,\n8862,nan\n", "Angstrom", ""),
    ".s": (ESPADONS.decode(), "nm", "air"),
}


def check(spectrum, unit, medium):
    assert (spectrum.unit, spectrum.observation.medium) == (unit, medium)
    order = spectrum.orders[-1]
    assert order.wave.dtype == order.flux.dtype == float and order.flux.dtype.isnative
    assert (np.diff(order.wave) > 0).all() and not order.bad.any()
    window = slice(*np.searchsorted(order.wave, paper.WINDOW))
    np.testing.assert_allclose(order.flux[window], np.interp(order.wave[window], WAVE, FLUX), rtol=2e-3)
    if np.isfinite(order.error).any():
        np.testing.assert_allclose(order.error[window], np.sqrt(order.flux[window]), rtol=1e-3)


@pytest.mark.parametrize("name", FITS)
def test_fits(tmp_path, name):
    hdus, unit, medium, frame = FITS[name]
    path = tmp_path / ("x.fits.gz" if name.startswith("HPF") else "called_anything.dat")
    fits.HDUList([hdu.copy() for hdu in hdus]).writeto(path)
    spectrum = readers.read(path)
    check(spectrum, unit, medium)
    assert spectrum.observation.frame == frame and spectrum.observation.name == "GJ 1"
    if frame == "observer" and name != "ESO phase 3":
        assert spectrum.observation.berv == 12.5


@pytest.mark.parametrize("name", TEXT)
def test_text(tmp_path, name):
    text, unit, medium = TEXT[name]
    path = tmp_path / "star.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    spectrum = readers.read(path)
    check(spectrum, unit, medium)
    assert spectrum.observation.name == ("GJ 1" if name == ".s" else "star")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("unit", [1.0, 1e-24, 1e20])
def test_errors_are_told_from_inverse_variances_in_any_unit(unit):
    """In single precision, squares of such fluxes are none."""
    noise = np.random.default_rng(0).normal(0, 1, len(WAVE))
    flux, error, inverse = (np.float32(array * unit) for array in (FLUX, 20 - ERROR / 5 + noise, 1e5 / FLUX))
    assert readers._is_error(error, flux) and not readers._is_error(inverse, flux)


def test_columns_unit_and_medium_override(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x,y,z,wave\n" + rows(WAVE / 10, FLUX, ERROR, WAVE))
    for columns in (("x", "y", "z"), ("1", "2", "3")):
        check(readers.read(path, columns, "nm", "air"), "nm", "air")
    fits.HDUList(table(["A", "B"], [WAVE, FLUX], ["nm"])).writeto(tmp_path / "b.fits")
    check(readers.read(tmp_path / "b.fits", ("A", "B"), "Angstrom"), "Angstrom", "")
    fits.HDUList(extensions({}, A=WAVE, B=FLUX)).writeto(tmp_path / "c.fits")
    check(readers.read(tmp_path / "c.fits", ("A", "B")), "Angstrom", "")
    hdus = extensions({"INSTRUME": "HPF"}, Sci_Flux=[FLUX / 2], Sci_Wavl=[WAVE], Sky_Flux=[FLUX], Sky_Wavl=[WAVE])
    fits.HDUList(hdus).writeto(tmp_path / "d.fits")
    check(readers.read(tmp_path / "d.fits", ("Sky Wavl", "Sky Flux")), "Angstrom", "vacuum")


@pytest.mark.parametrize("change", [
    lambda wave, flux: (np.ma.masked_where(wave > 8850, wave), np.ma.masked_where(wave < 8780, flux)),
    lambda wave, flux: (wave.astype(">f8"), flux.astype(">f4")),
    lambda wave, flux: (wave[::-1], flux[::-1]),
    lambda wave, flux: (list(wave / 10), list(flux)),
], ids=["masked", "big-endian", "descending", "lists"])
def test_arrays(change):
    spectrum = orders.from_arrays(*change(WAVE, FLUX))
    check(spectrum, "nm" if isinstance(change(WAVE, FLUX)[0], list) else "Angstrom", "")


def test_orders_one_below_the_other_are_told_apart(tmp_path):
    blue, red = WAVE < 8825, WAVE > 8815
    path = tmp_path / "x.s"
    path.write_text("***Reduced spectrum of 'a'\n 1 1\n"
                    + rows(np.r_[WAVE[blue], WAVE[red]] / 10, np.r_[FLUX[blue], FLUX[red]], separator=" "))
    assert [len(order.wave) for order in readers.read(path).orders] == [
        np.count_nonzero(part & (WAVE > orders.REGION[0]) & (WAVE < orders.REGION[1])) for part in (blue, red)]


def spoilt(pixels, factor):
    """The sky with a hit, or bad pixels, far from its line."""
    at = np.searchsorted(WAVE, 8815.0)
    return np.r_[SKY[:at], SKY[at : at + pixels] + factor, SKY[at + pixels :]]


@pytest.mark.parametrize("seen", [SKY, spoilt(2, 300), spoilt(3, -300)],
                         ids=["airglow alone", "a hit of two pixels", "three negative pixels"])
@pytest.mark.parametrize("name, power", [("Variance", 2), ("Error", 1)], ids=["hpfspec", "Goldilocks"])
def test_lines_alone_are_taken_from_the_sky_of_hpf_with_their_noise(tmp_path, seen, name, power):
    noise = np.random.default_rng(0).normal(0, 1, len(WAVE))
    images = {"Sci_Flux": FLUX + 0.951 * SKY, "Sky_Flux": seen + noise, f"Sci_{name}": ERROR**power,
              f"Sky_{name}": 1 + 0 * WAVE, "Sci_Wavl": WAVE, "Sky_Wavl": WAVE}
    images = {key: [array] for key, array in images.items()}
    fits.HDUList(extensions({"INSTRUME": "HPF"}, **images)).writeto(tmp_path / "a.fits")
    order = readers.read(tmp_path / "a.fits").orders[-1]
    flux, error = (np.interp(order.wave, WAVE, array) for array in (FLUX, ERROR))
    np.testing.assert_allclose(order.flux, flux, atol=6)
    line = np.abs(order.wave - 8829.5) < 0.5
    np.testing.assert_allclose(order.error[line], np.hypot(error, 0.951)[line])
    np.testing.assert_allclose(order.error[np.abs(order.wave - 8829.5) > 1], error[np.abs(order.wave - 8829.5) > 1])


HALF = FLUX / 2
WRONG = WAVE - 4000  # no wavelengths of the window
KINDS = {  # forms in which instruments and pipelines write, one row each: HDUs or text, and the flux that must come out
    "steps by CD1_1 beside CDELT1": (image(CD1_1=0.03, CDELT1=1.0), FLUX),
    "steps by PC1_1 times CDELT1": (image(PC1_1=0.03, CDELT1=1.0), FLUX),
    "bands of IRAF of one order": (image(np.array([FLUX, HALF, ERROR])[:, None], BANDID3="sigma - flux"), FLUX),
    "equispec of IRAF": (image(np.array([FLUX, HALF]), WAT0_001="system=equispec"), FLUX),
    "spSpec of SDSS": ([fits.PrimaryHDU(np.array([LOG_FLUX, LOG_FLUX * 0, np.sqrt(LOG_FLUX)]), fits.Header(
        {"COEFF0": 3.943, "COEFF1": 1.5e-6, "ARRAY1": "SPECTRUM", "ARRAY3": "ERROR"}))], FLUX),
    "rows of 2 x N": ([fits.PrimaryHDU(np.array([WAVE, FLUX]))], FLUX),
    "rows of 3 x N in nm": ([fits.PrimaryHDU(np.array([WAVE / 10, FLUX, ERROR]))], FLUX),
    "columns of N x 2": ([fits.PrimaryHDU(np.array([WAVE, FLUX]).T)], FLUX),
    "CHIRON: order, pixel, wavelength and flux": (
        [fits.PrimaryHDU(np.stack([echelle(WAVE, -80), echelle(FLUX)], axis=-1))], FLUX),
    "ESPaDOnS at CADC: triples of rows": ([fits.PrimaryHDU(np.array([WAVE / 10, FLUX, ERROR, WAVE / 10, HALF, ERROR]))],
                                          FLUX),
    "extensions without names": ([fits.PrimaryHDU(), fits.ImageHDU(FLUX), fits.ImageHDU(WAVE)], FLUX),
    "NEID": (extensions({}, SCIFLUX=echelle(FLUX), SKYFLUX=echelle(HALF), SCIVAR=echelle(FLUX),
                        SCIWAVE=echelle(WAVE, -80)), FLUX),
    "GHOST of DRAGONS": (extensions({}, SCI=echelle(FLUX), VAR=echelle(FLUX), DQ=echelle(FLUX * 0),
                                    WAVL=echelle(WAVE, -80)), FLUX),
    "PypeIt: 1 is good": (table(["wave", "flux", "ivar", "mask"], [WAVE, FLUX, 1 / FLUX, WAVE > 8785],
                                DMODCLS="OneSpec"), FLUX),
    "the blue arm first": (table(["WAVE", "FLUX"], [WRONG, HALF]) + table(["WAVE", "FLUX"], [WAVE, FLUX])[1:], FLUX),
    "an image of something else first": (image(HALF, CRVAL1=5000.0) + [fits.ImageHDU(FLUX, image()[0].header)], FLUX),
    "a tile-compressed image": ([fits.PrimaryHDU(), fits.CompImageHDU(
        FLUX.astype(np.float32), image()[0].header, quantize_level=0, compression_type="GZIP_1")], FLUX),
    "columns of variable length": ([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([
        fits.Column(name, "PD()", array=np.array([array[:9], array], object))
        for name, array in (("WAVE", WAVE), ("FLUX", FLUX))])], FLUX),
    "two columns without known names": (table(["x", "y"], [WAVE, FLUX]), FLUX),
    "orders filled up with their last wavelength": (
        extensions({}, WAVE=[np.r_[WAVE, [WAVE[-1]] * 9]], FLUX=[np.r_[FLUX, np.zeros(9)]]), FLUX),
    "wavenumbers": (table(["WAVENUMBER", "FLUX"], [1e8 / WAVE, FLUX], ["cm-1"]), FLUX),
    "wavenumbers without a unit": (table(["WAVE", "FLUX"], [1e8 / WAVE, FLUX]), FLUX),
    "a unit that is wrong": (table(["WAVE", "FLUX"], [WAVE, FLUX], ["nm"]), FLUX),
    "exponents of Fortran": (rows(WAVE, FLUX, separator=" ", form="{:.9e}").replace("e+", "D+"), FLUX),
    "iSpec": ("waveobs\tflux\terr\n" + rows(WAVE / 10, FLUX, ERROR, separator="\t", form="{:.5f}"), FLUX),
    "a row of units below the heading": ("wave,flux\nnm,counts\n" + rows(WAVE / 10, FLUX, form="{:.5f}"), FLUX),
    "bars": ("|wave|flux|\n" + "".join(f"|{row}|\n" for row in rows(WAVE, FLUX, separator="|").split()), FLUX),
    "UTF-16": (("wave,flux\n" + rows(WAVE, FLUX)).encode("utf-16"), FLUX),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_covers_the_window_is_read_in_whatever_form(tmp_path, kind):
    content, flux = KINDS[kind]
    spectrum = readers.read(written(tmp_path, content))
    order = spectrum.orders[-1]
    assert (np.diff(order.wave) > 0).all() and not order.bad[order.wave > 8786].any()
    seen = (order.wave > paper.WINDOW[0]) & (order.wave < paper.WINDOW[1])
    np.testing.assert_allclose(order.flux[seen], np.interp(order.wave[seen], WAVE, flux), rtol=2e-3)
    assert bool(spectrum.observation.conflicts) == ("wrong" in kind or "beside" in kind)


def test_what_the_header_of_an_extension_says_counts(tmp_path):
    header = image(SPECSYS="TOPOCENT", BERV=12.5, VACUUM=True, SPEC_RES=80_000.0, OBJECT="GJ 2")[0].header
    compressed = fits.CompImageHDU(FLUX.astype(np.float32), header, quantize_level=0, compression_type="GZIP_1")
    observation = readers.read(written(tmp_path, [fits.PrimaryHDU(), compressed])).observation
    assert (observation.name, observation.medium, observation.frame) == ("GJ 2", "vacuum", "observer")
    assert (observation.berv, observation.resolving_power) == (12.5, 80_000)


def test_an_extension_an_order_gives_all_orders(tmp_path):
    parts = [WAVE < 8815, (WAVE > 8812) & (WAVE < 8830), WAVE > 8827]
    hdus = [fits.PrimaryHDU()]
    for part in parts:
        names = [fits.Column(name, "D", array=array[part]) for name, array in (("WAVE", WAVE), ("FLUX", FLUX))]
        hdus.append(fits.BinTableHDU.from_columns(names))
    spectrum = readers.read(written(tmp_path, hdus))
    assert len(spectrum.orders) == 3
    for order in spectrum.orders:
        np.testing.assert_allclose(order.flux, np.interp(order.wave, WAVE, FLUX), rtol=1e-6)


@pytest.mark.parametrize("columns", [
    ("2", "1"), ("LAMBDA", "1"), ("3:a", "3:b"), ("TAB:a", "TAB:b", "TAB:c"), ("a", "b"),
])
def test_columns_name_extensions_and_columns_by_name_or_number(tmp_path, columns):
    named = table(["a", "b", "c"], [WAVE, FLUX, ERROR])[1]
    named.name = "TAB"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(FLUX), fits.ImageHDU(WAVE, name="LAMBDA"), named]
    check(readers.read(written(tmp_path, hdus), columns), "Angstrom", "")


def written(tmp_path, content):
    path = tmp_path / "x.fits"
    if isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content is None:
        path.mkdir()
    else:
        fits.HDUList([hdu.copy() for hdu in content]).writeto(path)
    return path


SWAPPED = np.r_[WAVE[:1500], WAVE[1501], WAVE[1500], WAVE[1502:]]
PACKED = gzip.compress(ESPADONS)


@pytest.mark.parametrize("content, said", [
    (b"", "is empty"),
    (None, "is a folder"),
    (PACKED[: len(PACKED) // 2], "gzip ends early"),
    (b"\x00\x01\x02" * 99, "neither FITS nor text"),
    ("no spectrum\nbut words\n", "no table of numbers"),
    ("# only a comment\n", "no rows"),
    ("a,b,c,d\n" + rows(*[WAVE] * 4), "columns a, b, c, d: say which .* --columns"),
    ("wave,flux\n" + rows(SWAPPED, FLUX), "sort its rows"),
    ("wave,flux\n" + rows(np.round(WAVE, 1), FLUX), "repeats wavelengths, 8770.1 first"),
    ("wave,flux\n" + rows(WAVE - 3000, FLUX), r"covers 5770.0 to 5860.0 Angstrom, not 8800 to 8835"),
        ("***Reduced spectrum of 'a'\n", "first line of a .s file|no table"),
    ([fits.PrimaryHDU()], "without a spectrum that is known"),
    (image(CDELT1=0), "no CDELT1"),
    (image(np.ones((5, len(WAVE)))), r"image of 5 by 3001"),
    (table(["A", "B", "C", "D"], [WAVE] * 4), "columns A, B, C, D: say which"),
    (extensions({}, WAVE=WAVE[:-1], FLUX=FLUX), "shape"),
    (multispec("chebyshev", "spline"), "only polynomials are read"),
    ([fits.PrimaryHDU(FLUX[None].repeat(3, 0), multispec("linear")[0].header)], "has 3 rows, .* wavelengths of 1"),
    (b"SIMPLE  =                    T" + b" " * 50 + b"junk" * 500, "damaged FITS|without a spectrum"),
], ids=range(19))
def test_bad_files_are_one_line(tmp_path, content, said):
    with pytest.raises(UnitFailed, match=said) as caught:
        readers.read(written(tmp_path, content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("was, becomes, said", [
    (b"'GJ 1    '", b"'GJ 1 .. -", "damaged FITS .*OBJECT"),
    (b"NAXIS   =                    1", b"NAXIS   =           1111111111", "damaged FITS .*NAXIS"),
    (b"NAXIS1  =                 3001", b"NAXIS1  =                -3001", "damaged FITS .*NAXIS1 is -3001"),
])
def test_a_damaged_header_is_refused(tmp_path, was, becomes, said):
    fits.HDUList(image()).writeto(tmp_path / "a.fits")
    with pytest.raises(UnitFailed, match=said):
        readers.read(written(tmp_path, (tmp_path / "a.fits").read_bytes().replace(was, becomes)))


def test_a_fits_file_cut_short_is_refused(tmp_path):
    fits.HDUList(FITS["HPF"][0]).writeto(tmp_path / "a.fits")
    whole = (tmp_path / "a.fits").read_bytes()
    for length in (len(whole) // 2, len(whole) - 3000):
        with pytest.raises(UnitFailed, match="damaged FITS|ends early"):
            readers.read(written(tmp_path, whole[:length]))


def test_kept_region_leaves_room_for_every_velocity():
    reach = 1 + MAX_VELOCITY / LIGHT
    assert orders.REGION[0] < to_air(transforms.WAVE[0] / reach)
    assert orders.REGION[1] > transforms.WAVE[-1] * reach


@pytest.mark.parametrize("powers, taken", [((80_000, 80_000), 80_000), ((80_000, 40_000), 40_000), ((80_000,), 80_000)])
def test_of_resolving_powers_that_orders_state_the_lowest_is_taken_and_said(tmp_path, powers, taken):
    wave = np.arange(8790.0, 8845.0, 0.05)
    hdus = [fits.BinTableHDU.from_columns([
        fits.Column("WAVE", "D", array=part), fits.Column("FLUX", "D", array=np.ones(len(part)))])
        for part in np.array_split(wave, len(powers))]
    for hdu, power in zip(hdus, powers):
        hdu.header["SPEC_RES"] = power
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "star.fits")
    observation = readers.read(tmp_path / "star.fits").observation
    assert observation.resolving_power == taken and bool(observation.conflicts) == (len(set(powers)) > 1)
