"""Search the corpus of an evaluation set for anything: a text, or an image that lies in a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from PIL import Image, ImageOps

from mteb_vehicle_search.engine import engine_of
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage, Qrel, Query
from mteb_vehicle_search.eval_set.writer import About, write_eval_set
from mteb_vehicle_search.search import streamed
from mteb_vehicle_search.search.at_work import ModelAtWork
from mteb_vehicle_search.search.corpus import CorpusImages
from mteb_vehicle_search.search.described import Described, Told
from mteb_vehicle_search.search.encoding import Queries
from mteb_vehicle_search.search.exact_search import ExactSearch
from mteb_vehicle_search.search.vectors import EmbeddingStore, compares_by_cosine, store_folder

FLOAT_BYTES = 4
# What mteb says to encoders, beside what they are to encode.
SPLIT = {"hf_split": "test", "hf_subset": "default"}


class Hit(NamedTuple):
    """An image that was found: its id and its score."""

    image: str
    score: float


class Corpus:
    """The corpus of a set as one model sees it; its vectors are made once and kept.

    Args:
        model: An mteb encoder.
        task_metadata: Of the set's mteb task.
        batch_size: Images per forward pass. Vectors that a run kept are those of the same size.
    """

    def __init__(self, model: Any, eval_set: EvalSet, task_metadata: Any, batch_size: int = 32) -> None:
        self._model, self._eval_set = model, eval_set
        self._options = {"batch_size": batch_size}
        self._given = {"task_metadata": task_metadata, **SPLIT}
        self._store = self._open()

    def _open(self) -> EmbeddingStore:
        described = Described(self._model, self._eval_set, self._options, Told.of(self._model))
        identity = described.identity(normalised=compares_by_cosine(self._model))
        return EmbeddingStore(store_folder(described.key), self._eval_set.manifest["counts"]["corpus"], identity)

    @property
    def missing(self) -> int:
        """How many images have no vectors yet."""
        return sum(len(rows) for number, rows in enumerate(self._store.ranges()) if not self._store.has(number))

    @property
    def folder(self) -> Path:
        """Where the vectors are kept."""
        return self._store.folder

    def encode(self) -> None:
        """Make the vectors that are missing; raises as `ExactSearch.index` does.

        Raises:
            UsageError: The corpus is so large that vectors are kept nowhere.
        """
        ids = self._eval_set.corpus_ids()
        if streamed.wanted(len(ids)):
            raise UsageError(
                f"{self._eval_set.title} is searched without keeping vectors ({len(ids):,} images).",
                "Leave VEHICLE_SEARCH_STREAM unset, or query a smaller set.",
            )
        with ExactSearch(self._model, self._eval_set) as search:
            search.index(CorpusImages(self._eval_set, ids), encode_kwargs=self._options, **self._given)

    def find_text(self, text: str, k: int) -> list[Hit]:
        """Return the `k` best images for a text, best first.

        Raises:
            EncodeError: The model gives no vector that can be searched.
        """
        work = self._work(self._eval_set)
        unit = Queries(Dataset.from_dict({"id": ["query"], "text": [text]}))
        return self._best(work.checked(work.result(unit).vectors(), ["query"], "query")[0], k)

    def find_image(self, path: Path, k: int, folder: Path) -> list[Hit]:
        """Return the `k` best images for the one in a file, reduced as those of the set are; `folder` is for that.

        Raises:
            UsageError: The file is no image that can be read.
            EncodeError: As by `find_text`.
        """
        work = self._work(_set_of_one(path, self._eval_set, folder))
        return self._best(work.images(work.result(range(1))(), range(1))[0], k)

    def _work(self, eval_set: EvalSet) -> ModelAtWork:
        images = CorpusImages(eval_set, eval_set.corpus_ids())
        given = {**self._options, **self._given, "show_progress_bar": False}
        return ModelAtWork(self._model, eval_set, images, engine_of("local"), given, None)

    def _best(self, vector: np.ndarray, k: int) -> list[Hit]:
        """Return the best of all images for a vector, float32 [dimension]; equals stand in the order of the corpus."""
        scores = np.concatenate([vectors @ vector for _, vectors in self._store.chunks()])
        ids = self._eval_set.corpus_ids()
        return [Hit(ids[row], float(scores[row])) for row in np.argsort(-scores, kind="stable")[:k].tolist()]


def _set_of_one(path: Path, like: EvalSet, folder: Path) -> EvalSet:
    """Write an evaluation set of one image, reduced as those of another set are."""
    policy, buffer = like.policy, io.BytesIO()
    try:
        with Image.open(path) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"{path} is no image that can be read: {error}.", "Name a file such as photograph.jpg."
        ) from error
    ratio = min(1.0, policy.shortest_side_px / min(upright.size))
    size = (max(1, round(upright.width * ratio)), max(1, round(upright.height * ratio)))
    upright.resize(size, Image.Resampling[policy.resample.upper()]).save(buffer, "JPEG", quality=policy.jpeg_quality)
    facts = {"source": "file", "split": "", "captioned": True, "class_index": -1, "wnid": "", "class_name": ""}
    facts |= {"vehicle_score": None, "width": size[0], "height": size[1], "sha256": "", "perceptual_hash": ""}
    return write_eval_set(
        folder / "set of one",
        About("query", "The image of a query", policy=policy),
        images=[CorpusImage("file/query", buffer.getvalue(), facts)],
        queries=[Query("query", "an image")],
        qrels=[Qrel("query", "file/query")],
    )
