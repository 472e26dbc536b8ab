"""A model of two functions: images to vectors, and texts to vectors."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from mteb.models.abs_encoder import AbsEncoder
from PIL import Image

from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.models import image_text_meta
from mteb_vehicle_search.models.handover import one_array, read_batches
from mteb_vehicle_search.models.places import LOCAL

# What a model is asked to tell it from others: a cut, a resize, a capital letter or a long text show in the vectors.
PROBES = ("A red car.", "two WHITE trucks, parked side by side", "a long road with many cars " * 30)
PROBE_SIZES = ((96, 64), (48, 112))


def from_functions(
    *,
    image: Callable[[list[Image.Image]], Any],
    text: Callable[[list[str]], Any],
    name: str,
    revision: str | None = None,
) -> FunctionsEncoder:
    """Return a model for `mteb.evaluate(model, task)` that is made of two functions.

    Args:
        image: RGB images -> their vectors, one row for each: an array or tensor [n, d], or a list of n vectors.
        text: Texts -> theirs, of the same length.
        name: Of the model, such as "my-team/my-model"; without a "/" it is put into "local/".
        revision: Which of its versions this is, so that results of others never look like its results. By default a
            digest of the vectors that it gives for two images and three texts, which it is asked for at once.

    Raises:
        EncodeError: A function does not return one vector for each of its inputs.
        TypeError: One is no function, or the name is none.
    """
    for what, given in (("image", image), ("text", text)):
        if not callable(given):
            raise TypeError(f"from_functions({what}=…) wants a function, not {type(given).__name__}")
    if not isinstance(name, str) or not name.strip("/ "):
        raise TypeError("from_functions(name=…) wants a name, such as 'my-team/my-model'")
    return FunctionsEncoder(image, text, name if "/" in name else f"{LOCAL}/{name}", revision)


class FunctionsEncoder(AbsEncoder):
    """An mteb encoder that calls one function with images and another with texts; see `from_functions`."""

    def __init__(
        self,
        image: Callable[[list[Image.Image]], Any],
        text: Callable[[list[str]], Any],
        name: str,
        revision: str | None,
    ) -> None:
        self._functions = {"image": image, "text": text}
        self.name, self.revision, self._is_told = name, revision or self._told_by_vectors(), revision is not None
        self.mteb_model_meta = image_text_meta(
            name, self.revision, None, framework=[], open_weights=None, languages=None
        )

    def encode(self, inputs: Any, *, batch_size: int = 32, **kwargs: Any) -> np.ndarray:
        """Return float32 [n, d] in the order of `inputs`, mteb's DataLoader of `image` or `text` batches.

        Raises:
            EncodeError: A function does not return one vector for each of its inputs.
        """
        parts = [self._vectors(kind, items) for kind, items in read_batches(inputs)]
        widths = [part.shape[1] for part in parts]
        if len(set(widths)) > 1:
            raise EncodeError(
                f"{self.name} gave vectors of length {widths[0]} first, and of length "
                f"{next(width for width in widths if width != widths[0])} later."
            )
        return np.concatenate(parts)

    def describe(self) -> dict[str, Any]:
        """Return which functions these are, for the run record."""
        return {kind: _called(function) for kind, function in self._functions.items()}

    def fingerprint(self) -> str | None:
        """Return a digest of what decides the vectors; None where the revision is only told."""
        if self._is_told:
            return None
        what = [self.name, self.revision, *map(_source, self._functions.values())]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()

    def _vectors(self, kind: str, items: list[Any]) -> np.ndarray:
        """Return what a function gives for its inputs, float32 [n, d]."""
        function = self._functions[kind]
        given = function(items)
        who = f"The {kind} function {_called(function)}"
        wanted = f"it must return one vector for each, as an array [{len(items)}, dimension]"
        try:
            array = one_array(given)
        except (TypeError, ValueError, RuntimeError) as error:
            what = "nothing" if given is None else f"a {type(given).__name__} that is no array of numbers ({error})"
            raise EncodeError(f"{who} returned {what} for {len(items)} {kind}s; {wanted}.") from error
        if array.ndim != 2:
            raise EncodeError(f"{who} returned an array {list(array.shape)} for {len(items)} {kind}s; {wanted}.")
        if len(array) != len(items):
            raise EncodeError(f"{who} returned {len(array)} vectors for {len(items)} {kind}s; {wanted}.")
        return array

    def _told_by_vectors(self) -> str:
        """Return a digest of what the functions give for the probes."""
        told = hashlib.sha256()
        for kind, items in (("image", _probe_images()), ("text", list(PROBES))):
            vectors = self._vectors(kind, items)
            told.update(json.dumps([kind, *vectors.shape]).encode())
            told.update(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        return told.hexdigest()[:40]


def _probe_images() -> list[Image.Image]:
    """Return images of two shapes that differ in every pixel."""
    made = []
    for width, height in PROBE_SIZES:
        row, column = np.mgrid[:height, :width]
        pixels = np.stack([row * 7 + column * 3, row * column, column * 11 + 40], axis=2) % 256
        made.append(Image.fromarray(pixels.astype(np.uint8)))
    return made


def _called(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return str(name).replace("<locals>.", "")


def _source(function: Any) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return _called(function)
