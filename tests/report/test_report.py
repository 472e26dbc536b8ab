"""The page, built from a drawn evaluation set and looked at in a browser."""

import io
import shutil

import pyarrow as pa
import pytest
from PIL import Image

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import CorpusImage, Qrel, Query
from mteb_vehicle_search.eval_set_writer import write_eval_set
from mteb_vehicle_search.report.build import build_report, embed
from mteb_vehicle_search.run_record import write_run_record

HOSTILE = "</script><img src=x onerror=window.hacked=1> \u202b\u05d0 \U0001f697 \u2028 \"'"


@pytest.fixture
def evaluation(tmp_path):
    images = []
    for n in range(12):
        buffer = io.BytesIO()
        Image.new("RGB", (200, 160), (n * 20, 90, 120)).save(buffer, "JPEG")
        row = {"source": "drawn", "split": "", "captioned": n < 3, "class_index": -1, "wnid": "", "vehicle_score": -1.0}
        row |= {
            "class_name": "" if n < 3 else "moped",
            "width": 200,
            "height": 160,
            "sha256": "",
            "perceptual_hash": f"{n * 0x1111111111:016x}",
        }
        images.append(CorpusImage(f"drawn/{n:02}", buffer.getvalue(), row))
    queries = [Query("q0", HOSTILE), Query("q1", "A red bus"), Query("q2", "A blue car")]
    qrels = [Qrel(f"q{n}", f"drawn/{n:02}") for n in range(3)]
    return write_eval_set(tmp_path / "set", name="drawn", title="Drawn", images=images, queries=queries, qrels=qrels)


def record(evaluation, name, ranks):
    tops = []
    for n, rank in enumerate(ranks):
        top = [f"drawn/{i:02}" for i in range(12) if i != n][::-1]
        top.insert(rank - 1, f"drawn/{n:02}")
        tops.append(top[:10])
    table = {
        "query_id": ["q0", "q1", "q2"],
        "relevant_id": [f"drawn/{n:02}" for n in range(3)],
        "rank": pa.array(ranks, pa.int32()),
        "top_ids": tops,
        "top_scores": [[1 - i / 20 for i in range(10)]] * 3,
    }
    info = {
        "model_name": name,
        "model_revision": "1",
        "versions": {},
        "device": "cpu",
        "precision": "fp32",
        "finished": "-",
    }
    write_run_record(evaluation.content_id, name, "1", pa.table(table), info)


def test_needs_a_run_record(evaluation, tmp_path):
    with pytest.raises(ResultsError, match="No run record"):
        build_report(evaluation, tmp_path / "site")


def test_leaves_other_folders_alone(evaluation, tmp_path):
    record(evaluation, "org/a", [1, 2, 5])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(ResultsError, match="other files"):
        build_report(evaluation, tmp_path / "mine")


def test_embedded_json_cannot_end_the_script():
    assert "<" not in embed(HOSTILE)
    assert "\u2028" not in embed(HOSTILE)


def test_page_in_a_browser(evaluation, tmp_path):
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    record(evaluation, "org/a", [4, 1, 2])
    record(evaluation, "org/b", [3, 2, 9])
    build_report(evaluation, tmp_path / "site")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        problems, requests = [], []
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.on("request", lambda r: requests.append(r.url))
        page.goto((tmp_path / "site" / "index.html").as_uri() + "#query=q0")
        page.wait_for_selector("#detail figure")
        assert page.inner_text("#detail .caption").startswith("</script>")
        assert page.evaluate("window.hacked") is None
        assert page.locator("#list li").count() == 2
        page.fill("#text", "blue")
        assert page.locator("#list li").count() == 1
        page.fill("#text", "")
        page.keyboard.press("Tab")
        page.locator("h1").click()
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("j")
        page.wait_for_function("location.hash === '#query=q2'")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("nav").bounding_box()["height"] < 120
        from axe_core_python.sync_playwright import Axe

        grave = [v["id"] for v in Axe().run(page)["violations"] if v["impact"] in ("serious", "critical")]
        assert grave == []
        page.click("#theme")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        browser.close()
    assert problems == []
    assert all(url.startswith(("file:", "data:")) for url in requests)


def test_strengths_follow_the_captions():
    import numpy as np

    from mteb_vehicle_search.report.charts import strengths, vehicle

    assert vehicle("A man on a dirt bike") == "motorcycle"
    assert vehicle("Carpets in a cart") == "none named"
    kinds, _ = strengths(["A red bus", "A blue car", "A bus"], [np.array([1, 50, 3])], [0, 1, 2])
    assert {row["label"]: row["cells"][0].mean for row in kinds["rows"]} == {"bus": pytest.approx(0.75), "car": 0.0}
