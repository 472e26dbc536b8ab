"""The plan: what would be downloaded and how much disk is needed, by sums that are written out here."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_sources import write_flickr30k, write_imagenet, write_preset

from data_prep import hub as hub_models
from data_prep import plan as planning
from data_prep.build import build
from data_prep.job import BuildOptions
from data_prep.markers import STAGES, Stages
from data_prep.plan import plan
from data_prep.preset import Classifier, Expected, load_preset
from data_prep.sources.registry import SOURCES
from mteb_vehicle_search.errors import BuildError, SourceError
from mteb_vehicle_search.terminal import Reporter


class Source:
    """A source that only tells about itself."""

    def __init__(self, size_gb: float, **described) -> None:
        self.download_gb, self.described = size_gb, described

    def describe(self):
        """Return what was given."""
        return self.described


@pytest.fixture
def sources(monkeypatch):
    """Put other sources in place of the preset's; the classifier has half a gigabyte left to download."""
    given = {
        "captioned": Source(4.0, form="hub", location="f/30k", revision="0123456789abcdef", files=["a", "b", "c", "d"]),
        "distractors": Source(150.0, form="shards", location="/i", revision="", files=["s", "t"]),
    }
    monkeypatch.setattr(BuildOptions, "open_captioned", lambda options: given["captioned"])
    monkeypatch.setattr(BuildOptions, "open_distractors", lambda options: given["distractors"])
    monkeypatch.setattr(hub_models, "model_gb", lambda *what: 0.5)
    return given


def original(tmp_path: Path, **changes) -> BuildOptions:
    return replace(BuildOptions(load_preset("original"), tmp_path / "sets" / "out"), **changes)


def shown(found) -> dict[str, str]:
    assert len({name for name, _ in found.rows}) == len(found.rows)
    return dict(found.rows)


def test_what_a_plan_shows(sources, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=12_345_678_901)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: usage)
    found = plan(original(tmp_path))
    assert shown(found) == {
        "preset": "Vehicle Image Search (vehicle-image-search)",
        "task": "VehicleImageSearch",
        "output": str(tmp_path / "sets" / "out"),
        "work": str(tmp_path / "sets" / "out.build"),
        "flickr30k": "hub f/30k at 0123456789ab",
        "flickr30k files": "a, b and 2 more",
        "flickr30k download": "4.00 GB",
        "imagenet": "shards /i",
        "imagenet files": "s, t",
        "imagenet download": "150.00 GB",
        "classifier": "google/vit-base-patch16-224 at 3f49326eb077",
        "classifier download": "0.50 GB",
        # 4 + 0.5 + one gigabyte of shards + twice 68,154 images of 10.5 kB + 31,014 times 4 kB of scores.
        "disk needed at the peak": "7.06 GB",
        "disk free": "12.35 GB",
        **{f"stage {name}": "to do" for name in STAGES},
    }
    assert found.needed_gb == pytest.approx(4 + 0.5 + 1 + (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6)
    assert found.free_gb == pytest.approx(12.345678901)
    assert [name for name, _ in found.rows][-6:] == [f"stage {name}" for name in STAGES]
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_place_and_files_shows_its_form(sources, tmp_path):
    sources["distractors"] = Source(0.25, form="drawn scenes")
    found = plan(original(tmp_path))
    assert shown(found)["imagenet"] == "drawn scenes"
    assert "imagenet files" not in shown(found)
    # Less than what may be in flight is the whole download.
    assert found.needed_gb == pytest.approx(4 + 0.5 + 0.25 + (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6)


@pytest.mark.parametrize(("files", "words"), [(["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c"], "a, b and 1 more")])
def test_the_first_two_files_are_named(sources, tmp_path, files, words):
    sources["captioned"] = Source(0, form="zip", location="/z", files=files)
    assert shown(plan(original(tmp_path)))["flickr30k files"] == words


@pytest.mark.parametrize(("gigabytes", "in_flight"), [(0.0, 0.0), (0.999, 0.999), (1.0, 1.0), (150.0, 1.0)])
def test_distractors_take_no_more_than_what_is_in_flight(sources, tmp_path, gigabytes, in_flight):
    sources["captioned"], sources["distractors"] = Source(0, form="x"), Source(gigabytes, form="x")
    rest = plan(original(tmp_path)).needed_gb - 0.5 - (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6
    assert rest == pytest.approx(in_flight, abs=1e-9)


@pytest.mark.parametrize(
    ("preset", "expected", "images"),
    [
        ("original", Expected(100, 200), 300),
        ("original", Expected(None, 200), 2_700),
        ("original", Expected(100, None), 100 + 49 * 1_350),
        ("mini", Expected(), 2_500 + 2_000),
    ],
)
def test_the_products_are_estimated_from_what_is_known(sources, tmp_path, preset, expected, images):
    sources["captioned"] = sources["distractors"] = Source(0, form="x")
    chosen = replace(load_preset(preset), expected=expected)
    listed = original(tmp_path, preset=chosen, selection="list.txt")
    assert plan(listed).needed_gb == pytest.approx(2 * images * 10.5 / 1e6)
    scored = plan(original(tmp_path, preset=chosen)).needed_gb - plan(listed).needed_gb
    assert scored == pytest.approx(0.5 + 31_014 * 4 / 1e6 if preset == "original" else 0)


def test_constants():
    assert (planning.IMAGE_KB, planning.SCORES_KB) == (10.5, 4.0)
    assert planning.SHARDS_IN_FLIGHT_GB == 1.0
    assert (SOURCES["flickr30k"].images, SOURCES["imagenet"].per_class) == (31_014, 1_350)


@pytest.mark.parametrize("name", ["captioned", "distractors"])
def test_a_source_that_is_not_ready_says_why(sources, tmp_path, monkeypatch, name):
    def refuse(options):
        raise SourceError("it is not there", "Get it.")

    monkeypatch.setattr(BuildOptions, f"open_{name}", refuse)
    found = plan(original(tmp_path))
    row = {"captioned": "flickr30k", "distractors": "imagenet"}[name]
    assert shown(found)[row] == "NOT READY: it is not there\nGet it."
    assert f"{row} download" not in shown(found)
    left = 1.0 if name == "captioned" else 4.0
    assert found.needed_gb == pytest.approx(left + 0.5 + (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6)


@pytest.mark.parametrize(
    ("selection", "row"),
    [("published", "published"), ("/a/list", "/a/list")],
)
def test_with_a_list_no_classifier_is_looked_for(sources, tmp_path, monkeypatch, selection, row):
    monkeypatch.setattr(hub_models, "model_gb", lambda *what: pytest.fail("looked for the classifier"))
    rows = shown(plan(original(tmp_path, selection=selection)))
    assert rows["selection"] == row
    assert "classifier" not in rows


def test_a_preset_without_classifier_takes_all_captioned_images(sources, tmp_path):
    rows = dict(plan(original(tmp_path, preset=load_preset("mini"))).rows)
    assert rows["selection"] == "all captioned images"
    assert "classifier" not in rows


def test_the_files_of_the_classifier_are_asked_for(sources, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(hub_models, "model_gb", lambda *what: asked.append(what) or 0.25)
    chosen = replace(load_preset("original"), classifier=Classifier("timm", "lite0", "c" * 40))
    found = plan(original(tmp_path, preset=chosen))
    assert asked == [("timm/lite0", "c" * 40, ("model.safetensors",))]
    assert shown(found)["classifier"] == "lite0 at cccccccccccc"
    assert shown(found)["classifier download"] == "0.25 GB"


def test_a_classifier_that_is_not_ready_says_why(sources, tmp_path, monkeypatch):
    def refuse(*what):
        raise SourceError("no such model")

    monkeypatch.setattr(hub_models, "model_gb", refuse)
    found = plan(original(tmp_path))
    assert shown(found)["classifier"] == "NOT READY: no such model"
    assert "classifier download" not in shown(found)
    assert found.needed_gb == pytest.approx(4 + 1 + (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6)


def test_a_local_build_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_models, "model_gb", lambda *what: pytest.fail("looked for the classifier"))
    write_flickr30k(tmp_path / "f", 1)
    write_imagenet(tmp_path / "i", 1, 1)
    (tmp_path / "classifier").mkdir()
    preset = load_preset(str(write_preset(tmp_path)))
    found = plan(
        BuildOptions(preset, tmp_path / "out", {"flickr30k": str(tmp_path / "f"), "imagenet": str(tmp_path / "i")})
    )
    rows = shown(found)
    assert rows["classifier"] == "classifier (a local folder)"
    assert rows["flickr30k"] == f"folder {tmp_path / 'f' / 'flickr30k-images'}"
    assert rows["flickr30k files"] == "flickr_annotations_30k.csv, flickr30k-images"
    assert (rows["flickr30k download"], rows["imagenet download"]) == ("0.00 GB", "0.00 GB")
    assert found.needed_gb == pytest.approx((2 * (30 + 3 * 1_350) * 10.5 + 31_014 * 4) / 1e6)


def test_stages_that_are_done_are_counted(sources, tmp_path):
    options = original(tmp_path)
    stages = Stages(options.work)
    stages.finish("classify", {})
    stages.finish("classify/chunk-00000", {})
    stages.finish("captioned", {})
    stages.finish("distractors/part-00000", {})
    rows = shown(plan(options))
    assert [rows[f"stage {name}"] for name in STAGES] == ["done", "to do", "done", "1 part done", "to do", "to do"]
    stages.finish("distractors/part-00001", {})
    assert shown(plan(options))["stage distractors"] == "2 parts done"


def test_free_space_is_that_of_the_nearest_folder_there_is(sources, tmp_path, monkeypatch):
    asked = []
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: asked.append(path) or usage)
    plan(original(tmp_path))
    (tmp_path / "sets" / "out").mkdir(parents=True)
    plan(original(tmp_path))
    assert asked == [tmp_path, tmp_path / "sets" / "out"]


def test_a_target_that_holds_other_things_is_refused(sources, tmp_path):
    (tmp_path / "sets" / "out").mkdir(parents=True)
    (tmp_path / "sets" / "out" / "thesis.doc").write_bytes(b"")
    with pytest.raises(BuildError, match=r"holds other things, which a build would delete: thesis\.doc"):
        plan(original(tmp_path))


def named(tmp_path: Path, name: str, task_name: str = "") -> BuildOptions:
    return BuildOptions(replace(load_preset("mini"), name=name, task_name=task_name), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "task_name", "taken"),
    [
        ("banking77-classification", "Banking77Classification", "Banking77Classification of mteb."),
        ("cars", "BANKING77Classification", "Banking77Classification of mteb."),  # One file on many a disk.
        ("cars", "VehicleImageSearch", "that of the set vehicle-image-search"),
        ("cars", "VehicleImageSearchMini", "that of the set vehicle-image-search-mini"),
        ("cars", "VehicleimageSearch", "that of the set vehicle-image-search"),
        ("vehicle-image-search", "VehicleImageSearchMini", "that of the set vehicle-image-search-mini"),
    ],
)
@pytest.mark.parametrize("work", [plan, lambda options: build(options, Reporter(quiet=True))], ids=["plan", "build"])
def test_the_name_of_another_task_is_refused_before_any_work(tmp_path, name, task_name, taken, work):
    with pytest.raises(BuildError) as caught:
        work(named(tmp_path, name, task_name))
    assert caught.value.message.startswith(f"The task name {task_name} is taken: {taken}")
    assert caught.value.hint == "State another task_name in the preset."
    assert list(tmp_path.iterdir()) == []


def test_the_tasks_of_evaluation_sets_are_not_taken(tmp_path, monkeypatch):
    """A set that is built again is among mteb's tasks by then."""
    from mteb.get_tasks import _TASKS_REGISTRY

    ours = type("CarSearch", (), {"__module__": "mteb_vehicle_search.tasks"})
    others = type("CatSearch", (), {"__module__": "some_package.tasks"})
    monkeypatch.setitem(_TASKS_REGISTRY, "CarSearch", ours)
    monkeypatch.setitem(_TASKS_REGISTRY, "CatSearch", others)
    assert ("task", "CarSearch") in plan(named(tmp_path, "car-search")).rows
    with pytest.raises(BuildError, match=r"CatSearch is taken: CatSearch of some_package.tasks"):
        plan(named(tmp_path, "cat-search"))
    for name, task in (("vehicle-image-search", "VehicleImageSearch"), ("vehicle-image-search", "Cars")):
        assert ("task", task) in plan(named(tmp_path, name, task)).rows


def test_the_tasks_of_our_own_sets_are_all_known():
    from mteb_vehicle_search.tasks import OWN_TASKS

    own = {load_preset(name).task.lower(): load_preset(name).name for name in ("original", "mini")}
    assert own == planning.OWN_TASKS
    assert {task.metadata.name.lower() for task in OWN_TASKS} == set(own)
