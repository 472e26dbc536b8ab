"""`vehicle-search-data amend`: an evaluation set with what people judged right among its relevant images."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mteb_vehicle_search.errors import BuildError, UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage, Qrel, Rejected
from mteb_vehicle_search.eval_set.verify import check_files, verify
from mteb_vehicle_search.eval_set.writer import About, write_eval_set
from mteb_vehicle_search.files import check_replaceable
from mteb_vehicle_search.judgments import Judgments, Known, judgments_folder, read_judgments
from mteb_vehicle_search.judgments.judgment import RELEVANT
from mteb_vehicle_search.terminal import progress_bar

AGREE = ("most", "all")


class Amended(NamedTuple):
    """The new set, and what was added: one judgement for each pair of a caption and an image."""

    eval_set: EvalSet
    added: list[Qrel]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, metavar="SET", help="the evaluation set")
    parser.add_argument(
        "judgments", type=Path, metavar="JUDGMENTS", help="folder of its judgments, or one that holds it by content id"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the new set")
    parser.add_argument(
        "--agree",
        choices=AGREE,
        default="most",
        help="whether most (default) or all judges of an image have to say that it is right",
    )
    parser.add_argument(
        "--name", help="of the new set and, in CamelCase, of its task (default: the old one's and '-amended')"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def main(args: argparse.Namespace) -> int:
    """Write the new set and say what is new about it."""
    old = EvalSet.open(args.folder)
    folder = judgments_folder(old.content_id, args.judgments)
    judgments = read_judgments(folder if folder.is_dir() else args.judgments, old.content_id, Known.of(old))
    sys.stderr.writelines(f"not used: {problem}\n" for problem in judgments.problems)
    name = args.name or f"{old.name}-amended"
    new, added = amend(old, judgments, args.out, name, agree=args.agree, quiet=args.quiet)
    captions = len({qrel.query_id for qrel in added})
    sys.stdout.write(
        f"{len(added):,} relevant images were added, to {captions:,} captions.\n"
        f"Content id {new.content_id}, amended from {old.content_id}.\n"
        f"Evaluate a model on it: VEHICLE_SEARCH_DATA={args.out} mteb run -t {new.task_name} -m MODEL\n"
    )
    return 0


def amend(
    old: EvalSet, judgments: Judgments, out: Path, name: str, *, agree: str = "most", quiet: bool = True
) -> Amended:
    """Write an evaluation set that differs from another in its relevant images only; the images' bytes stay.

    Args:
        old: The other one.
        judgments: Of it. "Cannot tell" is not right.
        out: Where to write; an evaluation set there is replaced.
        name: Of the new set.
        agree: Whether "most" or "all" judges of an image have to say that it is right.
        quiet: No progress bar.

    Raises:
        BuildError: Nothing is to be added, `old` is damaged, or something else is at `out`.
        EvalSetError: The name cannot be one.
    """
    added = right_pairs(old, judgments, agree)
    if not added:
        raise BuildError(
            f"Of {len(judgments.grades):,} judged pairs in {judgments.folder}, {agree} judges say of none that it is "
            "right and not known yet.",
            "Judge some: vehicle-search judge",
        )
    if out.absolute() == old.folder.absolute():
        raise UsageError(f"{out} is the set that is amended; it is left alone.", "Name another folder.")
    check_replaceable(out)
    if damaged := check_files(old):
        raise BuildError(
            f"{old.folder} is damaged: {damaged[0].where} {damaged[0].what}.",
            f"vehicle-search-data verify {old.folder}",
        )
    new = write_eval_set(
        out,
        _about(old, judgments, added, name, agree),
        images=_images(old, quiet),
        queries=old.queries(),
        qrels=[*old.qrels(), *added],
        rejected=[Rejected(*row.values()) for row in old.rejected().to_pylist()],
    )
    if violations := verify(out, progress=not quiet).violations:
        raise BuildError(f"{out} does not verify: {violations[0].where}: {violations[0].what}.")
    return Amended(new, added)


def right_pairs(old: EvalSet, judgments: Judgments, agree: str = "most") -> list[Qrel]:
    """Return the pairs that judges say are right and that are not relevant yet, sorted."""
    known = {qrel[:2] for qrel in old.qrels()}
    found = []
    for pair, said in judgments.grades.items():
        right = sum(grade == RELEVANT for grade in said.values())
        if pair not in known and (right == len(said) if agree == "all" else 2 * right > len(said)):
            found.append(Qrel(*pair))
    return sorted(found)


def _about(old: EvalSet, judgments: Judgments, added: list[Qrel], name: str, agree: str) -> About:
    lines = sorted(judgments.lines, key=lambda one: (one.query, one.image, one.judge))
    origin = {
        "content_id": old.content_id,
        "name": old.name,
        "judgments": hashlib.sha256(b"".join(one.as_line() for one in lines)).hexdigest(),
        "judges": sorted({one.judge for one in lines}),
        "agree": agree,
        "added": len(added),
    }
    about = About(
        name,
        f"{old.title} (amended)",
        old.policy,
        preset=old.manifest.get("preset", {}),
        notes=old.manifest.get("notes", {}),
        sources=old.manifest.get("sources", {}),
        pool=old.pool,
        amended_from=origin,
    )
    return about._replace(card=_card(old, about, origin))


def _card(old: EvalSet, about: About, origin: dict[str, Any]) -> str:
    """Return the body of the old dataset card, with what is new about the set in front."""
    path = old.folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    body = re.sub(r"\A---\n.*?\n---\n\s*# [^\n]*\n", "", text, flags=re.DOTALL)
    return (
        "## Amended\n\n"
        f"This is `{old.name}` with {origin['added']:,} more relevant images, which {origin['agree']} of their judges\n"
        f"said to be right ({', '.join(origin['judges'])}). Its content id was\n`{old.content_id}`;\n"
        "what is said below of one relevant image for each caption is about that.\n\n"
    ) + body.strip().replace(f"-t {old.task_name} ", f"-t {about.name_of_task} ")


def _images(old: EvalSet, quiet: bool) -> Iterator[CorpusImage]:
    facts = old.provenance().to_pylist()
    with progress_bar("amend", len(facts), quiet=quiet) as bar:
        for row, (identifier, jpeg) in zip(facts, old.images(), strict=True):
            yield CorpusImage(identifier, jpeg, {key: value for key, value in row.items() if key != "corpus-id"})
            bar.update()
