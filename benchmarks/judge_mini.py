"""Judge a sample of VehicleImageSearchMini by what its captions state: what each drawn scene shows is known.

    python benchmarks/judge_mini.py results/judgments --runs results/runs

It stands for a person who makes no mistakes: "yes" if all that the caption states holds, "partly" if all but one thing
does, else "no". The time of a judgment is not measured and stands as 0.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from data_prep.sources.drawn.mini import mini_scenes
from data_prep.sources.drawn.scene import COLOURS, COUNTS, EXTRAS, KINDS, PLACES, WEATHERS, Scene
from mteb_vehicle_search.analysis.chance import better_than_chance
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.selection import known_runs
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.files import write_whole
from mteb_vehicle_search.judging.drawing import draw, within
from mteb_vehicle_search.judgments import Judgment, Sample, judgments_folder, write_sample
from mteb_vehicle_search.judgments.judgment import NO, PARTLY, RELEVANT
from mteb_vehicle_search.settings import mini_folder

# When the committed sample was made: the same bytes every time.
AT = "2026-11-28T12:00:00+00:00"
SIDES = {"left": ("on the left side",), "middle": ("in the middle",), "right": ("on the right side",)}
HEADINGS = {
    side: tuple(f"{verb} {side}" for verb in ("facing", "heading", "moving to the", "pointing to the"))
    for side in ("left", "right")
}


def stated(caption: str) -> dict[str, object]:
    """Return what a caption of a drawn scene states: attribute of `Scene` -> value."""
    text = caption.lower().rstrip(".")
    names = {kind: _plurals((name, *others)) for kind, (name, others, _) in KINDS.items()}
    tables = {"kind": names, "place": PLACES, "weather": WEATHERS, "extra": EXTRAS, "side": SIDES, "heading": HEADINGS}
    found: dict[str, object] = {
        attribute: value
        for attribute, table in tables.items()
        if (value := _longest(text, ((value, phrase) for value, phrases in table.items() for phrase in phrases)))
    }
    if colour := _longest(text, ((colour, colour) for colour in COLOURS)):
        found["colour"] = colour
    if count := _count(text, names):
        found["count"] = count
    return found


def _plurals(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(form for name in names for form in (name, f"{name}s", f"{name}es"))


def _longest(text: str, phrases: Iterable[tuple[str, str]]) -> str | None:
    """Return the value of the longest phrase that stands in a text as whole words; "fire truck" is no truck."""
    there = [(len(phrase), value) for value, phrase in phrases if phrase and re.search(rf"\b{phrase}\b", text)]
    return max(there)[1] if there else None


def _count(text: str, names: dict[str, tuple[str, ...]]) -> int | None:
    for count, words in COUNTS.items():
        if count > 1 and any(re.search(rf"\b{word}\b", text) for word in words):
            return count
    every = "|".join(name for of_kind in names.values() for name in of_kind)
    return 1 if re.search(rf"\ban? (?:(?:{'|'.join(COLOURS)}) )?(?:{every})\b", text) else None


def grade(caption: str, scene: Scene) -> int:
    """Return the grade of a scene for a caption."""
    wrong = sum(getattr(scene, attribute) != value for attribute, value in stated(caption).items())
    return (RELEVANT, PARTLY)[wrong] if wrong < 2 else NO


def answers(sample: Sample, eval_set: EvalSet, scenes: Mapping[str, Scene], planned: int) -> Iterator[Judgment]:
    """Yield what is said of every image that is shown for the first units of a sample."""
    captions = {query.id: query.text for query in eval_set.queries()}
    guide = hashlib.sha256((__doc__ or "").encode()).hexdigest()
    for unit in sample.units[:planned]:
        for image in sorted({*unit.images, *sample.checks.get(unit.query, ())}):
            check = "" if image in unit.images else "known" if image in unit.known else "random"
            yield Judgment(
                content_id=sample.content_id,
                query=unit.query,
                image=image,
                grade=grade(captions[unit.query], scenes[image]),
                judge="stated-attributes",
                at=AT,
                seconds=0.0,
                sample=sample.id,
                guide=guide,
                check=check,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("judgments", type=Path, help="root of the judgments, which gets a folder for Mini")
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="run records (default: results/runs)")
    parser.add_argument("--budget", type=int, default=600, help="decisions; 0: all (default: 600)")
    args = parser.parse_args()
    eval_set = EvalSet.open(mini_folder())
    runs = [load_ranks(record) for record in known_runs(args.runs) if record.info["content_id"] == eval_set.content_id]
    telling = [run for run, better in zip(runs, better_than_chance(runs)) if better]
    sample = draw(telling, eval_set.corpus_ids())
    sample = within(sample, args.budget) if args.budget else sample
    folder = judgments_folder(eval_set.content_id, args.judgments)
    write_sample(folder, sample)
    scenes = {f"drawn/{scene.stem}": scene.scene for scene in mini_scenes()}
    given = list(answers(sample, eval_set, scenes, sample.planned))
    write_whole(folder / "stated-attributes.jsonl", b"".join(one.as_line() for one in given))
    counts = Counter(one.grade for one in given if not one.check)
    print(f"{sample.planned} captions, {len(given)} decisions: {dict(sorted(counts.items()))}")


if __name__ == "__main__":
    main()
