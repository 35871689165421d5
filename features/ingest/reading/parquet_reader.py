"""Parquet as RecordBatches, with errors that name the file and the row group."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import storage
from features.ingest.reading.records import Rows
from features.ingest.reading.streams import what_begins_so
from features.log_contract import LogContractError

BATCH_ROWS = 1 << 17

_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"


def begins_as_parquet(start: bytes) -> bool:
    """Whether a file that begins so is Parquet, encrypted or not."""
    return start.startswith((_MAGIC, _ENCRYPTED))


@contextlib.contextmanager
def open_file(path: str) -> Iterator[pq.ParquetFile]:
    """Opens a Parquet file.

    Raises:
      LogContractError: if it is none, is encrypted, or its footer is damaged.
    """
    with storage.open_arrow(path, mapped=False) as stream:
        start = stream.read(16)
        if start.startswith(_ENCRYPTED):
            raise LogContractError(f"{path}: is an encrypted Parquet file: write it without encryption.")
        if not start.startswith(_MAGIC):
            what = f"begins with {start!r}: {what_begins_so(start)}" if start else "is empty"
            raise LogContractError(
                f"{path}: is no Parquet file, as its name or the table's `format` says, but {what}. Name it by what "
                "it is, or set the table's `format`."
            )
        stream.seek(0)
        try:
            file = pq.ParquetFile(stream, **_checksums())
        except (pa.ArrowException, OSError, ValueError) as error:
            raise LogContractError(
                f"{path}: is a Parquet file whose footer cannot be read: it is damaged, encrypted or was not written "
                f"to its end ({_first_line(error)}). Copy or write it anew."
            ) from error
        yield file


def _checksums() -> dict[str, bool]:
    """Arrow 10 does not verify the checksums of pages."""
    name = "page_checksum_verification"
    return {name: True} if name in inspect.signature(pq.ParquetFile.__init__).parameters else {}


def read_parquet(path: str, groups: Sequence[int], columns: Sequence[str]) -> Iterator[Rows]:
    """Reads row groups.

    Args:
      path: of the file.
      groups: which row groups, one after the other.
      columns: which of the file's columns; none: rows without a value are counted.

    Yields:
      Batches of at most `BATCH_ROWS` rows; the positions are the rows of the file, from 0.
    """
    with open_file(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        row = sum(sizes[: groups[0]]) if groups else 0
        if not columns:
            rows = sum(sizes[group] for group in groups)
            for begin in range(row, row + rows, BATCH_ROWS):
                taken = min(BATCH_ROWS, row + rows - begin)
                nothing = pa.RecordBatch.from_arrays([pa.nulls(taken)], names=[""])
                yield nothing, np.arange(begin, begin + taken, dtype=np.int64), []
            return
        try:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=list(groups), columns=list(columns)):
                yield batch, np.arange(row, row + batch.num_rows, dtype=np.int64), []
                row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            group, cause = _damaged(file, groups, columns) or (None, error)
            where = "" if group is None else f"row group {group} (rows from {sum(sizes[:group]) + 1}) of "
            raise LogContractError(
                f"{path}: {where}this Parquet file cannot be read: it is damaged or encrypted ({_first_line(cause)}). "
                "Copy or write it anew."
            ) from error


def _damaged(file: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str]) -> tuple[int, Exception] | None:
    """Returns the first row group that cannot be read, and why."""
    for group in groups:
        try:
            file.read_row_group(group, columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            return group, error
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
