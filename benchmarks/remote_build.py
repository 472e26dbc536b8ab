"""The wanted 5 % of ImageNet read where it lies behind an address, against a plain download of the whole file.

    python benchmarks/remote_build.py [--size-gb 5] [--out results.json]

A server of this process draws two files as they are asked for, neither of which exists as a whole: Kaggle's zip, and
the training tar of image-net.org (a tar of tars), 42 photographs of about 110 KB in each class. All its connections
together send 1 Gbit/s. The project's own source, and the plain download that throws away what it gets, run in processes
of their own, one after the other.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import resource
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PER_CLASS, SHARE, PHOTOS = 42, 0.05, 40
GIGABIT = 1e9 / 8
MOST_TRAVELLED, MOST_TIME, MOST_GIB, MOST_DISK_GB = 1.1, 0.2, 1.5, 1.5
ZIP, TAR = "imagenet-object-localization-challenge.zip", "ILSVRC2012_img_train.tar"
_FULL = 0xFFFFFFFF


class Drawn:
    """A file of pieces, of which only the sizes are known until they are asked for."""

    def __init__(self, sizes: list[int], make: Callable[[int], bytes]) -> None:
        import numpy as np

        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.size = int(self.starts[-1])
        self._make, self._find = make, np.searchsorted

    def content(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to before `end`."""
        first = int(self._find(self.starts, start, "right")) - 1
        last = int(self._find(self.starts, end, "left"))
        found = b"".join(map(self._make, range(first, last)))
        return found[start - int(self.starts[first]) :][: end - start]


def draw_photos() -> list[bytes]:
    """Photographs, which recur under other names, since drawing is slow."""
    from data_prep.sources.drawn.images import draw_photo_like

    files = []
    for seed in range(PHOTOS):
        out = io.BytesIO()
        draw_photo_like(seed).save(out, "JPEG", quality=90)
        files.append(out.getvalue())
    return files


def photo_of(label: int, number: int) -> int:
    """Which photograph an image shows."""
    return (label * 7 + number) % PHOTOS


def draw_zip(photos: list[bytes], classes: int) -> Drawn:
    """Kaggle's copy as a zip, zip64 where it must be, not packed."""
    from data_prep.sources.imagenet.classes import wnids

    crcs = [zlib.crc32(photo) for photo in photos]

    def facts(member: int) -> tuple[bytes, int]:
        label, number = divmod(member, PER_CLASS)
        name = f"ILSVRC/Data/CLS-LOC/train/{wnids()[label]}/{wnids()[label]}_{number}.JPEG"
        return name.encode(), photo_of(label, number)

    sizes: list[int] = []
    records: list[bytes] = []
    at = 0
    for member in range(classes * PER_CLASS):
        name, photo = facts(member)
        size = len(photos[photo])
        extra = struct.pack("<2HQ", 1, 8, at) if at >= _FULL else b""
        records.append(
            struct.pack(
                "<4s6H3L5H2L",
                *(b"PK\x01\x02", 45, 45, 0, 0, 0, 0x5A21, crcs[photo], size, size),
                *(len(name), len(extra), 0, 0, 0, 0, min(at, _FULL)),
            )
            + name
            + extra
        )
        sizes += [30 + len(name), size]
        at += 30 + len(name) + size
    directory = b"".join(records)
    members = len(records)
    end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, members, members, len(directory), at)
    end += struct.pack("<4sLQL", b"PK\x06\x07", 0, at + len(directory), 1)
    end += struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, _FULL, _FULL, 0)
    last = directory + end

    def make(piece: int) -> bytes:
        member, data = divmod(piece, 2)
        if member == members:
            return last
        name, photo = facts(member)
        if data:
            return photos[photo]
        size = len(photos[photo])
        return (
            struct.pack("<4s5H3L2H", b"PK\x03\x04", 45, 0, 0, 0, 0x5A21, crcs[photo], size, size, len(name), 0) + name
        )

    return Drawn([*sizes, len(last)], make)


def draw_tar(photos: list[bytes], classes: int) -> Drawn:
    """The training tar: a tar of a class each, whose members are its images."""
    from data_prep.sources.imagenet.classes import wnids

    padded = [photo + bytes(-len(photo) % tarfile.BLOCKSIZE) for photo in photos]
    end = 2 * tarfile.BLOCKSIZE

    def inner_sizes(label: int) -> list[int]:
        sizes = [size for n in range(PER_CLASS) for size in (tarfile.BLOCKSIZE, len(padded[photo_of(label, n)]))]
        return [*sizes, end + -(sum(sizes) + end) % tarfile.RECORDSIZE]

    inner = [inner_sizes(label) for label in range(classes)]
    pieces = 1 + len(inner[0])  # Of a class: the header of its tar, and what is in it.

    def make(piece: int) -> bytes:
        label, place = divmod(piece, pieces)
        if label == classes:
            return bytes(end)
        if place == 0:
            return header(f"{wnids()[label]}.tar", sum(inner[label]))
        number, data = divmod(place - 1, 2)
        if number == PER_CLASS:
            return bytes(inner[label][-1])
        photo = photo_of(label, number)
        return padded[photo] if data else header(f"{wnids()[label]}_{number}.JPEG", len(photos[photo]))

    return Drawn([*(size for sizes in inner for size in (tarfile.BLOCKSIZE, *sizes)), end], make)


def header(name: str, size: int) -> bytes:
    """The header of a member of a tar."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def wanted_of(classes: int) -> set[int]:
    """The classes that are wanted."""
    return set(random.Random("wanted classes").sample(range(classes), max(1, round(classes * SHARE))))


def ours(url: str, classes: int) -> Counter[int]:
    """The project's own source; how often each content came, by its checksum."""
    from data_prep.sources.imagenet import open_imagenet

    source, wanted, found = open_imagenet(url), wanted_of(classes), Counter()
    for shard in source.shards(wanted, splits=("train",)):
        found.update(zlib.crc32(image.data) for image in source.images(shard, wanted))
    return found


def whole(url: str, classes: int) -> Counter[int]:
    """A plain download, of which nothing is kept."""
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - the server of this benchmark
        while answer.read(1 << 20):
            pass
    return Counter()


def measure(side: str, url: str, classes: int) -> None:
    """Run one side and print what it took, and what it found."""
    sys.path.insert(0, str(ROOT))
    import data_prep.sources.imagenet.source
    import data_prep.storage.remote  # noqa: F401 - what is imported is not timed

    start = time.perf_counter()
    found = {"ours": ours, "whole": whole}[side](url, classes)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "peak_gib": peak / 2**30, "found": sorted(found.items())}))


def run(side: str, url: str, classes: int, folder: Path) -> dict:
    """Run one side in a process of its own, which may write into a folder only."""
    environment = {**os.environ, "VEHICLE_SEARCH_HOME": str(folder), "TMPDIR": str(folder), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, __file__, "--side", side, "--url", url, "--classes", str(classes)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def main() -> int:
    """Measure both files, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-gb", type=float, default=5.0, help="of each file, 5 at most (default: 5)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--side", choices=["ours", "whole"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--classes", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        measure(options.side, options.url, options.classes)
        return 0
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]
    from range_server import RangeServer

    photos = draw_photos()
    classes = min(1000, math.ceil(options.size_gb * 1e9 / PER_CLASS / (sum(map(len, photos)) / PHOTOS)))
    chosen = [photos[photo_of(label, number)] for label in wanted_of(classes) for number in range(PER_CLASS)]
    expected, wanted = Counter(map(zlib.crc32, chosen)), sum(map(len, chosen))
    report: dict[str, dict] = {}
    server = RangeServer(bytes_per_s=GIGABIT)
    print(f"{len(wanted_of(classes))} of {classes:,} classes, {len(chosen):,} images, {wanted / 1e6:,.0f} MB wanted")
    print("file  size     travelled  / wanted  requests   again     time   whole     ratio   peak      disk")
    try:
        for name, draw in ((ZIP, draw_zip), (TAR, draw_tar)):
            drawn = draw(photos, classes)
            server.serve_virtual(f"/{name}", drawn.size, drawn.content)
            url = f"{server.url}/{name}"
            with tempfile.TemporaryDirectory() as temporary:
                mine = run("ours", url, classes, Path(temporary))
                travelled, requests = server.sent(), len(server.log)
                disk = sum(path.stat().st_size for path in Path(temporary).rglob("*") if path.is_file())
                server.log.clear()
                again = run("ours", url, classes, Path(temporary))
                requests_again = len(server.log)
                server.log.clear()
                plain = run("whole", url, classes, Path(temporary))
            if server.sent() != drawn.size:
                raise SystemExit(f"the plain download got {server.sent():,} bytes instead of {drawn.size:,}")
            server.log.clear()
            figures = {
                "size_gb": drawn.size / 1e9,
                "travelled_gb": travelled / 1e9,
                "travelled_of_wanted": travelled / wanted,
                "requests": requests,
                "requests_again": requests_again,
                "seconds": mine["seconds"],
                "seconds_again": again["seconds"],
                "seconds_whole": plain["seconds"],
                "ratio": mine["seconds"] / plain["seconds"],
                "peak_gib": mine["peak_gib"],
                "disk_gb": disk / 1e9,
                "right": Counter(dict(mine["found"])) == Counter(dict(again["found"])) == expected,
            }
            figures["passed"] = bool(
                figures["right"]
                and figures["travelled_of_wanted"] <= MOST_TRAVELLED
                and figures["ratio"] <= MOST_TIME
                and figures["peak_gib"] <= MOST_GIB
                and figures["disk_gb"] <= MOST_DISK_GB
            )
            report[name.rpartition(".")[2]] = figures
            print(
                f"{name.rpartition('.')[2]:4} {drawn.size / 1e9:6.2f} GB {travelled / 1e6:8,.1f} MB "
                f"{figures['travelled_of_wanted']:9.3f} {requests:9,} {requests_again:7,} {mine['seconds']:6.1f} s "
                f"{plain['seconds']:6.1f} s {figures['ratio']:9.3f} {mine['peak_gib']:5.2f} GiB {disk / 1e6:7.2f} MB"
            )
    finally:
        server.close()
    passed = all(figures["passed"] for figures in report.values())
    limits = f"travelled / wanted <= {MOST_TRAVELLED}, ratio <= {MOST_TIME}, peak <= {MOST_GIB} GiB, right images"
    print(f"{limits}: {'passed' if passed else 'NOT PASSED'}")
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8", newline="\n")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
