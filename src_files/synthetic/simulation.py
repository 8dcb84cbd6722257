"""A line-by-line simulation of M dwarfs."""
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

import paper
from spectra import transforms
from spectra.continuum import envelope
from spectra.transforms import LIGHT, MIDDLE, STEP, WINDOW, broaden
from synthetic.labels import by_star, label_grid
from workflow.progress import progress_bar

HERE = Path(__file__).resolve().parents[1]

WAVE = 8792.5 + STEP * np.arange(5000)  # the window, its margin and room for the broadest kernel
FIRST = round((paper.WINDOW[0] - paper.MARGIN - WAVE[0]) / STEP)
NORMALISED = slice(FIRST, FIRST + len(transforms.WAVE))  # window and margin
# Solar abundances, log10 with hydrogen at 12 (Asplund et al. 2009), and atomic masses
ABUNDANCE = {"Mg": 7.60, "Al": 6.45, "Ca": 6.34, "Sc": 3.15, "Ti": 4.95, "V": 3.93, "Cr": 5.64, "Fe": 7.50,
             "Co": 4.99, "Ni": 6.22, "Y": 2.21, "Zr": 2.58, "Nb": 1.46, "La": 1.10, "Ce": 1.58}
MASS = {"Mg": 24, "Al": 27, "Ca": 40, "Sc": 45, "Ti": 48, "V": 51, "Cr": 52, "Fe": 56, "Co": 59, "Ni": 59,
        "Y": 89, "Zr": 91, "Nb": 93, "La": 139, "Ce": 140, "FeH": 57, "TiO": 64}
BINDING = {"FeH": 1.59, "TiO": 6.87}  # dissociation energies [eV]
VERSION = 1  # raise it whenever the same settings give other spectra
PIECE = 64  # nodes synthesised at a time
# Constants of the simulation, fitted roughly to GJ 699 and to the PHOENIX-ACES model of 2800 K
LAYER = 1.13  # temperature where lines form / Teff
GRADIENT = 0.061  # of temperature with optical depth, dlnT / dln(tau)
MICROTURBULENCE = 1.25  # [km/s]
DAMPING = 0.023  # Lorentz half width [Angstrom] at log g 5, solar
DAMPING_MG = 1.7  # that of Mg I, relative
DAMPING_MOLECULE = 0.030  # [Angstrom]; molecular lines keep their shape
LOG_ATOM, LOG_MG, LOG_FEH, LOG_TIO = -0.57, 0.95, 2.22, 1.55  # strengths; Mg I on top of the atoms'
THETA = 1.4  # 5040 K / temperature at which the strengths are those above
LOG_HAZE = 0.13  # opacity of unresolved molecules at solar metallicity, that of H- at THETA being 0
TIO_THETA = 1.26  # where half of Ti is bound in TiO, at log g 5 and solar metallicity
FOREST_LEVEL = -2.05  # median strength of the lines below, as lines.csv counts
FOREST_SEED, FOREST_LINES = 20240405, 500  # the TiO lines no list gives
# What a gap of 1 does to the observed stars; see "The gap" in src_files/README.md
GAP_ATOM, GAP_FOREST = 0.3, 0.6  # strength of each atomic and each molecular line [dex]
GAP_MOLECULE, GAP_DAMPING = 0.2, 0.15  # strength of FeH and of TiO as a whole, damping [dex]
GAP_MISSING, GAP_EXTRA = 0.15, 80  # share of molecular lines lost, number of lines gained
GAP_POSITION = 0.02  # [Angstrom]
GAP_RV, GAP_TILT = 0.2, 0.02  # [km/s]; relative, from the middle to an end
SNR = (paper.MIN_SNR, 400)


@dataclass(frozen=True)
class Physics:
    """A line list, arrays of shape (n_lines,), and the shape of its lines."""

    wave: np.ndarray  # [Angstrom], vacuum
    e_low: np.ndarray  # lower energy [eV]
    log_gf: np.ndarray  # log10 of oscillator strength times abundance
    species: np.ndarray  # chemical symbol; "FeH" and "TiO" make the molecular forest
    damping: float = DAMPING  # Lorentz half width [Angstrom] at log g 5 and solar metallicity

    @classmethod
    def reference(cls):
        """The physics of the synthetic spectra: `lines.csv` and the dense TiO forest."""
        lines = pd.read_csv(HERE / "lines.csv", comment="#")
        species = lines["species"].str.split().str[0]
        rng = np.random.default_rng(FOREST_SEED)
        # most anywhere, the rest crowd behind the band head that real spectra show at 8802.6 Angstrom
        forest = np.where(rng.random(FOREST_LINES) < 0.6, rng.uniform(WAVE[0], WAVE[-1], FOREST_LINES),
                          8802.65 + rng.exponential(2.0, FOREST_LINES))
        strength = FOREST_LEVEL + 0.5 * rng.normal(size=FOREST_LINES)
        return cls(np.r_[lines["wave_vac"], forest], np.r_[lines["e_low"], rng.uniform(0, 1, FOREST_LINES)],
                   np.r_[lines["log_gf"] + species.map(ABUNDANCE).fillna(0), strength],
                   np.r_[species, ["TiO"] * FOREST_LINES].astype(str))

    def perturbed(self, gap, rng):
        """Other physics, as reality differs from a model: every error is drawn whatever the gap, and scaled by it."""
        if gap == 0:
            return self
        n = len(self.wave)
        molecular = np.isin(self.species, list(BINDING))
        log_gf = self.log_gf + gap * rng.normal(0, np.where(molecular, GAP_FOREST, GAP_ATOM))
        for molecule in BINDING:
            log_gf = log_gf + gap * rng.normal(0, GAP_MOLECULE) * (self.species == molecule)
        log_gf = log_gf - gap * 2.0 * molecular * (rng.random(n) < GAP_MISSING)  # not seen in the star
        wave = self.wave + gap * rng.normal(0, GAP_POSITION, n)
        damping = self.damping * 10 ** (gap * rng.normal(0, GAP_DAMPING))
        extra = rng.uniform(WAVE[0], WAVE[-1], GAP_EXTRA)  # lines the model does not know
        extra_gf = rng.normal(-0.7, 0.3, GAP_EXTRA) + np.log10(gap)
        return replace(
            self, wave=np.r_[wave, extra], e_low=np.r_[self.e_low, rng.uniform(0, 1, GAP_EXTRA)],
            log_gf=np.r_[log_gf, extra_gf], species=np.r_[self.species, ["TiO"] * GAP_EXTRA], damping=damping)


    def emergent(self, planck, opacity):
        """Flux of an opacity (n_nodes, n_pixels) relative to the continuum's; planck = h c / (lambda k Teff)."""
        return np.exp(-planck * ((1 + opacity) ** GRADIENT - 1))

    def continuum(self, gap, rng):
        """Velocity left over [km/s], and what multiplies the flux of a star: a tilt."""
        rv, tilt = gap * rng.normal(0, GAP_RV), gap * rng.normal(0, GAP_TILT)
        return rv, 1 + tilt * np.linspace(-1, 1, len(WAVE))


def line_strengths(nodes, physics):
    """Opacity at the centre of every line (n_nodes, n_lines), the continuum's being 1, and gas pressure (n_nodes,).

    Nodes (n_nodes, 3) are Teff [K], log g [dex], [M/H] [dex]; pressure is 1 at log g 5 and solar metallicity.
    """
    teff, logg, mh = np.asarray(nodes, dtype=float).T[..., None]
    theta = 5040 / (LAYER * teff)
    # hydrostatic: P ~ (g / opacity)^(2/3); the opacity is H-, its electrons come from metals of 4.8 eV,
    # so n_e ~ (P Z)^(1/2) 10^(-2.4 theta), and H- itself is bound by 0.75 eV
    log_pressure = 2 / 3 * (logg - 5) - mh / 3
    log_hydride = (log_pressure + mh) / 2 - 1.65 * (theta - THETA)
    log_continuum = np.log10(10**log_hydride + 10 ** (LOG_HAZE + mh))
    mass_action = 10 ** (BINDING["TiO"] * (theta - TIO_THETA) + log_pressure + mh)
    bound = np.log10(mass_action / (1 + mass_action))  # share of Ti in TiO
    species = physics.species
    log_strength = physics.log_gf - theta * physics.e_low + mh - log_continuum
    log_strength = log_strength + np.select(
        [species == "FeH", species == "TiO", species == "Ti", species == "Mg"],
        [LOG_FEH + BINDING["FeH"] * (theta - THETA) + log_pressure, LOG_TIO + bound,
         LOG_ATOM - np.log10(1 + mass_action), LOG_ATOM + LOG_MG], LOG_ATOM)
    return 10 ** log_strength, 10 ** log_pressure[:, 0]


def intrinsic_spectra(nodes, physics):
    """Spectra (n_nodes, len(WAVE)) of stars that do not rotate, before any instrument; unit continuum.

    Eddington and Barbier: the flux is the Planck function where the optical depth is about one. Line opacity `eta`, in
    units of the continuum's and summed over lines, lifts that place by 1 + eta to where it is cooler,
    T ~ (1 + eta)^-GRADIENT: weak lines deepen in proportion, strong ones saturate. Damping grows with pressure.
    """
    strengths, pressure = line_strengths(nodes, physics)
    teff = nodes[:, 0]
    molecular = np.isin(physics.species, list(BINDING))
    profiles = np.zeros((molecular.sum(), len(WAVE)))
    for profile, line in zip(profiles, np.flatnonzero(molecular)):
        add_line(profile, 1.0, physics, line, 3000.0, DAMPING_MOLECULE * physics.damping / DAMPING)
    opacity = strengths[:, molecular] @ profiles
    for node in range(len(nodes)):
        for line in np.flatnonzero(~molecular):
            if strengths[node, line] > 1e-3:
                add_line(opacity[node], strengths[node, line], physics, line, LAYER * teff[node],
                         physics.damping * pressure[node])
    planck = 1.43878e8 / MIDDLE / teff[:, None]  # h c / lambda k Teff; Wien's law is close enough here
    return physics.emergent(planck, opacity)


def add_line(opacity, strength, physics, line, temperature, damping):
    """Add one Voigt line to `opacity` in place, out to where it falls below 1e-3 of the continuum."""
    species, wave = physics.species[line], physics.wave[line]
    doppler = wave / LIGHT * np.hypot(np.sqrt(0.01663 * temperature / MASS[species]), MICROTURBULENCE)
    if species == "Mg":
        damping = damping * DAMPING_MG
    reach = 4 * doppler + min(np.sqrt(strength * doppler * damping / 1e-3), 12.0)
    first, last = np.searchsorted(WAVE, [wave - reach, wave + reach])
    voigt = special.voigt_profile(WAVE[first:last] - wave, doppler / np.sqrt(2), damping)
    opacity[first:last] += strength * np.sqrt(np.pi) * doppler * voigt


def normalise(spectra):
    """Divide by an upper envelope that knows nothing of the true continuum, over window and margin; cut the window."""
    spectra = spectra[..., NORMALISED]
    return (spectra / envelope(spectra))[..., WINDOW]


def synthesise(labels, physics, resolving_power=paper.RESOLVING_POWER):
    """Normalised spectra (n_spectra, 3501) without noise, for Teff [K], log g [dex], [M/H] [dex], v sin i [km/s]."""
    labels = np.asarray(labels, dtype=float)
    spectra = np.empty((len(labels), paper.N_PIXELS), dtype=np.float32)
    with progress_bar(total=len(labels), desc="simulated spectra", unit="spectrum") as bar:
        for rows, smooth in smooth_spectra(labels, physics, resolving_power):
            spectra[rows] = normalise(smooth)
            bar.update(len(rows))
    return spectra


def smooth_spectra(labels, physics, resolving_power=paper.RESOLVING_POWER):
    """Yield (rows, broadened spectra before normalisation): one synthesis a node, one convolution a row."""
    nodes, rows_of = by_star(labels)
    for first in range(0, len(nodes), PIECE):
        intrinsic = intrinsic_spectra(nodes[first : first + PIECE], physics)
        for spectrum, rows in zip(intrinsic, rows_of[first:]):
            yield rows, broaden(spectrum, labels[rows, 3], resolving_power)


def draw_stars(seed, n_observed=paper.N_OBSERVED):
    """Simulated stars in the order of karmn, drawn about the published estimates: names, positions, true parameters."""
    table = pd.read_csv(HERE.parent / "literature_data" / "mas24.csv", comment="#").sort_values("karmn")
    deviate = np.random.default_rng([seed, 1]).normal(size=(len(table), len(paper.PARAMETERS)))
    stars = table[["karmn", "ra", "dec"]].copy()
    for name, z in zip(paper.PARAMETERS, deviate.T):
        stars[name] = table[name] + z * np.where(z < 0, table[f"e_{name}"], table[f"E_{name}"])
    stars["vsini"] = stars["vsini"].clip(lower=0.5)
    rows = np.linspace(0, len(table) - 1, n_observed).round().astype(int)
    return stars.iloc[rows].reset_index(drop=True)


def observe(stars, physics, gap, gap_seed, resolving_power=paper.RESOLVING_POWER, snr_range=SNR):
    """Observed spectra (n_stars, 3501) of stars as `draw_stars` gives them, and these with `snr` and `rv` [km/s].

    They have other physics than the synthetic ones, one perturbed line list for all, a small velocity left over, a tilt
    and photon noise; `snr` is per pixel at the continuum.
    """
    nature = physics.perturbed(gap, np.random.default_rng([gap_seed, 2]))
    labels = stars[list(paper.PARAMETERS)].to_numpy(dtype=float)
    flux_carm = np.empty((len(stars), paper.N_PIXELS), dtype=np.float32)
    seen = np.empty((len(stars), 2))
    for rows, spectra in smooth_spectra(labels, nature, resolving_power):
        for row, flux in zip(rows, spectra):
            # every star has its own stream, whichever others are simulated
            rng = np.random.default_rng([gap_seed, 3, *stars["karmn"].iloc[row].encode()])
            snr = rng.uniform(*snr_range)
            rv, level = nature.continuum(gap, rng)
            flux = np.interp(WAVE, WAVE * (1 + rv / LIGHT), flux)
            flux = flux + rng.normal(size=len(WAVE)) * np.sqrt(flux) / snr
            flux_carm[row] = normalise(flux * level)
            seen[row] = snr, rv
    return flux_carm, stars.assign(snr=seen[:, 0], rv=seen[:, 1])


def simulate(seed=paper.SPLIT_SEED, gap=1.0, gap_seed=0, n_spectra=paper.N_SYNTHETIC, n_observed=paper.N_OBSERVED,
             resolving_power=paper.RESOLVING_POWER, family=Physics):
    """Both domains: flux_ph (independent of `gap` and `gap_seed`), labels_ph, flux_carm and stars."""
    labels = label_grid()
    if n_spectra < len(labels):
        labels = labels[np.sort(np.random.default_rng([seed, 0]).permutation(len(labels))[:n_spectra])]
    physics = family.reference()
    flux_carm, stars = observe(draw_stars(seed, n_observed), physics, gap, gap_seed, resolving_power)
    return synthesise(labels, physics, resolving_power), labels, flux_carm, stars
