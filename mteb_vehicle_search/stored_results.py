"""mteb's result files of our tasks: never taken for another set's, written whole, and the vectors kept until then.

mteb finds a stored result by the names of model and task alone, and writes over it. These functions stand around the
two of mteb's that do so (`plugin/registry.py` puts them there); what concerns other tasks passes through.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mteb_vehicle_search import settings
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set.schema import is_content_id
from mteb_vehicle_search.files import sync_file
from mteb_vehicle_search.run_record import OWN_CODE, RunKey, implementation_of
from mteb_vehicle_search.summary import show_stored, show_written
from mteb_vehicle_search.terminal import say

ASIDE = "other_runs"
MTEB, UNKNOWN = "mteb", "unknown"
# Of ours that share names with mteb's models: results that do not say how they were made are older than these.
LATER_LOADERS = ("_load_transformers", "load_located")


class Stored(NamedTuple):
    """What a result file says of where its numbers come from; empty where an older one does not say."""

    content_id: str
    run: Mapping[str, Any]

    @classmethod
    def of(cls, content: Any, meta: Any = None) -> Stored:
        """Return it from the content of a result file; with the metadata of its model, also whose code made it."""
        try:
            run = content["scores"]["test"][0].get("run")
        except (KeyError, IndexError, TypeError, AttributeError):
            run = None
        run = run if isinstance(run, dict) else {}
        if meta is not None and "implementation" not in run:
            run = {**run, "implementation": _made_by(run, meta)}
        return cls(str(content.get("dataset_revision")), run)

    def differs_from(self, wanted: Stored) -> str:
        """Say in what this is not what is wanted; "" if it may be: what one of the two does not say, fits."""
        if self.content_id != wanted.content_id:
            return f"it is of the content id {self.content_id}, and the data's is {wanted.content_id}"
        for key in sorted({*self.run} & {*wanted.run}):
            if self.run[key] not in ("", wanted.run[key]):
                return f"its {key} is {self.run[key]}, and {wanted.run[key]} is asked for"
        return ""


def _made_by(run: Mapping[str, Any], meta: Any) -> str:
    """Return whose code made a result of this model that does not say; "" if its name is all that is known."""
    wanted = implementation_of(meta)
    if wanted not in (OWN_CODE, MTEB):
        return wanted
    if not run and wanted == OWN_CODE and getattr(meta.loader, "__name__", "") not in LATER_LOADERS:
        return wanted
    # Of the two, ours alone told their precision.
    return OWN_CODE if (run.get("precision") or UNKNOWN) != UNKNOWN else MTEB


class _Awaited(NamedTuple):
    """A finished search whose result mteb has yet to write, and the vectors that are kept until then."""

    task_name: str
    content_id: str
    store: Any


_awaited: list[_Awaited] = []


def await_result(task_name: str, content_id: str, store: Any) -> None:
    """Keep the vectors of a finished search (`store.delete()` drops them) until its result file is there."""
    _awaited.append(_Awaited(task_name, content_id, store))


def end_earlier() -> None:
    """Drop the vectors of earlier searches of this process whose results nobody asked to store.

    Called when the next one begins, and when the interpreter ends without an error: mteb has then returned the result
    to whoever evaluated with `cache=None`. Where writing failed, the vectors stay for the next try.
    """
    while _awaited:
        _drop(_awaited.pop().store)


def at_exit() -> None:
    """Do what `end_earlier` says, unless an error ends the interpreter."""
    if getattr(sys, "last_exc", None) is None and getattr(sys, "last_value", None) is None:
        end_earlier()


def _drop(store: Any) -> None:
    if not settings.flag("VEHICLE_SEARCH_KEEP_EMBEDDINGS"):
        store.delete()


def around_check(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return mteb's `_check_cache(task, meta, cache, strategy)` that answers with this set's result only."""

    @functools.wraps(original)
    def check(task: Any, meta: Any, cache: Any, overwrite_strategy: Any) -> Any:
        if cache is None or not hasattr(task, "open_data"):
            return original(task, meta, cache, overwrite_strategy)
        path = cache.get_task_result_path(task.metadata.name, meta)
        content, reason = _read(path)
        reason = reason or (content and Stored.of(content, meta).differs_from(_wanted(task, meta))) or ""
        strategy = getattr(overwrite_strategy, "value", overwrite_strategy)
        if reason and strategy == "only-cache":
            raise ResultsError(f"{path} is no result of what is asked for: {reason}.", "Evaluate without only-cache.")
        if reason:
            aside = _aside(path, content)
            say(
                f"{path} is not used: {reason}. {task.metadata.name} is evaluated anew; the old result will lie in "
                f"{aside}. To see both: vehicle-search leaderboard {cache.cache_path}"
            )
            return None, dict.fromkeys(task.eval_splits, task.hf_subsets)
        existing, missing = original(task, meta, cache, overwrite_strategy)
        if existing and not missing and strategy != "always":
            _tidy(path, content or {}, meta)
            show_stored(content or {}, path, str(meta.name))
        return existing, missing

    return check


def _tidy(path: Path, content: dict[str, Any], meta: Any) -> None:
    """Take away what a process left that was killed after it had written its result."""
    from mteb_vehicle_search.search.vectors import delete_store, store_folder

    shutil.rmtree(_scratch(path), ignore_errors=True)
    stored = Stored.of(content)
    run = {"content_id": stored.content_id, "model_name": meta.name, "model_revision": meta.revision, **stored.run}
    if not settings.flag("VEHICLE_SEARCH_KEEP_EMBEDDINGS"):
        delete_store(store_folder(RunKey.of(run)))


def _scratch(path: Path) -> Path:
    """Return the folder in which a result is made, beside its place."""
    return path.parent / f".{path.stem}.partial"


def _wanted(task: Any, meta: Any) -> Stored:
    """Return what a result must say to be that of a run now, as far as it is known before the model is loaded."""
    try:
        eval_set = task.require_data()
    except FileNotFoundError:
        return Stored(task.metadata.revision, {})
    made_by = implementation_of(meta)
    run = {"images_id": eval_set.manifest.get("images_id") or eval_set.images_id, "implementation": made_by}
    if made_by == OWN_CODE:
        given = meta.experiment_kwargs or {}
        for key in ("precision", "preprocess"):
            run[key] = given.get(key) or settings.text(f"VEHICLE_SEARCH_{key.upper()}")
    return Stored(eval_set.content_id, {key: value for key, value in run.items() if value})


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the content of a result file and what is wrong with it; None if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"it cannot be read ({error})"
    return (content, "") if isinstance(content, dict) else (None, "it is no JSON object")


def _aside(path: Path, content: dict[str, Any] | None) -> Path:
    """Return where an old result is kept: below its folder, where mteb does not look and `leaderboard` does."""
    stored = Stored.of(content or {})
    text = json.dumps(stored, sort_keys=True, default=str) if content else path.read_bytes().hex()
    name = f"{stored.content_id[:12] if content else 'damaged'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return path.parent / ASIDE / name / path.name


def around_save(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return mteb's `ResultCache.save_to_cache` that writes our results whole, and keeps those of other runs."""

    @functools.wraps(original)
    def save(cache: Any, task_result: Any, model_name: Any, *args: Any, **kwargs: Any) -> None:
        if not is_content_id(task_result.dataset_revision):
            return original(cache, task_result, model_name, *args, **kwargs)
        mine = [one for one in _awaited if one[:2] == (task_result.task_name, task_result.dataset_revision)]
        for one in mine:
            _awaited.remove(one)
        try:
            path = _save_whole(functools.partial(original, **kwargs), cache, task_result, model_name, *args)
        except OSError as error:
            raise ResultsError(
                f"The result cannot be written to {cache.cache_path}: {error}.",
                "Run again with another --output-folder: nothing is encoded anew.",
            ) from error
        for one in mine:
            show_written(path)
            _drop(one.store)

    return save


def _save_whole(save: Callable[..., None], cache: Any, task_result: Any, *args: Any) -> Path:
    """Let mteb write into a folder of its own, and put the files in place, the result last; return its path."""
    path = cache.get_task_result_path(task_result.task_name, *args[:2])
    scratch = copy.copy(cache)
    scratch.cache_path = _scratch(path)
    try:
        # What a process that was killed left.
        shutil.rmtree(scratch.cache_path, ignore_errors=True)
        made = scratch.get_task_result_path(task_result.task_name, *args[:2])
        made.parent.mkdir(parents=True)
        for name in ("run_settings.jsonl", "model_meta.json"):
            with suppress(FileNotFoundError):
                shutil.copyfile(path.parent / name, made.parent / name)
        save(scratch, task_result, *args)
        new = Stored.of({"dataset_revision": task_result.dataset_revision, "scores": task_result.scores})
        _set_aside(path, new, args[0])
        for file in sorted(made.parent.iterdir(), key=lambda file: file.name == path.name):
            sync_file(file)
            file.replace(path.parent / file.name)
        return path
    finally:
        shutil.rmtree(scratch.cache_path, ignore_errors=True)


def _set_aside(path: Path, new: Stored, meta: Any) -> None:
    """Keep a result that the new one would overwrite though it is of another run, with what describes its model."""
    content, reason = _read(path)
    if not reason and (content is None or not Stored.of(content, meta).differs_from(new)):
        return
    aside = _aside(path, content)
    aside.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        shutil.copyfile(path.parent / "model_meta.json", aside.parent / "model_meta.json")
    path.replace(aside)
