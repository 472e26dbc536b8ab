"""Which images of a pool become distractors: quotas, near duplicates, the random sample, and what cannot be."""

import random
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from small_sources import Recorder
from view_files import unit, write_views

from data_prep.job import BuildOptions, Job
from data_prep.markers import Stages
from data_prep.preset import Captioned, Distractors, Duplicates, Miner, Preset
from data_prep.stages import mine as module
from data_prep.stages.mine import choose, mine
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set.schema import Rejected
from mteb_vehicle_search.terminal import Reporter

CAPTIONED, POOL = 30, 2_000
MINERS = {"one": Miner("pixels", "layout", family="thumbnails"), "two": Miner("timm", "folder", same_above=0.99)}
STRATIFIED = Distractors("folder", method="stratified", near=5, rate=0.1)


class World:
    """Captioned images and a pool, as two miners see them: the second sees noise beside what the first sees."""

    def __init__(self, seed=0, pool=POOL):
        rng = np.random.default_rng(seed)
        self.names = [f"flickr30k/{number:03d}" for number in range(CAPTIONED)]
        self.ids = [f"pool/{number:05d}" for number in range(pool)]
        seen = [rng.normal(size=(count, 12)) for count in (CAPTIONED, pool)]
        self.captioned, self.pool = (
            {"one": unit(of), "two": unit(of + 0.7 * rng.normal(size=of.shape))} for of in seen
        )
        self.hashes = None

    def choose(self, folder, rule=STRATIFIED, miners=MINERS, shuffled=None, shards=3, max_distance=4, kept=None):
        rows = np.arange(len(self.ids))
        if shuffled is not None:
            random.Random(shuffled).shuffle(rows)
        captioned = write_views(folder / "captioned", self.names, self.captioned)
        hashes = self.hashes and [self.hashes[row] for row in rows]
        vectors = {name: of[rows] for name, of in self.pool.items()}
        pool = write_views(folder / "pool", [self.ids[row] for row in rows], vectors, hashes, shards)
        return choose(captioned, kept, pool, rule, miners, max_distance, Reporter(quiet=True))


def nearest_by(world, name, k):
    scores = world.captioned[name] @ world.pool[name].T
    return {world.ids[row] for of in np.argsort(-scores, axis=1)[:, :k] for row in of}


def test_the_nearest_of_each_miner_are_all_there_and_say_who_found_them(tmp_path):
    world = World()
    mined = world.choose(tmp_path)
    found = {name: nearest_by(world, name, 5) for name in MINERS}
    for identifier in world.ids:
        by = sorted(name for name in MINERS if identifier in found[name])
        arm = mined.arms.get(identifier)
        if by:
            assert arm == ("mined", by, 1.0)
        else:
            assert arm is None or (arm.arm, arm.mined_by) == ("random", [])
    assert mined.pool["near"] == len(found["one"] | found["two"])
    assert mined.pool["far"] == POOL - mined.pool["near"]
    assert mined.pool["images"] == POOL
    assert mined.pool["near_each"] == 5
    assert mined.pool["miners"]["one"] == {
        "library": "pixels", "model": "layout", "revision": "", "family": "thumbnails",
    }  # fmt: skip
    assert mined.rejected == []


@pytest.mark.parametrize("more", [0.3, 0.7])
def test_of_the_far_ones_a_share_is_drawn_and_its_probability_told(tmp_path, more):
    far = POOL - len(nearest_by(World(), "one", 5) | nearest_by(World(), "two", 5))
    mined = World().choose(tmp_path, replace(STRATIFIED, rate=(170 + more) / far))
    drawn = [arm for arm in mined.arms.values() if arm.arm == "random"]
    assert (len(drawn), mined.pool["far"]) == (170 + round(more), far)
    assert {arm.inclusion_probability for arm in drawn} == {len(drawn) / mined.pool["far"]}


def test_mined_draws_as_many_far_as_near(tmp_path):
    count = Counter(
        arm.arm for arm in World().choose(tmp_path, Distractors("folder", method="mined", near=4)).arms.values()
    )
    assert count["random"] == count["mined"] > 100


def test_a_size_is_kept_to_and_the_quota_cut_equally(tmp_path):
    mined = World().choose(tmp_path, Distractors("folder", method="stratified", near=40, size=600))
    assert len(mined.arms) == 600
    count = Counter(arm.arm for arm in mined.arms.values())
    assert count["random"] >= 60
    quota, world = mined.pool["near_each"], World()
    assert 1 < quota < 40
    near = {name: nearest_by(world, name, quota) for name in MINERS}
    assert {i for i, arm in mined.arms.items() if arm.arm == "mined"} == near["one"] | near["two"]
    more = {name: nearest_by(world, name, quota + 1) for name in MINERS}
    assert len(more["one"] | more["two"]) > 540


def test_a_quota_that_just_fits_is_taken(tmp_path):
    world = World()
    near = len(nearest_by(world, "one", 5) | nearest_by(world, "two", 5))
    size = next(size for size in range(near, 2 * near) if int(size * 0.9) == near)
    mined = world.choose(tmp_path, Distractors("folder", method="stratified", near=40, size=size))
    assert (mined.pool["near_each"], mined.pool["near"], len(mined.arms)) == (5, near, size)


def test_only_kept_images_have_neighbours(tmp_path):
    world, kept = World(), range(12, 25)
    world.pool["two"][7] = world.captioned["two"][3]  # A duplicate of one that is not kept.
    found = world.choose(tmp_path / "a", kept={world.names[row] for row in kept})
    few = World()
    few.pool, few.names = world.pool, [world.names[row] for row in kept]
    few.captioned = {name: of[kept] for name, of in world.captioned.items()}
    assert few.choose(tmp_path / "b") == found
    assert found.rejected == []


def test_a_whole_pool_may_be_drawn(tmp_path):
    mined = World(pool=300).choose(tmp_path, Distractors("folder", method="stratified", near=2, rate=1.0))
    assert len(mined.arms) == 300
    assert {arm.inclusion_probability for arm in mined.arms.values()} == {1.0}


def test_neither_the_order_of_the_pool_nor_its_shards_decide(tmp_path):
    world = World()
    first = world.choose(tmp_path / "a")
    assert world.choose(tmp_path / "b", shuffled=1, shards=1) == first
    assert world.choose(tmp_path / "c", shuffled=2, shards=7) == first
    other = world.choose(tmp_path / "d", Distractors("folder", method="stratified", near=5, rate=0.1, seed="2"))
    arms = [{i for i, arm in one.arms.items() if arm.arm == "random"} for one in (first, other)]
    assert len(arms[0] & arms[1]) < 0.3 * len(arms[0])


def test_far_images_are_drawn_alike_whether_they_lost_a_tie_or_not(tmp_path):
    # All of the pool are equally near to the miner; a tenth comes in by the order of ties. Were the same order to draw
    # the sample, it would be the next ones.
    world = World(pool=1_000)
    same = {name: np.repeat(of[:1], 1_000, axis=0) for name, of in world.captioned.items()}
    world.pool = same
    miners = {"one": MINERS["one"]}
    drawn = []
    for near in (100, 300):
        rule = Distractors("folder", method="stratified", near=near, rate=0.2)
        arms = world.choose(tmp_path / str(near), rule, miners).arms
        drawn.append({arm: {i for i, one in arms.items() if one.arm == arm} for arm in ("mined", "random")})
    few, many = drawn
    assert few["mined"] < many["mined"]
    # Of those that come next in the order of ties, as large a share was drawn as of all.
    assert 0.1 < len((many["mined"] - few["mined"]) & few["random"]) / 200 < 0.3


def test_near_duplicates_are_rejected_with_the_reason_and_replaced(tmp_path):
    world = World()
    for name in MINERS:
        world.pool[name][[7, 8]] = world.captioned[name][[3, 3]]
    world.pool["one"][9] = world.captioned["one"][4]  # Of the miner to which nothing is a duplicate.
    hashes = np.random.default_rng(1).integers(0, 2**63, POOL).tolist()
    captioned = write_views(tmp_path / "names", world.names, world.captioned).hashes()
    hashes[0] = int(captioned[6])
    hashes[20] = int(captioned[5]) ^ 0b1011
    hashes[21] = int(captioned[5]) ^ 0b11111
    world.hashes = hashes
    mined = world.choose(tmp_path)
    assert mined.rejected == [
        Rejected("pool/00000", "mine", "shows the same as the captioned flickr30k/006"),
        Rejected("pool/00007", "mine", "shows the same as the captioned flickr30k/003 to the miner two"),
        Rejected("pool/00008", "mine", "shows the same as the captioned flickr30k/003 to the miner two"),
        Rejected("pool/00020", "mine", "shows the same as the captioned flickr30k/005"),
    ]
    assert not {one.id for one in mined.rejected} & mined.arms.keys()
    assert mined.arms["pool/00009"].mined_by == ["one"]
    assert mined.pool["images"] == POOL - 4
    # The quota of image 3 is filled by those that come next.
    scores = world.captioned["one"][3] @ world.pool["one"].T
    scores[[0, 7, 8, 20]] = -1
    assert {world.ids[row] for row in np.argsort(-scores)[:5]} <= {
        i for i, arm in mined.arms.items() if "one" in arm.mined_by
    }


def test_ids_that_stand_twice_or_are_captioned_are_rejected(tmp_path):
    world = World()
    world.ids[5], world.ids[6] = world.ids[4], world.names[0]
    mined = world.choose(tmp_path, max_distance=0)
    assert [(one.id, one.reason) for one in mined.rejected] == [
        ("flickr30k/000", "is a captioned image"),
        ("pool/00004", "the id stands twice"),
    ]
    assert mined.pool["images"] == POOL - 2


@pytest.mark.parametrize(
    ("rule", "pool", "said"),
    [
        (
            Distractors("folder", method="stratified", near=50, rate=0.5),
            40,
            "The pool has 40 images; distractors.near asks for 50 near each captioned one.",
        ),
        (
            Distractors("folder", method="stratified", near=2, rate=0.0005),
            300,
            "distractors.rate 0.0005 draws none of 2.. far images: the set would say nothing of them.",
        ),
        (
            Distractors("folder", method="stratified", near=2, size=20),
            300,
            "One neighbour by each miner makes .. distractors; of distractors.size, 20, at most 18 may be near.",
        ),
    ],
)
def test_what_cannot_be_is_told(tmp_path, rule, pool, said):
    with pytest.raises(BuildError, match=said) as error:
        World(pool=pool).choose(tmp_path, rule)
    assert "distractors." in error.value.hint


def test_a_selection_of_no_captioned_image_is_told(tmp_path):
    with pytest.raises(BuildError, match=r"^None of the captioned images is kept\."):
        World(pool=12).choose(tmp_path, kept={"flickr30k/999"})


def test_a_pool_whose_duplicates_leave_too_few_is_told(tmp_path):
    world = World(pool=12)
    for name in MINERS:
        world.pool[name][:9] = world.captioned[name][:9]
    said = "The pool has 12 images, 9 of which are left out; distractors.near asks for 5"
    with pytest.raises(BuildError, match=re.escape(said)):
        world.choose(tmp_path)


def test_planted_twins_are_found_and_planted_duplicates_are_not_in_the_set(tmp_path):
    # Three twins of each captioned image among 20,000, as two miners see them: alike, each with noise of its own.
    rng, dimension = np.random.default_rng(8), 48
    world = World(pool=20_000)
    twins = {of: [of * 3 + number for number in range(3)] for of in range(CAPTIONED)}
    duplicates = {of: 10_000 + of for of in range(10)}
    for name in MINERS:
        captioned, pool = rng.normal(size=(CAPTIONED, dimension)), rng.normal(size=(20_000, dimension))
        for of, rows in twins.items():
            pool[rows] = captioned[of] + 0.6 * rng.normal(size=(3, dimension))
        for of, row in duplicates.items():
            pool[row] = captioned[of] + 0.02 * rng.normal(size=dimension)
        world.captioned[name], world.pool[name] = unit(captioned), unit(pool)
    mined = world.choose(tmp_path)
    planted = {world.ids[row] for rows in twins.values() for row in rows}
    assert len(planted & {i for i, arm in mined.arms.items() if arm.arm == "mined"}) >= 0.95 * len(planted)
    assert {one.id for one in mined.rejected} == {world.ids[row] for row in duplicates.values()}
    assert not {one.id for one in mined.rejected} & mined.arms.keys()


def mined_by_a_job(folder, world, rule=STRATIFIED, miners=MINERS, max_distance=4, kept=None):
    """Run the stage in a work folder; return what it gives, and what was said."""
    captioned, pool = (
        write_views(folder / name, ids, vectors)
        for name, ids, vectors in (("c", world.names, world.captioned), ("p", world.ids, world.pool))
    )
    given = {"miners": miners, "duplicates": Duplicates("report", max_distance), "folder": folder}
    preset = Preset("mined", "Mined", Captioned("folder"), rule, **given)
    options, said = BuildOptions(preset, folder / "out"), []
    options.work.mkdir(exist_ok=True)
    job = Job(options, Recorder(), Stages(options.work, said.append), {})
    return mine(job, captioned, kept, pool), said


def with_a_twin(world, of):
    getattr(world, of)["one"][3] = getattr(world, of)["one"][4]
    return world


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"rule": replace(STRATIFIED, seed="2")}, "rule.seed"),
        ({"rule": replace(STRATIFIED, near=6)}, "rule.near"),
        ({"kept": {"flickr30k/001", "flickr30k/002"}}, "kept"),
        ({"max_distance": 8}, "max_distance"),
        ({"miners": {**MINERS, "two": replace(MINERS["two"], same_above=0.95)}}, "miners.two.same_above"),
        ({"miners": {**MINERS, "one": replace(MINERS["one"], family="clip")}}, "miners.one.family"),
        ({"world": with_a_twin(World(pool=300), "captioned")}, "captioned"),
        ({"world": with_a_twin(World(pool=300), "pool")}, "pool"),
    ],
    ids=["seed", "near", "kept", "max_distance", "same_above", "family", "captioned", "pool"],
)
def test_what_changed_is_mined_again_and_nothing_else(tmp_path, monkeypatch, changed, reason):
    given = {"world": World(pool=300)}
    first, _ = mined_by_a_job(tmp_path / "a", **given)
    with monkeypatch.context() as patch:
        patch.setattr(module, "choose", lambda *arguments: pytest.fail("mined again"))
        assert mined_by_a_job(tmp_path / "a", **given) == (first, [])
    again, said = mined_by_a_job(tmp_path / "a", **{**given, **changed})
    assert [one.split(" was ")[0] for one in said] == [f"Stage 'mine' is stale and is done again: {reason}"]
    assert again == mined_by_a_job(tmp_path / "b", **{**given, **changed})[0]
