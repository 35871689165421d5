"""Behaviour histories by reference: a request holds where its history ends, and the window is cut at batch time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from features.arrow import list_splits, one_chunk, read_parquet, to_numpy
from features.encoding import columns
from features.histories.windows import WINDOWS, window_bounds
from features.spec import HistorySpec
from features.storage import AnyPath
from models.inputs.request_arrays import join_splits

ITEM_ROW = columns.BATCH_ITEM_ROW
"""In a batch and its windows: rows of the catalogue (`features.items.catalogue`), 0 where an item is not in it."""


@dataclass(frozen=True)
class BehaviorShards:
    """Encoded behaviours of the users of some shards.

    Attributes:
      row_splits: [users + 1] where each user's behaviours begin and end.
      ids: by history feature, and `item_row`: [behaviours] int32, each user's sorted by time.
    """

    row_splits: np.ndarray
    ids: dict[str, np.ndarray]

    @classmethod
    def read(cls, path: AnyPath, features: tuple[str, ...], item_rows: bool) -> BehaviorShards:
        """Reads one shard of the encoded behaviour log.

        Args:
          path: the shard.
          features: history features.
          item_rows: whether the log holds catalogue rows; else they are 0.
        """
        wanted = {name: name for name in features} | ({ITEM_ROW: columns.ITEM_ROW} if item_rows else {})
        table = read_parquet(path, list(wanted.values()))
        if not table.num_rows:
            return cls(np.zeros(1, np.int64), {name: np.zeros(0, np.int32) for name in (*features, ITEM_ROW)})
        lists = {name: one_chunk(table[column]) for name, column in wanted.items()}
        splits = list_splits(lists[features[0]])
        ids = {name: to_numpy(column.flatten()) for name, column in lists.items()}
        ids.setdefault(ITEM_ROW, np.zeros(splits[-1], np.int32))
        return cls(splits, ids)

    @classmethod
    def concatenate(cls, parts: list[BehaviorShards]) -> BehaviorShards:
        return cls(
            join_splits([part.row_splits for part in parts]),
            {name: np.concatenate([part.ids[name] for part in parts]) for name in parts[0].ids},
        )

    @property
    def num_users(self) -> int:
        return len(self.row_splits) - 1

    def windows(self, users: np.ndarray, ends: np.ndarray, spec: HistorySpec, windows: tuple[str, ...] = WINDOWS):
        """Cuts the histories of B requests in disjoint windows, the long one before the short one.

        Args:
          users: [B] row of the user; -1: no behaviours.
          ends: [B] how many of the user's behaviours lie before the request.
          spec: lengths of the windows.
          windows: which windows.

        Returns:
          `{"short": {feature: [B, S] int32}, "short_length": [B] int32, "long": …, "long_length": …}`; features are the
          spec's history features and `item_row`; newest last, padded with 0 on the left; S is the longest length in
          the batch, at least 1.
        """
        known = users >= 0
        starts = np.where(known, self.row_splits[np.maximum(users, 0)], 0)
        bounds = window_bounds(np.where(known, starts + ends, 0), starts, spec)
        cut = {}
        for window in windows:
            cut[window], cut[f"{window}_length"] = self._cut(*bounds[window])
        return cut

    def _cut(self, first: np.ndarray, end: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        width = max(1, int((end - first).max(initial=0)))
        positions = end[:, np.newaxis] + np.arange(-width, 0)
        inside = positions >= first[:, np.newaxis]
        positions = np.where(inside, positions, 0)
        windows = {}
        for name, ids in self.ids.items():
            taken = ids[positions] if len(ids) else np.zeros(positions.shape, np.int32)
            windows[name] = np.where(inside, taken, 0).astype(np.int32, copy=False)
        return windows, (end - first).astype(np.int32)


def history_signature(spec: HistorySpec, windows: tuple[str, ...] = WINDOWS) -> dict:
    """Tensor specs of what `BehaviorShards.windows` returns."""
    signature = {}
    for window in windows:
        signature[window] = {name: tf.TensorSpec([None, None], tf.int32) for name in (*spec.features, ITEM_ROW)}
        signature[f"{window}_length"] = tf.TensorSpec([None], tf.int32)
    return signature


def trim_window(history: dict, window: str, longest: int | None = None) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Cuts off what pads all requests of a window, so that more padding changes no bit of what is made of it.

    Args:
      history: of a batch.
      window: `short` or `long`.
      longest: keep only this many behaviours, the newest.

    Returns:
      Ids by feature, [B, L] each, and [B, L] whether a behaviour stands there; L is at least 1.
    """
    lengths = history[f"{window}_length"]
    if longest is not None:
        lengths = tf.minimum(lengths, longest)
    width = tf.maximum(tf.reduce_max(lengths), 1)
    ids = {name: values[:, -width:] for name, values in history[window].items()}
    # Newest last: the last behaviour has position 1. A window may be narrower than its longest length says.
    positions = tf.range(tf.shape(next(iter(ids.values())))[1], 0, -1)
    return ids, positions <= lengths[:, tf.newaxis]
