"""preparation.pdf: a page a star, from the flux in its file to what the acts read."""
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_pdf import PdfPages

import paper
from figures import style
from spectra.transforms import WAVE
from spectra.velocity import MAX_VELOCITY

FAST = {  # what makes a page a third of the time, as there may be thousands
    "figure.constrained_layout.use": False, "xtick.minor.visible": False, "ytick.minor.visible": False,
}
FLUX, MODEL, MARK = "black", "#D55E00", "#0072B2"


def write(path, stars, templates, synthetic):
    """Write the pages of (name, preparation.Star) one after the other, with one in memory at a time.

    `templates` are those that they were prepared with, `synthetic` what these are, such as "simulated".
    """
    with plt.rc_context({**style.STYLE, **FAST}), PdfPages(path) as pdf:
        figure, axes = plt.subplots(3, 1, figsize=(style.DOUBLE, 1.05 * style.DOUBLE))
        figure.subplots_adjust(left=0.075, right=0.975, bottom=0.06, top=0.955, hspace=0.2)
        raw, normalised, velocity = axes
        raw.set(ylabel="flux / median", xlim=WAVE[[0, -1]])
        normalised.set(ylabel="normalised flux", xlabel="vacuum wavelength at rest [Å]", xlim=paper.WINDOW)
        velocity.set(xlabel="velocity in the wavelengths as read [km/s]", ylabel="correlation",
                     xlim=(-MAX_VELOCITY, MAX_VELOCITY))
        for name, star in stars:
            for line in [line for ax in axes for line in ax.lines]:
                line.remove()
            _draw(axes, star, templates.flux[star.template], synthetic)
            odd = f": {star.record['odd']}" * bool(star.record["odd"])
            figure.suptitle(f"{name} ({star.record['file']}){odd}", size=8, parse_math=False)
            pdf.savefig(figure)
        plt.close(figure)


def _draw(axes, star, template, synthetic):
    raw, normalised, velocity = axes
    record = star.record
    flux, continuum = star.raw
    raw.plot(WAVE, flux, color=FLUX, linewidth=0.6, label=f"as read, S/N {record['snr']:.0f} a pixel")
    raw.plot(WAVE, continuum, color=MODEL, label="blaze and continuum")
    raw.set_ylim(0, 1.25 * np.nanpercentile(flux, 99))
    for edge in paper.WINDOW:
        raw.axvline(edge, color="0.6", linewidth=0.7, linestyle=":")
    normalised.plot(paper.WAVELENGTH, star.flux, color=FLUX, linewidth=0.6,
                    label=f"normalised; {100 * record['bad']:.1f} % of its pixels bridged")
    normalised.plot(paper.WAVELENGTH, template, color=MODEL, linewidth=0.6,
                    label=f"the {synthetic} synthetic spectrum it was found with")
    normalised.set_ylim(min(0, star.flux.min()), 1.35)
    velocity.plot(star.lags, star.correlation, color=FLUX, linewidth=0.8,
                  label=f"lines {record['depth']:.2f} as deep as its, in {record['share']:.0%} of the window")
    measured = f"{record['rv']:+.2f} ± {record['e_rv']:.2f} km/s"
    if record["berv"] == record["berv"]:
        measured += f" with the barycentric correction of {record['berv']:+.2f}"
    velocity.axvline(record["shift"], color=MARK, linewidth=0.8, linestyle="--", label=measured)
    velocity.set_ylim(star.correlation.min() - 0.05, star.correlation.max() * 1.35)
    for ax in axes:
        ax.legend(loc="upper right", ncols=2)
