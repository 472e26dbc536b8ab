"""Ranks against brute force, and mteb's metrics against an independent implementation, ties included."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mteb_vehicle_search.metrics import METRICS
from mteb_vehicle_search.search import parts
from mteb_vehicle_search.search.parts import error_bound
from mteb_vehicle_search.search.ranking import Ranking, ordered_run, rank_exactly


def search(queries, images, pairs, sources, chunk=7, **given):
    def chunks():
        for start in range(0, len(images), chunk):
            rows = range(start, min(start + chunk, len(images)))
            yield rows, images[rows.start : rows.stop]

    return rank_exactly(torch.from_numpy(queries), chunks, pairs, sources, **given)


def defined_scores(queries, images):
    """Return every pair's score as ranking.py defines it, float32 [queries, images]."""
    return (queries.astype(np.float64) @ images.astype(np.float64).T).astype(np.float32)


class Truth(NamedTuple):
    """What a search must find, one row for each pair."""

    ranks: list
    tied: list
    above: list
    scores: list


def brute_force(queries, images, pairs, sources):
    """Rank each pair, from the defined scores, behind its equals that are not relevant and the relevant ones before."""
    scores, names, judged = defined_scores(queries, images), sorted(set(sources)), set(pairs)
    truth = Truth([], [], [], [])
    for query, row in pairs:
        own = scores[query, row]
        equal = [i for i in range(len(images)) if scores[query, i] == own and (query, i) not in judged]
        better = [i for i in range(len(images)) if scores[query, i] > own]
        over = [*better, *equal, *(i for i in range(row) if scores[query, i] == own and (query, i) in judged)]
        truth.ranks.append(len(over) + 1)
        truth.tied.append(len(equal))
        truth.above.append([sum(sources[i] == name for i in over) for name in names])
        truth.scores.append(own)
    return truth


def check(found, truth):
    assert found.ranks.tolist() == truth.ranks
    assert found.tied.tolist() == truth.tied
    assert found.above.tolist() == truth.above
    assert found.scores.tolist() == truth.scores


def check_top(found, queries, images, k):
    """The best k: no image twice, none lost; exactly comparable where scores are whole numbers."""
    scores = defined_scores(queries, images)
    assert found.top.shape == found.top_scores.shape == (len(queries), min(k, len(images)))
    for query, rows in enumerate(found.top):
        assert len(set(rows.tolist())) == len(rows)
        assert found.top_scores[query].tolist() == sorted(scores[query].tolist(), reverse=True)[:k]
        assert scores[query, rows].tolist() == found.top_scores[query].tolist()


def whole_numbers(rng, *shape):
    """Vectors of unequal length whose products are exact in float32, many of them equal."""
    vectors = rng.integers(-3, 4, shape).astype(np.float32)
    vectors[:, 0] += ~vectors.any(axis=1)
    return vectors


def judgements(rng, queries, count, most=3):
    """0 to `most` relevant images for each query."""
    return [
        (q, int(row)) for q in range(queries) for row in sorted(rng.choice(count, rng.integers(0, most + 1), False))
    ]


@pytest.mark.parametrize(("query_block", "pair_block", "chunk"), [(1, 1, 1), (3, 2, 5), (4, 7, 40), (100, 100, 6)])
@pytest.mark.parametrize("seed", range(6))
def test_blocks_of_every_size_agree_with_brute_force(monkeypatch, seed, query_block, pair_block, chunk):
    monkeypatch.setattr(parts, "QUERY_BLOCK", query_block)
    monkeypatch.setattr(parts, "PAIR_BLOCK", pair_block)
    rng = np.random.default_rng(seed)
    queries, images = whole_numbers(rng, 11, 6), whole_numbers(rng, 31 + seed, 6)
    pairs = judgements(rng, len(queries), len(images))
    sources = [str(s) for s in rng.choice(["coco", "flickr30k", "imagenet"], len(images))]
    k = (1, 2, 5, 10, len(images), len(images) + 3)[seed]
    found = search(queries, images, pairs, sources, k=k, chunk=chunk)
    check(found, brute_force(queries, images, pairs, sources))
    check_top(found, queries, images, k)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(0, 4)],
        [(5, 0), (5, 29)],
        [(0, 3), (0, 8), (2, 1), (3, 0), (4, 2), (5, 5)],  # as many as queries, but not one for each
        [(0, 3), (1, 8), (2, 1), (3, 0), (4, 29), (5, 0)],
    ],
)
def test_queries_without_a_relevant_image_shift_nothing(monkeypatch, pairs):
    monkeypatch.setattr(parts, "QUERY_BLOCK", 2)
    rng = np.random.default_rng(3)
    queries, images, sources = whole_numbers(rng, 6, 5), whole_numbers(rng, 30, 5), ["a", "b", "b"] * 10
    found = search(queries, images, pairs, sources, k=9)
    check(found, brute_force(queries, images, pairs, sources))
    check_top(found, queries, images, 9)
    assert found.above.shape == (len(pairs), 2)


def test_more_queries_than_two_blocks_are_all_searched():
    count = 2 * parts.QUERY_BLOCK + 3
    rng = np.random.default_rng(4)
    queries, images, sources = whole_numbers(rng, count, 4), whole_numbers(rng, 30, 4), ["a"] * 20 + ["b"] * 10
    pairs = [(q, int(row)) for q, row in enumerate(rng.integers(0, 30, count))]
    found = search(queries, images, pairs, sources, k=3, chunk=16)
    check(found, brute_force(queries, images, pairs, sources))
    check_top(found, queries, images, 3)


def test_more_near_ties_than_a_block_are_all_settled():
    count = parts.PAIR_BLOCK // 180 + 1
    images = np.ones((180, 2), dtype=np.float32)
    images[::9] = 2
    queries = np.ones((count, 2), dtype=np.float32)
    found = search(queries, images, [(q, 1) for q in range(count)], ["a"] * 90 + ["b"] * 90, chunk=180)
    assert found.tied.tolist() == [159] * count
    assert found.above.tolist() == [[89, 90]] * count


def test_more_judgements_than_a_block_all_have_their_score():
    count = parts.PAIR_BLOCK // 3 + 5
    rng = np.random.default_rng(5)
    queries, images = whole_numbers(rng, count, 3), whole_numbers(rng, 3, 3)
    pairs = [(q, row) for q in range(count) for row in range(3)]
    found = search(queries, images, pairs, ["a"] * 3)
    np.testing.assert_array_equal(found.scores, defined_scores(queries, images).ravel())


def test_ranks_beyond_the_range_of_small_integers():
    images = np.zeros((70_000, 2), dtype=np.float32)
    images[:, 0] = np.arange(70_000) % 1000
    images[69_999] = (-1, 0)
    found = search(np.array([[1, 0]], dtype=np.float32), images, [(0, 69_999)], ["a"] * 70_000, chunk=70_000)
    assert found.ranks.tolist() == [70_000]
    assert found.tied.tolist() == [0]


def test_the_best_hundred_are_returned_unless_told_otherwise():
    rng = np.random.default_rng(6)
    queries, images = whole_numbers(rng, 2, 8), whole_numbers(rng, 130, 8)
    check_top(search(queries, images, [], ["a"] * 130), queries, images, 100)


def test_progress_is_reported_by_images():
    rng, counts = np.random.default_rng(7), []
    queries, images = whole_numbers(rng, 2, 8), whole_numbers(rng, 20, 8)
    search(queries, images, [(0, 1)], ["a"] * 20, chunk=8, on_progress=counts.append)
    assert counts == [8, 8, 4]


def test_every_image_twice_ranks_the_relevant_copy_second():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((20, 8)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    images = np.concatenate([images, images])
    found = search(images[:5].copy(), images, [(q, q) for q in range(5)], ["a"] * 40)
    assert found.ranks.tolist() == [2] * 5
    assert found.tied.tolist() == [1] * 5
    run = ordered_run(found, [(q, q) for q in range(5)])
    assert run.rows[:, 0].tolist() == [20, 21, 22, 23, 24]
    assert run.rows[:, 1].tolist() == [0, 1, 2, 3, 4]
    assert (np.diff(run.scores, axis=1) < 0).all()


def test_chunk_size_does_not_change_a_rank():
    rng = np.random.default_rng(1)
    images = rng.standard_normal((300, 64)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    queries = images[:40] + 0.3 * rng.standard_normal((40, 64)).astype(np.float32)
    results = [search(queries, images, [(q, q) for q in range(40)], ["a"] * 300, chunk=c) for c in (300, 64, 11)]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0].ranks, other.ranks)
        np.testing.assert_array_equal(results[0].scores, other.scores)


def unequal_doubles(seed):
    """A world without relation between the lengths: 1/64 to 64 times, every image a second time among others."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((24, 16)) * 2.0 ** rng.integers(-6, 7, (24, 1))
    queries = rng.standard_normal((10, 16)) * 2.0 ** rng.integers(-6, 7, (10, 1))
    images = np.concatenate([images, images[::-1]]).astype(np.float32)
    return queries.astype(np.float32), images, judgements(rng, 10, 48), ["a", "b"] * 24


def inexact(share):
    """Return a product whose errors are `share` of the bound, up for one image and down for the next."""

    def product(queries, images, scores):
        sign = torch.where(torch.arange(len(images)) % 2 == 0, 1.0, -1.0)
        lengths = torch.linalg.vector_norm(queries, dim=1)[:, None] * torch.linalg.vector_norm(images, dim=1)
        bound = error_bound(queries.shape[1]) * lengths
        return ((queries.double() @ images.double().T) + share * sign * bound).float()

    return product


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [-0.9, 0.9])
def test_rounding_up_to_the_bound_changes_no_rank(monkeypatch, seed, share):
    monkeypatch.setattr(parts, "_product", inexact(share))
    monkeypatch.setattr(parts, "QUERY_BLOCK", 4)
    case = unequal_doubles(seed)
    check(search(*case, chunk=48), brute_force(*case))
    check(search(*case, chunk=9), brute_force(*case))


def test_only_pairs_within_the_bound_are_settled_by_the_defined_score(monkeypatch):
    # Of the double above and the double below, at 1.1 times the bound, the block score decides.
    images = np.ones((3, 16), dtype=np.float32)
    settled = []
    defined = parts.pair_scores

    def watched(queries, query, images):
        settled.append(len(query))
        return defined(queries, query, images)

    monkeypatch.setattr(parts, "pair_scores", watched)
    for share, pairs, tied in [(0.9, [1, 2], 2), (1.1, [1], 0)]:
        monkeypatch.setattr(parts, "_product", inexact(share))
        settled.clear()
        found = search(images[:1], images, [(0, 1)], ["a"] * 3)
        assert settled == pairs
        assert found.tied.tolist() == [tied]
        assert found.ranks.tolist() == [3]


def test_the_bound_is_eight_standard_errors_of_a_sum():
    assert error_bound(1) == 8 * 2.0**-24
    assert error_bound(1024) == 256 * 2.0**-24


def test_everything_is_made_on_the_device_of_the_queries(monkeypatch):
    # What torch makes without being told where is on "meta" here; what comes from numpy has to be sent.
    from_numpy = torch.from_numpy

    class Arrived:
        def __init__(self, array):
            self.array = array

        def to(self, device):
            assert device == torch.device("cpu")
            return from_numpy(self.array)

    rng = np.random.default_rng(8)
    queries, images = whole_numbers(rng, 5, 4), whole_numbers(rng, 30, 4)
    case = queries, images, judgements(rng, 5, 30), ["a", "b"] * 15
    without = queries, images, [], ["a", "b"] * 15
    on_device = from_numpy(queries)

    def sent(array):
        if array is queries:
            return on_device
        # Keys are read where they arrived.
        return from_numpy(array) if array.dtype == np.int64 and array.ndim == 2 else Arrived(array)

    monkeypatch.setattr(torch, "from_numpy", sent)
    with torch.device("meta"):
        found, nothing = search(*case), search(*without)
    check(found, brute_force(*case))
    check_top(found, queries, images, 100)
    check(nothing, brute_force(*without))


def test_blocks_of_one_shape_share_their_memory():
    images, queries = torch.ones(4, 3), torch.ones(2, 3)
    first = parts._product(queries, images, torch.empty(0))
    second = parts._product(2 * queries, images, first)
    assert second is first
    assert second.tolist() == [[6.0] * 4] * 2
    for other in (torch.ones(5, 3), torch.ones(3, 3)):
        assert parts._product(queries, other, first).shape == (2, len(other))
    assert parts._product(queries[:1], images, first).shape == (1, 4)


def below(score, steps=1):
    for _ in range(steps):
        score = np.nextafter(np.float32(score), np.float32(-np.inf))
    return float(score)


def found_by_hand(top, top_scores, ranks, scores):
    """A ranking of one query."""
    above = np.array(ranks, dtype=np.int64)[:, None] - 1
    tied = np.zeros(len(ranks), dtype=np.int64)
    return Ranking(
        np.array([top]), np.array([top_scores], dtype=np.float32), above, tied, np.array(scores, dtype=np.float32)
    )


@pytest.mark.parametrize(
    ("found", "pairs", "rows", "scores"),
    [
        # The relevant image, best by the block's score, goes behind its equals.
        (
            found_by_hand([7, 8, 9, 4], [1, 1, 1, 0.5], [3], [1]),
            [(0, 7)],
            [8, 9, 7, 4],
            [1, below(1), below(1, 2), 0.5],
        ),
        # It goes up where its defined score is above the block's.
        (found_by_hand([7, 8, 9], [0.9, 0.8, 0.7], [1], [0.9]), [(0, 8)], [8, 7, 9], [0.9, below(0.9), 0.7]),
        # Two relevant images, of which the second judgement ranks before the first.
        (found_by_hand([5, 6, 7], [3, 2, 1], [3, 1], [1, 3]), [(0, 7), (0, 5)], [5, 6, 7], [3, 2, 1]),
        # Beyond the list: the others stay as they are.
        (found_by_hand([5, 6, 7], [3, 2, 1], [9], [0.5]), [(0, 4)], [5, 6, 7], [3, 2, 1]),
        # Just behind the last and just inside.
        (found_by_hand([5, 6, 7], [3, 2, 1], [4], [1]), [(0, 4)], [5, 6, 7], [3, 2, 1]),
        (found_by_hand([5, 6, 7], [3, 2, 1], [3], [1]), [(0, 4)], [5, 6, 4], [3, 2, 1]),
        # Row 0 is an image like any other; past the end of the corpus is none.
        (
            found_by_hand([0, 1, -1], [3, 2, -np.inf], [2], [2]),
            [(0, 1)],
            [0, 1, -1],
            [3, 2, -np.inf],
        ),
        # A query that has no judgement has strictly falling scores as well.
        (found_by_hand([5, 6, 7], [2, 2, 1], [], []), [], [5, 6, 7], [2, below(2), 1]),
    ],
)
def test_relevant_images_stand_at_their_ranks(found, pairs, rows, scores):
    run = ordered_run(found, pairs)
    assert run.rows.tolist() == [rows]
    assert run.scores.tolist() == [[float(np.float32(score)) for score in scores]]
    assert run.rows.dtype == np.int64
    assert run.scores.dtype == np.float32


def test_the_ranking_itself_is_left_as_it_was():
    found = found_by_hand([7, 8, 9], [1, 1, 1], [3], [1])
    ordered_run(found, [(0, 7)])
    assert found.top.tolist() == [[7, 8, 9]]
    assert found.top_scores.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("seed", range(12))
def test_the_run_states_the_ranks_of_all_queries(seed):
    rng = np.random.default_rng(seed)
    queries, images = whole_numbers(rng, 8, 5), whole_numbers(rng, 40, 5)
    scores = defined_scores(queries, images)
    pairs = []
    for query, row in judgements(rng, 8, 40):
        if all(q != query or scores[q, other] != scores[query, row] for q, other in pairs):  # no equals of one query
            pairs.append((query, row))
    found = search(queries, images, pairs, ["a"] * 40, k=12)
    run = ordered_run(found, pairs)
    assert (np.diff(run.scores, axis=1) < 0).all()
    for query in range(8):
        relevant = {row for q, row in pairs if q == query}
        rows = run.rows[query].tolist()
        kept = [row for row in rows if row >= 0]
        # A relevant image that its equals push off the list leaves its place empty.
        assert len(kept) >= 12 - len(relevant & set(found.top[query].tolist()) - set(kept))
        assert len(set(kept)) == len(kept)
        # By score; relevant images last among equals.
        order = sorted(range(40), key=lambda row: (-scores[query, row], row in relevant))
        assert [scores[query, row] for row in kept] == [scores[query, row] for row in order[: len(kept)]]
        assert [row in relevant for row in kept] == [row in relevant for row in order[: len(kept)]]
    for (query, row), rank in zip(pairs, found.ranks.tolist()):
        assert (run.rows[query] == row).tolist() == [place == rank for place in range(1, 13)]


@st.composite
def searches(draw):
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    count, dimension = draw(st.integers(3, 40)), draw(st.sampled_from([4, 33]))
    images = rng.standard_normal((count, dimension)).astype(np.float32)
    if draw(st.booleans()):  # few distinct values and doubles: many ties
        images = np.sign(images) * np.float32(0.5)
        images[count // 2 :] = images[: count - count // 2]
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    queries = rng.standard_normal((draw(st.integers(1, 6)), dimension)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    pairs = [
        (q, int(row)) for q in range(len(queries)) for row in sorted(rng.choice(count, draw(st.integers(1, 2)), False))
    ]
    sources = [str(s) for s in rng.choice(["flickr30k", "imagenet"], count)]
    return queries, images, pairs, sources


@settings(max_examples=30, deadline=None, derandomize=True)
@given(searches())
def test_ranks_are_exact_with_ties_and_doubles(case):
    check(search(*case), brute_force(*case))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(searches())
def test_independent_metrics_agree_with_recorded_ranks(case):
    import ir_measures
    from ir_measures import RR, R, nDCG

    queries, images, pairs, sources = case
    pairs = [pair for i, pair in enumerate(pairs) if i == 0 or pairs[i - 1][0] != pair[0]]
    found = search(queries, images, pairs, sources, k=10)
    run = ordered_run(found, pairs)
    scored = [
        ir_measures.ScoredDoc(str(q), f"{(row * 7919) % 101:03d}/{row}", score)
        for q, (rows, scores) in enumerate(zip(run.rows.tolist(), run.scores.tolist()))
        for row, score in zip(rows, scores)
        if row >= 0
    ]
    qrels = [ir_measures.Qrel(str(q), f"{(row * 7919) % 101:03d}/{row}", 1) for q, row in pairs]
    values = ir_measures.calc_aggregate([nDCG @ 10, RR @ 10, R @ 1, R @ 10], qrels, scored)
    ranks = found.ranks
    np.testing.assert_allclose(values[nDCG @ 10], METRICS["ndcg_at_10"].of_rank(ranks).mean(), atol=1e-6)
    np.testing.assert_allclose(values[RR @ 10], np.where(ranks <= 10, 1 / ranks, 0).mean(), atol=1e-6)
    np.testing.assert_allclose(values[R @ 1], (ranks == 1).mean())
    np.testing.assert_allclose(values[R @ 10], (ranks <= 10).mean())
