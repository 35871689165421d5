"""Calls of Predict that keep when they began, how they ended and what they brought, for the drills under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import grpc
import numpy as np
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class Call(NamedTuple):
    """A call that has ended.

    Attributes:
      begun, ended: seconds of the monotonic clock.
      code: name of its status.
      request: what was asked.
      answer: what came; None unless the code is OK.
    """

    begun: float
    ended: float
    code: str
    request: PredictRequest
    answer: PredictResponse | None

    @property
    def ms(self) -> float:
        return 1e3 * (self.ended - self.begun)


class Caller:
    """Calls one server by a connection of its own.

    Args:
      address: `host:port`.
      timeout_s: the deadline of each call.
    """

    def __init__(self, address: str, timeout_s: float):
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._predict = self._channel.unary_unary(
            PREDICT,
            request_serializer=PredictRequest.SerializeToString,
            response_deserializer=PredictResponse.FromString,
        )
        self._timeout_s = timeout_s

    def call(self, request: PredictRequest) -> Call:
        """Calls, and returns when the call has ended."""
        begun = time.monotonic()
        try:
            answer, code = self._predict(request, timeout=self._timeout_s), "OK"
        except grpc.RpcError as error:
            answer, code = None, error.code().name
        return Call(begun, time.monotonic(), code, request, answer)

    def send(self, request: PredictRequest, ended: Callable[[Call], None]) -> None:
        """Calls, and returns at once; tells when the call has ended."""
        begun = time.monotonic()
        future = self._predict.future(request, timeout=self._timeout_s)

        def tell(found: grpc.Future) -> None:
            code = found.code()
            answer = found.result() if code is grpc.StatusCode.OK else None
            ended(Call(begun, time.monotonic(), code.name, request, answer))

        future.add_done_callback(tell)

    def close(self) -> None:
        self._channel.close()


def call_for(address: str, request: PredictRequest, seconds: float, callers: int, timeout_s: float) -> list[Call]:
    """Calls again and again, each caller when its last call has ended; returns all calls."""
    found: list[Call] = []
    until = time.monotonic() + seconds

    def go() -> None:
        caller = Caller(address, timeout_s)
        while time.monotonic() < until:
            found.append(caller.call(request))
        caller.close()

    _in_threads([go] * callers)
    return found


def call_at(
    address: str, request: PredictRequest, rate: float, seconds: float, timeout_s: float, connections: int = 4
) -> list[Call]:
    """Calls so many times a second whatever comes back, and returns all calls when the last has ended."""
    callers = [Caller(address, timeout_s) for _ in range(connections)]
    found: list[Call] = []
    all_ended = threading.Semaphore(0)

    def ended(call: Call) -> None:
        found.append(call)
        all_ended.release()

    begun, count = time.monotonic(), int(rate * seconds)
    for number in range(count):
        time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        callers[number % connections].send(request, ended)
    for _ in range(count):
        all_ended.acquire(timeout=timeout_s + 60)
    for caller in callers:
        caller.close()
    return found


def percentile(calls: Iterable[Call], share: float) -> float:
    """Milliseconds within which this share of calls ended; NaN of none."""
    ms = [call.ms for call in calls]
    return float(np.quantile(ms, share)) if ms else float("nan")


def _in_threads(functions: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=each) for each in functions]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
