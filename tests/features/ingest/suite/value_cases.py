"""Values of a row that are missing, of another type or out of bounds: one CSV, its bad rows from `BAD_LINE` on."""

from __future__ import annotations

from typing import Any

from tests.features.ingest.suite.case import (
    DAY,
    GOOD,
    HEADER,
    BadInput,
    T,
    good,
    kept,
    lines,
    one_letter,
    row,
)
from tests.features.ingest.suite.json_cases import feature_is, users_are


def with_column(name: str, column: str, good_value: Any, bad: list[Any], reason: str | None, **more: Any) -> BadInput:
    """A further column: what stands in the good rows, and in the ones after them."""
    rows = [f"{each},{good_value(n) if callable(good_value) else good_value}" for n, each in enumerate(good())]
    rows += [f"{row(f'x{n}')},{value}" for n, value in enumerate(bad)]
    letters = {"impressions": {reason: list(range(GOOD + 2, GOOD + 2 + len(bad)))}} if reason else {}
    return BadInput(name, {"impressions/a.csv": lines(*rows, header=f"{HEADER},{column}")}, letters, **more)


def times(*given: Any) -> list[str]:
    return [row(f"x{n}", time=time) for n, time in enumerate(given)]


def unit(name: str, given: list[Any], bad: list[Any]) -> BadInput:
    """Timestamps of another unit."""
    scale = {"s": 1000, "us": 1 / 1000, "ns": 1 / 1_000_000}[name]
    rows = [row(f"g{n}", time=round((T + n * 60_000) / scale), click=1) for n in range(GOOD)]
    found = list(range(GOOD + len(given) + 2, GOOD + len(given) + len(bad) + 2))
    return BadInput(
        f"timestamps_in_{name}",
        {"impressions/a.csv": lines(*rows, *times(*given), *(row(f"y{n}", time=time) for n, time in enumerate(bad)))},
        {"impressions": {"bad_timestamp": found}},
        tables={"impressions": {"timestamp_unit": name}},
        counts={"impressions": {"kept": GOOD + len(given)}},
    )


BY_COLUMN = {"split": {"by": "column", "column": "part"}}


def last_is_eval(place: int) -> str:
    return "eval" if place >= GOOD - 2 else "train"


VALUES = (
    one_letter("missing_request", "null_request_id", row("")),
    one_letter("missing_user", "null_user_id", row(user="")),
    one_letter("missing_item", "null_item_id", row(item="")),
    one_letter("missing_timestamp", "bad_timestamp", row(time="")),
    one_letter("timestamp_in_seconds", "bad_timestamp", row(time=T // 1000)),
    one_letter("timestamp_in_microseconds", "bad_timestamp", row(time=T * 1000)),
    one_letter(
        "timestamp_outside", "bad_timestamp", row(time=99_999_999_999), row(time=4_102_444_800_001), row(time=-T)
    ),
    one_letter("timestamp_beyond_int64", "bad_timestamp", row(time=10**19), row(time=10**40)),
    one_letter("timestamp_with_a_fraction", "bad_timestamp", row(time=f"{T}.5"), row(time="0.5")),
    one_letter("timestamp_that_is_text", "bad_timestamp", row(time="soon"), row(time="14/11/2023"), row(time="NaN")),
    one_letter(
        "timestamp_iso_without_a_zone",
        "bad_timestamp",
        row(time="2023-11-14T22:13:20"),
        row(time="2023-11-14 22:13:20"),
    ),
    one_letter(
        "timestamp_of_no_day",
        "bad_timestamp",
        row(time="2023-02-30"),
        row(time="2023-02-30T00:00:00Z"),
        row(time="2023-11-14T25:00:00Z"),
    ),
    kept(
        "timestamps_with_one_meaning",
        *times(
            "2023-11-14T22:13:20Z",
            "2023-11-14T23:13:20.000+01:00",
            "2023-11-14T22:13:20.000000Z",
            f"{T}.0",
            f"+{T}",
            "2023-11-14",
        ),
        check=feature_is("timestamp", x0=T, x1=T, x2=T, x3=T, x4=T, x5=T // DAY * DAY),
    ),
    kept(
        "timestamps_of_the_spec_s_zone",
        *times("2023-11-14T23:13:20", "2023-11-14T22:13:20Z"),
        spec={"timezone": "Europe/Oslo"},
        check=feature_is("timestamp", x0=T, x1=T),
    ),
    unit("s", [T // 1000], [T]),
    unit("us", [T * 1000 + 999], [T]),
    unit("ns", [T * 1_000_000 + 1], [T]),
    with_column("position_negative", "position", 0, [-1, -9], "bad_position"),
    with_column("position_that_is_no_integer", "position", 0, [1.5, "x", "first"], "bad_position"),
    with_column("position_too_large", "position", 0, [2**31, 2**63, 10**30], "bad_position"),
    with_column(
        "positions_as_doubles", "position", 0, ["1.0", "7"], None, check=feature_is("position", x0=[1], x1=[7])
    ),
    BadInput(
        "position_missing_where_others_have_one",
        {
            "impressions/a.csv": lines(
                *(f"{each},{n % 2}" for n, each in enumerate(good())),
                f"{row('x')},0",
                f"{row('x', item='i2')},",
                f"{row('y')},",
                f"{row('y', item='i2')},",
                header=HEADER + ",position",
            )
        },
        {"impressions": {"bad_position": [GOOD + 3]}},
        counts={"impressions": {"kept": GOOD + 3}},
        check=feature_is("position", x=[0], y=[0, 1]),
    ),
    with_column("propensity_outside", "propensity", 0.5, [0, 1.5, -1, "inf"], "bad_propensity"),
    with_column("propensity_that_is_text", "propensity", 0.5, ["x", "50%"], "bad_propensity"),
    with_column("propensity_missing", "propensity", 0.5, ["", "NaN", 1], None),
    one_letter("label_outside", "bad_label", row(click=2), row(click=-1), row(click="inf")),
    one_letter("label_missing", "bad_label", row(click=""), row(click="NaN")),
    one_letter("label_that_is_text", "bad_label", row(click="yes"), row(click="1;0")),
    kept(
        "labels_with_one_meaning",
        row("x0", click="True"),
        row("x1", click="1.0"),
        row("x2", click="0.25"),
        check=feature_is("click", x0=[1.0], x1=[1.0], x2=[0.25]),
    ),
    with_column(
        "label_by_a_threshold",
        "stars",
        4,
        ["", "x"],
        "bad_label",
        config={"labels": [{"name": "liked", "column": "stars", "at_least": 4}]},
    ),
    with_column(
        "split_by_another_name", "part", last_is_eval, ["dev", "Train", "", "0"], "bad_split", config=BY_COLUMN
    ),
    one_letter("feature_with_a_fraction", "bad_value", row(hour=7.5), row(hour="7.000001")),
    one_letter("feature_beyond_int64", "bad_value", row(hour=2**63), row(hour=10**30), row(hour="1e19")),
    one_letter("feature_that_is_text", "bad_value", row(hour="x"), row(hour="7h"), row(hour="0x10"), row(hour="1_000")),
    one_letter("feature_that_is_infinite", "bad_value", row(hour="inf")),
    kept(
        "integers_as_parquet_takes_them",
        row("x0", hour="True"),
        row("x1", hour="7.0"),
        row("x2", hour=2**63 - 1),
        row("x3", hour="NaN"),
        row("x4", hour=-(2**63)),
        row("x5", hour="false"),
        check=feature_is("hour", x0=1, x1=7, x2=2**63 - 1, x3=None, x4=-(2**63), x5=0),
    ),
    BadInput(
        "numbers_of_items",
        {
            "impressions/a.csv": lines(*good()),
            "items/items.csv": 'item_id,price\ni0,1e3\ni1,inf\ni2,NaN\ni3,.5\ni4,x\ni5,1.5.2\ni6,"1,5"\n',
        },
        {"items": {"bad_value": [6, 7, 8]}},
    ),
    kept(
        "ids_stay_as_they_are",
        *(
            row(f"x{n}", user=user)
            for n, user in enumerate([" u", "u ", "U", "é", "e\u0301", "007", "7.0", "1e3", "True"])
        ),
        check=users_are(" u", "u ", "U", "é", "e\u0301", "007", "7.0", "1e3", "True"),
    ),
    BadInput(
        "ids_that_must_be_integers",
        {
            "impressions/a.csv": lines(
                *(each.replace(",u", ",") for each in good()),
                row("x", user="7.0"),
                row(user="seven"),
                row(user=2**63),
                row(user="1.5"),
            )
        },
        {"impressions": {"bad_value": [GOOD + 3, GOOD + 4, GOOD + 5]}},
        spec={
            "features": [
                {"name": "user_id", "table": "impressions", "dtype": "int64"},
                {"name": "hour", "table": "impressions", "dtype": "int64"},
            ]
        },
    ),
    BadInput(
        "two_faults_in_a_row",
        {
            "impressions/a.csv": lines(
                *good(),
                row("", time="x", user=""),
                row(time="x", user="", item=""),
                row(user="", item=""),
                row(item="", click=5),
                row(click=5, hour="x"),
            )
        },
        {
            "impressions": {
                "null_request_id": [GOOD + 2],
                "bad_timestamp": [GOOD + 3],
                "null_user_id": [GOOD + 4],
                "null_item_id": [GOOD + 5],
                "bad_label": [GOOD + 6],
            }
        },
    ),
    BadInput(
        "items_without_ids",
        {"impressions/a.csv": lines(*good()), "items/items.csv": "item_id,price\n,1\ni1,2\nNULL,3\ni1,9\n"},
        {"items": {"null_item_id": [2, 4]}},
        counts={"items": {"kept": 1, "duplicates": 1}},
        config={"limits": {"unknown_items": 1.0}},
    ),
)
