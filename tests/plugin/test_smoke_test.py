"""`--limit`: a part of a set, searched as the whole is, of which nothing stays."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import mteb
import pytest
from small_set import jpeg, small_set

import mteb_vehicle_search
from mteb_vehicle_search import cli
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import ImagePolicy, Qrel
from mteb_vehicle_search.eval_set.verify import verify
from mteb_vehicle_search.plugin import registry, smoke_test
from mteb_vehicle_search.settings import home, runs_folder

mteb_vehicle_search.register()
MODEL = "mteb/baseline-random-encoder"


@pytest.fixture
def data(tmp_path, monkeypatch) -> EvalSet:
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    return small_set(tmp_path / "set")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> Path:
    """The working directory, to which mteb writes results."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sys, "argv", ["vehicle-search"])
    return tmp_path / "work"


def part_of(eval_set: EvalSet, limit: int) -> dict[str, Any]:
    """All that a part holds, read while it is there."""
    with smoke_test.parts_of([eval_set], limit) as part:
        (folder,) = (home() / "data").iterdir()
        made = EvalSet.open(folder)
        assert verify(made.folder, progress=False).violations == []
        return {
            "tasks": part.tasks,
            "ids": made.corpus_ids(),
            "queries": made.queries(),
            "qrels": made.qrels(),
            "images": dict(made.images()),
            "content_id": made.content_id,
            "policy": made.policy,
            "notes": made.manifest["notes"],
            "provenance": made.provenance().to_pylist(),
        }


def test_a_part_holds_captioned_images_with_all_captions_and_as_many_distractors(data) -> None:
    part = part_of(data, 4)
    captioned = [one for one in part["ids"] if one.startswith("flickr30k")]
    assert (len(captioned), len(part["ids"])) == (4, 8)
    assert {qrel.corpus_id for qrel in part["qrels"]} == set(captioned)
    assert part["queries"] == [query for query in data.queries() if f"flickr30k/{query.id[:4]}" in captioned]
    assert len(part["queries"]) == 8
    for corpus_id, content in part["images"].items():
        number = int(corpus_id[-4:]) + (0 if corpus_id in captioned else 500)
        assert content == jpeg(number) == data.jpeg(corpus_id)
    whole = {row["corpus-id"]: row for row in data.provenance().to_pylist()}
    assert part["provenance"] == [whole[one] for one in part["ids"]]


def test_a_part_is_the_same_each_time_grows_and_is_never_the_set(data) -> None:
    parts = {limit: part_of(data, limit) for limit in (1, 2, 3, 6, 29)}
    assert part_of(data, 3) == parts[3]
    for small, large in ((1, 2), (2, 3), (3, 6), (6, 29)):
        assert set(parts[small]["ids"]) < set(parts[large]["ids"])
    assert len({part["content_id"] for part in parts.values()} | {data.content_id}) == 6
    assert len(parts[29]["ids"]) == 6 + 29
    for part in parts.values():
        assert part["tasks"] == ["VehicleImageSearchSmokeTest"]
        assert part["notes"] == {"smoke_test_of": "VehicleImageSearch"}
    for limit in (30, 1000):
        with pytest.raises(UsageError, match=r"no part of VehicleImageSearch, which has 6 .* and 30 distractors"):
            part_of(data, limit)


def test_a_part_is_mixed(data) -> None:
    ids = data.corpus_ids()
    assert part_of(data, 3)["ids"] != ids[:3] + ids[6:9]


def test_judgements_of_images_that_are_left_out_are_left_out(tmp_path) -> None:
    judged = [Qrel(f"{n:04d}_caption_{c:02d}", f"flickr30k/{n:04d}") for n in range(6) for c in range(2)]
    judged += [Qrel("0000_caption_00", f"flickr30k/{n:04d}", 2) for n in range(1, 6)]
    policy = ImagePolicy(shortest_side_px=32, exif="all")
    eval_set = small_set(tmp_path / "several", qrels=judged, policy=policy, task_name="S" * 60)
    part = part_of(eval_set, 2)
    assert {qrel.corpus_id for qrel in part["qrels"]} == {one for one in part["ids"] if one.startswith("flickr")}
    assert set(part["qrels"]) < set(judged)
    assert part["policy"] == policy
    assert part["tasks"] == ["S" * 51 + "SmokeTest"]


@pytest.mark.parametrize("before", [None, "/somewhere"])
def test_the_home_is_what_it_was(data, monkeypatch, before: str | None) -> None:
    if before is None:
        monkeypatch.delenv("VEHICLE_SEARCH_HOME")
    else:
        monkeypatch.setenv("VEHICLE_SEARCH_HOME", before)
    with pytest.raises(ZeroDivisionError), smoke_test.parts_of([data], 1) as part:  # noqa: PT012
        folder = part.output_folder.parent
        assert home() == folder / "home"
        raise ZeroDivisionError
    assert os.environ.get("VEHICLE_SEARCH_HOME") == before
    assert not folder.exists()


def test_a_smoke_test_shows_its_table_and_leaves_nothing(data, elsewhere, capfd, monkeypatch) -> None:
    monkeypatch.setenv("VEHICLE_SEARCH_KEEP_EMBEDDINGS", "1")
    before = set(registry.known_tasks())
    assert cli.main(["run", "-t", "VehicleImageSearch", "-m", MODEL, "--limit", "3", "--output-folder", "mine"]) == 0
    said = capfd.readouterr()
    assert "SMOKE TEST: 6 captions, 6 images of Vehicle Image Search" in said.out
    assert "nDCG@10" in said.out
    assert "nothing of it is stored" in said.out
    for word in ("run record", "result  ", "stored in"):
        assert word not in said.out
    assert "Smoke test of VehicleImageSearch: 3 captioned images" in said.err
    assert list(elsewhere.iterdir()) == []
    assert [path for path in home().rglob("*") if path.is_file()] == []
    assert not runs_folder().exists()
    assert set(registry.known_tasks()) == before
    with pytest.raises(KeyError):
        mteb.get_task("VehicleImageSearchSmokeTest")


def test_a_run_of_the_set_is_not_answered_with_a_smoke_test(data, capfd) -> None:
    words = ["run", "-t", "VehicleImageSearch", "-m", MODEL]
    assert cli.main([*words, "--limit", "3"]) == 0
    capfd.readouterr()
    assert cli.main(words) == 0
    said = capfd.readouterr().out
    assert "SMOKE" not in said
    assert "run record" in said
    assert "stored in" not in said
    # Nor is a smoke test by a run of the set.
    assert cli.main([*words, "--limit", "3"]) == 0
    assert "SMOKE TEST" in capfd.readouterr().out


def test_two_sets_at_once(data, capfd) -> None:
    words = ["-t", "VehicleImageSearch", "VehicleImageSearchMini", "-m", MODEL, "--limit", "2"]
    assert cli.main(["run", *words]) == 0
    assert capfd.readouterr().out.count("SMOKE TEST") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-t", "VehicleImageSearch", "--limit", "30"], "error: --limit 30 is no part of VehicleImageSearch"),
        (
            ["-t", "NFCorpus", "--limit", "3"],
            "error: --limit is for evaluation sets of this package; NFCorpus",
        ),
        (["-t", "VehicleImageSearch", "NFCorpus", "--limit", "3"], "NFCorpus is none."),
        (["-b", "VehicleImageSearch", "--limit", "3"], "a benchmark is none."),
        (["-t", "VehicleImageSearch", "--limit", "0"], "argument --limit: must be at least 1"),
        (["-t", "VehicleImageSearch", "--limit", "x"], "argument --limit: invalid"),
    ],
)
def test_what_has_no_part_is_wrong_usage(data, capsys, words: list[str], said: str) -> None:
    try:
        status = cli.main(["run", *words, "-m", MODEL])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert said in capsys.readouterr().err
