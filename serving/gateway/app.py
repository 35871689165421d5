"""The gateway's HTTP interface: a FastAPI application over a `Gateway`.

POST /v1/recommend   a user in, ranked items out
POST /v1/rank        the order of a caller's own candidates
POST /v1/behaviors   what users did a moment ago
GET  /healthz        the process answers
GET  /readyz         a release is open and the model server answers
GET  /metrics        for Prometheus
GET  /openapi.json   the interface for programs; /docs is its page, which needs no other site
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from serving.gateway.page.routes import page_router
from serving.gateway.schema import BehaviorsAnswer, BehaviorsRequest, RankRequest, Recommendation, RecommendRequest
from serving.gateway.web.bodies import BoundedBodies
from serving.gateway.web.error_answers import answer_errors, described, error_answer
from serving.gateway.web.json_body import JsonRoute

if TYPE_CHECKING:
    from serving.gateway.gateway import Gateway

_DESCRIPTION = """\
A user in, ranked items out: the cascade of a release (retrieval, coarse ranking, fine ranking) over a model server,
within a deadline. What an answer was made without stands in its `flags`. Every failure is an `error` with a code for
programs and a message for people.
"""
#: What the metrics call the requests of a path.
_KINDS = {"/v1/recommend": "recommend", "/v1/rank": "rank", "/v1/behaviors": "behaviors"}
_FAILURES = (400, 404, 408, 413, 415, 422, 429, 500, 503, 504)


def make_app(gateway: Gateway) -> FastAPI:
    """Returns the application of an open gateway, which the caller closes."""
    app: FastAPI = FastAPIOffline(
        title="Clickmill gateway",
        version="1",
        description=_DESCRIPTION,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url="/docs/oauth2-redirect",
        # Nothing of the page is asked of another site: no badge of a validator, no fonts.
        swagger_ui_parameters={"validatorUrl": None, "tryItOutEnabled": True},
    )
    config = gateway.config
    app.add_middleware(
        BoundedBodies,
        max_requests=config.max_concurrent + config.max_waiting,
        max_body_bytes=config.max_body_bytes,
        refused=lambda path: gateway.metrics.request(_KINDS.get(path, "other"), 429, time.perf_counter()),
    )
    answer_errors(app)
    app.include_router(_interface(gateway))
    app.include_router(_probes(gateway))
    app.include_router(page_router(gateway))
    return app


def _interface(gateway: Gateway) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=described(*_FAILURES), tags=["ranking"])

    @router.post("/recommend", summary="The best items of the catalogue for one user", response_model=Recommendation)
    async def recommend(request: RecommendRequest) -> Response:
        return _answer(await gateway.recommend(request))

    @router.post("/rank", summary="The order of a caller's own candidates", response_model=Recommendation)
    async def rank(request: RankRequest) -> Response:
        return _answer(await gateway.rank(request))

    @router.post("/behaviors", summary="What users did a moment ago", response_model=BehaviorsAnswer)
    async def append_behaviors(request: BehaviorsRequest) -> Response:
        return _answer(await gateway.append_behaviors(request))

    return router


def _probes(gateway: Gateway) -> APIRouter:
    router = APIRouter(tags=["operation"])

    @router.get("/healthz", summary="Whether the process answers", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "ok\n"

    @router.get(
        "/readyz",
        summary="Whether requests can be answered",
        response_class=PlainTextResponse,
        responses=described(503),
    )
    async def readyz() -> Response:
        missing = gateway.ready()
        if missing:
            return error_answer(503, "not ready: " + "; ".join(missing))
        return PlainTextResponse("ok\n")

    @router.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _answer(found: BaseModel) -> Response:
    """The answer as JSON; it was checked when it was made, and is not checked again."""
    return Response(found.model_dump_json(), media_type="application/json")
