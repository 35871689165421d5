"""The one bound on calls of models, by whichever wire they come: so many run, so many wait, the rest is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from typing import Any, TypeVar

import grpc

from serving.server.status import ServingError

#: What a call is told for which there is no place.
FULL = "The queue of calls is full"

Answer = TypeVar("Answer")


class CallPool(ThreadPoolExecutor):
    """Workers for calls, and so many places to wait.

    A call takes a place first (`take_place`), which is known at once and before anything of it is read; who has taken
    one submits the call, and the place is free again when the call has ended.

    Args:
      workers: calls that run at a time.
      queue: calls that wait for a worker.
    """

    def __init__(self, workers: int, queue: int):
        super().__init__(workers, thread_name_prefix="call")
        self._bound = workers + queue
        self._count = 0
        self._counting = threading.Condition()

    @property
    def count(self) -> int:
        """Calls that run or wait."""
        return self._count

    def take_place(self) -> bool:
        """Takes a place for a call that is submitted next; returns whether there was one."""
        with self._counting:
            taken = self._count < self._bound
            self._count += taken
        return taken

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future:
        """Runs a call that has a place when a worker is free."""
        try:
            future = super().submit(function, *arguments, **named)
        except BaseException:
            self._ended(None)
            raise
        future.add_done_callback(self._ended)
        return future

    def run(self, function: Callable[..., Answer], *arguments: Any, timeout_s: float) -> Answer:
        """Runs a call in a worker, and returns what it returns.

        Args:
          function: the call; it must bound its own time.
          *arguments: its arguments.
          timeout_s: how long it may wait for a worker.

        Raises:
          ServingError: RESOURCE_EXHAUSTED where there is no place to wait; DEADLINE_EXCEEDED if no worker was free in
            time; what the call raises.
        """
        if not self.take_place():
            raise ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, FULL)
        future = self.submit(function, *arguments)
        try:
            return future.result(timeout_s)
        except Late:
            if future.cancel():
                message = f"No worker was free within {timeout_s:g} s"
                raise ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, message) from None
            return future.result()

    def wait(self, timeout_s: float | None) -> bool:
        """Waits until no call waits or runs; returns whether that is so."""
        with self._counting:
            return self._counting.wait_for(lambda: not self._count, timeout_s)

    def _ended(self, _: Future | None) -> None:
        with self._counting:
            self._count -= 1
            if not self._count:
                self._counting.notify_all()
