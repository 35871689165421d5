"""A pool of workers with a bounded queue: what does not fit is known at once, before anything of it is read."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc


class CallPool(ThreadPoolExecutor):
    """Workers for calls, and so many places to wait.

    gRPC hands a call to the pool in the thread that has looked at `full`, so the bound is kept exactly.

    Args:
      workers: calls that run at a time.
      queue: calls that wait for a worker.
    """

    def __init__(self, workers: int, queue: int):
        super().__init__(workers, thread_name_prefix="call")
        self._bound = workers + queue
        self._count = 0
        self._open = 0
        self._counting = threading.Condition()

    @property
    def full(self) -> bool:
        """Whether there is no place for another call."""
        return self._count >= self._bound

    def watch(self, context: grpc.ServicerContext) -> None:
        """Counts a call as open until its answer has been sent, which is after its worker has done with it."""
        with self._counting:
            self._open += 1
        if not context.add_callback(self._closed):
            self._closed()

    def wait(self, timeout_s: float) -> bool:
        """Waits until no call waits, runs or is being answered; returns whether that is so."""
        with self._counting:
            return self._counting.wait_for(lambda: not self._count and not self._open, timeout_s)

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future:
        """Runs a call when a worker is free."""
        with self._counting:
            self._count += 1
        try:
            future = super().submit(function, *arguments, **named)
        except BaseException:
            self._ended(None)
            raise
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: Future | None) -> None:
        with self._counting:
            self._count -= 1
            self._counting.notify_all()

    def _closed(self) -> None:
        with self._counting:
            self._open -= 1
            self._counting.notify_all()
