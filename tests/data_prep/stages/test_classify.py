"""Scores: the same as transformers' own, whatever the chunk; resumable; rules and comparison."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from small_sources import NAMES, WNIDS, jpeg, noisy_image, train_classifier

from data_prep.class_set import ClassSet, ImageClass
from data_prep.markers import Stages
from data_prep.preset import Classifier, Selection
from data_prep.sources import SourceImage
from data_prep.stages import chunks, classify
from data_prep.stages import select as selection
from data_prep.stages.classifiers import Scorer, TimmScorer, check_classes, choose_device, load_scorer
from data_prep.stages.classify import ChunkClassifier, summed_scores
from data_prep.stages.decoding import decode
from mteb_vehicle_search.engine import engine_of
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import ImagePolicy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train_classifier(tmp_path_factory.mktemp("tiny-vit"))


@pytest.fixture(scope="module")
def scorer(folder):
    return load_scorer(Classifier("transformers", folder.name), folder.parent, "cpu")


@pytest.fixture
def images():
    jpegs = [jpeg(noisy_image(n % 4, 900 + n)) for n in range(10)]
    jpegs[4] = jpegs[4][:500]
    return [SourceImage(f"flickr30k/{n}", data, "flickr30k", "") for n, data in enumerate(jpegs)]


def score_images(stages, images, scorer, configuration, workers, batch_size, policy=ImagePolicy()):  # noqa: B008
    """Score with a scorer, or one that a function makes, in this process."""

    def make():
        return ChunkClassifier(scorer if isinstance(scorer, Scorer) else scorer(), policy, batch_size, workers)

    return classify.score_images(stages, images, make, {**configuration, "batch_size": batch_size}, engine_of("local"))


def test_preprocessing_squashes_bilinearly_and_scales_to_one(scorer):
    image = noisy_image(0, 1, (90, 40))
    small = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32)
    np.testing.assert_allclose(scorer.pixels(image), (small / 255 - 0.5).transpose(2, 0, 1) / 0.5, atol=1e-6)


def test_probabilities_are_those_of_the_model(folder, scorer, images, tmp_path, monkeypatch):
    import torch
    from transformers import ViTForImageClassification

    monkeypatch.setattr(chunks, "CHUNK", 4)
    files, rejected = score_images(Stages(tmp_path), images, scorer, {}, workers=2, batch_size=3)
    assert len(files) == 3
    assert [(item.id, item.stage) for item in rejected] == [("flickr30k/4", "classify")]
    found = dict(summed_scores(files, [0, 1, 2]))
    assert sorted(found) == sorted({image.id for image in images} - {"flickr30k/4"})
    model = ViTForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        pixels = torch.from_numpy(scorer.pixels(decode(images[3].data).image))[None]
        wanted = torch.softmax(model(pixels).logits, -1)[0, :3].sum().item()
    assert found["flickr30k/3"] == pytest.approx(wanted, abs=1e-6)
    assert found["flickr30k/3"] < 0.5 < found["flickr30k/0"]


def test_finished_chunks_are_not_computed_again(scorer, images, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 4)
    files, _ = score_images(Stages(tmp_path), images, scorer, {}, workers=1, batch_size=4)
    before = [file.read_bytes() for file in files]
    (tmp_path / "stages" / "classify" / "chunk-00001.json").unlink()
    calls = []
    monkeypatch.setattr(
        scorer, "probabilities", lambda inputs, n: calls.append(len(inputs)) or _again(scorer, inputs, n)
    )
    score_images(Stages(tmp_path), images, lambda: scorer, {}, workers=1, batch_size=4)
    assert calls == [3]
    assert [file.read_bytes() for file in files] == before


def _again(scorer, inputs, batch_size):
    return type(scorer).probabilities(scorer, inputs, batch_size)


class Counting(Scorer):
    """Gives each image probabilities from its size, and remembers what it was asked."""

    classes = 3

    def __init__(self) -> None:
        super().__init__("cpu")
        self.read: list[tuple[int, int]] = []  # In any order: threads decode.
        self.batches: list[tuple[int, int]] = []

    def pixels(self, image):
        """Return the size as the model's input."""
        self.read.append(image.size)
        return np.array(image.size, dtype=np.float32)

    def probabilities(self, inputs, batch_size):
        """Return probabilities that tell the size."""
        self.batches.append((len(inputs), batch_size))
        return np.array([[width / 1000, height / 1000, 0.125] for width, height in inputs], dtype=np.float32)


def sized(number: int, **more) -> SourceImage:
    """An image as many pixels wide as its number."""
    data = jpeg(Image.new("RGB", (number, 8)))
    return SourceImage(f"f/{number:04d}", data, "flickr30k", "", **more)


def run(folder, images, scorer, configuration=None, batch_size=4):
    return score_images(Stages(folder), images, scorer, configuration or {}, 2, batch_size)


def test_more_than_a_chunk_of_the_real_size(tmp_path):
    """No image is lost at the border, and every row is its image's."""
    files = [sized(8 + number).data for number in range(40)]
    images = [SourceImage(f"f/{n:05d}", files[n % 40], "flickr30k", "") for n in range(chunks.CHUNK + 3)]
    scorer = Counting()
    files, rejected = run(tmp_path, iter(images), scorer, batch_size=7)
    assert chunks.CHUNK == 512
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "scores/chunk-00000.parquet",
        "scores/chunk-00001.parquet",
    ]
    assert scorer.batches == [(512, 7), (3, 7)]
    assert rejected == []
    found = list(summed_scores(files, [0, 2]))
    assert [name for name, _ in found] == [image.id for image in images]
    wanted = [(8 + number % 40) / 1000 + 0.125 for number in range(len(images))]
    assert [score for _, score in found] == pytest.approx(wanted, abs=1e-7)
    assert Stages(tmp_path).finished() == {"classify": 2}


def test_a_last_chunk_that_is_full_is_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 2)
    files, _ = run(tmp_path, [sized(n) for n in (8, 9, 10, 11)], Counting())
    assert len(files) == 2
    assert run(tmp_path / "none", [], pytest.fail) == ([], [])


def test_a_chunk_holds_probabilities_of_every_class_in_single_precision(tmp_path):
    import pyarrow.parquet as pq

    (file,), _ = run(tmp_path, [sized(9), sized(11)], Counting())
    table = pq.read_table(file)
    assert table.column_names == ["id", "p"]
    kind = table.schema.field("p").type
    assert (kind.list_size, str(kind.value_type)) == (3, "float")
    assert table["p"].to_pylist() == [pytest.approx([n / 1000, 0.008, 0.125]) for n in (9, 11)]
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # No partial file is left.


def test_the_classifier_is_made_when_it_is_needed_and_once(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 1)
    made = []

    def make():
        made.append(Counting())
        return made[-1]

    images = [sized(8), sized(9)]
    run(tmp_path, images, make)
    assert len(made) == 1
    run(tmp_path, images, make)
    assert len(made) == 1
    run(tmp_path, [sized(8), sized(10)], make)  # The first chunk is as before.
    assert [scorer.read for scorer in made] == [[(8, 8), (9, 8)], [(10, 8)]]


@pytest.mark.parametrize(
    "change",
    [
        lambda first, second: [first],
        lambda first, second: [second, first],
        lambda first, second: [first, SourceImage(second.id + "0", second.data, "flickr30k", "")],
        lambda first, second: [first, SourceImage(second.id, second.data + b"\0", "flickr30k", "")],
    ],
    ids=["fewer", "order", "id", "bytes"],
)
def test_a_chunk_is_known_by_its_images(tmp_path, change):
    images = [sized(8), sized(9)]
    run(tmp_path, images, Counting())
    same, other = Counting(), Counting()
    run(tmp_path, [SourceImage(i.id, i.data, "elsewhere", "val", captions=("x",)) for i in images], same)
    run(tmp_path, change(*images), other)
    assert (same.read, len(other.read)) == ([], len(change(*images)))


def test_a_chunk_is_known_by_configuration_and_batch_size(tmp_path):
    scorers = [Counting() for _ in range(4)]
    for scorer, configuration, batch_size in zip(scorers, ({"a": 1}, {"a": 1}, {"a": 2}, {"a": 2}), (4, 4, 4, 5)):
        run(tmp_path, [sized(8)], scorer, configuration, batch_size)
    assert [len(scorer.read) for scorer in scorers] == [1, 0, 1, 1]


def test_refused_images_are_named_by_every_later_run(tmp_path, monkeypatch):
    """A chunk without any sound image is a chunk all the same, and the next one is read."""
    monkeypatch.setattr(chunks, "CHUNK", 2)
    images = [sized(n) for n in (8, 9, 10, 11, 12)]
    images[1] = SourceImage("f/bad", b"", "flickr30k", "", problem="cannot be read: why")
    images[2] = SourceImage("f/gone", b"", "flickr30k", "", problem="gone")
    images[3] = SourceImage("f/short", images[3].data[:30], "flickr30k", "")
    for scorer in (Counting(), pytest.fail):
        files, rejected = run(tmp_path, images, scorer)
        assert [(item.id, item.stage) for item in rejected] == [
            ("f/bad", "classify"),
            ("f/gone", "classify"),
            ("f/short", "classify"),
        ]
        assert [item.reason for item in rejected][:2] == ["cannot be read: why", "gone"]
        assert [name for name, _ in summed_scores(files, [0])] == ["f/0008", "f/0012"]


@pytest.mark.parametrize(("policy", "size"), [("distractors", (20, 8)), ("all", (8, 20)), ("none", (20, 8))])
def test_the_orientation_counts_as_the_policy_says(tmp_path, policy, size):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(Image.new("RGB", (20, 8)), exif=exif)
    scorer = Counting()
    images = [SourceImage("f/1", data, "flickr30k", "", captions=("A bus.",))]
    score_images(Stages(tmp_path), images, scorer, {}, 1, 4, ImagePolicy(exif=policy))
    assert scorer.read == [size]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_one_odd_probability_is_enough(tmp_path, monkeypatch, odd):
    scorer = Counting()
    given = np.full((3, 3), 0.25, dtype=np.float32)
    given[1, 2] = odd
    monkeypatch.setattr(scorer, "probabilities", lambda inputs, n: given)
    with pytest.raises(BuildError, match=r"no finite probabilities for 1 of 3 images, first f/0009\.\nIts weights may"):
        run(tmp_path, [sized(n) for n in (8, 9, 10)], scorer)
    assert Stages(tmp_path).finished() == {}


def test_an_interrupted_chunk_leaves_no_file_under_its_name(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    def full(table, file, **options):
        file.write(b"half")
        raise OSError("full")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="full"):
        run(tmp_path, [sized(8)], Counting())
    assert not (tmp_path / "scores" / "chunk-00000.parquet").exists()
    assert Stages(tmp_path).finished() == {}


def test_probabilities_are_summed_in_double_precision(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    files, wanted = [], []
    for number in range(2):
        given = rng.random((4, 50)).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(given.ravel()), 50)
        files.append(tmp_path / f"{number}.parquet")
        # In several pieces, as a table of many row groups is.
        pq.write_table(pa.table({"id": [f"{number}{n}" for n in range(4)], "p": column}), files[-1], row_group_size=3)
        wanted += [(f"{number}{n}", float(sum(np.float64(given[n, c]) for c in range(0, 50, 3)))) for n in range(4)]
    found = list(summed_scores(files, range(0, 50, 3)))
    assert [name for name, _ in found] == [name for name, _ in wanted]
    assert [score for _, score in found] == pytest.approx([score for _, score in wanted], rel=1e-14)


def test_timm_classifier_uses_its_own_preprocessing(tmp_path):
    import timm
    from safetensors.torch import save_file

    name = "test_vit.r160_in1k"
    save_file(timm.create_model(name, pretrained=False).state_dict(), tmp_path / "model.safetensors")
    scorer = TimmScorer(name, "cpu", tmp_path / "model.safetensors")
    assert scorer.classes == 1000
    pixels = scorer.pixels(noisy_image(0, 0))
    assert pixels.shape == (3, 160, 160)
    assert scorer.probabilities([pixels], 1).sum() == pytest.approx(1, abs=1e-5)


def test_a_damaged_classifier_is_named(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "vit")
    path = tmp_path / "vit" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BuildError, match=r"The classifier vit cannot be loaded from .*vit: .*\nIs it a classifier of"):
        load_scorer(Classifier("transformers", "vit"), tmp_path, "cpu")
    (tmp_path / "vit" / "preprocessor_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(BuildError, match="cannot be loaded"):
        load_scorer(Classifier("transformers", "vit"), tmp_path, "cpu")


def test_probabilities_that_are_no_numbers_stop_the_build(scorer, images, tmp_path, monkeypatch):
    monkeypatch.setattr(scorer, "forward", lambda batch: batch.flatten(1)[:, :4] * float("nan"))
    with pytest.raises(BuildError, match=r"no finite probabilities for 9 of 9 images, first flickr30k/0\."):
        score_images(Stages(tmp_path), images, scorer, {}, workers=1, batch_size=4)


def test_devices_are_checked():
    assert choose_device("cpu") == "cpu"
    for name in ("cuda:99", "banana", "cuda:x", ""):
        with pytest.raises(BuildError, match=f"There is no device '{name}' here"):
            choose_device(name)


def test_class_names_are_compared_with_the_labels(scorer):
    right = ClassSet("c", tuple(ImageClass(n, WNIDS[n], NAMES[n], "") for n in (0, 1)))
    wrong = ClassSet("c", (ImageClass(0, WNIDS[0], "tench", ""),))
    assert check_classes(scorer, right) is None
    assert "'red cart' and 'tench'" in check_classes(scorer, wrong)
    with pytest.raises(BuildError, match="names class 900"):
        check_classes(scorer, ClassSet("c", (ImageClass(900, "n1", "x", ""),)))


def test_threshold_is_exclusive_and_share_counts():
    scores = [("b", 0.6), ("a", 0.61), ("d", 0.9), ("c", 0.61)]
    assert selection.apply_rule(scores, Selection("x", threshold=0.6)) == {"a": 0.61, "c": 0.61, "d": 0.9}
    assert list(selection.apply_rule(scores, Selection("x", share=0.5))) == ["a", "d"]


def test_comparison_names_missing_and_extra():
    digest = selection.selection_digest(["flickr30k/1", "flickr30k/2"])
    found = selection.compare(["flickr30k/2", "flickr30k/3"], 2, digest, {"flickr30k/1", "flickr30k/2"})
    assert (found["same"], found["missing"], found["extra"]) == (False, ["flickr30k/1"], ["flickr30k/3"])
    assert any("NOT the published one" in line for line in selection.describe(found))


def test_selection_lists_in_both_forms(tmp_path):
    path = tmp_path / "list"
    path.write_text("query_id,document_id,relevance\n1_caption_00,12.jpg,1\n1_caption_01,12.jpg,1\n")
    assert selection.read_selection(path, "flickr30k") == {"flickr30k/12"}
    path.write_text("12.jpg\n13.jpg\n")
    assert selection.read_selection(path, "flickr30k") == {"flickr30k/12", "flickr30k/13"}
    path.write_text("../../etc/passwd\n")
    with pytest.raises(BuildError, match="is not a file name"):
        selection.read_selection(path, "flickr30k")
