"""The article: its metadata are those of CITATION.cff, it cites what it lists, its numbers are those of the pages.

That sentences have the numbers of the tables, test_numbers.py holds.
"""
import re

import pytest
import yaml

import release
from workflow.command_line import ROOT

ARTICLE = ROOT / "docs" / "article"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]


@pytest.fixture(scope="module")
def metadata():
    """metadata.yaml, in which the template has single keys as items of lists."""
    fields = yaml.safe_load((ARTICLE / "metadata.yaml").read_text(encoding="utf-8"))
    for name in ("code", "data", "replication", "dates", "article", "journal"):
        fields[name] = {key: value for item in fields[name] for key, value in item.items()}
    return fields


def of_article(name="article.tex"):
    return re.sub(r"(?<!\\)%.*", "", (ARTICLE / name).read_text(encoding="utf-8"))


def test_metadata_are_those_of_the_citation_file(metadata):
    cited = release.citation()
    of_paper, replication = cited["preferred-citation"], metadata["replication"]
    names = ", ".join(f"{author['given-names']} {author['family-names']}" for author in of_paper["authors"])
    assert metadata["title"] == f"[Re] {of_paper['title']}"
    assert [author["name"] for author in metadata["authors"]] == [author["name"] for author in cited["authors"]]
    assert replication["cite"].startswith(f"{names}: {of_paper['title']}") and replication["doi"] == of_paper["doi"]
    assert set(cited["keywords"]) < set(metadata["keywords"].split(", "))
    assert f"Version {cited['version']} of the code, {cited['license']} licence" in of_article()
    assert (ARTICLE / metadata["bibliography"]).exists()


def test_what_is_cited_is_listed_and_what_is_listed_cited(metadata):
    listed = re.findall(r"^@\w+\{(.+),$", of_article("bibliography.bib"), re.M)
    cited = {name for names in re.findall(r"\\(?:super)?cite\w?\{(.+?)\}", of_article()) for name in names.split(",")}
    assert len(listed) == len(set(listed)) and cited == set(listed) and metadata["replication"]["bib"] in cited


def test_environments_and_braces_are_closed():
    text, open_environments = of_article(), []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    for file in (text, of_article("bibliography.bib")):
        assert file.count("{") == file.count("}")
    assert set(re.findall(r"\\ref\{(\w+)\}", text)) == set(re.findall(r"\\label\{(\w+)\}", text))


def test_numbers_stand_on_the_pages(metadata):
    """Every number of text and abstract is one of README.md, docs/ or, of versions, CHANGELOG.md."""
    number = r"(?<![\w.])\d+(?:[.,]\d+)*(?:e-?\d+)?"
    pages = {value for page in PAGES for value in re.findall(number, page.read_text(encoding="utf-8"))}
    text = re.sub(r"\\(super)?cite\w?\{.+?\}|\[width.*?\]", "", of_article()) + metadata["abstract"]
    assert not set(re.findall(number, text)) - pages
