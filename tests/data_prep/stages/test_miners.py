"""Miners: what they make of images and texts is what the libraries do; what is missing is told before the work."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from model_folders import write_clip, write_sentence_clip
from PIL import Image
from small_miners import TIMM, TIMM_ARGS, write_sentence, write_timm
from small_sources import noisy_image, train_classifier

from data_prep.hub import HubFile, HubRepository
from data_prep.preset import Classifier, Miner
from data_prep.stages import miners
from data_prep.stages.miners import check_files, identity_of, load_miner, unit
from data_prep.stages.networks import in_batches
from data_prep.stages.ranked import check_not_ranked
from mteb_vehicle_search.errors import BuildError, SourceError

TEXTS = ["a red cart", "a green cart in scene 12, told a.", "grey wall", "b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("miners")
    write_timm(found / "vit")
    write_sentence(found / "bert")
    train_classifier(found / "classifier", steps=0)
    return found


def some_images(count: int = 5) -> list[Image.Image]:
    return [noisy_image(number % 4, number, (90 + 10 * number, 70)) for number in range(count)]


def embedded(miner, images, batch_size=2) -> np.ndarray:
    return miner.vectors([miner.read(image, image.resize((40, 30))) for image in images], batch_size)


def normal(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors.double(), dim=1).numpy()


@pytest.mark.parametrize("side_px", [0, 64])
def test_features_of_timm_are_the_librarys_own(folder, side_px):
    import timm
    from safetensors.torch import load_file
    from timm.data import create_transform, resolve_model_data_config

    found = embedded(load_miner(Miner("timm", "vit", side_px=side_px), folder, None, "cpu"), some_images())
    side = side_px or 32
    model = timm.create_model(TIMM, num_classes=0, **{**TIMM_ARGS, "img_size": side}).eval()
    state = load_file(folder / "vit" / "model.safetensors")
    state = {name: value for name, value in state.items() if not name.startswith("head.")}
    if side != 32:
        from timm.layers import resample_abs_pos_embed

        grid = [side // 8, side // 8]
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], new_size=grid, num_prefix_tokens=1)
    model.load_state_dict(state)
    data = resolve_model_data_config(model) | {"input_size": (3, side, side), "crop_pct": 0.9}
    pixels = torch.stack([create_transform(**data, is_training=False)(image) for image in some_images()])
    with torch.no_grad():
        np.testing.assert_allclose(found, normal(model(pixels)), atol=1e-5)
    assert (found.shape, found.dtype) == ((5, 16), np.float32)
    assert np.ptp(found, axis=0).max() > 0.01


def test_logits_of_the_classifier_are_its_own(folder):
    from transformers import ViTForImageClassification, ViTImageProcessorPil

    classifier = Classifier("transformers", "classifier")
    found = embedded(load_miner(Miner("classifier"), folder, classifier, "cpu"), some_images())
    model = ViTForImageClassification.from_pretrained(folder / "classifier").eval()
    inputs = ViTImageProcessorPil.from_pretrained(folder / "classifier")(some_images(), return_tensors="pt")
    with torch.no_grad():
        np.testing.assert_allclose(found, normal(model(**inputs).logits), atol=1e-5)


def test_captions_are_the_mean_of_the_librarys_vectors(folder):
    from sentence_transformers import SentenceTransformer

    several = [TEXTS[:1], TEXTS[1:3], TEXTS]
    found = load_miner(Miner("sentence-transformers", "bert"), folder, None, "cpu").vectors(several, 3)
    model = SentenceTransformer(str(folder / "bert"), device="cpu")
    each = [model.encode(texts, normalize_embeddings=True) for texts in several]
    wanted = np.stack([vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0)) for vectors in each])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (found.shape, found.dtype) == ((3, 16), np.float32)


def test_the_layout_is_where_what_is_whatever_the_light():
    miner = miners.LayoutMiner()
    left, right = Image.new("RGB", (64, 48), "black"), Image.new("RGB", (64, 48), "black")
    left.paste((100, 100, 100), (0, 0, 32, 48))
    right.paste((100, 100, 100), (32, 0, 64, 48))
    lighter = left.point(lambda value: value + 60)
    grey, white = Image.new("RGB", (9, 9), "grey"), Image.new("RGB", (9, 9), "white")
    found = miner.vectors([miner.read(image, image) for image in (left, right, lighter, grey, white)], 2)
    cosines = found @ found.T
    assert found.shape == (5, 16 * 16 * 3 + 1)
    assert cosines[0, 2] == pytest.approx(1, abs=1e-4)
    assert cosines[0, 1] == pytest.approx(-1, abs=1e-3)
    assert cosines[3, 4] == pytest.approx(1, abs=1e-4)
    assert abs(cosines[0, 3]) < 0.01


def test_colours_are_counted_by_quarter():
    miner, image = miners.ColourMiner(), Image.new("RGB", (8, 8), (255, 0, 0))
    image.paste((0, 255, 0), (4, 0, 8, 4))
    (found,) = miner.vectors([miner.read(image, image)], 1)
    red, green = 3 * 16, 3 * 4
    assert np.flatnonzero(found).tolist() == [red, 64 + green, 128 + red, 192 + red]
    np.testing.assert_allclose(found[found > 0], 0.5)
    narrow = Image.new("RGB", (1, 5), "blue")
    assert np.linalg.norm(miner.vectors([miner.read(narrow, narrow)], 1)) == pytest.approx(1)


def test_what_has_no_direction_stays_so():
    found = unit(np.array([[3.0, 4.0], [0.0, 0.0], [np.nan, 1.0]]))
    np.testing.assert_array_equal(found[:2], np.array([[0.6, 0.8], [0, 0]], dtype=np.float32))
    assert np.isnan(found[2]).any()


@pytest.mark.parametrize("cores", [1, 2])
def test_every_batch_has_one_thread(monkeypatch, cores):
    monkeypatch.setenv("VEHICLE_SEARCH_CORES", str(cores))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = in_batches(
            "cpu", range(5), 2, lambda batch: torch.tensor([[n, torch.get_num_threads()] for n in batch])
        )
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found.tolist() == [[n, 1] for n in range(5)]
    assert found.dtype == np.float32


def test_threads_do_not_change_a_bit(folder, monkeypatch):
    image = load_miner(Miner("timm", "vit"), folder, None, "cpu")
    text = load_miner(Miner("sentence-transformers", "bert"), folder, None, "cpu")
    found, before = set(), torch.get_num_threads()
    try:
        for threads in (1, 2):
            monkeypatch.setenv("VEHICLE_SEARCH_CORES", str(threads))
            torch.set_num_threads(threads)
            vectors = embedded(image, some_images(9), 4), text.vectors([TEXTS, TEXTS[:1]], 2)
            found.add(b"".join(one.tobytes() for one in vectors))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("library", "name", "lost", "message"),
    [
        ("timm", "vit", "model.safetensors", "lacks model.safetensors; found: config.json."),
        ("timm", "vit", "config.json", "lacks config.json; found: model.safetensors."),
        ("sentence-transformers", "bert", "modules.json", "lacks modules.json; found: "),
        ("sentence-transformers", "bert", "model.safetensors", "lacks model.safetensors; found: "),
    ],
)
def test_a_miner_without_its_files_is_told(folder, tmp_path, library, name, lost, message):
    shutil.copytree(folder / name, tmp_path / name)
    assert check_files(Miner(library, name), tmp_path, None) == 0
    (tmp_path / name / lost).unlink()
    with pytest.raises(BuildError) as error:
        check_files(Miner(library, name), tmp_path, None)
    assert str(error.value).startswith(f"The miner in {tmp_path / name} {message}")


def test_damaged_weights_and_foreign_code_are_told(folder, tmp_path):
    shutil.copytree(folder / "bert", tmp_path / "bert")
    shutil.copytree(folder / "vit", tmp_path / "vit")
    weights = tmp_path / "vit" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(BuildError, match=re.escape(f"{weights} is damaged: ")):
        check_files(Miner("timm", "vit"), tmp_path, None)
    modules = json.loads((tmp_path / "bert" / "modules.json").read_text(encoding="utf-8"))
    modules[0]["type"] = "own.Code"
    (tmp_path / "bert" / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(BuildError, match=r"needs own\.Code, which is not the library's; code .* is never run\."):
        check_files(Miner("sentence-transformers", "bert"), tmp_path, None)
    (tmp_path / "vit" / "config.json").write_text("{}", encoding="utf-8")
    shutil.copy(folder / "vit" / "model.safetensors", weights)
    with pytest.raises(BuildError, match=r"is not of timm: its config\.json names no architecture\."):
        check_files(Miner("timm", "vit"), tmp_path, None)
    with pytest.raises(BuildError, match="The miner vit cannot be loaded from"):
        load_miner(Miner("timm", "vit"), tmp_path, None, "cpu")


def test_code_that_came_with_a_model_is_not_run_whatever_was_checked(folder, tmp_path):
    shutil.copytree(folder / "bert", tmp_path / "bert")
    path, ran = tmp_path / "bert" / "modules.json", tmp_path / "ran"
    modules = json.loads(path.read_text(encoding="utf-8"))
    modules[0]["type"] = "own.Code"
    path.write_text(json.dumps(modules), encoding="utf-8")
    (tmp_path / "bert" / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Code: pass\n", encoding="utf-8")
    with pytest.raises(BuildError, match="The miner bert cannot be loaded from"):
        load_miner(Miner("sentence-transformers", "bert"), tmp_path, None, "cpu")
    assert not ran.exists()


def test_an_identity_is_the_pin_or_the_files(folder, tmp_path):
    pinned = Miner("timm", "vit_small", "a" * 40, "dinov2", 224, 0.9)
    known = {"library": "timm", "model": "vit_small", "revision": "a" * 40, "side_px": 224}
    assert identity_of(pinned, folder, None) == known
    shutil.copytree(folder / "vit", tmp_path / "vit")
    first = identity_of(Miner("timm", "vit"), tmp_path, None)
    assert set(first["files"]) == {"config.json", "model.safetensors"}
    (tmp_path / "vit" / "config.json").write_text("{}", encoding="utf-8")
    assert identity_of(Miner("timm", "vit"), tmp_path, None) != first
    assert "files" in identity_of(Miner("classifier"), folder, Classifier("transformers", "classifier"))["classifier"]


@pytest.mark.parametrize("write", [write_clip, write_sentence_clip])
def test_a_folder_of_an_image_text_model_is_no_miner(tmp_path, write):
    write(tmp_path / "ranked")
    with pytest.raises(BuildError) as error:
        check_not_ranked("m", Miner("sentence-transformers", "ranked"), tmp_path)
    said = "The miner m is ranked, an image-text model: one that a set ranks cannot choose its images."
    assert str(error.value).startswith(said)


def test_a_known_image_text_model_is_no_miner(folder, tmp_path):
    for name in ("openai/clip-vit-base-patch32", "OpenAI/CLIP-ViT-base-patch32", "vehicle-search/tiny-clip"):
        with pytest.raises(BuildError, match="an image-text model"):
            check_not_ranked("m", Miner("sentence-transformers", name, "a" * 40), tmp_path)
    for miner in (
        Miner("sentence-transformers", "sentence-transformers/all-MiniLM-L6-v2", "a" * 40),
        Miner("timm", "vit_small_patch14_dinov2.lvd142m", "a" * 40),
        Miner("timm", "vit"),
        Miner("sentence-transformers", "bert"),
        Miner("pixels", "layout"),
        Miner("classifier"),
    ):
        check_not_ranked("m", miner, folder)


@pytest.mark.parametrize("network", [True, False])
def test_of_a_text_model_on_the_hub_what_is_loaded_travels_and_no_more(folder, monkeypatch, network):
    shutil.copytree(folder / "bert", folder / f"hub{network}")
    where, asked = folder / f"hub{network}", []
    for name in ("pytorch_model.bin", "onnx/model.onnx", "onnx/config.json", "openvino/model.safetensors"):
        (where / name).parent.mkdir(exist_ok=True)
        (where / name).write_bytes(b"x")
    names = [path.relative_to(where).as_posix() for path in where.rglob("*") if path.is_file()]

    def files(self, folder=None):
        if not network:
            raise SourceError("no network")
        return [HubFile(name, 1, "") for name in names]

    monkeypatch.setattr(HubRepository, "files", files)
    monkeypatch.setattr(HubRepository, "cached", lambda self, name: where / name)
    monkeypatch.setattr(miners, "model_gb", lambda *given: asked.append(given) or 0.25)
    miner = Miner("sentence-transformers", "owner/bert", "b" * 40)
    assert check_files(miner, folder, None) == 0.25
    ((repository, revision, wanted),) = asked
    assert (repository, revision) == ("owner/bert", "b" * 40)
    needed = {path.relative_to(folder / "bert").as_posix() for path in (folder / "bert").rglob("*") if path.is_file()}
    assert set(wanted) == needed - {"README.md"}
    assert wanted[0] == "modules.json"
    if not network:
        monkeypatch.setattr(HubRepository, "cached", lambda self, name: None)
        with pytest.raises(SourceError, match="no network"):
            check_files(miner, folder, None)
