"""ExactSearch: encode queries and images once, check every vector, rank every relevant image exactly."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.run_record import model_folder_name, versions
from mteb_vehicle_search.search.corpus import CorpusImages, image_loader
from mteb_vehicle_search.search.ranking import OrderedRun, Ranking, ordered_run, rank_exactly
from mteb_vehicle_search.search.vectors import EmbeddingStore, checked, compares_by_cosine
from mteb_vehicle_search.settings import embeddings_folder
from mteb_vehicle_search.terminal import progress_bar

if TYPE_CHECKING:
    from mteb_vehicle_search.eval_set import EvalSet

logger = logging.getLogger(__name__)

PROBE_TOLERANCE = 1e-5


@dataclass
class SearchOutcome:
    """Everything that a run record needs to know about a finished search."""

    query_ids: list[str]
    pairs: list[tuple[int, int]]
    ranking: Ranking
    run: OrderedRun
    info: dict[str, Any]


@dataclass
class _Timings:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class ExactSearch:
    """An mteb search model (`index`, `search`) of one evaluation set, around any mteb encoder.

    Args:
        model: An mteb encoder: `encode(DataLoader, *, task_metadata, hf_split, hf_subset, prompt_type, **kwargs)`.
    """

    def __init__(self, model: Any, eval_set: EvalSet) -> None:
        self.model = model
        self.eval_set = eval_set
        self.outcome: SearchOutcome | None = None
        self.store: EmbeddingStore | None = None
        self._timings = _Timings()
        self._corpus_ids = eval_set.corpus_ids()
        self._encoded_images = self._resumed_images = 0
        self._dimension: int | None = None
        self._normalise = compares_by_cosine(model)
        self._reads_images = getattr(model, "reads_images_itself", False)
        self._started = datetime.now(UTC)

    @property
    def mteb_model_meta(self) -> Any:
        """The wrapped model's ModelMeta."""
        return self.model.mteb_model_meta

    def index(
        self,
        corpus: CorpusImages,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: dict[str, Any],
        num_proc: int | None = None,
    ) -> None:
        """Encode the corpus into a store on disk, going on where an interrupted run stopped.

        Raises:
            EncodeError: A vector is missing, not finite, zero, or of another dimension (names the first id); another
                run of the same model is at work; the disk is full.
        """
        from mteb.types import PromptType

        encode = self._encoder(encode_kwargs, task_metadata=task_metadata, hf_split=hf_split, hf_subset=hf_subset)
        batch_size = int(encode_kwargs.get("batch_size", 32))
        self.store = store = self._locked_store(batch_size)

        def run(rows: range, on_progress: Callable[[int], Any]) -> np.ndarray:
            chunk = corpus.chunk(rows)
            # An encoder that reads the images itself tells its own progress.
            of_loader = None if self._reads_images else on_progress
            loader = image_loader(chunk, batch_size, _workers(num_proc, len(rows)), of_loader)
            vectors = encode(loader, PromptType.document, num_proc=num_proc, on_progress=on_progress)
            return self._checked(vectors, chunk.ids, "image")

        with self._timings.measure("encode_corpus_s"):
            self._probe(store, batch_size, run)
            with _bar(encode_kwargs, len(corpus), "encode images") as bar:
                for number, rows in enumerate(store.ranges()):
                    if store.has(number):
                        self._resumed_images += len(rows)
                        bar.update(len(rows))
                        continue
                    store.write(number, run(rows, bar.update))
                    self._encoded_images += len(rows)
            self._dimension = self._dimension or store.read(0).shape[1]

    def _locked_store(self, batch_size: int) -> EmbeddingStore:
        meta = self.mteb_model_meta
        folder = embeddings_folder() / self.eval_set.content_id[:16] / model_folder_name(meta.name, meta.revision)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The lock stays until the process ends or the search object is dropped.
        self._lock = FileLock(f"{folder}.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise EncodeError(
                f"Another run is encoding {self.eval_set.name} with {meta.name} right now.", "Wait for it to end."
            ) from None
        return EmbeddingStore(folder, len(self._corpus_ids), self._identity(batch_size))

    def search(
        self,
        queries: Any,
        *,
        top_k: int,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: dict[str, Any],
        top_ranked: Any = None,
        num_proc: int | None = None,
    ) -> dict[str, dict[str, float]]:
        """Search all queries; returns mteb's run: query id -> {image id: score}, the `top_k` best.

        Raises:
            EncodeError: A query's vector is bad (see `index`).
        """
        from mteb._create_dataloaders import create_dataloader
        from mteb.types import PromptType

        if top_ranked is not None:
            raise EncodeError("ExactSearch ranks the whole corpus; it does not re-rank a given list.")
        if self.store is None:
            raise EncodeError("search() was called before index().")
        encode = self._encoder(encode_kwargs, task_metadata=task_metadata, hf_split=hf_split, hf_subset=hf_subset)
        query_ids = list(queries["id"])
        with self._timings.measure("encode_queries_s"):
            loader = create_dataloader(
                queries,
                task_metadata=task_metadata,
                prompt_type=PromptType.query,
                batch_size=int(encode_kwargs.get("batch_size", 32)),
            )
            vectors = self._checked(encode(loader, PromptType.query, num_proc=num_proc), query_ids, "query")
        row_of = {corpus_id: row for row, corpus_id in enumerate(self._corpus_ids)}
        query_of = {query_id: row for row, query_id in enumerate(query_ids)}
        pairs = sorted(
            (query_of[q.query_id], row_of[q.corpus_id]) for q in self.eval_set.qrels() if q.query_id in query_of
        )
        with self._timings.measure("search_s"), _bar(encode_kwargs, len(self._corpus_ids), "search") as bar:
            ranking = rank_exactly(
                self._on_device(vectors),
                self.store.chunks,
                pairs,
                self.eval_set.sources(),
                k=top_k,
                on_progress=bar.update,
            )
        run = ordered_run(ranking, pairs)
        self.outcome = SearchOutcome(query_ids, pairs, ranking, run, self._info(encode_kwargs, num_proc))
        return {
            query_id: {self._corpus_ids[row]: score for row, score in zip(rows, scores) if row >= 0}
            for query_id, rows, scores in zip(query_ids, run.rows.tolist(), run.scores.tolist())
        }

    def found(self) -> SearchOutcome:
        """Return what `search` found.

        Raises:
            EncodeError: It has not searched.
        """
        if self.outcome is None:
            raise EncodeError("The search left no outcome.")
        return self.outcome

    def finish(self) -> None:
        """Drop the vectors, unless `VEHICLE_SEARCH_KEEP_EMBEDDINGS=1`, and release the lock."""
        if self.store and not settings.flag("VEHICLE_SEARCH_KEEP_EMBEDDINGS"):
            self.store.delete()
        self._lock.release()

    def _probe(self, store: EmbeddingStore, batch_size: int, run: Callable[..., np.ndarray]) -> None:
        """Trust stored vectors only if their first batch encodes to the same again."""
        stored = [number for number in range(len(store.ranges())) if store.has(number)]
        if not stored:
            return
        rows = store.ranges()[stored[0]]
        probe = run(rows[:batch_size], lambda n: None)
        kept = store.read(stored[0])[: len(probe)]
        if kept.shape == probe.shape and np.abs(kept - probe).max() <= PROBE_TOLERANCE * np.abs(probe).max():
            logger.info("Continuing an interrupted run: %d chunks of images are already encoded.", len(stored))
            return
        logger.warning("Stored vectors in %s are not what this model gives; encoding all again.", store.folder)
        store.clear()

    def _encoder(self, encode_kwargs: dict[str, Any], **asked: Any) -> Callable[..., Any]:
        passed = {**encode_kwargs, "show_progress_bar": False}

        def encode(loader: Any, prompt_type: Any, num_proc: int | None = None, on_progress: Any = None) -> Any:
            extra = {"num_proc": num_proc, "on_progress": on_progress} if self._reads_images else {}
            return self.model.encode(loader, prompt_type=prompt_type, **asked, **passed, **extra)

        return encode

    def _checked(self, vectors: Any, ids: list[str], kind: str) -> np.ndarray:
        found = checked(vectors, ids, kind, self.mteb_model_meta.name, self._dimension, normalise=self._normalise)
        self._dimension = found.shape[1]
        return found

    def _on_device(self, vectors: np.ndarray) -> torch.Tensor:
        device = torch.device(getattr(self.model, "device", None) or "cpu")
        return torch.from_numpy(vectors).to(device if device.type == "cuda" else "cpu")

    def _identity(self, batch_size: int) -> dict[str, Any]:
        """Return what decides the vectors, so that a store made otherwise is never used."""
        meta, encoder = self.mteb_model_meta, type(self.model)
        try:
            source = inspect.getsource(inspect.getmodule(encoder) or encoder)
        except (OSError, TypeError):
            source = ""
        fingerprint = getattr(self.model, "fingerprint", None)
        return {
            "content_id": self.eval_set.content_id,
            "bytes_id": self.eval_set.manifest.get("bytes_id"),
            "model": meta.name,
            "revision": meta.revision,
            "experiment": repr(getattr(meta, "experiment_kwargs", None)),
            "encoder": f"{encoder.__module__}.{encoder.__qualname__}",
            "code": hashlib.sha256(source.encode()).hexdigest(),
            "fingerprint": fingerprint() if callable(fingerprint) else None,
            "batch_size": batch_size,
            "normalised": self._normalise,
            "versions": versions(),
        }

    def _info(self, encode_kwargs: dict[str, Any], num_proc: int | None) -> dict[str, Any]:
        meta = self.mteb_model_meta
        describe = getattr(self.model, "describe", None)
        encoder: dict[str, Any] = describe() if callable(describe) else {}  # type: ignore[assignment]
        seconds = self._timings.seconds
        counts: dict[str, dict[str, int]] = {}
        table = self.eval_set.provenance()
        for source, captioned in zip(table["source"].to_pylist(), table["captioned"].to_pylist()):
            entry = counts.setdefault(source, {"images": 0, "captioned": 0})
            entry["images"] += 1
            entry["captioned"] += bool(captioned)
        datasets = meta.training_datasets
        query_count = self.eval_set.manifest["counts"]["queries"]
        return {
            "content_id": self.eval_set.content_id,
            "started": self._started.isoformat(),
            "finished": datetime.now(UTC).isoformat(),
            "model_name": meta.name,
            "model_revision": meta.revision,
            "n_parameters": meta.n_parameters,
            "embed_dim": self._dimension,
            "training_datasets": sorted(datasets) if datasets is not None else None,
            "versions": versions(),
            "device": str(encoder.get("device") or getattr(self.model, "device", None) or "unknown"),
            "precision": str(encoder.get("precision") or "unknown"),
            "batch_size": encode_kwargs.get("batch_size", 32),
            "num_workers": encoder.get("num_workers", _workers(num_proc, len(self._corpus_ids))),
            "images_per_s": self._encoded_images / seconds["encode_corpus_s"] if self._encoded_images else None,
            "texts_per_s": query_count / seconds["encode_queries_s"],
            "timings": dict(seconds),
            "corpus_size": len(self._corpus_ids),
            "query_count": query_count,
            "sources": counts,
            "encoder": encoder,
            "resumed_images": self._resumed_images,
        }


def _workers(num_proc: int | None, items: int) -> int:
    """Return how many workers decode images: `--num-proc`, else the processors, none for a handful of images."""
    if num_proc is not None:
        return max(0, num_proc)
    return 0 if items < 256 else min(16, os.cpu_count() or 1)


def _bar(encode_kwargs: dict[str, Any], total: int, what: str) -> Any:
    return progress_bar(what, total, quiet=not encode_kwargs.get("show_progress_bar", True))
