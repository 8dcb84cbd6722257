"""Every number that Mas-Buitrago et al. 2024 (A&A 687, A205) or its published code fixes.

Each value says where it comes from: "Sect. n" or "Table n" is the paper, "code" is only visible in
the code its authors published, "ours" is a choice of this repository where neither says anything.
Nothing else in the repository repeats these numbers.
"""
from dataclasses import dataclass

import numpy as np

# ---------------------------------------------------------------- spectra (Sect. 2)
WINDOW = (8800.0, 8835.0)  # [Angstrom], vacuum, both ends included
N_PIXELS = 3501  # 0.01 Angstrom a pixel (code)
WAVELENGTH = np.linspace(*WINDOW, N_PIXELS)
MARGIN = 5.0  # [Angstrom] on each side of the window for the continuum normalisation
RESOLVING_POWER = 94_600  # CARMENES VIS
MIN_SNR = 150  # of every observed template
N_SYNTHETIC = 22_933
N_OBSERVED = 286

# The label grid (code); its nodes are constrained by isochrones, see src_files/label_grid.csv.
GRID_TEFF = np.arange(2325, 4476, 25)  # [K]
GRID_LOGG = np.round(np.arange(47, 54) / 10, 1)  # [dex]
GRID_MH = np.round(np.arange(-10, 7) / 10, 1)  # [dex]
GRID_VSINI = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0)  # [km/s]

# What a label can be at all (ours): generous, and yet no column can be taken for another
LABEL_BOUNDS = {"teff": (1000, 60_000), "logg": (-1, 9), "mh": (-6, 2), "vsini": (0, 600)}

# When an observed spectrum is doubted (ours)
CONSTANT_RUN = 0.02, 8  # the same value in a row: this share of the pixels and at least so many; noise gives 3
RESOLUTION_ELEMENT = float(np.mean(WINDOW) / RESOLVING_POWER / (WAVELENGTH[1] - WAVELENGTH[0]))  # [pixel]
LAG_MEAN = RESOLUTION_ELEMENT / 2  # [pixel] of the mean observed spectrum; the simulation's gap gives up to 2
LAG_STAR = 2 * RESOLUTION_ELEMENT  # [pixel] of one from the mean; the gap gives up to 14 where v sin i > 15 km/s
LAG_SEARCHED = 1 / 8  # of the pixels to each side, 150 km/s

# git blob ids of the published arrays; the spectra themselves have no published checksum
BLOB_ID = {
    "ph_pars.npy": "24d2b5b80a1f694ffcb4d773f61677288fc04bfd",
    "carmf_norm.npy": "8e9554b299d7938d0b5db48102840d634b60897e",
}

# ---------------------------------------------------------------- splits (code)
SPLIT_SEED = 42
TEST_FRACTION = {"ph": 0.3, "carm": 0.2}

# ---------------------------------------------------------------- autoencoder (Sect. 3.1)
ENCODER_FRACTIONS = (1, 3 / 4, 1 / 2, 1 / 4, 1 / 8)  # widths of the encoder, times neurons_in (code)
N_LATENT = 32
CONTRACTIVE_WEIGHT = 1e-4  # lambda (code)
PENALTIES = ("live", "frozen", "exact", "jacobian", "none")  # readings of the penalty; see training/losses.py
EXACT_JACOBIAN = 128  # width of the first layer up to which `jacobian` is exact, else estimated (ours)
BATCH_AUTOENCODER = 128
FROZEN_LAYERS = ("encoded_1", "encoded_2", "encoded_3", "encoded_4")  # in fine-tuning (code)

# Act 1. GRID is the published code's. By the rule below it leaves 12 of its 25 combinations, never the paper's 26: the
# paper's own grid was wider, in learning rates and in others; its values stand nowhere that we could read.
CV_FOLDS = 4
GRID = {
    "neurons_in": [1024, 1280, 1536, 1792, 2048],
    "reg_par": [8e-8, 9e-8, 1e-7, 1.1e-7, 1.2e-7],
    "lr": [1e-4],
}
KEPT_LR = 1e-4  # kept: this learning rate and a mean score better than the median of the whole grid
N_AUTOENCODERS = 26  # what the paper's own search left (Sect. 3.1)

# ---------------------------------------------------------------- CNN regressors (Sect. 3.3)
CNN_KERNEL = 2
CNN_DENSE = (256, 128)
BATCH_CNN = 32  # Keras' default (code)
REPEATS = 5  # regressors a parameter and autoencoder
N_KEPT = 80  # of the regressors of a parameter, those with the lowest test MSE
KEPT_REGRESSORS = N_KEPT / (N_AUTOENCODERS * REPEATS)

# ---------------------------------------------------------------- estimates
# The text gives the maximum of a Gaussian kernel density and 1 sigma (Sect. 3.3). Read off the published table:
KDE_POINTS = 200
QUANTILES = (0.16, 0.84)


@dataclass(frozen=True)
class Cnn:
    """Hyper-parameters of one CNN regressor (Table 1): filters, last dense layer, learning rate."""

    nf1: int
    nf2: int
    nu: int
    lr: float


@dataclass(frozen=True)
class Parameter:
    """One stellar parameter: its column in ph_pars.npy, its published column name, unit and CNN, digits to print."""

    column: int
    published: str
    unit: str
    label: str
    cnn: Cnn
    digits: int


# The paper's Table 1 has the hyper-parameters of all four; we could not read it. Those of Teff are in its code. The
# others are ours for that reason, the best of CNN_GRID below in four-fold cross-validation over 15 epochs on one
# autoencoder's encodings of all 22,933 simulated spectra: `cnn_training.py --tune --parameter logg mh vsini`, seed 42;
# scores in docs/results.md.
PARAMETERS = {
    "teff": Parameter(0, "Teff", "K", r"$T_{\rm eff}$ [K]", Cnn(64, 32, 64, 0.01), 0),  # code
    "logg": Parameter(1, "logg", "dex", r"$\log g$ [dex]", Cnn(64, 32, 64, 0.003), 2),  # ours
    "mh": Parameter(2, "[M/H]", "dex", "[M/H] [dex]", Cnn(64, 32, 64, 0.001), 2),  # ours
    "vsini": Parameter(3, "vsini", "km/s", r"$v\,\sin i$ [km/s]", Cnn(32, 32, 64, 0.003), 1),  # ours
}


@dataclass(frozen=True)
class Budget:
    """How much to compute: the grid and its epochs, epochs of acts 2 to 4, repeats of act 4."""

    grid: dict
    search_epochs: int
    train_epochs: int
    fine_tune_epochs: int
    cnn_epochs: int
    repeats: int


BUDGETS = {
    "paper": Budget(GRID, 15, 120, 60, 200, REPEATS),  # Sect. 3 and code
    # ours: minutes and seconds instead of days
    "demo": Budget({"neurons_in": [256, 384], "reg_par": [1e-7], "lr": [1e-4]}, 3, 280, 60, 20, REPEATS),
    "smoke": Budget({"neurons_in": [64, 96], "reg_par": [1e-7], "lr": [1e-4]}, 2, 2, 2, 2, 2),
}

# Grid of the search for the CNNs' hyper-parameters (ours; the paper's stands nowhere that we could read)
CNN_GRID = {"nf1": [32, 64], "nf2": [32], "nu": [64], "lr": [1e-3, 3e-3, 1e-2]}

# ---------------------------------------------------------------- results (Sect. 4)
# Isochrones of Fig. 8: model, age [Gyr], [M/H] [dex]; those of the HR diagram are solar by the text
KIEL_ISOCHRONES = (("PARSEC", 5, -0.4), ("PARSEC", 5, 0.0), ("PARSEC", 5, 0.1))
HR_ISOCHRONES = (("PARSEC", 0.1, 0.0), ("PARSEC", 5, 0.0), ("Baraffe+15", 0.1, 0.0), ("Baraffe+15", 5, 0.0))

# Values are strings, as printed: their last digit is how far ours are held against them.
RANGES = {"teff": ("3050", "4300"), "logg": ("4.7", "5.1"), "mh": ("-0.53", "0.25")}  # abstract
RANGE_STEP = {"teff": 50, "logg": 0.1, "mh": 0.01}  # what those are rounded to
KS_THIN_THICK = "0.0071"  # p of the two-sample test on [M/H] of thin (D) against thick disc (TD)
VSINI_SPLIT = 12  # [km/s] of the paper's own estimates
TEFF_SPLIT = 3750  # [K] of the paper's own estimates, which are hot above it
NOT_READ = "not read"  # of a number that the paper may print, in a part of it that we could not read


@dataclass(frozen=True)
class Printed:
    """What the paper prints of one comparison: mean difference (literature minus paper), rmse, Pearson r, stars.

    All are from its text; of the table of these numbers we could read nothing.
    """

    mean: str = NOT_READ
    rmse: str = NOT_READ
    r: str = NOT_READ
    n: str = NOT_READ


# Key: table in literature_data/, its column and, for v sin i, the side of VSINI_SPLIT. Sect. 4.2. For Schweitzer+19 its
# words and its number disagree: it says that it compares with log g from mass and radius, their column `loggc`, which
# the published code plots and which gives +0.056; it prints 0.13, which is that of their spectroscopic column `logg`.
COMPARISONS = {
    ("mar21", "teff", ""): Printed("-19"),
    ("pass19", "teff", ""): Printed("-80", n="275"),
    ("schw19", "teff", ""): Printed("-40", n="278"),
    ("interf", "teff", ""): Printed("-119", n="14"),
    ("mar21", "logg", ""): Printed("0.12", r="0.39"),
    ("pass19", "logg", ""): Printed("0.00"),
    ("schw19", "logg", ""): Printed("0.13"),
    ("pass20", "logg", ""): Printed("-0.04", r="0.93"),
    ("mar21", "mh", ""): Printed("-0.11"),
    ("pass19", "mh", ""): Printed("0.06"),
    ("schw19", "mh", ""): Printed("0.00"),
    ("pass20", "mh", ""): Printed("0.23"),
    ("fgkm", "mh", ""): Printed("-0.13", n="6"),
    ("pass20", "vsini", ""): Printed(r="0.99"),
    ("pass20", "vsini", "slow"): Printed("1.83", "1.97"),
    ("pass20", "vsini", "fast"): Printed("-1.22", "1.45"),
    ("rein18", "vsini", ""): Printed(r="0.98"),
    ("rein18", "vsini", "slow"): Printed("-0.68", "1.24"),
    ("rein18", "vsini", "fast"): Printed("-3.47", "3.71"),
}


@dataclass(frozen=True)
class Claim:
    """A statement on results: of what, where, and the number that the paper prints or its words; neither: ours."""

    text: str
    section: str
    printed: str = ""
    words: str = ""

    @property
    def kind(self):
        return "printed" if self.printed else "in words" if self.words else "ours"


# What Sect. 3 says of the networks. Errors are mean squared errors, distances means over the observed spectra and then
# over the autoencoders; the first three numbers are "about". The last four are printed in plain units, K, dex and km/s.
CLAIMS_OF_RUNS = {
    "synthetic": Claim("synthetic spectra", "2", str(N_SYNTHETIC)),
    "hot": Claim(f"synthetic spectra above {TEFF_SPLIT} K", "4.2", words="a smaller training set there"),
    "autoencoders": Claim("autoencoders", "3.1", str(N_AUTOENCODERS)),
    "mse_test": Claim("reconstruction error, synthetic test set", "3.1", "5e-5"),
    "mse_carm_before": Claim("reconstruction error, all observed spectra, before fine-tuning", "3.2", "3e-3"),
    "mse_carm_test_after": Claim("reconstruction error, observed test set, after fine-tuning", "3.2", "4e-4"),
    "distance_flux": Claim("distance of an observed spectrum to the nearest synthetic one, as fluxes", "3.2", "2.72"),
    "distance_latent_after": Claim("the same distance among the 32 latent values", "3.2", "0.086"),
    "regressors": Claim("regressors trained for each parameter", "3.3", str(N_AUTOENCODERS * REPEATS)),
    "kept": Claim("regressors kept of these", "3.3", str(N_KEPT)),
    "teff": Claim("largest test error of those kept, Teff [K²]", "3.3", "353"),
    "logg": Claim("largest test error of those kept, log g [dex²]", "3.3", "0.0042"),
    "mh": Claim("largest test error of those kept, [M/H] [dex²]", "3.3", "0.0016"),
    "vsini": Claim("largest test error of those kept, v sin i [km²/s²]", "3.3", "0.054"),
}
N_FULL_GRID = 449_806  # spectra of the whole grid (Sect. 2), of which Passegger+20 already used the 22,933 as well

# What Sect. 4 says of the estimates beyond RANGES, KS_THIN_THICK and COMPARISONS. Of stars in Fig. 8 the text prints
# few counts; the others are ours, from literature_data/stars.csv, and there is nothing in print to hold them against.
CLAIMS_OF_ESTIMATES = {
    "slope": Claim("slope of {} on the estimate", "4.2", words=f"below one up to {TEFF_SPLIT} K"),
    "difference": Claim("mean of {} minus the estimate [K]", "4.2", words="estimates hotter above"),
    "dispersion": Claim("standard deviation of {} minus the estimate [K]", "4.2", words="larger above"),
    "uncertainty": Claim("mean uncertainty of Teff [K]", "4.2", words="larger above"),
    "spread": Claim("standard deviation of {} minus the estimate [K]", "4.2", words="larger for Bello23"),
    "correlation": Claim("Pearson r of Teff with {}", "4.2", words="strong with all"),
    "within": Claim("v sin i within the errors of both, {}", "4.2", words="mostly"),
    "limits": Claim("v sin i whose error reaches the upper limit, {}", "4.2", words="mostly"),
    "active": Claim("H-alpha active stars", "4.1"),
    "active_young_disc": Claim("H-alpha active stars of the young disc", "4.1", words="most of them"),
    "active_late": Claim("H-alpha active share, by Teff [K] {}", "4.1", words="grows to later types"),
    "fast": Claim(f"stars above {VSINI_SPLIT} km/s", "4.1"),
    "fast_active": Claim(f"stars above {VSINI_SPLIT} km/s that are H-alpha active", "4.1", words="most of them"),
    "fast_young_disc": Claim(f"stars above {VSINI_SPLIT} km/s of the young disc", "4.1", words="most of them"),
    "fast_cool": Claim(f"Teff of stars above {VSINI_SPLIT} km/s, and the median of all [K]", "4.1",
                       words="at the lowest Teff"),
    "above": Claim("H-alpha active, of stars {} dex above a cubic of luminosity in Teff", "4.1", words="active"),
    "below": Claim("of the thick disc, of stars {} dex below it", "4.1", words="typically"),
    "young": Claim("members of young associations, rings in Fig. 8", "4.1"),
    "probable": Claim("rings by a probability above 80 %", "4.1", "9"),
    "very_probable": Claim("rings by a probability above 95 %", "4.1", "7"),
    "associations": Claim("young associations of these", "4.1", "5"),
    "more": Claim("more stars that the text counts there", "4.1", "8"),
    "subdwarf": Claim("stars akin to subdwarfs", "4.1", "4"),
    "subdwarf_mh": Claim("[M/H] of these within the errors of both, {}", "4.1", words="in good agreement"),
}
