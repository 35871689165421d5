"""The items: gathered once, read by every shard. Their text may be larger than the 2 GiB of 32-bit offsets."""

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
from features.arrow import columns_of, is_list, write_parquet
from features.ingest.checking.columns import ARROW_TYPES, arrow_type, target_of
from features.ingest.joining.shuffle import TALLY, Group, concatenate
from features.items.catalogue import CATALOGUE_FILE
from features.spec import Feature, FeatureSpec

ROW_GROUP_ITEMS = 1 << 14


class SideTable:
    """A table of items or users by its key; the first row of a key counts.

    Args:
      key: the column of the key.
      batch: the rows, each key once; text and lists of either width. None: there is no table.
    """

    def __init__(self, key: str, batch: pa.RecordBatch | None):
        self._keys = None if batch is None else columns_of(batch)[key]
        self._columns = {} if batch is None else columns_of(batch)

    def find(self, keys: pa.Array) -> pa.Array:
        """Returns the row of each key: [N] int32, null where the table has none."""
        if self._keys is None:
            return pa.nulls(len(keys), pa.int32())
        encoded = keys.dictionary_encode()
        return pc.index_in(encoded.dictionary.cast(self._keys.type), self._keys).take(encoded.indices)

    def column(self, feature: Feature, rows: pa.Array) -> pa.Array:
        """Returns a feature of the rows of `find`; null where there is no row."""
        kind = arrow_type(target_of(feature))
        values = self._columns.get(f"f:{feature.name}")
        if values is None:
            return pa.nulls(len(rows), kind)
        values = values.take(rows)
        return values if values.type == kind else values.cast(kind)


def deduplicate(batch: pa.RecordBatch, key: str) -> tuple[pa.RecordBatch, int]:
    """Keeps the first row of each key; returns the rows and how many were dropped."""
    codes = batch[key].dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    if len(first) == batch.num_rows:
        return batch, 0
    return batch.take(pa.array(np.sort(first))), batch.num_rows - len(first)


def widen(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the batch with 64-bit offsets in its text and lists: together, batches may hold more than 2 GiB."""
    arrays = [column if (kind := _wide(column.type)) == column.type else column.cast(kind) for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _wide(kind: pa.DataType) -> pa.DataType:
    if is_list(kind):
        return pa.large_list(_wide(kind.value_type))
    return pa.large_string() if pa.types.is_string(kind) else kind


def catalogue_table(spec: FeatureSpec, items: pa.RecordBatch) -> pa.Table:
    """Returns the catalogue of the items table: `item_id` and every feature of `items`, sorted by id.

    Its columns are in chunks of a row group, which 32-bit offsets can hold.

    Args:
      spec: the features.
      items: checked rows, each item once.
    """
    side = SideTable("item_id", items)
    ids = items["item_id"]
    order = pc.sort_indices(ids)
    narrow = pa.string() if pa.types.is_large_string(ids.type) else ids.type
    chunks = []
    for start in range(0, max(len(order), 1), ROW_GROUP_ITEMS):
        rows = order.slice(start, ROW_GROUP_ITEMS).cast(pa.int32())
        columns = {"item_id": ids.take(rows).cast(narrow)}
        for feature in spec.of_table("items"):
            if feature.column == "item_id":
                columns[feature.name] = columns["item_id"].cast(ARROW_TYPES[feature.dtype])
            else:
                columns[feature.name] = side.column(feature, rows)
        chunks.append(pa.table(columns))
    return pa.concat_tables(chunks)


@dataclasses.dataclass(eq=False, repr=False)
class WriteItems(beam.DoFn):
    """Gathers the items, drops repeated ones and writes them: once for all shards, and as the catalogue."""

    path: str
    spec: FeatureSpec
    examples_dir: str

    def process(self, element: Group) -> Iterator[Any]:
        rows, dropped = deduplicate(concatenate(map(widen, element[1])), "item_id")
        with storage.writing(self.path) as stream, pa.ipc.new_file(stream, rows.schema) as writer:
            writer.write_batch(rows)
        catalogue = catalogue_table(self.spec, rows)
        write_parquet(catalogue, storage.join(self.examples_dir, CATALOGUE_FILE), ROW_GROUP_ITEMS)
        tally = {("table", "items", "duplicates"): dropped, ("table", "items", "kept"): rows.num_rows}
        yield TaggedOutput(TALLY, Counter(tally))
        yield self.path


_ITEMS: dict[str, SideTable] = {}


def load_items(paths: Iterable[str]) -> SideTable:
    """Returns the items, opened once per process: mapped into memory where they lie on its machine."""
    for path in paths:
        if path not in _ITEMS:
            _ITEMS.clear()
            _ITEMS[path] = SideTable("item_id", pa.ipc.open_file(storage.open_arrow(path)).get_batch(0))
        return _ITEMS[path]
    return SideTable("item_id", None)
