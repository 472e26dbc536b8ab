"""The image of a scene."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw

from data_prep.sources.drawn.scene import COLOURS, KINDS, Scene, random_scene
from data_prep.sources.drawn.vehicles import VEHICLES, Frame, Pen

WIDTH, HEIGHT = 120, 100  # The canvas in drawing units; a unit is 1.6 px in the finished image.


def draw(scene: Scene, width_px: int = 192) -> Image.Image:
    """Return the image of a scene, RGB, `width_px` wide and 5/6 as high (exact at multiples of 6)."""
    scale = 2 * width_px / WIDTH
    canvas = Image.new("RGB", (round(WIDTH * scale), round(HEIGHT * scale)))
    pen = Pen(ImageDraw.Draw(canvas), scale)
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
        VEHICLES[scene.kind](Frame(pen, x, baseline, length, shrink, mirrored), COLOURS[scene.colour], dark)
    _draw_weather(pen, scene)
    return canvas.reduce(2)


def _draw_place(pen: Pen, place: str) -> float:
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


def _building(pen: Pen, x: float, width: float, top: float, horizon: float, tone: int) -> None:
    pen.box(x, top, x + width, horizon, (tone, tone, tone + 8))
    for y in range(round(top) + 4, round(horizon) - 6, 10):
        pen.box(x + 3, y, x + width - 3, y + 3, (tone + 40, tone + 46, tone + 56))


def _draw_extra(pen: Pen, scene: Scene, ground: float) -> None:
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


def _draw_weather(pen: Pen, scene: Scene) -> None:
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
    drawn = draw(random_scene(random.Random(f"photo/{seed}"))).resize((width, height), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 40, (height, width, 1))
    pixels = np.asarray(drawn, dtype=np.float32) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
