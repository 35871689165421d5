"""Rows of JSON Lines by Python: exact where Arrow is not, or fails; each row for itself.

Values become text, which `features.ingest.checking.columns` converts as it does that of CSV: whole numbers in digits
whatever their size, true and false, other numbers in their shortest form. A value that cannot be text (an object, a
list where none belongs) keeps its type, in a batch of its own, so that it alone is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from features.ingest.reading.records import Lines, Rejected, Rows

#: Doubles hold every integer below this; from here on they skip some.
EXACT = float(2**53)

#: Python reads no longer integers at once.
_MAX_DIGITS = 4000

_SEPARATOR = "|"


class _Repeating(dict):
    """An object with a key that stands in it more than once."""

    repeated: frozenset[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        found = _Repeating(found)
        found.repeated = frozenset(key for key in keys if keys.count(key) > 1)
    return found


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)


def parse_row(line: bytes) -> dict[str, Any]:
    """Returns the object that a line holds; whole numbers are exact.

    Raises:
      ValueError: if it holds none; the message is the detail of a dead letter.
    """
    try:
        row = _DECODER.decode(line.decode("utf-8").strip(" \t\r\n"))
    except ValueError as error:
        raise ValueError(f"not a JSON object: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"not a JSON object, but {type(row).__name__}")
    return row


def read_rows(lines: Lines, chosen: Sequence[int], columns: Mapping[str, str]) -> list[Rows]:
    """Reads lines one by one.

    Args:
      lines: of a block.
      chosen: which of them.
      columns: targets by name.

    Returns:
      The rows, those that are alike in which columns do not fit together; the first holds what could not be parsed.
    """
    rejected: list[Rejected] = []
    alike: dict[tuple[str, ...], tuple[list[int], list[dict[str, Any]]]] = {(): ([], [])}
    for line in chosen:
        try:
            row = parse_row(lines.text(line))
            _refuse_keys_and_surrogates(row, columns)
        except ValueError as error:
            rejected.append(lines.reject(line, str(error)))
            continue
        odd = tuple(name for name, target in columns.items() if not _fits(row.get(name), target))
        found = alike.setdefault(odd, ([], []))
        found[0].append(lines.first + line)
        found[1].append(row)
    batches = []
    for odd, (positions, rows) in alike.items():
        arrays = []
        for name, target in columns.items():
            values = [row.get(name) for row in rows]
            arrays.append(_natural(values) if name in odd else _as_text(values, target))
        batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
        batches.append((batch, np.array(positions, np.int64), [] if odd else rejected))
    return batches


def _refuse_keys_and_surrogates(row: dict[str, Any], columns: Mapping[str, str]) -> None:
    if isinstance(row, _Repeating) and (repeated := row.repeated & columns.keys()):
        raise ValueError(f"the key `{min(repeated)}` stands in it more than once")
    for name in columns:
        value = row.get(name)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.isascii():
                try:
                    text.encode("utf-8")
                except UnicodeEncodeError as error:
                    raise ValueError(f"`{name}` holds a lone surrogate ({text[error.start]!a}): no Unicode") from error


def _fits(value: Any, target: str) -> bool:
    """Whether a value can be text of a target without a loss."""
    if isinstance(value, list):
        if not target.startswith("list<"):
            return False
        return all(not isinstance(each, list) and _fits(each, target[5:-1]) for each in value)
    if isinstance(value, float):
        # Text of a number that large would pass for an exact one.
        return "string" not in target or not abs(value) >= EXACT
    return not isinstance(value, dict)


def _as_text(values: list[Any], target: str) -> pa.Array:
    if not target.startswith("list<"):
        return pa.array([_text(value) for value in values], pa.string())
    lists: list[list[str | None] | None] = []
    for value in values:
        if isinstance(value, list):
            lists.append([_text(each) for each in value])
        elif isinstance(value, str):
            lists.append(list(value.split(_SEPARATOR)))
        else:
            lists.append(None if value is None else [_text(value)])
    return pa.array(lists, pa.list_(pa.string()))


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Python writes no longer integers at once; `_integer` leaves them as they are.
        return str(value)
    if math.isnan(value):
        return None
    if abs(value) < EXACT and value == math.floor(value):
        return str(int(value))
    return str(pa.scalar(value).cast(pa.string()).as_py())  # As Arrow writes doubles of other batches.


def _natural(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return pa.array([None if value is None else {"json": json.dumps(value)} for value in values])
