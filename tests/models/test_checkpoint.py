"""A checkpoint file is held against a layout to the letter, read a tensor at a time, and fills a module completely."""

import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import checkpoint as module
from mteb_vehicle_search.models.checkpoint import (
    AGAIN,
    FIT,
    SAVE_AGAIN,
    Checkpoint,
    fill,
    layout_of,
    parameters_on_meta,
)

WEIGHTS = {
    "a.weight": torch.arange(12.0).view(3, 4),
    "a.bias": torch.arange(3, dtype=torch.float16),
    "scale": torch.tensor(2.5),
    "count": torch.tensor([1, 2], dtype=torch.int64),
}
SHAPES = {"a.weight": (3, 4), "a.bias": (3,), "scale": (), "count": (2,)}
MIB = 1 << 20


@pytest.fixture
def path(tmp_path):
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_shapes_and_tensors_are_as_they_were_stored(path):
    checkpoint = Checkpoint(path)
    assert checkpoint.path == path
    assert checkpoint.shapes == SHAPES
    for key, value in WEIGHTS.items():
        found = checkpoint.tensor(key)
        assert found.dtype == value.dtype
        assert torch.equal(found, value)
    checkpoint.require(SHAPES, "the model")
    checkpoint.require({key: list(shape) for key, shape in SHAPES.items()}, "the model")


@pytest.mark.parametrize(
    ("change", "complaints"),
    [
        ({"b": (1,)}, ["b is missing"]),
        ({"a.bias": None}, ["a.bias is unknown"]),
        ({"a.weight": (4, 3)}, ["a.weight has shape [3, 4], not [4, 3]"]),
        ({"a.weight": (12,)}, ["a.weight has shape [3, 4], not [12]"]),
        ({"a.bias": (4,)}, ["a.bias has shape [3], not [4]"]),
        ({"scale": (1,)}, ["scale has shape [], not [1]"]),
        (
            {"scale": None, "count": None, "z": (1,), "b": (2,), "a.bias": (9,)},
            ["b is missing", "z is missing", "count is unknown", "scale is unknown", "a.bias has shape [3], not [9]"],
        ),
    ],
)
def test_every_difference_is_complained_about_and_nothing_else(path, change, complaints):
    wanted = {key: shape for key, shape in {**SHAPES, **change}.items() if shape is not None}
    with pytest.raises(ModelLoadError) as caught:
        Checkpoint(path).require(wanted, "the model of today")
    with pytest.raises(ModelLoadError) as of_a_user:
        Checkpoint(path, local=True).require(wanted, "the model of today")
    # It may be the only copy.
    assert of_a_user.value.hint == FIT
    assert caught.value.message == f"{path} is not laid out like the model of today: {'; '.join(complaints)}."
    assert caught.value.hint == AGAIN


@pytest.mark.parametrize(
    ("missing", "shown", "more"), [(1, 1, ""), (5, 5, ""), (6, 5, "; and 1 more"), (8, 5, "; and 3 more")]
)
def test_five_complaints_are_shown_and_the_others_counted(path, missing, shown, more):
    wanted = {**SHAPES, **{f"key{number}": (1,) for number in range(missing)}}
    with pytest.raises(ModelLoadError) as caught:
        Checkpoint(path).require(wanted, "it")
    said = caught.value.message.partition("like it: ")[2]
    assert said == "; ".join(f"key{number} is missing" for number in range(shown)) + more + "."


@pytest.mark.parametrize("content", [None, b"", b"\x10", b"{}" * 50])
def test_what_is_no_safetensors_file_is_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelLoadError, match="missing, truncated or not a safetensors file") as caught:
        Checkpoint(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint == AGAIN
    with pytest.raises(ModelLoadError) as caught:
        Checkpoint(path, local=True)
    assert caught.value.hint == SAVE_AGAIN


class Mapped:
    """Stands in for a file with tensors of 32 MiB, without the bytes."""

    opened = 0

    def __init__(self, path, framework):
        type(self).opened += 1
        assert framework == "pt"

    def keys(self):
        return []

    def get_tensor(self, key):
        return torch.empty(32 * MIB, dtype=torch.uint8, device="meta")


def test_the_file_is_opened_anew_after_each_128_mib(tmp_path, monkeypatch):
    # The pages of a mapped file count as the process's memory until it is closed.
    monkeypatch.setattr(module, "safe_open", Mapped)
    monkeypatch.setattr(Mapped, "opened", 0)
    checkpoint = Checkpoint(tmp_path / "any")
    opened = []
    for _ in range(15):
        checkpoint.tensor("any")
        opened.append(Mapped.opened)
    # The fifth is the first one beyond 128 MiB, and the next count begins at nothing.
    assert opened == [1] * 4 + [2] * 5 + [3] * 5 + [4]


@pytest.mark.parametrize("mapped_bytes", [0, 5, 6, 48, 10_000])
def test_tensors_are_the_same_however_often_the_file_is_opened(path, monkeypatch, mapped_bytes):
    monkeypatch.setattr(module, "MAPPED_BYTES", mapped_bytes)
    checkpoint = Checkpoint(path)
    for _ in range(2):
        for key, value in WEIGHTS.items():
            assert torch.equal(checkpoint.tensor(key), value)


class Small(nn.Module):
    """A linear layer, a norm with a buffer that is stored, and one that is not."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("table", torch.arange(5.0), persistent=False)
        self.register_parameter("nothing", None)


def values_of(small):
    return {name: value.clone() for name, value in small.state_dict().items()}


def test_parameters_have_no_memory_and_buffers_do():
    with parameters_on_meta():
        small = Small()
        tied = nn.Module()
        tied.first = small.linear.weight
    assert {name: value.is_meta for name, value in small.named_parameters()} == dict.fromkeys(
        ("linear.weight", "linear.bias", "norm.weight", "norm.bias"), True
    )
    assert not any(value.requires_grad for value in small.parameters())
    assert small.nothing is None
    # The same parameter in two places stays one.
    assert tied.first is small.linear.weight
    assert torch.equal(small.table, torch.arange(5.0))
    assert torch.equal(small.norm.running_var, torch.ones(3))


def test_models_built_afterwards_have_memory_again_even_after_an_error():
    with parameters_on_meta():
        pass
    assert not nn.Linear(2, 2).weight.is_meta
    with pytest.raises(ValueError, match="oops"), parameters_on_meta():
        raise ValueError("oops")
    assert not nn.Linear(2, 2).weight.is_meta


def test_a_layout_is_what_a_checkpoint_holds():
    with parameters_on_meta():
        small = Small()
    assert layout_of(small) == {
        "linear.weight": (3, 4),
        "linear.bias": (3,),
        "norm.weight": (3,),
        "norm.bias": (3,),
        "norm.running_mean": (3,),
        "norm.running_var": (3,),
        "norm.num_batches_tracked": (),
    }


def test_a_filled_module_is_ready_and_its_values_are_not_copied():
    values = values_of(Small())
    with parameters_on_meta():
        small = Small()
    fill(small, iter(values.items()))
    found = small.state_dict()
    assert {name: value.data_ptr() for name, value in found.items()} == {
        name: value.data_ptr() for name, value in values.items()
    }
    assert not any(part.training for part in small.modules())
    assert not any(value.requires_grad for value in small.parameters())
    assert torch.equal(small.table, torch.arange(5.0))


def test_a_value_too_few_or_too_many_is_an_error():
    values = values_of(Small())
    for name in ("linear.bias", "norm.running_var"):
        with pytest.raises(RuntimeError, match=re.escape(name)):
            fill(Small(), ((key, value) for key, value in values.items() if key != name))
    with pytest.raises(RuntimeError, match="extra"):
        fill(Small(), [*values.items(), ("extra", torch.zeros(1))])


@pytest.mark.parametrize("left", ["linear.bias", "norm.running_mean"])
def test_what_is_left_without_memory_is_named(left):
    values = values_of(Small())
    with pytest.raises(ModelLoadError, match=f"Nothing was loaded into {left}\\.") as caught:
        fill(Small(), ((key, value.to("meta") if key == left else value) for key, value in values.items()))
    assert "constraints.txt" in caught.value.hint


def test_a_table_that_no_checkpoint_stores_must_not_be_left_without_memory():
    small = Small()
    small.table = small.table.to("meta")
    with pytest.raises(ModelLoadError, match=r"Nothing was loaded into table\."):
        fill(small, values_of(Small()).items())


def test_at_most_five_are_named():
    many = nn.ParameterList([torch.zeros(1, device="meta") for _ in range(7)])
    with pytest.raises(ModelLoadError, match=r"Nothing was loaded into 0, 1, 2, 3, 4\."):
        fill(many, many.state_dict().items())
