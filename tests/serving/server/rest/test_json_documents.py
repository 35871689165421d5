"""JSON as RapidJSON reads it: values with their exactness, and texts and offsets of errors (reader.h of 1.1.0)."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.rest import json_documents
from serving.server.rest.json_documents import MAX_DEPTH, JsonError, read_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 2]))
def test_the_exact_reader_reads_what_the_fast_one_reads(value, indent):
    text = json.dumps(value, indent=indent, allow_nan=True).encode()
    fast, exact = read_json(text), json_documents._Reader(text).read()
    assert repr(fast) == repr(exact) == repr(value)


@given(st.binary(max_size=60) | st.text('[]{}:,"\\untrefalsNI0123.-+eE dD8', max_size=30).map(str.encode))
def test_any_bytes_are_a_value_or_an_error_and_the_readers_agree(body):
    try:
        value = read_json(body)
    except JsonError as error:
        assert str(error).startswith("JSON Parse error: ")
        if body:
            with pytest.raises(JsonError, match="JSON Parse error"):
                json_documents._Reader(body).read()
    else:
        assert repr(json_documents._Reader(body).read()) == repr(value)


@pytest.mark.parametrize("number", ["1e999", "-1E+400", "9" * 400, "9" * 400 + ".5"])
def test_a_number_that_is_too_large_is_an_error_beside_infinity_too(number):
    with pytest.raises(JsonError, match="Number too big"):
        read_json(f"[Infinity, {number}]".encode())


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"9007199254740993", 9007199254740993),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 18446744073709551616.0),
        (b"-9223372036854775809", -9223372036854775809.0),
        (b"1.0", 1.0),
        (b"1e2", 100.0),
        (b"[1, 2] and more", [1, 2]),
        (b' \t\r\n{"a": 1}}', {"a": 1}),
        (b"[9223372036854775808, Infinity]", [9223372036854775808, math.inf]),
        (b"[99999999999999999999, Infinity]", [99999999999999999999.0, math.inf]),
        (b"[0.00012345678901234567890123, -0, 1E99, Infinity]", [0.00012345678901234567890123, 0, 1e99, math.inf]),
        (b"[Infinity, -Infinity, Inf, -Inf]", [math.inf, -math.inf, math.inf, -math.inf]),
        (b'{"a": 1}\0junk', {"a": 1}),
        (rb'"\ud83d\ude00"', "😀"),
        (b'"\xff"', "\udcff"),
    ],
)
def test_values(body, value):
    found = read_json(body)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_read():
    assert all(map(math.isnan, read_json(b"[NaN, -NaN]")))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"]", "The document is empty. at offset: 0"),
        (b"x", "Invalid value. at offset: 0"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[tru]", "Invalid value. at offset: 4"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[1", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"{1: 2}", "Missing a name for object member. at offset: 1"),
        (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": 1 "b"}', "Missing a comma or '}' after an object member. at offset: 8"),
        (b'{"a"', "Missing a colon after a name of object member. at offset: 4"),
        (b'["a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["a\x01"]', "Invalid escape character in string. at offset: 3"),
        (rb'["\x"]', "Invalid escape character in string. at offset: 2"),
        (rb'["\u12G4"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (rb'["\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b"[1.]", "Miss fraction part in number. at offset: 3"),
        (b"[1e]", "Miss exponent in number. at offset: 3"),
        (b"[ 1e999]", "Number too big to be stored in double. at offset: 2"),
        (b"[" + b"9" * 5000 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[Infinit]", "Invalid value. at offset: 8"),
        (b"[" * (MAX_DEPTH + 1), f"Nested deeper than {MAX_DEPTH} levels. at offset: {MAX_DEPTH + 1}"),
    ],
)
def test_errors_have_the_text_and_the_offset(body, message):
    with pytest.raises(JsonError) as caught:
        read_json(body)
    assert str(caught.value).removeprefix("JSON Parse error: ") == message.removeprefix("JSON Parse error: ")


def test_depth_is_bounded_and_not_by_the_stack():
    assert read_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None
    assert read_json(b"[" * MAX_DEPTH + b"NaN" + b"]" * MAX_DEPTH) is not None
    for body in (b'{"a":' * 100_000, b"[" * 3_000_000):
        with pytest.raises(JsonError):
            read_json(body)


def test_a_long_broken_document_costs_no_exact_reading(monkeypatch):
    monkeypatch.setattr(json_documents, "_Reader", None)
    with pytest.raises(JsonError, match="Invalid value. at offset: 2999999"):
        read_json(b"[" + b"1, " * 1_000_000 + b"]")


@pytest.mark.parametrize(
    "text",
    [
        '{"inputs": {"price": [[1.5, NaN, NaN]], "x": NaN}}',
        '{"a": [NaN], "b": "NaN, NaN , [NaN]"}',
        '{"a": [1, [NaN]], "b": [[NaN], 2, {"c": NaN}]}',
        '{"a": [NaN, null]}',
        "[ NaN , -NaN]",
        "[NaN] and [NaN]",
        "[[NaN],",
    ],
)
def test_documents_with_nan_are_read_as_the_exact_reader_reads_them(text):
    try:
        exact = repr(json_documents._Reader(text.encode()).read())
    except JsonError as error:
        exact = str(error)
    try:
        assert repr(read_json(text.encode())) == exact
    except JsonError as error:
        assert str(error) == exact


def test_a_long_document_with_nan_takes_the_fast_way():
    body = json.dumps({"inputs": {"price": [[1.0, math.nan] * 100]}}).encode()
    assert repr(json_documents._read_with_nan(body)) == repr(read_json(body)) == repr(json.loads(body))
