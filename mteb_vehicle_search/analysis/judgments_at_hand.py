"""The judgments that commands use: those of an evaluation set's content id, where they are kept or where one says."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search import settings
from mteb_vehicle_search.analysis.judged_units import JudgedSample, judged_samples
from mteb_vehicle_search.analysis.sets import ID_DIGITS
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judgments import JUDGMENTS_HELP, Judgments, judgments_folder, read_judgments
from mteb_vehicle_search.judgments.reading import Problem


class Source(NamedTuple):
    """Where judgments are taken from: `root`, else the usual folder; nowhere if they are not wanted."""

    root: Path | None = None
    wanted: bool = True


USUAL = Source()


class AtHand(NamedTuple):
    """The judgments of evaluation sets, by content id."""

    judgments: dict[str, Judgments]

    def of(self, content_id: str) -> list[JudgedSample] | None:
        """Return what was judged of a set, most first; None if there are no judgments of it."""
        found = self.judgments.get(content_id)
        return None if found is None else judged_samples(found)

    @property
    def problems(self) -> list[Problem]:
        """What of their files was not used."""
        return [problem for found in self.judgments.values() for problem in found.problems]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --judgments and --no-judgments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--judgments", type=Path, metavar="FOLDER", help=JUDGMENTS_HELP)
    which.add_argument("--no-judgments", action="store_true", help="scores by the labels alone")


def source_of(args: argparse.Namespace) -> Source:
    """Return what the arguments say."""
    return Source(args.judgments, not args.no_judgments)


def judgments_of(content_ids: Collection[str], source: Source = USUAL) -> AtHand:
    """Return the judgments of evaluation sets that are at hand.

    Raises:
        ResultsError: A folder is named that holds none of any of the sets.
    """
    found = AtHand({})
    for content_id in sorted(set(content_ids)) if source.wanted else ():
        folder = judgments_folder(content_id, source.root)
        if folder.is_dir():
            found.judgments[content_id] = read_judgments(folder, content_id)
    if source.root is not None and content_ids and not found.judgments:
        ids = ", ".join(sorted(one[:ID_DIGITS] for one in content_ids))
        raise ResultsError(
            f"{source.root} holds no judgments of the evaluation set {ids}.",
            f"Name the folder that has one called after the content id, or leave --judgments out: {_usual()}.",
        )
    return found


def _usual() -> str:
    return f"they are looked for in {settings.judgments_folder()}"
