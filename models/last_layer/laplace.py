"""The Laplace approximation of a ranker's last layer, and draws of it.

With the layers below fixed, a ranker whose logit is `wᵀ φ + b` is a logistic regression on its last hidden layer φ.
Around the trained weights its posterior is approximately Gaussian, with the precision

    Λ = Σ_i p_i (1 - p_i) φ_i φ_iᵀ + τ I,      p_i = sigmoid(wᵀ φ_i + b),   φ with a one for the bias

(MacKay, "The evidence framework applied to classification networks", 1992; of last layers: Daxberger et al., "Laplace
Redux", NeurIPS 2021).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from features.errors import InputError
from models.last_layer.config import LastLayerConfig


def check_last_layer(model: type) -> None:
    """Raises `InputError` if a ranker's class does not say what its last layer is."""
    if not (hasattr(model, "last_hidden") and hasattr(model, "last_weights")):
        raise InputError(
            f"`last_layer` needs a ranker with `last_hidden` and `last_weights` (models.ranking_model), which "
            f"{model.__name__} lacks: leave `last_layer` out, or write them."
        )


def draw_last_layers(model, batches: tf.data.Dataset, examples: int, config: LastLayerConfig) -> np.ndarray:
    """Fits the posterior of a trained ranker's last layer and draws from it.

    Args:
      model: the ranker, with `last_hidden` and `last_weights`.
      batches: of its training split, shuffled: the first `config.max_examples` candidates count for all.
      examples: candidates of the whole split.
      config: prior and draws.

    Returns:
      [M, h + 1] float32, what each draw differs by from the trained weights; the bias stands last.
    """
    weights = model.last_weights()
    hessian, seen = _hessian(model, weights.astype(np.float32), batches, config.max_examples)
    precision = hessian * (examples / max(seen, 1)) + config.prior_precision * np.eye(len(weights))
    noise = np.random.default_rng(config.seed).standard_normal((len(weights), config.draws))
    # Λ = L Lᵀ: the covariance of L⁻ᵀ z is Λ⁻¹.
    return np.linalg.solve(np.linalg.cholesky(precision).T, noise).T.astype(np.float32)


def _hessian(model, weights: np.ndarray, batches: tf.data.Dataset, max_examples: int) -> tuple[np.ndarray, int]:
    """The Hessian of the log loss of candidates, [h + 1, h + 1], and how many they were."""
    total = tf.Variable(tf.zeros([len(weights), len(weights)], tf.float64))

    @tf.function(autograph=False)
    def add_next(iterator):
        hidden = model.last_hidden(next(iterator))
        hidden = tf.concat([hidden, tf.ones_like(hidden[:, :1])], axis=1)
        chance = tf.sigmoid(tf.linalg.matvec(hidden, weights))
        scaled = hidden * tf.sqrt(chance * (1.0 - chance))[:, tf.newaxis]
        total.assign_add(tf.cast(tf.matmul(scaled, scaled, transpose_a=True), tf.float64))
        return tf.shape(hidden)[0]

    iterator, seen = iter(batches), 0
    while seen < max_examples:
        try:
            seen += int(add_next(iterator))
        except tf.errors.OutOfRangeError:
            break
    return total.numpy(), seen
