"""Rows that wait for their shard lie in files beside the outputs; Beam's shuffle moves only where.

A local runner shuffles in memory and holds what it groups several times over: the memory of a run would grow with the
log. Files also spare every worker the packing and unpacking at each step.
"""

from __future__ import annotations

import contextlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import TracebackType

import pyarrow as pa
from typing_extensions import Self

from features import storage
from features.ingest.joining.shuffle import kind_of, mark

SPILLED_ROWS = "_rows-*.arrow"
"""Names of the files, in the folder of the examples; nobody needs them after the run."""

_SPILLED = "spilled"


class Spill:
    """The rows of one table that one worker reads, by shard; a context manager: the file appears when it ends.

    Args:
      folder: where the file goes.
    """

    def __init__(self, folder: str):
        self._path = storage.join(folder, SPILLED_ROWS.replace("*", uuid.uuid4().hex))
        self._stack = contextlib.ExitStack()
        self._writer: pa.RecordBatchFileWriter | None = None
        self._places: dict[int, list[int]] = defaultdict(list)
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, shard: int, rows: pa.RecordBatch) -> None:
        """Adds marked rows of a shard; all have one kind and one schema."""
        if self._writer is None:
            stream = self._stack.enter_context(storage.writing(self._path))
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            self._writer = self._stack.enter_context(pa.ipc.new_file(stream, rows.schema, options=options))
        self._writer.write_batch(rows)
        self._places[shard].append(self._written)
        self._written += 1

    def places(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yields what `unspill` finds the rows of each shard by; call it when the context has ended."""
        for shard, places in self._places.items():
            arrays = [pa.array([self._path]), pa.array([places], pa.list_(pa.int32()))]
            yield shard, mark(pa.RecordBatch.from_arrays(arrays, names=["path", "places"]), _SPILLED)


def unspill(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yields the batches of a group, with the rows that lie in files in the place of where they lie."""
    for batch in batches:
        if kind_of(batch) != _SPILLED:
            yield batch
            continue
        for row in batch.to_pylist():
            with pa.ipc.open_file(storage.open_arrow(row["path"], mapped=False)) as file:
                yield from map(file.get_batch, row["places"])  # Their schema keeps the mark.
