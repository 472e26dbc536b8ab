"""Captioned pictures, a pool in folders, and a preset that samples it."""

from __future__ import annotations

from pathlib import Path

from data_prep.sources.drawn.pictures import draw
from data_prep.sources.drawn.pool import pool_scenes

PRESET = """
name = "sampled"
title = "Sampled"
[captioned]
source = "folder"
location = "captioned"
table = "beside"
[miners.layout]
library = "pixels"
model = "layout"
family = "thumbnails"
[miners.colours]
library = "pixels"
model = "colours"
[distractors]
source = "folder"
location = "pool"
method = "stratified"
near = 2
rate = 0.25
[images]
shortest_side_px = 32
[duplicates]
max_distance = -1
"""
CAPTIONED, POOL = 12, 90


def write_pictures(folder: Path) -> None:
    """Write `CAPTIONED` drawn scenes with captions beside them, and `POOL` others in three folders."""
    (folder / "captioned").mkdir(parents=True)
    for number, one in enumerate(pool_scenes("tests", CAPTIONED, POOL)):
        picture = draw(one.scene).resize((64, 48))
        if one.captions:
            picture.save(folder / "captioned" / f"{number:03d}.png")
            (folder / "captioned" / f"{number:03d}.txt").write_text("\n".join(one.captions), encoding="utf-8")
        else:
            path = folder / "pool" / f"{number % 3}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
