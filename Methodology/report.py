"""One page on a run, to be sent to a colleague: what was run, what the paper says beside it, and the figures.

Reads   {artifacts}/*.json, final_estimations.csv, final_estimations_before.csv, summary.png; {figures}/*.png
        {data}/ph_flux_norm.npy, ph_pars.npy, carmf_norm.npy, stars.csv; literature_data/*.csv
Writes  {out}/report.md      refers to the pictures where they lie
        {out}/report.html    the same with the pictures in it: this one file can be sent

What an act has not left yet is said on the page. Values are marked as agreeing with the paper's or not only if the
spectra are not simulated. The figures are those of `make figures ARTIFACTS={artifacts} DATA={data}`.

    python Methodology/report.py                                                  # of a run in artifacts/
    python Methodology/report.py --data src_files/demo --artifacts artifacts/demo
"""
import argparse
import base64
import json
import os
import re
import shlex
import sys
import urllib.parse
from pathlib import Path

import mistune

import paper
from evaluation import calibrated, catalogues, claims, comparison, gap
from evaluation.run import NotYet, listed, load, settings
from evaluation.truth import errors_of_estimates
from inference import flags
from spectra import star_tables
from workflow import schemas
from workflow.artifacts import STAGES
from workflow.command_line import Help, add_run, command, folder
from workflow.files import one_line, read_table, sha256, writing

PENALTIES = {
    "live": "formula of the published code, current weights", "none": "none",
    "frozen": "formula of the published code, initial weights",
    "exact": "Jacobian of the last encoder layer", "jacobian": "Jacobian of the whole encoder",
}
LIBRARIES = {"python": "Python", "tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy",
             "scikit-learn": "scikit-learn"}
# Of Section 3, in the order of the paper; those of Section 4 are spelt by `caption`
SECTION_3 = {
    "figure_01": "Figure 1 of the paper, the gap among the fluxes: UMAP of synthetic and observed spectra",
    "figure_03": "Figure 3 of the paper, a synthetic spectrum, its reconstruction and its latent values",
    "figure_04": "Figure 4 of the paper, an observed spectrum and its reconstructions before and after fine-tuning",
    "figure_05": "Figure 5 of the paper, the gap among the latent values: UMAP after fine-tuning",
    "figure_07": "Figure 7 of the paper, the estimates of one star: predictions of the regressors and their density",
    "training_curves": "Loss of every epoch of training and of fine-tuning (not in the paper)",
    "scores": "Error on the test set against that of the cross-validation (not in the paper)",
    "dead_units": "Share of spectra in which each latent value is zero (not in the paper)",
    "residuals": "Where the reconstruction of the observed spectra fails (not in the paper)",
}
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
    """Settings and counts of the run beside the paper's."""
    budget = paper.BUDGETS["paper"]
    n_regressors = len(paper.PARAMETERS) * paper.N_AUTOENCODERS * budget.repeats
    trained, fine_tuned = run.trained.values(), run.fine_tuned.values()
    penalties = [", ".join(PENALTIES.get(name, name) for name in settings(part, "penalty").split(", "))
                 for part in (trained, fine_tuned)]
    kept = run.selection or schemas.Selection([])
    rule = f" ({kept.rule.replace('mse_mean', 'mean error')})" if kept.rule else ""
    rows = [
        ("spectra", one_line(run.spectra) + run.simulation, "PHOENIX-ACES, CARMENES"),
        ("synthetic spectra", _count(run, "ph"),
         f"{paper.N_SYNTHETIC:,}; earlier works used all {paper.N_FULL_GRID:,} of the grid"),
        ("observed spectra", _count(run, "carm"), paper.N_OBSERVED),
        ("grid search", f"{len(run.fits)} fits, {paper.CV_FOLDS} an architecture, epochs: "
         f"{settings(run.fits, 'epochs')}", f"epochs: {budget.search_epochs}"),
        ("architectures kept", f"{len(kept.architectures)}{rule}", paper.N_AUTOENCODERS),
        ("autoencoders trained", _number(trained), f"{paper.N_AUTOENCODERS}, epochs: {budget.train_epochs}"),
        ("autoencoders fine-tuned", _number(fine_tuned), f"{paper.N_AUTOENCODERS}, epochs: {budget.fine_tune_epochs}"),
        ("contractive penalty", f"{penalties[0]}; weight {settings(trained, 'penalty_weight')}",
         f"text: {PENALTIES['jacobian']}; code: {PENALTIES['frozen']}; weight {paper.CONTRACTIVE_WEIGHT:g} (code)"),
        ("contractive penalty in fine-tuning", penalties[1], "the same"),
        ("regressors trained", _number(run.regressors), f"{n_regressors}, epochs: {budget.cnn_epochs}"),
    ]
    return ["## What was run", table(["", "this run", "the paper"], [*rows, *how_it_was_run(run.sidecars)])]


def how_it_was_run(sidecars):
    """Rows on seeds, time and software."""
    seconds = sum(sidecar.seconds for sidecar in sidecars)
    time = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    software = [f"{name} {listed(one.versions[library] for one in sidecars if library in one.versions)}"
                for library, name in LIBRARIES.items()]
    return [
        ("seed", listed(str(sidecar.seed) for sidecar in sidecars), ""),
        ("computing time", f"{time}, summed over all networks", ""),
        ("software", ", ".join(software), ""),
        ("code (sha256)", listed(sidecar.code[:8] for sidecar in sidecars if sidecar.code), ""),
    ]


def _number(sidecars):
    perturbed = any("perturb" in one.settings or "perturbed" in " ".join(one.inputs) for one in sidecars)
    return f"{len(sidecars)}, epochs: {settings(sidecars, 'epochs')}{', on perturbed spectra' * perturbed}"


def _count(run, domain):
    try:
        return f"{len(run.flux(domain)):,}"
    except NotYet:
        return "not found"


def what_is_missing(run):
    """What the acts have not left yet, and what could not be looked at."""
    absent = [name for name in (run.data.ph.name, run.data.pars.name, run.data.carm.name) if name not in run.sources]
    lines = [*run.missing, *([f"{', '.join(absent)}: not in {run.data}"] if absent else [])]
    return ["## What is missing", "\n".join(f"- {plain(line)}" for line in lines)] if lines else []


def against_truth(run, out):
    """Estimates of simulated stars before and after fine-tuning, against the truth."""
    truth = run.truth
    if truth is None:
        return []
    tables = [star_tables.read(run.artifacts.estimates(stage), "restore it")
              for stage in STAGES]
    measured = errors_of_estimates(*tables, truth)
    rows = [(name, f"{row['n']:.0f}", *(f"{row[f'{part} before']:.3g}, {row[f'{part} after']:.3g}"
                                        for part in ("rmse", "bias", "scatter")), f"{row['own uncertainty']:.3g}")
            for name, row in measured.iterrows()]
    heading = ["before, after fine-tuning", "stars", "rmse", "bias", "scatter", "own uncertainty"]
    parts = ["## The estimates against the truth of the simulation", table(heading, rows, range(1, 6)),
             "Bias is the mean of estimate minus truth, scatter its standard deviation, rmse both together. The own "
             "uncertainty is the median of what the regressors say of themselves, after fine-tuning."]
    summary = run.artifacts.summary
    if summary.exists():
        parts.append(picture(summary, "Estimates against truth, before and after fine-tuning", out))
    return parts


def the_flags(run):
    """How many stars have each flag."""
    found = flags.counts(run.estimates)
    if found.empty:
        return []
    rows = [(word, *(number or "" for number in row)) for word, row in zip(found.index, found.to_numpy())]
    heading = ["stars flagged", *(parameter.published for parameter in paper.PARAMETERS.values()), "the star"]
    return ["## How far to trust each estimate", table([plain(name) for name in heading], rows, range(1, 6)),
            "What each flag means is in docs/trust.md, which stars have it in final_estimations.csv."]


def calibrated_errors(run):
    """What independent values, or half of the truth, say of the estimates and their uncertainties."""
    path = run.artifacts.calibrated.with_suffix(".json")
    if run.estimates is None or not path.exists():
        return []
    found = schemas.read(path, schemas.Calibration, "run Methodology/calibrate.py again")
    rows = calibrated.fits(found.fits.items())
    if sha256(run.artifacts.estimates()) not in found.inputs.values():
        return ["## Calibrated errors", "They are of other estimates: run Methodology/calibrate.py again."]
    return ["## Calibrated errors", table(list(rows), rows.to_numpy(), (2, 3)),
            "Offsets are added to estimates. Last: percentages of stars within their intervals, before and after."]


def the_gap(run, out):
    """Numbers of the gap between synthetic and observed spectra, if they are measured."""
    path, again = run.artifacts.gap_report, "run Methodology/gap_report.py again"
    if not path.exists():
        return []
    found = read_table(path, "run", again, once=False)
    if set(found["run"]) != {run.title}:
        return ["## The gap in numbers", f"They are of this run as it was: {again}."]
    shown = gap.summary(found)
    return ["## The gap in numbers", table(list(shown), shown.to_numpy(), range(1, len(shown.columns))),
            "Synthetic spectra of the same labels are compared, and distances are relative to theirs among themselves; "
            "brackets hold 90 % of the stars, of the AUC its 95 % interval.",
            picture(path.with_suffix(".png"), "The gap in numbers; in grey, what is no gap", out)]


def _claims(held, run):
    """A table of claims and how many of them agree; without marks if the spectra are not the published ones."""
    scale = "simulated, for scale" if run.spectra.simulated else "for scale"
    heading = ["", "Sect.", "the paper", "this run" if run.spectra.published else f"this run ({scale})", "agrees"]
    rows = [[row.claim, row.section, row.paper or "-", row.value or "-", row.agrees] for row in held.itertuples()]
    if not run.spectra.published:
        return table(heading[:4], [row[:4] for row in rows])
    return f"{_score(held['agrees'], 'statements')}\n\n{table(heading, rows)}"


def _score(marks, what):
    """How many of those that are marked agree, in words."""
    agree, held = (marks == "yes").sum(), (marks != "").sum()
    return f"**{agree} of {held}** {what} that can be held against this run agree with the paper."


def the_networks(run):
    """What Sect. 3 of the paper says."""
    held = claims.of_run(run.measured(), run.spectra)
    return ["## What the paper says of its networks", _claims(held, run),
            "Errors are mean squared errors, distances Euclidean and averaged over the observed spectra; given are the "
            "mean over the autoencoders and, in brackets, the range. The paper prints its 353 with the unit K. The "
            "published code's own grid leaves fewer than the paper's 26 autoencoders."]


def the_estimates(run, known):
    """What Sect. 4 of the paper says, and the comparison with the literature."""
    complete = run.estimates[list(paper.PARAMETERS)].notna().all(axis=1).sum()
    note = f"{len(run.estimates)} stars, {complete} with all four parameters."
    unknown = sorted(set(run.estimates["karmn"]) - set(known["karmn"]))
    if unknown:
        note += (f" The tables of published values do not know {len(unknown)} of them, which are left out below: "
                 f"{plain(', '.join(unknown[:5]))}{', ...' * (len(unknown) > 5)}.")
    parts = ["## What the paper says of its estimates", note]
    if known.empty:
        return parts
    parts += [_claims(claims.of_estimates(known), run),
              "Of two values the first is of the stars up to the temperature named, the second of those above. Where "
              "the paper says it in words, the words are what is held; a dash stands where it says nothing. Activity, "
              "disc, rings and subdwarfs belong to the stars, whatever the estimates: they were read off the paper's "
              "Figure 8, the disc is that of Marfil+21."]
    return parts + the_literature(known, run)


def the_literature(known, run):
    """Tables of the mean difference, rmse and r of literature minus estimate, one a parameter."""
    parts = ["## Against the literature",
             "Literature minus estimate: mean, root mean square and Pearson's r. "
             + "The literature is on the real stars of the same names, so this is **for scale**. "
             * run.spectra.simulated
             + "Under \"the paper\" is what its text prints; \"not read\" are numbers that stand, if it gives them, in "
             "a table that we could not read."]
    compared = comparison.printable(comparison.compare(known))
    if run.spectra.published:
        parts.append(_score(compared["agrees"], "comparisons"))
    for parameter, rows in compared.groupby("parameter", sort=False):
        shown = [[f"{row['catalogue']}, {row['which']}".rstrip(", "), row["n"], row["mean"], row["rmse"], row["r"],
                  _printed(row), row["agrees"]] for _, row in rows.iterrows()]
        heading = [plain(parameter), "stars", "mean", "rmse", "r", "the paper", "agrees"]
        width = 7 if run.spectra.published else 6
        parts.append(table(heading[:width], [row[:width] for row in shown], (1, 2, 3, 4)))
    return parts


def _printed(row):
    found = [f"{name} {row[f'paper {part}']}" for part, name in
             (("mean", "mean"), ("rmse", "rmse"), ("r", "r"), ("n", "stars")) if row[f"paper {part}"] != paper.NOT_READ]
    return ", ".join(found) or paper.NOT_READ


def the_figures(run, args):
    """The pictures in the folder of figures, those of Section 3 first; without those that are not of this run."""
    found = {path.stem: path for path in sorted(args.figures.glob("*.png")) if ".partial-" not in path.name}
    variables = [f"ARTIFACTS={run.artifacts}", f"DATA={run.data}"]
    if args.figures != run.artifacts.figures:
        variables.append(f"FIGURES={args.figures}")
    how = f"`` {shlex.join(['make', 'figures', *variables])} ``"
    drawn = f"{len(run.estimates)} stars, {catalogues.title(run.estimates)}" if run.estimates is not None else None
    parts = ["## Figures"]
    for section, line, stems in ((3, run.title, [stem for stem in SECTION_3 if stem in found]),
                                 (4, drawn, [stem for stem in found if stem not in SECTION_3])):
        parts.append(f"### Of Section {section}")
        if not stems:
            parts.append(f"There are none yet: {how} draws them.")
        elif not _printed_in(args.figures.glob(f"Section{section}_*.ipynb"), line):
            parts.append(f"Those in {plain(str(args.figures))} are not, or nothing beside them says that they are, of "
                         f"this run as it is now, and left out: {how} draws them anew.")
        else:
            parts += [picture(found[stem], SECTION_3.get(stem) or caption(stem), args.out) for stem in stems]
    return parts


def _printed_in(notebooks, line):
    """Whether there are executed notebooks beside the pictures, and all of them say this of what they drew."""
    written = line and json.dumps(line, ensure_ascii=False)[1:-1]
    texts = [notebook.read_text(encoding="utf-8", errors="replace") for notebook in notebooks]
    return bool(texts and written) and all(written in text for text in texts)


def caption(stem):
    """A caption from the name of a figure: of figure_08_young, "Figure 8 of the paper, young"."""
    number, _, rest = re.sub(r"^figure_0*(\d+)_?", r"\1:", stem).rpartition(":")
    words = " ".join(SPELT.get(word, word) for word in rest.split("_"))
    return f"Figure {number} of the paper{', ' * bool(words)}{words}" if number else words[:1].upper() + words[1:]


# ---------------------------------------------------------------- the page
def page(run, args):
    """The whole page in Markdown."""
    parts = [*opening(run), *what_was_run(run), *what_is_missing(run), *against_truth(run, args.out),
             *calibrated_errors(run), *the_networks(run),
             *the_gap(run, args.out)]
    if run.estimates is not None:
        parts += the_flags(run)
        parts += the_estimates(run, run.estimates[run.estimates["karmn"].isin(catalogues.known())])
    return "\n\n".join([*parts, *the_figures(run, args)]) + "\n"


# ---------------------------------------------------------------- Markdown and HTML
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.simulated h1 { color: #d55e00; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.875rem; }
th, td { padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; vertical-align: top; text-align: left; }
th { border-bottom: 2px solid #888; white-space: nowrap; } img { max-width: 100%; }
code { font-size: 0.9em; overflow-wrap: anywhere; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } h2 { break-after: avoid; }
  tr, img { break-inside: avoid; } }
"""


def plain(text):
    """Text of anybody's, in one line, so that Markdown shows it as it is."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in one_line(text))
    return re.sub(r"([\\`*_\[\]<>|~$&#])", r"\\\1", printable)


def table(heading, rows, numbers=()):
    """A table in Markdown; columns whose place is in `numbers` are set to the right."""
    rule = ["---:" if k in numbers else "---" for k in range(len(heading))]
    cells = [heading, rule, *([plain(str(cell)) if str(cell) else "" for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def picture(path, caption, out):
    """A picture in Markdown, its path as seen from the folder of the page."""
    where = urllib.parse.quote(Path(os.path.relpath(path, out)).as_posix())
    return f"![{plain(caption)}]({where})\n\n*{plain(caption)}*"


def html(text, out, simulated):
    """The page as one HTML file, with its pictures in it."""
    body = mistune.create_markdown(escape=True, plugins=["table"])(text)

    def embedded(match):
        path = os.path.normpath(out.absolute() / urllib.parse.unquote(match[1]))
        return f'<img src="data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"'

    body = re.sub(r'<img src="([^"]+)"', embedded, body)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width">\n<title>Report of a run</title>\n'
            f'<style>{STYLE}</style>\n</head>\n<body{" class=simulated" * simulated}>\n{body}</body>\n</html>\n')


@command
def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add_run(parser)
    add("--figures", type=folder, metavar="DIR", help="folder of the figures; None: {artifacts}/figures")
    add("--out", type=folder, metavar="DIR", help="folder of the page; None: {artifacts}")
    args = parser.parse_args(argv)
    args.figures, args.out = args.figures or args.artifacts / "figures", args.out or args.artifacts
    run = load(args.data, args.artifacts)
    text = page(run, args)
    for name, content in (("report.md", text), ("report.html", html(text, args.out, run.spectra.simulated))):
        with writing(args.out / name) as partial:
            partial.write_text(content, encoding="utf-8")
        print(args.out / name)


if __name__ == "__main__":
    sys.exit(main())
