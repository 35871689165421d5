"""Rows that repeat others or contradict them: what stays, and what is counted or refused."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ingest.joining.repeats import count_differences, find_duplicates, groups_of, largest
from tests.builders.ingest_case import HOUR, ITEMS, USERS, Case, T, clicks, impressions

DAY = 24 * HOUR


@pytest.fixture(scope="module")
def logged_again(tmp_path_factory) -> Case:
    rows = [
        ("r1", T + 5, "ann", 1),  # the earliest of item 1 comes later, and was not clicked then
        ("r1", T, "ann", 1),
        ("r1", T, "ann", 2),
        ("r1", T + 9, "ann", 2),  # another shelf, and clicked
        ("r1", T, "ann", 3),
        ("r1", T, "ann", 3),  # another label alone
        ("r1", T, "ann", 3),  # the same
    ]
    table = impressions(
        rows,
        click=[1.0, 0.0, 0.0, 0.5, 0.25, 0.75, 0.25],
        seen=[3.5, 1.5, None, 9.0, 4.0, 4.0, 4.0],
        position=[0, 0, 1, 1, 2, 2, 2],
    )
    table = table.set_column(table.column_names.index("shelf"), "shelf", [["a", "a", "b", "c", "d", "d", "d"]])
    tables = {"impressions": table, "items": ITEMS, "users": USERS}
    return Case(tmp_path_factory.mktemp("again"), tables, labels=({"name": "click", "value": "seen"},))


def test_the_earliest_row_stays_with_the_largest_label_and_its_value(logged_again):
    request = logged_again.requests()["r1"]
    assert request["item_id"] == [1, 2, 3] and request["shelf"] == ["a", "b", "d"]
    assert request["click"] == [1.0, 0.5, 0.75]
    assert request["click_value"] == [3.5, 9.0, 4.0]
    assert request["timestamp"] == T


def test_repeats_are_told_apart(logged_again):
    table = logged_again.counts.tables["impressions"]
    assert (table.rows_in, table.kept, table.duplicates, table.merged, table.differing) == (7, 3, 4, 1, 2)
    assert any("2 of 4 duplicates differ" in warning for warning in logged_again.counts.warnings)


labels = st.sampled_from([0.0, 0.5, 1.0])
repeated = st.tuples(
    st.integers(0, 3), st.integers(0, 5), labels, st.none() | st.integers(0, 1), st.lists(st.integers(0, 1))
)


@given(st.lists(repeated, max_size=25))
def test_repeats_are_the_naive_ones(rows):
    keys, times = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    column = {
        "l:click": pa.array([row[2] for row in rows], pa.float32()),
        "f:one": pa.array([row[3] for row in rows], pa.int64()),
        "f:many": pa.array([None if len(row[4]) > 2 else row[4] for row in rows], pa.list_(pa.int64())),
    }
    skip = np.zeros(len(rows), bool)
    duplicate = find_duplicates(keys, times, skip)
    stays = {
        key: min((i for i in range(len(rows)) if keys[i] == key), key=lambda i: (times[i], i)) for key in set(keys)
    }
    assert set(np.flatnonzero(~duplicate)) == set(stays.values())
    unique, repeats = np.flatnonzero(~duplicate), np.flatnonzero(duplicate)
    merged = differing = 0
    for i in repeats:
        first, second = ({name: values[int(j)].as_py() for name, values in column.items()} for j in (i, stays[keys[i]]))
        other = any(first[name] != second[name] for name in ("f:one", "f:many"))
        merged, differing = merged + (not other and first != second), differing + other
    pairs = unique[groups_of(keys, unique, repeats)]
    assert count_differences(column, repeats, pairs) == (merged, differing)
    click = column["l:click"].to_numpy()
    best = largest(click, keys, times, unique, repeats)
    for row, key in zip(best, keys[unique], strict=True):
        same = [i for i in range(len(rows)) if keys[i] == key]
        assert row == min(same, key=lambda i: (-click[i], times[i], i))


def test_rows_two_days_apart_are_a_conflict_by_name(tmp_path):
    rows = [
        ("far", T, "ann", 1),
        ("far", T + 2 * DAY + 1, "ann", 2),
        ("near", T, "ann", 1),
        ("near", T + 2 * DAY, "ann", 2),
        ("both", T, "bob", 1),
        ("both", T + 3 * DAY, "cid", 2),
    ]
    rows += [(f"r{i}", T + i * HOUR, "ann", 3) for i in range(80)]
    clicked = [("far", 1, T), ("near", 1, T), ("both", 1, T)]
    tables = {"impressions": impressions(rows), "clicks": clicks(clicked), "items": ITEMS, "users": USERS}
    case = Case(tmp_path, tables, num_shards=5, label_maturity=False)
    assert {"far", "both"}.isdisjoint(case.requests()) and case.requests()["near"]["click"] == [1.0, 0.0]
    assert case.counts.tables["impressions"].reasons == {"request_conflict": 4}
    assert case.counts.tables["clicks"].reasons == {"request_conflict": 2}
    details = sorted((each["table"], each["line"], each["detail"]) for each in case.letters())
    apart, users = "the request has rows more than two days apart.", "the request has rows of two users."
    assert details == [
        ("clicks", 1, apart),
        ("clicks", 3, users),
        ("impressions", 1, apart),
        ("impressions", 2, apart),
        ("impressions", 5, users),
        ("impressions", 6, users),
    ]


def test_positions_are_given_to_all_rows_of_a_request_or_to_none(tmp_path):
    rows = [("r1", T, "ann", 1), ("r1", T, "ann", 2), ("r2", T, "ann", 3), ("r2", T, "ann", 1), ("r3", T, "bob", 1)]
    table = impressions(rows, position=pa.array([4, None, None, None, -1], pa.int64()), click=[0, 1, 0, 1, 0])
    case = Case(tmp_path, {"impressions": table, "items": ITEMS, "users": USERS})
    requests = case.requests()
    assert (requests["r1"]["item_id"], requests["r1"]["position"]) == ([1], [4])
    assert (requests["r2"]["item_id"], requests["r2"]["position"]) == ([3, 1], [0, 1])
    assert case.counts.tables["impressions"].reasons == {"bad_position": 2}
    assert {each["line"] for each in case.letters()} == {2, 5}
    (second,) = (json.loads(each["row"]) for each in case.letters() if each["line"] == 2)
    assert second["shelf"] == "s1" and second["click"] == 1.0 and second["position"] is None
