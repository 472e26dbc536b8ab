"""A plain script with a foreign encoder runs to its end however this Python starts processes."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PATIENCE_S = 600

# No `if __name__ == "__main__"`: where a worker ran it again, it would start workers of its own.
SCRIPT = """
    import multiprocessing
    import sys

    if {method!r}:
        multiprocessing.set_start_method({method!r})
    sys.path.insert(0, {helpers!r})
    print("begun", flush=True)

    import mteb
    from small_set import small_set
    from toy_encoder import ToyEncoder
    import mteb_vehicle_search
    from mteb_vehicle_search import settings

    mteb_vehicle_search.register()
    settings.usable_cores = lambda: 2
    small_set(settings.data_folder(), distractors=300, name="vehicle-image-search")
    model = ToyEncoder()
    found = mteb.evaluate(
        model,
        mteb.get_task("VehicleImageSearch"),
        cache=mteb.ResultCache(sys.argv[1]),
        show_progress_bar=False,
        encode_kwargs={{"batch_size": 64}},
    )
    print(model.images_seen, found.task_results[0].scores["test"][0]["ndcg_at_10"])
"""


def run(tmp_path, method):
    script = tmp_path / "script.py"
    helpers = str(Path(__file__).parents[1] / "helpers")
    script.write_text(textwrap.dedent(SCRIPT.format(method=method, helpers=helpers)), encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path / "mteb")]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


@pytest.mark.parametrize("method", ["spawn", "forkserver", None])
def test_a_script_without_a_guard_ends_well(tmp_path, monkeypatch, method):
    if method == "forkserver" and sys.platform == "win32":
        pytest.skip("Windows has none.")
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "home"))
    done = run(tmp_path, method)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun") == 1
    # The first batch is encoded once more.
    assert done.stdout.splitlines()[-1].startswith("370 ")
