"""Settings and specs that contradict the log, or themselves: an error before anything is read twice."""

from __future__ import annotations

from typing import Any

from tests.features.ingest.suite.case import (
    FIRST,
    SPEC,
    BadInput,
    good,
    lines,
    refused,
)

WIDE = lines(*(f"{each},x" for each in good()), header="request_id,timestamp,user_id,item_id,click,hour,extra")
FILES = {"impressions/a.csv": WIDE}


def feature(name: str, *parts: str, **values: Any) -> BadInput:
    """A spec with a further feature, which is refused."""
    given = {"name": name, "table": "impressions", "column": "extra"} | values
    label = values.get("column", "extra")
    parts = parts or (name,)
    return refused(f"feature_{name}_{label}", FILES, *parts, spec={"features": [*SPEC["features"], given]})


def setting(name: str, *parts: str, tables: dict | None = None, files: dict | None = None, **config: Any) -> BadInput:
    return refused(name, files or FIRST, *parts, config=config, tables=tables or {})


SETTINGS = (
    *(
        feature(name)
        for name in ("user_index", "history_end", "position", "split", "propensity", "request_id", "timestamp", "click")
    ),
    feature("extra_click", "click", column="click"),
    feature("extra_exta", "exta", "extra", column="exta"),
    feature("extra_Extra", "Extra", "extra", column="Extra"),
    feature("extra_city", "users", table="users", column="city"),
    setting("label_named_like_a_feature", "hour", labels=["hour"]),
    setting("label_named_like_a_key", "user_id", labels=["user_id"]),
    setting("label_named_position", "position", labels=["position"]),
    setting("label_of_a_feature_s_column", "hour", labels=[{"name": "buy", "column": "hour"}]),
    setting(
        "label_value_named_like_a_feature",
        "cost_value",
        labels=[{"name": "cost", "column": "click", "value": "click"}],
        files={**FIRST, "items/items.csv": "item_id,cost_value\ni1,2\n"},
    ),
    setting("label_that_is_a_feature_s_column", "hour", labels=[{"name": "late", "column": "hour", "at_least": 20}]),
    setting("label_without_a_column", "order", labels=["order"]),
    setting("window_infinite", "attribution_window_hours", attribution_window_hours=float("inf")),
    setting("window_beyond_all_times", "attribution_window_hours", attribution_window_hours=1e300),
    setting("window_of_nothing", "attribution_window_hours", attribution_window_hours=0),
    setting("window_that_is_nan", "attribution_window_hours", attribution_window_hours=float("nan")),
    setting("label_window_infinite", "window_hours", labels=[{"name": "click", "window_hours": float("inf")}]),
    setting("shards_beyond_their_numbers", "num_shards", num_shards=70_000),
    setting("end_of_log_that_is_no_date", "end_of_log", end_of_log="someday"),
    setting("end_of_log_without_a_zone", "end_of_log", end_of_log="2026-11-25T18:00:00"),
    setting("split_of_dates_and_fractions", "train_until", split={"train_until": "2026-11-25", "eval_fraction": 0.1}),
    setting(
        "split_dates_in_the_wrong_order", "train_until", split={"train_until": "2026-11-25", "eval_until": "2026-11-24"}
    ),
    setting("split_fractions_that_leave_nothing", "eval_fraction", split={"eval_fraction": 0.5, "test_fraction": 0.5}),
    setting("split_column_that_is_not_there", "part", split={"by": "column", "column": "part"}),
    setting("unknown_key", "num_shard", "num_shards", num_shard=3),
    setting(
        "unknown_table",
        "impresions",
        "impressions",
        tables={"impressions": {}},
        files={**FIRST, "impresions/a.csv": WIDE},
    ),
    setting("unknown_encoding", "encoding", "utf-9", tables={"impressions": {"encoding": "utf-9"}}),
    setting("encoding_of_no_text", "encoding", "hex", tables={"impressions": {"encoding": "hex"}}),
    setting("wrong_encoding", "a.csv", tables={"impressions": {"encoding": "utf-16"}}),
    setting("delimiter_of_two_characters", "delimiter", tables={"impressions": {"delimiter": "||"}}),
    setting("delimiter_that_is_a_quote", "delimiter", tables={"impressions": {"delimiter": '"'}}),
    setting("delimiter_that_is_not_in_the_file", "a.csv", "request_id", tables={"impressions": {"delimiter": ";"}}),
    setting("unknown_format", "format", tables={"impressions": {"format": "xlsx"}}),
    setting("wrong_format", "a.csv", tables={"impressions": {"format": "parquet"}}),
    setting(
        "column_that_is_not_there", "userid", "user_id", tables={"impressions": {"columns": {"user_id": "userid"}}}
    ),
    setting("request_columns_that_are_not_there", "session", request_columns=["session"]),
    setting("items_without_their_id", "item_id", files={**FIRST, "items/items.csv": "id,price\ni1,2\n"}),
    setting(
        "items_with_their_id_in_another_case",
        "item_id",
        "Item_ID",
        files={**FIRST, "items/items.csv": "Item_ID,price\ni1,2\n"},
    ),
    setting(
        "feature_column_of_another_case", "price", "Price", files={**FIRST, "items/items.csv": "item_id,Price\ni1,2\n"}
    ),
)
