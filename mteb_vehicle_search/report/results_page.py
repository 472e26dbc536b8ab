"""The page of one query: what a model found, in one file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import first_name
from mteb_vehicle_search.files import write_whole

STYLE = Path(__file__).parent / "static" / "report.css"


def write_results(
    path: Path, eval_set: EvalSet, hits: Sequence[tuple[str, float]], *, asked: str, model: str, image: Path | None
) -> None:
    """Write the page of what was found, (image id, score), best first.

    `asked` is the text, or the name of the file that `image` is.

    Raises:
        ResultsError: It cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page = Environment(loader=PackageLoader("mteb_vehicle_search.report"), autoescape=True, undefined=StrictUndefined)
    html = page.get_template("results.html.j2").render(
        style=STYLE.read_text(encoding="utf-8"),
        eval_set=eval_set,
        asked=asked,
        model=model,
        image=image and _address(image.read_bytes(), f"image/{'png' if image.suffix.lower() == '.png' else 'jpeg'}"),
        hits=_described(eval_set, hits),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, html.encode(errors="replace"))
    except OSError as error:
        raise ResultsError(f"{path} cannot be written: {error}.") from error


def facts_of(eval_set: EvalSet, images: Sequence[str]) -> list[dict[str, Any]]:
    """Return the provenance of images, in their order."""
    wanted = {row["corpus-id"]: row for row in eval_set.provenance().to_pylist() if row["corpus-id"] in set(images)}
    return [wanted[image] for image in images]


def _described(eval_set: EvalSet, hits: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    texts = {query.id: query.text for query in eval_set.queries()}
    captions: dict[str, list[str]] = {}
    for qrel in eval_set.qrels():
        captions.setdefault(qrel.corpus_id, []).append(texts[qrel.query_id])
    return [
        {
            "id": image,
            "score": score,
            "address": _address(eval_set.jpeg(image), "image/jpeg"),
            "class": first_name(fact["class_name"]),
            "source": fact["source"],
            "captions": captions.get(image, []),
        }
        for (image, score), fact in zip(hits, facts_of(eval_set, [image for image, _ in hits]), strict=True)
    ]


def _address(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
