"""PredictionService and ModelService over a `ServerCore`: deadlines, errors, metrics, and calls that find no place."""

from __future__ import annotations

import logging
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from serving.server.call_pool import FULL
from serving.server.core import ServerCore
from serving.server.rpc.methods import METHODS, RELOAD, Method
from serving.server.rpc.open_calls import OpenCalls
from serving.server.status import ServingError, grpc_text

_LOG = logging.getLogger(__name__)

#: gRPC has a date far away for a call without a deadline.
_NO_DEADLINE_S = 1e9


class CallHandlers(grpc.GenericRpcHandler):
    """The handlers of both services. Calls of models go to the core's pool and are refused when that is full.

    TensorFlow Serving refuses by a quota of threads, with the same code; here the bound is the queue's.

    Args:
      core: answers.
      opened: counts the calls that a drain waits for: all but reloads, which may wait for ever.
      reloads: pool of reloads, which wait for models to load and must not hold up others.
    """

    def __init__(self, core: ServerCore, opened: OpenCalls, reloads: ThreadPoolExecutor):
        self._core, self._opened = core, opened
        self._bound = {each.path: self._handler(each, core.calls) for each in METHODS if each.runs}
        self._free = {each.path: self._handler(each) for each in METHODS if not each.runs}
        if core.config.allow_reload:
            self._free[RELOAD.path] = self._handler(RELOAD, reloads)
        else:
            del self._free[RELOAD.path]
        # protobuf 3 only warns of bytes behind a stray end of a group; `_parsed` refuses them.
        warnings.filterwarnings("ignore", "Unexpected end-group tag", RuntimeWarning)
        # A stream of requests, of which none is read: the refusal does not wait for the message.
        self._refusal = grpc.stream_unary_rpc_method_handler(self._refuse)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Returns the handler of a method; None if there is no such method.

        gRPC submits the call to the handler's pool right after: the place that is taken here is that call's.
        """
        name = handler_call_details.method
        if name in self._bound:
            return self._bound[name] if self._core.calls.take_place() else self._refusal
        return self._free.get(name)

    def _refuse(self, _: Any, context: grpc.ServicerContext) -> NoReturn:
        self._core.metrics.observe_refusal("GRPC")
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL)

    def _handler(self, method: Method, pool: ThreadPoolExecutor | None = None) -> grpc.RpcMethodHandler:
        call, observe = getattr(self._core, method.core), self._core.metrics.observe_request

        def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
            if method is not RELOAD:
                self._opened.add(context)
            begun, code, model = time.perf_counter(), grpc.StatusCode.OK, ""
            try:
                request = _parsed(method, message)
                if method.counted:
                    model = request.model_spec.name
                response = call(request, _time_left(context)) if method.runs else call(request)
                return response.SerializeToString()
            except ServingError as error:
                code = error.code
                context.abort(code, grpc_text(error.message))
            except Exception as error:  # a defect: the caller is told, and the server goes on
                _LOG.exception("a call ended by a defect")
                code = grpc.StatusCode.INTERNAL
                context.abort(code, grpc_text(f"{type(error).__name__}: {error}"))
            finally:
                if method.counted:
                    observe(model, method.name, "GRPC", code, time.perf_counter() - begun)

        if pool is not None:
            answer.experimental_thread_pool = pool  # type: ignore[attr-defined]
        # Without a deserializer of gRPC's: that would read all messages in the one thread that serves all calls.
        return grpc.unary_unary_rpc_method_handler(answer)


def _parsed(method: Method, message: bytes) -> Any:
    request, problem = method.request(), None
    try:
        whole = request.ParseFromString(message) in (None, len(message))
    except DecodeError as error:
        whole, problem = False, error
    if not whole:
        raise ServingError(grpc.StatusCode.INTERNAL, "Exception deserializing request!") from problem
    return request


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
