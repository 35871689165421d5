"""Target attention against the formulas written out, and its behaviour without a history."""

import numpy as np
import pytest
import tensorflow as tf

from models.sdim.target_attention import (
    DinAttention,
    DotProductAttention,
    dot_product_attention,
    mean_pooling,
)

RNG = np.random.default_rng(0)
CANDIDATES = RNG.normal(size=(2, 3, 8)).astype(np.float32)
HISTORY = RNG.normal(size=(2, 5, 8)).astype(np.float32)
MASK = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], np.float32)


def test_dot_product_is_the_softmax_of_the_products():
    found = dot_product_attention(CANDIDATES, HISTORY, MASK, temperature=0.5).numpy()
    scores = np.exp(CANDIDATES[0] @ HISTORY[0, 2:].T / 0.5)
    np.testing.assert_allclose(found[0], scores / scores.sum(axis=1, keepdims=True) @ HISTORY[0, 2:], rtol=1e-4)
    np.testing.assert_array_equal(found[1], np.zeros((3, 8)))


def test_attention_over_unit_vectors_knows_no_lengths():
    layer = DotProductAttention(unit_vectors=True)
    found = layer(CANDIDATES, HISTORY, MASK).numpy()
    unit = HISTORY[0, 2:] / np.linalg.norm(HISTORY[0, 2:], axis=1, keepdims=True)
    cosines = CANDIDATES[0] @ unit.T / np.linalg.norm(CANDIDATES[0], axis=1, keepdims=True)
    weights = np.exp(10 * cosines)
    np.testing.assert_allclose(found[0], weights / weights.sum(axis=1, keepdims=True) @ unit, rtol=1e-4)
    np.testing.assert_allclose(layer(3 * CANDIDATES, 0.1 * HISTORY, MASK), found, rtol=1e-4)
    np.testing.assert_array_equal(found[1], np.zeros((3, 8)))


def test_mean_is_the_same_for_every_candidate():
    found = mean_pooling(CANDIDATES, HISTORY, MASK).numpy()
    np.testing.assert_allclose(found[0], np.tile(HISTORY[0, 2:].mean(axis=0), (3, 1)), rtol=1e-5)
    np.testing.assert_array_equal(found[1], np.zeros((3, 8)))


@pytest.mark.parametrize("hidden_units", [(7,), (7, 5)])
def test_din_is_an_mlp_of_behaviour_candidate_difference_and_product(hidden_units):
    layer = DinAttention(hidden_units)
    found = layer(CANDIDATES, HISTORY, MASK).numpy()
    # One kernel over [s, q, s - q, s * q]: s - q is linear in both, so any split of its part gives the same function.
    difference = RNG.normal(size=(8, 7)).astype(np.float32)
    kernel = tf.concat(
        [layer.of_behavior - difference, layer.of_candidate + difference, difference, layer.of_product], axis=0
    )
    for candidate in range(3):
        q = np.tile(CANDIDATES[0, candidate], (3, 1))
        s = HISTORY[0, 2:]
        hidden = tf.sigmoid(np.concatenate([s, q, s - q, s * q], axis=1) @ kernel + layer.bias)
        for dense in layer._rest:
            hidden = dense(hidden)
        weights = layer._last(hidden).numpy()
        np.testing.assert_allclose(found[0, candidate], (weights * s).sum(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found[1], np.zeros((3, 8)))


def test_din_refuses_no_units():
    with pytest.raises(ValueError, match="`hidden_units` must be positive widths"):
        DinAttention(())
