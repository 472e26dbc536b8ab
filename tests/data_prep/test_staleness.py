"""What has changed is done again, and nothing else is: every option, every key of the preset, every kind of input.

A small build is finished once. Each test takes a copy of it, changes one thing and builds again: the markers that were
written anew tell which stages were done again, and the result must have the bytes that a build from scratch gives.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import numpy as np
import pool_folders
import pytest
from safetensors.numpy import save_file
from small_sources import NAMES, WNIDS, jpeg, noisy_image, write_flickr30k, write_imagenet

from data_prep.build import BuildOptions, build
from data_prep.preset import Preset, load_preset
from data_prep.sources import Shard
from data_prep.sources.drawn.mini import mini_scenes
from data_prep.sources.imagenet.classes import wnids
from data_prep.stages import classifiers as scorers
from mteb_vehicle_search.files import safe_name
from mteb_vehicle_search.terminal import Reporter

# "chunks" are the resumable pieces of "classify".
ALL = {"classify", "chunks", "select", "captioned", "distractors", "duplicates", "export"}
CLASSIFIED = {"classify", "chunks"}
DECODED = {"classify", "chunks", "captioned", "distractors", "export"}
IMAGES = {"captioned", "distractors", "duplicates", "export"}
PRESET = """
name = "carts"
title = "Cart Search"
[captioned]
source = "flickr30k"
[classifier]
library = "transformers"
model = "classifier"
[selection]
classes = "kept.tsv"
threshold = 0.6
[distractors]
source = "imagenet"
classes = "carts.tsv"
[images]
shortest_side_px = 32
[duplicates]
policy = "remove"
max_distance = 2
[expected]
captioned = 30
"""


OWN = '"folder"\nlocation = "flickr30k/flickr30k-images"\ntable = "flickr30k/flickr_annotations_30k.csv"'


class ColourScorer(scorers.Scorer):
    """Tells four classes by the colour of the middle, and gives 0.9 to one; a fifth class is never seen."""

    classes = 5

    def pixels(self, image):
        """Return the middle as the model's input."""
        middle = (image.width // 2 - 8, image.height // 2 - 8, image.width // 2 + 8, image.height // 2 + 8)
        return np.asarray(image.crop(middle), dtype=np.float32).transpose(2, 0, 1)

    def forward(self, batch):
        """Return logits whose softmax is 0.9 and four times 0.025."""
        import torch

        colour = batch.mean((2, 3))
        grey = colour.max(1).values - colour.min(1).values < 30
        likely = torch.full((len(batch), self.classes), float(np.log(0.025)))
        likely[torch.arange(len(batch)), torch.where(grey, 3, colour.argmax(1))] = float(np.log(0.9))
        return likely


@dataclass(frozen=True)
class Change:
    """What is changed, and the stages that have to be done again because of it."""

    again: set[str]
    preset: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    do: Callable[[Path], object] = lambda home: None


def _write_classes(path: Path, kinds: tuple[int, ...], names: dict[int, str] = NAMES) -> None:
    rows = [f"{kind}\t{wnids()[kind]}\t{names.get(kind, 'fish')}\tcart" for kind in kinds]
    rows.insert(0, "index\twnid\tname\troots")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _write_weights(home: Path, value: float) -> None:
    save_file({"weight": np.full(3, value, dtype=np.float32)}, home / "classifier" / "model.safetensors")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """Sources, preset and a finished build of them, in a folder that tests copy: no path in it is absolute."""
    home = tmp_path_factory.mktemp("pristine")
    write_flickr30k(home / "flickr30k", 4)
    write_imagenet(home / "imagenet", 1, 1)
    for kind in (2, 3):
        for split in ("train", "val"):
            shutil.rmtree(home / "imagenet" / split / WNIDS[kind])
    (home / "classifier").mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (home / "classifier" / name).write_bytes(b"{}")
    _write_weights(home, 1.0)
    _write_classes(home / "kept.tsv", (0, 1))
    _write_classes(home / "carts.tsv", (0, 1))
    (home / "carts.toml").write_text(PRESET, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        _quicken(patch, home)
        build(_options(), Reporter(quiet=True))
    return home


def _quicken(patch: pytest.MonkeyPatch, home: Path) -> None:
    patch.chdir(home)
    patch.setattr(os, "fsync", lambda descriptor: None)
    patch.setattr(scorers, "load_scorer", lambda classifier, folder, device: ColourScorer("cpu"))
    patch.setattr("data_prep.sources.drawn.source.mini_scenes", lambda: mini_scenes("i", 3, 4))


def _options(**changes: Any) -> BuildOptions:
    """Options with relative paths, for the preset in the working directory."""
    preset = changes.pop("preset", None) or load_preset("carts.toml")
    base = BuildOptions(
        preset, Path("out"), {"flickr30k": "flickr30k", "imagenet": "imagenet"}, workers=1, device="cpu"
    )
    return replace(base, **changes)


@pytest.fixture
def home(pristine, tmp_path, monkeypatch):
    """A copy of everything, to be changed; its markers are of 1970."""
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    _quicken(monkeypatch, tmp_path)
    _age(tmp_path / "out.build")
    return tmp_path


def _age(work: Path) -> None:
    for path in (work / "stages").rglob("*.json"):
        os.utime(path, (0, 0))


def _written(work: Path) -> set[str]:
    """Return the stages of the markers that were written since they were aged."""
    root = work / "stages"
    paths = [path for path in root.rglob("*.json") if path.stat().st_mtime > 0]
    return {path.relative_to(root).with_suffix("").as_posix() for path in paths}


def _groups(stages: set[str]) -> set[str]:
    return {"chunks" if stage.startswith("classify/") else stage.partition("/")[0] for stage in stages}


def _named_stale(reporter: Reporter) -> set[str]:
    return {message.split("'")[1] for message in reporter.messages if "is stale" in message}


def _bytes(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _copy(source: str, target: str) -> Callable[[Path], object]:
    return lambda home: shutil.copytree(home / source, home / target)


def _list(*stems: int) -> Callable[[Path], object]:
    return lambda home: (home / "list.txt").write_text("".join(f"{stem}.jpg\n" for stem in stems), encoding="utf-8")


def _rename_classifier(home: Path) -> None:
    (home / "classifier").rename(home / "other")


def _move_preset(home: Path) -> None:
    (home / "elsewhere").mkdir()
    for name in ("carts.toml", "carts.tsv", "kept.tsv", "classifier"):
        (home / name).rename(home / "elsewhere" / name)


OPTIONS = {
    "out": [Change(ALL, options={"out": Path("new")})],
    # The files are the same, but where they are is told in the markers; chunks know their images.
    "sources": [
        Change(
            {"classify", "captioned"},
            do=_copy("flickr30k", "other"),
            options={"sources": {"flickr30k": "other", "imagenet": "imagenet"}},
        ),
        Change(
            set(),
            do=_copy("imagenet", "other"),
            options={"sources": {"flickr30k": "flickr30k", "imagenet": "other"}},
        ),
    ],
    # The same captions from a file of another name, which the markers tell.
    "captions": [
        Change(
            {"classify", "captioned"},
            do=lambda home: shutil.copy(home / "flickr30k" / "flickr_annotations_30k.csv", home / "other.csv"),
            options={"captions": "other.csv"},
        )
    ],
    "recipe": [],  # It has no classifier: see test_rebuilding.py.
    "selection": [
        # The same images as the classifier's, without scores.
        Change({"select", "export"}, do=_list(1000, 1001), options={"selection": "list.txt"}),
        Change({"select", "captioned", "duplicates", "export"}, do=_list(1000), options={"selection": "list.txt"}),
    ],
    "workers": [Change(set(), options={"workers": 3})],
    "engine": [Change(set(), options={"engine": "local"})],
    "device": [Change(CLASSIFIED, options={"device": "cuda:1"})],
    "batch_size": [Change(CLASSIFIED, options={"batch_size": 3})],
    "rebuild": [
        *(Change({stage}, options={"rebuild": (stage,)}) for stage in sorted(ALL - CLASSIFIED)),
        *(Change(set(), options={"rebuild": (stage,)}) for stage in ("embed", "mine")),  # There are none.
        Change(CLASSIFIED, options={"rebuild": ("classify",)}),
        Change({"select", "export"}, options={"rebuild": ("select", "export")}),
    ],
    "allow_rejects": [Change(set(), options={"allow_rejects": True})],
    "allow_incomplete": [Change(set(), options={"allow_incomplete": True})],
}

KEYS = {
    "name": [Change({"export"}, {'"carts"': '"cars"'})],
    "task_name": [Change({"export"}, {'name = "carts"': 'name = "carts"\ntask_name = "CartSearch"'})],
    "title": [Change({"export"}, {'"Cart Search"': '"Car Search"'})],
    "description": [Change({"export"}, {"[captioned]": 'description = "x"\n[captioned]'})],
    "captioned.source": [
        Change(ALL - {"distractors"}, {'"flickr30k"': '"drawn"'}, options={"sources": {"imagenet": "imagenet"}})
    ],
    **{
        f"captioned.{key}": [
            Change(
                ALL - {"distractors"}, {'"flickr30k"': f"{OWN}\n{more}"}, options={"sources": {"imagenet": "imagenet"}}
            )
        ]
        for key, more in {
            "location": "",
            "table": "",
            "file_column": 'file_column = "filename"',
            "caption_column": 'caption_column = "raw"',
            "fewest_captions": "fewest_captions = 5",
        }.items()
    },
    "distractors.location": [
        Change(
            {"distractors", "duplicates", "export"},
            {'"imagenet"\nclasses = "carts.tsv"': '"folder"\nlocation = "imagenet/val"'},
            options={"sources": {"flickr30k": "flickr30k"}},
        )
    ],
    "captioned.captions": [Change({"duplicates", "export"}, {'"flickr30k"': '"flickr30k"\ncaptions = 4'})],
    "classifier.library": [Change(CLASSIFIED | {"export"}, {'"transformers"': '"timm"'})],
    "classifier.model": [Change(CLASSIFIED | {"export"}, {'"classifier"': '"other"'}, do=_rename_classifier)],
    "classifier.revision": [
        Change(CLASSIFIED | {"export"}, {'"classifier"': f'"classifier"\nrevision = "{"a" * 40}"'})
    ],
    "selection.classes": [
        # Another name for the same classes.
        Change({"select", "export"}, {"kept.tsv": "carts.tsv"}),
        Change(
            {"select", "captioned", "duplicates", "export"},
            {"kept.tsv": "two.tsv"},
            do=lambda home: _write_classes(home / "two.tsv", (1, 2)),
        ),
    ],
    "selection.threshold": [
        Change({"select", "export"}, {"threshold = 0.6": "threshold = 0.5"}),
        Change({"select", "captioned", "duplicates", "export"}, {"threshold = 0.6": "threshold = 0.0"}),
    ],
    "selection.share": [
        Change({"select", "export"}, {"threshold = 0.6": "share = 0.5"}),
        Change({"select", "captioned", "duplicates", "export"}, {"threshold = 0.6": "share = 1.0"}),
    ],
    "distractors.source": [
        Change(
            {"distractors", "duplicates", "export"},
            {'"imagenet"\nclasses = "carts.tsv"': '"drawn"'},
            options={"sources": {"flickr30k": "flickr30k"}},
        )
    ],
    "distractors.classes": [
        Change({"export"}, {"carts.tsv": "kept.tsv"}),
        # Shards of one class do not depend on the others.
        Change(
            {"duplicates", "export"},
            {"carts.tsv": "one.tsv"},
            do=lambda home: _write_classes(home / "one.tsv", (0,)),
        ),
    ],
    # The parts that are still wanted are the first ones.
    "distractors.splits": [
        Change({"duplicates", "export"}, {'"carts.tsv"': '"carts.tsv"\nsplits = ["train"]'}),
    ],
    "images.shortest_side_px": [Change(IMAGES, {"= 32": "= 33"})],
    "images.resample": [Change(IMAGES, {"= 32": '= 32\nresample = "box"'})],
    # Images without EXIF and profile are decoded again, to the same bytes.
    "images.exif": [Change(DECODED, {"= 32": '= 32\nexif = "all"'})],
    "images.colour_profile": [Change(DECODED, {"= 32": '= 32\ncolour_profile = "srgb"'})],
    "images.jpeg_quality": [Change(IMAGES, {"= 32": "= 32\njpeg_quality = 74"})],
    "duplicates.policy": [Change({"duplicates", "export"}, {'"remove"': '"report"'})],
    "duplicates.max_distance": [Change({"duplicates", "export"}, {"max_distance = 2": "max_distance = 3"})],
    "expected.captioned": [Change({"select", "export"}, {"captioned = 30": "captioned = 31"})],
    "expected.distractors": [Change({"export"}, {"captioned = 30": "captioned = 30\ndistractors = 4"})],
    "expected.queries": [Change({"export"}, {"captioned = 30": "captioned = 30\nqueries = 10"})],
    "expected.selection_sha256": [
        Change({"select", "export"}, {"captioned = 30": f'captioned = 30\nselection_sha256 = "{"b" * 64}"'})
    ],
    "folder": [Change(set(), do=_move_preset)],
}


def _replace_image(path: str, kind: int, seed: int) -> Callable[[Path], object]:
    return lambda home: (home / path).write_bytes(jpeg(noisy_image(kind, seed)))


def _replace_caption(home: Path) -> None:
    path = home / "flickr30k" / "flickr_annotations_30k.csv"
    path.write_text(path.read_text("utf-8").replace("scene 0, told a", "scene 0, told e"), encoding="utf-8")


def _split_of_the_last(home: Path) -> None:
    path = home / "flickr30k" / "flickr_annotations_30k.csv"
    text = path.read_text("utf-8")
    path.write_text(text.replace("train,1001.jpg", "val,1001.jpg"), encoding="utf-8")


def _publish(home: Path) -> None:
    (home / "out.build" / "published.csv").write_text("1000.jpg\n1003.jpg\n", encoding="utf-8")


FIRST, SECOND = WNIDS[0], WNIDS[1]
VAL = safe_name(f"val/{FIRST}")
PHOTOS = "flickr30k/flickr30k-images"
INPUTS = {
    "kept photo": Change(
        {"classify", "chunks", "captioned", "duplicates", "export"}, do=_replace_image(f"{PHOTOS}/1000.jpg", 0, 90)
    ),
    "photo that is no vehicle any more": Change(ALL - {"distractors"}, do=_replace_image(f"{PHOTOS}/1000.jpg", 3, 7)),
    # The classifier's scores of it and the kept photos are the same.
    "photo that is not kept": Change(
        {"classify", "chunks", "captioned"}, do=_replace_image(f"{PHOTOS}/1002.jpg", 2, 91)
    ),
    "caption": Change({"classify", "captioned", "duplicates", "export"}, do=_replace_caption),
    "split of a photo": Change({"classify", "captioned", "duplicates", "export"}, do=_split_of_the_last),
    "distractor": Change(
        {"distractors", "duplicates", "export"},
        do=_replace_image(f"imagenet/train/{SECOND}/{SECOND}_0.JPEG", 1, 92),
    ),
    "another distractor": Change(
        {"distractors", "duplicates", "export"}, do=_replace_image(f"imagenet/val/{FIRST}/{FIRST}_7.JPEG", 0, 93)
    ),
    "distractor that is refused": Change(
        {"distractors", "export"},
        options={"allow_rejects": True},
        do=lambda home: (home / "imagenet" / "train" / FIRST / f"{FIRST}_8.JPEG").write_bytes(b""),
    ),
    "weights": Change(CLASSIFIED, do=lambda home: _write_weights(home, 2.0)),
    "file of the classifier": Change(
        CLASSIFIED, do=lambda home: (home / "classifier" / "config.json").write_bytes(b'{"x": 1}')
    ),
    "classes of the selection": Change(
        {"select", "captioned", "duplicates", "export"}, do=lambda home: _write_classes(home / "kept.tsv", (0,))
    ),
    "class of the selection that changes the scores alone": Change(
        {"select", "export"}, do=lambda home: _write_classes(home / "kept.tsv", (0, 1, 4))
    ),
    "classes of the distractors": Change(
        {"duplicates", "export"}, do=lambda home: _write_classes(home / "carts.tsv", (1,))
    ),
    "name of a class": Change(
        {"export"}, do=lambda home: _write_classes(home / "carts.tsv", (0, 1), {0: "barrow", 1: "green cart"})
    ),
    "published list at hand": Change({"select", "export"}, do=_publish),
    "nothing": Change(set()),
}


def _unlink(path: str) -> Callable[[Path], object]:
    return lambda home: (home / path).unlink()


def _truncate(path: str) -> Callable[[Path], object]:
    return lambda home: (home / path).write_bytes((home / path).read_bytes()[:-1])


def _flip(path: str) -> Callable[[Path], object]:
    def change(home: Path) -> None:
        content = bytearray((home / path).read_bytes())
        content[len(content) // 2] ^= 1
        (home / path).write_bytes(content)

    return change


MARKERS = "out.build/stages"
WORK = {
    "scores": Change(CLASSIFIED, do=_flip("out.build/scores/chunk-00000.parquet")),
    "chunk's marker": Change(set(), do=_unlink(f"{MARKERS}/classify/chunk-00000.json")),
    "marker of classify": Change({"classify"}, do=_unlink(f"{MARKERS}/classify.json")),
    "selection": Change({"select"}, do=_flip("out.build/selection.json")),
    "captioned images": Change({"captioned"}, do=_flip("out.build/captioned/part-00000")),
    "captioned index": Change({"captioned"}, do=_truncate("out.build/captioned/part-00000.index")),
    "a part's images": Change({"distractors"}, do=_unlink(f"out.build/distractors/{VAL}.images")),
    "a part's index": Change({"distractors"}, do=_flip(f"out.build/distractors/{VAL}.images.index")),
    "a part's marker": Change({"distractors"}, do=_unlink(f"{MARKERS}/distractors/{VAL}.json")),
    "duplicates": Change({"duplicates"}, do=_flip("out.build/duplicates.json")),
    "half a marker": Change({"export"}, do=_truncate(f"{MARKERS}/export.json")),
    "the result is gone": Change({"export"}, do=lambda home: shutil.rmtree(home / "out")),
    "the manifest is gone": Change({"export"}, do=_unlink("out/manifest.json")),
}
CASES = {
    **{f"--{name} {n}": change for name, changes in OPTIONS.items() for n, change in enumerate(changes)},
    **{f"{key} {n}": change for key, changes in KEYS.items() for n, change in enumerate(changes)},
    **{f"input: {name}": change for name, change in INPUTS.items()},
    **{f"work: {name}": change for name, change in WORK.items()},
}


@pytest.mark.parametrize("name", CASES)
def test_only_what_depends_on_a_change_is_done_again(home, monkeypatch, name):
    change = CASES[name]
    if str(change.options.get("device", "cpu")) != "cpu":
        monkeypatch.setattr(scorers, "choose_device", lambda chosen: chosen)
    before = _bytes(home / "out")
    change.do(home)
    text = PRESET
    for old, new in change.preset.items():
        assert old in text
        text = text.replace(old, new)
    preset = home / ("carts.toml" if (home / "carts.toml").is_file() else "elsewhere/carts.toml")
    preset.write_text(text, encoding="utf-8")
    options = _options(preset=load_preset(str(preset)), **change.options)
    reporter = Reporter(quiet=True)
    build(options, reporter)
    again = _groups(_written(options.work))
    assert again == change.again
    # It says which stages were stale, unless their markers were not there.
    assert _named_stale(reporter) <= again | {"classify"}
    if not name.startswith(("--out", "--rebuild", "work", "distractors.source", "distractors.location")):
        assert _named_stale(reporter) == {"classify" if stage == "chunks" else stage for stage in again}
    if again - CLASSIFIED:
        if (home / "out.build" / "published.csv").is_file():
            (home / "scratch.build").mkdir()
            shutil.copy(home / "out.build" / "published.csv", home / "scratch.build")
        scratch = build(replace(options, out=home / "scratch", rebuild=()), Reporter(quiet=True))
        assert _bytes(options.out) == _bytes(scratch.folder)
    else:
        assert _bytes(options.out) == before


def _keys(kind: type, prefix: str = "") -> set[str]:
    """Return the names of all fields, those of nested tables with a dot."""
    found = set()
    for name, hint in get_type_hints(kind).items():
        inner = next((kind for kind in get_args(hint) if is_dataclass(kind)), hint) if _optional(hint) else hint
        found |= _keys(inner, f"{prefix}{name}.") if is_dataclass(inner) else {prefix + name}
    return found


def _optional(hint: Any) -> bool:
    return isinstance(hint, UnionType)


def test_every_option_and_every_key_has_a_case():
    assert {"preset", *OPTIONS} == {item.name for item in fields(BuildOptions)}
    # Those of samples of pools have theirs in test_pool_builds.py.
    assert {*KEYS, *pool_folders.KEYS, *pool_folders.OF_CLUSTERS} == _keys(Preset)


def test_only_the_part_that_changed_is_read_again(home):
    """Parts are: train of both classes, val of both."""
    _replace_image(f"imagenet/val/{FIRST}/{FIRST}_7.JPEG", 0, 93)(home)
    build(_options(), Reporter(quiet=True))
    assert {stage for stage in _written(home / "out.build") if "/" in stage} == {f"distractors/{VAL}"}


def test_a_mended_photo_ends_the_refusal(home):
    """The refusal says: mend it and run the command again."""
    path = home / PHOTOS / "1001.jpg"
    sound = path.read_bytes()
    path.write_bytes(b"")
    options = _options(out=home / "new")
    with pytest.raises(Exception, match="1 of 4 inputs were refused"):
        build(options, Reporter(quiet=True))
    path.write_bytes(sound)
    assert build(options, Reporter(quiet=True)).content_id == build(_options(), Reporter(quiet=True)).content_id


def test_another_card_of_the_same_kind_changes_nothing(home, monkeypatch):
    monkeypatch.setattr(scorers, "choose_device", lambda chosen: chosen)
    build(_options(device="cuda:0"), Reporter(quiet=True))
    _age(home / "out.build")
    build(_options(device="cuda:1"), Reporter(quiet=True))
    assert _written(home / "out.build") == set()


PART = Shard("train/n1", "/somewhere", 10, "train", 3, 512, "stamp")
OTHER = {"name": "train/n2", "size_bytes": 11, "split": "val", "class_index": 4, "offset": 1024, "stamp": "other"}


@pytest.mark.parametrize("name", [item.name for item in fields(Shard)])
def test_a_part_is_known_by_all_but_its_place(name):
    if name in ("location", "images", "travels_bytes"):  # The stamp tells another number of images.
        moved = replace(PART, location="/elsewhere", images=7, travels_bytes=9)
        assert moved.fingerprint() == PART.fingerprint()
    else:
        assert replace(PART, **{name: OTHER[name]}).fingerprint() != PART.fingerprint()


def _flickr30k_zip(folder: Path) -> Path:
    import zipfile

    write_flickr30k(folder, 4)
    with zipfile.ZipFile(folder / "flickr30k-images.zip", "w") as archive:
        for path in sorted((folder / "flickr30k-images").iterdir()):
            archive.write(path, path.name)
    shutil.rmtree(folder / "flickr30k-images")
    return folder / "flickr30k-images.zip"


def _flickr30k_parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    rows = [{"image": {"bytes": b"x"}, "caption": list("abcde"), "filename": "1000.jpg", "split": "train"}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    return folder / "a.parquet"


@pytest.mark.parametrize("write", [_flickr30k_zip, _flickr30k_parquet])
def test_an_archive_of_photos_is_known_by_size_and_time_of_change(tmp_path, write):
    from data_prep.sources.flickr30k import open_flickr30k

    path = write(tmp_path / "flickr30k")
    first = open_flickr30k(path.parent).describe()
    assert open_flickr30k(path.parent).describe() == first
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    touched = open_flickr30k(path.parent).describe()
    assert touched != first
    path.write_bytes(path.read_bytes() + b"\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_flickr30k(path.parent).describe() not in (first, touched)
