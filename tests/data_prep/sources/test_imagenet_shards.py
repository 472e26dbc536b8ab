"""The hub's shards: which rows are read, which layouts and sets of files are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.sources.imagenet.classes import wnids
from data_prep.sources.imagenet.shards import EXPECTED, SHARD, complete_set, read_shard, split_of
from mteb_vehicle_search.errors import SourceError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def name_of(row: int, label: int) -> str:
    return f"{wnids()[label]}_{row}_{wnids()[label]}.JPEG"


def write(path: Path, labels: list[Any], rows_per_group: int = 3, images: list[Any] | None = None) -> Path:
    """Rows whose image is their number."""
    known = [label if label in range(1000) else 0 for label in labels]
    found = [{"bytes": str(row).encode(), "path": name_of(row, label)} for row, label in enumerate(known)]
    table = pa.table({"label": pa.array(labels, pa.int64()), "image": pa.array(images or found, IMAGE)})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def refused(path: Path, wanted: set[int] = frozenset({7})) -> str:
    with pytest.raises(SourceError) as caught:
        list(read_shard(path, "train", wanted))
    return str(caught.value)


@pytest.fixture
def read(monkeypatch):
    """The row groups that are read, and with which columns."""
    groups = []
    original = pq.ParquetFile.read_row_group

    def recorded(file: pq.ParquetFile, group: int, **options: Any) -> pa.Table:
        groups.append((group, options["columns"]))
        return original(file, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", recorded)
    return groups


@pytest.mark.parametrize("rows_per_group", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("wanted", [{7}, {7, 436}, {0, 999}, {5}, set()], ids=str)
def test_the_wanted_rows_are_given_in_their_order(tmp_path, rows_per_group, wanted):
    labels = [int(n) for n in np.random.default_rng(0).choice([0, 7, 436, 999, 8], 17)]
    path = write(tmp_path / "s.parquet", labels, rows_per_group)
    images = list(read_shard(path, "val", wanted))
    expected = [(row, label) for row, label in enumerate(labels) if label in wanted]
    assert [(int(image.data), image.class_index) for image in images] == expected
    assert [image.id for image in images] == [f"imagenet/val/{wnids()[label]}_{row}" for row, label in expected]
    assert {(image.source, image.split, image.problem) for image in images} <= {("imagenet", "val", "")}


def test_only_groups_with_a_wanted_row_are_read_and_of_them_only_the_images(tmp_path, read):
    path = write(tmp_path / "s.parquet", [1, 1, 1, 1, 7, 1, 1, 1, 1, 7], 3)
    assert [int(image.data) for image in read_shard(path, "train", {7})] == [4, 9]
    assert read == [(1, ["image"]), (3, ["image"])]


@pytest.mark.parametrize("label", [-1, 1000, None])
def test_a_label_that_is_no_class_is_named_with_its_row_even_where_nobody_wants_it(tmp_path, label):
    path = write(tmp_path / "s.parquet", [7, 0, 999, 7, label, label])
    shown = -1 if label is None else label
    said = f"{path}, row 4: label {shown} is no ImageNet-1k class\nDelete the file and get it again."
    assert refused(path) == said


def test_absent_images_names_and_bytes_are_left_to_the_image_stage(tmp_path):
    images = [
        {"bytes": b"0", "path": name_of(0, 7)},
        {"bytes": None, "path": name_of(1, 7)},
        None,
        {"bytes": b"3", "path": None},
        {"bytes": b"4", "path": name_of(4, 8)},
    ]
    path = write(tmp_path / "s.parquet", [7] * 5, 2, images)
    found = list(read_shard(path, "train", {7}))
    wnid = wnids()[7]
    assert [(image.id, image.data) for image in found] == [
        (f"imagenet/train/{wnid}_0", b"0"),
        (f"imagenet/train/{wnid}_1", b""),
        (f"imagenet/train/{wnid}/row 2 of s.parquet", b""),
        (f"imagenet/train/{wnid}/row 3 of s.parquet", b""),
        (f"imagenet/train/{wnid}/{name_of(4, 8)}", b""),
    ]
    assert [bool(image.problem) for image in found] == [False, False, True, True, True]


LAYOUTS = {
    "no image": ({"label": [1]}, "label (int64)"),
    "no label": (
        {"image": pa.array([{"bytes": b"x", "path": "x"}], IMAGE)},
        "image (struct<bytes: binary, path: string>)",
    ),
    "images as bytes": ({"image": [b"x"], "label": [1]}, "image (binary), label (int64)"),
    "no path": ({"image": [{"bytes": b"x"}], "label": [1]}, "image (struct<bytes: binary>), label (int64)"),
    "no bytes": ({"image": [{"path": "x"}], "label": [1]}, "image (struct<path: string>), label (int64)"),
    "labels as text": (
        {"image": pa.array([{"bytes": b"x", "path": "x"}], IMAGE), "label": ["1"]},
        "image (struct<bytes: binary, path: string>), label (string)",
    ),
}


@pytest.mark.parametrize(("columns", "says"), LAYOUTS.values(), ids=LAYOUTS)
def test_another_layout_is_shown(tmp_path, columns, says):
    pq.write_table(pa.table(columns), tmp_path / "s.parquet")
    assert refused(tmp_path / "s.parquet") == f"{tmp_path}/s.parquet is not in the hub's layout: {says}\n{EXPECTED}"


def test_of_a_long_layout_the_beginning_is_shown(tmp_path):
    pq.write_table(pa.table({"x" * 300: [1]}), tmp_path / "s.parquet")
    assert (
        refused(tmp_path / "s.parquet") == f"{tmp_path}/s.parquet is not in the hub's layout: {'x' * 200}\n{EXPECTED}"
    )


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64()], ids=str)
def test_labels_of_any_whole_kind_and_more_columns_are_accepted(tmp_path, kind):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string()), ("more", pa.int8())])
    images = pa.array([{"bytes": b"x", "path": name_of(0, 7), "more": 1}], image)
    pq.write_table(pa.table({"a": [1], "image": images, "label": pa.array([7], kind)}), tmp_path / "s.parquet")
    assert [image.data for image in read_shard(tmp_path / "s.parquet", "train", {7})] == [b"x"]


def test_a_damaged_shard(tmp_path):
    path = write(tmp_path / "s.parquet", [7] * 5)
    path.write_bytes(path.read_bytes()[:-9])
    assert refused(path).startswith(f"{path} is damaged: ")
    assert refused(path).endswith("\nDelete the file and get it again.")
    path.unlink()
    assert refused(path).startswith(f"{path} is damaged: ")


def names(split: str, numbers: list[int], of: int) -> list[str]:
    return [f"{split}-{number:05d}-of-{of:05d}.parquet" for number in numbers]


WHOLE = [*names("validation", [1, 0], 2), *names("train", [2, 0, 1], 3)]


def test_a_whole_set_is_ordered_train_first_by_number():
    files = {name: f"/{name}" for name in [*WHOLE, "test-00000-of-00028.parquet", "README.md", "xtrain-00000-of-00001"]}
    ordered = [*names("train", [0, 1, 2], 3), *names("validation", [0, 1], 2)]
    assert list(complete_set(files, "here").items()) == [(name, f"/{name}") for name in ordered]


INCOMPLETE = {
    "nothing": ([], f"here holds no shards for train; here holds no shards for validation\n{EXPECTED}"),
    "no validation": (names("train", [0], 1), f"here holds no shards for validation\n{EXPECTED}"),
    "no train": (names("validation", [0], 1), f"here holds no shards for train\n{EXPECTED}"),
    "two sets": ([*WHOLE, *names("train", [3], 4)], f"here holds shards of several sets for train\n{EXPECTED}"),
    "two sets of validation": (
        [*WHOLE, *names("validation", [2], 4)],
        f"here holds shards of several sets for validation\n{EXPECTED}",
    ),
    "the first is missing": (
        [*names("train", [1, 2], 3), *names("validation", [0], 1)],
        "here lacks 1 of the train shards: 0\nDownload them as well.",
    ),
    "the last of validation is missing": (
        [*names("train", [0], 1), *names("validation", [0, 1], 3)],
        "here lacks 1 of the validation shards: 2\nDownload them as well.",
    ),
    "ten are missing": (
        [*names("train", [10], 11), *names("validation", [0], 1)],
        "here lacks 10 of the train shards: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\nDownload them as well.",
    ),
    "eleven are missing": (
        [*names("train", [11], 12), *names("validation", [0], 1)],
        "here lacks 11 of the train shards: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 ...\nDownload them as well.",
    ),
}


def test_only_splits_that_are_used_must_be_whole():
    files = names("validation", [0], 1) + names("train", [1], 2)
    assert list(complete_set(dict.fromkeys(files), "here", ["val"])) == names("validation", [0], 1)
    with pytest.raises(SourceError, match="lacks 1 of the train shards"):
        complete_set(dict.fromkeys(files), "here", ["train"])


@pytest.mark.parametrize(("files", "says"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_a_set_that_is_not_whole(files, says):
    with pytest.raises(SourceError) as caught:
        complete_set(dict.fromkeys(files), "here")
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("name", "ok"),
    [
        ("train-00000-of-00294.parquet", True),
        ("validation-00013-of-00014.parquet", True),
        ("test-00000-of-00028.parquet", False),
        ("train-0000-of-00294.parquet", False),
        ("train-00000-of-00294.parquet.incomplete", False),
        ("xtrain-00000-of-00294.parquet", False),
    ],
)
def test_names_of_shards(name, ok):
    assert bool(SHARD.fullmatch(name)) is ok


def test_splits_have_short_names():
    assert split_of("train-00000-of-00294.parquet") == "train"
    assert split_of("validation-00000-of-00014.parquet") == "val"
