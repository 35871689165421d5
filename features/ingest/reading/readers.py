"""Readers of log tables: Parquet, CSV and JSON Lines, wherever they lie (`features.storage`), as RecordBatches.

A file is planned into units that can be read alone (row groups of Parquet, whole text files). Values keep the type
they have in the file; `features.ingest.checking.columns` converts them. Text that cannot be parsed is handed back line
by line and never stops a read.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import storage
from features.arrow import columns_of
from features.log_contract import LogContractError, Reason

BATCH_ROWS = 1 << 17
TEXT_BLOCK_BYTES = 16 << 20
_PEEK_BYTES = 1 << 20
_PYTHON_LINES = 256
_SUFFIX = re.compile(r"\.(parquet|pq|csv|jsonl|ndjson|json)(\.gz|\.bz2|\.zst)?$", re.IGNORECASE)
_PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


#: Rows, and lines that could not be parsed: (text, what is wrong).
_Read = tuple[pa.RecordBatch, list[tuple[str, str]]]


@dataclasses.dataclass(frozen=True)
class ReadUnit:
    """A piece of a table that is read alone. `index` orders the units of a table."""

    path: str
    format: str
    index: int
    row_groups: tuple[int, ...] | None = None
    rows: int = 0


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A record of text that could not be parsed.

    Attributes:
      text: the record.
      what: what is wrong with it.
      position: its place in the unit, as in `RawBatch.positions`.
      reason: of the dead letter.
    """

    text: str
    what: str
    position: int
    reason: Reason = Reason.UNPARSABLE_ROW


@dataclasses.dataclass
class RawBatch:
    """Rows as read, and records that could not be parsed.

    Attributes:
      batch: the rows, with the requested columns.
      positions: [N] int64, rising: the place of each row in its unit, from 0: its line, or its row in Parquet.
      rejected: the others.
    """

    batch: pa.RecordBatch
    positions: np.ndarray
    rejected: list[Rejected]


def match_files(path: str) -> list[str]:
    """Returns the data files of a path, a directory or a glob, sorted, without names that begin with `_` or `.`.

    Raises:
      LogContractError: if nothing is there.
    """
    base = path.rstrip("/")
    try:
        found = storage.match(path)
    except Exception as error:  # File systems raise each their own.
        raise LogContractError(f"{path}: cannot be listed: {error}") from error
    below = {file: file[len(base) :] if file.startswith(f"{base}/") else storage.name(file) for file in found}
    files = [file for file in found if _SUFFIX.search(file) and not re.search(r"(^|/)[_.]", below[file])]
    if not files:
        raise LogContractError(f"{path}: no .parquet, .csv or .jsonl file found.")
    return files


def locate(unit: ReadUnit, positions: Sequence[int]) -> list[int | None]:
    """Returns the line (text) or row (Parquet) in the file of places in a unit, from 1; None: not known."""
    return [position + 1 for position in positions]


def plan_reads(path: str) -> list[ReadUnit]:
    """Returns the units of a table, with their row counts (estimated from the size for text)."""
    units: list[ReadUnit] = []
    for file in match_files(path):
        kind = _format(file)
        if kind != "parquet":
            units.append(ReadUnit(file, kind, len(units), None, _estimate_lines(file)))
            continue
        with _open(file) as stream:
            footer = _parquet(stream, file).metadata
        groups, rows = [], 0
        for group in range(footer.num_row_groups):
            groups.append(group)
            rows += footer.row_group(group).num_rows
            if rows >= 8 * BATCH_ROWS or group == footer.num_row_groups - 1:
                units.append(ReadUnit(file, "parquet", len(units), tuple(groups), rows))
                groups, rows = [], 0
    return units


def read_schema(path: str) -> pa.Schema:
    """Returns the schema of a table's first file. CSV columns are strings; JSON Lines are inferred from its start."""
    file = match_files(path)[0]
    kind = _format(file)
    if kind == "parquet":
        with _open(file) as stream:
            return _parquet(stream, file).schema_arrow
    with _open(file) as stream:
        block = _read(stream, _PEEK_BYTES)
    if kind == "csv":
        import csv

        header = block.decode("utf-8-sig", "replace").splitlines()[:1]
        return pa.schema([(name, pa.string()) for name in next(csv.reader(header), [])])
    block = block[: block.rfind(b"\n") + 1] or block
    return _parse_json(block, []).schema


def read_batches(unit: ReadUnit, columns: Sequence[str]) -> Iterator[RawBatch]:
    """Reads a unit.

    Args:
      unit: of `plan_reads`.
      columns: names to read; those the file lacks come back as nulls.

    Yields:
      Batches of at most `BATCH_ROWS` rows (Parquet) or about `TEXT_BLOCK_BYTES` (text), columns in the given order.
    """
    read = {"parquet": _read_parquet, "csv": _read_csv, "jsonl": _read_json}[unit.format]
    row = 0
    for batch, rejected in read(unit, list(columns)):
        positions = np.arange(row, row + batch.num_rows, dtype=np.int64)
        row += batch.num_rows
        yield RawBatch(_select(batch, columns), positions, [Rejected(text, what, row) for text, what in rejected])


def _format(file: str) -> str:
    """Returns what a file holds, by its suffix: `parquet`, `csv` or `jsonl`."""
    found = _SUFFIX.search(file)
    suffix = found[1].lower() if found else ""
    return {"parquet": "parquet", "pq": "parquet", "csv": "csv"}.get(suffix, "jsonl")


def _read_parquet(unit: ReadUnit, columns: list[str]) -> Iterator[_Read]:
    with _open(unit.path) as stream:
        file = _parquet(stream, unit.path)
        present = [name for name in columns if name in file.schema_arrow.names]
        groups = list(unit.row_groups or range(file.metadata.num_row_groups))
        if not present:
            rows = sum(file.metadata.row_group(group).num_rows for group in groups)
            yield pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[columns[0]]), []
            return
        for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=present):
            yield batch, []


def _read_csv(unit: ReadUnit, columns: list[str]) -> Iterator[_Read]:
    from pyarrow import csv

    rejected: list[tuple[str, str]] = []

    def set_aside(row: Any) -> str:
        rejected.append((row.text or "", f"{row.actual_columns} columns, the header has {row.expected_columns}"))
        return "skip"

    with _open(unit.path) as stream:
        # Binary, so that bytes that are no UTF-8 are found later, row by row.
        convert = csv.ConvertOptions(
            column_types={name: pa.binary() for name in columns},
            include_columns=columns,
            include_missing_columns=True,
            strings_can_be_null=True,
            null_values=[""],
        )
        try:
            reader = csv.open_csv(
                stream,
                csv.ReadOptions(block_size=TEXT_BLOCK_BYTES),
                csv.ParseOptions(newlines_in_values=True, invalid_row_handler=set_aside),
                convert,
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise LogContractError(f"{unit.path}: no readable CSV: {error}") from error
        empty = None
        for batch in reader:
            taken, rejected[:] = list(rejected), []
            empty = batch.slice(0, 0)
            yield batch, taken
        if rejected:
            yield empty if empty is not None else _select(None, columns), rejected


def _read_json(unit: ReadUnit, columns: list[str]) -> Iterator[_Read]:
    with _open(unit.path) as stream:
        rest = b""
        while block := _read(stream, TEXT_BLOCK_BYTES):
            block = rest + block
            cut = block.rfind(b"\n") + 1
            block, rest = block[:cut], block[cut:]
            if block.strip():
                yield from _json_parts(block, columns)
        if rest.strip():
            yield from _json_parts(rest, columns)


def _json_parts(block: bytes, columns: list[str]) -> Iterator[_Read]:
    """Parses a block of lines; a block that fails is halved until the bad lines stand alone."""
    try:
        block.decode("utf-8")
        yield _parse_json(block, columns), []
        return
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        lines = block.splitlines(keepends=True)
    if len(lines) > _PYTHON_LINES:
        half = len(lines) // 2
        yield from _json_parts(b"".join(lines[:half]), columns)
        yield from _json_parts(b"".join(lines[half:]), columns)
        return
    rows, rejected = [], []
    for line in filter(bytes.strip, lines):
        try:
            row = json.loads(line.decode("utf-8"))
            if not isinstance(row, dict):
                raise ValueError("no JSON object")
            rows.append(row)
        except ValueError as error:
            rejected.append((line.decode("utf-8", "replace").rstrip("\n"), f"not a JSON object: {error}"))
    arrays = [_array_of([row.get(name) for row in rows]) for name in columns]
    yield pa.RecordBatch.from_arrays(arrays, names=columns), rejected


def _parse_json(block: bytes, columns: list[str]) -> pa.RecordBatch:
    from pyarrow import json as arrow_json

    def parse(schema: pa.Schema | None) -> pa.Table:
        table = arrow_json.read_json(
            pa.BufferReader(block),
            arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1),
            arrow_json.ParseOptions(explicit_schema=schema),
        )
        return table.select([name for name in columns if name in table.schema.names]) if columns else table

    table = parse(None)
    # Arrow turns strings that look like dates into timestamps: read them as the strings they are.
    dates = [field.name for field in table.schema if "timestamp" in str(field.type)]
    if dates:
        strings = {name: _with_strings(table.schema.field(name).type) for name in dates}
        table = parse(pa.schema(list(strings.items())))
    rows = table.num_rows
    table = table.combine_chunks()
    arrays = [column.chunk(0) if column.num_chunks else pa.nulls(rows, column.type) for column in table.columns]
    if not arrays and columns:
        return pa.RecordBatch.from_arrays([pa.nulls(_count_rows(block))], names=columns[:1])
    return pa.RecordBatch.from_arrays(arrays, names=table.schema.names)


def _with_strings(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_with_strings(kind.value_type))
    return pa.string() if pa.types.is_timestamp(kind) else kind


def _count_rows(block: bytes) -> int:
    return sum(1 for line in block.splitlines() if line.strip())


def _array_of(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pass

    def text(value: Any) -> str | None:
        return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    if any(isinstance(value, list) for value in values):
        lists = [value if value is None or isinstance(value, list) else [value] for value in values]
        return pa.array([None if value is None else [text(v) for v in value] for value in lists], pa.list_(pa.string()))
    return pa.array([text(value) for value in values], pa.string())


def _select(batch: pa.RecordBatch | None, columns: Sequence[str]) -> pa.RecordBatch:
    rows, present = (0, {}) if batch is None else (batch.num_rows, columns_of(batch))
    arrays = [present[name] if name in present else pa.nulls(rows) for name in columns]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _open(path: str) -> pa.NativeFile:
    """Opens a file for reading; text may be compressed (by its suffix)."""
    stream, packing = storage.open_arrow(path, mapped=False), _packing(path)
    return pa.CompressedInputStream(stream, packing) if packing else stream


def _packing(path: str) -> str | None:
    return _PACKED.get(path[path.rfind(".") :].lower())


def _parquet(stream: pa.NativeFile, path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise LogContractError(f"{path}: no readable Parquet file: {error}") from error


def _read(stream: pa.NativeFile, size: int) -> bytes:
    """Reads `size` bytes, fewer only at the end of the file: compressed streams return what they have."""
    parts, missing = [], size
    while missing and (part := stream.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _estimate_lines(path: str) -> int:
    size = storage.size(path)
    with _open(path) as stream:
        start = _read(stream, _PEEK_BYTES)
    whole = size * (4 if _packing(path) else 1) if len(start) == _PEEK_BYTES else len(start)
    return round(start.count(b"\n") * whole / max(len(start), 1))
