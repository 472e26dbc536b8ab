"""Builds whose distractors are a sample of a pool: what is in the set, and the same bytes whatever happens."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import interrupted
import numpy as np
import pytest
from PIL import Image
from pool_folders import CAPTIONED, CLUSTERED, KEYS, OF_CLUSTERS, POOL, PRESET, write_images
from small_sources import Recorder
from threaded_engine import installed

from data_prep import cli
from data_prep.build import build
from data_prep.job import BuildOptions
from data_prep.preset import load_preset
from data_prep.sources.drawn.images import draw
from data_prep.sources.drawn.pool import pool_scenes
from data_prep.stages import chunks
from data_prep.stages.embed import embed_pool
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.verify import verify


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Captioned images, a pool in three folders with a twin and a damaged file, and a preset."""
    folder = tmp_path_factory.mktemp("home")
    write_images(folder)
    (folder / "pool" / "0" / "twin.png").write_bytes((folder / "captioned" / "004.png").read_bytes())
    (folder / "pool" / "1" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    (folder / "sampled.toml").write_text(PRESET, encoding="utf-8")
    (folder / "hashed.toml").write_text(PRESET.replace("= -1", "= 0"), encoding="utf-8")
    return folder


def options(home: Path, out: Path, preset: str = "sampled", **changed) -> BuildOptions:
    given = {"workers": 2, "device": "cpu", "allow_rejects": True, **changed}
    return BuildOptions(load_preset(str(home / f"{preset}.toml")), out, **given)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def made(work: Path) -> dict[str, str]:
    """What a work folder holds, but for who is at work there."""
    return {name: of for name, of in digest(work).items() if name not in ("lock", "lock.file", "holder.json")}


@pytest.fixture(scope="module")
def built(home, tmp_path_factory):
    return build(options(home, tmp_path_factory.mktemp("built") / "set"), Recorder())


def test_it_holds_the_near_images_and_a_sample_of_the_others(built):
    assert verify(built.folder, progress=False).violations == []
    rows = built.provenance().to_pylist()
    count = Counter(row["arm"] for row in rows)
    pool = built.pool
    assert count["captioned"] == CAPTIONED
    assert count["mined"] == pool["near"]
    assert pool["images"] == POOL + 1  # The twin is one of them; the damaged file is none.
    assert count["random"] == round(0.25 * pool["far"])
    assert pool["near_each"] == 2
    assert pool["miners"]["layout"] == {"library": "pixels", "model": "layout", "revision": "", "family": "thumbnails"}
    twin = next(row for row in rows if row["corpus-id"].endswith("twin.png"))
    assert (twin["arm"], twin["mined_by"]) == ("mined", ["colours", "layout"])
    notes = built.manifest["notes"]
    chosen = count["mined"] + count["random"]  # The damaged file is passed over, too, the second time.
    assert notes["passed_over"]["distractors"]["not chosen from the pool"] == POOL + 2 - chosen
    assert [(row["stage"], Path(row["id"]).name) for row in built.rejected().to_pylist()] == [("embed", "damaged.png")]
    card = (built.folder / "README.md").read_text(encoding="utf-8")
    assert f"a sample of a pool of {POOL + 1} images: all {pool['near']} near ones" in card
    assert "by each of the miners `colours`, `layout`" in card


def test_a_twin_by_its_hash_is_rejected_with_the_reason(home, tmp_path):
    found = build(options(home, tmp_path / "set", "hashed"), Recorder())
    reasons = {Path(row["id"]).name: row["reason"] for row in found.rejected().to_pylist() if row["stage"] == "mine"}
    assert reasons["twin.png"] == "shows the same as the captioned folder/004.png"
    assert found.pool["images"] == POOL + 1 - len(reasons)
    assert not [one for one in found.corpus_ids() if one.endswith("twin.png")]


def test_a_list_says_for_which_images_is_mined_and_embedded(home, built, tmp_path):
    clusters = '[selection]\nmethod = "clusters"\nclusters = 2\nimages = 8\nsmallest = 1\n[miners.layout]'
    (home / "clustered.toml").write_text(PRESET.replace("[miners.layout]", clusters), encoding="utf-8")
    (tmp_path / "list.txt").write_text("001.png\n004.png\n", encoding="utf-8")
    reporter = Recorder()
    found = build(options(home, tmp_path / "set", "clustered", selection=str(tmp_path / "list.txt")), reporter)
    arms = Counter(row["arm"] for row in found.provenance().to_pylist())
    assert (arms["captioned"], arms["mined"]) == (2, found.pool["near"])
    # At most two by each of the two miners for each of the two images.
    assert found.pool["near"] <= 8 < built.pool["near"]
    assert [total for what, total in reporter.tracked if what == "embed"] == [2]


def test_a_second_build_does_nothing_again(home, built, tmp_path):
    before = made(built.folder.parent / "set.build")
    reporter = Recorder()
    assert build(options(home, built.folder), reporter).content_id == built.content_id
    assert made(built.folder.parent / "set.build") == before
    assert "mine" not in reporter.bars


@pytest.mark.parametrize("workers", [1, 4])
def test_neither_threads_nor_the_engine_change_a_byte(home, built, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(chunks, "CHUNK", 5)
    engine = "threads" if workers == 4 and installed(monkeypatch) else None
    again = build(options(home, tmp_path / "set", workers=workers, engine=engine), Recorder())
    assert digest(again.folder) == digest(built.folder)


class Backwards:
    """A source that gives the images of a shard from the last one to the first."""

    def __init__(self, source):
        self._source = source

    def images(self, *arguments):
        return reversed([*self._source.images(*arguments)])

    def __getattr__(self, name):
        return getattr(self._source, name)


def test_the_order_of_the_pools_files_does_not_matter(home, built, tmp_path, monkeypatch):
    seen = []

    def embedded(job, source, shards):
        seen.append(len(shards))
        return embed_pool(job, Backwards(source), [*reversed(shards)])

    monkeypatch.setattr("data_prep.build.embed_pool", embedded)
    again = build(options(home, tmp_path / "set"), Recorder())
    assert digest(again.folder) == digest(built.folder)
    assert seen == [1]


def test_another_seed_or_rate_is_mined_again_and_embeds_nothing(home, built, tmp_path):
    text = (home / "sampled.toml").read_text(encoding="utf-8")
    (home / "other.toml").write_text(text.replace("rate = 0.25", 'rate = 0.5\nseed = "2"'), encoding="utf-8")
    build(options(home, tmp_path / "set"), Recorder())
    reporter = Recorder()
    found = build(options(home, tmp_path / "set", "other"), reporter)
    assert Counter(row["arm"] for row in found.provenance().to_pylist())["random"] == round(0.5 * found.pool["far"])
    assert found.content_id != built.content_id
    assert "embed" not in reporter.bars
    said = "\n".join(reporter.messages)
    assert "Stage 'mine' is stale and is done again: rule.rate was 0.25, is 0.5; rule.seed" in said
    assert "Stage 'embed'" not in said


@pytest.fixture(scope="module")
def clustered(home, tmp_path_factory):
    """A build whose captioned images are whole clusters."""
    (home / "in-clusters.toml").write_text(
        PRESET.replace("[distractors]", f"{CLUSTERED}[distractors]"), encoding="utf-8"
    )
    return build(options(home, tmp_path_factory.mktemp("clustered") / "set", "in-clusters"), Recorder())


@pytest.mark.parametrize("key", [*KEYS, *OF_CLUSTERS])
def test_what_a_key_says_is_done_again_and_nothing_else(home, built, clustered, tmp_path, monkeypatch, key):
    from data_prep.markers import Stages

    (replaced, again), base = ({**KEYS, **OF_CLUSTERS})[key], built if key in KEYS else clustered
    for folder in (base.folder, base.folder.with_name("set.build")):
        shutil.copytree(folder, tmp_path / folder.name)
    text = (home / f"{'sampled' if key in KEYS else 'in-clusters'}.toml").read_text(encoding="utf-8")
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    (home / "list.txt").write_text("003.png\n004.png\n005.png\n", encoding="utf-8")
    (home / "changed.toml").write_text(text, encoding="utf-8")
    done, finish = set(), Stages.finish
    monkeypatch.setattr(
        Stages, "finish", lambda self, stage, *more, **how: done.add(stage) or finish(self, stage, *more, **how)
    )
    found = build(options(home, tmp_path / "set", "changed"), Recorder())
    assert {stage.partition("/")[0] for stage in done} == again
    assert verify(found.folder, progress=False).violations == []


def test_a_chosen_image_that_went_is_missed(home, built, tmp_path, monkeypatch):
    folder = tmp_path / "home"
    for path in sorted(home.rglob("*")):
        if path.is_file():
            (folder / path.relative_to(home)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(home)).write_bytes(path.read_bytes())
    build(options(folder, tmp_path / "set"), Recorder())
    gone = next(row["corpus-id"] for row in built.provenance().to_pylist() if row["arm"] == "random")
    from data_prep.sources.own import folder as own_folder

    images = own_folder.FolderDistractors.images

    def without(self, *arguments):
        return (image for image in images(self, *arguments) if image.id != gone)

    monkeypatch.setattr(own_folder.FolderDistractors, "images", without)
    said = r"1 of \d+ images that were chosen from the pool are not there any more"
    with pytest.raises(BuildError, match=said) as error:
        build(options(folder, tmp_path / "set", rebuild=("distractors",)), Recorder())
    assert gone in error.value.message
    assert "--rebuild embed" in error.value.hint
    assert EvalSet.open(tmp_path / "set").content_id == built.content_id


def test_inspect_counts_the_arms(built, tmp_path, capsys):
    assert cli.main(["inspect", str(built.folder), "--sheet", str(tmp_path / "sheet.png")]) == 0
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    rows = rows[rows.index("Images by arm") + 2 :]
    count = Counter((row["arm"], ", ".join(row["mined_by"])) for row in built.provenance().to_pylist())
    expected = [f"{arm} by {by} {n}" if by else f"{arm} {n}" for (arm, by), n in sorted(count.items())]
    assert sorted(rows[: len(expected)]) == sorted(expected)


def test_a_sample_has_no_recipe(built, tmp_path, capsys):
    assert cli.main(["recipe", str(built.folder), str(tmp_path / "recipe.json")]) == 1
    assert "it is a sample of a pool, and a recipe does not hold its probabilities" in capsys.readouterr().err
    assert not (tmp_path / "recipe.json").exists()


def test_a_plan_says_what_a_pool_takes(home, tmp_path, capsys):
    command = ["build", "--preset", str(home / "sampled.toml"), "--out", str(tmp_path / "set"), "--dry-run"]
    assert cli.main(command) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "pool 92 images at most, read twice: to be embedded, and for those chosen" in told
    assert "views of 2 miners, up to 0.00 GB" in told
    assert "stage mine to do" in told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, so that ten builds import their libraries once")
def test_killed_at_ten_moments_it_gives_the_same_bytes(home, built, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 5)
    command = ["build", "--preset", str(home / "sampled.toml"), "--workers", "1", "--device", "cpu", "--quiet"]
    command += ["--allow-rejects"]
    runs = interrupted.runs(command, tmp_path, seed=5, full=False)
    assert sum(run.status == -signal.SIGKILL for run in runs) == 10
    assert digest(tmp_path / "trial") == digest(built.folder)


def test_the_shipped_pool_is_drawn_alike_each_time():
    scenes = pool_scenes()
    assert (len(scenes), sum(bool(one.captions) for one in scenes)) == (20_200, 200)
    assert len({one.scene for one in scenes}) == len({one.stem for one in scenes}) == 20_200
    text = "\n".join(f"{one.stem} {one.scene} {one.captions}" for one in scenes)
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "5aa46417ecf7d1bf1193e21a45249b07a5499aa83c8dfaddb747a9babd5d0fb6"
    )


def test_its_images_are_those_of_the_mini_set():
    drawn = draw(pool_scenes()[0].scene)
    assert isinstance(drawn, Image.Image)
    assert np.asarray(drawn).std() > 20
