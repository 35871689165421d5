"""Two answers to one request, of two releases: what is the same, what moved, what only one of them lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.gateway.page.view import Answer, ItemLine, arrow


@dataclass(frozen=True)
class Mark:
    """An item in one of the two lists.

    Attributes:
      line: the item.
      kind: `same`, `up`, `down`, or `only` where the other list does not have it.
      text: the difference in words.
    """

    line: ItemLine
    kind: str
    text: str


@dataclass(frozen=True)
class SideBySide:
    """The two lists, place by place; None where one is shorter.

    Attributes:
      here, there: the answers.
      rows: (place, item here, item there).
      shared: items that both list.
      kept: items that both list at the same place.
      same_release: whether both answers are of one release, so that nothing can differ but the hour.
    """

    here: Answer
    there: Answer
    rows: tuple[tuple[int, Mark | None, Mark | None], ...]
    shared: int
    kept: int
    same_release: bool


def side_by_side(here: Answer, there: Answer) -> SideBySide:
    """Compares two lists, each item with its place in the other; marks say how the item moved from `here` to `there`."""
    places = [{line.name: place for place, line in enumerate(each.items, 1)} for each in (here, there)]
    left = _marks(here.items, places[1], "leaves the list", 1)
    right = _marks(there.items, places[0], "new in the list", -1)
    longest = max(len(left), len(right))
    rows = tuple(
        (n + 1, left[n] if n < len(left) else None, right[n] if n < len(right) else None) for n in range(longest)
    )
    shared = sum(mark.kind != "only" for mark in left)
    kept = sum(mark.kind == "same" for mark in left)
    return SideBySide(here, there, rows, shared, kept, here.answer.release == there.answer.release)


def _marks(lines: Sequence[ItemLine], others: dict[str, int], alone: str, sign: int) -> list[Mark]:
    found = []
    for place, line in enumerate(lines, 1):
        other = others.get(line.name)
        if other is None:
            found.append(Mark(line, "only", alone))
            continue
        # From the list here to the list there: up is a smaller place there.
        climbed = sign * (place - other)
        kind = "same" if not climbed else "up" if climbed > 0 else "down"
        text = "same place" if not climbed else f"{arrow(climbed)}, {'to' if sign > 0 else 'from'} place {other}"
        found.append(Mark(line, kind, text))
    return found
