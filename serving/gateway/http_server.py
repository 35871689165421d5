"""The gateway on a port: uvicorn over the application, in a thread of its own, and how it is started and ended."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import uvicorn

from features.errors import RunError
from serving.gateway.config import GatewayConfig

if TYPE_CHECKING:
    from serving.gateway.gateway import Gateway

#: Seconds within which a signal is noticed.
_SIGNAL_S = 0.05
#: Connections that wait to be accepted: under overload a caller should get a refusal, not a reset connection.
_BACKLOG = 2048
#: Seconds that a connection stays open between two requests. Longer than the 60 s of usual balancers, which would
#: otherwise send a request on a connection that is just being closed.
_KEEP_ALIVE_S = 75


class GatewayServer:
    """Answers HTTP over one gateway until it is stopped.

    Example:
      with GatewayServer(GatewayConfig(root="serving_models", port=0)) as server:
        print(server.url, server.missing())

    Args:
      config: what is served, and where.

    Attributes:
      gateway: what answers, once it has started.
      port: that is listened on, once it has started.
      error: what it ended by; None while it runs, and when it was stopped.
    """

    def __init__(self, config: GatewayConfig):
        self.config = config
        self.gateway: Gateway | None = None
        self.port: int | None = None
        self._listener: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._started = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    @property
    def url(self) -> str:
        """Where it answers."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"http://{host}:{self.port}"

    def start(self) -> GatewayServer:
        """Opens the release, then the port: who can connect is answered. Whether the model server answers too,
        `missing` says, and `GET /readyz`.

        Raises:
          ClickmillError: if there is no such release, it cannot be opened, or the port cannot be had.
        """
        self._listener = _listen(self.config.host, self.config.port)
        self.port = self._listener.getsockname()[1]
        self._thread.start()
        self._started.wait()
        if self.error is not None:
            self._thread.join()
            raise self.error
        return self

    def missing(self) -> list[str]:
        """Returns why requests cannot be answered yet; nothing: they can."""
        return ["the gateway has not started"] if self.gateway is None else self.gateway.ready()

    def wait_until_ready(self, timeout_s: float, given_up: Sequence[int] = ()) -> list[str]:
        """Waits until requests can be answered, and returns what is missing even then.

        Args:
          timeout_s: the longest wait.
          given_up: signals that came meanwhile; the first ends the wait.
        """
        until = time.monotonic() + timeout_s
        while self.missing() and time.monotonic() < until and not given_up:
            time.sleep(_SIGNAL_S)
        return self.missing()

    def stop(self) -> None:
        """Takes no more connections, lets requests in flight end within `drain_s`, and closes the gateway."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive()

    def __enter__(self) -> GatewayServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.error = error
        finally:
            self._listener.close()
            self._started.set()

    async def _serve(self) -> None:
        from serving.gateway.app import make_app

        gateway = await _open(self.config)
        try:
            self._server = _Server(_settings(make_app(gateway), self.config), self._tell_started)
            self.gateway = gateway
            await self._server.serve(sockets=[self._listener])
        finally:
            self.gateway = None
            await gateway.close()

    def _tell_started(self) -> None:
        self._started.set()


async def _open(config: GatewayConfig) -> Gateway:
    from serving.gateway.gateway import Gateway

    return await Gateway.open(config)


class _Server(uvicorn.Server):
    """Tells when it answers; uvicorn itself only notes it."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]):
        super().__init__(config)
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to answer."""
        await super().startup(sockets=sockets)
        self._tell()


def _settings(app: object, config: GatewayConfig) -> uvicorn.Config:
    from serving.gateway.web.protocol import GatewayProtocol

    return uvicorn.Config(
        app,
        http=GatewayProtocol,
        # The process says what is logged, and where.
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(config.drain_s)),
    )


def _listen(host: str, port: int) -> socket.socket:
    """Binds, without listening yet. Raises `RunError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on connections; without, every answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RunError(
            f"the gateway cannot listen on {host}:{port}: {error.strerror or error}. Give another --host or --port."
        ) from error
    return listener


def answer_until_signalled(
    server: GatewayServer, received: Sequence[int], needed: Callable[[], bool] = lambda: True
) -> None:
    """Waits until a signal came, then drains: requests in flight end within `drain_s`.

    Args:
      server: what answers; it has started.
      received: the signals that have come (`caught_signals`).
      needed: whether what it answers by is there; it ends when this is not so.

    Raises:
      ClickmillError: if the server, or what it needs, ends by itself.
    """
    while not received and server.running and needed():
        time.sleep(_SIGNAL_S)
    server.stop()
    if not received and not needed():
        raise RunError("the model server that came with the gateway ended by itself; its log says why.")
    if server.error is not None:
        raise server.error
    if not received:
        raise RunError("the gateway ended by itself; its log says why.")


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Notes SIGTERM and SIGINT in a list instead of ending the process, while the block runs in the main thread."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
