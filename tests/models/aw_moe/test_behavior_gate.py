"""The attention-weighted gate: its equations, its masks, its contrastive loss; and experts."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aw_moe.experts import Experts
from models.aw_moe.gate import AttentionGate, PooledGate, keep_some
from models.aw_moe.gate_contrast import contrast, draw_others, one_candidate_each

K, D = 3, 5
ONE, TWO = np.zeros(1, np.int32), np.zeros(2, np.int32)  # one and two contexts of the first history
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def gate():
    """A gate whose weights, biases too, are of a size."""
    layer = AttentionGate(K, units=4, normalisation="none")
    layer(normal(1, D), ONE, normal(1, 1, D), np.ones((1, 1), np.float32))
    for weight in layer.weights:
        weight.assign(normal(*weight.shape))
    return layer


def unit_by_hand(gate, part, kernel, bias, h, c):
    first = [gate.of_behavior.numpy(), gate.of_context.numpy(), gate.of_product.numpy()]
    hidden = sum(x @ w[:, part] for x, w in zip((h, c, h * c), first, strict=True)) + gate.hidden_bias.numpy()[part]
    return np.maximum(hidden, 0) @ kernel.numpy() + bias.numpy()


def vote_by_hand(gate, h, c):
    """α u of one behaviour."""
    u = unit_by_hand(gate, slice(0, 4), gate.gate_kernel, gate.gate_bias, h, c)
    alpha = unit_by_hand(gate, slice(4, 8), gate.activation_kernel, gate.activation_bias, h, c)
    assert u.shape == (K,) and alpha.shape == (1,)
    return alpha * u


def test_a_single_behaviour_gives_alpha_times_u(gate):
    h, c = normal(D), normal(D)
    (found,) = gate(c[None], ONE, h[None, None], np.ones((1, 1), np.float32))
    np.testing.assert_allclose(found[0], vote_by_hand(gate, h, c), rtol=1e-4, atol=1e-5)


def test_no_behaviour_gives_the_token_s_vote(gate):
    c, history_of = normal(5, D), np.array([0, 0, 1, 1, 1], np.int32)
    mask = np.array([[0, 0, 0, 0], [0, 0, 1, 1]], np.float32)
    behaviors = normal(2, 4, D)
    found = gate(c, history_of, behaviors, mask)[0].numpy()
    for i in range(2):
        np.testing.assert_allclose(found[i], vote_by_hand(gate, gate.no_history.numpy(), c[i]), atol=1e-4)
    for i in range(2, 5):
        expected = sum(vote_by_hand(gate, behaviors[1, j], c[i]) for j in (2, 3))
        np.testing.assert_allclose(found[i], expected, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_gates_of_joined_histories_add_up(gate, first, second, seed):
    """What attention that is pooled first, and softmax over behaviours, do not do."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    contexts, one, other = draw(2, D), draw(1, first, D), draw(1, second, D)
    both = np.concatenate([one, other], axis=1)
    of = lambda h: gate(contexts, TWO, h, np.ones(h.shape[:2], np.float32))[0].numpy()  # noqa: E731
    np.testing.assert_allclose(of(both), of(one) + of(other), rtol=1e-3, atol=1e-3)


def test_the_mean_of_votes_does_not_grow_with_the_history(gate):
    mean = AttentionGate(K, units=4, normalisation="count")
    contexts, history = normal(2, D), normal(1, 3, D)
    mask = np.ones((1, 3), np.float32)
    mean(contexts, TWO, history, mask)
    mean.set_weights(gate.get_weights())
    once, total = mean(contexts, TWO, history, mask)[0].numpy(), gate(contexts, TWO, history, mask)[0].numpy()
    np.testing.assert_allclose(once, total / 3, rtol=1e-4, atol=1e-4)
    twice = mean(contexts, TWO, np.tile(history, (1, 2, 1)), np.ones((1, 6), np.float32))[0]
    np.testing.assert_allclose(once, twice, rtol=1e-4, atol=1e-4)


def test_the_pooled_gate_is_the_plain_one():
    layer = PooledGate(K, units=4)
    contexts, history = normal(2, D), normal(1, 4, D)
    mask = np.array([[0, 1, 1, 1]], np.float32)
    (found,) = layer(contexts, TWO, history, mask)
    np.testing.assert_allclose(tf.reduce_sum(found, axis=-1), 1.0, atol=1e-6)
    mean = np.repeat(history[:, 1:].mean(axis=1, keepdims=True), 3, axis=1)
    np.testing.assert_allclose(layer(contexts, TWO, mean, np.ones((1, 3), np.float32))[0], found, atol=1e-6)
    (one,) = layer(contexts, TWO, history[:, 1:2], np.ones((1, 1), np.float32))
    (rest,) = layer(contexts, TWO, history[:, 2:], np.ones((1, 2), np.float32))
    assert np.abs(found - (one + rest)).max() > 0.1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.floats(0, 0.99), st.integers(0, 2**31))
def test_one_behaviour_stays_and_padding_stays_padding(lengths, rate, seed):
    tf.random.set_seed(seed)
    mask = (np.arange(6) >= 6 - np.array(lengths)[:, None]).astype(np.float32)
    kept = keep_some(tf.constant(mask), rate).numpy()
    assert set(np.unique(kept)) <= {0.0, 1.0} and (kept <= mask).all()
    np.testing.assert_array_equal(kept.sum(axis=1) > 0, mask.sum(axis=1) > 0)


def test_behaviours_are_dropped_at_the_rate_and_none_is_favoured():
    mask = tf.concat([tf.zeros([100_000, 2]), tf.ones([100_000, 10])], axis=1)
    np.testing.assert_array_equal(keep_some(mask, 0.0), mask)
    for rate in (0.1, 0.5):
        kept = keep_some(mask, rate).numpy()
        expected = 1 - rate + rate**10 / 10  # the last resort
        np.testing.assert_allclose(kept[:, 2:].mean(axis=0), expected, atol=5 * np.sqrt(0.25 / 100_000))
    only_one = keep_some(mask, 0.99).numpy()[:, 2:]
    np.testing.assert_allclose(only_one.mean(axis=0), only_one.mean(), atol=0.006)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 2**31))
def test_negatives_are_of_other_users_and_differ(users, count, seed):
    tf.random.set_seed(seed)
    users = np.array(users, np.int32)
    others, exists = (x.numpy() for x in draw_others(tf.constant(users), count))
    for i, (row, real) in enumerate(zip(others, exists, strict=True)):
        chosen = row[real]
        assert len(chosen) == min(count, np.sum(users != users[i]))
        assert len(np.unique(chosen)) == len(chosen) and (users[chosen] != users[i]).all()


def test_every_set_of_negatives_is_equally_likely():
    """χ² of the sets of two that the first of six requests is given: six sets of four others, 5 degrees of freedom."""
    tf.random.set_seed(3)
    users = tf.constant([7, 1, 7, 2, 0, 9], tf.int32)
    draw = tf.function(lambda: draw_others(users, 2)[0][0])
    drawn = np.sort([draw().numpy() for _ in range(3000)], axis=1)
    sets, counts = np.unique(drawn, axis=0, return_counts=True)
    assert sets.tolist() == [[1, 3], [1, 4], [1, 5], [3, 4], [3, 5], [4, 5]]
    assert np.sum((counts - 500) ** 2 / 500) < 20.5  # one draw in a thousand is above


def test_no_comparison_of_all_requests_with_all():
    """A batch of a million requests: a matrix of all pairs would hold 10^12 numbers."""
    tf.random.set_seed(1)
    users = np.random.default_rng(1).integers(0, 1000, 1_000_000).astype(np.int32)
    others, exists = (x.numpy() for x in draw_others(tf.constant(users), 3))
    assert exists.all() and (users[others] != users[:, None]).all()
    assert np.abs(np.bincount(others.ravel(), minlength=len(users)) - 3).max() < 20  # Poisson of mean 3


def test_a_candidate_is_drawn_from_its_request():
    index = np.repeat(np.arange(4, dtype=np.int32), [1, 4, 2, 3])
    requests = RNG.integers(0, 4, (200, 7)).astype(np.int32)
    rows = one_candidate_each(tf.constant(requests), tf.constant(index), tf.constant(4)).numpy()
    np.testing.assert_array_equal(index[rows], requests)
    assert set(rows.ravel().tolist()) == set(range(10))


def test_contrast_is_info_nce():
    gates, views = normal(4, K), normal(4, K)
    negatives = np.array([[1, 2], [2, 3], [0, 3], [0, 0]], np.int32)
    exists = np.array([[True, True], [True, False], [True, True], [False, False]])
    anchors = np.array([True, True, False, True])
    found = contrast(gates, views, negatives, exists, anchors, 0.5)
    cos = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b) / 0.5  # noqa: E731

    def loss(i, others):
        scores = np.exp([cos(gates[i], views[i]), *(cos(gates[i], gates[n]) for n in others)])
        return -np.log(scores[0] / scores.sum())

    # The third is no anchor, the fourth has nobody to be told apart from.
    np.testing.assert_allclose(found.loss, (loss(0, [1, 2]) + loss(1, [2])) / 2, rtol=1e-5)
    np.testing.assert_allclose(found.chance, (np.log(3) + np.log(2)) / 2, rtol=1e-6)
    assert found.anchors == 2


def test_gates_that_are_alike_have_the_loss_of_chance():
    gates = np.tile(normal(1, K), (6, 1))
    others, exists = draw_others(tf.range(6), 3)
    found = contrast(gates, gates, others, exists, np.ones(6, bool), 0.1)
    np.testing.assert_allclose([found.loss, found.chance], np.log(4), rtol=1e-5)


def test_experts_are_networks_of_their_own():
    layer = Experts(K, (6, 4))
    impressions = normal(8, D)
    layer(impressions)
    for weight in layer.weights:
        weight.assign(normal(*weight.shape))
    found = layer(impressions).numpy()
    for k in range(K):
        hidden = impressions
        for number, (kernel, bias) in enumerate(zip(layer.kernels, layer.biases, strict=True)):
            hidden = np.maximum(hidden, 0) if number else hidden
            hidden = hidden @ kernel[k].numpy() + bias[k].numpy()
        np.testing.assert_allclose(found[:, k], hidden[:, 0], rtol=1e-4, atol=1e-4)
    assert sum(int(np.prod(w.shape)) for w in layer.weights) == K * (5 * 6 + 6 + 6 * 4 + 4 + 4 + 1)
