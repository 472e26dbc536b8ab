"""An encoder whose vectors are chosen by id, and what an evaluation does with one, step by step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import mteb
import numpy as np
from datasets import Dataset
from mteb.types import PromptType

from mteb_vehicle_search.search.corpus import CorpusImages
from mteb_vehicle_search.search.exact_search import ExactSearch

TASK = mteb.get_task("VehicleImageSearchMini").metadata
WHERE = {"task_metadata": TASK, "hf_split": "test", "hf_subset": "default"}
BATCH = 5


class Call(NamedTuple):
    """What an encoder was asked."""

    ids: list
    prompt_type: PromptType
    loader: object
    columns: set
    where: dict
    options: dict


class Planted:
    """A foreign encoder that returns the vector planted for each id and remembers what it was asked."""

    def __init__(self, vectors, name="toy/encoder", revision="r1", **meta):
        self.vectors = vectors
        told = {"n_parameters": 7, "training_datasets": None, "similarity_fn_name": None, "experiment_kwargs": None}
        self.mteb_model_meta = SimpleNamespace(name=name, revision=revision, **{**told, **meta})
        self.calls = []

    def encode(self, loader, *, task_metadata, hf_split, hf_subset, prompt_type, **options):
        batches = list(loader)
        ids, columns = (
            [given for batch in batches for given in batch["id"]],
            {name for batch in batches for name in batch},
        )
        where = {"task_metadata": task_metadata, "hf_split": hf_split, "hf_subset": hf_subset}
        self.calls.append(Call(ids, prompt_type, loader, columns, where, options))
        return self.answer(ids)

    def answer(self, ids):
        return np.array([self.vectors[given] for given in ids])

    def asked(self, prompt_type=PromptType.document):
        """The ids of each call."""
        return [call.ids for call in self.calls if call.prompt_type == prompt_type]


def whole_numbers(eval_set):
    """A vector of whole numbers, which every type holds, for each id: unequal lengths, some vectors equal."""
    rng = np.random.default_rng(0)
    ids = [*eval_set.corpus_ids(), *(query.id for query in eval_set.queries())]
    drawn = rng.integers(-4, 5, (len(ids), 6)).astype(np.float32)
    drawn[:, 0] += ~drawn.any(axis=1)
    return dict(zip(ids, drawn))


def queries_of(eval_set):
    return Dataset.from_dict({name: [getattr(q, name) for q in eval_set.queries()] for name in ("id", "text")})


def images_of(eval_set):
    return CorpusImages(eval_set, eval_set.corpus_ids())


def index(model, eval_set, num_proc=0, **options):
    found = ExactSearch(model, eval_set)
    found.index(images_of(eval_set), **WHERE, encode_kwargs={"batch_size": BATCH, **options}, num_proc=num_proc)
    return found


def ask(indexed, queries=None, top_k=10, num_proc=0, **options):
    queries = queries_of(indexed.eval_set) if queries is None else queries
    options = {"batch_size": BATCH, **options}
    return indexed.search(queries, top_k=top_k, **WHERE, encode_kwargs=options, num_proc=num_proc)


def end(found):
    """What the end of a `with` block does."""
    found.__exit__(None, None, None)


def whole_run(model, eval_set, **options):
    """Index and search, and release; returns the search."""
    found = index(model, eval_set, **options)
    ask(found, **options)
    end(found)
    return found


def stored(found):
    """The chunks that are there."""
    return [number for number in range(len(found.store.ranges())) if found.store.has(number)]
