"""What miners favour: in a world where the miner is the model itself, and by hand."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
from hand_made_runs import hand_made, table_of
from pool_worlds import drawn, rivals, tiny

from mteb_vehicle_search.analysis import bias as command
from mteb_vehicle_search.analysis.bias import ALL, miner_bias
from mteb_vehicle_search.analysis.ranks import RunRanks
from mteb_vehicle_search.analysis.thinning import thinned
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.run_record import RunRecord, write_run_record


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(arguments))


def renamed(ranks: RunRanks, name: str, **info) -> RunRanks:
    about = {**ranks.record.info, "model_name": name, **info}
    return RunRanks(**{**fields(ranks), "record": RunRecord(ranks.record.folder, about)})


def fields(ranks: RunRanks) -> dict:
    return {name: getattr(ranks, name) for name in RunRanks.__dataclass_fields__}


@pytest.fixture(scope="module")
def alone() -> list[RunRanks]:
    return rivals(miners=1)


def small(*names: str) -> list[RunRanks]:
    """Return runs of one model under several names."""
    pool = tiny()
    ranks = drawn(pool, np.random.default_rng(0).permutation(pool.far)[:200])
    return [renamed(ranks, name) for name in names]


def test_mined_images_are_harder_than_random_ones_for_every_model(alone):
    for one in miner_bias(alone):
        for favour in one.favours:
            assert 0 < favour.drop.low < favour.drop.mean < favour.drop.high
            assert favour.drop.mean == pytest.approx(favour.random - favour.mined)


def test_a_model_that_mined_is_wronged_and_three_miners_at_least_halve_it(alone):
    first, *others = miner_bias(alone)
    (of_all, of_miner) = first.favours
    assert (of_all.miner, of_miner.miner, of_all.bias) == (ALL, "first", of_miner.bias)
    assert of_all.bias.low > 0
    usual = np.median([one.favours[0].drop.mean for one in others])
    assert of_all.bias.mean == pytest.approx(of_all.drop.mean - usual)
    assert all(abs(one.favours[0].bias.mean) < of_all.bias.mean / 2 for one in others)
    among_three = miner_bias(rivals(miners=3))[0].favours[0]
    assert among_three.bias.mean < of_all.bias.mean / 2


def test_the_larger_arm_is_thinned_to_the_smaller():
    (ranks,) = small("org/a")
    arms = ranks.arms
    (one,) = miner_bias([ranks], "recall_at_1")
    of_all = one.favours[0]
    assert of_all.images == min(arms.near, arms.sampled) == 200
    above = ranks.above_of(arms.of_arm("mined"))
    mined = thinned("recall_at_1", ranks.above["captioned"], above, arms.near, 200)
    assert of_all.mined == pytest.approx(mined.mean())
    hits = ranks.above_of(arms.of_arm("random"))
    assert of_all.random == pytest.approx((ranks.above["captioned"] + hits == 0).mean())
    by_first = one.favours[1]
    found = [name for name, group in arms.of_arm("mined").items() if "first" in group.mined_by]
    count = sum(arms.groups[name].images for name in found)
    assert by_first.images == min(count, 200)
    kept = thinned("recall_at_1", ranks.above["captioned"], ranks.above_of(found), count, by_first.images)
    assert by_first.mined == pytest.approx(kept.mean())


def test_leaving_a_miner_out_drops_what_it_alone_found():
    a, b = small("org/a", "org/b")
    alone = [name for name in a.above if name.endswith(":mined:first")]
    assert len(alone) == 1
    above = {**b.above, alone[0]: b.above[alone[0]] + 3}
    worse = RunRanks(**{**fields(b), "above": above, "ranks": b.ranks + 3})
    first, second = miner_bias([a, worse], "mrr")
    assert (first.rank, second.rank) == (1, 2)
    assert second.score < first.score
    left = [{one.miner: one for one in found.left_out} for found in (first, second)]
    assert left[0]["first"].score == left[1]["first"].score > first.score
    # Images that others found too stay.
    assert left[0]["first"].score == pytest.approx((1 / (a.ranks - a.above[alone[0]])).mean())
    assert (left[1]["first"].rank, left[1]["second"].rank) == (1, 2)


def test_the_bias_is_against_the_median_of_unrelated_models_only():
    runs = small("org/a", "org/kin-of-first", "miner/second", "org/b")
    found = {one.model: one for one in miner_bias(runs)}
    assert found["miner/second"].own == "second"
    assert found["miner/second"].family == ["second"]
    assert (found["org/kin-of-first"].own, found["org/kin-of-first"].family) == (None, ["first"])
    assert found["org/a"].family == []
    # Three are unrelated to the first miner, and only a and b to all.
    assert all(favour.bias is not None for favour in found["org/a"].favours)
    fewer = miner_bias(small("org/a", "org/kin-of-first", "miner/first"))
    assert [favour.bias is None for favour in fewer[0].favours] == [True, True, False, False]


def test_metadata_tells_of_families_too():
    runs = small("org/a", "org/b", "org/c")
    found = miner_bias(runs, metas=[{}, {"adapted_from": "x/kin-of-third"}, {}])
    assert [one.family for one in found] == [[], ["third"], []]


def test_too_few_images_have_no_interval():
    pool = tiny(captioned=4)
    ranks = drawn(pool, np.arange(50))
    found = miner_bias([ranks, renamed(ranks, "org/b")])
    assert found[0].favours[0].drop.low is None
    assert found[0].favours[0].bias.mean == 0


def test_what_cannot_be_compared_is_refused():
    (ranks,) = small("org/a")
    with pytest.raises(ResultsError, match="does not say with which probabilities"):
        miner_bias([hand_made([1, 2])])
    twice = RunRanks(**{**fields(ranks), "query_ids": np.repeat(ranks.query_ids[::2], 2)})
    with pytest.raises(ResultsError, match="several relevant images"):
        miner_bias([twice])
    pool = tiny()
    other = renamed(drawn(pool, np.arange(150)), "org/b")
    with pytest.raises(ResultsError, match="other arms"):
        miner_bias([ranks, other])
    everything = {**ranks.record.info, "pool": {**ranks.record.info["pool"], "far": 0}}
    sources = {name: one for name, one in everything["sources"].items() if one["arm"] != "random"}
    everything["pool"]["images"] = everything["pool"]["near"]
    bare = RunRanks(**{**fields(ranks), "record": RunRecord(ranks.record.folder, {**everything, "sources": sources})})
    with pytest.raises(ResultsError, match="holds no random images"):
        miner_bias([bare])


def test_the_table_marks_relatives_and_says_where_there_is_no_bias(home, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "220")
    runs = small("org/a", "org/kin-of-first", "miner/first")
    for ranks in runs:
        write_run_record(table_of(ranks), ranks.record.info)
    names = [ranks.record.info["model_name"] for ranks in runs]
    assert run(*names) == 0
    text = capsys.readouterr().out
    assert "No bias: fewer than 2 of these models are unrelated to all miners." in text
    assert "No bias: fewer than 2 of these models are unrelated to first." in text
    assert "No bias: fewer than 2 of these models are unrelated to second." not in text
    (related,) = [line for line in text.splitlines() if "miner/first" in line and "is the miner first" in line][:1]
    assert related.split()[0] == "miner/first"
    assert any("family of first" in line and line.startswith("org/kin-of-first") for line in text.splitlines())
    assert run(*names, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    expected = miner_bias(runs)
    assert [one["name"] for one in found["models"]] == names
    for one, judged in zip(found["models"], expected):
        assert one["rank"] == judged.rank
        assert one["favours"][2]["bias"] == judged.favours[2].bias._asdict()
        assert one["favours"][0]["bias"] is None
        assert [left["miner"] for left in one["left_out"]] == ["first", "second", "third"]
