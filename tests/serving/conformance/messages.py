"""Messages of gRPC from and to what the cases write."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

#: Method → (stub, request).
METHODS = {
    "Predict": (prediction_service_pb2_grpc.PredictionServiceStub, predict_pb2.PredictRequest),
    "Classify": (prediction_service_pb2_grpc.PredictionServiceStub, classification_pb2.ClassificationRequest),
    "Regress": (prediction_service_pb2_grpc.PredictionServiceStub, regression_pb2.RegressionRequest),
    "MultiInference": (prediction_service_pb2_grpc.PredictionServiceStub, inference_pb2.MultiInferenceRequest),
    "GetModelMetadata": (
        prediction_service_pb2_grpc.PredictionServiceStub,
        get_model_metadata_pb2.GetModelMetadataRequest,
    ),
    "GetModelStatus": (model_service_pb2_grpc.ModelServiceStub, get_model_status_pb2.GetModelStatusRequest),
    "HandleReloadConfigRequest": (
        model_service_pb2_grpc.ModelServiceStub,
        model_management_pb2.ReloadConfigRequest,
    ),
}
_TENSOR = re.compile(r"(\w+)\[([\d,]*)\] ?(.*)", re.DOTALL)
_NAMES = {"float": "float32", "double": "float64", "half": "float16"}


def read_array(text: str) -> np.ndarray:
    """Returns the array that `TYPE[SHAPE] VALUES` means.

    Raises:
      ValueError: the text is not of that form.
    """
    found = _TENSOR.fullmatch(text)
    if not found:
        raise ValueError(f"not `TYPE[SHAPE] VALUES`: {text}")
    kind, shape, values = found[1], [int(size) for size in found[2].split(",") if size], shlex.split(found[3])
    if kind == "string":
        return np.array([value.encode() for value in values], object).reshape(shape)
    dtype = tf.as_dtype(_NAMES.get(kind, kind)).as_numpy_dtype
    if kind == "bool":
        return np.array([value == "true" for value in values]).reshape(shape)
    numbers = [float(value) if set(value) & set(".ne") else int(value) for value in values]
    return np.array(numbers).astype(dtype).reshape(shape)


def build_request(step: Mapping[str, Any], fill: Mapping[str, str]) -> tuple[Any, Any]:
    """Returns the stub's class and the message of a gRPC step; `{NAME}` of `fill` is replaced in strings."""
    stub, kind = METHODS[step["grpc"]]
    message = kind()
    json_format.ParseDict(_filled(step.get("request", {}), fill), message)
    for name, value in step.get("inputs", {}).items():
        if isinstance(value, str):
            array = read_array(value)
            dtype = tf.as_dtype(_NAMES.get(value.split("[")[0], value.split("[")[0]))
            message.inputs[name].CopyFrom(tf.make_tensor_proto(array, dtype, array.shape))
        else:
            json_format.ParseDict(value, message.inputs[name])
    if "examples" in step or "context" in step:
        _add_examples(message.input, step)
    return stub, message


def _add_examples(input_, step: Mapping[str, Any]) -> None:
    examples = input_.example_list.examples
    if "context" in step:
        _fill_example(input_.example_list_with_context.context, step["context"])
        examples = input_.example_list_with_context.examples
    else:
        input_.example_list.SetInParent()
    for each in step.get("examples", []):
        _fill_example(examples.add(), each)


def _fill_example(example, features: Mapping[str, Any]) -> None:
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        if isinstance(values[0], float):
            feature.float_list.value.extend(values)
        elif isinstance(values[0], int):
            feature.int64_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(each.encode() for each in values)


def _filled(value: Any, fill: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, text in fill.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, dict):
        return {key: _filled(each, fill) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, fill) for each in value]
    return value


def differences_of_answer(answer: Any, expected: Mapping[str, Any]) -> list[str]:
    """Returns what an answer lacks of the `answer` fields, the `outputs` and the `pattern` expected of it."""
    found = []
    fields = json_format.MessageToDict(answer, preserving_proto_field_name=True)
    for path, value in expected.get("answer", {}).items():
        if not _same(fields.get(path), value):
            found.append(f"{path}: expected {value}, received {fields.get(path)}")
    outputs = expected.get("outputs")
    if outputs is not None and set(answer.outputs) != set(outputs):
        found.append(f"outputs: expected {sorted(outputs)}, received {sorted(answer.outputs)}")
    for name, text in (outputs or {}).items():
        wanted = read_array(text)
        received = tf.make_ndarray(answer.outputs[name]) if name in answer.outputs else None
        if received is None or received.shape != wanted.shape or not _equal(received, wanted):
            found.append(f"output {name}: expected {text}, received {received!r}")
    pattern = expected.get("pattern")
    if pattern and not re.search(pattern, str(answer)):
        found.append(f"expected /{pattern}/ in {answer}")
    return found


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype != other.dtype:
        return False
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, floats within the rounding of a float32."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return isinstance(one, (int, float)) and isinstance(other, (int, float)) and bool(np.isclose(one, other, 1e-6))
    return one == other
