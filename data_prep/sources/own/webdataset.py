"""Images of webdataset tars: samples of an image and what lies beside it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

from data_prep.sources import NOT_SELECTED, SPLITS, ReadInPlace, Shard, SourceImage, some_names
from data_prep.sources.own.beside import read_beside
from data_prep.sources.own.folder import FEWER, UNNAMED
from data_prep.sources.own.listing import fold
from data_prep.sources.samples import TAR, Sample, samples_of
from data_prep.storage import Entry, PassedOver, Tree, digest_of, not_an_image, stamp_of
from mteb_vehicle_search.errors import SourceError


class Tars:
    """Tars of samples in a tree, in the order of their names.

    Args:
        tree: Where they lie.
        named: The only one that is meant; empty for all.
        source: The name that ids begin with.
        column: The key of captions in JSON; empty for the known names.
    """

    def __init__(self, tree: Tree, named: str = "", source: str = "webdataset", column: str = "") -> None:
        self.tree, self.named, self.source, self.column = tree, named, source, column
        self.where = tree.path(named)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The tars by name.

        Raises:
            SourceError: There are none; says what is there.
        """
        names = [self.named] if self.named else [e.name for e in self.tree.walk() if TAR.search(e.name)]
        names = sorted(name for name in names if not not_an_image(name))
        if not names:
            raise SourceError(
                f"{self.where} holds no tars; found: {some_names(self.tree)}", "Expected webdataset tars."
            )
        return {name: (self.tree.entry(name) or Entry(name))._replace(name=name) for name in names}

    def samples(self, tar: str, passed: PassedOver) -> Iterator[tuple[str, Sample]]:
        """Yield the samples with an image of a tar, and their ids.

        Raises:
            SourceError: The tar is damaged, or ids in it differ in case alone.
        """
        stem = TAR.sub("", tar.rpartition("/")[2] if self.named else tar)
        folded: dict[str, str] = {}
        for sample in samples_of(self.tree, tar, passed):
            key = sample.key.removeprefix("./")
            if (other := folded.setdefault(fold(key), key)) != key:
                raise SourceError(
                    f"{self.tree.path(tar)} holds the samples {other} and {key}, which differ in case alone",
                    "On Windows and macOS both are one file: rename one.",
                )
            yield f"{self.source}/{stem}/{key}", sample


class WebdatasetCaptioned:
    """The samples with captions; see `CaptionedSource`.

    Args:
        tars: Where they are.
        fewest: Samples with fewer captions are not used.
    """

    notes: list[str] = []  # noqa: RUF012 - never changed

    def __init__(self, tars: Tars, fewest: int = 1) -> None:
        self.tars, self.fewest = tars, fewest

    def travels_bytes(self, only: Collection[str] | float = 1.0) -> int:
        """See `CaptionedSource.travels_bytes`; tars are read whole."""
        return self.tars.tree.travelling(self.tars.entries)

    def describe(self) -> dict[str, Any]:
        facts = (stamp_of(self.tars.entries.values()), self.tars.column, self.fewest)
        return {
            "form": "webdataset",
            "location": self.tars.where,
            "revision": "",
            "files": list(self.tars.entries),
            "stamp": digest_of(facts),
        }

    def count(self) -> int | None:
        """Only reading them tells."""
        return None

    def check(self) -> list[str]:
        """See `CaptionedSource.check`; a tar is read to its end only by `images`."""
        for name, entry in self.tars.entries.items():
            if entry.size_bytes == 0:
                raise SourceError(f"{self.tars.tree.path(name)} is empty", "Get the file again.")
        return []

    def images(self, passed: PassedOver | None = None, only: Collection[str] | None = None) -> Iterator[SourceImage]:
        passed = PassedOver() if passed is None else passed
        for tar in self.tars.entries:
            for identifier, sample in self.tars.samples(tar, passed):
                captions, problems, named = read_beside(sample.texts, self.tars.column)
                for number, problem in enumerate(problems if only is None else [], start=1):
                    where = f"{self.tars.tree.path(tar)}, sample {sample.key}"
                    yield self._image(f"{identifier}, bad caption {number}", problem=f"{where}: {problem}")
                if not named:
                    passed[UNNAMED] += 1
                elif not captions:
                    continue
                elif len(captions) < self.fewest:
                    passed[FEWER] += 1
                elif only is not None and identifier not in only:
                    passed[NOT_SELECTED] += 1
                else:
                    yield self._image(identifier, sample.data, captions, sample.problem)

    def _image(
        self, identifier: str, data: bytes = b"", captions: tuple[str, ...] = (), problem: str = ""
    ) -> SourceImage:
        return SourceImage(identifier, data, self.tars.source, "", captions=captions, problem=problem)


class WebdatasetDistractors(ReadInPlace):
    """The samples without captions, or all if they lie elsewhere than the captioned ones; see `DistractorSource`.

    Args:
        tars: Where they are.
        captioned: Those with captions.
    """

    def __init__(self, tars: Tars, captioned: Tars | None = None) -> None:
        self.tars = tars
        self.shared = captioned is not None and captioned.where == tars.where
        self.column = captioned.column if captioned else ""
        # Two locations may hold tars of the same name.
        self.suffix = "" if captioned is None or self.shared else "-distractors"

    def describe(self) -> dict[str, Any]:
        files = list(self.tars.entries)
        return {"form": "webdataset", "location": self.tars.where, "revision": "", "files": files}

    def shards(self, wanted: set[int] | None = None, splits: Sequence[str] = SPLITS) -> list[Shard]:
        """One shard per tar; they hold no classes."""
        shards = []
        for name, entry in self.tars.entries.items():
            stamp = repr((entry.stamp, self.shared, self.column if self.shared else "", self.suffix))
            travels = self.tars.tree.travelling([name])
            shards.append(Shard(TAR.sub("", name), name, entry.size_bytes, "", stamp=stamp, travels_bytes=travels))
        return shards

    def images(self, shard: Shard, wanted: set[int], passed: PassedOver | None = None) -> Iterator[SourceImage]:
        source = self.tars.source
        for identifier, sample in self.tars.samples(shard.location, PassedOver() if passed is None else passed):
            if self.shared and read_beside(sample.texts, self.column).named:
                continue
            changed = f"{source}{self.suffix}{identifier.removeprefix(source)}"
            yield SourceImage(changed, sample.data, source, "", problem=sample.problem)
