"""An amended set, in which captions have several relevant images, is evaluated, ranked and shown like any other."""

import json

import mteb
import pytest
import small_runs
from small_judgments import judgment
from toy_encoder import ToyEncoder

import mteb_vehicle_search
from data_prep.amend import amend
from mteb_vehicle_search.cli import main
from mteb_vehicle_search.judgments import JudgeFile, read_judgments
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.tasks import task_of

mteb_vehicle_search.register()


@pytest.fixture
def amended(tmp_path, monkeypatch):
    old = small_runs.write_set(tmp_path / "old")
    for number in range(12):
        said = judgment(f"q{number:02}", small_runs.image_id(20 + number), 3, content_id=old.content_id)
        JudgeFile(tmp_path / "said", "ada").append(said)
    new, _ = amend(old, read_judgments(tmp_path / "said"), tmp_path / "new", "small-amended")
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(new.folder))
    return new


def test_the_whole_path_takes_it(amended, tmp_path, capsys):
    mteb.evaluate(ToyEncoder(), task_of(amended)(), cache=None, num_proc=0)
    capsys.readouterr()
    (record,) = RunRecord.find(content_id=amended.content_id)
    table = record.queries().to_pylist()
    assert len(table) == small_runs.QUERIES + 12
    assert {row["relevant_id"] for row in table if row["query_id"] == "q00"} == {
        "flickr30k/000",
        small_runs.image_id(20),
    }
    assert main(["leaderboard", "--runs", str(record.folder.parent), "--format", "json", str(record.folder)]) == 0
    (board,) = json.loads(capsys.readouterr().out)["tables"]
    assert board["one_relevant"] is False
    out = tmp_path / "page"
    assert main(["report", str(record.folder), "--data", str(amended.folder), "--out", str(out)]) == 0
    assert "Small &lt;set&gt; (amended)" in (out / "index.html").read_text(encoding="utf-8")
