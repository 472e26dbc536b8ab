"""Pushing: verified first, private unless the user insists, and never without a word about the sources' terms."""

from __future__ import annotations

import inspect

import pytest
from small_set import small_set

from data_prep import hub as hub_models
from data_prep import push as pushing
from data_prep.push import push, terms_warning
from data_prep.sources.registry import SOURCES
from mteb_vehicle_search.errors import BuildError, SourceError
from mteb_vehicle_search.eval_set import EvalSet


@pytest.fixture
def uploads(monkeypatch):
    """What would be sent to the hub."""
    sent = []

    def upload(folder, repository, private):
        sent.append((folder, repository, private))
        return f"https://huggingface.co/datasets/{repository}"

    monkeypatch.setattr(hub_models, "upload_folder", upload)
    monkeypatch.setenv("HF_TOKEN", "a token")
    return sent


def test_a_login_is_asked_for_before_anything_else(tmp_path, uploads, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(pushing, "verify", lambda folder: pytest.fail("read the set before the login was known"))
    with pytest.raises(SourceError) as caught:
        push(tmp_path / "set", "me/cars")
    assert str(caught.value) == (
        "me/cars cannot be written: there is no login to the hub on this computer\n"
        "Run: hf auth login (with a token that may write)"
    )
    assert uploads == []


def test_a_sound_set_is_sent_as_a_private_one(tmp_path, uploads):
    small_set(tmp_path / "set", captioned=1, distractors=1)
    assert push(tmp_path / "set", "me/cars") == "https://huggingface.co/datasets/me/cars"
    assert uploads == [(tmp_path / "set", "me/cars", True)]


@pytest.mark.parametrize("public", [True, False])
def test_it_is_public_only_if_the_user_says_so(tmp_path, uploads, public):
    small_set(tmp_path / "set", captioned=1, distractors=1)
    push(tmp_path / "set", "me/cars", public)
    assert uploads == [(tmp_path / "set", "me/cars", not public)]
    assert inspect.signature(push).parameters["public"].default is False


def test_a_damaged_set_is_not_sent(tmp_path, uploads):
    folder = tmp_path / "set"
    small_set(folder, captioned=1, distractors=1)
    (folder / "README.md").write_text("other words", encoding="utf-8")
    with pytest.raises(BuildError) as caught:
        push(folder, "me/cars")
    assert caught.value.message == f"{folder} does not verify, so it is not pushed."
    assert caught.value.hint == f"See 'vehicle-search-data verify {folder}'."
    assert uploads == []


def of_sources(folder, *names: str) -> EvalSet:
    return small_set(folder, sources={name: SOURCES[name].for_manifest() for name in names})


FLICKR, IMAGENET = "Flickr30k: non-commercial research and education only", "copies must not be published"


@pytest.mark.parametrize(
    ("sources", "said", "unsaid"),
    [
        (("flickr30k",), [FLICKR], [IMAGENET]),
        (("drawn", "imagenet"), [IMAGENET], [FLICKR]),
        (("flickr30k", "imagenet"), [FLICKR, IMAGENET], []),
        ((), ["the set does not say"], [FLICKR, IMAGENET]),
    ],
)
@pytest.mark.parametrize("public", [True, False])
def test_the_terms_of_the_sources_are_said(tmp_path, sources, said, unsaid, public):
    warning = terms_warning(of_sources(tmp_path / "set", *sources), public)
    assert all(text in warning for text in said)
    assert not any(text in warning for text in unsaid)
    assert ("would publish them to everybody" in warning) is public
    assert ("will be private" in warning) is not public
    first, *terms, _ = warning.splitlines()
    assert first == "The images come under terms that go with them:"
    assert len(terms) == len(said)
    assert all(line.startswith("  - ") for line in terms)


@pytest.mark.parametrize("public", [True, False])
def test_drawn_images_come_under_no_terms(tmp_path, public):
    assert terms_warning(of_sources(tmp_path / "set", "drawn"), public) == ""
