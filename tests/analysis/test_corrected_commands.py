"""Corrected scores as `leaderboard` and `compare` show them."""

from __future__ import annotations

import csv
import io
import json

import pytest
from judged_runs import by_chance, lines_of, predictions_of, sample_of, write_judgments
from simulated_runs import CONTENT_ID

from mteb_vehicle_search import cli
from mteb_vehicle_search.analysis.corrected import corrected, corrected_difference
from mteb_vehicle_search.analysis.document import completed, violations
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.judgments import read_judgments
from mteb_vehicle_search.judgments.predictions import write_predictions

KEYS = [
    *("corrected_ndcg_at_10", "corrected_ndcg_at_10_ci_low", "corrected_ndcg_at_10_ci_high"),
    *("corrected_ndcg_at_10_judging_low", "corrected_ndcg_at_10_judging_high", "corrected_ndcg_at_10_partly"),
    *("corrected_units", "corrected_why", "corrected_predicted_by"),
]


COMMANDS = (["leaderboard"], ["compare", "simulated/good", "simulated/poor"])


@pytest.fixture
def ranks(runs):
    return {name: load_ranks(record) for name, record in runs.items()}


@pytest.fixture
def judged(ranks, home):
    """40 captions judged for good and poor; twin-of-good has other images in question."""
    sample = sample_of([ranks["good"], ranks["poor"]])
    return write_judgments(sample, lines_of(sample, 40, by_chance(0.2)))


def printed(capsys, *arguments: str) -> str:
    assert cli.main([*arguments]) == 0
    return capsys.readouterr().out


def test_the_leaderboard_has_what_judgments_at_hand_say(judged, ranks, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    document = json.loads(printed(capsys, "leaderboard", "--format", "json"))
    rows = {row["model"].partition("/")[2]: row for row in document["tables"][0]["rows"]}
    judgments = read_judgments(judged, CONTENT_ID)
    for name in ("good", "poor"):
        found, row = corrected(ranks[name], judgments), rows[name]
        figures = [found.value, *found.interval[1:], *found.judging[1:], found.partly]
        assert [row[key] for key in KEYS[:6]] == [round(figure, 5) for figure in figures]
        assert (row["corrected_units"], row["corrected_why"]) == (40, None)
        assert found.value > row["ndcg_at_10"]
    lacking = corrected(ranks["twin-of-good"], judgments)
    assert [rows["twin-of-good"][key] for key in KEYS] == [*[None] * 7, lacking.why, None]
    shown = printed(capsys, "leaderboard")
    assert "corrected nDCG@10" in shown
    assert f"{rows['good']['corrected_ndcg_at_10']:.4f}" in shown
    about = (
        "Corrected: without the images above the known one that people judged right, by 40 judged captions; the "
        "interval is for further images, judged by people like these."
    )
    assert about in shown
    assert f"simulated/twin-of-good: not corrected: {lacking.why}." in shown
    markdown = printed(capsys, "leaderboard", "--format", "markdown")
    assert "| judged captions |" in markdown
    assert "predict" not in markdown
    assert about in markdown
    table = csv.DictReader(io.StringIO(printed(capsys, "leaderboard", "--format", "csv")))
    assert {row["corrected_units"] for row in table} == {"40", ""}


def test_an_imported_run_that_is_cut_off_has_no_corrected_score(judged, runs, capsys):
    path = runs["poor"].folder / "run.json"
    info = json.loads(path.read_text(encoding="utf-8"))
    imported = {"file": "poor.trec", "sha256": "0" * 64, "depth": 5, "missing_queries": 0}
    path.write_text(json.dumps({**info, "imported": imported}), encoding="utf-8")
    rows = json.loads(printed(capsys, "leaderboard", "--format", "json"))["tables"][0]["rows"]
    found = {row["model"]: row["corrected_units"] for row in rows}
    assert found == {"simulated/good": 40, "simulated/twin-of-good": None, "simulated/poor": None}


def test_scores_by_the_labels_alone(judged, capsys):
    plain = printed(capsys, "leaderboard", "--no-judgments", "--format", "json")
    rows = json.loads(plain)["tables"][0]["rows"]
    assert {row[key] for row in rows for key in KEYS} == {None}
    assert "corrected" not in printed(capsys, "leaderboard", "--no-judgments").lower()
    (judged / "ada.jsonl").unlink()
    for path in judged.glob("sample-*"):
        path.unlink()
    judged.rmdir()
    assert printed(capsys, "leaderboard", "--format", "json") == plain


def test_an_earlier_file_is_completed(judged):
    document = build_leaderboard().document
    earlier = json.loads(json.dumps(document))
    for row in earlier["tables"][0]["rows"]:
        for key in KEYS:
            del row[key]
    found = completed(earlier)
    assert violations(document) == violations(found) == []
    assert {row[key] for row in found["tables"][0]["rows"] for key in KEYS} == {None}


def test_judgments_lie_where_one_says(ranks, tmp_path, capsys):
    sample = sample_of([*ranks.values()])
    write_judgments(sample, lines_of(sample, 30, by_chance(0.2)), tmp_path / "elsewhere")
    rows = json.loads(printed(capsys, "leaderboard", "--judgments", str(tmp_path / "elsewhere"), "--format", "json"))
    assert {row["corrected_units"] for row in rows["tables"][0]["rows"]} == {30}
    (tmp_path / "empty").mkdir()
    for command in (["leaderboard"], ["compare", "simulated/good", "simulated/poor"]):
        assert cli.main([*command, "--judgments", str(tmp_path / "empty")]) == 1
        assert f"holds no judgments of the evaluation set {CONTENT_ID[:12]}." in capsys.readouterr().err.replace(
            "\n", " "
        )


def test_damaged_lines_and_those_of_another_set_are_named_and_the_rest_is_used(judged, capsys):
    lines = (judged / "ada.jsonl").read_bytes().splitlines(keepends=True)
    other = lines[0].replace(CONTENT_ID.encode(), b"7" * 64)
    (judged / "bob.jsonl").write_bytes(b"{broken\n" + other)
    for command in (
        ["leaderboard", "--format", "json"],
        ["compare", "simulated/good", "simulated/poor", "--format", "json"],
    ):
        assert cli.main(command) == 0
        out, err = capsys.readouterr()
        assert "bob.jsonl" in err
        assert "it is not JSON" in err
        assert f"it is of another evaluation set, {'7' * 12}" in err
        assert '"corrected' in out


def test_compare_says_the_corrected_difference_beneath(judged, ranks, capsys):
    (found,) = json.loads(printed(capsys, "compare", "simulated/good", "simulated/poor", "--format", "json"))
    judgments = read_judgments(judged, CONTENT_ID)
    difference, p_value = corrected_difference(ranks["good"], ranks["poor"], judgments)
    assert found["corrected"]["difference"] == difference._asdict()
    assert found["corrected"]["p_value"] == found["corrected"]["p_adjusted"] == p_value
    assert found["corrected"]["a"]["value"] == corrected(ranks["good"], judgments).value
    shown = " ".join(printed(capsys, "compare", "simulated/good", "simulated/poor").split())
    assert "Corrected by 40 judged captions: ndcg_at_10 " in shown
    assert f"a difference of {difference.mean:+.4f} (95 % interval {difference.ends('+.4f', ' to ')}, p " in shown
    assert shown.index("is better than") < shown.index("Corrected by")


def test_compare_of_three_says_where_there_is_no_corrected_difference(judged, capsys):
    models = [f"simulated/{name}" for name in ("good", "twin-of-good", "poor")]
    found = json.loads(printed(capsys, "compare", *models, "--format", "json"))["corrected"]
    why = {(one["a"], one["b"]): one["corrected"]["why"] for one in found if one["corrected"]["p_adjusted"] is None}
    assert len(found) == 3
    assert len(why) == 2
    for names, said in why.items():
        assert "simulated/twin-of-good" in names
        assert said.startswith("There is no corrected difference: ")
        assert "simulated/twin-of-good has in question were not judged" in said
    shown = printed(capsys, "compare", *models)
    assert shown.count("There is no corrected difference: ") == 2
    assert "orrected" not in printed(capsys, "compare", *models, "--no-judgments")
    (raw,) = json.loads(printed(capsys, "compare", models[0], models[2], "--no-judgments", "--format", "json"))
    assert raw["corrected"] is None


@pytest.fixture
def predicted(judged):
    """A model that knows nearly what the judge says of all images, and one that knows nothing."""
    (sample,) = read_judgments(judged).samples.values()
    answer = by_chance(0.2)
    write_predictions(judged, predictions_of(sample, lambda *pair: 0.9 if answer(*pair) == 3 else 0.05))
    write_predictions(judged, predictions_of(sample, lambda *pair: 0.5, "org/a-guess"))
    return judged


def test_stored_predictions_sharpen_what_is_shown_and_are_named(judged, ranks, capsys, request):
    before = json.loads(printed(capsys, "leaderboard", "--format", "json"))["tables"][0]["rows"]
    request.getfixturevalue("predicted")
    after = json.loads(printed(capsys, "leaderboard", "--format", "json"))["tables"][0]["rows"]
    by_model = {row["model"]: (row, old) for row, old in zip(after, before, strict=True)}
    for name in ("simulated/good", "simulated/poor"):
        row, old = by_model[name]
        assert row["model"] == old["model"]
        assert (row["corrected_predicted_by"], old["corrected_predicted_by"]) == ("org/seer@r1", None)
        width, plain = (
            one["corrected_ndcg_at_10_judging_high"] - one["corrected_ndcg_at_10_judging_low"] for one in (row, old)
        )
        assert width < 0.7 * plain
        assert row["ndcg_at_10"] == old["ndcg_at_10"]
    assert by_model["simulated/twin-of-good"][0]["corrected_predicted_by"] is None
    markdown = printed(capsys, "leaderboard", "--format", "markdown")
    assert "What was not judged is predicted by org/seer, and the judged captions correct that" in markdown
    shown = " ".join(printed(capsys, "compare", "simulated/good", "simulated/poor").split())
    assert "Corrected by 40 judged captions and predictions of org/seer: ndcg_at_10 " in shown
    (found,) = json.loads(printed(capsys, "compare", "simulated/good", "simulated/poor", "--format", "json"))
    assert found["corrected"]["a"]["predicted_by"] == found["corrected"]["b"]["predicted_by"] == "org/seer@r1"
    assert found["corrected"]["a"]["value"] == pytest.approx(by_model["simulated/good"][0][KEYS[0]], abs=1e-5)


def test_without_judgments_there_are_no_predictions(predicted, capsys):
    rows = json.loads(printed(capsys, "leaderboard", "--no-judgments", "--format", "json"))["tables"][0]["rows"]
    assert {row[key] for row in rows for key in KEYS} == {None}
    assert "predict" not in printed(capsys, "leaderboard", "--no-judgments", "--format", "markdown")


def test_predictions_that_do_not_fit_are_named_and_the_estimate_is_plain(judged, capsys):
    plain = [printed(capsys, *command, "--format", "json") for command in COMMANDS]
    (sample,) = read_judgments(judged).samples.values()
    foreign = predictions_of(sample, lambda *pair: 0.5)._replace(sample="0" * 12)
    path = write_predictions(judged, foreign)
    damaged = path.with_name("damaged.parquet")
    damaged.write_bytes(b"PAR1")
    for command, before in zip(COMMANDS, plain):
        assert cli.main([*command, "--format", "json"]) == 0
        out, err = capsys.readouterr()
        assert out == before
        assert f"skipped {path}: it is of the sample 000000000000, which is not here\n" in err
        assert f"skipped {damaged}: holds no predictions: " in err
