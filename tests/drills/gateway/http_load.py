"""HTTP/1.1 as far as load takes it: connections that stay open, requests of JSON, answers of a declared length."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """How a request ended.

    Attributes:
      status: of HTTP.
      body: parsed.
      seconds: from the first byte out to the last one in.
      retry_after: whether a refusal says when to come again.
    """

    status: int
    body: Any
    seconds: float
    retry_after: bool


class Caller:
    """Sends requests over connections that it keeps, one request at a time on each.

    Args:
      port: of the gateway, on 127.0.0.1.
      limit_s: seconds after which a request hangs.
    """

    def __init__(self, port: int, limit_s: float = 30.0):
        self._port, self._limit_s = port, limit_s
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, body: Any) -> Answer:
        """Returns the answer to a request. Raises `TimeoutError` if there is none, `ConnectionError` if it breaks."""
        text = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text
        begun = time.perf_counter()
        return await asyncio.wait_for(self._send(request, begun), self._limit_s)

    async def _send(self, request: bytes, begun: float) -> Answer:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
            body = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, asyncio.CancelledError) as error:
            writer.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ConnectionError("the connection broke") from error
        seconds = time.perf_counter() - begun
        if "connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return Answer(int(head.split(" ", 2)[1]), json.loads(body), seconds, "\r\nretry-after: " in head)

    async def close(self) -> None:
        """Ends the connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
