"""The behaviour log of a shard: each user's behaviours once, sorted by time, and where a request's history ends."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import lists_of, splits_of


@dataclasses.dataclass(frozen=True)
class ShardBehaviors:
    """Behaviours sorted by user and time.

    Attributes:
      user_ids: [U] sorted, unique.
      offsets: [U + 1] int64: behaviours of user u are offsets[u] to offsets[u + 1].
      order: [H] int64: rows of the given behaviours in the log's order.
      timestamps: [H] int64, in the log's order.
    """

    user_ids: pa.Array
    offsets: np.ndarray
    order: np.ndarray
    timestamps: np.ndarray

    @classmethod
    def build(cls, user_ids: pa.Array, timestamps: np.ndarray, ties: np.ndarray) -> ShardBehaviors:
        """Sorts behaviours.

        Args:
          user_ids: [H] string or int64, no nulls.
          timestamps: [H] int64.
          ties: [H] int64: the order of behaviours of the same user and time.
        """
        encoded = user_ids.dictionary_encode()
        ranking = pc.sort_indices(encoded.dictionary).to_numpy()
        rank = np.empty(len(ranking), np.int64)
        rank[ranking] = np.arange(len(ranking))
        users = rank[encoded.indices.to_numpy()]
        order = np.lexsort((ties, timestamps, users))
        offsets = splits_of(np.bincount(users, minlength=len(ranking)))
        return cls(encoded.dictionary.take(pa.array(ranking)), offsets, order, timestamps[order])

    def user_index(self, user_ids: pa.Array) -> np.ndarray:
        """Returns the row of each user: [R] int32; -1: no behaviours."""
        return pc.fill_null(pc.index_in(user_ids, self.user_ids), -1).to_numpy().astype(np.int32)

    def history_end(self, user_index: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
        """Returns how many behaviours of each user lie strictly before a time.

        Args:
          user_index: [R] of `user_index`.
          timestamps: [R] int64.

        Returns:
          [R] int64; 0 for users without behaviours.
        """
        # Times become ranks among the distinct behaviour times, so that (user, time) fits one int64 and one binary
        # search over the whole log answers all users at once.
        distinct = np.unique(self.timestamps)
        span = len(distinct) + 1
        users = np.repeat(np.arange(len(self.user_ids)), np.diff(self.offsets))
        keys = users * span + np.searchsorted(distinct, self.timestamps)
        known = user_index >= 0
        wanted = user_index.astype(np.int64) * span + np.searchsorted(distinct, timestamps, side="left")
        ends = np.searchsorted(keys, wanted, side="left")
        return np.where(known, ends - self.offsets[np.where(known, user_index, 0)], 0)

    def lists(self, values: pa.Array) -> pa.ListArray:
        """Returns [U] lists of values that are in the log's order."""
        return lists_of(values, self.offsets)
