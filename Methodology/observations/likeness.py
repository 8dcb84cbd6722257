"""What is odd about a star that was accepted: flags by its lines beside those of the templates, and by its pixels."""
import itertools

import numpy as np

import paper
from spectra.transforms import STEP, WAVE, WINDOW, degrade

# What each word in the column `odd` of stars.csv means; the limits are ours, set on simulated stars
FLAGS = {
    "shallow-lines": "its lines are less than 0.7 as deep as the template's: metal-poor, or stray light",
    "lines-missing": "in two fifths of the window or more its lines are less than a quarter as deep",
    "warm": "its lines are those of a star warmer than the warmest templates: a K or G star",
    "giant": "Mg I 8809 has narrow wings and the lines of FeH are weak: a low surface gravity",
    "second-star": "what its template leaves has a peak of its own in the cross-correlation",
    "undersampled": "fewer than 1.8 pixels an element of the stated resolution",
    "two-powers": "its orders differ in resolving power, by their lines where they overlap, or in the width of pixels",
    "blunt-lines": "they are twice as broad as its resolving power makes them: it rotates, or that is stated too high",
    "velocity": "its velocity is uncertain by more than 3 km/s, an element of CARMENES' resolution, or of a peak that "
                "hardly stands out",
    "no-barycentric": "in the observer's frame, and nothing says how fast the Earth moved",
    "header": "its header says a thing in two ways that disagree",
}
SHALLOW, MISSING, UNCERTAIN = 0.7, 0.8, 3.0
STANDS_OUT = 3.5  # deviations of the rest; of simulated stars with less, one in six is at another peak than its own
WARM_SIDE = -0.1  # of the step from the templates of 4200 K to those of 3700 K
MG, CORE_TO_WING, WINGS = 8809.17, 0.35, 1.3  # [Angstrom] of Mg I, and where its wings begin and end
GIANT = 0.5  # of the depth of FeH's fifth of the window, in units of all lines', plus WEIGHT times the wings' excess
WEIGHT = 6
SAMPLED = 1.8  # pixels an element of resolution
PIXELS = 1.5  # times as wide as those of another order
SECOND, SECOND_CONTRAST = 0.07, 3.5  # light of a second star, and standard deviations of its peak
POWERS = np.geomspace(20_000, 400_000, 40)  # resolving powers tried for the sharpest lines
# `line_power` in units of the resolving power from which lines are sharp, and between which they may be blunt: broader
# ones are a rotating star's, whatever the instrument. None of MANY stars with sharp ones is said of all
SHARP, BLUNT, MANY = 0.75, (0.28, 0.55), 5
OVERLAP, CERTAIN, BLOCK = 5.0, 4.0, 30  # [Angstrom] of two orders to compare them, deviations of a difference, [pixel]
SMOOTHED, EDGE = 0.9, 10  # of the resolving power, against noise, and [pixel] of an overlap that this spoils


def flags(flux, seen, velocity, templates, pixels, power, sharpness, differ, observation):
    """Words of FLAGS for one star, from its normalised flux (3501,) at rest, and where that is `seen`: (3501,), bool.

    `pixels` are the widths of those of each order [Angstrom], `power` is the instrument's resolving power as stated,
    `sharpness` the star's `line_power` in units of that of the flux; `differ` says whether it has `two_powers`.
    """
    odd = {
        "shallow-lines": velocity.depth < SHALLOW,
        "lines-missing": velocity.share < MISSING,
        "warm": warmth(flux, seen, velocity, templates) < WARM_SIDE,
        "giant": gravity(flux, seen, velocity, templates) < GIANT,
        "second-star": velocity.second > SECOND and velocity.second_contrast > SECOND_CONTRAST,
        "undersampled": np.mean(paper.WINDOW) / power < SAMPLED * max(pixels),
        "two-powers": differ or max(pixels) > PIXELS * min(pixels),
        "blunt-lines": BLUNT[0] < sharpness < BLUNT[1],
        "velocity": velocity.error > UNCERTAIN or velocity.contrast < STANDS_OUT,
        "no-barycentric": observation.frame == "observer" and np.isnan(observation.berv),
        "header": bool(observation.conflicts),
    }
    return [word for word in FLAGS if odd.get(word)]


def warmth(flux, seen, velocity, templates):
    """Where a star lies on the way from the templates of 4200 K (0) to those of 3700 K (1); infinite if unknown."""
    if templates.labels is None:
        return np.inf
    teff, vsini = templates.labels[:, paper.PARAMETERS["teff"].column], templates.labels[:, 3]
    nearest = [np.argmin(np.abs(teff - node) / 50 + np.abs(vsini - vsini[velocity.template])) for node in (4200, 3700)]
    warm, cool = templates.flux[nearest]
    if nearest[0] == nearest[1]:
        return np.inf
    design = np.array([1 - warm, warm - cool, np.ones(len(flux)), np.linspace(-1, 1, len(flux))])[:, seen]
    return np.linalg.lstsq(design.T, 1 - flux[seen], rcond=None)[0][1]


def gravity(flux, seen, velocity, templates):
    """How strong FeH is beside all lines, and how broad Mg I: about 1 for dwarfs, about 0 for giants."""
    template = templates.flux[velocity.template]
    distance = np.abs(paper.WAVELENGTH - MG)
    wings = seen & (distance > CORE_TO_WING) & (distance < WINGS)
    if not wings.any():
        return np.inf
    return velocity.parts[-1] / velocity.depth + WEIGHT * np.mean(template[wings] - flux[wings])


def line_power(flux, seen, velocity, templates, target):
    """The resolving power that would make the lines of a star without rotation as broad as they are.

    By the Gaussian that a template of the lowest v sin i must be smoothed with to correlate best; `target` is the
    templates' resolving power. Rotation and wide pixels lower it as a poorer resolution does. NaN without labels.
    """
    if templates.labels is None:
        return np.nan
    teff, vsini = templates.labels[:, paper.PARAMETERS["teff"].column], templates.labels[:, 3]
    nearest = np.argmin(np.abs(teff - teff[velocity.template]) / 100 + vsini)
    smoothed = [degrade(templates.flux[nearest], target, power)[seen] for power in POWERS[POWERS < target]]
    powers = [*POWERS[POWERS < target], target]
    heights = [np.corrcoef(flux[seen], template)[0, 1] for template in [*smoothed, templates.flux[nearest][seen]]]
    return float(powers[np.argmax(heights)])


def two_powers(parts, template, power):
    """Whether two orders that overlap differ as lines do that are seen with `power` and with SHARP of it, or less.

    Their difference is regressed on that of the template so seen, and of their mean, which has the star's own lines.
    With the weights of inverse variance the mean has no noise in common with the difference; what is left of it is
    smoothed. `parts` are (pixels of `WAVE`, normalised flux, error) an order.
    """
    duller = np.zeros(len(WAVE))
    duller[WINDOW] = degrade(template, power, SHARP * power) - template
    for pair in itertools.combinations(parts, 2):
        common = slice(max(pixels.start for pixels, *_ in pair), min(pixels.stop for pixels, *_ in pair))
        if common.stop - common.start < OVERLAP / STEP:
            continue
        (one, noise), (other, other_noise) = (
            [array[common.start - pixels.start : common.stop - pixels.start] for array in arrays]
            for pixels, *arrays in pair)
        weight, other_weight = (max(np.median(array), 1e-9) ** -2.0 for array in (noise, other_noise))
        share = weight / (weight + other_weight)
        smooth = degrade(share * one + (1 - share) * other, power, SMOOTHED * power)
        own = degrade(smooth, power, SHARP * power) - smooth
        if any(_differ((one - other)[EDGE:-EDGE], expected[EDGE:-EDGE]) for expected in (duller[common], own)):
            return True
    return False


def _differ(difference, expected):
    """Whether a difference of two orders has at least that which is expected in it, beyond doubt."""
    power = max((expected**2).sum(), 1e-12)
    slope = difference @ expected / power
    scatter = (difference - slope * expected) * expected
    in_blocks = np.add.reduceat(scatter, np.arange(0, len(scatter), BLOCK))  # within which neighbours are alike
    return abs(slope) > max(1, CERTAIN * np.linalg.norm(in_blocks) / power)
