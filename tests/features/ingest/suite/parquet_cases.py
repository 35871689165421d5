"""Parquet that is damaged, or whose columns are of other types than a log's should be."""

from __future__ import annotations

import datetime
import decimal
import gzip

import pyarrow as pa
import pyarrow.parquet as pq

from tests.features.ingest.suite.case import (
    FIRST,
    GOOD,
    SPEC,
    BadInput,
    T,
    good,
    lines,
    refused,
    row,
    table_of,
)
from tests.features.ingest.suite.json_cases import feature_is, users_are
from tests.features.ingest.suite.packed_cases import damaged

FILE = "impressions/b.parquet"
PRICED = {"features": [*SPEC["features"], {"name": "cost", "table": "impressions", "kind": "numeric"}]}
MARKED = {"features": [*SPEC["features"], {"name": "marks", "table": "impressions", "kind": "multi_categorical"}]}
THREE = [row("x"), row("y"), row("z")]
NOON = datetime.datetime(2023, 11, 14, 12, tzinfo=datetime.timezone.utc)


def stored(table: pa.Table, **options) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


WHOLE = stored(table_of(good(4000)), compression="NONE", use_dictionary=False)


def beside(name: str, content: pa.Table | bytes, *parts: str) -> BadInput:
    return refused(name, {**FIRST, FILE: content}, "b.parquet", *parts)


def typed(name: str, letters: dict, *, spec: dict | None = None, check=None, **columns) -> BadInput:
    """Three good rows whose columns are of other types, beside a good file."""
    files = {**FIRST, FILE: table_of(THREE, **columns)}
    bad = sum(len(found) for found in letters.values())
    counts = {"impressions": {"kept": GOOD + 3 - bad}}
    config = {"limits": {"bad_files": True, "missing": 1.0}}
    return BadInput(
        name,
        files,
        {"impressions": letters} if letters else {},
        counts=counts,
        spec=spec or {},
        check=check,
        config=config,
    )


BROKEN = (
    beside("parquet_of_no_bytes", b""),
    beside("parquet_cut_off", WHOLE[: len(WHOLE) // 2]),
    beside("parquet_without_its_last_byte", WHOLE[:-1]),
    beside("parquet_of_its_magic_alone", b"PAR1"),
    beside("parquet_with_a_damaged_footer", damaged(WHOLE, (len(WHOLE) - 300) / len(WHOLE))),
    beside("parquet_with_a_wrong_footer_length", WHOLE[:-8] + b"\xff\xff\xff\x7fPAR1"),
    beside("parquet_with_an_encrypted_footer", WHOLE[:-4] + b"PARE"),
    beside("parquet_with_a_corrupt_page", WHOLE[:4] + b"\xff" * 40 + WHOLE[44:]),
    beside("parquet_in_a_gz", gzip.compress(WHOLE)),
    beside("csv_named_parquet", lines(*good())),
    refused("parquet_named_csv", {**FIRST, "impressions/b.csv": WHOLE}, "b.csv", "Parquet"),
    refused("parquet_named_jsonl", {**FIRST, "impressions/b.jsonl": WHOLE}, "b.jsonl", "Parquet"),
    refused("parquet_named_csv_gz", {**FIRST, "impressions/b.csv.gz": WHOLE}, "b.csv.gz"),
    beside("parquet_of_another_table", pa.table({"item_id": ["i1"], "price": [1.0]}), "request_id"),
    beside(
        "parquet_with_a_key_of_another_case",
        table_of(THREE).rename_columns(["request_id", "timestamp", "User_Id", "item_id", "click", "hour"]),
        "user_id",
        "User_Id",
    ),
)

TYPES = (
    typed(
        "parquet_durations_as_timestamps", {"bad_timestamp": [1, 2, 3]}, timestamp=pa.array([T] * 3, pa.duration("ms"))
    ),
    typed(
        "parquet_durations_as_a_feature",
        {"bad_value": [1, 2]},
        spec=PRICED,
        cost=pa.array([5, 6, None], pa.duration("s")),
    ),
    typed(
        "parquet_decimals",
        {},
        spec=PRICED,
        cost=pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.50")], pa.decimal128(10, 2)),
        check=feature_is("cost", x=1.25, y=None, z=-3.5),
    ),
    typed(
        "parquet_decimals_as_an_integer",
        {"bad_value": [2]},
        hour=pa.array([decimal.Decimal("7.00"), decimal.Decimal("7.50"), None], pa.decimal128(10, 2)),
    ),
    typed("parquet_dates", {}, timestamp=pa.array([NOON.date()] * 3, pa.date32())),
    typed("parquet_dates_of_64_bits", {}, timestamp=pa.array([NOON.date()] * 3, pa.date64())),
    typed(
        "parquet_times_of_day_as_timestamps",
        {"bad_timestamp": [1, 2, 3]},
        timestamp=pa.array([datetime.time(1)] * 3, pa.time64("us")),
    ),
    typed("parquet_times_with_a_zone", {}, timestamp=pa.array([NOON] * 3, pa.timestamp("us", "Europe/Oslo"))),
    typed("parquet_times_in_nanoseconds", {}, timestamp=pa.array([NOON] * 3, pa.timestamp("ns"))),
    typed(
        "parquet_times_in_seconds", {"bad_timestamp": [2]}, timestamp=pa.array([NOON, None, NOON], pa.timestamp("s"))
    ),
    typed("parquet_seconds_as_integers", {"bad_timestamp": [1, 2, 3]}, timestamp=pa.array([T // 1000] * 3)),
    typed(
        "parquet_timestamps_as_doubles", {"bad_timestamp": [2, 3]}, timestamp=pa.array([T + 0.0, T + 0.5, float("nan")])
    ),
    typed(
        "parquet_ids_of_a_dictionary",
        {"null_user_id": [2]},
        user_id=pa.array([7, None, 8]).dictionary_encode(),
        check=users_are("7", "8"),
    ),
    typed(
        "parquet_ids_as_doubles",
        {"null_user_id": [2]},
        user_id=pa.array([1e15, None, 7.0]),
        check=users_are("1000000000000000", "7"),
    ),
    typed(
        "parquet_ids_as_unsigned",
        {},
        user_id=pa.array([2**63, 2**64 - 1, 1], pa.uint64()),
        check=users_are(str(2**63), str(2**64 - 1), "1"),
    ),
    typed(
        "parquet_ids_as_large_text",
        {"null_user_id": [3]},
        user_id=pa.array(["a", "b", ""], pa.large_string()),
        check=users_are("a", "b"),
    ),
    typed(
        "parquet_ids_as_bytes",
        {"bad_value": [2]},
        user_id=pa.array([b"a", b"\xff", b"c"], pa.binary()),
        check=users_are("a", "c"),
    ),
    typed(
        "parquet_ids_as_structs",
        {"bad_value": [1, 3], "null_user_id": [2]},
        user_id=pa.array([{"id": 1}, None, {"id": 2}]),
    ),
    typed("parquet_ids_as_lists", {"bad_value": [1, 3], "null_user_id": [2]}, user_id=pa.array([["a"], None, []])),
    typed("parquet_ids_of_nothing", {"null_user_id": [1, 2, 3]}, user_id=pa.nulls(3)),
    typed("parquet_integer_beyond_int64", {"bad_value": [1]}, hour=pa.array([2**63, 7, None], pa.uint64())),
    typed("parquet_doubles_as_an_integer", {"bad_value": [2]}, hour=pa.array([7.0, 7.5, float("nan")])),
    typed("parquet_doubles_from_2_53", {"bad_value": [1, 3]}, hour=pa.array([2.0**53, 2.0**53 - 1, float("inf")])),
    typed(
        "parquet_truths_as_an_integer",
        {},
        hour=pa.array([True, False, None]),
        check=feature_is("hour", x=1, y=0, z=None),
    ),
    typed("parquet_text_as_an_integer", {"bad_value": [2]}, hour=pa.array(["7", "x", None])),
    typed(
        "parquet_single_floats",
        {},
        spec=PRICED,
        cost=pa.array([0.5, 1.5, None], pa.float32()),
        check=feature_is("cost", x=0.5, y=1.5, z=None),
    ),
    typed(
        "parquet_lists_of_fixed_size",
        {},
        spec=MARKED,
        marks=pa.array([["a", "b"], ["e", None], ["c", "d"]], pa.list_(pa.string(), 2)),
        check=feature_is("marks", x=["a", "b"], y=["e", None], z=["c", "d"]),
    ),
    typed(
        "parquet_large_lists",
        {},
        spec=MARKED,
        marks=pa.array([["a", "b"], None, []], pa.large_list(pa.string())),
        check=feature_is("marks", x=["a", "b"], y=None, z=[]),
    ),
    typed("parquet_lists_of_structs", {"bad_value": [1]}, spec=MARKED, marks=pa.array([[{"a": 1}], None, []])),
    typed(
        "parquet_maps",
        {"bad_value": [1, 2]},
        spec=MARKED,
        marks=pa.array([[("a", 1)], [("b", 2)], None], pa.map_(pa.string(), pa.int64())),
    ),
    typed("parquet_labels_as_truths", {"bad_label": [3]}, click=pa.array([True, False, None])),
    typed("parquet_labels_outside", {"bad_label": [1, 2, 3]}, click=pa.array([1.5, float("nan"), -1])),
)

MORE = (
    BadInput(
        "parquet_of_no_rows_first",
        {"impressions/a.parquet": table_of(good(2)).slice(0, 0), FILE: table_of([*good(), row(user="")])},
        {"impressions": {"null_user_id": [GOOD + 1]}},
    ),
    BadInput(
        "parquet_of_many_row_groups",
        {FILE: stored(table_of([*good(10), row(user=""), *good(10, 10), row(user="")]), row_group_size=3)},
        {"impressions": {"null_user_id": [11, 22]}},
    ),
    BadInput(
        "parquet_with_an_upper_case_suffix",
        {"impressions/B.PARQUET": table_of([*good(), row(user="")])},
        {"impressions": {"null_user_id": [GOOD + 1]}},
    ),
    BadInput(
        "parquet_without_a_suffix",
        {"impressions/part-00003": table_of([*good(), row(user="")])},
        {"impressions": {"null_user_id": [GOOD + 1]}},
    ),
    BadInput(
        "parquet_integers_beside_text_ids",
        {
            FILE: table_of(good(4), user_id=[7] * 4),
            "impressions/c.csv": lines(*good(GOOD, 4), row("x", user="7"), row("y", user="07")),
        },
        {},
        check=users_are("7", "07"),
    ),
)

PARQUET = (*BROKEN, *TYPES, *MORE)
