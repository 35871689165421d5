"""SDIM: long-term interest by hashed buckets (Cao et al., CIKM 2022, arXiv 2205.10249).

A candidate's interest is the mean over G groups of the ℓ2-normalised sum of the behaviours that share its signature in
the group (Eq. 12). The history is hashed and summed without the candidate, so a table of sums made once, in the batch
or long before by BSE (`features/histories/bucket_table.py` is the same in NumPy), serves every candidate.
"""

from __future__ import annotations

import tensorflow as tf

from features.items.simhash import FLOAT32_TINY, SCALE_BITS, SimHash

_MAX_PAIRED_BUCKETS = 8  # tau = 3; the pairs of more would be more rows than a history fills


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
    """Sums behaviours by bucket.

    Two groups share a table that has a row for each two of their buckets: half the additions, and the sums of its rows
    and of its columns are the two groups'. All of it is one function to the tape, as the gradient of each step by
    itself would be another copy of the table.

    Args:
      values: [B, L, d] behaviours' embeddings.
      signatures: [B, L, G] int32, in [0, 2^tau) where known.
      known: [B, L] bool: behaviours that count. Padding never does.
      num_buckets: 2^tau.

    Returns:
      [B, G, num_buckets, d] raw sums.
    """
    groups, width = signatures.shape[-1], values.shape[-1]
    paired = groups % 2 == 0 and num_buckets <= _MAX_PAIRED_BUCKETS
    half = groups // 2
    tables, size = (half, num_buckets**2) if paired else (groups, num_buckets)
    if paired:
        first, second = tf.split(signatures, 2, axis=-1)
        signatures = first * num_buckets + second
    num_requests = tf.shape(values)[0]
    num_rows = num_requests * (tables * size)
    nowhere = (1 - tf.cast(known, tf.int32)) * num_rows  # a last row takes what has no bucket
    rows, owners = _rows(signatures, tf.range(num_requests)[:, tf.newaxis], size, nowhere[..., tf.newaxis])

    @tf.custom_gradient
    def add_up(values):
        sums = _add_to_rows(values, rows, owners, num_rows + 1)[:-1]
        if paired:
            sums = tf.reshape(sums, [-1, half, num_buckets, num_buckets, width])
            sums = tf.concat([tf.reduce_sum(sums, axis=3), tf.reduce_sum(sums, axis=2)], axis=1)

        def gradient(upstream):
            if paired:
                upstream = upstream[:, :half, :, tf.newaxis] + upstream[:, half:, tf.newaxis]
            return _sum_rows(tf.reshape(upstream, [-1, width]), rows, owners, tf.shape(values)[0])

        return tf.reshape(sums, [-1, groups, num_buckets, width]), gradient

    return add_up(tf.reshape(values, [-1, width]))


def look_up(sums: tf.Tensor, signatures: tf.Tensor, request_index: tf.Tensor) -> tf.Tensor:
    """Reads the interest of candidates off their requests' tables (Eq. 12).

    Args:
      sums: [B, G, K, d] raw sums.
      signatures: [N, G] int32 of the candidates; below 0: no signature, so no interest.
      request_index: [N] int32: the request of each.

    Returns:
      [N, d]: the mean over groups of unit vectors; an empty bucket counts as 0.
    """
    groups, num_buckets, width = sums.shape[1:]
    directions = tf.reshape(tf.math.l2_normalize(sums, axis=-1), [-1, width])
    num_rows = tf.shape(directions)[0]
    absent = tf.bitwise.right_shift(signatures, 31)  # all bits set where below 0, else none
    rows, owners = _rows(signatures, request_index, num_buckets, tf.bitwise.bitwise_and(absent, num_rows))

    @tf.custom_gradient
    def add_up(directions):
        interest = _sum_rows(directions, rows, owners, tf.shape(signatures)[0])
        return interest, lambda upstream: _add_to_rows(upstream, rows, owners, num_rows + 1)[:-1]

    return add_up(directions) / groups


def _rows(
    signatures: tf.Tensor, tables: tf.Tensor, num_buckets: int, nowhere: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where signatures [..., G] point in tables that lie one below the other; `nowhere`: below all of them, or 0.

    Returns:
      Rows and, for each, the index of the vector that it belongs to: both [n · G] int32 for n vectors.
    """
    groups = signatures.shape[-1]
    first = tables[..., tf.newaxis] * (groups * num_buckets) + tf.range(0, groups * num_buckets, num_buckets)
    rows = tf.reshape(tf.maximum(signatures + first, nowhere), [-1, groups])
    owners = tf.broadcast_to(tf.range(tf.shape(rows)[0])[:, tf.newaxis], tf.shape(rows))
    return tf.reshape(rows, [-1]), tf.reshape(owners, [-1])


def _add_to_rows(values: tf.Tensor, rows: tf.Tensor, owners: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
    """Adds `values[owners[i]]` to row `rows[i]` of a table of zeros, for all i in order: [num_rows, d].

    The op is known as the gradient of `tf.sparse.segment_sum`. On a CPU it is faster than the product with one-hot
    signatures, `tf.math.unsorted_segment_sum` and `tf.scatter_nd`.
    """
    sums = tf.raw_ops.SparseSegmentSumGrad(grad=values, indices=rows, segment_ids=owners, output_dim0=num_rows)
    # Of no rows at all the op makes no zeros: its output is what the memory held, NaN perhaps.
    return tf.math.multiply_no_nan(sums, tf.cast(tf.size(rows) > 0, sums.dtype))


def _sum_rows(table: tf.Tensor, rows: tf.Tensor, owners: tf.Tensor, num_owners: tf.Tensor) -> tf.Tensor:
    """Adds up `table[rows[i]]` for each owner, [num_owners, d]; the row after the last is zeros."""
    table = tf.concat([table, tf.zeros([1, table.shape[-1]], table.dtype)], axis=0)
    return tf.sparse.segment_sum(table, rows, owners, num_segments=num_owners)
