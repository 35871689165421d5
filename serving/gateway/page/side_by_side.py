"""Two answers to one request, of two releases: what is the same, what moved, what only one of them lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.gateway.page.view import AnswerView, ItemLine, StageLine, arrow
from serving.gateway.page.words import STAGES


@dataclass(frozen=True)
class ListedMark:
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
      stages: (title, the stage here, the stage there); None where a release has none.
      shared: items that both list.
      kept: items that both list at the same place.
      same_release: whether both answers are of one release, so that nothing can differ but the hour.
    """

    here: AnswerView
    there: AnswerView
    rows: tuple[tuple[int, ListedMark | None, ListedMark | None], ...]
    stages: tuple[tuple[str, StageLine | None, StageLine | None], ...]
    shared: int
    kept: int
    same_release: bool


def side_by_side(here: AnswerView, there: AnswerView) -> SideBySide:
    """Compares two lists; marks say how an item moved from the list `here` to the one `there`."""
    places = [{line.name: place for place, line in enumerate(each.items, 1)} for each in (here, there)]
    left = _marks(here.items, places[1], "leaves the list", 1)
    right = _marks(there.items, places[0], "new in the list", -1)
    longest = max(len(left), len(right))
    rows = tuple(
        (n + 1, left[n] if n < len(left) else None, right[n] if n < len(right) else None) for n in range(longest)
    )
    shared = sum(mark.kind != "only" for mark in left)
    kept = sum(mark.kind == "same" for mark in left)
    same_release = here.answer.release == there.answer.release
    return SideBySide(here, there, rows, _stages(here, there), shared, kept, same_release)


def _stages(here: AnswerView, there: AnswerView) -> tuple[tuple[str, StageLine | None, StageLine | None], ...]:
    of_here, of_there = ({stage.title: stage for stage in each.stages} for each in (here, there))
    titles = [title for title in STAGES.values() if title in of_here or title in of_there]
    return tuple((title, of_here.get(title), of_there.get(title)) for title in titles)


def _marks(lines: Sequence[ItemLine], others: dict[str, int], alone: str, sign: int) -> list[ListedMark]:
    found = []
    for place, line in enumerate(lines, 1):
        other = others.get(line.name)
        if other is None:
            found.append(ListedMark(line, "only", alone))
            continue
        # From the list here to the list there: up is a smaller place there.
        climbed = sign * (place - other)
        kind = "same" if not climbed else "up" if climbed > 0 else "down"
        text = "same place" if not climbed else f"{arrow(climbed)}, {'to' if sign > 0 else 'from'} place {other}"
        found.append(ListedMark(line, kind, text))
    return found
