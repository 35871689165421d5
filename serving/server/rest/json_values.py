"""JSON values of one tensor, walked as TF Serving walks them: the first that does not fit is named, with its text.

This is the exact form of `json_tensors.py`, whose fast form takes what is regular (json_tensor.cc, `FillTensorProto`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

import grpc
from tensorflow.core.framework import types_pb2

from serving.server.rest.json_text import debug_text, type_name
from serving.server.status import ServingError, invalid_argument

_ENCODED = re.compile(r"[A-Za-z0-9+/]*([=.]{0,2})")


def dtype_name(dtype: int) -> str:
    """Returns TensorFlow's C++ name of a type: `float`, `int64`, `half`."""
    return types_pb2.DataType.Name(dtype)[3:].lower()


def text_bytes(text: str) -> bytes:
    """Returns the bytes of a JSON string; those that are not UTF-8 as they came."""
    return text.encode("utf-8", "surrogateescape")


def dense_shape(value: Any) -> list[int]:
    """Returns the shape that a value's first elements give it; a value that is no list has none."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def leaves(value: Any, dtype: int) -> tuple[list[int], list[Any]]:
    """Returns the shape of a value and its leaves in order, as Python values of `dtype` (strings as bytes).

    Raises:
      ServingError: the first leaf that is not of the type, or list that is not of the shape (INVALID_ARGUMENT); a type
        that JSON does not hold (UNIMPLEMENTED).
    """
    shape = dense_shape(value)
    found: list[Any] = []
    ahead = [(value, 0)]
    while ahead:
        each, level = ahead.pop()
        if not isinstance(each, list):
            found.append(_leaf(each, level, len(shape), dtype))
            continue
        if level >= len(shape):
            raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(each) != shape[level]:
            raise invalid_argument(
                f"Encountered list at unexpected size: {len(each)} at level: {level} expected size: {shape[level]}"
            )
        ahead.extend((below, level + 1) for below in reversed(each))
    return shape, found


def is_base64(value: Any) -> bool:
    """Whether a value is `{"b64": "…"}` and nothing else."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: Any) -> bytes:
    """Returns the bytes of `{"b64": "…"}`; padding may be left out.

    Raises:
      ServingError: INVALID_ARGUMENT where the value is another object or the text is not base64.
    """
    if not is_base64(value):
        raise invalid_argument(f"JSON Value: {debug_text(value)} not formatted correctly for base64 data")
    text = re.sub(r"[ \t\n\v\f\r]", "", value["b64"])
    found = _ENCODED.fullmatch(text)
    if found:
        digits = text[: len(text) - len(found[1])]
        padding = -len(digits) % 4
        if padding < 3 and len(found[1]) in (0, padding):
            try:
                return base64.b64decode(digits + "=" * padding)
            except binascii.Error:
                pass
    raise invalid_argument("Unable to base64 decode")


def _leaf(value: Any, level: int, rank: int, dtype: int) -> Any:
    if level != rank:
        raise invalid_argument(
            f"JSON Value: {debug_text(value)} found at incorrect level: {level + 1}"
            f" in the JSON DOM. Expected at level: {rank}"
        )
    if isinstance(value, dict):
        if dtype == types_pb2.DT_STRING:
            return decode_base64(value)
        raise _wrong_type(value, dtype)
    if dtype not in _FITS:
        message = f"Conversion of JSON Value: {debug_text(value)} to type: {dtype_name(dtype)}"
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, message)
    if not _FITS[dtype](value):
        raise _wrong_type(value, dtype)
    return text_bytes(value) if dtype == types_pb2.DT_STRING else value


def _wrong_type(value: Any, dtype: int) -> ServingError:
    return invalid_argument(
        f"JSON Value: {debug_text(value)} Type: {type_name(value)} is not of expected type: {dtype_name(dtype)}"
    )


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _number(value: Any) -> bool:
    return type(value) in (int, float)


# RapidJSON's `IsInt` is asked for all types of 32 bits and fewer: an int8 of 300 is taken, and wraps.
_INT = _whole(-(2**31), 2**31 - 1)
_FITS: dict[int, Callable[[Any], bool]] = {
    types_pb2.DT_FLOAT: _number,
    types_pb2.DT_DOUBLE: _number,
    types_pb2.DT_INT32: _INT,
    types_pb2.DT_INT16: _INT,
    types_pb2.DT_INT8: _INT,
    types_pb2.DT_UINT8: _INT,
    types_pb2.DT_INT64: _whole(-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: _whole(0, 2**32 - 1),
    types_pb2.DT_UINT64: _whole(0, 2**64 - 1),
    types_pb2.DT_BOOL: lambda value: type(value) is bool,
    types_pb2.DT_STRING: lambda value: type(value) is str,
}
