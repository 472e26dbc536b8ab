"""What Python calls at start-up; installed beside the `.pth` (from Python 3.15: `.start`) file that says so.

Every start of Python pays for this file, so it imports nothing new and makes no class: the module is itself a meta-path
finder that does nothing until mteb is imported, and then brings in the package, with the hook proper. It must stand
outside the package, because importing a module inside imports the whole.
"""

import os
import sys

hands_over_mteb = True


def find_spec(fullname, path=None, target=None):
    """Return mteb's spec as the package's finder gives it; None for any other module."""
    if fullname != "mteb":
        return None
    import importlib.util
    import warnings

    spec = importlib.util.find_spec("mteb_vehicle_search")
    if spec is None:
        return None  # An editable install whose checkout was moved or deleted has nothing to add, and nothing to tell.
    places = spec.submodule_search_locations or ()
    # Without pathlib, which a start of Python does not pay for.
    if not any(os.path.isfile(os.path.join(place, "plugin", "hook.py")) for place in places):  # noqa: PTH113, PTH118
        found = spec.origin or ", ".join(places)
        warnings.warn(f"{found} hides the package mteb-vehicle-search, so mteb goes on without.", stacklevel=2)
        return None
    try:
        import mteb_vehicle_search
        from mteb_vehicle_search.plugin import hook
    except Exception as error:
        warnings.warn(f"mteb-vehicle-search cannot be imported, so mteb goes on without: {error!r}", stacklevel=2)
        return None
    return hook.MtebFinder(mteb_vehicle_search.mteb_executed).find_spec(fullname, path, target)


def start():
    """Do nothing: importing this module has made it a finder, and a `.start` file must name a function."""


if os.environ.get("VEHICLE_SEARCH_NO_HOOK", "").strip().lower() in ("", "0", "false", "no", "off"):
    sys.meta_path.insert(0, sys.modules[__name__])  # pyright: ignore[reportArgumentType]
