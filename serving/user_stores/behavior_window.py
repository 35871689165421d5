"""A user's newest behaviours, oldest first, to which more are added as they come, in whatever order.

What a window holds depends on the behaviours alone, and not on when they came: those that came twice are known by their
time and item, and those that are older than a full window are left out as a rebuild would leave them out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from features.histories.windows import ITEM, TIMESTAMP

Row = Mapping[str, Any]


class Outcome(str, Enum):
    """What became of a behaviour.

    Attributes:
      ADDED: it is in the window.
      REPEATED: it was there before, or had been and was followed by newer ones.
      TOO_OLD: the window is full of newer ones.
    """

    ADDED = "added"
    REPEATED = "repeated"
    TOO_OLD = "too_old"


@dataclass(frozen=True)
class Addition:
    """What adding a behaviour to a window did.

    Attributes:
      outcome: what became of the behaviour.
      place: where it stood before the oldest left; None: nowhere.
      left: the oldest behaviour, if it left.
    """

    outcome: Outcome
    place: int | None = None
    left: dict[str, Any] | None = None


@dataclass
class BehaviorWindow:
    """The last behaviours of a user by time; of one time, as they came.

    Attributes:
      columns: {name: values}, oldest first: `timestamp`, UTC milliseconds, `item_id` and the other history features.
      length: how many it holds, at most.
      left_until: time of the newest behaviour that newer ones have pushed out; None: none was.
      left_items: items of the behaviours of that time that were pushed out.
    """

    columns: dict[str, list]
    length: int
    left_until: int | None = None
    left_items: tuple = ()

    @classmethod
    def of_log(cls, columns: dict[str, list], length: int) -> BehaviorWindow:
        """Returns the window of a whole log of a user's behaviours, sorted by time."""
        times, items = columns[TIMESTAMP], columns[ITEM]
        first = max(0, len(times) - length)
        window = cls({name: values[first:] for name, values in columns.items()}, length)
        if first:
            window.left_until = times[first - 1]
            same = range(times.index(window.left_until), first)
            window.left_items = tuple(items[place] for place in same)
        return window

    @classmethod
    def empty(cls, names: tuple[str, ...], length: int) -> BehaviorWindow:
        """Returns the window of a user who did nothing so far; `names` are those of the columns."""
        return cls({name: [] for name in names}, length)

    def __len__(self) -> int:
        return len(self.columns[TIMESTAMP])

    def rows(self, last: int | None = None) -> list[dict[str, Any]]:
        """Returns the last behaviours, all by default, oldest first: `{name: value}` each."""
        first = 0 if last is None else max(0, len(self) - last)
        names = tuple(self.columns)
        return [
            dict(zip(names, row, strict=True)) for row in zip(*(self.columns[n][first:] for n in names), strict=True)
        ]

    def row(self, place: int) -> dict[str, Any]:
        """Returns one behaviour."""
        return {name: values[place] for name, values in self.columns.items()}

    def add(self, row: Row) -> Addition:
        """Adds a behaviour at its place by time, behind those of the same time; a full window loses its oldest.

        Args:
          row: `timestamp`, `item_id`, and other features, of which absent ones are null.
        """
        time, item = row[TIMESTAMP], row[ITEM]
        times = self.columns[TIMESTAMP]
        place = bisect_right(times, time)
        if self._holds(time, item, place):
            return Addition(Outcome.REPEATED)
        if self.left_until is not None and time < self.left_until:
            return Addition(Outcome.TOO_OLD)
        for name, values in self.columns.items():
            values.insert(place, row.get(name))
        left = self._drop_oldest()
        # What was pushed out as soon as it came changed nothing, but is remembered.
        return Addition(Outcome.TOO_OLD) if left is not None and not place else Addition(Outcome.ADDED, place, left)

    def to_json(self) -> dict[str, Any]:
        """Returns the window as values of JSON, without its length."""
        return {"behaviors": self.columns, "left": [self.left_until, list(self.left_items)]}

    @classmethod
    def from_json(cls, values: dict[str, Any], length: int) -> BehaviorWindow:
        """The inverse of `to_json`; `length` is that of all windows of a store."""
        left_until, left_items = values["left"]
        return cls(values["behaviors"], length, left_until, tuple(left_items))

    def _drop_oldest(self) -> dict[str, Any] | None:
        """Takes the oldest behaviour out of a window that holds one too many, and returns it; None: it does not."""
        if len(self) <= self.length:
            return None
        row = {name: values.pop(0) for name, values in self.columns.items()}
        time = row[TIMESTAMP]
        self.left_items = (*self.left_items, row[ITEM]) if time == self.left_until else (row[ITEM],)
        self.left_until = time
        return row

    def _holds(self, time: int, item: str | int, place: int) -> bool:
        times, items = self.columns[TIMESTAMP], self.columns[ITEM]
        while place and times[place - 1] == time:
            place -= 1
            if items[place] == item:
                return True
        return time == self.left_until and item in self.left_items
