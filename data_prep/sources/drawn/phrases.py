"""Five captions of a scene, as people would write them."""

from __future__ import annotations

import random

from data_prep.sources.drawn.scene import COUNTS, EXTRAS, KINDS, PLACES, SIDES, WEATHERS, Scene


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
