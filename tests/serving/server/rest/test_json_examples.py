"""Bodies of classify and regress requests to `tf.Example`s (json_tensor.cc, json_tensor_test.cc)."""

import json

import numpy as np
import pytest

from serving.server.rest.json_documents import read_json
from serving.server.rest.json_examples import read_input
from serving.server.status import ServingError


def features(example):
    return {
        name: list(getattr(feature, feature.WhichOneof("kind") or "int64_list").value)
        for name, feature in example.features.feature.items()
    }


def test_kinds_of_features():
    body = (
        '{"examples": [{"names": ["foo", {"b64": "aGVsbG8="}], "ratings": [8.0, NaN, Infinity], "age": 20,'
        ' "mix": [1, true, false], "none": [], "big": 1e300, "whole": 18446744073709551616}, {}]}'
    )
    first, second = read_input(read_json(body.encode())).example_list.examples
    found = features(first)
    np.testing.assert_equal(found.pop("ratings"), [8.0, np.nan, np.inf])
    assert found == {
        **{"names": [b"foo", b"hello"], "age": [20], "mix": [1, 1, 0], "none": [], "big": [np.inf]},
        "whole": [np.float32(2**64)],
    }
    assert features(second) == {}


def test_a_context_stands_beside_the_examples():
    found = read_input({"context": {"query": "pizza"}, "examples": [{"a": 1}, {"a": 2}]})
    assert found.WhichOneof("kind") == "example_list_with_context"
    assert features(found.example_list_with_context.context) == {"query": [b"pizza"]}
    assert [features(each) for each in found.example_list_with_context.examples] == [{"a": [1]}, {"a": [2]}]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        ('{"examples": {}}', "JSON Value: {\n    \"examples\": {}\n} Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ('{"examples": [[{}]]}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [null]}', "Example must be JSON object but got JSON Null"),
        ('{"context": []}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [{"a": [10, null]}]}', "Feature: a has element with unexpected JSON type: Null"),
        ('{"examples": [{"a": [[10]]}]}', "Feature: a has element with unexpected JSON type: Array"),
        ('{"examples": [{"a": {"b": 1}}]}', "Feature: a has element with unexpected JSON type: Object"),
        ('{"examples": [{"a": [10, 10.0]}]}', "Unexpected element type in feature: a expecting type: int64"),
        ('{"examples": [{"a": [1.5, true]}]}', "Unexpected element type in feature: a expecting type: float"),
        ('{"examples": [{"a": ["x", 1]}]}', "Unexpected element type in feature: a expecting type: bytes"),
        ('{"examples": [{"a": 9223372036854775808}]}', "Feature: a has uint64_t element. Only int64_t is supported."),
        ('{"examples": [{"a": {"b64": "!"}}]}', "Unable to base64 decode"),
    ],
)
def test_bodies_that_do_not_fit(body, message):
    with pytest.raises(ServingError) as caught:
        read_input(json.loads(body))
    assert str(caught.value) == f"INVALID_ARGUMENT: {message}"
