import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_set import jpeg, small_set

from mteb_vehicle_search.errors import DataNotFoundError, EvalSetError
from mteb_vehicle_search.eval_set import CorpusImage, EvalSet, ImagePolicy, Qrel, Query, content_id
from mteb_vehicle_search.verification import verify


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


def test_content_id_covers_what_is_asked_and_searched():
    base = (["a", "b"], [Query("q", "text")], [Qrel("q", "a")], ImagePolicy())
    known = content_id(*base)
    assert content_id(["b", "a"], *base[1:]) == known
    assert content_id(["a", "b", "c"], *base[1:]) != known
    assert content_id(base[0], [Query("q", "other")], *base[2:]) != known
    assert content_id(*base[:2], [Qrel("q", "b")], base[3]) != known
    assert content_id(*base[:3], ImagePolicy(jpeg_quality=80)) != known


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


def test_unsorted_unknown_and_unanswered_are_refused(tmp_path):
    def image(name):
        from small_set import provenance

        return CorpusImage(name, jpeg(1), provenance(1, True))

    with pytest.raises(EvalSetError, match=r"not sorted by unique id: 'a' follows 'b'"):
        small_set(tmp_path / "x", images=[image("b"), image("a")])
    with pytest.raises(EvalSetError, match="names an unknown id"):
        small_set(tmp_path / "x", qrels=[Qrel("0000_caption_00", "nowhere")])
    with pytest.raises(EvalSetError, match="1 queries have no relevant image, first 'alone'"):
        small_set(tmp_path / "x", queries=[Query("alone", "t")], qrels=[])
    assert not (tmp_path / "x").exists()


def test_missing_set_says_how_to_build_it(tmp_path):
    with pytest.raises(DataNotFoundError, match="vehicle-search-data build"):
        EvalSet.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(EvalSetError, match="is not a manifest"):
        EvalSet.open(tmp_path)


def test_verify_reports_every_violation(tmp_path):
    folder = tmp_path / "set"
    small_set(folder)
    corpus_file = next((folder / "corpus").iterdir())
    table = pq.read_table(corpus_file)
    rows = table.to_pylist()
    rows[0]["image"]["bytes"] = rows[0]["image"]["bytes"][:200]  # truncated
    rows[2]["id"] = rows[1]["id"]  # duplicate
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), corpus_file)
    qrels = next((folder / "qrels").iterdir())
    judged = pq.read_table(qrels).to_pylist()
    judged[0]["corpus-id"] = "flickr30k/unknown"
    dropped = judged.pop()
    pq.write_table(pa.Table.from_pylist(judged), qrels)
    (folder / "rejected.parquet").unlink()
    found = [f"{where}: {what}" for where, what in verify(folder, progress=False).violations]
    text = "\n".join(found)
    for expected in (
        f"corpus/{corpus_file.name}: has",
        "rejected.parquet: is missing",
        "flickr30k/0000: does not decode",
        "corpus: id 'flickr30k/0001' stands 2 times",
        "points to unknown image 'flickr30k/unknown'",
        f"queries: {dropped['query-id']!r} has no relevant image",
        "qrels: says 12 rows, the data has 11",
        "provenance: its ids are not those of the corpus",
        "manifest.json: content id",
    ):
        assert expected in text, (expected, text)


def test_verify_checks_size_and_format(tmp_path):
    import io

    from PIL import Image
    from small_set import provenance

    png = io.BytesIO()
    Image.new("RGB", (10, 10)).save(png, "PNG")
    images = [
        CorpusImage("flickr30k/0000", jpeg(1, (400, 300)), provenance(1, True)),
        CorpusImage("flickr30k/0001", png.getvalue(), provenance(1, True)),
    ]
    small_set(tmp_path / "set", images=images, queries=[Query("q", "t")], qrels=[Qrel("q", "flickr30k/0000")])
    found = dict(verify(tmp_path / "set", progress=False).violations)
    assert "400 x 300 px" in found["flickr30k/0000"]
    assert found["flickr30k/0001"] == "is PNG RGB instead of JPEG RGB"


def test_replacing_keeps_the_old_set_until_the_new_is_complete(tmp_path):
    folder = tmp_path / "set"
    first = small_set(folder)

    def failing():
        yield from ()
        raise RuntimeError("the power went out")

    with pytest.raises(RuntimeError):
        small_set(folder, images=failing())
    assert EvalSet.open(folder).content_id == first.content_id
    second = small_set(folder, distractors=5)
    assert EvalSet.open(folder).content_id == second.content_id != first.content_id
    assert json.loads((folder / "manifest.json").read_text())["counts"]["corpus"] == 11
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
