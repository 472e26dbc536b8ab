"""What people judged, on the page: counts, filter, frames, corrected scores and suspects, against the judgments."""

from __future__ import annotations

import json
import re
from collections import Counter
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
from browsing import serious_faults
from judged_runs import lines_of, predictions_of, sample_of, write_judgments
from small_judgments import judgment
from small_runs import EACH, MODELS, QUERIES, image_id, ranking, write_run

from mteb_vehicle_search import cli
from mteb_vehicle_search.analysis.corrected import corrected
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.judgments import read_judgments
from mteb_vehicle_search.judgments.predictions import write_predictions
from mteb_vehicle_search.report.judged import Verdict, by_row, place_of, rows_with_right, summary, verdicts

FRAME = "e => { const { outlineStyle, outlineColor } = getComputedStyle(e); return outlineStyle + outlineColor; }"
WORDS = {3: "yes", 2: "partly", 1: "no", 0: "cannot tell"}


def grade(query: str, image: str) -> int:
    """Return what the judge says: every grade is given."""
    return (int(query[1:]) + int(image[-3:])) % 4


@pytest.fixture(scope="module")
def judged(eval_set, tmp_path_factory):
    """The page of three models, with the judgments of 20 captions: the folder, the grades, and what was read."""
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEHICLE_SEARCH_HOME", str(folder / "home"))
        records = [write_run(eval_set, model) for model in MODELS]
        runs = [load_ranks(record) for record in records]
        sample = sample_of(runs[:2])
        lines = lines_of(sample, 20, grade)
        first = lines[0]
        about = {"content_id": eval_set.content_id, "sample": sample.id, "judge": "ada", "check": "known"}
        # The caption's own image, which is no wrong one, and an image that no top ten shows.
        own = judgment(first.query, image_id(int(first.query[1:]) // EACH), 3, **about)
        never = judgment(first.query, image_id(59), 3, **{**about, "check": "random"})
        place = write_judgments(sample, [*lines, own, never], folder / "kept")
        write_predictions(place, predictions_of(sample, lambda *pair: 0.8 if grade(*pair) == 3 else 0.1))
        command = ["report", "--data", str(eval_set.folder), "--judgments", str(folder / "kept")]
        assert cli.main([*command, "--out", str(folder / "site")]) == 0
    grades = {one.pair: one.grade for one in [*lines, own, never]}
    return SimpleNamespace(
        site=folder / "site", grades=grades, runs=runs, judgments=read_judgments(place), own=own, folder=folder
    )


def read(site: Path, name: str):
    text = (site / "data" / f"{name}.js").read_text(encoding="utf-8")
    return json.loads(text[text.index("=", text.index(f").{name}")) + 1 :].rstrip(";\n"))


def wrong(query: int) -> set[str]:
    """Return the wrong images in the top tens of all models."""
    tops = {image for model in MODELS for image in ranking(model, query)[:10]}
    return {image_id(image) for image in tops - {query // EACH}}


def judged_right(judged, model: str) -> list[int]:
    """Return the captions for which a wrong image of a model's top ten was judged right."""
    tops = {n: {image_id(image) for image in ranking(model, n)[:10] if image != n // EACH} for n in range(QUERIES)}
    return [n for n, top in tops.items() if any(judged.grades.get((f"q{n:02}", image)) == 3 for image in top)]


def test_how_many_wrong_images_were_judged_and_how(judged):
    pairs = [(f"q{n:02}", image) for n in range(QUERIES) for image in wrong(n)]
    given = Counter(judged.grades[pair] for pair in pairs if pair in judged.grades)
    assert set(given) == set(WORDS)
    how = ", ".join(f"{given[one]} {word}" for one, word in WORDS.items())
    told = f"{given.total()} of {len(pairs)} wrong images in the top tens were judged: {how}."
    assert told in (judged.site / "index.html").read_text(encoding="utf-8")


def test_the_filter_knows_the_captions_with_a_wrong_image_judged_right(judged):
    for number, model in enumerate(MODELS):
        assert read(judged.site, f"model{number}")["judgedRight"] == judged_right(judged, model)
    own = int(judged.own.query[1:])
    core = read(judged.site, "core")
    images = read(judged.site, "images")
    assert core["grades"] == {str(one): word for one, word in WORDS.items()}
    found = {(core["ids"][int(row)], images[int(n)]): g for row, of in core["judged"].items() for n, g in of.items()}
    assert found == {pair: one for pair, one in judged.grades.items() if pair[1] in images}
    assert found[f"q{own:02}", image_id(own // EACH)] == 3


def test_the_table_has_corrected_scores_beside_those_by_the_labels(judged):
    html = unescape((judged.site / "index.html").read_text(encoding="utf-8"))
    heads = html[html.index("<thead>") : html.index("</thead>")]
    order = ["95 % interval", "corrected nDCG@10", "corrected interval", "R@1", "partly as yes", "judged captions"]
    places = [heads.index(f">{head}</th>") for head in order]
    assert places == sorted(places)
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    for run in judged.runs[:2]:
        found = corrected(run, judged.judgments)
        assert found.value is not None
        # The file has five digits, of which the page shows four.
        value, low, high, partly = (f"{round(one, 5):.4f}" for one in (found.value, *found.interval[1:], found.partly))
        assert f"<td>{value}</td><td>{low}–{high}</td>" in body
        assert f"<td>{partly}</td><td>20</td></tr>" in re.sub(r">\s+<", "><", body)
        assert found.value > found.raw
    why = corrected(judged.runs[2], judged.judgments).why
    assert why
    command = f"vehicle-search judge {MODELS[2]}"
    assert f"`{command}`" in why
    assert f"{MODELS[2]}: not corrected: {why}.".replace(f"`{command}`", f"<code>{command}</code>") in html
    assert found.predicted_by == "org/seer@r1"
    assert "What was not judged is predicted by org/seer, and the judged captions correct that: " in html
    assert "In the whole pool" not in html


def test_suspects_say_what_people_said_and_those_confirmed_come_first(judged):
    suspects, images = read(judged.site, "suspects"), read(judged.site, "images")
    for kind in ("agreed", "near"):
        for one in suspects[kind]:
            right = int(images[one["relevant"]][-3:])
            captions = [f"q{n:02}" for n in range(QUERIES) if n // EACH == right]
            given = [
                judged.grades[pair] for pair in ((c, images[one["image"]]) for c in captions) if pair in judged.grades
            ]
            best = max(given, default=None)
            expected = {"grade": best, "captions": given.count(best), "judged": len(given)} if given else None
            assert one["judged"] == expected
    order = [one["judged"] and one["judged"]["grade"] for one in suspects["agreed"]]
    places = [{3: 0, 2: 1, None: 2, 0: 2, 1: 3}[one] for one in order]
    assert len(set(places)) == 4
    assert places == sorted(places)
    # Among equals the most suspicious one comes first.
    confirmed = [one["agreement"] for one in suspects["agreed"] if one["judged"] and one["judged"]["grade"] == 3]
    assert len(confirmed) > 1
    assert confirmed == sorted(confirmed, reverse=True)


@pytest.mark.parametrize(
    ("given", "expected", "place"),
    [
        ([], None, 2),
        ([1, 3, 1], Verdict(3, 1, 3), 0),
        ([2, 0], Verdict(2, 1, 2), 1),
        ([1, 1], Verdict(1, 2, 2), 3),
        ([0], Verdict(0, 1, 1), 2),
    ],
)
def test_the_best_grade_of_any_caption_decides(given, expected, place):
    rows = SimpleNamespace(relevant=[7, 7, 7, 8], ids=["a", "b", "c", "d"])
    # What was said of the same image for a caption of another one does not count.
    said = {**{row: {9: one} for row, one in enumerate(given)}, 3: {9: 3}}
    assert verdicts(rows, said, [(7, 9)]) == [expected]
    assert place_of(expected) == place


def test_a_caption_with_two_relevant_images_counts_its_wrong_ones_once():
    rows = SimpleNamespace(
        ids=["a", "a"], relevant=[0, 1], tops=[[[0, 1, 2]] * 2, [[2, 3]] * 2], shown=["w", "x", "y", "z"]
    )
    said = by_row(rows, {("a", "y"): 3, ("a", "x"): 1, ("a", "gone"): 3, ("b", "y"): 3})
    assert said == {0: {2: 3, 1: 1}, 1: {2: 3, 1: 1}}
    assert summary(rows, said) == "1 of 2 wrong images in the top tens were judged: 1 yes."
    assert summary(rows, {}) == "0 of 2 wrong images in the top tens were judged."
    assert rows_with_right(rows, 0, said) == [0, 1]
    assert rows_with_right(rows, 0, by_row(rows, {("a", "x"): 3})) == []


def test_without_judgments_the_page_says_nothing_of_them(judged, eval_set, tmp_path, monkeypatch, site, capsys):
    html = (site / "index.html").read_text(encoding="utf-8")
    for word in ("corrected", 'name="judged"', 'id="judged"'):
        assert word not in html
    assert (read(site, "core")["grades"], read(site, "core")["judged"]) == (None, {})
    # Those that are at hand are used, unless one says otherwise.
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(judged.folder / "home"))
    monkeypatch.setattr("mteb_vehicle_search.settings.judgments_folder", lambda: judged.folder / "kept")
    for asked, there in (([], True), (["--no-judgments"], False)):
        assert cli.main(["report", "--data", str(eval_set.folder), "--out", str(tmp_path / "site"), *asked]) == 0
        assert ('name="judged"' in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")) == there


def test_judged_images_are_framed_told_and_filtered(judged, visit, site):
    page = visit("#judged=right&sort=id", folder=judged.site)
    any_of = sorted({n for model in MODELS for n in judged_right(judged, model)})
    assert page.locator("#count").inner_text().startswith(f"{len(any_of)} of {QUERIES} ")
    row = any_of[0]
    assert page.locator("#detail .ids code").first.inner_text() == f"q{row:02}"
    outlines = {}
    for place, image in enumerate(ranking(MODELS[0], row)[:10]):
        tile = page.locator("#detail .answers").first.locator(".tiles li").nth(place)
        given = judged.grades.get((f"q{row:02}", image_id(image)))
        said = f"judged: {WORDS[given]}" if given is not None else ""
        assert tile.locator(".judged").all_inner_texts() == ([said] if said else [])
        assert tile.locator("button").get_attribute("aria-label").endswith(said or f"rank {place + 1}")
        if image != row // EACH:
            look = tile.locator(".frame").evaluate(
                "e => { const s = getComputedStyle(e); return s.outlineStyle + s.outlineColor; }"
            )
            outlines.setdefault(given, set()).add(look)
    assert all(len(looks) == 1 for looks in outlines.values())
    assert len({look for looks in outlines.values() for look in looks}) == len(outlines) > 1
    # Fewer models, fewer captions: those of the chosen ones count.
    alone = judged_right(judged, MODELS[0])
    page.goto((judged.site / "index.html").as_uri() + f"#judged=right&models={MODELS[0].replace('/', '%2F')}")
    page.wait_for_function(f"document.getElementById('count').textContent.startsWith('{len(alone)} of')")
    page.locator("#filters [name=judged]").select_option("")
    page.wait_for_function(f"document.getElementById('count').textContent.startsWith('{QUERIES} of')")
    page.locator("#suspects summary").first.click()
    assert (
        page.locator("#suspects .suspect").first.locator(".verdict-3").inner_text().startswith("Confirmed: “yes” for")
    )
    assert "confirmed" in page.locator("#suspects summary .tag").first.inner_text()
    # Each heading stands above its figures.
    table = page.locator("#board table").first
    heads, figures = (
        [one.bounding_box()["x"] for one in table.locator(row).all()]
        for row in ("thead th", "tbody tr:first-child > *")
    )
    assert heads == pytest.approx(figures)
    # Any of the chosen models will do.
    page.evaluate("VS.model0.judgedRight = []; VS.model1.judgedRight = [3]")
    page.evaluate("show({ ...state, models: core.models.slice(0, 2), judged: 'right' })")
    page.wait_for_function("document.getElementById('count').textContent.startsWith('1 of')")
    # A page without judgments has no such filter, and an address that asks for it shows all captions.
    other = visit("#judged=right", folder=site)
    assert other.locator("#count").inner_text().startswith(f"{QUERIES} of")


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_what_was_judged_is_accessible_and_no_wider_than_the_screen(judged, visit, scheme, width):
    settings = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    page = visit("#judged=right&sort=id", folder=judged.site, **settings)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.locator("#detail .judged").count()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_faults(page) == []
