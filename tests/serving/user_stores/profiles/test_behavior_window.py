"""A window is what its behaviours make it, whatever the order in which they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.user_stores.append_log import Mark
from serving.user_stores.behavior_window import BehaviorWindow, Outcome
from serving.user_stores.bse.appending import AppendPlan

COLUMNS = ("timestamp", "item_id")
#: Few times and items: ties and repetitions are common.
ROWS = st.lists(st.tuples(st.integers(1, 12), st.sampled_from("abcd")), max_size=40)


def rows_of(events):
    return [dict(zip(COLUMNS, event, strict=True)) for event in events]


def first_of_each(events):
    return list(dict.fromkeys(events))


def of_log(events, length):
    """The window of a log: behaviours sorted by time, of one time as they came."""
    ordered = sorted(events, key=lambda event: event[0])
    columns = {name: [event[place] for event in ordered] for place, name in enumerate(COLUMNS)}
    return BehaviorWindow.of_log(columns, length)


@given(ROWS, st.integers(0, 6), st.integers(0, 40))
def test_adding_one_by_one_is_building_anew(events, length, known):
    known = min(known, len(events))
    window = of_log(first_of_each(events[:known]), length)
    for row in rows_of(events[known:]):
        window.add(row)
    rebuilt = of_log(first_of_each(events), length)
    assert window.columns == rebuilt.columns and window.left_until == rebuilt.left_until
    assert set(window.left_items) == set(rebuilt.left_items)


@given(ROWS, st.integers(0, 4), st.integers(0, 4), st.integers(0, 40))
def test_what_enters_and_leaves_is_the_difference_of_the_tables(events, short, long, known):
    """A table holds the behaviours of its window before the short history: the moves make the one of the other."""
    known = min(known, len(events))

    def table(window):
        return [tuple(row.values()) for row in window.rows()][: max(0, len(window) - short)]

    window = of_log(first_of_each(events[:known]), short + long)
    plan = AppendPlan(Mark(b""), Mark(b""), windows={"u": window})
    held = table(window)
    for row in rows_of(events[known:]):
        moves = len(plan.moves)
        plan.add("u", row, short)
        for move in plan.moves[moves:]:
            what = tuple(move.row.values())
            held.remove(what) if move.expires else held.append(what)
        assert sorted(held) == sorted(table(window)) and len(plan.moves) - moves <= 2
    assert len(plan.outcomes) == len(events) - known


def test_what_is_said_of_a_behavior():
    window = of_log([(2, "a"), (4, "b"), (6, "c")], 3)
    assert window.add({"timestamp": 4, "item_id": "b"}).outcome is Outcome.REPEATED
    assert window.add({"timestamp": 1, "item_id": "a"}).outcome is Outcome.TOO_OLD
    added = window.add({"timestamp": 5, "item_id": "d", "unasked": 1})
    assert (added.outcome, added.place) == (Outcome.ADDED, 2) and added.left == {"timestamp": 2, "item_id": "a"}
    assert [row["item_id"] for row in window.rows()] == ["b", "d", "c"]
    # It was there, and newer ones have pushed it out.
    assert window.add({"timestamp": 2, "item_id": "a"}).outcome is Outcome.REPEATED
    assert window.add({"timestamp": 2, "item_id": "z"}).outcome is Outcome.TOO_OLD
    assert [row["item_id"] for row in window.rows(2)] == ["d", "c"]


@pytest.mark.parametrize("length", [0, 3])
def test_a_window_comes_back_from_json(length):
    window = of_log([(2, "a"), (2, "b"), (4, "b"), (6, "c"), (6, "d")], length)
    back = BehaviorWindow.from_json(window.to_json(), length)
    assert back == window and len(back) == length
