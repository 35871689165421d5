"""Runs the nodes of a graph, several at a time, each as soon as what it waits for is done."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


class NodeFailed(Exception):
    """A node failed. Those that ran beside it came to their end, and no other was started.

    Attributes:
      node: which.
      error: what it raised.
    """

    def __init__(self, node: str, error: BaseException):
        super().__init__(node)
        self.node, self.error = node, error


@dataclass(frozen=True)
class _Ended:
    node: str
    error: BaseException | None


def run_nodes(
    upstream: Mapping[str, Sequence[str]],
    order: Sequence[str],
    width: int,
    launch: Callable[[str, Callable[[Callable[[], None]], None]], None],
) -> None:
    """Runs all nodes.

    Args:
      upstream: what each node waits for.
      order: all nodes; of those that are ready, the first in it starts first.
      width: how many may run at the same time.
      launch: runs one node, in a thread of its own. Its second argument takes a function that is called in the thread
        that called `run_nodes`: what is not made for several threads, such as a terminal, is reached through it.

    Raises:
      NodeFailed: of the first node that failed.
    """
    calls: queue.SimpleQueue = queue.SimpleQueue()
    waiting, running, done = list(order), set(), set()
    failed: _Ended | None = None

    def work(node: str) -> None:
        error = None
        try:
            launch(node, calls.put)
        except BaseException as raised:  # It is raised again in the thread that waits for it.
            error = raised
        calls.put(_Ended(node, error))

    while running or (waiting and failed is None):
        ready = [node for node in waiting if done.issuperset(upstream[node])] if failed is None else []
        for node in ready[: width - len(running)]:
            waiting.remove(node)
            running.add(node)
            threading.Thread(target=work, args=(node,), name=node, daemon=True).start()
        if not running:
            raise ValueError(f"these nodes wait for each other, or for nodes that there are not: {waiting}.")
        call = calls.get()
        if not isinstance(call, _Ended):
            call()
            continue
        running.remove(call.node)
        if call.error is None:
            done.add(call.node)
        else:
            failed = failed or call
    if failed is not None:
        raise NodeFailed(failed.node, failed.error) from failed.error
