"""Rankings of parts, joined in any way, are byte for byte that of the whole; plain numpy finds the same."""

import pickle
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mteb_vehicle_search.search import parts
from mteb_vehicle_search.search.best import MOST_ROWS, keys_of, rows_of, scores_of
from mteb_vehicle_search.search.parts import (
    Chunk,
    PartialRanking,
    Search,
    rank_part,
    relevant_scores,
    scores_together,
    together,
)
from mteb_vehicle_search.search.ranking import Ranking, rank_exactly, ranking_of

CHUNK = 5


def floats(values):
    return np.array(values, dtype=np.float32)


class World:
    """A corpus in chunks, and what is searched for in it."""

    def __init__(self, queries, images, pairs, sources, k):
        self.queries, self.images, self.pairs, self.sources = queries, images, pairs, sources
        self.search = Search(torch.from_numpy(queries), pairs, sorted(set(sources)), len(images), k)
        starts = range(0, len(images), CHUNK)
        self.chunks = [
            Chunk(range(start, min(start + CHUNK, len(images))), images[start : start + CHUNK], part)
            for start in starts
            for part in [sources[start : start + CHUNK]]
        ]

    def whole(self):
        return rank_exactly(
            self.search.queries,
            lambda: ((chunk.rows, chunk.vectors) for chunk in self.chunks),
            self.pairs,
            self.sources,
            self.search.k,
        )

    def ranking(self, scores, found):
        return ranking_of(self.search, scores, found, [self.sources[row] for _, row in self.pairs])

    def in_parts(self, split, join):
        """Return the ranking of parts, which are lists of chunk numbers; `join` puts a list of rankings together."""
        cut = [[self.chunks[number] for number in sorted(part)] for part in split]
        scores = scores_together(relevant_scores(self.search, part) for part in cut)
        return self.ranking(scores, join([rank_part(self.search, scores, part) for part in cut]))


def oracle(world):
    """Rank with nothing but numpy, pair by pair; the best by the scores of blocks as large as the search's."""
    q = len(world.queries)
    product = np.concatenate([(world.search.queries @ torch.from_numpy(c.vectors).T).numpy() for c in world.chunks], 1)
    defined = np.empty((q, len(world.images)), np.float32)
    for query in range(q):
        products = world.queries[query].astype(np.float64) * world.images.astype(np.float64)
        while products.shape[1] > 1:
            half = -(-products.shape[1] // 2)
            last = products[:, half:]
            products = products[:, :half] + np.pad(last, ((0, 0), (0, half - last.shape[1])))
        defined[query] = products[:, 0]
    top = np.stack([np.lexsort((range(len(world.images)), -of_query))[: world.search.k] for of_query in product])
    judged, rows = set(world.pairs), np.arange(len(world.images))
    above, tied = [], []
    for query, row in world.pairs:
        relevant = np.array([(query, other) in judged for other in rows])
        better = defined[query] > defined[query, row]
        equal = defined[query] == defined[query, row]
        over = better | (equal & ~relevant) | (equal & relevant & (rows < row))
        above.append([sum(over[r] and world.sources[r] == name for r in rows) for name in world.search.groups])
        tied.append((equal & ~relevant).sum())
    return Ranking(
        top,
        np.take_along_axis(product, top, 1),
        np.array(above, np.int64).reshape(-1, len(world.search.groups)),
        np.array(tied, np.int64),
        np.array([defined[pair] for pair in world.pairs], np.float32),
    )


def same(one, other):
    for name in Ranking._fields:
        found, right = getattr(one, name), getattr(other, name)
        assert (found.dtype, found.shape) == (right.dtype, right.shape), name
        np.testing.assert_array_equal(found, right, name)
        # A zero may have a sign; the best of an oracle has that of the product.
        assert (found + 0).tobytes() == (right + 0).tobytes(), name


def images_of(rng, kind, count, dimension):
    """Vectors that are all different, whole numbers of which many are equal, doubles, or a rounding error apart."""
    if kind == "whole":
        return rng.integers(-1, 2, (count, dimension)).astype(np.float32)
    vectors = rng.standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if kind == "doubles":
        return vectors[rng.integers(0, max(1, count // 4), count)]
    if kind == "near":
        vectors = vectors[rng.integers(0, max(1, count // 6), count)]
        return np.nextafter(vectors, rng.choice(floats([-2, 2]), vectors.shape))
    return vectors


def world_of(seed, kind, count, k):
    rng = np.random.default_rng(seed)
    dimension, asked = int(rng.choice([2, 7, 33])), int(rng.integers(1, 6))
    images = images_of(rng, kind, count, dimension)
    queries = images_of(rng, kind, asked, dimension)
    pairs = [
        (q, int(r)) for q in range(asked) for r in sorted(rng.choice(count, min(count, rng.integers(0, 5)), False))
    ]
    return World(queries, images, pairs, [str(s) for s in rng.choice(["coco", "flickr30k", "imagenet"], count)], k)


@st.composite
def searches(draw):
    """A world, its chunks dealt to parts, and an order to join two of the parts at a time."""
    kind = draw(st.sampled_from(["whole", "doubles", "near", "different"]))
    world = world_of(
        draw(st.integers(0, 2**31)), kind, draw(st.integers(1, 60)), draw(st.sampled_from([1, 3, 10, 100]))
    )
    parts = draw(st.integers(1, len(world.chunks) + 1))
    part_of = [draw(st.integers(0, parts - 1)) for _ in world.chunks]
    split = [[number for number, part in enumerate(part_of) if part == which] for which in range(parts)]
    return world, split, draw(st.randoms(use_true_random=False))


def joined_by(random):
    """Return a way to join rankings: any two, in any order, until one is left."""

    def join(found):
        found = list(found)
        while len(found) > 1:
            random.shuffle(found)
            found.append(together(found.pop(), found.pop()))
        return found[0]

    return join


@settings(max_examples=80, deadline=None, derandomize=True)
@given(searches())
def test_any_parts_joined_in_any_way_are_the_whole(case):
    world, split, random = case
    whole = world.whole()
    same(world.in_parts(split, joined_by(random)), whole)
    same(whole, oracle(world))


@pytest.mark.parametrize("kind", ["whole", "doubles", "near", "different"])
def test_joining_is_associative_and_commutative_to_the_byte(kind):
    world = world_of(1, kind, 43, 10)
    scores = relevant_scores(world.search, world.chunks)
    a, b, c = (rank_part(world.search, scores, world.chunks[at::3]) for at in range(3))
    ways = [together(together(a, b), c), together(c, together(b, a)), together(b, together(a, c))]
    ways += [rank_part(world.search, scores, world.chunks)]
    for way in ways:
        for found, right in zip(way, ways[0], strict=True):
            assert found.tobytes() == right.tobytes()
            assert found.flags.c_contiguous
    assert ways[0].images.tolist() == [43]


def test_nothing_joined_with_a_part_is_the_part():
    world = world_of(2, "whole", 23, 10)
    scores = relevant_scores(world.search, world.chunks)
    nothing, found = rank_part(world.search, scores, []), rank_part(world.search, scores, world.chunks)
    assert nothing.images.tolist() == [0]
    for way in (together(nothing, found), together(found, nothing)):
        assert [array.tobytes() for array in way] == [array.tobytes() for array in found]


def test_of_equals_the_earlier_rows_are_the_best_wherever_they_are():
    images = np.ones((40, 2), np.float32)
    images[[7, 21, 22]] = 2
    world = World(np.ones((2, 2), np.float32), images, [], ["a"] * 40, 9)
    found = world.in_parts([[n] for n in (7, 3, 1, 0, 5, 4, 6, 2)], lambda found: reduce(together, found))
    assert found.top.tolist() == [[7, 21, 22, 0, 1, 2, 3, 4, 5]] * 2
    same(found, world.whole())


@pytest.mark.parametrize("block", [1, 2, 3])
def test_blocks_of_queries_change_nothing(monkeypatch, block):
    world = world_of(3, "whole", 31, 4)
    right = world.whole()
    monkeypatch.setattr(parts, "QUERY_BLOCK", block)
    monkeypatch.setattr(parts, "PAIR_BLOCK", block)
    same(world.in_parts([[0, 2, 4], [1, 3, 5, 6]], lambda found: together(*found)), right)


def test_a_score_does_not_depend_on_what_is_computed_with_it():
    rng = np.random.default_rng(4)
    queries, images = (torch.from_numpy(rng.standard_normal((300, 1021)).astype(np.float32)) for _ in range(2))
    number = torch.arange(300)
    together_ = parts.pair_scores(queries, number, images)
    alone = torch.cat([parts.pair_scores(queries, number[i : i + 1], images[i : i + 1]) for i in range(300)])
    assert torch.equal(together_, alone)
    right = (queries.double() * images.double()).sum(1)
    assert (together_.double() - right).abs().max() <= right.abs().max() * 2.0**-23


def test_sums_are_made_half_on_half():
    # Added in turn, 1 would be left: the first two are lost beside 2^53.
    query = torch.tensor([[2.0**27, 1, 1, -(2.0**27), 1]])
    image = torch.tensor([[2.0**26, 1, 1, 2.0**26, 1]])
    assert parts.pair_scores(query, torch.tensor([0]), image).tolist() == [3]
    assert parts._sums(torch.tensor([[3.0], [4.0]], dtype=torch.float64)).tolist() == [3, 4]


def test_keys_hold_scores_and_rows_and_sort_by_both():
    scores = floats([-np.inf, -3e38, -1, -1e-45, 0, 1e-45, 0.5, 0.5 + 2**-24, 3e38])
    rows = [MOST_ROWS - 1, 70_000, 1, 0]
    grid = torch.tensor(scores).repeat_interleave(len(rows)), torch.tensor(rows).repeat(len(scores))
    keys = keys_of(*grid)
    assert (keys.diff() > 0).all()
    assert torch.equal(scores_of(keys), grid[0])
    assert torch.equal(rows_of(keys), grid[1])
    none = keys_of(torch.tensor([-np.inf]), torch.tensor([-1]))
    assert (none < keys).all()
    assert (scores_of(none).item(), rows_of(none).item()) == (-np.inf, -1)
    zeros = keys_of(torch.tensor([0.0, -0.0]), torch.tensor([5, 5]))
    assert zeros[0] == zeros[1]


def test_scores_of_parts_leave_what_is_elsewhere_open():
    images = np.arange(24, dtype=np.float32).reshape(12, 2)
    world = World(floats([[1, 0], [0, 1]]), images, [(0, 11), (1, 0), (1, 6)], ["a"] * 12, 3)
    first, second, third = (relevant_scores(world.search, [chunk]) for chunk in world.chunks)
    np.testing.assert_array_equal(first, floats([np.nan, 1, np.nan]))
    np.testing.assert_array_equal(third, floats([22, np.nan, np.nan]))
    assert scores_together([third, first, second]).tolist() == [22, 1, 13]
    with pytest.raises(ValueError, match="no score"):
        rank_part(world.search, scores_together([first, third]), world.chunks)
    with pytest.raises(ValueError, match="no score"):
        rank_part(world.search, floats([1, 2]), world.chunks)


def test_chunks_out_of_order_are_refused():
    world = World(np.ones((1, 2), np.float32), np.ones((12, 2), np.float32), [], ["a"] * 12, 3)
    nothing = np.empty(0, np.float32)
    for wrong in ([1, 0], [0, 0]):
        with pytest.raises(ValueError, match="come after row"):
            rank_part(world.search, nothing, [world.chunks[number] for number in wrong])
    far = [Chunk(range(MOST_ROWS - 1, MOST_ROWS + 1), np.ones((2, 2), np.float32), ["a"] * 2)]
    with pytest.raises(ValueError, match=f"more than {MOST_ROWS}"):
        rank_part(world.search, nothing, far)


def test_the_last_row_possible_is_found():
    search = Search(torch.ones(1, 2), [], ["a"], MOST_ROWS, k=1)
    last = Chunk(range(MOST_ROWS - 2, MOST_ROWS), floats([[1, 1], [2, 2]]), ["a"] * 2)
    found = rank_part(search, np.empty(0, np.float32), [last])
    assert rows_of(torch.from_numpy(found.best)).tolist() == [[MOST_ROWS - 1]]


def test_an_image_left_out_or_searched_twice_is_noticed():
    world = world_of(5, "whole", 23, 10)
    scores = relevant_scores(world.search, world.chunks)
    left_out, found = (rank_part(world.search, scores, world.chunks[start:]) for start in (1, 0))
    for wrong, images in [(left_out, 18), (together(left_out, found), 41)]:
        with pytest.raises(ValueError, match=f"^{images} images were searched; the corpus has 23.$"):
            world.ranking(scores, wrong)


def test_a_ranking_leaves_what_was_found_as_it_was():
    world = World(np.ones((1, 2), np.float32), np.ones((8, 2), np.float32), [(0, 1), (0, 6)], ["a"] * 8, 3)
    scores = relevant_scores(world.search, world.chunks)
    found = rank_part(world.search, scores, world.chunks)
    kept = [array.tobytes() for array in found]
    first = world.ranking(scores, found)
    assert first.tied.tolist() == [6, 6]
    assert [array.tobytes() for array in found] == kept
    same(world.ranking(scores, found), first)
    assert not np.shares_memory(first.scores, scores)


def test_rankings_of_other_searches_are_not_joined():
    found = [
        rank_part(world.search, relevant_scores(world.search, world.chunks), world.chunks)
        for world in (world_of(6, "whole", 20, 3), world_of(6, "whole", 20, 4))
    ]
    with pytest.raises(ValueError, match="differ"):
        together(*found)


def test_progress_is_told_by_images_and_rankings_travel():
    world, told = world_of(7, "different", 13, 3), []
    scores = relevant_scores(world.search, world.chunks)
    found = rank_part(world.search, scores, world.chunks, told.append)
    assert told == [5, 5, 3]
    again = pickle.loads(pickle.dumps(found))  # noqa: S301
    assert isinstance(again, PartialRanking)
    assert [array.tobytes() for array in again] == [array.tobytes() for array in found]
    assert len(pickle.dumps(found)) < 8 * sum(array.size for array in found) + 1000
