"""The one family of errors: what is wrong, where, and the command that mends it."""

from __future__ import annotations


class VehicleSearchError(Exception):
    """An error that a user can act on.

    Args:
        message: What is wrong and where (file, id).
        hint: What mends it, usually a command; shown on its own line.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self):
        return (type(self), (self.message, self.hint))


def first_line(error: BaseException) -> str:
    """Return the first line of what an error of a library says; what kind it is, if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class SettingsError(VehicleSearchError):
    """A variable of the environment says what cannot be."""


class UsageError(VehicleSearchError):
    """What was asked for cannot be meant, such as a name that nobody knows; the command exits with 2."""


class DataNotFoundError(VehicleSearchError, FileNotFoundError):
    """An evaluation set is not where it was looked for."""


class EvalSetError(VehicleSearchError):
    """An evaluation set is damaged or inconsistent."""


class EncodeError(VehicleSearchError):
    """An encoder returned vectors that cannot be searched, or failed on an input."""


class EngineError(VehicleSearchError):
    """Work was not done: there was no worker for it, its worker differs from what it should be, or none survived it."""


class ModelLoadError(VehicleSearchError):
    """A model's weights or configuration are missing, damaged or not the pinned ones."""


class SourceError(VehicleSearchError):
    """A data source is missing, refused or not in the expected format."""


class BuildError(VehicleSearchError):
    """An evaluation set cannot be built as asked."""


class ResultsError(VehicleSearchError):
    """Result files or run records are missing or unusable."""


class PluginWarning(UserWarning):
    """Something could not be registered with mteb; mteb itself goes on working."""
