"""The walls that import-linter cannot see: what a cheap start loads, and who touches mteb's registries."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What Python, mteb or a shell's completion starts for somebody who may want something else.
LIGHT = [
    "mteb_vehicle_search",
    "mteb_vehicle_search.cli",
    "mteb_vehicle_search.engine",
    "mteb_vehicle_search.errors",
    "mteb_vehicle_search.eval_set",
    "mteb_vehicle_search.files",
    "mteb_vehicle_search.models",
    "mteb_vehicle_search.plugin.hook",
    "mteb_vehicle_search.plugin.registry",
    "mteb_vehicle_search.run_record",
    "mteb_vehicle_search.settings",
    "mteb_vehicle_search.terminal",
    "data_prep",
    "data_prep.cli",
    "data_prep.job",
    "data_prep.markers",
    "data_prep.preset",
    "data_prep.sources.registry",
]
HEAVY = {
    *("datasets", "huggingface_hub", "jinja2", "mteb", "numpy", "open_clip", "pandas", "PIL", "pyarrow", "rich"),
    *("scipy", "timm", "tokenizers", "torch", "torchvision", "tqdm", "transformers"),
}


@pytest.mark.parametrize("name", LIGHT)
def test_a_cheap_start_loads_nothing_heavy(name):
    code = f"import sys, {name}; print(*sorted({{n.partition('.')[0] for n in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) & HEAVY == set()


def test_only_the_registry_touches_mtebs_registries():
    names = r"MODEL_REGISTRY|_TASKS_REGISTRY|TASK_LIST|_SIMILAR_TASKS|_create_similar_tasks|_build_registry"
    product = [*(ROOT / "mteb_vehicle_search").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]
    touching = {
        path.relative_to(ROOT).as_posix() for path in product if re.search(rf"\b({names})\b", path.read_text("utf-8"))
    }
    assert touching == {"mteb_vehicle_search/plugin/registry.py"}
