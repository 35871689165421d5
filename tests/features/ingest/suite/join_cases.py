"""Rows that are good alone and do not fit together: conflicts, repeats, clicks of nothing, dates far from all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.features.ingest.suite.case import (
    DAY,
    GOOD,
    HEADER,
    HOUR,
    MINUTE,
    BadInput,
    T,
    good,
    lines,
    row,
)
from tests.features.ingest.suite.json_cases import feature_is

CLICKS = "request_id,item_id,timestamp"
LABELLED = f"{CLICKS},label"
SHOWN = "request_id,timestamp,user_id,item_id,hour"
LAST = T + 10 * HOUR


def shown(*rows: tuple[str, int, str, str]) -> bytes:
    """Impressions of (request, time, user, item): a good one, those given, and the one at which the log ends."""
    given = [("first", T, "u1", "i1"), *rows, ("end", LAST, "u1", "i1")]
    return lines(*(f"{r},{t},{u},{i},3" for r, t, u, i in given), header=SHOWN)


def clicked(*rows: tuple[Any, ...], header: str = CLICKS) -> bytes:
    """Clicks of (request, item, time …), the first one good: line 2."""
    extra = {LABELLED: ",click", f"{LABELLED},price": ",click,"}.get(header, "")
    return lines(f"first,i1,{T + 1}{extra}", *(",".join(map(str, each)) for each in rows), header=header)


def joined(
    name: str,
    impressions: Sequence[tuple[str, int, str, str]],
    clicks: Sequence[tuple[Any, ...]],
    letters: dict,
    header: str = CLICKS,
    **more: Any,
) -> BadInput:
    files = {"impressions/a.csv": shown(*impressions), "clicks/a.csv": clicked(*clicks, header=header)}
    return BadInput(name, files, letters, **more)


R = ("r", T + HOUR, "u1", "i1")
MATURE = {"label_maturity": False}


def old_log(*more: str) -> bytes:
    """Three hundred impressions, an hour apart, and more."""
    return lines(*(row(f"r{n}", T + n * HOUR, click=n % 2) for n in range(300)), *more)


END_300 = T + 299 * HOUR

CLICKED = (
    joined("click_of_no_request", [R], [("nowhere", "i1", T)], {"clicks": {"unknown_request": [3]}}),
    joined(
        "click_of_an_item_that_was_not_shown", [R], [("r", "i2", T + HOUR)], {"clicks": {"unknown_impression": [3]}}
    ),
    joined(
        "click_before_its_impression", [R], [("r", "i1", T + HOUR - 1)], {"clicks": {"click_before_impression": [3]}}
    ),
    joined(
        "click_at_the_end_of_its_window",
        [R],
        [("r", "i1", T + 2 * HOUR)],
        {},
        counts={"clicks": {"kept": 2, "late": 0}},
    ),
    joined(
        "click_a_millisecond_late", [R], [("r", "i1", T + 2 * HOUR + 1)], {}, counts={"clicks": {"kept": 1, "late": 1}}
    ),
    joined(
        "click_that_repeats", [R], [("r", "i1", T + HOUR + 5)] * 3, {}, counts={"clicks": {"kept": 2, "duplicates": 2}}
    ),
    joined(
        "click_without_keys",
        [R],
        [("", "i1", T), ("r", "", T), ("r", "i1", ""), ("r", "i1", "x")],
        {"clicks": {"null_request_id": [3], "null_item_id": [4], "bad_timestamp": [5, 6]}},
    ),
    joined(
        "click_far_beyond_the_end",
        [R],
        [("r", "i1", T + 900 * DAY), ("nowhere", "i1", T + 900 * DAY)],
        {"clicks": {"in_the_future": [3, 4]}},
    ),
    joined(
        "click_at_the_end_and_a_window",
        [R],
        [("end", "i1", LAST + HOUR), ("end", "i1", LAST + HOUR + 1)],
        {"clicks": {"in_the_future": [4]}},
        counts={"clicks": {"immature": 1}},
    ),
    joined(
        "click_of_a_young_request",
        [R],
        [("end", "i1", LAST + 1)],
        {},
        counts={"clicks": {"immature": 1}, "impressions": {"immature": 1}},
    ),
    joined(
        "maturity_to_the_millisecond",
        [("old", LAST - HOUR, "u1", "i1"), ("young", LAST - HOUR + 1, "u1", "i1")],
        [],
        {},
        counts={"impressions": {"immature": 2, "kept": 2}},
    ),
    joined(
        "click_without_a_label",
        [R],
        [("r", "i1", T + HOUR, ""), ("r", "i1", T + HOUR, "NULL")],
        {"clicks": {"bad_label": [3, 4]}},
        header=LABELLED,
    ),
    joined(
        "click_of_another_label",
        [R],
        [("r", "i1", T + HOUR, "share"), ("r", "i1", T + HOUR, "Click")],
        {},
        header=LABELLED,
        counts={"clicks": {"ignored": 2, "kept": 1}},
    ),
    joined(
        "label_with_a_window_and_a_value",
        [R],
        [
            ("r", "i1", T + HOUR + 1, "order", "2.5"),
            ("r", "i1", T + HOUR + 2, "order", 9),
            ("r", "i1", T + 4 * HOUR, "order", "x"),
            ("r", "i1", T + 4 * HOUR + 1, "order", 1),
        ],
        {"clicks": {"bad_value": [5]}},
        header=LABELLED + ",price",
        config={"labels": [{"name": "order", "window_hours": 3, "value": "price"}]},
        counts={"clicks": {"kept": 2, "duplicates": 1, "late": 1}},
        check=feature_is("order_value", r=[2.5]),
    ),
    BadInput(
        "label_in_a_later_file_of_clicks",
        {
            "impressions/a.csv": shown(R),
            "clicks/a.csv": clicked(("r", "i1", T + HOUR)),
            "clicks/b.csv": lines(f"r,i1,{T + HOUR},click", f"r,i1,{T + HOUR},order", header=LABELLED),
        },
        {"clicks": {"bad_label": [2, 3]}},
        counts={"clicks": {"kept": 1, "ignored": 1}},
        config={"limits": {"bad_files": True}},
    ),
    BadInput(
        "clicks_of_no_rows",
        {"impressions/a.csv": shown(R), "clicks/a.csv": lines(header=CLICKS)},
        {},
        error=("click",),
    ),
)

TOGETHER = (
    joined(
        "request_of_two_users",
        [R, ("r", T + HOUR, "u2", "i2")],
        [("r", "i1", T + HOUR)],
        {"impressions": {"request_conflict": [3, 4]}, "clicks": {"request_conflict": [3]}},
    ),
    joined(
        "request_of_two_users_in_two_files",
        [R, ("r", T + HOUR, "u2", "i2"), ("r", T + HOUR, "u1", "i3")],
        [],
        {"impressions": {"request_conflict": [3, 4, 5]}},
    ),
    joined(
        "request_two_days_apart",
        [
            ("r", T, "u1", "i1"),
            ("r", T + 2 * DAY, "u1", "i2"),
            ("s", T, "u1", "i1"),
            ("s", T + 2 * DAY + 1, "u1", "i2"),
        ],
        [("s", "i1", T)],
        {"impressions": {"request_conflict": [5, 6]}, "clicks": {"request_conflict": [3]}},
        config=MATURE,
    ),
    joined(
        "impression_that_repeats",
        [R, R, R],
        [],
        {},
        counts={"impressions": {"duplicates": 2, "merged": 0, "differing": 0, "kept": 2}},
    ),
    BadInput(
        "impression_logged_again_with_its_label",
        {
            "impressions/a.csv": lines(
                *good(), row("x", click=0), row("x", click=1), row("x", click=0, hour=4), row("x", click=0)
            )
        },
        {},
        counts={"impressions": {"duplicates": 3, "merged": 1, "differing": 1, "kept": GOOD + 1}},
        check=feature_is("click", x=[1.0]),
    ),
    BadInput(
        "impression_logged_again_earlier",
        {"impressions/a.csv": lines(*good(), row("x", T + 5, hour=1), row("x", T, hour=2))},
        {},
        counts={"impressions": {"duplicates": 1}},
        check=feature_is("hour", x=2),
    ),
    BadInput(
        "repeats_over_files",
        {
            "impressions/a.csv": lines(*good()),
            "impressions/b.csv": lines(*good(4), row("x", hour=1)),
            "impressions/c.csv": lines(row("x", hour=2)),
        },
        {},
        counts={"impressions": {"duplicates": 5, "differing": 1, "kept": GOOD + 1}},
        check=feature_is("hour", x=1),
    ),
    BadInput(
        "behaviours_that_are_bad",
        {
            "impressions/a.csv": lines(*good()),
            "behaviors/a.csv": lines(
                f"u1,i1,{T}", f",i1,{T}", f"u1,,{T}", "u1,i1,x", f"u1,i1,{T}", header="user_id,item_id,timestamp"
            ),
        },
        {"behaviors": {"null_user_id": [3], "null_item_id": [4], "bad_timestamp": [5]}},
        counts={"behaviors": {"kept": 2}},
    ),
    BadInput(
        "users_that_are_bad",
        {
            "impressions/a.csv": lines(*good()),
            "users/a.csv": lines("u1,Oslo", ",Bergen", "u1,Oslo", "u2", header="user_id,city"),
        },
        {"users": {"null_user_id": [3], "unparsable_row": [5]}},
        counts={"users": {"kept": 1, "duplicates": 1}},
    ),
)

ENDS = (
    BadInput(
        "one_impression_of_2096",
        {"impressions/a.csv": old_log(row("far", 3_976_000_000_000))},
        {"impressions": {"in_the_future": [302]}},
        counts={"impressions": {"kept": 300}},
    ),
    BadInput(
        "three_impressions_far_apart",
        {"impressions/a.csv": old_log(*(row(f"far{n}", END_300 + (40 + n) * DAY) for n in range(3)))},
        {"impressions": {"in_the_future": [302, 303, 304]}},
    ),
    BadInput(
        "four_impressions_far_apart",
        {"impressions/a.csv": old_log(*(row(f"far{n}", END_300 + (40 + n) * DAY) for n in range(4)))},
        {},
        counts={"impressions": {"kept": 304}},
    ),
    BadInput(
        "one_impression_a_day_apart",
        {"impressions/a.csv": old_log(row("far", END_300 + DAY))},
        {},
        counts={"impressions": {"kept": 301}},
    ),
    BadInput(
        "one_impression_a_day_and_more_apart",
        {"impressions/a.csv": old_log(row("far", END_300 + DAY + 1))},
        {"impressions": {"in_the_future": [302]}},
    ),
    BadInput(
        "end_of_log_declared",
        {"impressions/a.csv": lines(*good(), row("x", T + HOUR), row("y", T + HOUR + 1))},
        {"impressions": {"in_the_future": [GOOD + 3]}},
        config={"end_of_log": T + HOUR},
    ),
    BadInput(
        "far_click_leaves_labels_mature",
        {
            "impressions/a.csv": lines(*(f"r{n},{T + n * MINUTE},u1,i1,3" for n in range(120)), header=SHOWN),
            "clicks/a.csv": clicked(("r0", "i1", T + 1), ("r0", "i1", 3_976_000_000_000)).replace(b"first", b"r1"),
        },
        {"clicks": {"in_the_future": [4], "click_before_impression": [2]}},
        counts={"impressions": {"immature": 60, "kept": 60}},
    ),
)

DATES = (
    BadInput(
        "splits_by_date",
        {
            "impressions/a.csv": lines(
                *good(), row("x", T + HOUR - 1), row("y", T + HOUR), row("z", T + 2 * HOUR), row("w", "2023-13-01")
            )
        },
        {"impressions": {"bad_timestamp": [GOOD + 5]}},
        config={"split": {"train_until": "2023-11-14T23:13:20Z", "eval_until": T + 2 * HOUR}},
        check=feature_is("split", r0="train", x="train", y="eval", z="test"),
    ),
    BadInput(
        "requests_of_two_columns",
        {
            "impressions/a.csv": lines(
                *(each.split(",", 1)[1] for each in good(GOOD)), "x,u8,i1,0,3", header=HEADER.split(",", 1)[1]
            )
        },
        {"impressions": {"bad_timestamp": [GOOD + 2]}},
        config={"request_columns": ["user_id", "timestamp"]},
    ),
)

JOINS = (*CLICKED, *TOGETHER, *ENDS, *DATES)
