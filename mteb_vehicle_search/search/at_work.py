"""A model at work on an evaluation set: an engine is asked for what it encodes, and its vectors are checked."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from mteb_vehicle_search.engine import Engine, Listener
from mteb_vehicle_search.engine.shown import Shown
from mteb_vehicle_search.eval_set.copies import origin_of
from mteb_vehicle_search.search.corpus import CorpusImages
from mteb_vehicle_search.search.encoding import About, MakeEncoder, same_everywhere
from mteb_vehicle_search.search.vectors import checked_of, compares_by_cosine, similarity_of
from mteb_vehicle_search.terminal import progress_bar

if TYPE_CHECKING:
    from mteb_vehicle_search.eval_set import EvalSet


class ModelAtWork:
    """Asks an engine for the vectors of one model on one evaluation set.

    Attributes:
        ids: Of the corpus.
        batch_size: Images per forward pass.
        reads_images: Whether it is an encoder of ours, which reads the images itself.
        streams: Whether it encodes over the borders of units, so that any batches can be asked for.
        is_here: Whether it works in this process.
        told: What the encoder says of itself where it works; `look` asks anew.
        own_similarity: The model's own, until it is known to order images as the search does; None if it has none.
        dimension: Of the vectors seen so far.
        normalise: Whether vectors get unit length.
    """

    def __init__(
        self,
        model: Any,
        eval_set: EvalSet,
        corpus: CorpusImages,
        engine: Engine,
        given: dict[str, Any],
        num_proc: int | None,
    ) -> None:
        self.model, self.eval_set, self._engine = model, eval_set, engine
        self.ids = eval_set.corpus_ids()
        self.batch_size = int(given.get("batch_size", 32))
        self.reads_images = getattr(model, "reads_images_itself", False)
        self.streams = self.reads_images and getattr(model, "streams", False)
        self.normalise = compares_by_cosine(model)
        self.own_similarity = similarity_of(model)
        self.dimension: int | None = None
        self.is_here = engine.is_here
        self.share = engine.share
        self._quiet = not given.get("show_progress_bar", True)
        here = model, eval_set, corpus
        own = {**given, "show_progress_bar": False}
        self.make_worker = MakeEncoder(
            model.mteb_model_meta,
            eval_set.folder.absolute(),
            origin_of(eval_set.folder),
            eval_set.content_id,
            own,
            num_proc,
            here,
        )
        # A worker in this process is of this process.
        self._identity = {} if self.is_here else same_everywhere(model, eval_set)
        self.look()

    def look(self) -> None:
        """Ask the encoder what it says of itself now."""
        self.told = self.result(About())

    def results(self, units: Iterable[Any], listener: Listener | None = None) -> Generator[tuple[int, Any]]:
        """Yield (number, result) of units (see `search.encoding`), in any order; to be closed."""
        return self._engine.map(self.make_worker, units, identity=self._identity, listener=listener)

    def result(self, unit: Any) -> Any:
        """Return the result of one unit."""
        with closing(self.results([unit])) as results:
            ((_, result),) = results
        return result

    def bar(self, total: int, what: str) -> Any:
        """Return a progress bar, to be shown as mteb was told."""
        return progress_bar(what, total, quiet=self._quiet, passing=True)

    def shown(self, bar: Any, **given: Any) -> Shown:
        """Return what shows on a bar how the engine gets on."""
        return Shown(bar, self._engine, **given)

    def images(self, vectors: Any, rows: range) -> np.ndarray:
        """Return the vectors of some rows of the corpus, float32 [rows, dimension], or refuse them (EncodeError)."""
        return self.checked(vectors, self.ids[rows.start : rows.stop], "image")

    def checked(self, vectors: Any, ids: list[str], kind: str) -> np.ndarray:
        """Return vectors, float32 [ids, dimension], or refuse what cannot be searched (EncodeError)."""
        found = checked_of(self.model, vectors, ids, kind, self.dimension, normalise=self.normalise)
        self.dimension = found.shape[1]
        return found
