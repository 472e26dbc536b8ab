"""A search of a sample of a pool counts by arm, miners and replicate, and its record says what they are."""

import numpy as np
from planted import WHERE, Planted, index, queries_of, whole_numbers
from small_pool import pool_set

from mteb_vehicle_search.eval_set.groups import counts_of_groups
from mteb_vehicle_search.search.result import extra_scores, queries_table


def test_images_above_are_counted_by_group(tmp_path):
    eval_set = pool_set(tmp_path / "set", near=9, drawn=45, far=90)
    vectors = whole_numbers(eval_set)
    with index(Planted(vectors), eval_set) as search:
        search.search(queries_of(eval_set), top_k=10, **WHERE, encode_kwargs={"batch_size": 5})
        outcome = search.found()
    table = queries_table(outcome, eval_set)
    unit = {key: vector / np.linalg.norm(vector) for key, vector in vectors.items()}
    ids, groups = eval_set.corpus_ids(), eval_set.groups
    expected = {f"above_{group}": [] for group in sorted(set(groups))}
    for query, relevant in zip(table["query_id"].to_pylist(), table["relevant_id"].to_pylist()):
        scores = np.array([unit[query] @ unit[one] for one in ids])
        over = scores > unit[query] @ unit[relevant] - 1e-6
        over[ids.index(relevant)] = False
        for group in sorted(set(groups)):
            expected[f"above_{group}"].append(sum(over[at] for at, one in enumerate(groups) if one == group))
    assert {name: table[name].to_pylist() for name in table.column_names if name.startswith("above_")} == expected
    assert outcome.info["sources"] == counts_of_groups(eval_set)
    assert outcome.info["pool"] == eval_set.pool
    ranks = np.array(table["rank"].to_pylist())
    captioned = np.array(expected["above_flickr30k"])
    assert extra_scores(outcome, eval_set)["beaten_only_by_distractors"] == np.mean((ranks > 1) & (captioned == 0))
