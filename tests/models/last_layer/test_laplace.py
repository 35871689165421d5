"""The posterior of a last layer: its precision by the formula, its draws by their covariance."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from models.last_layer.config import LastLayerConfig
from models.last_layer.laplace import draw_last_layers

WIDTH = 4


@pytest.fixture(scope="module")
def case():
    """Hidden layers of 600 candidates, weights, and a model of both."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(600, WIDTH)).astype(np.float32) * [1, 2, 0.1, 0]
    weights = np.array([1.0, -0.5, 3.0, 7.0, -1.0], np.float32)
    model = SimpleNamespace(last_hidden=lambda batch: batch, last_weights=lambda: weights)
    return model, tf.data.Dataset.from_tensor_slices(hidden.astype(np.float32)).batch(100), hidden, weights


def covariance(hidden: np.ndarray, weights: np.ndarray, prior: float, times: float = 1.0) -> np.ndarray:
    wide = np.append(hidden, np.ones((len(hidden), 1)), axis=1)
    chance = 1 / (1 + np.exp(-wide @ weights))
    hessian = times * (wide.T * (chance * (1 - chance))) @ wide
    return np.linalg.inv(hessian + prior * np.eye(len(weights)))


@pytest.mark.parametrize("most, times", [(10_000, 1.0), (300, 2.0)])
def test_draws_have_the_covariance_of_the_posterior(case, most, times):
    """Of some of the candidates that count for all, too; a direction that was never seen has the prior's."""
    model, batches, hidden, weights = case
    config = LastLayerConfig(draws=1024, prior_precision=0.5, max_examples=most)
    found = [draw_last_layers(model, batches, 600, config.model_copy(update={"seed": seed})) for seed in range(20)]
    assert found[0].shape == (1024, WIDTH + 1) and found[0].dtype == np.float32
    draws = np.concatenate(found).astype(np.float64)
    expected = covariance(hidden[: round(600 / times)], weights, 0.5, times)
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert (np.abs(np.cov(draws.T) - expected) < 6 * scale * np.sqrt(2 / len(draws))).all()
    assert expected[3, 3] == pytest.approx(2.0)
    assert (np.abs(draws.mean(axis=0)) < 5 * np.sqrt(np.diag(expected) / len(draws))).all()


def test_the_same_seed_draws_the_same(case):
    model, batches, _, _ = case
    first, again, other = (draw_last_layers(model, batches, 600, LastLayerConfig(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
