"""TensorProtos are read and written as TensorFlow's own code does, value for value."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2

from serving.server.inference.tensor_protos import decode, encode

TYPES = (
    *(tf.float32, tf.float64, tf.int64, tf.int32, tf.int16, tf.int8, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
    *(tf.bool, tf.string, tf.float16, tf.bfloat16, tf.complex64, tf.complex128),
)
STRINGS = (b"", b"a", b"a\0", b"\0\0", "größe".encode(), b"\xff\xfe", b"x" * 300)


def values(dtype, shape, seed: int) -> np.ndarray:
    """Random values of a type, the largest and the smallest among them."""
    rng = np.random.default_rng(seed)
    if dtype == tf.string:
        found = np.empty(shape, object)
        for place in np.ndindex(*shape):
            found[place] = STRINGS[rng.integers(len(STRINGS))]
        return found
    if dtype.is_integer:
        info = np.iinfo(dtype.as_numpy_dtype)
        found = rng.integers(info.min, info.max, shape, dtype.as_numpy_dtype, endpoint=True)
        return np.asarray(np.where(rng.random(shape) < 0.2, info.max, found), dtype.as_numpy_dtype)
    if dtype == tf.bool:
        return np.asarray(rng.random(shape) < 0.5)
    found = np.where(rng.random(shape) < 0.1, np.nan, rng.normal(size=shape) * 10.0 ** rng.integers(-4, 5, shape))
    if dtype.is_complex:
        found = found + 1j * rng.normal(size=shape)
    return np.asarray(found).astype(dtype.as_numpy_dtype)


def assert_same(found: np.ndarray, expected: np.ndarray):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    same = found.tolist() if found.dtype == object else np.ascontiguousarray(found).tobytes()
    assert same == (expected.tolist() if found.dtype == object else np.ascontiguousarray(expected).tobytes())


def by_tensorflow(proto: tensor_pb2.TensorProto) -> np.ndarray | None:
    """What `Tensor::FromProto` makes of a proto; None if it refuses it."""
    try:
        found = tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(proto.dtype)).numpy()
    except tf.errors.OpError:
        return None
    return np.array(found, object) if isinstance(found, bytes) else found


SHAPES = st.sampled_from([(), (0,), (1,), (3,), (20,), (4, 5), (2, 0, 3), (2, 3, 4)])


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
@settings(max_examples=30, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1), as_content=st.booleans())
def test_what_is_written_is_what_tensorflow_reads(dtype, shape, seed, as_content):
    expected = values(dtype, shape, seed)
    proto = tensor_pb2.TensorProto()
    encode(expected, proto, as_content)
    assert proto.dtype == dtype.as_datatype_enum and bool(proto.tensor_content) == (as_content and expected.size > 0)
    assert_same(decode(proto), expected)
    assert_same(by_tensorflow(proto), expected)
    if dtype != tf.bfloat16:
        made = tf.make_tensor_proto(expected, dtype)
        assert_same(decode(made), expected)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
@settings(max_examples=30, deadline=None)
@given(
    held=st.integers(0, 40),
    shape=st.lists(st.integers(0, 5), max_size=3),
    seed=st.integers(0, 2**32 - 1),
    as_content=st.booleans(),
)
def test_values_of_another_number_are_read_as_tensorflow_reads_them(dtype, held, shape, seed, as_content):
    proto = tensor_pb2.TensorProto()
    encode(values(dtype, (held,), seed), proto, as_content)
    proto.tensor_shape.Clear()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    expected = by_tensorflow(proto)
    if expected is None:
        with pytest.raises(ValueError):
            decode(proto)
    else:
        assert_same(decode(proto), expected)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=40), count=st.integers(0, 6))
def test_raw_strings_are_read_as_tensorflow_reads_them(content, count):
    proto = tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum, tensor_content=content)
    proto.tensor_shape.dim.add(size=count)
    expected = by_tensorflow(proto)
    if expected is None:
        with pytest.raises(ValueError):
            decode(proto)
    else:
        assert_same(decode(proto), expected)


@pytest.mark.parametrize("dtype", [0, 20, 21, 101, 999])
def test_types_without_a_tensor_are_refused(dtype):
    with pytest.raises(ValueError, match="no tensor of type"):
        decode(tensor_pb2.TensorProto(dtype=dtype))


@pytest.mark.parametrize("shape", [[-1], [2**40, 2**40], [2**62], [10**10], [1] * 255])
def test_shapes_without_their_values_are_refused(shape):
    proto = tensor_pb2.TensorProto(dtype=1, float_val=[1.0])
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    with pytest.raises(ValueError):
        decode(proto)
