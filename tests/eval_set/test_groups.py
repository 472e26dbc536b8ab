"""Sets that are samples of a pool: arms, groups, and a pool that does not fit."""

import json
import random
from collections import Counter

import pyarrow.parquet as pq
import pytest
from small_pool import FOUND_BY, images_of, pool_of, pool_set
from small_set import small_set

from mteb_vehicle_search.errors import EvalSetError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.groups import REPLICATES, counts_of_groups, groups_of
from mteb_vehicle_search.eval_set.schema import Arm, Provenance
from mteb_vehicle_search.eval_set.verify import verify


def test_images_are_grouped_by_arm_miners_and_replicate(tmp_path):
    eval_set = pool_set(tmp_path / "set", drawn=25)
    table = eval_set.provenance()
    count = Counter(eval_set.groups)
    assert count["flickr30k"] == 6
    mined = {group: number for group, number in count.items() if ":mined:" in group}
    assert mined == {f"imagenet:mined:{'+'.join(by)}": 3 for by in FOUND_BY}
    replicates = {group: number for group, number in count.items() if ":random:" in group}
    assert sorted(replicates) == [f"imagenet:random:{number:02d}" for number in range(REPLICATES)]
    assert sorted(replicates.values()) == [1] * 15 + [2] * 5
    for group, arm in zip(eval_set.groups, table["arm"].to_pylist()):
        assert group == "flickr30k" if arm == "captioned" else f":{arm}:" in group


def test_replicates_are_random_and_decided_by_the_seed(tmp_path):
    first, same, other = (
        pool_set(tmp_path / name, near=0, drawn=60, far=60, seed=seed).groups
        for name, seed in (("a", "1"), ("b", "1"), ("c", "2"))
    )
    assert first == same != other
    drawn = [group for group in first if ":random:" in group]
    # Neither the order of ids nor their order backwards.
    assert drawn != sorted(drawn, key=lambda group: int(group[-2:]))
    assert len({*drawn[:REPLICATES]}) < REPLICATES


def test_counts_say_what_a_group_is(tmp_path):
    counts = counts_of_groups(pool_set(tmp_path / "set"))
    entry = {"source": "imagenet", "arm": "mined", "mined_by": ["colours", "layout"], "inclusion_probability": 1.0}
    assert counts["imagenet:mined:colours+layout"] == {"images": 3, "captioned": 0, **entry}
    assert counts["imagenet:random:00"]["inclusion_probability"] == 0.25
    assert counts["flickr30k"]["captioned"] == counts["flickr30k"]["images"] == 6
    assert sum(entry["images"] for entry in counts.values()) == 40


def test_sets_without_a_pool_have_sources_for_groups_and_no_more_columns(tmp_path):
    eval_set = small_set(tmp_path / "set")
    assert eval_set.pool is None
    assert eval_set.groups == eval_set.sources()
    assert counts_of_groups(eval_set) == {
        "flickr30k": {"images": 6, "captioned": 6},
        "imagenet": {"images": 30, "captioned": 0},
    }
    assert eval_set.read("provenance").column_names == ["corpus-id", *Provenance._fields]
    assert "pool" not in eval_set.manifest


def test_a_sample_has_columns_of_arms_and_verifies(tmp_path):
    eval_set = pool_set(tmp_path / "set")
    assert eval_set.read("provenance").column_names == ["corpus-id", *Provenance._fields, *Arm._fields]
    assert eval_set.pool == pool_of(9, 100)
    assert verify(eval_set.folder, progress=False).violations == []


@pytest.mark.parametrize("key", ["far", "seed", "near_each"])
def test_the_pool_is_part_of_the_content_id(tmp_path, key):
    images = images_of(near=9, drawn=9, far=9)
    one = pool_set(tmp_path / "one", near=9, far=9, images=images)
    changed = {"far": {"far": 18}, "seed": {"seed": "2"}, "near_each": {"near_each": 3}}[key]
    if key == "far":
        images = [one._replace(provenance={**one.provenance}) for one in images]
        for image in images:
            if image.provenance["arm"] == "random":
                image.provenance["inclusion_probability"] = 0.5
    other = pool_set(tmp_path / "other", **{"near": 9, "far": 9, "images": images, **changed})
    assert one.content_id != other.content_id
    assert verify(other.folder, progress=False).content_id == other.content_id


def changed(rows, of, **values):
    """Return the images with the first one of an arm changed."""
    at = next(at for at, image in enumerate(rows) if image.provenance["arm"] == of)
    rows = [*rows]
    rows[at] = rows[at]._replace(provenance={**rows[at].provenance, **values})
    return rows


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"near": 8, "images": images_of()}, "8 images of it are near, and 9 are in the corpus"),
        ({"near": 10, "images": images_of()}, "10 images of it are near, and 9 are in the corpus"),
        ({"far": 24, "images": images_of()}, "of its 24 far images 25 are in the corpus"),
        ({"images": images_of(drawn=0)}, "of its 100 far images 0 are in the corpus"),
        (
            {"far": 50, "images": images_of()},
            "imagenet/train/n0001 is random with the inclusion probability 0.25 instead of 0.5",
        ),
        (
            {"images": changed(images_of(), "random", inclusion_probability=0.0)},
            "imagenet/train/n0001 has the inclusion probability 0.0, which is not above 0 and at most 1",
        ),
        (
            {"images": changed(images_of(), "random", inclusion_probability=float("nan"))},
            "imagenet/train/n0001 has the inclusion probability nan, which is not above 0 and at most 1",
        ),
        (
            {"images": changed(images_of(), "mined", inclusion_probability=0.5)},
            "imagenet/train/n0000 is mined with the inclusion probability 0.5 instead of 1.0",
        ),
        (
            {"images": changed(images_of(), "captioned", inclusion_probability=1.5)},
            "flickr30k/0000 has the inclusion probability 1.5, which is not above 0 and at most 1",
        ),
        (
            {"images": changed(images_of(), "mined", mined_by=["dinov2"])},
            "imagenet/train/n0000 is mined and found by dinov2; the miners are colours, layout",
        ),
        (
            {"images": changed(images_of(), "mined", mined_by=[])},
            "imagenet/train/n0000 is mined and found by no miner; the miners are colours, layout",
        ),
        (
            {"images": changed(images_of(), "mined", mined_by=["layout", "colours"])},
            "imagenet/train/n0000 is mined and found by layout, colours; the miners are colours, layout",
        ),
        (
            {"images": changed(images_of(), "mined", mined_by=["layout", "layout"])},
            "imagenet/train/n0000 is mined and found by layout, layout; the miners are colours, layout",
        ),
        (
            {"images": changed(images_of(), "random", mined_by=["layout"])},
            "imagenet/train/n0001 is random and found by layout; the miners are colours, layout",
        ),
        (
            {"images": changed(images_of(), "captioned", captioned=False)},
            "flickr30k/0000 is of the arm 'captioned', and is not captioned",
        ),
        (
            {"images": changed(images_of(), "random", captioned=True)},
            "imagenet/train/n0001 is of the arm 'random', and is captioned",
        ),
        (
            {"images": changed(images_of(far=96), "random", arm="class"), "far": 96},
            "imagenet/train/n0001 is of the arm 'class', which is none of captioned, mined, random",
        ),
    ],
)
def test_a_pool_that_does_not_fit_is_not_written(tmp_path, given, said):
    with pytest.raises(EvalSetError) as error:
        pool_set(tmp_path / "set", **given)
    assert error.value.message == f"The pool does not fit the images: {said}."
    assert not (tmp_path / "set").exists()


def test_missing_arms_are_told(tmp_path):
    with pytest.raises(EvalSetError, match="Provenance has empty values in arm, mined_by, inclusion_probability"):
        small_set(tmp_path / "set", pool=pool_of(0, 30))


@pytest.mark.parametrize(
    "pool",
    [
        {"near": -1, "images": 99},
        {"images": 5},
        {"miners": {}},
        {"miners": {"layout": {"library": "pixels"}}},
        {"near_each": "2"},
        {"seed": 1},
    ],
)
def test_a_pool_that_cannot_be_is_refused(tmp_path, pool):
    eval_set = pool_set(tmp_path / "set")
    path = eval_set.folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["pool"] |= pool
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(EvalSetError, match=r"'pool' is .* not near and far images"):
        EvalSet.open(eval_set.folder)


def test_arms_that_were_changed_are_noticed_by_verify_and_by_a_run(tmp_path):
    eval_set = pool_set(tmp_path / "set")
    path = eval_set.files("provenance")[0]
    table = pq.read_table(path)
    at = table.column_names.index("arm")
    arms = table["arm"].to_pylist()
    arms[arms.index("random")] = "mined"
    pq.write_table(table.set_column(at, table.schema.field(at), [arms]), path)
    opened, said = EvalSet.open(eval_set.folder), "9 images of it are near, and 10 are in the corpus"
    with pytest.raises(EvalSetError, match=f"set: the pool does not fit the images: {said}") as error:
        _ = opened.groups
    assert "verify" in error.value.hint
    found = verify(eval_set.folder, progress=False).violations
    assert ("provenance", f"the pool does not fit the images: {said}") in found


def test_the_order_of_images_decides_nothing(tmp_path):
    eval_set = pool_set(tmp_path / "set")
    table = eval_set.provenance()
    rows = random.Random(3).sample(range(table.num_rows), table.num_rows)
    assert groups_of(table.take(rows), eval_set.pool) == [eval_set.groups[row] for row in rows]


def test_a_run_may_be_sure_of_the_content(tmp_path):
    eval_set = pool_set(tmp_path / "set")
    eval_set.require_content()
    path = eval_set.folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["pool"]["seed"] = "2"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(EvalSetError, match="is not what its manifest says"):
        EvalSet.open(eval_set.folder).require_content()
