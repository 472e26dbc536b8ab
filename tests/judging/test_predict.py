"""A model's scores predict judgments through a fit on others; no judged caption predicts itself."""

import hashlib

import mteb
import numpy as np
import pyarrow.parquet as pq
import pytest
import small_set
from small_judgments import judgment, sample, unit
from toy_encoder import ToyEncoder

from mteb_vehicle_search.errors import ResultsError
from mteb_vehicle_search.judging import predict
from mteb_vehicle_search.judging.choosing import Chosen
from mteb_vehicle_search.judgments import JudgeFile, read_judgments
from mteb_vehicle_search.judgments.predictions import (
    FOLDER,
    Predictions,
    predictions_in,
    read_predictions,
    write_predictions,
)


def world(count=400, seed=0):
    """Return scores, what people say (the likelier the higher the score), and clusters of two captions."""
    generator = np.random.default_rng(seed)
    pairs = [(f"q{number:03}", f"i{number:03}") for number in range(count)]
    scores = dict(zip(pairs, generator.uniform(0, 1, count).tolist()))
    said = {pair: float(generator.random() < scores[pair] ** 2) for pair in pairs}
    return scores, said, {pair: f"c{int(pair[0][1:]) // 2}" for pair in pairs}


def test_predictions_are_about_what_people_say():
    scores, said, clusters = world(2000)
    known = {pair: said[pair] for pair in list(said)[:1000]}
    found = predict.cross_fitted(scores, known, clusters)
    assert found.keys() == scores.keys()
    assert max(abs(found[pair] - scores[pair] ** 2) for pair in scores) < 0.2
    assert np.mean([abs(found[pair] - scores[pair] ** 2) for pair in scores]) < 0.05


def test_no_cluster_predicts_itself():
    scores, said, clusters = world()
    found = predict.cross_fitted(scores, said, clusters)
    fold = {cluster: hashlib.sha256(cluster.encode()).digest()[0] % predict.FOLDS for cluster in clusters.values()}
    pair = ("q007", "i007")
    turned = {one: 1 - said[one] if fold[clusters[one]] == fold[clusters[pair]] else said[one] for one in said}
    again = predict.cross_fitted(scores, turned, clusters)
    assert again[pair] == found[pair]
    assert again != found


def test_judgments_of_one_cluster_predict_nothing():
    scores, said, clusters = world(20)
    known = {pair: share for pair, share in said.items() if clusters[pair] == "c3"}
    with pytest.raises(ResultsError, match="about too few images"):
        predict.cross_fitted(scores, known, clusters)


def test_what_is_said_of_others_changes_a_prediction():
    scores, said, clusters = world()
    found = predict.cross_fitted(scores, said, clusters)
    never = predict.cross_fitted(scores, dict.fromkeys(said, 0.0), clusters)
    assert set(never.values()) == {0.0}
    assert max(found.values()) > 0.5


def test_scores_are_those_of_the_models_vectors(tmp_path):
    eval_set = small_set.small_set(tmp_path / "set")
    pairs = [("0000_caption_00", "imagenet/train/n0003"), ("0001_caption_01", "flickr30k/0005")]
    encoder = ToyEncoder()
    scores = predict.pair_scores(encoder, eval_set, pairs)
    assert (encoder.texts_seen, encoder.images_seen) == (2, 2)
    for query, image in pairs:
        text = next(one.text for one in eval_set.queries() if one.id == query)
        vectors = []
        for batch in ([{"id": [query], "text": [text]}], [{"id": [image], "image": [opened(eval_set, image)]}]):
            vectors.append(ToyEncoder().encode(batch)[0])
        cosine = vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1])
        assert scores[query, image] == pytest.approx(float(cosine), abs=1e-6)


def opened(eval_set, image):
    import io

    from PIL import Image

    return Image.open(io.BytesIO(eval_set.jpeg(image))).convert("RGB")


@pytest.fixture
def chosen(tmp_path):
    """A small set, its judgments by one judge, and the sample of all of them but the last."""
    eval_set = small_set.small_set(tmp_path / "set", captioned=20)
    units = []
    for number in range(20):
        images = [f"imagenet/train/n{(number + step) % 30:04}" for step in range(4)]
        known = f"flickr30k/{number:04}"
        units.append(unit(f"{number:04}_caption_00", *images, known=(known,), cluster=known))
    folder = tmp_path / "judgments"
    for number, one in enumerate(units[:-1]):
        for step, image in enumerate(one.images):
            said = {"content_id": eval_set.content_id, "grade": 3 if (number + step) % 3 == 0 else 1}
            JudgeFile(folder, "ada").append(judgment(one.query, image, **said))
    drawn = sample(*units, content_id=eval_set.content_id, images_id=eval_set.images_id)
    return Chosen(eval_set, [], read_judgments(folder)), drawn


def test_a_model_predicts_all_images_in_question(chosen, monkeypatch):
    given, drawn = chosen
    monkeypatch.setattr(predict, "_load", lambda name: ToyEncoder(name))
    told = predict.predict("toy/model", given, drawn)
    assert "toy/model predicts 80 images in question from 76 judged ones" in told
    (found,) = read_judgments(given.judgments.folder).predictions
    assert (found.name, found.revision, found.sample, found.judged) == ("toy/model", "r1", drawn.id, 76)
    assert (found.content_id, found.images_id) == (given.eval_set.content_id, given.eval_set.images_id)
    assert set(found.probabilities) == {(one.query, image) for one in drawn.units for image in one.images}
    assert len(set(found.probabilities.values())) > 1
    # The sample is new, and kept with them.
    assert [*read_judgments(given.judgments.folder).samples] == [drawn.id]


def test_predictions_are_no_judgments(chosen, monkeypatch):
    given, drawn = chosen
    monkeypatch.setattr(predict, "_load", lambda name: ToyEncoder(name))
    predict.predict("toy/model", given, drawn)
    again = read_judgments(given.judgments.folder)
    assert again.lines == given.judgments.lines
    assert again.problems == ()


def test_a_model_predicts_once_for_a_sample(chosen, monkeypatch):
    given, drawn = chosen
    monkeypatch.setattr(predict, "_load", lambda name: ToyEncoder(name))
    predict.predict("toy/model", given, drawn)
    predict.predict("toy/model", given, drawn)
    predict.predict("toy/other", given, drawn)
    found = read_judgments(given.judgments.folder).predictions
    assert [one.name for one in found] == ["toy/model", "toy/other"]


@pytest.mark.parametrize("grade", [1, 3])
def test_too_few_judgments_or_of_one_kind_predict_nothing(chosen, grade):
    given, drawn = chosen
    few = [one for one in given.judgments.lines if one.grade == grade]
    for one in few:
        JudgeFile(given.judgments.folder / "few", "ada").append(one)
    with pytest.raises(ResultsError, match="too little to predict from"):
        predict.predict("toy/model", given._replace(judgments=read_judgments(given.judgments.folder / "few")), drawn)


def test_a_model_is_loaded_by_its_name(monkeypatch):
    monkeypatch.setattr(mteb, "get_model", lambda name: name)
    assert predict._load("vehicle-search/tiny-clip") == "vehicle-search/tiny-clip"


ONE = Predictions("org/model", "r1", "5" * 64, "6" * 64, "0123456789ab", 60, {("q0", "a"): 0.25, ("q0", "b"): 1.0})


def test_predictions_are_read_as_they_were_written(tmp_path):
    path = write_predictions(tmp_path, ONE)
    assert path.parent.name == FOLDER
    assert read_predictions(path) == ONE
    assert pq.read_schema(path).metadata[b"kind"] == b"model"
    assert predictions_in(tmp_path) == [path]
    assert predictions_in(tmp_path / "none") == []


def test_damaged_predictions_are_refused(tmp_path):
    path = write_predictions(tmp_path, ONE)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultsError, match="holds no predictions"):
        read_predictions(path)


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_what_is_no_probability_is_refused(tmp_path, value):
    path = write_predictions(tmp_path, ONE._replace(probabilities={("q0", "a"): value}))
    with pytest.raises(ResultsError, match="holds what is no probability"):
        read_predictions(path)
