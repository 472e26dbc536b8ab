"""What the page's scripts read, by file: `core` at once, the rest when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from mteb_vehicle_search.analysis import strata as by_part
from mteb_vehicle_search.analysis.uncertainty import Interval
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import first_name
from mteb_vehicle_search.judgments.judgment import GRADES
from mteb_vehicle_search.metrics import of_growth
from mteb_vehicle_search.report import judged as judging
from mteb_vehicle_search.report import suspects
from mteb_vehicle_search.report.page_data import Growth, Model, Rows
from mteb_vehicle_search.report.pairs import Pairs
from mteb_vehicle_search.report.thumbnails import decode_image
from mteb_vehicle_search.report.twins import grid_of, near

# Rows whose top tens are in one file, of one model. Fewer make many files, more make a query wait for others' tens.
BLOCK = 512
# Scores are whole numbers of this.
SCORE_UNIT = 1e-4


def script_data(
    eval_set: EvalSet,
    rows: Rows,
    models: Sequence[Model],
    parts: dict[str, list[by_part.Part]],
    pairs: Pairs | None = None,
    judged: judging.ByRow | None = None,
) -> dict[str, Any]:
    """Return what the scripts read, by file name.

    `parts` are the strengths of the models, `pairs` their comparisons; `judged` are the grades that people gave to
    images, `judged.by_row`; None if there are no judgments.
    """
    shown = [model for model in models if model.number is not None]
    facts = {row["corpus-id"]: row for row in eval_set.provenance().to_pylist()}
    labels = [_label(facts[image]) for image in rows.shown]
    sources = [facts[image]["source"] for image in rows.shown]
    classes, source_names = sorted(set(labels)), sorted(set(sources))
    groups = by_part.groups(rows.texts)
    core = {
        "block": BLOCK,
        "models": [model.name for model in shown],
        "costs": [_cost(model) for model in shown],
        "ids": rows.ids,
        "texts": rows.texts,
        "relevant": rows.relevant,
        "classes": classes,
        "classOf": _places(labels, classes),
        "sources": source_names,
        "sourceOf": _places(sources, source_names),
        "wrongClasses": sorted({labels[image] for of_model in rows.wrong for image in of_model if image >= 0}),
        # What a first rank, a second one, ... is worth; ranks beyond are worth nothing.
        "gains": [round(float(gain), 5) for gain in of_growth("ndcg_at_10").of_rank(np.arange(1.0, 11.0))],
        "groups": [{"title": title, "labels": list(of_title)} for title, of_title in groups.items()],
        "groupsOf": _masks(groups, len(rows.ids)),
        "growth": [_curve(model.name, model.growth) for model in shown if model.growth],
        "strengths": [{"title": title, "parts": [_part(p) for p in found]} for title, found in parts.items()],
        "judged": judged or {},
        "grades": None if judged is None else GRADES,
    }
    return {
        "core": core,
        "images": rows.shown,
        "suspects": _suspects(eval_set, rows, shown, facts, judged or {}),
        **({"pairs": pairs.data()} if pairs else {}),
        **{f"model{number}": _columns(rows, number, judged or {}) for number in range(len(shown))},
        **_top_tens(rows, len(shown)),
    }


def _columns(rows: Rows, model: int, judged: judging.ByRow) -> dict[str, Any]:
    """Return what filters and lists need of one model, by row."""
    return {
        "ranks": rows.ranks[model],
        "wrong": rows.wrong[model],
        "loss": _losses(rows, model),
        "captioned": rows.captioned_above[model],
        "judgedRight": judging.rows_with_right(rows, model, judged),
    }


def _top_tens(rows: Rows, models: int) -> dict[str, Any]:
    """Return the top tens of each model, some rows to a file."""
    files = {}
    for start in range(0, len(rows.ids), BLOCK):
        part = slice(start, start + BLOCK)
        for model in range(models):
            files[f"top{model}_{start // BLOCK}"] = {
                "images": rows.tops[model][part],
                "scores": [_drops(scores) for scores in rows.top_scores[model][part]],
                "score": [_units(score) for score in rows.scores[model][part]],
            }
    return files


def _units(score: float) -> int:
    return round(score / SCORE_UNIT)


def _drops(scores: Sequence[float]) -> list[int]:
    """Return the first score and by how much each of the others is below the one before it: short numbers."""
    units = [_units(score) for score in scores]
    return units[:1] + [before - after for before, after in pairwise(units)]


def _cost(model: Model) -> dict[str, Any]:
    """Return what charts set a score against."""
    row = model.row
    return {
        "score": row["ndcg_at_10"],
        "low": row["ndcg_at_10_ci_low"],
        "high": row["ndcg_at_10_ci_high"],
        "parameters": row["n_parameters"],
        "rate": row["images_per_s"],
    }


def _label(fact: dict[str, Any]) -> str:
    """Return the first name of an image's class, or what else is known of it."""
    return first_name(fact["class_name"]) or ("captioned image" if fact["captioned"] else "distractor")


def _places(names: Sequence[str], among: Sequence[str]) -> list[int]:
    place = {name: n for n, name in enumerate(among)}
    return [place[name] for name in names]


def _losses(rows: Rows, model: int) -> list[float | None]:
    """Return by how much the best wrong image outscores the relevant one; negative if it does not."""
    given = zip(rows.wrong[model], rows.tops[model], rows.top_scores[model], rows.scores[model], strict=True)
    return [round(scores[top.index(wrong)] - own, 4) if wrong >= 0 else None for wrong, top, scores, own in given]


def _masks(groups: dict[str, dict[str, list[int]]], count: int) -> list[int]:
    """Return for each row the groups that it is in, one bit each in the order of all labels."""
    masks = [0] * count
    for bit, at in enumerate(at for parts in groups.values() for at in parts.values()):
        for row in at:
            masks[row] |= 1 << bit
    return masks


def _suspects(
    eval_set: EvalSet, rows: Rows, shown: Sequence[Model], facts: dict[str, dict[str, Any]], judged: judging.ByRow
) -> dict[str, Any]:
    known = (facts[image]["perceptual_hash"] for image in rows.shown)
    hashes = [int(digits, 16) if digits else None for digits in known]
    # The set's own rule says what a near duplicate is there: drawings look alike sooner than photographs.
    bits = eval_set.manifest.get("preset", {}).get("duplicates", {}).get("max_distance", 4)

    @cache
    def colours(image: int) -> np.ndarray:
        return grid_of(decode_image(rows.shown[image], eval_set.jpeg(rows.shown[image])))

    electorate = suspects.voters([model.ranks for model in shown if model.ranks])
    return {
        "voters": [one._asdict() for one in electorate],
        "agreed": _settled(suspects.agreed(rows.relevant, rows.ranks, rows.wrong, electorate), rows, judged),
        "hashed": any(known is not None for known in hashes),
        "near": _settled(near(rows.relevant, rows.tops, hashes, bits, colours), rows, judged),
        "same": suspects.same_text(rows.ids, rows.texts),
    }


def _settled(found: Sequence[Any], rows: Rows, judged: judging.ByRow) -> list[dict[str, Any]]:
    """Return suspects with what was said of them; those that people confirmed come first."""
    said = judging.verdicts(rows, judged, [(one.relevant, one.image) for one in found])
    both = sorted(zip(found, said, strict=True), key=lambda pair: judging.place_of(pair[1]))
    return [{**one._asdict(), "judged": verdict and verdict._asdict()} for one, verdict in both]


def rounded(interval: Interval) -> list[float | None]:
    """Return the mean and both ends; those that are missing are None."""
    return [None if value is None else round(value, 5) for value in interval]


def _part(part: by_part.Part) -> dict[str, Any]:
    return {**part._asdict(), "scores": [rounded(score) for score in part.scores]}


def _curve(model: str, found: Growth) -> dict[str, Any]:
    points = [[point.distractors, *rounded(point.interval), kind] for point, kind in zip(found.points, found.kinds)]
    return {"model": model, "points": points}
