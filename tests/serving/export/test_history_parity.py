"""Rankers with histories score alike in training, in the exported joint graph, from a stored table and from JSON."""

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from features.encoding.feature_encoding import FeatureEncoding
from features.examples.raw_sample import json_request
from features.histories.bucket_table import BucketTable
from features.histories.time_gaps import gap_buckets
from features.histories.windows import attach_histories, history_column, read_behaviors
from features.items.catalogue import read_catalogue
from features.items.signatures import sign_items
from serving.export.ranker import export_ranker
from serving.offline.scoring import score_examples
from serving.requests.tensors import candidate_counts, slate_tensors, value_tensors
from serving.saved.ranker import SavedRanker

#: Of the log's behaviours.
SHORT = 4
HISTORIES = {
    "two_tower": {"short": "din", "long": "sdim", "signature_source": "two_tower"},
    "end_to_end": {"short": "target_attention", "long": "sdim", "signature_source": "end_to_end"},
    "target_attention": {"short": "none", "long": "target_attention"},
    "short_only": {"short": "din", "long": "none", "recency": "rank"},
}
AUTOINT = {"num_layers": 1, "head_dim": 8, "exclude_features": ["title"]}
SEARCH = {"mode": "search", "query_features": ["age_band", "hour"], "gate_normalisation": "count"}
AW_MOE = {"num_experts": 3, "expert_units": [16], "gate_units": 8, "exclude_features": ["title"], **SEARCH}
#: Each way to read a history once; other pairs of kinds and histories are in test_multi_valued_histories.py.
MODELS = {name: ("autoint", AUTOINT, HISTORIES[name]) for name in ("two_tower", "target_attention", "short_only")} | {
    "aw_moe_search": ("aw_moe", AW_MOE, HISTORIES["end_to_end"]),
}
SDIM = [name for name, (_, _, history) in MODELS.items() if history["long"] == "sdim"]


pytestmark = pytest.mark.usefixtures("loaded_once")


@pytest.fixture(scope="module")
def log(cascade_log):
    """Raw and encoded examples of a simulated log whose users have histories longer and shorter than both windows."""
    raw, encoded, encoding = cascade_log
    return {
        "raw": raw,
        "behaviors": raw.parent / "behaviors",
        "encoded": encoded,
        "encoding": FeatureEncoding.load(encoding),
    }


@pytest.fixture(scope="module")
def signatures(log):
    ids = read_catalogue(log["encoded"])["_item_id"].combine_chunks()
    return sign_items(ids, np.random.default_rng(1).normal(size=(len(ids), 12)))


@pytest.fixture(scope="module", params=MODELS)
def ranker(request, log, signatures, tmp_path_factory):
    """A model's name, itself with weights of a size at which everything counts, and its export."""
    from models.inputs.input_pipeline import InputConfig, make_dataset
    from pipeline.model_kinds import kind_of, load

    name, parameters, history = MODELS[request.param]
    kind = kind_of(name)
    config = load(kind.config).model_validate({**parameters, "history": history})
    given = signatures if history.get("signature_source") == "two_tower" else None
    tf.keras.utils.set_random_seed(2)
    model = load(kind.model)(log["encoding"], config, given)
    model(
        next(iter(make_dataset(log["encoded"], "train", log["encoding"], InputConfig(batch_size=64), histories=True)))
    )
    for weight in model.trainable_weights:
        weight.assign_add(tf.random.normal(weight.shape, stddev=0.1))
    for recency in model.history_interest._recency.values():
        for weight in recency.trainable_weights:
            weight.assign_add(tf.random.normal(weight.shape, stddev=0.3))
    directory = tmp_path_factory.mktemp("export") / "1"
    export_ranker(model, log["encoding"], directory, raw_rows(log, 3), item_signatures=given)
    return request.param, model, directory


def raw_rows(log, count):
    """Requests of the test split with their windows, those with long histories first."""
    tables = []
    for path in sorted((log["raw"] / "Split-test").glob("requests-*.parquet")):
        history = log["encoding"].spec.history
        tables.append(attach_histories(pq.read_table(path), read_behaviors(log["behaviors"], path, history), history))
    table = pa.concat_tables(tables)
    return table.sort_by([("history_end", "descending")]).slice(0, count)


def test_joint_graph_scores_as_training(ranker, log):
    from models.inputs.input_pipeline import InputConfig, make_dataset
    from models.training.loop import predict

    _, model, directory = ranker
    dataset = make_dataset(log["encoded"], "test", log["encoding"], InputConfig(batch_size=64), histories=True)
    _, logits = predict(model, dataset)
    scored = score_examples(directory, log["raw"], "test", behaviors_dir=log["behaviors"], batch_requests=7)
    expected = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(scored["score"].to_numpy(), expected, rtol=0, atol=1e-6)
    assert np.std(expected) > 0.01


def stored_sums(saved, row):
    """What a BSE job stores for the user of a request: the long window, through `encode_behaviors`."""
    spec, history = saved.spec, saved.history
    raw = {name: row[history_column("long", name)].combine_chunks().flatten() for name in history.long_features}
    tensors = {}
    for name, values in raw.items():
        tensors |= value_tensors(spec[name], values)
    encoded = saved.run("encode_behaviors", tensors)
    gaps = gap_buckets(row["timestamp"].to_numpy(), row["long_timestamp"].combine_chunks().flatten().to_numpy())
    values, known = encoded["embedding"] * saved.gap_weights[gaps, np.newaxis], encoded["known"]
    table = BucketTable.build(values[known], encoded["signature"][known].astype(np.uint8), history.simhash.num_buckets)
    np.testing.assert_array_equal(saved.long_table(row).sums, table.sums)
    return table.sums


def test_stored_table_scores_as_the_joint_graph(ranker, log):
    name, _, directory = ranker
    if name not in SDIM:
        pytest.skip("no table")
    saved = SavedRanker(directory)
    joint = score_examples(directory, log["raw"], "test", behaviors_dir=log["behaviors"])
    expected = {
        (request, item): score
        for request, item, score in zip(
            *(joint[c].to_pylist() for c in ("request_id", "item_id", "score")), strict=True
        )
    }
    rows = raw_rows(log, 30)
    sums = np.stack([stored_sums(saved, rows.slice(number, 1)) for number in range(len(rows))])
    tensors = slate_tensors(saved.spec, rows, saved.history, sums)
    found = saved.run("serving_default", tensors)
    ids = zip(rows["request_id"].to_pylist(), rows["item_id"].to_pylist(), strict=True)
    keys = [(request, item) for request, items in ids for item in items]
    np.testing.assert_allclose(real(found["score"], rows), [expected[key] for key in keys], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found["long_history_used"], sums.any(axis=(1, 2, 3)))
    # One request alone is the same; a table of another version is none, and it is said.
    row = rows.slice(3, 1)
    alone = saved.run("serving_default", slate_tensors(saved.spec, row, saved.history, sums[3:4]))["score"][0]
    np.testing.assert_allclose(alone, found["score"][3, : len(alone)], rtol=0, atol=1e-6)
    without = saved.run("serving_default", slate_tensors(saved.spec, rows, saved.history))
    other = saved.run("serving_default", tensors | {"tables_version": np.full(len(rows), b"another", object)})
    assert not without["long_history_used"].any() and not other["long_history_used"].any()
    np.testing.assert_array_equal(without["logit"], other["logit"])
    changed = np.abs(real(found["score"], rows) - real(without["score"], rows)) > 1e-4
    assert changed.mean() > 0.3  # the table matters, so that parity says something


def real(grid, rows):
    """The candidates of slates, one after another."""
    return np.concatenate([row[:count] for row, count in zip(grid, candidate_counts(rows), strict=True)])


def test_json_request_with_its_whole_history_scores_as_the_joint_graph(ranker, log):
    from serving.ranker import Ranker

    _, _, directory = ranker
    rows = raw_rows(log, 20)
    joint = score_examples(directory, log["raw"], "test", behaviors_dir=log["behaviors"])
    scores = dict(
        zip(
            zip(joint["request_id"].to_pylist(), joint["item_id"].to_pylist(), strict=True),
            joint["score"].to_pylist(),
            strict=True,
        )
    )
    ranker = Ranker(directory)
    for row in rows.to_pylist():
        for item in ranker.rank(json_request(row, ranker.spec)):
            assert item.score == pytest.approx(scores[row["request_id"], item.item_id], abs=1e-5)


def test_two_exports_of_other_weights_have_other_versions(log, tmp_path):
    from models.autoint.model import AutoInt, AutoIntConfig
    from serving.saved.signature_specs import HistoryInputs

    config = AutoIntConfig.model_validate({"history": HISTORIES["end_to_end"]})
    versions = []
    for _ in range(2):
        model = AutoInt(log["encoding"], config)
        model.embedding.build(None)
        versions.append(HistoryInputs.of(model, log["encoding"]).version)
        assert HistoryInputs.of(model, log["encoding"]).version == versions[-1]
        model.embedding.table.assign_add(0.0 * model.embedding.table)
        assert HistoryInputs.of(model, log["encoding"]).version == versions[-1]
    assert versions[0] != versions[1]
    # The same numbers are another table where an encoding gives the ids to other values.
    terms = log["encoding"]._vocabularies["category"]
    turned = FeatureEncoding(
        log["encoding"].spec,
        log["encoding"]._vocabularies | {"category": terms.take(np.arange(len(terms))[::-1])},
        log["encoding"]._moments,
        log["encoding"]._boundaries,
    )
    assert HistoryInputs.of(model, turned).version != versions[1]


def test_ranker_reads_the_long_history_from_a_store(ranker, log, tmp_path):
    from serving.ranker import Ranker
    from serving.user_stores.bse.table_job import build_behavior_tables
    from serving.user_stores.user_store import VersionMismatch

    name, _, directory = ranker
    if name not in SDIM:
        with pytest.raises(ValueError, match="takes no bucket tables"):
            Ranker.with_store(directory, tmp_path / "store")
        return
    # As of a request's time the store holds what the request's own history says.
    row = raw_rows(log, 1).to_pylist()[0]
    built = build_behavior_tables(directory, log["behaviors"], tmp_path / "store", as_of=row["timestamp"])
    assert built["as_of"] == row["timestamp"]
    request = json_request(row, log["encoding"].spec)
    from_history = Ranker(directory).rank(request)
    request["history"] = request["history"][-SHORT:]
    stored = Ranker.with_store(directory, tmp_path / "store").rank(request)
    assert [item.index for item in stored] == [item.index for item in from_history]
    np.testing.assert_allclose([i.logit for i in stored], [i.logit for i in from_history], atol=1e-5)
    short = Ranker(directory).rank(request)
    assert (
        max(
            abs(a.logit - b.logit)
            for a, b in zip(sorted(short, key=lambda i: i.index), sorted(stored, key=lambda i: i.index), strict=True)
        )
        > 1e-3
    )

    # By default it is of the end of the log, and behaviours are older.
    later = build_behavior_tables(directory, log["behaviors"], tmp_path / "store")
    assert later["built"] and later["as_of"] > row["timestamp"] and later["behaviors"] > built["behaviors"]

    from serving.user_stores.builds import versions

    (version,) = versions(tmp_path / "store")
    (tmp_path / "store" / version).rename(tmp_path / "store" / "another")
    with pytest.raises(VersionMismatch, match=version):
        Ranker.with_store(directory, tmp_path / "store")


def test_a_request_without_times_is_ranked_by_its_order(ranker, log):
    """Its behaviours are of unknown age; where models have no ranks, what it asks for is not missing either."""
    from serving.ranker import Ranker

    name, _, directory = ranker
    request = json_request(raw_rows(log, 1).to_pylist()[0], log["encoding"].spec)
    ranker = Ranker(directory)
    logits = lambda request: np.array([item.logit for item in sorted(ranker.rank(request), key=lambda i: i.index)])  # noqa: E731
    with_times = logits(request)
    untimed = {**request, "history": [{k: v for k, v in b.items() if k != "timestamp"} for b in request["history"]]}
    without = logits(untimed)
    assert np.isfinite(without).all()
    del request["timestamp"]
    np.testing.assert_array_equal(logits(request), without)
    assert (np.abs(without - with_times).max() > 1e-4) == (name != "short_only")
    turned = logits({**untimed, "history": [*untimed["history"][:-SHORT], *untimed["history"][-SHORT:][::-1]]})
    if name != "target_attention":  # that reads the long window alone
        assert np.abs(turned - without).max() > 1e-5


def test_the_signatures_name_the_times_that_are_read(ranker):
    name, _, directory = ranker
    saved = SavedRanker(directory)
    taken = {s: {i for i in saved.inputs(s) if i.endswith("timestamp")} for s in ("serving_default", "rank_requests")}
    windows = {"target_attention": {"long"}, "short_only": set()}.get(name, {"short", "long"})
    of_windows = {f"{window}_timestamp" for window in windows}
    assert taken["rank_requests"] == of_windows | ({"timestamp"} if windows else set())
    expected = taken["rank_requests"] - ({"long_timestamp"} if name in SDIM else set())
    assert taken["serving_default"] == expected
    if expected:
        assert saved.inputs("rank_requests")["timestamp"].dtype.as_numpy_dtype == np.int64
