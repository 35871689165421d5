"""Candidate sets for coarse training: the impressions, and a sample of what was retrieved but not shown.

A coarse ranker sees hundreds of retrieved items of which the log shows a handful. Trained on those alone it would rank
items unlike any that it learnt from. All others are too many, so some are sampled, each standing for several.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from features.arrow import list_splits, lists_of, one_chunk, splits_of
from features.encoding.columns import ITEM_ROW, encoded_column, is_label_column, is_value_column, key_column
from features.errors import InputError
from features.spec import FeatureSpec

IMPRESSION, RETRIEVED = 0, 1
"""Values of the column `SOURCE`."""

NO_POSITION = -1
"""The position of an item that was not shown."""


def sample_unshown(
    retrieved: np.ndarray, shown: np.ndarray, shown_splits: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws retrieved items that were not shown, uniformly and without replacement, `count` a request.

    The weight of a drawn item is (retrieved and not shown) / (drawn) of its request: the sum of any function over
    drawn items, so weighted, is an unbiased estimate of its sum over all retrieved unshown items (Horvitz-Thompson).

    Args:
      retrieved: [B, n] catalogue rows, distinct in a request.
      shown: catalogue rows of the impressions, request after request; 0: not in the catalogue.
      shown_splits: [B + 1] where each request's impressions begin and end.
      count: how many to draw; a request with fewer gives all that it has.
      rng: the draw.

    Returns:
      Rows [S], row splits [B + 1] and weights [S] float32.
    """
    size = int(max(retrieved.max(initial=0), shown.max(initial=0))) + 1
    request = np.arange(len(retrieved))[:, np.newaxis]
    shown_keys = np.sort(np.repeat(np.arange(len(retrieved)), np.diff(shown_splits)) * size + shown)
    keys = request * size + retrieved
    places = np.minimum(np.searchsorted(shown_keys, keys), max(len(shown_keys) - 1, 0))
    was_shown = shown_keys[places] == keys if len(shown_keys) else np.zeros(keys.shape, bool)
    unshown = retrieved.shape[1] - was_shown.sum(axis=1)
    drawn = np.minimum(unshown, count)
    order = np.where(was_shown, np.inf, rng.random(retrieved.shape))
    if count < retrieved.shape[1]:
        columns = np.argpartition(order, count, axis=1)[:, :count]
    else:
        columns = np.broadcast_to(np.arange(retrieved.shape[1]), retrieved.shape)
    taken = np.take_along_axis(order, columns, axis=1) < np.inf
    rows = np.take_along_axis(retrieved, columns, axis=1)[taken]
    weights = np.repeat(unshown / np.maximum(drawn, 1), drawn).astype(np.float32)
    return rows, splits_of(drawn), weights


def append_candidates(
    requests: pa.Table, added: Mapping[str, pa.Array], splits: np.ndarray, count_by: str
) -> tuple[pa.Table, np.ndarray]:
    """Appends candidates to those of each request.

    Args:
      requests: [B] rows; the columns in `added` are lists, one entry a candidate.
      added: by candidate column, the values of the new candidates [S], request after request.
      splits: [B + 1] where each request's new candidates begin and end.
      count_by: a candidate column that is never null: its lists say how many candidates there are.

    Returns:
      The table, all other columns as they were, and [N + S] bool: which of all its candidates are new.

    Raises:
      InputError: if the lists of a column do not fit those of `count_by`.
    """
    counts = list_splits(one_chunk(requests[count_by]))
    places_old, places_new, joined = _places(counts, splits)
    order = np.empty(len(places_old) + len(places_new), np.int64)
    order[places_old] = np.arange(len(places_old))
    order[places_new] = len(places_old) + np.arange(len(places_new))
    for name, values in added.items():
        lists = one_chunk(requests[name])
        if not np.array_equal(list_splits(lists), counts):
            raise InputError(f"column `{name}` must hold one value a candidate, as `{count_by}` does.")
        old = lists.flatten()
        column = lists_of(pa.concat_arrays([old, values.cast(old.type)]).take(pa.array(order)), joined)
        requests = requests.set_column(requests.column_names.index(name), name, column)
    new = np.zeros(len(order), bool)
    new[places_new] = True
    return requests, new


def catalogue_values(
    requests: pa.Table, catalogue: pa.Table, rows: np.ndarray, spec: FeatureSpec, encoded: bool
) -> dict[str, pa.Array]:
    """Returns what candidates from the catalogue hold in each candidate column of the examples.

    Args:
      requests: examples, for their columns and types.
      catalogue: of the same examples, raw or encoded.
      rows: [S] 1-based rows of the catalogue.
      spec: the features.
      encoded: whether examples and catalogue are encoded (keys and labels begin with `_`).

    Returns:
      By column, [S] values. Labels are 0, their values and propensities null, positions `NO_POSITION`; features of a
      candidate that are not of `items` are missing.
    """
    size = len(rows)
    item_id, position, propensity = (
        key_column(key) if encoded else key for key in ("item_id", "position", "propensity")
    )
    take = pa.array(rows.astype(np.int64) - 1)
    candidate = {feature.name: feature for feature in spec.of_scope("candidate")}
    values = {item_id: one_chunk(catalogue[item_id]).take(take)}
    for name in requests.column_names:
        kind = requests.schema.field(name).type
        if name in candidate and name in catalogue.column_names:
            values[name] = one_chunk(catalogue[name]).take(take)
        elif name in candidate:
            values[name] = _missing(kind.value_type, size, encoded)
        elif name == position:
            values[name] = pa.array(np.full(size, NO_POSITION, np.int32))
        elif name == ITEM_ROW and encoded:
            values[name] = pa.array(rows.astype(np.int32))
        elif name == propensity:
            values[name] = pa.nulls(size, pa.float64())
        elif _is_of_label(name, kind, spec, encoded):
            is_value = is_value_column(name if encoded else encoded_column(name, requests.column_names))
            values[name] = pa.nulls(size, pa.float64()) if is_value else pa.array(np.zeros(size, np.float32))
    return values


def _is_of_label(name: str, kind: pa.DataType, spec: FeatureSpec, encoded: bool) -> bool:
    if encoded:
        return is_label_column(name) or is_value_column(name)
    known = {feature.name for feature in spec.features}
    keys = ("item_id", "position", "propensity")
    return (
        name not in known and name not in keys and pa.types.is_list(kind) and not name.startswith(("short_", "long_"))
    )


def _missing(kind: pa.DataType, size: int, encoded: bool) -> pa.Array:
    """Encoded: 0 or the empty list; raw: null."""
    if not encoded:
        return pa.nulls(size, kind)
    if pa.types.is_list(kind):
        return lists_of(pa.nulls(0, kind.value_type), np.zeros(size + 1))
    return pa.array(np.zeros(size, kind.to_pandas_dtype()))


def _places(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where old and new candidates stand once they are joined, and the joined splits."""
    joined = old + new
    first_old, first_new = joined[:-1] - old[:-1], joined[:-1] + np.diff(old) - new[:-1]
    return (
        np.arange(old[-1]) + np.repeat(first_old, np.diff(old)),
        np.arange(new[-1]) + np.repeat(first_new, np.diff(new)),
        joined,
    )
