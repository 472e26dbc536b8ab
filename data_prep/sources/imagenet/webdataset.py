"""ImageNet-1k as webdataset tars, such as `timm/imagenet-1k-wds`: an image, its class, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from data_prep.sources import SPLITS, UNWANTED, ReadInPlace, Shard, SourceImage
from data_prep.sources.imagenet.classes import WNID, class_indexes, classed_image, original_stem
from data_prep.sources.samples import TAR, Sample, samples_of
from data_prep.storage import Entry, PassedOver, Tree, plain
from mteb_vehicle_search.errors import SourceError


def webdataset_tars(tree: Tree, named: str = "") -> dict[str, str]:
    """Return the tars that hold a split, by their names, which say which; `named` if only that file is meant."""
    if named:
        return {named: _split(named)} if TAR.search(named) and _split(named) else {}
    if not tree.listable:
        return {}
    found = {}
    for folder in ("", *SPLITS, "validation"):
        for entry in plain(tree.entries(folder)):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if TAR.search(entry.name) and not entry.is_folder and (split := _split(name)):
                found[name] = split
    return found


def _split(name: str) -> str:
    lower = name.lower()
    return "train" if "train" in lower else "val" if "val" in lower else ""


class WebdatasetImagenet(ReadInPlace):
    """Tars of images with their classes, shuffled: each can hold any class.

    A sample says its class in `.cls` (0-999) or its JSON, and its original name in its JSON (`filename`) or its key:
    without that its id is unknown.

    Args:
        tree: Where the tars lie.
        tars: Their names and splits.
    """

    form = "webdataset"

    def __init__(self, tree: Tree, tars: dict[str, str]) -> None:
        self.tree, self.tars = tree, tars

    def describe(self) -> dict[str, Any]:
        return {"form": self.form, "location": self.tree.where, "revision": "", "files": sorted(self.tars)}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """One shard per tar, train first."""
        shards = []
        for split in (split for split in SPLITS if split in splits):
            names = sorted(name for name, of in self.tars.items() if of == split)
            if not names:
                raise SourceError(
                    f"{self.tree.where} holds no tars for {split}", "Every split that is used must be there."
                )
            for name in names:
                entry = self.tree.entry(name) or Entry(name)
                travels = self.tree.travelling([name])
                shards.append(Shard(name, name, entry.size_bytes, split, stamp=entry.stamp, travels_bytes=travels))
        return shards

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        passed = PassedOver() if passed is None else passed
        for sample in samples_of(self.tree, shard.location, passed):
            facts = _facts(sample, self.tree.path(shard.location))
            index = _class_of(sample, facts, self.tree.path(shard.location))
            if index not in wanted:
                passed[UNWANTED] += 1
                continue
            named = next((facts[key] for key in ("filename", "file_name", "path") if facts.get(key)), sample.key)
            name = original_stem(str(named)) or original_stem(sample.key) or str(named)
            yield classed_image(f"{name}.JPEG", sample.data, shard.split, index, sample.problem)


def _facts(sample: Sample, where: str) -> dict[str, Any]:
    try:
        found = json.loads(sample.texts.get("json", b"{}"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: {sample.key}.json is no JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _class_of(sample: Sample, facts: dict[str, Any], where: str) -> int:
    """The index of a sample's class.

    Raises:
        SourceError: It does not say any.
    """
    said = sample.texts.get("cls", b"").decode("utf-8", "replace").strip()
    for value in (said, facts.get("label"), facts.get("cls"), facts.get("class_index"), facts.get("wnid")):
        text = "" if value is None else str(value)
        if text.isdigit() and int(text) < 1000:
            return int(text)
        if WNID.fullmatch(text) and text in class_indexes():
            return class_indexes()[text]
    raise SourceError(
        f"{where}: {sample.key} does not say its class", "Expected a file .cls with a number from 0 to 999."
    )
