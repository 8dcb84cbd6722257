"""Families of gaps: in what form the physics of the simulated stars differs from that of the synthetic spectra.

`lines`, the first, is that of `simulation.Physics`: other line strengths and positions, other damping, lines lost and
gained; lines form as in the synthetic spectra. `growth`, the second, was written without looking at any result and has
another form throughout. At gap 1, all drawn once for all stars unless said otherwise:

- Lines form by Minnaert's curve of growth: depth = R R_c / (R + R_c), with R the depth of weak lines as in the
  synthetic spectra, GRADIENT h c / (lambda k Teff) eta, and a central depth R_c between 0.80 and 0.95. (Theirs deepen
  without end.)
- Strength: each atomic line 0.2 dex, each molecular line 0.4 dex; each chemical element 0.15 dex (an abundance
  pattern), each molecule 0.25 dex.
- Temperature dependence: the lower energy of each line is off by 0.4 eV, of each species by another 0.3 eV, strengths
  as they are at THETA.
- Place: each line 0.015 Angstrom, each species a velocity of 0.3 km/s, as by convection.
- Lines lost: a fifth of the molecular ones and a tenth of the atomic ones. Lines gained: 60 molecular ones, and 40 of
  atoms that the synthetic spectra lack, with lower energies to 4 eV and strengths spread exponentially.
- Damping: 0.1 dex.
- Continuum: of each star a cubic with coefficients of 0.01 and a fringe of 0.4 % and 6 to 20 Angstrom.
- Velocity left over: of each star, uniform within 0.4 km/s.
"""
from dataclasses import dataclass, replace

import numpy as np

from synthetic.simulation import BINDING, GRADIENT, LIGHT, THETA, WAVE, Physics

STRENGTH_ATOM, STRENGTH_MOLECULE = 0.2, 0.4  # [dex] a line
STRENGTH_ELEMENT, STRENGTH_SPECIES = 0.15, 0.25  # [dex] an element, a molecule
ENERGY_LINE, ENERGY_SPECIES = 0.4, 0.3  # [eV]
POSITION, VELOCITY = 0.015, 0.3  # [Angstrom] a line, [km/s] a species
LOST_ATOM, LOST_MOLECULE = 0.1, 0.2
GAINED_ATOM, GAINED_MOLECULE = 40, 60
DAMPING_ERROR = 0.1  # [dex]
CENTRAL_DEPTH = 0.80, 0.95
CUBIC, FRINGE, PERIOD = 0.01, 0.004, (6, 20)  # relative, relative, [Angstrom]
LARGEST_RV = 0.4  # [km/s]


@dataclass(frozen=True)
class Growth(Physics):
    """The second family: lines that saturate at `central_depth`, `mixed` of the way from the synthetic spectra's."""

    central_depth: float = 1.0
    mixed: float = 0.0

    def emergent(self, planck, opacity):
        """Flux of an opacity (n_nodes, n_pixels) relative to the continuum's; planck = h c / (lambda k Teff)."""
        as_modelled = super().emergent(planck, opacity)
        if self.mixed == 0:
            return as_modelled
        weak = GRADIENT * planck * opacity
        grown = 1 - weak * self.central_depth / (weak + self.central_depth)
        return (1 - self.mixed) * as_modelled + self.mixed * grown

    def perturbed(self, gap, rng):
        """The physics of the stars; a gap between 0 and 1 mixes it with no gap."""
        if gap == 0:
            return self
        n, species = len(self.wave), self.species
        molecular = np.isin(species, list(BINDING))
        kinds = np.unique(species)
        kind_of = np.searchsorted(kinds, species)
        common = np.where(np.isin(kinds, list(BINDING)), STRENGTH_SPECIES, STRENGTH_ELEMENT)
        strength = rng.normal(0, np.where(molecular, STRENGTH_MOLECULE, STRENGTH_ATOM)) + rng.normal(0, common)[kind_of]
        energy = rng.normal(0, ENERGY_LINE, n) + rng.normal(0, ENERGY_SPECIES, len(kinds))[kind_of]
        moved = rng.normal(0, POSITION, n) + self.wave * rng.normal(0, VELOCITY, len(kinds))[kind_of] / LIGHT
        lost = rng.random(n) < np.where(molecular, LOST_MOLECULE, LOST_ATOM)
        damping = self.damping * 10 ** (gap * rng.normal(0, DAMPING_ERROR))
        central_depth = rng.uniform(*CENTRAL_DEPTH)
        gained = np.r_[rng.choice(kinds[~np.isin(kinds, list(BINDING))], GAINED_ATOM),
                       rng.choice(list(BINDING), GAINED_MOLECULE)]
        gained_energy = np.r_[rng.uniform(0, 4, GAINED_ATOM), rng.uniform(0, 1, GAINED_MOLECULE)]
        # as strong at THETA as the middling lines of the same kind, less an exponential
        middle = {kind: np.median((self.log_gf - THETA * self.e_low)[species == kind]) for kind in kinds}
        gained_gf = np.array([middle[kind] for kind in gained]) + 0.5 - rng.exponential(0.5, len(gained))
        gained_wave = rng.uniform(WAVE[0], WAVE[-1], len(gained))
        return replace(
            self, wave=np.r_[self.wave + gap * moved, gained_wave],
            e_low=np.r_[self.e_low + gap * energy, gained_energy],
            log_gf=np.r_[self.log_gf + gap * (strength + THETA * energy - 3.0 * lost),
                         gained_gf + THETA * gained_energy + np.log10(gap)],
            species=np.r_[species, gained], damping=damping, central_depth=central_depth, mixed=min(gap, 1.0))

    def continuum(self, gap, rng):
        """Velocity left over [km/s], and what multiplies the flux of a star: a cubic and a fringe."""
        x = np.linspace(-1, 1, len(WAVE))
        rv = gap * rng.uniform(-LARGEST_RV, LARGEST_RV)
        cubic = rng.normal(0, CUBIC, 3) @ np.stack([x, 1.5 * x**2 - 0.5, 2.5 * x**3 - 1.5 * x])
        fringe = FRINGE * np.sin(2 * np.pi * (WAVE / rng.uniform(*PERIOD) + rng.random()))
        return rv, 1 + gap * (cubic + fringe)


FAMILIES = {"lines": Physics, "growth": Growth}
