"""The page in a real browser: whatever `visit` opens must leave the console and the network alone."""

from __future__ import annotations

import io
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pyarrow as pa
import pytest
import small_runs
from PIL import Image
from small_runs import (
    CAPTIONED,
    DISTRACTORS,
    EACH,
    HOSTILE,
    MODELS,
    QUERIES,
    caption,
    colour,
    image_id,
    loss,
    rank,
    ranking,
    step,
    write_run,
)

from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.report.build import build_report
from mteb_vehicle_search.run_record import write_run_record

A, B, C = MODELS
ALL = list(range(QUERIES))
BLUE = [n for n in ALL if "Blue car" in caption(n)]


def by_loss(queries, model=A):
    return sorted(queries, key=lambda n: (-round(loss(model, n), 4), n))


def listed(page) -> list[int]:
    """Return the queries of the list, all its pages."""
    found = []
    while True:
        links = page.locator("#list a").evaluate_all("links => links.map((a) => a.getAttribute('href'))")
        found += [int(link.split("query=q")[1][:2]) for link in links]
        if page.locator("#more").is_disabled():
            return found
        page.click("#more")


def address(page) -> str:
    """Return what follows the # now; the browser tells playwright's own `url` somewhat later."""
    return page.evaluate("location.hash.slice(1)")


def shown(page) -> str:
    return page.inner_text("#detail .ids code >> nth=0")


def test_everything_starts_with_the_largest_loss(visit):
    page = visit()
    assert listed(page) == by_loss(ALL)
    assert page.inner_text("#count") == f"{QUERIES} of {QUERIES} captions"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": B}, by_loss(ALL, B)),
        ({"from": "4"}, by_loss(n for n in ALL if rank(A, n) >= 4)),
        ({"from": "2", "to": "4"}, by_loss(n for n in ALL if 2 <= rank(A, n) <= 4)),
        ({"text": "BLUE  car"}, by_loss(BLUE)),
        ({"text": "<b>"}, [0]),
        ({"text": "no such words"}, []),
        ({"only": "wrong"}, by_loss(n for n in ALL if rank(A, n) > 1)),
        ({"only": "ab"}, by_loss(n for n in ALL if rank(A, n) == 1 < rank(B, n))),
        ({"only": "ba"}, by_loss(n for n in ALL if rank(B, n) == 1 < rank(A, n))),
        ({"only": "ab", "vs": C}, by_loss(n for n in ALL if rank(A, n) == 1 < rank(C, n))),
        ({"part": "tractor or machine"}, by_loss([12, 15])),
        ({"only": "ab", "text": "blue", "to": "1"}, by_loss(n for n in BLUE if rank(A, n) == 1 < rank(B, n))),
        ({"sort": "near"}, sorted(ALL, key=lambda n: (round(loss(A, n), 4), n))),
        ({"sort": "rank"}, sorted(ALL, key=lambda n: (-rank(A, n), n))),
        ({"sort": "id"}, ALL),
    ],
    ids=str,
)  # fmt: skip
def test_filters_and_sorting(visit, fields, expected):
    page = visit()
    for name, value in fields.items():
        field = page.locator(f"#filters [name={name}]")
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    assert dict(parse_qsl(address(page))) == fields
    assert listed(page) == expected
    assert page.inner_text("#count") == f"{len(expected)} of {QUERIES} captions"


def test_class_of_the_best_wrong_picture(visit):
    page = visit()
    page.select_option("#filters [name=wrong]", "moped")

    def best_wrong(query):
        return next(n for n in ranking(A, query) if n != query // EACH)

    assert listed(page) == by_loss(n for n in ALL if best_wrong(n) >= 10 and best_wrong(n) % 3 == 0)


def test_paging(visit):
    page = visit("#sort=id")
    assert page.inner_text("#page") == "1 / 2"
    assert page.locator("#back").is_disabled()
    page.click("#more")
    assert page.inner_text("#page") == "2 / 2"
    assert page.locator("#list li").count() == QUERIES - 20
    assert shown(page) == "q20"
    page.reload()
    assert page.inner_text("#page") == "2 / 2"
    page.click("#back")
    assert shown(page) == "q00"
    # Fewer results than pages: back to the first.
    page.click("#more")
    page.fill("#filters [name=text]", "tractor")
    assert page.inner_text("#page") == "1 / 1"
    assert page.locator("#list li").count() == 2
    page.click("#filters [type=reset]")
    assert page.inner_text("#count") == f"{QUERIES} of {QUERIES} captions"


def test_keyboard(visit):
    page = visit("#sort=id")
    for key, expected in (("j", "q01"), ("ArrowRight", "q02"), ("k", "q01"), ("ArrowLeft", "q00"), ("k", "q00")):
        page.keyboard.press(key)
        page.wait_for_function("id => document.querySelector('#detail .ids code').textContent === id", arg=expected)
    for _ in range(21):
        page.keyboard.press("j")
    page.wait_for_function("document.querySelector('#detail .ids code').textContent === 'q21'")
    assert page.inner_text("#page") == "2 / 2"
    assert page.locator("#list [aria-current]").get_attribute("href").endswith("query=q21")
    assert "query=q21" in address(page)
    # Letters typed into a field stay letters.
    page.keyboard.press("/")
    page.keyboard.type("jk")
    assert page.input_value("#filters [name=text]") == "jk"


def test_keyboard_brings_the_query_into_sight(visit):
    page = visit()
    page.evaluate("scrollTo(0, 0)")
    page.keyboard.press("j")
    page.wait_for_function("scrollY > 500")


def test_a_link_gives_back_filters_page_and_query(visit):
    page = visit()
    page.select_option("#filters [name=model]", B)
    page.select_option("#filters [name=vs]", C)
    page.select_option("#filters [name=sort]", "rank")
    page.fill("#filters [name=from]", "2")
    page.click("#list li:nth-child(3) a")
    page.wait_for_function("location.hash.includes('query=')")
    page.wait_for_function("document.querySelector('#detail .steps span').textContent.startsWith('3 of')")
    again = visit(f"#{address(page)}")
    assert again.inner_text("#detail") == page.inner_text("#detail")
    assert again.inner_text("#list") == page.inner_text("#list")
    for name in ("model", "vs", "sort", "from"):
        assert again.input_value(f"#filters [name={name}]") == page.input_value(f"#filters [name={name}]")
    # The link leads to the query, not to the top of the page.
    again.wait_for_function("scrollY > 500")


def test_going_back_goes_back(visit):
    page = visit("#sort=id")
    page.click("#list li:nth-child(2) a")
    page.click("#list li:nth-child(3) a")
    page.wait_for_function("document.querySelector('#detail .ids code').textContent === 'q02'")
    page.go_back()
    page.wait_for_function("document.querySelector('#detail .ids code').textContent === 'q01'")


def test_a_query_outside_the_filters_is_shown_as_such(visit):
    page = visit("#text=tractor&query=q05")
    assert shown(page) == "q05"
    assert page.inner_text("#detail .steps span") == "outside these filters"


@pytest.mark.parametrize(
    "address",
    [
        "#query=nobody",
        "#model=gone&vs=&sort=%00&page=-7&from=x",
        "#sort=constructor&only=toString&__proto__=1&constructor=2&wrong=valueOf",
        "#%E0%A4%A",
        "#about",
    ],
)
def test_bad_addresses_show_something(visit, address):
    assert visit(address).locator("#list li").count() == 20


@pytest.mark.parametrize("query", [0, 1, 2, 3])
def test_hostile_captions_are_text(visit, query):
    page = visit(f"#query=q{query:02}")
    # Browsers treat a line separator as any white space; the text is otherwise what was written.
    assert page.text_content("#detail .question h3") == HOSTILE[query]
    assert page.get_attribute("#detail .question h3", "dir") == "auto"
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main b b").count() == 0
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_query_shows_what_each_model_found(visit):
    page = visit("#query=q02")
    parts = page.locator("#detail .answers")
    assert parts.count() == 3
    assert parts.nth(0).locator("h4").inner_text() == f"{A} rank 15"
    tiles = parts.nth(0).locator(".tiles li").all_inner_texts()
    # Ten wrong ones with their class, and the relevant one after them.
    assert [" ".join(tile.split()) for tile in tiles[:4]] == [
        "1. moped 0.900",
        "2. trailer truck 0.894",
        "3. captioned picture 0.888",
        "4. distractor 0.882",
    ]
    assert len(tiles) == 11
    assert " ".join(tiles[10].split()) == "15. relevant 0.816"
    assert "above it 4 captioned pictures and 10 distractors" in parts.nth(0).inner_text()
    page = visit("#query=q03")
    tiles = page.locator("#detail .answers").nth(2).locator(".tiles li")
    assert tiles.count() == 10
    assert tiles.first.inner_text().startswith("1. relevant")


def test_a_query_with_two_relevant_pictures_has_two_rows(visit, eval_set, tmp_path, monkeypatch):
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "home"))
    record = write_run(eval_set, A)
    place = ranking(A, 0).index(1)
    table = record.queries()
    second = table.slice(0, 1).to_pylist()[0] | {
        "relevant_id": image_id(1),
        "rank": place + 1,
        "score": 0.9 - place * step(0),
        "above_flickr30k": sum(n < CAPTIONED for n in ranking(A, 0)[:place]),
        "above_imagenet": sum(n >= CAPTIONED for n in ranking(A, 0)[:place]),
    }
    table = pa.concat_tables([table, pa.Table.from_pylist([second], table.schema)])
    write_run_record(
        table, {**record.info, "content_id": eval_set.content_id, "model_name": A, "model_revision": "0" * 40}
    )
    build_report(build_leaderboard([tmp_path / "home"]), eval_set, tmp_path / "site")
    page = visit("#query=q00%232", tmp_path / "site")
    assert page.inner_text("#count") == f"{QUERIES + 1} of {QUERIES + 1} captions"
    tiles = [" ".join(tile.split()) for tile in page.locator("#detail .tiles li").all_inner_texts()]
    # Both count as right wherever they stand.
    assert [tile[:-6] for tile in tiles if "relevant" in tile] == ["1. relevant", f"{place + 1}. relevant"]
    assert "has no curve" in page.inner_text("#growth")


def test_pictures_are_the_right_ones(visit):
    page = visit("#query=q27")
    page.wait_for_load_state("networkidle")
    frame = page.locator("#detail .question .cut")
    box = frame.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(169 / 160, abs=0.02)
    for cut, number in ((frame, 9), (page.locator("#detail .answers .tiles .cut").nth(3), ranking(A, 27)[3])):
        shot = Image.open(io.BytesIO(cut.screenshot())).convert("RGB")
        middle: Any = shot.getpixel((shot.width // 2, shot.height // 2))
        assert max(abs(a - b) for a, b in zip(middle, colour(number))) < 12


def test_light_and_dark(visit):
    def ground(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light = visit()
    dark = visit(color_scheme="dark")
    assert sum(map(int, ground(dark)[4:-1].split(","))) < 150 < sum(map(int, ground(light)[4:-1].split(",")))
    light.click("#theme")
    assert ground(light) == ground(dark)
    again = visit(context=light.context)
    assert ground(again) == ground(dark)
    assert again.inner_text("#theme") == "Light"


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
def test_accessible_and_no_wider_than_the_screen(visit, scheme, width):
    from axe_core_python.sync_playwright import Axe

    page = visit("#query=q02", viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("address", ["", "#text=car&query=q02"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_layout_jumps(visit, address, width):
    page = visit(address, viewport={"width": width, "height": 844})
    for part in ("growth", "strengths", "failures", "suspects", "about"):
        page.evaluate("id => document.getElementById(id).scrollIntoView()", part)
        page.wait_for_timeout(60)
    assert page.evaluate("shifted") < 0.05


def test_charts_are_drawn_as_wide_as_there_is_room(visit):
    page = visit()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_function(
            "width => [...document.querySelectorAll('.chart svg')].every((svg) => svg.clientWidth <= width - 30)",
            arg=width,
        )
    assert page.locator(".chart svg").count() == 3
    legend = page.locator("#growth-chart .legend").inner_text()
    assert all(word in legend for word in (*MODELS, "exact", "measured", "modelled", "too far to trust"))
    page.click("#growth details summary")
    kinds = page.locator("#growth details table").first.locator("td:last-child").all_inner_texts()
    assert sorted(set(kinds)) == ["exact", "measured", "modelled", "too far to trust"]
    assert kinds.count("measured") == 1


def test_a_strength_leads_to_its_failures(visit):
    page = visit()
    page.locator("#strengths svg a", has_text="tractor or machine (2)").first.click()
    page.wait_for_function("document.querySelector('#count').textContent.startsWith('2 of')")
    assert listed(page) == by_loss([12, 15])


def test_a_part_of_too_few_images_has_a_dash_and_no_bar(visit):
    page = visit()
    page.click("#strengths details summary")
    row = page.locator("#strengths details tr", has_text="tractor or machine").first
    mean, *ends = [text.split() for text in row.locator("td").all_inner_texts()][2:]
    assert row.locator("td").all_inner_texts()[:2] == ["2", "2"]
    assert {cell[1] for cell in (mean, *ends)} == {"–"}
    assert "fewer than 5 images have no interval" in page.inner_text("#strengths")
    titles = page.locator("#strengths svg title").all_text_contents()
    assert sum("tractor or machine" in title and "no interval: too few images" in title for title in titles) == 3
    assert any("Blue" not in title and "95 % interval 0." in title for title in titles)


def test_the_page_of_too_few_images_for_any_interval(visit, tmp_path, monkeypatch):
    monkeypatch.setattr(small_runs, "CAPTIONED", 4)
    monkeypatch.setattr(small_runs, "QUERIES", 12)
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "home"))
    eval_set = small_runs.write_set(tmp_path / "set")
    write_run(eval_set, A)
    build_report(build_leaderboard([tmp_path / "home"]), eval_set, tmp_path / "site")
    page = visit(folder=tmp_path / "site")
    assert "– (too few images: 4)" in page.inner_text("#board")
    # Of the model, and of a random ranking.
    assert page.locator("#board .interval circle").count() == 2
    assert page.locator("#board .interval .range").count() == 0
    assert page.locator("#growth svg").count() == 1
    page.click("#growth details summary")
    assert {*page.locator("#growth details td:nth-child(3)").all_inner_texts()} == {"–"}
    assert "NaN" not in page.content()
    assert "null" not in page.inner_text("body")


def test_suspects_show_pictures_and_lead_to_their_query(visit):
    page = visit()
    agreed, near, same = (page.locator("#suspect-list > section").nth(n) for n in range(3))
    assert agreed.locator(".suspect").count() == 6
    assert agreed.locator(".suspect").first.locator(".cut").count() == 2
    before = agreed.locator("button").inner_text()
    agreed.locator("button").click()
    assert agreed.locator(".suspect").count() == 12
    assert agreed.locator("button").inner_text() != before
    assert "1 bit of 64 differs, colours by at most" in near.inner_text()
    assert "2 queries" in same.inner_text()
    assert same.locator(".suspect .cut").count() == 2
    same.locator(".suspect a").nth(1).click()
    page.wait_for_function("document.querySelector('#detail .ids code').textContent === 'q15'")


def test_suspects_say_who_voted_and_what_speaks_against_a_picture(visit):
    page = visit()
    agreed = page.locator("#suspect-list > section").first
    voters = agreed.locator(".voters li").all_inner_texts()
    assert [line.split(" votes: MRR 0.")[0] for line in voters] == MODELS
    shares = [int(text.split("Agreement ")[1].split("\u00a0%")[0]) for text in agreed.locator(".why").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] <= shares[0] <= 100
    why = agreed.locator(".why").first.inner_text()
    assert "of 3 voting models put it first" in why
    assert f"of {EACH} captions of the relevant picture" in why


@pytest.mark.parametrize("others", [0, 1])
def test_one_voting_model_is_no_all_clear(visit, eval_set, tmp_path, monkeypatch, others):
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(tmp_path / "home"))
    write_run(eval_set, A)
    if others:
        ranks = np.random.default_rng(1).integers(1, CAPTIONED + DISTRACTORS + 1, QUERIES)
        columns = {
            "rank": pa.array(ranks, pa.int32()),
            "above_flickr30k": pa.array(np.maximum(0, ranks - 1 - DISTRACTORS), pa.int32()),
            "above_imagenet": pa.array(np.minimum(ranks - 1, DISTRACTORS), pa.int32()),
        }
        write_run(eval_set, B, about={"model_name": "org/random"}, **columns)
    build_report(build_leaderboard([tmp_path / "home"]), eval_set, tmp_path / "site")
    agreed = visit(folder=tmp_path / "site").locator("#suspect-list > section").first
    assert agreed.locator(".tag").inner_text() == "unknown"
    assert "This needs two voting models; there is one." in agreed.inner_text()
    assert "None." not in agreed.inner_text()
    if others:
        line = agreed.locator(".voters li").nth(1).inner_text()
        assert line.startswith("org/random does not vote: not told apart from chance: mean rank ")
        assert " of 60, p = 0." in line


def test_sections_are_linked(visit):
    page = visit("#text=car&query=q02")
    for name in ("board", "growth", "strengths", "failures", "suspects", "about"):
        page.click(f"nav a[href='#{name}']")
        top = page.evaluate("id => document.getElementById(id).getBoundingClientRect().top", name)
        assert top < 500
    # Going about does not lose the filters.
    assert page.input_value("#filters [name=text]") == "car"


def test_citation_can_be_copied(visit, eval_set):
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#copy")
    page.wait_for_function("document.querySelector('#copy').textContent === 'Copied'")
    text = page.evaluate("navigator.clipboard.readText()")
    assert eval_set.content_id in text
    assert "@inproceedings{muennighoff2023mteb" in text
    assert eval_set.content_id in page.inner_text("#about .facts >> nth=0")
