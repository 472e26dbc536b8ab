"""An evaluation set is written whole or not at all, the same bytes each time, and says of itself what is true."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from small_set import jpeg, provenance, small_set

from mteb_vehicle_search.errors import EvalSetError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set import writer as eval_set_writer
from mteb_vehicle_search.eval_set.schema import CorpusImage, ImagePolicy, Qrel, Query, Rejected, content_id
from mteb_vehicle_search.eval_set.writer import About, write_eval_set

ONE_QUERY = {"queries": [Query("q", "text")], "qrels": [Qrel("q", "i0000")]}


def images(count: int, first: int = 0) -> list[CorpusImage]:
    return [CorpusImage(f"i{n:04d}", jpeg(n, (8, 8)), provenance(n, True)) for n in range(first, first + count)]


def image(name: str, **facts) -> CorpusImage:
    return CorpusImage(name, jpeg(1), {**provenance(1, True), **facts})


def read(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("count", "rows_per_file", "files"),
    [
        (3, 4, [[3]]),
        (4, 4, [[4]]),
        (5, 4, [[4], [1]]),
        (9, 4, [[4], [4], [1]]),
        (8, 8, [[4, 4]]),
        (9, 8, [[4, 4], [1]]),
        (17, 8, [[4, 4], [4, 4], [1]]),
        (24, 9, [[4, 4, 4], [4, 4, 4]]),  # Each file is counted from nothing.
        (10, 100, [[4, 4, 2]]),
        (10, 6, [[4, 4], [2]]),  # Whole row groups, though a file is then longer than asked.
    ],
)
def test_images_are_cut_into_row_groups_and_files(tmp_path, monkeypatch, count, rows_per_file, files):
    monkeypatch.setattr(eval_set_writer, "ROWS_PER_GROUP", 4)
    given = images(count)
    written = small_set(tmp_path / "set", images=given, rows_per_file=rows_per_file, **ONE_QUERY)
    paths = sorted((tmp_path / "set" / "corpus").iterdir())
    assert [p.name for p in paths] == [f"test-{n:05d}-of-{len(files):05d}.parquet" for n in range(len(files))]
    groups = [pq.read_metadata(path) for path in paths]
    assert [[g.row_group(n).num_rows for n in range(g.num_row_groups)] for g in groups] == files
    assert list(written.images()) == [(i.id, i.jpeg) for i in given]
    assert written.provenance()["corpus-id"].to_pylist() == [i.id for i in given]
    assert written.manifest["counts"]["corpus"] == count


def test_the_sizes_of_row_groups_and_files(tmp_path):
    """128 images to a row group, which is what a reader keeps in memory; 8,192 to a file."""
    assert inspect.signature(write_eval_set).parameters["rows_per_file"].default == 8192
    small_set(tmp_path / "set", images=images(129), **ONE_QUERY)
    (path,) = (tmp_path / "set" / "corpus").iterdir()
    held = pq.read_metadata(path)
    assert [held.row_group(n).num_rows for n in range(held.num_row_groups)] == [128, 1]


def test_tables_are_compressed_and_images_are_not(tmp_path):
    small_set(tmp_path / "set", captioned=2, distractors=1, rejected=[Rejected("a", "b", "c")])
    kinds = {}
    for path in (tmp_path / "set").rglob("*.parquet"):
        held = pq.read_metadata(path).row_group(0)
        name = path.relative_to(tmp_path / "set").as_posix()
        kinds[name] = {held.column(n).compression for n in range(held.num_columns)}
    assert kinds == {
        "corpus/test-00000-of-00001.parquet": {"UNCOMPRESSED"},
        "queries/test-00000-of-00001.parquet": {"ZSTD"},
        "qrels/test-00000-of-00001.parquet": {"ZSTD"},
        "provenance/test-00000-of-00001.parquet": {"ZSTD"},
        "rejected.parquet": {"ZSTD"},
    }


def test_an_image_has_no_path(tmp_path):
    """The hub's image feature would look for a file."""
    written = small_set(tmp_path / "set", captioned=2, distractors=0)
    column = pq.read_table(written.files("corpus")[0])["image"].to_pylist()
    assert column == [{"bytes": jpeg(n), "path": None} for n in range(2)]


def test_everything_is_sorted_however_it_comes(tmp_path):
    queries = [Query(f"q{n:02d}", f"text {n}") for n in range(20)]
    qrels = [Qrel(f"q{n:02d}", f"i{m:04d}") for n in range(20) for m in (1, n % 3 + 2)]
    rejected = [Rejected(f"r{n}", stage, "why") for n in range(9) for stage in ("a", "b")]
    shuffled = {"queries": [*queries], "qrels": [*qrels], "rejected": [*rejected]}
    for values in shuffled.values():
        random.Random(3).shuffle(values)
    written = small_set(tmp_path / "set", images=images(6), **shuffled)
    assert written.queries() == queries
    assert written.qrels() == qrels
    assert [tuple(row.values()) for row in written.rejected().to_pylist()] == [tuple(r) for r in rejected]
    other = small_set(tmp_path / "other", images=iter(images(6)), queries=queries, qrels=qrels, rejected=rejected)
    assert read(other.folder) == read(written.folder)


def test_provenance_is_kept_and_duplicates_may_be_left_out(tmp_path):
    given = [image("a", duplicates=["b"]), image("b", duplicates=["a"], width=7, source="imagenet"), image("c")]
    written = small_set(tmp_path / "set", images=given, queries=[Query("q", "t")], qrels=[Qrel("q", "a")])
    held = written.provenance().to_pylist()
    assert [row["duplicates"] for row in held] == [["b"], ["a"], []]
    for row, item in zip(held, given):
        wanted = {"corpus-id": item.id, "duplicates": [], **item.provenance}
        assert {**row, "vehicle_score": pytest.approx(0.9)} == {**wanted, "vehicle_score": pytest.approx(0.9)}


def test_the_manifest_says_what_lies_there(tmp_path):
    policy = ImagePolicy(shortest_side_px=90, resample="box", jpeg_quality=80)
    preset, notes = {"name": "cars", "é": [1]}, {"counts": {"a": 1}}
    refused = [Rejected("x", "captioned", "empty file")]
    sources = {"flickr30k": {"terms": "none"}}
    given = {"policy": policy, "preset": preset, "notes": notes, "sources": sources, "rejected": refused}
    written = small_set(tmp_path / "set", captioned=2, distractors=3, rows_per_file=128, **given)
    text = (tmp_path / "set" / "manifest.json").read_bytes()
    held = json.loads(text)
    files = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in read(tmp_path / "set").items()
        if name != "manifest.json"
    }
    assert len(files) == 6
    assert held == {
        "format_version": 1,
        "name": "vehicle-image-search",
        "title": "Vehicle Image Search",
        "task_name": "VehicleImageSearch",
        "images_id": written.images_id,
        "sources_id": written.sources_id,
        "content_id": content_id(written.corpus_ids(), written.queries(), written.qrels(), policy),
        "bytes_id": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest(),
        "policy": {"shortest_side_px": 90, "resample": "box", "jpeg_quality": 80},
        "counts": {
            "corpus": 5,
            "queries": 4,
            "qrels": 4,
            "rejected": 1,
            "sources": {"flickr30k": 2, "imagenet": 3},
        },
        "preset": preset,
        "notes": notes,
        "sources": sources,
        "files": files,
    }
    assert list(held["counts"]["sources"]) == ["flickr30k", "imagenet"]
    assert written.manifest == held
    assert text.endswith(b"}\n")
    assert b"\r" not in text
    assert "é".encode() in text
    assert text == (json.dumps(held, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()


def test_what_is_left_out_has_plain_defaults(tmp_path):
    written = write_eval_set(tmp_path / "s", About("n", "T"), images=images(1), **ONE_QUERY)
    held = written.manifest
    assert (held["preset"], held["notes"], held["counts"]["rejected"]) == ({}, {}, 0)
    assert held["policy"] == {"shortest_side_px": 160, "resample": "bicubic", "jpeg_quality": 75}
    assert (tmp_path / "s" / "README.md").read_text(encoding="utf-8").endswith("---\n\n# T\n\n\n")


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        small_set(tmp_path / "set", notes={"share": float("nan")})
    assert not (tmp_path / "set").exists()


def test_the_card_names_every_part_for_the_hub(tmp_path):
    small_set(tmp_path / "set", title="Vehicles — all", card="\n\nA body.\r\nMore.\n\n")
    data = (tmp_path / "set" / "README.md").read_bytes()
    _, head, body = data.decode().split("---\n", 2)
    facts = yaml.safe_load(head)
    assert [item["config_name"] for item in facts["configs"]] == ["corpus", "queries", "qrels", "provenance"]
    for item in facts["configs"]:
        assert item["data_files"] == [{"split": "test", "path": f"{item['config_name']}/test-*.parquet"}]
    assert facts["task_categories"] == ["text-to-image"]
    assert facts["tags"] == ["mteb", "image", "text"]
    assert body == "\n# Vehicles — all\n\nA body.\r\nMore.\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": [image("b"), image("a")]}, "not sorted by unique id: 'a' follows 'b'"),
        ({"images": [image("a"), image("b"), image("b")]}, "not sorted by unique id: 'b' follows 'b'"),
        ({"images": []}, "needs at least one image"),
        ({"images": [image("a", split=None, wnid=None)]}, "Provenance has empty values in split, wnid"),
        ({"queries": [Query("q", "t"), Query("q", "u")]}, "Two queries have the same id"),
        ({"qrels": [Qrel("q", "a"), Qrel("q", "nowhere")]}, "'q' -> 'nowhere' names an unknown id"),
        ({"queries": [], "qrels": []}, "needs at least one query"),
        ({"queries": [Query("q", " \n")]}, "The query 'q' is empty"),
        ({"queries": [Query("", "t")], "qrels": [Qrel("", "a")]}, "The query id '' is empty or has control"),
        ({"queries": [Query("q\n", "t")], "qrels": [Qrel("q\n", "a")]}, r"The query id 'q\\n' is empty or has control"),
        ({"images": [image(""), image("a")]}, "The image id '' is empty or has control"),
        ({"images": [image("a"), image("b\x1b[1m")]}, r"The image id 'b\\x1b\[1m' is empty or has control"),
        ({"qrels": [Qrel("q", "a"), Qrel("q", "a")]}, "'q' -> 'a' stands twice"),
        ({"qrels": [Qrel("q", "a", 2), Qrel("q", "a")]}, "'q' -> 'a' stands twice"),
        ({"qrels": [Qrel("q", "a", 0)]}, "'q' -> 'a' has score 0; what is relevant has 1 or more"),
        ({"name": "../data"}, "'name' is '../data', not a name without path separators"),
        ({"title": "a\nb"}, r"'title' is 'a\\nb', not a line of text"),
        ({"task_name": "dogs"}, "'task_name' is 'dogs', not a capital and then letters and digits"),
        ({"name": "2024-dogs"}, "'task_name' is '2024Dogs', not a capital"),
        ({"qrels": [Qrel("nobody", "a"), Qrel("q", "a")]}, "'nobody' -> 'a' names an unknown id"),
        (
            {"queries": [Query("q", "t"), Query("z", "t"), Query("y", "t")]},
            "2 queries have no relevant image, first 'y'",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_and_leaves_no_set(tmp_path, given, message):
    sound = {"images": [image("a"), image("b")], "queries": [Query("q", "t")], "qrels": [Qrel("q", "a")]}
    small_set(tmp_path / "ok", **sound)
    with pytest.raises(EvalSetError, match=message):
        small_set(tmp_path / "set", **{**sound, **given})
    assert not (tmp_path / "set").exists()


def test_the_task_is_named_by_the_set_unless_it_is_told(tmp_path):
    assert small_set(tmp_path / "a", name="dog-image-search").task_name == "DogImageSearch"
    assert small_set(tmp_path / "b", name="dog-image-search", task_name="Dogs").task_name == "Dogs"
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["task_name"] == "Dogs"


def test_other_images_under_the_same_ids_are_told_apart(tmp_path):
    """The content id covers what is asked and searched; these two, which pixels, and of which originals."""
    given = images(3)
    first = small_set(tmp_path / "a", images=given, **ONE_QUERY)
    other = [item._replace(jpeg=given[0].jpeg) for item in given]
    pixels = small_set(tmp_path / "b", images=other, **ONE_QUERY)
    facts = [item._replace(provenance={**item.provenance, "sha256": "e" * 64}) for item in given]
    originals = small_set(tmp_path / "c", images=facts, **ONE_QUERY)
    assert first.content_id == pixels.content_id == originals.content_id
    said = [(one.manifest["images_id"], one.manifest["sources_id"]) for one in (first, pixels, originals)]
    assert said == [(one.images_id, one.sources_id) for one in (first, pixels, originals)]
    assert said[1][0] != said[0][0] == said[2][0]
    assert said[2][1] != said[0][1] == said[1][1]


def test_an_image_out_of_place_is_refused_past_a_row_group(tmp_path, monkeypatch):
    monkeypatch.setattr(eval_set_writer, "ROWS_PER_GROUP", 2)
    with pytest.raises(EvalSetError, match="'i0003' follows 'i0003'"):
        small_set(tmp_path / "set", images=[*images(4), *images(1, 3)], rows_per_file=2, **ONE_QUERY)


def test_images_are_taken_as_a_stream(tmp_path, monkeypatch):
    """No more than a row group is held: the third image is read when the first two are on disk."""
    monkeypatch.setattr(eval_set_writer, "ROWS_PER_GROUP", 2)
    held = []

    def stream():
        for number, item in enumerate(images(5)):
            held.append(sum(p.stat().st_size for p in tmp_path.rglob("*.parquet")) if number else 0)
            yield item

    small_set(tmp_path / "set", images=stream(), rows_per_file=2, **ONE_QUERY)
    assert held[1] == 0
    assert 0 < held[2] < held[4]


def test_the_folders_above_are_made(tmp_path):
    small_set(tmp_path / "a" / "b" / "set", captioned=1, distractors=0)
    assert EvalSet.open(tmp_path / "a" / "b" / "set").corpus_ids() == ["flickr30k/0000"]


def test_a_relative_folder_is_one_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = small_set("set", captioned=1, distractors=0)
    assert written.folder == tmp_path / "set"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_what_a_killed_run_left_is_not_taken_over(tmp_path):
    for name in (".set.partial", ".set.old"):
        (tmp_path / name / "corpus").mkdir(parents=True)
        (tmp_path / name / "corpus" / "test-00000-of-00009.parquet").write_bytes(b"half")
    written = small_set(tmp_path / "set", captioned=1, distractors=0)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert [p.name for p in written.files("corpus")] == ["test-00000-of-00001.parquet"]
    assert "corpus/test-00000-of-00009.parquet" not in read(tmp_path / "set")


def stopping_at(place: str, monkeypatch) -> None:
    """Let the writing of a set break off where the manifest, or a rename, is due."""
    if place == "manifest":
        write = Path.write_text

        def stop(self, *args, **options):
            if self.name == "manifest.json":
                raise OSError("the disk is full")
            return write(self, *args, **options)

        monkeypatch.setattr(Path, "write_text", stop)
    else:
        rename = Path.rename

        def stop(self, target):
            if self.name == place:
                raise OSError("the disk is full")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", stop)


@pytest.mark.parametrize(("place", "left_at"), [("manifest", "set"), ("set", "set"), (".set.partial", ".set.old")])
def test_the_old_set_lies_whole_until_the_new_one_does(tmp_path, monkeypatch, place, left_at):
    small_set(tmp_path / "set", captioned=2, distractors=0)
    before = read(tmp_path / "set")
    with monkeypatch.context() as patch:
        stopping_at(place, patch)
        with pytest.raises(OSError, match="the disk is full"):
            small_set(tmp_path / "set", captioned=3, distractors=0)
    assert read(tmp_path / left_at) == before
    small_set(tmp_path / "set", captioned=3, distractors=0)
    assert len(EvalSet.open(tmp_path / "set").corpus_ids()) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_the_new_set_is_complete_before_the_old_one_is_touched(tmp_path, monkeypatch):
    """In order: a complete set beside the old one, the old one aside, the new one in place, the old one deleted."""
    small_set(tmp_path / "set", captioned=2, distractors=0)
    (tmp_path / ".set.old").mkdir()
    steps = []
    rename, rmtree = Path.rename, shutil.rmtree

    def renamed(self, target):
        if self.parent == tmp_path:
            whole = (tmp_path / ".set.partial" / "manifest.json").is_file()
            steps.append((self.name, Path(target).name, whole))
        return rename(self, target)

    def removed(path, *args, **options):
        if Path(path).parent == tmp_path:
            steps.append(("delete", Path(path).name, (tmp_path / ".set.partial" / "manifest.json").is_file()))
        return rmtree(path, *args, **options)

    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr(shutil, "rmtree", removed)
    small_set(tmp_path / "set", captioned=3, distractors=0)
    assert steps == [
        ("delete", ".set.old", True),
        ("set", ".set.old", True),
        (".set.partial", "set", True),
        ("delete", ".set.old", False),
    ]


def test_images_that_break_off_leave_the_old_set(tmp_path):
    first = small_set(tmp_path / "set")

    def failing():
        yield from images(300)
        raise RuntimeError("the power went out")

    with pytest.raises(RuntimeError, match="the power went out"):
        small_set(tmp_path / "set", images=failing())
    assert EvalSet.open(tmp_path / "set").content_id == first.content_id
    second = small_set(tmp_path / "set", distractors=5)
    assert EvalSet.open(tmp_path / "set").content_id == second.content_id != first.content_id
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
