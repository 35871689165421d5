"""Answers as JSON, byte by byte as TF Serving writes them but for the order of names: here they are sorted.

Floats have the six digits of `%g` where those read as the same number, else all of them (9, or 17 of a double), and a
point; NaN and the infinities stand bare. Lists stand in one line in rows, one value a line in columns. Source:
json_tensor.cc, `MakeJsonFromTensors`, `WriteDecimal`.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import classification_pb2, regression_pb2

from serving.server.rest.json_text import quoted
from serving.server.rest.json_values import dtype_name
from serving.server.status import invalid_argument

_STEP = b"    "

#: The fields of a TensorProto that hold numbers REST can write, and numpy's type of `tensor_content`.
_FIELDS = {
    types_pb2.DT_FLOAT: ("float_val", np.float32),
    types_pb2.DT_DOUBLE: ("double_val", np.float64),
    types_pb2.DT_INT32: ("int_val", np.int32),
    types_pb2.DT_INT16: ("int_val", np.int16),
    types_pb2.DT_INT8: ("int_val", np.int8),
    types_pb2.DT_UINT8: ("int_val", np.uint8),
    types_pb2.DT_INT64: ("int64_val", np.int64),
    types_pb2.DT_UINT32: ("uint32_val", np.uint32),
    types_pb2.DT_UINT64: ("uint64_val", np.uint64),
    types_pb2.DT_BOOL: ("bool_val", np.bool_),
}


def error_json(message: str) -> bytes:
    """Returns the body of an answer that is an error."""
    return b'{\n    "error": ' + quoted(message.encode("utf-8", "surrogateescape")) + b"\n}"


def predictions_json(outputs: Mapping[str, tensor_pb2.TensorProto], rows: bool) -> bytes:
    """Returns the body of a predict answer, `predictions` (rows) or `outputs` (columns).

    Raises:
      ServingError: INVALID_ARGUMENT for rows of outputs that do not share dimension 0, a type that JSON has no form
        for, and no output at all.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    if rows:
        return _rows(outputs)
    if len(outputs) == 1:
        ((name, only),) = outputs.items()
        return b'{\n    "outputs": ' + _column(name, only, depth=1) + b"\n}"
    members = [quoted(name.encode()) + b": " + _column(name, outputs[name], depth=2) for name in sorted(outputs)]
    return b'{\n    "outputs": ' + _lines(b"{", members, b"}", depth=1) + b"\n}"


def classifications_json(result: classification_pb2.ClassificationResult) -> bytes:
    """Returns the body of a classify answer: for every example a list of [label, score].

    Raises:
      ServingError: INVALID_ARGUMENT where there is no example.
    """
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    found = []
    for classes in result.classifications:
        scores = decimals(np.array([each.score for each in classes.classes], np.float32))
        labels = [quoted(each.label.encode()) for each in classes.classes]
        found.append(_inline(_inline(pair) for pair in zip(labels, scores, strict=True)))
    return b'{\n    "results": [' + b", ".join(found) + b"\n    ]\n}"


def regressions_json(result: regression_pb2.RegressionResult) -> bytes:
    """Returns the body of a regress answer: a value for every example.

    Raises:
      ServingError: INVALID_ARGUMENT where there is no example.
    """
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    values = decimals(np.array([each.value for each in result.regressions], np.float32))
    return b'{\n    "results": ' + _inline(values) + b"\n}"


def decimals(values: np.ndarray) -> list[bytes]:
    """Returns floats or doubles `[N]` as JSON numbers."""
    numbers = values.tolist()
    short = (("%g " * len(numbers)) % tuple(numbers)).split()
    with np.errstate(over="ignore"):
        same = np.array(short, dtype=np.float64).astype(values.dtype) == values
    if not same.all():
        digits = 9 if values.dtype == np.float32 else 17
        for index in np.flatnonzero(~same):
            short[index] = f"{numbers[index]:.{digits}g}"
    return [_pointed(text).encode() for text in short]


def _pointed(text: str) -> str:
    if "." in text or "e" in text:
        return text
    return {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text) or text + ".0"


def _rows(outputs: Mapping[str, tensor_pb2.TensorProto]) -> bytes:
    count = -1
    for name, proto in outputs.items():
        if not proto.tensor_shape.dim:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        rows = proto.tensor_shape.dim[0].size
        if count >= 0 and rows != count:
            raise invalid_argument(f"Tensor name: {name} has inconsistent batch size: {rows} expecting: {count}")
        count = rows
    if count == 0:
        return b'{\n    "predictions": []\n}'
    if len(outputs) == 1:
        ((name, only),) = outputs.items()
        return b'{\n    "predictions": [' + b", ".join(_row_values(name, only, depth=2)) + b"\n    ]\n}"
    columns = [
        [quoted(name.encode()) + b": " + value for value in _row_values(name, outputs[name], depth=3)]
        for name in sorted(outputs)
    ]
    objects = [_lines(b"{", members, b"}", depth=2) for members in zip(*columns, strict=True)]
    return b'{\n    "predictions": ' + _lines(b"[", objects, b"]", depth=1) + b"\n}"


def _row_values(name: str, proto: tensor_pb2.TensorProto, depth: int) -> list[bytes]:
    """Returns what every row holds of a tensor `[R, …]`, in one line each, inside `depth` containers."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    values = _tokens(name, proto, depth + len(shape) - 1)
    for axis in range(len(shape) - 1, 0, -1):
        values = [_inline(part) for part in _groups(values, math.prod(shape[:axis]), shape[axis])]
    return values


def _column(name: str, proto: tensor_pb2.TensorProto, depth: int) -> bytes:
    """Returns a tensor with one value a line, inside `depth` containers."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    values = _tokens(name, proto, depth + len(shape))
    for axis in range(len(shape) - 1, -1, -1):
        parts = _groups(values, math.prod(shape[:axis]), shape[axis])
        values = [_lines(b"[", part, b"]", depth + axis) for part in parts]
    return values[0]


def _groups(values: Sequence[bytes], count: int, size: int) -> Iterable[Sequence[bytes]]:
    return (values[index * size : (index + 1) * size] for index in range(count))


def _inline(values: Iterable[bytes]) -> bytes:
    return b"[" + b", ".join(values) + b"]"


def _lines(start: bytes, members: Sequence[bytes], end: bytes, depth: int) -> bytes:
    """Returns a container that stands inside `depth` others, with a line for every member."""
    if not members:
        return start + end
    indent = b"\n" + _STEP * (depth + 1)
    return start + indent + (b"," + indent).join(members) + b"\n" + _STEP * depth + end


def _tokens(name: str, proto: tensor_pb2.TensorProto, depth: int) -> list[bytes]:
    """Returns the values of a tensor as JSON, in order; `depth` is the number of containers around each."""
    if any(dim.size == 0 for dim in proto.tensor_shape.dim):
        return []
    if proto.dtype == types_pb2.DT_STRING:
        if name.endswith("_bytes"):
            return [
                _lines(b"{", [b'"b64": "' + base64.b64encode(each) + b'"'], b"}", depth) for each in proto.string_val
            ]
        return [quoted(each) for each in proto.string_val]
    values = _numbers(proto)
    if proto.dtype in (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE):
        return decimals(values)
    if proto.dtype == types_pb2.DT_BOOL:
        return [b"true" if each else b"false" for each in values.tolist()]
    return [b"%d" % each for each in values.tolist()]


def _numbers(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Returns the numbers of a tensor `[N]`, from either of its two encodings."""
    if proto.dtype not in _FIELDS:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {dtype_name(proto.dtype)}")
    field, dtype = _FIELDS[proto.dtype]
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, dtype=dtype)
    return np.array(getattr(proto, field), dtype=dtype)
