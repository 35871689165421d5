"""Weights of a classifier: near the true ones where it can see what the policy does, and found out where it cannot."""

import numpy as np
import pyarrow as pa
import pytest

from evaluation.replay.diagnostics.weights import Classifier
from evaluation.replay.estimators.classifier import balanced_weights, calibration_error
from evaluation.replay.estimators.registry import make_estimator
from evaluation.replay.sums import UserSums
from features.errors import InputError
from tests.evaluation.replay.verdicts.logs import log

ROWS, SEGMENTS, ITEMS = 8000, 6, 5


@pytest.fixture(scope="module")
def world():
    """Logged rows, drawn rows, rewards, true weights and the policy's true value."""
    rng = np.random.default_rng(0)
    logger = rng.dirichlet(np.full(ITEMS, 4.0), SEGMENTS)
    earns = rng.uniform(0.1, 0.9, (SEGMENTS, ITEMS))
    policy = logger * np.exp(2 * earns)
    policy /= policy.sum(axis=1, keepdims=True)
    segment = rng.integers(0, SEGMENTS, ROWS)
    shown, wanted = ((of.cumsum(axis=1)[segment] < rng.random((ROWS, 1))).sum(axis=1) for of in (logger, policy))
    reward = (rng.random(ROWS) < earns[segment, shown]).astype(float)
    logged, drawn = (
        pa.table({"segment": segment, "item": item, "noise": rng.random(ROWS)}) for item in (shown, wanted)
    )
    true = policy[segment, shown] / logger[segment, shown]
    return logged, drawn, reward, true, (policy * earns).sum(axis=1).mean()


def learn(world, crosses, **more):
    logged, drawn = world[:2]
    cells = np.concatenate(
        [table["segment"].to_numpy() * ITEMS + table["item"].to_numpy() for table in (logged, drawn)]
    )
    users = np.arange(ROWS) // 2
    return balanced_weights(logged, drawn, ["segment", "item", "noise"], users, crosses=crosses, strata=cells, **more)


def test_weights_are_near_the_true_ones_and_so_is_the_value(world):
    found = learn(world, [("segment", "item")])
    _, _, reward, true, value = world
    assert np.corrcoef(found.weights, true)[0, 1] > 0.95 and abs(found.weights.mean() - 1) < 0.03
    sums = UserSums.of(log(found.weights, reward), []).policy("a")
    assert make_estimator("snips").estimate(sums) == pytest.approx(value, abs=0.02)
    assert found.calibration_error < Classifier.bound


def test_a_classifier_that_cannot_see_what_the_policy_does_is_not_calibrated(world):
    found = learn(world, [])
    _, _, reward, _, value = world
    assert found.calibration_error > 2 * Classifier.bound
    sums = UserSums.of(log(found.weights, reward), []).policy("a")
    assert abs(make_estimator("snips").estimate(sums) - value) > 0.02


def test_calibration_counts_what_chance_alone_leaves():
    rng = np.random.default_rng(1)
    chance = 0.9 * rng.random(20_000)
    group = np.arange(20_000) % 500
    assert calibration_error(chance, (rng.random(20_000) < chance).astype(float), group) < 0.02
    off = chance + 0.1
    assert calibration_error(chance, (rng.random(20_000) < off).astype(float), group) == pytest.approx(0.1, abs=0.01)
    assert calibration_error(np.array([0.2, 0.2]), np.array([1.0, 1.0]), np.zeros(2, int)) == pytest.approx(
        np.sqrt(0.64 - 0.08)
    )


def test_what_it_refuses(world):
    logged, drawn = world[:2]
    users = np.arange(ROWS)
    with pytest.raises(InputError, match="no column `brand`"):
        balanced_weights(logged, drawn, ["brand"], users)
    with pytest.raises(InputError, match="each logged row needs a drawn one"):
        balanced_weights(logged, drawn.slice(1), ["item"], users)
    with pytest.raises(InputError, match="`folds` must be 2 or more"):
        balanced_weights(logged, drawn, ["item"], np.zeros(ROWS, int))
