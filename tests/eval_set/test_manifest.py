"""A manifest is data that a stranger may have written: it is refused with a sentence, or it is what it must be."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EvalSetError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import is_content_id, is_line, is_task_name

MINI = json.loads((settings.mini_folder() / "manifest.json").read_text(encoding="utf-8"))
SHORT = {key: value for key, value in MINI.items() if key != "notes"} | {"notes": {}}
FILE = {"bytes": 1, "sha256": "a" * 64}


def write(folder: Path, content: object) -> Path:
    (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


OUTSIDE = [
    *("../corpus/x.parquet", "corpus/../../x.parquet", "corpus/..", "/etc/passwd", "//host/share/x", "corpus//x"),
    *("corpus/./x", "..", ".", "", "corpus/", "C:/x.parquet", "C:x", "corpus\\..\\..\\x", "\\\\host\\x"),
    *("corpus/x\n.parquet", "corpus/x\x00", "corpus/.. /x", "corpus/.../x", "corpus/\ud800"),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_file_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(EvalSetError, match=r"'files' is .*, not the size and sha256 of files in this folder"):
        EvalSet.open(write(tmp_path, {**SHORT, "files": {**SHORT["files"], name: FILE}}))


@pytest.mark.parametrize("name", ["", ".", "..", "...", "a/b", "../a", "/a", "a\\b", "a\n", "a\x00", 5, None, "\udcff"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(EvalSetError, match=r"'name' is .*, not a name without path separators"):
        EvalSet.open(write(tmp_path, {**SHORT, "name": name}))


@pytest.mark.parametrize("key", ["content_id", "bytes_id", "images_id", "sources_id"])
@pytest.mark.parametrize(
    "value", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "../" * 21 + "a", 5, None]
)
def test_a_digest_is_64_hexadecimal_digits(tmp_path, key, value):
    with pytest.raises(EvalSetError, match=f"'{key}' is .*, not 64 lower-case hexadecimal digits"):
        EvalSet.open(write(tmp_path, {**SHORT, key: value}))


@pytest.mark.parametrize(
    "change",
    [
        {"title": "a\x1b]0;b\x07"},
        {"task_name": "dogs"},
        {"task_name": "../Dogs"},
        {"task_name": None},
        {"policy": {"colours": "all"}},
        {"policy": {"shortest_side_px": "small"}},
        {"policy": {"shortest_side_px": True}},
        {"policy": {"shortest_side_px": 0}},
        {"policy": {"resample": 5}},
        {"counts": {}},
        {"counts": {**SHORT["counts"], "queries": -1}},
        {"counts": {**SHORT["counts"], "queries": 1.5}},
        {"counts": {**SHORT["counts"], "queries": True}},
        {"counts": {**SHORT["counts"], "sources": {"drawn": "many"}}},
        {"counts": {**SHORT["counts"], "sources": []}},
        {"files": {"a": {"bytes": -1, "sha256": "a" * 64}}},
        {"files": {"a": {"bytes": 1, "sha256": "a"}}},
        {"files": {"a": "b"}},
        {"preset": {"duplicates": {"max_distance": "4"}}},
        {"preset": {"duplicates": 4}},
        {"sources": {"a": 5}},
        {"sources": {"a": {"bibtex": 5}}},
        {"sources": {"a": {"cite": "x"}}},
        {"sources": {"a": {"cite": [5]}}},
        {"notes": []},
    ],
    ids=str,
)
def test_a_field_that_is_used_is_what_it_must_be(tmp_path, change):
    (key,) = change
    with pytest.raises(EvalSetError, match=f"manifest.json is not a manifest: '{key}' is "):
        EvalSet.open(write(tmp_path, {**SHORT, **change}))


@pytest.mark.parametrize("key", ["bytes_id", "images_id", "sources_id", "task_name", "title", "preset", "sources"])
def test_a_set_of_an_earlier_version_is_read(tmp_path, key):
    opened = EvalSet.open(write(tmp_path, {name: value for name, value in SHORT.items() if name != key}))
    assert opened.task_name == "VehicleImageSearchMini"
    assert opened.title in ("Vehicle Image Search Mini", "VehicleImageSearchMini")


def test_json_too_deep_to_read_is_an_error_of_ours(tmp_path):
    (tmp_path / "manifest.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(EvalSetError, match="is not a manifest"):
        EvalSet.open(tmp_path)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Every field, however deep."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in inner for place in places(child, (*path, key)))]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["..", "/", "a" * 64, 0, -1]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(OUTSIDE), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(place=st.sampled_from(places(SHORT)), value=ANY)
def test_whatever_a_field_holds_it_is_refused_or_can_be_used(place, value):
    content = copy.deepcopy(SHORT)
    if place:
        *above, last = place
        inside: Any = content
        for key in above:
            inside = inside[key]
        inside[last] = value
    else:
        content = value
    with tempfile.TemporaryDirectory() as name:
        folder = write(Path(name), content)
        try:
            opened = EvalSet.open(folder)
        except EvalSetError as error:
            assert error.message.startswith(str(folder))  # noqa: PT017
            return
        assert all(path.resolve().is_relative_to(folder.resolve()) for path in opened.files("corpus"))
        assert is_content_id(opened.content_id)
        assert is_line(opened.name)
        assert is_line(opened.title)
        assert is_task_name(opened.task_name)
        assert opened.policy.shortest_side_px > 0
        assert opened.manifest["counts"]["queries"] >= 0
        assert all(isinstance(one.get("bibtex", ""), str) for one in opened.manifest.get("sources", {}).values())
