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
# Pages of a mapped file count as the process's memory until it is closed, so it is opened anew after so many bytes.
MAPPED_BYTES = 128 << 20
SHOWN_COMPLAINTS = 5


class Checkpoint:
    """A safetensors file at `path`; `shapes` is the shape of each tensor, from the header.

    Raises:
        ModelLoadError: The file is missing, truncated or not safetensors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = lambda: safe_open(path, framework="pt")
        try:
            self._file = self._open()
            self.shapes = {key: tuple(self._file.get_slice(key).get_shape()) for key in self._file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelLoadError(f"{path} is missing, truncated or not a safetensors file: {error}.", AGAIN) from error
        self._mapped = 0

    def require(self, wanted: Mapping[str, tuple[int, ...]], kind: str) -> None:
        """Refuse a file whose keys or shapes are not exactly `wanted`; the message says that it should be a `kind`.

        Raises:
            ModelLoadError: A key is missing, unknown, or of another shape.
        """
        complaints = [f"{key} is missing" for key in sorted(wanted.keys() - self.shapes.keys())]
        complaints += [f"{key} is unknown" for key in sorted(self.shapes.keys() - wanted.keys())]
        complaints += [
            f"{key} has shape {list(self.shapes[key])}, not {list(wanted[key])}"
            for key in sorted(wanted.keys() & self.shapes.keys())
            if self.shapes[key] != tuple(wanted[key])
        ]
        if complaints:
            left = len(complaints) - SHOWN_COMPLAINTS
            raise ModelLoadError(
                f"{self.path} is not laid out like {kind}: {'; '.join(complaints[:SHOWN_COMPLAINTS])}"
                + (f"; and {left} more." if left > 0 else "."),
                AGAIN,
            )

    def tensor(self, key: str) -> torch.Tensor:
        """Return a tensor as it is stored, mapped from the file: copy it before the next call."""
        found = self._file.get_tensor(key)
        self._mapped += found.nbytes
        if self._mapped > MAPPED_BYTES:
            self._file, self._mapped = self._open(), 0
        return found


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
