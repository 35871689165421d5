"""The stages of LogIngest as Beam DoFns. `features/ingest/ingest_logs.py` puts them together."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput

from features import storage
from features.arrow import columns_of, write_parquet
from features.encoding.hashing import hash64
from features.ingest.checking.validate import RowChecker, TablePlan
from features.ingest.config import SPLITS, IngestConfig
from features.ingest.joining.behavior_log import ShardBehaviors
from features.ingest.joining.requests import ShardRequests, build_requests, segment_min, set_aside
from features.ingest.joining.shuffle import concatenate, kind_of, mark, partition, shard_of
from features.ingest.joining.split import TimeHistogram
from features.ingest.joining.write import (
    ROW_GROUP_REQUESTS,
    RequestTable,
    SideTable,
    behavior_table,
    catalogue_table,
    deduplicate,
    write_shard,
)
from features.ingest.reading.units import ReadUnit, read_batches
from features.items.catalogue import CATALOGUE_FILE
from features.log_contract import Reason
from features.spec import FeatureSpec

#: Tags of the outputs beside the rows.
BY_REQUEST, ITEMS, DEAD, TALLY, LAST, TIMES = "by_request", "items", "dead", "tally", "last", "times"

_INDEX = "index"
_Group = tuple[int, Iterable[pa.RecordBatch]]


@dataclasses.dataclass(eq=False, repr=False)
class ReadTable(beam.DoFn):
    """Reads and checks units of the tables and sends the rows to their shards.

    Elements are (table, unit). Impressions, users and behaviours go to their user's shard, clicks to their request's
    bucket, items to one place. Impressions also send an index (request, user, time) to the request's bucket, where the
    clicks find their user.
    """

    plans: dict[str, TablePlan]
    num_shards: int

    def process(self, element: tuple[str, ReadUnit]) -> Iterator[Any]:
        table, unit = element
        checker = RowChecker(self.plans[table])
        plan = self.plans[table]
        for raw in read_batches(unit, plan.config, plan.sources):
            rows, dead, tally = checker.check(raw, unit)
            yield TaggedOutput(TALLY, tally)
            if dead is not None:
                yield TaggedOutput(DEAD, (unit.index % self.num_shards, dead))
            if rows.num_rows:
                yield from self._send(table, rows)

    def _send(self, table: str, rows: pa.RecordBatch) -> Iterator[Any]:
        column = columns_of(rows)
        if table in ("impressions", "clicks"):
            yield TaggedOutput(LAST, pc.max(column["timestamp"]).as_py())
        if table == "items":
            yield TaggedOutput(ITEMS, (0, mark(rows, table)))
        elif table == "clicks":
            for part in partition(rows, shard_of(column["request_id"], self.num_shards), table):
                yield TaggedOutput(BY_REQUEST, part)
        else:
            users = hash64(column["user_id"].dictionary_encode())
            yield from partition(rows, (users % np.uint64(self.num_shards)).astype(np.uint16), table)
            if table == "impressions":
                index = _request_index(column["request_id"], users, column["timestamp"].to_numpy())
                buckets = shard_of(index.column(0), self.num_shards)
                for part in partition(index, buckets, _INDEX):
                    yield TaggedOutput(BY_REQUEST, part)


def _request_index(request_ids: pa.Array, users: np.ndarray, times: np.ndarray) -> pa.RecordBatch:
    """Returns the distinct (request, user hash) of a batch with their earliest time."""
    encoded = request_ids.dictionary_encode()
    codes = encoded.indices.to_numpy()
    starts = np.flatnonzero(np.r_[True, (codes[1:] != codes[:-1]) | (users[1:] != users[:-1])])
    times = np.minimum.reduceat(times, starts)
    arrays = [encoded.dictionary.take(pa.array(codes[starts])), pa.array(users[starts]), pa.array(times)]
    return pa.RecordBatch.from_arrays(arrays, names=["request_id", "user", "timestamp"])


@dataclasses.dataclass(eq=False, repr=False)
class RouteClicks(beam.DoFn):
    """Meets the index and the clicks of a bucket of requests: clicks go on to their user's shard.

    Requests of two users are told to all their shards; clicks of no request are dead letters; the times of the
    requests go to the histogram that decides the split.
    """

    num_shards: int
    units: dict[str, list[ReadUnit]]

    def process(self, element: _Group) -> Iterator[Any]:
        bucket, batches = element
        by_kind = _by_kind(batches)
        index = by_kind.get(_INDEX, [])
        ids = pa.concat_arrays([part.column(0) for part in index]) if index else pa.array([], pa.string())
        encoded = ids.dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        users = np.concatenate([part.column(1).to_numpy() for part in index] or [np.zeros(0, np.uint64)])
        times = np.concatenate([part.column(2).to_numpy() for part in index] or [np.zeros(0, np.int64)])
        size = len(encoded.dictionary)
        user = np.zeros(size, np.uint64)
        user[codes[::-1]] = users[::-1]
        conflicted = np.zeros(size, bool)
        conflicted[codes[users != user[codes]]] = True
        yield TaggedOutput(TIMES, TimeHistogram.of(segment_min(codes, times, size)[~conflicted]))

        told = np.flatnonzero(conflicted[codes])
        if len(told):
            rows = pa.RecordBatch.from_arrays([ids.take(pa.array(told))], names=["request_id"])
            yield from partition(rows, (users[told] % np.uint64(self.num_shards)).astype(np.uint16), "conflicts")

        clicks = concatenate(by_kind.get("clicks", []))
        if clicks is None:
            return
        request = pc.fill_null(pc.index_in(clicks.column(0), encoded.dictionary), -1).to_numpy()
        orphan = request < 0
        conflict = ~orphan & np.append(conflicted, False)[request]
        for reason, mask in ((Reason.UNKNOWN_REQUEST, orphan), (Reason.REQUEST_CONFLICT, conflict)):
            if mask.any():
                yield TaggedOutput(DEAD, (bucket, set_aside("clicks", clicks, reason, mask, self.units)))
                yield TaggedOutput(TALLY, Counter({("reason", "clicks", reason.value): int(mask.sum())}))
        known = ~orphan & ~conflict
        if known.any():
            shards = (user[request[known]] % np.uint64(self.num_shards)).astype(np.uint16)
            yield from partition(clicks.filter(pa.array(known)), shards, "clicks")


@dataclasses.dataclass(eq=False, repr=False)
class WriteItems(beam.DoFn):
    """Gathers the items, drops repeated ones and writes them: once for all shards, and as the catalogue."""

    path: str
    spec: FeatureSpec
    examples_dir: str

    def process(self, element: _Group) -> Iterator[Any]:
        rows, dropped = deduplicate(concatenate(element[1]), "item_id")
        with storage.writing(self.path) as stream, pa.ipc.new_file(stream, rows.schema) as writer:
            writer.write_batch(rows)
        catalogue = catalogue_table(self.spec, rows)
        write_parquet(catalogue, storage.join(self.examples_dir, CATALOGUE_FILE), ROW_GROUP_REQUESTS)
        tally = {("table", "items", "duplicates"): dropped, ("table", "items", "kept"): rows.num_rows}
        yield TaggedOutput(TALLY, Counter(tally))
        yield self.path


_ITEMS: dict[str, SideTable] = {}


def _load_items(path: str) -> SideTable:
    """Returns the items, opened once per process: mapped into memory where they lie on its machine."""
    if path not in _ITEMS:
        _ITEMS.clear()
        _ITEMS[path] = SideTable("item_id", pa.ipc.open_file(storage.open_arrow(path)).get_batch(0))
    return _ITEMS[path]


@dataclasses.dataclass(eq=False, repr=False)
class BuildShard(beam.DoFn):
    """Builds and writes the requests and the behaviour log of a shard; memory holds one shard at a time."""

    config: IngestConfig
    spec: FeatureSpec
    num_shards: int
    units: dict[str, list[ReadUnit]]
    examples_dir: str
    behaviors_dir: str
    empty: pa.RecordBatch
    has_action: bool

    def process(self, element: _Group, plan: dict[str, int | None], item_paths: Iterable[str]) -> Iterator[Any]:
        shard, batches = element
        by_kind = _by_kind(batches)
        items = next((_load_items(path) for path in item_paths), SideTable("item_id", None))
        tally: Counter = Counter()
        users = concatenate(by_kind.pop("users", []))
        if users is not None:
            users, dropped = deduplicate(users, "user_id")
            tally["table", "users", "duplicates"] += dropped
            tally["table", "users", "kept"] += users.num_rows
        conflicts = [batch.column(0) for batch in by_kind.pop("conflicts", [])]
        impressions = concatenate(by_kind.pop("impressions", []))
        requests, letters, counted = build_requests(
            self.empty if impressions is None else impressions,
            concatenate(by_kind.pop("clicks", [])),
            pa.concat_arrays(conflicts) if conflicts else pa.array([], pa.string()),
            self.config,
            self.config.label_columns(self.spec),
            plan,
            self.units,
        )
        tally.update(counted)
        yield from (TaggedOutput(DEAD, (shard, letter)) for letter in letters)
        del impressions

        given = concatenate(by_kind.pop("behaviors", []))
        if given is not None:
            tally["table", "behaviors", "kept"] += given.num_rows
        behaviors = self._write_behaviors(shard, requests, given, items, tally)
        self._write_requests(shard, requests, behaviors, items, SideTable("user_id", users), tally)
        yield TaggedOutput(TALLY, tally)

    def _write_behaviors(
        self, shard: int, requests: ShardRequests, given: pa.RecordBatch | None, items: SideTable, tally: Counter
    ) -> ShardBehaviors:
        """Behaviours are the given ones, else the positive impressions at the time they became positive."""
        if self.config.tables.behaviors is None:
            positive = np.flatnonzero(requests.positive)
            column = columns_of(requests.rows)
            index = pa.array(positive)
            user_ids, item_ids = column["user_id"].take(index), column["item_id"].take(index)
            times, ties, actions = requests.positive_times[positive], column["_order"].take(index).to_numpy(), None
        else:
            names = ["user_id", "item_id"]
            column = {name: self.empty[name] for name in names}
            column |= {"timestamp": pa.array([], pa.int64()), "_order": pa.array([], pa.int64())}
            if given is not None:
                column = columns_of(given)
            elif self.has_action:
                column["action"] = pa.array([], pa.string())
            user_ids, item_ids, actions = column["user_id"], column["item_id"], column.get("action")
            times, ties = column["timestamp"].to_numpy(), column["_order"].to_numpy()
        log = ShardBehaviors.build(user_ids, times, ties)
        table = behavior_table(self.spec, log, item_ids, actions, items)
        write_shard(table, self.behaviors_dir, "behaviors", shard, self.num_shards)
        tally["behaviors",] += len(times)
        tally["behavior_users",] += table.num_rows
        return log

    def _write_requests(
        self,
        shard: int,
        requests: ShardRequests,
        behaviors: ShardBehaviors,
        items: SideTable,
        users: SideTable,
        tally: Counter,
    ) -> None:
        examples = RequestTable(self.spec, requests, items, users, behaviors)
        if self.config.tables.items is not None:
            tally["unknown_items",] += examples.unknown_items
        if self.config.tables.users is not None:
            tally["unknown_users",] += examples.unknown_users
        candidates = np.repeat(requests.splits, np.diff(requests.offsets))
        for name in self.config.split.names:
            code = SPLITS.index(name)
            table = examples.split(code)
            folder = storage.join(self.examples_dir, f"Split-{name}")
            write_shard(table, folder, "requests", shard, self.num_shards)
            tally["requests", name] += table.num_rows
            tally["impressions", name] += int((candidates == code).sum())
            for label, values in requests.labels.items():
                tally["positives", label, name] += int((values[candidates == code] > 0).sum())


@dataclasses.dataclass(eq=False, repr=False)
class WriteDeadLetters(beam.DoFn):
    """Writes the dead letters of a shard."""

    directory: str
    num_shards: int

    def process(self, element: _Group) -> Iterator[int]:
        shard, batches = element
        table = pa.Table.from_batches([batch.replace_schema_metadata(None) for batch in batches])
        table = table.sort_by([(name, "ascending") for name in ("table", "source", "reason", "row")])
        write_shard(table, self.directory, "dead_letters", shard, self.num_shards)
        yield table.num_rows


def _by_kind(batches: Iterable[pa.RecordBatch]) -> dict[str, list[pa.RecordBatch]]:
    found: dict[str, list[pa.RecordBatch]] = {}
    for batch in batches:
        found.setdefault(kind_of(batch), []).append(batch)
    return found
