"""Bodies as JSON: declared so, in UTF-8, without what JSON does not have; an error says where a body is none."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException


class JsonRoute(APIRoute):
    """A route whose body is JSON.

    Anything but `Content-Type: application/json` is refused: a browser sends such a body to another site only after
    asking it, so that no web page can write behaviours to a gateway that its reader's machine reaches.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns FastAPI's handler, with a request whose body is read as above."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            _require_json(request)
            return await handler(_JsonRequest(request.scope, request.receive))

        return handle


class _JsonRequest(Request):
    async def json(self) -> Any:
        """Returns the parsed body. Raises `HTTPException` 400 that says where it is no JSON."""
        body = await self.body()
        try:
            return from_json(body, allow_inf_nan=False)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"the body is not valid JSON: {error}.") from error


def _require_json(request: Request) -> None:
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(
            415, f"send the body as JSON, with the header `Content-Type: application/json`. Received: {given[:100]!r}."
        )
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise HTTPException(415, f"send the body without `Content-Encoding`. Received: {encoding[:100]!r}.")
