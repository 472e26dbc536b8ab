"""What a model predicts of judgments: it may sharpen an estimate, and decides nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.files import safe_name, write_whole
from mteb_vehicle_search.judgments.judgment import MODEL
from mteb_vehicle_search.judgments.sample import Sample

FOLDER = "predicted"
AGAIN = "Predict again: vehicle-search judge --predict MODEL"


class Predictions(NamedTuple):
    """How likely people are to say of an image that it is right.

    Attributes:
        name, revision: Of the model.
        content_id, images_id: Of the evaluation set whose images the model looked at.
        sample: The id of the sample whose images in question they are.
        judged: On how many judged pairs they rest.
        probabilities: (query, image) -> 0 to 1, of each pair from the judgments of other clusters.
    """

    name: str
    revision: str
    content_id: str
    images_id: str
    sample: str
    judged: int
    probabilities: Mapping[tuple[str, str], float]

    @property
    def model(self) -> str:
        """The model with its revision."""
        return f"{self.name}@{self.revision}" if self.revision else self.name

    def misfit(self, sample: Sample) -> str:
        """Return why they are not of the images in question of their sample; "" if they are."""
        if sample.images_id and self.images_id != sample.images_id:
            return (
                f"the model looked at the images with images id {self.images_id[:12]}, people judged those with "
                f"{sample.images_id[:12]}"
            )
        lacking = len(sample.pairs - self.probabilities.keys())
        if lacking:
            return f"it lacks {lacking:,} of the {len(sample.pairs):,} images in question of the sample {sample.id}"
        return ""


def write_predictions(folder: Path, predictions: Predictions) -> Path:
    """Write them below a folder of judgments and return the file; it replaces that of the same model and sample."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = {**predictions._asdict(), "judged": str(predictions.judged), "kind": MODEL}
    del facts["probabilities"]
    pairs = sorted(predictions.probabilities.items())
    table = pa.table(
        {
            "query": pa.array([query for (query, _), _ in pairs], pa.string()),
            "image": pa.array([image for (_, image), _ in pairs], pa.string()),
            "probability": pa.array([value for _, value in pairs], pa.float64()),
        }
    ).replace_schema_metadata(facts)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    identity = [predictions.name, predictions.revision, predictions.sample]
    path = folder / FOLDER / f"{safe_name(predictions.name.replace('/', '__'), identity)}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getvalue())
    return path


def predictions_in(folder: Path) -> list[Path]:
    """Return the files of all predictions below a folder of judgments, sorted."""
    return sorted((folder / FOLDER).glob("[!.]*.parquet"))


def read_predictions(path: Path) -> Predictions:
    """Read a file of predictions.

    Raises:
        ResultsError: It is damaged, or holds what is no probability.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["query", "image", "probability"])
        facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        rows = zip(*(table[name].to_pylist() for name in ("query", "image", "probability")))
        found = {(query, image): float(value) for query, image, value in rows}
        texts = {key: facts[key] for key in ("name", "revision", "content_id", "images_id", "sample")}
        predictions = Predictions(**texts, judged=int(facts["judged"]), probabilities=found)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise ResultsError(f"{path} holds no predictions: {type(error).__name__} {error}.", AGAIN) from error
    if not all(0 <= value <= 1 for value in found.values()):
        raise ResultsError(f"{path} holds what is no probability.", AGAIN)
    return predictions
