"""The files of a table: which there are, what each is, and which columns it has."""

from __future__ import annotations

import dataclasses
import datetime
import re
import urllib.parse
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from features import storage
from features.config import nearest
from features.errors import InputError
from features.ingest.config import TableConfig
from features.ingest.reading.csv_records import fields_of
from features.ingest.reading.json_reader import keys_after, keys_of
from features.ingest.reading.parquet_reader import begins_as_parquet, open_file
from features.ingest.reading.streams import packing_of, read_text, what_begins_so
from features.ingest.spans.config import at_day
from features.log_contract import LogContractError

#: Of a text file, to see its columns.
HEAD_BYTES = 1 << 20

#: Looked at, at a time.
_OPEN_FILES = 16

_SUFFIX = re.compile(r"\.(parquet|pq|csv|tsv|jsonl|ndjson|json)(\.gz|\.bz2|\.zst)?$", re.IGNORECASE)
_FORMATS = {"parquet": "parquet", "pq": "parquet", "csv": "csv", "tsv": "csv"}
_PARTITION = re.compile(r"^([^=/]+)=(.*)$")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_DELIMITERS = (",", ";", "\t", "|")


@dataclasses.dataclass(frozen=True)
class LogFile:
    """A file of a table.

    Attributes:
      path: where it lies.
      format: `parquet`, `csv` or `jsonl`.
      packing: of text, as in `streams.PACKINGS`; None: it is not packed.
      partitions: name and value of the folders such as `day=2026-11-25` above it; None: missing.
      columns: what the file holds, and its partitions, by name. Of CSV all are strings; of JSON Lines all are null:
        each value has its own type.
      header: of CSV, all names in their order.
      groups: of Parquet, the rows of each row group.
      start: the first line of text, cut, for messages.
      rows: how many; of text estimated.
      delimiter: of CSV.
      day: of a table by day, that whose folder the file lies in, as 2026-11-24; None: the table is not by day.
    """

    path: str
    format: str
    packing: str | None
    partitions: tuple[tuple[str, str | None], ...]
    columns: dict[str, pa.DataType]
    header: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    start: str = ""
    rows: int = 0
    delimiter: str = ","
    day: str | None = None

    @property
    def empty(self) -> bool:
        """Whether the file holds nothing at all, not even a header: such files have no columns to lack."""
        return not self.rows and not self.start and self.format != "parquet"

    def refuse_repeated(self, names: Collection[str]) -> None:
        """Raises `LogContractError` if one of the names is that of two columns of the file."""
        for name in names:
            if self.header.count(name) > 1:
                raise LogContractError(
                    f"{self.path}: has more than one column `{name}`. Its columns: {', '.join(self.header)}. "
                    "Rename one of them."
                )


@dataclasses.dataclass(frozen=True)
class TableFiles:
    """The files of a table, in the order of their paths, and those that were passed over for their names."""

    files: tuple[LogFile, ...]
    passed_over: tuple[str, ...] = ()


def find_files(
    table: TableConfig, name: str, wanted: Collection[str] = (), days: Sequence[datetime.date] = ()
) -> TableFiles:
    """Finds and looks at the files of a table.

    Args:
      table: where it lies.
      name: of the table, for messages.
      days: of a table by day, those that are read; their files come in this order.
      wanted: columns, as the files call them, that are searched for in the whole of a JSON Lines file where its first
        `HEAD_BYTES` do not show them, and that may not stand twice in a file.

    Raises:
      LogContractError: if there is no file, or one is not what its name says; it names the file.
    """
    if days:
        parts = []
        for day in days:
            part = find_files(table.model_copy(update={"path": at_day(table.path, day)}), name, wanted)
            of_day = tuple(dataclasses.replace(file, day=day.isoformat()) for file in part.files)
            parts.append(TableFiles(of_day, part.passed_over))
        return TableFiles(
            tuple(file for part in parts for file in part.files),
            tuple(path for part in parts for path in part.passed_over),
        )
    try:
        found = storage.match(table.path)
    except InputError as error:
        raise LogContractError(f"table `{name}`: {error}") from error
    except Exception as error:  # File systems raise each their own.
        raise LogContractError(f"table `{name}`: {table.path} cannot be listed: {error}") from error
    base = table.path.rstrip("/")
    if not all(path.startswith(f"{base}/") for path in found):  # A file, or a glob: what lies below what it names.
        base = re.split(r"[*?[]", base, maxsplit=1)[0].rpartition("/")[0]
    shown = [path for path in found if not re.search(r"/[_.]", f"/{path[len(base) :]}")]
    # Files of an object store take their time to open, and packed ones to search.
    with ThreadPoolExecutor(_OPEN_FILES) as pool:
        looked_at = list(pool.map(lambda path: _look_at(path, table, wanted), shown))
    files = [file for file in looked_at if file is not None]
    passed_over = [path for path, file in zip(shown, looked_at, strict=True) if file is None]
    if not files:
        others = f" Passed over, for their names: {', '.join(passed_over[:5])}." if passed_over else ""
        raise LogContractError(
            f"table `{name}`: {table.path}: no .parquet, .csv, .tsv or .jsonl file found; the table's `format` reads "
            f"files of other names.{others}"
        )
    for file in files:
        file.refuse_repeated(wanted)
    return TableFiles(tuple(files), tuple(passed_over))


def check_columns(file: LogFile, table: str, required: Collection[str]) -> None:
    """Checks that a file has the columns that its table cannot do without; a file without a byte need not.

    Args:
      file: to check.
      table: name of its table, for the message.
      required: columns, as the file calls them.

    Raises:
      LogContractError: if one is missing; it names the file, its first line and the likely cause.
    """
    missing = [] if file.empty else [name for name in required if name not in file.columns]
    if not missing:
        return
    names = list(file.columns)
    start = f" Its first line: {file.start!r}." if file.format != "parquet" else ""
    raise LogContractError(
        f"{file.path}: has no column `{missing[0]}`, which each file of table `{table}` needs."
        f"{_likely_cause(file, required)}{nearest(missing[0], names)} "
        f"It has: {', '.join(names[:30]) or 'none'}.{start}"
    )


def _likely_cause(file: LogFile, required: Collection[str]) -> str:
    if file.format == "jsonl":
        return " Each line must be one JSON object." if not file.columns else ""
    if file.format != "csv":
        return ""
    if file.start.lstrip().startswith(("{", "[")):
        return " It looks like JSON Lines: name it .jsonl, or set the table's `format: jsonl`."
    for other in _DELIMITERS:
        fields = fields_of(file.start.encode(), other.encode()) or []
        if other != file.delimiter and len(fields) > 1 and set(required) & {each.decode() for each in fields}:
            return f" Its values are separated by {other!r}, not by {file.delimiter!r}: set the table's `delimiter`."
    if not set(required) & set(file.columns):
        return " It is of another table, or has no header: its first line must name the columns."
    return ""


def _format_of(path: str, table: TableConfig) -> str | None:
    if table.format is not None:
        return table.format
    found = _SUFFIX.search(path)
    if found:
        return _FORMATS.get(found[1].lower(), "jsonl")
    with storage.open_read(path) as file:
        return "parquet" if begins_as_parquet(file.read(4)) else None


def _look_at(path: str, table: TableConfig, wanted: Collection[str]) -> LogFile | None:
    """Returns what a file is; None: it is passed over."""
    kind = _format_of(path, table)
    if kind is None:
        return None
    partitions = _partitions(path)
    if kind == "parquet":
        with open_file(path) as opened:
            schema, footer = opened.schema_arrow, opened.metadata
            groups = tuple(footer.row_group(group).num_rows for group in range(footer.num_row_groups))
        columns = dict(zip(schema.names, schema.types, strict=True))
        file = LogFile(path, kind, None, partitions, columns, tuple(schema.names), groups, rows=footer.num_rows)
    else:
        file = _look_at_text(path, kind, table, wanted, partitions)
    if not file.empty:
        for name, _ in partitions:
            file.columns.setdefault(name, pa.string())
    return file


def _partitions(path: str) -> tuple[tuple[str, str | None], ...]:
    """Returns what the folders of a path say, those above first."""
    found: dict[str, str | None] = {}
    for folder in path.split("/")[:-1]:
        if match := _PARTITION.match(folder):
            value = urllib.parse.unquote(match[2])
            found[urllib.parse.unquote(match[1])] = None if value == _NULL_PARTITION else value
    return tuple(found.items())


def _look_at_text(
    path: str, kind: str, table: TableConfig, wanted: Collection[str], partitions: tuple[tuple[str, str | None], ...]
) -> LogFile:
    packing = packing_of(path)
    head, whole = _head(path, packing, table.encoding)
    text = head if whole else head[: head.rfind(b"\n") + 1] or head
    _refuse_other_formats(path, head, kind)
    first = next((line.removesuffix(b"\r") for line in text.split(b"\n") if line.strip(b"\r")), b"")
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    share = storage.size(path) * (4 if packing else 1) / max(len(head), 1)
    rows = lines if whole else round(lines * max(share, 1))
    delimiter = table.delimiter or ("\t" if re.search(r"\.tsv(\.[a-z0-9]+)?$", path, re.IGNORECASE) else ",")
    names: list[str] = []
    if kind == "csv" and first:
        names = _header(path, first, delimiter, table.max_record_bytes)
    elif first:
        names = keys_of(text)
        others = [name for name in wanted if name not in names]
        if others and not whole:
            names += keys_after(read_text(path, packing, table.encoding), others)
    return LogFile(
        path,
        kind,
        packing,
        partitions,
        dict.fromkeys(names, pa.string() if kind == "csv" else pa.null()),
        tuple(names) if kind == "csv" else (),
        start=first[:200].decode("utf-8", "backslashreplace"),
        rows=rows if first else 0,
        delimiter=delimiter,
    )


def _head(path: str, packing: str | None, encoding: str) -> tuple[bytes, bool]:
    """Returns the first `HEAD_BYTES` of a text, or a little more, and whether that is all of it."""
    parts: list[bytes] = []
    size = 0
    for chunk in read_text(path, packing, encoding):
        if size >= HEAD_BYTES:
            return b"".join(parts), False
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts), True


def _refuse_other_formats(path: str, head: bytes, kind: str) -> None:
    what = what_begins_so(head[:16])
    if not what.startswith(("text that", "something")):
        raise LogContractError(f"{path}: is no plain text, as its name or the table's `format` says, but {what}.")
    stripped = head.rstrip(b"\r\n")
    if b"\n" not in stripped and b"\r" in stripped:
        raise LogContractError(
            f"{path}: ends its lines by carriage returns alone, as old Macs did: write it with line feeds (\\n)."
        )
    if kind == "jsonl" and head.lstrip().startswith(b"["):
        raise LogContractError(
            f"{path}: is a JSON array: write one object a line, without brackets around them (`jq -c '.[]'` does)."
        )


def _header(path: str, line: bytes, delimiter: str, longest: int) -> list[str]:
    if len(line) > longest:
        raise LogContractError(f"{path}: its header is longer than `max_record_bytes`={longest}: {len(line)} bytes.")
    shown = line[:200].decode("utf-8", "backslashreplace")
    if b"\0" in line:
        raise LogContractError(
            f"{path}: its header holds NUL bytes: {shown!r}. It is damaged, or in UTF-16: then set the table's "
            "`encoding` (utf-16-le, utf-16-be)."
        )
    if b"\r" in line:
        raise LogContractError(f"{path}: its header holds a carriage return that ends no line: {shown!r}.")
    fields = fields_of(line, delimiter.encode())
    if fields is None:
        raise LogContractError(
            f"{path}: its header has a quote that does not close, or text after a closing one: {shown!r}."
        )
    try:
        return [field.decode("utf-8") for field in fields]
    except UnicodeDecodeError as error:
        raise LogContractError(
            f"{path}: its header is not of the encoding that the table's `encoding` says: {shown!r}."
        ) from error
