"""The import hook: tells when mteb's registries, and our own tasks, have just been executed. Standard library only.

mteb has no plugin system. A finder that is asked first wraps the loader of the modules below; once such a module has
executed, whoever installed the hook is called with its name, and adds to it what mteb itself would have put there.
"""

import sys

PACKAGE = "mteb"
# Whoever imports our tasks first imports mteb with them, which comes too early: nobody can hand over half a module.
OUR_TASKS = "mteb_vehicle_search.tasks"
# mteb's command line, which is imported after mteb.
COMMAND = "mteb.cli"
REGISTRIES = ("mteb.tasks", "mteb.models.model_implementations", "mteb.benchmarks.benchmarks")
M_ARENA_MAX = -8  # Of glibc's malloc.h.
HOOKED = (*REGISTRIES, PACKAGE, OUR_TASKS, COMMAND)


class MtebFinder:
    """A meta-path finder that knows nothing itself: it wraps what the other finders find."""

    hands_over_mteb = True

    def __init__(self, executed):
        self._executed = executed

    def find_spec(self, fullname, path=None, target=None):
        """Return the others' spec with a loader that hands the module over; None for any module but those."""
        if fullname not in HOOKED:
            return None
        for finder in sys.meta_path:
            if getattr(finder, "hands_over_mteb", False) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _HandingOver(spec.loader, self._executed)  # pyright: ignore[reportAttributeAccessIssue]
                return spec
        return None


class _HandingOver:
    """A loader that behaves as the one it wraps, and hands the module over once it has executed."""

    def __init__(self, loader, executed):
        self._loader = loader
        self._executed = executed

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def exec_module(self, module):
        if module.__name__ == PACKAGE:
            _one_heap_a_processor()
        # From here on the module looks as if nobody had touched it.
        module.__spec__.loader = module.__loader__ = self._loader
        _executed_at_rest(self._loader, module)
        hand_over(module.__name__, self._executed)


def _one_heap_a_processor():
    """Let threads use what others freed: glibc keeps up to eight heaps a processor, each with what was freed in it.

    With one a processor, asked for before there are threads, the peak of a run of VehicleImageSearchMini is 8 % lower
    in the same time. Other allocators, and who has asked for a number of heaps, are left alone.
    """
    import ctypes
    import os
    from contextlib import suppress

    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, len(os.sched_getaffinity(0)))


def _executed_at_rest(loader, module):
    """Execute a module while the garbage collector rests: mteb's imports make many objects, none of them garbage."""
    import gc

    at_work = gc.isenabled()
    gc.disable()
    try:
        loader.exec_module(module)
    finally:
        if at_work:
            gc.enable()


def install(executed):
    """Install the finder once, so that `executed` gets the name of each of `HOOKED`; mteb's now if it is imported."""
    if not any(isinstance(finder, MtebFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MtebFinder(executed))
    if PACKAGE in sys.modules and not is_being_imported(PACKAGE):
        hand_over(PACKAGE, executed)


def is_being_imported(name):
    """Tell whether a module in `sys.modules` has not finished executing."""
    return getattr(getattr(sys.modules[name], "__spec__", None), "_initializing", False)


def hand_over(name, executed):
    """Call `executed` with the name of a module of mteb that has executed; whatever goes wrong, mteb goes on."""
    if name != OUR_TASKS and not hasattr(sys.modules[name], "__path__"):
        return  # somebody's script called mteb.py
    try:
        executed(name)
    except Exception as error:
        import warnings

        from mteb_vehicle_search.errors import PluginWarning

        message = f"mteb-vehicle-search could not be added to {name}: {type(error).__name__}: {error}"
        warnings.warn(message, PluginWarning, stacklevel=2)
