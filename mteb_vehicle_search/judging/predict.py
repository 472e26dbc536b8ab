"""Let a model predict judgments: its scores of captions and images, through a fit on what people said.

The fit is isotonic: the higher the score, the likelier that people say yes. Every pair is predicted from the judgments
of other clusters only, so that no judged caption predicts itself (Angelopoulos et al., "Prediction-powered inference",
Science 382, 2023; cross-fitting: Zrnic and Candès, "Cross-prediction-powered inference", PNAS 121, 2024).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

import mteb
import numpy as np
from datasets import Dataset
from mteb.types import PromptType

import mteb_vehicle_search
from mteb_vehicle_search.errors import ResultsError, UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.judging.choosing import Chosen
from mteb_vehicle_search.judgments import Judgments, Sample, write_sample
from mteb_vehicle_search.judgments.judgment import INSTALL, RELEVANT
from mteb_vehicle_search.judgments.predictions import Predictions, write_predictions
from mteb_vehicle_search.search.corpus import CorpusImages, image_loader, text_loader
from mteb_vehicle_search.search.suited import require_suited
from mteb_vehicle_search.search.vectors import checked_of, compares_by_cosine
from mteb_vehicle_search.tasks import task_of

# Parts of the clusters, each of which is predicted from the others.
FOLDS = 10
BATCH = 32
MORE = "Judge more: vehicle-search judge"
# So many judged images, of so many that are right and wrong, are the least that tells anything.
FEWEST, FEWEST_OF_A_KIND = 50, 3

Pair = tuple[str, str]


def predict(name: str, chosen: Chosen, sample: Sample) -> str:
    """Predict all images in question of a sample by a model, keep that, and return what to say of it.

    Args:
        name: Of the model, as mteb knows it.
        chosen: The evaluation set and its judgments.
        sample: Of its runs.

    Raises:
        ResultsError: Too little is judged.
        UsageError: There is no such model, or scikit-learn is not installed.
        EncodeError: The model gave what cannot be compared.
    """
    clusters = {(unit.query, image): unit.cluster for unit in sample.units for image in unit.images}
    said = right_shares(chosen.judgments, clusters)
    _require_enough(said)
    model = _load(name)
    scores = pair_scores(model, chosen.eval_set, sorted(clusters))
    found = cross_fitted(scores, said, clusters)
    meta = model.mteb_model_meta
    of_model, of_set = (str(meta.name), str(meta.revision or "")), (sample.content_id, chosen.eval_set.images_id)
    # A new one may know enough by what was judged for others.
    write_sample(chosen.judgments.folder, sample)
    path = write_predictions(chosen.judgments.folder, Predictions(*of_model, *of_set, sample.id, len(said), found))
    off = np.mean([abs(found[pair] - share) for pair, share in said.items()])
    return (
        f"{meta.name} predicts {len(found):,} images in question from {len(said):,} judged ones; of these it is "
        f"{off:.2f} off on average.\nKept in {path}. It sharpens intervals, and decides nothing."
    )


def right_shares(judgments: Judgments, pairs: Any) -> dict[Pair, float]:
    """Return of each judged one of the pairs the share of its judges who say that it is right."""
    return {
        pair: sum(grade == RELEVANT for grade in said.values()) / len(said)
        for pair, said in sorted(judgments.grades.items())
        if pair in pairs
    }


def _require_enough(said: dict[Pair, float]) -> None:
    right = sum(share > 0.5 for share in said.values())
    if len(said) < FEWEST or min(right, len(said) - right) < FEWEST_OF_A_KIND:
        raise ResultsError(
            f"{len(said):,} images of the sample are judged, {right:,} of them right: that is too little to predict "
            f"from ({FEWEST} are needed, {FEWEST_OF_A_KIND} of each kind).",
            MORE,
        )


def cross_fitted(scores: dict[Pair, float], said: dict[Pair, float], clusters: dict[Pair, str]) -> dict[Pair, float]:
    """Return the probability that a pair is right, of each from the judged pairs of other clusters.

    Args:
        scores: Of every pair.
        said: Of the judged ones, 0 to 1.
        clusters: Of every pair.

    Raises:
        ResultsError: The judged pairs are of too few clusters.
        UsageError: scikit-learn is not installed.
    """
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise UsageError("Predictions are fitted by scikit-learn, which is not installed.", INSTALL) from error
    fold = {pair: hashlib.sha256(cluster.encode()).digest()[0] % FOLDS for pair, cluster in clusters.items()}
    if len({fold[pair] for pair in said}) < 2:
        raise ResultsError("What was judged is about too few images to predict from.", MORE)
    found = {}
    for part in range(FOLDS):
        asked = [pair for pair in scores if fold[pair] == part]
        known = [pair for pair in said if fold[pair] != part]
        if asked:
            fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
            fit.fit([scores[pair] for pair in known], [said[pair] for pair in known])
            found |= dict(zip(asked, fit.predict([scores[pair] for pair in asked]).tolist()))
    return found


def pair_scores(model: Any, eval_set: EvalSet, pairs: Sequence[Pair]) -> dict[Pair, float]:
    """Return how similar a model finds each caption and image; only these are encoded.

    Raises:
        EncodeError: A vector cannot be compared.
    """
    cosine = compares_by_cosine(model)
    task = task_of(eval_set).metadata
    texts = dict(eval_set.queries())
    queries, images = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    given = {"task_metadata": task, "hf_split": "test", "hf_subset": "default", "batch_size": BATCH}
    vectors = []
    for kind, ids, prompt in (("query", queries, PromptType.query), ("image", images, PromptType.document)):
        sys.stderr.write(f"encoding {len(ids):,} {'captions' if kind == 'query' else 'images'}\n")
        loader = _loader(eval_set, kind, ids, texts)
        encoded = model.encode(loader, prompt_type=prompt, **given)
        vectors.append(dict(zip(ids, checked_of(model, encoded, ids, kind, normalise=cosine))))
    return {(query, image): float(vectors[0][query] @ vectors[1][image]) for query, image in pairs}


class _SomeImages(CorpusImages):
    """Images of an evaluation set by their ids, not in a row."""

    def jpeg(self, index: int) -> bytes:
        """Return the JPEG bytes of row `index`, from 0 on."""
        return self._eval_set.jpeg(self.ids[index])

    def chunk(self, rows: range) -> CorpusImages:
        """Return the dataset of some consecutive rows."""
        return _SomeImages(self._eval_set, self.ids[rows.start : rows.stop])


def _loader(eval_set: EvalSet, kind: str, ids: list[str], texts: dict[str, str]) -> Any:
    if kind == "query":
        return text_loader(Dataset.from_dict({"id": ids, "text": [texts[one] for one in ids]}), BATCH)
    return image_loader(_SomeImages(eval_set, ids), BATCH, 0)


def _load(name: str) -> Any:
    mteb_vehicle_search.register()
    require_suited(mteb.get_model_meta(name), "judging")
    return mteb.get_model(name)
