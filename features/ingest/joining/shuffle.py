"""What LogIngest shuffles: (shard, RecordBatch), each batch marked with its kind and packed by Arrow IPC.

One group-by brings together all that a shard needs (impressions, clicks, users, behaviours): batches of several kinds
travel under the same key and are told apart by their schema's metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa

from features.encoding.hashing import hash64

_KIND = b"kind"

#: Tags of the outputs beside the rows.
BY_REQUEST, ITEMS, DEAD, TALLY, IMPRESSION_TIMES, REQUEST_TIMES = (
    "by_request",
    "items",
    "dead",
    "tally",
    "impression_times",
    "request_times",
)

Group = tuple[int, Iterable[pa.RecordBatch]]
"""A shard, and what was sent to it."""


class RecordBatchCoder(beam.coders.Coder):
    """Encodes RecordBatches as Arrow IPC streams, compressed by zstd: a local runner holds them in memory."""

    _OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")

    def encode(self, value: pa.RecordBatch) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema, options=self._OPTIONS) as writer:
            writer.write_batch(value)
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """Of the encoded batch, roughly: Beam asks at every step, and would encode the batch to know."""
        return value.nbytes

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type:
        return pa.RecordBatch


beam.coders.registry.register_coder(pa.RecordBatch, RecordBatchCoder)


def mark(batch: pa.RecordBatch, kind: str) -> pa.RecordBatch:
    """Returns the batch with its kind in the metadata."""
    return batch.replace_schema_metadata({_KIND: kind.encode()})


def kind_of(batch: pa.RecordBatch) -> str:
    return batch.schema.metadata[_KIND].decode()


def shard_of(keys: pa.Array, num_shards: int) -> np.ndarray:
    """Returns the shard of each key: [N] uint16, `hash64(key) % num_shards`."""
    return (hash64(keys) % np.uint64(num_shards)).astype(np.uint16)


def by_kind(batches: Iterable[pa.RecordBatch]) -> dict[str, list[pa.RecordBatch]]:
    """Returns the batches of a group by their kind."""
    found: dict[str, list[pa.RecordBatch]] = {}
    for batch in batches:
        found.setdefault(kind_of(batch), []).append(batch)
    return found


def partition(batch: pa.RecordBatch, shards: np.ndarray, kind: str) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Splits a batch by shard with one stable sort and one gather; yields only shards that have rows."""
    order = np.argsort(shards, kind="stable")
    sorted_shards = shards[order]
    table = mark(batch.take(pa.array(order)), kind)
    starts = np.flatnonzero(np.r_[True, sorted_shards[1:] != sorted_shards[:-1]]) if len(shards) else np.zeros(0, int)
    for start, stop in zip(starts, np.r_[starts[1:], len(shards)], strict=True):
        yield int(sorted_shards[start]), table.slice(start, stop - start)


def concatenate(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch | None:
    """Returns one batch of the rows of all, in the order of their last column, `_order`; None for no batches.

    Shuffles deliver batches in any order; by `_order` the result is the same in every run.
    """
    batches = sorted((batch for batch in batches if batch.num_rows), key=lambda batch: batch.columns[-1][0].as_py())
    if not batches:
        return None
    arrays = [pa.concat_arrays(columns) for columns in zip(*[batch.columns for batch in batches], strict=True)]
    whole = pa.RecordBatch.from_arrays(arrays, names=batches[0].schema.names)
    order = whole.columns[-1].to_numpy()
    return whole if np.all(order[1:] > order[:-1]) else whole.take(pa.array(np.argsort(order, kind="stable")))
