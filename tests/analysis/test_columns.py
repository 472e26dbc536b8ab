"""The schema of leaderboard.json: every field is needed, typed, and known."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mteb_vehicle_search.analysis.columns import row_columns
from mteb_vehicle_search.analysis.document import DOCUMENT, TABLE, reported_fields, violations
from mteb_vehicle_search.metrics import scored

VALUES = {
    "null": None,
    "boolean": True,
    "integer": 3,
    "number": 0.5,
    "string": "text",
    "array": [],
    "object": {},
}
# What fits beside the type itself: an integer is a number.
ALSO = {"integer": {"number"}}
SCORE = {"null", "number"}
TYPES = {
    "DOCUMENT": {"schema_version": {"integer"}, "sorted_by": {"string"}, "tables": {"array"}, "reported": {"array"}},
    "TABLE": {
        "task": {"string"},
        "title": {"string"},
        "content_id": {"string"},
        "images_id": {"string", "null"},
        "sources_id": {"string", "null"},
        "corpus_size": {"integer", "null"},
        "query_count": {"integer", "null"},
        "sources": {"object", "null"},
        "one_relevant": {"boolean", "null"},
        "chance": {"object", "null"},
        "rows": {"array"},
    },
    "ROW": {
        "rank": {"integer", "null"},
        "rank_last": {"integer", "null"},
        "name": {"string"},
        "model": {"string"},
        "revision": {"string"},
        "options": {"object"},
        **dict.fromkeys(scored(), SCORE),
        "ndcg_at_10_ci_low": SCORE,
        "ndcg_at_10_ci_high": SCORE,
        "ndcg_at_10_ci_images": {"integer", "null"},
        "median_rank": SCORE,
        "better_than_chance": {"boolean", "null"},
        "tied_queries": {"integer", "null"},
        "ndcg_at_10_if_first": SCORE,
        "texts_cut": {"integer", "null"},
        "context_tokens": {"integer", "null"},
        "pool_ndcg_at_10": SCORE,
        "pool_ndcg_at_10_ci_low": SCORE,
        "pool_ndcg_at_10_ci_high": SCORE,
        "pool_recall_at_1": SCORE,
        "pool_mean_rank": SCORE,
        "corrected_ndcg_at_10": SCORE,
        "corrected_ndcg_at_10_ci_low": SCORE,
        "corrected_ndcg_at_10_ci_high": SCORE,
        "corrected_ndcg_at_10_judging_low": SCORE,
        "corrected_ndcg_at_10_judging_high": SCORE,
        "corrected_ndcg_at_10_partly": SCORE,
        "corrected_units": {"integer", "null"},
        "corrected_predicted_by": {"string", "null"},
        "corrected_why": {"string", "null"},
        "miner_family": {"string", "null"},
        "n_parameters": {"integer", "null"},
        "embed_dim": {"integer", "null"},
        "precision": {"string", "null"},
        "preprocess": {"string", "null"},
        "device": {"string", "null"},
        "images_per_s": SCORE,
        "date": {"string", "null"},
        "versions": {"object"},
        "license": {"string", "null"},
        "flickr30k_in_training": {"boolean", "null"},
        "imported_from": {"string", "null"},
        "depth": {"integer", "null"},
        "missing_queries": {"integer", "null"},
        "has_run_record": {"boolean"},
    },
    "REPORTED": {
        "task": {"string"},
        "corpus_size": {"integer", "null"},
        "query_count": {"integer", "null"},
        "content_id": {"string", "null"},
        "model": {"string"},
        "source": {"string"},
        **dict.fromkeys(scored(), SCORE),
    },
}


def filled(kind: str) -> dict[str, Any]:
    return {name: VALUES[min(types)] for name, types in TYPES[kind].items()}


def document() -> dict[str, Any]:
    """Return a document that conforms, with two tables of two rows and two published figures."""
    tables = [{**filled("TABLE"), "rows": [filled("ROW"), filled("ROW")]} for _ in range(2)]
    return {
        **filled("DOCUMENT"),
        "schema_version": 2,
        "tables": tables,
        "reported": [filled("REPORTED"), filled("REPORTED")],
    }


WHERE = {
    "DOCUMENT": ("document", lambda d: d),
    "TABLE": ("tables[1]", lambda d: d["tables"][1]),
    "ROW": ("tables[1].rows[1]", lambda d: d["tables"][1]["rows"][1]),
    "REPORTED": ("reported[1]", lambda d: d["reported"][1]),
}
FIELDS_OF = {"DOCUMENT": DOCUMENT, "TABLE": TABLE, "ROW": row_columns(), "REPORTED": reported_fields()}
FIELDS = [(kind, name) for kind, types in TYPES.items() for name in types]


def test_the_fields_and_their_order():
    for kind, fields in FIELDS_OF.items():
        assert list(fields) == list(TYPES[kind])
        assert all(field.meaning for field in fields.values())
    assert violations(document()) == []


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_missing_field_is_the_only_complaint(kind, name):
    found = document()
    where, part = WHERE[kind]
    del part(found)[name]
    assert violations(found) == [f"{where}.{name} is missing"]


@pytest.mark.parametrize("kind", TYPES)
def test_an_unknown_field_is_the_only_complaint(kind):
    found = document()
    where, part = WHERE[kind]
    part(found)["more"] = 1
    assert violations(found) == [f"{where}.more is unknown"]


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_every_field_has_its_types_and_no_others(kind, name):
    where, part = WHERE[kind]
    allowed = TYPES[kind][name]
    # These are looked into further.
    if name in ("tables", "reported", "rows", "schema_version"):
        tried = VALUES.keys() - allowed
    else:
        tried = VALUES.keys()
    for type_name in tried:
        found = document()
        part(found)[name] = copy.copy(VALUES[type_name])
        fits = bool({type_name, *ALSO.get(type_name, ())} & allowed)
        said = [] if fits else [f"{where}.{name} is {VALUES[type_name]!r}, not {' or '.join(_as_listed(kind, name))}"]
        assert violations(found) == said


def _as_listed(kind: str, name: str) -> tuple[str, ...]:
    return FIELDS_OF[kind][name].types


@pytest.mark.parametrize("value", [float("nan"), float("inf"), (1,), {1}, 1 << 63])
def test_what_json_does_not_have_fits_nowhere(value):
    for kind, name in FIELDS:
        found = document()
        WHERE[kind][1](found)[name] = value
        assert len(violations(found)) == 1


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_a_part_that_is_no_object_is_named(value):
    assert violations(value) == ["document is not an object"]
    for at, where in (("tables", "tables[1]"), ("reported", "reported[1]")):
        found = document()
        found[at][1] = value
        assert violations(found) == [f"{where} is not an object"]
    found = document()
    found["tables"][0]["rows"][1] = value
    assert violations(found) == ["tables[0].rows[1] is not an object"]


@pytest.mark.parametrize("version", [0, 1, 3])
def test_another_version_is_the_only_complaint(version):
    found = document()
    found["schema_version"] = version
    del found["tables"][0]["task"]
    assert violations(found) == [f"document.schema_version is {version}, not 2"]


def test_all_complaints_are_listed():
    found = document()
    del found["tables"][0]["task"]
    found["tables"][0]["rows"] = ["not looked into, since the table is damaged"]
    found["tables"][1]["rows"][0]["rank"] = "first"
    found["reported"][0]["model"] = 5
    assert violations(found) == [
        "tables[0].task is missing",
        "tables[1].rows[0].rank is 'first', not integer or null",
        "reported[0].model is 5, not string",
    ]
    found["sorted_by"] = None
    assert violations(found) == ["document.sorted_by is None, not string"]
