"""Whole builds from small data: content, determinism, stages, rejects, duplicates."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_sources import (
    NAMES,
    VEHICLES,
    jpeg,
    picture,
    train_classifier,
    write_flickr30k,
    write_imagenet,
    write_preset,
)

from data_prep.build import BuildOptions, build
from data_prep.preset import load_preset
from data_prep.progress import Reporter
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.verification import verify

CAPTIONED, TRAIN, VAL = 40, 15, 3
KEPT = CAPTIONED * 3 // 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with Flickr30k, ImageNet, a classifier and a preset."""
    folder = tmp_path_factory.mktemp("data")
    write_flickr30k(folder / "flickr30k", CAPTIONED)
    write_imagenet(folder / "imagenet", TRAIN, VAL)
    train_classifier(folder / "classifier")
    write_preset(folder)
    return folder


@pytest.fixture
def private(data, tmp_path):
    """The same data, linked into a folder of its own, so that a test may change files."""
    for path in data.rglob("*"):
        target = tmp_path / "data" / path.relative_to(data)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    return tmp_path / "data"


def options(data: Path, out: Path, **changes) -> BuildOptions:
    base = BuildOptions(
        load_preset(str(data / "carts.toml")),
        out,
        str(data / "flickr30k"),
        str(data / "imagenet"),
        workers=2,
        device="cpu",
    )
    return replace(base, **changes)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def overwrite(path: Path, content: bytes) -> None:
    """Replace a file that may be a hard link."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def built(data, tmp_path_factory):
    """An uninterrupted build."""
    return build(options(data, tmp_path_factory.mktemp("built") / "carts"), Reporter(quiet=True))


def test_build_holds_what_the_preset_asks_for(built):
    counts = built.manifest["notes"]["counts"]
    assert counts["captioned"] == KEPT
    assert counts["distractors"] == len(VEHICLES) * (TRAIN + VAL)
    assert counts["queries"] == 5 * KEPT
    assert verify(built.folder, progress=False).violations == []
    kept = {identifier for identifier in built.corpus_ids() if identifier.startswith("flickr30k/")}
    assert kept == {f"flickr30k/{1000 + n}" for n in range(CAPTIONED) if n % 4 in VEHICLES}
    assert [q.text for q in built.queries() if q.id == "1002_caption_04"] == ["A blue cart."]
    assert built.rejected().num_rows == 0


def test_provenance_says_where_each_image_comes_from(built):
    rows = {row["corpus-id"]: row for row in built.provenance().to_pylist()}
    distractor = rows["imagenet/train/n01443537_4"]
    wanted = {"source": "imagenet", "split": "train", "class_index": 1, "class_name": NAMES[1], "captioned": False}
    assert {key: distractor[key] for key in wanted} == wanted
    assert (distractor["width"], distractor["height"], distractor["vehicle_score"]) == (300, 220, -1)
    assert rows["flickr30k/1000"]["vehicle_score"] > 0.6
    assert rows["flickr30k/1008"]["split"] == "val"


def test_card_tells_counts_terms_and_contamination(built):
    card = (built.folder / "README.md").read_text(encoding="utf-8")
    for text in ("non-commercial", "| queries | 150 |", "18 train", "False negatives", "Cite the sources"):
        assert text in card


def test_two_builds_give_the_same_bytes(data, built, tmp_path):
    other = build(options(data, tmp_path / "carts"), Reporter(quiet=True))
    assert digest(other.folder) == digest(built.folder)


def test_second_run_does_nothing(private, tmp_path, monkeypatch):
    chosen = options(private, tmp_path / "carts")
    first = digest(build(chosen, Reporter(quiet=True)).folder)
    forbidden = "finished work was done again"
    for name in ("build.write_part", "export.near_pairs", "export.write_eval_set"):
        monkeypatch.setattr(f"data_prep.{name}", lambda *a, **k: pytest.fail(forbidden))
    monkeypatch.setattr("data_prep.scorers.load_scorer", lambda *a: pytest.fail(forbidden))
    reporter = Reporter(quiet=True)
    assert digest(build(chosen, reporter).folder) == first
    assert not any("stale" in message for message in reporter.messages)


def test_changed_threshold_needs_no_second_classification(private, tmp_path, monkeypatch):
    build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    write_preset(private, changes={"threshold = 0.6": "share = 0.5", "max_distance = 2": "max_distance = 1"})
    monkeypatch.setattr("data_prep.scorers.load_scorer", lambda *a: pytest.fail("classified again"))
    reporter = Reporter(quiet=True)
    changed = build(options(private, tmp_path / "carts"), reporter)
    assert changed.manifest["notes"]["counts"]["captioned"] == CAPTIONED // 2
    stale = [message for message in reporter.messages if "stale" in message]
    assert any("'select' is stale" in m and "rule.threshold was 0.6, is null" in m for m in stale)
    assert not any("'distractors'" in message for message in stale)


def test_rebuilding_a_stage_is_possible(private, tmp_path):
    chosen = options(private, tmp_path / "carts")
    first = digest(build(chosen, Reporter(quiet=True)).folder)
    marker = chosen.work / "stages" / "captioned.json"
    before = marker.stat().st_ino
    assert digest(build(replace(chosen, rebuild=("captioned",)), Reporter(quiet=True)).folder) == first
    assert marker.stat().st_ino != before


def test_odd_but_good_files_are_kept(private, tmp_path):
    folder = private / "imagenet" / "train" / "n01440764"
    image = picture(0, 77)
    overwrite(folder / "n01440764_0.JPEG", jpeg(image.convert("CMYK")))
    overwrite(folder / "n01440764_1.JPEG", jpeg(image.convert("L")))
    image.save(tmp_path / "x.png")
    overwrite(folder / "n01440764_2.JPEG", (tmp_path / "x.png").read_bytes())
    overwrite(folder / "n01440764_3.JPEG", jpeg(image, exif=b"Exif\x00\x00broken"))
    evaluation = build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    assert {f"imagenet/train/n01440764_{n}" for n in range(2)} <= set(evaluation.corpus_ids())
    assert all(row["stage"] == "duplicates" for row in evaluation.rejected().to_pylist())


def test_jpegs_that_the_decoder_complained_of_are_named(private, tmp_path):
    path = private / "imagenet" / "train" / "n01440764" / "n01440764_0.JPEG"
    overwrite(path, path.read_bytes()[:-2] + b"some more" + b"\xff\xd9")
    evaluation = build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    name = "imagenet/train/n01440764_0"
    assert name in evaluation.corpus_ids()
    warnings = evaluation.manifest["notes"]["warnings"]
    assert list(warnings) == [name]
    assert warnings[name].endswith("extraneous bytes before marker 0xd9")
    assert "| JPEGs kept although the decoder complained | 1 |" in (evaluation.folder / "README.md").read_text("utf-8")


def test_too_many_rejects_stop_the_build(private, tmp_path):
    for number in range(1000, 1003):
        overwrite(private / "flickr30k" / "flickr30k-images" / f"{number}.jpg", b"")
    with pytest.raises(BuildError, match=r"3 of 40 inputs were refused, more than 0\.5%") as error:
        build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    assert "--allow-rejects" in str(error.value)
    assert "flickr30k/1000 (classify): empty file" in str(error.value)
    assert not (tmp_path / "carts").exists()


@pytest.mark.parametrize("policy", ["remove", "report"])
def test_uncaptioned_twins_are_found(private, tmp_path, policy):
    twin = private / "flickr30k" / "flickr30k-images" / "1000.jpg"
    overwrite(private / "imagenet" / "train" / "n01440764" / "n01440764_7.JPEG", twin.read_bytes())
    write_preset(private, changes={'"remove"': f'"{policy}"'})
    evaluation = build(options(private, tmp_path / "carts"), Reporter(quiet=True))
    found, twin_id = evaluation.manifest["notes"]["duplicates"], "imagenet/train/n01440764_7"
    assert ["flickr30k/1000", twin_id] in found["exact"]
    assert ["flickr30k/1000", twin_id, 0] in found["near"]
    assert (twin_id in evaluation.corpus_ids()) == (policy == "report")
    assert len(next(item for item in found["same_text"] if item["text"] == "A red cart.")["queries"]) == CAPTIONED // 4
    refused = [row["id"] for row in evaluation.rejected().to_pylist()]
    assert refused == ([twin_id] if policy == "remove" else [])


def test_a_list_takes_the_place_of_the_classifier(data, tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.scorers.load_scorer", lambda *a: pytest.fail("classified"))
    (tmp_path / "list.txt").write_text("1000.jpg\n1003.jpg\n", encoding="utf-8")
    evaluation = build(options(data, tmp_path / "o", selection=str(tmp_path / "list.txt")), Reporter(quiet=True))
    assert [i for i in evaluation.corpus_ids() if i.startswith("flickr")] == ["flickr30k/1000", "flickr30k/1003"]
    card = (evaluation.folder / "README.md").read_text(encoding="utf-8")
    assert "The captioned images are those of a list" in card
    assert "summed probability" not in card


def test_selected_but_absent_images_are_rows(data, tmp_path):
    (tmp_path / "list.txt").write_text("1000.jpg\n9999.jpg\n", encoding="utf-8")
    chosen = options(data, tmp_path / "o", selection=str(tmp_path / "list.txt"), allow_rejects=True)
    rows = build(chosen, Reporter(quiet=True)).rejected().to_pylist()
    assert [(row["id"], row["reason"]) for row in rows] == [
        ("flickr30k/9999", "selected, but the source does not have it")
    ]


def test_result_that_does_not_verify_is_not_put_in_place(data, tmp_path, monkeypatch):
    from mteb_vehicle_search.verification import Verification, Violation

    broken = Verification([Violation("corpus", "is broken")], {}, "")
    monkeypatch.setattr("data_prep.export.verify", lambda *a, **k: broken)
    with pytest.raises(BuildError, match="does not verify:\n  corpus: is broken"):
        build(options(data, tmp_path / "carts"), Reporter(quiet=True))
    assert not (tmp_path / "carts").exists()


def test_scores_of_all_classes_are_stored(data, tmp_path):
    import pyarrow.parquet as pq

    chosen = options(data, tmp_path / "carts")
    build(chosen, Reporter(quiet=True))
    table = pq.read_table(chosen.work / "scores" / "chunk-00000.parquet")
    assert table.num_rows == CAPTIONED
    assert len(table["p"][0].as_py()) == len(NAMES)
    marker = json.loads((chosen.work / "stages" / "classify.json").read_text(encoding="utf-8"))
    assert set(marker) >= {"fingerprint", "configuration", "outputs", "counts", "rejected"}
