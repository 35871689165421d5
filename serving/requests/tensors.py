"""Raw request rows (Arrow) to the input tensors of an exported ranker.

Every tensor is made of flat values and offsets: no Python loop runs over rows or values. A JSON request becomes a row
first (`serving/requests/json_request.py`), so ranking, warm-up and scoring of examples all come through here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import is_list, list_lengths, one_chunk
from features.config import nearest
from features.encoding.feature_encoding import numbers
from features.errors import InputError
from features.histories.windows import TIMESTAMP, history_column
from features.spec import Feature, FeatureSpec
from serving.signature_specs import (
    LONG_SUMS,
    REQUEST_INDEX,
    TIME,
    HistoryInputs,
    missing_mark,
    numpy_dtype,
    takes_times,
    value_type,
    window_feature,
)


def candidate_counts(table: pa.Table) -> np.ndarray:
    """Returns the number of candidates of each request, `[B]` int64."""
    return list_lengths(_column(table, "item_id"))


def tensors_from_table(
    spec: FeatureSpec, table: pa.Table, history: HistoryInputs | None = None
) -> dict[str, np.ndarray]:
    """Turns B raw request rows with N candidates in all into the inputs of the signature `rank_requests`.

    Args:
      spec: the features to read; other columns are ignored.
      table: raw examples (docs/reference/data_formats.md), one row a request; with their windows
        (`features.histories.windows.attach_histories`) where the ranker takes histories.
      history: what it takes of them.

    Returns:
      `{feature: [B] or [N], multi-valued [B, V] or [N, V], "request_index": [N] int32}`, and of each window
      `{"short_<feature>": [B, S], multi-valued [B, S, V], "short_length": [B] int32}`, padded on the left; strings as
      UTF-8 bytes, nulls as the missing marks; V and S are the longest list of that feature in the table.

    Raises:
      ValueError: if a column is missing or does not fit its feature.
    """
    counts = candidate_counts(table)
    tensors = {REQUEST_INDEX: np.repeat(np.arange(len(counts), dtype=np.int32), counts)}
    for feature in spec.features:
        values = _column(table, feature.name)
        if feature.scope == "candidate":
            values = flatten_candidates(values, counts, feature.name)
        tensors[feature.name] = feature_tensor(feature, values)
    if history is not None:
        tensors |= window_tensors(spec, history.windows(with_table=False), table)
    return tensors


def request_tensors(
    spec: FeatureSpec, requests: pa.Table, names: Sequence[str], windows: dict[str, tuple[str, ...]]
) -> dict[str, np.ndarray]:
    """Turns B raw requests into what a model reads of who asks: the inputs of a user side.

    Args:
      spec: the features of the signature.
      requests: raw examples, with their windows where the model reads them; other columns are ignored.
      names: the request features that it reads.
      windows: the history features that it reads of each window.

    Returns:
      `{feature: [B] or [B, V]}`, and the inputs of each window as of `tensors_from_table`.

    Raises:
      ValueError: if a column is missing or does not fit its feature.
    """
    features = {name: feature_tensor(spec[name], _column(requests, name)) for name in names}
    return features | window_tensors(spec, windows, requests)


def window_tensors(spec: FeatureSpec, windows: dict[str, tuple[str, ...]], table: pa.Table) -> dict[str, np.ndarray]:
    """Turns the windows of raw requests into the inputs `<window>_<feature>` `[B, S]` or `[B, S, V]` and
    `<window>_length` `[B]`, and where a window asks for times into `timestamp` `[B]`."""
    tensors = {}
    if takes_times(windows):
        tensors[TIMESTAMP] = feature_tensor(TIME, _column(table, TIMESTAMP))
    for window, names in windows.items():
        for name in names:
            column = history_column(window, name)
            tensors[column], lengths = _left_padded(window_feature(spec, name), _column(table, column))
        tensors[f"{window}_length"] = lengths.astype(np.int32)
    return tensors


def single_request_tensors(
    spec: FeatureSpec,
    table: pa.Table,
    history: HistoryInputs | None = None,
    long_sums: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Turns one raw request row into the inputs of `serving_default`; raises like `tensors_from_table`.

    Args:
      spec, table, history: as of `tensors_from_table`.
      long_sums: `[G, 2^tau, d]`, the user's bucket sums; None: a user without a long history.
    """
    if table.num_rows != 1:
        raise InputError(
            f"`serving_default` takes one request: pass a table of one row. Received: {table.num_rows} rows."
        )
    tensors = tensors_from_table(spec, table)
    del tensors[REQUEST_INDEX]
    if history is not None:
        tensors |= window_tensors(spec, history.windows(with_table=True), table)
        tensors |= table_tensor(history, long_sums)
    return tensors


def table_tensor(history: HistoryInputs, long_sums: np.ndarray | None) -> dict[str, np.ndarray]:
    """The input `long_sums` of one request, `[1, G, 2^tau, d]`; nothing for rankers that take none."""
    if history.simhash is None:
        return {}
    if long_sums is None:
        long_sums = np.zeros(history.table_shape, np.float32)
    if long_sums.shape != history.table_shape:
        raise InputError(
            f"`long_sums` must be {history.table_shape}, as this ranker's BSE tables. Received: {long_sums.shape}."
        )
    return {LONG_SUMS: long_sums[np.newaxis].astype(np.float32, copy=False)}


def feature_tensor(feature: Feature, values: pa.Array) -> np.ndarray:
    """Returns a feature's values as `[n]`, or `[n, V]` padded with the missing mark where it is multi-valued.

    Raises:
      ValueError: if the Arrow type does not fit the feature's `dtype` and kind.
    """
    if not feature.multi_valued:
        return _flat(feature, values)
    if pa.types.is_null(values.type):
        return np.full((len(values), 0), missing_mark(feature), numpy_dtype(feature))
    if not is_list(values.type):
        raise InputError(
            f"feature `{feature.name}` is multi-valued: its values must be lists. Received: {values.type}."
        )
    lengths = list_lengths(values)
    flat = _flat(feature, values.flatten())
    padded = np.full((len(values), int(lengths.max(initial=0))), missing_mark(feature), numpy_dtype(feature))
    rows = np.repeat(np.arange(len(values)), lengths)
    padded[rows, _positions_in_lists(lengths)] = flat
    return padded


def item_tensor(item_ids: pa.Array) -> np.ndarray:
    """Raw item ids as the tensor `item_id` of `coarse_rank`, [n]: UTF-8 bytes or int64."""
    ids = item_ids.cast(pa.binary()) if pa.types.is_string(item_ids.type) else item_ids.cast(pa.int64())
    return ids.to_numpy(zero_copy_only=False)


def flatten_candidates(values: pa.Array, counts: np.ndarray, name: str) -> pa.Array:
    """Returns a candidate column as one value a candidate, `[N]`; a null list counts as candidates without a value.

    Args:
      values: `[B]` lists, one entry a candidate.
      counts: `[B]` candidates of each request.
      name: the column, for messages.

    Raises:
      ValueError: if a list is shorter or longer than its request's candidates.
    """
    total = int(counts.sum())
    if pa.types.is_null(values.type):
        return pa.nulls(total)
    if not is_list(values.type):
        raise InputError(f"`{name}` holds one value a candidate: it must be a list column. Received: {values.type}.")
    lengths = list_lengths(values)
    if not values.null_count and np.array_equal(lengths, counts):
        return values.flatten()
    present = values.is_valid().to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(present & (lengths != counts))
    if wrong.size:
        row = wrong[0]
        raise InputError(
            f"`{name}` must hold one value a candidate. Received: row {row} with {lengths[row]} values for "
            f"{counts[row]} candidates."
        )
    of_present = np.repeat(present, counts)
    indices = np.where(of_present, np.cumsum(of_present) - 1, 0)
    return values.flatten().take(pa.array(indices, mask=~of_present))


def _positions_in_lists(lengths: np.ndarray) -> np.ndarray:
    """`[sum(lengths)]`: 0, 1, … within each list."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) - np.repeat(starts, lengths)


def _left_padded(feature: Feature, lists: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """`[B, S]` or `[B, S, V]` values of lists, with missing marks on the left, S at least 1; and lengths `[B]`."""
    lengths = list_lengths(lists)
    width = max(1, int(lengths.max(initial=0)))
    values = feature_tensor(feature, lists.flatten())
    padded = np.full((len(lists), width, *values.shape[1:]), missing_mark(feature), numpy_dtype(feature))
    padded[np.arange(width) >= width - lengths[:, np.newaxis]] = values
    return padded, lengths


def _flat(feature: Feature, values: pa.Array) -> np.ndarray:
    """`[n]` values without nulls, cast as the offline encoder casts them."""
    if feature.dtype == "float64":
        return numbers(values, feature)
    try:
        if values.type != value_type(feature):
            values = values.cast(value_type(feature))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(
            f"feature `{feature.name}` must hold {feature.dtype} values. Received: Arrow type {values.type}: {error}"
        ) from error
    if feature.dtype == "string":
        # Bytes, not str: TensorFlow takes them as they are.
        values = values.cast(pa.binary())
    if values.null_count:
        values = pc.fill_null(values, pa.scalar(missing_mark(feature), values.type))
    return values.to_numpy(zero_copy_only=False)


def _column(table: pa.Table, name: str) -> pa.Array:
    place = table.schema.get_field_index(name)
    if place < 0:
        raise InputError(f"the raw requests have no column `{name}`.{nearest(name, table.column_names)}")
    return one_chunk(table.column(place))
