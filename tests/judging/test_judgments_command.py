"""`vehicle-search judgments`: counts, agreement, judges; exports that other programs read; a check that names all."""

import json

import pyarrow.parquet as pq
import pytest
import small_set
from small_judgments import CONTENT_ID, judgment, sample, unit

from mteb_vehicle_search.cli import main
from mteb_vehicle_search.judgments import JudgeFile, judgments_folder, write_sample

UNITS = (unit("q00", "a", "b"), unit("q01", "c"), unit("q02", "d"))


@pytest.fixture
def folder(tmp_path):
    """Two judges, of whom one is done with two captions and one fails known answers."""
    folder = judgments_folder(CONTENT_ID, tmp_path / "judgments")
    write_sample(folder, sample(*UNITS, planned=2))
    for query, image, ada, bob in (("q00", "a", 3, 3), ("q00", "b", 1, 2), ("q01", "c", 1, 1), ("q02", "d", 0, 2)):
        JudgeFile(folder, "ada").append(judgment(query, image, ada, seconds=2.0))
        JudgeFile(folder, "bob").append(judgment(query, image, bob, judge="bob", seconds=6.0))
    for number in range(3):
        known = {"image": f"flickr30k/0{number}", "check": "known", "judge": "bob", "seconds": 6.0}
        JudgeFile(folder, "bob").append(judgment(f"q0{number}", grade=1, **known))
    return folder


@pytest.fixture
def told(folder, capsys):
    """Run the command; return what it printed."""

    def told(*words, status=0):
        assert main(["judgments", *words, "--judgments", str(folder.parent)]) == status
        return capsys.readouterr().out

    return told


def test_status_tells_what_was_judged_by_whom(told):
    (one,) = json.loads(told("status", "--format", "json"))
    assert one["content_id"] == CONTENT_ID
    assert one["title"] is None
    (drawn,) = one["samples"]
    assert (drawn["units"], drawn["planned"], drawn["judged"], drawn["runs"]) == (3, 2, 3, ["some/model@r1"])
    ada, bob = one["judges"]
    assert (ada["judge"], ada["decisions"], ada["seconds"], ada["known"], ada["stops"]) == ("ada", 4, 2.0, 0, "")
    assert ada["grades"] == {"no": 2, "partly": 0, "yes": 1, "cannot tell": 1}
    assert (bob["decisions"], bob["seconds"], bob["known"], bob["known_failed"]) == (7, 6.0, 3, 3)
    assert "read the guide again" in bob["stops"]
    assert one["agreement"]["images"] == 3
    assert 0 < one["agreement"]["alpha"] < 1
    assert one["problems"] == 0


def test_status_is_a_table_for_people(told):
    text = told("status")
    assert text.startswith("An evaluation set that is not here (content id 555555555555)\n")
    lines = [line.split() for line in text.splitlines()]
    assert ["ada", "4", "2.0", "2", "0", "1", "1", "0/0", "0/0"] in lines
    assert ["bob", "7", "6.0", "4", "2", "1", "0", "0/3", "0/0"] in lines
    assert "bob: 3 of 3 captions' own images were said to be wrong" in text
    assert "Agreement on 3 images: alpha 0." in text


def test_what_nobody_judged_twice_tells_no_agreement(tmp_path, capsys):
    JudgeFile(tmp_path / CONTENT_ID, "ada").append(judgment())
    assert main(["judgments", "status", "--judgments", str(tmp_path)]) == 0
    assert "Agreement: 0 images judged twice, which tells nothing yet." in capsys.readouterr().out


def test_qrels_hold_what_somebody_could_tell(told):
    """Of two judges' grades the lower one."""
    lines = told("export").splitlines()
    known = [f"q0{number} 0 flickr30k/0{number} 1" for number in range(3)]
    assert lines == sorted(["q00 0 a 3", "q00 0 b 1", "q01 0 c 1", "q02 0 d 2", *known])


def test_a_pair_that_nobody_could_tell_is_in_no_qrels(tmp_path, capsys):
    JudgeFile(tmp_path / CONTENT_ID, "ada").append(judgment(grade=0))
    assert main(["judgments", "export", "--judgments", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""


def test_qrels_are_read_by_other_programs(told, tmp_path):
    import ir_measures

    out = tmp_path / "judged.qrels"
    assert told("export", "--out", str(out)) == ""
    found = {(one.query_id, one.doc_id): one.relevance for one in ir_measures.read_trec_qrels(str(out))}
    assert found["q00", "a"] == 3


def test_parquet_holds_everything(told, tmp_path):
    out = tmp_path / "judged.parquet"
    told("export", "--format", "parquet", "--out", str(out))
    rows = pq.read_table(out).to_pylist()
    assert len(rows) == 11
    assert rows[0] == {**vars(judgment("q00", "a", 3, seconds=2.0))}
    assert [(one["query"], one["image"], one["judge"]) for one in rows] == sorted(
        (one["query"], one["image"], one["judge"]) for one in rows
    )


def test_a_check_that_finds_nothing_says_so(told):
    text = told("check")
    assert "11 judgments, 1 samples; its evaluation set is not here, so ids are not checked\n" in text
    assert text.endswith("No problem.\n")
    assert json.loads(told("check", "--format", "json")) == []


def test_a_check_names_every_problem_with_its_file_and_line(told, folder):
    path = folder / "ada.jsonl"
    with path.open("ab") as file:
        file.write(b"{oh\n" + judgment(content_id="9" * 64).as_line())
    (folder / "sample-000000000000.json").write_text("{}")
    text = told("check", status=1)
    assert f"{path}:5: it is not JSON" in text
    assert f"{path}:6: it is of another evaluation set, 999999999999\n" in text
    assert f"{folder / 'sample-000000000000.json'}: is not a sample" in text
    assert text.endswith("3 problems.\n")
    found = json.loads(told("check", "--format", "json", status=1))
    assert [one["line"] for one in found] == [0, 5, 6]
    assert "3 problems: vehicle-search judgments check\n" in told("status")


def test_ids_are_checked_where_the_evaluation_set_is_here(tmp_path, capsys):
    eval_set = small_set.small_set(tmp_path / "set")
    file = JudgeFile(judgments_folder(eval_set.content_id, tmp_path / "judgments"), "ada")
    for query in ("0000_caption_00", "nobody"):
        file.append(judgment(query, "flickr30k/0001", content_id=eval_set.content_id))
    words = ["judgments", "check", "--data", str(eval_set.folder), "--judgments", str(tmp_path / "judgments")]
    assert main(words) == 1
    assert f"{file.path}:2: there is no caption 'nobody' in the evaluation set\n" in capsys.readouterr().out
    assert main(["judgments", "status", *words[2:]]) == 0
    assert capsys.readouterr().out.startswith("Vehicle Image Search (content id ")


def test_an_export_is_of_one_evaluation_set(told, folder, capsys):
    JudgeFile(folder.parent / ("7" * 64), "ada").append(judgment(content_id="7" * 64))
    told("export", status=2)
    assert len(json.loads(told("status", "--format", "json"))) == 2


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["export", "--format", "parquet"], 2, "Parquet is no text that can be printed"),
        (["export", "--format", "json"], 2, "export has no format json"),
        (["status", "--format", "trec"], 2, "status has no format trec"),
        (["check", "--out", "x.txt"], 2, "A table is only printed"),
    ],
)
def test_a_format_that_an_action_lacks_is_refused(folder, capsys, words, status, said):
    assert main(["judgments", *words, "--judgments", str(folder.parent)]) == status
    assert said in capsys.readouterr().err


def test_without_judgments_it_says_how_to_make_some(capsys, tmp_path):
    assert main(["judgments", "status"]) == 1
    assert "Judge some: vehicle-search judge" in capsys.readouterr().err


def test_json_goes_into_a_file(told, tmp_path):
    out = tmp_path / "status.json"
    assert told("status", "--format", "json", "--out", str(out)) == ""
    assert json.loads(out.read_text())[0]["content_id"] == CONTENT_ID
