"""The stage `mine`: which images of a pool become distractors, and with which probability.

All near images come in: of each captioned image the nearest ones by each miner. Of the far ones, which are all others,
comes a simple random sample. So whatever miners see, an estimate that weighs each image by one over its inclusion
probability is unbiased for the whole pool (Horvitz and Thompson, J. Am. Stat. Assoc. 47, 1952).

What is random is decided by digests of a seed and an image's id, not by the order of anything: one digest orders images
that are equally near, another one the far images for the sample. One for both would sample rarely what lost a tie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.job import Job
from data_prep.markers import fingerprint
from data_prep.preset_tables import Distractors, Miner
from data_prep.stages.duplicates import near_pairs
from data_prep.stages.nearest import Nearest, nearest
from data_prep.stages.views import Views
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import Arm, Rejected
from mteb_vehicle_search.files import new_file
from mteb_vehicle_search.terminal import Reporter

LEAST_FAR = 0.1  # Of the distractors, where their number is given: near images get the others at most.


class Seen(NamedTuple):
    """The vectors that one miner gives the pool, see `nearest.Vectors`."""

    views: Views
    miner: str

    def chunks(self) -> Iterator[np.ndarray]:
        return self.views.chunks(self.miner)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.views.take(self.miner, rows)


class Mined(NamedTuple):
    """The distractors of a set.

    Attributes:
        arms: By the id of each chosen image.
        pool: What the manifest says of the pool, see `EvalSet.pool`.
        rejected: Images of the pool that are none, because they show what a captioned one does, or stand twice.
    """

    arms: dict[str, Arm]
    pool: dict[str, Any]
    rejected: list[Rejected]


def mine(job: Job, captioned: Views, kept: Collection[str] | None, pool: Views) -> Mined:
    """Choose the distractors from the pool as the preset says, for the `kept` captioned images (ids; None: all).

    Raises:
        BuildError: The pool has too few images for it, or no captioned image is kept.
    """
    preset, miners = job.preset, job.preset.pool_miners()
    rule, most = preset.distractors, preset.duplicates.max_distance
    configuration = {
        "captioned": captioned.digest,
        "kept": "all" if kept is None else fingerprint(sorted(kept)),
        "pool": pool.digest,
        "rule": {key: getattr(rule, key) for key in ("method", "near", "size", "rate", "seed")},
        "miners": {name: {**_facts(miner), "same_above": miner.same_cosine} for name, miner in miners.items()},
        "max_distance": most,
    }
    path = job.options.work / "mined.parquet"
    marker = job.stages.done("mine", configuration)
    if marker is None:
        found = choose(captioned, kept, pool, rule, miners, most, job.reporter)
        _write(path, found)
        marker = job.stages.finish("mine", configuration, [path], {"pool": found.pool}, found.rejected)
    return Mined(_read(path), marker.counts["pool"], marker.rejected)


def choose(
    captioned: Views,
    kept: Collection[str] | None,
    pool: Views,
    rule: Distractors,
    miners: Mapping[str, Miner],
    max_distance: int,
    reporter: Reporter,
) -> Mined:
    """Choose distractors from the pool.

    Args:
        captioned: Views of captioned images.
        kept: Ids of those that the set has; None: all.
        pool: Views of the pool.
        rule: How many are near, and how many of the others are drawn.
        miners: Those that say which are near.
        max_distance: Greatest number of differing bits in the perceptual hashes of near duplicates.
        reporter: Shows the progress, in images for each miner.

    Raises:
        BuildError: The pool has too few images for the rule, or no captioned image is kept.
    """
    ids, names = pool.ids(), sorted(name for name in captioned.ids() if kept is None or name in kept)
    if not names:
        raise BuildError("None of the captioned images is kept.", "Does the selection name images of this source?")
    seen, reasons = _seen(captioned, names, pool, ids, rule, miners, max_distance, reporter)
    near_each, mined_by = _near({name: one.rows for name, one in seen.items()}, len(ids) - len(reasons), rule)
    far = [row for row in range(len(ids)) if row not in mined_by and row not in reasons]
    drawn = _drawn(ids, far, _far_wanted(len(mined_by), len(far), rule), rule.seed)
    arms = {ids[row]: Arm("mined", sorted(by), 1.0) for row, by in mined_by.items()}
    arms |= {ids[row]: Arm("random", [], len(drawn) / len(far)) for row in drawn}
    facts = {
        "images": len(mined_by) + len(far),
        "near": len(mined_by),
        "far": len(far),
        "near_each": near_each,
        "seed": rule.seed,
        "miners": {name: _facts(miner) for name, miner in sorted(miners.items())},
    }
    rejected = [Rejected(ids[row], "mine", why) for row, why in reasons.items()]
    return Mined(dict(sorted(arms.items())), facts, sorted(rejected))


def _seen(
    captioned: Views,
    names: Sequence[str],
    pool: Views,
    ids: Sequence[str],
    rule: Distractors,
    miners: Mapping[str, Miner],
    max_distance: int,
    reporter: Reporter,
) -> tuple[dict[str, Nearest], dict[int, str]]:
    """Return what each miner finds for the named captioned images, and why images of the pool are left out, by row."""
    row_of = {name: row for row, name in enumerate(captioned.ids())}
    rows, order = np.array([row_of[name] for name in names]), _shuffled(f"{rule.seed}/ties", ids)
    reasons = _alike(names, captioned.hashes()[rows], ids, pool.hashes(), max_distance)
    reasons |= _standing_twice(ids, {*names})
    while True:
        _require(len(ids) - len(reasons), rule.near, len(ids))
        left_out = np.isin(np.arange(len(ids)), list(reasons))
        how: dict[str, Any] = {"order": order, "left_out": left_out, "k": rule.near}
        with reporter.bar("mine", len(miners) * len(ids)) as bar:
            seen = {
                name: nearest(
                    captioned.take(name, rows),
                    Seen(pool, name),
                    same_above=miner.same_cosine,
                    on_progress=bar.update,
                    **how,
                )
                for name, miner in miners.items()
            }
        # What is a near duplicate to one miner is no neighbour to another: then they look again.
        if not (new := _same_to_miners(seen, names, reasons)):
            return seen, reasons
        reasons |= new


def _facts(miner: Miner) -> dict[str, str]:
    return {key: getattr(miner, key) for key in ("library", "model", "revision", "family")}


def _standing_twice(ids: Sequence[str], captioned: set[str]) -> dict[int, str]:
    """Return why images are left out that stand in the pool before, or are captioned ones, by row."""
    seen, found = set[str](), dict[int, str]()
    for row, identifier in enumerate(ids):
        if identifier in captioned:
            found[row] = "is a captioned image"
        elif identifier in seen:
            found[row] = "the id stands twice"
        seen.add(identifier)
    return found


def _alike(
    names: Sequence[str], hashes: np.ndarray, ids: Sequence[str], of_pool: np.ndarray, max_distance: int
) -> dict[int, str]:
    """Return why images are left out whose perceptual hash is nearly that of a captioned one, by row."""
    numbers = [f"{number:012d}" for number in range(len(names) + len(ids))]
    bits = np.concatenate([hashes, of_pool])
    found = dict[int, str]()
    for pair in near_pairs(range(len(names)), numbers, bits, max_distance):
        one, other = int(pair.captioned), int(pair.other)
        if other >= len(names):
            found.setdefault(other - len(names), f"shows the same as the captioned {names[one]}")
    return found


def _same_to_miners(seen: Mapping[str, Nearest], names: Sequence[str], known: Mapping[int, str]) -> dict[int, str]:
    """Return why further images are left out that are near duplicates to a miner, by row."""
    return {
        row: f"shows the same as the captioned {names[of]} to the miner {name}"
        for name, one in seen.items()
        for row, of in zip(one.same.tolist(), one.same_as.tolist())
        if row not in known
    }


def _shuffled(salt: str, ids: Sequence[str]) -> np.ndarray:
    """Return the place of each image in the order of the digests of their ids, int64 [n], a permutation."""
    digests = np.array([hashlib.sha256(f"{salt}/{identifier}".encode()).digest()[:16] for identifier in ids], "S16")
    places = np.empty(len(ids), dtype=np.int64)
    places[np.argsort(digests, kind="stable")] = np.arange(len(ids))
    return places


def _require(there: int, near: int, images: int) -> None:
    if there < near:
        refused = f", {images - there:,} of which are left out" if there < images else ""
        raise BuildError(
            f"The pool has {images:,} images{refused}; distractors.near asks for {near:,} near each captioned one.",
            "Take a larger pool, or lower distractors.near.",
        )


def _near(found: Mapping[str, np.ndarray], images: int, rule: Distractors) -> tuple[int, dict[int, set[str]]]:
    """Return how many neighbours count for each captioned image and miner, and which miners find each near image.

    The quota is the same for all; it is the preset's, or as much as leaves a random sample its part of `size`.
    """
    most = images if rule.size is None else int(rule.size * (1 - LEAST_FAR))

    def found_by(quota: int) -> dict[int, set[str]]:
        rows: dict[int, set[str]] = {}
        for name, nearest_rows in found.items():
            for row in np.unique(nearest_rows[:, :quota]).tolist():
                rows.setdefault(row, set()).add(name)
        return rows

    quotas = range(1, rule.near + 1)
    # More neighbours are more images, so the largest quota that fits is found by halving.
    low, high = 0, len(quotas)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(found_by(middle)) <= most else (low, middle - 1)
    if not low:
        raise BuildError(
            f"One neighbour by each miner makes {len(found_by(1)):,} distractors; of distractors.size, {rule.size:,}, "
            f"at most {most:,} may be near.",
            "Raise distractors.size.",
        )
    return low, found_by(low)


def _far_wanted(near: int, far: int, rule: Distractors) -> int:
    """Return how many far images are drawn; all, if there are no more.

    Raises:
        BuildError: None, although there are some, so that the set could say nothing of the pool.
    """
    wanted = near if rule.method == "mined" else round(rule.rate * far) if rule.rate else (rule.size or 0) - near
    if far and wanted < 1:
        raise BuildError(
            f"distractors.rate {rule.rate} draws none of {far:,} far images: the set would say nothing of them.",
            "Raise distractors.rate.",
        )
    return wanted


def _drawn(ids: Sequence[str], far: Sequence[int], count: int, seed: str) -> list[int]:
    """Return the rows of a simple random sample of the far images."""
    places = _shuffled(f"{seed}/random", [ids[row] for row in far])
    return [row for row, place in zip(far, places.tolist()) if place < count]


def _write(path: Path, found: Mined) -> None:
    columns = {"id": list(found.arms)} | {
        key: [getattr(arm, key) for arm in found.arms.values()] for key in Arm._fields
    }
    kinds = {"mined_by": pa.list_(pa.string())}
    table = pa.table({key: pa.array(values, kinds.get(key)) for key, values in columns.items()})
    with new_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def _read(path: Path) -> dict[str, Arm]:
    columns = [pq.read_table(path)[name].to_pylist() for name in ("id", *Arm._fields)]
    return {identifier: Arm(*values) for identifier, *values in zip(*columns)}
