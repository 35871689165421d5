"""How a profile lies in the store: a checksum and JSON.

Behaviours are columns, so that a name stands once. `left` says what is needed to know an old behaviour again
(`BehaviorWindow`): the time of the newest behaviour that was pushed out, and the items of that time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import google_crc32c
import orjson

from serving.profiles.behavior_window import BehaviorWindow
from serving.user_stores.user_keys import RecordError

_CHECKSUM_BYTES = 4


@dataclass(frozen=True)
class ProfileLayout:
    """What all profiles of a store hold.

    Attributes:
      features: names of the request features.
      columns: names of what a behaviour holds: `timestamp` and the history features.
      length: behaviours of a profile, at most.
    """

    features: tuple[str, ...]
    columns: tuple[str, ...]
    length: int

    def encode(self, features: dict[str, Any], window: BehaviorWindow) -> bytes:
        """Turns a profile into a record; features that are missing are left out."""
        known = {name: value for name, value in features.items() if value is not None}
        return sealed({"features": known, **window_to_json(window)})

    def decode(self, record: bytes | memoryview) -> tuple[dict[str, Any], BehaviorWindow]:
        """Turns a record into the request features and the window of behaviours. Raises `RecordError`."""
        values = unsealed(record)
        return values["features"], window_from_json(values, self.length)

    def empty_window(self) -> BehaviorWindow:
        """Returns the window of a user without behaviours."""
        return BehaviorWindow.empty(self.columns, self.length)


def window_to_json(window: BehaviorWindow) -> dict[str, Any]:
    """Returns a window as values of JSON."""
    return {"behaviors": window.columns, "left": [window.left_until, list(window.left_items)]}


def window_from_json(values: dict[str, Any], length: int) -> BehaviorWindow:
    """The inverse of `window_to_json`; `length` is that of all windows of the store."""
    left_until, left_items = values["left"]
    return BehaviorWindow(values["behaviors"], length, left_until, tuple(left_items))


def sealed(values: dict[str, Any]) -> bytes:
    """Returns values as JSON behind their CRC-32C."""
    text = orjson.dumps(values)
    return google_crc32c.value(text).to_bytes(_CHECKSUM_BYTES, "little") + text


def unsealed(record: bytes | memoryview) -> dict[str, Any]:
    """The inverse of `sealed`. Raises `RecordError` if the checksum is wrong."""
    text = bytes(record[_CHECKSUM_BYTES:])
    if google_crc32c.value(text) != int.from_bytes(record[:_CHECKSUM_BYTES], "little"):
        raise RecordError("the checksum of a record is wrong")
    return orjson.loads(text)
