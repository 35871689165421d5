"""Recall@k and MAP@k of retrieval over the whole corpus, by slices of the item that was taken.

One row is one (request, item taken) pair. With one relevant item, recall@k is the share of pairs whose item is among
the first k of the corpus; average precision at k is 1 / rank, 0 beyond k. Slices are fixed before anything is scored:

- `head`: the most frequent tenth of the items that were taken in train, counted by items;
- `tail`: the other items that were taken in train;
- `unseen`: items that were never taken in train.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.metrics.ranks import expected_hits, expected_reciprocal_rank
from evaluation.metrics.rows import Array

OVERALL = "all"
SLICES = ("head", "tail", "unseen")
HEAD_SHARE = 0.1


def item_slices(train_counts: Array, head_share: float = HEAD_SHARE) -> Array:
    """Returns the slice of each item, [n] int8 index into `SLICES`.

    Args:
      train_counts: [n] how often each item was taken in train.
      head_share: share of the items with a count that are head; of equal counts the earlier item is.
    """
    if not 0 < head_share < 1:
        raise ValueError(f"`head_share` must lie between 0 and 1. Received: `head_share`={head_share}")
    slices = np.where(train_counts > 0, np.int8(1), np.int8(2))
    num_head = int(np.ceil(head_share * np.count_nonzero(train_counts)))
    slices[np.argsort(-train_counts.astype(np.int64), kind="stable")[:num_head]] = 0
    return slices


class RetrievalMetrics:
    """Sums of hits and reciprocal ranks by slice; two states add up.

    Example:
      state = RetrievalMetrics(ks=(10, 50))
      state.update(*count_above(queries, items, truth), slices[truth])
      state.result()["tail"]["recall@10"]

    Args:
      ks: cut-offs.
    """

    def __init__(self, ks: Sequence[int] = (10, 50)):
        if not ks or min(ks) < 1:
            raise ValueError(f"`ks` must be positive. Received: `ks`={ks}")
        self.ks = tuple(ks)
        self.pairs = np.zeros(len(SLICES), np.int64)
        self.sums = np.zeros((len(SLICES), 2, len(self.ks)))

    def update(self, above: Array, tied: Array, slices: Array) -> None:
        """Adds pairs: other items that score higher and the same (`evaluation.metrics.ranks`), and slices; all [Q]."""
        self.pairs += np.bincount(slices, minlength=len(SLICES))
        for index, k in enumerate(self.ks):
            for row, values in enumerate((expected_hits(above, tied, k), expected_reciprocal_rank(above, tied, k))):
                self.sums[:, row, index] += np.bincount(slices, values, len(SLICES))

    def merge(self, other: RetrievalMetrics) -> None:
        if other.ks != self.ks:
            raise ValueError(f"states of different `ks` do not add up. Received: {other.ks}, expected {self.ks}.")
        self.pairs += other.pairs
        self.sums += other.sums

    def result(self) -> dict[str, dict[str, float]]:
        """`{slice: {"pairs", "recall@k", "map@k"}}` for `all` and each slice; NaN where a slice has no pair."""
        rows = {OVERALL: (self.pairs.sum(), self.sums.sum(axis=0))}
        rows |= {name: (self.pairs[i], self.sums[i]) for i, name in enumerate(SLICES)}
        table: dict[str, dict[str, float]] = {}
        for name, (pairs, sums) in rows.items():
            means = sums / pairs if pairs else np.full(sums.shape, np.nan)
            table[name] = {"pairs": int(pairs)}
            table[name] |= {f"recall@{k}": float(means[0, i]) for i, k in enumerate(self.ks)}
            table[name] |= {f"map@{k}": float(means[1, i]) for i, k in enumerate(self.ks)}
        return table
