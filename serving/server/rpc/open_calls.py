"""Calls of gRPC whose answer is still on its way: what a drain waits for."""

from __future__ import annotations

import threading

import grpc


class OpenCalls:
    """Counts calls until their answers have been sent, which is after their workers have done with them."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def add(self, context: grpc.ServicerContext) -> None:
        """Counts a call from now until it ends."""
        with self._changed:
            self._count += 1
        if not context.add_callback(self._closed):
            self._closed()

    def wait(self, timeout_s: float) -> bool:
        """Waits until no call is open; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, timeout_s)

    def _closed(self) -> None:
        with self._changed:
            self._count -= 1
            if not self._count:
                self._changed.notify_all()
