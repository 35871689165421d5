"""Which requests are let in: so many at a time, with bodies of a bounded size that come within a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.web.error_answers import error_answer

#: Seconds within which a body must have come: a caller that does not send holds a place no longer.
BODY_TIMEOUT_S = 10.0
#: A body that is too large is read on and thrown away up to so many times the bound, so that its sender gets to read
#: the answer; then the connection is cut.
_THROWN_AWAY = 4


class BoundedBodies:
    """ASGI middleware that reads the body of a request before anything else does, or refuses the request.

    A request beyond `max_requests` is refused before its body is read, so that a refusal costs next to nothing and the
    bodies in memory are bounded. Requests without a body (GET) always come in: probes must be answered under load.

    Args:
      app: the application.
      max_requests: with a body, that are in progress at a time.
      max_body_bytes: of one body.
      refused: called with the path of each request that is one too many.
    """

    def __init__(self, app: ASGIApp, max_requests: int, max_body_bytes: int, refused: Callable[[str], None]):
        self._app, self._max_requests = app, max_requests
        self._max_body_bytes, self._refused = max_body_bytes, refused
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        if self._in_progress >= self._max_requests:
            self._refused(scope["path"])
            told = f"{self._max_requests} requests are in progress or wait already: try again later."
            await error_answer(429, told)(scope, receive, send)
            return
        self._in_progress += 1
        try:
            await self._admitted(scope, receive, send)
        finally:
            self._in_progress -= 1

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        try:
            body = await asyncio.wait_for(self._body(scope, receive), BODY_TIMEOUT_S)
        except asyncio.TimeoutError:
            refusal = _cut(408, f"the body did not come within {BODY_TIMEOUT_S:g} seconds.")
        except _TooLarge:
            refusal = _cut(413, f"the body has more than {self._max_body_bytes:,} bytes: send less in one request.")
        except _Gone:
            return
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        size, most = 0, _THROWN_AWAY * self._max_body_bytes
        if declared.isdigit() and int(declared) > most:
            raise _TooLarge
        parts = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            part = message.get("body", b"")
            size += len(part)
            if size <= self._max_body_bytes:
                parts.append(part)
            else:
                parts.clear()
            if size > most or (size > self._max_body_bytes and not message.get("more_body", False)):
                raise _TooLarge
            if not message.get("more_body", False):
                return b"".join(parts)


class _TooLarge(Exception):
    """The body has more bytes than are read."""


class _Gone(Exception):
    """The caller went away before the body was whole."""


def _cut(status: int, message: str) -> Response:
    # What is left of the body is not read: the connection cannot be used again.
    return error_answer(status, message, headers={"connection": "close"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that hands over the body once, and then tells of a caller that goes away."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay
