"""The processes that run components side by side.

Processes, not threads: training rests on state that TensorFlow keeps once per process (the global seed, the names of
layers), and must not depend on what runs beside it. A lane lives as long as the run, so TFX is imported once by each.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from pipeline.run.lanes.failures import LaneDied

#: Seconds that a lane has to leave a task that is broken off.
GRACE_S = 5.0

#: Modules are found where this process finds them: `python -m` would look into the working directory first.
_START = """
import sys
sys.path[:] = sys.argv[3].split(":")
from pipeline.run.lanes.lane import main
main(int(sys.argv[1]), int(sys.argv[2]))
"""


class TaskEnd(NamedTuple):
    """The end of a task: what its function returned, and the largest memory of its process meanwhile in MiB."""

    result: Any
    peak_mb: float | None


class LanePool:
    """Lanes of this machine, as a context manager; at its end none is left, whatever ended it.

    Made, grown and closed in one thread, which outlives them; tasks are run from any.
    """

    def __init__(self, size: int, warm: Callable[[], None] | None = None):
        """Starts the first lane; the others start with `grow`.

        Args:
          size: how many there may be.
          warm: a function of a module that a lane calls first, as to import what all tasks need.
        """
        self.size, self._warm = size, warm
        self._lanes: list[_Lane] = []
        self._idle: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        self._quiet = threading.Lock()
        self._start()

    def __enter__(self) -> LanePool:
        return self

    def __exit__(self, *exception) -> None:
        for lane in self._lanes:
            lane.stop()
        for lane in self._lanes:
            lane.end()

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [lane.process.pid for lane in self._lanes]

    def grow(self) -> None:
        """Starts the lanes that are still to come."""
        while len(self._lanes) < self.size:
            self._start()

    def run(self, function: Callable, *arguments, name: str = "", say: Callable[[str], None] = print) -> TaskEnd:
        """Runs a task in a lane that is free, or as soon as one is.

        Args:
          function: of a module, by whose name it is found in the other process.
          arguments: can be pickled, and so can what it returns.
          name: in the log's lines.
          say: called with each line that the task prints.

        Raises:
          LaneDied: if its process ended.
          Exception: whatever the function raised.
        """
        lane = self._idle.get()
        try:
            return lane.run((function, arguments), name, say, self._without_others)
        finally:
            # One that died too: whoever gets it is told so, and does not wait for ever.
            self._idle.put(lane)

    def _start(self) -> None:
        lane = _Lane(self._warm, max(1, (os.cpu_count() or 1) // self.size))
        self._lanes.append(lane)
        self._idle.put(lane)

    @contextlib.contextmanager
    def _without_others(self, lane: _Lane) -> Iterator[None]:
        """Holds all other lanes still."""
        with self._quiet:
            others = [other.process for other in self._lanes if other is not lane]
            for process in others:
                process.send_signal(signal.SIGSTOP)
            try:
                yield
            finally:
                for process in others:
                    process.send_signal(signal.SIGCONT)


class _Lane:
    """One process, with a socket for messages and a pipe for what it prints."""

    def __init__(self, warm: Callable[[], None] | None, threads: int):
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), str(os.getpid()), os.pathsep.join(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={
                    # On a GPU, what one process takes as a whole, another cannot have.
                    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
                    # Threads of TensorFlow wait by spinning: more of them than cores slow each other down.
                    "TF_NUM_INTRAOP_THREADS": str(threads),
                    **os.environ,
                },
            )
        self._connection = Connection(ours.detach())
        self._printed = _Lines(self.process.stdout.fileno())
        self._connection.send((sys.argv, warm))
        self._busy = False

    def run(self, task: tuple, name: str, say: Callable[[str], None], without_others) -> TaskEnd:
        """Runs a task and passes on what it logs and prints."""
        self._busy = True
        try:
            with contextlib.ExitStack() as quiet:
                self._connection.send(task)
                kind, value, peak = self._until_end(name, say, quiet, without_others)
        except (EOFError, ConnectionResetError, BrokenPipeError) as error:
            code = self.process.wait()
            self._printed.read(say, last=True)
            raise LaneDied(code, self._printed.last) from error
        finally:
            self._busy = False
        self._printed.read(say, last=True)
        if kind == "failed":
            raise value
        return TaskEnd(value, peak)

    def _until_end(self, name: str, say: Callable[[str], None], quiet: contextlib.ExitStack, without_others) -> tuple:
        """Returns the message that ends the task."""
        while True:
            ready = wait([self._connection, self._printed])
            self._printed.read(say)
            if self._connection not in ready:
                continue
            message = self._connection.recv()
            if message[0] == "log":
                _log(name, message[1])
            elif message == ("alone", True):
                quiet.enter_context(without_others(self))
                self._connection.send("go")
            elif message == ("alone", False):
                quiet.close()
            else:
                return message

    def stop(self) -> None:
        """Has it break off its task; what has none is ended."""
        if self.process.poll() is not None:
            return
        if self._busy:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
        else:
            self.process.kill()

    def end(self) -> None:
        """Waits for its end, not for long."""
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._connection.close()


class _Lines:
    """Whole lines out of a pipe, read without waiting."""

    def __init__(self, descriptor: int):
        self._descriptor, self._rest, self.last = descriptor, b"", ""
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        return self._descriptor

    def read(self, say: Callable[[str], None], last: bool = False) -> None:
        """Says the lines that are there; as the last call for a task also one that has no end yet."""
        while True:
            try:
                chunk = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                break
            if not chunk:
                break
            self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        if last and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            # What draws over its own line leaves carriage returns: the last state counts.
            text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
            if text.strip():
                self.last = text
                say(text)


def _log(name: str, fields: dict) -> None:
    """Writes a record of a lane into the log, under the component's name."""
    record = logging.makeLogRecord({**fields, "name": f"{fields['name']} [{name}]" if name else fields["name"]})
    logging.getLogger("absl").handle(record)
