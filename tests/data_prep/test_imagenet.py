"""Every form of ImageNet-1k gives the same images; only wanted ones are read; damage is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from format_twins import IMAGENET_FORMS, VEHICLES, classed_files, write_imagenet

from data_prep.sources import open_imagenet
from data_prep.sources.imagenet_classes import image_id, wnids
from mteb_vehicle_search.errors import SourceError

WANTED = set(VEHICLES)


def read_all(source, wanted=WANTED):
    return [image for part in source.parts(wanted) for image in source.images(part, wanted)]


@pytest.mark.parametrize("form", IMAGENET_FORMS)
def test_every_form_gives_the_same_images(tmp_path, form):
    source = open_imagenet(write_imagenet(tmp_path, form))
    images = sorted(read_all(source), key=lambda i: i.id)
    expected = sorted((f for f in classed_files() if f.class_index in WANTED), key=lambda f: (f.split, f.stem))
    assert len(images) == 60
    assert [i.id for i in images] == [f"imagenet/{f.split}/{f.stem}" for f in expected]
    assert [i.data for i in images] == [f.data for f in expected]
    assert [i.class_index for i in images] == [f.class_index for f in expected]
    assert [i.wnid for i in images] == [wnids()[f.class_index] for f in expected]
    assert {i.split for i in images} == {"train", "val"}
    assert source.download_gb == 0


@pytest.mark.parametrize("form", IMAGENET_FORMS)
def test_parts_are_stable_and_tell_when_they_change(tmp_path, form):
    folder = write_imagenet(tmp_path, form)
    parts = open_imagenet(folder).parts(WANTED)
    again = open_imagenet(folder).parts(WANTED)
    assert [p.fingerprint() for p in parts] == [p.fingerprint() for p in again]
    assert len({p.name for p in parts}) == len(parts)
    assert [p.split for p in parts] == sorted(p.split for p in parts)
    path = Path(parts[0].location)
    if path.is_dir():
        path = next(path.iterdir())
    path.write_bytes(path.read_bytes() + bytes(10240))
    changed = open_imagenet(folder).parts(WANTED)
    assert [p.fingerprint() for p in parts] != [p.fingerprint() for p in changed]


def test_only_wanted_inner_tars_are_read(tmp_path):
    folder = write_imagenet(tmp_path, "tar")
    wanted = {VEHICLES[0]}
    source = open_imagenet(folder)
    parts = source.parts(wanted)
    assert [p.name for p in parts] == [f"train/{wnids()[VEHICLES[0]]}.tar", "val.tar"]
    tar = folder / "ILSVRC2012_img_train.tar"
    data = bytearray(tar.read_bytes())
    inner = parts[0]
    keep = bytes(data[inner.offset : inner.offset + inner.size_bytes])
    data[:] = b"\xff" * len(data)  # Everything else is ruined: nobody must look at it.
    data[inner.offset : inner.offset + inner.size_bytes] = keep
    tar.write_bytes(data)
    images = list(source.images(inner, wanted))
    assert [i.class_index for i in images] == [VEHICLES[0]] * 5


def test_row_groups_without_wanted_rows_are_not_read(tmp_path, monkeypatch):
    import pyarrow.parquet as pq
    from format_twins import write_shards

    one = [f for f in classed_files() if f.class_index == VEHICLES[0] and f.split == "train"]
    other = [f for f in classed_files() if f.class_index not in WANTED and f.split == "train"]
    path = write_shards(tmp_path, other * 6 + one, "train", 1)[0]
    table = pq.read_table(path).sort_by([("label", "ascending")])
    pq.write_table(table, path, row_group_size=100)
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda s, g, **k: (read.append(g), original(s, g, **k))[1])
    from data_prep.sources.imagenet_shards import read_shard

    assert len(list(read_shard(path, "train", {VEHICLES[0]}))) == 5
    assert len(read) <= 2 < pq.ParquetFile(path).num_row_groups
    read.clear()
    assert list(read_shard(path, "train", {VEHICLES[1]})) == []
    assert read == []


def test_the_hubs_cache_is_found(tmp_path):
    from data_prep.hub import IMAGENET

    snapshots = tmp_path / "hub" / "datasets--ILSVRC--imagenet-1k" / "snapshots"
    write_imagenet(snapshots / IMAGENET.revision, "shards")
    for place in (tmp_path, tmp_path / "hub", tmp_path / "hub" / "datasets--ILSVRC--imagenet-1k"):
        source = open_imagenet(place)
        assert source.describe()["form"] == "shards"
        assert len(read_all(source)) == 60


def test_names_are_stripped_and_checked():
    assert image_id("n03954731_53652_n03954731.JPEG", "train", "n03954731") == "imagenet/train/n03954731_53652"
    name = "ILSVRC2012_val_00000293_n03954731.JPEG"
    assert image_id(name, "val", "n03954731") == "imagenet/val/ILSVRC2012_val_00000293"
    with pytest.raises(ValueError, match="says class n03954731, the label says n00000001"):
        image_id("n03954731_53652.JPEG", "train", "n00000001")
    with pytest.raises(ValueError, match="is not the name of an ImageNet image"):
        image_id("../../x.JPEG", "train", "n03954731")


def test_absent_bytes_are_left_to_the_image_stage(tmp_path):
    files = tuple(f for f in classed_files(damaged=True))
    images = read_all(open_imagenet(write_imagenet(tmp_path, "shards", files)))
    assert sum(not i.data for i in images) == 1


def test_what_is_found_and_what_is_expected_are_said(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(SourceError, match=r"found: train\nExpected one of: the hub's shards"):
        open_imagenet(tmp_path)
