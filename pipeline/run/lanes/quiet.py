"""What measures seconds is measured alone: the other lanes stand still meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

_ask: Callable[[bool], None] | None = None


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Stops the components that run beside this one while the block lasts; does nothing where none can.

    Seconds that are judged, as of calls that a server must answer in time, must not depend on what happens to run at
    the same time. Blocks should be short: the machine does nothing else.
    """
    if _ask is None:
        yield
        return
    _ask(True)
    try:
        yield
    finally:
        _ask(False)


def answer_by(ask: Callable[[bool], None] | None) -> None:
    """Sets what stops the other lanes (True), and lets them go on (False), in the process of a lane."""
    global _ask
    _ask = ask
