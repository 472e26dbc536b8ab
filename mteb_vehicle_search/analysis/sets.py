"""Which runs are on the very same evaluation set: the same questions, and the same pixels searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from mteb_vehicle_search.run_record import RunKey

ID_DIGITS = 12


class SetKey(NamedTuple):
    """What scores must share to compare: the content id, and the images id ("" if the runs do not tell it)."""

    content_id: str
    images_id: str

    @classmethod
    def of(cls, key: RunKey) -> SetKey:
        """Return the set of a run."""
        return cls(key.content_id, key.images_id)

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> SetKey:
        """Return the set of a table of the leaderboard."""
        return cls(table["content_id"], table["images_id"] or "")


class SearchedImages:
    """The images that runs are known to have searched.

    Earlier versions did not write down which: a run that does not tell is of the only known images of its content id,
    and by itself where there are several or none.
    """

    def __init__(self, keys: Iterable[RunKey]) -> None:
        known: dict[str, set[str]] = {}
        for key in keys:
            known.setdefault(key.content_id, set()).update({key.images_id} - {""})
        self._only = {content_id: next(iter(ids)) for content_id, ids in known.items() if len(ids) == 1}

    def complete(self, key: RunKey) -> RunKey:
        """Return the key of a run with the images id that it must be of, if that can be said."""
        return key if key.images_id else key._replace(images_id=self._only.get(key.content_id, ""))


def title_of(info: Mapping[str, Any]) -> str:
    """Return the title of the evaluation set of a run, from its `run.json`; else the name of its task."""
    return str(info.get("title") or info.get("task_name"))


def other_pixels(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Say how the images of two runs or tables of one content id differ, from `images_id` and `sources_id`."""
    if not one.get("images_id") or not other.get("images_id"):
        return "which images were searched is not written down"
    if not one.get("sources_id") or not other.get("sources_id"):
        return "other pixels (whether of the same photographs is not written down)"
    same = one["sources_id"] == other["sources_id"]
    return "the same photographs encoded otherwise" if same else "other images"
