"""The stage `embed`: what the miners see of captioned images and of the pool.

Nothing of a pool is kept but vectors, ids and perceptual hashes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from data_prep.job import Job
from data_prep.markers import Marker, fingerprint
from data_prep.preset import Miner
from data_prep.stages import shards as shards_of
from data_prep.stages.chunks import Kept, Work, work_on_chunks
from data_prep.stages.classifiers import device_of, kind_of
from data_prep.stages.embedder import STAGE, Embedded, Loading, MakeEmbedder, pool_file
from data_prep.stages.reduce import book, counts_of
from data_prep.stages.views import SUFFIX, Views
from data_prep.storage import PassedOver
from mteb_vehicle_search.engine.shown import Shown
from mteb_vehicle_search.files import write_whole

if TYPE_CHECKING:
    from data_prep.sources import CaptionedSource, DistractorSource, Shard


POOL = f"{STAGE}/pool"


def embed_captioned(job: Job, source: CaptionedSource, kept: Collection[str] | None) -> Views:
    """Return the views of the captioned images by all miners of the preset; None of `kept` means all images.

    Raises:
        BuildError: Too many images were refused, or a miner gives what is no vector; names the first image.
        EngineError: As by `Engine.map`.
    """
    preset, work, stages = job.preset, job.options.work, job.stages
    loading = _loading(job, {**preset.cluster_miners(), **preset.pool_miners()}, {})
    own = _configuration(loading)
    whole = {**own, "source": job.described, "selection": "all" if kept is None else fingerprint(sorted(kept))}
    if (marker := stages.done(f"{STAGE}/captioned", whole)) is None:
        folder, passed = work / "views" / "captioned", PassedOver()
        folder.mkdir(parents=True, exist_ok=True)

        def keep(name: str, done: Embedded) -> Kept:
            path = folder / f"{name}{SUFFIX}"
            write_whole(path, done.content or b"")
            return Kept(path, done.images, done.rejected)

        reads_captions = any(not miner.sees_images for _, miner in loading.miners)
        chunks = Work(f"{STAGE}/captioned", _make(job, loading, None), own, _identity(job, loading), reads_captions)
        with job.reporter.bar("embed", source.count() if kept is None else len(kept)) as bar:
            shown = Shown(bar, job.engine)
            done = work_on_chunks(stages, source.images(passed, kept), chunks, job.engine, keep, shown)
        files = [work / name for one in done for name in one.outputs]
        rejected = [item for one in done for item in one.rejected]
        counts = counts_of(sum(one.counts["images"] for one in done), passed)
        marker = stages.finish(f"{STAGE}/captioned", whole, files, counts, rejected)
    book(job, marker)
    job.check_rejects()
    return _views(job, [marker])


def embed_pool(job: Job, source: DistractorSource, shards: Sequence[Shard]) -> Views:
    """Return the views of a pool by `Preset.pool_miners`; the order of the shards does not matter.

    Raises:
        BuildError: Too many images were refused, or a miner gives what is no vector; names the first image.
        SourceError: A shard cannot be read.
        EngineError: As by `Engine.map`.
    """
    preset, shards = job.preset, sorted(shards, key=lambda shard: shard.name)
    classes = preset.distractor_classes()
    names = {item.index: item.name for item in classes.classes} if classes else {}
    loading = _loading(job, preset.pool_miners(), names)
    own, wanted = _configuration(loading), sorted(preset.wanted_classes())

    def configuration(shard: Shard) -> dict[str, Any]:
        # A shard of one class does not depend on the others.
        return {**own, "classes": fingerprint(wanted) if shard.class_index < 0 else [shard.class_index]}

    def keep(shard: Shard, done: Embedded) -> shards_of.Kept:
        path = pool_file(job.options.work, shard)
        if done.content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, done.content)
        return shards_of.Kept([path], done.images, done.passed, done.rejected)

    make = _make(job, loading, shards_of.Pool.of(job, source))
    work = shards_of.Work("embed pool", POOL, make, configuration, loading.same_everywhere, keep)
    markers = shards_of.work_on_shards(job, source, shards, work)
    job.check_rejects()
    return _views(job, markers)


def pool_stage(shard: Shard) -> str:
    """Return the name of the stage that embeds a shard of a pool."""
    return shards_of.stage_of(POOL, shard)


def _loading(job: Job, miners: Mapping[str, Miner], class_names: Mapping[int, str]) -> Loading:
    preset, options = job.preset, job.options
    reads_texts = any(not miner.sees_images for miner in miners.values())
    return Loading(
        tuple(sorted(miners.items())),
        preset.classifier,
        preset.folder,
        device_of(job),
        options.batch_size,
        preset.images,
        preset.captioned.captions,
        tuple(sorted(class_names.items())) if reads_texts else (),
    )


def _configuration(loading: Loading) -> dict[str, Any]:
    """What the vectors and hashes depend on, beside the images."""
    found = {
        "miners": loading.identities(),
        "device": kind_of(loading.device),
        "batch_size": loading.batch_size,
        "policy": loading.policy.as_json(),  # Not "images", which are a chunk's own: see `work_on_chunks`.
    }
    if any(not miner.sees_images for _, miner in loading.miners):
        found["texts"] = fingerprint(loading.class_names) if loading.class_names else loading.captions
    return found


def _make(job: Job, loading: Loading, pool: shards_of.Pool | None) -> MakeEmbedder:
    return MakeEmbedder(loading, pool, job.options.work, job.options.workers)


def _identity(job: Job, loading: Loading) -> dict[str, str] | None:
    # A worker in this process is of this process.
    return None if job.engine.is_here else loading.same_everywhere()


def _views(job: Job, markers: list[Marker]) -> Views:
    outputs = [(name, facts["sha256"]) for marker in markers for name, facts in sorted(marker.outputs.items())]
    return Views(tuple(job.options.work / name for name, _ in outputs), fingerprint(outputs))
