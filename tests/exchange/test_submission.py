"""`vehicle-search submit --check`: each rule of mteb's repository of results, broken alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mteb_vehicle_search import cli
from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.exchange import submission
from mteb_vehicle_search.exchange.submission import check_results

MODEL, REVISION, TASK, DATA = "mteb/baseline-random-encoder", "2", "NFCorpus", "a" * 40
OURS = Path(__file__).parents[2] / "results"


def write(root: Path, *, folder="mteb__baseline-random-encoder", revision=REVISION, file=TASK, meta=None, **changed):
    """Write a result that nothing is wrong with, but for what is changed; return its path."""
    score = {"main_score": 0.5, "hf_subset": "default", "languages": ["eng-Latn"], **changed.pop("score", {})}
    content = {
        "task_name": TASK,
        "dataset_revision": DATA,
        "mteb_version": "2.26.24",
        "scores": {"test": [score]},
        "evaluation_time": 1.0,
        **changed,
    }
    path = root / "results" / folder / revision / f"{file}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    (path.parent / "model_meta.json").write_text(
        json.dumps({"name": MODEL, "revision": REVISION} if meta is None else meta)
    )
    return path


def whys(root: Path, repository: Path | None = None) -> list[str]:
    return [one.why for one in check_results(root, repository).refused]


def test_a_result_by_the_rules_is_taken(tmp_path):
    path = write(tmp_path)
    (path.parent / "run_settings.jsonl").write_text("{}")
    for root in (tmp_path, tmp_path / "results"):
        assert check_results(root) == ([path], [])


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"folder": "mteb"}, "names the model mteb/baseline-random-encoder, and its folder is mteb"),
        ({"revision": "3"}, "names the revision 2, and its folder is 3"),
        ({"meta": {"name": "encoder", "revision": "2"}}, "names the model encoder, and"),
        ({"meta": []}, "its model_meta.json: it is not a JSON object"),
        ({"file": "SciFact"}, "its name is not that of its task, NFCorpus.json"),
        ({"score": {"main_score": float("nan"), "languages": 3}}, "mteb cannot read it"),
        ({"scores": {"train": []}}, "it has no score of the splits of NFCorpus"),
        ({"score": {"more": "x" * 10_000_000}}, "it has 10.0 MB; the largest file may have 10"),
    ],
)
def test_each_rule_is_told_when_it_is_broken(tmp_path, changed, why):
    write(tmp_path, **changed)
    found = whys(tmp_path)
    assert any(why in one for one in found), found
    expected = 2 if changed.get("meta", {}) and changed["meta"]["name"] == "encoder" else 1
    assert len(found) == expected, found


def test_a_result_without_metadata_or_at_another_depth_is_refused(tmp_path):
    path = write(tmp_path)
    (path.parent / "model_meta.json").unlink()
    assert whys(tmp_path) == ["there is no model_meta.json beside it"]
    deep = path.parent / "more" / path.name
    deep.parent.mkdir()
    path.rename(deep)
    (only,) = whys(tmp_path)
    assert only.startswith("it does not lie in ORGANISATION__MODEL/REVISION/ below")


def test_experiments_lie_two_folders_deeper(tmp_path):
    path = write(tmp_path)
    shutil.move(path.parent, tmp_path / "kept")
    shutil.move(tmp_path / "kept", path.parent / "experiments" / "embed_dim_64")
    assert whys(tmp_path) == []


def test_what_this_package_adds_to_mteb_is_not_mtebs(tmp_path):
    found = check_results(OURS)
    told = {(one.path.parent.parent.name, one.why.split(";")[0]) for one in found.refused}
    assert ("vehicle-search__tiny-clip", "mteb itself has no model vehicle-search/tiny-clip") in told
    assert {name for name, why in told if why == "mteb itself has no task VehicleImageSearchMini"} == {
        path.parent.parent.name for path in found.files
    }
    assert not any(name.startswith("mteb__") and "no model" in why for name, why in told)


def test_a_task_has_one_dataset_revision(tmp_path):
    first = write(tmp_path)
    write(tmp_path, folder="mteb__baseline-bm25s", meta={"name": "mteb/baseline-bm25s", "revision": "2"})
    assert whys(tmp_path) == []
    write(tmp_path, dataset_revision="b" * 40)
    (refused,) = check_results(tmp_path).refused
    assert refused.path == first
    assert f"of the dataset revision {'b' * 40}, and" in refused.why


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"score": {"main_score": 0.501}}, None),
        ({"score": {"main_score": 0.502}}, "the repository has the main score 0.50200, and this is 0.50000"),
        ({"dataset_revision": "b" * 40}, f"the repository has it of the dataset revision {'b' * 40}, not {DATA}"),
        ({"scores": []}, "cannot be read"),
    ],
)
def test_results_that_the_repository_has_may_not_change(tmp_path, changed, why):
    write(tmp_path / "mine")
    write(tmp_path / "clone", **changed)
    found = whys(tmp_path / "mine", tmp_path / "clone")
    assert len(found) == (why is not None)
    assert why is None or why in found[0]


def test_places_that_are_none_are_named(tmp_path):
    with pytest.raises(ResultsError, match="There are no results in"):
        check_results(tmp_path)
    write(tmp_path)
    with pytest.raises(ResultsError, match="is no clone of https"):
        check_results(tmp_path, tmp_path / "elsewhere")


def test_the_command_gives_the_status(tmp_path, capsys):
    path = write(tmp_path)
    assert cli.main(["submit", "--check", str(tmp_path)]) == 0
    assert "0 of 1 results would be refused. Scores that it has already were not compared" in capsys.readouterr().out
    assert cli.main(["submit", str(tmp_path)]) == 2
    assert "mteb submit-results" in capsys.readouterr().err
    write(tmp_path, file="SciFact")
    assert cli.main(["submit", "--check", str(tmp_path), "--repository", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert f"{path.with_name('SciFact.json')}: its name is not that of its task, NFCorpus.json.\n" in shown
    assert shown.endswith("1 of 2 results would be refused.\n")


def test_results_that_were_put_aside_are_not_handed_in(tmp_path):
    path = write(tmp_path)
    aside = path.parent / submission.ASIDE / "a" / path.name
    aside.parent.mkdir(parents=True)
    aside.write_text("{}")
    assert check_results(tmp_path) == ([path], [])
