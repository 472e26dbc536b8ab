"""ExactSearch: encode queries and images once, check every vector, rank every relevant image exactly."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset
from mteb.types import PromptType

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.exactness import exact_arithmetic
from mteb_vehicle_search.files import locked
from mteb_vehicle_search.search.backlog import Backlog
from mteb_vehicle_search.search.corpus import CorpusImages, image_loader, text_loader
from mteb_vehicle_search.search.described import Described, Rates
from mteb_vehicle_search.search.ranking import OrderedRun, Ranking, ordered_run, rank_exactly
from mteb_vehicle_search.search.vectors import (
    EmbeddingStore,
    checked,
    compares_by_cosine,
    require_same_order,
    similarity_of,
    store_folder,
)
from mteb_vehicle_search.terminal import progress_bar

if TYPE_CHECKING:
    from mteb_vehicle_search.eval_set import EvalSet

logger = logging.getLogger(__name__)

PROBE_TOLERANCE = 1e-5
# Queries and images on which a model's own similarity is compared with the one that is searched by.
SAMPLE = 32


@dataclass
class SearchOutcome:
    """Everything that a run record needs to know about a finished search."""

    query_ids: list[str]
    pairs: list[tuple[int, int]]
    grades: np.ndarray  # int64 [pairs], how relevant each is: 1 and above
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
        self._stack = ExitStack()
        self._normalise = compares_by_cosine(model)
        self._own_similarity = similarity_of(model)
        self._reads_images = getattr(model, "reads_images_itself", False)
        self._streams = self._reads_images and getattr(model, "streams", False)
        self._started = datetime.now(UTC)

    def __enter__(self) -> ExactSearch:
        return self

    def __exit__(self, *error: object) -> None:
        """Let others encode with this model; the vectors stay."""
        self._stack.close()

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
        encode = self._encoder(encode_kwargs, task_metadata=task_metadata, hf_split=hf_split, hf_subset=hf_subset)
        batch_size = int(encode_kwargs.get("batch_size", 32))
        self._described = Described(self.model, self.eval_set, encode_kwargs)
        self.store = store = self._locked_store()

        def run(rows: range, on_progress: Callable[[int], Any]) -> np.ndarray:
            chunk = corpus.chunk(rows)
            # An encoder that reads the images itself tells its own progress.
            of_loader = None if self._reads_images else on_progress
            loader = image_loader(chunk, batch_size, _workers(num_proc, len(rows)), of_loader)
            vectors = encode(loader, PromptType.document, num_proc=num_proc, on_progress=on_progress)
            self._require_similarity(vectors, chunk.ids, encode, batch_size)
            return self._checked(vectors, chunk.ids, "image")

        with self._timings.measure("encode_corpus_s"):
            stored = {number for number in range(len(store.ranges())) if store.has(number)}
            if not self._trusts(store, stored, batch_size, run):
                stored = set()
            missing: list[int] = []
            with _bar(encode_kwargs, len(corpus), "encode images") as bar:
                for number, rows in enumerate(store.ranges()):
                    if number in stored:
                        self._resumed_images += len(rows)
                        bar.update(len(rows))
                        continue
                    # Until it is known that its similarity is ours, the next chunk does not begin.
                    if self._streams and self._own_similarity is None:
                        missing.append(number)
                        continue
                    store.write(number, run(rows, bar.update))
                    self._encoded_images += len(rows)
                self._stream(corpus, missing, {"batch_size": batch_size, "num_proc": num_proc}, bar.update)
            self._dimension = self._dimension or store.read(0).shape[1]

    def _stream(
        self, corpus: CorpusImages, missing: list[int], given: dict[str, Any], on_progress: Callable[[int], Any]
    ) -> None:
        """Encode the missing chunks in one go, and store each while the next is computed."""
        store: Any = self.store
        chunks = [store.ranges()[number] for number in missing]

        def keep(index: int, vectors: Callable[[], Any]) -> None:
            rows = chunks[index]
            store.write(missing[index], self._checked(vectors(), corpus.ids[rows.start : rows.stop], "image"))
            self._encoded_images += len(rows)

        if not missing:
            return
        with Backlog() as backlog:

            def told(count: int) -> None:
                backlog.check()
                on_progress(count)

            def done(index: int, vectors: Callable[[], Any]) -> None:
                backlog.hand_over(partial(keep, index, vectors))

            self.model.encode_chunks(corpus, chunks, done, on_progress=told, **given)

    def _locked_store(self) -> EmbeddingStore:
        key = self._described.key
        folder, doing = store_folder(key), f"Another run is encoding {self.eval_set.title} with {key.name}"
        lock = locked(folder.with_name(f".{folder.name}.lock"), doing, error=EncodeError, hint="Wait for it to end.")
        self._stack.enter_context(lock)
        return EmbeddingStore(folder, len(self._corpus_ids), self._described.identity(normalised=self._normalise))

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
        if top_ranked is not None:
            raise EncodeError("ExactSearch ranks the whole corpus; it does not re-rank a given list.")
        if self.store is None:
            raise EncodeError("search() was called before index().")
        encode = self._encoder(encode_kwargs, task_metadata=task_metadata, hf_split=hf_split, hf_subset=hf_subset)
        query_ids = list(queries["id"])
        if kept := self.store.queries(len(query_ids)):
            vectors, self._described.of_texts = kept
        else:
            with self._timings.measure("encode_queries_s"):
                loader = text_loader(queries, int(encode_kwargs.get("batch_size", 32)))
                vectors = self._checked(encode(loader, PromptType.query, num_proc=num_proc), query_ids, "query")
            self._described.note_texts()
            self.store.write_queries(vectors, self._described.of_texts)
        row_of = {corpus_id: row for row, corpus_id in enumerate(self._corpus_ids)}
        query_of = {query_id: row for row, query_id in enumerate(query_ids)}
        judged = sorted(
            (query_of[q.query_id], row_of[q.corpus_id], q.score)
            for q in self.eval_set.qrels()
            if q.query_id in query_of and q.score > 0
        )
        pairs, grades = [pair[:2] for pair in judged], np.array([grade for *_, grade in judged], dtype=np.int64)
        with (
            exact_arithmetic(),
            self._timings.measure("search_s"),
            _bar(encode_kwargs, len(self._corpus_ids), "search") as bar,
        ):
            ranking = rank_exactly(
                self._on_device(vectors),
                self.store.chunks,
                pairs,
                self.eval_set.sources(),
                k=top_k,
                on_progress=bar.update,
            )
        run = ordered_run(ranking, pairs)
        self.outcome = SearchOutcome(query_ids, pairs, grades, ranking, run, self._info(num_proc))
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

    def _trusts(self, store: EmbeddingStore, stored: set[int], batch_size: int, run: Callable[..., np.ndarray]) -> bool:
        """Say whether stored vectors are what this model gives: their first batch is encoded again and compared.

        That is not needed where all is there and the encoder identifies its weights, as the store's identity then does.
        Where nothing is stored, the first batch of an encoder that is not ours tells at once whether it is of use.
        """
        whole = len(stored) == len(store.ranges())
        if (self._described.fingerprint and whole) or (self._reads_images and not stored):
            return True
        first = min(stored, default=0)
        probe = run(store.ranges()[first][:batch_size], lambda n: None)
        if not stored:
            return True
        kept = store.read(first)[: len(probe)]
        if kept.shape == probe.shape and np.abs(kept - probe).max() <= PROBE_TOLERANCE * np.abs(probe).max():
            logger.info("Continuing an interrupted run: %d chunks of images are already encoded.", len(stored))
            return True
        logger.warning("Stored vectors in %s are not what this model gives; encoding all again.", store.folder)
        store.clear()
        return False

    def _require_similarity(self, images: Any, ids: list[str], encode: Callable[..., Any], batch_size: int) -> None:
        """Refuse a model whose own `similarity` orders its first images otherwise than the search does."""
        own, self._own_similarity = self._own_similarity, None
        if own is None:
            return
        name, some = self.mteb_model_meta.name, self.eval_set.queries()[:SAMPLE]
        queries = Dataset.from_dict({"id": [query.id for query in some], "text": [query.text for query in some]})
        asked = encode(text_loader(queries, batch_size), PromptType.query)
        how = {"normalise": False, "encoder": type(self.model).__name__}
        vectors = checked(asked, queries["id"], "query", name, None, **how)
        found = checked(images, ids, "image", name, vectors.shape[1], **how)[:SAMPLE]
        require_same_order(own, vectors, found, name, cosine=self._normalise)

    def _info(self, num_proc: int | None) -> dict[str, Any]:
        rates = Rates(self._timings.seconds, self._encoded_images, self._resumed_images, self._dimension)
        return self._described.info(rates, self._started, _workers(num_proc, len(self._corpus_ids)))

    def _encoder(self, encode_kwargs: dict[str, Any], **asked: Any) -> Callable[..., Any]:
        passed = {**encode_kwargs, "show_progress_bar": False}

        def encode(loader: Any, prompt_type: Any, num_proc: int | None = None, on_progress: Any = None) -> Any:
            extra = {"num_proc": num_proc, "on_progress": on_progress} if self._reads_images else {}
            return self.model.encode(loader, prompt_type=prompt_type, **asked, **passed, **extra)

        return encode

    def _checked(self, vectors: Any, ids: list[str], kind: str) -> np.ndarray:
        how = {"normalise": self._normalise, "encoder": type(self.model).__name__}
        found = checked(vectors, ids, kind, self.mteb_model_meta.name, self._dimension, **how)
        self._dimension = found.shape[1]
        return found

    def _on_device(self, vectors: np.ndarray) -> torch.Tensor:
        device = torch.device(getattr(self.model, "device", None) or "cpu")
        return torch.from_numpy(vectors).to(device if device.type == "cuda" else "cpu")


def _workers(num_proc: int | None, items: int) -> int:
    """Return how many workers decode images: `--num-proc`, else the processors, none for a handful of images."""
    if num_proc is not None:
        return max(0, num_proc)
    # Where a worker is not a fork, it runs the caller's script again, which may not be made for that.
    started = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    if items < 256 or started != "fork":
        return 0
    return min(16, settings.usable_cores())


def _bar(encode_kwargs: dict[str, Any], total: int, what: str) -> Any:
    return progress_bar(what, total, quiet=not encode_kwargs.get("show_progress_bar", True))
