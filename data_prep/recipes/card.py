"""The card of a repository that holds a recipe: how to rebuild the set, and what its sources ask for."""

from __future__ import annotations

from typing import Any

from data_prep.recipes import RECIPE_FILE
from data_prep.sources.registry import SOURCES
from mteb_vehicle_search.eval_set import EvalSet

# Its viewer would show the recipe as if it were data.
_HEAD = "---\nviewer: false\ntags:\n- mteb\n- image\n- text\n---"


def recipe_card(eval_set: EvalSet, repository: str) -> str:
    """Return the README of a dataset repository with a recipe, Markdown; no caption stands in it."""
    manifest, counts = eval_set.manifest, eval_set.manifest["counts"]
    sources = manifest.get("sources", {})
    parts = [
        _HEAD,
        f"# {eval_set.title}: recipe",
        manifest.get("preset", {}).get("description", ""),
        f"This rebuilds an evaluation set of text-to-image search. `{RECIPE_FILE}` names {counts['corpus']:,} images, "
        f"{counts['queries']:,} queries and {counts['qrels']:,} judgements, with digests of the files and texts. It "
        "holds no image and no caption: these come from your own copies of the sources.",
        f"## Rebuilding\n\n{_commands(eval_set, repository)}",
        f"## Sources\n\n{_sources(sources)}" if sources else "",
        _citations(sources),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _commands(eval_set: EvalSet, repository: str) -> str:
    address = f"hf://datasets/{repository}/{RECIPE_FILE}"
    flags = "".join(f" --{flag} SRC" for flag in _flags(eval_set.manifest.get("preset", {})))
    sources = " `SRC` is where your copy lies: a folder, an archive or an address." if flags else ""
    return (
        "With Python 3.11 or later:\n\n"
        "```bash\npip install mteb-vehicle-search\n"
        f"vehicle-search-data build --recipe {address}{flags}\n"
        f"mteb run -t {eval_set.task_name} -m MODEL\n```\n\n"
        f"The build says what differs from this set.{sources} With the same images and captions it has the content "
        f"id\n`{eval_set.content_id}`, and scores compare."
    )


def _flags(preset: dict[str, Any]) -> list[str]:
    """Return the flags that say where the sources lie: by their names, or of images of one's own by their roles."""
    roles = {role: SOURCES.get(preset.get(role, {}).get("source", "")) for role in ("captioned", "distractors")}
    names = (
        role if source.located else source.name
        for role, source in roles.items()
        if source and (source.located or source.help)
    )
    return list(dict.fromkeys(names))


def _sources(sources: dict[str, dict]) -> str:
    lines = []
    for name, source in sources.items():
        terms = f" Terms: {source['terms']}" if source.get("terms") else ""
        lines.append(f"- {SOURCES[name].card}" if name in SOURCES else f"- **{name}**.{terms}")
    return "\n".join(lines)


def _citations(sources: dict[str, dict]) -> str:
    cited = [line for source in sources.values() for line in source.get("cite", [])]
    if not cited:
        return ""
    bibtex = "\n\n".join(source["bibtex"].strip() for source in sources.values() if source.get("bibtex"))
    listed = "\n".join(f"- {line}" for line in cited)
    return f"## Citing\n\nCite the sources:\n\n{listed}" + (f"\n\n```bibtex\n{bibtex}\n```" if bibtex else "")
