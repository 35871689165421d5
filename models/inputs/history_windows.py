"""Behaviour histories by reference: a request holds where its history ends, and the window is cut at batch time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import tensorflow as tf

from features.arrow import is_list, list_splits, one_chunk, read_parquet, splits_of, to_numpy
from features.encoding import columns
from features.histories.time_gaps import gap_buckets
from features.histories.windows import WINDOWS, window_bounds
from features.spec import FeatureSpec, HistorySpec
from features.storage import AnyPath
from models.inputs.request_arrays import Column, Lists, join_rows, join_splits, take_rows

ITEM_ROW = columns.BATCH_ITEM_ROW
"""In a batch and its windows: rows of the catalogue (`features.items.catalogue`), 0 where an item is not in it."""

TIME_GAP = columns.BATCH_TIME_GAP
"""In a batch's windows: buckets of the time before the request (`features.histories.time_gaps`), 0 for padding."""


@dataclass(frozen=True)
class BehaviorShards:
    """Encoded behaviours of the users of some shards.

    Attributes:
      row_splits: [users + 1] where each user's behaviours begin and end.
      ids: by history feature, and `item_row`: [behaviours] int32, each user's sorted by time; of a multi-valued
        feature a list a behaviour.
      timestamps: [behaviours] int64 UTC milliseconds; None: not known.
    """

    row_splits: np.ndarray
    ids: dict[str, Column]
    timestamps: np.ndarray | None = None

    @classmethod
    def read(cls, path: AnyPath, features: tuple[str, ...], item_rows: bool) -> BehaviorShards:
        """Reads one shard of the encoded behaviour log.

        Args:
          path: the shard.
          features: history features.
          item_rows: whether the log holds catalogue rows; else they are 0.
        """
        wanted = {name: name for name in features} | ({ITEM_ROW: columns.ITEM_ROW} if item_rows else {})
        table = read_parquet(path, [*wanted.values(), columns.TIMESTAMP])
        lists = {name: one_chunk(table[column]) for name, column in wanted.items()}
        splits = list_splits(lists[features[0]])
        ids = {name: _ids(column.flatten()) for name, column in lists.items()}
        ids.setdefault(ITEM_ROW, np.zeros(splits[-1], np.int32))
        return cls(splits, ids, to_numpy(one_chunk(table[columns.TIMESTAMP]).flatten()))

    @classmethod
    def concatenate(cls, parts: list[BehaviorShards]) -> BehaviorShards:
        return cls(
            join_splits([part.row_splits for part in parts]),
            {name: join_rows([part.ids[name] for part in parts]) for name in parts[0].ids},
            None if (known := [part.timestamps for part in parts])[0] is None else np.concatenate(known),
        )

    @property
    def num_users(self) -> int:
        return len(self.row_splits) - 1

    def windows(
        self,
        users: np.ndarray,
        ends: np.ndarray,
        spec: HistorySpec,
        windows: tuple[str, ...] = WINDOWS,
        times: np.ndarray | None = None,
    ) -> dict:
        """Cuts the histories of B requests in disjoint windows, the long one before the short one.

        Args:
          users: [B] row of the user; -1: no behaviours.
          ends: [B] how many of the user's behaviours lie before the request.
          spec: lengths of the windows.
          windows: which windows.
          times: [B] int64 of the requests, UTC milliseconds; None: not known.

        Returns:
          `{"short": {feature: [B, S] int32}, "short_length": [B] int32, "long": …, "long_length": …}`; features are the
          spec's history features, `item_row` and `TIME_GAP`; newest last, padded with 0 on the left; S is the longest
          length in the batch, at least 1. Of a multi-valued feature: all its ids, one after another, and [B · S + 1]
          where those of each place begin and end; places without a behaviour have none. `ragged_windows` makes tensors
          of them.
        """
        known = users >= 0
        starts = np.where(known, self.row_splits[np.maximum(users, 0)], 0)
        bounds = window_bounds(np.where(known, starts + ends, 0), starts, spec)
        cut = {}
        for window in windows:
            cut[window], cut[f"{window}_length"] = self._cut(*bounds[window], times)
        return cut

    def _cut(self, first: np.ndarray, end: np.ndarray, times: np.ndarray | None) -> tuple[dict, np.ndarray]:
        width = max(1, int((end - first).max(initial=0)))
        positions = end[:, np.newaxis] + np.arange(-width, 0)
        inside = positions >= first[:, np.newaxis]
        positions = np.where(inside, positions, 0)
        windows: dict = {TIME_GAP: np.zeros(positions.shape, np.int32)}
        if times is not None and self.timestamps is not None and len(self.timestamps):
            gaps = gap_buckets(times[:, np.newaxis], self.timestamps[positions])
            windows[TIME_GAP] = np.where(inside, gaps, np.int32(0))
        for name, ids in self.ids.items():
            if isinstance(ids, Lists):
                windows[name] = _lists_at(ids, positions, inside)
                continue
            taken = ids[positions] if len(ids) else np.zeros(positions.shape, np.int32)
            windows[name] = np.where(inside, taken, 0).astype(np.int32, copy=False)
        return windows, (end - first).astype(np.int32)


def _ids(values: pa.Array) -> Column:
    return Lists(to_numpy(values.flatten()), list_splits(values)) if is_list(values.type) else to_numpy(values)


def _lists_at(lists: Lists, positions: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lists at positions [B, S], one after another, and their splits [B · S + 1]; empty where not `inside`."""
    taken = take_rows(lists, positions[inside])
    lengths = np.zeros(positions.shape, np.int64)
    lengths[inside] = np.diff(taken.row_splits)
    return taken.values, splits_of(lengths.ravel())


def history_signature(spec: FeatureSpec, windows: tuple[str, ...] = WINDOWS) -> dict:
    """Tensor specs of what `BehaviorShards.windows` returns."""
    vector = lambda dtype: tf.TensorSpec([None], dtype)  # noqa: E731
    of_window: dict = {
        name: tf.TensorSpec([None, None], tf.int32) for name in (*spec.history.features, ITEM_ROW, TIME_GAP)
    }
    of_window |= {name: (vector(tf.int32), vector(tf.int64)) for name in _multi_valued(spec)}
    signature = {}
    for window in windows:
        signature |= {window: dict(of_window), f"{window}_length": vector(tf.int32)}
    return signature


def ragged_windows(history: dict, spec: FeatureSpec) -> dict:
    """Turns what `BehaviorShards.windows` returns into a batch's `history`: multi-valued features, [B, S, None]."""
    names, history = _multi_valued(spec), dict(history)
    for window in WINDOWS if names else ():
        if window in history:
            rows, width = tf.unstack(tf.shape(history[window][ITEM_ROW], tf.int64))
            places = {name: tf.RaggedTensor.from_row_splits(*history[window][name], validate=False) for name in names}
            history[window] = history[window] | {name: in_rows(place, rows, width) for name, place in places.items()}
    return history


def _multi_valued(spec: FeatureSpec) -> list[str]:
    return [name for name in spec.history.features if spec[name].multi_valued]


def in_rows(places: tf.RaggedTensor, rows: tf.Tensor, width: tf.Tensor) -> tf.RaggedTensor:
    """Groups lists of ids: `[rows · width, None]` to `[rows, width, None]`, which knows its `uniform_row_length`."""
    return tf.RaggedTensor.from_uniform_row_length(places, width, nrows=rows, validate=False)


def trim_window(history: dict, window: str, longest: int | None = None) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Cuts off what pads all requests of a window, so that more padding changes no bit of what is made of it.

    Args:
      history: of a batch.
      window: `short` or `long`.
      longest: keep only this many behaviours, the newest.

    Returns:
      Ids by feature, [B, L] each (multi-valued: ragged [B, L, None]), and [B, L] whether a behaviour stands there; L is
      at least 1.
    """
    lengths = history[f"{window}_length"]
    if longest is not None:
        lengths = tf.minimum(lengths, longest)
    width = tf.maximum(tf.reduce_max(lengths), 1)
    ids = {name: _last(values, width) for name, values in history[window].items()}
    # Newest last: the last behaviour has position 1. A window may be narrower than its longest length says.
    positions = tf.range(_width(next(iter(ids.values()))), 0, -1)
    return ids, positions <= lengths[:, tf.newaxis]


def _last(values: tf.Tensor | tf.RaggedTensor, width: tf.Tensor) -> tf.Tensor | tf.RaggedTensor:
    """The last `width` places of each row of `[B, S]` or ragged `[B, S, None]`."""
    if not isinstance(values, tf.RaggedTensor):
        return values[:, -width:]
    # Batches lose `uniform_row_length` on their way through tf.data.
    rows, places = values.nrows(), values.values
    size = places.nrows() // tf.maximum(rows, 1)
    kept = tf.reshape(tf.range(places.nrows()), [rows, size])[:, -tf.cast(width, size.dtype) :]
    return in_rows(tf.gather(places, tf.reshape(kept, [-1])), rows, tf.shape(kept, size.dtype)[1])


def _width(values: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    return tf.cast(values.uniform_row_length, tf.int32) if isinstance(values, tf.RaggedTensor) else tf.shape(values)[1]
