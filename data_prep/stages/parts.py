"""Finished images of one part of a source: a file of JPEGs end to end, and an index of what each is.

Parts are read back in any order with one seek an image, so that the export can merge hundreds of shuffled shards by id
without holding the images.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mteb_vehicle_search.eval_set import Rejected
from mteb_vehicle_search.files import write_whole

if TYPE_CHECKING:
    from data_prep.sources import SourceImage
    from data_prep.stages.decoding import ImageRejected
    from data_prep.stages.reduce import Prepared


class PartEntry(NamedTuple):
    """One finished image: where its JPEG lies, and what is known about it."""

    id: str
    path: Path
    offset: int
    length: int
    facts: dict[str, Any]

    def jpeg(self) -> bytes:
        """Return the JPEG bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


class WrittenPart(NamedTuple):
    """What `write_part` wrote: its files, the number of images, and the refused ones."""

    files: list[Path]
    images: int
    rejected: list[Rejected]


def write_part(path: Path, prepared: Iterable[tuple[SourceImage, Prepared | ImageRejected]], stage: str) -> WrittenPart:
    """Write the images of one part to `path` (JPEGs) and `path` + ".index" (JSON lines).

    Args:
        path: Target; an earlier one is replaced.
        prepared: Each image of the source with its finished form, or with why it was refused.
        stage: Named in the rows of refused images.
    """
    from data_prep.stages.reduce import Prepared

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    lines, rejected, offset = [], [], 0
    with partial.open("wb") as file:
        for image, result in prepared:
            if not isinstance(result, Prepared):
                rejected.append(Rejected(image.id, stage, result.reason))
                continue
            file.write(result.jpeg)
            facts = {
                "source": image.source,
                "split": image.split,
                "class_index": image.class_index,
                "wnid": image.wnid,
                "width": result.width,
                "height": result.height,
                "sha256": result.sha256,
                "perceptual_hash": result.perceptual_hash,
                "warning": result.warning,
                "captions": list(image.captions),
            }
            lines.append(json.dumps([image.id, offset, len(result.jpeg), facts], ensure_ascii=False))
            offset += len(result.jpeg)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    index = path.with_name(path.name + ".index")
    write_whole(index, "".join(line + "\n" for line in lines).encode())
    return WrittenPart([path, index], len(lines), rejected)


def read_part(path: Path) -> Iterator[PartEntry]:
    """Yield the entries of a part that `write_part` wrote."""
    with path.with_name(path.name + ".index").open(encoding="utf-8") as file:
        for line in file:
            identifier, offset, length, facts = json.loads(line)
            yield PartEntry(identifier, path, offset, length, facts)
