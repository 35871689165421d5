"""Where the item that a user took stands among all items of the corpus: exact, without sorting.

Items of equal score have no order: a rank is the expectation over random orders of them, so that a model that gives all
items one score earns what chance earns (McSherry and Najork, ECIR 2008).
"""

from __future__ import annotations

import numpy as np

from evaluation.metrics.rows import Array

_CHUNK_SCORES = 1 << 24
"""Scores held at once, 64 MB."""


def count_above(queries: Array, items: Array, truth: Array) -> tuple[Array, Array]:
    """Counts the other items that score higher than each query's item, and those that score the same.

    Args:
      queries: [Q, d] float32.
      items: [n, d] float32; a score is an inner product.
      truth: [Q] index into `items` of each query's item, from 0.

    Returns:
      [Q] and [Q] int64.

    Raises:
      ValueError: if an index lies outside of the corpus.
    """
    if len(truth) and (truth.min() < 0 or truth.max() >= len(items)):
        raise ValueError(f"`truth` must lie in 0 to {len(items) - 1}. Received: {truth.min()} to {truth.max()}.")
    above, tied = np.empty((2, len(queries)), np.int64)
    chunk = max(1, _CHUNK_SCORES // max(len(items), 1))
    for start in range(0, len(queries), chunk):
        rows = slice(start, start + chunk)
        scores = queries[rows] @ items.T
        own = np.take_along_axis(scores, truth[rows, np.newaxis], axis=1)
        above[rows] = np.count_nonzero(scores > own, axis=1)
        tied[rows] = np.count_nonzero(scores == own, axis=1) - 1
    return above, tied


def popularity_ranks(counts: Array, truth: Array) -> tuple[Array, Array]:
    """Counts the other items that are more popular than each query's item, and those that are as popular.

    Args:
      counts: [n] how often each item of the corpus was taken.
      truth: [Q] index into `counts` of each query's item, from 0.

    Returns:
      [Q] and [Q].
    """
    ordered = np.sort(counts)
    first, end = (np.searchsorted(ordered, counts[truth], side) for side in ("left", "right"))
    return len(counts) - end, end - first - 1


def expected_hits(above: Array, tied: Array, k: int) -> Array:
    """P(the item is among the first k), [Q] float64."""
    share: Array = np.clip((k - above) / (tied + 1.0), 0.0, 1.0)
    return share


def expected_reciprocal_rank(above: Array, tied: Array, k: int) -> Array:
    """E[1 / rank, 0 beyond rank k], [Q] float64: average precision at k with one relevant item."""
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, k + 1))])
    last = np.minimum(above + tied + 1, k)
    mean: Array = np.where(above < k, harmonic[last] - harmonic[np.minimum(above, k)], 0.0) / (tied + 1.0)
    return mean
