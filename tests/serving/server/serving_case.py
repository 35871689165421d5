"""A server on free ports with clients of it, and requests, for the tests of the server."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server.config import ServeConfig
from serving.server.server import ModelServer

PATIENCE_S = 120.0


class Clients:
    """The stubs of a server."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None, options=()):
        self.channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def states(self, name: str) -> dict[int, int]:
        """The states of a model's versions."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        answer = self.model.GetModelStatus(request, timeout=PATIENCE_S)
        return {each.version: each.state for each in answer.model_version_status}


class Running(Clients):
    """A server that runs, and its stubs."""

    def __init__(self, server: ModelServer, **more: Any):
        super().__init__(f"{server.config.host}:{server.grpc_port}", **more)
        self.server = server


@contextlib.contextmanager
def serving(**values: Any) -> Iterator[Running]:
    """Runs a server without REST on a free port; a load that fails is not tried again, versions are seen quickly."""
    values = {"port": 0, "rest_port": None, "max_load_retries": 0, "poll_s": 0.05, **values}
    with ModelServer(ServeConfig(**values)) as server:
        running = Running(server)
        yield running
        running.channel.close()


def predict_request(name: str, signature: str = "", version=None, label: str = "", **inputs: Any):
    """A Predict request; a version is a number, inputs are arrays or tensors' protos."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for alias, value in inputs.items():
        proto = value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value)
        request.inputs[alias].CopyFrom(proto)
    return request


def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[str, str]:
    """The name of the status code and the text that a call ends by."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **named)
    return caught.value.code().name, caught.value.details()


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """Waits until a condition holds, and returns what it returned."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"it did not come to pass: {what or condition}")


def floats(*values: float) -> np.ndarray:
    """A vector of floats."""
    return np.array(values, np.float32)


def copy_version(source, target) -> None:
    """Copies a version and renames it into place, as a version should appear."""
    aside = target.parent / f".{target.name}"
    shutil.copytree(source, aside)
    aside.rename(target)
