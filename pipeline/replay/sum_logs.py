"""Sums logs beyond one machine for a replay: Beam over Parquet shards, `ReplaySums` in between.

Rows are grouped by request first, for a list without one of its rows is another list, and summed group by group. The
sums merge to the same bits in whatever order a runner brings them, and are those of the log read in one piece.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa

from evaluation.replay.log_table import LogColumns, hash_keys, logged_from_table
from evaluation.replay.verdicts.replay_report import ReplayPlan, ReplaySums
from evaluation.replay.verdicts.sums_bytes import from_bytes, to_bytes
from features import storage
from features.arrow import open_parquet
from features.beam_runner import pipeline_like
from features.errors import NotFoundError

GROUP_ROWS = 1 << 19
"""About so many rows are summed at once."""

_BATCH_ROWS = 1 << 16
_PENDING = 8


class MergeSums(beam.CombineFn):
    """Merges sums, given as bytes, to one, as bytes; of none it gives None.

    The accumulator is a list of sums. Merged several at once, the users are sorted once for all of them.
    """

    def create_accumulator(self) -> list[ReplaySums]:
        return []

    def add_input(self, accumulator: list[ReplaySums], element: bytes) -> list[ReplaySums]:
        accumulator.append(from_bytes(element))
        return accumulator if len(accumulator) < _PENDING else self.compact(accumulator)

    def merge_accumulators(self, accumulators: Iterable[list[ReplaySums]]) -> list[ReplaySums]:
        return self.compact([part for accumulator in accumulators for part in accumulator])

    def compact(self, accumulator: list[ReplaySums]) -> list[ReplaySums]:
        return [accumulator[0].merge(*accumulator[1:])] if len(accumulator) > 1 else accumulator

    def extract_output(self, accumulator: list[ReplaySums]) -> bytes | None:
        merged = self.compact(accumulator)
        return to_bytes(merged[0]) if merged else None

    def get_accumulator_coder(self) -> beam.coders.Coder:
        return SumsCoder()


class SumsCoder(beam.coders.Coder):
    """The accumulator of `MergeSums` as bytes: one sum, or nothing."""

    def encode(self, value: list[ReplaySums]) -> bytes:
        return b"".join(to_bytes(part) for part in MergeSums().compact(value))

    def decode(self, encoded: bytes) -> list[ReplaySums]:
        return [from_bytes(encoded)] if encoded else []

    def is_deterministic(self) -> bool:
        return True


@dataclasses.dataclass(eq=False, repr=False)
class SumLogs(beam.PTransform):
    """Sums the rows of Parquet files; applied to a PCollection of their paths. It gives one `ReplaySums`, as bytes.

    Attributes:
      columns: which columns say what.
      plan: for which they are summed.
      groups: how many groups requests are hashed into; each is held in memory by one worker.
      exclude: whether requests with a faulty row are left out and counted, instead of an `InputError` while running.
    """

    columns: LogColumns
    plan: ReplayPlan
    groups: int = 16
    exclude: bool = False

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        return (
            files
            | "Read" >> beam.FlatMap(_rows_by_group, self.columns, self.groups)
            | "ByRequest" >> beam.GroupByKey()
            | "Sum" >> beam.Map(_sums_of_group, self.columns, self.plan, self.exclude)
            | "Merge" >> beam.CombineGlobally(MergeSums())
        )


def sum_logs(
    files: Sequence[storage.AnyPath],
    columns: LogColumns,
    plan: ReplayPlan,
    output: storage.AnyPath,
    like: beam.Pipeline | None = None,
    exclude: bool = False,
) -> ReplaySums:
    """Runs `SumLogs`, keeps the sums in a file and returns them; `report_of` makes a report of them.

    Args:
      files: Parquet, at least one; in any order, with the rows of a request in any of them.
      columns: which columns say what.
      plan: for which they are summed.
      output: where the sums are kept; every worker must reach it.
      like: a pipeline whose runner and options are taken; the in-process runner by default.
      exclude: as of `SumLogs`.

    Raises:
      NotFoundError: without a file.
      InputError: while running, for columns that are not there, and for faulty rows without `exclude`.
    """
    if not files:
        raise NotFoundError("a replay needs at least one Parquet file of logs. Received none.")
    groups = 1 + sum(map(_count_rows, files)) // GROUP_ROWS
    paths = [str(path) for path in files]
    with pipeline_like(like) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(paths, reshuffle=False)
            | SumLogs(columns, plan, groups, exclude)
            | "Keep" >> beam.Map(lambda content: storage.write_bytes(output, content))
        )
    return from_bytes(storage.read_bytes(output), str(output))


def _count_rows(path: storage.AnyPath) -> int:
    with open_parquet(path) as file:
        return int(file.metadata.num_rows)


def _rows_by_group(path: str, columns: LogColumns, groups: int) -> Iterator[tuple[int, bytes]]:
    """The columns that are read, a batch at a time, by the group that its request is hashed into."""
    with open_parquet(path) as file:
        wanted = [name for name in columns.names if name in file.schema_arrow.names]
        for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
            table = pa.Table.from_batches([batch])
            group = _group_of(table, columns, groups)
            for number in np.unique(group).tolist():
                yield number, _packed(table.filter(pa.array(group == number)))


def _group_of(table: pa.Table, columns: LogColumns, groups: int) -> np.ndarray:
    if columns.request not in table.column_names:  # the error is `logged_from_table`'s, which names what is there
        return np.zeros(table.num_rows, np.int64)
    # Keys that are integers go on as they are, with any pattern in them: stir before taking the remainder.
    stirred = hash_keys(table[columns.request]).view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((stirred >> np.uint64(33)) % np.uint64(groups)).astype(np.int64)


def _sums_of_group(group: tuple[int, Iterable[bytes]], columns: LogColumns, plan: ReplayPlan, exclude: bool) -> bytes:
    table = pa.concat_tables([pa.ipc.open_stream(part).read_all() for part in group[1]])
    return to_bytes(ReplaySums.of(logged_from_table(table, columns, exclude=exclude), plan))


def _packed(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
