"""Files and archives in buckets, through the clients of clouds."""

from __future__ import annotations

import logging
import ssl
import sys
from types import SimpleNamespace

import aiohttp
import fsspec
import pytest
import s3fs
from botocore.exceptions import EndpointConnectionError, ProfileNotFound, TokenRetrievalError
from fsspec.registry import _registry
from remote_places import FILES, tar_of, without_waiting, zip_of
from s3_server import LOGIN, point_to, serving

from data_prep.storage import PassedOver, stretches
from data_prep.storage.opening import open_tree
from data_prep.storage.tars import parts_of, read_tar
from data_prep.storage.zips import ZipTree
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.remote.failures import Absent, Passing, Refused, meaning
from mteb_vehicle_search.settings import home

NOT_THERE = "Check the address, and whether it needs a login."


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploaded")
    for name, content in FILES.items():
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(content)
    (folder / "x.zip").write_bytes(zip_of(FILES))
    (folder / "x.tar").write_bytes(tar_of(FILES))
    with serving() as server:
        server.upload(folder, "bucket")
        server.client().create_bucket(Bucket="moving")
        server.put("bucket", "photos/", b"")  # As some programs do for a folder.
        yield server


@pytest.fixture(autouse=True)
def pointed(cloud, monkeypatch, tmp_path):
    point_to(cloud, monkeypatch, tmp_path)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    return without_waiting(monkeypatch)


def refusal(url):
    with pytest.raises(SourceError) as caught:
        open_tree(url).tree.entries()
    return str(caught.value)


def test_folders_are_listed(cloud):
    tree, named = open_tree("s3://bucket/photos/")
    assert (tree.where, named, tree.remote, tree.listable) == ("s3://bucket/photos", "", True, True)
    assert [(entry.name, entry.size_bytes, entry.is_folder) for entry in tree.entries()] == [
        ("a", -1, True),
        ("b", -1, True),
        ("c.txt", 12, False),
    ]
    assert [entry.name for entry in tree.entries("b")] == ["0.jpg", "deep"]
    assert tree.entries("absent") == []
    assert [(entry.name, entry.size_bytes) for entry in tree.walk()] == [(n, len(c)) for n, c in sorted(FILES.items())]
    assert [entry.name for entry in tree.walk("b")] == ["0.jpg", "deep/1.jpg"]
    assert list(tree.walk("absent")) == []
    assert tree.entry("a").is_folder
    assert tree.entry("absent") is None
    assert tree.entry("c.txt").stamp == tree.entries()[-1].stamp != ""
    assert tree.path("a/0.jpg") == "s3://bucket/photos/a/0.jpg"
    assert tree.travelling(["a/0.jpg", "c.txt"]) == len(FILES["a/0.jpg"]) + 12


def test_files_of_one_name_in_two_folders_have_their_own_sizes(cloud):
    cloud.put("bucket", "twins/1.jpg", b"one")
    cloud.put("bucket", "twins/below/1.jpg", b"another")
    tree, _ = open_tree("s3://bucket/twins")
    assert [entry.size_bytes for entry in tree.walk("below")] == [7]
    assert tree.travelling(["1.jpg"]) == 3
    assert list(tree.read(["1.jpg"])) == [(b"one", "")]
    cloud.client().delete_objects(
        Bucket="bucket", Delete={"Objects": [{"Key": "twins/1.jpg"}, {"Key": "twins/below/1.jpg"}]}
    )


def test_a_whole_bucket_is_a_folder():
    tree, _ = open_tree("s3://bucket")
    assert [entry.name for entry in tree.entries()] == ["photos", "x.tar", "x.zip"]
    assert list(tree.read(["photos/a/1.jpg"])) == [(FILES["photos/a/1.jpg"[7:]], "")]


def test_images_are_read(cloud):
    tree, _ = open_tree("s3://bucket/photos")
    assert list(tree.read(FILES)) == [(content, "") for content in FILES.values()]
    with tree.open("a/2.jpg") as file:
        file.seek(-7, 2)
        assert file.read() == FILES["a/2.jpg"][-7:]
    for name in ("a/absent.jpg", "a"):
        with pytest.raises(SourceError, match=rf"^s3://bucket/photos/{name} is missing$"):
            list(tree.read([name]))
        with pytest.raises(SourceError, match=rf"^there is no s3://bucket/photos/{name}$"):
            tree.open(name)


def test_a_zip_is_read_in_place():
    tree, _ = open_tree("s3://bucket/x.zip")
    assert isinstance(tree, ZipTree)
    assert [entry.name for entry in tree.walk()] == sorted(FILES)
    assert list(tree.read(["b/0.jpg", "a/1.jpg"])) == [(FILES["b/0.jpg"], ""), (FILES["a/1.jpg"], "")]
    assert len(list((home() / "listings").iterdir())) == 1


def test_a_tar_is_read_in_place():
    tree, name = open_tree("s3://bucket/x.tar")
    assert [part.name for part in parts_of(tree, name)] == list(FILES)
    assert {one.name: one.data for one in read_tar(tree, name, PassedOver())} == FILES


@pytest.mark.parametrize("folder", ["missing/photos", "bucket/absent", "bucket/phot"])
def test_a_folder_that_is_not_there(folder):
    assert refusal(f"s3://{folder}") == f"there is no folder s3://{folder}\n{NOT_THERE}"


@pytest.mark.parametrize("name", ["missing/x.zip", "bucket/y.zip"])
def test_an_archive_that_is_not_there(name):
    assert refusal(f"s3://{name}") == f"there is no s3://{name}"


@pytest.mark.parametrize("place", ["bucket/x.zip", "bucket/photos"])
def test_without_a_login_it_is_refused(cloud, monkeypatch, tmp_path, waits, place):
    point_to(cloud, monkeypatch, tmp_path, login=False)
    assert refusal(f"s3://{place}") == (
        f"access to s3://{place} is refused (Unable to locate credentials)\n"
        "Log in as AWS wants it (aws configure, AWS_PROFILE); FSSPEC_S3_ANON=true reads public buckets without."
    )
    assert waits == []


@pytest.mark.parametrize("how", ["between", "within"])
def test_an_object_that_changes_is_told(cloud, monkeypatch, how):
    monkeypatch.setattr(stretches, "PIECE", 10_000)
    cloud.put("moving", "changing.tar", tar_of(FILES))
    tree, name = open_tree("s3://moving/changing.tar")
    other = tar_of({name: content[::-1] for name, content in FILES.items()})
    if how == "between":
        parts_of(tree, name)
        cloud.put("moving", "changing.tar", other)

    def read():
        for _ in read_tar(tree, name, PassedOver()):
            cloud.put("moving", "changing.tar", other)

    with pytest.raises(SourceError) as caught:
        read()
    assert str(caught.value) == (
        "s3://moving/changing.tar changed while it was read\nRun the command again: it starts anew with that file."
    )


@pytest.mark.parametrize("length", [9, 11])
def test_a_part_of_another_length_is_asked_for_again(monkeypatch, waits, length):
    answers = [b"0" * length, b"0" * 10]

    async def give(*_, **__):
        return answers.pop(0)

    monkeypatch.setattr(s3fs.S3FileSystem, "_cat_file", give)
    tree, name = open_tree("s3://bucket/x.tar")
    with tree.open(name, [(0, 10)]) as file:
        assert file.read(10) == b"0" * 10
    assert waits == [2.0]


def test_what_is_gone_when_it_is_walked_is_nothing(monkeypatch):
    tree, _ = open_tree("s3://bucket/photos")

    def gone(*_):
        raise FileNotFoundError("gone")

    monkeypatch.setattr(tree._cloud, "walk", gone)
    assert list(tree.walk()) == []


def test_no_key_is_written_anywhere(cloud, caplog):
    caplog.set_level(logging.DEBUG, "data_prep")
    tree, name = open_tree("s3://bucket/x.tar")
    parts_of(tree, name)
    kept = [path.read_text("utf-8") for path in (home() / "listings").iterdir()]
    texts = [tree.where, tree.path(name), *kept, *(record.getMessage() for record in caplog.records)]
    assert not any(LOGIN["AWS_SECRET_ACCESS_KEY"] in text for text in texts)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("s3://b/x.zip", "s3fs", "s3"),
        ("S3A://b/x", "s3fs", "s3"),
        ("gs://b/x.zip", "gcsfs", "gcs"),
        ("gcs://b/x", "gcsfs", "gcs"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(monkeypatch, url, module, extra):
    for scheme in ("s3", "s3a", "gs", "gcs"):
        monkeypatch.delitem(_registry, scheme, raising=False)  # Those that were imported before.
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SourceError) as caught:
        open_tree(url)
    shown = url.replace("S3A", "s3a")
    assert str(caught.value).startswith(f"{shown} cannot be read here: ")
    assert str(caught.value).endswith(f"\npip install 'mteb-vehicle-search[{extra}]'")


@pytest.mark.parametrize("scheme", ["gs", "gcs"])
def test_google_s_addresses_lead_to_its_client(monkeypatch, scheme):
    gcsfs = pytest.importorskip("gcsfs")
    fsspec.get_filesystem_class(scheme).clear_instance_cache()
    asked = []

    async def info(self, path, **options):
        asked.append(path)
        return {"name": path, "type": "file", "size": 3, "etag": "e", "md5Hash": "m"}

    monkeypatch.setattr(gcsfs.GCSFileSystem, "_info", info)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/absent")
    monkeypatch.setattr(gcsfs.credentials.GoogleCredentials, "connect", lambda self, method=None: None)
    tree, name = open_tree(f"{scheme}://bucket/folder/x.tar")
    assert tree.entry(name) == ("x.tar", 3, "e", False)
    assert (tree.where, asked) == (f"{scheme}://bucket/folder", ["bucket/folder/x.tar"])


def test_an_unknown_scheme_is_told():
    with pytest.raises(SourceError) as caught:
        open_tree("quux://a/x.zip")
    assert str(caught.value) == (
        "quux://a/x.zip cannot be read here: Protocol not known: quux\nKnown are https://, s3://, gs:// and hf://."
    )


NOT_TRUSTED = aiohttp.ClientConnectorCertificateError(
    SimpleNamespace(host="h", port=443, is_ssl=True, ssl=True), ssl.SSLCertVerificationError("self-signed")
)


class Told(Exception):
    """What a client of a cloud raises."""

    def __init__(self, **facts):
        super().__init__("told https://h/x?X-Goog-Signature=secret")
        self.__dict__.update(facts)


def because(cause):
    """Return what some clients say of every failure."""
    error = FileNotFoundError("x")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (FileNotFoundError("The specified bucket does not exist"), Absent, "w"),
        (PermissionError("Access Denied"), Refused, "access to w is refused (Access Denied)"),
        (Told(code=403), Refused, "access to w is refused (HTTP 403)"),
        (Told(code="AccessDenied"), Told, None),
        (Told(status=404), Absent, "w"),
        (ConnectionResetError("gone https://h/x?X-Goog-Signature=secret"), Passing, "gone https://h/x"),
        (because(Told(status=401)), Refused, "access to w is refused (HTTP 401)"),
        (because(Told(response=SimpleNamespace(status_code=503))), Passing, "HTTP 503"),
        (because(KeyError("x")), Absent, "w"),
        (OSError(5, "SlowDown"), Passing, "[Errno 5] SlowDown"),
        (ProfileNotFound(profile="p"), Refused, "access to w is refused (The config profile (p) could not be found)"),
        (TokenRetrievalError(provider="sso", error_msg="expired"), Refused, "access to w is refused (Error when "),
        (EndpointConnectionError(endpoint_url="http://h"), Passing, "Could not connect to the endpoint URL: "),
        (aiohttp.InvalidURL("x"), SourceError, "w cannot be reached: x"),
        (
            NOT_TRUSTED,
            SourceError,
            "w cannot be reached: Cannot connect to host h:443 ssl:True ",
        ),
    ],
    ids=str,
)
def test_what_the_clients_of_clouds_mean(error, kind, says):
    told = meaning(error, "w", "gs")
    assert type(told) is kind
    if says:
        assert str(told).startswith(says)
