"""Arithmetic that does not depend on what the process has set: no lower precision than is asked for, and float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import torch

_backends: Any = torch.backends
# Where torch keeps the leave to compute float32 in a lower precision.
_LEAVES = (
    *(_backends, _backends.cuda.matmul, _backends.cudnn, _backends.cudnn.conv, _backends.cudnn.rnn),
    *(_backends.mkldnn, _backends.mkldnn.matmul, _backends.mkldnn.conv, _backends.mkldnn.rnn),
)


# What is set again when the last one leaves, once for each that is inside: they may overlap in any way, as threads do,
# and generators that are closed late.
_lock = Lock()
_inside: list[tuple[Any, ...]] = []


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Switch off autocast, TF32 and their like, and give torch its own defaults of type and device, for a while.

    Autocast and the default device belong to a thread, and new threads begin without; the rest is the whole process's.
    Where a thread has a default device, torch leaves out the fast path of attention, whose last bits are others: so
    nobody gets that.
    """
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), torch.device("cpu"):
        with _lock:
            _inside.append(_state() if not _inside else _inside[0])
            _set(["ieee"] * len(_LEAVES), False, torch.float32)
        try:
            yield
        finally:
            with _lock:
                before = _inside.pop()
                if not _inside:
                    _set(*before)


def _state() -> tuple[Any, ...]:
    return [leave.fp32_precision for leave in _LEAVES], _backends.mha.get_fastpath_enabled(), torch.get_default_dtype()


def _set(precisions: list[str], fast_attention: bool, dtype: torch.dtype) -> None:
    for leave, value in zip(_LEAVES, precisions):
        leave.fp32_precision = value
    _backends.mha.set_fastpath_enabled(fast_attention)
    torch.set_default_dtype(dtype)
