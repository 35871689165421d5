"""Held-out takes as a retrieval model embeds them, and the same takes over a part of its corpus."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.metrics.metric import Users
from evaluation.metrics.ranks import count_above, expected_hits
from evaluation.metrics.rows import Array


@dataclass(frozen=True, eq=False)
class Takes:
    """Held-out takes, or the items of a teacher's lists, as one model embeds them.

    Attributes:
      queries: [Q, d] float32, of each take's request.
      items: [n, d] float32, of the whole corpus.
      taken: [Q] index into `items`, from 0; -1: the corpus does not hold the item.
      item_ids: [n] raw ids of `items`, by which corpora are matched; None: all models have one corpus.
      users: [Q] integers: whose each take is; None: each is of a user of its own.
    """

    queries: Array
    items: Array
    taken: Array
    item_ids: pa.Array | None = None
    users: Array | None = None

    def __len__(self) -> int:
        return len(self.taken)

    @property
    def known(self) -> Array:
        """Places of the takes whose item the corpus holds."""
        return np.flatnonzero(self.taken >= 0)

    def select(self, places: Array) -> Takes:
        """Returns these takes alone."""
        users = None if self.users is None else self.users[places]
        return replace(self, queries=self.queries[places], taken=self.taken[places], users=users)

    def over(self, items: Array) -> Takes:
        """Returns the same takes over these items [m] of the corpus alone, in their order."""
        places = np.full(len(self.items) + 1, -1)
        places[items] = np.arange(len(items))
        ids = None if self.item_ids is None else self.item_ids.take(pa.array(items))
        return replace(self, items=self.items[items], taken=places[self.taken], item_ids=ids)

    def user_codes(self) -> Users:
        """Whose each take is, as intervals read it."""
        if self.users is None:
            return Users(np.arange(len(self)), len(self))
        known, codes = np.unique(self.users, return_inverse=True)
        return Users(codes, len(known))

    def ranks(self) -> tuple[Array, Array]:
        """`count_above` of the takes, which must all be known."""
        return count_above(self.queries, self.items, self.taken)

    def hits(self, k: int) -> Array:
        """[Q] float64: the chance that the item is among the first k; 0 of one that the corpus does not hold."""
        hits = np.zeros(len(self))
        hits[self.known] = expected_hits(*self.select(self.known).ranks(), k)
        return hits


def over_shared_items(first: Takes, second: Takes) -> tuple[Takes, Takes]:
    """Returns the takes of two models over the items that both corpora hold, in one order, and of these items alone.

    Raises:
      ValueError: if the corpora cannot be matched, or the takes are not the same.
    """
    ours, theirs = _shared_items(first, second)
    first, second = first.over(ours), second.over(theirs)
    if len(first) != len(second) or not np.array_equal(first.taken, second.taken):
        raise ValueError(
            f"two models are compared by the same takes. Received: {len(first)} and {len(second)} takes, of "
            f"{np.count_nonzero(first.taken >= 0)} and {np.count_nonzero(second.taken >= 0)} shared items."
        )
    return first.select(first.known), second.select(second.known)


def _shared_items(first: Takes, second: Takes) -> tuple[Array, Array]:
    """Rows of the items in either corpus."""
    if first.item_ids is None or second.item_ids is None:
        if len(first.items) != len(second.items):
            raise ValueError(
                "corpora of different sizes are matched by their `item_ids`. Received: corpora of "
                f"{len(first.items)} and {len(second.items)} items, one of them without ids."
            )
        return np.arange(len(first.items)), np.arange(len(first.items))
    at = pc.fill_null(pc.index_in(first.item_ids, value_set=second.item_ids), -1).to_numpy(zero_copy_only=False)
    ours = np.flatnonzero(at >= 0)
    return ours, at[ours]
