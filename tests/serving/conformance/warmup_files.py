"""Warm-up files that cases put into a version: what replays, and what fails the load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

FILE = "assets.extra/tf_serving_warmup_requests"


def write_warmup(version: Path, kind: str) -> None:
    """Writes a warm-up file for `half_plus_two` into a version's folder: of a kind of `_RECORDS`, or `no_tfrecord`."""
    import tensorflow as tf

    path = version / FILE
    path.parent.mkdir(exist_ok=True)
    if kind == "no_tfrecord":
        path.write_bytes(b"not a file of records")
        return
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in _RECORDS[kind]():
            writer.write(record)


def _log(**fields) -> bytes:
    from google.protobuf import json_format
    from tensorflow_serving.apis import prediction_log_pb2

    return json_format.ParseDict(fields, prediction_log_pb2.PredictionLog()).SerializeToString()


def _predict(signature: str = "serving_default") -> bytes:
    values = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": 1}]}, "float_val": [1.0]}
    spec = {"name": "another model", "version": 77, "signature_name": signature}
    return _log(predict_log={"request": {"model_spec": spec, "inputs": {"x": values}}})


def _examples() -> dict:
    features = {"feature": {"x": {"float_list": {"value": [1.0]}}}}
    return {"example_list": {"examples": [{"features": features}]}}


def _every_kind() -> Iterator[bytes]:
    spec = {"name": "another model", "signature_name": "regress_x_to_y"}
    scores = {**spec, "signature_name": "classify_x_to_y"}
    yield _predict()
    yield _log(regress_log={"request": {"model_spec": spec, "input": _examples()}})
    yield _log(classify_log={"request": {"model_spec": scores, "input": _examples()}})
    task = {"model_spec": spec, "method_name": "tensorflow/serving/regress"}
    yield _log(multi_inference_log={"request": {"tasks": [task], "input": _examples()}})


_RECORDS: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "every_kind": _every_kind,
    "no_kind": lambda: iter([b""]),
    "a_thousand": lambda: iter([_predict()] * 1000),
    "a_thousand_and_one": lambda: iter([_predict()] * 1001),
    "unknown_signature": lambda: iter([_predict(), _predict("nope")]),
    "session_run": lambda: iter([_log(session_run_log={"request": {"model_spec": {"name": "m"}}})]),
    "not_a_log": lambda: iter([b"\x0a\xff"]),
}
