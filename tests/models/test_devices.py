"""Which devices and which precision are chosen, on machines that the tests do not run on: torch is asked stand-ins."""

import pytest
import torch

from mteb_vehicle_search.errors import ModelLoadError
from mteb_vehicle_search.models import devices
from mteb_vehicle_search.models.devices import choose_devices, choose_precision


@pytest.fixture
def machine(monkeypatch):
    """Give a function that makes torch believe in a number of CUDA devices, and in MPS; it returns those tried."""

    def pretend(cuda=0, mps=False, error=None):
        tried = []

        def empty(count, device):
            tried.append((count, str(device)))
            if error:
                raise error

        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch, "empty", empty)
        return tried

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "asked", "wanted"),
    [
        (0, False, None, ["cpu"]),
        (0, True, None, ["mps"]),
        (1, True, None, ["cuda"]),
        (1, False, "cuda", ["cuda"]),
        (2, False, None, ["cuda:0", "cuda:1"]),
        (3, True, "cuda", ["cuda:0", "cuda:1", "cuda:2"]),
        # What mteb names in particular is not spread.
        (2, False, "cuda:1", ["cuda:1"]),
        (2, False, 0, ["cuda:0"]),
        (2, False, 1, ["cuda:1"]),
        (2, False, "1", ["cuda:1"]),
        (2, False, "cpu", ["cpu"]),
        (2, True, "mps", ["mps"]),
    ],
)
def test_devices_follow_what_mteb_asks_for_and_what_there_is(machine, cuda, mps, asked, wanted):
    tried = machine(cuda, mps)
    assert [str(device) for device in choose_devices(asked)] == wanted
    assert tried == [(1, name) for name in wanted]


@pytest.mark.parametrize(
    ("variable", "wanted"),
    [
        ("cpu", ["cpu"]),
        ("cuda", ["cuda"]),
        ("cuda:1,cuda:0", ["cuda:1", "cuda:0"]),
        (" cuda:0 , 1,cpu ", ["cuda:0", "cuda:1", "cpu"]),
        ("", ["cuda:0", "cuda:1"]),
    ],
)
def test_the_variable_wins_over_what_mteb_asks_for(machine, monkeypatch, variable, wanted):
    machine(2)
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", variable)
    assert [str(device) for device in choose_devices(None)] == wanted
    assert [str(device) for device in choose_devices("cpu")] == (wanted if variable else ["cpu"])


@pytest.mark.parametrize("error", [RuntimeError, AssertionError])
def test_a_device_that_cannot_hold_one_number_is_refused(machine, error):
    machine(error=error("no such thing\nand a stack of C++"))
    with pytest.raises(ModelLoadError, match="'cuda:7' cannot be used: no such thing") as caught:
        choose_devices(7)
    assert "C++" not in str(caught.value)
    assert "Set VEHICLE_SEARCH_DEVICE to" in caught.value.hint


def test_a_device_that_torch_has_no_word_for_is_refused(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cpu,gpu")
    with pytest.raises(ModelLoadError, match="'gpu' cannot be used"):
        choose_devices(None)


@pytest.mark.parametrize(
    ("kind", "supported", "wanted"),
    [
        ("cuda", True, "bf16"),
        ("cuda", False, "fp16"),
        ("cuda:1", True, "bf16"),
        ("cpu", True, "fp32"),
        ("mps", True, "fp32"),
        ("meta", True, "fp32"),
    ],
)
def test_precision_is_half_only_on_cuda_and_bf16_only_where_the_device_computes_in_it(
    monkeypatch, kind, supported, wanted
):
    # Emulated bf16, which torch counts as supported unless told otherwise, is slower than fp16.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or supported
    )
    assert choose_precision(torch.device(kind)) == wanted
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "")
    assert choose_precision(torch.device(kind)) == wanted


@pytest.mark.parametrize("wanted", ["fp32", "bf16", "fp16"])
def test_the_variable_decides_the_precision_of_every_device(monkeypatch, wanted):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", wanted)
    assert [choose_precision(torch.device(kind)) for kind in ("cpu", "cuda", "mps")] == [wanted] * 3


@pytest.mark.parametrize("name", ["int8", "FP32", "bf16 ", "float16"])
def test_an_unknown_precision_is_refused_with_the_choice(monkeypatch, name):
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", name)
    with pytest.raises(ModelLoadError, match="is unknown") as caught:
        choose_precision(torch.device("cpu"))
    assert repr(name) in str(caught.value)
    assert caught.value.hint == "Choose from fp32, bf16, fp16."


def test_what_is_wanted_decides_before_the_variable(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "fp16")
    assert choose_precision(torch.device("cpu"), "bf16") == "bf16"
    with pytest.raises(ModelLoadError, match=r"^precision='fp8' is unknown"):
        choose_precision(torch.device("cpu"), "fp8")
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "fp8")
    with pytest.raises(ModelLoadError, match=r"^VEHICLE_SEARCH_PRECISION='fp8' is unknown"):
        choose_precision(torch.device("cpu"))


def test_the_precisions_are_those_of_the_documentation():
    assert tuple(devices.DTYPES) == ("fp32", "bf16", "fp16")
