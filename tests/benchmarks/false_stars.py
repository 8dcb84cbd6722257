"""How many stars that are no M dwarfs are accepted, how many M dwarfs lost; which faults have a flag; velocity errors.

All are simulated, behind a blaze, in 0.03 Angstrom a pixel, some with lines of water. The tables of docs/own-spectra.md
are those of --out docs/data:

    python tests/benchmarks/false_stars.py [--n 1000] [--seed 0] [--out DIR]          # false_stars.csv
    python tests/benchmarks/false_stars.py --faults [--n 1000]                        # faults.csv: a word for each
    python tests/benchmarks/false_stars.py --velocities --gap-seeds 20 39    # velocity_errors.csv, both families
    python tests/benchmarks/false_stars.py --lost --n 1500 --gap-seeds 230 259    # lost.csv: M dwarfs, both families
    python tests/benchmarks/false_stars.py --shifts src_files/demo    # what a wrong velocity does to a small network
    python tests/benchmarks/false_stars.py --stray artifacts/demo --n 40    # stray_light.csv: it and [M/H] look alike
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Methodology"), str(ROOT / "src_files")]
import paper
from observations import likeness, orders, preparation
from spectra.transforms import LIGHT
from spectra.velocity import Templates
from synthetic import simulation as sim
from synthetic.gap_families import FAMILIES
from synthetic.labels import label_grid
from workflow.files import UnitFailed

PHYSICS = sim.Physics.reference()
WAVE = np.arange(8793.2, 8842.0, 0.03)  # [Angstrom] of the pixels
# Teff [K], log g [dex], [M/H] [dex], v sin i [km/s] of stars that are no M dwarfs, each from..to
STARS = {
    "K dwarfs": ((4600, 5300), (4.4, 4.7), (-0.5, 0.3), (1.5, 20)),
    "G dwarfs": ((5300, 6000), (4.2, 4.6), (-0.5, 0.3), (1.5, 20)),
    "M giants": ((3300, 4200), (0.5, 2.0), (-0.5, 0.3), (1.5, 10)),
    "K giants": ((4200, 5200), (1.5, 3.3), (-0.5, 0.3), (1.5, 10)),
    "metal-poor giants": ((4000, 5200), (1.0, 3.5), (-2.5, -0.8), (1.5, 10)),
}


OTHER_PEAK = 15.0  # [km/s]
STRAY = [*(("stray light", light) for light in (0.0, 0.05, 0.1, 0.2)),
         *(("[M/H]", mh) for mh in (0.2, 0.0, -0.2, -0.4, -0.6))]


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


def smooth(labels, gap, gap_seed, power=paper.RESOLVING_POWER, family="lines"):
    nature = FAMILIES[family].reference().perturbed(gap, np.random.default_rng([gap_seed, 2]))
    spectra = np.empty((len(labels), len(sim.WAVE)))
    for rows, flux in sim.smooth_spectra(labels, nature, power):
        spectra[rows] = flux
    return spectra


def observe(rng, flux, snr, rv, water, wave=WAVE):
    """Flux and error in counts of a moving star behind a blaze and, if `water` is not 0, lines of water."""
    flux = np.interp(wave, sim.WAVE * (1 + rv / LIGHT), flux)
    width = np.hypot(wave.mean() / paper.RESOLVING_POWER / 2.3548, 0.03)
    for line in preparation.TELLURIC:
        flux = flux * (1 - water * np.exp(-0.5 * ((wave - line) / width) ** 2))
    x = np.linspace(-1, 1, len(wave))
    blaze = 0.7 + 0.2 * rng.uniform(-1, 1) * x - 0.3 * rng.uniform(0, 1) * x**2
    error = np.sqrt(np.maximum(flux * blaze, 1e-3) / np.median(blaze)) / snr
    return 1e4 * (flux * blaze + rng.normal(size=len(wave)) * error), 1e4 * error


def prepared(rng, templates, flux, snr, water, rv, wave=WAVE):
    """The record of a star, {} if it is none; `flux` on sim.WAVE, or two of orders that share 10 Angstrom."""
    arrays = [observe(rng, array, snr, rv, water, wave) for array in np.atleast_2d(flux)]
    for (flux, _), beyond in zip(arrays, (wave > 8822, wave < 8812)):
        flux[beyond & (len(arrays) == 2)] = np.nan
    spectrum = orders.from_arrays(np.array([wave] * len(arrays)), *np.swapaxes(arrays, 0, 1), medium="vacuum",
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


def stray_light(rng, n, artifacts):
    """Depth of lines, and [M/H] as the networks of a run read it, of stars with stray light or another [M/H]."""
    from estimate import estimate

    labels = m_dwarfs(rng, n, (2800, 4000), (2, 10))
    seen, rows = [weather(rng)[:2] for _ in labels], []
    for gap in (0, 1):
        for change, value in STRAY:
            light = value if change == "stray light" else 0.0
            labels[:, 2] = value if change == "[M/H]" else 0.0
            for star, flux in enumerate(smooth(labels, gap, 0)):
                snr, rv = seen[star]
                flux, error = observe(np.random.default_rng(star), (1 - light) * flux + light, snr, rv, 0)
                try:
                    row = estimate(WAVE, flux, artifacts, error=error)
                except UnitFailed:
                    continue
                rows.append({"gap": gap, "change": change, "value": value, "depth": row["depth"],
                             "mh": row["[M/H]"], "flagged": "shallow-lines" in row["odd"]})
    stars = pd.DataFrame(rows).groupby(["change", "value", "gap"], sort=False)
    return stars.agg(n=("depth", "size"), depth=("depth", "mean"), depth_scatter=("depth", "std"), mh=("mh", "mean"),
                     mh_scatter=("mh", "std"), flagged=("flagged", "mean")).round(3).reset_index()


def known_templates():
    labels = label_grid()
    labels = labels[np.sort(np.random.default_rng([paper.SPLIT_SEED, 0]).permutation(len(labels))[:3000])]
    return Templates.of(sim.synthesise(labels, PHYSICS), labels)


def weather(rng):
    """S/N, velocity [km/s] and depth of water lines of a star."""
    return log_uniform(rng, 20, 150), rng.uniform(-60, 60), rng.choice([0, 0.05, 0.1])


def false_stars(rng, n, gap_seeds):
    """Of each kind how many there were, were accepted, had no word, and had `blunt-lines` alone."""
    templates, n_kind, rows = known_templates(), -(-n // (8 + len(STARS))), []

    def add(kind, flux, snr, water, rv=0.0):
        record = prepared(rng, templates, flux, snr, water, rv)
        rows.append({"kind": kind, "accepted": bool(record), **{
            name: record.get("odd") == word for name, word in (("unflagged", ""), ("blunt", "blunt-lines"))}})

    def add_stars(kind, labels, gap, gap_seed):
        for flux in smooth(labels, gap, gap_seed):
            snr, rv, water = weather(rng)
            add(kind, flux, snr, water, rv)

    for row in without_stars(rng, n_kind):
        add(*row)
    for kind, bounds in STARS.items():
        for gap in (0, 1):
            add_stars(kind, labels_within(rng, n_kind // 2, *bounds), gap, 0)
    for gap_seed in gap_seeds:
        for gap in (0, 1):
            add_stars(f"M dwarfs, gap {gap}", m_dwarfs(rng, n // (2 * len(gap_seeds))), gap, gap_seed)
    table = pd.DataFrame(rows).groupby("kind", sort=False).agg(
        n=("accepted", "size"), **{name: (name, "sum") for name in ("accepted", "unflagged", "blunt")})
    is_true = table.index.str.startswith("M dwarfs")
    false, true = table[~is_true].sum(), table[is_true].sum()
    print(f"false: {false['n']}, accepted {false['accepted']}, unflagged {false['unflagged']} "
          f"({false['unflagged'] / false['n']:.2%}); M dwarfs: {true['n']}, lost {true['n'] - true['accepted']} "
          f"({1 - true['accepted'] / true['n']:.2%}), unflagged {true['unflagged']}")
    return table.reset_index()


def faults(rng, n, gap_seeds):
    """Of spectra that are not as stated, and of some that are, the share that has the word for it, by v sin i."""
    templates, bins, rows = known_templates(), [1.5, 2, 3, 4, 6, 8, 12], []
    coarse = np.arange(WAVE[0], WAVE[-1], 0.2)
    for gap_seed in gap_seeds:
        for gap in (0, 1):
            labels = m_dwarfs(rng, n // (2 * len(gap_seeds)), (2500, 4000), (1.5, 12))
            right, dull, duller = (smooth(labels, gap, gap_seed, power) for power in (paper.RESOLVING_POWER, 7e4, 5e4))
            later = labels + np.outer(rng.uniform(0, 400, len(labels)), [-1, 0, 0, 0])
            seconds = [np.interp(sim.WAVE, sim.WAVE * (1 + 60 / LIGHT), flux)
                       for flux in smooth(np.maximum(later, [2300, 0, -9, 1.5]), gap, gap_seed)]
            for label, one, two, three, second in zip(labels, right, dull, duller, seconds):
                cases = [("as stated", word, one, WAVE) for word in ("blunt-lines", "second-star", "undersampled")]
                cases += [("R 70,000 said to be 94,600", "blunt-lines", two, WAVE),
                          ("R 50,000 said to be 94,600", "blunt-lines", three, WAVE),
                          ("pixels of 0.2 Angstrom", "undersampled", one, coarse),
                          ("orders as stated", "two-powers", [one, one], WAVE),
                          ("orders of R 94,600 and 50,000", "two-powers", [one, three], WAVE)]
                cases += [(f"a second star of {light:.0%}", "second-star", (one + light * second) / (1 + light), WAVE)
                          for light in (0.1, 0.2, 0.33)]
                for fault, word, flux, wave in cases:
                    snr, rv, water = weather(rng)
                    record = prepared(rng, templates, flux, snr, water, rv, wave)
                    rows.append({"fault": fault, "word": word, "gap": gap, "vsini": label[3],
                                 "flagged": word in record.get("odd", "left out").split() or not record})
    table = pd.DataFrame(rows)
    print(table.groupby(["fault", "word", "gap"], sort=False)["flagged"].mean().unstack().round(3).to_string())
    table["bin"] = pd.cut(table["vsini"], bins)
    table = table.groupby(["fault", "word", "gap", "bin"], sort=False, observed=True)["flagged"].agg(["size", "mean"])
    table = table.reset_index().rename(columns={"size": "n", "mean": "flagged"}).round(3)
    table["vsini_low"], table["vsini_high"] = zip(*((end.left, end.right) for end in table.pop("bin")))
    return table.sort_values(["fault", "word", "gap", "vsini_low"])


def velocities(rng, n, gap_seeds):
    """How often the 1-sigma error of a velocity holds, by Teff and v sin i, and how far off 68 % of the stars are.

    `shared` is what of the deviations all stars behind one gap have in common: a standard deviation over gap seeds, of
    stars that are not at another peak altogether, OTHER_PEAK off and more.
    """
    templates, rows = known_templates(), []
    for gap_seed in gap_seeds:
        for family, gap in (("lines", 0), ("lines", 1), ("growth", 1)):
            labels = m_dwarfs(rng, n // (2 * len(gap_seeds)), (2300, 4000), (2, 30))
            for flux, label in zip(smooth(labels, gap, gap_seed, family=family), labels):
                snr, rv, water = weather(rng)
                record = prepared(rng, templates, flux, snr, water, rv)
                rows.append({"family": family, "gap": gap, "seed": gap_seed, "teff": label[0], "vsini": label[3],
                             "off": record.get("rv", np.nan) - rv, "error": record.get("e_rv", np.nan)})
    stars = pd.DataFrame(rows).dropna()
    stars["holds"] = stars["off"].abs() < stars["error"]
    stars["other_peak"] = stars["off"].abs() > OTHER_PEAK
    print(f"{len(rows) - len(stars)} of {len(rows)} stars lost")
    print(stars.groupby(["family", "gap"]).agg(n=("off", "size"), holds=("holds", "mean"),
                                               other_peak=("other_peak", "sum")).round(3).to_string())
    without, tables = stars["gap"] == 0, []
    for family, gap, chosen in (
            *((family, "both", without | (stars["family"] == family)) for family in FAMILIES),
            ("lines", 0, without), *((family, 1, ~without & (stars["family"] == family)) for family in FAMILIES)):
        bins = [pd.cut(stars["teff"][chosen], [2300, 2900, 3400, 4000]),
                pd.cut(stars["vsini"][chosen], [2, 7, 15, 30])]
        held = stars[chosen].groupby(bins, observed=True).apply(lambda part: pd.Series({
            "n": len(part), "holds": part["holds"].mean(), "off": part["off"].abs().quantile(0.68),
            "error": part["error"].median(), "shared": shared(part)}))
        tables += [{"family": family, "gap": gap, "teff_low": teff.left, "teff_high": teff.right,
                    "vsini_low": vsini.left, "vsini_high": vsini.right, **row}
                   for (teff, vsini), row in held.round(3).iterrows()]
    return pd.DataFrame(tables).astype({"n": int})


def lost(rng, n, gap_seeds):
    """How many M dwarfs are left out behind gaps with and `without` one of the two strongest lines of the window.

    `doubtful` are accepted although their peak hardly stands out, `other_peak` of all accepted ones OTHER_PEAK off, of
    which `odd_there` have a word.
    """
    templates, rows = known_templates(), []
    for gap_seed in gap_seeds:
        for family, gap in (("lines", 0), ("lines", 1), ("growth", 1)):
            labels = m_dwarfs(rng, n // (2 * len(gap_seeds)))
            for flux in smooth(labels, gap, gap_seed, family=family):
                snr, rv, water = weather(rng)
                record = prepared(rng, templates, flux, snr, water, rv)
                off = abs(record.get("rv", rv) - rv) > OTHER_PEAK
                rows.append({"family": family, "gap": gap, "without": loses_a_strong_line(family, gap, gap_seed),
                             "lost": not record, "doubtful": record.get("contrast", np.inf) < likeness.STANDS_OUT,
                             "other_peak": off, "odd_there": off and record["odd"] != ""})
    stars = pd.DataFrame(rows).groupby(["family", "gap", "without"], sort=False)
    sums = {name: (name, "sum") for name in ("lost", "doubtful", "other_peak", "odd_there")}
    return stars.agg(n=("lost", "size"), **sums).reset_index()


def loses_a_strong_line(family, gap, gap_seed):
    """Whether Mg I 8809.2 or Fe I 8826.6, which rule the window, is ten times weaker behind a gap or more."""
    known = FAMILIES[family].reference()
    nature = known.perturbed(gap, np.random.default_rng([gap_seed, 2]))
    before, after = (sim.line_strengths([[3500, 4.9, 0]], physics)[0][0] for physics in (known, nature))
    strongest = np.argsort(before * ((known.wave > paper.WINDOW[0]) & (known.wave < paper.WINDOW[1])))[-2:]
    return bool((after[strongest] < before[strongest] / 10).any())


def shared(stars):
    """Standard deviation over gap seeds of what stars of one have in common, 0 where it is lost in their scatter."""
    stars = stars[~stars["other_peak"]]
    seeds = stars.groupby("seed")["off"]
    within = (seeds.var() * (seeds.size() - 1)).sum() / max(len(stars) - len(seeds), 1)
    return np.sqrt(max(seeds.mean().var() - within * (1 / seeds.size()).mean(), 0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gap-seeds", type=int, nargs=2, default=(0, 4), metavar=("FIRST", "LAST"))
    parser.add_argument("--out", type=Path, help="folder for the table")
    parser.add_argument("--name", help="of the table; default: as above")
    parser.add_argument("--shifts", type=Path, metavar="DATA")
    parser.add_argument("--stray", type=Path, metavar="ARTIFACTS")
    parser.add_argument("--faults", dest="measure", action="store_const", const=faults, default=false_stars)
    parser.add_argument("--velocities", dest="measure", action="store_const", const=velocities)
    parser.add_argument("--lost", dest="measure", action="store_const", const=lost)
    args = parser.parse_args()
    if args.shifts:
        shifts(args.shifts, args.seed)
        return
    if args.stray:
        args.measure, args.gap_seeds = stray_light, (0, 0)
    gap_seeds = range(args.gap_seeds[0], args.gap_seeds[1] + 1)
    print(f"seed {args.seed}, gap seeds {list(gap_seeds)}, n {args.n}")
    table = args.measure(np.random.default_rng(args.seed), args.n, args.stray or gap_seeds)
    print(table.to_string(index=False))
    if args.out:
        table.to_csv(args.out / f"{args.name or TABLES[args.measure]}.csv", index=False)


TABLES = {false_stars: "false_stars", faults: "faults", velocities: "velocity_errors", lost: "lost",
          stray_light: "stray_light"}

if __name__ == "__main__":
    main()
