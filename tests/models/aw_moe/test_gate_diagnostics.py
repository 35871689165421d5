"""Diagnostics of a gate at their extremes and on planted experts."""

import numpy as np
import pytest

from models.aw_moe.gate_diagnostics import (
    expert_auc_drops,
    mean_gate_auc_drop,
    other_users_cosine,
    usage_entropy,
)


def test_usage_is_even_collapsed_or_between():
    assert usage_entropy(np.tile([1.0, -1.0, 1.0, -1.0], (5, 1))) == pytest.approx(1.0)
    assert usage_entropy(np.tile([0.0, 3.0, 0.0], (5, 1))) == pytest.approx(0.0)
    assert usage_entropy(np.ones((5, 1))) == pytest.approx(1.0)
    found = usage_entropy(np.array([[3.0, 1.0], [0.0, 0.0], [30.0, 10.0]]))  # scale and rows of zeros do not matter
    assert found == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / np.log(2))


def test_cosine_is_of_pairs_of_two_users():
    gates = np.array([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]])
    assert other_users_cosine(gates, np.array([0, 0, 1])) == pytest.approx(0.0)
    assert other_users_cosine(gates, np.array([0, 1, 1])) == pytest.approx(0.5, abs=0.02)
    assert np.isnan(other_users_cosine(gates, np.array([7, 7, 7])))


def test_a_useful_expert_is_missed_and_a_useless_one_is_not():
    rng = np.random.default_rng(0)
    useful, useless = rng.normal(size=(2, 4000))
    labels = (rng.random(4000) < 1 / (1 + np.exp(-2 * useful))).astype(float)
    drops = expert_auc_drops(labels, np.ones((4000, 2)), np.stack([useful, 0.05 * useless], axis=1))
    assert drops[0] > 0.25 and abs(drops[1]) < 0.01


def test_a_gate_that_picks_each_users_expert_is_missed_and_a_constant_one_is_not():
    rng = np.random.default_rng(0)
    scores, group = rng.normal(size=(4000, 2)), rng.integers(0, 2, 4000)
    own = scores[np.arange(4000), group]
    labels = (rng.random(4000) < 1 / (1 + np.exp(-2 * own))).astype(float)
    assert mean_gate_auc_drop(labels, np.eye(2)[group], scores) > 0.08
    assert mean_gate_auc_drop(labels, np.full((4000, 2), 0.5), scores) == pytest.approx(0.0, abs=1e-6)


def test_gates_without_rows_are_refused():
    with pytest.raises(ValueError, match=r"\[N, K\]. Received shape \(3,\)"):
        usage_entropy(np.ones(3))
