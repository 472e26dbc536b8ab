"""ExactSearch: encode queries and images once, check every vector, rank every relevant image exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from mteb_vehicle_search.engine import Engine, engine_of
from mteb_vehicle_search.errors import EncodeError
from mteb_vehicle_search.exactness import exact_arithmetic
from mteb_vehicle_search.files import locked
from mteb_vehicle_search.search import probing, streamed
from mteb_vehicle_search.search.at_work import ModelAtWork
from mteb_vehicle_search.search.backlog import Backlog
from mteb_vehicle_search.search.corpus import CorpusImages
from mteb_vehicle_search.search.described import Described, Rates
from mteb_vehicle_search.search.encoding import Queries, Vectors, loader_workers, search_device
from mteb_vehicle_search.search.pieces import cut, joined
from mteb_vehicle_search.search.ranking import OrderedRun, Ranking, ordered_run, rank_exactly
from mteb_vehicle_search.search.vectors import EmbeddingStore, compares_by_cosine, store_folder

if TYPE_CHECKING:
    from mteb_vehicle_search.eval_set import EvalSet


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
        engine: Where it encodes, within its `with` block; by default here. Elsewhere than here the model is made anew.
    """

    def __init__(self, model: Any, eval_set: EvalSet, engine: Engine | None = None) -> None:
        compares_by_cosine(model)
        self.model = model
        self.eval_set = eval_set
        self.outcome: SearchOutcome | None = None
        self.store: EmbeddingStore | None = None
        self._engine = engine or engine_of("local")
        self._timings = _Timings()
        self._encoded_images = self._resumed_images = 0
        self._stack = ExitStack()
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

        Where vectors are kept nowhere (`streamed.wanted`), that is done by `search`.

        Raises:
            EncodeError: A vector is missing, not finite, zero, or of another dimension (names the first id); another
                run of the same model is at work; the disk is full.
            EngineError: As by `Engine.map`.
        """
        given = {**encode_kwargs, "task_metadata": task_metadata, "hf_split": hf_split, "hf_subset": hf_subset}
        self._work = work = ModelAtWork(self.model, self.eval_set, corpus, self._engine, given, num_proc)
        self._described = Described(self.model, self.eval_set, encode_kwargs, work.told)
        self.store = store = self._locked_store()
        self._first = None
        with self._timings.measure("encode_corpus_s"):
            stored = {number for number in range(len(store.ranges())) if store.has(number)}
            if not stored and not probing.is_known(work):
                self._first = probing.first_vectors(work, store.ranges()[0][: work.batch_size])
            if streamed.wanted(len(work.ids)):
                return
            if stored and not probing.are_of(work, store, stored):
                stored = set()
            with work.bar(len(corpus), "encode images") as bar:
                for rows in [store.ranges()[number] for number in sorted(stored)]:
                    self._resumed_images += len(rows)
                    bar.update(len(rows))
                self._encode([number for number in range(len(store.ranges())) if number not in stored], bar)
            work.dimension = work.dimension or store.read(0).shape[1]

    def _encode(self, missing: list[int], bar: Any) -> None:
        """Encode the missing chunks, in any order, and store each while others are computed."""
        work, store = self._work, cast(EmbeddingStore, self.store)
        chunks = [store.ranges()[number] for number in missing]
        # Encoders of others may order the inputs of a call, and so get the whole chunk everywhere.
        sent = [*enumerate(chunks)] if work.is_here or not work.streams else cut(chunks, work.batch_size)

        def keep(index: int, parts: list[tuple[range, Vectors]]) -> None:
            store.write(missing[index], np.concatenate([work.images(vectors(), rows) for rows, vectors in parts]))
            self._encoded_images += len(chunks[index])

        with Backlog() as backlog:
            shown = work.shown(bar, check=backlog.check)
            with closing(work.results([rows for _, rows in sent], shown)) as results:
                for index, parts in joined(sent, results):
                    backlog.hand_over(partial(keep, index, parts))

    def _locked_store(self) -> EmbeddingStore:
        key = self._described.key
        folder, doing = store_folder(key), f"Another run is encoding {self.eval_set.title} with {key.name}"
        lock = locked(folder.with_name(f".{folder.name}.lock"), doing, error=EncodeError, hint="Wait for it to end.")
        self._stack.enter_context(lock)
        return EmbeddingStore(folder, len(self._work.ids), self._described.identity(normalised=self._work.normalise))

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
        query_ids = list(queries["id"])
        vectors = torch.from_numpy(self._query_vectors(queries, query_ids)).to(search_device(self.model))
        pairs, grades = self._judged(query_ids)
        with exact_arithmetic():
            rank = self._rank_while_encoding if streamed.wanted(len(self._work.ids)) else self._rank_stored
            ranking = rank(vectors, pairs, top_k)
        run = ordered_run(ranking, pairs)
        self.outcome = SearchOutcome(query_ids, pairs, grades, ranking, run, self._info(num_proc))
        ids = self._work.ids
        return {
            query_id: {ids[row]: score for row, score in zip(rows, scores) if row >= 0}
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

    def _query_vectors(self, queries: Any, ids: list[str]) -> np.ndarray:
        """Return the vectors of all queries, float32 [ids, dimension], encoded unless they are stored."""
        store = cast(EmbeddingStore, self.store)
        if kept := store.queries(len(ids)):
            vectors, self._described.of_texts = kept
            return vectors
        with self._timings.measure("encode_queries_s"):
            encoded = self._work.result(Queries(queries))
            vectors = self._work.checked(encoded.vectors(), ids, "query")
        self._described.note_texts(encoded.told)
        store.write_queries(vectors, self._described.of_texts)
        return vectors

    def _judged(self, query_ids: list[str]) -> tuple[list[tuple[int, int]], np.ndarray]:
        """Return (query row, corpus row) of every relevant image, sorted, and how relevant each is (int64)."""
        row_of = {corpus_id: row for row, corpus_id in enumerate(self._work.ids)}
        query_of = {query_id: row for row, query_id in enumerate(query_ids)}
        judged = sorted(
            (query_of[q.query_id], row_of[q.corpus_id], q.score)
            for q in self.eval_set.qrels()
            if q.query_id in query_of and q.score > 0
        )
        return [pair[:2] for pair in judged], np.array([grade for *_, grade in judged], dtype=np.int64)

    def _rank_stored(self, queries: torch.Tensor, pairs: list[tuple[int, int]], top_k: int) -> Ranking:
        store = cast(EmbeddingStore, self.store)
        with self._timings.measure("search_s"), self._work.bar(store.rows, "search") as bar:
            return rank_exactly(queries, store.chunks, pairs, self.eval_set.groups, k=top_k, on_progress=bar.update)

    def _rank_while_encoding(self, queries: torch.Tensor, pairs: list[tuple[int, int]], top_k: int) -> Ranking:
        store = cast(EmbeddingStore, self.store)
        identity = {
            "vectors": self._described.identity(normalised=self._work.normalise),
            "device": self._work.told.kind,
            # Of an encoder that does not say what its weights are.
            "first vectors": None if self._first is None else sha256(self._first.tobytes()).hexdigest(),
        }
        with self._timings.measure("encode_corpus_s"):
            corpus = streamed.StreamedCorpus(self._work, store.ranges(), store.folder, identity)
            ranking = corpus.rank(queries, pairs, top_k)
        self._encoded_images, self._resumed_images = corpus.encoded_images, corpus.resumed_images
        return ranking

    def _info(self, num_proc: int | None) -> dict[str, Any]:
        work = self._work
        work.look()
        self._described.told = work.told
        rates = Rates(self._timings.seconds, self._encoded_images, self._resumed_images, work.dimension)
        return self._described.info(rates, self._started, loader_workers(num_proc, len(work.ids)))
