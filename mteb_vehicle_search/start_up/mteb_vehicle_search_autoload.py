"""What Python calls at start-up; installed beside the `.pth` (from Python 3.15: `.start`) file that says so.

It stands outside the package because importing anything inside it would already install the hook, and because it must
be importable even when the package is not. Every interpreter start pays for this file: it imports nothing new.
"""

import os


def start():
    """Install mteb's import hook, unless `VEHICLE_SEARCH_NO_HOOK=1`."""
    if os.environ.get("VEHICLE_SEARCH_NO_HOOK", "0") not in ("", "0"):
        return
    try:
        import mteb_vehicle_search  # noqa: F401 -- importing it installs the hook
    except ModuleNotFoundError as error:
        # An editable install whose checkout was moved or deleted must not complain at every start of Python.
        if error.name != "mteb_vehicle_search":
            raise
