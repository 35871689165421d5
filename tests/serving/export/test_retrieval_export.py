"""The exported two-tower on raw values is the offline model on encoded ones, and its index is exact."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from features.histories.windows import attach_histories
from features.items.catalogue import item_rows, read_catalogue
from models.inputs.input_pipeline import InputConfig, count_positives, make_dataset
from models.inputs.item_corpus import ItemCorpus
from models.training.loop import TrainingConfig
from models.training.retrieval_stage import embed_pairs, pairs_dataset
from models.two_tower.model import TwoTower, TwoTowerConfig
from serving.export import two_tower as retrieval_export
from serving.export.item_embeddings import ITEM_EMBEDDINGS_FILE, read_item_embeddings
from serving.export.two_tower import chunked_top_k, export_two_tower
from serving.requests.tensors import request_tensors, value_tensors
from serving.saved.two_tower import SavedTwoTower
from tests.builders.exact_top_k import exact_top_k
from tests.serving.export.warmup_file import warmup_requests


def two_tower(small_log, **config) -> TwoTower:
    directory, encoding = small_log
    corpus = ItemCorpus.load(directory, encoding)
    tf.keras.utils.set_random_seed(1)
    counts = count_positives(directory, "train", "click", len(corpus))
    model = TwoTower(encoding, corpus, TwoTowerConfig(**config), train_counts=counts)
    model(next(iter(dataset(small_log))))
    for weight in model.weights:  # at random initial weights all users are alike
        weight.assign(tf.random.normal(weight.shape, stddev=0.5))
    return model


def dataset(small_log):
    return make_dataset(
        small_log[0], "eval", small_log[1], InputConfig(batch_size=100_000), histories=True, long_history=False
    )


@pytest.fixture(scope="module")
def exported(small_log, raw_small_log, tmp_path_factory):
    model = two_tower(small_log)
    rows = raw_requests(raw_small_log, small_log[1].spec).slice(0, 3)
    directory = export_two_tower(model, small_log[1], tmp_path_factory.mktemp("two_tower") / "1", rows)
    return model, directory, tf.saved_model.load(str(directory))


def raw_requests(raw_dir, spec) -> pa.Table:
    """The raw requests of split eval with their short windows, in the order of the encoded shards."""
    tables = []
    for path in sorted(raw_dir.glob("Split-eval/*.parquet")):
        behaviors = pq.read_table(raw_dir / "behaviors" / path.name.replace("requests", "behaviors"))
        tables.append(attach_histories(pq.read_table(path), behaviors, spec.history, windows=("short",)))
    return pa.concat_tables(tables).combine_chunks()


def raw_inputs(raw_dir, spec) -> dict:
    """Those requests as tensors of `user_embedding`."""
    names = [feature.name for feature in spec.of_scope("request")]
    return request_tensors(spec, raw_requests(raw_dir, spec), names, {"short": spec.history.features})


def as_tensors(inputs: dict) -> dict:
    return {name: tf.constant(values) for name, values in inputs.items()}


def offline_queries(model, small_log) -> np.ndarray:
    batches = list(dataset(small_log))
    return np.concatenate([model.embed_queries(batch).numpy() for batch in batches])


def test_raw_retrieve_equals_the_offline_model_and_exact_search(exported, small_log, raw_small_log):
    model, _, saved = exported
    inputs = raw_inputs(raw_small_log, small_log[1].spec)
    queries, items = offline_queries(model, small_log), model.embed_corpus()
    assert len(np.unique(queries.round(4), axis=0)) > 20
    found = saved.signatures["user_embedding"](**as_tensors(inputs))["embedding"].numpy()
    np.testing.assert_allclose(found, queries, atol=1e-5)
    for k in (1, 7, 1000):
        result = saved.signatures["retrieve"](k=tf.fill([len(queries)], k), **as_tensors(inputs))
        np.testing.assert_array_equal(result["num_items"], min(k, len(items)))
        rows, scores = exact_top_k(queries, items, min(k, len(items)))
        np.testing.assert_allclose(result["score"].numpy(), scores, atol=1e-5)
        ids = model.corpus.item_ids.to_numpy(zero_copy_only=False)
        # Near-equal scores may swap; the score of what was returned is the score of its place.
        row_of = {item: row for row, item in enumerate(ids.tolist())}
        returned = np.vectorize(row_of.get)(result["item_id"].numpy())
        np.testing.assert_allclose(np.take_along_axis(queries @ items.T, returned, axis=1), scores, atol=1e-5)
        assert np.mean([np.isin(a, b).mean() for a, b in zip(rows, returned, strict=True)]) > 0.99


def test_raw_items_equal_the_catalogue(exported, small_log, raw_small_log):
    """Items known and unknown: unseen ones are embedded from their features."""
    model, directory, saved = exported
    spec = small_log[1].spec
    raw = read_catalogue(raw_small_log)
    inputs = {}
    for feature in spec.of_table("items"):
        inputs |= value_tensors(feature, raw[feature.name].combine_chunks())
    found = saved.signatures["item_embedding"](**as_tensors(inputs))["embedding"].numpy()
    np.testing.assert_allclose(found, model.embed_corpus(), atol=1e-5)
    ids, embeddings = read_item_embeddings(f"{directory}/{ITEM_EMBEDDINGS_FILE}")
    assert ids.equals(raw["item_id"].combine_chunks())
    np.testing.assert_allclose(embeddings, model.embed_corpus(), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    unseen = saved.signatures["item_embedding"](
        **as_tensors({**inputs, "item_id": np.arange(10**6, 10**6 + len(ids), dtype=np.int64)})
    )["embedding"].numpy()
    assert np.isfinite(unseen).all() and np.abs(unseen - found).max() > 1e-3


def test_warm_up_requests_are_real_rows_and_run(exported, small_log, raw_small_log):
    model, directory, saved = exported
    names, queries = [], offline_queries(model, small_log)[:3]
    for request, inputs in warmup_requests(directory):
        names.append(request.model_spec.signature_name)
        assert set(inputs) == set(saved.signatures[names[-1]].structured_input_signature[1])
        found = saved.signatures[names[-1]](**inputs)
        if names[-1] in ("serving_default", "user_embedding"):
            np.testing.assert_allclose(found["embedding"], queries[: len(found["embedding"])], atol=1e-5)
        elif names[-1] == "retrieve":
            best = np.sort(queries[0] @ model.embed_corpus().T)[::-1]
            np.testing.assert_allclose(found["score"][0], best[: found["score"].shape[1]], atol=1e-5)
    assert set(names) == set(saved.signatures) and len(names) == 2 * len(saved.signatures)


def test_each_request_gets_its_own_number_of_items(exported, small_log, raw_small_log):
    model, _, saved = exported
    inputs = {name: values[:4] for name, values in raw_inputs(raw_small_log, small_log[1].spec).items()}
    result = {
        name: values.numpy()
        for name, values in saved.signatures["retrieve"](k=tf.constant([2, 0, 5, -1]), **as_tensors(inputs)).items()
    }
    assert result["item_id"].shape == result["score"].shape == (4, 5)
    np.testing.assert_array_equal(result["num_items"], [2, 0, 5, 0])
    scores, expected = result["score"], offline_queries(model, small_log)[:4] @ model.embed_corpus().T
    for row, count in enumerate(result["num_items"]):
        np.testing.assert_allclose(scores[row, :count], np.sort(expected[row])[::-1][:count], atol=1e-5)
        assert (scores[row, count:] == -2).all() and (result["item_id"][row, count:] == -(2**63)).all()


def test_a_model_without_history_takes_none(small_log, tmp_path):
    directory = export_two_tower(two_tower(small_log, history="none"), small_log[1], tmp_path / "1")
    signature = tf.saved_model.load(str(directory)).signatures["user_embedding"]
    expected = {"age", "interests", "interests_num_values", "hour"}
    assert set(signature.structured_input_signature[1]) == expected
    with pytest.raises(FileExistsError):
        export_two_tower(two_tower(small_log, history="none"), small_log[1], directory)


@pytest.mark.parametrize("size, k", [(1, 1), (10, 3), (64, 64), (130, 40), (130, 500)])
def test_chunked_top_k_is_exact(monkeypatch, size, k):
    """Chunk borders everywhere, ties too: inner products of small integers."""
    monkeypatch.setattr(retrieval_export, "_CHUNK_ITEMS", 32)
    rng = np.random.default_rng(size)
    queries, items = (rng.integers(-2, 3, (n, 4)).astype(np.float32) for n in (9, size))
    scores, rows = chunked_top_k(tf.constant(queries), tf.constant(items), tf.constant(k))
    expected_rows, expected_scores = exact_top_k(queries, items, min(k, size))
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_array_equal(scores, expected_scores)


def test_k_must_be_positive(exported, raw_small_log, small_log):
    with pytest.raises(ValueError, match="`k` must be positive"):
        SavedTwoTower(exported[1]).retrieve(raw_requests(raw_small_log, small_log[1].spec), 0)


def test_takes_of_raw_examples_are_the_pairs_of_the_encoded_ones(exported, small_log, raw_small_log, tmp_path):
    """One row a positive, items out of the catalogue too; the others are the offline pairs, in order."""
    model, directory, _ = exported
    queries, taken, users = SavedTwoTower(directory).embed_takes(raw_small_log, raw_small_log / "behaviors", "eval")
    config = TrainingConfig(input=InputConfig(batch_size=100_000))
    expected, truth, _ = embed_pairs(model, pairs_dataset(small_log[0], "eval", small_log[1], config))
    rows = item_rows(model.corpus.item_ids, taken)
    assert (rows == 0).any() and len(users) == len(taken) == len(queries) and len(users.unique()) > 5
    np.testing.assert_array_equal(rows[rows > 0] - 1, truth)
    np.testing.assert_allclose(queries[rows > 0], expected, atol=1e-5)
    with pytest.raises(FileNotFoundError, match="split `test`"):
        SavedTwoTower(directory).embed_takes(raw_small_log, raw_small_log / "behaviors", "test")
    with pytest.raises(FileNotFoundError, match="`model_dir` must be a SavedModel"):
        SavedTwoTower(raw_small_log)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(FileNotFoundError, match="not a two-tower exported by Clickmill"):
        SavedTwoTower(tmp_path)
