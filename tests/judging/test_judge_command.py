"""`vehicle-search judge` says what it will buy before the first image, and goes on with what is there."""

import re

import pytest
import small_runs
from small_judgments import judgment

from mteb_vehicle_search.cli import main
from mteb_vehicle_search.judging import command, server
from mteb_vehicle_search.judgments import JudgeFile, judgments_folder, read_judgments

A, B, C = small_runs.MODELS


@pytest.fixture
def eval_set(tmp_path):
    """A set whose runs lie in the usual place."""
    found = small_runs.write_set(tmp_path / "set")
    for model in (A, B):
        small_runs.write_run(found, model)
    return found


@pytest.fixture
def judge(eval_set, monkeypatch, capsys):
    """Run the command; the page says what it was given and ends at once, after `said` of the first items."""
    pages = []

    def serve(session, *, port, open_browser, half_width):
        pages.append((session, port, open_browser, half_width()))
        for item, grade in zip(session.items, judge.said):
            # None: it was said before.
            if line := session.judgment(item.key, grade, seconds=2.0, at="2026-11-01T10:00:00+00:00"):
                session.take(line)
                JudgeFile(session.folder, session.judge).append(line)
        return session.summary()

    monkeypatch.setattr(server, "serve", serve)

    def judge(*words, status=0):
        assert main(["judge", "--data", str(eval_set.folder), *words]) == status
        return capsys.readouterr()

    judge.pages, judge.said = pages, []
    judge.folder = judgments_folder(eval_set.content_id)
    return judge


def samples(folder):
    return read_judgments(folder).samples


def test_it_says_what_it_takes_and_buys_before_the_page(judge):
    told = judge("--budget", "all").out
    (sample,) = samples(judge.folder).values()
    images, decisions = sum(len(unit.images) for unit in sample.units), sum(map(sample.shown, sample.units))
    assert told.startswith(f"A new sample, {sample.id}, is drawn.\n")
    assert f"\n{len(sample.units)} of {len(sample.units)} captions in question, of 10 images in " in told
    assert "by 2 runs.\n" in told
    assert f"{decisions} decisions ({images} images in question, {decisions - images} checks)" in told
    assert f"about {decisions * 4 / 3600:.1f} hours at 4.0 s each, which is assumed." in told


def test_a_width_is_told_for_three_shares_of_right_images(judge, monkeypatch):
    from mteb_vehicle_search.analysis.judging_plan import HalfWidths

    asked = []
    monkeypatch.setattr(
        command, "half_width_bought", lambda runs, sample, units, share: asked.append(units) or HalfWidths(share / 2, 0)
    )
    told = judge("--dry-run", "--budget", "40").out
    assert "known to ±0.010 if 2%, ±0.050 if 10%, ±0.150 if 30% of the images are right" in told
    assert len(asked) == 3
    assert 0 < asked[0] < 25


def test_too_small_a_budget_buys_no_interval(judge, monkeypatch):
    monkeypatch.setattr(command, "half_width_bought", lambda *given: None)
    assert "too little for an interval of the corrected nDCG@10; give a larger --budget" in judge("--dry-run").out


def test_a_dry_run_writes_nothing_and_shows_no_page(judge):
    judge("--dry-run")
    assert not judge.folder.exists()
    assert judge.pages == []


def test_the_page_gets_the_judge_and_where_to_be(judge):
    judge("--judge", "ada", "--port", "8123", "--no-browser", "--second")
    ((session, port, opens, width),) = judge.pages
    assert (session.judge, port, opens, width) == ("ada", 8123, False, None)
    assert all(session.sample.for_two(unit) for unit in session.units)
    assert len(session.units) < len(session.sample.units)


def test_without_a_name_the_login_judges(judge, monkeypatch):
    monkeypatch.setattr(command.getpass, "getuser", lambda: "Ada Lovelace/work")
    judge()
    ((session, port, opens, _),) = judge.pages
    assert (session.judge, port, opens) == ("Ada-Lovelace-work", 0, True)


@pytest.mark.parametrize("login", ["", "日本", "..", "-x", "a" * 100])
def test_any_login_makes_a_name(monkeypatch, login):
    monkeypatch.setattr(command.getpass, "getuser", lambda: login)
    assert command.JUDGE.fullmatch(command.login_name())


def test_a_system_without_logins_has_a_judge(monkeypatch):
    def none():
        raise OSError("No username set in the environment")

    monkeypatch.setattr(command.getpass, "getuser", none)
    assert command.login_name() == "judge"


def test_the_end_says_what_was_said(judge):
    judge.said = [1, 3, 2, 0, 1]
    told = judge("--judge", "ada").out
    said = r"\nada: 5 of \d+ decisions, \d+ of 30 captions, 2\.0 s each; no 2, partly 1, yes 1, cannot tell 1"
    assert re.search(said, told)
    assert told.endswith(f"Kept in {judge.folder}. The same command goes on.\n")


def test_an_earlier_sample_of_the_same_runs_goes_on(judge):
    judge.said = [1] * 60
    first = judge("--budget", "50").out
    (sample,) = samples(judge.folder).values()
    assert "A new sample" in first
    again = judge().out
    assert re.match(rf"The sample {sample.id} goes on: \d+ captions are judged\.", again)
    assert "at 2.0 s each, as until now." in again
    assert samples(judge.folder) == {sample.id: sample}
    judge(A, B, "--seed", "0")
    assert [*samples(judge.folder)] == [sample.id]


def test_a_larger_budget_makes_the_same_sample_longer(judge):
    judge("--budget", "30")
    ((name, short),) = samples(judge.folder).items()
    judge("--budget", "all")
    assert samples(judge.folder)[name].planned > short.planned
    assert len(samples(judge.folder)) == 1


def test_other_runs_get_a_sample_of_their_own_that_keeps_what_was_judged(judge):
    judge.said = [1] * 12
    judge()
    (first,), lines = samples(judge.folder), read_judgments(judge.folder).lines
    told = judge(A).out
    assert f"Others ({first}) are of other runs or seeds; " in told
    (own,) = (sample for name, sample in samples(judge.folder).items() if name != first)
    kept = [one for one in lines if any(one.image in u.images for u in own.units if u.query == one.query)]
    assert 0 < len(kept) < len(lines)
    assert f"; {len(kept)} judgments of theirs count for it too" in told
    assert "by 1 run.\n" in told


def test_another_seed_draws_anew(judge):
    judge()
    assert "A new sample" in judge("--seed", "7").out
    assert {sample.seed for sample in samples(judge.folder).values()} == {0, 7}


def test_runs_that_changed_are_drawn_anew(judge, eval_set):
    judge()
    ranks = small_runs.RANKS[B]
    small_runs.RANKS[B] = ranks[::-1]
    try:
        small_runs.write_run(eval_set, B)
    finally:
        small_runs.RANKS[B] = ranks
    assert "A new sample" in judge().out


def test_runs_no_better_than_chance_are_judged_only_if_they_are_named(judge, eval_set):
    small_runs.RANKS["org/chance"] = [31, 29, 60, 2, 33, 20]
    try:
        small_runs.write_run(eval_set, "org/chance")
    finally:
        del small_runs.RANKS["org/chance"]
    told = judge()
    assert told.err.startswith("left out: org/chance@")
    assert "by 2 runs.\n" in told.out
    assert "by 3 runs.\n" in judge(A, B, "org/chance").out


def test_judgments_are_kept_where_one_says(judge, tmp_path, eval_set):
    judge.said = [1]
    judge("--judgments", str(tmp_path / "results" / "judgments"), "--judge", "ada")
    folder = tmp_path / "results" / "judgments" / eval_set.content_id
    (name,) = samples(folder)
    assert sorted(path.name for path in folder.glob("[!.]*")) == ["ada.jsonl", f"sample-{name}.json"]
    assert not judge.folder.exists()


def test_what_cannot_be_used_is_named(judge):
    judge.folder.mkdir(parents=True)
    (judge.folder / "bob.jsonl").write_bytes(judgment().as_line() + b"{\n")
    told = judge("--dry-run").err
    assert f"not used: {judge.folder / 'bob.jsonl'}:1: it is of another evaluation set, 555555555555\n" in told
    assert f"not used: {judge.folder / 'bob.jsonl'}:2: it is not JSON" in told


def test_the_set_of_named_runs_need_not_be_named(judge, eval_set, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(eval_set.folder))
    assert main(["judge", A, B, "--dry-run"]) == 0
    assert main(["judge", "--dry-run"]) == 0


def test_a_set_that_is_not_here_is_asked_for(judge, capsys):
    assert main(["judge", A, B, "--dry-run"]) == 1
    assert "is not here.\nName its folder: --data FOLDER" in capsys.readouterr().err


def test_a_set_without_runs_says_how_to_get_some(judge, capsys, tmp_path):
    assert main(["judge", "--data", str(tmp_path / "set"), "--runs", str(tmp_path / "set")]) == 1
    assert "There is no run record of" in capsys.readouterr().err


def test_runs_that_searched_other_images_are_refused(judge, eval_set):
    small_runs.write_run(eval_set, C, about={"images_id": "9" * 64})
    assert "searched other images than those of" in judge(C, status=1).err
    assert "by 2 runs.\n" in judge().out


@pytest.mark.parametrize("budget", ["0", "-3", "some"])
def test_a_budget_is_a_number_or_all(judge, budget, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["judge", "--budget", budget])
    assert ended.value.code == 2
