"""A pool of images whose every score is known, so that what a sample of it says can be set against the truth.

Images are vectors: a kind, a colour (both clusters), and what is their own. Captions are noisy copies of captioned
images. A view, of a miner or of a model, is another noisy copy of everything: the noise of a view is its own, so that
two views agree about what the images share and about no more. Seeded: the same arguments give the same world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hand_made_runs import info_of
from scipy.sparse import csr_array

from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.run_record import RunRecord

DIMENSIONS, KINDS, COLOURS, OWN, CAPTION, NOISE = 32, 40, 20, 0.3, 1.1, 0.2
REPLICATES, POOL = 20, 20_000
MINERS = ("first", "second", "third")
NEAR = 30


class PoolWorld(NamedTuple):
    """Vectors: `pool` float32 [p, d], `captioned` [c, d], `captions` [q, d], and the image of each, int [q]."""

    pool: np.ndarray
    captioned: np.ndarray
    captions: np.ndarray
    relevant: np.ndarray


class Seen(NamedTuple):
    """What a model ranks above each relevant image: of the captioned, int64 [q], and which of the pool, bool [q, p]."""

    captioned: np.ndarray
    pool: np.ndarray


def pool_world(
    pool: int = POOL, captioned: int = 200, each: int = 5, caption: float = CAPTION, seed: int = 0
) -> PoolWorld:
    """Return a world; OWN is what images of a kind and colour do not share, `caption` what captions get wrong."""
    generator = np.random.default_rng(seed)
    kinds, colours = generator.normal(size=(KINDS, DIMENSIONS)), generator.normal(size=(COLOURS, DIMENSIONS))

    def images(count: int) -> np.ndarray:
        centre = kinds[generator.integers(KINDS, size=count)] + colours[generator.integers(COLOURS, size=count)]
        return centre + OWN * generator.normal(size=(count, DIMENSIONS))

    rest, right = images(pool), images(captioned)
    relevant = np.repeat(np.arange(captioned), each)
    captions = right[relevant] + caption * generator.normal(size=(captioned * each, DIMENSIONS))
    return PoolWorld(rest.astype(np.float32), right.astype(np.float32), captions.astype(np.float32), relevant)


def view(world: PoolWorld, seed: int, noise: float = NOISE) -> PoolWorld:
    """Return the world as a miner or a model sees it: unit vectors of what it makes of images and captions."""
    generator = np.random.default_rng([1, seed])

    def seen(vectors: np.ndarray) -> np.ndarray:
        noisy = vectors + noise * generator.normal(size=vectors.shape)
        return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)

    return PoolWorld(seen(world.pool), seen(world.captioned), seen(world.captions), world.relevant)


def ranked(seen: PoolWorld) -> Seen:
    """Return what a model ranks above the relevant images."""
    own = np.einsum("qd,qd->q", seen.captions, seen.captioned[seen.relevant])
    rivals = seen.captions @ seen.captioned.T
    rivals[np.arange(len(own)), seen.relevant] = -1
    return Seen((rivals >= own[:, None]).sum(axis=1), seen.captions @ seen.pool.T >= own[:, None])


def mined(seen: PoolWorld, near: int = NEAR) -> np.ndarray:
    """Return which images of the pool a miner finds among the `near` nearest of a captioned image, bool [p]."""
    found = np.zeros(len(seen.pool), dtype=bool)
    found[np.argpartition(-(seen.captioned @ seen.pool.T), near - 1, axis=1)[:, :near]] = True
    return found


class Pooled(NamedTuple):
    """A pool with its miners, and what a model ranks above each relevant image: all that draws of a corpus need."""

    groups: dict[str, np.ndarray]  # mined group -> int64 [q], its images above
    sizes: dict[str, int]  # mined group -> its images
    captioned_above: np.ndarray  # int64 [q]
    near_above: np.ndarray  # bool [q, near], which near images are above
    far_above: csr_array  # int32 [q, far], 1 where the far image is above
    relevant: np.ndarray  # int [q]
    miners: Mapping[str, Mapping[str, str]]

    @property
    def far(self) -> int:
        """How many far images the pool has."""
        return self.far_above.shape[1]  # type: ignore[index]

    @property
    def ranks(self) -> np.ndarray:
        """int64 [q], the true ranks among the captioned images and the whole pool."""
        return 1 + self.captioned_above + sum(self.groups.values()) + self.far_above.sum(axis=1)


def pooled(
    seen: Seen, relevant: np.ndarray, found: Mapping[str, np.ndarray], families: Mapping[str, str] | None = None
) -> Pooled:
    """Return the pool as miners divide it, each of which `found` some images, bool [p]."""
    names = sorted(found)
    who = np.stack([found[name] for name in names], axis=1)
    groups, sizes = {}, {}
    for pattern in np.unique(who[who.any(axis=1)], axis=0):
        name = "pool:mined:" + "+".join(name for name, hit in zip(names, pattern) if hit)
        of_group = (who == pattern).all(axis=1)
        groups[name], sizes[name] = seen.pool[:, of_group].sum(axis=1), int(of_group.sum())
    far = csr_array(seen.pool[:, ~who.any(axis=1)].astype(np.int32))
    miners = {
        name: {
            "library": "timm",
            "model": f"miner/{name}",
            "revision": "0" * 40,
            "family": (families or {}).get(name, f"kin-of-{name}"),
        }
        for name in names
    }
    near = seen.pool[:, who.any(axis=1)]
    return Pooled(groups, sizes, seen.captioned, near, far, relevant, miners)


def drawn(pool: Pooled, chosen: np.ndarray, model: str = "org/model", replicates: int = REPLICATES) -> RunRanks:
    """Return the run of a model on the corpus whose far images are `chosen` (numbers in a random order)."""
    replicate = np.arange(len(chosen)) % replicates
    parts = np.zeros((pool.far, replicates), dtype=np.int32)
    parts[chosen, replicate] = 1
    hits = np.asarray(pool.far_above @ parts, dtype=np.int64)
    sampled = {
        f"pool:random:{n:02}": (hits[:, n], int((replicate == n).sum())) for n in range(min(replicates, len(chosen)))
    }
    above = {
        "captioned": pool.captioned_above,
        **pool.groups,
        **{name: counts for name, (counts, _) in sampled.items()},
    }
    images, q = int(pool.relevant.max()) + 1, len(pool.relevant)
    sources: dict[str, Any] = {"captioned": entry("captioned", images, captioned=images)}
    sources |= {name: entry("mined", size, name.split(":")[2].split("+")) for name, size in pool.sizes.items()}
    share = len(chosen) / pool.far if pool.far else 1.0
    sources |= {name: entry("random", size, probability=share) for name, (_, size) in sampled.items()}
    near = sum(pool.sizes.values())
    info = info_of(
        model_name=model,
        corpus_size=sum(one["images"] for one in sources.values()),
        query_count=q,
        sources=sources,
        pool={
            "images": near + pool.far,
            "near": near,
            "far": pool.far,
            "seed": "1",
            "near_each": NEAR,
            "miners": pool.miners,
        },
    )
    ranks = 1 + np.sum(list(above.values()), axis=0)
    queries, images_of = (
        np.array([f"q{n:05}" for n in range(q)]),
        np.array([f"captioned/{n:04}" for n in pool.relevant]),
    )
    record = RunRecord(Path("runs/by-hand"), info)
    return RunRanks(record, queries, images_of, ranks, above, np.ones(q, dtype=np.int64), [[] for _ in ranks])


def entry(
    arm: str, images: int, mined_by: Sequence[str] = (), captioned: int = 0, probability: float = 1.0
) -> dict[str, Any]:
    """Return what `run.json` says of a group."""
    return {
        "images": images,
        "captioned": captioned,
        "source": "captioned" if arm == "captioned" else "pool",
        "arm": arm,
        "mined_by": sorted(mined_by),
        "inclusion_probability": probability,
    }


def rivals(miners: int, models: int = 5, seed: int = 3) -> list[RunRanks]:
    """Return runs of models on a corpus that one to three miners made, of which "first" is the first model itself.

    They see little alike (their noise is large), so that what is near in one's view is not in another's.
    """
    world = pool_world(seed=seed)
    seen = [view(world, 500 + n, noise=0.5) for n in range(models)]
    others = [view(world, 100 + n, noise=0.5) for n in range(1, miners)]
    found = {name: mined(one, near=8) for name, one in zip(MINERS, [seen[0], *others])}
    runs = []
    for n, one in enumerate(seen):
        pool = pooled(ranked(one), world.relevant, found, {"first": "model-0"})
        chosen = np.random.default_rng(4).permutation(pool.far)[:1_500]
        runs.append(drawn(pool, chosen, f"org/model-{n}"))
    return runs


def usual(
    seed: int = 0, near: int = NEAR, miners_noise: float = NOISE, model_noise: float = NOISE, **size: Any
) -> Pooled:
    """Return a world of three miners and a model that is none of them; the more noise, the less a view sees."""
    world = pool_world(seed=seed, **size)
    found = {name: mined(view(world, 1_000 * seed + n, miners_noise), near) for n, name in enumerate(MINERS)}
    return pooled(ranked(view(world, 1_000 * seed + 99, model_noise)), world.relevant, found)


def tiny(captioned: int = 30) -> Pooled:
    """Return a small world of the same kind."""
    return usual(near=6, pool=1_500, captioned=captioned, each=2, caption=1.6)
