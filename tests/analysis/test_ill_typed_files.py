"""Files whose fields have the wrong types: read as far as that has a meaning, or refused with a reason."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hand_made_runs import hand_made, info_of, table_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mteb_vehicle_search.analysis import formats
from mteb_vehicle_search.analysis.document import violations
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard, read_leaderboard
from mteb_vehicle_search.analysis.selection import choose_runs
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import write_run_record

ID, HUGE = "5" * 64, 10**400
# Every type that JSON has, and what Python writes and reads beside it.
VALUES = [
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.5, HUGE, -HUGE, 2**63, 1e300, math.nan, math.inf, -math.inf),
    *("", "x", "\x00", "=cmd", "[a](javascript:b)", "|", "\ud83d", [], [None], ["x", 1], {}, {"x": None}, {"x": {}}),
]
RUN = {"images_id": "7" * 64, "sources_id": "8" * 64, "options": {"a": "1"}, "precision": "fp32", "preprocess": "exact"}
FILES: dict[str, dict[str, Any]] = {
    "results/org__m/r/Task.json": {
        "task_name": "Task",
        "dataset_revision": ID,
        "mteb_version": "2",
        "date": 1_762_041_600.25,
        "scores": {"test": [{"ndcg_at_10": 0.75, "map_at_10": 0.5, "median_rank": 2.0, "run": RUN}]},
    },
    "results/org__m/r/model_meta.json": {
        "name": "some/model",
        "revision": "0" * 40,
        "experiment_kwargs": {"a": 1},
        "n_parameters": 5,
        "embed_dim": 3,
        "license": "mit",
        "training_datasets": ["flickr30k"],
    },
    "results/reported.json": {
        "schema_version": 2,
        "reported": [
            {
                "task_name": "Task",
                "model_name": "M",
                "source": "a paper",
                "corpus_size": 100,
                "query_count": 4,
                "content_id": ID,
                "scores": {"ndcg_at_10": 0.5},
            }
        ],
    },
    "run.json": {
        **info_of(task_name="Task", title="A Title", finished="2026-01-01", device="cpu", images_per_s=1.0, **RUN),
        **{"schema_version": 1, "versions": {"mteb": "2"}, "encoder": {"preprocess": "exact"}, "embed_dim": 3},
        **{"n_parameters": 5, "training_datasets": ["x"], "batch_size": 32, "scores": {"ndcg_at_10": 0.75}},
    },
}


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every field of a JSON value, and of the whole."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*path, key))


def with_changed(value: Any, path: tuple, new: Any) -> Any:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = with_changed(value[path[0]], path[1:], new)
    return changed


PLACES = [(name, path) for name, content in FILES.items() for path in places(content)]


@pytest.fixture
def tree(home) -> dict[str, Path]:
    """A result with its metadata, its run record, and published figures."""
    record = write_run_record(table_of(hand_made([1, 3])), FILES["run.json"])
    paths = {name: record.folder / name if name == "run.json" else Path(name).absolute() for name in FILES}
    for name, content in FILES.items():
        write(paths[name], content)
    return paths


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def used(tree: dict[str, Path]) -> None:
    """Read everything and show it in every form."""
    with suppress(ResultsError):
        board = build_leaderboard()
        assert all(one.reason and isinstance(one.reason, str) for one in board.skipped)
        assert violations(board.document) == []
        formats.show(board.document)
        for text in (*formats.TABLES.values(), *formats.FILES.values()):
            assert text(board.document)
    for model in ("some/model", str(tree["run.json"].parent)):
        with suppress(ResultsError):
            choose_runs([model])


def test_as_they_are_they_are_one_row(tree):
    board = build_leaderboard()
    (row,) = board.document["tables"][0]["rows"]
    assert (row["name"], row["has_run_record"], board.skipped) == ("some/model[a=1]", True, [])
    assert formats.reported_parts(board.document)[0][0] is board.document["tables"][0]


@pytest.mark.parametrize(("name", "path"), PLACES)
def test_a_field_of_any_type_is_read_or_refused(tree, name, path, capsys):
    for value in VALUES:
        write(tree[name], with_changed(FILES[name], path, value))
        used(tree)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), json_values), min_size=2, max_size=5))
def test_several_fields_of_any_type_are_read_or_refused(tree, changes):
    contents = dict(FILES)
    for (name, path), value in changes:
        if path in list(places(contents[name])):
            contents[name] = with_changed(contents[name], path, value)
    for name, content in contents.items():
        write(tree[name], content)
    used(tree)


@pytest.mark.parametrize("name", ["results/org__m/r/Task.json", "results/org__m/r/model_meta.json", "run.json"])
@pytest.mark.parametrize("text", ["", "[" * 99_999, '{"a":' * 99_999, "1" * 9_999, "\ufeff{}", '{"a": 1e999}', "nul"])
def test_what_is_no_json_object_is_refused(tree, capsys, name, text):
    tree[name].write_text(text, encoding="utf-8")
    used(tree)


@pytest.mark.parametrize("version", [1, 2])
def test_a_leaderboard_of_any_types_is_read_or_refused(tree, tmp_path, version):
    document = {**build_leaderboard().document, "schema_version": version}
    path = tmp_path / "leaderboard.json"
    for at in places(document):
        for value in VALUES:
            write(path, with_changed(document, at, value))
            with suppress(ResultsError):
                read = read_leaderboard(path)
                assert violations(read) == []
                for text in (*formats.TABLES.values(), *formats.FILES.values()):
                    assert text(read)
