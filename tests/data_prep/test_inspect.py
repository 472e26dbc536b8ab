"""Counts by source, class and size, and a contact sheet whose cells show what they say."""

from __future__ import annotations

import argparse
import inspect as signatures
import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from small_set import provenance, small_set

from data_prep.inspect import contact_sheet, main, summarise
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage, Qrel, Query

# Of a cell: an image of 40 px, the id and a line of 17 px each, and gaps of 8 px.
WIDTH_PX, HEIGHT_PX, GAP_PX, COLUMNS = 220, 40 + 2 * 17 + 3 * 8, 8, 6


def colour(number: int) -> tuple[int, int, int]:
    """A colour of its own for each of 27 numbers, far from all others and from white."""
    return number % 3 * 100, number // 3 % 3 * 100, number // 9 % 3 * 100


def png(number: int, size=(60, 40)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour(number)).save(file, "PNG")
    return file.getvalue()


def a_set(folder, captioned: int, others: int, sizes=None, about=None, **facts) -> EvalSet:
    """Captioned images c00, c01 ... and others o00, o01 ...; `sizes` of the images by number."""
    sizes = sizes or {}
    images = [
        CorpusImage(
            f"c{n:02d}" if n < captioned else f"o/x/{n - captioned:02d}",
            png(n, sizes.get(n, (60, 40))),
            {**provenance(n, n < captioned), **{key: values[n] for key, values in facts.items()}},
        )
        for n in range(captioned + others)
    ]
    queries = [Query(f"c{n:02d}_{k}", f"caption {k} of {n}") for n in range(captioned) for k in range(2)]
    qrels = [Qrel(f"c{n:02d}_{k}", f"c{n:02d}") for n in range(captioned) for k in range(2)]
    return small_set(folder, images=images, queries=queries, qrels=qrels, **(about or {}))


def test_images_are_counted_by_source_and_class(tmp_path):
    classes = {"wnid": ["", "", "n2", "n1", "n2"], "class_name": ["", "", "bus", "car", "bus"]}
    found = summarise(a_set(tmp_path / "s", 2, 3, **classes))
    assert list(found.sources.items()) == [("flickr30k", 2), ("imagenet", 3)]
    assert list(found.classes.items()) == [("n1 car", 1), ("n2 bus", 2)]


def test_a_class_without_a_name_is_its_id(tmp_path):
    found = summarise(a_set(tmp_path / "s", 1, 1, wnid=["", "n1"], class_name=["", ""]))
    assert found.classes == {"n1": 1}


def test_images_are_counted_by_their_shorter_side(tmp_path):
    """On both sides of every limit, and whichever side is the shorter one."""
    shorter = [1, 159, 160, 239, 240, 319, 320, 399, 400, 499, 500, 639, 640, 999, 1000, 5000]
    width = [side if n % 2 else side + 900 for n, side in enumerate(shorter)]
    height = [side + 900 if n % 2 else side for n, side in enumerate(shorter)]
    found = summarise(a_set(tmp_path / "s", 8, 8, width=width, height=height))
    assert list(found.sides.items()) == [
        ("0 to 159 px", 2),
        ("160 to 239 px", 2),
        ("240 to 319 px", 2),
        ("320 to 399 px", 2),
        ("400 to 499 px", 2),
        ("500 to 639 px", 2),
        ("640 to 999 px", 2),
        ("1000 px and more", 2),
    ]


def test_sizes_that_no_image_has_are_left_out(tmp_path):
    found = summarise(a_set(tmp_path / "s", 1, 1, width=[2000, 170], height=[2000, 300]))
    assert list(found.sides.items()) == [("160 to 239 px", 1), ("1000 px and more", 1)]


def sheet_of(eval_set: EvalSet, path, *args, **options) -> np.ndarray:
    contact_sheet(eval_set, path, *args, **options)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        return np.asarray(image)


def shown(sheet: np.ndarray) -> list[int]:
    """The numbers of the images, cell by cell, by their colours."""
    rows = sheet.shape[0] // HEIGHT_PX
    assert sheet.shape == (rows * HEIGHT_PX, COLUMNS * WIDTH_PX, 3)
    numbers = {colour(n): n for n in range(27)}
    places = [(y * HEIGHT_PX + GAP_PX, x * WIDTH_PX + GAP_PX) for y in range(rows) for x in range(COLUMNS)]
    corners = [tuple(sheet[place].tolist()) for place in places]
    found = [numbers[corner] for corner in corners if corner != (255, 255, 255)]
    assert all(corner == (255, 255, 255) for corner in corners[len(found) :])  # No gap before the end.
    return found


@pytest.mark.parametrize(
    ("captioned", "others", "count", "wanted"),
    [
        (9, 9, 8, (4, 4)),
        (9, 9, 7, (3, 4)),
        (9, 2, 8, (6, 2)),
        (2, 9, 8, (2, 6)),
        (2, 3, 8, (2, 3)),
        (4, 0, 3, (3, 0)),
        (9, 9, 1, (0, 1)),
        (5, 8, 13, (5, 8)),
    ],
)
def test_half_of_the_images_are_captioned_where_there_are_enough(tmp_path, captioned, others, count, wanted):
    numbers = shown(sheet_of(a_set(tmp_path / "s", captioned, others), tmp_path / "s.png", count))
    assert numbers == sorted(set(numbers))  # By id, none twice.
    assert (sum(n < captioned for n in numbers), sum(n >= captioned for n in numbers)) == wanted


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (6, 1), (7, 2), (12, 2), (13, 3)])
def test_six_images_stand_in_a_row(tmp_path, count, rows):
    sheet = sheet_of(a_set(tmp_path / "s", 10, 10), tmp_path / "s.png", count)
    assert sheet.shape == (rows * 98, 1320, 3)
    assert len(shown(sheet)) == count


def test_a_sheet_without_images_is_a_line_of_white(tmp_path):
    sheet = sheet_of(a_set(tmp_path / "s", 1, 1), tmp_path / "s.png", 0)
    assert sheet.shape == (1, 1320, 3)
    assert (sheet == 255).all()


def test_the_draw_depends_on_the_seed_alone(tmp_path):
    eval_set = a_set(tmp_path / "s", 10, 10)
    draws = [shown(sheet_of(eval_set, tmp_path / "s.png", 8, seed)) for seed in range(4)]
    assert [shown(sheet_of(eval_set, tmp_path / "s.png", 8, seed)) for seed in range(4)] == draws
    assert len({tuple(draw) for draw in draws}) == 4
    every = Counter(n for seed in range(12) for n in shown(sheet_of(eval_set, tmp_path / "s.png", 8, seed)))
    assert set(every) == set(range(20))
    assert shown(sheet_of(eval_set, tmp_path / "s.png", 8)) == draws[0]
    parameters = signatures.signature(contact_sheet).parameters
    assert (parameters["count"].default, parameters["seed"].default) == (24, 0)


def test_images_are_reduced_to_their_cell_and_never_enlarged(tmp_path):
    sizes = {0: (60, 40), 1: (408, 204), 2: (100, 400), 3: (204, 204), 4: (205, 10)}
    sheet = sheet_of(a_set(tmp_path / "s", 5, 0, sizes), tmp_path / "s.png", 5)
    wanted = [(60, 40), (204, 102), (51, 204), (204, 204), (204, 10)]
    # The row is as high as its highest image and its words.
    assert sheet.shape[0] == 204 + 2 * 17 + 3 * 8
    for number, (width, height) in enumerate(wanted):
        cell = sheet[: 8 + height + 4, number * WIDTH_PX : (number + 1) * WIDTH_PX]
        inside = (cell[8 : 8 + height, 8 : 8 + width] == colour(number)).all()
        assert inside
        assert (cell == colour(number)).all(axis=2).sum() == width * height
        assert (cell == 255).all(axis=2).sum() == cell.shape[0] * WIDTH_PX - width * height


@pytest.fixture
def words(monkeypatch):
    """What is written: (x, y, text, colour), in order."""
    found = []

    def text(self, place, line, fill, font):
        found.append((*place, line, fill))
        assert font.size == 13

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


def test_an_image_stands_above_its_id_and_source_its_class_and_its_first_caption(tmp_path, words):
    names = ["", "moped", "sports car", "bus"]
    contact_sheet(a_set(tmp_path / "s", 2, 2, class_name=names), tmp_path / "s.png")
    below = 8 + 40 + 4
    assert words == [
        (8, below, "c00, flickr30k", "gray"),
        (8, below + 17, "caption 0 of 0", "black"),
        (228, below, "c01, flickr30k", "gray"),
        (228, below + 17, "moped", "black"),
        (228, below + 34, "caption 0 of 1", "black"),
        (448, below, "00, imagenet", "gray"),
        (448, below + 17, "sports car", "black"),
        (668, below, "01, imagenet", "gray"),
        (668, below + 17, "bus", "black"),
    ]


def test_the_second_row_is_written_below_the_first(tmp_path, words):
    contact_sheet(a_set(tmp_path / "s", 8, 0), tmp_path / "s.png")
    assert [(x, y) for x, y, text, _ in words if text == "c07, flickr30k"] == [(228, 98 + 8 + 40 + 4)]


def test_a_long_caption_is_wrapped_and_cut_at_four_lines(tmp_path, words):
    text = " ".join(["0123456789"] * 20)
    given = {"queries": [Query("q", text)], "qrels": [Qrel("q", "c00")]}
    images = [CorpusImage("c00", png(0), provenance(0, True))]
    contact_sheet(small_set(tmp_path / "s", images=images, **given), tmp_path / "s.png")
    lines = [line for _, _, line, fill in words if fill == "black"]
    assert lines[:3] == ["0123456789 0123456789"] * 3
    assert lines[3] == "0123456789 0123456789..."
    font = ImageFont.load_default(size=13)
    assert all(font.getlength(line) <= 204 for line in lines)
    assert [y for _, y, _, _ in words] == [52 + 17 * place for place in range(5)]


def test_a_word_and_an_id_that_are_too_long_are_cut(tmp_path, words):
    given = {"queries": [Query("q", "W" * 60)], "qrels": [Qrel("q", "n" * 60)]}
    images = [CorpusImage("n" * 60, png(0), provenance(0, True))]
    contact_sheet(small_set(tmp_path / "s", images=images, **given), tmp_path / "s.png")
    name, caption = (line for _, _, line, _ in words)
    font = ImageFont.load_default(size=13)
    for line, letter in ((name, "n"), (caption, "W")):
        assert line.endswith("...")
        assert {*line[:-3]} == {letter}
        assert font.getlength(line) <= 204 < font.getlength(f"{letter}{line}")


def test_words_are_drawn_on_white_in_grey_and_black(tmp_path):
    sheet = sheet_of(a_set(tmp_path / "s", 1, 0), tmp_path / "s.png")
    name, caption = sheet[52:69, :220], sheet[69:98, :220]
    assert name.min() in range(120, 136)
    assert caption.min() < 40
    assert (sheet[:, 220:] == 255).all()


def cluster(number: int, ids: list[str], words=("bus", "red")) -> dict:
    return {"number": number, "size": len(ids), "coherence": 0.875, "words": [*words], "ids": ids}


def test_each_cluster_has_a_row_below_its_words(tmp_path, words, capsys):
    eight = [f"c{n:02d}" for n in range(8)]
    notes = {"clusters": [cluster(0, eight), cluster(3, ["c08", "gone"], ()), cluster(4, ["gone"])]}
    with_clusters = a_set(tmp_path / "s", 9, 3, about={"notes": notes})
    contact_sheet(with_clusters, tmp_path / "s.png", 6)
    headings = [(x, y, line) for x, y, line, _ in words if line.startswith("Cluster")]
    # One row of random images, then per cluster a heading and a row.
    second = 98 + 98 + 25
    assert headings == [
        (8, 98 + 8, "Cluster 0: bus, red. 8 images, coherence 0.88"),
        (8, second + 8, "Cluster 3: without words. 2 images, coherence 0.88"),
    ]
    with Image.open(tmp_path / "s.png") as image:
        sheet = np.asarray(image.convert("RGB"))
    assert sheet.shape == (98 + 2 * (98 + 25), 1320, 3)
    row = shown(sheet[98 + 25 : second])
    assert len(row) == COLUMNS
    assert set(row) <= set(range(8))
    assert shown(sheet[second + 25 :]) == [8]
    arguments = argparse.Namespace(folder=tmp_path / "s", sheet=tmp_path / "again.png", count=6, seed=0)
    assert main(arguments) == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "s.png").read_bytes()
    said = capsys.readouterr().out
    assert "Clusters of captioned images" in said
    assert "bus, red" in said


def test_a_set_without_clusters_has_the_sheet_it_always_had(tmp_path):
    plain, empty = a_set(tmp_path / "a", 9, 9), a_set(tmp_path / "b", 9, 9, about={"notes": {"clusters": []}})
    assert (sheet_of(plain, tmp_path / "a.png", 12) == sheet_of(empty, tmp_path / "b.png", 12)).all()
