"""Figures of Section 4: every star where it belongs, and nothing that breaks on a partial run."""
import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest

from evaluation import catalogues
from figures import hr_diagram, section4, style
from inference import flags, mode

FIGURES = {
    "kiel_and_hr": lambda e: hr_diagram.kiel_and_hr(e, hr_diagram.load_isochrones()),
    "populations": section4.metallicity_by_population,
    "teff": lambda e: section4.one_to_one(e, "teff", section4.CARMENES, section4.DEEP_LEARNING),
    "older_logg": lambda e: section4.one_to_one(e, "logg", section4.OLDER, errors=True),
    "vsini": section4.vsini_with_errors,
}


@pytest.fixture(scope="module")
def published():
    return catalogues.load_estimates()


def stars(ax):
    """Points of lines without a stroke, (n, 2), by label: the pale ones with those of the same kind before them."""
    points, label = {}, ""
    for line in ax.lines:
        if line.get_ls() == "None":
            label = label if line.get_label() == "_pale" else line.get_label()
            points[label] = np.r_[points.get(label, np.empty((0, 2))), line.get_xydata()]
    return points


def test_populations_have_a_row_each(published):
    axes = section4.metallicity_by_population(published).axes
    texts = [ax.texts[0].get_text() for ax in axes]
    assert [text.split("\n")[0] for text in texts] == ["YD", "D", "TD-D", "TD"]
    assert [int(text.split()[-2]) for text in texts] == [85, 167, 13, 21]
    assert "p = 0.0071" in axes[0].get_title()
    for ax in axes:
        assert sum(bar.get_height() * bar.get_width() for bar in ax.patches) == pytest.approx(1)


@pytest.mark.parametrize(
    "par, groups, expected",
    [("teff", (section4.CARMENES, section4.DEEP_LEARNING), [[286, 275, 278], [283, 286, 14]]),
     ("logg", (section4.CARMENES, section4.DEEP_LEARNING), [[286, 275, 278, 278], [286]]),
     ("mh", (section4.CARMENES, section4.DEEP_LEARNING), [[286, 275, 278], [283, 286, 6]]),
     ("mh", (section4.OLDER,), [[230, 126, 85, 97]])],
)
def test_one_to_one_has_every_pair(par, groups, expected, published):
    figure = section4.one_to_one(published, par, *groups)
    axes = np.array(figure.axes).reshape(3, len(groups))
    for scatter, residual, histogram, numbers in zip(*axes, expected):
        assert [len(xy) for xy in stars(scatter).values()] == numbers
        assert [len(xy) for xy in stars(residual).values()] == numbers
        for above, below in zip(stars(scatter).values(), stars(residual).values()):
            np.testing.assert_allclose(below[:, 1], above[:, 1] - above[:, 0])
        low, high = scatter.get_xlim()
        assert scatter.get_ylim() == histogram.get_xlim() == (low, high)
        assert groups == (section4.OLDER,) or (low, high) == section4.LIMITS[par]
        assert all(low < xy.min() and xy.max() < high for xy in stars(scatter).values())
        medians = [line for line in residual.lines if len(line.get_xdata()) > 2 and line.get_ls() != "None"]
        hollow = [line.get_label() for line in scatter.lines if line.get_mfc() == "none" and "(" in line.get_label()]
        assert sum(line.get_ls() == "--" for line in medians) == len(hollow)
        assert len(medians) == len(histogram.patches) - 1 == sum(n >= style.N_DENSITY for n in numbers)
        assert [text.get_text() for text in histogram.get_legend().get_texts()][0] == "this work"
        assert len(histogram.get_legend().get_texts()) == len(histogram.patches)


def test_histograms_of_a_panel_share_bins_and_integrate_to_one(published):
    for ax in section4.one_to_one(published, "logg", section4.CARMENES, section4.DEEP_LEARNING).axes[4:]:
        steps = [patch.get_data() for patch in ax.patches]
        for density, edges, _ in steps:
            np.testing.assert_array_equal(edges, np.linspace(4.4, 5.4, section4.N_BINS + 1))
            assert density @ np.diff(edges) == pytest.approx(1)
        np.testing.assert_allclose(steps[0][0], np.histogram(published["logg"], steps[0][1], density=True)[0])
        assert [patch.get_fill() for patch in ax.patches] == [True] + [False] * (len(steps) - 1)


def test_values_outside_widen_the_published_limits(published):
    hot = published.assign(teff=published["teff"] + 300)
    scatter, _, histogram = section4.one_to_one(hot, "teff", section4.CARMENES).axes
    assert scatter.get_xlim() == scatter.get_ylim() == histogram.get_xlim()
    assert scatter.get_xlim()[0] == 2800 and scatter.get_xlim()[1] > hot["teff"].max() > 4500
    fast = published.assign(vsini=published["vsini"] + 10)
    low, high = section4.vsini_with_errors(fast).axes[0].get_xlim()
    assert low == 0 and high > fast["vsini"].max() > 42


def test_running_median_is_one():
    rng = np.random.default_rng(3)
    teff = pd.Series(rng.permutation(np.arange(3000.0, 3300.0)))
    unknown = pd.Series(np.full(300, np.nan))
    ax = matplotlib.figure.Figure().subplots()
    section4._running_median(ax, unknown, unknown, "black")
    assert not ax.lines  # nothing known, nothing drawn
    section4._running_median(ax, teff, 2 * teff, "black")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 2 * ax.lines[0].get_xdata())
    assert len(ax.lines[0].get_xdata()) == 300 - 30 + 1 and (np.diff(ax.lines[0].get_xdata()) > 0).all()


def test_schweitzer_has_both_log_g(published):
    scatter = section4.one_to_one(published, "logg", section4.CARMENES).axes[0]
    lines = {line.get_label(): line for line in scatter.lines if line.get_label().startswith("Schw19")}
    assert list(lines) == ["Schw19, log g (278)", "Schw19, log g$_c$ (278)"]
    means = [np.diff(xy).mean() for label, xy in stars(scatter).items() if label in lines]
    assert means == pytest.approx([0.13, 0.056], abs=0.005)
    assert lines["Schw19, log g (278)"].get_markerfacecolor() == "none"


@pytest.mark.parametrize("told", [True, False])
def test_flagged_stars_are_pale(told, published):
    """Of log g, those below the grid or in its first step."""
    scatter, residual, _ = FIGURES["older_logg"](published if told else published.assign(flags_logg="")).axes
    for ax in (scatter, residual):
        alphas = {line.get_label() == "_pale": line.get_alpha() for line in ax.lines if line.get_ls() == "None"}
        assert alphas == {False: 0.5, **({True: 0.5 * style.PALE} if told else {})}
    pale = np.concatenate([*(line.get_xdata() for line in scatter.lines if line.get_label() == "_pale"), []])
    doubted = catalogues.pairs(published, "pass18", "logg")["ours"]
    assert sorted(pale) == (sorted(doubted[doubted < 4.8]) if told else [])
    assert ("pale: flagged" in [text.get_text() for text in scatter.get_legend().get_texts()]) == told


def test_error_bars_of_older_catalogues(published):
    pairs = catalogues.pairs(published, "pass18", "logg")
    plain, scatter = (section4.one_to_one(published, "logg", section4.OLDER, errors=errors).axes[0]
                      for errors in (False, True))
    assert not plain.containers and plain.get_xlim() == scatter.get_xlim()
    for bars, (flagged, stars_of) in zip(scatter.containers, pairs.groupby("flagged")):  # pale bars of pale stars
        horizontal, vertical = (np.array(part.get_segments()) for part in bars[2])
        np.testing.assert_allclose(np.ptp(horizontal[:, :, 0], axis=1), stars_of["ours_low"] + stars_of["ours_high"])
        np.testing.assert_allclose(np.ptp(vertical[:, :, 1], axis=1), stars_of["lit_low"] + stars_of["lit_high"])
        assert {part.get_alpha() for part in bars[2]} == {0.4 * (style.PALE if flagged else 1)}
    assert len(scatter.containers) == 2


@pytest.mark.parametrize("par", ["teff", "logg", "mh", "vsini"])
def test_legends_hide_no_star_and_panels_of_a_row_have_equal_axes(par, published):
    figure = section4.one_to_one(published, par, section4.CARMENES, section4.DEEP_LEARNING)
    axes = np.array(figure.axes).reshape(3, 2)
    for ax in axes.flat:
        if ax.get_legend():
            assert ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1
    for ax in axes[0]:
        inside = [[tick for tick in ticks if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
                  for ticks in (ax.get_xticks(), ax.get_yticks())]
        assert inside[0] == inside[1]
    for row in axes:
        assert row[0].get_xlim() == row[1].get_xlim() and row[0].get_ylim() == row[1].get_ylim()


def test_estimates_stand_against_the_truth_beside_one_constant():
    truth = pd.DataFrame({"karmn": list("ABCD"), "teff": [3000.0, 3200, 3400, 3600], "logg": 5.0, "mh": 0.0,
                          "vsini": 3.0})
    tables = [mode.table(truth, {"teff": (truth["teff"] + error, 4 * [7.0], 4 * [9.0])}).assign(
        **dict.fromkeys(flags.COLUMNS, "")) for error in (100, 50)]
    ax, *others = section4.estimates_against_truth(*tables, truth).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "before fine-tuning: rmse 100 K, r 1.00", "after fine-tuning: rmse 50 K, r 1.00",
        "one constant: rmse 224 K", "uncertainty claimed after: 8 K"]
    assert ax.get_xlim() == ax.get_ylim() and ax.get_aspect() == 1
    assert not any(other.lines for other in others)  # not estimated


def test_vsini_tells_limits_from_measurements(published):
    figure = section4.vsini_with_errors(published)
    scatter, residual = figure.axes
    numbers = {label: len(xy) for label, xy in stars(scatter).items() if "(" in label}  # else caps of error bars
    assert numbers == {"Pass20 (286)": 286, "Rein18 (41)": 41, "Rein18, upper limits (245)": 245}
    assert [len(xy) for xy in stars(residual).values()] == [286, 41, 245]
    limits, = (line for line in scatter.lines if line.get_label() == "Rein18, upper limits (245)")
    assert limits.get_marker() == "v"
    assert len(scatter.containers) == 4 and scatter.get_xlim() == scatter.get_ylim() == (0, 42)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_partial_run_is_drawn(draw, published):
    for known, n in ((["teff", "mh"], 12), (["logg"], 12), (["vsini"], 1), ([], 12)):
        unknown = {par: np.nan for par in ("teff", "logg", "mh", "vsini") if par not in known}
        draw(published.iloc[::23][:n].assign(**unknown))


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_order_of_rows_changes_no_picture(draw, published):
    def drawn(estimates):
        axes = draw(estimates).axes
        return [dots.get_offsets() for ax in axes for dots in ax.collections if len(dots.get_offsets())] + [
            line.get_xydata() for ax in axes for line in ax.lines] + [
            patch.get_path().vertices for ax in axes for patch in ax.patches]

    for ordered, shuffled in zip(drawn(published), drawn(published.sample(frac=1, random_state=5))):
        np.testing.assert_allclose(ordered, shuffled)
