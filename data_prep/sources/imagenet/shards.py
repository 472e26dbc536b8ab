"""The hub's parquet shards of ImageNet-1k: their names and what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.sources import SPLITS, UNWANTED, SourceImage
from data_prep.sources.imagenet.classes import classed_image, wnids
from data_prep.storage import PassedOver
from mteb_vehicle_search.errors import SourceError

EXPECTED = (
    "Expected one of: the hub's shards (train-00000-of-00294.parquet ...), ILSVRC2012_img_train.tar with "
    "ILSVRC2012_img_val.tar and the devkit or val/<wnid>/, train/<wnid>/*.JPEG with val/<wnid>/*.JPEG, or with a flat "
    "val/ and the devkit or LOC_val_solution.csv (Kaggle's copy, unpacked or the zip), or webdataset tars; a folder, a "
    "zip, or an address of https://, s3://, gs:// or hf://; or: hub"
)
SHARD = re.compile(r"(train|validation)-(\d{5})-of-(\d{5})\.parquet")


def read_shard(
    path: Path | str, split: str, wanted: set[int], passed: PassedOver | None = None, file: BinaryIO | None = None
) -> Iterator[SourceImage]:
    """The wanted images of one of the hub's shards, in its order; `file` if it is open already.

    Reads the labels first (a few kilobytes), then only the row groups with a wanted image, and makes Python objects of
    wanted rows alone.

    Raises:
        SourceError: If the file is damaged or is not in the hub's layout.
    """
    names = wnids()
    classes = np.array(sorted(wanted), dtype=np.int64)
    try:
        with pq.ParquetFile(path if file is None else file) as parquet:
            _check_layout(parquet.schema_arrow, path)
            labels = parquet.read(columns=["label"]).column("label").fill_null(-1).to_numpy()
            if odd := np.flatnonzero((labels < 0) | (labels >= len(names))).tolist():
                raise SourceError(
                    f"{path}, row {odd[0]}: label {labels[odd[0]]} is no ImageNet-1k class",
                    "Delete the file and get it again.",
                )
            if passed is not None:
                passed[UNWANTED] += int((~np.isin(labels, classes)).sum())
            start = 0
            for group in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                chosen = np.flatnonzero(np.isin(labels[start : start + rows], classes))
                if chosen.size:
                    images = parquet.read_row_group(group, columns=["image"], use_threads=False).column("image")
                    for row in chosen.tolist():
                        found = images[row].as_py() or {}
                        # Absent bytes become an empty file, which the image stage rejects with a row of its own.
                        name = found.get("path") or f"row {start + row} of {PurePath(path).name}"
                        yield classed_image(name, found.get("bytes") or b"", split, int(labels[start + row]))
                start += rows
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} is damaged: {error}", "Delete the file and get it again.") from error


def _check_layout(schema: Any, path: Path | str) -> None:
    if {"image", "label"} <= set(schema.names):
        image, label = schema.field("image").type, schema.field("label").type
        fields = {field.name for field in image.fields} if pa.types.is_struct(image) else set()
        if {"bytes", "path"} <= fields and pa.types.is_integer(label):
            return
    columns = ", ".join(f"{name} ({schema.field(name).type})" for name in schema.names)
    raise SourceError(f"{path} is not in the hub's layout: {columns:.200}", EXPECTED)


def complete_set(files: dict[str, Any], where: str, splits: Sequence[str] = SPLITS) -> dict[str, Any]:
    """The shards of the splits among `files`, train first.

    Raises:
        SourceError: If some of the numbers that the names promise are missing.
    """
    complete, missing = {}, []
    for split in ("train", "validation"):
        if split_of(split) not in splits:
            continue
        matches = [match for match in map(SHARD.fullmatch, files) if match and match[1] == split]
        found, totals = {int(match[2]): match[0] for match in matches}, {int(match[3]) for match in matches}
        if len(totals) != 1:
            what = "no shards" if not found else "shards of several sets"
            missing.append(SourceError(f"{where} holds {what} for {split}", EXPECTED))
            continue
        absent = sorted(set(range(*totals)) - set(found))
        if absent:
            listed = ", ".join(map(str, absent[:10])) + (" ..." if len(absent) > 10 else "")
            what = f"{where} lacks {len(absent)} of the {split} shards: {listed}"
            missing.append(SourceError(what, "Download them as well."))
        complete |= {name: files[name] for _, name in sorted(found.items())}
    if missing:
        raise SourceError("; ".join(error.message for error in missing), missing[0].hint)
    return complete


def split_of(name: str) -> str:
    """`train` or `val`."""
    return "train" if name.startswith("train") else "val"
