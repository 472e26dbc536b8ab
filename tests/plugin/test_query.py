"""`vehicle-search query`: what is found, what it costs, and the page of it."""

from __future__ import annotations

import io
import re
import webbrowser

import mteb
import numpy as np
import pytest
from hand_made_runs import hand_made, info_of, table_of
from PIL import Image
from small_set import jpeg, small_set
from toy_encoder import ToyEncoder

from data_prep.stages.reduce import prepare
from mteb_vehicle_search.cli import main
from mteb_vehicle_search.eval_set.schema import ImagePolicy
from mteb_vehicle_search.plugin import query
from mteb_vehicle_search.run_record import write_run_record

HOSTILE = "red bus</script><img src=x onerror=alert(1)>"


class Colours(ToyEncoder):
    """Images by their mean colour, texts by the colour that they name first."""

    def __init__(self):
        super().__init__()
        self.last, self.tasks = None, set()

    def encode(self, inputs, **kwargs):
        rows = []
        self.tasks.add(kwargs["task_metadata"].name)
        for batch in inputs:
            for image in batch.get("image", []):
                self.last = np.asarray(image)
                rows.append(np.append(np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) - 128, 20.0))
                self.images_seen += 1
            if "image" not in batch:
                rows += [
                    [200.0, -50.0, -50.0, 1.0] if "red" in text else [1.0, 1.0, 1.0, 1.0] for text in batch["text"]
                ]
                self.texts_seen += len(batch["text"])
        return np.array(rows, dtype=np.float32)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The small set, the model that the command gets, and the addresses that a browser was asked to open."""
    eval_set, model, opened = small_set(tmp_path / "set"), Colours(), []
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(eval_set.folder))
    monkeypatch.setattr(mteb, "get_model", lambda name, revision: model)
    monkeypatch.setattr(query, "require_model", lambda *given: None)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    return eval_set, model, opened


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64).mean(axis=(0, 1)) - 128


def expected(eval_set, vector, count: int) -> list[str]:
    """Return the best images by cosine, computed plainly."""
    ids = eval_set.corpus_ids()
    vectors = np.array([np.append(pixels(eval_set.jpeg(image)), 20.0) for image in ids])
    scores = vectors @ np.array(vector) / np.linalg.norm(vectors, axis=1)
    return [ids[n] for n in np.argsort(-scores, kind="stable")[:count]]


def shown(html: str) -> list[str]:
    return re.findall(r"<small><code>(.*?)</code>", html)


def test_a_text_finds_the_best_images_and_the_corpus_is_encoded_once(asked, tmp_path, capsys):
    eval_set, model, opened = asked
    page = tmp_path / "new" / "page.html"
    assert main(["query", "toy/encoder", "red", "-k", "7", "--out", str(page)]) == 0
    said = capsys.readouterr()
    assert f"36 images of {eval_set.title} are encoded first" in said.err
    best = expected(eval_set, [200.0, -50.0, -50.0, 1.0], 7)
    assert shown(page.read_text(encoding="utf-8")) == best
    assert re.findall(r"^\d+ +[\d.-]+ +(\S+)", said.out, flags=re.MULTILINE) == best
    assert opened == []
    seen = model.images_seen
    assert main(["query", "toy/encoder", "red", "-k", "3", "--no-open"]) == 0
    assert "encoded" not in capsys.readouterr().err
    assert model.images_seen == seen


@pytest.mark.usefixtures("asked")
def test_the_time_is_told_by_the_newest_run_of_the_model(tmp_path, capsys):
    command = ["query", "toy/encoder", "red", "--out", str(tmp_path / "page.html")]
    for name, finished, rate in (
        ("toy/encoder", "2026-01-02", 0.2),
        ("toy/encoder", "2026-01-01", 900.0),
        ("toy/encoder", "2026-01-03", None),
        ("toy/encoder", "2026-01-05", 0.0),
        ("other/encoder", "2026-01-04", 900.0),
    ):
        told = {"model_name": name, "model_revision": finished, "finished": finished, "images_per_s": rate}
        write_run_record(table_of(hand_made([1])), info_of(**told))
    assert main(command) == 0
    assert "once, which takes about 3 min at the 0.2 images/s of its last run here; their" in capsys.readouterr().err


def test_vectors_that_a_run_kept_are_used(asked, monkeypatch, capsys, tmp_path):
    _, model, _ = asked
    monkeypatch.setenv("VEHICLE_SEARCH_KEEP_EMBEDDINGS", "1")
    mteb.evaluate(model, mteb.get_task("VehicleImageSearch"), cache=None, show_progress_bar=False)
    seen = model.images_seen
    capsys.readouterr()
    assert main(["query", "toy/encoder", "red", "--out", str(tmp_path / "page.html")]) == 0
    assert "encoded" not in capsys.readouterr().err
    assert model.images_seen == seen


def test_an_image_finds_itself_first(asked, tmp_path):
    file, page = tmp_path / "a photograph.jpg", tmp_path / "page.html"
    file.write_bytes(jpeg(503, size=(400, 320)))
    assert main(["query", "toy/encoder", "--image", str(file), "-k", "4", "--out", str(page)]) == 0
    html = page.read_text(encoding="utf-8")
    assert shown(html)[0] == "imagenet/train/n0003"
    assert html.count("data:image/jpeg;base64,") == 5
    assert "a photograph.jpg" in html


POLICIES = [
    ImagePolicy(),
    ImagePolicy(shortest_side_px=64, resample="lanczos", jpeg_quality=95),
    ImagePolicy(shortest_side_px=48, resample="box"),
    ImagePolicy(shortest_side_px=1_000, resample="bilinear"),
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.resample)
def test_an_image_is_reduced_as_those_of_the_set_are(asked, tmp_path, policy):
    """The model sees just the pixels that a build with this policy would have stored."""
    _, model, _ = asked
    other = small_set(tmp_path / "other", captioned=2, distractors=3, name="other", policy=policy)
    file = tmp_path / "noise.png"
    noise = np.random.default_rng(1).integers(0, 256, (300, 211, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    words = ["--image", str(file), "--data", str(other.folder), "--out", str(tmp_path / "page.html")]
    assert main(["query", "toy/encoder", *words]) == 0
    with Image.open(io.BytesIO(prepare(file.read_bytes(), policy).jpeg)) as stored:
        assert np.array_equal(model.last, np.asarray(stored.convert("RGB")))


def test_a_model_is_asked_for_the_task_of_the_set(asked, tmp_path):
    _, model, _ = asked
    other = small_set(tmp_path / "other", captioned=2, distractors=3, name="other-search")
    words = ["--data", str(other.folder), "--out", str(tmp_path / "page.html")]
    assert main(["query", "toy/encoder", "red", *words]) == 0
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg(3))
    assert main(["query", "toy/encoder", "--image", str(file), *words]) == 0
    assert model.tasks == {other.task_name} == {"OtherSearch"}


def test_the_page_is_one_file_and_text_in_it_is_text(asked):
    _, _, opened = asked
    assert main(["query", "toy/encoder", HOSTILE]) == 0
    (address,) = opened
    path = query.settings.home() / "queries" / "toy-encoder-red-bus-script-img-src-x-onerror-alert-1.html"
    assert address == path.as_uri()
    html = path.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<img src=x" not in html
    assert {source[:5] for source in re.findall(r'(?:src|href)="([^"]+)"', html)} == {"data:"}
    assert html.count("<figure>") == query.BEST


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Say what to search for"),
        (["red", "--image", "x.jpg"], "Say what to search for"),
        (["--image", "nowhere.jpg"], "There is no file nowhere.jpg"),
        (["--image", __file__], "is no image that can be read"),
        (["red", "--data", "NoSuchSearch"], "There are VehicleImageSearch, VehicleImageSearchMini"),
    ],
)
def test_what_cannot_be_searched_for_is_said(asked, capsys, words, message):
    assert main(["query", "toy/encoder", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_corpus_whose_vectors_are_kept_nowhere_is_refused(asked, capsys, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_STREAM", "1")
    assert main(["query", "toy/encoder", "red"]) == 2
    assert "is searched without keeping vectors (36 images)" in capsys.readouterr().err


def test_a_set_is_named_by_its_folder_or_task(asked, tmp_path):
    other = small_set(tmp_path / "other", captioned=2, distractors=3, name="other")
    assert query.choose_set(str(other.folder)).content_id == other.content_id
    assert query.choose_set("VehicleImageSearch").content_id == asked[0].content_id
    assert query.choose_set("VehicleImageSearchMini").folder == query.settings.mini_folder()
