"""The plan: what would be downloaded and how much disk is needed, by sums that are written out here."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_sources import WNIDS, train_classifier, write_flickr30k, write_imagenet, write_preset

from data_prep import plan as planning
from data_prep.build import build
from data_prep.job import BuildOptions
from data_prep.markers import STAGES, Stages
from data_prep.plan import plan
from data_prep.preset import Classifier, Expected, Selection, load_preset
from data_prep.sources import Shard
from data_prep.sources.registry import SOURCES
from data_prep.stages import classifiers, select
from mteb_vehicle_search.errors import BuildError, SourceError, VehicleSearchError
from mteb_vehicle_search.terminal import Reporter

WITHOUT_MINERS = [name for name in STAGES if name not in ("embed", "mine")]


class Source:
    """A source that only tells about itself."""

    notes = ()

    def __init__(self, size_gb: float, **described) -> None:
        self.size, self.described = round(size_gb * 1e9), described

    def describe(self):
        """Return what was given."""
        return self.described

    def check(self):
        """It looks whole."""
        return []

    def count(self):
        """It does not know."""

    def travels_bytes(self, only=1.0):
        """A share of what was given, or a megabyte an image."""
        return round(only * self.size) if isinstance(only, float) else len(only) * 1_000_000

    def shards(self, wanted, splits):
        """There are two, if something travels."""
        first = self.size // 3
        both = (("a", first), ("b", self.size - first))
        return [Shard(name, "", size, "train", travels_bytes=size) for name, size in both] if self.size else []


@pytest.fixture
def sources(monkeypatch):
    """Put other sources in place of the preset's; the classifier has half a gigabyte left to download."""
    given = {
        "captioned": Source(4.0, form="hub", location="f/30k", revision="0123456789abcdef", files=["a", "b", "c", "d"]),
        "distractors": Source(150.0, form="hub", location="/i", revision="", files=["s", "t"]),
    }
    monkeypatch.setattr(BuildOptions, "open_captioned", lambda options: given["captioned"])
    monkeypatch.setattr(BuildOptions, "open_distractors", lambda options: given["distractors"])
    monkeypatch.setattr(classifiers, "model_gb", lambda *what: 0.5)
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
        # All for the classifier, and since nobody knows how many there are, perhaps all of them again.
        "flickr30k travels": "8 GB: 11 min at 100 Mbit/s and 64 s at 1 Gbit/s",
        "imagenet": "hub /i",
        "imagenet files": "s, t",
        "imagenet travels": "150 GB: 3.3 h at 100 Mbit/s and 20 min at 1 Gbit/s",
        "classifier": "google/vit-base-patch16-224 at 3f49326eb077",
        "classifier travels": "500 MB: 40 s at 100 Mbit/s and 4 s at 1 Gbit/s",
        "in all": "158 GB: 3.5 h at 100 Mbit/s and 21 min at 1 Gbit/s",
        # 0.5 + one gigabyte of shards + twice 68,154 images of 10.5 kB + 31,014 times 4 kB of scores.
        "disk needed at the peak": "3.06 GB",
        "disk free": "12.35 GB",
        **{f"stage {name}": "to do" for name in WITHOUT_MINERS},
    }
    assert found.needed_gb == pytest.approx(0.5 + 1 + (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6)
    assert found.free_gb == pytest.approx(12.345678901)
    assert [name for name, _ in found.rows][-6:] == [f"stage {name}" for name in WITHOUT_MINERS]
    assert list(tmp_path.iterdir()) == []


def test_a_source_without_place_and_files_shows_its_form(sources, tmp_path):
    sources["distractors"] = Source(0, form="drawn scenes")
    found = plan(original(tmp_path))
    assert shown(found)["imagenet"] == "drawn scenes"
    assert shown(found)["imagenet travels"] == "nothing"
    assert "imagenet files" not in shown(found)


class TestWhatTravels:
    """Bytes that have yet to come over a network, by source."""

    def test_a_list_says_which_images_travel_and_else_about_how_many(self, sources, tmp_path, monkeypatch):
        monkeypatch.setattr(select, "require_answer", lambda address: None)
        monkeypatch.setattr(Source, "count", lambda source: 31_014)
        (tmp_path / "list.txt").write_text("1.jpg\n2.jpg\n3.jpg\n", encoding="utf-8")
        listed = plan(original(tmp_path, selection=str(tmp_path / "list.txt")))
        assert listed.travels["flickr30k"] == 3_000_000
        published = plan(original(tmp_path, selection="published"))
        assert published.travels["flickr30k"] == round(4e9 * 2_145 / 31_014)
        classified = plan(original(tmp_path))
        assert classified.travels["flickr30k"] == 4_000_000_000 + round(4e9 * 2_145 / 31_014)
        shared = replace(load_preset("original"), expected=Expected(), selection=Selection("orig49", share=0.25))
        assert plan(original(tmp_path, preset=shared)).travels["flickr30k"] == 5_000_000_000

    def test_what_is_done_does_not_travel_again(self, sources, tmp_path):
        stages = Stages(original(tmp_path).work)
        stages.finish("classify", {})
        assert plan(original(tmp_path)).travels["flickr30k"] == 4_000_000_000
        stages.finish("distractors/a", {})
        assert plan(original(tmp_path)).travels["imagenet"] == 100_000_000_000
        stages.finish("captioned", {})
        assert shown(plan(original(tmp_path)))["flickr30k travels"] == "nothing"

    def test_a_recipe_says_which_images_travel(self, sources, tmp_path):
        recipe = SimpleNamespace(where="recipe.json", captioned={"flickr30k/1": None, "flickr30k/2": None})
        preset = replace(load_preset("original"), classifier=None, selection=None)
        assert plan(original(tmp_path, preset=preset, recipe=recipe)).travels["flickr30k"] == 2_000_000

    def test_two_parts_of_one_source_are_one_sum(self, sources, tmp_path):
        mini = replace(load_preset("mini"), expected=Expected())
        sources["captioned"], sources["distractors"] = Source(1, form="x"), Source(2, form="x")
        found = plan(original(tmp_path, preset=mini))
        assert found.travels == {"drawn": 3_000_000_000}

    @pytest.mark.parametrize(
        ("size", "says"),
        [
            (1, "0.001 kB: 1 s at 100 Mbit/s and 1 s at 1 Gbit/s"),
            (12_500_000 * 99, "1.24 GB: 99 s at 100 Mbit/s and 10 s at 1 Gbit/s"),
            (12_500_000 * 100, "1.25 GB: 2 min at 100 Mbit/s and 10 s at 1 Gbit/s"),
            (12_500_000 * 7_200, "90 GB: 2.0 h at 100 Mbit/s and 12 min at 1 Gbit/s"),
            (999_700, "1 MB: 1 s at 100 Mbit/s and 1 s at 1 Gbit/s"),
        ],
    )
    def test_how_long_it_takes(self, size, says):
        assert planning._with_times(size) == says


@pytest.mark.parametrize(("files", "words"), [(["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c"], "a, b and 1 more")])
def test_the_first_two_files_are_named(sources, tmp_path, files, words):
    sources["captioned"] = Source(0, form="zip", location="/z", files=files)
    assert shown(plan(original(tmp_path)))["flickr30k files"] == words


@pytest.mark.parametrize(("gigabytes", "in_flight"), [(0.0, 0.0), (0.999, 0.999), (1.0, 1.0), (150.0, 1.0)])
def test_distractors_take_no_more_than_what_is_in_flight(sources, tmp_path, gigabytes, in_flight):
    sources["captioned"], sources["distractors"] = Source(0, form="x"), Source(gigabytes, form="hub")
    rest = plan(original(tmp_path)).needed_gb - 0.5 - (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6
    assert rest == pytest.approx(in_flight, abs=1e-9)


def test_distractors_that_are_read_where_they_lie_take_no_room(sources, tmp_path):
    sources["captioned"], sources["distractors"] = Source(0, form="x"), Source(150.0, form="shards")
    assert plan(original(tmp_path)).needed_gb == pytest.approx(0.5 + (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6)


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
    assert (SOURCES["flickr30k"].images, SOURCES["imagenet"].per_class) == (
        31_014,
        {"train": (732, 1_300), "val": (50, 50)},
    )


@pytest.mark.parametrize("name", ["captioned", "distractors"])
def test_a_source_that_is_not_ready_says_why(sources, tmp_path, monkeypatch, name):
    def refuse(options):
        raise SourceError("it is not there", "Get it.")

    monkeypatch.setattr(BuildOptions, f"open_{name}", refuse)
    found = plan(original(tmp_path))
    row = {"captioned": "flickr30k", "distractors": "imagenet"}[name]
    assert shown(found)[row] == "NOT READY"
    assert [str(problem) for problem in found.problems] == ["it is not there\nGet it."]
    with pytest.raises(SourceError, match="it is not there"):
        found.require()
    assert f"{row} travels" not in shown(found)
    left = 1.0 if name == "captioned" else 0.0
    assert found.needed_gb == pytest.approx(left + 0.5 + (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6)


@pytest.mark.parametrize(
    ("selection", "row"),
    [("published", "published"), (__file__, __file__)],
)
def test_with_a_list_no_classifier_is_looked_for(sources, tmp_path, monkeypatch, selection, row):
    monkeypatch.setattr(classifiers, "model_gb", lambda *what: pytest.fail("looked for the classifier"))
    monkeypatch.setattr(select, "require_answer", lambda address: None)
    rows = shown(plan(original(tmp_path, selection=selection)))
    assert rows["selection"] == row
    assert "classifier" not in rows


def test_a_preset_without_classifier_takes_all_captioned_images(sources, tmp_path):
    rows = dict(plan(original(tmp_path, preset=load_preset("mini"))).rows)
    assert rows["selection"] == "all captioned images"
    assert "classifier" not in rows


def test_the_files_of_the_classifier_are_asked_for(sources, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(classifiers, "model_gb", lambda *what: asked.append(what) or 0.25)
    chosen = replace(load_preset("original"), classifier=Classifier("timm", "lite0", "c" * 40))
    found = plan(original(tmp_path, preset=chosen))
    assert asked == [("timm/lite0", "c" * 40, ("model.safetensors",))]
    assert shown(found)["classifier"] == "lite0 at cccccccccccc"
    assert shown(found)["classifier travels"] == "250 MB: 20 s at 100 Mbit/s and 2 s at 1 Gbit/s"


def test_a_classifier_that_is_not_ready_says_why(sources, tmp_path, monkeypatch):
    def refuse(*what):
        raise SourceError("no such model")

    monkeypatch.setattr(classifiers, "model_gb", refuse)
    found = plan(original(tmp_path))
    assert shown(found)["classifier"] == "NOT READY"
    assert [str(problem) for problem in found.problems] == ["no such model"]
    assert "classifier travels" not in shown(found)
    assert found.needed_gb == pytest.approx(1 + (2 * 68_154 * 10.5 + 31_014 * 4) / 1e6)


def test_a_local_build_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(classifiers, "model_gb", lambda *what: pytest.fail("looked for the classifier"))
    write_flickr30k(tmp_path / "f", 1)
    write_imagenet(tmp_path / "i", 1, 1)
    train_classifier(tmp_path / "classifier", steps=0)
    preset = load_preset(str(write_preset(tmp_path)))
    found = plan(
        BuildOptions(preset, tmp_path / "out", {"flickr30k": str(tmp_path / "f"), "imagenet": str(tmp_path / "i")})
    )
    rows = shown(found)
    assert rows["classifier"] == "classifier (a local folder)"
    assert rows["flickr30k"] == f"folder {tmp_path / 'f' / 'flickr30k-images'}"
    assert rows["flickr30k files"] == "flickr_annotations_30k.csv, flickr30k-images"
    assert (rows["flickr30k travels"], rows["imagenet travels"], rows["in all"]) == ("nothing", "nothing", "nothing")
    assert found.needed_gb == pytest.approx((2 * (30 + 3 * 1_350) * 10.5 + 31_014 * 4) / 1e6)


def test_stages_that_are_done_are_counted(sources, tmp_path):
    options = original(tmp_path)
    stages = Stages(options.work)
    stages.finish("classify", {})
    stages.finish("classify/chunk-00000", {})
    stages.finish("captioned", {})
    stages.finish("distractors/part-00000", {})
    rows = shown(plan(options))
    assert [rows[f"stage {name}"] for name in WITHOUT_MINERS] == [
        "done",
        "to do",
        "done",
        "1 part done",
        "to do",
        "to do",
    ]
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
        plan(original(tmp_path)).require()


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
@pytest.mark.parametrize(
    "work",
    [lambda options: plan(options).require(), lambda options: build(options, Reporter(quiet=True))],
    ids=["plan", "build"],
)
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
        plan(named(tmp_path, "cat-search")).require()
    for name, task in (("vehicle-image-search", "VehicleImageSearch"), ("vehicle-image-search", "Cars")):
        assert ("task", task) in plan(named(tmp_path, name, task)).rows


def test_the_tasks_of_our_own_sets_are_all_known():
    from mteb_vehicle_search.tasks import OWN_TASKS

    own = {load_preset(name).task.lower(): load_preset(name).name for name in ("original", "mini")}
    assert own == planning.OWN_TASKS
    assert {task.metadata.name.lower() for task in OWN_TASKS} == set(own)


class TestWhatIsMissing:
    """Everything that a build lacks is told at once, by the build and by its dry run."""

    @pytest.fixture
    def options(self, tmp_path):
        """A build of small data that can start."""
        write_flickr30k(tmp_path / "f", 4)
        write_imagenet(tmp_path / "i", 1, 1)
        train_classifier(tmp_path / "classifier", steps=0)
        sources = {"flickr30k": str(tmp_path / "f"), "imagenet": str(tmp_path / "i")}
        return BuildOptions(load_preset(str(write_preset(tmp_path))), tmp_path / "out", sources, device="cpu")

    def test_nothing_is(self, options):
        found = plan(options)
        assert found.problems == []
        assert found.require() == (found.captioned, found.distractors)

    def test_a_class_the_classifier_and_the_output_are_named_at_once(self, options, tmp_path):
        (tmp_path / "i" / "train" / WNIDS[1]).rename(tmp_path / "elsewhere")
        (tmp_path / "classifier" / "model.safetensors").unlink()
        (tmp_path / "out").write_bytes(b"")
        for work in (lambda: plan(options).require(), lambda: build(options, Reporter(quiet=True))):
            with pytest.raises(BuildError) as caught:
                work()
            told = str(caught.value)
            assert told.startswith("The build cannot start, for 3 reasons:\n1. ")
            for what in (f"{tmp_path / 'out'} is not a folder.", f"has no class folder {WNIDS[1]}", "lacks model.safe"):
                assert what in told
        assert not options.work.exists()

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"out": "folder/file/out"}, r"out\.build cannot be made: .*file is not a folder"),
            ({"device": "cuda:9"}, "There is no device 'cuda:9' here"),
            ({"selection": "nothing.txt"}, "There is no selection nothing.txt"),
            ({"sources": {"flickr30k": "nowhere"}}, "there is no folder nowhere"),
        ],
    )
    def test_what_an_option_names_is_looked_for(self, options, tmp_path, change, says):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").touch()
        if "out" in change:
            change = {"out": tmp_path / change["out"]}
        if "sources" in change:
            change = {"sources": {**options.sources, **change["sources"]}}
        with pytest.raises(VehicleSearchError, match=says):
            plan(replace(options, **change)).require()

    def test_a_source_that_the_preset_does_not_use_is_no_silence(self, tmp_path):
        options = BuildOptions(load_preset("mini"), tmp_path / "out", {"imagenet": "nofolder"})
        with pytest.raises(BuildError, match="The preset vehicle-image-search-mini uses no imagenet: --imagenet has"):
            plan(options).require()

    def test_only_splits_that_are_used_are_looked_for(self, options, tmp_path):
        shutil.rmtree(tmp_path / "i" / "train")
        with pytest.raises(SourceError, match=r"there is neither .*train\.tar nor a folder train/ of classes"):
            plan(options).require()
        preset = replace(options.preset, distractors=replace(options.preset.distractors, splits=("val",)))
        assert plan(replace(options, preset=preset)).problems == []

    def test_a_folder_that_may_not_be_written(self, options, tmp_path, monkeypatch):
        monkeypatch.setattr("mteb_vehicle_search.files.os.access", lambda path, mode: False)
        with pytest.raises(BuildError, match=r"out\.build cannot be written: .* may not be written into"):
            plan(options).require()

    def test_what_looks_incomplete_is_refused_unless_it_is_wanted(self, options, tmp_path):
        csv = tmp_path / "f" / "flickr_annotations_30k.csv"
        lines = csv.read_text(encoding="utf-8").splitlines(keepends=True)
        csv.write_text("".join(lines[:-1]), encoding="utf-8")
        with pytest.raises(BuildError, match="is the file cut short") as caught:
            plan(options).require()
        assert caught.value.hint == "Get the missing part, or go on with what is there: --allow-incomplete"
        found = plan(replace(options, allow_incomplete=True))
        assert found.problems == []
        assert any("is the file cut short" in warning for warning in found.warnings)

    def test_what_is_less_than_the_whole_is_told(self, options):
        assert plan(options).warnings == [
            "flickr30k: 4 images are there; the whole data set has 31,014.",
            f"imagenet: a class has 732 to 1,300 train images, but 3 of 3 have other numbers here "
            f"({', '.join(f'{WNIDS[kind]} 1' for kind in range(3))}).",
            f"imagenet: a class has 50 val images, but 3 of 3 have other numbers here "
            f"({', '.join(f'{WNIDS[kind]} 1' for kind in range(3))}).",
        ]

    def test_a_disk_that_is_too_small(self, options, tmp_path, monkeypatch):
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: usage)
        (warning,) = [text for text in plan(options).warnings if "disk" in text]
        assert warning == "About 0.21 GB are needed; 0.00 GB are free on the disk."

    def test_what_is_done_needs_no_room_again(self, options, tmp_path):
        before = plan(options).needed_gb
        options.work.mkdir()
        (options.work / "images").write_bytes(bytes(1_000_000))
        assert plan(options).needed_gb == pytest.approx(before - 0.001, abs=1e-5)

    def test_files_of_another_build_may_vanish_meanwhile(self, options, monkeypatch):
        options.work.mkdir()
        (options.work / "images.partial").write_bytes(bytes(10))
        lstat = Path.lstat

        def gone(path):
            if path.suffix == ".partial":
                raise FileNotFoundError(path)
            return lstat(path)

        monkeypatch.setattr(Path, "lstat", gone)
        assert plan(options).problems == []


MINED = f"""
name = "mined"
title = "Mined"
[captioned]
source = "flickr30k"
[selection]
method = "clusters"
clusters = 150
images = 2000
views = ["texts"]
[distractors]
source = "imagenet"
method = "mined"
miners = ["hub", "layout"]
[miners.hub]
library = "timm"
model = "vit_small"
revision = "{"a" * 40}"
[miners.texts]
library = "sentence-transformers"
model = "bert"
[miners.layout]
library = "pixels"
model = "layout"
"""


@pytest.fixture
def mined(sources, tmp_path, monkeypatch):
    """A preset with miners; that on the hub has a quarter of a gigabyte left to download."""
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "modules.json").write_text("[]", encoding="utf-8")
    save_file({"w": np.zeros(1)}, tmp_path / "bert" / "model.safetensors")
    (tmp_path / "mined.toml").write_text(MINED, encoding="utf-8")
    monkeypatch.setattr("data_prep.stages.miners.model_gb", lambda *what: 0.25)
    monkeypatch.setattr("data_prep.stages.ranked._is_known", lambda model: model == "ranked/one")
    return original(tmp_path, preset=load_preset(str(tmp_path / "mined.toml")))


def test_miners_are_looked_for_and_travel(mined):
    found = plan(mined)
    rows = dict(found.rows)
    assert found.problems == []
    assert rows["selection"] == "of 150 clusters up to 2,000 images"
    assert rows["miner hub"] == "timm vit_small at aaaaaaaaaaaa"
    assert (rows["miner texts"], rows["miner layout"]) == ("sentence-transformers bert", "pixels layout")
    assert rows["stage embed"] == "to do"
    assert found.travels["miner hub"] == 250_000_000
    assert "miner texts" not in found.travels
    # All for the clusters, and then about which share is kept is not known.
    assert found.travels["flickr30k"] == 8_000_000_000
    Stages(mined.work).finish("embed/captioned", {})
    assert plan(mined).travels["flickr30k"] == 4_000_000_000
    listed = replace(mined, selection=str(mined.preset.folder / "names.txt"))
    (mined.preset.folder / "names.txt").write_text("1.jpg\n2.jpg\n", encoding="utf-8")
    assert plan(replace(listed, out=mined.out.with_name("new"))).travels["flickr30k"] == 4_000_000


def test_miners_that_are_not_at_hand_or_are_ranked_are_problems(mined, tmp_path):
    (tmp_path / "bert" / "model.safetensors").unlink()
    ranked = replace(mined.preset.miners["hub"], model="ranked/one")
    preset = replace(mined.preset, miners={**mined.preset.miners, "hub": ranked})
    found = plan(replace(mined, preset=preset))
    assert [str(problem) for problem in found.problems] == [
        "The miner hub is ranked/one, an image-text model: one that a set ranks cannot choose its images.\n"
        "Name a model of images alone (library timm), or of texts alone (sentence-transformers).",
        f"The miner in {tmp_path / 'bert'} lacks model.safetensors; found: modules.json.\n"
        "Name a folder of sentence-transformers with modules.json and weights as safetensors.",
    ]
    assert dict(found.rows)["miner texts"] == "NOT READY"


def test_a_list_of_the_preset_is_looked_for(sources, tmp_path):
    preset = replace(
        load_preset("original"), classifier=None, selection=Selection(method="list", list="l.txt"), folder=tmp_path
    )
    found = plan(original(tmp_path, preset=preset))
    assert [problem.message for problem in found.problems] == [f"There is no selection {tmp_path / 'l.txt'}."]
    (tmp_path / "l.txt").write_text("1.jpg\n2.jpg\n3.jpg\n", encoding="utf-8")
    found = plan(original(tmp_path, preset=preset))
    assert (found.problems, dict(found.rows)["selection"]) == ([], "l.txt")
    assert found.travels["flickr30k"] == 3_000_000
