"""What a set that was rebuilt from a recipe has otherwise than the one that the recipe is of."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection

from data_prep.recipes import Recipe
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.terminal import Reporter

NAMED = 3


def differences(recipe: Recipe, eval_set: EvalSet) -> list[str]:
    """Return what differs, a line each with how many and the first names; nothing if all is the same."""
    wanted = {**recipe.captioned, **recipe.distractors}
    table = eval_set.read("provenance", ["corpus-id", "captioned", "sha256", "width", "height"])
    missing, extra, other, resized, role = {*wanted}, [], [], [], []
    for corpus_id, captioned, sha256, *size in zip(*(table[name].to_pylist() for name in table.column_names)):
        if (image := wanted.get(corpus_id)) is None:
            extra.append(corpus_id)
            continue
        missing.discard(corpus_id)
        if captioned != (corpus_id in recipe.captioned):
            role.append(corpus_id)
        if sha256 != image.sha256:
            same_size = size == [image.width, image.height]
            (other if same_size else resized).append(corpus_id)
    lines = [
        _line("image", "missing", missing),
        _line("image", "not in the recipe", extra),
        _line("image", "with captions here and none in the recipe, or the other way round", role),
        _line("image", "made from a file of other bytes, but the same size in pixels", other),
        _line("image", "made from a file of another size in pixels", resized),
    ]
    texts = {query.id: hashlib.sha256(query.text.encode()).hexdigest() for query in eval_set.queries()}
    changed = [query_id for query_id, sha256 in texts.items() if recipe.queries.get(query_id, sha256) != sha256]
    judged, expected = set(eval_set.qrels()), recipe.qrels
    lines += [
        _line("caption", "missing", recipe.queries.keys() - texts.keys()),
        _line("caption", "not in the recipe", texts.keys() - recipe.queries.keys()),
        _line("caption", "with another text", changed),
        _line("judgement", "missing", [f"{q} -> {c}" for q, c, _ in expected - judged]),
        _line("judgement", "not in the recipe", [f"{q} -> {c}" for q, c, _ in judged - expected]),
    ]
    if eval_set.policy != recipe.policy:
        lines.append(f"images were reduced as {eval_set.policy.as_json()}, in the recipe as {recipe.policy.as_json()}")
    images_id = eval_set.manifest.get("images_id", "")
    if eval_set.sources_id == recipe.sources_id and recipe.images_id not in ("", images_id):
        lines.append("the same files became other JPEGs than the recipe's: by another version of Pillow or of its JPEG")
    return [line for line in lines if line]


def _line(noun: str, what: str, names: Collection[str]) -> str:
    """Return how many there are and the first of them; "" if there are none."""
    if not names:
        return ""
    first = ", ".join(sorted(names)[:NAMED])
    return f"{len(names):,} {noun}{'s' * (len(names) > 1)} {what}: {first}{', ...' * (len(names) > NAMED)}"


def tell_differences(recipe: Recipe, eval_set: EvalSet, reporter: Reporter) -> int:
    """Say whether a rebuilt set is that of its recipe, and what differs; return the exit status, 1 if it is not."""
    found = "".join(f"\n  {line}" for line in differences(recipe, eval_set))
    if eval_set.content_id == recipe.content_id:
        sys.stdout.write(f"The content id is that of the recipe {recipe.where}\n")
        if found:
            reporter.warn(f"Scores compare with those of the recipe's set, but not everything is the same:{found}")
        return 0
    reporter.warn(
        f"The content id is not that of the recipe {recipe.where}, which is {recipe.content_id}; this set has its own, "
        f"{eval_set.content_id}, and its scores do not compare. What differs:{found}"
    )
    return 1
