"""An encoder of no sense, which shows who asked it for what."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder


class ToyEncoder(AbsEncoder):
    """Vectors from a checksum of the pixels or the text; `spoil` may damage them.

    `images_seen` and `texts_seen` count what it encoded; another name gives other vectors.
    """

    spoil = staticmethod(lambda ids, vectors: vectors)

    def __init__(self, name: str = "toy/encoder", revision: str | None = "r1", **experiment: Any) -> None:
        self.mteb_model_meta = ModelMeta.create_empty(
            {"name": name, "revision": revision, "modalities": ["text", "image"]}
        ).model_copy(update={"experiment_kwargs": experiment or None})
        self._seed = 0 if name == "toy/encoder" and not experiment else zlib.crc32(repr((name, experiment)).encode())
        self.images_seen = self.texts_seen = 0

    def encode(self, inputs: Any, *, prompt_type: Any = None, **kwargs: Any) -> Any:
        ids, rows = [], []
        for batch in inputs:
            items = batch.get("image", batch.get("text"))
            ids += list(batch["id"])
            for item in items:
                content = item.encode() if isinstance(item, str) else np.asarray(item).tobytes()
                rows.append(np.random.default_rng(zlib.crc32(content, self._seed)).standard_normal(16))
            self.images_seen += len(batch.get("image", []))
            self.texts_seen += len(batch.get("text", []))
        return self.spoil(ids, np.array(rows, dtype=np.float32))
