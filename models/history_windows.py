"""Behaviour histories by reference: a request holds where its history ends, and the window is cut at batch time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf

from features.spec import HistorySpec
from models.request_arrays import join_splits


@dataclass(frozen=True)
class BehaviorShards:
    """Encoded behaviours of the users of some shards.

    Attributes:
      row_splits: [users + 1] where each user's behaviours begin and end.
      ids: by history feature, [behaviours] int32, each user's sorted by time.
    """

    row_splits: np.ndarray
    ids: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: Path, features: tuple[str, ...]) -> BehaviorShards:
        """Reads one shard of the encoded behaviour log."""
        table = pq.read_table(path, columns=list(features), memory_map=True).combine_chunks()
        if not table.num_rows:
            return cls(np.zeros(1, np.int64), {name: np.zeros(0, np.int32) for name in features})
        lists = {name: table[name].chunk(0) for name in features}
        splits = lists[features[0]].offsets.to_numpy().astype(np.int64)
        ids = {name: column.flatten().to_numpy(zero_copy_only=False) for name, column in lists.items()}
        return cls(splits - splits[0], ids)

    @classmethod
    def concatenate(cls, parts: list[BehaviorShards]) -> BehaviorShards:
        return cls(
            join_splits([part.row_splits for part in parts]),
            {name: np.concatenate([part.ids[name] for part in parts]) for name in parts[0].ids},
        )

    @property
    def num_users(self) -> int:
        return len(self.row_splits) - 1

    def windows(self, users: np.ndarray, ends: np.ndarray, spec: HistorySpec) -> dict:
        """Cuts the short and the long history of B requests: two disjoint windows, the long one before the short one.

        Args:
          users: [B] row of the user; -1: no behaviours.
          ends: [B] how many of the user's behaviours lie before the request.
          spec: lengths of the windows.

        Returns:
          `{"short": {feature: [B, short_length] int32}, "short_length": [B] int32, "long": …, "long_length": …}`;
          newest last, padded with 0 on the left.
        """
        known = users >= 0
        starts = np.where(known, self.row_splits[np.maximum(users, 0)], 0)
        stops = np.where(known, starts + ends, 0)
        middles = np.maximum(starts, stops - spec.short_length)
        short, short_length = self._cut(starts, stops, spec.short_length)
        long, long_length = self._cut(starts, middles, spec.long_length)
        return {"short": short, "short_length": short_length, "long": long, "long_length": long_length}

    def _cut(self, starts, stops, length):
        positions = stops[:, np.newaxis] + np.arange(-length, 0)
        inside = positions >= starts[:, np.newaxis]
        positions = np.where(inside, positions, 0)
        windows = {}
        for name, ids in self.ids.items():
            taken = ids[positions] if len(ids) else np.zeros(positions.shape, np.int32)
            windows[name] = np.where(inside, taken, 0).astype(np.int32, copy=False)
        return windows, np.minimum(stops - starts, length).astype(np.int32)


def history_signature(spec: HistorySpec) -> dict:
    """Tensor specs of what `BehaviorShards.windows` returns."""
    signature = {}
    for window, length in (("short", spec.short_length), ("long", spec.long_length)):
        signature[window] = {name: tf.TensorSpec([None, length], tf.int32) for name in spec.features}
        signature[f"{window}_length"] = tf.TensorSpec([None], tf.int32)
    return signature
