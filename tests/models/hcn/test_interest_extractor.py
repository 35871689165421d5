"""Extraction, co-interest and scoring by hand-computed values: competition, empty centres, symmetry, soft and max."""

import numpy as np
import pytest
import tensorflow as tf

from models.hcn.co_interest import CoInterest
from models.hcn.interest_extractor import HierarchicalExtractor, Interests, SelfAttentiveExtractor
from models.hcn.interest_scoring import pairwise_cosines, redundancy, score_interests

RNG = np.random.default_rng(3)
LENGTHS = np.array([6, 2, 1, 0])


def random_case(width=6, dim=8):
    mask = (np.arange(width) >= width - LENGTHS[:, np.newaxis]).astype(np.float32)
    return RNG.normal(size=(len(LENGTHS), width, dim)).astype(np.float32), mask


def softmax(x, axis=-1):
    powers = np.exp(np.subtract(x, np.max(x, axis=axis, keepdims=True)))
    return powers / powers.sum(axis=axis, keepdims=True)


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)


@pytest.mark.parametrize("routing", ["k_means", "learnt"])
def test_layers_are_the_equations(routing):
    behaviors, mask = random_case()
    extractor = HierarchicalExtractor(3, 8, 2, sharpness=2.0, routing=routing)
    found = extractor.trace(behaviors, mask)
    centres = np.repeat(extractor.prototypes.numpy()[np.newaxis], len(mask), axis=0)
    np.testing.assert_allclose(found[0].centres, centres)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=-1), np.sqrt(8), rtol=1e-5)
    for step in found[1:]:  # W_q, W_k and W_v start as identities
        scores = 2.0 * centres @ behaviors.transpose(0, 2, 1) / np.sqrt(8)
        shared = softmax(scores, axis=1) * mask[:, np.newaxis]
        np.testing.assert_allclose(step.assignment, shared, atol=1e-5)
        centres = layer_norm(centres + (shared / (shared.sum(2, keepdims=True) + 1e-6)) @ behaviors)
        np.testing.assert_allclose(step.centres, centres, atol=1e-4)
    final = found[-1]
    np.testing.assert_allclose(final.assignment.numpy().sum(1), mask, atol=1e-6)
    again = extractor(behaviors, mask)
    np.testing.assert_allclose(again.centres, final.centres, atol=1e-6)


def test_a_user_of_n_behaviours_has_at_most_n_centres():
    behaviors, mask = random_case()
    found = HierarchicalExtractor(4, 8, 3)(behaviors, mask)
    counts = found.valid.numpy().sum(1)
    assert (counts <= LENGTHS).all() and (counts[:3] >= 1).all()
    assert counts[2] == 1 and counts[3] == 0
    assert np.isfinite(found.centres).all()
    owners = np.where(mask > 0, found.assignment.numpy().argmax(1), -1)
    for user in range(len(LENGTHS)):
        assert set(np.flatnonzero(found.valid[user])) == set(owners[user]) - {-1}


def test_equal_prototypes_never_separate_and_the_default_ones_do():
    behaviors, mask = random_case()
    target = tf.constant(RNG.normal(size=(len(mask), 1, 8)).astype(np.float32))
    spread = {}
    for kind in ("equal", "default"):
        extractor = HierarchicalExtractor(3, 8, 2, routing="learnt")
        extractor(behaviors, mask)
        if kind == "equal":
            extractor.prototypes.assign(tf.repeat(extractor.prototypes[:1], 3, axis=0))
        optimizer = tf.keras.optimizers.legacy.SGD(0.1)
        for _ in range(3):
            with tf.GradientTape() as tape:
                centres = extractor(behaviors, mask).centres
                # Smooth: the gradient of a maximum would turn a rounding error into a winner.
                loss = tf.reduce_sum(tf.reduce_logsumexp(centres * target, axis=1))
            optimizer.minimize(loss, extractor.trainable_variables, tape=tape)
        spread[kind] = np.ptp(extractor(behaviors, mask).centres.numpy(), axis=1).max()
    assert spread["equal"] < 1e-4 < 0.5 < spread["default"]


@pytest.mark.parametrize("count", [1, 3])
def test_self_attention_is_a_mean_of_behaviours(count):
    behaviors, mask = random_case()
    extractor = SelfAttentiveExtractor(count, 8, 5)
    found = extractor(behaviors, mask)
    inner = np.tanh(behaviors @ extractor.inner.numpy()) @ extractor.outer.numpy()
    weights = softmax(np.where(mask[..., np.newaxis] > 0, inner, -1e9), axis=1) * mask[..., np.newaxis]
    np.testing.assert_allclose(found.centres, weights.transpose(0, 2, 1) @ behaviors, atol=1e-5)
    np.testing.assert_array_equal(found.valid, np.repeat(LENGTHS[:, np.newaxis] > 0, count, axis=1))
    np.testing.assert_array_equal(found.centres[3], np.zeros((count, 8)))


def interests(valid):
    valid = np.array(valid)
    return Interests(tf.constant(RNG.normal(size=(*valid.shape, 4)).astype(np.float32)), tf.constant(valid), None)


def test_co_interest_is_the_equations_and_reads_no_empty_centre():
    short, long = interests([[True, True, False]] * 2), interests([[True, False, True], [False] * 3])
    layer = CoInterest(4)
    united, valid = (values.numpy() for values in layer(short, long))
    np.testing.assert_array_equal(valid, [[True, True, True], [True, True, False]])
    own, other = short.centres.numpy()[0], long.centres.numpy()[0]
    co, w1, w2 = (getattr(layer, name).numpy() for name in ("affinity", "of_long", "of_short"))
    scores = own @ co @ other.T / 2.0
    to_long = softmax(np.where([True, False, True], scores, -1e9), axis=1)
    to_short = softmax(np.where([True, True, False], scores.T, -1e9), axis=1)
    short_term, long_term = layer_norm(own + to_long @ other @ w1), layer_norm(other + to_short @ own @ w2)
    kernel = layer._gate.kernel.numpy()
    gate = 1 / (1 + np.exp(-(np.concatenate([short_term, long_term], axis=1) @ kernel)))
    np.testing.assert_allclose(united[0], gate * short_term + (1 - gate) * (to_long @ long_term), atol=1e-4)
    # Without a long history, what is left is the short one's.
    np.testing.assert_allclose(united[1], layer_norm(short.centres.numpy()[1]), atol=1e-4)


def test_soft_and_max_by_hand():
    products, valid = np.array([[1.0, -2.0, 5.0]], np.float32), np.array([[True, True, False]])
    assert score_interests(products, valid, "max").numpy() == 1.0
    weights = softmax([1.0, -2.0])
    np.testing.assert_allclose(score_interests(products, valid, "soft"), [weights @ [1.0, -2.0]], rtol=1e-6)
    # An even power keeps the sign: the most opposed interest gets the least attention.
    weights = softmax([1.0, -4.0])
    np.testing.assert_allclose(score_interests(products, valid, "soft", 2.0), [weights @ [1.0, -2.0]], rtol=1e-5)
    np.testing.assert_allclose(score_interests(products * 3, valid, "soft", 8.0), [3.0], rtol=1e-5)


@pytest.mark.parametrize("scoring, power", [("soft", 1.0), ("soft", 2.0), ("soft", 3.0), ("max", 1.0)])
def test_scores_are_finite_at_zero_with_finite_gradients(scoring, power):
    products = tf.Variable(np.array([[0.0, 0.0], [0.0, 3.0], [1e3, -1e3]], np.float32))
    valid = np.array([[True, True], [True, False], [True, True]])
    with tf.GradientTape() as tape:
        scores = score_interests(products, valid, scoring, power)
    gradient = tape.gradient(scores, products).numpy()
    assert np.isfinite(scores).all() and np.isfinite(gradient).all()
    assert gradient[1, 1] == 0 and scores[1] == 0


def test_redundancy_by_hand():
    vectors = np.array([[[1, 0], [1, 1], [9, 9]], [[1, 0], [-1, 0], [0, 1]]], np.float32)
    valid = np.array([[True, True, False], [True, True, True]])
    cosines, pairs = pairwise_cosines(vectors, valid)
    assert pairs.numpy().sum() == 4
    np.testing.assert_allclose(cosines[0, 0, 1], np.sqrt(0.5), rtol=1e-5)
    np.testing.assert_allclose(redundancy(vectors, valid, 0.0), np.sqrt(0.5) / 4, rtol=1e-5)
    np.testing.assert_allclose(redundancy(vectors, valid, 0.5), (np.sqrt(0.5) - 0.5) / 4, rtol=1e-4)
    assert redundancy(vectors[:, :1], valid[:, :1], 0.0) == 0
