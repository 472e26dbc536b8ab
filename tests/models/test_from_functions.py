"""A model of two functions, and what is said when one of them returns something else than vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
import torch
from PIL import Image
from small_set import small_set

from mteb_vehicle_search import from_functions
from mteb_vehicle_search.errors import EncodeError


def encode_images(images: list[Any]) -> np.ndarray:
    assert {image.mode for image in images} == {"RGB"}
    return np.array([[*np.asarray(image, dtype=np.float64).mean(axis=(0, 1)), 1.0] for image in images])


def encode_texts(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), text.count("a"), text.count("R"), 1.0] for text in texts])


def model(image: Any = encode_images, text: Any = encode_texts, **given: Any) -> Any:
    return from_functions(image=image, text=text, **{"name": "team/model", "revision": "r1", **given})


def batches(*sizes: int) -> list[dict[str, Any]]:
    return [{"text": [f"a text {number}" for number in range(size)]} for size in sizes]


def test_two_functions_are_evaluated_like_any_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(small_set(tmp_path / "set").folder))
    task = mteb.get_task("VehicleImageSearch")
    result = mteb.evaluate(model(), task, cache=mteb.ResultCache(tmp_path / "results"), show_progress_bar=False)
    assert (result.model_name, result.model_revision) == ("team/model", "r1")
    assert result.task_results[0].scores["test"][0]["ndcg_at_10"] >= 0
    assert len(list((tmp_path / "results").rglob("team__model/r1/VehicleImageSearch.json"))) == 1


def test_vectors_come_in_the_order_of_all_batches() -> None:
    found = model().encode(batches(3, 1))
    assert found.dtype == np.float32
    assert found.tolist() == encode_texts([*batches(3)[0]["text"], "a text 0"]).tolist()


@pytest.mark.parametrize(
    "form",
    [
        lambda array: torch.tensor(array),
        lambda array: torch.tensor(array, dtype=torch.bfloat16, requires_grad=True),
        lambda array: list(array),
        lambda array: array.tolist(),
        lambda array: tuple(torch.tensor(row) for row in array),
        lambda array: array.astype(np.float16),
        lambda array: array.astype(np.int64),
        lambda array: torch.tensor(array).to_sparse(),
    ],
)
def test_every_form_of_vectors_is_taken(form: Any) -> None:
    found = model(text=lambda texts: form(encode_texts(texts))).encode(batches(3))
    assert found.tolist() == encode_texts(batches(3)[0]["text"]).tolist()


def bad(returned: Any) -> Any:
    def my_texts(texts: list[str]) -> Any:
        return returned(texts) if callable(returned) else returned

    return my_texts


@pytest.mark.parametrize(
    ("returned", "what"),
    [
        ({"embeddings": 1}, "a dict that is no array of numbers"),
        (None, "nothing"),
        ("text", "a str that is no array of numbers"),
        ((number for number in range(3)), "a generator that is no array of numbers"),
        ([[1.0, 2.0], [1.0], [1.0]], "a list that is no array of numbers (all input arrays must have the same shape)"),
        ([{"a": 1}] * 3, "a list that is no array of numbers (its values are object)"),
        (np.array([object()] * 3), "a ndarray that is no array of numbers (its values are object)"),
        (np.array(["a", "b", "c"]), "a ndarray that is no array of numbers (its values are <U1)"),
        (np.zeros((3, 2), dtype=complex), "a ndarray that is no array of numbers (its values are complex128)"),
        (np.zeros((3, 2), dtype=bool), "a ndarray that is no array of numbers (its values are bool)"),
        (np.zeros((2, 4)), "2 vectors"),
        (np.zeros((4, 4)), "4 vectors"),
        (np.zeros(3), "an array [3]"),
        (np.zeros((3, 1, 4)), "an array [3, 1, 4]"),
        (1.0, "an array []"),
        ([], "0 vectors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "it",  # No address of an object.
)
def test_anything_else_is_one_sentence_with_the_functions_name(returned: Any, what: str) -> None:
    with pytest.raises(EncodeError) as caught:
        model(text=bad(returned)).encode(batches(3))
    said = str(caught.value)
    assert said.startswith("The text function bad.my_texts returned ")
    assert what in said
    assert said.endswith(" for 3 texts; it must return one vector for each, as an array [3, dimension].")
    assert "\n" not in said


def test_a_length_that_changes_is_told() -> None:
    changing = model(text=lambda texts: np.ones((len(texts), len(texts))))
    with pytest.raises(EncodeError, match="team/model gave vectors of length 3 first, and of length 1 later"):
        changing.encode(batches(3, 1))


def test_nothing_and_strange_inputs_are_errors() -> None:
    with pytest.raises(EncodeError, match="nothing to encode"):
        model().encode([])
    with pytest.raises(EncodeError, match=r"neither 'image' nor 'text', only \['audio'\]"):
        model().encode([{"audio": []}])


def test_what_a_function_raises_is_its_own() -> None:
    def failing(texts: list[str]) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        model(text=failing).encode(batches(1))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image": 3}, r"from_functions\(image=…\) wants a function, not int"),
        ({"text": None}, r"from_functions\(text=…\) wants a function, not NoneType"),
        ({"name": ""}, r"from_functions\(name=…\) wants a name"),
        ({"name": 3}, r"from_functions\(name=…\) wants a name"),
    ],
    ids=str,
)
def test_what_is_no_function_and_no_name_is_refused(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        model(**given)


def test_a_name_without_an_organisation_is_local() -> None:
    assert model(name="mine").mteb_model_meta.name == "local/mine"
    assert set(model().mteb_model_meta.modalities) == {"image", "text"}


def test_images_of_other_channels_are_given_in_colours() -> None:
    grey = Image.new("L", (4, 3), 7)
    assert model().encode([{"image": [grey, grey.convert("CMYK")]}]).tolist() == [[7, 7, 7, 1]] * 2


def test_without_a_revision_the_vectors_tell_models_apart() -> None:
    calls: list[int] = []

    def counted(images: list[Any]) -> np.ndarray:
        calls.append(len(images))
        return encode_images(images)

    first = model(image=counted, revision=None).mteb_model_meta.revision
    assert len(first) == 40
    assert calls == [2]
    assert model(revision=None).mteb_model_meta.revision == first
    others = [
        model(image=lambda images: encode_images(images) + 1e-4, revision=None),
        model(text=lambda texts: encode_texts([text.lower() for text in texts]), revision=None),
        model(text=lambda texts: encode_texts([text[:300] for text in texts]), revision=None),
        model(image=lambda images: encode_images([image.resize((64, 64)) for image in images]), revision=None),
    ]
    assert len({first, *(other.mteb_model_meta.revision for other in others)}) == 5
    # Asked for at once, so that a function with a wrong signature is told before anything is encoded.
    with pytest.raises(EncodeError, match="returned nothing for 2 images"):
        model(image=lambda images: None, revision=None)


def test_the_record_says_which_functions_they_were() -> None:
    assert model().describe() == {"image": "encode_images", "text": "encode_texts"}
    seen = model(revision=None)
    assert seen.fingerprint() == model(revision=None).fingerprint()
    assert seen.fingerprint() != model(revision=None, name="org/other").fingerprint()
    # The same source gives other vectors with other weights: what is stored is looked at before it is trusted.
    assert model(revision="r2").fingerprint() is None
    assert model(text=np.vectorize(len)).describe()["text"] == "vectorize"
