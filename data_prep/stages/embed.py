"""The stage `embed`: what the miners see of captioned images and of the pool.

Nothing of a pool is kept but vectors, ids and perceptual hashes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from data_prep.job import Job
from data_prep.stages.views import Views

if TYPE_CHECKING:
    from data_prep.sources import CaptionedSource, DistractorSource, Shard


def embed_captioned(job: Job, source: CaptionedSource, kept: Collection[str] | None) -> Views:
    """Return the views of the captioned images by all miners of the preset; None of `kept` means all images.

    Raises:
        BuildError: Too many images were refused, or a miner gives what is no vector; names the first image.
        EngineError: As by `Engine.map`.
    """
    raise NotImplementedError


def embed_pool(job: Job, source: DistractorSource, shards: Sequence[Shard]) -> Views:
    """Return the views of a pool by `Preset.pool_miners`.

    Raises:
        BuildError: Too many images were refused, or a miner gives what is no vector; names the first image.
        SourceError: A shard cannot be read.
        EngineError: As by `Engine.map`.
    """
    raise NotImplementedError
