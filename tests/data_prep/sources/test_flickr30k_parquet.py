"""The hub's parquet files give the images in the order of their names, whatever order they are stored in."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.sources.flickr30k import parquet as flickr30k_parquet
from data_prep.sources.flickr30k.captions import EXPECTED
from data_prep.sources.flickr30k.parquet import ParquetFlickr30k
from data_prep.storage.local import LocalTree
from mteb_vehicle_search.errors import SourceError

FIVE = ["one", "two", "three", "four", "five"]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, names: list[str], rows_per_group: int = 2, **columns: Any) -> Path:
    """Rows whose image is their name; `columns` replaces columns, or leaves out those that are None."""
    table = {
        "img_id": list(range(len(names))),
        "image": pa.array([{"bytes": name.encode(), "path": name} for name in names], IMAGE),
        "caption": [FIVE] * len(names),
        "split": ["val"] * len(names),
        "filename": names,
        **columns,
    }
    kept = {name: values for name, values in table.items() if values is not None}
    pq.write_table(pa.table(kept), path, row_group_size=rows_per_group)
    return path


def parquet(shards: list[Path], folder: Path) -> ParquetFlickr30k:
    return ParquetFlickr30k(LocalTree(folder), [path.relative_to(folder).as_posix() for path in shards])


def refused(*shards: Path) -> str:
    with pytest.raises(SourceError) as caught:
        list(parquet(list(shards), shards[0].parent).images())
    return str(caught.value)


@pytest.fixture
def read(monkeypatch):
    """The row groups that are read for their images, in order."""
    groups = []
    original = flickr30k_parquet._read_group
    monkeypatch.setattr(
        flickr30k_parquet,
        "_read_group",
        lambda tree, name, group: (groups.append((tree.root / name, group)), original(tree, name, group))[1],
    )
    return groups


def test_files_in_order_are_read_group_by_group(tmp_path, read):
    one = write(tmp_path / "1.parquet", ["10.jpg", "11.jpg", "2.jpg"])
    other = write(tmp_path / "0.parquet", ["30.jpg", "4.jpg", "9.jpg", "90.jpg", "91.jpg"])
    source = parquet([one, other], tmp_path)
    images = list(source.images())
    assert [image.data.decode() for image in images] == [
        *("10.jpg", "11.jpg", "2.jpg"),
        *("30.jpg", "4.jpg", "9.jpg", "90.jpg", "91.jpg"),
    ]
    assert [image.id for image in images] == [f"flickr30k/{image.data.decode()[:-4]}" for image in images]
    assert {(image.captions, image.split) for image in images} == {(tuple(FIVE), "val")}
    assert read == [(one, 0), (one, 1), (other, 0), (other, 1), (other, 2)]
    assert source.count() == 8
    assert source.describe()["form"] == "parquet"
    assert source.describe()["location"] == str(tmp_path)
    assert source.describe()["revision"] == ""
    assert source.describe()["files"] == ["1.parquet", "0.parquet"]


@pytest.mark.parametrize("order", list(itertools.permutations("abcd")), ids="".join)
def test_any_order_is_mended(tmp_path, order):
    names = [f"{letter}.jpg" for letter in order]
    shards = [write(tmp_path / "0.parquet", names[:2], 1), write(tmp_path / "1.parquet", names[2:])]
    images = list(parquet(shards, tmp_path).images())
    assert [image.data.decode() for image in images] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_of_files_in_another_order_each_group_is_read_once_while_it_is_needed(tmp_path, read):
    one = write(tmp_path / "0.parquet", ["3.jpg", "4.jpg", "1.jpg", "9.jpg"])
    other = write(tmp_path / "1.parquet", ["5.jpg", "6.jpg"])
    images = list(parquet([one, other], tmp_path).images())
    assert [image.data.decode()[0] for image in images] == list("134569")
    assert read == [(one, 1), (one, 0), (other, 0), (one, 1)]


@pytest.mark.parametrize(
    ("names", "others"), [(["1.jpg", "2.jpg"], ["2.jpg", "3.jpg"]), (["1.jpg", "4.jpg"], ["5.jpg", "1.jpg"])]
)
def test_a_name_that_stands_twice(tmp_path, names, others):
    shards = [write(tmp_path / "0.parquet", names), write(tmp_path / "1.parquet", others)]
    twice = (set(names) & set(others)).pop()
    assert refused(*shards) == f"{twice} stands twice: in {shards[0]} and {shards[1]}"


@pytest.mark.parametrize("gone", ["image", "caption", "filename"])
def test_a_missing_column_is_named(tmp_path, gone):
    sound = write(tmp_path / "0.parquet", ["1.jpg"])
    bad = write(tmp_path / "1.parquet", ["2.jpg"], **{gone: None})
    there = ", ".join(name for name in ("img_id", "image", "caption", "split", "filename") if name != gone)
    assert refused(sound, bad) == f"{bad} has no column {gone}; it has {there}\n{EXPECTED}"


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (pa.array([b"x"]), "binary"),
        (pa.array([{"path": "x"}]), "struct<path: string>"),
        (pa.array([[b"bytes"]]), "list<"),
    ],
    ids=["bytes", "no bytes", "a list"],
)
def test_a_column_of_images_that_is_something_else(tmp_path, image, kind):
    bad = write(tmp_path / "0.parquet", ["1.jpg"], image=image)
    assert refused(bad).startswith(f"{bad}: column image is {kind}")
    assert refused(bad).endswith(f", not a struct with bytes\n{EXPECTED}")


def test_the_split_may_be_absent_and_other_columns_are_not_looked_at(tmp_path):
    plain = write(tmp_path / "0.parquet", ["1.jpg"], split=None, other=[b"x"])
    (image,) = parquet([plain], tmp_path).images()
    assert (image.split, image.data, image.captions) == ("", b"1.jpg", tuple(FIVE))


@pytest.mark.parametrize("image", [None, {"bytes": None, "path": "1.jpg"}])
def test_absent_bytes_are_left_to_the_image_stage(tmp_path, image):
    path = write(tmp_path / "0.parquet", ["1.jpg"], image=pa.array([image], IMAGE))
    (found,) = parquet([path], tmp_path).images()
    assert (found.id, found.data, found.problem) == ("flickr30k/1", b"", "")


@pytest.mark.parametrize(
    "order", [["1.jpg", "2.jpg", "3.jpg", "4.jpg"], ["4.jpg", "2.jpg", "3.jpg", "1.jpg"]], ids=["in order", "shuffled"]
)
@pytest.mark.parametrize("row", [0, 1, 2, 3])
def test_a_bad_row_is_named_with_file_group_and_row(tmp_path, order, row):
    told = [[] if number == row else FIVE for number in range(4)]
    path = write(tmp_path / "0.parquet", order, caption=told)
    where = f"{path}, row group {row // 2}, row {row % 2}"
    assert refused(path) == f"{where}: {order[row]} does not have five captions but []\n{EXPECTED}"


def test_a_name_that_is_none(tmp_path):
    path = write(tmp_path / "0.parquet", ["1.jpg"], filename=pa.array([None], pa.string()))
    assert "row group 0, row 0: None is not the name of a JPEG file" in refused(path)


def test_a_file_cut_short(tmp_path):
    sound = write(tmp_path / "0.parquet", ["1.jpg"])
    cut = write(tmp_path / "1.parquet", ["2.jpg"])
    cut.write_bytes(cut.read_bytes()[:-20])
    assert refused(sound, cut).startswith(f"{cut} is damaged: ")
    assert refused(sound, cut).endswith("\nDownload the file again.")
    sound.unlink()
    assert refused(sound, cut) == f"{sound} cannot be read: No such file or directory"
