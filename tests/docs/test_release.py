"""The release: one version everywhere, metadata and pinned packages that fit, and what is packed of a run."""
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

import release
from synthetic.labels import label_grid
from workflow import schemas
from workflow.command_line import ROOT
from workflow.files import BadInput


def test_one_version_everywhere():
    cited = release.citation()
    first = re.search(r"^## (\S+), (\S+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert first.groups() == (cited["version"], str(cited["date-released"]))
    for name, content in release.metadata(cited).items():
        written = json.loads((ROOT / name).read_text(encoding="utf-8"))
        assert written == content, f"{name} is not that of CITATION.cff: python .ci/release.py writes it"
        assert content["version"] == cited["version"]


def test_the_paper_is_cited_by_its_authors_names():
    article = release.citation()["preferred-citation"]
    assert len(article["authors"]) == 12 and article["doi"] == "10.1051/0004-6361/202449865"
    assert all(set(author) == {"family-names", "given-names"} for author in article["authors"])
    codemeta = release.metadata(release.citation())["codemeta.json"]
    assert codemeta["referencePublication"]["author"][0]["familyName"] == "Mas-Buitrago"


@pytest.mark.parametrize(("lane", "version"), [("keras2", "3.11"), ("keras3", "3.12")])
def test_constraints_have_every_pinned_package_and_no_machine(lane, version):
    text = (ROOT / f"constraints-{lane}.txt").read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.+!]+", pin) for pin in pins)  # no path, no address
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): number for name, number in (pin.split("==") for pin in pins)}
    below = {"3.10": False, "3.11": False, "3.12": version == "3.11"}
    for line in (ROOT / "requirements.txt").read_text().splitlines() + (
            ROOT / "requirements-cluster.txt").read_text().splitlines():
        if match := re.match(r"([\w.-]+)==([\w.]+)(?: ; python_version (<|>=|==) \"([\d.]+)\")?$", line):
            name, number, sign, limit = match.groups()
            holds = not sign or {"<": below.get(limit), ">=": not below.get(limit), "==": limit == version}[sign]
            assert not holds or pinned[re.sub(r"[-_.]+", "-", name).lower()] == number, line
        else:
            assert not line or line.startswith("#")


def test_weights_are_rounded_to_the_nearest_of_so_many_digits():
    values = np.random.default_rng(2).normal(size=1000).astype(np.float32)
    near = release.rounded(values)
    assert np.abs(near / values - 1).max() <= 2.0 ** -(release.BITS + 1) * 1.001
    assert not (near.view(np.uint32) & ((1 << (23 - release.BITS)) - 1)).any()
    np.testing.assert_array_equal(release.rounded(near), near)
    np.testing.assert_array_equal(release.rounded(np.float32([0, 1, -2])), [0, 1, -2])


def test_a_thinned_set_has_every_label_and_the_templates():
    labels = label_grid()
    rows = release.thinned(labels, labels[[5, 20_000]])
    assert {5, 20_000} <= set(rows) and len(rows) < 150 and (np.diff(rows) > 0).all()
    for thin, whole in zip(labels[rows].T, labels.T):
        np.testing.assert_array_equal(np.unique(thin), np.unique(whole))


def test_what_has_no_licence_is_not_packed(monkeypatch, tmp_path):
    origin = {word: SimpleNamespace(kind=schemas.Kind(word)) for word in ("published", "simulated")}
    for trained_on, fine_tuned_on in (("published", "published"), ("simulated", "published")):
        ensemble = SimpleNamespace(trained_on=origin[trained_on], fine_tuned_on=origin[fine_tuned_on])
        monkeypatch.setattr(release.predictor, "select", lambda *_, ensemble=ensemble: ensemble)
        with pytest.raises(BadInput, match="the published arrays carry no licence"):
            release.pack("run", tmp_path, tmp_path, tmp_path, "1.0.0")
    assert not list(tmp_path.iterdir())
