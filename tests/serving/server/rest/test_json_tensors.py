"""Bodies of predict requests to tensors: types, shapes, and TF Serving's words for what does not fit."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.server.rest import json_tensors
from serving.server.rest.json_reader import read_json
from serving.server.rest.json_tensors import read_tensors
from serving.server.status import ServingError

FLOAT, DOUBLE, HALF = (tf.as_dtype(name).as_datatype_enum for name in ("float32", "float64", "float16"))
INT64, INT32, INT8, UINT8 = (tf.as_dtype(name).as_datatype_enum for name in ("int64", "int32", "int8", "uint8"))
UINT64, UINT32, STRING, BOOL = (tf.as_dtype(name).as_datatype_enum for name in ("uint64", "uint32", "string", "bool"))


def read(body, **types):
    tensors, _ = read_tensors(read_json(body.encode()), types)
    return {name: tf.make_ndarray(tensor) for name, tensor in tensors.items()}


def refused(body, **types):
    with pytest.raises(ServingError) as caught:
        read(body, **types)
    return str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (FLOAT, "[1, 2.5, -0.0, 1e300]", [1, 2.5, 0, np.inf]),
        (FLOAT, "[16777217, 1435774380]", [np.float32(16777217), np.float32(1435774380)]),
        (DOUBLE, "[0.1, 9007199254740993]", [0.1, 9007199254740992.0]),
        (INT64, "[9007199254740993, -9223372036854775808]", [9007199254740993, -(2**63)]),
        (UINT64, "[18446744073709551615]", [2**64 - 1]),
        (UINT32, "[4294967295]", [2**32 - 1]),
        (INT32, "[-2147483648]", [-(2**31)]),
        (INT8, "[300, -129]", [44, 127]),
        (UINT8, "[-1]", [255]),
        (BOOL, "[true, false]", [True, False]),
        (STRING, '["a", {"b64": "aGk="}, {"b64": "aGk"}, ""]', [b"a", b"hi", b"hi", b""]),
        (FLOAT, "[Infinity, -Infinity, 1]", [np.inf, -np.inf, 1]),
    ],
)
@pytest.mark.parametrize("form", ['{"instances": %s}', '{"inputs": %s}', '{"inputs": {"x": %s}}'])
def test_values_of_a_type(dtype, values, expected, form):
    found = read(form % values, x=dtype)["x"]
    assert found.dtype == tf.as_dtype(dtype).as_numpy_dtype or dtype == STRING
    np.testing.assert_array_equal(found, np.array(expected, dtype=found.dtype))


def test_rows_of_objects_become_columns_with_the_rows_first():
    body = '{"instances": [{"a": [[1, 2]], "b": "x"}, {"b": "y", "a": [[3, 4]]}], "signature_name": "s", "more": 1}'
    found = read(body, a=INT64, b=STRING)
    np.testing.assert_array_equal(found["a"], [[[1, 2]], [[3, 4]]])
    assert found["b"].tolist() == [b"x", b"y"]


def test_columns_may_have_different_lengths_and_extra_keys():
    found = read('{"inputs": {"a": 1, "b": [[1], [2]], "more": null}}', a=INT64, b=FLOAT)
    assert found["a"].shape == ()
    assert found["b"].shape == (2, 1)


def test_empty_lists_have_a_shape():
    assert read('{"inputs": []}', x=FLOAT)["x"].shape == (0,)
    assert read('{"inputs": [[], []]}', x=HALF)["x"].shape == (2, 0)
    assert read('{"instances": [[], []]}', x=STRING)["x"].shape == (2, 0)


@pytest.mark.parametrize(
    ("body", "dtype", "message"),
    [
        ("[1.0]", INT64, "JSON Value: 1.0 Type: Number is not of expected type: int64"),
        ("[9223372036854775808]", INT64, "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64"),
        ("[2147483648]", INT32, "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ("[-1]", UINT64, "JSON Value: -1 Type: Number is not of expected type: uint64"),
        ("[null]", FLOAT, "JSON Value: null Type: Null is not of expected type: float"),
        ("[true]", INT64, "JSON Value: true Type: True is not of expected type: int64"),
        ("[1, true]", FLOAT, "JSON Value: true Type: True is not of expected type: float"),
        ("[0]", BOOL, "JSON Value: 0 Type: Number is not of expected type: bool"),
        ('["1"]', DOUBLE, 'JSON Value: "1" Type: String is not of expected type: double'),
        ("[1]", STRING, "JSON Value: 1 Type: Number is not of expected type: string"),
        ("[[1, 2], [3]]", FLOAT, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ("[[1], 2]", FLOAT, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ("[1, [2]]", FLOAT, "Encountered list at unexpected level: 1 expected < 1"),
        ('[{"b64": "a"}]', STRING, "Unable to base64 decode"),
        ('[{"b64": 1}]', STRING, 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data'),
        ('[{"b64": "aGk="}]', FLOAT, 'JSON Value: {\n    "b64": "aGk="\n} Type: Object is not of expected type: float'),
    ],
)
def test_columns_that_do_not_fit(body, dtype, message):
    assert refused(f'{{"inputs": {body}}}', x=dtype) == f"INVALID_ARGUMENT: {message}"


def test_types_that_json_does_not_hold():
    assert refused('{"inputs": [1]}', x=HALF) == "UNIMPLEMENTED: Conversion of JSON Value: 1 to type: half"
    assert refused('{"instances": [1]}', x=HALF) == (
        "INVALID_ARGUMENT: Failed to process element: 0 of 'instances' list. "
        "Error: UNIMPLEMENTED: Conversion of JSON Value: 1 to type: half"
    )


@pytest.mark.parametrize(
    ("body", "types", "message"),
    [
        ("{}", "x", "Missing 'inputs' or 'instances' key"),
        ('{"instances": 1}', "x", "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
        ('{"instances": []}', "x", "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ('{"instances": [1, [1]]}', "x", "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: "
         "Expecting shape [] but got: [1]"),
        ('{"instances": [[1, 2], [1]]}', "x", "Failed to process element: 1 of 'instances' list. "
         "Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1"),
        ('{"instances": [{"x": 1}, 2]}', "x", "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1, {"x": 2}]}', "x", "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [1]}', "x y", "instances is a plain list, but expecting list of objects as multiple input "
         "tensors required as per tensorinfo_map"),
        ('{"inputs": [1]}', "x y", "inputs is a plain value/list, but expecting an object as multiple input tensors "
         "required as per tensorinfo_map"),
        ('{"inputs": {"y": 1}}', "x y", "Missing named input: x in 'inputs' object."),
        ('{"instances": [{"x": 1}]}', "x y", "Failed to process element: 0 of 'instances' list. JSON object: "
         '{\n    "x": 1\n} keys must be equal to: x,y'),
        ('{"instances": [{"x": 1, "z": 1}]}', "x", "Failed to process element: 0 key: z of 'instances' list. Error: "
         "INVALID_ARGUMENT: JSON object: does not have named input: z"),
        ('{"instances": [{"x": [1, "a"]}]}', "x", "Failed to process element: 0 key: x of 'instances' list. Error: "
         'INVALID_ARGUMENT: JSON Value: "a" Type: String is not of expected type: float'),
    ],
)  # fmt: skip
def test_bodies_that_do_not_fit(body, types, message):
    assert refused(body, **dict.fromkeys(types.split(), FLOAT)) == f"INVALID_ARGUMENT: {message}"


def test_both_forms_at_once():
    assert "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist " in refused(
        '{"inputs": 1, "instances": [1]}', x=FLOAT
    )


SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3)


@given(st.data())
def test_the_fast_form_is_the_exact_form(data):
    kind, dtype = data.draw(st.sampled_from([("f4", FLOAT), ("i8", INT64), ("u4", UINT32), ("?", BOOL)]))
    array = data.draw(arrays.arrays(np.dtype(kind), SHAPES))
    rows, types = json.loads(json.dumps(array.tolist())), {"x": dtype}
    if not rows:
        return
    named = [{"x": row} for row in rows]
    for given_rows, objects in ((rows, False), (named, True)):
        fast = json_tensors._regular_rows(given_rows, types, objects)["x"]
        exact = json_tensors._exact_rows(given_rows, types, objects)["x"]
        assert fast == exact
        np.testing.assert_array_equal(tf.make_ndarray(fast), array.reshape(tf.make_ndarray(fast).shape))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("b64"), inner))


@given(st.lists(VALUES, min_size=1, max_size=3), st.sampled_from([FLOAT, INT64, UINT64, STRING, BOOL, HALF]))
def test_what_is_not_regular_is_refused_or_read_exactly(rows, dtype):
    fast = json_tensors._regular_rows(rows, {"x": dtype}, named=False)
    try:
        exact = json_tensors._exact_rows(rows, {"x": dtype}, named=False)
    except ServingError:
        assert fast is None
    else:
        assert fast is None or fast == exact
