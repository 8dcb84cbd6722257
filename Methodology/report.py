"""One page on a run, to be sent to a colleague: what was run, what the paper says beside it, and the figures.

Reads   {artifacts}/*.json, final_estimations.csv, final_estimations_before.csv, summary.png, joint/; {figures}/*.png
        {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy, stars.csv; literature_data/*.csv
Writes  {out}/report.md      refers to the pictures where they lie
        {out}/report.html    the same with the pictures in it: this one file can be sent

What an act has not left yet is said on the page. Values are marked as agreeing with the paper's or not only if the
spectra are not simulated. The figures are those of `make figures ARTIFACTS={artifacts} DATA={data}`; pictures that do
not say, in their metadata, that they were drawn from this run as it is now are left out.

    python Methodology/report.py                                                  # of a run in artifacts/
    python Methodology/report.py --data src_files/demo --artifacts artifacts/demo
"""
import argparse
import base64
import contextlib
import os
import re
import shlex
import sys
import urllib.parse
from pathlib import Path

import mistune

import paper
from evaluation import calibrated, catalogues, claims, comparison, gap
from evaluation.joint import errors_beside_baselines
from evaluation.run import NotYet, listed, load, settings
from evaluation.truth import errors_of_estimates
from figures import style
from inference import flags
from workflow import schemas
from workflow.artifacts import STAGES
from workflow.command_line import Help, add_run, command, folder
from workflow.files import BadInput, check_own, lock, one_line, read_table, sha256, state, writing

PENALTIES = {"live": "formula of the published code, current weights", "none": "none",
             "frozen": "formula of the published code, initial weights",
             "exact": "Jacobian of the last encoder layer", "jacobian": "Jacobian of the whole encoder"}
LIBRARIES = {"python": "Python", "tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy",
             "scikit-learn": "scikit-learn"}
# Captions of Section 3, in the order of the paper; those of Section 4 are spelt by `caption`
SECTION_3 = {
    "figure_01": "Figure 1 of the paper, the gap among the fluxes: UMAP of synthetic and observed spectra",
    "figure_03": "Figure 3 of the paper, a synthetic spectrum, its reconstruction and its latent values",
    "figure_04": "Figure 4 of the paper, an observed spectrum and its reconstructions before and after fine-tuning",
    "figure_05": "Figure 5 of the paper, the gap among the latent values: UMAP after fine-tuning",
    "figure_07": "Figure 7 of the paper, the estimates of one star: predictions of the regressors and their density",
    "training_curves": "Loss of every epoch of training and of fine-tuning (not in the paper)",
    "scores": "Error on the test set against that of the cross-validation (not in the paper)",
    "dead_units": "Share of spectra in which each latent value is zero (not in the paper)",
    "residuals": "Where the reconstruction of the observed spectra fails (not in the paper)"}
SPELT = {"teff": "Teff", "logg": "log g", "mh": "[M/H]", "vsini": "v sin i", "umap": "UMAP",
         "older": "older catalogues (Appendix B),"}


# ---------------------------------------------------------------- the parts of the page
def opening(run):
    """Title and first words: above all, whether the stars exist."""
    about = ("Stellar parameters of M dwarfs by the method of Mas-Buitrago et al. 2024 (A&A 687, A205): autoencoders "
             "learn synthetic spectra, are fine-tuned on observed ones, and convolutional networks estimate the "
             "parameters from their latent values.")
    if run.spectra.simulated:
        return ["# SIMULATED SPECTRA: report of a run", about,
                "**The stars of this run do not exist.** Their spectra were made by a simulation that starts from the "
                "paper's estimates. Nothing below is a result on real stars: the paper's values stand beside those of "
                "the run for scale only, and nothing is said to agree with them."]
    which = "the published spectra" if run.spectra.published else f"spectra marked {plain(repr(run.spectra))}"
    return [f"# Report of a run on {which}", about]


def what_was_run(run):
    """Settings and counts of the run beside the paper's, and its seeds, time and software."""
    budget = paper.BUDGETS["paper"]
    n_regressors = len(paper.PARAMETERS) * paper.N_AUTOENCODERS * budget.repeats
    trained, fine_tuned, sidecars = run.trained.values(), run.fine_tuned.values(), run.sidecars
    penalties = [", ".join(PENALTIES.get(name, name) for name in settings(networks, "penalty").split(", "))
                 for networks in (trained, fine_tuned)]
    selection = run.selection or schemas.Selection([])
    rule = f" ({selection.rule.replace('mse_mean', 'mean error')})" if selection.rule else ""
    seconds = sum(sidecar.seconds for sidecar in sidecars)
    time = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    codes, several = {code[:8] for code in run.codes}, ": its units were made by several versions of the code"
    software = [f"{name} {listed(sidecar.versions[library] for sidecar in sidecars)}"
                for library, name in LIBRARIES.items()]
    return ["## What was run", table(["", "this run", "the paper"], [
        ("spectra", one_line(run.spectra) + run.simulation, "PHOENIX-ACES, CARMENES"),
        ("synthetic spectra", _count(run, "ph"),
         f"{paper.N_SYNTHETIC:,} of the {paper.N_FULL_GRID:,} of the grid"),
        ("observed spectra", _count(run, "carm"), paper.N_OBSERVED),
        ("grid search", f"{len(run.fits)} fits, {paper.CV_FOLDS} an architecture, epochs: "
         f"{settings(run.fits, 'epochs')}", f"epochs: {budget.search_epochs}"),
        ("architectures kept", f"{len(selection.architectures)}{rule}", paper.N_AUTOENCODERS),
        ("autoencoders trained", _number(trained), f"{paper.N_AUTOENCODERS}, epochs: {budget.train_epochs}"),
        ("autoencoders fine-tuned", _number(fine_tuned), f"{paper.N_AUTOENCODERS}, epochs: {budget.fine_tune_epochs}"),
        ("contractive penalty", f"{penalties[0]}; weight {settings(trained, 'penalty_weight')}",
         f"text: {PENALTIES['jacobian']}; code: {PENALTIES['frozen']}; weight {paper.CONTRACTIVE_WEIGHT:g} (code)"),
        ("contractive penalty in fine-tuning", penalties[1], "the same"),
        ("regressors trained", _number(run.regressors), f"{n_regressors}, epochs: {budget.cnn_epochs}"),
        ("seed", listed(str(sidecar.seed) for sidecar in sidecars), ""),
        ("computing time", f"{time}, summed over all networks", ""),
        ("software", ", ".join(software), ""),
        ("code (sha256)", listed(codes) + several * (len(codes) > 1), "")])]


def _number(sidecars):
    perturbed = any("perturb" in sidecar.settings or "perturbed" in " ".join(sidecar.inputs) for sidecar in sidecars)
    return f"{len(sidecars)}, epochs: {settings(sidecars, 'epochs')}{', on perturbed spectra' * perturbed}"


def _count(run, domain):
    try:
        return f"{len(run.flux(domain)):,}"
    except NotYet:
        return "not found"


def what_is_missing(run):
    """What the acts have not left yet, and arrays that could not be looked at."""
    arrays = run.data.ph, run.data.pars, run.data.carm
    absent = ", ".join(path.name for path in arrays if path.name not in run.sources)
    lines = run.missing + [f"{absent}: not in {run.data}"] * bool(absent)
    return ["## What is missing", "\n".join(f"- {plain(line)}" for line in lines)] if lines else []


def against_truth(run, out):
    """Estimates of simulated stars before and after fine-tuning, against the truth."""
    if run.truth is None:
        return []
    before, after = (run.table(run.artifacts.estimates(stage)) for stage in STAGES)
    measures = ["rmse", "bias", "scatter", "r"]
    heading = ["before, after fine-tuning", "stars", *measures, "rmse of a constant", "own uncertainty"]
    rows = [(name, f"{row['n']:.0f}", *(f"{row[f'{measure} before']:.3g}, {row[f'{measure} after']:.3g}"
                                        for measure in measures), *(f"{row[column]:.3g}" for column in heading[-2:]))
            for name, row in errors_of_estimates(before, after, run.truth).iterrows()]
    parts = ["## The estimates against the truth of the simulation", table(heading, rows, range(1, len(heading))),
             "Bias is the mean of estimate minus truth, scatter its standard deviation, rmse both, r Pearson's "
             "correlation with the truth. The constant is the mean of the truth: estimates with a larger rmse than it "
             "has are worse than none. The own uncertainty is the median of what the regressors say of themselves, "
             "after fine-tuning."]
    if style.drawn_from(run.artifacts.summary) == run.artifacts.tables():
        parts.append(picture(run.artifacts.summary, "Estimates against truth, before and after fine-tuning", out))
    elif run.artifacts.summary.exists():
        parts.append(f"{run.artifacts.summary.name} is of other estimates: delete it, and Methodology/cnn_training.py "
                     "draws it again.")
    return parts


def the_joint_fit(run, out):
    """What Methodology/joint_fit.py left beside the run: errors beside the baselines, the gauge, the corrections."""
    folder, again = run.artifacts.joint, "run Methodology/joint_fit.py again"
    if not (folder / "joint_estimations.csv").exists():
        return []
    tables = {name: run.table(folder / file)
              for name, file in (("each star alone", "alone_estimations.csv"), ("joint", "joint_estimations.csv"))}
    if "gauge.csv" not in schemas.read(folder / "joint_estimations.json", schemas.Estimates, again).outputs:
        return ["## Joint fit of all stars (not in the paper)", f"It does not say which tables are its own: {again}."]
    parts = ["## Joint fit of all stars (not in the paper)",
             "All spectra fitted together with what the synthetic ones lack, without networks: docs/joint-fit.md."]
    if run.truth is not None:
        anchors = read_table(folder / "anchors_used.csv", "karmn", again, once=False)
        names = anchors.groupby("parameter")["karmn"].agg(list).to_dict()
        recipe = run.table(run.artifacts.estimates())
        errors = errors_beside_baselines({"the recipe, fine-tuned": recipe, **tables}, run.truth, names)
        parts += [table(list(errors), [[f"{cell:.3g}" if isinstance(cell, float) else cell for cell in row]
                                       for row in errors.itertuples(index=False)], range(2, len(errors.columns))),
                  "Anchors are left out; held is the share of stars whose interval holds the truth."]
    moves = read_table(folder / "gauge.csv", "parameter", again, once=False)
    parts += [table(["what the spectra cannot tell", "term", "value", "error", "from"],
                    [[row["parameter"], row["term"], f"{row['value']:.3g}", f"{row['error']:.3g}", row["from"]]
                     for row in moves.to_dict("records")], (2, 3)),
              picture(folder / "corrections.png", "What the synthetic spectra lack, line by line", out)]
    return parts


def calibrated_errors(run):
    """What independent values, or half of the truth, say of the estimates and their uncertainties."""
    path, again = run.artifacts.calibrated.with_suffix(".json"), "run Methodology/calibrate.py again"
    if run.estimates is None or not path.exists():
        return []
    calibration = schemas.read(path, schemas.Calibration, again)
    if sha256(run.artifacts.estimates()) not in calibration.inputs.values():
        return ["## Calibrated errors", f"They are of other estimates: {again}."]
    fits = calibrated.fits(calibration.fits.items())
    return ["## Calibrated errors", table(list(fits), fits.to_numpy(), (2, 3)),
            "Offsets are added to estimates. Last: percentages of stars within their intervals, before and after."]


def the_gap(run, out):
    """Numbers of the gap between synthetic and observed spectra, if they are measured."""
    path, again = run.artifacts.gap_report, "run Methodology/gap_report.py again"
    if not path.exists():
        return []
    heading, measured = "## The gap in numbers", read_table(path, "run", again, once=False)
    if style.drawn_from(path.with_suffix(".png")) != run.mark_of_gap:
        return [heading, f"They are of this run as it was: {again}."]
    summary = gap.summary(measured)
    return [heading, table(list(summary), summary.to_numpy(), range(1, len(summary.columns))),
            "Synthetic spectra of the same labels are compared, and distances are relative to theirs among themselves; "
            "brackets hold 90 % of the stars, of the AUC its 95 % interval.",
            picture(path.with_suffix(".png"), "The gap in numbers; in grey, what is no gap", out)]


def the_networks(run):
    """What Sect. 3 of the paper says."""
    return ["## What the paper says of its networks", _statements(claims.of_run(run.measured(), run.spectra), run),
            "Errors are mean squared errors, distances Euclidean and averaged over the observed spectra; given are the "
            "mean over the autoencoders and, in brackets, the range. The paper prints the test errors in plain units, "
            "K, dex and km/s. The published code's own grid leaves fewer than the paper's 26 autoencoders."]


def the_flags(run):
    """How many stars have each flag."""
    counts = flags.counts(run.estimates)
    if counts.empty:
        return []
    heading = ["stars flagged", *(parameter.published for parameter in paper.PARAMETERS.values()), "the star"]
    rows = [(word, *(number or "" for number in row)) for word, *row in counts.itertuples()]
    return ["## How far to trust each estimate", table(heading, rows, range(1, 6)),
            "What each flag means is in docs/trust.md, which stars have it in final_estimations.csv."]


def the_estimates(run):
    """What Sect. 4 of the paper says, and the comparison with the literature."""
    known = run.estimates[run.estimates["karmn"].isin(catalogues.known())]
    unknown = sorted(set(run.estimates["karmn"]) - set(known["karmn"]))
    complete = run.estimates[list(paper.PARAMETERS)].notna().all(axis=1).sum()
    note = f"{len(run.estimates)} stars, {complete} with all four parameters."
    if unknown:
        note += (f" The tables of published values do not know {len(unknown)} of them, which are left out below: "
                 f"{plain(', '.join(unknown[:5]))}{', ...' * (len(unknown) > 5)}.")
    if known.empty:
        return ["## What the paper says of its estimates", note]
    parts = ["## What the paper says of its estimates", note, _statements(claims.of_estimates(known), run),
             "Of two values the first is of the stars up to the temperature named, the second of those above. What the "
              "paper says in words is held as words: most are more than half; cuts, groups and the limits of what is "
              "strong or within the errors (1 sigma of both) are ours. Counts of ours have nothing in print to be held "
              "against. Activity, disc, rings and subdwarfs belong to the stars, whatever the estimates: they "
              "were read off the paper's Figure 8, the disc is that of Marfil+21.",
              "## Against the literature",
              "Literature minus estimate: mean, root mean square and Pearson's r. "
              + "The literature is on the real stars of the same names, so this is **for scale**. "
              * run.spectra.simulated
              + 'Under "the paper" is what its text prints; "not read" are numbers that stand, if it gives them, in a '
              "table that we could not read."]
    compared = comparison.printable(comparison.compare(known))
    parts += [_score(compared["agrees"], "comparisons")] * run.spectra.published
    return parts + [_literature(parameter, rows, run) for parameter, rows in compared.groupby("parameter", sort=False)]


def _literature(parameter, compared, run):
    """Table of the mean difference, rmse and r of literature minus estimate of one parameter."""
    names, rows = {"n": "stars", "mean": "mean", "rmse": "rmse", "r": "r"}, []
    for row in compared.to_dict("records"):
        printed = [f"{names[column]} {row[f'paper {column}']}" for column in ("mean", "rmse", "r", "n")
                   if row[f"paper {column}"] != paper.NOT_READ]
        rows.append([f"{row['catalogue']}, {row['which']}".rstrip(", "), *(row[column] for column in names),
                     ", ".join(printed) or paper.NOT_READ, row["agrees"]])
    heading, width = [parameter, *names.values(), "the paper", "agrees"], 7 if run.spectra.published else 6
    return table(heading[:width], [row[:width] for row in rows], range(1, 5))


def _statements(compared, run):
    """Table of what the paper says beside the run; without marks if the spectra are not the published ones."""
    rows = [[row.claim, row.section, row.kind, row.paper or "-", row.value or "-", row.agrees]
            for row in compared.itertuples()]
    heading = ["", "Sect.", "", "the paper", "this run", "agrees"]
    if run.spectra.published:
        scores = [_score(rows["agrees"], f"statements {kind}") for kind, rows in compared.groupby("kind", sort=False)
                  if kind != "ours"]
        return "\n\n".join([*scores, table(heading, rows)])
    heading[4:] = [f"this run ({'simulated, ' * run.spectra.simulated}for scale)"]
    return table(heading, [row[:-1] for row in rows])


def _score(marks, what):
    return (f"**{(marks == 'yes').sum()} of {(marks != '').sum()}** {what} that can be held against this run agree "
            "with the paper.")


def the_figures(run, args):
    """The pictures in the folder of figures that were drawn from this run as it is now, those of Section 3 first."""
    paths = {path.stem: path for path in sorted(args.figures.glob("*.png")) if ".partial-" not in path.name}
    variables = [f"ARTIFACTS={run.artifacts}", f"DATA={run.data}"]
    variables += [f"FIGURES={args.figures}"] * (args.figures != run.artifacts.figures)
    how = f"`` {shlex.join(['make', 'figures', *variables])} ``"
    parts = ["## Figures"]
    for section, source, stems in ((3, run, [stem for stem in SECTION_3 if stem in paths]),
                                   (4, run.estimates, [stem for stem in paths if stem not in SECTION_3])):
        title = None if source is None else style.title(source)
        current = [stem for stem in stems if title and style.drawn_from(paths[stem]) == title]
        parts += [f"### Of Section {section}",
                  *(picture(paths[stem], SECTION_3.get(stem) or caption(stem), args.out) for stem in current)]
        if not stems:
            parts.append(f"There are none yet: {how} draws them.")
        elif len(current) < len(stems):
            parts.append(f"Of the {len(stems)} in {plain(str(args.figures))}, {len(stems) - len(current)} are not, or "
                         f"do not say that they are, of this run as it is now, and left out: {how} draws them anew.")
    return parts


def caption(stem):
    """A caption from the name of a figure: of figure_08_young, "Figure 8 of the paper, young"."""
    number, _, rest = re.sub(r"^figure_0*(\d+)_?", r"\1:", stem).rpartition(":")
    words = " ".join(SPELT.get(word, word) for word in rest.split("_"))
    return f"Figure {number} of the paper{', ' * bool(words)}{words}" if number else words[:1].upper() + words[1:]


def page(run, args):
    """The whole page in Markdown."""
    parts = [*opening(run), *what_was_run(run), *what_is_missing(run), *against_truth(run, args.out),
             *the_joint_fit(run, args.out),
             *calibrated_errors(run), *the_networks(run), *the_gap(run, args.out)]
    if run.estimates is not None:
        parts += the_flags(run) + the_estimates(run)
    return "\n\n".join([*parts, *the_figures(run, args)]) + "\n"


# ---------------------------------------------------------------- Markdown and HTML
HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Report of a run</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.simulated h1 { color: #d55e00; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.875rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; vertical-align: top; text-align: left; }
th { border-bottom: 2px solid #888; white-space: nowrap; } img { max-width: 100%; }
code { font-size: 0.9em; overflow-wrap: anywhere; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } h2 { break-after: avoid; }
  tr, img { break-inside: avoid; } }
</style>
</head>
"""


def plain(text):
    """Text of anybody's, in one line, so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", one_line(text))


def table(heading, rows, numbers=()):
    """A table in Markdown; columns whose place is in `numbers` are set to the right."""
    rule = ["---:" if k in numbers else "---" for k in range(len(heading))]
    cells = [[str(cell) and plain(str(cell)) for cell in row] for row in (heading, rule, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def picture(path, caption, out):
    """A picture in Markdown, its path as seen from the folder of the page."""
    where = urllib.parse.quote(Path(os.path.relpath(path, out)).as_posix())
    return f"![{plain(caption)}]({where})\n\n*{plain(caption)}*"


def html(text, out, simulated):
    """The page as one HTML file, with its pictures in it."""

    def embedded(match):
        path = os.path.normpath(out.absolute() / urllib.parse.unquote(match[1]))
        return f'<img src="data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"'

    body = mistune.create_markdown(escape=True, plugins=["table"])(text)
    body = re.sub(r'<img src="([^"]+)"', embedded, body)
    return f'{HTML}<body{" class=simulated" * simulated}>\n{body}</body>\n</html>\n'


def is_report(path):
    """Whether a file that may be there begins as a page of this script does."""
    with contextlib.suppress(OSError, BadInput):
        state(path)
        with open(path, encoding="utf-8", errors="replace") as file:
            return "eport of a run" in file.read(1000)
    return False


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add_run(parser)
    add("--figures", type=folder, metavar="DIR", help="folder of the figures; None: {artifacts}/figures")
    add("--out", type=folder, metavar="DIR", help="folder of the page; None: {artifacts}")
    args = parser.parse_args(argv)
    run = load(args.data, args.artifacts)
    args.figures, args.out = args.figures or run.artifacts.figures, args.out or args.artifacts
    text = page(run, args)
    contents = {"report.md": text, "report.html": html(text, args.out, run.spectra.simulated)}
    with lock(args.out):
        run.refuse_change()
        for name in contents:
            check_own(args.out / name, is_report(args.out / name))
        for name, content in contents.items():
            with writing(args.out / name) as partial:
                partial.write_text(content, encoding="utf-8")
            print(args.out / name)


if __name__ == "__main__":
    sys.exit(main())
