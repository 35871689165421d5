"""Rows on their way between workers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features.ingest.joining.shuffle import RecordBatchCoder, concatenate, kind_of, partition


def test_partition_and_coder_lose_nothing():
    batch = pa.RecordBatch.from_arrays(
        [pa.array([[i, None] if i % 3 else None for i in range(100)]), pa.array(range(100))], names=["x", "_order"]
    )
    coder = RecordBatchCoder()
    parts = list(partition(batch, np.arange(100, dtype=np.uint16) % 7, "kind"))
    assert [shard for shard, _ in parts] == list(range(7))
    decoded = [coder.decode(coder.encode(part)) for _, part in parts]
    assert {kind_of(part) for part in decoded} == {"kind"}
    assert concatenate(decoded[::-1]).to_pylist() == batch.to_pylist()
