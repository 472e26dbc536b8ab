"""Lines on scores that say less than they seem to: of chance, decided by ties, or of captions without their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mteb_vehicle_search.analysis.chance import better_than_chance, random_scores
from mteb_vehicle_search.analysis.ranks import RunRanks

MAIN = "ndcg_at_10"


def of_table(table: dict[str, Any]) -> list[str]:
    """Return the lines below a table of the leaderboard, with the names of the models."""
    at_chance = ", ".join(row["name"] for row in table["rows"] if row["better_than_chance"] is False)
    lines = [f"{_chance((table['chance'] or {}).get(MAIN))}: {at_chance}."] if at_chance else []
    for row in (row for row in table["rows"] if row["imported_from"]):
        lines.append(f"{row['name']}: {_imported(row)}")
    for row in (row for row in table["rows"] if row["tied_queries"]):
        ties = _ties(row["tied_queries"], table["query_count"], row[MAIN], row[f"{MAIN}_if_first"])
        lines.append(f"{row['name']}: {ties}")
    for row in table["rows"]:
        lines += [
            f"{row['name']}: {line}" for line in _cut(row["texts_cut"], table["query_count"], row["context_tokens"])
        ]
    return [*lines, *_corrected(table["rows"])]


def _corrected(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what corrected scores are, and why some rows have none."""
    judged = max((row["corrected_units"] or 0 for row in rows), default=0)
    about = (
        f"Corrected: without the images above the known one that people judged right, by {judged:,} judged captions; "
        "the interval is for further images, judged by people like these."
    )
    models = {row["corrected_predicted_by"].partition("@")[0] for row in rows if row["corrected_predicted_by"]}
    if models:
        about += (
            f" What was not judged is predicted by {', '.join(sorted(models))}, and the judged captions correct that: "
            "predictions narrow intervals, and decide nothing."
        )
    lacking = [f"{row['name']}: not corrected: {row['corrected_why']}." for row in rows if row["corrected_why"]]
    return [*([about] if judged else []), *lacking]


def of_run(run: RunRanks) -> list[str]:
    """Return the lines at the end of a run."""
    lines = [] if better_than_chance([run])[0] else [f"{_chance(random_scores(run)[MAIN])}."]
    as_ranked, if_first = run.scores(MAIN), run.scores_if_first(MAIN)
    if run.tied_queries and if_first is not None:
        ties = _ties(run.tied_queries, len(run.first), float(as_ranked.mean()), float(if_first.mean()))
        lines.append(ties[0].upper() + ties[1:])
    return lines


def of_texts(info: dict[str, Any]) -> list[str]:
    """Return the line on captions that the model read without their end, from the `run.json` of a run."""
    encoder = info.get("encoder") or {}
    return _cut(encoder.get("texts_cut"), encoder.get("texts"), encoder.get("context_tokens"))


def _imported(told: dict[str, Any]) -> str:
    """Return what is to be known of a run that another program made, from a row."""
    line = f"imported from {told['imported_from']}, made elsewhere"
    if told["depth"] is not None:
        line += f", cut off at rank {told['depth']:,}: scores beyond are not known"
    if told["missing_queries"]:
        line += f"; {told['missing_queries']:,} queries are missing and count as 0"
    return f"{line}."


def _cut(cut: int | None, count: int | None, context: int | None) -> list[str]:
    if not (cut and count and context):
        return []
    return [f"{cut:,} of {count:,} captions are longer than the {context} tokens that the model reads, and were cut."]


def _chance(expected: float | None) -> str:
    of_random = "" if expected is None else f", whose nDCG@10 is {expected:.4f}"
    return f"Not shown to be better than chance{of_random}"


def _ties(tied: int, queries: int | None, as_ranked: float | None, if_first: float | None) -> str:
    """Return what ties decide: the nDCG@10 that the relevant images have last among their equals, and first."""
    count = f"all {tied:,}" if tied == queries else f"{tied:,}" if queries is None else f"{tied:,} of {queries:,}"
    line = f"{count} queries hold ties; the relevant image ranks last among its equals"
    if as_ranked is None or if_first is None:
        return f"{line}."
    line += f": nDCG@10 {as_ranked:.4f} as ranked, {if_first:.4f} if first"
    collapsed = tied == queries and (as_ranked, if_first) == (0, 1)
    return f"{line}. Nothing scores above it, as if all vectors were the same." if collapsed else f"{line}."
