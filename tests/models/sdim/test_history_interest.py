"""Interests as fields: padding and empty histories, disjoint windows, sources of signatures, refusals."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from pydantic import ValidationError

from features.items.signatures import sign_items
from models.autoint.config import AutoIntConfig
from models.autoint.model import AutoInt
from models.aw_moe.config import AwMoeConfig
from models.aw_moe.model import AwMoe
from models.embedding import FeatureEmbedding
from models.inputs.config import InputConfig
from models.inputs.input_pipeline import make_dataset
from models.sdim.config import HistoryConfig
from models.sdim.history_interest import HistoryInterest

RNG = np.random.default_rng(0)
SIGNATURES = sign_items(pa.array(np.arange(40)), RNG.normal(size=(40, 8)))
KINDS = [
    {"short": "din", "long": "sdim"},
    {"short": "mean", "long": "sdim", "signature_source": "end_to_end"},
    {"short": "target_attention", "long": "target_attention"},
    {"short": "none", "long": "cosine_attention"},
    {"short": "none", "long": "din"},
    {"short": "din", "long": "none"},
]


def make(encoding, **settings):
    """The layer, its embeddings grown to a size at which histories matter."""
    embedding = FeatureEmbedding(encoding)
    layer = HistoryInterest(embedding, encoding, HistoryConfig.model_validate(settings), SIGNATURES)
    embedding.build(None)
    embedding.table.assign(RNG.normal(size=embedding.table.shape))
    return layer


def window(width, lengths):
    """Left-padded random behaviours of two requests."""
    real = np.arange(width) >= width - np.array(lengths)[:, np.newaxis]
    ids = {"item_id": RNG.integers(1, 20, (2, width)), "category": RNG.integers(1, 4, (2, width))}
    ids["item_row"] = RNG.integers(1, 41, (2, width))
    return {name: (values * real).astype(np.int32) for name, values in ids.items()}


def make_batch(short_lengths=(3, 1), long_lengths=(6, 2)):
    return {
        "features": {"item_id": np.arange(1, 6, dtype=np.int32), "category": np.array([1, 2, 3, 1, 2], np.int32)},
        "item_row": np.array([1, 5, 9, 13, 40], np.int32),
        "request_index": np.array([0, 0, 0, 1, 1], np.int32),
        "history": {
            "short": window(3, short_lengths),
            "short_length": np.array(short_lengths, np.int32),
            "long": window(6, long_lengths),
            "long_length": np.array(long_lengths, np.int32),
        },
    }


def padded(history, count):
    pad = lambda values: np.pad(values, ((0, 0), (count, 0)))  # noqa: E731
    return {
        name: {key: pad(values) for key, values in part.items()} if isinstance(part, dict) else part
        for name, part in history.items()
    }


@pytest.mark.parametrize("settings", KINDS)
def test_five_hundred_pads_change_nothing(small_log, settings):
    layer, batch = make(small_log[1], **settings), make_batch()
    found = layer(batch).numpy()
    more = layer({**batch, "history": padded(batch["history"], 500)}).numpy()
    assert np.abs(found).max(axis=(0, 2)).min() > 0.01
    np.testing.assert_allclose(found, more, atol=1e-6)


@pytest.mark.parametrize("settings", KINDS)
def test_no_history_is_exactly_zero_with_finite_gradients(small_log, settings):
    layer, batch = make(small_log[1], **settings), make_batch((0, 0), (0, 0))
    layer(batch)
    with tf.GradientTape() as tape:
        fields = layer(batch)
        loss = tf.reduce_sum(fields)
    np.testing.assert_array_equal(fields, np.zeros(fields.shape))
    for gradient in tape.gradient(loss, layer.trainable_variables, unconnected_gradients="zero"):
        assert np.isfinite(tf.convert_to_tensor(gradient).numpy()).all()


@pytest.mark.parametrize("settings", KINDS)
def test_a_request_reads_its_own_history_alone(small_log, settings):
    layer, batch = make(small_log[1], **settings), make_batch()
    before = layer(batch).numpy()
    for name in ("short", "long"):
        for values in batch["history"][name].values():
            values[1] = np.where(values[1] > 0, values[1] % 3 + 1, 0)  # another history for request 1
    after = layer(batch).numpy()
    np.testing.assert_allclose(before[:3], after[:3], atol=1e-6)
    assert np.abs(before[3:] - after[3:]).max() > 1e-3


def test_each_window_feeds_its_own_field(small_log):
    layer = make(small_log[1], short="din", long="sdim")
    assert layer.field_names == ("short_history", "long_history")
    both, only_short = layer(make_batch()).numpy(), make_batch(long_lengths=(0, 0))
    without = layer(only_short).numpy()
    assert np.abs(both[:, 1]).max() > 0.01
    np.testing.assert_array_equal(without[:, 1], np.zeros_like(without[:, 1]))
    assert np.abs(without[:, 0]).max() > 0.01


def test_a_table_stands_for_the_long_history(small_log):
    layer, batch = make(small_log[1], short="din", long="sdim"), make_batch()
    joint = layer(batch).numpy()
    history = dict(batch["history"])
    sums = layer._bucket_sums(history)
    del history["long"], history["long_length"]
    assert sums.shape[1:] == layer.table_shape
    np.testing.assert_allclose(layer({**batch, "history": {**history, "long_sums": sums}}), joint, atol=1e-6)


def test_behaviours_without_a_signature_are_left_out(small_log):
    layer, batch = make(small_log[1], short="none", long="sdim"), make_batch()
    batch["history"]["long"]["item_row"][0, :] = 0
    np.testing.assert_array_equal(layer(batch)[:3], np.zeros((3, 1, 8)))
    values, signed = layer.encode_behaviors(
        {"item_id": np.array([1, 2]), "category": np.array([1, 2])}, np.array([0, 7], np.int32)
    )
    np.testing.assert_array_equal(signed[0], np.full(16, -1))
    np.testing.assert_array_equal(signed[1], SIGNATURES.signatures[6])
    assert values.shape == (2, layer.dim)


def test_end_to_end_signatures_follow_the_embeddings(small_log):
    layer = make(small_log[1], short="none", long="sdim", signature_source="end_to_end")
    ids = {"item_id": np.arange(1, 20), "category": np.ones(19, int)}
    before = layer.encode_behaviors(ids, None)[1].numpy()
    layer._embedding.table.assign(-layer._embedding.table)
    after = layer.encode_behaviors(ids, None)[1].numpy()
    np.testing.assert_array_equal(after, 7 - before)  # the opposite vector has the opposite bits


def test_it_says_what_is_missing(small_log):
    encoding = small_log[1]
    embedding = FeatureEmbedding(encoding)
    with pytest.raises(ValueError, match="needs `item_signatures`: train the two-tower first"):
        HistoryInterest(embedding, encoding, HistoryConfig())
    with pytest.raises(ValueError, match="history feature `price`"):
        HistoryInterest(embedding, encoding, HistoryConfig(features=("price",)), SIGNATURES)
    with pytest.raises(ValueError, match="excludes every history feature"):
        without = FeatureEmbedding(encoding, exclude=("item_id", "category"))
        HistoryInterest(without, encoding, HistoryConfig(), SIGNATURES)


def unsigned(batch):
    return {**batch, "item_row": np.zeros_like(batch["item_row"])}


def test_a_candidate_without_a_signature_is_told_from_one_without_a_history(small_log):
    layer = make(small_log[1], short="none", long="sdim")
    with_history, without = unsigned(make_batch()), unsigned(make_batch(long_lengths=(0, 0)))
    assert np.linalg.norm(layer(with_history)[:, 0], axis=-1).min() > 0.01
    np.testing.assert_array_equal(layer(without), np.zeros((5, 1, 8)))
    # It still is compared with the history: candidates of one request differ by their features.
    assert np.abs(layer(with_history)[0] - layer(with_history)[1]).max() > 1e-3
    layer._unsigned.offset.assign(np.ones(8))
    np.testing.assert_array_equal(layer(without), np.zeros((5, 1, 8)))


def test_the_field_of_an_unsigned_candidate_reads_the_sum_of_the_history(small_log):
    layer, batch = make(small_log[1], short="none", long="sdim"), unsigned(make_batch())
    layer(batch)
    layer._unsigned.offset.assign(np.arange(8.0))
    kernel = layer._unsigned._projection.kernel.numpy()
    found = layer.behaviors(batch["history"], "long")
    values, mask = found.values, found.mask
    total = tf.einsum("bl,bld->bd", mask, values).numpy()[batch["request_index"]]
    mean = total / np.linalg.norm(total, axis=1, keepdims=True)
    candidates = layer.embed(batch["features"]).numpy()
    match = mean * candidates / np.linalg.norm(candidates, axis=1, keepdims=True)
    expected = np.concatenate([mean, match], axis=1) @ kernel + np.arange(8.0)
    np.testing.assert_allclose(layer(batch)[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_at_a_rate_of_zero_an_unsigned_candidate_has_no_interest(small_log):
    layer = make(small_log[1], short="none", long="sdim", signature_dropout=0)
    np.testing.assert_array_equal(layer(unsigned(make_batch()), training=True), np.zeros((5, 1, 8)))


def test_in_training_candidates_lose_their_signatures_at_the_rate(small_log):
    layer = make(small_log[1], short="none", long="sdim", signature_dropout=0.25)
    many = 4000
    batch = {
        "features": {"item_id": np.full(many, 3, np.int32), "category": np.ones(many, np.int32)},
        "item_row": np.full(many, 5, np.int32),
        "request_index": np.zeros(many, np.int32),
        "history": make_batch()["history"],
    }
    signed, lost = layer(batch)[0].numpy(), layer({**batch, "item_row": np.zeros(many, np.int32)})[0].numpy()
    assert np.abs(signed - lost).max() > 1e-3
    tf.random.set_seed(1)
    fields = layer(batch, training=True).numpy()
    is_lost = np.abs(fields - lost).max(axis=(1, 2)) < 1e-6
    assert abs(is_lost.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / many)  # the behaviours keep theirs, or none would be
    np.testing.assert_allclose(fields[~is_lost], np.broadcast_to(signed, fields[~is_lost].shape), atol=1e-6)
    np.testing.assert_allclose(layer(batch), np.broadcast_to(signed, fields.shape), atol=1e-6)


def test_a_given_signature_stands_for_the_catalogue_s(small_log):
    layer, batch = make(small_log[1], short="none", long="sdim"), make_batch()
    expected = layer(batch).numpy()
    given = np.full((5, 16), -1, np.int32)
    np.testing.assert_array_equal(layer({**batch, "item_signature": given}), expected)
    given[1:3] = SIGNATURES.signatures[batch["item_row"][1:3] - 1]
    mixed = layer({**unsigned(batch), "item_signature": given}).numpy()
    np.testing.assert_allclose(mixed[1:3], expected[1:3], atol=1e-6)
    np.testing.assert_array_equal(mixed[[0, 3, 4]], layer(unsigned(batch)).numpy()[[0, 3, 4]])


@pytest.mark.parametrize("make_model", ["autoint", "aw_moe"])
def test_rankers_train_without_signatures_at_the_rate_and_serve_with_them(small_log, make_model):
    directory, encoding = small_log
    tf.keras.utils.set_random_seed(1)
    batch = next(iter(make_dataset(directory, "train", encoding, InputConfig(batch_size=64), histories=True)))
    history = {"short": "none" if make_model == "autoint" else "mean", "long": "sdim", "signature_dropout": 1 - 1e-9}
    if make_model == "autoint":
        model = AutoInt(encoding, AutoIntConfig.model_validate({"num_layers": 1, "history": history}), SIGNATURES)
    else:
        model = AwMoe(encoding, AwMoeConfig.model_validate({"contrastive": None, "history": history}), SIGNATURES)
    model(batch)
    model.embedding.table.assign(RNG.normal(size=model.embedding.table.shape))
    model.history_interest._unsigned.offset.assign(np.full(8, 3.0))
    loss = lambda batch, training: model.compute_loss(batch, training=training).numpy()  # noqa: E731
    without = {**batch, "item_row": tf.zeros_like(batch["item_row"])}
    assert loss(batch, True) == pytest.approx(loss(without, False), abs=1e-5)
    assert abs(loss(batch, False) - loss(without, False)) > 1e-4


def test_no_window_at_all_is_refused():
    """Left to the layer it ended in an `IndexError` at the first batch."""
    with pytest.raises(ValidationError, match="leaves `history` out"):
        HistoryConfig(short="none", long="none")
