"""The Makefile, run with a stub for Python that writes down what it is called with: nothing is installed."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")

# Says the version it is asked for, copies itself into a virtual environment, writes all its arguments into a line.
STUB = """#!/bin/sh
case "$1 $2" in
    "-c "*) echo "$STUB_VERSION"; exit ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
esac
{ printf '[%s]' "$@"; echo " ESTIMATES=$ESTIMATES FIGURES=$FIGURES ARTIFACTS=$ARTIFACTS DATA=$DATA"; } >> "$STUB_LOG"
"""


@pytest.fixture
def checkout(tmp_path):
    """What make needs of this repository, in a folder with a blank in its name."""
    folder = tmp_path / "my checkout"
    folder.mkdir()
    for name in ("Makefile", "requirements.txt", "requirements-cluster.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(checkout, *arguments, python="python3", version="3.11"):
    """Run make with a stub of this name; returns its process and the stub's calls, a line each."""
    stub = checkout.parent / "my pythons" / python
    stub.parent.mkdir(exist_ok=True)
    stub.write_text(STUB)
    stub.chmod(0o755)
    log = checkout.parent / "log"
    done = subprocess.run(
        ["make", f"PYTHON={stub}", *arguments], cwd=checkout, capture_output=True, text=True, timeout=60,
        env={"PATH": os.environ["PATH"], "STUB_VERSION": version, "STUB_LOG": str(log)},
    )
    return done, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("version", ["2.7", "3.8", "3.14", "4.0", ""])
@pytest.mark.parametrize("target", ["demo", "test"])
def test_python_without_wheels_is_refused_at_once(target, version, checkout):
    before = sorted(checkout.iterdir())
    done, calls = make(checkout, target, version=version)
    assert done.returncode != 0 and not calls and sorted(checkout.iterdir()) == before
    line, = done.stderr.splitlines()
    assert version in line and "3.9 to 3.13" in line


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_pip_is_upgraded_before_it_installs(version, checkout):
    done, calls = make(checkout, "test", python=f"python{version}", version=version)
    assert done.returncode == 0, done.stderr
    assert [call.split(" ESTIMATES")[0] for call in calls] == [
        f"[-m][venv][.venv-python{version}]",
        "[-m][pip][install][-q][--upgrade][pip]",
        "[-m][pip][install][-q][-r][requirements.txt]",
        "[-m][pip][install][-q][-r][requirements-cluster.txt]",
        "[-m][pytest][-m][not slow]",
    ]


LITERATURE, NBCONVERT, BENCH = "Methodology/literature.py", "nbconvert", "tests/benchmarks/bench.py"
REPORT, GAP = "Methodology/report.py", "Methodology/gap_report.py"
NAMES = ["plain", "my  two blanks", "l'été", "a;b&c|d*", "-x (1)"]


def end(folder):
    """Leave estimates in a folder, as a run that has ended does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "final_estimations.csv").touch()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("target", "variable", "script", "ends"), [
    ("figures", "FIGURES", NBCONVERT, "[--output-dir][{}][Section4_1_figs.ipynb][Section4_2_figs.ipynb]"),
    ("figures", "FIGURES", NBCONVERT, " ESTIMATES= FIGURES={}"),
    ("figures", "ESTIMATES", LITERATURE, "[Methodology/literature.py][{}]"),
    ("figures", "ESTIMATES", NBCONVERT, " ESTIMATES={} FIGURES=artifacts/figures"),
    ("figures", "ARTIFACTS", "Section4", "{0}/final_estimations.csv FIGURES={0}/figures ARTIFACTS={0} DATA="),
    ("figures", "ARTIFACTS", "Section3", "{0}/final_estimations.csv FIGURES={0}/figures ARTIFACTS={0} DATA="),
    ("figures", "ARTIFACTS", LITERATURE, "[Methodology/literature.py][{}/final_estimations.csv]"),
    ("figures", "DATA", NBCONVERT, " ARTIFACTS= DATA={}"),
    ("bench", "OTHER_LANE", BENCH, "[tests/benchmarks/bench.py][{}]"),
    ("report", "ARTIFACTS", REPORT, "[--artifacts={0}][--data=src_files][--figures={0}/figures]"),
    ("report", "ARTIFACTS", GAP, "[--artifacts={0}][--data=src_files]"),
    ("report", "DATA", REPORT, "[--artifacts=artifacts][--data={}][--figures=artifacts/figures]"),
    ("report", "FIGURES", REPORT, "[--data=src_files][--figures={}]"),
])
def test_names_arrive_whole(target, variable, script, ends, name, checkout):
    end(checkout / name)
    done, calls = make(checkout, target, f"{variable}={name}")
    assert done.returncode == 0, done.stderr
    call, = (call for call in calls if script in call)
    assert ends.format(name) in call


def test_names_left_out_are_no_arguments(checkout):
    make(checkout, "figures")
    calls = make(checkout, "bench")[1]
    assert any(call.startswith(f"[{LITERATURE}] ") for call in calls)
    assert any(call.startswith(f"[{BENCH}] ") for call in calls)
    assert not any("Section3" in call for call in calls)


@pytest.mark.parametrize("ended", [True, False])
def test_a_report_has_the_figures_of_its_run_drawn_before(ended, checkout):
    if ended:
        end(checkout / "artifacts" / "demo")
    done, calls = make(checkout, "report", "ARTIFACTS=artifacts/demo", "DATA=src_files/demo")
    assert done.returncode == 0, done.stderr
    *before, section_3, report = [call for call in calls if GAP not in call]
    assert any(GAP in call for call in calls) == ended
    assert "Section3_figs.ipynb" in section_3 and "FIGURES=artifacts/demo/figures" in section_3
    assert "[--figures=artifacts/demo/figures]" in report
    assert any("Section4" in call for call in before) == any(LITERATURE in call for call in before) == ended


@pytest.mark.parametrize("ended", [True, False])
def test_a_release_takes_the_runs_that_have_ended_and_makes_the_others(ended, checkout):
    for folder in ("artifacts/demo", "my full run") if ended else ():
        end(checkout / folder)
    done, calls = make(checkout, "release", "FULL=my full run", "FULL_DATA=my set")
    assert done.returncode == 0, done.stderr
    assert calls[-1].startswith("[.ci/release.py][--run][demo][artifacts/demo][src_files/demo]"
                                "[--run][full][my full run][my set] ")
    act_4 = [call for call in calls if call.startswith("[Methodology/cnn_training.py]")]
    assert len(act_4) == (0 if ended else 2)
    assert ended or act_4[1].startswith("[Methodology/cnn_training.py][--data][my set][--artifacts][my full run]")


def test_what_is_installed_is_not_installed_again(checkout):
    assert len(make(checkout, "lint")[1]) == 4
    assert make(checkout, "lint")[1][4:] == ["[-m][ruff][check] ESTIMATES= FIGURES= ARTIFACTS= DATA="]
