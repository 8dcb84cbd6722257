"""README and docs/: links lead somewhere, commands are those of the scripts, pages stay short enough to be read."""
import argparse
import functools
import re
import runpy
import shlex
import sys
from pathlib import Path

import mistune
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*DOCS, *(ROOT / name for name in ("CONTRIBUTING.md", "src_files/README.md", "literature_data/README.md",
                                          "docs/data/README.md"))]
MODULES = {"venv", "pip", "pytest", "nbconvert"}  # of `python -m`
OTHERS = {"pip", "dask", "export", ".", ".ci/run", "pre-commit"}  # programs whose flags are not ours


def named(path):
    return str(path.relative_to(ROOT))


@functools.cache
def parsed(page):
    """A page as mistune's tokens."""
    return mistune.create_markdown(renderer=None, plugins=["table"])(page.read_text(encoding="utf-8"))


def tokens(page):
    """All tokens of a page, those inside others too."""
    todo = list(parsed(page))
    while todo:
        token = todo.pop(0)
        yield token
        todo = token.get("children", []) + todo


def text(token):
    return token.get("raw", "") + "".join(map(text, token.get("children", [])))


def anchor(heading):
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@functools.cache
def sections(page):
    """By anchor the words of each section of a page, its heading and those below it included."""
    found = {}
    level_of = {}
    for token in parsed(page):
        words = " ".join(read(token))
        if token["type"] == "heading":
            level = token["attrs"]["level"]
            level_of = {name: above for name, above in level_of.items() if above < level}
            level_of[anchor(text(token))] = level
        for name in level_of:
            found[name] = f"{found.get(name, '')} {words}".lower()
    return found


def read(token):
    """The pieces of text of a token that a reader sees, without the addresses of links."""
    yield " " if token["type"] == "softbreak" else token.get("raw", "")
    for child in token.get("children", []):
        yield from read(child)


def commands():
    """Every command in a code block without another language, and the page it is on."""
    for page in PAGES:
        for token in tokens(page):
            if token["type"] == "block_code" and token.get("attrs", {}).get("info", "sh") == "sh":
                for line in token["raw"].replace("\\\n", " ").splitlines():
                    parts = " ".join(map(shlex.quote, shlex.split(line, comments=True))).split("'&&'")
                    yield from ((named(page), part.strip()) for part in parts if part.strip())


# ---------------------------------------------------------------- links
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    links = [token["attrs"]["url"] for token in tokens(page) if token["type"] in ("link", "image")]
    dead = []
    for link in links:
        path, _, name = link.partition("#")
        if path.startswith("https://"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (name and name not in sections(target)):
            dead.append(link)
    assert not dead


SAYS_NOTHING = {"docs", "from", "have", "here", "more", "page", "same", "that", "them", "these", "they", "this",
                "those", "three", "what", "where", "which", "with"}


def stems(words):
    """First letters of the words that say something."""
    return [word[:5] for word in re.findall(r"[a-z]{4,}|\d{2,}", words.lower()) if word not in SAYS_NOTHING]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_to_a_section_lead_to_what_they_name(page):
    """Its text, a word of it or the keyword in its title stands in that section; the name of a page is no text."""
    lost = []
    for token in tokens(page):
        path, _, name = token.get("attrs", {}).get("url", "").partition("#")
        if token["type"] == "link" and name and not path.startswith("https://"):
            section = sections((page.parent / path).resolve() if path else page).get(name, "")
            words = re.sub(r"[\w/-]+\.md", "", "".join(read(token))).lower().split()
            named_as = [token["attrs"].get("title", " ".join(words)).lower()]
            if not words or not any(word in section for word in named_as + stems(" ".join(words))):
                lost.append((text(token), token["attrs"]["url"]))
    assert not lost


def test_every_page_is_linked_from_the_readme():
    linked = {ROOT / token["attrs"]["url"] for token in tokens(DOCS[0]) if token["type"] == "link"}
    assert not set(PAGES[1:]) - linked


def test_code_names_pages_that_exist():
    sources = [path for pattern in ("Methodology/**/*.py", "src_files/**/*.py", "tests/**/*.py", "*.ipynb", "Makefile")
               for path in ROOT.glob(pattern)]
    found = {(named(source), page) for source in sources
             for page in re.findall(r"\b(?:\w+/)?[\w-]+\.md\b", source.read_text(encoding="utf-8"))}
    pages = [(source, page) for source, page in found if page.startswith(("docs/", "src_files/", "literature_data/"))]
    assert pages and not [case for case in pages if not (ROOT / case[1]).exists()]


# ---------------------------------------------------------------- commands
class Parsed(Exception):
    """A script has parsed its arguments; with its parser."""


@pytest.fixture
def parse(monkeypatch):
    """Function that starts a script with these arguments and returns its parser, once that accepted them."""
    parse_args = argparse.ArgumentParser.parse_args

    def stop(self, args=None, namespace=None):
        parse_args(self, args, namespace)
        raise Parsed(self)

    def started(script, *arguments):
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(Parsed) as stopped:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        return stopped.value.args[0]

    return started


def check(words, parse):
    """Fail unless the command, as a list of words, is one of this repository's."""
    while re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    program, *arguments = words
    program = program.replace(".venv/bin/", "")
    files = [word for word in arguments if re.fullmatch(r"[\w/*-]+\.(py|txt|ipynb)", word)]
    assert all(list(ROOT.glob(file)) for file in files)
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        targets = re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE)[1].split()
        for word in arguments:
            variable, is_set, _ = word.partition("=")
            assert f"$({variable})" in makefile if is_set else word in targets
    elif program == "python" and arguments[0] == "-m":
        assert arguments[1] in MODULES
    elif program == "python":
        parse(arguments[0], *(re.sub(r"\$\w+", "0", argument) for argument in arguments[1:]))
    elif program == "sbatch":
        check(shlex.split(arguments[arguments.index("--wrap") + 1]), parse)
    else:
        assert program in OTHERS


@pytest.mark.parametrize(("page", "command"), sorted(set(commands())))
def test_commands_are_accepted(page, command, parse):
    check(shlex.split(command), parse)


@pytest.mark.parametrize("command", [
    "make demon", "make figures ESTIMATE=x", "python Methodology/cnn_trainings.py", "python -m nothing", "cnn_training",
    "python Methodology/cnn_training.py --parameter teff --stacks 3", "python Methodology/cnn_training.py --jobs none",
    "python src_files/simulate_spectra.py --gap 99", "sbatch --wrap 'python Methodology/cnn_training.py --only a'",
])
def test_commands_of_others_are_not(command, parse):
    with pytest.raises((AssertionError, SystemExit)):
        check(shlex.split(command), parse)


def test_flags_in_the_text_exist(parse):
    """In `autoencoder_training.py --penalty ...` and the like, and in `make ...` the target."""
    spans = {text(token) for page in PAGES for token in tokens(page) if token["type"] == "codespan"}
    wrong, checked = [], 0
    for span in spans:
        script, *words = span.split()
        if script.endswith(".py") and words:
            path, = (path for folder in ("Methodology", "src_files", "tests/benchmarks")
                     for path in ROOT.glob(f"{folder}/{Path(script).name}"))
            known = parse(named(path))._option_string_actions
            wrong += [f"{script} {flag}" for flag in words if flag.startswith("--") and flag not in known]
            checked += 1
    assert checked and not wrong


# ---------------------------------------------------------------- form
SHORT = [DOCS[0], *(ROOT / "docs" / f"{name}.md" for name in ("results", "fine-tuning", "trust"))]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_pages_are_short(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= (120 if page in SHORT else 250)
    prose = [line for line in lines if not line.startswith(("|", "!["))]  # tables and pictures cannot be wrapped
    assert max(map(len, prose)) <= 120


@pytest.mark.parametrize("page", DOCS, ids=named)
def test_pages_begin_with_their_answer(page):
    """After the title, before any list of contents, table, picture or command: a few sentences."""
    answer = page.read_text(encoding="utf-8").split("\n\n")[1]
    assert not answer.startswith(("- ", "|", "#", "    ", "!", "`")) and len(answer.splitlines()) <= 7


def test_nothing_is_left_to_do():
    assert not [named(page) for page in PAGES if "TODO" in page.read_text(encoding="utf-8")]


def test_pictures_are_small():
    assert all(path.stat().st_size < 150_000 for path in (ROOT / "docs").glob("*.png"))
