"""Slates of any sizes in a grid of rows: the same attention as candidate by candidate, at a cost that N bounds."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sdim.request_layout import RequestLayout
from models.sdim.target_attention import DinAttention, DotProductAttention, dot_product_attention, mean_pooling

LENGTH, WIDTH = 5, 4
DIN = DinAttention((6, 3))
DIN.build([None, None, WIDTH])
ATTENTIONS = {
    "din": DIN,
    "target_attention": DotProductAttention(),
    "cosine_attention": DotProductAttention(unit_vectors=True),
    "mean": mean_pooling,
    "fixed_temperature": dot_product_attention,
}
SLATES = st.lists(st.one_of(st.just(0), st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=12)


def layout_of(slates):
    index = tf.constant(np.repeat(np.arange(len(slates)), slates), tf.int32)
    return RequestLayout(index, tf.constant(len(slates)) if len(slates) > 1 else 1)


def case(slates, seed):
    """Candidates [N, d], histories [B, L, d], masks [B, L] with empty histories among them, and upstream [N, d]."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: tf.constant(rng.normal(size=shape).astype(np.float32))  # noqa: E731
    lengths = rng.integers(0, LENGTH + 1, (len(slates), 1))
    mask = tf.constant((np.arange(LENGTH) >= LENGTH - lengths).astype(np.float32))
    return normal(sum(slates), WIDTH), normal(len(slates), LENGTH, WIDTH), mask, normal(sum(slates), WIDTH)


def with_gradients(interest, candidates, history, upstream):
    with tf.GradientTape() as tape:
        tape.watch([candidates, history])
        found = interest(candidates, history)
        loss = tf.reduce_sum(found * upstream)
    zero = tf.UnconnectedGradients.ZERO
    return [found, *map(tf.convert_to_tensor, tape.gradient(loss, [candidates, history], unconnected_gradients=zero))]


@pytest.mark.parametrize("name", ATTENTIONS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(slates=SLATES, seed=st.integers(0, 99))
def test_attention_is_that_of_each_candidate_alone(name, slates, seed):
    attention = ATTENTIONS[name]
    candidates, history, mask, upstream = case(slates, seed)

    def in_grid(candidates, history):
        layout = layout_of(slates)
        return layout.to_flat(attention(layout.to_grid(candidates), layout.to_rows(history), layout.to_rows(mask)))

    def one_by_one(candidates, history):
        owners = np.repeat(np.arange(len(slates)), slates)
        return attention(candidates[:, tf.newaxis], tf.gather(history, owners), tf.gather(mask, owners))[:, 0]

    found = with_gradients(in_grid, candidates, history, upstream)
    expected = with_gradients(one_by_one, candidates, history, upstream)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(slates=st.lists(st.one_of(st.just(0), st.integers(1, 3), st.integers(1, 1000)), min_size=2, max_size=40))
def test_the_grid_grows_with_the_candidates_whatever_the_slates(slates):
    total = sum(slates)
    flat = tf.range(total)[:, tf.newaxis]
    if not total:
        assert layout_of(slates).to_flat(tf.zeros([0, 1, 1])).shape == (0, 1)
        return
    layout = layout_of(slates)
    grid = layout.to_grid(flat)
    rows, width, _ = grid.shape
    assert rows * (width + 2) < 2 * total + 6 * sum(count > 0 for count in slates) + 1
    np.testing.assert_array_equal(layout.to_flat(grid), flat)
    owner = layout.to_rows(tf.range(len(slates))).numpy()
    index = np.repeat(np.arange(len(slates)), slates)
    # Every candidate stands in a row of its own request.
    place = layout.to_flat(tf.broadcast_to(tf.range(rows)[:, tf.newaxis, tf.newaxis], grid.shape)).numpy()[:, 0]
    np.testing.assert_array_equal(owner[place], index)


def test_one_request_among_many_does_not_widen_the_others():
    grid = layout_of([256] + [1] * 768).to_grid(tf.zeros([1024, 1]))
    assert np.prod(grid.shape) <= 2 * 1024


def test_slates_of_one_size_leave_no_cell_empty():
    assert layout_of([10] * 102).to_grid(tf.zeros([1020, 1])).shape == (102, 10, 1)


def test_a_single_request_is_a_row_and_its_history_is_not_copied():
    layout, history = layout_of([700]), tf.ones([1, 1000, 8])
    assert layout.to_grid(tf.zeros([700, 1])).shape == (1, 700, 1)
    assert layout.to_rows(history) is history
    assert layout.to_flat(tf.zeros([1, 700, 3])).shape == (700, 3)
