"""The scenes of VehicleImageSearchMini."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from data_prep.sources.drawn.phrases import captions
from data_prep.sources.drawn.scene import Scene, near_twin, random_scene

MINI_SEED = "mini-1"


@dataclass(frozen=True)
class DrawnScene:
    """A scene with its name in an evaluation set; captions only where it is searched for."""

    stem: str
    scene: Scene
    captions: tuple[str, ...] = ()


def mini_scenes(seed: str = MINI_SEED, captioned: int = 200, distractors: int = 1800) -> list[DrawnScene]:
    """Return the scenes of VehicleImageSearchMini: all different, the captioned ones first.

    Half of the distractors are near twins of captioned scenes, the others random.
    """
    rng = random.Random(f"{seed}/scenes")
    seen: set[Scene] = set()

    def fresh(make: Callable[[], Scene]) -> Scene:
        while (scene := make()) in seen:
            pass
        seen.add(scene)
        return scene

    targets = [fresh(partial(random_scene, rng)) for _ in range(captioned)]
    others = []
    for number in range(distractors):
        if number % 2:
            others.append(fresh(partial(random_scene, rng)))
        else:
            others.append(fresh(lambda: near_twin(rng.choice(targets), rng)))
    stems = [f"{n:06d}" for n in range(captioned + distractors)]
    rng.shuffle(stems)
    named = [DrawnScene(stem, scene, captions(scene, f"{seed}/{stem}")) for stem, scene in zip(stems, targets)]
    return named + [DrawnScene(stem, scene) for stem, scene in zip(stems[captioned:], others)]
