"""`vehicle-search models`: what can be run here, from metadata, the hub's cache and stored runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mteb
import pytest
from mteb.models import ModelMeta
from small_set import small_set
from stand_ins import put_into_hub_cache
from terminals import as_terminal, without_colours
from toy_encoder import ToyEncoder

import mteb_vehicle_search
from mteb_vehicle_search import cli
from mteb_vehicle_search.models import model_metas, snapshot
from mteb_vehicle_search.models.located import load_located
from mteb_vehicle_search.plugin import listing, registry

mteb_vehicle_search.register()
CLIP = "openai/clip-vit-base-patch32"
LATE = "vidore/colqwen2.5-v0.2"
OURS = sorted((str(meta.name) for meta in model_metas()), key=str.lower)


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No results in the working directory, an empty cache, and no models but mteb's and ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("COLUMNS", "120")


def cache(tmp_path: Path, name: str, revision: str, *files: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in files:
        (folder / file).write_bytes(b"content")
    put_into_hub_cache(tmp_path, name, revision, folder)


def models(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, Any]]:
    """The models of the JSON output, by name, strictly read."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert cli.main(["models", "--json", *words]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert document["schema_version"] == 1
    return {one["name"]: one for one in document["models"]}


def test_ours_are_listed_without_being_asked_for_and_all_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(models(capsys)) == OURS
    every = models(capsys, "--all")
    assert list(every)[: len(OURS)] == OURS
    assert set(every) == {m.name for m in mteb.get_model_metas() if {"image", "text"} <= set(m.modalities or ())}
    assert {name for name, one in every.items() if one["source"] == "mteb-vehicle-search"} == set(OURS)
    assert {one["source"] for one in every.values()} == {"mteb-vehicle-search", "mteb"}


def test_what_mteb_says_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    every = models(capsys, "--all")
    meta = mteb.get_model_meta(CLIP)
    assert every[CLIP] == {
        "name": CLIP,
        "source": "mteb",
        "revision": meta.revision,
        "n_parameters": meta.n_parameters,
        "embed_dim": meta.embed_dim,
        "max_tokens": 77,
        "license": meta.license,
        "flickr30k_in_training": None if meta.training_datasets is None else False,
        "in_hub_cache": False,
        "other_revision_in_hub_cache": False,
        "why_not": None,
        "needs": None,
        "run_as": CLIP,
        "runs": [],
    }
    # The largest that it offers, no infinite context, no cache for what ships or is asked over the net.
    assert every["jinaai/jina-clip-v2"]["embed_dim"] == 1024
    assert every["mteb/baseline-random-encoder"]["max_tokens"] is None
    assert every["vehicle-search/tiny-clip"]["in_hub_cache"] is None
    assert every["mongodb/voyage-multimodal-3"]["in_hub_cache"] is None
    assert "an account of its provider" in every["mongodb/voyage-multimodal-3"]["needs"]


def test_multi_vector_models_are_listed_as_not_runnable(capsys: pytest.CaptureFixture[str]) -> None:
    every = models(capsys, "--all")
    assert "several vectors" in every[LATE]["why_not"]
    assert sum("several vectors" in (one["why_not"] or "") for one in every.values()) > 40
    assert [name for name in OURS if every[name]["why_not"]] == []


@pytest.mark.parametrize(
    ("files", "revision", "found"),
    [
        (("model.safetensors", "config.json"), None, (True, False)),
        (("pytorch_model.bin",), None, (True, False)),
        (("config.json",), None, (False, False)),
        (("model.safetensors",), "0" * 40, (False, True)),
    ],
)
def test_the_cache_is_looked_into_for_weights_of_the_revision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, ...], revision: str | None, found: tuple
) -> None:
    cache(tmp_path, CLIP, revision or str(mteb.get_model_meta(CLIP).revision), *files)
    every = models(capsys, "--all")
    assert (every[CLIP]["in_hub_cache"], every[CLIP]["other_revision_in_hub_cache"]) == found
    assert sum(bool(one["in_hub_cache"]) for one in every.values()) == found[0]
    # What is cached is at hand.
    assert (CLIP in models(capsys)) is any(found)


def test_a_cached_multi_vector_model_is_not_at_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache(tmp_path, LATE, str(mteb.get_model_meta(LATE).revision), "model.safetensors")
    assert list(models(capsys)) == OURS
    assert models(capsys, "--all")[LATE]["in_hub_cache"] is True


def test_no_cache_and_a_damaged_one_hold_nothing(tmp_path: Path) -> None:
    assert snapshot.cached_revisions() == {}
    (tmp_path / "hub").write_text("a file")
    assert snapshot.cached_revisions() == {}


def test_runs_are_listed_by_their_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    eval_set = small_set(tmp_path / "set")
    revision = str(mteb.get_model_meta(CLIP).revision)
    of_folder, of_hub = ToyEncoder("local/mine", "def"), ToyEncoder("them/theirs", "0" * 40)
    for model in (of_folder, of_hub):
        model.mteb_model_meta = model.mteb_model_meta.model_copy(update={"loader": load_located})
    for model in (ToyEncoder(CLIP, revision), ToyEncoder("me/my-model", "abc"), of_folder, of_hub):
        mteb.evaluate(model, mteb.get_task("VehicleImageSearch"), cache=mteb.ResultCache("results"), num_proc=0)
    capsys.readouterr()
    found = models(capsys)
    # One run, told by its record and by its result.
    run = {"task": "VehicleImageSearch", "content_id": eval_set.content_id}
    assert found[CLIP]["runs"] == [{**run, "revision": revision}]
    assert list(found) == [*OURS, CLIP, "local/mine", "me/my-model", "them/theirs"]
    assert found["me/my-model"]["source"] == "run records"
    assert found["me/my-model"]["runs"] == [{**run, "revision": "abc"}]
    assert found["me/my-model"]["embed_dim"] == 16
    assert found["me/my-model"]["in_hub_cache"] is None
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if "VehicleImageSearch" in line and "Run one" not in line] == [
        [CLIP, "VehicleImageSearch"],
        ["local/mine", "VehicleImageSearch"],
        ["me/my-model", "VehicleImageSearch"],
        ["them/theirs", "VehicleImageSearch"],
    ]
    # They do not stand among those that can be run by their name.
    at = lines.index(next(line for line in lines if line.startswith("known from runs only")))
    assert [[word.strip() for word in line.split("  ") if word.strip()] for line in lines[at + 1 : at + 4]] == [
        ["local/mine", "its path"],
        ["me/my-model", "–"],
        ["them/theirs", f"hf-hub:them/theirs@{'0' * 40}"],
    ]
    assert [sum(line.startswith(name) for line in lines) for name in (CLIP, "me/my-model")] == [2, 2]


def test_models_of_others_are_listed_whatever_they_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = sys.modules[registry.MODELS]
    known = dict(module.MODEL_REGISTRY)  # type: ignore[attr-defined]
    known["them/forgot"] = ModelMeta.create_empty(
        {"name": "them/forgot", "training_datasets": {"Flickr30kT2IRetrieval"}}
    )
    for one in (module, sys.modules["mteb.models.get_model_meta"]):
        monkeypatch.setattr(one, "MODEL_REGISTRY", known)
    monkeypatch.setitem(registry._source_of, "them/forgot", "package 'colours'")
    found = models(capsys)["them/forgot"]
    assert found["source"] == "package 'colours'"
    assert found["why_not"] == "takes no image: the modalities of its ModelMeta are text"
    assert found["flickr30k_in_training"] is True
    assert list(models(capsys)) == [*OURS, "them/forgot"]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    listing._are_missing.cache_clear()
    asked: list[tuple] = []
    monkeypatch.setattr(ModelMeta, "_missing_dependencies", staticmethod(lambda groups: asked.append(groups) or ["x"]))
    facts = {"name": "a/b", "extra_requirements_groups": ["open_clip_torch", "image"]}
    try:
        for _ in range(2):
            said = listing._needs(ModelMeta.create_empty(facts))
            assert said == "pip install 'mteb[open_clip_torch,image]'"
    finally:
        listing._are_missing.cache_clear()
    assert asked == [("open_clip_torch", "image")]
    assert listing._needs(ModelMeta.create_empty({"name": "a/b"})) is None


@pytest.mark.parametrize(
    ("given", "whole"),
    [(3, 3), (3.0, 3), (float("inf"), None), (float("nan"), None), (None, None), (True, None), ("3", None)],
)
def test_numbers_are_whole_or_unknown(given: Any, whole: int | None) -> None:
    assert listing._whole(given) == whole


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    as_terminal(monkeypatch, width)
    for words in ([], ["--all"]):
        assert cli.main(["models", *words]) == 0
        said = "\n".join(without_colours(capsys.readouterr().out))
        assert max(map(len, said.splitlines())) <= width
    for word in (*OURS, CLIP, LATE, "parameters", "dimension", "context", "license", "Flickr30k", "cached"):
        assert word in said
    assert "ships" in said
    assert "Cannot be run here, as it gives several vectors" in said.replace("\n", " ")
    heads = [line for line in said.splitlines() if line.startswith("model ")]
    assert len(heads) == (1 if width == 120 else 3)


def test_the_table_of_what_is_at_hand_says_how_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    every = len(models(capsys, "--all"))
    assert cli.main(["models"]) == 0
    said = capsys.readouterr().out
    assert f"\n{every - len(OURS)} more of mteb's image-text models: vehicle-search models --all\n" in said
    assert said.endswith("\nRun one: vehicle-search run -t VehicleImageSearchMini -m MODEL\n")


def test_cells_of_the_table() -> None:
    columns = listing._columns()

    def row(**facts: Any) -> dict[str, str]:
        return {name: text(listing.Listed("a/b", "mteb", **facts)) for name, text in columns.items()}

    dashes = dict.fromkeys(("parameters", "dimension", "context", "license", "cached"), "–")
    assert row() == {"model": "a/b", **dashes, "Flickr30k": "unknown"}
    full = MappingProxyType(
        {"n_parameters": 986_109_441, "embed_dim": 1024, "max_tokens": 32768, "license": "https://terms.example/x"}
    )
    assert row(**full, flickr30k_in_training=True, in_hub_cache=True) == {
        "model": "a/b",
        "parameters": "986 M",
        "dimension": "1024",
        "context": "32,768",
        "license": "own terms",
        "Flickr30k": "yes",
        "cached": "yes",
    }
    assert row(in_hub_cache=False)["cached"] == "no"
    assert row(in_hub_cache=False, other_revision_in_hub_cache=True)["cached"] == "other"
