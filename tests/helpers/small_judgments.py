"""Judgments and a sample of them, written down by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from mteb_vehicle_search.judgments import Judgment, Sample, Unit

CONTENT_ID = "5" * 64


def judgment(query: str = "q00", image: str = "imagenet/00", grade: int | None = 1, **changed: Any) -> Judgment:
    """Return a judgment of a person."""
    given = {
        "content_id": CONTENT_ID,
        "judge": "ada",
        "at": "2026-11-01T10:00:00+00:00",
        "seconds": 2.5,
        "sample": "0123456789ab",
        **changed,
    }
    return Judgment(query=query, image=image, grade=grade, **given)


def line(**changed: Any) -> bytes:
    """Return a line whose fields may say what no judgment can; a field that is ... is left out."""
    content = {**asdict(judgment()), **changed}
    return (json.dumps({name: value for name, value in content.items() if value is not ...}) + "\n").encode()


def unit(query: str, *images: str, **changed: Any) -> Unit:
    """Return a unit of a caption that has an image of its own."""
    known = (f"flickr30k/{query[1:]}",)
    given = {"known": known, "cluster": known[0], "stratum": "2-3, alone", "captions": 1, "turn": 0, **changed}
    return Unit(query=query, images=images, **given)


def sample(*units: Unit, **changed: Any) -> Sample:
    """Return a sample of these units, or of two."""
    units = units or (unit("q00", "imagenet/00"), unit("q01", "imagenet/01", "imagenet/02"))
    given = {
        "content_id": CONTENT_ID,
        "images_id": "6" * 64,
        "runs": ("some/model@r1",),
        "seed": 0,
        "queries": 10,
        "clusters": 10,
        "strata": {"2-3, alone": len(units)},
        "planned": len(units),
        "checks": {},
        **changed,
    }
    return Sample(units=units, **given)
