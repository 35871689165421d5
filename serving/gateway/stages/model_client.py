"""Calls of TensorFlow Serving's `Predict` on an event loop: one connection for all, the version named in every call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np

from features.errors import RunError
from serving.release.manifest import ReleasedModel
from serving.server.inference.tensor_protos import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
#: Milliseconds between two tries to connect: a server that comes back is found at once.
_RECONNECT_MS = 100
_RECONNECT_AT_MOST_MS = 1000


class CallError(RunError):
    """A call that brought no usable answer.

    Attributes:
      code: the name of the gRPC status, or what was wrong with the answer, for metrics: `UNAVAILABLE`.
      late: whether its time was over.
    """

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code, self.late = code, code == "DEADLINE_EXCEEDED"


class ModelClient:
    """Asks one server. Use it on the event loop that it was made on, and close it there.

    Args:
      address: of its gRPC, `host:port`.
      workers: threads that turn tensors into messages and back, so that the loop goes on meanwhile.
      max_message_bytes: the largest answer that is read.
    """

    def __init__(self, address: str, workers: Executor, max_message_bytes: int):
        from grpc import aio

        options = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.min_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_AT_MOST_MS),
            # The server is named by the configuration alone: no proxy of the environment stands between.
            ("grpc.enable_http_proxy", 0),
            # Where a name stands for several servers they take turns.
            ("grpc.lb_policy_name", "round_robin"),
        ]
        self.address = address
        self._workers = workers
        self._channel = aio.insecure_channel(address, options=options)
        # Bytes in and out: messages are made and read by the workers.
        self._predict = self._channel.unary_unary(_PREDICT)
        self._status = self._channel.unary_unary(_STATUS)

    async def predict(
        self,
        model: ReleasedModel,
        signature: str,
        tensors: Mapping[str, np.ndarray],
        outputs: Collection[str],
        until: float,
    ) -> dict[str, np.ndarray]:
        """Returns outputs of a signature of one version.

        Args:
          model: the version; no other answers.
          signature: its name.
          tensors: all of its inputs.
          outputs: the names of those that are wanted.
          until: when the answer must be there, in `time.monotonic`'s seconds.

        Raises:
          CallError: if there is no answer by then, or it is an error, or not what was asked for.
        """
        loop = asyncio.get_running_loop()
        begin = loop.run_in_executor(self._workers, begun_request, model, signature, outputs, tensors)
        answer, _ = await self.send(await begin, until)
        return await loop.run_in_executor(self._workers, read_answer, answer, model, outputs)

    async def send(self, request: bytes, until: float) -> tuple[bytes, float]:
        """Sends a `PredictRequest`, and returns the answer unread and the seconds from the one to the other.

        Args:
          request: of `begun_request`, with `tensor_bytes` of what it lacked appended.
          until: as of `predict`.

        Raises:
          CallError: if there is no answer by then, or it is an error.
        """
        begun = time.monotonic()
        answer = await self._call(self._predict, request, until - begun)
        return answer, time.monotonic() - begun

    async def missing(self, models: Iterable[ReleasedModel], timeout_s: float) -> list[str]:
        """Returns what the server does not serve of some versions, a sentence each; none where it serves all.

        Raises:
          CallError: if it does not say.
        """
        from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse

        found = []
        for model in models:
            request = GetModelStatusRequest()
            request.model_spec.name = model.name
            request.model_spec.version.value = model.version
            try:
                answer = await self._call(self._status, request.SerializeToString(), timeout_s)
                states = GetModelStatusResponse.FromString(answer).model_version_status
            except CallError as error:
                if error.code != "NOT_FOUND":
                    raise
                states = []
            if not any(each.version == model.version and each.state == each.AVAILABLE for each in states):
                found.append(f"{self.address} does not serve version {model.version} of {model.name}.")
        return found

    async def close(self) -> None:
        """Ends the connection; calls in flight end with it."""
        await self._channel.close()

    async def _call(self, method, request: bytes, timeout_s: float) -> bytes:
        from grpc import aio

        if timeout_s <= 0:
            raise CallError("DEADLINE_EXCEEDED", f"there was no time left to ask {self.address}.")
        try:
            return await method(request, timeout=timeout_s)
        except aio.AioRpcError as error:
            raise CallError(error.code().name, f"{self.address}: {error.details()}") from None


def begun_request(
    model: ReleasedModel, signature: str, outputs: Collection[str], tensors: Mapping[str, np.ndarray]
) -> bytes:
    """The message of a call, as yet with some of its tensors: those of the others may be appended by `tensor_bytes`.

    Args:
      model, signature: what is asked.
      outputs: which outputs are wanted.
      tensors: inputs by name.
    """
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    request = PredictRequest(output_filter=outputs)
    spec = request.model_spec
    spec.name, spec.signature_name, spec.version.value = model.name, signature, model.version
    return request.SerializeToString() + tensor_bytes(tensors)


def tensor_bytes(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Inputs as a part of a call's message: a message of protobuf may be written in parts, one after another."""
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

    part = PredictRequest()
    for name, values in tensors.items():
        # Numbers are the array's own memory; protobuf copies strings faster than Python could join them.
        encode(values, part.inputs[name], as_content=values.dtype != object)
    return part.SerializeToString()


def read_answer(answer: bytes, model: ReleasedModel, outputs: Collection[str]) -> dict[str, np.ndarray]:
    """The outputs in an answer. Raises `CallError` where they are not what was asked for."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    try:
        response = PredictResponse.FromString(answer)
        found = {name: decode(response.outputs[name]) for name in outputs if name in response.outputs}
    except (DecodeError, ValueError) as error:
        raise CallError("BAD_ANSWER", f"the answer of {model.path} cannot be read: {error}") from error
    if response.model_spec.version.value != model.version:
        raise CallError("BAD_ANSWER", f"version {response.model_spec.version.value} answered for {model.path}.")
    if lacking := [name for name in outputs if name not in found]:
        raise CallError("BAD_ANSWER", f"the answer of {model.path} lacks {', '.join(lacking)}.")
    return found
