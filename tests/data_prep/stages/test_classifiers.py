"""Classifiers: the library's own preprocessing and probabilities, files and devices that are checked."""

from __future__ import annotations

import hashlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_sources import NAMES, noisy_image, train_classifier

from data_prep.class_set import ClassSet, ImageClass
from data_prep.preset import Classifier
from data_prep.stages import classifiers as scorers
from data_prep.stages.classifiers import (
    Scorer,
    TimmScorer,
    TransformersScorer,
    check_classes,
    choose_device,
    classifier_identity,
    hub_files,
    load_scorer,
)
from mteb_vehicle_search.errors import BuildError

TIMM = "test_vit.r160_in1k"


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return train_classifier(tmp_path_factory.mktemp("scorers") / "vit", steps=0)


@pytest.fixture(scope="module")
def timm_weights(tmp_path_factory):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "model.safetensors"
    save_file({name: value.half() for name, value in timm.create_model(TIMM).state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def timm_folder(timm_weights, tmp_path_factory):
    """A classifier as timm writes one to a folder: four classes, and another preprocessing than the library's own."""
    import timm
    from timm.models import save_for_hf

    torch.manual_seed(1)
    model = timm.create_model(TIMM, num_classes=4)
    model.pretrained_cfg["mean"] = model.pretrained_cfg["std"] = (0.25, 0.5, 0.75)
    folder = tmp_path_factory.mktemp("local") / "lite"
    save_for_hf(model, folder, safe_serialization=True)
    return folder


ALL_FOUR = ClassSet("four", tuple(ImageClass(n, f"n{n:08d}", f"name {n}", "") for n in range(4)))


class TestLocalClassifiers:
    """Of both libraries by folder: checked in a moment, and loaded as the library itself would."""

    def test_a_timm_folder_is_the_librarys_own(self, timm_folder):
        import timm
        from timm.data import create_transform, resolve_model_data_config

        named = Classifier("timm", timm_folder.name)
        assert scorers.check_files(named, timm_folder.parent, ALL_FOUR) == 0.0
        scorer = load_scorer(named, timm_folder.parent, "cpu")
        model = timm.create_model(f"local-dir:{timm_folder}", pretrained=True).eval()
        transform = create_transform(**resolve_model_data_config(model), is_training=False)
        assert scorer.classes == 4
        image = noisy_image(1, 7)
        assert np.array_equal(scorer.pixels(image), transform(image).numpy())
        with torch.inference_mode():
            wanted = model(transform(image)[None]).softmax(-1)[0].numpy()
        assert np.allclose(scorer.probabilities([scorer.pixels(image)], 1)[0], wanted, atol=1e-6)

    def test_a_transformers_folder(self, vit):
        assert scorers.check_files(Classifier("transformers", vit.name), vit.parent, ALL_FOUR) == 0.0

    def test_the_other_library_is_named(self, vit, timm_folder):
        for folder, said, wanted in ((vit, "timm", "transformers"), (timm_folder, "transformers", "timm")):
            with pytest.raises(BuildError) as caught:
                scorers.check_files(Classifier(said, folder.name), folder.parent, ALL_FOUR)
            assert str(caught.value) == (
                f'The classifier in {folder} is of {wanted}, not of {said}.\nSay so in the preset: library = "{wanted}"'
            )

    @pytest.mark.parametrize(
        ("library", "name"),
        [
            ("timm", "config.json"),
            ("timm", "model.safetensors"),
            ("transformers", "config.json"),
            ("transformers", "preprocessor_config.json"),
            ("transformers", "model.safetensors"),
        ],
    )
    def test_a_file_that_is_missing_is_named(self, vit, timm_folder, tmp_path, library, name):
        folder = tmp_path / "mine"
        shutil.copytree(vit if library == "transformers" else timm_folder, folder)
        (folder / name).rename(tmp_path / "elsewhere")
        with pytest.raises(BuildError, match=rf"The classifier in {folder} lacks {name}; found: ") as caught:
            scorers.check_files(Classifier(library, "mine"), tmp_path, ALL_FOUR)
        assert caught.value.hint.startswith("Name a folder with config.json")

    def test_weights_that_are_cut_short(self, timm_folder, tmp_path):
        folder = tmp_path / "mine"
        shutil.copytree(timm_folder, folder)
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
        with pytest.raises(BuildError, match=rf"{weights} is damaged: .*\nGet the file again"):
            scorers.check_files(Classifier("timm", "mine"), tmp_path, ALL_FOUR)

    @pytest.mark.parametrize("content", ["{", "[1]", "\ud800"])
    def test_a_configuration_that_is_none(self, timm_folder, tmp_path, content):
        folder = tmp_path / "mine"
        shutil.copytree(timm_folder, folder)
        (folder / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
        with pytest.raises(BuildError, match=r"config\.json (cannot be read|holds no settings but a list)"):
            scorers.check_files(Classifier("timm", "mine"), tmp_path, ALL_FOUR)

    def test_too_few_classes_are_known_before_anything_is_loaded(self, vit, timm_folder):
        five = ClassSet("five", (*ALL_FOUR.classes, ImageClass(4, "n00000004", "name 4", "")))
        for library, folder in (("timm", timm_folder), ("transformers", vit)):
            with pytest.raises(BuildError, match="The class set 'five' names class 4; the classifier has 4"):
                scorers.check_files(Classifier(library, folder.name), folder.parent, five)

    def test_of_one_on_the_hub_its_size_is_asked_for(self, tmp_path, monkeypatch):
        sizes = {("timm/lite0", "rev", ("model.safetensors",)): 0.5}
        monkeypatch.setattr(scorers, "model_gb", lambda *what: sizes[what])
        assert scorers.check_files(Classifier("timm", "lite0", "rev"), tmp_path, ALL_FOUR) == 0.5


class Fixed(Scorer):
    """Gives the first numbers of its input as logits, and remembers how it was called."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__("cpu")
        self.classes, self.calls, self.threads = classes, [], []

    def forward(self, batch):
        """Return logits in half precision, as a model might."""
        state = (torch.is_inference_mode_enabled(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled)
        self.threads.append((torch.get_num_threads(), threading.get_ident()))
        self.calls.append((len(batch), str(batch.dtype), state))
        return batch.flatten(1)[:, : self.classes].half()

    given = forward


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(5, 2, [2, 2, 1]), (4, 2, [2, 2]), (3, 8, [3]), (1, 1, [1])]
)
def test_probabilities_are_softmax_in_batches_and_in_order(count, batch_size, sizes):
    rng = np.random.default_rng(3)
    inputs = [rng.integers(-3, 3, (3, 2, 2)).astype(np.float32) for _ in range(count)]
    scorer = Fixed()
    found = scorer.probabilities(inputs, batch_size)
    logits = np.stack(inputs).reshape(count, -1)[:, :3].astype(np.float64)
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-6)  # Half precision would be off by more.
    assert found.dtype == np.float32
    assert sorted((call[0] for call in scorer.calls), reverse=True) == sizes


@pytest.mark.parametrize("cores", [1, 3])
def test_a_batch_has_one_thread_however_many_processors_there_are(monkeypatch, cores):
    """More would give other last bits; so several batches are computed at a time."""
    monkeypatch.setenv("VEHICLE_SEARCH_CORES", str(cores))
    before, together = torch.get_num_threads(), threading.Barrier(cores, timeout=10)
    scorer = Fixed()
    monkeypatch.setattr(Fixed, "forward", lambda self, batch: (together.wait(), Fixed.given(self, batch))[1])
    torch.set_num_threads(2)
    try:
        scorer.probabilities([np.zeros((3, 2, 2), np.float32)] * 6, 1)
        assert {count for count, _ in scorer.threads} == {1}
        assert len({thread for _, thread in scorer.threads}) == cores
        with ThreadPoolExecutor(1) as pool:  # As whatever comes next has it.
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_scores_are_not_moved_by_tf32_whatever_the_process_allows(monkeypatch):
    scorer = Fixed()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    scorer.probabilities([np.zeros((3, 2, 2), np.float32)], 1)
    assert scorer.calls == [(1, "torch.float32", (True, False, True))]
    assert torch.backends.cudnn.allow_tf32
    assert not torch.is_inference_mode_enabled()


def test_a_transformers_classifier_is_the_librarys_own(vit):
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    scorer = TransformersScorer(vit, "cpu")
    processor = AutoImageProcessor.from_pretrained(vit, backend="pil")
    model = AutoModelForImageClassification.from_pretrained(vit).eval()
    images = [noisy_image(kind, 5, (90, 40)) for kind in range(3)]
    wanted = processor(images, return_tensors="pt")["pixel_values"]
    found = [scorer.pixels(image) for image in images]
    assert {(item.shape, item.dtype) for item in found} == {((3, 32, 32), np.dtype("float32"))}
    np.testing.assert_array_equal(np.stack(found), wanted.numpy())
    with torch.no_grad():
        likely = torch.softmax(model(wanted).logits, -1).numpy()
    np.testing.assert_allclose(scorer.probabilities(found, 2), likely, atol=1e-6)
    assert scorer.labels == list(NAMES.values())
    assert (scorer.classes, scorer.device) == (4, "cpu")
    assert not scorer._model.training


def _with_config(vit, folder, **changes):
    import json

    shutil.copytree(vit, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return TransformersScorer(folder, "cpu")


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({n: f"LABEL_{n}" for n in range(4)}, None),
        ({**{n: f"LABEL_{n}" for n in range(3)}, 3: "cart"}, ["LABEL_0", "LABEL_1", "LABEL_2", "cart"]),
        ({3: "d", 1: "b", 0: "a", 2: "c"}, ["a", "b", "c", "d"]),
    ],
)
def test_labels_that_a_library_made_up_are_none(vit, tmp_path, names, labels):
    ids = {name: number for number, name in names.items()}
    assert _with_config(vit, tmp_path / "vit", id2label=names, label2id=ids).labels == labels


def test_weights_in_half_precision_are_computed_in_single(vit, tmp_path):
    from transformers import ViTForImageClassification

    shutil.copytree(vit, tmp_path / "half")
    ViTForImageClassification.from_pretrained(vit).half().save_pretrained(tmp_path / "half")
    scorer = TransformersScorer(tmp_path / "half", "cpu")
    assert {value.dtype for value in scorer._model.parameters()} == {torch.float32}


def test_pickled_weights_are_not_loaded(vit, tmp_path):
    shutil.copytree(vit, tmp_path / "vit")
    from transformers import ViTForImageClassification

    state = ViTForImageClassification.from_pretrained(vit).state_dict()
    (tmp_path / "vit" / "model.safetensors").unlink()
    torch.save(state, tmp_path / "vit" / "pytorch_model.bin")
    with pytest.raises(BuildError, match="The classifier vit cannot be loaded from"):
        load_scorer(Classifier("transformers", "vit"), tmp_path, "cpu")


def test_a_timm_classifier_is_the_librarys_own(timm_weights):
    import timm
    from safetensors.torch import load_file
    from timm.data import create_transform, resolve_model_data_config

    scorer = TimmScorer(TIMM, "cpu", timm_weights)
    model = timm.create_model(TIMM).eval()
    model.load_state_dict({name: value.float() for name, value in load_file(timm_weights).items()})
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    images = [noisy_image(kind, 6, (250, 170)) for kind in range(2)]
    found = [scorer.pixels(image) for image in images]
    np.testing.assert_array_equal(np.stack(found), torch.stack([transform(image) for image in images]).numpy())
    with torch.no_grad():
        likely = torch.softmax(model(torch.from_numpy(np.stack(found))), -1).numpy()
    np.testing.assert_allclose(scorer.probabilities(found, 2), likely, atol=1e-6)
    assert (scorer.classes, scorer.device, scorer.labels) == (1000, "cpu", None)
    assert not scorer._model.training
    assert {value.dtype for value in scorer._model.parameters()} == {torch.float32}


class Labelled:
    """What `check_classes` looks at."""

    def __init__(self, labels: list[str] | None, classes: int) -> None:
        self.labels, self.classes = labels, classes


def classes(*named: tuple[int, str]) -> ClassSet:
    return ClassSet("mine", tuple(ImageClass(index, "n1", name, "") for index, name in named))


@pytest.mark.parametrize("count", [3, 4, 5])
def test_a_classifier_must_have_the_greatest_class(count):
    wanted = classes((0, "a"), (3, "d"), (2, "c"))
    if count > 3:
        assert check_classes(Labelled(None, count), wanted) is None
        return
    with pytest.raises(BuildError) as error:
        check_classes(Labelled(None, count), wanted)
    assert str(error.value).startswith("The class set 'mine' names class 3; the classifier has 3.\nClass sets hold")


@pytest.mark.parametrize(
    ("label", "name", "same"),
    [
        ("cab, hack, taxi", "cab", True),
        ("cab", "cab, hack", True),
        (" Model T", "model t ", True),
        ("STRASSE", "straße", True),
        ("cab, hack", "hack, cab", False),
        ("cab", "cabs", False),
    ],
)
def test_the_first_names_are_compared(label, name, same):
    warning = check_classes(Labelled(["x", label], 2), classes((1, name)))
    if same:
        assert warning is None
    else:
        assert warning == (
            f"1 of 1 class names differ between the classifier and the class set, first 1: {label!r} and {name!r}."
        )


def test_a_warning_counts_and_names_the_first_difference():
    warning = check_classes(Labelled(["a", "b", "c"], 3), classes((0, "a"), (1, "x"), (2, "y")))
    assert warning.startswith("2 of 3 class names differ")
    assert warning.endswith("first 1: 'b' and 'x'.")


@pytest.mark.parametrize(
    ("library", "model", "wanted"),
    [
        ("timm", "lite0", ("timm/lite0", "rev", ("model.safetensors",))),
        ("timm", "lab/lite0", ("lab/lite0", "rev", ("model.safetensors",))),
        (
            "transformers",
            "lab/vit",
            ("lab/vit", "rev", ("config.json", "preprocessor_config.json", "model.safetensors")),
        ),
    ],
)
def test_files_on_the_hub(library, model, wanted):
    assert hub_files(Classifier(library, model, "rev")) == wanted


def test_a_classifier_from_the_hub_is_loaded_from_where_it_was_put(vit, timm_weights, tmp_path, monkeypatch):
    asked, found = [], []
    monkeypatch.setattr(scorers, "download_model", lambda *what: asked.append(what) or found[-1])
    monkeypatch.setattr(scorers, "TimmScorer", lambda *given: given)
    found.append(vit)
    pinned = Classifier("transformers", "lab/vit", "a" * 40)
    assert load_scorer(pinned, tmp_path, "cpu").labels == list(NAMES.values())
    found.append(tmp_path / "hub")
    named = Classifier("timm", "lab/lite0", "b" * 40)
    assert load_scorer(named, tmp_path, "cuda:1") == ("lite0", "cuda:1", tmp_path / "hub" / "model.safetensors")
    assert asked == [hub_files(pinned), hub_files(named)]


def test_a_local_folder_is_taken_before_the_hub(vit, monkeypatch):
    monkeypatch.setattr(scorers, "download_model", lambda *what: pytest.fail("asked the hub"))
    found = load_scorer(Classifier("transformers", vit.name), vit.parent, "cpu")
    assert isinstance(found, TransformersScorer)
    assert found.device == "cpu"


@pytest.mark.parametrize("error", [OSError, ValueError, KeyError, RuntimeError])
def test_what_a_library_cannot_load_is_said_in_one_line(vit, monkeypatch, error):
    def fail(folder, device):
        raise error("\nfirst\nsecond")

    monkeypatch.setattr(scorers, "TransformersScorer", fail)
    with pytest.raises(BuildError) as stop:
        load_scorer(Classifier("transformers", vit.name), vit.parent, "cpu")
    first, second = str(stop.value).splitlines()
    assert first.startswith(f"The classifier {vit.name} cannot be loaded from {vit}: ")
    assert "first" in first
    assert second.startswith("Is it a classifier of transformers with config.json")


def test_an_error_without_words_is_named(vit, monkeypatch):
    def fail(folder, device):
        raise RuntimeError

    monkeypatch.setattr(scorers, "TransformersScorer", fail)
    with pytest.raises(BuildError, match=": RuntimeError\n"):
        load_scorer(Classifier("transformers", vit.name), vit.parent, "cpu")


def test_identity_is_the_pin_or_the_bytes_of_the_files(tmp_path):
    pinned = Classifier("timm", "lite0", "a" * 40)
    assert classifier_identity(pinned, tmp_path) == {"library": "timm", "model": "lite0", "revision": "a" * 40}
    folder = tmp_path / "vit"
    (folder / "onnx").mkdir(parents=True)
    (folder / "b").write_bytes(b"2")
    (folder / "a").write_bytes(b"1")
    found = classifier_identity(Classifier("transformers", "vit"), tmp_path)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in (("a", b"1"), ("b", b"2"))}
    assert found == {"library": "transformers", "model": "vit", "revision": "", "files": digests}
    assert list(found["files"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "cards", "wanted"),
    [
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda"),
        ("auto", 4, "cuda"),
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("cuda", 0, None),
        ("cuda", 1, "cuda"),
        ("cuda:0", 0, None),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:1", 1, None),
        ("cuda:1", 2, "cuda:1"),
        ("cuda:2", 2, None),
        ("cuda:10", 11, "cuda:10"),
        ("cuda:", 2, None),
        ("cuda:x", 2, None),
        ("xcuda", 2, None),
        ("CPU", 2, None),
        ("", 2, None),
    ],
)
def test_devices(monkeypatch, name, cards, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    if wanted:
        assert choose_device(name) == wanted
    else:
        with pytest.raises(BuildError) as error:
            choose_device(name)
        assert str(error.value) == f"There is no device {name!r} here.\nUse --device cpu or --device auto."


def test_cards_that_cannot_be_used_are_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cpu"
