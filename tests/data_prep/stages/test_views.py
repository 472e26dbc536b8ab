"""Views on the disk: read as they were written, in stretches or row by row, whatever pieces they came in."""

import numpy as np
import pytest
from view_files import unit

from data_prep.stages import views as module
from data_prep.stages.views import Rows, Views, write_views
from mteb_vehicle_search.errors import BuildError

COUNT = 50
VECTORS = unit(np.random.default_rng(1).normal(size=(COUNT, 8)))
IDS = [f"i{number:04d}" for number in range(COUNT)]
HASHES = [2**64 - 1 - number for number in range(COUNT)]


def some(rows):
    return Rows([IDS[row] for row in rows], [f"{HASHES[row]:016x}" for row in rows], {"m": VECTORS[[*rows]]})


def written(path, pieces):
    with path.open("wb") as file:
        write_views(file, [some(rows) for rows in pieces])
    return path


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 16)


@pytest.fixture
def views(tmp_path):
    """All images in two files of several batches, and one without images between them."""
    first, second = [range(12), range(12, 33)], [range(33, COUNT)]
    return Views(tuple(written(tmp_path / name, of) for name, of in (("a", first), ("b", []), ("c", second))), "")


def test_they_are_read_as_they_were_written(views):
    assert views.ids() == IDS
    assert (views.hashes().dtype, views.hashes().tolist()) == (np.uint64, HASHES)
    assert (views.miners(), views.dimension("m")) == (["m"], 8)
    assert [len(chunk) for chunk in views.chunks("m")] == [16, 16, 1, 16, 1]
    np.testing.assert_array_equal(np.concatenate([*views.chunks("m")]), VECTORS)


def test_rows_are_taken_in_any_order_and_more_than_once(views):
    rows = np.array([49, 0, 15, 16, 32, 33, 31, 0, 48])
    found = views.take("m", rows)
    np.testing.assert_array_equal(found, VECTORS[rows])
    assert found.dtype == np.float32
    assert views.take("m", rows[:0]).shape == (0, 8)


@pytest.mark.parametrize(
    "pieces",
    [[range(COUNT)], [range(at, at + 1) for at in range(COUNT)], [range(7), range(7, 45), range(45, COUNT)]],
    ids=["one", "single rows", "some"],
)
def test_batches_do_not_depend_on_the_pieces_that_rows_come_in(tmp_path, pieces):
    views = Views((written(tmp_path / "a", pieces),), "")
    chunks = [*views.chunks("m")]
    assert [len(chunk) for chunk in chunks] == [16, 16, 16, 2]
    np.testing.assert_array_equal(np.concatenate(chunks), VECTORS)
    assert (views.ids(), views.hashes().tolist()) == (IDS, HASHES)
    with (tmp_path / "counted").open("wb") as file:
        assert write_views(file, (some(rows) for rows in pieces)) == COUNT


def test_a_file_without_images_has_no_rows(tmp_path):
    views = Views((written(tmp_path / "none", []),), "")
    assert (views.ids(), views.miners(), views.dimension("m"), [*views.chunks("m")]) == ([], [], 0, [])
    assert Views((), "").dimension("m") == 0


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_what_is_no_vector_is_an_error_that_names_the_first_image(tmp_path, bad):
    vectors = VECTORS.copy()
    vectors[3], vectors[5, 2] = (bad, np.nan)
    with (tmp_path / "bad").open("wb") as file, pytest.raises(BuildError) as error:
        write_views(file, [Rows(IDS, [f"{one:016x}" for one in HASHES], {"m": vectors})])
    assert error.value.message.startswith(f"The miner m gives no vector for 2 of {COUNT} images, first i0003: ")
