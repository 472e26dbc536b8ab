"""The family of errors: what a person reads, and what a worker process sends."""

from __future__ import annotations

import pickle

import pytest

from mteb_vehicle_search import errors
from mteb_vehicle_search.errors import PluginWarning, VehicleSearchError

FAMILY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, VehicleSearchError)]


def test_the_family_is_whole():
    assert sorted(kind.__name__ for kind in FAMILY) == [
        "BuildError",
        "DataNotFoundError",
        "EncodeError",
        "EngineError",
        "EvalSetError",
        "ModelLoadError",
        "ResultsError",
        "SettingsError",
        "SourceError",
        "UsageError",
        "VehicleSearchError",
    ]


@pytest.mark.parametrize("kind", FAMILY)
def test_the_hint_has_a_line_of_its_own(kind):
    error = kind("What is wrong.", "What mends it.")
    assert (error.message, error.hint) == ("What is wrong.", "What mends it.")
    assert str(error) == "What is wrong.\nWhat mends it."
    assert str(kind("What is wrong.")) == "What is wrong."
    assert kind("What is wrong.").hint is None
    assert error.args == ("What is wrong.",)


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("hint", ["What mends it.", None])
def test_errors_come_whole_out_of_another_process(kind, hint):
    error = pickle.loads(pickle.dumps(kind("What is wrong.", hint)))  # noqa: S301
    assert type(error) is kind
    assert (error.message, error.hint) == ("What is wrong.", hint)


def test_missing_data_is_a_missing_file_too():
    with pytest.raises(FileNotFoundError):
        raise errors.DataNotFoundError("No data.")


def test_a_warning_is_no_error():
    assert issubclass(PluginWarning, UserWarning)
    assert not issubclass(PluginWarning, VehicleSearchError)
