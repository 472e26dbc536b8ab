"""Encoding in child processes, and what an interrupt leaves behind."""

import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

# Long enough for any machine: only a test that fails waits for it.
PATIENCE_S = 600

ENCODE = """
    import multiprocessing
    import sys
    from pathlib import Path

    import torch

    from mteb_vehicle_search.search.corpus import CorpusImages, image_loader
    from mteb_vehicle_search.eval_set import EvalSet
    from mteb_vehicle_search.models import tiny_clip
    from mteb_vehicle_search.settings import mini_folder

    def vectors(used):
        evaluation = EvalSet.open(mini_folder())
        images = CorpusImages(evaluation, evaluation.corpus_ids()[:40])
        found = tiny_clip().load_model(device="cpu").encode(image_loader(images, 8, 0, lambda n: None), batch_size=8)
        torch.save(found, sys.argv[1] + used)

    if __name__ == "__main__":
        children = [multiprocessing.get_context("fork").Process(target=vectors, args=("fork",))]
        children[0].start()
        vectors("parent")
        children.append(multiprocessing.get_context("spawn").Process(target=vectors, args=("spawn",)))
        children[1].start()
        for child in children:
            child.join()
        print([child.exitcode for child in children])
"""


def test_forked_and_spawned_processes_encode_alike(tmp_path):
    import torch

    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(ENCODE))
    done = subprocess.run([sys.executable, script, f"{tmp_path}/"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout == "[0, 0]\n", done.stderr
    wanted = torch.load(tmp_path / "parent")
    assert wanted.shape == (40, 128)
    for way in ("fork", "spawn"):
        assert (torch.load(tmp_path / way) * wanted).sum(-1).min() >= 0.99999


FOREVER = """
    import os, signal, sys, time
    from mteb_vehicle_search.models.preprocess import ShortestSideCrop

    # A suite in the background of a shell script is started with interrupts ignored, and so are its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def endless(self, jpeg):
        # Whole: of two threads that print, each may write its words before either ends its line.
        print("decoding\\n", end="", flush=True)
        while True:
            time.sleep(0.05)

    ShortestSideCrop.decode = endless
    sys.argv = ["mteb", "run", "-t", "VehicleImageSearchMini", "-m", "vehicle-search/tiny-clip", "--overwrite-strategy",
                "always", "--output-folder", sys.argv[1]]
    from mteb.cli.build_cli import main
    main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_ends_the_run_and_all_its_processes(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(FOREVER), tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # No batch ever ends by itself: a run that waits for one hangs, however fast the machine is.
    assert run.stdout
    try:
        assert any(line == "decoding\n" for line in run.stdout)
        family = [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]
        run.send_signal(signal.SIGINT)
        _, shown = run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
    assert run.returncode not in (0, None)
    assert "KeyboardInterrupt" in shown or "interrupted" in shown
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []
    assert not list(tmp_path.rglob("VehicleImageSearchMini.json"))
