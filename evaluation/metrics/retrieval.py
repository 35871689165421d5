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

from evaluation.config import HEAD_SHARE
from evaluation.metrics.ranks import expected_hits, expected_reciprocal_rank
from evaluation.metrics.rows import Array

OVERALL = "all"
SLICES = ("head", "tail", "unseen")


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


def retrieval_metrics(
    above: Array, tied: Array, slices: Array, ks: Sequence[int] = (10, 50)
) -> dict[str, dict[str, float]]:
    """Returns `{slice: {"pairs", "recall@k", "map@k"}}` for `all` and each slice; NaN where a slice has no pair.

    Args:
      above: [Q] other items that score higher than each pair's (`evaluation.metrics.ranks.count_above`).
      tied: [Q] other items of the same score.
      slices: [Q] index into `SLICES` of each pair's item.
      ks: cut-offs.
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"`ks` must be positive. Received: `ks`={ks}")
    values = {f"recall@{k}": expected_hits(above, tied, k) for k in ks}
    values |= {f"map@{k}": expected_reciprocal_rank(above, tied, k) for k in ks}
    table: dict[str, dict[str, float]] = {}
    for name, rows in {OVERALL: slices >= 0, **{name: slices == i for i, name in enumerate(SLICES)}}.items():
        means = {metric: float(each[rows].mean()) if rows.any() else np.nan for metric, each in values.items()}
        table[name] = {"pairs": int(rows.sum()), **means}
    return table
