"""Physical lines of text: blocks that end at a line end, where each line stands, and lines that can be no record."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from features.log_contract import Reason

BLOCK_BYTES = 8 << 20

#: Of the text of a rejected record: dead letters show no more.
SHOWN_BYTES = 4096

NEWLINE, RETURN, QUOTE = 10, 13, 34


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A record of text that could not be parsed.

    Attributes:
      text: the record, cut at `SHOWN_BYTES`.
      what: what is wrong with it.
      position: its place in the unit, as in `RawBatch.positions`.
      reason: of the dead letter.
    """

    text: str
    what: str
    position: int
    reason: Reason = Reason.UNPARSABLE_ROW


#: Rows, the line of each in its unit from 0, and the records that are none.
Rows = tuple[pa.RecordBatch, np.ndarray, list[Rejected]]


class Lines:
    """The lines of a block, each with its line end.

    Attributes:
      data: the block; its last line has a line end too.
      bytes: the same, [bytes] uint8.
      first: the line of the unit that is the block's first, from 0.
    """

    def __init__(self, data: bytes, first: int):
        self.data, self.first = data, first
        self.bytes = np.frombuffer(data, np.uint8)
        self._count = int(np.count_nonzero(self.bytes == NEWLINE))

    def __len__(self) -> int:
        return self._count

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """Where the line after each begins, [L] int64."""
        return np.flatnonzero(self.bytes == NEWLINE) + 1

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where each line begins, [L] int64."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Of the lines without their line ends, [L] int64."""
        lengths = self.ends - self.starts - 1
        return lengths - ((lengths > 0) & (self.bytes[np.maximum(self.ends - 2, 0)] == RETURN))

    def plain(self, longest: int) -> bool:
        """Whether a glance shows that every line that is not blank is a record of CSV, if its values are as many.

        Args:
          longest: length of a record, in bytes.
        """
        data = self.data
        if b'"' in data or b"\r" in data or b"\0" in data or not (data.isascii() or _is_utf8(data)):
            return False
        place = -1
        while place + longest + 2 < len(data):
            before, place = place, data.rfind(b"\n", place + 1, place + longest + 2)
            if place <= before:
                return False
        return True

    def text(self, line: int) -> bytes:
        """Returns a line without its line end."""
        return self.data[self.starts[line] : self.starts[line] + self.lengths[line]]

    def holding(self, byte: int) -> np.ndarray:
        """Returns which lines hold a byte, rising."""
        return self.at(np.flatnonzero(self.bytes == byte))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Returns the lines of places in the block, rising, each once."""
        lines = np.searchsorted(self.ends, places, side="right")
        return lines[np.concatenate([[True], lines[1:] != lines[:-1]])] if len(lines) else lines

    def joined(self, keep: np.ndarray) -> bytes:
        """Returns the text of the lines where `keep` [L] holds."""
        if keep.all():
            return self.data
        edges = np.flatnonzero(np.diff(np.concatenate([[False], keep, [False]]).astype(np.int8)))
        runs = edges.reshape(-1, 2)
        return b"".join(self.data[self.starts[first] : self.ends[last - 1]] for first, last in runs)

    def reject(self, line: int, what: str) -> Rejected:
        """Returns a line as a dead letter."""
        text = self.text(line)[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
        return Rejected(text, what, self.first + int(line))

    def no_records(self, longest: int) -> dict[int, str]:
        """Returns which lines can be no record of any format, and why.

        Args:
          longest: length of a record, in bytes.
        """
        found: dict[int, str] = {}
        for line in np.flatnonzero(self.lengths > longest):
            found[int(line)] = f"longer than `max_record_bytes`={longest}"
        if b"\0" in self.data:
            found |= dict.fromkeys(map(int, self.holding(0)), "holds a NUL byte")
        if b"\r" in self.data:
            returns = np.flatnonzero(self.bytes == RETURN)
            lone = returns[self.bytes[returns + 1] != NEWLINE]
            found |= dict.fromkeys(map(int, self.at(lone)), "holds a carriage return that ends no line")
        if not (self.data.isascii() or _is_utf8(self.data)):
            found |= self._no_text()
        return found

    def _no_text(self) -> dict[int, str]:
        found = {}
        for line in self.at(np.flatnonzero(self.bytes >= 128)):
            try:
                self.data[self.starts[line] : self.ends[line]].decode("utf-8")
            except UnicodeDecodeError as error:
                found[int(line)] = f"bytes that are not of the table's `encoding`, at byte {error.start} of the line"
        return found


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class LineReader:
    """Cuts chunks of text into blocks that end at a line end.

    What a reader cannot use yet (a record that goes on in the next block) it gives back.
    """

    def __init__(self, chunks: Iterator[bytes], longest: int):
        self._chunks, self._longest = chunks, longest
        self._given_back = self._open = b""
        self._line = 0
        self.at_end = False

    def blocks(self) -> Iterator[Lines]:
        """Yields the blocks; a line that is longer than a record may be is cut, and stays too long."""
        while not self.at_end:
            data = self._next()
            if data:
                lines = Lines(data, self._line)
                self._line += len(lines)
                yield lines

    def give_back(self, lines: Lines, line: int) -> None:
        """Makes the next block begin with `line` of the block that was read last."""
        self._given_back = lines.data[lines.starts[line] :]
        self._line = lines.first + line

    def _next(self) -> bytes:
        parts, size, bare = [self._given_back, self._open], 0, 0
        self._given_back = self._open = b""
        while True:
            chunk = next(self._chunks, None)
            if chunk is None:
                self.at_end = True
                data = b"".join(parts)
                return data if not data or data.endswith(b"\n") else data + b"\n"
            cut = chunk.rfind(b"\n") + 1
            if cut:
                size, bare = size + len(chunk), 0
                if size >= BLOCK_BYTES:
                    self._open = chunk[cut:]
                    return b"".join([*parts, chunk[:cut]])
                parts.append(chunk)
            else:
                # Of a line that is too long anyway the rest is not kept.
                if bare <= self._longest:
                    parts.append(chunk)
                    size += len(chunk)
                bare += len(chunk)
