"""The body of a classify or a regress request to `tf.Example`s, as TF Serving reads it.

A number without a point is an int64, one with a point a float: `1` and `1.0` are different features. Source:
json_tensor.cc, `FillClassifyRegressRequestFromJson`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import input_pb2

from serving.server.rest.json_text import debug_text, type_name
from serving.server.rest.json_values import decode_base64, is_base64, text_bytes
from serving.server.status import invalid_argument

_KIND_NAMES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def read_input(document: Mapping[str, Any]) -> input_pb2.Input:
    """Returns the examples of a request, with its context where it has one.

    Args:
      document: the body, an object.

    Raises:
      ServingError: INVALID_ARGUMENT with TF Serving's text.
    """
    found = input_pb2.Input()
    examples = found.example_list.examples
    if "context" in document:
        _fill(document["context"], found.example_list_with_context.context)
        examples = found.example_list_with_context.examples
    rows = document.get("examples")
    problem = None
    if "examples" not in document:
        problem = "When method is classify, key 'examples' is expected and was not found"
    elif not isinstance(rows, list):
        problem = "Expecting 'examples' value to be an list/array"
    elif not rows:
        problem = "'examples' value is an empty array"
    if problem:
        raise invalid_argument(f"JSON Value: {debug_text(document)} {problem}")
    for row in rows:
        _fill(row, examples.add())
    return found


def _fill(row: Any, example: example_pb2.Example) -> None:
    if not isinstance(row, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_name(row)}")
    for name, value in row.items():
        feature = feature_pb2.Feature()
        for each in value if isinstance(value, list) else [value]:
            _add(each, name, feature)
        example.features.feature[name.encode("utf-8", "replace").decode()].CopyFrom(feature)


def _add(value: Any, name: str, feature: feature_pb2.Feature) -> None:
    if isinstance(value, str) or is_base64(value):
        _expect(feature, name, "bytes_list")
        feature.bytes_list.value.append(text_bytes(value) if isinstance(value, str) else decode_base64(value))
    elif isinstance(value, float):
        _expect(feature, name, "float_list")
        with np.errstate(over="ignore"):
            feature.float_list.value.append(np.float32(value))
    elif isinstance(value, int):
        _expect(feature, name, "int64_list")
        if value >= 2**63:
            raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        feature.int64_list.value.append(value)
    else:
        raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def _expect(feature: feature_pb2.Feature, name: str, kind: str) -> None:
    now = feature.WhichOneof("kind")
    if now not in (None, kind):
        raise invalid_argument(f"Unexpected element type in feature: {name} expecting type: {_KIND_NAMES[now]}")
