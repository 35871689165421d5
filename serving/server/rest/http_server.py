"""The REST interface on a port: HTTP/1.1 by h11, a thread for every connection, their number bounded.

`make_http_server(core, host, port, options)` is what the server starts.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from http.client import responses

import h11

from serving.server.rest.handler import Answer, BodyTooLarge, RestHandler
from serving.server.rest.json_answers import error_json
from serving.server.rest.options import RestOptions

_log = logging.getLogger(__name__)
_READ = 256 * 1024
_BACKLOG = 128
_JSON = (("Content-Type", "application/json"),)


def make_http_server(core, host: str, port: int, options: RestOptions) -> RestServer:
    """Binds the REST interface of a `ServerCore` to an address; `start()` begins to answer.

    Args:
      core: a `serving.server.core.ServerCore`.
      host: name or address to listen on.
      port: port to listen on; 0 lets the system choose.
      options: the settings.

    Raises:
      OSError: the address cannot be used.
    """
    return RestServer(RestHandler(core, options), host, port, options)


class RestServer:
    """Listens, reads requests, and hands each to a `RestHandler`."""

    def __init__(self, handler: RestHandler, host: str, port: int, options: RestOptions) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        self._port = self._listener.getsockname()[1]
        self._handler = handler
        self._options = options
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open: dict[_Connection, threading.Thread] = {}
        self._stopping = False
        self._acceptor = threading.Thread(target=self._accept, name="rest-accept", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port

    def start(self) -> None:
        """Begins to accept connections."""
        self._acceptor.start()

    def stop(self, grace_s: float = 0.0) -> bool:
        """Stops listening, lets requests that are being answered finish, and closes every connection.

        Args:
          grace_s: seconds to wait for them.

        Returns:
          Whether all of them finished.
        """
        with self._lock:
            self._stopping = True
            idle = [connection for connection in self._open if not connection.busy]
        # Wakes the thread that waits in accept(), which closing the socket alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in idle:
            connection.close()
        until = time.monotonic() + grace_s
        with self._changed:
            self._changed.wait_for(lambda: not self._open, timeout=max(0.0, until - time.monotonic()))
            left = list(self._open)
        for connection in left:
            connection.close()
        return not left

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if self._stopping:
                    return
                _log.exception("a connection could not be accepted")
                time.sleep(0.05)  # As when there are no file descriptors left.
                continue
            self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        client.settimeout(self._options.idle_timeout_s)
        with contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(client, self._handler, self._options, lambda: self._stopping)
        with self._lock:
            admitted = not self._stopping and len(self._open) < self._options.max_connections
            if admitted:
                thread = threading.Thread(target=self._serve, args=(connection,), name="rest", daemon=True)
                self._open[connection] = thread
        if admitted:
            thread.start()
        else:
            connection.refuse(f"All {self._options.max_connections} connections are in use.")

    def _serve(self, connection: _Connection) -> None:
        try:
            connection.serve()
        except OSError:
            pass  # The client went away, or fell silent.
        except Exception:
            _log.exception("a REST connection failed")
        finally:
            connection.close()
            with self._changed:
                del self._open[connection]
                self._changed.notify_all()


class _Connection:
    """One client's requests, one after another."""

    def __init__(self, client: socket.socket, handler: RestHandler, options: RestOptions, stopping) -> None:
        self.busy = False
        self._client, self._handler, self._options, self._stopping = client, handler, options, stopping
        self._http = h11.Connection(h11.SERVER)

    def close(self) -> None:
        """Closes the socket; a thread that reads from it wakes up."""
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)
        self._client.close()

    def refuse(self, message: str) -> None:
        """Answers 503 without having read, and closes."""
        with contextlib.suppress(OSError, h11.LocalProtocolError):
            self._client.settimeout(1.0)
            self._send(Answer(503, _JSON, error_json(message)), close=True)
        self.close()

    def serve(self) -> None:
        """Answers requests until either side closes."""
        while not self._stopping():
            request, answer = None, None
            try:
                request, body = self._receive()
                if request is None:
                    return
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers}
                answer = self._handler.answer(
                    request.method.decode("latin-1"), request.target.decode("latin-1"), headers, body
                )
            except BodyTooLarge as error:
                answer = Answer(413, (*_JSON, ("Connection", "close")), error_json(str(error)))
            except h11.RemoteProtocolError as error:
                answer = Answer(400, (*_JSON, ("Connection", "close")), error_json(f"Malformed request: {error}"))
            self._send(answer, close=self._stopping(), head=request is not None and request.method == b"HEAD")
            self.busy = False
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    def _receive(self) -> tuple[h11.Request | None, bytes]:
        request, parts, size = None, [], 0
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._client.sendall(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
                received = self._client.recv(_READ)
                self.busy = bool(received)
                self._http.receive_data(received)
            elif isinstance(event, h11.Request):
                request = event
                self._check_length(event)
            elif isinstance(event, h11.Data):
                size += len(event.data)
                if size > self._options.max_body_bytes:
                    raise BodyTooLarge(self._options.max_body_bytes)
                parts.append(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return request, b"".join(parts)
            else:
                return None, b""

    def _check_length(self, request: h11.Request) -> None:
        for name, value in request.headers:
            if name == b"content-length" and int(value) > self._options.max_body_bytes:
                raise BodyTooLarge(self._options.max_body_bytes)

    def _send(self, answer: Answer, close: bool, head: bool = False) -> None:
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
        if close:
            headers.append(("Connection", "close"))
        response = h11.Response(status_code=answer.status, headers=headers, reason=_reason(answer.status))
        parts = [self._http.send(response)]
        if not head:
            parts.append(self._http.send(h11.Data(data=answer.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._client.sendall(b"".join(part for part in parts if part))


def _reason(status: int) -> str:
    return responses.get(status, "Client Closed Request" if status == 499 else "")
