"""Contrastive losses on items: cosines, a temperature, and the other items of the batch as negatives."""

from __future__ import annotations

import tensorflow as tf


def info_nce(first: tf.Tensor, second: tf.Tensor, temperature: float) -> tf.Tensor:
    """`-(1/N) Σ_i log[exp(s(z_i, z'_i)/τ) / Σ_j exp(s(z_i, z'_j)/τ)]` (SSL, arXiv 2007.12865, Eq. 1).

    One direction, and negatives of the other view only: N - 1 of them, not SimCLR's 2N - 2. No sampling correction: the
    items are a uniform sample.

    Args:
      first: [N, d] of unit length, the one view.
      second: [N, d] of unit length, the other.
      temperature: τ.

    Returns:
      A scalar in nats.
    """
    logits = tf.matmul(first, second, transpose_b=True) / temperature
    labels = tf.range(tf.shape(logits)[0])
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def spread_out(embeddings: tf.Tensor, temperature: float) -> tf.Tensor:
    """`info_nce` of two equal, unmasked views: pushes all items apart (SSL, section 3.3; Zhang et al., ICCV 2017)."""
    return info_nce(embeddings, embeddings, temperature)
