"""The routes of the gateway's page.

    GET  /   the forms; with `user`, that user's list, which can be bookmarked and shared
    POST /   a pasted JSON request

Neither changes anything: a list that is looked at here is in no exposure log. The page holds its style and needs no
script: its policy forbids both, and everything else, from elsewhere. All that was typed, and all that comes from logs,
is escaped by the templates.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request, Response

from features.errors import ClickmillError
from serving.gateway.page.around import Around, features_of, look_around, typed_user
from serving.gateway.page.asked import PageError, Typed, request_of_text, request_of_user
from serving.gateway.page.rendering import Shown, page_html
from serving.gateway.page.side_by_side import side_by_side
from serving.gateway.page.view import AnswerView, answer_view
from serving.gateway.refusal import GatewayError
from serving.gateway.schema import RankRequest, RecommendRequest

if TYPE_CHECKING:
    from serving.gateway.gateway import Gateway

_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
#: Fields of a form that are read.
_MOST_FIELDS = 20


def page_router(gateway: Gateway) -> APIRouter:
    """Returns the routes of the page.

    Args:
      gateway: that answers the requests which the page shows.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def of_user(request: Request) -> Response:
        typed = Typed.of(dict(request.query_params))
        return await _page(gateway, request, typed, pasted=False)

    @router.post("/")
    async def of_text(request: Request) -> Response:
        try:
            body = (await request.body()).decode("utf-8", "replace")
            typed = Typed.of(dict(parse_qsl(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS)))
        except ValueError:
            typed = Typed()
        return await _page(gateway, request, typed, pasted=True)

    return router


async def _page(gateway: Gateway, request: Request, typed: Typed, pasted: bool) -> Response:
    around = await look_around(gateway)
    address = f"{request.url.scheme}://{request.url.netloc}"
    shown = Shown(typed, around, address, pasted)
    try:
        asked = await _asked(gateway, typed, pasted)
        if asked is not None:
            shown = await _answered(gateway, shown, asked)
    except PageError as error:
        shown = shown.failed(error)
    # A caller's text may hold what UTF-8 cannot.
    body = page_html(shown).encode("utf-8", "replace")
    return Response(body, shown.status, _HEADERS, media_type="text/html; charset=utf-8")


async def _asked(gateway: Gateway, typed: Typed, pasted: bool) -> RecommendRequest | None:
    """The request that was typed; None: nothing was."""
    if pasted:
        return request_of_text(typed.text)
    if not typed.user:
        return None
    return request_of_user(typed, await typed_user(gateway, typed.user))


async def _answered(gateway: Gateway, shown: Shown, request: RecommendRequest) -> Shown:
    """The page with the answer, and the other release's beside it; one after the other, so that neither waits."""
    # Both are asked at one moment of the user's history.
    timestamp = int(time.time() * 1000) if request.timestamp is None else request.timestamp
    asked = request.model_copy(update={"explain": True, "timestamp": timestamp})
    try:
        answer = await _answer(gateway, asked, shown.around)
    except GatewayError as error:
        raise PageError(_field_of(shown), str(error), error.status) from error
    shown = shown.with_answer(request, answer)
    if not shown.typed.beside:
        return shown
    try:
        other = await _answer(gateway, asked.model_copy(update={"release": shown.typed.beside}), shown.around)
    except GatewayError as error:
        return shown.failed(PageError("beside", str(error), error.status))
    return shown.with_beside(side_by_side(answer, other))


async def _answer(gateway: Gateway, request: RecommendRequest, around: Around) -> AnswerView:
    ask = gateway.rank if isinstance(request, RankRequest) else gateway.recommend
    try:
        answer = await ask(request, shown=False)
        async with gateway.hold(answer.release) as view:
            features = await asyncio.to_thread(features_of, view, answer)
            return answer_view(answer, view.release, around.labels_of(answer.release), features)
    except GatewayError:
        raise
    except ClickmillError as error:
        raise GatewayError(503, str(error)) from error


def _field_of(shown: Shown) -> str:
    """The field that an error of the answer is shown at."""
    if shown.pasted:
        return "request"
    return "release" if shown.typed.release else ""
