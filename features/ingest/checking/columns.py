"""Conversion of raw columns to the types the pipeline works with, vectorised; values that do not fit are masked.

Target types are named `string`, `int64`, `float64` and, for multi-valued columns, `list<string>`, `list<int64>`. What
each takes is in docs/reference/log_contract.md, Values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import list_lengths, lists_of, null_where, splits_of, to_numpy
from features.spec import Feature

ARROW_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}

#: Separates the values of a multi-valued feature where a file has no lists (CSV).
SEPARATOR = "|"

#: Doubles hold every integer below this; from here on they skip some.
EXACT = 2**53

_INTEGER = r"^[+-]?[0-9]{1,18}$"
_NUMBER = r"(?i)^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?$"
_NOT_FINITE = r"(?i)^([+-]?inf(inity)?|nan)$"
_BOOLEANS = pa.array(["True", "true", "TRUE", "False", "false", "FALSE"])

_Converted = tuple[pa.Array, np.ndarray]


def target_of(feature: Feature) -> str:
    """Returns the target type of a feature's column."""
    return f"list<{feature.dtype}>" if feature.multi_valued else feature.dtype


def arrow_type(target: str) -> pa.DataType:
    """Returns the Arrow type of a target."""
    if target.startswith("list<"):
        return pa.list_(ARROW_TYPES[target[5:-1]])
    return ARROW_TYPES[target]


def none_bad(rows: int) -> np.ndarray:
    """Returns [rows] bool, all False."""
    return np.zeros(rows, bool)


def convert(values: pa.Array, target: str) -> _Converted:
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
    values, broken = plain(values)
    if pa.types.is_list(kind):
        array, bad = _to_lists(values, target[5:-1])
    elif pa.types.is_nested(values.type):
        array, bad = _misfits(values, kind)
    else:
        array, bad = _CONVERTERS[target](values)
    return array, bad | broken


def plain(values: pa.Array) -> _Converted:
    """Unpacks dictionaries, extensions, half floats, wide texts and bytes; [N] bool where bytes are no UTF-8."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if pa.types.is_float16(values.type):  # Arrow casts none of them.
        values = pa.array(to_numpy(values).astype(np.float32), mask=to_numpy(values.is_null()))
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if str(values.type) in ("large_string", "string_view"):
        values = values.cast(pa.string())
    if str(values.type) == "binary_view" or pa.types.is_fixed_size_binary(values.type):
        values = values.cast(pa.binary())
    if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
        return values, none_bad(len(values))
    try:
        return values.cast(pa.string()), none_bad(len(values))
    except pa.ArrowInvalid:
        texts = [_utf8(value) for value in values.to_pylist()]
        strings = pa.array(texts, pa.string())
        return strings, mask_of(pc.and_(strings.is_null(), values.is_valid()))


def mask_of(values: pa.Array) -> np.ndarray:
    """Returns [N] bool, False for null."""
    return to_numpy(values.fill_null(False))


def _utf8(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _misfits(values: pa.Array, kind: pa.DataType) -> _Converted:
    return pa.nulls(len(values), kind), mask_of(values.is_valid())


def _to_string(values: pa.Array) -> _Converted:
    if pa.types.is_decimal(values.type):
        if values.type.scale <= 0:  # Digits, however many: ids of other systems are written so.
            texts = [None if value is None else format(value, "f") for value in values.to_pylist()]
            return pa.array(texts, pa.string()), none_bad(len(values))
        values = values.cast(pa.float64())
    if pa.types.is_floating(values.type):
        return _floats_as_text(values)
    if pa.types.is_duration(values.type) or pa.types.is_interval(values.type):
        return _misfits(values, pa.string())
    return values.cast(pa.string()), none_bad(len(values))


def _floats_as_text(values: pa.Array) -> _Converted:
    """Whole numbers in digits, others in their shortest form; those too large to be told apart do not fit."""
    numbers = to_numpy(values).astype(np.float64)
    whole = np.floor(numbers) == numbers
    bad = np.isinf(numbers) | (whole & (np.abs(numbers) >= EXACT))
    values = null_where(values, bad | np.isnan(numbers))
    texts = values.cast(pa.string())
    digits = pa.array(np.where(whole & ~bad, numbers, 0).astype(np.int64)).cast(pa.string())
    return pc.if_else(pc.and_(pa.array(whole), values.is_valid()), digits, texts), bad


def _to_int64(values: pa.Array) -> _Converted:
    if pa.types.is_string(values.type):
        return _text_to_int64(values)
    if pa.types.is_decimal(values.type):
        return _decimal_to_int64(values)
    if pa.types.is_floating(values.type):
        return _floats_to_int64(to_numpy(values).astype(np.float64))
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        try:
            return values.cast(pa.int64()), none_bad(len(values))
        except pa.ArrowInvalid:  # uint64 beyond int64.
            bad = mask_of(pc.greater(values, pa.scalar(2**63 - 1, pa.uint64())))
            return null_where(values, bad).cast(pa.int64()), bad
    return _misfits(values, pa.int64())


def _floats_to_int64(numbers: np.ndarray) -> _Converted:
    missing = np.isnan(numbers)
    fits = (np.floor(numbers) == numbers) & (np.abs(numbers) < EXACT)
    return pa.array(np.where(fits, numbers, 0).astype(np.int64), mask=~fits), ~fits & ~missing


def _decimal_to_int64(values: pa.Array) -> _Converted:
    if values.type.scale > 0:
        return _floats_to_int64(to_numpy(values.cast(pa.float64())))
    texts, _ = _to_string(values)
    return _text_to_int64(texts)


def _to_float64(values: pa.Array) -> _Converted:
    if pa.types.is_string(values.type):
        return _text_to_float64(values)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_decimal(values.type)):
        return _misfits(values, pa.float64())
    numbers = values.cast(pa.float64(), safe=False)
    return null_where(numbers, pc.is_nan(numbers)), none_bad(len(values))


_CONVERTERS: dict[str, Callable[[pa.Array], _Converted]] = {
    "string": _to_string,
    "int64": _to_int64,
    "float64": _to_float64,
}


def _trimmed(values: pa.Array) -> pa.Array:
    """Numbers may stand between blanks; what is blank is missing."""
    texts = pc.utf8_trim_whitespace(values)
    return null_where(texts, pc.equal(texts, ""))


def _text_to_int64(values: pa.Array) -> _Converted:
    texts = _trimmed(values)
    simple = mask_of(pc.match_substring_regex(texts, _INTEGER))
    given = mask_of(texts.is_valid())
    plain_texts = pc.replace_substring_regex(null_where(texts, ~simple), r"^\+", "")
    array = plain_texts.cast(pa.int64())
    others = np.flatnonzero(given & ~simple)
    if not len(others):
        return array, none_bad(len(values))
    # Few as a rule: 7.0, True, 19 digits. In columns that are written so throughout, one batch at a time.
    found, bad = _unusual_integers(texts.take(pa.array(others)))
    rest = np.zeros(len(values), np.int64)
    rest[others] = found
    fits = np.zeros(len(values), bool)
    fits[others[~bad]] = True
    misfit = none_bad(len(values))
    misfit[others[bad]] = True
    missing = mask_of(pc.match_substring_regex(texts, r"(?i)^nan$"))
    return pc.if_else(pa.array(fits), pa.array(rest), array), misfit & ~missing


def _unusual_integers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Integers of texts that are not up to 18 digits: [M] int64 and [M] bool: none."""
    found, bad = np.zeros(len(texts), np.int64), np.ones(len(texts), bool)
    truth = pc.fill_null(pc.index_in(texts, _BOOLEANS), -1).to_numpy()
    found[truth >= 0] = truth[truth >= 0] < 3
    bad[truth >= 0] = False
    numbers = np.flatnonzero(mask_of(pc.match_substring_regex(texts, _NUMBER)))
    if len(numbers):
        parsed = texts.take(pa.array(numbers))
        whole, misfit = _floats_to_int64(to_numpy(parsed.cast(pa.float64())))
        found[numbers], bad[numbers] = to_numpy(whole.fill_null(0)), misfit
    for row in np.flatnonzero(mask_of(pc.match_substring_regex(texts, r"^[+-]?[0-9]{19,64}$"))):
        number = int(texts[int(row)].as_py())
        bad[row] = not -(2**63) <= number < 2**63
        found[row] = 0 if bad[row] else number
    return found, bad


def _text_to_float64(values: pa.Array) -> _Converted:
    texts = _trimmed(values)
    finite = mask_of(pc.match_substring_regex(texts, _NUMBER))
    other = mask_of(texts.is_valid()) & ~finite
    array = pc.replace_substring_regex(null_where(texts, other), r"^\+", "").cast(pa.float64())
    if not other.any():
        return array, other
    special = mask_of(pc.match_substring_regex(texts, _NOT_FINITE)) & other
    lowered = pc.utf8_lower(texts)
    infinite = special & ~mask_of(pc.equal(lowered, "nan"))
    sign = np.where(mask_of(pc.starts_with(lowered, "-")), -np.inf, np.inf)
    truth = pc.fill_null(pc.index_in(texts, _BOOLEANS), -1).to_numpy()
    array = pc.if_else(pa.array(infinite), pa.array(sign), array)
    array = pc.if_else(pa.array(truth >= 0), pa.array((truth < 3).astype(np.float64)), array)
    return array, other & ~special & (truth < 0)


def _to_lists(values: pa.Array, item: str) -> _Converted:
    if pa.types.is_string(values.type):
        values = pc.split_pattern(values, SEPARATOR)
    elif pa.types.is_fixed_size_list(values.type):  # Arrow casts none of them.
        given = to_numpy(values.is_valid())
        values = lists_of(values.flatten(), splits_of(given * values.type.list_size), missing=~given)
    elif pa.types.is_large_list(values.type) or str(values.type).startswith(("list_view", "large_list_view")):
        values = values.cast(pa.list_(values.type.value_type))
    elif pa.types.is_nested(values.type) and not pa.types.is_list(values.type):
        return _misfits(values, arrow_type(f"list<{item}>"))
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
