"""What is computed does not depend on what the process has set, and all is as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mteb
import numpy as np
import pytest
import torch
from planted import Planted, ask, images_of, queries_of
from small_set import small_set

import mteb_vehicle_search
from mteb_vehicle_search.exactness import _LEAVES, exact_arithmetic
from mteb_vehicle_search.search.corpus import image_loader
from mteb_vehicle_search.search.exact_search import ExactSearch
from mteb_vehicle_search.search.ranking import rank_exactly

mteb_vehicle_search.register()


@contextmanager
def settings_of_somebody(device: str | None = "meta") -> Iterator[None]:
    """A process that has set everything otherwise."""
    kept = [leave.fp32_precision for leave in _LEAVES]
    try:
        torch.set_float32_matmul_precision("medium")
        torch.set_default_dtype(torch.float64)
        torch.set_default_device(device)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        for leave, value in zip(_LEAVES, kept):
            leave.fp32_precision = value


def state() -> list[Any]:
    return [
        *(leave.fp32_precision for leave in _LEAVES),
        torch.backends.mha.get_fastpath_enabled(),
        torch.get_default_dtype(),
        torch.empty(0).device,
        torch.is_autocast_enabled("cpu"),
    ]


def test_everything_is_strict_inside_and_as_before_afterwards() -> None:
    with settings_of_somebody():
        before = state()
        with exact_arithmetic():
            inside = state()
        assert state() == before
        with pytest.raises(ZeroDivisionError), exact_arithmetic():
            raise ZeroDivisionError
        assert state() == before
    assert inside == [*["ieee"] * len(_LEAVES), False, torch.float32, torch.device("cpu"), False]
    assert before[-4:] == [True, torch.float64, torch.device("meta"), True]


def test_it_may_overlap_in_any_way() -> None:
    before, one, other = state(), exact_arithmetic(), exact_arithmetic()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    assert state()[: len(_LEAVES) + 1] == [*["ieee"] * len(_LEAVES), False]
    other.__exit__(None, None, None)
    assert state() == before


def test_the_search_is_bit_identical(tmp_path: Any) -> None:
    eval_set = small_set(tmp_path / "set")
    rng = np.random.default_rng(0)
    ids = [*eval_set.corpus_ids(), *(query.id for query in eval_set.queries())]
    vectors = {name: rng.standard_normal(300).astype(np.float32) for name in ids}

    def run(name: str) -> Any:
        with ExactSearch(Planted(vectors, name=name), eval_set) as search:
            where = {"task_metadata": mteb.get_task("VehicleImageSearchMini").metadata, "hf_split": "", "hf_subset": ""}
            options = {"batch_size": 5, "show_progress_bar": False}
            search.index(images_of(eval_set), **where, encode_kwargs=options, num_proc=0)
            ask(search, queries_of(eval_set), show_progress_bar=False)
            return search.found()

    clean = run("toy/clean")
    # Without another device: torch's own loader, which a foreign encoder is given, does not work on this one.
    with settings_of_somebody(device=None):
        other = run("toy/other")
    for name in ("top", "top_scores", "above", "tied", "scores"):
        np.testing.assert_array_equal(getattr(other.ranking, name), getattr(clean.ranking, name))


def test_a_plain_product_would_not_be_that() -> None:
    """So that the test above tests something: this is what the settings do to ranks."""
    rng = np.random.default_rng(1)
    queries, images = (torch.from_numpy(rng.standard_normal((200, 300)).astype(np.float32)) for _ in range(2))
    pairs = [(row, row) for row in range(200)]

    def chunks() -> Any:
        yield range(200), images.numpy()

    with exact_arithmetic():
        right = rank_exactly(queries, chunks, pairs, ["a"] * 200, k=5)
        assert rank_exactly(queries, chunks, pairs, ["a"] * 200, k=5).ranks.tolist() == right.ranks.tolist()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (queries @ images.T).dtype == torch.bfloat16


def test_our_encoders_vectors_are_bit_identical(tmp_path: Any) -> None:
    eval_set = small_set(tmp_path / "set", captioned=3, distractors=5)
    model: Any = mteb.get_model("vehicle-search/tiny-clip", device="cpu")
    clean = model.encode(image_loader(images_of(eval_set), 4, 0), batch_size=4)
    with settings_of_somebody():
        other = model.encode(image_loader(images_of(eval_set), 4, 0), batch_size=4)
    assert torch.equal(clean, other)


def test_our_encoders_vectors_do_not_depend_on_the_number_of_processors(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, found = images_of(small_set(tmp_path / "set", captioned=3, distractors=20)), []
    for count in ("1", "2", "3", "1"):
        monkeypatch.setenv("VEHICLE_SEARCH_CORES", count)
        model: Any = mteb.get_model("vehicle-search/tiny-clip", device="cpu")
        vectors = model.encode(image_loader(images, 4, 0), batch_size=4)
        chunks = model.encode_chunks(images, [range(12), range(12, 23)], batch_size=4)
        assert torch.equal(torch.cat([give() for give in chunks]), vectors)
        found.append(vectors)
    assert all(torch.equal(vectors, found[0]) for vectors in found)
