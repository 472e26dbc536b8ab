"""The leaderboard as text: every column, every line around the tables, and what strange names become."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import pairwise
from typing import Any

import pytest
from row_fields import NEITHER
from terminals import as_terminal, without_colours

from mteb_vehicle_search.analysis.columns import cells_of, row_columns
from mteb_vehicle_search.analysis.document import reported_fields, violations
from mteb_vehicle_search.analysis.formats import (
    FILES,
    TABLES,
    difference,
    heading,
    reported_heading,
    reported_parts,
    show,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    to_text,
    versions,
)
from mteb_vehicle_search.errors import UsageError
from mteb_vehicle_search.metrics import scored

FULL = {
    "rank": 3,
    "rank_last": 5,
    "name": "org/model[embed_dim=64]",
    "model": "org/model",
    "revision": "0123456789abcdef",
    "options": {"embed_dim": "64"},
    "ndcg_at_10": 0.11111,
    "map_at_10": 0.22222,
    "mrr_at_10": 0.33333,
    "recall_at_1": 0.44444,
    "recall_at_5": 0.55555,
    "recall_at_10": 0.66666,
    "recall_at_100": 0.77777,
    "precision_at_10": 0.88888,
    "ndcg_at_10_ci_low": 0.10101,
    "ndcg_at_10_ci_high": 0.12121,
    "ndcg_at_10_ci_images": 200,
    "median_rank": 7.5,
    "better_than_chance": True,
    "tied_queries": 0,
    "ndcg_at_10_if_first": 0.11111,
    "texts_cut": 0,
    "context_tokens": 77,
    **NEITHER,
    "n_parameters": 149_620_737,
    "embed_dim": 512,
    "precision": "bf16",
    "preprocess": "fast",
    "device": "cuda",
    "images_per_s": 1234.5,
    "date": "2026-11-01T10:05:00+00:00",
    "versions": {"mteb": "2.26", "torch": "2.9"},
    "license": "mit",
    "flickr30k_in_training": True,
    "imported_from": None,
    "depth": None,
    "missing_queries": None,
    "has_run_record": True,
}
SHOWN = {
    "rank": "3–5",
    "model": "org/model[embed_dim=64]",
    "nDCG@10": "0.1111",
    "95 % interval": "0.1010–0.1212",
    "R@1": "0.4444",
    "R@10": "0.6667",
    "median rank": "7.5",
    "MAP@10": "0.2222",
    "MRR@10": "0.3333",
    "R@5": "0.5555",
    "R@100": "0.7778",
    "P@10": "0.8889",
    "revision": "0123456789ab",
    "parameters": "150 M",
    "dimension": "512",
    "precision": "bf16",
    "preprocess": "fast",
    "device": "cuda",
    "images/s": "1,234",
    "date": "2026-11-01",
    "license": "mit",
    "Flickr30k seen": "yes",
}
EMPTY = {
    **dict.fromkeys(FULL),
    "name": "org/empty",
    "model": "org/empty",
    "revision": "main",
    "options": {},
    "versions": {},
    "has_run_record": False,
}
LEFT = {"model", "revision", "precision", "preprocess", "device", "license", "Flickr30k seen"}
COLUMNS = {cell.heading: cell.text for cell in cells_of("who", "scores", "run")}


def headings(*tables: str) -> list[str]:
    return [cell.heading for cell in cells_of(*tables)]


def table(content_id: str = "5" * 64, rows: list[dict] | None = None, **changed: Any) -> dict[str, Any]:
    given = {
        "task": "VehicleImageSearch",
        "title": "VehicleImageSearch",
        "content_id": content_id,
        "images_id": None,
        "sources_id": None,
        "corpus_size": 68_154,
        "query_count": 10_725,
        "sources": {"flickr30k": 2_145, "imagenet": 66_009},
        "one_relevant": None,
        "chance": None,
        "rows": [FULL] if rows is None else rows,
    }
    return {**given, **({"title": changed["task"]} if "task" in changed else {}), **changed}


SIZES = {"corpus_size": 68_154, "query_count": 10_725}


def figure(model: str, task: str = "VehicleImageSearch", source: str = "a paper", **scores: Any) -> dict[str, Any]:
    of_set = {"corpus_size": None, "query_count": None, "content_id": None}
    return {"task": task, **of_set, "model": model, "source": source, **dict.fromkeys(scored()), **scores}


def document(*tables: dict, reported: list[dict] | None = None) -> dict[str, Any]:
    return {"schema_version": 2, "sorted_by": "ndcg_at_10", "tables": list(tables), "reported": reported or []}


def test_every_column_shows_its_field():
    assert {name: cell(FULL) for name, cell in COLUMNS.items()} == SHOWN
    assert list(COLUMNS) == list(SHOWN)
    assert violations(document(table())) == []


def test_what_is_not_known_is_a_dash():
    shown = {name: cell(EMPTY) for name, cell in COLUMNS.items()}
    assert shown == {
        **dict.fromkeys(SHOWN, "–"),
        "model": "org/empty",
        "revision": "main",
        "Flickr30k seen": "unknown",
    }


@pytest.mark.parametrize(
    ("column", "changed", "shown"),
    [
        ("95 % interval", {"ndcg_at_10_ci_low": None}, "–"),
        ("95 % interval", {"ndcg_at_10_ci_high": None}, "–"),
        ("95 % interval", {"ndcg_at_10_ci_low": None, "ndcg_at_10_ci_images": 4}, "– (too few images: 4)"),
        ("95 % interval", {"ndcg_at_10_ci_low": 0.0, "ndcg_at_10_ci_images": None}, "0.0000–0.1212"),
        ("nDCG@10", {"ndcg_at_10": 0.0}, "0.0000"),
        ("median rank", {"median_rank": 12.0}, "12"),
        ("parameters", {"n_parameters": 0}, "0"),
        ("parameters", {"n_parameters": 1_234_567}, "1.2 M"),
        ("parameters", {"n_parameters": 9_999_999}, "10.0 M"),
        ("parameters", {"n_parameters": 10_000_000}, "10 M"),
        ("parameters", {"n_parameters": 2_543_000_000}, "2,543 M"),
        ("Flickr30k seen", {"flickr30k_in_training": False}, "no"),
        ("date", {"date": "soon"}, "soon"),
    ],
)
def test_cells_at_their_limits(column, changed, shown):
    assert COLUMNS[column]({**FULL, **changed}) == shown


def test_a_heading_has_the_sizes_that_are_known():
    assert heading(table()) == "VehicleImageSearch · content id 555555555555 · 68,154 images · 10,725 queries"
    assert heading(table(corpus_size=None)) == "VehicleImageSearch · content id 555555555555 · 10,725 queries"
    assert heading(table(query_count=None)) == "VehicleImageSearch · content id 555555555555 · 68,154 images"


def test_a_heading_has_the_title_and_the_task_where_they_differ():
    one = table(title="Dogs & <Cats>", task="DogImageSearch")
    start = "Dogs & <Cats> · DogImageSearch · content id 555555555555"
    assert heading(one) == f"{start} · 68,154 images · 10,725 queries"
    other = {**one, "images_id": "7" * 64}
    assert heading(other, [one]) == heading(one)
    assert heading(other, [one, other]).startswith(f"{start} · images id 777777777777 · ")
    assert heading(one, [one, other]).startswith(f"{start} · images id unknown · ")


def test_the_heading_of_published_figures_names_their_set():
    assert reported_heading([figure("a", "B")]) == "B · reported elsewhere, not ranked"
    assert reported_heading([figure("a", "B", **SIZES)]) == (
        "B · 68,154 images · 10,725 queries · reported elsewhere, not ranked"
    )


class TestWherePublishedFiguresStand:
    """`reported_parts`: beside the table of the very same set, or by themselves."""

    @pytest.mark.parametrize(
        ("changed", "beside"),
        [
            ({}, True),
            ({"content_id": "5" * 64}, True),
            ({"content_id": "6" * 64}, False),
            ({"task": "VehicleImageSearchMini"}, False),
            ({"corpus_size": 2_000}, False),
            ({"query_count": 1_000}, False),
            ({"corpus_size": None}, False),
            ({"query_count": None}, False),
            ({"corpus_size": None, "query_count": None}, False),
        ],
    )
    def test_a_figure_stands_beside_its_own_set_only(self, changed, beside):
        row = {**figure("M", ndcg_at_10=0.5, **SIZES), **changed}
        own = table()
        assert reported_parts(document(own, reported=[row])) == [(own if beside else None, [row])]

    def test_a_table_of_unknown_size_has_none(self):
        row = figure("M", ndcg_at_10=0.5)
        given = document(table(corpus_size=None, query_count=None), reported=[row])
        assert reported_parts(given) == [(None, [row])]

    def test_figures_of_several_sets_stand_apart(self):
        rows = [figure("a", "B"), figure("b", "A"), figure("c", "B"), figure("d", "B", **SIZES)]
        found = reported_parts(document(reported=rows))
        assert [[row["model"] for row in part] for _, part in found] == [["a", "c"], ["b"], ["d"]]

    def test_they_follow_their_table(self, capsys, monkeypatch):
        rows = [figure("M", ndcg_at_10=0.5, **SIZES), figure("N", "Other", ndcg_at_10=0.25)]
        given = document(table(), table("6" * 64, task="Z"), reported=rows)
        for text in (to_markdown(given), "\n".join(map(" ".join, shown(given, capsys, monkeypatch)))):
            places = [text.index(words) for words in ("M (reported)", "Z · content id 666", "N (reported)")]
            assert places == sorted(places)


class TestHowSetsDiffer:
    """`difference`: a line under every table but the first of its task."""

    def test_the_first_of_a_task_differs_from_nothing(self):
        tables = [table("1" * 64, task="A"), table("2" * 64, task="B")]
        assert [difference(tables, one) for one in tables] == [None, None]
        # Another table of the same content is not that very table.
        assert "another content id" not in str(difference([tables[0], dict(tables[0])], tables[0]))

    def test_sources_and_queries_that_differ_are_counted(self):
        first = table("1" * 64, task="B", sources={"a": 1_000, "b": 5, "c": 7}, query_count=1_500)
        second = table("2" * 64, task="B", sources={"a": 2_000, "b": 5, "d": 9}, query_count=20)
        tables = [table("0" * 64, task="A"), first, second]
        assert difference(tables, second) == (
            "Not comparable with the table of content id 111111111111: a 1,000 there, 2,000 here; c 7 there, 0 here; "
            "d 0 there, 9 here; 1,500 queries there, 20 here."
        )

    def test_equal_sizes_leave_the_content(self):
        first, second = table("1" * 64), table("2" * 64)
        assert difference([first, second], second) == (
            "Not comparable with the table of content id 111111111111: as many images and queries, but other images, "
            "captions or image policy."
        )

    @pytest.mark.parametrize(("one", "other"), [(None, {"a": 1}), ({"a": 1}, None), (None, None)])
    def test_without_sources_it_cannot_be_said(self, one, other):
        first, second = table("1" * 64, sources=one), table("2" * 64, sources=other)
        assert difference([first, second], second) == (
            "Not comparable with the table of content id 111111111111: another content id; without run records it "
            "cannot be said what differs."
        )

    @pytest.mark.parametrize(
        ("there", "here", "what"),
        [
            (("a", "s"), ("b", "s"), "the same photographs encoded otherwise"),
            (("a", "s"), ("b", "t"), "other images"),
            (("a", "s"), ("b", None), "other pixels (whether of the same photographs is not written down)"),
            (("a", "s"), (None, None), "which images were searched is not written down"),
        ],
    )
    def test_other_pixels_under_one_content_id_are_told(self, there, here, what):
        tables = [
            table(task=task, images_id=images and images * 64, sources_id=sources)
            for task, (images, sources) in (("A", there), ("B", here))
        ]
        assert difference(tables, tables[1]) == (
            f"Not comparable with the table of images id aaaaaaaaaaaa: one content id, but {what}."
        )


def test_versions_stand_once_and_name_their_models_if_they_differ():
    other = {**FULL, "name": "org/other", "versions": {"mteb": "2.27"}}
    again = {**FULL, "name": "org/again"}
    assert versions([FULL, again]) == ["Versions: mteb 2.26, torch 2.9."]
    assert versions([FULL, other, again, EMPTY]) == [
        "Versions (org/model[embed_dim=64], org/again): mteb 2.26, torch 2.9.",
        "Versions (org/other): mteb 2.27.",
    ]
    assert versions([EMPTY]) == []


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Return the tables of a Markdown text: rows of cells, the second row with the alignments."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif found[-1]:
            found.append([])
    return [one for one in found if one]


def test_markdown_has_every_column_in_two_tables():
    text = to_markdown(document(table(rows=[FULL, EMPTY])))
    scores, made = markdown_tables(text)
    assert scores[0] == headings("who", "scores")
    assert made[0] == ["model", *headings("run")]
    for one in (scores, made):
        assert one[1] == ["---" if name in LEFT else "---:" for name in one[0]]
        assert one[2] == [SHOWN[name].replace("[", r"\[").replace("]", r"\]") for name in one[0]]
        assert one[3] == [COLUMNS[name](EMPTY) for name in one[0]]
        assert len(one) == 4
    lines = text.splitlines()
    assert lines[0] == "**VehicleImageSearch · content id 555555555555 · 68,154 images · 10,725 queries**"
    assert r"Versions (org/model\[embed_dim=64\]): mteb 2.26, torch 2.9." in lines
    # Blank lines around every table, none at the end.
    for before, after in pairwise(lines):
        assert before.startswith("|") == after.startswith("|") or "" in (before, after)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_names_are_aligned_to_the_left_and_figures_to_the_right():
    assert {cell.heading for cell in cells_of("who", "scores", "run") if cell.left} == LEFT


def test_markdown_names_differences_and_published_figures():
    reported = [figure("M", ndcg_at_10=0.5, recall_at_100=0.75), figure("N", source="b*d", ndcg_at_10=0.25)]
    text = to_markdown(document(table("1" * 64), table("2" * 64), reported=reported))
    lines = text.splitlines()
    assert difference([table("1" * 64), table("2" * 64)], table("2" * 64)) in lines
    assert "**VehicleImageSearch · reported elsewhere, not ranked**" in lines
    published = markdown_tables(text)[-1]
    assert published == [
        ["model", "nDCG@10", "R@100"],
        ["---", "---:", "---:"],
        ["M (reported)", "0.5000", "0.7500"],
        ["N (reported)", "0.2500", "–"],
    ]
    assert r"Reported by: a paper, b\*d." in lines
    for before, after in pairwise(lines):
        assert "" in (before, after) or before.startswith("|")


def test_markdown_of_published_figures_alone():
    text = to_markdown(document(reported=[figure("M", map_at_10=0.5)]))
    assert text.splitlines()[0] == "**VehicleImageSearch · reported elsewhere, not ranked**"
    assert text.splitlines()[-1] == "Reported by: a paper."
    assert "Holm" not in text
    assert "Holm" in to_markdown(document(table())).splitlines()[-1]
    assert "Reported" not in to_markdown(document(table()))


def test_a_strange_name_stays_one_cell_of_text():
    name = "a\\b|c<i>*d*`e`\n f\t g"
    text = to_markdown(document(table(rows=[{**FULL, "name": name}])))
    (row, _) = (one[2] for one in markdown_tables(text))
    assert row[1] == r"a\\b\|c&lt;i>\*d\*\`e\` f g"


@pytest.mark.parametrize("scheme", ["javascript", "data", "vbscript", "file", "https"])
def test_no_text_is_a_link_under_another_name(scheme):
    """What Markdown makes of every text of a document: nothing but text, and addresses that show where they lead."""
    bad = f"[click]({scheme}:alert(1)) ![x]({scheme}:y) <{scheme}:z> [a][b]\n\n[b]: {scheme}:c"
    row = {**FULL, "name": bad, "license": bad, "device": bad, "revision": bad, "versions": {bad: bad}}
    made = to_markdown(
        document(
            table(rows=[row], title=bad, task=bad, sources={bad: 1}), reported=[figure(bad, bad, bad, map_at_10=1)]
        )
    )
    links = re.findall(r"(?<!\\)\]|^\[|<", made, flags=re.MULTILINE)
    assert links == []


def test_csv_has_every_field_of_rows_and_published_figures():
    reported = [figure("M", ndcg_at_10=0.5)]
    text = to_csv(document(table("1" * 64), table("2" * 64, rows=[EMPTY], task="T"), reported=reported))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == [
        *("task", "title", "content_id", "images_id", *row_columns(), "source", "corpus_size", "query_count")
    ]
    of_table = {"images_id": "", "corpus_size": "68154", "query_count": "10725", "source": ""}
    assert rows[0] == {
        "task": "VehicleImageSearch",
        "title": "VehicleImageSearch",
        "content_id": "1" * 64,
        **{name: "" if value is None else str(value) for name, value in FULL.items()},
        "options": "embed_dim=64",
        "versions": "mteb=2.26 torch=2.9",
        **of_table,
    }
    blank = {name: "" if value is None else str(value) for name, value in EMPTY.items()}
    named = {"task": "T", "title": "T", "content_id": "2" * 64}
    assert rows[1] == {**named, **blank, "options": "", "versions": "", **of_table}
    assert {name: rows[2][name] for name in ("task", "content_id", "model", "source", "ndcg_at_10", "map_at_10")} == {
        "task": "VehicleImageSearch",
        "content_id": "",
        "model": "M",
        "source": "a paper",
        "ndcg_at_10": "0.5",
        "map_at_10": "",
    }
    assert len(rows) == 3
    assert set(reported_fields()) < set(rows[2])
    assert text.count("\n") == 4
    assert "\r" not in text


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_text_of_the_csv_is_a_formula_and_figures_are_as_they_are(start):
    bad = f"{start}cmd|' /C calc'!A0"
    row = {**FULL, "name": bad, "model": bad, "device": bad, "options": {bad: "1"}, "versions": {bad: bad}}
    row |= {"median_rank": -1.5, "images_per_s": -2}
    reported = [figure(bad, bad, bad, ndcg_at_10=0.5)]
    text = to_csv(document(table(rows=[row], task=bad), reported=reported))
    made = list(csv.reader(io.StringIO(text, newline="")))
    cells = [cell for line in made[1:] for cell in line]
    assert [cell for cell in cells if cell.startswith(start) and not re.fullmatch(r"-[\d.]+", cell)] == []
    assert cells.count(f"'{bad}".replace("\r", " ")) == 3 + 2 + 3
    assert "-1.5" in cells
    assert "-2" in cells


def test_json_is_the_document_in_strict_readable_json():
    given = document(table(rows=[{**FULL, "name": "größer"}]))
    text = to_json(given)
    assert json.loads(text, parse_constant=pytest.fail) == given
    assert "größer" in text
    assert text.endswith("}\n")
    assert '\n  "tables": [' in text
    with pytest.raises(ValueError):
        to_json(document(table(rows=[{**FULL, "ndcg_at_10": float("nan")}])))


def test_the_name_of_each_format():
    given = document(table())
    tables = {"table": to_markdown, "markdown": to_markdown, "latex": to_latex}
    files = {"json": to_json, "csv": to_csv}
    assert (tables, files) == (TABLES, FILES)
    assert all(to_text(given, name, ["date"]) == write(given, ["date"]) for name, write in tables.items())
    assert all(to_text(given, name) == write(given) for name, write in files.items())


@pytest.mark.parametrize("form", FILES)
def test_files_have_all_fields_and_take_no_choice(form):
    with pytest.raises(UsageError, match=f"{form} has all fields"):
        to_text(document(table()), form, ["date"])


def test_latex_has_the_headlines_and_names_as_text():
    given = document(table(rows=[{**FULL, "name": "a_b&c%$#{}~^\\<x>"}]), reported=[figure("M", ndcg_at_10=0.5)])
    lines = to_latex(given).splitlines()
    assert lines[:2] == [r"% needs \usepackage{booktabs}", f"% {heading(table())}"]
    assert r"\begin{tabular}{rlrrrrr}" in lines
    assert r"rank & model & nDCG@10 & 95 \% interval & R@1 & R@10 & median rank \\" in lines
    name = r"a\_b\&c\%\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}x\textgreater{}"
    assert rf"3--5 & {name} & 0.1111 & 0.1010--0.1212 & 0.4444 & 0.6667 & 7.5 \\" in lines
    assert lines[-5:-1] == [r"model & nDCG@10 \\", r"\midrule", r"M (reported) & 0.5000 \\", r"\bottomrule"]
    assert all(line.startswith(("%", "\\")) or line.endswith(r"\\") for line in lines if line)
    assert to_latex(given).endswith("\\end{tabular}\n")


def test_columns_that_somebody_names_stand_in_one_table_in_that_order():
    given = document(table(rows=[FULL]))
    (found,) = markdown_tables(to_markdown(given, ["date", "ndcg_at_10_ci", "date", "mrr_at_10"]))
    assert found[0] == ["rank", "model", "date", "95 % interval", "MRR@10"]
    assert found[2] == [
        "3–5",
        r"org/model\[embed\_dim=64\]".replace(r"\_", "_"),
        "2026-11-01",
        "0.1010–0.1212",
        "0.3333",
    ]
    assert r"rank & model & R@5 \\" in to_latex(given, ["recall_at_5"])
    with pytest.raises(UsageError, match="no column 'mrr'") as raised:
        to_markdown(given, ["mrr"])
    assert "mrr_at_10" in str(raised.value)


def shown(given: dict[str, Any], capsys, monkeypatch, width: int = 400) -> list[list[str]]:
    as_terminal(monkeypatch, width)
    show(given)
    return [re.split(r"\s{2,}", line.strip()) for line in without_colours(capsys.readouterr().out)]


def test_the_terminal_shows_every_column_of_every_row(capsys, monkeypatch):
    lines = shown(document(table(rows=[FULL, EMPTY])), capsys, monkeypatch)
    assert lines[0] == [heading(table())]
    assert lines[1] == list(SHOWN)
    assert lines[2] == list(SHOWN.values())
    assert lines[3] == [cell(EMPTY) for cell in COLUMNS.values()]
    assert lines[4] == ["Versions (org/model[embed_dim=64]): mteb 2.26, torch 2.9."]
    assert lines[5] == [""]
    assert "Holm" in lines[6][0]
    assert len(lines) == 7


def test_the_terminal_names_differences_and_published_figures(capsys, monkeypatch):
    tables = [table("1" * 64, rows=[EMPTY]), table("2" * 64, rows=[EMPTY])]
    reported = [figure("M", ndcg_at_10=0.5, recall_at_100=0.75), figure("N", ndcg_at_10=0.25)]
    lines = shown(document(*tables, reported=reported), capsys, monkeypatch)
    assert lines.count([difference(tables, tables[1])]) == 1
    at = lines.index(["VehicleImageSearch · reported elsewhere, not ranked"])
    assert lines[at + 1 : at + 4] == [
        ["model", "nDCG@10", "R@100"],
        ["M (reported)", "0.5000", "0.7500"],
        ["N (reported)", "0.2500", "–"],
    ]
    alone = shown(document(reported=reported), capsys, monkeypatch)
    assert alone == [*lines[at : at + 4], [""]]
    assert not any("reported" in line[0] for line in shown(document(table()), capsys, monkeypatch))


HEADLINES = ["rank", "model", "nDCG@10", "95 % interval", "R@1", "R@10", "median rank"]
LONG = "some-organisation/some-model-with-a-rather-long-name[embed_dim=64]"


def many(count: int = 20) -> dict[str, Any]:
    rows = [{**FULL, "name": f"org/model-{at}", "rank": at, "rank_last": at} for at in range(1, count)]
    return document(table(rows=[*rows, {**FULL, "name": LONG}], one_relevant=True))


def test_a_narrow_terminal_has_the_headlines_and_names_what_it_has_no_room_for(capsys, monkeypatch):
    as_terminal(monkeypatch, 80)
    show(many())
    lines = without_colours(capsys.readouterr().out)
    assert re.split(r"\s{2,}", lines[1]) == HEADLINES
    assert sum(line.count("0.1010–0.1212") for line in lines) == 20
    assert max(map(len, lines)) <= 80
    # The long name is whole, on lines of its own.
    at = next(at for at, line in enumerate(lines) if "some-organisation/" in line)
    assert "".join(line[6:27].split("  ")[0] for line in lines[at : at + 4]) == LONG
    said = " ".join(lines)
    assert "No room here for MAP@10, R@5, R@100, revision, parameters" in said
    assert "MRR@10" not in said, "a copy of another column"


def test_a_wider_terminal_has_more_columns_in_their_order(capsys, monkeypatch):
    as_terminal(monkeypatch, 135)
    show(many(3))
    lines = without_colours(capsys.readouterr().out)
    assert re.split(r"\s{2,}", lines[1]) == [*HEADLINES, "MAP@10"]
    assert any(LONG in line for line in lines)


def test_a_pipe_gets_whole_tables_whatever_the_width_of_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    show(many())
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert re.split(r"\s{2,}", lines[1]) == [name for name in SHOWN if name not in ("MRR@10", "P@10")]
    assert re.split(r"\s{2,}", lines[21].strip())[1] == LONG
    assert "No room" not in " ".join(lines)


def test_columns_that_are_named_are_all_shown(capsys, monkeypatch):
    as_terminal(monkeypatch, 80)
    show(
        many(), ["date", "mrr_at_10", *["recall_at_5", "device", "license", "precision", "preprocess", "images_per_s"]]
    )
    lines = without_colours(capsys.readouterr().out)
    found = ["rank", "model", "date", "MRR@10", "R@5", "device", "license", "precision", "preprocess", "images/s"]
    assert re.split(r"\s{2,}", lines[1]) == found
    assert "No room" not in " ".join(lines)
