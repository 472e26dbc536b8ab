"""Sets behind addresses: a copy is whole and checked or not there, and is made once."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import threading
from pathlib import Path

import pytest
import s3fs
from fsspec.registry import _registry
from remote_places import without_waiting
from s3_server import LOGIN, point_to
from s3_server import serving as serving_s3
from small_set import small_set
from web_folder import serving

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import DataNotFoundError, EvalSetError, SettingsError, SourceError
from mteb_vehicle_search.eval_set import EvalSet, copies, copying, known
from mteb_vehicle_search.eval_set.verify import verify
from mteb_vehicle_search.files import locked

# In the order in which they are fetched.
CORPUS, PROVENANCE, QRELS, QUERIES = (
    f"{table}/test-00000-of-00001.parquet" for table in ("corpus", "provenance", "qrels", "queries")
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return small_set(tmp_path_factory.mktemp("made") / "set")


@pytest.fixture
def folder(made, tmp_path):
    """What is served, which a test may change."""
    return Path(shutil.copytree(made.folder, tmp_path / "served"))


@pytest.fixture
def web(folder):
    with serving(folder) as server:
        yield server


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    monkeypatch.setattr(copying, "_copied", {})
    return without_waiting(monkeypatch)


def again(address):
    """Copy as another process does."""
    copying._copied.clear()
    return copying.copy(address)


def names_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refusal(address, kind=EvalSetError):
    with pytest.raises(kind) as caught:
        again(address)
    return str(caught.value)


def test_a_copy_has_all_files_of_the_manifest_and_is_made_once(web, made, folder, capsys):
    (folder / "stray.parquet").write_bytes(b"nobody's")
    copy = copying.copy(web.url)
    assert copy.parent == settings.home() / "copies"
    assert names_below(copy) == names_below(made.folder)
    assert verify(copy, progress=False).violations == []
    assert f"Copying {web.url} to {copy}" in capsys.readouterr().err
    assert set(web.asked.values()) == {1, 2}
    assert web.asked["manifest.json"] == 2
    web.asked.clear()
    assert copying.copy(web.url) == copy
    assert web.asked == {}
    assert again(web.url) == copy == copies.place(web.url)
    assert web.asked == {"manifest.json": 1}
    assert "Copying" not in capsys.readouterr().err


def test_a_set_that_was_changed_at_its_address_is_another_copy(web, folder):
    first = copying.copy(web.url)
    other = small_set(folder, distractors=7)
    second = again(web.url)
    assert EvalSet.open(second).content_id == other.content_id
    assert second == copies.place(web.url) != first
    # Whoever evaluates on it meanwhile goes on.
    assert verify(first, progress=False).violations == []
    assert {one.content_id for one in known.sets_here()} >= {EvalSet.open(one).content_id for one in (first, second)}


def test_what_cannot_be_looked_at_is_taken_as_it_was_and_that_is_said(web, folder, capsys):
    copy = copying.copy(web.url)
    (folder / "manifest.json").unlink()
    assert again(web.url) == copy
    assert (
        f"{web.url} cannot be looked at (there is nothing); its last copy is taken: {copy}" in capsys.readouterr().err
    )
    shutil.rmtree(copy)
    assert refusal(web.url, DataNotFoundError).startswith(f"There is no evaluation set at {web.url}.\n")


def test_nobody_waits_for_a_server_where_there_is_a_copy(folder, new_process):
    with serving(folder) as web:
        copy = copying.copy(web.url)
    assert again(web.url) == copy
    assert new_process == []
    shutil.rmtree(copy)
    assert "manifest.json could not be downloaded in 6 attempts" in refusal(web.url, SourceError)
    assert len(new_process) == 5


def test_only_what_is_damaged_is_fetched_again(web):
    copy = copying.copy(web.url)
    victim = copy / QRELS
    victim.write_bytes(bytes(victim.stat().st_size))
    (copy / PROVENANCE).unlink()
    web.asked.clear()
    assert {PROVENANCE, QRELS} <= {one.where for one in verify(copy, progress=False).violations}
    assert again(web.url) == copy
    assert web.asked == {"manifest.json": 1, PROVENANCE: 1, QRELS: 1}
    assert verify(copy, progress=False).violations == []


def test_what_arrives_damaged_is_fetched_once_more_and_then_refused(web, folder):
    victim = folder / QUERIES
    victim.write_bytes(bytes(victim.stat().st_size))
    said = refusal(web.url)
    sha256 = json.loads((folder / "manifest.json").read_text())["files"][QUERIES]["sha256"]
    assert said.startswith(f"{web.url}/{QUERIES} has sha256 ")
    assert f"; its manifest.json says {sha256}.\nIt is damaged, or was changed" in said
    assert web.asked[QUERIES] == 2
    assert copies.all_copies() == []
    assert not copies.place(web.url).exists()
    victim.unlink()
    assert refusal(web.url) == f"{web.url}/{QUERIES} is missing, which its manifest.json names."
    # What was whole had been kept.
    assert web.asked[CORPUS] == 1


def test_a_card_that_was_edited_at_its_place_is_taken(web, folder):
    (folder / "README.md").write_text("---\nlicense: other\n---\n")
    copy = copying.copy(web.url)
    assert (copy / "README.md").read_bytes() == (folder / "README.md").read_bytes()
    web.asked.clear()
    assert again(web.url) == copy
    assert web.asked == {"manifest.json": 1}


def test_a_manifest_whose_tables_are_of_another_set_is_refused(web, folder, tmp_path):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "content_id": "c" * 64}))
    said = refusal(web.url)
    assert said.startswith(f"{web.url} is no sound evaluation set: ")
    assert f"names content id {'c' * 64}, the data gives" in said
    assert copies.all_copies() == []


def test_what_is_no_set_is_told_and_leaves_nothing(web):
    said = refusal(f"{web.url}/page")
    assert said.startswith(f"{web.url}/page is no sound evaluation set: ")
    assert {name.partition("/")[2] for name in names_below(settings.copies_folder())} == {"lock", "holder.json"}


def test_without_room_it_is_told_before_and_while_it_is_copied(web, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 9))
    assert "B, for which there is no room in" in refusal(web.url)
    monkeypatch.undo()
    sync, left = copying.sync_file, [3]

    def filling(path):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(path)

    with monkeypatch.context() as patch:
        patch.setattr(copying, "sync_file", filling)
        said = refusal(web.url)
    assert said.startswith("The disk is full: ")
    assert said.endswith("Run the same command again: what is complete is kept.")
    web.asked.clear()
    again(web.url)
    assert "README.md" not in web.asked
    assert web.asked[CORPUS] == 1


def test_who_wants_a_copy_that_is_being_made_waits_for_it_and_is_told(web, capsys):
    origin = copying.look(web.url, None)
    waiting = threading.Thread(target=copying.copied, args=(origin,))
    with locked(origin.folder.with_name(f".{origin.folder.name}.lock")):
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        assert not origin.folder.exists()
    waiting.join(20)
    assert origin.folder.is_dir()
    said = capsys.readouterr().err
    assert f"{web.url} is being copied to {origin.folder} (process " in said
    assert "It is waited for. If that process is gone, delete " in said


@pytest.fixture(scope="module")
def cloud(made):
    with serving_s3() as server:
        server.upload(made.folder, "bucket", "sets/small/")
        yield server


def test_a_bucket_is_copied_and_no_login_is_written_down(cloud, made, monkeypatch, tmp_path, capsys):
    point_to(cloud, monkeypatch, tmp_path)
    for name in LOGIN:
        if "KEY" in name:
            monkeypatch.setenv(name, "A-SECRET")
    copy = copying.copy("s3://bucket/sets/small/".rstrip("/"))
    assert names_below(copy) == names_below(made.folder)
    notes = "".join(path.read_text() for path in settings.copies_folder().glob("*.json"))
    assert "s3://bucket/sets/small" in notes
    assert "A-SECRET" not in notes + "".join(capsys.readouterr()) + str(sorted(settings.home().rglob("*")))
    assert copying.look("s3://bucket/sets/small", None) == copies.origin_of(copy)
    assert "There is no evaluation set at s3://bucket/elsewhere." in refusal("s3://bucket/elsewhere", DataNotFoundError)
    assert "There is no evaluation set at s3://nowhere/x." in refusal("s3://nowhere/x", DataNotFoundError)


def test_a_bucket_without_a_login_says_how_to_get_one(cloud, monkeypatch, tmp_path):
    point_to(cloud, monkeypatch, tmp_path, login=False)
    assert "Log in as AWS wants it" in refusal("s3://bucket/sets/small", SourceError)
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_extra_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert refusal("s3://bucket/x", SourceError).endswith("\npip install 'mteb-vehicle-search[s3]'")


@pytest.mark.parametrize(
    "address",
    [
        "https://me:A-SECRET@host/set",
        "s3://me:A-SECRET@bucket/set",
        "https://host/set?X-Amz-Signature=A-SECRET",
        "hf://datasets/o/n#A-SECRET",
    ],
)
def test_an_address_with_a_login_is_refused_without_repeating_it(monkeypatch, address):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", address)
    with pytest.raises(SettingsError) as caught:
        known.chosen_folder()
    assert "A-SECRET" not in str(caught.value)
    assert "with a login, or with something behind it" in str(caught.value)


def test_to_look_what_is_here_nobody_is_asked(web, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", f"{web.url}/")
    assert known.known_sets() == {}
    assert not known.chosen_folder().exists()
    known.bring("VehicleImageSearchMini")
    assert web.asked == {}
    known.bring("VehicleImageSearch")
    assert web.asked
    web.asked.clear()
    found = known.known_sets()["VehicleImageSearch"]
    assert found.folder == known.chosen_folder() == copies.place(web.url)
    assert web.asked == {}


def test_a_set_of_another_task_is_brought_up_to_date_by_its_task_only(web, folder, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", web.url)
    small_set(folder, name="dog-image-search")
    first = copying.copy(web.url)
    small_set(folder, name="dog-image-search", distractors=7)
    copying._copied.clear()
    known.bring("VehicleImageSearchMini")
    assert known.folder_of("DogImageSearch") == first
    known.bring("DogImageSearch")
    assert known.folder_of("DogImageSearch") == copies.place(web.url) != first
