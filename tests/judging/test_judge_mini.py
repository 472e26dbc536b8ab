"""The judgments of Mini that are committed: what its captions state, of scenes whose attributes are known."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from data_prep.sources.drawn.mini import mini_scenes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def judge_mini(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import judge_mini

    return judge_mini


def test_every_caption_holds_for_its_own_scene_and_not_for_one_that_differs_in_what_it_states(judge_mini):
    others = {"kind": "tractor", "colour": "purple", "place": "desert", "heading": "left", "count": 3}
    for one in mini_scenes()[:50]:
        for caption in one.captions:
            assert judge_mini.grade(caption, one.scene) == 3, caption
            stated = judge_mini.stated(caption)
            for attribute, value in others.items():
                changed = replace(one.scene, **{attribute: value})
                expected = 2 if attribute in stated and changed != one.scene else 3
                assert judge_mini.grade(caption, changed) == expected, (caption, attribute)


@pytest.mark.parametrize(
    ("caption", "stated"),
    [
        ("there is a fire truck here in the rain", {"kind": "fire engine", "count": 1, "weather": "rain"}),
        (
            "some red ride on the sand next to a hot-air balloon",
            {"colour": "red", "place": "beach", "extra": "balloon"},
        ),
        ("Two blue buses by the trees moving to the right.", {"kind": "bus", "colour": "blue", "count": 2}),
    ],
)
def test_what_a_caption_states(judge_mini, caption, stated):
    assert stated.items() <= judge_mini.stated(caption).items()


def test_the_committed_sample_is_made_anew_to_the_byte(judge_mini, tmp_path, monkeypatch, capsys):
    command = ["judge_mini.py", str(tmp_path), "--budget", "1300", "--runs", str(ROOT / "results" / "runs")]
    monkeypatch.setattr(sys, "argv", command)
    judge_mini.main()
    assert "104 captions, 1295 decisions" in capsys.readouterr().out
    made, kept = (
        {p.name: p.read_bytes() for p in root.rglob("*.json*")} for root in (tmp_path, ROOT / "results" / "judgments")
    )
    assert made == kept
