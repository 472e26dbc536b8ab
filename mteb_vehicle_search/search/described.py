"""What a run is: the key that tells it from others, what decides its vectors, and what its record says."""

from __future__ import annotations

import hashlib
import inspect
import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mteb_vehicle_search.eval_set.copies import origin_of
from mteb_vehicle_search.eval_set.groups import counts_of_groups
from mteb_vehicle_search.run_record import RunKey, implementation_of, options_of, versions

if TYPE_CHECKING:
    from mteb_vehicle_search.eval_set import EvalSet

# Of mteb's encode arguments, those that decide no number.
IDLE_ARGUMENTS = ("batch_size", "show_progress_bar")
# What `describe()` of an encoder tells of the texts that it read last.
OF_TEXTS = ("context_tokens", "texts", "texts_cut")


class Rates(NamedTuple):
    """What the encoding took: seconds by what was done, images that were encoded and that were there already."""

    seconds: dict[str, float]
    encoded_images: int
    resumed_images: int
    dimension: int | None


class Told(NamedTuple):
    """What an encoder says of itself where it computes.

    Attributes:
        encoder: What its `describe()` returns; empty if it has none.
        fingerprint: What identifies the weights and all else that decides vectors; None if it does not tell.
        device: Its `device`; "" if it has none.
        kind: On what kind of device it computes.
    """

    encoder: dict[str, Any]
    fingerprint: str | None
    device: str
    kind: str

    @classmethod
    def of(cls, model: Any) -> Told:
        """Return what a model says now."""
        describe, fingerprint = (getattr(model, name, None) for name in ("describe", "fingerprint"))
        return cls(
            dict(describe()) if callable(describe) else {},  # type: ignore[call-overload]
            fingerprint() if callable(fingerprint) else None,  # type: ignore[arg-type]
            str(getattr(model, "device", None) or ""),
            kind_of_device(model),
        )


def kind_of_device(model: Any) -> str:
    """Return on what kind of device a model computes; on two of a kind it gives the same vectors, or almost."""
    device = torch.device(getattr(model, "device", None) or "cpu")
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"


def code_of(model: Any) -> str:
    """Return the digest of the module of the model's class; that of nothing where there is no source."""
    encoder = type(model)
    try:
        source = inspect.getsource(inspect.getmodule(encoder) or encoder)
    except (OSError, TypeError):
        source = ""
    return hashlib.sha256(source.encode()).hexdigest()


class Described:
    """A model on an evaluation set, as it says of itself.

    Attributes:
        told: What its encoder says; to be replaced by what it says later.
        of_texts: What the encoder told of the queries' texts when it read them, such as how many of them it cut.
    """

    def __init__(self, model: Any, eval_set: EvalSet, encode_kwargs: dict[str, Any], told: Told) -> None:
        self._model, self._eval_set, self._encode_kwargs = model, eval_set, encode_kwargs
        self.told = told
        self.of_texts: dict[str, int] = {}

    def note_texts(self, told: Told) -> None:
        """Take what an encoder tells of the texts that it read last for `of_texts`."""
        self.of_texts = {key: count for key, count in told.encoder.items() if key in OF_TEXTS}

    @property
    def key(self) -> RunKey:
        """What decides the numbers."""
        meta, encoder = self._model.mteb_model_meta, self.told.encoder
        asked = {key: value for key, value in self._encode_kwargs.items() if key not in IDLE_ARGUMENTS}
        return RunKey.of(
            {
                "content_id": self._eval_set.content_id,
                "images_id": self._eval_set.images_id,
                "model_name": meta.name,
                "model_revision": meta.revision,
                "options": options_of({**(getattr(meta, "experiment_kwargs", None) or {}), **asked}),
                "precision": encoder.get("precision"),
                "preprocess": encoder.get("preprocess"),
            }
        )

    def identity(self, *, normalised: bool) -> dict[str, Any]:
        """Return what decides the vectors, so that a store made otherwise is never used."""
        meta, encoder = self._model.mteb_model_meta, type(self._model)
        return {
            "run": self.key._asdict(),
            "experiment": repr(getattr(meta, "experiment_kwargs", None)),
            "encoder": f"{encoder.__module__}.{encoder.__qualname__}",
            "code": code_of(self._model),
            "fingerprint": self.told.fingerprint,
            "batch_size": int(self._encode_kwargs.get("batch_size", 32)),
            "normalised": normalised,
            "versions": versions(),
        }

    def info(self, rates: Rates, started: datetime, num_workers: int) -> dict[str, Any]:
        """Return the content of `run.json` but for task and scores; a foreign encoder has `num_workers`."""
        meta, encoder, eval_set, key = self._model.mteb_model_meta, self.told.encoder, self._eval_set, self.key
        datasets, seconds = meta.training_datasets, rates.seconds
        query_count = eval_set.manifest["counts"]["queries"]
        encoded_s, texts_s = seconds["encode_corpus_s"], seconds.get("encode_queries_s")
        origin = origin_of(eval_set.folder)
        return {
            "title": eval_set.title,
            "content_id": key.content_id,
            "images_id": key.images_id,
            "sources_id": eval_set.sources_id,
            "bytes_id": eval_set.manifest.get("bytes_id"),
            "copied_from": origin.address if origin else None,
            "started": started.isoformat(),
            "finished": datetime.now(UTC).isoformat(),
            "model_name": meta.name,
            "model_revision": meta.revision,
            "implementation": implementation_of(meta),
            "options": dict(key.options),
            "n_parameters": meta.n_parameters,
            "embed_dim": rates.dimension,
            "training_datasets": sorted(datasets) if datasets is not None else None,
            "versions": versions(),
            "device": str(encoder.get("device") or self.told.device or "unknown"),
            "precision": key.precision,
            "preprocess": key.preprocess,
            "batch_size": self._encode_kwargs.get("batch_size", 32),
            "num_workers": encoder.get("num_workers", num_workers),
            "images_per_s": rates.encoded_images / encoded_s if rates.encoded_images else None,
            "texts_per_s": query_count / texts_s if texts_s else None,
            "timings": dict(seconds),
            "corpus_size": eval_set.manifest["counts"]["corpus"],
            "query_count": query_count,
            "sources": counts_of_groups(eval_set),
            **({"pool": eval_set.pool} if eval_set.pool else {}),
            "encoder": {**encoder, **self.of_texts},
            "resumed_images": rates.resumed_images,
        }
