"""The corpus does what a `datasets.Dataset` of the same files does, whatever mteb or a wrapper of its asks of it."""

import pickle

import datasets
import numpy as np
import pytest
from small_set import small_set

from mteb_vehicle_search.search.corpus import CorpusImages, image_loader


@pytest.fixture(scope="module")
def eval_set(tmp_path_factory):
    """150 images in several files."""
    return small_set(tmp_path_factory.mktemp("set") / "set", distractors=144, rows_per_file=40)


@pytest.fixture
def images(eval_set):
    return CorpusImages(eval_set, eval_set.corpus_ids())


@pytest.fixture(scope="module")
def true(eval_set, tmp_path_factory):
    """The same files, as `datasets` reads them."""
    files = sorted(str(path) for path in (eval_set.folder / "corpus").glob("*.parquet"))
    cache = tmp_path_factory.mktemp("cache")
    found = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(cache))
    assert len(files) > 1
    return found.cast_column("image", datasets.Image(mode="RGB"))


def same(found, wanted):
    """Whether two answers are the same, images by their pixels."""
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in wanted)
    if hasattr(wanted, "tobytes"):
        return found.mode == wanted.mode and found.size == wanted.size and found.tobytes() == wanted.tobytes()
    if not hasattr(wanted, "__len__") or isinstance(wanted, (str, bytes)):
        return found == wanted
    return len(found) == len(wanted) and all(same(one, other) for one, other in zip(found, wanted))


@pytest.mark.parametrize(
    "key",
    [
        *(0, 7, 149, -1, -150, np.int64(3), np.int32(-2), np.uint8(5)),
        *(slice(3), slice(-2, None), slice(10, 2, -3), slice(5, 5), slice(140, 1000)),
        *([0, -1, 3], (4, 2), range(2, 9, 3), np.array([5, -5]), [], [np.int64(1)]),
    ],
    ids=repr,
)
def test_every_kind_of_key_gives_what_datasets_gives(images, true, key):
    assert same(images[key], true[key])


@pytest.mark.parametrize("key", [150, -151, np.int64(150), [0, 150], [-151]])
def test_what_is_not_there_is_an_index_error_for_both(images, true, key):
    for one in (images, true):
        with pytest.raises(IndexError):
            one[key]


@pytest.mark.parametrize("key", ["text", 1.5, None])
def test_what_is_no_key_is_refused_by_both(images, true, key):
    for one in (images, true):
        with pytest.raises((KeyError, TypeError, ValueError)):
            one[key]


def test_columns_are_those_of_datasets(images, true):
    assert list(images["id"]) == list(true["id"])
    assert len(images["image"]) == len(true["image"]) == 150
    for key in (3, -1, slice(2, 4)):
        assert same(images["image"][key], true["image"][key])
    assert same(list(images["image"])[-3:], list(true["image"])[-3:])


def test_what_it_says_of_itself_is_what_datasets_says(images, true):
    assert len(images) == len(true)
    for name in ("num_rows", "shape", "column_names", "num_columns"):
        assert getattr(images, name) == getattr(true, name), name
    assert images.features["image"] == true.features["image"]
    assert images.features["id"].dtype in ("string", "large_string")
    assert same(list(images.chunk(range(38, 43))), [true[row] for row in range(38, 43)])
    assert images.__class__ is CorpusImages
    for name in ("nothing_of_the_kind", "__array__", "_private"):
        assert not hasattr(images, name)


def test_a_parts_last_image_is_its_own(images, true):
    part = images.chunk(range(100, 150))
    for key, row in ((-1, 149), (0, 100), (-50, 100), (49, 149), (np.int64(-1), 149)):
        assert same(part[key], true[row])
    for key in (50, -51):
        with pytest.raises(IndexError, match=r"There is no image -?5[01] among 50"):
            part[key]
    assert same(part[-3:], true[147:])
    assert same(part["image"][-1], true[149]["image"])


@pytest.mark.parametrize(
    "change",
    [
        lambda of: of.select([5, 3, 149]),
        lambda of: of.select(range(148, 150)),
        lambda of: of.map(lambda row: {"length": len(row["id"])}).select([2, 9]),
        lambda of: of.filter(lambda given: given.endswith("7"), input_columns=["id"]),
        lambda of: of.remove_columns(["id"]).select(range(2)),
        lambda of: of.rename_column("id", "name").select([1]),
        lambda of: of.select_columns(["id"]).select([1, 2]),
        lambda of: of.sort("id", reverse=True).select(range(3)),
        lambda of: of.take(2),
        lambda of: of.shard(50, 1, contiguous=True),
        lambda of: of.add_column("size", list(range(150))).select([7]),
    ],
)
def test_changes_are_those_of_a_true_dataset(images, true, change):
    found, wanted = change(images), change(true)
    assert isinstance(found, datasets.Dataset)
    assert found.column_names == wanted.column_names
    assert len(found) == len(wanted) > 0
    for row in range(len(wanted)):
        left, right = (
            {key: value for key, value in one[row].items() if not isinstance(value, int)} for one in (found, wanted)
        )
        assert same(left, right)
        assert [value for value in found[row].values() if isinstance(value, int)] == [
            value for value in wanted[row].values() if isinstance(value, int)
        ]


def test_rows_and_batches_are_those_of_datasets(images, true):
    part = images.chunk(range(3))
    assert same(part.to_list(), true.select(range(3)).to_list())
    assert same(list(part.iter(batch_size=2)), list(true.select(range(3)).iter(batch_size=2)))
    assert part.unique("id") == true.select(range(3)).unique("id")


def test_it_travels_to_another_process(images, true):
    for one, row in ((images, 149), (images.chunk(range(100, 120)), 119)):
        again = pickle.loads(pickle.dumps(one))  # noqa: S301
        assert type(again) is CorpusImages
        assert again.ids == one.ids
        assert same(again[-1], true[row])


def test_workers_that_are_no_forks_load_its_images(images, true):
    loader = image_loader(images.chunk(range(100, 108)), 4, 1)
    loader.multiprocessing_context = "spawn"
    assert same([batch["image"] for batch in loader], [true[a : a + 4]["image"] for a in (100, 104)])
