"""How many stars that are no M dwarfs are accepted, how many M dwarfs are lost, and how often velocity errors hold.

All are simulated: 1,000 false stars, 1,000 M dwarfs and, with --velocities, 200 more for the errors, behind a blaze, in
0.03 Angstrom a pixel, some with lines of water. The table is that of docs/own-spectra.md.

    python tests/benchmarks/false_stars.py [--n 1000] [--seed 0] [--velocities] [--out table.csv]
    python tests/benchmarks/false_stars.py --shifts src_files/demo    # what a wrong velocity does to a small network
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Methodology"), str(ROOT / "src_files")]
import paper
from observations import orders, preparation
from spectra.transforms import LIGHT
from spectra.velocity import Templates
from synthetic import simulation as sim
from synthetic.labels import label_grid
from workflow.files import UnitFailed

PHYSICS = sim.Physics.reference()
WAVE = np.arange(8793.2, 8842.0, 0.03)  # [Angstrom] of the pixels
GAP_SEEDS = range(5)
# Teff [K], log g [dex], [M/H] [dex], v sin i [km/s] of stars that are no M dwarfs, each from..to
STARS = {
    "K dwarfs": ((4600, 5300), (4.4, 4.7), (-0.5, 0.3), (1.5, 20)),
    "G dwarfs": ((5300, 6000), (4.2, 4.6), (-0.5, 0.3), (1.5, 20)),
    "M giants": ((3300, 4200), (0.5, 2.0), (-0.5, 0.3), (1.5, 10)),
    "K giants": ((4200, 5200), (1.5, 3.3), (-0.5, 0.3), (1.5, 10)),
    "metal-poor giants": ((4000, 5200), (1.0, 3.5), (-2.5, -0.8), (1.5, 10)),
}


def log_uniform(rng, low, high, n=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), n))


def without_stars(rng, n):
    """(kind, smooth flux on sim.WAVE, S/N, depth of water lines) of what has no lines of an M dwarf."""
    flat, wave = np.ones(len(sim.WAVE)), sim.WAVE

    def lines(count):
        places, depths, widths = rng.uniform([[8798], [0.02], [0.06]], [[8837], [0.5], [0.5]], (3, count))
        return np.prod([1 - depth * np.exp(-0.5 * ((wave - place) / width) ** 2)
                        for place, depth, width in zip(places, depths, widths)], axis=0)

    def early():
        wings = [(place, rng.uniform(0.05, 0.4), rng.uniform(8, 25)) for place in (8752.9, 8865.2)]  # Paschen 12 and 11
        return 1 - sum(depth * np.exp(-0.5 * ((wave - place) / width) ** 2) for place, depth, width in wings)

    kinds = {
        "featureless": lambda: (flat, log_uniform(rng, 20, 300), 0),
        "early type, with water": lambda: (early(), log_uniform(rng, 20, 300), rng.choice([0, 0.05, 0.2])),
        "one line": lambda: (lines(1), log_uniform(rng, 20, 300), rng.choice([0, 0.05, 0.2])),
        "two lines": lambda: (lines(2), log_uniform(rng, 20, 300), rng.choice([0, 0.05, 0.2])),
        "three lines": lambda: (lines(3), log_uniform(rng, 20, 300), rng.choice([0, 0.05, 0.2])),
        "water": lambda: (flat, log_uniform(rng, 20, 300), rng.uniform(0.05, 0.4)),
        "noise": lambda: (flat, log_uniform(rng, 2, 15), 0),
        "fringes": lambda: (1 + rng.uniform(0.01, 0.1) * np.sin(2 * np.pi * wave / rng.uniform(0.5, 8)),
                            log_uniform(rng, 20, 300), 0),
    }
    for kind, made in kinds.items():
        for _ in range(n):
            yield kind, *made()


def labels_within(rng, n, teff, logg, mh, vsini):
    return np.c_[rng.uniform(*teff, n), rng.uniform(*logg, n), rng.uniform(*mh, n), log_uniform(rng, *vsini, n)]


def m_dwarfs(rng, n, teff=(2300, 4200), vsini=(1.5, 40)):
    labels = labels_within(rng, n, teff, (-0.1, 0.1), (-0.6, 0.4), vsini)
    labels[:, 1] += np.interp(labels[:, 0], [2300, 3000, 4200], [5.3, 5.1, 4.7])
    return labels


def smooth(labels, gap, gap_seed):
    nature = PHYSICS.perturbed(gap, np.random.default_rng([gap_seed, 2]))
    spectra = np.empty((len(labels), len(sim.WAVE)))
    for rows, flux in sim.smooth_spectra(labels, nature):
        spectra[rows] = flux
    return spectra


def observe(rng, flux, snr, rv, water):
    """Flux and error in counts of a moving star behind a blaze and, if `water` is not 0, lines of water."""
    flux = np.interp(WAVE, sim.WAVE * (1 + rv / LIGHT), flux)
    width = np.hypot(WAVE.mean() / paper.RESOLVING_POWER / 2.3548, 0.03)
    for line in preparation.TELLURIC:
        flux = flux * (1 - water * np.exp(-0.5 * ((WAVE - line) / width) ** 2))
    x = np.linspace(-1, 1, len(WAVE))
    blaze = 0.7 + 0.2 * rng.uniform(-1, 1) * x - 0.3 * rng.uniform(0, 1) * x**2
    error = np.sqrt(np.maximum(flux * blaze, 1e-3) / np.median(blaze)) / snr
    return 1e4 * (flux * blaze + rng.normal(size=len(WAVE)) * error), 1e4 * error


def prepared(rng, templates, flux, snr, water, rv):
    spectrum = orders.from_arrays(WAVE, *observe(rng, flux, snr, rv, water), medium="vacuum",
                                  resolving_power=paper.RESOLVING_POWER)
    try:
        return preparation.prepare(spectrum, templates, preparation.Settings(continuum="envelope")).record
    except UnitFailed:
        return {}


def shifts(folder, seed):
    """Print how far estimates move with a wrong velocity, by a small network on principal components with noise."""
    from sklearn.decomposition import PCA
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    flux, labels = np.load(folder / "ph_flux_norm.npy"), np.load(folder / "ph_pars.npy")
    rng, scaler = np.random.default_rng(seed), StandardScaler().fit(labels)
    train, test = np.split(rng.permutation(len(flux)), [4 * len(flux) // 5])
    encoder = make_pipeline(PCA(32, random_state=seed), StandardScaler()).fit(flux[train])
    noisy = [encoder.transform(flux[train] + rng.normal(0, 0.02, flux[train].shape)) for _ in range(4)]
    network = MLPRegressor((64, 64), early_stopping=True, random_state=seed)
    network.fit(np.concatenate(noisy), np.tile(scaler.transform(labels[train]), (4, 1)))

    def estimates(rv):
        moved = [np.interp(paper.WAVELENGTH, paper.WAVELENGTH * (1 + rv / LIGHT), row) for row in flux[test]]
        return scaler.inverse_transform(network.predict(encoder.transform(np.array(moved))))

    for rv in (0.5, 1, 2, 3, 5):
        moved = np.concatenate([estimates(rv), estimates(-rv)]) - np.tile(estimates(0), (2, 1))
        print(f"{rv} km/s, rms:", *(f"{name} {value:.3g}" for name, value in
                                    zip(paper.PARAMETERS, np.sqrt(np.mean(moved**2, axis=0)))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--velocities", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--shifts", type=Path)
    args = parser.parse_args()
    if args.shifts:
        shifts(args.shifts, args.seed)
        return
    rng = np.random.default_rng(args.seed)
    print(f"seed {args.seed}, gap seeds {list(GAP_SEEDS)}, {args.n} false stars and {args.n} M dwarfs")
    labels = label_grid()
    labels = labels[np.sort(np.random.default_rng([paper.SPLIT_SEED, 0]).permutation(len(labels))[:3000])]
    templates = Templates.of(sim.synthesise(labels, PHYSICS), labels)
    n_kind, rows = -(-args.n // (8 + len(STARS))), []

    def add(kind, flux, snr, water, rv=0.0, **known):
        record = prepared(rng, templates, flux, snr, water, rv)
        off = record.get("rv", np.nan) - rv
        rows.append({"kind": kind, "snr": snr, "accepted": bool(record), "odd": record.get("odd", ""), "off": off,
                     "holds": abs(off) < record.get("e_rv", np.nan), "depth": record.get("depth", np.nan), **known})

    def add_stars(kind, labels, gap, gap_seed):
        for flux, label in zip(smooth(labels, gap, gap_seed), labels):
            add(kind, flux, log_uniform(rng, 20, 150), rng.choice([0, 0.05, 0.1]), rng.uniform(-60, 60), gap=gap,
                teff=label[0], vsini=label[3])

    for row in without_stars(rng, n_kind):
        add(*row)
    for kind, bounds in STARS.items():
        for gap in (0, 1):
            add_stars(kind, labels_within(rng, n_kind // 2, *bounds), gap, 0)
    for gap_seed in GAP_SEEDS:
        for gap in (0, 1):
            add_stars(f"M dwarfs, gap {gap}", m_dwarfs(rng, args.n // 10), gap, gap_seed)
    if args.velocities:
        for gap_seed in GAP_SEEDS:
            for gap in (0, 1):
                add_stars("velocities", m_dwarfs(rng, 20, (2300, 4000), (2, 30)), gap, gap_seed)
    table = pd.DataFrame(rows)
    if args.out:
        table.to_csv(args.out, index=False)
    table["unflagged"] = table["accepted"] & (table["odd"] == "")
    kinds = table[table["kind"] != "velocities"].groupby("kind", sort=False)
    print(kinds.agg(n=("accepted", "size"), accepted=("accepted", "sum"), unflagged=("unflagged", "sum")).to_string())
    false = table[~table["kind"].isin(["M dwarfs, gap 0", "M dwarfs, gap 1", "velocities"])]
    true = table[table["kind"].str.startswith("M dwarfs")]
    print(f"false: {len(false)}, accepted {false['accepted'].sum()}, unflagged {false['unflagged'].sum()} "
          f"({false['unflagged'].mean():.2%}); M dwarfs: {len(true)}, lost {(~true['accepted']).sum()} "
          f"({(~true['accepted']).mean():.2%}), unflagged {true['unflagged'].sum()}")
    if args.velocities:
        stars = table[(table["kind"] == "velocities") & table["accepted"]]
        bins = [pd.cut(stars["teff"], [2300, 2900, 3400, 4000]), pd.cut(stars["vsini"], [2, 7, 30])]
        held = stars.groupby(bins, observed=True).agg(n=("off", "size"), holds=("holds", "mean"),
                                                      off=("off", lambda off: off.abs().quantile(0.68)))
        print(held.round(2).to_string())
        print(stars.groupby("gap")["holds"].mean().round(2).to_string())


if __name__ == "__main__":
    main()
