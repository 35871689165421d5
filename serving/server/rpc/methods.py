"""The methods of TensorFlow Serving's two services: their messages, and what answers them. Listed here alone."""

from __future__ import annotations

from typing import Any, NamedTuple

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

PACKAGE = "tensorflow.serving"
PREDICTION_SERVICE = f"{PACKAGE}.PredictionService"
MODEL_SERVICE = f"{PACKAGE}.ModelService"


class Method(NamedTuple):
    """A method of a service.

    Attributes:
      service: its whole name.
      name: of the method.
      request: the class of its request.
      response: the class of its response.
      core: the method of `ServerCore` that answers it.
      runs: whether it runs a model: then it has a time limit, and takes a place in the queue.
      counted: whether TensorFlow Serving counts it in its metrics.
    """

    service: str
    name: str
    request: Any
    response: Any
    core: str
    runs: bool = False
    counted: bool = False

    @property
    def path(self) -> str:
        """By which gRPC asks for it."""
        return f"/{self.service}/{self.name}"


def _method(service: str, name: str, module: Any, stem: str, core: str, **more: bool) -> Method:
    return Method(service, name, getattr(module, f"{stem}Request"), getattr(module, f"{stem}Response"), core, **more)


RELOAD = _method(MODEL_SERVICE, "HandleReloadConfigRequest", model_management_pb2, "ReloadConfig", core="reload_config")
_P, _M = PREDICTION_SERVICE, MODEL_SERVICE
METHODS = (
    _method(_P, "Classify", classification_pb2, "Classification", core="classify", runs=True, counted=True),
    _method(_P, "Regress", regression_pb2, "Regression", core="regress", runs=True, counted=True),
    _method(_P, "Predict", predict_pb2, "Predict", core="predict", runs=True, counted=True),
    _method(_P, "MultiInference", inference_pb2, "MultiInference", core="multi_inference", runs=True),
    _method(_P, "GetModelMetadata", get_model_metadata_pb2, "GetModelMetadata", core="model_metadata"),
    _method(_M, "GetModelStatus", get_model_status_pb2, "GetModelStatus", core="model_status"),
    RELOAD,
)
