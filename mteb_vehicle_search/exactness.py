"""Arithmetic that does not depend on what the process has set: no lower precision than is asked for, and float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_backends: Any = torch.backends
# Where torch keeps the leave to compute float32 in a lower precision.
_LEAVES = (
    *(_backends, _backends.cuda.matmul, _backends.cudnn, _backends.cudnn.conv, _backends.cudnn.rnn),
    *(_backends.mkldnn, _backends.mkldnn.matmul, _backends.mkldnn.conv, _backends.mkldnn.rnn),
)


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Switch off autocast, TF32 and their like, and give torch its own defaults of type and device, for a while.

    Autocast and the default device belong to a thread, and new threads begin without; the rest is the whole process's.
    """
    kept, dtype = [leave.fp32_precision for leave in _LEAVES], torch.get_default_dtype()
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False), torch.device("cpu"):
        try:
            torch.set_default_dtype(torch.float32)
            for leave in _LEAVES:
                leave.fp32_precision = "ieee"
            yield
        finally:
            for leave, value in zip(_LEAVES, kept):
                leave.fp32_precision = value
            torch.set_default_dtype(dtype)
