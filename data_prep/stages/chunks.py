"""Captioned images worked on in chunks that are not done twice.

A captioned source is one stream, and a chunk is known by the bytes of its images, whatever form they come in: so the
driver reads, and sends the files along, with few chunks on their way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from data_prep.markers import Marker, Stages
from mteb_vehicle_search.engine import Engine, Listener, Worker
from mteb_vehicle_search.eval_set.schema import Rejected

if TYPE_CHECKING:
    from data_prep.sources import SourceImage

CHUNK = 512  # Images per resumable chunk.
ON_THEIR_WAY = 16  # Chunks that are read and not yet done: a gigabyte of Flickr30k's photographs.
Done = TypeVar("Done")


@dataclass(frozen=True, eq=False)
class Chunk:
    """A unit: some captioned images."""

    number: int
    images: list[SourceImage]

    def __str__(self) -> str:
        return f"chunk {self.number} of captioned images, first {self.images[0].id}"


class Kept(NamedTuple):
    """What the driver wrote of a chunk: its file, how many images it has, and those that were refused."""

    path: Path
    images: int
    rejected: list[Rejected]


@dataclass(frozen=True)
class Work:
    """What is done with chunks.

    Attributes:
        stage: Markers are written as `<stage>/chunk-<n>`.
        make_worker: Of the engine.
        configuration: What comes of a chunk depends on it, besides the images.
        identity: What workers must have as this process has it.
        reads_captions: Whether what comes of a chunk depends on its captions.
    """

    stage: str
    make_worker: Callable[[], Worker[Chunk, Any]]
    configuration: dict[str, Any]
    identity: Mapping[str, str] | None = None
    reads_captions: bool = False


def work_on_chunks(
    stages: Stages,
    images: Iterable[SourceImage],
    work: Work,
    engine: Engine,
    keep: Callable[[str, Any], Kept],
    listener: Listener | None = None,
) -> list[Marker]:
    """Work on all images in resumable chunks; return the chunks' markers in order.

    A chunk that an earlier run finished is recognised by the digest of its images.

    Args:
        stages: Of the build.
        images: In a fixed order.
        work: What is done with them.
        engine: Where.
        keep: Writes what came of the chunk of this name.
        listener: Is told how many images are done, or were by an earlier run.

    Raises:
        EngineError: As by `Engine.map`.
    """
    markers: dict[int, Marker] = {}
    begun: list[tuple[int, dict[str, Any]]] = []

    def units() -> Iterator[Chunk]:
        stream = iter(images)
        for number, chunk in enumerate(iter(lambda: list(islice(stream, CHUNK)), [])):
            own = {**work.configuration, "images": _digest(chunk, captions=work.reads_captions)}
            if (marker := stages.done(f"{work.stage}/{_name(number)}", own)) is None:
                begun.append((number, own))
                yield Chunk(number, chunk)
            else:
                markers[number] = marker
                if listener is not None:
                    listener.progress(len(chunk))

    how: dict[str, Any] = {"identity": work.identity, "listener": listener, "most": ON_THEIR_WAY}
    with closing(engine.map(work.make_worker, units(), **how)) as results:
        for place, done in results:
            number, own = begun[place]
            kept = keep(_name(number), done)
            counts = {"images": kept.images}
            markers[number] = stages.finish(f"{work.stage}/{_name(number)}", own, [kept.path], counts, kept.rejected)
    return [markers[number] for number in sorted(markers)]


def _name(number: int) -> str:
    return f"chunk-{number:05d}"


def _digest(chunk: list[SourceImage], *, captions: bool) -> str:
    facts = (f"{image.id}\n".encode() + hashlib.sha256(image.data).digest() for image in chunk)
    texts = (f"{text}\n".encode() for image in chunk for text in image.captions) if captions else ()
    return hashlib.sha256(b"".join([*facts, *texts])).hexdigest()
