"""Warm-up requests of a SavedModel: real rows that TensorFlow Serving replays before a version takes traffic.

See https://www.tensorflow.org/tfx/serving/saved_model_warmup: a TFRecord file of `PredictionLog` at a fixed place.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features import storage
from features.errors import InputError
from features.spec import FeatureSpec
from serving.requests.tensors import single_request_tensors, tensors_from_table
from serving.signature_specs import RANK_REQUESTS, SERVING_DEFAULT, HistoryInputs

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

#: TensorFlow Serving refuses files with more records.
_MAX_RECORDS = 1000


def ranker_requests(spec: FeatureSpec, rows: pa.Table, history: HistoryInputs | None = None) -> list:
    """Returns one `serving_default` request a row, and one `rank_requests` request of all rows.

    Args:
      spec: the features of the signatures.
      rows: raw request rows (docs/reference/data_formats.md), between 1 and 999; with their windows if it takes
        histories.
      history: what it takes of them. Bucket tables are left empty: their size is what warms up.

    Raises:
      InputError: if there are no rows or too many, or they do not fit the spec.
    """
    if not 1 <= rows.num_rows < _MAX_RECORDS:
        raise InputError(f"`warmup_rows` must hold 1 to {_MAX_RECORDS - 1} requests. Received: {rows.num_rows} rows.")
    single = [single_request_tensors(spec, rows.slice(row, 1), history) for row in range(rows.num_rows)]
    logs = [prediction_log(spec.name, SERVING_DEFAULT, tensors) for tensors in single]
    return [*logs, prediction_log(spec.name, RANK_REQUESTS, tensors_from_table(spec, rows, history))]


def write_prediction_logs(saved_model_dir: storage.AnyPath, logs: list) -> None:
    """Writes the warm-up file of `PredictionLog`s, 1,000 at most."""
    import tensorflow as tf

    if not 1 <= len(logs) <= _MAX_RECORDS:
        raise InputError(f"`logs` must hold 1 to {_MAX_RECORDS} requests. Received: {len(logs)}.")
    with storage.aside(storage.join(saved_model_dir, WARMUP_FILE)) as path, tf.io.TFRecordWriter(path) as writer:
        for log in logs:
            writer.write(log.SerializeToString(deterministic=True))  # Its maps have no order of their own.


def prediction_log(model_name: str, signature: str, tensors: dict[str, np.ndarray]):
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
