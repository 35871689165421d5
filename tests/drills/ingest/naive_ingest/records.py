"""The records of a file, by the words of docs/reference/log_contract.md: split byte by byte, in plain Python.

Nothing here comes from `features/ingest`: this is what it is judged by.
"""

from __future__ import annotations

import bz2
import codecs
import dataclasses
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.ingest.config import TableConfig

PACKINGS = (".gz", ".bz2", ".zst")
PARQUET, CSV, JSON = (".parquet", ".pq"), (".csv", ".tsv"), (".jsonl", ".ndjson", ".json")

OPEN, JUNK = "open", "junk"
"""What `fields_of` says of a quote that does not close, and of one that something else follows than a delimiter."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A record of a file.

    Attributes:
      line: its first line, of Parquet its row, from 1.
      values: by column; None: it cannot be parsed.
      text: as it stands in the file, of text that cannot be parsed.
    """

    line: int
    values: dict[str, Any] | None
    text: str = ""


def suffixes(path: Path) -> tuple[str, str]:
    """Returns the suffix that says the format, and that of the packing; both empty where there is none."""
    parts = [part.lower() for part in path.suffixes]
    packing = parts.pop() if parts and parts[-1] in PACKINGS else ""
    kind = parts[-1] if parts and parts[-1] in PARQUET + CSV + JSON else ""
    return kind, packing


def format_of(path: Path, table: TableConfig) -> str | None:
    """Returns `parquet`, `csv` or `jsonl`; None: the file is passed over."""
    if table.format is not None:
        return table.format
    kind, packing = suffixes(path)
    if kind in PARQUET and not packing:
        return "parquet"
    if kind in CSV:
        return "csv"
    if kind in JSON:
        return "jsonl"
    return "parquet" if path.read_bytes()[:4] == b"PAR1" else None


def unpacked(path: Path) -> bytes:
    """Returns what a file of text holds."""
    data, packing = path.read_bytes(), suffixes(path)[1]
    if packing == ".gz":
        return gzip.decompress(data)
    if packing == ".bz2":
        return bz2.decompress(data)
    if packing == ".zst":
        if data.endswith(bytes(64)):  # Padded by a tape.
            data = data.rstrip(b"\0")
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            return stream.read()
    return data


def read_file(path: Path, table: TableConfig) -> tuple[list[str] | None, list[Record]]:
    """Returns the columns (None: those of JSON, each record has its own) and the records of a file."""
    kind = format_of(path, table)
    if kind == "parquet":
        rows = pq.ParquetFile(path).read()
        return rows.column_names, [Record(i + 1, row) for i, row in enumerate(rows.to_pylist())]
    lines = _lines(unpacked(path), table)
    if kind == "jsonl":
        return None, list(_json_records(lines, table))
    return _csv_records(lines, path, table)


def count_physical_records(path: Path, table: TableConfig | None = None) -> int:
    """Returns how many records a file holds, counted from its bytes; the header of CSV is none."""
    return len(read_file(Path(path), table or TableConfig(path=str(path)))[1])


def _lines(data: bytes, table: TableConfig) -> list[bytes]:
    """Splits at line feeds alone. What is not of one byte a character is written anew in UTF-8 first."""
    name = codecs.lookup(table.encoding).name
    if name in ("utf-8", "utf-8-sig"):
        data = data.removeprefix(codecs.BOM_UTF8)
    elif name.startswith(("utf-16", "utf-32")):
        data = data.decode(table.encoding).removeprefix("\ufeff").encode()
    return data.split(b"\n")


def _decode(line: bytes, table: TableConfig) -> str:
    name = codecs.lookup(table.encoding).name
    return line.decode("utf-8" if name.startswith(("utf-16", "utf-32", "utf-8")) else table.encoding)


def _json_records(lines: list[bytes], table: TableConfig) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            line = line.removesuffix(b"\r")
            if len(line) > table.max_record_bytes or b"\x00" in line or b"\r" in line:
                raise ValueError
            text = _decode(line, table)
            values = json.loads(text)
            json.dumps(values, ensure_ascii=False).encode()  # A lone surrogate is no character.
            if not isinstance(values, dict):
                raise ValueError
        except (ValueError, RecursionError):
            yield Record(number, None, line.decode("utf-8", "replace"))
        else:
            yield Record(number, values)


def fields_of(text: str, delimiter: str) -> list[str] | str:
    """Returns the fields of a record without its line end, or `OPEN`, or `JUNK`."""
    fields, at = [], 0
    while True:
        if text[at : at + 1] == '"':
            value, at = "", at + 1
            while True:
                quote = text.find('"', at)
                if quote < 0:
                    return OPEN
                value, at = value + text[at:quote], quote + 1
                if text[at : at + 1] != '"':
                    break
                value, at = value + '"', at + 1
            fields.append(value)
            if at < len(text) and text[at] != delimiter:
                return JUNK
        else:
            stop = text.find(delimiter, at)
            stop = len(text) if stop < 0 else stop
            fields.append(text[at:stop])
            at = stop
        if at == len(text):
            return fields
        at += 1


def _csv_records(lines: list[bytes], path: Path, table: TableConfig) -> tuple[list[str], list[Record]]:
    delimiter = table.delimiter or ("\t" if suffixes(path)[0] == ".tsv" else ",")
    header: list[str] | None = None
    records: list[Record] = []
    at = 0
    while at < len(lines):
        begin = at
        if not lines[at].removesuffix(b"\r"):
            at += 1
            continue
        fields, used = _one_record(lines, at, delimiter, table, None if header is None else len(header))
        at += used
        if header is None:
            assert fields is not None, f"{path}: no header"
            header = fields
        elif fields is None or len(fields) != len(header):
            records.append(Record(begin + 1, None, lines[begin].decode("utf-8", "replace")))
        else:
            records.append(Record(begin + 1, dict(zip(header, fields, strict=True))))
    return header or [], records


def _one_record(
    lines: list[bytes], at: int, delimiter: str, table: TableConfig, width: int | None
) -> tuple[list[str] | None, int]:
    """Returns the fields of the record that begins at a line (None: that line is bad) and how many lines it takes."""
    raw = lines[at]
    for used in range(1, len(lines) - at + 1):
        if used > 1:
            raw += b"\n" + lines[at + used - 1]
        if len(raw) > table.max_record_bytes:
            return None, 1
        try:
            fields = fields_of(_decode(raw.removesuffix(b"\r"), table), delimiter)
        except UnicodeDecodeError:
            return None, 1
        if fields == JUNK or b"\x00" in raw or b"\r" in raw.removesuffix(b"\r").replace(b"\r\n", b""):
            return None, 1
        if fields != OPEN:
            inner = lines[at + 1 : at + used - 1]
            if any(_is_whole(line, delimiter, table, width) for line in inner):
                return None, 1
            if used == 2 and all(line.count(delimiter.encode()) + 1 == width for line in lines[at : at + 2]):
                return None, 1  # Two rows, each with a stray quote.
            return list(fields), used
    return None, 1


def _is_whole(line: bytes, delimiter: str, table: TableConfig, width: int | None) -> bool:
    """Whether a line is a record by itself."""
    if not line.removesuffix(b"\r"):
        return False
    fields = fields_of(_decode(line.removesuffix(b"\r"), table), delimiter)
    return isinstance(fields, list) and len(fields) == width
