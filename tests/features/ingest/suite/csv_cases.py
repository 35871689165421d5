"""CSV that is not what it should be: quotes, lines, headers, encodings."""

from __future__ import annotations

from tests.features.ingest.suite.case import (
    BAD_LINE,
    FIRST,
    GOOD,
    HEADER,
    MINUTE,
    BadInput,
    T,
    good,
    kept,
    lines,
    one_letter,
    refused,
    row,
    spoilt,
)

MANY = 20_000
CUT = {"impressions": {"unparsable_row": [GOOD + 2]}}
BOUND = {"impressions": {"max_record_bytes": 1024}}


def many_with_a_stray_quote() -> bytes:
    rows = good(MANY)
    rows[5000] = f'"{rows[5000]}'
    return lines(*rows)


def second(*rows: str | bytes, header: str | None = HEADER, name: str = "impressions/b.csv") -> dict[str, bytes]:
    """A good file, and another one after it."""
    return {**FIRST, name: lines(*rows, header=header)}


QUOTES = (
    one_letter("quote_at_the_start_of_a_row", "unparsable_row", f'"{row()}'),
    one_letter("quote_at_the_start_of_a_value", "unparsable_row", f'bad,{T},"u1,i1,0,3'),
    one_letter("quote_closed_and_text_after_it", "unparsable_row", f'"bad"ly,{T},u1,i1,0,3'),
    one_letter("quotes_around_a_whole_row_twice", "unparsable_row", f'"{row()}', f'"{row()}'),
    BadInput(
        "quote_that_a_later_row_closes",
        {"impressions/a.csv": spoilt(f'bad,{T},"u1,i1,0,3', *good(3, 40), f'bad,{T},u1",i1,0,3')},
        {"impressions": {"unparsable_row": [BAD_LINE]}},
    ),
    BadInput(
        "quote_in_the_last_row_never_closed",
        {"impressions/a.csv": lines(*good(), f'bad,{T},u1,i1,0,"3')},
        {"impressions": {"unparsable_row": [GOOD + 2]}},
    ),
    BadInput(
        "quote_that_does_not_close_within_the_bound",
        {"impressions/a.csv": spoilt('bad,"' + "no record\n" * 200 + 'u1"')},
        {"impressions": {"unparsable_row": list(range(BAD_LINE, BAD_LINE + 201))}},
        tables=BOUND,
    ),
    BadInput(
        "one_quote_among_twenty_thousand_rows",
        {"impressions/a.csv": many_with_a_stray_quote()},
        {"impressions": {"unparsable_row": [5002]}},
        counts={"impressions": {"rows_in": MANY, "kept": MANY - 1}},
    ),
    kept("quote_inside_a_value", row("x", user='5"'), row("y", user='a"b"c')),
    kept("line_end_in_quotes", f'bad,{T},"two\nlines",i1,0,3'),
    kept("crlf_in_quotes", f'bad,{T},"two\r\nlines",i1,0,3'),
    kept("blank_line_in_quotes", f'bad,{T},"two\n\nlines",i1,0,3'),
    kept("delimiter_and_quote_in_quotes", f'bad,{T},"a, ""b""",i1,0,3'),
    BadInput(
        "line_end_in_the_first_value",
        {"impressions/a.csv": spoilt(f'"two\nlines",{T},u1,i1,0,3', row(user=""))},
        {"impressions": {"null_user_id": [BAD_LINE + 2]}},
        counts={"impressions": {"kept": GOOD + 1}},
    ),
    BadInput(
        "quote_in_the_header_of_the_second_file",
        second(*good(GOOD, GOOD), header='request_id,timestamp,"user_id,item_id,click,hour'),
        error=("b.csv",),
    ),
    BadInput(
        "quote_in_the_header_of_a_lone_file",
        {"impressions/a.csv": lines(*good(), header='"' + HEADER)},
        error=("a.csv",),
    ),
)

LINES = (
    one_letter("too_few_fields", "unparsable_row", "bad,1,2", "x"),
    one_letter("too_many_fields", "unparsable_row", row() + ",9", row() + ","),
    one_letter("two_rows_in_one_line", "unparsable_row", row() + row()),
    one_letter("record_longer_than_the_bound", "unparsable_row", row(user="u" * 70_000)),
    one_letter("record_longer_than_a_bound_that_is_set", "unparsable_row", row(user="u" * 1100), tables=BOUND),
    one_letter("nul_byte", "unparsable_row", row(user="a\x00b")),
    one_letter("line_of_nul_bytes", "unparsable_row", b"\x00" * 40),
    one_letter("bytes_that_are_no_utf_8", "unparsable_row", row().encode() + b"\xff\xfe"),
    one_letter("half_a_character", "unparsable_row", row(user="ö").encode().replace(b"\xc3\xb6", b"\xc3")),
    one_letter("header_again_in_the_middle", "bad_timestamp", HEADER),
    one_letter("trailing_semicolon", "bad_value", row() + ";"),
    BadInput(
        "blank_lines",
        {"impressions/a.csv": spoilt("", "", row(user=""), "")},
        {"impressions": {"null_user_id": [BAD_LINE + 2]}},
        counts={"impressions": {"rows_in": GOOD + 1}},
    ),
    BadInput(
        "crlf_everywhere",
        {"impressions/a.csv": lines(*good(), row(hour="x"), end="\r\n")},
        {"impressions": {"bad_value": [GOOD + 2]}},
    ),
    BadInput(
        "no_line_end_at_the_end",
        {"impressions/a.csv": lines(*good(), row(hour="x")).rstrip(b"\n")},
        {"impressions": {"bad_value": [GOOD + 2]}},
    ),
    BadInput(
        "byte_order_mark",
        {"impressions/a.csv": b"\xef\xbb\xbf" + lines(*good(), row(hour="x"))},
        {"impressions": {"bad_value": [GOOD + 2]}},
    ),
    BadInput(
        "letter_of_a_long_text_is_cut",
        {
            "impressions/a.csv": spoilt(row(user="u" * 70_000)),
            "items/items.csv": "item_id,price\ni1," + "9" * 60_000 + "x\n",
        },
        {"impressions": {"unparsable_row": [BAD_LINE]}, "items": {"bad_value": [2]}},
        config={"limits": {"bad_files": True, "unknown_items": 1.0, "missing": 1.0}},
    ),
)

HEADERS = (
    refused("second_file_without_a_header", second(*good(GOOD, GOOD), header=None), "b.csv", "request_id"),
    refused(
        "second_file_of_another_delimiter",
        second(*(each.replace(",", ";") for each in good()), header=HEADER.replace(",", ";")),
        "b.csv",
        "request_id",
    ),
    refused(
        "column_twice_in_a_header",
        {"impressions/a.csv": lines(*(g + ",1" for g in good()), header=HEADER + ",hour")},
        "a.csv",
        "hour",
    ),
    refused(
        "excel_separator_line", {"impressions/a.csv": lines(HEADER, *good(), header="sep=,")}, "a.csv", "request_id"
    ),
    BadInput("empty_file_first", {"impressions/a.csv": b"", "impressions/b.csv": lines(*good(), "x")}, CUT),
    BadInput("blank_lines_alone", {"impressions/a.csv": b"\n\n\n", "impressions/b.csv": lines(*good(), "x")}, CUT),
    refused("file_of_nul_bytes", second(b"\x00" * 100, header=None), "b.csv"),
    refused("csv_of_another_table", second("i1,2", header="item_id,price"), "b.csv", "request_id"),
    BadInput(
        "header_alone_first",
        {"impressions/a.csv": lines(), "impressions/b.csv": lines(*good(), row(hour="x"))},
        {"impressions": {"bad_value": [GOOD + 2]}},
    ),
    BadInput(
        "columns_in_another_order",
        second(f"3,0,i1,u9,{T},q", f"x,0,i1,u9,{T},q2", header="hour,click,item_id,user_id,timestamp,request_id"),
        {"impressions": {"bad_value": [3]}},
        counts={"impressions": {"kept": GOOD + 1}},
    ),
    BadInput(
        "later_file_has_the_propensity",
        second(row() + ",2.0", header=HEADER + ",propensity"),
        {"impressions": {"bad_propensity": [2]}},
        config={"limits": {"bad_files": True}},
    ),
    BadInput(
        "later_file_lacks_the_label",
        second(
            *(f"q{n},{T + n * MINUTE},u1,i1,3" for n in range(3)), header="request_id,timestamp,user_id,item_id,hour"
        ),
        error=("b.csv",),
    ),
)

ENCODINGS = (
    refused(
        "utf_16_without_its_name", {"impressions/a.csv": lines(*good()).decode().encode("utf-16")}, "a.csv", "encoding"
    ),
    refused(
        "utf_16_second", {**FIRST, "impressions/b.csv": lines(*good()).decode().encode("utf-16")}, "b.csv", "encoding"
    ),
    BadInput(
        "utf_16_by_its_name",
        {"impressions/a.csv": lines(*good(), row(user="ö"), row(hour="x")).decode().encode("utf-16")},
        {"impressions": {"bad_value": [GOOD + 3]}},
        tables={"impressions": {"encoding": "utf-16"}},
    ),
    one_letter("latin_1_without_its_name", "unparsable_row", row(user="ö").encode("latin-1")),
    BadInput(
        "latin_1_by_its_name",
        {"impressions/a.csv": lines(*good(), row(user="ö").encode("latin-1"), row(hour="x"))},
        {"impressions": {"bad_value": [GOOD + 3]}},
        tables={"impressions": {"encoding": "latin-1"}},
        counts={"impressions": {"kept": GOOD + 1}},
    ),
    BadInput(
        "semicolons_by_setting",
        {"impressions/a.csv": lines(*good(), row(hour="x"), row() + ";").replace(b",", b";")},
        {"impressions": {"unparsable_row": [GOOD + 3], "bad_value": [GOOD + 2]}},
        tables={"impressions": {"delimiter": ";"}},
    ),
    BadInput(
        "tabs_by_suffix",
        {"impressions/a.tsv": lines(*good(), row(hour="x")).replace(b",", b"\t")},
        {"impressions": {"bad_value": [GOOD + 2]}},
    ),
    one_letter(
        "null_values", "null_user_id", row(user=""), row(user="\\N"), row(user="NULL"), row(user="nan"), row(user='""')
    ),
    BadInput(
        "words_that_are_no_null",
        {"impressions/a.csv": spoilt(row("x1", user="null"), row("x2", user="None"), row("x3", user="N/A"))},
        {},
        counts={"impressions": {"kept": GOOD + 3}},
    ),
    BadInput(
        "null_values_by_setting",
        {"impressions/a.csv": spoilt(row("x1", user="-"), row("x2", user="NULL"), row("x3", user=""))},
        {"impressions": {"null_user_id": [BAD_LINE, BAD_LINE + 2]}},
        tables={"impressions": {"null_values": ["-"]}},
    ),
)

CSV = (*QUOTES, *LINES, *HEADERS, *ENCODINGS)
