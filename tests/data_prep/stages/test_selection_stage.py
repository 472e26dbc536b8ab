"""The stages `classify` and `select`: which way is chosen, what is said and counted, what is not done twice."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sources import NAMES, WNIDS, Recorder, jpeg, write_preset

from data_prep.job import BuildOptions, Job
from data_prep.markers import Stages
from data_prep.preset import Expected, Selection, load_preset
from data_prep.sources import SourceImage
from data_prep.stages import classifiers as scorers
from data_prep.stages import select as selection
from data_prep.stages import select as selection_stage
from data_prep.stages.select import Selected, select
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import Rejected
from mteb_vehicle_search.terminal import Reporter

SIZES = {"f/a": 10, "f/b": 30, "f/c": 20, "f/d": 40}


class Source:
    """Images that differ in their width."""

    def __init__(self, images: list[SourceImage]) -> None:
        self.given, self.read = images, 0

    def count(self):
        """Return how many there are."""
        return len(self.given)

    def images(self):
        """Yield them, and count."""
        for image in self.given:
            self.read += 1
            yield image


class WidthScorer(scorers.Scorer):
    """The first three classes have a hundredth of the width as probability together."""

    classes = 4

    def __init__(self) -> None:
        super().__init__("cpu")
        self.labels = list(NAMES.values())
        self.batch_sizes: list[int] = []

    def pixels(self, image):
        """Return the width."""
        return np.array([image.width], dtype=np.float32)

    def probabilities(self, inputs, batch_size):
        """Return 4 probabilities."""
        self.batch_sizes.append(batch_size)
        return np.array([[w / 400, w / 400, w / 200, 1 - w / 100] for (w,) in inputs], dtype=np.float32)


@pytest.fixture
def source():
    return Source([SourceImage(name, jpeg(Image.new("RGB", (w, 8))), "f", "") for name, w in SIZES.items()])


@pytest.fixture
def loaded(monkeypatch):
    """Every classifier that was loaded."""
    made: list = []

    def load(classifier, folder, device):
        made.append((classifier.model, folder, device, WidthScorer()))
        return made[-1][3]

    monkeypatch.setattr(scorers, "load_scorer", load)
    return made


@pytest.fixture
def job(tmp_path):
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / "model.safetensors").write_bytes(b"w")
    preset = load_preset(str(write_preset(tmp_path)))
    # The published list would lie in the work folder, which the lock makes.
    (tmp_path / "out.build").mkdir()
    options = BuildOptions(preset, tmp_path / "out", device="cpu", workers=1, batch_size=3)
    return fresh(options, rule=Selection("carts.tsv", threshold=0.25), expected=Expected())


def fresh(options: BuildOptions, rule: Selection | None = None, expected: Expected | None = None, **changes) -> Job:
    """A job that has read nothing yet."""
    preset = options.preset
    preset = replace(preset, selection=rule or preset.selection, expected=expected or preset.expected)
    options = replace(options, preset=changes.pop("preset", preset), **changes)
    reporter = Recorder()
    return Job(options, reporter, Stages(options.work, reporter.say), {"form": "test"})


def test_images_above_the_threshold_are_kept_with_their_scores(job, source, loaded):
    found = select(job, source)
    assert found.scores == {"f/b": pytest.approx(0.3), "f/d": pytest.approx(0.4)}
    assert list(found.scores) == ["f/b", "f/d"]
    digest = selection.selection_digest(["f/b", "f/d"])
    assert found.compared == {"count": 2, "sha256": digest}
    assert job.reporter.messages == [f"Selection: 2 images, sha256 {digest[:16]}..."]
    assert job.inputs == Counter(captioned=4)
    assert job.rejected == []
    assert job.reporter.tracked == [("classify", 4)]
    ((model, folder, device, scorer),) = loaded
    assert (model, folder, device, scorer.batch_sizes) == ("classifier", job.preset.folder, "cpu", [3])
    stored = json.loads((job.options.work / "selection.json").read_text(encoding="utf-8"))
    assert stored == found.scores
    assert job.stages.finished() == {"classify": 2, "select": 1}
    for stage in ("classify", "classify/chunk-00000"):
        known = json.loads(job.stages.path(stage).read_text(encoding="utf-8"))["configuration"]
        assert (known["batch_size"], known["device"]) == (3, "cpu, 1 thread a batch")


def test_a_second_run_reads_nothing_and_finds_the_same(job, source, loaded):
    first = select(job, source)
    again = fresh(job.options)
    assert select(again, source) == first
    assert (source.read, len(loaded)) == (4, 1)
    assert again.inputs == Counter(captioned=4)
    assert again.reporter.messages == job.reporter.messages


def test_a_share_counts_all_classified_images(job, source, loaded):
    found = select(fresh(job.options, Selection("carts.tsv", share=0.75)), source)
    assert list(found.scores) == ["f/b", "f/c", "f/d"]


def test_refused_images_count_as_read_and_stop_the_build(job, source, loaded):
    source.given[1] = SourceImage("f/b", b"", "f", "", problem="gone")
    for _ in range(2):
        one = fresh(job.options)
        with pytest.raises(BuildError, match=r"1 of 4 inputs were refused"):
            select(one, source)
        assert one.rejected == [Rejected("f/b", "classify", "gone")]
    allowed = fresh(job.options, allow_rejects=True)
    assert list(select(allowed, source).scores) == ["f/d"]
    assert allowed.inputs == Counter(captioned=4)
    assert source.read == 4


def test_nothing_left_is_an_error_and_no_stage(job, source, loaded):
    with pytest.raises(BuildError, match=r"keeps no image at all\.\nLower selection\.threshold in the preset\."):
        select(fresh(job.options, Selection("carts.tsv", threshold=0.9)), source)
    assert "select" not in job.stages.finished()


def test_a_preset_without_classifier_keeps_all_and_does_nothing(job, source):
    found = select(fresh(job.options, preset=load_preset("mini")), source)
    assert found == Selected(None, {})
    assert job.stages.finished() == {}
    assert source.read == 0


def test_a_list_takes_the_place_of_the_classifier(job, source, tmp_path):
    (tmp_path / "list.txt").write_text("d.jpg\nb.jpg\n", encoding="utf-8")
    listed = fresh(job.options, selection=str(tmp_path / "list.txt"))
    found = select(listed, source)
    assert found.scores == {"flickr30k/b": None, "flickr30k/d": None}
    assert list(found.scores) == ["flickr30k/b", "flickr30k/d"]
    assert listed.stages.finished() == {"select": 1}
    assert (source.read, listed.inputs) == (0, Counter())
    (tmp_path / "list.txt").write_text("d.jpg\n", encoding="utf-8")
    assert list(select(fresh(listed.options), source).scores) == ["flickr30k/d"]


def test_the_published_list_lies_in_the_work_folder(job, source, tmp_path, monkeypatch):
    asked = []

    def download(folder: Path) -> Path:
        asked.append(folder)
        (folder / "published.csv").write_text("b.jpg\n", encoding="utf-8")
        return folder / "published.csv"

    monkeypatch.setattr(selection, "published_file", download)
    found = select(fresh(job.options, selection="published"), source)
    assert asked == [tmp_path / "out.build"]
    assert found.scores == {"flickr30k/b": None}
    assert (found.compared["missing"], found.compared["extra"]) == ([], [])


def test_what_is_known_of_the_published_selection_is_compared(job, source, loaded, tmp_path):
    wanted = selection.selection_digest(["x/b", "x/d"])
    known = fresh(job.options, expected=Expected(captioned=5, selection_sha256=wanted))
    found = select(known, source)
    assert found.compared == {
        "count": 2,
        "sha256": wanted,
        "expected_count": 5,
        "expected_sha256": wanted,
        "same": True,
    }
    other = fresh(job.options, expected=Expected(captioned=5, selection_sha256="0" * 64))
    assert select(other, source).compared["same"] is False
    assert any(
        "It is NOT the published one (5 images, sha256 0000000000000000...)" in m for m in other.reporter.messages
    )
    (tmp_path / "out.build" / "published.csv").write_text("b.jpg\nc.jpg\n", encoding="utf-8")
    at_hand = select(fresh(job.options), source).compared
    assert at_hand["missing"] == ["flickr30k/b", "flickr30k/c"]
    assert at_hand["extra"] == ["f/b", "f/d"]
    # Another list is another comparison.
    (tmp_path / "out.build" / "published.csv").write_text("b.jpg\n", encoding="utf-8")
    assert select(fresh(job.options), source).compared["missing"] == ["flickr30k/b"]


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_a_selection_that_is_not_the_published_one_is_told_though_it_be_quiet(
    job, source, tmp_path, capsys, quiet, same
):
    (tmp_path / "list.txt").write_text("b.jpg\nd.jpg\n", encoding="utf-8")
    digest = selection.selection_digest(["flickr30k/b", "flickr30k/d"] if same else ["flickr30k/b"])
    expected = Expected(captioned=2, selection_sha256=digest)
    one = fresh(job.options, expected=expected, selection=str(tmp_path / "list.txt"))
    one.reporter = Reporter(quiet)
    select(one, source)
    told = capsys.readouterr().err
    assert ("warning: Selection: 2 images" in told) is not same
    assert ("It is NOT the published one" in told) is not same
    assert ("It is the same as the published one" in told) is (same and not quiet)


def test_a_classifier_that_names_its_classes_otherwise_is_a_warning(job, source, loaded, tmp_path):
    rows = [f"{index}\t{WNIDS[index]}\tfish\tx" for index in range(3)]
    (tmp_path / "carts.tsv").write_text("\n".join(["index\twnid\tname\troots", *rows]) + "\n", encoding="utf-8")
    select(job, source)
    warning = job.reporter.messages[0]
    assert warning.startswith("warning: 3 of 3 class names differ between the classifier and the class set, first 0:")


def test_more_than_a_chunk_is_read_in_order(job, source, loaded, monkeypatch):
    monkeypatch.setattr("data_prep.stages.chunks.CHUNK", 1)
    found = select(job, source)
    assert list(found.scores) == ["f/b", "f/d"]
    marker = json.loads((job.options.work / "stages" / "classify.json").read_text(encoding="utf-8"))
    assert marker["counts"] == {"chunks": 4}
    assert sorted(marker["outputs"]) == [f"scores/chunk-{n:05d}.parquet" for n in range(4)]
    # A marker with its outputs in any order gives the same.
    again = fresh(job.options)
    assert select(again, source).scores == found.scores
    assert again.inputs == Counter(captioned=4)


@pytest.mark.parametrize(
    ("missing", "message"), [("selection", r"A classifier needs \[selection\]"), ("classifier", "has no classifier")]
)
def test_a_preset_made_by_hand_is_checked(job, source, missing, message):
    preset = replace(job.preset, **{missing: None})
    if missing == "classifier":
        with pytest.raises(BuildError, match=message):
            selection_stage.classify(fresh(job.options, preset=preset), source, job.preset.selection_classes())
    else:
        with pytest.raises(BuildError, match=message):
            select(fresh(job.options, preset=preset), source)
