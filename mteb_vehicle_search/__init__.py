"""Vehicle Image Search for mteb: importing this makes mteb know its tasks and models, now or once it is imported.

Importing it loads neither mteb nor torch; the names below are loaded when they are first used.
"""

from mteb_vehicle_search.plugin import hook

# Importing this package must cost next to nothing: not even `typing` is imported.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from mteb_vehicle_search.models.functions import from_functions
    from mteb_vehicle_search.tasks import VehicleImageSearch, VehicleImageSearchMini

    __version__: str

__all__ = ["VehicleImageSearch", "VehicleImageSearchMini", "from_functions", "register"]


def register() -> None:
    """Import mteb and make sure that it knows the tasks and models, as often as one likes.

    Only needed where nothing else may happen on import, and to see the warning if something could not be registered.

    Raises:
        ImportError: mteb cannot be imported.
    """
    from mteb_vehicle_search.plugin import registry

    registry.register()


def mteb_executed(name: str) -> None:
    """Add our tasks and models to a module of mteb that has just executed; the import hook calls it."""
    from mteb_vehicle_search.plugin import registry

    registry.module_executed(name)


def __getattr__(name: str):
    if name in ("VehicleImageSearch", "VehicleImageSearchMini"):
        # First mteb, which imports our tasks to register them; they import mteb, and would not be whole by then.
        import mteb  # noqa: F401

        from mteb_vehicle_search import tasks

        return getattr(tasks, name)
    if name == "from_functions":
        from mteb_vehicle_search.models.functions import from_functions

        return from_functions
    if name == "__version__":
        from importlib.metadata import version

        return version("mteb-vehicle-search")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__, "__version__"])


hook.install(mteb_executed)
