"""Models that cannot search, and encoders that mteb cannot call: one message before anything is loaded or encoded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mteb
import pytest
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from small_set import small_set
from toy_encoder import ToyEncoder

import mteb_vehicle_search
from mteb_vehicle_search.errors import EncodeError, UsageError
from mteb_vehicle_search.search.suited import EXPECTED, SIGNATURE, around_check, obstacle, require_suited

mteb_vehicle_search.register()


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    return small_set(tmp_path / "set")


def meta(**facts: Any) -> ModelMeta:
    return ModelMeta.create_empty({"name": "toy/encoder", "modalities": ["image", "text"], **facts})


def evaluate(model: Any) -> Any:
    return mteb.evaluate(model, mteb.get_task("VehicleImageSearch"), cache=None, num_proc=0)


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({}, ""),
        ({"modalities": ["audio", "image", "text"]}, ""),
        ({"similarity_fn_name": ScoringFunction.COSINE}, ""),
        ({"similarity_fn_name": ScoringFunction.DOT_PRODUCT}, ""),
        ({"model_type": ["dense", "sparse"]}, ""),
        ({"similarity_fn_name": ScoringFunction.MAX_SIM}, "gives several vectors for each input"),
        ({"model_type": ["late-interaction"]}, "gives several vectors for each input"),
        ({"model_type": ["cross-encoder"]}, "judges pairs of a text and an image"),
        ({"similarity_fn_name": ScoringFunction.EUCLIDEAN}, "compares vectors by 'euclidean'"),
        ({"modalities": ["text"]}, "takes no image: the modalities of its ModelMeta are text"),
        ({"modalities": ["audio"]}, "takes no image and no text: the modalities of its ModelMeta are audio"),
    ],
)
def test_metadata_tells_what_cannot_search(facts: dict[str, Any], why: str) -> None:
    said = obstacle(meta(**facts))
    assert said.startswith(why)
    assert bool(said) is bool(why)
    if why:
        with pytest.raises(UsageError, match=r"^toy/encoder cannot run SomeTask: it ") as refused:
            require_suited(meta(**facts), "SomeTask")
        assert why in refused.value.message


def test_metadata_that_says_nothing_is_no_obstacle() -> None:
    assert obstacle(SimpleNamespace()) == ""
    require_suited(None, "SomeTask")


def test_every_multi_vector_model_of_mteb_is_told_from_the_others() -> None:
    every = [one for one in mteb.get_model_metas() if {"image", "text"} <= set(one.modalities or ())]
    several = {one.name for one in every if "several vectors" in obstacle(one)}
    assert several == {one.name for one in every if one.similarity_fn_name == ScoringFunction.MAX_SIM}
    assert len(several) > 40
    for name in ("vehicle-search/tiny-clip", "openai/clip-vit-base-patch32", "mteb/baseline-random-encoder"):
        assert obstacle(mteb.get_model_meta(name)) == "", name


def test_mteb_loads_no_model_that_cannot_search(data) -> None:
    """By its metadata, by which mteb would load it."""
    loaded: list[object] = []
    given = meta(loader=lambda *_, **__: loaded.append(1), similarity_fn_name=ScoringFunction.MAX_SIM)
    with pytest.raises(UsageError, match="toy/encoder cannot run VehicleImageSearch"):
        evaluate(given)
    assert loaded == []


class Positional(ToyEncoder):
    def encode(self, sentences, batch_size=32):  # type: ignore[override]
        raise AssertionError("it was called")


class Nothing(ToyEncoder):
    def encode(self):  # type: ignore[override]
        raise AssertionError("it was called")


class TextOnly(ToyEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.mteb_model_meta = ModelMeta.create_empty({"name": "toy/text"})


class Nameless(ToyEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.mteb_model_meta = ModelMeta.create_empty()


class Bare:
    def encode(self, inputs: Any, **kwargs: Any) -> Any:
        raise AssertionError("it was called")


class Unsaid(AbsEncoder):
    def encode(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        raise AssertionError("it was called")


class Half(Bare):
    mteb_model_meta = meta()


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        (
            Positional(),
            EncodeError,
            r"Positional.encode\(sentences, batch_size=32\) cannot be called as mteb calls it: ",
        ),
        (Nothing(), EncodeError, r"Nothing.encode\(\) cannot be called as mteb calls it: too many positional"),
        (TextOnly(), UsageError, r"TextOnly \(toy/text\) cannot run VehicleImageSearch: it takes no image"),
        (Nameless(), UsageError, r"Nameless cannot run VehicleImageSearch: it takes no image"),
        (Bare(), EncodeError, "The model has no mteb_model_meta"),
        (Unsaid(), EncodeError, "Unsaid is not an encoder; .* it has no mteb_model_meta"),
        (Half(), EncodeError, "Half is not an encoder; .* it has no similarity, similarity_pairwise"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_an_encoder_that_mteb_cannot_use_is_told_what_mteb_wants(data, model: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=f"^{said}") as refused:
        evaluate(model)
    assert "\n" not in refused.value.message
    assert SIGNATURE in refused.value.hint or "modalities=['image', 'text']" in refused.value.hint
    assert getattr(model, "images_seen", 0) == 0


@pytest.mark.parametrize(
    ("answer", "what"), [(lambda v: {"image": v}, "a dict"), (iter, "a list_iterator"), (lambda v: v[0], "vectors of")]
)
def test_what_is_no_array_is_told_with_the_class_and_what_mteb_wants(data, answer: Any, what: str) -> None:
    class Wrong(ToyEncoder):
        spoil = staticmethod(lambda ids, vectors: answer([*vectors]) if what != "vectors of" else vectors[0])

    with pytest.raises(EncodeError, match=f"^toy/encoder returned {what}") as refused:
        evaluate(Wrong())
    assert refused.value.hint == f"Wrong.encode is to be mended: {EXPECTED}"


def test_an_encoder_as_it_should_be_is_let_through(data) -> None:
    require_suited(ToyEncoder().mteb_model_meta, "SomeTask", ToyEncoder())
    assert evaluate(ToyEncoder()).task_results[0].task_name == "VehicleImageSearch"


def test_a_signature_that_cannot_be_looked_into_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Strange(ToyEncoder):
        encode = SimpleNamespace()  # type: ignore[assignment]

    require_suited(meta(), "SomeTask", Strange())


def test_tasks_of_others_are_not_our_business() -> None:
    asked: list[tuple] = []
    check = around_check(lambda *given: asked.append(given))
    late = meta(model_type=["late-interaction"])
    other = SimpleNamespace(metadata=SimpleNamespace(name="Other"))
    for tasks in (other, [other], SimpleNamespace(tasks=[other])):
        check(late, tasks)
    assert len(asked) == 3
    ours = mteb.get_task("VehicleImageSearchMini")
    for tasks in (ours, [other, ours], SimpleNamespace(tasks=[ours]), iter([ours])):
        with pytest.raises(UsageError, match="cannot run VehicleImageSearchMini"):
            check(late, tasks)
    assert len(asked) == 3


def test_metadata_without_a_loader_is_mtebs_own_affair(data) -> None:
    with pytest.raises(NotImplementedError):
        evaluate(meta(name="toy/unloadable"))
