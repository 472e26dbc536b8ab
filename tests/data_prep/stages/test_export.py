"""From finished images to a verified set: what is found, removed and written, and when it is done again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from small_set import jpeg
from small_sources import WNIDS

from data_prep.job import BuildOptions, Job
from data_prep.markers import Marker, Stages
from data_prep.preset import Captioned, Distractors, Duplicates, Expected, Preset
from data_prep.sources import SourceImage
from data_prep.stages import export as exporting
from data_prep.stages.export import export, find_duplicates, queries_of
from data_prep.stages.mine import Mined
from data_prep.stages.reduce import Prepared, read_reduced, write_reduced
from data_prep.stages.select import Selected
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import Arm, ImagePolicy, Qrel, Query, Rejected
from mteb_vehicle_search.eval_set.verify import Verification, Violation, verify
from mteb_vehicle_search.terminal import Reporter

CAR, BUS, TRAM = "flickr30k/100", "flickr30k/200", "flickr30k/300"
SAME, NEAR, FAR, TWIN = (f"imagenet/train/n01440764_{n}" for n in (1, 2, 3, 4))
OTHER = "imagenet/val/ILSVRC2012_val_00000007"
CAPTIONS = {
    CAR: ("A car.", "Red car.", "A third one."),
    BUS: ("A bus.", "A car.", "A third one."),
    TRAM: ("A tram.", "Rails.", "A third one."),
}
# Id: (number of the image, perceptual hash, original size, split, class, warning)
IMAGES = {
    CAR: (1, 0b0, (40, 32), "train", -1, ""),
    BUS: (2, 0xFF00, (40, 32), "test", -1, "odd marker"),
    TRAM: (1, 0b0, (40, 32), "train", -1, ""),  # The same as the car.
    SAME: (1, 0b1, (40, 32), "train", 0, ""),  # The same pixels as the car, too.
    NEAR: (4, 0xFF03, (40, 32), "train", 0, ""),  # Two bits from the bus.
    FAR: (5, 0xFF0F0, (400, 320), "train", 0, ""),
    TWIN: (5, 0xFF0F0, (400, 320), "train", 0, "extraneous bytes"),  # The same as the one before, both uncaptioned.
    OTHER: (5, 0xFF0F0F, (41, 32), "val", 1, ""),  # The same JPEG, but of another size.
}
NOT_SCORED = None
SCORES = {CAR: 0.75, BUS: 0.5, TRAM: 0.25}
MARKERS = [
    Marker("captioned", {}, {"captioned/part-00000": {"bytes": 1, "sha256": "a"}}),
    Marker("distractors", {}, {}),
]


class World:
    """Images of one build, finished, and the job that exports them."""

    def __init__(self, folder: Path, images=IMAGES, **changes) -> None:
        rows = [f"{n}\t{wnid}\tname of {n}\tcart" for n, wnid in WNIDS.items()]
        (folder / "carts.tsv").write_text("\n".join(["index\twnid\tname\troots", *rows]) + "\n", encoding="utf-8")
        preset = Preset(
            name="carts",
            title="Cart Search",
            captioned=Captioned("flickr30k", captions=2),
            distractors=Distractors("imagenet", classes="carts.tsv"),
            images=ImagePolicy(shortest_side_px=32),
            duplicates=Duplicates("report", 2),
            expected=Expected(captioned=3, queries=8),
            folder=folder,
        )
        options = BuildOptions(preset, folder / "out" / "set")
        options.work.mkdir(parents=True)
        self.messages: list[str] = []
        self.job = Job(options, Reporter(quiet=True), Stages(options.work, self.messages.append), {})
        write_reduced(folder / "part", [self.image(name, *facts) for name, facts in images.items()], "captioned")
        self.entries = sorted(read_reduced(folder / "part"))
        self.selected = Selected(SCORES, {"kept": 3})
        self.markers = MARKERS
        self.mined: Mined | None = None
        self.change(**changes)

    @staticmethod
    def image(name, number, bits, size, split, kind, warning):
        source = name.partition("/")[0]
        image = SourceImage(name, b"", source, split, kind, WNIDS.get(kind, ""), CAPTIONS.get(name, ()))
        return image, Prepared(jpeg(number), *size, f"{number:064x}", f"{bits:016x}", warning)

    def change(self, selection=None, **changes) -> None:
        """Change the preset, or name a list."""
        preset = replace(self.job.preset, **changes)
        self.job = replace(self.job, options=replace(self.job.options, preset=preset, selection=selection), rejected=[])

    @property
    def out(self) -> Path:
        return self.job.options.out

    def duplicates(self) -> dict:
        return find_duplicates(self.job, self.entries, self.markers)

    def export(self) -> EvalSet:
        return export(self.job, self.entries, self.selected, self.duplicates(), self.markers, self.mined)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def removing(tmp_path):
    return World(tmp_path, duplicates=Duplicates("remove", 2))


def test_the_first_captions_become_queries(world):
    queries, qrels = queries_of(world.job, world.entries)
    assert queries == [
        Query("100_caption_00", "A car."),
        Query("100_caption_01", "Red car."),
        Query("200_caption_00", "A bus."),
        Query("200_caption_01", "A car."),
        Query("300_caption_00", "A tram."),
        Query("300_caption_01", "Rails."),
    ]
    assert qrels == [Qrel(query.id, f"flickr30k/{query.id[:3]}", 1) for query in queries]


EXACT = [[CAR, TRAM, SAME], [FAR, TWIN]]
NEAR_PAIRS = [[CAR, TRAM, 0], [CAR, SAME, 1], [BUS, NEAR, 2], [TRAM, SAME, 1]]
SAME_TEXT = [{"text": "A car.", "queries": ["100_caption_00", "200_caption_01"]}]


@pytest.mark.parametrize(("policy", "removed"), [("report", []), ("remove", sorted([SAME, NEAR]))])
def test_duplicates_are_found_and_removed_as_the_policy_says(world, policy, removed):
    world.change(duplicates=Duplicates(policy, 2))
    found = world.duplicates()
    assert found == {"exact": EXACT, "near": sorted(NEAR_PAIRS), "removed": removed, "same_text": SAME_TEXT}
    marker = world.job.stages.path("duplicates")
    assert json.loads(marker.read_text(encoding="utf-8"))["counts"] == {
        "exact": 2,
        "near": 4,
        "removed": len(removed),
        "same_text": 1,
    }
    assert json.loads((world.job.options.work / "duplicates.json").read_text(encoding="utf-8")) == found


def test_duplicates_that_are_found_are_not_looked_for_again(world, monkeypatch):
    first = world.duplicates()
    monkeypatch.setattr(exporting, "near_pairs", lambda *args: pytest.fail("looked for again"))
    assert world.duplicates() == first
    assert world.messages == []


CHANGES = {
    "another image": lambda world: setattr(world, "markers", [MARKERS[0]]),
    "fewer captions": lambda world: world.change(captioned=Captioned("flickr30k", captions=1)),
    "another distance": lambda world: world.change(duplicates=Duplicates("report", 1)),
    "another policy": lambda world: world.change(duplicates=Duplicates("remove", 2)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_duplicates_are_looked_for_again_after_a_change(world, name, tmp_path):
    world.duplicates()
    CHANGES[name](world)
    (tmp_path / "fresh").mkdir()
    fresh = World(tmp_path / "fresh")
    CHANGES[name](fresh)
    assert world.duplicates() == fresh.duplicates()
    assert any("'duplicates' is stale" in message for message in world.messages)


def test_captions_are_kept_as_they_are_written(world):
    world.entries = [entry._replace(facts={**entry.facts, "captions": ["Un café."] * 2}) for entry in world.entries[:2]]
    assert {item["text"] for item in world.duplicates()["same_text"]} == {"Un café."}
    assert "café".encode() in (world.job.options.work / "duplicates.json").read_bytes()


def test_the_set_holds_what_the_build_finished(world):
    written = world.export()
    assert written.folder == world.out
    assert verify(world.out, progress=False).violations == []
    assert dict(written.images()) == {name: jpeg(number) for name, (number, *_) in IMAGES.items()}
    assert (written.queries(), written.qrels()) == queries_of(world.job, world.entries)
    assert written.rejected().num_rows == 0
    manifest = written.manifest
    assert (manifest["name"], manifest["title"]) == ("carts", "Cart Search")
    assert written.policy == ImagePolicy(shortest_side_px=32)
    assert manifest["preset"] == json.loads(json.dumps(world.job.preset.as_json()))
    assert manifest["notes"] == {
        "selection": {"kept": 3},
        "duplicates": world.duplicates(),
        "warnings": {BUS: "odd marker", TWIN: "extraneous bytes"},
        "counts": {
            "captioned": 3,
            "distractors": 5,
            "queries": 6,
            "distinct_texts": 5,
            "rejected": 0,
            "warnings": 2,
            "splits": {"test": 1, "train": 2},
        },
        "expected": {"captioned": 3, "queries": 8},
        "rejected": {},
        "passed_over": {"captioned": {}, "distractors": {}},
    }
    assert not any((world.job.options.work / "export").iterdir())


def test_provenance_says_where_each_image_comes_from(world):
    rows = {row["corpus-id"]: row for row in world.export().provenance().to_pylist()}
    partners = {
        CAR: [TRAM, SAME],
        BUS: [NEAR],
        TRAM: [CAR, SAME],
        SAME: [CAR, TRAM],
        NEAR: [BUS],
        FAR: [TWIN],
        TWIN: [FAR],
        OTHER: [],
    }
    for name, (number, bits, (width, height), split, kind, _) in IMAGES.items():
        assert rows[name] == {
            "corpus-id": name,
            "source": name.partition("/")[0],
            "split": split,
            "captioned": name in CAPTIONS,
            "class_index": kind,
            "wnid": WNIDS.get(kind, ""),
            "class_name": "" if kind < 0 else f"name of {kind}",
            "vehicle_score": SCORES.get(name, NOT_SCORED),
            "width": width,
            "height": height,
            "sha256": f"{number:064x}",
            "perceptual_hash": f"{bits:016x}",
            "duplicates": partners[name],
        }


def test_images_that_were_not_scored_have_no_score(world):
    world.selected = Selected({CAR: 0.75, OTHER: 0.5}, {})
    scores = world.export().read("provenance", ["corpus-id", "vehicle_score"]).to_pylist()
    assert {row["corpus-id"]: row["vehicle_score"] for row in scores} == {
        **dict.fromkeys(IMAGES, NOT_SCORED),
        CAR: 0.75,
    }


def test_a_set_of_all_images_has_no_scores(world):
    world.selected = Selected(None, {})
    assert set(world.export().read("provenance", ["vehicle_score"])["vehicle_score"].to_pylist()) == {NOT_SCORED}


def test_without_a_class_set_classes_have_no_names(world):
    world.change(distractors=Distractors("drawn"))
    assert set(world.export().read("provenance", ["class_name"])["class_name"].to_pylist()) == {""}


def test_removed_twins_become_rows_that_name_the_captioned_ones(removing):
    removing.job.rejected.append(Rejected("flickr30k/9", "captioned", "empty file"))
    written = removing.export()
    assert written.corpus_ids() == sorted({*IMAGES} - {SAME, NEAR})
    assert [tuple(row.values()) for row in written.rejected().to_pylist()] == [
        ("flickr30k/9", "captioned", "empty file"),
        (SAME, "duplicates", f"shows the same as the captioned {CAR}, {TRAM}"),
        (NEAR, "duplicates", f"shows the same as the captioned {BUS}"),
    ]
    counts = written.manifest["notes"]["counts"]
    assert (counts["captioned"], counts["distractors"], counts["rejected"]) == (3, 3, 3)
    assert written.manifest["notes"]["duplicates"]["removed"] == [SAME, NEAR]


def test_a_reject_that_came_twice_is_one_row(world):
    world.job.rejected += [Rejected("flickr30k/9", "captioned", "empty file")] * 2
    written = world.export()
    assert written.rejected().num_rows == written.manifest["notes"]["counts"]["rejected"] == 1


@pytest.mark.parametrize("selection", [None, "list.txt"])
def test_the_card_says_whether_a_list_chose_the_images(world, selection):
    world.change(selection=selection)
    card = (world.export().folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "# Cart Search" in card
    assert "| images | 8 |" in card
    assert ("those of a list" in card) is (selection is not None)


@pytest.fixture
def written_sets(monkeypatch):
    """The folders that were written."""
    found = []
    write = exporting.write_eval_set

    def counted(folder, about, **given):
        found.append(Path(folder))
        return write(folder, about, **given)

    monkeypatch.setattr(exporting, "write_eval_set", counted)
    return found


def test_a_finished_set_is_not_written_again(world, written_sets):
    first = world.export()
    again = world.export()
    assert written_sets == [world.job.options.work / "export" / "set"]
    assert again.folder == first.folder
    assert again.manifest == first.manifest
    assert world.messages == []


def losing_the_set(world) -> None:
    world.out.rename(world.out.with_name("elsewhere"))


def another_set_in_its_place(world) -> None:
    path = world.out / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "bytes_id": "0" * 64}), encoding="utf-8")


def a_set_without_a_digest_in_its_place(world) -> None:
    path = world.out / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["bytes_id"]
    path.write_text(json.dumps(content), encoding="utf-8")


def a_damaged_set_in_its_place(world) -> None:
    (world.out / "manifest.json").write_text("{half", encoding="utf-8")


AGAIN = {
    "the set is gone": losing_the_set,
    "another set lies there": another_set_in_its_place,
    "a damaged set lies there": a_damaged_set_in_its_place,
    "task_name": lambda world: world.change(task_name="Another"),
    "a set without a digest lies there": a_set_without_a_digest_in_its_place,
    "title": lambda world: world.change(title="Another"),
    "description": lambda world: world.change(description="Another."),
    "images": lambda world: setattr(world, "markers", [MARKERS[0]]),
    "scores": lambda world: setattr(world, "selected", Selected({**SCORES, CAR: 0.1}, {"kept": 3})),
    "comparison": lambda world: setattr(world, "selected", Selected(SCORES, {"kept": 2})),
    "list": lambda world: world.change(selection="list.txt"),
    "rejected": lambda world: world.job.rejected.append(Rejected("a", "b", "c")),
    "duplicates": lambda world: world.change(duplicates=Duplicates("report", 1)),
    "class names": lambda world: rename_a_class(world.job.preset.folder / "carts.tsv"),
    "clusters": lambda world: setattr(world, "selected", Selected(SCORES, {"kept": 3}, [{"number": 0}])),
    "arms": lambda world: setattr(world, "mined", sample_of(4)),
}


NAMED = {  # The key that the reason names; a set that is gone or another's needs none.
    "title": "preset.title",
    "task_name": "preset.task_name",
    "description": "preset.description",
    "images": "images",
    "scores": "scores",
    "comparison": "compared",
    "list": "listed",
    "rejected": "rejected",
    "duplicates": "duplicates",
    "class names": "class_names",
    "clusters": "clusters",
    "arms": "arms",
}


def sample_of(far: int) -> Mined:
    """Two distractors are near, and the three others the sample of so many far ones."""
    arms = {name: Arm("mined", ["layout"], 1.0) for name in (SAME, NEAR)}
    arms |= {name: Arm("random", [], 3 / far) for name in (FAR, TWIN, OTHER)}
    miners = {"layout": {"library": "pixels", "model": "layout", "revision": "", "family": ""}}
    facts = {"images": 2 + far, "near": 2, "far": far, "near_each": 1, "seed": "1", "miners": miners}
    return Mined(arms, facts, [Rejected("imagenet/train/twin", "mine", "shows the same as the captioned one")])


def test_a_set_says_of_which_pool_it_is_a_sample(world):
    world.mined = sample_of(12)
    found = world.export()
    assert found.pool == world.mined.pool
    rows = {row["corpus-id"]: tuple(row[key] for key in Arm._fields) for row in found.provenance().to_pylist()}
    assert rows == {**dict.fromkeys(CAPTIONS, ("captioned", [], 1.0)), **world.mined.arms}
    assert found.rejected().to_pylist() == [one._asdict() for one in world.mined.rejected]
    # The same images of a larger pool.
    world.mined = sample_of(24)
    assert world.export().pool["far"] == 24


def rename_a_class(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("name of 0", "another"), encoding="utf-8")


@pytest.mark.parametrize("name", AGAIN)
def test_a_set_is_written_again_after_a_change(world, tmp_path, written_sets, name):
    world.export()
    AGAIN[name](world)
    changed = world.export()
    assert len(written_sets) == 2
    stale = [message for message in world.messages if "'export' is stale" in message]
    assert len(stale) == (name in NAMED)
    assert all(f"{NAMED[name]} was " in message for message in stale)
    (tmp_path / "fresh").mkdir()
    fresh = World(tmp_path / "fresh")
    if not name.endswith(("is gone", "lies there")):
        AGAIN[name](fresh)
    assert changed.manifest == fresh.export().manifest


def violations(count: int) -> Verification:
    return Verification([Violation(f"file{n}", "is odd") for n in range(count)], {}, "")


@pytest.mark.parametrize(("count", "named"), [(1, 1), (10, 10), (11, 10)])
def test_a_set_that_does_not_verify_is_not_put_in_place(world, monkeypatch, count, named):
    world.export()
    before = {path: path.read_bytes() for path in world.out.rglob("*") if path.is_file()}
    world.change(title="Another")
    monkeypatch.setattr(exporting, "verify", lambda folder, progress: violations(count))
    with pytest.raises(BuildError) as caught:
        world.export()
    staged = world.job.options.work / "export" / "set"
    lines = "".join(f"\n  file{n}: is odd" for n in range(named))
    assert caught.value.message == f"The evaluation set in {staged} does not verify:{lines}"
    assert {path: path.read_bytes() for path in world.out.rglob("*") if path.is_file()} == before
    assert (staged / "manifest.json").is_file()  # It may be looked at.
    monkeypatch.undo()
    assert world.export().manifest["title"] == "Another"


def test_what_is_verified_is_what_was_written(world, monkeypatch):
    """A damage between writing and verifying is noticed: the gate is real."""
    write = exporting.write_eval_set

    def damaging(folder, about, **given):
        written = write(folder, about, **given)
        (Path(folder) / "README.md").write_text("other words", encoding="utf-8")
        return written

    monkeypatch.setattr(exporting, "write_eval_set", damaging)
    with pytest.raises(BuildError, match=r"README\.md: has 11 bytes instead"):
        world.export()
    assert not world.out.exists()
    assert world.job.stages.done("export", {}) is None


class Watched(Reporter):
    """Keeps what was counted."""

    def __init__(self, quiet: bool) -> None:
        super().__init__(quiet=True)
        self.quiet = quiet
        self.tracked: list[tuple[str, int | None, list[str]]] = []

    def track(self, items: Iterable, what: str, total: int | None = None):
        held = list(items)
        self.tracked.append((what, total, [item.id for item in held]))
        return iter(held)


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_is_shown_unless_quiet(removing, capsys, quiet):
    removing.job.reporter = Watched(quiet)
    removing.export()
    kept = sorted({*IMAGES} - {SAME, NEAR})
    assert removing.job.reporter.tracked == [("export", 6, kept)]
    assert ("verify" in capsys.readouterr().err) is not quiet


def test_an_image_is_the_same_as_another_only_at_the_same_original_size(world):
    """A small image and a large one may give the same reduced JPEG."""
    held = [*EXACT[0], *EXACT[1]]
    assert OTHER not in held
    same_size = {**IMAGES, OTHER: (5, 0xFF0F0F, (400, 320), "val", 1, "")}
    (world.out.parent / "b").mkdir()
    assert World(world.out.parent / "b", same_size).duplicates()["exact"][1] == sorted([FAR, TWIN, OTHER])
