"""Safetensors checkpoints: held against a model's layout, read a tensor at a time, never twice in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.nn.modules.module import register_module_parameter_registration_hook

from mteb_vehicle_search.errors import ModelLoadError

AGAIN = "Delete the file and download the pinned revision again."
# For what may be the only copy of a model.
SAVE_AGAIN, FIT = "Save or copy it again.", "Make the configuration fit the weights."
# Pages of a mapped file count as the process's memory until it is closed, so it is opened anew after so many bytes.
MAPPED_BYTES = 128 << 20
SHOWN_COMPLAINTS = 5


class Checkpoint:
    """A safetensors file at `path`, or several with tensors of one model; `shapes` is the shape of each tensor.

    Args:
        path, more: The files.
        local: Whether they are a user's own, not those of a pinned revision that can be downloaded again.

    Raises:
        ModelLoadError: A file is missing, truncated or not safetensors, or a tensor is in two of them.
    """

    def __init__(self, path: Path, *more: Path, local: bool = False) -> None:
        self.path, self._local = path, local
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, Path] = {}
        for each in (*more, path):
            self._open(each)
            try:
                shapes = {key: tuple(self._file.get_slice(key).get_shape()) for key in self._file.keys()}  # noqa: SIM118
            except SafetensorError as error:
                raise self._unreadable(each, error) from error
            if twice := sorted(shapes.keys() & self.shapes.keys()):
                raise ModelLoadError(
                    f"{twice[0]} is in {self._places[twice[0]]} and in {each}.", SAVE_AGAIN if local else AGAIN
                )
            self.shapes.update(shapes)
            self._places.update(dict.fromkeys(shapes, each))

    def _open(self, path: Path) -> None:
        try:
            self._file = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise self._unreadable(path, error) from error
        self._opened, self._mapped = path, 0

    def _unreadable(self, path: Path, error: Exception) -> ModelLoadError:
        said = f"{path} is missing, truncated or not a safetensors file: {error}."
        return ModelLoadError(said, SAVE_AGAIN if self._local else AGAIN)

    def require(self, wanted: Mapping[str, tuple[int, ...]], kind: str) -> None:
        """Refuse a file whose keys or shapes are not exactly `wanted`; the message says that it should be a `kind`.

        Raises:
            ModelLoadError: A key is missing, unknown, or of another shape.
        """
        if complaints := complaints_about(self.shapes, wanted):
            raise ModelLoadError(
                f"{self.path} is not laid out like {kind}: {complaints}", FIT if self._local else AGAIN
            )

    def tensor(self, key: str) -> torch.Tensor:
        """Return a tensor as it is stored, mapped from the file: copy it before the next call."""
        place = self._places.get(key, self.path)
        if place != self._opened:
            self._open(place)
        found = self._file.get_tensor(key)
        self._mapped += found.nbytes
        if self._mapped > MAPPED_BYTES:
            self._open(place)
        return found


def complaints_about(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """Return in what shapes by name are not exactly those that are wanted; "" if they are."""
    complaints = [f"{key} is missing" for key in sorted(wanted.keys() - shapes.keys())]
    complaints += [f"{key} is unknown" for key in sorted(shapes.keys() - wanted.keys())]
    complaints += [
        f"{key} has shape {list(shapes[key])}, not {list(wanted[key])}"
        for key in sorted(wanted.keys() & shapes.keys())
        if shapes[key] != tuple(wanted[key])
    ]
    left = len(complaints) - SHOWN_COMPLAINTS
    return "; ".join(complaints[:SHOWN_COMPLAINTS]) + (f"; and {left} more." if left > 0 else "." if complaints else "")


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Give models that are built inside parameters without memory; buffers, which no checkpoint may hold, are real."""

    def on_meta(module: Any, name: str, value: Any) -> Any:
        if value is None or value.is_meta:
            return None
        return torch.nn.Parameter(value.detach().to("meta"), requires_grad=False)

    hook = register_module_parameter_registration_hook(on_meta)
    try:
        yield
    finally:
        hook.remove()


def layout_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor that a checkpoint of `module` holds."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def fill(module: torch.nn.Module, values: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Put `values` in the place of a module's parameters, strictly; they are not copied.

    Raises:
        ModelLoadError: A parameter got no value.
    """
    module.load_state_dict(dict(values), strict=True, assign=True)
    module.eval().requires_grad_(False)
    left = [name for name, value in [*module.named_parameters(), *module.named_buffers()] if value.is_meta]
    if left:
        raise ModelLoadError(f"Nothing was loaded into {', '.join(left[:5])}.", "Install constraints.txt's versions.")
