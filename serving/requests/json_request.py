"""One JSON request to the input tensors of an exported ranker.

    {"request_id": "r1",
     "user": {"user_id": "u7", "age_band": "25-34"},
     "context": {"hour": 21},
     "candidates": [{"item_id": "i3", "price": 12.5, "title": ["red", "shoe"]}, {"item_id": "i9"}],
     "history": [{"item_id": "i8"}, {"item_id": "i1"}]}

`user` and `context` hold the features of scope `request` (either may hold any of them), each entry of `candidates`
those of scope `candidate`; `history` holds the user's behaviours, oldest first, with the spec's history features
(models that read no histories ignore it). A feature that is absent or null is missing. The keys of the log contract
(`user_id`, `timestamp`, `item_id`, …) are allowed where they belong even if the model does not read them.
"""

from __future__ import annotations

import numbers
import reprlib
from typing import Any

import numpy as np
import pyarrow as pa

from features.config import nearest
from features.errors import InputError
from features.histories.windows import attach_histories
from features.spec import KEY_COLUMNS, Feature, FeatureSpec
from serving.requests.tensors import feature_tensor
from serving.signature_specs import arrow_type

_SECTIONS = ("user", "context", "candidates")
_INT64 = range(-(2**63), 2**63)


class RequestError(InputError):
    """A request that cannot be ranked. The message names the place, the value and the fix."""


def tensors_from_request(spec: FeatureSpec, request: dict[str, Any]) -> dict[str, np.ndarray]:
    """Turns one JSON request with N candidates into the inputs of the signature `serving_default`.

    Returns:
      `{feature: [1] or [N], multi-valued [1, V] or [N, V]}`; absent features as the missing marks.

    Raises:
      RequestError: for an unknown feature, a feature in the wrong place or of the wrong type, no candidate list.
    """
    _check_parts(spec, request)
    request_values = _request_values(spec, request)
    candidates = _candidate_values(spec, request)
    tensors = {}
    for feature in spec.features:
        rows, places = (
            ([request_values], ["the request"])
            if feature.scope == "request"
            else (candidates, [f"`candidates[{i}]`" for i in range(len(candidates))])
        )
        values = [_checked(feature, row.get(feature.name), place) for row, place in zip(rows, places, strict=True)]
        value_type = arrow_type(feature)
        array = pa.array(values, pa.list_(value_type) if feature.multi_valued else value_type)
        tensors[feature.name] = feature_tensor(feature, array)
    return tensors


def behaviors_from_request(spec: FeatureSpec, request: dict[str, Any]) -> pa.Table:
    """Returns the `history` of a JSON request: one row a behaviour, oldest first, with the spec's history features.

    Raises:
      RequestError: if it is not a list of objects, or a value is of the wrong type.
    """
    history = request.get("history")
    history = [] if history is None else history
    if not isinstance(history, list) or not all(isinstance(behavior, dict) for behavior in history):
        raise RequestError("`history` must be a list of objects of features, oldest first.")
    names = spec.history.features
    for index, behavior in enumerate(history):
        for name in behavior:
            if name not in (*names, "item_id", "timestamp", "action"):
                raise RequestError(f"`history[{index}]`: `{name}` is not a history feature.{nearest(name, names)}")
    columns = {}
    for name in names:
        values = [_checked(spec[name], behavior.get(name), f"`history[{i}]`") for i, behavior in enumerate(history)]
        columns[name] = pa.array(values, arrow_type(spec[name]))
    return pa.table(columns)


def windows_from_request(spec: FeatureSpec, request: dict[str, Any]) -> pa.Table:
    """Returns one row: the windows of a JSON request's `history` (`features.histories.windows.attach_histories`).

    Raises:
      RequestError: as `behaviors_from_request`.
    """
    behaviors = behaviors_from_request(spec, request)
    count = len(behaviors)
    lists = {
        name: pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), behaviors[name].combine_chunks())
        for name in behaviors.column_names
    }
    end = pa.table({"user_index": pa.array([0], pa.int32()), "history_end": [count]})
    return attach_histories(end, pa.table(lists), spec.history)


def row_from_request(spec: FeatureSpec, request: dict[str, Any]) -> pa.Table:
    """Returns a JSON request without candidates as one raw row: request features, `user_id` and windows.

    Raises:
      RequestError: for an unknown feature, a feature in the wrong place or of the wrong type, or if there are
        `candidates`.
    """
    _check_parts(spec, request)
    if "candidates" in request:
        raise RequestError("the cascade finds the candidates itself: leave `candidates` out of the request.")
    values = _request_values(spec, request)
    row = windows_from_request(spec, request) if spec.history else pa.table({"history_end": [0]})
    user_id = (request.get("user") or {}).get("user_id")
    if "user_id" not in [feature.name for feature in spec.features]:
        row = row.append_column("user_id", pa.array([user_id]))
    for feature in spec.of_scope("request"):
        value, value_type = _checked(feature, values.get(feature.name), "the request"), arrow_type(feature)
        array = pa.array([value], pa.list_(value_type) if feature.multi_valued else value_type)
        row = row.append_column(feature.name, array)
    return row


def _check_parts(spec: FeatureSpec, request: dict[str, Any]) -> None:
    if not isinstance(request, dict):
        raise RequestError(f"a request must be a JSON object. Received: {type(request).__name__}.")
    for key in request:
        if key not in (*_SECTIONS, "history", "request_id", "timestamp"):
            raise RequestError(f"`{key}` is not a part of a request.{_hint(spec, key, _SECTIONS)}")


def _request_values(spec: FeatureSpec, request: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for section in ("user", "context"):
        values = request.get(section)
        if values is None:
            continue
        if not isinstance(values, dict):
            raise RequestError(f"`{section}` must be an object of features. Received: {type(values).__name__}.")
        for name, value in values.items():
            _check_name(spec, name, "request", f"`{section}`")
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
        place = f"`candidates[{index}]`"
        if not isinstance(candidate, dict):
            raise RequestError(f"{place} must be an object of features. Received: {type(candidate).__name__}.")
        for name in candidate:
            _check_name(spec, name, "candidate", place)
    return candidates


def _check_name(spec: FeatureSpec, name: str, scope: str, place: str) -> None:
    feature = next((f for f in spec.features if f.name == name), None)
    if feature is None:
        keys = ("item_id",) if scope == "candidate" else tuple(k for k in KEY_COLUMNS if k != "item_id")
        if name not in keys:
            raise RequestError(f"{place}: `{name}` is not a feature of this model.{_hint(spec, name, keys)}")
    elif feature.scope != scope:
        home = "each of `candidates`" if feature.scope == "candidate" else "`user` or `context`"
        raise RequestError(f"{place}: `{name}` is a feature of scope {feature.scope}: put it into {home}.")


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
