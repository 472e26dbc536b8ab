"""What a scene can show, and how scenes are chosen at random."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

COLOURS = {
    "red": (205, 38, 38),
    "blue": (40, 84, 190),
    "green": (34, 140, 66),
    "yellow": (240, 200, 40),
    "white": (242, 242, 240),
    "black": (34, 34, 38),
    "orange": (238, 126, 30),
    "purple": (128, 58, 160),
}
# kind -> (plain name, other names people use, length in units)
KINDS: dict[str, tuple[str, tuple[str, ...], int]] = {
    "car": ("car", ("sedan", "automobile"), 34),
    "bus": ("bus", ("coach", "city bus"), 48),
    "truck": ("truck", ("lorry", "cargo truck"), 46),
    "van": ("van", ("minivan", "delivery van"), 36),
    "bicycle": ("bicycle", ("bike", "push bike"), 24),
    "motorcycle": ("motorcycle", ("motorbike", "chopper"), 27),
    "train": ("train", ("locomotive", "railway engine"), 54),
    "tram": ("tram", ("streetcar", "trolley"), 50),
    "tractor": ("tractor", ("farm tractor", "farm machine"), 30),
    "fire engine": ("fire engine", ("fire truck", "ladder truck"), 48),
    "scooter": ("scooter", ("moped", "motor scooter"), 22),
    "pickup": ("pickup", ("pickup truck", "flatbed"), 38),
}
PLACES = {
    "road": ("on a country road", "on the road", "by the hills"),
    "city": ("in the city", "on a city street", "in front of tall buildings"),
    "field": ("in a field", "on a meadow", "on the grass"),
    "beach": ("on the beach", "by the sea", "on the sand"),
    "snow": ("in the snow", "in a winter landscape", "on snowy ground"),
    "desert": ("in the desert", "among the dunes", "under a hot sky"),
    "night": ("at night", "in the dark", "under the moon"),
    "forest": ("in the woods", "in front of a forest", "by the trees"),
}
WEATHERS = {"clear": ("",), "rain": ("in the rain", "on a rainy day"), "fog": ("in the fog", "on a foggy day")}
EXTRAS = {
    "nothing": ("",),
    "person": ("a person", "somebody standing"),
    "tree": ("a tree", "a single tree"),
    "dog": ("a dog", "a brown dog"),
    "sign": ("a road sign", "a traffic sign"),
    "house": ("a house", "a small house"),
    "balloon": ("a balloon", "a hot-air balloon"),
}
COUNTS = {1: ("one",), 2: ("two", "a pair of"), 3: ("three", "a row of")}
SIDES = {"left": "on the left side", "middle": "in the middle", "right": "on the right side"}


@dataclass(frozen=True)
class Scene:
    """What an image shows; every attribute is visible."""

    kind: str
    colour: str
    count: int
    heading: str  # "left" or "right"
    side: str
    place: str
    weather: str
    extra: str


CHOICES: dict[str, tuple] = {
    "kind": tuple(KINDS),
    "colour": tuple(COLOURS),
    "count": (1, 2, 3),
    "heading": ("left", "right"),
    "side": tuple(SIDES),
    "place": tuple(PLACES),
    "weather": tuple(WEATHERS),
    "extra": tuple(EXTRAS),
}


def random_scene(rng: random.Random) -> Scene:
    """Return a scene with every attribute drawn at random; one vehicle and no extra are the commonest."""
    chosen = {name: rng.choice(values) for name, values in CHOICES.items()}
    chosen["count"] = rng.choice((1, 1, 1, 2, 3))
    chosen["weather"] = rng.choice(("clear", "clear", "clear", "rain", "fog"))
    return Scene(**chosen)


def near_twin(scene: Scene, rng: random.Random) -> Scene:
    """Return a scene that differs from `scene` in exactly one attribute."""
    name = rng.choice([field.name for field in fields(Scene)])
    return replace(scene, **{name: rng.choice([v for v in CHOICES[name] if v != getattr(scene, name)])})
