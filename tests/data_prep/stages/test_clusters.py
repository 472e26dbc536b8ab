"""Clusters: those of drawn scenes are their kinds and colours, in the same order whatever comes first."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score
from small_sources import Recorder

from data_prep.job import BuildOptions, Job
from data_prep.markers import Stages
from data_prep.preset import Captioned, Distractors, Miner, Preset, Selection
from data_prep.sources.drawn.scene import COLOURS, KINDS, random_scene
from data_prep.stages.clusters import (
    Cluster,
    choose_clusters,
    common_words,
    describe_clusters,
    find_clusters,
    joined_views,
)
from data_prep.stages.embed import embed_captioned
from data_prep.stages.select import select
from data_prep.stages.views import Rows, Views, write_views
from mteb_vehicle_search.errors import BuildError

KINDS_SEEN, COLOURS_SEEN = [*KINDS][:5], [*COLOURS][:3]


def views_of(folder, rows: dict[str, tuple[np.ndarray, np.ndarray]], order=None, files: int = 3) -> Views:
    """Store two views of each image, "image" and "caption", in some order and number of files."""
    ids = order or sorted(rows)
    folder.mkdir(parents=True)
    paths = [folder / f"chunk-{n}.parquet" for n in range(files)]
    for number, path in enumerate(paths):
        some = ids[number::files]
        vectors = {name: np.stack([rows[one][at] for one in some]) for at, name in enumerate(("image", "caption"))}
        with path.open("wb") as file:
            write_views(file, [Rows(some, ["0" * 16] * len(some), vectors)])
    return Views(tuple(paths), "digest")


@pytest.fixture(scope="module")
def scenes():
    """Vectors of 600 scenes: their kind in the image's view, their colour in the caption's, and noise in both."""
    rng, noise = random.Random(1), np.random.default_rng(1)

    def carried(choices, chosen) -> np.ndarray:
        vector = np.eye(24)[choices.index(chosen)] + noise.normal(0, 0.08, 24)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    found = {}
    for number in range(600):
        scene = replace(random_scene(rng), kind=rng.choice(KINDS_SEEN), colour=rng.choice(COLOURS_SEEN))
        views = carried(KINDS_SEEN, scene.kind), carried(COLOURS_SEEN, scene.colour)
        found[f"drawn/{number:04d}"] = (scene, views)
    return found


def agreement(clusters: list[Cluster], truth: dict[str, tuple]) -> float:
    """Adjusted mutual information of clusters with what is true of each image."""
    ids = [identifier for cluster in clusters for identifier in cluster.ids]
    labels = [cluster.number for cluster in clusters for _ in cluster.ids]
    return adjusted_mutual_info_score([str(truth[one]) for one in ids], labels)


def test_clusters_are_the_kinds_and_colours_of_scenes(tmp_path, scenes):
    views = views_of(tmp_path / "v", {one: vectors for one, (_, vectors) in scenes.items()})
    clusters = find_clusters(*joined_views(views, ["image", "caption"]), 15, 0)
    truth = {one: (scene.kind, scene.colour) for one, (scene, _) in scenes.items()}
    assert agreement(clusters, truth) >= 0.8
    shuffled = dict(zip(truth, random.Random(0).sample([*truth.values()], len(truth))))
    assert abs(agreement(clusters, shuffled)) < 0.05
    # One view alone knows half of it.
    alone = find_clusters(*joined_views(views, ["image"]), 15, 0)
    assert agreement(alone, truth) < 0.8
    assert sorted(one for cluster in clusters for one in cluster.ids) == sorted(scenes)
    assert [cluster.number for cluster in clusters] == [*range(15)]
    assert [cluster.coherence for cluster in clusters] == sorted((c.coherence for c in clusters), reverse=True)


def test_the_order_of_images_and_the_number_of_threads_change_nothing(tmp_path, scenes):
    from threadpoolctl import threadpool_limits

    rows = {one: vectors for one, (_, vectors) in scenes.items()}
    found = set()
    for threads in (1, 2):
        order = random.Random(threads).sample(sorted(rows), len(rows))
        views = views_of(tmp_path / str(threads), rows, order, files=threads)
        with threadpool_limits(threads):
            found.add(json.dumps(find_clusters(*joined_views(views, ["caption", "image"]), 15, 3)))
    assert len(found) == 1


def test_the_seed_decides_where_nothing_else_does():
    noise = np.random.default_rng(0).normal(size=(200, 8))
    vectors = (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"{number:03d}" for number in range(200)]
    first = find_clusters(ids, vectors, 15, 3)
    assert find_clusters(ids, vectors, 15, 3) == first
    assert find_clusters(ids, vectors, 15, 4) != first


def test_views_side_by_side_weigh_the_same(tmp_path):
    one, two = np.array([1, 0], dtype=np.float32), np.array([0.6, 0.8], dtype=np.float32)
    ids, joined = joined_views(
        views_of(tmp_path / "v", {"b": (one, two), "a": (two, one)}, files=1), ["image", "caption"]
    )
    assert ids == ["a", "b"]
    np.testing.assert_allclose(joined, np.array([[0.6, 0.8, 1, 0], [1, 0, 0.6, 0.8]]) / np.sqrt(2), atol=1e-6)
    assert joined.dtype == np.float32


def test_of_an_id_that_stands_twice_the_first_counts(tmp_path):
    vectors, path = np.eye(3, dtype=np.float32), tmp_path / "twice"
    with path.open("wb") as file:
        write_views(file, [Rows(["b", "a", "b"], ["0" * 16] * 3, {"image": vectors})])
    ids, joined = joined_views(Views((path,), ""), ["image"])
    assert ids == ["a", "b"]
    np.testing.assert_array_equal(joined, vectors[[1, 0]])


def test_the_coherence_is_the_mean_cosine_to_the_centre():
    vectors = np.array([[1, 0, 0], [0.6, 0.8, 0], [0, 0, 1], [0, 0, 1]], dtype=np.float32)
    first, second = find_clusters(["a", "b", "c", "d"], vectors, 2, 0)
    centre = vectors[:2].sum(axis=0) / np.linalg.norm(vectors[:2].sum(axis=0))
    assert first == Cluster(0, 1.0, ["c", "d"])
    assert (second.number, second.ids) == (1, ["a", "b"])
    assert second.coherence == pytest.approx((vectors[:2] @ centre).mean(), abs=1e-6)


def test_fewer_images_than_clusters_are_told():
    with pytest.raises(BuildError) as error:
        find_clusters(["a"], np.ones((1, 2), dtype=np.float32), 2, 0)
    said = "There are 1 captioned images, fewer than 2 clusters.\nLower selection.clusters in the preset."
    assert str(error.value) == said


def test_whole_clusters_are_kept_in_order_while_they_fit():
    sizes = [4, 2, 6, 3, 1]
    clusters = [Cluster(n, 1 - n / 10, [f"{n}/{k}" for k in range(size)]) for n, size in enumerate(sizes)]
    rule = Selection(method="clusters", clusters=5, images=8, smallest=2)
    assert [one.number for one in choose_clusters(clusters, rule)] == [0, 1]
    assert [one.number for one in choose_clusters(clusters, replace(rule, images=9))] == [0, 1, 3]
    assert [one.number for one in choose_clusters(clusters, replace(rule, images=9, smallest=3))] == [0, 3]
    assert [one.number for one in choose_clusters(clusters, replace(rule, images=10, smallest=1))] == [0, 1, 3, 4]
    with pytest.raises(BuildError, match=r"^No cluster has 7 to 9 images\.\nChange selection\.clusters, "):
        choose_clusters(clusters, replace(rule, images=9, smallest=7))


def test_commonest_words_are_of_most_images_and_say_something():
    captions = [("A red bus.", "The RED, red bus"), ("Two buses: a red one",), ("A picture of a tram in the city",), ()]
    assert common_words(captions) == ["red", "bus", "buses", "city", "tram"]
    assert common_words([("Tram, tram!", "A tram"), ("bus",), ("bus",)]) == ["bus", "tram"]
    assert common_words([("a b c d 1 22", "été là-bas")]) == ["bas", "là", "été"]
    described = describe_clusters([Cluster(3, 0.5, ["x", "y"])], {"x": ("A bus",)})
    assert described == [{"number": 3, "size": 2, "coherence": 0.5, "words": ["bus"], "ids": ["x", "y"]}]


def a_job(folder, rule: Selection) -> Job:
    miners = {"layout": Miner("pixels", "layout"), "colours": Miner("pixels", "colours")}
    preset = Preset("c", "C", Captioned("drawn"), Distractors("drawn"), selection=rule, miners=miners, folder=folder)
    options, reporter = BuildOptions(preset, folder / "out", device="cpu", workers=2), Recorder()
    return Job(options, reporter, Stages(options.work, reporter.say), {"form": "drawn scenes"})


def test_a_selection_by_clusters_is_written_and_told_once(tmp_path, monkeypatch):
    rule = Selection(method="clusters", clusters=12, images=60, smallest=4)
    job = a_job(tmp_path, rule)
    source = job.options.open_captioned()
    views = embed_captioned(job, source, None)
    found = select(job, source, views)
    kept = [one for cluster in found.clusters for one in cluster["ids"]]
    assert found.scores == dict.fromkeys(sorted(kept))
    assert found.compared["count"] == len(kept)
    assert 4 <= len(kept) <= 60
    assert all(set(one) == {"number", "size", "coherence", "words", "ids"} for one in found.clusters)
    assert all(one["size"] == len(one["ids"]) >= 4 and len(one["words"]) == 5 for one in found.clusters)
    assert json.loads((job.options.work / "clusters.json").read_text(encoding="utf-8")) == found.clusters
    words = {image.id: " ".join(image.captions).lower() for image in source.images()}
    for cluster in found.clusters:
        assert sum(cluster["words"][0] in words[one] for one in cluster["ids"]) > len(cluster["ids"]) / 2
    again = a_job(tmp_path, rule)
    monkeypatch.setattr(source, "images", lambda *given: pytest.fail("read again"))
    assert select(again, source, views) == found
    with pytest.raises(BuildError, match="needs the views of the captioned images"):
        select(again, source)


def test_a_list_of_the_preset_is_read_and_others_go_before_it(tmp_path):
    job = a_job(tmp_path, Selection(method="list", list="names.txt"))
    (tmp_path / "names.txt").write_text("000001.jpg\n000002.jpg\n", encoding="utf-8")
    job.options.work.mkdir()  # By the lock of a build.
    source = job.options.open_captioned()
    assert select(job, source).scores == {"drawn/000001": None, "drawn/000002": None}
    (tmp_path / "mine.txt").write_text("000003\n", encoding="utf-8")
    options = replace(job.options, selection=str(tmp_path / "mine.txt"))
    assert select(replace(job, options=options), source).scores == {"drawn/000003": None}
