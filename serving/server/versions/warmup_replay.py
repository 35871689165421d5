"""Replays the warm-up requests of an export before it is served, as servables/tensorflow/saved_model_warmup.cc does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from features import storage
from serving.export.warmup import WARMUP_FILE
from serving.server.inference.example_calls import run_classify, run_multi_inference, run_regress
from serving.server.inference.prediction import run_predict
from serving.server.server_metrics import ServerMetrics
from serving.server.status import ServingError, invalid_argument, raise_from_tensorflow
from serving.server.versions.loaded_model import LoadedModel

if TYPE_CHECKING:
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

MAX_RECORDS = 1000
_CALLS = {
    "predict_log": run_predict,
    "classify_log": run_classify,
    "regress_log": run_regress,
    "multi_inference_log": run_multi_inference,
}
_UNSUPPORTED = ("session_run_log", "predict_streamed_log")


def replay_warmup(model: LoadedModel, metrics: ServerMetrics, iterations: int = 1) -> int:
    """Runs every request of a version's warm-up file; the model name and the version that it holds are not looked at.

    Args:
      model: the version, loaded.
      metrics: where the warm-up is noted; its runs are not.
      iterations: how often each request is run.

    Returns:
      The number of records; 0 if there is no such file.

    Raises:
      ServingError: if a request fails or is of a kind that cannot be replayed, a record cannot be parsed, the file is
        damaged, or holds more than 1,000 records.
    """
    path = storage.join(model.path, WARMUP_FILE)
    if not storage.is_file(path):
        return 0
    begun, count, own = time.perf_counter(), 0, ServerMetrics(lambda _: True)
    for record in _records(path):
        log = _parsed(record, path)
        for _ in range(iterations):
            _replay(model, log, own)
        count += 1
        if count > MAX_RECORDS:
            raise invalid_argument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
    metrics.observe_warmup(model.path, "OK", count, time.perf_counter() - begun)
    return count


def _records(path: str) -> Iterator[bytes]:
    import tensorflow as tf

    with storage.local_copy(path) as local:
        try:
            yield from tf.data.TFRecordDataset(local).as_numpy_iterator()
        except tf.errors.DataLossError as error:
            said = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", error.message, flags=re.DOTALL)
            message = f"{said}. Please verify your warmup data is in TFRecord format."
            raise ServingError(grpc.StatusCode.DATA_LOSS, message) from error
        except tf.errors.OpError as error:
            raise_from_tensorflow(error)


def _parsed(record: bytes, path: str) -> PredictionLog:
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    try:
        return PredictionLog.FromString(record)
    except DecodeError as error:
        shown = record.decode("utf-8", "backslashreplace")
        raise invalid_argument(f"Failed to parse warmup record: {shown} from {path}") from error


def _replay(model: LoadedModel, log: PredictionLog, metrics: ServerMetrics) -> None:
    kind = log.WhichOneof("log_type")
    if kind in _CALLS:
        _CALLS[kind](model, getattr(log, kind).request, metrics)
    elif kind in _UNSUPPORTED:
        number = log.DESCRIPTOR.fields_by_name[kind].number
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
