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
from features.arrow import columns_of
from features.encoding.hashing import hash64
from features.examples.shards import KEPT_DIR, USERS_DIR
from features.ingest.checking.plan import TablePlan
from features.ingest.checking.validate import RowChecker
from features.ingest.config import SPLITS, IngestConfig
from features.ingest.joining.behavior_log import ShardBehaviors
from features.ingest.joining.end_of_log import DAY_MS, LogTimes
from features.ingest.joining.item_table import SideTable, deduplicate, load_items
from features.ingest.joining.refused import Refused
from features.ingest.joining.requests import MAX_REQUEST_MS, ShardJoin, ShardRequests, segment_min
from features.ingest.joining.shuffle import (
    BY_REQUEST,
    DEAD,
    IMPRESSION_TIMES,
    ITEMS,
    REQUEST_TIMES,
    TALLY,
    Group,
    by_kind,
    concatenate,
    mark,
    partition,
    shard_of,
)
from features.ingest.joining.spill import Spill, unspill
from features.ingest.joining.split import TimeHistogram
from features.ingest.joining.write import RequestTable, behavior_table, user_table, write_shard
from features.ingest.reading.units import ReadUnit, read_batches
from features.ingest.spans.snapshots import Snapshots, SpanPlan, snapshots_of
from features.log_contract import BadRowsError, Reason
from features.spec import FeatureSpec

_INDEX = "index"

FIRST_ROWS = 100_000
"""Of a unit: none of them good, and the run ends there: the rest would take an hour to be no better."""


@dataclasses.dataclass(eq=False, repr=False)
class ReadTable(beam.DoFn):
    """Reads and checks units of the tables and sends the rows to their shards.

    Elements are (table, unit). Impressions, users and behaviours go to their user's shard, clicks to their request's
    bucket, items to one place. Impressions also send an index (request, user, times) to the request's bucket, where the
    clicks find their user.

    Attributes:
      plans: of the tables.
      num_shards: of the outputs.
      end_of_log: where it is declared.
      patient: whether a unit may begin with nothing but bad rows.
      scratch_dir: where rows wait for their shard.
      limits: by table, after how many rows a unit is left; empty: units are read whole.
      day: of a span: what is bad in the files of days before it, an earlier span has said.
    """

    plans: dict[str, TablePlan]
    num_shards: int
    end_of_log: int | None
    patient: bool
    scratch_dir: str
    limits: dict[str, int] = dataclasses.field(default_factory=dict)
    day: str | None = None

    def process(self, element: tuple[str, ReadUnit]) -> Iterator[Any]:
        table, unit = element
        checker = RowChecker(self.plans[table])
        reasons: Counter = Counter()
        rows_in = 0
        with Spill(self.scratch_dir) as spill:
            for raw in read_batches(unit, self.plans[table].config, self.plans[table].sources):
                rows, dead, tally = checker.check(raw, unit)
                if self._is_earlier(table, unit):
                    dead, tally = None, _of_earlier_day(table, tally)
                yield TaggedOutput(TALLY, tally)
                rows_in += tally["table", table, "rows_in"]
                reasons.update({key[2]: count for key, count in tally.items() if key[:2] == ("reason", table)})
                if dead is not None:
                    yield TaggedOutput(DEAD, (unit.index % self.num_shards, dead))
                    if not self.patient and rows_in >= FIRST_ROWS and rows_in == reasons.total():
                        raise BadRowsError(_none_good(table, unit, reasons, dead))
                if rows.num_rows:
                    yield from self._send(table, rows, spill)
                if rows_in >= self.limits.get(table, rows_in + 1):
                    yield TaggedOutput(TALLY, Counter({("sampled_units",): 1}))
                    break
        yield from spill.places()
        tallied = {("file", table, unit.path, "rows"): rows_in}
        yield TaggedOutput(TALLY, Counter(tallied | {("file", table, unit.path, "bad"): reasons.total()}))

    def _is_earlier(self, table: str, unit: ReadUnit) -> bool:
        return table in ("impressions", "clicks") and self.day is not None and unit.file.day != self.day

    def _send(self, table: str, rows: pa.RecordBatch, spill: Spill) -> Iterator[Any]:
        column = columns_of(rows)
        if table == "items":
            yield TaggedOutput(ITEMS, (0, mark(rows, table)))
        elif table == "clicks":
            for part in partition(rows, shard_of(column["request_id"], self.num_shards), table):
                yield TaggedOutput(BY_REQUEST, part)
        else:
            users = hash64(column["user_id"].dictionary_encode())
            for shard, part in partition(rows, (users % np.uint64(self.num_shards)).astype(np.uint16), table):
                spill.add(shard, part)
            if table == "impressions":
                times = column["timestamp"].to_numpy()
                yield TaggedOutput(IMPRESSION_TIMES, LogTimes.of(times))
                index = _request_index(column["request_id"], users, times, self.end_of_log)
                buckets = shard_of(index.column(0), self.num_shards)
                for part in partition(index, buckets, _INDEX):
                    yield TaggedOutput(BY_REQUEST, part)


def _of_earlier_day(table: str, tally: Counter) -> Counter:
    """Returns the counts of a batch that an earlier span accounted for: of what is bad or ignored, how much."""
    gone = sum(n for key, n in tally.items() if key[:2] == ("reason", table)) + tally["table", table, "ignored"]
    rows = tally["table", table, "rows_in"]
    found = {("table", table, "rows_in"): rows, ("table", table, "reread"): rows, ("table", table, "earlier"): gone}
    return Counter(found)


def _none_good(table: str, unit: ReadUnit, reasons: Counter, letters: pa.RecordBatch) -> str:
    first = letters.slice(0, 1).to_pylist()[0]
    counts = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
    where = "" if first["line"] is None else f" {first['line']}"
    return (
        f"`{table}`: none of the first {reasons.total():,} rows of {unit.path} is good; the rest was not read. "
        f"{counts}. Row{where} ({first['reason']}): {first['detail']} {first['row']} If such a file may be, set "
        "`limits.bad_files: true`."
    )


def _request_index(request_ids: pa.Array, users: np.ndarray, times: np.ndarray, end: int | None) -> pa.RecordBatch:
    """Returns the (request, user hash) of a batch with their earliest and latest time, one row or more of each.

    The end of the log, which is not known yet if it is not declared, lies between rows that are more than a day apart:
    no row of the index has rows before and after it.
    """
    encoded = request_ids.dictionary_encode()
    codes = encoded.indices.to_numpy()
    new = (codes[1:] != codes[:-1]) | (users[1:] != users[:-1]) | (np.abs(np.diff(times)) > DAY_MS)
    if end is not None:
        new |= (times[1:] > end) != (times[:-1] > end)
    starts = np.flatnonzero(np.r_[True, new])
    arrays = [
        encoded.dictionary.take(pa.array(codes[starts])),
        pa.array(users[starts]),
        pa.array(np.minimum.reduceat(times, starts)),
        pa.array(np.maximum.reduceat(times, starts)),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=["request_id", "user", "first", "last"])


@dataclasses.dataclass(frozen=True)
class _Index:
    """The requests of a bucket.

    Attributes:
      request_ids: [R], distinct.
      codes, users: [I] the request and the user of each row of the index.
      user: [R] uint64: the user of each request.
      first: [R] int64: the earliest time of each.
      two_users, apart: [R] bool: conflicts.
    """

    request_ids: pa.Array
    codes: np.ndarray
    users: np.ndarray
    user: np.ndarray
    first: np.ndarray
    two_users: np.ndarray
    apart: np.ndarray

    @classmethod
    def build(cls, batches: list[pa.RecordBatch], end: int | None) -> _Index:
        """Gathers what came before the end of the log."""
        ids = pa.concat_arrays([part.column(0) for part in batches]) if batches else pa.array([], pa.string())
        kinds = (np.uint64, np.int64, np.int64)
        users, first, last = (
            np.concatenate([np.zeros(0, kind), *(part.column(i).to_numpy() for part in batches)])
            for i, kind in enumerate(kinds, 1)
        )
        if end is not None and len(first) and first.max() > end:
            before = first <= end
            ids, users, first, last = ids.filter(pa.array(before)), users[before], first[before], last[before]
        encoded = ids.dictionary_encode()
        codes = encoded.indices.to_numpy().astype(np.int64)
        size = len(encoded.dictionary)
        user = np.zeros(size, np.uint64)
        user[codes[::-1]] = users[::-1]
        two_users = np.zeros(size, bool)
        two_users[codes[users != user[codes]]] = True
        earliest, latest = segment_min(codes, first, size), -segment_min(codes, -last, size)
        return cls(encoded.dictionary, codes, users, user, earliest, two_users, latest - earliest > MAX_REQUEST_MS)


@dataclasses.dataclass(eq=False, repr=False)
class RouteClicks(beam.DoFn):
    """Meets the index and the clicks of a bucket of requests: clicks go on to their user's shard.

    Requests of two users are told to all their shards; clicks of no request are dead letters; the times of the
    requests go to the histogram that decides the split.
    """

    num_shards: int
    units: dict[str, list[ReadUnit]]
    window_ms: int
    day: str | None = None

    def process(self, element: Group, end: int | None) -> Iterator[Any]:
        bucket, batches = element
        found = by_kind(batches)
        index = _Index.build(found.get(_INDEX, []), end)
        conflicted = index.two_users | index.apart
        yield TaggedOutput(REQUEST_TIMES, TimeHistogram.of(index.first[~conflicted]))

        # The shards of the users know themselves what lies days apart.
        told = np.flatnonzero(index.two_users[index.codes])
        if len(told):
            ids = index.request_ids.take(pa.array(index.codes[told]))
            rows = pa.RecordBatch.from_arrays([ids], names=["request_id"])
            yield from partition(rows, (index.users[told] % np.uint64(self.num_shards)).astype(np.uint16), "conflicts")

        clicks = concatenate(found.get("clicks", []))
        if clicks is None:
            return
        column = columns_of(clicks)
        request = pc.fill_null(pc.index_in(column["request_id"], index.request_ids), -1).to_numpy()
        future = np.zeros(len(request), bool)
        if end is not None:
            future = column["timestamp"].to_numpy() > end + self.window_ms
        orphan = ~future & (request < 0)
        known = ~future & ~orphan
        two, apart = (known & np.append(mask, False)[request] for mask in (index.two_users, index.apart))
        refused = Refused(self.units, self.day)
        refused.add_future("clicks", clicks, future, None if end is None else end + self.window_ms)
        refused.add("clicks", clicks, Reason.UNKNOWN_REQUEST, orphan)
        refused.add_conflicts("clicks", clicks, two, apart)
        yield from (TaggedOutput(DEAD, (bucket, letters)) for letters in refused.letters)
        yield TaggedOutput(TALLY, refused.tally)
        known &= ~two & ~apart
        if known.any():
            shards = (index.user[request[known]] % np.uint64(self.num_shards)).astype(np.uint16)
            yield from partition(clicks.filter(pa.array(known)), shards, "clicks")


@dataclasses.dataclass(eq=False, repr=False)
class BuildShard(beam.DoFn):
    """Builds and writes the requests and the behaviour log of a shard; memory holds one shard at a time.

    Attributes:
      spec: the features that models learn from.
      whole: these, and those that are kept for models that they are compared with.
      span: whose examples are built: these hold the kept features too, and go to a window of several; None: of no span.
    """

    config: IngestConfig
    spec: FeatureSpec
    whole: FeatureSpec
    num_shards: int
    units: dict[str, list[ReadUnit]]
    examples_dir: str
    behaviors_dir: str
    empty: pa.RecordBatch
    has_action: bool
    span: SpanPlan | None = None

    def process(self, element: Group, plan: dict[str, int | None], item_paths: Iterable[str]) -> Iterator[Any]:
        shard, batches = element
        found = by_kind(unspill(batches))
        of_items, of_users = (snapshots_of(self.span, name, self.units.get(name, ())) for name in ("items", "users"))
        items = load_items(item_paths, of_items)
        refused = Refused(self.units, None if self.span is None else self.span.day)
        tally = refused.tally
        users = self._write_users(shard, concatenate(found.pop("users", [])), of_users, tally)
        conflicts = [batch.column(0) for batch in found.pop("conflicts", [])]
        impressions = concatenate(found.pop("impressions", []))
        requests = ShardJoin(self.config, self.config.label_configs(self.spec), plan, refused).build(
            self.empty if impressions is None else impressions,
            concatenate(found.pop("clicks", [])),
            pa.concat_arrays(conflicts) if conflicts else pa.array([], pa.string()),
        )
        yield from (TaggedOutput(DEAD, (shard, letters)) for letters in refused.letters)
        del impressions

        given = concatenate(found.pop("behaviors", []))
        if given is not None:
            tally["table", "behaviors", "kept"] += given.num_rows
        behaviors = self._write_behaviors(shard, requests, given, items, tally)
        self._write_requests(shard, requests, behaviors, items, users, tally)
        yield TaggedOutput(TALLY, tally)

    def _write_users(self, shard: int, given: pa.RecordBatch | None, snapshots: Snapshots, tally: Counter) -> SideTable:
        """Writes the users of the newest snapshot, and returns those of all."""
        if given is None:
            return SideTable("user_id")
        found = [deduplicate(each, "user_id") for each in snapshots.parts(given)]
        users = [each for each, _ in found]
        tally["table", "users", "duplicates"] += sum(dropped for _, dropped in found)
        tally["table", "users", "kept"] += sum(each.num_rows for each in users)
        folder = storage.join(self.examples_dir, USERS_DIR)
        write_shard(user_table(self.whole, users[-1]), folder, "users", shard, self.num_shards)
        return SideTable("user_id", *users, since=snapshots.since)

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
        table = behavior_table(self.whole, log, item_ids, actions, items)
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
        examples = RequestTable(self.whole, requests, items, users, behaviors)
        learnt = {feature.name for feature in self.spec.features}
        kept = [feature.name for feature in self.whole.features if feature.name not in learnt]
        apart = kept if self.span is None else []
        if self.config.tables.items is not None:
            tally["unknown_items",] += examples.unknown_items
        if self.config.tables.users is not None:
            tally["unknown_users",] += examples.unknown_users
        candidates = np.repeat(requests.splits, np.diff(requests.offsets))
        for name in self.config.split.names:
            code = SPLITS.index(name)
            table = examples.split(code)
            folder = storage.join(self.examples_dir, f"Split-{name}")
            write_shard(table.drop(apart), folder, "requests", shard, self.num_shards)
            if apart and name != "train":  # Nothing is judged on what it was trained on.
                folder = storage.join(self.examples_dir, KEPT_DIR, f"Split-{name}")
                write_shard(table.select(apart), folder, "requests", shard, self.num_shards)
            tally["requests", name] += table.num_rows
            tally["impressions", name] += int((candidates == code).sum())
            for label, values in requests.labels.items():
                tally["positives", label, name] += int((values[candidates == code] > 0).sum())
        tally.update({("missing", name): nulls for name, nulls in examples.missing.items() if name in learnt})


@dataclasses.dataclass(eq=False, repr=False)
class WriteDeadLetters(beam.DoFn):
    """Writes the dead letters of a shard."""

    directory: str
    num_shards: int

    def process(self, element: Group) -> Iterator[int]:
        shard, batches = element
        table = pa.Table.from_batches([batch.replace_schema_metadata(None) for batch in batches])
        table = table.sort_by([(name, "ascending") for name in ("table", "source", "line", "reason", "row")])
        write_shard(table, self.directory, "dead_letters", shard, self.num_shards)
        yield table.num_rows
