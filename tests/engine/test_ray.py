"""The engine of many machines, on a cluster of a head that does no work and three machines of one processor each."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import engine_models
import format_twins
import psutil
import pytest
from engine_workers import Asked, Bytes, Notes, Squares, Troubled, Unlike
from safetensors import safe_open
from small_set import small_set
from web_folder import serving

from mteb_vehicle_search.engine import engine_of
from mteb_vehicle_search.errors import EncodeError, EngineError
from mteb_vehicle_search.eval_set import EvalSet, copying
from mteb_vehicle_search.eval_set.copies import origin_of
from mteb_vehicle_search.models import tiny_clip
from mteb_vehicle_search.search.encoding import About, MakeEncoder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ray.cluster_utils is not for Windows")
ray = pytest.importorskip("ray")

STORE = {"object_store_memory": 80_000_000}
MACHINES = 3


class Machines:
    """The cluster, whose machines come and go."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # A machine that is gone is noticed in seconds.
        config = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 2,
            # Nothing goes to a disk where the memory between is full.
            "automatic_object_spilling_enabled": False,
        }
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": config, **STORE}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.workers: list = []

    def complete(self) -> None:
        """See that there are three."""
        self.add(MACHINES - len(self.workers))

    def add(self, count: int) -> None:
        """Add machines."""
        self.workers += [self.cluster.add_node(num_cpus=1, wait=False, **STORE) for _ in range(count)]

    def remove(self) -> None:
        """Take the oldest away, as if its plug were pulled."""
        self.cluster.remove_node(self.workers.pop(0), allow_graceful=False)


@pytest.fixture(scope="module")
def all_machines(tmp_path_factory):
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    # Not below pytest's folder: names of sockets are short.
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        (Path(folder) / "ray").mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
            patch.setenv("RAY_TMPDIR", folder)
            machines = Machines()
            yield machines
            machines.cluster.shutdown()
    left = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    assert psutil.wait_procs(left, timeout=10)[1] == []


@pytest.fixture
def machines(all_machines, monkeypatch):
    all_machines.complete()
    monkeypatch.setenv("RAY_ADDRESS", all_machines.cluster.address)
    for limit in ("UNIT", "NODE"):
        monkeypatch.setenv(f"VEHICLE_SEARCH_{limit}_TIMEOUT_S", "60")
    return all_machines


def squares(count):
    return [(number, number * number) for number in range(count)]


def test_results_are_those_of_the_local_engine(machines):
    notes = Notes()
    with engine_of("local") as local, engine_of("ray") as engine:
        expected = list(local.map(Squares(steps=3), range(5, 25)))
        results = list(engine.map(Squares(steps=3), range(5, 25), listener=notes))
        assert sorted(results) == expected
        assert sum(notes.counts) == 60
        assert notes.losses == []
        # Workers that are there stay for what comes next.
        again = Notes()
        assert sorted(engine.map(Squares(steps=3), range(2), listener=again)) == squares(2)
        assert again.staff[0][0] >= 1


def test_a_worker_that_exits_is_replaced_and_told(machines, tmp_path, capfd):
    notes, made_by = Notes(), Troubled(str(tmp_path), {4: ("exit", 1), 9: ("exit", 2)})
    with engine_of("ray") as engine:
        assert sorted(engine.map(made_by, range(12), listener=notes)) == squares(12)
    assert len(notes.losses) == 3
    assert all(
        "its process ended; out of memory, or a crash" in loss and "to others" in loss for loss in notes.losses
    ), notes.losses
    # Ray tells nothing beside.
    assert capfd.readouterr() == ("", "")
    # What a lost worker had told of is taken back.
    assert sum(notes.counts) == 24


def test_a_unit_that_ends_three_workers_is_named_with_the_cause(machines, tmp_path):
    notes, made_by = Notes(), Troubled(str(tmp_path), {5: ("exit", 9)})
    with engine_of("ray") as engine, pytest.raises(EngineError) as caught:
        list(engine.map(made_by, range(100), listener=notes))
    assert re.match(
        r"Unit 5 \(5\) ended 3 workers; the last one on .+ \(process \d+\): its process ended; .*, or a crash\.\n"
        "Look at this unit on one machine: --engine local",
        str(caught.value),
    )
    assert made_by.begun(5) == 3
    assert len(notes.losses) == 3


def test_a_machine_that_goes_and_all_that_go_and_are_replaced(machines, tmp_path):
    notes, made_by = Notes(), Troubled(str(tmp_path), seconds=0.08)
    with engine_of("ray") as engine:
        results = engine.map(made_by, range(90), listener=notes)
        found = [next(results) for _ in range(9)]
        while notes.staff[-1] != (MACHINES, MACHINES):
            found.append(next(results))
        machines.remove()
        while notes.staff[-1] != (MACHINES - 1, MACHINES - 1):
            found.append(next(results))
        machines.add(2)
        machines.remove()
        machines.remove()
        found += results
    assert sorted(found) == squares(90)
    causes = {re.sub(r"\(process \d+\)", "()", loss.partition(".")[0]) for loss in notes.losses}
    on = rf"A worker (on {re.escape(socket.gethostname())} \(\)|that was to start)"
    assert all(re.fullmatch(rf"{on} was lost: (its machine|the connection to it) was lost", cause) for cause in causes)
    assert sum("to others" in loss for loss in notes.losses) == MACHINES


def test_a_worker_that_hangs_is_ended_by_the_time_limit(machines, tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_UNIT_TIMEOUT_S", "2")
    notes, made_by = Notes(), Troubled(str(tmp_path), {3: ("hang", 1)})
    with engine_of("ray") as engine:
        assert sorted(engine.map(made_by, range(8), listener=notes)) == squares(8)
    (loss,) = notes.losses
    assert "it did not get on for 2 s (VEHICLE_SEARCH_UNIT_TIMEOUT_S)" in loss


def test_what_a_worker_raises_ends_the_work(machines, tmp_path):
    made_by = Troubled(str(tmp_path), {6: ("refuse", 9)})
    with engine_of("ray") as engine, pytest.raises(EncodeError) as caught:
        list(engine.map(made_by, range(100)))
    assert str(caught.value) == "Image 6 does not decode.\nLook at it."
    (note,) = caught.value.__notes__
    assert re.match(r"A worker on .+ \(process \d+\) raised it:\nTraceback", note)
    assert made_by.begun(6) == 1


def test_what_is_refused_here_is_not_done_again(machines, tmp_path):
    made_by, found = Troubled(str(tmp_path), {2: ("nan", 9)}), []

    def write(engine):
        with closing(engine.map(made_by, range(20))) as results:
            for number, result in results:
                if math.isnan(result):
                    raise EncodeError(f"Unit {number} has NaN.")
                found.append(number)

    with engine_of("ray") as engine, pytest.raises(EncodeError, match=r"Unit 2 has NaN\."):
        write(engine)
    assert made_by.begun(2) == 1
    assert 2 not in found


def test_a_worker_that_differs_from_the_others_is_refused_by_name(machines, tmp_path):
    with engine_of("ray") as engine, pytest.raises(EngineError) as caught:
        list(engine.map(Unlike(str(tmp_path), seconds=0.5), range(100)))
    assert re.match(
        r"The worker on .+ \(process \d+\) is refused: weights is trained further there, and as they were elsewhere\.",
        str(caught.value),
    )


def test_a_worker_that_differs_from_the_driver_is_refused_before_any_unit(machines, tmp_path):
    expected = {"weights": "w1", "torch": "1", "code": "c"}
    with engine_of("ray") as engine:
        with pytest.raises(
            EngineError, match="code is nothing there, and c elsewhere; torch is 2 there, and 1 elsewhere"
        ):
            list(engine.map(Squares(), range(3), identity=expected))
        assert sorted(engine.map(Squares(), range(3), identity={"torch": "2"})) == squares(3)


def test_results_that_would_fill_the_memory_between_wait_for_whoever_draws_them(machines, tmp_path):
    made_by, count = Bytes(str(tmp_path), size=12_000_000), 20
    with engine_of("ray") as engine:
        for drawn, (number, result) in enumerate(engine.map(made_by, range(count)), start=1):
            if drawn == 10:
                time.sleep(1)
            # Each worker has two, and no more where nobody draws.
            assert len([*tmp_path.iterdir()]) <= drawn + 2 * MACHINES
            assert len(result) == made_by.size
            assert result[0] == result[-1] == number
            # One's own, as the local engine gives it.
            result[0] = 255
        assert drawn == count


def test_an_actor_has_the_drivers_settings_and_its_share_of_the_machine(machines, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_PRECISION", "fp32")
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("VEHICLE_SEARCH_WORKER_CPUS", "1")
    names = ["PRECISION", "HOME", "ENGINE", "CORES", "DEVICE"]
    wanted = [f"VEHICLE_SEARCH_{name}" for name in names] + ["HF_HOME", "HF_TOKEN", "OMP_NUM_THREADS", "TQDM_DISABLE"]
    asked = [f"os.environ.get({name!r})" for name in wanted]
    with engine_of("ray") as engine:
        answers = dict(engine.map(Asked(), asked))
        said = engine.describe()
    home, cache = os.environ["VEHICLE_SEARCH_HOME"], os.environ["HF_HOME"]
    assert [answers[n] for n in range(len(asked))] == ["fp32", home, "local", "1", "cpu", cache, None, "1", "1"]
    address = os.environ["RAY_ADDRESS"]
    where = f"Ray {ray.__version__} at {address}: 4 nodes, 3 processors, 0 GPUs"
    assert said == f"{where}; room for 3 workers of 1 processor each."


@pytest.mark.slow
def test_where_there_are_gpus_each_worker_has_one_and_its_share_of_the_processors(machines):
    two_gpus = machines.cluster.add_node(num_cpus=5, num_gpus=2, **STORE)
    try:
        names = ["CUDA_VISIBLE_DEVICES", "VEHICLE_SEARCH_DEVICE", "VEHICLE_SEARCH_CORES"]
        with engine_of("ray") as engine:
            assert "2 GPUs; room for 2 workers of 1 GPU and 2 processors each." in engine.describe()
            assert engine.device == "cuda:0"
            answers = dict(engine.map(Asked(), [f"os.environ[{name!r}]" for name in names]))
        assert answers[0] in ("0", "1")
        assert [answers[1], answers[2]] == ["cuda:0", "2"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VEHICLE_SEARCH_DEVICE", "cpu")
            with engine_of("ray") as engine:
                assert "room for 8 workers of 1 processor each" in engine.describe()
                assert engine.device == "cpu"
    finally:
        machines.cluster.remove_node(two_gpus)
        # Who comes next is not to count on its GPUs.
        machines.cluster.wait_for_nodes()


def test_without_room_it_is_said_what_a_worker_takes(machines, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_WORKER_CPUS", "2")
    monkeypatch.setenv("VEHICLE_SEARCH_NODE_TIMEOUT_S", "1")
    notes = Notes()
    with engine_of("ray") as engine, pytest.raises(EngineError, match=r"no machine has had room .* takes 2 processors"):
        list(engine.map(Squares(), range(3), listener=notes))
    assert notes.staff == [(0, 0)]


def test_what_is_not_ours_goes_on(machines):
    class Other:
        def answer(self):
            return 42

    ray.init(machines.cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        other = ray.remote(num_cpus=0)(Other).remote()
        with engine_of("ray") as engine:
            assert sorted(engine.map(Squares(), range(5))) == squares(5)
        assert ray.get(other.answer.remote()) == 42
        assert ray.available_resources()["CPU"] == MACHINES
    finally:
        ray.shutdown()


@pytest.fixture
def evaluated(machines, tmp_path, monkeypatch):
    """Evaluates a model on a small set of chunks of 20 images, and returns what is then on the disk, and the scores."""
    import mteb

    import mteb_vehicle_search
    from mteb_vehicle_search.search import vectors

    mteb_vehicle_search.register()
    eval_set = small_set(tmp_path / "set")
    monkeypatch.setattr(vectors, "CHUNK_ROWS", 20)
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(eval_set.folder))
    monkeypatch.setenv("VEHICLE_SEARCH_KEEP_EMBEDDINGS", "1")

    def evaluate(model, engine, stream="0"):
        monkeypatch.setenv("VEHICLE_SEARCH_ENGINE", engine)
        monkeypatch.setenv("VEHICLE_SEARCH_STREAM", stream)
        monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / engine))
        task = mteb.get_task("VehicleImageSearch")
        (result,) = mteb.evaluate(model, task, cache=None, encode_kwargs={"batch_size": 5}).task_results
        return json.dumps(result.scores, sort_keys=True), *kept(tmp_path / engine)

    return evaluate


def kept(home):
    """What a run leaves: the ranks of each query, the identity of the vectors, and what is stored of them."""
    held = {}
    for path in home.rglob("*.safetensors"):
        with safe_open(path, "numpy") as file:
            held[path.name] = file.metadata(), [file.get_tensor(name).tobytes() for name in sorted(file.keys())]
    texts = {path.name: path.read_bytes() for path in home.rglob("identity.json")}
    ranks = {path.name: path.read_bytes() for path in (home / "runs").rglob("*.parquet")}
    assert len(texts) == len(ranks) == 1
    return ranks, texts, held


@pytest.mark.parametrize("kind", ["ours", pytest.param("mteb's", marks=pytest.mark.slow)])
def test_an_evaluation_is_that_of_the_local_engine_to_the_byte(evaluated, kind):
    meta = tiny_clip() if kind == "ours" else engine_models.toy()
    found = evaluated(meta, "ray")
    assert found == evaluated(meta, "local")
    assert len(found[-1]) == 3


def test_a_corpus_that_is_streamed_gives_what_stored_vectors_give(evaluated, tmp_path):
    streamed = evaluated(tiny_clip(), "ray", "1")
    assert sorted(name.partition("-")[0] for name in streamed[-1]) == ["found", "queries.safetensors"]
    assert streamed == evaluated(tiny_clip(), "local", "1")
    shutil.rmtree(tmp_path / "local")
    assert streamed[:3] == evaluated(tiny_clip(), "local", "0")[:3]


@pytest.mark.slow
def test_a_set_behind_an_address_is_copied_once_for_all_workers_of_a_home(evaluated, tmp_path, monkeypatch):
    expected = evaluated(tiny_clip(), "local")
    with serving(tmp_path / "set") as web:
        monkeypatch.setenv("VEHICLE_SEARCH_DATA", web.url)
        assert evaluated(tiny_clip(), "ray") == expected
    # The driver looks at the manifest before it copies.
    assert web.asked.pop("manifest.json") == 2
    assert set(web.asked.values()) == {1}


@pytest.mark.slow
def test_a_machine_with_a_home_of_its_own_makes_a_copy_of_its_own(machines, tmp_path, monkeypatch):
    monkeypatch.delenv("VEHICLE_SEARCH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "driver"))
    with serving(small_set(tmp_path / "set").folder) as web:
        copy = EvalSet.open(copying.copy(web.url))
        places = copy.folder, origin_of(copy.folder), copy.content_id
        made_by = MakeEncoder(tiny_clip(), *places, {"batch_size": 5}, 0, None)
        there = tmp_path / "machine"
        node = machines.cluster.add_node(num_cpus=1, env_vars={"XDG_DATA_HOME": str(there)}, **STORE)
        try:
            for _ in range(MACHINES):
                machines.remove()
            with engine_of("ray") as engine:
                ((_, told),) = engine.map(made_by, [About()])
        finally:
            machines.cluster.remove_node(node)
    assert told.kind.startswith("cpu")
    (copied,) = there.rglob("copies/*/manifest.json")
    assert copied.read_bytes() == (copy.folder / "manifest.json").read_bytes()
    # Each looked by itself.
    assert web.asked["corpus/test-00000-of-00001.parquet"] == 2


@pytest.mark.slow
def test_an_evaluation_survives_its_workers_and_says_so(evaluated, tmp_path, capsys):
    _, *found = evaluated(engine_models.troubled(tmp_path, "exit"), "ray")
    said = capsys.readouterr().err
    # Two units of one worker may end it at once.
    losses = re.findall(r"warning: A worker on .+ \(process \d+\) was lost: its process ended", said)
    assert len(losses) in (1, 2)
    assert re.search(r"workers: \d, nodes: \d", said)
    # Who loads it is another, which the scores say.
    assert found == [*evaluated(tiny_clip(), "local")][1:]


EVALUATION = """
import sys
from pathlib import Path
import engine_models, mteb, mteb_vehicle_search
from mteb_vehicle_search.search import streamed, vectors

mteb_vehicle_search.register()
vectors.CHUNK_ROWS, streamed.CHECKPOINT_S = 10, 0
model = engine_models.troubled(Path(sys.argv[1]), "slow")
mteb.evaluate(model, mteb.get_task("VehicleImageSearch"), cache=None, encode_kwargs={"batch_size": 5})
"""


@pytest.mark.parametrize(
    ("stream", "first"),
    [("1", "found-*.safetensors"), pytest.param("0", "chunk-*.safetensors", marks=pytest.mark.slow)],
)
def test_a_driver_that_was_killed_goes_on_where_it_was(evaluated, tmp_path, monkeypatch, stream, first):
    from mteb_vehicle_search.search import vectors

    monkeypatch.setattr(vectors, "CHUNK_ROWS", 10)
    model, home = engine_models.troubled(tmp_path, "slow"), tmp_path / "ray"
    set_for_it = {"VEHICLE_SEARCH_ENGINE": "ray", "VEHICLE_SEARCH_STREAM": stream, "VEHICLE_SEARCH_HOME": str(home)}
    environ = {**os.environ, **set_for_it, "PYTHONPATH": os.pathsep.join(sys.path), "MTEB_CACHE": str(tmp_path / "m")}
    words = [sys.executable, "-c", EVALUATION, str(tmp_path)]
    with subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as driver:
        while driver.poll() is None and not [*home.rglob(first)]:
            time.sleep(0.02)
        driver.kill()
        said = driver.communicate()[1]
    assert driver.returncode == -signal.SIGKILL, said
    (tmp_path / "hurry").touch()
    found = evaluated(model, "ray", stream)
    (record,) = home.rglob("run.json")
    assert 0 < json.loads(record.read_text("utf-8"))["resumed_images"] < 36
    assert found == evaluated(model, "local", stream)


@pytest.mark.slow
def test_bad_vectors_of_a_worker_are_refused_and_not_asked_for_again(evaluated, tmp_path):
    with pytest.raises(EncodeError, match=r"vehicle-search/tiny-clip returned NaN or infinite values for .* of"):
        evaluated(engine_models.troubled(tmp_path, "nan"), "ray")
    assert len([*tmp_path.glob("given-*")]) <= 4
    assert [*(tmp_path / "ray").rglob("chunk-*")] == []


@pytest.mark.slow
def test_bad_vectors_are_refused_where_they_are_searched(evaluated, tmp_path):
    with pytest.raises(EncodeError, match=r"vehicle-search/tiny-clip returned NaN or infinite values for .* of"):
        evaluated(engine_models.troubled(tmp_path, "nan"), "ray", "1")
    assert len([*tmp_path.glob("given-*")]) <= 4


@pytest.mark.slow
def test_a_machine_with_other_weights_is_refused(evaluated, tmp_path):
    with pytest.raises(EngineError, match=r"is refused: weights is (\w{40}) others there, and \1 \w{40} elsewhere\."):
        evaluated(engine_models.troubled(tmp_path, "weights"), "ray")


def test_a_model_that_is_an_object_of_this_process_is_refused(evaluated):
    from toy_encoder import ToyEncoder

    with pytest.raises(EncodeError, match="toy/encoder is an object of this process only"):
        evaluated(ToyEncoder(), "ray")


def test_a_dry_run_says_what_was_found_and_runs_nothing(machines, capsys):
    from mteb_vehicle_search import cli

    words = ["run", "-t", "VehicleImageSearchMini", "-m", "vehicle-search/tiny-clip", "--engine", "ray", "--dry-run"]
    assert cli.main(words) == 0
    found = "4 nodes, 3 processors, 0 GPUs; room for 3 workers of 1 processor each"
    assert re.fullmatch(rf"Ray .+ at .+: {found}\.\n", capsys.readouterr().out)
    assert "VEHICLE_SEARCH_ENGINE" not in os.environ
    assert not ray.is_initialized()


@pytest.fixture
def twins(machines, tmp_path, monkeypatch):
    """A folder with Flickr30k, two forms of ImageNet, a classifier and a preset; chunks have eight images."""
    monkeypatch.setattr("data_prep.stages.chunks.CHUNK", 8)
    format_twins.write_classifier(tmp_path / "classifier")
    format_twins.write_preset(tmp_path, "classifier")
    format_twins.write_flickr30k(tmp_path / "flickr30k", "folder")
    names = "".join(f"{file.filename}\n" for file in format_twins.captioned_files()[:3])
    (tmp_path / "list.txt").write_text(names, encoding="utf-8")
    for form in ("shards", "folders"):
        format_twins.write_imagenet(tmp_path / form, form)
    return tmp_path


def build_words(twins, form, engine):
    """Words of the command for a build in `engine/set`."""
    words = ["build", "--preset", twins / "twins.toml", "--flickr30k", twins / "flickr30k", "--imagenet", twins / form]
    return [*map(str, [*words, "--engine", engine, "--out", twins / engine / "set", "--device", "cpu"])]


def built(twins, engine):
    """The bytes of a set, of its markers and of all else in its work folder."""
    files = [
        path for path in (twins / engine).rglob("*") if path.is_file() and path.name not in ("lock", "holder.json")
    ]
    return {path.relative_to(twins / engine).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", ["listed", pytest.param("classified", marks=pytest.mark.slow)])
def test_a_build_is_that_of_the_local_engine_to_the_byte(twins, capsys, kind):
    from data_prep import cli

    more = ["--selection", str(twins / "list.txt")] if kind == "listed" else []
    for engine in ("local", "ray"):
        assert cli.main([*build_words(twins, "shards", engine), *more]) == 0
    assert built(twins, "ray") == built(twins, "local")
    assert len([name for name in built(twins, "ray") if name.endswith(".images")]) == 5
    said = capsys.readouterr().err
    assert re.search(r"distractors: +100%.*\d images, 5 of 5 shards, workers: \d, nodes: \d", said)
    if kind == "classified":
        assert re.search(r"classify: +100%.* 40/40 .*kB, workers: \d, nodes: \d", said)


@pytest.mark.slow
def test_a_build_survives_machines_that_go(twins, machines, monkeypatch, capsys):
    from data_prep import cli
    from data_prep.markers import Stages

    assert cli.main(build_words(twins, "folders", "local")) == 0
    finish, kept = Stages.finish, []

    def finished(self, stage, *given, **more):
        if stage.startswith("distractors/"):
            kept.append(stage)
            if len(kept) in (2, 4):
                machines.remove()
                machines.add(1)
        return finish(self, stage, *given, **more)

    monkeypatch.setattr(Stages, "finish", finished)
    assert cli.main(build_words(twins, "folders", "ray")) == 0
    assert built(twins, "ray") == built(twins, "local")
    assert len(kept) == len({*kept}) == 20
    assert re.search(r"warning: A worker (on|that was to start).* was lost: ", capsys.readouterr().err)


KILLED = """
import os, signal, sys
from data_prep import cli
from data_prep.markers import Stages
from data_prep.stages import chunks

chunks.CHUNK = 8
finish, left = Stages.finish, [3]

def killed(self, stage, *given, **more):
    left[0] -= stage.startswith(sys.argv[1])
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return finish(self, stage, *given, **more)

Stages.finish = killed
cli.main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["classify/", "distractors/"])
def test_a_driver_that_is_killed_is_gone_on_with_here(twins, monkeypatch, stage):
    from data_prep import cli
    from data_prep.markers import Stages

    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", KILLED, stage, *build_words(twins, "shards", "ray")]
    assert subprocess.run(words, env=environ, capture_output=True, check=False).returncode == -signal.SIGKILL
    kept = [*(twins / "ray" / "set.build" / "stages" / stage).glob("*.json")]
    assert len(kept) == 3
    finish, again = Stages.finish, []
    monkeypatch.setattr(
        Stages, "finish", lambda self, name, *given, **more: again.append(name) or finish(self, name, *given, **more)
    )
    for engine in ("ray", "local"):
        here = [word if word != "ray" else "local" for word in build_words(twins, "shards", engine)]
        assert cli.main(here) == 0
        if engine == "ray":
            assert not {f"{stage}{path.stem}" for path in kept} & {*again}
    assert built(twins, "ray") == built(twins, "local")


@pytest.mark.slow
def test_a_source_that_a_machine_has_not_is_told_with_its_name(twins, monkeypatch, capsys):
    from data_prep import cli
    from data_prep.sources import Place

    real = Place.elsewhere
    monkeypatch.setattr(Place, "elsewhere", lambda place: replace(real(place), src="/mnt/nowhere"))
    assert cli.main([*build_words(twins, "shards", "ray"), "--selection", str(twins / "list.txt"), "--quiet"]) == 1
    assert capsys.readouterr().err.endswith(
        f"error: On {socket.gethostname()}: there is no folder /mnt/nowhere\nThe source must lie at the same path on "
        "every machine, the same files with the same times, or behind an address.\n"
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", "There is no Ray cluster for us at RAY_ADDRESS=127.0.0.1:9: .*refused"),
        ("nowhere:port", "There is no Ray cluster for us at RAY_ADDRESS=nowhere:port: "),
        ("ray://127.0.0.1:10001", "RAY_ADDRESS=ray://127.0.0.1:10001 is for Ray's clients"),
    ],
)
def test_a_cluster_that_is_not_there_is_said_at_once(monkeypatch, address, said):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(EngineError, match=said), engine_of("ray"):
        pass
    assert not ray.is_initialized()


SCRIPT = """
import sys
from engine_workers import Troubled
from mteb_vehicle_search.engine import engine_of

with engine_of("ray") as engine:
    for number, _ in engine.map(Troubled(sys.argv[1], seconds=0.2), range(1_000)):
        print(number, engine._cluster._folder, flush=True)
"""


def test_ctrl_c_ends_a_cluster_of_ones_own_and_leaves_nothing(tmp_path):
    environ = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environ |= {"PYTHONPATH": os.pathsep.join(sys.path), "VEHICLE_SEARCH_CORES": "1", "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=environ, start_new_session=True, **pipes) as started:
        number, folder = started.stdout.readline().split()
        its = psutil.Process(started.pid).children(recursive=True)
        assert int(number) < 3
        assert len(its) >= 3
        # As a terminal does it: everybody in the foreground is told.
        os.killpg(started.pid, signal.SIGINT)
        _, said = started.communicate(timeout=20)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert "Ray" not in said.replace("RayEngine", "")
    assert psutil.wait_procs(its, timeout=10)[1] == []
    assert not Path(folder).exists()


@pytest.mark.slow
def test_a_sample_of_a_pool_is_that_of_the_local_engine_to_the_byte(machines, tmp_path, capsys):
    from pool_folders import PRESET, write_images

    from data_prep import cli

    write_images(tmp_path)
    (tmp_path / "sampled.toml").write_text(PRESET, encoding="utf-8")
    for engine in ("local", "ray"):
        words = ["build", "--preset", tmp_path / "sampled.toml", "--engine", engine, "--out", tmp_path / engine / "set"]
        assert cli.main([*map(str, words), "--device", "cpu"]) == 0
    assert built(tmp_path, "ray") == built(tmp_path, "local")
    assert re.search(r"embed pool: .*90 images, 1 of 1 shards, workers: \d, nodes: \d", capsys.readouterr().err)
