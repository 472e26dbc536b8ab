"""An evaluation set on disk: what names it, what opens it, and every row of it read back."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_set import jpeg, provenance, small_set

from mteb_vehicle_search.errors import DataNotFoundError, EvalSetError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import (
    ROWS_PER_GROUP,
    CorpusImage,
    ImagePolicy,
    Provenance,
    Qrel,
    Query,
    content_id,
    schemas,
)
from mteb_vehicle_search.eval_set.verify import verify
from mteb_vehicle_search.files import file_sha256


def test_written_set_reads_back_and_verifies(tmp_path):
    written = small_set(tmp_path / "set", rows_per_file=128, distractors=300)
    opened = EvalSet.open(tmp_path / "set")
    assert opened.content_id == written.content_id
    assert len(opened.corpus_ids()) == 306
    assert opened.corpus_ids() == sorted(opened.corpus_ids())
    assert opened.jpeg("imagenet/train/n0299") == jpeg(799)
    assert [image for image, _ in opened.images()] == opened.corpus_ids()
    assert opened.queries()[1] == Query("0000_caption_01", "caption 0000_caption_01")
    assert opened.qrels()[0] == Qrel("0000_caption_00", "flickr30k/0000", 1)
    found = verify(tmp_path / "set", progress=False)
    assert found.violations == []
    assert found.counts == {"corpus": 306, "queries": 12, "qrels": 12, "provenance": 306, "rejected": 0}


def test_same_input_gives_same_bytes(tmp_path):
    first, second = small_set(tmp_path / "a"), small_set(tmp_path / "b")
    assert first.manifest == second.manifest


BASE = (["a", "b"], [Query("p", "other"), Query("q", "text")], [Qrel("p", "b"), Qrel("q", "a")], ImagePolicy())


def digest_of(*lines: str) -> str:
    """The content id, written out by hand: a JSON list a line."""
    return hashlib.sha256("".join(line + "\n" for line in lines).encode("ascii")).hexdigest()


def test_the_content_id_is_the_digest_of_these_lines():
    queries = [Query("q2", "a"), Query("q1", 'caf\u00e9 "x"')]
    qrels = [Qrel("q2", "i1"), Qrel("q1", "i2", 2)]
    assert content_id(["i2", "i1"], queries, qrels, ImagePolicy(90, "box", 80)) == digest_of(
        '["format",1]',
        '["policy",90,"box",80]',
        '["corpus","i1"]',
        '["corpus","i2"]',
        r'["query","q1","caf\u00e9 \"x\""]',
        '["query","q2","a"]',
        '["qrel","q1","i2",2]',
        '["qrel","q2","i1",1]',
    )


def test_the_content_id_does_not_depend_on_the_order():
    assert content_id(*(list(reversed(part)) for part in BASE[:3]), BASE[3]) == content_id(*BASE)
    assert content_id(*(iter(part) for part in BASE[:3]), BASE[3]) == content_id(*BASE)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (0, ["a", "b", "c"]),
        (0, ["a"]),
        (0, ["a", "c"]),
        (1, [Query("p", "other"), Query("q", "texts")]),
        (1, [Query("p", "other"), Query("r", "text")]),
        (1, [Query("p", "other")]),
        (2, [Qrel("p", "b"), Qrel("q", "b")]),
        (2, [Qrel("p", "b"), Qrel("q", "a", 2)]),
        (2, [Qrel("p", "b"), Qrel("r", "a")]),
        (2, [Qrel("p", "b")]),
        (3, ImagePolicy(shortest_side_px=161)),
        (3, ImagePolicy(resample="box")),
        (3, ImagePolicy(jpeg_quality=80)),
    ],
)
def test_content_id_covers_what_is_asked_and_searched(part, value):
    changed = [*BASE]
    changed[part] = value
    assert content_id(*changed) != content_id(*BASE)


@pytest.mark.parametrize(("option", "value"), [("exif", "all"), ("exif", "none"), ("colour_profile", "srgb")])
def test_options_of_decoding_leave_ids_of_earlier_sets_alone_and_make_others(option, value):
    """The published set's id, and Mini's, are those from before there were such options."""
    usual, other = ImagePolicy(), ImagePolicy(**{option: value})
    assert usual.as_json() == {"shortest_side_px": 160, "resample": "bicubic", "jpeg_quality": 75}
    assert other.as_json() == {**usual.as_json(), option: value}
    assert ImagePolicy(**other.as_json()) == other
    policies = (usual, other, ImagePolicy(exif="all", colour_profile="srgb"))
    assert len({content_id(["a"], [], [], policy) for policy in policies}) == 3


def test_a_score_is_there_or_not_also_in_sets_of_earlier_versions(tmp_path):
    made = small_set(tmp_path / "set", captioned=2, distractors=2)
    scores = made.provenance()["vehicle_score"].to_pylist()
    assert sorted(score is None for score in scores) == [False, False, True, True]
    path = made.folder / "provenance" / "test-00000-of-00001.parquet"
    table = pq.read_table(path)
    assert table["vehicle_score"].to_pylist() == scores
    earlier = pa.array([-1.0 if score is None else score for score in scores], pa.float32())
    at = table.column_names.index("vehicle_score")
    pq.write_table(table.set_column(at, table.schema.field(at), earlier), path)
    assert EvalSet.open(made.folder).provenance()["vehicle_score"].to_pylist() == scores


def test_the_content_id_covers_the_format(monkeypatch):
    before = content_id(*BASE)
    monkeypatch.setattr("mteb_vehicle_search.eval_set.schema.FORMAT_VERSION", 2)
    assert content_id(*BASE) != before


def test_the_policy_of_the_published_evaluation_is_the_default():
    assert ImagePolicy().as_json() == {"shortest_side_px": 160, "resample": "bicubic", "jpeg_quality": 75}


def test_a_reader_keeps_128_images_in_memory():
    assert ROWS_PER_GROUP == 128


def test_a_judgement_says_relevant_unless_told():
    assert Qrel("q", "i") == ("q", "i", 1)


def test_the_digest_of_a_file_is_that_of_all_its_blocks(tmp_path):
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 5):
        data = bytes(range(256)) * (size // 256 + 1)
        (tmp_path / "f").write_bytes(data[:size])
        assert file_sha256(tmp_path / "f") == hashlib.sha256(data[:size]).hexdigest()


def test_the_columns_are_those_of_the_contract():
    described = {
        part: [f"{field.name}: {field.type}".replace("<item:", "<element:") for field in schema]
        for part, schema in schemas().items()
    }
    assert described == {
        "corpus": ["id: string", "image: struct<bytes: binary, path: string>"],
        "queries": ["id: string", "text: string"],
        "qrels": ["query-id: string", "corpus-id: string", "score: int64"],
        "provenance": [
            "corpus-id: string",
            "source: string",
            "split: string",
            "captioned: bool",
            "class_index: int32",
            "wnid: string",
            "class_name: string",
            "vehicle_score: float",
            "width: int32",
            "height: int32",
            "sha256: string",
            "perceptual_hash: string",
            "duplicates: list<element: string>",
        ],
        "rejected": ["id: string", "stage: string", "reason: string"],
    }
    stated = json.loads(schemas()["corpus"].metadata[b"huggingface"])
    assert stated == {
        "info": {"features": {"id": {"dtype": "string", "_type": "Value"}, "image": {"mode": "RGB", "_type": "Image"}}}
    }


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A set of 11 images, in files of 4, 4 and 3 and row groups of 2, and the images that went in."""
    given = [CorpusImage(f"i{n:02d}", jpeg(n), provenance(n, n % 3 == 0)) for n in range(11)]
    queries = [Query("p", "first"), Query("q", "second")]
    qrels = [Qrel("p", "i00"), Qrel("p", "i03", 2), Qrel("q", "i09")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mteb_vehicle_search.eval_set.writer.ROWS_PER_GROUP", 2)
        written = small_set(
            tmp_path_factory.mktemp("cut") / "set", images=given, queries=queries, qrels=qrels, rows_per_file=4
        )
    return written, given


def test_every_image_is_found_by_position_and_by_id(cut):
    """First and last of every row group and file, in an order that jumps between them."""
    written, given = cut
    assert [p.name for p in written.files("corpus")] == [f"test-0000{n}-of-00003.parquet" for n in range(3)]
    opened = EvalSet.open(written.folder)
    for index in [10, 0, 1, 2, 3, 9, 4, 8, 5, 7, 6, 6, 0, 10]:
        assert opened.jpeg_at(index) == given[index].jpeg
        assert EvalSet.open(written.folder).jpeg_at(index) == given[index].jpeg
        assert opened.jpeg(given[index].id) == given[index].jpeg
    assert list(opened.images()) == [(item.id, item.jpeg) for item in given]
    assert opened.corpus_ids() == [item.id for item in given]
    assert opened.sources() == [item.provenance["source"] for item in given]
    with pytest.raises(KeyError):
        opened.jpeg("i11")


def test_a_row_group_is_read_once_while_it_is_in_use(cut, monkeypatch):
    """Reading in order decodes 6 groups, not 11."""
    written, _ = cut
    groups = []
    read = pq.ParquetFile.read_row_group

    def counted(self, number, columns):
        groups.append(number)
        assert columns == ["image"]  # The ids are not read again.
        return read(self, number, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    opened = EvalSet.open(written.folder)
    assert len(list(opened.images())) == 11
    assert groups == [0, 1, 0, 1, 0, 1]
    assert opened.jpeg_at(10)
    assert groups == [0, 1, 0, 1, 0, 1]
    opened.jpeg_at(0)
    assert groups == [0, 1, 0, 1, 0, 1, 0]


def test_threads_that_read_at_once_get_their_own_images(cut):
    written, given = cut
    opened = EvalSet.open(written.folder)
    wanted = [n * 7 % 11 for n in range(600)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(opened.jpeg_at, wanted))
    assert found == [given[n].jpeg for n in wanted]


def test_parts_are_read_whole_or_by_column(cut):
    written, given = cut
    assert written.queries() == [Query("p", "first"), Query("q", "second")]
    assert written.qrels() == [Qrel("p", "i00", 1), Qrel("p", "i03", 2), Qrel("q", "i09", 1)]
    assert written.read("corpus", ["id"]).column_names == ["id"]
    assert written.read("provenance", ("width", "source")).column_names == ["width", "source"]
    assert written.provenance().schema.names == ["corpus-id", *Provenance._fields]
    assert written.provenance()["sha256"].to_pylist() == [item.provenance["sha256"] for item in given]
    assert written.rejected().schema.names == ["id", "stage", "reason"]
    assert written.policy == ImagePolicy()
    assert written.name == "vehicle-image-search"


def test_the_files_of_a_part_are_those_the_manifest_names_in_order(tmp_path):
    names = ["corpus/b", "queries/x", "corpus/a", "corpus-notes/c", "rejected.parquet"]
    opened = EvalSet(tmp_path, {"files": dict.fromkeys(names)})
    assert opened.files("corpus") == [tmp_path / "corpus/a", tmp_path / "corpus/b"]
    assert opened.files("queries") == [tmp_path / "queries/x"]
    assert opened.files("rejected") == []


def test_a_part_that_cannot_be_read_names_its_file_and_the_command(tmp_path):
    written = small_set(tmp_path / "set", captioned=2, distractors=1)
    (queries,) = written.files("queries")
    for spoil in (lambda: queries.write_bytes(b"half"), queries.unlink):
        spoil()
        with pytest.raises(EvalSetError) as caught:
            written.queries()
        assert caught.value.message.startswith(f"{queries} cannot be read: ")
        assert caught.value.hint == f"See 'vehicle-search-data verify {written.folder}'."
    with pytest.raises(EvalSetError) as caught:
        EvalSet(tmp_path, {"files": {}}).read("qrels")
    assert caught.value.message == f"{tmp_path} has no qrels files."
    assert "vehicle-search-data build" in caught.value.hint


def test_plain_datasets_and_mteb_load_it(tmp_path):
    import datasets
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalDatasetLoader

    small_set(tmp_path / "set")
    corpus = datasets.load_dataset(str(tmp_path / "set"), "corpus", split="test")
    assert corpus.features["image"].mode == "RGB"
    assert corpus[3]["image"].size == (40, 32)
    split = RetrievalDatasetLoader(hf_repo=str(tmp_path / "set"), revision=None).load()
    assert len(split["corpus"]) == 36
    assert split["relevant_docs"]["0005_caption_01"] == {"flickr30k/0005": 1}


def test_missing_set_says_how_to_build_it(tmp_path):
    with pytest.raises(DataNotFoundError) as caught:
        EvalSet.open(str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in caught.value.message
    assert "vehicle-search-data build" in caught.value.hint
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(DataNotFoundError):
        EvalSet.open(tmp_path)


COUNTS = {"corpus": 1, "queries": 1, "qrels": 1, "rejected": 0, "sources": {"drawn": 1}}
SOUND = {"format_version": 1, "content_id": "c" * 64, "name": "n", "files": {}, "policy": {}, "counts": COUNTS}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        b"\xff\xfe".decode("latin-1"),
        *(json.dumps({k: v for k, v in SOUND.items() if k != key}) for key in SOUND),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(EvalSetError) as caught:
        EvalSet.open(tmp_path)
    assert caught.value.message.startswith(f"{path} is not a manifest: ")
    assert "vehicle-search-data build" in caught.value.hint


def test_a_manifest_that_lacks_several_keys_names_them(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format_version": 1, "name": "n"}', encoding="utf-8")
    with pytest.raises(EvalSetError, match="'content_id', 'counts', 'files', 'policy'"):
        EvalSet.open(tmp_path)


def test_a_manifest_is_utf8(tmp_path):
    text = json.dumps({**SOUND, "name": "\u00e9"}, ensure_ascii=False)
    (tmp_path / "manifest.json").write_bytes(text.encode())
    assert EvalSet.open(tmp_path).name == "\u00e9"


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_says_what_to_do(tmp_path, version):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**SOUND, "format_version": version}), encoding="utf-8")
    with pytest.raises(EvalSetError) as caught:
        EvalSet.open(tmp_path)
    assert caught.value.message == f"{path} has format version {version}; this package reads 1."
    assert "rebuild" in caught.value.hint


def test_a_version_that_only_equals_ours_is_another(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({**SOUND, "format_version": True}), encoding="utf-8")
    with pytest.raises(EvalSetError, match="has format version True"):
        EvalSet.open(tmp_path)


def edit(written: EvalSet, table: str, column: str, values: list) -> EvalSet:
    """Replace a column of a table under the old manifest, and open the set again."""
    (path,) = written.files(table)
    held = pq.read_table(path)
    place = held.column_names.index(column)
    pq.write_table(held.set_column(place, held.schema.field(place), [values]), path)
    return EvalSet.open(written.folder)


def test_tables_that_are_not_those_of_the_content_id_are_refused(tmp_path):
    written = small_set(tmp_path / "set", captioned=2, distractors=1, captions=1)
    written.require_content()
    images = [qrel.corpus_id for qrel in written.qrels()]
    edited = edit(written, "qrels", "corpus-id", images[::-1])
    computed = content_id(edited.corpus_ids(), edited.queries(), edited.qrels(), edited.policy)
    with pytest.raises(EvalSetError) as caught:
        edited.require_content()
    assert caught.value.message == (
        f"{written.folder} is not what its manifest says: that names content id {written.content_id}, the data gives "
        f"{computed}."
    )
    assert caught.value.hint == f"See 'vehicle-search-data verify {written.folder}'."
    edit(written, "qrels", "corpus-id", images).require_content()


@pytest.mark.parametrize(
    ("table", "column", "values"),
    [
        ("corpus", "id", ["flickr30k/0000", "flickr30k/0001", "other"]),
        ("queries", "text", ["caption 0000_caption_00", "another"]),
        ("queries", "id", ["0000_caption_00", "0001_caption_01"]),
        ("qrels", "score", [1, 2]),
        ("corpus", "id", ["flickr30k/0000", None, "other"]),
        ("queries", "id", [None, "0001_caption_00"]),
        ("queries", "text", ["caption 0000_caption_00", None]),
        ("qrels", "score", [None, 1]),
    ],
)
def test_every_edited_table_is_refused(tmp_path, table, column, values):
    edited = edit(small_set(tmp_path / "set", captioned=2, distractors=1, captions=1), table, column, values)
    with pytest.raises(EvalSetError):
        edited.require_content()


@pytest.mark.parametrize("table", ["corpus", "queries", "qrels"])
def test_a_table_without_a_column_is_no_traceback(tmp_path, table):
    written = small_set(tmp_path / "set", captioned=2, distractors=1)
    (path,) = written.files(table)
    pq.write_table(pq.read_table(path).drop_columns([schemas()[table].names[0]]), path)
    with pytest.raises(EvalSetError, match=r"cannot be read: .*(it has no column|No match for)"):
        written.require_content()


def test_files_whose_columns_differ_do_not_make_a_table(tmp_path):
    written = small_set(tmp_path / "set", distractors=200, rows_per_file=128)
    path = written.files("corpus")[1]
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "id", table["id"].cast("large_string")), path)
    with pytest.raises(EvalSetError, match="its columns are not those of the file before it"):
        written.corpus_ids()


@pytest.mark.parametrize("name", ["2024-dogs", "\u00e9", "x" * 61, "--"])
def test_a_name_of_which_no_task_can_be_named_is_told(tmp_path, name):
    opened = EvalSet(tmp_path, {**SOUND, "name": name})
    with pytest.raises(EvalSetError, match="cannot name a task") as caught:
        _ = opened.task_name
    assert "task_name" in caught.value.hint
