"""SDIM: long-term interest by hashed buckets (Cao et al., CIKM 2022, arXiv 2205.10249).

A candidate's interest is the mean over G groups of the ℓ2-normalised sum of the behaviours that share its signature in
the group (Eq. 12). The history is hashed and summed without the candidate, so a table of sums made once, in the batch
or long before by BSE (`features/bucket_table.py` is the same in NumPy), serves every candidate.
"""

from __future__ import annotations

import tensorflow as tf

from features.simhash import FLOAT32_TINY, SCALE_BITS, SimHash
from models.request_layout import RequestLayout


def signatures(simhash: SimHash, vectors: tf.Tensor) -> tf.Tensor:
    """Signs vectors, to the bit as `SimHash.signatures`; no gradient.

    Args:
      simhash: the hash.
      vectors: [..., dim] float32.

    Returns:
      [..., G] int32 in [0, 2^tau).
    """
    config = simhash.config
    shape = tf.concat([tf.shape(vectors)[:-1], [config.num_groups, config.bits_per_signature]], axis=0)
    vectors = tf.cast(tf.reshape(tf.stop_gradient(vectors), [-1, simhash.dim]), tf.float64)
    size = tf.abs(vectors)
    largest = tf.maximum(tf.reduce_max(size, axis=-1, keepdims=True), FLOAT32_TINY)
    integers = tf.math.rint(tf.where(size < FLOAT32_TINY, tf.zeros_like(vectors), vectors) / largest * 2**SCALE_BITS)
    # Integers below 2^53 in float64: the sums are exact in every order, so no library can flip a bit.
    projections = tf.matmul(integers, tf.constant(simhash.matrix), transpose_b=True)
    bits = tf.reshape(tf.cast(projections > 0, tf.int32), shape)
    place_values = [2**k for k in reversed(range(config.bits_per_signature))]
    return tf.reduce_sum(bits * tf.constant(place_values), axis=-1)


def bucket_sums(values: tf.Tensor, signatures: tf.Tensor, known: tf.Tensor, num_buckets: int) -> tf.Tensor:
    """Sums behaviours by bucket, as one product with one-hot signatures.

    Args:
      values: [B, L, d] behaviours' embeddings.
      signatures: [B, L, G] int32.
      known: [B, L] bool: behaviours that count. Padding never does.
      num_buckets: 2^tau.

    Returns:
      [B, G, num_buckets, d] raw sums.
    """
    groups, width = signatures.shape[-1], values.shape[-1]
    # -1 is a bucket that does not exist: its one-hot row is zeros. All bits set are -1; a broadcast `tf.where` is slow.
    padding = tf.cast(known, tf.int32) - 1
    signatures = tf.bitwise.bitwise_or(signatures, padding[..., tf.newaxis])
    # Buckets before behaviours: the product that needs no transposition is the faster one.
    one_hot = tf.one_hot(tf.transpose(signatures, [0, 2, 1]), num_buckets, axis=2, dtype=values.dtype)
    shape = tf.shape(values)
    sums = tf.matmul(tf.reshape(one_hot, [shape[0], groups * num_buckets, shape[1]]), values)
    return tf.reshape(sums, [-1, groups, num_buckets, width])


def look_up(sums: tf.Tensor, signatures: tf.Tensor, layout: RequestLayout) -> tf.Tensor:
    """Reads the interest of candidates off their requests' tables (Eq. 12).

    Args:
      sums: [B, G, K, d] raw sums.
      signatures: [N, G] int32 of the candidates; below 0: no signature, so no interest.
      layout: of the N candidates among the B requests.

    Returns:
      [N, d]: the mean over groups of unit vectors; an empty bucket counts as 0.
    """
    groups, num_buckets, width = sums.shape[1:]
    directions = tf.reshape(tf.math.l2_normalize(sums, axis=-1), [-1, groups * num_buckets, width])
    grid = layout.to_grid(signatures)
    one_hot = tf.one_hot(grid, num_buckets, dtype=sums.dtype)
    one_hot = tf.reshape(one_hot, tf.concat([tf.shape(grid)[:2], [groups * num_buckets]], axis=0))
    return layout.to_flat(tf.matmul(one_hot, directions)) / groups
