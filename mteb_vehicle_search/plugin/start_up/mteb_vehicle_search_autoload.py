"""What Python calls at start-up; installed beside the `.pth` (from Python 3.15: `.start`) file that says so.

Every start of Python pays for this file, so it imports nothing new: the package, with the hook proper, is imported when
somebody imports mteb. It must stand outside the package, because importing a module inside imports the whole.
"""

import os
import sys


class WaitingForMteb:
    """A meta-path finder that does nothing until mteb is imported, and then brings the package's finder in."""

    hands_over_mteb = True

    def find_spec(self, fullname, path=None, target=None):
        """Return mteb's spec as the package's finder gives it; None for any other module."""
        if fullname != "mteb":
            return None
        try:
            import mteb_vehicle_search
            from mteb_vehicle_search.plugin import hook
        except Exception as error:
            # An editable install whose checkout was moved or deleted has nothing to add, and nothing to tell.
            if getattr(error, "name", None) != "mteb_vehicle_search":
                import warnings

                warnings.warn(
                    f"mteb-vehicle-search cannot be imported, so mteb goes on without: {error!r}", stacklevel=2
                )
            return None
        return hook.MtebFinder(mteb_vehicle_search.mteb_executed).find_spec(fullname, path, target)


def start():
    """Install the finder, unless `VEHICLE_SEARCH_NO_HOOK=1`."""
    if os.environ.get("VEHICLE_SEARCH_NO_HOOK", "0") in ("", "0"):
        sys.meta_path.insert(0, WaitingForMteb())
