"""Run records on disk: whole or not at all, sorted, strict, and found again."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mteb_vehicle_search import run_record
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunRecord, model_folder_name, write_run_record
from mteb_vehicle_search.settings import runs_folder

CONTENT = "c" * 64
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
    return write_run_record(content_id, name, revision, table() if queries is None else queries, {**INFO, **info})


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "revision", "folder"),
    [
        ("org/model", "abc", "org__model__abc"),
        ("model", "abc", "model__abc"),
        ("org/model", None, "org__model__no_revision_available"),
        ("org/model", "", "org__model__no_revision_available"),
        ("org/a.b-c_d+e9", "r", "org__a.b-c_d+e9__r"),
        ("org/größe", "r", "org__größe__r"),
        ("org/a b:c*(d=1)", "r", "org__a_b_c__d_1___r"),
    ],
)
def test_the_folder_of_a_model(name, revision, folder):
    assert model_folder_name(name, revision) == folder


def test_a_record_lies_under_its_content_id_and_model():
    record = write("org/model", None)
    assert record.folder == runs_folder() / CONTENT / "org__model__no_revision_available"
    assert sorted(files(runs_folder())) == [
        f"{CONTENT}/org__model__no_revision_available/{name}" for name in ("queries.parquet", "run.json")
    ]


def test_what_was_written_is_read_again():
    record = write()
    for one in (record, RunRecord.open(record.folder), RunRecord.open(str(record.folder))):
        assert one.folder == record.folder
        assert one.info == {"schema_version": 1, **INFO}
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
    assert sorted(files(runs_folder() / CONTENT)) == ["org__model__r1/queries.parquet", "org__model__r1/run.json"]
    assert new.info == {"schema_version": 1, **INFO, "finished": "now"}
    assert new.queries()["query_id"].to_pylist() == ["q9"]


def test_what_a_killed_run_left_is_cleared_away():
    left = runs_folder() / CONTENT / ".org__model__r1.partial"
    left.mkdir(parents=True)
    (left / "queries.parquet").write_bytes(b"half")
    (left / "other").write_bytes(b"x")
    write()
    assert sorted(files(runs_folder() / CONTENT)) == ["org__model__r1/queries.parquet", "org__model__r1/run.json"]


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
    assert files(runs_folder() / CONTENT / "org__model__r1") == before


def test_a_record_that_cannot_be_written_leaves_the_old_one(monkeypatch):
    before = files(write().folder)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        write(note="newer")
    assert files(runs_folder() / CONTENT / "org__model__r1") == before


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
    names = ["org__a__r1", "org__b__r1", "org__a__r1"]
    assert [record.folder.name for record in RunRecord.find()] == names
    assert [record.folder.parent.name[0] for record in RunRecord.find()] == ["c", "c", "d"]
    assert [record.folder.name for record in RunRecord.find(content_id="c" * 64)] == names[:2]
    assert RunRecord.find(content_id="e" * 64) == []
    assert RunRecord.find(tmp_path / "elsewhere") == []
    root = runs_folder()
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "new home"))
    assert RunRecord.find() == []
    for place in (root, str(root)):
        assert [record.folder.name for record in RunRecord.find(place)] == names


def test_a_damaged_record_is_named_and_the_others_are_found():
    for name in ("org/a", "org/b", "org/c"):
        write(name)
    damage(runs_folder() / CONTENT / "org__b__r1" / "run.json", "{half")
    with pytest.warns(UserWarning, match="Skipped: .*org__b__r1 is not a run record") as caught:
        found = RunRecord.find()
    assert [record.folder.name for record in found] == ["org__a__r1", "org__c__r1"]
    assert [Path(one.filename).name for one in caught] == [Path(__file__).name]  # the caller's line is shown


def test_finding_whole_records_warns_of_nothing():
    write()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(RunRecord.find()) == 1


def test_the_format_is_version_1_with_ten_best_images():
    assert (run_record.SCHEMA_VERSION, run_record.TOP) == (1, 10)
    assert json.loads((write().folder / "run.json").read_text(encoding="utf-8"))["schema_version"] == 1
