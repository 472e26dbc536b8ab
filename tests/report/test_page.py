"""The page in a real browser: whatever `visit` opens must leave the console and the network alone."""

from __future__ import annotations

import io
import shutil
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pyarrow as pa
import pytest
import small_runs
from browsing import serious_faults, watched
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

from mteb_vehicle_search.analysis.compare import compare
from mteb_vehicle_search.analysis.leaderboard import build_leaderboard
from mteb_vehicle_search.analysis.ranks import load_ranks
from mteb_vehicle_search.analysis.selection import choose_runs
from mteb_vehicle_search.report.build import build_report
from mteb_vehicle_search.run_record import write_run_record

A, B, C = MODELS
ALL = list(range(QUERIES))
BLUE = [n for n in ALL if "Blue car" in caption(n)]


def by_loss(queries, model=A):
    return sorted(queries, key=lambda n: (-round(loss(model, n), 4), n))


def decides(model, other, query):
    """Return by how much a caption speaks for a model: what it gains, then how many times better its rank is."""

    def gain(place):
        return round(1 / np.log2(1 + place), 5) if place <= 10 else 0.0

    first, second = rank(model, query), rank(other, query)
    return round(gain(first) - gain(second) + 1e-6 * np.log(second / first), 12)


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


def open_all(page, where: str = "body") -> None:
    page.evaluate(
        "where => document.querySelectorAll(`${where} details`).forEach((one) => { one.open = true; })", where
    )


def values_of(page, chart) -> list[str]:
    """Return what the arrow keys show of a chart, until it begins anew."""
    chart.focus()
    found: list[str] = []
    while True:
        page.keyboard.press("ArrowRight")
        value = chart.locator(".tip").inner_text()
        if value in found[:1]:
            return found
        found.append(value)


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
        ({"text": "ca"}, []),
        ({"text": '"car waits"'}, by_loss(BLUE)),
        ({"text": "waits -blue"}, by_loss(n for n in ALL if "red bus" in caption(n))),
        ({"text": '-"stop number 5" "stop'}, by_loss(n for n in ALL if "stop" in caption(n) and n != 5)),
        ({"sort": "wins"}, sorted(ALL, key=lambda n: (-decides(A, B, n), n))),
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


def test_class_of_the_best_wrong_image(visit):
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
        "moped imagenet 0.900",
        "trailer truck imagenet 0.894",
        "captioned image flickr30k 0.888",
        "distractor imagenet 0.882",
    ]
    assert len(tiles) == 11
    assert " ".join(tiles[10].split()) == "relevant flickr30k 0.816"
    assert "above it 4 captioned images and 10 distractors" in parts.nth(0).inner_text()
    page = visit("#query=q03")
    tiles = page.locator("#detail .answers").nth(2).locator(".tiles li")
    assert tiles.count() == 10
    assert tiles.first.inner_text().startswith("relevant")


def test_a_query_with_two_relevant_images_has_two_rows(visit, eval_set, tmp_path, monkeypatch):
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
    relevant = [tile.removesuffix(" flickr30k " + tile[-5:]) for tile in tiles if "relevant" in tile]
    assert relevant == ["1. relevant", f"{place + 1}. relevant"]
    assert "has no curve" in page.inner_text("#growth")


def test_images_are_the_right_ones(visit):
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


def test_the_list_stands_without_the_file_of_its_query(browser, site, tmp_path):
    damaged = shutil.copytree(site, tmp_path / "site")
    (damaged / "data" / "top0_0.js").unlink()
    with watched(browser) as pages:
        page = pages.page()
        page.goto((damaged / "index.html").as_uri())
        page.wait_for_selector("#list li")
        # Known by now to be missing.
        page.fill("#filters [name=text]", '"Blue car"')
        page.wait_for_function(
            "count => document.querySelector('#count').textContent.startsWith(count)", arg=f"{len(BLUE)} of"
        )
        assert listed(page) == by_loss(BLUE)
    assert any("data/top0_0.js cannot be read" in problem for problem in pages.problems)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_accessible_and_no_wider_than_the_screen(visit, scheme, width):
    page = visit("#query=q02", viewport={"width": width, "height": 844}, color_scheme=scheme)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert serious_faults(page) == []


@pytest.mark.parametrize("address", ["", "#text=car&query=q02"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_layout_jumps(visit, address, width):
    page = visit(address, viewport={"width": width, "height": 844})
    for part in ("cost", "versus", "growth", "strengths", "failures", "suspects", "about"):
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
    assert page.locator(".chart > svg").count() == 7
    legend = page.locator("#growth-chart .legend").inner_text()
    assert all(word in legend for word in ("exact", "measured", "modelled", "too far to trust"))
    names = page.locator("#growth-chart svg .direct").all_text_contents()
    assert sorted(names) == ["a", "b", "c-with-a-rather-long-name…"]
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
    values = values_of(page, page.locator("#strengths .chart").first)
    assert sum("tractor or machine" in value and "no interval: too few images" in value for value in values) == 3
    assert any("car" in value and "95 % interval 0." in value for value in values)


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


def test_suspects_show_images_and_lead_to_their_query(visit):
    page = visit()
    open_all(page, "#suspects")
    agreed, near, same = (page.locator("#suspect-list > details").nth(n) for n in range(3))
    assert agreed.locator(".suspect").count() == 4
    assert agreed.locator(".suspect").first.locator(".cut").count() == 2
    before = agreed.locator("button").inner_text()
    agreed.locator("button").click()
    assert agreed.locator(".suspect").count() == 8
    assert agreed.locator("button").inner_text() != before
    assert "1 bit of 64 differs, colours by at most" in near.inner_text()
    assert "2 queries" in same.inner_text()
    assert same.locator(".suspect .cut").count() == 2
    same.locator(".suspect a").nth(1).click()
    page.wait_for_function("document.querySelector('#detail .ids code').textContent === 'q15'")


def test_suspects_say_who_voted_and_what_speaks_against_an_image(visit):
    page = visit()
    open_all(page, "#suspects")
    agreed = page.locator("#suspect-list > details").first
    voters = agreed.locator(".voters li").all_inner_texts()
    assert [line.split(" votes: MRR 0.")[0] for line in voters] == MODELS
    shares = [int(text.split("Agreement ")[1].split("\u00a0%")[0]) for text in agreed.locator(".why").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] <= shares[0] <= 100
    why = agreed.locator(".why").first.inner_text()
    assert "of 3 voting models put it first" in why
    assert f"of {EACH} captions of the relevant image" in why


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
    page = visit(folder=tmp_path / "site")
    open_all(page, "#suspects")
    agreed = page.locator("#suspect-list > details").first
    assert agreed.locator(".tag").first.inner_text() == "unknown"
    assert "This needs two voting models; there is one." in agreed.inner_text()
    assert "None." not in agreed.inner_text()
    if others:
        line = agreed.locator(".voters li").nth(1).inner_text()
        assert line.startswith("org/random does not vote: not told apart from chance: mean rank ")
        assert " of 60, p = 0." in line


def test_sections_are_linked(visit):
    page = visit("#text=car&query=q02")
    for name in ("board", "cost", "versus", "growth", "strengths", "failures", "suspects", "about"):
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


# Choosing


def test_a_chosen_model_comes_into_charts_and_failures_and_stays_in_the_address(visit):
    page = visit()
    page.locator("#board input[name=models]").nth(1).uncheck()
    page.wait_for_function("document.querySelectorAll('#detail .answers').length === 2")
    assert parse_qsl(address(page)) == [("models", A), ("models", C), ("vs", C)]
    assert sorted(page.locator("#growth-chart svg .direct").all_text_contents()) == ["a", "c-with-a-rather-long-name…"]
    assert page.locator("#filters [name=model] option").all_inner_texts() == [A, C]
    again = visit(f"#{address(page)}")
    assert again.locator("#board input[name=models]:checked").count() == 2
    assert again.inner_text("#detail") == page.inner_text("#detail")
    # By the keyboard, and never none.
    again.locator("#board input[name=models]").nth(2).focus()
    again.keyboard.press("Space")
    again.wait_for_function("document.querySelectorAll('#detail .answers').length === 1")
    assert again.locator("#board input[name=models]").first.is_disabled()


def test_the_leaderboard_is_sorted_by_any_column(visit):
    page = visit()
    table = page.locator("#board table").first

    def order():
        return table.locator("tbody tr:not(.random) .name").all_inner_texts()

    assert order() == [A, B, C]
    heading = table.locator("th", has_text="nDCG@10").last
    heading.locator("button").click()
    assert (heading.get_attribute("aria-sort"), order()) == ("descending", [A, B, C])
    page.keyboard.press("Enter")
    assert (heading.get_attribute("aria-sort"), order()) == ("ascending", [C, B, A])
    assert table.locator("tbody tr").last.get_attribute("class") == "random"
    table.locator("th", has_text="Model").locator("button").click()
    assert order() == sorted([A, B, C])
    assert table.locator("[aria-sort]").count() == 1


# A against B


def test_a_against_b_says_what_compare_says(visit, site, eval_set, monkeypatch):
    page = visit()
    monkeypatch.setenv("VEHICLE_SEARCH_HOME", str(site.parent / "home"))
    runs = [load_ranks(record) for record in choose_runs([A, C], None)]
    page.select_option("#versus-vs", C)
    found = compare(*runs, queries=sorted(eval_set.queries())).paired
    text = page.inner_text("#verdict")
    assert f"{A} is better than {C}: nDCG@10 differs by {found.difference.mean:+.4f}" in text
    assert f"95 % interval {found.difference.low:+.4f} to {found.difference.high:+.4f}" in text
    assert f"does better for {found.query_wins}, worse for {found.query_losses}" in text
    page.click("#swap")
    assert f"nDCG@10 differs by −{found.difference.mean:.4f}" in page.inner_text("#verdict")
    assert f"does better for {found.query_losses}, worse for {found.query_wins}" in page.inner_text("#verdict")
    assert dict(parse_qsl(address(page))) == {"model": C, "vs": A}


def test_the_captions_that_decide_lead_to_their_query(visit):
    page = visit()
    first, second = page.locator("#deciding > div").all()
    best = max(ALL, key=lambda n: (decides(A, B, n), -n))
    assert f"rank {rank(A, best)} against {rank(B, best)}" in first.locator("li").first.inner_text()
    assert "wins" in second.locator("h3").inner_text()
    second.locator("li a").first.click()
    page.wait_for_function("name => document.querySelector('#filters [name=model]').value === name", arg=B)
    assert shown(page) == f"q{max(ALL, key=lambda n: (decides(B, A, n), -n)):02}"


def test_every_pair_stands_in_the_matrix_and_can_be_chosen(visit):
    page = visit()
    page.click("#all-pairs summary")
    page.wait_for_selector("#matrix table")
    cells = page.locator("#matrix tbody td button").all_inner_texts()
    assert len(cells) == 6
    numbers = [float(text.replace("−", "-")) for text in cells]
    assert numbers[0] == -numbers[2]
    page.locator("#matrix tbody tr").nth(2).locator("button").first.click()
    assert (page.input_value("#versus-model"), page.input_value("#versus-vs")) == (C, A)
    assert page.locator("#matrix [aria-current]").inner_text() == cells[4]


# Charts, tables


def test_costs_tell_the_front(visit):
    page = visit()
    parameters, speed = page.locator("#cost-charts .chart").all()
    # The best model is also the smallest and the fastest.
    for chart, cost in ((parameters, "1,000,000 parameters"), (speed, "100 images/s")):
        values = values_of(page, chart)
        assert [value.split("\n")[0] for value in values] == MODELS
        assert [value.endswith("; on the front") for value in values] == [True, False, False]
        assert cost in values[0]


def test_values_show_under_the_pointer_and_go_with_it(visit):
    page = visit()
    chart = page.locator("#versus-charts .chart").first
    chart.scroll_into_view_if_needed()
    dot = chart.locator("svg circle").first
    dot.hover(force=True)
    assert "95 % interval" in chart.locator(".tip").inner_text() or "no interval" in chart.locator(".tip").inner_text()
    page.mouse.move(5, 5)
    assert chart.locator(".tip").inner_text() == ""


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("Markdown", "| Rank | Model | nDCG@10 |"),
        ("LaTeX", "\\begin{tabular}{lrrr"),
        ("CSV", "Rank,Model,nDCG@10,"),
    ],
)
def test_tables_can_be_taken_along(visit, name, start):
    page = visit()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    taken = page.locator("#board .take button", has_text=name).first
    taken.click()
    page.wait_for_function(
        "[...document.querySelectorAll('#board .take button')].some((b) => b.textContent === 'Copied')"
    )
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith(start)
    assert text.count(A) == 1
    without = "(table) => table.closest('.scroll').nextElementSibling?.className !== 'take'"
    assert page.evaluate(f"[...document.querySelectorAll('main table')].filter({without}).length") == 0


def test_a_cell_is_no_formula_no_markup_and_no_command(visit):
    page = visit()
    written = page.evaluate("""() => {
        const rows = [["a", "b"], ["=cmd|x", "−0.5"], ["x & 50 %_", "+1,000"]];
        return Object.fromEntries(Object.entries(FORMS).map(([name, write]) => [name, write(rows)]));
    }""")
    assert written["CSV"] == "a,b\r\n'=cmd|x,-0.5\r\nx & 50 %_,1000"
    assert "| =cmd\\|x | −0.5 |" in written["Markdown"]
    assert "x \\& 50 \\%\\_ & +1,000 \\\\" in written["LaTeX"]


@pytest.mark.parametrize("kind", ["SVG", "PNG"])
def test_charts_can_be_taken_along(visit, kind, tmp_path):
    page = visit()
    for number in range(7):
        with page.expect_download() as download:
            page.locator("main .take.drawn").nth(number).get_by_role("button", name=kind).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        if kind == "SVG":
            text = path.read_text(encoding="utf-8")
            read = "text => new DOMParser().parseFromString(text, 'image/svg+xml').documentElement.nodeName"
            assert page.evaluate(read, text) == "svg"
            assert "var(" not in text
            assert "<circle" in text
        else:
            with Image.open(path) as image:
                assert len(image.convert("RGB").getcolors(1 << 20) or []) > 20
    assert len(list(tmp_path.iterdir())) == 7


# One query


def test_other_captions_of_the_image_have_their_ranks_and_lead_there(visit):
    page = visit("#query=q06")
    others = page.locator("#detail .siblings li")
    assert others.locator("a").all_inner_texts() == [caption(7), caption(8)]
    ranks = [text.split("rank ")[1:] for text in others.locator(".ranks").all_text_contents()]
    assert [[int(part.split("org")[0].split("deep")[0]) for part in of] for of in ranks] == [
        [rank(model, n) for model in MODELS] for n in (7, 8)
    ]
    others.locator("a").first.click()
    page.wait_for_function("document.querySelector('#detail .ids code').textContent === 'q07'")


def test_an_image_opens_large_and_keys_go_on(visit):
    page = visit("#query=q02")
    page.keyboard.press("z")
    zoom = page.locator("#zoom")
    assert zoom.is_visible()
    assert image_id(0) in zoom.inner_text()
    assert zoom.locator(".cut").bounding_box()["height"] > 300
    page.keyboard.press("ArrowRight")
    assert image_id(ranking(A, 2)[0]) in zoom.inner_text()
    assert "moped · imagenet" in zoom.inner_text()
    page.keyboard.press("Escape")
    assert not zoom.is_visible()
    # Keys in the enlarged image do not turn to another query.
    assert shown(page) == "q02"
    page.locator("#detail .tiles .zoomable").nth(1).click()
    assert image_id(ranking(A, 2)[1]) in zoom.inner_text()


def test_a_small_screen_shows_model_score_and_interval(visit):
    page = visit(viewport={"width": 390, "height": 844})
    heads = page.locator("#board table").first.locator("thead th")
    for name in ("Model", "nDCG@10", "95 % interval"):
        box = heads.filter(has_text=name, visible=True).first.bounding_box()
        assert box["x"] >= 0, name
        assert box["x"] + box["width"] <= 390, name
    for name in ("board", "cost", "versus", "strengths", "growth", "failures", "suspects", "about"):
        box = page.locator(f"nav a[href='#{name}']").bounding_box()
        assert box["x"] + box["width"] <= 390


def test_on_paper_there_are_no_controls(visit):
    page = visit(color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for what in ("nav", "#filters", "#swap", ".take", "#detail .steps"):
        assert not page.locator(what).first.is_visible(), what
    assert page.locator("#board table").first.is_visible()
