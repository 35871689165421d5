"""Flat candidates to rows that share a history, and back: what batched attention over histories needs."""

from __future__ import annotations

import tensorflow as tf

_ROW_COST = 2
"""What a row costs beside its cells, in cells: its history is gathered, and meets the attention's weights, once a row
(`python -m benchmarks uneven_slates`)."""


class RequestLayout:
    """Where the N flat candidates of B requests stand in a grid of R rows of C cells, a history a row.

    A history belongs to a request, not to a candidate: in the grid all candidates of a row meet it in one matrix
    product. A request takes as many rows as its candidates fill, so the longest slate of a batch does not widen the
    rows of all. C is the power of two, or the longest slate, that makes `R (C + 2)` the least. Whatever the slates,
    that is below `2 N + 6 B`: a power of two just below their mean has fewer than 2 N cells in 3 B rows. One request
    is a single row, the flat batch itself, and nothing is copied.

    Args:
      request_index: [N] int32, non-decreasing.
      num_requests: B, scalar; a number where it is known when the graph is made.
    """

    def __init__(self, request_index: tf.Tensor, num_requests: tf.Tensor | int):
        self._alone = tf.get_static_value(num_requests) == 1
        if self._alone:
            return
        counts = tf.math.bincount(request_index, minlength=num_requests, maxlength=num_requests)
        starts = tf.cumsum(counts, exclusive=True)
        self._width = _row_width(counts)
        rows_of = _rows_for(counts, self._width)
        first_row = tf.cumsum(rows_of, exclusive=True)
        slots = tf.range(tf.size(request_index)) - tf.gather(starts, request_index)
        # A request's rows lie one below the other: its candidates go on from row to row.
        self._cells = tf.gather(first_row, request_index) * self._width + slots
        self._requests = tf.repeat(tf.range(tf.size(counts)), rows_of)
        row = tf.range(tf.size(self._requests)) - tf.gather(first_row, self._requests)
        places = row[:, tf.newaxis] * self._width + tf.range(self._width)
        inside = places < tf.gather(counts, self._requests)[:, tf.newaxis]
        self._candidates = tf.where(inside, tf.gather(starts, self._requests)[:, tf.newaxis] + places, 0)

    def to_grid(self, flat: tf.Tensor) -> tf.Tensor:
        """`[N, …]` to `[R, C, …]`; cells without a candidate hold the first one's values."""
        return flat[tf.newaxis] if self._alone else tf.gather(flat, self._candidates)

    def to_rows(self, of_requests: tf.Tensor) -> tf.Tensor:
        """`[B, …]` to `[R, …]`: what belongs to a request, for each of its rows; a scalar belongs to all."""
        return of_requests if self._alone or of_requests.shape.rank == 0 else tf.gather(of_requests, self._requests)

    def to_flat(self, grid: tf.Tensor) -> tf.Tensor:
        """`[R, C, d]` to `[N, d]`."""
        if self._alone:
            return grid[0]
        return tf.gather(tf.reshape(grid, [tf.size(self._requests) * self._width, grid.shape[-1]]), self._cells)


def _row_width(counts: tf.Tensor) -> tf.Tensor:
    """C of slates `[B]`: of the powers of two up to the longest, and the longest, the one of the least cost."""
    longest = tf.maximum(tf.reduce_max(counts), 1)
    widths = tf.concat([tf.bitwise.left_shift(1, tf.range(31)), longest[tf.newaxis]], axis=0)
    widths = tf.boolean_mask(widths, widths <= longest)
    rows = tf.reduce_sum(_rows_for(counts[:, tf.newaxis], widths), axis=0)
    costs = tf.cast(rows, tf.int64) * tf.cast(widths + _ROW_COST, tf.int64)
    return widths[tf.argmin(costs)]


def _rows_for(counts: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Rows of a width that a slate fills; none of an empty one."""
    return (counts + width - 1) // width
