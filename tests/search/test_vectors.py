"""Vectors that cannot be searched are refused by id; the others come back float32, as long as they should be."""

from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mteb.models.model_meta import ScoringFunction

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.search.vectors import checked, compares_by_cosine

IDS = ["img/a", "img/b", "img/c", "img/d"]


def model(**meta):
    return SimpleNamespace(mteb_model_meta=SimpleNamespace(name="org/model", **meta))


def given(dimension=3, seed=0):
    return np.random.default_rng(seed).standard_normal((4, dimension)).astype(np.float32) * 5


def check(vectors, dimension=None, normalise=False, ids=IDS, kind="image"):
    return checked(vectors, ids, kind, "org/model", dimension, normalise=normalise, encoder="Encoder")


@pytest.mark.parametrize(
    ("meta", "cosine"),
    [
        ({}, True),
        ({"similarity_fn_name": None}, True),
        ({"similarity_fn_name": ScoringFunction.COSINE}, True),
        ({"similarity_fn_name": "cosine"}, True),
        ({"similarity_fn_name": "Cosine"}, True),
        ({"similarity_fn_name": ScoringFunction.DOT_PRODUCT}, False),
        ({"similarity_fn_name": "dot"}, False),
        ({"similarity_fn_name": Enum("Similarity", {"INNER": "dot"}).INNER}, False),
    ],
)
def test_vectors_are_compared_as_the_model_says(meta, cosine):
    assert compares_by_cosine(model(**meta)) is cosine


@pytest.mark.parametrize("similarity", [ScoringFunction.EUCLIDEAN, ScoringFunction.MAX_SIM, "manhattan"])
def test_a_similarity_that_is_not_offered_is_refused_by_name(similarity):
    name = getattr(similarity, "value", similarity).lower()
    with pytest.raises(EncodeError, match=rf"org/model compares vectors by '{name}'.*cosine and dot product"):
        compares_by_cosine(model(similarity_fn_name=similarity))


@pytest.mark.parametrize(
    "form",
    [
        lambda v: v,
        lambda v: v.astype(np.float64),
        lambda v: v.tolist(),
        lambda v: np.asfortranarray(v),
        lambda v: np.repeat(v, 2, axis=0)[::2],
        lambda v: torch.from_numpy(v),
        lambda v: torch.from_numpy(v).double(),
        lambda v: torch.from_numpy(v).requires_grad_(),
        lambda v: torch.from_numpy(v.T.copy()).T,
    ],
)
def test_every_form_of_vectors_comes_back_as_float32(form):
    vectors = given()
    found = check(form(vectors))
    assert type(found) is np.ndarray
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(found, vectors)
    np.testing.assert_array_equal(check(form(vectors), normalise=True), check(vectors, normalise=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    half = torch.from_numpy(given()).to(dtype)
    found = check(half)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, half.float().numpy())


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_unit_length_on_request_whatever_the_length_was(scale):
    vectors = given(64) * np.float32(scale)
    before = vectors.copy()
    found = check(vectors, normalise=True)
    exact = vectors.astype(np.float64)
    np.testing.assert_allclose(found, exact / np.linalg.norm(exact, axis=1, keepdims=True), rtol=1e-6)
    np.testing.assert_array_equal(check(vectors, normalise=False), vectors)
    np.testing.assert_array_equal(vectors, before)  # the model's own are not changed


def with_rows(rows, value):
    vectors = given()
    vectors[rows, -1] = value
    return vectors


def zero(rows):
    vectors = given()
    vectors[rows] = 0
    return vectors


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (given()[:3], r"3 vectors for 4 inputs; .*image.* is img/d\."),
        (given()[:1], r"1 vectors for 4 inputs; .*image.* is img/b\."),
        (given()[:0], r"0 vectors for 4 inputs; .*image.* is img/a\."),
        (np.concatenate([given(), given()]), "8 vectors for 4 inputs"),
        (given()[0], r"of shape \(3,\) for image img/a and those after it, instead of \[n, dimension\]"),
        (given()[:, None], r"of shape \(4, 1, 3\)"),
        (torch.from_numpy(given())[:, None], r"of shape \(4, 1, 3\)"),
        (with_rows([2], np.nan), "NaN or infinite values for 1 of 4 inputs, first image img/c"),
        (with_rows([1, 3], np.inf), "NaN or infinite values for 2 of 4 inputs, first image img/b"),
        (with_rows([0], -np.inf), "NaN or infinite values for 1 of 4 inputs, first image img/a"),
        (zero([3]), "an all-zero vector for 1 of 4 inputs, first image img/d"),
        (zero([1, 2, 3]), "an all-zero vector for 3 of 4 inputs, first image img/b"),
    ],
)
@pytest.mark.parametrize("normalise", [True, False])
def test_what_cannot_be_searched_is_refused_with_the_first_id(vectors, message, normalise):
    with pytest.raises(EncodeError, match="org/model returned .*" + message):
        check(vectors, normalise=normalise)


def test_queries_are_called_queries():
    with pytest.raises(EncodeError, match="first query img/c"):
        check(zero([2]), kind="query")
    with pytest.raises(EncodeError, match="the first query without its own is img/c"):
        check(given()[:2], kind="query")
    with pytest.raises(EncodeError, match="from query img/a on"):
        check(given(), dimension=5, kind="query")


def test_the_dimension_must_be_that_of_the_vectors_before():
    assert check(given(5), dimension=5).shape == (4, 5)
    assert check(given(5), dimension=None).shape == (4, 5)
    with pytest.raises(EncodeError, match="returned dimension 5 from image img/a on; it was 4 before"):
        check(given(5), dimension=4)


@pytest.mark.parametrize("length", [1e-30, 1e30])
def test_very_short_and_very_long_vectors_are_not_bad_ones(length):
    vectors = np.zeros((4, 3), dtype=np.float32)
    vectors[:, 1] = length
    np.testing.assert_array_equal(check(vectors), vectors)
    np.testing.assert_allclose(check(vectors, normalise=True), [[0, 1, 0]] * 4, rtol=1e-6)
