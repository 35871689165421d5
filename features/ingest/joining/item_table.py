"""The items: gathered once, read by every shard. Their text may be larger than the 2 GiB of 32-bit offsets."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput

from features import storage
from features.arrow import columns_of, is_list, splits_of, to_numpy, write_parquet
from features.ingest.checking.columns import ARROW_TYPES, arrow_type, target_of
from features.ingest.joining.shuffle import TALLY, Group, concatenate
from features.ingest.spans.snapshots import ALWAYS, Snapshots
from features.items.catalogue import CATALOGUE_FILE
from features.spec import Feature, FeatureSpec

ROW_GROUP_ITEMS = 1 << 14


class SideTable:
    """A table of items or users by its key, or snapshots of it, each of which holds from an instant on.

    Args:
      key: the column of the key.
      snapshots: the rows of each, a key once; text and lists of either width. None: there is no table.
      since: from when on each holds, UTC milliseconds, rising. Of one table that always holds: none.
    """

    def __init__(self, key: str, *snapshots: pa.RecordBatch | None, since: Sequence[int] = ()):
        found = [snapshot for snapshot in snapshots if snapshot is not None]
        self._since = np.asarray(since, np.int64)
        self._keys = [columns_of(snapshot)[key] for snapshot in found]
        self._starts = splits_of([len(keys) for keys in self._keys])
        self._columns = {}
        if found:
            joined = zip(found[0].schema.names, zip(*(each.columns for each in found), strict=True), strict=True)
            self._columns = {name: same[0] if len(same) == 1 else pa.concat_arrays(same) for name, same in joined}

    def find(self, keys: pa.Array, times: np.ndarray | None = None) -> pa.Array:
        """Returns the row of each key: [N] int32, null where the table has none.

        Args:
          keys: [N].
          times: [N] int64, UTC milliseconds, of which snapshots are asked: the last one that held by then.
        """
        if not self._keys:
            return pa.nulls(len(keys), pa.int32())
        encoded = keys.dictionary_encode()

        def of(snapshot: int) -> pa.Array:
            wanted = encoded.dictionary.cast(self._keys[snapshot].type)
            return pc.index_in(wanted, self._keys[snapshot]).take(encoded.indices)

        if not len(self._since) or times is None:
            return of(len(self._keys) - 1)
        held = np.searchsorted(self._since, times, side="right") - 1
        rows = np.full(len(keys), -1, np.int64)
        for snapshot in np.unique(held[held >= 0]):
            found = to_numpy(pc.fill_null(of(int(snapshot)), -1))
            here = (held == snapshot) & (found >= 0)
            rows[here] = found[here] + self._starts[snapshot]
        return pa.array(rows.astype(np.int32), mask=rows < 0)

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
    snapshots: Snapshots = ALWAYS

    def process(self, element: Group) -> Iterator[Any]:
        rows = concatenate(map(widen, element[1]))
        assert rows is not None  # A group has batches.
        found = [deduplicate(each, "item_id") for each in self.snapshots.parts(rows)]
        parts = [each for each, _ in found]
        with storage.writing(self.path) as stream, pa.ipc.new_file(stream, rows.schema) as writer:
            for part in parts:
                writer.write_batch(part)
        catalogue = catalogue_table(self.spec, parts[-1])
        write_parquet(catalogue, storage.join(self.examples_dir, CATALOGUE_FILE), ROW_GROUP_ITEMS)
        kept = sum(part.num_rows for part in parts)
        tally = {("table", "items", "duplicates"): sum(n for _, n in found), ("table", "items", "kept"): kept}
        yield TaggedOutput(TALLY, Counter(tally))
        yield self.path


_ITEMS: dict[str, SideTable] = {}


def load_items(paths: Iterable[str], snapshots: Snapshots = ALWAYS) -> SideTable:
    """Returns the items, opened once per process: mapped into memory where they lie on its machine."""
    for path in paths:
        if path not in _ITEMS:
            _ITEMS.clear()
            file = pa.ipc.open_file(storage.open_arrow(path))
            found = map(file.get_batch, range(file.num_record_batches))
            _ITEMS[path] = SideTable("item_id", *found, since=snapshots.since)
        return _ITEMS[path]
    return SideTable("item_id", None)
