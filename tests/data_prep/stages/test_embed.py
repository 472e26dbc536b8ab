"""The stage `embed`: vectors by shard, the same wherever they are computed, and never computed twice."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_miners import write_sentence, write_timm
from small_sources import Recorder, write_flickr30k, write_imagenet, write_preset
from threaded_engine import ThreadedEngine

from data_prep.job import BuildOptions, Job
from data_prep.markers import Stages
from data_prep.preset import Miner, load_preset
from data_prep.sources import SourceImage
from data_prep.stages import embed, embedder, miners
from data_prep.stages.embed import embed_captioned, embed_pool
from data_prep.stages.embedder import Loading
from data_prep.stages.reduce import prepare
from data_prep.stages.views import Views
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Rejected

MINERS = """
[miners.bert]
library = "sentence-transformers"
model = "bert"
[miners.layout]
library = "pixels"
model = "layout"
[miners.vit]
library = "timm"
model = "vit"
"""
CHANGES = {
    "[classifier]\n": "",
    'library = "transformers"\nmodel = "classifier"\n': "",
    '[selection]\nclasses = "carts.tsv"\nthreshold = 0.6\n': "",
    'classes = "carts.tsv"\n[images]': f'classes = "carts.tsv"\nmethod = "mined"\n{MINERS}[images]',
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    found = tmp_path_factory.mktemp("embed")
    write_flickr30k(found / "flickr30k", 10)
    write_imagenet(found / "imagenet", 4, 1)
    write_timm(found / "vit")
    write_sentence(found / "bert")
    write_preset(found, changes=CHANGES)
    return found


@pytest.fixture
def of(home, tmp_path, monkeypatch):
    """Make a job whose work folder has a name, as a build would."""
    monkeypatch.setattr("data_prep.stages.chunks.CHUNK", 4)

    def make(name: str, engine=None, **changes) -> Job:
        sources = {"flickr30k": str(home / "flickr30k"), "imagenet": str(home / "imagenet")}
        options = BuildOptions(
            load_preset(str(home / "carts.toml")), tmp_path / name, sources, device="cpu", workers=2, batch_size=2
        )
        options = replace(options, **{"allow_rejects": True, **changes})
        reporter = Recorder()
        job = Job(options, reporter, Stages(options.work, reporter.say), {"form": "test"})
        return replace(job, engine=engine) if engine else job

    return make


def both(job: Job, backwards: bool = False) -> tuple[Views, Views]:
    distractors = job.options.open_distractors()
    shards = distractors.shards(job.preset.wanted_classes())
    captioned = embed_captioned(job, job.options.open_captioned(), None)
    return captioned, embed_pool(job, distractors, shards[::-1] if backwards else shards)


def content(views: Views) -> list[tuple[str, bytes]]:
    return [(file.name, file.read_bytes()) for file in views.files]


def rows_of(views: Views, miner: str) -> dict[str, np.ndarray]:
    return dict(zip(views.ids(), np.concatenate([*views.chunks(miner)])))


def test_views_hold_what_the_miners_make_of_each_image(of, home):
    job = of("a")
    captioned, pool = both(job)
    assert [file.name for file in captioned.files] == [f"chunk-{n:05d}.arrow" for n in range(3)]
    assert {file.parent for file in pool.files} == {job.options.work / "views" / "pool"}
    assert [len(views.ids()) for views in (captioned, pool)] == [10, 15]
    assert captioned.miners() == pool.miners() == ["bert", "layout", "vit"]
    assert [captioned.dimension(name) for name in captioned.miners()] == [16, 769, 16]
    loaded = {name: miners.load_miner(one, home, None, "cpu") for name, one in job.preset.miners.items()}
    found = {name: rows_of(captioned, name) for name in captioned.miners()}
    hashes = dict(zip(captioned.ids(), captioned.hashes().tolist()))
    for image in job.options.open_captioned().images():
        with Image.open(home / "flickr30k" / "flickr30k-images" / f"{image.id[10:]}.jpg") as opened:
            (wanted,) = loaded["vit"].vectors([loaded["vit"].read(opened, opened)], 1)
        np.testing.assert_allclose(found["vit"][image.id], wanted, atol=1e-5)
        np.testing.assert_allclose(found["bert"][image.id], loaded["bert"].vectors([image.captions], 9)[0], atol=1e-5)
        policy = job.preset.images
        assert hashes[image.id] == int(prepare(image.data, policy, apply_exif=False).perceptual_hash, 16)
    named = {item.wnid: item.name for item in job.preset.distractor_classes().classes}
    names = rows_of(pool, "bert")
    distractors = job.options.open_distractors()
    for shard in distractors.shards(job.preset.wanted_classes()):
        for image in distractors.images(shard, job.preset.wanted_classes()):
            wanted = loaded["bert"].vectors([(named[image.wnid],)], 1)[0]
            np.testing.assert_allclose(names[image.id], wanted, atol=1e-5)
    assert job.inputs["embed"] == 25
    assert [what for what, _ in job.reporter.tracked] == ["embed", "embed pool"]
    assert job.reporter.bars["embed pool"].note == "15 images, 6 of 6 shards"


def test_of_the_captions_those_count_that_queries_have(of, home):
    job = of("a")
    job = of("a", preset=replace(job.preset, captioned=replace(job.preset.captioned, captions=2)))
    found = rows_of(embed_captioned(job, job.options.open_captioned(), None), "bert")
    bert = miners.load_miner(job.preset.miners["bert"], home, None, "cpu")
    for image in job.options.open_captioned().images():
        np.testing.assert_allclose(found[image.id], bert.vectors([image.captions[:2]], 9)[0], atol=1e-5)


def test_workers_elsewhere_and_shards_in_any_order_give_the_same_bytes(of):
    here = both(of("here"))
    with ThreadedEngine(2) as threads:
        there = both(of("there", threads), backwards=True)
    for mine, other in zip(here, there):
        assert content(mine) == content(other)
        assert mine.digest == other.digest
    with pytest.raises(AssertionError):
        assert content(here[0]) == content(both(of("other", batch_size=3))[1])


def test_what_was_done_is_not_done_again(of, monkeypatch):
    first = both(of("a"))
    seen: list[str] = []
    real = embedder.Embedder._read
    monkeypatch.setattr(embedder.Embedder, "_read", lambda self, image: seen.append(image.id) or real(self, image))
    assert both(of("a")) == first
    assert seen == []
    job = of("a")
    shard = job.options.open_distractors().shards(job.preset.wanted_classes())[0]
    (job.options.work / "stages" / "embed" / "captioned.json").unlink()
    (job.options.work / "stages" / "embed" / "captioned" / "chunk-00001.json").unlink()
    embedder.pool_file(job.options.work, shard).write_bytes(b"half")
    again = of("a")
    assert both(again) == first
    assert len(seen) == 4 + 4
    assert again.inputs["embed"] == 25


@pytest.mark.parametrize("changed", ["batch_size", "policy", "miners", "texts", "source"])
def test_what_changed_is_embedded_again(of, home, tmp_path, monkeypatch, changed):
    job, seen = of("a"), list[str]()
    both(job)
    real = embedder.Embedder._read
    monkeypatch.setattr(embedder.Embedder, "_read", lambda self, image: seen.append(image.id) or real(self, image))
    preset, given = job.options.preset, {"sources": dict(job.options.sources)}
    shutil.copytree(home, tmp_path / "home")
    if changed == "batch_size":
        given["batch_size"] = 3
    elif changed == "policy":
        given["preset"] = replace(preset, images=replace(preset.images, shortest_side_px=24))
    elif changed == "miners":
        given["preset"] = replace(preset, miners={**preset.miners, "layout": Miner("pixels", "colours")})
    elif changed == "texts":
        table = tmp_path / "home" / "carts.tsv"
        table.write_text(table.read_text(encoding="utf-8").replace("cart", "wagon"), encoding="utf-8")
        captioned = replace(preset.captioned, captions=2)
        given["preset"] = replace(preset, captioned=captioned, folder=tmp_path / "home")
    else:
        path = min((tmp_path / "home" / "imagenet" / "train").rglob("*.JPEG"))
        path.write_bytes(path.read_bytes() + b"more")
        part = path.parent.name  # One shard.
        given["sources"]["imagenet"] = str(tmp_path / "home" / "imagenet")
    found = both(again := of("a", **given))
    images = sorted(one for views in found for one in views.ids())
    assert sorted(seen) == [one for one in images if changed != "source" or one.startswith(f"imagenet/train/{part}")]
    assert f"again: {changed}" in "".join(again.reporter.messages)
    assert [content(views) for views in found] == [content(views) for views in both(of("b", **given))]


def test_a_pool_that_was_interrupted_goes_on(of, monkeypatch):
    whole, job = both(of("whole"))[1], of("cut")
    finish, left = Stages.finish, [2]

    def killed(self, stage, *given, **more):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return finish(self, stage, *given, **more)

    distractors = job.options.open_distractors()
    shards = distractors.shards(job.preset.wanted_classes())
    monkeypatch.setattr(Stages, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        embed_pool(job, distractors, shards)
    monkeypatch.setattr(Stages, "finish", finish)
    read: list[str] = []
    real = embedder.ShardEmbedder._embedded
    monkeypatch.setattr(
        embedder.ShardEmbedder,
        "_embedded",
        lambda self, shard, told: read.append(shard.name) or real(self, shard, told),
    )
    found = embed_pool(of("cut"), distractors, shards)
    assert read == sorted(shard.name for shard in shards)[2:]
    assert content(found) == content(whole)


def test_batches_are_whole_whatever_was_refused(home):
    jpeg = next((home / "flickr30k" / "flickr30k-images").iterdir()).read_bytes()
    odd = {3: "", 7: "the source lost it", 11: ""}
    images = [SourceImage(f"i{n:02d}", b"" if n in odd else jpeg, "x", "", problem=odd.get(n, "")) for n in range(20)]
    loading = Loading((("layout", Miner("pixels", "layout")),), None, home, "cpu", 2, ImagePolicy(), 5)
    rejected: list[Rejected] = []
    rows = [*loading.load(2).rows(images, rejected)]
    assert [len(some.ids) for some in rows] == [16, 1]
    assert [one for some in rows for one in some.ids] == [one.id for one in images if one.data]
    assert [(one.id, one.reason) for one in rejected] == [
        ("i03", "empty file"),
        ("i07", "the source lost it"),
        ("i11", "empty file"),
    ]


def test_the_pool_is_turned_as_its_images_are_for_the_set(home):
    left, file, exif = Image.new("RGB", (64, 48), "black"), io.BytesIO(), Image.Exif()
    left.paste((200, 200, 200), (0, 0, 32, 48))
    exif[0x0112] = 3  # Upside down.
    left.save(file, "JPEG", exif=exif)
    loading = Loading((("layout", Miner("pixels", "layout")),), None, home, "cpu", 2, ImagePolicy(), 5)
    turned, as_it_lies = (
        SourceImage(name, file.getvalue(), "x", "", captions=of) for name, of in (("a", ()), ("b", ("c",)))
    )
    (rows,) = loading.load(1).rows([turned, as_it_lies], [])
    assert rows.vectors["layout"][0] @ rows.vectors["layout"][1] < -0.9
    assert rows.hashes[0] != rows.hashes[1]


def test_images_that_cannot_be_read_are_refused_by_name(of, home, tmp_path):
    shutil.copytree(home / "imagenet", tmp_path / "imagenet")
    path = min((tmp_path / "imagenet" / "train").rglob("*.JPEG"))
    path.write_bytes(b"no image")
    job = of("a", sources={"flickr30k": str(home / "flickr30k"), "imagenet": str(tmp_path / "imagenet")})
    pool = both(job)[1]
    assert [(item.id, item.stage) for item in job.rejected] == [(f"imagenet/train/{path.stem}", "embed")]
    assert len(pool.ids()) == 14
    assert job.inputs["embed"] == 25
    strict = of("a", allow_rejects=False, sources=dict(job.options.sources))
    with pytest.raises(BuildError, match="1 of 25 inputs were refused"):
        both(strict)


@pytest.mark.parametrize(("value", "stage"), [(np.nan, "captioned"), (0.0, "captioned"), (np.inf, "pool")])
def test_what_is_no_vector_is_an_error_that_names_the_image(of, monkeypatch, value, stage):
    job, real = of("a"), miners.TimmMiner.vectors
    distractors, bad = job.options.open_distractors(), {"captioned": "flickr30k/1001", "pool": "imagenet/"}[stage]

    def spoilt(self, inputs, batch_size):
        vectors = real(self, inputs, batch_size)
        vectors[1] = value
        return vectors

    monkeypatch.setattr(miners.TimmMiner, "vectors", spoilt)
    embed_it = {
        "captioned": lambda: embed_captioned(job, job.options.open_captioned(), None),
        "pool": lambda: embed_pool(job, distractors, distractors.shards(job.preset.wanted_classes())),
    }[stage]
    with pytest.raises(BuildError) as error:
        embed_it()
    assert str(error.value).startswith("The miner vit gives no vector for 1 of 4 images, first " + bad)
    assert job.stages.finished() == {}
    assert not [*Path(job.options.work).rglob("*.arrow")]


def test_only_kept_images_are_embedded_and_captions_count_where_they_are_read(of):
    job = of("a")
    kept = {"flickr30k/1001", "flickr30k/1007"}
    views = embed_captioned(job, job.options.open_captioned(), kept)
    assert views.ids() == sorted(kept)
    others = {"flickr30k/1001", "flickr30k/1003"}
    assert embed_captioned(of("a"), job.options.open_captioned(), others).ids() == sorted(others)
    assert embed_captioned(of("a"), job.options.open_captioned(), kept).digest == views.digest
    (known,) = (job.options.work / "stages" / "embed" / "captioned").glob("*.json")
    source, changed = job.options.open_captioned(), known.read_text(encoding="utf-8")
    given = source.images
    source.images = lambda *asked: (replace(image, captions=("other",)) for image in given(*asked))  # type: ignore[method-assign]
    (job.options.work / "stages" / "embed" / "captioned.json").unlink()
    other = embed_captioned(of("a"), source, kept)
    assert known.read_text(encoding="utf-8") != changed
    assert other.digest != views.digest
    assert embed.STAGE == "embed"
