"""The body of a predict request to tensors: `instances` (rows) or `inputs` (columns), as TF Serving reads them.

Regular values (lists of one shape, of one type) are turned into arrays level by level; all else goes through
`json_values.py`, value by value, which also finds TF Serving's words for what is wrong. Source: json_tensor.cc,
`FillPredictRequestFromJson`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

from serving.server.rest.json_text import debug_text
from serving.server.rest.json_values import dense_shape, is_base64, leaves, text_bytes
from serving.server.status import ServingError, invalid_argument

Tensors = dict[str, tensor_pb2.TensorProto]

#: Types that REST takes, but for strings, and numpy's.
_NUMPY: Mapping[int, Any] = {
    types_pb2.DT_FLOAT: np.float32,
    types_pb2.DT_DOUBLE: np.float64,
    types_pb2.DT_INT32: np.int32,
    types_pb2.DT_INT16: np.int16,
    types_pb2.DT_INT8: np.int8,
    types_pb2.DT_UINT8: np.uint8,
    types_pb2.DT_INT64: np.int64,
    types_pb2.DT_UINT32: np.uint32,
    types_pb2.DT_UINT64: np.uint64,
    types_pb2.DT_BOOL: np.bool_,
}
#: Of the fast form: the Python types that leaves of a type may have, and the bounds of whole numbers.
_KINDS: Mapping[int, frozenset[type]] = {
    **{dtype: frozenset({int}) for dtype in _NUMPY},
    types_pb2.DT_FLOAT: frozenset({int, float}),
    types_pb2.DT_DOUBLE: frozenset({int, float}),
    types_pb2.DT_BOOL: frozenset({bool}),
    types_pb2.DT_STRING: frozenset({str}),
}
_BOUNDS: Mapping[int, tuple[int, int]] = {
    **dict.fromkeys(
        (types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8), (-(2**31), 2**31 - 1)
    ),
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
}


def read_tensors(document: Mapping[str, Any], types: Mapping[str, int]) -> tuple[Tensors, bool]:
    """Returns the input tensors of a predict request, and whether it is in rows.

    Args:
      document: the body, an object.
      types: the `DataType` of every input of the signature, by name; not empty.

    Raises:
      ServingError: INVALID_ARGUMENT with TF Serving's text; UNIMPLEMENTED for a type that JSON does not hold.
    """
    if "instances" not in document and "inputs" not in document:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    if "instances" not in document:
        return _columns(document["inputs"], types), False
    rows = document["instances"]
    problem = None
    if "inputs" in document:
        problem = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
    elif not isinstance(rows, list):
        problem = "Expecting 'instances' to be an list/array"
    elif not rows:
        problem = "No values in 'instances' array"
    if problem:
        raise invalid_argument(f"JSON Value: {debug_text(document)} {problem}")
    return _rows(rows, types), True


def tensor(dtype: int, shape: Iterable[int], values: list[Any]) -> tensor_pb2.TensorProto:
    """Returns a tensor of Python values that fit its type; numbers as `tensor_content`."""
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    proto = tensor_pb2.TensorProto(dtype=dtype, tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims))
    if dtype == types_pb2.DT_STRING:
        proto.string_val.extend(values)
    elif values:
        proto.tensor_content = _array(dtype, values).tobytes()
    return proto


def _array(dtype: int, values: list[Any]) -> np.ndarray:
    if dtype in (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE):
        with np.errstate(over="ignore"):  # A double beyond the floats is infinite.
            return np.array(values, dtype=np.float64).astype(_NUMPY[dtype])
    if dtype in (types_pb2.DT_UINT64, types_pb2.DT_BOOL):
        return np.array(values, dtype=_NUMPY[dtype])
    return np.array(values, dtype=np.int64).astype(_NUMPY[dtype])


def _regular(value: Any, dtype: int) -> tensor_pb2.TensorProto | None:
    """Returns the tensor of a value whose lists have one shape and whose leaves have the type, else nothing."""
    shape: list[int] = []
    level, kinds = [value], {type(value)}
    while kinds == {list}:
        sizes = set(map(len, level))
        if len(sizes) > 1:
            return None
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
        kinds = set(map(type, level))
    if not kinds <= _KINDS.get(dtype, frozenset()):
        return None
    if kinds == {int} and dtype in _BOUNDS:
        low, high = _BOUNDS[dtype]
        if min(level) < low or max(level) > high:
            return None
    if dtype == types_pb2.DT_STRING:
        level = [text_bytes(each) for each in level]
    return tensor(dtype, shape, level)


def _columns(value: Any, types: Mapping[str, int]) -> Tensors:
    if not isinstance(value, dict) or is_base64(value):
        if len(types) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        ((name, dtype),) = types.items()
        return {name: _one(value, dtype)}
    found = {}
    for name, dtype in types.items():
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        found[name] = _one(value[name], dtype)
    return found


def _one(value: Any, dtype: int) -> tensor_pb2.TensorProto:
    proto = _regular(value, dtype)
    return tensor(dtype, *leaves(value, dtype)) if proto is None else proto


def _rows(rows: list[Any], types: Mapping[str, int]) -> Tensors:
    if not isinstance(rows[0], dict) and len(types) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    named = isinstance(rows[0], dict) and not is_base64(rows[0])
    columns = _regular_rows(rows, types, named)
    return _exact_rows(rows, types, named) if columns is None else columns


def _regular_rows(rows: list[Any], types: Mapping[str, int], named: bool) -> Tensors | None:
    names = set(types)
    if named and not all(type(row) is dict and row.keys() == names for row in rows):
        return None
    found = {}
    for name, dtype in types.items():
        proto = _regular([row[name] for row in rows] if named else rows, dtype)
        if proto is None:
            return None
        found[name] = proto
    return found


def _exact_rows(rows: list[Any], types: Mapping[str, int], named: bool) -> Tensors:
    """Reads rows one by one, in the order and with the words of `FillTensorMapFromInstancesList`."""
    columns: dict[str, _Column] = {}
    for number, row in enumerate(rows):
        if named:
            _add_object(row, number, types, columns)
            continue
        if isinstance(row, dict) and not is_base64(row):
            raise invalid_argument(f"Expecting value/list but got object at item {number} of input list")
        (name,) = types
        try:
            _add(row, name, types, columns)
        except ServingError as error:
            raise invalid_argument(f"Failed to process element: {number} of 'instances' list. Error: {error}") from None
    return {name: tensor(types[name], [len(rows), *column.shape], column.values) for name, column in columns.items()}


class _Column:
    """What the rows so far hold of one input: the shape and the number of values of the first, the values of all."""

    def __init__(self, shape: list[int], values: list[Any]) -> None:
        self.shape, self.size, self.values = shape, len(values), list(values)


def _add_object(row: Any, number: int, types: Mapping[str, int], columns: dict[str, _Column]) -> None:
    if not isinstance(row, dict) or is_base64(row):
        raise invalid_argument(f"Expecting object but got list at item {number} of input list")
    for name, value in row.items():
        try:
            _add(value, name, types, columns)
        except ServingError as error:
            raise invalid_argument(
                f"Failed to process element: {number} key: {name} of 'instances' list. Error: {error}"
            ) from None
    if row.keys() != types.keys():
        raise invalid_argument(
            f"Failed to process element: {number} of 'instances' list. JSON object: {debug_text(row)}"
            f" keys must be equal to: {','.join(sorted(types))}"
        )


def _add(value: Any, name: str, types: Mapping[str, int], columns: dict[str, _Column]) -> None:
    if name not in types:
        raise invalid_argument(f"JSON object: does not have named input: {name}")
    shape, values = leaves(value, types[name])
    if name not in columns:
        columns[name] = _Column(shape, values)
        return
    column = columns[name]
    if len(values) != column.size:
        raise invalid_argument(f"Expecting tensor size: {column.size} but got: {len(values)}")
    if shape != column.shape:
        raise invalid_argument(f"Expecting shape {_written(column.shape)} but got: {_written(dense_shape(value))}")
    column.values += values


def _written(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
