"""What the command writes, what it says about what it cannot use, and what it refuses."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_runs import CAPTIONED, DISTRACTORS, HOSTILE, MODELS, QUERIES, colour, image_id, write_run, write_set

from mteb_vehicle_search import cli
from mteb_vehicle_search.errors import EvalSetError
from mteb_vehicle_search.places import runs_folder
from mteb_vehicle_search.report import build
from mteb_vehicle_search.report.build import embed
from mteb_vehicle_search.report.thumbnails import COLUMNS, LEVELS, PER_SHEET, write_thumbnails

IMAGES = [image_id(number) for number in range(CAPTIONED + DISTRACTORS)]
OTHER = "e" * 64


@pytest.fixture
def report(evaluation, tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; returns exit code, stderr, and the site."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, data: Path | None = evaluation.folder):
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


def test_only_results_without_run_records(report, evaluation):
    report()
    result(evaluation.content_id)
    code, message, site = report()
    assert code == 1
    assert f"no run record of {evaluation.folder}" in message
    assert "org/results-only on VehicleImageSearch" in message
    assert not site.exists()


def test_run_records_of_another_set_only(report, evaluation):
    write_run(evaluation, MODELS[0], content_id=OTHER)
    code, message, _ = report()
    assert code == 1
    assert f"{MODELS[0]} on VehicleImageSearch (content id {OTHER[:12]})" in message
    assert "--data FOLDER" in message


def test_run_records_of_another_set_are_named_and_left_out(report, evaluation):
    write_run(evaluation, MODELS[0])
    write_run(evaluation, MODELS[1], content_id=OTHER)
    code, message, site = report()
    assert code == 0
    assert f"not on the page: {MODELS[1]} on VehicleImageSearch (content id {OTHER[:12]})" in message
    assert read(site, "core")["models"] == [MODELS[0]]
    assert OTHER[:12] in (site / "index.html").read_text(encoding="utf-8")


def test_nan_in_a_result_file_is_named_and_skipped(report, evaluation):
    write_run(evaluation, MODELS[0])
    result(evaluation.content_id, score=float("nan"))
    code, message, site = report()
    assert code == 0
    assert "VehicleImageSearch.json" in message
    assert "ndcg_at_10" in message or "NaN" in message
    assert "VehicleImageSearch.json" in (site / "index.html").read_text(encoding="utf-8")


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
def test_a_damaged_run_record(report, evaluation, columns, problem):
    write_run(evaluation, MODELS[0], **columns)
    code, message, site = report()
    assert code == 1
    assert problem in message
    assert "Run the model again" in message
    assert not site.exists()


def test_reported_figures_are_marked(report, evaluation):
    write_run(evaluation, MODELS[0])
    rows = [
        {"task_name": task, "model_name": "A <model>", "scores": {"ndcg_at_10": 0.91}, "source": "https://example.org"}
        for task in ("VehicleImageSearch", "VehicleImageSearchMini")
    ]
    Path("results").mkdir()
    Path("results/reported.json").write_text(json.dumps({"schema_version": 1, "reported": rows}), encoding="utf-8")
    _, _, site = report()
    html = (site / "index.html").read_text(encoding="utf-8")
    assert 'A &lt;model&gt; <span class="tag">reported</span>' in html
    assert "A &lt;model&gt; on VehicleImageSearchMini, nDCG@10 0.9100" in html


def test_results_without_a_run_record_are_listed_only(report, evaluation):
    write_run(evaluation, MODELS[0])
    result(evaluation.content_id)
    code, _, site = report("results", str(runs_folder()))
    assert code == 0
    assert read(site, "core")["models"] == [MODELS[0]]
    assert '<th scope="row" class="name">org/results-only</th>' in (site / "index.html").read_text(encoding="utf-8")


def test_two_revisions_of_a_model_are_told_apart(report, evaluation):
    record = write_run(evaluation, MODELS[0])
    copy = record.folder.with_name("copy")
    copy.mkdir()
    for path in record.folder.iterdir():
        copy.joinpath(path.name).write_bytes(path.read_bytes())
    info = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**info, "model_revision": "1" * 40}))
    _, _, site = report()
    assert sorted(read(site, "core")["models"]) == ["org/a@000000000000", "org/a@111111111111"]


def test_other_folders_are_left_alone(report, evaluation, tmp_path):
    write_run(evaluation, MODELS[0])
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.txt").write_text("x")
    code, message, site = report()
    assert code == 1
    assert "other files" in message
    assert [path.name for path in site.iterdir()] == ["thesis.txt"]


def test_an_earlier_page_is_replaced(report, evaluation):
    write_run(evaluation, MODELS[0])
    report()
    write_run(evaluation, MODELS[1])
    code, _, site = report()
    assert code == 0
    assert len(read(site, "core")["models"]) == 2
    assert not list(site.parent.glob(".site*"))


def test_a_page_that_fails_leaves_the_earlier_one(report, evaluation, monkeypatch):
    write_run(evaluation, MODELS[0])
    report()

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(build, "write_thumbnails", fail)
    code, message, site = report()
    assert code == 1
    assert "No space left on device" in message
    assert (site / "index.html").is_file()
    assert not list(site.parent.glob(".site*"))


def test_the_same_runs_give_the_same_bytes(report, evaluation):
    write_run(evaluation, MODELS[0])
    contents = []
    for _ in range(2):
        _, _, site = report()
        contents.append({path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]


def test_data_scripts_hold_what_the_runs_say(site, evaluation):
    core = read(site, "core")
    assert core["models"] == MODELS
    assert core["texts"][0] == HOSTILE[0]
    assert len(core["ids"]) == QUERIES
    # Every image once, however many queries show it.
    shown = read(site, "images")
    assert len(shown) == len(set(shown)) == len(core["thumbs"]["sizes"])
    assert len(list((site / "thumbs").iterdir())) == -(-len(shown) // PER_SHEET)
    assert evaluation.content_id in (site / "index.html").read_text(encoding="utf-8")


def test_nothing_can_end_a_script():
    assert not set(embed(list(HOSTILE.values()))) & set("<>&\u2028\u2029")
    assert json.loads(embed(HOSTILE[0])) == HOSTILE[0]


def test_half_a_character_is_replaced(tmp_path):
    build.write_script(tmp_path / "a.js", "a", "half \ud83d of one")
    assert (tmp_path / "a.js").read_text(encoding="utf-8") == '(window.VS=window.VS||{}).a="half ? of one";\n'


def test_sheets_hold_each_picture_where_the_page_looks(evaluation, tmp_path):
    made = write_thumbnails(evaluation, IMAGES, tmp_path / "thumbs", 10**9)
    assert (made.tile_px, made.quality) == LEVELS[0]
    for number, (width, height) in enumerate(made.sizes):
        with Image.open(tmp_path / "thumbs" / f"{number // PER_SHEET}.webp") as sheet:
            place = number % PER_SHEET
            x, y = place % COLUMNS * made.tile_px + width // 2, place // COLUMNS * made.tile_px + height // 2
            found: Any = sheet.convert("RGB").getpixel((x, y))
        assert max(abs(a - b) for a, b in zip(found, colour(number))) < 16
        assert max(width, height) == made.tile_px
        assert abs(width / height - (160 + number) / 160) < 0.02


def test_pictures_shrink_to_the_budget(tmp_path):
    import numpy as np

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (160, 160, 3), np.uint8)).save(buffer, "JPEG")

    class Noisy:
        """An evaluation set whose pictures hardly compress."""

        def jpeg(self, image: str) -> bytes:
            return buffer.getvalue()

    noisy: Any = Noisy()
    full = write_thumbnails(noisy, IMAGES[:16], tmp_path / "full", 10**9)
    for share in (2, 8):
        small = write_thumbnails(noisy, IMAGES[:16], tmp_path / f"{share}", full.bytes // share)
        assert small.bytes <= full.bytes // share
        assert small.bytes == sum(path.stat().st_size for path in (tmp_path / f"{share}").iterdir())
        assert small.tile_px < full.tile_px


def test_pictures_get_what_scripts_leave_of_the_budget(report, evaluation, monkeypatch):
    write_run(evaluation, MODELS[0])
    budgets = []

    def spy(*arguments):
        budgets.append(arguments[-1])
        return write_thumbnails(*arguments)

    monkeypatch.setattr(build, "write_thumbnails", spy)
    _, _, site = report()
    rest = sum(path.stat().st_size for name in ("assets", "data") for path in (site / name).rglob("*.*"))
    # The sizes of the pictures are written after them.
    assert budgets == [pytest.approx(build.SITE_BYTES - rest, abs=1_000)]


def test_a_site_past_the_budget_is_told(report, evaluation, monkeypatch):
    write_run(evaluation, MODELS[0])
    monkeypatch.setattr(build, "SITE_BYTES", 400_000)
    code, said, _ = report()
    assert code == 0
    assert "as small as they get" in said


def test_an_image_that_cannot_be_decoded(tmp_path):
    damaged = write_set(tmp_path / "set")
    damaged.jpeg = lambda image: b"no jpeg"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(EvalSetError, match=r"'flickr30k/000' cannot be decoded.*"):
        write_thumbnails(damaged, IMAGES, tmp_path / "thumbs", 10**9)
