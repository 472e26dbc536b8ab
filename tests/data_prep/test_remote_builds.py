"""Sets built from a web server and a bucket are those built from local files, whatever the line does."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import format_twins
import pytest
import s3_server
from range_server import RangeServer
from remote_places import without_waiting

from data_prep import cli
from data_prep.storage import remote
from mteb_vehicle_search.eval_set import EvalSet

FILES = format_twins.captioned_files(8)
KAGGLE = "imagenet-object-localization-challenge.zip"
TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"


def build(*arguments: object) -> int:
    """Run the command."""
    return cli.main(["build", "--quiet", "--allow-incomplete", *map(str, arguments)])


def digest(folder: Path) -> dict[str, str]:
    """The bytes of a set but for its manifest, which tells what was passed over."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """The twins in the forms that are served, a preset, and the set built from local files."""
    home = tmp_path_factory.mktemp("twins")
    format_twins.write_preset(home)
    format_twins.write_flickr30k(home / "flickr30k", "zip", FILES)
    format_twins.write_flickr30k(home / "unpacked", "folder", FILES)
    for form in ("kaggle_zip", "tar_devkit_packed", "folders", "shards", "webdataset"):
        format_twins.write_imagenet(home / form, form)
    sources = ("--flickr30k", home / "flickr30k", "--imagenet", home / "folders")
    assert build("--preset", home / "twins.toml", *sources, "--out", home / "set") == 0
    return home


@pytest.fixture
def server(twins):
    """A web server with Kaggle's zip, the tars of image-net.org, and Flickr30k's zip with its captions."""
    served = RangeServer()
    for form in ("flickr30k", "kaggle_zip", "tar_devkit_packed", "webdataset"):
        for path in (twins / form).rglob("*"):
            if path.is_file():
                served.serve(f"/{form}/{path.relative_to(twins / form).as_posix()}", path.read_bytes())
    yield served
    served.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Attempts follow at once."""
    return without_waiting(monkeypatch)


def of_web(twins: Path, server: RangeServer, imagenet: str, out: Path) -> list[object]:
    """What builds a set from the server."""
    flickr30k = f"{server.url}/flickr30k/flickr30k-images.zip"
    captions = f"{server.url}/flickr30k/{format_twins.CSV_NAME}"
    sources = ["--flickr30k", flickr30k, "--captions", captions, "--imagenet", f"{server.url}/{imagenet}"]
    return ["--preset", twins / "twins.toml", *sources, "--out", out]


def same(out: Path, twins: Path) -> bool:
    """Whether two sets are the same in every byte."""
    assert EvalSet.open(out).content_id == EvalSet.open(twins / "set").content_id
    return digest(out) == digest(twins / "set")


@pytest.mark.parametrize("imagenet", [f"kaggle_zip/{KAGGLE}", f"tar_devkit_packed/{TRAIN}", "tar_devkit_packed"])
def test_from_a_web_server(twins, server, tmp_path, imagenet):
    assert build(*of_web(twins, server, imagenet, tmp_path / "out")) == 0
    assert same(tmp_path / "out", twins)
    manifest = EvalSet.open(tmp_path / "out").manifest
    assert server.host not in str(manifest), "where the sources lay is nobody's matter"


@pytest.mark.parametrize("forms", [("flickr30k", "shards"), ("unpacked", "folders"), ("unpacked", "webdataset")])
def test_from_a_bucket(twins, tmp_path, monkeypatch, forms):
    with s3_server.serving() as s3:
        s3_server.point_to(s3, monkeypatch, tmp_path)
        for number, form in enumerate(forms):
            s3.upload(twins / form, f"bucket{number}", "some folder/")
        places = ["--flickr30k", "s3://bucket0/some folder", "--imagenet", "s3://bucket1/some folder"]
        assert build("--preset", twins / "twins.toml", *places, "--out", tmp_path / "out") == 0
    assert same(tmp_path / "out", twins)


def test_only_wanted_members_travel_and_the_plan_says_how_many_bytes(twins, server, tmp_path, capsys):
    arguments = of_web(twins, server, f"kaggle_zip/{KAGGLE}", tmp_path / "out")
    (tmp_path / "list.txt").write_text("".join(f"{file.filename}\n" for file in FILES[:2]), encoding="utf-8")
    arguments += ["--selection", tmp_path / "list.txt"]
    assert build(*arguments, "--dry-run") == 0
    shown = capsys.readouterr().out
    server.log.clear()
    assert build(*arguments) == 0
    wanted = [file for file in format_twins.classed_files() if file.class_index in format_twins.VEHICLES]
    images = sum(len(file.data) for file in wanted)
    path = f"/kaggle_zip/{KAGGLE}"
    sent = sum(one.sent for one in server.asked(path=path))
    # Kept from the dry run: the list of members. Beside the images travel their headers and the lists of classes.
    assert images < sent < 1.1 * images + 100_000 < server.files[path].size
    (row,) = re.findall(r"imagenet travels +([\d.]+) kB: 1 s at 100 Mbit/s and 1 s at 1 Gbit/s", shown)
    assert float(row) * 1_000 == pytest.approx(images, rel=0.1)


FAULTS = ["drop", "503", "", "fewer", "429", "", "500", "wrong range", ""]


@pytest.mark.parametrize("imagenet", [f"kaggle_zip/{KAGGLE}", f"tar_devkit_packed/{TRAIN}"])
def test_a_bad_line_changes_nothing(twins, server, tmp_path, imagenet, no_waiting):
    for file in server.files.values():
        file.faults = [*FAULTS]
    assert build(*of_web(twins, server, imagenet, tmp_path / "out")) == 0
    assert same(tmp_path / "out", twins)
    assert not server.files[f"/{imagenet}"].faults
    assert 7.0 in no_waiting, "the server was asked again when it said"


@pytest.mark.parametrize("imagenet", [f"kaggle_zip/{KAGGLE}", f"tar_devkit_packed/{TRAIN}"])
def test_a_build_that_ends_in_the_middle_of_a_remote_member_goes_on_to_the_same_bytes(
    twins, server, tmp_path, imagenet, monkeypatch
):
    arguments = of_web(twins, server, imagenet, tmp_path / "out")
    fetch, left = remote.RemoteTree._fetch, [14]

    def killed(*given):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return fetch(*given)

    times = 0
    monkeypatch.setattr(remote.RemoteTree, "_fetch", killed)
    while not (tmp_path / "out").is_dir():
        times += 1
        left[0] = 14 * times
        status = build(*arguments)
        assert status in (0, 130)
    assert times > 1, "it ended at least once"
    assert same(tmp_path / "out", twins)


def test_a_file_that_changes_meanwhile_ends_the_build_and_the_next_one_takes_the_new_file(
    twins, server, tmp_path, capsys, monkeypatch
):
    path, arguments = f"/kaggle_zip/{KAGGLE}", of_web(twins, server, f"kaggle_zip/{KAGGLE}", tmp_path / "out")
    whole = server.files[path].content(0, server.files[path].size)
    fetch, left = remote.RemoteTree._fetch, [10]

    def changed(*given):
        left[0] -= 1
        if left[0] == 0:  # Another zip of the same images, with something before it.
            server.serve(path, bytes(1_000) + whole)
        return fetch(*given)

    monkeypatch.setattr(remote.RemoteTree, "_fetch", changed)
    assert build(*arguments) == 1
    told = capsys.readouterr().err
    assert f"error: {server.url}{path} changed while it was read\nRun the command again" in told
    assert build(*arguments) == 0
    assert same(tmp_path / "out", twins)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("401", r"error: access to {} is refused \(HTTP 401\)\nGive a login in"),
        ("403", r"error: access to {} is refused \(HTTP 403\)"),
        ("whole", r"error: {} cannot be read in the middle: its server answers with the whole file\nDownload it"),
    ],
)
def test_what_will_not_pass_is_told_once_before_any_work(twins, server, tmp_path, capsys, fault, says, no_waiting):
    path = f"/kaggle_zip/{KAGGLE}"
    server.files[path].faults = [fault] * 50
    assert build(*of_web(twins, server, path[1:], tmp_path / "out")) == 1
    assert re.search(says.format(re.escape(f"{server.url}{path}")), capsys.readouterr().err)
    assert no_waiting == []
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.build").exists()
