"""The batch job against a real SavedModel with the signature `encode_behaviors`."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import models  # noqa: F401
from features.beam_runner import make_pipeline
from features.histories.bucket_table import BucketTable
from features.histories.time_gaps import NUM_GAP_BUCKETS, gap_buckets
from features.items.simhash import SimHash, SimHashConfig
from features.spec import FeatureSpec
from serving.saved.signature_specs import BSE_FILE, SPEC_FILE, HistoryInputs
from serving.user_stores.bse.store import BseStore
from serving.user_stores.bse.table_job import SavedModelBehaviorEncoder, build_behavior_tables, encode_behavior
from tests.builders.behavior_case import EVERY, START, histories, tags_of, times_of, write_log

DIM, ITEMS = 6, 30
SPEC = FeatureSpec.model_validate(
    {
        "name": "shop",
        "features": [
            {"name": "item_id", "table": "items"},
            {"name": "tags", "table": "items", "kind": "multi_categorical", "dtype": "int64"},
        ],
        "history": {"features": ["item_id", "tags"], "short_length": 3, "long_length": 10},
    }
)
INPUTS = HistoryInputs(
    short_features=("item_id", "tags"),
    long_features=("item_id", "tags"),
    short_length=3,
    long_length=10,
    version="abc123",
    simhash=SimHashConfig(seed=2),
    dim=DIM,
)
EMBEDDINGS = np.random.default_rng(0).normal(size=(ITEMS, DIM)).astype(np.float32)


def export(directory: Path, inputs: HistoryInputs = INPUTS, weights: np.ndarray | None = None) -> Path:
    """Embeds an item by its number, plus the sum of its tags; item 9 has no signature; weighs by age if it is told."""
    import tensorflow as tf

    from models.sdim.buckets import signatures

    table, hashing = tf.constant(EMBEDDINGS), SimHash(DIM, inputs.simhash or SimHashConfig())

    def encode(item_id, tags):
        index = tf.strings.to_number(tf.strings.substr(item_id, 5, -1), tf.int32)
        real = tf.where(tags == -(2**63), tf.zeros_like(tags), tags)
        total = tf.cast(tf.reduce_sum(real, axis=1, keepdims=True), tf.float32)
        embedding = tf.gather(table, index) + total
        known = index != 9
        return {
            "embedding": embedding,
            "signature": tf.where(known[:, tf.newaxis], signatures(hashing, embedding), -1),
            "known": known,
        }

    specs = {"item_id": tf.TensorSpec([None], tf.string), "tags": tf.TensorSpec([None, None], tf.int64)}
    module, signed = tf.Module(), {"encode_behaviors": tf.function(encode).get_concrete_function(**specs)}
    if weights is not None:
        weigh = tf.function(lambda gap: {"weight": tf.gather(tf.constant(weights), gap)})
        signed["gap_weights"] = weigh.get_concrete_function(gap=tf.TensorSpec([None], tf.int32, name="gap"))
    tf.saved_model.save(module, str(directory), signatures=signed)
    (directory / SPEC_FILE).parent.mkdir(exist_ok=True)
    (directory / SPEC_FILE).write_text(SPEC.model_dump_json())
    (directory / BSE_FILE).write_text(inputs.model_dump_json())
    return directory


def expected_table(items: list) -> BucketTable:
    window = [item for item in items[: max(0, len(items) - 3)][-10:] if item not in (None, "item 9")]
    values = [EMBEDDINGS[int(item.split()[1])] + np.float32(sum(tags_of(item) or [])) for item in window]
    values = np.array(values, np.float32).reshape(-1, DIM)
    return BucketTable.build(values, SimHash(DIM, INPUTS.simhash).signatures(values), 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export(tmp_path_factory.mktemp("models") / "1")


@pytest.fixture
def log(tmp_path):
    users = histories(60)
    write_log(tmp_path / "log", users)
    return users


def build(model, tmp_path, **options):
    return build_behavior_tables(model, tmp_path / "log", tmp_path / "store", **options)


def test_the_store_holds_every_user_s_table(model, tmp_path, log):
    built = build(model, tmp_path)
    with BseStore(tmp_path / "store", "abc123") as store:
        assert store.verify().num_faults == 0
        missing = 0
        for user, items in log.items():
            table, found = expected_table(items), store.get(user)
            if not table.counts.any():
                missing += 1
                assert found is None
                continue
            assert np.array_equal(found.counts, table.counts)
            np.testing.assert_allclose(found.sums, table.sums, rtol=1e-5, atol=1e-5)
        assert missing > 2 and len(store) == len(log) - missing
        assert store.header["simhash"]["seed"] == 2 and store.header["history"]["long_length"] == 10
    assert built["built"] and built["version"] == "abc123" and built["users"] == len(log) - missing
    assert built["payload_bytes"] == built["users"] * built["record_bytes"] == built["users"] * (4 + 128 * 4 * 7)
    json.dumps(built)


def test_a_second_run_does_nothing(model, tmp_path, log, monkeypatch):
    first = build(model, tmp_path)
    data = Path(os.path.realpath(tmp_path / "store" / "current")) / "data.mdb"
    before = data.stat()
    monkeypatch.setattr(SavedModelBehaviorEncoder, "encode", None)
    monkeypatch.setattr(SavedModelBehaviorEncoder, "_ranker", None)
    again = build(model, tmp_path)
    assert again == first | {"built": False}
    assert data.stat().st_mtime_ns == before.st_mtime_ns and data.stat().st_ino == before.st_ino


@pytest.mark.parametrize("change", ["log", "ranker", "precision", "force", "damage"])
def test_what_has_changed_is_built(model, tmp_path, log, change):
    first = build(model, tmp_path)
    options = {}
    if change == "log":
        write_log(tmp_path / "log", log | {"user x": ["item 1"] * 20})
    elif change == "ranker":
        model = export(tmp_path / "models" / "2", INPUTS.model_copy(update={"version": "def456"}))
    elif change == "damage":
        os.truncate(tmp_path / "store" / "current" / "data.mdb", 9000)
    else:
        options = {"precision": {"precision": "int8"}, "force": {"force": True}}[change]
    again = build(model, tmp_path, **options)
    assert again["built"]
    with BseStore(tmp_path / "store") as store:
        assert len(store) == first["users"] + (change == "log") and store.verify().num_faults == 0
        assert store.version == ("def456" if change == "ranker" else "abc123")
        assert store.layout.precision == ("int8" if change == "precision" else "fp32")


def test_an_old_version_becomes_current_again_without_a_build(model, tmp_path, log):
    build(model, tmp_path)
    build(export(tmp_path / "2", INPUTS.model_copy(update={"version": "def456"})), tmp_path)
    assert not build(model, tmp_path)["built"]
    with BseStore(tmp_path / "store") as store:
        assert store.version == "abc123"


def test_an_appended_behaviour_is_what_a_build_would_add(model, tmp_path, log):
    build(model, tmp_path)
    encoder = SavedModelBehaviorEncoder(model)
    values, signatures, known = encoder.encode(
        pa.table({"item_id": ["item 4", "item 9"], "tags": pa.array([[0], None], pa.list_(pa.int64()))})
    )
    assert known.tolist() == [True, False]
    with BseStore(tmp_path / "store") as store:
        store.append("user 00003", values[0], signatures[0])
        items = [item for item in log["user 00003"][: len(log["user 00003"]) - 3] if item not in (None, "item 9")]
        expected = expected_table([*items, "item 4", *["item 1"] * 3])
        assert np.array_equal(store.get("user 00003").counts, expected.counts)


def test_another_beam_pipeline_lends_its_runner(model, tmp_path, log):
    with make_pipeline() as root:
        built = build(model, tmp_path, root=root)
    assert built["users"] > 40


def test_a_failed_build_publishes_nothing(model, tmp_path, log):
    build(model, tmp_path)
    users = log | {"user z": ["oops x7"] * 20}  # the model cannot read it
    write_log(tmp_path / "log", users)
    with pytest.raises(Exception, match="(?i)stringtonumber|number"):
        build(model, tmp_path)
    with BseStore(tmp_path / "store", "abc123") as store:
        assert store.get("user z") is None and len(store) > 40
    assert len(list((tmp_path / "store" / ".builds").glob("abc*"))) == 1


def test_the_encoder_pickles_without_its_model(model):
    encoder = SavedModelBehaviorEncoder(model)
    assert encoder._ranker is encoder._ranker
    copy = pickle.loads(pickle.dumps(encoder))
    assert "_ranker" not in copy.__dict__ and copy.version == "abc123" and copy.history == encoder.history


def test_what_is_missing_is_said(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="ingest first"):
        build(model, tmp_path)
    without = export(tmp_path / "plain", INPUTS.model_copy(update={"simhash": None, "dim": None}))
    with pytest.raises(ValueError, match="no bucket tables"):
        SavedModelBehaviorEncoder(without)


def test_what_is_appended_or_expired_is_as_old_as_the_table_says(tmp_path, log):
    """For a fixed `as_of` an appended behaviour is what a build would add, and expiring it leaves what was there."""
    weights = np.random.default_rng(3).uniform(0.5, 2.0, NUM_GAP_BUCKETS).astype(np.float32)
    model = export(tmp_path / "aged" / "1", INPUTS, weights)
    as_of = START + 40 * EVERY
    built = build(model, tmp_path, as_of=as_of)
    encoder = SavedModelBehaviorEncoder(model)
    np.testing.assert_array_equal(encoder.gap_weights, weights)
    with BseStore(tmp_path / "store") as store:
        assert store.header["as_of"] == built["as_of"] == as_of
        user, items = "user 00006", log["user 00006"][:40]
        known = [
            (i, t) for i, t in list(zip(items, times_of(items), strict=True))[:37][-10:] if i not in (None, "item 9")
        ]
        values = np.array([EMBEDDINGS[int(i.split()[1])] + np.float32(sum(tags_of(i) or [])) for i, _ in known])
        signed = SimHash(DIM, INPUTS.simhash).signatures(values)
        aged = values * weights[gap_buckets(as_of, np.array([t for _, t in known])), np.newaxis]
        before = store.get(user)
        np.testing.assert_allclose(before.sums, BucketTable.build(aged, signed, 8).sums, rtol=1e-5, atol=1e-5)
        behavior = {"item_id": "item 4", "tags": [0], "timestamp": as_of - 3 * 86_400_000}
        value, signature = encode_behavior(encoder, behavior, as_of)
        np.testing.assert_allclose(value, EMBEDDINGS[4] * weights[6], rtol=1e-6)
        np.testing.assert_allclose(
            encode_behavior(encoder, {"item_id": "item 4", "tags": [0]}, as_of)[0],
            EMBEDDINGS[4] * weights[0],
            rtol=1e-6,
        )
        store.append(user, value, signature)
        assert not np.array_equal(store.get(user).sums, before.sums)
        store.expire(user, value, signature)
        np.testing.assert_allclose(store.get(user).sums, before.sums, atol=1e-5)
        assert np.array_equal(store.get(user).counts, before.counts)


def test_a_build_as_of_another_time_is_another_build(model, tmp_path, log):
    first = build(model, tmp_path)
    newest = max(time for items in log.values() for time in times_of(items))
    assert first["as_of"] == newest + 1 and not build(model, tmp_path, as_of=newest + 1)["built"]
    earlier = build(model, tmp_path, as_of=START + 20 * EVERY)
    assert earlier["built"] and earlier["behaviors"] < first["behaviors"]
