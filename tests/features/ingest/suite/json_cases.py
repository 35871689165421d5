"""JSON Lines that are not what they should be."""

from __future__ import annotations

import json
from pathlib import Path

from tests.drills.ingest.naive_ingest.compare import requests_of
from tests.features.ingest.suite.case import (
    BAD_LINE,
    FIRST,
    GOOD,
    SPEC,
    BadInput,
    Content,
    T,
    as_json,
    good,
    lines,
    refused,
    row,
    spoilt_json,
)

LINE = BAD_LINE - 1
SPARSE = {"limits": {"missing": 1.0}}
FILE = "impressions/a.jsonl"
TAGS = {"features": [*SPEC["features"], {"name": "marks", "table": "impressions", "kind": "multi_categorical"}]}
ROW = row()


def letter(name: str, reason: str, *bad: str | bytes, **more) -> BadInput:
    found = list(range(LINE, LINE + len(bad)))
    return BadInput(name, {FILE: spoilt_json(*bad)}, {"impressions": {reason: found}}, **more)


def kept(name: str, *rows: str, **more) -> BadInput:
    return BadInput(name, {FILE: spoilt_json(*rows)}, {}, counts={"impressions": {"kept": GOOD + len(rows)}}, **more)


def users_are(*expected: object):
    """Checks which users the requests have beside `u0` to `u2`."""

    def check(folder: Path) -> None:
        found = requests_of(folder / "out" / "examples", folder / "out" / "behaviors")
        users = {request["user_id"] for request in found.values()} - {"u0", "u1", "u2"}
        assert users == set(expected), users

    return check


def feature_is(feature: str, **by_request: object):
    """Checks a feature of requests."""

    def check(folder: Path) -> None:
        found = requests_of(folder / "out" / "examples", folder / "out" / "behaviors")
        given = {request: found[request][feature] for request in by_request}
        assert given == by_request, given

    return check


def with_late_column() -> bytes:
    """The column `hour` first stands behind more than a MiB."""
    early = [as_json(each, pad="x" * 1000) for each in good(1200)]
    early = [json.dumps({k: v for k, v in json.loads(each).items() if k != "hour"}) for each in early]
    return lines(*early, as_json(row("late"), hour=7), header=None)


def big_ids() -> list[str]:
    return [as_json(row(f"x{n}"), user_id=2**63 + n) for n in range(10)]


LINES = (
    letter("json_cut_off", "unparsable_row", as_json(ROW)[:-9], "{"),
    letter("json_array_line", "unparsable_row", "[1, 2]", f"[{as_json(ROW)}]"),
    letter("json_number_line", "unparsable_row", "7", "1.5"),
    letter("json_text_line", "unparsable_row", '"text"', "text", "null", "true"),
    letter("json_single_quotes", "unparsable_row", as_json(ROW).replace('"', "'")),
    letter("json_trailing_comma", "unparsable_row", as_json(ROW) + ",", as_json(ROW)[:-1] + ",}"),
    letter("json_two_objects_in_a_line", "unparsable_row", as_json(ROW) + as_json(ROW)),
    letter("json_nul_byte", "unparsable_row", as_json(ROW).encode() + b"\x00"),
    letter("json_no_utf_8", "unparsable_row", as_json(row(user="XX")).encode().replace(b"XX", b"\xff\xfe")),
    letter("json_long_record", "unparsable_row", as_json(ROW, pad="x" * 70_000)),
    letter("json_lone_surrogate", "unparsable_row", as_json(row(user="XX")).replace("XX", "\\ud800")),
    letter("json_nested_deep", "unparsable_row", '{"a":' * 9_000 + "1" + "}" * 9_000, "[" * 60_000),
    letter(
        "json_nested_deep_in_a_good_column",
        "unparsable_row",
        as_json(ROW)[:-1] + ', "x": ' + "[" * 20_000 + "]" * 20_000 + "}",
    ),
    letter("json_digits_without_end", "unparsable_row", '{"request_id": ' + "9" * 60_000),
    BadInput(
        "json_blank_lines",
        {FILE: spoilt_json("", "  ", as_json(ROW, user_id=None))},
        {"impressions": {"null_user_id": [LINE + 2]}},
        counts={"impressions": {"rows_in": GOOD + 1}},
    ),
    BadInput(
        "json_crlf_and_byte_order_mark",
        {FILE: b"\xef\xbb\xbf" + lines(*map(as_json, good()), "{", end="\r\n", header=None)},
        {"impressions": {"unparsable_row": [GOOD + 1]}},
    ),
    BadInput(
        "json_line_separators_in_a_value",
        {FILE: spoilt_json(json.dumps(json.loads(as_json(row(user="a\u2028b\u0085c"))), ensure_ascii=False), "{")},
        {"impressions": {"unparsable_row": [LINE + 1]}},
    ),
)

TYPES = (
    letter("json_list_for_an_id", "bad_value", as_json(ROW, user_id=["u1"])),
    letter("json_object_for_an_id", "bad_value", as_json(ROW, user_id={"id": "u1"}), as_json(ROW, item_id={})),
    letter("json_object_for_a_number", "bad_value", as_json(ROW, hour={"h": 1}), as_json(ROW, hour=[1])),
    letter("json_fraction_for_an_integer", "bad_value", as_json(ROW, hour=7.5), as_json(ROW, hour=2**53 * 1.0)),
    letter("json_integer_beyond_int64", "bad_value", as_json(ROW, hour=2**63), as_json(ROW, hour=-(2**70))),
    letter("json_text_for_an_integer", "bad_value", as_json(ROW, hour="seven"), as_json(ROW, hour="7h")),
    letter("json_list_for_a_timestamp", "bad_timestamp", as_json(ROW, timestamp=[T]), as_json(ROW, timestamp={})),
    letter(
        "json_missing_key",
        "null_user_id",
        json.dumps({k: v for k, v in json.loads(as_json(ROW)).items() if k != "user_id"}),
    ),
    letter("json_keys_of_another_case", "null_user_id", as_json(ROW).replace("user_id", "User_ID")),
    letter("json_empty_object", "null_request_id", "{}"),
    letter("json_label_that_is_text", "bad_label", as_json(ROW, click="yes"), as_json(ROW, click=[1])),
    BadInput(
        "json_big_integer_beside_a_bad_line",
        {FILE: spoilt_json(as_json(row("x"), user_id=2**63), "{")},
        {"impressions": {"unparsable_row": [LINE + 1]}},
        check=users_are(str(2**63)),
    ),
    kept("json_ids_from_2_63_stay_apart", *big_ids(), check=users_are(*(str(2**63 + n) for n in range(10)))),
    kept(
        "json_ids_above_2_53_beside_7_0",
        as_json(row("x0"), user_id=2**53 + 1),
        as_json(row("x1"), user_id=2**53 + 2),
        as_json(row("x2"), user_id=7.0),
        check=users_are(str(2**53 + 1), str(2**53 + 2), "7"),
    ),
    kept(
        "json_items_above_2_53_are_no_duplicates",
        as_json(row("x"), item_id=2**53 + 1),
        as_json(row("x"), item_id=2**53 + 2),
        as_json(row("x"), item_id=7.0),
    ),
    kept(
        "json_whole_numbers", as_json(row("x"), hour=7.0, timestamp=float(T), click=True), check=feature_is("hour", x=7)
    ),
    kept(
        "json_numbers_as_text", as_json(row("x"), hour="7", timestamp=str(T), click="1"), check=feature_is("hour", x=7)
    ),
    kept("json_strings_like_dates", as_json(row("x"), user_id="2023-11-14"), check=users_are("2023-11-14")),
    kept(
        "json_text_and_numbers_in_one_column",
        as_json(row("x"), user_id=5),
        as_json(row("y"), user_id="five"),
        as_json(row("z"), user_id="5"),
        check=users_are("5", "five"),
    ),
    kept(
        "json_list_that_begins_with_null",
        *(as_json(row(f"x{n}"), marks=marks) for n, marks in enumerate([[None, "a"], [None], [], ["b"], None])),
        spec=TAGS,
        check=feature_is("marks", x1=[None], x2=[], x3=["b"], x4=None),
    ),
    letter(
        "json_list_with_an_object",
        "bad_value",
        as_json(ROW, marks=[{"a": 1}]),
        as_json(ROW, marks=[["a"]]),
        spec=TAGS,
        config=SPARSE,
    ),
    BadInput(
        "json_column_after_the_first_mib",
        {FILE: with_late_column()},
        {},
        check=feature_is("hour", late=7),
        counts={"impressions": {"kept": 1201}},
    ),
)


def second(content: Content, name: str = "impressions/b.jsonl") -> dict[str, Content]:
    return {**FIRST, name: content}


FILES = (
    refused(
        "json_array_over_a_file", second("[" + ",\n".join(map(as_json, good())) + "]\n"), "b.jsonl", "one object a line"
    ),
    refused(
        "json_array_in_one_line", second("[" + ", ".join(map(as_json, good())) + "]"), "b.jsonl", "one object a line"
    ),
    refused(
        "json_laid_out_over_lines",
        second("\n".join(json.dumps(json.loads(as_json(g)), indent=1) for g in good())),
        "b.jsonl",
    ),
    refused("json_named_csv", second(lines(*map(as_json, good()), header=None), "impressions/b.csv"), "b.csv"),
    refused("csv_named_jsonl", second(lines(*good())), "b.jsonl"),
    refused("json_of_another_table", second('{"item_id": "i1", "price": 2}\n'), "b.jsonl", "request_id"),
    refused(
        "json_manifest_beside_the_logs",
        second(json.dumps({"files": ["a.csv"], "rows": 20}), "impressions/manifest.json"),
        "manifest.json",
    ),
    BadInput(
        "json_empty_file",
        {"impressions/a.jsonl": b"", "impressions/b.jsonl": lines(*map(as_json, good()), "{", header=None)},
        {"impressions": {"unparsable_row": [GOOD + 1]}},
    ),
    refused("json_file_of_nul_bytes", second(b"\x00" * 100), "b.jsonl"),
    refused(
        "json_in_utf_16",
        second(lines(*map(as_json, good()), header=None).decode().encode("utf-16")),
        "b.jsonl",
        "encoding",
    ),
    BadInput(
        "json_beside_csv",
        second(lines(as_json(row("x")), as_json(row("y"), hour="x"), header=None)),
        {"impressions": {"bad_value": [2]}},
        counts={"impressions": {"kept": GOOD + 1}},
    ),
    BadInput(
        "json_by_format_whatever_its_name",
        {"impressions/events.log": lines(*map(as_json, good()), "{", header=None)},
        {"impressions": {"unparsable_row": [GOOD + 1]}},
        tables={"impressions": {"format": "jsonl"}},
    ),
)

JSON = (*LINES, *TYPES, *FILES)
