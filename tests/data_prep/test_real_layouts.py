"""The real photographs, laid out as people hold them, are the same photographs."""

from __future__ import annotations

import csv
import json
from functools import lru_cache

import pytest
from format_twins import (
    CSV_NAME,
    FLICKR_COPIES,
    FLICKR_FORMS,
    IMAGENET_FORMS,
    PRESET,
    Captioned,
    Classed,
    write_flickr30k,
    write_imagenet,
)
from real import needs_real, real_folder, real_photographs

from data_prep import cli
from data_prep.sources.flickr30k import open_flickr30k
from data_prep.sources.imagenet import open_imagenet
from data_prep.sources.imagenet.classes import class_indexes, wnids
from mteb_vehicle_search.eval_set import EvalSet


@lru_cache(maxsize=1)
def captioned() -> tuple[Captioned, ...]:
    """The photographs with their captions, as the hub's captions file has them."""
    folder = real_folder()
    assert folder is not None
    with (folder / "captioned" / CSV_NAME).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    images = folder / "captioned" / "flickr30k-images"
    return tuple(
        Captioned(row["filename"], (images / row["filename"]).read_bytes(), tuple(json.loads(row["raw"])), row["split"])
        for row in rows
    )


@lru_cache(maxsize=1)
def classed() -> tuple[Classed, ...]:
    """The photographs of classes."""
    return tuple(
        Classed(path.stem, path.read_bytes(), path.parts[-3], class_indexes()[path.parent.name])
        for path in real_photographs("imagenet")
    )


@needs_real
@pytest.mark.parametrize("form", [*FLICKR_FORMS, *FLICKR_COPIES])
def test_captioned_photographs(tmp_path, form):
    folder = write_flickr30k(tmp_path, form, captioned())
    captions = str(folder / "captions" / CSV_NAME) if form in FLICKR_COPIES else ""
    images = {image.id: image for image in open_flickr30k(folder, captions).images()}
    assert len(images) == len(captioned()) == 152
    for file in captioned():
        image = images[f"flickr30k/{file.filename[:-4]}"]
        assert (image.data, image.captions, image.problem) == (file.data, file.captions, "")
        assert image.split == ("" if form == "parquet_without_splits" else file.split)


@needs_real
@pytest.mark.parametrize("form", IMAGENET_FORMS)
def test_photographs_of_classes(tmp_path, form):
    wanted = {file.class_index for file in classed()} & {file.class_index for file in classed() if file.split == "val"}
    files = [file for file in classed() if file.class_index in wanted]
    folder = write_imagenet(tmp_path, form, tuple(files))
    source = open_imagenet(folder)
    wanted = {file.class_index for file in files if file.split == "train"} & wanted
    images = [image for shard in source.shards(wanted) for image in source.images(shard, wanted)]
    expected = {f"imagenet/{file.split}/{file.stem}": file for file in files if file.class_index in wanted}
    assert len(images) == len(expected) > 100
    for image in images:
        file = expected[image.id]
        assert (image.data, image.class_index, image.problem) == (file.data, file.class_index, "")


# Each layout of both at least once.
PAIRS = [
    ("zip", "shards"),
    ("folder", "cache"),
    ("parquet", "tar"),
    ("uiuc_tar", "tar_val_folders"),
    ("uiuc_tar_gz", "tar_val_flat"),
    ("uiuc_folder", "tar_devkit_packed"),
    ("kaggle", "folders"),
    ("kaggle_captions", "folders_val_flat"),
    ("zip", "kaggle"),
    ("folder", "kaggle_zip"),
    ("parquet_without_splits", "webdataset"),
]


def test_every_layout_is_built():
    assert {flickr30k for flickr30k, _ in PAIRS} == {*FLICKR_FORMS, *FLICKR_COPIES}
    assert {imagenet for _, imagenet in PAIRS} == {*IMAGENET_FORMS}


@needs_real
def test_all_layouts_give_one_content_id(tmp_path):
    splits = {split: {file.class_index for file in classed() if file.split == split} for split in ("train", "val")}
    wanted = sorted(splits["train"] & splits["val"])
    rows = [f"{index}\t{wnids()[index]}\tname {index}\tvehicle" for index in wanted]
    (tmp_path / "twins.tsv").write_text("\n".join(["index\twnid\tname\troots", *rows]) + "\n", encoding="utf-8")
    (tmp_path / "twins.toml").write_text(PRESET, encoding="utf-8")
    files = tuple(file for file in classed() if file.class_index in wanted)
    found = {}
    for flickr30k, imagenet in PAIRS:
        data = tmp_path / f"{flickr30k} {imagenet}"
        arguments = ["--flickr30k", write_flickr30k(data / "f", flickr30k, captioned())]
        arguments += ["--imagenet", write_imagenet(data / "i", imagenet, files)]
        if flickr30k in FLICKR_COPIES:
            arguments += ["--captions", data / "f" / "captions" / CSV_NAME]
        arguments += ["--preset", tmp_path / "twins.toml", "--out", data / "out", "--quiet", "--allow-rejects"]
        assert cli.main(["build", *map(str, arguments)]) == 0
        built = EvalSet.open(data / "out")
        found[flickr30k, imagenet] = (built.content_id, built.manifest["images_id"], built.manifest["sources_id"])
        assert built.manifest["notes"]["counts"]["captioned"] == 152
    assert len(set(found.values())) == 1, found
