"""What ends a task in a lane beside its own errors."""

from __future__ import annotations

import signal

from features.errors import RunError


class TaskFailed(RunError):
    """A task raised an error that cannot be sent to another process; the message names it."""


class LaneDied(RunError):
    """The process of a lane ended in the middle of a task."""

    def __init__(self, code: int, last: str = ""):
        """Makes the message.

        Args:
          code: the exit code of the process, negative for the signal that ended it.
          last: the last line that it printed.
        """
        if code >= 0:
            super().__init__(f"its process ended by itself, with exit code {code}; its last words: {last or 'none'}")
            return
        message = f"its process was ended by {_name(-code)}"
        if -code == signal.SIGKILL:
            message += ", as the kernel does it where memory runs out: give it more, or run with `--lanes 1`"
        super().__init__(f"{message}.")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
