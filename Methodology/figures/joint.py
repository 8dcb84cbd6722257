"""Where the synthetic spectra are wrong, line by line, as a joint fit of all stars sees it."""
import matplotlib.pyplot as plt

from figures import style


@style.styled()
def corrections(table):
    """What the synthetic spectra lack (corrections.csv), over their mean spectrum, in three rows of the window."""
    figure, axes = plt.subplots(3, 1, figsize=(style.DOUBLE, 1.25 * style.DOUBLE))
    ends = table["wave"].iloc[0], table["wave"].iloc[-1]
    width = (ends[1] - ends[0]) / len(axes)
    for row, ax in enumerate(axes):
        part = table[table["wave"].between(ends[0] + row * width, ends[0] + (row + 1) * width)]
        ax.plot(part["wave"], part["mean_flux"], color="black", lw=0.8, label="synthetic, mean depth of all stars")
        ax.plot(part["wave"], part["corrected_flux"], color="#0072B2", lw=0.8, label="with what they lack")
        low, high = (part["missing"] + sign * part["e_missing"] for sign in (-1, 1))
        ax.fill_between(part["wave"], 1.1 - low, 1.1 - high, color="#D55E00", alpha=0.3, lw=0)
        ax.plot(part["wave"], 1.1 - part["missing"], color="#D55E00", lw=0.8,
                label="1.1 - missing optical depth, with its error")
        ax.axhline(1.1, color="grey", lw=0.5)
        ax.set(xlim=(part["wave"].iloc[0], part["wave"].iloc[-1]), ylabel="normalised flux")
    axes[0].legend(loc="lower left", ncols=3)
    axes[-1].set_xlabel("vacuum wavelength [Angstrom]")
    return figure
