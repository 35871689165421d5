"""Answers as JSON: numbers, layout, and what has no form (json_tensor.cc, json_tensor_test.cc)."""

import json
import math
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import classification_pb2, regression_pb2

from serving.server.rest.json_answers import (
    classifications_json,
    decimals,
    error_json,
    predictions_json,
    regressions_json,
)
from serving.server.status import ServingError


def answer(rows, **outputs):
    return predictions_json({name: tf.make_tensor_proto(value) for name, value in outputs.items()}, rows).decode()


def refused(rows, **outputs):
    with pytest.raises(ServingError) as caught:
        answer(rows, **outputs)
    return str(caught.value)


def floats(*values):
    return [text.decode() for text in decimals(np.array(values, np.float32))]


def test_floats_have_six_digits_or_all_of_them_and_a_point():
    assert floats(9000000, 999999, 0.5, 0.0003, 0.00003, 555557.5, 3, -0.0, 0.1, 1 / 3, 16777216) == [
        *("9e+06", "999999.0", "0.5", "0.0003", "3e-05", "555557.5", "3.0", "-0.0", "0.1", "0.333333343", "16777216.0")
    ]
    assert floats(math.nan, math.inf, -math.inf) == ["NaN", "Infinity", "-Infinity"]
    assert [text.decode() for text in decimals(np.array([0.1, 1 / 3, 1e22, 1e-300]))] == [
        *("0.1", "0.33333333333333331", "1e+22", "1e-300")
    ]
    assert decimals(np.array([], np.float32)) == []


@given(st.lists(st.floats(width=32), min_size=1))
def test_a_float_reads_as_it_was(values):
    for value, text in zip(values, floats(*values), strict=True):
        found = float(text)
        assert math.isnan(value) and math.isnan(found) or struct.pack("f", found) == struct.pack("f", value)
        assert any(mark in text for mark in ".eNI")


@given(st.lists(st.floats(), min_size=1))
def test_a_double_reads_as_it_was(values):
    for value, text in zip(values, decimals(np.array(values)), strict=True):
        assert math.isnan(value) or float(text) == value


def test_rows_of_one_output_stand_in_one_line():
    assert answer(True, y=np.float32([2.5, 3])) == '{\n    "predictions": [2.5, 3.0\n    ]\n}'
    assert answer(True, y=np.int64([[1, 2], [3, 4]])) == '{\n    "predictions": [[1, 2], [3, 4]\n    ]\n}'
    assert answer(True, y=np.zeros([0, 2], np.float32)) == '{\n    "predictions": []\n}'
    assert answer(True, y=np.zeros([2, 0], np.float32)) == '{\n    "predictions": [[], []\n    ]\n}'


def test_rows_of_several_outputs_are_objects():
    assert answer(True, b=np.float32([1, 2]), a=[["x"], ["y"]]) == (
        '{\n    "predictions": [\n        {\n            "a": ["x"],\n            "b": 1.0\n        },\n'
        '        {\n            "a": ["y"],\n            "b": 2.0\n        }\n    ]\n}'
    )


def test_columns_stand_one_value_a_line():
    assert answer(False, y=np.float32([[1], [2]])) == (
        '{\n    "outputs": [\n        [\n            1.0\n        ],\n        [\n            2.0\n        ]\n    ]\n}'
    )
    assert answer(False, y=np.float32(7)) == '{\n    "outputs": 7.0\n}'
    assert answer(False, b=np.int32([1]), a=np.float32([])) == (
        '{\n    "outputs": {\n        "a": [],\n        "b": [\n            1\n        ]\n    }\n}'
    )


@pytest.mark.parametrize("rows", [True, False])
def test_every_type_reads_back(rows):
    outputs = {
        "i64": np.array([[2**63 - 1, -(2**63)]]),
        "u64": np.array([[2**64 - 1]], np.uint64),
        "u32": np.array([2**32 - 1], np.uint32),
        "i32": np.array([-5], np.int32),
        "i8": np.array([-7], np.int8),
        "u8": np.array([200], np.uint8),
        "truth": np.array([[True, False]]),
        "text": np.array([['q"\\\n\x01é']], object),
        "raw_bytes": np.array([[[b"\xff\x00", b""]]], object),
    }
    found = json.loads(answer(rows, **outputs))
    columns = found["predictions"][0] if rows else {name: each[0] for name, each in found["outputs"].items()}
    assert columns == {
        **{"i64": [2**63 - 1, -(2**63)], "u64": [2**64 - 1], "u32": 2**32 - 1, "i32": -5, "i8": -7, "u8": 200},
        **{"truth": [True, False], "text": ['q"\\\n\x01é'], "raw_bytes": [[{"b64": "/wA="}, {"b64": ""}]]},
    }


def test_both_encodings_of_a_tensor_are_read():
    proto = tf.make_tensor_proto(np.float32([1, 2]))
    repeated = tf.make_tensor_proto(np.float32([1, 2]))
    repeated.ClearField("tensor_content")
    repeated.float_val.extend([1, 2])
    assert predictions_json({"y": proto}, True) == predictions_json({"y": repeated}, True)


def test_strings_that_are_not_utf_8_are_sent_as_they_are():
    proto = tf.make_tensor_proto(np.array([b"\xff\n"], object))
    assert b'["\xff\\n"' in predictions_json({"text": proto}, True)


def test_outputs_without_a_form():
    assert refused(True, y=np.float32([1]), z=np.float32([1, 2])) == (
        "INVALID_ARGUMENT: Tensor name: z has inconsistent batch size: 2 expecting: 1"
    )
    assert refused(True, y=np.float32(1)) == "INVALID_ARGUMENT: Tensor name: y has no shape information "
    assert refused(True) == "INVALID_ARGUMENT: Cannot convert empty tensor map to JSON"
    for value, name in ((np.float16([1]), "half"), (np.complex64([1]), "complex64"), (np.uint16([1]), "uint16")):
        assert refused(True, y=value) == f"INVALID_ARGUMENT: Failed to write JSON value for tensor type: {name}"


def test_classifications_and_regressions():
    result = classification_pb2.ClassificationResult()
    for scores in ((0.2, 0.7), (0.5, 1)):
        classes = result.classifications.add().classes
        for label, score in zip(("car", ""), scores, strict=True):
            classes.add(label=label, score=score)
    assert classifications_json(result).decode() == (
        '{\n    "results": [[["car", 0.2], ["", 0.7]], [["car", 0.5], ["", 1.0]]\n    ]\n}'
    )
    values = regression_pb2.RegressionResult()
    for value in (0.2, math.inf, 1.0):
        values.regressions.add(value=value)
    assert regressions_json(values).decode() == '{\n    "results": [0.2, Infinity, 1.0]\n}'
    with pytest.raises(ServingError, match="Cannot convert empty ClassificationResults to JSON"):
        classifications_json(classification_pb2.ClassificationResult())
    with pytest.raises(ServingError, match="Cannot convert empty RegressionResults to JSON"):
        regressions_json(regression_pb2.RegressionResult())


def test_errors():
    assert error_json('Bad key: "key"') == b'{\n    "error": "Bad key: \\"key\\""\n}'
