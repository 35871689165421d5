"""Warm-up requests of a SavedModel: real rows that TensorFlow Serving replays before a version takes traffic.

See https://www.tensorflow.org/tfx/serving/saved_model_warmup: a TFRecord file of `PredictionLog` at a fixed place. Each
signature has a record of the smallest request and one of the largest usual one, as a session prepares itself for what
it is first asked: a signature without one takes half a second for its first answer. A server that merges requests
merges these too, and refuses to load a model with one that is longer than its `max_batch_size`: see `MAX_REQUESTS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from features import storage
from features.arrow import one_chunk
from features.errors import InputError
from features.histories.time_gaps import NUM_GAP_BUCKETS
from features.histories.windows import history_column
from features.spec import FeatureSpec
from serving.requests.tensors import candidate_counts, flatten_candidates, slate_tensors, value_tensors
from serving.saved.signature_specs import (
    DRAW_LOGITS,
    ENCODE_BEHAVIORS,
    EXPLAIN,
    GAP_WEIGHTS,
    ITEM_SIGNATURE,
    MAX_REQUESTS,
    NUM_CANDIDATES,
    RANK_SIGNED,
    SERVING_DEFAULT,
    HistoryInputs,
    arrow_type,
    num_values,
)

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

#: TensorFlow Serving refuses files with more records.
_MAX_RECORDS = 1000

Tensors = dict[str, np.ndarray]


def check_rows(rows: pa.Table) -> None:
    """Raises InputError if there are no rows to warm up with, or more than a file holds."""
    if not 1 <= rows.num_rows < _MAX_RECORDS:
        raise InputError(f"`warmup_rows` must hold 1 to {_MAX_RECORDS - 1} requests. Received: {rows.num_rows} rows.")


def ranker_logs(
    spec: FeatureSpec, rows: pa.Table, inputs: Mapping[str, frozenset[str]], history: HistoryInputs | None = None
) -> list:
    """Returns the smallest and the largest usual request of each of a ranker's signatures.

    Args:
      spec: the features of the signatures.
      rows: raw request rows (docs/reference/data_formats.md), with their windows if it takes histories.
      inputs: the names of each signature's inputs.
      history: what it takes of histories. Bucket tables are left empty: their size is what warms up.

    Raises:
      InputError: if there are no rows or too many, or they do not fit the spec.
    """
    check_rows(rows)
    slates = slate_requests(spec, rows, inputs[SERVING_DEFAULT], history)
    requests = {name: slates for name in (SERVING_DEFAULT, EXPLAIN, DRAW_LOGITS) if name in inputs}
    if RANK_SIGNED in inputs:
        groups = history.simhash.num_groups
        given = [np.full((*each[_slate_of(spec, each)].shape[:2], groups), -1, np.int32) for each in slates]
        requests[RANK_SIGNED] = [each | {ITEM_SIGNATURE: more} for each, more in zip(slates, given, strict=True)]
    if ENCODE_BEHAVIORS in inputs:
        requests[ENCODE_BEHAVIORS] = behavior_requests(spec, rows, history.long_features)
    if GAP_WEIGHTS in inputs:
        requests[GAP_WEIGHTS] = [{"gap": np.arange(n, dtype=np.int32)} for n in (1, min(MAX_REQUESTS, NUM_GAP_BUCKETS))]
    return prediction_logs(spec.name, requests, inputs)


def slate_requests(
    spec: FeatureSpec, rows: pa.Table, names: frozenset[str], history: HistoryInputs | None
) -> list[Tensors]:
    """The first row with one candidate, and all rows together."""
    whole = slate_tensors(spec, rows.slice(0, MAX_REQUESTS), history, names=names)
    first = slate_tensors(spec, rows.slice(0, 1), history, names=names)
    return [one_candidate(first, [feature.name for feature in spec.of_scope("candidate")]), whole]


def one_candidate(tensors: Tensors, names: Iterable[str]) -> Tensors:
    """Cuts slates after their first candidate; `names` are the features of candidates."""
    of_slates = {each for name in names for each in (name, num_values(name))} & set(tensors)
    cut = {name: tensors[name][:, :1] for name in of_slates}
    return tensors | cut | {NUM_CANDIDATES: np.minimum(tensors[NUM_CANDIDATES], 1)}


def item_requests(spec: FeatureSpec, rows: pa.Table, names: Iterable[str]) -> list[Tensors]:
    """Items of the rows' candidates: the first one, and as many as a request may hold."""
    counts = candidate_counts(rows)
    columns = {name: flatten_candidates(one_chunk(rows[name]), counts, name) for name in names}
    return _lists(spec, columns)


def behavior_requests(spec: FeatureSpec, rows: pa.Table, names: Iterable[str]) -> list[Tensors]:
    """Behaviours of the rows' long windows: the first one, and as many as a request may hold."""
    return _lists(spec, {name: one_chunk(rows[history_column("long", name)]).flatten() for name in names})


def prediction_logs(
    model_name: str, requests: Mapping[str, list[Tensors]], inputs: Mapping[str, frozenset[str]]
) -> list:
    """Returns a `PredictionLog` of each request by signature, with the signature's inputs: a server takes no others."""
    return [
        prediction_log(model_name, signature, {name: tensors[name] for name in sorted(inputs[signature])})
        for signature, several in requests.items()
        for tensors in several
    ]


def _lists(spec: FeatureSpec, columns: dict[str, pa.Array]) -> list[Tensors]:
    if not len(next(iter(columns.values()))):
        columns = {name: pa.nulls(1, arrow_type(spec[name])) for name in columns}
    sizes = (1, MAX_REQUESTS)
    return [_value_tensors(spec, {name: values.slice(0, size) for name, values in columns.items()}) for size in sizes]


def _value_tensors(spec: FeatureSpec, columns: dict[str, pa.Array]) -> Tensors:
    tensors: Tensors = {}
    for name, values in columns.items():
        tensors |= value_tensors(spec[name], values)
    return tensors


def _slate_of(spec: FeatureSpec, tensors: Tensors) -> str:
    """An input whose first two dimensions are those of the slates."""
    return next(feature.name for feature in spec.of_scope("candidate") if feature.name in tensors)


def write_prediction_logs(saved_model_dir: storage.AnyPath, logs: list) -> None:
    """Writes the warm-up file of `PredictionLog`s, 1,000 at most."""
    import tensorflow as tf

    if not 1 <= len(logs) <= _MAX_RECORDS:
        raise InputError(f"`logs` must hold 1 to {_MAX_RECORDS} requests. Received: {len(logs)}.")
    with storage.aside(storage.join(saved_model_dir, WARMUP_FILE)) as path, tf.io.TFRecordWriter(path) as writer:
        for log in logs:
            writer.write(log.SerializeToString(deterministic=True))  # Its maps have no order of their own.


def prediction_log(model_name: str, signature: str, tensors: Tensors):
    """Returns a `PredictionLog` that holds one `PredictRequest`."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, values in tensors.items():
        dtype = tf.string if values.dtype == object else tf.as_dtype(values.dtype)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype=dtype))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
