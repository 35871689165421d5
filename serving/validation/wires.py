"""Calls to a server as its clients make them: `Predict` over gRPC, and the columnar form over REST."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from features.errors import RunError

Tensors = Mapping[str, np.ndarray]

#: Seconds that a call may take: as REST's own limit of a server.
TIMEOUT_S = 30.0

_PREDICT = "/tensorflow.serving.PredictionService/Predict"


class CallFailed(RunError):
    """A server answered with an error; the message is its status and text."""


class GrpcClient:
    """One client over gRPC, with a connection of its own.

    Args:
      port: of a server on this machine.
      model: that is asked.
    """

    def __init__(self, port: int, model: str):
        import grpc

        # Connections are shared between channels otherwise, and several clients would be one.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        # Bytes in and out: a load should cost the server's time, not that of its clients.
        self._call = self._channel.unary_unary(_PREDICT)
        self._model = model

    def predict(self, signature: str, tensors: Tensors) -> dict[str, np.ndarray]:
        """Returns the outputs of a signature.

        Raises:
          CallFailed: if the server answers with an error.
        """
        import grpc

        try:
            return self.decode(self.send(self.encode(signature, tensors)))
        except grpc.RpcError as error:
            raise CallFailed(f"gRPC, {signature}: {error.code().name}: {error.details()}") from error

    def encode(self, signature: str, tensors: Tensors) -> bytes:
        """Returns a request as it goes over the wire."""
        from serving.export.warmup import prediction_log

        request = prediction_log(self._model, signature, dict(tensors)).predict_log.request
        return request.SerializeToString()

    def send(self, request: bytes) -> bytes:
        """Sends what `encode` made, and returns the answer unread. Raises `grpc.RpcError`."""
        return self._call(request, timeout=TIMEOUT_S)

    @staticmethod
    def decode(answer: bytes) -> dict[str, np.ndarray]:
        """Returns the outputs in an answer."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        found = predict_pb2.PredictResponse.FromString(answer).outputs
        return {name: tf.make_ndarray(proto) for name, proto in found.items()}

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()


def predict_body(signature: str, tensors: Tensors) -> str:
    """Returns a REST request in the columnar form, which takes inputs of any shapes: `{"inputs": …}` as JSON."""
    inputs = {name: _json_value(np.asarray(values)) for name, values in tensors.items()}
    return json.dumps({"signature_name": signature, "inputs": inputs})


def predict_path(model: str, version: int | None = None) -> str:
    """Returns the path that `Predict` of a model has over REST; the default version where none is given."""
    part = "" if version is None else f"/versions/{version}"
    return f"/v1/models/{model}{part}:predict"


def rest_predict(port: int, path: str, body: str) -> dict[str, Any]:
    """Posts a REST request to a server on this machine.

    Returns:
      The outputs by name as Python values; of a signature with one output under the name `''`: REST leaves it out.

    Raises:
      CallFailed: if the server answers with an error, or with what is no answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", path, body.encode(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        said = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise CallFailed(f"REST, {path}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise CallFailed(f"REST, {path}: HTTP {response.status}: {said[:500]}")
    try:
        outputs = json.loads(said)["outputs"]
    except (ValueError, KeyError, TypeError) as error:
        raise CallFailed(f"REST, {path}: this is no answer to `inputs`: {said[:200]}") from error
    return outputs if isinstance(outputs, dict) else {"": outputs}


def _json_value(values: np.ndarray) -> Any:
    """Numbers and texts as REST takes them: text that is no UTF-8 as `{"b64": …}`."""
    if values.dtype != object:
        return values.tolist()
    flat = np.empty(values.size, object)
    flat[:] = [_json_text(value) for value in values.ravel()]
    return flat.reshape(values.shape).tolist()


def _json_text(value: bytes | str) -> str | dict[str, str]:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}
