"""From several interests of a user to one score of an item, and how alike the interests are."""

from __future__ import annotations

import tensorflow as tf

from models.hcn.config import Scoring

_NEVER = -1e9


def score_interests(products: tf.Tensor, valid: tf.Tensor, scoring: Scoring, power: float = 1.0) -> tf.Tensor:
    """Scores items by their inner products with each interest.

    `max`: `max_k x_k`. `soft`: label-aware attention (MIND, Li et al., CIKM 2019), `Σ_k softmax_k(x_k^p) x_k`, which is
    the inner product of the item with `u = Σ_k softmax_k(x_k^p) U_k`. The power keeps the sign, `sign(x) |x|^p`: an
    even one would attend to the interest most opposed to the item. p → ∞ is `max`. Empty interests do not count.

    Args:
      products: [..., K], `U_k · e`.
      valid: [..., K] bool, one true at least.
      scoring: which.
      power: p, at least 1.

    Returns:
      [...].
    """
    if scoring == "max":
        return tf.reduce_max(tf.where(valid, products, _NEVER), axis=-1)
    # |x|^0 has no derivative at 0 in TensorFlow, so p = 1 is a case of its own.
    sharpened = products if power == 1.0 else products * (tf.abs(products) + 1e-9) ** (power - 1.0)
    weights = tf.nn.softmax(tf.where(valid, sharpened, _NEVER))
    return tf.reduce_sum(weights * tf.where(valid, products, 0.0), axis=-1)


def pairwise_cosines(interests: tf.Tensor, valid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosines of a user's interests, and which pairs count.

    Args:
      interests: [B, K, d].
      valid: [B, K] bool.

    Returns:
      [B, K, K] cosines, and [B, K, K] float32: 1 for the pairs k < l of two valid interests.
    """
    unit = tf.math.l2_normalize(interests, axis=-1)
    present = tf.cast(valid, unit.dtype)
    pairs = present[:, :, tf.newaxis] * present[:, tf.newaxis]
    size = interests.shape[1]
    later = tf.range(size) > tf.range(size)[:, tf.newaxis]
    return tf.matmul(unit, unit, transpose_b=True), pairs * tf.cast(later, unit.dtype)


def redundancy(interests: tf.Tensor, valid: tf.Tensor, margin: float) -> tf.Tensor:
    """The diversity term: `max(0, cos(U_k, U_l) - δ)`, the mean over all pairs of valid interests of a batch, a scalar.

    0 where no user has two interests.
    """
    cosines, pairs = pairwise_cosines(interests, valid)
    return tf.math.divide_no_nan(tf.reduce_sum(tf.nn.relu(cosines - margin) * pairs), tf.reduce_sum(pairs))
