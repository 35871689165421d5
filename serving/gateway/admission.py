"""How many requests are worked on at a time, and how many wait; the rest is refused at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from serving.gateway.refusal import TOO_LATE, TOO_MANY, GatewayError


class Admission:
    """Places for requests, first come first served. All methods belong to one event loop.

    Args:
      max_concurrent: requests that have a place at a time.
      max_waiting: requests that wait for one.

    Attributes:
      waiting: how many wait now.
      working: how many have a place now.
    """

    def __init__(self, max_concurrent: int, max_waiting: int):
        self._places = asyncio.Semaphore(max_concurrent)
        self._max_waiting = max_waiting
        self.waiting = 0
        self.working = 0

    @contextlib.asynccontextmanager
    async def place(self, until: float) -> AsyncIterator[None]:
        """Holds a place for the block.

        Args:
          until: when the request waits no longer, in `time.monotonic`'s seconds.

        Raises:
          GatewayError: 429 if too many wait already, 504 if no place was free in time.
        """
        if self._places.locked() and self.waiting >= self._max_waiting:
            raise GatewayError(
                TOO_MANY, f"{self.working} requests are answered and {self.waiting} wait: ask again in a moment."
            )
        self.waiting += 1
        try:
            await asyncio.wait_for(self._places.acquire(), max(0.0, until - time.monotonic()))
        except asyncio.TimeoutError:
            raise GatewayError(
                TOO_LATE,
                f"no place was free before the deadline: {self.working} requests are answered, "
                f"{self.waiting - 1} others wait. Ask again in a moment.",
            ) from None
        finally:
            self.waiting -= 1
        self.working += 1
        try:
            yield
        finally:
            self.working -= 1
            self._places.release()
