"""How many requests are worked on at a time, and how many wait; the rest is refused at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator

from serving.gateway.refusal import TOO_LATE, TOO_MANY, GatewayError

#: Weight of the newest request in how long places are held.
_NEWEST = 0.1


class Admission:
    """Places for requests, first come first served. All methods belong to one event loop.

    A request that would come to its place too late to be answered is refused at once: its caller can go elsewhere
    while there is time, and the time of those before it is not spent on it.

    Args:
      max_concurrent: requests that have a place at a time.
      max_waiting: requests that wait for one.

    Attributes:
      working: how many have a place now.
    """

    def __init__(self, max_concurrent: int, max_waiting: int):
        self._max_concurrent, self._max_waiting = max_concurrent, max_waiting
        self._queue: deque[asyncio.Future[None]] = deque()
        self._held_s: float | None = None
        self.working = 0

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def place(self, until: float) -> AsyncIterator[None]:
        """Holds a place for the block.

        Args:
          until: when the request waits no longer, in `time.monotonic`'s seconds.

        Raises:
          GatewayError: 429 if too many wait already, for their number or for the time, 504 if no place was free in
            time.
        """
        if self.working < self._max_concurrent:
            self.working += 1
        elif self.waiting >= self._max_waiting or self._in_vain(until):
            raise GatewayError(
                TOO_MANY, f"{self.working} requests are answered and {self.waiting} wait: ask again in a moment."
            )
        else:
            await self._wait(until)
        begun = time.monotonic()
        try:
            yield
        finally:
            held_s = time.monotonic() - begun
            self._held_s = held_s if self._held_s is None else self._held_s + _NEWEST * (held_s - self._held_s)
            self._leave()

    def _in_vain(self, until: float) -> bool:
        """Whether a request that joined the queue would still be worked on when its time is over, as things go."""
        left_s, held_s = until - time.monotonic(), self._held_s or 0.0
        return 0 < left_s < held_s * ((self.waiting + 1) / self._max_concurrent + 1)

    async def _wait(self, until: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await asyncio.wait_for(turn, max(0.0, until - time.monotonic()))
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave()  # The place came as the caller went.
            elif turn in self._queue:
                self._queue.remove(turn)
            if isinstance(error, asyncio.TimeoutError):
                raise GatewayError(
                    TOO_LATE,
                    f"no place was free before the deadline: {self.working} requests are answered and {self.waiting} "
                    "others wait. Ask again in a moment.",
                ) from None
            raise

    def _leave(self) -> None:
        """Hands the place to the first that waits: nobody who comes now is before it."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():  # One that went away may still stand there until its task runs.
                turn.set_result(None)
                return
        self.working -= 1
