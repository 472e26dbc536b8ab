"""Parts: images end to end with an index, read back one by one; refused ones become rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from data_prep.sources import SourceImage
from data_prep.stages.decoding import ImageRejected
from data_prep.stages.reduce import Prepared, read_reduced, write_reduced
from mteb_vehicle_search.eval_set.schema import Rejected


def image(name: str, **facts) -> SourceImage:
    return SourceImage(name, b"source", "imagenet", "train", **facts)


def prepared(number: int) -> Prepared:
    return Prepared(bytes([number]) * (number * 1000), 10 + number, 20 + number, f"sha{number}", f"hash{number}")


def items():
    """Six images, the second and the last of which are refused."""
    for number in range(6):
        facts = {"class_index": number, "wnid": f"n{number}", "captions": (f"caption {number} é", "b")}
        result = ImageRejected(f"reason {number}") if number in (1, 5) else prepared(number)
        yield image(f"i{number}", **facts), result


def test_images_are_read_back_with_what_is_known_of_them(tmp_path):
    written = write_reduced(tmp_path / "a" / "b" / "part", items(), "captioned")
    entries = list(read_reduced(tmp_path / "a" / "b" / "part"))
    assert [entry.id for entry in entries] == ["i0", "i2", "i3", "i4"]
    for entry, number in zip(entries, (0, 2, 3, 4)):
        assert entry.jpeg() == prepared(number).jpeg
        assert entry.facts == {
            "source": "imagenet",
            "split": "train",
            "class_index": number,
            "wnid": f"n{number}",
            "width": 10 + number,
            "height": 20 + number,
            "sha256": f"sha{number}",
            "perceptual_hash": f"hash{number}",
            "warning": "",
            "captions": [f"caption {number} é", "b"],
        }
    assert [entries[n].jpeg() for n in (3, 1)] == [prepared(4).jpeg, prepared(2).jpeg]  # In any order.
    assert written.images == 4
    assert written.rejected == [Rejected("i1", "captioned", "reason 1"), Rejected("i5", "captioned", "reason 5")]


def test_the_files_hold_nothing_else(tmp_path):
    written = write_reduced(tmp_path / "part", items(), "captioned")
    assert written.files == [tmp_path / "part", tmp_path / "part.index"]
    assert (tmp_path / "part").read_bytes() == b"".join(prepared(n).jpeg for n in (0, 2, 3, 4))
    lines = (tmp_path / "part.index").read_bytes().decode().split("\n")
    assert [json.loads(line)[:3] for line in lines[:-1]] == [
        ["i0", 0, 0],
        ["i2", 0, 2000],
        ["i3", 2000, 3000],
        ["i4", 5000, 4000],
    ]
    assert lines[-1] == ""
    assert "caption 0 é" in lines[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part", "part.index"]


def test_a_warning_of_the_decoder_is_kept(tmp_path):
    write_reduced(tmp_path / "part", [(image("a"), prepared(1)._replace(warning="odd"))], "captioned")
    assert [entry.facts["warning"] for entry in read_reduced(tmp_path / "part")] == ["odd"]


def test_a_part_without_images_is_a_part(tmp_path):
    assert write_reduced(tmp_path / "part", [], "captioned") == ([tmp_path / "part", tmp_path / "part.index"], 0, [])
    assert list(read_reduced(tmp_path / "part")) == []


def test_an_earlier_part_and_what_a_killed_process_left_are_replaced(tmp_path):
    for name in ("part", "part.index", "part.partial", "part.index.partial"):
        (tmp_path / name).write_bytes(b"longer than the new one" * 1000)
    write_reduced(tmp_path / "part", [(image("a"), prepared(1))], "captioned")
    assert [(entry.id, entry.jpeg()) for entry in read_reduced(tmp_path / "part")] == [("a", prepared(1).jpeg)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part", "part.index"]


def test_a_source_that_breaks_off_leaves_the_earlier_part(tmp_path):
    write_reduced(tmp_path / "part", items(), "captioned")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def failing():
        yield image("a"), prepared(9)
        raise OSError("the shard is gone")

    with pytest.raises(OSError, match="the shard is gone"):
        write_reduced(tmp_path / "part", failing(), "captioned")
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks /proc which file is synced")
def test_images_are_on_the_disk_before_they_have_their_name_and_before_the_index(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace

    def synced(number):
        path = Path(f"/proc/self/fd/{number}").resolve()
        calls.append(("sync", path.name, path.stat().st_size))
        return fsync(number)

    def replaced(self, target):
        calls.append(("rename", self.name, Path(target).name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_reduced(tmp_path / "part", items(), "captioned")
    size = (tmp_path / "part.index").stat().st_size
    assert calls == [
        ("sync", "part.partial", 9000),
        ("rename", "part.partial", "part"),
        ("sync", "part.index.partial", size),
        ("rename", "part.index.partial", "part.index"),
    ]
