"""What the command writes, what it says about what it cannot use, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hand_made_runs import entry_of, hand_made, result_of
from jinja2 import UndefinedError
from small_runs import CAPTIONED, DISTRACTORS, HOSTILE, MODELS, QUERIES, write_pooled_run, write_run, write_set

from mteb_vehicle_search import cli
from mteb_vehicle_search.analysis.judgments_at_hand import Source
from mteb_vehicle_search.analysis.leaderboard import Leaderboard, build_leaderboard
from mteb_vehicle_search.analysis.population import pool_figures
from mteb_vehicle_search.analysis.population_table import sentence
from mteb_vehicle_search.analysis.ranks import RunRanks, load_ranks
from mteb_vehicle_search.analysis.runs import Skipped
from mteb_vehicle_search.analysis.sets import SetKey
from mteb_vehicle_search.errors import EvalSetError, ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.known import chosen_folder
from mteb_vehicle_search.report import build, page_data, scripts
from mteb_vehicle_search.report.build import build_report, choose_eval_set, embed, render
from mteb_vehicle_search.report.page_data import Model
from mteb_vehicle_search.report.thumbnails import PER_SHEET, Thumbnails, write_thumbnails
from mteb_vehicle_search.run_record import RunRecord
from mteb_vehicle_search.settings import mini_folder

OTHER = "e" * 64


@pytest.fixture
def report(eval_set, tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; returns exit code, stderr, and the site."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, data: Path | None = eval_set.folder):
        code = cli.main(["report", *arguments, "--out", "site", *(["--data", str(data)] if data else [])])
        return code, capsys.readouterr().err, tmp_path / "site"

    return run


def read(site: Path, name: str):
    """Return the value that a data script holds."""
    text = (site / "data" / f"{name}.js").read_text(encoding="utf-8")
    found = re.fullmatch(rf"\(window\.VS=window\.VS\|\|\{{\}}\)\.{name}=(.*);\n", text)
    assert found
    return json.loads(found[1])


def result(content_id: str, model: str = "org/results-only", score: float = 0.5) -> None:
    """Write an mteb result file into ./results."""
    folder = Path("results") / "results" / model.replace("/", "__") / "1"
    folder.mkdir(parents=True)
    scores = {"hf_subset": "default", "main_score": score, "ndcg_at_10": score}
    content = {
        "dataset_revision": content_id,
        "task_name": "VehicleImageSearch",
        "mteb_version": "2.26.24",
        "scores": {"test": [scores]},
        "evaluation_time": 1.5,
    }
    (folder / "VehicleImageSearch.json").write_text(json.dumps(content), encoding="utf-8")


def test_an_empty_results_folder(report, tmp_path):
    (tmp_path / "results").mkdir()
    code, message, site = report("results")
    assert code == 1
    assert "results" in message
    assert "mteb run -t" in message or "Run" in message
    assert not site.exists()


def test_only_results_without_run_records(report, eval_set):
    report()
    result(eval_set.content_id)
    code, message, site = report()
    assert code == 1
    assert f"no run record of {eval_set.folder}" in message
    assert "org/results-only on VehicleImageSearch" in message
    assert not site.exists()


def test_run_records_of_another_set_only(report, eval_set):
    write_run(eval_set, MODELS[0], content_id=OTHER)
    code, message, _ = report()
    assert code == 1
    assert f"{MODELS[0]} on VehicleImageSearch (content id {OTHER[:12]})" in message
    assert "--data FOLDER" in message


def test_run_records_of_another_set_are_named_and_left_out(report, eval_set):
    write_run(eval_set, MODELS[0])
    write_run(eval_set, MODELS[1], content_id=OTHER)
    code, message, site = report()
    assert code == 0
    assert f"not on the page: {MODELS[1]} on VehicleImageSearch (content id {OTHER[:12]})" in message
    assert read(site, "core")["models"] == [MODELS[0]]
    assert OTHER[:12] in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"top_scores": [[float("nan")] * 10] * QUERIES}, "q00 has a score that is not a finite number"),
        ({"top_scores": [[0.5]] * QUERIES}, "q00 has 10 best images but 1 scores"),
        ({"score": [None] * QUERIES}, "q00 has a score that is not a finite number"),
        ({"top_ids": [["gone/1"] * 10] * QUERIES}, "'gone/1'"),
    ],
    ids=["nan", "too few scores", "no score", "foreign image"],
)
def test_a_damaged_run_record(report, eval_set, columns, problem):
    write_run(eval_set, MODELS[0], **columns)
    code, message, site = report()
    assert code == 1
    assert problem in message
    assert "Run the model again" in message
    assert not site.exists()


def test_two_revisions_of_a_model_are_told_apart(report, eval_set):
    record = write_run(eval_set, MODELS[0])
    copy = record.folder.with_name("copy")
    copy.mkdir()
    for path in record.folder.iterdir():
        copy.joinpath(path.name).write_bytes(path.read_bytes())
    info = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**info, "model_revision": "1" * 40}))
    _, _, site = report()
    assert sorted(read(site, "core")["models"]) == ["org/a@000000000000", "org/a@111111111111"]


def test_four_runs_of_one_model_are_four(report, eval_set):
    told = {"precision": "fp32", "preprocess": "exact", "options": {}}
    for about in ({}, {"options": {"embed_dim": "64"}}, {"options": {"embed_dim": "32"}}, {"precision": "bf16"}):
        write_run(eval_set, MODELS[0], about={**told, **about})
    code, _, site = report()
    assert code == 0
    names = ["org/a[embed_dim=32]", "org/a[embed_dim=64]", "org/a[precision=bf16]", "org/a[precision=fp32]"]
    assert sorted(read(site, "core")["models"]) == names
    html = (site / "index.html").read_text(encoding="utf-8")
    for name in names:
        assert html.count(f"<span>{build.breakable(name)}</span>") == 1
        assert html.count(f'<th scope="row" class="name">{build.breakable(name)}</th>') == 1


def test_a_long_name_breaks_after_the_model_and_between_options():
    assert str(build.breakable("o/m@1[a=1,b=<2>]")) == "o/<wbr>m@1<wbr>[a=<wbr>1,<wbr>b=<wbr>&lt;2&gt;]"
    assert str(build.breakable("plain")) == "plain"


class TestOtherPixels:
    """Runs of the set's content id that searched other images than it has."""

    def about(self, eval_set: EvalSet, own: bool, **changed: Any) -> dict[str, Any]:
        images = eval_set.images_id if own else "8" * 64
        return {"images_id": images, "sources_id": eval_set.sources_id, **changed}

    def test_the_page_shows_those_of_its_own_images_and_names_the_others(self, report, eval_set):
        write_run(eval_set, MODELS[0], about=self.about(eval_set, own=False))
        write_run(eval_set, MODELS[1], about=self.about(eval_set, own=True, title="My <set>"))
        code, message, site = report()
        assert code == 0
        content_id = eval_set.content_id[:12]
        pixels = "images id 888888888888: the same photographs encoded otherwise"
        other = f"{MODELS[0]} on VehicleImageSearch (content id {content_id}, {pixels})"
        assert f"not on the page: {other}" in message
        assert read(site, "core")["models"] == [MODELS[1]]
        assert other in (site / "index.html").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("sources", "what"), [(None, "the same photographs encoded otherwise"), ("7" * 64, "other images")]
    )
    def test_without_runs_of_its_own_images_there_is_no_page(self, report, eval_set, sources, what):
        changed = {"sources_id": sources} if sources else {}
        write_run(eval_set, MODELS[0], about=self.about(eval_set, own=False, **changed))
        code, message, site = report()
        assert code == 1
        assert f"(content id {eval_set.content_id[:12]}; the runs with it searched {what})" in message
        assert not site.exists()

    def test_a_run_that_does_not_tell_joins_the_set_that_does(self, report, eval_set):
        write_run(eval_set, MODELS[0])
        write_run(eval_set, MODELS[1], about=self.about(eval_set, own=True))
        assert report()[0] == 0
        _, _, site = report()
        assert sorted(read(site, "core")["models"]) == sorted(MODELS[:2])


def test_the_page_is_headed_by_the_title_of_its_set(report, eval_set, tmp_path):
    dogs = write_set(tmp_path / "dogs", title="Dogs & <cats>")
    write_run(dogs, MODELS[0], about={"task_name": "DogImageSearch", "title": "An earlier title"})
    code, _, site = report(data=dogs.folder)
    assert code == 0
    html = (site / "index.html").read_text(encoding="utf-8")
    assert "<title>Dogs &amp; &lt;cats&gt;: report</title>" in html
    assert "<h1>Dogs &amp; &lt;cats&gt;</h1>" in html
    assert "(task <code>DogImageSearch</code>)" in html


def test_other_folders_are_left_alone(report, eval_set, tmp_path):
    write_run(eval_set, MODELS[0])
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.txt").write_text("x")
    code, message, site = report()
    assert code == 1
    assert "other files" in message
    assert [path.name for path in site.iterdir()] == ["thesis.txt"]


def test_the_same_runs_give_the_same_bytes(report, eval_set):
    write_run(eval_set, MODELS[0])
    contents = []
    for _ in range(2):
        _, _, site = report()
        contents.append({path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]


def test_data_scripts_hold_what_the_runs_say(site, eval_set):
    core = read(site, "core")
    assert core["models"] == MODELS
    assert core["texts"][0] == HOSTILE[0]
    assert len(core["ids"]) == QUERIES
    # Every image once, however many queries show it.
    shown = read(site, "images")
    assert len(shown) == len(set(shown)) == len(core["thumbs"]["sizes"])
    assert len(list((site / "thumbs").iterdir())) == -(-len(shown) // PER_SHEET)
    assert eval_set.content_id in (site / "index.html").read_text(encoding="utf-8")


def test_nothing_can_end_a_script():
    assert not set(embed(list(HOSTILE.values()))) & set("<>&\u2028\u2029")
    assert json.loads(embed(HOSTILE[0])) == HOSTILE[0]


def test_half_a_character_is_replaced(tmp_path):
    (tmp_path / "a.js").write_bytes(build.script("a", "half \ud83d of one"))
    assert (tmp_path / "a.js").read_text(encoding="utf-8") == '(window.VS=window.VS||{}).a="half ? of one";\n'


# The evaluation set of the page


def row_of(model: str, revision: str = "1", **fields: Any) -> dict[str, Any]:
    return {"name": model, "model": model, "revision": revision, "has_run_record": True, **fields}


def board_of(*tables: tuple[str, list[dict[str, Any]]], records: tuple[str, ...] = ()) -> Leaderboard:
    """Return a leaderboard of (content id, rows); `records` are the content ids that have run records."""
    of_set = {"task": "Search", "title": "A Search", "images_id": None, "sources_id": None}
    listed = [{**of_set, "content_id": content_id, "rows": rows} for content_id, rows in tables]
    entries = {SetKey(content_id, ""): [entry_of(None, hand_made([1]))] for content_id in records}
    without = {SetKey(mini_id(), ""): [entry_of(result_of(), None)]}
    return Leaderboard({"tables": listed, "reported": []}, [], {**without, **entries})


@pytest.fixture
def built(eval_set, monkeypatch) -> EvalSet:
    """The small set, where the task VehicleImageSearch looks for its data."""
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(eval_set.folder))
    return eval_set


def mini_id() -> str:
    return EvalSet.open(mini_folder()).content_id


def test_the_named_set_is_taken_if_it_has_runs(built):
    board = board_of(records=(built.content_id, mini_id()))
    assert choose_eval_set(board, mini_folder()).folder == mini_folder()
    assert choose_eval_set(board, built.folder).folder == built.folder


def test_without_a_name_the_built_set_comes_before_mini(built):
    assert choose_eval_set(board_of(records=(mini_id(), built.content_id))).folder == built.folder
    assert choose_eval_set(board_of(records=(mini_id(),))).folder == mini_folder()


@pytest.mark.parametrize("damage", ["missing", "no manifest", "damaged"])
def test_mini_is_found_where_nothing_was_built(tmp_path, monkeypatch, damage):
    if damage != "missing":
        (tmp_path / "set").mkdir()
    if damage == "damaged":
        (tmp_path / "set" / "manifest.json").write_text("{")
    monkeypatch.setenv("VEHICLE_SEARCH_DATA", str(tmp_path / "set"))
    assert choose_eval_set(board_of(records=(mini_id(),))).folder == mini_folder()


def test_without_any_record_the_way_to_one_is_told(built):
    with pytest.raises(ResultsError) as refused:
        choose_eval_set(board_of())
    assert (
        refused.value.message
        == f"There is no run record of {built.folder}, another set beside it, or the embedded Mini."
    )
    assert refused.value.hint == "Run a model first: mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip"


def test_results_that_have_no_records_are_told(built):
    rows = [row_of("a/b", has_run_record=False), row_of("c/d", has_run_record=False)]
    with pytest.raises(ResultsError) as refused:
        choose_eval_set(board_of((built.content_id, rows), (OTHER, rows[:1])), built.folder)
    own = built.content_id[:12]
    assert refused.value.message == (
        f"There is no run record of {built.folder} (content id {own}): "
        f"only a/b, c/d on A Search (content id {own}, no run record); "
        f"a/b on A Search (content id {OTHER[:12]}, no run record)."
    )
    assert refused.value.hint == build.RUN_HINT


def test_records_of_other_sets_are_told(built):
    tables = ("a" * 64, [row_of("a/b"), row_of("c/d", has_run_record=False)]), (OTHER, [row_of("e/f")])
    with pytest.raises(ResultsError) as refused:
        choose_eval_set(board_of(*tables, records=("a" * 64, OTHER)))
    assert refused.value.message == (
        f"There is no run record of {chosen_folder()}, another set beside it, or the embedded Mini. There are "
        f"a/b, c/d on A Search (content id aaaaaaaaaaaa); e/f on A Search (content id {OTHER[:12]})."
    )
    assert refused.value.hint == "Name the evaluation set that the runs were made on: --data FOLDER"


def test_the_set_is_chosen_by_its_content_not_by_its_folder(eval_set, tmp_path):
    shutil.copytree(eval_set.folder, tmp_path / "elsewhere")
    board = board_of(records=(eval_set.content_id,))
    assert choose_eval_set(board, tmp_path / "elsewhere").folder == tmp_path / "elsewhere"


# The folder, whole or not at all


@pytest.fixture
def page_of(eval_set, monkeypatch):
    """Build a page that is one file, so that only the handling of the folder is left."""
    board = board_of((OTHER, []), (eval_set.content_id, []), records=(OTHER, eval_set.content_id))

    def build_page(out: Path, write=lambda folder: (folder / "new.txt").write_text("12345")):
        def write_site(folder, *given):
            assert given == (board, eval_set)
            write(folder)

        monkeypatch.setattr(build, "_write_site", write_site)
        return build_report(board, eval_set, out)

    return build_page


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def earlier_page(folder: Path) -> Path:
    folder.mkdir()
    (folder / build.MARKER).write_text("{}")
    (folder / "old.txt").write_text("old")
    return folder


def test_a_marker_tells_our_folders():
    assert build.MARKER == "vehicle-search-report.json"


def test_folders_above_are_made_and_the_size_is_told(page_of, tmp_path):
    def write(folder):
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_bytes(b"123")
        (folder / "b").write_bytes(b"1234567")

    assert page_of(tmp_path / "new" / "site", write) == 10
    assert names(tmp_path / "new") == ["site"]
    assert names(tmp_path / "new" / "site") == ["b", "deep"]


def test_a_relative_folder_is_beside_the_working_directory(page_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert page_of(Path("site")) == 5
    assert names(tmp_path) == ["site"]


def test_an_empty_folder_is_used(page_of, tmp_path):
    (tmp_path / "site").mkdir()
    page_of(tmp_path / "site")
    assert names(tmp_path / "site") == ["new.txt"]


@pytest.mark.parametrize("kind", ["file", "folder with a file", "marker that is a folder"])
def test_what_is_no_page_is_left_alone(page_of, tmp_path, kind):
    out = tmp_path / "site"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / build.MARKER).mkdir() if kind.startswith("marker") else (out / "mine").write_text("mine")
    before = out.read_text() if out.is_file() else names(out)
    with pytest.raises(ResultsError) as refused:
        page_of(out)
    assert str(out) in refused.value.message
    assert "left alone" in refused.value.message
    assert "--out" in str(refused.value.hint)
    assert (out.read_text() if out.is_file() else names(out)) == before
    assert names(tmp_path) == ["site"]


def test_an_earlier_page_stands_until_the_new_one_is_whole_and_nothing_of_it_stays(page_of, tmp_path):
    out = earlier_page(tmp_path / "site")

    def write(folder):
        assert folder.parent == out.parent, "a rename must not cross file systems"
        assert folder != out
        assert (out / "old.txt").is_file()
        (folder / "new.txt").write_text("new")

    page_of(out, write)
    assert names(out) == ["new.txt"]
    assert names(tmp_path) == ["site"]


def test_what_an_earlier_attempt_left_is_no_part_of_the_page(page_of, tmp_path):
    left = tmp_path / ".site.partial"
    left.mkdir()
    (left / "torn").write_text("torn")
    page_of(tmp_path / "site")
    assert names(tmp_path / "site") == ["new.txt"]
    assert names(tmp_path) == ["site"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), ResultsError),
        (EvalSetError("Image 'x' cannot be decoded."), EvalSetError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["full disk", "damaged image", "interrupted"],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_a_page_that_fails_leaves_nothing_behind_and_the_earlier_one_whole(page_of, tmp_path, error, told, earlier):
    out = earlier_page(tmp_path / "site") if earlier else tmp_path / "site"

    def write(folder):
        (folder / "half").write_text("half")
        raise error

    with pytest.raises(told) as refused:
        page_of(out, write)
    if isinstance(refused.value, ResultsError):
        assert refused.value.message == f"{out} cannot be written: {error}."
    assert names(tmp_path) == (["site"] if earlier else [])
    if earlier:
        assert names(out) == ["old.txt", build.MARKER]


def test_a_page_that_cannot_be_put_in_place_is_told(page_of, tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(13, "not yours")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ResultsError, match=r"cannot be written: .*not yours"):
        page_of(tmp_path / "site")
    assert names(tmp_path) == []


# The command


@pytest.fixture
def reported_size(eval_set, monkeypatch):
    """Run the command with a site of a given size; returns what the parts were asked for."""
    skipped = [Skipped(Path("a.json"), "it is torn"), Skipped(Path("b.json"), "it is old")]
    tables = (OTHER, [row_of("a/b")]), (eval_set.content_id, [row_of("c/d")])
    board = board_of(*tables, records=(eval_set.content_id,))._replace(skipped=skipped, others=40)

    def run(size: int, *arguments: str):
        seen: dict[str, Any] = {}

        def collect(results=None, **given):
            seen.update(results=results, **given)
            return board

        def choose(given, data):
            assert given is board
            seen.update(data=data)
            return eval_set

        def write(given, chosen, out):
            assert (given, chosen) == (board, eval_set)
            seen.update(out=out)
            return size

        monkeypatch.setattr(build, "build_leaderboard", collect)
        monkeypatch.setattr(build, "choose_eval_set", choose)
        monkeypatch.setattr(build, "build_report", write)
        assert cli.main(["report", *arguments]) == 0
        return seen

    return run


def test_defaults_of_the_command(reported_size):
    usual = {"results": None, "runs": None, "data": None, "judgments": Source(None, wanted=True), "out": Path("report")}
    assert reported_size(1) == usual


def test_arguments_of_the_command(reported_size):
    given = reported_size(
        *(1, "one", "two", "--runs", "records", "--data", "set", "--out", "there", "--judgments", "kept")
    )
    assert given == {
        "results": [Path("one"), Path("two")],
        "runs": Path("records"),
        "data": Path("set"),
        "judgments": Source(Path("kept"), wanted=True),
        "out": Path("there"),
    }
    assert reported_size(1, "--no-judgments")["judgments"] == Source(None, wanted=False)


def test_the_command_says_what_it_wrote_and_what_it_left_out(reported_size, eval_set, capsys):
    reported_size(1_250_000, "--out", "there")
    said = capsys.readouterr()
    assert said.out == f"Wrote {Path('there') / 'index.html'} (1.2 MB).\n"
    assert said.err.splitlines() == [
        "skipped a.json: it is torn",
        "skipped b.json: it is old",
        "40 results of other tasks passed over",
        f"not on the page: a/b on A Search (content id {OTHER[:12]}), another evaluation set than {eval_set.folder}",
    ]


@pytest.mark.parametrize(("size", "told"), [(58_000_000, False), (58_000_001, True)])
def test_a_site_may_have_58_megabytes(reported_size, capsys, size, told):
    reported_size(size)
    assert ("as small as they get; the site is larger than 58 MB" in capsys.readouterr().err) is told


# The page


@pytest.fixture(scope="module")
def made(eval_set, tmp_path_factory):
    """A site with everything that a page can have: the folder, what the template was given, and the size.

    Its data lie in blocks of 8 queries. The first model has two revisions, of which one has a result file only.
    """
    folder = tmp_path_factory.mktemp("made")
    seen: dict[str, Any] = {}
    shared = {"task_name": "VehicleImageSearch", "scores": {"ndcg_at_10": 0.61}, "source": "https://example.org"}
    reported = [
        {**shared, "model_name": "of this set", "corpus_size": CAPTIONED + DISTRACTORS, "query_count": QUERIES},
        {**shared, "model_name": "of a larger one", "corpus_size": 68_154, "query_count": 10_725},
    ]

    def spy_render(**content):
        seen.update(content)
        return render(**content)

    def spy_thumbnails(eval_set, shown, target, budget):
        seen.update(budget=budget, written=sum(path.stat().st_size for path in target.parent.rglob("*.*")))
        assert not (target.parent / "data" / "core.js").exists()
        return write_thumbnails(eval_set, shown, target, budget)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VEHICLE_SEARCH_HOME", str(folder / "home"))
        patch.setattr(scripts, "BLOCK", 8)
        patch.setattr(build, "render", spy_render)
        patch.setattr(build, "write_thumbnails", spy_thumbnails)
        for model in reversed(MODELS):
            record = write_run(eval_set, model)
            info = {**record.info, "device": f"device of {model}"}
            (record.folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
        write_run(eval_set, MODELS[1], content_id=OTHER)
        result(eval_set.content_id, "org/a", 0.01)
        result(eval_set.content_id, "org/torn", float("nan"))
        Path("results/reported.json").write_text(json.dumps({"schema_version": 2, "reported": reported}))
        board = build_leaderboard([Path("results"), folder / "home"])
        size = build_report(board, eval_set, folder / "site")
    return folder / "site", seen, size


LISTED = ["org/a@000000000000", *MODELS[1:], "org/a@1"]


def page_text(site: Path) -> str:
    return (site / "index.html").read_text(encoding="utf-8")


def test_the_template_gets_rows_names_and_runs_that_belong_together(made):
    _, content, _ = made
    models = content["models"]
    assert [model.name for model in models] == LISTED
    assert [model.row for model in models] == content["table"]["rows"]
    # Results without a record have no colour in the charts.
    assert [model.number for model in models] == [0, 1, 2, None]
    assert [model.ranks.record.info["device"] for model in models[:3]] == [f"device of {model}" for model in MODELS]
    assert models[3][3:] == (None, None, None)
    for row, growth in zip(content["table"]["rows"], [model.growth for model in models[:3]]):
        measured = growth.points[growth.kinds.index("measured")]
        assert measured.value == pytest.approx(row["ndcg_at_10"], abs=1e-5)
    by_length = list(content["strengths"].values())[1]
    for number, row in enumerate(content["table"]["rows"][:3]):
        total = sum(part.queries * part.scores[number].mean for part in by_length)
        assert total / QUERIES == pytest.approx(row["ndcg_at_10"], abs=1e-5)


def test_the_template_gets_what_is_not_in_the_table(made, eval_set):
    _, content, _ = made
    assert [row["model"] for row in content["reported"]] == ["of this set"]
    assert [row["model"] for row in content["elsewhere"]] == ["of a larger one"]
    assert content["others"] == [f"{MODELS[1]} on VehicleImageSearch (content id {OTHER[:12]})"]
    ((name, reason),) = content["skipped"]
    assert name == "VehicleImageSearch.json"
    assert "ndcg_at_10" in reason
    assert content["eval_set"] is eval_set
    assert content["table"]["content_id"] == eval_set.content_id


@pytest.mark.parametrize("warning", ["", "cannot be trusted: distractors depend on each other (a reason)."])
def test_the_page_says_below_the_chart_which_growth_cannot_be_trusted(report, eval_set, monkeypatch, warning):
    made_by = page_data.growth_of
    monkeypatch.setattr(page_data, "growth_of", lambda run: made_by(run)._replace(warning=warning))
    write_run(eval_set, MODELS[0])
    *_, site = report()
    said = f"<strong>{MODELS[0]}</strong>: what is modelled {warning}"
    assert (said in page_text(site)) is bool(warning)
    assert ("</strong>: what is modelled" in page_text(site)) is bool(warning)


def test_what_has_no_ranks_is_marked_and_listed_only(made):
    site, _, _ = made
    html = page_text(site)
    assert 'of this set <span class="tag">reported</span>' in html
    assert "of a larger one on VehicleImageSearch (68,154 images, 10,725 queries), nDCG@10 0.6100" in html
    assert "<span>org/<wbr>a@1</span>" not in html
    assert re.search(r'class="name">\s*org/<wbr>a@1\s*</th>', html)
    assert re.search(r"<code>VehicleImageSearch.json</code>: .*ndcg_at_10", html)
    assert "org/a@1" not in read(site, "core")["models"]


def test_all_queries_are_in_the_data_files_beyond_the_first_block(made):
    site, _, _ = made
    core = read(site, "core")
    files = sorted(path.name for path in (site / "data").iterdir())
    of_models = [name for m in range(3) for name in (f"model{m}", *(f"top{m}_{n}" for n in range(4)))]
    assert files == sorted(f"{name}.js" for name in ("core", "images", "suspects", "pairs", *of_models))
    assert [len(read(site, f"top2_{number}")["images"]) for number in range(4)] == [8, 8, 8, 6]
    assert core["block"] == 8
    assert [curve["model"] for curve in core["growth"]] == core["models"] == LISTED[:3]
    assert all(len(part["scores"]) == 3 for division in core["strengths"] for part in division["parts"])


def test_the_page_shows_its_images_once_and_can_cut_them_out(made):
    site, content, _ = made
    core, images = read(site, "core"), read(site, "images")
    thumbs = core["thumbs"]
    assert (thumbs["tile"], thumbs["columns"], thumbs["perSheet"]) == (content["thumbnails"].tile_px, 8, 48)
    assert [divmod(size, 256) for size in thumbs["sizes"]] == content["thumbnails"].sizes
    assert len(thumbs["sizes"]) == len(set(images)) == content["images"]
    assert names(site / "thumbs") == [f"{number}.webp" for number in range(-(-len(images) // PER_SHEET))]
    assert f"{len(images)} images, each once, reduced to {thumbs['tile']} px" in page_text(site)


def test_images_get_what_scripts_leave_of_58_megabytes(made):
    site, content, _ = made
    core = read(site, "core")
    del core["thumbs"]
    written = content["written"] + len(build.script("core", core))
    assert content["budget"] == build.SITE_BYTES - written == 58_000_000 - written
    assert content["written"] > 500_000, "with the chart libraries"


def test_the_size_is_that_of_all_files(made):
    site, _, size = made
    assert size == sum(path.stat().st_size for path in site.rglob("*") if path.is_file())


def test_everything_that_the_page_asks_for_is_in_the_folder(made, eval_set):
    site, _, _ = made
    asked = re.findall(r'(?:src|href)="([^"#]+)"', page_text(site))
    assert "data/core.js" in asked
    for address in asked:
        assert address == "data:," or (site / address).is_file(), address
    shipped = {path.relative_to(build.STATIC): path.read_bytes() for path in build.STATIC.rglob("*.*")}
    assert {path.relative_to(site / "assets"): path.read_bytes() for path in (site / "assets").rglob("*.*")} == shipped
    assert json.loads((site / build.MARKER).read_text()) == {"content_id": eval_set.content_id}


def test_the_licence_of_everything_that_is_shipped_lies_beside_it(made):
    site, _, _ = made
    vendor = site / "assets" / "vendor"
    scripts = sorted(path.name.partition(".")[0] for path in vendor.glob("*.js"))
    assert scripts == sorted(path.suffix.lstrip(".") for path in vendor.glob("LICENSE.*")) == ["d3", "plot"]
    for path in vendor.glob("LICENSE.*"):
        text = path.read_text(encoding="utf-8")
        assert "Copyright" in text
        assert "Permission to use, copy, modify, and/or distribute this software" in text
    assert "licences lie in <code>assets/vendor</code>" in page_text(site)


def test_the_page_is_the_same_on_every_system(made):
    site, _, _ = made
    for path in (site / "index.html", *(site / "data").iterdir(), site / build.MARKER):
        assert b"\r" not in path.read_bytes()
    # Tags of the template leave no lines of their own.
    assert "\n\n\n" not in page_text(site)
    assert not re.search(r"^ +$", page_text(site), flags=re.MULTILINE)


# What the page says


def rendered(content: dict[str, Any], **changed: Any) -> str:
    kept = {key: value for key, value in content.items() if key not in ("budget", "written")}
    return render(**{**kept, **changed})


@pytest.mark.parametrize(
    ("scores", "reported", "end"),
    [
        ([(0.61, 0.65)], [], "0.7"),
        ([(0.2, 0.25), (0.61, 0.65)], [], "0.7"),
        ([(0.61, None)], [], "0.7"),
        ([(0.5, 0.5)], [], "0.5"),
        ([(0.5, 0.501)], [], "0.6"),
        ([(0.0, 0.0)], [], "0.1"),
        ([(None, None)], [], "0.1"),
        ([(0.2, 0.3)], [0.91], "1.0"),
        ([(1.0, 1.0)], [], "1.0"),
    ],
)
def test_the_axis_ends_at_the_first_tenth_above_everything(made, scores, reported, end):
    _, content, _ = made
    first = content["table"]["rows"][0]
    rows = [{**first, "ndcg_at_10": score, "ndcg_at_10_ci_high": high} for score, high in scores]
    published = [{**content["reported"][0], "ndcg_at_10": score} for score in reported]
    html = rendered(
        content,
        table={**content["table"], "rows": rows},
        models=[Model(row["name"], row, None, None, None) for row in rows],
        reported=published,
    )
    assert re.findall(r"<span>nDCG@10</span><span>([\d.]+)</span>", html) == [end]


def hostile(value: Any) -> Any:
    """Return the value with markup in every text that it holds."""
    if isinstance(value, str):
        return f"{value}<script>alert('{len(value)}')</script>&"
    if isinstance(value, dict):
        return {key: hostile(one) for key, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(hostile(one) for one in value))
    if isinstance(value, RunRanks):
        return replace(value, record=RunRecord(value.record.folder, hostile(value.record.info)))
    if isinstance(value, list | tuple):
        return type(value)(hostile(one) for one in value)
    return value


def test_no_text_can_be_markup(made, eval_set):
    _, content, _ = made
    manifest = {**eval_set.manifest, "title": "<script>alert('title')</script>"}
    texts = {key: hostile(value) for key, value in content.items() if key not in ("eval_set", "budget", "written")}
    html = render(**{**texts, "eval_set": EvalSet(eval_set.folder, manifest)})
    assert html.count("<script>") == 0
    assert html.count("&lt;script&gt;alert(") > 50


@pytest.mark.parametrize("name", ["skipped", "others", "strengths"])
def test_what_the_template_is_not_given_is_no_empty_text(made, name):
    _, content, _ = made
    with pytest.raises(UndefinedError, match=f"'{name}' is undefined"):
        rendered({key: value for key, value in content.items() if key != name})


def test_the_score_is_cited_with_its_content_id(made, eval_set):
    site, _, _ = made
    cited = re.search(r'<pre id="bibtex"[^>]*>(.*?)</pre>', page_text(site), flags=re.DOTALL)
    assert cited
    assert f"Task VehicleImageSearch, content id {eval_set.content_id}" in cited[1]


def test_sizes_of_images_are_one_number():
    found = build.thumbnail_index(Thumbnails(160, 75, [(160, 90), (3, 160), (1, 1)], 1234))
    assert found == {"tile": 160, "columns": 8, "perSheet": 48, "sizes": [160 * 256 + 90, 3 * 256 + 160, 257]}


# Scripts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None, 0.5], "b": "é🚗"}, '{"a":[1,null,0.5],"b":"é🚗"}'),
        ("</script>", r'"\u003c/script\u003e"'),
        ("a & b", r'"a \u0026 b"'),
        ("\u2028\u2029", r'"\u2028\u2029"'),
    ],
)
def test_embedded_values(value, text):
    assert embed(value) == text
    assert json.loads(embed(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_is_not_embedded(value):
    with pytest.raises(ValueError, match="JSON"):
        embed([value])


def test_a_script_puts_its_value_beside_those_of_others(tmp_path):
    (tmp_path / "a.js").write_bytes(build.script("core", {"é": "<\n>"}))
    expected = r'(window.VS=window.VS||{}).core={"é":"\u003c\n\u003e"};' + "\n"
    assert (tmp_path / "a.js").read_bytes() == expected.encode()


class TestASetThatWasDrawnFromAPool:
    """The page shows the figures in the pool, and who mined; pages of other sets say nothing of it."""

    def test_figures_sentences_relatives_and_arms(self, report, eval_set):
        runs = [write_pooled_run(eval_set, model) for model in MODELS]
        code, _, site = report()
        assert code == 0
        html = (site / "index.html").read_text(encoding="utf-8")
        text = re.sub(r"<[^>]*>", "", unescape(html))
        assert "In the whole pool" in text
        for record in runs:
            name, ranks = record.info["model_name"], load_ranks(record)
            found = pool_figures(ranks, ("recall_at_1", "ndcg_at_10", "mean_rank"))
            assert f"{name}: {sentence(ranks.arms, found['recall_at_1'].interval)}" in text
            ndcg, *others = (found[key] for key in ("ndcg_at_10", "recall_at_1", "mean_rank"))
            shown = [f"{round(one.pool, 5):{form}}" for one, form in zip(others, (".4f", ",.1f"))]
            ends = "–".join(f"{round(end, 5):.4f}" for end in ndcg.interval[1:])
            row = "".join(f"<td>{cell}</td>" for cell in [f"{round(ndcg.pool, 5):.4f}", ends, *shown, "a"])
            assert row in html
        assert "org/a is of the family of a, which mined." in text
        assert "20 near images (mined by a, b), all searched; of 300 far ones a random 30 (10 %)" in text
        assert re.search(r"By arm\s*10 captioned, 20 mined, 30 random", text)
        assert "ends with the pool" in text
        assert "too far to trust" not in text
        kinds = {point[-1] for curve in read(site, "core")["growth"] for point in curve["points"]}
        assert kinds == {"exact", "measured", "estimated"}

    def test_other_sets_say_nothing_of_pools(self, site):
        html = (site / "index.html").read_text(encoding="utf-8")
        for word in ("In the whole pool", "By arm", "pool", "family of miner"):
            assert word not in html
