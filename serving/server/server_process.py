"""The server in a process of its own, for who brings it along: it ends with the process that started it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from features.errors import RunError
from serving.server.config import ServeConfig

#: Seconds between two looks at a server that starts.
_POLL_S = 0.1
#: Seconds that a server which was told to end gets on top of those in which its calls drain.
_MORE_S = 10.0


class ModelServerProcess:
    """Serves models over gRPC and REST in a child process, which ends with this one.

    The child is a session of its own: Ctrl-C reaches this process alone, which drains first what calls the server.

    Args:
      config: what is served, and where.

    Attributes:
      grpc_port: of gRPC, once it has started.
      rest_port: of REST, once it has started; None without REST.
    """

    def __init__(self, config: ServeConfig):
        self.grpc_port: int | None = None
        self.rest_port: int | None = None
        self._drain_s = config.drain_s
        context = multiprocessing.get_context("spawn")
        self._connection, self._childs = context.Pipe()
        self._process = context.Process(target=_serve, args=(config, self._childs), name="model-server", daemon=True)

    def start(self, given_up: Sequence[int] = ()) -> bool:
        """Waits until every model is loaded and the ports are open.

        Args:
          given_up: signals that came meanwhile; the first ends the wait.

        Returns:
          Whether the server answers.

        Raises:
          RunError: if it cannot start; the message is its own.
        """
        self._process.start()
        self._childs.close()
        while not self._connection.poll(_POLL_S):
            if given_up:
                self.stop()
                return False
        try:
            told: dict[str, Any] = self._connection.recv()
        except EOFError:
            self._process.join()
            raise RunError(
                f"the model server ended with code {self._process.exitcode} while it started; its log says why."
            ) from None
        if "error" in told:
            self.stop()
            raise RunError(f"the model server did not start: {told['error']}")
        self.grpc_port, self.rest_port = told["grpc_port"], told["rest_port"]
        return True

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.is_alive()

    def stop(self) -> None:
        """Ends the server: calls in flight are answered first, within the seconds that it drains for."""
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(self._drain_s + _MORE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()


def _serve(config: ServeConfig, connection: Connection) -> None:
    """The child: serves until SIGTERM, or until its parent is gone."""
    import logging

    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tensorflow").addFilter(lambda record: "is deprecated" not in str(record.msg))
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    from serving.server.server import serve_until_signalled

    try:
        serve_until_signalled(
            config,
            lambda server: connection.send({"grpc_port": server.grpc_port, "rest_port": server.rest_port}),
        )
    except Exception as error:
        connection.send({"error": str(error)})
    # Threads that load a model cannot be interrupted, and the interpreter would wait for them.
    os._exit(0)


def _end_with_parent(connection: Connection) -> None:
    """Waits for what never comes: the pipe breaks when the parent ends, however it ends."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
