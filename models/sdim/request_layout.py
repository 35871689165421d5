"""Flat candidates to one row a request, and back: what batched attention over a shared history needs."""

from __future__ import annotations

import tensorflow as tf


class RequestLayout:
    """Where the N flat candidates of B requests stand in a `[B, C]` grid, C the longest request's candidates.

    A history belongs to a request, not to a candidate. In the grid all candidates of a request meet its history in one
    matrix product; nothing is copied to candidates. With one request the grid is the flat batch itself.

    Args:
      request_index: [N] int32, non-decreasing.
      num_requests: B, scalar.
    """

    def __init__(self, request_index: tf.Tensor, num_requests: tf.Tensor):
        counts = tf.math.bincount(request_index, minlength=num_requests, maxlength=num_requests)
        starts = tf.cumsum(counts, exclusive=True)
        self._width = tf.maximum(tf.reduce_max(counts), 1)
        slots = tf.range(tf.size(request_index)) - tf.gather(starts, request_index)
        self._cells = request_index * self._width + slots
        self._num_requests = num_requests
        inside = tf.range(self._width) < counts[:, tf.newaxis]
        self._rows = tf.where(inside, starts[:, tf.newaxis] + tf.range(self._width), 0)

    def to_grid(self, flat: tf.Tensor) -> tf.Tensor:
        """`[N, …]` to `[B, C, …]`; cells without a candidate hold the first one's values."""
        return tf.gather(flat, self._rows)

    def to_flat(self, grid: tf.Tensor) -> tf.Tensor:
        """`[B, C, d]` to `[N, d]`."""
        return tf.gather(tf.reshape(grid, [self._num_requests * self._width, grid.shape[-1]]), self._cells)
