"""One JSON request to one raw row (docs/reference/data_formats.md), which `serving/requests/tensors.py` makes tensors.

    {"request_id": "r1",
     "user": {"user_id": "u7", "age_band": "25-34"},
     "context": {"hour": 21},
     "candidates": [{"item_id": "i3", "price": 12.5, "title": ["red", "shoe"]}, {"item_id": "i9"}],
     "timestamp": 1700000000000,
     "history": [{"item_id": "i8", "timestamp": 1699990000000}, {"item_id": "i1"}]}

`user` and `context` hold the features of scope `request` (either may hold any of them), each entry of `candidates`
those of scope `candidate`; `history` holds the user's behaviours, oldest first, with the spec's history features
(models that read no histories ignore it). Times are UTC milliseconds; how old a behaviour is where they are absent, a
model does not know. A feature that is absent or null is missing. The keys of the log contract
(`user_id`, `timestamp`, `item_id`, …) are allowed where they belong even if the model does not read them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import numbers
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from features.config import nearest
from features.errors import InputError
from features.histories.windows import TIMESTAMP, attach_histories
from features.spec import KEY_COLUMNS, Feature, FeatureSpec, Scope
from serving.saved.signature_specs import TIME, arrow_type

_SECTIONS = ("user", "context", "candidates")
_CANDIDATE = "`candidates[{}]`"
_INT64 = range(-(2**63), 2**63)

#: What a number may be in JSON, by a feature's `dtype`. A bool is none.
_PLAIN = {"int64": {int, type(None)}, "float64": {float, int, type(None)}}


class RequestError(InputError):
    """A request that cannot be ranked. The message names the place, the value and the fix."""

    def __init__(self, message: str):
        # A key may hold lone surrogates, which cannot be printed.
        super().__init__(message.encode("utf-8", "backslashreplace").decode())


def row_from_request(
    spec: FeatureSpec, request: dict[str, Any], *, candidates: bool = True, histories: bool = True
) -> pa.Table:
    """Turns one JSON request into one raw row.

    Values are checked a column at a time: one by one only where a column holds something that does not belong there.

    Args:
      spec: the features that a request may hold.
      request: the parsed JSON.
      candidates: whether the request lists its candidates; otherwise it must not.
      histories: whether `history` is read; otherwise it is ignored, as it is where the spec has no histories.

    Returns:
      One row: the request features, `user_id` and `timestamp`; of N candidates their features and `item_id`, as lists
      of N values; the windows of `history` (`features.histories.windows.attach_histories`). What is absent is null.

    Raises:
      RequestError: for an unknown feature, a feature in the wrong place or of the wrong type, candidates that are
        missing or not wanted.
    """
    if not isinstance(request, dict):
        raise RequestError(f"a request must be a JSON object. Received: {type(request).__name__}.")
    for key in request:
        if key not in (*_SECTIONS, "history", "request_id", TIMESTAMP):
            raise RequestError(f"`{key}` is not a part of a request.{_hint(spec, key, _SECTIONS)}")
    values = [_request_values(spec, request)]
    columns = _columns(_with_id(spec, "request", "user_id", values), values, "the request")
    if candidates:
        rows = _candidate_values(spec, request)
        columns |= _one_row(_columns(_with_id(spec, "candidate", "item_id", rows), rows, _CANDIDATE))
    elif "candidates" in request:
        raise RequestError("the cascade finds the candidates itself: leave `candidates` out of the request.")
    if not histories or spec.history is None:
        return pa.table(columns)
    if TIMESTAMP not in columns:
        columns |= _columns([TIME], [{TIMESTAMP: request.get(TIMESTAMP)}], "the request")
    behaviors = _one_row(behavior_columns(spec, request.get("history")))
    count = len(behaviors[spec.history.features[0]].values)
    columns |= {"user_index": pa.array([0], pa.int32()), "history_end": pa.array([count])}
    return attach_histories(pa.table(columns), pa.table(behaviors), spec.history)


def _request_values(spec: FeatureSpec, request: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for section in ("user", "context"):
        values = request.get(section)
        if values is None:
            continue
        if not isinstance(values, dict):
            raise RequestError(f"`{section}` must be an object of features. Received: {type(values).__name__}.")
        _check_names(spec, "request", [values], f"`{section}`")
        for name, value in values.items():
            if name in merged:
                raise RequestError(f"`{name}` stands in both `user` and `context`: keep one.")
            merged[name] = value
    return merged


def _candidate_values(spec: FeatureSpec, request: dict[str, Any]) -> list[dict[str, Any]]:
    candidates = request.get("candidates")
    if candidates is None:
        raise RequestError("the request has no `candidates`: give a list with one object of features an item.")
    if not isinstance(candidates, list):
        raise RequestError(f"`candidates` must be a list of objects. Received: {type(candidates).__name__}.")
    for index, candidate in enumerate(candidates):
        if not isinstance(candidate, dict):
            place = _CANDIDATE.format(index)
            raise RequestError(f"{place} must be an object of features. Received: {type(candidate).__name__}.")
    _check_names(spec, "candidate", candidates, _CANDIDATE)
    return candidates


def behavior_columns(spec: FeatureSpec, history: Any) -> dict[str, pa.Array]:
    """Returns the values of behaviours by history feature, and their times, each [n].

    Args:
      spec: the features; it has histories.
      history: of a request: a list of objects, oldest first; None: none.

    Raises:
      RequestError: for an unknown feature, or a value of the wrong type.
    """
    history = [] if history is None else history
    if not isinstance(history, list) or not all(isinstance(behavior, dict) for behavior in history):
        raise RequestError("`history` must be a list of objects of features, oldest first.")
    names = spec.history.features
    for index, name in _unknown_names(history, {*names, "item_id", TIMESTAMP, "action"}):
        raise RequestError(f"`history[{index}]`: `{name}` is not a history feature.{nearest(name, names)}")
    return _columns([*(spec[name] for name in names), TIME], history, "`history[{}]`")


def _unknown_names(rows: list[dict[str, Any]], known: set[str]) -> Iterable[tuple[int, str]]:
    """Names in rows that are not known, each with the index of its row; rows without are passed at once."""
    if known.issuperset(itertools.chain.from_iterable(rows)):
        return ()
    return ((index, name) for index, row in enumerate(rows) for name in row if name not in known)


def _check_names(spec: FeatureSpec, scope: Scope, rows: list[dict[str, Any]], place: str) -> None:
    keys = tuple(key for key in KEY_COLUMNS if (key == "item_id") == (scope == "candidate"))
    scopes = dict.fromkeys(keys, scope) | {feature.name: feature.scope for feature in spec.features}
    for index, name in _unknown_names(rows, {name for name, found in scopes.items() if found == scope}):
        place = place.format(index)
        if name not in scopes:
            raise RequestError(f"{place}: `{name}` is not a feature of this model.{_hint(spec, name, keys)}")
        home = "`user` or `context`" if scope == "candidate" else "each of `candidates`"
        raise RequestError(f"{place}: `{name}` is a feature of scope {scopes[name]}: put it into {home}.")


def _with_id(spec: FeatureSpec, scope: Scope, key: str, rows: list[dict[str, Any]]) -> tuple[Feature, ...]:
    """The features of a scope, and its id of the log contract where that is none of them."""
    features = spec.of_scope(scope)
    if key in [feature.name for feature in features]:
        return features
    types = {type(row.get(key)) for row in rows} - {type(None)}
    return (*features, _id_feature(key, "int64" if types == {int} else "string"))


@functools.cache
def _id_feature(key: str, dtype: str) -> Feature:
    return Feature(name=key, table="impressions", dtype=dtype)


def _columns(features: Sequence[Feature], rows: list[dict[str, Any]], place: str) -> dict[str, pa.Array]:
    """The values of n rows by feature, each [n]."""
    types = {feature.name: arrow_type(feature) for feature in features}
    if all(_is_plain(feature, rows) for feature in features):
        # Arrow refuses what its types cannot hold; the slower way says what that is.
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            return dict(zip(types, pa.array(rows, pa.struct(list(types.items()))).flatten(), strict=True))
    found = {}
    for feature in features:
        values = [_checked(feature, row.get(feature.name), place.format(i)) for i, row in enumerate(rows)]
        found[feature.name] = pa.array(values, types[feature.name])
    return found


def _is_plain(feature: Feature, rows: list[dict[str, Any]]) -> bool:
    """Whether Arrow may judge the values: it knows what is text, but takes 1.5 for an integer and text for a list."""
    if feature.dtype == "string" and not feature.multi_valued:
        return True
    values: Iterable[Any] = [row.get(feature.name) for row in rows]
    if feature.multi_valued:
        if not {list, type(None)}.issuperset(map(type, values)):
            return False
        values = itertools.chain.from_iterable(filter(None, values))
    return feature.dtype == "string" or _PLAIN[feature.dtype].issuperset(map(type, values))


def _one_row(columns: dict[str, pa.Array]) -> dict[str, pa.ListArray]:
    """All values of each column as one list."""
    offsets = pa.array([0, len(next(iter(columns.values())))], pa.int32())
    return {name: pa.ListArray.from_arrays(offsets, values) for name, values in columns.items()}


def _hint(spec: FeatureSpec, name: str, also: tuple[str, ...]) -> str:
    names = [feature.name for feature in spec.features]
    return nearest(str(name), [*names, *also]) or f" Known: {', '.join([*names, *also])}."


def _checked(feature: Feature, value: Any, place: str) -> Any:
    if value is None:
        return None
    if feature.multi_valued:
        if not isinstance(value, list):
            raise _wrong_type(feature, value, place, f"a list of {feature.dtype} values")
        return [None if entry is None else _checked_value(feature, entry, place) for entry in value]
    return _checked_value(feature, value, place)


def _checked_value(feature: Feature, value: Any, place: str) -> Any:
    if feature.dtype == "string" and isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _wrong_type(feature, value, place, "text that UTF-8 can hold (no lone surrogates)") from None
        return value
    # bool is an int to Python, but not to whoever wrote the request.
    if not isinstance(value, bool):
        if feature.dtype == "int64" and isinstance(value, numbers.Integral) and int(value) in _INT64:
            return int(value)
        if feature.dtype == "float64" and isinstance(value, numbers.Real):
            try:
                return float(value)
            except OverflowError:
                raise _wrong_type(feature, value, place, "a number within float64's range") from None
    raise _wrong_type(
        feature, value, place, {"string": "a string", "int64": "a 64-bit integer"}.get(feature.dtype, "a number")
    )


def _wrong_type(feature: Feature, value: Any, place: str, expected: str) -> RequestError:
    return RequestError(
        f"{place}: `{feature.name}` must be {expected}. Received: {reprlib.repr(value)} ({type(value).__name__})."
    )
