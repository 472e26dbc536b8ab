"""Scores: the same as transformers' own, whatever the chunk; resumable; rules and comparison."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from small_sources import NAMES, WNIDS, jpeg, picture, train_classifier

from data_prep import classify, selection
from data_prep.class_set import ClassSet, ImageClass
from data_prep.classify import score_images, summed_scores
from data_prep.decoding import decode
from data_prep.preset import Classifier, Selection
from data_prep.scorers import TimmScorer, check_classes, choose_device, load_scorer
from data_prep.sources import SourceImage
from data_prep.stages import Stages
from mteb_vehicle_search.errors import BuildError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return train_classifier(tmp_path_factory.mktemp("tiny-vit"))


@pytest.fixture(scope="module")
def scorer(folder):
    return load_scorer(Classifier("transformers", folder.name), folder.parent, "cpu")


@pytest.fixture
def images():
    pictures = [jpeg(picture(n % 4, 900 + n)) for n in range(10)]
    pictures[4] = pictures[4][:500]
    return [SourceImage(f"flickr30k/{n}", data, "flickr30k", "") for n, data in enumerate(pictures)]


def test_preprocessing_squashes_bilinearly_and_scales_to_one(scorer):
    image = picture(0, 1, (90, 40))
    small = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32)
    np.testing.assert_allclose(scorer.pixels(image), (small / 255 - 0.5).transpose(2, 0, 1) / 0.5, atol=1e-6)


def test_probabilities_are_those_of_the_model(folder, scorer, images, tmp_path, monkeypatch):
    import torch
    from transformers import ViTForImageClassification

    monkeypatch.setattr(classify, "CHUNK", 4)
    files, rejected = score_images(Stages(tmp_path), images, scorer, {}, workers=2, batch_size=3)
    assert len(files) == 3
    assert [(item.id, item.stage) for item in rejected] == [("flickr30k/4", "classify")]
    found = dict(summed_scores(files, [0, 1, 2]))
    assert sorted(found) == sorted({image.id for image in images} - {"flickr30k/4"})
    model = ViTForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        pixels = torch.from_numpy(scorer.pixels(decode(images[3].data).image))[None]
        wanted = torch.softmax(model(pixels).logits, -1)[0, :3].sum().item()
    assert found["flickr30k/3"] == pytest.approx(wanted, abs=1e-6)
    assert found["flickr30k/3"] < 0.5 < found["flickr30k/0"]


def test_finished_chunks_are_not_computed_again(scorer, images, tmp_path, monkeypatch):
    monkeypatch.setattr(classify, "CHUNK", 4)
    files, _ = score_images(Stages(tmp_path), images, scorer, {}, workers=1, batch_size=4)
    before = [file.read_bytes() for file in files]
    (tmp_path / "stages" / "classify" / "chunk-00001.json").unlink()
    calls = []
    monkeypatch.setattr(
        scorer, "probabilities", lambda inputs, n: calls.append(len(inputs)) or _again(scorer, inputs, n)
    )
    score_images(Stages(tmp_path), images, lambda: scorer, {}, workers=1, batch_size=4)
    assert calls == [3]
    assert [file.read_bytes() for file in files] == before


def _again(scorer, inputs, batch_size):
    return type(scorer).probabilities(scorer, inputs, batch_size)


def test_timm_classifier_uses_its_own_preprocessing(tmp_path):
    import timm
    from safetensors.torch import save_file

    name = "test_vit.r160_in1k"
    save_file(timm.create_model(name, pretrained=False).state_dict(), tmp_path / "model.safetensors")
    scorer = TimmScorer(name, "cpu", tmp_path / "model.safetensors")
    assert scorer.classes == 1000
    pixels = scorer.pixels(picture(0, 0))
    assert pixels.shape == (3, 160, 160)
    assert scorer.probabilities([pixels], 1).sum() == pytest.approx(1, abs=1e-5)


def test_a_damaged_classifier_is_named(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "vit")
    path = tmp_path / "vit" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BuildError, match=r"The classifier vit cannot be loaded from .*vit: .*\nIs it a classifier of"):
        load_scorer(Classifier("transformers", "vit"), tmp_path, "cpu")
    (tmp_path / "vit" / "preprocessor_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(BuildError, match="cannot be loaded"):
        load_scorer(Classifier("transformers", "vit"), tmp_path, "cpu")


def test_probabilities_that_are_no_numbers_stop_the_build(scorer, images, tmp_path, monkeypatch):
    monkeypatch.setattr(scorer, "forward", lambda batch: batch.flatten(1)[:, :4] * float("nan"))
    with pytest.raises(BuildError, match=r"no finite probabilities for 9 of 9 images, first flickr30k/0\."):
        score_images(Stages(tmp_path), images, scorer, {}, workers=1, batch_size=4)


def test_devices_are_checked():
    assert choose_device("cpu") == "cpu"
    for name in ("cuda:99", "banana", "cuda:x", ""):
        with pytest.raises(BuildError, match=f"There is no device '{name}' here"):
            choose_device(name)


def test_class_names_are_compared_with_the_labels(scorer):
    right = ClassSet("c", tuple(ImageClass(n, WNIDS[n], NAMES[n], "") for n in (0, 1)))
    wrong = ClassSet("c", (ImageClass(0, WNIDS[0], "tench", ""),))
    assert check_classes(scorer, right) is None
    assert "'red cart' and 'tench'" in check_classes(scorer, wrong)
    with pytest.raises(BuildError, match="names class 900"):
        check_classes(scorer, ClassSet("c", (ImageClass(900, "n1", "x", ""),)))


def test_threshold_is_exclusive_and_share_counts():
    scores = [("b", 0.6), ("a", 0.61), ("d", 0.9), ("c", 0.61)]
    assert selection.select(scores, Selection("x", threshold=0.6)) == {"a": 0.61, "c": 0.61, "d": 0.9}
    assert list(selection.select(scores, Selection("x", share=0.5))) == ["a", "d"]


def test_comparison_names_missing_and_extra():
    digest = selection.selection_digest(["flickr30k/1", "flickr30k/2"])
    found = selection.compare(["flickr30k/2", "flickr30k/3"], 2, digest, {"flickr30k/1", "flickr30k/2"})
    assert (found["same"], found["missing"], found["extra"]) == (False, ["flickr30k/1"], ["flickr30k/3"])
    assert any("NOT the published one" in line for line in selection.describe(found))


def test_selection_lists_in_both_forms(tmp_path):
    path = tmp_path / "list"
    path.write_text("query_id,document_id,relevance\n1_caption_00,12.jpg,1\n1_caption_01,12.jpg,1\n")
    assert selection.read_selection(path, "flickr30k") == {"flickr30k/12"}
    path.write_text("12.jpg\n13.jpg\n")
    assert selection.read_selection(path, "flickr30k") == {"flickr30k/12", "flickr30k/13"}
    path.write_text("../../etc/passwd\n")
    with pytest.raises(BuildError, match="is not a file name"):
        selection.read_selection(path, "flickr30k")
