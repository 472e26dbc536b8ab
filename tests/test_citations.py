"""What a score is cited with."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

from data_prep.sources.registry import SOURCES
from mteb_vehicle_search import run_record
from mteb_vehicle_search.citations import bibtex

CONTENT_ID = "c0ffee" * 10 + "abcd"
ALWAYS = ["merrick2024vehicle", "mteb_vehicle_search", "muennighoff2023mteb"]


def entries(text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Return by key the type and fields of each entry; a text that is no BibTeX fails."""
    found = {}
    for kind, key, body in re.findall(r"@(\w+)\{(\w+),\n(.*?)\n\}", text, flags=re.DOTALL):
        fields = re.findall(r"^  (\w+) = \{(.*?)\},?$", body, flags=re.DOTALL | re.MULTILINE)
        found[key] = (kind, dict(fields))
    assert text.count("@") == len(found)
    assert text.count("{") == text.count("}")
    return found


BIBTEX = [source.bibtex for source in SOURCES.values()]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["flickr30k", "imagenet"], [*ALWAYS, "young2014image", "russakovsky2015imagenet"]),
        (["flickr30k", "drawn"], [*ALWAYS, "young2014image"]),
        (["drawn"], ALWAYS),
        ([], ALWAYS),
    ],
)
def test_the_sources_of_a_set_are_cited(names, keys):
    cited = [SOURCES[name].bibtex for name in names]
    assert list(entries(bibtex({"task": "T", "content_id": CONTENT_ID}, cited))) == keys


def test_the_score_can_be_found_again_by_version_task_and_content_id():
    kind, fields = entries(bibtex({"task": "T", "content_id": CONTENT_ID}))["mteb_vehicle_search"]
    assert kind == "software"
    assert fields["version"] == importlib.metadata.version("mteb-vehicle-search")
    assert fields["note"] == f"Task T, content id {CONTENT_ID}"


def test_a_checkout_that_is_not_installed_says_so(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(run_record, "version", version)
    fields = entries(bibtex({"task": "T", "content_id": CONTENT_ID}))["mteb_vehicle_search"][1]
    assert fields["version"] == "not installed"


@pytest.mark.parametrize(
    ("key", "year", "author"),
    [
        ("merrick2024vehicle", "2024", "Merrick, Luke"),
        ("muennighoff2023mteb", "2023", "Muennighoff, Niklas"),
        ("young2014image", "2014", "Young, Peter"),
        ("russakovsky2015imagenet", "2015", "Russakovsky, Olga"),
    ],
)
def test_works_are_whole(key, year, author):
    _, fields = entries(bibtex({"task": "T", "content_id": CONTENT_ID}, BIBTEX))[key]
    assert fields["year"] == year
    assert fields["author"].startswith(author)
    assert fields["title"]
