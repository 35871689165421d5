"""What appending to a bucket table needs beside the table, and its readers do not.

A state is a checksum, the length of the rest, the rest, and JSON: the user's window of behaviours, short and long
together (`BehaviorWindow`), from which it follows what enters the table with the next behaviour and what leaves it. The
rest is what the record's precision left of the exact sums (`features/histories/bucket_table.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np
import orjson

from features.histories.bucket_table import BucketTable
from features.histories.windows import ITEM, TIMESTAMP
from features.spec import HistorySpec
from serving.user_stores.behavior_window import BehaviorWindow
from serving.user_stores.bse.record import RecordLayout
from serving.user_stores.user_keys import RecordError

_NUMBER_BYTES = 4


@dataclass(frozen=True)
class StateLayout:
    """How the states of a store are read.

    Attributes:
      tables: the layout of its records.
      history: features and lengths of the windows.
    """

    tables: RecordLayout
    history: HistorySpec

    @property
    def columns(self) -> tuple[str, ...]:
        """What the windows hold of a behaviour."""
        return tuple(dict.fromkeys((TIMESTAMP, ITEM, *self.history.features)))

    @property
    def length(self) -> int:
        """Behaviours of a window: those of the short history and those of the table."""
        return self.history.short_length + self.history.long_length

    def encode(self, window: BehaviorWindow, rest: np.ndarray | None) -> bytes:
        """Turns a window, and the rest [G, 2 ** tau, d] of a table if there is one, into a state."""
        kept = b"" if rest is None else rest.astype(self._rest_type).tobytes()
        body = len(kept).to_bytes(_NUMBER_BYTES, "little") + kept + orjson.dumps(window.to_json())
        return google_crc32c.value(body).to_bytes(_NUMBER_BYTES, "little") + body

    def decode(self, state: bytes) -> tuple[BehaviorWindow, np.ndarray | None]:
        """The inverse of `encode`. Raises `RecordError` if the checksum is wrong."""
        body = state[_NUMBER_BYTES:]
        if google_crc32c.value(body) != int.from_bytes(state[:_NUMBER_BYTES], "little"):
            raise RecordError("the checksum of a state is wrong")
        end = _NUMBER_BYTES + int.from_bytes(body[:_NUMBER_BYTES], "little")
        rest = None
        if end > _NUMBER_BYTES:
            shape = (self.tables.num_groups, self.tables.num_buckets, self.tables.dim)
            rest = np.frombuffer(body[_NUMBER_BYTES:end], self._rest_type).reshape(shape).copy()
        return BehaviorWindow.from_json(orjson.loads(body[end:]), self.length), rest

    def empty_window(self) -> BehaviorWindow:
        """Returns the window of a user without behaviours."""
        return BehaviorWindow.empty(self.columns, self.length)

    @property
    def _rest_type(self) -> str:
        # Two float32 hold any exact sum below 4,096. What a coarser record leaves needs more digits.
        return "<f4" if self.tables.precision == "fp32" else "<f8"


def encode_exactly(
    layout: RecordLayout, exact: np.ndarray, counts: np.ndarray
) -> tuple[Sequence[memoryview], np.ndarray]:
    """Turns exact sums [U, G, 2 ** tau, d] float64 and counts into records, and what these leave, float64."""
    records = layout.encode(exact.astype(np.float32), counts)
    if layout.precision == "fp32":
        return records, exact - exact.astype(np.float32)
    held = [layout.decode(record).sums for record in records]
    return records, exact - (np.stack(held) if held else np.zeros_like(exact))


def exact_sums(table: BucketTable) -> np.ndarray:
    """Returns a table's sums, [G, 2 ** tau, d] float64, with the rest as far as it is known."""
    exact = table.sums.astype(np.float64)
    return exact if table.rest is None else exact + table.rest
