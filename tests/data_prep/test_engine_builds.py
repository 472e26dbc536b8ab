"""Builds whose shards and chunks are worked on elsewhere: the same bytes and markers, whatever becomes of workers."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import format_twins
import pytest
from small_sources import Recorder
from threaded_engine import installed
from threaded_seats import DIES
from waiting import pause_until

from data_prep import cli
from data_prep.build import build
from data_prep.job import BuildOptions
from data_prep.preset import load_preset
from data_prep.sources import Place
from data_prep.stages import chunks, classify, distractors, identity, shards
from data_prep.stages.shards import Pool
from mteb_vehicle_search.engine.local import LocalEngine
from mteb_vehicle_search.errors import BuildError, EngineError, SourceError

OWN = """
name = "own"
title = "Own"
[captioned]
source = "{0}"
location = "{1}"
[distractors]
source = "{0}"
location = "{1}"
"""
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF")

SAME_PLACE = "The source must lie at the same path on every machine"
HERE = re.escape(socket.gethostname())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the twins in many forms, and their classifier."""
    folder = tmp_path_factory.mktemp("home")
    format_twins.write_classifier(folder / "classifier")
    format_twins.write_preset(folder, "classifier")
    format_twins.write_flickr30k(folder / "flickr30k", "folder")
    files = format_twins.classed_files(damaged=True)
    for form in ("shards", "tar", "folders", "webdataset", "kaggle_zip"):
        format_twins.write_imagenet(folder / form, form, files)
    photos = folder / "photos"
    for file in (*files, *format_twins.captioned_files()):
        name = file.filename if isinstance(file, format_twins.Captioned) else f"{file.class_index}/{file.stem}.JPEG"
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(file.data)
    for file in format_twins.captioned_files():
        (photos / file.filename).with_suffix(".txt").write_text(file.captions[0], encoding="utf-8")
    (folder / "own-folder.toml").write_text(OWN.format("folder", "photos"), encoding="utf-8")
    (folder / "own-tars.toml").write_text(OWN.format("webdataset", "samples"), encoding="utf-8")
    _write_samples(folder)
    return folder


def _write_samples(folder: Path) -> None:
    """Write tars of samples, the first of which holds captions too."""
    import io
    import tarfile

    path = min(shutil.copytree(folder / "webdataset", folder / "samples").rglob("*.tar"))
    with tarfile.open(path, "a") as tar:
        for file in format_twins.captioned_files(4):
            stem = file.filename.removesuffix(".jpg")
            for name, data in ((f"{stem}.jpg", file.data), (f"{stem}.txt", b"A bus.")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def options(home: Path, out: Path, form: str = "shards", **changes) -> BuildOptions:
    sources = {"flickr30k": str(home / "flickr30k"), "imagenet": str(home / form)}
    base = BuildOptions(
        load_preset(str(home / "twins.toml")), out, sources, workers=2, device="cpu", allow_rejects=True
    )
    return replace(base, **changes)


def own(home: Path, out: Path, name: str, **changes) -> BuildOptions:
    preset = load_preset("mini") if name == "mini" else load_preset(str(home / f"{name}.toml"))
    return options(home, out, preset=preset, sources={}, **changes)


def digest(out: Path) -> dict[str, str]:
    """The bytes of a set, and of its work folder: markers, scores, images."""
    files = [path for folder in (out, out.with_name(f"{out.name}.build")) for path in folder.rglob("*")]
    return {
        path.relative_to(out.parent).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file() and path.name not in ("lock", "holder.json")
    }


@pytest.fixture(scope="module")
def classified(home, tmp_path_factory):
    """What an uninterrupted build of the shards leaves, with a classifier and chunks of eight images."""
    folder = tmp_path_factory.mktemp("classified")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", 8)
        build(options(home, folder / "set"), Recorder())
    return digest(folder / "set")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 8)


@pytest.fixture
def threads(monkeypatch):
    """Several workers, by this name."""
    yield installed(monkeypatch)
    pause_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("prepare")])


def test_made_by_several_it_is_the_same_set_with_the_same_markers(home, classified, tmp_path, threads):
    reporter = Recorder()
    built = build(options(home, tmp_path / "set", engine="threads"), reporter)
    assert digest(tmp_path / "set") == classified
    assert [len(drawn) for drawn in threads.drawn] == [5, 5]
    assert len([name for name in classified if name.endswith(".images")]) == 5
    assert {what: bar.n for what, bar in reporter.bars.items()} == {"classify": 40, **_sizes(home)}
    assert built.manifest["notes"]["counts"]["rejected"] == 2


def _sizes(home: Path) -> dict[str, int]:
    """What the bar of the distractors ends at, in bytes."""
    return {"distractors": sum(path.stat().st_size for path in (home / "shards").rglob("*.parquet"))}


@pytest.mark.parametrize("form", ["tar", "folders", "webdataset", "kaggle_zip"])
def test_every_form_of_imagenet_is_read_by_workers(home, tmp_path, threads, form):
    given = {"selection": str(_listed(tmp_path))}
    build(options(home, tmp_path / "a" / "set", form, **given), Recorder())
    build(options(home, tmp_path / "b" / "set", form, engine="threads", **given), Recorder())
    assert digest(tmp_path / "b" / "set") == digest(tmp_path / "a" / "set")
    assert len(threads.drawn[0]) > 1


@pytest.mark.parametrize("name", ["mini", "own-folder", "own-tars"])
def test_drawn_scenes_and_images_of_ones_own_are_read_by_workers(home, tmp_path, threads, monkeypatch, name):
    monkeypatch.setattr("data_prep.sources.own.folder.PIECE", 20)
    if name == "mini":
        monkeypatch.setattr("data_prep.sources.drawn.source.mini_scenes", lambda: _few_scenes())
    build(own(home, tmp_path / "a" / "set", name), Recorder())
    build(own(home, tmp_path / "b" / "set", name, engine="threads"), Recorder())
    assert digest(tmp_path / "b" / "set") == digest(tmp_path / "a" / "set")
    assert len(threads.drawn[0]) >= (1 if name == "mini" else 4)


def _few_scenes():
    from data_prep.sources.drawn.mini import mini_scenes

    return mini_scenes("few", 4, 12)


def _listed(folder: Path) -> Path:
    path = folder / "list.txt"
    path.write_text("".join(f"{file.filename}\n" for file in format_twins.captioned_files()[:6]), encoding="utf-8")
    return path


class Backwards(LocalEngine):
    """Gives the last result first."""

    def map(self, *given, **more):
        yield from reversed([*super().map(*given, **more)])


def test_results_may_come_in_any_order(home, classified, tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.build.engine_of", lambda name: Backwards())
    build(options(home, tmp_path / "set"), Recorder())
    assert digest(tmp_path / "set") == classified


def _once(monkeypatch, owner, name, trouble, at: int):
    """Let a method get into trouble at its call number `at`, in whatever thread, and only then."""
    real, calls = getattr(owner, name), []

    def troubled(self, *given):
        calls.append(given)
        if len(calls) == at:
            trouble()
        return real(self, *given)

    monkeypatch.setattr(owner, name, troubled)
    return calls


def _dies():
    raise RuntimeError(DIES)


def test_what_a_lost_worker_had_goes_to_others_and_is_told_and_counted_once(
    home, classified, tmp_path, threads, monkeypatch, capsys
):
    shards = _once(monkeypatch, distractors.Reducer, "_reduced", _dies, at=2)
    chunks = _once(monkeypatch, classify.ChunkClassifier, "_scored", _dies, at=3)
    reporter = Recorder()
    build(options(home, tmp_path / "set", engine="threads"), reporter)
    assert digest(tmp_path / "set") == classified
    assert {what: bar.n for what, bar in reporter.bars.items()} == {"classify": 40, **_sizes(home)}
    assert len(shards) > 5
    assert len(chunks) > 5
    told = re.findall(
        r"warning: A worker in seat \d was lost: this process dies\. \d units? go", capsys.readouterr().err
    )
    assert len(told) >= 2


@pytest.mark.parametrize(("first", "second"), [("local", "threads"), ("threads", "local")])
@pytest.mark.parametrize("stage", ["classify", "distractors"])
def test_a_build_that_ends_in_the_middle_goes_on_with_another_engine(
    home, classified, tmp_path, threads, monkeypatch, stage, first, second
):
    from data_prep.markers import Stages

    finish, left = Stages.finish, [2]

    def killed(self, name, *given, **more):
        if name.startswith(f"{stage}/"):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        return finish(self, name, *given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Stages, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            build(options(home, tmp_path / "set", engine=first), Recorder())
    work = tmp_path / "set.build"
    done = sorted(path.stem for path in (work / "stages" / stage).glob("*.json"))
    assert len(done) == 2
    again = []
    monkeypatch.setattr(
        Stages, "finish", lambda self, name, *given, **more: again.append(name) or finish(self, name, *given, **more)
    )
    reporter = Recorder()
    build(options(home, tmp_path / "set", engine=second), reporter)
    assert digest(tmp_path / "set") == classified
    counted = {what: bar.n for what, bar in reporter.bars.items()}
    assert counted == {**({"classify": 40} if stage == "classify" else {}), **_sizes(home)}
    assert len([name for name in again if name.startswith(f"{stage}/")]) == 3
    assert not {f"{stage}/{name}" for name in done} & {*again}


def test_a_stage_is_done_again_by_workers_if_that_is_asked_for(home, classified, tmp_path, threads):
    for rebuild in ((), ("distractors",)):
        threads.drawn.clear()
        build(options(home, tmp_path / "set", engine="threads", rebuild=rebuild), Recorder())
    assert [len(drawn) for drawn in threads.drawn] == [5]
    assert digest(tmp_path / "set") == classified


def test_too_many_refused_images_stop_a_build_on_an_engine(home, tmp_path, threads, monkeypatch):
    monkeypatch.setattr(shards, "EARLY_CHECK", 10)
    with pytest.raises(BuildError, match="inputs were refused"):
        build(options(home, tmp_path / "set", engine="threads", allow_rejects=False), Recorder())
    assert not (tmp_path / "set").exists()


def test_a_folder_that_another_machine_has_not_is_told_with_its_name(home, tmp_path, threads, monkeypatch, capsys):
    monkeypatch.setattr(Place, "elsewhere", lambda place: replace(place, src="/mnt/nowhere/imagenet"))
    words = ["--preset", home / "twins.toml", "--flickr30k", home / "flickr30k", "--imagenet", home / "shards"]
    words += ["--selection", _listed(tmp_path), "--engine", "threads", "--quiet", "--out", tmp_path / "set"]
    assert cli.main(["build", *map(str, words)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == [
        f"error: On {socket.gethostname()}: there is no folder /mnt/nowhere/imagenet",
        f"{SAME_PLACE}, the same files with the same times, or behind an address.",
    ]


@pytest.mark.parametrize(("change", "what"), [("time", "is another one than where"), ("gone", "is not there")])
def test_other_files_at_the_same_path_are_refused_by_name(home, tmp_path, change, what):
    folder = shutil.copytree(home / "folders", tmp_path / "imagenet")
    given = options(home, tmp_path / "set", sources={"imagenet": str(folder)})
    (shard, *_) = given.open_distractors().shards(set(format_twins.VEHICLES))
    places, wanted = given.distractor_places(), frozenset({shard.class_index})
    make = distractors.MakeReducer(
        Pool("imagenet", places, wanted, ("train", "val"), None), given.preset.images, None, None
    )
    path = min((folder / shard.location).iterdir())
    worker = make()
    (result,) = worker.work(iter([shard]), lambda count: None)
    assert result.jpegs
    if change == "time":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        shard = replace(shard, name="train/n0")
    with pytest.raises(SourceError, match=rf"On {HERE}: the shard {shard} of imagenet {what}.*\n{SAME_PLACE}"):
        list(make().work(iter([shard]), lambda count: None))


def test_a_damaged_shard_is_named_with_the_machine_where_it_was_read(home, tmp_path, threads):
    folder = shutil.copytree(home / "shards", tmp_path / "imagenet")
    (path, *_) = sorted(folder.rglob("train-*"))
    path.write_bytes(path.read_bytes()[:-50])
    given = options(home, tmp_path / "set", sources={"flickr30k": str(home / "flickr30k"), "imagenet": str(folder)})
    with pytest.raises(
        SourceError, match=rf"On {HERE}: .*train-00000-of-00003\.parquet is damaged: .*\nDelete the file"
    ):
        build(replace(given, engine="threads", selection=str(_listed(tmp_path))), Recorder())


@pytest.mark.parametrize("name", ["pillow", "numpy", "code of data_prep", "libjpeg-turbo"])
@pytest.mark.parametrize("worker", [distractors.Reducer, classify.ChunkClassifier])
def test_a_worker_that_differs_from_here_is_refused_by_name(home, tmp_path, threads, monkeypatch, worker, name):
    real = worker.identity
    monkeypatch.setattr(worker, "identity", lambda self: {**real(self), name: "another"})
    with pytest.raises(EngineError, match=rf"is refused: {name} is another there, and .+ elsewhere\."):
        build(options(home, tmp_path / "set", engine="threads"), Recorder())


def test_the_identity_is_that_of_packages_codecs_and_code(monkeypatch):
    found = identity.same_everywhere()
    assert {"pillow", "simplejpeg", "numpy", "imagehash", "pyarrow", "torch", "transformers", "timm"} <= {*found}
    assert {"code of data_prep", "code of mteb_vehicle_search", "libjpeg-turbo", "formats"} <= {*found}
    monkeypatch.setattr(identity, "code_digest", lambda package: package.name)
    assert identity.same_everywhere()["code of data_prep"] == "data_prep"
    assert identity.same_everywhere()["code of mteb_vehicle_search"] == "mteb_vehicle_search"


def test_a_classifier_that_another_machine_has_not_is_named(home, tmp_path, threads, monkeypatch):
    real = classify.MakeClassifier.__getstate__
    monkeypatch.setattr(
        classify.MakeClassifier, "__getstate__", lambda self: {**real(self), "folder": tmp_path / "elsewhere"}
    )
    with pytest.raises(BuildError, match=rf"On {HERE}: there is no classifier .*elsewhere.classifier\nIt must lie at"):
        build(options(home, tmp_path / "set", engine="threads"), Recorder())


def test_a_device_that_another_machine_has_not_is_named(home, tmp_path, threads):
    with pytest.raises(BuildError, match=rf"On {HERE}: There is no device 'cuda' here"):
        build(options(home, tmp_path / "set", engine="threads", device="cuda:7"), Recorder())


def test_by_default_the_classifier_is_on_the_devices_of_the_workers(home, classified, tmp_path, threads):
    build(options(home, tmp_path / "set", engine="threads", device="auto"), Recorder())
    assert digest(tmp_path / "set") == classified
    threads.device = "cuda:0"
    with pytest.raises(BuildError, match=rf"On {HERE}: There is no device 'cuda' here"):
        build(options(home, tmp_path / "other", engine="threads", device="auto"), Recorder())


def test_few_chunks_are_on_their_way(home, tmp_path, threads, monkeypatch):
    monkeypatch.setattr(chunks, "ON_THEIR_WAY", 2)
    monkeypatch.setattr(chunks, "CHUNK", 2)
    real, most = classify.ChunkClassifier._scored, []

    def scored(self, *given):
        most.append(len(threads.drawn[0]))
        return real(self, *given)

    monkeypatch.setattr(classify.ChunkClassifier, "_scored", scored)
    build(options(home, tmp_path / "set", engine="threads"), Recorder())
    assert all(drawn <= done + 3 for done, drawn in enumerate(most)), most


def test_places_are_told_in_full_and_downloads_stay_where_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "captions.csv").write_text("a")
    (tmp_path / "hub").mkdir()
    place = Place("photos", tmp_path / "download", "captions.csv")
    assert place.elsewhere() == Place(str(tmp_path / "photos"), None, str(tmp_path / "captions.csv"))
    inside = Place("s3://bucket/photos", None, "inside.csv")
    assert inside.elsewhere() == inside
    assert Place().elsewhere() == Place()
    assert [Place(src).is_path for src in ("photos", "file:///p", "https://a/b", "s3://b", "hub")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_an_engine_that_there_is_not_is_refused_before_anything(home, tmp_path, capsys):
    words = ["build", "--preset", "mini", "--out", str(tmp_path / "set"), "--engine", "Ray"]
    assert cli.main(words) == 2
    assert cli.main([*words, "--dry-run"]) == 2
    assert "There is no engine 'Ray'; did you mean ray?" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_the_variable_chooses_it_and_a_dry_run_says_where_it_would_be(home, tmp_path, threads, capsys, monkeypatch):
    words = ["build", "--preset", "mini", "--out", str(tmp_path / "set"), "--dry-run"]
    assert cli.main([*words, "--engine", "threads"]) == 0
    assert re.search(r"engine +3 threads\.", capsys.readouterr().out)
    assert cli.main(words) == 0
    assert "threads" not in capsys.readouterr().out
    monkeypatch.setenv("VEHICLE_SEARCH_ENGINE", "spark")
    assert cli.main(words) == 2


def test_a_cluster_that_does_not_answer_is_one_of_the_problems_of_a_plan(tmp_path, threads, monkeypatch, capsys):
    def fails():
        raise EngineError("There is no cluster.", "Start one.")

    monkeypatch.setattr(threads, "describe", fails)
    words = ["build", "--preset", "mini", "--out", str(tmp_path / "set"), "--dry-run", "--engine", "threads"]
    assert cli.main(words) == 1
    said = capsys.readouterr()
    assert re.search(r"engine +NOT READY", said.out)
    assert "error: There is no cluster.\nStart one." in said.err


CODE = """
import sys
import threading
from data_prep import cli
status = cli.main(sys.argv[1:])
print([name for name in sys.modules if name.partition(".")[0] == "ray"])
raise SystemExit(status)
"""


def test_a_build_here_imports_nothing_of_ray(home, tmp_path):
    words = ["build", "--preset", home / "own-folder.toml", "--out", tmp_path / "set", "--quiet", "--allow-rejects"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, words)], capture_output=True, text=True, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
