"""The same drawn images in every form in which people hold Flickr30k and ImageNet-1k, the nasty ones among them."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import tarfile
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from data_prep.sources.drawn.images import draw
from data_prep.sources.drawn.phrases import captions
from data_prep.sources.drawn.scene import random_scene
from data_prep.sources.imagenet.classes import wnids

VEHICLES = (407, 436, 468, 511, 555, 609, 627, 654, 656, 661)  # Of the class set `orig49`.
OTHERS = (0, 7, 88, 207, 281, 340, 508, 724, 930, 999)
FLICKR_FORMS = ("zip", "folder", "parquet", "parquet_without_splits")
# With captions beside them that differ from the hub's; `write_flickr30k` writes the hub's to CSV_NAME in `captions/`.
FLICKR_COPIES = ("uiuc_tar", "uiuc_tar_gz", "uiuc_folder", "kaggle", "kaggle_captions")
IMAGENET_FORMS = (
    *("shards", "cache", "tar", "tar_val_folders", "tar_val_flat", "tar_devkit_packed"),
    *("folders", "folders_val_flat", "kaggle", "kaggle_zip", "webdataset"),
)
CSV_NAME = "flickr_annotations_30k.csv"
ROWS_PER_GROUP = 100
PRESET = """
name = "twins"
title = "Twins"
[captioned]
source = "flickr30k"
[distractors]
source = "imagenet"
classes = "twins.tsv"
"""
CLASSIFIED = """
[classifier]
library = "transformers"
model = "{}"
[selection]
classes = "twins.tsv"
share = 0.5
"""


class Captioned(NamedTuple):
    filename: str
    data: bytes
    captions: tuple[str, ...]
    split: str


class Classed(NamedTuple):
    stem: str
    data: bytes
    split: str
    class_index: int


@lru_cache(maxsize=4)
def captioned_files(count: int = 40) -> tuple[Captioned, ...]:
    """Captioned images in ascending order of their names as strings, with odd white space and escapes in captions."""
    rng = random.Random("captioned twins")
    numbers = sorted((str(rng.randrange(10**6, 10**10)) for _ in range(count)), key=lambda n: f"{n}.jpg")
    rows = []
    for place, number in enumerate(numbers):
        scene = random_scene(rng)
        texts = list(captions(scene, number))
        if place == 1:
            texts[0] = '  A man says "stop" ,  twice .\t'
        if place == 2:
            texts[1] = "Two caf\u00e9 owners \u2014 and a \u201cbus\u201d, comma's\nnew line ."
        data = encode(draw(scene), place)
        rows.append(Captioned(f"{number}.jpg", data, tuple(texts), ("train", "val", "test")[place % 3]))
    return tuple(rows)


@lru_cache(maxsize=4)
def classed_files(per_class: int = 6, damaged: bool = False) -> tuple[Classed, ...]:
    """Train and validation images of ten vehicle classes and ten others; with `damaged`, two that must be rejected."""
    rng = random.Random("classed twins")
    files: list[Classed] = []
    number = 0
    for index in sorted((*VEHICLES, *OTHERS)):
        for place in range(per_class):
            data = encode(draw(random_scene(rng)), number)
            number += 1
            if place == per_class - 1:
                files.append(Classed(f"ILSVRC2012_val_{number:08d}", data, "val", index))
            else:
                files.append(Classed(f"{wnids()[index]}_{rng.randrange(10, 99999)}", data, "train", index))
    if damaged:
        first = next(f for f in files if f.class_index == VEHICLES[0])
        files[files.index(first)] = first._replace(data=first.data[: len(first.data) // 2])
        second = next(f for f in files if f.class_index == VEHICLES[1])
        files[files.index(second)] = second._replace(data=b"")
    return tuple(files)


def encode(image: Image.Image, place: int) -> bytes:
    """The image as a file; every tenth is of a nasty kind that must nevertheless be usable."""
    out = io.BytesIO()
    kind = place % 20
    if kind == 1:
        image.convert("CMYK").save(out, "JPEG", quality=90)
    elif kind == 3:
        image.save(out, "PNG")
    elif kind == 5:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(out, "JPEG", quality=90, exif=exif)
    elif kind == 7:
        image.save(out, "JPEG", quality=90, exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff\x00\x12broken")
    elif kind == 9:
        image.convert("L").save(out, "JPEG", quality=90)
    elif kind == 11:
        image.convert("P").save(out, "PNG", transparency=3)
    elif kind == 13:
        image.convert("RGBA").save(out, "PNG")
    elif kind == 15:
        image.convert("L").convert("I").point(lambda v: v * 257).convert("I;16").save(out, "PNG")
    else:
        image.save(out, "JPEG", quality=90)
    return out.getvalue()


def write_flickr30k(folder: Path, form: str, files: tuple[Captioned, ...] | None = None) -> Path:
    """Flickr30k in `folder` in one of `FLICKR_FORMS` or `FLICKR_COPIES`."""
    files = captioned_files() if files is None else files
    folder.mkdir(parents=True, exist_ok=True)
    if form.startswith("parquet"):
        _write_flickr_parquet(folder, files, splits=form == "parquet")
        return folder
    if form in FLICKR_COPIES:
        write_captions(folder / "captions" / CSV_NAME, files)
        _write_flickr_copy(folder, form, files)
        return folder
    write_captions(folder / CSV_NAME, files)
    if form == "zip":
        with zipfile.ZipFile(folder / "flickr30k-images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for row in sorted(files, key=lambda r: r.data):  # In another order than the CSV.
                archive.writestr(f"flickr30k-images/{row.filename}", row.data)
                archive.writestr(f"__MACOSX/flickr30k-images/._{row.filename}", b"not an image")
    else:
        (folder / "flickr30k-images").mkdir()
        for row in files:
            (folder / "flickr30k-images" / row.filename).write_bytes(row.data)
    return folder


def write_captions(path: Path, files: tuple[Captioned, ...]) -> Path:
    """The hub's captions file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["raw", "sentids", "split", "filename", "img_id"])
        for number, row in enumerate(files):
            sentids = json.dumps([5 * number + k for k in range(5)])
            writer.writerow([json.dumps(list(row.captions)), sentids, row.split, row.filename, number])
    return path


def tokenised(caption: str) -> str:
    """A caption as the copies of UIUC and Kaggle have it: on one line, with spaces before marks."""
    words = caption.replace(".", " .").replace(",", " ,").split()
    return " ".join(words) or "nothing ."


def _write_flickr_copy(folder: Path, form: str, files: tuple[Captioned, ...]) -> None:
    """UIUC's tar or folder with its tokens file, or one of Kaggle's two copies."""
    places = {
        "uiuc_folder": "flickr30k-images",
        "kaggle": "flickr30k_images/flickr30k_images",
        "kaggle_captions": "Images",
    }
    if place := places.get(form):
        (folder / place).mkdir(parents=True)
        for row in files:
            (folder / place / row.filename).write_bytes(row.data)
    else:
        packed = form == "uiuc_tar_gz"
        with tarfile.open(folder / f"flickr30k-images.tar{'.gz' if packed else ''}", "w:gz" if packed else "w") as tar:
            for row in sorted(files, key=lambda r: r.data):
                _add(tar, f"flickr30k-images/{row.filename}", row.data)
    numbered = [(row.filename, n, tokenised(text)) for row in files for n, text in enumerate(row.captions)]
    if form == "kaggle":
        lines = ["image_name| comment_number| comment", *(f"{name}| {n}| {text}" for name, n, text in numbered)]
        path = folder / "flickr30k_images" / "results.csv"
    elif form == "kaggle_captions":
        lines = ["image,caption", *(f'{name},"{text.replace(chr(34), chr(34) * 2)}"' for name, _, text in numbered)]
        path = folder / "captions.txt"
    else:
        lines, path = [f"{name}#{n}\t{text}" for name, n, text in numbered], folder / "results_20130124.token"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def write_imagenet(folder: Path, form: str, files: tuple[Classed, ...] | None = None) -> Path:
    """ImageNet-1k in `folder` in one of `IMAGENET_FORMS`."""
    files = classed_files() if files is None else files
    folder.mkdir(parents=True, exist_ok=True)
    if form == "cache":
        _write_cache(folder, files)
    elif form == "shards":
        write_shards(folder / "data", [f for f in files if f.split == "train"], "train", 3)
        write_shards(folder / "data", [f for f in files if f.split == "val"], "validation", 2)
    elif form == "folders":
        _write_folders(folder, files)
    elif form == "kaggle":
        _write_kaggle(folder, files)
    elif form == "kaggle_zip":
        _write_kaggle(folder / "unpacked", files)
        zip_folder(folder / "unpacked", folder / "imagenet-object-localization-challenge.zip")
        shutil.rmtree(folder / "unpacked")
    elif form == "webdataset":
        _write_webdataset(folder, files)
    elif form == "folders_val_flat":
        _write_folders(folder, [f for f in files if f.split == "train"])
        _write_flat(folder / "val", files)
        _write_devkit(folder, files, packed=True)
    else:
        _write_train_tar(folder, [f for f in files if f.split == "train"])
        validation = [f for f in files if f.split == "val"]
        if form == "tar_val_folders":
            _write_folders(folder, validation)
            return folder
        if form == "tar_val_flat":
            _write_flat(folder / "val", files)
        else:
            _write_val_tar(folder, validation)
        _write_devkit(folder, files, packed=form == "tar_devkit_packed")
    return folder


def write_preset(folder: Path, classifier: str = "") -> Path:
    """A preset for the wanted classes of the twins, with its class set.

    Every captioned image is kept; or, with a classifier (a folder), the half that scores highest.
    """
    rows = [f"{index}\t{wnids()[index]}\tname {index}\tvehicle" for index in VEHICLES]
    (folder / "twins.tsv").write_text("\n".join(["index\twnid\tname\troots", *rows]) + "\n", encoding="utf-8")
    path = folder / "twins.toml"
    path.write_text(PRESET + (CLASSIFIED.format(classifier) if classifier else ""), encoding="utf-8")
    return path


def write_classifier(folder: Path) -> Path:
    """A ViT of ImageNet's 1,000 classes in transformers' format, tiny and never trained; the same every time."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    tiny = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=1000, **tiny))
    model.save_pretrained(folder)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    ViTImageProcessorPil(size={"height": 32, "width": 32}, resample=2, **half).save_pretrained(folder)
    return folder


def write_shards(folder: Path, files: list[Classed], split: str, count: int) -> list[Path]:
    """The hub's shards: struct column, shuffled labels, the hub's names, row groups of 100."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    files = list(files)
    random.Random(f"shuffled {split}").shuffle(files)
    paths = []
    for number in range(count):
        rows = files[number::count]
        images = [{"bytes": r.data, "path": f"{r.stem}_{wnids()[r.class_index]}.JPEG"} for r in rows]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table(
            {"image": pa.array(images, kind), "label": pa.array([r.class_index for r in rows], pa.int64())}
        )
        paths.append(folder / f"{split}-{number:05d}-of-{count:05d}.parquet")
        # No dictionary, or images that recur in benchmarks would be stored once.
        pq.write_table(table, paths[-1], row_group_size=ROWS_PER_GROUP, use_dictionary=False)
    return paths


def _write_flickr_parquet(folder: Path, files: tuple[Captioned, ...], splits: bool) -> None:
    """As the hub converted the data set; or, in another order and without splits, as `lmms-lab/flickr30k` has it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    half = len(files) // 2
    halves = (files[:half], files[half:]) if splits else (files[half:], files[:half])
    for number, rows in enumerate(halves):
        columns = {
            "image": pa.array([{"bytes": r.data, "path": r.filename} for r in rows], kind),
            "caption": [list(r.captions) for r in rows],
            "sentids": [[str(5 * i + k) for k in range(5)] for i in range(len(rows))],
            "split": [r.split for r in rows],
            "img_id": [str(i) for i in range(len(rows))],
            "filename": [r.filename for r in rows],
        }
        table = pa.table({name: values for name, values in columns.items() if splits or name != "split"})
        pq.write_table(table, folder / f"{number:04d}.parquet", row_group_size=ROWS_PER_GROUP)


def _write_cache(folder: Path, files: tuple[Classed, ...]) -> None:
    """The hub's cache: snapshots of links to blobs."""
    from data_prep.sources.imagenet.source import REPOSITORY as IMAGENET

    cache = folder / "datasets--ILSVRC--imagenet-1k"
    (cache / "blobs").mkdir(parents=True)
    write_imagenet(folder / "plain", "shards", files)
    (cache / "snapshots" / IMAGENET.revision / "data").mkdir(parents=True)
    for path in (folder / "plain" / "data").iterdir():
        blob = path.rename(cache / "blobs" / f"blob-of-{path.stem}")
        (cache / "snapshots" / IMAGENET.revision / "data" / path.name).symlink_to(blob)


def _write_folders(folder: Path, files: list[Classed] | tuple[Classed, ...]) -> None:
    for file in files:
        target = folder / file.split / wnids()[file.class_index]
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{file.stem}.JPEG").write_bytes(file.data)


def _write_flat(folder: Path, files: tuple[Classed, ...]) -> None:
    folder.mkdir(parents=True)
    for file in files:
        if file.split == "val":
            (folder / f"{file.stem}.JPEG").write_bytes(file.data)


def _write_kaggle(folder: Path, files: tuple[Classed, ...]) -> None:
    """As Kaggle's zip unpacks: images deep inside, lists beside them, a test split without labels."""
    images = folder / "ILSVRC" / "Data" / "CLS-LOC"
    _write_folders(images, [f for f in files if f.split == "train"])
    _write_flat(images / "val", files)
    (images / "test").mkdir()
    (images / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(files[0].data)
    rows = [f"{f.stem},{wnids()[f.class_index]} 85 1 499 272 " for f in files if f.split == "val"]
    random.Random("kaggle").shuffle(rows)
    lines = "\n".join(["ImageId,PredictionString", *rows])
    (folder / "LOC_val_solution.csv").write_text(f"{lines}\n", encoding="utf-8")
    (folder / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} a class\n" for wnid in wnids()), encoding="utf-8")


def zip_folder(folder: Path, path: Path) -> Path:
    """What lies below a folder as a zip64, the files of a folder as neighbours, and not packed further."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                with archive.open(file.relative_to(folder).as_posix(), "w", force_zip64=True) as member:
                    member.write(file.read_bytes())
    return path


def _write_webdataset(folder: Path, files: tuple[Classed, ...]) -> None:
    """Shuffled tars of `.jpg`, `.cls` and `.json`, as `timm/imagenet-1k-wds` has them."""
    for split, name, count in (("train", "train", 3), ("val", "validation", 2)):
        rows = [file for file in files if file.split == split]
        random.Random(f"tars of {split}").shuffle(rows)
        for number in range(count):
            with tarfile.open(folder / f"imagenet1k-{name}-{number:04d}.tar", "w") as tar:
                for place, row in enumerate(rows[number::count]):
                    wnid, key = wnids()[row.class_index], f"{number:04d}{place:05d}"
                    own = f"{wnid}/{row.stem}.JPEG"
                    facts = {"label": row.class_index, "filename": own, "class_name": wnid}
                    _add(tar, f"{key}.jpg", row.data)
                    _add(tar, f"{key}.cls", str(row.class_index).encode())
                    _add(tar, f"{key}.json", json.dumps(facts).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _write_train_tar(folder: Path, files: list[Classed]) -> None:
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for index in sorted({f.class_index for f in files}, reverse=True):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for file in files:
                    if file.class_index == index:
                        _add(tar, f"{file.stem}.JPEG", file.data)
            _add(outer, f"{wnids()[index]}.tar", inner.getvalue())


def _write_val_tar(folder: Path, files: list[Classed]) -> None:
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for file in files:
            _add(tar, f"{file.stem}.JPEG", file.data)


def _write_devkit(folder: Path, files: tuple[Classed, ...], packed: bool) -> None:
    """Ground truth and meta.mat, with classes numbered in another order than that of the WordNet ids."""
    import numpy as np
    from scipy.io import savemat

    numbers = list(range(1, 1001))
    random.Random("devkit").shuffle(numbers)
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(numbers[i], wnid, wnid, 0) for i, wnid in enumerate(wnids())], dtype=kinds)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    by_number = {int(f.stem.rpartition("_")[2]): f.class_index for f in files if f.split == "val"}
    lines = "".join(f"{numbers[by_number.get(n, 0)]}\n" for n in range(1, max(by_number) + 1))
    contents = {"meta.mat": meta.getvalue(), "ILSVRC2012_validation_ground_truth.txt": lines.encode()}
    name = "ILSVRC2012_devkit_t12"
    if packed:
        with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as tar:
            for file, data in contents.items():
                _add(tar, f"{name}/data/{file}", data)
    else:
        (folder / name / "data").mkdir(parents=True)
        for file, data in contents.items():
            (folder / name / "data" / file).write_bytes(data)


def write_all_as_the_hub_has_them(folder: Path) -> None:
    """Write Flickr30k as a zip, ImageNet as shards, a classifier, and the preset that names it."""
    write_flickr30k(folder / "flickr30k", "zip")
    write_imagenet(folder / "imagenet", "shards")
    write_classifier(folder / "classifier")
    write_preset(folder, "classifier")
