"""What the page shows, gathered from run records and the evaluation set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.run_record import RunRecord

BLOCK = 256
NEAR_DUPLICATE_BITS = 6


class ReportData(NamedTuple):
    """Everything that is written.

    Attributes:
        leaderboard: One dict per model, best first.
        core: What the page needs at once: captions, ranks, best wrong image; images by number.
        blocks: Top ten and scores, `BLOCK` queries each.
        suspects: Lists "agreed", "near" of [query, image, number], and "same" of lists of queries.
        shown: Ids of the images, in the order of their numbers.
        growth: See `charts.growth_curves`.
        strengths: See `charts.strengths`.
    """

    leaderboard: list[dict[str, Any]]
    core: dict[str, Any]
    blocks: list[dict[str, Any]]
    suspects: dict[str, Any]
    shown: list[str]
    growth: list[dict[str, Any]]
    strengths: list[dict[str, Any]]


def gather(evaluation: EvalSet, runs: Path | None) -> ReportData:
    """Read all run records of the evaluation set.

    Raises:
        ResultsError: There is none, or they answer different queries.
    """
    from mteb_vehicle_search.analysis.uncertainty import clustered_interval
    from mteb_vehicle_search.outcome import ndcg_at_10
    from mteb_vehicle_search.report.charts import growth_curves, strengths

    records = RunRecord.find(runs, evaluation.content_id)
    if not records:
        hint = "Run a model first, such as 'mteb run -t VehicleImageSearchMini -m vehicle-search/tiny-clip'."
        raise ResultsError(f"No run record of content id {evaluation.content_id} for {evaluation.folder}.", hint)
    models = []
    for record in records:
        table = record.queries()
        ranks = table["rank"].to_numpy()
        ndcg = clustered_interval(ndcg_at_10(ranks), table["relevant_id"].to_numpy(zero_copy_only=False))
        models.append((ndcg, record, table, ranks))
    models.sort(key=lambda model: (-model[0].mean, model[1].folder.name))
    first = models[0][2]
    for _, record, table, _ in models:
        if table["query_id"] != first["query_id"] or table["relevant_id"] != first["relevant_id"]:
            raise ResultsError(f"{record.folder} answers other queries than {models[0][1].folder}.")
    query_ids, relevant = first["query_id"].to_pylist(), first["relevant_id"].to_pylist()
    tops = [table["top_ids"].to_pylist() for _, _, table, _ in models]
    shown = sorted({*relevant, *(i for top in tops for ids in top for i in ids)})
    number = {image: n for n, image in enumerate(shown)}
    facts = {row["corpus-id"]: row for row in evaluation.provenance().to_pylist() if row["corpus-id"] in number}
    texts = {query.id: query.text for query in evaluation.queries()}
    of_query: dict[str, set[str]] = {}
    for query, image in zip(query_ids, relevant):
        of_query.setdefault(query, set()).add(image)
    wrong = [
        [next((number[i] for i in ids if i not in of_query[query]), -1) for query, ids in zip(query_ids, top)]
        for top in tops
    ]
    core = {
        "block": BLOCK,
        "models": [record.info["model_name"] for _, record, _, _ in models],
        "ids": query_ids,
        "texts": [texts.get(query, "") for query in query_ids],
        "relevant": [number[image] for image in relevant],
        "ranks": [ranks.tolist() for _, _, _, ranks in models],
        "wrong": wrong,
        "images": shown,
        "labels": [_label(facts.get(image)) for image in shown],
    }
    blocks = [
        {
            "top": [[[number[i] for i in ids] for ids in top[at : at + BLOCK]] for top in tops],
            "scores": [
                [[round(s, 4) for s in scores] for scores in table["top_scores"][at : at + BLOCK].to_pylist()]
                for _, _, table, _ in models
            ],
        }
        for at in range(0, len(query_ids), BLOCK)
    ]
    rows = [
        {
            "model": record.info["model_name"],
            "revision": record.info.get("model_revision") or "",
            "ndcg": ndcg,
            "recall": [float((ranks <= k).mean()) for k in (1, 5, 10, 100)],
            "mrr": float(((ranks <= 10) / ranks).mean()),
            "median": float(_median(ranks)),
            "info": record.info,
        }
        for ndcg, record, _, ranks in models
    ]
    curves = growth_curves([record for _, record, _, _ in models])
    tables = strengths(core["texts"], [ranks for _, _, _, ranks in models], core["relevant"])
    return ReportData(rows, core, blocks, _suspects(core, blocks, facts), shown, curves, tables)


def _median(ranks: Any) -> float:
    import numpy as np

    return float(np.median(ranks))


def _label(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return row["class_name"].split(",")[0] or ("captioned" if row["captioned"] else row["source"])


def _suspects(core: dict[str, Any], blocks: list[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    """Find likely false negatives: models that agree on a wrong image, near duplicates, equal captions."""
    hashes = [int(facts[image]["perceptual_hash"] or "0", 16) if image in facts else 0 for image in core["images"]]
    agreed, near = [], []
    same: dict[str, list[int]] = {}
    for query, relevant in enumerate(core["relevant"]):
        same.setdefault(" ".join(core["texts"][query].casefold().split()).rstrip(" ."), []).append(query)
        first = [w[query] for w, ranks in zip(core["wrong"], core["ranks"]) if ranks[query] > 1]
        for image in sorted(set(first)):
            if first.count(image) >= 2:
                agreed.append([query, image, first.count(image)])
        block = blocks[query // BLOCK]
        shown = {image for top in block["top"] for image in top[query % BLOCK]} - {relevant}
        for image in sorted(shown):
            bits = (hashes[image] ^ hashes[relevant]).bit_count()
            if bits <= NEAR_DUPLICATE_BITS:
                near.append([query, image, bits])
    agreed.sort(key=lambda row: (-row[2], row[0]))
    near.sort(key=lambda row: (row[2], row[0]))
    groups = [g for g in same.values() if len({core["ids"][q] for q in g}) > 1]
    return {"agreed": agreed, "near": near, "same": groups}
