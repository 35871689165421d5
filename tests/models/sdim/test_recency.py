"""How long ago a behaviour was: in every attention, nothing at the start, and the same in NumPy and TensorFlow."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from features.histories.time_gaps import GAP_BOUNDS, NUM_GAP_BUCKETS
from features.histories.time_gaps import gap_buckets as gap_buckets_in_numpy
from features.items.signatures import sign_items
from features.log_contract import MAX_TIMESTAMP, MIN_TIMESTAMP
from models.embedding import FeatureEmbedding
from models.inputs.config import InputConfig
from models.inputs.history_windows import TIME_GAP
from models.inputs.input_pipeline import make_dataset
from models.sdim.config import HistoryConfig
from models.sdim.history_interest import HistoryInterest
from models.sdim.recency import Recency, gap_buckets, rank_buckets
from tests.builders import small_log as small

SIGNATURES = sign_items(pa.array(np.arange(40)), np.random.default_rng(0).normal(size=(40, 8)))
KINDS = {
    **{kind: {"short": kind, "long": "none"} for kind in ("mean", "target_attention", "cosine_attention", "din")},
    "long_attention": {"short": "none", "long": "target_attention"},
    "sdim": {"short": "none", "long": "sdim"},
    "sdim_end_to_end": {"short": "none", "long": "sdim", "signature_source": "end_to_end"},
}
TIMES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(MIN_TIMESTAMP - 2, MIN_TIMESTAMP + 2),
    st.integers(MAX_TIMESTAMP - 2, MAX_TIMESTAMP + 2),
    st.tuples(st.integers(MIN_TIMESTAMP, MAX_TIMESTAMP), st.sampled_from(GAP_BOUNDS), st.integers(-1, 1)).map(sum),
)


def make(encoding, seed=1, **settings):
    """The layer, its embeddings grown to a size at which histories matter; of one seed the same."""
    tf.keras.utils.set_random_seed(seed)
    embedding = FeatureEmbedding(encoding)
    layer = HistoryInterest(embedding, encoding, HistoryConfig.model_validate(settings), SIGNATURES)
    embedding.build(None)
    embedding.table.assign(np.random.default_rng(seed).normal(size=embedding.table.shape))
    return layer


def trained(layer, seed=2):
    """The layer with recency as a training might leave it."""
    generator = np.random.default_rng(seed)
    for recency in layer._recency.values():
        for weight in recency.trainable_weights:
            weight.assign(generator.normal(size=weight.shape) / (8 if weight.shape.rank == 1 else 1))
    return layer


def reversed_window(history, window):
    """The history with the behaviours of one window in the opposite order; padding stays on the left, times stay."""
    lengths, parts = history[f"{window}_length"].numpy(), {}
    for name, values in history[window].items():
        turned = values.numpy().copy()
        for row, length in enumerate(lengths):
            if length and name != TIME_GAP:
                turned[row, -length:] = turned[row, -length:][::-1]
        parts[name] = tf.constant(turned)
    return {**history, window: parts}


@pytest.fixture(scope="module")
def batch(small_log):
    """A batch of users with long histories, whose behaviours have times."""
    directory, encoding = small_log
    return next(iter(make_dataset(directory, "train", encoding, InputConfig(batch_size=200), histories=True)))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4).flatmap(lambda n: st.tuples(st.lists(TIMES, min_size=n, max_size=n), st.data())))
def test_buckets_of_gaps_are_those_of_numpy(drawn):
    requests, data = drawn
    near = lambda time: st.one_of(  # noqa: E731
        TIMES,
        st.tuples(st.just(time), st.sampled_from(GAP_BOUNDS), st.integers(-1, 1)).map(lambda p: p[0] - p[1] + p[2]),
    )
    rows = [data.draw(st.lists(near(time), min_size=3, max_size=3)) for time in requests]
    rows = np.clip(np.array(rows, object), -(2**63), 2**63 - 1).astype(np.int64)
    requests = np.array(requests, np.int64)
    expected = gap_buckets_in_numpy(requests[:, np.newaxis], rows)
    found = gap_buckets(tf.constant(requests), tf.constant(rows))
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, expected)


def test_ranks_are_bucketed_by_powers_of_two():
    ranks = np.arange(1, 70_000)
    expected = [min(int(rank).bit_length() - 1, 15) for rank in ranks]
    np.testing.assert_array_equal(rank_buckets(tf.constant(ranks, tf.int32)), expected)


def test_batches_hold_the_gaps_of_their_requests(small_log, batch):
    """Against times of the raw log: what is shown here of one batch holds for all, as windows are cut alike."""
    for window in ("short", "long"):
        gaps = batch["history"][window][TIME_GAP].numpy()
        width, lengths = gaps.shape[1], batch["history"][f"{window}_length"].numpy()
        inside = np.arange(width) >= width - lengths[:, np.newaxis]
        assert ((gaps > 0) == inside).all() and len(np.unique(gaps[inside])) > 2
        assert (np.diff(np.where(inside, gaps, NUM_GAP_BUCKETS), axis=1) <= 0).all()  # oldest first


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_behaviours_counts(small_log, batch, kind):
    """Reversed, the same items at the same times say something else."""
    layer = trained(make(small_log[1], **KINDS[kind]))
    window = layer.windows[0]
    found = layer(batch).numpy()
    turned = layer({**batch, "history": reversed_window(batch["history"], window)}).numpy()
    assert np.abs(found - turned).max() > 1e-2
    before = make(small_log[1], **KINDS[kind], recency="none")
    other = before({**batch, "history": reversed_window(batch["history"], window)})
    np.testing.assert_allclose(before(batch), other, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_model_is_the_one_without_recency(small_log, batch, kind):
    without = make(small_log[1], **KINDS[kind], recency="none")(batch)
    assert np.abs(without).max() > 0.01
    for recency in ("rank", "gap_and_rank"):
        np.testing.assert_array_equal(make(small_log[1], **KINDS[kind], recency=recency)(batch), without)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_adds_nothing_and_no_history_is_zero(small_log, batch, kind):
    layer = trained(make(small_log[1], **KINDS[kind]))
    lengths = batch["history"][f"{layer.windows[0]}_length"].numpy()
    found, nobody = layer(batch).numpy(), np.repeat(lengths == 0, np.bincount(batch["request_index"]))
    assert nobody.any() and not found[nobody].any() and np.abs(found[~nobody]).max() > 0.01
    wider = {
        name: {key: tf.pad(values, [[0, 0], [300, 0]]) for key, values in part.items()}
        if isinstance(part, dict)
        else part
        for name, part in batch["history"].items()
    }
    np.testing.assert_allclose(layer({**batch, "history": wider}), found, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_recency_is_learnt_and_an_unknown_gap_is_not(small_log, batch, kind):
    layer = trained(make(small_log[1], **KINDS[kind]))
    layer(batch)
    (recency,) = layer._recency.values()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(batch) ** 2)
    gradients = tape.gradient(loss, recency.trainable_weights)
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in map(tf.convert_to_tensor, gradients))
    assert len(gradients) == (1 if layer.uses_table else 2 if kind == "mean" else 4)
    unknown = recency(tf.zeros([2, 3], tf.int32), None)
    assert not unknown.offset.numpy().any() and not unknown.bias.numpy().any()


def test_requests_that_tell_no_times_still_have_an_order(small_log, batch):
    """Without gaps, and with unknown ones, the rank is what is left."""
    layer = trained(make(small_log[1], **KINDS["target_attention"]))
    short = {name: values for name, values in batch["history"]["short"].items() if name != TIME_GAP}
    unknown = short | {TIME_GAP: tf.zeros_like(short["item_id"])}
    found = [layer({**batch, "history": {**batch["history"], "short": part}}).numpy() for part in (short, unknown)]
    np.testing.assert_array_equal(*found)
    assert np.abs(found[0] - layer(batch)).max() > 1e-2
    turned = reversed_window({**batch["history"], "short": unknown}, "short")
    assert np.abs(layer({**batch, "history": turned}) - found[0]).max() > 1e-2


def test_signatures_are_of_items_alone(small_log, batch):
    """Recency moves what is added up, not the bucket: candidates, which have none, would miss it."""
    layer = make(small_log[1], **KINDS["sdim_end_to_end"])
    before = layer._bucket_sums(batch["history"]).numpy()
    after = trained(layer)._bucket_sums(batch["history"]).numpy()
    np.testing.assert_array_equal(np.abs(after).max(axis=-1) > 0, np.abs(before).max(axis=-1) > 0)
    assert np.abs(after - before).max() > 0.1


def test_a_table_knows_no_ranks(small_log):
    layer = make(small_log[1], short="din", long="sdim")
    assert layer.table_recency.gaps and not layer.table_recency.ranks
    assert make(small_log[1], short="din", long="sdim", recency="rank").table_recency is None


def test_hcn_s_ages_are_ranks_alone():
    layer = Recency(4, gaps=False, weighs=False)
    assert [weight.shape for weight in layer.trainable_weights] == [(16, 4)]


def test_the_gate_of_aw_moe_knows_the_order(small_log, batch):
    from models.aw_moe.config import AwMoeConfig
    from models.aw_moe.model import AwMoe

    for recency, changes in (("gap_and_rank", True), ("none", False)):
        history = {"short": "din", "long": "none", "recency": recency}
        tf.keras.utils.set_random_seed(3)
        model = AwMoe(small_log[1], AwMoeConfig.model_validate({"num_experts": 3, "history": history}))
        model(batch)
        trained(model.history_interest)
        turned = {**batch, "history": reversed_window(batch["history"], "short")}
        change = np.abs(model.gates(batch) - model.gates(turned)).max()
        assert change > 1e-3 if changes else change < 1e-5


def test_the_small_log_has_times_of_every_age():
    ages = small.NOW - np.concatenate(small.raw_behaviors(np.random.default_rng(0))["timestamp"].to_pylist())
    assert ages.min() == 10_000 and ages.max() > GAP_BOUNDS[-1]
