"""Small helpers on Arrow arrays that every room uses: chunks, lists by offsets, nulls, Parquet through storage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features import storage
from features.errors import InputError


def one_chunk(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Returns a column as one array; without a copy where it is one already."""
    if not isinstance(values, pa.ChunkedArray):
        return values
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def columns_of(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Returns the columns of a batch by name."""
    return dict(zip(batch.schema.names, batch.columns, strict=True))


def is_list(kind: pa.DataType) -> bool:
    """Whether values of a type are lists, of whatever width of offsets."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def to_numpy(values: pa.Array) -> np.ndarray:
    """Returns an array in NumPy, without a copy where Arrow holds it in that form."""
    return values.to_numpy(zero_copy_only=False)


def list_lengths(lists: pa.Array) -> np.ndarray:
    """Returns the length of each list, [n] int64; 0 for a null."""
    lengths = np.diff(to_numpy(lists.offsets)).astype(np.int64)
    if lists.null_count:
        lengths[to_numpy(lists.is_null())] = 0
    return lengths


def list_splits(lists: pa.Array) -> np.ndarray:
    """Returns where each list begins and ends in `lists.flatten()`, [n + 1] int64; for lists without nulls.

    A list array may be a slice of longer buffers: `flatten` is rebased, its offsets are not.
    """
    offsets = to_numpy(lists.offsets).astype(np.int64)
    return offsets - offsets[0]


def lists_of(values: pa.Array | np.ndarray, splits: np.ndarray, missing: np.ndarray | None = None) -> pa.ListArray:
    """Returns lists of values that follow one another.

    Args:
      values: the values of all lists.
      splits: [n + 1] where each list begins and ends, from 0.
      missing: [n] bool, which lists are null. None is, by default.
    """
    mask = np.append(missing, False) if missing is not None and missing.any() else None
    values = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.ListArray.from_arrays(pa.array(splits.astype(np.int32), mask=mask), values)


def splits_of(lengths: np.ndarray | Sequence[int]) -> np.ndarray:
    """Returns where lists of given lengths begin and end, [n + 1] int64."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def null_where(values: pa.Array, mask: pa.Array | np.ndarray) -> pa.Array:
    """Returns values with nulls where `mask` [n] holds (or is null).

    Not by `if_else`: with a null scalar and a sliced array of strings, Arrow 18 returns other strings.
    """
    mask = mask if isinstance(mask, pa.Array) else pa.array(mask)
    return pc.replace_with_mask(values, mask, pa.scalar(None, values.type))


def compact(values: pa.Array) -> pa.Array:
    """Returns an array that begins at offset 0 of its buffers: consumers read lists by raw offsets."""
    return pa.concat_arrays([values]) if values.offset == 0 else values.take(pa.array(np.arange(len(values))))


def open_parquet(path: storage.AnyPath, **options: object) -> pq.ParquetFile:
    """Opens a Parquet file, not mapped into memory; use it as a context manager.

    Args:
      path: the file.
      **options: of `pyarrow.parquet.ParquetFile`.
    """
    return pq.ParquetFile(storage.open_arrow(path, mapped=False), **options)


def read_parquet(path: storage.AnyPath, columns: Sequence[str] | None = None) -> pa.Table:
    """Reads a Parquet file, or some columns of it. Raises `FileNotFoundError`, and `InputError` if it is no Parquet."""
    with storage.open_arrow(path) as file:
        try:
            return pq.read_table(file, columns=None if columns is None else list(columns))
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: not a Parquet file, or a damaged one: {error}") from error


def write_parquet(table: pa.Table, path: storage.AnyPath, row_group_size: int | None = None) -> None:
    """Writes a Parquet file, which appears whole or not at all."""
    with storage.aside(path) as local:
        pq.write_table(table, local, compression="zstd", row_group_size=row_group_size)
