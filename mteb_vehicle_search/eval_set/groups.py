"""Groups of images that a search counts apart: sources, or in a sample of a pool its arms and their parts.

A corpus that is a sample of a pool (`EvalSet.pool`) holds all images near a captioned one (the arm "mined"), with the
miners that found each, and a random part of the others (the arm "random"). Counts by miners tell a miner's part in a
score; counts by replicate, random parts of the random arm, tell the sampling error of whatever is estimated from it
(the random groups method; Wolter, Introduction to Variance Estimation, 2007, chapter 2).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mteb_vehicle_search.eval_set.schema import ARMS, Arm

if TYPE_CHECKING:
    import pyarrow as pa

    from mteb_vehicle_search.eval_set import EvalSet

REPLICATES = 20


def groups_of(provenance: pa.Table, pool: Mapping[str, Any]) -> list[str]:
    """Return the group of each image of a sample of a pool.

    It is `<source>` for captioned images, `<source>:mined:<miner>+<miner>` for near ones, and for the others
    `<source>:random:<replicate>`; replicates are as large as each other, or one image larger.
    """
    ids, sources, arms, miners = (provenance[name].to_pylist() for name in ("corpus-id", "source", "arm", "mined_by"))
    drawn = sorted(
        (identifier for identifier, arm in zip(ids, arms) if arm == "random"),
        key=lambda identifier: hashlib.sha256(f"{pool['seed']}/replicate/{identifier}".encode()).digest(),
    )
    replicate = {identifier: number % REPLICATES for number, identifier in enumerate(drawn)}

    def group(identifier: str, source: str, arm: str, found_by: list[str]) -> str:
        if arm == "captioned":
            return source
        return f"{source}:{arm}:" + ("+".join(found_by) if arm == "mined" else f"{replicate[identifier]:02d}")

    return [group(*row) for row in zip(ids, sources, arms, miners)]


def counts_of_groups(eval_set: EvalSet) -> dict[str, dict[str, Any]]:
    """Return how many images each group has, how many of them are captioned, and in a sample of a pool what they are:
    their `source` and the columns of `Arm`."""
    table, counts = eval_set.provenance(), dict[str, dict[str, Any]]()
    told = ("source", *Arm._fields) if eval_set.pool else ()
    facts = zip(*(table[name].to_pylist() for name in told)) if told else iter(lambda: (), None)
    for group, captioned, values in zip(eval_set.groups, table["captioned"].to_pylist(), facts):
        entry = counts.setdefault(group, {"images": 0, "captioned": 0, **dict(zip(told, values))})
        entry["images"] += 1
        entry["captioned"] += bool(captioned)
    return counts


def pool_problem(provenance: pa.Table, pool: Mapping[str, Any]) -> str | None:
    """Return why a pool is not what the images are a sample of; None if it is.

    Args:
        provenance: The provenance table with the columns of `Arm`.
        pool: As `EvalSet.pool`.
    """
    rows = list(zip(*(provenance[name].to_pylist() for name in ("corpus-id", "captioned", *Arm._fields))))
    count = Counter(arm for _, _, arm, _, _ in rows)
    if count["mined"] != pool["near"]:
        return f"{pool['near']:,} images of it are near, and {count['mined']:,} are in the corpus"
    if count["random"] > pool["far"] or (pool["far"] and not count["random"]):
        return f"of its {pool['far']:,} far images {count['random']:,} are in the corpus"
    share = count["random"] / pool["far"] if pool["far"] else 1.0
    for identifier, captioned, arm, mined_by, probability in rows:
        if wrong := _row_problem(arm, mined_by, probability, share, pool["miners"], captioned=captioned):
            return f"{identifier} {wrong}"
    return None


def _row_problem(
    arm: str, mined_by: list[str], probability: float, share: float, miners: Mapping[str, Any], *, captioned: bool
) -> str | None:
    if arm not in ARMS:
        return f"is of the arm {arm!r}, which is none of {', '.join(ARMS)}"
    if captioned != (arm == "captioned"):
        return f"is of the arm {arm!r}, and is {'' if captioned else 'not '}captioned"
    if not 0 < probability <= 1:
        return f"has the inclusion probability {probability}, which is not above 0 and at most 1"
    expected = share if arm == "random" else 1.0
    if probability != expected:
        return f"is {arm} with the inclusion probability {probability} instead of {expected}"
    if bool(mined_by) != (arm == "mined") or mined_by != sorted({*mined_by} & {*miners}):
        return f"is {arm} and found by {', '.join(mined_by) or 'no miner'}; the miners are {', '.join(sorted(miners))}"
    return None
