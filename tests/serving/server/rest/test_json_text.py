"""Values in messages, as RapidJSON's PrettyWriter writes them (prettywriter.h, dtoa.h of 1.1.0)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.rest.json_text import debug_text, number_text, quoted, type_name


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (123.25, "123.25"),
        (1e21, "1e21"),
        (1e20, "100000000000000000000.0"),
        (1.5e30, "1.5e30"),
        (1e-5, "0.00001"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (-1.8446744073709552e19, "-18446744073709552000.0"),
        ([1, [2.5, None], "a"], '[1, [2.5, null], "a"]'),
        ({}, "{}"),
        ([], "[]"),
        ({"a": [True], "b": {"c": "d"}}, '{\n    "a": [true],\n    "b": {\n        "c": "d"\n    }\n}'),
        ([{"a": 1}, 2], '[{\n        "a": 1\n    }, 2]'),
        ([1, float("nan"), 2], "[1"),
    ],
)
def test_texts(value, text):
    assert debug_text(value) == text


def test_a_long_value_is_cut_after_the_token_that_passes_256_bytes():
    text = debug_text(list(range(1000)))
    assert text.endswith(", 65, 66")
    assert len(text) == 257
    assert debug_text(["a" * 300, "b"]) == '["' + "a" * 300 + '"'
    assert len(debug_text([[[[1] * 10] * 10] * 10] * 10)) <= 260


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_read_as_they_were(number):
    assert float(number_text(number)) == number
    assert json.loads(number_text(number)) == number


@given(st.text())
def test_quoted_strings_are_json(text):
    assert json.loads(quoted(text.encode("utf-8", "surrogatepass"))) == text


def test_control_characters_have_capital_hex_digits():
    assert quoted(b'\x1b\x00"\\/\n') == b'"\\u001B\\u0000\\"\\\\/\\n"'


def test_type_names():
    values = [None, False, True, {}, [], "", 0, 0.0]
    assert [type_name(each) for each in values] == [
        *("Null", "False", "True", "Object", "Array", "String", "Number", "Number")
    ]
