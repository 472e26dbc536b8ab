"""Drawn scenes: vehicles in simple surroundings, made with Pillow alone, and captions as people would write them.

A scene is a handful of attributes. `draw` turns it into a picture, `captions` into five sentences that differ in words
and detail, and `near_twin` into a scene that differs in exactly one attribute. Everything follows from seeds, on every
machine alike. The drawing and the captions are frozen: the content id of VehicleImageSearchMini depends on them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

from PIL import Image, ImageDraw

WIDTH, HEIGHT = 120, 100  # The canvas in drawing units; a unit is 1.6 px in the finished picture.
MINI_SEED = "mini-1"

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
    """What a picture shows; every attribute is visible."""

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


@dataclass(frozen=True)
class DrawnScene:
    """A scene with its name in an evaluation set; captions only where it is searched for."""

    stem: str
    scene: Scene
    captions: tuple[str, ...] = ()


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


def captions(scene: Scene, seed: str) -> tuple[str, ...]:
    """Return five captions of a scene, from a full description to a vague remark, in that order."""
    rng = random.Random(f"{seed}/captions")
    name, others, _ = KINDS[scene.kind]
    place = rng.choice(PLACES[scene.place])
    weather = rng.choice(WEATHERS[scene.weather])
    extra = rng.choice(EXTRAS[scene.extra])
    verb = rng.choice(("facing", "heading", "moving to the", "pointing to the"))
    beside = rng.choice(("next to", "near", "beside"))
    near = f"{beside} {extra}" if extra else ""
    count = rng.choice(COUNTS[scene.count])
    full = _sentence(
        _noun(scene, name, count), f"{verb} {scene.heading}", place, weather, f"with {extra}" if extra else ""
    )
    seen = _sentence(
        _noun(scene, rng.choice(others), count), place, SIDES[scene.side] + " of the picture", near, weather
    )
    part = _sentence(_noun(scene, rng.choice((name, *others)), count), near or place, f"{verb} {scene.heading}")
    short = f"{_noun(scene, name, count)} {rng.choice(PLACES[scene.place])} {weather}"
    thing = rng.choice(("vehicle", "ride", "machine", "thing with wheels"))
    plain = _noun(scene, rng.choice((name, *others)), count, with_colour=False)
    vague = rng.choice(
        (
            f"some {scene.colour} {thing} {place} {near}",
            f"there {'is' if scene.count == 1 else 'are'} {plain} here {weather or place}",
            f"a picture of {plain} {near or place}",
            f"{scene.colour} {thing} {near or SIDES[scene.side]} {weather}",
        )
    )
    return full, seen, part, _tidy(short), _tidy(vague)


def _noun(scene: Scene, name: str, count: str, *, with_colour: bool = True) -> str:
    noun = f"{scene.colour} {name}" if with_colour else name
    if scene.count == 1:
        return ("an " if noun[0] in "aeiou" else "a ") + noun
    return f"{count} {noun}" + ("es" if noun.endswith(("s", "ch")) else "s")


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _sentence(*parts: str) -> str:
    text = _tidy(" ".join(parts))
    return text[0].upper() + text[1:] + "."


def draw(scene: Scene, width_px: int = 192) -> Image.Image:
    """Return the picture of a scene, RGB, `width_px` wide and 5/6 as high (exact at multiples of 6)."""
    scale = 2 * width_px / WIDTH
    picture = Image.new("RGB", (round(WIDTH * scale), round(HEIGHT * scale)))
    pen = _Pen(ImageDraw.Draw(picture), scale)
    dark = scene.place == "night"
    ground = _draw_place(pen, scene.place)
    _draw_extra(pen, scene, ground)
    _, _, length = KINDS[scene.kind]
    shrink = {1: 1.0, 2: 0.8, 3: 0.62}[scene.count]
    centre = {"left": 42, "middle": 60, "right": 78}[scene.side]
    step = {1: 0.0, 2: 13.0, 3: 12.5}[scene.count]
    for number in range(scene.count):
        shift = (number - (scene.count - 1) / 2) * step
        baseline = 86 + shift * (0.9 if scene.count > 1 else 0)
        x = centre + shift * 0.6 - length * shrink / 2
        mirrored = scene.heading == "left"
        _VEHICLES[scene.kind](_Frame(pen, x, baseline, length, shrink, mirrored), COLOURS[scene.colour], dark)
    _draw_weather(pen, scene)
    return picture.reduce(2)


class _Pen:
    """Draws shapes given in canvas units, at whole pixels: no rounding is left to the library."""

    def __init__(self, canvas: ImageDraw.ImageDraw, scale: float) -> None:
        self.canvas, self.scale = canvas, scale

    def px(self, *units: float) -> list[int]:
        return [round(u * self.scale) for u in units]

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: tuple) -> None:
        self.canvas.rectangle(self.px(min(x0, x1), y0, max(x0, x1), y1), fill=fill)

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: tuple) -> None:
        self.canvas.ellipse(self.px(min(x0, x1), y0, max(x0, x1), y1), fill=fill)

    def shape(self, points: list[tuple[float, float]], fill: tuple) -> None:
        self.canvas.polygon(self.px(*(u for point in points for u in point)), fill=fill)

    def line(self, points: list[tuple[float, float]], fill: tuple, width: float) -> None:
        pixels = self.px(*(u for point in points for u in point))
        self.canvas.line(pixels, fill=fill, width=max(1, round(width * self.scale)), joint="curve")

    def ring(self, x: float, y: float, radius: float, fill: tuple, width: float) -> None:
        box = self.px(x - radius, y - radius, x + radius, y + radius)
        self.canvas.ellipse(box, outline=fill, width=max(1, round(width * self.scale)))


@dataclass(frozen=True)
class _Frame:
    """Coordinates of one vehicle: x along its length from the rear, y upwards from the ground."""

    pen: _Pen
    x: float
    ground: float
    length: float
    size: float
    mirrored: bool

    def at(self, x: float, y: float) -> tuple[float, float]:
        along = self.length - x if self.mirrored else x
        return self.x + along * self.size, self.ground - y * self.size

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: tuple) -> None:
        (a, b), (c, d) = self.at(x0, y1), self.at(x1, y0)
        self.pen.box(a, b, c, d, fill)

    def shape(self, points: list[tuple[float, float]], fill: tuple) -> None:
        self.pen.shape([self.at(*point) for point in points], fill)

    def line(self, points: list[tuple[float, float]], fill: tuple, width: float) -> None:
        self.pen.line([self.at(*point) for point in points], fill, width * self.size)

    def disc(self, x: float, y: float, radius: float, fill: tuple) -> None:
        a, b = self.at(x, y)
        r = radius * self.size
        self.pen.oval(a - r, b - r, a + r, b + r, fill)

    def wheel(self, x: float, radius: float) -> None:
        self.disc(x, radius, radius, (28, 28, 30))
        self.disc(x, radius, radius * 0.45, (168, 168, 172))

    def spoked_wheel(self, x: float, radius: float) -> None:
        a, b = self.at(x, radius)
        self.pen.ring(a, b, radius * self.size, (30, 30, 32), 1.1 * self.size)


def _shade(colour: tuple, factor: float) -> tuple:
    return tuple(min(255, round(c * factor)) for c in colour)


def _glass(dark: bool) -> tuple:
    return (250, 226, 130) if dark else (176, 212, 232)


def _lamp(f: _Frame, x: float, y: float, dark: bool) -> None:
    f.disc(x, y, 1.5, (255, 240, 160) if dark else (250, 214, 120))
    if dark:
        f.shape([(x + 1, y), (x + 14, y + 3.5), (x + 14, y - 5)], (150, 140, 96))


def _car(f: _Frame, colour: tuple, dark: bool) -> None:
    f.shape([(6, 10), (11, 17), (23, 17), (28, 10)], colour)
    f.shape([(8.5, 10.5), (12, 15.5), (16, 15.5), (16, 10.5)], _glass(dark))
    f.shape([(17.5, 10.5), (17.5, 15.5), (22, 15.5), (25.5, 10.5)], _glass(dark))
    f.shape([(0, 4), (0, 10.5), (28, 11), (34, 8.5), (34, 4)], colour)
    f.box(0, 3.2, 34, 4.6, _shade(colour, 0.6))
    f.wheel(8, 4.2)
    f.wheel(26, 4.2)
    _lamp(f, 33, 7.5, dark)


def _bus(f: _Frame, colour: tuple, dark: bool) -> None:
    f.box(0, 4, 48, 26, colour)
    f.box(0, 4, 48, 7, _shade(colour, 0.6))
    for x in range(3, 38, 7):
        f.box(x, 15, x + 5.4, 23, _glass(dark))
    f.box(40, 7, 45, 23, _shade(_glass(dark), 0.8))
    f.wheel(10, 4.4)
    f.wheel(38, 4.4)
    _lamp(f, 47, 9, dark)


def _truck(f: _Frame, colour: tuple, dark: bool) -> None:
    f.box(0, 6, 31, 28, colour)
    f.box(0, 24.5, 31, 28, _shade(colour, 0.75))
    f.shape([(33, 5), (33, 22), (41, 22), (46, 13), (46, 5)], (205, 205, 208))
    f.shape([(36, 13), (36, 20), (40.5, 20), (44, 13)], _glass(dark))
    f.box(0, 4, 46, 6.5, (70, 70, 74))
    for x in (7, 16, 39):
        f.wheel(x, 4.6)
    _lamp(f, 45, 8, dark)


def _van(f: _Frame, colour: tuple, dark: bool) -> None:
    f.shape([(0, 4), (0, 21), (26, 21), (32, 12), (36, 10.5), (36, 4)], colour)
    f.shape([(22, 12.5), (22, 19), (26, 19), (30, 12.5)], _glass(dark))
    f.box(3, 8.5, 19, 9.5, _shade(colour, 0.7))
    f.box(19.6, 6, 20.2, 19, _shade(colour, 0.7))
    f.wheel(8, 4.2)
    f.wheel(28, 4.2)
    _lamp(f, 35, 8.5, dark)


def _bicycle(f: _Frame, colour: tuple, dark: bool) -> None:
    f.spoked_wheel(5, 5)
    f.spoked_wheel(19, 5)
    f.line([(5, 5), (9, 12), (17, 12), (11, 5), (5, 5)], colour, 1.6)
    f.line([(11, 5), (8.4, 14)], colour, 1.6)
    f.line([(19, 5), (16.6, 14.5), (19.5, 15.5)], colour, 1.6)
    f.box(6, 13.8, 11, 15.2, (40, 34, 30))


def _motorcycle(f: _Frame, colour: tuple, dark: bool) -> None:
    f.wheel(5.4, 5.4)
    f.wheel(22, 5.4)
    f.line([(5.4, 5.4), (13, 6), (19, 12), (22, 5.4)], (96, 96, 102), 1.8)
    f.box(9, 4, 15, 8.6, (120, 120, 126))
    f.shape([(8, 9), (10, 12), (18, 13.4), (18.6, 10), (13, 8.4)], colour)
    f.shape([(2, 10.5), (3, 13), (10, 12), (10, 10)], (36, 32, 30))
    f.line([(18.6, 12), (16.8, 17), (14.5, 17)], (60, 60, 64), 1.2)
    _lamp(f, 20, 13, dark)


def _train(f: _Frame, colour: tuple, dark: bool) -> None:
    f.box(-6, -0.8, 60, 0.4, (110, 100, 92))
    f.box(0, 5, 14, 27, colour)
    f.box(3, 16, 11, 23, _glass(dark))
    f.box(-1, 27, 16, 29, _shade(colour, 0.6))
    f.box(14, 7, 48, 19, _shade(colour, 0.85))
    f.disc(48, 13, 6, _shade(colour, 0.7))
    f.box(38, 19, 43, 29, (44, 44, 48))
    f.disc(26, 19, 4, _shade(colour, 0.7))
    f.shape([(48, 1.4), (48, 6), (54, 1.4)], (70, 66, 64))
    for x in (6, 17, 27, 37):
        f.wheel(x, 4.6)
    f.disc(36, 34, 4, (214, 214, 216))
    f.disc(30, 38, 5.4, (226, 226, 228))


def _tram(f: _Frame, colour: tuple, dark: bool) -> None:
    f.line([(-20, 34), (70, 34)], (60, 60, 64), 0.6)
    f.line([(20, 25), (26, 34), (30, 25)], (60, 60, 64), 0.9)
    f.box(-6, -0.8, 56, 0.4, (110, 100, 92))
    f.shape([(0, 3), (1.5, 25), (48.5, 25), (50, 3)], colour)
    f.box(0.6, 9.4, 49.4, 11.4, (240, 236, 222))
    for x in (4, 13, 22, 31, 40):
        f.box(x, 13, x + 6.4, 22, _glass(dark))
    f.box(4, 0.6, 46, 3.6, (64, 64, 68))
    for x in (10, 17, 33, 40):
        f.disc(x, 1.8, 1.9, (28, 28, 30))
    _lamp(f, 49, 6.5, dark)


def _tractor(f: _Frame, colour: tuple, dark: bool) -> None:
    f.box(4, 11, 5.2, 26, (60, 60, 64))
    f.box(13, 11, 14.2, 26, (60, 60, 64))
    f.box(5, 14, 13.4, 25, _glass(dark))
    f.box(2.4, 25, 16, 27, _shade(colour, 0.8))
    f.box(10, 6.5, 29, 14.5, colour)
    f.box(24, 14, 25.6, 21, (70, 70, 74))
    f.disc(8, 8, 8.2, (30, 30, 32))
    f.disc(8, 8, 4, _shade(colour, 1.1))
    f.disc(25.5, 4.6, 4.6, (30, 30, 32))
    f.disc(25.5, 4.6, 2, _shade(colour, 1.1))


def _fire_engine(f: _Frame, colour: tuple, dark: bool) -> None:
    f.box(0, 5, 33, 20, colour)
    f.box(0, 10.5, 33, 12.5, (245, 240, 225))
    f.shape([(33, 5), (33, 23), (44, 23), (48, 15), (48, 5)], colour)
    f.shape([(37, 14.5), (37, 21), (43, 21), (46, 14.5)], _glass(dark))
    f.line([(1, 23), (36, 27)], (196, 196, 200), 1.2)
    f.line([(1, 26), (36, 30)], (196, 196, 200), 1.2)
    for x in range(4, 36, 5):
        y = 23 + (x - 1) * 4 / 35
        f.line([(x, y), (x, y + 3)], (196, 196, 200), 0.9)
    f.box(38, 23, 42, 25.4, (60, 130, 255))
    for x in (9, 25, 41):
        f.wheel(x, 4.6)
    _lamp(f, 47, 8, dark)


def _scooter(f: _Frame, colour: tuple, dark: bool) -> None:
    f.wheel(4.4, 3.4)
    f.wheel(18.6, 3.4)
    f.shape([(0.6, 5), (2, 10), (9, 10), (10, 5), (15, 5), (17, 12), (19, 12), (17.4, 3), (9, 3)], colour)
    f.box(2, 10, 9, 11.6, (40, 34, 30))
    f.line([(18, 11), (17, 16), (14.6, 16.6)], (60, 60, 64), 1.1)
    _lamp(f, 19, 11, dark)


def _pickup(f: _Frame, colour: tuple, dark: bool) -> None:
    f.shape([(16, 10), (17, 18), (26, 18), (30, 10)], colour)
    f.shape([(18, 10.6), (18.7, 16.6), (25.2, 16.6), (28.2, 10.6)], _glass(dark))
    f.shape([(0, 4.5), (0, 11.4), (16, 11.4), (16, 10.6), (31, 10.6), (38, 9), (38, 4.5)], colour)
    f.box(1, 10.4, 15, 11.4, (50, 46, 44))
    f.wheel(8, 4.6)
    f.wheel(30, 4.6)
    _lamp(f, 37, 7.6, dark)


_VEHICLES: dict[str, Callable[[_Frame, tuple, bool], None]] = {
    "car": _car,
    "bus": _bus,
    "truck": _truck,
    "van": _van,
    "bicycle": _bicycle,
    "motorcycle": _motorcycle,
    "train": _train,
    "tram": _tram,
    "tractor": _tractor,
    "fire engine": _fire_engine,
    "scooter": _scooter,
    "pickup": _pickup,
}


def _draw_place(pen: _Pen, place: str) -> float:
    """Paint sky and ground; return the height of the horizon."""
    skies = {"night": (26, 30, 62), "desert": (250, 208, 150), "snow": (206, 218, 228), "city": (188, 206, 220)}
    grounds = {
        "road": (120, 168, 84),
        "city": (120, 120, 124),
        "field": (110, 178, 74),
        "beach": (236, 214, 160),
        "snow": (240, 244, 248),
        "desert": (226, 174, 104),
        "night": (48, 52, 66),
        "forest": (96, 120, 66),
    }
    horizon = 58.0
    pen.box(0, 0, WIDTH, HEIGHT, skies.get(place, (150, 200, 240)))
    pen.box(0, horizon, WIDTH, HEIGHT, grounds[place])
    if place == "road":
        pen.shape([(-10, horizon), (25, 38), (62, horizon)], (104, 146, 96))
        pen.shape([(40, horizon), (88, 32), (134, horizon)], (86, 128, 84))
        pen.box(0, 72, WIDTH, 96, (92, 92, 96))
        for x in range(2, WIDTH, 20):
            pen.box(x, 90, x + 10, 91.4, (240, 240, 240))
    elif place == "city":
        for x, width, top, tone in ((0, 18, 24, 130), (19, 14, 36, 158), (34, 22, 14, 142), (57, 16, 30, 120)):
            _building(pen, x, width, top, horizon, tone)
        for x, width, top, tone in ((74, 20, 20, 150), (95, 25, 34, 134)):
            _building(pen, x, width, top, horizon, tone)
        pen.box(0, 62, WIDTH, 64, (176, 176, 178))
    elif place == "field":
        for y in (66, 74, 84):
            pen.box(0, y, WIDTH, y + 2, (98, 162, 64))
        pen.oval(96, 8, 110, 22, (255, 226, 90))
    elif place == "beach":
        pen.box(0, 44, WIDTH, horizon, (50, 140, 200))
        pen.box(0, horizon, WIDTH, horizon + 2, (244, 248, 250))
        pen.oval(12, 8, 26, 22, (255, 226, 90))
    elif place == "snow":
        pen.shape([(0, horizon), (30, 22), (64, horizon)], (150, 164, 180))
        pen.shape([(22, 32), (30, 22), (38, 32)], (250, 250, 252))
        pen.shape([(50, horizon), (90, 28), (128, horizon)], (164, 178, 192))
        pen.shape([(81, 36), (90, 28), (99, 36)], (250, 250, 252))
    elif place == "desert":
        pen.oval(-20, 48, 60, 80, (216, 160, 92))
        pen.oval(40, 50, 140, 84, (206, 150, 84))
        pen.box(0, 66, WIDTH, HEIGHT, grounds[place])
        pen.oval(52, 8, 68, 24, (255, 240, 190))
    elif place == "night":
        pen.oval(92, 8, 106, 22, (240, 238, 210))
        for x, y in ((10, 12), (28, 24), (44, 8), (62, 18), (78, 30), (112, 32)):
            pen.oval(x, y, x + 1.4, y + 1.4, (255, 255, 230))
    else:
        for x in range(-6, WIDTH, 20):
            pen.shape([(x, horizon + 2), (x + 11, 20 + (x * 7) % 12), (x + 22, horizon + 2)], (38, 92, 52))
    return horizon


def _building(pen: _Pen, x: float, width: float, top: float, horizon: float, tone: int) -> None:
    pen.box(x, top, x + width, horizon, (tone, tone, tone + 8))
    for y in range(round(top) + 4, round(horizon) - 6, 10):
        pen.box(x + 3, y, x + width - 3, y + 3, (tone + 40, tone + 46, tone + 56))


def _draw_extra(pen: _Pen, scene: Scene, ground: float) -> None:
    # Opposite the vehicle, so that it is never hidden.
    x = {"left": 96, "middle": 16, "right": 22}[scene.side]
    y = ground + 12
    if scene.extra == "person":
        pen.oval(x - 3, y - 23, x + 3, y - 17, (224, 176, 140))
        pen.box(x - 3.6, y - 17, x + 3.6, y - 7, (190, 60, 110))
        pen.box(x - 3, y - 7, x - 0.4, y + 3, (50, 60, 90))
        pen.box(x + 0.4, y - 7, x + 3, y + 3, (50, 60, 90))
    elif scene.extra == "tree":
        pen.box(x - 2, y - 16, x + 2, y + 2, (110, 76, 46))
        pen.oval(x - 12, y - 38, x + 12, y - 12, (44, 130, 58))
    elif scene.extra == "dog":
        pen.box(x - 7, y - 6, x + 5, y - 1, (136, 90, 50))
        pen.oval(x + 2, y - 11, x + 10, y - 4, (136, 90, 50))
        for leg in (-6, 3):
            pen.box(x + leg, y - 1, x + leg + 2, y + 4, (116, 74, 40))
    elif scene.extra == "sign":
        pen.box(x - 0.8, y - 18, x + 0.8, y + 2, (120, 120, 124))
        pen.shape([(x - 8, y - 17), (x, y - 31), (x + 8, y - 17)], (214, 30, 30))
        pen.shape([(x - 4.6, y - 19), (x, y - 27), (x + 4.6, y - 19)], (250, 250, 250))
    elif scene.extra == "house":
        pen.box(x - 13, y - 20, x + 13, y, (222, 196, 160))
        pen.shape([(x - 16, y - 20), (x, y - 34), (x + 16, y - 20)], (158, 62, 48))
        pen.box(x - 3, y - 11, x + 3, y, (100, 66, 44))
    elif scene.extra == "balloon":
        pen.oval(x - 10, 6, x + 10, 30, (232, 90, 140))
        pen.box(x - 3, 33, x + 3, 38, (130, 90, 50))
        pen.line([(x - 7, 26), (x - 3, 33)], (90, 70, 50), 0.5)
        pen.line([(x + 7, 26), (x + 3, 33)], (90, 70, 50), 0.5)


def _draw_weather(pen: _Pen, scene: Scene) -> None:
    rng = random.Random("weather")
    if scene.weather == "rain":
        for _ in range(26):
            x, y = rng.uniform(0, WIDTH), rng.uniform(-4, HEIGHT)
            pen.line([(x, y), (x - 2.4, y + 7)], (206, 222, 240), 0.7)
    elif scene.weather == "fog":
        for y in (12, 34, 56):
            pen.oval(-24, y, 82, y + 8, (222, 224, 226))
            pen.oval(46, y + 11, 144, y + 18, (222, 224, 226))


def draw_photo_like(seed: int, width: int = 500, height: int = 375) -> Image.Image:
    """Return a scene with the texture of a photograph, RGB; 500 x 375 pixels weigh
    about 110 KB as a JPEG of quality 90.

    For test data and benchmarks that need files of realistic size.
    """
    import numpy as np

    picture = draw(random_scene(random.Random(f"photo/{seed}"))).resize((width, height), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 40, (height, width, 1))
    pixels = np.asarray(picture, dtype=np.float32) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
