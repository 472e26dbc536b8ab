"""The arms of a corpus that was drawn from a pool with known probabilities, as run records tell them, checked.

A search counts the images above a relevant one by group. In sets with arms a group says which images it holds:
captioned ones, mined ones (with the miners that found them), or a random part of all others, which are the *far* images
of the pool.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mteb_vehicle_search.analysis.fields import json_types
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set.schema import ARMS

REBUILD = "Build the set again with vehicle-search-data build, and run the model on it."


class Group(NamedTuple):
    """What a search counted together: `images` of one arm; `mined_by` names the miners that found all of them."""

    images: int
    arm: str
    mined_by: tuple[str, ...]
    probability: float


class Arms(NamedTuple):
    """The groups of a corpus by name, and its pool: how many images are near, how many far, and who mined."""

    groups: dict[str, Group]
    near: int
    far: int
    miners: dict[str, dict[str, Any]]

    @property
    def pool(self) -> int:
        """The images of the pool."""
        return self.near + self.far

    @property
    def sampled(self) -> int:
        """The far images that are in the corpus."""
        return self.images("random")

    @property
    def probability(self) -> float:
        """The share of the far images that are in the corpus; 1 if there are none."""
        return self.sampled / self.far if self.far else 1.0

    def images(self, arm: str) -> int:
        """Return how many images of the corpus are of an arm."""
        return sum(group.images for group in self.groups.values() if group.arm == arm)

    def of_arm(self, arm: str) -> dict[str, Group]:
        """Return the groups of an arm by name, sorted."""
        return {name: group for name, group in sorted(self.groups.items()) if group.arm == arm}


def arms_of(info: Mapping[str, Any], where: Path) -> Arms | None:
    """Return the arms that a `run.json` tells of; None if its set has none. `where` is the record, for errors.

    Raises:
        ResultsError: An arm, a miner or a probability is missing or impossible, or the counts do not fit the pool.
    """
    pool, sources = info.get("pool"), info["sources"]
    if pool is None and not any("arm" in entry for entry in sources.values()):
        return None
    near, far, miners = _pool(pool, where)
    groups = {name: _group(name, entry, miners, where) for name, entry in sources.items()}
    arms = Arms(groups, near, far, miners)
    mined, sampled = arms.images("mined"), arms.sampled
    if mined != near:
        raise _refused(where, f"the corpus holds {mined:,} mined images, but the pool has {near:,} near ones")
    if far and not sampled:
        raise _refused(where, f"none of the {far:,} far images of the pool was sampled, so nothing is known of them")
    for name, group in arms.of_arm("random").items():
        if not far or group.probability != sampled / far:
            raise _refused(
                where,
                f"{sampled:,} of {far:,} far images were sampled, but the inclusion probability of {name!r} is "
                f"{group.probability:g}",
            )
    return arms


def _pool(pool: Any, where: Path) -> tuple[int, int, dict[str, dict[str, Any]]]:
    found = pool if isinstance(pool, dict) else {}
    for key in ("images", "near", "far"):
        count = found.get(key)
        if not isinstance(count, int) or "integer" not in json_types(count) or count < 0:
            raise _refused(where, f"its pool does not say how many {key} there are")
    if found["near"] + found["far"] != found["images"]:
        raise _refused(
            where, f"a pool of {found['images']:,} images has no {found['near']:,} near and {found['far']:,} far ones"
        )
    miners = found.get("miners")
    if not isinstance(miners, dict) or not all(isinstance(about, dict) for about in miners.values()):
        raise _refused(where, "its pool does not say who mined")
    return found["near"], found["far"], miners


def _group(name: str, entry: Mapping[str, Any], miners: Mapping[str, Any], where: Path) -> Group:
    arm, mined_by, probability = (entry.get(key) for key in ("arm", "mined_by", "inclusion_probability"))
    if arm not in ARMS:
        raise _refused(where, f"{name!r} is of the unknown arm {arm!r}")
    if probability is None:
        raise _refused(where, f"{name!r} has no inclusion probability")
    if "number" not in json_types(probability) or not 0 < probability <= 1:
        raise _refused(where, f"the inclusion probability of {name!r} is {probability!r}, not above 0 and at most 1")
    found = list(mined_by) if isinstance(mined_by, (list, tuple)) else []
    unknown = next((one for one in found if one not in miners), None)
    if unknown is not None:
        raise _refused(where, f"{name!r} was mined by {unknown!r}, which the pool does not know")
    if arm == "mined" and not found:
        raise _refused(where, f"{name!r} is mined, but not said by whom")
    if arm == "mined" and probability != 1:
        raise _refused(
            where, f"{name!r} is mined with the inclusion probability {probability:g}; near images are all in"
        )
    return Group(entry["images"], arm, tuple(found), float(probability))


def _refused(where: Path, what: str) -> ResultsError:
    return ResultsError(f"{where / 'run.json'}: {what}.", REBUILD)


def is_miner(model: str, miners: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the miner whose very model this is, by name; None if it is none's."""
    return next((name for name, miner in sorted(miners.items()) if _same(miner.get("model"), model)), None)


def family_of(model: str, meta: Mapping[str, Any], miners: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the miners whose family a model is of, or whose very model it is.

    A family is looked for in the model's name and in what mteb's metadata says that it was adapted from and of which
    type it is, case ignored, as a word: "dinov2" is in "org/DINOv2-small", and not in "org/dinov22".
    """
    texts = [model, *_texts(meta.get("adapted_from")), *_texts(meta.get("model_type"))]

    def akin(miner: Mapping[str, Any]) -> bool:
        family = miner.get("family")
        word = rf"(?<![^\W_]){re.escape(family)}(?![^\W_])" if isinstance(family, str) and family else None
        return _same(miner.get("model"), model) or any(word and re.search(word, text, re.IGNORECASE) for text in texts)

    return [name for name, miner in sorted(miners.items()) if akin(miner)]


def _same(one: Any, other: str) -> bool:
    return isinstance(one, str) and bool(one) and one.casefold() == other.casefold()


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(one) for one in value] if isinstance(value, list) else []
