"""What a record of CSV is, where quotes leave it open: docs/reference/log_contract.md, Records.

Lines without a quote, and lines whose quoted values all close, are records by themselves; only the few others come
to this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import NamedTuple

from features.ingest.reading.records import Lines

_OPEN = -1


def well_formed(delimiter: str) -> str:
    """Returns the regular expression (RE2) of a line that is a record by itself, its line end included."""
    each = delimiter if delimiter.isalnum() else f"\\x{ord(delimiter):02x}"
    value = f'(?:"(?:[^"]|"")*"|(?:[^"{each}\\r\\n][^{each}\\r\\n]*)?)'
    return f"^{value}(?:{each}{value})*\\r?\\n$"


def fields_of(line: bytes, delimiter: bytes) -> list[bytes] | None:
    """Returns the values of a line; None: it is no record by itself."""
    fields, place = [], 0
    while True:
        if line[place : place + 1] == b'"':
            close = closing_quote(line, place + 1)
            after = line[close + 1 : close + 2]
            if close < 0 or after not in (b"", delimiter):
                return None
            fields.append(line[place + 1 : close].replace(b'""', b'"'))
            end = close + 1
        else:
            end = line.find(delimiter, place)
            end = len(line) if end < 0 else end
            fields.append(line[place:end])
        if end == len(line):
            return fields
        place = end + 1


def closing_quote(line: bytes, place: int) -> int:
    """Returns where the quoted value that goes on at `place` closes; -1: not in this line."""
    while (quote := line.find(b'"', place)) >= 0:
        if line[quote + 1 : quote + 2] != b'"':
            return quote
        place = quote + 2
    return -1


class Joined(NamedTuple):
    """What became of a line that is no record by itself.

    Attributes:
      last: the last line of its record; None: it has none.
      why: it has none.
      unknown: the block ends before that can be told.
    """

    last: int | None = None
    why: str = ""
    unknown: bool = False


@dataclasses.dataclass(frozen=True)
class RecordRule:
    """Joins lines to records.

    Attributes:
      fields: of the header.
      delimiter: of the file.
      longest: `max_record_bytes`.
    """

    fields: int
    delimiter: bytes
    longest: int

    def join(self, lines: Lines, first: int, no_records: Container[int], at_end: bool) -> Joined:
        """Returns the record that begins with line `first`.

        Args:
          lines: of the block.
          first: a line that is no record by itself.
          no_records: lines that cannot be part of one.
          at_end: whether the file ends with the block.
        """
        line, place, number = lines.text(first), 0, first
        while True:
            place = self._to_open_quote(line, place)
            if place != _OPEN:
                return self._ended(lines, first, number, line, place)
            # A quoted value is open at the end of `line`: find where it closes.
            while True:
                number += 1
                if number >= len(lines):
                    short = lines.ends[-1] - lines.starts[first] <= self.longest
                    return (
                        Joined(unknown=True) if short and not at_end else Joined(why=self._unclosed(at_end and short))
                    )
                if lines.starts[number] + lines.lengths[number] - lines.starts[first] > self.longest:
                    return Joined(why=self._unclosed(False))
                if number in no_records:
                    return Joined(why=f"a quoted value spans line {lines.first + number + 1}, which can be no record")
                line = lines.text(number)
                close = closing_quote(line, 0)
                if (close < 0 or self._opens_again(line, close)) and self._is_record(line):
                    return Joined(why=self._swallows(lines.first + number + 1))
                if close >= 0:
                    break
            if line[close + 1 : close + 2] not in (b"", self.delimiter):
                return Joined(why=_after_quote(line, close))
            if close + 1 == len(line):
                return self._ended(lines, first, number, line, len(line))
            place = close + 2

    def _to_open_quote(self, line: bytes, place: int) -> int:
        """Goes through the values of a line from `place` on.

        Returns:
          `_OPEN`: the last one is quoted and does not close. Else where it stopped: the length of the line, or the
          quote after which something else stands.
        """
        while True:
            if line[place : place + 1] == b'"':
                close = closing_quote(line, place + 1)
                if close < 0:
                    return _OPEN
                if close + 1 == len(line):
                    return len(line)
                if line[close + 1 : close + 2] != self.delimiter:
                    return close
                place = close + 2
            else:
                end = line.find(self.delimiter, place)
                if end < 0:
                    return len(line)
                place = end + 1

    def _ended(self, lines: Lines, first: int, last: int, line: bytes, place: int) -> Joined:
        if place < len(line):
            return Joined(why=_after_quote(line, place))
        if last == first + 1 and self._literal(lines.text(first)) and self._literal(line):
            return Joined(why=self._swallows(lines.first + last + 1))
        return Joined(last)

    def _opens_again(self, line: bytes, close: int) -> bool:
        """Whether a line that closes a value leaves another one open: then it is not the last of its record."""
        return line[close + 1 : close + 2] == self.delimiter and self._to_open_quote(line, close + 2) == _OPEN

    def _literal(self, line: bytes) -> bool:
        return line.count(self.delimiter) + 1 == self.fields

    def _is_record(self, line: bytes) -> bool:
        if b'"' not in line:
            return bool(line) and self._literal(line)
        fields = fields_of(line, self.delimiter)
        return fields is not None and len(fields) == self.fields

    def _unclosed(self, at_end: bool) -> str:
        where = "to the end of the file" if at_end else f"within `max_record_bytes`={self.longest}"
        return f"a quoted value does not close {where}"

    def _swallows(self, line: int) -> str:
        return f"a quoted value goes on into line {line}, which is a record by itself: the quote is a stray one"


def _after_quote(line: bytes, quote: int) -> str:
    shown = line[quote + 1 : quote + 17].decode("utf-8", "backslashreplace")
    return f"a quoted value is followed by {shown!r}, not by a delimiter or a line end"
