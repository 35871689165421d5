"""How a profile lies in the store: a checksum and JSON.

Behaviours are columns, so that a name stands once. `left` says what is needed to know an old behaviour again
(`BehaviorWindow`): the time of the newest behaviour that was pushed out, and the items of that time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving.user_stores.behavior_window import BehaviorWindow
from serving.user_stores.sealed import sealed, unsealed


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
        known = {name: value for name, value in features.items() if value is not None and value == value}  # NaN is none
        return sealed({"features": known, **window.to_json()})

    def decode(self, record: bytes | memoryview) -> tuple[dict[str, Any], BehaviorWindow]:
        """Turns a record into the request features and the window of behaviours. Raises `RecordError`."""
        values = unsealed(record)
        return values["features"], BehaviorWindow.from_json(values, self.length)

    def empty_window(self) -> BehaviorWindow:
        """Returns the window of a user without behaviours."""
        return BehaviorWindow.empty(self.columns, self.length)
