"""PredictionService and ModelService over a `ServerCore`: deadlines, errors, metrics, and calls that find no place."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, NoReturn

import grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.server.core import ServerCore
from serving.server.rpc.call_pool import CallPool
from serving.server.server_metrics import ServerMetrics
from serving.server.status import ServingError, grpc_text

_LOG = logging.getLogger(__name__)

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
#: gRPC has a date far away for a call without a deadline.
_NO_DEADLINE_S = 1e9


class _Method(NamedTuple):
    """A method of a service.

    Attributes:
      request: the class of its request.
      call: the method of the core.
      runs: whether it runs a model: then it has a time limit, and takes a place in the queue.
      counted: the name by which it counts in the metrics; None: TensorFlow Serving does not count it.
    """

    request: type
    call: Callable[..., Any]
    runs: bool = True
    counted: str | None = None


def _methods(core: ServerCore) -> dict[str, _Method]:
    prediction, model = f"/{PREDICTION_SERVICE}/", f"/{MODEL_SERVICE}/"
    return {
        f"{prediction}Predict": _Method(predict_pb2.PredictRequest, core.predict, counted="Predict"),
        f"{prediction}Classify": _Method(classification_pb2.ClassificationRequest, core.classify, counted="Classify"),
        f"{prediction}Regress": _Method(regression_pb2.RegressionRequest, core.regress, counted="Regress"),
        f"{prediction}MultiInference": _Method(inference_pb2.MultiInferenceRequest, core.multi_inference),
        f"{prediction}GetModelMetadata": _Method(
            get_model_metadata_pb2.GetModelMetadataRequest, core.model_metadata, runs=False
        ),
        f"{model}GetModelStatus": _Method(get_model_status_pb2.GetModelStatusRequest, core.model_status, runs=False),
    }


class CallHandlers(grpc.GenericRpcHandler):
    """The handlers of both services. Calls of models go to a pool of their own and are refused when that is full.

    TensorFlow Serving refuses by a quota of threads, with the same code; here the bound is the queue's.

    Args:
      core: answers.
      pool: of the calls of models.
      reloads: pool of reloads, which wait for models to load and must not hold up others.
    """

    def __init__(self, core: ServerCore, pool: CallPool, reloads: ThreadPoolExecutor):
        self._pool, self._metrics = pool, core.metrics
        self._bound, self._free = {}, {}
        for name, method in _methods(core).items():
            handlers = self._bound if method.runs else self._free
            handlers[name] = _handler(method, core.metrics, pool if method.runs else None, pool.watch)
        if core.config.allow_reload:
            reload = _Method(model_management_pb2.ReloadConfigRequest, core.reload_config, runs=False)
            self._free[f"/{MODEL_SERVICE}/HandleReloadConfigRequest"] = _handler(reload, core.metrics, reloads, _unwatched)
        # A stream of requests, of which none is read: the refusal does not wait for the message.
        self._refusal = grpc.stream_unary_rpc_method_handler(self._refuse)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Returns the handler of a method; None if there is no such method."""
        name = handler_call_details.method
        if name in self._bound:
            return self._refusal if self._pool.full else self._bound[name]
        return self._free.get(name)

    def _refuse(self, _: Any, context: grpc.ServicerContext) -> NoReturn:
        self._metrics.observe_refusal("GRPC")
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "The queue of calls is full")


def _unwatched(_: grpc.ServicerContext) -> None:
    """A reload may wait for ever: a drain does not wait for it."""


def _handler(
    method: _Method,
    metrics: ServerMetrics,
    pool: ThreadPoolExecutor | None,
    watch: Callable[[grpc.ServicerContext], None],
) -> grpc.RpcMethodHandler:
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        watch(context)
        begun = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            return method.call(request, _time_left(context)) if method.runs else method.call(request)
        except ServingError as error:
            code = error.code
            context.abort(code, grpc_text(error.message))
        except Exception as error:  # a defect: the caller is told, and the server goes on
            _LOG.exception("a call ended by a defect")
            code = grpc.StatusCode.INTERNAL
            context.abort(code, grpc_text(f"{type(error).__name__}: {error}"))
        finally:
            if method.counted is not None:
                metrics.observe_request(
                    request.model_spec.name, method.counted, "GRPC", code, time.perf_counter() - begun
                )

    if pool is not None:
        answer.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=method.request.FromString, response_serializer=_serialized
    )


def _serialized(response: Any) -> bytes:
    return response.SerializeToString()


def _time_left(context: grpc.ServicerContext) -> float | None:
    """Returns the seconds until the caller's deadline; None if there is none.

    Raises:
      ServingError: DEADLINE_EXCEEDED or CANCELLED if the caller no longer waits: then nothing is run.
    """
    left = context.time_remaining()
    if left is not None and left <= 0:
        raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    if not context.is_active():
        raise ServingError(grpc.StatusCode.CANCELLED, "Cancelled")
    return None if left is None or left > _NO_DEADLINE_S else left
