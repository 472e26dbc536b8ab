"""Whole builds from small data: content, determinism, stages, rejects, duplicates."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from small_sources import (
    NAMES,
    VEHICLES,
    Recorder,
    jpeg,
    noisy_image,
    train_classifier,
    write_flickr30k,
    write_imagenet,
    write_preset,
)

from data_prep.build import BuildOptions, build
from data_prep.job import Job
from data_prep.markers import Marker, Stages
from data_prep.plan import plan
from data_prep.preset import Distractors, Expected, load_preset
from data_prep.sources import Shard, SourceImage
from data_prep.stages import distractors, reduce, shards
from data_prep.stages.distractors import reduce_distractors
from data_prep.stages.reduce import merge, read_reduced, reduce_captioned
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import Rejected
from mteb_vehicle_search.eval_set.verify import verify
from mteb_vehicle_search.files import locked
from mteb_vehicle_search.terminal import Reporter

CAPTIONED, TRAIN, VAL = 40, 15, 3
KEPT = CAPTIONED * 3 // 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with Flickr30k, ImageNet, a classifier and a preset."""
    folder = tmp_path_factory.mktemp("data")
    write_flickr30k(folder / "flickr30k", CAPTIONED)
    write_imagenet(folder / "imagenet", TRAIN, VAL)
    train_classifier(folder / "classifier")
    write_preset(folder)
    return folder


@pytest.fixture
def private(data, tmp_path):
    """The same data, linked into a folder of its own, so that a test may change files."""
    for path in data.rglob("*"):
        target = tmp_path / "data" / path.relative_to(data)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    return tmp_path / "data"


def options(data: Path, out: Path, **changes) -> BuildOptions:
    base = BuildOptions(
        load_preset(str(data / "carts.toml")),
        out,
        {name: str(data / name) for name in ("flickr30k", "imagenet")},
        workers=2,
        device="cpu",
    )
    return replace(base, **changes)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def overwrite(path: Path, content: bytes) -> None:
    """Replace a file that may be a hard link."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def built(data, tmp_path_factory):
    """An uninterrupted build."""
    return build(options(data, tmp_path_factory.mktemp("built") / "carts"), Reporter(quiet=True))


def test_build_holds_what_the_preset_asks_for(built):
    counts = built.manifest["notes"]["counts"]
    assert counts["captioned"] == KEPT
    assert counts["distractors"] == len(VEHICLES) * (TRAIN + VAL)
    assert counts["queries"] == 5 * KEPT
    assert verify(built.folder, progress=False).violations == []
    kept = {identifier for identifier in built.corpus_ids() if identifier.startswith("flickr30k/")}
    assert kept == {f"flickr30k/{1000 + n}" for n in range(CAPTIONED) if n % 4 in VEHICLES}
    assert [q.text for q in built.queries() if q.id == "1002_caption_04"] == ["A blue cart."]
    assert built.rejected().num_rows == 0


def test_provenance_says_where_each_image_comes_from(built):
    rows = {row["corpus-id"]: row for row in built.provenance().to_pylist()}
    distractor = rows["imagenet/train/n01443537_4"]
    wanted = {"source": "imagenet", "split": "train", "class_index": 1, "class_name": NAMES[1], "captioned": False}
    assert {key: distractor[key] for key in wanted} == wanted
    assert (distractor["width"], distractor["height"], distractor["vehicle_score"]) == (300, 220, None)
    assert rows["flickr30k/1000"]["vehicle_score"] > 0.6
    assert rows["flickr30k/1008"]["split"] == "val"


def test_card_tells_counts_terms_and_contamination(built):
    card = (built.folder / "README.md").read_text(encoding="utf-8")
    for text in ("non-commercial", "| queries | 150 |", "18 train", "False negatives", "Cite the sources"):
        assert text in card


def test_two_builds_give_the_same_bytes(data, built, tmp_path):
    other = build(options(data, tmp_path / "carts"), Reporter(quiet=True))
    assert digest(other.folder) == digest(built.folder)


def test_second_run_does_nothing(private, tmp_path, monkeypatch):
    chosen = options(private, tmp_path / "carts")
    first = digest(build(chosen, Reporter(quiet=True)).folder)
    forbidden = "finished work was done again"
    for name in ("reduce.write_reduced", "distractors.write_jpegs", "export.near_pairs", "export.write_eval_set"):
        monkeypatch.setattr(f"data_prep.stages.{name}", lambda *a, **k: pytest.fail(forbidden))
    monkeypatch.setattr("data_prep.stages.classifiers.load_scorer", lambda *a: pytest.fail(forbidden))
    reporter = Reporter(quiet=True)
    assert digest(build(chosen, reporter).folder) == first
    assert not any("stale" in message for message in reporter.messages)


def test_changed_threshold_needs_no_second_classification(private, tmp_path, monkeypatch):
    build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    write_preset(private, changes={"threshold = 0.6": "share = 0.5", "max_distance = 2": "max_distance = 1"})
    monkeypatch.setattr("data_prep.stages.classifiers.load_scorer", lambda *a: pytest.fail("classified again"))
    reporter = Reporter(quiet=True)
    changed = build(options(private, tmp_path / "carts"), reporter)
    assert changed.manifest["notes"]["counts"]["captioned"] == CAPTIONED // 2
    stale = [message for message in reporter.messages if "stale" in message]
    assert any("'select' is stale" in m and "rule.threshold was 0.6, is null" in m for m in stale)
    assert not any("'distractors'" in message for message in stale)


def test_rebuilding_a_stage_is_possible(private, tmp_path):
    chosen = options(private, tmp_path / "carts")
    first = digest(build(chosen, Reporter(quiet=True)).folder)
    marker = chosen.work / "stages" / "captioned.json"
    long_ago = 1_000_000_000
    os.utime(marker, (long_ago, long_ago))
    assert digest(build(chosen, Reporter(quiet=True)).folder) == first
    assert marker.stat().st_mtime == long_ago
    assert digest(build(replace(chosen, rebuild=("captioned",)), Reporter(quiet=True)).folder) == first
    assert marker.stat().st_mtime > long_ago


def test_odd_but_good_files_are_kept(private, tmp_path):
    folder = private / "imagenet" / "train" / "n01440764"
    image = noisy_image(0, 77)
    overwrite(folder / "n01440764_0.JPEG", jpeg(image.convert("CMYK")))
    overwrite(folder / "n01440764_1.JPEG", jpeg(image.convert("L")))
    image.save(tmp_path / "x.png")
    overwrite(folder / "n01440764_2.JPEG", (tmp_path / "x.png").read_bytes())
    overwrite(folder / "n01440764_3.JPEG", jpeg(image, exif=b"Exif\x00\x00broken"))
    eval_set = build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    assert {f"imagenet/train/n01440764_{n}" for n in range(2)} <= set(eval_set.corpus_ids())
    assert all(row["stage"] == "duplicates" for row in eval_set.rejected().to_pylist())


def test_jpegs_that_the_decoder_complained_of_are_named(private, tmp_path):
    path = private / "imagenet" / "train" / "n01440764" / "n01440764_0.JPEG"
    overwrite(path, path.read_bytes()[:-2] + b"some more" + b"\xff\xd9")
    eval_set = build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    name = "imagenet/train/n01440764_0"
    assert name in eval_set.corpus_ids()
    warnings = eval_set.manifest["notes"]["warnings"]
    assert list(warnings) == [name]
    assert warnings[name].endswith("extraneous bytes before marker 0xd9")
    assert "| JPEGs kept although the decoder complained | 1 |" in (eval_set.folder / "README.md").read_text("utf-8")


def test_too_many_rejects_stop_the_build(private, tmp_path):
    for number in range(1000, 1003):
        overwrite(private / "flickr30k" / "flickr30k-images" / f"{number}.jpg", b"")
    with pytest.raises(BuildError, match=r"3 of 40 inputs were refused, more than 0\.5%") as error:
        build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    assert "--allow-rejects" in str(error.value)
    assert "flickr30k/1000 (classify): empty file" in str(error.value)
    assert not (tmp_path / "carts").exists()


@pytest.mark.parametrize("policy", ["remove", "report"])
def test_uncaptioned_twins_are_found(private, tmp_path, policy):
    twin = private / "flickr30k" / "flickr30k-images" / "1000.jpg"
    overwrite(private / "imagenet" / "train" / "n01440764" / "n01440764_7.JPEG", twin.read_bytes())
    write_preset(private, changes={'"remove"': f'"{policy}"'})
    eval_set = build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    found, twin_id = eval_set.manifest["notes"]["duplicates"], "imagenet/train/n01440764_7"
    assert ["flickr30k/1000", twin_id] in found["exact"]
    assert ["flickr30k/1000", twin_id, 0] in found["near"]
    assert (twin_id in eval_set.corpus_ids()) == (policy == "report")
    assert len(next(item for item in found["same_text"] if item["text"] == "A red cart.")["queries"]) == CAPTIONED // 4
    refused = [row["id"] for row in eval_set.rejected().to_pylist()]
    assert refused == ([twin_id] if policy == "remove" else [])


def test_a_list_takes_the_place_of_the_classifier(data, tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.stages.classifiers.load_scorer", lambda *a: pytest.fail("classified"))
    (tmp_path / "list.txt").write_text("1000.jpg\n1003.jpg\n", encoding="utf-8")
    eval_set = build(options(data, tmp_path / "o", selection=str(tmp_path / "list.txt")), Reporter(quiet=True))
    assert [i for i in eval_set.corpus_ids() if i.startswith("flickr")] == ["flickr30k/1000", "flickr30k/1003"]
    card = (eval_set.folder / "README.md").read_text(encoding="utf-8")
    assert "The captioned images are those of a list" in card
    assert "summed probability" not in card


def test_selected_but_absent_images_are_rows(data, tmp_path):
    (tmp_path / "list.txt").write_text("1000.jpg\n9999.jpg\n", encoding="utf-8")
    chosen = options(data, tmp_path / "o", selection=str(tmp_path / "list.txt"), allow_rejects=True)
    rows = build(chosen, Reporter(quiet=True)).rejected().to_pylist()
    assert [(row["id"], row["reason"]) for row in rows] == [
        ("flickr30k/9999", "selected, but the source does not have it")
    ]


def test_result_that_does_not_verify_is_not_put_in_place(data, tmp_path, monkeypatch):
    from mteb_vehicle_search.eval_set.verify import Verification, Violation

    broken = Verification([Violation("corpus", "is broken")], {}, "")
    monkeypatch.setattr("data_prep.stages.export.verify", lambda *a, **k: broken)
    with pytest.raises(BuildError, match="does not verify:\n  corpus: is broken"):
        build(options(data, tmp_path / "carts"), Reporter(quiet=True))
    assert not (tmp_path / "carts").exists()


def test_scores_of_all_classes_are_stored(data, tmp_path):
    import pyarrow.parquet as pq

    chosen = options(data, tmp_path / "carts")
    build(chosen, Reporter(quiet=True))
    table = pq.read_table(chosen.work / "scores" / "chunk-00000.parquet")
    assert table.num_rows == CAPTIONED
    assert len(table["p"][0].as_py()) == len(NAMES)
    marker = json.loads((chosen.work / "stages" / "classify.json").read_text(encoding="utf-8"))
    assert set(marker) >= {"fingerprint", "configuration", "outputs", "counts", "rejected"}


PLAIN = jpeg(Image.new("RGB", (24, 20), (9, 99, 200)))


def image(name: str, sound: bool = True, **more) -> SourceImage:
    """A small image, or one that cannot be read."""
    return SourceImage(name, PLAIN if sound else b"", "imagenet", "train", problem="" if sound else "gone", **more)


class PartedSource:
    """A source of distractors that writes down what it is asked for, in order."""

    notes = ()

    def travels_bytes(self, only=1.0):
        """Nothing travels."""
        return 0

    def __init__(self, shards: dict[str, list[SourceImage]], split: str = "train") -> None:
        self.given, self.split = shards, split
        self.events: list[tuple] = []
        self.at_release = lambda shard: None

    def shards(self, wanted=None, splits=("train", "val")):
        """Return one part for each name; "val..." and "any..." are of other splits."""
        splits = {"val": "val", "any": ""}
        return [Shard(name, "", 1, splits.get(name[:3], "train")) for name in self.given]

    def prefetch(self, shard):
        """Write it down."""
        self.events.append(("prefetch", shard.name))

    def images(self, shard, wanted, passed):
        """Write it down."""
        self.events.append(("images", shard.name, wanted))
        return iter(self.given[shard.name])

    def release(self, shard):
        """Write it down."""
        self.events.append(("release", shard.name))
        self.at_release(shard)

    def describe(self):
        """Return a form."""
        return {"form": "test"}


class CaptionedImages(PartedSource):
    """A source of captioned images."""

    def count(self):
        """Return how many there are, and two more, as a source that does not know of two bad ones."""
        return len(self.given["all"]) + 2

    def check(self):
        """It is whole."""
        return []

    def images(self, passed=None, only=None):
        """Yield all that are wanted."""
        for each in self.given["all"]:
            if only is None or each.id in only:
                yield each
            elif passed is not None:
                passed["not selected"] += 1


def job(tmp_path: Path, **changes) -> Job:
    """A job of the preset `mini` without expectations."""
    preset = replace(load_preset("mini"), expected=Expected(), **changes.pop("preset", {}))
    options = BuildOptions(preset, tmp_path / "out", workers=1, **changes)
    options.work.mkdir(exist_ok=True)
    return Job(options, Recorder(), Stages(options.work), {"form": "test"})


def all_distractors(one: Job, source: PartedSource) -> list[Marker]:
    """Reduce all shards of a source."""
    return reduce_distractors(one, source, source.shards())


def marked(one: Job) -> list[str]:
    root = one.options.work / "stages"
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.json"))


def test_the_next_part_is_fetched_while_one_is_read_and_a_part_is_released_when_it_is_safe(tmp_path):
    source = PartedSource({name: [image(f"x/{name}")] for name in "abc"})
    one = job(tmp_path)
    safe = []
    source.at_release = lambda shard: safe.append((one.options.work / f"distractors/{shard.name}.images").is_file())
    markers = all_distractors(one, source)
    assert source.events == [
        ("prefetch", "a"),
        ("prefetch", "b"),
        ("images", "a", set()),
        ("release", "a"),
        ("prefetch", "c"),
        ("images", "b", set()),
        ("release", "b"),
        ("images", "c", set()),
        ("release", "c"),
    ]
    names = [f"distractors/{name}" for name in "abc"]
    assert safe == [True] * 3
    assert [marker.stage for marker in markers] == marked(one) == names
    assert one.inputs == Counter(distractors=3)
    assert one.reporter.tracked == [("distractors", 3)]
    assert one.reporter.units == {"distractors": "B"}, "it counts bytes"
    assert list(dict.fromkeys(one.reporter.moves)) == [
        (1, ""),
        (1, "1 images, 1 of 3 shards"),
        (2, "1 images, 1 of 3 shards"),
        (2, "2 images, 2 of 3 shards"),
        (3, "2 images, 2 of 3 shards"),
        (3, "3 images, 3 of 3 shards"),
    ]


def test_parts_that_are_done_are_neither_fetched_nor_read_but_released(tmp_path):
    """A build that was killed before it released a part leaves a download behind."""
    shards = {name: [image(f"x/{name}")] for name in "abcd"}
    all_distractors(job(tmp_path), PartedSource(shards))
    (tmp_path / "out.build" / "stages" / "distractors" / "b.json").unlink()
    source, again = PartedSource(shards), job(tmp_path)
    all_distractors(again, source)
    assert source.events == [
        ("release", "a"),
        ("prefetch", "b"),
        ("release", "c"),
        ("release", "d"),
        ("images", "b", set()),
        ("release", "b"),
    ]
    assert again.inputs == Counter(distractors=4)


@pytest.mark.parametrize(
    ("splits", "names"),
    [(("train",), ["a", "any"]), (("val",), ["val", "any"]), (("train", "val"), ["a", "val", "any"])],
)
def test_only_wanted_splits_and_classes_are_read(tmp_path, monkeypatch, splits, names):
    """A part of an unknown split may hold any."""
    source = PartedSource({name: [image(f"x/{name}")] for name in ("a", "val", "any")})
    one = job(tmp_path, preset={"distractors": Distractors("imagenet", "orig49", splits)})
    _from(monkeypatch, CaptionedImages({"all": []}), source)
    shards = plan(one.options).shards
    reduce_distractors(one, source, shards)
    wanted = set(load_preset("original").distractor_classes().indices)
    assert [event[1:] for event in source.events if event[0] == "images"] == [(name, wanted) for name in names]
    assert one.reporter.tracked == [("distractors", len(names))]


def test_a_part_of_one_class_does_not_depend_on_the_others(tmp_path):
    """The parts of a changed class set that were done stay done, and one line tells it."""
    source = PartedSource({})
    says = []

    def read(classes: str, *indexes: int) -> list[str]:
        one = job(tmp_path, preset={"distractors": Distractors("imagenet", classes)})
        one.stages = Stages(one.options.work, says.append)
        source.events.clear()
        shards = [Shard(f"train/{index}", "", 1, "train", index) for index in indexes]
        source.given = {shard.name: [image(f"x/{shard.name}")] for shard in shards}
        reduce_distractors(one, source, shards)
        return [event[1] for event in source.events if event[0] == "images"]

    assert read("orig49", 1, 3, 5) == ["train/1", "train/3", "train/5"]
    assert says == []
    assert read("wordnet", 2, 3, 5) == ["train/2"]
    assert says == [
        "Stage 'distractors' has other parts than before: 2 of 3 are done, and 1 that were done are not used any more."
    ]
    assert read("orig49", 1, 3, 5) == []


def test_a_part_is_read_again_for_other_classes_and_when_it_changed(tmp_path):
    """A shard holds images of all classes under one name."""
    source = PartedSource({"a": [image("x/a")]})

    def read(classes: str, stamp: str = "") -> int:
        one = job(tmp_path, preset={"distractors": Distractors("imagenet", classes)})
        source.events.clear()
        reduce_distractors(one, source, [Shard("a", "", 1, "train", stamp=stamp)])
        return sum(event[0] == "images" for event in source.events)

    assert read("orig49") == 1
    assert read("orig49") == 0
    assert read("wordnet") == 1
    assert read("wordnet", "later") == 1
    assert read("wordnet", "later") == 0


def test_the_folder_of_downloads_goes_when_all_is_read(tmp_path):
    one = job(tmp_path)
    download = one.options.work / "download"
    (download / "data").mkdir(parents=True)
    (download / "data" / "shard").write_bytes(b"x")
    source, seen = PartedSource({"a": [image("x/a")], "b": [image("x/b")]}), []
    source.at_release = lambda shard: seen.append(download.is_dir())
    all_distractors(one, source)
    assert seen == [True, True]
    assert not download.exists()


@pytest.mark.parametrize(("early", "stops_after"), [(2, ["a"]), (3, ["a"]), (4, ["a", "b"]), (100, ["a", "b", "c"])])
def test_too_many_rejects_stop_a_build_before_its_end(tmp_path, monkeypatch, early, stops_after):
    """Not before enough inputs were read: three in the first part, six in two."""
    assert shards.EARLY_CHECK == 2_000
    monkeypatch.setattr(shards, "EARLY_CHECK", early)
    source = PartedSource({name: [image(f"x/{name}{n}", sound=n > 0) for n in range(3)] for name in "abc"})
    if early == 100:
        all_distractors(job(tmp_path), source)
    else:
        with pytest.raises(BuildError, match=rf"{len(stops_after)} of {3 * len(stops_after)} inputs were refused"):
            all_distractors(job(tmp_path), source)
    assert [event[1] for event in source.events if event[0] == "release"] == stops_after


def test_refused_images_are_rows_of_their_stage_in_this_run_and_the_next(tmp_path):
    source = PartedSource({"a": [image("x/1"), image("x/2", sound=False), image("x/3")]})
    for _ in range(2):
        one = job(tmp_path)
        (marker,) = all_distractors(one, source)
        assert marker.counts == {"images": 2, "passed_over": {}}
        assert one.rejected == [Rejected("x/2", "distractors", "gone")]
        assert one.inputs == Counter(distractors=3)
    assert [entry.id for entry in read_reduced(one.options.work / "distractors" / "a.images")] == ["x/1", "x/3"]


def test_all_captioned_images_are_kept_without_a_selection(tmp_path):
    one = job(tmp_path)
    source = CaptionedImages({"all": [image("x/2"), image("x/1"), image("x/0", sound=False)]})
    marker = reduce_captioned(one, source, None)
    assert one.reporter.tracked == [("captioned", 5)]
    assert [entry.id for entry in read_reduced(one.options.work / "captioned" / "part-00000")] == ["x/2", "x/1"]
    assert one.rejected == [Rejected("x/0", "captioned", "gone")]
    assert (marker.stage, one.inputs) == ("captioned", Counter(captioned=3))


def test_selected_images_are_kept_and_those_that_are_missing_are_named(tmp_path):
    one = job(tmp_path)
    source = CaptionedImages({"all": [image("x/2"), image("x/1"), image("x/0", sound=False)]})
    kept = dict.fromkeys(["x/8", "x/0", "x/2", "x/7"], 0.5)
    reduce_captioned(one, source, kept)
    assert one.reporter.tracked == [("captioned", 4)]
    assert [entry.id for entry in read_reduced(one.options.work / "captioned" / "part-00000")] == ["x/2"]
    missing = "selected, but the source does not have it"
    assert one.rejected == [
        Rejected("x/0", "captioned", "gone"),
        Rejected("x/7", "captioned", missing),
        Rejected("x/8", "captioned", missing),
    ]
    assert one.inputs == Counter(captioned=2)
    assert one.passed_over == {"captioned": {"not selected": 1}}


def test_images_are_reduced_as_policy_and_options_say(tmp_path, monkeypatch):
    given = []

    def prepare_all(images, policy, *, workers):
        given.append((policy, workers))
        yield from ()

    for room in (distractors, reduce):
        monkeypatch.setattr(room, "prepare_all", prepare_all)
    one = job(tmp_path)
    one.options = replace(one.options, workers=3)
    reduce_captioned(one, CaptionedImages({"all": []}), None)
    all_distractors(one, PartedSource({"a": []}))
    assert given == [(one.preset.images, 3)] * 2


def test_a_stage_that_fails_leaves_no_threads_to_the_collector_of_garbage(tmp_path, monkeypatch):
    """One that is just starting may collect the stage's rest, and would wait for threads that wait for it."""

    def fails(path, stream, what):
        next(stream)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reduce, "write_reduced", fails)
    one = job(tmp_path)
    one.options = replace(one.options, workers=3)
    with pytest.raises(OSError, match="No space") as caught:
        reduce_captioned(one, CaptionedImages({"all": [image(f"x/{n}") for n in range(40)]}), None)
    assert caught.tb is not None, "which holds the frames, and what is in them"
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("prepare")]


def test_entries_of_all_parts_are_merged_by_id_and_the_second_of_an_id_is_refused(tmp_path):
    one = job(tmp_path, allow_rejects=True)
    captioned = reduce_captioned(one, CaptionedImages({"all": [image("x/5"), image("x/2")]}), None)
    shards = {"a": [image("x/3"), image("x/1")], "b": [image("x/2"), image("x/3"), image("x/0")]}
    entries = merge(one, [captioned, *all_distractors(one, PartedSource(shards))])
    assert [entry.id for entry in entries] == ["x/0", "x/1", "x/2", "x/3", "x/5"]
    assert [entry.path.relative_to(one.options.work).as_posix() for entry in entries] == [
        "distractors/b.images",
        "distractors/a.images",
        "captioned/part-00000",
        "distractors/a.images",
        "captioned/part-00000",
    ]
    assert one.rejected == [
        Rejected("x/2", "export", "the id stands twice; the first is in captioned/part-00000"),
        Rejected("x/3", "export", "the id stands twice; the first is in distractors/a.images"),
    ]


def test_ids_that_stand_twice_may_be_too_many(tmp_path):
    one = job(tmp_path)
    markers = list(all_distractors(one, PartedSource({"a": [image("x/1")], "b": [image("x/1")]})))
    with pytest.raises(BuildError, match="1 of 2 inputs were refused"):
        merge(one, markers)


def _from(monkeypatch, captioned, distractors) -> None:
    monkeypatch.setattr(BuildOptions, "open_captioned", lambda options: captioned)
    monkeypatch.setattr(BuildOptions, "open_distractors", lambda options: distractors)


def test_a_build_from_any_two_sources_holds_every_image_and_caption(tmp_path, monkeypatch):
    """All stages from plain sources of several parts, against what was put in."""
    captions = {f"x/{n}": tuple(f"caption {n}{c}" for c in "abcde") for n in range(3)}
    photos = [
        SourceImage(name, jpeg(noisy_image(n, n, (60, 50))), "flickr30k", "val", captions=captions[name])
        for n, name in enumerate(captions)
    ]
    shards = {
        name: [
            SourceImage(f"y/{name}{n}", jpeg(noisy_image(3, 7 * ord(name) + n, (60, 50))), "imagenet", "train")
            for n in (1, 0)
        ]
        for name in "ba"
    }
    _from(monkeypatch, CaptionedImages({"all": photos[::-1]}), PartedSource(shards))
    one = job(tmp_path, preset={"captioned": replace(load_preset("mini").captioned, captions=3)})
    eval_set = build(one.options, Reporter(quiet=True))
    assert list(eval_set.corpus_ids()) == ["x/0", "x/1", "x/2", "y/a0", "y/a1", "y/b0", "y/b1"]
    texts = {query.id: query.text for query in eval_set.queries()}
    assert texts == {f"{n}_caption_{c:02d}": f"caption {n}{'abc'[c]}" for n in range(3) for c in range(3)}
    assert eval_set.manifest["notes"]["counts"]["splits"] == {"val": 3}
    rows = eval_set.provenance().to_pylist()
    assert {row["vehicle_score"] for row in rows} == {None}
    assert [row["sha256"] for row in rows[:3]] == [hashlib.sha256(photo.data).hexdigest() for photo in photos]


def test_a_build_holds_its_lock_and_gives_it_back(tmp_path, monkeypatch):
    seen = []
    one = job(tmp_path)

    class Watching(CaptionedImages):
        def images(self, passed=None, only=None):
            with pytest.raises(BuildError, match="Another build is working on"), locked(one.options.work):
                pass
            seen.append(True)
            raise BuildError("stop")

    _from(monkeypatch, Watching({"all": []}), PartedSource({}))
    with pytest.raises(BuildError, match="stop"):
        build(one.options, Reporter(quiet=True))
    assert seen == [True]
    assert not one.options.work.exists(), "nothing was done"
    with locked(one.options.work):
        pass


def test_a_target_that_holds_other_things_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    _from(monkeypatch, None, None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_bytes(b"x")
    with pytest.raises(BuildError, match="holds other things"):
        build(BuildOptions(load_preset("mini"), tmp_path / "out"), Reporter(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_the_builds_markers_say_goes_to_the_reporter(tmp_path, monkeypatch):
    source = CaptionedImages({"all": [image("x/1", captions=tuple("abcde"))]})
    _from(monkeypatch, source, PartedSource({"a": [image("y/1")]}))
    one = job(tmp_path)
    build(one.options, Reporter(quiet=True))
    reporter = Reporter(quiet=True)
    (one.options.work / "captioned" / "part-00000").unlink()
    build(one.options, reporter)
    assert reporter.messages == [
        "Stage 'captioned' is stale and is done again: captioned/part-00000 is missing or truncated."
    ]
