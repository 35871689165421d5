"""Children that kill themselves at the n-th of the moments that matter: before and after each guarded step.

For scripts that a test starts: `python -c SCRIPT … root=moment root=moment`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any


class KillPoints:
    """Counts moments, and ends the process by SIGKILL at one of them.

    Args:
      moment: which, from 0; -1: none.

    Attributes:
      passed: moments so far.
    """

    def __init__(self, moment: int):
        self.passed = 0
        self._moment = moment

    def guard(self, owner: Any, *names: str, where: Callable[..., bool] = lambda *_: True) -> None:
        """Makes a moment of before and of after every call of these functions of a module or class.

        Args:
          owner: the module or class.
          *names: of its functions.
          where: which calls count, by their positional arguments.
        """
        for name in names:
            setattr(owner, name, self._guarded(getattr(owner, name), where))

    def _guarded(self, inner: Callable[..., Any], where: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            counts = where(*arguments)
            if counts:
                self._point()
            result = inner(*arguments, **options)
            if counts:
                self._point()
            return result

        return call

    def _point(self) -> None:
        if self.passed == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)
        self.passed += 1


def run_children(pairs: Iterable[str], work: Callable[[str, KillPoints], None]) -> None:
    """Does a work in a child for each `root=moment`; one that lives to the end prints how many moments there were."""
    for pair in pairs:
        root, _, number = pair.rpartition("=")
        moment = int(number)
        child = os.fork()
        if not child:
            points = KillPoints(moment)
            work(root, points)
            print(points.passed, flush=True)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        assert moment < 0 or os.WTERMSIG(status) == signal.SIGKILL, status
