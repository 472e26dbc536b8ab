"""What a model predicts of judgments: it may sharpen an estimate, and decides nothing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.files import safe_name, write_whole
from mteb_vehicle_search.judgments.judgment import MODEL

FOLDER = "predicted"
AGAIN = "Predict again: vehicle-search judge --predict MODEL"


class Predictions(NamedTuple):
    """How likely people are to say of an image that it is right.

    Attributes:
        name, revision: Of the model.
        content_id: Of the evaluation set.
        sample: The id of the sample whose images in question they are.
        judged: On how many judged pairs they rest.
        probabilities: (query, image) -> 0 to 1, of each pair from the judgments of other clusters.
    """

    name: str
    revision: str
    content_id: str
    sample: str
    judged: int
    probabilities: Mapping[tuple[str, str], float]


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


def read_predictions(folder: Path) -> list[Predictions]:
    """Return all predictions below a folder of judgments, by the names of their files.

    Raises:
        ResultsError: A file is damaged, or holds what is no probability.
    """
    return [_read(path) for path in sorted((folder / FOLDER).glob("[!.]*.parquet"))]


def _read(path: Path) -> Predictions:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["query", "image", "probability"])
        facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        rows = zip(*(table[name].to_pylist() for name in ("query", "image", "probability")))
        found = {(query, image): float(value) for query, image, value in rows}
        of_model = facts["name"], facts["revision"]
        predictions = Predictions(*of_model, facts["content_id"], facts["sample"], int(facts["judged"]), found)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise ResultsError(f"{path} holds no predictions: {type(error).__name__} {error}.", AGAIN) from error
    if not all(0 <= value <= 1 for value in found.values()):
        raise ResultsError(f"{path} holds what is no probability.", AGAIN)
    return predictions
