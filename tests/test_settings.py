"""Where data, runs and vectors lie: by the environment, never by the working directory."""

import errno
import tempfile
from pathlib import Path

import pytest

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import SettingsError
from mteb_vehicle_search.eval_set import known


def test_everything_lies_under_the_chosen_home(tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path))
    assert settings.home() == tmp_path
    assert settings.data_folder() == tmp_path / "data" / "vehicle-image-search"
    assert settings.data_folder("dogs") == tmp_path / "data" / "dogs"
    assert known.chosen_folder() == tmp_path / "data" / "vehicle-image-search"
    assert settings.copies_folder() == tmp_path / "copies"
    assert settings.runs_folder() == tmp_path / "runs"
    assert settings.embeddings_folder() == tmp_path / "embeddings"


@pytest.mark.parametrize(
    ("variable", "place"), [("VEHICLE_SEARCH_HOME", settings.home), ("VEHICLE_SEARCH_DATA", known.chosen_folder)]
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
    assert known.chosen_folder() == tmp_path / "set"
    assert settings.data_folder() == tmp_path / "home" / "data" / "vehicle-image-search"
    assert settings.runs_folder() == tmp_path / "home" / "runs"
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", "")
    assert known.chosen_folder() == settings.data_folder()


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


# What is checked before a model is loaded


def test_a_home_that_is_a_file_is_named_with_its_variable(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(home))
        with pytest.raises(SettingsError, match="is not a folder; VEHICLE_SEARCH_HOME is") as caught:
            settings.check()
        assert caught.value.hint == "Set VEHICLE_SEARCH_HOME to a folder that can be written."


def test_a_home_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "deep" / "home"))
    settings.check()
    # Root may write everywhere, so the system's answer is given here; on /proc it is a true one.
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(
        SettingsError, match=f"{tmp_path}.* cannot be written \\(Read-only file system\\); VEHICLE"
    ) as caught:
        settings.check()
    assert "VEHICLE_SEARCH_HOME" in caught.value.message


def refused(*given, **named):
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nobody makes folders")
def test_a_home_that_permissions_allow_and_the_file_system_does_not_is_named(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", "/proc/vehicle-search")
    with pytest.raises(SettingsError, match="/proc cannot be written"):
        settings.check()


@pytest.mark.parametrize("value", ["maybe", "2", "ja"])
def test_a_flag_that_says_neither_yes_nor_no_is_named(monkeypatch, value):
    monkeypatch.setenv("VEHICLE_SEARCH_COMPILE", value)
    with pytest.raises(SettingsError, match=f"VEHICLE_SEARCH_COMPILE={value} says neither yes nor no"):
        settings.check()


@pytest.mark.parametrize("value", ["", "0", "1", "no", "False", "TRUE", "yes", "on", "off"])
def test_a_flag_may_be_said_in_words(monkeypatch, value):
    monkeypatch.setenv("VEHICLE_SEARCH_COMPILE", value)
    settings.check()
    assert settings.flag("VEHICLE_SEARCH_COMPILE") is (value.lower() in settings.ON)


@pytest.mark.parametrize("error", [RuntimeError("no home"), KeyError("uid"), OSError("none")])
def test_a_computer_without_a_home_is_told_what_to_set(monkeypatch, error):
    import platformdirs

    def fail(*given, **named):
        raise error

    monkeypatch.delenv("VEHICLE_SEARCH_HOME")
    monkeypatch.setattr(platformdirs, "user_data_path", fail)
    with pytest.raises(SettingsError, match="There is no home folder") as caught:
        settings.home()
    assert "VEHICLE_SEARCH_HOME" in caught.value.hint
    # A user without a name and without HOME.
    monkeypatch.setattr(platformdirs, "user_data_path", lambda *given, **named: Path("~/.local/share"))
    with pytest.raises(SettingsError, match="There is no home folder"):
        settings.home()


def test_a_user_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", "~nobody-of-this-name/data")
    with pytest.raises(SettingsError, match="VEHICLE_SEARCH_DATA=~nobody-of-this-name/data is no folder"):
        known.chosen_folder()


def test_a_variable_with_a_typo_is_told_once_with_the_nearest(monkeypatch):
    monkeypatch.setattr(settings, "_told", set())
    assert settings.misspelt() == []
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISON", "bf16")
    monkeypatch.setenv("VEHICLE_SEARCH_ZZZ", "1")
    assert settings.misspelt() == [
        "VEHICLE_SEARCH_PRECISON is set and means nothing; did you mean VEHICLE_SEARCH_PRECISION?",
        "VEHICLE_SEARCH_ZZZ is set and means nothing",
    ]
    assert settings.misspelt() == [], "once is enough"


@pytest.mark.parametrize(
    ("said", "number"), [(None, 7.5), ("", 7.5), (" ", 7.5), ("3", 3.0), (" 0.25 ", 0.25), ("1e3", 1000.0)]
)
def test_a_number_is_what_is_said_else_the_default(monkeypatch, said, number):
    if said is not None:
        monkeypatch.setenv("VEHICLE_SEARCH_UNIT_TIMEOUT_S", said)
    assert settings.number("VEHICLE_SEARCH_UNIT_TIMEOUT_S", 7.5) == number


@pytest.mark.parametrize("said", ["0", "-1", "inf", "nan", "soon", "1 h"])
def test_what_is_no_number_above_0_is_refused_with_what_the_variable_means(monkeypatch, said):
    monkeypatch.setenv("VEHICLE_SEARCH_UNIT_TIMEOUT_S", said)
    with pytest.raises(SettingsError, match=f"VEHICLE_SEARCH_UNIT_TIMEOUT_S={said} is no number above 0") as caught:
        settings.number("VEHICLE_SEARCH_UNIT_TIMEOUT_S", 1)
    assert "seconds without progress" in str(caught.value.hint)
