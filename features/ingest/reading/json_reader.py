"""JSON Lines as RecordBatches: Arrow reads what it reads exactly, Python the rest (`json_rows`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import one_chunk
from features.ingest.reading.json_rows import EXACT, parse_row, read_rows
from features.ingest.reading.records import LineReader, Lines, Rejected, Rows

#: Of lists and objects in one another. Parsers recurse.
MAX_DEPTH = 100

#: Arrow 10 reads no block of 100,000 rows or more.
BLOCK_ROWS = 1 << 16

#: Rows that Arrow does not read together are cut into so many parts; those that it does not read either go to Python.
PARTS = 32

_BLANK = b" \t\r\n"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


class JsonReader:
    """Reads the records of one file.

    Args:
      columns: targets by name, at least one.
      longest: `max_record_bytes`.
    """

    def __init__(self, columns: Mapping[str, str], longest: int):
        self._columns, self._longest = dict(columns), longest
        self._types: dict[str, pa.DataType] | None = None

    def read(self, chunks: Iterator[bytes]) -> Iterator[Rows]:
        """Reads text, chunks of UTF-8.

        Yields:
          The columns in their order, with types that hold every value as it was.
        """
        for lines in LineReader(chunks, self._longest).blocks():
            records, rejected = self._records(lines)
            first = True
            for batch, positions, others in self._parse(lines, records):
                yield batch, positions, rejected + others if first else others
                first = False

    def _records(self, lines: Lines) -> tuple[np.ndarray, list[Rejected]]:
        """Returns the lines that may be one object each, and the dead letters."""
        wrong = lines.no_records(self._longest)
        wrong |= {line: what for line, what in _too_deep(lines).items() if line not in wrong}
        keep = lines.lengths > 0
        begin = lines.bytes[lines.starts]
        end = lines.bytes[np.maximum(lines.starts + lines.lengths - 1, 0)]
        for line in np.flatnonzero(keep & ((begin != ord("{")) | (end != ord("}")))):
            text = lines.text(line).strip(_BLANK)
            if not text:
                keep[line] = False
            elif int(line) not in wrong and not (text.startswith(b"{") and text.endswith(b"}")):
                try:
                    parse_row(text)
                except ValueError as error:
                    wrong[int(line)] = str(error)
        keep[list(wrong)] = False
        return np.flatnonzero(keep), [lines.reject(line, what) for line, what in sorted(wrong.items())]

    def _parse(self, lines: Lines, records: np.ndarray) -> Iterator[Rows]:
        if len(records) > BLOCK_ROWS:
            for part in np.array_split(records, -(-len(records) // BLOCK_ROWS)):
                yield from self._parse(lines, part)
            return
        batch = self._by_arrow(lines, records)
        if batch is not None:
            yield batch, records + lines.first, []
            return
        for part in np.array_split(records, min(PARTS, len(records))):
            batch = self._by_arrow(lines, part)
            if batch is not None:
                yield batch, part + lines.first, []
            else:
                yield from read_rows(lines, list(map(int, part)), self._columns)

    def _by_arrow(self, lines: Lines, records: np.ndarray) -> pa.RecordBatch | None:
        """Returns the rows of some lines; None: Arrow cannot read them, or not exactly."""
        keep = np.zeros(len(lines), bool)
        keep[records] = True
        text = lines.joined(keep)
        if not text:
            return pa.RecordBatch.from_arrays([pa.nulls(0)] * len(self._columns), names=list(self._columns))
        try:
            if self._types is not None:
                batch = self._read(text, self._types, len(records))
                if batch is not None:
                    return batch
            types = self._infer(text)
            batch = None if types is None else self._read(text, types, len(records))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError):
            return None
        if batch is not None:
            self._types = types
        return batch

    def _read(self, text: bytes, types: dict[str, pa.DataType], rows: int) -> pa.RecordBatch | None:
        """Returns the rows; None: not of these types, or not exact in them."""
        from pyarrow import json as arrow_json

        for name, kind in types.items():
            if pa.types.is_decimal(kind) and not _all_integers(text, name):
                return None
        try:
            table = arrow_json.read_json(
                pa.BufferReader(text),
                arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
                arrow_json.ParseOptions(
                    explicit_schema=pa.schema(list(types.items())), unexpected_field_behavior="ignore"
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        # Each line begins and ends an object: as many rows as lines are one row a line.
        if table.num_rows != rows:
            return None
        arrays = [one_chunk(table[name]) for name in self._columns]
        exact = all(_is_exact(array, target) for array, target in zip(arrays, self._columns.values(), strict=True))
        return pa.RecordBatch.from_arrays(arrays, names=list(self._columns)) if exact else None

    def _infer(self, text: bytes) -> dict[str, pa.DataType] | None:
        """Returns types that hold the values of some rows exactly; None: there are none.

        Arrow's own guesses are taken as types alone: it loses nulls at the beginning of a first list, and reads whole
        numbers as doubles where one value has a fraction.
        """
        from pyarrow import json as arrow_json

        table = arrow_json.read_json(
            pa.BufferReader(text), arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1)
        )
        known = self._types or {}
        types = {}
        for name, target in self._columns.items():
            kind = pa.null() if name not in table.schema.names else _with_strings(table.schema.field(name).type)
            if pa.types.is_floating(kind) and not _is_exact(one_chunk(table[name]), target):
                if target != "string":
                    return None
                kind = pa.decimal128(38, 0)
            if name in known and kind in (pa.null(), pa.list_(pa.null())):
                kind = known[name]
            types[name] = kind
        return types


def _is_exact(values: pa.Array, target: str) -> bool:
    """Whether doubles among the values stand for what was written, as a target reads them."""
    if pa.types.is_list(values.type):
        values = values.flatten()
    if "float64" in target or not pa.types.is_floating(values.type):
        return True
    return not pc.any(pc.greater_equal(pc.abs(values), EXACT)).as_py()


def _all_integers(text: bytes, name: str) -> bool:
    """Whether the values of a key are integers of up to 38 digits, or null.

    Arrow's decimals would take texts and fractions, too.
    """
    key = re.escape(f'"{name}"'.encode())
    return name.isascii() and b"\\u" not in text and not re.search(key + rb'\s*:\s*(?:"|-?\d+[.eE]|-?\d{39})', text)


def _with_strings(kind: pa.DataType) -> pa.DataType:
    """Returns a type with strings for the times that Arrow sees in texts."""
    if pa.types.is_list(kind):
        return pa.list_(_with_strings(kind.value_type))
    if pa.types.is_struct(kind):
        fields = [kind[i] for i in range(kind.num_fields)]
        return pa.struct([(field.name, _with_strings(field.type)) for field in fields])
    return pa.string() if pa.types.is_timestamp(kind) else kind


def _too_deep(lines: Lines) -> dict[int, str]:
    places = np.flatnonzero((lines.bytes == ord("[")) | (lines.bytes == ord("{")))
    if len(places) <= MAX_DEPTH:
        return {}
    opened = np.diff(np.searchsorted(places, lines.ends), prepend=0)
    found = {}
    for line in np.flatnonzero(opened > MAX_DEPTH):
        brackets = np.frombuffer(_STRING.sub(b"", lines.text(line)), np.uint8)
        steps = np.isin(brackets, list(b"[{")).astype(np.int64) - np.isin(brackets, list(b"]}"))
        if np.cumsum(steps).max(initial=0) > MAX_DEPTH:
            found[int(line)] = f"lists and objects more than {MAX_DEPTH} deep in one another"
    return found


def keys_of(text: bytes) -> list[str]:
    """Returns the keys of the objects that lines of text hold, in the order in which they appear."""
    keys: dict[str, None] = {}
    for line in text.split(b"\n"):
        deep = line.count(b"[") + line.count(b"{") > MAX_DEPTH and _too_deep(Lines(line + b"\n", 0))
        if line.strip(_BLANK) and not deep:
            try:
                keys |= dict.fromkeys(parse_row(line))
            except ValueError:
                continue
    return list(keys)


def keys_after(chunks: Iterator[bytes], wanted: Sequence[str]) -> list[str]:
    """Returns which of some names stand, in quotes, anywhere in a text."""
    forms = {name: {f'"{name}"'.encode(), json.dumps(name).encode()} for name in wanted}
    longest = max((len(form) for each in forms.values() for form in each), default=0)
    found, tail = [], b""
    for chunk in chunks:
        if not forms:
            break
        tail += chunk
        for name in [name for name, each in forms.items() if any(form in tail for form in each)]:
            found.append(name)
            del forms[name]
        tail = tail[-longest:]
    return found
