"""TensorProto to array and back, with the meaning that `Tensor::FromProto` and `AsProtoField` give it in TensorFlow.

Floats go over as bytes: protobuf's Python reads and writes a repeated field element by element (57 ns and 45 ns each),
while their packed form is the array's own memory.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto

#: From here on going over bytes is faster than element by element.
_MANY = 16
#: TensorFlow's bound on the rank of a tensor.
_MAX_RANK = 254
#: What few values may be continued to. A shape costs a caller nothing, and TensorFlow would allocate any.
_MAX_CONTINUED_BYTES = 64 * 2**20


class _Kind(NamedTuple):
    """How a type lies in a TensorProto: the array's type, the repeated field, and the tag of its packed form."""

    dtype: np.dtype
    field: str
    tag: bytes | None = None
    bits: bool = False
    pairs: bool = False


@functools.cache
def _kinds() -> dict[int, _Kind]:
    import tensorflow as tf

    bfloat16 = np.dtype(tf.bfloat16.as_numpy_dtype)
    return {
        tf.float32.as_datatype_enum: _Kind(np.dtype("<f4"), "float_val", b"\x2a"),
        tf.float64.as_datatype_enum: _Kind(np.dtype("<f8"), "double_val", b"\x32"),
        tf.bool.as_datatype_enum: _Kind(np.dtype(bool), "bool_val", b"\x5a"),
        tf.string.as_datatype_enum: _Kind(np.dtype(object), "string_val"),
        tf.int64.as_datatype_enum: _Kind(np.dtype("<i8"), "int64_val"),
        **{each.as_datatype_enum: _Kind(np.dtype(each.as_numpy_dtype), "int_val") for each in _narrow()},
        tf.uint32.as_datatype_enum: _Kind(np.dtype("<u4"), "uint32_val"),
        tf.uint64.as_datatype_enum: _Kind(np.dtype("<u8"), "uint64_val"),
        tf.float16.as_datatype_enum: _Kind(np.dtype("<f2"), "half_val", bits=True),
        tf.bfloat16.as_datatype_enum: _Kind(bfloat16, "half_val", bits=True),
        tf.complex64.as_datatype_enum: _Kind(np.dtype("<c8"), "scomplex_val", pairs=True),
        tf.complex128.as_datatype_enum: _Kind(np.dtype("<c16"), "dcomplex_val", pairs=True),
    }


def _narrow() -> tuple:
    import tensorflow as tf

    return tf.int32, tf.int16, tf.int8, tf.uint16, tf.uint8


@functools.cache
def _numbers() -> dict[np.dtype, int]:
    return {kind.dtype: number for number, kind in _kinds().items()}


def decode(proto: TensorProto) -> np.ndarray:
    """Returns the tensor that a TensorProto holds.

    As in TensorFlow, too few values of a repeated field are continued by the last one (by zeros if there is none), too
    many are left out, and raw bytes must be exactly those of the shape. What comes from bytes cannot be written to.

    Raises:
      ValueError: if TensorFlow would not decode it.
    """
    kind = _kinds().get(proto.dtype)
    if kind is None:
        raise ValueError(f"no tensor of type {proto.dtype}")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    count = _elements(shape)
    if not count:
        return np.empty(shape, kind.dtype)
    content = proto.tensor_content
    if content:
        return (_strings(content, count) if kind.dtype.kind == "O" else _raw(content, kind.dtype, count)).reshape(shape)
    return _filled(_values(proto, kind), kind.dtype, count).reshape(shape)


def _elements(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
        if size < 0:
            raise ValueError("a negative dimension")
    if len(shape) > _MAX_RANK or count >= 2**63:
        raise ValueError("too many dimensions or elements")
    return count


def _raw(content: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    if len(content) != count * dtype.itemsize:
        raise ValueError("not the bytes of the shape")
    if dtype.kind == "b" and not frozenset(content) <= {0, 1}:
        return np.frombuffer(content, np.uint8) != 0  # an array of other bytes has no meaning
    return np.frombuffer(content, dtype)


def _strings(content: bytes, count: int) -> np.ndarray:
    """Strings of `tensor_content`: their lengths as varints, then their bytes (port::DecodeStringList)."""
    if count > len(content):
        raise ValueError("fewer bytes than strings")
    lengths, place = [], 0
    for _ in range(count):
        length, shift = 0, 0
        while True:
            if place >= len(content) or shift > 63:
                raise ValueError("a length that does not end")
            byte = content[place]
            length |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if byte < 0x80:
                break
        lengths.append(length)
    if place + sum(lengths) != len(content):
        raise ValueError("not the bytes of the strings")
    found = np.empty(count, object)
    for number, length in enumerate(lengths):
        found[number] = content[place : place + length]
        place += length
    return found


def _values(proto: TensorProto, kind: _Kind) -> np.ndarray:
    """What the repeated field holds, as a flat array of any length."""
    values = getattr(proto, kind.field)
    if kind.tag is not None and len(values) >= _MANY:
        size = len(values) * kind.dtype.itemsize
        alone = type(proto)()
        getattr(alone, kind.field).MergeFrom(values)
        packed = alone.SerializeToString()
        return np.frombuffer(packed, kind.dtype, offset=len(packed) - size)
    if kind.dtype.kind == "O":
        found = np.empty(len(values), object)
        found[:] = list(values)
        return found
    if kind.bits:
        return np.array(values, np.int32).astype(np.uint16).view(kind.dtype)
    if kind.pairs:
        parts = np.array(values[: len(values) // 2 * 2], _part(kind.dtype))
        return parts.view(kind.dtype)
    if kind.field == "int_val":
        return np.array(values, np.int32).astype(kind.dtype)  # narrowed as a C++ cast does
    return np.array(values, kind.dtype)


def _part(dtype: np.dtype) -> np.dtype:
    """The type of a complex number's parts."""
    return np.dtype(f"<f{dtype.itemsize // 2}")


def _filled(values: np.ndarray, dtype: np.dtype, count: int) -> np.ndarray:
    """Exactly `count` values: the last one is continued, or zeros (empty strings) if there are none."""
    if len(values) == count:
        return values
    if len(values) > count:
        return values[:count]
    if count * dtype.itemsize > _MAX_CONTINUED_BYTES:
        raise ValueError("too few values for so large a shape")
    found = np.empty(count, dtype)
    found[: len(values)] = values
    found[len(values) :] = values[-1] if len(values) else (b"" if dtype.kind == "O" else dtype.type(0))
    return found


def encode(array: np.ndarray, proto: TensorProto, as_content: bool = False) -> None:
    """Writes a tensor into an empty TensorProto.

    Args:
      array: as TensorFlow hands it out: strings are bytes in an array of objects.
      proto: what it is written to.
      as_content: into raw bytes, rather than the repeated field of its type.

    Raises:
      ValueError: for a type that a TensorProto has no field for.
    """
    number = _numbers().get(array.dtype)
    if number is None:
        raise ValueError(f"no TensorProto of type {array.dtype}")
    kind = _kinds()[number]
    proto.dtype = number
    dims = proto.tensor_shape.dim
    for size in array.shape:
        dims.add(size=size)
    if not array.size:
        return
    if as_content:
        proto.tensor_content = _string_content(array) if kind.dtype.kind == "O" else array.tobytes()
    elif kind.tag is not None:
        content = array.tobytes()
        proto.MergeFromString(b"".join((kind.tag, _varint(len(content)), content)))
    elif kind.bits:
        getattr(proto, kind.field).extend(array.ravel().view(np.uint16).tolist())
    elif kind.pairs:
        getattr(proto, kind.field).extend(array.ravel().view(_part(array.dtype)).tolist())
    else:
        getattr(proto, kind.field).extend(array.ravel().tolist())


def _string_content(array: np.ndarray) -> bytes:
    strings = array.ravel().tolist()
    return b"".join([*(_varint(len(each)) for each in strings), *strings])


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
