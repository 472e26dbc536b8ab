"""Captioned images, a pool in folders, and a preset that samples it."""

from __future__ import annotations

from pathlib import Path

from data_prep.sources.drawn.images import draw
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


def write_images(folder: Path) -> None:
    """Write `CAPTIONED` drawn scenes with captions beside them, and `POOL` others in three folders."""
    (folder / "captioned").mkdir(parents=True)
    for number, one in enumerate(pool_scenes("tests", CAPTIONED, POOL)):
        image = draw(one.scene).resize((64, 48))
        if one.captions:
            image.save(folder / "captioned" / f"{number:03d}.png")
            (folder / "captioned" / f"{number:03d}.txt").write_text("\n".join(one.captions), encoding="utf-8")
        else:
            path = folder / "pool" / f"{number % 3}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


# By key of the preset: what of `PRESET` is replaced, and the stages that are done again because of it.
COLOURS = '[miners.colours]\nlibrary = "pixels"\nmodel = "colours"\n'
CHOSEN = {"mine", "distractors", "duplicates", "export"}
SEEN = {"embed", *CHOSEN}
CLUSTERED = '[selection]\nmethod = "clusters"\nclusters = 4\nimages = 9\nsmallest = 1\n'
LISTED = '[selection]\nmethod = "list"\nlist = "list.txt"\n'
KEPT = {"select", "captioned", *CHOSEN}
KEYS: dict[str, tuple[dict[str, str], set[str]]] = {
    "distractors.method": ({'"stratified"': '"mined"', "rate = 0.25\n": ""}, CHOSEN),
    "distractors.miners": ({"near = 2": 'near = 2\nminers = ["layout"]', COLOURS: ""}, SEEN),
    "distractors.near": ({"near = 2": "near = 3"}, CHOSEN),
    "distractors.size": ({"rate = 0.25": "size = 40"}, CHOSEN),
    "distractors.rate": ({"rate = 0.25": "rate = 0.5"}, CHOSEN),
    "distractors.seed": ({"near = 2": 'near = 2\nseed = "2"'}, CHOSEN),
    "miners": ({'"thumbnails"': '"images"'}, {"mine", "export"}),
    "selection.method": ({"[distractors]": CLUSTERED + "[distractors]"}, KEPT),
    "selection.list": (
        {"[distractors]": '[selection]\nmethod = "list"\nlist = "list.txt"\n[distractors]'},
        {"embed", *KEPT},
    ),
}
OF_CLUSTERS: dict[str, tuple[dict[str, str], set[str]]] = {
    "selection.clusters": ({"clusters = 4": "clusters = 5"}, KEPT),
    "selection.images": ({"images = 9": "images = 7"}, KEPT),
    "selection.smallest": ({"smallest = 1": "smallest = 3"}, KEPT),
    "selection.views": ({"smallest = 1": 'smallest = 1\nviews = ["colours"]'}, KEPT),
    # Which finds the same clusters.
    "selection.seed": ({"smallest = 1": "smallest = 1\nseed = 5"}, {"select", "export"}),
}
