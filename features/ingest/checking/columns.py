"""Conversion of raw columns to the types the pipeline works with, vectorised; values that do not fit are masked.

Target types are named `string`, `int64`, `float64` and, for multi-valued columns, `list<string>`, `list<int64>`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import list_lengths, lists_of, null_where, splits_of, to_numpy
from features.spec import Feature

ARROW_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}

#: Separates the values of a multi-valued feature where a file has no lists (CSV).
SEPARATOR = "|"

_INTEGER = r"^[+-]?[0-9]{1,18}$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def target_of(feature: Feature) -> str:
    """Returns the target type of a feature's column."""
    return f"list<{feature.dtype}>" if feature.multi_valued else feature.dtype


def arrow_type(target: str) -> pa.DataType:
    if target.startswith("list<"):
        return pa.list_(ARROW_TYPES[target[5:-1]])
    return ARROW_TYPES[target]


def none_bad(rows: int) -> np.ndarray:
    return np.zeros(rows, bool)


def convert(values: pa.Array, target: str) -> tuple[pa.Array, np.ndarray]:
    """Converts a column.

    Args:
      values: [N] of any type.
      target: see the module.

    Returns:
      The [N] array of the target type, null where a value was null or did not fit, and [N] bool: did not fit.
    """
    kind = arrow_type(target)
    if values.type == kind and not pa.types.is_floating(kind):
        return values, none_bad(len(values))
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), kind), none_bad(len(values))
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    values, broken = _decode(values)
    if pa.types.is_list(kind):
        array, bad = _to_lists(values, target[5:-1])
    elif pa.types.is_nested(values.type):
        array, bad = pa.nulls(len(values), kind), _mask(values.is_valid())
    else:
        array, bad = {"string": _to_string, "int64": _to_int64, "float64": _to_float64}[target](values)
    return array, bad | broken


def to_milliseconds(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Converts timestamps: integers and digits are UTC milliseconds; Arrow timestamps are converted, naive = UTC."""
    if pa.types.is_timestamp(values.type):
        # Going through the zone-less type keeps the instant: Arrow stores zoned timestamps in UTC.
        values = values.cast(pa.timestamp(values.type.unit)).cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    return convert(values, "int64")


def _mask(values: pa.Array) -> np.ndarray:
    return to_numpy(values.fill_null(False))


def _decode(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Bytes to strings; [N] bool where they are no UTF-8."""
    if pa.types.is_large_string(values.type):
        values = values.cast(pa.string())
    if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
        return values, none_bad(len(values))
    try:
        return values.cast(pa.string()), none_bad(len(values))
    except pa.ArrowInvalid:
        texts = [_utf8(value) for value in values.to_pylist()]
        strings = pa.array(texts, pa.string())
        return strings, _mask(pc.and_(strings.is_null(), values.is_valid()))


def _utf8(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _to_string(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    return values.cast(pa.string()), none_bad(len(values))


def _to_int64(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    if pa.types.is_string(values.type):
        return _from_text(values, _INTEGER, pa.int64())
    if pa.types.is_floating(values.type):
        numbers = to_numpy(values)
        missing = np.isnan(numbers)
        fits = (np.floor(numbers) == numbers) & (np.abs(numbers) < 2**63)
        whole = np.where(fits, numbers, 0).astype(np.int64)
        return pa.array(whole, mask=~fits), ~fits & ~missing
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        try:
            return values.cast(pa.int64()), none_bad(len(values))
        except pa.ArrowInvalid:  # uint64 beyond int64.
            bad = _mask(pc.greater(values, pa.scalar(2**63 - 1, pa.uint64())))
            return null_where(values, bad).cast(pa.int64()), bad
    return pa.nulls(len(values), pa.int64()), _mask(values.is_valid())


def _to_float64(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    if pa.types.is_string(values.type):
        return _from_text(values, _NUMBER, pa.float64())
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)):
        return pa.nulls(len(values), pa.float64()), _mask(values.is_valid())
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    numbers = values.cast(pa.float64(), safe=False)
    return null_where(numbers, pc.is_nan(numbers)), none_bad(len(values))


def _from_text(values: pa.Array, pattern: str, kind: pa.DataType) -> tuple[pa.Array, np.ndarray]:
    texts = pc.utf8_trim_whitespace(values)
    texts = null_where(texts, pc.equal(texts, ""))
    fits = pc.match_substring_regex(texts, pattern)
    bad = ~_mask(pc.fill_null(fits, True))
    if bad.any():
        texts = null_where(texts, bad)
    if kind == pa.int64():
        texts = pc.replace_substring_regex(texts, r"^\+", "")
    return texts.cast(kind), bad


def _to_lists(values: pa.Array, item: str) -> tuple[pa.Array, np.ndarray]:
    if pa.types.is_string(values.type):
        values = pc.split_pattern(values, SEPARATOR)
    elif pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type):
        values = values.cast(pa.list_(values.type.value_type))
    elif not pa.types.is_list(values.type):
        # One value is a list of one; a null stays a null.
        given = to_numpy(values.is_valid())
        values = lists_of(values.drop_null(), splits_of(given), missing=~given)
    inner, bad_inner = convert(values.flatten(), item)
    bad = none_bad(len(values))
    if bad_inner.any():
        bad[pc.list_parent_indices(values).to_numpy()[bad_inner]] = True
    return rebuild_lists(values, inner), bad


def rebuild_lists(lists: pa.ListArray, inner: pa.Array) -> pa.ListArray:
    """Returns `lists` with other values: `inner` stands for `lists.flatten()`. Offsets are rebased, nulls kept."""
    return lists_of(inner, splits_of(list_lengths(lists)), missing=to_numpy(lists.is_null()))
