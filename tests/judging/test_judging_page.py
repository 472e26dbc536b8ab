"""The page in a real browser: nothing that was answered is lost or doubled, whatever happens to page and server."""

from __future__ import annotations

import errno
import os
import random

import pytest
from browsing import serious_faults
from judging_pages import JUDGE, PageProcess, new_session, session_of
from waiting import pause_until

from mteb_vehicle_search.judging import server
from mteb_vehicle_search.judgments import read_judgments

GRADES = {"Yes": 3, "Partly": 2, "No": 1, "Cannot tell": 0}
READY = "() => document.querySelector('#stage img')?.shown && !document.querySelector('.grades [aria-disabled=true]')"


def until(page, condition, arg=None):
    """Wait until a function holds on the page; Playwright's own waiting needs what the page's policy forbids."""
    pause_until(lambda: page.evaluate(condition, arg))


def shown(page):
    """Return the key of the item on the screen, once it can be judged."""
    until(page, READY)
    return page.locator("#stage img").get_attribute("src").rpartition("/")[2]


def press(page, key):
    """Answer by a key; returns the key of the item that was answered, once another one or the summary is there."""
    item = shown(page)
    page.keyboard.press(key)
    until(
        page,
        "key => document.getElementById('decision').hidden || !document.querySelector('#stage img')?.src.endsWith(key)",
        item,
    )
    return item


def all_saved(page):
    until(page, "() => document.getElementById('saved').dataset.state === 'saved'")


def on_disk(folder, session):
    """Return key -> grade, and how many lines there are."""
    given = read_judgments(folder).grades
    grades = {
        item.key: given[item.query, item.image][JUDGE] for item in session.items if (item.query, item.image) in given
    }
    return grades, (folder / f"{JUDGE}.jsonl").read_bytes().count(b"\n")


def test_a_whole_session_by_keys(serve, visit):
    served = serve()
    assert len(served.session.items) == 60
    page = visit(served.url)
    rng, given, looked = random.Random(1), {}, set()
    for number, item in enumerate(served.session.items):
        assert shown(page) == item.key
        assert page.inner_text("#caption") == served.session.captions[item.query]
        assert f"Decision {number + 1}. {served.session.captions[item.query]}" == page.inner_text("#announce")
        if number % 9 == 4:
            page.keyboard.press("r")
            looked.add(item.query)
        given[press(page, rng.choice("0123"))] = item
    page.wait_for_selector("#summary:not([hidden])")
    assert page.inner_text("#summary-title") == "Everything is judged"
    grades, lines = on_disk(served.folder, served.session)
    assert (len(grades), lines) == (60, 60)
    counts = {grade: list(grades.values()).count(grade) for grade in range(4)}
    assert page.locator(".grades span").all_text_contents() == ["No", "Partly", "Yes", "Cannot tell"]
    table = [tuple(row.split("\t")[:2]) for row in page.locator("#grades tr").all_inner_texts()]
    assert table == [
        ("Yes", f"{counts[3]}"),
        ("Partly", f"{counts[2]}"),
        ("No", f"{counts[1]}"),
        ("Cannot tell", f"{counts[0]}"),
    ]
    assert "12 of 12" in page.inner_text("#facts")
    assert "± 0.041" in page.inner_text("#facts")
    page.click("#finish")
    page.wait_for_selector("#farewell:not([hidden])")
    served.thread.join(10)
    assert served.summary.progress[:4] == (60, 60, 12, 12)
    assert served.summary.grades == counts
    shown_known = [(one.query in looked, one.shown_known) for one in read_judgments(served.folder).lines]
    assert all(seen or not said for seen, said in shown_known)
    assert sum(said for _, said in shown_known) >= len(looked)
    assert all(0 < one.seconds < 60 for one in read_judgments(served.folder).lines)


def test_undo_over_captions_and_from_the_summary(serve, visit):
    served = serve(units=2, each=2, checks=0)
    page = visit(served.url)
    keys = [press(page, "1") for _ in range(3)]
    for key in reversed(keys[1:]):
        page.keyboard.press("u")
        assert shown(page) == key
    all_saved(page)
    assert on_disk(served.folder, served.session) == ({keys[0]: 1}, 5)
    press(page, "3")
    page.click("#undo")
    assert shown(page) == keys[1]
    for _ in range(3):
        press(page, "2")
    page.wait_for_selector("#summary:not([hidden])")
    page.keyboard.press("u")
    page.wait_for_selector("#decision:not([hidden])")
    press(page, "0")
    page.wait_for_selector("#summary:not([hidden])")
    # Where there are no keys.
    assert page.inner_text("#go-on") == "Take back the last answer"
    page.click("#go-on")
    press(page, "0")
    page.wait_for_selector("#summary:not([hidden])")
    assert sorted(on_disk(served.folder, served.session)[0].values()) == [0, 1, 2, 2]


def test_reload_in_mid_session_and_the_buttons(serve, visit):
    served = serve(units=3, each=3, checks=0)
    page = visit(served.url)
    for grade in (3, 1):
        shown(page)
        page.click(f".grades [data-grade='{grade}']")
    assert "token" not in page.url
    page.reload()
    assert shown(page) == served.session.items[2].key
    all_saved(page)
    until(page, "() => document.getElementById('figures').textContent.startsWith('2 of 9 decisions saved')")
    assert list(on_disk(served.folder, served.session)[0].values()) == [3, 1]
    assert not page.locator("#guide").is_visible()


def test_one_press_is_one_answer_and_unseen_images_have_none(serve, visit):
    served = serve(units=3, each=3, checks=0)
    page = visit(served.url)
    first = shown(page)
    page.evaluate(
        """for (const repeat of [true, true]) document.dispatchEvent(
        new KeyboardEvent("keydown", { key: "1", repeat, bubbles: true }))"""
    )
    page.keyboard.press("Control+1")
    page.keyboard.press("?")
    page.keyboard.press("1")
    assert page.locator("#guide").is_visible()
    page.keyboard.press("Escape")
    assert shown(page) == first
    # Two presses in one moment: the second image can be loaded, but what was loaded was seen.
    page.route("**/image/*", lambda route: None)
    page.evaluate("document.querySelector('#stage img').shown")
    for _ in range(12):
        page.keyboard.press("1")
    all_saved(page)
    # Five were loaded ahead.
    until(page, "() => document.getElementById('scale').textContent === 'Loading'")
    assert len(on_disk(served.folder, served.session)[0]) == 6


def test_reading_the_guide_is_not_judging(serve, visit):
    served = serve(units=1, each=2, checks=0)
    page = visit(served.url, guide=True)
    until(page, "() => document.querySelector('#stage img').shown")
    page.wait_for_timeout(1500)
    page.keyboard.press("Escape")
    press(page, "1")
    shown(page)
    page.keyboard.press("?")
    page.wait_for_timeout(1500)
    page.keyboard.press("Escape")
    press(page, "1")
    all_saved(page)
    assert [one.seconds < 1.5 for one in read_judgments(served.folder).lines] == [True, True]


def test_zoom_to_stored_pixels_and_the_own_image(serve, visit):
    served = serve(units=2, each=2, checks=0)
    page = visit(served.url, device_scale_factor=2)
    shown(page)
    smooth = page.locator("#stage img").bounding_box()
    page.keyboard.press("z")
    size = "(() => { const i = document.querySelector('#stage img'); return [i.clientWidth / i.naturalWidth * 2,"
    factor, rendering = page.evaluate(f"{size} getComputedStyle(i).imageRendering]; }})()")
    assert factor == int(factor) >= 3
    assert rendering == "pixelated"
    assert page.locator("#stage img").bounding_box()["width"] <= smooth["width"]
    assert f"× {int(factor)}" in page.inner_text("#scale")
    assert not page.locator("#known").is_visible()
    page.keyboard.press("r")
    page.wait_for_selector("#known:not([hidden]) img")
    until(page, "() => document.querySelector('#known img').shown")
    # A server that was started again in between does not know.
    served.session._looked.clear()
    press(page, "1")
    assert not page.locator("#known").is_visible()
    all_saved(page)
    assert read_judgments(served.folder).lines[0].shown_known
    # It stays zoomed until the next press.
    assert page.locator("#zoom").get_attribute("aria-pressed") == "true"


def test_two_tabs(serve, visit):
    served = serve(units=4, each=3, checks=0)
    one = visit(served.url)
    press(one, "1")
    all_saved(one)
    two = visit(served.url, context=one.context)
    assert press(two, "3") == served.session.items[1].key
    assert press(two, "3") == served.session.items[2].key
    all_saved(two)
    # The first still shows what was answered in the other.
    assert shown(one) == served.session.items[1].key
    one.keyboard.press("2")
    one.wait_for_selector("#notice:not([hidden])")
    assert "another tab" in one.inner_text("#notice")
    # Grades are locked until it is decided which tab goes on.
    one.keyboard.press("2")
    one.click("#notice button")
    one.wait_for_selector("#notice", state="hidden")
    assert shown(one) == served.session.items[3].key
    assert press(one, "0") == served.session.items[3].key
    all_saved(one)
    grades, lines = on_disk(served.folder, served.session)
    assert (list(grades.values()), lines) == ([1, 3, 3, 0], 4)
    press_refused(two)
    visit.problems[:] = [text for text in visit.problems if "409" not in text]


def press_refused(page):
    shown(page)
    page.keyboard.press("1")
    page.wait_for_selector("#notice:not([hidden])")


def test_a_full_disk_keeps_the_answer_on_the_screen(serve, visit, monkeypatch):
    served = serve(units=2, each=3, checks=0)
    page = visit(served.url)
    press(page, "1")
    all_saved(page)
    item, real = shown(page), os.fsync

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    page.keyboard.press("3")
    page.wait_for_selector("#notice:not([hidden])")
    assert "The disk is full" in page.inner_text("#notice")
    assert page.inner_text("#saved") == "1 not saved"
    assert page.locator("#stage img").get_attribute("src").endswith(item)
    assert page.locator("[data-given]").get_attribute("data-grade") == "3"
    page.keyboard.press("1")
    page.keyboard.press("u")
    page.click("#notice button")
    page.wait_for_selector("#notice:not([hidden])")
    assert on_disk(served.folder, served.session) == ({served.session.items[0].key: 1}, 1)
    # A reload finds the answer again.
    page.reload()
    page.wait_for_selector("#notice:not([hidden])")
    monkeypatch.setattr(os, "fsync", real)
    page.click("#notice button")
    page.wait_for_selector("#notice", state="hidden")
    assert shown(page) == served.session.items[2].key
    assert on_disk(served.folder, served.session)[0] == {served.session.items[0].key: 1, item: 3}
    visit.problems[:] = [text for text in visit.problems if "507" not in text]


def test_stop_go_on_and_finish(serve, visit):
    served = serve(units=2, each=2, checks=0)
    page = visit(served.url)
    press(page, "1")
    page.click("#stop")
    page.wait_for_selector("#summary:not([hidden])")
    assert page.inner_text("#summary-title") == "So far"
    assert "3 of 4 decisions are left" in page.inner_text("#summary-lead")
    page.keyboard.press("3")
    page.click("#go-on")
    assert shown(page) == served.session.items[1].key
    page.click("#stop")
    page.click("#finish")
    page.wait_for_selector("#farewell:not([hidden])")
    served.thread.join(10)
    assert not served.thread.is_alive()
    assert served.summary.progress.decisions == 1
    assert not list(served.folder.glob(".page-*/address.json"))


def test_an_image_that_cannot_be_shown_can_be_passed(serve, visit, monkeypatch):
    served = serve(units=2, each=2, checks=0)
    damaged = served.session.items[1].image
    real = served.page.images.get
    monkeypatch.setattr(served.page.images, "get", lambda image: b"no JPEG" if image == damaged else real(image))
    page = visit(served.url)
    press(page, "1")
    until(page, "() => document.getElementById('stage').textContent === 'This image cannot be shown.'")
    page.keyboard.press("3")
    page.keyboard.press("0")
    assert shown(page) == served.session.items[2].key
    all_saved(page)
    assert on_disk(served.folder, served.session)[0][served.session.items[1].key] == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280), ("dark", 390)])
def test_accessible_and_no_larger_than_the_screen(serve, visit, scheme, width):
    served = serve(units=2, each=2, checks=2)
    page = visit(served.url, guide=True, viewport={"width": width, "height": 844}, color_scheme=scheme)

    def check():
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_faults(page) == []
        small = """[...document.querySelectorAll("button")].filter((one) => one.checkVisibility())
            .map((one) => one.getBoundingClientRect()).filter((box) => box.width < 44 || box.height < 44).length"""
        assert page.evaluate(small) == 0

    assert page.locator("#guide").is_visible()
    check()
    page.click("#guide button")
    shown(page)
    check()
    # All of a decision is on the screen at once.
    assert page.evaluate("document.documentElement.scrollHeight") <= 844
    page.keyboard.press("r")
    until(page, "() => document.querySelector('#known img')?.shown")
    check()
    press(page, "1")
    page.click("#stop")
    page.wait_for_selector("#summary:not([hidden])")
    check()


# In one step, so that nothing happens between the look and the press; returns the key of the item.
PRESS_NOW = f"""(key) => {{
    if (!document.getElementById("notice").hidden || !({READY})()) return null;
    const [item] = document.querySelector("#stage img").src.split("/").slice(-1);
    document.dispatchEvent(new KeyboardEvent("keydown", {{ key, bubbles: true }}));
    return item;
}}"""


@pytest.mark.slow
def test_killed_after_each_of_ten_random_answers_and_started_again(mini, visit, tmp_path):
    folder = tmp_path / "judgments"
    session = new_session(mini, folder)
    served = PageProcess(mini, folder)
    rng, expected = random.Random(2), {}
    try:
        page = visit(served.url)
        for _ in range(10):
            for _ in range(rng.randrange(1, 5)):
                grade = rng.choice("0123")
                expected[press(page, grade)] = int(grade)
            # While the last answer is on its way, or already there.
            page.wait_for_timeout(rng.choice([0, 0, 3, 10, 100]))
            served.kill()
            # One more, which finds nobody; unless the last one has found nobody already.
            grade = rng.choice("0123")
            if item := page.evaluate(PRESS_NOW, grade):
                page.wait_for_selector("#notice:not([hidden])")
                expected[item] = int(grade)
            served.start()
            all_saved(page)
            page.wait_for_selector("#notice", state="hidden")
            assert on_disk(folder, session) == (expected, len(expected))
        assert session_of(mini, folder).position == len(expected)
    finally:
        served.kill()
    visit.problems[:] = [text for text in visit.problems if "net::ERR" not in text]


def test_a_finished_page_has_no_key_anymore(serve, visit):
    served = serve(units=1, each=2, checks=0)
    page = visit(served.url)
    press(page, "1")
    press(page, "1")
    page.click("#finish")
    page.wait_for_selector("#farewell:not([hidden])")
    page.keyboard.press("u")
    page.keyboard.press("1")
    served.thread.join(10)
    assert on_disk(served.folder, served.session)[1] == 2
    assert server.guide()[1] == read_judgments(served.folder).lines[0].guide


def test_an_answer_that_the_program_has_no_use_for_can_be_left_out(serve, visit, monkeypatch):
    served = serve(units=2, each=2, checks=0)
    page = visit(served.url)
    first = shown(page)

    def unknown(*given, **named):
        raise KeyError

    with monkeypatch.context() as patch:
        patch.setattr(served.session, "judgment", unknown)
        page.keyboard.press("1")
        page.wait_for_selector("#notice:not([hidden])")
    assert "no such item" in page.inner_text("#notice")
    page.click("#notice button")
    page.wait_for_selector("#notice", state="hidden")
    assert press(page, "3") == first
    all_saved(page)
    assert on_disk(served.folder, served.session) == ({first: 3}, 1)
    visit.problems[:] = [text for text in visit.problems if "404" not in text]


def test_an_acknowledgement_that_is_cut_off_is_none(serve, visit):
    served = serve(units=2, each=2, checks=0)
    page = visit(served.url)
    first = shown(page)
    page.route("**/api/answer", lambda route: route.fulfill(status=200, body=route.fetch().text()[:9]))
    page.keyboard.press("2")
    page.wait_for_selector("#notice:not([hidden])")
    assert "does not answer" in page.inner_text("#notice")
    assert shown_but_locked(page) == first
    page.unroute("**/api/answer")
    # It tries again by itself.
    page.wait_for_selector("#notice", state="hidden")
    assert shown(page) == served.session.items[1].key
    assert on_disk(served.folder, served.session) == ({first: 2}, 1)


def shown_but_locked(page):
    assert page.locator(".grades [aria-disabled=true]").count() == 4
    return page.locator("#stage img").get_attribute("src").rpartition("/")[2]


def test_nothing_to_judge(serve, visit):
    served = serve(units=1, planned=0)
    page = visit(served.url)
    assert page.inner_text("#summary-title") == "Nothing to judge"
    assert not page.locator("#guide").is_visible()
    assert not page.locator("#go-on").is_visible()
    page.keyboard.press("1")
    page.keyboard.press("u")
    page.keyboard.press("r")
    page.click("#finish")
    served.thread.join(10)
    assert served.summary.progress == (0, 0, 0, 0, None)
