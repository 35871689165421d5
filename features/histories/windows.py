"""Raw requests with their histories beside them: windows of the raw behaviour log, as list columns.

Raw examples hold histories by reference (`user_index`, `history_end`). Where a request must stand on its own, in an
export's warm-up file, a JSON request or a scored table, its windows are written out: `short_<feature>` and
`long_<feature>`, lists with the newest behaviour last, and their times as `short_timestamp` and `long_timestamp`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import list_splits, lists_of, one_chunk, open_parquet, read_parquet, splits_of
from features.errors import NotFoundError, UnscorableError
from features.examples.shards import behaviors_file
from features.spec import HistorySpec
from features.storage import AnyPath

WINDOWS = ("short", "long")

#: Columns of the behaviour log: whose behaviours, and with which items.
USER, ITEM = "user_id", "item_id"

#: The time of a request and, in the behaviour log, of a behaviour. No history feature has this name.
TIMESTAMP = "timestamp"


def history_column(window: str, feature: str) -> str:
    """The column, and the tensor of an exported signature, that holds a feature of a window."""
    return f"{window}_{feature}"


def window_bounds(stops: np.ndarray, starts: np.ndarray, spec: HistorySpec) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cuts histories in two disjoint windows: the last `short_length` behaviours, and the `long_length` before those.

    Args:
      stops: [B] where each request's history ends.
      starts: [B] where its user's behaviours begin.
      spec: lengths of the windows.

    Returns:
      `{window: (first, end)}`, each [B].
    """
    middles = np.maximum(starts, stops - spec.short_length)
    return {"short": (middles, stops), "long": (np.maximum(starts, middles - spec.long_length), middles)}


def attach_histories(
    requests: pa.Table, behaviors: pa.Table, spec: HistorySpec, windows: Iterable[str] = WINDOWS
) -> pa.Table:
    """Adds the windows of raw requests as list columns.

    Args:
      requests: raw requests of one shard (docs/reference/data_formats.md), with `user_index` and `history_end`.
      behaviors: the whole raw behaviour log of the same shard.
      spec: features and lengths.
      windows: which windows.

    Returns:
      `requests` with `short_<feature>` and `long_<feature>`, the times among them: lists of raw values, oldest first;
      users without behaviours have empty lists.
    """
    names = (*spec.features, TIMESTAMP)
    users = requests["user_index"].to_numpy()
    ends = requests["history_end"].to_numpy()
    known = users >= 0
    lists = {name: one_chunk(behaviors[name]) for name in names}
    starts = np.where(known, list_splits(lists[spec.features[0]])[np.maximum(users, 0)], 0)
    bounds = window_bounds(np.where(known, starts + ends, 0), starts, spec)
    for window in windows:
        first, end = bounds[window]
        lengths = end - first
        splits = splits_of(lengths)
        rows = pa.array(np.arange(splits[-1]) + np.repeat(first - splits[:-1], lengths))
        for name in names:
            column = lists_of(lists[name].flatten().take(rows), splits)
            requests = requests.append_column(history_column(window, name), column)
    return requests


def read_behaviors(behaviors_dir: AnyPath, requests_file: AnyPath, spec: HistorySpec) -> pa.Table:
    """Reads the raw behaviours that a file of requests refers to.

    Raises:
      NotFoundError: if they are not there.
      UnscorableError: if they lack a feature of the histories.
    """
    path = storage.join(behaviors_dir, behaviors_file(requests_file))
    if not storage.is_file(path):
        raise NotFoundError(f"{path}: no behaviours for the requests in {requests_file}. Ingest the log again.")
    wanted = [*spec.features, TIMESTAMP]
    with open_parquet(path) as file:
        missing = [name for name in wanted if name not in file.schema_arrow.names]
    if missing:
        raise UnscorableError(f"{path} has no column {', '.join(f'`{name}`' for name in missing)} of the behaviours.")
    return read_parquet(path, wanted)
