"""Drawn scenes: vehicles in simple surroundings, made with Pillow alone, and captions as people would write them.

A scene is a handful of attributes. `draw` turns it into a picture, `captions` into five sentences that differ in words
and detail, and `near_twin` into a scene that differs in exactly one attribute. Everything follows from seeds, on every
machine alike. The drawing and the captions are frozen: the content id of VehicleImageSearchMini depends on them.
"""

from data_prep.sources.drawn.mini import DrawnScene, mini_scenes
from data_prep.sources.drawn.phrases import captions
from data_prep.sources.drawn.pictures import draw, draw_photo_like
from data_prep.sources.drawn.scene import CHOICES, KINDS, Scene, near_twin, random_scene

__all__ = [
    "CHOICES",
    "KINDS",
    "DrawnScene",
    "Scene",
    "captions",
    "draw",
    "draw_photo_like",
    "mini_scenes",
    "near_twin",
    "random_scene",
]
