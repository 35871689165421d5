"""The exported coarse ranker on raw values is the offline model on encoded ones, looked up or computed."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from features.examples.raw_sample import json_request
from features.histories.windows import attach_histories, read_behaviors
from features.items.catalogue import item_rows, read_catalogue
from models.hcn.model import Hcn, HcnConfig
from models.inputs.input_pipeline import InputConfig, make_dataset
from models.inputs.item_corpus import ItemCorpus
from models.training.loop import predict
from serving.export.coarse import export_coarse
from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings
from serving.offline.scoring import score_examples
from serving.ranker import Ranker
from serving.requests.tensors import candidate_counts, slate_tensors, value_tensors
from serving.saved.coarse import SavedCoarse
from serving.saved.ranker import SavedRanker
from tests.serving.export.warmup_file import warmup_requests


def dataset(small_log):
    return make_dataset(small_log[0], "eval", small_log[1], InputConfig(batch_size=100_000), histories=True)


def coarse(small_log, **settings) -> Hcn:
    tf.keras.utils.set_random_seed(1)
    model = Hcn(small_log[1], HcnConfig(**{"dim": 16, "hidden_units": (16,), "num_layers": 2, **settings}))
    model(next(iter(dataset(small_log))))
    for weight in model.trainable_weights:  # at random initial weights all items are alike
        if "embedding" in weight.name or "tower" in weight.name:
            weight.assign(tf.random.normal(weight.shape, stddev=0.4))
    return model


@pytest.fixture(scope="module")
def rows(raw_small_log, small_log):
    """Raw requests of split eval with their windows, in the order of the encoded shards."""
    history, tables = small_log[1].spec.history, []
    for path in sorted(raw_small_log.glob("Split-eval/*.parquet")):
        behaviors = read_behaviors(raw_small_log / "behaviors", path, history)
        tables.append(attach_histories(pq.read_table(path), behaviors, history))
    return pa.concat_tables(tables).combine_chunks()


@pytest.fixture(scope="module")
def exported(small_log, rows, tmp_path_factory):
    model = coarse(small_log)
    directory = tmp_path_factory.mktemp("coarse") / "1"
    export_coarse(model, small_log[1], directory, ItemCorpus.load(*small_log), rows.slice(0, 3))
    return model, directory


def test_interests_of_raw_requests_are_those_of_encoded_ones(exported, small_log, rows):
    model, directory = exported
    interests, valid = model.user_interests(next(iter(dataset(small_log))))
    found, found_valid = SavedCoarse(directory).user_interests(rows)
    np.testing.assert_array_equal(found_valid, valid)
    np.testing.assert_allclose(found, interests, atol=1e-5)
    assert 0 < found_valid.mean() < 1


def test_raw_items_are_the_stored_vectors(exported, small_log, raw_small_log):
    model, directory = exported
    raw, spec = read_catalogue(raw_small_log), small_log[1].spec
    inputs = {}
    for name in model.item_features:
        inputs |= value_tensors(spec[name], raw[name].combine_chunks())
    found = SavedCoarse(directory).run("item_embedding", inputs)["embedding"]
    ids, stored = read_item_embeddings(f"{directory}/{ITEM_EMBEDDINGS_FILE}")
    assert ids.equals(raw["item_id"].combine_chunks())
    np.testing.assert_allclose(found, stored, atol=1e-6)
    np.testing.assert_allclose(stored, model.embed_corpus(ItemCorpus.load(*small_log)), atol=1e-6)


def test_evaluators_score_it_as_the_model_does(exported, small_log, raw_small_log):
    model, directory = exported
    _, logits = predict(model, dataset(small_log))
    scored = score_examples(directory, raw_small_log, "eval", behaviors_dir=raw_small_log / "behaviors")
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(scored["score"].to_numpy(), expected, rtol=0, atol=1e-6)
    assert np.std(expected) > 0.01


def test_looked_up_scores_are_the_model_s(exported, small_log, rows):
    """Of items whose logged features are the catalogue's; others score -1, below all."""
    model, directory = exported
    corpus, saved = ItemCorpus.load(*small_log), SavedCoarse(directory)
    table = model.embed_corpus(corpus)
    expected = tf.sigmoid(model.logits_of(*model.user_interests(next(iter(dataset(small_log)))), table)).numpy()
    ids = pa.array(np.arange(40)[::-1])
    known = item_rows(corpus.item_ids, ids)
    for number in (0, 7, 50):
        scores = saved.score(rows.slice(number, 1), ids)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores[known > 0], expected[number][known[known > 0] - 1], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(scores[known == 0], np.full(13, -1.0))
    assert len(saved.score(rows.slice(0, 1), ids.slice(0, 0))) == 0
    with pytest.raises(ValueError, match="`requests` must be one row. Received: 2 rows."):
        saved.score(rows.slice(0, 2), ids)


def test_one_json_request_scores_as_the_evaluation_does(exported, raw_small_log, rows):
    _, directory = exported
    scored = score_examples(directory, raw_small_log, "eval", behaviors_dir=raw_small_log / "behaviors")
    row = rows.slice(7, 1)
    ranked = Ranker(directory).rank(json_request(row.to_pylist()[0], Ranker(directory).spec))
    own = scored.filter(pc.equal(scored["request_id"], row["request_id"][0]))["score"].to_numpy()
    np.testing.assert_allclose([item.score for item in sorted(ranked, key=lambda i: i.index)], own, atol=1e-6)


def test_slates_score_as_the_joint_graph(exported, raw_small_log, rows):
    """Requests of different lengths together, and the long history counts."""
    _, directory = exported
    saved = SavedRanker(directory)
    scored = score_examples(directory, raw_small_log, "eval", behaviors_dir=raw_small_log / "behaviors")
    found = saved.run("serving_default", slate_tensors(saved.spec, rows, saved.history))
    counts = candidate_counts(rows)
    scores = np.concatenate([row[:count] for row, count in zip(found["score"], counts, strict=True)])
    np.testing.assert_allclose(scores, scored["score"].to_numpy(), rtol=0, atol=1e-6)
    lengths = rows["long_item_id"].combine_chunks().value_lengths().to_numpy()
    np.testing.assert_array_equal(found["long_history_used"], lengths > 0)
    assert 0 < (lengths > 0).mean() < 1
    short = slate_tensors(saved.spec, rows, saved.history) | {"long_length": np.zeros(len(rows), np.int32)}
    assert np.abs(saved.run("serving_default", short)["score"] - found["score"]).max() > 1e-3


def test_scoring_is_chosen_at_export(small_log, raw_small_log, exported, tmp_path):
    model, soft = exported
    directory = export_coarse(model, small_log[1], tmp_path / "1", ItemCorpus.load(*small_log), scoring="max")
    scores = [
        score_examples(path, raw_small_log, "eval", behaviors_dir=raw_small_log / "behaviors")["score"].to_numpy()
        for path in (soft, directory)
    ]
    batch = next(iter(dataset(small_log)))
    np.testing.assert_allclose(scores[1], tf.sigmoid(model(batch, scoring="max")), atol=1e-6)
    assert (scores[1] >= scores[0] - 1e-6).all() and np.abs(scores[1] - scores[0]).max() > 1e-3
    with pytest.raises(FileExistsError):
        export_coarse(model, small_log[1], directory, ItemCorpus.load(*small_log))


def test_warm_up_requests_run(exported):
    _, directory = exported
    saved, names = SavedCoarse(directory), []
    for request, inputs in warmup_requests(directory):
        names.append(request.model_spec.signature_name)
        assert set(inputs) == set(saved.inputs(names[-1]))
        assert all(np.isfinite(values).all() for values in saved.run(names[-1], inputs).values())
    assert sorted(set(names)) == sorted(saved._module.signatures) and len(names) == 8


def test_it_says_what_is_no_coarse_ranker(tmp_path):
    with pytest.raises(FileNotFoundError, match="model_dir"):
        SavedCoarse(tmp_path)
