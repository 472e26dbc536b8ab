"""How each kind of vehicle is drawn, in units of the canvas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import ImageDraw


class Pen:
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
class Frame:
    """Coordinates of one vehicle: x along its length from the rear, y upwards from the ground."""

    pen: Pen
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


def _lamp(f: Frame, x: float, y: float, dark: bool) -> None:
    f.disc(x, y, 1.5, (255, 240, 160) if dark else (250, 214, 120))
    if dark:
        f.shape([(x + 1, y), (x + 14, y + 3.5), (x + 14, y - 5)], (150, 140, 96))


def _car(f: Frame, colour: tuple, dark: bool) -> None:
    f.shape([(6, 10), (11, 17), (23, 17), (28, 10)], colour)
    f.shape([(8.5, 10.5), (12, 15.5), (16, 15.5), (16, 10.5)], _glass(dark))
    f.shape([(17.5, 10.5), (17.5, 15.5), (22, 15.5), (25.5, 10.5)], _glass(dark))
    f.shape([(0, 4), (0, 10.5), (28, 11), (34, 8.5), (34, 4)], colour)
    f.box(0, 3.2, 34, 4.6, _shade(colour, 0.6))
    f.wheel(8, 4.2)
    f.wheel(26, 4.2)
    _lamp(f, 33, 7.5, dark)


def _bus(f: Frame, colour: tuple, dark: bool) -> None:
    f.box(0, 4, 48, 26, colour)
    f.box(0, 4, 48, 7, _shade(colour, 0.6))
    for x in range(3, 38, 7):
        f.box(x, 15, x + 5.4, 23, _glass(dark))
    f.box(40, 7, 45, 23, _shade(_glass(dark), 0.8))
    f.wheel(10, 4.4)
    f.wheel(38, 4.4)
    _lamp(f, 47, 9, dark)


def _truck(f: Frame, colour: tuple, dark: bool) -> None:
    f.box(0, 6, 31, 28, colour)
    f.box(0, 24.5, 31, 28, _shade(colour, 0.75))
    f.shape([(33, 5), (33, 22), (41, 22), (46, 13), (46, 5)], (205, 205, 208))
    f.shape([(36, 13), (36, 20), (40.5, 20), (44, 13)], _glass(dark))
    f.box(0, 4, 46, 6.5, (70, 70, 74))
    for x in (7, 16, 39):
        f.wheel(x, 4.6)
    _lamp(f, 45, 8, dark)


def _van(f: Frame, colour: tuple, dark: bool) -> None:
    f.shape([(0, 4), (0, 21), (26, 21), (32, 12), (36, 10.5), (36, 4)], colour)
    f.shape([(22, 12.5), (22, 19), (26, 19), (30, 12.5)], _glass(dark))
    f.box(3, 8.5, 19, 9.5, _shade(colour, 0.7))
    f.box(19.6, 6, 20.2, 19, _shade(colour, 0.7))
    f.wheel(8, 4.2)
    f.wheel(28, 4.2)
    _lamp(f, 35, 8.5, dark)


def _bicycle(f: Frame, colour: tuple, dark: bool) -> None:
    f.spoked_wheel(5, 5)
    f.spoked_wheel(19, 5)
    f.line([(5, 5), (9, 12), (17, 12), (11, 5), (5, 5)], colour, 1.6)
    f.line([(11, 5), (8.4, 14)], colour, 1.6)
    f.line([(19, 5), (16.6, 14.5), (19.5, 15.5)], colour, 1.6)
    f.box(6, 13.8, 11, 15.2, (40, 34, 30))


def _motorcycle(f: Frame, colour: tuple, dark: bool) -> None:
    f.wheel(5.4, 5.4)
    f.wheel(22, 5.4)
    f.line([(5.4, 5.4), (13, 6), (19, 12), (22, 5.4)], (96, 96, 102), 1.8)
    f.box(9, 4, 15, 8.6, (120, 120, 126))
    f.shape([(8, 9), (10, 12), (18, 13.4), (18.6, 10), (13, 8.4)], colour)
    f.shape([(2, 10.5), (3, 13), (10, 12), (10, 10)], (36, 32, 30))
    f.line([(18.6, 12), (16.8, 17), (14.5, 17)], (60, 60, 64), 1.2)
    _lamp(f, 20, 13, dark)


def _train(f: Frame, colour: tuple, dark: bool) -> None:
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


def _tram(f: Frame, colour: tuple, dark: bool) -> None:
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


def _tractor(f: Frame, colour: tuple, dark: bool) -> None:
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


def _fire_engine(f: Frame, colour: tuple, dark: bool) -> None:
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


def _scooter(f: Frame, colour: tuple, dark: bool) -> None:
    f.wheel(4.4, 3.4)
    f.wheel(18.6, 3.4)
    f.shape([(0.6, 5), (2, 10), (9, 10), (10, 5), (15, 5), (17, 12), (19, 12), (17.4, 3), (9, 3)], colour)
    f.box(2, 10, 9, 11.6, (40, 34, 30))
    f.line([(18, 11), (17, 16), (14.6, 16.6)], (60, 60, 64), 1.1)
    _lamp(f, 19, 11, dark)


def _pickup(f: Frame, colour: tuple, dark: bool) -> None:
    f.shape([(16, 10), (17, 18), (26, 18), (30, 10)], colour)
    f.shape([(18, 10.6), (18.7, 16.6), (25.2, 16.6), (28.2, 10.6)], _glass(dark))
    f.shape([(0, 4.5), (0, 11.4), (16, 11.4), (16, 10.6), (31, 10.6), (38, 9), (38, 4.5)], colour)
    f.box(1, 10.4, 15, 11.4, (50, 46, 44))
    f.wheel(8, 4.6)
    f.wheel(30, 4.6)
    _lamp(f, 37, 7.6, dark)


# kind -> how to draw it: its frame, its colour, whether it is night
VEHICLES: dict[str, Callable[[Frame, tuple, bool], None]] = {
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
