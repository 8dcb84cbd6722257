"""The notebooks: they execute on the published estimates and on a small simulated run, and are committed clean."""
import json
import os
import re
import subprocess
import sys

import pytest
from made_up_run import make_run
from run_tables import write_run

from evaluation import catalogues
from figures import style
from workflow.command_line import ROOT

NOTEBOOKS = {"Section4_1_figs.ipynb": 2, "Section4_2_figs.ipynb": 7}  # and their figures
SECTION_3 = "Section3_figs.ipynb"
ALL = {**NOTEBOOKS, SECTION_3: 9}


def execute(folder, names=NOTEBOOKS, **environment):
    """Execute copies of some; returns them as dict."""
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(folder), *names],
        cwd=ROOT, env={**os.environ, "FIGURES": str(folder / "figures"), **environment},
        check=True, capture_output=True, timeout=300,
    )
    return {name: read(folder / name) for name in names}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell["outputs"]]


def printed(notebook):
    return "".join("".join(output.get("text", [])) for output in outputs(notebook))


def pictures(notebook):
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


# Stand in, of a run, for umap-learn, which takes seconds to compile, and for writing figures twice besides showing
# them; tests/figures and the published estimates have the real ones.
STAND_INS = {"umap.py": """
class UMAP:
    def __init__(self, **options):
        pass
    def fit_transform(self, vectors):
        return vectors[:, :2]
""", "profile_default/startup/savefig.py": """
from pathlib import Path
from matplotlib.figure import Figure
Figure.savefig = lambda figure, path, **options: (figure.get_layout_engine().execute(figure), Path(path).touch())
"""}


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    """All notebooks, executed on a run with 20 stars, one parameter missing, a star without estimates; that of
    Section 3 on artifacts without estimates."""
    folder = tmp_path_factory.mktemp("my run")
    artifacts = make_run(tiny, folder / "artifacts").artifacts.folder
    (artifacts / "final_estimations.csv").unlink()
    for name, source in STAND_INS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source)
    stars = catalogues.load_estimates().iloc[::14][:20].reset_index(drop=True)
    stars.loc[3, ["teff", "logg", "mh", "vsini"]] = None
    path = write_run(folder / "final_estimations.csv", stars.assign(logg=None))
    return folder, execute(folder, ALL, ESTIMATES=str(path), DATA=str(tiny), ARTIFACTS=str(artifacts),
                           PYTHONPATH=str(folder), IPYTHONDIR=str(folder))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return folder, execute(folder, ESTIMATES="")


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_published_estimates(name, published):
    folder, executed = published
    assert "286 stars, the published estimates" in printed(executed[name])
    assert len(pictures(executed[name])) == NOTEBOOKS[name]
    assert not [output for output in outputs(executed[name]) if output.get("name") == "stderr"]
    written = sorted(path.name for path in (folder / "figures").iterdir())
    assert len(written) == 2 * sum(NOTEBOOKS.values()) and len([n for n in written if n.endswith(".pdf")]) == 9
    drawn_from = {style.drawn_from(path) for path in (folder / "figures").glob("*.png")}
    assert drawn_from == {style.title(catalogues.load_estimates())}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_outputs_are_of_the_published_estimates(name, published):
    committed, executed = read(ROOT / name), published[1][name]
    if not (ROOT / "literature_data" / "isochrones.csv").exists():  # anybody's own; the notebook says what it lacks
        assert printed(committed) == printed(executed)
    tables = [[o["data"].get("text/plain") for o in outputs(n) if "text/html" in o.get("data", {})]
              for n in (committed, executed)]
    assert tables[0] == tables[1] and len(tables[0]) == 1
    assert [cell["source"] for cell in code(committed)] == [cell["source"] for cell in code(executed)]
    assert len(pictures(committed)) == NOTEBOOKS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_simulated_run(name, run):
    folder, executed = run
    assert "20 stars, estimates of SIMULATED stars" in printed(executed[name])
    assert len(pictures(executed[name])) == NOTEBOOKS[name]
    assert not [output for output in outputs(executed[name]) if output.get("name") == "stderr"]
    assert len(list((folder / "figures").glob("*.png"))) == sum(ALL.values()) - 1


@pytest.mark.slow
def test_section_3_of_a_run(run):
    executed = run[1][SECTION_3]
    lines = printed(executed).splitlines()
    assert lines[0].startswith("SIMULATED spectra: 2 autoencoders") and len(lines) == 2
    assert lines[1].startswith("figure_07 is not drawn: ") and "run Methodology/cnn_training.py" in lines[1]
    assert len(pictures(executed)) == ALL[SECTION_3] - 1
    assert not [output for output in outputs(executed) if output.get("name") == "stderr"]


def test_section_3_is_committed_whole_and_says_simulated():
    committed = read(ROOT / SECTION_3)
    line, = printed(committed).splitlines()
    assert line.startswith("SIMULATED spectra") and len(pictures(committed)) == ALL[SECTION_3]
    table, = ("".join(o["data"]["text/plain"]) for o in outputs(committed) if "text/html" in o.get("data", {}))
    assert all(number in table for number in ("5e-5", "3e-3", "4e-4", "2.72", "0.086"))


@pytest.mark.slow
@pytest.mark.parametrize("start", ["tests/benchmarks", "elsewhere"])
def test_started_anywhere(start, tmp_path):
    """The first two cells, in another folder, beside other modules of the same names."""
    for module in ("figures", "paper"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('another one')")
    source = "\n".join("".join(cell["source"]) for cell in code(read(ROOT / "Section4_1_figs.ipynb"))[:2])
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "ESTIMATES": "", "FIGURES": "artifacts/new"}
    done = subprocess.run(
        [sys.executable, "-c", source + "\nprint(folder)"], cwd=tmp_path if start == "elsewhere" else ROOT / start,
        env=environment, capture_output=True, text=True, encoding="utf-8",
    )
    if start == "elsewhere":
        assert done.returncode and done.stderr.count("\n") == 1 and "inside the repository" in done.stderr
    else:
        assert done.stdout.splitlines() == ["286 stars, the published estimates", str(ROOT / "artifacts" / "new")]


@pytest.mark.parametrize("name", ALL)
def test_committed_from_one_clean_execution(name):
    notebook = read(ROOT / name)
    cells = code(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(not cell["metadata"] for cell in cells)
    assert "".join(cells[0]["source"]) == "".join(code(read(ROOT / SECTION_3))[0]["source"])
    assert max(len("".join(cell["source"]).splitlines()) for cell in cells) <= 15
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert {output["output_type"] for output in outputs(notebook)} <= {"execute_result", "stream"}
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    for before, cell in zip(notebook["cells"], notebook["cells"][1:]):
        begins = "".join(cell["source"][:1])
        if cell["cell_type"] == "code" and re.search(r"section[34]\.|hr_diagram\.|claims\.", begins):
            assert before["cell_type"] == "markdown" and before["source"][0].startswith("## ")


@pytest.mark.parametrize("name", ALL)
def test_no_machine_in_it(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    text = re.sub(r'"image/png": ".*"', "", text)
    assert not re.findall(r'["\s(\'](/[A-Za-z]\w*/[\w/.]+|~/|[A-Z]:\\\\)', text)
    assert "filterwarnings" not in text and "Warning" not in text
    assert (ROOT / name).stat().st_size < 2e6
