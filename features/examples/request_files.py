"""Files of requests in units that can be read alone: parts of JSON Lines, row groups of Parquet.

A request is what `clickmill rank` takes: one a line, or one a row of a table whose columns are its keys.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from features import storage
from features.config import nearest
from features.errors import InputError
from features.ingest.config import TableConfig
from features.ingest.reading.files import LogFile, find_files
from features.ingest.reading.parquet_reader import open_file
from features.ingest.reading.records import LineReader
from features.ingest.reading.streams import CHUNK_BYTES, read_text

#: Larger files are read in parts of about this size; a packed one cannot be cut, nor can a row group.
UNIT_BYTES = 32 << 20

#: A longer line is no request.
MAX_REQUEST_BYTES = 16 << 20

#: Of the text of a request that is set aside.
SHOWN_BYTES = 4096

#: What a request holds (`serving/requests/json_request.py`), and so the columns of a table of requests.
KEYS = ("request_id", "user", "context", "candidates", "timestamp", "history")

_PARQUET_ROWS = 64


@dataclasses.dataclass(frozen=True)
class RequestUnit:
    """A piece of a file that is read alone.

    Attributes:
      path: of the file.
      format: `jsonl` or `parquet`.
      index: of the unit in its file, from 0.
      size: of the file, in bytes.
      modified: when the file was last written, in seconds since 1970.
      packing: of text, as in `features.ingest.reading.streams.PACKINGS`; None: it is not packed.
      start: of text, the byte at which the unit's first line begins.
      stop: of text, the byte at which the line after its last one begins; None: the end of the file.
      before: lines of the file before `start`, or rows before the first row group.
      groups: of Parquet, the row groups.
    """

    path: str
    format: str
    index: int
    size: int
    modified: float
    packing: str | None = None
    start: int = 0
    stop: int | None = None
    before: int = 0
    groups: tuple[int, ...] = ()

    def check_unchanged(self) -> None:
        """Raises `InputError` if the file is not the one that was planned with."""
        if (storage.size(self.path), storage.modified(self.path)) != (self.size, self.modified):
            raise InputError(f"{self.path} was changed while it was read. Start again once it is written.")


@dataclasses.dataclass(frozen=True)
class ReadRequest:
    """One line or row of a unit.

    Attributes:
      place: its line in the file, or its row in the Parquet file, from 1.
      value: the parsed JSON; None where there is none.
      source: the line as it stands in the file; of Parquet None.
      wrong: why it could not be parsed, a reason and what exactly; None: it could.
    """

    place: int
    value: Any
    source: bytes | None
    wrong: tuple[str, str] | None = None

    @property
    def text(self) -> str:
        """The request as text, cut at `SHOWN_BYTES`."""
        source = self.source
        if source is None:
            source = json.dumps(self.value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")
        # With the rest of a character that is cut: it would be shown as bytes.
        shown = source[: SHOWN_BYTES + 3].decode("utf-8", "backslashreplace")
        return shown.encode("utf-8")[:SHOWN_BYTES].decode("utf-8", "ignore")


def plan_units(paths: Sequence[str], unit_bytes: int = UNIT_BYTES) -> list[RequestUnit]:
    """Returns the units of files of requests, in the order of their paths and lines.

    A text file that is larger than a unit is read through once, to number its lines.

    Args:
      paths: files, folders or globs, local or URIs: `.jsonl`, `.ndjson`, `.json` (one request a line), packed or not,
        and Parquet.
      unit_bytes: size of a unit; a line belongs to the unit in which it begins.

    Raises:
      InputError: if there is no file, one is not what its name says, or a table's columns are not the keys of requests.
    """
    files: dict[str, LogFile] = {}
    for path in paths:
        for file in find_files(TableConfig(path=path), "requests").files:
            files.setdefault(storage.absolute(file.path), file)
    units: list[RequestUnit] = []
    for path, file in sorted(files.items()):
        if file.format == "csv":
            raise InputError(f"{path}: a request does not fit into a line of CSV: give JSON Lines or Parquet.")
        units += (
            _parquet_units(path, file, unit_bytes) if file.format == "parquet" else _text_units(path, file, unit_bytes)
        )
    return units


def read_requests(unit: RequestUnit, longest: int = MAX_REQUEST_BYTES) -> Iterator[ReadRequest]:
    """Reads a unit, a request at a time; blank lines are none.

    Args:
      unit: of `plan_units`.
      longest: of a line, in bytes.

    Raises:
      InputError: if the file is damaged.
    """
    yield from _read_parquet(unit) if unit.format == "parquet" else _read_lines(unit, longest)


def _text_units(path: str, file: LogFile, unit_bytes: int) -> list[RequestUnit]:
    size, modified = storage.size(path), storage.modified(path)
    cuts = [(0, 0)]
    if file.packing is None and size > unit_bytes:
        cuts = _cuts(path, size, unit_bytes)
    stops = [*(start for start, _ in cuts[1:]), None]
    return [
        RequestUnit(path, "jsonl", index, size, modified, file.packing, start, stop, before)
        for index, ((start, before), stop) in enumerate(zip(cuts, stops, strict=True))
    ]


def _cuts(path: str, size: int, unit_bytes: int) -> list[tuple[int, int]]:
    """Returns where units begin, and how many lines stand before each."""
    cuts, target, place, lines = [(0, 0)], unit_bytes, 0, 0
    with storage.open_read(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            counted = 0
            # The line end before the first line that begins at the target or after it.
            while (newline := chunk.find(b"\n", max(target - 1 - place, counted))) >= 0:
                lines += chunk.count(b"\n", counted, newline + 1)
                counted = newline + 1
                cuts.append((place + counted, lines))
                target = (cuts[-1][0] // unit_bytes + 1) * unit_bytes
            lines += chunk.count(b"\n", counted)
            place += len(chunk)
    return cuts[:-1] if cuts[-1][0] == size else cuts


def _parquet_units(path: str, file: LogFile, unit_bytes: int) -> list[RequestUnit]:
    for name in file.header:
        if name not in KEYS:
            hint = nearest(name, KEYS) or f" Its columns: {', '.join(KEYS)}."
            raise InputError(f"{path}: the column `{name}` is no part of a request.{hint}")
    if "candidates" not in file.header:
        raise InputError(f"{path}: a table of requests needs the column `candidates`: lists of structs of features.")
    file.refuse_repeated(KEYS)
    with open_file(path) as opened:
        footer = opened.metadata
        sizes = [footer.row_group(group).total_byte_size for group in range(footer.num_row_groups)]
    runs: list[list[int]] = [[]]
    for group in range(len(sizes)):
        if sum(sizes[each] for each in runs[-1]) >= unit_bytes:
            runs.append([])
        runs[-1].append(group)
    size, modified = storage.size(path), storage.modified(path)
    return [
        RequestUnit(
            path, "parquet", index, size, modified, before=sum(file.groups[: run[0]]) if run else 0, groups=tuple(run)
        )
        for index, run in enumerate(runs)
    ]


def _read_lines(unit: RequestUnit, longest: int) -> Iterator[ReadRequest]:
    chunks = read_text(unit.path, unit.packing, start=unit.start, stop=unit.stop)
    for lines in LineReader(chunks, longest).blocks():
        for line in range(len(lines)):
            source = lines.text(line)
            if source.strip():
                place = unit.before + lines.first + line + 1
                if len(source) > longest:
                    # A block may hold less of it than the file does.
                    detail = f"longer than the {longest:,} bytes that a request may have"
                    yield ReadRequest(place, None, source, ("too_long", detail))
                else:
                    yield _parsed(place, source)


def _parsed(place: int, source: bytes) -> ReadRequest:
    try:
        return ReadRequest(place, json.loads(source.decode("utf-8")), source)
    except UnicodeDecodeError as error:
        return ReadRequest(place, None, source, ("not_utf_8", f"not UTF-8, at byte {error.start} of the line"))
    except (ValueError, RecursionError) as error:
        return ReadRequest(place, None, source, ("not_json", f"not valid JSON: {error}"))


def _read_parquet(unit: RequestUnit) -> Iterator[ReadRequest]:
    place = unit.before
    if not unit.groups:
        return
    with open_file(unit.path) as file:
        try:
            for batch in file.iter_batches(_PARQUET_ROWS, row_groups=list(unit.groups)):
                for value, wrong in _values(batch):
                    place += 1
                    yield ReadRequest(place, value, None, wrong)
        except (pa.ArrowException, OSError) as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(
                f"{unit.path}: this Parquet file cannot be read: it is damaged or encrypted ({first})."
            ) from error


def _values(batch: pa.RecordBatch) -> Iterator[tuple[Any, tuple[str, str] | None]]:
    try:
        yield from ((_without_nulls(row), None) for row in batch.to_pylist())
    except UnicodeDecodeError as error:
        if batch.num_rows > 1:
            for row in range(batch.num_rows):
                yield from _values(batch.slice(row, 1))
        else:
            yield None, ("not_utf_8", f"not UTF-8, at byte {error.start} of a text")


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """A feature may be a field of both structs; in a row it stands where it has a value."""
    for name in ("user", "context"):
        if isinstance(row.get(name), dict):
            row[name] = {key: value for key, value in row[name].items() if value is not None}
    return row
