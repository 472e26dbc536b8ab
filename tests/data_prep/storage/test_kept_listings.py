"""Lists of remote archives are kept for as long as the archive is the same, and believed only if they are whole."""

from __future__ import annotations

import threading

import pytest
from counted_tree import CountedTree

from data_prep.storage import Entry
from data_prep.storage.listings import keep, kept
from data_prep.storage.local import LocalTree
from mteb_vehicle_search.settings import home

LIST = bytes(range(256)) * 20 + b"\n"
ENTRY = Entry("a.zip", 1_000, "tag")


@pytest.fixture
def far():
    return CountedTree({"a.zip": b""})


def files() -> list:
    return sorted((home() / "listings").rglob("*")) if (home() / "listings").exists() else []


def test_a_list_comes_back(far):
    assert kept(far, "a.zip", ENTRY) is None
    assert files() == []
    keep(far, "a.zip", ENTRY, LIST)
    assert kept(far, "a.zip", ENTRY) == LIST
    assert len(files()) == 1
    keep(far, "a.zip", ENTRY, b"")
    assert kept(far, "a.zip", ENTRY) == b""


@pytest.mark.parametrize(
    "other", [ENTRY._replace(stamp="other"), ENTRY._replace(stamp=""), ENTRY._replace(size_bytes=1_001)]
)
def test_another_archive_has_another_list(far, other):
    keep(far, "a.zip", ENTRY, LIST)
    assert kept(far, "a.zip", other) is None
    keep(far, "a.zip", other, b"new")
    assert kept(far, "a.zip", other) == (b"new" if other.stamp else None)
    assert kept(far, "a.zip", ENTRY) == (None if other.stamp else LIST)


def test_archives_of_other_names_and_places_are_others(far):
    keep(far, "a.zip", ENTRY, LIST)
    assert kept(far, "b.zip", ENTRY) is None
    elsewhere = CountedTree({})
    elsewhere.where = "far://elsewhere"
    assert kept(elsewhere, "a.zip", ENTRY) is None
    keep(elsewhere, "a.zip", ENTRY, b"elsewhere")
    assert (kept(far, "a.zip", ENTRY), kept(elsewhere, "a.zip", ENTRY)) == (LIST, b"elsewhere")


def test_without_a_validator_nothing_is_kept(far):
    keep(far, "a.zip", ENTRY._replace(stamp=""), LIST)
    assert files() == []


def test_nothing_is_kept_of_what_lies_here(tmp_path, far):
    keep(LocalTree(tmp_path), "a.zip", ENTRY, LIST)
    assert files() == []
    near = LocalTree(tmp_path)
    keep(far, "a.zip", ENTRY, LIST)
    assert kept(near, "a.zip", ENTRY) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:],
        lambda content: content.replace(b"tag", b"tug"),
        lambda content: bytes(len(content)),
        lambda content: b"\xff\xfe" + content,
        lambda content: b"{}\n" + content,
        lambda content: b"null",
    ],
)
def test_a_damaged_list_is_read_anew(far, damage):
    keep(far, "a.zip", ENTRY, LIST)
    (path,) = files()
    path.write_bytes(damage(path.read_bytes()))
    assert kept(far, "a.zip", ENTRY) is None
    keep(far, "a.zip", ENTRY, LIST)
    assert kept(far, "a.zip", ENTRY) == LIST


def test_no_address_stands_in_a_file_name(far):
    keep(far, "a.zip", ENTRY, LIST)
    (path,) = files()
    assert path.name.isalnum()
    assert len(path.name) == 32


def test_two_who_keep_at_once_leave_a_whole_list(far):
    """In threads, as processes would; each writes its own list again and again, and one of them is there in the end."""
    failures: list[BaseException] = []

    def again(content: bytes) -> None:
        try:
            for _ in range(20):
                keep(far, "a.zip", ENTRY, content)
                assert kept(far, "a.zip", ENTRY) in (b"1" * 5_000, b"2" * 9_000)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=again, args=(content,)) for content in (b"1" * 5_000, b"2" * 9_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(files()) == 1
