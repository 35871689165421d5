"""Requests of any number of candidates, made of a real one: what an export warms up with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

NUM_CANDIDATES = "num_candidates"


def warmup_request(export: Path, signature: str = "serving_default") -> PredictRequest:
    """Returns the largest request of a signature that an export warms up with.

    Args:
      export: folder of one version.
      signature: of the request.
    """
    import tensorflow as tf
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    path = export / "assets.extra" / "tf_serving_warmup_requests"
    logs = (PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path)))
    found = [log.predict_log.request for log in logs if log.HasField("predict_log")]
    return max((each for each in found if each.model_spec.signature_name == signature), key=lambda r: r.ByteSize())


def read_tensors(request: PredictRequest) -> dict[str, np.ndarray]:
    """Returns a request's tensors by name."""
    import tensorflow as tf

    return {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}


def write_request(tensors: dict[str, np.ndarray], model: str, signature: str = "serving_default") -> PredictRequest:
    """Returns a request of tensors."""
    import tensorflow as tf
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, values in tensors.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request


def slate(tensors: dict[str, np.ndarray], of_candidates: set[str], candidates: int) -> dict[str, np.ndarray]:
    """Returns one request of so many candidates: the longest slate's, over and over.

    Args:
      tensors: of several requests, the request axis first.
      of_candidates: names of the inputs `[R, N, …]`.
      candidates: wanted.
    """
    row = int(np.argmax(tensors[NUM_CANDIDATES]))
    held = int(tensors[NUM_CANDIDATES][row])
    order = np.arange(candidates) % held
    found = {name: values[row : row + 1] for name, values in tensors.items()}
    found |= {name: found[name][:, order] for name in of_candidates}
    return found | {NUM_CANDIDATES: np.array([candidates], tensors[NUM_CANDIDATES].dtype)}


def user_repeated(tensors: dict[str, np.ndarray], of_candidates: set[str]) -> dict[str, np.ndarray]:
    """Returns a slate as requests of one candidate each, with the user in each of them: what it costs not to share."""
    candidates = int(tensors[NUM_CANDIDATES][0])
    found = {name: np.repeat(values, candidates, axis=0) for name, values in tensors.items()}
    found |= {name: np.swapaxes(tensors[name], 0, 1) for name in of_candidates}
    return found | {NUM_CANDIDATES: np.ones(candidates, tensors[NUM_CANDIDATES].dtype)}


def merged(tensors: dict[str, np.ndarray], requests: int) -> dict[str, np.ndarray]:
    """Returns so many requests alike in one, as a server's batching would merge them."""
    return {name: np.repeat(values, requests, axis=0) for name, values in tensors.items()}


def columnar(tensors: dict[str, np.ndarray]) -> dict[str, list]:
    """Returns tensors as REST takes them, the columnar form; strings must be UTF-8."""
    decode = np.vectorize(lambda text: text.decode("utf-8"), otypes=[object])
    return {
        name: (decode(values) if values.dtype == object and values.size else values).tolist()
        for name, values in tensors.items()
    }
