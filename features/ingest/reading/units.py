"""Reads the files of a table, in units that can be read alone: row groups of Parquet, parts of text files.

Values keep the type that they have in the file; `features.ingest.checking.columns` converts them. Text that cannot be
parsed is handed back record by record and never stops a read.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import columns_of
from features.ingest.config import TableConfig
from features.ingest.reading.csv_reader import CsvReader
from features.ingest.reading.files import LogFile, TableFiles
from features.ingest.reading.json_reader import JsonReader
from features.ingest.reading.parquet_reader import BATCH_ROWS, read_parquet
from features.ingest.reading.records import NEWLINE, Rejected, Rows
from features.ingest.reading.streams import CHUNK_BYTES, can_be_cut, read_text

#: Larger text files that are not packed are read in parts of about this size.
SPLIT_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class ReadUnit:
    """A piece of a table that is read alone.

    Attributes:
      file: that it is a piece of.
      index: orders the units of a table.
      rows: how many; of text estimated.
      groups: of Parquet, the row groups.
      start, stop: of text, from which byte to which; None: to the end.
    """

    file: LogFile
    index: int
    rows: int
    groups: tuple[int, ...] = ()
    start: int = 0
    stop: int | None = None

    @property
    def path(self) -> str:
        return self.file.path

    @property
    def format(self) -> str:
        return self.file.format


@dataclasses.dataclass
class RawBatch:
    """Rows as read, and records that could not be parsed.

    Attributes:
      batch: the rows, with the requested columns.
      positions: [N] int64, rising: the line of each row in its unit, or its row in the Parquet file, from 0.
      rejected: the others.
    """

    batch: pa.RecordBatch
    positions: np.ndarray
    rejected: list[Rejected]


def plan_reads(files: TableFiles, table: TableConfig) -> list[ReadUnit]:
    """Returns the units of a table, in the order of its files and their rows."""
    units: list[ReadUnit] = []
    for file in files.files:
        if file.format != "parquet":
            cuts = [0, *_cuts(file, table)]
            for start, stop in zip(cuts, [*cuts[1:], None], strict=True):
                units.append(ReadUnit(file, len(units), -(-file.rows // len(cuts)), (), start, stop))
            continue
        groups, rows = [], 0
        for group, size in enumerate(file.groups):
            groups.append(group)
            rows += size
            if rows >= 8 * BATCH_ROWS or group == len(file.groups) - 1:
                units.append(ReadUnit(file, len(units), rows, tuple(groups)))
                groups, rows = [], 0
    return units


def read_batches(unit: ReadUnit, table: TableConfig, columns: Mapping[str, str]) -> Iterator[RawBatch]:
    """Reads a unit.

    Args:
      unit: of `plan_reads`.
      table: that it is a piece of.
      columns: target by name in the file, as in `features.ingest.checking.columns`, or `timestamp`. Names that the file
        lacks come back as nulls.

    Yields:
      Batches of at most `BATCH_ROWS` rows (Parquet) or about `records.BLOCK_BYTES` (text), columns in the given order.

    Raises:
      LogContractError: if the file turns out to be damaged.
    """
    unit.file.refuse_repeated(columns)
    read = {"parquet": _read_parquet, "csv": _read_csv, "jsonl": _read_json}[unit.format]
    for batch, positions, rejected in read(unit, table, columns):
        yield RawBatch(_select(batch, unit.file, columns), positions, rejected)


def locate(unit: ReadUnit, positions: Sequence[int]) -> list[int | None]:
    """Returns the line (text) or row (Parquet) in the file of places in a unit, from 1."""
    before = _lines_before(unit.path, unit.start) if unit.start else 0
    return [before + int(position) + 1 for position in positions]


def _read_parquet(unit: ReadUnit, table: TableConfig, columns: Collection[str]) -> Iterator[Rows]:
    return read_parquet(unit.path, unit.groups, [name for name in columns if name in unit.file.header])


def _read_csv(unit: ReadUnit, table: TableConfig, columns: Collection[str]) -> Iterator[Rows]:
    file = unit.file
    if not file.header:
        return
    # Where no column is asked for, the rows must be counted all the same.
    places = [file.header.index(name) for name in columns if name in file.header] or [0]
    reader = CsvReader(file.header, file.delimiter, table.null_values, table.max_record_bytes, places)
    for batch, positions, rejected in reader.read(_text(unit, table), has_header=not unit.start):
        names = [file.header[place] for place in places]
        yield pa.RecordBatch.from_arrays(batch.columns, names=names), positions, rejected


def _read_json(unit: ReadUnit, table: TableConfig, columns: Mapping[str, str]) -> Iterator[Rows]:
    return JsonReader(columns, table.max_record_bytes).read(_text(unit, table))


def _text(unit: ReadUnit, table: TableConfig) -> Iterator[bytes]:
    return read_text(unit.path, unit.file.packing, table.encoding, unit.start, unit.stop)


def _select(batch: pa.RecordBatch, file: LogFile, columns: Collection[str]) -> pa.RecordBatch:
    """Returns the columns asked for; what the file lacks is what the names of its folders say, or null."""
    present, partitions = columns_of(batch), dict(file.partitions)
    arrays = []
    for name in columns:
        array = present.get(name)
        if name in partitions and (array is None or pa.types.is_null(array.type)) and not _holds(file, name):
            array = pa.array([partitions[name]], pa.string()).take(pa.array(np.zeros(batch.num_rows, np.int64)))
        arrays.append(pa.nulls(batch.num_rows) if array is None else array)
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _holds(file: LogFile, name: str) -> bool:
    """Whether the file itself has a column."""
    return name in file.header if file.format != "jsonl" else not pa.types.is_string(file.columns[name])


def _cuts(file: LogFile, table: TableConfig) -> list[int]:
    """Returns the bytes at which later units of a text file begin: after line ends that end a record for certain.

    In CSV no quote may stand near them, so that no quoted value can span them.
    """
    size = storage.size(file.path)
    if file.packing is not None or size <= SPLIT_BYTES or not can_be_cut(table.encoding):
        return []
    margin = table.max_record_bytes if file.format == "csv" else 0
    cuts: list[int] = []
    parts = -(-size // SPLIT_BYTES)
    for part in range(1, parts):
        target = max(size * part // parts, cuts[-1] + 1 if cuts else 0)
        cut = _cut_after(file.path, target, margin)
        if cut is None or cut >= size:
            break
        if not cuts or cut > cuts[-1]:
            cuts.append(cut)
    return cuts


def _cut_after(path: str, target: int, margin: int) -> int | None:
    """Returns the first byte after a line end at or after `target` that has no quote within `margin` on both sides."""
    begin = max(target - margin, 0)
    text, earliest = b"", target
    with storage.open_read(path) as file:
        file.seek(begin)
        while chunk := file.read(CHUNK_BYTES + 2 * margin):
            text += chunk
            at_end = len(chunk) < CHUNK_BYTES + 2 * margin
            while (newline := text.find(b"\n", earliest - begin)) >= 0:
                cut = begin + newline + 1
                quote = text.rfind(b'"', max(newline + 1 - margin, 0), newline + 1 + margin) if margin else -1
                if quote >= 0:
                    earliest = begin + quote + margin
                    continue
                if len(text) - newline - 1 < margin and not at_end:
                    break
                return cut
            else:
                earliest = max(earliest, begin + len(text))
            kept = max(min(earliest - begin, len(text)) - margin - 1, 0)
            begin, text = begin + kept, text[kept:]
    return None


@functools.lru_cache(maxsize=256)
def _lines_before(path: str, start: int) -> int:
    """Returns how many lines of a file end before a byte. Only dead letters ask."""
    return sum(chunk.count(NEWLINE) for chunk in read_text(path, None, start=0, stop=start))
