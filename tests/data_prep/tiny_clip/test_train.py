"""A training run does what it says: batches, schedule and losses against plain formulas; the shape is that shipped."""

from __future__ import annotations

import dataclasses
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import mteb_vehicle_search
from data_prep.sources.drawn.mini import DrawnScene
from data_prep.sources.drawn.phrases import captions
from data_prep.sources.drawn.scene import CHOICES
from data_prep.tiny_clip import scenes as training_scenes
from data_prep.tiny_clip import train as train_tiny_clip
from data_prep.tiny_clip.scenes import pool_scenes
from data_prep.tiny_clip.train import Training
from data_prep.tiny_clip.vocabulary import VOCABULARY_FILE, tokenize, train_vocabulary, vocabulary_size

TINY_CLIP = Path(mteb_vehicle_search.__file__).parent / "models" / "tiny_clip"
FILES = [
    "bpe_vocabulary.txt.gz",
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
]
SMALL = Training(seed="test", pairs=11, steps=7, batch_pairs=4, warm_up=2, threads=1)


@pytest.fixture(autouse=True)
def drawn_in_this_process(monkeypatch):
    monkeypatch.setattr(training_scenes, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(1))


def test_a_run_is_as_long_and_as_fast_as_that_of_the_shipped_model():
    assert dataclasses.asdict(Training()) == {
        "seed": "tiny-clip-2",
        "pairs": 4000,
        "steps": 800,
        "batch_pairs": 64,
        "learning_rate": 1.5e-3,
        "weight_decay": 0.05,
        "warm_up": 40,
        "threads": 2,
    }
    assert (train_tiny_clip.EMBED_DIM, train_tiny_clip.MERGES) == (128, 400)


def test_the_shape_is_that_of_the_shipped_model():
    shipped = json.loads((TINY_CLIP / "open_clip_config.json").read_text(encoding="utf-8"))
    tokens = vocabulary_size((TINY_CLIP / VOCABULARY_FILE).read_bytes())
    assert train_tiny_clip.model_config(tokens) == shipped
    weights = load_file(TINY_CLIP / "open_clip_model.safetensors")
    model = train_tiny_clip.create_model(tokens)
    assert {n: w.shape for n, w in model.state_dict().items()} == {n: w.shape for n, w in weights.items()}


@pytest.mark.parametrize(
    ("step", "share"),
    [
        (0, 1 / 4),
        (1, 2 / 4),
        (3, 1.0),
        (4, 1.0),
        (9, 0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2),  # A quarter of the way.
        (14, 0.505),
        (23, 0.01 + 0.99 * (1 - math.cos(math.pi / 20)) / 2),  # The last step.
        (24, 0.01),
    ],
)
def test_the_learning_rate_warms_up_and_then_follows_a_cosine(step, share):
    assert train_tiny_clip._schedule(step, Training(steps=24, warm_up=4)) == pytest.approx(share, rel=1e-12)


def test_a_run_that_is_nothing_but_warm_up():
    assert train_tiny_clip._schedule(3, Training(steps=3, warm_up=3)) == 1.0
    assert train_tiny_clip._schedule(4, Training(steps=3, warm_up=3)) == pytest.approx(0.01)


def test_only_matrices_decay():
    parameters = [torch.zeros(2, 3), torch.zeros(4), torch.zeros(()), torch.zeros(1, 2, 3, 4), torch.zeros(1, 1)]
    decaying, others = train_tiny_clip._parameter_groups(parameters, 0.3)
    assert [id(p) for p in decaying["params"]] == [id(parameters[n]) for n in (0, 3, 4)]
    assert [id(p) for p in others["params"]] == [id(parameters[n]) for n in (1, 2)]
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0.0)


def cross_entropy(logits: np.ndarray, answers: np.ndarray) -> float:
    """The mean of -log softmax, by its definition."""
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return float(-np.log(shares[np.arange(len(answers)), answers]).mean())


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("sets", [1, 2, 3])
def test_the_loss_is_contrast_and_attributes_of_images_and_half_of_those_of_texts(sets):
    rng = np.random.default_rng(0)
    seen, read = rng.normal(size=(5, 8)), [rng.normal(size=(5, 8)) for _ in range(sets)]
    heads = {name: torch.nn.Linear(8, size).double() for name, size in (("kind", 4), ("colour", 3))}
    answers = {name: rng.integers(0, head.out_features, 5) for name, head in heads.items()}
    model = SimpleNamespace(
        encode_image=lambda pixels: pixels * 2, encode_text=lambda texts: texts * 3, logit_scale=torch.tensor(1.5)
    )
    loss, contrast = train_tiny_clip._loss(
        model,
        torch.nn.ModuleDict(heads),
        torch.from_numpy(seen / 2),
        [torch.from_numpy(texts / 3) for texts in read],
        {name: torch.from_numpy(values) for name, values in answers.items()},
    )

    def told(name: str, vectors: np.ndarray) -> float:
        weight, bias = (p.detach().numpy() for p in (heads[name].weight, heads[name].bias))
        return cross_entropy(vectors @ weight.T + bias, answers[name])

    products = [math.exp(1.5) * unit(seen) @ unit(texts).T for texts in read]
    own = np.arange(5)
    both_ways = np.mean([(cross_entropy(p, own) + cross_entropy(p.T, own)) / 2 for p in products])
    of_images = np.mean([told(name, seen) for name in heads])
    of_texts = np.mean([told(name, texts) for name in heads for texts in read])
    assert contrast.item() == pytest.approx(both_ways)
    assert loss.item() == pytest.approx(both_ways + of_images + 0.5 * of_texts)


class Recorded:
    """What a small run was made of; every image is its own number instead of a drawing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, training: Training) -> None:
        self.batches: list[list[int]] = []
        self.texts: list[torch.Tensor] = []
        self.answers: list[dict[str, list[int]]] = []
        self.rates: list[list[float]] = []
        self.norms: list[float] = []
        self.optimizer: Any = None
        self.lines: list[str] = []
        original = {name: getattr(train_tiny_clip, name) for name in ("augment", "two_captions", "_loss")}
        adam_w, step = torch.optim.AdamW, torch.optim.AdamW.step

        def images(scenes: list, workers: int) -> torch.Tensor:
            assert workers == training.threads
            return torch.arange(len(scenes), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 96, 96)

        def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            self.batches.append(pixels[:, 0, 0, 0].tolist())
            return original["augment"](pixels, generator)

        def two_captions(tokens: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
            self.texts.append(tokens)
            return original["two_captions"](tokens, generator)

        def loss(model: Any, heads: Any, pixels: Any, texts: Any, answers: dict[str, torch.Tensor]) -> Any:
            self.answers.append({name: values.tolist() for name, values in answers.items()})
            assert model.training
            return original["_loss"](model, heads, pixels, texts, answers)

        class AdamW(adam_w):
            def step(optimizer, *arguments: Any) -> Any:
                self.optimizer = optimizer
                self.rates.append([group["lr"] for group in optimizer.param_groups])
                # The heads, which are not clipped, have as many outputs as an attribute has values.
                ours = [p for g in optimizer.param_groups for p in g["params"] if p.ndim == 0 or p.shape[0] > 12]
                self.norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in ours if p.grad is not None)))
                return step(optimizer, *arguments)

        for name, value in (("augment", augment), ("two_captions", two_captions), ("_loss", loss)):
            monkeypatch.setattr(train_tiny_clip, name, value)
        monkeypatch.setattr(train_tiny_clip, "pool_images", images)
        monkeypatch.setattr(torch.optim, "AdamW", AdamW)
        self.model, self.vocabulary = train_tiny_clip.train(training, self.lines.append)
        self.scenes = pool_scenes(training.seed, training.pairs)


@pytest.fixture(scope="module")
def recorded():
    with pytest.MonkeyPatch.context() as monkeypatch:
        return Recorded(monkeypatch, SMALL)


def test_every_batch_holds_scenes_and_their_near_twins(recorded):
    assert len(recorded.batches) == 7
    for batch in recorded.batches:
        assert len(batch) == 8
        assert all(number % 2 == 0 for number in batch[:4])
        assert batch[4:] == [number + 1 for number in batch[:4]]


def test_no_scene_comes_again_before_the_pool_is_shuffled(recorded):
    """Eleven pairs make two batches of four; what is left over is shuffled in again."""
    rounds = [recorded.batches[n][:4] + recorded.batches[n + 1][:4] for n in (0, 2, 4)]
    for numbers in rounds:
        assert len(set(numbers)) == 8
    assert len({tuple(numbers) for numbers in rounds}) == 3
    assert {number for numbers in rounds for number in numbers} == set(range(0, 22, 2))


def test_the_last_pairs_of_a_pool_that_is_a_whole_number_of_batches_are_used(monkeypatch):
    whole = Recorded(monkeypatch, dataclasses.replace(SMALL, pairs=8, steps=4))
    rounds = [whole.batches[0] + whole.batches[1], whole.batches[2] + whole.batches[3]]
    assert [sorted(numbers) for numbers in rounds] == [list(range(16))] * 2


def test_captions_and_attributes_are_those_of_the_scenes_in_the_batch(recorded):
    texts = [captions(scene, f"test/{number}") for number, scene in enumerate(recorded.scenes)]
    tokens = torch.stack([tokenize(recorded.vocabulary, list(five)) for five in texts])
    assert recorded.vocabulary == train_vocabulary([text for five in texts for text in five], 400)
    for batch, read, answers in zip(recorded.batches, recorded.texts, recorded.answers):
        assert torch.equal(read, tokens[batch])
        assert list(answers) == list(CHOICES)
        for name, numbers in answers.items():
            assert [CHOICES[name][n] for n in numbers] == [getattr(recorded.scenes[place], name) for place in batch]


def test_the_optimizer_follows_the_schedule_and_clips_gradients(recorded):
    expected = [1.5e-3 * train_tiny_clip._schedule(step, SMALL) for step in range(7)]
    assert recorded.rates == [[pytest.approx(rate)] * 2 for rate in expected]
    assert [group["betas"] for group in recorded.optimizer.param_groups] == [(0.9, 0.98)] * 2
    assert [group["eps"] for group in recorded.optimizer.param_groups] == [1e-6] * 2
    assert [group["weight_decay"] for group in recorded.optimizer.param_groups] == [0.05, 0.0]
    assert max(recorded.norms) == pytest.approx(1, abs=1e-4)


def test_heads_and_model_are_trained_and_the_model_is_given_back_for_evaluation(recorded):
    trained = {id(p) for group in recorded.optimizer.param_groups for p in group["params"]}
    model = list(recorded.model.parameters())
    assert {id(p) for p in model} < trained
    assert len(trained) == len(model) + 2 * len(CHOICES)
    assert not recorded.model.training


@pytest.mark.parametrize(("steps", "told"), [(1, [0]), (21, [0, 20]), (23, [0, 20, 22])])
def test_every_twentieth_step_and_the_last_are_told(monkeypatch, steps, told):
    monkeypatch.setattr(train_tiny_clip, "_loss", lambda model, *rest: (model.logit_scale * 2, model.logit_scale))
    lines = Recorded(monkeypatch, dataclasses.replace(SMALL, steps=steps, pairs=1, batch_pairs=1)).lines
    assert lines[0] == "drawing 2 scenes"
    assert [int(line.split()[1]) for line in lines[1:]] == told
    assert lines[1].startswith("step    0  loss 5.319  contrastive 2.659  ")  # Of log(1 / 0.07), where CLIP begins.
    assert lines[1].endswith(" s")


@pytest.mark.parametrize(("sign", "end"), [(1.0, 0.0), (-1.0, math.log(100))])
def test_the_temperature_stays_within_its_bounds(monkeypatch, sign, end):
    monkeypatch.setattr(
        train_tiny_clip, "_loss", lambda model, *rest: (sign * model.logit_scale, model.logit_scale.detach())
    )
    training = dataclasses.replace(SMALL, steps=3, warm_up=0, learning_rate=5.0, pairs=1, batch_pairs=1)
    model = Recorded(monkeypatch, training).model
    assert model.logit_scale.item() == pytest.approx(end, abs=1e-6)


def test_gradients_of_a_step_do_not_stay_for_the_next(monkeypatch):
    """The loss falls by the same slope in every step, which clipping leaves as it is."""
    monkeypatch.setattr(train_tiny_clip, "_loss", lambda model, *rest: (0.1 * model.logit_scale, model.logit_scale))
    recorded = Recorded(monkeypatch, dataclasses.replace(SMALL, steps=3, pairs=1, batch_pairs=1))
    slopes = [float(p.grad) for p in recorded.model.parameters() if p.grad is not None]
    assert slopes == [pytest.approx(0.1)]


def test_training_is_reproducible_to_the_bit_whatever_was_drawn_before(tmp_path: Path) -> None:
    training = Training(seed="test", pairs=6, steps=3, batch_pairs=3, warm_up=2, threads=1)
    for name in ("one", "two"):
        torch.rand(len(name + "x") if name == "two" else 1)
        train_tiny_clip.save(tmp_path / name, *train_tiny_clip.train(training))
    train_tiny_clip.save(
        tmp_path / "other", *train_tiny_clip.train(dataclasses.replace(training, seed="test-2"), print)
    )
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    weights = "open_clip_model.safetensors"
    assert (tmp_path / "one" / weights).read_bytes() != (tmp_path / "other" / weights).read_bytes()


def test_as_many_threads_as_are_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    train_tiny_clip.train(dataclasses.replace(SMALL, steps=0, threads=1))
    assert asked == [1]


def test_a_saved_model_is_whole_small_and_loads_in_open_clip(tmp_path):
    vocabulary = train_vocabulary(["a red bus"], 3)
    model = train_tiny_clip.create_model(vocabulary_size(vocabulary)).eval()
    folder = tmp_path / "new" / "model"
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text("of an earlier run", encoding="utf-8")
    size = train_tiny_clip.save(folder, model, vocabulary)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert size == sum(path.stat().st_size for path in folder.iterdir())
    assert (folder / VOCABULARY_FILE).read_bytes() == vocabulary
    text = (folder / "open_clip_config.json").read_text(encoding="utf-8")
    assert text == json.dumps(train_tiny_clip.model_config(517), indent=2) + "\n"
    weights = load_file(folder / "open_clip_model.safetensors")
    assert set(weights) == set(model.state_dict())
    assert {value.dtype for value in weights.values()} == {torch.float16}
    loaded: Any = open_clip.create_model(f"local-dir:{folder}").eval()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, model.state_dict()[name].half().float()), name


def test_files_are_written_aside_and_then_moved_to_their_place(tmp_path, monkeypatch):
    moved = []
    original = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (moved.append((self, to)), original(self, to))[1])
    vocabulary = train_vocabulary(["a red bus"], 3)
    train_tiny_clip.save(tmp_path / "a" / "b", train_tiny_clip.create_model(517), vocabulary)
    assert [to.name for _, to in moved] == [FILES[2], FILES[1], FILES[0], *FILES[3:]]
    assert [source.name for source, _ in moved] == [f"{to.name}.partial" for _, to in moved]
    assert {source.parent for source, _ in moved} == {tmp_path / "a" / "b"}


class Looked:
    """A model that knows images by their number and texts by their place."""

    def __init__(self, images: np.ndarray, texts: np.ndarray) -> None:
        self.images, self.texts = torch.from_numpy(images), torch.from_numpy(texts)
        self.batches: list[int] = []

    def encode_image(self, numbers: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize
        assert torch.is_inference_mode_enabled()
        self.batches.append(len(numbers))
        return self.images[numbers]

    def encode_text(self, numbers: torch.Tensor, normalize: bool) -> torch.Tensor:
        assert normalize
        return self.texts[numbers]


def test_ndcg_is_that_of_brute_force_with_ties_against_the_model(monkeypatch):
    """Over several blocks of images, in the order of their names; whole numbers, so that many are equally near."""
    rng = np.random.default_rng(0)
    names = rng.permutation(520)
    scenes = [DrawnScene(f"{name:06d}", int(name), ("a", "b") if name % 7 == 0 else ()) for name in names]
    asked = [name for name in range(520) if name % 7 == 0 for _ in "ab"]
    images = rng.integers(-3, 4, (520, 5)).astype(np.float32)
    texts = images[asked] + rng.integers(-1, 2, (len(asked), 5)).astype(np.float32)
    monkeypatch.setattr(train_tiny_clip, "mini_scenes", lambda: scenes)
    monkeypatch.setattr(train_tiny_clip, "draw", lambda scene: ("drawn", scene))
    monkeypatch.setattr(train_tiny_clip, "stored", lambda drawn: ("stored", *drawn))
    monkeypatch.setattr(train_tiny_clip, "tokenize", lambda vocabulary, told: torch.arange(len(told)))
    model = Looked(images, texts)
    found = train_tiny_clip.mini_ndcg_at_10(model, b"", lambda image: torch.tensor(image[2]))
    gains = []
    for place, name in enumerate(asked):
        scores = [float(np.dot(texts[place], image)) for image in images]
        rank = sum(score >= scores[name] for score in scores)
        gains.append(1 / math.log2(rank + 1) if rank <= 10 else 0.0)
    assert 0 < sum(gain > 0 for gain in gains) < len(gains)
    assert found == pytest.approx(np.mean(gains), rel=1e-5)
    assert model.batches == [250, 250, 20]


@pytest.mark.parametrize(("rank", "gain"), [(1, 1.0), (2, 1 / math.log2(3)), (10, 1 / math.log2(11)), (11, 0.0)])
def test_the_tenth_rank_counts_and_the_eleventh_does_not(monkeypatch, rank, gain):
    scenes = [DrawnScene(f"{n:06d}", n, ("a",) if n == rank - 1 else ()) for n in range(15)]
    for name, value in (("mini_scenes", lambda: scenes), ("draw", int), ("stored", int)):
        monkeypatch.setattr(train_tiny_clip, name, value)
    monkeypatch.setattr(train_tiny_clip, "tokenize", lambda vocabulary, told: torch.arange(len(told)))
    model = Looked(-np.arange(15, dtype=np.float32)[:, None], np.ones((1, 1), dtype=np.float32))
    assert train_tiny_clip.mini_ndcg_at_10(model, b"", torch.tensor) == pytest.approx(gain)


def test_images_are_preprocessed_as_open_clip_does_it(monkeypatch):
    seen = []
    scene = pool_scenes("s", 1)[0]
    monkeypatch.setattr(train_tiny_clip, "mini_scenes", lambda: [DrawnScene("0", scene, ("a",))])
    model = SimpleNamespace(
        encode_image=lambda pixels, normalize: (seen.append(pixels), torch.ones(1, 2))[1],
        encode_text=lambda tokens, normalize: torch.ones(1, 2),
    )
    vocabulary = (TINY_CLIP / VOCABULARY_FILE).read_bytes()
    assert train_tiny_clip.mini_ndcg_at_10(model, vocabulary) == 1.0
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{TINY_CLIP}")
    image = training_scenes.stored(train_tiny_clip.draw(scene))
    assert isinstance(image, Image.Image)
    assert torch.equal(seen[0][0], preprocess(image))


@pytest.mark.parametrize("images", [10, 11, 2000])
def test_chance_is_the_mean_over_all_ranks(images):
    gains = [1 / math.log2(rank + 1) if rank <= 10 else 0.0 for rank in range(1, images + 1)]
    assert train_tiny_clip.random_ndcg_at_10(images) == pytest.approx(np.mean(gains))


@pytest.mark.parametrize(
    ("arguments", "training"),
    [([], Training()), (["--steps", "3", "--pairs", "5", "--seed", "s"], Training(seed="s", pairs=5, steps=3))],
)
def test_the_command_trains_saves_and_reports(tmp_path, monkeypatch, capsys, arguments, training):
    asked = []

    def train(training: Training, report: Any) -> tuple[str, bytes]:
        asked.append(("train", training))
        report("a line")
        return "model", b"vocabulary"

    monkeypatch.setattr(train_tiny_clip, "train", train)
    monkeypatch.setattr(train_tiny_clip, "save", lambda *given: (asked.append(("save", *given)), 1_234_567)[1])
    monkeypatch.setattr(train_tiny_clip, "mini_ndcg_at_10", lambda *given: (asked.append(given), 0.65432)[1])
    assert train_tiny_clip.main(["--out", str(tmp_path), *arguments]) == 0
    assert asked == [("train", training), ("save", tmp_path, "model", b"vocabulary"), ("model", b"vocabulary")]
    shown = capsys.readouterr()
    assert shown.out == ""
    first, second, third = shown.err.splitlines()
    assert first == "a line"
    assert second.startswith(f"1.23 MB in {tmp_path}, ")
    assert third == f"NDCG@10 on Mini 0.654, by chance {train_tiny_clip.random_ndcg_at_10(2000):.4f}"


def test_the_command_needs_a_folder(capsys):
    with pytest.raises(SystemExit) as ended:
        train_tiny_clip.main([])
    assert ended.value.code == 2
    assert "the following arguments are required: --out" in capsys.readouterr().err
