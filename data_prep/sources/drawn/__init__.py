"""Drawn scenes: vehicles in simple surroundings, made with Pillow alone, and captions as people would write them.

A scene is a handful of attributes. `draw` turns it into an image, `captions` into five sentences that differ in words
and detail, and `near_twin` into a scene that differs in exactly one attribute. Everything follows from seeds, on every
machine alike. The drawing and the captions are frozen: the content id of VehicleImageSearchMini depends on them.
"""

from __future__ import annotations

from data_prep.sources import CaptionedSource, DistractorSource, Place, Source


def _captioned(place: Place) -> CaptionedSource:
    from data_prep.sources.drawn import source  # Draws with Pillow.

    return source.CaptionedScenes(source.MINI)


def _distractors(place: Place, captioned: Place | None) -> DistractorSource:
    from data_prep.sources.drawn import source

    return source.DistractorScenes(source.MINI)


def _captioned_of_pool(place: Place) -> CaptionedSource:
    from data_prep.sources.drawn import source

    return source.CaptionedScenes(source.POOL)


def _pool(place: Place, captioned: Place | None) -> DistractorSource:
    from data_prep.sources.drawn import source

    return source.DistractorScenes(source.POOL)


_CARD = "**Drawn scenes**, made by this project's own program; no photo and nobody's rights are involved."
SOURCE = Source(name="drawn", card=_CARD, captioned=_captioned, distractors=_distractors)
POOL = Source(name="drawn-pool", card=_CARD, captioned=_captioned_of_pool, distractors=_pool)
