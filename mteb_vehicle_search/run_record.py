"""The run record: what one run of one model did, query by query."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.files import new_folder, recover_folder, safe_name
from mteb_vehicle_search.settings import runs_folder

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
TOP = 10
NO_REVISION = "no_revision_available"
# What `implementation_of` says of models that this package loads.
OWN_CODE = "mteb_vehicle_search"


class RunKey(NamedTuple):
    """Everything that decides the numbers of a run: what tells one run from another, everywhere.

    Attributes:
        content_id: Of the evaluation set.
        images_id: Of the JPEG bytes that were searched; "" where an earlier version did not write it down.
        model: As mteb names it, such as "org/model".
        revision: "" if there is none.
        options: What the model was loaded with or asked for beyond the defaults (mteb's experiment), by name.
        precision: Of the computation, such as "fp32"; "unknown" for encoders that do not tell.
        preprocess: "exact" or "fast"; "" for encoders that do not tell.
    """

    content_id: str
    images_id: str
    model: str
    revision: str
    options: tuple[tuple[str, str], ...] = ()
    precision: str = "unknown"
    preprocess: str = ""

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> RunKey:
        """Return the key of a run from its `run.json`, also of one that was written before all of it was recorded.

        Precision and preprocessing are no options beside themselves: a model that is asked for with `precision="fp32"`
        is mteb's experiment, but no other run than one in fp32.
        """
        encoder, given = (one if isinstance(one := info.get(key), dict) else {} for key in ("encoder", "options"))
        options = {str(key): str(value) for key, value in sorted(given.items())}
        asked = [options.pop(mode, "") for mode in ("precision", "preprocess")]
        precision = str(info.get("precision") or "unknown")
        revision = str(info.get("model_revision") or "")
        content_id, images_id, model = (str(info.get(key) or "") for key in ("content_id", "images_id", "model_name"))
        return cls(
            content_id,
            images_id,
            model,
            "" if revision == NO_REVISION else revision,
            tuple(options.items()),
            asked[0] if asked[0] and precision == "unknown" else precision,
            str(info.get("preprocess") or encoder.get("preprocess") or asked[1]),
        )

    @property
    def name(self) -> str:
        """The model with its options: `org/model[embed_dim=64]`."""
        return self.model + _bracketed(self.options)

    @property
    def full_name(self) -> str:
        """All but the evaluation set: `org/model@revision[embed_dim=64,precision=fp32,preprocess=exact]`."""
        modes = (("precision", self.precision), ("preprocess", self.preprocess))
        options = dict([*self.options, *((key, value) for key, value in modes if value)])
        return f"{self.model}@{self.revision or NO_REVISION}{_bracketed(options.items())}"

    @property
    def folder_name(self) -> str:
        """A name for the file system that no other key has: readable, safe everywhere, with a digest of the key."""
        readable = f"{self.model.replace('/', '__')}__{self.revision[:12] or NO_REVISION}"
        return safe_name(readable, self)


def _bracketed(options: Iterable[tuple[str, str]]) -> str:
    text = ",".join(f"{key}={value}" for key, value in options)
    return f"[{text}]" if text else ""


def options_of(experiment: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the options of a run from mteb's `experiment_kwargs`, each value as a text."""
    return {
        str(key): value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
        for key, value in sorted((experiment or {}).items())
    }


def implementation_of(meta: Any) -> str:
    """Return the package whose code loads a model, such as "mteb"; "" if its `ModelMeta` has no loader in a package."""
    loader = getattr(meta, "loader", None)
    package = str(getattr(getattr(loader, "func", loader), "__module__", "")).partition(".")[0]
    return "" if package == "__main__" else package


def record_files(root: Path, content_id: str | None = None) -> list[Path]:
    """Return the `run.json` of every record in a folder and all below it, sorted; only of one set if it is given.

    A record that a process which died had moved aside is put back first; one that it left unfinished is none.
    """
    for old in list(root.rglob(".*.old")):
        recover_folder(old.with_name(old.name[1:].removesuffix(".old")))
    below = (path for path in root.rglob("run.json") if not path.parent.name.startswith("."))
    return sorted(path for path in below if content_id in (None, path.parent.parent.name))


class RunRecord:
    """A run record on disk.

    Attributes:
        folder: Where it lies: `<runs>/<content id>/<folder name of its key>`.
        info: The parsed `run.json`: how the run was made (versions, device, precision, rates, timings, scores).
    """

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder = folder
        self.info = info

    @property
    def key(self) -> RunKey:
        """What decided its numbers."""
        return RunKey.of(self.info)

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
        records = []
        for path in record_files(Path(root) if root else runs_folder(), content_id):
            try:
                records.append(cls.open(path.parent))
            except ResultsError as error:
                import warnings

                warnings.warn(f"Skipped: {error.message}", stacklevel=2)
        return records

    def queries(self) -> pa.Table:
        """Return one row per (query, relevant image), sorted by both ids.

        Columns: `query_id`, `relevant_id`, `rank` (int32, 1 = best, over the whole corpus, the relevant image last
        among equals that are not relevant), `score` (float32), `tied` (int32, not relevant images with the very same
        score), `grade` (int32, how relevant; 1 where an earlier record lacks it), `above_<group>` (int32, images of
        that group that rank above, which is a source, or of a sample of a pool see `eval_set.groups`; their sum is
        rank - 1), `top_ids` and `top_scores` (lists of at most 10, in rank order).

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


def write_run_record(queries: pa.Table, info: dict[str, Any]) -> RunRecord:
    """Write a record under the runs folder and open it; it appears whole or not at all, and replaces that of its key.

    Args:
        queries: The table that `RunRecord.queries` describes.
        info: Strict JSON content of `run.json`, with all that `RunKey.of` reads; the schema version is added.

    Raises:
        ResultsError: Something else is in its place.
    """
    import pyarrow.parquet as pq

    key = RunKey.of(info)
    folder = runs_folder() / safe_name(key.content_id) / key.folder_name
    if folder.exists() and not (folder / "run.json").is_file():
        raise ResultsError(f"{folder} is in the way: it is not a run record.", "Move it elsewhere.")
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
