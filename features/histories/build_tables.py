"""Bucket tables of all users, from the raw behaviour log: Beam over its shards, NumPy within.

Each item is embedded and signed once, whoever met it how often. A user's table then is one gather and one product
(`features.histories.bucket_table.bucket_sums`); memory holds the items and a block of users, whatever their number.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics
from threadpoolctl import threadpool_limits

from features.arrow import list_splits, lists_of, open_parquet, splits_of, to_numpy
from features.beam_runner import pipeline_like, run_and_count
from features.errors import InputError
from features.histories.bucket_table import bucket_sums, check_signatures
from features.histories.time_gaps import gap_buckets
from features.histories.windows import ITEM, TIMESTAMP, USER, window_bounds
from features.items.config import SimHashConfig
from features.spec import HistorySpec

COUNTERS = ("users", "users_without", "behaviors", "unknown_behaviors", "items")

_ENCODE_ROWS = 1 << 15
_READ_BEHAVIORS = 1 << 20
_READ_USERS = (64, 1024)
_WRITE_USERS = 256


class BehaviorEncoder(Protocol):
    """What embeds and signs behaviours; it must pickle.

    Attributes:
      history: the history features that it reads, and the lengths of the windows.
      simhash: the hash of its signatures.
      dim: width of its embeddings.
      gap_weights: [NUM_GAP_BUCKETS] float32, what a behaviour of an age counts (`features.histories.time_gaps`); None:
        all count alike.
    """

    history: HistorySpec
    simhash: SimHashConfig
    dim: int

    @property
    def gap_weights(self) -> np.ndarray | None: ...

    def encode(self, behaviors: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Encodes T behaviours: raw history features to [T, d] float32, signatures [T, G] and [T] bool: has one."""


class TableSink(Protocol):
    """What takes tables; it must pickle."""

    def write_block(self, block: TableBlock) -> None:
        """Takes the tables and histories of some users."""

    def close(self) -> None:
        """Ends a bundle."""


class TableBlock(NamedTuple):
    """Tables of some users.

    Attributes:
      user_ids: [U] those who have a long history.
      sums: [U, G, 2 ** tau, d] float64, exact.
      counts: [U, G, 2 ** tau].
      users_without: how many had no long history.
      behaviors, unknown_behaviors: how many behaviours were added, and how many were not known.
      histories: of all these users `user_id`, and `timestamp`, `item_id` and the other history features as lists: their
        behaviours before `as_of`; None without an `as_of`.
    """

    user_ids: pa.Array
    sums: np.ndarray
    counts: np.ndarray
    users_without: int
    behaviors: int
    unknown_behaviors: int
    histories: pa.Table | None = None


@dataclasses.dataclass(eq=False, repr=False)
class BuildTables(beam.PTransform):
    """Builds the tables of the users of log files and gives them to a sink; applied to a PCollection of the files.

    It gives the files again, each once its tables are written, and counts in metrics of the names `COUNTERS`. The sink
    must be reachable from every worker: for a store on local disk, workers of one machine.

    Attributes:
      encoder: of the ranker. An embedding that is not finite raises `ValueError` while the pipeline runs.
      sink: gets blocks of users.
      as_of: UTC milliseconds: the tables are those of requests at this time, see `shard_tables`.
    """

    encoder: BehaviorEncoder
    sink: TableSink
    as_of: int | None = None

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        return files | "BuildShard" >> beam.ParDo(_BuildTables(self.encoder, self.sink, self.as_of))


def build_tables(
    files: list[str],
    encoder: BehaviorEncoder,
    sink: TableSink,
    like: beam.Pipeline | None = None,
    as_of: int | None = None,
) -> dict[str, int]:
    """Runs `BuildTables` over the raw behaviour log.

    Args:
      files: the raw behaviour log, `behaviors-*.parquet` (docs/reference/data_formats.md).
      encoder: of the ranker.
      sink: gets blocks of users.
      like: a pipeline whose runner and options are taken; the in-process runner by default.
      as_of: as of `BuildTables`.

    Returns:
      `{"users": …, "users_without": …, "behaviors": …, "unknown_behaviors": …, "items": …}`: users with a table and
      without a long history, behaviours in tables, behaviours of the window without a signature, items encoded
      (by each worker).

    Raises:
      ValueError: while running, if the log lacks a feature, or an embedding is not finite.
    """
    pipeline = pipeline_like(like)
    _ = pipeline | "Shards" >> beam.Create(files, reshuffle=False) | BuildTables(encoder, sink, as_of)
    counted = run_and_count(pipeline, _BuildTables)
    return {name: counted[name] for name in COUNTERS}


class _BuildTables(beam.DoFn):
    def __init__(self, encoder: BehaviorEncoder, sink: TableSink, as_of: int | None):
        self._encoder = encoder
        self._sink = sink
        self._as_of = as_of
        self._counters = {name: Metrics.counter(type(self).__name__, name) for name in COUNTERS}

    def setup(self) -> None:
        self._items = ItemEncodings(self._encoder)

    def process(self, path: str) -> Iterator[str]:
        # Threads of ours each multiply for another user; BLAS splitting such small products only wastes the processor.
        with threadpool_limits(1, user_api="blas"):
            self._build(path)
        yield path

    def _build(self, path: str) -> None:
        items = len(self._items)
        for block in shard_tables(path, self._items, self._encoder.history, self._as_of):
            self._sink.write_block(block)
            self._counters["users"].inc(len(block.user_ids))
            for name in ("users_without", "behaviors", "unknown_behaviors"):
                self._counters[name].inc(getattr(block, name))
        self._counters["items"].inc(len(self._items) - items)

    def finish_bundle(self) -> None:
        self._sink.close()


class ItemEncodings:
    """Embeddings and signatures of the items met so far, each encoded once.

    Row 0 stands for behaviours that are not known: zeros that count nothing.
    """

    def __init__(self, encoder: BehaviorEncoder):
        self._encoder = encoder
        self._ids: pa.Array | None = None
        self._size = 1
        # The last column counts the behaviours in the same product that adds up their embeddings.
        self._values = np.zeros((1024, encoder.dim + 1), np.float32)
        self._signatures = np.zeros((1024, encoder.simhash.num_groups), np.uint8)

    def __len__(self) -> int:
        return self._size - 1

    def rows(self, item_ids: pa.Array, features_at: Callable[[np.ndarray], pa.Table]) -> np.ndarray:
        """Finds behaviours' items, and encodes those that are new.

        Args:
          item_ids: [T] raw ids; nulls are not known.
          features_at: returns the history features of behaviours of given indices.

        Returns:
          [T] int32, rows for `tables`.
        """
        encoded = item_ids.dictionary_encode()
        codes = encoded.indices.fill_null(-1).to_numpy()
        terms = encoded.dictionary
        if self._ids is None:
            self._ids = terms.slice(0, 0)
        rows = pc.index_in(terms, self._ids).fill_null(-1).to_numpy().astype(np.int32)
        new = np.flatnonzero(rows < 0)
        if len(new):
            present = np.flatnonzero(codes >= 0)[::-1]
            first = np.empty(len(terms), np.int64)
            first[codes[present]] = present  # the last assignment stays: the first behaviour of each item
            self._add(terms.take(pa.array(new)), features_at(first[new]))
            rows[new] = np.arange(self._size - 1 - len(new), self._size - 1)
        # Rows begin at 1; index -1 finds the 0 at the end.
        return np.append(rows + np.int32(1), np.int32(0))[codes]

    def tables(self, rows: np.ndarray, splits: np.ndarray, gaps: np.ndarray | None = None) -> np.ndarray:
        """Adds up behaviours: [T] rows, user u's from splits[u] to splits[u + 1], to exact
        [U, G, 2 ** tau, d + 1] float64.

        `gaps` [T] are buckets of the behaviours' age, for the encoder's weights; None: not known, of weight 1.
        """
        config, dim = self._encoder.simhash, self._encoder.dim
        weights = self._encoder.gap_weights
        counts = None if weights is None or gaps is None else weights[gaps, np.newaxis]
        shape = (len(splits) - 1, config.num_groups, config.num_buckets, self._encoder.dim + 1)
        sums = np.empty(shape, np.float64)

        def add_up(users: range) -> None:
            for user in users:
                mine = rows[splits[user] : splits[user + 1]]
                values, signatures = self._values.take(mine, axis=0), self._signatures.take(mine, axis=0)
                if counts is not None:
                    values[:, :dim] *= counts[splits[user] : splits[user + 1]]
                sums[user] = bucket_sums(values, signatures, config.num_buckets)

        threads = os.cpu_count() or 1
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(add_up, [range(thread, len(sums), threads) for thread in range(threads)]))
        return sums

    def _add(self, ids: pa.Array, features: pa.Table) -> None:
        count, dim = len(ids), self._encoder.dim
        self._grow(self._size + count)
        for start in range(0, count, _ENCODE_ROWS):
            part = features.slice(start, _ENCODE_ROWS)
            embeddings, signatures, known = self._encoder.encode(part)
            if embeddings.shape != (len(part), dim) or not np.isfinite(embeddings[known]).all():
                raise ValueError(
                    f"the ranker must embed behaviours as finite [{len(part)}, {dim}]. Received: "
                    f"{list(embeddings.shape)}, finite: {bool(np.isfinite(embeddings).all())}"
                )
            check_signatures(signatures[known], self._encoder.simhash.num_buckets)
            place = self._size + start + np.flatnonzero(known)
            self._values[place, :dim] = embeddings[known]
            self._values[place, dim] = 1
            self._signatures[place] = signatures[known]
        self._ids = pa.concat_arrays([self._ids, ids])
        self._size += count

    def _grow(self, size: int) -> None:
        if size > len(self._values):
            more = max(size, 2 * len(self._values)) - len(self._values)
            self._values = np.concatenate([self._values, np.zeros((more, self._values.shape[1]), np.float32)])
            self._signatures = np.concatenate([self._signatures, np.zeros((more, self._signatures.shape[1]), np.uint8)])


def shard_tables(
    path: str, items: ItemEncodings, history: HistorySpec, as_of: int | None = None
) -> Iterator[TableBlock]:
    """Builds the tables of a shard, some hundred users at a time.

    The window is that of a request at `as_of`: of the behaviours before it the last `short_length` are left to the
    short history, up to `long_length` before those make the table, each as old as it then is. Without `as_of` all
    behaviours are before the request, and how long is not known.

    Raises:
      InputError: if the log lacks a history feature or holds lists of other lengths than `item_id`'s.
    """
    names = list(dict.fromkeys([ITEM, *history.features, *([] if as_of is None else [TIMESTAMP])]))
    # Buffered, a row group is read page by page: neither all of it nor a mapped file counts as memory.
    with open_parquet(path, buffer_size=1 << 20) as file:
        for name in (USER, *names):
            if name not in file.schema_arrow.names:
                raise InputError(f"{path}: the behaviour log has no column `{name}`: ingest with this spec again.")
        for batch in file.iter_batches(_batch_users(file.metadata), columns=[USER, *names]):
            yield from _batch_tables(path, batch, names, items, history, as_of)


def _batch_tables(
    path: str,
    batch: pa.RecordBatch,
    names: list[str],
    items: ItemEncodings,
    history: HistorySpec,
    as_of: int | None,
) -> Iterator[TableBlock]:
    lists = {name: batch[name] for name in names}
    offsets = {name: list_splits(column) for name, column in lists.items()}
    for name in names:
        if not np.array_equal(offsets[name], offsets[ITEM]):
            raise InputError(f"{path}: the lists of `{name}` and those of `{ITEM}` differ in length.")
    values = {name: column.flatten() for name, column in lists.items()}
    starts, stops = offsets[ITEM][:-1], offsets[ITEM][1:]
    if as_of is not None:
        times = to_numpy(values[TIMESTAMP])
        before = splits_of(times < as_of)  # running counts: a user's behaviours are sorted by time
        stops = starts + before[stops] - before[starts]
    first, end = window_bounds(stops, starts, history)["long"]
    lengths = end - first
    splits = splits_of(lengths)
    positions = np.arange(splits[-1]) + np.repeat(first - splits[:-1], lengths)

    def features_at(indices: np.ndarray) -> pa.Table:
        taken = pa.array(positions[indices])
        return pa.table({name: values[name].take(taken) for name in history.features})

    rows = items.rows(values[ITEM].take(pa.array(positions)), features_at)
    gaps = None if as_of is None else gap_buckets(as_of, times[positions])
    user_ids = batch[USER]
    for start in range(0, len(user_ids), _WRITE_USERS):
        part = splits[start : start + _WRITE_USERS + 1]
        wide = items.tables(rows, part, gaps)
        counts = wide[..., -1].astype(np.int32)
        added = counts[:, 0].sum(axis=1)
        kept = np.flatnonzero(added)
        ids = user_ids.slice(start, _WRITE_USERS).take(pa.array(kept))
        total = int(added.sum())
        unknown = int(part[-1] - part[0]) - total
        whose = None
        if as_of is not None:
            users = slice(start, start + _WRITE_USERS)
            whose = _histories(user_ids[users], values, starts[users], stops[users])
        yield TableBlock(ids, wide[kept, ..., :-1], counts[kept], len(added) - len(kept), total, unknown, whose)


def _histories(user_ids: pa.Array, values: dict[str, pa.Array], starts: np.ndarray, stops: np.ndarray) -> pa.Table:
    """What users did: their part of the flat columns, from `starts` to `stops`, as lists."""
    lengths = stops - starts
    splits = splits_of(lengths)
    rows = pa.array(np.arange(splits[-1]) + np.repeat(starts - splits[:-1], lengths))
    return pa.table({USER: user_ids} | {name: lists_of(column.take(rows), splits) for name, column in values.items()})


def _batch_users(metadata: pq.FileMetaData) -> int:
    """Users of a batch, so that it holds about a million behaviours."""
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    behaviors = sum(column.num_values for column in columns if column.path_in_schema.split(".")[0] == ITEM)
    mean = max(1, behaviors // max(1, metadata.num_rows))
    return int(np.clip(_READ_BEHAVIORS // mean, *_READ_USERS))
