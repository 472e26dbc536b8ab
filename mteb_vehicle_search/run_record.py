"""The run record: what one run of one model did, query by query."""

from __future__ import annotations

import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.files import new_folder
from mteb_vehicle_search.settings import runs_folder

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
TOP = 10


def model_folder_name(model_name: str, revision: str | None) -> str:
    """Return the folder name of a model: `/` becomes `__`, as in mteb's result tree."""
    kept = "".join(c if c.isalnum() or c in "._-+" else "_" for c in model_name.replace("/", "__"))
    return f"{kept}__{revision or 'no_revision_available'}"


class RunRecord:
    """A run record on disk.

    Attributes:
        folder: Where it lies: `<runs>/<content id>/<model>__<revision>`.
        info: The parsed `run.json`: how the run was made (versions, device, precision, rates, timings, scores).
    """

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder = folder
        self.info = info

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> RunRecord:
        """Open the record in `folder`.

        Raises:
            ResultsError: Files are missing, damaged, or of another schema version.
        """
        folder = Path(folder)
        path = folder / "run.json"
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
            version = info["schema_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultsError(f"{folder} is not a run record: {error}.") from error
        if version != SCHEMA_VERSION:
            raise ResultsError(f"{path} has schema version {version}; this package reads {SCHEMA_VERSION}.")
        if not (folder / "queries.parquet").is_file():
            raise ResultsError(f"{folder} has no queries.parquet.", "Run the model again.")
        return cls(folder, info)

    @classmethod
    def find(cls, root: str | os.PathLike[str] | None = None, content_id: str | None = None) -> list[RunRecord]:
        """Return all readable records under `root` (default: the runs folder), sorted by folder."""
        root = Path(root) if root else runs_folder()
        records = []
        for path in sorted(root.glob(f"{content_id or '*'}/*/run.json")):
            try:
                records.append(cls.open(path.parent))
            except ResultsError as error:
                import warnings

                warnings.warn(f"Skipped: {error.message}", stacklevel=2)
        return records

    def queries(self) -> pa.Table:
        """Return one row per (query, relevant image), sorted by both ids.

        Columns: `query_id`, `relevant_id`, `rank` (int32, 1 = best, over the whole corpus, the relevant image last
        among equals), `score` (float32), `tied` (int32, other images with the very same score), `above_<source>`
        (int32, images of that source that rank above; their sum is rank - 1), `top_ids` and `top_scores` (lists of at
        most 10, in rank order).

        Raises:
            ResultsError: The file is damaged.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / "queries.parquet"
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(f"{path} cannot be read: {error}.", "Run the model again.") from error


def write_run_record(
    content_id: str, model_name: str, revision: str | None, queries: pa.Table, info: dict[str, Any]
) -> RunRecord:
    """Write a record under the runs folder and open it; it appears whole or not at all, and replaces an earlier one.

    Args:
        content_id: Of the evaluation set.
        model_name: As mteb names it, such as "org/model", like the `revision`.
        queries: The table that `RunRecord.queries` describes.
        info: Strict JSON content of `run.json`; the schema version is added.
    """
    import pyarrow.parquet as pq

    folder = runs_folder() / content_id / model_folder_name(model_name, revision)
    ordered = queries.sort_by([("query_id", "ascending"), ("relevant_id", "ascending")])
    text = json.dumps({"schema_version": SCHEMA_VERSION, **info}, indent=2, allow_nan=False, ensure_ascii=False)
    with new_folder(folder) as partial:
        pq.write_table(ordered, partial / "queries.parquet", compression="zstd")
        (partial / "run.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    return RunRecord.open(folder)


PACKAGES = (
    *("mteb-vehicle-search", "mteb", "torch", "torchvision", "transformers", "open_clip_torch", "timm"),
    *("tokenizers", "pillow", "simplejpeg"),
)


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a score."""
    return {package: found for package in PACKAGES if (found := version_of(package))}


def version_of(package: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
