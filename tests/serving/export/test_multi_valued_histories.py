"""History features of several values: by definition, in the model, in its export, in the bucket tables and in JSON.

The log's behaviours have titles of none, one and several words, words that train never saw, empty ones, nulls among
them and no title at all; users have histories longer and shorter than both windows, and none.
"""

import functools
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from features.examples.raw_sample import json_request
from features.histories.bucket_table import BucketTable
from features.histories.windows import attach_histories
from features.items.simhash import SimHash
from models.inputs.config import InputConfig
from models.inputs.history_windows import trim_window
from models.inputs.input_pipeline import make_dataset
from serving.ranker import Ranker
from serving.requests.tensors import tensors_from_table
from serving.user_stores.bse.store import BseStore
from serving.user_stores.bse.table_job import SavedModelBehaviorEncoder, build_behavior_tables, encode_behavior
from tests.builders import small_log as small
from tests.builders.multi_valued import MODELS, SIGNATURES, SPEC, Exported, Reference, make
from tests.serving.export.warmup_file import warmup_requests

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded_once")]  # five exports

EXACT = {"rtol": 1e-5, "atol": 1e-5}
RANKERS = [name for name in MODELS if name != "two_tower"]
SDIM = ["sdim", "aw_moe"]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Raw and encoded examples, their encoding, the requests of eval with their windows, and as one batch."""
    raw, encoded = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("encoded")
    small.write_raw_log(raw)
    encoding = small.encode_log(raw, encoded, SPEC)
    whole = InputConfig(batch_size=10**6, buffer_shards=small.NUM_SHARDS)
    batch = next(iter(make_dataset(encoded, "eval", encoding, whole, histories=True)))
    return SimpleNamespace(raw=raw, encoded=encoded, encoding=encoding, rows=small.raw_rows(raw, SPEC), batch=batch)


@pytest.fixture(scope="module")
def exported(log, tmp_path_factory):
    """Exports by name, made when asked for."""
    return functools.cache(lambda name: Exported(log, name, tmp_path_factory.mktemp(name) / "1"))


@pytest.fixture(params=MODELS)
def every(request, exported):
    return exported(request.param)


@pytest.fixture(params=SDIM)
def with_tables(request, exported):
    return exported(request.param)


def embedded(model, history, window):
    """Behaviours as the model reads them, [B, L, d_h], and which of them are there, [B, L]."""
    if getattr(model, "history_interest", None) is not None:
        found = model.history_interest.behaviors(history, window)
        values, mask = found.values, found.mask
        return model.history_interest.features, values.numpy(), mask.numpy() > 0
    names = model.short_history.features if hasattr(model, "short_history") else model.history_features
    ids, present = trim_window(history, window)
    return names, model.embedding.concatenated(names, ids).numpy(), present.numpy()


def test_the_log_holds_every_case(log):
    rows = log.rows.to_pylist()
    titles = [title for row in rows for window in ("short", "long") for title in row[f"{window}_title"]]
    assert None in titles and [] in titles and any(title and None in title for title in titles)
    assert any(title and len(title) > 1 for title in titles) and ["unseen", "", "t1"] in titles
    lengths = log.batch["history"]["short_length"].numpy(), log.batch["history"]["long_length"].numpy()
    assert all({0, most} <= set(found.tolist()) for found, most in zip(lengths, (3, 4), strict=True))
    assert log.batch["history"]["short"]["title"].ragged_rank == 2


def test_a_behaviour_is_the_mean_of_its_values(every, log):
    model = every.model
    reference, differ = Reference(log, model.embedding), 0
    for window in ("short",) if every.name == "two_tower" else ("short", "long"):
        names, values, present = embedded(model, log.batch["history"], window)
        assert "title" in names
        for row, found, there in zip(log.rows.to_pylist(), values, present, strict=True):
            expected = reference.window(names, row, window)
            np.testing.assert_allclose(found[there], expected, **EXACT)
            differ += len(np.unique(expected.round(4), axis=0)) > 1
    assert differ > 20


def attention(queries, history, sharpness):
    scores = sharpness * queries @ history.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ history


def sign(layer, items, vectors):
    """Signatures [n, G] of items, and which have one, [n]."""
    if layer.uses_item_rows:
        known = np.array([item < small.CATALOGUE_ITEMS for item in items], bool)
        return SIGNATURES.signatures[np.where(known, items, 0).astype(int)], known
    return SimHash(layer.dim, layer.simhash_config).signatures(vectors), np.ones(len(vectors), bool)


def table_of(layer, items, vectors):
    signed, known = sign(layer, items, vectors)
    return BucketTable.build(vectors, signed, layer.simhash_config.num_buckets, known)


def numpy_fields(layer, reference, row):
    """What `HistoryInterest` gives for the candidates of a raw request: its fields, [n, 2, d]."""
    queries = reference.items(layer.features, row)
    norms = np.linalg.norm(queries, axis=1, keepdims=True)
    unit, fields = np.divide(queries, norms, out=np.zeros_like(queries), where=norms > 1e-6), []
    for window in layer.windows:
        history, how = reference.window(layer.features, row, window), getattr(layer.config, window)
        if how == "sdim":
            signed, known = sign(layer, row["item_id"], queries)
            interest = table_of(layer, row["long_item_id"], history).look_up(signed) * known[:, np.newaxis]
        elif not len(history):
            interest = np.zeros_like(queries)
        elif how == "mean":
            interest = np.repeat(history.mean(axis=0, keepdims=True), len(queries), axis=0)
        elif how == "din":
            attend = layer._attention[window]
            pairs = history[np.newaxis], queries[:, np.newaxis]
            parts = zip((*pairs, pairs[0] * pairs[1]), ("of_behavior", "of_candidate", "of_product"), strict=True)
            hidden = sum(values @ getattr(attend, name).numpy() for values, name in parts) + attend.bias.numpy()
            kernel, bias = (weight.numpy() for weight in attend._last.weights)
            interest = ((1 / (1 + np.exp(-hidden))) @ kernel + bias)[..., 0] @ history
        else:
            interest = attention(queries, history, layer._attention[window].sharpness.numpy())
        kernel = layer._projections[window].kernel.numpy()
        fields.append(np.concatenate([interest, interest * unit], axis=1) @ kernel)
    return np.stack(fields, axis=1)


@pytest.mark.parametrize("name", ["target", "sdim", "aw_moe"])
def test_interests_are_those_of_numpy(name, log, exported):
    model = exported(name).model
    reference = Reference(log, model.embedding)
    expected = [numpy_fields(model.history_interest, reference, row) for row in log.rows.to_pylist()]
    np.testing.assert_allclose(model.history_interest(log.batch), np.concatenate(expected), rtol=1e-4, atol=1e-5)
    assert np.abs(np.concatenate(expected)).max(axis=(0, 2)).min() > 0.1


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_the_query_tower_pools_what_numpy_pools(pooling, log):
    layer = make(log, "two_tower", {"history": pooling})[0].short_history
    reference, expected = Reference(log, layer._embedding), []
    for row in log.rows.to_pylist():
        history = reference.window(layer.features, row, "short")
        if pooling == "attention":
            scores = np.tanh(history @ layer.projection.numpy()) @ layer.direction.numpy()
            scores = np.exp(scores + layer.recency.numpy()[: len(history)][::-1])
            expected.append((scores / scores.sum()) @ history)
        else:
            expected.append(history.sum(axis=0) / max(1, len(history)))
    np.testing.assert_allclose(layer(log.batch["history"]), expected, rtol=1e-4, atol=1e-5)


def outputs(model, batch):
    return (model.embed_queries(batch) if hasattr(model, "embed_queries") else model(batch)).numpy()


def test_titles_are_read(every, log):
    """Other words in the history are another answer; without behaviours what stands in their places is not read."""
    model = every.model
    history = dict(log.batch["history"])
    for window in ("short", "long"):
        title = history[window]["title"]
        history[window] = history[window] | {"title": title.with_flat_values(title.flat_values % 4 + 1)}
    before, after = outputs(model, log.batch), outputs(model, {**log.batch, "history": history})
    assert np.isfinite(before).all() and np.abs(before - after).max() > 1e-3
    nobody = tf.zeros_like(history["short_length"])
    cold = [
        outputs(model, {**log.batch, "history": {**each, "short_length": nobody, "long_length": nobody}})
        for each in (history, log.batch["history"])
    ]
    np.testing.assert_array_equal(*cold)


def test_gradients_reach_the_words_of_histories_alone(every, log):
    model, batch = every.model, log.batch
    offset = model.embedding._offsets["title"]
    none = tf.RaggedTensor.from_row_splits([], tf.zeros_like(batch["features"]["title"].row_splits))
    features = {**batch["features"], "title": tf.cast(none, tf.int32)}
    with tf.GradientTape() as tape:
        answer = model.embed_queries if every.name == "two_tower" else model
        found = tf.reduce_sum(answer({**batch, "features": features}))
    gradient = tf.convert_to_tensor(tape.gradient(found, model.embedding.table)).numpy()
    words = gradient[offset : offset + log.encoding.vocabulary_size("title")]
    assert np.isfinite(gradient).all() and not words[0].any() and words[1:].any(axis=1).mean() > 0.5


# The export.


def test_the_export_on_raw_values_is_the_model_on_encoded_ones(every, log):
    expected = outputs(every.model, log.batch)
    if every.name == "two_tower":
        found = every.saved.embed_users(log.rows)
    else:
        found, expected = every.scores, 1 / (1 + np.exp(-expected.astype(np.float64)))
    assert np.std(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_more_padding_changes_no_bit(every, log):
    """More places behind the behaviours, and more behind the values of each, of whatever stands first."""
    saved, signature, rows = every.saved, "rank_requests", log.rows.slice(0, 20)
    if every.name == "two_tower":
        signature, tensors = "user_embedding", saved._inputs.tensors(rows)
    else:
        tensors = tensors_from_table(SPEC, rows, saved.history)
    wide = dict(tensors)
    for column in saved.inputs(signature):
        if column.startswith(("short_", "long_")) and not column.endswith("_length"):
            values = tensors[column]
            widths = [(0, 0), (0, 9), (0, 3)][: values.ndim]
            wide[column] = np.pad(values, widths, constant_values=values.flat[0])
            assert (values.ndim == 3) == column.endswith("title")
    found, padded = saved.run(signature, tensors), saved.run(signature, wide)
    for output in found:
        np.testing.assert_array_equal(found[output], padded[output])


def test_warm_up_requests_run(every):
    signatures = every.saved._module.signatures
    shapes = [
        [inputs[column].shape.rank for column in inputs if column in ("short_title", "long_title")]
        for request, inputs in warmup_requests(every.directory)
        if signatures[request.model_spec.signature_name](**inputs)
    ]
    assert len(shapes) == 2 * len(signatures) and {3} in map(set, shapes)
    assert all(set(ranks) <= {3} for ranks in shapes)


@pytest.mark.parametrize("name", RANKERS)
def test_a_json_request_scores_as_the_joint_graph(name, log, exported):
    loaded, first = Ranker(exported(name).directory), 0
    for row in log.rows.slice(0, 30).to_pylist():
        request = json.loads(json.dumps(json_request(row, SPEC)))
        ranked = sorted(loaded.rank(request), key=lambda item: item.index)
        expected = exported(name).scores[first : first + len(ranked)]
        np.testing.assert_allclose([item.score for item in ranked], expected, rtol=0, atol=1e-5)
        first += len(ranked)


# Bucket tables.


def test_the_store_holds_the_sums_of_means(with_tables, log, tmp_path):
    model = with_tables.model
    layer, reference = model.history_interest, Reference(log, model.embedding)
    found = 0
    for shard, path in enumerate(sorted((log.raw / "behaviors").glob("*.parquet"))):
        (tmp_path / str(shard)).mkdir()  # a user of the small log is another one in each shard
        users = pq.read_table(path)
        pq.write_table(users, tmp_path / str(shard) / path.name)
        build_behavior_tables(with_tables.directory, tmp_path / str(shard), tmp_path / f"store{shard}")
        with BseStore(tmp_path / f"store{shard}") as store:
            for user in users.to_pylist():
                columns = {name: user[name][: max(0, len(user["item_id"]) - 3)][-4:] for name in SPEC.history.features}
                values = reference.items(layer.features, columns)
                table, expected = store.get(user["user_id"]), table_of(layer, columns["item_id"], values)
                assert (table is None) == (not expected.counts.any())
                if table is not None:
                    np.testing.assert_array_equal(table.counts, expected.counts)
                    np.testing.assert_allclose(table.sums, expected.sums, rtol=1e-4, atol=1e-5)
                    found += 1
    assert found > 10


def test_a_request_scores_alike_from_the_store(with_tables, log, tmp_path):
    directory = with_tables.directory
    path = sorted((log.raw / "behaviors").glob("*.parquet"))[0]
    (tmp_path / "log").mkdir()
    pq.write_table(pq.read_table(path), tmp_path / "log" / path.name)
    build_behavior_tables(directory, tmp_path / "log", tmp_path / "store")
    # The store's window is that of a request now, after the user's last behaviour.
    users = pq.read_table(path)
    now = log.rows.slice(0, small.NUM_USERS).select(
        [name for name in log.rows.column_names if not name.startswith(("short_", "long_"))]
    )
    for name, values in {
        "user_id": users["user_id"],
        "user_index": pa.array(range(small.NUM_USERS), pa.int32()),
        "history_end": pa.array([2 * user for user in range(small.NUM_USERS)], pa.int64()),
    }.items():
        now = now.set_column(now.column_names.index(name), name, values)
    stored, plain, differ = Ranker.with_store(directory, tmp_path / "store"), Ranker(directory), 0
    for row in attach_histories(now, users, SPEC.history).to_pylist():
        request = json_request(row, SPEC)
        whole = plain.rank(request)
        request["history"] = request["history"][-3:]
        found = stored.rank(request)
        assert [item.index for item in found] == [item.index for item in whole]
        np.testing.assert_allclose([i.logit for i in found], [i.logit for i in whole], atol=1e-5)
        differ += any(abs(a.logit - b.logit) > 1e-3 for a, b in zip(plain.rank(request), whole, strict=True))
    assert differ > 2


@pytest.fixture(scope="module")
def encoder(exported):
    return SavedModelBehaviorEncoder(exported("sdim").directory)


@pytest.mark.parametrize(
    "title, expected",
    [(["t1", "t2"], ["t1", "t2"]), (["t1"], ["t1"]), (["t1", None, "new"], ["t1", "new"]), ([], None), (None, None)],
)
def test_one_behaviour_is_embedded_for_its_table(log, exported, encoder, title, expected):
    reference = Reference(log, exported("sdim").model.embedding)
    embedding, _ = encode_behavior(encoder, {"item_id": 7, "title": title, "category": "a"})
    columns = {"item_id": [7], "title": [expected], "category": ["a"]}
    np.testing.assert_allclose(embedding, reference.items(encoder.history.features, columns)[0], **EXACT)


@pytest.mark.parametrize(
    "title, message",
    [("t1", "multi-valued"), (["t1", 2], "raw values"), ([["t1"]], "string values"), ({"a": 1}, "multi-valued")],
)
def test_a_behaviour_whose_values_do_not_fit_is_refused(encoder, title, message):
    with pytest.raises(ValueError, match=message):
        encode_behavior(encoder, {"item_id": 7, "title": title, "category": "a"})
