"""Run records on disk: whole or not at all, sorted, strict, and found again."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forked import status_of

from mteb_vehicle_search import run_record
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunKey, RunRecord, options_of, record_files, write_run_record
from mteb_vehicle_search.settings import runs_folder

CONTENT = "c" * 64
NAMED = {"content_id": CONTENT, "model_name": "org/model", "model_revision": "r1"}
FOLDER = RunKey.of(NAMED).folder_name
INFO = {"task_name": "VehicleImageSearch", "scores": {"ndcg_at_10": 0.5}, "note": "Größe"}


def table(*pairs) -> pa.Table:
    given = pairs or (("q1", "b"), ("q1", "a"), ("q0", "z"))
    return pa.table(
        {
            "query_id": [query for query, _ in given],
            "relevant_id": [image for _, image in given],
            "rank": pa.array(range(1, len(given) + 1), pa.int32()),
        }
    )


def write(name="org/model", revision="r1", queries=None, content_id=CONTENT, **info) -> RunRecord:
    return write_run_record(
        table() if queries is None else queries,
        {**{**INFO, **info}, "content_id": content_id, "model_name": name, "model_revision": revision},
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def key(**changed: Any) -> RunKey:
    return RunKey("c" * 64, "i" * 64, "org/model", "r1")._replace(**changed)


NAMES = [
    "a/b",
    "a__b",
    "a_b",
    "a b",
    "../../../../data",
    "..",
    "a/../b",
    "größe",
    "CON",
    "x" * 300,
    "a:b*?",
    "a/b/",
    "A/b",
]


def test_folder_names_are_safe_and_no_two_runs_share_one():
    keys = [key(model=name) for name in NAMES] + [key(revision=name) for name in ["", *NAMES]]
    keys += [key(options=(("a", "1"),)), key(options=(("a", "2"),)), key(options=(("a", "1"), ("b", "1")))]
    keys += [key(precision="bf16"), key(preprocess="fast"), key(images_id="j" * 64), key(content_id="d" * 64), key()]
    names = [one.folder_name for one in keys]
    assert len({name.lower() for name in names}) == len(keys)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,130}", name), name
        assert Path(name).name == name


def test_a_folder_name_can_be_read():
    assert key(revision="0123456789abcdef").folder_name.startswith("org__model__0123456789ab__")
    assert key(revision="").folder_name.startswith("org__model__no_revision_available__")


def test_a_record_lies_under_its_content_id_and_model():
    record = write("org/model", None)
    assert record.folder == runs_folder() / CONTENT / record.key.folder_name
    assert sorted(files(runs_folder())) == [
        f"{CONTENT}/{record.key.folder_name}/{name}" for name in ("queries.parquet", "run.json")
    ]


def test_a_set_of_a_strange_id_stays_in_the_folder_of_runs():
    record = write(content_id="../../data")
    assert runs_folder() in record.folder.parents
    assert ".." not in record.folder.relative_to(runs_folder()).parts
    assert record.key.content_id == "../../data"


def test_what_is_no_record_is_never_deleted():
    folder = write().folder
    (folder / "run.json").rename(folder / "mine.txt")
    with pytest.raises(ResultsError, match="in the way"):
        write()
    assert (folder / "mine.txt").is_file()


def test_a_key_says_all_that_decides_the_numbers():
    given = {
        "content_id": "c",
        "images_id": "i",
        "model_name": "m",
        "model_revision": "r",
        "options": {"b": "2", "a": 1},
    }
    found = RunKey.of({**given, "precision": "bf16", "preprocess": "fast"})
    assert found == ("c", "i", "m", "r", (("a", "1"), ("b", "2")), "bf16", "fast")
    assert found.name == "m[a=1,b=2]"
    assert found.full_name == "m@r[a=1,b=2,precision=bf16,preprocess=fast]"


def test_the_key_of_an_earlier_record_says_what_is_known():
    earlier = {"content_id": "c", "model_name": "m", "model_revision": None, "precision": "fp32"}
    assert RunKey.of(earlier) == ("c", "", "m", "", (), "fp32", "")
    assert RunKey.of({**earlier, "encoder": {"preprocess": "exact"}}).preprocess == "exact"
    assert RunKey.of({**earlier, "model_revision": "no_revision_available"}) == RunKey.of(earlier)
    assert RunKey.of(earlier).full_name == "m@no_revision_available[precision=fp32]"
    assert RunKey.of({"options": [1], "encoder": "x"}) == ("", "", "", "", (), "unknown", "")


def test_precision_and_preprocessing_are_no_options_beside_themselves():
    asked = {"options": {"precision": "fp32", "preprocess": "fast", "a": "1"}}
    assert RunKey.of({**asked, "precision": "fp32", "preprocess": "fast"})[4:] == ((("a", "1"),), "fp32", "fast")
    assert RunKey.of(asked)[4:] == ((("a", "1"),), "fp32", "fast"), "where the encoder does not tell"


def test_options_are_texts():
    given = {"task": "retrieval", "embed_dim": 64, "flag": True, "nothing": None, "list": [1, "a"], "path": Path("x")}
    assert options_of(given) == {
        **{"embed_dim": "64", "flag": "true", "list": '[1, "a"]', "nothing": "null", "path": '"x"'},
        "task": "retrieval",
    }
    assert options_of(None) == {}


def test_runs_that_differ_in_what_decides_the_numbers_have_records_of_their_own():
    kinds = [
        {},
        {"options": {"embed_dim": "64"}},
        {"precision": "bf16"},
        {"preprocess": "fast"},
        {"images_id": "other"},
    ]
    records = [write(**kind) for kind in kinds]
    assert len({record.folder for record in records}) == len(RunRecord.find()) == len(kinds)


def test_what_was_written_is_read_again():
    record = write()
    for one in (record, RunRecord.open(record.folder), RunRecord.open(str(record.folder))):
        assert one.folder == record.folder
        assert one.info == {"schema_version": 1, **INFO, **NAMED}
        found = one.queries().to_pydict()
        assert found == {"query_id": ["q0", "q1", "q1"], "relevant_id": ["z", "a", "b"], "rank": [3, 2, 1]}
    assert one.queries().schema.field("rank").type == pa.int32()


def test_run_json_is_utf_8_with_a_line_for_each_field():
    text = (write().folder / "run.json").read_bytes().decode("utf-8")
    assert "\r" not in text
    assert text.endswith("\n}\n")
    assert '\n  "note": "Größe"' in text


def test_the_same_run_gives_the_same_bytes_whatever_the_order_of_its_rows():
    pairs = [("q1", "b"), ("q1", "a"), ("q0", "z"), ("q2", "a")]
    rows = [{"query_id": q, "relevant_id": r, "rank": rank} for rank, (q, r) in enumerate(pairs)]
    first = files(write(queries=pa.Table.from_pylist(rows)).folder)
    assert files(write(queries=pa.Table.from_pylist(rows[::-1])).folder) == first


def test_the_table_is_compressed_with_zstd():
    metadata = pq.read_metadata(write().folder / "queries.parquet")
    assert {metadata.row_group(0).column(i).compression for i in range(3)} == {"ZSTD"}


def test_a_new_record_replaces_the_old_one_whole():
    old = write(started="once")
    (old.folder / "left-over").write_text("of an older version")
    new = write(queries=table(("q9", "x")), finished="now")
    assert new.folder == old.folder
    assert sorted(files(runs_folder() / CONTENT)) == [f"{FOLDER}/queries.parquet", f"{FOLDER}/run.json"]
    assert new.info == {"schema_version": 1, **INFO, "finished": "now", **NAMED}
    assert new.queries()["query_id"].to_pylist() == ["q9"]


def test_what_a_killed_run_left_is_cleared_away():
    left = runs_folder() / CONTENT / f".{FOLDER}.partial"
    left.mkdir(parents=True)
    (left / "queries.parquet").write_bytes(b"half")
    (left / "other").write_bytes(b"x")
    write()
    assert sorted(files(runs_folder() / CONTENT)) == [f"{FOLDER}/queries.parquet", f"{FOLDER}/run.json"]


def test_other_models_and_sets_stay():
    write("org/model", "r1")
    write("org/model", "r2")
    write("org/other", "r1")
    write("org/model", "r1", content_id="d" * 64)
    before = files(runs_folder())
    write("org/model", "r1")
    assert files(runs_folder()) == before
    assert len(before) == 8


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_json_is_refused_and_the_old_record_stays(value):
    before = files(write().folder)
    with pytest.raises(ValueError, match="JSON"):
        write(images_per_s=value)
    assert files(runs_folder() / CONTENT / FOLDER) == before


def test_a_record_that_cannot_be_written_leaves_the_old_one(monkeypatch):
    before = files(write().folder)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        write(note="newer")
    assert files(runs_folder() / CONTENT / FOLDER) == before


def test_nothing_is_seen_of_a_record_before_it_is_whole(monkeypatch):
    """Both files are there when the folder gets its name."""
    seen = []
    rename = Path.rename

    def watched(self, target):
        seen.append((sorted(path.name for path in self.iterdir()), target.exists()))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    write()
    assert seen == [(["queries.parquet", "run.json"], False)]


def damage(path: Path, how: str) -> None:
    if how == "missing":
        path.unlink()
    else:
        path.write_text(how, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "how", "message"),
    [
        ("run.json", "missing", "is not a run record: .*No such file"),
        ("run.json", "{half", "is not a run record"),
        ("run.json", "[1]", "is not a run record"),
        ("run.json", '{"task_name": "x"}', "is not a run record: 'schema_version'"),
        ("run.json", '{"schema_version": 2}', r"run\.json has schema version 2; this package reads 1"),
        ("run.json", '{"schema_version": 0}', r"run\.json has schema version 0; this package reads 1"),
        ("queries.parquet", "missing", r"has no queries\.parquet"),
    ],
)
def test_a_damaged_record_is_refused_by_name(file, how, message):
    folder = write().folder
    damage(folder / file, how)
    with pytest.raises(ResultsError, match=message) as caught:
        RunRecord.open(folder)
    assert str(folder) in caught.value.message


def test_run_json_that_is_not_utf_8_is_refused():
    folder = write().folder
    (folder / "run.json").write_bytes('{"schema_version": 1, "note": "Größe"}'.encode("latin-1"))
    with pytest.raises(ResultsError, match="is not a run record"):
        RunRecord.open(folder)


@pytest.mark.parametrize("how", ["", "PAR1 no table PAR1"])
def test_a_damaged_table_is_refused_by_name_when_it_is_read(how):
    record = write()
    damage(record.folder / "queries.parquet", how)
    with pytest.raises(ResultsError, match="cannot be read") as caught:
        RunRecord.open(record.folder).queries()
    assert str(record.folder / "queries.parquet") in caught.value.message
    assert caught.value.hint == "Run the model again."


def test_a_missing_table_says_how_to_get_it_again():
    folder = write().folder
    (folder / "queries.parquet").unlink()
    with pytest.raises(ResultsError) as caught:
        RunRecord.open(folder)
    assert caught.value.hint == "Run the model again."


def test_records_are_found_sorted_and_by_content_id(tmp_path, monkeypatch):
    for name, content in (("org/b", "c" * 64), ("org/a", "d" * 64), ("org/a", "c" * 64)):
        write(name, content_id=content)
    names = ["org/a", "org/b", "org/a"]
    assert [record.key.model for record in RunRecord.find()] == names
    assert [record.folder.parent.name[0] for record in RunRecord.find()] == ["c", "c", "d"]
    assert [record.key.model for record in RunRecord.find(content_id="c" * 64)] == names[:2]
    assert RunRecord.find(content_id="e" * 64) == []
    assert RunRecord.find(tmp_path / "elsewhere") == []
    root = runs_folder()
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "new home"))
    assert RunRecord.find() == []
    for place in (root, str(root)):
        assert [record.key.model for record in RunRecord.find(place)] == names


DEATHS = {
    "before the earlier record goes aside": (1, "first"),
    "between the two renames": (2, "first"),
    "before the earlier record is deleted": (3, "second"),
}


@pytest.mark.parametrize("moment", DEATHS)
def test_a_process_that_dies_while_it_replaces_a_record_leaves_one(moment):
    at, kept = DEATHS[moment]
    write(note="first")

    def replaced():
        steps = itertools.count(1)
        rename, rmtree = Path.rename, shutil.rmtree

        def step(original):
            def watched(*args, **kwargs):
                if next(steps) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return watched

        Path.rename, shutil.rmtree = step(rename), step(rmtree)  # type: ignore[method-assign, assignment]
        write(note="second")

    assert status_of(replaced) == -signal.SIGKILL
    (found,) = RunRecord.find()
    assert found.info["note"] == kept
    (path,) = record_files(runs_folder())
    assert path.parent == found.folder
    assert write(note="third").info["note"] == "third"
    assert len(files(runs_folder())) == 2, "and nothing stays behind"


def test_a_damaged_record_is_named_and_the_others_are_found():
    for name in ("org/a", "org/b", "org/c"):
        write(name)
    (damaged,) = runs_folder().rglob("org__b__r1__*")
    damage(damaged / "run.json", "{half")
    with pytest.warns(UserWarning, match=f"Skipped: .*{damaged.name} is not a run record") as caught:
        found = RunRecord.find()
    assert [record.key.model for record in found] == ["org/a", "org/c"]
    assert [Path(one.filename).name for one in caught] == [Path(__file__).name]  # the caller's line is shown


def test_finding_whole_records_warns_of_nothing():
    write()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(RunRecord.find()) == 1


def test_the_format_is_version_1_with_ten_best_images():
    assert (run_record.SCHEMA_VERSION, run_record.TOP) == (1, 10)
    assert json.loads((write().folder / "run.json").read_text(encoding="utf-8"))["schema_version"] == 1
