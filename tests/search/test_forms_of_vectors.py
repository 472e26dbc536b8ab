"""What a foreign encoder may return: all that is numbers is searched, the rest is told in a sentence at once."""

import numpy as np
import pytest
import torch
from planted import BATCH, Planted, ask, index, whole_numbers
from small_set import small_set

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.search import vectors as embeddings
from mteb_vehicle_search.search.vectors import checked


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    return small_set(tmp_path_factory.mktemp("small") / "set")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", 10)


@pytest.fixture
def vectors(eval_set):
    return whole_numbers(eval_set)


def searched(vectors, eval_set, form, **meta):
    model = Planted(vectors, **meta)
    model.answer = lambda ids: form(Planted.answer(model, ids))
    return ask(index(model, eval_set))


@pytest.mark.parametrize(
    "form",
    [
        lambda v: [torch.from_numpy(row).bfloat16() for row in v],
        lambda v: tuple(torch.from_numpy(row).half().requires_grad_() for row in v),
        lambda v: [*v],
        lambda v: [row.tolist() for row in v],
        lambda v: torch.from_numpy(v).to_sparse(),
        lambda v: torch.from_numpy(v).to_sparse_csr(),
        lambda v: [torch.from_numpy(row).to_sparse() for row in v],
        lambda v: torch.from_numpy(v).bfloat16(),
        lambda v: v.astype(np.int8),
        lambda v: v.astype(int).tolist(),
        lambda v: torch.from_numpy(v).long(),
        lambda v: v.astype(np.float16),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_all_that_is_numbers_is_searched(eval_set, vectors, form):
    assert searched(vectors, eval_set, form) == searched(vectors, eval_set, lambda v: v, name="toy/plain")


@pytest.mark.parametrize(
    ("form", "what"),
    [
        (lambda v: [*v[:-1], v[-1][:-1]], "a list that is no array of numbers"),
        (lambda v: [*v.tolist()[:-1], [1.0]], "a list that is no array of numbers"),
        (lambda v: {"image": v}, "a dict that is no array of numbers"),
        (lambda v: (row for row in v), "a generator that is no array of numbers"),
        (lambda v: v.astype(object), "a ndarray that is no array of numbers"),
        (lambda v: v.astype(str), "a ndarray that is no array of numbers"),
        (lambda v: v.astype(complex), "a ndarray that is no array of numbers"),
        (lambda v: None, "a NoneType that is no array of numbers"),
        (lambda v: "vectors", "a str that is no array of numbers"),
        (lambda v: v > 0, "a ndarray that is no array of numbers"),
        (lambda v: [{"a": 1}] * len(v), "a list that is no array of numbers"),
        (lambda v: v[0], r"vectors of shape \(6,\)"),
        (lambda v: v[:, None], r"vectors of shape \(5, 1, 6\)"),
        (lambda v: torch.from_numpy(v)[0], r"vectors of shape \(6,\)"),
        (lambda v: torch.nested.nested_tensor([torch.from_numpy(row) for row in v]), "a Tensor that is no array"),
        (lambda v: [], "vectors|0 vectors for 5"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore::DeprecationWarning")
def test_the_rest_is_told_with_the_first_batch(eval_set, vectors, form, what):
    model = Planted(vectors)
    model.answer = lambda ids: form(Planted.answer(model, ids))
    with pytest.raises(EncodeError, match=f"toy/encoder returned {what}") as refused:
        index(model, eval_set)
    assert eval_set.corpus_ids()[0] in refused.value.message
    assert "\n" not in refused.value.message
    assert model.asked() == [eval_set.corpus_ids()[:BATCH]]


def test_queries_are_told_alike(eval_set, vectors):
    model = Planted(vectors)
    found = index(model, eval_set)
    model.answer = lambda ids: iter(ids)
    with pytest.raises(EncodeError, match=r"toy/encoder returned .* for query 0000_caption_00 and those after it"):
        ask(found)


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e30, 1e38])
def test_no_finite_length_is_too_long(scale):
    rng = np.random.default_rng(3)
    plain = rng.uniform(1, 3, (4, 512)) * rng.choice([-1, 1], (4, 512))
    vectors = (plain * scale).astype(np.float32)
    assert np.isfinite(vectors).all()
    found = checked(vectors, list("abcd"), "image", "org/model", None, normalise=True, encoder="Encoder")
    exact = vectors.astype(np.float64)
    np.testing.assert_allclose(found, exact / np.linalg.norm(exact, axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
