"""Stands around functions of mteb's: what it asks for, loads, keeps and looks up passes through us.

Each function here is idempotent. Only what is ours, or what mteb does not know, is treated otherwise than by mteb.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable
from typing import Any

from mteb_vehicle_search.plugin import hook


def _module(name: str) -> Any:
    """Return a module of mteb's: `import ... as ...` may give the function of that name."""
    importlib.import_module(name)
    return sys.modules[name]


def _put_around(owner: Any, name: str, around: Callable[[Callable[..., Any]], Any]) -> bool:
    """Put a function of ours around one of mteb's, unless it is there already; tell whether that was done now."""
    original = getattr(owner, name)
    if hasattr(original, "stands_around"):
        return False
    ours = around(original)
    ours.stands_around = True
    setattr(owner, name, ours)
    return True


def guard_models() -> None:
    """Put our guard around the function by which mteb sees whether a model fits its tasks."""
    from mteb_vehicle_search.search import suited

    _put_around(_module("mteb.evaluate"), "_check_model_modalities", suited.around_check)


def spare_imports() -> None:
    """Let mteb not import sentence-transformers, which takes seconds, only to see that a model is none of its."""
    evaluate = _module("mteb.evaluate")

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def _sanitize_model(model: Any) -> Any:
            meta: Any = model if isinstance(model, evaluate.ModelMeta) else getattr(model, "mteb_model_meta", None)
            # Nothing is an instance of a class that was never defined.
            if "sentence_transformers" in sys.modules or not isinstance(meta, evaluate.ModelMeta):
                return original(model)
            return model, meta, meta.name, meta.revision

        return _sanitize_model

    _put_around(evaluate, "_sanitize_model", around)


def guard_command() -> None:
    """Let `mteb run` look at what it is asked for before it loads a model."""
    from mteb_vehicle_search.plugin import asked

    _put_around(_module(f"{hook.COMMAND}.build_cli"), "run", asked.around_run)


def guard_results() -> None:
    """Put our guards around the two functions through which mteb reads and writes the result of a run."""
    from mteb_vehicle_search import stored_results

    evaluate = _module("mteb.evaluate")
    if _put_around(evaluate, "_check_cache", stored_results.around_check):
        _put_around(evaluate.ResultCache, "save_to_cache", stored_results.around_save)
        atexit.register(stored_results.at_exit)


def answer_for_located(is_known: Callable[[str], bool]) -> None:
    """Put ourselves before mteb's look-up of a model, for names that say where it lies and that mteb does not know."""
    look_up = _module("mteb.models.get_model_meta")
    original = look_up.get_model_meta
    if not _put_around(look_up, "get_model_meta", lambda original: _around_look_up(original, is_known)):
        return
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == hook.PACKAGE and vars(module).get("get_model_meta") is original:
            module.get_model_meta = look_up.get_model_meta  # type: ignore[attr-defined]


def _around_look_up(original: Callable[..., Any], is_known: Callable[[str], bool]) -> Any:
    """Return mteb's `get_model_meta` that also finds models in folders and anywhere on the hub."""
    # Light, and wanted at each look-up of a model that is then loaded.
    from mteb_vehicle_search.models import located, places

    @functools.wraps(original)
    def get_model_meta(model_name: str, revision: str | None = None, *args: Any, **kwargs: Any) -> Any:
        if model_name in original.__globals__.get("_MODEL_RENAMES", {}):
            return _as_if_we_were_not_there(original, model_name, revision, *args, **kwargs)
        if is_known(model_name) or not places.is_located(model_name):
            return original(model_name, revision, *args, **kwargs)
        meta = located.located_meta(model_name, revision)
        given = inspect.signature(original).bind(model_name, revision, *args, **kwargs).arguments
        if (experiment := given.get("experiment_kwargs")) is not None:
            meta = meta.model_copy(update={"experiment_kwargs": experiment})
        return meta

    return get_model_meta


def _as_if_we_were_not_there(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call mteb's function; what it warns of is our caller's, not ours, or Python would show it to nobody."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = original(*args, **kwargs)
    for one in caught:
        warnings.warn(one.message, one.category, stacklevel=3)
    return found
