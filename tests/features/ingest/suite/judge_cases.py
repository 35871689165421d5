"""Logs of good rows that cannot be trained on: LogIngest says so itself, after it wrote the account."""

from __future__ import annotations

from typing import Any

from tests.features.ingest.suite.case import (
    FIRST,
    GOOD,
    HOUR,
    SPEC,
    BadInput,
    Content,
    T,
    good,
    lines,
    row,
)
from tests.features.ingest.suite.join_cases import CLICKS, LABELLED, SHOWN

ITEMS = "item_id,price\n"
Files = dict[str, Content]


def judged(name: str, files: Files, *parts: str, letters: dict | None = None, **more: Any) -> BadInput:
    """An error that names what is wrong; the dead letters were written."""
    return BadInput(name, files, {} if letters is None else letters, parts, **more)


def impressions(count: int = 40, user: str = "u1", item: str = "i1") -> bytes:
    return lines(*(f"r{n},{T + n * HOUR},{user},{item},3" for n in range(count)), header=SHOWN)


def clicks(*labels: str) -> bytes:
    return lines(*(f"r{n},i1,{T + n * HOUR},{label}" for n, label in enumerate(labels)), header=LABELLED)


JUDGED = (
    judged(
        "nothing_kept",
        {"impressions/a.csv": lines(row("x"), row("x", user="u2"))},
        "kept",
        letters={"impressions": {"request_conflict": [2, 3]}},
    ),
    judged("no_rows_at_all", {"impressions/a.csv": lines()}, "no impression"),
    judged("no_positive", {"impressions/a.csv": lines(*(row(f"x{n}") for n in range(9)))}, "click"),
    judged(
        "train_is_empty",
        {"impressions/a.csv": lines(*good())},
        "train",
        config={"split": {"train_until": "2023-01-01", "eval_until": "2030-01-01"}},
    ),
    judged(
        "train_has_no_positive",
        {"impressions/a.csv": lines(*(row(f"x{n}", T + n, click=int(n > 90)) for n in range(100)))},
        "click",
        "train",
        config={"split": {"train_until": T + 80}},
    ),
    judged(
        "labels_of_another_case",
        {"impressions/a.csv": impressions(), "clicks/a.csv": clicks(*["Click"] * 20)},
        "Click",
        "click",
        counts={"clicks": {"ignored": 20}},
    ),
    judged(
        "labels_of_another_name",
        {"impressions/a.csv": impressions(), "clicks/a.csv": clicks(*["tap"] * 20)},
        "tap",
        counts={"clicks": {"ignored": 20}},
    ),
    judged(
        "clicks_without_impressions",
        {"impressions/a.csv": impressions(), "clicks/a.csv": lines(*(f"q{n},i1,{T}" for n in range(9)), header=CLICKS)},
        "click",
        letters={"clicks": {"unknown_request": list(range(2, 11))}},
    ),
    judged("items_are_all_unknown", {**FIRST, "items/items.csv": ITEMS + "1,2\n2,3\n"}, "unknown_items", "items"),
    judged("items_are_mostly_unknown", {**FIRST, "items/items.csv": ITEMS + "i1,2\n"}, "unknown_items"),
    judged(
        "users_are_all_unknown",
        {**FIRST, "users/a.csv": "user_id,city\n1,Oslo\n"},
        "unknown_users",
        spec={"features": [*SPEC["features"], {"name": "city", "table": "users"}]},
        config={"limits": {"missing": 1.0}},
    ),
    judged(
        "share_of_duplicates",
        {"impressions/a.csv": lines(*good() * 3)},
        "duplicates",
        counts={"impressions": {"duplicates": 2 * GOOD}},
    ),
    judged(
        "share_of_young_requests",
        {"impressions/a.csv": impressions(40), "clicks/a.csv": clicks(*["click"] * 4)},
        "immature",
        config={"attribution_window_hours": 37.0},
    ),
    judged(
        "feature_that_is_always_missing",
        {"impressions/a.csv": lines(*(each.rsplit(",", 1)[0] + "," for each in good()))},
        "hour",
        "missing",
    ),
    judged(
        "feature_of_items_that_is_always_missing",
        {**FIRST, "items/items.csv": ITEMS + "".join(f"i{n},\n" for n in range(5))},
        "price",
        "missing",
    ),
    judged(
        "share_of_bad_rows",
        {"impressions/a.csv": lines(*good(), *(row(user="") for _ in range(5)))},
        "null_user_id",
        "max_bad_row_fraction",
        letters={"impressions": {"null_user_id": list(range(GOOD + 2, GOOD + 7))}},
        config={"max_bad_row_fraction": 0.05},
    ),
    judged(
        "share_of_bad_items",
        {**FIRST, "items/items.csv": ITEMS + "".join(f"i{n},1\n" for n in range(5)) + "x,y\n" * 5},
        "items",
        letters={"items": {"bad_value": list(range(7, 12))}},
        config={"max_bad_row_fraction": 0.05},
    ),
    judged(
        "file_of_bad_rows_alone",
        {"impressions/a.csv": lines(*good(2000)), "impressions/b.csv": lines(row(time=5), row(time=6))},
        "b.csv",
        letters={"impressions": {"bad_timestamp": [2, 3]}},
        config={"max_bad_row_fraction": 0.05},
    ),
    judged(
        "file_of_bad_items_alone",
        {**FIRST, "items/other.csv": ITEMS + "x,cheap\n"},
        "other.csv",
        letters={"items": {"bad_value": [2]}},
    ),
    BadInput(
        "file_of_bad_rows_that_is_allowed",
        {"impressions/a.csv": lines(*good(2000)), "impressions/b.csv": lines(row(time=5), row(time=6))},
        {"impressions": {"bad_timestamp": [2, 3]}},
        config={"max_bad_row_fraction": 0.05, "limits": {"bad_files": True}},
    ),
    BadInput(
        "few_bad_rows_pass",
        {"impressions/a.csv": lines(*good(100), row(user=""))},
        {"impressions": {"null_user_id": [102]}},
        config={"max_bad_row_fraction": 0.05},
    ),
    judged(
        "seconds_for_milliseconds",
        {"impressions/a.csv": lines(*(row(f"x{n}", T // 1000 + n) for n in range(3000)))},
        "bad_timestamp",
        letters={"impressions": {"bad_timestamp": list(range(2, 3002))}},
        config={"max_bad_row_fraction": 0.05},
    ),
)
