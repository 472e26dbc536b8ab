"""A model's own `similarity()` is searched by, or refused with the first batch; it is never passed over silently."""

import numpy as np
import pytest
import torch
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from mteb.similarity_functions import cos_sim, dot_score
from planted import BATCH, Planted, ask, index
from small_set import small_set

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.search import vectors as embeddings

CHUNK = 10


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    return small_set(tmp_path_factory.mktemp("small") / "set")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK_ROWS", CHUNK)


@pytest.fixture
def vectors(eval_set):
    """Of lengths between 1/8 and 8, which decide where angles do not count."""
    rng = np.random.default_rng(0)
    ids = [*eval_set.corpus_ids(), *(query.id for query in eval_set.queries())]
    drawn = rng.standard_normal((len(ids), 6)) * 2.0 ** rng.integers(-3, 4, (len(ids), 1))
    return dict(zip(ids, drawn.astype(np.float32)))


def with_own(vectors, similarity, declared=None):
    model = Planted(vectors, similarity_fn_name=declared)
    model.similarity = similarity
    return model


def distance(queries, images):
    return -torch.cdist(queries, images)


@pytest.mark.parametrize(
    ("similarity", "declared"),
    [
        (distance, None),
        (distance, "cosine"),
        (distance, "dot"),
        (dot_score, None),
        (dot_score, "cosine"),
        (cos_sim, "dot"),
        (lambda queries, images: -cos_sim(queries, images), None),
        (lambda queries, images: cos_sim(queries, images).abs(), None),
    ],
)
def test_a_measure_that_orders_otherwise_is_refused_with_the_first_batch(eval_set, vectors, similarity, declared):
    model = with_own(vectors, similarity, declared)
    with pytest.raises(EncodeError, match=r"toy/encoder has a similarity\(\) of its own") as refused:
        index(model, eval_set)
    searched, offered = ("dot product", "cosine") if declared == "dot" else ("cosine", "dot product")
    assert f"than the {searched} that is searched by" in refused.value.message
    assert f"similarity_fn_name: here {searched}; {offered} is offered as well" in refused.value.hint
    assert model.asked() == [eval_set.corpus_ids()[:BATCH]]


def test_one_that_gives_no_numbers_is_told_without_a_word_on_encode(eval_set, vectors):
    with pytest.raises(
        EncodeError, match="toy/encoder returned a dict that is no array of numbers, for sim"
    ) as refused:
        index(with_own(vectors, lambda queries, images: {"score": 1}), eval_set)
    assert refused.value.hint is None


@pytest.mark.parametrize(
    ("similarity", "declared"),
    [
        (cos_sim, None),
        (cos_sim, "cosine"),
        (dot_score, "dot"),
        (lambda queries, images: 100 * cos_sim(queries, images), None),
        (lambda queries, images: (10 * cos_sim(queries, images) - 5).sigmoid(), None),
        (lambda queries, images: cos_sim(queries, images).half(), None),
        (lambda queries, images: cos_sim(queries, images).numpy(), None),
        (lambda queries, images: dot_score(queries, images).softmax(dim=1), "dot"),
    ],
)
def test_a_measure_that_orders_alike_is_searched_by(eval_set, vectors, similarity, declared):
    found = ask(index(with_own(vectors, similarity, declared), eval_set))
    assert found == ask(index(Planted(vectors, name="toy/other", similarity_fn_name=declared), eval_set))


def test_it_is_asked_once(eval_set, vectors):
    asked = []

    def similarity(queries, images):
        asked.append((tuple(queries.shape), tuple(images.shape)))
        return cos_sim(queries, images)

    ask(index(with_own(vectors, similarity), eval_set))
    assert asked == [((12, 6), (BATCH, 6))]


def test_vectors_of_unit_length_have_no_other_measure(eval_set, vectors):
    unit = {given: vector / np.linalg.norm(vector) for given, vector in vectors.items()}
    for number, similarity in enumerate((distance, dot_score)):
        model = with_own(unit, similarity)
        model.mteb_model_meta.name = f"toy/{number}"
        assert ask(index(model, eval_set))


def test_what_mteb_does_by_itself_is_no_measure_of_ones_own(eval_set, vectors):
    class Stock(Planted, AbsEncoder):
        mteb_model_meta = None
        encode = Planted.encode

    meta = ModelMeta.create_empty({"name": "toy/stock", "revision": "r1"})
    model = Stock(vectors)
    model.mteb_model_meta = meta
    assert embeddings.similarity_of(model) is None
    # A model inside, with a measure that mteb asks, is one.
    model.model = Planted(vectors)
    model.model.similarity = distance
    assert embeddings.similarity_of(model) is not None
    with pytest.raises(EncodeError, match="toy/stock has a similarity"):
        index(model, eval_set)
