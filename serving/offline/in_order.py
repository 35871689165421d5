"""Work on one request at a time, several at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item, Found = TypeVar("Item"), TypeVar("Found")

#: What a thread may be ahead of who takes the results, which stay in memory until then.
_AHEAD = 4


def in_order(work: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
    """Yields `work(item)` of each item, in their order, a thread a core working ahead.

    For calls of a SavedModel, which are safe from several threads and let go of Python's lock: one alone leaves the
    second core idle most of the time.

    Raises:
      Exception: what `work` raised of an item, when its turn comes; nothing new is begun then.
    """
    threads = os.cpu_count() or 1
    waiting: deque[Future[Found]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
