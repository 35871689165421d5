"""The process of a lane: runs one task after another until its parent is done with it.

Messages over the socket to it are pickled tuples. From the parent: `(argv, warm)` at first, then `(function,
arguments)` of a task, and "go" as the answer to a call for quiet. To the parent: `("log", record)`, `("alone",
wanted)`, and as the end of a task `("done", result, peak_mb)` or `("failed", error, peak_mb)`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from multiprocessing.connection import Connection

from pipeline.run.lanes import quiet
from pipeline.run.lanes.failures import TaskFailed
from pipeline.run.lanes.logs import log_through
from pipeline.run.timings import MemorySampler

_PR_SET_PDEATHSIG = 1


class _Channel:
    """The connection to the parent, for several threads: whoever logs writes to it."""

    def __init__(self, connection: Connection):
        self._connection, self._sending = connection, threading.Lock()
        self.receive = connection.recv

    def send(self, *message) -> None:
        with self._sending:
            self._connection.send(message)

    def ask_for_quiet(self, wanted: bool) -> None:
        self.send("alone", wanted)
        if wanted:
            self.receive()


class _Forward(logging.Handler):
    """Sends records to the parent, which writes the log."""

    def __init__(self, channel: _Channel):
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # Text only: arguments and exceptions may not be picklable.
            text = self.format(record)
            fields = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            self._channel.send("log", {**fields, "msg": text, "created": record.created, "msecs": record.msecs})
        except Exception:
            self.handleError(record)


def main(descriptor: int, parent: int) -> None:
    """Serves the parent, a process, behind a socket."""
    _die_with(parent)
    channel = _Channel(Connection(descriptor))
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\..*")
    try:
        sys.argv[:], warm = channel.receive()
        quiet.answer_by(channel.ask_for_quiet)
        with log_through(_Forward(channel)), MemorySampler() as sampler:
            if warm is not None:
                warm()
            while True:
                task = _received(channel)
                if task is not None:
                    _run(channel, sampler, *task)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # The parent is done.
        pass
    except KeyboardInterrupt:
        os._exit(128 + signal.SIGINT)


def _received(channel: _Channel) -> tuple | None:
    """The next task; None for one that this process cannot read, as where its module is not found: that is told."""
    try:
        return channel.receive()
    except (ImportError, AttributeError, pickle.UnpicklingError) as error:
        channel.send("failed", _sendable(error), None)
        return None


def _run(channel: _Channel, sampler, function, arguments) -> None:
    started = time.time()
    try:
        end = ("done", function(*arguments))
    except Exception as error:  # Whatever it is: the parent names the component.
        logging.getLogger("absl").error("The executor failed.", exc_info=True)
        end = ("failed", _sendable(error))
    sys.stdout.flush()
    sys.stderr.flush()
    sampler.sample()
    channel.send(*end, sampler.peak_mb(started, time.time()))


def _sendable(error: Exception) -> Exception:
    """The error, or one that tells the same, if it does not survive being pickled."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return TaskFailed(f"{type(error).__name__}: {error}")


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies, however that happens, also while it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
