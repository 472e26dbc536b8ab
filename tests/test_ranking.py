"""Ranks against brute force, and mteb's metrics against an independent implementation, ties included."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mteb_vehicle_search.outcome import ndcg_at_10
from mteb_vehicle_search.ranking import ordered_run, rank_exactly


def search(queries, images, pairs, sources, k=10, chunk=7):
    def chunks():
        for start in range(0, len(images), chunk):
            rows = range(start, min(start + chunk, len(images)))
            yield rows, images[rows.start : rows.stop]

    return rank_exactly(torch.from_numpy(queries), chunks, pairs, sources, k=k)


def brute_force(queries, images, pairs):
    """Return rank (last among equals) and number of equals of each pair, from float64 scores rounded to float32."""
    found = []
    for query, row in pairs:
        scores = (images.astype(np.float64) * queries[query].astype(np.float64)).sum(axis=1).astype(np.float32)
        others = np.delete(scores, row)
        found.append(((others >= scores[row]).sum() + 1, (others == scores[row]).sum()))
    return found


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


@settings(max_examples=60, deadline=None)
@given(searches())
def test_ranks_are_exact_with_ties_and_doubles(case):
    queries, images, pairs, sources = case
    found = search(*case)
    assert list(zip(found.ranks.tolist(), found.tied.tolist())) == brute_force(queries, images, pairs)
    names = sorted(set(sources))
    for (query, row), above in zip(pairs, found.above.tolist()):
        scores = (images.astype(np.float64) * queries[query].astype(np.float64)).sum(axis=1).astype(np.float32)
        over = [i for i in range(len(images)) if i != row and scores[i] >= scores[row]]
        assert above == [sum(sources[i] == name for i in over) for name in names]


@settings(max_examples=60, deadline=None)
@given(searches())
def test_independent_metrics_agree_with_recorded_ranks(case):
    import ir_measures
    from ir_measures import RR, R, nDCG

    queries, images, pairs, sources = case
    pairs = [pair for i, pair in enumerate(pairs) if i == 0 or pairs[i - 1][0] != pair[0]]
    found = search(queries, images, pairs, sources)
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
    np.testing.assert_allclose(values[nDCG @ 10], ndcg_at_10(ranks).mean(), atol=1e-6)
    np.testing.assert_allclose(values[RR @ 10], np.where(ranks <= 10, 1 / ranks, 0).mean(), atol=1e-6)
    np.testing.assert_allclose(values[R @ 1], (ranks == 1).mean())
    np.testing.assert_allclose(values[R @ 10], (ranks <= 10).mean())


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
