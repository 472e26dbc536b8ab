"""Class sets: the table as it is read, in the order of the classes; a wrong one is refused with its line."""

from __future__ import annotations

import pytest

from data_prep.class_set import COLUMNS, SHIPPED, ClassSet, ImageClass
from data_prep.sources.imagenet.classes import wnids
from mteb_vehicle_search.errors import BuildError

HEAD = "index\twnid\tname\troots"
TENCH = "0\tn01440764\ttench, Tinca tinca\tfish"
GOLDFISH = '1\tn01443537\t"goldfish", Carassius\tfish,gold'
LAST = "999\tn15075141\ttoilet tissue\tpaper"


def write(folder, *lines, name="c.tsv", encoding="utf-8"):
    (folder / name).write_text("\n".join(lines) + "\n", encoding=encoding)


def test_rows_are_read_as_they_are_and_sorted_by_index(tmp_path):
    write(tmp_path, HEAD, LAST, GOLDFISH, TENCH, name="three.four.tsv")
    found = ClassSet.load("three.four.tsv", tmp_path)
    assert found == ClassSet(
        "three.four",
        (
            ImageClass(0, "n01440764", "tench, Tinca tinca", "fish"),
            ImageClass(1, "n01443537", '"goldfish", Carassius', "fish,gold"),
            ImageClass(999, "n15075141", "toilet tissue", "paper"),
        ),
    )
    assert found.indices == [0, 1, 999]


def test_a_name_without_ending_is_shipped_and_a_file_lies_beside_the_preset(tmp_path):
    write(tmp_path, HEAD, TENCH, name="orig49.tsv")
    assert len(ClassSet.load("orig49", tmp_path).classes) == 49
    assert ClassSet.load("orig49", tmp_path).name == "orig49"
    assert len(ClassSet.load("orig49.tsv", tmp_path).classes) == 1
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere, HEAD, TENCH, GOLDFISH)
    assert len(ClassSet.load(str(elsewhere / "c.tsv"), tmp_path).classes) == 2
    assert ClassSet.load(str(elsewhere / "c.tsv"), tmp_path).name == "c"


@pytest.mark.parametrize("name", ["orig49", "wordnet"])
def test_shipped_sets_name_each_class_as_imagenet_numbers_it(name):
    found = ClassSet.load(name, SHIPPED)
    assert found.indices == sorted(set(found.indices))
    assert all(wnids()[item.index] == item.wnid and item.name and item.roots for item in found.classes)
    assert list(ImageClass._fields) == COLUMNS


def test_a_set_that_does_not_exist_names_the_shipped_ones(tmp_path):
    with pytest.raises(BuildError) as error:
        ClassSet.load("nothing", tmp_path)
    assert str(error.value) == (
        f"There is no class set {SHIPPED / 'nothing.tsv'}.\nShipped class sets: orig49, wordnet; or name a .tsv file."
    )
    with pytest.raises(BuildError, match="There is no class set"):
        ClassSet.load("orig49.tsv", tmp_path)


EXPECTED = "expected index, wnid (n and 8 digits), name, roots."


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEAD], "{path} names no class."),
        ([TENCH], "{path} must begin with the columns index, wnid, name, roots, separated by tabs."),
        ([HEAD.replace("\t", ","), TENCH], "{path} must begin with the columns"),
        ([HEAD, TENCH, GOLDFISH + "\tmore"], f"{{path}}, line 3: {EXPECTED}"),
        ([HEAD, "0\tn01440764\ttench"], f"{{path}}, line 2: {EXPECTED}"),
        ([HEAD, "-1\tn01440764\ttench\tfish"], f"{{path}}, line 2: {EXPECTED}"),
        ([HEAD, "0\tx01440764\ttench\tfish"], f"{{path}}, line 2: {EXPECTED}"),
        ([HEAD, "0\tn0144076\ttench\tfish"], f"{{path}}, line 2: {EXPECTED}"),
        ([HEAD, "0\tn014407640\ttench\tfish"], f"{{path}}, line 2: {EXPECTED}"),
        ([HEAD, TENCH, "2\tn01443537\tx\ty"], "{path}, line 3: class 2 of ImageNet-1k is n01484850, not n01443537."),
        ([HEAD, "1000\tn01440764\tx\ty"], "{path}, line 2: class 1000 of ImageNet-1k is none, not n01440764."),
        ([HEAD, TENCH, GOLDFISH, TENCH], "{path}: a class stands twice."),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, lines, message):
    write(tmp_path, *lines)
    with pytest.raises(BuildError) as error:
        ClassSet.load("c.tsv", tmp_path)
    assert str(error.value).startswith(message.format(path=tmp_path / "c.tsv"))


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "c.tsv").write_bytes(b"")
    with pytest.raises(BuildError, match="must begin with the columns"):
        ClassSet.load("c.tsv", tmp_path)
    write(tmp_path, HEAD, TENCH + "\xe4", encoding="latin-1")
    with pytest.raises(BuildError, match="is not a table in UTF-8"):
        ClassSet.load("c.tsv", tmp_path)
    (tmp_path / "c.tsv").write_bytes(b"\xff\xfe" + HEAD.encode("utf-16-le"))
    with pytest.raises(BuildError, match="is not a table in UTF-8"):
        ClassSet.load("c.tsv", tmp_path)
