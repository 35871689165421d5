"""The files LogIngest writes for a shard: requests by split and the behaviour log (docs/reference/data_formats.md)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import storage
from features.arrow import columns_of, compact, lists_of, write_parquet
from features.ingest.checking.columns import ARROW_TYPES
from features.ingest.joining.behavior_log import ShardBehaviors
from features.ingest.joining.item_table import SideTable
from features.ingest.joining.requests import ShardRequests
from features.spec import KEY_COLUMNS, Feature, FeatureSpec

ROW_GROUP_REQUESTS = 1 << 14


class RequestTable:
    """Builds the raw examples of a shard, split by split, so that only one split's columns exist at a time.

    Attributes:
      missing: nulls of each feature in the splits so far: of requests or of impressions, by its scope.
    """

    def __init__(
        self, spec: FeatureSpec, requests: ShardRequests, items: SideTable, users: SideTable, behaviors: ShardBehaviors
    ):
        self._spec = spec
        self._requests = requests
        self._items = items
        self._users = users
        rows = requests.rows
        self._columns = columns_of(rows)
        self._user_ids = requests.first("user_id")
        lengths = np.diff(requests.offsets)
        self._item_rows = items.find(self._columns["item_id"], np.repeat(requests.timestamps, lengths))
        self._user_rows = users.find(self._user_ids, requests.timestamps)
        self._user_index = behaviors.user_index(self._user_ids)
        self._history_end = behaviors.history_end(self._user_index, requests.timestamps)
        self.missing: Counter[str] = Counter()

    @property
    def unknown_items(self) -> int:
        return self._item_rows.null_count

    @property
    def unknown_users(self) -> int:
        return self._user_rows.null_count

    def split(self, code: int) -> pa.Table:
        """Returns the requests of a split: one row a request."""
        start, stop = np.searchsorted(self._requests.splits, [code, code + 1])
        offsets = self._requests.offsets[start : stop + 1]
        low, high = int(offsets[0]), int(offsets[-1])

        def of_request(values: pa.Array | np.ndarray) -> pa.Array:
            values = values if isinstance(values, pa.Array) else pa.array(values)
            return values.slice(start, stop - start)

        def as_lists(values: pa.Array) -> pa.Array:
            return lists_of(compact(values), offsets - low)

        def of_candidate(values: pa.Array | np.ndarray) -> pa.Array:
            values = values if isinstance(values, pa.Array) else pa.array(values)
            return as_lists(values.slice(low, high - low))

        requests = self._requests
        table = {
            "request_id": of_request(requests.first("request_id")),
            "timestamp": of_request(requests.timestamps),
            "user_id": of_request(self._user_ids),
            "history_end": of_request(self._history_end),
            "user_index": of_request(self._user_index),
            "item_id": of_candidate(self._columns["item_id"]),
            "position": of_candidate(requests.position),
        }
        if "propensity" in self._columns:
            table["propensity"] = of_candidate(self._columns["propensity"])
        for name, values in (*requests.labels.items(), *requests.values.items()):
            table[name] = of_candidate(values)
        first_rows = pa.array(requests.offsets[start:stop])
        for feature in self._spec.features:
            if feature.name in KEY_COLUMNS:
                continue
            if feature.scope == "candidate":
                values = self._candidate_feature(feature, low, high)
                table[feature.name] = as_lists(values)
            elif feature.table == "users" and feature.column not in KEY_COLUMNS:
                values = table[feature.name] = self._users.column(feature, of_request(self._user_rows))
            else:
                values = table[feature.name] = self._impression_column(feature).take(first_rows)
            self.missing[feature.name] += values.null_count
        # Slices carry their offsets; a table of its own begins at 0.
        return pa.table({name: compact(values) for name, values in table.items()})

    def _candidate_feature(self, feature: Feature, low: int, high: int) -> pa.Array:
        if feature.table == "items" and feature.column not in KEY_COLUMNS:
            return self._items.column(feature, self._item_rows.slice(low, high - low))
        return self._impression_column(feature).slice(low, high - low)

    def _impression_column(self, feature: Feature) -> pa.Array:
        if feature.column not in KEY_COLUMNS:
            return self._columns[f"f:{feature.name}"]
        return self._columns[feature.column].cast(ARROW_TYPES[feature.dtype])


def behavior_table(
    spec: FeatureSpec, behaviors: ShardBehaviors, item_ids: pa.Array, actions: pa.Array | None, items: SideTable
) -> pa.Table:
    """Returns the behaviour log of a shard: one row a user. `item_ids`, `actions`: [H] as given to the log."""
    order = pa.array(behaviors.order)
    item_ids = item_ids.take(order)
    rows = items.find(item_ids, behaviors.timestamps)
    table = {"user_id": behaviors.user_ids, "timestamp": behaviors.lists(pa.array(behaviors.timestamps))}
    table["item_id"] = behaviors.lists(item_ids)
    for name in spec.history.features if spec.history else ():
        feature = spec[name]
        if name == "item_id":
            continue
        if feature.column == "item_id":
            values = item_ids.cast(ARROW_TYPES[feature.dtype])
        else:
            values = items.column(feature, rows)
        table[name] = behaviors.lists(values)
    if actions is not None:
        table["action"] = behaviors.lists(actions.take(order))
    return pa.table(table)


def user_table(spec: FeatureSpec, users: pa.RecordBatch) -> pa.Table:
    """Returns the users of a shard, sorted by id: `user_id` and every feature of the table `users`.

    Args:
      spec: the features.
      users: checked rows, each user once.
    """
    ids = columns_of(users)["user_id"]
    rows = pc.sort_indices(ids).cast(pa.int32())
    side, table = SideTable("user_id", users), {"user_id": ids.take(rows)}
    for feature in spec.of_table("users"):
        if feature.column not in KEY_COLUMNS:
            table[feature.name] = side.column(feature, rows)
    return pa.table(table)


def write_shard(table: pa.Table, directory: str, name: str, shard: int, num_shards: int) -> None:
    """Writes `<name>-SSSSS-of-NNNNN.parquet`."""
    path = storage.join(directory, f"{name}-{shard:05d}-of-{num_shards:05d}.parquet")
    write_parquet(table, path, ROW_GROUP_REQUESTS)
