"""A model's files: from a folder as they are, from the hub only at a full commit and with the right digest."""

import hashlib
import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from stand_ins import put_into_hub_cache

from mteb_vehicle_search import models
from mteb_vehicle_search.errors import ModelLoadError, UsageError
from mteb_vehicle_search.models import model_metas, snapshot
from mteb_vehicle_search.models.snapshot import Commit, ModelFiles, commit_of

REVISION = "0123456789abcdef0123456789abcdef01234567"
NAMES = ("config.json", "model.safetensors")
CONTENT = {"config.json": b"{}", "model.safetensors": b"weights"}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    for name, data in CONTENT.items():
        (made / name).write_bytes(data)
    return made


@pytest.fixture
def cached(folder, tmp_path, monkeypatch):
    """Put the files into a hub cache, as a download leaves them; give their snapshot."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return put_into_hub_cache(tmp_path, "org/model", REVISION, folder)


@pytest.fixture
def hashed(monkeypatch):
    """Give the names of the files that are hashed."""
    found, digest = [], snapshot.file_sha256
    monkeypatch.setattr(snapshot, "file_sha256", lambda path: found.append(path.name) or digest(path))
    return found


def test_a_folder_is_taken_as_it_is_without_a_revision_or_digests(folder, hashed):
    # Whoever names a folder may have changed what is in it.
    wrong = dict.fromkeys(NAMES, sha256(b"other"))
    for given in (folder, str(folder)):
        files = ModelFiles("org/model", None, NAMES, given, wrong)
        assert files.local is True
        assert files.folder() == files.folder(*NAMES) == folder
    assert hashed == []
    assert len(files.digest()) == 40


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_a_folder_lacks_is_named(folder, name):
    (folder / name).unlink()
    files = ModelFiles("org/model", None, NAMES, folder)
    assert files.folder(*(other for other in NAMES if other != name)) == folder
    with pytest.raises(ModelLoadError) as caught:
        files.folder(*NAMES)
    assert str(folder / name) in str(caught.value)
    assert ("only safetensors" in str(caught.value)) == name.endswith(".safetensors")
    (folder / name).mkdir()
    with pytest.raises(ModelLoadError, match="is missing"):
        files.folder(name)


@pytest.mark.parametrize("names", [NAMES, NAMES[:1], ()])
def test_only_what_is_asked_for_is_fetched_and_at_the_pinned_revision(folder, monkeypatch, names):
    asked = []

    def download(*args, **given):
        asked.append((args, given))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    files = ModelFiles("org/model", REVISION, NAMES)
    assert files.local is False
    assert files.folder(*names) == folder
    assert asked == [(("org/model",), {"revision": REVISION, "allow_patterns": list(names)})]


def test_the_hubs_revision_says_what_the_weights_are(cached, hashed):
    assert ModelFiles("org/model", REVISION, NAMES).digest() == ""
    assert hashed == []


@pytest.mark.parametrize(
    "revision", [None, "", "main", REVISION[:-1], REVISION + "0", REVISION.upper(), "g" * 40, REVISION + "\n"]
)
def test_a_pin_is_a_full_commit_hash(cached, revision):
    with pytest.raises(ModelLoadError, match="is not a full commit hash") as caught:
        ModelFiles("org/model", revision, NAMES).folder(*NAMES)
    assert f"org/model: revision {revision!r}" in str(caught.value)


def test_large_files_of_the_cache_are_hashed_once_and_small_ones_not_at_all(cached, hashed):
    files = ModelFiles("org/model", REVISION, NAMES)
    for _ in range(3):
        assert files.folder(*NAMES) == cached
    assert hashed == ["model.safetensors"]


def test_a_large_file_must_be_what_the_hub_said(cached):
    blob = (cached / "model.safetensors").resolve()
    blob.write_bytes(b"Weights")
    files = ModelFiles("org/model", REVISION, NAMES)
    assert files.folder("config.json") == cached
    # It stays refused.
    for _ in range(2):
        with pytest.raises(ModelLoadError) as caught:
            files.folder(*NAMES)
        assert f"sha256 is {sha256(b'Weights')}, not {sha256(b'weights')}" in caught.value.message
        assert str(cached / "model.safetensors") in caught.value.message
        assert str(blob) in caught.value.hint


@pytest.mark.parametrize("name", NAMES)
def test_a_known_digest_is_required_of_every_file_and_goes_before_the_caches(cached, name):
    right = {key: sha256(data) for key, data in CONTENT.items()}
    assert ModelFiles("org/model", REVISION, NAMES, digests=right).folder(*NAMES) == cached
    other = sha256(b"other")
    files = ModelFiles("org/model", REVISION, NAMES, digests={**right, name: other})
    with pytest.raises(ModelLoadError, match=f"{name} is damaged or was tampered with.*, not {other}"):
        files.folder(*NAMES)


def test_every_file_is_checked_not_only_the_first(cached, hashed):
    digests = {"config.json": sha256(CONTENT["config.json"]), "model.safetensors": sha256(b"other")}
    with pytest.raises(ModelLoadError, match=r"model\.safetensors is damaged"):
        ModelFiles("org/model", REVISION, NAMES, digests=digests).folder(*NAMES)
    assert hashed == list(NAMES)


def test_a_file_of_the_cache_that_is_no_link_has_no_digest(cached, hashed):
    # As on a file system without links: its name is its own.
    path = cached / "model.safetensors"
    blob = path.resolve()
    path.unlink()
    shutil.copy(blob, path)
    path.write_bytes(b"Weights")
    assert ModelFiles("org/model", REVISION, NAMES).folder(*NAMES) == cached
    assert hashed == []


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("0" * 64, "0" * 64),
        ("f" * 64, "f" * 64),
        ("0" * 63, None),
        ("0" * 65, None),
        ("g" * 64, None),
        ("0" * 40, None),
    ],
)
def test_a_digest_is_the_name_of_the_blob_that_is_linked_to(tmp_path, target, wanted):
    (tmp_path / target).write_bytes(b"")
    (tmp_path / "link").symlink_to(target)
    assert snapshot._digest_in_cache(tmp_path / "link") == wanted
    assert snapshot._digest_in_cache(tmp_path / target) is None


def http_error():
    return HfHubHTTPError("401: log in\nand more", response=SimpleNamespace(headers={}, request=None))


@pytest.mark.parametrize(
    "error",
    [lambda: LocalEntryNotFoundError("not here\nand more"), http_error, lambda: OSError("no disk\nand more")],
    ids=["not in the cache", "refused by the hub", "full disk"],
)
def test_what_cannot_be_downloaded_is_explained_with_the_command(monkeypatch, error):
    raised = error()

    def download(*args, **given):
        raise raised

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelLoadError) as caught:
        ModelFiles("org/model", REVISION, NAMES).folder("config.json")
    first = str(raised).splitlines()[0]
    assert caught.value.message == (
        f"org/model at {REVISION[:12]} is not in the hub cache and cannot be downloaded: {first}"
    )
    # All files, not only the one that was asked for.
    assert f"hf download org/model --revision {REVISION} config.json model.safetensors\n" in caught.value.hint
    assert "Its licence is at https://huggingface.co/org/model." in caught.value.hint
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize("meta", model_metas()[1:], ids=lambda meta: meta.name)
def test_the_licence_of_our_own_models_is_named(meta):
    assert models._licence_of(meta.name) == meta.license


def test_a_snapshot_that_lacks_files_names_them(cached):
    (cached / "config.json").unlink()
    (cached / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"has no config\.json, model\.safetensors"):
        ModelFiles("org/model", REVISION, NAMES).folder(*NAMES)


def test_what_was_never_downloaded_is_not_in_the_cache(cached):
    files = ModelFiles("org/model", REVISION[::-1], NAMES)
    with pytest.raises(ModelLoadError, match=f"at {REVISION[::-1][:12]} is not in the hub cache"):
        files.folder("config.json")


def test_without_a_connection_the_licence_of_our_own_models_is_told():
    meta = model_metas()[1]
    with pytest.raises(ModelLoadError) as caught:
        meta.load_model(device="cpu")
    assert f"Its licence (cc-by-nc-4.0) is at https://huggingface.co/{meta.name}." in caught.value.hint


def test_what_a_person_is_told_to_download_can_be_pasted_into_a_shell():
    files = ModelFiles("org/model", REVISION, ["config.json", "my model.safetensors"])
    with pytest.raises(ModelLoadError) as caught:
        files.folder("config.json")
    assert f"hf download org/model --revision {REVISION} config.json 'my model.safetensors'\n" in str(caught.value)


def test_every_file_decides_the_digest(folder):
    files = ModelFiles("org/model", None, NAMES, folder)
    before = files.digest()
    assert before == ModelFiles("org/other", None, NAMES[::-1], folder).digest()
    (folder / "notes.txt").write_bytes(b"1")
    assert before == files.digest()
    for name in NAMES:
        (folder / name).write_bytes(b"other")
        assert files.digest() != before
        (folder / name).write_bytes(CONTENT[name])
    (folder / NAMES[0]).unlink()
    with pytest.raises(ModelLoadError, match="cannot be read"):
        files.digest()


# Which commit a repository is at, and which files it has.


@pytest.fixture
def hub(monkeypatch):
    """Let the hub answer with the commit in the list's last place; the number of questions is its length."""
    asked = []

    def model_info(self, repository, revision=None):
        asked.append((repository, revision))
        sha = revision if revision and len(revision) == 40 else f"{len(asked):040d}"
        return SimpleNamespace(sha=sha, siblings=[SimpleNamespace(rfilename="config.json")])

    monkeypatch.setattr(snapshot, "_told", {})
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    return asked


def test_a_branch_is_asked_for_once_and_stays_where_it_was(hub):
    first = commit_of("org/model")
    assert commit_of("org/model") == commit_of("org/model", first.revision) == first
    assert hub == [("org/model", None)]
    assert not first.partial
    assert commit_of("org/model", "v2") != first
    assert len(hub) == 2


@pytest.mark.parametrize("name", ["me/a--b", "me/bär", "me/x.git", "me/..x", f"me/{'x' * 97}"])
def test_what_the_hub_takes_for_no_name_is_wrong_usage(name):
    with pytest.raises(UsageError, match="names no repository: "):
        commit_of(name)


def test_offline_the_cache_tells_and_says_that_it_may_not_be_all(cached):
    assert commit_of("org/model") == Commit(REVISION, frozenset(NAMES), partial=True)
    (cached / "model.safetensors").unlink()
    # Not remembered: it may be completed.
    assert commit_of("org/model").names == {"config.json"}


def test_a_snapshot_that_is_known_to_lack_files_tells_too(cached, monkeypatch):
    class Incomplete(LocalEntryNotFoundError):
        snapshot_path = str(cached)

    def download(*args, **given):
        raise Incomplete("some files are missing")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert commit_of("org/model").names == set(NAMES)
