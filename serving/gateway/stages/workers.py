"""Where a request's own work is done: on the event loop while that is short, in a thread where it is long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

Made = TypeVar("Made")

#: Items of a list that take about half a millisecond: less than a thread's handing over under load, which waits for
#: Python's lock twice.
SHORT = 2000
#: A behaviour, or a candidate of a caller's own, is an object to be checked: it costs as much as so many items.
OBJECT = 10


class Workers:
    """Runs work of a known size.

    Args:
      pool: threads for what is long.
    """

    def __init__(self, pool: Executor):
        self._pool = pool

    async def run(self, size: int, work: Callable[..., Made], *arguments) -> Made:
        """Returns what some work returns; the event loop goes on meanwhile where it is long.

        Args:
          size: how many items the work goes through; of objects `OBJECT` times as many.
          work: a function.
          arguments: of it.
        """
        if size <= SHORT:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
