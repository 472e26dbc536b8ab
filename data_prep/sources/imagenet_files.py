"""ImageNet-1k as the original tar files or as folders of JPEG files."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from data_prep.sources import Part, SourceImage
from data_prep.sources.imagenet_classes import WNID, class_indexes, image_id, wnids
from mteb_vehicle_search.errors import SourceError

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VAL_TAR = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"


class _Files:
    """What the local forms share."""

    form = ""
    download_gb = 0.0

    def __init__(self, root: Path) -> None:
        self.root = root

    def describe(self) -> dict[str, Any]:
        """Form, location and files."""
        files = sorted(path.name for path in self.root.iterdir())[:20]
        return {"form": self.form, "location": str(self.root), "revision": "", "files": files}

    def prefetch(self, part: Part) -> None:
        """Nothing to download."""

    def release(self, part: Part) -> None:
        """The user's files are left alone."""

    def images(self, part: Part, wanted: set[int]) -> Iterator[SourceImage]:
        """The wanted images of the part."""
        if part.class_index >= 0 and part.class_index not in wanted:
            return iter(())
        return _folder_images(part)


class FolderImagenet(_Files):
    """`train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`, as torchvision's ImageFolder reads them."""

    form = "folders"

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether `root` has train and val with class folders."""
        return _has_classes(root / "train") and _has_classes(root / "val")

    def parts(self, wanted: set[int] | None = None) -> list[Part]:
        """One part per split and class."""
        return [*_class_folders(self.root / "train", wanted), *_class_folders(self.root / "val", wanted)]


class TarImagenet(_Files):
    """The original tar files; of the training tar only the wanted inner tars are read."""

    form = "tar"

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether `root` has the training tar and some form of validation."""
        return (root / TRAIN_TAR).is_file() and ((root / VAL_TAR).is_file() or _has_classes(root / "val"))

    def parts(self, wanted: set[int] | None = None) -> list[Part]:
        """One part per inner tar, then the validation tar or its class folders."""
        train = self.root / TRAIN_TAR
        stamp = str(train.stat().st_mtime_ns)
        parts = []
        with _open_tar(train) as tar:
            for member in tar:
                wnid = member.name.rpartition("/")[2].removesuffix(".tar")
                index = class_indexes().get(wnid, -1)
                if member.isfile() and index >= 0 and (wanted is None or index in wanted):
                    name = f"train/{wnid}.tar"
                    parts.append(Part(name, str(train), member.size, "train", index, member.offset_data, stamp))
        absent = sorted((set(range(1000)) if wanted is None else wanted) - {part.class_index for part in parts})
        if absent:
            listed = ", ".join(f"{wnids()[i]}.tar" for i in absent[:5])
            raise SourceError(
                f"{train} lacks {len(absent)} of the inner tars: {listed}", "It may be cut short; get it again."
            )
        parts.sort(key=lambda part: part.name)
        val = self.root / VAL_TAR
        if _has_classes(self.root / "val"):
            return parts + _class_folders(self.root / "val", wanted)
        status = val.stat()
        return [*parts, Part("val.tar", str(val), status.st_size, "val", stamp=str(status.st_mtime_ns))]

    def images(self, part: Part, wanted: set[int]) -> Iterator[SourceImage]:
        """The wanted images of the part, in its order."""
        if part.split == "train":
            return self._train_images(part) if part.class_index in wanted else iter(())
        if part.class_index >= 0:
            return super().images(part, wanted)
        return self._val_images(part, wanted)

    def _train_images(self, part: Part) -> Iterator[SourceImage]:
        wnid = wnids()[part.class_index]
        with Path(part.location).open("rb") as file:
            window = io.BufferedReader(_Window(file, part.offset, part.size_bytes), 1 << 20)
            for name, data in _members(window, f"{part.location}, inner tar {wnid}.tar"):
                where = f"{part.location}, {wnid}.tar, {name}"
                identifier = image_id(name, "train", wnid, where)
                yield SourceImage(identifier, data, "imagenet", "train", part.class_index, wnid)

    def _val_images(self, part: Part, wanted: set[int]) -> Iterator[SourceImage]:
        truth = _ground_truth(self.root)
        with _open_tar(Path(part.location)) as tar:
            for member in _checked(tar, part.location):
                if not member.isfile():
                    continue
                stem = member.name.rpartition("/")[2].rpartition(".")[0]
                number = stem.rpartition("_")[2]
                if not number.isdigit() or not 1 <= int(number) <= len(truth):
                    raise SourceError(f"{part.location}: {member.name!r} has no line in {GROUND_TRUTH}")
                index = truth[int(number) - 1]
                if index in wanted:
                    wnid = wnids()[index]
                    identifier = image_id(member.name, "val", wnid, part.location)
                    yield SourceImage(identifier, _read(tar, member, part.location), "imagenet", "val", index, wnid)


class _Window(io.RawIOBase):
    """A stretch of a file as a file of its own, so that an inner tar is read where it lies."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._at))
        self._file.seek(self._start + self._at)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _has_classes(folder: Path) -> bool:
    return folder.is_dir() and any(WNID.fullmatch(path.name) and path.is_dir() for path in folder.iterdir())


def _class_folders(folder: Path, wanted: set[int] | None) -> list[Part]:
    parts = []
    for index in sorted(range(1000) if wanted is None else wanted, key=lambda i: wnids()[i]):
        wnid = wnids()[index]
        if not (folder / wnid).is_dir():
            raise SourceError(f"{folder} has no class folder {wnid}", "Every wanted class must be there.")
        facts = [(path.name, path.stat().st_size) for path in _image_files(folder / wnid)]
        stamp = hashlib.sha256(repr(facts).encode()).hexdigest()
        size = sum(bytes_ for _, bytes_ in facts)
        parts.append(Part(f"{folder.name}/{wnid}", str(folder / wnid), size, folder.name, index, stamp=stamp))
    return parts


def _image_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _folder_images(part: Part) -> Iterator[SourceImage]:
    wnid = wnids()[part.class_index]
    for path in _image_files(Path(part.location)):
        identifier = image_id(path.name, part.split, wnid, part.location)
        yield SourceImage(identifier, path.read_bytes(), "imagenet", part.split, part.class_index, wnid)


@contextmanager
def _open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except tarfile.TarError as error:
        raise SourceError(f"{path} is damaged: {error}", "Get the file again.") from error


def _checked(tar: tarfile.TarFile, where: str) -> Iterator[tarfile.TarInfo]:
    try:
        yield from tar
    except (tarfile.TarError, OSError) as error:
        raise SourceError(f"{where} is damaged: {error}", "Get the file again.") from error


def _members(file: Any, where: str) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isfile():
                    yield member.name, _read(tar, member, where)
    except tarfile.TarError as error:
        raise SourceError(f"{where} is damaged: {error}", "Get the file again.") from error


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> bytes:
    stream = tar.extractfile(member)
    data = stream.read() if stream is not None else b""
    if len(data) != member.size:
        raise SourceError(f"{where} ends within {member.name}", "It is cut short; get the file again.")
    return data


def _ground_truth(root: Path) -> list[int]:
    """Class indexes of the validation images, from the devkit (packed or not)."""
    from scipy.io import loadmat  # Takes a noticeable part of a second.

    lines, meta = _devkit_file(root, GROUND_TRUTH), _devkit_file(root, "meta.mat")
    # The devkit numbers the classes in an order of its own; meta.mat tells which WordNet id each number means.
    synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    indexes = class_indexes()
    names = {int(number): str(wnid) for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"])}
    try:
        return [indexes[names[int(line)]] for line in lines.decode("ascii").split()]
    except (KeyError, ValueError) as error:
        raise SourceError(f"{GROUND_TRUTH} in {root} holds a class that meta.mat does not know: {error}") from error


def _devkit_file(root: Path, name: str) -> bytes:
    for folder in (root, root / DEVKIT / "data", root / "data"):
        if (folder / name).is_file():
            return (folder / name).read_bytes()
    packed = root / f"{DEVKIT}.tar.gz"
    if packed.is_file():
        with tarfile.open(packed, "r:gz") as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(f"/{name}"):
                    return _read(tar, member, str(packed))
    raise SourceError(
        f"{root} has {VAL_TAR} but not {name}, without which its classes are unknown",
        f"Put {DEVKIT}.tar.gz beside it, or sort the images into val/<wnid>/.",
    )
