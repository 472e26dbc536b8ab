"""Where data, runs and vectors lie: by the environment, never by the working directory."""

from pathlib import Path

import pytest

from mteb_vehicle_search import settings


def test_everything_lies_under_the_chosen_home(tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path))
    assert settings.home() == tmp_path
    assert settings.data_folder() == tmp_path / "data" / "vehicle-image-search"
    assert settings.data_folder("dogs") == tmp_path / "data" / "dogs"
    assert settings.eval_set_folder() == tmp_path / "data" / "vehicle-image-search"
    assert settings.runs_folder() == tmp_path / "runs"
    assert settings.embeddings_folder() == tmp_path / "embeddings"


@pytest.mark.parametrize(
    ("variable", "place"), [("VEHICLE_SEARCH_HOME", settings.home), ("VEHICLE_SEARCH_DATA", settings.eval_set_folder)]
)
def test_a_relative_folder_and_one_below_the_users_home_are_made_absolute(tmp_path, monkeypatch, variable, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, "here/below")
    assert place() == tmp_path / "here" / "below"
    monkeypatch.setenv(variable, "~/below")
    assert place() == Path.home() / "below"


def test_the_evaluation_set_may_lie_elsewhere_than_everything_else(tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    assert settings.eval_set_folder() == tmp_path / "set"
    assert settings.data_folder() == tmp_path / "home" / "data" / "vehicle-image-search"
    assert settings.runs_folder() == tmp_path / "home" / "runs"
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", "")
    assert settings.eval_set_folder() == settings.data_folder()


@pytest.mark.parametrize("chosen", [None, ""])
def test_without_a_choice_it_is_the_platforms_user_data_folder(tmp_path, monkeypatch, chosen):
    from platformdirs.unix import Unix

    monkeypatch.setattr("platformdirs.PlatformDirs", Unix)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("VEHICLE_SEARCH_HOME")
    if chosen is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_HOME", chosen)
    assert settings.home() == tmp_path / "vehicle-search"


def test_on_windows_no_folder_of_an_author_stands_above(tmp_path, monkeypatch):
    from platformdirs import windows

    monkeypatch.setattr("platformdirs.PlatformDirs", windows.Windows)
    monkeypatch.setattr(windows, "get_win_folder", lambda name: str(tmp_path))
    monkeypatch.delenv("VEHICLE_SEARCH_HOME")
    assert settings.home() == tmp_path / "vehicle-search"


def test_the_embedded_set_ships_in_the_package():
    from mteb_vehicle_search.eval_set import EvalSet

    assert settings.mini_folder().parent == Path(settings.__file__).parent
    assert EvalSet.open(settings.mini_folder()).manifest["counts"]["queries"] == 1000


@pytest.mark.parametrize(("value", "is_set"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)])
def test_a_flag_is_set_by_anything_but_nothing_and_0(monkeypatch, value, is_set):
    if value is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_COMPILE", value)
    assert settings.flag("VEHICLE_SEARCH_COMPILE") is is_set


def test_a_variable_that_the_help_does_not_name_cannot_be_read(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_COLOUR", "red")
    for read in (settings.text, settings.flag):
        with pytest.raises(KeyError, match="VEHICLE_SEARCH_COLOUR"):
            read("VEHICLE_SEARCH_COLOUR")
    monkeypatch.setenv("VEHICLE_SEARCH_DEVICE", "cuda:1")
    assert settings.text("VEHICLE_SEARCH_DEVICE") == "cuda:1"
