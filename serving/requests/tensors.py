"""Raw request rows (Arrow) to the input tensors of an exported ranker.

Every tensor is made of flat values and offsets: no Python loop runs over rows or values. A JSON request becomes a row
first (`serving/requests/json_request.py`), so ranking, warm-up and scoring of examples all come through here.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.arrow import is_list, list_lengths, one_chunk
from features.config import nearest
from features.encoding.feature_encoding import numbers
from features.errors import InputError
from features.histories.windows import TIMESTAMP, history_column
from features.spec import Feature, FeatureSpec, Scope
from serving.saved.signature_specs import (
    LONG_SUMS,
    NUM_CANDIDATES,
    REQUEST_INDEX,
    TABLES_VERSION,
    TIME,
    HistoryInputs,
    missing_mark,
    num_values,
    numpy_dtype,
    takes_times,
    value_type,
    window_feature,
)


def candidate_counts(table: pa.Table) -> np.ndarray:
    """Returns the number of candidates of each request, `[B]` int64."""
    return list_lengths(_column(table, "item_id"))


def tensors_from_table(
    spec: FeatureSpec,
    table: pa.Table,
    history: HistoryInputs | None = None,
    names: Container[str] | None = None,
) -> dict[str, np.ndarray]:
    """Turns B raw request rows with N candidates in all into the inputs of the joint graph `rank_requests`.

    Args:
      spec: the features to read; other columns are ignored.
      table: raw examples (docs/reference/data_formats.md), one row a request; with their windows
        (`features.histories.windows.attach_histories`) where the ranker takes histories.
      history: what it takes of them.
      names: the inputs that are wanted; None: all.

    Returns:
      `{feature: [B] or [N], multi-valued [B, V] or [N, V], "request_index": [N] int32}`, and of each window
      `{"short_<feature>": [B, S], multi-valued [B, S, V], "short_length": [B] int32}`, behaviours first; strings as
      UTF-8 bytes, nulls as the missing marks; V and S are the longest list of that feature in the table, at least 1.
      Beside a multi-valued input stands `<input>_num_values`, how many of the V are its values.

    Raises:
      ValueError: if a column is missing or does not fit its feature.
    """
    counts = candidate_counts(table)
    windows = {} if history is None else history.windows(with_table=False)
    tensors = request_tensors(spec, table, _wanted(spec, "request", names), windows)
    tensors |= _candidate_tensors(spec, table, counts, names)
    return tensors | {REQUEST_INDEX: np.repeat(np.arange(len(counts), dtype=np.int32), counts)}


def slate_tensors(
    spec: FeatureSpec,
    table: pa.Table,
    history: HistoryInputs | None = None,
    long_sums: np.ndarray | None = None,
    names: Container[str] | None = None,
) -> dict[str, np.ndarray]:
    """Turns R raw request rows into the inputs of `serving_default`; raises like `tensors_from_table`.

    Args:
      spec, table, history, names: as of `tensors_from_table`.
      long_sums: `[R, G, 2^tau, d]`, the users' bucket sums, of this ranker's version; None: nobody has any.

    Returns:
      Request features and windows as of `tensors_from_table`; candidate features `[R, N]` or `[R, N, V]`, N being the
      longest slate, at least 1; `num_candidates` `[R]`; and where the ranker takes them `long_sums`, `tables_version`.
    """
    counts = candidate_counts(table)
    windows = {} if history is None else history.windows(with_table=True)
    tensors = request_tensors(spec, table, _wanted(spec, "request", names), windows)
    tensors |= candidate_slates(spec, table, names)
    return tensors | ({} if history is None else table_tensors(history, long_sums, len(counts)))


def candidate_slates(spec: FeatureSpec, table: pa.Table, names: Container[str] | None = None) -> dict[str, np.ndarray]:
    """The candidates' part of `slate_tensors`; arguments and errors as there."""
    counts = candidate_counts(table)
    return to_slates(_candidate_tensors(spec, table, counts, names), counts)


def to_slates(flat: dict[str, np.ndarray], counts: np.ndarray) -> dict[str, np.ndarray]:
    """Turns inputs of flat candidates `[N, …]` into those of R slates `[R, max(counts, 1), …]`, with `num_candidates`.

    Args:
      flat: by name; what stands for padding repeats a value, or is 0 where there is none: nobody reads it.
      counts: [R] candidates of each request.
    """
    padded = {name: _padded(values, counts) for name, values in flat.items()}
    return padded | {NUM_CANDIDATES: counts.astype(np.int32)}


def request_tensors(
    spec: FeatureSpec, requests: pa.Table, names: Iterable[str], windows: dict[str, tuple[str, ...]]
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
    features: dict[str, np.ndarray] = {}
    for name in names:
        features |= value_tensors(spec[name], _column(requests, name))
    return features | window_tensors(spec, windows, requests)


def window_tensors(spec: FeatureSpec, windows: dict[str, tuple[str, ...]], table: pa.Table) -> dict[str, np.ndarray]:
    """Turns the windows of raw requests into the inputs `<window>_<feature>` `[B, S]` or `[B, S, V]` and
    `<window>_length` `[B]`, and where a window asks for times into `timestamp` `[B]`."""
    tensors: dict[str, np.ndarray] = {}
    if takes_times(windows):
        tensors[TIMESTAMP] = feature_tensor(TIME, _column(table, TIMESTAMP))
    for window, names in windows.items():
        for name in names:
            column = history_column(window, name)
            lists = _column(table, column)
            lengths = list_lengths(lists)
            values = value_tensors(window_feature(spec, name), lists.flatten(), column)
            tensors |= {each: _padded(flat, lengths) for each, flat in values.items()}
        tensors[f"{window}_length"] = lengths.astype(np.int32)
    return tensors


def table_tensors(history: HistoryInputs, long_sums: np.ndarray | None, count: int = 1) -> dict[str, np.ndarray]:
    """The inputs `long_sums` `[R, G, 2^tau, d]` and `tables_version` `[R]`; nothing for rankers that take no tables.

    Args:
      history: what the ranker takes.
      long_sums: [R, G, 2^tau, d] of this ranker's version; None: nobody has a long history.
      count: R.
    """
    if history.simhash is None:
        return {}
    if long_sums is None:
        long_sums = np.zeros((count, *history.table_shape), np.float32)
    if long_sums.shape != (count, *history.table_shape):
        raise InputError(
            f"`long_sums` must be {(count, *history.table_shape)}, as this ranker's BSE tables. Received: "
            f"{long_sums.shape}."
        )
    versions = np.full(count, history.version.encode(), object)
    return {LONG_SUMS: long_sums.astype(np.float32, copy=False), TABLES_VERSION: versions}


def value_tensors(feature: Feature, values: pa.Array, name: str | None = None) -> dict[str, np.ndarray]:
    """A feature's values by input: `feature_tensor`, and of a multi-valued one `<name>_num_values`, `[n]` int32."""
    name = name or feature.name
    tensors = {name: feature_tensor(feature, values)}
    if feature.multi_valued:
        counts = list_lengths(values) if is_list(values.type) else np.zeros(len(values))
        tensors[num_values(name)] = counts.astype(np.int32)
    return tensors


def feature_tensor(feature: Feature, values: pa.Array) -> np.ndarray:
    """Returns a feature's values as `[n]`, or `[n, V]`, V at least 1, padded with the missing mark where multi-valued.

    Raises:
      ValueError: if the Arrow type does not fit the feature's `dtype` and kind.
    """
    if not feature.multi_valued:
        return _flat(feature, values)
    if pa.types.is_null(values.type):
        return np.full((len(values), 1), missing_mark(feature), numpy_dtype(feature))
    if not is_list(values.type):
        raise InputError(
            f"feature `{feature.name}` is multi-valued: its values must be lists. Received: {values.type}."
        )
    lengths = list_lengths(values)
    flat = _flat(feature, values.flatten())
    return _padded(flat, lengths, missing_mark(feature))


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


def _wanted(spec: FeatureSpec, scope: Scope, names: Container[str] | None) -> list[str]:
    """The features of a scope that are wanted."""
    return [feature.name for feature in spec.of_scope(scope) if names is None or feature.name in names]


def _candidate_tensors(
    spec: FeatureSpec, table: pa.Table, counts: np.ndarray, names: Container[str] | None
) -> dict[str, np.ndarray]:
    """Inputs of all requests' candidates, one after another."""
    tensors: dict[str, np.ndarray] = {}
    for name in _wanted(spec, "candidate", names):
        tensors |= value_tensors(spec[name], flatten_candidates(_column(table, name), counts, name))
    return tensors


def _padded(flat: np.ndarray, lengths: np.ndarray, fill=None) -> np.ndarray:
    """`[n, max(lengths, 1), …]` of lists that stand one after another, with padding behind each."""
    width = max(1, int(lengths.max(initial=0)))
    if fill is None:
        fill = b"" if flat.dtype == object else flat.dtype.type(0)
    if len(lengths) and (lengths == width).all():
        return flat.reshape(len(lengths), width, *flat.shape[1:])
    padded = np.full((len(lengths), width, *flat.shape[1:]), fill, flat.dtype)
    padded[np.arange(width) < lengths[:, np.newaxis]] = flat
    return padded


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
