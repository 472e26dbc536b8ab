"""The mteb tasks: metadata, where the data is, evaluation through ExactSearch, and what is told after a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from mteb_vehicle_search import settings
from mteb_vehicle_search.citations import FLICKR30K
from mteb_vehicle_search.errors import DataNotFoundError, EncodeError, EvalSetError
from mteb_vehicle_search.eval_set import EvalSet

NOT_BUILT = "not-built"


class EvalSetMetadata(TaskMetadata):
    """TaskMetadata whose descriptive statistics live beside the user's data, never in mteb's own folder."""

    @property
    def descriptive_stat_path(self) -> Path:
        """Where mteb would keep the statistics of the data set."""
        return settings.home() / "statistics" / f"{self.name}.json"


class EvalSetTask(AbsTaskRetrieval):
    """Text-to-image retrieval over an evaluation set on disk, searched exactly.

    The dataset revision is the set's content id, so that results on different data never look alike.
    """

    abstask_prompt = "Find the image that the caption describes."
    k_values = (1, 3, 5, 10, 20, 100)
    _support_cross_encoder = False

    def __init__(self, **kwargs: Any) -> None:
        folder = self.data_folder()
        try:
            revision = EvalSet.open(folder).content_id
        except (DataNotFoundError, EvalSetError):
            # Listing and describing the task must work without data; load_data tells what is missing.
            revision = NOT_BUILT
        self.metadata = self.metadata.model_copy(update={"dataset": {"path": str(folder), "revision": revision}})
        super().__init__(**kwargs)

    @classmethod
    def data_folder(cls) -> Path:
        """Return the folder of the evaluation set."""
        raise NotImplementedError

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Open the evaluation set; images stay on disk until they are encoded.

        Raises:
            DataNotFoundError: It is not there; says where it was looked for and how to build it.
            EvalSetError: It is damaged.
        """
        from datasets import Dataset

        from mteb_vehicle_search.search.corpus import CorpusImages

        if self.data_loaded:
            return
        self.eval_set = EvalSet.open(self.data_folder())
        queries = self.eval_set.queries()
        relevant: dict[str, dict[str, int]] = {}
        for qrel in self.eval_set.qrels():
            relevant.setdefault(qrel.query_id, {})[qrel.corpus_id] = qrel.score
        split: dict[str, Any] = {
            "corpus": CorpusImages(self.eval_set, self.eval_set.corpus_ids()),
            "queries": Dataset.from_dict({"id": [q.id for q in queries], "text": [q.text for q in queries]}),
            "relevant_docs": relevant,
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}  # type: ignore[assignment]
        self.data_loaded = True

    def _evaluate_subset(self, model: Any, data_split: Any, **kwargs: Any) -> Any:
        from mteb.models.models_protocols import EncoderProtocol, SearchProtocol

        from mteb_vehicle_search.search.exact_search import ExactSearch

        if isinstance(model, SearchProtocol) or not isinstance(model, EncoderProtocol):
            raise EncodeError(
                f"{type(model).__name__} is not an encoder; {self.metadata.name} evaluates models that turn texts "
                "and images into vectors."
            )
        # mteb asks for our scores in the middle of this, through `task_specific_scores`.
        self._search = ExactSearch(model, self.eval_set)
        scores = super()._evaluate_subset(self._search, data_split, **kwargs)  # type: ignore[arg-type]
        self._record(scores)
        return scores

    def task_specific_scores(
        self, scores: Any, qrels: Any, results: Any, hf_split: str, hf_subset: str
    ) -> dict[str, float]:
        """Return our extra scores, computed from the exact ranks.

        `ndcg_at_10_ci_low`, `ndcg_at_10_ci_high`: 95 % interval, bootstrap clustered by relevant image;
        `median_rank`: over all (query, relevant image) pairs; `beaten_only_by_distractors`: share of the pairs whose
        relevant image is not first and is outranked by uncaptioned images only.
        """
        from mteb_vehicle_search.search.result import extra_scores

        return extra_scores(self._search.found(), self.eval_set)

    def _record(self, scores: Any) -> None:
        from mteb_vehicle_search.run_record import write_run_record
        from mteb_vehicle_search.search.result import EXTRA_SCORES, queries_table
        from mteb_vehicle_search.terminal import show_summary

        outcome = self._search.found()
        kept = (*EXTRA_SCORES, "ndcg_at_10", "map_at_10", "recall_at_1", "recall_at_10")
        kept_scores = {key: scores[key] for key in kept if key in scores}
        info = {"task_name": self.metadata.name, **outcome.info, "scores": kept_scores}
        names = (self.eval_set.content_id, info["model_name"], info["model_revision"])
        record = write_run_record(*names, queries_table(outcome, self.eval_set), info)
        self._search.finish()
        show_summary(record.info, record.folder)

    def unload_data(self) -> None:
        """Forget the data and the last search."""
        super().unload_data()
        if hasattr(self, "_search"):
            del self._search


def _metadata(name: str, description: str, **changed: Any) -> EvalSetMetadata:
    fields: dict[str, Any] = {
        "name": name,
        "description": description,
        "reference": "https://github.com/lukemerrick/vehicle-image-search-eval",
        "dataset": {"path": name, "revision": NOT_BUILT},
        "type": "Any2AnyRetrieval",
        "category": "t2i",
        "modalities": ["text", "image"],
        "eval_splits": ["test"],
        "eval_langs": ["eng-Latn"],
        "main_score": "ndcg_at_10",
        "domains": ["Web"],
        "task_subtypes": ["Image Text Retrieval"],
        "dialect": [],
        "is_public": True,
        "prompt": {"query": "Find the image that the caption describes."},
        **changed,
    }
    return EvalSetMetadata(**fields)


class VehicleImageSearch(EvalSetTask):
    """10,725 Flickr30k captions search for their image among 68,154 vehicle photographs."""

    metadata = _metadata(
        "VehicleImageSearch",
        "Find the one captioned Flickr30k photograph of a vehicle among about 66,000 uncaptioned ImageNet-1k "
        "photographs of vehicles and the other captioned ones.",
        date=("2009-01-01", "2024-12-31"),
        license="not specified",
        annotations_creators="derived",
        sample_creation="found",
        bibtex_citation=r"""
@misc{merrick2024vehicle,
  author = {Luke Merrick},
  title = {Vehicle Image Search Evaluation},
  year = {2024},
  url = {https://github.com/lukemerrick/vehicle-image-search-eval},
}
"""
        + FLICKR30K,
    )

    @classmethod
    def data_folder(cls) -> Path:
        """Return `VEHICLE_SEARCH_DATA`, else `VEHICLE_SEARCH_HOME`/data/vehicle-image-search."""
        return settings.eval_set_folder()


class VehicleImageSearchMini(EvalSetTask):
    """1,000 captions of 200 drawn scenes search among 2,000; ships with the package."""

    metadata = _metadata(
        "VehicleImageSearchMini",
        "Find the captioned drawing of a vehicle among 2,000 drawn scenes, many of which differ from it in one "
        "attribute only. Needs no download; checks an installation and a model's wiring.",
        date=("2026-11-01", "2026-11-30"),
        license="apache-2.0",
        annotations_creators="derived",
        sample_creation="created",
        domains=["Constructed"],
        bibtex_citation="",
    )

    @classmethod
    def data_folder(cls) -> Path:
        """Return the folder inside the package."""
        return settings.mini_folder()
