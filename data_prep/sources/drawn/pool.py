"""The scenes of the preset `mini-million`: a pool of 20,000, which stands for one of millions."""

from __future__ import annotations

import random

from data_prep.sources.drawn.mini import DrawnScene
from data_prep.sources.drawn.phrases import captions
from data_prep.sources.drawn.scene import Scene, random_scene

POOL_SEED = "mini-million-1"


def pool_scenes(seed: str = POOL_SEED, captioned: int = 200, pool: int = 20_000) -> list[DrawnScene]:
    """Return random scenes, all different: the captioned ones first, then the pool."""
    rng = random.Random(f"{seed}/scenes")
    scenes: dict[Scene, None] = {}
    while len(scenes) < captioned + pool:
        scenes.setdefault(random_scene(rng))
    stems = [f"{number:06d}" for number in range(len(scenes))]
    rng.shuffle(stems)
    return [
        DrawnScene(stem, scene, captions(scene, f"{seed}/{stem}") if number < captioned else ())
        for number, (stem, scene) in enumerate(zip(stems, scenes))
    ]
