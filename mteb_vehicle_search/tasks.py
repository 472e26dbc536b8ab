"""The mteb tasks: metadata, where the data is, evaluation through ExactSearch, and what is told after a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from mteb_vehicle_search import settings
from mteb_vehicle_search.citations import FLICKR30K
from mteb_vehicle_search.errors import EncodeError, EvalSetError, VehicleSearchError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.known import bring, folder_of, known_sets

NOT_BUILT = "not-built"
# In the notes of a set that is a part of another, for a smoke test.
SMOKE_TEST = "smoke_test_of"
# What a result file says of its run, beside the names that mteb gives it.
RUN_KEYS = ("images_id", "sources_id", "implementation", "options", "precision", "preprocess")


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
    # Its results and records lie in a folder that is deleted after the run.
    is_smoke_test = False

    def __init__(self, **kwargs: Any) -> None:
        self._describe_what_is_there()
        super().__init__(**kwargs)

    @classmethod
    def data_folder(cls) -> Path:
        """Return the folder of the evaluation set."""
        return folder_of(cls.metadata.name)

    @classmethod
    def open_data(cls) -> EvalSet:
        """Open the task's evaluation set, by its manifest only.

        Raises:
            DataNotFoundError: It is not there; says where it was looked for and how to build it.
            EvalSetError: It is damaged, or it is that of another task.
        """
        eval_set = EvalSet.open(cls.data_folder())
        if eval_set.task_name != cls.metadata.name:
            raise EvalSetError(
                f"{eval_set.folder} holds {eval_set.task_name}, which is not the set of {cls.metadata.name}.",
                f"Evaluate it with -t {eval_set.task_name}, or unset VEHICLE_SEARCH_DATA.",
            )
        return eval_set

    @classmethod
    def require_data(cls) -> EvalSet:
        """Open the task's evaluation set; if it lies behind an address, it is copied to this machine first.

        Raises:
            VehicleSearchError: As `open_data`, or it cannot be copied.
        """
        bring(cls.metadata.name)
        return cls.open_data()

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        """Open the evaluation set; images stay on disk until they are encoded.

        Raises:
            DataNotFoundError: It is not there; says where it was looked for and how to build it.
            EvalSetError: It is damaged, or it is that of another task.
            SourceError: It lies behind an address, from which it cannot be copied.
        """
        from datasets import Dataset

        from mteb_vehicle_search.search.corpus import CorpusImages

        if self.data_loaded:
            return
        settings.check()
        self.eval_set = self.require_data()
        self.eval_set.require_content()
        queries = self.eval_set.queries()
        relevant: dict[str, dict[str, int]] = {}
        for qrel in self.eval_set.qrels():
            # mteb would count a query with a judgement of 0 only, which sets of earlier versions may hold.
            if qrel.score > 0:
                relevant.setdefault(qrel.query_id, {})[qrel.corpus_id] = qrel.score
        split: dict[str, Any] = {
            "corpus": CorpusImages(self.eval_set, self.eval_set.corpus_ids()),
            "queries": Dataset.from_dict({"id": [q.id for q in queries], "text": [q.text for q in queries]}),
            "relevant_docs": relevant,
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}  # type: ignore[assignment]
        self._describe(self.eval_set.content_id)
        self.data_loaded = True

    def unload_data(self) -> None:
        """Forget the data and the last search."""
        super().unload_data()
        # mteb takes the metadata of the instance away with the data.
        self._describe_what_is_there()
        if hasattr(self, "_search"):
            del self._search

    def _push_dataset_to_hub(self, repo_name: str, num_proc: int | None = None, **kwargs: Any) -> None:
        # mteb would leave the sources' terms and the manifest behind.
        raise EvalSetError(
            f"{self.metadata.name} is pushed with its manifest and the terms of its sources, not by mteb.",
            f"vehicle-search-data push {self.data_folder()} {repo_name}",
        )

    def _describe_what_is_there(self) -> None:
        """State the revision of the data on disk; listing and describing the task must work without data."""
        try:
            self._describe(self.open_data().content_id)
        except VehicleSearchError:
            self._describe(NOT_BUILT)

    def _describe(self, revision: str) -> None:
        # The path is a name: mteb writes it into results, and where data lies is this computer's own affair.
        dataset = {"path": type(self).metadata.name, "revision": revision}
        self.metadata = type(self).metadata.model_copy(update={"dataset": dataset})

    def _evaluate_subset(self, model: Any, data_split: Any, **kwargs: Any) -> Any:
        from mteb_vehicle_search import stored_results
        from mteb_vehicle_search.engine import engine_of
        from mteb_vehicle_search.search.exact_search import ExactSearch
        from mteb_vehicle_search.search.suited import require_suited

        require_suited(getattr(model, "mteb_model_meta", None), self.metadata.name, model)
        self._require_whole(data_split)
        stored_results.end_earlier()
        with engine_of() as engine, ExactSearch(model, self.eval_set, engine) as search:
            # mteb asks for our scores in the middle of this, through `task_specific_scores`.
            self._search = search
            scores = super()._evaluate_subset(search, data_split, **kwargs)  # type: ignore[arg-type]
            self._record(scores)
        return scores

    def _require_whole(self, data_split: Any) -> None:
        """Refuse what mteb makes of a task when it cleans its data or takes it for a second stage."""
        if data_split["top_ranked"] is not None:
            raise EncodeError(f"{self.metadata.name} ranks the whole corpus; it does not re-rank a given list.")
        asked = len(data_split["corpus"]), len(data_split["queries"])
        counts = self.eval_set.manifest["counts"]
        if asked != (counts["corpus"], counts["queries"]) or not hasattr(data_split["corpus"], "chunk"):
            raise EncodeError(
                f"{self.metadata.name} is measured on its whole evaluation set; this one has {asked[0]:,} of "
                f"{counts['corpus']:,} images and {asked[1]:,} of {counts['queries']:,} queries.",
                "Build a set of its own instead: vehicle-search-data build --preset FILE",
            )

    def task_specific_scores(
        self, scores: Any, qrels: Any, results: Any, hf_split: str, hf_subset: str
    ) -> dict[str, float]:
        """Return our extra scores, computed from the exact ranks.

        `ndcg_at_10_ci_low`, `ndcg_at_10_ci_high`: 95 % interval over the relevant images, as many as
        `ndcg_at_10_ci_images` says (none if they are too few, nor where queries have several relevant images);
        `median_rank`: over all (query, relevant image) pairs; `beaten_only_by_distractors`: share of the pairs whose
        relevant image is not first and is outranked by uncaptioned images only.
        """
        from mteb_vehicle_search.search.result import extra_scores

        return extra_scores(self._search.found(), self.eval_set)

    def _record(self, scores: Any) -> None:
        from mteb_vehicle_search import stored_results
        from mteb_vehicle_search.analysis.ranks import load_ranks
        from mteb_vehicle_search.run_record import write_run_record
        from mteb_vehicle_search.search.result import EXTRA_SCORES, queries_table, tied_queries
        from mteb_vehicle_search.summary import show_summary

        outcome = self._search.found()
        kept = (*EXTRA_SCORES, "ndcg_at_10", "map_at_10", "recall_at_1", "recall_at_10")
        kept_scores = {key: scores[key] for key in kept if key in scores}
        counted = {**outcome.info, "tied_queries": tied_queries(outcome)}
        info = {"task_name": self.metadata.name, **counted, "scores": kept_scores}
        record = write_run_record(queries_table(outcome, self.eval_set), info)
        scores["run"] = {key: info[key] for key in RUN_KEYS}
        if self.is_smoke_test:
            show_summary(record.info, None, lambda: load_ranks(record))
            return
        stored_results.await_result(self.metadata.name, self.eval_set.content_id, self._search.store)
        show_summary(record.info, record.folder, lambda: load_ranks(record))


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


OWN_TASKS: tuple[type[EvalSetTask], ...] = (VehicleImageSearch, VehicleImageSearchMini)
_tasks_of_sets: dict[str, type[EvalSetTask]] = {}


def task_of(eval_set: EvalSet) -> type[EvalSetTask]:
    """Return the task of an evaluation set of the user's own; the same class each time, which pickles by its name."""
    name = eval_set.task_name
    if name not in _tasks_of_sets:
        described = _metadata(
            name,
            f"{eval_set.title}: find the image that the caption describes.",
            reference=None,
            license="not specified",
            bibtex_citation="\n".join(one.get("bibtex", "") for one in eval_set.manifest.get("sources", {}).values()),
        )
        is_smoke_test = SMOKE_TEST in (eval_set.manifest.get("notes") or {})
        own = {"metadata": described, "__module__": __name__, "is_smoke_test": is_smoke_test}
        _tasks_of_sets[name] = type(name, (EvalSetTask,), own)
    return _tasks_of_sets[name]


def tasks_of_sets(on_trouble: Callable[[str], object] = lambda message: None) -> list[type[EvalSetTask]]:
    """Return the tasks of all evaluation sets on this computer but those that have one of their own here."""
    own = {task.metadata.name for task in OWN_TASKS}
    found = known_sets(on_trouble)
    return [task_of(eval_set) for name, eval_set in sorted(found.items()) if name not in own]


def __getattr__(name: str) -> type[EvalSetTask]:
    """Return the task of a set by its name, which is how one that was pickled is found again."""
    if name[:1].isupper() and (eval_set := known_sets().get(name)):
        return task_of(eval_set)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
