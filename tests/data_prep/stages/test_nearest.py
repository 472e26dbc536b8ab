"""The nearest images of a pool: against a full sort, whatever the blocks, ties and what is left out."""

import numpy as np
import pytest
from view_files import unit

from data_prep.stages import nearest as module
from data_prep.stages.nearest import nearest


def oracle(queries, pool, order, left_out, k):
    scores = (queries.astype(np.float64) @ pool.astype(np.float64).T).astype(np.float32)
    rows = [[row for row in np.lexsort((order, -of)) if not left_out[row]] for of in scores]
    return np.array([of[:k] for of in rows])


class Held:
    """Vectors in memory, given in pieces of a size."""

    def __init__(self, images, size=10_000):
        self.images, self.size = images, size

    def chunks(self):
        return (self.images[at : at + self.size] for at in range(0, len(self.images), self.size))

    def take(self, rows):
        return self.images[rows]


def world(seed, captioned=40, pool=3_000, dimension=16):
    rng = np.random.default_rng(seed)
    queries, images = (unit(rng.normal(size=(n, dimension))) for n in (captioned, pool))
    return queries, images, rng.permutation(pool), rng.random(pool) < 0.1


@pytest.mark.parametrize("size", [1, 700, 3_000])
@pytest.mark.parametrize("k", [1, 12])
def test_they_are_those_of_a_full_sort(monkeypatch, size, k):
    monkeypatch.setattr(module, "CHUNK", 512)
    monkeypatch.setattr(module, "QUERY_BLOCK", 16)
    queries, images, order, left_out = world(1)
    seen = []
    found = nearest(queries, Held(images, size), order, left_out, k=k, on_progress=seen.append)
    np.testing.assert_array_equal(found.rows, oracle(queries, images, order, left_out, k))
    assert not left_out[found.rows].any()
    assert sum(seen) == len(images)
    assert found.same.size == 0


def test_equally_near_ones_go_by_the_given_order(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 64)
    rng = np.random.default_rng(2)
    few = unit(rng.normal(size=(5, 8)))
    images, order = few[rng.integers(0, 5, 400)], rng.permutation(400)
    none = np.zeros(400, dtype=bool)
    found = nearest(few, Held(images), order, none, k=6)
    np.testing.assert_array_equal(found.rows, oracle(few, images, order, none, 6))
    # All six are copies of the captioned image, the first ones in the order.
    assert (images[found.rows] == few[:, None]).all()
    assert not np.array_equal(found.rows, np.sort(found.rows, axis=1))


@pytest.mark.parametrize("close", [14, 1_000])
def test_of_those_that_are_nearly_equally_near_the_defined_scores_decide(monkeypatch, close):
    """They differ by less than the rounding of a block, be they few or more than there are candidates."""
    monkeypatch.setattr(module, "CHUNK", 300)
    monkeypatch.setattr(module, "QUERY_BLOCK", 8)
    monkeypatch.setattr(module, "PAIRS", 100)
    rng = np.random.default_rng(6)
    centre, spread = rng.normal(size=64), np.where(np.arange(1_000) < close, 3e-4, 0.3)[:, None]
    queries = unit(centre + 3e-4 * rng.normal(size=(30, 64)))
    images = unit(centre + spread * rng.normal(size=(1_000, 64)))[rng.permutation(1_000)]
    order, left_out = rng.permutation(1_000), rng.random(1_000) < 0.3
    found = nearest(queries, Held(images, 170), order, left_out, k=6)
    np.testing.assert_array_equal(found.rows, oracle(queries, images, order, left_out, 6))


def test_fewer_than_asked_for_are_followed_by_none():
    queries, images, order, _ = world(3, captioned=2, pool=30)
    left_out = np.ones(30, dtype=bool)
    left_out[[4, 17]] = False
    found = nearest(queries, Held(images), order, left_out, k=5)
    assert sorted(found.rows[0][:2].tolist()) == [4, 17]
    assert (found.rows[:, 2:] == -1).all()


def test_near_duplicates_name_the_captioned_image_that_they_are_nearest_to(monkeypatch):
    monkeypatch.setattr(module, "QUERY_BLOCK", 8)
    queries, images, order, left_out = world(4)
    images[[5, 2_000]] = queries[[37, 3]]
    images[9] = unit((queries[11] + 0.2 * queries[12])[None])[0]
    left_out[5] = True
    cosine = float(images[9] @ queries[11])
    found = nearest(queries, Held(images), order, left_out, k=3, same_above=cosine - 1e-3)
    assert dict(zip(found.same.tolist(), found.same_as.tolist())) == {5: 37, 9: 11, 2_000: 3}
    assert nearest(queries, Held(images), order, left_out, k=3, same_above=cosine + 1e-3).same.tolist() == [
        5,
        2_000,
    ]


def test_the_cosine_itself_makes_a_near_duplicate():
    queries, images = np.eye(2, dtype=np.float32), np.array([[0.6, 0.8], [0.96, 0.28]], dtype=np.float32)
    cosine, none = float(images[1, 0]), np.zeros(2, dtype=bool)
    for limit, same in ((cosine, [1]), (float(np.nextafter(images[1, 0], np.float32(1))), [])):
        assert nearest(queries, Held(images), np.arange(2), none, k=1, same_above=limit).same.tolist() == same


def test_an_empty_pool_has_none():
    queries = unit(np.random.default_rng(5).normal(size=(3, 4)))
    found = nearest(
        queries, Held(np.zeros((0, 4), np.float32)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool), k=2
    )
    assert (found.rows == -1).all()
