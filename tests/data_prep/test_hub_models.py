"""The classifier from the hub, the published list, and evaluation sets to the hub, through the command line."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import format_twins
import huggingface_hub
import pytest
from folder_hub import FolderHub
from hub_server import HubServer
from small_sources import without_warnings

from data_prep import cli, hub
from data_prep import hub as hub_models
from data_prep.preset import PRESETS, load_preset
from data_prep.sources.flickr30k import source as flickr30k_source
from data_prep.sources.imagenet import source as imagenet_source
from data_prep.stages import select as selection
from mteb_vehicle_search.errors import SourceError
from mteb_vehicle_search.eval_set import EvalSet

ACCEPTED = "good"  # The only token that the server takes.
COMMAND = "from data_prep import cli; raise SystemExit(cli.main({!r}))"
WITHOUT_WAITING = "import time; sleep = time.sleep; time.sleep = lambda seconds: sleep(min(seconds, 0.01)); " + COMMAND
TERMS = (
    "The images come under terms that go with them:\n"
    "  - Flickr30k: non-commercial research and education only; the photos belong to their owners.\n"
    "  - ImageNet: non-commercial research and education only; copies must not be published.\n"
)


MODEL = {"config.json": b"{}", "model.safetensors": b"12345", "model.bin": b"never wanted"}
NAMES = ("model.safetensors", "config.json")


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The repository of a model, and in `asked_for` how it was named."""
    made = FolderHub(dict(MODEL), tmp_path / "cache", "lab/vit", "b" * 40)
    made.asked_for = []
    monkeypatch.setattr(hub_models, "HubRepository", lambda *a, **k: (made.asked_for.append((*a, k)), made)[1])
    return made


def put(model, *names):
    model.cache.mkdir(exist_ok=True)
    for name in names:
        (model.cache / name).write_bytes(MODEL[name])


def test_a_model_is_downloaded_at_its_pin_and_only_what_is_needed(model):
    folder = hub_models.download_model("lab/vit", "b" * 40, NAMES)
    assert model.asked_for == [("lab/vit", "b" * 40, {"kind": "model"})]
    assert folder == model.cache
    assert model.asked == [("files", ""), ("download", "model.safetensors"), ("download", "config.json")]
    assert {path.name for path in folder.iterdir()} == set(NAMES)


def test_a_model_in_the_cache_needs_no_hub(model):
    put(model, *NAMES)
    assert hub_models.download_model("lab/vit", "b" * 40, NAMES) == model.cache
    assert hub_models.model_gb("lab/vit", "b" * 40, NAMES) == 0.0
    assert model.asked == []


@pytest.mark.parametrize("there", NAMES)
def test_of_half_a_model_in_the_cache_the_rest_is_downloaded(model, there):
    """All files are checked against their hashes then; the client downloads what is missing."""
    put(model, there)
    assert hub_models.download_model("lab/vit", "b" * 40, NAMES) == model.cache
    assert model.downloads() == list(NAMES)


def test_what_is_to_be_downloaded_of_a_model_is_told(model):
    assert hub_models.model_gb("lab/vit", "b" * 40, NAMES) == pytest.approx(7e-9)
    assert model.asked_for == [("lab/vit", "b" * 40, {"kind": "model"})]
    put(model, "config.json")
    assert hub_models.model_gb("lab/vit", "b" * 40, NAMES) == pytest.approx(5e-9)
    assert model.downloads() == []


@pytest.mark.parametrize("function", [hub_models.download_model, hub_models.model_gb])
def test_a_file_that_a_model_does_not_have_is_named(model, function):
    with pytest.raises(SourceError) as caught:
        function("lab/vit", "b" * 40, ("config.json", "vocab.txt", "merges.txt"))
    assert str(caught.value) == f"lab/vit at {'b' * 40} has no vocab.txt\nSee https://hub/lab/vit"
    assert model.downloads() == []


class Api:
    """Stands for the hub's client: what it was asked for, in order, and whether the repository is private."""

    def __init__(self, private: bool) -> None:
        self.private, self.asked, self.failures = private, [], []

    def create_repo(self, *arguments, **options):
        self.asked.append(("create", *arguments, options))
        if self.failures:
            raise self.failures.pop(0)

    def repo_info(self, *arguments, **options):
        self.asked.append(("info", *arguments, options))
        return SimpleNamespace(private=self.private)

    def upload_folder(self, **options):
        self.asked.append(("upload", options))


@pytest.mark.parametrize(("wanted", "is_private"), [(True, True), (False, True), (False, False)])
def test_a_set_is_uploaded_whole_and_replaces_tables_of_earlier_ones(tmp_path, monkeypatch, wanted, is_private):
    api = Api(is_private)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    address = hub_models.upload_folder(tmp_path / "my-set", "my-lab/cars", private=wanted)
    assert address == "https://huggingface.co/datasets/my-lab/cars"
    create = ("create", "my-lab/cars", {"repo_type": "dataset", "private": wanted, "exist_ok": True})
    upload = {
        "folder_path": tmp_path / "my-set",
        "repo_id": "my-lab/cars",
        "repo_type": "dataset",
        "commit_message": "Upload my-set",
        "delete_patterns": ["*.parquet", "recipe.json*"],
    }
    info = [("info", "my-lab/cars", {"repo_type": "dataset"})] if wanted else []
    assert api.asked == [create, *info, ("upload", upload)]


def test_nothing_private_is_sent_to_a_public_repository(tmp_path, monkeypatch):
    api = Api(private=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    with pytest.raises(SourceError) as caught:
        hub_models.upload_folder(tmp_path, "my-lab/cars", private=True)
    assert str(caught.value) == (
        "my-lab/cars exists on the hub and is public.\n"
        "Choose another name, make it private there, or say --public (--gated for images) if you may publish."
    )
    assert [asked[0] for asked in api.asked] == ["create", "info"]


def test_an_upload_is_tried_again_and_what_is_refused_is_named(tmp_path, monkeypatch):
    waits, api = [], Api(private=False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    monkeypatch.setattr(hub_models, "HubRepository", partial(hub.HubRepository, sleep=waits.append))
    api.failures = [ConnectionResetError("reset")] * 2
    hub_models.upload_folder(tmp_path, "my-lab/cars", private=False)
    assert waits == [2.0, 4.0]
    api.failures = [ConnectionResetError("reset")] * 6
    with pytest.raises(SourceError, match=r"my-lab/cars could not be .* in 6 attempts"):
        hub_models.upload_folder(tmp_path, "my-lab/cars", private=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twins, a classifier and a preset; and what a build makes of them, in `out`."""
    folder = tmp_path_factory.mktemp("data")
    format_twins.write_all_as_the_hub_has_them(folder)
    assert cli.main([*arguments(folder), "--out", str(folder / "out")]) == 0
    return folder


def arguments(data, *more):
    sources = ["--flickr30k", data / "flickr30k", "--imagenet", data / "imagenet"]
    command = ["build", "--preset", data / "twins.toml", *sources, "--device", "cpu", "--quiet", *more]
    return list(map(str, command))


@pytest.fixture
def server():
    running = HubServer()
    yield running
    running.close()


def test_another_domain_is_a_toml(data, server, tmp_path):
    """The shipped example as it is: everything from the hub, where drawn images and a tiny ViT stand for the real."""
    dogs = load_preset(str(PRESETS / "examples" / "dogs.toml"))
    for repo, name in ((flickr30k_source.REPOSITORY.repo, "flickr30k"), (imagenet_source.REPOSITORY.repo, "imagenet")):
        files = [path for path in (data / name).rglob("*") if path.is_file()]
        server.repos[repo] = {str(path.relative_to(data / name)): path.read_bytes() for path in files}
    server.repos[dogs.classifier.model] = {p.name: p.read_bytes() for p in (data / "classifier").iterdir()}
    server.repos[dogs.classifier.model]["pytorch_model.bin"] = b"never wanted"
    server.gated.add(imagenet_source.REPOSITORY.repo)
    server.faults = ["429", "", "drop", "503"]
    command = ["build", "--preset", str(PRESETS / "examples" / "dogs.toml"), "--out", str(tmp_path / "out")]
    done = server.run(WITHOUT_WAITING.format([*command, "--device", "cpu", "--quiet"]), tmp_path / "home", ACCEPTED)
    assert done.returncode == 0, done.stderr
    built = EvalSet.open(tmp_path / "out")
    retrievers = [f for f in format_twins.classed_files() if f.class_index == 207 and f.split == "val"]
    assert retrievers
    counts = built.manifest["notes"]["counts"]
    assert counts["captioned"] == round(0.07 * len(format_twins.captioned_files()))
    assert counts["distractors"] == len(retrievers)
    assert {row["class_name"] for row in built.provenance().to_pylist() if not row["captioned"]} == {"golden retriever"}
    assert "# Dog Image Search" in (built.folder / "README.md").read_text(encoding="utf-8")
    asked = {path for _, path, _ in server.log if path.startswith(f"/{dogs.classifier.model}/resolve/")}
    names = ("config.json", "preprocessor_config.json", "model.safetensors")
    assert asked == {f"/{dogs.classifier.model}/resolve/{dogs.classifier.revision}/{name}" for name in names}


def test_the_example_has_all_breeds():
    dogs = load_preset(str(PRESETS / "examples" / "dogs.toml")).distractor_classes()
    assert len(dogs.classes) == 118
    assert dogs.indices == list(range(151, 269))


def test_a_classifier_that_is_not_there(data, server, tmp_path):
    for name in ("twins.tsv", "flickr30k", "imagenet"):
        (tmp_path / name).symlink_to(data / name)
    text = (data / "twins.toml").read_text(encoding="utf-8")
    pinned = text.replace('model = "classifier"', f'model = "lab/vit"\nrevision = "{"b" * 40}"')
    (tmp_path / "twins.toml").write_text(pinned, encoding="utf-8")
    done = server.run(COMMAND.format(arguments(tmp_path, "--out", tmp_path / "out")), tmp_path / "home")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "error: the hub refuses the list of files of lab/vit (HTTP 401): it does not exist or needs a login\n"
        "Look at https://huggingface.co/lab/vit, then run: hf auth login\n"
    )


def test_the_gate_of_imagenet_is_explained_on_the_command_line(data, server, tmp_path):
    server.repos[imagenet_source.REPOSITORY.repo] = {}
    server.gated.add(imagenet_source.REPOSITORY.repo)
    command = ["build", "--preset", str(data / "twins.toml"), "--flickr30k", str(data / "flickr30k"), "--quiet"]
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(file.filename for file in format_twins.captioned_files()) + "\n", encoding="utf-8")
    command += ["--selection", str(listed), "--out", str(tmp_path / "out")]
    gate = (
        "the hub refuses the list of files of ILSVRC/imagenet-1k (HTTP {}): this dataset is given only to people who "
        "accepted its terms\n1. Log in at https://huggingface.co/datasets/ILSVRC/imagenet-1k and accept the terms.\n"
        "2. Run: hf auth login\n"
    )
    for token, status in (("", 401), ("bad", 403)):
        done = server.run(COMMAND.format(command), tmp_path / "home", token)
        assert (done.returncode, without_warnings(done.stderr)) == (1, "error: " + gate.format(status))
    done = server.run(COMMAND.format([*command, "--dry-run"]), tmp_path / "home")
    assert (done.returncode, without_warnings(done.stderr)) == (1, "error: " + gate.format(401))
    assert re.search("^imagenet +NOT READY *$", done.stdout, flags=re.MULTILINE)


def test_without_a_network_everything_that_needs_it_is_told_at_once(tmp_path):
    """The hub's own client would try for minutes, and the rest of the build would be planned meanwhile."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # Refuses connections, as long as nobody listens.
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        home = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "VEHICLE_SEARCH_HOME": str(tmp_path / "v")}
        keep = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        done = subprocess.run(
            [sys.executable, "-c", COMMAND.format(["build", "--dry-run"])],
            env={**keep, **home, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {address} cannot be reached: "), done.stderr
    assert done.stderr.count("cannot be reached") == 1
    for row in ("flickr30k", "imagenet", "classifier"):
        assert re.search(rf"^{row} ", done.stdout, flags=re.MULTILINE)
    assert not (tmp_path / "v").exists()


def test_a_hub_that_does_not_answer_is_asked_for_seconds_and_once(monkeypatch):
    monkeypatch.setattr(hub, "REACH_S", 0.2)
    monkeypatch.setattr(hub, "_heard", {})
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for _ in range(2):
            with pytest.raises(SourceError) as caught:
                hub.require_answer(address)
            assert caught.value.message.startswith(f"{address} cannot be reached: ")
        assert caught.value.hint == "Check the connection (and HTTPS_PROXY), or name local copies."
        silent.settimeout(1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
        # After half a minute it is asked again; one that answered, whatever it said, never.
        hub._heard[address] = ("gone", 0.0)
        monkeypatch.setattr(hub, "_ask", lambda address: "")
        hub.require_answer(address)
        monkeypatch.setattr(hub, "_ask", lambda address: pytest.fail("asked again"))
        hub.require_answer(address)


def test_a_name_that_takes_long_to_look_up(monkeypatch):
    monkeypatch.setattr(hub, "REACH_S", -0.9)
    waiting = threading.Event()
    monkeypatch.setattr(hub.urllib.request, "urlopen", lambda *asked, **more: waiting.wait(30))
    assert hub._ask("http://nowhere") == "no answer in -1 s"
    waiting.set()


@pytest.fixture
def published(monkeypatch):
    """A server of one file, which stands for the published list; its content can be changed."""
    names = [file.filename for file in format_twins.captioned_files()[::2]]
    lines = [f"{name[:-4]}_caption_00,{name},1\n" for name in names]
    content = ["".join(["query_id,document_id,relevance\n", *lines]).encode()]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200 if content[0] else 404)
            self.end_headers()
            self.wfile.write(content[0])

    running = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setattr(selection, "PUBLISHED_URL", f"http://127.0.0.1:{running.server_port}/qrels.csv")
    monkeypatch.setattr(selection, "PUBLISHED_SHA256", hashlib.sha256(content[0]).hexdigest())
    yield content
    running.shutdown()
    running.server_close()


def test_the_published_list_takes_the_place_of_the_classifier(data, published, tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.stages.classifiers.load_scorer", lambda *a: pytest.fail("classified"))
    command = arguments(data, "--selection", "published", "--out", tmp_path / "out")
    assert cli.main(command) == 0
    kept = [name for name in EvalSet.open(tmp_path / "out").corpus_ids() if name.startswith("flickr30k/")]
    assert kept == sorted(f"flickr30k/{file.filename[:-4]}" for file in format_twins.captioned_files()[::2])
    published[0] = b""  # It is downloaded once.
    assert cli.main([*command, "--rebuild", "select"]) == 0


def test_with_the_list_at_hand_missing_and_extra_images_are_named(data, published, tmp_path):
    work = tmp_path / "out.build"
    work.mkdir()
    selection.published_file(work)
    assert cli.main(arguments(data, "--out", tmp_path / "out")) == 0
    compared = EvalSet.open(tmp_path / "out").manifest["notes"]["selection"]
    kept = {name for name in EvalSet.open(tmp_path / "out").corpus_ids() if name.startswith("flickr30k/")}
    listed = {f"flickr30k/{file.filename[:-4]}" for file in format_twins.captioned_files()[::2]}
    assert compared["missing"] == sorted(listed - kept)
    assert compared["extra"] == sorted(kept - listed)
    assert compared["missing"]
    assert compared["extra"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"query_id,document_id,relevance\n1_caption_00,1.jpg,1\n", "has sha256 {found} instead of {wanted}"),
        (b"", "The published selection cannot be downloaded from {url}: HTTP Error 404: Not Found."),
    ],
)
def test_another_list_is_refused(data, published, tmp_path, capsys, content, message):
    published[0] = content
    assert cli.main(arguments(data, "--selection", "published", "--out", tmp_path / "out")) == 1
    words = {
        "found": hashlib.sha256(content).hexdigest(),
        "wanted": selection.PUBLISHED_SHA256,
        "url": selection.PUBLISHED_URL,
    }
    assert message.format(**words) in capsys.readouterr().err
    assert not (tmp_path / "out.build" / "published.csv").exists()


@pytest.mark.parametrize("gated", [False, True])
def test_a_set_is_pushed_after_a_warning(data, server, tmp_path, gated):
    command = ["push", str(data / "out"), "my-lab/cars", "--images", *(["--gated"] if gated else [])]
    done = server.run(COMMAND.format(command), tmp_path / "home", ACCEPTED)
    assert done.returncode == 0, (server.log, done.stderr)
    if gated:
        warning = "The repository will be gated. Admit only people who accepted the same terms.\n"
    else:
        warning = "The repository will be private. Share it only with people who accepted the same terms.\n"
    assert done.stderr.startswith(TERMS + warning)
    assert done.stdout == "Pushed the whole set to https://huggingface.co/datasets/my-lab/cars\n"
    assert ("my-lab/cars" in server.private) != gated
    files = {p.relative_to(data / "out").as_posix(): p.read_bytes() for p in (data / "out").rglob("*") if p.is_file()}
    sent = dict(server.repos["my-lab/cars"])
    del sent[".gitattributes"]
    assert sent == files


def test_a_second_push_replaces_the_files_of_the_first(data, server, tmp_path):
    command = COMMAND.format(["push", str(data / "out"), "my-lab/cars", "--images"])
    assert server.run(command, tmp_path / "home", ACCEPTED).returncode == 0
    server.repos["my-lab/cars"]["corpus/test-00001-of-00002.parquet"] = b"of an earlier set"
    assert server.run(command, tmp_path / "home", ACCEPTED).returncode == 0
    assert "corpus/test-00001-of-00002.parquet" not in server.repos["my-lab/cars"]


def test_a_private_push_to_a_public_repository_is_refused(data, server, tmp_path):
    server.repos["my-lab/cars"] = {}
    server.branches["my-lab/cars", "main"] = "e" * 40
    done = server.run(COMMAND.format(["push", str(data / "out"), "my-lab/cars"]), tmp_path / "home", ACCEPTED)
    assert done.returncode == 1
    assert done.stderr.endswith(
        "error: my-lab/cars exists on the hub and is public.\n"
        "Choose another name, make it private there, or say --public (--gated for images) if you may publish.\n"
    )
    assert server.repos["my-lab/cars"] == {}


def test_a_push_without_a_login_is_explained(data, server, tmp_path):
    command = COMMAND.format(["push", str(data / "out"), "my-lab/cars"])
    done = server.run(command, tmp_path / "home")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "error: my-lab/cars cannot be written: there is no login to the hub on this computer\n"
        "Run: hf auth login (with a token that may write)\n"
    )
    done = server.run(command, tmp_path / "home", "bad")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "error: the hub refuses my-lab/cars (HTTP 401): it does not exist or needs a login\n"
        "Look at https://huggingface.co/datasets/my-lab/cars, then run: hf auth login\n"
    )


def test_a_damaged_set_is_not_pushed(data, server, tmp_path):
    shutil.copytree(data / "out", tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "set" / sorted(manifest["files"])[-1]).write_bytes(b"")
    done = server.run(COMMAND.format(["push", str(tmp_path / "set"), "my-lab/cars"]), tmp_path / "home", ACCEPTED)
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"error: {tmp_path}/set does not verify, so it is not pushed.\n"
        f"See 'vehicle-search-data verify {tmp_path}/set'.\n"
    )
    assert server.repos == {}
