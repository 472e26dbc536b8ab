"""The devkit's own numbers of classes are translated, wherever the devkit lies; damage is named."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from data_prep.sources.imagenet.classes import wnids
from data_prep.sources.imagenet.truth import DEVKIT, GROUND_TRUTH, SOLUTION, GroundTruth, devkit_truth, ground_truth
from data_prep.storage.local import LocalTree
from mteb_vehicle_search.errors import SourceError

# The devkit's number of a class -> its index by WordNet id. Others than a thousand stand in the real meta.mat, too.
NUMBERS = {1: 999, 2: 0, 3: 436, 1000: 207}
LINES = "3\n1\n1000\n2\n3\n"
CLASSES = [436, 999, 207, 0, 436]


def meta(numbers: dict[int, int] = NUMBERS, key: str = "synsets", fields: tuple[str, str] = ("ILSVRC2012_ID", "WNID")):
    kinds = [(fields[0], "O"), (fields[1], "O"), ("words", "O")]
    rows = [(number, wnids()[index], "a word") for number, index in numbers.items()]
    file = io.BytesIO()
    savemat(file, {key: np.array([*rows, (1001, "n00001740", "entity")], dtype=kinds)})
    return file.getvalue()


def unpacked(folder: Path, lines: str = LINES, synsets: bytes | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / GROUND_TRUTH).write_text(lines, encoding="ascii")
    (folder / "meta.mat").write_bytes(meta() if synsets is None else synsets)


def packed(root: Path, *members: tuple[str, bytes | None]) -> Path:
    """The devkit as it is given out, with more members before its own ones; None: a folder."""
    own = [(f"{DEVKIT}/data/{GROUND_TRUTH}", LINES.encode()), (f"{DEVKIT}/data/meta.mat", meta())]
    with tarfile.open(root / f"{DEVKIT}.tar.gz", "w:gz") as tar:
        for name, data in (*members, *own):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            tar.addfile(info, io.BytesIO(data or b""))
    return root / f"{DEVKIT}.tar.gz"


def test_names_are_those_of_the_published_files():
    assert (DEVKIT, GROUND_TRUTH) == ("ILSVRC2012_devkit_t12", "ILSVRC2012_validation_ground_truth.txt")


@pytest.mark.parametrize("place", [".", f"{DEVKIT}/data", "data"])
def test_an_unpacked_devkit(tmp_path, place):
    unpacked(tmp_path / place)
    assert devkit_truth(LocalTree(tmp_path)) == CLASSES


def test_a_packed_devkit(tmp_path):
    others = [
        (f"{DEVKIT}/data/{GROUND_TRUTH}", None),  # A folder of that name.
        (f"{DEVKIT}/data/not_{GROUND_TRUTH}", b"1\n"),
        (f"{DEVKIT}/data/{GROUND_TRUTH}.bak", b"1\n"),
        ("meta.mat", b"beside the folder"),
    ]
    packed(tmp_path, *others)
    assert devkit_truth(LocalTree(tmp_path)) == CLASSES


def test_files_at_the_top_are_used_before_the_devkits_and_these_before_the_packed_ones(tmp_path):
    unpacked(tmp_path)
    unpacked(tmp_path / DEVKIT / "data", "1\n")
    unpacked(tmp_path / "data", "2\n")
    packed(tmp_path).write_bytes(b"no tar")
    assert devkit_truth(LocalTree(tmp_path)) == CLASSES
    (tmp_path / GROUND_TRUTH).unlink()
    assert devkit_truth(LocalTree(tmp_path)) == [999]
    (tmp_path / DEVKIT / "data" / GROUND_TRUTH).unlink()
    assert devkit_truth(LocalTree(tmp_path)) == [0]


@pytest.mark.parametrize("gone", [GROUND_TRUTH, "meta.mat"])
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a packed devkit without it"])
def test_without_either_file_the_classes_are_unknown(tmp_path, gone, beside):
    unpacked(tmp_path)
    (tmp_path / gone).unlink()
    if beside:
        with tarfile.open(tmp_path / f"{DEVKIT}.tar.gz", "w:gz"):
            pass
    with pytest.raises(SourceError) as caught:
        devkit_truth(LocalTree(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path} has no {gone}, without which the classes of its validation images are unknown\n"
        f"Put {DEVKIT}.tar.gz or {SOLUTION} there, or sort the images into val/<wnid>/."
    )


@pytest.mark.parametrize("damage", [lambda good: b"no gzip", lambda good: good[: len(good) // 2], lambda good: b""])
def test_a_damaged_packed_devkit(tmp_path, damage):
    path = packed(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SourceError) as caught:
        devkit_truth(LocalTree(tmp_path))
    assert str(caught.value).startswith(f"{path} is damaged: ")
    assert str(caught.value).endswith("\nGet the file again.")


@pytest.mark.parametrize(
    "synsets",
    [b"", b"x" * 500, meta(key="others"), meta(fields=("ID", "WNID")), meta(fields=("ILSVRC2012_ID", "name"))],
    ids=["empty", "garbled", "no synsets", "no numbers", "no names"],
)
def test_a_damaged_meta_mat(tmp_path, synsets):
    unpacked(tmp_path, synsets=synsets)
    with pytest.raises(SourceError) as caught:
        devkit_truth(LocalTree(tmp_path))
    assert str(caught.value).startswith(f"meta.mat of {tmp_path} is damaged: ")
    assert str(caught.value).endswith(f"\nGet {DEVKIT}.tar.gz again.")


@pytest.mark.parametrize("line", ["4", "1001", "0", "car", "1.5", "\u00bd"])
def test_a_class_that_is_unknown_or_none_of_the_thousand(tmp_path, line):
    unpacked(tmp_path)
    (tmp_path / GROUND_TRUTH).write_text(f"{LINES}{line}\n", encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        devkit_truth(LocalTree(tmp_path))
    assert str(caught.value).startswith(f"{GROUND_TRUTH} of {tmp_path} holds a class that meta.mat does not know: ")
    assert str(caught.value).endswith(f"\nGet {DEVKIT}.tar.gz again.")


class TestKagglesList:
    """Its rows are image ids with boxes that begin with a WordNet id, in no order."""

    HEAD = "ImageId,PredictionString\n"
    ROWS = (
        f"ILSVRC2012_val_00000007,{wnids()[436]} 85 1 499 272 \n"
        f"ILSVRC2012_val_00000002,{wnids()[0]} 1 2 3 4 {wnids()[0]} 5 6 7 8 \n"
    )

    def write(self, folder: Path, content: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SOLUTION).write_text(content, encoding="utf-8", newline="")
        return folder

    @pytest.mark.parametrize("root", [".", "ILSVRC/Data/CLS-LOC"])
    def test_it_lies_beside_the_images_or_beside_ilsvrc(self, tmp_path, root):
        self.write(tmp_path, self.HEAD + self.ROWS)
        (tmp_path / root).mkdir(parents=True, exist_ok=True)
        assert ground_truth(LocalTree(tmp_path), "" if root == "." else root) == GroundTruth({7: 436, 2: 0}, SOLUTION)

    def test_it_comes_before_the_devkit_and_no_list_of_another_folder_counts(self, tmp_path):
        self.write(tmp_path, self.HEAD + self.ROWS)
        unpacked(tmp_path / "other")
        assert ground_truth(LocalTree(tmp_path / "other")) == GroundTruth(
            dict(enumerate(CLASSES, start=1)), GROUND_TRUTH
        )
        self.write(tmp_path / "other", self.HEAD + self.ROWS)
        assert ground_truth(LocalTree(tmp_path / "other")).file == SOLUTION

    def test_marks_and_ends_of_lines_of_windows(self, tmp_path):
        self.write(tmp_path, "\ufeff" + (self.HEAD + self.ROWS).replace("\n", "\r\n"))
        assert ground_truth(LocalTree(tmp_path)).classes == {7: 436, 2: 0}

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("", "is not Kaggle's list of classes|has no rows"),
            (HEAD, "has no rows"),
            ("a,b\n1,2\n", "it has no column 'ImageId'"),
            ("ImageId\nILSVRC2012_val_00000007\n", "it has no column 'PredictionString'"),
            (HEAD + ROWS + "ILSVRC2012_val_00000008\n", "line 4: 'ILSVRC2012_val_00000008' with None is no"),
            (HEAD + ROWS + "ILSVRC2012_val_00000008,n00000000 1\n", "line 4: .* with 'n00000000 1' is no validation"),
            (HEAD + "../../x,n01440764 1\n", "line 2: '../../x' with"),
        ],
    )
    def test_a_list_that_is_none_is_named_with_its_line(self, tmp_path, content, says):
        self.write(tmp_path, content)
        with pytest.raises(SourceError, match=says) as caught:
            ground_truth(LocalTree(tmp_path))
        assert caught.value.hint == f"Get {SOLUTION} again; it comes with Kaggle's copy of the data."

    def test_what_is_no_text_is_named(self, tmp_path):
        (tmp_path / SOLUTION).write_bytes(b"\xff\xfe\x00")
        with pytest.raises(SourceError, match="is not Kaggle's list of classes"):
            ground_truth(LocalTree(tmp_path))
